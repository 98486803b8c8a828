// SPDX-License-Identifier: MIT
/* Names and inodes, in memory. */
#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "null.h"

static struct timespec now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	return ts;
}

/* ---- Inodes -------------------------------------------------------------------------------- */

struct fs_inode *null_new_inode(struct fs *fs, mode_t mode, const struct fs_ctx *ctx)
{
	const uint64_t ino = atomic_fetch_add(&fs->next_ino, 1);
	struct fs_inode *ip = ino < NULL_INODES ? calloc(1, sizeof(*ip)) : NULL;

	if (!ip)
		return NULL;
	ip->fs = fs;
	ip->vfs.i_ino = ino;
	ip->vfs.i_blkbits = 12;
	ip->mode = mode;
	ip->nlink = S_ISDIR(mode) ? 2 : 1;
	ip->uid = ctx->uid;
	ip->gid = ctx->gid;
	ip->atime = ip->mtime = ip->ctime = ip->btime = now();
	__atomic_store_n(&fs->inodes[ino], ip, __ATOMIC_RELEASE);
	return ip;
}

void null_free_inodes(struct fs *fs)
{
	for (uint64_t ino = 0; ino < MIN(fs->next_ino, NULL_INODES); ino++) {
		struct fs_inode *ip = fs->inodes[ino];

		for (size_t i = 0; ip && i < ip->nr_slots; i++)
			free(ip->slots[i]);
		if (ip)
			free(ip->slots);
		free(ip);
	}
}

int fs_iget(struct fs *fs, uint64_t ino, unsigned flags, struct fs_inode **out)
{
	*out = ino < NULL_INODES ? __atomic_load_n(&fs->inodes[ino], __ATOMIC_ACQUIRE) : NULL;
	return *out ? 0 : -ESTALE;
}

void fs_iref(struct fs_inode *ip)
{
}

void fs_iput(struct fs_inode *ip)
{
}

uint64_t fs_ino(const struct fs_inode *ip)
{
	return ip->vfs.i_ino;
}

uint32_t fs_gen(const struct fs_inode *ip)
{
	return 1;
}

bool fs_is_nameless(struct fs_inode *ip)
{
	return ip->nlink == 0;
}

struct fs *fs_of(const struct fs_inode *ip)
{
	return ip->fs;
}

struct inode *fs_vfs_inode(struct fs_inode *ip)
{
	return &ip->vfs;
}

mode_t fs_mode(const struct fs_inode *ip)
{
	return ip->mode;
}

int fs_getattr(struct fs_ctx *ctx, struct fs_inode *ip, struct fs_attr *out)
{
	*out = (struct fs_attr){
		.ino = ip->vfs.i_ino,
		.size = i_size_read(&ip->vfs),
		.blocks = (i_size_read(&ip->vfs) + 511) / 512,
		.mode = ip->mode,
		.nlink = ip->nlink,
		.uid = ip->uid,
		.gid = ip->gid,
		.rdev_major = ip->rdev_major,
		.rdev_minor = ip->rdev_minor,
		.blksize = 4096,
		.gen = 1,
		.atime = ip->atime,
		.mtime = ip->mtime,
		.ctime = ip->ctime,
		.btime = ip->btime,
	};
	return 0;
}

int fs_setattr(struct fs_ctx *ctx, struct fs_inode *ip, unsigned set, const struct fs_attr *in,
	       struct fs_attr *out)
{
	pthread_rwlock_wrlock(&ip->fs->lock);
	if (set & FS_SET_MODE)
		ip->mode = (ip->mode & S_IFMT) | (in->mode & 07777);
	if (set & FS_SET_UID)
		ip->uid = in->uid;
	if (set & FS_SET_GID)
		ip->gid = in->gid;
	if (set & FS_SET_SIZE)
		i_size_write(&ip->vfs, in->size);
	if (set & (FS_SET_ATIME | FS_SET_ATIME_NOW))
		ip->atime = set & FS_SET_ATIME_NOW ? now() : in->atime;
	if (set & (FS_SET_MTIME | FS_SET_MTIME_NOW))
		ip->mtime = set & FS_SET_MTIME_NOW ? now() : in->mtime;
	ip->ctime = now();
	pthread_rwlock_unlock(&ip->fs->lock);
	return out ? fs_getattr(ctx, ip, out) : 0;
}

/* ---- The table of names ---------------------------------------------------------------------- */

static struct null_name **bucket(struct fs_inode *dir, const char *name, size_t len)
{
	uint64_t h = dir->vfs.i_ino * 0x9e3779b97f4a7c15ULL;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 1099511628211ULL;
	return &dir->fs->buckets[(h ^ h >> 32) % NULL_BUCKETS];
}

/* Where the pointer to the name is, or the NULL at the end of its chain. Lock held. */
static struct null_name **find(struct fs_inode *dir, const char *name, size_t len)
{
	struct null_name **at = bucket(dir, name, len);

	while (*at && ((*at)->dir != dir || (*at)->len != len || memcmp((*at)->text, name, len) != 0))
		at = &(*at)->chain;
	return at;
}

/* Lock held exclusive; the name is not there. */
static int insert(struct fs_inode *dir, const char *name, size_t len, struct fs_inode *ip)
{
	struct null_name *e = malloc(sizeof(*e) + len);
	struct null_name **at = bucket(dir, name, len);

	if (e && dir->nr_slots == dir->max_slots) {
		const size_t max = MAX(16, dir->max_slots * 2);
		struct null_name **slots = reallocarray(dir->slots, max, sizeof(*slots));

		if (slots) {
			dir->slots = slots;
			dir->max_slots = max;
		}
	}
	if (!e || dir->nr_slots == dir->max_slots) {
		free(e);
		return -ENOMEM;
	}
	*e = (struct null_name){.chain = *at, .dir = dir, .ip = ip, .slot = dir->nr_slots, .len = len};
	memcpy(e->text, name, len);
	*at = e;
	dir->slots[dir->nr_slots++] = e;
	dir->mtime = dir->ctime = now();
	if (S_ISDIR(ip->mode)) {
		ip->parent = dir;
		dir->nlink++;
	}
	return 0;
}

/* Lock held exclusive. */
static void take_out(struct null_name **at)
{
	struct null_name *e = *at;

	*at = e->chain;
	e->dir->slots[e->slot] = NULL;
	e->dir->mtime = e->dir->ctime = now();
	if (S_ISDIR(e->ip->mode))
		e->dir->nlink--;
	free(e);
}

/* Lock held exclusive: a name of ip is gone for good. */
static void unlinked(struct fs_ctx *ctx, struct fs_inode *ip)
{
	ip->nlink = S_ISDIR(ip->mode) ? 0 : ip->nlink - 1;
	if (ip->nlink == 0 && ctx->gone)
		*ctx->gone = ip;
}

static bool is_empty(const struct fs_inode *dir)
{
	for (size_t i = 0; i < dir->nr_slots; i++)
		if (dir->slots[i])
			return false;
	return true;
}

/* ---- Operations on names ------------------------------------------------------------------------ */

int fs_lookup(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len,
	      struct fs_inode **out)
{
	struct null_name *e;

	pthread_rwlock_rdlock(&dir->fs->lock);
	e = *find(dir, name, len);
	*out = e ? e->ip : NULL;
	pthread_rwlock_unlock(&dir->fs->lock);
	return *out ? 0 : -ENOENT;
}

static int make(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, mode_t mode,
		struct fs_inode **out)
{
	struct fs *fs = dir->fs;
	struct fs_inode *ip;
	int ret;

	pthread_rwlock_wrlock(&fs->lock);
	if (*find(dir, name, len)) {
		ret = -EEXIST;
	} else {
		ip = null_new_inode(fs, mode & ~(mode_t)ctx->umask, ctx);
		ret = ip ? insert(dir, name, len, ip) : -ENOSPC;
		if (ret == 0)
			*out = ip;
	}
	pthread_rwlock_unlock(&fs->lock);
	return ret;
}

int fs_mknod(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, mode_t mode,
	     uint32_t rdev_major, uint32_t rdev_minor, struct fs_inode **out)
{
	const int ret = make(ctx, dir, name, len, mode, out);

	if (ret == 0) {
		(*out)->rdev_major = rdev_major;
		(*out)->rdev_minor = rdev_minor;
	}
	return ret;
}

int fs_mkdir(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, mode_t mode,
	     struct fs_inode **out)
{
	return make(ctx, dir, name, len, (mode & 07777) | S_IFDIR, out);
}

int fs_link(struct fs_ctx *ctx, struct fs_inode *ip, struct fs_inode *dir, const char *name, size_t len)
{
	int ret;

	pthread_rwlock_wrlock(&dir->fs->lock);
	ret = *find(dir, name, len) ? -EEXIST : insert(dir, name, len, ip);
	if (ret == 0)
		ip->nlink++;
	pthread_rwlock_unlock(&dir->fs->lock);
	return ret;
}

static int remove_name(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, bool is_dir)
{
	struct null_name **at;
	struct fs_inode *ip;
	int ret = 0;

	pthread_rwlock_wrlock(&dir->fs->lock);
	at = find(dir, name, len);
	ip = *at ? (*at)->ip : NULL;
	if (!ip)
		ret = -ENOENT;
	else if (is_dir != S_ISDIR(ip->mode))
		ret = is_dir ? -ENOTDIR : -EISDIR;
	else if (is_dir && !is_empty(ip))
		ret = -ENOTEMPTY;
	if (ret == 0) {
		take_out(at);
		unlinked(ctx, ip);
	}
	pthread_rwlock_unlock(&dir->fs->lock);
	return ret;
}

int fs_unlink(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len)
{
	return remove_name(ctx, dir, name, len, false);
}

int fs_rmdir(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len)
{
	return remove_name(ctx, dir, name, len, true);
}

int fs_rename(struct fs_ctx *ctx, struct fs_inode *odir, const char *oname, size_t olen,
	      struct fs_inode *ndir, const char *nname, size_t nlen, unsigned flags)
{
	struct null_name **from, **to;
	struct fs_inode *ip;
	int ret = 0;

	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	pthread_rwlock_wrlock(&odir->fs->lock);
	from = find(odir, oname, olen);
	to = find(ndir, nname, nlen);
	if (!*from)
		ret = -ENOENT;
	else if (*to && (flags & RENAME_NOREPLACE))
		ret = -EEXIST;
	else if (*to && S_ISDIR((*to)->ip->mode) && !is_empty((*to)->ip))
		ret = -ENOTEMPTY;
	if (ret == 0 && (!*to || (*to)->ip != (*from)->ip)) {
		ip = (*from)->ip;
		if (*to) {
			struct fs_inode *old = (*to)->ip;

			take_out(to);
			unlinked(ctx, old);
		}
		/* Both may have been in one chain. */
		take_out(find(odir, oname, olen));
		ret = insert(ndir, nname, nlen, ip);
	}
	pthread_rwlock_unlock(&odir->fs->lock);
	return ret;
}

int fs_readdir(struct fs_ctx *ctx, struct fs_inode *dir, uint64_t cookie, fs_filldir_fn fn, void *arg)
{
	const uint64_t parent = dir->parent ? dir->parent->vfs.i_ino : dir->vfs.i_ino;
	int stop = 0;

	if (cookie < 1)
		stop = fn(arg, ".", 1, dir->vfs.i_ino, DT_DIR, 1);
	if (!stop && cookie < 2)
		stop = fn(arg, "..", 2, parent, DT_DIR, 2);
	pthread_rwlock_rdlock(&dir->fs->lock);
	for (size_t i = cookie < 2 ? 0 : cookie - 2; !stop && i < dir->nr_slots; i++) {
		const struct null_name *e = dir->slots[i];

		if (e)
			stop = fn(arg, e->text, e->len, e->ip->vfs.i_ino, IFTODT(e->ip->mode), i + 3);
	}
	pthread_rwlock_unlock(&dir->fs->lock);
	return 0;
}

uint64_t fs_parent_ino(struct fs_inode *dir)
{
	return dir->parent ? dir->parent->vfs.i_ino : dir->vfs.i_ino;
}

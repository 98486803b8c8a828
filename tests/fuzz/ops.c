/* SPDX-License-Identifier: MIT */
/* Operations over a mounted, damaged file system: none may crash, hang or leak. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_KNOWN 96u
#define MAX_NAMES 64u
#define BUF_SIZE  (68u << 10)

/* What the walk found: the targets of operations. */
struct known {
	struct fs_inode *ip;
	struct fs_inode *dir; /* where its name is; borrowed from an earlier entry */
	size_t name_len;
	char name[256];
};
struct world {
	struct fs *fs;
	struct fs_ctx ctx;
	struct known known[MAX_KNOWN];
	unsigned nr;
	char *buf;
};

struct names {
	unsigned nr;
	size_t len[MAX_NAMES];
	char name[MAX_NAMES][256];
	uint64_t last;
};

static int take_name(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		     uint64_t cookie)
{
	struct names *n = arg;

	/* The contract of readdir: what we trust it for. */
	assert(len >= 1 && len <= 255 && !memchr(name, '/', len) && !memchr(name, '\0', len));
	assert(cookie > n->last);
	n->last = cookie;
	if (n->nr == MAX_NAMES)
		return 1;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return 0;
	memcpy(n->name[n->nr], name, len);
	n->len[n->nr++] = len;
	return 0;
}

static void list_dir(struct world *w, struct fs_inode *dir)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		abort();
	fs_readdir(&w->ctx, dir, 0, take_name, n);
	for (unsigned i = 0; i < n->nr && w->nr < MAX_KNOWN; i++) {
		struct known *k = &w->known[w->nr];

		if (fs_lookup(&w->ctx, dir, n->name[i], n->len[i], &k->ip) != 0)
			continue;
		k->dir = dir;
		k->name_len = n->len[i];
		memcpy(k->name, n->name[i], n->len[i]);
		w->nr++;
	}
	free(n);
}

static void read_attrs(struct world *w, struct fs_inode *ip)
{
	char *list = w->buf + (BUF_SIZE / 2);
	int64_t n = fs_listxattr(&w->ctx, ip, list, 4096);

	assert(n <= 4096);
	for (int64_t at = 0; at < n; at += (int64_t)strlen(list + at) + 1)
		fs_getxattr(&w->ctx, ip, list + at, w->buf, BUF_SIZE / 2);
	fs_getxattr(&w->ctx, ip, "system.posix_acl_access", w->buf, BUF_SIZE / 2);
}

static void read_at(struct world *w, struct fs_inode *ip, uint64_t pos, size_t len)
{
	struct iovec iov = { w->buf, len };
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos };
	struct iov_iter to;

	iov_iter_init(&to, &iov, 1, len);
	fs_read_iter(&w->ctx, &iocb, &to);
}

static void look_at(struct world *w, struct fs_inode *ip)
{
	struct fiemap_extent ext[8];
	struct fiemap_extent_info fi = { .fi_extents_max = 8, .fi_extents_start = ext };
	struct fs_attr a;
	int64_t off = 0;

	if (fs_getattr(&w->ctx, ip, &a) != 0)
		return;
	read_attrs(w, ip);
	if (S_ISLNK(a.mode))
		fs_readlink(&w->ctx, ip, w->buf, 4096);
	if (!S_ISREG(a.mode))
		return;
	read_at(w, ip, 0, 65536);
	if (a.size > 65536)
		read_at(w, ip, a.size - 5000, 8192);
	fs_fiemap(&w->ctx, ip, &fi, 0, UINT64_MAX);
	for (int i = 0; i < 8 && off >= 0; i++)
		off = fs_lseek(&w->ctx, ip, off, i % 2 ? SEEK_HOLE : SEEK_DATA);
}

static void world_begin(struct world *w, struct fs *fs)
{
	*w = (struct world){ .fs = fs, .ctx = { .umask = 022 }, .buf = malloc(BUF_SIZE) };
	if (!w->buf)
		abort();
	if (fs_iget(fs, FS_ROOT_INO, 0, &w->known[0].ip) != 0)
		return;
	w->nr = 1;
	for (unsigned i = 0; i < w->nr; i++)
		if (S_ISDIR(fs_mode(w->known[i].ip)))
			list_dir(w, w->known[i].ip);
}

static void world_end(struct world *w)
{
	for (unsigned i = 0; i < w->nr; i++)
		fs_iput(w->known[i].ip);
	free(w->buf);
}

void fuzz_ops_walk(struct fs *fs)
{
	struct world *w = malloc(sizeof(*w));
	struct statvfs st;

	if (!w)
		abort();
	world_begin(w, fs);
	for (unsigned i = 0; i < w->nr; i++)
		look_at(w, w->known[i].ip);
	fs_statfs(fs, &st);
	world_end(w);
	free(w);
}

/* ---- Changes --------------------------------------------------------------------------------- */

static void write_at(struct world *w, struct fs_inode *ip, uint64_t pos, size_t len, bool append)
{
	struct iovec iov = { w->buf, len };
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos, .ki_flags = IOCB_WRITE };
	struct iov_iter from;

	memset(w->buf, 'w', len);
	iov_iter_init(&from, &iov, 1, len);
	fs_write_iter(&w->ctx, &iocb, &from, append);
}

static void set_size(struct world *w, struct fs_inode *ip, uint64_t size)
{
	struct fs_attr in = { .size = size }, out;

	fs_setattr(&w->ctx, ip, FS_SET_SIZE, &in, &out);
}

static void set_mode(struct world *w, struct fs_inode *ip, unsigned mode)
{
	struct fs_attr in = { .mode = mode & 07777, .uid = mode, .gid = mode }, out;

	fs_setattr(&w->ctx, ip, FS_SET_MODE | FS_SET_UID | FS_SET_GID, &in, &out);
}

static void sync_one(struct world *w, struct fs_inode *ip)
{
	struct fs_file *f;

	if (S_ISDIR(fs_mode(ip))) {
		fs_fsync_dir(&w->ctx, ip, false);
	} else if (fs_open(&w->ctx, ip, O_RDWR, &f) == 0) {
		fs_fsync(&w->ctx, f, false);
		fs_release(f);
	}
}

static void make_one(struct world *w, struct fs_inode *dir, unsigned what, unsigned id)
{
	struct fs_inode *ip = NULL;
	char name[200];
	size_t len = what & 0x80 ? sizeof(name) : 1;

	memset(name, 'A' + (int)(id % 50), sizeof(name));
	switch (what & 3) {
	case 0:
		fs_mknod(&w->ctx, dir, name, len, S_IFREG | 0644, 0, 0, &ip);
		break;
	case 1:
		fs_mkdir(&w->ctx, dir, name, len, 0755, &ip);
		break;
	case 2:
		fs_symlink(&w->ctx, dir, name, len, what & 0x40 ? "target" : "t", &ip);
		break;
	default:
		fs_tmpfile(&w->ctx, dir, S_IFREG | 0600, &ip);
	}
	if (ip)
		fs_iput(ip);
}

/* The names of the root come and go through the entries that the walk remembered. */
static void change_name(struct world *w, unsigned op, struct known *k, struct known *other)
{
	struct fs_inode *to = S_ISDIR(fs_mode(other->ip)) ? other->ip : other->dir;

	if (!k->dir)
		return;
	switch (op & 7) {
	case 0:
		fs_rmdir(&w->ctx, k->dir, k->name, k->name_len);
		break;
	case 1:
		if (to)
			fs_link(&w->ctx, k->ip, to, "linked", 6);
		break;
	case 2:
		if (to)
			fs_rename(&w->ctx, k->dir, k->name, k->name_len, to, "moved", 5, 0);
		break;
	case 3:
		if (other->dir)
			fs_rename(&w->ctx, k->dir, k->name, k->name_len, other->dir, other->name,
				  other->name_len, op >> 6);
		break;
	default:
		fs_unlink(&w->ctx, k->dir, k->name, k->name_len);
	}
}

static void change_attr(struct world *w, struct fs_inode *ip, unsigned op, size_t len)
{
	char name[] = "user.a";

	name[5] = (char)('a' + (op >> 2) % 16);
	memset(w->buf, 'x', len);
	if ((op & 3) == 0)
		fs_removexattr(&w->ctx, ip, op & 0x80 ? "user.blob" : name);
	else
		fs_setxattr(&w->ctx, ip, op & 0x80 ? "user.blob" : name, w->buf, len, 0);
}

static void run_one(struct world *w, struct fuzz_in *in)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE };
	const unsigned op = in_u8(in);
	struct known *k = &w->known[in_u8(in) % w->nr];
	uint64_t trimmed;
	const uint64_t pos = op % 12 < 5 ? in_number(in) : 0;

	switch (op % 12) {
	case 0:
		write_at(w, k->ip, pos, in_u16(in), op & 0x80);
		break;
	case 1:
		set_size(w, k->ip, pos);
		break;
	case 2:
		fs_fallocate(&w->ctx, k->ip, modes[op >> 6], pos, in_number(in) % (8 << 20));
		break;
	case 3:
		read_at(w, k->ip, pos, in_u16(in));
		break;
	case 4:
		fs_copy_file_range(&w->ctx, k->ip, pos, w->known[in_u8(in) % w->nr].ip, 0,
				   in_number(in) % (2 << 20));
		break;
	case 5:
		make_one(w, S_ISDIR(fs_mode(k->ip)) ? k->ip : w->known[0].ip, in_u8(in), in_u8(in));
		break;
	case 6:
	case 7:
		change_name(w, in_u8(in), k, &w->known[in_u8(in) % w->nr]);
		break;
	case 8:
		change_attr(w, k->ip, in_u8(in), in_u16(in));
		break;
	case 9:
		set_mode(w, k->ip, in_u16(in));
		break;
	case 10:
		sync_one(w, k->ip);
		break;
	default:
		if (op & 0x80)
			fs_trim(w->fs, 0, UINT64_MAX, 0, &trimmed);
		else if (op & 0x40)
			fs_drop_caches(w->fs);
		else
			fs_sync(w->fs);
	}
}

void fuzz_ops_run(struct fs *fs, struct fuzz_in *in)
{
	struct world *w = malloc(sizeof(*w));

	if (!w)
		abort();
	world_begin(w, fs);
	for (int i = 0; i < 64 && w->nr && in_left(in); i++)
		run_one(w, in);
	world_end(w);
	free(w);
}

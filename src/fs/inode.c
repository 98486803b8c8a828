/* SPDX-License-Identifier: MIT */
/* Inodes between memory and their blocks, and what a reference tells without more. */
#include "icache.h"

static struct timespec time_decode(const struct od_time *t)
{
	return (struct timespec){ .tv_sec = (time_t)(int64_t)le64_get(t->sec),
				  .tv_nsec = (long)le32_get(t->nsec) };
}

static struct od_time time_encode(struct timespec ts)
{
	assert(ts.tv_nsec >= 0 && ts.tv_nsec < 1000000000);
	return (struct od_time){ .sec = le64_make((uint64_t)ts.tv_sec),
				 .nsec = le32_make((uint32_t)ts.tv_nsec) };
}

void fs_inode_decode(struct fs_inode *ip, const struct od_inode *di)
{
	ip->mode = le16_get(di->mode);
	ip->nlink = le32_get(di->nlink);
	ip->uid = le32_get(di->uid);
	ip->gid = le32_get(di->gid);
	ip->gen = le32_get(di->gen);
	ip->flags = le32_get(di->flags);
	ip->projid = le32_get(di->projid);
	ip->rdev_major = le32_get(di->rdev_major);
	ip->rdev_minor = le32_get(di->rdev_minor);
	ip->atime = time_decode(&di->atime);
	ip->mtime = time_decode(&di->mtime);
	ip->ctime = time_decode(&di->ctime);
	ip->btime = time_decode(&di->btime);
	ip->version = le64_get(di->version);
	ip->parent = le64_get(di->parent);
	ip->disk_size = le64_get(di->size);
	ip->nr_blocks = le64_get(di->nr_blocks);
	ip->nr_extents = le64_get(di->nr_extents);
	ip->data_fmt = di->data_fmt;
	ip->attr_fmt = di->attr_fmt;
	ip->data_flags = le16_get(di->data_flags);
	ip->data_len = le16_get(di->data_len);
	ip->attr_len = le16_get(di->attr_len);
	ip->shift = (struct fs_shift){ .op = le32_get(di->shift_op),
				       .at = le64_get(di->shift_at),
				       .len = le64_get(di->shift_len),
				       .next = le64_get(di->shift_next) };
	memcpy(ip->area, di->area, sizeof(ip->area));
	if (ip->data_fmt == OD_DATA_TREE) {
		struct od_root r;

		memcpy(&r, ip->area, sizeof(r));
		ip->ext_root.mblk = le64_get(r.mblk);
		ip->ext_root.level = le16_get(r.level);
	}
	/* Nothing stored at all: then no security.capability either. */
	atomic_store(&ip->xattr_none, ip->attr_fmt == OD_ATTR_NONE);
}

void fs_inode_encode(const struct fs_inode *ip, struct od_inode *di)
{
	memset(di, 0, sizeof(*di));
	di->magic = le16_make(OD_INODE_MAGIC);
	di->mode = le16_make((uint16_t)ip->mode);
	di->nlink = le32_make(ip->nlink);
	di->uid = le32_make(ip->uid);
	di->gid = le32_make(ip->gid);
	di->gen = le32_make(ip->gen);
	di->flags = le32_make(ip->flags);
	di->ino = le64_make(ip->ino);
	di->size = le64_make(ip->disk_size);
	di->nr_blocks = le64_make(ip->nr_blocks);
	di->nr_extents = le64_make(ip->nr_extents);
	di->atime = time_encode(ip->atime);
	di->mtime = time_encode(ip->mtime);
	di->ctime = time_encode(ip->ctime);
	di->btime = time_encode(ip->btime);
	di->version = le64_make(ip->version);
	di->parent = le64_make(ip->parent);
	di->rdev_major = le32_make(ip->rdev_major);
	di->rdev_minor = le32_make(ip->rdev_minor);
	di->projid = le32_make(ip->projid);
	di->data_fmt = ip->data_fmt;
	di->attr_fmt = ip->attr_fmt;
	di->data_flags = le16_make(ip->data_flags);
	di->data_len = le16_make(ip->data_len);
	di->attr_len = le16_make(ip->attr_len);
	di->shift_op = le32_make(ip->shift.op);
	di->shift_at = le64_make(ip->shift.at);
	di->shift_len = le64_make(ip->shift.len);
	di->shift_next = le64_make(ip->shift.next);
	memcpy(di->area, ip->area, sizeof(di->area));
	if (ip->data_fmt == OD_DATA_TREE) {
		struct od_root r = { .mblk = le64_make(ip->ext_root.mblk),
				     .level = le16_make((uint16_t)ip->ext_root.level) };

		memcpy(di->area, &r, sizeof(r));
	}
}

int fs_ilog_prepare(struct fs_inode *ip, unsigned flags)
{
	struct buf *b;
	int err = buf_read(ip->fs->bc, od_ino_mblk(ip->ino), 0, &buf_ops_inodes,
			   flags & FS_NOWAIT ? BUF_NOWAIT : 0, &b);

	if (!err)
		buf_put(b);
	return err;
}

void fs_ilog(struct jnl_handle *h, struct fs_inode *ip, bool datasync)
{
	struct fs *fs = ip->fs;
	struct buf *b;
	int err;

	lk_assert_held(&ip->extlock);
	assert(ip->mode != 0 && ip->data_len + ip->attr_len <= (int)OD_INODE_AREA);
	/* Almost always cached since fs_ilog_prepare; a read is the rare price of no pin. */
	err = buf_read(fs->bc, od_ino_mblk(ip->ino), 0, &buf_ops_inodes, 0, &b);
	if (err) {
		jnl_abort(fs->jnl, err, "reading an inode block to change it");
		return;
	}
	/* Before the copy: what changes after it must find the inode clean and mark it again. */
	icache_clean(ip);
	buf_lock(b);
	jnl_get_write(h, b);
	if (TEST_BREAK("size-before-data") && S_ISREG(ip->mode))
		ip->disk_size = i_size_read(&ip->vfs);
	fs_inode_encode(ip, fs_dinode(b, ip->ino));
	buf_unlock(b);
	buf_put(b);
	ip->last_tid = jnl_handle_tid(h);
	if (datasync)
		ip->data_tid = ip->last_tid;
}

int fs_inode_flush(struct fs_inode *ip)
{
	struct jnl_handle *h;
	int err;

	if (!(atomic_load(&ip->state) & FS_I_DIRTY))
		return 0;
	err = fs_ilog_prepare(ip, 0);
	if (!err)
		err = jnl_start(ip->fs->jnl, 1, 0, &h);
	if (err)
		return err;
	lk_lock(&ip->extlock);
	if (atomic_load(&ip->state) & FS_I_DIRTY)
		fs_ilog(h, ip, false);
	lk_unlock(&ip->extlock);
	jnl_stop(h);
	return 0;
}

int fs_iget(struct fs *fs, uint64_t ino, unsigned flags, struct fs_inode **out)
{
	if (ino == FS_ROOT_INO)
		ino = fs->sb.root_ino;
	return icache_get(fs, ino, flags, false, out);
}

uint64_t fs_ino(const struct fs_inode *ip)
{
	return ip->ino;
}

uint32_t fs_gen(const struct fs_inode *ip)
{
	return ip->gen;
}

bool fs_is_nameless(struct fs_inode *ip)
{
	return atomic_load(&ip->state) & FS_I_ORPHAN;
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

/* ---- Last rites ------------------------------------------------------------------------- */

static int free_contents(struct fs_inode *ip)
{
	int err = 0;

	/* Pages first: what is under writeback must not land in blocks that are free again. */
	lk_wrlock(&ip->vfs.i_mapping.invalidate_lock);
	truncate_inode_pages_range(&ip->vfs.i_mapping, 0, UINT64_MAX);
	lk_rw_unlock(&ip->vfs.i_mapping.invalidate_lock);
	if (S_ISREG(ip->mode))
		err = extent_truncate(ip, 0);
	else if (S_ISDIR(ip->mode))
		err = dir_free_all(ip);
	else if (S_ISLNK(ip->mode))
		err = symlink_free(ip);
	return err ? err : xattr_free_all(ip);
}

static int free_inode(struct fs_inode *ip)
{
	struct fs *fs = ip->fs;
	struct jnl_handle *h;
	int err = orphan_prepare(ip, 0);

	if (!err)
		err = fs_ilog_prepare(ip, 0);
	if (!err)
		err = jnl_start(fs->jnl, ialloc_credits(fs) + orphan_credits(fs), 0, &h);
	if (err)
		return err;
	/*
	 * Off the list first. The number may be given out as soon as it is free, also to
	 * somebody who joins this very transaction, and unlinked again at once:
	 *
	 *	here                         another thread
	 *	ialloc_free
	 *	                             create: the same number
	 *	                             unlink: orphan_add finds it listed
	 *	orphan_del
	 */
	lk_lock(&ip->extlock);
	err = orphan_del(h, ip);
	HOOK("fs:free_inode", ip);
	if (!err) {
		err = ialloc_free(fs, h, ip);
		/* Neither listed nor free: nothing would ever find it again. */
		if (err)
			jnl_abort(fs->jnl, err, "freeing an inode");
	}
	lk_unlock(&ip->extlock);
	jnl_stop(h);
	return err;
}

void fs_inactivate(struct fs_inode *ip)
{
	int err;

	assert(atomic_load(&ip->state) & FS_I_FREEING && ip->nlink == 0);
	err = free_contents(ip);
	if (!err)
		err = free_inode(ip);
	/* It stays on the orphan list: the next mount tries again. */
	if (err && !fs_is_shutdown(ip->fs))
		log_warn("inode %llu can not be freed now: %s", (unsigned long long)ip->ino,
			 strerror(-err));
	icache_drop(ip);
}

/* SPDX-License-Identifier: MIT */
/* fallocate: allocate, punch, zero, unshare. Whole blocks in the extent map, edges through the cache. */
#include <linux/falloc.h>

#include "dax.h"

/* Zeros in [pos, end) of what lies inside the file; whole blocks become holes. */
static int punch(struct fs_inode *ip, uint64_t pos, uint64_t end)
{
	const uint64_t bs = ip->fs->block_size, size = i_size_read(&ip->vfs);
	const uint64_t a = ROUND_UP(pos, bs), b = ROUND_DOWN(end, bs);
	int err;

	assert(pos < end);
	if (a >= b && a > pos && b < pos)
		return fs_zero_bytes(ip, pos, MIN(end, size), NULL);
	/* Data that was to raise the size on disk must not be dropped before it did. */
	if (end > disk_size_read(ip) && size > disk_size_read(ip)) {
		err = filemap_write_and_wait_range(&ip->vfs.i_mapping, disk_size_read(ip),
						   size - 1);
		if (err)
			return err;
	}
	if (a < b) {
		/* First, so that no dirty block of these extents is left when they go. */
		err = fs_drop_cache(ip, a, b);
		if (err)
			return err;
	}
	err = fs_zero_bytes(ip, pos, MIN(a, size), NULL);
	if (!err)
		err = fs_zero_bytes(ip, b, MIN(end, size), NULL);
	if (!err && a < b)
		err = ext_punch_range(ip, fblk_of(ip->fs, a), fblk_of(ip->fs, b));
	return err;
}

/*
 * Blocks of [pos, end) that others share become copies of this file's own, on the device on return. A file
 * that was unshared as a whole need not ask for each block any more.
 */
static int unshare_blocks(struct fs_inode *ip, uint64_t pos, uint64_t end)
{
	const uint64_t bs = ip->fs->block_size;
	const bool whole = pos == 0 && end >= i_size_read(&ip->vfs);
	int err;

	if (!fs_may_share(ip))
		return 0;
	pos = ROUND_DOWN(pos, bs);
	end = ROUND_UP(end, bs);
	if (fs_is_dax(ip))
		err = fs_dax_unshare(ip, pos, end - pos);
	else
		err = iomap_file_unshare(&ip->vfs, pos, end - pos, &fs_write_iomap_ops, &fs_iomap_write_ops);
	if (!err)
		err = filemap_write_and_wait_range(&ip->vfs.i_mapping, pos, end - 1);
	return !err && whole ? cow_try_unflag(ip) : err;
}

static int allocate(struct fs_inode *ip, uint64_t pos, uint64_t end, bool keep_size)
{
	int err;

	err = ext_alloc_range(ip, fblk_of(ip->fs, pos), fblk_up(ip->fs, end), 0);
	if (err)
		return err;
	if (end <= i_size_read(&ip->vfs))
		return 0;
	if (!keep_size)
		return fs_extend_size(ip, end);
	lk_lock(&ip->extlock);
	ip->delalloc->keep_eof = true;
	lk_unlock(&ip->extlock);
	return 0;
}

static int fallocate_locked(struct fs_ctx *ctx, struct fs_inode *ip, int mode, uint64_t pos,
			    uint64_t end)
{
	struct lk_rwlock *maplock = &ip->vfs.i_mapping.invalidate_lock;
	int err;

	err = fs_file_may_change(ip, (mode & ~FALLOC_FL_KEEP_SIZE) == 0);
	if (err)
		return err;
	inode_dio_wait(&ip->vfs);
	err = fs_kill_priv(ctx, ip, false);
	if (!err)
		err = fs_file_touch(ip, 0);
	if (err)
		return err;
	err = fs_inline_leave(ip);
	if (err)
		return err;
	lk_wrlock(maplock);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		err = punch(ip, pos, end);
	if (mode & FALLOC_FL_UNSHARE_RANGE)
		err = unshare_blocks(ip, pos, end);
	if (!err && !(mode & FALLOC_FL_PUNCH_HOLE))
		err = allocate(ip, pos, end, mode & FALLOC_FL_KEEP_SIZE);
	lk_rw_unlock(maplock);
	return err;
}

int fs_fallocate(struct fs_ctx *ctx, struct fs_inode *ip, int mode, uint64_t offset, uint64_t len)
{
	int err;

	if (ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (len == 0)
		return -EINVAL;
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_UNSHARE_RANGE:
	case FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_COLLAPSE_RANGE:
	case FALLOC_FL_INSERT_RANGE:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (offset > OD_FILE_SIZE_MAX || len > OD_FILE_SIZE_MAX - offset)
		return -EFBIG;
	err = fs_start_change(ip->fs, ctx->flags);
	if (err)
		return err;
	if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) {
		err = fs_falloc_shift(ctx, ip, mode, offset, len);
	} else {
		lk_wrlock(&ip->vfs.i_rwsem);
		err = fallocate_locked(ctx, ip, mode, offset, offset + len);
		lk_rw_unlock(&ip->vfs.i_rwsem);
	}
	fs_end_change(ip->fs);
	return err;
}

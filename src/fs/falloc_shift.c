/* SPDX-License-Identifier: MIT */
/*
 * fallocate: take a range out of a file, or put a hole in. Only whole blocks can go or come,
 * since nothing is copied: what is behind keeps its blocks and gets new positions. The cache is
 * by position, so all of it from the range on goes first, and stays out (invalidate_lock)
 * until every extent is where it belongs.
 */
#include <linux/falloc.h>

#include "dax.h"

static int range_ok(struct fs_inode *ip, int mode, uint64_t offset, uint64_t len)
{
	const uint64_t size = i_size_read(&ip->vfs), bs = ip->fs->block_size;

	if (offset % bs || len % bs)
		return -EINVAL;
	/* A collapse that reaches the end is a truncation, an insertion at it one upwards. */
	if (mode == FALLOC_FL_COLLAPSE_RANGE)
		return len >= size || offset >= size - len ? -EINVAL : 0;
	if (offset >= size)
		return -EINVAL;
	return len > OD_FILE_SIZE_MAX - size ? -EFBIG : 0;
}

/* Blocks behind EOF move as well: may they? */
static int room_above(struct fs_inode *ip, uint64_t blocks)
{
	const uint64_t max = ext_max_fblk(ip->fs);
	struct extent last;
	int err;

	lk_lock(&ip->extlock);
	err = ext_find_le(ip, max, 0, &last);
	lk_unlock(&ip->extlock);
	if (err == 1 && ext_end(&last) > max - blocks)
		return -EFBIG;
	return err < 0 ? err : 0;
}

/* The file on the device as it is in memory, and nothing of it in memory from `offset` on. */
static int settle(struct fs_inode *ip, uint64_t offset)
{
	struct address_space *m = &ip->vfs.i_mapping;
	int err;

	/* Data that was to raise the size on disk is written also where nothing moves. */
	err = fs_write_and_wait(ip, MIN(offset, disk_size_read(ip)), UINT64_MAX);
	if (err)
		return err;
	fs_ioend_wait_idle(ip);
	if (disk_size_read(ip) != i_size_read(&ip->vfs))
		return -EIO;
	/* A folio that begins before the range goes whole: it is clean. */
	dax_delete_mapping_range(&ip->vfs, offset, UINT64_MAX);
	err = invalidate_inode_pages2_range(m, offset, UINT64_MAX);
	if (err)
		return err;
	/* What an earlier truncation could not free must not come back into the file. */
	if (atomic_load(&ip->state) & FS_I_TRUNCATE)
		err = extent_truncate(ip, i_size_read(&ip->vfs));
	return err ? err : fs_trim_eofblocks_locked(ip);
}

static int shift_locked(struct fs_ctx *ctx, struct fs_inode *ip, int mode, uint64_t offset,
			uint64_t len)
{
	const enum od_shift op = mode == FALLOC_FL_COLLAPSE_RANGE ? OD_SHIFT_COLLAPSE :
								    OD_SHIFT_INSERT;
	const uint64_t at = fblk_of(ip->fs, offset), blocks = fblk_of(ip->fs, len);
	int err;

	err = fs_kill_priv(ctx, ip, false);
	if (!err)
		err = fs_file_touch(ip, 0);
	if (!err)
		err = settle(ip, offset);
	if (!err && op == OD_SHIFT_INSERT)
		err = room_above(ip, blocks);
	return err ? err : ext_shift(ip, op, at, blocks);
}

int fs_falloc_shift(struct fs_ctx *ctx, struct fs_inode *ip, int mode, uint64_t offset,
		    uint64_t len)
{
	struct lk_rwlock *maplock = &ip->vfs.i_mapping.invalidate_lock;
	int err;

	assert(mode == FALLOC_FL_COLLAPSE_RANGE || mode == FALLOC_FL_INSERT_RANGE);
	lk_wrlock(&ip->vfs.i_rwsem);
	err = fs_file_may_change(ip, false);
	if (err)
		goto out_unlock;
	inode_dio_wait(&ip->vfs);
	err = range_ok(ip, mode, offset, len);
	if (err)
		goto out_unlock;
	err = fs_inline_leave(ip);
	if (err)
		goto out_unlock;
	lk_wrlock(maplock);
	err = shift_locked(ctx, ip, mode, offset, len);
	lk_rw_unlock(maplock);
out_unlock:
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return err;
}

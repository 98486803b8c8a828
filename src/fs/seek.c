/* SPDX-License-Identifier: MIT */
/* Where the data is, and where it lies on the device: SEEK_DATA and SEEK_HOLE, FIEMAP, FIBMAP. */
#include <errno.h>
#include <linux/fiemap.h>
#include <unistd.h>

#include "extent.h"
#include "xattr.h"

static int query_begin(struct fs_ctx *ctx, struct fs_inode *ip)
{
	/* The engine's queries may read the extent tree: they belong on a thread that may wait. */
	if (ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (atomic_load(&ip->state) & FS_I_BAD)
		return -EFSCORRUPTED;
	return 0;
}

int64_t fs_lseek(struct fs_ctx *ctx, struct fs_inode *ip, int64_t off, int whence)
{
	int64_t ret;
	int err;

	if (!fs_is_reg(ip) || (whence != SEEK_DATA && whence != SEEK_HOLE))
		return -EINVAL;
	err = query_begin(ctx, ip);
	if (err)
		return err;
	lk_rdlock(&ip->vfs.i_rwsem);
	if (whence == SEEK_DATA)
		ret = iomap_seek_data(&ip->vfs, off, &fs_report_iomap_ops);
	else
		ret = iomap_seek_hole(&ip->vfs, off, &fs_report_iomap_ops);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return ret;
}

int fs_fiemap(struct fs_ctx *ctx, struct fs_inode *ip, struct fiemap_extent_info *fi, uint64_t start,
	      uint64_t len)
{
	const bool attrs = fi->fi_flags & FIEMAP_FLAG_XATTR;
	int err;

	if (!fs_is_reg(ip))
		return -EOPNOTSUPP;
	err = query_begin(ctx, ip);
	if (err)
		return err;
	err = fiemap_prep(&ip->vfs, fi, start, &len, OD_FILE_SIZE_MAX,
			  FIEMAP_FLAG_SYNC | FIEMAP_FLAG_XATTR);
	if (err)
		return err;
	lk_rdlock(&ip->vfs.i_rwsem);
	err = iomap_fiemap(&ip->vfs, fi, start, len, attrs ? &fs_xattr_iomap_ops : &fs_report_iomap_ops);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return err;
}

int fs_bmap(struct fs_ctx *ctx, struct fs_inode *ip, uint64_t blksize, uint64_t idx, uint64_t *out)
{
	const uint64_t bs = ip->fs->block_size;
	uint64_t pos, block;
	int err;

	*out = 0;
	if (!fs_is_reg(ip) || blksize == 0 || blksize > bs || bs % blksize != 0)
		return -EINVAL;
	err = query_begin(ctx, ip);
	if (err)
		return err;
	if (idx > OD_FILE_SIZE_MAX / blksize)
		return 0;
	pos = idx * blksize;
	err = filemap_write_and_wait_range(&ip->vfs.i_mapping, 0, UINT64_MAX);
	if (err)
		return err;
	lk_rdlock(&ip->vfs.i_rwsem);
	block = iomap_bmap(&ip->vfs, pos >> ip->fs->block_shift, &fs_report_iomap_ops);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	if (block)
		*out = block * (bs / blksize) + (pos & (bs - 1)) / blksize;
	return 0;
}

int fs_swap_map(struct fs_ctx *ctx, struct fs_inode *ip, struct swap_info *sis, uint64_t *pagespan)
{
	int err;

	if (!fs_is_reg(ip))
		return -EINVAL;
	err = query_begin(ctx, ip);
	if (!err)
		err = fs_sync_range(ip, 0, UINT64_MAX, false);
	if (err)
		return err;
	lk_wrlock(&ip->vfs.i_rwsem);
	err = iomap_swapfile_activate(sis, &ip->vfs, pagespan, &fs_report_iomap_ops);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return err;
}

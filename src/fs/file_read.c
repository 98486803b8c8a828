/* SPDX-License-Identifier: MIT */
/* Reading files, through the cache or around it. */
#include "dax.h"

static bool dio_aligned(struct fs_inode *ip, const struct kiocb *iocb, size_t count)
{
	return ((iocb->ki_pos | count) & (ip->fs->idev->logical_block - 1)) == 0;
}

static int rwsem_rdlock(struct fs_inode *ip, bool nowait)
{
	if (!nowait) {
		lk_rdlock(&ip->vfs.i_rwsem);
		return 0;
	}
	return lk_tryrdlock(&ip->vfs.i_rwsem) ? 0 : -EAGAIN;
}

int64_t fs_read_iter(struct fs_ctx *ctx, struct kiocb *iocb, struct iov_iter *to)
{
	struct fs_inode *ip = FS_I(iocb->ki_inode);
	int64_t ret;
	int err;

	if (!fs_is_reg(ip))
		return S_ISDIR(ip->mode) ? -EISDIR : -EINVAL;
	if (atomic_load(&ip->state) & FS_I_BAD)
		return -EFSCORRUPTED;
	if (to->count == 0)
		return 0;
	if (ctx->flags & FS_NOWAIT)
		iocb->ki_flags |= IOCB_NOWAIT;
	err = rwsem_rdlock(ip, iocb->ki_flags & IOCB_NOWAIT);
	if (err)
		return err;
	/*
	 * Requests that the device could not take as they are (the kernel cuts at odd places)
	 * are served from the cache, which is coherent with direct I/O.
	 */
	if (fs_is_dax(ip))
		ret = fs_dax_read(ip, iocb, to);
	else if ((iocb->ki_flags & IOCB_DIRECT) && dio_aligned(ip, iocb, to->count))
		ret = iomap_dio_rw(iocb, to, &fs_read_iomap_ops, NULL, 0, NULL, 0);
	else
		ret = iomap_file_buffered_read(iocb, to, &fs_read_iomap_ops);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return ret;
}

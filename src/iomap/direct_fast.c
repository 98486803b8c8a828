/* SPDX-License-Identifier: MIT */
/*
 * A direct read of at most a block, inside the file, from one written extent, into memory that the
 * device takes as it is: no request that others share, no completion but the count.
 */
#include "iomap_private.h"

static bool is_small_read(const struct kiocb *iocb, struct iov_iter *user)
{
	uint64_t isize = i_size_read(iocb->ki_inode);
	size_t piece;

	if ((iocb->ki_flags & (IOCB_WRITE | IOCB_HIPRI)) || iocb->ki_complete)
		return false;
	if (user->count > i_blocksize(iocb->ki_inode) || iocb->ki_pos >= isize ||
	    user->count > isize - iocb->ki_pos)
		return false;
	iomap_iov_peek(user, &piece);
	return piece >= user->count;
}

static bool device_takes(const struct iomap_iter *iter, const void *mem)
{
	const struct iomap *m = &iter->iomap;

	return m->type == IOMAP_MAPPED && !(m->flags & IOMAP_F_INTEGRITY) &&
	       iomap_length(iter) == iter->len &&
	       IS_ALIGNED(iter->pos | iter->len, (uint64_t)m->bdev->logical_block) &&
	       IS_ALIGNED((uintptr_t)mem, m->bdev->mem_align);
}

int64_t iomap_dio_read_fast(struct kiocb *iocb, struct iov_iter *user, const struct iomap_ops *ops,
			    void *private)
{
	struct iomap_iter iter = {
		.inode = iocb->ki_inode, .pos = iocb->ki_pos, .len = user->count,
		.flags = IOMAP_DIRECT, .private = private,
	};
	const uint64_t len = user->count;
	size_t piece;
	void *mem;
	int err;

	if (!is_small_read(iocb, user))
		return -ENOTBLK;
	if (iocb->ki_flags & IOCB_NOWAIT)
		iter.flags |= IOMAP_NOWAIT;
	err = iomap_dio_prepare_read(iocb, iter.pos, iter.pos + len - 1);
	if (err)
		return err;
	mem = iomap_iov_peek(user, &piece);
	inode_dio_begin(iter.inode);
	while ((err = iomap_iter(&iter, ops)) > 0) {
		/* Anything else: leave the loop without progress, and take the long way. */
		if (!device_takes(&iter, mem))
			continue;
		iter.status = iomap_read_sync(iter.iomap.bdev,
					      iomap_sector_addr(&iter.iomap, iter.pos), mem, len) ?:
			      iomap_iter_advance_full(&iter);
	}
	inode_dio_end(iter.inode);
	if (err < 0)
		return err;
	if (iter.len)
		return -ENOTBLK;
	iov_iter_advance(user, len);
	iocb->ki_pos += len;
	return (int64_t)len;
}

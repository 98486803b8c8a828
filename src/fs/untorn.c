/* SPDX-License-Identifier: MIT */
/*
 * Untorn writes: after a power cut all of the bytes are there or none. Where one extent holds the range,
 * as aligned on the device as in the file, its map and size are committed, and the device takes such a write
 * whole, it does (IOMAP_F_ATOMIC_BIO). Everywhere else the bytes go to blocks that are held for them,
 * whatever the range is now, holes and shared blocks included, and one transaction puts those into the map.
 *
 * The limit is what one handle can do at worst: each block an extent of its own, old and new.
 */
#include "extent.h"

#define UNTORN_MAX (1u << 20) /* bytes; a request of the kernel */

/* The first block, on an extent tree of three levels, which is more than most ever have. */
static unsigned first_credits(struct fs *fs)
{
	return 3 * (2 * 3 + 2) + ag_mblk_credits(fs, 2 * 4 + 1) + 2 * ag_credits(fs) +
	       3 * refc_credits(fs) + 1;
}

/* Each further one: its record is beside the others, its space may be anywhere. */
static unsigned more_credits(struct fs *fs)
{
	return 2 * ag_more_credits(fs) + refc_credits(fs);
}

unsigned fs_untorn_credits(struct fs *fs, uint64_t blocks)
{
	/* As many as there are: a sum of worst cases that never come together. */
	return (unsigned)MIN(blocks * more_credits(fs), jnl_max_credits(fs->jnl));
}

void fs_atomic_limits(struct fs *fs, uint32_t *unit_min, uint32_t *unit_max, uint32_t *unit_max_opt)
{
	const unsigned have = jnl_max_credits(fs->jnl), first = first_credits(fs);
	const unsigned steps = 1 + (have > first ? (have - first) / more_credits(fs) : 0);
	const uint64_t max = MIN((uint64_t)fs->block_size << ilog2(steps), UNTORN_MAX);

	/* Memory keeps or loses lines, and a file that is mapped has no blocks to exchange. */
	if (fs->dax) {
		*unit_min = *unit_max = *unit_max_opt = 0;
		return;
	}
	*unit_min = fs->block_size;
	*unit_max = (uint32_t)MAX(max, fs->block_size);
	*unit_max_opt = *unit_max > fs->block_size && fs->idev->atomic_max >= fs->block_size ?
				MIN(fs->idev->atomic_max, *unit_max) :
				0;
}

bool fs_untorn_by_device(struct fs_inode *ip, const struct iomap *m, uint64_t pos, uint64_t length)
{
	const struct iomap_dev *dev = ip->fs->idev;

	/*
	 * Over data it is there as soon as the device has it, and then a power cut must find this map and
	 * this size, not those of before:
	 *
	 *	blocks A and B, A written       power cut
	 *	write B: converted in memory
	 *	untorn write of A and B ->
	 *	                                A new, B unwritten: zeros
	 *
	 * Unwritten blocks show nothing before the one transaction that converts them and raises the size.
	 */
	if (m->type != IOMAP_UNWRITTEN && (m->type != IOMAP_MAPPED || (m->flags & IOMAP_F_DIRTY)))
		return false;
	return !(m->flags & IOMAP_F_SHARED) && iomap_end(m) - pos >= length &&
	       length >= dev->atomic_min && length <= dev->atomic_max &&
	       IS_ALIGNED(iomap_sector_addr(m, pos), length);
}

/* ---- By replacement ------------------------------------------------------------------------ */

/* i_rwsem exclusive, nothing of the range is cached. */
static int untorn_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			struct iomap *m, struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	const uint64_t fblk = fblk_of(ip->fs, pos), end = fblk_of(ip->fs, pos + length);
	bool staged;
	int err = 0;

	assert((flags & IOMAP_ATOMIC) && !(flags & IOMAP_NOWAIT) && fblk < end);
	for (;;) {
		lk_lock(&ip->extlock);
		staged = cow_staged_at(ip, fblk, m);
		if (ip->data_fmt == OD_DATA_INLINE)
			err = -EIO; /* fs_write_untorn saw to it */
		lk_unlock(&ip->extlock);
		if (staged || err)
			return err;
		err = cow_stage(ip, fblk, end);
		if (err)
			return err;
	}
}

const struct iomap_ops fs_untorn_iomap_ops = {
	.iomap_begin = untorn_begin,
};

static int untorn_end_io(struct kiocb *iocb, int64_t size, int error, unsigned flags)
{
	struct address_space *m = &iocb->ki_inode->i_mapping;
	int err;

	if (error || size <= 0)
		return error;
	/* Nobody may be filling the cache from the old blocks when they are freed. */
	lk_wrlock(&m->invalidate_lock);
	err = ext_complete_cow(FS_I(iocb->ki_inode), iocb->ki_pos, (uint64_t)size, true, true);
	lk_rw_unlock(&m->invalidate_lock);
	return err;
}

const struct iomap_dio_ops fs_untorn_dio_ops = {
	.end_io = untorn_end_io,
};

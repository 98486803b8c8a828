/* SPDX-License-Identifier: MIT */
/*
 * Mappings for DAX. A write gets blocks that are mapped already, since nothing follows that could convert
 * them, and that hold zeros, since the mapping may be committed before the data is stored:
 *
 *	begin                                   power cut
 *	hole: allocate, UNWRITTEN
 *	zero the block, durably                 reads as zeros
 *	convert
 *	    (commit, at any time)               mapped: zeros
 *	store the data, durably                 data
 *
 * Zeroing and converting are one step under extlock: of two who find the same block unwritten, the second
 * must not zero what the first has stored since.
 *
 * Behind the end of file nobody else can be, and what was stored there must not be in the map when the power
 * fails before the size says so: no growth would zero it. Those blocks stay unwritten; end converts them,
 * in one transaction with the size.
 *
 * Shared blocks are staged (cow.c), filled, and put into the map by end. All that with invalidate_lock
 * exclusive: a store fault and a write(2) must not fill one staged block from the old one each. For a fault,
 * end is inside of LK_DAX: an fsync that finds the page waits for the map, too.
 */
#include "dax.h"

/* Blocks that are zeroed in one transaction. */
#define CONVERT_MAX_BYTES (1u << 20)

static int dax_read_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			  struct iomap *m, struct iomap *srcmap)
{
	int err = fs_read_iomap_ops.iomap_begin(inode, pos, length, flags, m, srcmap);

	/* fs_dax_read answers from the inode what is in it. */
	if (!err && m->type == IOMAP_INLINE) {
		fs_read_iomap_ops.iomap_end(inode, pos, length, 0, flags, m);
		err = -EIO;
	}
	return err;
}

const struct iomap_ops fs_dax_read_iomap_ops = {
	.iomap_begin = dax_read_begin,
};

/* ---- Writing -------------------------------------------------------------------------- */

/* Zero what is unwritten of the first extent at or after fblk and before end; inside an ext_tx. */
static int zero_unwritten(struct fs_inode *ip, uint64_t fblk, uint64_t end)
{
	const unsigned shift = ip->fs->block_shift;
	struct extent e;
	uint64_t from;
	int err;

	err = ext_find(ip, fblk, 0, &e);
	if (err != 1 || !e.unwritten || e.fblk >= end)
		return MIN(err, 0);
	if (TEST_BREAK("dax-unzeroed"))
		return 0;
	from = MAX(e.fblk, fblk);
	return dax_zero_page_range(ip->fs->dax, (e.start + (from - e.fblk)) << shift,
				   (MIN(ext_end(&e), end) - from) << shift);
}

/*
 * The first extent of [fblk, end), allocated, becomes zeros that are mapped. No more than that: who asked
 * gets one mapping, and is told of it that it is new, so that no area goes on to show zero pages there.
 */
static int convert_zeroed(struct fs_inode *ip, uint64_t fblk, uint64_t end)
{
	struct ext_tx tx;
	int err;

	err = ext_tx_begin(ip, EXT_TX_HARD, 0, &tx);
	if (err)
		return err;
	err = zero_unwritten(ip, fblk, end);
	if (!err)
		err = ext_convert_step(ip, &tx, &fblk, end);
	ext_tx_end(ip, &tx);
	return err;
}

/* Blocks for [fblk, end), or on a full device for the front of it. Before EOF they become the file's. */
static int allocate(struct fs_inode *ip, uint64_t fblk, uint64_t end, bool behind_eof)
{
	int err;

	end = MIN(end, fblk + (CONVERT_MAX_BYTES >> ip->fs->block_shift));
	while ((err = ext_alloc_range(ip, fblk, end, 0)) == -ENOSPC && end > fblk + 1)
		end = fblk + (end - fblk) / 2;
	return err || behind_eof ? err : convert_zeroed(ip, fblk, end);
}

/* m, unwritten, is to be stored to from fblk up to end as if it were mapped. */
static int map_behind_eof(struct fs_inode *ip, uint64_t fblk, uint64_t end, struct iomap *m)
{
	const uint64_t skip = (fblk << ip->fs->block_shift) - m->offset;

	m->type = IOMAP_MAPPED;
	m->flags |= IOMAP_F_NEW;
	m->addr += skip;
	m->offset += skip;
	m->length = MIN(m->length - skip, (end - fblk) << ip->fs->block_shift);
	return dax_zero_page_range(m->dax_dev, m->addr, m->length);
}

/* -EREMCHG: shared as far as m reaches, and to be staged. */
static int lookup(struct fs_inode *ip, uint64_t pos, uint64_t length, unsigned flags, struct iomap *m,
		  struct iomap *srcmap)
{
	const bool nowait = flags & IOMAP_NOWAIT;
	const uint64_t fblk = fblk_of(ip->fs, pos);
	struct iomap old;
	int err;

	if (!nowait)
		lk_lock(&ip->extlock);
	else if (!lk_trylock(&ip->extlock))
		return -EAGAIN;
	if (ip->data_fmt == OD_DATA_INLINE)
		err = -EIO; /* callers move the contents out first */
	else
		err = fs_map_at(ip, fblk, nowait ? BUF_NOWAIT : 0, m);
	if (!err && m->type == IOMAP_MAPPED && fs_may_share(ip)) {
		old = *m;
		err = cow_map_out(ip, fblk, 0, nowait, m);
		if (!err && (m->flags & IOMAP_F_SHARED))
			*srcmap = old;
	}
	/* Would a store be found again after a power cut? Not what is staged: it is in no map yet. */
	if (!err && ((m->flags & IOMAP_F_SHARED) || !jnl_tid_committed(ip->fs->jnl, ip->data_tid) ||
		     pos + length > ip->disk_size) && !TEST_BREAK("dax-sync-not-durable"))
		m->flags |= IOMAP_F_DIRTY;
	lk_unlock(&ip->extlock);
	return err;
}

static int dax_write_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			   struct iomap *m, struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	const uint64_t fblk = fblk_of(ip->fs, pos), eof = fblk_up(ip->fs, i_size_read(inode));
	const bool behind_eof = fblk >= eof;
	uint64_t end = fblk_up(ip->fs, pos + length);
	const bool fill = !(flags & (IOMAP_ZERO | IOMAP_UNSHARE));
	uint32_t made = 0;
	int err;

	if (!behind_eof)
		end = MIN(end, eof);
	for (;;) {
		*m = *srcmap = (struct iomap){ 0 };
		err = lookup(ip, pos, length, flags, m, srcmap);
		if (err && err != -EREMCHG)
			return err;
		if (!err && (m->type == IOMAP_MAPPED || !fill))
			break;
		if (flags & IOMAP_NOWAIT)
			return -EAGAIN;
		if (err)
			err = cow_stage(ip, fblk, MIN(end, fblk_of(ip->fs, iomap_end(m))));
		else if (behind_eof && m->type == IOMAP_UNWRITTEN)
			return map_behind_eof(ip, fblk, end, m);
		else
			err = allocate(ip, fblk, MIN(end, fblk_of(ip->fs, iomap_end(m))), behind_eof);
		if (err)
			return err;
		made = IOMAP_F_NEW;
	}
	m->flags |= made;
	return (flags & IOMAP_NOWAIT) && iomap_end(m) - pos < length ? -EAGAIN : 0;
}

/* Staged blocks that were not filled stay unused; the others become the file's, as the size does. */
static int dax_write_end(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written,
			 unsigned flags, struct iomap *m)
{
	struct fs_inode *ip = FS_I(inode);
	const uint64_t from = written ? fblk_up(ip->fs, pos + written) : fblk_of(ip->fs, pos);
	const uint64_t end = fblk_up(ip->fs, pos + length);
	const bool shared = m->flags & IOMAP_F_SHARED;
	int err = 0;

	if (shared && from < end) {
		lk_lock(&ip->extlock);
		cow_cancel(ip, from, end);
		lk_unlock(&ip->extlock);
	}
	if (shared)
		err = fs_dax_complete(ip, pos, written);
	if (!err && !(flags & (IOMAP_ZERO | IOMAP_UNSHARE | IOMAP_FAULT)))
		err = fs_dax_grow(ip, pos, written);
	return err;
}

const struct iomap_ops fs_dax_write_iomap_ops = {
	.iomap_begin = dax_write_begin,
	.iomap_end = dax_write_end,
};

int fs_dax_complete(struct fs_inode *ip, uint64_t pos, uint64_t len)
{
	bool staged;

	if (!fs_may_share(ip) || !len)
		return 0;
	lk_lock(&ip->extlock);
	staged = ip->delalloc->cow_blocks > 0;
	lk_unlock(&ip->extlock);
	HOOK("fs:dax_complete", ip);
	return staged ? ext_complete_cow(ip, pos, len, false, false) : 0;
}

int fs_dax_grow(struct fs_inode *ip, uint64_t pos, uint64_t len)
{
	if (!len || pos + len <= MIN(i_size_read(&ip->vfs), disk_size_read(ip)))
		return 0;
	return ext_complete_write(ip, pos, len, true, true);
}

/* SPDX-License-Identifier: MIT */
/*
 * What the engine asks: where is this byte? One table an operation. Every mapping is
 * sampled under extlock together with map_seq, its cookie; whoever uses it with a folio in
 * hand asks fs_iomap_valid whether it still holds.
 */
#include <stdlib.h>

#include "extent.h"

/* Growing files are promised as much again as they have, within these bounds. */
#define SPECULATE_FROM (64u << 10)
#define SPECULATE_MAX  (16u << 20)

static int extlock_get(struct fs_inode *ip, unsigned flags)
{
	if (!(flags & IOMAP_NOWAIT)) {
		lk_lock(&ip->extlock);
		return 0;
	}
	return lk_trylock(&ip->extlock) ? 0 : -EAGAIN;
}

static void map_fill(struct fs_inode *ip, struct iomap *m, enum iomap_type type, uint64_t fblk,
		     uint64_t end, uint64_t start)
{
	const unsigned shift = ip->fs->block_shift;

	assert(fblk < end && end <= ext_max_fblk(ip->fs));
	m->type = type;
	m->offset = fblk << shift;
	m->length = (end - fblk) << shift;
	m->addr = IOMAP_NULL_ADDR;
	if (type == IOMAP_MAPPED || type == IOMAP_UNWRITTEN)
		m->addr = start << shift;
	m->bdev = ip->fs->idev;
	m->dax_dev = ip->fs->dax;
	m->validity_cookie = atomic_load(&ip->map_seq);
}

int fs_map_at(struct fs_inode *ip, uint64_t fblk, unsigned bufflags, struct iomap *m)
{
	struct da_range *r = da_find(ip, fblk);
	uint64_t end = ext_max_fblk(ip->fs);
	struct extent e;
	int err;

	lk_assert_held(&ip->extlock);
	if (fblk >= end)
		return -EFBIG;
	if (r && r->fblk <= fblk) {
		map_fill(ip, m, IOMAP_DELALLOC, r->fblk, da_end(r), 0);
		return 0;
	}
	if (r)
		end = r->fblk;
	err = ext_find(ip, fblk, bufflags, &e);
	if (err < 0)
		return err;
	if (err == 1 && e.fblk <= fblk) {
		map_fill(ip, m, e.unwritten ? IOMAP_UNWRITTEN : IOMAP_MAPPED, e.fblk, ext_end(&e),
			 e.start);
		return 0;
	}
	if (err == 1)
		end = MIN(end, e.fblk);
	map_fill(ip, m, IOMAP_HOLE, fblk, end, 0);
	return 0;
}

/*
 * The engine works on a copy of the area: attributes beside it change, and the inode is
 * logged, while no lock of ours is held. fs_*_end puts it back and frees it.
 */
static int map_inline(struct fs_inode *ip, struct iomap *m, uint64_t len)
{
	void *copy = calloc(1, OD_INODE_AREA);

	if (!copy)
		return -ENOMEM;
	assert(len <= OD_INODE_AREA && ip->data_len <= OD_INODE_AREA);
	memcpy(copy, ip->area, ip->data_len);
	m->type = IOMAP_INLINE;
	m->offset = 0;
	m->length = len;
	m->addr = IOMAP_NULL_ADDR;
	m->inline_data = copy;
	m->private = copy;
	m->validity_cookie = atomic_load(&ip->map_seq);
	return 0;
}

/* NOWAIT promises all or nothing: one mapping must do. */
static bool spans(const struct iomap *m, uint64_t pos, uint64_t length)
{
	return iomap_end(m) - pos >= length;
}

/* ---- Reading --------------------------------------------------------------------------- */

static int read_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
		      struct iomap *m, struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	const bool nowait = flags & IOMAP_NOWAIT;
	int err;

	err = extlock_get(ip, flags);
	if (err)
		return err;
	if (!fs_is_inline(ip))
		err = fs_map_at(ip, fblk_of(ip->fs, pos), nowait ? BUF_NOWAIT : 0, m);
	else if (pos < ip->data_len)
		err = map_inline(ip, m, ip->data_len);
	else
		map_fill(ip, m, IOMAP_HOLE, fblk_of(ip->fs, pos), ext_max_fblk(ip->fs), 0);
	if (!err && nowait && !spans(m, pos, length)) {
		free(m->private);
		m->private = NULL;
		err = -EAGAIN;
	}
	lk_unlock(&ip->extlock);
	return err;
}

static int read_end(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written,
		    unsigned flags, struct iomap *m)
{
	free(m->private);
	m->private = NULL;
	return 0;
}

const struct iomap_ops fs_read_iomap_ops = {
	.iomap_begin = read_begin,
	.iomap_end = read_end,
};

static int report_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			struct iomap *m, struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	int err = 0;

	err = extlock_get(ip, flags);
	if (err)
		return err;
	if (!fs_is_inline(ip)) {
		err = fs_map_at(ip, fblk_of(ip->fs, pos), 0, m);
	} else if (pos < ip->data_len) {
		map_fill(ip, m, IOMAP_INLINE, 0, 1, 0);
		m->length = ip->data_len;
		m->inline_data = ip->area; /* nobody looks at it */
	} else {
		map_fill(ip, m, IOMAP_HOLE, fblk_of(ip->fs, pos), ext_max_fblk(ip->fs), 0);
		if (m->offset < ip->data_len) {
			m->length -= ip->data_len - m->offset;
			m->offset = ip->data_len;
		}
	}
	if (!err && m->type == IOMAP_MAPPED)
		err = cow_report(ip, fblk_of(ip->fs, pos), flags & IOMAP_NOWAIT, m);
	lk_unlock(&ip->extlock);
	return err;
}

const struct iomap_ops fs_report_iomap_ops = {
	.iomap_begin = report_begin,
};

/* ---- Buffered writing --------------------------------------------------------------------- */

/*
 * Blocks to promise behind a write that grows the file. Only where nothing follows and
 * somebody has the file open for writing: its last close gives back what is left.
 */
static uint64_t speculation(struct fs_inode *ip, uint64_t end_pos, const struct iomap *hole)
{
	const uint64_t size = i_size_read(&ip->vfs);

	if (end_pos <= size || size < SPECULATE_FROM)
		return 0;
	if (atomic_load(&ip->writers) == 0 || atomic_load(&ip->swap_pins) != 0)
		return 0;
	if (fblk_of(ip->fs, iomap_end(hole)) < ext_max_fblk(ip->fs) ||
	    ext_max_fblk(ip->fs) - fblk_up(ip->fs, end_pos) < fblk_of(ip->fs, SPECULATE_MAX))
		return 0;
	return fblk_of(ip->fs, MIN(1ull << ilog2(size), SPECULATE_MAX));
}

/*
 * Reserve for up to *blocks of a hole, and for a speculative part if that is easy to have.
 * The reservation is in *got. -ENOSPC: not even for the part that was asked.
 */
static int reserve_hole(struct fs_inode *ip, uint64_t *blocks, uint64_t spec, uint64_t *got)
{
	int err = -ENOSPC;

	if (spec) {
		*got = da_need(ip, *blocks + spec);
		err = space_reserve(ip->fs, *got, false);
	}
	if (!err) {
		*blocks += spec;
		ip->delalloc->speculated = true;
		return 0;
	}
	*got = da_need(ip, *blocks);
	return space_reserve(ip->fs, *got, false);
}

/* A full device: the part of the hole that still fits, so that the write comes out short. */
static int reserve_less(struct fs_inode *ip, uint64_t *blocks, uint64_t *got)
{
	int err = -ENOSPC;

	while (err == -ENOSPC && *blocks > 1) {
		*blocks = *blocks / 2;
		*got = da_need(ip, *blocks);
		err = space_reserve(ip->fs, *got, false);
	}
	return err;
}

/* Promise for the hole m at pos; extlock held. -ENOSPC with *want: what could not be reserved. */
static int promise(struct fs_inode *ip, uint64_t pos, uint64_t length, unsigned flags,
		   bool last_try, struct iomap *m, uint64_t *want)
{
	const uint64_t fblk = fblk_of(ip->fs, pos);
	uint64_t end = fblk_up(ip->fs, pos + length), blocks, reserved, spec;
	int err;

	assert(m->type == IOMAP_HOLE);
	if (end > fblk_of(ip->fs, iomap_end(m))) {
		if (flags & IOMAP_NOWAIT)
			return -EAGAIN;
		end = fblk_of(ip->fs, iomap_end(m));
	}
	blocks = end - fblk;
	spec = speculation(ip, pos + length, m);
	err = reserve_hole(ip, &blocks, spec, &reserved);
	if (err == -ENOSPC && last_try)
		err = reserve_less(ip, &blocks, &reserved);
	if (err) {
		*want = reserved;
		return err;
	}
	err = da_add(ip, fblk, blocks, reserved);
	if (err) {
		space_unreserve(ip->fs, reserved);
		return err;
	}
	atomic_fetch_add(&ip->map_seq, 1);
	map_fill(ip, m, IOMAP_DELALLOC, fblk, fblk + blocks, 0);
	m->flags |= IOMAP_F_NEW;
	return 0;
}

static int write_begin_locked(struct fs_inode *ip, uint64_t pos, uint64_t length, unsigned flags,
			      bool last_try, struct iomap *m, struct iomap *srcmap,
			      uint64_t *want)
{
	const bool nowait = flags & IOMAP_NOWAIT;
	int err;

	if (fs_is_inline(ip)) {
		/* fs_inline_prepare saw to it that it fits. */
		if (pos + length > fs_inline_cap(ip))
			return -EIO;
		return map_inline(ip, m, fs_inline_cap(ip));
	}
	err = fs_map_at(ip, fblk_of(ip->fs, pos), nowait ? BUF_NOWAIT : 0, m);
	if (err)
		return err;
	if (m->type == IOMAP_HOLE && !(flags & IOMAP_UNSHARE))
		return promise(ip, pos, length, flags, last_try, m, want);
	if (m->type == IOMAP_MAPPED && fs_may_share(ip))
		err = cow_map_write(ip, pos, length, flags, last_try, m, srcmap, want);
	if (err)
		return err;
	return nowait && !spans(m, pos, length) ? -EAGAIN : 0;
}

static int write_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
		       struct iomap *m, struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	bool last_try = false;
	uint64_t want = 0;
	int err;

	for (;;) {
		err = extlock_get(ip, flags);
		if (err)
			return err;
		err = write_begin_locked(ip, pos, length, flags, last_try, m, srcmap, &want);
		lk_unlock(&ip->extlock);
		if (err != -ENOSPC || last_try)
			return err;
		/*
		 * Give back what others hold without using it, then look again: the map
		 * may have changed meanwhile, so the reservation is not carried over.
		 */
		err = space_reserve_or_flush(ip->fs, want, flags & IOMAP_NOWAIT ? FS_NOWAIT : 0);
		if (err && err != -ENOSPC)
			return err;
		if (!err)
			space_unreserve(ip->fs, want);
		last_try = true;
	}
}

static void punch_delalloc(struct inode *inode, uint64_t offset, uint64_t length, struct iomap *m)
{
	struct fs_inode *ip = FS_I(inode);

	lk_lock(&ip->extlock);
	da_remove(ip, fblk_of(ip->fs, offset), fblk_up(ip->fs, offset + length), false);
	/* What is staged already was dirty when it was: that is not ours to take back. */
	cow_withdraw(ip, fblk_of(ip->fs, offset), fblk_up(ip->fs, offset + length));
	atomic_fetch_add(&ip->map_seq, 1);
	lk_unlock(&ip->extlock);
}

/* What a short write reserved and did not dirty goes back, unless others dirtied it meanwhile. */
static void release_unused(struct fs_inode *ip, uint64_t pos, uint64_t length, uint64_t written,
			   unsigned flags, struct iomap *m)
{
	const uint64_t bs = ip->fs->block_size;
	const bool have_lock = flags & (IOMAP_ZERO | IOMAP_UNSHARE);
	uint64_t start, end;

	start = written ? ROUND_UP(pos + written, bs) : ROUND_DOWN(pos, bs);
	end = ROUND_UP(pos + length, bs);
	if (start >= end)
		return;
	if (!have_lock)
		lk_wrlock(&ip->vfs.i_mapping.invalidate_lock);
	iomap_write_delalloc_release(&ip->vfs, start, end, flags, m, punch_delalloc);
	if (!have_lock)
		lk_rw_unlock(&ip->vfs.i_mapping.invalidate_lock);
}

static void inline_store(struct fs_inode *ip, uint64_t pos, uint64_t written, struct iomap *m)
{
	const uint64_t end = pos + written;

	lk_lock(&ip->extlock);
	assert(fs_is_inline(ip) && end <= fs_inline_cap(ip));
	if (end > ip->data_len)
		fs_inline_set_size(ip, (unsigned)end);
	memcpy(ip->area + pos, (uint8_t *)m->private + pos, written);
	lk_unlock(&ip->extlock);
	fs_mark_inode_dirty(ip);
}

static int write_end(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written,
		     unsigned flags, struct iomap *m)
{
	struct fs_inode *ip = FS_I(inode);

	if (m->type == IOMAP_INLINE) {
		if (written)
			inline_store(ip, pos, written, m);
		free(m->private);
		m->private = NULL;
	} else if (m->type == IOMAP_DELALLOC && (m->flags & IOMAP_F_NEW) &&
		   !(flags & IOMAP_FAULT)) {
		release_unused(ip, pos, length, written, flags, m);
	}
	return 0;
}

const struct iomap_ops fs_write_iomap_ops = {
	.iomap_begin = write_begin,
	.iomap_end = write_end,
};

static bool iomap_still_valid(struct inode *inode, const struct iomap *m)
{
	return m->validity_cookie == atomic_load(&FS_I(inode)->map_seq);
}

const struct iomap_write_ops fs_iomap_write_ops = {
	.iomap_valid = iomap_still_valid,
};

/* ---- Zeroing -------------------------------------------------------------------------------- */

/*
 * Promised blocks wholly behind end of file hold nothing: they are reported as a hole, or
 * zeroing would leave dirty folios there that no writeback ever looks at.
 */
static int zero_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
		      struct iomap *m, struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	const uint64_t eof = ROUND_UP(i_size_read(inode), (uint64_t)ip->fs->block_size);
	uint64_t reach = pos;
	int err;

	err = extlock_get(ip, flags);
	if (err)
		return err;
	if (fs_is_inline(ip))
		err = -EIO; /* callers move the contents out first */
	else
		err = fs_map_at(ip, fblk_of(ip->fs, pos),
				flags & IOMAP_NOWAIT ? BUF_NOWAIT : 0, m);
	/* Reads as zero but for dirty cache on top. Conversion takes extlock: nothing gets clean unseen. */
	if (!err && m->type == IOMAP_UNWRITTEN) {
		iomap_fill_dirty_folios(m, &reach, MIN(pos + length, iomap_end(m)));
		m->length = reach - m->offset;
	}
	lk_unlock(&ip->extlock);
	/* Zeros in a shared block are a write. Both locks are exclusive: the block stays where it is. */
	if (!err && m->type == IOMAP_MAPPED && fs_may_share(ip)) {
		*m = (struct iomap){ 0 };
		return write_begin(inode, pos, length, flags, m, srcmap);
	}
	if (err || m->type != IOMAP_DELALLOC)
		return err;
	if (pos >= eof)
		m->type = IOMAP_HOLE;
	else if (iomap_end(m) > eof)
		m->length = eof - m->offset;
	return 0;
}

const struct iomap_ops fs_zero_iomap_ops = {
	.iomap_begin = zero_begin,
	.iomap_end = write_end,
};

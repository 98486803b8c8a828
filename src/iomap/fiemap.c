/* SPDX-License-Identifier: MIT */
/* Layout queries: FIEMAP and its ancestor FIBMAP. */
#include <linux/fiemap.h>

#include "iomap_private.h"

int fiemap_prep(struct inode *inode, struct fiemap_extent_info *fi, uint64_t start, uint64_t *len,
		uint64_t max_bytes, unsigned supported_flags)
{
	unsigned bad;

	if (*len == 0)
		return -EINVAL;
	if (start >= max_bytes)
		return -EFBIG;
	*len = MIN(*len, max_bytes - start);
	bad = fi->fi_flags & ~(supported_flags | FIEMAP_FLAG_SYNC);
	if (bad) {
		fi->fi_flags = bad;
		return -EBADR;
	}
	if (fi->fi_flags & FIEMAP_FLAG_SYNC)
		return filemap_write_and_wait_range(&inode->i_mapping, 0, UINT64_MAX);
	return 0;
}

/* One record. 1: no room for another; an extent that is LAST asks for no more. */
static int fill_extent(struct fiemap_extent_info *fi, const struct iomap *m, uint32_t flags)
{
	struct fiemap_extent *e;

	if (fi->fi_extents_max == 0) {
		fi->fi_extents_mapped++;
		return flags & FIEMAP_EXTENT_LAST ? 1 : 0;
	}
	if (fi->fi_extents_mapped >= fi->fi_extents_max)
		return 1;
	if (flags & FIEMAP_EXTENT_DELALLOC)
		flags |= FIEMAP_EXTENT_UNKNOWN;
	if (flags & FIEMAP_EXTENT_DATA_INLINE)
		flags |= FIEMAP_EXTENT_NOT_ALIGNED;
	e = &fi->fi_extents_start[fi->fi_extents_mapped++];
	memset(e, 0, sizeof(*e));
	e->fe_logical = m->offset;
	e->fe_physical = m->addr != IOMAP_NULL_ADDR ? m->addr : 0;
	e->fe_length = m->length;
	e->fe_flags = flags;
	if (fi->fi_extents_mapped == fi->fi_extents_max)
		return 1;
	return flags & FIEMAP_EXTENT_LAST ? 1 : 0;
}

static int emit(struct fiemap_extent_info *fi, const struct iomap *m, uint32_t flags)
{
	switch (m->type) {
	case IOMAP_HOLE:
		return 0;
	case IOMAP_DELALLOC:
		flags |= FIEMAP_EXTENT_DELALLOC;
		break;
	case IOMAP_UNWRITTEN:
		flags |= FIEMAP_EXTENT_UNWRITTEN;
		break;
	case IOMAP_INLINE:
		flags |= FIEMAP_EXTENT_DATA_INLINE;
		break;
	case IOMAP_MAPPED:
		break;
	}
	if (m->flags & IOMAP_F_MERGED)
		flags |= FIEMAP_EXTENT_MERGED;
	if (m->flags & IOMAP_F_SHARED)
		flags |= FIEMAP_EXTENT_SHARED;
	return fill_extent(fi, m, flags);
}

/* Stops (no progress) when the array is full. *prev is the extent not yet reported. */
static int fiemap_iter(struct iomap_iter *iter, struct fiemap_extent_info *fi, struct iomap *prev)
{
	int full;

	if (iter->iomap.type == IOMAP_HOLE)
		return iomap_iter_advance_full(iter);
	/*
	 * One behind: only after the next one is known does the last one know that it
	 * is the last.
	 */
	full = emit(fi, prev, 0);
	*prev = iter->iomap;
	if (full == 1) {
		prev->type = IOMAP_HOLE;
		return 0;
	}
	return full ?: iomap_iter_advance_full(iter);
}

int iomap_fiemap(struct inode *inode, struct fiemap_extent_info *fi, uint64_t start, uint64_t len,
		 const struct iomap_ops *ops)
{
	struct iomap_iter iter = {
		.inode = inode, .pos = start, .len = len, .flags = IOMAP_REPORT,
	};
	struct iomap prev = { .type = IOMAP_HOLE };
	int err;

	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = fiemap_iter(&iter, fi, &prev);
	/* No attribute fork: nothing to show, and no error. */
	if (err < 0 && err != -ENOENT)
		return err;
	if (prev.type != IOMAP_HOLE) {
		err = emit(fi, &prev, FIEMAP_EXTENT_LAST);
		if (err < 0)
			return err;
	}
	return 0;
}

uint64_t iomap_bmap(struct inode *inode, uint64_t block, const struct iomap_ops *ops)
{
	struct iomap_iter iter = {
		.inode = inode,
		.pos = block << inode->i_blkbits,
		.len = i_blocksize(inode),
		.flags = IOMAP_REPORT,
	};
	uint64_t result = 0;

	if (block > UINT64_MAX >> inode->i_blkbits)
		return 0;
	if (filemap_write_and_wait_range(&inode->i_mapping, 0, UINT64_MAX))
		return 0;
	while (iomap_iter(&iter, ops) > 0) {
		/* A writer through the bare block number would hit the other owners too. */
		if (iter.iomap.type == IOMAP_MAPPED && !(iter.iomap.flags & IOMAP_F_SHARED))
			result = iomap_sector_addr(&iter.iomap, iter.pos) >> inode->i_blkbits;
		/* One block is all that was asked: stop without progress. */
		iter.status = 0;
	}
	return result;
}

/* SPDX-License-Identifier: MIT */
/* Zeroing, the edge of a truncation, and giving shared blocks a copy of their own. */
#include "iomap_private.h"

static int zero_iter(struct iomap_iter *iter, bool *did_zero, const struct iomap_write_ops *wops)
{
	uint64_t len;
	int err;

	while ((len = iomap_length(iter)) != 0) {
		size_t n = MIN(len, (uint64_t)FOLIO_PAGE_SIZE << FOLIO_MAX_ORDER);
		uint64_t pos = iter->pos;
		struct folio *f;

		err = iomap_write_begin(iter, wops, pos, &n, &f);
		if (err)
			return err;
		if (!f)
			return 0;
		data_zero((char *)f->data + offset_in_folio(f, pos), n);
		n = iomap_write_end(iter, pos, n, n, f);
		iomap_put_folio(iter, wops, pos, n, f);
		if (!n)
			return -EIO;
		if (did_zero)
			*did_zero = true;
		err = iomap_iter_advance(iter, n);
		if (err)
			return err;
		err = balance_dirty_pages_ratelimited(&iter->inode->i_mapping, false);
		if (err)
			return err;
	}
	return 0;
}

int iomap_zero_range(struct inode *inode, uint64_t pos, uint64_t len, bool *did_zero,
		     const struct iomap_ops *ops, const struct iomap_write_ops *wops, void *private)
{
	struct iomap_iter iter = {
		.inode = inode, .pos = pos, .len = len, .flags = IOMAP_ZERO, .private = private,
	};
	struct address_space *m = &inode->i_mapping;
	bool maybe_dirty;
	int err;

	if (!len)
		return 0;
	maybe_dirty = filemap_range_needs_writeback(m, pos, pos + len - 1);
	while ((err = iomap_iter(&iter, ops)) > 0) {
		const struct iomap *src = iomap_iter_srcmap(&iter);

		if (src->type != IOMAP_HOLE && src->type != IOMAP_UNWRITTEN) {
			iter.status = zero_iter(&iter, did_zero, wops);
			continue;
		}
		if (!maybe_dirty) {
			iter.status = iomap_iter_advance_full(&iter);
			continue;
		}
		/*
		 * It reads as zero already, but for dirty cache on top:
		 *
		 *	zero range              writeback
		 *	----------              ---------
		 *	UNWRITTEN: skip
		 *	                        writes the old bytes, converts to MAPPED
		 *
		 * would bring them back. Write them now, once, and look again.
		 */
		maybe_dirty = false;
		HOOK("iomap:zero_flush", inode);
		iter.iomap.flags |= IOMAP_F_STALE;
		iter.status = filemap_write_and_wait_range(m, iter.pos, iter.pos + iter.len - 1);
	}
	return err;
}

int iomap_truncate_page(struct inode *inode, uint64_t pos, bool *did_zero,
			const struct iomap_ops *ops, const struct iomap_write_ops *wops, void *private)
{
	uint64_t off = pos & (i_blocksize(inode) - 1);

	if (!off)
		return 0;
	return iomap_zero_range(inode, pos, i_blocksize(inode) - off, did_zero, ops, wops, private);
}

/* Content stays the same: read it, mark it dirty, and writeback puts it into blocks of its own. */
static int unshare_iter(struct iomap_iter *iter, const struct iomap_write_ops *wops)
{
	uint64_t len;
	int err;

	if (!(iter->iomap.flags & IOMAP_F_SHARED) || iter->srcmap.type != IOMAP_MAPPED)
		return iomap_iter_advance_full(iter);
	while ((len = iomap_length(iter)) != 0) {
		size_t n = MIN(len, (uint64_t)FOLIO_PAGE_SIZE << FOLIO_MAX_ORDER);
		uint64_t pos = iter->pos;
		struct folio *f;

		err = iomap_write_begin(iter, wops, pos, &n, &f);
		if (err)
			return err;
		if (!f)
			return 0;
		n = iomap_write_end(iter, pos, n, n, f);
		iomap_put_folio(iter, wops, pos, n, f);
		if (!n)
			return -EIO;
		err = iomap_iter_advance(iter, n);
		if (err)
			return err;
		err = balance_dirty_pages_ratelimited(&iter->inode->i_mapping, false);
		if (err)
			return err;
	}
	return 0;
}

int iomap_file_unshare(struct inode *inode, uint64_t pos, uint64_t len, const struct iomap_ops *ops,
		       const struct iomap_write_ops *wops)
{
	uint64_t isize = i_size_read(inode);
	struct iomap_iter iter = {
		.inode = inode, .pos = pos, .flags = IOMAP_WRITE | IOMAP_UNSHARE,
	};
	int err;

	if (pos >= isize)
		return 0;
	iter.len = MIN(len, isize - pos);
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = unshare_iter(&iter, wops);
	return err;
}

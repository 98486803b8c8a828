/* SPDX-License-Identifier: MIT */
/* Zeroing, the edge of a truncation, and giving shared blocks a copy of their own. */
#include "iomap_private.h"

void iomap_fill_dirty_folios(struct iomap *iomap, uint64_t *start, uint64_t end)
{
	struct iomap_iter *iter = container_of(iomap, struct iomap_iter, iomap);
	struct address_space *m = &iter->inode->i_mapping;
	struct folio *f;

	assert((iter->flags & IOMAP_ZERO) && !iter->fbatch.nr && *start < end);
	/* Mostly there is none: no walk over clean ones for that. */
	if (!filemap_range_needs_writeback(m, *start, end - 1))
		*start = end;
	while (iter->fbatch.nr < IOMAP_FBATCH_SIZE && *start < end) {
		if (!filemap_get_folios(m, start, end - 1, &f, 1))
			break;
		/* One under writeback holds what the disk will have once its extent is converted. */
		if (folio_test_dirty(f) || folio_test_writeback(f))
			iter->fbatch.folios[iter->fbatch.nr++] = f;
		else
			folio_put(f);
	}
	if (iter->fbatch.nr < IOMAP_FBATCH_SIZE)
		*start = end;
	*start = MIN(*start, end);
	iomap->flags |= IOMAP_F_FOLIO_BATCH;
}

/*
 * The next folio of the list, locked, with the iter advanced to where it begins. *f NULL: nothing more
 * in this mapping, or that one left the cache: its bytes are on the disk, and the mapping says so when
 * asked again.
 */
static int next_in_batch(struct iomap_iter *iter, struct folio **f)
{
	struct folio *next;
	uint64_t pos;

	*f = NULL;
	if (iter->fbatch.next == iter->fbatch.nr)
		return iomap_iter_advance_full(iter);
	next = iter->fbatch.folios[iter->fbatch.next++];
	HOOK("iomap:batch_folio", next);
	folio_lock(next);
	if (atomic_load(&next->mapping) != &iter->inode->i_mapping) {
		iter->iomap.flags |= IOMAP_F_STALE;
		folio_unlock(next);
		folio_put(next);
		return 0;
	}
	pos = MAX(folio_pos(next), iter->pos);
	assert(pos - iter->pos < iomap_length(iter));
	*f = next;
	return iomap_iter_advance(iter, pos - iter->pos);
}

/* One folio's worth, prepared. *f NULL with 0: leave the body. */
static int zero_begin(struct iomap_iter *iter, const struct iomap_write_ops *wops, size_t *n,
		      struct folio **f)
{
	struct folio *have;
	int err;

	if (!(iter->iomap.flags & IOMAP_F_FOLIO_BATCH))
		return iomap_write_begin(iter, wops, iter->pos, n, f);
	err = next_in_batch(iter, &have);
	*f = NULL;
	if (err || !have)
		return err;
	*n = MIN(*n, iomap_length(iter));
	return iomap_write_begin_folio(iter, wops, iter->pos, n, have, f);
}

static int zero_iter(struct iomap_iter *iter, bool *did_zero, const struct iomap_write_ops *wops)
{
	uint64_t len;
	int err;

	while ((len = iomap_length(iter)) != 0) {
		size_t n = MIN(len, (uint64_t)FOLIO_PAGE_SIZE << FOLIO_MAX_ORDER);
		struct folio *f;
		uint64_t pos;

		err = zero_begin(iter, wops, &n, &f);
		if (err)
			return err;
		if (!f)
			return 0;
		pos = iter->pos;
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

		if ((iter.iomap.flags & IOMAP_F_FOLIO_BATCH) ||
		    (src->type != IOMAP_HOLE && src->type != IOMAP_UNWRITTEN)) {
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

/* SPDX-License-Identifier: MIT */
/* Writing through the cache: copy into folios, mark blocks dirty, raise the size in memory. */
#include "iomap_private.h"

int iomap_get_folio(struct iomap_iter *iter, uint64_t pos, size_t len, struct folio **out)
{
	unsigned fgp = FGP_WRITEBEGIN;

	if (iter->flags & IOMAP_NOWAIT)
		fgp |= FGP_NOWAIT;
	if (iter->flags & IOMAP_DONTCACHE)
		fgp |= FGP_DONTCACHE;
	return filemap_get_folio(&iter->inode->i_mapping, pos, len, fgp, out);
}

void iomap_put_folio(struct iomap_iter *iter, const struct iomap_write_ops *wops, uint64_t pos,
		     size_t copied, struct folio *f)
{
	if (wops && wops->put_folio) {
		wops->put_folio(iter->inode, pos, copied, f);
		return;
	}
	folio_unlock(f);
	folio_put(f);
}

static int fill_block_range(const struct iomap_iter *iter, const struct iomap_write_ops *wops,
			    struct folio *f, size_t off, size_t len)
{
	if (iter->flags & IOMAP_NOWAIT)
		return -EAGAIN;
	if (wops && wops->read_folio_range)
		return wops->read_folio_range(iter, f, folio_pos(f) + off, len);
	return iomap_read_folio_range_sync(iter, f, folio_pos(f) + off, len);
}

/*
 * The block at `off` is not uptodate and bytes [from, to) of the folio are about to be
 * stored: give the rest of the block its content.
 */
static int prepare_block(const struct iomap_iter *iter, const struct iomap_write_ops *wops,
			 struct folio *f, size_t off, size_t from, size_t to)
{
	size_t bs = i_blocksize(iter->inode), end = off + bs;
	bool unshare = iter->flags & IOMAP_UNSHARE;
	int err;

	/* Unshare stores nothing: the whole content must be there. */
	if (!unshare && from <= off && to >= end)
		return 0;
	if (iomap_block_needs_zeroing(iter, folio_pos(f) + off)) {
		if (unshare)
			return -EIO;
		if (from > off)
			data_zero((char *)f->data + off, from - off);
		if (to < end)
			data_zero((char *)f->data + to, end - to);
	} else {
		err = fill_block_range(iter, wops, f, off, bs);
		if (err)
			return err;
		/* The disk's bytes end where this write does: what it has behind was never written. */
		if ((iter->iomap.flags & IOMAP_F_ZERO_TAIL) && to < end && !unshare)
			data_zero((char *)f->data + to, end - to);
	}
	iomap_set_range_uptodate(f, off, bs);
	return 0;
}

static int prepare_folio(const struct iomap_iter *iter, const struct iomap_write_ops *wops,
			 struct folio *f, uint64_t pos, size_t len)
{
	size_t bs = i_blocksize(iter->inode);
	size_t from = offset_in_folio(f, pos), to = from + len;
	struct iomap_folio_state *ifs;
	int err;

	if (!(iter->flags & IOMAP_UNSHARE) && from == 0 && to == folio_size(f))
		return 0;
	/* From here on blocks of this folio differ. */
	err = iomap_state_get(iter->inode, f, false, &ifs);
	if (err)
		return iter->flags & IOMAP_NOWAIT ? -EAGAIN : err;
	if (folio_test_uptodate(f))
		return 0;
	for (size_t off = ROUND_DOWN(from, bs); off < to; off += bs) {
		bool edge = off < from || off + bs > to || (iter->flags & IOMAP_UNSHARE);

		if (!edge || iomap_uptodate_prefix(f, off, bs))
			continue;
		err = prepare_block(iter, wops, f, off, from, to);
		if (err)
			return err;
	}
	return 0;
}

static int prepare_inline(const struct iomap_iter *iter, struct folio *f, uint64_t pos, size_t len)
{
	const struct iomap *m = &iter->iomap;

	if (m->type == IOMAP_INLINE && (m->offset != 0 || pos + len > m->length))
		return -EIO;
	return iomap_read_inline_data(iter, f);
}

int iomap_write_begin(struct iomap_iter *iter, const struct iomap_write_ops *wops, uint64_t pos,
		      size_t *len, struct folio **folio)
{
	struct folio *f;
	int err;

	*folio = NULL;
	if (wops && wops->get_folio)
		err = wops->get_folio(iter, pos, *len, &f);
	else
		err = iomap_get_folio(iter, pos, *len, &f);
	return err ?: iomap_write_begin_folio(iter, wops, pos, len, f, folio);
}

int iomap_write_begin_folio(struct iomap_iter *iter, const struct iomap_write_ops *wops, uint64_t pos,
			    size_t *len, struct folio *f, struct folio **folio)
{
	int err;

	*folio = NULL;
	assert(folio_test_locked(f));
	HOOK("iomap:folio_locked", f);
	/*
	 * The mapping was sampled before the folio was locked:
	 *
	 *	writer                          writeback, reclaim
	 *	------                          ------------------
	 *	begin: UNWRITTEN
	 *	                                data written, converted to MAPPED
	 *	                                clean folio reclaimed
	 *	new folio, block not uptodate
	 *	UNWRITTEN: zero the rest  <- loses what was just written
	 *
	 * Under the folio lock writeback of this range cannot run, so a mapping that
	 * is true now stays true until the folio is unlocked.
	 */
	if (wops && wops->iomap_valid && !wops->iomap_valid(iter->inode, &iter->iomap)) {
		iter->iomap.flags |= IOMAP_F_STALE;
		iomap_put_folio(iter, wops, pos, 0, f);
		return 0;
	}
	*len = MIN(*len, folio_size(f) - offset_in_folio(f, pos));
	if (iomap_iter_srcmap(iter)->type == IOMAP_INLINE)
		err = prepare_inline(iter, f, pos, *len);
	else
		err = prepare_folio(iter, wops, f, pos, *len);
	if (err) {
		iomap_put_folio(iter, wops, pos, 0, f);
		return err;
	}
	*folio = f;
	return 0;
}

/*
 * A fully covered block was not filled first; stored in part and not uptodate, a later
 * read would overwrite it from disk. So a copy that ended inside such a block counts
 * only up to the block's start.
 */
static size_t countable_bytes(const struct inode *inode, struct folio *f, size_t off, size_t len,
			      size_t copied)
{
	size_t end = off + copied, whole;

	if (copied == len || iomap_uptodate_prefix(f, end, 1))
		return copied;
	/* No state: the folio is one block, or was to be overwritten as a whole. */
	if (!f->private)
		return 0;
	whole = ROUND_DOWN(end, (size_t)i_blocksize(inode));
	return whole > off ? whole - off : 0;
}

size_t iomap_write_end(struct iomap_iter *iter, uint64_t pos, size_t len, size_t copied,
		       struct folio *f)
{
	size_t off = offset_in_folio(f, pos);

	assert(folio_test_locked(f));
	assert(copied <= len && off + len <= folio_size(f));
	if (iter->iomap.type == IOMAP_INLINE) {
		assert(folio_test_uptodate(f));
		data_copy((char *)iter->iomap.inline_data + (pos - iter->iomap.offset),
		       (char *)f->data + off, copied);
		if (iter->inode->i_hooks && iter->inode->i_hooks->mark_inode_dirty)
			iter->inode->i_hooks->mark_inode_dirty(iter->inode);
		return copied;
	}
	copied = countable_bytes(iter->inode, f, off, len, copied);
	if (!copied)
		return 0;
	iomap_set_range_uptodate(f, off, copied);
	iomap_set_range_dirty(f, off, copied);
	filemap_dirty_folio(&iter->inode->i_mapping, f);
	return copied;
}

/* Cache that a failed copy made beyond EOF must not stay: nothing would ever drop it. */
static void write_failed(struct inode *inode, uint64_t pos, uint64_t len)
{
	uint64_t isize = i_size_read(inode);

	if (pos + len > isize)
		truncate_inode_pages_range(&inode->i_mapping, MAX(pos, isize), pos + len - 1);
}

/* One folio's worth. Bytes written, 0 with *len halved to try again, or -errno; stale: 0, *len 0. */
static int64_t write_chunk(struct iomap_iter *iter, struct iov_iter *from,
			   const struct iomap_write_ops *wops, size_t *len)
{
	struct inode *inode = iter->inode;
	uint64_t pos = iter->pos, old_size;
	size_t n = *len, copied, written;
	struct folio *f;
	int err;

	err = balance_dirty_pages_ratelimited(&inode->i_mapping, iter->flags & IOMAP_NOWAIT);
	if (err)
		return err;
	err = iomap_write_begin(iter, wops, pos, &n, &f);
	if (err) {
		/* NOWAIT must not sleep for the removal; whoever retries uses the folio. */
		if (err != -EAGAIN)
			write_failed(inode, pos, *len);
		return err;
	}
	if (!f) {
		*len = 0;
		return 0;
	}
	copied = iov_iter_copy_from(from, (char *)f->data + offset_in_folio(f, pos), n);
	written = iomap_write_end(iter, pos, n, copied, f);
	old_size = i_size_read(inode);
	/* Verity's own data lies behind the end of the file, and stays there. */
	if (iter->iomap.flags & IOMAP_F_FSVERITY)
		old_size = UINT64_MAX;
	if (written && pos + written > old_size) {
		/* Under the folio lock: writeback of this folio sees data and size together. */
		i_size_write(inode, pos + written);
		iter->iomap.flags |= IOMAP_F_SIZE_CHANGED;
	}
	iomap_put_folio(iter, wops, pos, written, f);
	if (written && old_size < pos)
		pagecache_isize_extended(inode, old_size, pos);
	if (written < copied)
		iov_iter_revert(from, copied - written);
	if (!written) {
		write_failed(inode, pos, n);
		*len = copied ? copied : MAX(n / 2, (size_t)1);
	}
	return (int64_t)written;
}

static int write_iter(struct iomap_iter *iter, struct iov_iter *from,
		      const struct iomap_write_ops *wops)
{
	size_t max_folio = (size_t)FOLIO_PAGE_SIZE << iter->inode->i_mapping.max_order;
	size_t limit = max_folio;
	unsigned stalls = 0;
	int err;

	if (iter->iomap.type == IOMAP_HOLE)
		return -EIO;
	while (iomap_length(iter) && from->count) {
		size_t len = MIN(iomap_length(iter), from->count);
		int64_t n;

		len = MIN(len, max_folio - (size_t)(iter->pos & (max_folio - 1)));
		len = MIN(len, limit);
		n = write_chunk(iter, from, wops, &len);
		if (n < 0)
			return (int)n;
		if (n == 0) {
			if (len == 0)
				return 0; /* stale: ask again */
			/* The copy came to nothing: a smaller one may come through. */
			if (++stalls > 64)
				return -EFAULT;
			limit = len;
			continue;
		}
		stalls = 0;
		limit = max_folio;
		err = iomap_iter_advance(iter, (uint64_t)n);
		if (err)
			return err;
	}
	return 0;
}

int64_t iomap_file_buffered_write(struct kiocb *iocb, struct iov_iter *from,
				  const struct iomap_ops *ops, const struct iomap_write_ops *wops,
				  void *private)
{
	struct iomap_iter iter = {
		.inode = iocb->ki_inode,
		.pos = iocb->ki_pos,
		.len = from->count,
		.flags = IOMAP_WRITE,
		.private = private,
	};
	uint64_t done;
	int err;

	if (iocb->ki_flags & IOCB_ATOMIC)
		return -EOPNOTSUPP;
	if (iocb->ki_flags & IOCB_NOWAIT)
		iter.flags |= IOMAP_NOWAIT;
	if (iocb->ki_flags & IOCB_DONTCACHE)
		iter.flags |= IOMAP_DONTCACHE;
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = write_iter(&iter, from, wops);
	done = iter.pos - iocb->ki_pos;
	iocb->ki_pos = iter.pos;
	return done ? (int64_t)done : err;
}

void pagecache_isize_extended(struct inode *inode, uint64_t from, uint64_t to)
{
	struct folio *f;
	size_t start, end;

	if (from >= to)
		return;
	/* Not a use that would keep a DONTCACHE folio. */
	if (filemap_get_folio(&inode->i_mapping, from, 0, FGP_LOCK | FGP_DONTCACHE, &f))
		return;
	/*
	 * A clean folio equals the disk, whose bytes behind EOF are zero since every
	 * writeback zeroes them. A dirty one may hold anything there: it is about to
	 * become file content.
	 */
	if (folio_test_dirty(f)) {
		start = offset_in_folio(f, from);
		end = MIN(folio_size(f), start + (to - from));
		data_zero((char *)f->data + start, end - start);
	}
	folio_unlock(f);
	folio_put(f);
}

int iomap_page_mkwrite(struct inode *inode, struct folio *f, const struct iomap_ops *ops,
		       void *private)
{
	struct iomap_iter iter = {
		.inode = inode,
		.pos = folio_pos(f),
		.flags = IOMAP_WRITE | IOMAP_FAULT,
		.private = private,
	};
	uint64_t isize = i_size_read(inode);
	int err;

	assert(folio_test_locked(f));
	if (atomic_load(&f->mapping) != &inode->i_mapping || folio_pos(f) >= isize)
		return -EFAULT;
	if (!folio_test_uptodate(f))
		return -EIO;
	iter.len = MIN(folio_size(f), isize - folio_pos(f));
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = iomap_iter_advance_full(&iter);
	if (err < 0)
		return err;
	folio_mark_dirty(f);
	/* What a device is reading for a checksum or a mirror must not change under it. */
	folio_wait_writeback(f);
	return 0;
}

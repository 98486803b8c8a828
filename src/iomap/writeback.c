/* SPDX-License-Identifier: MIT */
/*
 * Writing dirty folios back: runs of dirty blocks go to the file system's
 * writeback_range, which maps them and gathers them into ioends (ioend.c).
 * Neither i_rwsem nor invalidate_lock is held: the folio lock is all that keeps
 * truncation and writers out, one folio at a time.
 */
#include "iomap_private.h"

/*
 * Cut a folio at EOF. False: it lies wholly behind, and the truncation that put it
 * there will drop it.
 */
static bool handle_eof(struct inode *inode, struct folio *f, uint64_t *end_pos)
{
	uint64_t isize = i_size_read(inode);
	uint64_t pos = folio_pos(f);

	*end_pos = pos + folio_size(f);
	if (*end_pos <= isize)
		return true;
	if (pos >= isize)
		return false;
	/*
	 * Every time: bytes behind EOF may have been stored through a mapping since,
	 * and what reaches the disk there becomes visible when the file grows.
	 */
	data_zero((char *)f->data + (isize - pos), *end_pos - isize);
	*end_pos = isize;
	return true;
}

/* Hand [off, off+len) over in as many pieces as the mappings under it ask for. */
static int write_run(struct iomap_writepage_ctx *wpc, struct folio *f, size_t off, size_t len,
		     uint64_t end_pos)
{
	while (len) {
		int64_t n = wpc->ops->writeback_range(wpc, f, folio_pos(f) + off, (unsigned)len,
						      end_pos);

		if (n < 0)
			return (int)n;
		if (n == 0 || (uint64_t)n > len)
			return -EIO;
		off += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_runs(struct iomap_writepage_ctx *wpc, struct folio *f, uint64_t end_pos)
{
	size_t end = ROUND_UP(end_pos, (uint64_t)i_blocksize(wpc->inode)) - folio_pos(f);
	size_t off = 0, len;

	while (iomap_next_dirty_run(f, &off, end, &len)) {
		int err = write_run(wpc, f, off, len, end_pos);

		if (err)
			return err;
		off += len;
	}
	return 0;
}

/* Every block must have its dirty bit before runs are looked for; the flag is clear by now. */
static int prepare_state(struct inode *inode, struct folio *f, uint64_t end_pos,
			 struct iomap_folio_state **ifs)
{
	bool had_state = f->private;
	int err = iomap_state_get(inode, f, true, ifs);

	if (err || !*ifs)
		return err;
	if (!had_state)
		iomap_set_range_dirty(f, 0, end_pos - folio_pos(f));
	/*
	 * Count the whole folio as pending, so that a piece whose I/O ends while later
	 * ones are still being mapped cannot end the folio's writeback.
	 */
	lk_lock(&(*ifs)->lock);
	assert((*ifs)->write_bytes_pending == 0);
	(*ifs)->write_bytes_pending = (uint32_t)folio_size(f);
	lk_unlock(&(*ifs)->lock);
	return 0;
}

/* Locked on entry, dirty flag cleared by the caller's iteration; stays locked. */
static int writeback_folio(struct iomap_writepage_ctx *wpc, struct folio *f)
{
	struct inode *inode = wpc->inode;
	struct iomap_folio_state *ifs;
	uint64_t end_pos;
	int err;

	assert(folio_test_locked(f) && !folio_test_writeback(f));
	assert(atomic_load(&f->mapping) == &inode->i_mapping);
	if (!handle_eof(inode, f, &end_pos)) {
		folio_start_writeback(f);
		folio_end_writeback(f);
		return 0;
	}
	err = prepare_state(inode, f, end_pos, &ifs);
	if (err) {
		/* Nothing is under way yet: keep the data for a better day. */
		filemap_dirty_folio(&inode->i_mapping, f);
		return err;
	}
	folio_start_writeback(f);
	HOOK("iomap:writeback_folio", f);
	wpc->submitted = 0;
	wpc->nr_folios++;
	err = write_runs(wpc, f, end_pos);
	/*
	 * After an error as well: a dead device must not pile up dirty folios that can
	 * never be cleaned. The error is in the mapping's sequence, for fsync to report.
	 */
	iomap_clear_range_dirty(f, 0, folio_size(f));
	if (err)
		mapping_set_error(&inode->i_mapping, err);
	if (ifs && wpc->submitted < folio_size(f))
		iomap_finish_folio_write(f, folio_size(f) - wpc->submitted);
	else if (!ifs && !wpc->submitted)
		folio_end_writeback(f);
	return err;
}

int iomap_writepages(struct iomap_writepage_ctx *wpc)
{
	struct address_space *m = &wpc->inode->i_mapping;
	struct folio *f = NULL;
	int err = 0, submit_err = 0;

	while ((f = writeback_iter(m, wpc->wbc, f, &err)) != NULL) {
		err = writeback_folio(wpc, f);
		folio_unlock(f);
	}
	/*
	 * Always, whatever happened to other folios: what is in the open ioend was
	 * mapped, is under writeback, and deserves to reach the disk.
	 */
	if (wpc->wb_ctx)
		submit_err = iomap_submit_ioend(wpc, 0);
	return err ?: submit_err;
}

/* SPDX-License-Identifier: MIT */
/* Walking the dirty folios of a mapping, and writing and waiting for ranges. */
#include <stdint.h>

#include "folio_private.h"

/* Next folio tagged DIRTY from the cursor on, referenced; moves the cursor behind it. */
static struct folio *next_tagged(struct address_space *m, struct writeback_control *wbc)
{
	struct folio *f = NULL;

	lk_lock(&m->tree_lock);
	if (wbc->index <= wbc->end_index)
		f = folio_index_next(m, wbc->index, wbc->end_index, TAG_DIRTY);
	if (f) {
		folio_get(f);
		wbc->index = folio_next_index(f);
	}
	lk_unlock(&m->tree_lock);
	return f;
}

/*
 * Locked. A folio that is tagged but neither dirty nor under writeback was skipped
 * by an earlier pass (it lay beyond end of file, say). The folio lock keeps anyone
 * from being between clear_dirty_for_io and start_writeback.
 */
static void drop_stale_tag(struct address_space *m, struct folio *f)
{
	lk_lock(&m->tree_lock);
	if (!folio_test_dirty(f) && !folio_test_writeback(f))
		folio_index_clear_tag(m, f, TAG_DIRTY);
	lk_unlock(&m->tree_lock);
	folio_lru_add(f);
}

/* Lock the folio and take its dirty flag; false if there is nothing to write. */
static bool prepare(struct address_space *m, struct writeback_control *wbc, struct folio *f)
{
	bool sync = wbc->sync_mode == WB_SYNC_ALL;

	if (!folio_trylock(f)) {
		if (!sync)
			return false;
		folio_lock(f);
	}
	if (atomic_load(&f->mapping) != m)
		goto skip;
	if (!folio_test_dirty(f)) {
		drop_stale_tag(m, f);
		goto skip;
	}
	if (folio_test_writeback(f)) {
		if (!sync)
			goto skip;
		folio_wait_writeback(f);
	}
	if (folio_clear_dirty_for_io(f))
		return true;
skip:
	folio_unlock(f);
	return false;
}

/* Begin a pass. It ends at what is dirty now, so that it cannot chase an appender for ever. */
static void start_pass(struct address_space *m, struct writeback_control *wbc)
{
	struct folio *last;

	wbc->index = wbc->range_start >> FOLIO_PAGE_SHIFT;
	wbc->end_index = wbc->range_end >> FOLIO_PAGE_SHIFT;
	wbc->saved_err = 0;
	lk_lock(&m->tree_lock);
	last = folio_index_last(m, TAG_DIRTY);
	if (!last)
		wbc->index = wbc->end_index + 1;
	else
		wbc->end_index = MIN(wbc->end_index, folio_next_index(last) - 1);
	lk_unlock(&m->tree_lock);
}

struct folio *writeback_iter(struct address_space *m, struct writeback_control *wbc,
			     struct folio *prev, int *error)
{
	struct folio *f;

	if (!prev) {
		start_pass(m, wbc);
	} else {
		wbc->nr_to_write -= (int64_t)folio_nr_pages(prev);
		if (*error && !wbc->saved_err)
			wbc->saved_err = *error;
		/*
		 * For a folio that was cleaned without writeback, and for one whose writeback
		 * ended already, when our reference made it look used.
		 */
		folio_after_write(prev);
		folio_put(prev);
		/* Integrity goes on to the end: one bad folio must not keep others off the disk. */
		if (wbc->sync_mode == WB_SYNC_NONE && (wbc->saved_err || wbc->nr_to_write <= 0))
			goto done;
	}
	while ((f = next_tagged(m, wbc))) {
		if (prepare(m, wbc, f)) {
			*error = 0;
			return f;
		}
		folio_put(f);
	}
done:
	*error = wbc->saved_err;
	return NULL;
}

int filemap_fdatawrite_range(struct address_space *m, uint64_t start, uint64_t end,
			     enum writeback_sync_modes mode)
{
	struct writeback_control wbc = {
		.sync_mode = mode,
		.nr_to_write = LONG_MAX,
		.range_start = start,
		.range_end = end,
	};

	if (!m->a_ops->writepages || !folio_range_tagged(m, start, end, TAG_DIRTY))
		return 0;
	return m->a_ops->writepages(m, &wbc);
}

void filemap_fdatawait_range(struct address_space *m, uint64_t start, uint64_t end)
{
	struct folio *batch[FOLIO_BATCH];
	unsigned n;

	while ((n = folio_get_tagged(m, &start, end, batch, FOLIO_BATCH, TAG_WRITEBACK))) {
		for (unsigned i = 0; i < n; i++)
			folio_wait_writeback(batch[i]);
		folio_put_batch(batch, n);
	}
}

int filemap_write_and_wait_range(struct address_space *m, uint64_t start, uint64_t end)
{
	unsigned errors = atomic_load(&m->wb_nr_errors);
	int err;

	if (start > end)
		return 0;
	err = filemap_fdatawrite_range(m, start, end, WB_SYNC_ALL);
	/* Also after an error: some of it may have been submitted. */
	filemap_fdatawait_range(m, start, end);
	if (!err && atomic_load(&m->wb_nr_errors) != errors)
		err = atomic_load(&m->wb_last_err);
	return err;
}

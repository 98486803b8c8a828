/* SPDX-License-Identifier: MIT */
/* Taking ranges out of the cache. */
#include "folio_private.h"

static void invalidate(struct address_space *m, struct folio *f, size_t off, size_t len)
{
	if (m->a_ops->invalidate_folio)
		m->a_ops->invalidate_folio(f, off, len);
}

/* Locked, in the mapping, not under writeback. */
static void truncate_folio(struct address_space *m, struct folio *f, uint64_t start, uint64_t end)
{
	uint64_t first = folio_pos(f), last = first + folio_size(f) - 1;

	if (first < start || last > end) {
		uint64_t from = MAX(first, start), to = MIN(last, end);

		invalidate(m, f, offset_in_folio(f, from), (size_t)(to - from + 1));
		return;
	}
	invalidate(m, f, 0, folio_size(f));
	folio_cancel_dirty(f);
	folio_remove_locked(m, f);
	folio_put(f);
}

void truncate_inode_pages_range(struct address_space *m, uint64_t start, uint64_t end)
{
	struct folio *batch[FOLIO_BATCH];
	uint64_t pos = start;
	unsigned n;

	/* One way up suffices: the caller keeps others from inserting behind us. */
	while ((n = filemap_get_folios(m, &pos, end, batch, FOLIO_BATCH))) {
		for (unsigned i = 0; i < n; i++) {
			struct folio *f = batch[i];

			folio_lock(f);
			if (atomic_load(&f->mapping) == m) {
				folio_wait_writeback(f);
				truncate_folio(m, f, start, end);
			}
			folio_unlock(f);
		}
		folio_put_batch(batch, n);
	}
}

/*
 * References do not count: a reader holds one while it copies, for as long as its
 * caller's memory takes, and a direct write must not fail for that. Whoever has the
 * folio finds it without a mapping at the next lock.
 */
static int invalidate_one(struct address_space *m, struct folio *f)
{
	bool done;

	folio_lock(f);
	done = atomic_load(&f->mapping) != m;
	if (!done) {
		folio_wait_writeback(f);
		done = folio_evict_clean(f);
	}
	folio_unlock(f);
	return done ? 0 : -EBUSY;
}

int invalidate_inode_pages2_range(struct address_space *m, uint64_t start, uint64_t end)
{
	struct folio *batch[FOLIO_BATCH];
	unsigned n;
	int ret = 0;

	while ((n = filemap_get_folios(m, &start, end, batch, FOLIO_BATCH))) {
		for (unsigned i = 0; i < n; i++) {
			int err = invalidate_one(m, batch[i]);

			if (err)
				ret = err;
		}
		folio_put_batch(batch, n);
	}
	return ret;
}

uint64_t invalidate_mapping_pages(struct address_space *m, uint64_t start, uint64_t end)
{
	struct folio *batch[FOLIO_BATCH];
	uint64_t dropped = 0;
	unsigned n;

	while ((n = filemap_get_folios(m, &start, end, batch, FOLIO_BATCH))) {
		for (unsigned i = 0; i < n; i++) {
			struct folio *f = batch[i];

			if (!folio_trylock(f))
				continue;
			if (atomic_load(&f->mapping) == m && folio_try_evict(f))
				dropped += folio_nr_pages(f);
			folio_unlock(f);
		}
		folio_put_batch(batch, n);
	}
	return dropped;
}

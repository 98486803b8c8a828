/* SPDX-License-Identifier: MIT */
/*
 * Page counts of a mapping and of the cache, and the lists of mappings that have
 * something to write or to wait for. tree_lock is held, so that counts, flags and
 * tags of one mapping change together; the lists are under wb_lock below it.
 */
#include "folio_private.h"

_Thread_local unsigned folio_thread_dirtied;

void folio_account_dirty(struct address_space *m, struct folio *f)
{
	struct folio_cache *c = m->cache;
	uint64_t n = folio_nr_pages(f), total;

	lk_assert_held(&m->tree_lock);
	folio_thread_dirtied += (unsigned)n;
	total = atomic_fetch_add(&c->nr_dirty, n) + n;
	if (atomic_fetch_add(&m->nr_dirty, n) == 0) {
		lk_lock(&c->wb_lock);
		/* Appended with the time read under the lock: the list stays sorted by age. */
		atomic_store(&m->dirtied_when_ns, clock_mono_ns());
		cds_list_add_tail(&m->dirty_list, &c->dirty_mappings);
		c->nr_dirty_mappings++;
		/* All its dirt is younger than the syncs that began by now. */
		m->sync_seq = c->sync_seq;
		lk_unlock(&c->wb_lock);
	}
	if (total > c->background_pages)
		folio_flushers_kick(c);
}

/* Let throttled writers look again. */
static void progress(struct folio_cache *c, uint64_t n)
{
	atomic_fetch_add(&c->nr_cleaned, n);
	if (atomic_load(&c->nr_throttled)) {
		lk_lock(&c->wb_lock);
		pthread_cond_broadcast(&c->throttle_cond);
		lk_unlock(&c->wb_lock);
	}
}

void folio_account_clean(struct address_space *m, struct folio *f)
{
	struct folio_cache *c = m->cache;
	uint64_t n = folio_nr_pages(f);

	lk_assert_held(&m->tree_lock);
	assert(atomic_load(&m->nr_dirty) >= n && atomic_load(&c->nr_dirty) >= n);
	if (atomic_fetch_sub(&m->nr_dirty, n) == n) {
		lk_lock(&c->wb_lock);
		cds_list_del_init(&m->dirty_list);
		c->nr_dirty_mappings--;
		atomic_store(&m->dirtied_when_ns, 0);
		lk_unlock(&c->wb_lock);
	}
	atomic_fetch_sub(&c->nr_dirty, n);
	progress(c, n);
}

void folio_account_writeback_start(struct address_space *m, struct folio *f)
{
	struct folio_cache *c = m->cache;
	uint64_t n = folio_nr_pages(f);

	lk_assert_held(&m->tree_lock);
	atomic_fetch_add(&c->nr_writeback, n);
	if (atomic_fetch_add(&m->nr_writeback, n) == 0) {
		lk_lock(&c->wb_lock);
		cds_list_add_tail(&m->wb_list, &c->wb_mappings);
		lk_unlock(&c->wb_lock);
	}
}

void folio_account_writeback_end(struct address_space *m, struct folio *f)
{
	struct folio_cache *c = m->cache;
	uint64_t n = folio_nr_pages(f);

	lk_assert_held(&m->tree_lock);
	assert(atomic_load(&m->nr_writeback) >= n && atomic_load(&c->nr_writeback) >= n);
	if (atomic_fetch_sub(&m->nr_writeback, n) == n) {
		lk_lock(&c->wb_lock);
		cds_list_del_init(&m->wb_list);
		lk_unlock(&c->wb_lock);
	}
	atomic_fetch_sub(&c->nr_writeback, n);
	atomic_fetch_add(&c->nr_written, n);
	progress(c, n);
}

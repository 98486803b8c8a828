/* SPDX-License-Identifier: MIT */
/*
 * Removal from the mapping, and reclaim.
 *
 * The LRU is a clock: hits only set REFERENCED, and the scan gives such folios a
 * second round. Dirty folios and folios under writeback leave the list when the
 * scan meets them, and come back when they turn clean; so a cache full of dirt
 * costs each scan nothing. The two sides meet in the flags word:
 *
 *	scan (lru_lock)                       folio turns clean
 *	sees DIRTY or WRITEBACK
 *	CAS: clear LRU if still so            clears the flag
 *	fails if the flag just went           looks at LRU; if clear, adds it back
 *
 * Reclaim works on a folio, not on a mapping: a mapping cannot be destroyed while
 * a folio of it is locked, and all that reclaim does to it happens under that lock.
 */
#include "folio_private.h"

#define NOT_CLEAN (FOLIO_BIT(FOLIO_DIRTY) | FOLIO_BIT(FOLIO_WRITEBACK))

void folio_lru_add(struct folio *f)
{
	struct folio_cache *c = f->cache;

	if (atomic_load(&f->flags) & (NOT_CLEAN | FOLIO_BIT(FOLIO_LRU)))
		return;
	lk_lock(&c->lru_lock);
	/* The remover clears mapping first and looks at LRU after: one of us sees the other. */
	if (atomic_load(&f->mapping) && !folio_test_set(f, FOLIO_LRU)) {
		cds_list_add_tail(&f->lru, &c->lru);
		c->nr_lru++;
	}
	lk_unlock(&c->lru_lock);
}

void folio_lru_del(struct folio *f)
{
	struct folio_cache *c = f->cache;

	lk_lock(&c->lru_lock);
	if (folio_test_clear(f, FOLIO_LRU)) {
		cds_list_del(&f->lru);
		c->nr_lru--;
	}
	lk_unlock(&c->lru_lock);
}

static void remove_under_tree_lock(struct address_space *m, struct folio *f)
{
	assert(folio_test_locked(f));
	assert(!(atomic_load(&f->flags) & NOT_CLEAN));
	assert(!f->private);
	folio_index_remove(m, f);
	atomic_fetch_sub(&m->nr_pages, folio_nr_pages(f));
	atomic_store(&f->mapping, NULL);
	/* Off the LRU before the mapping's reference goes: the scan relies on it. */
	folio_lru_del(f);
}

void folio_remove_locked(struct address_space *m, struct folio *f)
{
	lk_lock(&m->tree_lock);
	remove_under_tree_lock(m, f);
	lk_unlock(&m->tree_lock);
}

static bool evict(struct folio *f, bool only_idle)
{
	struct address_space *m = atomic_load(&f->mapping);
	bool ok;

	assert(folio_test_locked(f));
	if (!m || (atomic_load(&f->flags) & NOT_CLEAN))
		return false;
	if (only_idle && atomic_load(&f->refs) > FOLIO_REFS_IDLE)
		return false;
	if (f->private && !(m->a_ops->release_folio && m->a_ops->release_folio(f)))
		return false;
	lk_lock(&m->tree_lock);
	/* No lookup can take a reference now; idle: none is held but the mapping's and ours. */
	ok = (!only_idle || atomic_load(&f->refs) == FOLIO_REFS_IDLE) &&
	     !(atomic_load(&f->flags) & NOT_CLEAN) && !f->private;
	if (ok)
		remove_under_tree_lock(m, f);
	lk_unlock(&m->tree_lock);
	if (ok)
		folio_put(f);
	return ok;
}

bool folio_try_evict(struct folio *f)
{
	return evict(f, true);
}

bool folio_evict_clean(struct folio *f)
{
	return evict(f, false);
}

/* lru_lock held: does the oldest folio qualify? Otherwise it was moved out of the way. */
static bool take_oldest(struct folio_cache *c, struct folio *f, bool force)
{
	unsigned flags = atomic_load(&f->flags);

	cds_list_del(&f->lru);
	while (flags & NOT_CLEAN) {
		if (atomic_compare_exchange_weak(&f->flags, &flags, flags & ~FOLIO_BIT(FOLIO_LRU))) {
			c->nr_lru--;
			return false;
		}
	}
	if ((flags & FOLIO_BIT(FOLIO_LOCKED)) || atomic_load(&f->refs) > 1 ||
	    (folio_test_clear(f, FOLIO_REFERENCED) && !force)) {
		cds_list_add_tail(&f->lru, &c->lru);
		return false;
	}
	folio_get(f);
	folio_test_clear(f, FOLIO_LRU);
	c->nr_lru--;
	return true;
}

static unsigned isolate(struct folio_cache *c, struct folio **batch, uint64_t want, bool force,
			uint64_t *budget)
{
	uint64_t pages = 0;
	unsigned n = 0;

	lk_lock(&c->lru_lock);
	/* Twice round: once to take REFERENCED away, once to find it still gone. */
	if (*budget == 0)
		*budget = 2 * c->nr_lru + 1;
	while (n < FOLIO_BATCH && pages < want && *budget > 1 && !cds_list_empty(&c->lru)) {
		struct folio *f = cds_list_first_entry(&c->lru, struct folio, lru);

		--*budget;
		if (take_oldest(c, f, force)) {
			batch[n++] = f;
			pages += folio_nr_pages(f);
		}
	}
	lk_unlock(&c->lru_lock);
	return n;
}

uint64_t folio_reclaim(struct folio_cache *c, uint64_t nr_pages, bool force)
{
	struct folio *batch[FOLIO_BATCH];
	uint64_t freed = 0, budget = 0;
	unsigned n;

	while (freed < nr_pages && (n = isolate(c, batch, nr_pages - freed, force, &budget))) {
		for (unsigned i = 0; i < n; i++) {
			struct folio *f = batch[i];

			if (folio_trylock(f)) {
				if (folio_try_evict(f))
					freed += folio_nr_pages(f);
				folio_unlock(f);
			}
			/* Not dropped: back to the list, unless it left its mapping. */
			folio_lru_add(f);
			folio_put(f);
		}
	}
	atomic_fetch_add_explicit(&c->reclaimed, freed, memory_order_relaxed);
	return freed;
}

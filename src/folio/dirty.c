/* SPDX-License-Identifier: MIT */
/*
 * The way of a folio from clean to dirty to writeback and back. Flag, tag and
 * counts change together under tree_lock; the one exception is meant:
 *
 *	folio_clear_dirty_for_io   flag and count go, the DIRTY tag stays
 *	folio_start_writeback      WRITEBACK set, the DIRTY tag goes
 *
 * In between the folio is locked. A sync that looks for tags therefore finds the
 * folio, sleeps on its lock, and then sees WRITEBACK: it cannot miss it.
 */
#include "folio_private.h"

bool filemap_dirty_folio(struct address_space *m, struct folio *f)
{
	bool newly = false;

	if (folio_test_dirty(f))
		return false;
	lk_lock(&m->tree_lock);
	if (atomic_load(&f->mapping) == m && !folio_test_set(f, FOLIO_DIRTY)) {
		folio_index_set_tag(m, f, TAG_DIRTY);
		folio_account_dirty(m, f);
		newly = true;
	}
	lk_unlock(&m->tree_lock);
	return newly;
}

bool folio_mark_dirty(struct folio *f)
{
	struct address_space *m = atomic_load(&f->mapping);

	if (!m)
		return false;
	if (m->a_ops->dirty_folio)
		return m->a_ops->dirty_folio(m, f);
	return filemap_dirty_folio(m, f);
}

static bool clear_dirty(struct folio *f, bool keep_tag)
{
	struct address_space *m = atomic_load(&f->mapping);
	bool was = false;

	assert(folio_test_locked(f));
	if (!m || !folio_test_dirty(f))
		return false;
	lk_lock(&m->tree_lock);
	if (folio_test_clear(f, FOLIO_DIRTY)) {
		if (!keep_tag)
			folio_index_clear_tag(m, f, TAG_DIRTY);
		folio_account_clean(m, f);
		was = true;
	}
	lk_unlock(&m->tree_lock);
	return was;
}

bool folio_clear_dirty_for_io(struct folio *f)
{
	return clear_dirty(f, true);
}

void folio_cancel_dirty(struct folio *f)
{
	clear_dirty(f, false);
	folio_lru_add(f);
}

void folio_start_writeback(struct folio *f)
{
	struct address_space *m = atomic_load(&f->mapping);

	assert(folio_test_locked(f) && m);
	lk_lock(&m->tree_lock);
	assert(!folio_test_writeback(f));
	folio_test_set(f, FOLIO_WRITEBACK);
	folio_index_set_tag(m, f, TAG_WRITEBACK);
	if (!folio_test_dirty(f))
		folio_index_clear_tag(m, f, TAG_DIRTY);
	folio_account_writeback_start(m, f);
	lk_unlock(&m->tree_lock);
}

void folio_end_dropbehind(struct folio *f)
{
	/* Who holds the lock uses the folio; it then ages like any other. */
	if (!folio_test(f, FOLIO_DROPBEHIND) || !folio_trylock(f))
		return;
	/* A reference is no use: those who wait for writeback hold one. A lookup is, and took the flag. */
	if (folio_test(f, FOLIO_DROPBEHIND))
		folio_evict_clean(f);
	folio_unlock(f);
}

void folio_after_write(struct folio *f)
{
	if (atomic_load(&f->flags) & (FOLIO_BIT(FOLIO_DIRTY) | FOLIO_BIT(FOLIO_WRITEBACK)))
		return;
	folio_lru_add(f);
	folio_end_dropbehind(f);
}

/*
 * Until WRITEBACK is cleared no one can take the folio out of its mapping; from
 * then on the folio lives by our own reference, and the mapping by tree_lock,
 * which the remover, and after it mapping_destroy, has to take:
 *
 *	end_writeback                    truncation, on the way to destroy
 *	lock tree_lock                   waits for WRITEBACK
 *	counts, tags, clear WRITEBACK
 *	                                 sees it clear, wants tree_lock
 *	unlock tree_lock
 *	wake, put (the folio only)       removes the folio, destroys the mapping
 *
 * The cache, which the put touches, waits in folio_cache_destroy for the last folio.
 */
void folio_end_writeback(struct folio *f)
{
	struct address_space *m = atomic_load(&f->mapping);
	unsigned old;

	assert(m && folio_test_writeback(f));
	folio_get(f);
	lk_lock(&m->tree_lock);
	folio_index_clear_tag(m, f, TAG_WRITEBACK);
	folio_account_writeback_end(m, f);
	old = atomic_fetch_and(&f->flags,
			       ~(FOLIO_BIT(FOLIO_WRITEBACK) | FOLIO_BIT(FOLIO_WAITERS)));
	lk_unlock(&m->tree_lock);
	if (old & FOLIO_BIT(FOLIO_WAITERS))
		folio_wake(f);
	folio_after_write(f);
	HOOK("folio:written", f);
	folio_put(f);
}

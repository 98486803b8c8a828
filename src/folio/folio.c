/* SPDX-License-Identifier: MIT */
/*
 * Folios: flags, the lock bit, sleeping on a folio, references.
 *
 * Sleepers use a futex on the flags word itself: WAITERS says that somebody may
 * sleep. It is cleared together with the bit that was waited for, and everybody
 * is woken; who still has to wait sets it again. One bit serves the lock and
 * writeback, as waits are rare.
 */
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "folio_private.h"

/* What the public struct does not need to show. */
struct folio_full {
	struct folio f;
	struct pool_chunk *chunk;
};

bool folio_test_set(struct folio *f, enum folio_flag b)
{
	return atomic_fetch_or(&f->flags, FOLIO_BIT(b)) & FOLIO_BIT(b);
}

bool folio_test_clear(struct folio *f, enum folio_flag b)
{
	return atomic_fetch_and(&f->flags, ~FOLIO_BIT(b)) & FOLIO_BIT(b);
}

/* ---- References -------------------------------------------------------------- */

struct folio *folio_alloc(struct folio_cache *c, uint64_t index, unsigned order)
{
	struct folio_full *ff = calloc(1, sizeof(*ff));

	if (!ff)
		return NULL;
	ff->f.data = folio_pool_alloc(&c->pool, order, &ff->chunk);
	if (!ff->f.data) {
		free(ff);
		return NULL;
	}
	ff->f.index = index;
	ff->f.order = order;
	ff->f.cache = c;
	CDS_INIT_LIST_HEAD(&ff->f.lru);
	atomic_store(&ff->f.refs, 1);
	atomic_fetch_add(&c->nr_pages, folio_nr_pages(&ff->f));
	return &ff->f;
}

static void folio_free(struct folio *f)
{
	struct folio_full *ff = container_of(f, struct folio_full, f);
	struct folio_cache *c = f->cache;
	const unsigned busy __attribute__((unused)) =
		FOLIO_BIT(FOLIO_LOCKED) | FOLIO_BIT(FOLIO_DIRTY) | FOLIO_BIT(FOLIO_WRITEBACK) |
		FOLIO_BIT(FOLIO_LRU);

	assert(!atomic_load(&f->mapping));
	assert(!(atomic_load(&f->flags) & busy));
	assert(!f->private);
	folio_pool_free(&c->pool, ff->chunk, f->data, f->order);
	/* The last touch of the cache: folio_cache_destroy waits for it. */
	atomic_fetch_sub(&c->nr_pages, folio_nr_pages(f));
	free(ff);
}

void folio_get(struct folio *f)
{
	int old = atomic_fetch_add(&f->refs, 1);

	assert(old > 0);
	(void)old;
}

void folio_put(struct folio *f)
{
	int old = atomic_fetch_sub(&f->refs, 1);

	assert(old > 0);
	if (old == 1)
		folio_free(f);
}

void folio_put_batch(struct folio **batch, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		folio_put(batch[i]);
}

/* ---- Sleeping ------------------------------------------------------------------ */

static void futex_wait(_Atomic unsigned *word, unsigned val)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, NULL, NULL, 0);
}

void folio_wake(struct folio *f)
{
	syscall(SYS_futex, &f->flags, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void folio_clear_bits_and_wake(struct folio *f, unsigned bits)
{
	unsigned old = atomic_fetch_and(&f->flags, ~(bits | FOLIO_BIT(FOLIO_WAITERS)));

	assert((old & bits) == bits);
	/*
	 * Without a reference of the caller's the folio may be freed by now: the wake
	 * then goes to an address where at worst somebody else wakes up once too often.
	 */
	if (old & FOLIO_BIT(FOLIO_WAITERS))
		folio_wake(f);
}

/* Sleep until bit b may have changed; old is the flags value that had it set. */
static void wait_change(struct folio *f, unsigned old)
{
	unsigned want = old | FOLIO_BIT(FOLIO_WAITERS);

	if (old != want && !atomic_compare_exchange_strong(&f->flags, &old, want))
		return;
	futex_wait(&f->flags, want);
}

static void wait_bit_clear(struct folio *f, enum folio_flag b)
{
	unsigned old;

	while ((old = atomic_load(&f->flags)) & FOLIO_BIT(b))
		wait_change(f, old);
}

bool folio_trylock(struct folio *f)
{
	return !folio_test_set(f, FOLIO_LOCKED);
}

void folio_lock(struct folio *f)
{
	while (!folio_trylock(f))
		wait_bit_clear(f, FOLIO_LOCKED);
}

void folio_unlock(struct folio *f)
{
	folio_clear_bits_and_wake(f, FOLIO_BIT(FOLIO_LOCKED));
}

void folio_wait_locked(struct folio *f)
{
	wait_bit_clear(f, FOLIO_LOCKED);
}

void folio_wait_writeback(struct folio *f)
{
	wait_bit_clear(f, FOLIO_WRITEBACK);
}

/* ---- Read state ------------------------------------------------------------------ */

void folio_mark_uptodate(struct folio *f)
{
	folio_test_set(f, FOLIO_UPTODATE);
}

void folio_clear_uptodate(struct folio *f)
{
	folio_test_clear(f, FOLIO_UPTODATE);
}

void folio_end_read(struct folio *f, bool success)
{
	assert(folio_test_locked(f));
	if (success) {
		folio_test_clear(f, FOLIO_ERROR);
		folio_mark_uptodate(f);
	} else {
		folio_test_set(f, FOLIO_ERROR);
	}
	folio_unlock(f);
}

/* SPDX-License-Identifier: MIT */
/* The cache of a mount: making, ending, numbers. */
#include <stdlib.h>
#include <time.h>

#include "folio_private.h"

#define LIMIT_MIN   (8ull << 20)
#define LAST_PUT_MS 10000u

int folio_cache_create(const struct folio_cache_params *p, struct folio_cache **out)
{
	struct folio_cache *c;
	int err;

	if (p->limit_bytes < LIMIT_MIN || p->nr_flushers == 0 ||
	    p->dirty_limit_bytes < FOLIO_PAGE_SIZE || p->dirty_limit_bytes > p->limit_bytes ||
	    p->dirty_background_bytes > p->dirty_limit_bytes)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->limit_pages = p->limit_bytes >> FOLIO_PAGE_SHIFT;
	c->background_pages = p->dirty_background_bytes >> FOLIO_PAGE_SHIFT;
	c->dirty_limit_pages = p->dirty_limit_bytes >> FOLIO_PAGE_SHIFT;
	c->dirty_expire_ns = p->dirty_expire_ns;
	folio_pool_init(&c->pool, c->limit_pages);
	lk_mutex_init(&c->lru_lock, LK_FOLIO_CACHE, "folio_lru");
	lk_mutex_init(&c->wb_lock, LK_FOLIO_CACHE, "folio_wb");
	lk_mutex_init(&c->sync_mutex, LK_NONE, "folio_sync");
	CDS_INIT_LIST_HEAD(&c->lru);
	CDS_INIT_LIST_HEAD(&c->dirty_mappings);
	CDS_INIT_LIST_HEAD(&c->wb_mappings);
	lk_cond_init(&c->work_cond);
	lk_cond_init(&c->done_cond);
	lk_cond_init(&c->throttle_cond);
	err = folio_flushers_start(c, p->nr_flushers);
	if (err) {
		folio_cache_destroy(c);
		return err;
	}
	*out = c;
	return 0;
}

/*
 * Who ends I/O on a folio wakes its waiters before it puts its own reference, and they may have
 * come here meanwhile. Such references go in moments; one that stays was forgotten.
 */
static void wait_for_last_put(struct folio_cache *c)
{
	for (unsigned ms = 0; atomic_load(&c->nr_pages) && ms < LAST_PUT_MS; ms++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert(atomic_load(&c->nr_pages) == 0);
}

void folio_cache_destroy(struct folio_cache *c)
{
	folio_flushers_stop(c);
	wait_for_last_put(c);
	assert(atomic_load(&c->nr_dirty) == 0 && atomic_load(&c->nr_writeback) == 0);
	assert(cds_list_empty(&c->lru) && c->nr_lru == 0);
	assert(cds_list_empty(&c->dirty_mappings) && cds_list_empty(&c->wb_mappings));
	pthread_cond_destroy(&c->work_cond);
	pthread_cond_destroy(&c->done_cond);
	pthread_cond_destroy(&c->throttle_cond);
	lk_mutex_destroy(&c->lru_lock);
	lk_mutex_destroy(&c->wb_lock);
	lk_mutex_destroy(&c->sync_mutex);
	folio_pool_destroy(&c->pool);
	free(c);
}

void folio_cache_get_stats(struct folio_cache *c, struct folio_cache_stats *st)
{
	*st = (struct folio_cache_stats){
		.cached_bytes = atomic_load(&c->nr_pages) << FOLIO_PAGE_SHIFT,
		.dirty_bytes = atomic_load(&c->nr_dirty) << FOLIO_PAGE_SHIFT,
		.writeback_bytes = atomic_load(&c->nr_writeback) << FOLIO_PAGE_SHIFT,
		.limit_bytes = c->limit_pages << FOLIO_PAGE_SHIFT,
		.hits = atomic_load(&c->hits),
		.misses = atomic_load(&c->misses),
		.reclaimed = atomic_load(&c->reclaimed),
		.throttled = atomic_load(&c->throttled),
		.flushed_bytes = atomic_load(&c->nr_written) << FOLIO_PAGE_SHIFT,
	};
}

void folio_cache_drop_clean(struct folio_cache *c)
{
	folio_reclaim(c, UINT64_MAX, true);
}

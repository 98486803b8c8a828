/* SPDX-License-Identifier: MIT */
/*
 * What the files of folio/ share.
 *
 * Lock order: folio lock -> tree_lock (one mapping) -> one of the cache's
 * short locks (lru_lock, wb_lock, pool.lock: never two of them together).
 * A folio found through the index or the LRU is referenced before the lock that
 * protects the lookup is released.
 */
#ifndef FOLIO_PRIVATE_H
#define FOLIO_PRIVATE_H

#include "iomapfs/folio.h"
#include "iomapfs/util.h"

#define FOLIO_BIT(b) (1u << (b))
#define FOLIO_BATCH  32u
/* References of an idle folio that the caller found: the mapping's and its own. */
#define FOLIO_REFS_IDLE 2

/* ---- Memory (pool.c) ------------------------------------------------------- */

struct pool_chunk;

/* Page-aligned buffers of 2^order pages, cut out of 2 MiB chunks (buddy system). */
struct folio_pool {
	struct lk_mutex lock; /* LK_FOLIO_CACHE */
	struct cds_list_head free[FOLIO_MAX_ORDER + 1];
	unsigned nr_chunks;
	unsigned nr_spare; /* wholly free chunks kept for the next allocation */
	/* Pages of free blocks that may take memory, and how many of them may. */
	uint64_t nr_resident, max_resident;
};
/* limit_pages: how much the folios may hold; free memory beyond a share of it is given back. */
void folio_pool_init(struct folio_pool *p, uint64_t limit_pages);
void folio_pool_destroy(struct folio_pool *p);
void *folio_pool_alloc(struct folio_pool *p, unsigned order, struct pool_chunk **chunk);
void folio_pool_free(struct folio_pool *p, struct pool_chunk *chunk, void *data, unsigned order);

/* ---- Cache ------------------------------------------------------------------- */

struct folio_cache {
	uint64_t limit_pages, background_pages, dirty_limit_pages, dirty_expire_ns;
	struct folio_pool pool;

	struct lk_mutex lru_lock; /* LK_FOLIO_CACHE: lru, nr_lru, folio.lru */
	struct cds_list_head lru; /* oldest first */
	uint64_t nr_lru;

	_Atomic uint64_t nr_pages; /* of all folios, also those that left their mapping */
	_Atomic uint64_t nr_dirty, nr_writeback;
	_Atomic uint64_t hits, misses, reclaimed, throttled;
	_Atomic uint64_t nr_cleaned; /* pages whose dirt or writeback ended: progress */
	_Atomic uint64_t nr_written; /* pages whose writeback ended */
	errseq_t wb_err;
	_Atomic unsigned wb_nr_errors;
	_Atomic int wb_last_err;

	/* LK_FOLIO_CACHE: everything below, and the wb fields of the mappings. */
	struct lk_mutex wb_lock;
	struct cds_list_head dirty_mappings; /* oldest dirtied_when_ns first */
	struct cds_list_head wb_mappings;
	unsigned nr_dirty_mappings;
	pthread_cond_t work_cond;     /* flushers: something may be due */
	pthread_cond_t done_cond;     /* a mapping is no longer pinned or running */
	pthread_cond_t throttle_cond; /* pages got clean */
	_Atomic unsigned nr_idle_flushers;
	_Atomic unsigned nr_throttled;
	uint64_t flush_before_ns;     /* write whatever was dirtied up to here */
	uint64_t sync_seq;
	bool stop;
	uint64_t bw_pages_per_s, bw_stamp_ns, bw_written; /* throttle.c */
	struct lk_mutex sync_mutex;   /* LK_NONE: one folio_cache_sync at a time */
	unsigned nr_flushers;
	pthread_t *flushers;
};

/* ---- Index (index.c): tree_lock held ------------------------------------------- */

enum index_tag { TAG_PRESENT, TAG_DIRTY, TAG_WRITEBACK, INDEX_NR_TAGS };

/* The folio that holds page index, or NULL. */
struct folio *folio_index_lookup(struct address_space *m, uint64_t index);
/* First folio with the tag that overlaps pages [index, last]. */
struct folio *folio_index_next(struct address_space *m, uint64_t index, uint64_t last,
			 enum index_tag tag);
/* Last folio with the tag, anywhere. */
struct folio *folio_index_last(struct address_space *m, enum index_tag tag);
/* -EEXIST when it would overlap, -ENOMEM. */
int folio_index_insert(struct address_space *m, struct folio *f);
void folio_index_remove(struct address_space *m, struct folio *f);
void folio_index_set_tag(struct address_space *m, struct folio *f, enum index_tag tag);
void folio_index_clear_tag(struct address_space *m, struct folio *f, enum index_tag tag);

/* ---- Lookup (lookup.c): take tree_lock ------------------------------------------- */

/* As filemap_get_folios, those with the tag. */
unsigned folio_get_tagged(struct address_space *m, uint64_t *start, uint64_t end,
			  struct folio **batch, unsigned max, enum index_tag tag);
bool folio_range_tagged(struct address_space *m, uint64_t start, uint64_t end, enum index_tag tag);

/* ---- Folios (folio.c) ------------------------------------------------------------ */

static inline uint64_t folio_nr_pages(const struct folio *f)
{
	return 1ull << f->order;
}
struct folio *folio_alloc(struct folio_cache *c, uint64_t index, unsigned order);
/* Clears the bits and wakes whoever sleeps on the folio. Caller holds a reference. */
void folio_clear_bits_and_wake(struct folio *f, unsigned bits);
void folio_wake(struct folio *f);
void folio_put_batch(struct folio **batch, unsigned n);

/* ---- End of writing (dirty.c) ----------------------------------------------------- */

/* If clean by now: a candidate for reclaim, or, with DROPBEHIND and no other user, dropped. */
void folio_after_write(struct folio *f);

/* ---- Accounting (account.c): tree_lock held ---------------------------------------- */

void folio_account_dirty(struct address_space *m, struct folio *f);
void folio_account_clean(struct address_space *m, struct folio *f);
void folio_account_writeback_start(struct address_space *m, struct folio *f);
void folio_account_writeback_end(struct address_space *m, struct folio *f);
/* Pages dirtied by this thread since its last pause. */
extern _Thread_local unsigned folio_thread_dirtied;

/* ---- Removal and reclaim (reclaim.c) -------------------------------------------------- */

void folio_lru_add(struct folio *f);
void folio_lru_del(struct folio *f);
/* Folio locked, clean, not under writeback: takes it out; the caller drops the mapping's reference. */
void folio_remove_locked(struct address_space *m, struct folio *f);
/*
 * Folio locked and referenced by the caller: drop it from its mapping if it is
 * clean, idle and its private state can go. The caller unlocks and puts.
 */
bool folio_try_evict(struct folio *f);
/* As above, but references of others do not keep it: they go on with a folio of no mapping. */
bool folio_evict_clean(struct folio *f);
/* Drop clean idle folios until nr_pages are free; force: also recently used ones. */
uint64_t folio_reclaim(struct folio_cache *c, uint64_t nr_pages, bool force);

/* ---- Flushers (flusher.c) ---------------------------------------------------------------- */

int folio_flushers_start(struct folio_cache *c, unsigned nr);
void folio_flushers_stop(struct folio_cache *c);
void folio_flushers_kick(struct folio_cache *c);

#endif

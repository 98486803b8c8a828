/* SPDX-License-Identifier: MIT */
/* Life of a mapping, and its writeback errors. */
#include <string.h>

#include "folio_private.h"

int mapping_init(struct address_space *m, struct folio_cache *c,
		 const struct address_space_operations *ops, void *host)
{
	memset(m, 0, sizeof(*m));
	m->cache = c;
	m->a_ops = ops;
	m->host = host;
	m->max_order = FOLIO_MAX_ORDER;
	m->block_bytes = 512;
	lk_rw_init(&m->invalidate_lock, LK_MAPLOCK, "invalidate_lock");
	lk_mutex_init(&m->tree_lock, LK_MAPPING, "tree_lock");
	CDS_INIT_LIST_HEAD(&m->dirty_list);
	CDS_INIT_LIST_HEAD(&m->wb_list);
	lk_lock(&c->wb_lock);
	/* Whatever it will write is younger than the syncs that run now. */
	m->wait_seq = c->sync_seq;
	lk_unlock(&c->wb_lock);
	return 0;
}

void mapping_destroy(struct address_space *m)
{
	struct folio_cache *c = m->cache;

	lk_lock(&c->wb_lock);
	while (m->wb_running || m->wb_pins)
		lk_cond_wait(&c->done_cond, &c->wb_lock);
	assert(cds_list_empty(&m->dirty_list) && cds_list_empty(&m->wb_list));
	lk_unlock(&c->wb_lock);
	/* Whoever removed the last folio may still be about to unlock. */
	lk_lock(&m->tree_lock);
	assert(!m->tree);
	assert(atomic_load(&m->nr_pages) == 0 && atomic_load(&m->nr_dirty) == 0 &&
	       atomic_load(&m->nr_writeback) == 0);
	lk_unlock(&m->tree_lock);
	lk_mutex_destroy(&m->tree_lock);
	lk_rw_destroy(&m->invalidate_lock);
}

void mapping_set_folio_order_range(struct address_space *m, unsigned min, unsigned max)
{
	m->max_order = MIN(max, FOLIO_MAX_ORDER);
	m->min_order = MIN(min, m->max_order);
}

void mapping_set_error(struct address_space *m, int err)
{
	struct folio_cache *c = m->cache;

	if (!err)
		return;
	errseq_set(&m->wb_err, err);
	errseq_set(&c->wb_err, err);
	/*
	 * errseq cannot tell a repeated error from an old one that nobody saw; who
	 * wants the errors of one writeback compares these counts.
	 */
	atomic_store(&m->wb_last_err, err);
	atomic_fetch_add(&m->wb_nr_errors, 1);
	atomic_store(&c->wb_last_err, err);
	atomic_fetch_add(&c->wb_nr_errors, 1);
}

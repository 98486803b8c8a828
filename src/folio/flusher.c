/* SPDX-License-Identifier: MIT */
/*
 * Flusher threads and sync.
 *
 * Mappings with dirty folios are on dirty_mappings in the order in which they got
 * dirty. Whoever writes one moves it to the end, as if it got dirty just now: so
 * the list stays sorted, the first entry decides whether anything is due, and
 * mappings take turns.
 *
 * Life of a mapping: under wb_lock it is on the list, hence not destroyed;
 * wb_running makes mapping_destroy wait, which covers the call of grab_host; from
 * then on the owner is held, until after wb_running is cleared again. put_host,
 * which may itself destroy the mapping, therefore finds nobody to wait for.
 */
#include <stdlib.h>

#include "folio_private.h"

#define SLICE_PAGES     8192          /* background: turn to the next mapping after 32 MiB */
#define STALL_PAUSE_NS  50000000ull   /* nothing could be written anywhere */
#define IDLE_MAX_NS     5000000000ull

void folio_flushers_kick(struct folio_cache *c)
{
	if (atomic_load(&c->nr_idle_flushers) == 0)
		return;
	lk_lock(&c->wb_lock);
	pthread_cond_signal(&c->work_cond);
	lk_unlock(&c->wb_lock);
}

/*
 * wb_lock held; released meanwhile. m may be gone on return. Background passes
 * (nr_to_write below LONG_MAX) go on next time where this one stopped.
 */
static int flush_mapping(struct folio_cache *c, struct address_space *m,
			 struct writeback_control *wbc)
{
	const struct address_space_operations *ops = m->a_ops;
	bool grabbed;
	int err = 0;

	assert(!m->wb_running && !cds_list_empty(&m->dirty_list));
	m->wb_running = true;
	cds_list_del(&m->dirty_list);
	cds_list_add_tail(&m->dirty_list, &c->dirty_mappings);
	atomic_store(&m->dirtied_when_ns, clock_mono_ns());
	wbc->range_start = wbc->for_background ? m->wb_cursor << FOLIO_PAGE_SHIFT : 0;
	lk_unlock(&c->wb_lock);

	grabbed = !ops->grab_host || ops->grab_host(m);
	if (grabbed && ops->writepages)
		err = ops->writepages(m, wbc);

	lk_lock(&c->wb_lock);
	m->wb_cursor = wbc->nr_to_write > 0 ? 0 : wbc->index;
	m->wb_running = false;
	pthread_cond_broadcast(&c->done_cond);
	if (grabbed && ops->put_host) {
		lk_unlock(&c->wb_lock);
		ops->put_host(m);
		lk_lock(&c->wb_lock);
	}
	return err;
}

/* ---- Flusher threads ------------------------------------------------------------ */

/* wb_lock held. The mapping to write now, and how much of it; else when to look again. */
static struct address_space *pick(struct folio_cache *c, struct writeback_control *wbc,
				  uint64_t *wake_ns)
{
	bool over = atomic_load(&c->nr_dirty) > c->background_pages;
	uint64_t now = clock_mono_ns(), idle = IDLE_MAX_NS;
	struct address_space *m;

	*wbc = (struct writeback_control){ .sync_mode = WB_SYNC_NONE, .range_end = UINT64_MAX };
	if (c->dirty_expire_ns)
		idle = MIN(idle, c->dirty_expire_ns);
	*wake_ns = now + idle;
	cds_list_for_each_entry(m, &c->dirty_mappings, dirty_list) {
		uint64_t when = atomic_load(&m->dirtied_when_ns);

		if (m->wb_running)
			continue;
		if (when <= c->flush_before_ns ||
		    (c->dirty_expire_ns && when + c->dirty_expire_ns <= now)) {
			wbc->nr_to_write = LONG_MAX;
			return m;
		}
		if (over) {
			wbc->nr_to_write = SLICE_PAGES;
			wbc->for_background = true;
			return m;
		}
		/* Sorted by age: nothing behind it is due before it. */
		if (c->dirty_expire_ns)
			*wake_ns = MIN(*wake_ns, when + c->dirty_expire_ns);
		break;
	}
	return NULL;
}

static void *flusher_main(void *arg)
{
	struct folio_cache *c = arg;
	unsigned fruitless = 0;

	lk_lock(&c->wb_lock);
	while (!c->stop) {
		struct writeback_control wbc;
		uint64_t wake_ns, before = atomic_load(&c->nr_cleaned);
		struct address_space *m = pick(c, &wbc, &wake_ns);

		if (m) {
			flush_mapping(c, m, &wbc);
			fruitless = atomic_load(&c->nr_cleaned) == before ? fruitless + 1 : 0;
			/* Every mapping had its turn and none moved: do not spin. */
			if (fruitless <= c->nr_dirty_mappings)
				continue;
			fruitless = 0;
			if (!c->stop)
				lk_cond_timedwait(&c->work_cond, &c->wb_lock,
						  clock_mono_ns() + STALL_PAUSE_NS);
			continue;
		}
		atomic_fetch_add(&c->nr_idle_flushers, 1);
		/* Who crossed the background limit before we counted as idle did not signal. */
		if (atomic_load(&c->nr_dirty) <= c->background_pages || c->nr_dirty_mappings == 0)
			lk_cond_timedwait(&c->work_cond, &c->wb_lock, wake_ns);
		else
			lk_cond_timedwait(&c->work_cond, &c->wb_lock,
					  clock_mono_ns() + STALL_PAUSE_NS);
		atomic_fetch_sub(&c->nr_idle_flushers, 1);
	}
	lk_unlock(&c->wb_lock);
	return NULL;
}

int folio_flushers_start(struct folio_cache *c, unsigned nr)
{
	c->flushers = calloc(nr, sizeof(*c->flushers));
	if (!c->flushers)
		return -ENOMEM;
	for (; c->nr_flushers < nr; c->nr_flushers++) {
		int err = pthread_create(&c->flushers[c->nr_flushers], NULL, flusher_main, c);

		if (err)
			return -err;
	}
	return 0;
}

void folio_flushers_stop(struct folio_cache *c)
{
	lk_lock(&c->wb_lock);
	c->stop = true;
	pthread_cond_broadcast(&c->work_cond);
	lk_unlock(&c->wb_lock);
	for (unsigned i = 0; i < c->nr_flushers; i++)
		pthread_join(c->flushers[i], NULL);
	free(c->flushers);
}

/* ---- Sync --------------------------------------------------------------------------- */

/* wb_lock held. A mapping with dirt from before this sync that it has not written yet. */
static struct address_space *next_to_write(struct folio_cache *c, uint64_t seq)
{
	struct address_space *m;

	cds_list_for_each_entry(m, &c->dirty_mappings, dirty_list)
		if (m->sync_seq < seq)
			return m;
	return NULL;
}

static int sync_write(struct folio_cache *c, uint64_t seq)
{
	struct address_space *m;
	int ret = 0, err;

	lk_assert_held(&c->wb_lock);
	while ((m = next_to_write(c, seq))) {
		struct writeback_control wbc = {
			.sync_mode = WB_SYNC_ALL,
			.nr_to_write = LONG_MAX,
			.range_end = UINT64_MAX,
		};

		if (m->wb_running) {
			lk_cond_wait(&c->done_cond, &c->wb_lock);
			continue;
		}
		m->sync_seq = seq;
		err = flush_mapping(c, m, &wbc);
		if (!ret)
			ret = err;
	}
	return ret;
}

static void sync_wait(struct folio_cache *c, uint64_t seq)
{
	struct address_space *m;

	lk_assert_held(&c->wb_lock);
again:
	cds_list_for_each_entry(m, &c->wb_mappings, wb_list) {
		if (m->wait_seq >= seq)
			continue;
		m->wait_seq = seq;
		m->wb_pins++;
		lk_unlock(&c->wb_lock);
		filemap_fdatawait_range(m, 0, UINT64_MAX);
		lk_lock(&c->wb_lock);
		m->wb_pins--;
		pthread_cond_broadcast(&c->done_cond);
		goto again;
	}
}

int folio_cache_sync(struct folio_cache *c, bool wait)
{
	unsigned errors;
	int ret;

	if (!wait) {
		lk_lock(&c->wb_lock);
		c->flush_before_ns = clock_mono_ns();
		pthread_cond_broadcast(&c->work_cond);
		lk_unlock(&c->wb_lock);
		return 0;
	}
	lk_lock(&c->sync_mutex);
	errors = atomic_load(&c->wb_nr_errors);
	lk_lock(&c->wb_lock);
	c->sync_seq++;
	/* First start everything, so that devices see it all; then wait. */
	ret = sync_write(c, c->sync_seq);
	sync_wait(c, c->sync_seq);
	lk_unlock(&c->wb_lock);
	if (!ret && atomic_load(&c->wb_nr_errors) != errors)
		ret = atomic_load(&c->wb_last_err);
	lk_unlock(&c->sync_mutex);
	return ret;
}

/* SPDX-License-Identifier: MIT */
/*
 * Slowing writers to the speed of writeback. What counts is dirty + writeback:
 *
 *	up to (background + limit) / 2   free
 *	above                            a pause for what the thread dirtied, at a rate
 *	                                 that falls from twice the measured writeback
 *	                                 speed to nothing at the limit
 *	at the limit                     wait until it falls
 *
 * A writer is let go over the limit if nothing at all got clean for a while: dirt
 * that cannot be written (an owner that is going away, writepages that fails
 * without cleaning) must not stop those who could still make progress.
 */
#include "folio_private.h"

#define RATELIMIT_PAGES    64           /* a thread below this is not looked at */
#define PAUSE_MAX_NS       200000000ull
#define BW_WINDOW_NS       100000000ull
#define BW_INITIAL         25600ull     /* pages a second until measured: 100 MiB/s */
#define BW_MIN             256ull
#define STALL_IDLE_NS      500000000ull /* no writeback in flight, none finished */
#define STALL_INFLIGHT_NS  10000000000ull

static uint64_t in_use(struct folio_cache *c)
{
	return atomic_load(&c->nr_dirty) + atomic_load(&c->nr_writeback);
}

/* wb_lock held. Writeback speed, smoothed over windows in which there was some. */
static uint64_t bandwidth(struct folio_cache *c)
{
	uint64_t now = clock_mono_ns(), written = atomic_load(&c->nr_written);
	uint64_t span = now - c->bw_stamp_ns, bw;

	if (!c->bw_pages_per_s)
		c->bw_pages_per_s = BW_INITIAL;
	if (span < BW_WINDOW_NS)
		return c->bw_pages_per_s;
	/* A long gap says that nobody wrote, not that the device is slow. */
	if (c->bw_stamp_ns && span < 10 * BW_WINDOW_NS && written != c->bw_written) {
		bw = (written - c->bw_written) * 1000000000ull / span;
		c->bw_pages_per_s = MAX((3 * c->bw_pages_per_s + bw) / 4, BW_MIN);
	}
	c->bw_stamp_ns = now;
	c->bw_written = written;
	return c->bw_pages_per_s;
}

/* wb_lock held. Pause for `pages` dirtied with `used` of the limit in use. */
static uint64_t pause_ns(struct folio_cache *c, uint64_t pages, uint64_t used, uint64_t mid)
{
	uint64_t room = c->dirty_limit_pages - used, span = MAX(c->dirty_limit_pages - mid, 1);
	uint64_t rate = MAX(2 * bandwidth(c) * room / span, 1);

	return MIN(pages * 1000000000ull / rate, PAUSE_MAX_NS);
}

/* wb_lock held. Sleep while `above` or more are in use, until the deadline (0: while there is progress). */
static void wait_below(struct folio_cache *c, uint64_t above, uint64_t deadline)
{
	uint64_t cleaned = atomic_load(&c->nr_cleaned), since = clock_mono_ns(), now;

	while (in_use(c) >= above) {
		now = clock_mono_ns();
		if (deadline && now >= deadline)
			return;
		if (atomic_load(&c->nr_cleaned) != cleaned) {
			cleaned = atomic_load(&c->nr_cleaned);
			since = now;
		}
		if (now - since >= (atomic_load(&c->nr_writeback) ? STALL_INFLIGHT_NS :
								    STALL_IDLE_NS))
			return;
		pthread_cond_signal(&c->work_cond);
		lk_cond_timedwait(&c->throttle_cond, &c->wb_lock,
				  MIN(deadline ? deadline : UINT64_MAX, now + BW_WINDOW_NS));
	}
}

int balance_dirty_pages_ratelimited(struct address_space *m, bool nowait)
{
	struct folio_cache *c = m->cache;
	uint64_t mid = (c->background_pages + c->dirty_limit_pages) / 2;
	uint64_t used = in_use(c), pages = folio_thread_dirtied;

	if (used <= mid || (pages < RATELIMIT_PAGES && used < c->dirty_limit_pages))
		return 0;
	if (nowait)
		return -EAGAIN;
	folio_thread_dirtied = 0;
	atomic_fetch_add_explicit(&c->throttled, 1, memory_order_relaxed);
	atomic_fetch_add(&c->nr_throttled, 1);
	TRACE(throttle, used, mid, c->dirty_limit_pages);
	lk_lock(&c->wb_lock);
	used = in_use(c);
	if (used >= c->dirty_limit_pages)
		wait_below(c, c->dirty_limit_pages, 0);
	else if (used > mid)
		wait_below(c, mid + 1, clock_mono_ns() + pause_ns(c, pages, used, mid));
	lk_unlock(&c->wb_lock);
	atomic_fetch_sub(&c->nr_throttled, 1);
	return 0;
}

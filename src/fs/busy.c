/* SPDX-License-Identifier: MIT */
/*
 * Busy extents: freed by a transaction that has not committed. They are in the free space
 * trees (of the same transaction), but data must not go there yet:
 *
 *	transaction 7                       disk
 *	frees block B of file X
 *	                                    new data of file Y written to B
 *	                                    power cut before 7 commits
 *	after replay X still owns B and shows Y's data
 *
 * Blocks that lost their last but one owner are alike (`cooling`): the one that is left must not write in
 * place yet, or a power cut would show the other one, who has them back then, what was written.
 *
 * Metadata may use freed blocks at once: its blocks reach their places only after the commit of
 * a transaction that comes no earlier than the one that freed.
 *
 * One batch for each group and transaction hangs on the journal's commit. With discard,
 * the batch is handed to a worker first; its extents can be used when that is done.
 */
#include <stdlib.h>

#include "ag.h"

struct busy_batch {
	struct jnl_commit_cb cb;
	struct work work;
	struct fs_ag *ag;
	struct busy_set *set;
	jnl_tid_t tid;
	struct cds_list_head exts;
};

int busy_cmp(struct busy_ext *a, struct busy_ext *b)
{
	return a->start < b->start ? -1 : a->start > b->start;
}

RB_GENERATE(busy_tree, busy_ext, node, busy_cmp)

static void ext_remove(struct busy_set *set, struct busy_ext *e)
{
	RB_REMOVE(busy_tree, &set->tree, e);
	cds_list_del(&e->batch);
	assert(set->blocks >= e->len);
	set->blocks -= e->len;
	free(e);
}

static void batch_finish(struct busy_batch *b)
{
	struct fs_ag *ag = b->ag;
	struct busy_ext *e, *tmp;

	lk_lock(&ag->cnt_lock);
	cds_list_for_each_entry_safe(e, tmp, &b->exts, batch)
		ext_remove(b->set, e);
	ag_update_usable(ag);
	lk_unlock(&ag->cnt_lock);
	free(b);
}

static void batch_discard(struct work *w)
{
	struct busy_batch *b = container_of(w, struct busy_batch, work);
	struct fs *fs = b->ag->fs;
	struct busy_ext *e;

	/* The list changes no more: its extents are marked, so nobody takes them out. */
	cds_list_for_each_entry(e, &b->exts, batch) {
		/* Advisory: a device that refuses has lost nothing. */
		(void)bd_discard(fs->bd, e->start << fs->sb.block_shift,
				 e->len << fs->sb.block_shift);
	}
	batch_finish(b);
}

static void batch_committed(struct jnl_commit_cb *cb, int error)
{
	struct busy_batch *b = container_of(cb, struct busy_batch, cb);
	struct fs_ag *ag = b->ag;
	struct busy_ext *e;
	bool discard = ag->fs->opts.discard && !error && b->set == &ag->busy;

	lk_lock(&ag->cnt_lock);
	if (b->set->batch == b)
		b->set->batch = NULL;
	if (discard)
		cds_list_for_each_entry(e, &b->exts, batch)
			e->kept = true;
	lk_unlock(&ag->cnt_lock);
	if (discard)
		work_queue(ag->fs->bg_pool, &b->work);
	else
		batch_finish(b);
}

/* cnt_lock held. */
static struct busy_batch *batch_of(struct fs_ag *ag, struct busy_set *set, struct jnl_handle *h)
{
	struct busy_batch *b = set->batch;

	if (b && b->tid == jnl_handle_tid(h))
		return b;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->ag = ag;
	b->set = set;
	b->tid = jnl_handle_tid(h);
	b->cb.fn = batch_committed;
	b->work.fn = batch_discard;
	CDS_INIT_LIST_HEAD(&b->exts);
	/* An older batch keeps hanging on its own commit. */
	set->batch = b;
	return b;
}

static void ext_insert(struct busy_set *set, struct busy_ext *e, struct cds_list_head *after)
{
	struct busy_ext *clash = RB_INSERT(busy_tree, &set->tree, e);

	assert(!clash);
	(void)clash;
	cds_list_add(&e->batch, after);
	set->blocks += e->len;
}

struct busy_ext *busy_prepare(struct jnl_handle *h, struct fs_ag *ag, struct busy_set *set,
			      uint64_t start, uint64_t len)
{
	struct busy_ext *e = calloc(1, sizeof(*e));
	struct busy_batch *b, *old;

	if (!e)
		return NULL;
	assert(len > 0);
	e->start = start;
	e->len = len;
	lk_lock(&ag->cnt_lock);
	old = set->batch;
	b = batch_of(ag, set, h);
	lk_unlock(&ag->cnt_lock);
	if (!b) {
		free(e);
		return NULL;
	}
	/* An empty batch is no harm, should the caller change its mind. */
	if (b != old)
		jnl_on_commit(h, &b->cb);
	return e;
}

void busy_insert(struct fs_ag *ag, struct busy_set *set, struct busy_ext *e)
{
	lk_assert_held(&ag->cnt_lock);
	assert(set->batch); /* the handle that prepared it is open: its commit is yet to come */
	ext_insert(set, e, &set->batch->exts);
}

void busy_cancel(struct busy_ext *e)
{
	free(e);
}

/* First busy extent that ends after `at`. cnt_lock held. */
static struct busy_ext *first_after(const struct busy_set *set, uint64_t at)
{
	struct busy_ext *e = RB_ROOT(&set->tree), *best = NULL;

	while (e) {
		if (e->start + e->len > at) {
			best = e;
			e = RB_LEFT(e, node);
		} else {
			e = RB_RIGHT(e, node);
		}
	}
	return best;
}

struct ag_extent busy_trim(struct fs_ag *ag, uint64_t start, uint64_t len, uint64_t want)
{
	struct ag_extent best = { start, 0 };
	uint64_t end = start + len;
	struct busy_ext *e;

	lk_lock(&ag->cnt_lock);
	e = first_after(&ag->busy, start);
	while (start < end) {
		uint64_t stop = e ? MIN(MAX(e->start, start), end) : end;

		if (stop - start > best.len)
			best = (struct ag_extent){ start, stop - start };
		if (best.len >= want || !e)
			break;
		start = MAX(start, e->start + e->len);
		e = RB_NEXT(busy_tree, &ag->busy.tree, e);
	}
	lk_unlock(&ag->cnt_lock);
	return best;
}

bool busy_reusable(struct fs_ag *ag, uint64_t start, uint64_t len)
{
	bool ok = true;

	lk_lock(&ag->cnt_lock);
	for (struct busy_ext *e = first_after(&ag->busy, start); e && e->start < start + len;
	     e = RB_NEXT(busy_tree, &ag->busy.tree, e))
		ok &= !e->kept;
	lk_unlock(&ag->cnt_lock);
	return ok;
}

/*
 * Take [start, start+len) out of the set; cnt_lock held. Only the middle of one needs a node:
 * *spare, which is NULL then. False: it was needed and not there, nothing was done.
 */
static bool cut_out(struct busy_set *set, uint64_t start, uint64_t len, struct busy_ext **spare)
{
	const uint64_t end = start + len;
	struct busy_ext *e;

	while ((e = first_after(set, start)) && e->start < end) {
		uint64_t e_end = e->start + e->len;

		if (e->start < start && e_end > end) {
			struct busy_ext *back = *spare;

			if (!back)
				return false;
			*spare = NULL;
			set->blocks -= e_end - start;
			e->len = start - e->start;
			*back = (struct busy_ext){ .start = end, .len = e_end - end, .kept = e->kept };
			ext_insert(set, back, &e->batch);
			return true;
		} else if (e->start < start) {
			set->blocks -= e_end - start;
			e->len = start - e->start;
		} else if (e_end > end) {
			/* Its place in the tree does not change: it only gets shorter at the front. */
			set->blocks -= end - e->start;
			e->len = e_end - end;
			e->start = end;
		} else {
			ext_remove(set, e);
		}
	}
	return true;
}

bool busy_insert_again(struct fs_ag *ag, struct busy_set *set, struct busy_ext *e)
{
	struct busy_ext *spare = calloc(1, sizeof(*spare));

	if (!spare)
		return false;
	lk_lock(&ag->cnt_lock);
	/* Transactions commit in order: it stays as long as the later one takes. */
	cut_out(set, e->start, e->len, &spare);
	busy_insert(ag, set, e);
	lk_unlock(&ag->cnt_lock);
	free(spare);
	return true;
}

bool busy_holds(struct fs_ag *ag, const struct busy_set *set, uint64_t start, uint64_t *len)
{
	const struct busy_ext *e;
	bool in;

	lk_lock(&ag->cnt_lock);
	e = first_after(set, start);
	in = e && e->start <= start;
	if (e)
		*len = MIN(*len, (in ? e->start + e->len : e->start) - start);
	lk_unlock(&ag->cnt_lock);
	return in;
}

void busy_reuse(struct fs_ag *ag, uint64_t start, uint64_t len, struct busy_ext *spare)
{
	bool ok;

	lk_lock(&ag->cnt_lock);
	ok = cut_out(&ag->busy, start, len, &spare);
	lk_unlock(&ag->cnt_lock);
	assert(ok);
	(void)ok;
	free(spare);
}

bool busy_drop(struct fs_ag *ag, uint64_t start, uint64_t len, struct busy_ext *spare)
{
	bool ok;

	lk_lock(&ag->cnt_lock);
	ok = cut_out(&ag->busy, start, len, &spare);
	lk_unlock(&ag->cnt_lock);
	free(spare);
	return ok;
}

bool busy_hold(struct fs_ag *ag, uint64_t start, uint64_t len, struct cds_list_head *held)
{
	struct busy_ext *e = calloc(1, sizeof(*e));

	if (!e)
		return false;
	e->start = start;
	e->len = len;
	e->kept = true;
	lk_lock(&ag->cnt_lock);
	ext_insert(&ag->busy, e, held);
	ag_update_usable(ag);
	lk_unlock(&ag->cnt_lock);
	return true;
}

void busy_unhold(struct fs_ag *ag, struct cds_list_head *held)
{
	struct busy_ext *e, *tmp;

	lk_lock(&ag->cnt_lock);
	cds_list_for_each_entry_safe(e, tmp, held, batch)
		ext_remove(&ag->busy, e);
	ag_update_usable(ag);
	lk_unlock(&ag->cnt_lock);
}

void busy_free_all(struct fs_ag *ag)
{
	struct busy_ext *e, *tmp;

	/* The journal is closed: every batch has had its callback, with an error if need be. */
	lk_lock(&ag->cnt_lock);
	cds_list_for_each_entry_safe(e, tmp, &ag->held, batch)
		ext_remove(&ag->busy, e); /* what ag_unhold had no memory to split */
	assert(RB_EMPTY(&ag->busy.tree) && RB_EMPTY(&ag->cooling.tree));
	lk_unlock(&ag->cnt_lock);
}

/* SPDX-License-Identifier: MIT */
/*
 * Data blocks held for contents that are on their way to the device, to replace others:
 *
 *	writer                               power cut
 *	hold N (in memory only) ->
 *	                                     N is free, the file shows its old blocks
 *	contents written to N ->
 *	                                     the same
 *	one transaction: N used, the
 *	file's extent says N, old block
 *	loses this owner ->
 *	                                     new contents
 *
 * They are among the busy extents, which keeps everybody off them.
 */
#include <stdlib.h>

#include "ag.h"

static int hold_fn(struct fs_ag *ag, struct fs_alloc_req *req, bool any_length, void *arg)
{
	const unsigned flags = *(unsigned *)arg;
	struct ag_extent ext, out;
	int err = ag_lock(ag, flags);

	if (err)
		return err;
	err = ag_pick(ag, req, flags, any_length, &ext, &out);
	/* The same moment for both: usable space falls by what the reservation gives up. */
	if (!err && !busy_hold(ag, out.start, out.len, &ag->held))
		err = -ENOMEM;
	if (!err)
		space_consume(ag->fs, out.len);
	lk_unlock(&ag->lock);
	if (!err) {
		req->start = out.start;
		req->len = out.len;
	}
	return err;
}

int ag_hold_blocks(struct fs *fs, unsigned flags, struct fs_alloc_req *req)
{
	return ag_walk_groups(fs, req, hold_fn, &flags);
}

int ag_take_held(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len)
{
	struct busy_ext *spare = calloc(1, sizeof(*spare));
	struct fs_ag *ag = ag_of_fsb(fs, start);
	struct ag_extent ext;
	int err;

	if (!spare)
		return -ENOMEM;
	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	if (!err)
		err = ag_free_find_pos(ag, start, 0, &ext);
	if (!err)
		err = ag_free_prefetch(ag, &ext, start, len, 0);
	if (!err)
		err = ag_free_take(h, ag, &ext, start, len);
	if (!err) {
		busy_drop(ag, start, len, spare);
		spare = NULL;
	}
	ag_end(h, ag);
	free(spare);
	if (err)
		return err;
	atomic_fetch_add(&fs->stat_alloc_calls, 1);
	atomic_fetch_add(&fs->stat_alloc_blocks, len);
	return 0;
}

void ag_unhold(struct fs *fs, uint64_t start, uint64_t len)
{
	struct fs_ag *ag = ag_of_fsb(fs, start);

	lk_lock(&ag->lock);
	/* Without memory for a split they stay out of use until unmount. */
	busy_drop(ag, start, len, calloc(1, sizeof(struct busy_ext)));
	lk_lock(&ag->cnt_lock);
	ag_update_usable(ag);
	lk_unlock(&ag->cnt_lock);
	lk_unlock(&ag->lock);
}

/* SPDX-License-Identifier: MIT */
/*
 * Delayed allocation: a buffered write only promises space. The promise is exact: one
 * reserved block for each promised one, and the tree nodes that the worst allocation could
 * need (every block an extent of its own), so that writeback never meets ENOSPC.
 * Blocks get their place when the data is written, the whole contiguous run at once.
 */
#include <stdlib.h>

#include "extent.h"

static int da_cmp(const struct da_range *a, const struct da_range *b)
{
	return a->fblk < b->fblk ? -1 : a->fblk > b->fblk;
}

RB_GENERATE_INTERNAL(da_tree, da_range, node, da_cmp, static __attribute__((unused)))

int da_init(struct fs_inode *ip)
{
	struct delalloc *da = calloc(1, sizeof(*da));

	if (!da)
		return -ENOMEM;
	RB_INIT(&da->ranges);
	RB_INIT(&da->cow);
	pthread_cond_init(&da->ioend_idle, NULL);
	ip->delalloc = da;
	return 0;
}

void da_destroy(struct fs_inode *ip)
{
	struct delalloc *da = ip->delalloc;

	if (!da)
		return;
	assert(RB_EMPTY(&da->ranges) && RB_EMPTY(&da->cow));
	assert(da->meta_fsb == 0 && ip->delalloc_blocks == 0 && da->cow_blocks == 0);
	pthread_cond_destroy(&da->ioend_idle);
	free(da->spare);
	free(da);
	ip->delalloc = NULL;
}

struct da_range *da_tree_find(struct da_tree *t, uint64_t fblk)
{
	struct da_range *r = RB_ROOT(t), *found = NULL;

	while (r) {
		if (da_end(r) > fblk) {
			found = r;
			r = RB_LEFT(r, node);
		} else {
			r = RB_RIGHT(r, node);
		}
	}
	return found;
}

struct da_range *da_find(struct fs_inode *ip, uint64_t fblk)
{
	return ip->delalloc ? da_tree_find(&ip->delalloc->ranges, fblk) : NULL;
}

uint64_t da_meta_target(struct fs_inode *ip, uint64_t blocks)
{
	/* Nodes are at least half full but for the last ones of a level. */
	const uint64_t per_leaf = od_tree_max_recs(OD_TREE_EXTENT, true) / 2;
	uint64_t nodes;

	if (blocks == 0)
		return 0;
	if (ip->data_fmt != OD_DATA_TREE && ip->nr_extents + blocks + 2 <= ext_list_cap(ip))
		return 0;
	nodes = DIV_ROUND_UP(blocks, per_leaf);
	/* The levels above, and what one change of the worst kind may take (ext_budget_get). */
	nodes += nodes / 32 + 2 * (ip->data_fmt == OD_DATA_TREE ? ip->ext_root.level + 2 : 2) + 1;
	return space_meta_fsbs(ip->fs, (unsigned)MIN(nodes, UINT32_MAX / 2));
}

/* Blocks whose place in the map may yet cost tree nodes. */
static uint64_t outstanding(const struct fs_inode *ip)
{
	return ip->delalloc_blocks + ip->delalloc->cow_blocks;
}

uint64_t da_need(struct fs_inode *ip, uint64_t blocks)
{
	const uint64_t meta = da_meta_target(ip, outstanding(ip) + blocks);

	return blocks + (meta > ip->delalloc->meta_fsb ? meta - ip->delalloc->meta_fsb : 0);
}

void da_meta_settle(struct fs_inode *ip)
{
	struct delalloc *da = ip->delalloc;
	const uint64_t want = da_meta_target(ip, outstanding(ip));

	if (da->meta_fsb > want) {
		space_unreserve(ip->fs, da->meta_fsb - want);
		da->meta_fsb = want;
	}
}

/* b goes on where a ends, in the file and, where they have a place, on the device. */
static bool follows(const struct da_range *a, const struct da_range *b)
{
	if (da_end(a) != b->fblk)
		return false;
	return a->start ? a->start + a->len == b->start : !b->start;
}

int da_tree_add(struct delalloc *da, struct da_tree *t, uint64_t fblk, uint64_t len, uint64_t start)
{
	struct da_range *r, *next, add = { .fblk = fblk, .len = len, .start = start };

	assert(len > 0);
	if (!da->spare)
		da->spare = malloc(sizeof(*da->spare));
	if (!da->spare)
		return -ENOMEM;
	next = da_tree_find(t, fblk);
	assert(!next || next->fblk >= fblk + len);
	r = next ? RB_PREV(da_tree, t, next) : RB_MAX(da_tree, t);
	if (r && follows(r, &add)) {
		r->len += len;
	} else {
		r = da->spare;
		da->spare = NULL;
		*r = add;
		RB_INSERT(da_tree, t, r);
	}
	if (next && follows(r, next)) {
		RB_REMOVE(da_tree, t, next);
		r->len += next->len;
		free(next);
	}
	return 0;
}

uint64_t da_tree_cut(struct delalloc *da, struct da_tree *t, struct da_range *r, uint64_t fblk,
		     uint64_t end)
{
	const uint64_t from = MAX(fblk, r->fblk), to = MIN(end, da_end(r));
	const uint64_t tail_start = r->start ? r->start + (to - r->fblk) : 0;
	struct da_range *tail = da->spare;

	assert(from < to);
	if (from > r->fblk && to < da_end(r)) {
		if (!tail)
			tail = malloc(sizeof(*tail));
		/* No memory: the promise stays, which costs space until truncation, not data. */
		if (!tail)
			return 0;
		*tail = (struct da_range){ .fblk = to, .len = da_end(r) - to, .start = tail_start };
		r->len = from - r->fblk;
		RB_INSERT(da_tree, t, tail);
		da->spare = malloc(sizeof(*tail));
	} else if (from > r->fblk) {
		r->len = from - r->fblk;
	} else if (to < da_end(r)) {
		r->len = da_end(r) - to;
		r->fblk = to; /* its place in the tree stays: it only shrank */
		r->start = tail_start;
	} else {
		RB_REMOVE(da_tree, t, r);
		free(r);
	}
	return to - from;
}

int da_add(struct fs_inode *ip, uint64_t fblk, uint64_t len, uint64_t reserved)
{
	struct delalloc *da = ip->delalloc;
	int err;

	lk_assert_held(&ip->extlock);
	assert(reserved >= len);
	err = da_tree_add(da, &da->ranges, fblk, len, 0);
	if (err)
		return err;
	ip->delalloc_blocks += len;
	da->meta_fsb += reserved - len;
	da_meta_settle(ip);
	return 0;
}

uint64_t da_remove(struct fs_inode *ip, uint64_t fblk, uint64_t end, bool used)
{
	struct delalloc *da = ip->delalloc;
	struct da_range *r = da_find(ip, fblk);
	uint64_t total = 0, next;

	lk_assert_held(&ip->extlock);
	while (r && r->fblk < end) {
		next = da_end(r);
		total += da_tree_cut(da, &da->ranges, r, fblk, end);
		r = next < end ? da_find(ip, next) : NULL;
	}
	assert(ip->delalloc_blocks >= total);
	ip->delalloc_blocks -= total;
	if (total && !used)
		space_unreserve(ip->fs, total);
	if (total)
		da_meta_settle(ip);
	return total;
}

/* One handle's worth of da_convert: *done when the promise at fblk is gone. */
static int convert_some(struct fs_inode *ip, uint64_t fblk, bool *done)
{
	struct da_range *r;
	struct ext_tx tx;
	uint64_t got, start;
	int err = 0;

	err = ext_tx_begin(ip, EXT_TX_PROMISED, 0, &tx);
	if (err)
		return err;
	r = da_find(ip, fblk);
	*done = !r || r->fblk > fblk;
	if (!*done) {
		start = r->fblk;
		err = ext_alloc(ip, &tx, start, r->len, &got);
		if (!err) {
			da_remove(ip, start, start + got, true);
			*done = start + got > fblk;
		}
	}
	ext_tx_end(ip, &tx);
	return err;
}

int da_convert(struct fs_inode *ip, uint64_t fblk)
{
	bool done = false;
	int err = 0;

	while (!done && !err)
		err = convert_some(ip, fblk, &done);
	return err;
}

void da_withdraw_behind(struct fs_inode *ip, uint64_t size, uint64_t end)
{
	uint64_t fblk = fblk_up(ip->fs, size);

	lk_lock(&ip->extlock);
	/* Block 0 of contents on their way out of the inode is no speculation. */
	if (ip->delalloc->inline_out)
		fblk = MAX(fblk, 1u);
	if (fblk < end && da_remove(ip, fblk, end, false) + cow_withdraw(ip, fblk, end))
		atomic_fetch_add(&ip->map_seq, 1);
	lk_unlock(&ip->extlock);
}

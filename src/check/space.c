/* SPDX-License-Identifier: MIT */
/*
 * Who uses which space: disjoint ranges, each with one use, neighbours of one use merged.
 * Memory grows with the fragmentation of the file system, not with its size, so that
 * a sparse 16 TiB image costs what its contents cost.
 */
#include <stdlib.h>

#include "chk.h"

static int range_cmp(const struct chk_range *a, const struct chk_range *b)
{
	return a->start < b->start ? -1 : a->start > b->start;
}

RB_GENERATE_INTERNAL(chk_space, chk_range, node, range_cmp, static __attribute__((unused)))

const char *chk_use_name(enum chk_use use)
{
	static const char *const names[CHK_USE_NR] = {
		[CHK_HEAD] = "a group's head", [CHK_JNL] = "the journal",
		[CHK_FREE] = "free space",     [CHK_DATA] = "data",
		[CHK_META] = "metadata",       [CHK_SLOT_FREE] = "a free metadata slot",
		[CHK_RESERVE] = "a group's reserve",
	};

	return names[use];
}

/* The first range that ends after `start`. */
static struct chk_range *range_after(struct chk *c, uint64_t start)
{
	struct chk_range key = { .start = start };
	struct chk_range *r = RB_NFIND(chk_space, &c->space, &key), *prev;

	prev = r ? RB_PREV(chk_space, &c->space, r) : RB_MAX(chk_space, &c->space);
	return prev && prev->end > start ? prev : r;
}

/* Put in a range that touches no other, and merge it with neighbours of its use. */
static void range_insert(struct chk *c, enum chk_use use, uint64_t start, uint64_t end)
{
	struct chk_range key = { .start = start };
	struct chk_range *next = RB_NFIND(chk_space, &c->space, &key);
	struct chk_range *prev = next ? RB_PREV(chk_space, &c->space, next) :
					RB_MAX(chk_space, &c->space);
	struct chk_range *r;

	assert(start < end);
	assert(!prev || prev->end <= start);
	assert(!next || next->start >= end);
	if (prev && prev->end == start && prev->use == use) {
		prev->end = end;
		if (next && next->start == end && next->use == use) {
			prev->end = next->end;
			RB_REMOVE(chk_space, &c->space, next);
			free(next);
		}
		return;
	}
	if (next && next->start == end && next->use == use) {
		/* Its place in the order stays the same: nothing lies between. */
		next->start = start;
		return;
	}
	r = malloc(sizeof(*r));
	if (!r) {
		c->error = -ENOMEM;
		return;
	}
	*r = (struct chk_range){ .start = start, .end = end, .use = use };
	RB_INSERT(chk_space, &c->space, r);
}

/* again: claims of the same use are no conflict. */
static bool claim(struct chk *c, enum chk_use use, uint64_t start, uint64_t end, bool again,
		  enum chk_use *other)
{
	bool clear = true;

	while (start < end) {
		struct chk_range *r = range_after(c, start);
		const uint64_t room_end = r ? MIN(end, MAX(r->start, start)) : end;
		/* Filling the room before r may merge it away. */
		const uint64_t r_end = r ? r->end : end;
		const enum chk_use r_use = r ? r->use : use;

		if (room_end > start)
			range_insert(c, use, start, room_end);
		start = room_end;
		if (start == end)
			break;
		/* r covers start: skip what it holds, it keeps its use. */
		if (!again || r_use != use) {
			if (clear)
				*other = r_use;
			clear = false;
		}
		start = MIN(r_end, end);
	}
	return clear;
}

bool chk_claim(struct chk *c, enum chk_use use, uint64_t start, uint64_t end, enum chk_use *other)
{
	return claim(c, use, start, end, false, other);
}

bool chk_claim_again(struct chk *c, enum chk_use use, uint64_t start, uint64_t end,
		     enum chk_use *other)
{
	return claim(c, use, start, end, true, other);
}

bool chk_is_clear(struct chk *c, uint64_t start, uint64_t end)
{
	const struct chk_range *r = range_after(c, start);

	return !r || r->start >= end;
}

uint64_t chk_busy_until(struct chk *c, uint64_t start, uint64_t end)
{
	const struct chk_range *r = range_after(c, start);

	assert(r && r->start < end);
	return r->end;
}

void chk_release(struct chk *c, uint64_t start, uint64_t end)
{
	struct chk_range *r;

	while (start < end && (r = range_after(c, start)) && r->start < end) {
		const uint64_t r_start = r->start, r_end = r->end;
		const enum chk_use use = r->use;

		RB_REMOVE(chk_space, &c->space, r);
		free(r);
		if (r_start < start)
			range_insert(c, use, r_start, start);
		if (r_end > end)
			range_insert(c, use, end, r_end);
		start = r_end;
	}
}

struct chk_range *chk_range_at(struct chk *c, uint64_t start)
{
	return range_after(c, start);
}

struct chk_range *chk_range_first(struct chk *c)
{
	return RB_MIN(chk_space, &c->space);
}

struct chk_range *chk_range_next(struct chk *c, struct chk_range *r)
{
	return RB_NEXT(chk_space, &c->space, r);
}

bool chk_claim_mblk(struct chk *c, enum chk_use use, uint64_t mblk, enum chk_use *other)
{
	return chk_claim(c, use, mblk * CHK_MBLK_UNITS, (mblk + 1) * CHK_MBLK_UNITS, other);
}

bool chk_claim_fsbs(struct chk *c, enum chk_use use, uint64_t start, uint64_t len,
		    enum chk_use *other)
{
	const unsigned shift = c->od.block_shift - CHK_UNIT_SHIFT;

	return chk_claim(c, use, start << shift, (start + len) << shift, other);
}

void chk_space_free(struct chk *c)
{
	struct chk_range *r, *next;

	RB_FOREACH_SAFE(r, chk_space, &c->space, next) {
		RB_REMOVE(chk_space, &c->space, r);
		free(r);
	}
}

static void lost(struct chk *c, uint64_t start, uint64_t end)
{
	const uint64_t ag_units = c->od.ag_blocks << (c->od.block_shift - CHK_UNIT_SHIFT);

	/* Group by group: a group whose header is lost is not told again. */
	while (start < end) {
		const uint32_t agno = (uint32_t)(start / ag_units);
		const uint64_t stop = MIN(end, (agno + 1) * ag_units);

		chk_at(c, "group %u", agno);
		if (!c->bad_ag[agno])
			chk_raise(c, CHK_P_SPACE_LOST, "byte %llu, %llu KiB",
				  (unsigned long long)(start << CHK_UNIT_SHIFT),
				  (unsigned long long)(stop - start));
		start = stop;
	}
}

static void count_use(struct chk *c, const struct chk_range *r)
{
	const uint64_t bytes = (r->end - r->start) << CHK_UNIT_SHIFT;

	if (r->use == CHK_FREE)
		c->res->blocks_free += bytes >> c->od.block_shift;
	else
		c->res->blocks_used += bytes >> c->od.block_shift;
	if (r->use == CHK_META)
		c->res->meta_blocks += bytes >> OD_MBLK_SHIFT;
}

/* All space is claimed now: what was not is lost. */
void chk_pass5(struct chk *c)
{
	const uint64_t end = c->od.nr_blocks << (c->od.block_shift - CHK_UNIT_SHIFT);
	uint64_t at = 0;
	struct chk_range *r;

	RB_FOREACH(r, chk_space, &c->space) {
		lost(c, at, r->start);
		count_use(c, r);
		at = r->end;
	}
	lost(c, at, end);
}

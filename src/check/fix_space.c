/* SPDX-License-Identifier: MIT */
/* Repair: trials of one structure, and free blocks for new ones. */
#include "fix.h"

void chk_fix_trial_begin(struct fix *f, struct fix_trial *t)
{
	t->c = *f->c;
	t->opts = *f->c->opts;
	t->opts.out = NULL;
	t->res = (struct chk_result){ 0 };
	t->c.opts = &t->opts;
	t->c.res = &t->res;
	t->c.error = 0;
	t->c.judging = true;
	RB_INIT(&t->c.space);
}

static bool all_clear(struct fix *f, struct fix_trial *t)
{
	struct chk_range *r;

	for (r = chk_range_first(&t->c); r; r = chk_range_next(&t->c, r))
		if (!chk_is_clear(f->c, r->start, r->end))
			return false;
	return true;
}

static void claim_all(struct chk *to, struct fix_trial *t)
{
	struct chk_range *r;
	enum chk_use other;

	for (r = chk_range_first(&t->c); r; r = chk_range_next(&t->c, r))
		chk_claim(to, r->use, r->start, r->end, &other);
}

static void trial_free(struct fix *f, struct fix_trial *t)
{
	if (t->c.error)
		f->c->error = t->c.error;
	chk_space_free(&t->c);
}

void chk_fix_trial_drop(struct fix *f, struct fix_trial *t)
{
	claim_all(&f->avoid, t);
	trial_free(f, t);
}

bool chk_fix_trial_end(struct fix *f, struct fix_trial *t)
{
	if (t->c.error || t->res.found || !all_clear(f, t)) {
		chk_fix_trial_drop(f, t);
		return false;
	}
	claim_all(f->c, t);
	trial_free(f, t);
	return true;
}

void chk_fix_trial_undo(struct fix *f, struct fix_trial *t)
{
	struct chk_range *r;

	for (r = chk_range_first(&t->c); r; r = chk_range_next(&t->c, r))
		chk_release(f->c, r->start, r->end);
	chk_fix_trial_drop(f, t);
}

/* ---- Free blocks ------------------------------------------------------------------------- */

struct search {
	uint64_t from, to; /* units */
	uint64_t len;      /* units, and the alignment */
	bool avoid;        /* stay clear of what old structures hold */
};

/* The first aligned piece of the range that is free; UINT64_MAX: none. */
static uint64_t find_free(struct fix *f, const struct search *s)
{
	uint64_t at = ROUND_UP(s->from, s->len);

	while (at + s->len <= s->to) {
		uint64_t end;

		if (!chk_is_clear(f->c, at, at + s->len))
			end = chk_busy_until(f->c, at, at + s->len);
		else if (s->avoid && !chk_is_clear(&f->avoid, at, at + s->len))
			end = chk_busy_until(&f->avoid, at, at + s->len);
		else
			return at;
		assert(end > at);
		at = ROUND_UP(end, s->len);
	}
	return UINT64_MAX;
}

static uint64_t ag_units(const struct chk *c)
{
	return c->od.ag_blocks << (c->od.block_shift - CHK_UNIT_SHIFT);
}

/* Groups are searched from the cursor on: what was passed is full, or will be looked at last. */
static uint64_t search_all(struct fix *f, uint64_t len, uint32_t agno, bool avoid)
{
	const uint64_t end = f->c->od.nr_blocks << (f->c->od.block_shift - CHK_UNIT_SHIFT);
	struct search s = { .from = f->cursor, .to = end, .len = len, .avoid = avoid };
	uint64_t at;

	if (agno != FIX_ANY_GROUP) {
		s.from = agno * ag_units(f->c);
		s.to = MIN(end, s.from + ag_units(f->c));
		return find_free(f, &s);
	}
	at = find_free(f, &s);
	if (at == UINT64_MAX) {
		s.to = MIN(s.from + len, end);
		s.from = 0;
		at = find_free(f, &s);
	}
	if (at != UINT64_MAX)
		f->cursor = at + len;
	return at;
}

/* Its first unit; 0: none (group 0 begins with its head). */
static uint64_t alloc_units(struct fix *f, uint64_t len, uint32_t agno, enum chk_use use)
{
	uint64_t at = search_all(f, len, agno, true);
	enum chk_use other;

	if (at == UINT64_MAX)
		at = search_all(f, len, agno, false);
	if (at == UINT64_MAX)
		return 0;
	chk_claim(f->c, use, at, at + len, &other);
	return f->c->error ? 0 : at;
}

uint64_t chk_fix_alloc(struct fix *f, uint32_t agno)
{
	return alloc_units(f, CHK_MBLK_UNITS, agno, CHK_META) / CHK_MBLK_UNITS;
}

uint64_t chk_fix_alloc_data(struct fix *f)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;

	return alloc_units(f, 1ull << shift, FIX_ANY_GROUP, CHK_DATA) >> shift;
}

uint64_t chk_fix_alloc_cluster(struct fix *f)
{
	return alloc_units(f, 1ull << (f->c->od.cluster_shift - CHK_UNIT_SHIFT), FIX_ANY_GROUP, CHK_META) /
	       CHK_MBLK_UNITS;
}

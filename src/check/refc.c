/* SPDX-License-Identifier: MIT */
/*
 * Blocks with several owners. Pass 1 gathers what the groups count; pass 2 tells of every extent that
 * touches counted blocks, and of none else, so that a file system that shares nothing costs nothing; then
 * counts and owners are held against each other. The repair gathers owners in the same way, and makes the
 * counts anew from them.
 */
#include <stdlib.h>
#include <string.h>

#include "chk.h"

void chk_refc_add(struct chk *c, const le64_t *rec, struct chk_vec *to)
{
	struct od_refc_val val;
	struct chk_refc r = { .start = le64_get(rec[0]) };

	memcpy(&val, rec + 1, sizeof(val));
	r.len = le32_get(val.len);
	r.refs = le32_get(val.refs);
	chk_vec_push(c, to, &r);
}

static int refc_order(const void *a, const void *b)
{
	const uint64_t x = ((const struct chk_refc *)a)->start;
	const uint64_t y = ((const struct chk_refc *)b)->start;

	return x < y ? -1 : x > y;
}

void chk_refc_sort(struct chk_vec *refcs)
{
	if (refcs->n)
		qsort(refcs->data, refcs->n, sizeof(struct chk_refc), refc_order);
}

const struct chk_refc *chk_refc_after(const struct chk_vec *refcs, uint64_t start)
{
	const struct chk_refc *r = refcs->data;
	size_t lo = 0, hi = refcs->n;

	while (lo < hi) {
		const size_t mid = lo + (hi - lo) / 2;

		if (r[mid].start + r[mid].len > start)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < refcs->n ? &r[lo] : NULL;
}

void chk_owner_add(struct chk *c, struct chk_vec *edges, uint64_t start, uint64_t end)
{
	const struct chk_edge from = { .at = start, .step = 1 }, to = { .at = end, .step = -1 };

	chk_vec_push(c, edges, &from);
	chk_vec_push(c, edges, &to);
}

static int edge_order(const void *a, const void *b)
{
	const uint64_t x = ((const struct chk_edge *)a)->at, y = ((const struct chk_edge *)b)->at;

	return x < y ? -1 : x > y;
}

void chk_owners_runs(struct chk *c, struct chk_vec *edges, struct chk_vec *runs)
{
	const struct chk_edge *e = edges->data;
	uint32_t refs = 0;

	if (edges->n)
		qsort(edges->data, edges->n, sizeof(*e), edge_order);
	for (size_t i = 0; i < edges->n;) {
		const uint64_t at = e[i].at;
		struct chk_refc *last = runs->n ? (struct chk_refc *)runs->data + (runs->n - 1) : NULL;
		const uint32_t before = refs;

		for (; i < edges->n && e[i].at == at; i++)
			refs += (uint32_t)e[i].step;
		/* The run that was open ends here, unless nothing changes. */
		if (last && !last->len) {
			if (refs == before)
				continue;
			last->len = at - last->start;
		}
		if (refs) {
			const struct chk_refc r = { .start = at, .refs = refs };

			chk_vec_push(c, runs, &r);
		}
	}
}

/* ---- Judging --------------------------------------------------------------------------------- */

static void wrong(struct chk *c, uint64_t start, uint64_t len, uint32_t counted, uint32_t found)
{
	chk_at(c, "group %llu", (unsigned long long)(start / c->od.ag_blocks));
	chk_raise(c, CHK_P_REFC_COUNT, "%llu blocks at %llu, %u owners counted, %u found",
		  (unsigned long long)len, (unsigned long long)start, counted, found);
}

/* Blocks of [at, end) with the same number of owners, *refs. *i: the first run that may reach behind at. */
static uint64_t same_owners(const struct chk_vec *runs, size_t *i, uint64_t at, uint64_t end,
			    uint32_t *refs)
{
	const struct chk_refc *run = runs->data;

	while (*i < runs->n && run[*i].start + run[*i].len <= at)
		(*i)++;
	*refs = 0;
	if (*i == runs->n || run[*i].start >= end)
		return end - at;
	if (run[*i].start > at)
		return run[*i].start - at;
	*refs = run[*i].refs;
	return MIN(run[*i].start + run[*i].len, end) - at;
}

void chk_refc_judge(struct chk *c)
{
	const struct chk_refc *r = c->refcs.data;
	struct chk_vec runs;
	size_t at_run = 0;

	chk_vec_init(&runs, sizeof(struct chk_refc));
	chk_owners_runs(c, &c->owners, &runs);
	for (size_t i = 0; i < c->refcs.n && !c->error; i++) {
		const uint64_t end = r[i].start + r[i].len;
		uint64_t n;

		for (uint64_t at = r[i].start; at < end; at += n) {
			uint32_t refs;

			n = same_owners(&runs, &at_run, at, end, &refs);
			if (refs != r[i].refs)
				wrong(c, at, n, r[i].refs, refs);
		}
	}
	chk_vec_free(&runs);
}

bool chk_refc_claim(struct chk *c, uint64_t start, uint64_t len, bool *counted, enum chk_use *other)
{
	const unsigned shift = c->od.block_shift - CHK_UNIT_SHIFT;
	const uint64_t end = start + len;
	bool clear = true;

	*counted = false;
	while (start < end) {
		const struct chk_refc *r = chk_refc_after(&c->refcs, start);
		const bool in = r && r->start <= start;
		const uint64_t stop = !r ? end : MIN(end, in ? r->start + r->len : r->start);
		enum chk_use use;

		if (in) {
			*counted = true;
			chk_owner_add(c, &c->owners, start, stop);
			if (!chk_claim_again(c, CHK_DATA, start << shift, stop << shift, &use)) {
				*other = use;
				clear = false;
			}
		} else if (!chk_claim_fsbs(c, CHK_DATA, start, stop - start, &use)) {
			*other = use;
			clear = false;
		}
		start = stop;
	}
	return clear;
}

/* SPDX-License-Identifier: MIT */
/* The repair's judgement of who may share, where there is much of everything. */
#include <check.h>
#include <time.h>

#include "fix.h"
#include "unit.h"

#define MANY 200000u

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One group whose counts cannot be read: any of its blocks may have several owners. */
static void lost_counts(struct fix *f, struct chk *c, struct chk_result *res)
{
	static const struct chk_opts opts;

	*c = (struct chk){ .opts = &opts, .res = res };
	c->od = (struct od_ctx){ .block_shift = 12, .nr_blocks = 8ull * MANY, .ag_blocks = 8ull * MANY,
				 .nr_ags = 1, .reflink = true };
	RB_INIT(&c->space);
	chk_vec_init(&c->refcs, sizeof(struct chk_refc));
	chk_vec_init(&c->owners, sizeof(struct chk_edge));
	*f = (struct fix){ .c = c, .avoid = *c, .alone = *c };
	RB_INIT(&f->avoid.space);
	RB_INIT(&f->alone.space);
	chk_fix_refc_lost(f, 0);
}

static void end(struct fix *f, struct chk_vec *recs)
{
	chk_vec_free(recs);
	chk_vec_free(&f->c->refcs);
	chk_vec_free(&f->c->owners);
	chk_space_free(f->c);
	chk_space_free(&f->alone);
}

/*
 * Unwritten extents, and as many written ones that claim the same blocks, in an order that has nothing to
 * do with their places. Each looked up in a list of the unwritten ones would be 4 * 10^10
 * comparisons; searched, all of it takes less than a second.
 */
START_TEST(many_unwritten_many_conflicts)
{
	const uint64_t stride = 176777; /* a prime: each place once */
	const double begun = cpu_s();
	struct chk_result res;
	struct chk_vec recs;
	struct fix f;
	struct chk c;
	bool shares = false;
	uint64_t wrong = 0;

	lost_counts(&f, &c, &res);
	/* Counted, for a check of each would take longer than what is measured. */
	for (uint64_t i = 0; i < MANY; i++)
		wrong += !chk_fix_refc_claim(&f, 16 + i * stride % MANY * 4, 2, true, &shares) || shares;
	for (uint64_t i = 0; i < MANY; i++) {
		const uint64_t at = 16 + i * stride % MANY * 4;

		/* Either of its blocks, or both; and what lies between two of them is free, then shared. */
		wrong += chk_fix_refc_claim(&f, at + i % 2, 1 + i % 3 / 2, false, &shares) || shares;
		wrong += !chk_fix_refc_claim(&f, at + 2, 2, false, &shares);
		wrong += !chk_fix_refc_claim(&f, at + 3, 1, false, &shares) || !shares;
		/* A second unwritten owner is none. */
		shares = false;
		wrong += chk_fix_refc_claim(&f, at, 1, true, &shares) || shares;
	}
	ck_assert_uint_eq(wrong, 0);
	chk_vec_init(&recs, 2 * sizeof(le64_t));
	chk_fix_refc_records(&f, 0, &recs);
	ck_assert_int_eq(c.error, 0);
	ck_assert_uint_eq(recs.n, MANY);
	for (uint64_t i = 0; i < MANY; i++) {
		const le64_t *rec = (const le64_t *)recs.data + 2 * i;

		wrong += le64_get(rec[0]) != 16 + 4 * i + 3 || le64_get(rec[1]) != (1 | 2ull << 32);
	}
	ck_assert_uint_eq(wrong, 0);
	end(&f, &recs);
	printf("%u unwritten extents, %u claims: %.2f s\n", MANY, 4 * MANY, cpu_s() - begun);
	ck_assert_msg(cpu_s() - begun < 10, "took %.1f s", cpu_s() - begun);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("refc");
	TCase *tc = tcase_create("refc");

	tcase_set_timeout(tc, 40);
	tcase_add_test(tc, many_unwritten_many_conflicts);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

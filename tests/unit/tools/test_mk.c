/* SPDX-License-Identifier: MIT */
/* Making file systems: geometry over a table of sizes, order of writes, failures. */
#include <string.h>

#include "iomapfs/check.h"
#include "iomapfs/fs.h"
#include "iomapfs/journal.h"
#include "iomapfs/util.h"
#include "mk.h"
#include "unit.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)

static const struct row {
	uint64_t bytes;
	uint32_t nr_ags;  /* 0 = impossible */
	uint64_t ag_bytes;
	uint64_t fs_bytes;
} rows[] = {
	{ 0, 0, 0, 0 },
	{ 16 * MIB - 1, 0, 0, 0 },
	{ 16 * MIB, 2, 8 * MIB, 16 * MIB },
	{ 17 * MIB, 2, 8 * MIB, 16 * MIB },             /* a last group of 1 MiB is dropped */
	{ 18 * MIB, 3, 8 * MIB, 18 * MIB },
	{ 18 * MIB + 65535, 3, 8 * MIB, 18 * MIB },     /* the odd tail too */
	{ 1 * GIB, 4, 256 * MIB, 1 * GIB },
	{ 10 * GIB, 5, 2 * GIB, 10 * GIB },
	{ 64 * GIB, 4, 16 * GIB, 64 * GIB },
	{ 1 * TIB, 16, 64 * GIB, 1 * TIB },
	{ 16 * TIB, 64, 256 * GIB, 16 * TIB },
	{ 1ull << 60, 64, 1ull << 54, 1ull << 60 },
	{ (1ull << 60) + 65536, 0, 0, 0 },
};

START_TEST(geometry)
{
	const struct row *r = &rows[_i];

	for (unsigned shift = OD_BLOCK_SHIFT_MIN; shift <= OD_BLOCK_SHIFT_MAX; shift++) {
		struct mk_geom g = { 0 };
		const char *why = mk_geom_compute(r->bytes, shift, jnl_min_mblks(),
						  jnl_default_mblks(r->bytes), &g);

		ck_assert_msg((why != NULL) == (r->nr_ags == 0), "%s", why);
		if (why)
			continue;
		ck_assert_uint_eq(g.nr_ags, r->nr_ags);
		ck_assert_uint_eq(g.ag_blocks << shift, r->ag_bytes);
		ck_assert_uint_eq(g.nr_blocks << shift, r->fs_bytes);
		ck_assert_uint_ge(g.jnl_len, jnl_min_mblks());
		ck_assert_uint_lt((g.jnl_start + g.jnl_len) << OD_MBLK_SHIFT, r->ag_bytes);
		ck_assert_uint_eq(1u << g.cluster_shift, MAX(1u << shift, OD_CLUSTER_MIN));
	}
}
END_TEST

START_TEST(block_sizes)
{
	struct mk_geom g;

	ck_assert_ptr_nonnull(mk_geom_compute(GIB, 9, 1000, 1000, &g));
	ck_assert_ptr_nonnull(mk_geom_compute(GIB, 17, 1000, 1000, &g));
	/* A journal that asks for more than there is. */
	ck_assert_ptr_nonnull(mk_geom_compute(16 * MIB, 12, 4096, 4096, &g));
	/* One that needs more than half of a small group makes the group larger. */
	ck_assert_ptr_null(mk_geom_compute(32 * MIB, 12, 2048, 2048, &g));
	ck_assert_uint_ge(g.ag_blocks << 12, 16 * MIB);
}
END_TEST

/* Every number of groups up to the end of the second one: no size between is impossible. */
START_TEST(all_small_sizes)
{
	for (uint64_t bytes = 16 * MIB; bytes < 40 * MIB; bytes += 64 << 10) {
		struct mk_geom g;

		ck_assert_ptr_null(mk_geom_compute(bytes, 12, jnl_min_mblks(), jnl_min_mblks(), &g));
		ck_assert_uint_le(g.nr_blocks << 12, bytes);
		ck_assert_uint_gt(g.nr_blocks << 12, bytes - 2 * MIB);
		ck_assert_uint_eq(g.nr_ags, DIV_ROUND_UP(g.nr_blocks, g.ag_blocks));
	}
}
END_TEST

static void check_clean(struct bd *bd)
{
	const struct chk_opts opts = { .readonly = true, .out = stdout };
	struct chk_result res;

	ck_assert_int_eq(chk_run(bd, &opts, &res), 0);
	ck_assert_uint_eq(res.found, 0);
}

/* The primary superblock is gone before anything else changes, and is there last. */
START_TEST(order_of_writes)
{
	const struct bd_trace_rec *recs;
	struct bd *mem, *bd;
	size_t n, first = 0;

	ck_assert_int_eq(bd_mem_create(32 * MIB, 512, &mem), 0);
	ck_assert_int_eq(bd_trace_create(mem, NULL, &bd), 0);
	ck_assert_int_eq(mk_default(bd, 12), 0);
	n = bd_trace_get(bd, &recs);
	ck_assert_uint_gt(n, 6);
	while (recs[first].op == BD_READ)
		first++;
	ck_assert_uint_eq(recs[first].offset, 0);
	ck_assert_int_eq(recs[first + 1].op, BD_FLUSH);
	ck_assert_int_eq(recs[n - 3].op, BD_FLUSH);
	ck_assert_int_eq(recs[n - 2].op, BD_WRITE);
	ck_assert_uint_eq(recs[n - 2].offset, 0);
	ck_assert_uint_eq(recs[n - 2].len, OD_MBLK_SIZE);
	ck_assert_int_eq(recs[n - 1].op, BD_FLUSH);
	check_clean(bd);
	bd_close(bd);
}
END_TEST

/*
 * Without a superblock nothing is mounted: not what a copy tells of the old file system, nor
 * what the copies of the new one, which come before the first, tell of one that is half made.
 */
static void refused(struct bd *mem, uint64_t cut)
{
	struct fs_mount_opts opts = { 0 };
	struct fs_error e = { "" };
	struct fs *fs;
	int err = fs_mount(mem, &opts, &fs, &e);

	ck_assert_msg(err == -EMEDIUMTYPE || err == -EFSCORRUPTED, "cut %u: mount gave %d %s", (unsigned)cut, err, e.text);
}

/* Power fails after any write of a second mkfs: never a mixture that looks sound. */
START_TEST(cut_anywhere)
{
	for (uint64_t cut = 1; ; cut++) {
		const struct chk_opts opts = { .readonly = true, .out = stdout };
		struct chk_result res;
		struct bd *mem, *bd;
		struct sb_info sb;
		int err;

		ck_assert_int_eq(bd_mem_create(72 * MIB, 512, &mem), 0);
		ck_assert_int_eq(mk_default(mem, 12), 0);
		ck_assert_int_eq(bd_crash_create(mem, &bd), 0);
		bd_crash_arm(bd, cut, cut);
		err = mk_default(bd, 10);
		mem = bd_crash_detach(bd);
		if (err) {
			const char *bad = od_sb_decode(bd_mem_base(mem), 0, 0, &sb);

			/* A sound superblock is the old one, of all of the old but a copy, or the new of the new. */
			if (!bad) {
				ck_assert_int_eq(chk_run(mem, &opts, &res), 0);
				ck_assert_msg(res.found <= 1, "cut %u", (unsigned)cut);
			} else {
				refused(mem, cut);
			}
		} else {
			check_clean(mem);
		}
		bd_close(mem);
		if (!err)
			break;
		ck_assert_uint_lt(cut, 100);
	}
}
END_TEST

/* Each write and flush fails once: mkfs says so and leaves nothing that looks sound. */
START_TEST(errors_are_told)
{
	for (uint64_t nth = 0; ; nth++) {
		const struct bd_fault_rule rule = { .op = BD_WRITE, .after = nth, .count = 1,
						    .error = -EIO };
		struct bd *mem, *bd;
		struct sb_info sb;
		int err;

		ck_assert_int_eq(bd_mem_create(16 * MIB, 512, &mem), 0);
		ck_assert_int_eq(bd_fault_create(mem, &bd), 0);
		bd_fault_set(bd, &rule, 1);
		err = mk_default(bd, 12);
		if (err) {
			ck_assert_int_eq(err, -EIO);
			ck_assert_ptr_nonnull(od_sb_decode(bd_mem_base(mem), 0, 0, &sb));
		}
		bd_close(bd);
		if (!err)
			break;
		ck_assert_uint_lt(nth, 100);
	}
}
END_TEST

START_TEST(blocks_are_new)
{
	struct sb_info a, b;
	struct bd *bd;

	ck_assert_int_eq(bd_mem_create(16 * MIB, 512, &bd), 0);
	ck_assert_int_eq(mk_default(bd, 12), 0);
	ck_assert_ptr_null(od_sb_decode(bd_mem_base(bd), 0, 0, &a));
	ck_assert_int_eq(mk_default(bd, 12), 0);
	ck_assert_ptr_null(od_sb_decode(bd_mem_base(bd), 0, 0, &b));
	ck_assert_mem_ne(a.meta_uuid, b.meta_uuid, sizeof(a.meta_uuid));
	ck_assert_mem_ne(a.uuid, b.uuid, sizeof(a.uuid));
	ck_assert_uint_ne(a.hash_seed, b.hash_seed);
	bd_close(bd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mk");
	TCase *tc = tcase_create("mk");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, geometry, 0, (int)ARRAY_SIZE(rows));
	tcase_add_test(tc, block_sizes);
	tcase_add_test(tc, all_small_sizes);
	tcase_add_test(tc, order_of_writes);
	tcase_add_test(tc, cut_anywhere);
	tcase_add_test(tc, errors_are_told);
	tcase_add_test(tc, blocks_are_new);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * The checker: clean file systems are clean over all geometries, and each single fault of
 * a table is found under its own name. Faults are made with sound checksums unless the
 * checksum is the point: what must be found is the contradiction.
 */
#include <string.h>
#include <sys/stat.h>

#include "faults.h"
#include "iomapfs/check.h"
#include "iomapfs/util.h"
#include "mk.h"
#include "unit.h"

/* Run the checker; its output, to be freed. */
static char *run(struct bd *bd, struct chk_result *res, int *err)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const struct chk_opts opts = { .readonly = true, .out = out };

	ck_assert_ptr_nonnull(out);
	*err = chk_run(bd, &opts, res);
	fclose(out);
	return text;
}

static bool has_code(const char *text, const char *code)
{
	char want[48];

	snprintf(want, sizeof(want), "[%s]", code);
	return strstr(text, want) != NULL;
}

START_TEST(fresh_is_clean)
{
	static const uint64_t sizes[] = { 16ull << 20, (17ull << 20) + 12345 * 512, 40ull << 20,
					  100ull << 20, 1ull << 30, 1ull << 40, 16ull << 40 };

	for (unsigned shift = OD_BLOCK_SHIFT_MIN; shift <= OD_BLOCK_SHIFT_MAX; shift++) {
		struct chk_result res;
		struct bd *bd;
		char *text;
		int err;

		ck_assert_int_eq(bd_mem_create(sizes[_i], 512, &bd), 0);
		ck_assert_int_eq(mk_default(bd, shift), 0);
		text = run(bd, &res, &err);
		ck_assert_msg(err == 0 && res.found == 0 && text[0] == '\0', "shift %u: %d, %s", shift,
			      err, text);
		ck_assert_uint_eq(res.inodes, 1);
		ck_assert_uint_eq(res.dirs, 1);
		free(text);
		bd_close(bd);
	}
}
END_TEST

START_TEST(not_ours)
{
	struct chk_result res;
	struct bd *bd;
	int err;

	ck_assert_int_eq(bd_mem_create(16u << 20, 512, &bd), 0);
	free(run(bd, &res, &err));
	ck_assert_int_eq(err, -EMEDIUMTYPE);
	bd_close(bd);
}
END_TEST

START_TEST(everything_is_clean)
{
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert_msg(res.found == 0, "%s", text);
	ck_assert(has_code(text, "ORPHAN-CLEAN"));
	ck_assert_uint_eq(res.inodes, 7);
	ck_assert_uint_eq(res.dirs, 2);
	ck_assert_uint_eq(res.blocks_used + res.blocks_free, im.sb.nr_blocks);
	free(text);
	image_free(&im);
}
END_TEST

START_TEST(fault_is_named)
{
	const struct fault *f = &image_faults[_i];
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	f->make(&im);
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert_msg(has_code(text, f->code) && res.found > 0, "wanted %s, got:\n%s", f->code, text);
	free(text);
	image_free(&im);
}
END_TEST

START_TEST(note_is_told)
{
	const struct fault *f = &image_notes[_i];
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	f->make(&im);
	text = run(im.bd, &res, &err);
	ck_assert_msg(err == 0 && has_code(text, f->code), "wanted %s, got:\n%s", f->code, text);
	free(text);
	image_free(&im);
}
END_TEST

static bool has_recipe(const char *code, const struct fault *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(f[i].code, code) == 0)
			return true;
	return false;
}

/* No problem that no test has ever seen. */
START_TEST(each_problem_has_a_recipe)
{
	const struct chk_problem_info *p;

	for (unsigned i = 0; (p = chk_problem_get(i)); i++) {
		char code[48];

		snprintf(code, sizeof(code), "%s", p->code);
		for (char *s = code; *s; s++)
			if (*s == '_')
				*s = '-';
		/* A block that cannot be read: unreadable_node makes that. */
		ck_assert_msg(has_recipe(code, image_faults, image_nr_faults) ||
				      has_recipe(code, image_notes, image_nr_notes) ||
				      !strcmp(code, "TREE-NODE-READ"),
			      "%s has none", code);
	}
}
END_TEST

START_TEST(unreadable_node)
{
	struct bd_fault_rule rule = { .op = BD_READ, .count = UINT64_MAX, .error = -EIO };
	struct chk_result res;
	struct image im;
	struct bd *fault;
	char *text;
	int err;

	image_build(&im);
	rule.start = im.extent_node << OD_MBLK_SHIFT;
	rule.end = rule.start + OD_MBLK_SIZE;
	ck_assert_int_eq(bd_fault_create(im.bd, &fault), 0);
	bd_fault_set(fault, &rule, 1);
	text = run(fault, &res, &err);
	ck_assert_msg(err == 0 && has_code(text, "TREE-NODE-READ") && res.found > 0, "%d, %s", err, text);
	free(text);
	bd_close(fault);
}
END_TEST

/*
 * Hostile images: any bytes may be anything, with sound checksums. The checker must come
 * to an end without touching what is not its own (the sanitizers watch).
 */
START_TEST(random_damage)
{
	const uint64_t seed = unit_seed(4711) + (uint64_t)_i;
	struct rng rng;

	rng_seed(&rng, seed);
	for (unsigned round = 0; round < 40; round++) {
		struct chk_result res;
		struct image im;
		int err;

		image_build(&im);
		for (unsigned n = 1 + (unsigned)rng_below(&rng, 6); n > 0; n--) {
			const uint64_t blocks[] = { im.root_block, im.dir_block[0], im.dir_block[1],
						    im.map_node, im.hash_node, im.extent_node,
						    im.link_blocks[0], im.attr_blob, im.orphan_node,
						    od_ino_mblk(im.sb.root_ino), OD_AG_HDR_MBLK,
						    le64_get(image_ag(&im, 0)->ino.mblk),
						    le64_get(image_ag(&im, 0)->free_pos.mblk),
						    im.sb.jnl_start, 0 };
			const uint64_t mblk = blocks[rng_below(&rng, ARRAY_SIZE(blocks))];
			uint8_t *at;

			if (mblk >= im.c.dev_mblks) /* an address that was damaged before */
				continue;
			at = image_block(&im, mblk);
			at[48 + rng_below(&rng, 300)] = (uint8_t)rng_u64(&rng);
			image_fix(&im, mblk);
		}
		free(run(im.bd, &res, &err));
		ck_assert_msg(err == 0 || err == -EOPNOTSUPP, "seed %llu: %d",
			      (unsigned long long)seed, err);
		image_free(&im);
	}
}
END_TEST

/* ---- Journal --------------------------------------------------------------------------------- */

START_TEST(log_is_followed)
{
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	image_log(&im, 1, 0, 9, false);
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert(has_code(text, "JNL-REPLAYED"));
	ck_assert_msg(has_code(text, "LINK-COUNT"), "%s", text);
	free(text);

	/* The next transaction takes the image back. */
	image_log(&im, 2, 3, 0, true);
	text = run(im.bd, &res, &err);
	ck_assert_msg(res.found == 0 && has_code(text, "JNL-REPLAYED"), "%s", text);
	free(text);

	/* And one more logs it again. */
	image_log(&im, 3, 5, 4, false);
	text = run(im.bd, &res, &err);
	ck_assert_msg(has_code(text, "LINK-COUNT"), "%s", text);
	free(text);
	image_free(&im);
}
END_TEST

START_TEST(torn_tail_is_ignored)
{
	static const unsigned torn[] = { 0, 1, 2 }; /* descriptor, image, commit */
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	image_log(&im, 1, 0, 9, false);
	((uint8_t *)image_block(&im, im.sb.jnl_start + 1 + torn[_i]))[600] ^= 1;
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert_msg(res.found == 0 && !has_code(text, "JNL-REPLAYED"), "%s", text);
	free(text);
	image_free(&im);
}
END_TEST

START_TEST(problem_table)
{
	unsigned n = 0;

	for (const struct chk_problem_info *p; (p = chk_problem_get(n)); n++) {
		ck_assert_uint_le(p->pass, 5);
		ck_assert_uint_gt(strlen(p->text), 10);
		for (unsigned i = 0; i < n; i++)
			ck_assert_str_ne(p->code, chk_problem_get(i)->code);
	}
	ck_assert_uint_gt(n, 40);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("check");
	TCase *tc = tcase_create("check");

	tcase_set_timeout(tc, 60);
#ifdef __SANITIZE_THREAD__
	/* Its shadow leaves no room for a TiB of address space. */
	tcase_add_loop_test(tc, fresh_is_clean, 0, 5);
#else
	tcase_add_loop_test(tc, fresh_is_clean, 0, 7);
#endif
	tcase_add_test(tc, not_ours);
	tcase_add_test(tc, everything_is_clean);
	tcase_add_loop_test(tc, fault_is_named, 0, (int)image_nr_faults);
	tcase_add_loop_test(tc, note_is_told, 0, (int)image_nr_notes);
	tcase_add_test(tc, each_problem_has_a_recipe);
	tcase_add_test(tc, unreadable_node);
	tcase_add_loop_test(tc, random_damage, 0, 8);
	tcase_add_test(tc, log_is_followed);
	tcase_add_loop_test(tc, torn_tail_is_ignored, 0, 3);
	tcase_add_test(tc, problem_table);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

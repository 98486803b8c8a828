/* SPDX-License-Identifier: MIT */
/* What may share blocks, as a table; and the comparison that a dedupe rests on. */
#include <stdlib.h>
#include <string.h>

#include "toymap.h"
#include "unit.h"

#define KIB 1024u
#define BS  4096u

static const struct row {
	const char *name;
	uint64_t size_in, pos_in, size_out, pos_out, len;
	bool same_file, dedupe;
	int want;
	uint64_t want_len;
} rows[] = {
	{ "whole blocks", 64 * KIB, 0, 64 * KIB, 8 * KIB, 16 * KIB, false, false, 0, 16 * KIB },
	{ "source not aligned", 64 * KIB, 1, 64 * KIB, 0, BS, false, false, -EINVAL, 0 },
	{ "target not aligned", 64 * KIB, 0, 64 * KIB, 512, BS, false, false, -EINVAL, 0 },
	{ "begins behind the source", 8 * KIB, 12 * KIB, 0, 0, BS, false, false, -EINVAL, 0 },
	{ "ends behind the source", 8 * KIB, 4 * KIB, 0, 0, 8 * KIB, false, false, -EINVAL, 0 },
	{ "to the end", 10000, 4 * KIB, 0, 0, 0, false, false, 0, 10000 - 4 * KIB },
	{ "to the end, at the end", 8 * KIB, 8 * KIB, 0, 0, 0, false, false, 0, 0 },
	{ "nothing to dedupe", 8 * KIB, 0, 8 * KIB, 0, 0, false, true, 0, 0 },
	{ "past the largest file", 8 * KIB, 0, 0, (uint64_t)INT64_MAX - BS + 1, 8 * KIB, false, false, -EFBIG, 0 },
	{ "behind the target's end is fine", 8 * KIB, 0, 0, 64 * KIB, 8 * KIB, false, false, 0, 8 * KIB },
	{ "but there is nothing to dedupe", 8 * KIB, 0, 4 * KIB, 0, 8 * KIB, false, true, -EINVAL, 0 },
	{ "overlap in one file", 64 * KIB, 0, 64 * KIB, 4 * KIB, 8 * KIB, true, false, -EINVAL, 0 },
	{ "beside each other in one file", 64 * KIB, 0, 64 * KIB, 8 * KIB, 8 * KIB, true, false, 0, 8 * KIB },
	{ "a part of a block, both end", 5000, 0, 5000, 0, 5000, false, false, 0, 5000 },
	{ "a part of a block, the target goes on", 5000, 0, 8 * KIB, 0, 5000, false, false, -EINVAL, 0 },
	{ "a part of a block, the source goes on", 8 * KIB, 0, 0, 0, 5000, false, false, -EINVAL, 0 },
	{ "dedupe, both end", 5000, 0, 5000, 0, 5000, false, true, 0, 5000 },
	{ "dedupe cuts to whole blocks", 8 * KIB, 0, 8 * KIB, 0, 5000, false, true, 0, 4 * KIB },
};

START_TEST(refusals)
{
	const struct row *r = &rows[_i];
	struct inode a = { .i_blkbits = 12 }, b = { .i_blkbits = 12 };
	uint64_t len = r->len;
	int err;

	i_size_write(&a, r->size_in);
	i_size_write(&b, r->size_out);
	err = iomap_remap_checks(&a, r->pos_in, r->same_file ? &a : &b, r->pos_out, &len, r->dedupe);
	ck_assert_msg(err == r->want, "%s: %d", r->name, err);
	if (!err)
		ck_assert_msg(len == r->want_len, "%s: %llu bytes", r->name, (unsigned long long)len);
}
END_TEST

static bool equal(struct toy *a, uint64_t pos_a, struct toy *b, uint64_t pos_b, uint64_t len)
{
	bool same = false;

	ck_assert_int_eq(iomap_remap_compare(&a->inode, pos_a, &b->inode, pos_b, len, &toy_ops, &same), 0);
	return same;
}

START_TEST(comparison)
{
	static uint8_t buf[256 * KIB];
	const struct toy_params p = { .blkbits = 12, .max_order = 6 };
	struct toy *a = toy_create(&p), *b = toy_create(&p);
	bool same;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(1 + i * 31 % 250);
	ck_assert_int_eq(toy_write(a, 0, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(toy_write(b, BS, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(toy_drop_cache(a), 0);
	ck_assert_int_eq(toy_drop_cache(b), 0);
	ck_assert(equal(a, 0, b, BS, sizeof(buf)));
	ck_assert(!equal(a, 0, b, 0, BS));
	/* One file with itself; the first block of b is a hole, and so is what a never had. */
	ck_assert(equal(a, 8 * KIB, a, 8 * KIB, 64 * KIB));
	ck_assert_int_eq(toy_truncate(a, 300 * KIB), 0);
	ck_assert(equal(b, 0, a, 264 * KIB, BS));
	/* The last byte counts, and a device that cannot be read is no difference. */
	buf[0] = (uint8_t)(buf[sizeof(buf) - 1] + 1);
	ck_assert_int_eq(toy_write(a, sizeof(buf) - 1, buf, 1, 0), 1);
	ck_assert(!equal(a, 0, b, BS, sizeof(buf)));
	ck_assert(equal(a, 0, b, BS, sizeof(buf) - 1));
	ck_assert_int_eq(toy_sync(a), 0);
	ck_assert_int_eq(toy_drop_cache(a), 0);
	atomic_store(&a->fail_read, -EIO);
	ck_assert_int_eq(iomap_remap_compare(&a->inode, 0, &b->inode, BS, BS, &toy_ops, &same), -EIO);
	atomic_store(&a->fail_read, 0);
	toy_destroy(b);
	toy_destroy(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-remap");
	TCase *tc = tcase_create("remap");

	tcase_add_loop_test(tc, refusals, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tc, comparison);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

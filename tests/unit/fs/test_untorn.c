/* SPDX-License-Identifier: MIT */
/* Untorn writes: over everything that a range can hold, both ways; what is refused. Power cuts: tests/crash. */
#include <stdlib.h>
#include <string.h>

#include "filefs.h"

static const unsigned shifts[] = { 10, 12, 14 };

static struct filefs f;
static size_t bs;

static void begin(int i, bool device)
{
	const unsigned shift = shifts[i];

	bs = (size_t)1 << shift;
	filefs_make(&f, 256u << 20, shift, 0xa5);
	if (device) {
		filefs_umount(&f);
		bd_mem_set_atomic_max(f.mem, 1u << 20);
		filefs_mount(&f);
	}
}

static int64_t untorn(struct fs_inode *ip, const void *buf, size_t len, uint64_t pos)
{
	return filefs_pwrite(&f, ip, buf, len, pos, IOCB_DIRECT | IOCB_ATOMIC);
}

START_TEST(limits)
{
	uint32_t min, max, opt;

	begin(_i, false);
	fs_atomic_limits(f.fs, &min, &max, &opt);
	ck_assert_uint_eq(min, bs);
	ck_assert_uint_ge(max, 4 * bs);
	ck_assert(is_pow2(max));
	ck_assert_uint_eq(opt, 0);
	filefs_end(&f);
	begin(_i, true);
	fs_atomic_limits(f.fs, &min, &max, &opt);
	ck_assert_uint_eq(opt, max);
	filefs_end(&f);
}
END_TEST

/* A file whose 16 blocks are: data, hole, unwritten, shared, by turns; every size at every place. */
static void everywhere(void)
{
	struct fs_inode *ip = filefs_create(&f, "a"), *other = filefs_create(&f, "b");
	uint8_t *model = aligned_alloc(4096, 16 * bs), *buf = aligned_alloc(4096, 16 * bs);
	uint8_t *old = malloc(16 * bs);
	uint32_t min, max, opt;
	uint8_t seed = 10;

	fs_atomic_limits(f.fs, &min, &max, &opt);
	filefs_fill(model, 16 * bs, 1);
	ck_assert_int_eq(filefs_pwrite(&f, ip, model, 16 * bs, 0, 0), (int64_t)(16 * bs));
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	for (unsigned i = 0; i < 16; i += 4) {
		ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					      (i + 1) * bs, bs), 0);
		ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_ZERO_RANGE, (i + 2) * bs, bs), 0);
		memset(model + (i + 1) * bs, 0, 2 * bs);
		ck_assert_int_eq(fs_clone_range(&f.ctx, ip, (i + 3) * bs, other, (i + 3) * bs, bs), 0);
	}
	memcpy(old, model, 16 * bs);
	for (size_t len = bs; len <= MIN(max, 16 * bs); len *= 2) {
		for (uint64_t pos = 0; pos < 16 * bs; pos += len) {
			filefs_fill(buf, len, seed++);
			ck_assert_int_eq(untorn(ip, buf, len, pos), (int64_t)len);
			memcpy(model + pos, buf, len);
			filefs_expect(&f, ip, 0, model, 16 * bs, 0);
		}
	}
	for (unsigned i = 3; i < 16; i += 4)
		filefs_expect(&f, other, i * bs, old + i * bs, bs, 0);
	/* And growing: at the end, and behind a gap. */
	ck_assert_int_eq(untorn(ip, buf, bs, 16 * bs), (int64_t)bs);
	ck_assert_int_eq(untorn(ip, buf, bs, 20 * bs), (int64_t)bs);
	ck_assert_uint_eq(filefs_size(&f, ip), 21 * bs);
	filefs_expect(&f, ip, 20 * bs, buf, bs, 0);
	fs_iput(ip);
	fs_iput(other);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "a");
	filefs_expect(&f, ip, 0, model, 16 * bs, 0);
	fs_iput(ip);
	free(old);
	free(buf);
	free(model);
}

START_TEST(by_replacement)
{
	begin(_i, false);
	everywhere();
	filefs_end(&f);
}
END_TEST

START_TEST(by_device)
{
	begin(_i, true);
	everywhere();
	filefs_end(&f);
}
END_TEST

START_TEST(refused)
{
	struct fs_inode *ip;
	uint8_t *buf;
	uint32_t min, max, opt;

	begin(_i, false);
	fs_atomic_limits(f.fs, &min, &max, &opt);
	buf = aligned_alloc(4096, 4 * max);
	filefs_fill(buf, 4 * max, 1);
	ip = filefs_create(&f, "a");
	ck_assert_int_eq(untorn(ip, buf, bs / 2, 0), -EINVAL);
	ck_assert_int_eq(untorn(ip, buf, 2 * max, 0), -EINVAL);
	ck_assert_int_eq(untorn(ip, buf, 3 * bs, 0), -EINVAL);
	ck_assert_int_eq(untorn(ip, buf, 2 * bs, bs), -EINVAL);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, bs, 0, IOCB_ATOMIC), -EOPNOTSUPP);
	ck_assert_uint_eq(filefs_size(&f, ip), 0);
	/* A file of a few bytes moves out of its inode first. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 10, 0, 0), 10);
	ck_assert_int_eq(untorn(ip, buf + bs, bs, bs), (int64_t)bs);
	filefs_expect(&f, ip, 0, buf, 10, 0);
	filefs_expect(&f, ip, bs, buf + bs, bs, 0);
	fs_iput(ip);
	free(buf);
	filefs_end(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("untorn");
	TCase *tc = tcase_create("untorn");
	const int n = ARRAY_SIZE(shifts);

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, limits, 0, n);
	tcase_add_loop_test(tc, by_replacement, 0, n);
	tcase_add_loop_test(tc, by_device, 0, n);
	tcase_add_loop_test(tc, refused, 0, n);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * Untorn writes: over everything that a range can hold, both ways; what is refused; power cuts in those that
 * the device does. Power cuts in all: tests/crash/untorn.c.
 */
#include <errno.h>
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

/* ---- Power cuts in the device's own --------------------------------------------------------- */

#define CUTS_MAX 32u /* device writes of one untorn write and its fsync, at most */

/* Three times max, data or unwritten, the second max lying where the device wants an untorn write. */
static void aligned_file(const char *name, uint64_t max, const uint8_t *data)
{
	struct fs_inode *ip = filefs_create(&f, name);
	struct fiemap_extent e;
	uint64_t off;

	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, 4 * max), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, &e, 1), 1);
	off = e.fe_physical % max;
	if (off)
		ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_COLLAPSE_RANGE, 0, max - off), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, &e, 1), 1);
	ck_assert(e.fe_physical % max == 0 && e.fe_length >= 3 * max);
	ck_assert_int_eq(filefs_truncate(&f, ip, 3 * max), 0);
	if (data)
		ck_assert_int_eq(filefs_pwrite(&f, ip, data, 3 * max, 0, 0), (int64_t)(3 * max));
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	fs_iput(ip);
}

/* len bytes at pos by the device, and the power gone right after so many writes of its; false: it was not. */
static bool cut_one(const char *name, const uint8_t *buf, size_t len, uint64_t pos, uint64_t writes,
		    uint64_t seed)
{
	const struct bd_trace_rec *r;
	struct bd *crash, *trace;
	struct fs_inode *ip;
	uint64_t last;
	bool cut;

	ck_assert_int_eq(bd_crash_create(filefs_passthrough(f.mem), &crash), 0);
	ck_assert_int_eq(bd_trace_create(crash, NULL, &trace), 0);
	f.top = trace;
	filefs_mount(&f);
	ip = filefs_lookup(&f, name);
	bd_trace_reset(trace);
	last = bd_crash_nr_writes(crash) + writes;
	bd_crash_arm(crash, last, seed + writes * 31 + len);
	ck_assert_int_eq(untorn(ip, buf, len, pos), (int64_t)len);
	ck_assert_uint_ge(bd_trace_get(trace, &r), 1);
	ck_assert(r[0].op == BD_WRITE && (r[0].flags & BD_ATOMIC) && r[0].len == len);
	(void)filefs_sync_file(&f, ip, false);
	cut = bd_crash_nr_writes(crash) >= last;
	bd_crash_arm(crash, 0, 0);
	fs_iput(ip);
	fs_iput(f.root);
	ck_assert_int_eq(fs_unmount(f.fs), cut ? -EIO : 0);
	f.top = NULL;
	filefs_mount(&f);
	return cut;
}

/* All new? Else all is as it was. */
static bool is_new(const char *name, const uint8_t *old, uint64_t size, const uint8_t *buf, size_t len,
		   uint64_t pos)
{
	struct fs_inode *ip = filefs_lookup(&f, name);
	uint8_t *got = malloc(size);
	bool res;

	ck_assert_uint_eq(filefs_size(&f, ip), size);
	ck_assert_int_eq(filefs_pread(&f, ip, got, size, 0, 0), (int64_t)size);
	ck_assert_mem_eq(got, old, pos);
	ck_assert_mem_eq(got + pos + len, old + pos + len, size - pos - len);
	res = memcmp(got + pos, buf, len) == 0;
	if (!res)
		ck_assert_mem_eq(got + pos, old + pos, len);
	fs_iput(ip);
	free(got);
	return res;
}

/* Every size, after every write of the device; over what is unwritten, in a file for each. */
static void under_cuts(bool unwritten)
{
	const uint64_t seed = unit_seed(1);
	unsigned kept = 0, lost = 0;
	uint32_t min, max, opt;
	uint8_t *old, *buf;

	fs_atomic_limits(f.fs, &min, &max, &opt);
	ck_assert_uint_eq(opt, max);
	old = calloc(3, max);
	buf = aligned_alloc(4096, max);
	if (!unwritten) {
		filefs_fill(old, 3 * max, 1);
		aligned_file("data", max, old);
	}
	for (size_t len = bs; len <= max; len *= 2) {
		bool cut = true;

		for (unsigned n = 1; cut; n++) {
			char name[32] = "data";
			bool now;

			ck_assert_uint_lt(n, CUTS_MAX);
			if (unwritten) {
				snprintf(name, sizeof(name), "u%zu-%u", len, n);
				aligned_file(name, max, NULL);
			}
			filefs_umount(&f);
			filefs_fill(buf, len, (uint8_t)(100 + n));
			cut = cut_one(name, buf, len, max, n, seed);
			now = is_new(name, old, 3 * max, buf, len, max);
			ck_assert(now || cut);
			kept += cut && now;
			lost += !now;
			if (now && !unwritten)
				memcpy(old + max, buf, len);
		}
	}
	ck_assert(kept > 0 && lost > 0);
	free(old);
	free(buf);
}

/* Loop: over data, over unwritten blocks. */
START_TEST(by_device_under_cuts)
{
	begin(1, true);
	under_cuts(_i);
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
	tcase_add_loop_test(tc, by_device_under_cuts, 0, 2);
	tcase_add_loop_test(tc, refused, 0, n);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * What reaches the device, and how much at a time. (An overwrite with O_DSYNC: test_sync.c. That delayed
 * allocation never gets there: an address of it would be all ones, which none of these requests has.)
 */
#include <stdlib.h>
#include <string.h>

#include "filefs.h"

static struct filefs f;
static struct bd *trace;

static void begin(uint64_t bytes, uint64_t memory)
{
	filefs_make(&f, bytes, 12, 0);
	filefs_umount(&f);
	ck_assert_int_eq(bd_trace_create(filefs_passthrough(f.mem), NULL, &trace), 0);
	f.top = trace;
	f.opts.memory_bytes = memory;
	filefs_mount(&f);
}

/* Data requests of the trace: their number, bytes, and the longest. */
struct sums {
	uint64_t nr, bytes, longest;
};

static struct sums data_writes(void)
{
	const struct bd_trace_rec *r;
	const size_t n = bd_trace_get(trace, &r);
	struct sums s = { 0 };

	for (size_t i = 0; i < n; i++) {
		if (r[i].op != BD_WRITE || (r[i].flags & BD_META))
			continue;
		ck_assert_uint_le(r[i].offset + r[i].len, f.mem->info.size);
		s.nr++;
		s.bytes += r[i].len;
		s.longest = MAX(s.longest, r[i].len);
	}
	return s;
}

START_TEST(one_dirty_block_of_a_large_folio)
{
	const size_t len = 64 * 4096;
	uint8_t *buf = aligned_alloc(4096, len);
	struct fs_inode *ip;
	struct folio *folio;
	struct sums s;

	begin(64u << 20, 0);
	ip = filefs_create(&f, "a");
	filefs_fill(buf, len, 1);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, len, 0, 0), (int64_t)len);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_int_eq(filemap_get_folio(&fs_vfs_inode(ip)->i_mapping, 0, 0, 0, &folio), 0);
	ck_assert_uint_eq(folio_size(folio), len);
	folio_put(folio);
	bd_trace_reset(trace);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 100, 17 * 4096 + 5, 0), 100);
	ck_assert_int_eq(filefs_sync_file(&f, ip, true), 0);
	s = data_writes();
	ck_assert_uint_eq(s.nr, 1);
	ck_assert_uint_eq(s.bytes, 4096);
	fs_iput(ip);
	filefs_end(&f);
	free(buf);
}
END_TEST

/* A gigabyte, with memory for a sixteenth of it: a handful of extents, and requests of the largest size. */
START_TEST(sequential_write)
{
	const uint64_t total = 1ull << 30;
	const size_t piece = 1u << 20;
	uint8_t *buf = aligned_alloc(4096, piece);
	struct fiemap_extent e[32];
	struct fs_inode *ip;
	struct sums s;
	unsigned n;

	begin(total + (256u << 20), 64u << 20);
	ip = filefs_create(&f, "a");
	filefs_fill(buf, piece, 1);
	bd_trace_reset(trace);
	for (uint64_t at = 0; at < total; at += piece)
		ck_assert_int_eq(filefs_pwrite(&f, ip, buf, piece, at, 0), (int64_t)piece);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	s = data_writes();
	n = filefs_fiemap(&f, ip, 0, e, 32);
	printf("%u extents, %llu requests, %llu bytes on average, %llu at most\n", n,
	       (unsigned long long)s.nr, (unsigned long long)(s.bytes / s.nr), (unsigned long long)s.longest);
	ck_assert_uint_eq(s.bytes, total);
	ck_assert_uint_le(n, 12);
	/* Nearly all are as long as the device takes them: the ends of what is written back at once are not. */
	ck_assert_uint_ge(s.bytes / s.nr, s.longest * 3 / 4);
	ck_assert_uint_ge(s.longest, 1u << 20);
	fs_iput(ip);
	filefs_end(&f);
	free(buf);
}
END_TEST

/* A file of len bytes on the device, nothing of it in memory, and the trace empty. */
static struct fs_inode *cold_file(uint8_t *buf, size_t len)
{
	struct fs_inode *ip = filefs_create(&f, "a");

	filefs_fill(buf, len, 1);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, len, 0, 0), (int64_t)len);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	filefs_drop_caches(&f);
	bd_trace_reset(trace);
	return ip;
}

static uint64_t data_bytes_read(void)
{
	const struct bd_trace_rec *r;
	const size_t n = bd_trace_get(trace, &r);
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += r[i].op == BD_READ && !(r[i].flags & BD_META) ? r[i].len : 0;
	return bytes;
}

static uint64_t cached_bytes(void)
{
	struct fs_stats st;

	fs_get_stats(f.fs, &st);
	return st.folio.cached_bytes;
}

/* Small reads in order, none of which ends where a folio does: each byte leaves the device once, and memory. */
START_TEST(small_dontcache_reads)
{
	const size_t len = (1u << 20) + 1234, piece = 1000;
	uint8_t *buf = malloc(len), back[1000];
	struct fs_inode *ip;

	begin(64u << 20, 0);
	ip = cold_file(buf, len);
	for (size_t at = 0; at < len; at += piece) {
		const size_t n = MIN(piece, len - at);

		ck_assert_int_eq(filefs_pread(&f, ip, back, piece, at, IOCB_DONTCACHE), (int64_t)n);
		ck_assert_mem_eq(back, buf + at, n);
	}
	ck_assert_uint_eq(data_bytes_read(), ROUND_UP(len, 4096));
	ck_assert_uint_eq(cached_bytes(), 0);
	fs_iput(ip);
	filefs_end(&f);
	free(buf);
}
END_TEST

/* Who reads a piece here and a piece there has at most the one folio in memory that he might go on with. */
START_TEST(scattered_dontcache_reads)
{
	const size_t len = 1u << 20, block = 4096;
	uint8_t *buf = malloc(len), back[100];
	struct fs_inode *ip;
	struct rng r;

	begin(64u << 20, 0);
	ip = cold_file(buf, len);
	rng_seed(&r, unit_seed(6));
	for (unsigned i = 0; i < 300; i++) {
		const size_t at = rng_below(&r, len / block) * block + 1 + rng_below(&r, 3000);

		ck_assert_int_eq(filefs_pread(&f, ip, back, sizeof(back), at, IOCB_DONTCACHE), sizeof(back));
		ck_assert_mem_eq(back, buf + at, sizeof(back));
		ck_assert_uint_le(cached_bytes(), block);
	}
	/* The end of the file is the end of its folio. */
	ck_assert_int_eq(filefs_pread(&f, ip, back, sizeof(back), len - 10, IOCB_DONTCACHE), 10);
	ck_assert_uint_eq(cached_bytes(), 0);
	/* What somebody else uses meanwhile is his. */
	ck_assert_int_eq(filefs_pread(&f, ip, back, 10, 5000, IOCB_DONTCACHE), 10);
	ck_assert_int_eq(filefs_pread(&f, ip, back, 10, 5010, 0), 10);
	ck_assert_int_eq(filefs_pread(&f, ip, back, sizeof(back), 90000, IOCB_DONTCACHE), sizeof(back));
	ck_assert_int_eq(filefs_pread(&f, ip, back, sizeof(back), len - 10, IOCB_DONTCACHE), 10);
	ck_assert_uint_ge(cached_bytes(), block);
	fs_iput(ip);
	filefs_end(&f);
	free(buf);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace");
	TCase *tc = tcase_create("trace");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, one_dirty_block_of_a_large_folio);
	tcase_add_test(tc, sequential_write);
	tcase_add_test(tc, small_dontcache_reads);
	tcase_add_test(tc, scattered_dontcache_reads);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

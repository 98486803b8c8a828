/* SPDX-License-Identifier: MIT */
/* File contents, one behaviour at a time, for several block sizes. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "filefs.h"

static const unsigned shifts[] = { 10, 12, 16 };
#define NR_SHIFTS ((int)ARRAY_SIZE(shifts))
#define DEV_BYTES (96ull << 20)

static void expect_byte(struct filefs *f, struct fs_inode *ip, uint64_t pos, size_t len,
			uint8_t want)
{
	uint8_t *buf = malloc(len);

	memset(buf, want, len);
	filefs_expect(f, ip, pos, buf, len, 0);
	free(buf);
}

START_TEST(write_read_remount)
{
	static uint8_t data[300000];
	struct fs_inode *ip;
	struct filefs f;

	filefs_fill(data, sizeof(data), 3);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "a");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, 0), sizeof(data));
	filefs_expect(&f, ip, 0, data, sizeof(data), 0);
	ck_assert_uint_eq(filefs_size(&f, ip), sizeof(data));
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	fs_iput(ip);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "a");
	ck_assert_ptr_nonnull(ip);
	ck_assert_uint_eq(filefs_size(&f, ip), sizeof(data));
	filefs_expect(&f, ip, 0, data, sizeof(data), 0);
	/* Past the end nothing is read. */
	ck_assert_int_eq(filefs_pread(&f, ip, data, 10, sizeof(data), 0), 0);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

START_TEST(inline_grows_out)
{
	uint8_t data[5000];
	struct fiemap_extent fe[4];
	struct fs_inode *ip;
	struct filefs f;

	filefs_fill(data, sizeof(data), 9);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "t");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, 100, 0, 0), 100);
	ck_assert_int_eq(filefs_pwrite(&f, ip, data + 100, 150, 100, 0), 150);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, fe, 4), 1);
	ck_assert(fe[0].fe_flags & FIEMAP_EXTENT_DATA_INLINE);
	fs_iput(ip);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "t");
	filefs_expect(&f, ip, 0, data, 250, 0);
	filefs_expect(&f, ip, 0, data, 250, IOCB_DIRECT);
	/* Out of the inode, in memory first: no device, no journal. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, data + 250, 4000, 250, 0), 4000);
	filefs_expect(&f, ip, 0, data, 4250, 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, fe, 4), 1);
	ck_assert(fe[0].fe_flags & FIEMAP_EXTENT_DELALLOC);
	fs_iput(ip);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "t");
	ck_assert_uint_eq(filefs_size(&f, ip), 4250);
	filefs_expect(&f, ip, 0, data, 4250, 0);
	ck_assert_uint_ge(filefs_fiemap(&f, ip, 0, fe, 4), 1);
	ck_assert(!(fe[0].fe_flags & (FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_DELALLOC)));
	/* Back to nothing, and small again. */
	ck_assert_int_eq(filefs_truncate(&f, ip, 0), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, 33, 7, 0), 33);
	expect_byte(&f, ip, 0, 7, 0);
	filefs_expect(&f, ip, 7, data, 33, 0);
	ck_assert_int_eq(filefs_truncate(&f, ip, 20), 0);
	ck_assert_int_eq(filefs_truncate(&f, ip, 60), 0);
	filefs_expect(&f, ip, 7, data, 13, 0);
	expect_byte(&f, ip, 20, 40, 0);
	ck_assert_int_eq(filefs_truncate(&f, ip, 100000), 0);
	filefs_expect(&f, ip, 7, data, 13, 0);
	expect_byte(&f, ip, 20, 99980, 0);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* Many writers by turns: what delayed allocation is for. */
START_TEST(interleaved_writers)
{
	enum { FILES = 100, PIECES = 24 };
	struct fs_inode *ip[FILES];
	struct fs_file *file[FILES];
	struct fiemap_extent fe[64];
	uint8_t buf[4096];
	unsigned n, worst = 0;
	char name[16];
	struct filefs f;

	filefs_make(&f, DEV_BYTES, shifts[_i], 0);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ip[i] = filefs_create(&f, name);
		ck_assert_int_eq(fs_open(&f.ctx, ip[i], O_RDWR, &file[i]), 0);
	}
	for (int p = 0; p < PIECES; p++) {
		for (int i = 0; i < FILES; i++) {
			memset(buf, i + p, sizeof(buf));
			ck_assert_int_eq(filefs_pwrite(&f, ip[i], buf, 4096, p * 4096ull, 0), 4096);
		}
	}
	ck_assert_uint_ge(filefs_fiemap(&f, ip[5], 0, fe, 64), 1);
	ck_assert(fe[0].fe_flags & FIEMAP_EXTENT_DELALLOC);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	for (int i = 0; i < FILES; i++) {
		n = filefs_fiemap(&f, ip[i], 0, fe, 64);
		worst = MAX(worst, n);
		ck_assert(!(fe[0].fe_flags & (FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNWRITTEN)));
		for (int p = 0; p < PIECES; p += 5)
			expect_byte(&f, ip[i], p * 4096ull, 4096, (uint8_t)(i + p));
	}
	printf("worst file: %u extents\n", worst);
	ck_assert_uint_le(worst, 4);
	for (int i = 0; i < FILES; i++) {
		fs_release(file[i]);
		fs_iput(ip[i]);
	}
	filefs_end(&f);
}
END_TEST

/* Promises past EOF go with the last writer; nothing of them is readable or left. */
START_TEST(speculation_is_given_back)
{
	static uint8_t buf[128 << 10];
	struct fs_file *file;
	struct fs_attr a;
	struct fs_inode *ip;
	uint64_t before;
	struct filefs f;

	memset(buf, 0x5c, sizeof(buf));
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	before = filefs_free_blocks(&f);
	ip = filefs_create(&f, "grow");
	ck_assert_int_eq(fs_open(&f.ctx, ip, O_WRONLY, &file), 0);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_int_eq(filefs_pwrite(&f, ip, buf, sizeof(buf), i * sizeof(buf), 0),
				 sizeof(buf));
	ck_assert_int_eq(fs_getattr(&f.ctx, ip, &a), 0);
	ck_assert_uint_gt(a.blocks, (8 * sizeof(buf)) / 512);
	ck_assert_int_eq(fs_fsync(&f.ctx, file, false), 0);
	fs_release(file);
	ck_assert_int_eq(fs_quiesce(f.fs), 0);
	ck_assert_int_eq(fs_getattr(&f.ctx, ip, &a), 0);
	ck_assert_uint_eq(a.blocks, (8 * sizeof(buf)) / 512);
	ck_assert_int_eq(filefs_truncate(&f, ip, 9 * sizeof(buf)), 0);
	expect_byte(&f, ip, 8 * sizeof(buf), sizeof(buf), 0);
	fs_iput(ip);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "grow", 4), 0);
	ck_assert_uint_eq(filefs_free_blocks(&f), before);
	filefs_end(&f);
}
END_TEST

/* A file that grows over its speculation without writing it has a hole there, for direct I/O as well. */
START_TEST(growing_over_speculation)
{
	static uint8_t buf[128 << 10];
	struct fs_file *file;
	struct fs_inode *ip;
	struct filefs f;

	memset(buf, 0x5c, sizeof(buf));
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	for (unsigned how = 0; how < 3; how++) {
		const uint64_t far = (1 << 20) + 66 * 1024;
		char name[2] = { (char)('a' + how), 0 };

		ip = filefs_create(&f, name);
		ck_assert_int_eq(fs_open(&f.ctx, ip, O_WRONLY, &file), 0);
		for (unsigned i = 0; i < 8; i++)
			ck_assert_int_eq(filefs_pwrite(&f, ip, buf, sizeof(buf), i * sizeof(buf), 0),
					 sizeof(buf));
		if (how == 0)
			ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 7, far, 0), 7);
		else if (how == 1)
			ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 512, far, IOCB_DIRECT), 512);
		else
			ck_assert_int_eq(filefs_truncate(&f, ip, far), 0);
		memset(buf, 0, sizeof(buf));
		filefs_expect(&f, ip, 1 << 20, buf, 64 << 10, IOCB_DIRECT);
		filefs_expect(&f, ip, 1 << 20, buf, 66 << 10, 0);
		memset(buf, 0x5c, sizeof(buf));
		fs_release(file);
		fs_iput(ip);
	}
	filefs_end(&f);
}
END_TEST

/* ENOSPC comes from write(), never later; what was accepted is there; deletion gives all back. */
START_TEST(full_device)
{
	static uint8_t buf[64 << 10], got[64 << 10];
	uint64_t before, total = 0, pos = 0;
	struct fs_inode *ip;
	int64_t n;
	struct filefs f;

	filefs_make(&f, 24ull << 20, shifts[_i], 0xaa);
	before = filefs_free_blocks(&f);
	ip = filefs_create(&f, "fill");
	for (;;) {
		memset(buf, (int)(pos >> 16) % 100 + 1, sizeof(buf));
		n = filefs_pwrite(&f, ip, buf, sizeof(buf), pos, 0);
		if (n < 0)
			break;
		pos += (uint64_t)n;
		total++;
		if (n < (int64_t)sizeof(buf))
			continue;
		ck_assert_uint_lt(total, 1000);
	}
	ck_assert_int_eq(n, -ENOSPC);
	ck_assert_uint_gt(pos, 8ull << 20);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_uint_eq(filefs_size(&f, ip), pos);
	/* Overwriting needs no space. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, "x", 1, 5, 0), 1);
	fs_iput(ip);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "fill");
	ck_assert_uint_eq(filefs_size(&f, ip), pos);
	for (uint64_t at = 65536; at + 65536 <= pos; at += 65536) {
		ck_assert_int_eq(filefs_pread(&f, ip, got, sizeof(got), at, 0), sizeof(got));
		ck_assert_uint_ne(got[0], 0xaa);
		ck_assert_uint_eq(got[100], got[60000]);
	}
	fs_iput(ip);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "fill", 4), 0);
	ck_assert_uint_eq(filefs_free_blocks(&f), before);
	filefs_end(&f);
}
END_TEST

START_TEST(truncate_shows_zeros)
{
	static uint8_t buf[200000];
	struct fs_inode *ip;
	struct filefs f;

	memset(buf, 0xff, sizeof(buf));
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "t");
	for (int synced = 0; synced < 2; synced++) {
		ck_assert_int_eq(filefs_pwrite(&f, ip, buf, sizeof(buf), 0, 0), sizeof(buf));
		if (synced)
			ck_assert_int_eq(filefs_sync_file(&f, ip, true), 0);
		ck_assert_int_eq(filefs_truncate(&f, ip, 70001), 0);
		ck_assert_int_eq(filefs_truncate(&f, ip, 150000), 0);
		expect_byte(&f, ip, 70000, 1, 0xff);
		expect_byte(&f, ip, 70001, 79999, 0);
		/* A write far beyond EOF leaves zeros between. */
		ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 10, 300000, 0), 10);
		expect_byte(&f, ip, 150000, 150000, 0);
		ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
		filefs_drop_caches(&f);
		expect_byte(&f, ip, 70001, 229999, 0);
		expect_byte(&f, ip, 0, 70001, 0xff);
		ck_assert_int_eq(filefs_truncate(&f, ip, 0), 0);
		ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, NULL, 0), 0);
	}
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

START_TEST(fallocate_modes)
{
	static uint8_t buf[1 << 20];
	struct fiemap_extent fe[16];
	const uint64_t bs = 1ull << shifts[_i];
	struct fs_inode *ip;
	unsigned n;
	struct filefs f;

	memset(buf, 0x77, sizeof(buf));
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "p");
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, 1 << 20), 0);
	ck_assert_uint_eq(filefs_size(&f, ip), 1 << 20);
	n = filefs_fiemap(&f, ip, 0, fe, 16);
	ck_assert_uint_ge(n, 1);
	ck_assert(fe[0].fe_flags & FIEMAP_EXTENT_UNWRITTEN);
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, 0, SEEK_DATA), -ENXIO);
	/* Dirty data over unwritten blocks is data. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 100, 5 * bs, 0), 100);
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, 0, SEEK_DATA), (int64_t)(5 * bs));
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 1 << 20, 0, 0), 1 << 20);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      bs + 5, 6 * bs), 0);
	expect_byte(&f, ip, 0, bs + 5, 0x77);
	expect_byte(&f, ip, bs + 5, 6 * bs, 0);
	expect_byte(&f, ip, 7 * bs + 5, bs, 0x77);
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, 0, SEEK_HOLE), (int64_t)(2 * bs));
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, (int64_t)(2 * bs), SEEK_DATA), (int64_t)(7 * bs));
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_ZERO_RANGE, 9 * bs + 1, bs * 3), 0);
	expect_byte(&f, ip, 9 * bs + 1, bs * 3, 0);
	expect_byte(&f, ip, 12 * bs + 1, 10, 0x77);
	/* Beyond EOF with KEEP_SIZE: kept at close, unreadable, freed by truncate. */
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20), 0);
	ck_assert_uint_eq(filefs_size(&f, ip), 1 << 20);
	n = filefs_fiemap(&f, ip, 0, fe, 16);
	ck_assert_uint_eq(fe[n - 1].fe_logical + fe[n - 1].fe_length, 2 << 20);
	ck_assert_int_eq(filefs_truncate(&f, ip, 1 << 20), 0);
	n = filefs_fiemap(&f, ip, 0, fe, 16);
	ck_assert_uint_eq(fe[n - 1].fe_logical + fe[n - 1].fe_length, 1 << 20);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0x80, 0, 10), -EOPNOTSUPP);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, 0), -EINVAL);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 1ull << 62, 1ull << 63), -EFBIG);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* Neither a write nor a read that asks for it leaves anything in memory; what others use stays. */
START_TEST(dontcache)
{
	static uint8_t data[300000], back[300000];
	struct fs_inode *ip;
	struct fs_stats st;
	struct filefs f;

	filefs_fill(data, sizeof(data), 9);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "d");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, IOCB_DONTCACHE), sizeof(data));
	/* Its writeback has begun without being asked for. */
	for (int i = 0; i < 5000; i++) {
		fs_get_stats(f.fs, &st);
		if (st.folio.cached_bytes == 0)
			break;
		usleep(1000);
	}
	ck_assert_uint_eq(st.folio.cached_bytes, 0);
	ck_assert_int_eq(filefs_pread(&f, ip, back, sizeof(back), 0, IOCB_DONTCACHE), sizeof(back));
	ck_assert_mem_eq(back, data, sizeof(data));
	fs_get_stats(f.fs, &st);
	ck_assert_uint_eq(st.folio.cached_bytes, 0);
	filefs_expect(&f, ip, 0, data, sizeof(data), 0);
	ck_assert_int_eq(filefs_pread(&f, ip, back, sizeof(back), 0, IOCB_DONTCACHE), sizeof(back));
	fs_get_stats(f.fs, &st);
	ck_assert_uint_ge(st.folio.cached_bytes, sizeof(data));
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* Thousands of extents: list to tree, and all of it back. */
START_TEST(many_extents)
{
	enum { N = 3000 };
	const uint64_t bs = 1ull << shifts[_i];
	struct fiemap_extent *fe = calloc(N + 1, sizeof(*fe));
	uint64_t before;
	struct fs_inode *ip;
	uint8_t buf[64];
	struct filefs f;

	filefs_make(&f, shifts[_i] == 16 ? 512ull << 20 : DEV_BYTES, shifts[_i], 0xaa);
	before = filefs_free_blocks(&f);
	ip = filefs_create(&f, "m");
	for (unsigned i = 0; i < N; i++) {
		memset(buf, (int)i, sizeof(buf));
		ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 64, 2 * bs * i + 17, 0), 64);
	}
	ck_assert_int_eq(filefs_sync_file(&f, ip, true), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, fe, N + 1), N);
	for (unsigned i = 0; i < N; i++)
		ck_assert_uint_eq(fe[i].fe_logical, 2 * bs * i);
	fs_iput(ip);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "m");
	for (unsigned i = 0; i < N; i += 97)
		expect_byte(&f, ip, 2 * bs * i + 17, 64, (uint8_t)i);
	expect_byte(&f, ip, 2 * bs * 100 + 17 + 64, bs, 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      2 * bs * 10, 2 * bs * (N - 20)), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, NULL, 0), 20);
	ck_assert_int_eq(filefs_truncate(&f, ip, 2 * bs * 5), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, NULL, 0), 5);
	fs_iput(ip);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "m", 1), 0);
	ck_assert_uint_eq(filefs_free_blocks(&f), before);
	filefs_end(&f);
	free(fe);
}
END_TEST

START_TEST(direct_io)
{
	const uint64_t bs = 1ull << shifts[_i];
	uint8_t *buf = aligned_alloc(4096, 1 << 20);
	struct fs_inode *ip;
	struct filefs f;

	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "d");
	filefs_fill(buf, 1 << 20, 1);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 1 << 20, 0, IOCB_DIRECT), 1 << 20);
	filefs_expect(&f, ip, 0, buf, 1 << 20, IOCB_DIRECT);
	filefs_expect(&f, ip, 0, buf, 1 << 20, 0);
	/* Coherent with the cache in both directions. */
	memset(buf + 8192, 0x11, 4096);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf + 8192, 4096, 8192, 0), 4096);
	filefs_expect(&f, ip, 0, buf, 1 << 20, IOCB_DIRECT);
	memset(buf + 4096, 0x22, 8192);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf + 4096, 8192, 4096, IOCB_DIRECT), 8192);
	filefs_expect(&f, ip, 0, buf, 1 << 20, 0);
	/* Part of a block, beyond EOF: the rest of the block is zero, never the device's. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 512, (2 << 20) + 512, IOCB_DIRECT), 512);
	ck_assert_uint_eq(filefs_size(&f, ip), (2 << 20) + 1024);
	ck_assert_int_eq(filefs_truncate(&f, ip, (2 << 20) + 2 * bs), 0);
	expect_byte(&f, ip, 1 << 20, (1 << 20) + 512, 0);
	filefs_expect(&f, ip, (2 << 20) + 512, buf, 512, IOCB_DIRECT);
	expect_byte(&f, ip, (2 << 20) + 1024, 2 * bs - 1024, 0);
	/* Not even the device's unit: through the cache. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 100, 33, IOCB_DIRECT), 100);
	filefs_expect(&f, ip, 33, buf, 100, IOCB_DIRECT);
	fs_iput(ip);
	filefs_end(&f);
	free(buf);
}
END_TEST

START_TEST(copy_range_is_sparse)
{
	static uint8_t buf[1 << 20];
	struct fs_inode *a, *b;
	uint64_t done = 0;
	int64_t n;
	struct filefs f;

	filefs_fill(buf, sizeof(buf), 77);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	a = filefs_create(&f, "a");
	b = filefs_create(&f, "b");
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, 100000, 0, 0), 100000);
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, 100000, 3 << 20, 0), 100000);
	ck_assert_int_eq(filefs_truncate(&f, a, 4 << 20), 0);
	ck_assert_int_eq(filefs_pwrite(&f, b, buf, sizeof(buf), 1 << 20, 0), sizeof(buf));
	while (done < 4 << 20) {
		n = fs_copy_file_range(&f.ctx, a, done, b, done, (8 << 20) - done);
		ck_assert_int_gt(n, 0);
		done += (uint64_t)n;
	}
	ck_assert_int_eq(fs_copy_file_range(&f.ctx, a, done, b, done, 100), 0);
	ck_assert_uint_eq(filefs_size(&f, b), 4 << 20);
	filefs_expect(&f, b, 0, buf, 100000, 0);
	expect_byte(&f, b, 1 << 20, 1 << 20, 0);
	filefs_expect(&f, b, 3 << 20, buf, 100000, 0);
	ck_assert_int_eq(fs_lseek(&f.ctx, b, 1 << 20, SEEK_DATA), 3 << 20);
	ck_assert_int_eq(fs_copy_file_range(&f.ctx, a, 0, a, 1000, 2000), -EINVAL);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

START_TEST(privileges_and_pins)
{
	struct fs_attr a = { .mode = 06755 };
	struct fs_ctx kill;
	struct fs_file *file;
	struct fs_inode *ip;
	struct kiocb iocb;
	struct iovec iov = { (void *)(uintptr_t)"xy", 2 };
	struct iov_iter it;
	uint64_t phys;
	struct filefs f;

	filefs_make(&f, DEV_BYTES, shifts[_i], 0);
	kill = f.ctx;
	kill.flags = FS_KILL_SUIDGID;
	ip = filefs_create(&f, "x");
	ck_assert_int_eq(fs_setattr(&f.ctx, ip, FS_SET_MODE, &a, NULL), 0);
	iocb = (struct kiocb){ .ki_inode = fs_vfs_inode(ip) };
	iov_iter_init(&it, &iov, 1, 2);
	ck_assert_int_eq(fs_write_iter(&kill, &iocb, &it, false), 2);
	ck_assert_int_eq(fs_getattr(&f.ctx, ip, &a), 0);
	ck_assert_uint_eq(a.mode & 07777, 0755);
	ck_assert_int_eq(fs_open(&f.ctx, ip, O_RDWR, &file), 0);
	ck_assert_int_eq(fs_bmap(&f.ctx, ip, 1024, 0, &phys), 0);
	fs_swap_pin(file);
	ck_assert_int_eq(filefs_pwrite(&f, ip, "a", 1, 0, 0), -ETXTBSY);
	ck_assert_int_eq(filefs_truncate(&f, ip, 0), -ETXTBSY);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, 10), -ETXTBSY);
	fs_release(file);
	ck_assert_int_eq(filefs_pwrite(&f, ip, "a", 1, 0, 0), 1);
	ck_assert_int_eq(fs_set_flags(&f.ctx, ip, OD_FL_IMMUTABLE, 0), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, "a", 1, 0, 0), -EPERM);
	ck_assert_int_eq(fs_set_flags(&f.ctx, ip, 0, 0), 0);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* With every request held back, what is cached is served and written by those who may not sleep. */
START_TEST(stalled_device)
{
	struct fs_inode *ip, *other;
	struct bd *fault;
	uint8_t buf[4096], got[4096];
	struct filefs f;

	memset(buf, 0x42, sizeof(buf));
	filefs_make(&f, DEV_BYTES, shifts[_i], 0);
	fs_iput(filefs_create(&f, "s"));
	filefs_umount(&f);
	ck_assert_int_eq(bd_fault_create(filefs_passthrough(f.mem), &fault), 0);
	f.top = fault;
	filefs_mount(&f);
	ip = filefs_lookup(&f, "s");
	other = filefs_create(&f, "o");
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 4096, 0, 0), 4096);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 4096, 4096, 0), 4096);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	bd_fault_stall(fault, true);
	memset(buf, 0x43, sizeof(buf));
	ck_assert_int_eq(filefs_pread(&f, ip, got, 4096, 0, IOCB_NOWAIT), 4096);
	ck_assert_uint_eq(got[7], 0x42);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 4096, 0, IOCB_NOWAIT), 4096);
	for (unsigned i = 2; i < 20; i++)
		ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 4096, i * 4096, IOCB_NOWAIT), 4096);
	ck_assert_int_eq(filefs_pwrite(&f, other, buf, 200, 0, IOCB_NOWAIT), 200);
	ck_assert_int_eq(filefs_pwrite(&f, other, buf, 700, 200, IOCB_NOWAIT), 700);
	ck_assert_int_eq(filefs_pread(&f, ip, got, 4096, 19 * 4096, IOCB_NOWAIT), 4096);
	ck_assert_uint_eq(got[7], 0x43);
	bd_fault_stall(fault, false);
	fs_iput(ip);
	fs_iput(other);
	filefs_end(&f);
}
END_TEST

/* ---- A direct write on its way ----------------------------------------------------------- */

struct flying {
	struct kiocb iocb;
	struct iov_iter from;
	struct iovec iov;
	_Atomic int64_t ret;
};

static void landed(struct kiocb *iocb, int64_t ret)
{
	atomic_store(&container_of(iocb, struct flying, iocb)->ret, ret);
}

struct page_write {
	struct filefs *f;
	struct fs_inode *ip;
	const void *data;
};

static void *write_page(void *arg)
{
	struct page_write *w = arg;

	ck_assert_int_eq(filefs_pwrite(w->f, w->ip, w->data, 4096, 4096, 0), 4096);
	return NULL;
}

/*
 * Cached data for the other half of a block, or of a folio, that a direct write is on its way
 * to. Taken at once it would be merged with what the device holds now, and be written back over
 * what the direct write brings. A kernel that caches pages sends such writes at any moment.
 */
START_TEST(cached_write_beside_direct)
{
	static _Alignas(65536) uint8_t old[65536], direct[4096], cached[4096], got[65536];
	struct flying fly = { .iov = { direct, sizeof(direct) }, .ret = INT64_MIN };
	struct page_write pw;
	struct bd *fault;
	struct filefs f;
	pthread_t thread;

	filefs_fill(old, sizeof(old), 1);
	filefs_fill(direct, sizeof(direct), 2);
	filefs_fill(cached, sizeof(cached), 3);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0);
	filefs_umount(&f);
	ck_assert_int_eq(bd_fault_create(filefs_passthrough(f.mem), &fault), 0);
	f.top = fault;
	filefs_mount(&f);
	pw = (struct page_write){ &f, filefs_create(&f, "b"), cached };
	ck_assert_int_eq(filefs_pwrite(&f, pw.ip, old, sizeof(old), 0, 0), sizeof(old));
	ck_assert_int_eq(filefs_sync_file(&f, pw.ip, false), 0);
	bd_fault_stall(fault, true);
	fly.iocb = (struct kiocb){ .ki_inode = fs_vfs_inode(pw.ip), .ki_flags = IOCB_DIRECT,
				   .ki_complete = landed };
	iov_iter_init(&fly.from, &fly.iov, 1, sizeof(direct));
	ck_assert_int_eq(fs_write_iter(&f.ctx, &fly.iocb, &fly.from, false), -EIOCBQUEUED);
	ck_assert_int_eq(filefs_pwrite(&f, pw.ip, cached, 4096, 4096, IOCB_NOWAIT), -EAGAIN);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_page, &pw), 0);
	bd_fault_stall(fault, false);
	pthread_join(thread, NULL);
	while (atomic_load(&fly.ret) == INT64_MIN)
		usleep(100);
	ck_assert_int_eq(atomic_load(&fly.ret), 4096);
	ck_assert_int_eq(filefs_sync_file(&f, pw.ip, false), 0);
	filefs_drop_caches(&f);
	memcpy(old, direct, 4096);
	memcpy(old + 4096, cached, 4096);
	ck_assert_int_eq(filefs_pread(&f, pw.ip, got, sizeof(got), 0, 0), sizeof(got));
	ck_assert_mem_eq(got, old, sizeof(old));
	fs_iput(pw.ip);
	filefs_end(&f);
}
END_TEST

/* A device that fails writes: told once by each handle, nothing stays promised. */
START_TEST(write_error_is_told_once)
{
	struct bd_fault_rule rule = { .op = BD_WRITE, .count = UINT64_MAX, .error = -EIO };
	struct fs_file *a, *b;
	struct fs_inode *ip;
	struct bd *fault;
	static uint8_t buf[100000];
	struct filefs f;

	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	filefs_umount(&f);
	ck_assert_int_eq(bd_fault_create(filefs_passthrough(f.mem), &fault), 0);
	f.top = fault;
	filefs_mount(&f);
	ip = filefs_create(&f, "e");
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, sizeof(buf)), 0);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_int_eq(fs_open(&f.ctx, ip, O_RDWR, &a), 0);
	ck_assert_int_eq(fs_open(&f.ctx, ip, O_RDWR, &b), 0);
	{
		struct fiemap_extent fe;

		ck_assert_uint_ge(filefs_fiemap(&f, ip, 0, &fe, 1), 1);
		rule.start = fe.fe_physical;
		rule.end = fe.fe_physical + fe.fe_length;
	}
	bd_fault_set(fault, &rule, 1);
	memset(buf, 0x31, sizeof(buf));
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, sizeof(buf), 0, 0), sizeof(buf));
	ck_assert_int_eq(fs_fsync(&f.ctx, a, false), -EIO);
	ck_assert_int_eq(fs_fsync(&f.ctx, a, false), 0);
	ck_assert_int_eq(fs_fsync(&f.ctx, b, false), -EIO);
	bd_fault_set(fault, NULL, 0);
	ck_assert_int_eq(fs_fsync(&f.ctx, b, false), 0);
	filefs_drop_caches(&f);
	/* Never converted: zeros, not what the device held. */
	expect_byte(&f, ip, 0, sizeof(buf), 0);
	fs_release(a);
	fs_release(b);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/*
 * The kernel's page writes, which must not wait: what they could not do is not reported as
 * done, but bytes past EOF are.
 */
START_TEST(page_writes_come_short)
{
	const size_t bs = 1u << shifts[_i], len = 4 * bs, odd = 3 * bs + 100;
	uint8_t *old = malloc(len), *new = malloc(len);
	struct fs_inode *ip;
	struct filefs f;
	int64_t n, done = 0;

	filefs_fill(old, len, 1);
	filefs_fill(new, len, 2);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "p");
	ck_assert_int_eq(filefs_pwrite(&f, ip, old, len, 0, 0), (int64_t)len);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	filefs_drop_caches(&f);
	/* The last block would have to be read first. */
	n = filefs_pwrite(&f, ip, new, odd, 0, IOCB_FAULT | IOCB_NOWAIT);
	ck_assert(n == -EAGAIN || (n >= 0 && n <= (int64_t)(3 * bs)));
	done = MAX(n, 0);
	n = filefs_pwrite(&f, ip, new + done, odd - (size_t)done, (uint64_t)done, IOCB_FAULT);
	ck_assert_int_eq(n, (int64_t)odd - done);
	memcpy(old, new, odd);
	filefs_expect(&f, ip, 0, old, len, 0);
	/* Across EOF, and wholly behind it: all done, nothing grown. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, new, bs, len - 10, IOCB_FAULT), (int64_t)bs);
	ck_assert_int_eq(filefs_pwrite(&f, ip, new, bs, len, IOCB_FAULT), (int64_t)bs);
	ck_assert_uint_eq(filefs_size(&f, ip), len);
	memcpy(old + len - 10, new, 10);
	filefs_expect(&f, ip, 0, old, len, 0);
	free(old);
	free(new);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* A truncation that fails on the device leaves no promise behind that nobody owns. */
START_TEST(failed_shrink_owes_nothing)
{
	const size_t bs = 1u << shifts[_i];
	struct bd_fault_rule rule = { .op = BD_WRITE, .count = UINT64_MAX, .error = -EIO };
	uint8_t *data = malloc(40 * bs);
	struct fiemap_extent fe;
	struct fs_file *file;
	struct fs_inode *ip;
	struct filefs f;
	struct bd *fault;

	memset(data, 0x42, 40 * bs);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	filefs_umount(&f);
	ck_assert_int_eq(bd_fault_create(filefs_passthrough(f.mem), &fault), 0);
	f.top = fault;
	filefs_mount(&f);
	ip = filefs_create(&f, "s");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, 4 * bs, 0, 0), (int64_t)(4 * bs));
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, &fe, 1), 1);
	rule.start = fe.fe_physical;
	rule.end = fe.fe_physical + fe.fe_length;
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, 36 * bs, 4 * bs, 0), (int64_t)(36 * bs));
	bd_fault_set(fault, &rule, 1);
	ck_assert_int_eq(fs_open(&f.ctx, ip, O_RDWR, &file), 0);
	ck_assert_int_eq(filefs_truncate(&f, ip, bs + 100), -EIO);
	bd_fault_set(fault, NULL, 0);
	ck_assert_int_eq(fs_fsync(&f.ctx, file, false), -EIO);
	fs_release(file);
	fs_iput(ip);
	free(data);
	filefs_end(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-file");
	TCase *t = tcase_create("files");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, write_read_remount, 0, NR_SHIFTS);
	tcase_add_loop_test(t, inline_grows_out, 0, NR_SHIFTS);
	tcase_add_loop_test(t, interleaved_writers, 0, NR_SHIFTS);
	tcase_add_loop_test(t, speculation_is_given_back, 0, NR_SHIFTS);
	tcase_add_loop_test(t, growing_over_speculation, 0, NR_SHIFTS);
	tcase_add_loop_test(t, full_device, 0, NR_SHIFTS);
	tcase_add_loop_test(t, truncate_shows_zeros, 0, NR_SHIFTS);
	tcase_add_loop_test(t, fallocate_modes, 0, NR_SHIFTS);
	tcase_add_loop_test(t, dontcache, 0, NR_SHIFTS);
	tcase_add_loop_test(t, many_extents, 0, NR_SHIFTS);
	tcase_add_loop_test(t, direct_io, 0, NR_SHIFTS);
	tcase_add_loop_test(t, copy_range_is_sparse, 0, NR_SHIFTS);
	tcase_add_loop_test(t, privileges_and_pins, 0, NR_SHIFTS);
	tcase_add_loop_test(t, stalled_device, 0, NR_SHIFTS);
	tcase_add_loop_test(t, cached_write_beside_direct, 0, NR_SHIFTS);
	tcase_add_loop_test(t, write_error_is_told_once, 0, NR_SHIFTS);
	tcase_add_loop_test(t, page_writes_come_short, 0, NR_SHIFTS);
	tcase_add_loop_test(t, failed_shrink_owes_nothing, 0, NR_SHIFTS);
	suite_add_tcase(s, t);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * A file of a million extents beside one of a thousand: what an operation costs, counted in metadata blocks
 * looked at, which no other load on the machine changes; and what the caches take meanwhile. The same in
 * time, through a mount: the growth workloads of bench/run.
 */
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#include "filefs.h"
#include "iomapfs/format.h"

#define BLOCK  1024u
#define FEW    1000u
/* Fewer where only races are looked for. */
#ifdef __SANITIZE_THREAD__
#define MANY 50000u
#else
#define MANY 1000000u
#endif
#define OPS    2000u
#define MEMORY (64ull << 20)

static struct filefs f;

/* Every other block of the file is there. */
static struct fs_inode *make_file(const char *name, unsigned extents)
{
	struct fs_inode *ip = filefs_create(&f, name);

	for (unsigned i = 0; i < extents; i++)
		ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, (uint64_t)i * 2 * BLOCK, BLOCK), 0);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	return ip;
}

static uint64_t blocks_looked_at(void)
{
	struct fs_stats st;

	fs_get_stats(f.fs, &st);
	return st.buf_hits + st.buf_misses;
}

static void one_seek(struct fs_inode *ip, uint64_t pos)
{
	/* Unwritten and never touched: no data from here on, each hole ends at the next extent. */
	ck_assert_int_ge(fs_lseek(&f.ctx, ip, (int64_t)pos, SEEK_HOLE), (int64_t)pos);
}

static void one_fiemap(struct fs_inode *ip, uint64_t pos)
{
	struct fiemap_extent e[1];
	struct fiemap_extent_info fi = { .fi_extents_max = 1, .fi_extents_start = e };

	ck_assert_int_eq(fs_fiemap(&f.ctx, ip, &fi, pos, 2 * BLOCK), 0);
	ck_assert_uint_eq(fi.fi_extents_mapped, 1);
}

static void one_read(struct fs_inode *ip, uint64_t pos)
{
	static _Alignas(4096) uint8_t buf[BLOCK];

	ck_assert_int_eq(filefs_pread(&f, ip, buf, BLOCK, pos, IOCB_DIRECT), BLOCK);
}

/* Blocks looked at by OPS of them at random places. */
static uint64_t cost(struct fs_inode *ip, unsigned extents, void (*op)(struct fs_inode *ip, uint64_t pos))
{
	struct rng rng;
	uint64_t before;

	rng_seed(&rng, 42);
	before = blocks_looked_at();
	for (unsigned i = 0; i < OPS; i++)
		op(ip, rng_below(&rng, extents) * 2 * BLOCK);
	return blocks_looked_at() - before;
}

START_TEST(million_extents)
{
	static const struct {
		const char *name;
		void (*op)(struct fs_inode *ip, uint64_t pos);
	} ops[] = { { "seek", one_seek }, { "fiemap", one_fiemap }, { "random read", one_read } };
	struct fs_inode *few, *many;
	struct fs_stats st;

	filefs_make(&f, 3ull << 30, 10, 0);
	filefs_umount(&f);
	f.opts.memory_bytes = MEMORY;
	filefs_mount(&f);
	few = make_file("few", FEW);
	many = make_file("many", MANY);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		const uint64_t a = cost(few, FEW, ops[i].op), b = cost(many, MANY, ops[i].op);

		printf("%s: %.2f blocks of a thousand extents, %.2f of a million\n", ops[i].name,
		       (double)a / OPS, (double)b / OPS);
		ck_assert_uint_gt(a, 0);
		ck_assert_uint_le(b, 2 * a);
	}
	fs_get_stats(f.fs, &st);
	ck_assert_uint_gt(st.buf_cached, 0);
	ck_assert_uint_lt(st.buf_cached * OD_MBLK_SIZE + st.folio.cached_bytes, MEMORY);
	fs_iput(few);
	fs_iput(many);
	filefs_end(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("growth");
	TCase *tc = tcase_create("growth");

	tcase_set_timeout(tc, 250);
	tcase_add_test(tc, million_extents);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

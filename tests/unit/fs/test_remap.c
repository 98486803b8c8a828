/* SPDX-License-Identifier: MIT */
/* Sharing blocks: clone, dedupe, copy on write by every way of writing, and what the checker says. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "extent.h"
#include "filefs.h"

static const unsigned shifts[] = { 10, 12, 14, 16 };
#define UNITS 8u

static struct filefs f;
static unsigned shift;
static size_t bs;

/* A file of n blocks of bytes that tell their place, on the device. */
static struct fs_inode *make_file(const char *name, unsigned n, uint8_t seed)
{
	struct fs_inode *ip = filefs_create(&f, name);
	uint8_t *buf = malloc(n * bs);

	filefs_fill(buf, n * bs, seed);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, n * bs, 0, 0), (int64_t)(n * bs));
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	free(buf);
	return ip;
}

static void expect_bytes(struct fs_inode *ip, uint64_t pos, size_t len, uint8_t seed, uint64_t at)
{
	uint8_t *want = malloc(at + len);

	filefs_fill(want, at + len, seed);
	filefs_expect(&f, ip, pos, want + at, len, 0);
	filefs_expect(&f, ip, pos, want + at, len, IOCB_DIRECT);
	free(want);
}

/* Blocks of the file that FIEMAP shows as shared. */
static uint64_t shared_blocks(struct fs_inode *ip)
{
	struct fiemap_extent e[64];
	unsigned n = filefs_fiemap(&f, ip, FIEMAP_FLAG_SYNC, e, 64);
	uint64_t sum = 0;

	ck_assert_uint_lt(n, 64);
	for (unsigned i = 0; i < n; i++)
		if (e[i].fe_flags & FIEMAP_EXTENT_SHARED)
			sum += e[i].fe_length >> shift;
	return sum;
}

static void begin(int i)
{
	shift = shifts[i];
	bs = (size_t)1 << shift;
	filefs_make(&f, 64u << 20, shift, 0xa5);
}

static int share(struct fs_inode *in, uint64_t off_in, struct fs_inode *out, uint64_t off_out,
		 uint64_t len)
{
	return fs_clone_range(&f.ctx, in, off_in, out, off_out, len);
}

START_TEST(clone_whole)
{
	struct fs_inode *a, *b;
	uint64_t before;

	begin(_i);
	a = make_file("a", UNITS, 1);
	b = filefs_create(&f, "b");
	before = filefs_free_blocks(&f);
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	ck_assert_uint_eq(filefs_size(&f, b), UNITS * bs);
	expect_bytes(b, 0, UNITS * bs, 1, 0);
	ck_assert_uint_eq(shared_blocks(a), UNITS);
	ck_assert_uint_eq(shared_blocks(b), UNITS);
	/* No block of data; a node for the counts comes from what the group keeps. */
	ck_assert_uint_le(before - filefs_free_blocks(&f), (64u << 10) >> shift);
	fs_iput(a);
	fs_iput(b);
	filefs_remount(&f);
	a = filefs_lookup(&f, "a");
	b = filefs_lookup(&f, "b");
	expect_bytes(a, 0, UNITS * bs, 1, 0);
	expect_bytes(b, 0, UNITS * bs, 1, 0);
	ck_assert_uint_eq(shared_blocks(a), UNITS);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

/* One write of each kind into the middle of the clone: the other keeps its bytes, and is shared less. */
static void write_into_clone(unsigned iocb_flags, size_t off, size_t len)
{
	struct fs_inode *a = make_file("a", UNITS, 1), *b = filefs_create(&f, "b");
	uint8_t *buf = aligned_alloc(4096, UNITS * bs);
	const uint64_t first = off / bs, end = (off + len + bs - 1) / bs;

	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	filefs_fill(buf, UNITS * bs, 77);
	ck_assert_int_eq(filefs_pwrite(&f, b, buf + off, len, off, iocb_flags), (int64_t)len);
	for (int round = 0; round < 2; round++) {
		expect_bytes(a, 0, UNITS * bs, 1, 0);
		expect_bytes(b, 0, off, 1, 0);
		expect_bytes(b, off, len, 77, off);
		expect_bytes(b, off + len, UNITS * bs - off - len, 1, off + len);
		ck_assert_int_eq(filefs_sync_file(&f, b, false), 0);
		filefs_drop_caches(&f);
	}
	ck_assert_uint_eq(shared_blocks(a), UNITS - (end - first));
	ck_assert_uint_eq(shared_blocks(b), UNITS - (end - first));
	/* A second time it is the file's own block: no space is used. */
	filefs_fill(buf, UNITS * bs, 78);
	ck_assert_int_eq(filefs_pwrite(&f, b, buf + off, len, off, iocb_flags), (int64_t)len);
	ck_assert_int_eq(filefs_sync_file(&f, b, false), 0);
	expect_bytes(b, off, len, 78, off);
	expect_bytes(a, 0, UNITS * bs, 1, 0);
	free(buf);
	fs_iput(a);
	fs_iput(b);
}

START_TEST(write_buffered)
{
	begin(_i);
	write_into_clone(0, 2 * bs, 3 * bs);
	filefs_end(&f);
}
END_TEST

START_TEST(write_buffered_parts)
{
	begin(_i);
	write_into_clone(0, 2 * bs + 100, bs);
	filefs_end(&f);
}
END_TEST

START_TEST(write_direct)
{
	begin(_i);
	write_into_clone(IOCB_DIRECT, 2 * bs, 3 * bs);
	filefs_end(&f);
}
END_TEST

START_TEST(write_direct_parts)
{
	begin(_i);
	write_into_clone(IOCB_DIRECT, 2 * bs + 512, bs);
	filefs_end(&f);
}
END_TEST

START_TEST(write_durable)
{
	begin(_i);
	write_into_clone(IOCB_DSYNC, 3 * bs, bs);
	filefs_end(&f);
}
END_TEST

/* Cutting, punching and removing one file leaves the other whole, and gives back what only it had. */
START_TEST(frees)
{
	struct fs_inode *a, *b, *c;
	uint64_t empty;

	begin(_i);
	empty = filefs_free_blocks(&f);
	a = make_file("a", UNITS, 1);
	b = filefs_create(&f, "b");
	c = filefs_create(&f, "c");
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	ck_assert_int_eq(share(a, 0, c, 0, 0), 0);
	ck_assert_int_eq(filefs_truncate(&f, b, 3 * bs), 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, c, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, bs + 7,
				      2 * bs),
			 0);
	expect_bytes(a, 0, UNITS * bs, 1, 0);
	expect_bytes(b, 0, 3 * bs, 1, 0);
	expect_bytes(c, 0, bs + 7, 1, 0);
	expect_bytes(c, 3 * bs + 7, (UNITS - 3) * bs - 7, 1, 3 * bs + 7);
	ck_assert_int_eq(filefs_sync_file(&f, c, false), 0);
	fs_iput(a);
	fs_iput(b);
	fs_iput(c);
	filefs_remount(&f);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "a", 1), 0);
	b = filefs_lookup(&f, "b");
	expect_bytes(b, 0, 3 * bs, 1, 0);
	fs_iput(b);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "b", 1), 0);
	c = filefs_lookup(&f, "c");
	expect_bytes(c, 0, bs + 7, 1, 0);
	fs_iput(c);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "c", 1), 0);
	ck_assert_int_eq(fs_quiesce(f.fs), 0);
	ck_assert_uint_le(empty - filefs_free_blocks(&f), (64u << 10) >> shift);
	filefs_end(&f);
}
END_TEST

/* One extent of which only a part is shared goes as a whole. */
START_TEST(truncate_partly_shared)
{
	struct fs_inode *a, *b;

	begin(_i);
	a = make_file("a", UNITS, 1);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(share(a, 0, b, 0, 2 * bs), 0);
	ck_assert_int_eq(share(a, 4 * bs, b, 2 * bs, bs), 0);
	ck_assert_int_eq(filefs_truncate(&f, a, 0), 0);
	expect_bytes(b, 0, 2 * bs, 1, 0);
	expect_bytes(b, 2 * bs, bs, 1, 4 * bs);
	ck_assert_uint_eq(shared_blocks(b), 0);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

/*
 * b gives up a block that it shares with a, in a transaction that has not committed; a writes there. A
 * power cut now leaves b with the block, and what was in it.
 */
START_TEST(last_owner_waits_for_the_commit)
{
	struct fs_inode *a, *b;
	struct filefs cut;
	uint8_t *buf;

	begin(_i);
	buf = aligned_alloc(4096, MAX(bs, 4096u));
	a = make_file("a", UNITS, 1);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, b, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * bs), 0);
	filefs_fill(buf, bs, 50);
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, bs, 0, 0), (int64_t)bs);
	ck_assert_int_eq(filemap_write_and_wait_range(&fs_vfs_inode(a)->i_mapping, 0, UNITS * bs), 0);
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, bs, bs, IOCB_DIRECT), (int64_t)bs);
	filefs_survivor(&f, &cut);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
	f = cut;
	b = filefs_lookup(&f, "b");
	expect_bytes(b, 0, UNITS * bs, 1, 0);
	fs_iput(b);
	filefs_end(&f);
	free(buf);
}
END_TEST

/* A full device: the write to a shared block says so, not fsync; and what could be written is there. */
START_TEST(full_device)
{
	const unsigned n = (4u << 20) >> shifts[_i];
	struct fs_inode *a, *b, *c;
	uint64_t at = 0, len = 1u << 20, done = 0;
	uint8_t *buf;
	int64_t ret;

	begin(_i);
	a = make_file("a", n, 1);
	b = filefs_create(&f, "b");
	c = filefs_create(&f, "c");
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	while (len >= bs) {
		if (fs_fallocate(&f.ctx, c, 0, at, len) == 0)
			at += len;
		else
			len /= 2;
	}
	buf = malloc(n * bs);
	filefs_fill(buf, n * bs, 60);
	do {
		ret = filefs_pwrite(&f, b, buf + done, MIN(n * bs - done, 16 * bs), done, 0);
		done += ret > 0 ? (uint64_t)ret : 0;
	} while (ret > 0 && done < n * bs);
	ck_assert_int_eq(ret, -ENOSPC);
	ck_assert_int_eq(filefs_sync_file(&f, b, false), 0);
	ck_assert_int_eq(filefs_pwrite(&f, b, buf + (n - 2) * bs, bs, (n - 2) * bs, IOCB_DIRECT), -ENOSPC);
	expect_bytes(a, 0, n * bs, 1, 0);
	expect_bytes(b, 0, done, 60, 0);
	expect_bytes(b, done, n * bs - done, 1, done);
	/* Room again: the rest goes as well. */
	ck_assert_int_eq(filefs_truncate(&f, c, 0), 0);
	ck_assert_int_eq(filefs_pwrite(&f, b, buf + done, n * bs - done, done, 0), (int64_t)(n * bs - done));
	ck_assert_int_eq(filefs_sync_file(&f, b, false), 0);
	expect_bytes(a, 0, n * bs, 1, 0);
	expect_bytes(b, 0, n * bs, 60, 0);
	fs_iput(a);
	fs_iput(b);
	fs_iput(c);
	free(buf);
	filefs_end(&f);
}
END_TEST

START_TEST(unshare_all)
{
	struct fs_inode *a, *b;

	begin(_i);
	a = make_file("a", UNITS, 1);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, b, FALLOC_FL_UNSHARE_RANGE, 0, UNITS * bs), 0);
	ck_assert_uint_eq(shared_blocks(a), 0);
	ck_assert_uint_eq(shared_blocks(b), 0);
	expect_bytes(a, 0, UNITS * bs, 1, 0);
	expect_bytes(b, 0, UNITS * bs, 1, 0);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

START_TEST(ranges)
{
	struct fs_inode *a, *b;
	uint8_t buf[100];

	begin(_i);
	a = make_file("a", UNITS, 1);
	b = make_file("b", UNITS, 2);
	/* Over the middle of another file, and behind its end; then within one file. */
	ck_assert_int_eq(share(a, bs, b, 2 * bs, 3 * bs), 0);
	ck_assert_int_eq(share(a, 2 * bs, b, (UNITS + 4) * bs, 2 * bs), 0);
	ck_assert_int_eq(share(b, 2 * bs, b, 6 * bs, 2 * bs), 0);
	expect_bytes(b, 0, 2 * bs, 2, 0);
	expect_bytes(b, 2 * bs, 3 * bs, 1, bs);
	expect_bytes(b, 5 * bs, bs, 2, 5 * bs);
	expect_bytes(b, 6 * bs, 2 * bs, 1, bs);
	expect_bytes(b, (UNITS + 4) * bs, 2 * bs, 1, 2 * bs);
	ck_assert_uint_eq(filefs_size(&f, b), (UNITS + 6) * bs);
	/* The end of a file that ends within a block. */
	filefs_fill(buf, sizeof(buf), 9);
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, 100, UNITS * bs, 0), 100);
	ck_assert_int_eq(share(a, UNITS * bs, b, (UNITS + 6) * bs, 0), 0);
	ck_assert_uint_eq(filefs_size(&f, b), (UNITS + 6) * bs + 100);
	expect_bytes(b, (UNITS + 6) * bs, 100, 9, 0);
	/* What cannot be. */
	ck_assert_int_eq(share(a, 1, b, 0, bs), -EINVAL);
	ck_assert_int_eq(share(a, 0, b, 0, bs - 1), -EINVAL);
	ck_assert_int_eq(share(a, 0, a, 0, bs), -EINVAL);
	ck_assert_int_eq(share(a, 0, b, 0, (UNITS + 2) * bs), -EINVAL);
	ck_assert_int_eq(share(a, UNITS * bs, b, 0, 0), -EINVAL); /* part of a block, before b's end */
	ck_assert_int_eq(share(a, 0, f.root, 0, bs), -EISDIR);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

START_TEST(dedupe)
{
	struct fs_inode *a, *b, *c;
	uint64_t done;

	begin(_i);
	a = make_file("a", UNITS, 1);
	b = make_file("b", UNITS, 1);
	ck_assert_int_eq(fs_dedupe_range(&f.ctx, a, 0, b, 0, 4 * bs, &done), 0);
	ck_assert_uint_eq(done, 4 * bs);
	ck_assert_uint_eq(shared_blocks(b), 4);
	c = make_file("c", UNITS, 2);
	ck_assert_int_eq(fs_dedupe_range(&f.ctx, a, 4 * bs, c, 4 * bs, bs, &done), -EBADE);
	expect_bytes(c, 0, UNITS * bs, 2, 0);
	fs_iput(c);
	ck_assert_int_eq(fs_dedupe_range(&f.ctx, a, 0, b, 0, 2 * UNITS * bs, &done), -EINVAL);
	ck_assert_uint_eq(shared_blocks(b), 4);
	expect_bytes(a, 0, UNITS * bs, 1, 0);
	expect_bytes(b, 0, UNITS * bs, 1, 0);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

/* Files small enough for the inode get a block; a copy of such a file stays inside. */
START_TEST(tiny)
{
	struct fs_inode *a, *b, *c;
	uint8_t buf[40];

	begin(_i);
	a = filefs_create(&f, "a");
	b = filefs_create(&f, "b");
	c = filefs_create(&f, "c");
	filefs_fill(buf, sizeof(buf), 3);
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, 40, 0, 0), 40);
	ck_assert_int_eq(fs_copy_file_range(&f.ctx, a, 0, c, 0, 40), 40);
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	expect_bytes(b, 0, 40, 3, 0);
	expect_bytes(c, 0, 40, 3, 0);
	fs_iput(a);
	fs_iput(b);
	fs_iput(c);
	filefs_remount(&f);
	b = filefs_lookup(&f, "b");
	expect_bytes(b, 0, 40, 3, 0);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

/* ---- Files that share no more ------------------------------------------------------------------ */

/* Mounted so that no transaction commits unless asked. */
static void begin_uncommitted(int i)
{
	begin(i);
	filefs_umount(&f);
	f.opts.commit_interval_ms = 3600000;
	filefs_mount(&f);
}

/* As the inode says it on the device too. */
static void expect_flag(const char *name, bool want)
{
	struct fs_inode *ip;

	for (int round = 0; round < 2; round++) {
		ip = filefs_lookup(&f, name);
		ck_assert_msg(fs_may_share(ip) == want, "%s, round %d", name, round);
		fs_iput(ip);
		if (round == 0)
			filefs_remount(&f);
	}
}

START_TEST(emptied_shares_no_more)
{
	struct fs_inode *a, *b;
	uint8_t *buf;

	begin(_i);
	buf = malloc(UNITS * bs);
	a = make_file("a", UNITS, 1);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	/* Not while a block is left, shared or not. */
	ck_assert_int_eq(filefs_truncate(&f, b, bs), 0);
	ck_assert(fs_may_share(a) && fs_may_share(b));
	ck_assert_int_eq(filefs_truncate(&f, b, 0), 0);
	ck_assert(fs_may_share(a) && !fs_may_share(b));
	filefs_fill(buf, UNITS * bs, 60);
	ck_assert_int_eq(filefs_pwrite(&f, b, buf, UNITS * bs, 0, 0), (int64_t)(UNITS * bs));
	expect_bytes(a, 0, UNITS * bs, 1, 0);
	fs_iput(a);
	fs_iput(b);
	expect_flag("b", false);
	expect_flag("a", true);
	a = filefs_lookup(&f, "a");
	b = filefs_lookup(&f, "b");
	/* A file of holes alone, too; and it can share again. */
	ck_assert_int_eq(share(b, 0, a, 0, 0), 0);
	ck_assert(fs_may_share(b));
	ck_assert_int_eq(fs_fallocate(&f.ctx, b, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, UNITS * bs),
			 0);
	ck_assert(fs_may_share(b));
	ck_assert_int_eq(filefs_truncate(&f, b, 0), 0);
	ck_assert(!fs_may_share(b));
	expect_bytes(a, 0, UNITS * bs, 60, 0);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
	free(buf);
}
END_TEST

/*
 * b is unshared: all of its blocks are new, no counts stand in the way. a has its blocks alone from then
 * on, but a power cut would give them back to b: it says that it shares until the commit.
 */
START_TEST(unshared_shares_no_more)
{
	const int mode = FALLOC_FL_UNSHARE_RANGE;
	struct fs_inode *a, *b;

	begin_uncommitted(_i);
	a = make_file("a", UNITS, 1);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(share(a, 0, b, 0, 0), 0);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, b, mode, 0, (UNITS - 1) * bs), 0);
	ck_assert_msg(fs_may_share(b), "a part of it was not asked for");
	ck_assert_int_eq(fs_fallocate(&f.ctx, b, mode, 0, UNITS * bs), 0);
	ck_assert(!fs_may_share(b));
	ck_assert_int_eq(cow_try_unflag(a), 0);
	ck_assert_msg(fs_may_share(a), "before the commit");
	ck_assert_int_eq(fs_sync(f.fs), 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, a, mode, 0, UNITS * bs), 0);
	ck_assert(!fs_may_share(a));
	expect_bytes(a, 0, UNITS * bs, 1, 0);
	expect_bytes(b, 0, UNITS * bs, 1, 0);
	fs_iput(a);
	fs_iput(b);
	expect_flag("a", false);
	expect_flag("b", false);
	filefs_end(&f);
}
END_TEST

/* The other owner is in the middle, and of one block alone: found, wherever it is. */
START_TEST(one_block_is_enough)
{
	struct fs_inode *a, *b;

	begin(_i);
	for (uint64_t at = 0; at < UNITS; at++) {
		a = make_file("a", UNITS, 1);
		b = filefs_create(&f, "b");
		ck_assert_int_eq(share(a, at * bs, b, 0, bs), 0);
		ck_assert_int_eq(cow_try_unflag(a), 0);
		ck_assert(fs_may_share(a));
		ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "b", 1), 0);
		fs_iput(b);
		ck_assert_int_eq(fs_quiesce(f.fs), 0);
		ck_assert_int_eq(cow_try_unflag(a), 0);
		ck_assert(!fs_may_share(a));
		ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "a", 1), 0);
		fs_iput(a);
	}
	filefs_end(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("remap");
	TCase *tc = tcase_create("remap");
	const int n = ARRAY_SIZE(shifts);

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, clone_whole, 0, n);
	tcase_add_loop_test(tc, write_buffered, 0, n);
	tcase_add_loop_test(tc, write_buffered_parts, 0, n);
	tcase_add_loop_test(tc, write_direct, 0, n);
	tcase_add_loop_test(tc, write_direct_parts, 0, n);
	tcase_add_loop_test(tc, write_durable, 0, n);
	tcase_add_loop_test(tc, frees, 0, n);
	tcase_add_loop_test(tc, truncate_partly_shared, 0, n);
	tcase_add_loop_test(tc, last_owner_waits_for_the_commit, 0, n);
	tcase_add_loop_test(tc, full_device, 0, n);
	tcase_add_loop_test(tc, unshare_all, 0, n);
	tcase_add_loop_test(tc, ranges, 0, n);
	tcase_add_loop_test(tc, dedupe, 0, n);
	tcase_add_loop_test(tc, tiny, 0, n);
	tcase_add_loop_test(tc, emptied_shares_no_more, 0, n);
	tcase_add_loop_test(tc, unshared_shares_no_more, 0, n);
	tcase_add_loop_test(tc, one_block_is_enough, 0, n);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

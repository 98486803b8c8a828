/* SPDX-License-Identifier: MIT */
/*
 * Races whose rule is the file system's to keep, each forced by a hook point. Their numbers
 * are those of docs/IOMAP.md; tests/unit/iomap/test_races.c has the engine's.
 */
#include <string.h>

#include "filefs.h"

#define BLOCK 4096u
#define HALF  (16 * BLOCK)
#define DEV_BYTES (96ull << 20)

static struct filefs f;
static struct fs_inode *ip;
static uint8_t *ref;

static void setup(void)
{
	ref = aligned_alloc(BLOCK, 4 * HALF);
	filefs_fill(ref, 4 * HALF, 3);
	filefs_make(&f, DEV_BYTES, 12, 0xaa);
	ip = filefs_create(&f, "f");
}

static void teardown(void)
{
	fs_iput(ip);
	filefs_end(&f);
	free(ref);
}

/* The same file system over a device that can be stalled. */
static struct bd *remount_over_fault(void)
{
	struct bd *fault;

	fs_iput(ip);
	filefs_umount(&f);
	ck_assert_int_eq(bd_fault_create(filefs_passthrough(f.mem), &fault), 0);
	f.top = fault;
	filefs_mount(&f);
	ip = filefs_lookup(&f, "f");
	return fault;
}

/* ---- 2: zeroing while a copy of a shared block is on its way, and not yet the file's ------------- */

START_TEST(race_02_zeroing_between_copy_and_remap)
{
	struct bd *fault = remount_over_fault();
	struct fs_inode *copy = filefs_create(&f, "copy");
	struct address_space *m = &fs_vfs_inode(ip)->i_mapping;

	ck_assert_int_eq(filefs_pwrite(&f, ip, ref, HALF, 0, 0), HALF);
	ck_assert_int_eq(fs_clone_range(&f.ctx, ip, 0, copy, 0, 0), 0);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, ref + HALF, BLOCK, 0, 0), BLOCK);
	bd_fault_stall(fault, true);
	ck_assert_int_eq(filemap_fdatawrite_range(m, 0, BLOCK - 1, WB_SYNC_NONE), 0);
	ck_assert_uint_gt(atomic_load(&m->nr_writeback), 0);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 100, 100), 0);
	bd_fault_stall(fault, false);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	filefs_drop_caches(&f);
	memcpy(ref + 2 * HALF, ref + HALF, BLOCK);
	memset(ref + 2 * HALF + 100, 0, 100);
	filefs_expect(&f, ip, 0, ref + 2 * HALF, BLOCK, 0);
	filefs_expect(&f, ip, BLOCK, ref + BLOCK, HALF - BLOCK, 0);
	filefs_expect(&f, copy, 0, ref, HALF, 0);
	fs_iput(copy);
}
END_TEST

/* ---- 10: two direct writes, each a part of one unwritten block -------------------------- */

struct writer {
	pthread_t thread, first;
	uint64_t writes_before;
	bool started;
	_Atomic bool done;
	int64_t ret;
};

static void *second_main(void *arg)
{
	struct writer *w = arg;

	w->ret = filefs_pwrite(&f, ip, ref + 1024, 512, 1024, IOCB_DIRECT);
	atomic_store(&w->done, true);
	return NULL;
}

static void start_second(const char *name, void *inode, void *arg)
{
	struct writer *w = arg;
	struct bd_stats st;

	bd_get_stats(f.mem, &st);
	if (w->started || !pthread_equal(pthread_self(), w->first) || st.writes == w->writes_before)
		return;
	/* The first one's bytes are on the device, its block is not converted yet. */
	w->started = true;
	ck_assert_int_eq(pthread_create(&w->thread, NULL, second_main, w), 0);
	for (unsigned i = 0; i < 200 && !atomic_load(&w->done); i++)
		usleep(1000);
}

START_TEST(race_10_unaligned_direct_writes)
{
	static struct writer w;
	struct bd_stats st;

	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, HALF), 0);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	bd_get_stats(f.mem, &st);
	w = (struct writer){ .first = pthread_self(), .writes_before = st.writes };
	ck_assert_int_eq(hook_install("iomap:dio_submitted", start_second, &w), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, ref, 512, 0, IOCB_DIRECT), 512);
	hook_remove("iomap:dio_submitted");
	ck_assert(w.started);
	pthread_join(w.thread, NULL);
	ck_assert_int_eq(w.ret, 512);
	/* Neither zeroed what the other wrote. */
	filefs_expect(&f, ip, 0, ref, 512, 0);
	filefs_expect(&f, ip, 1024, ref + 1024, 512, 0);
}
END_TEST

/* ---- 14: writeback goes on with a mapping whose extent was punched and written anew ---------- */

static void write_pages(uint64_t pos, const uint8_t *bytes, size_t len)
{
	for (size_t at = 0; at < len; at += BLOCK)
		ck_assert_int_eq(filefs_pwrite(&f, ip, bytes + at, BLOCK, pos + at, 0), BLOCK);
}

static void punch_and_rewrite(const char *name, void *folio, void *arg)
{
	bool *did = arg;

	/* The second folio: the mapping in hand reaches to the end of the file. */
	if (*did || folio_pos(folio) != BLOCK)
		return;
	*did = true;
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HALF, HALF),
			 0);
	write_pages(HALF, ref + 2 * HALF, HALF);
}

START_TEST(race_14_extent_changed_during_writeback)
{
	struct fiemap_extent fe[4];
	bool did = false;

	write_pages(0, ref, 2 * HALF);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, fe, 4), 1);
	write_pages(0, ref, 2 * HALF);
	ck_assert_int_eq(hook_install("iomap:writeback_folio", punch_and_rewrite, &did), 0);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	hook_remove("iomap:writeback_folio");
	ck_assert(did);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	filefs_drop_caches(&f);
	filefs_expect(&f, ip, 0, ref, HALF, 0);
	filefs_expect(&f, ip, HALF, ref + 2 * HALF, HALF, 0);
}
END_TEST

/* ---- 17: a clone while a direct write to its source is in flight --------------------------------- */

struct cloner {
	pthread_t thread;
	struct fs_inode *to;
	_Atomic bool done;
	int err;
};

static void *clone_main(void *arg)
{
	struct cloner *c = arg;

	c->err = fs_clone_range(&f.ctx, ip, 0, c->to, 0, 0);
	atomic_store(&c->done, true);
	return NULL;
}

static _Atomic int64_t written;

static void write_done(struct kiocb *iocb, int64_t ret)
{
	atomic_store(&written, ret);
}

START_TEST(race_17_clone_during_direct_write)
{
	static struct cloner c;
	static struct kiocb iocb;
	struct iovec iov = { ref + HALF, HALF };
	struct bd *fault = remount_over_fault();
	struct iov_iter from;

	ck_assert_int_eq(filefs_pwrite(&f, ip, ref, HALF, 0, IOCB_DIRECT), HALF);
	c = (struct cloner){ .to = filefs_create(&f, "copy") };
	ck_assert_int_eq(fs_sync(f.fs), 0);
	bd_fault_stall(fault, true);
	iocb = (struct kiocb){ .ki_inode = fs_vfs_inode(ip), .ki_flags = IOCB_DIRECT,
			       .ki_complete = write_done };
	iov_iter_init(&from, &iov, 1, HALF);
	ck_assert_int_eq(fs_write_iter(&f.ctx, &iocb, &from, false), -EIOCBQUEUED);
	ck_assert_int_eq(pthread_create(&c.thread, NULL, clone_main, &c), 0);
	for (unsigned i = 0; i < 200 && !atomic_load(&c.done); i++)
		usleep(1000);
	/* Blocks that are about to be overwritten in place are not shared yet. */
	ck_assert(!atomic_load(&c.done));
	bd_fault_stall(fault, false);
	pthread_join(c.thread, NULL);
	ck_assert_int_eq(c.err, 0);
	/* The caller hears of it a moment after those who drain do. */
	for (unsigned i = 0; i < 5000 && !atomic_load(&written); i++)
		usleep(1000);
	ck_assert_int_eq(atomic_load(&written), HALF);
	filefs_expect(&f, c.to, 0, ref + HALF, HALF, 0);
	/* And from now on they stay as they are. */
	ck_assert_int_eq(filefs_pwrite(&f, ip, ref, HALF, 0, IOCB_DIRECT), HALF);
	filefs_drop_caches(&f);
	filefs_expect(&f, c.to, 0, ref + HALF, HALF, 0);
	filefs_expect(&f, ip, 0, ref, HALF, 0);
	fs_iput(c.to);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-races");
	TCase *tc = tcase_create("races");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, race_02_zeroing_between_copy_and_remap);
	tcase_add_test(tc, race_10_unaligned_direct_writes);
	tcase_add_test(tc, race_14_extent_changed_during_writeback);
	tcase_add_test(tc, race_17_clone_during_direct_write);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

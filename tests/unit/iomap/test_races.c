/* SPDX-License-Identifier: MIT */
/*
 * The races that the engine's rules exist for, each forced by a hook point between the two
 * moments that matter. Their numbers are those of docs/IOMAP.md, which says what each rule
 * is; tests/unit/fs/test_races.c has those whose rule is the file system's.
 */
#include <string.h>
#include <unistd.h>

#include "toymap.h"
#include "unit.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static struct toy *t;
static uint8_t *buf, *ref;

static void start(unsigned blkbits, unsigned order, bool late, unsigned max_io)
{
	struct toy_params p = {
		.blkbits = blkbits, .max_order = order, .late = late, .max_io = max_io,
	};

	log_set_level((enum log_level)-1);
	t = toy_create(&p);
	buf = aligned_alloc(4096, MIB);
	ref = aligned_alloc(4096, MIB);
	for (unsigned i = 0; i < MIB; i++)
		ref[i] = (uint8_t)(i * 11 + i / 512);
}

static void setup(void)
{
	start(12, 5, false, 0);
}

static void teardown(void)
{
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	ck_assert_uint_eq(atomic_load(&t->inode.i_dio_count), 0);
	toy_destroy(t);
	free(buf);
	free(ref);
}

static void use_geometry(unsigned blkbits, unsigned order, bool late, unsigned max_io)
{
	teardown();
	start(blkbits, order, late, max_io);
}

static int64_t dio(uint64_t pos, void *mem, size_t len, unsigned iocb_flags, unsigned dio_flags)
{
	struct iovec iov = { mem, len };
	struct iov_iter it;
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = pos, .ki_flags = iocb_flags };

	iov_iter_init(&it, &iov, 1, len);
	return iomap_dio_rw(&iocb, &it, &toy_ops, &toy_dio_ops, dio_flags, NULL, 0);
}

static void expect(uint64_t pos, const void *bytes, size_t len)
{
	memset(buf, 0x5a, len);
	ck_assert_int_eq(toy_read(t, pos, buf, len, 0), (int64_t)len);
	ck_assert_mem_eq(buf, bytes, len);
}

static void expect_fill(uint64_t pos, int fill, size_t len)
{
	memset(buf, 0x5a, len);
	ck_assert_int_eq(toy_read(t, pos, buf, len, 0), (int64_t)len);
	for (size_t i = 0; i < len; i++)
		if (buf[i] != fill)
			ck_abort_msg("byte %zu is %#x", i, buf[i]);
}

static void install(const char *name, hook_fn fn, void *arg)
{
	ck_assert_int_eq(hook_install(name, fn, arg), 0);
}

/* A store through a mapping: bytes in the cached folio that no write(2) brought. */
static void store(uint64_t pos, int fill, size_t len)
{
	struct folio *f;

	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, pos, 0, FGP_LOCK, &f), 0);
	memset((char *)f->data + offset_in_folio(f, pos), fill, len);
	folio_mark_dirty(f);
	folio_unlock(f);
	folio_put(f);
}

/* ---- 1: mapping sampled, then written back, converted and reclaimed -------------------------- */

static unsigned rounds;

static void write_back_and_drop(const char *name, void *iter, void *arg)
{
	struct iomap_iter *it = iter;

	if (it->flags != IOMAP_WRITE || rounds++)
		return;
	ck_assert_int_eq(it->iomap.type, IOMAP_UNWRITTEN);
	ck_assert_int_eq(toy_drop_cache(t), 0);
}

START_TEST(race_01_writeback_between_map_and_lock)
{
	toy_set_blocks(t, 0, 4, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 16384);
	ck_assert_int_eq(toy_write(t, 0, ref, 4096, 0), 4096);
	rounds = 0;
	install("iomap:mapped", write_back_and_drop, NULL);
	ck_assert_int_eq(toy_write(t, 100, "abc", 3, 0), 3);
	hook_remove("iomap:mapped");
	ck_assert_uint_eq(t->nr_stale_end, 1);
	/* Not zeroed around the three bytes: the first write is still there. */
	expect(0, ref, 100);
	expect(100, "abc", 3);
	expect(103, ref + 103, 4096 - 103);
}
END_TEST

/* ---- 2: zeroing while old bytes are on their way to an extent that still reads as zero -------- */

static void let_go(const char *name, void *inode, void *arg)
{
	toy_hold(t, false);
}

START_TEST(race_02_zeroing_under_writeback)
{
	use_geometry(12, 3, true, 0);
	/* The second time by a list of folios, on which those in flight must be as well. */
	t->fbatch = _i;
	toy_set_blocks(t, 0, 16, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 64 * KIB);
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	toy_hold(t, true);
	filemap_fdatawrite_range(&t->inode.i_mapping, 0, 64 * KIB - 1, WB_SYNC_ALL);
	/* The device holds it back until zeroing has seen UNWRITTEN; after that it is converted. */
	install("iomap:zero_flush", let_go, NULL);
	ck_assert_int_eq(toy_zero(t, 8192, 16384, NULL), 0);
	hook_remove("iomap:zero_flush");
	toy_hold(t, false);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect(0, ref, 8192);
	expect_fill(8192, 0, 16384);
	expect(24576, ref + 24576, 64 * KIB - 24576);
}
END_TEST

/* ---- 3: zeroes cached from an extent that a direct write is about to convert ------------------- */

static void read_into_cache(const char *name, void *inode, void *arg)
{
	uint8_t byte;
	struct iovec iov = { &byte, 1 };
	struct iov_iter it;
	struct kiocb iocb = { .ki_inode = inode };

	iov_iter_init(&it, &iov, 1, 1);
	ck_assert_int_eq(iomap_file_buffered_read(&iocb, &it, &toy_ops), 1);
	if (arg)
		*(uint8_t *)arg = byte;
}

START_TEST(race_03_zeroes_cached_before_conversion)
{
	uint8_t seen = 0xff;

	toy_set_blocks(t, 0, 4, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 16384);
	install("iomap:dio_end_io", read_into_cache, &seen);
	ck_assert_int_eq(dio(0, ref + 1, 4096, IOCB_WRITE, 0), 4096);
	hook_remove("iomap:dio_end_io");
	ck_assert_uint_eq(seen, 0);
	expect(0, ref + 1, 4096);
}
END_TEST

/* ---- 4: bytes behind end of file that become content ---------------------------------------------- */

static void store_behind(const char *name, void *ioend, void *arg)
{
	/* Written back, clean, and stored to again: the next extension must not show it. */
	store(200, 0xcc, 1000);
}

START_TEST(race_04_stores_behind_eof)
{
	struct iovec iov = { ref, 10 };
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = 9000, .ki_flags = IOCB_WRITE };
	struct iov_iter it;

	ck_assert_int_eq(toy_write(t, 0, ref, 100, 0), 100);
	store(100, 0xbb, 1000);
	install("iomap:ioend_submit", store_behind, NULL);
	filemap_fdatawrite_range(&t->inode.i_mapping, 0, 4095, WB_SYNC_ALL);
	hook_remove("iomap:ioend_submit");
	filemap_fdatawait_range(&t->inode.i_mapping, 0, 4095);
	/* The engine's own part, for a file system that does not zero the gap itself. */
	iov_iter_init(&it, &iov, 1, 10);
	lk_wrlock(&t->inode.i_rwsem);
	ck_assert_int_eq(iomap_file_buffered_write(&iocb, &it, &toy_ops, &toy_write_ops, NULL), 10);
	lk_rw_unlock(&t->inode.i_rwsem);
	expect(0, ref, 100);
	expect_fill(100, 0, 8900);
	/* What had reached the device was cut as well. */
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect_fill(100, 0, 8900);
	expect(9000, ref, 10);
}
END_TEST

START_TEST(race_04_writeback_zeroes_the_tail)
{
	uint64_t addr;

	ck_assert_int_eq(toy_write(t, 0, ref, 100, 0), 100);
	store(100, 0xbb, 1000);
	ck_assert_int_eq(toy_sync(t), 0);
	store(100, 0xcc, 1000);
	ck_assert_int_eq(toy_sync(t), 0);
	addr = (uint64_t)t->blocks[0].dev_block << 12;
	for (unsigned i = 100; i < 4096; i++)
		ck_assert_uint_eq(t->dev_mem[addr + i], 0);
}
END_TEST

/* ---- 5: the size on disk, and an append while data is in flight -------------------------------------- */

START_TEST(race_05_append_during_writeback)
{
	use_geometry(12, 3, true, 0);
	ck_assert_int_eq(toy_write(t, 0, ref, 5000, 0), 5000);
	toy_hold(t, true);
	filemap_fdatawrite_range(&t->inode.i_mapping, 0, UINT64_MAX, WB_SYNC_ALL);
	/* In flight: nothing of it may show after a crash. */
	ck_assert_uint_eq(t->disk_size, 0);
	ck_assert_int_eq(toy_write(t, 5000, ref + 5000, 3000, 0), 3000);
	toy_hold(t, false);
	filemap_fdatawait_range(&t->inode.i_mapping, 0, UINT64_MAX);
	/* Not the block's end, nor what was appended since: the byte that was in memory at submission. */
	ck_assert_uint_eq(t->disk_size, 5000);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_uint_eq(t->disk_size, 8000);
	expect(0, ref, 8000);
}
END_TEST

/* ---- 6: a short write gives back its promise, and somebody dirtied a part of it ------------------------ */

static void fault_in_and_fail(const char *name, void *n, void *arg)
{
	struct address_space *m = &t->inode.i_mapping;
	struct folio *f;

	*(size_t *)n = 0;
	if (filemap_get_folio(m, 12 * 4096, 0, FGP_LOCK, &f))
		return;
	memset((char *)f->data, 0x77, 4096);
	iomap_dirty_folio(m, f);
	folio_unlock(f);
	folio_put(f);
}

START_TEST(race_06_store_into_a_failing_write)
{
	use_geometry(12, 0, false, 0);
	i_size_write(&t->inode, 64 * KIB);
	expect_fill(0, 0, 64 * KIB);
	install("iomap:copy_from", fault_in_and_fail, NULL);
	ck_assert_int_eq(toy_write(t, 4096, ref, 60000, 0), -EFAULT);
	hook_remove("iomap:copy_from");
	/* One block is somebody's: that promise stays, and the rest is gone. */
	ck_assert_uint_eq(t->nr_reserved, 1);
	ck_assert_int_eq(t->blocks[12].type, IOMAP_DELALLOC);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect_fill(12 * 4096, 0x77, 4096);
	expect_fill(0, 0, 12 * 4096);
}
END_TEST

/* ---- 7: writeback finds no space for a promise, and a direct read comes after it ----------------------------- */

static void fail_from_here(const char *name, void *folio, void *arg)
{
	if (folio_pos(folio) == 16 * KIB)
		atomic_store(&t->fail_alloc, -ENOSPC);
}

START_TEST(race_07_promise_under_a_clean_folio)
{
	use_geometry(12, 2, false, 0);
	t->cap_one_block = true;
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	/* Four folios, of which the first gets its blocks: the others are apart from it. */
	toy_set_blocks(t, 3, 1, IOMAP_MAPPED, 1);
	install("iomap:writeback_folio", fail_from_here, NULL);
	ck_assert_int_eq(toy_sync(t), -ENOSPC);
	hook_remove("iomap:writeback_folio");
	atomic_store(&t->fail_alloc, 0);
	ck_assert(!mapping_tagged_dirty(&t->inode.i_mapping));
	ck_assert_uint_eq(t->nr_reserved, 0);
	/* Around the cache, which is clean: a promise there would be an error. */
	ck_assert_int_eq(toy_dio_read(t, 0, buf, 64 * KIB), 64 * KIB);
	ck_assert_mem_eq(buf, ref, 12 * KIB);
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect(0, ref, 64 * KIB);
}
END_TEST

/* ---- 8: truncation and punching under writeback ----------------------------------------------------------- */

static void shrink(const char *name, void *folio, void *arg)
{
	if (folio_pos(folio) != 0)
		return;
	i_size_write(&t->inode, 5000);
	if (arg)
		toy_set_blocks(t, 1, 1, IOMAP_HOLE, 0);
}

START_TEST(race_08_truncation_during_writeback)
{
	bool punch = _i;

	use_geometry(12, 0, false, 0);
	toy_set_blocks(t, 0, 8, IOMAP_MAPPED, 1);
	i_size_write(&t->inode, 32 * KIB);
	ck_assert_int_eq(toy_write(t, 0, ref, 32 * KIB, 0), 32 * KIB);
	toy_log_reset(t);
	install("iomap:writeback_folio", shrink, punch ? t : NULL);
	ck_assert_int_eq(toy_sync(t), 0);
	hook_remove("iomap:writeback_folio");
	/* The rest of the file is the truncation's; a block that went meanwhile is nobody's. */
	ck_assert_uint_eq(t->nr_writes, 1);
	ck_assert_uint_eq(t->log[0].len, punch ? 4096 : 8192);
	ck_assert_uint_eq(atomic_load(&t->inode.i_mapping.nr_writeback), 0);
}
END_TEST

/* ---- 9: a copy that ends in a block that was not filled, and a read after it ------------------------------- */

static void shorten(const char *name, void *n, void *arg)
{
	int *times = arg;

	if (*times > 0 && *(size_t *)n > 5000) {
		*(size_t *)n = 5000;
		--*times;
	}
}

START_TEST(race_09_short_copy_then_read)
{
	int times = 3;

	toy_set_blocks(t, 0, 16, IOMAP_MAPPED, 0x55);
	i_size_write(&t->inode, 64 * KIB);
	install("iomap:copy_from", shorten, &times);
	ck_assert_int_eq(toy_write(t, 100, ref, 30000, 0), 30000);
	hook_remove("iomap:copy_from");
	ck_assert_int_eq(times, 0);
	expect(100, ref, 30000);
	expect_fill(0, 0x55, 100);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect(100, ref, 30000);
	expect_fill(30100, 0x55, 1000);
}
END_TEST

static void shorten_then_fail(const char *name, void *n, void *arg)
{
	int *times = arg;

	*(size_t *)n = (*times)++ ? 0 : 5000;
}

/* Nobody comes to copy the rest: the block is the disk's, as if nothing had been stored into it. */
START_TEST(race_09_half_a_block_counts_as_nothing)
{
	int times = 0;

	toy_set_blocks(t, 0, 16, IOMAP_MAPPED, 0x55);
	i_size_write(&t->inode, 64 * KIB);
	install("iomap:copy_from", shorten_then_fail, &times);
	ck_assert_int_eq(toy_write(t, 0, ref, 40000, 0), -EFAULT);
	hook_remove("iomap:copy_from");
	expect_fill(0, 0x55, 40000);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect_fill(0, 0x55, 40000);
}
END_TEST

/* ---- 11: a direct write and cache that somebody dirties ------------------------------------------------------ */

static void redirty(const char *name, void *inode, void *arg)
{
	struct folio *f;

	if (filemap_get_folio(&t->inode.i_mapping, 0, 0, FGP_LOCK, &f))
		return;
	folio_mark_dirty(f);
	folio_unlock(f);
	folio_put(f);
}

START_TEST(race_11_redirtied_before_invalidation)
{
	ck_assert_int_eq(toy_write(t, 0, ref, 8192, 0), 8192);
	install("iomap:dio_invalidate", redirty, NULL);
	ck_assert_int_eq(dio(0, ref, 4096, IOCB_WRITE, 0), -ENOTBLK);
	t->dev.atomic_min = t->dev.atomic_max = 4096;
	ck_assert_int_eq(dio(0, ref, 4096, IOCB_WRITE | IOCB_DIRECT | IOCB_ATOMIC, 0), -EAGAIN);
	hook_remove("iomap:dio_invalidate");
}
END_TEST

START_TEST(race_11_collision_is_reported)
{
	errseq_mark_t mark = errseq_sample(&t->inode.i_mapping.wb_err);

	toy_set_blocks(t, 0, 4, IOMAP_MAPPED, 1);
	i_size_write(&t->inode, 16384);
	install("iomap:dio_end_io", read_into_cache, NULL);
	install("iomap:dio_reinvalidate", redirty, NULL);
	ck_assert_int_eq(dio(0, ref, 4096, IOCB_WRITE, 0), 4096);
	hook_remove("iomap:dio_end_io");
	hook_remove("iomap:dio_reinvalidate");
	ck_assert_int_eq(errseq_check_and_advance(&t->inode.i_mapping.wb_err, &mark), -EIO);
}
END_TEST

/* ---- 12: parts of a folio end before the others were submitted -------------------------------------------------- */

static void finish_what_went_before(const char *name, void *ioend, void *arg)
{
	struct folio *f;
	unsigned *nr = arg;

	if (*nr) {
		work_pool_drain(t->pool);
		ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 0, 0, 0, &f), 0);
		ck_assert(folio_test_writeback(f));
		folio_put(f);
	}
	++*nr;
}

START_TEST(race_12_parts_end_early)
{
	unsigned nr = 0;

	use_geometry(12, 4, false, 8 * KIB);
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	install("iomap:ioend_submit", finish_what_went_before, &nr);
	ck_assert_int_eq(toy_sync(t), 0);
	hook_remove("iomap:ioend_submit");
	ck_assert_uint_eq(nr, 8);
	/* Reading the same in as many parts, each of which ends inside its submission. */
	ck_assert_int_eq(toy_drop_cache(t), 0);
	toy_log_reset(t);
	expect(0, ref, 64 * KIB);
	ck_assert_uint_eq(t->nr_reads, 8);
}
END_TEST

/* ---- 13: reclaim and a folio that is dirty in part ---------------------------------------------------------------- */

static void reclaim_now(const char *name, void *folio, void *arg)
{
	/* The dirty flag is gone by now, the blocks' bits are not. */
	ck_assert(!folio_test_dirty((struct folio *)folio));
	ck_assert_uint_eq(invalidate_mapping_pages(&t->inode.i_mapping, 0, UINT64_MAX), 0);
	++*(unsigned *)arg;
}

START_TEST(race_13_reclaim_of_partly_dirty)
{
	unsigned nr = 0;
	struct folio *f;

	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_int_eq(toy_write(t, 100, ref, 10, 0), 10);
	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 0, 0, FGP_LOCK, &f), 0);
	ck_assert(!iomap_release_folio(f));
	ck_assert_ptr_nonnull(f->private);
	folio_unlock(f);
	folio_put(f);
	toy_log_reset(t);
	install("iomap:writeback_folio", reclaim_now, &nr);
	ck_assert_int_eq(toy_sync(t), 0);
	hook_remove("iomap:writeback_folio");
	ck_assert_uint_eq(nr, 1);
	ck_assert_uint_eq(t->nr_writes, 1);
	ck_assert_uint_eq(t->log[0].len, 4096);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect(100, ref, 10);
	expect(110, ref + 110, 1000);
}
END_TEST

/* ---- 15: neighbours in the file and on the device that must not be finished as one --------------------------------- */

START_TEST(race_15_no_merge_across_states)
{
	use_geometry(12, 5, true, 0);
	toy_set_blocks(t, 0, 4, IOMAP_UNWRITTEN, 0xdd);
	toy_set_blocks(t, 4, 4, IOMAP_MAPPED, 1);
	ck_assert_uint_eq(t->blocks[4].dev_block, t->blocks[3].dev_block + 1);
	i_size_write(&t->inode, 32 * KIB);
	ck_assert_int_eq(toy_write(t, 0, ref, 32 * KIB, 0), 32 * KIB);
	toy_log_reset(t);
	/* One folio, one stretch of the device: two writes, since one of them has to be converted. */
	t->fail_addr = (uint64_t)t->blocks[_i ? 4 : 0].dev_block << 12;
	t->fail_len = 16 * KIB;
	atomic_store(&t->fail_write, -EIO);
	ck_assert_int_eq(toy_sync(t), -EIO);
	atomic_store(&t->fail_write, 0);
	ck_assert_uint_eq(t->nr_writes, 2);
	/* The error of one does not keep the other from being converted, nor convert what failed. */
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(t->blocks[i].type, _i ? IOMAP_MAPPED : IOMAP_UNWRITTEN);
}
END_TEST

/* ---- 16: a fault while a punch is between the cache and the extents --------------------------------------------------- */

struct faulter {
	pthread_t thread;
	_Atomic bool began, done;
};

static void *fault_main(void *arg)
{
	struct faulter *fr = arg;
	uint8_t byte;

	atomic_store(&fr->began, true);
	/* As the page fault of a mapping: no i_rwsem. */
	read_into_cache(NULL, &t->inode, &byte);
	atomic_store(&fr->done, true);
	return NULL;
}

static void fault_now(const char *name, void *inode, void *arg)
{
	struct faulter *fr = arg;

	ck_assert_int_eq(pthread_create(&fr->thread, NULL, fault_main, fr), 0);
	while (!atomic_load(&fr->began))
		usleep(100);
	for (unsigned i = 0; i < 200 && !atomic_load(&fr->done); i++)
		usleep(1000);
	/* It waits for the punch to be whole. */
	ck_assert(!atomic_load(&fr->done));
}

START_TEST(race_16_fault_during_punch)
{
	static struct faulter fr;

	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	install("toy:punch", fault_now, &fr);
	ck_assert_int_eq(toy_punch(t, 0, 64 * KIB), 0);
	hook_remove("toy:punch");
	pthread_join(fr.thread, NULL);
	expect_fill(0, 0, 64 * KIB);
}
END_TEST

/* ---- 18: begin without end ---------------------------------------------------------------------------------------------- */

static int64_t operate(unsigned op)
{
	bool did;

	switch (op) {
	case 0: return toy_write(t, 100, ref, 20000, 0);
	case 1: return toy_dio_write(t, 0, ref, 16384, 0);
	case 2: return toy_dio_read(t, 0, buf, 16384);
	case 3: return toy_zero(t, 100, 15000, &did);
	case 4: return toy_unshare(t, 0, 16384);
	case 5: return toy_read(t, 0, buf, 16384, 0);
	case 6: return iomap_seek_hole(&t->inode, 0, &toy_ops);
	default: return toy_punch(t, 5000, 10000);
	}
}

/* Each operation with its n-th begin failing, its n-th lock finding a stale map, its copy failing. */
START_TEST(race_18_end_for_every_begin)
{
	unsigned nr_failed = 0;

	t->cap_one_block = true;
	for (int n = 1; n < 8; n++) {
		toy_drop_cache(t);
		toy_set_blocks(t, 0, 8, IOMAP_HOLE, 0);
		toy_set_blocks(t, 0, 3, _i == 4 ? IOMAP_MAPPED : n % 2 ? IOMAP_MAPPED : IOMAP_UNWRITTEN, 3);
		toy_share(t, 0, _i == 4 ? 8192 : 0);
		i_size_write(&t->inode, 16384);
		t->fail_begin = -EIO;
		atomic_store(&t->begin_countdown, n);
		nr_failed += operate((unsigned)_i) < 0;
		atomic_store(&t->begin_countdown, 0);
		atomic_store(&t->fail_begin, 0);
		ck_assert_uint_eq(t->nr_begin, t->nr_end);
		atomic_store(&t->stale_times, n);
		operate((unsigned)_i);
		atomic_store(&t->stale_times, 0);
		ck_assert_uint_eq(t->nr_begin, t->nr_end);
		ck_assert_int_eq(toy_drop_cache(t), 0);
		atomic_store(&t->fail_read, -EIO);
		operate((unsigned)_i);
		atomic_store(&t->fail_read, 0);
		ck_assert_uint_eq(t->nr_begin, t->nr_end);
		ck_assert_int_eq(toy_sync(t), 0);
		ck_assert_uint_eq(t->nr_reserved, 0);
	}
	ck_assert_uint_gt(nr_failed, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-races");
	TCase *tc = tcase_create("races");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, race_01_writeback_between_map_and_lock);
	tcase_add_loop_test(tc, race_02_zeroing_under_writeback, 0, 2);
	tcase_add_test(tc, race_03_zeroes_cached_before_conversion);
	tcase_add_test(tc, race_04_stores_behind_eof);
	tcase_add_test(tc, race_04_writeback_zeroes_the_tail);
	tcase_add_test(tc, race_05_append_during_writeback);
	tcase_add_test(tc, race_06_store_into_a_failing_write);
	tcase_add_test(tc, race_07_promise_under_a_clean_folio);
	tcase_add_loop_test(tc, race_08_truncation_during_writeback, 0, 2);
	tcase_add_test(tc, race_09_short_copy_then_read);
	tcase_add_test(tc, race_09_half_a_block_counts_as_nothing);
	tcase_add_test(tc, race_11_redirtied_before_invalidation);
	tcase_add_test(tc, race_11_collision_is_reported);
	tcase_add_test(tc, race_12_parts_end_early);
	tcase_add_test(tc, race_13_reclaim_of_partly_dirty);
	tcase_add_loop_test(tc, race_15_no_merge_across_states, 0, 2);
	tcase_add_test(tc, race_16_fault_during_punch);
	tcase_add_loop_test(tc, race_18_end_for_every_begin, 0, 8);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

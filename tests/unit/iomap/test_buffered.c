/* SPDX-License-Identifier: MIT */
/* Buffered reads and writes, zeroing, unsharing, faults: one behaviour a test. */
#include <string.h>

#include "toymap.h"
#include "unit.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static struct toy *t;
static uint8_t *buf, *ref;

static void setup_with(unsigned blkbits, unsigned order)
{
	struct toy_params p = { .blkbits = blkbits, .max_order = order };

	t = toy_create(&p);
	buf = aligned_alloc(4096, MIB);
	ref = aligned_alloc(4096, MIB);
	for (unsigned i = 0; i < MIB; i++)
		ref[i] = (uint8_t)(i * 7 + i / 4096);
}

static void setup(void)
{
	setup_with(12, 9);
}

static void teardown(void)
{
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	toy_destroy(t);
	free(buf);
	free(ref);
}

static void use_geometry(unsigned blkbits, unsigned order)
{
	teardown();
	setup_with(blkbits, order);
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

START_TEST(calls_are_per_extent)
{
	ck_assert_int_eq(toy_write(t, 0, ref, MIB, 0), MIB);
	ck_assert_uint_eq(t->nr_begin, 1);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	t->nr_begin = t->nr_end = 0;
	toy_log_reset(t);
	expect(0, ref, MIB);
	ck_assert_uint_le(t->nr_begin, 2);
	ck_assert_uint_le(t->nr_reads, 2);
}
END_TEST

START_TEST(one_dirty_block_one_block_written)
{
	struct folio *f;

	use_geometry(12, 6);
	toy_set_blocks(t, 0, 64, IOMAP_MAPPED, 0x11);
	i_size_write(&t->inode, 256 * KIB);
	expect_fill(0, 0x11, 256 * KIB);
	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 0, 0, 0, &f), 0);
	ck_assert_uint_eq(folio_size(f), 256 * KIB);
	folio_put(f);
	toy_log_reset(t);
	ck_assert_int_eq(toy_write(t, 37 * 4096 + 5, ref, 10, 0), 10);
	ck_assert_uint_eq(t->nr_reads, 0);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_uint_eq(t->nr_log, 1);
	ck_assert_uint_eq(t->log[0].len, 4096);
	ck_assert_uint_eq(t->log[0].addr, (uint64_t)t->blocks[37].dev_block << 12);
}
END_TEST

START_TEST(sub_block_write_reads_only_edges)
{
	use_geometry(10, 5);
	toy_set_blocks(t, 0, 64, IOMAP_MAPPED, 0x22);
	i_size_write(&t->inode, 64 * KIB);
	toy_log_reset(t);
	ck_assert_int_eq(toy_write(t, 1500, ref, 5000, 0), 5000);
	ck_assert_uint_eq(t->nr_reads, 2);
	ck_assert_uint_eq(t->log[0].len, 1024);
	ck_assert_uint_eq(t->log[1].len, 1024);
	expect(1500, ref, 5000);
	expect_fill(0, 0x22, 1500);
	expect_fill(6500, 0x22, 1000);
}
END_TEST

START_TEST(bad_block_fails_alone)
{
	use_geometry(12, 5);
	toy_set_blocks(t, 0, 32, IOMAP_MAPPED, 0x33);
	i_size_write(&t->inode, 128 * KIB);
	t->fail_addr = (uint64_t)t->blocks[9].dev_block << 12;
	t->fail_len = 4096;
	atomic_store(&t->fail_read, -EIO);
	for (unsigned i = 0; i < 32; i++)
		ck_assert_int_eq(toy_read(t, i * 4096, buf, 4096, 0), i == 9 ? -EIO : 4096);
	ck_assert_int_eq(toy_read(t, 0, buf, 128 * KIB, 0), 9 * 4096);
	/* Writing all of it needs no read; afterwards it reads. */
	ck_assert_int_eq(toy_write(t, 9 * 4096 + 1, ref, 10, 0), -EIO);
	ck_assert_int_eq(toy_write(t, 9 * 4096, ref, 4096, 0), 4096);
	expect(9 * 4096, ref, 4096);
	atomic_store(&t->fail_read, 0);
	expect_fill(10 * 4096, 0x33, 4096);
}
END_TEST

START_TEST(nowait)
{
	toy_set_blocks(t, 0, 16, IOMAP_MAPPED, 0x44);
	i_size_write(&t->inode, 64 * KIB);
	ck_assert_int_eq(toy_read(t, 0, buf, 100, IOCB_NOWAIT), -EAGAIN);
	ck_assert_int_eq(toy_write(t, 10, ref, 100, IOCB_NOWAIT), -EAGAIN);
	ck_assert_uint_eq(t->nr_log, 0);
	ck_assert_int_eq(toy_write(t, 4096, ref, 4096, IOCB_NOWAIT), 4096);
	ck_assert_int_eq(toy_read(t, 4096, buf, 4096, IOCB_NOWAIT), 4096);
	ck_assert_mem_eq(buf, ref, 4096);
	/* Cached first, cold behind: a short count. */
	ck_assert_int_eq(toy_read(t, 4096, buf, 60 * KIB, IOCB_NOWAIT), 4096);
	ck_assert_int_eq(toy_write(t, 4096, ref, 4096 + 100, IOCB_NOWAIT), 4096);
	expect_fill(0, 0x44, 4096);
	ck_assert_int_eq(toy_read(t, 0, buf, 100, IOCB_NOWAIT), 100);
	lk_lock(&t->lock);
	lk_unlock(&t->lock);
	expect_fill(8192, 0x44, 56 * KIB);
}
END_TEST

/* A miss that may not sleep is repeated where it may: that is no sequential reader. */
START_TEST(repeated_miss_reads_nothing_ahead)
{
	static const uint64_t places[] = {800 * KIB, 200 * KIB, 600 * KIB, 40 * KIB};

	toy_write(t, 0, ref, 1024 * KIB, 0);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(toy_read(t, places[i], buf, 4096, IOCB_NOWAIT), -EAGAIN);
		ck_assert_int_eq(toy_read(t, places[i], buf, 4096, 0), 4096);
		ck_assert(!filemap_range_has_page(&t->inode.i_mapping, places[i] + 64 * KIB,
						  places[i] + 128 * KIB));
	}
}
END_TEST

START_TEST(stale_mapping_is_asked_again)
{
	atomic_store(&t->stale_times, 3);
	ck_assert_int_eq(toy_write(t, 100, ref, 10000, 0), 10000);
	ck_assert_uint_eq(t->nr_stale_end, 3);
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	expect(100, ref, 10000);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	ck_assert_uint_eq(t->nr_reserved, 0);
	expect(100, ref, 10000);
}
END_TEST

static void no_copy(const char *name, void *n, void *arg)
{
	*(size_t *)n = 0;
}

START_TEST(failed_copy_gives_reservation_back)
{
	ck_assert_int_eq(hook_install("iomap:copy_from", no_copy, NULL), 0);
	ck_assert_int_eq(toy_write(t, 10000, ref, 50000, 0), -EFAULT);
	hook_remove("iomap:copy_from");
	ck_assert_uint_eq(t->nr_reserved, 0);
	ck_assert_uint_eq(i_size_read(&t->inode), 0);
	ck_assert(!mapping_tagged_dirty(&t->inode.i_mapping));
}
END_TEST

START_TEST(enospc_midway)
{
	t->space_limit = 10;
	ck_assert_int_eq(toy_write(t, 100, ref, 100000, 0), 10 * 4096 - 100);
	ck_assert_uint_eq(i_size_read(&t->inode), 10 * 4096);
	ck_assert_int_eq(toy_write(t, 100000, ref, 10, 0), -ENOSPC);
	ck_assert_uint_eq(t->nr_reserved, 10);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_uint_eq(t->nr_reserved, 0);
	expect(100, ref, 10 * 4096 - 100);
}
END_TEST

START_TEST(second_begin_fails)
{
	t->cap_one_block = true;
	t->fail_begin = -EIO;
	atomic_store(&t->begin_countdown, 3);
	ck_assert_int_eq(toy_write(t, 0, ref, 5 * 4096, 0), 2 * 4096);
	atomic_store(&t->fail_begin, 0);
	expect(0, ref, 2 * 4096);
	ck_assert_uint_eq(i_size_read(&t->inode), 2 * 4096);
}
END_TEST

START_TEST(op_flags)
{
	bool did = false;

	toy_write(t, 0, ref, 100, 0);
	ck_assert_uint_eq(atomic_exchange(&t->flags_seen, 0), IOMAP_WRITE);
	toy_write(t, 0, ref, 100, IOCB_NOWAIT | IOCB_DONTCACHE);
	ck_assert_uint_eq(atomic_exchange(&t->flags_seen, 0),
			  IOMAP_WRITE | IOMAP_NOWAIT | IOMAP_DONTCACHE);
	toy_zero(t, 0, 10, &did);
	ck_assert(did);
	ck_assert_uint_eq(atomic_exchange(&t->flags_seen, 0), IOMAP_ZERO);
	toy_unshare(t, 0, 10);
	ck_assert_uint_eq(atomic_exchange(&t->flags_seen, 0), IOMAP_WRITE | IOMAP_UNSHARE);
	iomap_seek_data(&t->inode, 0, &toy_ops);
	ck_assert_uint_eq(atomic_exchange(&t->flags_seen, 0), IOMAP_REPORT);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	atomic_store(&t->flags_seen, 0);
	expect_fill(0, 0, 10);
	ck_assert_uint_eq(atomic_exchange(&t->flags_seen, 0), 0);
}
END_TEST

START_TEST(size_changed_flag)
{
	toy_write(t, 0, ref, 5000, 0);
	ck_assert(t->last_flags & IOMAP_F_SIZE_CHANGED);
	toy_write(t, 0, ref, 5000, 0);
	ck_assert(!(t->last_flags & IOMAP_F_SIZE_CHANGED));
	ck_assert_uint_eq(t->last_written, 5000);
}
END_TEST

static uint64_t punched[64];

static void note_punch(struct inode *inode, uint64_t off, uint64_t len, struct iomap *m)
{
	for (uint64_t b = off >> 12; b < (off + len) >> 12; b++)
		punched[b]++;
}

/* A reservation stays exactly where cache is dirty: others may have written meanwhile. */
START_TEST(release_spares_dirty_blocks)
{
	struct iomap m = { .type = IOMAP_DELALLOC, .flags = IOMAP_F_NEW };
	bool dirty[64] = { false };

	use_geometry(12, 3);
	i_size_write(&t->inode, 48 * 4096);
	expect_fill(0, 0, 48 * 4096);
	for (unsigned b = 3; b < 48; b += b % 5 + 1) {
		ck_assert_int_eq(toy_write(t, b * 4096ull + 5, ref, 10, 0), 10);
		dirty[b] = true;
	}
	/* Written back by now: its delalloc is real, and punching it does nothing. */
	filemap_write_and_wait_range(&t->inode.i_mapping, 3 * 4096, 3 * 4096 + 1);
	for (unsigned b = 0; b < 8; b++)
		dirty[b] = false;
	memset(punched, 0, sizeof(punched));
	lk_wrlock(&t->inode.i_mapping.invalidate_lock);
	iomap_write_delalloc_release(&t->inode, 0, 64 * 4096, 0, &m, note_punch);
	lk_rw_unlock(&t->inode.i_mapping.invalidate_lock);
	for (unsigned b = 0; b < 64; b++)
		if (punched[b] != !dirty[b])
			ck_abort_msg("block %u: punched %u", b, (unsigned)punched[b]);
}
END_TEST

/* ---- Not to be cached ----------------------------------------------------------------------- */

static bool cached(uint64_t pos, uint64_t len)
{
	return filemap_range_has_page(&t->inode.i_mapping, pos, pos + len - 1);
}

/* Gone with its writeback; what was there before, or was used meanwhile, stays. */
START_TEST(dontcache_write)
{
	toy_set_blocks(t, 0, 64, IOMAP_MAPPED, 1);
	i_size_write(&t->inode, 256 * KIB);
	expect_fill(128 * KIB, 1, 4096);
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, IOCB_DONTCACHE), 64 * KIB);
	ck_assert_int_eq(toy_write(t, 64 * KIB, ref, 4096, IOCB_DONTCACHE), 4096);
	ck_assert_int_eq(toy_write(t, 128 * KIB, ref, 4096, IOCB_DONTCACHE), 4096);
	ck_assert(cached(0, 4096) && cached(64 * KIB, 4096));
	expect(64 * KIB, ref, 4096);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert(!cached(0, 64 * KIB));
	ck_assert(cached(64 * KIB, 4096));
	ck_assert(cached(128 * KIB, 4096));
	/* Written in the way of others: ioends of the two kinds are kept apart. */
	toy_log_reset(t);
	ck_assert_int_eq(toy_write(t, 0, ref, 4096, IOCB_DONTCACHE), 4096);
	ck_assert_int_eq(toy_write(t, 4096, ref, 4096, 0), 4096);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_uint_eq(t->nr_writes, 2);
	ck_assert(!cached(0, 4096) && cached(4096, 4096));
	expect(0, ref, 4096);
}
END_TEST

START_TEST(dontcache_read)
{
	toy_set_blocks(t, 0, 256, IOMAP_MAPPED, 7);
	i_size_write(&t->inode, MIB);
	expect_fill(64 * KIB, 7, 4096);
	ck_assert_int_eq(toy_read(t, 0, buf, 4096, IOCB_DONTCACHE), 4096);
	ck_assert_uint_eq(buf[100], 7);
	ck_assert(!cached(0, 4096));
	/* A folio that was there stays, whoever reads it how. */
	ck_assert_int_eq(toy_read(t, 64 * KIB, buf, 4096, IOCB_DONTCACHE), 4096);
	ck_assert(cached(64 * KIB, 4096));
	/* In order: what was read ahead waits for its reader, and goes with it. */
	ck_assert_int_eq(toy_drop_cache(t), 0);
	toy_log_reset(t);
	for (uint64_t pos = 0; pos < MIB; pos += 128 * KIB)
		ck_assert_int_eq(toy_read(t, pos, buf, 128 * KIB, IOCB_DONTCACHE), 128 * KIB);
	ck_assert(!cached(0, MIB));
	ck_assert_uint_le(t->nr_reads, 8);
	/* Dirty data is somebody's. */
	ck_assert_int_eq(toy_write(t, 0, ref, 4096, 0), 4096);
	ck_assert_int_eq(toy_read(t, 0, buf, 4096, IOCB_DONTCACHE), 4096);
	ck_assert(cached(0, 4096));
	ck_assert_int_eq(toy_write(t, 4096, ref, 4096, IOCB_DONTCACHE), 4096);
	ck_assert_int_eq(toy_read(t, 4096, buf, 4096, IOCB_DONTCACHE), 4096);
	ck_assert(cached(4096, 4096));
	ck_assert_mem_eq(buf, ref, 4096);
}
END_TEST

/* ---- Zeroing -------------------------------------------------------------------------- */

START_TEST(zero_dirty_over_unwritten)
{
	toy_set_blocks(t, 0, 16, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 64 * KIB);
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	ck_assert_int_eq(toy_zero(t, 10000, 20000, NULL), 0);
	expect(0, ref, 10000);
	expect_fill(10000, 0, 20000);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect_fill(10000, 0, 20000);
	expect(30000, ref + 30000, 1000);
}
END_TEST

START_TEST(zero_skips_what_is_zero)
{
	bool did = false;

	toy_set_blocks(t, 4, 4, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 64 * KIB);
	ck_assert_int_eq(toy_zero(t, 0, 64 * KIB, &did), 0);
	ck_assert(!did);
	ck_assert_uint_eq(t->nr_reserved, 0);
	ck_assert(!mapping_tagged_dirty(&t->inode.i_mapping));
	ck_assert_int_eq(toy_truncate(t, 8192), 0);
	ck_assert_int_eq(iomap_truncate_page(&t->inode, 8192, &did, &toy_ops, &toy_write_ops, NULL),
			 0);
	ck_assert(!did);
}
END_TEST

/* Only dirty folios, however many, in and between the gaps; nothing is flushed for it, nothing else dirtied. */
START_TEST(zero_by_folio_batch)
{
	bool did = false;

	use_geometry(12, 0);
	t->fbatch = true;
	toy_set_blocks(t, 0, 200, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 800 * KIB);
	ck_assert_int_eq(toy_zero(t, 100, 700 * KIB, &did), 0);
	ck_assert(!did);
	ck_assert(!mapping_tagged_dirty(&t->inode.i_mapping));
	for (unsigned i = 0; i < 200; i += 3)
		ck_assert_int_eq(toy_write(t, i * 4096u, ref, 4096, 0), 4096);
	expect_fill(4096, 0, 4096); /* cached, and clean */
	toy_log_reset(t);
	ck_assert_int_eq(toy_zero(t, 100, 700 * KIB, &did), 0);
	ck_assert(did);
	ck_assert_uint_eq(t->nr_writes, 0);
	expect(0, ref, 100);
	for (unsigned i = 0; i < 200; i++) {
		if (i == 0)
			expect_fill(100, 0, 3996);
		else if (i < 175 || i % 3)
			expect_fill(i * 4096u, 0, 4096);
		else if (i > 175)
			expect(i * 4096u, ref, 4096);
	}
	ck_assert_uint_eq(t->nr_convert, 0);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	ck_assert_int_eq(t->blocks[1].type, IOMAP_UNWRITTEN);
	expect(0, ref, 100);
	expect_fill(100, 0, 700 * KIB);
	expect(177 * 4096, ref, 4096);
}
END_TEST

static void write_and_drop(const char *name, void *folio, void *arg)
{
	unsigned *nr = arg;

	/* The second of them: written back, converted, gone. */
	if (++*nr == 2)
		ck_assert_int_eq(toy_drop_cache(t), 0);
}

START_TEST(batch_folio_left_the_cache)
{
	unsigned nr = 0;

	use_geometry(12, 0);
	t->fbatch = true;
	toy_set_blocks(t, 0, 16, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 64 * KIB);
	for (unsigned i = 0; i < 16; i += 2)
		ck_assert_int_eq(toy_write(t, i * 4096u, ref, 4096, 0), 4096);
	ck_assert_int_eq(hook_install("iomap:batch_folio", write_and_drop, &nr), 0);
	ck_assert_int_eq(toy_zero(t, 0, 64 * KIB, NULL), 0);
	hook_remove("iomap:batch_folio");
	ck_assert_uint_ge(t->nr_stale_end, 1);
	expect_fill(0, 0, 64 * KIB);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect_fill(0, 0, 64 * KIB);
}
END_TEST

START_TEST(truncate_down_and_up)
{
	for (unsigned order = 0; order < 6; order++) {
		use_geometry(10 + order % 3 * 2, order);
		memset(buf, 0xff, 64 * KIB);
		ck_assert_int_eq(toy_write(t, 0, buf, 64 * KIB, 0), 64 * KIB);
		if (order & 1)
			toy_sync(t);
		ck_assert_int_eq(toy_truncate(t, 100), 0);
		ck_assert_int_eq(toy_truncate(t, 64 * KIB), 0);
		expect_fill(0, 0xff, 100);
		expect_fill(100, 0, 64 * KIB - 100);
		ck_assert_int_eq(toy_truncate(t, 16 * KIB), 0);
		memset(buf, 0xee, 10);
		ck_assert_int_eq(toy_write(t, 50 * KIB, buf, 10, 0), 10);
		ck_assert_int_eq(toy_drop_cache(t), 0);
		expect_fill(100, 0, 50 * KIB - 100);
		expect_fill(50 * KIB, 0xee, 10);
	}
}
END_TEST

/* Bytes behind EOF in a dirty folio, as a mapped store leaves them, must not become content. */
START_TEST(stores_behind_eof_are_zeroed)
{
	struct folio *f;

	ck_assert_int_eq(toy_write(t, 0, ref, 100, 0), 100);
	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 0, 0, FGP_LOCK, &f), 0);
	memset((char *)f->data + 100, 0xbb, 1000);
	folio_unlock(f);
	folio_put(f);
	/* Two blocks on: the write itself touches another block of the same folio or another one. */
	if (_i)
		ck_assert_int_eq(toy_write(t, 9000, ref, 10, 0), 10);
	else
		ck_assert_int_eq(toy_truncate(t, 9000), 0);
	expect_fill(100, 0, 4900);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect_fill(100, 0, 4900);
}
END_TEST

/* The engine's own part of that, for a file system that does not zero the gap itself. */
START_TEST(gap_after_old_eof)
{
	struct iovec iov = { ref, 10 };
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = 9000, .ki_flags = IOCB_WRITE };
	struct iov_iter it;
	struct folio *f;

	ck_assert_int_eq(toy_write(t, 0, ref, 100, 0), 100);
	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 0, 0, FGP_LOCK, &f), 0);
	memset((char *)f->data + 100, 0xbb, 1000);
	folio_unlock(f);
	folio_put(f);
	iov_iter_init(&it, &iov, 1, 10);
	lk_wrlock(&t->inode.i_rwsem);
	ck_assert_int_eq(iomap_file_buffered_write(&iocb, &it, &toy_ops, &toy_write_ops, NULL), 10);
	lk_rw_unlock(&t->inode.i_rwsem);
	expect(0, ref, 100);
	expect_fill(100, 0, 8900);
	expect(9000, ref, 10);
}
END_TEST

/* ---- Sharing ------------------------------------------------------------------------------ */

START_TEST(unshare_all)
{
	uint32_t old;

	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	toy_share(t, 0, 64 * KIB);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	old = t->blocks[3].dev_block;
	ck_assert_int_eq(toy_unshare(t, 0, MIB), 0);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	for (unsigned i = 0; i < 16; i++)
		ck_assert(!t->blocks[i].shared);
	ck_assert_uint_ne(t->blocks[3].dev_block, old);
	expect(0, ref, 64 * KIB);
}
END_TEST

START_TEST(partial_write_to_shared_block)
{
	uint32_t old;

	ck_assert_int_eq(toy_write(t, 0, ref, 16 * KIB, 0), 16 * KIB);
	toy_share(t, 0, 16 * KIB);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	old = t->blocks[1].dev_block;
	ck_assert_int_eq(toy_write(t, 5000, "xyz", 3, 0), 3);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect(0, ref, 5000);
	expect(5000, "xyz", 3);
	expect(5003, ref + 5003, 8000);
	/* The other owner still has what it had. */
	ck_assert_mem_eq(t->dev_mem + ((uint64_t)old << 12), ref + 4096, 4096);
	ck_assert(t->blocks[0].shared && !t->blocks[1].shared);
}
END_TEST

/* ---- Inline, faults ---------------------------------------------------------------------------- */

START_TEST(inline_file)
{
	t->inline_cap = 200;
	t->inline_buf = calloc(1, t->inline_cap);
	ck_assert_int_eq(toy_write(t, 0, ref, 150, 0), 150);
	ck_assert_mem_eq(t->inline_buf, ref, 150);
	expect(0, ref, 150);
	ck_assert(!mapping_tagged_dirty(&t->inode.i_mapping));
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect(10, ref + 10, 140);
	ck_assert_int_eq(toy_write(t, 100, "abc", 3, 0), 3);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	expect(100, "abc", 3);
	expect(103, ref + 103, 47);
	ck_assert_int_eq(toy_dio_read(t, 0, buf, 512), 150);
	ck_assert_mem_eq(buf + 100, "abc", 3);
}
END_TEST

START_TEST(page_mkwrite)
{
	struct address_space *m = &t->inode.i_mapping;
	struct folio *f;

	i_size_write(&t->inode, 5000);
	expect_fill(0, 0, 5000);
	ck_assert_uint_eq(t->nr_reserved, 0);
	ck_assert_int_eq(filemap_get_folio(m, 4096, 0, FGP_LOCK, &f), 0);
	lk_rdlock(&m->invalidate_lock);
	ck_assert_int_eq(iomap_page_mkwrite(&t->inode, f, &toy_ops, NULL), 0);
	ck_assert(folio_test_locked(f) && folio_test_dirty(f));
	ck_assert_uint_gt(t->nr_reserved, 0);
	folio_unlock(f);
	i_size_write(&t->inode, 0);
	folio_lock(f);
	ck_assert_int_eq(iomap_page_mkwrite(&t->inode, f, &toy_ops, NULL), -EFAULT);
	folio_unlock(f);
	i_size_write(&t->inode, 5000);
	t->space_limit = 0;
	toy_set_blocks(t, 0, 4, IOMAP_HOLE, 0);
	folio_lock(f);
	ck_assert_int_eq(iomap_page_mkwrite(&t->inode, f, &toy_ops, NULL), -ENOSPC);
	folio_unlock(f);
	lk_rw_unlock(&m->invalidate_lock);
	folio_put(f);
}
END_TEST

START_TEST(big_sparse_read)
{
	i_size_write(&t->inode, TOY_MAX_BYTES);
	for (unsigned i = 0; i < 4; i++)
		expect_fill(i * MIB, 0, MIB);
	ck_assert_uint_eq(t->nr_log, 0);
	ck_assert_int_eq(toy_read(t, TOY_MAX_BYTES - 10, buf, 100, 0), 10);
	ck_assert_int_eq(toy_read(t, TOY_MAX_BYTES, buf, 100, 0), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-buffered");
	TCase *tc = tcase_create("buffered");

	log_set_level(LOG_LVL_ERR);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, calls_are_per_extent);
	tcase_add_test(tc, one_dirty_block_one_block_written);
	tcase_add_test(tc, sub_block_write_reads_only_edges);
	tcase_add_test(tc, bad_block_fails_alone);
	tcase_add_test(tc, nowait);
	tcase_add_test(tc, repeated_miss_reads_nothing_ahead);
	tcase_add_test(tc, stale_mapping_is_asked_again);
	tcase_add_test(tc, failed_copy_gives_reservation_back);
	tcase_add_test(tc, enospc_midway);
	tcase_add_test(tc, second_begin_fails);
	tcase_add_test(tc, release_spares_dirty_blocks);
	tcase_add_test(tc, op_flags);
	tcase_add_test(tc, size_changed_flag);
	tcase_add_test(tc, dontcache_write);
	tcase_add_test(tc, dontcache_read);
	tcase_add_test(tc, zero_dirty_over_unwritten);
	tcase_add_test(tc, zero_skips_what_is_zero);
	tcase_add_test(tc, zero_by_folio_batch);
	tcase_add_test(tc, batch_folio_left_the_cache);
	tcase_add_test(tc, truncate_down_and_up);
	tcase_add_loop_test(tc, stores_behind_eof_are_zeroed, 0, 2);
	tcase_add_test(tc, gap_after_old_eof);
	tcase_add_test(tc, unshare_all);
	tcase_add_test(tc, partial_write_to_shared_block);
	tcase_add_test(tc, inline_file);
	tcase_add_test(tc, page_mkwrite);
	tcase_add_test(tc, big_sparse_read);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* Direct I/O, seek and fiemap. */
#include <linux/fiemap.h>
#include <string.h>
#include <unistd.h>

#include "toymap.h"
#include "unit.h"

#define KIB 1024u
#define MIB (1024u * 1024u)
#define NR_ASYNC 64u

static struct toy *t;
static uint8_t *buf, *ref;

static void start(unsigned blkbits, bool late)
{
	struct toy_params p = { .blkbits = blkbits, .max_order = 5, .late = late };

	log_set_level((enum log_level)-1);
	t = toy_create(&p);
	buf = aligned_alloc(4096, MIB);
	ref = aligned_alloc(4096, MIB);
	for (unsigned i = 0; i < MIB; i++)
		ref[i] = (uint8_t)(i * 11 + i / 512);
}

static void setup(void)
{
	start(12, false);
}

static void teardown(void)
{
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	ck_assert_uint_eq(atomic_load(&t->inode.i_dio_count), 0);
	toy_destroy(t);
	free(buf);
	free(ref);
}

static int64_t dio(uint64_t pos, void *mem, size_t len, unsigned iocb_flags, unsigned dio_flags)
{
	struct iovec iov = { mem, len };
	struct iov_iter it;
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = pos, .ki_flags = iocb_flags };

	iov_iter_init(&it, &iov, 1, len);
	return iomap_dio_rw(&iocb, &it, &toy_ops, &toy_dio_ops, dio_flags, NULL, 0);
}

static void expect_cached(uint64_t pos, const void *bytes, size_t len)
{
	ck_assert_int_eq(toy_read(t, pos, buf, len, 0), (int64_t)len);
	ck_assert_mem_eq(buf, bytes, len);
}

START_TEST(returns)
{
	ck_assert_int_eq(dio(0, buf, 0, 0, 0), 0);
	ck_assert_int_eq(dio(0, buf, 4096, 0, 0), 0);
	toy_set_blocks(t, 0, 8, IOMAP_MAPPED, 7);
	i_size_write(&t->inode, 30000);
	ck_assert_int_eq(dio(100, buf, 512, 0, 0), -EINVAL);
	ck_assert_int_eq(dio(512, buf, 100, 0, 0), -EINVAL);
	ck_assert_int_eq(dio(512, buf, 512, 0, 0), 512);
	ck_assert_int_eq(dio(512, buf, 512, IOCB_WRITE, IOMAP_DIO_FSBLOCK_ALIGNED), -EINVAL);
	ck_assert_int_eq(dio(0, buf, 64 * KIB, 0, 0), 30000);
	ck_assert_int_eq(dio(28672, buf, 4096, IOCB_WRITE, IOMAP_DIO_OVERWRITE_ONLY), -EAGAIN);
	ck_assert_int_eq(dio(24576, buf, 4096, IOCB_WRITE, IOMAP_DIO_OVERWRITE_ONLY), 4096);
	toy_set_blocks(t, 2, 1, IOMAP_UNWRITTEN, 7);
	ck_assert_int_eq(dio(0, buf, 16384, IOCB_WRITE, IOMAP_DIO_OVERWRITE_ONLY), -EAGAIN);
	toy_set_blocks(t, 3, 1, IOMAP_DELALLOC, 0);
	ck_assert_int_eq(dio(12288, buf, 4096, 0, 0), -EIO);
	toy_set_blocks(t, 3, 1, IOMAP_HOLE, 0);
	/* Promised behind EOF: no error, just the end of the file. */
	toy_set_blocks(t, 8, 4, IOMAP_DELALLOC, 0);
	ck_assert_int_eq(dio(0, buf, 64 * KIB, 0, 0), 30000);
	toy_set_blocks(t, 8, 4, IOMAP_HOLE, 0);
}
END_TEST

START_TEST(padding)
{
	/* 512 bytes in the middle of a new 4 KiB block: the rest must be zero, not what the disk had. */
	i_size_write(&t->inode, 8192);
	ck_assert_int_eq(dio(1024, ref, 512, IOCB_WRITE, IOMAP_DIO_FORCE_WAIT), 512);
	ck_assert_uint_eq(t->nr_writes, 3);
	ck_assert_int_eq(t->blocks[0].type, IOMAP_MAPPED);
	expect_cached(1024, ref, 512);
	ck_assert_int_eq(toy_read(t, 0, buf, 4096, 0), 4096);
	for (unsigned i = 0; i < 4096; i++)
		if (i < 1024 || i >= 1536)
			ck_assert_uint_eq(buf[i], 0);
	/* At EOF also in a mapped block. */
	toy_set_blocks(t, 4, 1, IOMAP_MAPPED, 0x77);
	i_size_write(&t->inode, 16384);
	ck_assert_int_eq(dio(16384, ref, 512, IOCB_WRITE, 0), 512);
	ck_assert_uint_eq(i_size_read(&t->inode), 16896);
	ck_assert_uint_eq(t->dev_mem[((uint64_t)t->blocks[4].dev_block << 12) + 600], 0);
}
END_TEST

START_TEST(misaligned_memory)
{
	toy_set_blocks(t, 0, 64, IOMAP_MAPPED, 9);
	i_size_write(&t->inode, 256 * KIB);
	ck_assert_int_eq(dio(0, ref + 3, 128 * KIB, IOCB_WRITE, 0), 128 * KIB);
	ck_assert_int_eq(dio(0, buf + 5, 128 * KIB, 0, 0), 128 * KIB);
	ck_assert_mem_eq(buf + 5, ref + 3, 128 * KIB);
	ck_assert_int_eq(dio(0, buf, 128 * KIB, 0, IOMAP_DIO_BOUNCE), 128 * KIB);
	ck_assert_mem_eq(buf, ref + 3, 128 * KIB);
}
END_TEST

START_TEST(durability)
{
	unsigned dsync = IOCB_WRITE | IOCB_DSYNC;

	toy_set_blocks(t, 0, 8, IOMAP_MAPPED, 9);
	i_size_write(&t->inode, 64 * KIB);
	toy_log_reset(t);
	/* Pure overwrite: FUA and no flush. */
	ck_assert_int_eq(dio(0, ref, 8192, dsync, 0), 8192);
	ck_assert(t->log[0].flags & IOMAP_BIO_FUA);
	ck_assert_uint_eq(t->nr_fsync, 0);
	/* O_SYNC wants the metadata as well. */
	ck_assert_int_eq(dio(0, ref, 8192, dsync | IOCB_SYNC, 0), 8192);
	ck_assert(!(t->log[1].flags & IOMAP_BIO_FUA));
	ck_assert_uint_eq(t->nr_fsync, 1);
	/* Half of it allocates: no shortcut for the whole. */
	ck_assert_int_eq(dio(28 * KIB, ref, 8192, dsync, 0), 8192);
	ck_assert_uint_eq(t->nr_fsync, 2);
	t->dev.volatile_cache = false;
	ck_assert_int_eq(dio(0, ref, 4096, dsync, 0), 4096);
	ck_assert_uint_eq(t->nr_fsync, 2);
}
END_TEST

START_TEST(cache_is_written_and_dropped)
{
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	ck_assert_int_eq(dio(0, buf, 64 * KIB, IOCB_NOWAIT, 0), -EAGAIN);
	ck_assert_int_eq(dio(0, buf, 64 * KIB, 0, 0), 64 * KIB);
	ck_assert_mem_eq(buf, ref, 64 * KIB);
	ck_assert_int_eq(dio(0, ref, 4096, IOCB_WRITE | IOCB_NOWAIT, 0), -EAGAIN);
	ck_assert_int_eq(dio(8192, ref, 4096, IOCB_WRITE, 0), 4096);
	ck_assert(!filemap_range_has_page(&t->inode.i_mapping, 8192, 12287));
	expect_cached(8192, ref, 4096);
	expect_cached(4096, ref + 4096, 4096);
}
END_TEST

START_TEST(error_midway)
{
	toy_set_blocks(t, 0, 64, IOMAP_MAPPED, 9);
	i_size_write(&t->inode, 256 * KIB);
	t->dev.max_io = 16 * KIB;
	t->fail_addr = ((uint64_t)t->blocks[0].dev_block << 12) + 64 * KIB;
	t->fail_len = 4096;
	atomic_store(&t->fail_write, -EIO);
	ck_assert_int_eq(dio(0, ref, 256 * KIB, IOCB_WRITE, 0), -EIO);
	/* It stopped there; what did reach the device is what a cached read sees. */
	ck_assert_uint_eq(t->nr_writes, 5);
	expect_cached(0, ref, 64 * KIB);
	atomic_store(&t->fail_write, 0);
	/* An unwritten block is not converted by a failed write. */
	toy_set_blocks(t, 0, 1, IOMAP_UNWRITTEN, 9);
	t->fail_len = 0;
	atomic_store(&t->fail_write, -EIO);
	ck_assert_int_eq(dio(0, ref, 4096, IOCB_WRITE, 0), -EIO);
	ck_assert_int_eq(t->blocks[0].type, IOMAP_UNWRITTEN);
	atomic_store(&t->fail_write, 0);
}
END_TEST

START_TEST(falls_back_at_shared)
{
	ck_assert_int_eq(toy_dio_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	ck_assert_int_eq(dio(0, ref, 4096, IOCB_WRITE, 0), 4096);
	toy_share(t, 32 * KIB, 32 * KIB);
	ck_assert_int_eq(dio(32 * KIB, ref, 4096, IOCB_WRITE, 0), -ENOTBLK);
	/* Midway: the part before counts. */
	ck_assert_int_eq(dio(0, ref, 64 * KIB, IOCB_WRITE, 0), 32 * KIB);
	ck_assert_int_eq(toy_dio_write(t, 4096, ref, 40 * KIB, 0), 40 * KIB);
	expect_cached(4096, ref, 40 * KIB);
	expect_cached(44 * KIB, ref + 44 * KIB, 4096);
}
END_TEST

/* ---- Untorn --------------------------------------------------------------------------------- */

#define UNTORN (IOCB_WRITE | IOCB_DIRECT | IOCB_ATOMIC)

/* A request that no device could take is refused before anything is done. */
START_TEST(atomic_checks)
{
	toy_set_blocks(t, 0, 64, IOMAP_MAPPED, 9);
	i_size_write(&t->inode, 256 * KIB);
	t->dev.atomic_min = 4096;
	t->dev.atomic_max = 64 * KIB;
	toy_log_reset(t);
	ck_assert_int_eq(dio(0, ref, 4096, UNTORN & ~(unsigned)IOCB_DIRECT, 0), -EOPNOTSUPP);
	ck_assert_int_eq(toy_write(t, 0, ref, 4096, IOCB_ATOMIC), -EOPNOTSUPP);
	ck_assert_int_eq(dio(0, ref, 12288, UNTORN, 0), -EINVAL);
	ck_assert_int_eq(dio(4096, ref, 8192, UNTORN, 0), -EINVAL);
	ck_assert_uint_eq(t->nr_begin, 0);
	/* Of the file system: too large for the device, and the same data in two extents. */
	ck_assert_int_eq(dio(0, ref, 128 * KIB, UNTORN, 0), -ENOPROTOOPT);
	toy_set_blocks(t, 1, 1, IOMAP_UNWRITTEN, 9);
	ck_assert_int_eq(dio(0, ref, 8192, UNTORN, 0), -ENOPROTOOPT);
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	/* Too small, or more than a bio holds, is for the engine to see. */
	ck_assert_int_eq(dio(2 * 4096, ref, 2048, UNTORN, 0), -EINVAL);
	t->dev.max_io = 8192;
	t->dev.atomic_max = 16384;
	toy_set_blocks(t, 0, 8, IOMAP_MAPPED, 9);
	while (t->blocks[0].dev_block % 4 || t->blocks[3].dev_block != t->blocks[0].dev_block + 3)
		toy_set_blocks(t, 0, 8, IOMAP_MAPPED, 9);
	ck_assert_int_eq(dio(0, ref, 16384, UNTORN, 0), -EINVAL);
	ck_assert_uint_eq(t->nr_writes, 0);
	expect_cached(0, memset(ref, 9, 4096), 4096);
}
END_TEST

/* One request with the flag, whatever memory it comes from; unwritten blocks are converted at once. */
START_TEST(atomic_is_one_request)
{
	uint64_t pos = 0;
	struct iovec iov[2] = { { ref, 4096 }, { ref + 16384, 12288 } };
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_flags = UNTORN };
	struct iov_iter it;

	t->dev.atomic_min = 512;
	t->dev.atomic_max = 16384;
	toy_set_blocks(t, 0, 64, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 256 * KIB);
	while (!IS_ALIGNED(((uint64_t)t->blocks[0].dev_block << 12) + pos, 16384))
		pos += 4096;
	/* Wherever the extent begins, move the file's blocks to a position that lines up. */
	for (unsigned i = 0; i < 4; i++)
		t->blocks[i].dev_block = t->blocks[pos / 4096 + i].dev_block;
	toy_log_reset(t);
	iov_iter_init(&it, iov, 2, 16384);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, &toy_dio_ops, 0, NULL, 0), 16384);
	ck_assert_uint_eq(t->nr_log, 1);
	ck_assert_uint_eq(t->log[0].flags, IOMAP_BIO_ATOMIC);
	ck_assert_uint_eq(t->log[0].len, 16384);
	ck_assert_uint_eq(t->nr_convert, 1);
	expect_cached(0, ref, 4096);
	expect_cached(4096, ref + 16384, 12288);
	/* With O_DSYNC both promises are the device's. */
	ck_assert_int_eq(dio(4096, ref + 1, 4096, UNTORN | IOCB_DSYNC, 0), 4096);
	ck_assert_uint_eq(t->log[t->nr_log - 1].flags, IOMAP_BIO_ATOMIC | IOMAP_BIO_FUA);
	/* A mapping as long as needed that does not line up on the device is refused. */
	for (unsigned i = 0; i < 4; i++)
		t->blocks[i].dev_block++;
	ck_assert_int_eq(dio(0, ref, 16384, UNTORN, 0), -ENOPROTOOPT);
	for (unsigned i = 0; i < 4; i++)
		t->blocks[i].dev_block = 0;
	memset(t->blocks, 0, 4 * sizeof(t->blocks[0]));
}
END_TEST

/* ---- Asynchronous ------------------------------------------------------------------------ */

struct async {
	struct kiocb iocb;
	struct iovec iov;
	struct iov_iter it;
	int64_t ret;
	_Atomic bool done;
};

static void async_done(struct kiocb *iocb, int64_t ret)
{
	struct async *a = container_of(iocb, struct async, iocb);

	a->ret = ret;
	atomic_store(&a->done, true);
}

static int64_t async_start(struct async *a, uint64_t pos, void *mem, size_t len, unsigned flags)
{
	memset(a, 0, sizeof(*a));
	a->iov = (struct iovec){ mem, len };
	iov_iter_init(&a->it, &a->iov, 1, len);
	a->iocb = (struct kiocb){ .ki_inode = &t->inode, .ki_pos = pos, .ki_flags = flags,
				  .ki_complete = async_done };
	return iomap_dio_rw(&a->iocb, &a->it, &toy_ops, &toy_dio_ops, 0, NULL, 0);
}

START_TEST(async_out_of_order)
{
	static struct async a[NR_ASYNC];
	bool write = _i;

	teardown();
	start(12, true);
	toy_set_blocks(t, 0, NR_ASYNC * 4, write ? IOMAP_UNWRITTEN : IOMAP_MAPPED, 0x21);
	i_size_write(&t->inode, MIB);
	toy_hold(t, true);
	for (unsigned i = 0; i < NR_ASYNC; i++)
		ck_assert_int_eq(async_start(&a[i], i * 16384ull,
					     (write ? ref : buf) + i * 16384 + (i & 1 ? 1 : 0),
					     i == NR_ASYNC - 1 ? 8192 : 12288,
					     write ? IOCB_WRITE : 0),
				 -EIOCBQUEUED);
	ck_assert_uint_eq(atomic_load(&t->inode.i_dio_count), NR_ASYNC);
	toy_hold(t, false);
	inode_dio_wait(&t->inode);
	work_pool_drain(t->pool);
	for (unsigned i = 0; i < NR_ASYNC; i++) {
		ck_assert(atomic_load(&a[i].done));
		ck_assert_int_eq(a[i].ret, i == NR_ASYNC - 1 ? 8192 : 12288);
		ck_assert_uint_eq(a[i].iocb.ki_pos, i * 16384ull + (uint64_t)a[i].ret);
		if (!write)
			ck_assert_uint_eq(buf[i * 16384 + 8000], 0x21);
		else
			expect_cached(i * 16384, ref + i * 16384 + (i & 1), 8192);
	}
}
END_TEST

/* ---- Races, forced ------------------------------------------------------------------------- */

/* A direct write's whole life between a reader's look at the extents and its fill. */
static void direct_write_meanwhile(const char *name, void *iter, void *arg)
{
	struct iomap_iter *it = iter;
	struct async *a = arg;

	if (it->flags != 0 || a->iov.iov_len)
		return;
	ck_assert_int_eq(it->iomap.type, IOMAP_UNWRITTEN);
	ck_assert(filemap_range_has_page(&t->inode.i_mapping, 0, 4095));
	a->iov.iov_len = 1;
}

START_TEST(folio_is_there_before_the_lookup)
{
	static struct async a;

	memset(&a, 0, sizeof(a));
	toy_set_blocks(t, 0, 4, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 16384);
	ck_assert_int_eq(hook_install("iomap:mapped", direct_write_meanwhile, &a), 0);
	ck_assert_int_eq(toy_read(t, 0, buf, 4096, 0), 4096);
	hook_remove("iomap:mapped");
	ck_assert_uint_eq(a.iov.iov_len, 1);
}
END_TEST

/* ---- Queries ------------------------------------------------------------------------------------ */

START_TEST(seeking)
{
	struct inode *in = &t->inode;

	ck_assert_int_eq(iomap_seek_data(in, 0, &toy_ops), -ENXIO);
	ck_assert_int_eq(iomap_seek_hole(in, 0, &toy_ops), -ENXIO);
	/* hole, unwritten, unwritten+dirty, mapped, delalloc, hole to 30000 */
	toy_set_blocks(t, 1, 2, IOMAP_UNWRITTEN, 0xdd);
	toy_set_blocks(t, 3, 1, IOMAP_MAPPED, 1);
	i_size_write(in, 30000);
	ck_assert_int_eq(toy_write(t, 2 * 4096 + 7, ref, 10, 0), 10);
	ck_assert_int_eq(toy_write(t, 4 * 4096, ref, 10, 0), 10);
	ck_assert_int_eq(iomap_seek_data(in, -1, &toy_ops), -ENXIO);
	ck_assert_int_eq(iomap_seek_data(in, 0, &toy_ops), 2 * 4096);
	ck_assert_int_eq(iomap_seek_data(in, 2 * 4096 + 5, &toy_ops), 2 * 4096 + 5);
	ck_assert_int_eq(iomap_seek_hole(in, 0, &toy_ops), 0);
	ck_assert_int_eq(iomap_seek_hole(in, 4096, &toy_ops), 4096);
	ck_assert_int_eq(iomap_seek_hole(in, 2 * 4096, &toy_ops), 5 * 4096);
	ck_assert_int_eq(iomap_seek_data(in, 5 * 4096, &toy_ops), -ENXIO);
	ck_assert_int_eq(iomap_seek_hole(in, 29999, &toy_ops), 29999);
	ck_assert_int_eq(iomap_seek_data(in, 30000, &toy_ops), -ENXIO);
	toy_set_blocks(t, 5, 3, IOMAP_MAPPED, 1);
	ck_assert_int_eq(iomap_seek_hole(in, 3 * 4096, &toy_ops), 30000);
}
END_TEST

static unsigned nr_asked;

static bool count_partial(struct folio *f, size_t from, size_t count)
{
	nr_asked++;
	return iomap_is_partially_uptodate(f, from, count);
}

/* A folio of 2 MiB with one block of data at its end: asked once for each block. */
START_TEST(seek_asks_once_a_block)
{
	struct address_space_operations aops = toy_aops;
	struct toy_params p = { .blkbits = 12 + 2 * (unsigned)_i, .max_order = FOLIO_MAX_ORDER };
	const uint64_t bs = 1u << p.blkbits, last = 2 * MIB - bs;
	struct folio *f;

	toy_destroy(t);
	t = toy_create(&p);
	aops.is_partially_uptodate = count_partial;
	t->inode.i_mapping.a_ops = &aops;
	toy_set_blocks(t, 0, 2 * MIB >> p.blkbits, IOMAP_UNWRITTEN, 0xdd);
	i_size_write(&t->inode, 2 * MIB);
	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 0, 2 * MIB, FGP_WRITEBEGIN, &f), 0);
	ck_assert_uint_eq(folio_size(f), 2 * MIB);
	folio_unlock(f);
	folio_put(f);
	ck_assert_int_eq(toy_write(t, last, ref, bs, 0), (int64_t)bs);
	nr_asked = 0;
	ck_assert_int_eq(iomap_seek_data(&t->inode, 0, &toy_ops), (int64_t)last);
	ck_assert_uint_eq(nr_asked, 2 * MIB >> p.blkbits);
	ck_assert_int_eq(iomap_seek_data(&t->inode, 100, &toy_ops), (int64_t)last);
	ck_assert_int_eq(iomap_seek_hole(&t->inode, (int64_t)last + 5, &toy_ops), 2 * MIB);
	ck_assert_int_eq(toy_sync(t), 0);
	t->inode.i_mapping.a_ops = &toy_aops;
}
END_TEST

START_TEST(fiemap)
{
	struct fiemap_extent e[8];
	struct fiemap_extent_info fi = { .fi_extents_max = 8, .fi_extents_start = e };
	uint64_t len = UINT64_MAX;

	toy_set_blocks(t, 1, 2, IOMAP_UNWRITTEN, 0xdd);
	toy_set_blocks(t, 3, 2, IOMAP_MAPPED, 1);
	i_size_write(&t->inode, 64 * KIB);
	ck_assert_int_eq(toy_write(t, 6 * 4096, ref, 4096, 0), 4096);
	ck_assert_int_eq(fiemap_prep(&t->inode, &fi, 0, &len, MIB, 0), 0);
	ck_assert_uint_eq(len, MIB);
	ck_assert_int_eq(iomap_fiemap(&t->inode, &fi, 0, len, &toy_ops), 0);
	ck_assert_uint_eq(fi.fi_extents_mapped, 3);
	ck_assert_uint_eq(e[0].fe_flags, FIEMAP_EXTENT_UNWRITTEN);
	ck_assert_uint_eq(e[0].fe_logical, 4096);
	ck_assert_uint_eq(e[0].fe_physical, (uint64_t)t->blocks[1].dev_block << 12);
	ck_assert_uint_eq(e[1].fe_flags, 0);
	ck_assert_uint_eq(e[1].fe_length, 8192);
	ck_assert_uint_eq(e[2].fe_flags, FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN |
						 FIEMAP_EXTENT_LAST);
	ck_assert_uint_eq(e[2].fe_physical, 0);
	/* Count only, then an array that is too short. */
	fi = (struct fiemap_extent_info){ .fi_extents_max = 0 };
	ck_assert_int_eq(iomap_fiemap(&t->inode, &fi, 0, MIB, &toy_ops), 0);
	ck_assert_uint_eq(fi.fi_extents_mapped, 3);
	fi = (struct fiemap_extent_info){ .fi_extents_max = 2, .fi_extents_start = e };
	ck_assert_int_eq(iomap_fiemap(&t->inode, &fi, 0, MIB, &toy_ops), 0);
	ck_assert_uint_eq(fi.fi_extents_mapped, 2);
	ck_assert_uint_eq(e[1].fe_flags, 0);
	/* SYNC makes delalloc real. */
	fi = (struct fiemap_extent_info){ FIEMAP_FLAG_SYNC, 0, 8, e };
	len = MIB;
	ck_assert_int_eq(fiemap_prep(&t->inode, &fi, 0, &len, MIB, 0), 0);
	ck_assert_int_eq(iomap_fiemap(&t->inode, &fi, 0, len, &toy_ops), 0);
	ck_assert_uint_eq(e[2].fe_flags, FIEMAP_EXTENT_LAST);
	ck_assert_uint_eq(e[2].fe_physical, iomap_bmap(&t->inode, 6, &toy_ops) << 12);
	ck_assert_uint_eq(iomap_bmap(&t->inode, 0, &toy_ops), 0);
	ck_assert_uint_eq(iomap_bmap(&t->inode, 1, &toy_ops), 0);
	len = 0;
	ck_assert_int_eq(fiemap_prep(&t->inode, &fi, 0, &len, MIB, 0), -EINVAL);
	len = 1;
	ck_assert_int_eq(fiemap_prep(&t->inode, &fi, MIB, &len, MIB, 0), -EFBIG);
	fi.fi_flags = FIEMAP_FLAG_XATTR | FIEMAP_FLAG_SYNC;
	ck_assert_int_eq(fiemap_prep(&t->inode, &fi, 0, &len, MIB, 0), -EBADR);
	ck_assert_uint_eq(fi.fi_flags, FIEMAP_FLAG_XATTR);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-direct");
	TCase *tc = tcase_create("direct");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, returns);
	tcase_add_test(tc, padding);
	tcase_add_test(tc, misaligned_memory);
	tcase_add_test(tc, durability);
	tcase_add_test(tc, cache_is_written_and_dropped);
	tcase_add_test(tc, error_midway);
	tcase_add_test(tc, falls_back_at_shared);
	tcase_add_test(tc, atomic_checks);
	tcase_add_test(tc, atomic_is_one_request);
	tcase_add_loop_test(tc, async_out_of_order, 0, 2);
	tcase_add_test(tc, folio_is_there_before_the_lookup);
	tcase_add_test(tc, seeking);
	tcase_add_loop_test(tc, seek_asks_once_a_block, 0, 3);
	tcase_add_test(tc, fiemap);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* What a file system says of a mapping by its flags, and what the engine does of it. */
#include <string.h>

#include "toymap.h"
#include "unit.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static struct toy *t;
static uint8_t *buf, *ref;

static void setup(void)
{
	struct toy_params p = { .blkbits = 12, .max_order = 5 };

	log_set_level((enum log_level)-1);
	t = toy_create(&p);
	buf = aligned_alloc(4096, MIB);
	ref = aligned_alloc(4096, MIB);
	for (unsigned i = 0; i < MIB; i++)
		ref[i] = (uint8_t)(i * 11 + i / 512);
}

static void teardown(void)
{
	t->inode.i_mapping.a_ops = &toy_aops;
	t->map_flags = 0;
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	toy_destroy(t);
	free(buf);
	free(ref);
}

/* ---- Writeback by a file system of the test's own ------------------------------------------ */

static uint64_t boundary_at, next_addr;
static unsigned nr_ended;

/* Block n of the file is block 16 + n of the device; or anywhere, which the submission says. */
static int64_t plain_range(struct iomap_writepage_ctx *wpc, struct folio *f, uint64_t pos, unsigned len,
			   uint64_t end_pos)
{
	wpc->iomap = (struct iomap){ .offset = 0, .length = MIB, .type = IOMAP_MAPPED,
				     .addr = 64 * KIB, .bdev = &t->dev };
	if (next_addr) {
		wpc->iomap.addr = IOMAP_NULL_ADDR;
		wpc->iomap.flags = IOMAP_F_ANON_WRITE;
	} else if (pos < boundary_at) {
		wpc->iomap.length = boundary_at;
	} else if (boundary_at) {
		wpc->iomap.offset = boundary_at;
		wpc->iomap.addr += boundary_at;
		wpc->iomap.flags = IOMAP_F_BOUNDARY;
	}
	return iomap_add_to_ioend(wpc, f, pos, end_pos, len);
}

/* Zones of 24 KiB that are written in order: what does not fit into one is split. */
static int choose_address(struct iomap_writepage_ctx *wpc, int error)
{
	struct iomap_ioend *ioend = wpc->wb_ctx, *front;

	while ((front = iomap_split_ioend(ioend, 24 * KIB, true)) != NULL) {
		ck_assert_uint_eq(front->io_addr, IOMAP_NULL_ADDR);
		front->io_bio->addr = next_addr;
		front->io_addr = next_addr;
		next_addr += 32 * KIB;
		iomap_submit_bio(front->io_bio);
	}
	ioend->io_addr = ioend->io_bio->addr = next_addr;
	return iomap_ioend_writeback_submit(wpc, error);
}

static const struct iomap_writeback_ops plain_ops = { .writeback_range = plain_range };
static const struct iomap_writeback_ops zoned_ops = { .writeback_range = plain_range,
						      .writeback_submit = choose_address };
static const struct iomap_writeback_ops *use_ops;

static void count_ended(struct iomap_ioend *ioend)
{
	nr_ended++;
	iomap_finish_ioends(ioend, ioend->io_error);
}

static int own_writepages(struct address_space *m, struct writeback_control *wbc)
{
	struct iomap_writepage_ctx wpc = { .inode = m->host, .wbc = wbc, .ops = use_ops,
					   .end_ioend = count_ended };

	return iomap_writepages(&wpc);
}

static void write_and_sync(size_t len, int result)
{
	static struct address_space_operations aops;

	aops = toy_aops;
	aops.writepages = own_writepages;
	t->inode.i_mapping.a_ops = &aops;
	nr_ended = 0;
	toy_log_reset(t);
	ck_assert_int_eq(toy_write(t, 0, ref, len, 0), (int64_t)len);
	ck_assert_int_eq(toy_sync(t), result);
	/* The promises of the toy are not what this file system made of them. */
	ck_assert_int_eq(toy_truncate(t, 0), 0);
}

START_TEST(boundary)
{
	use_ops = &plain_ops;
	boundary_at = next_addr = 0;
	write_and_sync(128 * KIB, 0);
	ck_assert_uint_eq(t->nr_writes, 1);
	/* In the middle of a folio, contiguous on both sides: a write of its own all the same. */
	boundary_at = 20 * KIB;
	write_and_sync(128 * KIB, 0);
	ck_assert_uint_eq(t->nr_writes, 2);
	ck_assert_uint_eq(t->log[0].len, 20 * KIB);
	ck_assert_uint_eq(t->log[1].addr, t->log[0].addr + 20 * KIB);
	ck_assert_uint_eq(t->log[1].len, 108 * KIB);
	ck_assert_uint_eq(nr_ended, 2);
	boundary_at = 0;
}
END_TEST

START_TEST(anon_write)
{
	errseq_mark_t mark = errseq_sample(&t->inode.i_mapping.wb_err);

	/* Nobody there to say where it goes. */
	use_ops = &plain_ops;
	next_addr = 256 * KIB;
	write_and_sync(64 * KIB, -EIO);
	ck_assert_uint_eq(t->nr_writes, 0);
	ck_assert_int_eq(errseq_check_and_advance(&t->inode.i_mapping.wb_err, &mark), -EIO);
	use_ops = &zoned_ops;
	write_and_sync(64 * KIB, 0);
	ck_assert_uint_eq(t->nr_writes, 3);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(t->log[i].addr, (256 + 32 * i) * KIB);
		ck_assert_uint_eq(t->log[i].len, i < 2 ? 24 * KIB : 16 * KIB);
		ck_assert_mem_eq(t->dev_mem + t->log[i].addr, ref + i * 24 * KIB, t->log[i].len);
	}
	next_addr = 0;
}
END_TEST

static void place(const struct iomap_iter *iter, struct iomap_bio *bio, uint64_t file_offset)
{
	ck_assert_uint_eq(bio->addr, IOMAP_NULL_ADDR);
	bio->addr = 512 * KIB + file_offset;
	iomap_submit_bio(bio);
}

static int64_t dio_with(const struct iomap_dio_ops *dops, uint64_t pos, void *mem, size_t len, unsigned flags)
{
	struct iovec iov = { mem, len };
	struct iov_iter it;
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = pos, .ki_flags = flags | IOCB_DIRECT };

	iov_iter_init(&it, &iov, 1, len);
	return iomap_dio_rw(&iocb, &it, &toy_ops, dops, 0, NULL, 0);
}

START_TEST(anon_direct_write)
{
	const struct iomap_dio_ops dops = { .submit_io = place };

	toy_set_blocks(t, 0, 16, IOMAP_MAPPED, 1);
	i_size_write(&t->inode, 64 * KIB);
	t->map_flags = IOMAP_F_ANON_WRITE;
	ck_assert_int_eq(dio_with(NULL, 0, ref, 8192, IOCB_WRITE), -EIO);
	ck_assert_int_eq(dio_with(&dops, 512, ref, 512, IOCB_WRITE), -EINVAL);
	ck_assert_int_eq(dio_with(&dops, 4096, ref, 8192, IOCB_WRITE), 8192);
	ck_assert_mem_eq(t->dev_mem + 516 * KIB, ref, 8192);
}
END_TEST

/* ---- Contents ------------------------------------------------------------------------------------ */

/* Read to be completed, but what the disk has behind the write is not content. */
START_TEST(zero_tail)
{
	for (unsigned on = 0; on < 2; on++) {
		toy_set_blocks(t, 0, 4, IOMAP_MAPPED, 0x55);
		i_size_write(&t->inode, 16384);
		t->map_flags = on ? IOMAP_F_ZERO_TAIL : 0;
		ck_assert_int_eq(toy_write(t, 1000, ref, 500, 0), 500);
		t->map_flags = 0;
		ck_assert_int_eq(toy_read(t, 0, buf, 8192, 0), 8192);
		ck_assert_uint_eq(buf[999], 0x55);
		ck_assert_mem_eq(buf + 1000, ref, 500);
		ck_assert_uint_eq(buf[1500], on ? 0 : 0x55);
		ck_assert_uint_eq(buf[4095], on ? 0 : 0x55);
		ck_assert_uint_eq(buf[4096], 0x55);
		ck_assert_int_eq(toy_drop_cache(t), 0);
	}
}
END_TEST

/* Data behind the end of the file: read as it is, written without moving the end. */
START_TEST(fsverity)
{
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = 16384, .ki_flags = IOCB_WRITE };
	struct iovec iov = { ref, 100 };
	struct iov_iter it;

	toy_set_blocks(t, 0, 16, IOMAP_MAPPED, 0x66);
	i_size_write(&t->inode, 5000);
	for (unsigned on = 0; on < 2; on++) {
		struct folio *f;

		t->map_flags = on ? IOMAP_F_FSVERITY : 0;
		ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 32768, 4096, FGP_WRITEBEGIN, &f), 0);
		ck_assert_int_eq(iomap_read_folio(&t->inode, f, &toy_ops), 0);
		ck_assert_uint_eq(*(uint8_t *)f->data, on ? 0x66 : 0);
		folio_put(f);
		ck_assert_int_eq(toy_drop_cache(t), 0);
	}
	iov_iter_init(&it, &iov, 1, 100);
	lk_wrlock(&t->inode.i_rwsem);
	ck_assert_int_eq(iomap_file_buffered_write(&iocb, &it, &toy_ops, &toy_write_ops, NULL), 100);
	lk_rw_unlock(&t->inode.i_rwsem);
	ck_assert_uint_eq(i_size_read(&t->inode), 5000);
	ck_assert(!(t->last_flags & IOMAP_F_SIZE_CHANGED));
	truncate_inode_pages_range(&t->inode.i_mapping, 8192, UINT64_MAX);
}
END_TEST

/* Checksums go by the block and over memory that holds still. */
START_TEST(integrity)
{
	toy_set_blocks(t, 0, 16, IOMAP_MAPPED, 0x66);
	i_size_write(&t->inode, 64 * KIB);
	t->map_flags = IOMAP_F_INTEGRITY;
	t->dev.max_io = 6 * KIB;
	toy_log_reset(t);
	ck_assert_int_eq(dio_with(NULL, 512, ref, 512, IOCB_WRITE), -EINVAL);
	ck_assert_int_eq(dio_with(NULL, 512, ref, 512, 0), -EINVAL);
	ck_assert_int_eq(dio_with(NULL, 0, ref, 16384, IOCB_WRITE), 16384);
	ck_assert_uint_eq(t->nr_log, 4);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(t->log[i].len, 4096);
	ck_assert_int_eq(dio_with(NULL, 0, buf, 16384, 0), 16384);
	ck_assert_mem_eq(buf, ref, 16384);
}
END_TEST

/* Of another fork: for reports, never for contents. */
START_TEST(xattr_mapping)
{
	toy_set_blocks(t, 0, 4, IOMAP_MAPPED, 0x66);
	i_size_write(&t->inode, 16384);
	t->map_flags = IOMAP_F_XATTR;
	ck_assert_int_eq(toy_read(t, 0, buf, 4096, 0), -EIO);
	ck_assert_int_eq(toy_write(t, 0, ref, 4096, 0), -EIO);
	ck_assert_int_eq(dio_with(NULL, 0, ref, 4096, IOCB_WRITE), -EIO);
	ck_assert_int_eq(iomap_seek_data(&t->inode, 0, &toy_ops), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-map-flags");
	TCase *tc = tcase_create("flags");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, boundary);
	tcase_add_test(tc, anon_write);
	tcase_add_test(tc, anon_direct_write);
	tcase_add_test(tc, zero_tail);
	tcase_add_test(tc, fsverity);
	tcase_add_test(tc, integrity);
	tcase_add_test(tc, xattr_mapping);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

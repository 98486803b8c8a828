/* SPDX-License-Identifier: MIT */
/* Writeback and ioends: what reaches the device, in what order, and what errors do. */
#include <string.h>

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

	t = toy_create(&p);
	buf = aligned_alloc(4096, MIB);
	ref = aligned_alloc(4096, MIB);
	for (unsigned i = 0; i < MIB; i++)
		ref[i] = (uint8_t)(i * 13 + i / 512);
}

static void setup(void)
{
	start(12, 4, false, 0);
}

static void teardown(void)
{
	toy_destroy(t);
	free(buf);
	free(ref);
}

START_TEST(writes_are_merged)
{
	/* Block by block, backwards, in folios of one page: still one extent and one write. */
	t->dev.max_vecs = 256;
	for (int i = 255; i >= 0; i--)
		ck_assert_int_eq(toy_write(t, (uint64_t)i * 4096, ref + i * 4096, 4096, 0), 4096);
	ck_assert_uint_eq(t->nr_reserved, 256);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_uint_eq(t->nr_log, 1);
	ck_assert_uint_eq(t->log[0].len, MIB);
	ck_assert_uint_eq(t->nr_reserved, 0);
	ck_assert_uint_eq(t->nr_convert, 1);
}
END_TEST

START_TEST(device_list_equals_dirty_blocks)
{
	bool dirty[256] = { false };
	struct rng rng;
	unsigned seen = 0, runs = 0;

	rng_seed(&rng, unit_seed(3));
	toy_set_blocks(t, 0, 256, IOMAP_MAPPED, 1);
	i_size_write(&t->inode, MIB);
	for (unsigned i = 0; i < 90; i++) {
		unsigned b = (unsigned)rng_below(&rng, 256);

		dirty[b] = true;
		ck_assert_int_eq(toy_write(t, b * 4096ull, ref, 4096, 0), 4096);
	}
	for (unsigned i = 0; i < 256; i++)
		runs += dirty[i] && (i == 0 || !dirty[i - 1]);
	toy_log_reset(t);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_uint_eq(t->nr_log, runs);
	for (unsigned i = 0; i < t->nr_log; i++) {
		for (uint64_t a = 0; a < t->log[i].len; a += 4096) {
			unsigned b = (unsigned)((t->log[i].addr + a) >> 12) -
				     t->blocks[0].dev_block;

			ck_assert(dirty[b]);
			dirty[b] = false;
			seen++;
		}
	}
	for (unsigned i = 0; i < 256; i++)
		ck_assert(!dirty[i]);
	ck_assert_uint_gt(seen, 0);
}
END_TEST

START_TEST(max_io_splits)
{
	teardown();
	start(12, 9, false, 96 * KIB);
	ck_assert_int_eq(toy_write(t, 0, ref, MIB, 0), MIB);
	ck_assert_int_eq(toy_sync(t), 0);
	ck_assert_uint_eq(t->nr_log, DIV_ROUND_UP(MIB, 96 * KIB));
	for (unsigned i = 0; i + 1 < t->nr_log; i++)
		ck_assert_uint_eq(t->log[i].len, 96 * KIB);
	/* Sorted and merged again before conversion. */
	ck_assert_uint_le(t->nr_convert, t->nr_log);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	ck_assert_int_eq(toy_read(t, 0, buf, MIB, 0), MIB);
	ck_assert_mem_eq(buf, ref, MIB);
}
END_TEST

START_TEST(eof_tail_and_size)
{
	struct folio *f;
	uint64_t addr;

	ck_assert_int_eq(toy_write(t, 0, ref, 5000, 0), 5000);
	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 4999, 0, FGP_LOCK, &f), 0);
	memset((char *)f->data + offset_in_folio(f, 5000), 0xcc, 100);
	folio_unlock(f);
	folio_put(f);
	ck_assert_int_eq(toy_sync(t), 0);
	/* Byte-exact, and no stored byte behind the end on the device. */
	ck_assert_uint_eq(t->disk_size, 5000);
	addr = (uint64_t)t->blocks[1].dev_block << 12;
	for (unsigned i = 5000 - 4096; i < 4096; i++)
		ck_assert_uint_eq(t->dev_mem[addr + i], 0);
	ck_assert_uint_eq(t->nr_log, 1);
	ck_assert_uint_eq(t->log[0].len, 8192);
}
END_TEST

START_TEST(write_error_is_reported_once)
{
	errseq_mark_t mark = errseq_sample(&t->inode.i_mapping.wb_err);

	log_set_level((enum log_level)-1);
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	atomic_store(&t->fail_write, -EIO);
	ck_assert_int_eq(toy_sync(t), -EIO);
	ck_assert(!mapping_tagged_dirty(&t->inode.i_mapping));
	ck_assert_int_eq(errseq_check_and_advance(&t->inode.i_mapping.wb_err, &mark), -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&t->inode.i_mapping.wb_err, &mark), 0);
	/* Nothing converted, no size raised; a later write goes through. */
	ck_assert_uint_eq(t->nr_convert, 0);
	ck_assert_uint_eq(t->disk_size, 0);
	ck_assert_int_eq(t->blocks[0].type, IOMAP_UNWRITTEN);
	atomic_store(&t->fail_write, 0);
	ck_assert_int_eq(toy_write(t, 0, ref, 64 * KIB, 0), 64 * KIB);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	ck_assert_int_eq(toy_read(t, 0, buf, 64 * KIB, 0), 64 * KIB);
	ck_assert_mem_eq(buf, ref, 64 * KIB);
	ck_assert_int_eq(errseq_check_and_advance(&t->inode.i_mapping.wb_err, &mark), 0);
}
END_TEST

START_TEST(no_space_at_writeback)
{
	errseq_mark_t mark = errseq_sample(&t->inode.i_mapping.wb_err);

	ck_assert_int_eq(toy_write(t, 0, ref, 256 * KIB, 0), 256 * KIB);
	atomic_store(&t->fail_alloc, -ENOSPC);
	ck_assert_int_eq(toy_sync(t), -ENOSPC);
	ck_assert(!mapping_tagged_dirty(&t->inode.i_mapping));
	ck_assert_uint_eq(t->nr_reserved, 0);
	ck_assert_int_eq(errseq_check_and_advance(&t->inode.i_mapping.wb_err, &mark), -ENOSPC);
	ck_assert_uint_eq(t->nr_log, 0);
	atomic_store(&t->fail_alloc, 0);
}
END_TEST

static void check_order(const char *name, void *folio, void *arg)
{
	unsigned *nr = arg;

	++*nr;
	/* The device is done, the file system is not: still under writeback. */
	ck_assert_int_gt((int)atomic_load(&t->inode.i_mapping.nr_writeback), 0);
	ck_assert_int_eq(t->blocks[0].type, IOMAP_MAPPED);
}

START_TEST(converted_before_writeback_ends)
{
	unsigned nr = 0;

	ck_assert_int_eq(toy_write(t, 0, ref, 4096, 0), 4096);
	ck_assert_int_eq(hook_install("iomap:finish_ioend", check_order, &nr), 0);
	ck_assert_int_eq(toy_sync(t), 0);
	hook_remove("iomap:finish_ioend");
	ck_assert_uint_eq(nr, 1);
	ck_assert_int_eq((int)atomic_load(&t->inode.i_mapping.nr_writeback), 0);
}
END_TEST

START_TEST(any_completion_order)
{
	teardown();
	start(10, 3, true, 8 * KIB);
	for (unsigned round = 0; round < 5; round++) {
		toy_hold(t, true);
		ck_assert_int_eq(toy_write(t, round * 100 * KIB, ref, 100 * KIB, 0), 100 * KIB);
		filemap_fdatawrite_range(&t->inode.i_mapping, 0, UINT64_MAX, WB_SYNC_ALL);
		ck_assert_uint_gt(atomic_load(&t->inode.i_mapping.nr_writeback), 0);
		toy_hold(t, false);
		ck_assert_int_eq(toy_sync(t), 0);
	}
	for (unsigned i = 0; i < 500; i++)
		ck_assert_int_eq(t->blocks[i].type, IOMAP_MAPPED);
	ck_assert_uint_eq(t->disk_size, 500 * KIB);
}
END_TEST

START_TEST(release_refused_while_dirty)
{
	struct folio *f;

	ck_assert_int_eq(toy_write(t, 100, ref, 10, 0), 10);
	ck_assert_int_eq(toy_write(t, 60 * KIB, ref, 10, 0), 10);
	ck_assert_int_eq(filemap_get_folio(&t->inode.i_mapping, 0, 0, FGP_LOCK, &f), 0);
	ck_assert(!iomap_release_folio(f));
	folio_unlock(f);
	folio_put(f);
	ck_assert_int_eq(invalidate_inode_pages2_range(&t->inode.i_mapping, 0, UINT64_MAX), -EBUSY);
}
END_TEST

/* ---- ioends by hand ----------------------------------------------------------------------- */

static struct iomap_ioend *make_ioend(uint64_t off, uint64_t size, uint64_t addr, uint32_t flags)
{
	struct iomap_ioend *io = calloc(1, sizeof(*io));

	CDS_INIT_LIST_HEAD(&io->io_list);
	io->io_inode = &t->inode;
	io->io_offset = off;
	io->io_size = size;
	io->io_addr = addr;
	io->io_flags = flags;
	atomic_init(&io->io_remaining, 1);
	io->io_bio = iomap_bio_alloc(&t->dev, IOMAP_BIO_WRITE, addr, 8);
	return io;
}

START_TEST(sorting)
{
	static const uint64_t offs[] = { 50, 10, 90, 20, 20, 70, 0, 30, 60, 80, 40 };
	struct cds_list_head list;
	uint64_t last = 0;
	unsigned n = 0;

	CDS_INIT_LIST_HEAD(&list);
	iomap_sort_ioends(&list);
	ck_assert(cds_list_empty(&list));
	for (unsigned i = 0; i < ARRAY_SIZE(offs); i++)
		cds_list_add_tail(&make_ioend(offs[i], i, 0, 0)->io_list, &list);
	iomap_sort_ioends(&list);
	while (!cds_list_empty(&list)) {
		struct iomap_ioend *io = cds_list_first_entry(&list, struct iomap_ioend, io_list);

		ck_assert_uint_ge(io->io_offset, last);
		if (io->io_offset == 20 && last == 20)
			ck_assert_uint_eq(io->io_size, 4); /* stable */
		last = io->io_offset;
		n++;
		cds_list_del_init(&io->io_list);
		iomap_finish_ioends(io, 0);
	}
	ck_assert_uint_eq(n, ARRAY_SIZE(offs));
}
END_TEST

static const struct {
	const char *why;
	uint64_t off, addr;
	uint32_t flags;
	int error;
	bool merges;
} merge_rows[] = {
	{ "continues", 4096, 104096, IOMAP_IOEND_UNWRITTEN, 0, true },
	{ "file gap", 8192, 104096, IOMAP_IOEND_UNWRITTEN, 0, false },
	{ "device gap", 4096, 208192, IOMAP_IOEND_UNWRITTEN, 0, false },
	{ "not unwritten", 4096, 104096, 0, 0, false },
	{ "shared", 4096, 104096, IOMAP_IOEND_UNWRITTEN | IOMAP_IOEND_SHARED, 0, false },
	{ "direct", 4096, 104096, IOMAP_IOEND_UNWRITTEN | IOMAP_IOEND_DIRECT, 0, false },
	{ "dontcache", 4096, 104096, IOMAP_IOEND_UNWRITTEN | IOMAP_IOEND_DONTCACHE, 0, false },
	{ "boundary", 4096, 104096, IOMAP_IOEND_UNWRITTEN | IOMAP_IOEND_BOUNDARY, 0, false },
	{ "error", 4096, 104096, IOMAP_IOEND_UNWRITTEN, -EIO, false },
};

START_TEST(merging)
{
	struct iomap_ioend *head = make_ioend(0, 4096, 100000, IOMAP_IOEND_UNWRITTEN), *next;
	struct cds_list_head more;

	log_set_level((enum log_level)-1);
	CDS_INIT_LIST_HEAD(&more);
	next = make_ioend(merge_rows[_i].off, 4096, merge_rows[_i].addr, merge_rows[_i].flags);
	next->io_error = merge_rows[_i].error;
	cds_list_add_tail(&next->io_list, &more);
	iomap_ioend_try_merge(head, &more);
	ck_assert_msg(cds_list_empty(&more) == merge_rows[_i].merges, "%s", merge_rows[_i].why);
	ck_assert_uint_eq(head->io_size, merge_rows[_i].merges ? 8192 : 4096);
	iomap_finish_ioends(head, 0);
	if (!merge_rows[_i].merges) {
		cds_list_del_init(&next->io_list);
		iomap_finish_ioends(next, next->io_error);
	}
}
END_TEST

START_TEST(splitting)
{
	struct iomap_ioend *io = make_ioend(0, 5 * 4096 - 10, 40960, IOMAP_IOEND_UNWRITTEN), *front;
	char *mem = (char *)ref;

	iomap_bio_add(io->io_bio, mem, 3 * 4096);
	iomap_bio_add(io->io_bio, mem + 5 * 4096, 2 * 4096);
	ck_assert_ptr_null(iomap_split_ioend(io, 5 * 4096, false));
	ck_assert_ptr_null(iomap_split_ioend(io, 4095, false));
	front = iomap_split_ioend(io, 4 * 4096 + 7, false);
	ck_assert_ptr_nonnull(front);
	ck_assert_uint_eq(front->io_size, 4 * 4096);
	ck_assert_uint_eq(front->io_bio->len, 4 * 4096);
	ck_assert_uint_eq(front->io_bio->nr_vecs, 2);
	ck_assert_uint_eq(io->io_offset, 4 * 4096);
	ck_assert_uint_eq(io->io_addr, 40960 + 4 * 4096);
	ck_assert_uint_eq(io->io_bio->addr, io->io_addr);
	ck_assert_uint_eq(io->io_size, 4096 - 10);
	ck_assert_uint_eq(io->io_bio->nr_vecs, 1);
	ck_assert_ptr_eq(io->io_bio->vec[0].iov_base, mem + 6 * 4096);
	ck_assert_int_eq(atomic_load(&io->io_remaining), 2);
	/* The whole ends with its last piece, with the first error. */
	log_set_level((enum log_level)-1);
	iomap_finish_ioends(front, -EIO);
	ck_assert_int_eq(io->io_error, -EIO);
	ck_assert_int_eq(atomic_load(&io->io_remaining), 1);
	iomap_finish_ioends(io, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-writeback");
	TCase *tc = tcase_create("writeback");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, writes_are_merged);
	tcase_add_test(tc, device_list_equals_dirty_blocks);
	tcase_add_test(tc, max_io_splits);
	tcase_add_test(tc, eof_tail_and_size);
	tcase_add_test(tc, write_error_is_reported_once);
	tcase_add_test(tc, no_space_at_writeback);
	tcase_add_test(tc, converted_before_writeback_ends);
	tcase_add_test(tc, any_completion_order);
	tcase_add_test(tc, release_refused_while_dirty);
	tcase_add_test(tc, sorting);
	tcase_add_loop_test(tc, merging, 0, ARRAY_SIZE(merge_rows));
	tcase_add_test(tc, splitting);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* DAX through areas of the process: loads, stores, copy on write, MAP_SYNC, huge pages, durability. */
#include <string.h>
#include <unistd.h>

#include "toydax.h"
#include "unit.h"

#define PAGE ((size_t)FOLIO_PAGE_SIZE)
#define HUGE_PAGES (1u << DAX_PMD_ORDER)

static struct toydax *t;
static struct dax_window w;
static uint8_t *buf;

static void open_window(unsigned pgoff, unsigned nr, unsigned flags)
{
	dax_window_init(&w, &t->inode, pgoff, nr, flags, t->fd);
	w.fault = td_fault;
	w.arg = t;
	ck_assert_int_eq(dax_vma_open(&w.vma), 0);
}

static void close_window(void)
{
	dax_vma_close(&w.vma);
	dax_window_destroy(&w);
}

static void setup(void)
{
	log_set_level((enum log_level)-1);
	t = td_create();
	buf = malloc(64 * PAGE);
	i_size_write(&t->inode, 64 * PAGE);
}

static void teardown(void)
{
	td_destroy(t);
	free(buf);
}

static int load(uint64_t at)
{
	uint8_t b;

	return dax_window_load(&w, at, &b) ? b : -1;
}

static bool store(uint64_t at, uint8_t b)
{
	return dax_window_store(&w, at, b);
}

static int in_file(uint64_t pos)
{
	uint8_t b;

	ck_assert_int_eq(td_read(t, pos, &b, 1), 1);
	return b;
}

START_TEST(hole_shows_zeros)
{
	const uint32_t pages = t->next_page;

	td_set(t, 3, 1, IOMAP_UNWRITTEN, 0x66);
	open_window(0, 64, DAX_VM_SHARED);
	ck_assert_int_eq(load(0), 0);
	ck_assert_int_eq(load(3 * PAGE + 5), 0);
	ck_assert_uint_eq(w.nr_zero, 2);
	/* Nothing was allocated, nothing is to be made durable. */
	ck_assert_uint_eq(t->next_page, pages + 1);
	ck_assert_int_eq(t->blocks[0].type, IOMAP_HOLE);
	ck_assert_int_eq(t->blocks[3].type, IOMAP_UNWRITTEN);
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(t->nr_log, 0);
	close_window();
}
END_TEST

START_TEST(load_then_store_upgrades)
{
	td_set(t, 5, 1, IOMAP_MAPPED, 0x11);
	open_window(2, 8, DAX_VM_SHARED);
	for (unsigned page = 0; page < 4; page++) {
		const uint64_t at = page * PAGE + 9;

		w.nr_faults = 0;
		ck_assert_int_eq(load(at), page == 3 ? 0x11 : 0);
		ck_assert(store(at, (uint8_t)(0x40 + page)));
		ck_assert_uint_eq(w.nr_faults, 2);
		ck_assert(store(at + 1, 1));
		ck_assert_int_eq(load(at), 0x40 + (int)page);
		ck_assert_uint_eq(w.nr_faults, 2);
		/* The file has it at once. */
		ck_assert_int_eq(in_file(2 * PAGE + at), 0x40 + (int)page);
		ck_assert_int_eq(in_file(2 * PAGE + at + 3), page == 3 ? 0x11 : 0);
	}
	close_window();
}
END_TEST

START_TEST(write_replaces_the_zero_page)
{
	open_window(0, 8, DAX_VM_SHARED);
	ck_assert_int_eq(load(PAGE), 0);
	memset(buf, 0x77, PAGE);
	ck_assert_int_eq(td_write(t, PAGE, buf, PAGE), (int64_t)PAGE);
	ck_assert_int_eq(load(PAGE), 0x77);
	/* From here on both see the same memory. */
	w.nr_faults = 0;
	memset(buf, 0x78, PAGE);
	ck_assert_int_eq(td_write(t, PAGE, buf, PAGE), (int64_t)PAGE);
	ck_assert_int_eq(load(PAGE + 1), 0x78);
	ck_assert_uint_eq(w.nr_faults, 0);
	close_window();
}
END_TEST

START_TEST(end_of_file)
{
	i_size_write(&t->inode, 2 * PAGE + 1);
	open_window(0, 8, DAX_VM_SHARED);
	ck_assert_int_eq(load(2 * PAGE), 0);
	ck_assert_int_eq(load(3 * PAGE), -1);
	ck_assert(!store(3 * PAGE, 1));
	ck_assert(store(2 * PAGE, 5));
	ck_assert_int_eq(td_truncate(t, 2 * PAGE), 0);
	ck_assert_int_eq(load(2 * PAGE), -1);
	i_size_write(&t->inode, 8 * PAGE);
	ck_assert_int_eq(load(2 * PAGE), 0);
	close_window();
}
END_TEST

START_TEST(punch_takes_pages_away)
{
	td_set(t, 0, 8, IOMAP_MAPPED, 0x11);
	open_window(0, 8, DAX_VM_SHARED);
	for (unsigned i = 0; i < 8; i++)
		ck_assert(store(i * PAGE, 0x22));
	ck_assert_int_eq(td_punch(t, PAGE, 3 * PAGE), 0);
	ck_assert_int_eq(load(0), 0x22);
	ck_assert_int_eq(load(PAGE), 0);
	ck_assert_int_eq(load(3 * PAGE + 1), 0);
	ck_assert_int_eq(load(4 * PAGE), 0x22);
	ck_assert_uint_eq(w.nr_zero, 2);
	close_window();
}
END_TEST

START_TEST(store_to_a_shared_block)
{
	uint8_t *old;

	td_set(t, 0, 4, IOMAP_MAPPED, 0x11);
	open_window(0, 4, DAX_VM_SHARED);
	/* Stored to before it was shared: sharing takes the right to store away. */
	ck_assert(store(PAGE, 0x12));
	old = td_page(t, 1);
	td_share(t, 0, 4);
	ck_assert_int_eq(load(PAGE), 0x12);
	ck_assert(store(PAGE + 1, 0x99));
	ck_assert_int_eq(old[0], 0x12);
	ck_assert_int_eq(old[1], 0x11);
	ck_assert(td_page(t, 1) != old && !t->blocks[1].shared);
	ck_assert_int_eq(load(PAGE), 0x12);
	ck_assert_int_eq(in_file(PAGE + 1), 0x99);
	ck_assert_int_eq(in_file(PAGE + 2), 0x11);
	/* write(2) to one that is shown: the window follows to the new block. */
	ck_assert_int_eq(load(2 * PAGE), 0x11);
	buf[0] = 0x55;
	ck_assert_int_eq(td_write(t, 2 * PAGE, buf, 1), 1);
	ck_assert_int_eq(load(2 * PAGE), 0x55);
	close_window();
}
END_TEST

START_TEST(private_area)
{
	td_set(t, 0, 2, IOMAP_MAPPED, 0x11);
	open_window(0, 4, 0);
	ck_assert(store(10, 0x99));
	ck_assert_int_eq(load(10), 0x99);
	ck_assert_int_eq(load(11), 0x11);
	ck_assert(store(2 * PAGE, 0x98));
	ck_assert_int_eq(load(2 * PAGE + 1), 0);
	ck_assert_int_eq(in_file(10), 0x11);
	ck_assert_int_eq(t->blocks[2].type, IOMAP_HOLE);
	ck_assert(!(atomic_load(&t->flags_seen) & IOMAP_WRITE));
	ck_assert(atomic_load(&t->flags_seen) & IOMAP_FAULT);
	close_window();
}
END_TEST

/* MAP_SYNC: before the first store, what is needed to find it again; not for mappings that are durable. */
START_TEST(map_sync)
{
	td_set(t, 0, 8, IOMAP_MAPPED, 0x11);
	open_window(0, 8, DAX_VM_SHARED | DAX_VM_SYNC);
	t->map_dirty = true;
	ck_assert_int_eq(load(0), 0x11);
	ck_assert_uint_eq(t->nr_fsync, 0);
	ck_assert(store(0, 1));
	ck_assert_uint_eq(t->nr_fsync, 1);
	ck_assert(store(1, 1));
	ck_assert(store(PAGE, 1));
	ck_assert_uint_eq(t->nr_fsync, 1);
	t->map_dirty = true;
	ck_assert(store(2 * PAGE, 1));
	ck_assert_uint_eq(t->nr_fsync, 2);
	close_window();
	/* Without MAP_SYNC nobody waits. */
	open_window(0, 8, DAX_VM_SHARED);
	t->map_dirty = true;
	ck_assert(store(3 * PAGE, 1));
	ck_assert_uint_eq(t->nr_fsync, 2);
	close_window();
}
END_TEST

START_TEST(durability)
{
	td_set(t, 0, 4, IOMAP_MAPPED, 0x11);
	open_window(0, 4, DAX_VM_SHARED);
	ck_assert(store(0, 0x21) && store(2 * PAGE, 0x22));
	ck_assert(!td_all_durable(t));
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, PAGE, 4 * PAGE - 1), 0);
	ck_assert_uint_eq(t->nr_log, 1);
	ck_assert_uint_eq(t->log[0].addr, t->blocks[2].page * PAGE);
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(t->nr_log, 2);
	ck_assert(td_all_durable(t));
	/* Clean: the next round has nothing to do, and the next store is noticed. */
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(t->nr_log, 2);
	w.nr_faults = 0;
	ck_assert(store(1, 0x23));
	ck_assert_uint_eq(w.nr_faults, 1);
	atomic_store(&t->fail_persist, -ENOLINK);
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), -ENOLINK);
	/* An error forgets nothing. */
	atomic_store(&t->fail_persist, 0);
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(t->nr_log, 3);
	ck_assert(td_all_durable(t));
	t->inode.i_blkbits = 13;
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), -EIO);
	t->inode.i_blkbits = 12;
	/* The last area leaves nothing to be made durable: its inode may go now. */
	ck_assert(store(PAGE, 0x31));
	close_window();
	ck_assert(td_all_durable(t));
	/* An error does, for fsync. */
	open_window(0, 4, DAX_VM_SHARED);
	ck_assert(store(PAGE, 0x32));
	atomic_store(&t->fail_persist, -ENOLINK);
	close_window();
	atomic_store(&t->fail_persist, 0);
	ck_assert(!td_all_durable(t));
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert(td_all_durable(t));
}
END_TEST

/* A page that a truncation or a hole cuts: what was stored to the rest of it is not forgotten. */
START_TEST(part_of_a_page_goes)
{
	td_set(t, 0, 8, IOMAP_MAPPED, 0x11);
	open_window(0, 8, DAX_VM_SHARED);
	ck_assert(store(2 * PAGE + 10, 0x21) && store(4 * PAGE + PAGE - 1, 0x22) && store(6 * PAGE + 10, 0x23));
	ck_assert(store(3 * PAGE, 0x31));
	ck_assert_int_eq(td_punch(t, 2 * PAGE + 100, 2 * PAGE + 100), 0);
	ck_assert_int_eq(td_truncate(t, 6 * PAGE + 100), 0);
	dax_delete_mapping_range(&t->inode, 6 * PAGE + 100, UINT64_MAX);
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert(td_all_durable(t));
	/* Also where that failed at the time. */
	ck_assert(store(6 * PAGE + 11, 0x24));
	atomic_store(&t->fail_persist, -ENOLINK);
	dax_delete_mapping_range(&t->inode, 6 * PAGE + 100, UINT64_MAX);
	atomic_store(&t->fail_persist, 0);
	ck_assert_int_eq(load(6 * PAGE + 11), 0x24);
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert(td_all_durable(t));
	close_window();
}
END_TEST

START_TEST(two_areas)
{
	struct dax_window other;

	open_window(0, 8, DAX_VM_SHARED);
	dax_window_init(&other, &t->inode, 4, 8, DAX_VM_SHARED, t->fd);
	other.fault = td_fault;
	other.arg = t;
	ck_assert_int_eq(dax_vma_open(&other.vma), 0);
	ck_assert_int_eq(load(5 * PAGE), 0);
	/* A store through one takes the zeros out of the other. */
	ck_assert(dax_window_store(&other, PAGE, 0x44));
	ck_assert_int_eq(load(5 * PAGE), 0x44);
	ck_assert(store(5 * PAGE + 1, 0x45));
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	/* Both have to fault again. */
	w.nr_faults = other.nr_faults = 0;
	ck_assert(dax_window_store(&other, PAGE, 0x46) && store(5 * PAGE, 0x47));
	ck_assert_uint_eq(w.nr_faults + other.nr_faults, 2);
	ck_assert(!td_all_durable(t));
	dax_vma_close(&other.vma);
	dax_window_destroy(&other);
	ck_assert_int_eq(load(5 * PAGE), 0x47);
	close_window();
}
END_TEST

START_TEST(errors)
{
	td_set(t, 0, 2, IOMAP_MAPPED, 0x11);
	open_window(0, 4, DAX_VM_SHARED);
	t->type_override = IOMAP_DELALLOC;
	ck_assert_int_eq(load(0), -1);
	ck_assert(!store(0, 1));
	t->type_override = -1;
	kill_dax(&t->dev);
	ck_assert_int_eq(load(0), -1);
	close_window();
}
END_TEST

/* ---- Huge pages ------------------------------------------------------------------------------- */

static void huge(unsigned pages)
{
	td_set(t, 0, HUGE_PAGES, IOMAP_MAPPED, 0x11); /* device page 512: aligned */
	i_size_write(&t->inode, pages * PAGE);
	open_window(0, 2 * HUGE_PAGES, DAX_VM_SHARED);
	w.try_huge = true;
}

START_TEST(huge_page)
{
	huge(2 * HUGE_PAGES);
	ck_assert_int_eq(load(7 * PAGE), 0x11);
	ck_assert_uint_eq(w.nr_huge, 1);
	ck_assert(store(9 * PAGE, 0x12));
	ck_assert_uint_eq(w.nr_huge, 2);
	ck_assert(store(300 * PAGE, 0x13));
	ck_assert_uint_eq(w.nr_faults, 2);
	/* The hole behind it: one page of zeros for all of it, which a store takes apart. */
	ck_assert_int_eq(load((HUGE_PAGES + 3) * PAGE), 0);
	ck_assert_uint_eq(w.nr_huge, 3);
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(t->nr_log, 1);
	ck_assert_uint_eq(t->log[0].len, HUGE_PAGES * PAGE);
	/* A hole in the middle: only single pages from here on. */
	ck_assert_int_eq(td_punch(t, 3 * PAGE, PAGE), 0);
	ck_assert_int_eq(load(3 * PAGE), 0);
	ck_assert_int_eq(load(9 * PAGE), 0x12);
	ck_assert_uint_eq(w.nr_huge, 3);
	close_window();
}
END_TEST

/* One page of it moves: what was stored to the others is still to be made durable. */
START_TEST(huge_page_is_taken_apart)
{
	huge(2 * HUGE_PAGES);
	ck_assert(store(9 * PAGE, 0x12));
	ck_assert_uint_eq(w.nr_huge, 1);
	td_share(t, 5, 1);
	ck_assert(store(100 * PAGE, 0x13));
	ck_assert(!td_all_durable(t));
	/* Copy on write fails where that cannot be. */
	atomic_store(&t->fail_persist, -ENOLINK);
	ck_assert(!store(5 * PAGE, 0x14));
	atomic_store(&t->fail_persist, 0);
	ck_assert_int_eq(in_file(5 * PAGE), 0x11);
	ck_assert(store(5 * PAGE, 0x14));
	ck_assert_int_eq(dax_writeback_mapping_range(&t->inode, &t->dev, 0, UINT64_MAX), 0);
	ck_assert(td_all_durable(t));
	ck_assert_int_eq(load(100 * PAGE), 0x13);
	ck_assert_int_eq(load(5 * PAGE), 0x14);
	close_window();
}
END_TEST

START_TEST(huge_page_falls_back)
{
	/* The file ends inside. */
	huge(HUGE_PAGES - 1);
	ck_assert_int_eq(load(0), 0x11);
	ck_assert_uint_eq(w.nr_huge, 0);
	close_window();
	/* A single page is shown already. */
	i_size_write(&t->inode, HUGE_PAGES * PAGE);
	open_window(0, HUGE_PAGES, DAX_VM_SHARED);
	w.try_huge = true;
	ck_assert_int_eq(load(PAGE), 0x11);
	ck_assert_uint_eq(w.nr_huge, 0);
	close_window();
	dax_delete_mapping_range(&t->inode, 0, UINT64_MAX);
	/* The area is too small, or begins elsewhere. */
	open_window(0, HUGE_PAGES - 1, DAX_VM_SHARED);
	w.try_huge = true;
	ck_assert_int_eq(load(PAGE), 0x11);
	ck_assert_uint_eq(w.nr_huge, 0);
	close_window();
	dax_delete_mapping_range(&t->inode, 0, UINT64_MAX);
	/* Memory that is not aligned. */
	td_set(t, 0, 1, IOMAP_MAPPED, 0x22);
	td_set(t, 0, HUGE_PAGES, IOMAP_MAPPED, 0x33);
	open_window(0, HUGE_PAGES, DAX_VM_SHARED);
	w.try_huge = true;
	ck_assert_int_eq(load(PAGE), 0x33);
	ck_assert_uint_eq(w.nr_huge, 0);
	ck_assert(store(PAGE, 1));
	close_window();
}
END_TEST

/* ---- A load of a hole against a write(2) -------------------------------------------------------- */

#ifdef IOMAPFS_DEBUG

static pthread_t writer;
static bool started;

static void *write_main(void *arg)
{
	memset(buf, 0x77, PAGE);
	ck_assert_int_eq(td_write(t, 0, buf, PAGE), (int64_t)PAGE);
	return NULL;
}

/* The fault has its mapping, a hole. The write comes now, and has allocated before the zeros are shown. */
static void on_mapped(const char *name, void *site_arg, void *arg)
{
	const struct iomap_iter *iter = site_arg;
	const unsigned begun = atomic_load(&t->nr_begin);

	if (!(iter->flags & IOMAP_FAULT) || started)
		return;
	started = true;
	ck_assert_int_eq(pthread_create(&writer, NULL, write_main, NULL), 0);
	while (atomic_load(&t->nr_begin) == begun)
		usleep(100);
	usleep(20000); /* it waits for the page, or has gone on: then the zeros would stay */
}

START_TEST(race_zero_page)
{
	open_window(0, 4, DAX_VM_SHARED);
	ck_assert_int_eq(hook_install("iomap:mapped", on_mapped, NULL), 0);
	load(0);
	ck_assert_int_eq(pthread_join(writer, NULL), 0);
	hook_remove("iomap:mapped");
	ck_assert(started);
	ck_assert_uint_eq(w.nr_zero, 1);
	ck_assert_int_eq(load(0), 0x77);
	close_window();
}
END_TEST

#endif

int main(void)
{
	Suite *s = suite_create("iomap-dax-fault");
	TCase *c = tcase_create("areas");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, hole_shows_zeros);
	tcase_add_test(c, load_then_store_upgrades);
	tcase_add_test(c, write_replaces_the_zero_page);
	tcase_add_test(c, end_of_file);
	tcase_add_test(c, punch_takes_pages_away);
	tcase_add_test(c, store_to_a_shared_block);
	tcase_add_test(c, private_area);
	tcase_add_test(c, map_sync);
	tcase_add_test(c, durability);
	tcase_add_test(c, part_of_a_page_goes);
	tcase_add_test(c, two_areas);
	tcase_add_test(c, errors);
	tcase_add_test(c, huge_page);
	tcase_add_test(c, huge_page_is_taken_apart);
	tcase_add_test(c, huge_page_falls_back);
#ifdef IOMAPFS_DEBUG
	tcase_add_test(c, race_zero_page);
#endif
	suite_add_tcase(s, c);
	return unit_run(s);
}

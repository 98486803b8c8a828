/* SPDX-License-Identifier: MIT */
/* One thread: the contract of each function. */
#include "folio_fixture.h"

static struct folio_cache *c;
static struct fake fk;

static void setup(void)
{
	/* A background limit that the tests stay below: flushers keep out. */
	c = cache_new(32 * MIB, 16 * MIB, 32 * MIB);
	fake_init(&fk, c);
}

static void teardown(void)
{
	fake_end(&fk);
	folio_cache_destroy(c);
}

START_TEST(lookup_create)
{
	struct folio *f, *g;

	ck_assert_int_eq(filemap_get_folio(&fk.m, 0, 1, 0, &f), -ENOENT);
	f = make(&fk.m, 5000, 1);
	ck_assert_uint_eq(f->index, 1);
	ck_assert_uint_eq(f->order, 0);
	ck_assert(folio_test_locked(f) && !folio_test_uptodate(f) && !folio_test_dirty(f));
	ck_assert_int_eq(filemap_get_folio(&fk.m, 4096, 1, FGP_LOCK | FGP_NOWAIT, &g), -EAGAIN);
	done(f);
	ck_assert_int_eq(filemap_get_folio(&fk.m, 8191, 1, FGP_LOCK | FGP_NOWAIT, &g), 0);
	ck_assert_ptr_eq(f, g);
	done(g);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_pages), 1);
}
END_TEST

START_TEST(orders)
{
	struct folio *f, *g;

	/* Alignment of the index bounds the order; the hint is rounded down. */
	f = make(&fk.m, 0, 3 * 4096);
	ck_assert_uint_eq(f->order, 1);
	g = make(&fk.m, 8192, MIB);
	ck_assert_uint_eq(g->order, 1);
	ck_assert_uint_eq(g->index, 2);
	done(f);
	done(g);
	/* 2 MiB at 2 MiB; bigger is cut to the maximum. */
	f = make(&fk.m, 2 * MIB, 16 * MIB);
	ck_assert_uint_eq(f->order, FOLIO_MAX_ORDER);
	memset(f->data, 1, folio_size(f));
	done(f);
	for (uint64_t pos = 2 * MIB; pos < 4 * MIB; pos += 4096) {
		ck_assert_int_eq(filemap_get_folio(&fk.m, pos, 1, 0, &g), 0);
		ck_assert_ptr_eq(f, g);
		folio_put(g);
	}
	/* A page in the way makes the folio smaller. */
	done(make(&fk.m, 8 * MIB + 5 * 4096, 1));
	f = make(&fk.m, 8 * MIB, 2 * MIB);
	ck_assert_uint_eq(f->order, 2);
	done(f);
	/* min_order rounds the position down and is never undercut. */
	mapping_set_folio_order_range(&fk.m, 2, 4);
	f = make(&fk.m, 16 * MIB + 4096, 1);
	ck_assert_uint_eq(f->order, 2);
	ck_assert_uint_eq(folio_pos(f), 16 * MIB);
	done(f);
	f = make(&fk.m, 17 * MIB, 2 * MIB);
	ck_assert_uint_eq(f->order, 4);
	done(f);
	mapping_set_folio_order_range(&fk.m, 0, FOLIO_MAX_ORDER);
	/* The far end of what an off_t can name. */
	f = make(&fk.m, INT64_MAX & ~4095ull, 1);
	done(f);
	ck_assert_int_eq(filemap_get_folio(&fk.m, INT64_MAX, 1, 0, &g), 0);
	ck_assert_ptr_eq(f, g);
	folio_put(g);
}
END_TEST

START_TEST(dirty_and_writeback)
{
	struct folio *f = make(&fk.m, 0, 16384);
	struct folio_cache_stats st;

	ck_assert(filemap_dirty_folio(&fk.m, f));
	ck_assert(!filemap_dirty_folio(&fk.m, f));
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 4);
	ck_assert_uint_ne(atomic_load(&fk.m.dirtied_when_ns), 0);
	ck_assert(mapping_tagged_dirty(&fk.m));
	ck_assert(filemap_range_needs_writeback(&fk.m, 12288, 12288));
	ck_assert(!filemap_range_needs_writeback(&fk.m, 16384, UINT64_MAX));
	ck_assert(folio_clear_dirty_for_io(f));
	ck_assert(!folio_clear_dirty_for_io(f));
	/* The tag bridges the gap to start_writeback. */
	ck_assert(filemap_range_needs_writeback(&fk.m, 0, 0));
	folio_start_writeback(f);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 0);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_writeback), 4);
	ck_assert(filemap_dirty_folio(&fk.m, f));
	folio_end_writeback(f);
	ck_assert(folio_test_dirty(f) && !folio_test_writeback(f));
	folio_cache_get_stats(c, &st);
	ck_assert_uint_eq(st.dirty_bytes, 16384);
	ck_assert_uint_eq(st.writeback_bytes, 0);
	ck_assert_uint_eq(st.cached_bytes, 16384);
	folio_cancel_dirty(f);
	ck_assert(!filemap_range_needs_writeback(&fk.m, 0, UINT64_MAX));
	ck_assert_uint_eq(atomic_load(&fk.m.dirtied_when_ns), 0);
	done(f);
}
END_TEST

START_TEST(write_and_wait)
{
	for (unsigned i = 0; i < 100; i++)
		make_dirty(&fk.m, i * 8192ull, 1);
	ck_assert_int_eq(filemap_write_and_wait_range(&fk.m, 8192, 3 * 8192), 0);
	ck_assert_uint_eq(atomic_load(&fk.nr_written), 3);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 97);
	atomic_store(&fk.write_err, -EIO);
	ck_assert_int_eq(filemap_write_and_wait_range(&fk.m, 0, 0), -EIO);
	atomic_store(&fk.write_err, 0);
	/* An old error that no handle saw is none of this writeback. */
	ck_assert_int_eq(filemap_write_and_wait_range(&fk.m, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 0);
	/* The same error again, unseen still, is one of this writeback. */
	make_dirty(&fk.m, 0, 1);
	atomic_store(&fk.write_err, -EIO);
	ck_assert_int_eq(filemap_write_and_wait_range(&fk.m, 0, UINT64_MAX), -EIO);
	ck_assert_int_eq(errseq_check(&fk.m.wb_err, errseq_sample(&fk.m.wb_err)), -EIO);
}
END_TEST

START_TEST(truncation)
{
	struct folio *f;

	done(make(&fk.m, 0, 4096));
	make_dirty(&fk.m, 16384, 16384);
	make_dirty(&fk.m, 32768, 4096);
	/* Cuts the second folio, drops the third. */
	truncate_inode_pages_range(&fk.m, 20000, UINT64_MAX);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_pages), 5);
	ck_assert_uint_eq(atomic_load(&fk.nr_invalidated), 2);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 4);
	truncate_inode_pages_range(&fk.m, 16384 + 100, 16384 + 199);
	ck_assert_uint_eq(fk.last_off, 100);
	ck_assert_uint_eq(fk.last_len, 100);
	/* A folio cut from a mapping lives on by its references. */
	ck_assert_int_eq(filemap_get_folio(&fk.m, 0, 1, 0, &f), 0);
	truncate_inode_pages_range(&fk.m, 0, 4095);
	ck_assert_ptr_null(atomic_load(&f->mapping));
	folio_put(f);
	ck_assert(!filemap_range_has_page(&fk.m, 0, 4095));
	ck_assert(filemap_range_has_page(&fk.m, 0, 16384));
}
END_TEST

START_TEST(invalidate)
{
	struct folio *f;

	done(make(&fk.m, 0, 4096));
	make_dirty(&fk.m, 4096, 4096);
	done(make(&fk.m, 8192, 4096));
	ck_assert_int_eq(invalidate_inode_pages2_range(&fk.m, 0, UINT64_MAX), -EBUSY);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_pages), 1);
	filemap_write_and_wait_range(&fk.m, 0, UINT64_MAX);
	ck_assert_int_eq(filemap_get_folio(&fk.m, 4096, 1, 0, &f), 0);
	ck_assert_uint_eq(invalidate_mapping_pages(&fk.m, 0, UINT64_MAX), 0);
	/* A user's reference keeps the folio, not its place in the mapping. */
	ck_assert_int_eq(invalidate_inode_pages2_range(&fk.m, 0, UINT64_MAX), 0);
	ck_assert_ptr_null(atomic_load(&f->mapping));
	folio_put(f);
	make_dirty(&fk.m, 0, 4096);
	done(make(&fk.m, 2 * MIB, MIB));
	ck_assert_uint_eq(invalidate_mapping_pages(&fk.m, 0, UINT64_MAX), 256);
	/* Private state that must stay keeps its folio. */
	f = make(&fk.m, 4096, 1);
	f->private = calloc(4, sizeof(bool));
	done(f);
	atomic_store(&fk.no_release, true);
	ck_assert_int_eq(invalidate_inode_pages2_range(&fk.m, 4096, 4096), -EBUSY);
	atomic_store(&fk.no_release, false);
	ck_assert_int_eq(invalidate_inode_pages2_range(&fk.m, 4096, 4096), 0);
	ck_assert_uint_eq(atomic_load(&fk.nr_released), 1);
}
END_TEST

START_TEST(seek)
{
	struct folio *f;
	bool *up;

	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 0, MIB, SEEK_DATA), -ENXIO);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 10, MIB, SEEK_HOLE), 10);
	f = make(&fk.m, 16384, 16384);
	f->private = up = calloc(16, sizeof(bool));
	up[2] = up[3] = up[5] = true;
	done(f);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 0, MIB, SEEK_DATA), 16384 + 2048);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 16384 + 2100, MIB, SEEK_DATA), 16384 + 2100);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 16384 + 2100, MIB, SEEK_HOLE), 16384 + 4096);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 16384 + 4096, MIB, SEEK_DATA), 16384 + 5120);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 16384 + 6144, MIB, SEEK_DATA), -ENXIO);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 16384 + 2048, 16384 + 4096, SEEK_HOLE), -ENXIO);
	f = make(&fk.m, 32768, 8192);
	folio_mark_uptodate(f);
	done(f);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 16384 + 6144, MIB, SEEK_DATA), 32768);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 32768, MIB, SEEK_HOLE), 40960);
	ck_assert_int_eq(mapping_seek_hole_data(&fk.m, 32768, 40960, SEEK_HOLE), -ENXIO);
}
END_TEST

START_TEST(iter_modes)
{
	struct writeback_control wbc = { .sync_mode = WB_SYNC_NONE, .nr_to_write = LONG_MAX,
					 .range_end = UINT64_MAX };
	struct folio *f, *busy;
	int err = 0;

	for (unsigned i = 0; i < 4; i++)
		make_dirty(&fk.m, i * 4096ull, 1);
	busy = make(&fk.m, 4096, 1);
	/* NONE skips what is locked; clean tags are dropped on the way. */
	ck_assert_int_eq(fake_writepages(&fk.m, &wbc), 0);
	ck_assert_uint_eq(atomic_load(&fk.nr_written), 3);
	done(busy);
	/* nr_to_write bounds NONE. */
	for (unsigned i = 0; i < 4; i++)
		make_dirty(&fk.m, i * 4096ull, 1);
	wbc.nr_to_write = 2;
	ck_assert_int_eq(fake_writepages(&fk.m, &wbc), 0);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 2);
	/* ALL keeps the first error and goes on to the end. */
	wbc = (struct writeback_control){ .sync_mode = WB_SYNC_ALL, .nr_to_write = 1,
					  .range_end = UINT64_MAX };
	f = NULL;
	err = 0;
	for (unsigned i = 0; (f = writeback_iter(&fk.m, &wbc, f, &err)); i++) {
		/* Skipped as if beyond end of file: no writeback follows. */
		folio_unlock(f);
		err = i == 0 ? -ENOSPC : -EIO;
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 0);
	ck_assert(filemap_range_needs_writeback(&fk.m, 0, UINT64_MAX));
	fake_writepages(&fk.m, &wbc);
	ck_assert(!filemap_range_needs_writeback(&fk.m, 0, UINT64_MAX));
}
END_TEST

START_TEST(dropbehind)
{
	struct folio *f, *g;
	unsigned fgp = FGP_WRITEBEGIN | FGP_DONTCACHE;

	ck_assert_int_eq(filemap_get_folio(&fk.m, 0, 1, fgp, &f), 0);
	filemap_dirty_folio(&fk.m, f);
	done(f);
	ck_assert_int_eq(filemap_write_and_wait_range(&fk.m, 0, 4095), 0);
	ck_assert(!filemap_range_has_page(&fk.m, 0, 4095));
	ck_assert_int_eq(filemap_get_folio(&fk.m, 4096, 1, fgp, &f), 0);
	filemap_dirty_folio(&fk.m, f);
	folio_clear_dirty_for_io(f);
	folio_start_writeback(f);
	g = f;
	done(f);
	folio_end_writeback(g);
	ck_assert(!filemap_range_has_page(&fk.m, 4096, 4096));
	/* Found by a cached user: it stays. */
	ck_assert_int_eq(filemap_get_folio(&fk.m, 8192, 1, fgp, &f), 0);
	filemap_dirty_folio(&fk.m, f);
	folio_clear_dirty_for_io(f);
	folio_start_writeback(f);
	folio_unlock(f);
	ck_assert_int_eq(filemap_get_folio(&fk.m, 8192, 1, 0, &g), 0);
	folio_put(g);
	folio_put(f);
	folio_end_writeback(g);
	ck_assert(filemap_range_has_page(&fk.m, 8192, 8192));
}
END_TEST

START_TEST(reclaim)
{
	struct folio_cache_stats st;
	struct folio *hot, *pinned;

	hot = make(&fk.m, 0, 1);
	done(hot);
	pinned = make(&fk.m, 4096, 1);
	folio_unlock(pinned);
	make_dirty(&fk.m, 8192, 1);
	for (uint64_t pos = MIB; pos < 128 * MIB; pos += 4096) {
		done(make(&fk.m, pos, 1));
		if (IS_ALIGNED(pos, MIB)) {
			ck_assert_int_eq(filemap_get_folio(&fk.m, 0, 1, FGP_ACCESSED, &hot), 0);
			folio_put(hot);
		}
	}
	folio_cache_get_stats(c, &st);
	ck_assert_uint_le(st.cached_bytes, 32 * MIB);
	ck_assert_uint_ge(st.cached_bytes, 30 * MIB);
	ck_assert_uint_ge(st.reclaimed, 95 * 256);
	ck_assert(filemap_range_has_page(&fk.m, 0, 0));
	ck_assert(filemap_range_has_page(&fk.m, 4096, 4096));
	ck_assert(filemap_range_has_page(&fk.m, 8192, 8192));
	folio_cache_drop_clean(c);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_pages), 2);
	folio_put(pinned);
	/* Once clean, the dirty one is a candidate again. */
	filemap_write_and_wait_range(&fk.m, 0, UINT64_MAX);
	folio_cache_drop_clean(c);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_pages), 0);
}
END_TEST

START_TEST(errseq_table)
{
	errseq_t e = { 0 };
	errseq_mark_t a = errseq_sample(&e), b, n;

	ck_assert_int_eq(errseq_check(&e, a), 0);
	errseq_set(&e, -EIO);
	/* Opened after an error nobody saw: still told. */
	b = errseq_sample(&e);
	ck_assert_int_eq(errseq_check(&e, a), -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&e, &a), -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&e, &a), 0);
	ck_assert_int_eq(errseq_check_and_advance(&e, &b), -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&e, &b), 0);
	/* Opened after it was seen: not told. */
	n = errseq_sample(&e);
	ck_assert_int_eq(errseq_check_and_advance(&e, &n), 0);
	/* The same error again counts as new, for all. */
	errseq_set(&e, -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&e, &n), -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&e, &a), -EIO);
	/* The last of several unseen ones wins. */
	errseq_set(&e, -EIO);
	errseq_set(&e, -ENOSPC);
	ck_assert_int_eq(errseq_check_and_advance(&e, &b), -ENOSPC);
	ck_assert_int_eq(errseq_check_and_advance(&e, &b), 0);
}
END_TEST

START_TEST(bad_params)
{
	struct folio_cache_params p = { .limit_bytes = 8 * MIB, .dirty_background_bytes = MIB,
					.dirty_limit_bytes = 2 * MIB, .nr_flushers = 1 };
	struct folio_cache *x;

	p.limit_bytes--;
	ck_assert_int_eq(folio_cache_create(&p, &x), -EINVAL);
	p.limit_bytes = 8 * MIB;
	p.nr_flushers = 0;
	ck_assert_int_eq(folio_cache_create(&p, &x), -EINVAL);
	p.nr_flushers = 1;
	p.dirty_background_bytes = 3 * MIB;
	ck_assert_int_eq(folio_cache_create(&p, &x), -EINVAL);
}
END_TEST

/*
 * The thread that ends a writeback is held up after it woke who waits, who then takes
 * everything apart.
 */
static _Atomic bool in_hook;

static void linger(const char *name, void *site_arg, void *test_arg)
{
	atomic_store(&in_hook, true);
	usleep(100000);
}

static void *end_writeback_main(void *arg)
{
	folio_end_writeback(arg);
	return NULL;
}

START_TEST(destroyed_under_the_last_put)
{
	struct folio_cache *cache = cache_new(32 * MIB, 16 * MIB, 32 * MIB);
	struct fake one;
	struct folio *f;
	pthread_t t;

	fake_init(&one, cache);
	f = make(&one.m, 0, 1);
	folio_mark_uptodate(f);
	folio_mark_dirty(f);
	ck_assert(folio_clear_dirty_for_io(f));
	folio_start_writeback(f);
	done(f);
	hook_install("folio:written", linger, NULL);
	ck_assert_int_eq(pthread_create(&t, NULL, end_writeback_main, f), 0);
	while (IOMAPFS_DEBUG && !atomic_load(&in_hook))
		usleep(1000);
	fake_end(&one);
	folio_cache_destroy(cache);
	hook_remove("folio:written");
	pthread_join(t, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("folio");
	TCase *t = tcase_create("cache");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, lookup_create);
	tcase_add_test(t, orders);
	tcase_add_test(t, dirty_and_writeback);
	tcase_add_test(t, write_and_wait);
	tcase_add_test(t, truncation);
	tcase_add_test(t, invalidate);
	tcase_add_test(t, seek);
	tcase_add_test(t, iter_modes);
	tcase_add_test(t, dropbehind);
	tcase_add_test(t, reclaim);
	tcase_add_test(t, errseq_table);
	tcase_add_test(t, bad_params);
	tcase_add_test(t, destroyed_under_the_last_put);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return unit_run(s);
}

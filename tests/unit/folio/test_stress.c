/* SPDX-License-Identifier: MIT */
/* Tags against a model, threads against each other, throttle, sync. */
#include "folio_fixture.h"

#define NPAGES 2048u

static unsigned count_dirty(struct address_space *m)
{
	struct folio *b[7];
	uint64_t pos = 0;
	unsigned n, pages = 0;

	while ((n = filemap_get_folios_dirty(m, &pos, UINT64_MAX, b, 7)))
		for (unsigned i = 0; i < n; i++) {
			pages += 1u << b[i]->order;
			folio_put(b[i]);
		}
	return pages;
}

/* One byte a page: 0 absent, 1 present, 2 dirty. Folios change as a whole. */
static void mark(unsigned char *model, struct folio *f, unsigned char v)
{
	memset(model + f->index, v, 1u << f->order);
}

START_TEST(tags_follow_model)
{
	struct folio_cache *c = cache_new(64 * MIB, 32 * MIB, 64 * MIB);
	static unsigned char model[NPAGES];
	struct fake fk;
	struct rng r;

	rng_seed(&r, unit_seed(42));
	fake_init(&fk, c);
	memset(model, 0, sizeof(model));
	for (unsigned op = 0; op < 30000; op++) {
		uint64_t idx = rng_below(&r, NPAGES), len = 1 + rng_below(&r, 64), pos = idx << 12;
		uint64_t end = MIN(idx + len, NPAGES), dirty = 0, present = 0;
		struct folio *f;

		switch (rng_below(&r, 5)) {
		case 0:
		case 1:
			f = make(&fk.m, pos, 4096ull << rng_below(&r, 8));
			ck_assert(model[idx] ? folio_next_index(f) > idx : 1);
			if (!model[idx])
				for (uint64_t i = f->index; i < folio_next_index(f); i++)
					ck_assert_uint_eq(model[i], 0);
			if (op & 1)
				filemap_dirty_folio(&fk.m, f);
			mark(model, f, folio_test_dirty(f) ? 2 : 1);
			done(f);
			break;
		case 2:
			if (filemap_get_folio(&fk.m, pos, 1, FGP_LOCK, &f))
				break;
			ck_assert_int_eq(folio_test_dirty(f), model[idx] == 2);
			folio_cancel_dirty(f);
			mark(model, f, 1);
			done(f);
			break;
		case 3:
			/* Folios cut at an edge stay. */
			truncate_inode_pages_range(&fk.m, pos, (end << 12) - 1);
			for (uint64_t i = idx; i < end; i++)
				if (model[i] && filemap_get_folio(&fk.m, i << 12, 1, 0, &f) == 0) {
					ck_assert(f->index < idx || folio_next_index(f) > end);
					folio_put(f);
				} else {
					model[i] = 0;
				}
			break;
		default:
			for (uint64_t i = idx; i < end; i++) {
				dirty += model[i] == 2;
				present += model[i] != 0;
			}
			end = (end << 12) - 1;
			ck_assert_int_eq(filemap_range_needs_writeback(&fk.m, pos, end), dirty > 0);
			ck_assert_int_eq(filemap_range_has_page(&fk.m, pos, end), present > 0);
		}
	}
	ck_assert_uint_eq(count_dirty(&fk.m), atomic_load(&fk.m.nr_dirty));
	fake_end(&fk);
	folio_cache_destroy(c);
}
END_TEST

/* ---- Threads ------------------------------------------------------------------ */

static struct fake shared[3];
static struct folio_cache *sc;

static void *stress(void *arg)
{
	struct rng r;

	rng_seed(&r, (uint64_t)(uintptr_t)arg);
	for (unsigned op = 0; op < 8000; op++) {
		struct address_space *m = &shared[rng_below(&r, 3)].m;
		uint64_t pos = rng_below(&r, 16 * MIB);
		struct folio *f;

		switch (rng_below(&r, 12)) {
		case 0:
			lk_wrlock(&m->invalidate_lock);
			truncate_inode_pages_range(m, pos, pos + rng_below(&r, MIB));
			lk_rw_unlock(&m->invalidate_lock);
			break;
		case 1:
			filemap_write_and_wait_range(m, pos, pos + MIB);
			break;
		case 2:
			lk_wrlock(&m->invalidate_lock);
			invalidate_inode_pages2_range(m, pos, pos + MIB);
			lk_rw_unlock(&m->invalidate_lock);
			break;
		case 3:
			folio_cache_drop_clean(sc);
			break;
		default:
			lk_rdlock(&m->invalidate_lock);
			f = make(m, pos, 4096ull << rng_below(&r, 6));
			lk_rw_unlock(&m->invalidate_lock);
			memset(f->data, (int)op, 64);
			folio_mark_uptodate(f);
			filemap_dirty_folio(m, f);
			done(f);
			ck_assert_int_eq(balance_dirty_pages_ratelimited(m, false), 0);
		}
	}
	return NULL;
}

START_TEST(threads)
{
	uint64_t seed = unit_seed(7);
	pthread_t t[4];

	sc = cache_new(8 * MIB, MIB, 4 * MIB);
	for (unsigned i = 0; i < 3; i++)
		fake_init(&shared[i], sc);
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, stress, (void *)(seed * 4 + i));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert_int_eq(folio_cache_sync(sc, true), 0);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(atomic_load(&shared[i].m.nr_dirty), 0);
		ck_assert_uint_eq(count_dirty(&shared[i].m), 0);
		fake_end(&shared[i]);
	}
	folio_cache_destroy(sc);
}
END_TEST

/* ---- Throttle and sync ------------------------------------------------------------ */

START_TEST(throttle_holds_the_limit)
{
	struct folio_cache *c = cache_new(16 * MIB, MIB, 4 * MIB);
	struct folio_cache_stats st;
	struct fake fk;

	fake_init(&fk, c);
	atomic_store(&fk.delay_us, 200);
	for (uint64_t pos = 0; pos < 12 * MIB; pos += 4096) {
		make_dirty(&fk.m, pos, 1);
		balance_dirty_pages_ratelimited(&fk.m, false);
		folio_cache_get_stats(c, &st);
		ck_assert_uint_le(st.dirty_bytes + st.writeback_bytes, 4 * MIB + 65536);
	}
	ck_assert_uint_gt(st.throttled, 0);
	ck_assert_int_eq(folio_cache_sync(c, true), 0);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 0);
	ck_assert_uint_eq(atomic_load(&fk.nr_written), 12 * 256);
	fake_end(&fk);
	folio_cache_destroy(c);
}
END_TEST

START_TEST(unwritable_dirt_does_not_hang)
{
	struct folio_cache *c = cache_new(16 * MIB, MIB, 4 * MIB);
	struct fake fk;

	fake_init(&fk, c);
	atomic_store(&fk.refuse, true);
	for (uint64_t pos = 0; pos < 4 * MIB + 65536; pos += 4096)
		make_dirty(&fk.m, pos, 1);
	ck_assert_int_eq(balance_dirty_pages_ratelimited(&fk.m, true), -EAGAIN);
	ck_assert_int_eq(balance_dirty_pages_ratelimited(&fk.m, false), 0);
	ck_assert_int_eq(folio_cache_sync(c, true), -EROFS);
	/* A dead device cleans, with an error. */
	atomic_store(&fk.refuse, false);
	atomic_store(&fk.write_err, -EIO);
	ck_assert_int_eq(folio_cache_sync(c, true), -EIO);
	ck_assert_uint_eq(atomic_load(&fk.m.nr_dirty), 0);
	fake_end(&fk);
	folio_cache_destroy(c);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("folio-stress");
	TCase *t = tcase_create("stress");

	tcase_add_test(t, tags_follow_model);
	tcase_add_test(t, threads);
	tcase_add_test(t, throttle_holds_the_limit);
	tcase_add_test(t, unwritable_dirt_does_not_hang);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* Checksum vectors, seeded randomness, ranked locks, worker pools, hooks. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "iomapfs/util.h"

/* RFC 3720 B.4 vectors (final inversion left to the caller). */
START_TEST(crc32c_vectors)
{
	unsigned char buf[32];

	memset(buf, 0, 32);
	ck_assert_uint_eq(~crc32c_update(~0u, buf, 32), 0x8a9136aau);
	memset(buf, 0xff, 32);
	ck_assert_uint_eq(~crc32c_update(~0u, buf, 32), 0x62a8ab43u);
	ck_assert_uint_eq(crc32c_update(crc32c_update(~0u, buf, 10), buf + 10, 22),
			  crc32c_update(~0u, buf, 32));
}
END_TEST

START_TEST(rng_is_reproducible)
{
	struct rng a, b;
	unsigned seen[7] = { 0 };

	rng_seed(&a, 42);
	rng_seed(&b, 42);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t v = rng_below(&a, 7);

		ck_assert_uint_eq(v, rng_below(&b, 7));
		ck_assert_uint_lt(v, 7);
		seen[v]++;
	}
	for (unsigned i = 0; i < 7; i++)
		ck_assert_uint_gt(seen[i], 80);
}
END_TEST

START_TEST(rounding)
{
	ck_assert_uint_eq(ROUND_UP(4097ull, 4096), 8192);
	ck_assert_uint_eq(ROUND_DOWN((1ull << 40) + 5, 4096), 1ull << 40);
	ck_assert(is_pow2(1) && is_pow2(1ull << 63) && !is_pow2(0) && !is_pow2(6));
	ck_assert_uint_eq(ilog2(4095), 11);
	ck_assert_uint_eq(ilog2(4096), 12);
}
END_TEST

#if IOMAPFS_DEBUG
START_TEST(wrong_lock_order_aborts)
{
	struct lk_mutex low, high;

	lk_mutex_init(&low, LK_AG, "low");
	lk_mutex_init(&high, LK_BUF, "high");
	lk_lock(&high);
	lk_lock(&low);
}
END_TEST

START_TEST(same_rank_needs_nested)
{
	struct lk_mutex a, b;

	lk_mutex_init(&a, LK_EXTLOCK, "a");
	lk_mutex_init(&b, LK_EXTLOCK, "b");
	lk_lock(&a);
	lk_lock_nested(&b);
	lk_unlock(&a);
	lk_unlock(&b);
	lk_lock(&a);
	lk_lock(&b);
}
END_TEST
#endif

START_TEST(trylock_and_timedwait)
{
	struct lk_mutex m;
	struct lk_rwlock rw;
	pthread_cond_t c;

	lk_mutex_init(&m, LK_LEAF, "m");
	lk_cond_init(&c);
	ck_assert(lk_trylock(&m));
	ck_assert_int_eq(lk_cond_timedwait(&c, &m, clock_mono_ns() + 1000000), -ETIMEDOUT);
	lk_unlock(&m);
	lk_rw_init(&rw, LK_LEAF, "rw");
	lk_rdlock(&rw);
	ck_assert(!lk_trywrlock(&rw));
	lk_rw_unlock(&rw);
	ck_assert(lk_trywrlock(&rw));
	ck_assert(!lk_tryrdlock(&rw));
	lk_rw_unlock(&rw);
}
END_TEST

struct counted {
	struct work work;
	_Atomic int *runs;
	int again;
	struct work_pool *pool;
};

static void count_run(struct work *w)
{
	struct counted *c = container_of(w, struct counted, work);

	atomic_fetch_add(c->runs, 1);
	if (c->again-- > 0)
		work_queue(c->pool, &c->work);
}

START_TEST(work_pool_runs_all)
{
	_Atomic int runs = 0;
	struct counted items[100];
	struct work_pool *p;

	ck_assert_int_eq(work_pool_create("test", 3, &p), 0);
	for (unsigned i = 0; i < 100; i++) {
		items[i] = (struct counted){ .work = { .fn = count_run }, .runs = &runs,
					     .again = 2, .pool = p };
		work_queue(p, &items[i].work);
	}
	work_pool_drain(p);
	ck_assert_int_ge(runs, 100);
	work_pool_drain(p);
	work_pool_drain(p);
	ck_assert_int_eq(runs, 300);
	work_pool_destroy(p);
}
END_TEST

static void note_hook(const char *name, void *site, void *arg)
{
	*(int *)arg += *(int *)site;
}

START_TEST(hooks_fire_only_when_installed)
{
	int sum = 0, five = 5;

	HOOK("test:a", &five);
	ck_assert_int_eq(hook_install("test:a", note_hook, &sum), 0);
	HOOK("test:a", &five);
	HOOK("test:b", &five);
	hook_remove("test:a");
	HOOK("test:a", &five);
#if IOMAPFS_DEBUG
	ck_assert_int_eq(sum, 5);
#else
	ck_assert_int_eq(sum, 0);
#endif
}
END_TEST

int main(void)
{
	Suite *s = suite_create("util");
	TCase *tc = tcase_create("util");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, crc32c_vectors);
	tcase_add_test(tc, rng_is_reproducible);
	tcase_add_test(tc, rounding);
	tcase_add_test(tc, trylock_and_timedwait);
	tcase_add_test(tc, work_pool_runs_all);
	tcase_add_test(tc, hooks_fire_only_when_installed);
#if IOMAPFS_DEBUG
	tcase_add_test_raise_signal(tc, wrong_lock_order_aborts, SIGABRT);
	tcase_add_test_raise_signal(tc, same_rank_needs_nested, SIGABRT);
#endif
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}

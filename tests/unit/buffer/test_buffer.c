/* SPDX-License-Identifier: MIT */
/* The buffer cache: hits, verification, sharing of one read, LRU, reuse. */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "iomapfs/buffer.h"
#include "unit.h"

#define DEV_BYTES (64ull << 20)
#define OWNER     od_ino_make(4000, 1)
#define FIRST     100u

static struct bd *mem, *dev;
static struct od_ctx ctx;
static struct buf_cache *bc;
static char last_line[512];
static unsigned nr_lines;

static void keep_line(enum log_level lvl, const char *line, void *arg)
{
	nr_lines++;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

/* A sound block of kind blob at mblk, marked with its own address. */
static void put_block(uint64_t mblk)
{
	char *p = (char *)bd_mem_base(mem) + mblk * 4096;
	struct od_blob *blob = (struct od_blob *)(p + OD_HDR_SIZE);

	memset(p, 0, 4096);
	od_hdr_init(p, OD_MAGIC_BLOB, ctx.meta_uuid, OWNER, mblk);
	blob->len = le32_make(8);
	memcpy(blob + 1, &mblk, 8);
	od_seal(p, 1);
}

static void setup(void)
{
	log_set_sink(keep_line, NULL);
	nr_lines = 0;
	ck_assert_int_eq(bd_mem_create(DEV_BYTES, 512, &mem), 0);
	memset(&ctx, 0, sizeof(ctx));
	memset(ctx.meta_uuid, 0x5a, 16);
	ctx.dev_mblks = DEV_BYTES / 4096;
	ctx.block_shift = 12;
	ctx.cluster_shift = 14;
	ctx.nr_blocks = ctx.ag_blocks = DEV_BYTES / 4096;
	ctx.nr_ags = 1;
	ctx.jnl_start = 64;
	ctx.jnl_len = 8;
	for (unsigned i = 0; i < 600; i++)
		put_block(FIRST + i);
	ck_assert_int_eq(bd_fault_create(mem, &dev), 0);
	ck_assert_int_eq(buf_cache_create(dev, &ctx, 64 * 4096, &bc), 0);
}

static void teardown(void)
{
	buf_cache_destroy(bc);
	bd_close(dev);
	log_set_sink(log_stderr, NULL);
}

static uint64_t mark(const struct buf *b)
{
	uint64_t v;

	memcpy(&v, (char *)b->data + OD_HDR_SIZE + sizeof(struct od_blob), 8);
	return v;
}

static int read_err(uint64_t mblk, uint64_t owner, const struct buf_ops *ops, unsigned flags)
{
	struct buf *b;
	int err = buf_read(bc, mblk, owner, ops, flags, &b);

	if (!err) {
		ck_assert_uint_eq(mark(b), mblk);
		buf_put(b);
	} else {
		ck_assert_ptr_null(b);
	}
	return err;
}

START_TEST(test_hit_and_nowait)
{
	struct buf_cache_stats st;
	struct buf *a, *b;

	ck_assert_int_eq(read_err(FIRST, OWNER, &buf_ops_blob, BUF_NOWAIT), -EAGAIN);
	ck_assert_uint_eq(bd_fault_seen(dev, BD_READ), 0);
	ck_assert_int_eq(buf_read(bc, FIRST, OWNER, &buf_ops_blob, 0, &a), 0);
	ck_assert_int_eq(buf_read(bc, FIRST, OD_ANY_OWNER, &buf_ops_blob, BUF_NOWAIT, &b), 0);
	ck_assert_ptr_eq(a, b);
	ck_assert(IS_ALIGNED((uintptr_t)a->data, 4096));
	ck_assert_uint_eq(bd_fault_seen(dev, BD_READ), 1);
	buf_cache_get_stats(bc, &st);
	ck_assert_uint_eq(st.pinned, 1);
	ck_assert_uint_eq(st.hits, 1);
	ck_assert_uint_eq(st.misses, 1);
	buf_put(a);
	buf_put(b);
}
END_TEST

START_TEST(test_corrupt_is_named_once)
{
	struct buf *b;

	((char *)bd_mem_base(mem))[FIRST * 4096 + 3000] ^= 1;
	ck_assert_int_eq(read_err(FIRST, OWNER, &buf_ops_blob, 0), -EFSCORRUPTED);
	ck_assert_ptr_nonnull(strstr(last_line, "bad-crc"));
	ck_assert_int_eq(read_err(FIRST, OWNER, &buf_ops_blob, 0), -EFSCORRUPTED);
	ck_assert_uint_eq(nr_lines, 1);
	/* Wrong owner and wrong kind are found on hits as well. */
	ck_assert_int_eq(read_err(FIRST + 1, OWNER, &buf_ops_blob, 0), 0);
	ck_assert_int_eq(read_err(FIRST + 1, OWNER + 8, &buf_ops_blob, 0), -EFSCORRUPTED);
	ck_assert_ptr_nonnull(strstr(last_line, "wrong-owner"));
	ck_assert_int_eq(read_err(FIRST + 1, OWNER, &buf_ops_btree, 0), -EFSCORRUPTED);
	ck_assert_uint_eq(nr_lines, 2);
	ck_assert_int_eq(read_err(FIRST + 1, OWNER, &buf_ops_blob, 0), 0);
	ck_assert_int_eq(read_err(ctx.dev_mblks, OWNER, &buf_ops_blob, 0), -EFSCORRUPTED);
	/* A damaged block that is allocated anew is sound again. */
	ck_assert_int_eq(buf_new(bc, FIRST, OWNER, &buf_ops_blob, &b), 0);
	buf_put(b);
	ck_assert_ptr_nonnull(b = buf_find(bc, FIRST));
	buf_put(b);
}
END_TEST

START_TEST(test_read_error_is_retried)
{
	struct bd_fault_rule rule = { .op = BD_READ, .count = 1, .error = -EIO };
	struct buf_cache_stats st;

	bd_fault_set(dev, &rule, 1);
	ck_assert_int_eq(read_err(FIRST, OWNER, &buf_ops_blob, 0), -EIO);
	ck_assert_int_eq(read_err(FIRST, OWNER, &buf_ops_blob, 0), 0);
	buf_cache_get_stats(bc, &st);
	ck_assert_uint_eq(st.read_errors, 1);
	ck_assert_uint_eq(st.cached, 1);
}
END_TEST

/* LRU: the limit holds for what nobody uses, and the oldest go first. */
START_TEST(test_lru_limit)
{
	struct buf_cache_stats st;
	struct buf *pinned[100];

	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(buf_read(bc, FIRST + i, OWNER, &buf_ops_blob, 0, &pinned[i]), 0);
	buf_cache_get_stats(bc, &st);
	ck_assert_uint_eq(st.pinned, 100);
	for (unsigned i = 0; i < 100; i++)
		buf_put(pinned[i]);
	buf_cache_get_stats(bc, &st);
	ck_assert_uint_eq(st.cached, 64);
	ck_assert_int_eq(read_err(FIRST + 36, OWNER, &buf_ops_blob, BUF_NOWAIT), 0);
	ck_assert_int_eq(read_err(FIRST + 35, OWNER, &buf_ops_blob, BUF_NOWAIT), -EAGAIN);
	/* 36 was just used: 37 is the next to go. */
	ck_assert_int_eq(read_err(FIRST + 200, OWNER, &buf_ops_blob, 0), 0);
	ck_assert_int_eq(read_err(FIRST + 37, OWNER, &buf_ops_blob, BUF_NOWAIT), -EAGAIN);
	ck_assert_int_eq(read_err(FIRST + 36, OWNER, &buf_ops_blob, BUF_NOWAIT), 0);
	buf_cache_shrink(bc);
	buf_cache_get_stats(bc, &st);
	ck_assert_uint_eq(st.cached, 0);
}
END_TEST

START_TEST(test_new_reuses_stale)
{
	struct buf *a, *b;

	ck_assert_int_eq(buf_read(bc, FIRST, OWNER, &buf_ops_blob, 0, &a), 0);
	ck_assert_int_eq(buf_new(bc, FIRST, OWNER + 8, &buf_ops_dir, &b), 0);
	ck_assert_ptr_eq(a, b);
	ck_assert_uint_eq(le32_get(buf_hdr(b)->magic), OD_MAGIC_DIR);
	ck_assert_uint_eq(le64_get(buf_hdr(b)->owner), OWNER + 8);
	ck_assert_uint_eq(le64_get(buf_hdr(b)->mblk), FIRST);
	ck_assert_uint_eq(mark(b), 0);
	buf_put(a);
	buf_put(b);
	/* Never cached: nothing is read. */
	ck_assert_int_eq(buf_new(bc, FIRST + 1, OWNER, &buf_ops_blob, &b), 0);
	ck_assert_uint_eq(bd_fault_seen(dev, BD_READ), 1);
	buf_put(b);
	buf_invalidate(bc, FIRST + 1);
	ck_assert_int_eq(read_err(FIRST + 1, OWNER, &buf_ops_blob, 0), 0);
}
END_TEST

/* ---- Threads ------------------------------------------------------------------------------- */

static void *reader(void *arg)
{
	ck_assert_int_eq(read_err(FIRST, OWNER, &buf_ops_blob, 0), 0);
	return NULL;
}

START_TEST(test_one_read_for_all)
{
	pthread_t th[4];

	bd_fault_stall(dev, true);
	if (_i == 1) {
		buf_readahead(bc, FIRST, &buf_ops_blob);
		buf_readahead(bc, FIRST, &buf_ops_blob);
		ck_assert_int_eq(read_err(FIRST, OWNER, &buf_ops_blob, BUF_NOWAIT), -EAGAIN);
	}
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&th[i], NULL, reader, NULL), 0);
	usleep(20000);
	bd_fault_stall(dev, false);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	ck_assert_uint_eq(bd_fault_seen(dev, BD_READ), 1);
}
END_TEST

static void *churn(void *arg)
{
	struct rng rng;

	rng_seed(&rng, (uint64_t)(uintptr_t)arg);
	for (unsigned n = 0; n < 20000; n++) {
		uint64_t mblk = FIRST + rng_below(&rng, 300);

		if (rng_below(&rng, 4) == 0)
			buf_readahead(bc, FIRST + rng_below(&rng, 300), &buf_ops_blob);
		ck_assert_int_eq(read_err(mblk, OWNER, &buf_ops_blob, 0), 0);
		if (rng_below(&rng, 500) == 0)
			buf_cache_shrink(bc);
	}
	return NULL;
}

START_TEST(test_churn)
{
	uint64_t seed = unit_seed(3);
	struct buf_cache_stats st;
	pthread_t th[4];

	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&th[i], NULL, churn, (void *)(uintptr_t)(seed * 4 + i)),
				 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	buf_cache_get_stats(bc, &st);
	ck_assert_uint_eq(st.pinned, 0);
	ck_assert_uint_le(st.cached, 64);
	ck_assert_uint_gt(st.hits, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buffer");
	TCase *tc = tcase_create("buffer");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_hit_and_nowait);
	tcase_add_test(tc, test_corrupt_is_named_once);
	tcase_add_test(tc, test_read_error_is_retried);
	tcase_add_test(tc, test_lru_limit);
	tcase_add_test(tc, test_new_reuses_stale);
	tcase_add_loop_test(tc, test_one_read_for_all, 0, 2);
	tcase_add_test(tc, test_churn);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

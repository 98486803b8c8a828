/* SPDX-License-Identifier: MIT */
/*
 * Threads on one file, each with a stripe of its own that only it writes, so that it
 * knows what must be there; sync, cache drops and neighbours in the same folios are
 * everybody's. Run under ThreadSanitizer for races, elsewhere for lost bytes.
 */
#include <string.h>

#include "toymap.h"
#include "unit.h"

#define NR_THREADS   4u
#define STRIPE       20000u  /* not a multiple of anything: stripes share blocks */
#define NR_STRIPES   8u
#define ROUNDS       1500u

static struct toy *t;
static uint64_t seed;

struct actor {
	unsigned nr;
	struct rng rng;
	uint8_t want[NR_STRIPES][STRIPE];
	uint8_t buf[STRIPE];
	const char *failed;
};

static uint64_t stripe_pos(const struct actor *a, unsigned stripe)
{
	return ((uint64_t)stripe * NR_THREADS + a->nr) * STRIPE;
}

static void write_some(struct actor *a)
{
	unsigned s = (unsigned)rng_below(&a->rng, NR_STRIPES);
	unsigned off = (unsigned)rng_below(&a->rng, STRIPE - 1);
	unsigned len = 1 + (unsigned)rng_below(&a->rng, STRIPE - off);
	int64_t ret;

	for (unsigned i = 0; i < len; i++)
		a->want[s][off + i] = (uint8_t)rng_u64(&a->rng);
	ret = toy_write(t, stripe_pos(a, s) + off, &a->want[s][off], len, 0);
	if (ret != len)
		a->failed = "write";
}

static void check_stripe(struct actor *a)
{
	unsigned s = (unsigned)rng_below(&a->rng, NR_STRIPES);

	if (toy_read(t, stripe_pos(a, s), a->buf, STRIPE, 0) != STRIPE)
		a->failed = "read";
	else if (memcmp(a->buf, a->want[s], STRIPE))
		a->failed = "compare";
}

static void direct_write(struct actor *a)
{
	unsigned s = (unsigned)rng_below(&a->rng, NR_STRIPES);
	uint64_t pos = ROUND_UP(stripe_pos(a, s), 512);
	size_t off = pos - stripe_pos(a, s), len = 512 * (1 + rng_below(&a->rng, 30));

	memset(&a->want[s][off], (int)a->nr + 1, len);
	if (toy_dio_write(t, pos, &a->want[s][off], len, 0) != (int64_t)len)
		a->failed = "dio write";
}

static void zero_some(struct actor *a)
{
	unsigned s = (unsigned)rng_below(&a->rng, NR_STRIPES);
	unsigned off = (unsigned)rng_below(&a->rng, STRIPE - 1);
	unsigned len = 1 + (unsigned)rng_below(&a->rng, STRIPE - off);
	int err = rng_below(&a->rng, 2) ? toy_zero(t, stripe_pos(a, s) + off, len, NULL) :
					  toy_punch(t, stripe_pos(a, s) + off, len);

	memset(&a->want[s][off], 0, len);
	if (err)
		a->failed = "zero";
}

static void *actor_main(void *arg)
{
	struct actor *a = arg;

	for (unsigned i = 0; i < ROUNDS && !a->failed; i++) {
		switch (rng_below(&a->rng, 10)) {
		case 0: case 1: case 2: case 3: write_some(a); break;
		case 4: case 5: case 6: check_stripe(a); break;
		case 7: direct_write(a); break;
		case 8: zero_some(a); break;
		default:
			if (rng_below(&a->rng, 2))
				toy_sync(t);
			else
				invalidate_mapping_pages(&t->inode.i_mapping, 0, UINT64_MAX);
			iomap_readahead(&t->inode, stripe_pos(a, 0), STRIPE * 4, &toy_ops);
			break;
		}
	}
	return NULL;
}

START_TEST(stripes)
{
	static const unsigned bits[] = { 10, 12, 14, 12 };
	struct toy_params p = { .blkbits = bits[_i], .max_order = _i == 3 ? 0 : 6, .late = true,
				.seed = seed, .max_io = 32u << 10 };
	static struct actor actors[NR_THREADS];
	pthread_t threads[NR_THREADS];
	errseq_mark_t mark;

	memset(actors, 0, sizeof(actors));
	t = toy_create(&p);
	t->fbatch = _i & 1;
	mark = errseq_sample(&t->inode.i_mapping.wb_err);
	ck_assert_int_eq(toy_truncate(t, (uint64_t)NR_THREADS * NR_STRIPES * STRIPE), 0);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		actors[i].nr = i;
		rng_seed(&actors[i].rng, seed + i + 100 * (unsigned)_i);
		pthread_create(&threads[i], NULL, actor_main, &actors[i]);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < NR_THREADS; i++)
		ck_assert_msg(!actors[i].failed, "thread %u: %s", i, actors[i].failed);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	for (unsigned i = 0; i < NR_THREADS; i++)
		for (unsigned s = 0; s < NR_STRIPES; s++) {
			struct actor *a = &actors[i];

			ck_assert_int_eq(toy_read(t, stripe_pos(a, s), a->buf, STRIPE, 0), STRIPE);
			ck_assert(!memcmp(a->buf, a->want[s], STRIPE));
		}
	ck_assert_int_eq(errseq_check_and_advance(&t->inode.i_mapping.wb_err, &mark), 0);
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	ck_assert_uint_eq(t->nr_reserved, 0);
	toy_destroy(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-stress");
	TCase *tc = tcase_create("stress");

	seed = unit_seed(5);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, stripes, 0, 4);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

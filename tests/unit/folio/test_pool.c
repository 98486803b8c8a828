/* SPDX-License-Identifier: MIT */
/* Memory of folios: blocks do not overlap, and holes do not keep memory. */
#include <string.h>
#include <sys/mman.h>

#include "folio_private.h"
#include "unit.h"

#define LIMIT_PAGES 4096u /* 16 MiB */
#define NR_BLOCKS   1024u

struct block {
	struct pool_chunk *chunk;
	char *data;
	unsigned order;
};

static size_t block_size(const struct block *b)
{
	return (size_t)FOLIO_PAGE_SIZE << b->order;
}

static void take(struct folio_pool *p, struct block *b, unsigned order, char fill)
{
	b->order = order;
	b->data = folio_pool_alloc(p, order, &b->chunk);
	ck_assert_ptr_nonnull(b->data);
	ck_assert_uint_eq((uintptr_t)b->data % block_size(b), 0);
	memset(b->data, fill, block_size(b));
}

static void give(struct folio_pool *p, struct block *b)
{
	folio_pool_free(p, b->chunk, b->data, b->order);
	b->data = NULL;
}

static void expect(const struct block *b, char fill)
{
	for (size_t i = 0; i < block_size(b); i += 512)
		ck_assert_int_eq(b->data[i], fill);
}

START_TEST(blocks_keep_their_contents)
{
	static struct block blocks[NR_BLOCKS];
	struct folio_pool p;
	struct rng rng;

	rng_seed(&rng, unit_seed(77));
	folio_pool_init(&p, LIMIT_PAGES);
	for (unsigned i = 0; i < 20 * NR_BLOCKS; i++) {
		const unsigned n = (unsigned)rng_below(&rng, NR_BLOCKS);

		if (blocks[n].data) {
			expect(&blocks[n], (char)n);
			give(&p, &blocks[n]);
		} else {
			take(&p, &blocks[n], (unsigned)rng_below(&rng, 6), (char)n);
		}
		/* One block is on its way at most, of the largest order that may be whole. */
		ck_assert_uint_le(p.nr_resident, p.max_resident + (1u << FOLIO_MAX_ORDER));
	}
	for (unsigned n = 0; n < NR_BLOCKS; n++)
		if (blocks[n].data)
			give(&p, &blocks[n]);
	ck_assert_uint_le(p.nr_chunks, 4);
	folio_pool_destroy(&p);
}
END_TEST

static bool in_memory(const struct block *b)
{
	unsigned char page[16];

	ck_assert_uint_le(b->order, 4);
	ck_assert_int_eq(mincore(b->data, block_size(b), page), 0);
	for (unsigned i = 0; i < 1u << b->order; i++)
		if (page[i] & 1)
			return true;
	return false;
}

/* Every second block of 64 KiB is freed: no chunk is whole, and yet the memory is not kept. */
START_TEST(holes_are_given_back)
{
	static struct block blocks[512];
	unsigned kept = 0, nr_free = 0;
	struct folio_pool p;

	folio_pool_init(&p, LIMIT_PAGES);
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++)
		take(&p, &blocks[i], 4, (char)i);
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i += 2)
		folio_pool_free(&p, blocks[i].chunk, blocks[i].data, blocks[i].order);
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {
		if (i % 2) {
			expect(&blocks[i], (char)i);
		} else {
			nr_free++;
			kept += in_memory(&blocks[i]);
		}
	}
	ck_assert_uint_gt(nr_free * 16, 2 * p.max_resident);
	ck_assert_uint_le(kept * 16, p.max_resident);
	ck_assert_uint_gt(kept, 0);
	for (unsigned i = 1; i < ARRAY_SIZE(blocks); i += 2)
		give(&p, &blocks[i]);
	folio_pool_destroy(&p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");

	tcase_add_test(t, blocks_keep_their_contents);
	tcase_add_test(t, holes_are_given_back);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return unit_run(s);
}

// SPDX-License-Identifier: MIT
/* The cache itself, without a file system: a mapping of PAGES single-page folios. */
#include <stdlib.h>

#include "iomapfs/folio.h"
#include "micro.h"

#define PAGES 4096u

struct cache {
	struct folio_cache *c;
	struct address_space m;
	struct rng rng;
	uint8_t to[FOLIO_PAGE_SIZE];
};

static const struct address_space_operations no_ops;

static void *begin(void)
{
	/* Nobody writes back: limits far away, no age. */
	const struct folio_cache_params p = {.limit_bytes = 256u << 20, .dirty_background_bytes = 128u << 20,
					     .dirty_limit_bytes = 192u << 20, .nr_flushers = 1};
	struct cache *s = calloc(1, sizeof(*s));
	struct folio *f;

	MUST(s);
	rng_seed(&s->rng, 42);
	MUST(folio_cache_create(&p, &s->c) == 0);
	MUST(mapping_init(&s->m, s->c, &no_ops, s) == 0);
	mapping_set_folio_order_range(&s->m, 0, 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		MUST(filemap_get_folio(&s->m, i * FOLIO_PAGE_SIZE, FOLIO_PAGE_SIZE, FGP_WRITEBEGIN, &f) == 0);
		memset(f->data, (int)i, FOLIO_PAGE_SIZE);
		folio_mark_uptodate(f);
		folio_unlock(f);
		folio_put(f);
	}
	return s;
}

static void end(void *arg)
{
	struct cache *s = arg;

	truncate_inode_pages_range(&s->m, 0, UINT64_MAX);
	mapping_destroy(&s->m);
	folio_cache_destroy(s->c);
	free(s);
}

static struct folio *get(struct cache *s, unsigned fgp)
{
	const uint64_t pos = rng_below(&s->rng, PAGES) * FOLIO_PAGE_SIZE;
	struct folio *f;

	MUST(filemap_get_folio(&s->m, pos, FOLIO_PAGE_SIZE, fgp, &f) == 0);
	return f;
}

static void lookup(void *arg, unsigned ops)
{
	for (unsigned i = 0; i < ops; i++)
		folio_put(get(arg, FGP_ACCESSED));
}

static void copy(void *arg, unsigned ops)
{
	struct cache *s = arg;

	for (unsigned i = 0; i < ops; i++) {
		struct folio *f = get(s, FGP_ACCESSED);

		data_copy(s->to, f->data, FOLIO_PAGE_SIZE);
		folio_put(f);
	}
}

static void dirty(void *arg, unsigned ops)
{
	for (unsigned i = 0; i < ops; i++) {
		struct folio *f = get(arg, FGP_LOCK);

		folio_mark_dirty(f);
		folio_cancel_dirty(f);
		folio_unlock(f);
		folio_put(f);
	}
}

/* A folio behind the others, made and dropped. */
static void make_drop(void *arg, unsigned ops)
{
	const uint64_t pos = (uint64_t)PAGES * FOLIO_PAGE_SIZE;
	struct cache *s = arg;
	struct folio *f;

	for (unsigned i = 0; i < ops; i++) {
		MUST(filemap_get_folio(&s->m, pos, FOLIO_PAGE_SIZE, FGP_WRITEBEGIN, &f) == 0);
		folio_unlock(f);
		folio_put(f);
		truncate_inode_pages_range(&s->m, pos, pos + FOLIO_PAGE_SIZE - 1);
	}
}

const struct micro_case micro_folio[] = {
	{"folio-lookup", "filemap_get_folio and folio_put among 4096, at random", 20000, begin, lookup, end},
	{"folio-copy-4k", "the same, and its 4 KiB copied", 10000, begin, copy, end},
	{"folio-dirty", "the same, locked, made dirty and clean again", 10000, begin, dirty, end},
	{"folio-make", "a folio made and dropped", 10000, begin, make_drop, end},
	{0},
};

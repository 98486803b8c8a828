/* SPDX-License-Identifier: MIT */
/*
 * Memory of folios: a buddy system over 2 MiB chunks from mmap. malloc would
 * spend up to a page on the alignment of each page-sized buffer and would rarely
 * give memory back; here a wholly free chunk is unmapped, apart from a few spares.
 *
 * Folios of many sizes leave holes in their chunks: a cache at its limit would take half as much
 * again in holes alone. So free memory beyond a sixteenth of the limit goes back to the system
 * block by block. Bookkeeping is outside the pages, so a free page is never touched.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "folio_private.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, size)   ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

#define CHUNK_PAGES (1u << FOLIO_MAX_ORDER)
#define CHUNK_SIZE  ((size_t)CHUNK_PAGES << FOLIO_PAGE_SHIFT)
#define SPARES_MAX  4u
#define NOT_FREE    UINT32_MAX
/* Smaller free blocks are not worth a system call. */
#define TRIM_ORDER  4u

/* One page of a chunk; its members describe the free block that starts there, if one does. */
struct pool_page {
	struct cds_list_head link;
	struct pool_chunk *chunk;
	unsigned order;     /* or NOT_FREE */
	unsigned resident;  /* of the block's pages so many may take memory; at most all of them */
};

struct pool_chunk {
	char *base;
	struct pool_page pages[CHUNK_PAGES];
};

void folio_pool_init(struct folio_pool *p, uint64_t limit_pages)
{
	memset(p, 0, sizeof(*p));
	p->max_resident = limit_pages / 16;
	lk_mutex_init(&p->lock, LK_FOLIO_CACHE, "folio_pool");
	for (unsigned o = 0; o <= FOLIO_MAX_ORDER; o++)
		CDS_INIT_LIST_HEAD(&p->free[o]);
}

static void block_add(struct folio_pool *p, struct pool_page *pg, unsigned order, unsigned resident)
{
	assert(resident <= 1u << order);
	pg->order = order;
	pg->resident = resident;
	p->nr_resident += resident;
	cds_list_add(&pg->link, &p->free[order]);
}

static void block_del(struct folio_pool *p, struct pool_page *pg)
{
	cds_list_del(&pg->link);
	p->nr_resident -= pg->resident;
	pg->order = NOT_FREE;
}

static unsigned page_nr(const struct pool_page *pg)
{
	return (unsigned)(pg - pg->chunk->pages);
}

static void chunk_unmap(struct pool_chunk *ch)
{
	ASAN_UNPOISON_MEMORY_REGION(ch->base, CHUNK_SIZE);
	munmap(ch->base, CHUNK_SIZE);
	free(ch);
}

/* A new chunk as one free block; the alignment lets the kernel use a huge page. */
static struct pool_chunk *chunk_map(void)
{
	struct pool_chunk *ch = malloc(sizeof(*ch));
	char *raw, *base;
	size_t head;

	if (!ch)
		return NULL;
	raw = mmap(NULL, 2 * CHUNK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (raw == MAP_FAILED) {
		free(ch);
		return NULL;
	}
	base = (char *)ROUND_UP((uintptr_t)raw, CHUNK_SIZE);
	head = (size_t)(base - raw);
	if (head)
		munmap(raw, head);
	munmap(base + CHUNK_SIZE, CHUNK_SIZE - head);
	ch->base = base;
	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		ch->pages[i].chunk = ch;
		ch->pages[i].order = NOT_FREE;
	}
	ASAN_POISON_MEMORY_REGION(base, CHUNK_SIZE);
	return ch;
}

void folio_pool_destroy(struct folio_pool *p)
{
	struct pool_page *pg, *tmp;

	cds_list_for_each_entry_safe(pg, tmp, &p->free[FOLIO_MAX_ORDER], link) {
		chunk_unmap(pg->chunk);
		p->nr_chunks--;
	}
	assert(p->nr_chunks == 0);
	lk_mutex_destroy(&p->lock);
}

/* Smallest free block of at least this order, cut down to it. */
static struct pool_page *block_take(struct folio_pool *p, unsigned order)
{
	struct pool_page *pg;
	unsigned o = order;

	while (o <= FOLIO_MAX_ORDER && cds_list_empty(&p->free[o]))
		o++;
	if (o > FOLIO_MAX_ORDER)
		return NULL;
	pg = cds_list_first_entry(&p->free[o], struct pool_page, link);
	block_del(p, pg);
	if (o == FOLIO_MAX_ORDER)
		p->nr_spare--;
	while (o > order) {
		const unsigned half = 1u << --o, first = MIN(pg->resident, half);

		/* Which half has memory nobody knows: the one that is taken will have it anyway. */
		block_add(p, pg + half, o, pg->resident - first);
		pg->resident = first;
	}
	return pg;
}

void *folio_pool_alloc(struct folio_pool *p, unsigned order, struct pool_chunk **chunk)
{
	struct pool_page *pg;
	struct pool_chunk *ch;
	void *data;

	assert(order <= FOLIO_MAX_ORDER);
	lk_lock(&p->lock);
	pg = block_take(p, order);
	if (!pg) {
		lk_unlock(&p->lock);
		ch = chunk_map();
		if (!ch)
			return NULL;
		lk_lock(&p->lock);
		p->nr_chunks++;
		p->nr_spare++;
		block_add(p, &ch->pages[0], FOLIO_MAX_ORDER, 0);
		pg = block_take(p, order);
	}
	lk_unlock(&p->lock);
	*chunk = pg->chunk;
	data = pg->chunk->base + ((size_t)page_nr(pg) << FOLIO_PAGE_SHIFT);
	ASAN_UNPOISON_MEMORY_REGION(data, (size_t)FOLIO_PAGE_SIZE << order);
	return data;
}

/* Take the buddies of a block that are free into it; it is on no list. */
static struct pool_page *block_merge(struct folio_pool *p, struct pool_page *pg, unsigned *order)
{
	struct pool_chunk *chunk = pg->chunk;

	for (; *order < FOLIO_MAX_ORDER; ++*order) {
		const unsigned nr = page_nr(pg), buddy_nr = nr ^ (1u << *order);
		struct pool_page *buddy = &chunk->pages[buddy_nr];
		unsigned resident;

		if (buddy->order != *order)
			break;
		resident = pg->resident + buddy->resident;
		block_del(p, buddy);
		pg = &chunk->pages[MIN(nr, buddy_nr)];
		pg->resident = resident;
	}
	return pg;
}

/*
 * Give a block's memory back, with the lock dropped: it is on no list, so that nobody finds it; a
 * buddy that is freed meanwhile is taken in afterwards.
 */
static struct pool_page *block_trim(struct folio_pool *p, struct pool_page *pg, unsigned *order)
{
	char *data = pg->chunk->base + ((size_t)page_nr(pg) << FOLIO_PAGE_SHIFT);

	lk_unlock(&p->lock);
	/* Fails for locked memory only; then it stays, and is counted as gone: no harm. */
	madvise(data, (size_t)FOLIO_PAGE_SIZE << *order, MADV_DONTNEED);
	lk_lock(&p->lock);
	pg->resident = 0;
	return block_merge(p, pg, order);
}

void folio_pool_free(struct folio_pool *p, struct pool_chunk *chunk, void *data, unsigned order)
{
	unsigned nr = (unsigned)((size_t)((char *)data - chunk->base) >> FOLIO_PAGE_SHIFT);
	struct pool_page *pg = &chunk->pages[nr];
	struct pool_chunk *gone = NULL;

	assert(nr < CHUNK_PAGES && IS_ALIGNED(nr, 1u << order));
	ASAN_POISON_MEMORY_REGION(data, (size_t)FOLIO_PAGE_SIZE << order);
	lk_lock(&p->lock);
	assert(pg->order == NOT_FREE);
	pg->resident = 1u << order;
	pg = block_merge(p, pg, &order);
	if (order >= TRIM_ORDER && order < FOLIO_MAX_ORDER && p->nr_resident + pg->resident > p->max_resident)
		pg = block_trim(p, pg, &order);
	if (order == FOLIO_MAX_ORDER && (p->nr_spare >= SPARES_MAX || p->nr_resident > p->max_resident)) {
		p->nr_chunks--;
		gone = chunk;
	} else {
		p->nr_spare += order == FOLIO_MAX_ORDER;
		block_add(p, pg, order, pg->resident);
	}
	lk_unlock(&p->lock);
	if (gone)
		chunk_unmap(gone);
}

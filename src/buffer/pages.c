/* SPDX-License-Identifier: MIT */
/*
 * Pages for buffers and journal images.
 *
 * malloc cannot give 4096-aligned pages of 4096 bytes without losing about as much
 * again, so they are cut from mappings of CHUNK_PAGES. A free page stays in its
 * mapping; beyond KEEP_BACKED of them their memory goes back to the kernel, so that
 * a burst of metadata does not stay resident for ever.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "buffer_private.h"
#include "iomapfs/format.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p))
#endif

#define CHUNK_PAGES 64u
#define CHUNK_BYTES ((size_t)CHUNK_PAGES * OD_MBLK_SIZE)
#define KEEP_BACKED 1024u

void buf_pages_init(struct buf_pages *pp)
{
	*pp = (struct buf_pages){ 0 };
	pthread_mutex_init(&pp->lock, NULL);
}

void buf_pages_destroy(struct buf_pages *pp)
{
	assert(pp->nr_free == pp->nr_chunks * CHUNK_PAGES);
	for (size_t i = 0; i < pp->nr_chunks; i++) {
		ASAN_UNPOISON_MEMORY_REGION(pp->chunks[i], CHUNK_BYTES);
		munmap(pp->chunks[i], CHUNK_BYTES);
	}
	free(pp->chunks);
	free(pp->free);
	pthread_mutex_destroy(&pp->lock);
}

/* One more mapping. The stack gets room for all pages, so that a put never fails. */
static bool grow(struct buf_pages *pp)
{
	size_t cap = (pp->nr_chunks + 1) * CHUNK_PAGES;
	void **stack = realloc(pp->free, cap * sizeof(*stack));
	void **chunks;
	void *chunk;

	if (!stack)
		return false;
	pp->free = stack;
	chunks = realloc(pp->chunks, (pp->nr_chunks + 1) * sizeof(*chunks));
	if (!chunks)
		return false;
	pp->chunks = chunks;
	chunk = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk == MAP_FAILED)
		return false;
	pp->chunks[pp->nr_chunks++] = chunk;
	pp->cap = cap;
	for (unsigned i = CHUNK_PAGES; i-- > 0;)
		pp->free[pp->nr_free++] = (char *)chunk + (size_t)i * OD_MBLK_SIZE;
	ASAN_POISON_MEMORY_REGION(chunk, CHUNK_BYTES);
	return true;
}

void *buf_pages_get(struct buf_pages *pp)
{
	void *page = NULL;

	pthread_mutex_lock(&pp->lock);
	if (pp->nr_free || grow(pp)) {
		page = pp->free[--pp->nr_free];
		pp->nr_backed = MIN(pp->nr_backed, pp->nr_free);
	}
	pthread_mutex_unlock(&pp->lock);
	if (page)
		ASAN_UNPOISON_MEMORY_REGION(page, OD_MBLK_SIZE);
	return page;
}

void buf_pages_put(struct buf_pages *pp, void *page)
{
	assert(page && IS_ALIGNED((uintptr_t)page, OD_MBLK_SIZE));
	pthread_mutex_lock(&pp->lock);
	assert(pp->nr_free < pp->cap);
	/* The page is ours until it is on the stack, so the call may be made now. */
	if (pp->nr_backed >= KEEP_BACKED)
		madvise(page, OD_MBLK_SIZE, MADV_DONTNEED);
	else
		pp->nr_backed++;
	ASAN_POISON_MEMORY_REGION(page, OD_MBLK_SIZE);
	pp->free[pp->nr_free++] = page;
	pthread_mutex_unlock(&pp->lock);
}

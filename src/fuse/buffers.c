/* SPDX-License-Identifier: MIT */
/*
 * Memory of requests. Those with a large payload take a buffer of full size; a few of these are kept,
 * since mapping and clearing a megabyte costs as much as copying it, the others go back to the
 * system at once: malloc, left to itself, keeps what a burst of requests took.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "fuse_private.h"

#define PAGE 4096u
/* The payload of a WRITE starts on a page: direct I/O takes it from here without a copy. */
#define MSG_LEAD (PAGE - sizeof(struct fuse_in_header) - sizeof(struct fuse_write_in))
/* Messages from here on live in buffers of FZ_BUF_SIZE; the heap has the others. */
#define LARGE (128u << 10)
#define SPARES_MAX 16u

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static char *spares[SPARES_MAX];
static unsigned nr_spares, max_spares;

/* At the start of the page that a message shares with nothing. */
struct lead {
	bool large;
};

void fz_buf_setup(uint64_t memory_bytes)
{
	/* Half of the transport's share: fz_transport_share. */
	max_spares = (unsigned)MIN(fz_transport_share(memory_bytes) / 2, SPARES_MAX);
	/* What is larger comes from mmap and returns there, whatever was freed before. */
	mallopt(M_MMAP_THRESHOLD, (int)LARGE);
	mallopt(M_TRIM_THRESHOLD, 1 << 20);
	/* What each arena keeps adds up on machines with many CPUs. */
	mallopt(M_ARENA_MAX, (int)fz_transport_share(memory_bytes));
}

static char *spare_take(void)
{
	char *base;

	pthread_mutex_lock(&spare_lock);
	base = nr_spares > 0 ? spares[--nr_spares] : NULL;
	pthread_mutex_unlock(&spare_lock);
	return base;
}

/* False: there are enough. */
static bool spare_keep(char *base)
{
	bool kept;

	pthread_mutex_lock(&spare_lock);
	kept = nr_spares < max_spares;
	if (kept)
		spares[nr_spares++] = base;
	pthread_mutex_unlock(&spare_lock);
	return kept;
}

static void *buf_alloc(size_t len)
{
	const bool large = len >= LARGE;
	char *base = large ? spare_take() : NULL;

	if (!base)
		base = aligned_alloc(PAGE, ROUND_UP(MSG_LEAD + (large ? FZ_BUF_SIZE : len), (size_t)PAGE));
	if (!base)
		return NULL;
	((struct lead *)(void *)base)->large = large;
	return base + MSG_LEAD;
}

void *fz_buf_get(void)
{
	return buf_alloc(FZ_BUF_SIZE);
}

void *fz_buf_copy(const void *msg, size_t len)
{
	void *copy = buf_alloc(len);

	if (copy)
		memcpy(copy, msg, len);
	return copy;
}

void fz_buf_put(void *msg)
{
	char *base;

	if (!msg)
		return;
	base = (char *)msg - MSG_LEAD;
	if (!((struct lead *)(void *)base)->large || !spare_keep(base))
		free(base);
}

/* The payload of a message that is never written. */
void *fz_pages_get(size_t len)
{
	char *msg = buf_alloc(PAGE - MSG_LEAD + len);

	return msg ? msg + (PAGE - MSG_LEAD) : NULL;
}

void fz_pages_put(void *mem)
{
	if (mem)
		fz_buf_put((char *)mem - (PAGE - MSG_LEAD));
}

void fz_buf_drop_spares(void)
{
	char *base;

	while ((base = spare_take()))
		free(base);
}

/* ---- Scratch ------------------------------------------------------------------------- */

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_key_create(void)
{
	if (pthread_key_create(&scratch_key, free) != 0)
		abort();
}

void *fz_scratch(void)
{
	void *p;

	pthread_once(&scratch_once, scratch_key_create);
	p = pthread_getspecific(scratch_key);
	if (!p) {
		while (!(p = aligned_alloc(PAGE, FZ_MAX_WRITE)))
			log_err("out of memory for a thread's buffer; trying again");
		pthread_setspecific(scratch_key, p);
	}
	return p;
}

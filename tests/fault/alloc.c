/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "alloc.h"

static _Atomic uint64_t seen, first, last;
static _Atomic bool failed, armed;

void alloc_fail(uint64_t after, uint64_t count)
{
	atomic_store(&armed, false);
	atomic_store(&seen, 0);
	atomic_store(&first, after);
	atomic_store(&last, count > UINT64_MAX - after ? UINT64_MAX : after + count);
	atomic_store(&failed, false);
	atomic_store(&armed, after != UINT64_MAX);
}

bool alloc_failed(void)
{
	return atomic_load(&failed);
}

static bool unlucky(void)
{
	uint64_t n;

	if (!atomic_load_explicit(&armed, memory_order_relaxed))
		return false;
	n = atomic_fetch_add(&seen, 1);
	if (n < atomic_load(&first) || n >= atomic_load(&last))
		return false;
	atomic_store(&failed, true);
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
char *__real_strdup(const char *s);
int __real_posix_memalign(void **p, size_t align, size_t size);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
char *__wrap_strdup(const char *s);
int __wrap_posix_memalign(void **p, size_t align, size_t size);

void *__wrap_malloc(size_t size)
{
	return unlucky() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return unlucky() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return unlucky() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return unlucky() ? NULL : __real_reallocarray(p, n, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return unlucky() ? NULL : __real_aligned_alloc(align, size);
}

char *__wrap_strdup(const char *s)
{
	return unlucky() ? NULL : __real_strdup(s);
}

int __wrap_posix_memalign(void **p, size_t align, size_t size)
{
	return unlucky() ? ENOMEM : __real_posix_memalign(p, align, size);
}

/* Memory of folios and of metadata blocks. */
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (flags & MAP_ANONYMOUS) && unlucky() ? MAP_FAILED :
						      __real_mmap(addr, len, prot, flags, fd, offset);
}

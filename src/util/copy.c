/* SPDX-License-Identifier: MIT */
/* Bytes of file data, copied without a common lock. */
#include <string.h>

#include "iomapfs/util.h"

#ifdef __SANITIZE_THREAD__

/*
 * The only accesses of this project that ThreadSanitizer is not shown. volatile keeps the
 * compiler from making memcpy out of the loops: that call would be intercepted.
 */
__attribute__((no_sanitize("thread"), noinline)) void data_copy(void *dst, const void *src,
								size_t n)
{
	volatile uint8_t *d = dst;
	const volatile uint8_t *s = src;
	const size_t mask = sizeof(uint64_t) - 1;
	size_t i = 0;

	if ((((uintptr_t)dst | (uintptr_t)src) & mask) == 0)
		for (; i + mask < n; i += sizeof(uint64_t))
			*(volatile uint64_t *)(d + i) = *(const volatile uint64_t *)(s + i);
	for (; i < n; i++)
		d[i] = s[i];
}

__attribute__((no_sanitize("thread"), noinline)) void data_zero(void *dst, size_t n)
{
	volatile uint8_t *d = dst;

	for (size_t i = 0; i < n; i++)
		d[i] = 0;
}

#else

void data_copy(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
}

void data_zero(void *dst, size_t n)
{
	memset(dst, 0, n);
}

#endif

/* SPDX-License-Identifier: MIT */
/* Checksum, seeded randomness and clocks. */
#include <isa-l/crc.h>
#include <limits.h>
#include <time.h>

#include "iomapfs/util.h"

uint32_t crc32c_update(uint32_t crc, const void *buf, size_t len_bytes)
{
	/* ISA-L takes an int length and a mutable pointer it does not write through. */
	unsigned char *p = (unsigned char *)(uintptr_t)buf;

	while (len_bytes > 0) {
		int n = len_bytes > (1 << 30) ? (1 << 30) : (int)len_bytes;

		crc = crc32_iscsi(p, n, crc);
		p += n;
		len_bytes -= (size_t)n;
	}
	return crc;
}

static uint64_t splitmix64(uint64_t *x)
{
	uint64_t z = (*x += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void rng_seed(struct rng *r, uint64_t seed)
{
	for (unsigned i = 0; i < 4; i++)
		r->s[i] = splitmix64(&seed);
}

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t rng_u64(struct rng *r)
{
	uint64_t *s = r->s;
	uint64_t result = rotl(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	assert(n > 0);
	return (uint64_t)(((unsigned __int128)rng_u64(r) * n) >> 64);
}

uint64_t clock_mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct timespec clock_real_ts(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	return ts;
}

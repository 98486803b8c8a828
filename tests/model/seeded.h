/* SPDX-License-Identifier: MIT */
/* For the seeded exercisers: one random sequence, and option values with suffixes. */
#ifndef MODEL_SEEDED_H
#define MODEL_SEEDED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

struct rng {
	uint64_t state;
};

/* SplitMix64: any seed is a good seed, and one word is all the state there is. */
static inline uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* A number below @n, which is not 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

/* True once in @n times. */
static inline bool rng_one_in(struct rng *r, unsigned int n)
{
	return rng_below(r, n) == 0;
}

/* From 1 to @max, each power of two as likely as any other. */
static inline uint64_t rng_log(struct rng *r, uint64_t max)
{
	unsigned int bits = 64 - (unsigned int)__builtin_clzll(max);
	uint64_t top = 1ULL << rng_below(r, bits);
	uint64_t v = top + rng_below(r, top);

	return v > max ? max : v;
}

static inline double now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* "64k", "1m": false when @s is no number. */
static inline bool parse_number(const char *s, uint64_t *out)
{
	char *end;
	uint64_t v = strtoull(s, &end, 0);

	if (end == s)
		return false;
	switch (*end) {
	case 'g':
		v <<= 10; /* fallthrough */
	case 'm':
		v <<= 10; /* fallthrough */
	case 'k':
		v <<= 10;
		end++;
	}
	*out = v;
	return *end == '\0';
}

#endif

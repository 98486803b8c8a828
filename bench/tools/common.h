/* SPDX-License-Identifier: MIT */
/*
 * What the workload programs share. Each prints one line of JSON a figure and ends with
 * 0, EX_WRONG when the file system gave a wrong answer or an error, EX_UNSUPPORTED when
 * it cannot do what the workload is about, EX_USAGE.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EX_WRONG       1
#define EX_USAGE       16
#define EX_UNSUPPORTED 77

/* What failed and errno's text to stderr; exit EX_UNSUPPORTED for EOPNOTSUPP and ENOSYS, else EX_WRONG. */
void die(const char *what) __attribute__((noreturn));
/* A result that is not what it has to be; printf's arguments. Exit EX_WRONG. */
void wrong(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void usage(const char *text) __attribute__((noreturn));
/* A count from 1 on, else exit EX_USAGE. */
long number(const char *text);

uint64_t now_ns(void);

/* The same sequence for every size and run: a figure must not depend on luck. */
struct picker {
	uint64_t x;
};
uint64_t pick_below(struct picker *r, uint64_t n);

/*
 * Latencies: 16 buckets an octave of nanoseconds, so that a percentile is told to 6 %.
 * Jobs fill one each; in memory that they share, if they are processes.
 */
#define LAT_BUCKETS (64 * 16)
struct lat {
	uint64_t count;
	uint64_t hist[LAT_BUCKETS];
};
void lat_add(struct lat *l, uint64_t ns);
/* The upper end of the bucket of the share q (0.99), in microseconds. */
double lat_quantile_us(const struct lat *l, double q);

/* One line: name, ops, the time they took, bytes (0: none), percentiles (lat NULL: none). */
void report(const char *figure, uint64_t ops, uint64_t ns, uint64_t bytes, const struct lat *lat);

/*
 * Run fn(job, arg) in `jobs` processes, which begin together; wall time in nanoseconds from then to the
 * last one's end. A process that fails ends the program with its code.
 */
uint64_t run_jobs(unsigned jobs, void (*fn)(unsigned job, void *arg), void *arg);
/* Zeroed memory that jobs share. */
void *shared_alloc(size_t size);

#endif

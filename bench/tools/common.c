/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "common.h"

void die(const char *what)
{
	const int err = errno;

	fprintf(stderr, "%s: %s\n", what, strerror(err));
	exit(err == EOPNOTSUPP || err == ENOSYS ? EX_UNSUPPORTED : EX_WRONG);
}

void wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EX_WRONG);
}

void usage(const char *text)
{
	fprintf(stderr, "usage: %s\n", text);
	exit(EX_USAGE);
}

long number(const char *text)
{
	char *end;
	const long n = strtol(text, &end, 10);

	if (*end || n < 1) {
		fprintf(stderr, "%s: expected a number from 1 on\n", text);
		exit(EX_USAGE);
	}
	return n;
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t pick_below(struct picker *r, uint64_t n)
{
	if (!r->x)
		r->x = 88172645463325252ULL;
	r->x ^= r->x << 13;
	r->x ^= r->x >> 7;
	r->x ^= r->x << 17;
	return r->x % n;
}

void lat_add(struct lat *l, uint64_t ns)
{
	const unsigned octave = ns < 16 ? 4 : 63 - (unsigned)__builtin_clzll(ns);
	const unsigned sub = ns < 16 ? (unsigned)ns : (unsigned)(ns >> (octave - 4)) & 15;

	l->hist[(octave - 4) * 16 + sub + (ns < 16 ? 0 : 16)]++;
	l->count++;
}

/* The first nanosecond behind bucket b. */
static uint64_t bucket_end(unsigned b)
{
	return b < 16 ? b + 1 : (uint64_t)(16 + b % 16 + 1) << (b / 16 - 1);
}

double lat_quantile_us(const struct lat *l, double q)
{
	const uint64_t rank = (uint64_t)((double)l->count * q);
	uint64_t seen = 0;

	for (unsigned b = 0; b < LAT_BUCKETS; b++) {
		seen += l->hist[b];
		if (seen > rank || (seen && seen == l->count))
			return (double)bucket_end(b) / 1e3;
	}
	return 0;
}

void report(const char *figure, uint64_t ops, uint64_t ns, uint64_t bytes, const struct lat *lat)
{
	printf("{\"figure\": \"%s\", \"ops\": %llu, \"seconds\": %.9f", figure, (unsigned long long)ops,
	       (double)ns / 1e9);
	if (bytes)
		printf(", \"bytes\": %llu", (unsigned long long)bytes);
	if (lat)
		printf(", \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f", lat_quantile_us(lat, 0.5),
		       lat_quantile_us(lat, 0.99), lat_quantile_us(lat, 0.999));
	puts("}");
}

void *shared_alloc(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	return mem;
}

static void one_job(unsigned job, const int gate[2], void (*fn)(unsigned job, void *arg), void *arg)
{
	char go;

	close(gate[1]);
	if (read(gate[0], &go, 1) != 0)
		_exit(EX_WRONG);
	fn(job, arg);
	exit(0);
}

/* All jobs wait for the end of file of a pipe whose last writer is this process. */
uint64_t run_jobs(unsigned jobs, void (*fn)(unsigned job, void *arg), void *arg)
{
	int gate[2], code = 0;
	uint64_t begin;

	if (pipe(gate))
		die("pipe");
	fflush(NULL);
	for (unsigned i = 0; i < jobs; i++) {
		const pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			one_job(i, gate, fn, arg);
	}
	close(gate[0]);
	begin = now_ns();
	close(gate[1]);
	for (unsigned i = 0; i < jobs; i++) {
		int status;

		if (wait(&status) < 0)
			die("wait");
		if (status && !code)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : EX_WRONG;
	}
	if (code)
		exit(code);
	return now_ns() - begin;
}

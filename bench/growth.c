/* SPDX-License-Identifier: MIT */
/*
 * Operations on one large directory or one file of many extents, timed:
 * growth OP PATH N -> lines "figure microseconds-an-operation".
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK	4096L
#define SAMPLES 10000L /* operations that a random sample takes, at most */

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void report(const char *figure, double since, long ops)
{
	printf("%s %.3f\n", figure, (now_us() - since) / (double)ops);
}

/* The same places for every size and run: a figure must not depend on luck. */
static long pick(long n)
{
	static unsigned long long x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (long)(x % (unsigned long long)n);
}

static void enter(const char *dir)
{
	if (chdir(dir))
		die(dir);
}

/* The first half only fills: what counts is the cost where the directory is large. */
static void create(const char *dir, long n)
{
	char name[32];
	double t0 = 0;

	enter(dir);
	for (long i = 0; i < n; i++) {
		int fd;

		if (i == n / 2)
			t0 = now_us();
		snprintf(name, sizeof(name), "name-%ld", i);
		fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0)
			die(name);
		close(fd);
	}
	report("create", t0, n - n / 2);
}

static void stat_some(const char *dir, long n)
{
	long ops = n < SAMPLES ? n : SAMPLES;
	char name[32];
	struct stat st;
	double t0;

	enter(dir);
	t0 = now_us();
	for (long i = 0; i < ops; i++) {
		snprintf(name, sizeof(name), "name-%ld", pick(n));
		if (stat(name, &st))
			die(name);
	}
	report("stat-cold", t0, ops);
}

static void list(const char *dir, long n)
{
	double t0 = now_us();
	DIR *d = opendir(dir);
	long seen = 0;

	if (!d)
		die(dir);
	while (readdir(d))
		seen++;
	closedir(d);
	report("readdir", t0, n);
	if (seen != n + 2) {
		fprintf(stderr, "growth: %ld names listed, not %ld\n", seen, n + 2);
		exit(1);
	}
}

static void unlink_all(const char *dir, long n)
{
	char name[32];
	double t0;

	enter(dir);
	t0 = now_us();
	for (long i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "name-%ld", i);
		if (unlink(name))
			die(name);
	}
	report("unlink", t0, n);
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags, 0644);

	if (fd < 0)
		die(path);
	return fd;
}

/* Every second block of a file: n extents. */
static void write_alternate(const char *path, long n)
{
	static char block[BLOCK];
	int fd = open_file(path, O_CREAT | O_WRONLY);
	double t0 = now_us();

	memset(block, 'e', sizeof(block));
	for (long i = 0; i < n; i++)
		if (pwrite(fd, block, BLOCK, 2 * BLOCK * i) != BLOCK)
			die("pwrite");
	if (fsync(fd))
		die("fsync");
	report("write+sync", t0, n);
	close(fd);
}

static void read_some(const char *path, long n)
{
	static char block[BLOCK];
	int fd = open_file(path, O_RDONLY);
	long ops = n < SAMPLES ? n : SAMPLES;
	double t0 = now_us();

	for (long i = 0; i < ops; i++)
		if (pread(fd, block, BLOCK, 2 * BLOCK * pick(n)) != BLOCK || block[0] != 'e')
			die("pread");
	report("read-cold", t0, ops);
	close(fd);
}

static void seek_some(const char *path, long n)
{
	int fd = open_file(path, O_RDONLY);
	long ops = n < SAMPLES ? n : SAMPLES;
	double t0 = now_us();

	for (long i = 0; i < ops; i++) {
		off_t at = 2 * BLOCK * pick(n);

		if (lseek(fd, at, SEEK_HOLE) != at + BLOCK)
			die("SEEK_HOLE");
	}
	report("seek-hole", t0, ops);
	close(fd);
}

static void punch_some(const char *path, long n)
{
	int fd = open_file(path, O_RDWR);
	long ops = n < SAMPLES ? n : SAMPLES;
	double t0 = now_us();

	for (long i = 0; i < ops; i++)
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * BLOCK * pick(n), BLOCK))
			die("punch");
	report("punch", t0, ops);
	close(fd);
}

/* Small whole files, for comparing file systems of different sizes. */
static void files(const char *dir, long n)
{
	static char data[16384];
	char name[32];
	double t0;

	enter(dir);
	memset(data, 'f', sizeof(data));
	t0 = now_us();
	for (long i = 0; i < n; i++) {
		int fd;

		snprintf(name, sizeof(name), "name-%ld", i);
		fd = open_file(name, O_CREAT | O_EXCL | O_WRONLY);
		if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
			die("write");
		close(fd);
	}
	sync();
	report("create+write-16k", t0, n);
	unlink_all(".", n);
}

static const struct {
	const char *name;
	void (*run)(const char *path, long n);
} ops[] = {
	{"create", create}, {"stat", stat_some}, {"list", list}, {"unlink", unlink_all},
	{"write", write_alternate}, {"read", read_some}, {"seek", seek_some},
	{"punch", punch_some}, {"files", files},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 4 && i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(argv[1], ops[i].name))
			continue;
		ops[i].run(argv[2], strtol(argv[3], NULL, 10));
		return 0;
	}
	fprintf(stderr, "usage: growth create|stat|list|unlink|write|read|seek|punch|files PATH N\n");
	return 16;
}

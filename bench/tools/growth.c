/* SPDX-License-Identifier: MIT */
/*
 * Operations on one large directory or one file of many extents, timed:
 * growth OP PATH N. What a workload needs of a file system here decides who takes part.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include "common.h"

static const char usage_text[] = "growth create|stat|list|unlink|write|read|seek|punch|files PATH N";

#define BLOCK   4096L
#define SAMPLES 10000L /* operations that a random sample takes, at most */

static struct picker rng;

static long pick(long n)
{
	return (long)pick_below(&rng, (uint64_t)n);
}

static void done(const char *figure, uint64_t since, long ops)
{
	report(figure, (uint64_t)ops, now_ns() - since, 0, NULL);
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
	uint64_t t0 = 0;

	enter(dir);
	for (long i = 0; i < n; i++) {
		int fd;

		if (i == n / 2)
			t0 = now_ns();
		snprintf(name, sizeof(name), "name-%ld", i);
		fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0)
			die(name);
		close(fd);
	}
	done("create", t0, n - n / 2);
}

static void stat_some(const char *dir, long n)
{
	long ops = n < SAMPLES ? n : SAMPLES;
	char name[32];
	struct stat st;
	uint64_t t0;

	enter(dir);
	t0 = now_ns();
	for (long i = 0; i < ops; i++) {
		snprintf(name, sizeof(name), "name-%ld", pick(n));
		if (stat(name, &st))
			die(name);
	}
	done("stat-cold", t0, ops);
}

static void list(const char *dir, long n)
{
	uint64_t t0 = now_ns();
	DIR *d = opendir(dir);
	long seen = 0;

	if (!d)
		die(dir);
	while (readdir(d))
		seen++;
	closedir(d);
	done("readdir", t0, n);
	if (seen != n + 2)
		wrong("%s: %ld names listed, not %ld", dir, seen, n + 2);
}

static void unlink_all(const char *dir, long n)
{
	char name[32];
	uint64_t t0;

	enter(dir);
	t0 = now_ns();
	for (long i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "name-%ld", i);
		if (unlink(name))
			die(name);
	}
	done("unlink", t0, n);
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
	uint64_t t0 = now_ns();

	memset(block, 'e', sizeof(block));
	for (long i = 0; i < n; i++)
		if (pwrite(fd, block, BLOCK, 2 * BLOCK * i) != BLOCK)
			die("pwrite");
	if (fsync(fd))
		die("fsync");
	done("write+sync", t0, n);
	close(fd);
}

static void read_some(const char *path, long n)
{
	static char block[BLOCK];
	int fd = open_file(path, O_RDONLY);
	long ops = n < SAMPLES ? n : SAMPLES;
	uint64_t t0 = now_ns();

	for (long i = 0; i < ops; i++)
		if (pread(fd, block, BLOCK, 2 * BLOCK * pick(n)) != BLOCK || block[0] != 'e')
			die("pread");
	done("read-cold", t0, ops);
	close(fd);
}

static void seek_some(const char *path, long n)
{
	int fd = open_file(path, O_RDONLY);
	long ops = n < SAMPLES ? n : SAMPLES;
	uint64_t t0 = now_ns();

	for (long i = 0; i < ops; i++) {
		off_t at = 2 * BLOCK * pick(n);

		const off_t hole = lseek(fd, at, SEEK_HOLE);

		/* Who does not know holes says that the only one is at the end. */
		if (hole != at + BLOCK && hole == lseek(fd, 0, SEEK_END)) {
			errno = EOPNOTSUPP;
			die("SEEK_HOLE");
		}
		/* Who preallocates may tell of a later one; it must be one of the blocks never written. */
		if (hole <= at || hole / BLOCK % 2 != 1)
			wrong("SEEK_HOLE from %lld: %lld", (long long)at, (long long)hole);
	}
	done("seek-hole", t0, ops);
	close(fd);
}

static void punch_some(const char *path, long n)
{
	int fd = open_file(path, O_RDWR);
	long ops = n < SAMPLES ? n : SAMPLES;
	uint64_t t0 = now_ns();

	for (long i = 0; i < ops; i++)
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * BLOCK * pick(n), BLOCK))
			die("punch");
	done("punch", t0, ops);
	close(fd);
}

static void sync_fs(const char *path)
{
	const int fd = open_file(path, O_RDONLY);

	if (syncfs(fd))
		die("syncfs");
	close(fd);
}

/* Small whole files, for comparing file systems of different sizes. */
static void files(const char *dir, long n)
{
	static char data[16384];
	char name[32];
	uint64_t t0;

	enter(dir);
	memset(data, 'f', sizeof(data));
	t0 = now_ns();
	for (long i = 0; i < n; i++) {
		int fd;

		snprintf(name, sizeof(name), "name-%ld", i);
		fd = open_file(name, O_CREAT | O_EXCL | O_WRONLY);
		if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
			die("write");
		close(fd);
	}
	sync_fs(".");
	done("create+write-16k", t0, n);
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
	if (argc != 4)
		usage(usage_text);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(argv[1], ops[i].name))
			continue;
		ops[i].run(argv[2], number(argv[3]));
		return 0;
	}
	usage(usage_text);
}

/* SPDX-License-Identifier: MIT */
/* Names and small writes, timed: meta OP DIR N -> operations a second. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char path[4096], path2[4096];

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void name(char *buf, const char *dir, const char *prefix, long i)
{
	/* 1000 names a directory, as trees have. */
	snprintf(buf, sizeof(path), "%s/%ld/%s%ld", dir, i / 1000, prefix, i);
}

static void create(const char *dir, long n)
{
	for (long i = 0; i < n; i++) {
		int fd;

		if (i % 1000 == 0) {
			snprintf(path, sizeof(path), "%s/%ld", dir, i / 1000);
			mkdir(path, 0755);
		}
		name(path, dir, "f", i);
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0)
			die(path);
		close(fd);
	}
}

static void each(const char *op, const char *dir, long n)
{
	struct stat st;

	for (long i = 0; i < n; i++) {
		int err;

		name(path, dir, "f", i);
		name(path2, dir, "g", i);
		if (!strcmp(op, "stat"))
			err = stat(path, &st);
		else if (!strcmp(op, "rename"))
			err = rename(path, path2);
		else
			err = unlink(path2);
		if (err)
			die(path);
	}
}

/* Append small records; with sync each is made durable. */
static void append(const char *dir, long n, int sync)
{
	char rec[100];
	int fd;

	memset(rec, 'r', sizeof(rec));
	snprintf(path, sizeof(path), "%s/append", dir);
	fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0644);
	if (fd < 0)
		die(path);
	for (long i = 0; i < n; i++) {
		size_t len = (size_t)(1 + i % 100);

		if (write(fd, rec, len) != (ssize_t)len)
			die("write");
		if (sync && fsync(fd))
			die("fsync");
	}
	if (fsync(fd) || close(fd))
		die("fsync");
}

int main(int argc, char **argv)
{
	double t0;
	long n;

	if (argc != 4) {
		fprintf(stderr, "usage: meta create|stat|rename|unlink|append|append-fsync DIR N\n");
		return 16;
	}
	n = strtol(argv[3], NULL, 10);
	t0 = now();
	if (!strcmp(argv[1], "create"))
		create(argv[2], n);
	else if (!strncmp(argv[1], "append", 6))
		append(argv[2], n, argv[1][6] != '\0');
	else
		each(argv[1], argv[2], n);
	printf("%.1f\n", (double)n / (now() - t0));
	return 0;
}

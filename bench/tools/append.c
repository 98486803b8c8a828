/* SPDX-License-Identifier: MIT */
/* Records of 1 to 100 bytes appended to a file, timed; the file is read back afterwards. */
#include <fcntl.h>

#include "common.h"

#define RECORD_MAX 100

static size_t record(char *buf, uint64_t i)
{
	const size_t len = 1 + i % RECORD_MAX;

	memset(buf, (int)('!' + i % 93), len);
	return len;
}

static void check(const char *path, uint64_t n)
{
	char want[RECORD_MAX], got[RECORD_MAX];
	FILE *f = fopen(path, "r");

	if (!f)
		die(path);
	for (uint64_t i = 0; i < n; i++) {
		const size_t len = record(want, i);

		if (fread(got, 1, len, f) != len || memcmp(got, want, len) != 0)
			wrong("%s: record %llu is not what was written", path, (unsigned long long)i);
	}
	if (fgetc(f) != EOF)
		wrong("%s: longer than what was written", path);
	fclose(f);
}

int main(int argc, char **argv)
{
	struct lat *lat = shared_alloc(sizeof(*lat));
	uint64_t n, begin, bytes = 0;
	char buf[RECORD_MAX];
	bool sync;
	int fd;

	if (argc != 4 || (strcmp(argv[1], "append") && strcmp(argv[1], "append-fsync")))
		usage("append append|append-fsync FILE N");
	sync = !strcmp(argv[1], "append-fsync");
	n = (uint64_t)number(argv[3]);
	fd = open(argv[2], O_CREAT | O_EXCL | O_WRONLY | O_APPEND, 0644);
	if (fd < 0)
		die(argv[2]);
	begin = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		const size_t len = record(buf, i);
		const uint64_t t = now_ns();

		if (write(fd, buf, len) != (ssize_t)len)
			die("write");
		if (sync && fsync(fd))
			die("fsync");
		lat_add(lat, now_ns() - t);
		bytes += len;
	}
	if (fsync(fd) || close(fd))
		die("fsync");
	report(argv[1], n, now_ns() - begin, bytes, lat);
	check(argv[2], n);
	return 0;
}

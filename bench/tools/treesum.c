/* SPDX-License-Identifier: MIT */
/* What is in a tree, as numbers that do not depend on the order of names: to compare two trees by. */
#include <fcntl.h>
#include <fts.h>
#include <sys/stat.h>

#include "common.h"

static uint64_t hash(uint64_t h, const void *data, size_t len)
{
	const unsigned char *p = data;

	/* FNV-1a */
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211ULL;
	return h;
}

static uint64_t hash_file(uint64_t h, const char *path, uint64_t *bytes)
{
	static char buf[1 << 16];
	const int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		die(path);
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		h = hash(h, buf, (size_t)n);
		*bytes += (uint64_t)n;
	}
	if (n < 0)
		die(path);
	close(fd);
	return h;
}

int main(int argc, char **argv)
{
	uint64_t files = 0, dirs = 0, bytes = 0, sum = 0;
	char *roots[] = {argv[1], NULL};
	FTSENT *e;
	FTS *fts;

	if (argc != 2)
		usage("treesum DIR");
	fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	if (!fts)
		die(argv[1]);
	while ((e = fts_read(fts))) {
		const char *name = e->fts_path + strlen(argv[1]);
		uint64_t h = hash(14695981039346656037ULL, name, strlen(name));

		switch (e->fts_info) {
		case FTS_D:
			dirs++;
			sum += h;
			break;
		case FTS_F:
			files++;
			sum += hash_file(h, e->fts_path, &bytes);
			break;
		case FTS_DP:
			break;
		default:
			wrong("%s: cannot be read, or neither file nor directory", e->fts_path);
		}
	}
	fts_close(fts);
	printf("%llu files %llu dirs %llu bytes %016llx\n", (unsigned long long)files,
	       (unsigned long long)dirs, (unsigned long long)bytes, (unsigned long long)sum);
	return 0;
}

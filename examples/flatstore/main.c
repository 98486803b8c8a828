/* SPDX-License-Identifier: MIT */
/* flatstore IMAGE COMMAND [NAME ...]: a store on an image file or a disk, from the command line. */
#include <err.h>
#include <inttypes.h>
#include <linux/fiemap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flatstore.h"

#define CHUNK ((size_t)1 << 20)

static void usage(void)
{
	fputs("usage: flatstore IMAGE format            an empty store; what IMAGE held is lost\n"
	      "       flatstore IMAGE ls                sizes and names\n"
	      "       flatstore IMAGE put NAME          standard input is the file now, whole or not at all\n"
	      "       flatstore IMAGE dput NAME         the same around the cache\n"
	      "       flatstore IMAGE patch NAME OFFSET standard input overwrites what is there\n"
	      "       flatstore IMAGE get NAME          the file, to standard output\n"
	      "       flatstore IMAGE rm NAME\n"
	      "       flatstore IMAGE map NAME          its extents on the device, its data\n",
	      stderr);
	exit(2);
}

static int64_t copy_in(struct inode *f, uint64_t pos, bool direct)
{
	char *buf = aligned_alloc(4096, CHUNK);
	int64_t ret = buf ? 1 : -ENOMEM;

	while (ret > 0) {
		size_t have = 0;

		while (have < CHUNK && (ret = read(STDIN_FILENO, buf + have, CHUNK - have)) > 0)
			have += (size_t)ret;
		if (ret < 0)
			ret = -errno;
		for (size_t done = 0; ret >= 0 && done < have; done += (size_t)ret, pos += (uint64_t)ret) {
			ret = file_write(f, pos, buf + done, have - done, direct);
			if (ret == 0)
				ret = -EIO;
		}
		if (have < CHUNK && ret > 0)
			ret = 0;
	}
	free(buf);
	return ret;
}

static int64_t copy_out(struct inode *f)
{
	char *buf = malloc(CHUNK);
	int64_t ret = buf ? 1 : -ENOMEM;

	for (uint64_t pos = 0; ret > 0; pos += (uint64_t)ret) {
		ret = file_read(f, pos, buf, CHUNK);
		if (ret > 0 && fwrite(buf, 1, (size_t)ret, stdout) != (size_t)ret)
			ret = -EIO;
	}
	free(buf);
	return ret < 0 ? ret : fflush(stdout) ? -errno : 0;
}

static int print_map(struct inode *inode)
{
	struct fiemap_extent e = { 0 };
	int64_t data, hole = 0;
	int err = 0;

	lk_rdlock(&inode->i_rwsem);
	for (uint64_t pos = 0; pos < i_size_read(inode); pos = e.fe_logical + e.fe_length) {
		struct fiemap_extent_info fi = { .fi_extents_max = 1, .fi_extents_start = &e };

		err = iomap_fiemap(inode, &fi, pos, i_size_read(inode) - pos, &flatstore_iomap_ops);
		if (err || !fi.fi_extents_mapped)
			break;
		printf("extent %" PRIu64 " at %" PRIu64 " length %" PRIu64 "%s\n", (uint64_t)e.fe_logical,
		       (uint64_t)e.fe_physical, (uint64_t)e.fe_length,
		       e.fe_flags & FIEMAP_EXTENT_UNWRITTEN ? " unwritten" : "");
	}
	while (!err && (data = iomap_seek_data(inode, hole, &flatstore_iomap_ops)) >= 0) {
		hole = iomap_seek_hole(inode, data, &flatstore_iomap_ops);
		printf("data %" PRId64 " to %" PRId64 "\n", data, hole);
	}
	lk_rw_unlock(&inode->i_rwsem);
	return err;
}

static void print_file(const char *name, uint64_t size)
{
	printf("%12" PRIu64 " %s\n", size, name);
}

static int64_t with_file(struct store *st, char **argv)
{
	const char *cmd = argv[0], *name = argv[1];
	const bool put = !strcmp(cmd, "put") || !strcmp(cmd, "dput"), patch = !strcmp(cmd, "patch");
	const char *target = put ? ".put" : name;
	struct inode *f;
	int64_t ret, err;

	if (put)
		store_remove(st, target); /* left by one that failed and a commit after it */
	ret = file_open(st, target, put || patch, &f);
	if (ret)
		return ret;
	if (put || patch)
		ret = copy_in(f, patch ? strtoull(argv[2], NULL, 0) : 0, *cmd == 'd');
	else
		ret = !strcmp(cmd, "get") ? copy_out(f) : print_map(f);
	err = file_close(f);
	ret = ret ? ret : err;
	if (!ret && put)
		ret = store_rename(st, target, name);
	return ret || !(put || patch) ? ret : store_commit(st);
}

static int64_t run(struct store *st, char **argv)
{
	if (!strcmp(argv[0], "ls")) {
		store_list(st, print_file);
		return 0;
	}
	if (!strcmp(argv[0], "rm")) {
		const int err = store_remove(st, argv[1]);

		return err ? err : store_commit(st);
	}
	return with_file(st, argv);
}

/* Commands and how many words they are. */
static const struct {
	const char *name;
	int words;
} commands[] = { { "format", 1 }, { "ls", 1 }, { "put", 2 }, { "dput", 2 }, { "patch", 3 },
		 { "get", 2 }, { "rm", 2 }, { "map", 2 } };

/* Of one that was killed the kernel closes files a moment later, when it has taken its ring apart. */
static int open_patiently(const char *image, struct bd **out)
{
	int err = -EBUSY;

	for (int tries = 0; err == -EBUSY && tries < 200; tries++) {
		if (tries)
			usleep(10000);
		err = bd_open(image, BD_OPEN_LOCK | BD_OPEN_EXCL, out);
	}
	return err;
}

int main(int argc, char **argv)
{
	struct store *st;
	struct bd *bd;
	int64_t ret;
	size_t i = 0;

	while (argc > 2 && i < sizeof(commands) / sizeof(commands[0]) && strcmp(argv[2], commands[i].name))
		i++;
	if (argc < 3 || i == sizeof(commands) / sizeof(commands[0]) || argc != 2 + commands[i].words)
		usage();
	log_set_sink(log_stderr, NULL);
	ret = open_patiently(argv[1], &bd);
	if (ret)
		errx(1, "%s: %s", argv[1], ret == -EBUSY ? "in use by another process" : strerror((int)-ret));
	if (!strcmp(argv[2], "format")) {
		ret = store_format(bd);
	} else if (!(ret = store_open(bd, &st))) {
		ret = run(st, argv + 2);
		store_close(st);
	}
	bd_close(bd);
	if (ret == -EMEDIUMTYPE)
		errx(1, "%s: not a flatstore of this size, or both of its tables are damaged", argv[1]);
	if (ret)
		errx(1, "%s: %s%s%s: %s", argv[1], argv[2], argc > 3 ? " " : "", argc > 3 ? argv[3] : "",
		     strerror((int)-ret));
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Micro-benchmarks: one operation of one layer, many times over, in a process without FUSE or a device.
 * bench/micro/run counts their instructions under callgrind.
 */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include "fs_private.h"
#include "iomapfs/util.h"

struct micro_case {
	const char *name;
	const char *what;
	unsigned ops;             /* of a measured run */
	void *(*begin)(void);     /* not measured */
	void (*run)(void *arg, unsigned ops);
	void (*end)(void *arg);
	/* Valgrind holds its lock while io_uring_enter waits: with a ring of ours no other thread runs. */
	bool not_under_valgrind;
};

/* Each file's cases; the last one has no name. */
extern const struct micro_case micro_btree[], micro_space[], micro_file[], micro_names[], micro_folio[],
	micro_journal[], micro_device[];

/* A condition that must hold, in every build: a benchmark of something that failed is none. */
#define MUST(cond)                                                                     \
	do {                                                                           \
		if (!(cond))                                                           \
			micro_failed(#cond, __FILE__, __LINE__);                       \
	} while (0)
void micro_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

/*
 * A file system of `bytes` on a memory device, with an identity that is the same in every run: the hash seed
 * decides where names go.
 */
struct micro_fs {
	struct fs *fs;
	struct fs_inode *root;
	struct fs_ctx ctx;
};
void micro_mount(struct micro_fs *m, uint64_t bytes);
void micro_umount(struct micro_fs *m);
struct fs_inode *micro_create(struct micro_fs *m, const char *name);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * check - the checker behind fsck.iomapfs: a table of problems, and passes that raise
 * them. Independent of fs/ so that it can judge it: reads the device itself through
 * block/ and format/.
 */
#ifndef IOMAPFS_CHECK_H
#define IOMAPFS_CHECK_H

#include <stdio.h>

#include "iomapfs/block.h"
#include "iomapfs/format.h"

struct chk_result;
struct chk_opts {
	bool readonly;      /* -n: nothing is written */
	bool preen;         /* -p: repair only if no problem found could cost anybody anything */
	bool verbose;
	FILE *out;          /* problems, one a line; NULL: none */
	/*
	 * -C: so much of a pass (1..5) is done; total may be 0. Called from the checking thread, often: at
	 * least once for each group, inode cluster and orphan. NULL: not told.
	 */
	void (*progress)(void *arg, unsigned pass, uint64_t done, uint64_t total);
	void *progress_arg;
	/* Called when something is to be repaired; false: nothing is written. NULL: as true. */
	bool (*ask)(void *arg, const struct chk_result *res);
	void *ask_arg;
};
struct chk_result {
	uint64_t found;     /* problems, notes not counted */
	uint64_t fixed;     /* of them are gone after the repair */
	uint64_t left;      /* problems that are there now */
	bool repaired;      /* something was written */
	bool unknown;       /* features of a newer version: nothing is repaired */
	bool unsafe;        /* preen: not repaired, since some would lose something */
	uint64_t inodes, dirs, blocks_used, blocks_free, meta_blocks;
	double fragmentation; /* mean extents a regular file with data */
};
/*
 * Check the file system on bd, as recovery of its journal will leave it, and unless readonly
 * repair it (docs/FSCK.md) and check it again. Nobody else may have it open. Returns 0
 * when the check itself ran to its end (see res), -errno when it could not run: -EMEDIUMTYPE no
 * iomapfs, -EOPNOTSUPP unknown features, -EIO, -ENOMEM; from a repair also -ENOSPC: what is to be
 * written anew finds no room. A repair that ends with an error or is cut short may be begun again.
 */
int chk_run(struct bd *bd, const struct chk_opts *opts, struct chk_result *res);
/* The problem table, for docs and tests: NULL past the end. */
struct chk_problem_info {
	const char *code;   /* "AG-FREE-COUNT" */
	unsigned pass;
	const char *text;
};
const struct chk_problem_info *chk_problem_get(unsigned i);

#endif

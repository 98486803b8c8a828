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

struct chk_opts {
	bool readonly;      /* -n: report only */
	bool preen;         /* -p */
	bool yes;           /* -y */
	bool verbose;
	bool progress;      /* -C */
	FILE *out;
};
struct chk_result {
	uint64_t found, fixed;
	uint64_t inodes, dirs, blocks_used, blocks_free, meta_blocks;
	double fragmentation; /* mean extents a regular file with data */
};
/*
 * Check the file system on bd (journal transactions are replayed in memory first when
 * readonly). Returns 0 when the check itself ran to its end (see res), -errno when it
 * could not run: -EMEDIUMTYPE no iomapfs, -EIO, -ENOMEM.
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

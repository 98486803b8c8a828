/* SPDX-License-Identifier: MIT */
/*
 * A workload that goes on whatever fails, keeps book of what it was promised, and the judgement
 * of what is there afterwards.
 */
#ifndef FAULT_WORK_H
#define FAULT_WORK_H

#include "iomapfs/fs.h"
#include "iomapfs/util.h"

#define WORK_KEPT 12u

struct work_book {
	/* Files that are written once: their contents were promised, under this name. */
	struct {
		char name[16];
		uint32_t len, seed;
		bool promised;
	} kept[WORK_KEPT];
	unsigned nr;
	/* One that is written over and over: begun and promised generations. */
	uint32_t begun, over;
	unsigned ops, failed;   /* operations, and those that ended with an error */
	unsigned nospace;       /* of them with ENOSPC */
	int odd;                /* an errno that no operation may end with; 0 = none */
};

/* Everything on a mounted file system; its references are given back. */
void work_run(struct fs *fs, struct work_book *b);
/* False, and why: a promise is not kept. */
bool work_judge(struct fs *fs, const struct work_book *b, char *why, size_t size);
/* Remove everything again; 0 or -errno. */
int work_empty(struct fs *fs);

#endif

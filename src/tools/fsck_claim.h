/* SPDX-License-Identifier: MIT */
/* fsck.iomapfs and other hosts: multiple-mount protection while a repair writes. */
#ifndef TOOLS_FSCK_CLAIM_H
#define TOOLS_FSCK_CLAIM_H

#include "iomapfs/block.h"
#include "iomapfs/format.h"

struct fsck_claim {
	struct bd *bd;              /* NULL: nothing was claimed */
	uint8_t meta_uuid[16];
};

/* Superblock and journal say that it was unmounted properly. */
bool fsck_was_unmounted(struct bd *bd);
/*
 * Say in the protection's block that fsck writes here, if the file system has the protection. May
 * wait for a sign of life of whoever is named there, two intervals and a second. -EBUSY, with
 * a message on stderr: another host has it mounted, or repairs it.
 */
int fsck_claim(struct fsck_claim *claim, struct bd *bd, const char *path);
/* Nobody writes here any more. */
void fsck_unclaim(struct fsck_claim *claim);

#endif

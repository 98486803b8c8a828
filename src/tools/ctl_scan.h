/* SPDX-License-Identifier: MIT */
/* Opening an unmounted file system by its device or image, and looking at each of its blocks. */
#ifndef TOOLS_CTL_SCAN_H
#define TOOLS_CTL_SCAN_H

#include "iomapfs/block.h"
#include "iomapfs/format.h"

/*
 * Open path with these BD_OPEN_* flags and fill *od from its superblock. One that is damaged is refused,
 * unless the caller wants to be told: then *damaged is set and *od left alone. Returns an exit
 * code; complains itself.
 */
int ctl_open(const char *path, unsigned flags, struct bd **bd, struct od_ctx *od, bool *damaged);

/*
 * Call fn with each block of 4096 bytes that is no hole, by address. Ends with the first error, fn's
 * or the device's: -errno.
 */
int ctl_scan(struct bd *bd, const struct od_ctx *od,
	     int (*fn)(void *arg, void *block, uint64_t mblk), void *arg);
/* Has recovery something to do? 1, 0 or -errno. */
int ctl_log_is_needed(struct bd *bd, const struct od_ctx *od);

#endif

/* SPDX-License-Identifier: MIT */
/* Opening an unmounted file system, and looking at each of its blocks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "ctl_scan.h"
#include "ident.h"

#define CHUNK (1u << 20)

int ctl_open(const char *path, unsigned flags, struct bd **bd, struct od_ctx *od, bool *damaged)
{
	const char *why = NULL;
	struct sb_info sb;
	int ret = ident_iomapfs(path, &sb, &why);

	if (ret < 0)
		return ctl_fail(path, -ret);
	if (damaged)
		*damaged = ret != IDENT_SOUND;
	if (ret == IDENT_SOUND) {
		od_ctx_init(od, &sb);
	} else if (!damaged) {
		fprintf(stderr, "iomapctl: %s: %s%s\n", path,
			ret == IDENT_DAMAGED ? "damaged superblock: " : "no iomapfs",
			ret == IDENT_DAMAGED ? why : "");
		return CTL_FAIL;
	}
	ret = bd_open(path, flags, bd);
	if (ret == -EBUSY) {
		fprintf(stderr, "iomapctl: %s: is mounted or in use; unmount it first\n", path);
		return CTL_FAIL;
	}
	return ret ? ctl_fail(path, -ret) : CTL_OK;
}

/* Holes of an image hold no metadata: a 16 TiB one is scanned in the time of what is in it. */
static uint64_t next_data(const struct bd *bd, uint64_t offset)
{
	off_t at = bd->info.is_blockdev ? -1 : lseek(bd_fd(bd), (off_t)offset, SEEK_DATA);

	if (at >= 0)
		return (uint64_t)at & ~(uint64_t)(OD_MBLK_SIZE - 1);
	return !bd->info.is_blockdev && errno == ENXIO ? UINT64_MAX : offset;
}

int ctl_scan(struct bd *bd, const struct od_ctx *od,
	     int (*fn)(void *arg, void *block, uint64_t mblk), void *arg)
{
	const uint64_t end = od->dev_mblks * OD_MBLK_SIZE;
	char *chunk = aligned_alloc(OD_MBLK_SIZE, CHUNK);
	uint64_t offset = 0, len;
	int err = chunk ? 0 : -ENOMEM;

	for (; !err && (offset = next_data(bd, offset)) < end; offset += len) {
		len = end - offset < CHUNK ? end - offset : CHUNK;
		err = bd_read(bd, offset, chunk, len);
		for (uint64_t at = 0; !err && at + OD_MBLK_SIZE <= len; at += OD_MBLK_SIZE)
			err = fn(arg, chunk + at, (offset + at) / OD_MBLK_SIZE);
	}
	free(chunk);
	return err;
}

int ctl_log_is_needed(struct bd *bd, const struct od_ctx *od)
{
	struct od_jsb *jsb = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	int ret;

	if (!jsb)
		return -ENOMEM;
	ret = bd_read(bd, od->jnl_start * OD_MBLK_SIZE, jsb, OD_MBLK_SIZE);
	if (!ret)
		ret = le64_get(jsb->clean) != 1;
	free(jsb);
	return ret;
}

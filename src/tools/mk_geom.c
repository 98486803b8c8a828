/* SPDX-License-Identifier: MIT */
/* Geometry of a new file system. */
#include "iomapfs/util.h"
#include "mk.h"

/* A shorter last group is not worth its head, trees and reserve. */
#define LAST_AG_MIN (2ull << 20)
#define AG_SIZE_FIRST (8ull << 20)
#define NR_AGS_MAX 1024u

/*
 * Groups exist so that threads can allocate side by side; each costs a block of memory and a
 * read at mount. Four will do until a device is large, then their number grows slowly.
 */
static unsigned wanted_groups(uint64_t bytes)
{
	if (bytes <= 64ull << 30)
		return 4;
	if (bytes <= 1ull << 40)
		return 16;
	return 64;
}

const char *mk_geom_compute(uint64_t bytes, unsigned block_shift, uint64_t jnl_min,
			    uint64_t jnl_want, struct mk_geom *out)
{
	struct mk_geom g = { .block_shift = block_shift };
	uint64_t ag_bytes, rest, jnl_bytes;

	if (block_shift < OD_BLOCK_SHIFT_MIN || block_shift > OD_BLOCK_SHIFT_MAX)
		return "the block size must be a power of two from 1024 to 65536";
	bytes = ROUND_DOWN(bytes, (uint64_t)OD_AG_HEAD_SIZE);
	if (bytes < OD_DEV_SIZE_MIN)
		return "the smallest file system has 16 MiB";
	if (bytes > OD_DEV_SIZE_MAX)
		return "the largest file system has 1 EiB";
	g.cluster_shift = ilog2(MAX(1u << block_shift, OD_CLUSTER_MIN));
	g.jnl_start = OD_AG_HEAD_MBLKS;

	ag_bytes = 1ull << ilog2(bytes / wanted_groups(bytes));
	ag_bytes = MAX(ag_bytes, AG_SIZE_FIRST);
	while (DIV_ROUND_UP(bytes, ag_bytes) > NR_AGS_MAX)
		ag_bytes *= 2;
	/* The journal takes at most half of the first group, but what it must have it gets. */
	jnl_bytes = MIN(jnl_want << OD_MBLK_SHIFT, ag_bytes / 2);
	jnl_bytes = ROUND_UP(MAX(jnl_bytes, jnl_min << OD_MBLK_SHIFT), (uint64_t)OD_AG_HEAD_SIZE);
	while (jnl_bytes + LAST_AG_MIN > ag_bytes && ag_bytes < bytes)
		ag_bytes *= 2;
	ag_bytes = MIN(ag_bytes, bytes);
	if (jnl_bytes + LAST_AG_MIN > ag_bytes)
		return "the journal does not fit";
	rest = bytes % ag_bytes;
	if (rest < LAST_AG_MIN)
		bytes -= rest;

	g.jnl_len = jnl_bytes >> OD_MBLK_SHIFT;
	g.nr_blocks = bytes >> block_shift;
	g.ag_blocks = ag_bytes >> block_shift;
	g.nr_ags = (uint32_t)DIV_ROUND_UP(g.nr_blocks, g.ag_blocks);
	assert(g.nr_ags >= 1 && g.nr_ags <= NR_AGS_MAX);
	assert(g.jnl_start + g.jnl_len <= ag_bytes >> OD_MBLK_SHIFT);
	*out = g;
	return NULL;
}

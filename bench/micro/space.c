// SPDX-License-Identifier: MIT
/* The allocator, over free space in FRAGMENTS pieces. */
#include <stdlib.h>

#include "ag.h"
#include "iomapfs/journal.h"
#include "micro.h"

#define FRAGMENTS 10000u

static uint64_t alloc(struct micro_fs *m, uint64_t want)
{
	struct fs_alloc_req req = {.min = want, .want = want};
	struct jnl_handle *h;

	MUST(space_reserve(m->fs, want, false) == 0);
	MUST(jnl_start(m->fs->jnl, ag_credits(m->fs), 0, &h) == 0);
	MUST(ag_alloc_blocks(m->fs, h, 0, &req) == 0 && req.len == want);
	jnl_stop(h);
	return req.start;
}

static void give_back(struct micro_fs *m, uint64_t start, uint64_t len)
{
	struct jnl_handle *h;

	MUST(jnl_start(m->fs->jnl, ag_credits(m->fs), 0, &h) == 0);
	MUST(ag_free_blocks(m->fs, h, start, len) == 0);
	jnl_stop(h);
}

/* Every other one of many single blocks is free. */
static void *begin(void)
{
	struct micro_fs *m = calloc(1, sizeof(*m));
	uint64_t *at = calloc(2 * FRAGMENTS, sizeof(*at));

	MUST(m && at);
	micro_mount(m, 512u << 20);
	for (unsigned i = 0; i < 2 * FRAGMENTS; i++)
		at[i] = alloc(m, 1);
	for (unsigned i = 0; i < 2 * FRAGMENTS; i += 2)
		give_back(m, at[i], 1);
	free(at);
	MUST(jnl_checkpoint(m->fs->jnl) == 0);
	return m;
}

static void end(void *arg)
{
	micro_umount(arg);
	free(arg);
}

/* `together` are allocated before the first is freed. */
static void alloc_free(struct micro_fs *m, unsigned ops, unsigned together, uint64_t len)
{
	uint64_t at[1000];

	MUST(together <= ARRAY_SIZE(at));
	for (unsigned done = 0; done < ops; done += together) {
		for (unsigned i = 0; i < together; i++)
			at[i] = alloc(m, len);
		for (unsigned i = 0; i < together; i++)
			give_back(m, at[i], len);
		/* What was freed is free when its transaction has committed. */
		MUST(jnl_commit_wait(m->fs->jnl, jnl_running_tid(m->fs->jnl), NULL) == 0);
	}
}

static void one_block(void *arg, unsigned ops)
{
	alloc_free(arg, ops, 1000, 1);
}

static void large(void *arg, unsigned ops)
{
	alloc_free(arg, ops, 100, 256);
}

/* One after the other in one transaction: each finds what the others freed, and may not have it. */
static void busy(void *arg, unsigned ops)
{
	struct micro_fs *m = arg;

	for (unsigned i = 0; i < ops; i++)
		give_back(m, alloc(m, 1), 1);
	MUST(jnl_commit_wait(m->fs->jnl, jnl_running_tid(m->fs->jnl), NULL) == 0);
}

static void reserve(void *arg, unsigned ops)
{
	struct micro_fs *m = arg;

	for (unsigned i = 0; i < ops; i++) {
		MUST(space_reserve(m->fs, 1, false) == 0);
		space_unreserve(m->fs, 1);
	}
}

const struct micro_case micro_space[] = {
	{"alloc-1", "allocate and free a block, each in a handle, 10^4 fragments", 4000, begin, one_block,
	 end},
	{"alloc-256", "the same for 256 blocks in one piece", 400, begin, large, end},
	{"alloc-busy", "alloc-1 where blocks freed before, up to 2000, are not yet to be had", 2000, begin,
	 busy, end},
	{"space-reserve", "space_reserve and space_unreserve", 20000, begin, reserve, end},
	{0},
};

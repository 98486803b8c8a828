// SPDX-License-Identifier: MIT
/* Handles, and commits of BLOCKS changed blocks, to a device in memory. */
#include <stdlib.h>

#include "iomapfs/journal.h"
#include "micro.h"

#define BLOCKS 16u

struct log {
	struct micro_fs m;
	struct buf *bufs[BLOCKS];
};

static void *begin(void)
{
	struct log *l = calloc(1, sizeof(*l));
	struct jnl_handle *h;

	MUST(l);
	micro_mount(&l->m, 256u << 20);
	MUST(jnl_start(l->m.fs->jnl, JNL_MAX_CREDITS, 0, &h) == 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		uint64_t mblk;

		MUST(ag_alloc_mblk(l->m.fs, h, 0, &mblk) == 0);
		MUST(buf_new(l->m.fs->bc, mblk, l->m.root->ino, &buf_ops_blob, &l->bufs[i]) == 0);
		jnl_get_create(h, l->bufs[i]);
		((struct od_blob *)((char *)l->bufs[i]->data + OD_HDR_SIZE))->len = le32_make(8);
	}
	jnl_stop(h);
	return l;
}

static void end(void *arg)
{
	struct log *l = arg;

	for (unsigned i = 0; i < BLOCKS; i++)
		buf_put(l->bufs[i]);
	micro_umount(&l->m);
	free(l);
}

static void change(struct log *l, unsigned blocks, uint8_t with)
{
	struct jnl_handle *h;

	MUST(jnl_start(l->m.fs->jnl, blocks, 0, &h) == 0);
	for (unsigned i = 0; i < blocks; i++) {
		jnl_get_write(h, l->bufs[i]);
		((uint8_t *)l->bufs[i]->data)[OD_MBLK_SIZE - 1] = with;
	}
	jnl_stop(h);
}

static void handle(void *arg, unsigned ops)
{
	for (unsigned i = 0; i < ops; i++)
		change(arg, 1, (uint8_t)i);
}

static void commit(void *arg, unsigned ops)
{
	struct log *l = arg;

	for (unsigned i = 0; i < ops; i++) {
		change(l, BLOCKS, (uint8_t)i);
		MUST(jnl_commit_wait(l->m.fs->jnl, jnl_running_tid(l->m.fs->jnl), NULL) == 0);
	}
}

const struct micro_case micro_journal[] = {
	{"handle-1", "a handle that changes a block of the running transaction", 20000, begin, handle, end},
	{"commit-16", "a commit of 16 blocks, its checkpoint in the background", 500, begin, commit, end},
	{0},
};

/* SPDX-License-Identifier: MIT */
/* The global space counters; fs_private.h says how they are used. */
#include <stdlib.h>

#include "ag.h"

#define POOL_BYTES (8ull << 20)
#define POOL_FRACTION 32

struct space {
	struct lk_mutex lock;
	/*
	 * free = the sum of the groups' usable blocks. Signed: a group's trees may eat a block
	 * that was promised; the pool is there to make up for that.
	 */
	int64_t free, reserved, pool;
};

int space_init(struct fs *fs)
{
	struct space *sp = calloc(1, sizeof(*sp));

	if (!sp)
		return -ENOMEM;
	lk_mutex_init(&sp->lock, LK_LEAF, "space");
	sp->pool = (int64_t)MIN(fs->sb.nr_blocks / POOL_FRACTION, POOL_BYTES >> fs->sb.block_shift);
	fs->space = sp;
	return 0;
}

void space_destroy(struct fs *fs)
{
	if (!fs->space)
		return;
	lk_mutex_destroy(&fs->space->lock);
	free(fs->space);
	fs->space = NULL;
}

int space_reserve(struct fs *fs, uint64_t nr_fsb, bool hard)
{
	struct space *sp = fs->space;
	int64_t avail;
	int err = 0;

	lk_lock(&sp->lock);
	avail = sp->free - sp->reserved - (hard ? 0 : sp->pool);
	if (nr_fsb > INT64_MAX / 2 || avail < (int64_t)nr_fsb)
		err = nr_fsb ? -ENOSPC : 0;
	else
		sp->reserved += (int64_t)nr_fsb;
	lk_unlock(&sp->lock);
	return err;
}

void space_unreserve(struct fs *fs, uint64_t nr_fsb)
{
	space_consume(fs, nr_fsb);
}

void space_consume(struct fs *fs, uint64_t nr_fsb)
{
	struct space *sp = fs->space;

	lk_lock(&sp->lock);
	assert(sp->reserved >= (int64_t)nr_fsb);
	sp->reserved -= (int64_t)nr_fsb;
	lk_unlock(&sp->lock);
}

void space_adjust_free(struct fs *fs, int64_t delta)
{
	struct space *sp = fs->space;

	lk_lock(&sp->lock);
	sp->free += delta;
	lk_unlock(&sp->lock);
}

void space_get(struct fs *fs, struct space_counts *out)
{
	struct space *sp = fs->space;

	lk_lock(&sp->lock);
	*out = (struct space_counts){ sp->free, sp->reserved, sp->pool };
	lk_unlock(&sp->lock);
}

int64_t space_slack(struct fs *fs)
{
	struct space_counts c;

	space_get(fs, &c);
	return c.free - c.reserved;
}

int space_reserve_or_flush(struct fs *fs, uint64_t nr_fsb, unsigned ctx_flags)
{
	int err = space_reserve(fs, nr_fsb, false);

	if (err != -ENOSPC)
		return err;
	if (nr_fsb > fs->sb.nr_blocks)
		return err;
	if (ctx_flags & FS_NOWAIT)
		return -EAGAIN;
	/* Worst-case promises of delayed allocations shrink to what they really take. */
	err = fs_flush_delalloc(fs);
	if (err)
		return err;
	/* Unlinked files give their blocks back, and a commit makes freed blocks free. */
	work_pool_drain(fs->bg_pool);
	err = jnl_commit_wait(fs->jnl, jnl_running_tid(fs->jnl), NULL);
	if (err)
		return err;
	if (fs->opts.discard)
		work_pool_drain(fs->bg_pool);
	return space_reserve(fs, nr_fsb, false);
}

uint64_t space_meta_fsbs(struct fs *fs, unsigned nodes)
{
	/* Whole clusters; see META_LOCAL in ag_meta.c for why nobody takes more than that. */
	return DIV_ROUND_UP((uint64_t)nodes, ag_cluster_mblks(fs)) * ag_cluster_fsbs(fs);
}

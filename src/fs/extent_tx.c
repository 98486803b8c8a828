/* SPDX-License-Identifier: MIT */
/*
 * The frame of every map change. All that can fail or sleep comes first: the inode's block,
 * the space for tree nodes, the handle. What a change needs depends on the height of the
 * tree, which may only be looked at under extlock, which may only be taken with the
 * handle open: so the need is estimated, and checked again once the lock is held.
 */
#include "extent.h"

static void tx_release_space(struct fs_inode *ip, struct ext_tx *tx)
{
	if (tx->reserved)
		space_unreserve(ip->fs, tx->reserved);
	tx->reserved = 0;
}

/*
 * Completions must not fail for want of a few blocks: what was freed by transactions
 * that have not committed is worth one commit.
 */
static int tx_reserve(struct fs_inode *ip, unsigned flags, uint64_t fsbs)
{
	struct fs *fs = ip->fs;
	int err;

	if (fsbs == 0)
		return 0;
	err = space_reserve(fs, fsbs, flags & (EXT_TX_HARD | EXT_TX_PROMISED));
	if (err != -ENOSPC || !(flags & (EXT_TX_HARD | EXT_TX_PROMISED)))
		return err;
	jnl_commit_wait(fs->jnl, jnl_running_tid(fs->jnl), NULL);
	return space_reserve(fs, fsbs, true);
}

/* What must be reserved on top of what the caller's promise holds already. */
static uint64_t tx_shortfall(struct fs_inode *ip, unsigned flags, const struct ext_tx *tx)
{
	const uint64_t held = flags & EXT_TX_PROMISED ? ip->delalloc->meta_fsb : 0;

	return tx->budget.meta_fsb > held ? tx->budget.meta_fsb - held : 0;
}

int ext_tx_begin(struct fs_inode *ip, unsigned flags, unsigned extra, struct ext_tx *tx)
{
	struct ext_budget now;
	int err;

	*tx = (struct ext_tx){ .flags = flags };
	if (ip->delalloc && !(flags & EXT_TX_INLINE)) {
		err = fs_inline_finish(ip);
		if (err)
			return err;
	}
	for (;;) {
		err = fs_ilog_prepare(ip, 0);
		if (err)
			return err;
		lk_lock(&ip->extlock);
		ext_budget_get(ip, flags, &tx->budget);
		tx->reserved = tx_shortfall(ip, flags, tx);
		lk_unlock(&ip->extlock);
		err = tx_reserve(ip, flags, tx->reserved);
		if (err)
			return err;
		err = jnl_start(ip->fs->jnl,
				MIN(tx->budget.credits + extra, jnl_max_credits(ip->fs->jnl)), 0,
				&tx->h);
		if (err) {
			tx_release_space(ip, tx);
			return err;
		}
		lk_lock(&ip->extlock);
		ext_budget_get(ip, flags, &now);
		if (now.credits <= tx->budget.credits && now.meta_fsb <= tx->budget.meta_fsb &&
		    tx_shortfall(ip, flags, tx) <= tx->reserved)
			return 0;
		/* Somebody else changed the map while we waited for the handle. */
		lk_unlock(&ip->extlock);
		jnl_stop(tx->h);
		tx_release_space(ip, tx);
	}
}

void ext_tx_end(struct fs_inode *ip, struct ext_tx *tx)
{
	lk_assert_held(&ip->extlock);
	assert(tx->h);
	if (tx->changed)
		atomic_fetch_add(&ip->map_seq, 1);
	if (tx->changed || tx->dirty)
		fs_ilog(tx->h, ip, true);
	lk_unlock(&ip->extlock);
	jnl_stop(tx->h);
	tx->h = NULL;
	tx_release_space(ip, tx);
}

bool ext_tx_room(struct fs_inode *ip, const struct ext_tx *tx)
{
	struct ext_budget now;

	ext_budget_get(ip, tx->flags, &now);
	return now.meta_fsb <= tx->budget.meta_fsb &&
	       jnl_credits_left(tx->h) >= now.credits;
}

/* SPDX-License-Identifier: MIT */
/*
 * Giving back the blocks of an empty directory, from the last one on, in handles of bounded
 * size. The first handle drops the free list: while nr_entries is 0 and blocks remain, the
 * list is empty whatever the blocks' flags say, so a power cut leaves a directory that is
 * merely too large. Whoever wants to use it finishes this first (dir_must_shrink).
 */
#include "dir.h"

#define DIR_FREE_BATCH 16u

/* The last blocks of the map, ascending; 0 when only block 0 is left. */
static int last_blocks(struct fs_inode *dir, struct bt_rec *recs)
{
	struct dir_state *ds = dir->dir;
	uint64_t from = ds->nr_blocks > DIR_FREE_BATCH ? ds->nr_blocks - DIR_FREE_BATCH : 1;
	int n, err;

	if (!ds->map_root.mblk)
		return 0;
	n = bt_range(&ds->map, (struct bt_key){ from, 0 }, 0, recs, DIR_FREE_BATCH);
	if (n == 0 || n == -ENOENT)
		return fs_corrupt(dir->fs, "directory", dir->ino, "block-not-mapped");
	for (int i = 0; i < n; i++) {
		if (recs[i].key.a >= ds->nr_blocks)
			return fs_corrupt(dir->fs, "directory", dir->ino, "block-past-end");
		err = bt_prefetch(&ds->map, recs[i].key, 0);
		if (err)
			return err;
	}
	return n;
}

static int free_mblk(struct jnl_handle *h, struct fs_inode *dir, uint64_t mblk)
{
	dir->nr_blocks -= OD_MBLK_SIZE / 512;
	return ag_free_mblk(dir->fs, h, mblk);
}

static int free_batch_locked(struct jnl_handle *h, struct fs_inode *dir, const struct bt_rec *recs,
			     int n)
{
	struct dir_state *ds = dir->dir;
	int err = 0;

	ds->free_head = 0;
	while (n-- > 0 && !err) {
		le64_t val;

		memcpy(&val, recs[n].val, sizeof(val));
		err = bt_delete(&ds->map, h, recs[n].key);
		if (!err)
			err = free_mblk(h, dir, le64_get(val));
		ds->nr_blocks = recs[n].key.a;
	}
	if (!err && !ds->map_root.mblk) {
		if (ds->block0)
			err = free_mblk(h, dir, ds->block0);
		ds->block0 = ds->nr_blocks = 0;
	}
	return err;
}

static int free_batch(struct fs_inode *dir)
{
	struct bt_rec recs[DIR_FREE_BATCH];
	struct fs *fs = dir->fs;
	struct jnl_handle *h;
	unsigned frees;
	int n, err;

	n = last_blocks(dir, recs);
	if (n < 0)
		return n;
	err = fs_ilog_prepare(dir, 0);
	if (err)
		return err;
	/* Neighbouring keys share their path: a second leaf is all that is added to one delete. */
	frees = DIR_FREE_BATCH + 1 + 2 * bt_need_nodes(&dir->dir->map);
	err = jnl_start(fs->jnl,
			1 + MAX(2 * bt_need_credits(&dir->dir->map), frees) +
				ag_mblk_credits(fs, frees),
			0, &h);
	if (err)
		return err;
	lk_lock(&dir->extlock);
	err = free_batch_locked(h, dir, recs, n);
	if (err) {
		jnl_abort(fs->jnl, err, "freeing directory blocks");
	} else {
		dir_encode(dir);
		fs_ilog(h, dir, false);
	}
	lk_unlock(&dir->extlock);
	jnl_stop(h);
	return err;
}

int dir_free_all(struct fs_inode *dir)
{
	struct dir_state *ds = dir->dir;
	int err = 0;

	if (!ds)
		return 0;
	/* Names left, or a hash tree of none: not what an empty directory looks like. */
	if (ds->nr_blocks && (ds->nr_entries || ds->hash_root.mblk))
		return fs_corrupt(dir->fs, "directory", dir->ino, "not-empty");
	while (!err && ds->nr_blocks)
		err = free_batch(dir);
	return err;
}

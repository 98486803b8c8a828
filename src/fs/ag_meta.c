/* SPDX-License-Identifier: MIT */
/*
 * Metadata blocks: handed out of aligned clusters, so that they lie together and leave data
 * its room. A cluster of which some blocks are free is in the SLOT tree; when all of it is
 * free it goes back to free space.
 *
 * On a fragmented device there may be no free aligned cluster while blocks are free. Then the
 * smallest unit that holds whole metadata blocks is taken alone; its neighbours stay data.
 */
#include <stdlib.h>

#include "ag.h"

/* How many short extents to look at before a fragmented group counts as having no cluster. */
#define CLUSTER_SCAN 256u

static uint64_t slot_map(const struct bt_rec *rec)
{
	le64_t v;

	memcpy(&v, rec->val, 8);
	return le64_get(v);
}

static uint64_t full_map(const struct fs *fs)
{
	return (1ull << ag_cluster_mblks(fs)) - 1;
}

/* ---- Clusters ------------------------------------------------------------------------------ */

/* An aligned piece of `unit` fsbs inside ext that no discard is about to hit? */
static bool piece_in(struct fs_ag *ag, const struct ag_extent *ext, uint64_t unit,
		     struct ag_extent *out)
{
	uint64_t at = ROUND_UP(ext->start, unit);

	if (at + unit > ext->start + ext->len || !busy_reusable(ag, at, unit))
		return false;
	*out = (struct ag_extent){ at, unit };
	return true;
}

static bool piece_near(struct fs_ag *ag, uint64_t near, uint64_t unit, unsigned flags,
		       struct ag_extent *ext, struct ag_extent *out)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS);
	struct bt_rec rec[8];
	int n = bt_range(&pos, (struct bt_key){ near, 0 }, flags, rec, ARRAY_SIZE(rec));

	for (int i = 0; i < n; i++) {
		*ext = (struct ag_extent){ rec[i].key.a, slot_map(&rec[i]) };
		if (piece_in(ag, ext, unit, out))
			return true;
	}
	return false;
}

/* Shortest extent first: metadata fills the holes that data can use least. */
static int piece_by_len(struct fs_ag *ag, uint64_t unit, unsigned flags, struct ag_extent *ext,
			struct ag_extent *out)
{
	struct btree bylen = ag_tree(ag, OD_TREE_FREE_LEN);
	struct bt_key from = { unit, 0 };
	struct bt_rec rec[32];
	unsigned seen = 0;

	for (;;) {
		int n = bt_range(&bylen, from, flags, rec, ARRAY_SIZE(rec));

		if (n <= 0)
			return n < 0 ? n : -ENOSPC;
		for (int i = 0; i < n; i++) {
			*ext = (struct ag_extent){ rec[i].key.b, rec[i].key.a };
			if (piece_in(ag, ext, unit, out))
				return 0;
		}
		seen += (unsigned)n;
		from = rec[n - 1].key;
		from.b++;
		/* From this length on every extent holds an aligned piece. */
		if (seen >= CLUSTER_SCAN && from.a < 2 * unit - 1)
			from = (struct bt_key){ 2 * unit - 1, 0 };
	}
}

int ag_find_cluster(struct fs_ag *ag, uint64_t near, bool single, unsigned flags,
		    struct ag_extent *ext, struct ag_extent *out)
{
	struct fs *fs = ag->fs;
	unsigned bflags = flags & FS_NOWAIT ? BUF_NOWAIT : 0;
	uint64_t unit = ag_cluster_fsbs(fs);

	if (single)
		unit = fs->sb.block_shift >= OD_MBLK_SHIFT ?
			       1 :
			       1ull << (OD_MBLK_SHIFT - fs->sb.block_shift);
	else if (near > ag->start && piece_near(ag, near, unit, bflags, ext, out))
		return 0;
	return piece_by_len(ag, unit, bflags, ext, out);
}

int ag_take_cluster(struct jnl_handle *h, struct fs_ag *ag, const struct ag_extent *ext,
		    const struct ag_extent *cl)
{
	struct busy_ext *spare = calloc(1, sizeof(*spare));

	if (!spare)
		return -ENOMEM;
	busy_reuse(ag, cl->start, cl->len, spare);
	return ag_free_take(h, ag, ext, cl->start, cl->len);
}

int ag_cluster_put(struct jnl_handle *h, struct fs_ag *ag, uint64_t mblk)
{
	assert(IS_ALIGNED(mblk, (uint64_t)ag_cluster_mblks(ag->fs)));
	return ag_free_add(h, ag, ag_mblk_to_fsb(ag->fs, mblk), ag_cluster_fsbs(ag->fs));
}

/* ---- Slots ------------------------------------------------------------------------------------ */

/* Which mblks of the cluster are free space already (blocks taken one at a time)? */
static int free_space_map(struct fs_ag *ag, uint64_t cluster, uint64_t want, uint64_t *map)
{
	struct ag_extent ext;
	unsigned n = ag_cluster_mblks(ag->fs);

	*map = 0;
	for (unsigned i = 0; i < n; i++) {
		int err;

		if (!(want & (1ull << i)))
			continue;
		err = ag_free_find_pos(ag, ag_mblk_to_fsb(ag->fs, cluster + i), 0, &ext);
		if (err == -ENOENT)
			return 0; /* somebody's: the cluster is not free as a whole */
		if (err)
			return err;
		*map |= 1ull << i;
	}
	return 0;
}

/* Give back to free space the runs of fsbs whose mblks are in `map`. */
static int free_map(struct jnl_handle *h, struct fs_ag *ag, uint64_t cluster, uint64_t map)
{
	unsigned n = ag_cluster_mblks(ag->fs), i = 0;

	while (i < n) {
		unsigned from;
		int err;

		while (i < n && !(map & (1ull << i)))
			i++;
		from = i;
		while (i < n && (map & (1ull << i)))
			i++;
		if (from == i)
			break;
		err = ag_free_add(h, ag, ag_mblk_to_fsb(ag->fs, cluster + from),
				  ag_mblk_to_fsb(ag->fs, i - from));
		if (err)
			return err;
	}
	return 0;
}

int ag_slot_put(struct jnl_handle *h, struct fs_ag *ag, uint64_t mblk)
{
	struct btree t = ag_tree(ag, OD_TREE_SLOT);
	uint64_t cluster = ROUND_DOWN(mblk, (uint64_t)ag_cluster_mblks(ag->fs));
	uint64_t bit = 1ull << (mblk - cluster), map = 0, others = 0;
	struct bt_key key = { cluster, 0 };
	struct bt_rec rec;
	le64_t val;
	int err = bt_lookup_eq(&t, key, 0, &rec);
	bool found = !err;

	if (err && err != -ENOENT)
		return err;
	if (found)
		map = slot_map(&rec);
	if (map & bit)
		return fs_corrupt(ag->fs, "metadata slots", mblk, "freed-twice");
	map |= bit;
	err = bt_prefetch(&t, key, 0);
	if (!err && map != full_map(ag->fs))
		err = free_space_map(ag, cluster, full_map(ag->fs) & ~map, &others);
	if (err)
		return err;
	if ((map | others) == full_map(ag->fs)) {
		err = found ? bt_delete(&t, h, key) : 0;
		if (err)
			return err;
		ag->free_slots -= (unsigned)__builtin_popcountll(map & ~bit);
		err = free_map(h, ag, cluster, map);
		return err ? ag_abort(ag, err, "giving a cluster back") : 0;
	}
	val = le64_make(map);
	err = found ? bt_update(&t, h, key, &val) : bt_insert(&t, h, key, &val);
	if (!err)
		ag->free_slots++;
	return err;
}

/* A free slot at or after `near`, else any. -ENOENT: no cluster is partly used. */
static int slot_find(struct fs_ag *ag, uint64_t near, struct bt_rec *rec)
{
	struct btree t = ag_tree(ag, OD_TREE_SLOT);
	struct bt_key key = { ROUND_DOWN(near, (uint64_t)ag_cluster_mblks(ag->fs)), 0 };
	int err = bt_lookup_ge(&t, key, 0, rec);

	if (err == -ENOENT)
		err = bt_lookup_le(&t, key, 0, rec);
	return err;
}

static int slot_take(struct jnl_handle *h, struct fs_ag *ag, const struct bt_rec *rec,
		     uint64_t *mblk)
{
	struct btree t = ag_tree(ag, OD_TREE_SLOT);
	uint64_t map = slot_map(rec);
	unsigned bit = (unsigned)__builtin_ctzll(map);
	le64_t val;
	int err = bt_prefetch(&t, rec->key, 0);

	if (err)
		return err;
	map &= map - 1;
	val = le64_make(map);
	err = map ? bt_update(&t, h, rec->key, &val) : bt_delete(&t, h, rec->key);
	if (err)
		return err;
	assert(ag->free_slots > 0);
	ag->free_slots--;
	*mblk = rec->key.a + bit;
	return 0;
}

/* Start a new cluster (or a lone unit) and take its first block. */
static int cluster_start(struct jnl_handle *h, struct fs_ag *ag, uint64_t near, bool single,
			 uint64_t *mblk)
{
	struct btree t = ag_tree(ag, OD_TREE_SLOT);
	struct ag_extent ext, cl;
	struct bt_rec rec;
	uint64_t first, cluster, map;
	le64_t val;
	int err = ag_find_cluster(ag, near, single, 0, &ext, &cl);

	if (err)
		return err;
	first = ag_fsb_to_mblk(ag->fs, cl.start);
	cluster = ROUND_DOWN(first, (uint64_t)ag_cluster_mblks(ag->fs));
	map = ((1ull << ag_fsb_to_mblk(ag->fs, cl.len)) - 2) << (first - cluster);
	err = ag_free_prefetch(ag, &ext, cl.start, cl.len, 0);
	if (!err)
		err = bt_prefetch(&t, (struct bt_key){ cluster, 0 }, 0);
	if (!err)
		err = ag_take_cluster(h, ag, &ext, &cl);
	if (err)
		return err;
	*mblk = first;
	if (!map)
		return 0;
	ag->free_slots += (unsigned)__builtin_popcountll(map);
	/* Other blocks of it may have been taken one by one and be free slots now. */
	err = bt_lookup_eq(&t, (struct bt_key){ cluster, 0 }, 0, &rec);
	val = le64_make(map | (err ? 0 : slot_map(&rec)));
	err = err ? bt_insert(&t, h, (struct bt_key){ cluster, 0 }, &val) :
		    bt_update(&t, h, (struct bt_key){ cluster, 0 }, &val);
	return err ? ag_abort(ag, err, "starting a cluster") : 0;
}

/* ---- One metadata block --------------------------------------------------------------------------- */

enum meta_pass {
	META_LOCAL,   /* slots of the group, or a new cluster if nobody was promised its blocks */
	META_SLOTS,   /* slots anywhere */
	META_CLUSTER, /* a cluster of what the caller reserved */
	META_SINGLE,  /* a lone unit */
	META_RESERVE, /* what a group keeps for its own trees: fragments can break the promise */
	META_ASIDE,   /* what it would keep */
	META_NR
};

static int take_reserve(struct fs_ag *ag, uint64_t *mblk)
{
	if (ag->nr_reserve <= ag_reserve_need(ag) / 2)
		return -ENOSPC;
	*mblk = ag->reserve[--ag->nr_reserve];
	return 0;
}

static int meta_from(struct jnl_handle *h, struct fs_ag *ag, uint64_t hint, enum meta_pass pass,
		     uint64_t *mblk)
{
	struct bt_rec rec;
	uint64_t near = ag_mblk_to_fsb(ag->fs, hint);
	int err;

	switch (pass) {
	case META_LOCAL:
	case META_SLOTS:
		err = slot_find(ag, hint, &rec);
		if (!err)
			return slot_take(h, ag, &rec, mblk);
		if (err != -ENOENT)
			return err;
		if (pass == META_SLOTS || ag_usable(ag) < ag_cluster_fsbs(ag->fs) ||
		    space_slack(ag->fs) < (int64_t)ag_cluster_fsbs(ag->fs))
			return -ENOSPC;
		return cluster_start(h, ag, near, false, mblk);
	case META_CLUSTER:
		if (ag_usable(ag) < ag_cluster_fsbs(ag->fs))
			return -ENOSPC;
		return cluster_start(h, ag, near, false, mblk);
	case META_SINGLE:
		return ag_usable(ag) ? cluster_start(h, ag, near, true, mblk) : -ENOSPC;
	case META_ASIDE:
		return cluster_start(h, ag, near, true, mblk);
	default:
		return take_reserve(ag, mblk);
	}
}

int ag_alloc_mblk(struct fs *fs, struct jnl_handle *h, uint64_t hint_mblk, uint64_t *mblk)
{
	uint32_t nr = fs->sb.nr_ags, home;

	if (hint_mblk >= fs->od.dev_mblks)
		hint_mblk = 0;
	home = od_mblk_agno(&fs->od, hint_mblk);
	for (enum meta_pass pass = META_LOCAL; pass < META_NR; pass++) {
		for (uint32_t i = 0; i < (pass == META_LOCAL ? 1 : nr); i++) {
			struct fs_ag *ag = &fs->ags[(home + i) % nr];
			int err;

			/* A group with nothing at all need not be locked to be asked. */
			if (pass != META_LOCAL && atomic_load(&ag->stat_free_bytes) == 0)
				continue;
			lk_lock(&ag->lock);
			err = ag_fix_reserve(h, ag);
			if (!err)
				err = meta_from(h, ag, i ? 0 : hint_mblk, pass, mblk);
			ag_end(h, ag);
			if (err != -ENOSPC)
				return err;
		}
	}
	return -ENOSPC;
}

int ag_free_mblk(struct fs *fs, struct jnl_handle *h, uint64_t mblk)
{
	struct fs_ag *ag;
	int err;

	if (!od_mblk_ok(&fs->od, mblk))
		return fs_corrupt(fs, "metadata block", mblk, "freed-out-of-bounds");
	ag = ag_of_mblk(fs, mblk);
	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	if (!err)
		err = ag_slot_put(h, ag, mblk);
	if (!err)
		jnl_forget(h, mblk);
	ag_end(h, ag);
	return err;
}

/* ---- Nodes of inodes' trees -------------------------------------------------------------------------- */

static int inode_node_alloc(struct btree *t, struct jnl_handle *h, uint64_t *mblk)
{
	struct fs_inode *ip = t->private;
	uint64_t hint = t->root->mblk ? t->root->mblk : od_ino_mblk(ip->ino);
	int err = ag_alloc_mblk(ip->fs, h, hint, mblk);

	if (!err)
		ip->nr_blocks += OD_MBLK_SIZE >> 9;
	return err;
}

static void inode_node_free(struct btree *t, struct jnl_handle *h, uint64_t mblk)
{
	struct fs_inode *ip = t->private;
	int err = ag_free_mblk(ip->fs, h, mblk);

	if (err)
		jnl_abort(ip->fs->jnl, err, "freeing a tree node");
	assert(ip->nr_blocks >= OD_MBLK_SIZE >> 9 || fs_is_shutdown(ip->fs));
	ip->nr_blocks -= MIN(ip->nr_blocks, OD_MBLK_SIZE >> 9);
}

const struct bt_alloc_ops inode_bt_ops = { .alloc = inode_node_alloc, .free = inode_node_free };

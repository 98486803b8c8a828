/* SPDX-License-Identifier: MIT */
/*
 * Inodes on disk. They live in clusters of metadata blocks, 7 to a block; the INO tree knows
 * the clusters of a group and their free slots, INOFREE those that have one. Files go near
 * their parent; directories are spread, so that what will be in them has room beside them.
 */
#include "ag.h"
#include "icache.h"

struct slots {
	uint64_t lo, hi;
};

/* Where a new inode goes. */
struct ipick {
	bool fresh;               /* a new cluster, of [cl] out of [ext] */
	struct ag_extent ext, cl;
	uint64_t cluster;         /* mblk */
	struct slots map;
	unsigned bit;
};

static unsigned nr_slots(const struct fs *fs)
{
	return ag_cluster_mblks(fs) * OD_INODES_PER_MBLK;
}

static struct slots slots_all(const struct fs *fs)
{
	unsigned n = nr_slots(fs);

	return (struct slots){ n >= 64 ? UINT64_MAX : (1ull << n) - 1,
			       n > 64 ? (1ull << (n - 64)) - 1 : 0 };
}

static struct slots slots_decode(const struct bt_rec *rec)
{
	struct od_ino_rec r;

	memcpy(&r, rec->val, sizeof(r));
	return (struct slots){ le64_get(r.free_lo), le64_get(r.free_hi) };
}

static struct od_ino_rec slots_encode(struct slots s)
{
	return (struct od_ino_rec){ le64_make(s.lo), le64_make(s.hi) };
}

static unsigned slots_first(struct slots s)
{
	assert(s.lo || s.hi);
	return (unsigned)(s.lo ? __builtin_ctzll(s.lo) : 64 + __builtin_ctzll(s.hi));
}

static bool slots_test(struct slots s, unsigned bit)
{
	return bit < 64 ? s.lo >> bit & 1 : s.hi >> (bit - 64) & 1;
}

static struct slots slots_flip(struct slots s, unsigned bit)
{
	if (bit < 64)
		s.lo ^= 1ull << bit;
	else
		s.hi ^= 1ull << (bit - 64);
	return s;
}

static bool slots_none(struct slots s)
{
	return !s.lo && !s.hi;
}

static uint64_t ino_of(uint64_t cluster, unsigned bit)
{
	return od_ino_make(cluster + bit / OD_INODES_PER_MBLK, bit % OD_INODES_PER_MBLK + 1);
}

unsigned ialloc_credits(struct fs *fs)
{
	unsigned level = 1;

	for (uint32_t i = 0; i < fs->sb.nr_ags; i++)
		level = MAX(level, atomic_load(&fs->ags[i].stat_ino_level));
	/* A cluster from free space, its blocks, and the two trees. */
	return ag_credits(fs) + ag_cluster_mblks(fs) + 2 * (2 * level + 3);
}

uint64_t ialloc_space(struct fs *fs)
{
	return ag_cluster_fsbs(fs);
}

/* ---- Choosing -------------------------------------------------------------------------------- */

static int find_cluster(struct fs_ag *ag, uint64_t near, unsigned bflags, uint64_t *cluster)
{
	struct btree t = ag_tree(ag, OD_TREE_INOFREE);
	struct bt_key key = { near, 0 };
	struct bt_rec rec;
	int err = bt_lookup_le(&t, key, bflags, &rec);

	if (err == -ENOENT)
		err = bt_lookup_ge(&t, key, bflags, &rec);
	if (!err)
		*cluster = rec.key.a;
	return err;
}

/* Group locked. All that the change will look at is read here. */
static int pick(struct fs_ag *ag, uint64_t near, unsigned flags, struct ipick *p)
{
	unsigned bflags = flags & FS_NOWAIT ? BUF_NOWAIT : 0;
	struct btree ino = ag_tree(ag, OD_TREE_INO), inofree = ag_tree(ag, OD_TREE_INOFREE);
	struct bt_rec rec;
	struct buf *b;
	int err = find_cluster(ag, near, bflags, &p->cluster);

	p->fresh = err == -ENOENT;
	if (p->fresh) {
		if (ag_usable(ag) < ag_cluster_fsbs(ag->fs))
			return -ENOSPC;
		err = ag_find_cluster(ag, ag_mblk_to_fsb(ag->fs, near), false, flags, &p->ext,
				      &p->cl);
		if (!err)
			err = ag_free_prefetch(ag, &p->ext, p->cl.start, p->cl.len, bflags);
		p->cluster = ag_fsb_to_mblk(ag->fs, p->cl.start);
		p->map = slots_all(ag->fs);
	} else if (!err) {
		err = bt_lookup_eq(&ino, (struct bt_key){ p->cluster, 0 }, bflags, &rec);
		if (err == -ENOENT)
			return fs_corrupt(ag->fs, "inode index", p->cluster, "free-but-unknown");
		if (!err)
			p->map = slots_decode(&rec);
		if (!err && slots_none(p->map))
			return fs_corrupt(ag->fs, "inode index", p->cluster, "free-but-full");
	}
	if (!err)
		err = bt_prefetch(&ino, (struct bt_key){ p->cluster, 0 }, bflags);
	if (!err)
		err = bt_prefetch(&inofree, (struct bt_key){ p->cluster, 0 }, bflags);
	if (err)
		return err;
	p->bit = slots_first(p->map);
	if (p->fresh)
		return 0;
	err = buf_read(ag->fs->bc, od_ino_mblk(ino_of(p->cluster, p->bit)), 0, &buf_ops_inodes,
		       bflags, &b);
	if (!err)
		buf_put(b);
	return err;
}

/* The group to try first. step 1 moves the rotor of top-level directories on. */
static struct fs_ag *home_group(struct fs *fs, struct fs_inode *parent, mode_t mode, unsigned step)
{
	uint32_t nr = fs->sb.nr_ags;
	struct fs_ag *ag = ag_of_mblk(fs, od_ino_mblk(parent->ino));
	uint64_t sum = 0;

	if (!S_ISDIR(mode) || nr == 1)
		return ag;
	for (uint32_t i = 0; i < nr; i++)
		sum += atomic_load(&fs->ags[i].stat_free_bytes);
	/* Top-level directories are neighbours of nobody; deeper ones stay while there is room. */
	if (parent->ino == fs->sb.root_ino)
		ag = &fs->ags[(atomic_fetch_add(&fs->stat_dirs_spread, step) + ag->agno) % nr];
	for (uint32_t i = 0; i < nr; i++) {
		struct fs_ag *try = &fs->ags[(ag->agno + i) % nr];

		if (atomic_load(&try->stat_free_bytes) >= sum / nr / 2)
			return try;
	}
	return ag;
}

int ialloc_prepare(struct fs *fs, struct fs_inode *parent, mode_t mode, unsigned flags)
{
	struct fs_ag *home = home_group(fs, parent, mode, 0);
	uint64_t near = od_ino_mblk(parent->ino);
	int err = icache_make_room(fs, flags);

	if (err)
		return err;
	for (uint32_t i = 0; i < fs->sb.nr_ags; i++) {
		struct fs_ag *ag = &fs->ags[(home->agno + i) % fs->sb.nr_ags];
		struct ipick p;

		err = ag_lock(ag, flags);
		if (err)
			return err;
		err = pick(ag, near, flags, &p);
		lk_unlock(&ag->lock);
		if (err != -ENOSPC)
			return err;
	}
	return -ENOSPC;
}

/* ---- Allocating ---------------------------------------------------------------------------------- */

/* Blocks of a new cluster; generations start at random, so that old handles stay stale. */
static int init_blocks(struct jnl_handle *h, struct fs_ag *ag, uint64_t cluster)
{
	struct fs *fs = ag->fs;

	for (unsigned i = 0; i < ag_cluster_mblks(fs); i++) {
		struct buf *b;
		uint32_t gen = (uint32_t)(clock_mono_ns() >> 8) ^ (uint32_t)((cluster + i) << 7);
		int err = buf_new(fs->bc, cluster + i, 0, &buf_ops_inodes, &b);

		if (err)
			return err;
		buf_lock(b);
		jnl_get_create(h, b);
		od_inodes_init(b->data, fs->sb.meta_uuid, cluster + i);
		for (unsigned slot = 1; slot <= OD_INODES_PER_MBLK; slot++)
			fs_dinode(b, od_ino_make(cluster + i, slot))->gen = le32_make(gen + slot);
		buf_unlock(b);
		buf_put(b);
	}
	return 0;
}

static int take_fresh(struct jnl_handle *h, struct fs_ag *ag, const struct ipick *p)
{
	struct btree ino = ag_tree(ag, OD_TREE_INO), inofree = ag_tree(ag, OD_TREE_INOFREE);
	struct od_ino_rec val = slots_encode(p->map);
	int err = ag_take_cluster(h, ag, &p->ext, &p->cl);

	if (err)
		return err;
	err = init_blocks(h, ag, p->cluster);
	if (!err)
		err = bt_insert(&ino, h, (struct bt_key){ p->cluster, 0 }, &val);
	if (!err)
		err = bt_insert(&inofree, h, (struct bt_key){ p->cluster, 0 }, NULL);
	if (err)
		return ag_abort(ag, err, "adding inodes");
	ag->nr_free_inodes += nr_slots(ag->fs);
	return 0;
}

static int take_slot(struct jnl_handle *h, struct fs_ag *ag, const struct ipick *p)
{
	struct btree ino = ag_tree(ag, OD_TREE_INO), inofree = ag_tree(ag, OD_TREE_INOFREE);
	struct slots map = slots_flip(p->map, p->bit);
	struct od_ino_rec val = slots_encode(map);
	int err = bt_update(&ino, h, (struct bt_key){ p->cluster, 0 }, &val);

	if (!err && slots_none(map))
		err = bt_delete(&inofree, h, (struct bt_key){ p->cluster, 0 });
	if (err)
		return ag_abort(ag, err, "taking an inode");
	assert(ag->nr_free_inodes > 0);
	ag->nr_free_inodes--;
	ag->nr_inodes++;
	return 0;
}

/* Generation of the inode's next life. */
static int next_gen(struct fs *fs, uint64_t ino, uint32_t *gen)
{
	struct buf *b;
	int err = buf_read(fs->bc, od_ino_mblk(ino), 0, &buf_ops_inodes, 0, &b);

	if (err)
		return err;
	buf_lock(b);
	if (le16_get(fs_dinode(b, ino)->mode) != 0)
		err = fs_corrupt(fs, "inode", ino, "free-but-in-use");
	*gen = le32_get(fs_dinode(b, ino)->gen) + 1;
	buf_unlock(b);
	buf_put(b);
	return err;
}

/* -ENOSPC: nothing was changed but the group's reserve. */
static int new_in_group(struct jnl_handle *h, struct fs_ag *ag, uint64_t near, uint64_t *out,
			uint32_t *gen)
{
	struct ipick p;
	int err;

	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	if (!err)
		err = pick(ag, near, 0, &p);
	if (!err && !p.fresh)
		err = next_gen(ag->fs, ino_of(p.cluster, p.bit), gen);
	if (!err && p.fresh)
		err = take_fresh(h, ag, &p);
	if (!err && p.fresh)
		err = next_gen(ag->fs, ino_of(p.cluster, p.bit), gen);
	if (!err)
		err = take_slot(h, ag, &p);
	ag_end(h, ag);
	if (!err)
		*out = ino_of(p.cluster, p.bit);
	return err;
}

int ialloc_new(struct fs *fs, struct jnl_handle *h, struct fs_inode *parent, mode_t mode,
	       struct fs_inode **out)
{
	struct fs_ag *home = home_group(fs, parent, mode, 1);
	uint64_t ino = 0;
	uint32_t gen = 0;
	int err = -ENOSPC;

	for (uint32_t i = 0; i < fs->sb.nr_ags && err == -ENOSPC; i++)
		err = new_in_group(h, &fs->ags[(home->agno + i) % fs->sb.nr_ags],
				   od_ino_mblk(parent->ino), &ino, &gen);
	if (err)
		return err;
	err = icache_new(fs, ino, mode, out);
	if (err) {
		jnl_abort(fs->jnl, err, "no memory for an inode");
		return err;
	}
	(*out)->gen = gen;
	return 0;
}

/* ---- Freeing -------------------------------------------------------------------------------------- */

static int clear_dinode(struct jnl_handle *h, struct fs_inode *ip)
{
	struct buf *b;
	struct od_inode *di;
	int err = buf_read(ip->fs->bc, od_ino_mblk(ip->ino), 0, &buf_ops_inodes, 0, &b);

	if (err)
		return err;
	buf_lock(b);
	jnl_get_write(h, b);
	di = fs_dinode(b, ip->ino);
	di->mode = le16_make(0);
	di->nlink = le32_make(0);
	di->gen = le32_make(ip->gen + 1);
	buf_unlock(b);
	buf_put(b);
	return 0;
}

/* The cluster's last inode went: all of it back to free space. */
static int drop_cluster(struct jnl_handle *h, struct fs_ag *ag, uint64_t cluster, bool listed)
{
	struct btree ino = ag_tree(ag, OD_TREE_INO), inofree = ag_tree(ag, OD_TREE_INOFREE);
	int err = bt_delete(&ino, h, (struct bt_key){ cluster, 0 });

	if (!err && listed)
		err = bt_delete(&inofree, h, (struct bt_key){ cluster, 0 });
	for (unsigned i = 0; i < ag_cluster_mblks(ag->fs) && !err; i++)
		jnl_forget(h, cluster + i);
	if (!err)
		err = ag_cluster_put(h, ag, cluster);
	if (err)
		return ag_abort(ag, err, "freeing inodes");
	ag->nr_free_inodes -= nr_slots(ag->fs) - 1;
	ag->nr_inodes--;
	return 0;
}

static int put_slot(struct jnl_handle *h, struct fs_ag *ag, struct fs_inode *ip, uint64_t cluster,
		    struct slots old, unsigned bit)
{
	struct btree ino = ag_tree(ag, OD_TREE_INO), inofree = ag_tree(ag, OD_TREE_INOFREE);
	struct slots map = slots_flip(old, bit), all = slots_all(ag->fs);
	struct od_ino_rec val = slots_encode(map);
	int err;

	if (map.lo == all.lo && map.hi == all.hi)
		return drop_cluster(h, ag, cluster, !slots_none(old));
	err = clear_dinode(h, ip);
	if (err)
		return err;
	err = bt_update(&ino, h, (struct bt_key){ cluster, 0 }, &val);
	if (!err && slots_none(old))
		err = bt_insert(&inofree, h, (struct bt_key){ cluster, 0 }, NULL);
	if (err)
		return ag_abort(ag, err, "freeing an inode");
	ag->nr_free_inodes++;
	ag->nr_inodes--;
	return 0;
}

int ialloc_free(struct fs *fs, struct jnl_handle *h, struct fs_inode *ip)
{
	uint64_t mblk = od_ino_mblk(ip->ino);
	uint64_t cluster = ROUND_DOWN(mblk, (uint64_t)ag_cluster_mblks(fs));
	unsigned bit = (unsigned)(mblk - cluster) * OD_INODES_PER_MBLK + od_ino_slot(ip->ino) - 1;
	struct fs_ag *ag = ag_of_mblk(fs, mblk);
	struct bt_key key = { cluster, 0 };
	struct btree ino, inofree;
	struct bt_rec rec;
	int err;

	assert(ip->nlink == 0 && ip->ino != fs->sb.root_ino);
	/* Who gets the number next must not find this inode in the table. */
	icache_unhash(ip);
	lk_lock(&ag->lock);
	ino = ag_tree(ag, OD_TREE_INO);
	inofree = ag_tree(ag, OD_TREE_INOFREE);
	err = ag_fix_reserve(h, ag);
	if (!err)
		err = bt_lookup_eq(&ino, key, 0, &rec);
	if (err == -ENOENT || (!err && slots_test(slots_decode(&rec), bit)))
		err = fs_corrupt(fs, "inode index", ip->ino, "freed-twice");
	if (!err)
		err = bt_prefetch(&ino, key, 0);
	if (!err)
		err = bt_prefetch(&inofree, key, 0);
	if (!err)
		err = put_slot(h, ag, ip, cluster, slots_decode(&rec), bit);
	ag_end(h, ag);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * Allocation groups: loading, the header, and the reserve of nodes for the group's own trees.
 *
 * The group's trees can not allocate from themselves while they change, so their nodes
 * come from a short list in the header, filled before each change to what one operation
 * on every tree may take at worst. Blocks that the list will still want are kept back from
 * everybody else (set aside), so that freeing works on a full group.
 */
#include <stdlib.h>

#include "ag.h"

/* What list and set-aside hold together, at most a 32nd of the group. */
#define AG_SET_ASIDE_MBLKS 64u

int ag_abort(struct fs_ag *ag, int err, const char *what)
{
	log_err("group %u: %s failed half-way: %s", ag->agno, what, strerror(-err));
	jnl_abort(ag->fs->jnl, err, what);
	return err;
}

static int node_alloc(struct btree *t, struct jnl_handle *h, uint64_t *mblk)
{
	struct fs_ag *ag = t->private;

	lk_assert_held(&ag->lock);
	if (ag->nr_reserve == 0)
		return -ENOSPC;
	*mblk = ag->reserve[--ag->nr_reserve];
	return 0;
}

static void node_release(struct btree *t, struct jnl_handle *h, uint64_t mblk)
{
	struct fs_ag *ag = t->private;

	lk_assert_held(&ag->lock);
	assert(ag->nr_reserve < OD_AG_RESERVE_MAX);
	jnl_forget(h, mblk);
	ag->reserve[ag->nr_reserve++] = mblk;
}

static const struct bt_alloc_ops ag_bt_ops = { .alloc = node_alloc, .free = node_release };

struct btree ag_tree(struct fs_ag *ag, enum od_tree type)
{
	assert(type >= OD_TREE_FREE_POS && type <= OD_TREE_REFC);
	return (struct btree){ .bc = ag->fs->bc,
			       .type = type,
			       .owner = ag->agno,
			       .root = &ag->root[type],
			       .ops = &ag_bt_ops,
			       .private = ag };
}

/* ---- Header ------------------------------------------------------------------------------ */

static const size_t root_at[OD_TREE_REFC + 1] = {
	[OD_TREE_FREE_POS] = offsetof(struct od_ag, free_pos),
	[OD_TREE_FREE_LEN] = offsetof(struct od_ag, free_len),
	[OD_TREE_SLOT] = offsetof(struct od_ag, slot),
	[OD_TREE_INO] = offsetof(struct od_ag, ino),
	[OD_TREE_INOFREE] = offsetof(struct od_ag, inofree),
	[OD_TREE_ORPHAN] = offsetof(struct od_ag, orphan),
	[OD_TREE_REFC] = offsetof(struct od_ag, refc),
};

static void header_decode(struct fs_ag *ag)
{
	const struct od_ag *d = ag->hdr->data;

	for (unsigned i = OD_TREE_FREE_POS; i <= OD_TREE_REFC; i++) {
		const struct od_root *r = (const void *)((const uint8_t *)d + root_at[i]);

		ag->root[i].mblk = le64_get(r->mblk);
		ag->root[i].level = le16_get(r->level);
	}
	ag->free_blocks = le64_get(d->free_blocks);
	ag->free_slots = le64_get(d->free_slots);
	ag->nr_inodes = le64_get(d->nr_inodes);
	ag->nr_free_inodes = le64_get(d->nr_free_inodes);
	ag->nr_reserve = le32_get(d->nr_reserve);
	assert(ag->nr_reserve <= OD_AG_RESERVE_MAX); /* od_verify_ag */
	for (unsigned i = 0; i < ag->nr_reserve; i++)
		ag->reserve[i] = le64_get(d->reserve[i]);
}

static void header_encode(struct fs_ag *ag)
{
	struct od_ag *d = ag->hdr->data;

	for (unsigned i = OD_TREE_FREE_POS; i <= OD_TREE_REFC; i++) {
		struct od_root *r = (void *)((uint8_t *)d + root_at[i]);

		r->mblk = le64_make(ag->root[i].mblk);
		r->level = le16_make((uint16_t)ag->root[i].level);
	}
	d->free_blocks = le64_make(ag->free_blocks);
	d->free_slots = le64_make(ag->free_slots);
	d->nr_inodes = le64_make(ag->nr_inodes);
	d->nr_free_inodes = le64_make(ag->nr_free_inodes);
	d->nr_reserve = le32_make(ag->nr_reserve);
	for (unsigned i = 0; i < OD_AG_RESERVE_MAX; i++)
		d->reserve[i] = le64_make(i < ag->nr_reserve ? ag->reserve[i] : 0);
}

uint64_t ag_set_aside(const struct fs_ag *ag)
{
	return MIN(ag_mblk_to_fsb(ag->fs, AG_SET_ASIDE_MBLKS), ag->nr_blocks / 32) +
	       (ag->fs->od.reflink ? refc_room(ag) : 0);
}

void ag_update_usable(struct fs_ag *ag)
{
	const struct fs *fs = ag->fs;
	uint64_t aside = ag_set_aside(ag);
	uint64_t kept, usable;

	lk_assert_held(&ag->cnt_lock);
	kept = ag_mblk_to_fsb(fs, ag->reserve_seen);
	aside = aside > kept ? aside - kept : 0;
	usable = ag->free_blocks > ag->busy.blocks ? ag->free_blocks - ag->busy.blocks : 0;
	usable = usable > aside ? usable - aside : 0;
	if (usable != ag->usable)
		space_adjust_free(ag->fs, (int64_t)usable - (int64_t)ag->usable);
	ag->usable = usable;
	atomic_store(&ag->stat_free_bytes, (ag->free_blocks << fs->sb.block_shift) +
						   (ag->meta_seen << OD_MBLK_SHIFT));
}

uint64_t ag_usable(struct fs_ag *ag)
{
	uint64_t n;

	lk_lock(&ag->cnt_lock);
	n = ag->usable;
	lk_unlock(&ag->cnt_lock);
	return n;
}

int ag_lock(struct fs_ag *ag, unsigned flags)
{
	if (!(flags & FS_NOWAIT))
		lk_lock(&ag->lock);
	else if (!lk_trylock(&ag->lock))
		return -EAGAIN;
	return 0;
}

/* What others may look at without the group's lock. */
static void publish(struct fs_ag *ag)
{
	lk_lock(&ag->cnt_lock);
	ag->reserve_seen = ag->nr_reserve;
	/* The root of the SLOT tree comes and goes with the slots: it counts as one of them. */
	ag->meta_seen = ag->free_slots + ag->nr_reserve + (ag->root[OD_TREE_SLOT].mblk != 0);
	ag_update_usable(ag);
	lk_unlock(&ag->cnt_lock);
	atomic_store(&ag->stat_inodes, ag->nr_inodes);
	atomic_store(&ag->stat_free_level, ag->root[OD_TREE_FREE_LEN].level);
	atomic_store(&ag->stat_ino_level, ag->root[OD_TREE_INO].level);
	atomic_store(&ag->stat_refc_level, ag->root[OD_TREE_REFC].level);
}

void ag_end(struct jnl_handle *h, struct fs_ag *ag)
{
	lk_assert_held(&ag->lock);
	jnl_get_write(h, ag->hdr);
	header_encode(ag);
	publish(ag);
	lk_unlock(&ag->lock);
}

/* ---- Reserve of nodes ----------------------------------------------------------------------- */

static unsigned need_of(struct fs_ag *ag, enum od_tree type)
{
	struct btree t = ag_tree(ag, type);

	return bt_need_nodes(&t);
}

unsigned ag_reserve_need(struct fs_ag *ag)
{
	unsigned need;

	/* Carving an extent: by place one insert, by length two; once for the caller, once to refill. */
	need = 2 * need_of(ag, OD_TREE_FREE_POS) + 4 * need_of(ag, OD_TREE_FREE_LEN) +
	       2 * need_of(ag, OD_TREE_SLOT) + need_of(ag, OD_TREE_INO) +
	       need_of(ag, OD_TREE_INOFREE) + need_of(ag, OD_TREE_ORPHAN);
	if (ag->fs->od.reflink)
		need += refc_need_nodes(ag);
	return MIN(need, OD_AG_RESERVE_MAX / 2);
}

/* Move a cluster's free slots into the reserve. -ENOENT: there is none. */
static int refill_from_slots(struct jnl_handle *h, struct fs_ag *ag)
{
	struct btree t = ag_tree(ag, OD_TREE_SLOT);
	struct bt_key first = { 0, 0 };
	struct bt_rec rec;
	uint64_t map;
	le64_t val;
	int err = bt_lookup_ge(&t, first, 0, &rec);

	if (!err)
		err = bt_prefetch(&t, rec.key, 0);
	if (err)
		return err;
	memcpy(&val, rec.val, 8);
	err = bt_delete(&t, h, rec.key);
	if (err)
		return err;
	for (map = le64_get(val); map; map &= map - 1) {
		assert(ag->nr_reserve < OD_AG_RESERVE_MAX && ag->free_slots > 0);
		ag->reserve[ag->nr_reserve++] = rec.key.a + (unsigned)__builtin_ctzll(map);
		ag->free_slots--;
	}
	return 0;
}

static int refill_from_free(struct jnl_handle *h, struct fs_ag *ag)
{
	struct ag_extent ext, cl;
	uint64_t mblk, n;
	int err = ag_find_cluster(ag, ag->start, false, 0, &ext, &cl);

	if (err == -ENOSPC)
		err = ag_find_cluster(ag, ag->start, true, 0, &ext, &cl);
	if (!err)
		err = ag_free_prefetch(ag, &ext, cl.start, cl.len, 0);
	if (!err)
		err = ag_take_cluster(h, ag, &ext, &cl);
	if (err)
		return err;
	mblk = ag_fsb_to_mblk(ag->fs, cl.start);
	n = ag_fsb_to_mblk(ag->fs, cl.len);
	assert(n >= 1 && ag->nr_reserve + n <= OD_AG_RESERVE_MAX);
	while (n-- > 0)
		ag->reserve[ag->nr_reserve++] = mblk + n;
	return 0;
}

int ag_fix_reserve(struct jnl_handle *h, struct fs_ag *ag)
{
	const unsigned low = ag_reserve_need(ag);
	/* Room between the marks, so that one operation does not undo the other's work. */
	const unsigned high = MIN(low + 2 * ag_cluster_mblks(ag->fs) + 8, OD_AG_RESERVE_MAX - 24);
	int err = 0;

	lk_assert_held(&ag->lock);
	while (ag->nr_reserve < low && !err) {
		err = refill_from_slots(h, ag);
		if (err == -ENOENT)
			err = refill_from_free(h, ag);
	}
	while (ag->nr_reserve > high && !err) {
		uint64_t mblk = ag->reserve[--ag->nr_reserve];

		err = ag_slot_put(h, ag, mblk);
	}
	/*
	 * A full group: then its free trees are empty, what the list has is what is left of
	 * trees that were larger, and freeing the first extents takes a node each.
	 */
	return err == -ENOSPC ? 0 : err;
}

/* ---- Loading --------------------------------------------------------------------------------- */

static int load_one(struct fs *fs, struct fs_ag *ag, uint32_t agno)
{
	int err;

	ag->fs = fs;
	ag->agno = agno;
	ag->start = agno * fs->sb.ag_blocks;
	ag->nr_blocks = MIN(fs->sb.ag_blocks, fs->sb.nr_blocks - ag->start);
	lk_mutex_init(&ag->lock, LK_AG, "group");
	lk_mutex_init(&ag->cnt_lock, LK_SPACE, "group counters");
	RB_INIT(&ag->busy.tree);
	RB_INIT(&ag->cooling.tree);
	CDS_INIT_LIST_HEAD(&ag->held);
	err = buf_read(fs->bc, od_ag_start_mblk(&fs->od, agno) + OD_AG_HDR_MBLK, agno,
		       &buf_ops_ag, 0, &ag->hdr);
	if (err && fs->opts.readonly) {
		/* Files are found without it; only its counts are missing. */
		log_warn("%s: allocation group %u can not be read (%s): run fsck.iomapfs",
			 fs->bd->name ? fs->bd->name : "device", agno, strerror(-err));
		return 0;
	}
	if (err)
		return err;
	header_decode(ag);
	publish(ag);
	return 0;
}

int ag_load_all(struct fs *fs)
{
	fs->ags = calloc(fs->sb.nr_ags, sizeof(*fs->ags));
	if (!fs->ags)
		return -ENOMEM;
	for (uint32_t i = 0; i < fs->sb.nr_ags; i++)
		buf_readahead(fs->bc, od_ag_start_mblk(&fs->od, i) + OD_AG_HDR_MBLK, &buf_ops_ag);
	for (uint32_t i = 0; i < fs->sb.nr_ags; i++) {
		int err = load_one(fs, &fs->ags[i], i);

		if (err)
			return err;
	}
	return 0;
}

void ag_unload_all(struct fs *fs)
{
	for (uint32_t i = 0; fs->ags && i < fs->sb.nr_ags && fs->ags[i].fs; i++) {
		struct fs_ag *ag = &fs->ags[i];

		busy_free_all(ag);
		if (ag->hdr)
			buf_put(ag->hdr);
		lk_mutex_destroy(&ag->cnt_lock);
		lk_mutex_destroy(&ag->lock);
	}
	free(fs->ags);
	fs->ags = NULL;
}

/* ---- Credits ------------------------------------------------------------------------------------ */

static unsigned free_tree_level(struct fs *fs)
{
	/* One level more than a new tree has: a tree that grows meanwhile is still covered. */
	unsigned level = 1;

	for (uint32_t i = 0; i < fs->sb.nr_ags; i++)
		level = MAX(level, atomic_load(&fs->ags[i].stat_free_level));
	return level;
}

/*
 * Below the root each operation touches its path and one node beside it a level; the root and
 * what a root split adds are shared: 3. Carving: two operations by place, three by length,
 * two on slots; the same again for a refill.
 */
unsigned ag_credits(struct fs *fs)
{
	unsigned l = free_tree_level(fs);

	return 1 + (2 * 2 * l + 3) + (2 * 3 * l + 3) + 5 + 2 * 5 * l;
}

unsigned ag_more_credits(struct fs *fs)
{
	unsigned l = free_tree_level(fs);

	/* Header and roots, should it be another group; paths by place and by length; half a refill. */
	return 4 + 2 * 2 * l + 2 * 3 * l + 5 * l;
}

unsigned ag_mblk_credits(struct fs *fs, unsigned n)
{
	/* Slots come and go by the cluster; each further block may touch one more leaf a tree. */
	return ag_credits(fs) + 3 * n;
}

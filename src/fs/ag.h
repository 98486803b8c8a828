/* SPDX-License-Identifier: MIT */
/*
 * Allocation groups in memory: shared by ag*.c, busy.c, refc.c, ialloc.c, orphan.c, trim.c.
 *
 * Guards: [G] lock, [C] cnt_lock (taken inside lock, or alone), [c] constant.
 * Every change of a group is one bracket
 *	ag_begin(h, ag)  lock; refill or drain the node reserve
 *	...              look, prefetch, then change
 *	ag_end(h, ag)    counters to the world, header to the journal, unlock
 * in which everything is read before anything is changed.
 */
#ifndef FS_AG_H
#define FS_AG_H

#include <bsd/sys/tree.h>

#include "fs_private.h"

/* A freed extent that the committed file system may still refer to. */
struct busy_ext {
	RB_ENTRY(busy_ext) node;
	struct cds_list_head batch;    /* of its transaction */
	uint64_t start, len;           /* fsbs */
	bool kept;                     /* discarded or staged now: not even metadata may use it */
};
RB_HEAD(busy_tree, busy_ext);
struct busy_batch;
struct busy_set {
	struct busy_tree tree;         /* disjoint */
	uint64_t blocks;
	struct busy_batch *batch;      /* of the running transaction */
};

struct fs_ag {
	struct fs *fs;                 /* [c] */
	uint32_t agno;                 /* [c] */
	uint64_t start, nr_blocks;     /* [c] fsbs */
	struct lk_mutex lock;          /* LK_AG */
	struct buf *hdr;               /* [c] referenced while mounted; contents [G] */
	struct bt_root root[OD_TREE_REFC + 1]; /* [G] by enum od_tree */
	uint64_t free_slots, nr_inodes, nr_free_inodes; /* [G] */
	unsigned nr_reserve;           /* [G] */
	uint64_t reserve[OD_AG_RESERVE_MAX]; /* [G] mblks */

	struct lk_mutex cnt_lock;      /* LK_SPACE */
	uint64_t free_blocks;          /* [C] sum of FREE_POS; changes under [G] too */
	uint64_t usable;               /* [C] this group's part of space.free */
	unsigned reserve_seen;         /* [C] nr_reserve as of the last ag_end */
	uint64_t meta_seen;            /* [C] mblks that will be free again, as of the last ag_end */
	struct busy_set busy;          /* [C] freed, discarded, staged */
	struct busy_set cooling;       /* [C] one owner left, by a transaction that has not committed */
	struct cds_list_head held;     /* [C] of ag_hold_blocks */

	_Atomic uint64_t stat_free_bytes; /* free, busy, slots and reserve: what statfs counts */
	_Atomic uint64_t stat_inodes;
	_Atomic unsigned stat_free_level, stat_ino_level, stat_refc_level; /* of the trees, for credits */
};

static inline unsigned ag_cluster_mblks(const struct fs *fs)
{
	return 1u << (fs->sb.cluster_shift - OD_MBLK_SHIFT);
}
static inline uint64_t ag_cluster_fsbs(const struct fs *fs)
{
	return 1ull << (fs->sb.cluster_shift - fs->sb.block_shift);
}
static inline uint64_t ag_mblk_to_fsb(const struct fs *fs, uint64_t mblk)
{
	return (mblk << OD_MBLK_SHIFT) >> fs->sb.block_shift;
}
static inline uint64_t ag_fsb_to_mblk(const struct fs *fs, uint64_t fsb)
{
	return (fsb << fs->sb.block_shift) >> OD_MBLK_SHIFT;
}
static inline struct fs_ag *ag_of_fsb(struct fs *fs, uint64_t fsb)
{
	return &fs->ags[fsb / fs->sb.ag_blocks];
}
static inline struct fs_ag *ag_of_mblk(struct fs *fs, uint64_t mblk)
{
	return &fs->ags[od_mblk_agno(&fs->od, mblk)];
}

/* ag.c */
int ag_load_all(struct fs *fs);
void ag_unload_all(struct fs *fs);
struct btree ag_tree(struct fs_ag *ag, enum od_tree type);
/* flags: FS_NOWAIT only tries the lock. */
int ag_lock(struct fs_ag *ag, unsigned flags);
/* Lock held. Never fails for want of space; a read error aborts (-errno). */
int ag_fix_reserve(struct jnl_handle *h, struct fs_ag *ag);
/* Nodes that one operation on every tree of the group can take at worst. */
unsigned ag_reserve_need(struct fs_ag *ag);
void ag_end(struct jnl_handle *h, struct fs_ag *ag);
/* cnt_lock held: tell space.c what this group can give now. */
void ag_update_usable(struct fs_ag *ag);
/* fsbs that the group's own trees may have in all, kept from everybody else. */
uint64_t ag_set_aside(const struct fs_ag *ag);
/* Blocks the group may give away: free, not busy, not set aside. */
uint64_t ag_usable(struct fs_ag *ag);
/* A change failed half-way. Logs, stops the journal, returns err. */
int ag_abort(struct fs_ag *ag, int err, const char *what);

/* ag_free.c: the two free space trees as one thing; lock held, nothing about busy extents. */
struct ag_extent {
	uint64_t start, len;
};
int ag_free_find_pos(struct fs_ag *ag, uint64_t at, unsigned flags, struct ag_extent *out);
int ag_free_prefetch(struct fs_ag *ag, const struct ag_extent *ext, uint64_t start, uint64_t len,
		     unsigned flags);
/* Take [start, len) out of the free extent `ext`. */
int ag_free_take(struct jnl_handle *h, struct fs_ag *ag, const struct ag_extent *ext, uint64_t start,
		 uint64_t len);
/* Put it back; busy from now on. */
int ag_free_add(struct jnl_handle *h, struct fs_ag *ag, uint64_t start, uint64_t len);

/* ag_meta.c */
/*
 * Find room for metadata: an aligned cluster near fsb `near`, or with `single` the smallest
 * unit that holds whole mblks. *ext is the free extent around it.
 */
int ag_find_cluster(struct fs_ag *ag, uint64_t near, bool single, unsigned flags,
		    struct ag_extent *ext, struct ag_extent *out);
/* Take what ag_find_cluster found, out of the busy extents too. */
int ag_take_cluster(struct jnl_handle *h, struct fs_ag *ag, const struct ag_extent *ext,
		    const struct ag_extent *cl);
/* One mblk back to the SLOT tree, or its whole cluster to free space. */
int ag_slot_put(struct jnl_handle *h, struct fs_ag *ag, uint64_t mblk);
/* Free an aligned cluster of metadata blocks (all forgotten by the caller). */
int ag_cluster_put(struct jnl_handle *h, struct fs_ag *ag, uint64_t mblk);

/* busy.c */
RB_PROTOTYPE(busy_tree, busy_ext, node, busy_cmp)
int busy_cmp(struct busy_ext *a, struct busy_ext *b);
/*
 * [start, len) will be freed, or lose its last but one owner (set), by h's transaction; NULL: no memory,
 * before anything happened.
 */
struct busy_ext *busy_prepare(struct jnl_handle *h, struct fs_ag *ag, struct busy_set *set,
			      uint64_t start, uint64_t len);
/* It was; cnt_lock held. Or it was not. */
void busy_insert(struct fs_ag *ag, struct busy_set *set, struct busy_ext *e);
/* The same for a set where it may be already; takes cnt_lock. False: no memory, nothing was done. */
bool busy_insert_again(struct fs_ag *ag, struct busy_set *set, struct busy_ext *e);
/* Is `start` in the set? *len is cut to the blocks for which that holds. */
bool busy_holds(struct fs_ag *ag, const struct busy_set *set, uint64_t start, uint64_t *len);
void busy_cancel(struct busy_ext *e);
/* First part of [start, len) that is not busy and has at least `want`, else the longest; len 0: none. */
struct ag_extent busy_trim(struct fs_ag *ag, uint64_t start, uint64_t len, uint64_t want);
/* May metadata use it: nobody keeps it? */
bool busy_reusable(struct fs_ag *ag, uint64_t start, uint64_t len);
/* It does: no longer busy. `spare` is a node for a split, freed if not needed. */
void busy_reuse(struct fs_ag *ag, uint64_t start, uint64_t len, struct busy_ext *spare);
/* [start, len) is held no longer. False: there was no spare to split an extent with, nothing was done. */
bool busy_drop(struct fs_ag *ag, uint64_t start, uint64_t len, struct busy_ext *spare);
/* Keep everybody off free blocks while they are discarded or staged. False: no memory. */
bool busy_hold(struct fs_ag *ag, uint64_t start, uint64_t len, struct cds_list_head *held);
void busy_unhold(struct fs_ag *ag, struct cds_list_head *held);
void busy_free_all(struct fs_ag *ag);

/*
 * ag_alloc.c. Call fn for the groups that may hold what req wants, nearest first, until it returns
 * something else than -ENOENT; any_length on the second round. -ENOSPC.
 */
typedef int (*ag_walk_fn)(struct fs_ag *ag, struct fs_alloc_req *req, bool any_length, void *arg);
int ag_walk_groups(struct fs *fs, struct fs_alloc_req *req, ag_walk_fn fn, void *arg);
/* Choose blocks for req in this group, lock held; -ENOENT. *ext is the free extent around them. */
int ag_pick(struct fs_ag *ag, const struct fs_alloc_req *req, unsigned flags, bool any_length,
	    struct ag_extent *ext, struct ag_extent *out);

/* refc.c */
/* fsbs that the reference counts of the group may come to take: every block a record of its own. */
uint64_t refc_room(const struct fs_ag *ag);
/* Nodes that one change of the counts, and taking part of it back, may need. */
unsigned refc_need_nodes(struct fs_ag *ag);

/* space.c */
int space_init(struct fs *fs);
void space_destroy(struct fs *fs);
void space_adjust_free(struct fs *fs, int64_t delta);
void space_consume(struct fs *fs, uint64_t nr_fsb);
struct space_counts {
	int64_t free, reserved, pool;
};
void space_get(struct fs *fs, struct space_counts *out);
/* Free blocks beyond every promise: what locality may spend. */
int64_t space_slack(struct fs *fs);

#endif

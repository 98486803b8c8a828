/* SPDX-License-Identifier: MIT */
/*
 * The one B+tree (docs/FORMAT.md, "B+tree"). A cursor describes a tree: where its root
 * lives, what its nodes belong to, how to get and free nodes. The owner's lock guards the
 * tree: shared to look, exclusive to change. Keys are struct bt_key (b = 0 in one-word trees).
 */
#ifndef FS_BTREE_H
#define FS_BTREE_H

#include "iomapfs/buffer.h"
#include "iomapfs/journal.h"

struct bt_key {
	uint64_t a, b;
};
#define BT_VAL_MAX 16u

struct bt_root {        /* in-core form of od_root */
	uint64_t mblk;
	unsigned level;
};

struct btree;
/* How a tree gets its nodes. Both run inside the handle and must not fail for want of
 * space: the caller of an update has reserved it (bt_*_need). */
struct bt_alloc_ops {
	int (*alloc)(struct btree *t, struct jnl_handle *h, uint64_t *mblk);
	void (*free)(struct btree *t, struct jnl_handle *h, uint64_t mblk);
};

struct btree {
	struct buf_cache *bc;
	unsigned type;                /* enum od_tree */
	uint64_t owner;               /* hdr.owner of its nodes */
	struct bt_root *root;         /* updated in place; the owner logs it */
	const struct bt_alloc_ops *ops;
	void *private;                /* of ops */
	bool root_changed;            /* set by updates: the owner must log its root */
};

struct bt_rec {
	struct bt_key key;
	uint8_t val[BT_VAL_MAX];
};

/* flags: BUF_NOWAIT. All return -ENOENT when there is no such record. */
int bt_lookup_eq(struct btree *t, struct bt_key key, unsigned flags, struct bt_rec *out);
int bt_lookup_le(struct btree *t, struct bt_key key, unsigned flags, struct bt_rec *out);
int bt_lookup_ge(struct btree *t, struct bt_key key, unsigned flags, struct bt_rec *out);
int bt_last(struct btree *t, unsigned flags, struct bt_rec *out);
/*
 * Up to max records with key >= from in ascending order (one leaf at a time inside).
 * Returns the number, 0 at the end.
 */
int bt_range(struct btree *t, struct bt_key from, unsigned flags, struct bt_rec *out, unsigned max);

/*
 * Bring every node that an insert/update/delete at `key` may touch (path and the siblings
 * it may merge with) into the cache and report -EAGAIN (NOWAIT) or read errors: call
 * before the first change of a handle, so that the change itself cannot fail.
 */
int bt_prefetch(struct btree *t, struct bt_key key, unsigned flags);

/* -EEXIST / -ENOENT before any change; other failures abort the journal. */
int bt_insert(struct btree *t, struct jnl_handle *h, struct bt_key key, const void *val);
int bt_update(struct btree *t, struct jnl_handle *h, struct bt_key key, const void *val);
int bt_delete(struct btree *t, struct jnl_handle *h, struct bt_key key);
/* Replace record `old_key` by (key, val) where the order does not change: one leaf. */
int bt_replace(struct btree *t, struct jnl_handle *h, struct bt_key old_key, struct bt_key key,
	       const void *val);
/* Build from n ascending records into an empty tree (list -> tree, mkfs, tests). */
int bt_bulk_load(struct btree *t, struct jnl_handle *h, const struct bt_rec *recs, unsigned n);

/* Worst case of one insert or delete on the tree as it is: new nodes, and blocks logged. */
unsigned bt_need_nodes(const struct btree *t);
unsigned bt_need_credits(const struct btree *t);

#endif

/* SPDX-License-Identifier: MIT */
/* One node of the B+tree, and the path from the root to a leaf: shared by btree*.c only. */
#ifndef FS_BTREE_NODE_H
#define FS_BTREE_NODE_H

#include "btree.h"

/* Root at [level], leaf at [0]. Each buffer is referenced until bt_path_put. */
struct bt_path {
	unsigned nr;                     /* levels: root level + 1 */
	struct {
		struct buf *b;
		unsigned idx;            /* record followed, or wanted, in this node */
	} l[OD_TREE_MAX_LEVEL];
};

static inline const struct od_tree_geom *bt_geom(const struct btree *t)
{
	return od_tree_geom(t->type);
}
static inline unsigned bt_max(const struct btree *t, unsigned level)
{
	return od_tree_max_recs(t->type, level == 0);
}
/*
 * Below this a node looks for a sibling to merge with or to take records from. A third, not
 * half: a node that was just split must not merge again with the next delete.
 */
static inline unsigned bt_min(const struct btree *t, unsigned level)
{
	return bt_max(t, level) / 3;
}
/* Two siblings merge when they fill at most this; a full result would split at once. */
static inline unsigned bt_merge_max(const struct btree *t, unsigned level)
{
	return bt_max(t, level) - bt_max(t, level) / 8;
}
static inline unsigned bt_rec_size(const struct btree *t, unsigned level)
{
	const struct od_tree_geom *g = bt_geom(t);

	return g->key_words * 8u + (level ? 8u : g->val_bytes);
}

static inline unsigned bt_nrecs(const struct buf *b)
{
	return le16_get(buf_hdr(b)->nrecs);
}
static inline void bt_set_nrecs(struct buf *b, unsigned n)
{
	buf_hdr(b)->nrecs = le16_make((uint16_t)n);
}
static inline unsigned bt_level(const struct buf *b)
{
	return le16_get(buf_hdr(b)->level);
}
static inline uint8_t *bt_rec_at(const struct btree *t, const struct buf *b, unsigned i)
{
	return (uint8_t *)b->data + OD_HDR_SIZE + (size_t)i * bt_rec_size(t, bt_level(b));
}

static inline int bt_key_cmp(struct bt_key x, struct bt_key y)
{
	if (x.a != y.a)
		return x.a < y.a ? -1 : 1;
	return x.b == y.b ? 0 : x.b < y.b ? -1 : 1;
}
struct bt_key bt_key_at(const struct btree *t, const struct buf *b, unsigned i);
void bt_key_put(const struct btree *t, struct buf *b, unsigned i, struct bt_key k);
uint64_t bt_child_at(const struct btree *t, const struct buf *b, unsigned i);
void bt_rec_get(const struct btree *t, const struct buf *b, unsigned i, struct bt_rec *out);
/* First record whose key is >= key (nrecs if none). */
unsigned bt_node_ge(const struct btree *t, const struct buf *b, struct bt_key key);
/* Open or close a gap of n records at i; nrecs is adjusted. */
void bt_gap_open(const struct btree *t, struct buf *b, unsigned i, unsigned n);
void bt_gap_close(const struct btree *t, struct buf *b, unsigned i, unsigned n);

/*
 * Read child i of the path's node at lvl and check it: right type and level, and all of its keys
 * where its place in the tree says.
 */
int bt_child_read(struct btree *t, const struct bt_path *p, unsigned lvl, unsigned i, unsigned flags,
		  struct buf **out);
/* Path to the leaf where key is or belongs; idx of the leaf is bt_node_ge. Tree not empty. */
int bt_path_find(struct btree *t, struct bt_key key, unsigned flags, struct bt_path *p);
/* To the next (dir 1) or previous (-1) leaf, at its first or last record; -ENOENT at the end. */
int bt_path_step(struct btree *t, struct bt_path *p, int dir, unsigned flags);
void bt_path_put(struct bt_path *p);
/* An update failed after its first change: nothing can be taken back. */
int bt_abort(struct jnl_handle *h, int err, const char *why);

#endif

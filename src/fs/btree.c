/* SPDX-License-Identifier: MIT */
/*
 * B+tree: nodes, paths and everything that only looks. Updates are in btree_update.c.
 *
 * Order that readers rely on: in an interior node, key i is at most the smallest key below
 * child i, and greater than every key below child i-1. It need not be equal: deleting the
 * first record of a leaf leaves its separator alone, so that a delete touches one node in
 * the usual case. A search that lands in a leaf whose records are all greater therefore
 * steps to the leaf before.
 */
#include "btree_node.h"

struct bt_key bt_key_at(const struct btree *t, const struct buf *b, unsigned i)
{
	const uint8_t *p = bt_rec_at(t, b, i);
	struct bt_key k = { 0, 0 };
	le64_t w;

	memcpy(&w, p, 8);
	k.a = le64_get(w);
	if (bt_geom(t)->key_words == 2) {
		memcpy(&w, p + 8, 8);
		k.b = le64_get(w);
	}
	return k;
}

void bt_key_put(const struct btree *t, struct buf *b, unsigned i, struct bt_key k)
{
	uint8_t *p = bt_rec_at(t, b, i);
	le64_t w = le64_make(k.a);

	memcpy(p, &w, 8);
	if (bt_geom(t)->key_words == 2) {
		w = le64_make(k.b);
		memcpy(p + 8, &w, 8);
	} else {
		assert(k.b == 0);
	}
}

uint64_t bt_child_at(const struct btree *t, const struct buf *b, unsigned i)
{
	le64_t w;

	assert(bt_level(b) > 0 && i < bt_nrecs(b));
	memcpy(&w, bt_rec_at(t, b, i) + bt_geom(t)->key_words * 8, 8);
	return le64_get(w);
}

void bt_rec_get(const struct btree *t, const struct buf *b, unsigned i, struct bt_rec *out)
{
	const struct od_tree_geom *g = bt_geom(t);

	assert(i < bt_nrecs(b));
	out->key = bt_key_at(t, b, i);
	memset(out->val, 0, sizeof(out->val));
	memcpy(out->val, bt_rec_at(t, b, i) + g->key_words * 8, g->val_bytes);
}

unsigned bt_node_ge(const struct btree *t, const struct buf *b, struct bt_key key)
{
	unsigned lo = 0, hi = bt_nrecs(b);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (bt_key_cmp(bt_key_at(t, b, mid), key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void bt_gap_open(const struct btree *t, struct buf *b, unsigned i, unsigned n)
{
	unsigned nr = bt_nrecs(b);

	assert(i <= nr && nr + n <= bt_max(t, bt_level(b)));
	memmove(bt_rec_at(t, b, i + n), bt_rec_at(t, b, i),
		(size_t)(nr - i) * bt_rec_size(t, bt_level(b)));
	bt_set_nrecs(b, nr + n);
}

void bt_gap_close(const struct btree *t, struct buf *b, unsigned i, unsigned n)
{
	unsigned nr = bt_nrecs(b);
	unsigned size = bt_rec_size(t, bt_level(b));

	assert(i + n <= nr);
	memmove(bt_rec_at(t, b, i), bt_rec_at(t, b, i + n), (size_t)(nr - i - n) * size);
	/* Old contents past the end would only make images differ from run to run. */
	memset(bt_rec_at(t, b, nr - n), 0, (size_t)n * size);
	bt_set_nrecs(b, nr - n);
}

/*
 * Are the keys of b, child i of the path's node at lvl, between the separators on both sides of
 * it? The nearest ancestors that have one decide. Intervals of different places never overlap
 * and no node is empty, so a node that an image names twice fits in one place only, and
 * whoever walks on from the last key found comes to an end.
 */
static bool in_bounds(const struct btree *t, const struct bt_path *p, unsigned lvl, unsigned i,
		      const struct buf *b)
{
	const struct bt_key first = bt_key_at(t, b, 0), last = bt_key_at(t, b, bt_nrecs(b) - 1);
	bool low = false, high = false;

	for (unsigned at = i; lvl < p->nr && !(low && high); at = ++lvl < p->nr ? p->l[lvl].idx : 0) {
		const struct buf *up = p->l[lvl].b;

		if (!low && at > 0) {
			low = true;
			if (bt_key_cmp(first, bt_key_at(t, up, at)) < 0)
				return false;
		}
		if (!high && at + 1 < bt_nrecs(up)) {
			high = true;
			if (bt_key_cmp(last, bt_key_at(t, up, at + 1)) >= 0)
				return false;
		}
	}
	return true;
}

static int node_bad(struct btree *t, uint64_t mblk, const char *test)
{
	log_err("corruption in %s tree of %llu, block %llu: %s", bt_geom(t)->name,
		(unsigned long long)t->owner, (unsigned long long)mblk, test);
	return -EFSCORRUPTED;
}

/* Read and check a node: right type, right level (so that no image can lead us in circles). */
static int node_read(struct btree *t, uint64_t mblk, unsigned level, unsigned flags, struct buf **out)
{
	struct buf *b;
	const char *test = NULL;
	int err = buf_read(t->bc, mblk, t->owner, &buf_ops_btree, flags, &b);

	if (err)
		return err;
	if (le16_get(buf_hdr(b)->type) != t->type)
		test = "wrong-tree-type";
	else if (bt_level(b) != level)
		test = "wrong-level";
	else if (bt_nrecs(b) == 0 || bt_nrecs(b) > bt_max(t, level))
		test = "bad-nrecs";
	if (test) {
		buf_put(b);
		return node_bad(t, mblk, test);
	}
	*out = b;
	return 0;
}

int bt_child_read(struct btree *t, const struct bt_path *p, unsigned lvl, unsigned i, unsigned flags,
		  struct buf **out)
{
	const uint64_t mblk = bt_child_at(t, p->l[lvl].b, i);
	int err = node_read(t, mblk, lvl - 1, flags, out);

	if (!err && !in_bounds(t, p, lvl, i, *out)) {
		buf_put(*out);
		*out = NULL;
		err = node_bad(t, mblk, "keys-out-of-bounds");
	}
	return err;
}

void bt_path_put(struct bt_path *p)
{
	for (unsigned i = 0; i < p->nr; i++)
		if (p->l[i].b)
			buf_put(p->l[i].b);
	p->nr = 0;
}

/* Fill levels below `from`, taking at each the child that `pick` names. */
enum bt_pick { PICK_KEY, PICK_FIRST, PICK_LAST };
static int path_descend(struct btree *t, struct bt_path *p, unsigned from, enum bt_pick pick,
			struct bt_key key, unsigned flags)
{
	for (unsigned lvl = from;; lvl--) {
		struct buf *b = p->l[lvl].b;
		unsigned i, n = bt_nrecs(b);
		int err;

		if (pick == PICK_FIRST) {
			i = 0;
		} else if (pick == PICK_LAST) {
			i = n - 1;
		} else {
			i = bt_node_ge(t, b, key);
			/* Interior: the child whose separator is <= key; the first takes all below. */
			if (lvl > 0 && i > 0 &&
			    (i == n || bt_key_cmp(bt_key_at(t, b, i), key) != 0))
				i--;
		}
		p->l[lvl].idx = i;
		if (lvl == 0)
			return 0;
		err = bt_child_read(t, p, lvl, i, flags, &p->l[lvl - 1].b);
		if (err)
			return err;
	}
}

static int path_start(struct btree *t, unsigned flags, struct bt_path *p)
{
	unsigned lvl = t->root->level;
	int err;

	memset(p, 0, sizeof(*p));
	if (!t->root->mblk)
		return -ENOENT;
	if (lvl >= OD_TREE_MAX_LEVEL) {
		log_err("corruption in %s tree of %llu: root-level", bt_geom(t)->name,
			(unsigned long long)t->owner);
		return -EFSCORRUPTED;
	}
	err = node_read(t, t->root->mblk, lvl, flags, &p->l[lvl].b);
	if (err)
		return err;
	p->nr = lvl + 1;
	return 0;
}

static int path_find(struct btree *t, enum bt_pick pick, struct bt_key key, unsigned flags,
		     struct bt_path *p)
{
	int err = path_start(t, flags, p);

	if (err)
		return err;
	err = path_descend(t, p, p->nr - 1, pick, key, flags);
	if (err)
		bt_path_put(p);
	return err;
}

int bt_path_find(struct btree *t, struct bt_key key, unsigned flags, struct bt_path *p)
{
	return path_find(t, PICK_KEY, key, flags, p);
}

int bt_path_step(struct btree *t, struct bt_path *p, int dir, unsigned flags)
{
	struct bt_key none = { 0, 0 };
	unsigned lvl;
	int err;

	for (lvl = 1; lvl < p->nr; lvl++) {
		unsigned i = p->l[lvl].idx;

		if (dir > 0 ? i + 1 < bt_nrecs(p->l[lvl].b) : i > 0)
			break;
	}
	if (lvl >= p->nr)
		return -ENOENT;
	for (unsigned i = 0; i < lvl; i++) {
		buf_put(p->l[i].b);
		p->l[i].b = NULL;
	}
	p->l[lvl].idx += dir > 0 ? 1u : -1u;
	err = bt_child_read(t, p, lvl, p->l[lvl].idx, flags, &p->l[lvl - 1].b);
	if (err)
		return err;
	return path_descend(t, p, lvl - 1, dir > 0 ? PICK_FIRST : PICK_LAST, none, flags);
}

int bt_abort(struct jnl_handle *h, int err, const char *why)
{
	jnl_abort(jnl_handle_journal(h), err, why);
	return err;
}

/* ---- Looking ------------------------------------------------------------------------ */

int bt_lookup_eq(struct btree *t, struct bt_key key, unsigned flags, struct bt_rec *out)
{
	struct bt_path p;
	int err = bt_path_find(t, key, flags, &p);

	if (err)
		return err;
	if (p.l[0].idx < bt_nrecs(p.l[0].b) &&
	    bt_key_cmp(bt_key_at(t, p.l[0].b, p.l[0].idx), key) == 0)
		bt_rec_get(t, p.l[0].b, p.l[0].idx, out);
	else
		err = -ENOENT;
	bt_path_put(&p);
	return err;
}

int bt_lookup_le(struct btree *t, struct bt_key key, unsigned flags, struct bt_rec *out)
{
	struct bt_path p;
	int err = bt_path_find(t, key, flags, &p);
	unsigned i;

	if (err)
		return err;
	i = p.l[0].idx;
	if (i == bt_nrecs(p.l[0].b) || bt_key_cmp(bt_key_at(t, p.l[0].b, i), key) != 0) {
		if (i > 0)
			p.l[0].idx--;
		else
			err = bt_path_step(t, &p, -1, flags);
	}
	if (!err)
		bt_rec_get(t, p.l[0].b, p.l[0].idx, out);
	bt_path_put(&p);
	return err;
}

int bt_lookup_ge(struct btree *t, struct bt_key key, unsigned flags, struct bt_rec *out)
{
	int n = bt_range(t, key, flags, out, 1);

	return n < 0 ? n : n == 0 ? -ENOENT : 0;
}

int bt_last(struct btree *t, unsigned flags, struct bt_rec *out)
{
	struct bt_key none = { 0, 0 };
	struct bt_path p;
	int err = path_find(t, PICK_LAST, none, flags, &p);

	if (err)
		return err;
	bt_rec_get(t, p.l[0].b, p.l[0].idx, out);
	bt_path_put(&p);
	return 0;
}

int bt_range(struct btree *t, struct bt_key from, unsigned flags, struct bt_rec *out, unsigned max)
{
	struct bt_path p;
	unsigned got = 0;
	int err = bt_path_find(t, from, flags, &p);

	if (err)
		return err == -ENOENT ? 0 : err;
	while (got < max) {
		struct buf *leaf = p.l[0].b;

		if (p.l[0].idx < bt_nrecs(leaf)) {
			bt_rec_get(t, leaf, p.l[0].idx++, &out[got++]);
			continue;
		}
		err = bt_path_step(t, &p, 1, flags);
		if (err)
			break;
	}
	bt_path_put(&p);
	return err && err != -ENOENT ? err : (int)got;
}

/* The sibling that a merge at this level would take: the left one if there is one. */
static int prefetch_sibling(struct btree *t, struct bt_path *p, unsigned lvl, unsigned flags)
{
	struct buf *parent = p->l[lvl + 1].b, *sib;
	unsigned i = p->l[lvl + 1].idx;
	int err;

	if (bt_nrecs(parent) < 2)
		return 0;
	err = bt_child_read(t, p, lvl + 1, i > 0 ? i - 1 : i + 1, flags, &sib);
	if (!err)
		buf_put(sib);
	return err;
}

int bt_prefetch(struct btree *t, struct bt_key key, unsigned flags)
{
	/* Deletes that one handle may do in one node before its sibling is wanted. */
	const unsigned slack = 4;
	struct bt_path p;
	int err = bt_path_find(t, key, flags, &p);

	if (err)
		return err == -ENOENT ? 0 : err;
	for (unsigned lvl = 0; lvl + 1 < p.nr && !err; lvl++)
		if (bt_nrecs(p.l[lvl].b) <= bt_min(t, lvl) + slack)
			err = prefetch_sibling(t, &p, lvl, flags);
	bt_path_put(&p);
	return err;
}

unsigned bt_need_nodes(const struct btree *t)
{
	/* Every level splits, and a new root. */
	return t->root->mblk ? t->root->level + 2u : 1u;
}

unsigned bt_need_credits(const struct btree *t)
{
	/* Insert: the path, a new node beside each of it, a new root. Delete: path and siblings. */
	return t->root->mblk ? 2u * (t->root->level + 1u) + 1u : 1u;
}

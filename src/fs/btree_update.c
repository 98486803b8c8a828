/* SPDX-License-Identifier: MIT */
/*
 * B+tree updates. Each has two halves: first everything is read and decided (path, the
 * nodes that will split, the siblings that will merge), and refusals are returned; then
 * the nodes are announced to the journal and changed, and nothing can fail any more but
 * the owner's node allocator, whose failure stops the journal.
 */
#include "btree_node.h"

static int node_new(struct btree *t, struct jnl_handle *h, unsigned level, struct buf **out)
{
	uint64_t mblk;
	int err = t->ops->alloc(t, h, &mblk);

	if (err)
		return bt_abort(h, err, "no node for a B+tree");
	err = buf_new(t->bc, mblk, t->owner, &buf_ops_btree, out);
	if (err)
		return bt_abort(h, err, "no memory for a B+tree node");
	jnl_get_create(h, *out);
	buf_hdr(*out)->type = le16_make((uint16_t)t->type);
	buf_hdr(*out)->level = le16_make((uint16_t)level);
	bt_set_nrecs(*out, 0);
	return 0;
}

static void node_free(struct btree *t, struct jnl_handle *h, struct buf *b)
{
	t->ops->free(t, h, b->mblk);
}

static void set_root(struct btree *t, uint64_t mblk, unsigned level)
{
	assert(level < OD_TREE_MAX_LEVEL);
	t->root->mblk = mblk;
	t->root->level = level;
	t->root_changed = true;
}

/* val: the leaf's value bytes, or an le64 child. Room is there. */
static void rec_put(struct btree *t, struct buf *b, unsigned i, struct bt_key key, const void *val)
{
	unsigned key_bytes = bt_geom(t)->key_words * 8u;
	unsigned val_bytes = bt_rec_size(t, bt_level(b)) - key_bytes;

	bt_gap_open(t, b, i, 1);
	bt_key_put(t, b, i, key);
	if (val_bytes)
		memcpy(bt_rec_at(t, b, i) + key_bytes, val, val_bytes);
	assert(i == 0 || bt_key_cmp(bt_key_at(t, b, i - 1), key) < 0);
	assert(i + 1 == bt_nrecs(b) || bt_key_cmp(key, bt_key_at(t, b, i + 1)) < 0);
}

static void move_recs(struct btree *t, struct buf *dst, unsigned di, struct buf *src, unsigned si,
		      unsigned n)
{
	assert(bt_level(dst) == bt_level(src));
	bt_gap_open(t, dst, di, n);
	memcpy(bt_rec_at(t, dst, di), bt_rec_at(t, src, si),
	       (size_t)n * bt_rec_size(t, bt_level(src)));
	bt_gap_close(t, src, si, n);
}

/* ---- Insert ---------------------------------------------------------------------------- */

/* Nothing to the right of the path at or above this level? Then ascending inserts end here. */
static bool is_last_at(const struct bt_path *p, unsigned lvl)
{
	for (unsigned i = lvl + 1; i < p->nr; i++)
		if (p->l[i].idx + 1 != bt_nrecs(p->l[i].b))
			return false;
	return true;
}

/*
 * Put (key, val) at idx of a full node by moving its upper half into `right`. At the end of
 * the tree nothing moves: ascending inserts leave full nodes behind.
 */
static void split_put(struct btree *t, struct jnl_handle *h, struct bt_path *p, unsigned lvl,
		      struct buf *right, struct bt_key key, const void *val, unsigned idx)
{
	struct buf *b = p->l[lvl].b;
	unsigned n = bt_nrecs(b);
	unsigned keep = idx == n && is_last_at(p, lvl) ? n : n / 2;

	if (keep < n) {
		jnl_get_write(h, b);
		move_recs(t, right, 0, b, keep, n - keep);
	}
	if (idx > keep || keep == n) {
		rec_put(t, right, idx - keep, key, val);
	} else {
		rec_put(t, b, idx, key, val);
	}
	assert(bt_nrecs(b) > 0 && bt_nrecs(right) > 0);
}

static int grow_root(struct btree *t, struct jnl_handle *h, struct buf *root, struct buf *left,
		     struct buf *right)
{
	le64_t child = le64_make(left->mblk);

	rec_put(t, root, 0, bt_key_at(t, left, 0), &child);
	child = le64_make(right->mblk);
	rec_put(t, root, 1, bt_key_at(t, right, 0), &child);
	set_root(t, root->mblk, bt_level(root));
	return 0;
}

/* A key below everything in its leaf: the separators above must not be greater than it. */
static void lower_separators(struct btree *t, struct jnl_handle *h, struct bt_path *p,
			     struct bt_key key)
{
	for (unsigned lvl = 1; lvl < p->nr; lvl++) {
		struct buf *b = p->l[lvl].b;
		unsigned i = p->l[lvl].idx;

		if (bt_key_cmp(bt_key_at(t, b, i), key) > 0) {
			jnl_get_write(h, b);
			bt_key_put(t, b, i, key);
		}
		if (i > 0)
			break;
	}
}

static int insert_first(struct btree *t, struct jnl_handle *h, struct bt_key key, const void *val)
{
	struct buf *b;
	int err = node_new(t, h, 0, &b);

	if (err)
		return err;
	rec_put(t, b, 0, key, val);
	set_root(t, b->mblk, 0);
	buf_put(b);
	return 0;
}

/* fresh[lvl] is the new right neighbour of the path's node at lvl; the last is a new root. */
static int insert_at(struct btree *t, struct jnl_handle *h, struct bt_path *p, struct bt_key key,
		     const void *val, struct buf **fresh, unsigned nr_splits)
{
	le64_t child;

	for (unsigned lvl = 0; lvl < nr_splits; lvl++) {
		split_put(t, h, p, lvl, fresh[lvl], key, val,
			  lvl ? p->l[lvl].idx + 1 : p->l[lvl].idx);
		key = bt_key_at(t, fresh[lvl], 0);
		child = le64_make(fresh[lvl]->mblk);
		val = &child;
	}
	if (nr_splits == p->nr)
		return grow_root(t, h, fresh[nr_splits], p->l[nr_splits - 1].b,
				 fresh[nr_splits - 1]);
	jnl_get_write(h, p->l[nr_splits].b);
	rec_put(t, p->l[nr_splits].b, nr_splits ? p->l[nr_splits].idx + 1 : p->l[0].idx, key, val);
	return 0;
}

int bt_insert(struct btree *t, struct jnl_handle *h, struct bt_key key, const void *val)
{
	struct buf *fresh[OD_TREE_MAX_LEVEL + 1] = { NULL };
	unsigned nr_splits = 0, nr_fresh = 0, want;
	struct bt_path p;
	int err = bt_path_find(t, key, 0, &p);

	if (err)
		return err == -ENOENT ? insert_first(t, h, key, val) : err;
	if (p.l[0].idx < bt_nrecs(p.l[0].b) &&
	    bt_key_cmp(bt_key_at(t, p.l[0].b, p.l[0].idx), key) == 0) {
		err = -EEXIST;
		goto out_put_path;
	}
	while (nr_splits < p.nr && bt_nrecs(p.l[nr_splits].b) == bt_max(t, nr_splits))
		nr_splits++;
	want = nr_splits == p.nr ? nr_splits + 1 : nr_splits;
	if (want > OD_TREE_MAX_LEVEL) {
		err = -EFBIG;
		goto out_put_path;
	}
	for (; nr_fresh < want; nr_fresh++) {
		err = node_new(t, h, nr_fresh, &fresh[nr_fresh]);
		if (err)
			goto out_put_fresh;
	}
	lower_separators(t, h, &p, key);
	err = insert_at(t, h, &p, key, val, fresh, nr_splits);
out_put_fresh:
	while (nr_fresh > 0)
		buf_put(fresh[--nr_fresh]);
out_put_path:
	bt_path_put(&p);
	return err;
}

/* ---- Update ----------------------------------------------------------------------------- */

static int find_exact(struct btree *t, struct bt_key key, struct bt_path *p)
{
	int err = bt_path_find(t, key, 0, p);

	if (err)
		return err;
	if (p->l[0].idx < bt_nrecs(p->l[0].b) &&
	    bt_key_cmp(bt_key_at(t, p->l[0].b, p->l[0].idx), key) == 0)
		return 0;
	bt_path_put(p);
	return -ENOENT;
}

int bt_update(struct btree *t, struct jnl_handle *h, struct bt_key key, const void *val)
{
	const struct od_tree_geom *g = bt_geom(t);
	struct bt_path p;
	int err = find_exact(t, key, &p);

	if (err)
		return err;
	assert(g->val_bytes > 0);
	jnl_get_write(h, p.l[0].b);
	memcpy(bt_rec_at(t, p.l[0].b, p.l[0].idx) + g->key_words * 8, val, g->val_bytes);
	bt_path_put(&p);
	return 0;
}

/* Would key, put in the place of the path's record, be at or past the next leaf's separator? */
static bool beyond_leaf(struct btree *t, const struct bt_path *p, struct bt_key key)
{
	for (unsigned lvl = 1; lvl < p->nr; lvl++) {
		unsigned i = p->l[lvl].idx + 1;

		if (i < bt_nrecs(p->l[lvl].b))
			return bt_key_cmp(key, bt_key_at(t, p->l[lvl].b, i)) >= 0;
	}
	return false;
}

int bt_replace(struct btree *t, struct jnl_handle *h, struct bt_key old_key, struct bt_key key,
	       const void *val)
{
	const struct od_tree_geom *g = bt_geom(t);
	struct bt_path p;
	struct buf *leaf;
	unsigned i;
	int err = find_exact(t, old_key, &p);

	if (err)
		return err;
	if (beyond_leaf(t, &p, key)) {
		/* Separators may lag behind their leaf: the record then belongs to the next one. */
		bt_path_put(&p);
		err = bt_delete(t, h, old_key);
		if (err)
			return err;
		err = bt_insert(t, h, key, val);
		return err ? bt_abort(h, err, "B+tree replace") : 0;
	}
	leaf = p.l[0].b;
	i = p.l[0].idx;
	assert(i == 0 || bt_key_cmp(bt_key_at(t, leaf, i - 1), key) < 0);
	assert(i + 1 == bt_nrecs(leaf) || bt_key_cmp(key, bt_key_at(t, leaf, i + 1)) < 0);
	jnl_get_write(h, leaf);
	bt_key_put(t, leaf, i, key);
	if (g->val_bytes)
		memcpy(bt_rec_at(t, leaf, i) + g->key_words * 8, val, g->val_bytes);
	if (i == 0)
		lower_separators(t, h, &p, key);
	bt_path_put(&p);
	return 0;
}

/* ---- Delete ------------------------------------------------------------------------------ */

/* What happens to the path's node at one level once it has lost a record. */
enum bt_fix {
	FIX_NONE,    /* stays as it is; nothing above changes */
	FIX_DROP,    /* became empty and has no sibling: goes */
	FIX_MERGE,   /* joins with sib; the right one of the two goes */
	FIX_BALANCE, /* shares records with sib */
};
struct bt_plan {
	enum bt_fix fix[OD_TREE_MAX_LEVEL];
	struct buf *sib[OD_TREE_MAX_LEVEL];
	unsigned nr;  /* levels that change */
};

static void plan_put(struct bt_plan *plan)
{
	for (unsigned i = 0; i < OD_TREE_MAX_LEVEL; i++)
		if (plan->sib[i])
			buf_put(plan->sib[i]);
}

static inline bool sib_is_left(const struct bt_path *p, unsigned lvl)
{
	return p->l[lvl + 1].idx > 0;
}

static int plan_level(struct btree *t, struct bt_path *p, unsigned lvl, struct bt_plan *plan)
{
	unsigned left_over = bt_nrecs(p->l[lvl].b) - 1;
	struct buf *parent;
	unsigned i;
	int err;

	if (lvl + 1 == p->nr) {
		plan->fix[lvl] = left_over ? FIX_NONE : FIX_DROP;
		return 0;
	}
	if (left_over >= bt_min(t, lvl) && left_over > 0)
		return 0;
	parent = p->l[lvl + 1].b;
	i = p->l[lvl + 1].idx;
	if (bt_nrecs(parent) == 1) {
		plan->fix[lvl] = left_over ? FIX_NONE : FIX_DROP;
		return 0;
	}
	err = bt_child_read(t, p, lvl + 1, i > 0 ? i - 1 : i + 1, 0, &plan->sib[lvl]);
	if (err)
		return err;
	plan->fix[lvl] = left_over + bt_nrecs(plan->sib[lvl]) <= bt_merge_max(t, lvl) ?
				 FIX_MERGE : FIX_BALANCE;
	return 0;
}

static int plan_delete(struct btree *t, struct bt_path *p, struct bt_plan *plan)
{
	memset(plan, 0, sizeof(*plan));
	for (unsigned lvl = 0; lvl < p->nr; lvl++) {
		int err = plan_level(t, p, lvl, plan);

		if (err)
			return err;
		plan->nr = lvl + 1;
		if (plan->fix[lvl] == FIX_NONE || plan->fix[lvl] == FIX_BALANCE)
			break;
	}
	return 0;
}

/* Returns the index in the parent of the node that went. */
static unsigned do_merge(struct btree *t, struct jnl_handle *h, struct bt_path *p, unsigned lvl,
			 struct buf *sib)
{
	bool left = sib_is_left(p, lvl);
	struct buf *l = left ? sib : p->l[lvl].b;
	struct buf *r = left ? p->l[lvl].b : sib;

	jnl_get_write(h, l);
	/* r is not logged: it is freed, and nobody looks at it again. */
	memcpy(bt_rec_at(t, l, bt_nrecs(l)), bt_rec_at(t, r, 0),
	       (size_t)bt_nrecs(r) * bt_rec_size(t, lvl));
	bt_set_nrecs(l, bt_nrecs(l) + bt_nrecs(r));
	assert(bt_nrecs(l) <= bt_max(t, lvl));
	node_free(t, h, r);
	return left ? p->l[lvl + 1].idx : p->l[lvl + 1].idx + 1;
}

static void do_balance(struct btree *t, struct jnl_handle *h, struct bt_path *p, unsigned lvl,
		       struct buf *sib)
{
	bool left = sib_is_left(p, lvl);
	struct buf *b = p->l[lvl].b, *parent = p->l[lvl + 1].b;
	unsigned n = (bt_nrecs(sib) - bt_nrecs(b)) / 2;
	unsigned at = p->l[lvl + 1].idx + (left ? 0 : 1);

	assert(bt_nrecs(sib) > bt_nrecs(b) && n > 0);
	jnl_get_write(h, sib);
	jnl_get_write(h, b);
	if (left)
		move_recs(t, b, 0, sib, bt_nrecs(sib) - n, n);
	else
		move_recs(t, b, bt_nrecs(b), sib, 0, n);
	jnl_get_write(h, parent);
	bt_key_put(t, parent, at, bt_key_at(t, left ? b : sib, 0));
}

/* An interior root with one child gives way to it. */
static void shrink_root(struct btree *t, struct jnl_handle *h, struct buf *root)
{
	uint64_t child;

	if (bt_level(root) == 0 || bt_nrecs(root) != 1)
		return;
	child = bt_child_at(t, root, 0);
	set_root(t, child, bt_level(root) - 1);
	node_free(t, h, root);
}

static void do_delete(struct btree *t, struct jnl_handle *h, struct bt_path *p,
		      struct bt_plan *plan)
{
	unsigned idx = p->l[0].idx;

	for (unsigned lvl = 0; lvl < plan->nr; lvl++) {
		struct buf *b = p->l[lvl].b;

		/*
		 * A node that goes away is not logged: its image would only be revoked. Its
		 * buffer still changes, which is harmless unless the committing transaction
		 * shares the memory: jnl_get_write gives that one its own copy.
		 */
		jnl_get_write(h, b);
		bt_gap_close(t, b, idx, 1);
		switch (plan->fix[lvl]) {
		case FIX_NONE:
			break;
		case FIX_DROP:
			assert(bt_nrecs(b) == 0);
			node_free(t, h, b);
			if (lvl + 1 == p->nr)
				set_root(t, 0, 0);
			else
				idx = p->l[lvl + 1].idx;
			break;
		case FIX_MERGE:
			idx = do_merge(t, h, p, lvl, plan->sib[lvl]);
			break;
		case FIX_BALANCE:
			do_balance(t, h, p, lvl, plan->sib[lvl]);
			break;
		}
	}
	if (plan->nr == p->nr && t->root->mblk)
		shrink_root(t, h, p->l[p->nr - 1].b);
}

int bt_delete(struct btree *t, struct jnl_handle *h, struct bt_key key)
{
	struct bt_plan plan;
	struct bt_path p;
	int err = find_exact(t, key, &p);

	if (err)
		return err;
	err = plan_delete(t, &p, &plan);
	if (!err)
		do_delete(t, h, &p, &plan);
	plan_put(&plan);
	bt_path_put(&p);
	return err;
}

int bt_bulk_load(struct btree *t, struct jnl_handle *h, const struct bt_rec *recs, unsigned n)
{
	assert(t->root->mblk == 0);
	for (unsigned i = 0; i < n; i++) {
		/* Ascending inserts at the end leave full nodes, so this is as tight as it gets. */
		int err = bt_insert(t, h, recs[i].key, recs[i].val);

		if (err)
			return err;
	}
	return 0;
}

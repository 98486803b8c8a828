/* SPDX-License-Identifier: MIT */
/*
 * Reference counts: which data blocks have several owners (docs/FORMAT.md, "Reference counts").
 * A group counts its own blocks in its REFC tree; a block in no record has one owner. All calls
 * work on runs, pieces of an extent that have the same count, so that each changes at most
 * one record and what it leaves of it; callers go on behind it.
 *
 * Counts change in the transaction that changes the extents, always: a power cut shows both or
 * neither.
 */
#include <stdlib.h>

#include "ag.h"

struct refc {
	uint64_t start, len; /* fsbs; len 0: no record */
	uint32_t refs;
};

static uint64_t refc_end(const struct refc *r)
{
	return r->start + r->len;
}

static struct refc rec_decode(const struct bt_rec *rec)
{
	struct od_refc_val v;

	memcpy(&v, rec->val, sizeof(v));
	return (struct refc){ rec->key.a, le32_get(v.len), le32_get(v.refs) };
}

static struct od_refc_val val_encode(uint64_t len, uint32_t refs)
{
	assert(len > 0 && len <= OD_EXTENT_LEN_MAX && refs >= 2);
	return (struct od_refc_val){ .len = le32_make((uint32_t)len), .refs = le32_make(refs) };
}

static struct bt_key key_of(uint64_t start)
{
	return (struct bt_key){ .a = start };
}

/* The record that begins at or before fsb; len 0: none. */
static int find_le(struct fs_ag *ag, uint64_t fsb, unsigned flags, struct refc *out)
{
	struct btree t = ag_tree(ag, OD_TREE_REFC);
	struct bt_rec rec;
	int err = bt_lookup_le(&t, key_of(fsb), flags, &rec);

	*out = (struct refc){ 0 };
	if (!err)
		*out = rec_decode(&rec);
	return err == -ENOENT ? 0 : err;
}

static int find_ge(struct fs_ag *ag, uint64_t fsb, unsigned flags, struct refc *out)
{
	struct btree t = ag_tree(ag, OD_TREE_REFC);
	struct bt_rec rec;
	int err = bt_lookup_ge(&t, key_of(fsb), flags, &rec);

	*out = (struct refc){ 0 };
	if (!err)
		*out = rec_decode(&rec);
	return err == -ENOENT ? 0 : err;
}

/* A run of [start, start+len), and the record that it is part of. */
struct run {
	uint64_t start, len;
	uint32_t refs;
	struct refc rec; /* len 0: none, refs is 1 */
};

static int first_run(struct fs_ag *ag, uint64_t start, uint64_t len, unsigned flags, struct run *r)
{
	struct refc next;
	int err;

	*r = (struct run){ .start = start, .len = len, .refs = 1 };
	if (ag->root[OD_TREE_REFC].mblk == 0)
		return 0;
	err = find_le(ag, start, flags, &r->rec);
	if (err)
		return err;
	if (r->rec.len && refc_end(&r->rec) > start) {
		r->refs = r->rec.refs;
		r->len = MIN(len, refc_end(&r->rec) - start);
		return 0;
	}
	r->rec.len = 0;
	err = find_ge(ag, start, flags, &next);
	if (!err && next.len)
		r->len = MIN(len, next.start - start);
	return err;
}

static int last_run(struct fs_ag *ag, uint64_t start, uint64_t len, struct run *r)
{
	const uint64_t end = start + len;
	struct refc before;
	int err;

	*r = (struct run){ .start = start, .len = len, .refs = 1 };
	if (ag->root[OD_TREE_REFC].mblk == 0)
		return 0;
	err = find_le(ag, end - 1, 0, &before);
	if (err || !before.len || refc_end(&before) <= start)
		return err;
	if (refc_end(&before) >= end) {
		r->rec = before;
		r->refs = before.refs;
		r->start = MAX(start, before.start);
	} else {
		r->start = refc_end(&before);
	}
	r->len = end - r->start;
	return 0;
}

int refc_query(struct fs *fs, uint64_t start, uint64_t len, unsigned flags, bool settled,
	       uint32_t *refs, uint64_t *run_len)
{
	struct fs_ag *ag = ag_of_fsb(fs, start);
	struct run r;
	int err = ag_lock(ag, flags);

	if (err)
		return err;
	err = first_run(ag, start, len, flags & FS_NOWAIT ? BUF_NOWAIT : 0, &r);
	lk_unlock(&ag->lock);
	/* Alone, but not durably: until the commit it is as good as shared. */
	if (!err && settled && r.refs == 1 && busy_holds(ag, &ag->cooling, start, &r.len))
		r.refs = 2;
	*refs = r.refs;
	*run_len = r.len;
	return err;
}

/* ---- Changing a count ------------------------------------------------------------------------ */

/* A run with its new count, and the neighbours that have just that count (len 0: none such). */
struct recount {
	struct run run;
	uint32_t refs;
	struct refc left, right;
};

static bool has_front(const struct recount *c)
{
	return c->run.rec.len && c->run.rec.start < c->run.start;
}

static bool has_back(const struct recount *c)
{
	return c->run.rec.len && refc_end(&c->run.rec) > c->run.start + c->run.len;
}

static int look_left(struct fs_ag *ag, struct recount *c)
{
	int err;

	if (c->run.start == ag->start)
		return 0;
	err = find_le(ag, c->run.start - 1, 0, &c->left);
	if (c->left.refs != c->refs || refc_end(&c->left) != c->run.start ||
	    c->left.len + c->run.len > OD_EXTENT_LEN_MAX)
		c->left.len = 0;
	return err;
}

static int look_right(struct fs_ag *ag, struct recount *c)
{
	const uint64_t end = c->run.start + c->run.len;
	int err = find_ge(ag, end, 0, &c->right);

	if (c->right.refs != c->refs || c->right.start != end ||
	    c->left.len + c->run.len + c->right.len > OD_EXTENT_LEN_MAX)
		c->right.len = 0;
	return err;
}

/* Whom the run will join, and everything that the change will touch into memory. */
static int recount_prepare(struct fs_ag *ag, struct recount *c)
{
	struct btree t = ag_tree(ag, OD_TREE_REFC);
	int err = 0;

	if (c->refs > 1 && !has_front(c))
		err = look_left(ag, c);
	if (!err && c->refs > 1 && !has_back(c))
		err = look_right(ag, c);
	if (!err && c->left.len)
		err = bt_prefetch(&t, key_of(c->left.start), 0);
	if (!err && c->run.rec.len)
		err = bt_prefetch(&t, key_of(c->run.rec.start), 0);
	if (!err)
		err = bt_prefetch(&t, key_of(c->run.start), 0);
	if (!err)
		err = bt_prefetch(&t, key_of(c->run.start + c->run.len), 0);
	return err;
}

/* What the record has behind the run becomes a record of its own, in place of its whole or beside it. */
static int store_back(struct btree *t, struct jnl_handle *h, const struct recount *c, bool in_place)
{
	const uint64_t end = c->run.start + c->run.len;
	const struct od_refc_val v = val_encode(refc_end(&c->run.rec) - end, c->run.rec.refs);

	if (in_place)
		return bt_replace(t, h, key_of(c->run.rec.start), key_of(end), &v);
	return bt_insert(t, h, key_of(end), &v);
}

static int join_left(struct btree *t, struct jnl_handle *h, const struct recount *c)
{
	const struct od_refc_val v = val_encode(c->left.len + c->run.len + c->right.len, c->refs);
	int err = 0;

	if (has_back(c))
		err = store_back(t, h, c, true);
	else if (c->run.rec.len)
		err = bt_delete(t, h, key_of(c->run.rec.start));
	if (!err && c->right.len)
		err = bt_delete(t, h, key_of(c->right.start));
	return err ? err : bt_update(t, h, key_of(c->left.start), &v);
}

static int join_right(struct btree *t, struct jnl_handle *h, const struct recount *c)
{
	const struct od_refc_val v = val_encode(c->run.len + c->right.len, c->refs);
	int err = 0;

	if (c->run.rec.len && !has_front(c))
		err = bt_delete(t, h, key_of(c->run.rec.start));
	return err ? err : bt_replace(t, h, key_of(c->right.start), key_of(c->run.start), &v);
}

static int store_alone(struct btree *t, struct jnl_handle *h, const struct recount *c)
{
	const struct od_refc_val v = val_encode(c->run.len, c->refs);
	int err;

	if (c->run.rec.len && !has_front(c))
		err = bt_update(t, h, key_of(c->run.start), &v);
	else
		err = bt_insert(t, h, key_of(c->run.start), &v);
	return !err && has_back(c) ? store_back(t, h, c, false) : err;
}

/* The run has one owner again: out of its record. */
static int store_none(struct btree *t, struct jnl_handle *h, const struct recount *c)
{
	if (has_back(c))
		return store_back(t, h, c, !has_front(c));
	return has_front(c) ? 0 : bt_delete(t, h, key_of(c->run.rec.start));
}

static int recount(struct jnl_handle *h, struct fs_ag *ag, const struct recount *c)
{
	struct btree t = ag_tree(ag, OD_TREE_REFC);
	struct od_refc_val front;
	int err = 0;

	lk_assert_held(&ag->lock);
	if (has_front(c)) {
		front = val_encode(c->run.start - c->run.rec.start, c->run.rec.refs);
		err = bt_update(&t, h, key_of(c->run.rec.start), &front);
	}
	if (!err && c->refs < 2)
		err = store_none(&t, h, c);
	else if (!err && c->left.len)
		err = join_left(&t, h, c);
	else if (!err && c->right.len)
		err = join_right(&t, h, c);
	else if (!err)
		err = store_alone(&t, h, c);
	return err ? ag_abort(ag, err, "changing reference counts") : 0;
}

/* ---- Owners come and go ------------------------------------------------------------------------ */

int refc_share(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len, uint64_t *done)
{
	struct recount c = { 0 };
	struct fs_ag *ag;
	int err;

	*done = 0;
	if (!od_fsb_range_ok(&fs->od, start, len))
		return fs_corrupt(fs, "extent", start, "shared-out-of-bounds");
	ag = ag_of_fsb(fs, start);
	lk_lock(&ag->lock);
	err = first_run(ag, start, len, 0, &c.run);
	c.refs = c.run.refs + 1;
	if (!err && c.run.refs == OD_REFC_MAX)
		err = -EMLINK;
	/* A refill is more than this handle has credits for: see refc_top_up. */
	if (!err && ag->nr_reserve < refc_need_nodes(ag))
		err = -EAGAIN;
	if (!err)
		err = recount_prepare(ag, &c);
	if (err) {
		lk_unlock(&ag->lock);
		return err;
	}
	err = recount(h, ag, &c);
	ag_end(h, ag);
	*done = c.run.len;
	return err;
}

int refc_put(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len, bool from_end,
	     uint64_t *done)
{
	struct recount c = { 0 };
	struct busy_ext *cool = NULL;
	struct fs_ag *ag;
	int err;

	*done = 0;
	if (!od_fsb_range_ok(&fs->od, start, len))
		return fs_corrupt(fs, "extent", start, "freed-out-of-bounds");
	ag = ag_of_fsb(fs, start);
	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	if (!err)
		err = from_end ? last_run(ag, start, len, &c.run) :
				 first_run(ag, start, len, 0, &c.run);
	c.refs = c.run.refs - 1;
	if (!err && c.run.refs > 1)
		err = recount_prepare(ag, &c);
	if (!err && c.run.refs == 2) {
		cool = busy_prepare(h, ag, &ag->cooling, c.run.start, c.run.len);
		if (!cool || !busy_insert_again(ag, &ag->cooling, cool)) {
			free(cool);
			err = -ENOMEM;
		}
	}
	if (!err && c.run.refs > 1)
		err = recount(h, ag, &c);
	else if (!err)
		err = ag_free_add(h, ag, c.run.start, c.run.len);
	ag_end(h, ag);
	if (err)
		return err;
	if (c.run.refs == 1)
		atomic_fetch_add(&fs->stat_free_calls, 1);
	*done = c.run.len;
	return 0;
}

int refc_top_up(struct fs *fs, uint64_t fsb)
{
	struct fs_ag *ag = ag_of_fsb(fs, fsb);
	struct jnl_handle *h;
	int err = jnl_start(fs->jnl, ag_credits(fs), 0, &h);

	if (err)
		return err;
	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	if (!err && ag->nr_reserve < refc_need_nodes(ag))
		err = -ENOSPC;
	ag_end(h, ag);
	jnl_stop(h);
	return err;
}

/* ---- What it may take --------------------------------------------------------------------------- */

unsigned refc_need_nodes(struct fs_ag *ag)
{
	struct btree t = ag_tree(ag, OD_TREE_REFC);

	/* Two inserts, and as many when part of it is taken back. */
	return 4 * bt_need_nodes(&t);
}

unsigned refc_credits(struct fs *fs)
{
	unsigned l = 1;

	for (uint32_t i = 0; i < fs->sb.nr_ags; i++)
		l = MAX(l, atomic_load(&fs->ags[i].stat_refc_level) + 1);
	/* As ag_credits: two changes, each a path and one node beside it; header, roots. */
	return 2 * 2 * l + 4;
}

uint64_t refc_room(const struct fs_ag *ag)
{
	/* Nodes are at least half full; what the levels above the leaves add is below a 100th. */
	const unsigned half = od_tree_max_recs(OD_TREE_REFC, true) / 2;
	const uint64_t leaves = DIV_ROUND_UP(ag->nr_blocks, half);

	return ag_mblk_to_fsb(ag->fs, leaves + leaves / 100 + 2);
}

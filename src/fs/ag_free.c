/* SPDX-License-Identifier: MIT */
/* The free space of a group: two trees, by place and by length, that always agree. */
#include "ag.h"

static struct bt_key len_key(uint64_t len, uint64_t start)
{
	return (struct bt_key){ len, start };
}

static uint64_t rec_len(const struct bt_rec *r)
{
	le64_t v;

	memcpy(&v, r->val, 8);
	return le64_get(v);
}

int ag_free_find_pos(struct fs_ag *ag, uint64_t at, unsigned flags, struct ag_extent *out)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS);
	struct bt_rec rec;
	int err = bt_lookup_le(&pos, (struct bt_key){ at, 0 }, flags, &rec);

	if (err)
		return err;
	if (at - rec.key.a >= rec_len(&rec))
		return -ENOENT;
	*out = (struct ag_extent){ rec.key.a, rec_len(&rec) };
	return 0;
}

int ag_free_prefetch(struct fs_ag *ag, const struct ag_extent *ext, uint64_t start, uint64_t len,
		     unsigned flags)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS), bylen = ag_tree(ag, OD_TREE_FREE_LEN);
	uint64_t front = start - ext->start, back = ext->len - front - len;
	int err = bt_prefetch(&pos, (struct bt_key){ ext->start, 0 }, flags);

	if (!err)
		err = bt_prefetch(&bylen, len_key(ext->len, ext->start), flags);
	if (!err && front)
		err = bt_prefetch(&bylen, len_key(front, ext->start), flags);
	if (!err && back)
		err = bt_prefetch(&bylen, len_key(back, start + len), flags);
	return err;
}

/* By place: what is left of [ext) once [start, len) is out. */
static int take_pos(struct jnl_handle *h, struct btree *pos, const struct ag_extent *ext,
		    uint64_t start, uint64_t len)
{
	uint64_t front = start - ext->start, back = ext->len - front - len;
	struct bt_key key = { ext->start, 0 };
	struct bt_key after = { start + len, 0 };
	le64_t front_val = le64_make(front), back_val = le64_make(back);
	int err;

	if (!front && !back)
		return bt_delete(pos, h, key);
	if (!front)
		return bt_replace(pos, h, key, after, &back_val);
	err = bt_update(pos, h, key, &front_val);
	if (!err && back)
		err = bt_insert(pos, h, after, &back_val);
	return err;
}

int ag_free_take(struct jnl_handle *h, struct fs_ag *ag, const struct ag_extent *ext, uint64_t start,
		 uint64_t len)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS), bylen = ag_tree(ag, OD_TREE_FREE_LEN);
	uint64_t front = start - ext->start, back;
	int err;

	lk_assert_held(&ag->lock);
	assert(start >= ext->start && len > 0 && front + len <= ext->len);
	back = ext->len - front - len;
	err = take_pos(h, &pos, ext, start, len);
	if (!err)
		err = bt_delete(&bylen, h, len_key(ext->len, ext->start));
	if (!err && front)
		err = bt_insert(&bylen, h, len_key(front, ext->start), NULL);
	if (!err && back)
		err = bt_insert(&bylen, h, len_key(back, start + len), NULL);
	if (err)
		return ag_abort(ag, err, "taking free space");
	lk_lock(&ag->cnt_lock);
	assert(ag->free_blocks >= len);
	ag->free_blocks -= len;
	lk_unlock(&ag->cnt_lock);
	return 0;
}

/* The free neighbours that [start, len) touches (len 0: none). Overlap is a double free. */
static int find_neighbours(struct fs_ag *ag, uint64_t start, uint64_t len, struct ag_extent *left,
			   struct ag_extent *right)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS);
	struct bt_rec rec;
	int err = bt_lookup_le(&pos, (struct bt_key){ start, 0 }, 0, &rec);

	*left = *right = (struct ag_extent){ 0, 0 };
	if (!err) {
		uint64_t end = rec.key.a + rec_len(&rec);

		if (end > start)
			return fs_corrupt(ag->fs, "free space", ag->agno, "freed-twice");
		if (end == start)
			*left = (struct ag_extent){ rec.key.a, rec_len(&rec) };
	} else if (err != -ENOENT) {
		return err;
	}
	err = bt_lookup_ge(&pos, (struct bt_key){ start, 0 }, 0, &rec);
	if (!err) {
		if (rec.key.a < start + len)
			return fs_corrupt(ag->fs, "free space", ag->agno, "freed-twice");
		if (rec.key.a == start + len)
			*right = (struct ag_extent){ rec.key.a, rec_len(&rec) };
	} else if (err != -ENOENT) {
		return err;
	}
	return 0;
}

static int add_prefetch(struct fs_ag *ag, const struct ag_extent *left,
			const struct ag_extent *right, const struct ag_extent *whole)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS), bylen = ag_tree(ag, OD_TREE_FREE_LEN);
	int err = bt_prefetch(&pos, (struct bt_key){ whole->start, 0 }, 0);

	if (!err && left->len)
		err = bt_prefetch(&bylen, len_key(left->len, left->start), 0);
	if (!err && right->len)
		err = bt_prefetch(&bylen, len_key(right->len, right->start), 0);
	if (!err && right->len)
		err = bt_prefetch(&pos, (struct bt_key){ right->start, 0 }, 0);
	if (!err)
		err = bt_prefetch(&bylen, len_key(whole->len, whole->start), 0);
	return err;
}

static int add_pos(struct jnl_handle *h, struct btree *pos, const struct ag_extent *left,
		   const struct ag_extent *right, const struct ag_extent *whole)
{
	struct bt_key key = { whole->start, 0 }, right_key = { right->start, 0 };
	le64_t val = le64_make(whole->len);
	int err = 0;

	if (left->len && right->len)
		err = bt_delete(pos, h, right_key);
	if (err)
		return err;
	if (left->len)
		return bt_update(pos, h, key, &val);
	if (right->len)
		return bt_replace(pos, h, right_key, key, &val);
	return bt_insert(pos, h, key, &val);
}

int ag_free_add(struct jnl_handle *h, struct fs_ag *ag, uint64_t start, uint64_t len)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS), bylen = ag_tree(ag, OD_TREE_FREE_LEN);
	struct ag_extent left, right, whole;
	struct busy_ext *busy;
	int err;

	lk_assert_held(&ag->lock);
	if (!od_fsb_range_ok(&ag->fs->od, start, len) || start < ag->start)
		return fs_corrupt(ag->fs, "free space", ag->agno, "freed-out-of-bounds");
	err = find_neighbours(ag, start, len, &left, &right);
	if (err)
		return err;
	whole.start = left.len ? left.start : start;
	whole.len = left.len + len + right.len;
	err = add_prefetch(ag, &left, &right, &whole);
	if (err)
		return err;
	busy = busy_prepare(h, ag, &ag->busy, start, len);
	if (!busy)
		return -ENOMEM;
	err = add_pos(h, &pos, &left, &right, &whole);
	if (!err && left.len)
		err = bt_delete(&bylen, h, len_key(left.len, left.start));
	if (!err && right.len)
		err = bt_delete(&bylen, h, len_key(right.len, right.start));
	if (!err)
		err = bt_insert(&bylen, h, len_key(whole.len, whole.start), NULL);
	if (err) {
		busy_cancel(busy);
		return ag_abort(ag, err, "adding free space");
	}
	/* In one step, so that nobody counts on these blocks in between. */
	lk_lock(&ag->cnt_lock);
	busy_insert(ag, &ag->busy, busy);
	ag->free_blocks += len;
	assert(ag->free_blocks <= ag->nr_blocks);
	lk_unlock(&ag->cnt_lock);
	return 0;
}

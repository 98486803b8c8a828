/* SPDX-License-Identifier: MIT */
/*
 * Changes of the extent map. Each step first finds and fetches everything it needs, so that
 * nothing fails once a block was touched; then it frees or takes space and changes the
 * record in the same handle. Neighbours that continue each other become one record.
 */
#include "extent.h"

/* b continues a: in the file, on the device and in state. */
static bool continues(const struct extent *a, const struct extent *b)
{
	return ext_end(a) == b->fblk && a->start + a->len == b->start &&
	       a->unwritten == b->unwritten && a->len + b->len <= OD_EXTENT_LEN_MAX;
}

static struct extent joined(const struct extent *a, const struct extent *b)
{
	struct extent e = *a;

	assert(continues(a, b));
	e.len += b->len;
	return e;
}

/* The part of e in [from, end), both inside e. */
static struct extent cut(const struct extent *e, uint64_t from, uint64_t end)
{
	assert(from >= e->fblk && end <= ext_end(e) && from < end);
	return (struct extent){ .fblk = from,
				.start = e->start + (from - e->fblk),
				.len = end - from,
				.unwritten = e->unwritten };
}

/* What stands next to [fblk, end) in the map; len 0: nothing. Fetches what a change there touches. */
struct around {
	struct extent left, right;
};

static int look_around(struct fs_inode *ip, uint64_t fblk, uint64_t end, struct around *a)
{
	struct extent e;
	int err;

	*a = (struct around){ 0 };
	err = ext_prefetch(ip, fblk, 0);
	if (!err && fblk > 0) {
		err = ext_find(ip, fblk - 1, 0, &e);
		if (err == 1 && e.fblk < fblk) {
			a->left = e;
			err = ext_prefetch(ip, e.fblk, 0);
		}
	}
	if (err < 0)
		return err;
	err = ext_find(ip, end, 0, &e);
	if (err == 1) {
		a->right = e;
		err = ext_prefetch(ip, e.fblk, 0);
	}
	return err < 0 ? err : 0;
}

/* A step that failed after its first change leaves the map torn in memory: nothing may be logged. */
static int must(struct fs_inode *ip, int err)
{
	if (err)
		jnl_abort(ip->fs->jnl, err, "extent map change failed half-way");
	return err;
}

static int insert_found(struct fs_inode *ip, struct ext_tx *tx, const struct extent *e,
			const struct around *a)
{
	const bool with_left = a->left.len && continues(&a->left, e);
	const bool with_right = a->right.len && continues(e, &a->right);
	struct extent n = with_left ? joined(&a->left, e) : *e;
	int err;

	tx->changed = true;
	/* Joined on both sides it might pass the length limit: then only the left one. */
	if (with_right && continues(&n, &a->right)) {
		struct extent all = joined(&n, &a->right);

		if (!with_left)
			return ext_store_replace(tx->h, ip, a->right.fblk, &all);
		err = ext_store_delete(tx->h, ip, a->right.fblk);
		if (err)
			return err;
		return ext_store_replace(tx->h, ip, a->left.fblk, &all);
	}
	if (with_left)
		return ext_store_replace(tx->h, ip, a->left.fblk, &n);
	return ext_store_insert(tx->h, ip, e);
}

int ext_insert(struct fs_inode *ip, struct ext_tx *tx, const struct extent *e)
{
	struct around a;
	int err;

	lk_assert_held(&ip->extlock);
	err = look_around(ip, e->fblk, ext_end(e), &a);
	if (err)
		return err;
	assert(!a.left.len || ext_end(&a.left) <= e->fblk);
	assert(!a.right.len || a.right.fblk >= ext_end(e));
	return must(ip, insert_found(ip, tx, e, &a));
}

/*
 * Near what precedes it in the file; a file's first blocks near its inode. Files that
 * are written at the same time then still grow apart, because each asks for its whole run.
 */
static uint64_t alloc_hint(struct fs_inode *ip, uint64_t fblk, const struct around *a)
{
	if (a->left.len)
		return a->left.start + (fblk - a->left.fblk);
	if (a->right.len && a->right.start > a->right.fblk - fblk)
		return a->right.start - (a->right.fblk - fblk);
	if (ip->alloc_hint)
		return ip->alloc_hint;
	return (od_ino_mblk(ip->ino) << OD_MBLK_SHIFT) >> ip->fs->block_shift;
}

int ext_alloc(struct fs_inode *ip, struct ext_tx *tx, uint64_t fblk, uint64_t want, uint64_t *got)
{
	struct fs_alloc_req req = { .min = 1, .want = MIN(want, OD_EXTENT_LEN_MAX), .align = 1 };
	struct extent e;
	struct around a;
	int err;

	lk_assert_held(&ip->extlock);
	assert(want > 0);
	err = look_around(ip, fblk, fblk + req.want, &a);
	if (err)
		return err;
	req.hint = alloc_hint(ip, fblk, &a);
	if (req.hint >= ip->fs->sb.nr_blocks)
		req.hint = 0;
	err = ag_alloc_blocks(ip->fs, tx->h, 0, &req);
	if (err)
		return err;
	assert(req.len >= 1 && req.len <= req.want);
	e = (struct extent){ .fblk = fblk, .start = req.start, .len = req.len, .unwritten = true };
	/* The right neighbour is only next to it if all of the hole was filled. */
	if (a.right.len && a.right.fblk != ext_end(&e))
		a.right.len = 0;
	err = must(ip, insert_found(ip, tx, &e, &a));
	if (err)
		return err;
	ip->nr_blocks += req.len << (ip->fs->block_shift - 9);
	ip->alloc_hint = req.start + req.len;
	*got = req.len;
	return 0;
}

/* mid takes the place of its part of the extent r; a holds r's neighbours. */
static int replace_found(struct fs_inode *ip, struct ext_tx *tx, const struct extent *r,
			 struct extent mid, const struct around *a)
{
	const uint64_t from = mid.fblk, end = ext_end(&mid);
	const bool keep_l = from > r->fblk, keep_r = end < ext_end(r);
	struct jnl_handle *h = tx->h;
	struct extent l, rest;
	int err = 0;

	assert(from >= r->fblk && end <= ext_end(r));
	tx->changed = true;
	if (!keep_l && a->left.len && continues(&a->left, &mid)) {
		/* The usual case: a file that grows into its preallocation. */
		struct extent n = joined(&a->left, &mid);

		if (keep_r) {
			rest = cut(r, end, ext_end(r));
			err = ext_store_replace(h, ip, r->fblk, &rest);
		} else {
			err = ext_store_delete(h, ip, r->fblk);
			if (!err && a->right.len && continues(&n, &a->right)) {
				err = ext_store_delete(h, ip, a->right.fblk);
				n = joined(&n, &a->right);
			}
		}
		return err ? err : ext_store_replace(h, ip, a->left.fblk, &n);
	}
	if (!keep_r && a->right.len && continues(&mid, &a->right)) {
		struct extent n = joined(&mid, &a->right);

		if (keep_l) {
			l = cut(r, r->fblk, from);
			err = ext_store_replace(h, ip, r->fblk, &l);
		} else {
			err = ext_store_delete(h, ip, r->fblk);
		}
		return err ? err : ext_store_replace(h, ip, a->right.fblk, &n);
	}
	if (keep_l) {
		l = cut(r, r->fblk, from);
		err = ext_store_replace(h, ip, r->fblk, &l);
		if (!err)
			err = ext_store_insert(h, ip, &mid);
	} else {
		err = ext_store_replace(h, ip, r->fblk, &mid);
	}
	if (!err && keep_r) {
		rest = cut(r, end, ext_end(r));
		err = ext_store_insert(h, ip, &rest);
	}
	if (keep_l || keep_r)
		atomic_fetch_add(&ip->fs->stat_splits, 1);
	return err;
}

int ext_convert_step(struct fs_inode *ip, struct ext_tx *tx, uint64_t *fblk, uint64_t end)
{
	struct extent r, mid;
	struct around a;
	uint64_t to;
	int err;

	lk_assert_held(&ip->extlock);
	assert(*fblk < end);
	err = ext_find(ip, *fblk, 0, &r);
	if (err < 0)
		return err;
	if (err == 0 || r.fblk >= end) {
		*fblk = end;
		return 0;
	}
	to = MIN(end, ext_end(&r));
	if (r.unwritten) {
		err = ext_prefetch(ip, r.fblk, 0);
		if (!err)
			err = look_around(ip, r.fblk, ext_end(&r), &a);
		if (err)
			return err;
		mid = cut(&r, MAX(*fblk, r.fblk), to);
		mid.unwritten = false;
		err = must(ip, replace_found(ip, tx, &r, mid, &a));
		if (err)
			return err;
	}
	*fblk = to;
	return 0;
}

/* This file is no longer an owner of the blocks, or of the last (first) of them: *n. */
static int put_blocks(struct fs_inode *ip, struct ext_tx *tx, uint64_t start, uint64_t len,
		      bool from_end, uint64_t *n)
{
	*n = len;
	if (fs_may_share(ip))
		return refc_put(ip->fs, tx->h, start, len, from_end, n);
	return ag_free_blocks(ip->fs, tx->h, start, len);
}

int ext_free_step(struct fs_inode *ip, struct ext_tx *tx, uint64_t from, uint64_t end, bool *more)
{
	struct extent r, gone, l, rest;
	uint64_t n;
	int err;

	lk_assert_held(&ip->extlock);
	assert(from < end);
	*more = false;
	err = ext_find_le(ip, end - 1, 0, &r);
	if (err <= 0 || ext_end(&r) <= from)
		return err < 0 ? err : 0;
	gone = cut(&r, MAX(from, r.fblk), MIN(end, ext_end(&r)));
	err = ext_prefetch(ip, r.fblk, 0);
	if (err)
		return err;
	err = put_blocks(ip, tx, gone.start, gone.len, true, &n);
	if (err)
		return err;
	gone = cut(&gone, ext_end(&gone) - n, ext_end(&gone));
	tx->changed = true;
	*more = gone.fblk > from;
	if (gone.fblk > r.fblk) {
		l = cut(&r, r.fblk, gone.fblk);
		err = ext_store_replace(tx->h, ip, r.fblk, &l);
	}
	if (!err && ext_end(&gone) < ext_end(&r)) {
		rest = cut(&r, ext_end(&gone), ext_end(&r));
		err = gone.fblk > r.fblk ? ext_store_insert(tx->h, ip, &rest)
					 : ext_store_replace(tx->h, ip, r.fblk, &rest);
	} else if (!err && gone.fblk == r.fblk) {
		err = ext_store_delete(tx->h, ip, r.fblk);
	}
	assert(ip->nr_blocks >= gone.len << (ip->fs->block_shift - 9));
	ip->nr_blocks -= gone.len << (ip->fs->block_shift - 9);
	return must(ip, err);
}

/*
 * Space before the record. Held blocks come when it is known how many of the old ones go; shared ones
 * first, since what was freed cannot be had back, but one owner more can.
 */
static int remap_space(struct fs_inode *ip, struct ext_tx *tx, const struct extent *old,
		       const struct extent *e, bool share, uint64_t *n)
{
	struct fs *fs = ip->fs;
	uint64_t put = *n, done, back;
	int err = 0;

	if (share)
		err = refc_share(fs, tx->h, e->start, *n, n);
	if (!err && old->len)
		err = put_blocks(ip, tx, old->start, *n, false, &put);
	else
		put = *n;
	if (!share) {
		*n = put;
		return err ? err : must(ip, ag_take_held(fs, tx->h, e->start, put));
	}
	if (err && *n == 0)
		return err; /* nothing happened yet */
	for (done = err ? 0 : put; done < *n; done += back) {
		int undo = refc_put(fs, tx->h, e->start + done, *n - done, false, &back);

		if (undo)
			return must(ip, undo);
	}
	*n = put;
	return err;
}

int ext_remap_step(struct fs_inode *ip, struct ext_tx *tx, const struct extent *e, bool share,
		   uint64_t *done)
{
	struct extent r, old = { 0 }, mid = *e;
	struct around a;
	uint64_t n = e->len;
	int err;

	lk_assert_held(&ip->extlock);
	assert(tx->flags & EXT_TX_REMAP && !e->unwritten && n > 0);
	*done = 0;
	err = ext_find(ip, e->fblk, 0, &r);
	if (err < 0)
		return err;
	if (err == 1 && r.fblk <= e->fblk) {
		old = cut(&r, e->fblk, MIN(e->fblk + n, ext_end(&r)));
		n = old.len;
		if (old.start == e->start) {
			*done = n; /* it is there already */
			return 0;
		}
		err = ext_prefetch(ip, r.fblk, 0);
		if (!err)
			err = look_around(ip, r.fblk, ext_end(&r), &a);
	} else {
		if (err == 1)
			n = MIN(n, r.fblk - e->fblk);
		err = look_around(ip, e->fblk, e->fblk + n, &a);
	}
	if (!err)
		err = remap_space(ip, tx, &old, e, share, &n);
	if (err)
		return err;
	mid.len = n;
	/* The right neighbour is only next to it if all of the hole was filled. */
	if (!old.len && a.right.len && a.right.fblk != ext_end(&mid))
		a.right.len = 0;
	err = old.len ? replace_found(ip, tx, &r, mid, &a) : insert_found(ip, tx, &mid, &a);
	if (!old.len)
		ip->nr_blocks += n << (ip->fs->block_shift - 9);
	*done = n;
	return must(ip, err);
}

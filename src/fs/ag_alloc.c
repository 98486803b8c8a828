/* SPDX-License-Identifier: MIT */
/*
 * Data blocks: where to put them. In order: right at the hint (a file grows in place), the
 * next free extents behind it, the shortest extent of the group that holds all, the same in
 * the other groups; and only then the longest piece there is.
 */
#include "ag.h"

/* Extents looked at behind the hint before size rules alone. */
#define NEAR_SCAN 16

struct pick {
	struct ag_extent ext; /* free extent */
	struct ag_extent out; /* the part of it to take */
};

/* Shape a run that is free and not busy to the request; false if too short. */
static bool fit(const struct fs_alloc_req *req, uint64_t want, struct ag_extent run, bool align,
		struct ag_extent *out)
{
	if (align && req->align > 1) {
		uint64_t skip = (req->align - run.start % req->align) % req->align;

		if (skip >= run.len)
			return false;
		run.start += skip;
		run.len -= skip;
	}
	run.len = MIN(run.len, want);
	*out = run;
	return run.len > 0;
}

static bool try_ext(struct fs_ag *ag, const struct fs_alloc_req *req, uint64_t want,
		    uint64_t least, struct ag_extent ext, struct pick *p)
{
	struct ag_extent run = busy_trim(ag, ext.start, ext.len, want + (req->align > 1 ?
									   req->align - 1 :
									   0));

	if (!fit(req, want, run, true, &p->out) || p->out.len < least)
		return false;
	p->ext = ext;
	return true;
}

/* Exactly at the hint: what a file that grows wants, at any length >= min. */
static int pick_exact(struct fs_ag *ag, const struct fs_alloc_req *req, uint64_t want,
		      unsigned bflags, struct pick *p)
{
	struct ag_extent ext, run;
	int err = ag_free_find_pos(ag, req->hint, bflags, &ext);

	if (err)
		return err;
	run = busy_trim(ag, req->hint, ext.start + ext.len - req->hint, want);
	if (run.start != req->hint || !fit(req, want, run, false, &p->out) ||
	    p->out.len < req->min)
		return -ENOENT;
	p->ext = ext;
	return 0;
}

static int pick_near(struct fs_ag *ag, const struct fs_alloc_req *req, uint64_t want,
		     unsigned bflags, struct pick *p)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS);
	struct bt_rec rec[NEAR_SCAN];
	int n = bt_range(&pos, (struct bt_key){ req->hint, 0 }, bflags, rec, NEAR_SCAN);

	for (int i = 0; i < n; i++) {
		le64_t len;

		memcpy(&len, rec[i].val, 8);
		if (try_ext(ag, req, want, want,
			    (struct ag_extent){ rec[i].key.a, le64_get(len) }, p))
			return 0;
	}
	return n < 0 ? n : -ENOENT;
}

/* Shortest that holds `want`. */
static int pick_fit(struct fs_ag *ag, const struct fs_alloc_req *req, uint64_t want,
		    unsigned bflags, struct pick *p)
{
	struct btree bylen = ag_tree(ag, OD_TREE_FREE_LEN);
	struct bt_key from = { want, 0 };
	struct bt_rec rec[NEAR_SCAN];

	for (;;) {
		int n = bt_range(&bylen, from, bflags, rec, NEAR_SCAN);

		if (n <= 0)
			return n < 0 ? n : -ENOENT;
		for (int i = 0; i < n; i++)
			if (try_ext(ag, req, want, want,
				    (struct ag_extent){ rec[i].key.b, rec[i].key.a }, p))
				return 0;
		from = rec[n - 1].key;
		from.b++;
	}
}

/* Longest piece of at least min. Extents descend by length, so the first good one may end it. */
static int pick_longest(struct fs_ag *ag, const struct fs_alloc_req *req, uint64_t want,
			unsigned bflags, struct pick *p)
{
	struct btree bylen = ag_tree(ag, OD_TREE_FREE_LEN);
	struct fs_alloc_req plain = *req;
	struct pick best = { .out.len = 0 };
	struct bt_rec rec;
	int err = bt_last(&bylen, bflags, &rec);

	plain.align = 0;
	while (!err && rec.key.a >= req->min && rec.key.a > best.out.len) {
		struct ag_extent ext = { rec.key.b, rec.key.a };

		if (try_ext(ag, &plain, want, MAX(req->min, best.out.len + 1), ext, p))
			best = *p;
		if (rec.key.b == 0)
			break;
		err = bt_lookup_le(&bylen, (struct bt_key){ rec.key.a, rec.key.b - 1 }, bflags,
				   &rec);
	}
	if (err && err != -ENOENT)
		return err;
	*p = best;
	return best.out.len >= req->min && best.out.len > 0 ? 0 : -ENOENT;
}

static int pick_in_group(struct fs_ag *ag, const struct fs_alloc_req *req, unsigned flags,
			 bool any_length, struct pick *p)
{
	unsigned bflags = flags & FS_NOWAIT ? BUF_NOWAIT : 0;
	uint64_t want = MIN(req->want, ag_usable(ag));
	int err = -ENOENT;

	if (want < req->min || want == 0 || (!any_length && want < req->want))
		return -ENOENT;
	if (any_length)
		return pick_longest(ag, req, want, bflags, p);
	if (req->hint && ag == ag_of_fsb(ag->fs, req->hint)) {
		err = pick_exact(ag, req, want, bflags, p);
		if (err == -ENOENT)
			err = pick_near(ag, req, want, bflags, p);
	}
	if (err == -ENOENT)
		err = pick_fit(ag, req, want, bflags, p);
	return err;
}

int ag_pick(struct fs_ag *ag, const struct fs_alloc_req *req, unsigned flags, bool any_length,
	    struct ag_extent *ext, struct ag_extent *out)
{
	struct pick p;
	int err;

	lk_assert_held(&ag->lock);
	err = pick_in_group(ag, req, flags, any_length, &p);
	if (!err) {
		*ext = p.ext;
		*out = p.out;
	}
	return err;
}

static int take_in_group(struct fs *fs, struct jnl_handle *h, struct fs_ag *ag, unsigned flags,
			 struct fs_alloc_req *req, bool any_length)
{
	struct pick p;
	int err = ag_lock(ag, flags);

	if (err)
		return err;
	err = pick_in_group(ag, req, flags, any_length, &p);
	if (!err)
		err = ag_free_prefetch(ag, &p.ext, p.out.start, p.out.len,
				       flags & FS_NOWAIT ? BUF_NOWAIT : 0);
	if (err) {
		lk_unlock(&ag->lock);
		return err;
	}
	err = ag_fix_reserve(h, ag);
	/* Filling the reserve may have carved up what was picked. */
	if (!err)
		err = pick_in_group(ag, req, 0, any_length, &p);
	if (!err)
		err = ag_free_prefetch(ag, &p.ext, p.out.start, p.out.len, 0);
	if (!err)
		err = ag_free_take(h, ag, &p.ext, p.out.start, p.out.len);
	ag_end(h, ag);
	if (err)
		return err;
	req->start = p.out.start;
	req->len = p.out.len;
	space_consume(fs, req->len);
	atomic_fetch_add(&fs->stat_alloc_calls, 1);
	atomic_fetch_add(&fs->stat_alloc_blocks, req->len);
	return 0;
}

int ag_walk_groups(struct fs *fs, struct fs_alloc_req *req, ag_walk_fn fn, void *arg)
{
	uint32_t nr = fs->sb.nr_ags, home = 0;

	assert(req->min >= 1 && req->want >= req->min);
	if (req->hint >= fs->sb.nr_blocks)
		req->hint = 0;
	if (req->hint)
		home = ag_of_fsb(fs, req->hint)->agno;
	for (unsigned pass = 0; pass < 2; pass++) {
		uint64_t least = (pass ? req->min : req->want) << fs->sb.block_shift;

		for (uint32_t i = 0; i < nr; i++) {
			struct fs_ag *ag = &fs->ags[(home + i) % nr];
			int err;

			if (atomic_load(&ag->stat_free_bytes) < least)
				continue;
			err = fn(ag, req, pass > 0, arg);
			if (err != -ENOENT)
				return err;
		}
	}
	return -ENOSPC;
}

struct take {
	struct jnl_handle *h;
	unsigned flags;
};

static int take_fn(struct fs_ag *ag, struct fs_alloc_req *req, bool any_length, void *arg)
{
	const struct take *t = arg;

	return take_in_group(ag->fs, t->h, ag, t->flags, req, any_length);
}

int ag_alloc_blocks(struct fs *fs, struct jnl_handle *h, unsigned flags, struct fs_alloc_req *req)
{
	struct take t = { .h = h, .flags = flags };

	return ag_walk_groups(fs, req, take_fn, &t);
}

int ag_free_blocks(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len)
{
	struct fs_ag *ag;
	int err;

	if (!od_fsb_range_ok(&fs->od, start, len))
		return fs_corrupt(fs, "extent", start, "freed-out-of-bounds");
	ag = ag_of_fsb(fs, start);
	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	if (!err)
		err = ag_free_add(h, ag, start, len);
	ag_end(h, ag);
	if (!err)
		atomic_fetch_add(&fs->stat_free_calls, 1);
	return err;
}

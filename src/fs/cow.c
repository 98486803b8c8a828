/* SPDX-License-Identifier: MIT */
/*
 * Copy on write. A write to a block with several owners gets a block of its own, and the file's map
 * follows once the data is there:
 *
 *	buffered write      writeback                 completion
 *	promise a block,
 *	dirty the cache
 *	                    stage: hold a block,
 *	                    write to it ->
 *	                                              one transaction: block used, map
 *	                                              changed, one owner less for the old one
 *
 * Until then readers that miss the cache find the old block, and so does a power cut. A write to a block
 * that is in flight needs no promise: when its turn comes the block is the file's own. Should the
 * write in flight have failed, writeback finds neither, and reserves late.
 */
#include <stdlib.h>

#include "extent.h"

static struct da_range *cow_find(struct fs_inode *ip, uint64_t fblk)
{
	return da_tree_find(&ip->delalloc->cow, fblk);
}

static void map_moved(struct fs_inode *ip)
{
	atomic_fetch_add(&ip->map_seq, 1);
}

/* Cut m to [.., end). */
static void map_trim(struct fs_inode *ip, struct iomap *m, uint64_t end)
{
	const uint64_t pos = end << ip->fs->block_shift;

	assert(pos > m->offset);
	if (iomap_end(m) > pos)
		m->length = pos - m->offset;
}

static uint64_t map_fsb(struct fs_inode *ip, const struct iomap *m, uint64_t fblk)
{
	return iomap_sector_addr(m, fblk << ip->fs->block_shift) >> ip->fs->block_shift;
}

/* Is block fblk of m shared? m ends where the answer does. */
static int look_shared(struct fs_inode *ip, uint64_t fblk, bool nowait, bool settled,
		       struct iomap *m, bool *shared)
{
	const uint64_t len = fblk_of(ip->fs, iomap_end(m)) - fblk;
	uint32_t refs;
	uint64_t run;
	int err;

	err = refc_query(ip->fs, map_fsb(ip, m, fblk), len, nowait ? FS_NOWAIT : 0, settled, &refs, &run);
	if (err)
		return err;
	map_trim(ip, m, fblk + run);
	*shared = refs > 1;
	return 0;
}

int cow_report(struct fs_inode *ip, uint64_t fblk, bool nowait, struct iomap *m)
{
	uint64_t skip;
	bool shared;
	int err;

	lk_assert_held(&ip->extlock);
	if (!fs_may_share(ip))
		return 0;
	err = look_shared(ip, fblk, nowait, false, m, &shared);
	if (err)
		return err;
	/* Its part before fblk may be shared otherwise. */
	skip = (fblk << ip->fs->block_shift) - m->offset;
	m->offset += skip;
	m->addr += skip;
	m->length -= skip;
	if (shared)
		m->flags |= IOMAP_F_SHARED;
	return 0;
}

/* ---- Files that share no more ---------------------------------------------------------------- */

void cow_none_left(struct fs_inode *ip)
{
	lk_assert_held(&ip->extlock);
	if (ip->nr_extents == 0 && ip->delalloc->cow_blocks == 0)
		ip->data_flags &= (uint16_t)~OD_DATAF_SHARED;
}

/* Has any block of the extent another owner, or had one before the last commit? */
static int extent_shared(struct fs_inode *ip, const struct extent *e, bool *shared)
{
	uint64_t run;
	int err = 0;

	*shared = false;
	/* Unwritten blocks never are. */
	for (uint64_t at = 0; !e->unwritten && !err && !*shared && at < e->len; at += run) {
		uint32_t refs;

		err = refc_query(ip->fs, e->start + at, e->len - at, 0, true, &refs, &run);
		*shared = refs > 1;
	}
	return err;
}

int cow_try_unflag(struct fs_inode *ip)
{
	struct extent e = { 0 };
	struct ext_tx tx;
	bool shared = false;
	int found, err = 0;

	if (!fs_may_share(ip))
		return 0;
	do {
		lk_lock(&ip->extlock);
		found = ext_find(ip, ext_end(&e), 0, &e);
		lk_unlock(&ip->extlock);
		if (found == 1)
			err = extent_shared(ip, &e, &shared);
	} while (found == 1 && !err && !shared);
	if (found < 0 || err || shared)
		return found < 0 ? found : err;
	err = ext_tx_begin(ip, EXT_TX_HARD, 0, &tx);
	if (err)
		return err;
	/* What is promised or staged is so since its block was shared: its turn will ask again. */
	if (ip->delalloc->cow_blocks == 0) {
		ip->data_flags &= (uint16_t)~OD_DATAF_SHARED;
		tx.dirty = true;
	}
	ext_tx_end(ip, &tx);
	return 0;
}

/* ---- Buffered writes ------------------------------------------------------------------------- */

static void map_promise(struct fs_inode *ip, uint64_t fblk, uint64_t end, struct iomap *m,
			struct iomap *srcmap)
{
	*srcmap = *m;
	*m = (struct iomap){
		.type = IOMAP_DELALLOC,
		.flags = IOMAP_F_SHARED,
		.addr = IOMAP_NULL_ADDR,
		.offset = fblk << ip->fs->block_shift,
		.length = (end - fblk) << ip->fs->block_shift,
		.bdev = ip->fs->idev,
		.validity_cookie = atomic_load(&ip->map_seq),
	};
}

/* reserved: blocks, and what the map may need for them. -ENOMEM, nothing taken. */
static int cow_add(struct fs_inode *ip, uint64_t fblk, uint64_t len, uint64_t reserved)
{
	struct delalloc *da = ip->delalloc;
	int err;

	lk_assert_held(&ip->extlock);
	err = da_tree_add(da, &da->cow, fblk, len, 0);
	if (err)
		return err;
	da->cow_blocks += len;
	da->meta_fsb += reserved - len;
	da_meta_settle(ip);
	map_moved(ip);
	return 0;
}

int cow_map_write(struct fs_inode *ip, uint64_t pos, uint64_t length, unsigned flags, bool last_try,
		  struct iomap *m, struct iomap *srcmap, uint64_t *want)
{
	const uint64_t fblk = fblk_of(ip->fs, pos);
	struct da_range *r = cow_find(ip, fblk);
	uint64_t end, blocks, reserved;
	bool shared;
	int err;

	lk_assert_held(&ip->extlock);
	assert(m->type == IOMAP_MAPPED);
	if (r && r->fblk <= fblk) {
		end = MIN(da_end(r), fblk_of(ip->fs, iomap_end(m)));
		map_promise(ip, fblk, end, m, srcmap);
		return 0;
	}
	if (r)
		map_trim(ip, m, r->fblk);
	err = look_shared(ip, fblk, flags & IOMAP_NOWAIT, true, m, &shared);
	if (err || !shared)
		return err;
	blocks = MIN(fblk_up(ip->fs, pos + length), fblk_of(ip->fs, iomap_end(m))) - fblk;
	reserved = da_need(ip, blocks);
	err = space_reserve(ip->fs, reserved, false);
	while (err == -ENOSPC && last_try && blocks > 1) {
		blocks /= 2;
		reserved = da_need(ip, blocks);
		err = space_reserve(ip->fs, reserved, false);
	}
	if (err) {
		*want = reserved;
		return err;
	}
	err = cow_add(ip, fblk, blocks, reserved);
	if (err) {
		space_unreserve(ip->fs, reserved);
		return err;
	}
	map_promise(ip, fblk, fblk + blocks, m, srcmap);
	m->flags |= IOMAP_F_NEW;
	return 0;
}

/* ---- Staging --------------------------------------------------------------------------------- */

/* Blocks for the promise r from fblk on, as many as lie together. */
static int stage_promise(struct fs_inode *ip, struct da_range *r, uint64_t fblk)
{
	struct delalloc *da = ip->delalloc;
	struct fs_alloc_req req = { .min = 1, .align = 1 };
	struct da_range *second;
	int err;

	assert(r->start == 0 && r->fblk <= fblk && fblk < da_end(r));
	req.want = MIN(da_end(r) - fblk, OD_EXTENT_LEN_MAX);
	req.hint = ip->alloc_hint;
	/* Both nodes first: once blocks are held, nothing may fail. */
	second = malloc(sizeof(*second));
	if (!da->spare)
		da->spare = malloc(sizeof(*da->spare));
	err = second && da->spare ? ag_hold_blocks(ip->fs, 0, &req) : -ENOMEM;
	if (err)
		goto out_free;
	da_tree_cut(da, &da->cow, r, fblk, fblk + req.len);
	if (!da->spare) {
		da->spare = second;
		second = NULL;
	}
	err = da_tree_add(da, &da->cow, fblk, req.len, req.start);
	assert(!err);
	ip->alloc_hint = req.start + req.len;
	map_moved(ip);
out_free:
	free(second);
	return err;
}

/* m becomes where the staged range r has fblk. */
static void map_staged(struct fs_inode *ip, const struct da_range *r, struct iomap *m)
{
	const unsigned shift = ip->fs->block_shift;

	*m = (struct iomap){
		.type = IOMAP_MAPPED,
		.flags = IOMAP_F_SHARED,
		.addr = r->start << shift,
		.offset = r->fblk << shift,
		.length = r->len << shift,
		.bdev = ip->fs->idev,
		.dax_dev = ip->fs->dax,
		.validity_cookie = atomic_load(&ip->map_seq),
	};
}

int cow_map_out(struct fs_inode *ip, uint64_t fblk, uint64_t nr_blocks, bool nowait, struct iomap *m)
{
	struct da_range *r = cow_find(ip, fblk);
	uint64_t reserved;
	bool shared;
	int err;

	lk_assert_held(&ip->extlock);
	if (!r || r->fblk > fblk) {
		if (r)
			map_trim(ip, m, r->fblk);
		err = look_shared(ip, fblk, nowait, true, m, &shared);
		if (err || !shared)
			return err;
		if (nr_blocks == 0)
			return -EREMCHG;
		/* Its promise went with a write that failed. */
		nr_blocks = MIN(nr_blocks, fblk_of(ip->fs, iomap_end(m)) - fblk);
		reserved = da_need(ip, nr_blocks);
		err = space_reserve(ip->fs, reserved, true);
		if (err)
			return err;
		err = cow_add(ip, fblk, nr_blocks, reserved);
		if (err) {
			space_unreserve(ip->fs, reserved);
			return err;
		}
		r = cow_find(ip, fblk);
	}
	if (r->start == 0) {
		if (nr_blocks == 0)
			return -EREMCHG;
		err = stage_promise(ip, r, fblk);
		if (err)
			return err;
		r = cow_find(ip, fblk);
	}
	assert(r->start && r->fblk <= fblk && fblk < da_end(r));
	map_staged(ip, r, m);
	return 0;
}

bool cow_staged_at(struct fs_inode *ip, uint64_t fblk, struct iomap *m)
{
	const struct da_range *r = cow_find(ip, fblk);

	lk_assert_held(&ip->extlock);
	if (!r || r->fblk > fblk || !r->start)
		return false;
	map_staged(ip, r, m);
	return true;
}

int cow_stage(struct fs_inode *ip, uint64_t fblk, uint64_t end)
{
	uint64_t need, blocks = MIN(end - fblk, OD_EXTENT_LEN_MAX);
	struct da_range *r;
	int err;

	lk_lock(&ip->extlock);
	/* What buffered writes were promised and did not use is as good as any. */
	da_remove(ip, fblk, fblk + blocks, false);
	cow_withdraw(ip, fblk, fblk + blocks);
	r = cow_find(ip, fblk);
	if (r && r->fblk <= fblk) {
		lk_unlock(&ip->extlock);
		return 0; /* staged by a write that did not get there */
	}
	if (r)
		blocks = MIN(blocks, r->fblk - fblk);
	need = da_need(ip, blocks);
	lk_unlock(&ip->extlock);
	err = space_reserve_or_flush(ip->fs, need, 0);
	if (err)
		return err;
	lk_lock(&ip->extlock);
	err = cow_add(ip, fblk, blocks, need);
	if (err) {
		space_unreserve(ip->fs, need);
	} else {
		err = stage_promise(ip, cow_find(ip, fblk), fblk);
		cow_withdraw(ip, fblk, fblk + blocks);
	}
	lk_unlock(&ip->extlock);
	return err;
}

/* ---- Taking back ------------------------------------------------------------------------------ */

static uint64_t take_back(struct fs_inode *ip, uint64_t fblk, uint64_t end, bool staged_too)
{
	struct delalloc *da = ip->delalloc;
	struct da_range *r = cow_find(ip, fblk);
	uint64_t total = 0, next, from, start, n;

	lk_assert_held(&ip->extlock);
	while (r && r->fblk < end) {
		next = da_end(r);
		from = MAX(fblk, r->fblk);
		start = r->start ? r->start + (from - r->fblk) : 0;
		if (!start || staged_too) {
			n = da_tree_cut(da, &da->cow, r, fblk, end);
			if (n && start)
				ag_unhold(ip->fs, start, n);
			else if (n)
				space_unreserve(ip->fs, n);
			total += n;
		}
		r = next < end ? cow_find(ip, next) : NULL;
	}
	assert(da->cow_blocks >= total);
	da->cow_blocks -= total;
	if (total) {
		da_meta_settle(ip);
		map_moved(ip);
	}
	return total;
}

uint64_t cow_withdraw(struct fs_inode *ip, uint64_t fblk, uint64_t end)
{
	return take_back(ip, fblk, end, false);
}

uint64_t cow_cancel(struct fs_inode *ip, uint64_t fblk, uint64_t end)
{
	return take_back(ip, fblk, end, true);
}

void cow_failed(struct fs_inode *ip, uint64_t pos, uint64_t len)
{
	lk_lock(&ip->extlock);
	cow_cancel(ip, fblk_of(ip->fs, pos), fblk_up(ip->fs, pos + len));
	lk_unlock(&ip->extlock);
}

/* ---- Completion -------------------------------------------------------------------------------- */

/* Put the first staged blocks of [*fblk, end) into the map; *fblk moves past them. */
static int complete_step(struct fs_inode *ip, struct ext_tx *tx, uint64_t *fblk, uint64_t end)
{
	struct delalloc *da = ip->delalloc;
	struct da_range *r = cow_find(ip, *fblk);
	struct extent e;
	uint64_t done;
	int err;

	while (r && r->fblk < end && r->start == 0)
		r = cow_find(ip, da_end(r));
	if (!r || r->fblk >= end) {
		*fblk = end;
		return 0;
	}
	e.fblk = MAX(*fblk, r->fblk);
	e.start = r->start + (e.fblk - r->fblk);
	e.len = MIN(end, da_end(r)) - e.fblk;
	e.unwritten = false;
	/* To split the range: what has its place in the map must not stay here. */
	if (!da->spare)
		da->spare = malloc(sizeof(*da->spare));
	if (!da->spare)
		return -ENOMEM;
	err = ext_remap_step(ip, tx, &e, false, &done);
	if (err)
		return err;
	done = da_tree_cut(da, &da->cow, r, e.fblk, e.fblk + done);
	assert(done);
	da->cow_blocks -= done;
	da_meta_settle(ip);
	*fblk = e.fblk + done;
	return 0;
}

int ext_complete_cow(struct fs_inode *ip, uint64_t pos, uint64_t len, bool grow, bool at_once)
{
	const uint64_t end = fblk_up(ip->fs, pos + len);
	uint64_t fblk = fblk_of(ip->fs, pos);
	const unsigned extra = at_once ? fs_untorn_credits(ip->fs, end - fblk - 1) : 0;
	struct ext_tx tx;
	int err;

	assert(len > 0 && pos + len > pos);
	do {
		err = ext_tx_begin(ip, EXT_TX_HARD | EXT_TX_PROMISED | EXT_TX_REMAP, extra, &tx);
		if (err)
			return err;
		while (!err && fblk < end && (at_once || ext_tx_room(ip, &tx)))
			err = complete_step(ip, &tx, &fblk, end);
		/* Half of it must never be committed. */
		if (err && at_once && tx.changed)
			jnl_abort(ip->fs->jnl, err, "an untorn write failed half-way");
		if (!err && fblk >= end)
			ext_raise_size(ip, &tx, pos + len, grow);
		ext_tx_end(ip, &tx);
	} while (!err && fblk < end);
	return err;
}

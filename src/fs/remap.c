/* SPDX-License-Identifier: MIT */
/*
 * Clone and dedupe: extents of one file put into another, with a count of owners. Both files are
 * held still, by i_rwsem and invalidate_lock, with no direct I/O in flight and nothing dirty where blocks
 * are about to be shared:
 *
 *	clone A to B                          a writer of A
 *	A's block has one owner
 *	                                      has one owner: write in place
 *	A and B share the block
 *	                                      data goes to the device  <- B sees it
 *
 * Each step shares or replaces one run of blocks in one transaction, the size included, so that a power
 * cut leaves whole blocks, old or new, in order of their place in the file.
 */
#include "dax.h"

struct remap {
	struct fs_ctx *ctx;
	struct fs_inode *in, *out;
	uint64_t pos_in, pos_out, len;
};

/* ---- Locks ------------------------------------------------------------------------------------ */

static void lock_two(struct lk_rwlock *a, struct lk_rwlock *b, bool a_first)
{
	if (a == b) {
		lk_wrlock(a);
		return;
	}
	lk_wrlock(a_first ? a : b);
	lk_wrlock_nested(a_first ? b : a);
}

static void unlock_two(struct lk_rwlock *a, struct lk_rwlock *b)
{
	if (a != b)
		lk_rw_unlock(b);
	lk_rw_unlock(a);
}

static void lock_maps(struct remap *r)
{
	lock_two(&r->in->vfs.i_mapping.invalidate_lock, &r->out->vfs.i_mapping.invalidate_lock,
		 r->in->ino < r->out->ino);
}

static void unlock_maps(struct remap *r)
{
	unlock_two(&r->in->vfs.i_mapping.invalidate_lock,
		   &r->out->vfs.i_mapping.invalidate_lock);
}

/* ---- What is asked ------------------------------------------------------------------------------ */

static int may_remap(struct remap *r)
{
	if (!fs_is_reg(r->in) || !fs_is_reg(r->out))
		return S_ISDIR(r->in->mode) || S_ISDIR(r->out->mode) ? -EISDIR : -EINVAL;
	if (!r->in->fs->od.reflink)
		return -EOPNOTSUPP;
	if (atomic_load(&r->in->swap_pins))
		return -ETXTBSY;
	if (atomic_load(&r->in->state) & FS_I_BAD)
		return -EFSCORRUPTED;
	return fs_file_may_change(r->out, false);
}

/* Everything of the range on the device, and nothing on its way there. */
static int settle(struct fs_inode *ip, uint64_t pos, uint64_t len)
{
	int err;

	inode_dio_wait(&ip->vfs);
	/* A file of a few bytes has no block to share: it gets one. */
	err = fs_inline_leave(ip);
	if (!err && len)
		err = filemap_write_and_wait_range(&ip->vfs.i_mapping, pos, pos + len - 1);
	return err;
}

/*
 * No folio may know the target's old contents; folios are as large as they like, so whole ones go,
 * written first. Promises that nobody used go as well. Both locks exclusive.
 */
static int drop_target(struct fs_inode *ip, uint64_t pos, uint64_t len)
{
	const uint64_t unit = (uint64_t)FOLIO_PAGE_SIZE << FOLIO_MAX_ORDER;
	const uint64_t from = ROUND_DOWN(pos, unit), end = ROUND_UP(pos + len, unit);
	int err = filemap_write_and_wait_range(&ip->vfs.i_mapping, from, end - 1);

	if (err)
		return err;
	truncate_inode_pages_range(&ip->vfs.i_mapping, from, end - 1);
	dax_delete_mapping_range(&ip->vfs, pos, pos + len - 1);
	lk_lock(&ip->extlock);
	da_remove(ip, fblk_of(ip->fs, pos), fblk_up(ip->fs, pos + len), false);
	cow_cancel(ip, fblk_of(ip->fs, pos), fblk_up(ip->fs, pos + len));
	atomic_fetch_add(&ip->map_seq, 1);
	lk_unlock(&ip->extlock);
	return 0;
}

/* ---- Sharing -------------------------------------------------------------------------------------- */

/* From here on writes to the file ask whether a block is shared. */
static int set_shared(struct fs_inode *ip)
{
	struct ext_tx tx;
	int err;

	if (fs_may_share(ip))
		return 0;
	err = ext_tx_begin(ip, 0, 0, &tx);
	if (err)
		return err;
	ip->data_flags |= OD_DATAF_SHARED;
	tx.dirty = true;
	ext_tx_end(ip, &tx);
	return 0;
}

/* What `in` has at fblk: a written extent from there on, else len 0 with *skip blocks that read as zeros. */
static int source_at(struct remap *r, uint64_t fblk, uint64_t end, struct extent *e, uint64_t *skip)
{
	int err;

	lk_lock(&r->in->extlock);
	err = ext_find(r->in, fblk, 0, e);
	lk_unlock(&r->in->extlock);
	if (err < 0)
		return err;
	*skip = end - fblk;
	if (err == 0 || e->fblk > fblk || e->unwritten) {
		if (err == 1)
			*skip = MIN(*skip, (e->fblk > fblk ? e->fblk : ext_end(e)) - fblk);
		e->len = 0;
		return 0;
	}
	e->len = MIN(ext_end(e), end) - fblk;
	e->start += fblk - e->fblk;
	e->fblk = fblk;
	return 0;
}

/* Put the source extent e at file block `to` of the target; *done blocks. */
static int share_extent(struct remap *r, const struct extent *e, uint64_t to, uint64_t *done)
{
	const unsigned shift = r->out->fs->block_shift;
	struct extent at = { .fblk = to, .start = e->start, .len = e->len };
	struct ext_tx tx;
	uint64_t n = 0;
	int err;

	*done = 0;
	err = ext_tx_begin(r->out, EXT_TX_REMAP, 0, &tx);
	if (err)
		return err;
	do {
		err = ext_remap_step(r->out, &tx, &at, true, &n);
		*done += n;
		at = (struct extent){ .fblk = to + *done,
				      .start = e->start + *done,
				      .len = e->len - *done };
	} while (!err && at.len && ext_tx_room(r->out, &tx));
	if (*done)
		ext_raise_size(r->out, &tx,
			       MIN(r->pos_out + r->len, (to + *done) << shift), true);
	ext_tx_end(r->out, &tx);
	if (err == -EAGAIN)
		err = refc_top_up(r->out->fs, at.start);
	return err;
}

static int zero_target(struct remap *r, uint64_t to, uint64_t blocks)
{
	const uint64_t end = MIN(r->pos_out + r->len, (to + blocks) << r->out->fs->block_shift);
	struct ext_tx tx;
	int err = ext_punch_range(r->out, to, to + blocks);

	if (err || end <= disk_size_read(r->out))
		return err;
	err = ext_tx_begin(r->out, EXT_TX_HARD, 0, &tx);
	if (err)
		return err;
	ext_raise_size(r->out, &tx, end, true);
	ext_tx_end(r->out, &tx);
	return 0;
}

static int share_blocks(struct remap *r)
{
	struct fs *fs = r->in->fs;
	uint64_t fblk = fblk_of(fs, r->pos_in), to = fblk_of(fs, r->pos_out), n;
	const uint64_t end = fblk_up(fs, r->pos_in + r->len);
	struct extent e;
	int err;

	err = set_shared(r->in);
	if (!err)
		err = set_shared(r->out);
	while (!err && fblk < end) {
		err = source_at(r, fblk, end, &e, &n);
		if (!err && e.len)
			err = share_extent(r, &e, to, &n);
		else if (!err)
			err = zero_target(r, to, n);
		fblk += n;
		to += n;
	}
	return err;
}

/* invalidate_lock is held: what areas of the process store from here on faults, and waits for it. */
static int protect(struct fs_inode *ip, uint64_t pos, uint64_t len)
{
	if (!fs_is_dax(ip))
		return 0;
	return dax_writeback_mapping_range(&ip->vfs, ip->fs->dax, pos, pos + len - 1);
}

static int compare(struct remap *r)
{
	bool same;
	int err;

	if (fs_is_dax(r->in))
		err = dax_remap_compare(&r->in->vfs, r->pos_in, &r->out->vfs, r->pos_out, r->len,
					&fs_dax_read_iomap_ops, &same);
	else
		err = iomap_remap_compare(&r->in->vfs, r->pos_in, &r->out->vfs, r->pos_out, r->len,
					  &fs_read_iomap_ops, &same);
	return err ? err : same ? 0 : -EBADE;
}

/* ---- Whole operations -------------------------------------------------------------------------------- */

/* Between the target's end and the range lie zeros. Both locks exclusive. */
static int fill_gap(struct remap *r)
{
	return r->pos_out > i_size_read(&r->out->vfs) ? fs_extend_size(r->out, r->pos_out) : 0;
}

static int clone_locked(struct remap *r)
{
	int err;

	err = fs_kill_priv(r->ctx, r->out, false);
	if (!err)
		err = fs_file_touch(r->out, 0);
	if (!err)
		err = settle(r->in, r->pos_in, r->len);
	if (!err)
		err = settle(r->out, 0, 0);
	if (err)
		return err;
	lock_maps(r);
	err = protect(r->in, r->pos_in, r->len);
	if (!err)
		err = fill_gap(r);
	if (!err)
		err = drop_target(r->out, r->pos_out, r->len);
	if (!err)
		err = share_blocks(r);
	unlock_maps(r);
	return err;
}

static int dedupe_locked(struct remap *r)
{
	int err;

	err = settle(r->in, r->pos_in, r->len);
	if (!err)
		err = settle(r->out, r->pos_out, r->len);
	if (err)
		return err;
	lock_maps(r);
	err = protect(r->in, r->pos_in, r->len);
	/* A store to what was compared already would go with the target's blocks. */
	if (!err)
		err = protect(r->out, r->pos_out, r->len);
	if (!err)
		err = compare(r);
	if (!err)
		err = drop_target(r->out, r->pos_out, r->len);
	if (!err)
		err = share_blocks(r);
	unlock_maps(r);
	return err;
}

static int remap(struct remap *r, bool dedupe)
{
	int err;

	if (r->ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (r->pos_in > OD_FILE_SIZE_MAX || r->pos_out > OD_FILE_SIZE_MAX)
		return -EINVAL;
	err = fs_start_change(r->out->fs, 0);
	if (err)
		return err;
	lock_two(&r->in->vfs.i_rwsem, &r->out->vfs.i_rwsem, r->in->ino < r->out->ino);
	err = may_remap(r);
	if (!err)
		err = iomap_remap_checks(&r->in->vfs, r->pos_in, &r->out->vfs, r->pos_out, &r->len,
					 dedupe);
	if (!err && r->len)
		err = dedupe ? dedupe_locked(r) : clone_locked(r);
	unlock_two(&r->in->vfs.i_rwsem, &r->out->vfs.i_rwsem);
	fs_end_change(r->out->fs);
	return err;
}

int fs_clone_range(struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in, struct fs_inode *out,
		   uint64_t off_out, uint64_t len)
{
	struct remap r = { .ctx = ctx, .in = in, .out = out, .pos_in = off_in, .pos_out = off_out,
			   .len = len };

	return remap(&r, false);
}

int fs_dedupe_range(struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in, struct fs_inode *out,
		    uint64_t off_out, uint64_t len, uint64_t *deduped)
{
	struct remap r = { .ctx = ctx, .in = in, .out = out, .pos_in = off_in, .pos_out = off_out,
			   .len = len };
	int err = remap(&r, true);

	*deduped = err ? 0 : r.len;
	return err;
}

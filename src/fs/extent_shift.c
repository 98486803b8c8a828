/* SPDX-License-Identifier: MIT */
/*
 * Taking blocks out of the middle of a file, or putting a hole in: every extent behind moves,
 * in as many transactions as that takes. What is to be done, and how far it is, stands in the
 * inode, and the inode on the orphan list:
 *
 *	here                                  power cut
 *	intent: op, at, len, next; listed ->
 *	                                      mount goes on from `next`
 *	some extents, and `next` ->
 *	                                      mount goes on from `next`
 *	size; intent and listing go ->
 *	                                      done
 *
 *	commit ->
 *	                                      done, and what is written from now on is in its place
 *
 * The last wait is for the locks' sake: were they dropped before, an overwrite would change a block
 * that still has its old position on the device, and a power cut would show it there.
 * So the old contents or the new come back, never a part of both. What moves next never passes
 * its neighbours: upwards for a collapse, downwards for an insertion.
 */
#include "extent.h"

/* So that splits of nodes stay within what the handle's reservation can take. */
#define MOVES_PER_TX 64u
/* Moves of neighbours change the same blocks: a few more credits than one move takes do for many. */
#define MOVES_CREDITS 24u

static int must(struct fs_inode *ip, int err)
{
	if (err)
		jnl_abort(ip->fs->jnl, err, "moving an extent failed half-way");
	return err;
}

/* Behind `at` and on both sides of it. */
static int split_at(struct fs_inode *ip, struct ext_tx *tx, uint64_t at)
{
	struct extent e, left, rest;
	int err;

	err = ext_find(ip, at, 0, &e);
	if (err <= 0 || e.fblk >= at)
		return err < 0 ? err : 0;
	err = ext_prefetch(ip, e.fblk, 0);
	if (!err)
		err = ext_prefetch(ip, at, 0);
	if (err)
		return err;
	left = rest = e;
	left.len = at - e.fblk;
	rest.fblk = at;
	rest.start += left.len;
	rest.len -= left.len;
	tx->changed = true;
	err = ext_store_replace(tx->h, ip, e.fblk, &left);
	return must(ip, err ? err : ext_store_insert(tx->h, ip, &rest));
}

/* The next extent of a collapse; *more: there was one. */
static int move_down(struct fs_inode *ip, struct ext_tx *tx, bool *more)
{
	struct fs_shift *s = &ip->shift;
	const bool first = s->next == s->at + s->len;
	struct extent e, to;
	int err;

	err = ext_find(ip, s->next, 0, &e);
	*more = err == 1;
	if (err <= 0)
		return err;
	assert(e.fblk >= s->next && s->next >= s->at + s->len);
	to = e;
	to.fblk -= s->len;
	err = ext_prefetch(ip, e.fblk, 0);
	if (!err)
		err = ext_prefetch(ip, to.fblk, 0);
	if (err)
		return err;
	tx->changed = true;
	s->next = ext_end(&e);
	if (!first)
		return must(ip, ext_store_replace(tx->h, ip, e.fblk, &to));
	/* The one that may continue what stands before the range: the two become one record. */
	err = ext_store_delete(tx->h, ip, e.fblk);
	return must(ip, err ? err : ext_insert(ip, tx, &to));
}

/* The next extent of an insertion. */
static int move_up(struct fs_inode *ip, struct ext_tx *tx, bool *more)
{
	struct fs_shift *s = &ip->shift;
	struct extent e, to;
	int err;

	*more = false;
	if (s->next == s->at)
		return 0;
	err = ext_find_le(ip, s->next - 1, 0, &e);
	*more = err == 1 && e.fblk >= s->at;
	if (err < 0 || !*more)
		return err < 0 ? err : 0;
	assert(ext_end(&e) <= s->next);
	to = e;
	to.fblk += s->len;
	err = ext_prefetch(ip, e.fblk, 0);
	if (!err)
		err = ext_prefetch(ip, to.fblk, 0);
	if (err)
		return err;
	tx->changed = true;
	s->next = e.fblk;
	return must(ip, ext_store_replace(tx->h, ip, e.fblk, &to));
}

static int move_some(struct fs_inode *ip, bool *more)
{
	struct ext_tx tx;
	unsigned n = 0;
	int err;

	err = ext_tx_begin(ip, EXT_TX_HARD, MOVES_CREDITS, &tx);
	if (err)
		return err;
	do {
		err = ip->shift.op == OD_SHIFT_COLLAPSE ? move_down(ip, &tx, more) :
							  move_up(ip, &tx, more);
	} while (!err && *more && ++n < MOVES_PER_TX && ext_tx_room(ip, &tx));
	ext_tx_end(ip, &tx);
	HOOK("fs:shift_step", ip);
	return err;
}

/* Both ends of the work: the record on the list and in the inode come and go together. */
static int begin_tx(struct fs_inode *ip, struct ext_tx *tx)
{
	int err = orphan_prepare(ip, 0);

	return err ? err : ext_tx_begin(ip, EXT_TX_HARD, orphan_credits(ip->fs), tx);
}

static int finish(struct fs_inode *ip)
{
	const uint64_t bytes = ip->shift.len << ip->fs->block_shift;
	uint64_t size = i_size_read(&ip->vfs);
	struct ext_tx tx;
	int err;

	err = begin_tx(ip, &tx);
	if (err)
		return err;
	/* Unlinked meanwhile, it stays listed, as that. */
	if (!(atomic_load(&ip->state) & FS_I_ORPHAN))
		err = orphan_del(tx.h, ip);
	if (!err) {
		size = ip->shift.op == OD_SHIFT_COLLAPSE ? size - bytes : size + bytes;
		ip->shift = (struct fs_shift){ 0 };
		i_size_write(&ip->vfs, size);
		disk_size_write(ip, size);
		tx.dirty = true;
	}
	ext_tx_end(ip, &tx);
	return err;
}

/* The range of a collapse is free: from here on `next` tells what has moved. */
static int range_gone(struct fs_inode *ip)
{
	struct ext_tx tx;
	int err;

	err = ext_punch_range(ip, ip->shift.at, ip->shift.at + ip->shift.len);
	if (!err)
		err = ext_tx_begin(ip, EXT_TX_HARD, 0, &tx);
	if (err)
		return err;
	ip->shift.next = ip->shift.at + ip->shift.len;
	tx.dirty = true;
	ext_tx_end(ip, &tx);
	return 0;
}

int ext_shift_finish(struct fs_inode *ip)
{
	bool more = true;
	jnl_tid_t tid;
	int err = 0;

	assert(ip->shift.op != OD_SHIFT_NONE);
	if (ip->shift.op == OD_SHIFT_COLLAPSE && ip->shift.next == ip->shift.at)
		err = range_gone(ip);
	while (!err && more)
		err = move_some(ip, &more);
	if (!err)
		err = finish(ip);
	lk_lock(&ip->extlock);
	tid = ip->last_tid;
	lk_unlock(&ip->extlock);
	if (!err && !TEST_BREAK("shift-not-durable"))
		err = jnl_commit_wait(ip->fs->jnl, tid, NULL);
	if (!err)
		return 0;
	/* Neither the old contents nor the new: nobody may see them before it is finished. */
	atomic_fetch_or(&ip->state, FS_I_BAD);
	if (!fs_is_shutdown(ip->fs))
		log_err("inode %llu: a range could not be taken out or put in (%s); the file can not be "
			"used until the next mount has finished it",
			(unsigned long long)ip->ino, strerror(-err));
	return err;
}

int ext_shift(struct fs_inode *ip, enum od_shift op, uint64_t at, uint64_t len)
{
	struct ext_tx tx;
	int err;

	assert(len > 0 && ip->shift.op == OD_SHIFT_NONE);
	err = begin_tx(ip, &tx);
	if (err)
		return err;
	if (op == OD_SHIFT_INSERT)
		err = split_at(ip, &tx, at);
	if (!err)
		err = orphan_add(tx.h, ip, OD_ORPHAN_SHIFT);
	if (!err) {
		/* All that was promised is on the device, but for speculation past EOF. */
		da_remove(ip, at, UINT64_MAX, false);
		cow_cancel(ip, at, UINT64_MAX);
		ip->shift = (struct fs_shift){
			.op = op,
			.at = at,
			.len = len,
			.next = op == OD_SHIFT_COLLAPSE ? at : ext_max_fblk(ip->fs),
		};
		tx.changed = true;
	}
	ext_tx_end(ip, &tx);
	HOOK("fs:shift_step", ip);
	return err ? err : ext_shift_finish(ip);
}

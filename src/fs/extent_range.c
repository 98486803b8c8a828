/* SPDX-License-Identifier: MIT */
/*
 * Map changes over whole ranges, as chains of handles that each leave the map sound: a
 * crash between two leaves a prefix of the work done, which every caller can live with.
 */
#include "extent.h"

/*
 * Data of [pos, pos+len) is stable on the device: convert it, and only then let the size
 * on disk reach new_size, in the same transaction as the last conversion.
 *
 *	completion                         power cut
 *	data written ->
 *	                                   unwritten: reads zeros, old size
 *	convert + size in one commit ->
 *	                                   new data, new size
 */
void ext_raise_size(struct fs_inode *ip, struct ext_tx *tx, uint64_t size, bool grow)
{
	if (grow && size > i_size_read(&ip->vfs))
		i_size_write(&ip->vfs, size);
	/* A truncation that overtook the write has lowered i_size first. */
	size = MIN(size, i_size_read(&ip->vfs));
	if (size > ip->disk_size) {
		disk_size_write(ip, size);
		tx->dirty = true;
	}
}

int ext_complete_write(struct fs_inode *ip, uint64_t pos, uint64_t len, bool convert, bool grow)
{
	const uint64_t end = fblk_up(ip->fs, pos + len);
	uint64_t fblk = convert ? fblk_of(ip->fs, pos) : end;
	struct ext_tx tx;
	int err;

	assert(len > 0 && pos + len > pos);
	do {
		err = ext_tx_begin(ip, EXT_TX_HARD, 0, &tx);
		if (err)
			return err;
		while (!err && fblk < end && ext_tx_room(ip, &tx))
			err = ext_convert_step(ip, &tx, &fblk, end);
		if (!err && fblk >= end)
			ext_raise_size(ip, &tx, pos + len, grow);
		ext_tx_end(ip, &tx);
	} while (!err && fblk < end);
	return err;
}

int ext_punch_range(struct fs_inode *ip, uint64_t from, uint64_t end)
{
	struct ext_tx tx;
	bool more = true;
	int err;

	while (more) {
		/* Splitting an extent may need a node, also on a full device: that is the pool's. */
		err = ext_tx_begin(ip, EXT_TX_HARD, 0, &tx);
		if (err)
			return err;
		da_remove(ip, from, end, false);
		cow_cancel(ip, from, end);
		do {
			err = ext_free_step(ip, &tx, from, end, &more);
		} while (!err && more && ext_tx_room(ip, &tx));
		atomic_fetch_add(&ip->map_seq, 1);
		ext_tx_end(ip, &tx);
		if (err)
			return err;
	}
	return 0;
}

int extent_truncate(struct fs_inode *ip, uint64_t from)
{
	const uint64_t fblk = fblk_up(ip->fs, from);

	assert(fs_is_reg(ip));
	lk_lock(&ip->extlock);
	da_remove(ip, fblk, UINT64_MAX, false);
	cow_cancel(ip, fblk, UINT64_MAX);
	if (ip->delalloc->inline_out && from == 0)
		ip->delalloc->inline_out = false;
	atomic_fetch_add(&ip->map_seq, 1);
	if (ip->data_fmt == OD_DATA_INLINE || ip->nr_extents == 0) {
		lk_unlock(&ip->extlock);
		return 0;
	}
	lk_unlock(&ip->extlock);
	return ext_punch_range(ip, fblk, ext_max_fblk(ip->fs));
}

/* What stands at fblk: -ENODATA a hole of *len blocks at most, else *len blocks to skip. */
static int probe(struct fs_inode *ip, uint64_t fblk, uint64_t end, bool *promised, uint64_t *len)
{
	struct da_range *r;
	struct extent e;
	int err;

	lk_lock(&ip->extlock);
	*promised = false;
	*len = end - fblk;
	r = da_find(ip, fblk);
	if (r && r->fblk <= fblk) {
		*promised = true;
		*len = MIN(*len, da_end(r) - fblk);
		err = 0;
		goto out_unlock;
	}
	if (r)
		*len = MIN(*len, r->fblk - fblk);
	err = ext_find(ip, fblk, 0, &e);
	if (err == 1 && e.fblk <= fblk) {
		*len = MIN(*len, ext_end(&e) - fblk);
		err = 0;
	} else if (err >= 0) {
		if (err == 1)
			*len = MIN(*len, e.fblk - fblk);
		err = -ENODATA;
	}
out_unlock:
	lk_unlock(&ip->extlock);
	return err;
}

/* Allocate for a hole found by probe; it may have been filled since: then do nothing. */
static int fill_hole(struct fs_inode *ip, uint64_t fblk, uint64_t len, unsigned ctx_flags)
{
	uint64_t got = 0;
	struct ext_tx tx;
	struct extent e;
	int err;

	len = MIN(len, OD_EXTENT_LEN_MAX);
	err = space_reserve_or_flush(ip->fs, len, ctx_flags);
	if (err)
		return err;
	err = ext_tx_begin(ip, 0, 0, &tx);
	if (err)
		goto out_unreserve;
	if (!da_find(ip, fblk) || da_find(ip, fblk)->fblk >= fblk + len) {
		err = ext_find(ip, fblk, 0, &e);
		if (err == 0 || (err == 1 && e.fblk >= fblk + len))
			err = ext_alloc(ip, &tx, fblk, len, &got);
		else if (err == 1)
			err = 0;
	}
	ext_tx_end(ip, &tx);
out_unreserve:
	space_unreserve(ip->fs, len - got);
	return err;
}

int ext_alloc_range(struct fs_inode *ip, uint64_t from, uint64_t end, unsigned ctx_flags)
{
	uint64_t len;
	bool promised;
	int err;

	while (from < end) {
		err = probe(ip, from, end, &promised, &len);
		if (err == 0 && promised) {
			err = da_convert(ip, from);
		} else if (err == 0) {
			from += len;
		} else if (err == -ENODATA && ip->fs->shutdown) {
			err = -EIO;
		} else if (err == -ENODATA) {
			err = fill_hole(ip, from, len, ctx_flags);
		}
		if (err)
			return err;
	}
	return 0;
}

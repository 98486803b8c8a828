/* SPDX-License-Identifier: MIT */
/*
 * Changing a file's size. What keeps a power cut from showing stale bytes: on disk, the
 * bytes behind the size in its block are zero. So a shrink has its zeroed tail on the
 * device before the smaller size is committed, and blocks are freed only after that; a growth
 * has everything on the device that the larger size would expose.
 */
#include "dax.h"

int fs_zero_bytes(struct fs_inode *ip, uint64_t pos, uint64_t end, bool *did_zero)
{
	if (pos >= end)
		return 0;
	if (fs_is_dax(ip))
		return fs_dax_zero(ip, pos, end - pos, did_zero);
	return iomap_zero_range(&ip->vfs, pos, end - pos, did_zero, &fs_zero_iomap_ops,
				&fs_iomap_write_ops, NULL);
}

/*
 * Zero the part of one cached folio that lies in [pos, end). Its blocks there must not be
 * dirty (`flush` sees to it): they would be written to extents that are about to be freed.
 */
static int zero_cached(struct fs_inode *ip, uint64_t at, uint64_t pos, uint64_t end, bool flush)
{
	struct address_space *m = &ip->vfs.i_mapping;
	uint64_t from, to;
	struct folio *f;
	int err;

	err = filemap_get_folio(m, at, 0, FGP_LOCK, &f);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (flush && folio_test_dirty(f)) {
		from = folio_pos(f);
		to = from + folio_size(f) - 1;
		folio_unlock(f);
		err = filemap_write_and_wait_range(m, from, to);
		folio_lock(f);
	}
	if (!err && f->mapping == m) {
		folio_wait_writeback(f);
		from = MAX(pos, folio_pos(f));
		to = MIN(end, folio_pos(f) + folio_size(f));
		if (from < to && (from > folio_pos(f) || to < folio_pos(f) + folio_size(f)))
			memset((uint8_t *)f->data + offset_in_folio(f, from), 0, to - from);
	}
	folio_unlock(f);
	folio_put(f);
	return err;
}

int fs_drop_cache(struct fs_inode *ip, uint64_t pos, uint64_t end)
{
	const bool to_eof = end == UINT64_MAX;
	int err;

	assert(pos < end);
	dax_delete_mapping_range(&ip->vfs, pos, end - 1);
	/* Behind end of file nothing is written any more: dirty blocks there do no harm. */
	err = zero_cached(ip, pos, pos, end, !to_eof);
	if (!err && !to_eof)
		err = zero_cached(ip, end - 1, pos, end, true);
	if (!err)
		truncate_inode_pages_range(&ip->vfs.i_mapping, pos, to_eof ? end : end - 1);
	return err;
}

/* ---- Shrinking -------------------------------------------------------------------------------- */

/* Does freeing from `fblk` on need more than one transaction? */
static int is_long(struct fs_inode *ip, uint64_t fblk, bool *res)
{
	struct extent first, last;
	int err;

	lk_lock(&ip->extlock);
	err = ext_find(ip, fblk, 0, &first);
	if (err == 1)
		err = ext_find_le(ip, ext_max_fblk(ip->fs), 0, &last);
	/* A shared extent goes in as many steps as it has runs of owners. */
	*res = err == 1 && (first.fblk != last.fblk || fs_may_share(ip));
	lk_unlock(&ip->extlock);
	return err < 0 ? err : 0;
}

static int truncate_forget(struct fs_inode *ip)
{
	struct ext_tx tx;
	int err;

	err = orphan_prepare(ip, 0);
	if (!err)
		err = ext_tx_begin(ip, EXT_TX_HARD, orphan_credits(ip->fs), &tx);
	if (err)
		return err;
	/* Unlinked meanwhile, it stays listed, as that. */
	if (!(atomic_load(&ip->state) & FS_I_ORPHAN))
		err = orphan_del(tx.h, ip);
	cow_none_left(ip);
	tx.dirty = true;
	ext_tx_end(ip, &tx);
	return err;
}

/*
 * The smaller size, and the blocks behind it. In one transaction if one extent is concerned;
 * else the inode goes on the orphan list with the size, and mount finishes the job.
 */
static int shrink_on_disk(struct fs_inode *ip, uint64_t size)
{
	const uint64_t fblk = fblk_up(ip->fs, size), end = ext_max_fblk(ip->fs);
	const unsigned orphaned = FS_I_ORPHAN | FS_I_TRUNCATE;
	bool chain, listed = false, more = true;
	struct ext_tx tx;
	int err;

	err = is_long(ip, fblk, &chain);
	if (!err && chain)
		err = orphan_prepare(ip, 0);
	if (!err)
		err = ext_tx_begin(ip, EXT_TX_HARD, orphan_credits(ip->fs), &tx);
	if (err)
		return err;
	if (chain && !(atomic_load(&ip->state) & orphaned)) {
		err = orphan_add(tx.h, ip, OD_ORPHAN_TRUNCATE);
		listed = !err;
	}
	if (!err) {
		/* Also when it grows: what lay between was written before. */
		disk_size_write(ip, size);
		tx.dirty = true;
		da_remove(ip, fblk, UINT64_MAX, false);
		cow_cancel(ip, fblk, UINT64_MAX);
		atomic_fetch_add(&ip->map_seq, 1);
	}
	if (!err && fblk < end && !chain)
		err = ext_free_step(ip, &tx, fblk, end, &more);
	if (!err)
		cow_none_left(ip);
	ext_tx_end(ip, &tx);
	if (!err && chain)
		err = extent_truncate(ip, size);
	if (!err && listed)
		err = truncate_forget(ip);
	return err;
}

/* The new end in memory, and on the device what must be there before the new size is. */
static int shrink_in_memory(struct fs_inode *ip, uint64_t size)
{
	const uint64_t old = i_size_read(&ip->vfs), disk = disk_size_read(ip);
	const uint64_t bs = ip->fs->block_size;
	bool did_zero = false;
	uint64_t from = size;
	int err;

	assert(size <= old);
	if (fs_is_dax(ip))
		err = fs_dax_truncate_page(ip, size, &did_zero);
	else
		err = iomap_truncate_page(&ip->vfs, size, &did_zero, &fs_zero_iomap_ops,
					  &fs_iomap_write_ops, NULL);
	if (err)
		return err;
	i_size_write(&ip->vfs, size);
	err = fs_drop_cache(ip, size, UINT64_MAX);
	if (err)
		return err;
	if (did_zero)
		from = ROUND_DOWN(size, bs);
	if (size > disk && old != disk)
		from = MIN(from, disk);
	return from < size ? filemap_write_and_wait_range(&ip->vfs.i_mapping, from, size - 1) : 0;
}

static int shrink(struct fs_inode *ip, uint64_t size)
{
	int err;

	/* Blocks past EOF go too, whoever asked for them. */
	lk_lock(&ip->extlock);
	ip->delalloc->keep_eof = false;
	lk_unlock(&ip->extlock);
	err = shrink_in_memory(ip, size);
	if (!err)
		err = shrink_on_disk(ip, size);
	/* What is left behind the new end has no other owner any more: it is for the trim. */
	if (err)
		atomic_store(&ip->delalloc->speculated, true);
	return err;
}

/* ---- Growing ------------------------------------------------------------------------------------ */

int fs_extend_size(struct fs_inode *ip, uint64_t size)
{
	const uint64_t old = i_size_read(&ip->vfs), disk = disk_size_read(ip);
	const uint64_t bs = ip->fs->block_size;
	bool did_zero = false;
	uint64_t from = old;
	struct ext_tx tx;
	int err;

	assert(size >= old);
	err = fs_zero_bytes(ip, old, MIN(size, ROUND_UP(old, bs)), &did_zero);
	if (err)
		return err;
	da_withdraw_behind(ip, old, ext_max_fblk(ip->fs));
	i_size_write(&ip->vfs, size);
	pagecache_isize_extended(&ip->vfs, old, size);
	/* Data that is newer than the old size on disk must be there before the new one is. */
	if (did_zero)
		from = ROUND_DOWN(old, bs);
	if (old != disk)
		from = MIN(from, disk);
	if (from < old || did_zero)
		err = filemap_write_and_wait_range(&ip->vfs.i_mapping, from,
						   ROUND_UP(old, bs) - 1);
	if (!err)
		err = ext_tx_begin(ip, EXT_TX_HARD, 0, &tx);
	if (err)
		return err;
	disk_size_write(ip, MAX(size, ip->disk_size));
	tx.dirty = true;
	ext_tx_end(ip, &tx);
	return 0;
}

/* ---- truncate(2) ---------------------------------------------------------------------------------- */

/* Contents inside the inode: size and bytes change in one place. */
static void set_inline_size(struct fs_inode *ip, uint64_t size)
{
	i_size_write(&ip->vfs, size);
	truncate_inode_pages_range(&ip->vfs.i_mapping, 0, UINT64_MAX);
	lk_lock(&ip->extlock);
	fs_inline_set_size(ip, (unsigned)size);
	lk_unlock(&ip->extlock);
	fs_mark_inode_dirty(ip);
}

static int setsize_locked(struct fs_inode *ip, uint64_t size)
{
	struct lk_rwlock *maplock = &ip->vfs.i_mapping.invalidate_lock;
	const uint64_t old = i_size_read(&ip->vfs);
	bool fits;
	int err = 0;

	lk_lock(&ip->extlock);
	if (old > 0 && size == 0)
		atomic_store(&ip->emptied, true);
	fits = fs_is_inline(ip) && size <= fs_inline_cap(ip);
	lk_unlock(&ip->extlock);
	if (!fits)
		err = fs_inline_prepare(ip, MAX(size, OD_INODE_AREA), 0);
	if (err)
		return err;
	lk_wrlock(maplock);
	if (fits)
		set_inline_size(ip, size);
	else if (size > old)
		err = fs_extend_size(ip, size);
	else
		err = shrink(ip, size);
	lk_rw_unlock(maplock);
	return err;
}

int fs_grow_size(struct fs_ctx *ctx, struct fs_inode *ip, uint64_t size)
{
	int err;

	if (size > OD_FILE_SIZE_MAX)
		return -EFBIG;
	lk_wrlock(&ip->vfs.i_rwsem);
	err = fs_file_may_change(ip, false);
	if (!err)
		inode_dio_wait(&ip->vfs);
	if (!err && size > i_size_read(&ip->vfs)) {
		err = fs_kill_priv(ctx, ip, false);
		if (!err)
			err = fs_file_touch(ip, 0);
		if (!err)
			err = setsize_locked(ip, size);
	}
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return err;
}

int fs_setsize(struct fs_ctx *ctx, struct fs_inode *ip, uint64_t size)
{
	int err;

	if (ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (size > OD_FILE_SIZE_MAX)
		return -EFBIG;
	lk_wrlock(&ip->vfs.i_rwsem);
	err = fs_file_may_change(ip, false);
	if (err)
		goto out_unlock;
	inode_dio_wait(&ip->vfs);
	err = fs_kill_priv(ctx, ip, false);
	if (!err)
		err = fs_file_touch(ip, 0);
	if (!err)
		err = setsize_locked(ip, size);
out_unlock:
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return err;
}

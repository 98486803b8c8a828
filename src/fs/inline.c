/* SPDX-License-Identifier: MIT */
/*
 * Contents of tiny files live in the inode's area and are logged with the inode: one block
 * less to write, and size and bytes change together.
 *
 * A file that outgrows the area leaves it in two moves. In memory at once: the bytes become
 * dirty cache over a promised block (inline_out), which needs neither journal nor device.
 * On disk later, before the first block of the file gets a place:
 *
 *	conversion                             power cut
 *	old bytes written to a new block ->
 *	                                       inode still holds the old bytes
 *	format changes, in the commit that
 *	follows the device's flush ->
 *	                                       the block holds the old bytes
 *	cache written over the block, size ->
 *	                                       new bytes, new size
 */
#include <stdlib.h>

#include "extent.h"

#define INLINE_MAX 320u

unsigned fs_inline_cap(const struct fs_inode *ip)
{
	return MIN(INLINE_MAX, OD_INODE_AREA - ip->attr_len);
}

static void format_set(struct fs_inode *ip, enum od_data_fmt fmt)
{
	assert(ip->nr_extents == 0 && ip->delalloc_blocks == 0);
	assert(ip->data_len == 0 && ip->disk_size == 0);
	ip->data_fmt = (uint8_t)fmt;
	atomic_fetch_add(&ip->map_seq, 1);
}

void fs_inline_set_size(struct fs_inode *ip, unsigned len)
{
	lk_assert_held(&ip->extlock);
	assert(fs_is_inline(ip) && len <= OD_INODE_AREA - ip->attr_len);
	if (len < ip->data_len)
		memset(ip->area + len, 0, ip->data_len - len);
	else
		memset(ip->area + ip->data_len, 0, len - ip->data_len);
	ip->data_len = (uint16_t)len;
	disk_size_write(ip, len);
	atomic_fetch_add(&ip->map_seq, 1);
}

int fs_inline_prepare(struct fs_inode *ip, uint64_t end, unsigned ctx_flags)
{
	bool expand = false;

	if ((ctx_flags & FS_NOWAIT) && !lk_trylock(&ip->extlock))
		return -EAGAIN;
	if (!(ctx_flags & FS_NOWAIT))
		lk_lock(&ip->extlock);
	if (fs_is_inline(ip)) {
		expand = end > fs_inline_cap(ip);
	} else if (ip->data_fmt == OD_DATA_EXTENTS && ip->nr_extents == 0 &&
		   ip->delalloc_blocks == 0 && ip->disk_size == 0 &&
		   i_size_read(&ip->vfs) == 0 && end <= fs_inline_cap(ip)) {
		format_set(ip, OD_DATA_INLINE);
	}
	lk_unlock(&ip->extlock);
	return expand ? fs_inline_expand(ip, ctx_flags) : 0;
}

/* The promise for block 0, and the switch; the old bytes in buf, their number returned. */
static int leave_area(struct fs_inode *ip, unsigned ctx_flags, uint8_t *buf)
{
	uint64_t need;
	int err;

	lk_lock(&ip->extlock);
	need = da_need(ip, 1);
	lk_unlock(&ip->extlock);
	err = space_reserve_or_flush(ip->fs, need, ctx_flags);
	if (err)
		return err;
	lk_lock(&ip->extlock);
	assert(fs_is_inline(ip));
	if (ip->data_len == 0) {
		format_set(ip, OD_DATA_EXTENTS);
		lk_unlock(&ip->extlock);
		space_unreserve(ip->fs, need);
		return 0;
	}
	err = da_add(ip, 0, 1, need);
	if (!err) {
		memcpy(buf, ip->area, ip->data_len);
		err = ip->data_len;
		ip->delalloc->inline_out = true;
		atomic_fetch_add(&ip->map_seq, 1);
	}
	lk_unlock(&ip->extlock);
	if (err < 0)
		space_unreserve(ip->fs, need);
	return err;
}

int fs_inline_expand(struct fs_inode *ip, unsigned ctx_flags)
{
	uint8_t buf[OD_INODE_AREA];
	struct kiocb iocb = { .ki_inode = &ip->vfs,
			      .ki_flags = IOCB_WRITE |
					  (ctx_flags & FS_NOWAIT ? IOCB_NOWAIT : 0) };
	struct iovec iov = { .iov_base = buf };
	struct iov_iter iter;
	int64_t n, done;

	n = leave_area(ip, ctx_flags, buf);
	if (n <= 0)
		return (int)n;
	/* No cache in between: to a block at once. */
	if (ip->fs->dax)
		return fs_inline_finish(ip);
	iov.iov_len = (size_t)n;
	iov_iter_init(&iter, &iov, 1, (size_t)n);
	done = iomap_file_buffered_write(&iocb, &iter, &fs_write_iomap_ops, &fs_iomap_write_ops,
					 NULL);
	if (done == n)
		return 0;
	/* Nothing was promised to anyone yet: the area still has it all. */
	lk_lock(&ip->extlock);
	if (ip->delalloc->inline_out) {
		da_remove(ip, 0, 1, false);
		ip->delalloc->inline_out = false;
		atomic_fetch_add(&ip->map_seq, 1);
	}
	lk_unlock(&ip->extlock);
	return done < 0 ? (int)done : -EIO;
}

int fs_inline_leave(struct fs_inode *ip)
{
	bool inside;

	lk_lock(&ip->extlock);
	inside = fs_is_inline(ip);
	lk_unlock(&ip->extlock);
	return inside ? fs_inline_expand(ip, 0) : 0;
}

/* Inside the handle: a block, the old bytes in it, and the record that names it. */
static int finish_tx(struct fs_inode *ip, struct ext_tx *tx, void *block)
{
	struct fs *fs = ip->fs;
	struct fs_alloc_req req = { .min = 1, .want = 1, .align = 1 };
	struct extent e;
	int err;

	/* An earlier try failed on the device: the old contents stay what they are. */
	if (!da_find(ip, 0) || da_find(ip, 0)->fblk != 0)
		return -EIO;
	req.hint = (od_ino_mblk(ip->ino) << OD_MBLK_SHIFT) >> fs->block_shift;
	err = ag_alloc_blocks(fs, tx->h, 0, &req);
	if (err)
		return err;
	assert(ip->data_len <= fs->block_size);
	memset(block, 0, fs->block_size);
	memcpy(block, ip->area, ip->data_len);
	/*
	 * Written with the handle open: the transaction cannot commit before it is on the
	 * device. Once in a file's life.
	 */
	err = bd_write(fs->bd, req.start << fs->block_shift, block, fs->block_size, 0);
	if (err) {
		/* The promise was used up by the block that now goes back. */
		ag_free_blocks(fs, tx->h, req.start, req.len);
		da_remove(ip, 0, 1, true);
		return err;
	}
	memset(ip->area, 0, ip->data_len);
	ip->data_len = 0;
	ip->data_fmt = OD_DATA_EXTENTS;
	ip->delalloc->inline_out = false;
	tx->changed = true;
	e = (struct extent){ .fblk = 0, .start = req.start, .len = 1 };
	err = ext_store_insert(tx->h, ip, &e);
	if (err) {
		jnl_abort(fs->jnl, err, "extent map change failed half-way");
		return err;
	}
	ip->nr_blocks += 1ull << (fs->block_shift - 9);
	ip->alloc_hint = req.start + 1;
	da_remove(ip, 0, 1, true);
	return 0;
}

int fs_inline_finish(struct fs_inode *ip)
{
	struct ext_tx tx;
	void *block;
	bool out;
	int err;

	lk_lock(&ip->extlock);
	out = ip->delalloc->inline_out;
	lk_unlock(&ip->extlock);
	if (!out)
		return 0;
	if (posix_memalign(&block, OD_MBLK_SIZE, ip->fs->block_size))
		return -ENOMEM;
	err = ext_tx_begin(ip, EXT_TX_INLINE | EXT_TX_PROMISED, 0, &tx);
	if (!err) {
		if (ip->delalloc->inline_out)
			err = finish_tx(ip, &tx, block);
		ext_tx_end(ip, &tx);
	}
	free(block);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * Mappings for direct writes: real addresses only. Holes get UNWRITTEN blocks, promises
 * become real first. The completion converts before it raises a size, so that nobody can
 * read, inside the new size, zeros that were about to become data.
 */
#include "extent.h"

/* May the request use this mapping without changing any metadata? */
static bool pure_overwrite(struct fs_inode *ip, const struct iomap *m, uint64_t pos,
			   uint64_t length)
{
	const uint64_t mask = ip->fs->block_size - 1;

	if (iomap_end(m) - pos < length || (m->flags & IOMAP_F_SHARED))
		return false;
	if (m->type == IOMAP_MAPPED)
		return true;
	return m->type == IOMAP_UNWRITTEN && ((pos | length) & mask) == 0;
}

static int dwrite_lookup(struct fs_inode *ip, uint64_t pos, uint64_t length, unsigned flags,
			 struct iomap *m)
{
	int err;

	if (!(flags & IOMAP_NOWAIT))
		lk_lock(&ip->extlock);
	else if (!lk_trylock(&ip->extlock))
		return -EAGAIN;
	if (ip->data_fmt == OD_DATA_INLINE)
		err = -ENOTBLK; /* contents in the inode, or on their way out of it */
	else
		err = fs_map_at(ip, fblk_of(ip->fs, pos), flags & IOMAP_NOWAIT ? BUF_NOWAIT : 0, m);
	if (!err && m->type == IOMAP_MAPPED && fs_may_share(ip))
		err = cow_map_out(ip, fblk_of(ip->fs, pos), 0, flags & IOMAP_NOWAIT, m);
	if (!err && (!jnl_tid_committed(ip->fs->jnl, ip->data_tid) ||
		     pos + length > ip->disk_size))
		m->flags |= IOMAP_F_DIRTY;
	lk_unlock(&ip->extlock);
	return err;
}

static bool whole_blocks(struct fs_inode *ip, uint64_t pos, uint64_t length)
{
	return ((pos | length) & (ip->fs->block_size - 1)) == 0;
}

/*
 * The block at pos is shared, m as far as it is. Parts of a block would need its old contents, which only
 * the cache brings together with the new ones. -EREMCHG: staged now, look again. Whoever gets here
 * without OVERWRITE_ONLY has the file alone (direct_shared).
 */
static int unshare_for_write(struct fs_inode *ip, uint64_t pos, uint64_t length, unsigned flags,
			     const struct iomap *m)
{
	const uint64_t end = MIN(pos + length, iomap_end(m));
	int err;

	if (flags & (IOMAP_NOWAIT | IOMAP_OVERWRITE_ONLY))
		return -EAGAIN;
	if (!whole_blocks(ip, pos, length))
		return -ENOTBLK;
	err = cow_stage(ip, fblk_of(ip->fs, pos), fblk_of(ip->fs, end));
	return err ? err : -EREMCHG;
}

static int dwrite_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			struct iomap *m, struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	uint64_t end;
	int err;

	for (;;) {
		*m = (struct iomap){ 0 };
		err = dwrite_lookup(ip, pos, length, flags, m);
		if (err == -EREMCHG && (flags & IOMAP_ATOMIC))
			err = -ENOPROTOOPT;
		if (err == -EREMCHG)
			err = unshare_for_write(ip, pos, length, flags, m);
		else if (!err && (m->flags & IOMAP_F_SHARED) && !whole_blocks(ip, pos, length))
			err = -ENOTBLK; /* what an earlier write left staged */
		if (err == -EREMCHG)
			continue;
		if (err)
			return err;
		if ((flags & IOMAP_OVERWRITE_ONLY) && !pure_overwrite(ip, m, pos, length))
			return -EAGAIN;
		if ((flags & IOMAP_ATOMIC) && !fs_untorn_by_device(ip, m, pos, length))
			return -ENOPROTOOPT;
		if (flags & IOMAP_ATOMIC)
			m->flags |= IOMAP_F_ATOMIC_BIO;
		if (m->type == IOMAP_MAPPED || m->type == IOMAP_UNWRITTEN) {
			if ((flags & IOMAP_NOWAIT) && iomap_end(m) - pos < length)
				return -EAGAIN;
			return 0;
		}
		if (flags & IOMAP_NOWAIT)
			return -EAGAIN;
		end = MIN(fblk_up(ip->fs, pos + length), fblk_of(ip->fs, iomap_end(m)));
		err = ext_alloc_range(ip, fblk_of(ip->fs, pos), end, 0);
		if (err)
			return err;
	}
}

const struct iomap_ops fs_dwrite_iomap_ops = {
	.iomap_begin = dwrite_begin,
};

static int dio_write_end_io(struct kiocb *iocb, int64_t size, int error, unsigned flags)
{
	struct fs_inode *ip = FS_I(iocb->ki_inode);
	const uint64_t end = iocb->ki_pos + (uint64_t)MAX(size, 0);

	int err = 0;

	if (error || size <= 0)
		return error;
	if (flags & IOMAP_DIO_COW) {
		/* Nobody may be filling the cache from the old blocks when they are freed. */
		lk_wrlock(&iocb->ki_inode->i_mapping.invalidate_lock);
		err = ext_complete_cow(ip, iocb->ki_pos, (uint64_t)size, true, false);
		lk_rw_unlock(&iocb->ki_inode->i_mapping.invalidate_lock);
	}
	if (err)
		return err;
	if (!(flags & IOMAP_DIO_UNWRITTEN) && end <= disk_size_read(ip) &&
	    end <= i_size_read(iocb->ki_inode))
		return 0;
	return ext_complete_write(ip, iocb->ki_pos, (uint64_t)size, flags & IOMAP_DIO_UNWRITTEN,
				  true);
}

const struct iomap_dio_ops fs_dio_write_ops = {
	.end_io = dio_write_end_io,
};

/* SPDX-License-Identifier: MIT */
/*
 * Writing files. Buffered writes hold i_rwsem exclusively and end in memory. Direct writes
 * inside the file share it; those that grow the file, zero an old tail, strip privileges
 * or touch parts of blocks have it alone.
 */
#include "dax.h"

struct write_req {
	struct fs_ctx *ctx;
	struct fs_inode *ip;
	struct kiocb *iocb;
	struct iov_iter *from;
	bool append, nowait, excl;
	bool cached;         /* O_DSYNC is ours to do: some of it went through the cache, or it is DAX */
	size_t past_eof;     /* bytes of the kernel's cached page that no file has */
	unsigned ctx_flags;  /* FS_NOWAIT or 0 */
};

static int rwsem_lock(struct write_req *w, bool excl)
{
	struct lk_rwlock *l = &w->ip->vfs.i_rwsem;

	w->excl = excl;
	if (!w->nowait) {
		if (excl)
			lk_wrlock(l);
		else
			lk_rdlock(l);
		return 0;
	}
	return (excl ? lk_trywrlock(l) : lk_tryrdlock(l)) ? 0 : -EAGAIN;
}

static void rwsem_unlock(struct write_req *w)
{
	lk_rw_unlock(&w->ip->vfs.i_rwsem);
}

/* The bytes between the old end of file and a write beyond it become zeros. */
static int zero_gap(struct write_req *w, uint64_t size)
{
	struct fs_inode *ip = w->ip;
	int err;

	assert(w->excl && w->iocb->ki_pos > size);
	if (w->nowait)
		return -EAGAIN;
	lk_wrlock(&ip->vfs.i_mapping.invalidate_lock);
	da_withdraw_behind(ip, size, fblk_of(ip->fs, w->iocb->ki_pos));
	err = fs_zero_bytes(ip, size, w->iocb->ki_pos, NULL);
	lk_rw_unlock(&ip->vfs.i_mapping.invalidate_lock);
	return err;
}

static bool is_inline(struct fs_inode *ip)
{
	bool res;

	lk_lock(&ip->extlock);
	res = ip->data_fmt == OD_DATA_INLINE;
	lk_unlock(&ip->extlock);
	return res;
}

/* What every write must pass before it changes anything. Returns 0, or 1: nothing left to write. */
static int write_checks(struct write_req *w)
{
	struct fs_inode *ip = w->ip;
	const uint64_t size = i_size_read(&ip->vfs);
	int err;

	/* A cached page was dirtied while that was allowed; to refuse it now would lose it. */
	err = fs_file_may_change(ip, w->append || (w->iocb->ki_flags & IOCB_FAULT));
	if (err)
		return err;
	if (w->append)
		w->iocb->ki_pos = size;
	if (w->iocb->ki_pos >= OD_FILE_SIZE_MAX)
		return -EFBIG;
	w->from->count = MIN(w->from->count, OD_FILE_SIZE_MAX - w->iocb->ki_pos);
	/* The kernel's own writeback never grows a file: what lies past EOF is not data. */
	if (w->iocb->ki_flags & IOCB_FAULT) {
		const uint64_t left = size - MIN(size, w->iocb->ki_pos);

		w->past_eof = w->from->count - MIN(w->from->count, left);
		w->from->count -= w->past_eof;
		if (w->from->count == 0)
			return 1;
	} else if (w->ctx->flags & FS_KILL_SUIDGID) {
		if (!w->excl && fs_has_priv(ip))
			return -EBUSY;
		err = w->excl ? fs_kill_priv(w->ctx, ip, false) : 0;
		if (err)
			return err;
	}
	return fs_file_touch(ip, w->ctx_flags);
}

/* i_rwsem exclusive. */
static int64_t buffered_locked(struct write_req *w)
{
	struct fs_inode *ip = w->ip;
	uint64_t size;
	int err;

	w->cached = true;
	err = write_checks(w);
	if (err)
		return err == 1 ? 0 : err;
	/*
	 * Direct writes in flight may still move the end of file. And a folio that is filled from
	 * the device now and dirtied would bring back what they replace: a kernel that caches pages
	 * sends those beside a direct write at any time, and one block or folio holds several.
	 */
	if (w->nowait && atomic_load(&ip->vfs.i_dio_count))
		return -EAGAIN;
	inode_dio_wait(&ip->vfs);
	err = fs_inline_prepare(ip, w->iocb->ki_pos + w->from->count, w->ctx_flags);
	if (err)
		return err;
	size = i_size_read(&ip->vfs);
	if (w->nowait && w->iocb->ki_pos > size)
		return -EAGAIN;
	if (w->iocb->ki_pos > size && !is_inline(ip)) {
		err = zero_gap(w, size);
		if (err)
			return err;
	}
	return iomap_file_buffered_write(w->iocb, w->from, &fs_write_iomap_ops,
					 &fs_iomap_write_ops, NULL);
}

static int64_t write_buffered(struct write_req *w)
{
	int64_t ret;
	int err;

	err = rwsem_lock(w, true);
	if (err)
		return err;
	ret = buffered_locked(w);
	rwsem_unlock(w);
	return ret;
}

/* ---- Direct -------------------------------------------------------------------------------- */

/* What direct I/O cannot do goes through the cache, and out of it again. */
static int64_t write_fallback(struct write_req *w)
{
	struct address_space *m = &w->ip->vfs.i_mapping;
	uint64_t start;
	int64_t ret;
	int err;

	if (w->nowait)
		return -EAGAIN;
	ret = write_buffered(w);
	if (ret <= 0)
		return ret;
	start = w->iocb->ki_pos - (uint64_t)ret;
	err = filemap_write_and_wait_range(m, start, w->iocb->ki_pos - 1);
	if (err)
		return err;
	invalidate_mapping_pages(m, start, w->iocb->ki_pos - 1);
	return ret;
}

static int64_t direct_exclusive(struct write_req *w, unsigned dio_flags)
{
	struct fs_inode *ip = w->ip;
	uint64_t size;
	int64_t ret;
	int err;

	err = rwsem_lock(w, true);
	if (err)
		return err;
	if (w->nowait && atomic_load(&ip->vfs.i_dio_count)) {
		ret = -EAGAIN;
		goto out_unlock;
	}
	/* Others in flight may move EOF, or zero the block whose other part we write. */
	inode_dio_wait(&ip->vfs);
	ret = write_checks(w);
	if (ret) {
		ret = ret == 1 ? 0 : ret;
		goto out_unlock;
	}
	size = i_size_read(&ip->vfs);
	if (size == 0 && is_inline(ip))
		ret = fs_inline_expand(ip, w->ctx_flags);
	if (!ret && w->iocb->ki_pos > size && !is_inline(ip))
		ret = zero_gap(w, size);
	/*
	 * What is staged for shared blocks belongs to one request, from begin to end. Should it fail,
	 * the blocks wait for the next write there, or for the file's eviction.
	 */
	if (fs_may_share(ip))
		dio_flags |= IOMAP_DIO_FORCE_WAIT;
	if (!ret)
		ret = iomap_dio_rw(w->iocb, w->from, &fs_dwrite_iomap_ops, &fs_dio_write_ops,
				   dio_flags, NULL, 0);
out_unlock:
	rwsem_unlock(w);
	return ret;
}

/* -EBUSY: this one needs the file alone. */
static int64_t direct_shared(struct write_req *w, unsigned dio_flags)
{
	struct fs_inode *ip = w->ip;
	int64_t ret;

	ret = rwsem_lock(w, false);
	if (ret)
		return ret;
	if (w->append || w->iocb->ki_pos + w->from->count > i_size_read(&ip->vfs)) {
		ret = -EBUSY;
		goto out_unlock;
	}
	ret = write_checks(w);
	if (ret) {
		ret = ret == 1 ? 0 : ret;
		goto out_unlock;
	}
	/* Shared blocks are replaced by who has the file alone. */
	if (fs_may_share(ip))
		dio_flags |= IOMAP_DIO_OVERWRITE_ONLY;
	ret = iomap_dio_rw(w->iocb, w->from, &fs_dwrite_iomap_ops, &fs_dio_write_ops, dio_flags,
			   NULL, 0);
	if (ret == -EAGAIN && !w->nowait && (dio_flags & IOMAP_DIO_OVERWRITE_ONLY))
		ret = -EBUSY;
out_unlock:
	rwsem_unlock(w);
	return ret;
}

/* i_rwsem exclusive. The device's way, else the other one. */
static int64_t untorn_locked(struct write_req *w)
{
	struct fs_inode *ip = w->ip;
	const uint64_t size = i_size_read(&ip->vfs);
	int64_t ret;

	inode_dio_wait(&ip->vfs);
	ret = write_checks(w);
	if (ret)
		return ret == 1 ? 0 : ret;
	ret = fs_inline_prepare(ip, UINT64_MAX, 0);
	if (!ret && size && is_inline(ip))
		ret = filemap_write_and_wait_range(&ip->vfs.i_mapping, 0, size - 1);
	if (!ret && w->iocb->ki_pos > size)
		ret = zero_gap(w, size);
	if (ret)
		return ret;
	ret = iomap_dio_rw(w->iocb, w->from, &fs_dwrite_iomap_ops, &fs_dio_write_ops,
			   IOMAP_DIO_FORCE_WAIT, NULL, 0);
	if (ret != -ENOPROTOOPT)
		return ret;
	return iomap_dio_rw(w->iocb, w->from, &fs_untorn_iomap_ops, &fs_untorn_dio_ops,
			    IOMAP_DIO_FORCE_WAIT, NULL, 0);
}

static int64_t write_untorn(struct write_req *w)
{
	uint32_t min, max, opt;
	int64_t ret;

	fs_atomic_limits(w->ip->fs, &min, &max, &opt);
	if (w->append || w->from->count < min || w->from->count > max)
		return -EINVAL;
	if (w->nowait)
		return -EAGAIN;
	ret = rwsem_lock(w, true);
	if (ret)
		return ret;
	ret = untorn_locked(w);
	rwsem_unlock(w);
	return ret;
}

static int64_t write_direct(struct write_req *w)
{
	struct fs_inode *ip = w->ip;
	const uint64_t bits = w->iocb->ki_pos | w->from->count;
	const bool whole_blocks = (bits & (ip->fs->block_size - 1)) == 0;
	const size_t count = w->from->count;
	int64_t ret, more;

	if (TEST_BREAK("untorn-in-place"))
		w->iocb->ki_flags &= ~IOCB_ATOMIC;
	if (w->iocb->ki_flags & IOCB_ATOMIC)
		return write_untorn(w);
	if (bits & (ip->fs->idev->logical_block - 1))
		return write_fallback(w);
	ret = direct_shared(w, whole_blocks ? 0 : IOMAP_DIO_OVERWRITE_ONLY);
	if (ret == -EBUSY)
		ret = direct_exclusive(w, whole_blocks ? 0 : IOMAP_DIO_FORCE_WAIT);
	if (ret == -ENOTBLK)
		return write_fallback(w);
	if (ret <= 0 || (size_t)ret == count || w->from->count == 0)
		return ret;
	/* It stopped where only the cache can go on. */
	more = write_fallback(w);
	return more < 0 ? ret : ret + more;
}

/* ---- On memory -------------------------------------------------------------------------------- */

/* i_rwsem exclusive. */
static int64_t dax_locked(struct write_req *w)
{
	struct fs_inode *ip = w->ip;
	uint64_t size;
	int64_t ret;

	w->cached = true;
	ret = write_checks(w);
	if (ret)
		return ret == 1 ? 0 : ret;
	if (w->nowait && is_inline(ip))
		return -EAGAIN;
	/* What a mount without dax put into the inode has no memory to be mapped. */
	ret = fs_inline_leave(ip);
	size = i_size_read(&ip->vfs);
	if (!ret && w->iocb->ki_pos > size)
		ret = zero_gap(w, size);
	return ret ? ret : fs_dax_write(ip, w->iocb, w->from);
}

/* Cached or direct is all the same. */
static int64_t write_dax(struct write_req *w)
{
	int64_t ret;

	/* Memory is torn at words: fs_atomic_limits says so. */
	if (w->iocb->ki_flags & IOCB_ATOMIC)
		return -EOPNOTSUPP;
	ret = rwsem_lock(w, true);
	if (ret)
		return ret;
	ret = dax_locked(w);
	rwsem_unlock(w);
	return ret;
}

static int64_t write_any(struct write_req *w)
{
	if (fs_is_dax(w->ip))
		return write_dax(w);
	return w->iocb->ki_flags & IOCB_DIRECT ? write_direct(w) : write_buffered(w);
}

int64_t fs_write_iter(struct fs_ctx *ctx, struct kiocb *iocb, struct iov_iter *from, bool append)
{
	struct fs_inode *ip = FS_I(iocb->ki_inode);
	struct write_req w = { .ctx = ctx, .ip = ip, .iocb = iocb, .from = from, .append = append };
	const size_t asked = from->count;
	int64_t ret;
	int err;

	if (!fs_is_reg(ip))
		return S_ISDIR(ip->mode) ? -EISDIR : -EINVAL;
	if (ctx->flags & FS_NOWAIT)
		iocb->ki_flags |= IOCB_NOWAIT;
	w.nowait = iocb->ki_flags & IOCB_NOWAIT;
	w.ctx_flags = w.nowait ? FS_NOWAIT : 0;
	iocb->ki_flags |= IOCB_WRITE;
	if (ip->flags & OD_FL_SYNC)
		iocb->ki_flags |= IOCB_DSYNC | IOCB_SYNC;
	if (asked == 0)
		return 0;
	/* Making it durable sleeps: not begun where that is not allowed. */
	if (w.nowait && (iocb->ki_flags & IOCB_DSYNC))
		return -EAGAIN;
	err = fs_start_change(ip->fs, w.ctx_flags);
	if (err)
		return err;
	ret = write_any(&w);
	fs_end_change(ip->fs);
	/* What is not to stay in memory is on its way at once; fsync tells of its errors. */
	if (ret > 0 && w.cached && !w.nowait && (iocb->ki_flags & IOCB_DONTCACHE))
		(void)filemap_fdatawrite_range(&ip->vfs.i_mapping, iocb->ki_pos - (uint64_t)ret,
					       iocb->ki_pos - 1, WB_SYNC_NONE);
	if (ret > 0 && w.cached && (iocb->ki_flags & IOCB_DSYNC)) {
		err = fs_sync_range(ip, iocb->ki_pos - (uint64_t)ret, iocb->ki_pos - 1,
				    !(iocb->ki_flags & IOCB_SYNC));
		if (err)
			return err;
	}
	/* A page cut at EOF is done; one that came out short for want of cache or space is not. */
	return ret >= 0 && (size_t)ret + w.past_eof == asked ? (int64_t)asked : ret;
}

// SPDX-License-Identifier: MIT
/* Contents: read, write, allocate, copy, seek, map. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse_private.h"
#include "iomapfs/ioctl.h"

static struct fz_file *file_of(uint64_t fh)
{
	return (struct fz_file *)(uintptr_t)fh;
}

static int want_pages(struct fz_call *c, uint64_t nodeid, bool second)
{
	struct fz_call *k;

	if ((second ? c->flushed2 : c->flushed) || !fz_node_has_writers(c->fz, nodeid))
		return 0;
	k = fz_call_keep(c);
	if (!k)
		return -ENOMEM;
	if (second)
		k->flushed2 = true;
	else
		k->flushed = true;
	fz_notify_inval(k->fz, nodeid, 0, 0, k);
	return FZ_ASYNC;
}

int fz_want_kernel_pages(struct fz_call *c)
{
	return want_pages(c, c->nodeid, false);
}

int fz_want_kernel_pages2(struct fz_call *c)
{
	return want_pages(c, c->nodeid2, true);
}

/* What IOMAPFS_IOC_IOFLAGS asked of this handle, as far as it concerns `flags` so far. */
static unsigned handle_flags(const struct fz_call *c, unsigned flags)
{
	const uint32_t io = atomic_load_explicit(&file_of(c->fh)->io_flags, memory_order_relaxed);

	if (io == 0)
		return 0;
	if (!(flags & IOCB_DIRECT))
		return io & IOMAPFS_IO_DONTCACHE ? IOCB_DONTCACHE : 0;
	return (io & IOMAPFS_IO_HIPRI ? IOCB_HIPRI : 0) |
	       ((io & IOMAPFS_IO_ATOMIC) && (flags & IOCB_WRITE) ? IOCB_ATOMIC : 0);
}

static bool no_park(const struct fz_call *c)
{
	return atomic_load_explicit(&file_of(c->fh)->io_flags, memory_order_relaxed) & IOMAPFS_IO_NOWAIT;
}

/*
 * Point the iocb at `len` bytes of memory. Direct requests are on the heap: the device may
 * still use them when the serving thread has moved on.
 */
static void io_prepare(struct fz_call *c, void *mem, size_t len, uint64_t pos, unsigned flags)
{
	c->iov = (struct iovec){mem, len};
	iov_iter_init(&c->iter, &c->iov, 1, len);
	c->iocb = (struct kiocb){
		.ki_inode = fs_vfs_inode(file_of(c->fh)->ip),
		.ki_pos = pos,
		.ki_flags = flags | (fz_nowait(c) ? IOCB_NOWAIT : 0),
	};
}

/* ---- Read ------------------------------------------------------------------------------ */

static void *direct_memory(const struct fz_call *c)
{
	return c->buf ? c->buf : fz_uring_room(c->slot);
}

static void read_complete(struct kiocb *iocb, int64_t ret)
{
	struct fz_call *c = container_of(iocb, struct fz_call, iocb);

	if (ret < 0)
		fz_reply_err(c, (int)ret);
	else
		fz_reply_buf(c, direct_memory(c), (size_t)ret);
}

static int do_read_direct(struct fz_call *c)
{
	int64_t n;

	if (!direct_memory(c)) {
		c->buf = fz_pages_get(c->size);
		if (!c->buf)
			return -ENOMEM;
	}
	io_prepare(c, direct_memory(c), c->size, c->off, IOCB_DIRECT | handle_flags(c, IOCB_DIRECT));
	c->iocb.ki_complete = read_complete;
	n = fs_read_iter(&c->ctx, &c->iocb, &c->iter);
	if (n == -EIOCBQUEUED)
		return FZ_ASYNC;
	return n < 0 ? (int)n : fz_reply_buf(c, direct_memory(c), (size_t)n);
}

static int do_read(struct fz_call *c)
{
	void *mem = fz_uring_room(c->slot);
	int64_t n;

	if (c->open_flags & O_DIRECT)
		return do_read_direct(c);
	if (!mem)
		mem = fz_scratch();
	io_prepare(c, mem, c->size, c->off, handle_flags(c, 0));
	n = fs_read_iter(&c->ctx, &c->iocb, &c->iter);
	if (n < 0)
		return (int)n;
	/*
	 * Short means end of file to the kernel, which fills the rest of the page with zeros:
	 * a reader that only ran out of cache must come again and wait.
	 */
	if (fz_nowait(c) && (size_t)n < c->size && c->off + (uint64_t)n < i_size_read(c->iocb.ki_inode))
		return -EAGAIN;
	return fz_reply_buf(c, mem, (size_t)n);
}

void fz_ll_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fz_call c, *k = &c;

	fz_call_begin(&c, req, do_read);
	c.fh = fi->fh;
	c.size = MIN(size, (size_t)FZ_MAX_WRITE);
	c.off = (uint64_t)off;
	c.open_flags = (uint32_t)fi->flags;
	c.no_park = no_park(&c);
	if (c.open_flags & O_DIRECT)
		k = fz_call_keep(&c);
	if (!k)
		fz_reply_err(&c, -ENOMEM);
	else
		fz_call_run(k);
}

/* ---- Write ------------------------------------------------------------------------------ */

static int reply_written(struct fz_call *c)
{
	struct fuse_write_out out = {.size = (uint32_t)c->result};

	return fz_reply_buf(c, &out, sizeof(out));
}

/* n bytes went in with this run: answer, after the kernel forgot a mode that we changed. */
static int write_done(struct fz_call *c, int64_t n)
{
	mode_t mode = fs_mode(file_of(c->fh)->ip);
	struct fz_call *k;

	c->result = (int64_t)c->done + n;
	if (mode == c->old_mode)
		return reply_written(c);
	if (c->xflags & FUSE_WRITE_CACHE) {
		/* The kernel's writeback must not wait for a notification: announce, and go on. */
		fz_notify_inval(c->fz, c->nodeid, -1, 0, NULL);
		return reply_written(c);
	}
	k = fz_call_keep(c);
	if (!k)
		return reply_written(c);
	k->resume = reply_written;
	fz_notify_inval(k->fz, k->nodeid, -1, 0, k);
	return FZ_ASYNC;
}

static void write_complete(struct kiocb *iocb, int64_t ret)
{
	struct fz_call *c = container_of(iocb, struct fz_call, iocb);

	if (ret < 0)
		fz_reply_err(c, (int)ret);
	else
		write_done(c, ret);
}

static bool is_cache_write(const struct fz_call *c)
{
	return c->xflags & FUSE_WRITE_CACHE;
}

/*
 * Stores through a mapping reach us without a name and without the kernel's request to drop
 * setuid, setgid and capabilities: whoever stored, the program is not what was trusted.
 */
static int kill_priv_of_stores(struct fz_call *c, struct fs_inode *ip)
{
	struct fs_attr unused = {0};
	int64_t cap;

	if (!(c->old_mode & (S_ISUID | S_ISGID))) {
		cap = fs_getxattr(&c->ctx, ip, "security.capability", NULL, 0);
		if (cap == -EAGAIN)
			return -EAGAIN;
		if (cap <= 0)
			return 0;
	}
	return fs_setattr(&c->ctx, ip, FS_SET_KILL_SUIDGID, &unused, NULL);
}

static int do_write(struct fz_call *c)
{
	struct fs_inode *ip = file_of(c->fh)->ip;
	uint64_t pos = c->off + c->done, isize;
	size_t left = c->size - c->done;
	unsigned flags = IOCB_WRITE;
	int64_t n;
	int ret;

	if (is_cache_write(c)) {
		isize = i_size_read(fs_vfs_inode(ip));
		/*
		 * Pages stored to through a mapping reach past the end; only write() grows a
		 * file, and that has reached us already, unless the kernel caches writes: then
		 * its size is the true one, and it cuts its last page there.
		 */
		if (c->fz->cache != FZ_CACHE_WRITEBACK) {
			if (pos >= isize)
				return write_done(c, (int64_t)left);
			left = MIN(left, isize - pos);
		}
		if (pos + left <= isize)
			flags |= IOCB_FAULT;
		/* By some handle of the file; of its flags this one is a hint, and no harm to others. */
		flags |= handle_flags(c, 0);
		ret = kill_priv_of_stores(c, ip);
		if (ret < 0)
			return ret;
	} else {
		if (c->open_flags & O_DIRECT)
			flags |= IOCB_DIRECT;
		flags |= handle_flags(c, flags);
	}
	if (c->xflags & FUSE_WRITE_KILL_SUIDGID)
		c->ctx.flags |= FS_KILL_SUIDGID;
	io_prepare(c, (char *)(uintptr_t)c->data + c->done, left, pos, flags);
	if (flags & IOCB_DIRECT)
		c->iocb.ki_complete = write_complete;
	/*
	 * The kernel resolved O_APPEND under its inode lock. The file system hears of it where
	 * that is what happened: append-only files demand it, RWF_NOAPPEND goes elsewhere.
	 */
	n = fs_write_iter(&c->ctx, &c->iocb, &c->iter,
			  (c->open_flags & O_APPEND) && pos == i_size_read(fs_vfs_inode(ip)));
	if (n == -EIOCBQUEUED)
		return FZ_ASYNC;
	if (n < 0 && (c->done == 0 || (n == -EAGAIN && fz_nowait(c))))
		return (int)n;
	n = MAX(n, 0);
	/* What can be had without waiting went in; the rest may wait. */
	if (fz_nowait(c) && !c->no_park && n > 0 && (size_t)n < left) {
		c->done += (size_t)n;
		return -EAGAIN;
	}
	if (is_cache_write(c) && (size_t)n == left)
		n = (int64_t)(c->size - c->done);
	return write_done(c, n);
}

void fz_ll_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		 struct fuse_file_info *fi)
{
	const struct fuse_write_in *in = (const void *)(fz_rx.hdr + 1);
	struct fz_call c, *k = &c;

	fz_call_begin(&c, req, do_write);
	c.fh = fi->fh;
	c.data = buf;
	c.size = size;
	c.off = (uint64_t)off;
	c.open_flags = (uint32_t)fi->flags;
	c.xflags = in->write_flags;
	c.old_mode = fs_mode(file_of(c.fh)->ip);
	c.urgent = is_cache_write(&c);
	c.no_park = !c.urgent && no_park(&c);
	if ((c.open_flags & O_DIRECT) && !is_cache_write(&c))
		k = fz_call_keep(&c);
	if (!k)
		fz_reply_err(&c, -ENOMEM);
	else
		fz_call_run(k);
}

/* ---- Allocate, copy ------------------------------------------------------------------------ */

static int do_fallocate(struct fz_call *c)
{
	struct fs_inode *ip = file_of(c->fh)->ip;
	int ret = fs_fallocate(&c->ctx, ip, c->flags, c->off, c->len);

	return ret < 0 ? ret : fz_reply_err(c, 0);
}

void fz_ll_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		     struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_fallocate);
	c.fh = fi->fh;
	c.flags = mode;
	c.off = (uint64_t)off;
	c.len = (uint64_t)len;
	fz_call_run(&c);
}

static int reply_copied(struct fz_call *c)
{
	struct fz_copy_file_range_out out64 = {.bytes_copied = (uint64_t)c->result};

	if (c->opcode == FZ_COPY_FILE_RANGE_64)
		return fz_reply_buf(c, &out64, sizeof(out64));
	return reply_written(c);
}

/*
 * The kernel wrote back both ranges before it asked, under its inode locks, and drops the
 * pages of the destination range itself when we have answered. Stores by a mapping into the
 * source after its flush are the race that the caller chose.
 */
int fz_do_copy_file_range(struct fz_call *c)
{
	/* The old opcode's reply counts in 32 bits. */
	uint64_t max = c->opcode == FZ_COPY_FILE_RANGE_64 ? INT64_MAX : INT32_MAX & ~0xfffu;
	int64_t n;

	if (c->flags)
		return -EINVAL;
	n = fs_copy_file_range(&c->ctx, file_of(c->fh)->ip, c->off, file_of(c->fh2)->ip, c->off2,
			       MIN(c->len, max));
	if (n < 0)
		return (int)n;
	c->result = n;
	return reply_copied(c);
}

void fz_ll_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			   struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			   struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fz_call c;

	fz_call_begin(&c, req, fz_do_copy_file_range);
	c.fh = fi_in->fh;
	c.off = (uint64_t)off_in;
	c.fh2 = fi_out->fh;
	c.nodeid2 = ino_out;
	c.off2 = (uint64_t)off_out;
	c.len = len;
	c.flags = flags;
	fz_call_defer(&c);
}

/* ---- Where data is ----------------------------------------------------------------------------- */

static int do_lseek(struct fz_call *c)
{
	struct fuse_lseek_out out;
	int64_t pos;
	int ret;

	ret = fz_want_kernel_pages(c);
	if (ret)
		return ret;
	pos = fs_lseek(&c->ctx, file_of(c->fh)->ip, (int64_t)c->off, c->flags);
	if (pos < 0)
		return (int)pos;
	out.offset = (uint64_t)pos;
	return fz_reply_buf(c, &out, sizeof(out));
}

void fz_ll_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_lseek);
	c.fh = fi->fh;
	c.off = (uint64_t)off;
	c.flags = whence;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		fz_reply_err(&c, -EINVAL);
	else
		fz_call_run(&c);
}

static int no_extent(struct swap_info *sis, uint64_t start_page, uint64_t nr_pages, uint64_t phys_page)
{
	return 0;
}

/*
 * swapon(2) only ever says that there are holes; the reason is ours to tell. It asks through a
 * handle that is open for writing, filefrag(8) through one that is not. Once a second is enough.
 */
static void tell_why_no_swap(struct fz_call *c, struct fs_inode *ip)
{
	static _Atomic uint64_t last_ns;
	const uint64_t now = clock_mono_ns();
	uint64_t before = atomic_load(&last_ns), span;
	struct swap_info sis = {.add_extent = no_extent};

	if (!fz_node_has_writers(c->fz, c->nodeid) || (before && now - before < 1000000000u) ||
	    !atomic_compare_exchange_strong(&last_ns, &before, now))
		return;
	if (fs_swap_map(&c->ctx, ip, &sis, &span) == -EINVAL && sis.why)
		log_warn("inode %llu cannot be a swap file: %s", (unsigned long long)fs_ino(ip), sis.why);
}

static int do_bmap(struct fz_call *c)
{
	struct fuse_bmap_out out = {0};
	struct fs_inode *ip;
	int ret;

	ret = fz_want_kernel_pages(c);
	if (ret)
		return ret;
	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	/*
	 * swapon(2) asks so, block by block, and then writes there without us. Pinned first: what moves
	 * blocks looks at the pins under i_rwsem, and so has ended before fs_bmap looks, or not begun.
	 */
	fz_node_swap_pin(c->fz, c->nodeid, (pid_t)c->ctx.pid);
	ret = fs_bmap(&c->ctx, ip, c->size, c->off, &out.block);
	if (ret == 0 && out.block == 0 && c->off * c->size < i_size_read(fs_vfs_inode(ip))) {
		/* Asked again where it may wait: telling why does. */
		if (fz_nowait(c) && fz_node_has_writers(c->fz, c->nodeid))
			ret = -EAGAIN;
		else
			tell_why_no_swap(c, ip);
	}
	fs_iput(ip);
	if (ret < 0)
		return ret;
	return fz_reply_buf(c, &out, sizeof(out));
}

void fz_ll_bmap(fuse_req_t req, fuse_ino_t ino, size_t blocksize, uint64_t idx)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_bmap);
	c.size = blocksize;
	c.off = idx;
	fz_call_run(&c);
}

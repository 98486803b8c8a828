// SPDX-License-Identifier: MIT
/*
 * ioctls through an open handle that take the place of calls which the kernel does not pass on:
 * fallocate's other modes, clone, dedupe, RWF_* of reads and writes. Those that move data change
 * what is under the kernel's pages: it writes them back before, and drops them before the answer.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "fuse_private.h"
#include "iomapfs/ioctl.h"

static struct fz_file *file_of(const struct fz_call *c)
{
	return (struct fz_file *)(uintptr_t)c->fh;
}

static unsigned open_flags(const struct fz_call *c)
{
	return file_of(c)->file->open_flags;
}

static bool may_read(const struct fz_call *c)
{
	return (open_flags(c) & O_ACCMODE) != O_WRONLY;
}

/* Answer with fn once the kernel holds nothing of the file that was there before. */
static int reply_when_dropped(struct fz_call *c, int (*fn)(struct fz_call *c))
{
	struct fz_call *k = fz_call_keep(c);

	if (!k)
		return fn(c);
	k->resume = fn;
	fz_notify_inval(k->fz, k->nodeid, 0, 0, k);
	return FZ_ASYNC;
}

static uint64_t size_now(const struct fz_call *c)
{
	return i_size_read(fs_vfs_inode(file_of(c)->ip));
}

/* ---- fallocate ------------------------------------------------------------------------- */

static int reply_falloc(struct fz_call *c)
{
	struct iomapfs_ioc_falloc a;

	memcpy(&a, c->data, sizeof(a));
	a.size = size_now(c);
	return fz_reply_ioctl(c, &a, sizeof(a));
}

int fz_ioc_fallocate(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_falloc a;
	int ret;

	memcpy(&a, c->data, sizeof(a));
	if (a.reserved)
		return -EINVAL;
	if (!file_of(c)->writer)
		return -EBADF;
	ret = fz_want_kernel_pages(c);
	if (ret)
		return ret;
	ret = fs_fallocate(&c->ctx, ip, (int)a.mode, a.offset, a.length);
	return ret < 0 ? ret : reply_when_dropped(c, reply_falloc);
}

/* ---- Clone and dedupe ------------------------------------------------------------------- */

int fz_ioc_handle(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_handle h = {0};
	int ret;

	if (!may_read(c))
		return -EBADF;
	h.token.ino = file_of(c)->ino;
	ret = fz_file_token(c->fz, file_of(c), h.token.secret);
	return ret < 0 ? ret : fz_reply_ioctl(c, &h, sizeof(h));
}

/* The source, referenced, and nothing of either file that only the kernel has. */
static int get_source(struct fz_call *c, const struct iomapfs_token *t, struct fs_inode **in)
{
	int ret = fz_node_by_token(c->fz, t->ino, t->secret, in);

	if (ret < 0)
		return ret;
	c->nodeid2 = fz_nodeid(c->fz, t->ino);
	ret = fz_want_kernel_pages(c);
	if (!ret)
		ret = fz_want_kernel_pages2(c);
	if (ret)
		fs_iput(*in);
	return ret;
}

static int reply_cloned(struct fz_call *c)
{
	struct iomapfs_ioc_clone a;

	memcpy(&a, c->data, sizeof(a));
	a.size = size_now(c);
	return fz_reply_ioctl(c, &a, sizeof(a));
}

int fz_ioc_clone(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_clone a;
	struct fs_inode *in;
	int ret;

	memcpy(&a, c->data, sizeof(a));
	if (!file_of(c)->writer || (open_flags(c) & O_APPEND))
		return -EBADF;
	ret = get_source(c, &a.source, &in);
	if (ret)
		return ret;
	ret = fs_clone_range(&c->ctx, in, a.source_offset, ip, a.offset, a.length);
	fs_iput(in);
	return ret < 0 ? ret : reply_when_dropped(c, reply_cloned);
}

/* Sharing equal contents changes nothing that anyone can see: it takes less than writing. */
static bool may_dedupe(const struct fz_call *c, struct fs_inode *ip)
{
	struct fs_ctx ctx = {0};
	struct fs_attr a;

	return file_of(c)->writer || c->ctx.uid == 0 ||
	       (fs_getattr(&ctx, ip, &a) == 0 && a.uid == c->ctx.uid);
}

int fz_ioc_dedupe(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_dedupe a;
	struct fs_inode *in;
	int ret;

	memcpy(&a, c->data, sizeof(a));
	if (a.reserved)
		return -EINVAL;
	if (!may_dedupe(c, ip))
		return -EPERM;
	/* The kernel's pages hold what the blocks do, shared or not: none need be dropped. */
	ret = get_source(c, &a.source, &in);
	if (ret)
		return ret;
	a.length = MIN(a.length, IOMAPFS_DEDUPE_MAX);
	ret = fs_dedupe_range(&c->ctx, in, a.source_offset, ip, a.offset, a.length, &a.deduped);
	fs_iput(in);
	if (ret < 0 && ret != -EBADE)
		return ret;
	a.differs = ret < 0;
	return fz_reply_ioctl(c, &a, sizeof(a));
}

/* ---- How a handle reads and writes ----------------------------------------------------------- */

int fz_ioc_ioflags(struct fz_call *c, struct fs_inode *ip)
{
	const bool direct = open_flags(c) & O_DIRECT;
	struct iomapfs_ioc_ioflags a;

	memcpy(&a, c->data, sizeof(a));
	if (a.reserved || (a.flags & ~IOMAPFS_IO_ALL))
		return -EINVAL;
	if (!direct && (a.flags & (IOMAPFS_IO_ATOMIC | IOMAPFS_IO_HIPRI)))
		return -EINVAL;
	if (direct && (a.flags & IOMAPFS_IO_DONTCACHE))
		return -EINVAL;
	if ((a.flags & IOMAPFS_IO_ATOMIC) && !file_of(c)->writer)
		return -EINVAL;
	a.flags = atomic_exchange(&file_of(c)->io_flags, a.flags);
	return fz_reply_ioctl(c, &a, sizeof(a));
}

int fz_ioc_atomic(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_atomic a = {.request_max = FZ_MAX_WRITE};

	fs_atomic_limits(fs_of(ip), &a.unit_min, &a.unit_max, &a.unit_max_opt);
	return fz_reply_ioctl(c, &a, sizeof(a));
}

/* SPDX-License-Identifier: MIT */
/* A device that is memory: -o dax, and the operations of files there. */
#include <stdlib.h>

#include "dax.h"
#include "icache.h"
#include "super.h"

/* ---- The device ------------------------------------------------------------------------ */

static int dev_persist(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len)
{
	if (TEST_BREAK("dax-no-persist"))
		return 0;
	return bd_dax_persist(((struct fs *)dev->private)->bd, addr, len);
}

static const struct iomap_dax_ops dev_ops = {
	.persist = dev_persist,
};

static int refuse(struct fs *fs, struct fs_error *err, int ret)
{
	const char *name = fs->bd->name;

	if (fs->block_size != FOLIO_PAGE_SIZE)
		fs_error_set(err, "%s has blocks of %u bytes and -o dax needs those of a page, %u: mount it "
			     "without dax, or make it with mkfs.iomapfs -b %u",
			     name, fs->block_size, FOLIO_PAGE_SIZE, FOLIO_PAGE_SIZE);
	else if (ret == -EOPNOTSUPP)
		fs_error_set(err, "%s is not memory: -o dax needs an image on tmpfs or on a file system that "
			     "is itself mounted with dax; mount it without dax", name);
	else
		fs_error_set(err, "the memory of %s can not be mapped (%s): mount it without dax", name,
			     strerror(-ret));
	return ret;
}

int fs_dax_start(struct fs *fs, struct fs_error *err)
{
	struct iomap_dax_dev *dev;
	struct bd_dax mem;
	int ret;

	if (!fs->opts.dax)
		return 0;
	if (fs->block_size != FOLIO_PAGE_SIZE)
		return refuse(fs, err, -EINVAL);
	ret = bd_dax_map(fs->bd, &mem);
	if (ret)
		return refuse(fs, err, ret);
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->ops = &dev_ops;
	dev->base = mem.base;
	dev->size = fs->bd->info.size;
	dev->fd = mem.fd;
	dev->private = fs;
	ret = dax_dev_init(dev);
	if (ret) {
		free(dev);
		return ret;
	}
	fs->dax = dev;
	return 0;
}

void fs_dax_stop(struct fs *fs)
{
	if (!fs->dax)
		return;
	kill_dax(fs->dax);
	dax_dev_destroy(fs->dax);
	free(fs->dax);
	fs->dax = NULL;
}

static void flush_one(struct fs_inode *ip, void *arg)
{
	int *first = arg, err;

	if (!fs_is_reg(ip))
		return;
	err = dax_writeback_mapping_range(&ip->vfs, ip->fs->dax, 0, UINT64_MAX);
	if (err && !*first)
		*first = err;
}

int fs_dax_flush_all(struct fs *fs)
{
	int err = 0;

	if (fs->dax)
		icache_for_each(fs, flush_one, &err);
	return err;
}

/* ---- Reading and writing ------------------------------------------------------------------ */

/* Contents inside the inode, of a mount without dax. Bytes; -ENODATA: they are elsewhere. */
static int64_t read_inline(struct fs_inode *ip, struct kiocb *iocb, struct iov_iter *to)
{
	uint8_t copy[OD_INODE_AREA];
	size_t len, n = 0;
	bool inside;

	lk_lock(&ip->extlock);
	inside = fs_is_inline(ip);
	len = ip->data_len;
	memcpy(copy, ip->area, len);
	lk_unlock(&ip->extlock);
	if (!inside)
		return -ENODATA;
	if (iocb->ki_pos < len)
		n = iov_iter_copy_to(to, copy + iocb->ki_pos, len - iocb->ki_pos);
	iocb->ki_pos += n;
	return (int64_t)n;
}

static int map_lock(struct fs_inode *ip, bool excl, bool nowait)
{
	struct lk_rwlock *l = &ip->vfs.i_mapping.invalidate_lock;

	if (nowait)
		return (excl ? lk_trywrlock(l) : lk_tryrdlock(l)) ? 0 : -EAGAIN;
	if (excl)
		lk_wrlock(l);
	else
		lk_rdlock(l);
	return 0;
}

static void map_unlock(struct fs_inode *ip)
{
	lk_rw_unlock(&ip->vfs.i_mapping.invalidate_lock);
}

int64_t fs_dax_read(struct fs_inode *ip, struct kiocb *iocb, struct iov_iter *to)
{
	const bool shared = fs_may_share(ip);
	int64_t ret = -ENODATA;

	if (ip->data_fmt == OD_DATA_INLINE)
		ret = read_inline(ip, iocb, to);
	if (ret != -ENODATA)
		return ret;
	/* A store fault replaces blocks with no regard to i_rwsem: not the one that is being copied. */
	if (shared && map_lock(ip, false, iocb->ki_flags & IOCB_NOWAIT))
		return -EAGAIN;
	ret = dax_iomap_rw(iocb, to, &fs_dax_read_iomap_ops);
	if (shared)
		map_unlock(ip);
	return ret;
}

static int64_t write_mapped(struct fs_inode *ip, struct kiocb *iocb, struct iov_iter *from)
{
	const uint64_t pos = iocb->ki_pos;
	int64_t ret = dax_iomap_rw(iocb, from, &fs_dax_write_iomap_ops);
	int err;

	if (ret <= 0)
		return ret;
	err = fs_dax_complete(ip, pos, (uint64_t)ret);
	if (!err)
		err = fs_dax_grow(ip, pos, (uint64_t)ret);
	return err ? err : ret;
}

int64_t fs_dax_write(struct fs_inode *ip, struct kiocb *iocb, struct iov_iter *from)
{
	const bool nowait = iocb->ki_flags & IOCB_NOWAIT, shared = fs_may_share(ip);
	int64_t ret;

	/* A new size is a transaction, as new blocks are. */
	if (nowait && iocb->ki_pos + from->count > disk_size_read(ip))
		return -EAGAIN;
	if (shared && nowait)
		return -EAGAIN;
	if (shared)
		map_lock(ip, true, false);
	ret = write_mapped(ip, iocb, from);
	if (shared)
		map_unlock(ip);
	/* It came short: blocks behind EOF may be left over, and go with the last close. */
	if (from->count)
		atomic_store(&ip->delalloc->speculated, true);
	return ret;
}

int fs_dax_zero(struct fs_inode *ip, uint64_t pos, uint64_t len, bool *did_zero)
{
	int err = dax_zero_range(&ip->vfs, pos, len, did_zero, &fs_dax_write_iomap_ops);

	return err ? err : fs_dax_complete(ip, pos, len);
}

int fs_dax_truncate_page(struct fs_inode *ip, uint64_t pos, bool *did_zero)
{
	int err = dax_truncate_page(&ip->vfs, pos, did_zero, &fs_dax_write_iomap_ops);

	return err ? err : fs_dax_complete(ip, pos, -pos & (ip->fs->block_size - 1));
}

int fs_dax_unshare(struct fs_inode *ip, uint64_t pos, uint64_t len)
{
	int err = dax_file_unshare(&ip->vfs, pos, len, &fs_dax_write_iomap_ops);

	return err ? err : fs_dax_complete(ip, pos, len);
}

/* ---- Areas of this process -------------------------------------------------------------------- */

int fs_dax_mmap(struct fs_ctx *ctx, struct fs_inode *ip, struct dax_vma *vma)
{
	int err = 0;

	if (!fs_is_dax(ip) || fs_vfs_inode(ip) != vma->inode)
		return -EOPNOTSUPP;
	if (!ip->fs->readonly) {
		err = fs_start_change(ip->fs, ctx->flags);
		if (err)
			return err;
		lk_wrlock(&ip->vfs.i_rwsem);
		err = fs_inline_leave(ip);
		lk_rw_unlock(&ip->vfs.i_rwsem);
		fs_end_change(ip->fs);
	}
	return err ? err : dax_vma_open(vma);
}

/* invalidate_lock exclusive where blocks may be shared. */
static unsigned fault_locked(struct fs_inode *ip, struct vm_fault *vmf, unsigned order, bool write)
{
	const uint64_t pos = ROUND_DOWN(vmf->pgoff, 1ull << order) << FOLIO_PAGE_SHIFT;
	const uint64_t len = (uint64_t)FOLIO_PAGE_SIZE << order;
	uint64_t addr;
	unsigned ret;
	int err = 0;

	ret = dax_iomap_fault(vmf, order, &addr, NULL,
			      write ? &fs_dax_write_iomap_ops : &fs_dax_read_iomap_ops);
	if (write && (ret & (VM_FAULT_NOPAGE | VM_FAULT_NEEDDSYNC)))
		err = fs_dax_complete(ip, pos, len);
	if (err) {
		dax_delete_mapping_range(&ip->vfs, pos, pos + len - 1);
		return VM_FAULT_SIGBUS;
	}
	return ret == VM_FAULT_NEEDDSYNC ? dax_finish_sync_fault(vmf, order, addr) : ret;
}

unsigned fs_dax_fault(struct fs_ctx *ctx, struct fs_inode *ip, struct vm_fault *vmf, unsigned order)
{
	const bool write = (vmf->flags & FAULT_FLAG_WRITE) && (vmf->vma->flags & DAX_VM_SHARED);
	unsigned ret;

	if (write && (fs_start_change(ip->fs, ctx->flags) < 0))
		return VM_FAULT_SIGBUS;
	map_lock(ip, false, false);
	if (write && fs_may_share(ip)) {
		map_unlock(ip);
		map_lock(ip, true, false);
	}
	if (write && (fs_file_may_change(ip, true) || fs_file_touch(ip, 0)))
		ret = VM_FAULT_SIGBUS;
	else
		ret = fault_locked(ip, vmf, order, write);
	map_unlock(ip);
	if (write)
		fs_end_change(ip->fs);
	return ret;
}

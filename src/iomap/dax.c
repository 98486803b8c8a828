/* SPDX-License-Identifier: MIT */
/* Files on a device that is memory: reads, writes, zeros, unsharing and comparing, all by copying. */
#include "dax_private.h"

#define PAGE_MASK ((uint64_t)FOLIO_PAGE_SIZE - 1)

/* ---- The device ------------------------------------------------------------------------- */

int dax_dev_init(struct iomap_dax_dev *dev)
{
	assert(IS_ALIGNED((uintptr_t)dev->base, FOLIO_PAGE_SIZE) && dev->ops->persist);
	dev->dead = false;
	return -pthread_rwlock_init(&dev->users, NULL);
}

void kill_dax(struct iomap_dax_dev *dev)
{
	pthread_rwlock_wrlock(&dev->users);
	dev->dead = true;
	pthread_rwlock_unlock(&dev->users);
}

void dax_dev_destroy(struct iomap_dax_dev *dev)
{
	pthread_rwlock_destroy(&dev->users);
}

bool dax_read_lock(struct iomap_dax_dev *dev)
{
	pthread_rwlock_rdlock(&dev->users);
	if (!dev->dead)
		return true;
	pthread_rwlock_unlock(&dev->users);
	return false;
}

void dax_read_unlock(struct iomap_dax_dev *dev)
{
	pthread_rwlock_unlock(&dev->users);
}

int dax_direct_access(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len, void **mem)
{
	if (addr > dev->size || len > dev->size - addr)
		return -EIO;
	*mem = dev->base + addr;
	return 0;
}

int dax_flush(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len)
{
	return dev->ops->persist(dev, addr, len);
}

/* ---- Copies under the guard ----------------------------------------------------------------- */

struct dax_copy {
	void *dst;
	const void *src; /* NULL: zeros */
	size_t n;
};

static void do_copy(void *arg)
{
	struct dax_copy *c = arg;

	if (c->src)
		data_copy(c->dst, c->src, c->n);
	else
		data_zero(c->dst, c->n);
}

int dax_copy_mem(void *dst, const void *src, size_t n)
{
	struct dax_copy c = { dst, src, n };

	return dax_guarded(dst, src, n, do_copy, &c);
}

static int dax_memzero(void *dst, size_t n)
{
	return dax_copy_mem(dst, NULL, n);
}

int dax_zero_page_range(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len)
{
	void *mem;
	int err;

	if (!dax_read_lock(dev))
		return -EIO;
	err = dax_direct_access(dev, addr, len, &mem);
	if (!err)
		err = dax_memzero(mem, len);
	if (!err)
		err = dax_flush(dev, addr, len);
	dax_read_unlock(dev);
	return err;
}

struct dax_user_copy {
	struct iov_iter *iter;
	void *mem;
	size_t n, done;
	bool write;
};

static void do_user_copy(void *arg)
{
	struct dax_user_copy *c = arg;

	if (c->write)
		c->done = iov_iter_copy_from(c->iter, c->mem, c->n);
	else
		c->done = iov_iter_copy_to(c->iter, c->mem, c->n);
}

/* Between the caller's memory and the device's. Bytes; 0: the caller's cannot be used; -EIO. */
static int64_t copy_user(struct iov_iter *iter, void *mem, size_t n, bool write)
{
	const struct iov_iter was = *iter;
	struct dax_user_copy c = { iter, mem, n, 0, write };
	int err = dax_guarded(mem, NULL, n, do_user_copy, &c);

	if (!err)
		return (int64_t)c.done;
	*iter = was;
	return err;
}

/* ---- Copy on write ----------------------------------------------------------------------------- */

/*
 * [from, to) of the file, from the source of a shared mapping to where it is going to be. Zeros where the
 * source has no data.
 */
static int copy_src(const struct iomap_iter *iter, uint64_t from, uint64_t to)
{
	const struct iomap *m = &iter->iomap, *src = &iter->srcmap;
	const uint64_t n = to - from;
	void *dst, *old;
	int err;

	if (from >= to)
		return 0;
	err = dax_direct_access(m->dax_dev, iomap_sector_addr(m, from), n, &dst);
	if (err || src->type != IOMAP_MAPPED)
		return err ? err : dax_memzero(dst, n);
	err = dax_direct_access(src->dax_dev, iomap_sector_addr(src, from), n, &old);
	if (!err)
		err = dax_copy_mem(dst, old, n);
	return err;
}

/* The parts of pages at both ends of [pos, end) that are not going to be stored. */
static int copy_edges(const struct iomap_iter *iter, uint64_t pos, uint64_t end)
{
	int err = copy_src(iter, pos & ~PAGE_MASK, pos);

	return err ? err : copy_src(iter, end, ROUND_UP(end, (uint64_t)FOLIO_PAGE_SIZE));
}

int dax_copy_whole(const struct iomap_iter *iter, uint64_t pos, uint64_t len)
{
	int err = copy_src(iter, pos, pos + len);

	return err ? err : dax_flush(iter->iomap.dax_dev, iomap_sector_addr(&iter->iomap, pos), len);
}

static bool is_cow(const struct iomap_iter *iter)
{
	return iter->iomap.flags & IOMAP_F_SHARED;
}

/* Flush [pos, end), with copy on write the pages around it. */
static int flush_range(const struct iomap_iter *iter, uint64_t pos, uint64_t end)
{
	const struct iomap *m = &iter->iomap;

	if (is_cow(iter)) {
		pos &= ~PAGE_MASK;
		end = ROUND_UP(end, (uint64_t)FOLIO_PAGE_SIZE);
	}
	return dax_flush(m->dax_dev, iomap_sector_addr(m, pos), end - pos);
}

/* ---- Read and write ------------------------------------------------------------------------------ */

/* The device's lock is held. Bytes stored and durable, or -errno. */
static int64_t store(struct iomap_iter *iter, struct iov_iter *from, uint64_t end)
{
	const struct iomap *m = &iter->iomap;
	const uint64_t pos = iter->pos;
	int64_t n;
	void *mem;
	int err;

	err = dax_direct_access(m->dax_dev, iomap_sector_addr(m, pos), end - pos, &mem);
	if (!err && is_cow(iter))
		err = copy_edges(iter, pos, end);
	if (err)
		return err;
	n = copy_user(from, mem, end - pos, true);
	/* It came short: a page that is not filled to its end is not this file's yet. */
	if (n > 0 && is_cow(iter) && pos + (uint64_t)n < end) {
		const uint64_t excess = MIN((pos + (uint64_t)n) & PAGE_MASK, (uint64_t)n);

		iov_iter_revert(from, excess);
		n -= (int64_t)excess;
	}
	if (n <= 0)
		return n ? n : -EFAULT;
	err = flush_range(iter, pos, pos + (uint64_t)n);
	return err ? err : n;
}

static int64_t load(struct iomap_iter *iter, struct iov_iter *to, uint64_t end)
{
	const struct iomap *m = &iter->iomap;
	void *mem;
	int64_t n;
	int err;

	err = dax_direct_access(m->dax_dev, iomap_sector_addr(m, iter->pos), end - iter->pos, &mem);
	if (err)
		return err;
	n = copy_user(to, mem, end - iter->pos, false);
	return n ? n : -EFAULT;
}

static int advance_by(struct iomap_iter *iter, int64_t n)
{
	return n < 0 ? (int)n : iomap_iter_advance(iter, (uint64_t)n);
}

static int read_iter(struct iomap_iter *iter, struct iov_iter *to)
{
	const struct iomap *m = &iter->iomap;
	const uint64_t end = MIN(iter->pos + iomap_length(iter), i_size_read(iter->inode));
	int64_t n;

	if (iter->pos >= end)
		return 0;
	if (m->type == IOMAP_HOLE || m->type == IOMAP_UNWRITTEN) {
		n = (int64_t)iov_iter_zero(to, end - iter->pos);
		return advance_by(iter, n ? n : -EFAULT);
	}
	if (m->type != IOMAP_MAPPED || !dax_read_lock(m->dax_dev))
		return -EIO;
	n = load(iter, to, end);
	dax_read_unlock(m->dax_dev);
	return advance_by(iter, n);
}

static int write_iter(struct iomap_iter *iter, struct iov_iter *from)
{
	const struct iomap *m = &iter->iomap;
	const uint64_t end = iter->pos + iomap_length(iter);
	int64_t n;

	if (m->type != IOMAP_MAPPED && !is_cow(iter))
		return -EIO;
	/* Areas show zeros there, or the blocks that the others keep. */
	if ((m->flags & IOMAP_F_NEW) || is_cow(iter))
		dax_delete_mapping_range(iter->inode, iter->pos, end - 1);
	if (!dax_read_lock(m->dax_dev))
		return -EIO;
	n = store(iter, from, end);
	dax_read_unlock(m->dax_dev);
	return advance_by(iter, n);
}

int64_t dax_iomap_rw(struct kiocb *iocb, struct iov_iter *iter, const struct iomap_ops *ops)
{
	struct iomap_iter iomi = {
		.inode = iocb->ki_inode, .pos = iocb->ki_pos, .len = iter->count, .flags = IOMAP_DAX,
		.private = iocb->private,
	};
	const bool write = iocb->ki_flags & IOCB_WRITE;
	int64_t done;
	int err;

	if (iocb->ki_flags & IOCB_ATOMIC)
		return -EIO;
	if (write)
		iomi.flags |= IOMAP_WRITE;
	else
		iomi.len = MIN(iomi.len, i_size_read(iocb->ki_inode) -
						 MIN(iocb->ki_pos, i_size_read(iocb->ki_inode)));
	if (iocb->ki_flags & IOCB_NOWAIT)
		iomi.flags |= IOMAP_NOWAIT;
	while ((err = iomap_iter(&iomi, ops)) > 0)
		iomi.status = write ? write_iter(&iomi, iter) : read_iter(&iomi, iter);
	done = (int64_t)(iomi.pos - iocb->ki_pos);
	iocb->ki_pos = iomi.pos;
	return done ? done : err;
}

/* ---- Zeros ------------------------------------------------------------------------------------------ */

static int zero_locked(struct iomap_iter *iter, uint64_t end)
{
	const struct iomap *m = &iter->iomap;
	void *mem;
	int err;

	err = dax_direct_access(m->dax_dev, iomap_sector_addr(m, iter->pos), end - iter->pos, &mem);
	if (!err && is_cow(iter))
		err = copy_edges(iter, iter->pos, end);
	if (!err)
		err = dax_memzero(mem, end - iter->pos);
	return err ? err : flush_range(iter, iter->pos, end);
}

static int zero_iter(struct iomap_iter *iter, bool *did_zero)
{
	const struct iomap *m = &iter->iomap, *src = iomap_iter_srcmap(iter);
	const uint64_t end = iter->pos + iomap_length(iter);
	int err;

	if (src->type == IOMAP_HOLE || src->type == IOMAP_UNWRITTEN)
		return iomap_iter_advance_full(iter);
	if (m->type != IOMAP_MAPPED && !is_cow(iter))
		return -EIO;
	if (is_cow(iter))
		dax_delete_mapping_range(iter->inode, iter->pos, end - 1);
	if (!dax_read_lock(m->dax_dev))
		return -EIO;
	err = zero_locked(iter, end);
	dax_read_unlock(m->dax_dev);
	if (err)
		return err;
	if (did_zero)
		*did_zero = true;
	return iomap_iter_advance_full(iter);
}

int dax_zero_range(struct inode *inode, uint64_t pos, uint64_t len, bool *did_zero,
		   const struct iomap_ops *ops)
{
	struct iomap_iter iter = {
		.inode = inode, .pos = pos, .len = len, .flags = IOMAP_DAX | IOMAP_ZERO,
	};
	int err;

	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = zero_iter(&iter, did_zero);
	return err;
}

int dax_truncate_page(struct inode *inode, uint64_t pos, bool *did_zero, const struct iomap_ops *ops)
{
	const uint64_t off = pos & (i_blocksize(inode) - 1);

	return off ? dax_zero_range(inode, pos, i_blocksize(inode) - off, did_zero, ops) : 0;
}

/* ---- Sharing ------------------------------------------------------------------------------------------ */

static int unshare_iter(struct iomap_iter *iter)
{
	const struct iomap *m = &iter->iomap;
	const uint64_t start = iter->pos & ~PAGE_MASK;
	const uint64_t end = ROUND_UP(iter->pos + iomap_length(iter), (uint64_t)FOLIO_PAGE_SIZE);
	int err;

	if (!is_cow(iter) || iter->srcmap.type != IOMAP_MAPPED)
		return iomap_iter_advance_full(iter);
	dax_delete_mapping_range(iter->inode, start, end - 1);
	if (!dax_read_lock(m->dax_dev))
		return -EIO;
	err = dax_copy_whole(iter, start, end - start);
	dax_read_unlock(m->dax_dev);
	return err ? err : iomap_iter_advance_full(iter);
}

int dax_file_unshare(struct inode *inode, uint64_t pos, uint64_t len, const struct iomap_ops *ops)
{
	const uint64_t isize = i_size_read(inode);
	struct iomap_iter iter = {
		.inode = inode, .pos = pos, .flags = IOMAP_WRITE | IOMAP_UNSHARE | IOMAP_DAX,
	};
	int err;

	if (pos >= isize)
		return 0;
	iter.len = MIN(len, isize - pos);
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = unshare_iter(&iter);
	return err;
}

struct dax_compare {
	const void *a, *b;
	size_t n;
	bool same;
};

static void do_compare(void *arg)
{
	struct dax_compare *c = arg;

	c->same = memcmp(c->a, c->b, c->n) == 0;
}

static bool has_data(const struct iomap *m)
{
	return m->type != IOMAP_HOLE && m->type != IOMAP_UNWRITTEN;
}

/* n bytes of two mappings, on one device. */
static int compare_mapped(const struct iomap_iter *a, const struct iomap_iter *b, uint64_t n, bool *same)
{
	struct iomap_dax_dev *dev = a->iomap.dax_dev;
	struct dax_compare c = { .n = n };
	void *ma, *mb;
	int err;

	if (a->iomap.type != IOMAP_MAPPED || b->iomap.type != IOMAP_MAPPED || b->iomap.dax_dev != dev ||
	    !dax_read_lock(dev))
		return -EIO;
	err = dax_direct_access(dev, iomap_sector_addr(&a->iomap, a->pos), n, &ma);
	if (!err)
		err = dax_direct_access(dev, iomap_sector_addr(&b->iomap, b->pos), n, &mb);
	if (!err) {
		c.a = ma;
		c.b = mb;
		err = dax_guarded(ma, mb, n, do_compare, &c);
		*same = c.same;
	}
	dax_read_unlock(dev);
	return err;
}

/* The mapping of a against all of b that faces it. */
static int compare_iter(struct iomap_iter *a, struct inode *inode_b, uint64_t pos_b,
			const struct iomap_ops *ops, bool *same)
{
	struct iomap_iter b = {
		.inode = inode_b, .pos = pos_b, .len = iomap_length(a), .flags = IOMAP_DAX,
	};
	int err;

	while ((err = iomap_iter(&b, ops)) > 0) {
		const uint64_t n = iomap_length(&b);

		if (has_data(&a->iomap) != has_data(&b.iomap))
			*same = false;
		else if (has_data(&a->iomap))
			b.status = compare_mapped(a, &b, n, same);
		if (!*same || b.status)
			continue;
		b.status = iomap_iter_advance(&b, n);
		if (!b.status)
			b.status = iomap_iter_advance(a, n);
	}
	return err;
}

int dax_remap_compare(struct inode *a, uint64_t pos_a, struct inode *b, uint64_t pos_b, uint64_t len,
		      const struct iomap_ops *ops, bool *same)
{
	struct iomap_iter iter = { .inode = a, .pos = pos_a, .len = len, .flags = IOMAP_DAX };
	int err;

	*same = true;
	while ((err = iomap_iter(&iter, ops)) > 0) {
		iter.status = compare_iter(&iter, b, pos_b + (iter.pos - pos_a), ops, same);
		if (!iter.status && !*same)
			iter.status = -EBADE; /* enough seen */
	}
	return *same ? err : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The engine's side: files whose blocks libiomap asks for. This is what a file system has to write.
 *
 *	file_write             writeback                     store_commit
 *	take free blocks       data to the device            write back, and wait
 *	(UNWRITTEN), copy      then: make them MAPPED,       copy the table, flush the device,
 *	into the cache         raise the size in the table   write the copy, durably
 *
 * So a table on the device never shows a block whose data is not there.
 */
#include "store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct file {
	struct inode inode;        /* first, so that the engine's inode is our file */
	struct store *st;
	uint16_t slot;
	_Atomic uint64_t seq;      /* counts changes of addr and states: what was sampled before is stale */
	uint32_t addr[];           /* block of the device for each block of the file; 0: hole */
};

/* ---- Blocks; the lock held ------------------------------------------------------------------- */

/* Give the hole [pos, end) of a file one run of free blocks. */
static int take_blocks(struct file *f, uint64_t pos, uint64_t end)
{
	struct store *st = f->st;
	const uint64_t nr = st->now->nr_blocks;
	uint64_t b = st->hint, left = nr;

	for (; left && !is_free(st, b); left--)
		b = (b + 1) % nr;
	if (!left)
		return -ENOSPC;
	for (; pos < end && b < nr && is_free(st, b); pos++, b++) {
		st->now->owners[b] = (struct owner){ f->slot, true, (uint32_t)pos };
		f->addr[pos] = (uint32_t)b;
	}
	st->hint = b % nr;
	atomic_fetch_add(&f->seq, 1);
	return 0;
}

/* What is at block pos of a file, looking no further than block end. */
static void map_at(struct file *f, uint64_t pos, uint64_t end, struct iomap *m)
{
	const struct owner *owners = f->st->now->owners;
	const uint32_t first = f->addr[pos];
	const bool unwritten = owners[first].unwritten;
	uint64_t n = 1;

	while (pos + n < end && f->addr[pos + n] == (first ? first + n : 0) &&
	       owners[f->addr[pos + n]].unwritten == unwritten)
		n++;
	*m = (struct iomap){
		.type = !first ? IOMAP_HOLE : unwritten ? IOMAP_UNWRITTEN : IOMAP_MAPPED,
		.addr = first ? (uint64_t)first << BITS : IOMAP_NULL_ADDR,
		.offset = pos << BITS, .length = n << BITS,
		.bdev = &f->st->dev, .validity_cookie = atomic_load(&f->seq),
	};
}

/* ---- What the engine asks of us: see iomap(3) ------------------------------------------------ */

static int begin(struct inode *inode, uint64_t start, uint64_t length, unsigned flags, struct iomap *m,
		 struct iomap *srcmap)
{
	struct file *f = (struct file *)inode;
	const uint64_t pos = start >> BITS, nr = f->st->now->nr_blocks;
	const uint64_t end = length < (nr << BITS) - start ? UP(start + length) >> BITS : nr;
	int err = 0;

	assert(pos < nr);

	lk_lock(&f->st->lock);
	map_at(f, pos, end, m);
	/* With delayed allocation this would only count blocks, and writeback_range take them. */
	if (m->type == IOMAP_HOLE && (flags & IOMAP_WRITE)) {
		err = f->st->error ? f->st->error : take_blocks(f, pos, iomap_end(m) >> BITS);
		map_at(f, pos, end, m);
	}
	lk_unlock(&f->st->lock);
	return err;
}

static bool still_valid(struct inode *inode, const struct iomap *m)
{
	return m->validity_cookie == atomic_load(&((struct file *)inode)->seq);
}

static int64_t writeback_range(struct iomap_writepage_ctx *wpc, struct folio *folio, uint64_t pos,
			       unsigned len, uint64_t end_pos)
{
	struct file *f = (struct file *)wpc->inode;

	lk_lock(&f->st->lock);
	map_at(f, pos >> BITS, UP(pos + len) >> BITS, &wpc->iomap);
	lk_unlock(&f->st->lock);
	return iomap_add_to_ioend(wpc, folio, pos, end_pos, len);
}

/* Bytes [start, end) have reached the device: they may be seen, and the size may count them. */
static void written(struct inode *inode, uint64_t start, uint64_t end)
{
	struct file *f = (struct file *)inode;
	struct record *r = &f->st->now->files[f->slot - 1];

	lk_lock(&f->st->lock);
	for (uint64_t pos = start >> BITS; pos < UP(end) >> BITS; pos++)
		f->st->now->owners[f->addr[pos]].unwritten = false;
	if (r->size < end)
		r->size = end;
	atomic_fetch_add(&f->seq, 1);
	lk_unlock(&f->st->lock);
}

static void finish_ioend(struct work *w)
{
	struct iomap_ioend *ioend = cds_list_entry(w, struct iomap_ioend, io_work);

	if (!ioend->io_error)
		written(ioend->io_inode, ioend->io_offset, ioend->io_offset + ioend->io_size);
	iomap_finish_ioends(ioend, ioend->io_error);
}

/* On the device's thread, which must not wait for a lock. */
static void end_ioend(struct iomap_ioend *ioend)
{
	ioend->io_work.fn = finish_ioend;
	work_queue(((struct file *)ioend->io_inode)->st->pool, &ioend->io_work);
}

static int dio_end_io(struct kiocb *io, int64_t size, int error, unsigned flags)
{
	const uint64_t end = io->ki_pos + (uint64_t)size;

	if (error || size <= 0)
		return error;
	written(io->ki_inode, io->ki_pos, end);
	if (end > i_size_read(io->ki_inode))
		i_size_write(io->ki_inode, end);
	return 0;
}

const struct iomap_ops flatstore_iomap_ops = { .iomap_begin = begin };
static const struct iomap_write_ops write_ops = { .iomap_valid = still_valid };
static const struct iomap_dio_ops dio_ops = { .end_io = dio_end_io };
static const struct iomap_writeback_ops wb_ops = { .writeback_range = writeback_range };

static int writepages(struct address_space *m, struct writeback_control *wbc)
{
	return iomap_writepages(&(struct iomap_writepage_ctx){
		.inode = m->host, .wbc = wbc, .ops = &wb_ops, .end_ioend = end_ioend });
}

static const struct address_space_operations aops = {
	.writepages = writepages, .dirty_folio = iomap_dirty_folio, .release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio, .is_partially_uptodate = iomap_is_partially_uptodate,
};

/* ---- Files ----------------------------------------------------------------------------------- */

int file_open(struct store *st, const char *name, bool create, struct inode **out)
{
	const uint64_t nr = st->now->nr_blocks;
	uint16_t slot = bad_name(name) ? 0 : find_slot(st, name);
	struct file *f;

	if (!slot && (!create || bad_name(name)))
		return create ? -ENAMETOOLONG : -ENOENT;
	slot = slot ? slot : find_slot(st, "");
	if (!slot)
		return -ENOSPC;
	f = calloc(1, sizeof(*f) + nr * sizeof(f->addr[0]));
	if (!f || iomap_inode_init(&f->inode, st->cache, &aops, BITS, slot)) {
		free(f);
		return -ENOMEM;
	}
	memcpy(st->now->files[slot - 1].name, name, strlen(name) + 1);
	f->st = st;
	f->slot = slot;
	for (uint32_t b = 0; b < nr; b++)
		if (st->now->owners[b].slot == slot && st->now->owners[b].pos < nr)
			f->addr[st->now->owners[b].pos] = b;
	i_size_write(&f->inode, st->now->files[slot - 1].size);
	*out = &f->inode;
	return 0;
}

int file_close(struct inode *inode)
{
	int err = filemap_write_and_wait_range(&inode->i_mapping, 0, UINT64_MAX);

	truncate_inode_pages_range(&inode->i_mapping, 0, UINT64_MAX);
	iomap_inode_destroy(inode);
	free(inode);
	return err;
}

int64_t file_read(struct inode *inode, uint64_t pos, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct iov_iter to;
	struct kiocb io = { .ki_inode = inode, .ki_pos = pos };
	int64_t ret;

	iov_iter_init(&to, &iov, 1, len);
	lk_rdlock(&inode->i_rwsem);
	ret = iomap_file_buffered_read(&io, &to, &flatstore_iomap_ops);
	lk_rw_unlock(&inode->i_rwsem);
	return ret;
}

int64_t file_write(struct inode *inode, uint64_t pos, const void *buf, size_t len, bool direct)
{
	struct store *st = ((struct file *)inode)->st;
	const uint64_t limit = st->now->nr_blocks << BITS;
	const struct iomap_ops *ops = &flatstore_iomap_ops;
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct iov_iter from;
	struct kiocb io = { .ki_inode = inode, .ki_pos = pos, .ki_flags = IOCB_WRITE };
	uint64_t size;
	int64_t ret = 0;

	if (pos > limit || len > limit - pos)
		return -EFBIG;
	direct = direct && ((pos | len) & (st->dev.logical_block - 1)) == 0;
	iov_iter_init(&from, &iov, 1, len);
	lk_wrlock(&inode->i_rwsem);
	size = i_size_read(inode);
	if (pos > size) { /* what lies behind the old end becomes part of the file: zeros */
		lk_wrlock(&inode->i_mapping.invalidate_lock);
		ret = iomap_zero_range(inode, size, pos - size, NULL, ops, &write_ops, NULL);
		lk_rw_unlock(&inode->i_mapping.invalidate_lock);
	}
	if (!ret && direct)
		ret = iomap_dio_rw(&io, &from, ops, &dio_ops, IOMAP_DIO_FORCE_WAIT, NULL, 0);
	if ((!ret && !direct) || ret == -ENOTBLK)
		ret = iomap_file_buffered_write(&io, &from, ops, &write_ops, NULL);
	lk_rw_unlock(&inode->i_rwsem);
	return ret;
}

/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "toymap.h"

#define TOY(i) container_of((i), struct toy, inode)

/* ---- Device ------------------------------------------------------------------------- */

/*
 * The device reads memory that a writer may be changing, as real ones do; such a block
 * is dirty again and written again. Word by word and not instrumented, since that race
 * is meant.
 */
__attribute__((no_sanitize("thread"), noinline)) static void dev_copy(void *dst, const void *src,
								      size_t n)
{
	volatile uint64_t *d = dst;
	const volatile uint64_t *s = src;

	for (size_t i = 0; i < n / sizeof(*d); i++)
		d[i] = s[i];
}

static bool in_fail_range(const struct toy *t, const struct iomap_bio *bio)
{
	return !t->fail_len ||
	       (bio->addr < t->fail_addr + t->fail_len && t->fail_addr < bio->addr + bio->len);
}

static void dev_do(struct toy *t, struct iomap_bio *bio)
{
	uint64_t addr = bio->addr;
	bool write = bio->op == IOMAP_BIO_WRITE;
	int fail = write ? atomic_load(&t->fail_write) : atomic_load(&t->fail_read);

	pthread_mutex_lock(&t->log_lock);
	if (t->nr_log < TOY_LOG_MAX)
		t->log[t->nr_log++] = (struct toy_io){ bio->op, bio->addr, bio->len, bio->flags };
	*(write ? &t->nr_writes : &t->nr_reads) += 1;
	bio->status = fail && in_fail_range(t, bio) ? fail : 0;
	assert(bio->addr + bio->len <= TOY_DEV_BYTES);
	for (unsigned i = 0; i < bio->nr_vecs && !bio->status; i++) {
		struct iovec *v = &bio->vec[i];

		assert(IS_ALIGNED((uintptr_t)v->iov_base, t->dev.mem_align));
		assert(IS_ALIGNED(v->iov_len, t->dev.logical_block));
		if (write)
			dev_copy(t->dev_mem + addr, v->iov_base, v->iov_len);
		else
			memcpy(v->iov_base, t->dev_mem + addr, v->iov_len);
		addr += v->iov_len;
	}
	pthread_mutex_unlock(&t->log_lock);
	bio->end_io(bio);
}

static void dev_submit(struct iomap_dev *dev, struct iomap_bio *bio)
{
	struct toy *t = dev->private;

	if (!t->late) {
		dev_do(t, bio);
		return;
	}
	pthread_mutex_lock(&t->late_lock);
	assert(t->nr_late < ARRAY_SIZE(t->late_bios));
	t->late_bios[t->nr_late++] = bio;
	pthread_cond_signal(&t->late_wake);
	pthread_mutex_unlock(&t->late_lock);
}

static void *late_main(void *arg)
{
	struct toy *t = arg;

	pthread_mutex_lock(&t->late_lock);
	for (;;) {
		struct iomap_bio *bio;
		unsigned i;

		while ((!t->nr_late || t->hold) && !(t->stop && !t->nr_late))
			pthread_cond_wait(&t->late_wake, &t->late_lock);
		if (!t->nr_late)
			break;
		t->late_rng = t->late_rng * 6364136223846793005ull + 1442695040888963407ull;
		i = (unsigned)((t->late_rng >> 33) % t->nr_late);
		bio = t->late_bios[i];
		t->late_bios[i] = t->late_bios[--t->nr_late];
		pthread_mutex_unlock(&t->late_lock);
		dev_do(t, bio);
		pthread_mutex_lock(&t->late_lock);
	}
	pthread_mutex_unlock(&t->late_lock);
	return NULL;
}

void toy_hold(struct toy *t, bool hold)
{
	pthread_mutex_lock(&t->late_lock);
	t->hold = hold;
	pthread_cond_signal(&t->late_wake);
	pthread_mutex_unlock(&t->late_lock);
}

void toy_log_reset(struct toy *t)
{
	pthread_mutex_lock(&t->log_lock);
	t->nr_log = t->nr_reads = t->nr_writes = 0;
	pthread_mutex_unlock(&t->log_lock);
}

static const struct iomap_dev_ops toy_dev_ops = { .submit = dev_submit };

/* ---- Space; t->lock held --------------------------------------------------------------- */

static int reserve(struct toy *t, uint64_t nr)
{
	if (t->nr_used + t->nr_reserved + nr > t->space_limit)
		return -ENOSPC;
	t->nr_reserved += nr;
	return 0;
}

/* A reserved block becomes a device block, next to the last one if it can. */
static uint32_t alloc_reserved(struct toy *t)
{
	assert(t->nr_reserved);
	for (unsigned tries = 0; tries < t->dev_blocks; tries++) {
		unsigned b = t->dev_next;

		t->dev_next = t->dev_next + 1 < t->dev_blocks ? t->dev_next + 1 : 1;
		if (t->dev_used[b])
			continue;
		t->dev_used[b] = true;
		t->nr_reserved--;
		t->nr_used++;
		return b;
	}
	abort();
}

static void free_dev_block(struct toy *t, uint32_t b, bool keep)
{
	assert(b && t->dev_used[b]);
	/* A shared block stays: the other owner has it. */
	if (!keep)
		t->dev_used[b] = false;
	t->nr_used--;
}

static void drop_block(struct toy *t, struct toy_block *b)
{
	if (b->type == IOMAP_DELALLOC)
		t->nr_reserved--;
	else if (b->type == IOMAP_MAPPED || b->type == IOMAP_UNWRITTEN)
		free_dev_block(t, b->dev_block, b->shared);
	if (b->cow && b->cow_block)
		free_dev_block(t, b->cow_block, false);
	else if (b->cow)
		t->nr_reserved--;
	memset(b, 0, sizeof(*b));
	b->type = IOMAP_HOLE;
}

static void drop_blocks(struct toy *t, uint64_t first, uint64_t end)
{
	for (; first < MIN(end, (uint64_t)t->nr_blocks); first++)
		drop_block(t, &t->blocks[first]);
	atomic_fetch_add(&t->seq, 1);
}

/* ---- Mappings ----------------------------------------------------------------------------- */

static bool same_run(const struct toy_block *a, const struct toy_block *b, unsigned dist)
{
	if (a->type != b->type || a->shared != b->shared || a->cow != b->cow)
		return false;
	if (a->cow && (a->cow_block ? a->cow_block + dist : 0) != b->cow_block)
		return false;
	if (a->type == IOMAP_MAPPED || a->type == IOMAP_UNWRITTEN)
		return a->dev_block + dist == b->dev_block;
	return true;
}

static void fill_map(struct toy *t, struct iomap *m, unsigned first, unsigned end, bool cow)
{
	const struct toy_block *b = &t->blocks[first];
	unsigned bits = t->inode.i_blkbits;
	uint32_t dev_block = cow ? b->cow_block : b->dev_block;
	enum iomap_type type = b->type;

	if (cow)
		type = b->cow_block ? IOMAP_UNWRITTEN : IOMAP_DELALLOC;
	m->offset = (uint64_t)first << bits;
	m->length = (uint64_t)(end - first) << bits;
	m->type = type;
	m->addr = IOMAP_NULL_ADDR;
	if (type == IOMAP_MAPPED || type == IOMAP_UNWRITTEN)
		m->addr = (uint64_t)dev_block << bits;
	m->bdev = &t->dev;
	m->flags = b->shared || cow ? IOMAP_F_SHARED : 0;
	m->validity_cookie = atomic_load(&t->seq);
}

static unsigned run_end(struct toy *t, unsigned first, unsigned limit)
{
	unsigned i = first + 1;

	while (i < limit && same_run(&t->blocks[first], &t->blocks[i], i - first))
		i++;
	return i;
}

static bool dio_needs_unwritten_only(unsigned flags)
{
	return (flags & (IOMAP_WRITE | IOMAP_DIRECT)) == (IOMAP_WRITE | IOMAP_DIRECT);
}

/* Reserve or allocate block i for a write; +1: something new was made. */
static int prepare_block(struct toy *t, struct toy_block *b, unsigned flags)
{
	bool direct = dio_needs_unwritten_only(flags);
	int err, made = 0;

	if (b->shared && !b->cow) {
		if (direct)
			return -ENOTBLK;
		err = reserve(t, 1);
		if (err)
			return err;
		b->cow = true;
		return 1;
	}
	if (b->type == IOMAP_HOLE) {
		err = reserve(t, 1);
		if (err)
			return err;
		b->type = IOMAP_DELALLOC;
		made = 1;
	}
	if (direct && b->type == IOMAP_DELALLOC) {
		b->dev_block = alloc_reserved(t);
		b->type = IOMAP_UNWRITTEN;
		memset(t->dev_mem + ((uint64_t)b->dev_block << t->inode.i_blkbits), 0xdd,
		       i_blocksize(&t->inode));
	}
	return made;
}

/* Blocks that a write of [first, limit) may use: alike before, so alike after. */
static int begin_write(struct toy *t, unsigned first, unsigned limit, unsigned flags, bool *new,
		       unsigned *end)
{
	struct toy_block was = t->blocks[first];
	unsigned i;

	*new = false;
	for (i = first; i < limit; i++) {
		int ret;

		if (!same_run(&was, &t->blocks[i], i - first))
			break;
		ret = prepare_block(t, &t->blocks[i], flags);
		if (ret < 0) {
			if (i == first)
				return ret;
			break;
		}
		if (ret)
			*new = true;
	}
	if (*new || was.type == IOMAP_DELALLOC)
		atomic_fetch_add(&t->seq, 1);
	/* Direct allocation may have jumped on the device. */
	*end = run_end(t, first, i);
	return 0;
}

static int begin_inline(struct toy *t, struct iomap *m)
{
	m->type = IOMAP_INLINE;
	m->addr = IOMAP_NULL_ADDR;
	m->length = t->inline_cap;
	m->inline_data = t->inline_buf;
	m->validity_cookie = atomic_load(&t->seq);
	return 0;
}

/* An untorn write: by the device where one aligned extent holds it all. */
static int mark_atomic(struct toy *t, uint64_t pos, uint64_t length, struct iomap *m)
{
	if (iomap_end(m) - pos < length || length > t->dev.atomic_max ||
	    !IS_ALIGNED(iomap_sector_addr(m, pos), length))
		return -ENOPROTOOPT;
	m->flags |= IOMAP_F_ATOMIC_BIO;
	return 0;
}

static int toy_begin_locked(struct toy *t, uint64_t pos, uint64_t length, unsigned flags,
			    struct iomap *m, struct iomap *src)
{
	unsigned bits = t->inode.i_blkbits;
	unsigned first = (unsigned)(pos >> bits), limit, end = first;
	bool new = false, write = flags & IOMAP_WRITE;
	int err;

	if (t->inline_buf && pos < t->inline_cap)
		return begin_inline(t, m);
	if (first >= t->nr_blocks) {
		if (write)
			return -EFBIG;
		m->offset = pos;
		m->length = length;
		m->addr = IOMAP_NULL_ADDR;
		m->validity_cookie = atomic_load(&t->seq);
		return 0;
	}
	limit = (unsigned)MIN((uint64_t)t->nr_blocks, ((pos + length - 1) >> bits) + 1);
	if (t->cap_one_block)
		limit = first + 1;
	if ((flags & IOMAP_ZERO) && t->blocks[first].shared)
		write = true;
	if (flags & IOMAP_UNSHARE)
		write = t->blocks[first].shared;
	if (write && (flags & IOMAP_OVERWRITE_ONLY)) {
		if (t->blocks[first].type != IOMAP_MAPPED || t->blocks[first].shared ||
		    run_end(t, first, limit) != limit)
			return -EAGAIN;
	}
	if (write) {
		err = begin_write(t, first, limit, flags, &new, &end);
		if (err)
			return err;
	} else {
		end = run_end(t, first, limit);
	}
	if (t->blocks[first].cow && (flags & (IOMAP_WRITE | IOMAP_ZERO))) {
		fill_map(t, m, first, end, true);
		fill_map(t, src, first, end, false);
		src->flags = 0;
	} else {
		fill_map(t, m, first, end, false);
	}
	if (new)
		m->flags |= IOMAP_F_NEW;
	m->flags |= t->map_flags;
	if (t->fbatch && (flags & IOMAP_ZERO) && m->type == IOMAP_UNWRITTEN) {
		uint64_t reach = pos;

		iomap_fill_dirty_folios(m, &reach, MIN(pos + length, iomap_end(m)));
		m->length = reach - m->offset;
	}
	return flags & IOMAP_ATOMIC ? mark_atomic(t, pos, length, m) : 0;
}

static int toy_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
		     struct iomap *m, struct iomap *src)
{
	struct toy *t = TOY(inode);
	int err = atomic_load(&t->begin_countdown);

	atomic_fetch_or(&t->flags_seen, flags);
	if (err && atomic_fetch_sub(&t->begin_countdown, 1) == 1)
		return atomic_load(&t->fail_begin);
	if (!err && atomic_load(&t->fail_begin))
		return atomic_load(&t->fail_begin);
	if (flags & IOMAP_NOWAIT) {
		if (!lk_trylock(&t->lock))
			return -EAGAIN;
	} else {
		lk_lock(&t->lock);
	}
	err = toy_begin_locked(t, pos, length, flags, m, src);
	lk_unlock(&t->lock);
	if (!err)
		atomic_fetch_add(&t->nr_begin, 1);
	return err;
}

static void toy_punch_delalloc(struct inode *inode, uint64_t off, uint64_t len, struct iomap *m)
{
	struct toy *t = TOY(inode);
	unsigned bits = inode->i_blkbits;

	lk_lock(&t->lock);
	for (uint64_t i = off >> bits; i < (off + len) >> bits && i < t->nr_blocks; i++) {
		struct toy_block *b = &t->blocks[i];

		if (b->type == IOMAP_DELALLOC) {
			drop_block(t, b);
		} else if (b->cow && !b->cow_block) {
			b->cow = false;
			t->nr_reserved--;
		}
	}
	atomic_fetch_add(&t->seq, 1);
	lk_unlock(&t->lock);
}

static int toy_end(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written,
		   unsigned flags, struct iomap *m)
{
	struct toy *t = TOY(inode);
	uint64_t bs = i_blocksize(inode), start, end;
	bool own_lock = !(flags & (IOMAP_ZERO | IOMAP_UNSHARE));

	atomic_fetch_add(&t->nr_end, 1);
	if (m->flags & IOMAP_F_STALE)
		atomic_fetch_add(&t->nr_stale_end, 1);
	lk_lock(&t->lock);
	t->last_flags = m->flags;
	t->last_written = written;
	t->last_offered = length;
	lk_unlock(&t->lock);
	if (m->type != IOMAP_DELALLOC || !(m->flags & IOMAP_F_NEW) || (flags & IOMAP_FAULT))
		return 0;
	start = written ? ROUND_UP(pos + written, bs) : ROUND_DOWN(pos, bs);
	end = ROUND_UP(pos + length, bs);
	if (start >= end)
		return 0;
	if (own_lock)
		lk_wrlock(&inode->i_mapping.invalidate_lock);
	iomap_write_delalloc_release(inode, start, end, flags, m, toy_punch_delalloc);
	if (own_lock)
		lk_rw_unlock(&inode->i_mapping.invalidate_lock);
	return 0;
}

const struct iomap_ops toy_ops = { .iomap_begin = toy_begin, .iomap_end = toy_end };

static bool toy_valid(struct inode *inode, const struct iomap *m)
{
	struct toy *t = TOY(inode);

	if (atomic_load(&t->stale_times) > 0 && atomic_fetch_sub(&t->stale_times, 1) > 0)
		return false;
	return atomic_load(&t->seq) == m->validity_cookie;
}

const struct iomap_write_ops toy_write_ops = { .iomap_valid = toy_valid };

/* ---- Writeback --------------------------------------------------------------------------------- */

static int alloc_for_writeback(struct toy *t, unsigned first, unsigned *end)
{
	struct toy_block *b = &t->blocks[first];
	bool cow = b->cow;
	unsigned i, stop = run_end(t, first, t->nr_blocks);

	if (!(cow && !b->cow_block) && b->type != IOMAP_DELALLOC) {
		*end = stop;
		return 0;
	}
	if (atomic_load(&t->fail_alloc))
		return atomic_load(&t->fail_alloc);
	for (i = first; i < stop; i++) {
		uint32_t n = alloc_reserved(t);

		memset(t->dev_mem + ((uint64_t)n << t->inode.i_blkbits), 0xdd,
		       i_blocksize(&t->inode));
		if (cow) {
			t->blocks[i].cow_block = n;
		} else {
			t->blocks[i].dev_block = n;
			t->blocks[i].type = IOMAP_UNWRITTEN;
		}
	}
	atomic_fetch_add(&t->seq, 1);
	*end = run_end(t, first, stop);
	return 0;
}

static int64_t toy_writeback_range(struct iomap_writepage_ctx *wpc, struct folio *f, uint64_t pos,
				   unsigned len, uint64_t end_pos)
{
	struct toy *t = TOY(wpc->inode);
	unsigned first = (unsigned)(pos >> t->inode.i_blkbits), end = first;
	struct iomap *m = &wpc->iomap;
	int err = 0;

	lk_lock(&t->lock);
	if (!m->length || pos < m->offset || pos >= iomap_end(m) ||
	    m->validity_cookie != atomic_load(&t->seq)) {
		memset(m, 0, sizeof(*m));
		err = alloc_for_writeback(t, first, &end);
		if (!err)
			fill_map(t, m, first, end, t->blocks[first].cow);
	}
	lk_unlock(&t->lock);
	if (err) {
		toy_punch_delalloc(wpc->inode, pos, folio_pos(f) + folio_size(f) - pos, NULL);
		return err;
	}
	return iomap_add_to_ioend(wpc, f, pos, end_pos, len);
}

static void convert_range(struct toy *t, uint64_t pos, uint64_t len, bool cow)
{
	unsigned bits = t->inode.i_blkbits;

	lk_lock(&t->lock);
	for (uint64_t i = pos >> bits; i <= (pos + len - 1) >> bits; i++) {
		struct toy_block *b = &t->blocks[i];

		if (cow && b->cow && b->cow_block) {
			free_dev_block(t, b->dev_block, true);
			*b = (struct toy_block){ .type = IOMAP_MAPPED, .dev_block = b->cow_block };
		} else if (b->type == IOMAP_UNWRITTEN) {
			b->type = IOMAP_MAPPED;
		}
	}
	atomic_fetch_add(&t->nr_convert, 1);
	atomic_fetch_add(&t->seq, 1);
	lk_unlock(&t->lock);
}

static void finish_ioend(struct toy *t, struct iomap_ioend *io)
{
	int err = io->io_error;

	if (!err && (io->io_flags & (IOMAP_IOEND_UNWRITTEN | IOMAP_IOEND_SHARED)))
		convert_range(t, io->io_offset, io->io_size, io->io_flags & IOMAP_IOEND_SHARED);
	if (!err) {
		lk_lock(&t->lock);
		t->disk_size = MAX(t->disk_size, io->io_offset + io->io_size);
		lk_unlock(&t->lock);
	}
	iomap_finish_ioends(io, err);
}

static void ioend_work(struct work *w)
{
	struct toy *t = container_of(w, struct toy, ioend_work);
	struct cds_list_head list;

	CDS_INIT_LIST_HEAD(&list);
	pthread_mutex_lock(&t->ioend_lock);
	cds_list_splice(&t->ioends, &list);
	CDS_INIT_LIST_HEAD(&t->ioends);
	t->ioend_queued = false;
	pthread_mutex_unlock(&t->ioend_lock);
	iomap_sort_ioends(&list);
	while (!cds_list_empty(&list)) {
		struct iomap_ioend *io = cds_list_first_entry(&list, struct iomap_ioend, io_list);

		cds_list_del_init(&io->io_list);
		iomap_ioend_try_merge(io, &list);
		finish_ioend(t, io);
	}
}

static void toy_end_ioend(struct iomap_ioend *io)
{
	struct toy *t = TOY(io->io_inode);

	pthread_mutex_lock(&t->ioend_lock);
	cds_list_add_tail(&io->io_list, &t->ioends);
	if (!t->ioend_queued) {
		t->ioend_queued = true;
		work_queue(t->pool, &t->ioend_work);
	}
	pthread_mutex_unlock(&t->ioend_lock);
}

static const struct iomap_writeback_ops toy_wb_ops = { .writeback_range = toy_writeback_range };

static int toy_writepages(struct address_space *m, struct writeback_control *wbc)
{
	struct iomap_writepage_ctx wpc = {
		.inode = m->host, .wbc = wbc, .ops = &toy_wb_ops, .end_ioend = toy_end_ioend,
	};

	return iomap_writepages(&wpc);
}

const struct address_space_operations toy_aops = {
	.writepages = toy_writepages,
	.dirty_folio = iomap_dirty_folio,
	.release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio,
	.is_partially_uptodate = iomap_is_partially_uptodate,
};

/* ---- Direct I/O ---------------------------------------------------------------------------------- */

static int toy_dio_end_io(struct kiocb *iocb, int64_t size, int error, unsigned flags)
{
	struct inode *inode = iocb->ki_inode;
	uint64_t end = iocb->ki_pos + (uint64_t)size;

	if (error)
		return error;
	if (!size || !(iocb->ki_flags & IOCB_WRITE))
		return 0;
	if (flags & IOMAP_DIO_UNWRITTEN)
		convert_range(TOY(inode), iocb->ki_pos, (uint64_t)size, false);
	if (end > i_size_read(inode))
		i_size_write(inode, end);
	return 0;
}

const struct iomap_dio_ops toy_dio_ops = { .end_io = toy_dio_end_io };

/* ---- Operations ------------------------------------------------------------------------------------ */

int64_t toy_read(struct toy *t, uint64_t pos, void *buf, size_t len, unsigned flags)
{
	struct iovec iov = { buf, len };
	struct iov_iter it;
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = pos, .ki_flags = flags };
	int64_t ret;

	iov_iter_init(&it, &iov, 1, len);
	lk_rdlock(&t->inode.i_rwsem);
	ret = iomap_file_buffered_read(&iocb, &it, &toy_ops);
	lk_rw_unlock(&t->inode.i_rwsem);
	return ret;
}

static int zero_gap(struct toy *t, uint64_t pos)
{
	uint64_t isize = i_size_read(&t->inode);
	int err;

	if (pos <= isize)
		return 0;
	lk_wrlock(&t->inode.i_mapping.invalidate_lock);
	err = iomap_zero_range(&t->inode, isize, pos - isize, NULL, &toy_ops, &toy_write_ops, NULL);
	lk_rw_unlock(&t->inode.i_mapping.invalidate_lock);
	return err;
}

static int64_t write_locked(struct toy *t, uint64_t pos, const void *buf, size_t len, unsigned flags)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct iov_iter it;
	struct kiocb iocb = {
		.ki_inode = &t->inode, .ki_pos = pos, .ki_flags = flags | IOCB_WRITE,
	};

	iov_iter_init(&it, &iov, 1, len);
	return iomap_file_buffered_write(&iocb, &it, &toy_ops, &toy_write_ops, NULL);
}

int64_t toy_write(struct toy *t, uint64_t pos, const void *buf, size_t len, unsigned flags)
{
	int64_t ret;

	lk_wrlock(&t->inode.i_rwsem);
	ret = flags & IOCB_NOWAIT ? 0 : zero_gap(t, pos);
	if (!ret)
		ret = write_locked(t, pos, buf, len, flags);
	lk_rw_unlock(&t->inode.i_rwsem);
	return ret;
}

int64_t toy_dio_read(struct toy *t, uint64_t pos, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct iov_iter it;
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = pos };
	int64_t ret;

	iov_iter_init(&it, &iov, 1, len);
	lk_rdlock(&t->inode.i_rwsem);
	ret = iomap_dio_rw(&iocb, &it, &toy_ops, &toy_dio_ops, 0, NULL, 0);
	lk_rw_unlock(&t->inode.i_rwsem);
	return ret;
}

int64_t toy_dio_write(struct toy *t, uint64_t pos, const void *buf, size_t len, unsigned flags)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct iov_iter it;
	struct kiocb iocb = {
		.ki_inode = &t->inode, .ki_pos = pos, .ki_flags = flags | IOCB_WRITE | IOCB_DIRECT,
	};
	int64_t ret;

	iov_iter_init(&it, &iov, 1, len);
	lk_wrlock(&t->inode.i_rwsem);
	inode_dio_wait(&t->inode);
	ret = zero_gap(t, pos);
	if (!ret)
		ret = iomap_dio_rw(&iocb, &it, &toy_ops, &toy_dio_ops, IOMAP_DIO_FORCE_WAIT, NULL, 0);
	if (ret == -ENOTBLK || (ret >= 0 && (size_t)ret < len)) {
		uint64_t done = ret > 0 ? (uint64_t)ret : 0;

		ret = write_locked(t, pos + done, (const char *)buf + done, len - done, flags);
		if (ret > 0) {
			ret += (int64_t)done;
			filemap_write_and_wait_range(&t->inode.i_mapping, pos, pos + len - 1);
			invalidate_inode_pages2_range(&t->inode.i_mapping, pos, pos + len - 1);
		}
	}
	lk_rw_unlock(&t->inode.i_rwsem);
	return ret;
}

static void lock_all(struct toy *t)
{
	lk_wrlock(&t->inode.i_rwsem);
	lk_wrlock(&t->inode.i_mapping.invalidate_lock);
	inode_dio_wait(&t->inode);
}

static void unlock_all(struct toy *t)
{
	lk_rw_unlock(&t->inode.i_mapping.invalidate_lock);
	lk_rw_unlock(&t->inode.i_rwsem);
}

int toy_zero(struct toy *t, uint64_t pos, uint64_t len, bool *did_zero)
{
	int err;

	lock_all(t);
	err = iomap_zero_range(&t->inode, pos, len, did_zero, &toy_ops, &toy_write_ops, NULL);
	unlock_all(t);
	return err;
}

static void free_blocks(struct toy *t, uint64_t first, uint64_t end)
{
	lk_lock(&t->lock);
	drop_blocks(t, first, end);
	lk_unlock(&t->lock);
}

int toy_truncate(struct toy *t, uint64_t size)
{
	struct inode *inode = &t->inode;
	uint64_t old = i_size_read(inode), bs = i_blocksize(inode);
	int err = 0;

	lock_all(t);
	if (size > old) {
		err = iomap_zero_range(inode, old, size - old, NULL, &toy_ops, &toy_write_ops, NULL);
		if (!err) {
			i_size_write(inode, size);
			pagecache_isize_extended(inode, old, size);
		}
	} else if (size < old) {
		err = iomap_truncate_page(inode, size, NULL, &toy_ops, &toy_write_ops, NULL);
		if (!err) {
			i_size_write(inode, size);
			truncate_inode_pages_range(&inode->i_mapping, size, UINT64_MAX);
			free_blocks(t, DIV_ROUND_UP(size, bs), t->nr_blocks);
			lk_lock(&t->lock);
			t->disk_size = MIN(t->disk_size, size);
			lk_unlock(&t->lock);
		}
	}
	unlock_all(t);
	return err;
}

int toy_punch(struct toy *t, uint64_t pos, uint64_t len)
{
	struct inode *inode = &t->inode;
	uint64_t bs = i_blocksize(inode), start = ROUND_UP(pos, bs), end = ROUND_DOWN(pos + len, bs);
	int err;

	lock_all(t);
	err = filemap_write_and_wait_range(&inode->i_mapping, pos, pos + len - 1);
	if (!err)
		err = iomap_zero_range(inode, pos, MIN(len, start - pos), NULL, &toy_ops,
				       &toy_write_ops, NULL);
	if (!err && end >= start && pos + len > end)
		err = iomap_zero_range(inode, end, pos + len - end, NULL, &toy_ops, &toy_write_ops,
				       NULL);
	if (!err && start < end) {
		truncate_inode_pages_range(&inode->i_mapping, start, end - 1);
		HOOK("toy:punch", inode);
		free_blocks(t, start / bs, end / bs);
	}
	unlock_all(t);
	return err;
}

int toy_unshare(struct toy *t, uint64_t pos, uint64_t len)
{
	int err;

	lock_all(t);
	err = iomap_file_unshare(&t->inode, pos, len, &toy_ops, &toy_write_ops);
	unlock_all(t);
	return err;
}

void toy_share(struct toy *t, uint64_t pos, uint64_t len)
{
	unsigned bits = t->inode.i_blkbits;

	lock_all(t);
	filemap_write_and_wait_range(&t->inode.i_mapping, 0, UINT64_MAX);
	lk_lock(&t->lock);
	for (uint64_t i = pos >> bits; i < MIN((pos + len) >> bits, (uint64_t)t->nr_blocks); i++)
		if (t->blocks[i].type == IOMAP_MAPPED)
			t->blocks[i].shared = true;
	atomic_fetch_add(&t->seq, 1);
	lk_unlock(&t->lock);
	unlock_all(t);
}

int toy_sync(struct toy *t)
{
	return filemap_write_and_wait_range(&t->inode.i_mapping, 0, UINT64_MAX);
}

int toy_drop_cache(struct toy *t)
{
	return toy_sync(t) ?: invalidate_inode_pages2_range(&t->inode.i_mapping, 0, UINT64_MAX);
}

void toy_set_blocks(struct toy *t, unsigned first, unsigned nr, enum iomap_type type, uint8_t fill)
{
	lk_lock(&t->lock);
	for (unsigned i = first; i < first + nr; i++) {
		struct toy_block *b = &t->blocks[i];

		drop_block(t, b);
		if (type == IOMAP_HOLE)
			continue;
		reserve(t, 1);
		b->type = type;
		if (type == IOMAP_DELALLOC)
			continue;
		b->dev_block = alloc_reserved(t);
		memset(t->dev_mem + ((uint64_t)b->dev_block << t->inode.i_blkbits), fill,
		       i_blocksize(&t->inode));
	}
	atomic_fetch_add(&t->seq, 1);
	lk_unlock(&t->lock);
}

/* ---- Life ------------------------------------------------------------------------------------------------ */

static int hook_fsync(struct inode *inode, uint64_t start, uint64_t end, bool datasync)
{
	struct toy *t = TOY(inode);

	atomic_fetch_add(&t->nr_fsync, 1);
	return filemap_write_and_wait_range(&inode->i_mapping, start, end);
}

static const struct inode_operations_hooks toy_hooks = { .fsync = hook_fsync };

static void must(int err)
{
	if (err)
		abort();
}

struct toy *toy_create(const struct toy_params *p)
{
	const struct folio_cache_params fcp = {
		.limit_bytes = 32u << 20, .dirty_background_bytes = 8u << 20,
		.dirty_limit_bytes = 16u << 20, .dirty_expire_ns = 1000000000ull * 3600,
		.nr_flushers = 1,
	};
	struct toy *t = calloc(1, sizeof(*t));
	unsigned min = p->blkbits > FOLIO_PAGE_SHIFT ? p->blkbits - FOLIO_PAGE_SHIFT : 0;

	must(folio_cache_create(&fcp, &t->fc));
	must(iomap_inode_init(&t->inode, t->fc, &toy_aops, p->blkbits, 42));
	must(work_pool_create("toy", 1, &t->pool));
	mapping_set_folio_order_range(&t->inode.i_mapping, min, MAX(min, p->max_order));
	t->inode.i_hooks = &toy_hooks;
	lk_mutex_init(&t->lock, LK_EXTLOCK, "toy");
	pthread_mutex_init(&t->log_lock, NULL);
	pthread_mutex_init(&t->late_lock, NULL);
	pthread_mutex_init(&t->ioend_lock, NULL);
	pthread_cond_init(&t->late_wake, NULL);
	CDS_INIT_LIST_HEAD(&t->ioends);
	t->ioend_work.fn = ioend_work;
	t->nr_blocks = TOY_MAX_BYTES >> p->blkbits;
	t->blocks = calloc(t->nr_blocks, sizeof(*t->blocks));
	t->dev_blocks = TOY_DEV_BYTES >> p->blkbits;
	t->dev_used = calloc(t->dev_blocks, sizeof(*t->dev_used));
	t->dev_next = 1;
	t->space_limit = t->dev_blocks / 2;
	t->dev_mem = aligned_alloc(4096, TOY_DEV_BYTES);
	memset(t->dev_mem, 0xee, TOY_DEV_BYTES);
	t->dev = (struct iomap_dev){
		.ops = &toy_dev_ops,
		.logical_block = p->logical_block ? p->logical_block : 512,
		.mem_align = 512,
		.max_io = p->max_io ? p->max_io : 1u << 20,
		.max_vecs = 64,
		.fua = true,
		.volatile_cache = true,
		.dio_workers = t->pool,
		.private = t,
	};
	t->late = p->late;
	t->late_rng = p->seed + 1;
	if (t->late)
		pthread_create(&t->late_thread, NULL, late_main, t);
	return t;
}

void toy_destroy(struct toy *t)
{
	toy_hold(t, false);
	inode_dio_wait(&t->inode);
	toy_sync(t);
	truncate_inode_pages_range(&t->inode.i_mapping, 0, UINT64_MAX);
	work_pool_drain(t->pool);
	if (t->late) {
		pthread_mutex_lock(&t->late_lock);
		t->stop = true;
		pthread_cond_signal(&t->late_wake);
		pthread_mutex_unlock(&t->late_lock);
		pthread_join(t->late_thread, NULL);
	}
	work_pool_destroy(t->pool);
	iomap_inode_destroy(&t->inode);
	folio_cache_destroy(t->fc);
	lk_mutex_destroy(&t->lock);
	pthread_mutex_destroy(&t->log_lock);
	pthread_mutex_destroy(&t->late_lock);
	pthread_mutex_destroy(&t->ioend_lock);
	pthread_cond_destroy(&t->late_wake);
	free(t->dev_mem);
	free(t->dev_used);
	free(t->blocks);
	free(t->inline_buf);
	free(t);
}

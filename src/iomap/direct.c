/* SPDX-License-Identifier: MIT */
/*
 * Direct I/O, submission: device requests straight from or to the caller's memory,
 * with the cache of the range written back and dropped first. What happens after
 * the device is done is in direct_complete.c.
 */
#include "iomap_private.h"

#define DIO_BOUNCE_MAX (1u << 20)
#define DIO_ZEROES     (64u << 10) /* the largest block */

static const char dio_zeroes[DIO_ZEROES] __attribute__((aligned(FOLIO_PAGE_SIZE)));

/* ---- Memory ---------------------------------------------------------------------------- */

/* Can the device use the caller's memory as it is, in pieces of a multiple of `align`? */
static bool memory_aligned(const struct iov_iter *i, const struct iomap_dev *dev, uint64_t align)
{
	size_t left = i->count, off = i->iov_offset;

	for (unsigned n = 0; n < i->nr_iov && left; n++) {
		size_t len = MIN(i->iov[n].iov_len - off, left);

		if (!IS_ALIGNED((uintptr_t)i->iov[n].iov_base + off, dev->mem_align) ||
		    !IS_ALIGNED(len, align))
			return false;
		left -= len;
		off = 0;
	}
	return true;
}

/* Put up to len bytes of caller memory into the bio; bytes taken. */
static size_t add_user_memory(struct iomap_dio *dio, struct iomap_bio *bio, size_t len, size_t max_io)
{
	size_t done = 0;

	while (done < len) {
		size_t n;
		void *mem = iomap_iov_peek(dio->user, &n);

		n = MIN(n, MIN(len - done, (size_t)(max_io - bio->len)));
		if (!n || !iomap_bio_add(bio, mem, n))
			break;
		iov_iter_advance(dio->user, n);
		done += n;
	}
	return done;
}

/* The memory of an untorn write is one piece: its device takes it as one or not at all. */
static bool in_one_piece(const struct iov_iter *i)
{
	return i->nr_iov && i->iov[0].iov_len - i->iov_offset >= i->count;
}

static int64_t add_bounce(struct iomap_dio *dio, struct iomap_bio *bio, size_t len, size_t max_io)
{
	struct dio_bounce *b;
	size_t copied;

	len = MIN(len, MIN(max_io, (size_t)DIO_BOUNCE_MAX));
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->mem = aligned_alloc(MAX(bio->dev->mem_align, FOLIO_PAGE_SIZE),
			       ROUND_UP(len, (size_t)FOLIO_PAGE_SIZE));
	if (!b->mem || !iomap_bio_add(bio, b->mem, len)) {
		free(b->mem);
		free(b);
		return -ENOMEM;
	}
	b->len = len;
	b->user = *dio->user;
	*dio->bounce_tail = b;
	dio->bounce_tail = &b->next;
	if (dio->flags & DIO_WRITE) {
		copied = iov_iter_copy_from(dio->user, b->mem, len);
		if (copied < len) {
			iov_iter_revert(dio->user, copied);
			return -EFAULT;
		}
	} else {
		iov_iter_advance(dio->user, len);
	}
	return (int64_t)len;
}

/* ---- Device requests ----------------------------------------------------------------------- */

static void submit_dio_bio(struct iomap_iter *iter, struct iomap_dio *dio, struct iomap_bio *bio,
			   uint64_t pos)
{
	bio->end_io = iomap_dio_bio_end_io;
	bio->private = dio;
	atomic_fetch_add(&dio->refs, 1);
	if (dio->dops && dio->dops->submit_io)
		dio->dops->submit_io(iter, bio, pos);
	else
		iomap_submit_bio(bio);
}

static struct iomap_bio *dio_bio_alloc(const struct iomap_dio *dio, const struct iomap_iter *iter,
				       enum iomap_bio_op op, uint64_t pos, unsigned max_vecs)
{
	const struct iomap *m = &iter->iomap;
	/* Where an anonymous write goes is what submit_io says. */
	uint64_t addr = m->flags & IOMAP_F_ANON_WRITE ? IOMAP_NULL_ADDR : iomap_sector_addr(m, pos);

	return iomap_bio_alloc_pad(m->bdev, op, addr, max_vecs, dio->dops ? dio->dops->bio_front_pad : 0);
}

/* Zero the part of a block that the write leaves out. */
static int submit_zeroes(struct iomap_iter *iter, struct iomap_dio *dio, uint64_t pos, size_t len)
{
	struct iomap_bio *bio;

	assert(len <= sizeof(dio_zeroes));
	bio = dio_bio_alloc(dio, iter, IOMAP_BIO_WRITE, pos, 1);
	if (!bio || !iomap_bio_add(bio, (void *)(uintptr_t)dio_zeroes, len)) {
		iomap_bio_free(bio);
		return -ENOMEM;
	}
	submit_dio_bio(iter, dio, bio, pos);
	return 0;
}

/* Where checksums, copies or a choice of the address go by the block, no bio ends within one. */
static uint64_t bio_align(const struct iomap_iter *iter, const struct iomap_dio *dio)
{
	const struct iomap *m = &iter->iomap;

	if ((dio->flags & IOMAP_DIO_FSBLOCK_ALIGNED) ||
	    (m->flags & (IOMAP_F_INTEGRITY | IOMAP_F_ANON_WRITE)))
		return i_blocksize(iter->inode);
	return m->bdev->logical_block;
}

/* One bio that is the whole request, and whose end is all that is left to do. */
static bool may_poll(const struct iomap_iter *iter, const struct iomap_dio *dio, uint64_t bytes)
{
	const unsigned work = IOMAP_DIO_UNWRITTEN | IOMAP_DIO_COW;

	if (!(dio->iocb->ki_flags & IOCB_HIPRI) || dio->size || bytes != iter->len || (dio->flags & work))
		return false;
	return !(dio->flags & DIO_NEED_SYNC) && iter->pos + bytes <= dio->i_size;
}

/* Device requests for [iter->pos, +len); *done counts what was submitted, also on error. */
static int submit_data(struct iomap_iter *iter, struct iomap_dio *dio, uint64_t len,
		       unsigned bio_flags, uint64_t *done)
{
	struct iomap_dev *dev = iter->iomap.bdev;
	enum iomap_bio_op op = dio->flags & DIO_WRITE ? IOMAP_BIO_WRITE : IOMAP_BIO_READ;
	uint64_t align = bio_align(iter, dio);
	size_t max_io = ROUND_DOWN((uint64_t)dev->max_io, align);
	/* What a checksum was made of must be what the device gets. */
	bool bounce = (dio->flags & IOMAP_DIO_BOUNCE) || (iter->iomap.flags & IOMAP_F_INTEGRITY) ||
		      !memory_aligned(dio->user, dev, align) ||
		      ((bio_flags & IOMAP_BIO_ATOMIC) && !in_one_piece(dio->user));

	while (*done < len) {
		uint64_t pos = iter->pos + *done;
		struct iomap_bio *bio;
		int64_t n;

		/* One part failed, so the request has: do not write more of it. */
		if (atomic_load(&dio->error))
			return 0;
		bio = dio_bio_alloc(dio, iter, op, pos, bounce ? 1 : dio->user->nr_iov);
		if (!bio)
			return -ENOMEM;
		bio->flags = bio_flags;
		n = bounce ? add_bounce(dio, bio, len - *done, max_io) :
			     (int64_t)add_user_memory(dio, bio, len - *done, max_io);
		if (n > 0 && may_poll(iter, dio, (uint64_t)n))
			bio->flags |= IOMAP_BIO_POLL;
		if (n > 0 && (bio_flags & IOMAP_BIO_ATOMIC) && (uint64_t)n != len)
			n = -EINVAL;
		if (n <= 0) {
			iomap_bio_free(bio);
			return n ? (int)n : -EFAULT;
		}
		submit_dio_bio(iter, dio, bio, pos);
		*done += (uint64_t)n;
	}
	return 0;
}

/* FUA spares the cache flush, if nothing but these blocks must become durable. */
static bool can_write_through(const struct iomap *m, const struct iomap_dio *dio)
{
	if (!(dio->flags & DIO_WRITE_THROUGH) || m->type != IOMAP_MAPPED)
		return false;
	if (m->flags & (IOMAP_F_NEW | IOMAP_F_SHARED | IOMAP_F_DIRTY))
		return false;
	return m->bdev->fua || !m->bdev->volatile_cache;
}

/* Flags of a write's bios; also notes in dio what completion has to do. */
static int prepare_write(struct iomap_iter *iter, struct iomap_dio *dio, uint64_t len,
			 bool *pad, unsigned *bio_flags)
{
	const struct iomap *m = &iter->iomap;

	*bio_flags = 0;
	if ((m->flags & IOMAP_F_ANON_WRITE) && !(dio->dops && dio->dops->submit_io))
		return -EIO;
	if (m->flags & IOMAP_F_ATOMIC_BIO) {
		if (len != iter->len || len < m->bdev->atomic_min || len > m->bdev->atomic_max ||
		    !IS_ALIGNED(iomap_sector_addr(m, iter->pos), len))
			return -EINVAL;
		*bio_flags |= IOMAP_BIO_ATOMIC;
	}
	if (m->type == IOMAP_UNWRITTEN)
		dio->flags |= IOMAP_DIO_UNWRITTEN;
	if (m->flags & IOMAP_F_SHARED)
		dio->flags |= IOMAP_DIO_COW;
	*pad = m->type == IOMAP_UNWRITTEN || (m->flags & IOMAP_F_NEW);
	if (!can_write_through(m, dio))
		dio->flags &= ~DIO_WRITE_THROUGH;
	else if (m->bdev->volatile_cache)
		*bio_flags |= IOMAP_BIO_FUA;
	return 0;
}

static int dio_device_iter(struct iomap_iter *iter, struct iomap_dio *dio)
{
	uint64_t len = iomap_length(iter), bs = i_blocksize(iter->inode), done = 0, end;
	struct iomap_dev *dev = iter->iomap.bdev;
	bool pad = false, write = dio->flags & DIO_WRITE;
	unsigned bio_flags = 0;
	int err = 0, zero_err = 0;

	if (!IS_ALIGNED(iter->pos | len, bio_align(iter, dio)))
		return -EINVAL;
	dio->workers = dev->dio_workers;
	if (write) {
		err = prepare_write(iter, dio, len, &pad, &bio_flags);
		if (err)
			return err;
	}
	if (pad && !IS_ALIGNED(iter->pos, bs))
		err = submit_zeroes(iter, dio, ROUND_DOWN(iter->pos, bs), iter->pos & (bs - 1));
	if (!err)
		err = submit_data(iter, dio, len, bio_flags, &done);
	/*
	 * The rest of the last block, also when building the requests failed midway:
	 * completion will make the block readable whatever it holds. And at EOF: what
	 * is behind becomes content when the file grows.
	 */
	end = iter->pos + done;
	if (write && done && !IS_ALIGNED(end, bs) &&
	    (pad || end >= i_size_read(iter->inode))) {
		dio->flags &= ~DIO_WRITE_THROUGH;
		zero_err = submit_zeroes(iter, dio, end, ROUND_UP(end, bs) - end);
	}
	dio->size += done;
	return iomap_iter_advance(iter, done) ?: err ?: zero_err;
}

static int dio_hole_iter(struct iomap_iter *iter, struct iomap_dio *dio)
{
	uint64_t len = iov_iter_zero(dio->user, iomap_length(iter));

	if (!len)
		return -EFAULT;
	dio->size += len;
	return iomap_iter_advance(iter, len);
}

static int dio_inline_iter(struct iomap_iter *iter, struct iomap_dio *dio)
{
	const struct iomap *m = &iter->iomap;
	struct inode *inode = iter->inode;
	uint64_t len = iomap_length(iter), isize = i_size_read(inode), pos = iter->pos;
	char *data = (char *)m->inline_data;
	size_t n;

	if (m->offset != 0)
		return -EIO;
	if (dio->flags & DIO_WRITE) {
		if (pos > isize)
			data_zero(data + isize, pos - isize);
		n = iov_iter_copy_from(dio->user, data + pos, len);
		if (n && pos + n > isize)
			i_size_write(inode, pos + n);
		if (n && inode->i_hooks && inode->i_hooks->mark_inode_dirty)
			inode->i_hooks->mark_inode_dirty(inode);
	} else {
		n = iov_iter_copy_to(dio->user, data + pos, len);
	}
	if (!n)
		return -EFAULT;
	dio->size += n;
	return iomap_iter_advance(iter, n);
}

static int dio_iter(struct iomap_iter *iter, struct iomap_dio *dio)
{
	static struct log_ratelimit rl;
	bool write = dio->flags & DIO_WRITE;

	switch (iter->iomap.type) {
	case IOMAP_MAPPED:
		return dio_device_iter(iter, dio);
	case IOMAP_UNWRITTEN:
		return write ? dio_device_iter(iter, dio) : dio_hole_iter(iter, dio);
	case IOMAP_INLINE:
		return dio_inline_iter(iter, dio);
	case IOMAP_HOLE:
		if (!write)
			return dio_hole_iter(iter, dio);
		break;
	case IOMAP_DELALLOC:
		/* Behind EOF: promised to a file that may grow, never content. */
		if (!write && iter->pos >= dio->i_size)
			return dio_hole_iter(iter, dio);
		break;
	}
	/*
	 * DELALLOC: somebody dirtied the range after its cache was written back. No
	 * garbage instead of the data, which is in memory only.
	 */
	if (log_ratelimit_ok(&rl, 10))
		log_warn("inode %llu: direct %s meets %s at %llu",
			 (unsigned long long)iter->inode->i_ino, write ? "write" : "read",
			 iter->iomap.type == IOMAP_HOLE ? "a hole" : "delayed allocation",
			 (unsigned long long)iter->pos);
	return -EIO;
}

int generic_atomic_write_valid(const struct kiocb *iocb, const struct iov_iter *from)
{
	if (!(iocb->ki_flags & IOCB_DIRECT) || !(iocb->ki_flags & IOCB_WRITE))
		return -EOPNOTSUPP;
	return is_pow2(from->count) && IS_ALIGNED(iocb->ki_pos, (uint64_t)from->count) ? 0 : -EINVAL;
}

/* ---- The request ----------------------------------------------------------------------------------- */

int iomap_dio_prepare_read(struct kiocb *iocb, uint64_t pos, uint64_t end)
{
	struct address_space *m = &iocb->ki_inode->i_mapping;

	/* Clean cache may stay: it equals the disk. */
	if (iocb->ki_flags & IOCB_NOWAIT)
		return filemap_range_needs_writeback(m, pos, end) ? -EAGAIN : 0;
	return filemap_write_and_wait_range(m, pos, end);
}

static int prepare_write_cache(struct iomap_dio *dio, uint64_t pos, uint64_t end)
{
	struct address_space *m = &dio->inode->i_mapping;
	int err;

	if (dio->iocb->ki_flags & IOCB_NOWAIT)
		return filemap_range_has_page(m, pos, end) ? -EAGAIN : 0;
	err = filemap_write_and_wait_range(m, pos, end);
	HOOK("iomap:dio_invalidate", dio->inode);
	if (!err)
		err = invalidate_inode_pages2_range(m, pos, end);
	if (!err)
		return 0;
	/* Cache that cannot go would hide the new bytes: write through it instead. */
	return dio->iocb->ki_flags & IOCB_ATOMIC ? -EAGAIN : -ENOTBLK;
}

static struct iomap_dio *dio_alloc(struct kiocb *iocb, struct iov_iter *user,
				   const struct iomap_dio_ops *dops, unsigned dio_flags,
				   size_t done_before)
{
	struct iomap_dio *dio = calloc(1, sizeof(*dio));

	if (!dio)
		return NULL;
	dio->iocb = iocb;
	dio->inode = iocb->ki_inode;
	dio->dops = dops;
	dio->user = user;
	dio->i_size = i_size_read(dio->inode);
	dio->done_before = done_before;
	dio->flags = dio_flags;
	dio->wait = !iocb->ki_complete || (dio_flags & IOMAP_DIO_FORCE_WAIT);
	atomic_init(&dio->refs, 1);
	atomic_init(&dio->error, 0);
	dio->bounce_tail = &dio->bounces;
	pthread_mutex_init(&dio->lock, NULL);
	pthread_cond_init(&dio->idle, NULL);
	if (iocb->ki_flags & IOCB_WRITE) {
		dio->flags |= DIO_WRITE;
		if (iocb->ki_flags & IOCB_DSYNC)
			dio->flags |= DIO_NEED_SYNC;
		/* O_SYNC wants all metadata: no shortcut for that. */
		if ((iocb->ki_flags & IOCB_DSYNC) && !(iocb->ki_flags & IOCB_SYNC))
			dio->flags |= DIO_WRITE_THROUGH;
	}
	return dio;
}

/* Everything before the first mapping. *nothing: a read behind EOF. */
static int dio_prepare(struct iomap_dio *dio, struct iomap_iter *iter, bool *nothing)
{
	uint64_t end = iter->pos + iter->len - 1;
	unsigned iocb_flags = dio->iocb->ki_flags;

	*nothing = false;
	if (iocb_flags & IOCB_NOWAIT)
		iter->flags |= IOMAP_NOWAIT;
	if (!(dio->flags & DIO_WRITE)) {
		*nothing = iter->pos >= dio->i_size;
		return *nothing ? 0 : iomap_dio_prepare_read(dio->iocb, iter->pos, end);
	}
	iter->flags |= IOMAP_WRITE;
	if (iocb_flags & IOCB_ATOMIC)
		iter->flags |= IOMAP_ATOMIC;
	if (dio->flags & IOMAP_DIO_OVERWRITE_ONLY) {
		if (end >= dio->i_size)
			return -EAGAIN;
		iter->flags |= IOMAP_OVERWRITE_ONLY;
	}
	return prepare_write_cache(dio, iter->pos, end);
}

int64_t iomap_dio_rw(struct kiocb *iocb, struct iov_iter *user, const struct iomap_ops *ops,
		     const struct iomap_dio_ops *dops, unsigned dio_flags, void *private,
		     size_t done_before)
{
	struct iomap_iter iter = {
		.inode = iocb->ki_inode, .pos = iocb->ki_pos, .len = user->count,
		.flags = IOMAP_DIRECT, .private = private,
	};
	struct iomap_dio *dio;
	bool nothing, not_direct;
	int64_t fast;
	int err;

	if (!iter.len)
		return 0;
	fast = dops || dio_flags || done_before ? -ENOTBLK :
						  iomap_dio_read_fast(iocb, user, ops, private);
	if (fast != -ENOTBLK)
		return fast;
	err = iocb->ki_flags & IOCB_ATOMIC ? generic_atomic_write_valid(iocb, user) : 0;
	if (err)
		return err;
	dio = dio_alloc(iocb, user, dops, dio_flags, done_before);
	if (!dio)
		return -ENOMEM;
	err = dio_prepare(dio, &iter, &nothing);
	if (err || nothing) {
		iomap_dio_free(dio);
		return err;
	}
	inode_dio_begin(dio->inode);
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = dio_iter(&iter, dio);
	/* What was read behind EOF does not count: leave the caller's cursor at EOF. */
	if (!(dio->flags & DIO_WRITE) && iter.pos > dio->i_size)
		iov_iter_revert(user, iter.pos - dio->i_size);
	if (err == -EFAULT && dio->size && (dio_flags & IOMAP_DIO_PARTIAL)) {
		if (!(iocb->ki_flags & IOCB_NOWAIT))
			dio->wait = true;
		err = 0;
	}
	/* Not possible directly from here on: the caller does the rest through the cache. */
	not_direct = err == -ENOTBLK;
	if (not_direct) {
		dio->wait = true;
		err = 0;
	}
	if (not_direct && !dio->size)
		err = -ENOTBLK;
	if (err < 0)
		iomap_dio_set_error(dio, err);
	if (dio->flags & DIO_WRITE_THROUGH)
		dio->flags &= ~DIO_NEED_SYNC;
	HOOK("iomap:dio_submitted", dio->inode);
	return iomap_dio_submitted(dio);
}

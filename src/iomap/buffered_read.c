/* SPDX-License-Identifier: MIT */
/*
 * Reading through the cache.
 *
 * Folios go into the mapping, locked, BEFORE their extents are looked up:
 *
 *	reader                          direct write over UNWRITTEN
 *	------                          ---------------------------
 *	look up: UNWRITTEN
 *	                                convert to MAPPED
 *	                                invalidate the cached range
 *	insert folio, fill with zeros
 *
 * would cache zeros over new data for good. With the folio there first, the
 * invalidation finds it and waits for its lock.
 */
#include "iomap_private.h"

#define READ_BATCH 128u                 /* folios locked at a time */
#define READAHEAD_BYTES (512u << 10)

/* One bio's folios. Locked, so they stay in the mapping, whose reference keeps them alive. */
struct read_bio {
	struct iomap_bio *bio;
	struct iomap_waiter *waiter; /* NULL: nobody asks */
	unsigned nr, max;
	struct read_span {
		struct folio *folio;
		uint32_t off, len;
	} spans[];
};

/* A run of locked folios, adjacent in the file, that one iteration fills. */
struct read_ctx {
	struct inode *inode;
	struct iomap_waiter *waiter;
	struct folio **folios;
	unsigned nr, next;       /* folios[next] is the first not begun */
	struct folio *cur;       /* folio being filled */
	struct iomap_folio_state *cur_state;
	size_t cur_submitted;    /* bytes of it that bios took */
	struct read_bio *open;   /* not yet submitted */
};

bool iomap_block_needs_zeroing(const struct iomap_iter *iter, uint64_t pos)
{
	const struct iomap *src = iomap_iter_srcmap(iter);

	if (src->type != IOMAP_MAPPED || (src->flags & IOMAP_F_NEW))
		return true;
	return pos >= i_size_read(iter->inode) && !(src->flags & IOMAP_F_FSVERITY);
}

int iomap_read_inline_data(const struct iomap_iter *iter, struct folio *f)
{
	const struct iomap *src = iomap_iter_srcmap(iter);
	uint64_t isize = i_size_read(iter->inode);
	size_t off, size;

	if (folio_test_uptodate(f))
		return 0;
	if (src->offset != 0 || folio_pos(f) != 0)
		return -EIO;
	if (isize > src->length || isize > folio_size(f))
		return -EIO;
	off = offset_in_folio(f, src->offset);
	size = (size_t)isize;
	data_copy((char *)f->data + off, src->inline_data, size);
	data_zero((char *)f->data + off + size, folio_size(f) - off - size);
	iomap_set_range_uptodate(f, 0, folio_size(f));
	return 0;
}

/* ---- Completion ---------------------------------------------------------------------- */

/* `len` bytes of the folio's read are settled; the last ones unlock it. */
static void settle_folio_read(struct folio *f, size_t len, bool success)
{
	struct iomap_folio_state *ifs = f->private;
	bool done;

	if (ifs) {
		lk_lock(&ifs->lock);
		assert(ifs->read_bytes_pending >= len);
		ifs->read_bytes_pending -= (uint32_t)len;
		done = ifs->read_bytes_pending == 0;
		lk_unlock(&ifs->lock);
		if (!done)
			return;
		success = iomap_uptodate_prefix(f, 0, folio_size(f)) == folio_size(f);
	}
	folio_end_read(f, success);
}

static void read_end_io(struct iomap_bio *bio)
{
	struct read_bio *rb = bio->private;
	int status = bio->status;

	for (unsigned i = 0; i < rb->nr; i++) {
		struct read_span *s = &rb->spans[i];

		if (!status && s->folio->private)
			iomap_set_range_uptodate(s->folio, s->off, s->len);
		settle_folio_read(s->folio, s->len, !status);
	}
	iomap_bio_free(bio);
	if (rb->waiter)
		iomap_waiter_put(rb->waiter, status);
	free(rb);
}

/* ---- Building requests ------------------------------------------------------------------ */

static void submit_open(struct read_ctx *ctx)
{
	struct read_bio *rb = ctx->open;

	ctx->open = NULL;
	if (!rb)
		return;
	if (rb->waiter)
		iomap_waiter_get(rb->waiter);
	iomap_submit_bio(rb->bio);
}

static int open_bio(struct read_ctx *ctx, struct iomap_dev *dev, uint64_t addr)
{
	unsigned max = ctx->nr - ctx->next + 1;
	struct read_bio *rb = calloc(1, sizeof(*rb) + max * sizeof(rb->spans[0]));

	if (!rb)
		return -ENOMEM;
	rb->bio = iomap_bio_alloc(dev, IOMAP_BIO_READ, addr, max);
	if (!rb->bio) {
		free(rb);
		return -ENOMEM;
	}
	rb->bio->end_io = read_end_io;
	rb->bio->private = rb;
	rb->waiter = ctx->waiter;
	rb->max = max;
	ctx->open = rb;
	return 0;
}

/* Does the open bio end where [addr, addr+len) begins, with room for it? */
static bool can_extend(const struct read_ctx *ctx, const struct iomap_dev *dev, uint64_t addr,
		       size_t len)
{
	const struct read_bio *rb = ctx->open;
	uint64_t room;

	if (rb->bio->dev != dev || rb->bio->addr + rb->bio->len != addr || rb->nr == rb->max)
		return false;
	room = dev->max_io - rb->bio->len;
	/* A one-block folio counts no bytes: it must be in one bio. */
	return ctx->cur_state ? room >= dev->logical_block : room >= len;
}

/* Read [off, off+len) of the current folio from device address addr. */
static int add_range(struct read_ctx *ctx, struct iomap_dev *dev, uint64_t addr, size_t off,
		     size_t len)
{
	while (len) {
		struct read_bio *rb;
		size_t n;
		int err;

		if (ctx->open && !can_extend(ctx, dev, addr, len))
			submit_open(ctx);
		if (!ctx->open) {
			err = open_bio(ctx, dev, addr);
			if (err)
				return err;
		}
		rb = ctx->open;
		n = MIN(len, (size_t)(dev->max_io - rb->bio->len));
		if (!iomap_bio_add(rb->bio, (char *)ctx->cur->data + off, n)) {
			assert(rb->nr);
			submit_open(ctx);
			continue;
		}
		rb->spans[rb->nr++] = (struct read_span){ ctx->cur, (uint32_t)off, (uint32_t)n };
		ctx->cur_submitted += n;
		off += n;
		addr += n;
		len -= n;
	}
	return 0;
}

/*
 * The pending count starts as the whole folio, so that no completion can end the
 * read while later parts are still being submitted.
 */
static int begin_folio(struct read_ctx *ctx)
{
	struct folio *f = ctx->folios[ctx->next];
	struct iomap_folio_state *ifs;
	int err = iomap_state_get(ctx->inode, f, false, &ifs);

	if (err)
		return err;
	if (ifs) {
		lk_lock(&ifs->lock);
		assert(ifs->read_bytes_pending == 0);
		ifs->read_bytes_pending = (uint32_t)folio_size(f);
		lk_unlock(&ifs->lock);
	}
	ctx->cur = f;
	ctx->cur_state = ifs;
	ctx->cur_submitted = 0;
	ctx->next++;
	return 0;
}

/* Give up the bias; a one-block folio belongs to its bio once that has it. */
static void end_folio(struct read_ctx *ctx)
{
	struct folio *f = ctx->cur;
	size_t rest = folio_size(f) - ctx->cur_submitted;

	ctx->cur = NULL;
	/* All of it submitted: the last completion ends the read, perhaps it did already. */
	if (!rest)
		return;
	if (ctx->cur_state)
		settle_folio_read(f, rest, false);
	else if (!ctx->cur_submitted)
		settle_folio_read(f, 0, folio_test_uptodate(f));
}

static int fill_range(struct iomap_iter *iter, struct read_ctx *ctx, size_t off, size_t len)
{
	const struct iomap *src = iomap_iter_srcmap(iter);
	struct folio *f = ctx->cur;
	int err;

	while (len) {
		uint64_t isize = i_size_read(iter->inode), pos = folio_pos(f) + off;
		size_t n = iomap_uptodate_prefix(f, off, len);

		if (!n) {
			n = iomap_stale_prefix(f, off, len);
			/* Blocks behind the one that holds EOF are zeroed, not read. */
			if (pos < isize)
				n = MIN(n, ROUND_UP(isize, i_blocksize(iter->inode)) - pos);
			if (iomap_block_needs_zeroing(iter, pos)) {
				data_zero((char *)f->data + off, n);
				iomap_set_range_uptodate(f, off, n);
			} else {
				err = add_range(ctx, src->bdev, iomap_sector_addr(src, pos), off,
						n);
				if (err)
					return err;
			}
		}
		off += n;
		len -= n;
	}
	return 0;
}

static int read_iter(struct iomap_iter *iter, struct read_ctx *ctx)
{
	uint64_t len;
	int err;

	while ((len = iomap_length(iter)) != 0) {
		size_t off, n;

		if (!ctx->cur) {
			err = begin_folio(ctx);
			if (err)
				return err;
		}
		off = offset_in_folio(ctx->cur, iter->pos);
		n = MIN(len, folio_size(ctx->cur) - off);
		if (iomap_iter_srcmap(iter)->type == IOMAP_INLINE)
			err = iomap_read_inline_data(iter, ctx->cur);
		else
			err = fill_range(iter, ctx, off, n);
		if (err)
			return err;
		if (off + n == folio_size(ctx->cur))
			end_folio(ctx);
		err = iomap_iter_advance(iter, n);
		if (err)
			return err;
	}
	return 0;
}

/*
 * Fill nr adjacent folios, locked on entry; each is unlocked when its last byte is
 * settled. Errors of the lookup are returned, those of the device are the waiter's.
 */
static int read_folios(struct inode *inode, struct folio **folios, unsigned nr,
		       struct iomap_waiter *waiter, const struct iomap_ops *ops)
{
	struct read_ctx ctx = { .inode = inode, .waiter = waiter, .folios = folios, .nr = nr };
	struct folio *last = folios[nr - 1];
	struct iomap_iter iter = {
		.inode = inode,
		.pos = folio_pos(folios[0]),
		.len = folio_pos(last) + folio_size(last) - folio_pos(folios[0]),
	};
	int err;

	HOOK("iomap:read_folios", inode);
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = read_iter(&iter, &ctx);
	submit_open(&ctx);
	if (ctx.cur)
		end_folio(&ctx);
	while (ctx.next < nr)
		folio_unlock(folios[ctx.next++]);
	return err;
}

/* ---- One folio, and waiting for it ----------------------------------------------------------- */

int iomap_read_folio_range_sync(const struct iomap_iter *iter, struct folio *f, uint64_t pos,
				size_t len)
{
	const struct iomap *src = iomap_iter_srcmap(iter);

	return iomap_read_sync(src->bdev, iomap_sector_addr(src, pos),
			       (char *)f->data + offset_in_folio(f, pos), len);
}

/*
 * After a failed read of several blocks: each one alone, so that one bad sector takes
 * only its own block with it. Folio locked.
 */
static int read_blocks_alone(struct inode *inode, struct folio *f, const struct iomap_ops *ops)
{
	struct iomap_iter iter = { .inode = inode, .pos = folio_pos(f), .len = folio_size(f) };
	int err, first_err = 0;

	while ((err = iomap_iter(&iter, ops)) > 0) {
		uint64_t len;

		while (!iter.status && (len = iomap_length(&iter)) != 0) {
			size_t off = offset_in_folio(f, iter.pos);
			size_t n = MIN(len, i_blocksize(inode) - (off & (i_blocksize(inode) - 1)));

			if (iomap_uptodate_prefix(f, off, n) < n) {
				err = 0;
				if (iomap_block_needs_zeroing(&iter, iter.pos))
					data_zero((char *)f->data + off, n);
				else
					err = iomap_read_folio_range_sync(&iter, f, iter.pos, n);
				if (!err)
					iomap_set_range_uptodate(f, off, n);
				first_err = first_err ?: err;
			}
			iter.status = iomap_iter_advance(&iter, n);
		}
	}
	return err ?: first_err;
}

int iomap_read_folio(struct inode *inode, struct folio *f, const struct iomap_ops *ops)
{
	struct iomap_waiter w;
	int err, io_err;

	if (folio_test_uptodate(f)) {
		folio_unlock(f);
		return 0;
	}
	iomap_waiter_init(&w);
	err = read_folios(inode, &f, 1, &w, ops);
	io_err = iomap_waiter_wait(&w);
	if (err || !io_err || folio_nr_blocks(inode, f) == 1)
		return err ?: io_err;
	folio_lock(f);
	err = 0;
	if (atomic_load(&f->mapping) == &inode->i_mapping && !folio_test_uptodate(f))
		err = read_blocks_alone(inode, f, ops);
	folio_unlock(f);
	return err;
}

/* ---- Reading ahead ------------------------------------------------------------------------------ */

/*
 * Lock adjacent folios of [*pos, end) that want filling, making absent ones; moves *pos
 * past them and past what needs nothing. Never sleeps on a folio: the caller holds the
 * locks of earlier ones. 0 with *pos unmoved: no memory without sleeping.
 */
static unsigned collect_folios(struct inode *inode, uint64_t *pos, uint64_t end, unsigned fgp,
			       struct folio **folios)
{
	struct address_space *m = &inode->i_mapping;
	unsigned nr = 0;

	while (nr < READ_BATCH && *pos < end) {
		struct folio *f;
		bool busy, skip;

		busy = filemap_get_folio(m, *pos, end - *pos,
					 FGP_LOCK | FGP_CREAT | FGP_NOWAIT | fgp, &f) != 0;
		/* Somebody else has it locked, probably to read it: look past it. */
		if (busy && filemap_get_folio(m, *pos, 0, FGP_DONTCACHE, &f))
			break;
		skip = busy || folio_test_uptodate(f);
		if (skip && nr) {
			if (!busy)
				folio_unlock(f);
			folio_put(f);
			break;
		}
		*pos = folio_pos(f) + folio_size(f);
		if (!skip) {
			folios[nr++] = f;
			continue;
		}
		if (!busy)
			folio_unlock(f);
		folio_put(f);
	}
	return nr;
}

/* invalidate_lock held shared. fgp: FGP_DONTCACHE or 0. */
static void start_reads(struct inode *inode, uint64_t pos, uint64_t end, unsigned fgp,
			const struct iomap_ops *ops)
{
	struct folio *folios[READ_BATCH];

	while (pos < end) {
		uint64_t before = pos;
		unsigned nr = collect_folios(inode, &pos, end, fgp, folios);

		if (!nr && pos == before)
			return;
		if (!nr)
			continue;
		/* An error leaves folios not uptodate: whoever wants them reads again and gets it. */
		(void)read_folios(inode, folios, nr, NULL, ops);
		for (unsigned i = 0; i < nr; i++)
			folio_put(folios[i]);
	}
}

static void readahead(struct inode *inode, uint64_t pos, uint64_t len, unsigned fgp,
		      const struct iomap_ops *ops)
{
	uint64_t isize = i_size_read(inode);

	if (pos >= isize || !len)
		return;
	lk_rdlock(&inode->i_mapping.invalidate_lock);
	start_reads(inode, pos, pos + MIN(len, isize - pos), fgp, ops);
	lk_rw_unlock(&inode->i_mapping.invalidate_lock);
}

void iomap_readahead(struct inode *inode, uint64_t pos, uint64_t len, const struct iomap_ops *ops)
{
	readahead(inode, pos, len, 0, ops);
}

/* A reader that goes on where the last one stopped finds half a window already there. */
static void readahead_sequential(struct inode *inode, uint64_t pos, uint64_t end, unsigned fgp,
				 const struct iomap_ops *ops)
{
	uint64_t ra_end = atomic_load(&inode->i_ra_end);

	if (atomic_load(&inode->i_ra_next) != pos) {
		atomic_store(&inode->i_ra_end, end);
		return;
	}
	if (ra_end < end || ra_end > end + READAHEAD_BYTES)
		ra_end = end;
	if (ra_end - end >= READAHEAD_BYTES / 2)
		return;
	atomic_store(&inode->i_ra_end, end + READAHEAD_BYTES);
	readahead(inode, ra_end, end + READAHEAD_BYTES - ra_end, fgp, ops);
}

/* ---- The reader -------------------------------------------------------------------------------------- */

/* Bytes from pos that may be copied without a lock; 0 when the folio is busy or not filled. */
static size_t readable_bytes(struct inode *inode, struct folio *f, uint64_t pos, size_t want)
{
	size_t off = offset_in_folio(f, pos), n = 0;

	want = MIN(want, folio_size(f) - off);
	if (folio_test_uptodate(f))
		return want;
	/* The state hangs on the folio under its lock; a holder of the lock may free it. */
	if (!folio_trylock(f))
		return 0;
	if (atomic_load(&f->mapping) == &inode->i_mapping)
		n = iomap_uptodate_prefix(f, off, want);
	folio_unlock(f);
	return n;
}

/* Fill the folio that is at pos by now, sleeping for it and for memory. */
static int read_folio_at(struct inode *inode, uint64_t pos, size_t want, unsigned fgp,
			 const struct iomap_ops *ops, struct folio **out, size_t *avail)
{
	struct address_space *m = &inode->i_mapping;
	struct folio *f;
	int err;

	lk_rdlock(&m->invalidate_lock);
	err = filemap_get_folio(m, pos, want, FGP_LOCK | FGP_CREAT | fgp, &f);
	if (err)
		goto out_unlock;
	err = iomap_read_folio(inode, f, ops);
	*avail = readable_bytes(inode, f, pos, want);
	if (*avail) {
		*out = f;
		err = 0;
	} else {
		folio_put(f);
	}
out_unlock:
	lk_rw_unlock(&m->invalidate_lock);
	return err;
}

/* A referenced folio with *avail > 0 readable bytes from pos; 1: the file ends before pos by now. */
static int get_readable(struct inode *inode, uint64_t pos, size_t want, unsigned iocb_flags,
			const struct iomap_ops *ops, struct folio **out, size_t *avail)
{
	struct address_space *m = &inode->i_mapping;
	const bool nowait = iocb_flags & IOCB_NOWAIT;
	/* What is not to stay is not used either. */
	const unsigned fgp = iocb_flags & IOCB_DONTCACHE ? FGP_DONTCACHE : FGP_ACCESSED;
	bool started = false;

	*out = NULL;
	for (;;) {
		struct folio *f;
		int err = filemap_get_folio(m, pos, 0, fgp, &f);

		if (!err) {
			*avail = readable_bytes(inode, f, pos, want);
			if (*avail) {
				*out = f;
				return 0;
			}
			if (!nowait && started)
				folio_wait_locked(f);
			folio_put(f);
		} else if (err != -ENOENT) {
			return err;
		}
		if (nowait)
			return -EAGAIN;
		if (!started) {
			readahead(inode, pos, want, fgp & FGP_DONTCACHE, ops);
			started = true;
			continue;
		}
		/*
		 * It was started and waited for: what is still missing failed, was
		 * truncated meanwhile or found no memory. Now with an answer.
		 */
		err = read_folio_at(inode, pos, want, fgp, ops, out, avail);
		if (err || *out)
			return err;
		if (pos >= i_size_read(inode))
			return 1;
	}
}

/*
 * DONTCACHE: a folio is dropped once its end was read, for the next read in order wants the rest of it. A
 * reader that goes elsewhere drops the one that it has left in the middle.
 */
static void drop_read(struct folio *f, uint64_t pos, uint64_t isize)
{
	if (pos >= folio_pos(f) + folio_size(f) || pos >= isize)
		folio_end_dropbehind(f);
}

static void drop_left_behind(struct inode *inode, uint64_t pos)
{
	const uint64_t left = atomic_load(&inode->i_ra_next);
	struct folio *f;

	if (left == pos || filemap_get_folio(&inode->i_mapping, left, 0, FGP_DONTCACHE, &f))
		return;
	/* Unless this read goes on inside of it. */
	if (pos < folio_pos(f) || pos >= folio_pos(f) + folio_size(f))
		folio_end_dropbehind(f);
	folio_put(f);
}

int64_t iomap_file_buffered_read(struct kiocb *iocb, struct iov_iter *to,
				 const struct iomap_ops *ops)
{
	struct inode *inode = iocb->ki_inode;
	const bool nowait = iocb->ki_flags & IOCB_NOWAIT;
	const unsigned fgp = iocb->ki_flags & IOCB_DONTCACHE ? FGP_DONTCACHE : 0;
	uint64_t start = iocb->ki_pos, pos = start, isize = i_size_read(inode);
	int err = 0;

	if (!to->count || pos >= isize)
		return 0;
	if (fgp)
		drop_left_behind(inode, pos);
	if (!nowait) {
		uint64_t end = pos + MIN(to->count, isize - pos);

		if (!filemap_range_has_page(&inode->i_mapping, pos, end - 1))
			readahead(inode, pos, end - pos, fgp, ops);
		readahead_sequential(inode, pos, end, fgp, ops);
	}
	while (to->count && pos < isize) {
		size_t want = MIN(to->count, isize - pos), avail;
		struct folio *f;

		err = get_readable(inode, pos, want, iocb->ki_flags, ops, &f, &avail);
		if (err)
			break;
		HOOK("iomap:read_copy", f);
		/* Only a size read after the folio was found filled bounds its valid bytes. */
		isize = i_size_read(inode);
		if (pos < isize)
			pos += iov_iter_copy_to(to, (char *)f->data + offset_in_folio(f, pos),
						MIN(avail, isize - pos));
		if (fgp)
			drop_read(f, pos, isize);
		folio_put(f);
	}
	/* One that found nothing says nothing: its repetition would look like the next in order. */
	if (pos > start)
		atomic_store(&inode->i_ra_next, pos);
	iocb->ki_pos = pos;
	if (pos > start)
		return (int64_t)(pos - start);
	return err < 0 ? err : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * ioends: device writes of writeback, built from runs of dirty blocks and carried to
 * their completion. An ioend ends the writeback of its folios only after the file
 * system has done what must come before (conversion, on-disk size), so that whoever
 * waits for writeback waits for that as well.
 */
#include "iomap_private.h"

/*
 * Most ioends of a fragmented file are a folio long, and thousands are in flight: what one holds
 * starts small and grows with it.
 */
#define IOEND_FIRST_FOLIOS IOMAP_BIO_INLINE_VECS

void iomap_finish_folio_write(struct folio *f, size_t len)
{
	struct iomap_folio_state *ifs = f->private;
	bool done = true;

	assert(folio_test_writeback(f));
	if (ifs) {
		lk_lock(&ifs->lock);
		assert(ifs->write_bytes_pending >= len);
		ifs->write_bytes_pending -= (uint32_t)len;
		done = ifs->write_bytes_pending == 0;
		lk_unlock(&ifs->lock);
	}
	if (done)
		folio_end_writeback(f);
}

static void free_ioend(struct iomap_ioend *ioend)
{
	iomap_bio_free(ioend->io_bio);
	free(ioend->io_folios);
	free(ioend->io_spans);
	free(ioend);
}

static void finish_one(struct iomap_ioend *ioend, int error)
{
	static struct log_ratelimit rl;
	struct iomap_ioend *parent = ioend->io_parent;
	int none = 0;

	if (parent) {
		free_ioend(ioend);
		ioend = parent;
	}
	if (error)
		__atomic_compare_exchange_n(&ioend->io_error, &none, error, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	/* The pieces of a split end in any order; the last one ends the folios. */
	if (atomic_fetch_sub(&ioend->io_remaining, 1) != 1)
		return;
	error = __atomic_load_n(&ioend->io_error, __ATOMIC_SEQ_CST);
	if (error) {
		mapping_set_error(&ioend->io_inode->i_mapping, error);
		if (log_ratelimit_ok(&rl, 10))
			log_err("inode %llu: writeback error %d at offset %llu, %llu bytes",
				(unsigned long long)ioend->io_inode->i_ino, error,
				(unsigned long long)ioend->io_offset,
				(unsigned long long)ioend->io_size);
	}
	for (unsigned i = 0; i < ioend->io_nr_folios; i++)
		iomap_finish_folio_write(ioend->io_folios[i], ioend->io_spans[i].len);
	free_ioend(ioend);
}

void iomap_finish_ioends(struct iomap_ioend *ioend, int error)
{
	struct cds_list_head more;

	HOOK("iomap:finish_ioend", ioend);
	CDS_INIT_LIST_HEAD(&more);
	cds_list_splice(&ioend->io_list, &more);
	finish_one(ioend, error);
	while (!cds_list_empty(&more)) {
		ioend = cds_list_first_entry(&more, struct iomap_ioend, io_list);
		cds_list_del_init(&ioend->io_list);
		finish_one(ioend, error);
	}
}

static void ioend_bio_end_io(struct iomap_bio *bio)
{
	struct iomap_ioend *ioend = bio->private;

	if (bio->status)
		__atomic_store_n(&ioend->io_error, bio->status, __ATOMIC_SEQ_CST);
	if (ioend->io_end)
		ioend->io_end(ioend);
	else
		iomap_finish_ioends(ioend, bio->status);
}

/* ---- Building ---------------------------------------------------------------------------- */

static struct iomap_ioend *alloc_ioend(struct iomap_writepage_ctx *wpc, uint64_t pos,
				       uint32_t flags)
{
	struct iomap_dev *dev = wpc->iomap.bdev;
	bool anon = wpc->iomap.flags & IOMAP_F_ANON_WRITE;
	struct iomap_ioend *ioend = iomap_alloc_patiently(sizeof(*ioend));

	if (!ioend)
		return NULL;
	CDS_INIT_LIST_HEAD(&ioend->io_list);
	ioend->io_flags = flags;
	ioend->io_inode = wpc->inode;
	ioend->io_offset = pos;
	ioend->io_addr = anon ? IOMAP_NULL_ADDR : iomap_sector_addr(&wpc->iomap, pos);
	atomic_init(&ioend->io_remaining, 1);
	ioend->io_end = wpc->end_ioend;
	ioend->io_max_folios = IOEND_FIRST_FOLIOS;
	ioend->io_folios = iomap_alloc_patiently(IOEND_FIRST_FOLIOS * sizeof(ioend->io_folios[0]));
	ioend->io_spans = iomap_alloc_patiently(IOEND_FIRST_FOLIOS * sizeof(ioend->io_spans[0]));
	ioend->io_bio = iomap_bio_alloc(dev, IOMAP_BIO_WRITE, ioend->io_addr, 1);
	if (!ioend->io_folios || !ioend->io_spans || !ioend->io_bio) {
		free_ioend(ioend);
		return NULL;
	}
	ioend->io_bio->end_io = ioend_bio_end_io;
	ioend->io_bio->private = ioend;
	return ioend;
}

static bool grow_folios(struct iomap_ioend *ioend)
{
	unsigned max = MIN(ioend->io_max_folios * 4, IOEND_MAX_FOLIOS);
	void *folios, *spans;

	if (ioend->io_nr_folios < ioend->io_max_folios)
		return true;
	if (max == ioend->io_max_folios)
		return false;
	folios = realloc(ioend->io_folios, max * sizeof(ioend->io_folios[0]));
	if (folios)
		ioend->io_folios = folios;
	spans = realloc(ioend->io_spans, max * sizeof(ioend->io_spans[0]));
	if (spans)
		ioend->io_spans = spans;
	if (!folios || !spans)
		return false;
	ioend->io_max_folios = max;
	/* Each folio adds one piece of memory at most; a bio that stays shorter is submitted earlier. */
	iomap_bio_grow(ioend->io_bio, max);
	return true;
}

/* Bytes of [pos, pos+len) that the open ioend can take; 0: it must be submitted first. */
static size_t ioend_room(const struct iomap_writepage_ctx *wpc, uint64_t pos, size_t len,
			 uint32_t flags)
{
	struct iomap_ioend *ioend = wpc->wb_ctx;
	const struct iomap *m = &wpc->iomap;
	uint64_t room;

	if ((flags & IOMAP_IOEND_BOUNDARY) ||
	    (flags & IOMAP_IOEND_NOMERGE_FLAGS) != (ioend->io_flags & IOMAP_IOEND_NOMERGE_FLAGS))
		return 0;
	if (ioend->io_bio->dev != m->bdev || ioend->io_offset + ioend->io_size != pos)
		return 0;
	if (!(m->flags & IOMAP_F_ANON_WRITE) &&
	    ioend->io_addr + ioend->io_bio->len != iomap_sector_addr(m, pos))
		return 0;
	if (!grow_folios(ioend))
		return 0;
	room = m->bdev->max_io - ioend->io_bio->len;
	return ROUND_DOWN(MIN((uint64_t)len, room), (uint64_t)i_blocksize(wpc->inode));
}

static void add_folio(struct iomap_ioend *ioend, struct folio *f, size_t off, size_t len)
{
	unsigned last = ioend->io_nr_folios;

	if (last && ioend->io_folios[last - 1] == f &&
	    ioend->io_spans[last - 1].off + ioend->io_spans[last - 1].len == off) {
		ioend->io_spans[last - 1].len += (uint32_t)len;
		return;
	}
	assert(last < ioend->io_max_folios);
	ioend->io_folios[last] = f;
	ioend->io_spans[last].off = (uint32_t)off;
	ioend->io_spans[last].len = (uint32_t)len;
	ioend->io_nr_folios++;
}

int iomap_submit_ioend(struct iomap_writepage_ctx *wpc, int error)
{
	if (wpc->ops->writeback_submit)
		return wpc->ops->writeback_submit(wpc, error);
	return iomap_ioend_writeback_submit(wpc, error);
}

int64_t iomap_add_to_ioend(struct iomap_writepage_ctx *wpc, struct folio *f, uint64_t pos,
			   uint64_t end_pos, unsigned len)
{
	const struct iomap *m = &wpc->iomap;
	size_t off = offset_in_folio(f, pos), n;
	struct iomap_ioend *ioend;
	uint32_t flags = 0;
	int err;

	if (pos < m->offset || pos >= iomap_end(m))
		return -EIO;
	n = MIN((uint64_t)len, iomap_end(m) - pos);
	if (m->type == IOMAP_HOLE)
		return (int64_t)n;
	if (m->type != IOMAP_MAPPED && m->type != IOMAP_UNWRITTEN)
		return -EIO;
	if (m->type == IOMAP_UNWRITTEN)
		flags |= IOMAP_IOEND_UNWRITTEN;
	if (m->flags & IOMAP_F_SHARED)
		flags |= IOMAP_IOEND_SHARED;
	if (folio_test(f, FOLIO_DROPBEHIND))
		flags |= IOMAP_IOEND_DONTCACHE;
	if ((m->flags & IOMAP_F_BOUNDARY) && pos == m->offset)
		flags |= IOMAP_IOEND_BOUNDARY;
	for (;;) {
		size_t take;

		if (!wpc->wb_ctx) {
			wpc->wb_ctx = alloc_ioend(wpc, pos, flags);
			if (!wpc->wb_ctx)
				return -ENOMEM;
			n = MIN(n, (size_t)m->bdev->max_io);
			take = n;
		} else {
			take = ioend_room(wpc, pos, n, flags);
		}
		ioend = wpc->wb_ctx;
		if (take && iomap_bio_add(ioend->io_bio, (char *)f->data + off, take)) {
			n = take;
			break;
		}
		err = iomap_submit_ioend(wpc, 0);
		if (err)
			return err;
		wpc->wb_ctx = NULL;
	}
	add_folio(ioend, f, off, n);
	wpc->submitted += n;
	/*
	 * The size that completion puts on disk is what was in memory now. With whole
	 * blocks, an append racing with this write would let a crash show the zeroes
	 * that filled the block behind the end.
	 */
	ioend->io_size = MIN(ioend->io_size + n, end_pos - ioend->io_offset);
	assert(ioend->io_size <= ioend->io_bio->len);
	return (int64_t)n;
}

int iomap_ioend_writeback_submit(struct iomap_writepage_ctx *wpc, int error)
{
	struct iomap_ioend *ioend = wpc->wb_ctx;

	wpc->wb_ctx = NULL;
	if (!ioend)
		return error;
	/* Only a file system's own submit knows where an anonymous write goes. */
	if (!error && ioend->io_addr == IOMAP_NULL_ADDR)
		error = -EIO;
	HOOK("iomap:ioend_submit", ioend);
	TRACE(ioend_submit, ioend->io_inode->i_ino, ioend->io_offset, ioend->io_size);
	if (error) {
		/* The folios are under writeback already: only completion ends that. */
		ioend->io_bio->status = error;
		ioend->io_bio->end_io(ioend->io_bio);
	} else {
		iomap_submit_bio(ioend->io_bio);
	}
	return error;
}

/* ---- Sorting, merging, splitting ---------------------------------------------------------------- */

static struct cds_list_head *merge_lists(struct cds_list_head *a, struct cds_list_head *b)
{
	struct cds_list_head head, *tail = &head;

	head.next = NULL;
	while (a && b) {
		struct iomap_ioend *x = cds_list_entry(a, struct iomap_ioend, io_list);
		struct iomap_ioend *y = cds_list_entry(b, struct iomap_ioend, io_list);
		struct cds_list_head **from = x->io_offset <= y->io_offset ? &a : &b;

		tail->next = *from;
		tail = *from;
		*from = (*from)->next;
	}
	tail->next = a ? a : b;
	return head.next;
}

/* Bottom-up merge sort by file offset: stable, no recursion, no memory. */
void iomap_sort_ioends(struct cds_list_head *ioends)
{
	struct cds_list_head *bins[48] = { NULL }, *pos, *next, *all = NULL;

	if (cds_list_empty(ioends))
		return;
	ioends->prev->next = NULL;
	for (pos = ioends->next; pos; pos = next) {
		struct cds_list_head *run = pos;
		unsigned i = 0;

		next = pos->next;
		run->next = NULL;
		for (; bins[i]; i++) {
			run = merge_lists(bins[i], run);
			bins[i] = NULL;
		}
		bins[i] = run;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bins); i++)
		all = merge_lists(bins[i], all);
	CDS_INIT_LIST_HEAD(ioends);
	for (pos = all; pos; pos = next) {
		next = pos->next;
		cds_list_add_tail(pos, ioends);
	}
}

static bool can_merge(const struct iomap_ioend *ioend, const struct iomap_ioend *next)
{
	if (ioend->io_error != next->io_error)
		return false;
	if (next->io_flags & IOMAP_IOEND_BOUNDARY)
		return false;
	/* Mixed states would convert or remap blocks that must not be. */
	if ((ioend->io_flags & IOMAP_IOEND_NOMERGE_FLAGS) !=
	    (next->io_flags & IOMAP_IOEND_NOMERGE_FLAGS))
		return false;
	if (ioend->io_offset + ioend->io_size != next->io_offset)
		return false;
	if (ioend->io_bio->dev != next->io_bio->dev)
		return false;
	return ioend->io_addr + ioend->io_size == next->io_addr;
}

void iomap_ioend_try_merge(struct iomap_ioend *ioend, struct cds_list_head *more)
{
	CDS_INIT_LIST_HEAD(&ioend->io_list);
	while (!cds_list_empty(more)) {
		struct iomap_ioend *next = cds_list_first_entry(more, struct iomap_ioend, io_list);

		if (!can_merge(ioend, next))
			break;
		cds_list_move(&next->io_list, ioend->io_list.prev);
		ioend->io_size += next->io_size;
	}
}

/* Move the first `len` bytes of a bio's memory into another one. */
static bool move_front(struct iomap_bio *from, struct iomap_bio *to, uint64_t len)
{
	unsigned i = 0;

	while (len) {
		struct iovec *v = &from->vec[i];
		size_t n = MIN(v->iov_len, len);

		if (!iomap_bio_add(to, v->iov_base, n))
			return false;
		v->iov_base = (char *)v->iov_base + n;
		v->iov_len -= n;
		from->len -= n;
		from->addr += from->addr == IOMAP_NULL_ADDR ? 0 : n;
		len -= n;
		if (!v->iov_len)
			i++;
	}
	memmove(from->vec, from->vec + i, (from->nr_vecs - i) * sizeof(from->vec[0]));
	from->nr_vecs -= i;
	return true;
}

struct iomap_ioend *iomap_split_ioend(struct iomap_ioend *ioend, uint64_t max_len, bool is_append)
{
	struct iomap_bio *bio = ioend->io_bio;
	uint64_t len = is_append ? MIN(max_len, bio->dev->max_io) : max_len;
	struct iomap_ioend *front;

	len = ROUND_DOWN(len, (uint64_t)i_blocksize(ioend->io_inode));
	if (!len || bio->len <= len)
		return NULL;
	front = iomap_alloc_patiently(sizeof(*front));
	if (!front)
		return NULL;
	CDS_INIT_LIST_HEAD(&front->io_list);
	front->io_flags = ioend->io_flags;
	front->io_inode = ioend->io_inode;
	front->io_offset = ioend->io_offset;
	front->io_size = len;
	front->io_addr = ioend->io_addr;
	front->io_end = ioend->io_end;
	front->io_private = ioend->io_private;
	atomic_init(&front->io_remaining, 1);
	front->io_bio = iomap_bio_alloc(bio->dev, bio->op, bio->addr, bio->nr_vecs);
	if (!front->io_bio || front->io_bio->max_vecs < bio->nr_vecs ||
	    !move_front(bio, front->io_bio, len)) {
		free_ioend(front);
		return NULL;
	}
	front->io_bio->end_io = ioend_bio_end_io;
	front->io_bio->private = front;
	front->io_bio->flags = bio->flags;
	front->io_parent = ioend;
	atomic_fetch_add(&ioend->io_remaining, 1);
	ioend->io_offset += len;
	ioend->io_size -= MIN(len, ioend->io_size);
	if (ioend->io_addr != IOMAP_NULL_ADDR)
		ioend->io_addr += len;
	return front;
}

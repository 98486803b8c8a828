/* SPDX-License-Identifier: MIT */
/*
 * Per-block state: which blocks of a folio are at least as new as the disk, and
 * which are newer. A folio of one block needs none; its own flags say it.
 *
 * Invariants: folio uptodate <=> every block uptodate (between reads);
 * a dirty block is uptodate; a dirty block implies a dirty folio or one that
 * writeback has locked to write it.
 */
#include "iomap_private.h"

#define WORD_BITS 64u

static inline unsigned bit_words(unsigned nr)
{
	return DIV_ROUND_UP(nr, WORD_BITS);
}

static inline uint64_t *uptodate_bits(struct iomap_folio_state *ifs)
{
	return ifs->bits;
}

static inline uint64_t *dirty_bits(struct iomap_folio_state *ifs)
{
	return ifs->bits + bit_words(ifs->nr_blocks);
}

/* Bits [first, first+nr) within word w. */
static inline uint64_t word_mask(unsigned w, unsigned first, unsigned end)
{
	unsigned lo = MAX(first, w * WORD_BITS) - w * WORD_BITS;
	unsigned hi = MIN(end, (w + 1) * WORD_BITS) - w * WORD_BITS;
	uint64_t mask = hi == WORD_BITS ? UINT64_MAX : (1ull << hi) - 1;

	return mask & ~((1ull << lo) - 1);
}

static void bits_change(uint64_t *bits, unsigned first, unsigned end, bool set)
{
	for (unsigned w = first / WORD_BITS; first < end && w <= (end - 1) / WORD_BITS; w++) {
		if (set)
			bits[w] |= word_mask(w, first, end);
		else
			bits[w] &= ~word_mask(w, first, end);
	}
}

/* First bit in [first, end) whose value is `value`; end if none. */
static unsigned bits_find(const uint64_t *bits, unsigned first, unsigned end, bool value)
{
	for (unsigned w = first / WORD_BITS; first < end && w <= (end - 1) / WORD_BITS; w++) {
		uint64_t word = (value ? bits[w] : ~bits[w]) & word_mask(w, first, end);

		if (word)
			return w * WORD_BITS + (unsigned)__builtin_ctzll(word);
	}
	return end;
}

static struct iomap_folio_state *state_of(struct folio *f)
{
	return f->private;
}

/* Blocks that bytes [off, off+len) touch. */
static void block_range(const struct iomap_folio_state *ifs, size_t off, size_t len,
			unsigned *first, unsigned *end)
{
	*first = (unsigned)(off >> ifs->blkbits);
	*end = len ? (unsigned)((off + len - 1) >> ifs->blkbits) + 1 : *first;
	assert(*end <= ifs->nr_blocks);
}

int iomap_state_get(struct inode *inode, struct folio *f, bool patient,
		    struct iomap_folio_state **out)
{
	unsigned nr = folio_nr_blocks(inode, f);
	struct iomap_folio_state *ifs = state_of(f);
	size_t size;

	*out = ifs;
	if (ifs || nr <= 1)
		return 0;
	size = sizeof(*ifs) + 2 * bit_words(nr) * sizeof(uint64_t);
	ifs = patient ? iomap_alloc_patiently(size) : calloc(1, size);
	if (!ifs)
		return -ENOMEM;
	lk_mutex_init(&ifs->lock, LK_FOLIO_STATE, "folio_state");
	ifs->nr_blocks = nr;
	ifs->blkbits = inode->i_blkbits;
	/* Until now the flags spoke for all blocks. */
	if (folio_test_uptodate(f))
		bits_change(uptodate_bits(ifs), 0, nr, true);
	if (folio_test_dirty(f))
		bits_change(dirty_bits(ifs), 0, nr, true);
	f->private = ifs;
	*out = ifs;
	return 0;
}

void iomap_state_free(struct folio *f)
{
	struct iomap_folio_state *ifs = state_of(f);
	bool full;

	if (!ifs)
		return;
	/* The last completion may still be inside the lock. */
	lk_lock(&ifs->lock);
	assert(ifs->read_bytes_pending == 0);
	assert(ifs->write_bytes_pending == 0);
	full = bits_find(uptodate_bits(ifs), 0, ifs->nr_blocks, false) == ifs->nr_blocks;
	assert(full == folio_test_uptodate(f));
	(void)full;
	f->private = NULL;
	lk_unlock(&ifs->lock);
	lk_mutex_destroy(&ifs->lock);
	free(ifs);
}

void iomap_set_range_uptodate(struct folio *f, size_t off, size_t len)
{
	struct iomap_folio_state *ifs = state_of(f);
	unsigned first, end;
	bool full = true;

	if (folio_test_uptodate(f))
		return;
	if (ifs) {
		lk_lock(&ifs->lock);
		block_range(ifs, off, len, &first, &end);
		bits_change(uptodate_bits(ifs), first, end, true);
		/*
		 * While a read is in flight its end sets the folio's flag: were it set
		 * here, the waiter would see an uptodate folio that is about to be
		 * unlocked by somebody else.
		 */
		full = !ifs->read_bytes_pending &&
		       bits_find(uptodate_bits(ifs), 0, ifs->nr_blocks, false) == ifs->nr_blocks;
		lk_unlock(&ifs->lock);
	}
	if (full)
		folio_mark_uptodate(f);
}

static size_t prefix(struct folio *f, size_t off, size_t len, bool uptodate)
{
	struct iomap_folio_state *ifs = state_of(f);
	unsigned first, end, stop;
	size_t reach;

	len = MIN(len, folio_size(f) - off);
	if (folio_test_uptodate(f))
		return uptodate ? len : 0;
	if (!ifs)
		return uptodate ? 0 : len;
	lk_lock(&ifs->lock);
	block_range(ifs, off, len, &first, &end);
	stop = bits_find(uptodate_bits(ifs), first, end, !uptodate);
	lk_unlock(&ifs->lock);
	if (stop == first)
		return 0;
	reach = ((size_t)stop << ifs->blkbits) - off;
	return MIN(len, reach);
}

size_t iomap_uptodate_prefix(struct folio *f, size_t off, size_t len)
{
	return prefix(f, off, len, true);
}

size_t iomap_stale_prefix(struct folio *f, size_t off, size_t len)
{
	return prefix(f, off, len, false);
}

static void change_dirty(struct folio *f, size_t off, size_t len, bool set)
{
	struct iomap_folio_state *ifs = state_of(f);
	unsigned first, end;

	if (!ifs)
		return;
	lk_lock(&ifs->lock);
	block_range(ifs, off, len, &first, &end);
	bits_change(dirty_bits(ifs), first, end, set);
	lk_unlock(&ifs->lock);
}

void iomap_set_range_dirty(struct folio *f, size_t off, size_t len)
{
	change_dirty(f, off, len, true);
}

void iomap_clear_range_dirty(struct folio *f, size_t off, size_t len)
{
	change_dirty(f, off, len, false);
}

bool iomap_next_dirty_run(struct folio *f, size_t *off, size_t end, size_t *len)
{
	struct iomap_folio_state *ifs = state_of(f);
	unsigned first, last, start, stop;

	if (*off >= end)
		return false;
	if (!ifs) {
		*len = end - *off;
		return true;
	}
	lk_lock(&ifs->lock);
	block_range(ifs, *off, end - *off, &first, &last);
	start = bits_find(dirty_bits(ifs), first, last, true);
	stop = bits_find(dirty_bits(ifs), start, last, false);
	lk_unlock(&ifs->lock);
	if (start == stop)
		return false;
	*off = MAX(*off, (size_t)start << ifs->blkbits);
	*len = MIN(end, (size_t)stop << ifs->blkbits) - *off;
	return true;
}

/* ---- The mapping's callbacks ---------------------------------------------------------- */

bool iomap_dirty_folio(struct address_space *m, struct folio *f)
{
	struct iomap_folio_state *ifs;

	/* Without memory for the state the flag alone says: all of it. */
	if (!iomap_state_get(m->host, f, false, &ifs))
		iomap_set_range_dirty(f, 0, folio_size(f));
	return filemap_dirty_folio(m, f);
}

bool iomap_release_folio(struct folio *f)
{
	/*
	 * A dirty folio may be dirty in part only; without its state every block
	 * would count as dirty and as uptodate.
	 */
	if (folio_test_dirty(f) || folio_test_writeback(f))
		return false;
	iomap_state_free(f);
	return true;
}

void iomap_invalidate_folio(struct folio *f, size_t off, size_t len)
{
	struct iomap_folio_state *ifs = state_of(f);
	size_t first, end;

	assert(off + len <= folio_size(f));
	if (off == 0 && len == folio_size(f)) {
		assert(!folio_test_writeback(f));
		folio_cancel_dirty(f);
		iomap_state_free(f);
		return;
	}
	/*
	 * The folio stays for its other bytes, so these must read as the hole they
	 * are now: a later extension over them looks at memory, not at the disk.
	 * Whole blocks have nothing left to write.
	 */
	data_zero((char *)f->data + off, len);
	if (!ifs)
		return;
	first = ROUND_UP(off, (size_t)1 << ifs->blkbits);
	end = ROUND_DOWN(off + len, (size_t)1 << ifs->blkbits);
	if (first < end)
		iomap_clear_range_dirty(f, first, end - first);
}

bool iomap_is_partially_uptodate(struct folio *f, size_t from, size_t count)
{
	if (!state_of(f) || from >= folio_size(f))
		return false;
	count = MIN(count, folio_size(f) - from);
	return iomap_uptodate_prefix(f, from, count) == count;
}

/* SPDX-License-Identifier: MIT */
/* Finding and making folios; questions about ranges. */
#include <unistd.h>

#include "folio_private.h"

static uint64_t page_of(uint64_t pos)
{
	return pos >> FOLIO_PAGE_SHIFT;
}

/* Largest order that the length suggests and alignment and the mapping allow. */
static unsigned suggest_order(const struct address_space *m, uint64_t index, size_t len_hint)
{
	unsigned order = len_hint >> FOLIO_PAGE_SHIFT ? ilog2(len_hint) - FOLIO_PAGE_SHIFT : 0;

	order = MIN(order, m->max_order);
	if (index && order > (unsigned)__builtin_ctzll(index))
		order = (unsigned)__builtin_ctzll(index);
	return MAX(order, m->min_order);
}

/* Make room below the limit; what is dirty is the throttle's business. */
static bool under_limit(struct folio_cache *c, uint64_t need)
{
	uint64_t now = atomic_load(&c->nr_pages) + need;

	if (now <= c->limit_pages)
		return true;
	folio_reclaim(c, now - c->limit_pages + FOLIO_BATCH, false);
	return atomic_load(&c->nr_pages) + need <= c->limit_pages;
}

static int try_insert(struct address_space *m, struct folio *f)
{
	int err;

	lk_lock(&m->tree_lock);
	err = folio_index_insert(m, f);
	if (!err) {
		folio_get(f);
		atomic_store(&f->mapping, m);
		atomic_fetch_add(&m->nr_pages, folio_nr_pages(f));
	}
	lk_unlock(&m->tree_lock);
	return err;
}

/* New, locked folio in the mapping; -EEXIST when somebody was faster. */
static int create_folio(struct address_space *m, uint64_t index, size_t len_hint, unsigned fgp,
			struct folio **out)
{
	struct folio_cache *c = m->cache;
	unsigned order = suggest_order(m, index, len_hint);
	struct folio *f;
	int err;

	if (!under_limit(c, 1ull << order)) {
		order = m->min_order;
		folio_flushers_kick(c);
	}
	for (;; order--) {
		f = folio_alloc(c, ROUND_DOWN(index, 1ull << order), order);
		if (f) {
			atomic_store(&f->flags, FOLIO_BIT(FOLIO_LOCKED));
			if (fgp & FGP_DONTCACHE)
				folio_test_set(f, FOLIO_DROPBEHIND);
			err = try_insert(m, f);
			if (!err)
				break;
			folio_unlock(f);
			folio_put(f);
		} else {
			err = -ENOMEM;
		}
		if (order == m->min_order)
			return err;
	}
	atomic_fetch_add_explicit(&c->misses, 1, memory_order_relaxed);
	if (!(fgp & FGP_LOCK))
		folio_unlock(f);
	folio_lru_add(f);
	*out = f;
	return 0;
}

/* Lock a folio that was found; -ESTALE when it left the mapping meanwhile. */
static int lock_found(struct address_space *m, struct folio *f, unsigned fgp)
{
	if (!folio_trylock(f)) {
		if (fgp & FGP_NOWAIT)
			return -EAGAIN;
		folio_lock(f);
	}
	if (atomic_load(&f->mapping) == m)
		return 0;
	folio_unlock(f);
	return -ESTALE;
}

static struct folio *lookup_get(struct address_space *m, uint64_t index)
{
	struct folio *f;

	lk_lock(&m->tree_lock);
	f = folio_index_lookup(m, index);
	if (f)
		folio_get(f);
	lk_unlock(&m->tree_lock);
	return f;
}

int filemap_get_folio(struct address_space *m, uint64_t pos, size_t len_hint, unsigned fgp,
		      struct folio **out)
{
	struct folio *f;
	int err;

	for (;;) {
		f = lookup_get(m, page_of(pos));
		if (f) {
			err = fgp & FGP_LOCK ? lock_found(m, f, fgp) : 0;
			if (!err)
				break;
			folio_put(f);
			if (err != -ESTALE)
				return err;
			continue;
		}
		if (!(fgp & FGP_CREAT))
			return -ENOENT;
		err = create_folio(m, page_of(pos), len_hint, fgp, out);
		if (err == 0 && (fgp & FGP_ACCESSED))
			folio_test_set(*out, FOLIO_REFERENCED);
		if (err != -EEXIST)
			return err;
		/*
		 * With min_order a neighbour may stand in the way of the smallest
		 * allowed folio only if it covers pos too: orders are never mixed
		 * below min_order, so the next look finds it.
		 */
	}
	atomic_fetch_add_explicit(&m->cache->hits, 1, memory_order_relaxed);
	if ((fgp & FGP_ACCESSED) && !folio_test(f, FOLIO_REFERENCED))
		folio_test_set(f, FOLIO_REFERENCED);
	if (!(fgp & FGP_DONTCACHE) && folio_test(f, FOLIO_DROPBEHIND))
		folio_test_clear(f, FOLIO_DROPBEHIND);
	*out = f;
	return 0;
}

unsigned folio_get_tagged(struct address_space *m, uint64_t *start, uint64_t end,
			  struct folio **batch, unsigned max, enum index_tag tag)
{
	uint64_t index = page_of(*start), last = page_of(end);
	unsigned n = 0;

	if (*start > end)
		return 0;
	lk_lock(&m->tree_lock);
	while (n < max && index <= last) {
		struct folio *f = folio_index_next(m, index, last, tag);

		if (!f)
			break;
		folio_get(f);
		batch[n++] = f;
		index = folio_next_index(f);
	}
	lk_unlock(&m->tree_lock);
	if (n == max && n > 0 && index <= last)
		*start = index << FOLIO_PAGE_SHIFT;
	else
		*start = end == UINT64_MAX ? end : end + 1;
	return n;
}

unsigned filemap_get_folios(struct address_space *m, uint64_t *start, uint64_t end,
			    struct folio **batch, unsigned max)
{
	return folio_get_tagged(m, start, end, batch, max, TAG_PRESENT);
}

unsigned filemap_get_folios_dirty(struct address_space *m, uint64_t *start, uint64_t end,
				  struct folio **batch, unsigned max)
{
	return folio_get_tagged(m, start, end, batch, max, TAG_DIRTY);
}

bool folio_range_tagged(struct address_space *m, uint64_t start, uint64_t end, enum index_tag tag)
{
	bool found;

	if (start > end)
		return false;
	lk_lock(&m->tree_lock);
	found = folio_index_next(m, page_of(start), page_of(end), tag) != NULL;
	lk_unlock(&m->tree_lock);
	return found;
}

bool filemap_range_has_page(struct address_space *m, uint64_t start, uint64_t end)
{
	return folio_range_tagged(m, start, end, TAG_PRESENT);
}

bool filemap_range_needs_writeback(struct address_space *m, uint64_t start, uint64_t end)
{
	return folio_range_tagged(m, start, end, TAG_DIRTY) ||
	       folio_range_tagged(m, start, end, TAG_WRITEBACK);
}

/* ---- Holes and data of the cache ---------------------------------------------- */

/* First offset in [from, to) of a folio whose being uptodate equals want; to if none. */
static size_t scan_folio(struct address_space *m, struct folio *f, size_t from, size_t to, bool want)
{
	bool (*partial)(struct folio *, size_t, size_t) = m->a_ops->is_partially_uptodate;
	const size_t bs = m->block_bytes;
	size_t off = from;

	if (folio_test_uptodate(f))
		return want ? from : to;
	folio_lock(f);
	if (atomic_load(&f->mapping) != m || !partial) {
		folio_unlock(f);
		return want ? to : from;
	}
	while (off < to) {
		size_t block = ROUND_DOWN(off, bs);

		if ((folio_test_uptodate(f) || partial(f, block, bs)) == want)
			break;
		off = MIN(block + bs, to);
	}
	folio_unlock(f);
	return off;
}

int64_t mapping_seek_hole_data(struct address_space *m, uint64_t start, uint64_t end, int whence)
{
	bool want = whence == SEEK_DATA;
	uint64_t pos = start;

	while (pos < end) {
		uint64_t next = pos, stop;
		struct folio *f;

		if (!filemap_get_folios(m, &next, end - 1, &f, 1))
			return want ? -ENXIO : (int64_t)pos;
		if (folio_pos(f) > pos) {
			if (!want) {
				folio_put(f);
				return (int64_t)pos;
			}
			pos = folio_pos(f);
		}
		stop = MIN(end, folio_pos(f) + folio_size(f));
		next = folio_pos(f) + scan_folio(m, f, offset_in_folio(f, pos),
						 offset_in_folio(f, stop), want);
		folio_put(f);
		if (next < stop)
			return (int64_t)next;
		pos = stop;
	}
	return -ENXIO;
}

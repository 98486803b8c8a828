/* SPDX-License-Identifier: MIT */
/* A mapping over memory: writepages copies to a "disk", by a thread or at once. */
#ifndef FOLIO_FIXTURE_H
#define FOLIO_FIXTURE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iomapfs/folio.h"
#include "unit.h"

#define MIB (1ull << 20)

struct fake {
	struct address_space m;
	_Atomic unsigned nr_writepages, nr_written, nr_invalidated, nr_released;
	_Atomic int write_err;    /* writepages ends writeback with this error */
	_Atomic bool refuse;      /* writepages fails without cleaning anything */
	_Atomic bool no_release;
	_Atomic unsigned delay_us;
	size_t last_off, last_len; /* of invalidate_folio */
};

static inline struct fake *fake_of(struct address_space *m)
{
	return m->host;
}

static int fake_writepages(struct address_space *m, struct writeback_control *wbc)
{
	struct fake *fk = fake_of(m);
	struct folio *f = NULL;
	int err = 0;

	atomic_fetch_add(&fk->nr_writepages, 1);
	if (atomic_load(&fk->refuse))
		return -EROFS;
	while ((f = writeback_iter(m, wbc, f, &err))) {
		int werr = atomic_load(&fk->write_err);

		folio_start_writeback(f);
		folio_unlock(f);
		if (atomic_load(&fk->delay_us))
			usleep(atomic_load(&fk->delay_us));
		if (werr)
			mapping_set_error(m, werr);
		atomic_fetch_add(&fk->nr_written, 1);
		folio_end_writeback(f);
	}
	return err;
}

static bool fake_release(struct folio *f)
{
	struct fake *fk = fake_of(atomic_load(&f->mapping));

	if (atomic_load(&fk->no_release))
		return false;
	atomic_fetch_add(&fk->nr_released, 1);
	free(f->private);
	f->private = NULL;
	return true;
}

static void fake_invalidate(struct folio *f, size_t off, size_t len)
{
	struct fake *fk = fake_of(atomic_load(&f->mapping));

	atomic_fetch_add(&fk->nr_invalidated, 1);
	fk->last_off = off;
	fk->last_len = len;
	if (off == 0 && len == folio_size(f)) {
		free(f->private);
		f->private = NULL;
	}
}

/* private, if there, is an array of bools, one a 1 KiB block. */
static bool fake_partial(struct folio *f, size_t from, size_t count)
{
	bool *up = f->private;

	if (!up)
		return false;
	for (size_t b = from >> 10; b <= (from + count - 1) >> 10; b++)
		if (!up[b])
			return false;
	return true;
}

static const struct address_space_operations fake_ops = {
	.writepages = fake_writepages,
	.release_folio = fake_release,
	.invalidate_folio = fake_invalidate,
	.is_partially_uptodate = fake_partial,
};

static inline struct folio_cache *cache_new(uint64_t limit, uint64_t bg, uint64_t dirty)
{
	struct folio_cache_params p = {
		.limit_bytes = limit,
		.dirty_background_bytes = bg,
		.dirty_limit_bytes = dirty,
		.nr_flushers = 2,
	};
	struct folio_cache *c;

	ck_assert_int_eq(folio_cache_create(&p, &c), 0);
	return c;
}

static inline void fake_init(struct fake *fk, struct folio_cache *c)
{
	memset(fk, 0, sizeof(*fk));
	ck_assert_int_eq(mapping_init(&fk->m, c, &fake_ops, fk), 0);
}

static inline void fake_end(struct fake *fk)
{
	truncate_inode_pages_range(&fk->m, 0, UINT64_MAX);
	ck_assert_uint_eq(atomic_load(&fk->m.nr_pages), 0);
	mapping_destroy(&fk->m);
}

/* Locked and referenced. */
static inline struct folio *make(struct address_space *m, uint64_t pos, size_t len)
{
	struct folio *f;

	ck_assert_int_eq(filemap_get_folio(m, pos, len, FGP_WRITEBEGIN, &f), 0);
	return f;
}

static inline void done(struct folio *f)
{
	folio_unlock(f);
	folio_put(f);
}

static inline void make_dirty(struct address_space *m, uint64_t pos, size_t len)
{
	struct folio *f = make(m, pos, len);

	folio_mark_uptodate(f);
	filemap_dirty_folio(m, f);
	done(f);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Giving back delayed allocation that a failed or short write leaves unused. Other
 * threads may have dirtied, or written back, parts of the same range meanwhile: a
 * reservation under dirty cache is needed by writeback, all others are leaks.
 */
#include "iomap_private.h"

#define SCAN_BATCH 16u

struct punch_ctx {
	struct inode *inode;
	struct iomap *iomap;
	iomap_punch_t punch;
	uint64_t next; /* everything before is decided */
};

/* Punch [ctx->next, end). */
static void punch_upto(struct punch_ctx *ctx, uint64_t end)
{
	if (ctx->next < end)
		ctx->punch(ctx->inode, ctx->next, end - ctx->next, ctx->iomap);
}

/* Keep what this folio has dirty. Locked, so that its dirtiness holds while its gaps are punched. */
static void scan_folio(struct punch_ctx *ctx, struct folio *f, uint64_t end)
{
	size_t off = offset_in_folio(f, MAX(ctx->next, folio_pos(f)));
	size_t limit = MIN(folio_size(f), end - folio_pos(f)), len;

	while (iomap_next_dirty_run(f, &off, limit, &len)) {
		punch_upto(ctx, folio_pos(f) + off);
		ctx->next = folio_pos(f) + off + len;
		off += len;
	}
}

void iomap_write_delalloc_release(struct inode *inode, uint64_t start, uint64_t end, unsigned flags,
				  struct iomap *iomap, iomap_punch_t punch)
{
	struct punch_ctx ctx = { .inode = inode, .iomap = iomap, .punch = punch, .next = start };
	uint64_t isize = i_size_read(inode), cursor = start, scan_end;
	struct folio *batch[SCAN_BATCH];
	unsigned nr;

	assert(IS_ALIGNED(start, (uint64_t)i_blocksize(inode)));
	assert(IS_ALIGNED(end, (uint64_t)i_blocksize(inode)));
	if (start >= end)
		return;
	/* Cache beyond EOF is not written back: no reservation under it is needed. */
	scan_end = MIN(end, ROUND_UP(isize, (uint64_t)i_blocksize(inode)));
	while (cursor < scan_end &&
	       (nr = filemap_get_folios(&inode->i_mapping, &cursor, scan_end - 1, batch,
					SCAN_BATCH)) != 0) {
		for (unsigned i = 0; i < nr; i++) {
			struct folio *f = batch[i];

			folio_lock(f);
			if (atomic_load(&f->mapping) == &inode->i_mapping && folio_test_dirty(f))
				scan_folio(&ctx, f, scan_end);
			folio_unlock(f);
			folio_put(f);
		}
	}
	punch_upto(&ctx, end);
}

/* SPDX-License-Identifier: MIT */
/*
 * Repair: who shares blocks. An extent that finds blocks taken by another file's data is a second owner
 * of them where the group counted them, whatever the number, and where the counts cannot be read any more;
 * elsewhere it is damage, and gets a copy of those blocks. The counts are made anew from the owners that
 * are left.
 */
#include "fix.h"

void chk_fix_refc_lost(struct fix *f, uint32_t agno)
{
	const struct od_ctx *od = &f->c->od;
	const uint64_t start = agno * od->ag_blocks;
	const struct chk_refc all = { .start = start, .len = MIN(od->ag_blocks, od->nr_blocks - start) };

	if (od->reflink)
		chk_vec_push(f->c, &f->c->refcs, &all);
}

void chk_fix_refc_group(struct chk *c, const le64_t *rec, void *arg)
{
	chk_refc_add(c, rec, arg);
}

/* Is all of it counted? */
static bool counted_whole(struct fix *f, uint64_t start, uint64_t end)
{
	while (start < end) {
		const struct chk_refc *r = chk_refc_after(&f->c->refcs, start);

		if (!r || r->start > start)
			return false;
		start = r->start + r->len;
	}
	return true;
}

/*
 * May the blocks of [start, end) that others have be had by this extent too? Its other blocks are nobody's
 * business: most extents that share do so in part.
 */
static bool may_share(struct fix *f, uint64_t start, uint64_t end)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;

	while (start < end) {
		const struct chk_range *r = chk_range_at(f->c, start << shift);
		uint64_t stop;

		if (!r || r->start >= end << shift)
			break;
		start = MAX(start, r->start >> shift);
		stop = MIN(end, DIV_ROUND_UP(r->end, 1ull << shift));
		if (r->use != CHK_DATA || !counted_whole(f, start, stop) ||
		    !chk_is_clear(&f->alone, start << shift, stop << shift))
			return false;
		start = stop;
	}
	return true;
}

/* Blocks that may be had are. Unwritten ones are never shared: who comes later gets a copy. */
static void take(struct fix *f, uint64_t start, uint64_t end, bool unwritten, bool *shares)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;
	const struct chk_refc *r = chk_refc_after(&f->c->refcs, start);
	enum chk_use other;

	chk_claim_again(f->c, CHK_DATA, start << shift, end << shift, &other);
	if (!r || r->start >= end)
		return;
	if (!unwritten) {
		chk_owner_add(f->c, &f->c->owners, start, end);
		*shares = true;
		return;
	}
	chk_claim(&f->alone, CHK_DATA, start << shift, end << shift, &other);
	if (f->alone.error)
		f->c->error = f->alone.error;
}

bool chk_fix_refc_claim(struct fix *f, uint64_t start, uint64_t len, bool unwritten, bool *shares)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;
	const uint64_t end = start + len;

	if (unwritten ? !chk_is_clear(f->c, start << shift, end << shift) : !may_share(f, start, end))
		return false;
	take(f, start, end, unwritten, shares);
	return true;
}

uint64_t chk_fix_refc_piece(struct fix *f, uint64_t start, uint64_t len, bool unwritten, bool *shares,
			    bool *mine)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;
	struct chk_range *r = chk_range_at(f->c, start << shift);
	uint64_t end = start + len;

	*mine = !r || r->start > start << shift;
	if (*mine) {
		end = r ? MIN(end, r->start >> shift) : end;
		take(f, start, end, unwritten, shares);
		return end - start;
	}
	/* Of others, whoever they are, until the next block that is free. */
	while (r && start < end && r->start <= start << shift) {
		start = MIN(end, r->end >> shift);
		r = chk_range_next(f->c, r);
	}
	return len - (end - start);
}

void chk_fix_refc_flag(struct fix *f, uint64_t ino)
{
	struct od_inode *edit = chk_fix_inode_edit(f, ino);

	if (edit)
		edit->data_flags = le16_make(le16_get(edit->data_flags) | OD_DATAF_SHARED);
}

void chk_fix_refc_records(struct fix *f, uint32_t agno, struct chk_vec *recs)
{
	const uint64_t start = agno * f->c->od.ag_blocks, end = start + f->c->od.ag_blocks;
	const struct chk_refc *r, *last;

	/* Once for all groups: the runs take the place of what was believed. */
	if (!f->counted) {
		f->counted = true;
		f->c->refcs.n = 0;
		chk_owners_runs(f->c, &f->c->owners, &f->c->refcs);
	}
	/* Without a run there may be no memory of them either. */
	r = chk_refc_after(&f->c->refcs, start);
	last = r ? (const struct chk_refc *)f->c->refcs.data + f->c->refcs.n : NULL;
	/* No run reaches from one group into the next: a head lies between. */
	for (; r && r < last && r->start < end; r++) {
		for (uint64_t at = 0; r->refs > 1 && at < r->len; at += OD_EXTENT_LEN_MAX) {
			const uint64_t n = MIN(r->len - at, OD_EXTENT_LEN_MAX);
			const le64_t rec[2] = { le64_make(r->start + at),
						le64_make(n | (uint64_t)r->refs << 32) };

			chk_vec_push(f->c, recs, rec);
		}
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * Repair: who shares blocks. An extent that finds its blocks taken by another file's data is a second
 * owner where the group counted them, whatever the number, and where the counts cannot be read any more;
 * elsewhere it is damage, and gets a copy. The counts are made anew from the owners that are left.
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

bool chk_fix_refc_claim(struct fix *f, uint64_t start, uint64_t len, bool unwritten, bool *shares)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;
	const uint64_t end = start + len;
	const struct chk_refc *r = chk_refc_after(&f->c->refcs, start);
	const bool counted = r && r->start < end;
	const bool clear = chk_is_clear(f->c, start << shift, end << shift);
	enum chk_use other;

	if (!clear && (unwritten || !counted_whole(f, start, end) ||
		       !chk_is_clear(&f->alone, start << shift, end << shift) ||
		       !chk_fix_clonable(f, start << shift, end << shift)))
		return false;
	chk_claim_again(f->c, CHK_DATA, start << shift, end << shift, &other);
	/* Unwritten blocks are never shared: who comes later gets a copy. */
	if (counted && unwritten) {
		chk_claim(&f->alone, CHK_DATA, start << shift, end << shift, &other);
		if (f->alone.error)
			f->c->error = f->alone.error;
	} else if (counted) {
		chk_owner_add(f->c, &f->c->owners, start, end);
		*shares = true;
	}
	return true;
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
	last = (const struct chk_refc *)f->c->refcs.data + f->c->refcs.n;
	/* No run reaches from one group into the next: a head lies between. */
	for (r = chk_refc_after(&f->c->refcs, start); r && r < last && r->start < end; r++) {
		for (uint64_t at = 0; r->refs > 1 && at < r->len; at += OD_EXTENT_LEN_MAX) {
			const uint64_t n = MIN(r->len - at, OD_EXTENT_LEN_MAX);
			const le64_t rec[2] = { le64_make(r->start + at),
						le64_make(n | (uint64_t)r->refs << 32) };

			chk_vec_push(f->c, recs, rec);
		}
	}
}

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

/* Looked through only where two files claim the same blocks, and unwritten ones are among them. */
static bool is_alone(struct fix *f, uint64_t start, uint64_t end)
{
	const struct chk_refc *a = f->alone.data;

	for (size_t i = 0; i < f->alone.n; i++)
		if (a[i].start < end && start < a[i].start + a[i].len)
			return true;
	return false;
}

bool chk_fix_refc_claim(struct fix *f, uint64_t start, uint64_t len, bool unwritten, bool *shares)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;
	const uint64_t end = start + len;
	const struct chk_refc *r = chk_refc_after(&f->c->refcs, start);
	const bool counted = r && r->start < end;
	const bool clear = chk_is_clear(f->c, start << shift, end << shift);
	const struct chk_refc me = { .start = start, .len = len };
	enum chk_use other;

	if (!clear && (unwritten || !counted_whole(f, start, end) || is_alone(f, start, end) ||
		       !chk_fix_clonable(f, start << shift, end << shift)))
		return false;
	chk_claim_again(f->c, CHK_DATA, start << shift, end << shift, &other);
	/* Unwritten blocks are never shared: who comes later gets a copy. */
	if (counted && unwritten) {
		chk_vec_push(f->c, &f->alone, &me);
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
	const struct chk_refc *r;

	/* Once for all groups: the runs take the place of what was believed. */
	if (!f->counted) {
		f->counted = true;
		f->c->refcs.n = 0;
		chk_owners_runs(f->c, &f->c->owners, &f->c->refcs);
	}
	r = f->c->refcs.data;
	for (size_t i = 0; i < f->c->refcs.n; i++) {
		if (r[i].refs < 2 || r[i].start / f->c->od.ag_blocks != agno)
			continue;
		for (uint64_t at = 0; at < r[i].len; at += OD_EXTENT_LEN_MAX) {
			const uint64_t n = MIN(r[i].len - at, OD_EXTENT_LEN_MAX);
			const le64_t rec[2] = { le64_make(r[i].start + at),
						le64_make(n | (uint64_t)r[i].refs << 32) };

			chk_vec_push(f->c, recs, rec);
		}
	}
}

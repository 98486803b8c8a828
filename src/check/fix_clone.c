/* SPDX-License-Identifier: MIT */
/*
 * Repair: blocks that two files claim. The file that comes first keeps them; every other one gets a
 * copy, since nobody can tell whose contents they are. Copies are made when all else is claimed, and
 * take at most half of what is free then: groups need some of it for their trees.
 */
#include <stdlib.h>

#include "fix.h"

/* Claims of data alone: where metadata stands the contents are nobody's. */
bool chk_fix_clonable(struct fix *f, uint64_t start, uint64_t end)
{
	while (start < end) {
		const struct chk_range *r = chk_range_at(f->c, start);

		if (!r || r->start >= end)
			break;
		if (r->use != CHK_DATA)
			return false;
		start = r->end;
	}
	return true;
}

static uint64_t free_fsbs(struct fix *f)
{
	const unsigned shift = f->c->od.block_shift - CHK_UNIT_SHIFT;
	uint64_t used = 0;
	struct chk_range *r;

	for (r = chk_range_first(f->c); r; r = chk_range_next(f->c, r))
		used += r->end - r->start;
	return f->c->od.nr_blocks - MIN(f->c->od.nr_blocks, used >> shift);
}

/* Behind the last record of `to` if it goes on there. */
static void add_block(struct fix *f, struct chk_vec *to, uint64_t file_block, uint64_t fsb)
{
	struct od_extent_rec *last = to->n ? (struct od_extent_rec *)to->data + (to->n - 1) : NULL;
	const struct od_extent_rec rec = { .file_block = le64_make(file_block),
					   .val = { .start = le64_make(fsb), .len = le32_make(1) } };
	const uint64_t len = last ? le32_get(last->val.len) : 0;

	if (last && !le32_get(last->val.flags) && len < OD_EXTENT_LEN_MAX &&
	    le64_get(last->file_block) + len == file_block && le64_get(last->val.start) + len == fsb)
		last->val.len = le32_make((uint32_t)len + 1);
	else
		chk_vec_push(f->c, to, &rec);
}

/* Block by block: a damaged file may claim more than there is room for. */
static int clone_extent(struct fix *f, const struct od_extent_rec *from, struct chk_vec *to, void *buf,
			uint64_t *lost)
{
	const unsigned shift = f->c->od.block_shift;
	const uint64_t len = le32_get(from->val.len);

	for (uint64_t i = 0; i < len && !f->c->error; i++) {
		const uint64_t fsb = f->clone_budget ? chk_fix_alloc_data(f) : 0;
		int err;

		if (!fsb) {
			*lost += len - i;
			break;
		}
		err = bd_read(f->c->bd, (le64_get(from->val.start) + i) << shift, buf, 1ull << shift);
		if (!err)
			err = bd_write(f->c->bd, fsb << shift, buf, 1ull << shift, 0);
		if (err)
			return err;
		add_block(f, to, le64_get(from->file_block) + i, fsb);
		f->clone_budget--;
	}
	return f->c->error;
}

int chk_fix_clone(struct fix *f, struct fix_file *file)
{
	const struct od_extent_rec *x = file->recs.data;
	uint64_t lost = 0, cloned = 0;
	struct chk_vec to;
	void *buf;
	int err = 0;

	if (!file->clones)
		return 0;
	if (!f->cloning)
		f->clone_budget = free_fsbs(f) / 2;
	f->cloning = true;
	chk_vec_init(&to, sizeof(*x));
	buf = aligned_alloc(OD_MBLK_SIZE, MAX(1u << f->c->od.block_shift, OD_MBLK_SIZE));
	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < file->recs.n && !err; i++) {
		if (!(le32_get(x[i].val.flags) & FIX_EXTENT_CLONE)) {
			chk_vec_push(f->c, &to, &x[i]);
			continue;
		}
		cloned += le32_get(x[i].val.len);
		err = clone_extent(f, &x[i], &to, buf, &lost);
	}
	free(buf);
	if (f->out && !err)
		fprintf(f->out, "inode %llu: has a copy of %llu blocks now that it shared%s\n",
			(unsigned long long)file->ino, (unsigned long long)(cloned - lost),
			lost ? "; there was no room for more" : "");
	chk_vec_free(&file->recs);
	file->recs = to;
	return err ? err : f->c->error;
}

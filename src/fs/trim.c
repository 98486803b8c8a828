/* SPDX-License-Identifier: MIT */
/*
 * fstrim: discard what is free. The extents under a discard are held as busy ones that not
 * even metadata may take, so that the group stays usable meanwhile.
 */
#include "ag.h"

#define TRIM_BATCH 64

struct trim {
	uint64_t start, end, minlen; /* fsbs */
	uint64_t done;               /* fsbs */
};

/* Hold the next free extents of the group at or after *at. Returns how many, 0 at the end. */
static int trim_collect(struct fs_ag *ag, const struct trim *t, uint64_t *at,
			struct ag_extent *out, struct cds_list_head *held)
{
	struct btree pos = ag_tree(ag, OD_TREE_FREE_POS);
	struct bt_rec rec[TRIM_BATCH];
	int n, kept = 0;

	lk_lock(&ag->lock);
	n = bt_range(&pos, (struct bt_key){ *at, 0 }, 0, rec, TRIM_BATCH);
	for (int i = 0; i < n; i++) {
		struct ag_extent e = { rec[i].key.a, 0 };
		le64_t len;
		uint64_t end;

		memcpy(&len, rec[i].val, sizeof(len));
		end = MIN(e.start + le64_get(len), t->end);
		*at = e.start + le64_get(len);
		e.start = MAX(e.start, t->start);
		if (e.start >= end)
			continue;
		e = busy_trim(ag, e.start, end - e.start, end - e.start);
		if (e.len < t->minlen || e.len == 0 || !busy_hold(ag, e.start, e.len, held))
			continue;
		out[kept++] = e;
	}
	lk_unlock(&ag->lock);
	return n <= 0 ? n : kept ? kept : -EAGAIN;
}

static int trim_group(struct fs *fs, struct fs_ag *ag, struct trim *t)
{
	struct ag_extent ext[TRIM_BATCH];
	uint64_t at = ag->start;

	for (;;) {
		struct cds_list_head held = CDS_LIST_HEAD_INIT(held);
		int n = trim_collect(ag, t, &at, ext, &held), err = 0;

		if (n == -EAGAIN)
			continue; /* nothing long enough among these */
		if (n <= 0)
			return n;
		for (int i = 0; i < n && !err; i++) {
			err = bd_discard(fs->bd, ext[i].start << fs->block_shift,
					 ext[i].len << fs->block_shift);
			if (!err)
				t->done += ext[i].len;
		}
		busy_unhold(ag, &held);
		if (err)
			return err;
	}
}

int fs_trim(struct fs *fs, uint64_t start, uint64_t len, uint64_t minlen, uint64_t *trimmed)
{
	uint64_t bytes = fs->sb.nr_blocks << fs->block_shift;
	struct trim t = { .minlen = DIV_ROUND_UP(minlen, (uint64_t)fs->block_size) };
	int err;

	*trimmed = 0;
	if (start >= bytes)
		return -EINVAL;
	len = MIN(len, bytes - start);
	t.start = DIV_ROUND_UP(start, (uint64_t)fs->block_size);
	t.end = (start + len) >> fs->block_shift;
	if (!fs->bd->info.discard_granularity)
		return -EOPNOTSUPP;
	/* Blocks freed by the running transaction are still in use on disk: commit first. */
	err = fs_start_change(fs, 0);
	if (err)
		return err;
	err = jnl_commit_wait(fs->jnl, jnl_running_tid(fs->jnl), NULL);
	for (uint32_t i = 0; i < fs->sb.nr_ags && !err; i++) {
		struct fs_ag *ag = &fs->ags[i];

		if (ag->start < t.end && ag->start + ag->nr_blocks > t.start)
			err = trim_group(fs, ag, &t);
	}
	fs_end_change(fs);
	*trimmed = t.done << fs->block_shift;
	return err;
}

/* SPDX-License-Identifier: MIT */
/* Repair: where inodes are, and what the groups' old trees hold. */
#include <stdlib.h>
#include <string.h>

#include "fix.h"

#define SCAN_MBLKS 256u

static unsigned cluster_mblks(const struct chk *c)
{
	return 1u << (c->od.cluster_shift - OD_MBLK_SHIFT);
}

/* One that is in the way of something believed before it is no cluster. */
static void add_cluster(struct fix *f, uint64_t first)
{
	const unsigned mblks = cluster_mblks(f->c);
	struct chk_cluster cl = { .first = first };
	enum chk_use other;

	if (first % mblks || !od_mblk_ok(&f->c->od, first) ||
	    !od_mblk_ok(&f->c->od, first + mblks - 1) ||
	    !chk_is_clear(f->c, first * CHK_MBLK_UNITS, (first + mblks) * CHK_MBLK_UNITS))
		return;
	cl.inodes = calloc(mblks * OD_INODES_PER_MBLK, sizeof(*cl.inodes));
	if (!cl.inodes || !chk_vec_push(f->c, &f->c->clusters, &cl)) {
		free(cl.inodes);
		f->c->error = -ENOMEM;
		return;
	}
	chk_claim(f->c, CHK_META, first * CHK_MBLK_UNITS, (first + mblks) * CHK_MBLK_UNITS, &other);
}

static void on_ino(struct chk *c, const le64_t *rec, void *arg)
{
	chk_vec_push(c, arg, rec);
}

static void on_orphan(struct chk *c, const le64_t *rec, void *arg)
{
	const struct chk_orphan o = { .ino = le64_get(rec[0]), .kind = le64_get(rec[1]) };

	chk_vec_push(c, arg, &o);
}

static void on_other(struct chk *c, const le64_t *rec, void *arg)
{
	(void)c, (void)rec, (void)arg;
}

/* Its nodes are avoided. False: some of it could not be followed. */
static bool walk(struct fix *f, uint32_t agno, unsigned type, const struct od_root *root,
		 chk_rec_fn fn, void *arg)
{
	struct chk_tree tree = { .type = type, .owner = agno, .fn = fn, .arg = arg };
	struct fix_trial t;
	bool sound;

	chk_fix_trial_begin(f, &t);
	chk_tree_walk(&t.c, &tree, root);
	sound = t.res.found == 0;
	chk_fix_trial_drop(f, &t);
	return sound;
}

/* Without a map: every block of the group that says that it is an inode block of ours, there. */
static void scan_group(struct fix *f, uint32_t agno)
{
	const struct chk *c = f->c;
	const unsigned mblks = cluster_mblks(c);
	const uint64_t start = od_ag_start_mblk(&c->od, agno);
	const uint64_t end = MIN(od_ag_start_mblk(&c->od, agno + 1),
				 c->od.nr_blocks << c->od.block_shift >> OD_MBLK_SHIFT);
	uint8_t *window = aligned_alloc(OD_MBLK_SIZE, SCAN_MBLKS * OD_MBLK_SIZE);

	if (!window)
		f->c->error = -ENOMEM;
	for (uint64_t at = start; at < end && !f->c->error; at += SCAN_MBLKS) {
		const unsigned n = (unsigned)MIN(SCAN_MBLKS, end - at);
		const bool whole = !bd_read(c->bd, at << OD_MBLK_SHIFT, window,
					    (uint64_t)n << OD_MBLK_SHIFT);

		for (unsigned i = 0; i < n; i++) {
			uint8_t *block = window + i * OD_MBLK_SIZE;

			if (!whole && bd_read(c->bd, (at + i) << OD_MBLK_SHIFT, block, OD_MBLK_SIZE))
				continue;
			if (!od_verify_hdr(&c->od, block, OD_MAGIC_INODES, at + i, 0))
				add_cluster(f, ROUND_DOWN(at + i, mblks));
		}
	}
	free(window);
}

static void group_clusters(struct fix *f, uint32_t agno, void *block)
{
	struct chk *c = f->c;
	const uint64_t mblk = od_ag_start_mblk(&c->od, agno) + OD_AG_HDR_MBLK;
	const struct od_ag *ag = block;
	bool sound = false, counts = false;
	struct chk_vec recs, refcs;

	chk_vec_init(&recs, 3 * sizeof(le64_t));
	chk_vec_init(&refcs, sizeof(struct chk_refc));
	if (!chk_read(c, mblk, block) && !od_verify_ag(&c->od, block, mblk, true)) {
		sound = walk(f, agno, OD_TREE_INO, &ag->ino, on_ino, &recs);
		walk(f, agno, OD_TREE_ORPHAN, &ag->orphan, on_orphan, &c->orphans);
		walk(f, agno, OD_TREE_FREE_POS, &ag->free_pos, on_other, NULL);
		walk(f, agno, OD_TREE_FREE_LEN, &ag->free_len, on_other, NULL);
		walk(f, agno, OD_TREE_SLOT, &ag->slot, on_other, NULL);
		walk(f, agno, OD_TREE_INOFREE, &ag->inofree, on_other, NULL);
		counts = walk(f, agno, OD_TREE_REFC, &ag->refc, chk_fix_refc_group, &refcs);
	}
	for (size_t i = 0; i < recs.n; i++)
		add_cluster(f, le64_get(((const le64_t *)recs.data)[3 * i]));
	chk_vec_free(&recs);
	for (size_t i = 0; counts && i < refcs.n; i++)
		chk_vec_push(c, &c->refcs, (const struct chk_refc *)refcs.data + i);
	chk_vec_free(&refcs);
	if (!counts)
		chk_fix_refc_lost(f, agno);
	if (!sound)
		scan_group(f, agno);
}

static int cluster_order(const void *a, const void *b)
{
	const uint64_t x = ((const struct chk_cluster *)a)->first;
	const uint64_t y = ((const struct chk_cluster *)b)->first;

	return x < y ? -1 : x > y;
}

static void sort_clusters(struct chk *c)
{
	if (c->clusters.n)
		qsort(c->clusters.data, c->clusters.n, sizeof(struct chk_cluster), cluster_order);
}

static void mark_orphans(struct chk *c)
{
	const struct chk_orphan *o = c->orphans.data;

	for (size_t i = 0; i < c->orphans.n; i++) {
		struct chk_inode *ci = chk_inode_get(c, o[i].ino);

		if (ci && o[i].kind != OD_ORPHAN_UNLINKED)
			ci->flags |= CHK_I_TRUNCATE;
	}
}

int chk_fix_clusters(struct fix *f)
{
	struct chk *c = f->c;
	void *block = chk_block_alloc(c);

	for (uint32_t agno = 0; block && agno < c->sb.nr_ags && !c->error; agno++)
		group_clusters(f, agno, block);
	free(block);
	chk_refc_sort(&c->refcs);
	sort_clusters(c);
	/* The root's number stands in the superblock: its cluster is one in any case. */
	if (!c->error && !chk_inode_get(c, c->sb.root_ino)) {
		add_cluster(f, ROUND_DOWN(od_ino_mblk(c->sb.root_ino), cluster_mblks(c)));
		sort_clusters(c);
	}
	mark_orphans(c);
	return c->error;
}

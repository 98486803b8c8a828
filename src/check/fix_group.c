/* SPDX-License-Identifier: MIT */
/*
 * Repair: a group's header and trees from what is in use. Free space is what nobody claims: whole
 * blocks of the file system as extents, the metadata blocks that are left in others as slots.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fix.h"

/* As many as a new group sets aside. */
#define RESERVE_MBLKS 16u

struct group {
	struct fix *f;
	uint32_t agno;
	uint64_t start, end;      /* units */
	struct chk_vec spare;     /* uint64_t: metadata blocks for its trees, claimed */
	struct chk_vec pos, len;  /* le64 x 2 */
	struct chk_vec slots;     /* le64 x 2: cluster, map */
	struct chk_vec ino;       /* le64 x 3 */
	struct chk_vec inofree;   /* le64 */
	struct chk_vec orphans;   /* le64 x 2 */
	struct chk_vec refcs;     /* le64 x 2 */
	uint64_t free_blocks, free_slots, used, free_inodes;
};

static uint64_t take_spare(struct fix *f, void *arg)
{
	struct group *g = arg;

	(void)f;
	return g->spare.n ? ((const uint64_t *)g->spare.data)[--g->spare.n] : 0;
}

/* ---- Inodes ------------------------------------------------------------------------- */

/* What remains to be done with an inode in use; 0: nothing. */
static unsigned orphan_kind(const struct chk_inode *ci)
{
	if (!ci->nlink)
		return OD_ORPHAN_UNLINKED;
	if (ci->flags & CHK_I_SHIFT)
		return OD_ORPHAN_SHIFT;
	return (ci->flags & CHK_I_TRUNCATE) && S_ISREG(ci->mode) ? OD_ORPHAN_TRUNCATE : 0;
}

static void add_cluster(struct group *g, const struct chk_cluster *cl)
{
	struct chk *c = g->f->c;
	const unsigned slots = (1u << (c->od.cluster_shift - OD_MBLK_SHIFT)) * OD_INODES_PER_MBLK;
	uint64_t map[2] = { 0, 0 };

	for (unsigned bit = 0; bit < slots; bit++) {
		const struct chk_inode *ci = &cl->inodes[bit];
		const le64_t orphan[2] = {
			le64_make(od_ino_make(cl->first + bit / OD_INODES_PER_MBLK,
					      bit % OD_INODES_PER_MBLK + 1)),
			le64_make(orphan_kind(ci)),
		};

		if (!(ci->flags & CHK_I_USED)) {
			map[bit / 64] |= 1ull << (bit % 64);
			g->free_inodes++;
			continue;
		}
		g->used++;
		if (orphan_kind(ci))
			chk_vec_push(c, &g->orphans, orphan);
	}
	{
		const le64_t rec[3] = { le64_make(cl->first), le64_make(map[0]), le64_make(map[1]) };

		chk_vec_push(c, &g->ino, rec);
		if (map[0] || map[1])
			chk_vec_push(c, &g->inofree, rec);
	}
}

static void gather_inodes(struct group *g)
{
	const struct chk_cluster *cl = g->f->c->clusters.data;

	for (size_t i = 0; i < g->f->c->clusters.n; i++)
		if (od_mblk_agno(&g->f->c->od, cl[i].first) == g->agno)
			add_cluster(g, &cl[i]);
}

/* ---- Free space ------------------------------------------------------------------------- */

static void add_extent(struct group *g, uint64_t start, uint64_t end)
{
	const unsigned shift = g->f->c->od.block_shift - CHK_UNIT_SHIFT;
	const le64_t fsb = le64_make(start >> shift), len = le64_make((end - start) >> shift);
	const le64_t by_pos[2] = { fsb, len }, by_len[2] = { len, fsb };

	if (start == end)
		return;
	chk_vec_push(g->f->c, &g->pos, by_pos);
	chk_vec_push(g->f->c, &g->len, by_len);
	g->free_blocks += (end - start) >> shift;
}

/* Metadata blocks of a cluster that are free, while others of the same fsb are not. */
static void add_slots(struct group *g, uint64_t start, uint64_t end)
{
	const unsigned mblks = 1u << (g->f->c->od.cluster_shift - OD_MBLK_SHIFT);

	for (uint64_t mblk = DIV_ROUND_UP(start, CHK_MBLK_UNITS); (mblk + 1) * CHK_MBLK_UNITS <= end;
	     mblk++) {
		const uint64_t cluster = ROUND_DOWN(mblk, mblks);
		const uint64_t bit = 1ull << (mblk - cluster);
		le64_t *last = g->slots.n ? (le64_t *)g->slots.data + 2 * (g->slots.n - 1) : NULL;

		g->free_slots++;
		if (last && le64_get(last[0]) == cluster) {
			last[1] = le64_make(le64_get(last[1]) | bit);
		} else {
			const le64_t rec[2] = { le64_make(cluster), le64_make(bit) };

			chk_vec_push(g->f->c, &g->slots, rec);
		}
	}
}

/* One gap between claims: whole blocks in its middle, slots at its ends. */
static void add_gap(struct group *g, uint64_t start, uint64_t end)
{
	const uint64_t fsb = 1ull << (g->f->c->od.block_shift - CHK_UNIT_SHIFT);
	const uint64_t from = ROUND_UP(start, fsb), to = ROUND_DOWN(end, fsb);

	if (from >= to) {
		add_slots(g, start, end);
		return;
	}
	add_slots(g, start, from);
	add_extent(g, from, to);
	add_slots(g, to, end);
}

static void gather_space(struct group *g)
{
	struct chk *c = g->f->c;
	uint64_t at = g->start;

	g->pos.n = g->len.n = g->slots.n = 0;
	g->free_blocks = g->free_slots = 0;
	while (at < g->end) {
		uint64_t stop = g->end;

		if (!chk_is_clear(c, at, g->end)) {
			const struct chk_range *r = chk_range_at(c, at);

			stop = MAX(r->start, at);
			if (stop > at)
				add_gap(g, at, stop);
			at = r->end;
			continue;
		}
		add_gap(g, at, stop);
		at = stop;
	}
}

static int by_len_order(const void *a, const void *b)
{
	const le64_t *x = a, *y = b;

	if (le64_get(x[0]) != le64_get(y[0]))
		return le64_get(x[0]) < le64_get(y[0]) ? -1 : 1;
	return le64_get(x[1]) < le64_get(y[1]) ? -1 : le64_get(x[1]) > le64_get(y[1]);
}

/*
 * Blocks for the trees come out of the space that the trees describe: as many as the worst case
 * after taking them, and what is left over is the group's reserve.
 */
static int take_spares(struct group *g)
{
	uint64_t want, extents;

	gather_space(g);
	/* Each block taken may split an extent and make a cluster with slots. */
	extents = g->pos.n + RESERVE_MBLKS + 8;
	do {
		want = 2 * chk_fix_tree_nodes(OD_TREE_FREE_POS, extents) +
		       chk_fix_tree_nodes(OD_TREE_SLOT, g->slots.n + 8 + extents - g->pos.n) +
		       chk_fix_tree_nodes(OD_TREE_INO, g->ino.n) +
		       chk_fix_tree_nodes(OD_TREE_INOFREE, g->inofree.n) +
		       chk_fix_tree_nodes(OD_TREE_ORPHAN, g->orphans.n) +
		       chk_fix_tree_nodes(OD_TREE_REFC, g->refcs.n) + RESERVE_MBLKS;
		if (extents >= g->pos.n + want)
			break;
		extents = g->pos.n + want + 8;
	} while (true);
	while (g->spare.n < want) {
		const uint64_t mblk = chk_fix_alloc(g->f, g->agno);

		if (!mblk)
			break;
		chk_vec_push(g->f->c, &g->spare, &mblk);
	}
	gather_space(g);
	return g->f->c->error;
}

/* ---- The group ------------------------------------------------------------------------- */

static int build_trees(struct group *g, struct od_ag *ag)
{
	const struct fix_source src = { .alloc = take_spare, .arg = g };
	const struct {
		unsigned type;
		const struct chk_vec *recs;
		struct od_root *root;
	} trees[] = {
		{ OD_TREE_INO, &g->ino, &ag->ino },
		{ OD_TREE_INOFREE, &g->inofree, &ag->inofree },
		{ OD_TREE_ORPHAN, &g->orphans, &ag->orphan },
		{ OD_TREE_REFC, &g->refcs, &ag->refc },
		{ OD_TREE_FREE_POS, &g->pos, &ag->free_pos },
		{ OD_TREE_FREE_LEN, &g->len, &ag->free_len },
		{ OD_TREE_SLOT, &g->slots, &ag->slot },
	};
	int err = 0;

	if (g->len.n)
		qsort(g->len.data, g->len.n, 2 * sizeof(le64_t), by_len_order);
	for (size_t i = 0; i < ARRAY_SIZE(trees) && !err; i++)
		err = chk_fix_tree(g->f, trees[i].type, g->agno, trees[i].recs->data, trees[i].recs->n,
			       &src, trees[i].root, NULL);
	return err;
}

static int fill_header(struct group *g, struct od_ag *ag)
{
	struct chk *c = g->f->c;
	const uint64_t first = g->agno * c->od.ag_blocks;
	int err;

	memset(ag, 0, OD_MBLK_SIZE);
	od_hdr_init(ag, OD_MAGIC_AG, c->od.meta_uuid, g->agno,
		    od_ag_start_mblk(&c->od, g->agno) + OD_AG_HDR_MBLK);
	ag->agno = le32_make(g->agno);
	ag->start = le64_make(first);
	ag->nr_blocks = le64_make(MIN(c->od.ag_blocks, c->od.nr_blocks - first));
	err = build_trees(g, ag);
	ag->free_blocks = le64_make(g->free_blocks);
	ag->free_slots = le64_make(g->free_slots);
	ag->nr_inodes = le64_make(g->used);
	ag->nr_free_inodes = le64_make(g->free_inodes);
	for (uint32_t n = 0; n < OD_AG_RESERVE_MAX && g->spare.n; n++) {
		ag->reserve[n] = le64_make(take_spare(g->f, g));
		ag->nr_reserve = le32_make(n + 1);
	}
	/* More than a header can name were taken: a little space is lost, and the next run finds it. */
	return err;
}

static void group_init(struct group *g, struct fix *f, uint32_t agno)
{
	const uint64_t units = f->c->od.ag_blocks << (f->c->od.block_shift - CHK_UNIT_SHIFT);

	*g = (struct group){ .f = f, .agno = agno, .start = agno * units };
	g->end = MIN(g->start + units,
		     f->c->od.nr_blocks << (f->c->od.block_shift - CHK_UNIT_SHIFT));
	chk_vec_init(&g->spare, sizeof(uint64_t));
	chk_vec_init(&g->pos, 2 * sizeof(le64_t));
	chk_vec_init(&g->len, 2 * sizeof(le64_t));
	chk_vec_init(&g->slots, 2 * sizeof(le64_t));
	chk_vec_init(&g->ino, 3 * sizeof(le64_t));
	chk_vec_init(&g->inofree, sizeof(le64_t));
	chk_vec_init(&g->orphans, 2 * sizeof(le64_t));
	chk_vec_init(&g->refcs, 2 * sizeof(le64_t));
}

static void group_free(struct group *g)
{
	chk_vec_free(&g->spare);
	chk_vec_free(&g->pos);
	chk_vec_free(&g->len);
	chk_vec_free(&g->slots);
	chk_vec_free(&g->ino);
	chk_vec_free(&g->inofree);
	chk_vec_free(&g->orphans);
	chk_vec_free(&g->refcs);
}

static int fix_group(struct fix *f, uint32_t agno, void *header)
{
	struct group g;
	int err;

	group_init(&g, f, agno);
	gather_inodes(&g);
	chk_fix_refc_records(f, agno, &g.refcs);
	err = take_spares(&g);
	if (!err)
		err = fill_header(&g, header);
	group_free(&g);
	return err;
}

/* All trees are durable before the first header leads to them. */
int chk_fix_groups(struct fix *f)
{
	struct chk *c = f->c;
	uint8_t *headers = aligned_alloc(OD_MBLK_SIZE, (size_t)c->sb.nr_ags * OD_MBLK_SIZE);
	int err = headers ? 0 : -ENOMEM;

	for (uint32_t agno = 0; agno < c->sb.nr_ags && !err; agno++)
		err = fix_group(f, agno, headers + (size_t)agno * OD_MBLK_SIZE);
	if (!err)
		err = bd_flush(c->bd);
	for (uint32_t agno = 0; agno < c->sb.nr_ags && !err; agno++)
		err = chk_fix_write(f, od_ag_start_mblk(&c->od, agno) + OD_AG_HDR_MBLK,
				headers + (size_t)agno * OD_MBLK_SIZE);
	free(headers);
	return err;
}

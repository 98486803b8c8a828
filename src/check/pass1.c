/* SPDX-License-Identifier: MIT */
/* Pass 1: group headers and the trees that belong to groups. */
#include <stdlib.h>
#include <string.h>

#include "chk.h"

/* What the walk of one group's trees gathers. */
struct group {
	uint32_t agno;
	uint64_t free_blocks, free_slots, slots, free_inodes;
	struct chk_vec free;   /* struct free_extent in order of place */
	size_t first_cluster;  /* of this group in c->clusters */
};
struct free_extent {
	uint64_t start, len;
	bool in_len;           /* also in the index by length */
};

static void on_free_pos(struct chk *c, const le64_t *rec, void *arg)
{
	struct group *g = arg;
	const struct free_extent *prev = g->free.n ?
		(const struct free_extent *)g->free.data + g->free.n - 1 : NULL;
	const struct free_extent e = { .start = le64_get(rec[0]), .len = le64_get(rec[1]) };
	enum chk_use other;

	if (prev && prev->start + prev->len > e.start)
		chk_raise(c, CHK_P_TREE_RECORDS_CROSS, "free extent at block %llu",
			  (unsigned long long)e.start);
	else if (!chk_claim_fsbs(c, CHK_FREE, e.start, e.len, &other))
		chk_raise(c, CHK_P_SPACE_CLAIMED_TWICE, "free extent at block %llu, also %s",
			  (unsigned long long)e.start, chk_use_name(other));
	if (prev && prev->start + prev->len == e.start)
		chk_raise(c, CHK_P_FREE_NOT_MERGED, "block %llu", (unsigned long long)e.start);
	g->free_blocks += e.len;
	chk_vec_push(c, &g->free, &e);
}

static int free_cmp(const void *key, const void *elem)
{
	const uint64_t start = *(const uint64_t *)key;
	const struct free_extent *e = elem;

	return start < e->start ? -1 : start > e->start;
}

static void on_free_len(struct chk *c, const le64_t *rec, void *arg)
{
	struct group *g = arg;
	const uint64_t len = le64_get(rec[0]), start = le64_get(rec[1]);
	struct free_extent *e = NULL;

	if (g->free.n)
		e = bsearch(&start, g->free.data, g->free.n, sizeof(*e), free_cmp);
	if (e && e->len == len && !e->in_len)
		e->in_len = true;
	else
		chk_raise(c, CHK_P_FREE_LEN_UNKNOWN, "%llu blocks at %llu", (unsigned long long)len,
			  (unsigned long long)start);
}

static void on_slot(struct chk *c, const le64_t *rec, void *arg)
{
	const unsigned mblks = 1u << (c->od.cluster_shift - OD_MBLK_SHIFT);
	struct group *g = arg;
	const uint64_t first = le64_get(rec[0]), map = le64_get(rec[1]);
	enum chk_use other;

	for (unsigned i = 0; i < mblks; i++) {
		if (!(map & (1ull << i)))
			continue;
		g->free_slots++;
		if (!chk_claim_mblk(c, CHK_SLOT_FREE, first + i, &other))
			chk_raise(c, CHK_P_SPACE_CLAIMED_TWICE, "free metadata block %llu, also %s",
				  (unsigned long long)(first + i), chk_use_name(other));
	}
	if (map == (1ull << mblks) - 1)
		chk_raise(c, CHK_P_SLOT_ALL_FREE, "cluster %llu", (unsigned long long)first);
}

static void on_ino(struct chk *c, const le64_t *rec, void *arg)
{
	const unsigned mblks = 1u << (c->od.cluster_shift - OD_MBLK_SHIFT);
	const unsigned slots = mblks * OD_INODES_PER_MBLK;
	struct group *g = arg;
	struct chk_cluster cl = {
		.first = le64_get(rec[0]),
		.free_lo = le64_get(rec[1]),
		.free_hi = le64_get(rec[2]),
	};
	enum chk_use other;

	g->slots += slots;
	g->free_inodes += (unsigned)__builtin_popcountll(cl.free_lo) +
			  (unsigned)__builtin_popcountll(cl.free_hi);
	if (!chk_claim(c, CHK_META, cl.first * CHK_MBLK_UNITS, (cl.first + mblks) * CHK_MBLK_UNITS,
		       &other)) {
		chk_raise(c, CHK_P_SPACE_CLAIMED_TWICE, "inode cluster %llu, also %s",
			  (unsigned long long)cl.first, chk_use_name(other));
		return;
	}
	cl.inodes = calloc(slots, sizeof(*cl.inodes));
	if (!cl.inodes)
		c->error = -ENOMEM;
	else if (!chk_vec_push(c, &c->clusters, &cl))
		free(cl.inodes);
}

static int cluster_find(const void *key, const void *elem)
{
	const uint64_t first = *(const uint64_t *)key;
	const struct chk_cluster *cl = elem;

	return first < cl->first ? -1 : first > cl->first;
}

static void on_inofree(struct chk *c, const le64_t *rec, void *arg)
{
	struct group *g = arg;
	const uint64_t first = le64_get(rec[0]);
	const size_t n = c->clusters.n - g->first_cluster;
	struct chk_cluster *cl = NULL;

	if (n)
		cl = bsearch(&first, (struct chk_cluster *)c->clusters.data + g->first_cluster, n,
			     sizeof(*cl), cluster_find);
	if (cl && (cl->free_lo || cl->free_hi) && !cl->in_inofree)
		cl->in_inofree = true;
	else
		chk_raise(c, CHK_P_INOFREE_UNKNOWN, "cluster %llu", (unsigned long long)first);
}

static void on_orphan(struct chk *c, const le64_t *rec, void *arg)
{
	const struct chk_orphan o = { .ino = le64_get(rec[0]), .kind = le64_get(rec[1]) };

	chk_vec_push(c, &c->orphans, &o);
}

static void on_refc(struct chk *c, const le64_t *rec, void *arg)
{
	const struct chk_vec *v = &c->refcs;
	const struct chk_refc *prev = v->n ? (const struct chk_refc *)v->data + v->n - 1 : NULL;

	(void)arg;
	if (prev && prev->start + prev->len > le64_get(rec[0])) {
		chk_raise(c, CHK_P_TREE_RECORDS_CROSS, "shared extent at block %llu",
			  (unsigned long long)le64_get(rec[0]));
		return;
	}
	chk_refc_add(c, rec, &c->refcs);
}

static void walk(struct chk *c, struct group *g, unsigned type, const struct od_root *root,
		 chk_rec_fn fn)
{
	struct chk_tree t = { .type = type, .owner = g->agno, .fn = fn, .arg = g };

	chk_tree_walk(c, &t, root);
}

static void claim_reserve(struct chk *c, const struct od_ag *ag)
{
	const uint32_t n = le32_get(ag->nr_reserve);
	enum chk_use other;

	for (uint32_t i = 0; i < n; i++) {
		const uint64_t mblk = le64_get(ag->reserve[i]);

		if (!chk_claim_mblk(c, CHK_RESERVE, mblk, &other))
			chk_raise(c, CHK_P_SPACE_CLAIMED_TWICE, "reserve block %llu, also %s",
				  (unsigned long long)mblk, chk_use_name(other));
	}
}

static void check_count(struct chk *c, enum chk_code code, uint64_t header, uint64_t found)
{
	if (header != found)
		chk_raise(c, code, "%llu in the header, %llu found", (unsigned long long)header,
			  (unsigned long long)found);
}

static void check_missing(struct chk *c, const struct group *g)
{
	const struct free_extent *e = g->free.data;
	const struct chk_cluster *cl = c->clusters.data;

	for (size_t i = 0; i < g->free.n; i++)
		if (!e[i].in_len)
			chk_raise(c, CHK_P_FREE_LEN_MISSING, "%llu blocks at %llu",
				  (unsigned long long)e[i].len, (unsigned long long)e[i].start);
	for (size_t i = g->first_cluster; i < c->clusters.n; i++)
		if ((cl[i].free_lo || cl[i].free_hi) && !cl[i].in_inofree)
			chk_raise(c, CHK_P_INOFREE_MISSING, "cluster %llu",
				  (unsigned long long)cl[i].first);
}

static int cluster_order(const void *a, const void *b)
{
	const uint64_t x = ((const struct chk_cluster *)a)->first;

	return cluster_find(&x, b);
}

static void check_head_spare(struct chk *c, uint32_t agno, uint8_t *block)
{
	for (unsigned i = agno == 0 ? OD_AG_HDR_MBLK + 1 : OD_AG_MMP_MBLK; i < OD_AG_HEAD_MBLKS; i++) {
		if (i == OD_AG_HDR_MBLK)
			continue;
		if (chk_read(c, od_ag_start_mblk(&c->od, agno) + i, block) || block[0] ||
		    memcmp(block, block + 1, OD_MBLK_SIZE - 1) != 0) {
			chk_raise(c, CHK_P_AG_HEAD_SPARE, "block %u", i);
			return;
		}
	}
}

static void check_group(struct chk *c, uint32_t agno, void *block)
{
	const uint64_t mblk = od_ag_start_mblk(&c->od, agno) + OD_AG_HDR_MBLK;
	struct group g = { .agno = agno, .first_cluster = c->clusters.n };
	const struct od_ag *ag = block;
	const char *bad;

	chk_at(c, "group %u", agno);
	check_head_spare(c, agno, block);
	bad = chk_read(c, mblk, block) ? "cannot be read" : od_verify_ag(&c->od, block, mblk, true);
	if (bad) {
		chk_raise(c, CHK_P_AG_HEADER, "%s", bad);
		c->bad_ag[agno] = true;
		return;
	}
	chk_vec_init(&g.free, sizeof(struct free_extent));
	claim_reserve(c, ag);
	walk(c, &g, OD_TREE_FREE_POS, &ag->free_pos, on_free_pos);
	walk(c, &g, OD_TREE_FREE_LEN, &ag->free_len, on_free_len);
	walk(c, &g, OD_TREE_SLOT, &ag->slot, on_slot);
	walk(c, &g, OD_TREE_INO, &ag->ino, on_ino);
	if (c->clusters.n > g.first_cluster)
		qsort((struct chk_cluster *)c->clusters.data + g.first_cluster,
		      c->clusters.n - g.first_cluster, sizeof(struct chk_cluster), cluster_order);
	walk(c, &g, OD_TREE_INOFREE, &ag->inofree, on_inofree);
	walk(c, &g, OD_TREE_ORPHAN, &ag->orphan, on_orphan);
	walk(c, &g, OD_TREE_REFC, &ag->refc, on_refc);
	check_missing(c, &g);
	check_count(c, CHK_P_AG_FREE_BLOCKS, le64_get(ag->free_blocks), g.free_blocks);
	check_count(c, CHK_P_AG_FREE_SLOTS, le64_get(ag->free_slots), g.free_slots);
	check_count(c, CHK_P_AG_INODES, le64_get(ag->nr_inodes), g.slots - g.free_inodes);
	check_count(c, CHK_P_AG_FREE_INODES, le64_get(ag->nr_free_inodes), g.free_inodes);
	chk_vec_free(&g.free);
}

void chk_pass1(struct chk *c)
{
	void *block = chk_block_alloc(c);

	for (uint32_t agno = 0; block && !c->error && agno < c->sb.nr_ags; agno++) {
		check_group(c, agno, block);
		chk_progress(c, agno + 1, c->sb.nr_ags);
	}
	free(block);
}

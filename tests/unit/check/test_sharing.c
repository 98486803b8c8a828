/* SPDX-License-Identifier: MIT */
/*
 * The checker over seeded graphs of sharing: files that share ranges as a run of random operations left
 * them, then one thing wrong with the counts or with an extent. It is found, repaired, and the file system
 * works. Where it was in the counts alone every file keeps its bytes; where it was in an extent, every other
 * file does.
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

#define LOOPS 8
#define ROUNDS 35u

/* ---- What is on the device ------------------------------------------------------------------------------ */

struct image {
	struct graph *g;
	uint8_t *base;
	struct sb_info sb;
	struct od_ctx od;
	/* Of all groups, and of all files. */
	struct rec {
		uint64_t mblk;      /* the block that holds it */
		le64_t *at;         /* refc: start, len and refs; extent: file block, start, len and flags */
		unsigned file;      /* extents: whose */
	} refcs[600], extents[600];
	unsigned nr_refcs, nr_extents;
};

static void *block_of(struct image *im, uint64_t mblk)
{
	ck_assert_uint_lt(mblk, im->od.dev_mblks);
	return im->base + mblk * OD_MBLK_SIZE;
}

static struct od_ag *ag_of(struct image *im, uint32_t agno)
{
	return block_of(im, od_ag_start_mblk(&im->od, agno) + OD_AG_HDR_MBLK);
}

static void seal(struct image *im, uint64_t mblk)
{
	struct od_hdr *h = block_of(im, mblk);

	od_seal(h, le64_get(h->seq));
}

static void add_rec(struct rec *list, unsigned *n, struct rec r)
{
	ck_assert_uint_lt(*n, 600);
	list[(*n)++] = r;
}

static void walk(struct image *im, uint64_t mblk, struct rec *list, unsigned *n, unsigned file)
{
	struct od_hdr *h = block_of(im, mblk);
	le64_t *at = (void *)(h + 1);
	const unsigned words = list == im->refcs ? 2 : 3;

	ck_assert(!od_verify_btree(&im->od, h, mblk, true));
	for (unsigned i = 0; i < le16_get(h->nrecs); i++) {
		if (le16_get(h->level))
			walk(im, le64_get(at[2 * i + 1]), list, n, file);
		else
			add_rec(list, n, (struct rec){ mblk, at + words * i, file });
	}
}

static struct od_inode *inode_of(struct image *im, unsigned file)
{
	const uint64_t ino = im->g->files[file].ino;

	return (void *)((uint8_t *)block_of(im, od_ino_mblk(ino)) + od_ino_offset(ino));
}

static void read_image(struct image *im, struct graph *g)
{
	memset(im, 0, sizeof(*im));
	im->g = g;
	im->base = bd_mem_base(g->f.mem);
	ck_assert_ptr_null(od_sb_decode(im->base, 0, 0, &im->sb));
	od_ctx_init(&im->od, &im->sb);
	for (uint32_t i = 0; i < im->sb.nr_ags; i++)
		if (le64_get(ag_of(im, i)->refc.mblk))
			walk(im, le64_get(ag_of(im, i)->refc.mblk), im->refcs, &im->nr_refcs, 0);
	for (unsigned i = 0; i < GRAPH_FILES; i++) {
		struct od_inode *di = g->files[i].there ? inode_of(im, i) : NULL;
		struct od_root root;

		if (!di)
			continue;
		memcpy(&root, di->area, sizeof(root));
		if (di->data_fmt == OD_DATA_TREE)
			walk(im, le64_get(root.mblk), im->extents, &im->nr_extents, i);
		for (unsigned at = 0; di->data_fmt == OD_DATA_EXTENTS && at < le16_get(di->data_len);
		     at += sizeof(struct od_extent_rec))
			add_rec(im->extents, &im->nr_extents,
				(struct rec){ od_ino_mblk(g->files[i].ino), (void *)(di->area + at), i });
	}
	ck_assert_uint_gt(im->nr_refcs, 0);
	ck_assert_uint_gt(im->nr_extents, 1);
}

static struct rec *any_refc(struct image *im)
{
	return &im->refcs[rng_below(&im->g->rng, im->nr_refcs)];
}

static struct rec *any_extent(struct image *im)
{
	return &im->extents[rng_below(&im->g->rng, im->nr_extents)];
}

static uint32_t len_of(le64_t v)
{
	return (uint32_t)le64_get(v);
}

static uint32_t high_of(le64_t v)
{
	return (uint32_t)(le64_get(v) >> 32);
}

static le64_t make_pair(uint32_t len, uint32_t high)
{
	return le64_make(len | (uint64_t)high << 32);
}

/* ---- Damage: false where the image has no place for it ---------------------------------------------- */

static bool refs_more(struct image *im, struct rec *r)
{
	r->at[1] = make_pair(len_of(r->at[1]), high_of(r->at[1]) + 1 + (uint32_t)rng_below(&im->g->rng, 5));
	return true;
}

static bool refs_fewer(struct image *im, struct rec *r)
{
	if (high_of(r->at[1]) < 3)
		return false;
	r->at[1] = make_pair(len_of(r->at[1]), 2);
	return true;
}

static bool counted_less(struct image *im, struct rec *r)
{
	if (len_of(r->at[1]) < 2)
		return false;
	r->at[1] = make_pair(1 + (uint32_t)rng_below(&im->g->rng, len_of(r->at[1]) - 1), high_of(r->at[1]));
	return true;
}

static bool counted_more(struct image *im, struct rec *r)
{
	r->at[1] = make_pair(len_of(r->at[1]) + 1, high_of(r->at[1]));
	return true;
}

static bool counted_elsewhere(struct image *im, struct rec *r)
{
	r->at[0] = le64_make(le64_get(r->at[0]) + 1 - 2 * rng_below(&im->g->rng, 2));
	return true;
}

static bool record_gone(struct image *im, struct rec *r)
{
	struct od_hdr *h = block_of(im, r->mblk);
	le64_t *end = (le64_t *)(void *)(h + 1) + 2 * le16_get(h->nrecs);

	if (le16_get(h->nrecs) < 2)
		return false;
	memmove(r->at, r->at + 2, (size_t)((uint8_t *)end - (uint8_t *)(r->at + 2)));
	h->nrecs = le16_make((uint16_t)(le16_get(h->nrecs) - 1));
	return true;
}

/* Behind an existing record, if the next one leaves a block there: whoever has it, has it alone. */
static bool record_new(struct image *im, struct rec *r)
{
	struct od_hdr *h = block_of(im, r->mblk);
	le64_t *end = (le64_t *)(void *)(h + 1) + 2 * le16_get(h->nrecs);
	const uint64_t at = le64_get(r->at[0]) + len_of(r->at[1]);

	if (le16_get(h->nrecs) == od_tree_max_recs(OD_TREE_REFC, true) || !od_fsb_range_ok(&im->od, at, 1) ||
	    (r->at + 2 < end && le64_get(r->at[2]) == at))
		return false;
	memmove(r->at + 4, r->at + 2, (size_t)((uint8_t *)end - (uint8_t *)(r->at + 2)));
	r->at[2] = le64_make(at);
	r->at[3] = make_pair(1, 2);
	h->nrecs = le16_make((uint16_t)(le16_get(h->nrecs) + 1));
	return true;
}

static bool node_torn(struct image *im, struct rec *r)
{
	/* Its checksum is made anew: the number of records is what is wrong. */
	((struct od_hdr *)block_of(im, r->mblk))->nrecs = le16_make(0);
	return true;
}

static bool tree_gone(struct image *im, struct rec *r)
{
	const uint32_t agno = od_mblk_agno(&im->od, r->mblk);

	memset(&ag_of(im, agno)->refc, 0, sizeof(struct od_root));
	seal(im, od_ag_start_mblk(&im->od, agno) + OD_AG_HDR_MBLK);
	return true;
}

static bool is_counted(struct image *im, const struct rec *x)
{
	const uint64_t start = le64_get(x->at[1]), end = start + len_of(x->at[2]);

	for (unsigned i = 0; i < im->nr_refcs; i++) {
		const uint64_t at = le64_get(im->refcs[i].at[0]);

		if (at < end && start < at + len_of(im->refcs[i].at[1]))
			return true;
	}
	return false;
}

static bool flag_gone(struct image *im, struct rec *x)
{
	if (!is_counted(im, x))
		return false;
	inode_of(im, x->file)->data_flags = le16_make(0);
	seal(im, od_ino_mblk(im->g->files[x->file].ino));
	return true;
}

/* To blocks that another extent has, of this file or of another. */
static bool moved_onto_another(struct image *im, struct rec *x)
{
	for (unsigned tries = 0; tries < 50; tries++) {
		const struct rec *y = any_extent(im);

		if (x == y || len_of(y->at[2]) < len_of(x->at[2]) || le64_get(x->at[1]) == le64_get(y->at[1]))
			continue;
		x->at[1] = y->at[1];
		return true;
	}
	return false;
}

static bool moved_anywhere(struct image *im, struct rec *x)
{
	const uint64_t to = rng_below(&im->g->rng, im->od.nr_blocks - 64);

	if (!od_fsb_range_ok(&im->od, to, len_of(x->at[2])) || to == le64_get(x->at[1]))
		return false;
	x->at[1] = le64_make(to);
	return true;
}

static bool extent_shorter(struct image *im, struct rec *x)
{
	if (len_of(x->at[2]) < 2)
		return false;
	x->at[2] = make_pair(1 + (uint32_t)rng_below(&im->g->rng, len_of(x->at[2]) - 1), high_of(x->at[2]));
	return true;
}

static bool shared_unwritten(struct image *im, struct rec *x)
{
	if (!is_counted(im, x))
		return false;
	x->at[2] = make_pair(len_of(x->at[2]), OD_EXTENT_UNWRITTEN);
	return true;
}

static const struct damage {
	const char *name;
	bool (*fn)(struct image *im, struct rec *r);
	enum { COUNTS, ONE_FILE, ANY_FILE } hits; /* what may read otherwise afterwards */
	bool same_blocks;   /* nobody needs a copy: the repair moves no data */
	const char *code;   /* NULL: whatever the checker calls it */
} damages[] = {
	{ "more owners counted", refs_more, COUNTS, true, "REFC-COUNT" },
	{ "fewer owners counted", refs_fewer, COUNTS, true, "REFC-COUNT" },
	{ "fewer blocks counted", counted_less, COUNTS, false, "EXTENT-SHARED" },
	{ "one more block counted", counted_more, COUNTS, true, NULL },
	{ "other blocks counted", counted_elsewhere, COUNTS, false, NULL },
	{ "a record is gone", record_gone, COUNTS, false, "EXTENT-SHARED" },
	{ "a record too many", record_new, COUNTS, true, "REFC-COUNT" },
	{ "a node of the counts is damaged", node_torn, COUNTS, true, "TREE-NODE" },
	{ "a group's counts are gone", tree_gone, COUNTS, false, "EXTENT-SHARED" },
	{ "a file does not say that it shares", flag_gone, COUNTS, true, "INODE-SHARED-FLAG" },
	{ "an extent on another's blocks", moved_onto_another, ONE_FILE, false, NULL },
	{ "an extent anywhere", moved_anywhere, ANY_FILE, false, NULL },
	{ "an extent is shorter", extent_shorter, ONE_FILE, true, NULL },
	{ "a shared extent is unwritten", shared_unwritten, ONE_FILE, false, "EXTENT-UNWRITTEN-SHARED" },
};
#define NR_DAMAGES ARRAY_SIZE(damages)

/* The one whose turn it is, or the next that fits; *file: whose extent it was. */
static const struct damage *do_damage(struct image *im, uint64_t turn, unsigned *file)
{
	for (unsigned tries = 0; tries < 100 * NR_DAMAGES; tries++) {
		const struct damage *d = &damages[(turn + tries / 100) % NR_DAMAGES];
		const bool extent = d->hits != COUNTS || d->fn == flag_gone;
		struct rec *r = extent ? any_extent(im) : any_refc(im);

		*file = r->file;
		if (!d->fn(im, r))
			continue;
		seal(im, r->mblk);
		return d;
	}
	ck_abort_msg("no damage fits");
}

/* ---- The test ----------------------------------------------------------------------------------------------- */

enum mode { LOOK, PREEN, REPAIR };

static char *check(struct bd *bd, enum mode mode, struct chk_result *res)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const struct chk_opts opts = { .readonly = mode == LOOK, .preen = mode == PREEN, .out = out };
	int err;

	ck_assert_ptr_nonnull(out);
	err = chk_run(bd, &opts, res);
	fclose(out);
	ck_assert_msg(!err, "%d: %s", err, text);
	return text;
}

/* The power goes in the middle of a repair, if it takes that many writes. */
static void cut_repair(struct graph *g)
{
	const struct chk_opts opts = { .out = NULL };
	const uint64_t seed = rng_u64(&g->rng);
	struct chk_result res;
	struct bd *crash;

	ck_assert_int_eq(bd_crash_create(filefs_passthrough(g->f.mem), &crash), 0);
	bd_crash_arm(crash, 1 + rng_below(&g->rng, 30), seed);
	if (!chk_run(crash, &opts, &res))
		bd_crash_cut(crash, seed);
	bd_close(crash);
}

static void one_round(uint64_t seed)
{
	static struct image im;
	const struct damage *d;
	struct chk_result res;
	unsigned file, except;
	char *text, when[160];
	enum mode mode;
	struct graph g;
	bool cut;

	graph_make(&g, seed);
	read_image(&im, &g);
	d = do_damage(&im, seed, &file);
	snprintf(when, sizeof(when), "IOMAPFS_SEED=%llu, inode %llu, %s", (unsigned long long)seed,
		 (unsigned long long)g.files[file].ino, d->name);
	text = check(g.f.mem, LOOK, &res);
	ck_assert_msg(res.found > 0, "%s: not found", when);
	ck_assert_msg(!d->code || strstr(text, d->code), "%s: %s", when, text);
	free(text);
	/* Wrong counts and nothing else are what boot scripts may repair. */
	mode = d->fn == refs_more || d->fn == refs_fewer || d->fn == flag_gone ? PREEN : REPAIR;
	cut = rng_below(&g.rng, 3) == 0;
	if (cut)
		cut_repair(&g);
	text = check(g.f.mem, cut ? REPAIR : mode, &res);
	ck_assert_msg((cut || res.found > 0) && res.left == 0, "%s: %llu are left of: %s", when,
		      (unsigned long long)res.left, text);
	ck_assert_msg(!d->same_blocks || !strstr(text, "has a copy"), "%s: %s", when, text);
	free(text);
	text = check(g.f.mem, LOOK, &res);
	ck_assert_msg(res.found == 0, "%s: after the repair: %s", when, text);
	free(text);
	except = d->hits == ONE_FILE ? 1u << file : 0;
	for (unsigned i = 0; i < GRAPH_FILES; i++)
		if (d->hits == ANY_FILE)
			except |= (unsigned)g.files[i].there << i;
	graph_expect(&g, except, when);
	graph_free(&g);
}

START_TEST(damage_is_found_and_repaired)
{
	const uint64_t seed = unit_seed(1000000) + (uint64_t)_i * ROUNDS;

	for (unsigned i = 0; i < ROUNDS; i++)
		one_round(seed + i);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sharing");
	TCase *tc = tcase_create("sharing");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, damage_is_found_and_repaired, 0, LOOPS);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

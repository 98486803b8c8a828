/* SPDX-License-Identifier: MIT */
/* Walk a tree of the disk without believing any of it. */
#include <stdlib.h>
#include <string.h>

#include "chk.h"

struct key {
	uint64_t a, b;
};
static const struct key key_max = { UINT64_MAX, UINT64_MAX };

/* A node as its parent describes it. Keys are in [low, high), high = key_max: no bound. */
struct want {
	uint64_t mblk;
	unsigned level;
	struct key low, high;
};

static int key_cmp(struct key x, struct key y)
{
	if (x.a != y.a)
		return x.a < y.a ? -1 : 1;
	return x.b < y.b ? -1 : x.b > y.b;
}

static struct key rec_key(const struct od_tree_geom *g, const le64_t *rec)
{
	return (struct key){ le64_get(rec[0]), g->key_words == 2 ? le64_get(rec[1]) : 0 };
}

/* Claim, read and judge one node. False: leave it and all below it alone. */
static bool node_load(struct chk *c, struct chk_tree *t, const struct want *w, void *block)
{
	const struct od_tree_geom *g = od_tree_geom(t->type);
	const struct od_hdr *h = block;
	const unsigned long long mblk = w->mblk;
	enum chk_use other;
	const char *bad;

	if (!chk_claim_mblk(c, CHK_META, w->mblk, &other)) {
		chk_raise(c, CHK_P_TREE_NODE_SHARED, "tree %s, node %llu, used by %s", g->name, mblk,
			  chk_use_name(other));
		return false;
	}
	if (chk_read(c, w->mblk, block)) {
		chk_raise(c, CHK_P_TREE_NODE_READ, "tree %s, node %llu", g->name, mblk);
		return false;
	}
	bad = od_verify_btree(&c->od, block, w->mblk, true);
	if (bad) {
		chk_raise(c, CHK_P_TREE_NODE, "tree %s, node %llu: %s", g->name, mblk, bad);
		return false;
	}
	if (le16_get(h->type) != t->type || le64_get(h->owner) != t->owner ||
	    le16_get(h->level) != w->level) {
		chk_raise(c, CHK_P_TREE_LINK,
			  "tree %s, node %llu: type %u, owner %llu, level %u; wanted %u, %llu, %u",
			  g->name, mblk, le16_get(h->type), (unsigned long long)le64_get(h->owner),
			  le16_get(h->level), t->type, (unsigned long long)t->owner, w->level);
		return false;
	}
	t->nr_nodes++;
	return true;
}

static void check_range(struct chk *c, struct chk_tree *t, const struct want *w,
			const le64_t *first, const le64_t *last)
{
	const struct od_tree_geom *g = od_tree_geom(t->type);

	if (key_cmp(rec_key(g, first), w->low) < 0 ||
	    (key_cmp(w->high, key_max) != 0 && key_cmp(rec_key(g, last), w->high) >= 0))
		chk_raise(c, CHK_P_TREE_KEYS, "tree %s, node %llu", g->name,
			  (unsigned long long)w->mblk);
}

/* Recursion goes down one level each time: at most OD_TREE_MAX_LEVEL deep. */
static void walk_node(struct chk *c, struct chk_tree *t, const struct want *w)
{
	const struct od_tree_geom *g = od_tree_geom(t->type);
	const unsigned words = g->key_words + (w->level ? 1u : g->val_bytes / 8u);
	void *block = chk_block_alloc(c);
	const struct od_hdr *h = block;
	const le64_t *recs;
	unsigned n;

	assert(w->level < OD_TREE_MAX_LEVEL);
	if (!block || !node_load(c, t, w, block))
		goto out_free;
	n = le16_get(h->nrecs);
	recs = (const le64_t *)((const uint8_t *)block + OD_HDR_SIZE);
	/* A node's first key may be below the first of its child, not above it. */
	check_range(c, t, w, recs, recs + (n - 1) * words);
	for (unsigned i = 0; i < n && !c->error; i++) {
		const le64_t *rec = recs + i * words;

		if (w->level == 0) {
			t->nr_recs++;
			t->fn(c, rec, t->arg);
			continue;
		}
		walk_node(c, t, &(struct want){
			.mblk = le64_get(rec[g->key_words]),
			.level = w->level - 1,
			.low = i == 0 ? w->low : rec_key(g, rec),
			.high = i + 1 < n ? rec_key(g, rec + words) : w->high,
		});
	}
out_free:
	free(block);
}

void chk_tree_walk(struct chk *c, struct chk_tree *t, const struct od_root *root)
{
	const struct want w = {
		.mblk = le64_get(root->mblk),
		.level = le16_get(root->level),
		.high = key_max,
	};

	t->nr_nodes = t->nr_recs = 0;
	if (w.mblk != 0 && !c->error)
		walk_node(c, t, &w);
}

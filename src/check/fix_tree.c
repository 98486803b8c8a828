/* SPDX-License-Identifier: MIT */
/* Repair: whole B+trees from records that are in order. */
#include <stdlib.h>
#include <string.h>

#include "fix.h"

int chk_fix_seal(struct fix *f, uint64_t mblk, void *block, uint64_t seq)
{
	const char *bad;

	/* As everywhere: what its verifier refuses is written nowhere. */
	od_seal(block, seq);
	bad = od_verify_any(&f->c->od, block, mblk, true);
	if (bad && f->out)
		fprintf(f->out, "metadata block %llu: its repair fails its own checks (%s)\n",
			(unsigned long long)mblk, bad);
	return bad ? -EFSCORRUPTED : 0;
}

int chk_fix_write(struct fix *f, uint64_t mblk, void *block)
{
	int err = chk_fix_seal(f, mblk, block, 0);

	if (err)
		return err;
	return bd_write(f->c->bd, mblk << OD_MBLK_SHIFT, block, OD_MBLK_SIZE, BD_META);
}

uint64_t chk_fix_tree_nodes(unsigned type, size_t n)
{
	uint64_t level = n ? DIV_ROUND_UP(n, od_tree_max_recs(type, true)) : 0, all = level;

	while (level > 1) {
		level = DIV_ROUND_UP(level, od_tree_max_recs(type, false));
		all += level;
	}
	return all;
}

/* One level being written: records of `words` words each. */
struct level {
	unsigned type, level, words;
	uint64_t owner;
	const le64_t *recs;
	size_t n;
};

/* Write a level's nodes; up receives (key, address) of each. */
static int write_level(struct fix *f, const struct level *l, const struct fix_source *src, le64_t *up)
{
	const unsigned max = od_tree_max_recs(l->type, l->level == 0);
	const unsigned key_words = od_tree_geom(l->type)->key_words;
	void *block = chk_block_alloc(f->c);
	struct od_hdr *h = block;
	int err = block ? 0 : -ENOMEM;

	for (size_t at = 0; at < l->n && !err; at += max) {
		const size_t n = MIN(max, l->n - at);
		const uint64_t mblk = src->alloc(f, src->arg);

		if (!mblk) {
			err = -ENOSPC;
			break;
		}
		memset(block, 0, OD_MBLK_SIZE);
		od_hdr_init(block, OD_MAGIC_BTREE, f->c->od.meta_uuid, l->owner, mblk);
		h->type = le16_make((uint16_t)l->type);
		h->level = le16_make((uint16_t)l->level);
		h->nrecs = le16_make((uint16_t)n);
		memcpy(h + 1, l->recs + at * l->words, n * l->words * sizeof(le64_t));
		memcpy(up, l->recs + at * l->words, key_words * sizeof(le64_t));
		up[key_words] = le64_make(mblk);
		up += key_words + 1;
		err = chk_fix_write(f, mblk, block);
	}
	free(block);
	return err;
}

int chk_fix_tree(struct fix *f, unsigned type, uint64_t owner, const le64_t *recs, size_t n,
	     const struct fix_source *src, struct od_root *root, uint64_t *nr_nodes)
{
	const struct od_tree_geom *g = od_tree_geom(type);
	struct level l = { .type = type, .words = g->key_words + g->val_bytes / 8u, .owner = owner,
			   .recs = recs, .n = n };
	le64_t *below = NULL, *up = NULL;
	int err = 0;

	*root = (struct od_root){ 0 };
	while (l.n > 0) {
		const size_t nodes = DIV_ROUND_UP(l.n, od_tree_max_recs(type, l.level == 0));

		up = reallocarray(NULL, nodes, (g->key_words + 1u) * sizeof(le64_t));
		err = up ? write_level(f, &l, src, up) : -ENOMEM;
		if (nr_nodes)
			*nr_nodes += nodes;
		if (err)
			break;
		if (nodes == 1) {
			root->mblk = up[g->key_words];
			root->level = le16_make((uint16_t)l.level);
			break;
		}
		free(below);
		below = up;
		up = NULL;
		l.recs = below;
		l.n = nodes;
		l.words = g->key_words + 1u;
		l.level++;
		assert(l.level < OD_TREE_MAX_LEVEL);
	}
	free(below);
	free(up);
	return err;
}

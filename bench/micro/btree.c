// SPDX-License-Identifier: MIT
/* The B+tree: an extent tree of RECORDS records, its nodes from a real file system. */
#include <stdlib.h>

#include "btree.h"
#include "micro.h"

#define RECORDS  100000u
#define A_HANDLE 8u

struct tree {
	struct micro_fs m;
	struct bt_root root;
	struct btree bt;
	struct rng rng;
	uint64_t next; /* odd keys up to here are there, even ones come and go */
};

static void set_value(struct tree *t, uint8_t *val)
{
	const struct od_extent_val v = {le64_make(t->m.fs->sb.nr_blocks - 1), le32_make(1), le32_make(0)};

	memset(val, 0, BT_VAL_MAX);
	memcpy(val, &v, sizeof(v));
}

/* Records of key, key + step.. in handles of A_HANDLE; key 0: at random. */
static void change(struct tree *t, unsigned ops, uint64_t key, bool insert)
{
	uint8_t val[BT_VAL_MAX];

	set_value(t, val);
	for (unsigned done = 0; done < ops; done += A_HANDLE) {
		struct jnl_handle *h;

		MUST(jnl_start(t->m.fs->jnl, JNL_MAX_CREDITS, 0, &h) == 0);
		lk_lock(&t->m.root->extlock);
		for (unsigned i = 0; i < A_HANDLE && done + i < ops; i++, key += 2) {
			MUST(bt_prefetch(&t->bt, (struct bt_key){key, 0}, 0) == 0);
			if (insert)
				MUST(bt_insert(&t->bt, h, (struct bt_key){key, 0}, val) == 0);
			else
				MUST(bt_delete(&t->bt, h, (struct bt_key){key, 0}) == 0);
		}
		lk_unlock(&t->m.root->extlock);
		jnl_stop(h);
	}
}

static void *begin(void)
{
	struct tree *t = calloc(1, sizeof(*t));

	MUST(t);
	micro_mount(&t->m, 256u << 20);
	rng_seed(&t->rng, 42);
	t->bt = (struct btree){
		.bc = t->m.fs->bc,
		.type = OD_TREE_EXTENT,
		.owner = t->m.root->ino,
		.root = &t->root,
		.ops = &inode_bt_ops,
		.private = t->m.root,
	};
	change(t, RECORDS, 1, true);
	MUST(jnl_checkpoint(t->m.fs->jnl) == 0);
	return t;
}

static void end(void *arg)
{
	struct tree *t = arg;

	micro_umount(&t->m);
	free(t);
}

static void lookup(void *arg, unsigned ops)
{
	struct tree *t = arg;
	struct bt_rec rec;

	for (unsigned i = 0; i < ops; i++) {
		const uint64_t key = 2 * rng_below(&t->rng, RECORDS) + 1;

		MUST(bt_lookup_eq(&t->bt, (struct bt_key){key, 0}, 0, &rec) == 0);
	}
}

static void insert_delete(void *arg, unsigned ops)
{
	struct tree *t = arg;
	const uint64_t first = 2 + 2 * rng_below(&t->rng, RECORDS - ops);

	change(t, ops / 2, first, true);
	change(t, ops / 2, first, false);
}

static void range(void *arg, unsigned ops)
{
	struct tree *t = arg;
	struct bt_rec recs[64];

	for (unsigned i = 0; i < ops; i++) {
		const uint64_t key = 2 * rng_below(&t->rng, RECORDS - 100) + 1;

		MUST(bt_range(&t->bt, (struct bt_key){key, 0}, 0, recs, ARRAY_SIZE(recs)) == 64);
	}
}

const struct micro_case micro_btree[] = {
	{"btree-lookup", "bt_lookup_eq among 10^5 records, at random", 20000, begin, lookup, end},
	{"btree-range-64", "bt_range of 64 records among 10^5", 4000, begin, range, end},
	{"btree-change", "bt_insert or bt_delete among 10^5, eight to a handle", 8000, begin, insert_delete,
	 end},
	{0},
};

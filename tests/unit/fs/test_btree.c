/* SPDX-License-Identifier: MIT */
/*
 * The B+tree against a sorted array: random operations on trees of every shape, commits
 * in between, nodes taken from a real file system. After every round the whole tree is
 * walked: order, fill, levels and the separators.
 */
#include "ft.h"

#define NR_KEYS 60000u

/* Shapes: key words x value bytes. Keys and values must please od_verify_btree. */
static const enum od_tree shapes[] = {
	OD_TREE_EXTENT,  /* 1 word, 16 bytes */
	OD_TREE_DIRMAP,  /* 1 word, 8 bytes */
	OD_TREE_DIRHASH, /* 2 words, nothing */
};

struct model {
	struct ft *t;
	struct fs_inode *root;
	struct bt_root bt_root;
	struct btree bt;
	struct rng rng;
	uint64_t *have;       /* value seed by key index; 0 = absent */
	uint64_t nr;
	unsigned nr_nodes, max_nodes_op, max_credits_op;
};

static unsigned nodes_now;

static int count_alloc(struct btree *t, struct jnl_handle *h, uint64_t *mblk)
{
	nodes_now++;
	return inode_bt_ops.alloc(t, h, mblk);
}

static void count_free(struct btree *t, struct jnl_handle *h, uint64_t mblk)
{
	inode_bt_ops.free(t, h, mblk);
}

static const struct bt_alloc_ops count_ops = { count_alloc, count_free };

static struct bt_key key_of(const struct model *m, uint64_t i)
{
	if (m->bt.type == OD_TREE_DIRHASH)
		return (struct bt_key){ i / 7, (i % 7) << 9 | 100 };
	return (struct bt_key){ i + 1, 0 };
}

static void val_of(const struct model *m, uint64_t i, uint64_t seed, uint8_t *val)
{
	uint64_t start = m->t->fs->sb.nr_blocks - 1 - seed % 64;

	memset(val, 0, BT_VAL_MAX);
	if (m->bt.type == OD_TREE_EXTENT) {
		struct od_extent_val v = { le64_make(start), le32_make(1), le32_make(seed & 1) };

		memcpy(val, &v, sizeof(v));
	} else if (m->bt.type == OD_TREE_DIRMAP) {
		le64_t v = le64_make(m->t->fs->od.dev_mblks - 1 - seed % 64);

		memcpy(val, &v, sizeof(v));
	}
}

static void model_init(struct model *m, struct ft *t, enum od_tree type)
{
	memset(m, 0, sizeof(*m));
	m->t = t;
	ck_assert_int_eq(fs_iget(t->fs, FS_ROOT_INO, 0, &m->root), 0);
	m->bt = (struct btree){ .bc = t->fs->bc, .type = type, .owner = m->root->ino,
				.root = &m->bt_root, .ops = &count_ops, .private = m->root };
	m->have = calloc(NR_KEYS, sizeof(*m->have));
	rng_seed(&m->rng, unit_seed(7));
}

/* One walk: returns the number of records below. lo <= keys, each > *last. */
static uint64_t walk(struct model *m, uint64_t mblk, unsigned level, struct bt_key lo, bool has_lo,
		     bool right_edge, bool is_root, struct bt_key *last, bool *has_last)
{
	const struct od_tree_geom *g = od_tree_geom(m->bt.type);
	struct buf *b;
	uint64_t sum = 0;
	unsigned n, size;

	ck_assert_int_eq(buf_read(m->bt.bc, mblk, m->bt.owner, &buf_ops_btree, 0, &b), 0);
	ck_assert_ptr_null(od_verify_btree(&m->t->fs->od, b->data, mblk, false));
	ck_assert_uint_eq(le16_get(buf_hdr(b)->level), level);
	n = le16_get(buf_hdr(b)->nrecs);
	size = g->key_words * 8 + (level ? 8 : g->val_bytes);
	m->nr_nodes++;
	if (!is_root && !right_edge)
		ck_assert_uint_ge(n, od_tree_max_recs(m->bt.type, level == 0) / 3);
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *p = (const uint8_t *)b->data + OD_HDR_SIZE + i * size;
		struct bt_key k = { 0, 0 };
		le64_t w;

		memcpy(&w, p, 8);
		k.a = le64_get(w);
		if (g->key_words == 2) {
			memcpy(&w, p + 8, 8);
			k.b = le64_get(w);
		}
		if (has_lo && (i > 0 || level == 0))
			ck_assert(k.a > lo.a || (k.a == lo.a && k.b >= lo.b));
		if (*has_last && (i > 0 || level == 0))
			ck_assert(k.a > last->a || (k.a == last->a && k.b > last->b));
		if (level) {
			memcpy(&w, p + g->key_words * 8, 8);
			sum += walk(m, le64_get(w), level - 1, k, true, right_edge && i + 1 == n,
				    false, last, has_last);
		} else {
			*last = k;
			*has_last = true;
			sum++;
		}
	}
	buf_put(b);
	return sum;
}

static void check_all(struct model *m)
{
	struct bt_key none = { 0, 0 }, last = none, from = none;
	struct bt_rec recs[77];
	bool has_last = false;
	uint64_t i = 0, seen = 0;
	int n;

	m->nr_nodes = 0;
	if (m->bt_root.mblk)
		ck_assert_uint_eq(walk(m, m->bt_root.mblk, m->bt_root.level, none, false, true, true,
				       &last, &has_last),
				  m->nr);
	else
		ck_assert_uint_eq(m->nr, 0);
	while ((n = bt_range(&m->bt, from, 0, recs, ARRAY_SIZE(recs))) > 0) {
		for (int k = 0; k < n; k++) {
			uint8_t val[BT_VAL_MAX];

			while (i < NR_KEYS && !m->have[i])
				i++;
			ck_assert_uint_lt(i, NR_KEYS);
			ck_assert_uint_eq(recs[k].key.a, key_of(m, i).a);
			ck_assert_uint_eq(recs[k].key.b, key_of(m, i).b);
			val_of(m, i, m->have[i], val);
			ck_assert_mem_eq(recs[k].val, val, BT_VAL_MAX);
			i++;
			seen++;
		}
		from = recs[n - 1].key;
		from.b++;
		if (od_tree_geom(m->bt.type)->key_words == 1)
			from = (struct bt_key){ from.a + 1, 0 };
	}
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(seen, m->nr);
}

static void check_lookups(struct model *m, uint64_t i)
{
	struct bt_rec rec;
	uint64_t k;
	int err = bt_lookup_eq(&m->bt, key_of(m, i), 0, &rec);

	ck_assert_int_eq(err, m->have[i] ? 0 : -ENOENT);
	for (k = i; k > 0 && !m->have[k]; k--)
		;
	err = bt_lookup_le(&m->bt, key_of(m, i), 0, &rec);
	ck_assert_int_eq(err, m->have[k] ? 0 : -ENOENT);
	if (!err)
		ck_assert(rec.key.a == key_of(m, k).a && rec.key.b == key_of(m, k).b);
	for (k = i; k < NR_KEYS && !m->have[k]; k++)
		;
	err = bt_lookup_ge(&m->bt, key_of(m, i), 0, &rec);
	ck_assert_int_eq(err, k < NR_KEYS ? 0 : -ENOENT);
	if (!err)
		ck_assert(rec.key.a == key_of(m, k).a && rec.key.b == key_of(m, k).b);
}

static void change(struct model *m, struct jnl_handle *h, uint64_t i, unsigned what)
{
	unsigned need = bt_need_nodes(&m->bt), credits = bt_need_credits(&m->bt);
	uint64_t seed = rng_u64(&m->rng) | 1;
	uint8_t val[BT_VAL_MAX];
	bool had = m->have[i];
	int err;

	nodes_now = 0;
	val_of(m, i, seed, val);
	ck_assert_int_eq(bt_prefetch(&m->bt, key_of(m, i), 0), 0);
	if (what == 0) {
		err = bt_insert(&m->bt, h, key_of(m, i), val);
		ck_assert_int_eq(err, had ? -EEXIST : 0);
		m->nr += !had;
		if (!had)
			m->have[i] = seed;
	} else if (what == 1) {
		err = bt_delete(&m->bt, h, key_of(m, i));
		ck_assert_int_eq(err, had ? 0 : -ENOENT);
		m->nr -= had;
		m->have[i] = 0;
	} else if (od_tree_geom(m->bt.type)->val_bytes) {
		err = bt_update(&m->bt, h, key_of(m, i), val);
		ck_assert_int_eq(err, had ? 0 : -ENOENT);
		if (had)
			m->have[i] = seed;
	} else if (had && i + 1 < NR_KEYS && !m->have[i + 1]) {
		/* Move the record up by one: no other key is in between. */
		ck_assert_int_eq(bt_replace(&m->bt, h, key_of(m, i), key_of(m, i + 1), NULL), 0);
		m->have[i + 1] = m->have[i];
		m->have[i] = 0;
	}
	ck_assert_uint_le(nodes_now, need);
	m->max_credits_op = MAX(m->max_credits_op, credits);
}

/* Phases: grow at random, shrink at random, grow ascending, empty. */
static void run(struct model *m, unsigned nr_ops)
{
	struct fs *fs = m->t->fs;

	for (unsigned op = 0; op < nr_ops; op += 8) {
		unsigned phase = op * 4 / nr_ops;
		struct jnl_handle *h;

		ck_assert_int_eq(jnl_start(fs->jnl, JNL_MAX_CREDITS, 0, &h), 0);
		lk_lock(&m->root->extlock);
		for (unsigned k = 0; k < 8; k++) {
			uint64_t i = rng_below(&m->rng, NR_KEYS);
			unsigned dice = (unsigned)rng_below(&m->rng, 10);

			if (phase == 2)
				i = (op + k) % NR_KEYS;
			change(m, h, i, dice < (phase == 1 || phase == 3 ? 2u : 7u) ? 0 :
					dice < 8 ? 1 : 2);
		}
		lk_unlock(&m->root->extlock);
		jnl_stop(h);
		if (op % 4096 == 0) {
			ck_assert_int_eq(jnl_commit_wait(fs->jnl, jnl_running_tid(fs->jnl), NULL), 0);
			check_lookups(m, rng_below(&m->rng, NR_KEYS));
		}
		if (op % 20000 == 0)
			check_all(m);
	}
	check_all(m);
}

static void empty(struct model *m)
{
	struct fs *fs = m->t->fs;

	for (uint64_t i = 0; i < NR_KEYS; i++) {
		struct jnl_handle *h;

		if (!m->have[i])
			continue;
		ck_assert_int_eq(jnl_start(fs->jnl, JNL_MAX_CREDITS, 0, &h), 0);
		lk_lock(&m->root->extlock);
		change(m, h, i, 1);
		lk_unlock(&m->root->extlock);
		jnl_stop(h);
	}
	ck_assert_uint_eq(m->bt_root.mblk, 0);
	check_all(m);
}

START_TEST(test_model)
{
	struct ft t;
	struct model m;
	struct statvfs before, after;

	ft_make(&t, 64 << 20, 12);
	ft_mount(&t);
	ck_assert_int_eq(fs_statfs(t.fs, &before), 0);
	model_init(&m, &t, shapes[_i]);
	run(&m, 40000);
	empty(&m);
	free(m.have);
	fs_iput(m.root);
	ck_assert_int_eq(fs_quiesce(t.fs), 0);
	ck_assert_int_eq(fs_statfs(t.fs, &after), 0);
	ck_assert_uint_eq(before.f_bfree, after.f_bfree);
	ft_end(&t);
}
END_TEST

/* Ascending inserts fill every node but those at the right edge. */
START_TEST(test_append_fills)
{
	struct ft t;
	struct model m;
	unsigned per_leaf = od_tree_max_recs(OD_TREE_EXTENT, true);

	ft_make(&t, 64 << 20, 12);
	ft_mount(&t);
	model_init(&m, &t, OD_TREE_EXTENT);
	for (uint64_t i = 0; i < 20000; i++) {
		struct jnl_handle *h;

		ck_assert_int_eq(jnl_start(t.fs->jnl, 100, 0, &h), 0);
		lk_lock(&m.root->extlock);
		change(&m, h, i, 0);
		lk_unlock(&m.root->extlock);
		jnl_stop(h);
	}
	check_all(&m);
	ck_assert_uint_le(m.nr_nodes, DIV_ROUND_UP(20000, per_leaf) + 3);
	empty(&m);
	free(m.have);
	fs_iput(m.root);
	ft_end(&t);
}
END_TEST

/* Point the root's second entry elsewhere; returns where it pointed. */
static uint64_t set_second_child(struct model *m, uint64_t mblk)
{
	le64_t old, now = le64_make(mblk);
	struct buf *b;
	uint8_t *at;

	ck_assert_uint_eq(m->bt_root.level, 1);
	ck_assert_int_eq(buf_read(m->bt.bc, m->bt_root.mblk, m->bt.owner, &buf_ops_btree, 0, &b), 0);
	at = (uint8_t *)b->data + OD_HDR_SIZE + 16 + 8;
	memcpy(&old, at, sizeof(old));
	if (mblk)
		memcpy(at, &now, sizeof(now));
	buf_put(b);
	return le64_get(old);
}

static uint64_t first_child(struct model *m)
{
	struct buf *b;
	le64_t v;

	ck_assert_int_eq(buf_read(m->bt.bc, m->bt_root.mblk, m->bt.owner, &buf_ops_btree, 0, &b), 0);
	memcpy(&v, (uint8_t *)b->data + OD_HDR_SIZE + 8, sizeof(v));
	buf_put(b);
	return le64_get(v);
}

/*
 * An image whose interior node names one leaf twice: each node is sound alone. Whoever goes on
 * from the last record found would go in circles, and a merge would take a leaf for its sibling.
 */
START_TEST(test_shared_child)
{
	const unsigned per_leaf = od_tree_max_recs(OD_TREE_EXTENT, true);
	struct bt_rec recs[400];
	struct jnl_handle *h;
	struct model m;
	uint64_t second;
	struct ft t;
	int err = 0;

	ft_make(&t, 64 << 20, 12);
	ft_mount(&t);
	model_init(&m, &t, OD_TREE_EXTENT);
	for (uint64_t i = 0; i < 2000; i++) {
		ck_assert_int_eq(jnl_start(t.fs->jnl, 100, 0, &h), 0);
		lk_lock(&m.root->extlock);
		change(&m, h, i, 0);
		lk_unlock(&m.root->extlock);
		jnl_stop(h);
	}
	second = set_second_child(&m, 0);
	set_second_child(&m, first_child(&m));
	ck_assert_int_eq(bt_lookup_eq(&m.bt, key_of(&m, per_leaf + 5), 0, recs), -EFSCORRUPTED);
	ck_assert_int_eq(bt_lookup_ge(&m.bt, key_of(&m, per_leaf + 5), 0, recs), -EFSCORRUPTED);
	ck_assert_int_eq(bt_lookup_le(&m.bt, key_of(&m, per_leaf + 5), 0, recs), -EFSCORRUPTED);
	ck_assert_int_eq(bt_range(&m.bt, key_of(&m, per_leaf - 2), 0, recs, 400), -EFSCORRUPTED);
	/* The first leaf alone is what it was, until it wants its sibling. */
	for (uint64_t i = 0; i < per_leaf && !err; i++) {
		ck_assert_int_eq(jnl_start(t.fs->jnl, 100, 0, &h), 0);
		lk_lock(&m.root->extlock);
		err = bt_delete(&m.bt, h, key_of(&m, i));
		lk_unlock(&m.root->extlock);
		jnl_stop(h);
		if (!err) {
			m.have[i] = 0;
			m.nr--;
		}
	}
	ck_assert_int_eq(err, -EFSCORRUPTED);
	set_second_child(&m, second);
	check_all(&m);
	empty(&m);
	free(m.have);
	fs_iput(m.root);
	ft_end(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-btree");
	TCase *tc = tcase_create("model");

	tcase_set_timeout(tc, 200);
	tcase_add_loop_test(tc, test_model, 0, (int)ARRAY_SIZE(shapes));
	tcase_add_test(tc, test_append_fills);
	tcase_add_test(tc, test_shared_child);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

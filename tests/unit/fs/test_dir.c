/* SPDX-License-Identifier: MIT */
/* Directories: many names, the walk under change, collisions, space that comes back. */
#include <pthread.h>

#include "names_fx.h"

static uint64_t seed;

/* ---- Many names ----------------------------------------------------------------------- */

#define MANY 200000u

struct names {
	char (*name)[48];
	unsigned n;
};

static void names_make(struct names *s, unsigned n, struct rng *r)
{
	s->name = calloc(n, sizeof(*s->name));
	s->n = n;
	ck_assert_ptr_nonnull(s->name);
	for (unsigned i = 0; i < n; i++) {
		unsigned pad = (unsigned)rng_below(r, 30);

		snprintf(s->name[i], sizeof(s->name[i]), "%x-%.*s", i, (int)pad,
			 "abcdefghijklmnopqrstuvwxyz0123456789");
	}
	/* In random order. */
	for (unsigned i = n - 1; i > 0; i--) {
		unsigned j = (unsigned)rng_below(r, i + 1);
		char t[48];

		memcpy(t, s->name[i], sizeof(t));
		memcpy(s->name[i], s->name[j], sizeof(t));
		memcpy(s->name[j], t, sizeof(t));
	}
}

struct count {
	unsigned n;
	uint64_t last;
	bool ascending;
};

static int count_entry(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		       uint64_t cookie)
{
	struct count *c = arg;

	c->n++;
	if (cookie <= c->last)
		c->ascending = false;
	c->last = cookie;
	return 0;
}

static unsigned count_all(struct fx *x, struct fs_inode *dir)
{
	struct count c = { .ascending = true };

	ck_assert_int_eq(fs_readdir(&x->ctx, dir, 0, count_entry, &c), 0);
	ck_assert(c.ascending);
	return c.n;
}

START_TEST(test_many)
{
	struct names s;
	struct rng r;
	struct fs_inode *first, *ip;
	uint64_t free0;
	struct fx x;

	rng_seed(&r, seed);
	fx_make(&x, 512u << 20);
	free0 = fx_free(&x);
	names_make(&s, MANY, &r);
	/* One inode with many names: the directory is what is tested. */
	ck_assert_int_eq(fs_mknod(&x.ctx, x.root, "first", 5, S_IFREG | 0600, 0, 0, &first), 0);
	for (unsigned i = 0; i < s.n; i++)
		ck_assert_int_eq(fs_link(&x.ctx, first, x.root, s.name[i], strlen(s.name[i])), 0);
	ck_assert_uint_eq(fx_attr(&x, first).nlink, s.n + 1);
	fs_iput(first);
	ck_assert_uint_eq(count_all(&x, x.root), s.n + 3);
	fx_remount(&x);
	ck_assert_uint_eq(count_all(&x, x.root), s.n + 3);
	for (unsigned i = 0; i < s.n; i += 7) {
		ip = fx_lookup(&x, x.root, s.name[i]);
		fs_iput(ip);
	}
	for (unsigned i = 0; i < s.n; i++)
		ck_assert_int_eq(fx_unlink(&x, x.root, s.name[s.n - 1 - i]), 0);
	ck_assert_int_eq(fx_unlink(&x, x.root, "first"), 0);
	ck_assert_uint_eq(fx_attr(&x, x.root).size, 0);
	ck_assert_uint_eq(fx_attr(&x, x.root).blocks, 0);
	ck_assert_uint_eq(fx_free(&x), free0);
	free(s.name);
	fx_end(&x);
}
END_TEST

/* Holes are used again: names that come and go do not make a directory grow. */
START_TEST(test_reuse)
{
	char name[64], cur[400][64];
	struct rng r;
	uint64_t size;
	struct fx x;

	rng_seed(&r, seed + 1);
	fx_make(&x, 64u << 20);
	for (unsigned i = 0; i < 400; i++) {
		snprintf(cur[i], sizeof(cur[i]), "n%u", i);
		ck_assert_int_eq(fx_creat(&x, x.root, cur[i]), 0);
	}
	size = fx_attr(&x, x.root).size;
	for (unsigned n = 0; n < 6000; n++) {
		unsigned i = (unsigned)rng_below(&r, 400);

		ck_assert_int_eq(fx_unlink(&x, x.root, cur[i]), 0);
		snprintf(name, sizeof(name), "r%u-%.*s", n, (int)rng_below(&r, 20),
			 "xxxxxxxxxxxxxxxxxxxxxxxx");
		memcpy(cur[i], name, sizeof(name));
		ck_assert_int_eq(fx_creat(&x, x.root, name), 0);
	}
	ck_assert_uint_le(fx_attr(&x, x.root).size, 4 * size);
	ck_assert_uint_eq(count_all(&x, x.root), 402);
	fx_end(&x);
}
END_TEST

/* ---- Collisions ------------------------------------------------------------------------- */

static void short_hash(const char *hook, void *site, void *arg)
{
	uint64_t *hash = site;

	*hash &= 3;
}

START_TEST(test_collisions)
{
	char name[32];
	struct fx x;

	if (!IOMAPFS_DEBUG)
		return;
	ck_assert_int_eq(hook_install("dir:hash", short_hash, NULL), 0);
	fx_make(&x, 64u << 20);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "collide-%u", i);
		ck_assert_int_eq(fx_creat(&x, x.root, name), 0);
		ck_assert_int_eq(fx_creat(&x, x.root, name), -EEXIST);
	}
	for (unsigned i = 0; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "collide-%u", i);
		ck_assert_int_eq(fx_unlink(&x, x.root, name), 0);
		ck_assert_int_eq(fx_unlink(&x, x.root, name), -ENOENT);
	}
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "collide-%u", i);
		ck_assert_int_eq(fx_exists(&x, x.root, name), i % 2 ? 0 : -ENOENT);
	}
	for (unsigned i = 1; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "collide-%u", i);
		ck_assert_int_eq(fx_unlink(&x, x.root, name), 0);
	}
	hook_remove("dir:hash");
	fx_end(&x);
}
END_TEST

/* ---- The walk --------------------------------------------------------------------------------- */

#define STAY 600u

struct walk {
	unsigned seen[STAY];
	uint64_t cookie;
	unsigned left; /* entries until "full" */
};

static int walk_entry(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		      uint64_t cookie)
{
	struct walk *w = arg;

	if (w->left == 0)
		return 1;
	w->left--;
	w->cookie = cookie;
	if (len > 5 && memcmp(name, "stay-", 5) == 0) {
		char digits[8] = "";

		memcpy(digits, name + 5, MIN(len - 5, sizeof(digits) - 1));
		w->seen[strtoul(digits, NULL, 10)]++;
	}
	return 0;
}

struct churn {
	struct fx *x;
	_Atomic bool stop;
	unsigned id;
};

static void *churn_thread(void *arg)
{
	struct churn *c = arg;
	struct rng r;

	rng_seed(&r, seed + c->id);
	while (!atomic_load(&c->stop)) {
		char name[64];

		snprintf(name, sizeof(name), "go-%u-%u%.*s", c->id, (unsigned)rng_below(&r, 500),
			 (int)rng_below(&r, 30), "pppppppppppppppppppppppppppppppp");
		if (rng_below(&r, 2))
			fx_creat(c->x, c->x->root, name);
		else
			fx_unlink(c->x, c->x->root, name);
	}
	return NULL;
}

START_TEST(test_walk_under_change)
{
	struct churn c[2];
	pthread_t t[2];
	char name[32];
	struct rng r;
	struct fx x;

	rng_seed(&r, seed + 9);
	fx_make(&x, 64u << 20);
	for (unsigned i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "stay-%u", i);
		ck_assert_int_eq(fx_creat(&x, x.root, name), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		c[i] = (struct churn){ .x = &x, .id = i };
		ck_assert_int_eq(pthread_create(&t[i], NULL, churn_thread, &c[i]), 0);
	}
	for (unsigned turn = 0; turn < 100; turn++) {
		struct walk w = { .cookie = 0 };
		uint64_t before;

		do {
			before = w.cookie;
			w.left = 1 + (unsigned)rng_below(&r, 40);
			ck_assert_int_eq(fs_readdir(&x.ctx, x.root, w.cookie, walk_entry, &w), 0);
		} while (w.cookie != before);
		for (unsigned i = 0; i < STAY; i++)
			ck_assert_uint_eq(w.seen[i], 1);
	}
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&c[i].stop, true);
		pthread_join(t[i], NULL);
	}
	fx_end(&x);
}
END_TEST

struct dots {
	unsigned n;
	uint64_t ino[2], cookie[2];
};

static int dots_entry(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		      uint64_t cookie)
{
	struct dots *d = arg;

	ck_assert_uint_lt(d->n, 2);
	ck_assert_uint_eq(type, DT_DIR);
	ck_assert_uint_eq(len, d->n + 1);
	ck_assert(memcmp(name, "..", len) == 0);
	d->ino[d->n] = ino;
	d->cookie[d->n++] = cookie;
	return 0;
}

START_TEST(test_dots)
{
	struct dots d = { 0 };
	struct fs_inode *dir, *ip;
	struct fx x;

	fx_make(&x, 32u << 20);
	dir = fx_mkdir(&x, x.root, "d");
	ck_assert_int_eq(fs_readdir(&x.ctx, dir, 0, dots_entry, &d), 0);
	ck_assert_uint_eq(d.n, 2);
	ck_assert_uint_eq(d.ino[0], fs_ino(dir));
	ck_assert_uint_eq(d.ino[1], fs_ino(x.root));
	ck_assert_uint_eq(d.cookie[0], 1);
	ck_assert_uint_eq(d.cookie[1], 2);
	ck_assert_uint_eq(fs_parent_ino(dir), fs_ino(x.root));
	ip = fx_lookup(&x, dir, "..");
	ck_assert_ptr_eq(ip, x.root);
	fs_iput(ip);
	ip = fx_lookup(&x, dir, ".");
	ck_assert_ptr_eq(ip, dir);
	fs_iput(ip);
	fs_iput(dir);
	ip = NULL;
	ck_assert_int_eq(fx_creat(&x, x.root, "f"), 0);
	ip = fx_lookup(&x, x.root, "f");
	ck_assert_int_eq(fs_readdir(&x.ctx, ip, 0, dots_entry, &d), -ENOTDIR);
	fs_iput(ip);
	fx_end(&x);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("dir");
	TCase *tc = tcase_create("dir");

	seed = unit_seed(0x1d1);
	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, test_dots);
	tcase_add_test(tc, test_reuse);
	tcase_add_test(tc, test_collisions);
	tcase_add_test(tc, test_walk_under_change);
	tcase_add_test(tc, test_many);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * Random operations on names against a tree in memory, with remounts in between; power cuts
 * in the middle of renames; and threads in shared directories.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>

#include "names_fx.h"

static uint64_t seed;

/* ---- The model ------------------------------------------------------------------------ */

#define NODES 300u
#define NAMES 40u   /* different names; few, so that they meet */

struct node {
	bool used, is_dir;
	unsigned nlink;          /* names that lead here */
	unsigned parent;         /* directories */
	unsigned child[NAMES];   /* node + 1; 0 = none */
};
struct model {
	struct fx x;
	struct rng r;
	struct node node[NODES]; /* 0 is the root */
};

static void name_of(unsigned i, char *buf)
{
	snprintf(buf, 256, "name-%u-%.*s", i, (int)(i * 5 % 200),
		 "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
		 "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
		 "qqqqqqqqqqqqqqqqqqqq");
}

static unsigned node_new(struct model *m, bool is_dir, unsigned parent)
{
	for (unsigned i = 1; i < NODES; i++) {
		if (m->node[i].used)
			continue;
		m->node[i] = (struct node){ .used = true, .is_dir = is_dir, .parent = parent };
		return i;
	}
	return 0;
}

static unsigned pick_dir(struct model *m)
{
	unsigned i;

	do {
		i = (unsigned)rng_below(&m->r, NODES);
	} while (!m->node[i].used || !m->node[i].is_dir);
	return i;
}

static bool empty(const struct node *n)
{
	for (unsigned i = 0; i < NAMES; i++) {
		if (n->child[i])
			return false;
	}
	return true;
}

static bool below(const struct model *m, unsigned node, unsigned anc)
{
	while (node != anc && node != 0)
		node = m->node[node].parent;
	return node == anc;
}

/* The inode of a directory of the model, by its path. */
static struct fs_inode *open_dir(struct model *m, unsigned i)
{
	struct fs_inode *up, *ip;
	char name[256];
	unsigned n = 0;

	if (i == 0) {
		fs_iref(m->x.root);
		return m->x.root;
	}
	up = open_dir(m, m->node[i].parent);
	while (m->node[m->node[i].parent].child[n] != i + 1)
		n++;
	name_of(n, name);
	ip = fx_lookup(&m->x, up, name);
	fs_iput(up);
	return ip;
}

static void drop(struct model *m, unsigned i)
{
	struct node *n = &m->node[i];

	if (n->is_dir || --n->nlink == 0)
		n->used = false;
}

static void do_create(struct model *m, unsigned d, struct fs_inode *dir, unsigned nr, const char *name)
{
	bool is_dir = rng_below(&m->r, 3) == 0;
	unsigned *slot = &m->node[d].child[nr];
	unsigned i = *slot ? 0 : node_new(m, is_dir, d);
	struct fs_inode *ip = NULL;
	int err;

	if (!i && !*slot)
		return;
	if (is_dir)
		err = fs_mkdir(&m->x.ctx, dir, name, strlen(name), 0755, &ip);
	else
		err = fs_mknod(&m->x.ctx, dir, name, strlen(name), S_IFREG | 0644, 0, 0, &ip);
	ck_assert_int_eq(err, *slot ? -EEXIST : 0);
	if (err)
		return;
	*slot = i + 1;
	m->node[i].nlink = 1;
	fs_iput(ip);
}

static void do_remove(struct model *m, unsigned d, struct fs_inode *dir, unsigned nr, const char *name)
{
	bool is_dir = rng_below(&m->r, 2);
	unsigned *slot = &m->node[d].child[nr];
	struct node *n = *slot ? &m->node[*slot - 1] : NULL;
	int want = 0, err;

	err = is_dir ? fx_rmdir(&m->x, dir, name) : fx_unlink(&m->x, dir, name);
	if (!n)
		want = -ENOENT;
	else if (is_dir != n->is_dir)
		want = is_dir ? -ENOTDIR : -EISDIR;
	else if (is_dir && !empty(n))
		want = -ENOTEMPTY;
	ck_assert_int_eq(err, want);
	if (!err) {
		drop(m, *slot - 1);
		*slot = 0;
	}
}

static void do_link(struct model *m, unsigned d, struct fs_inode *dir, unsigned nr, const char *name)
{
	unsigned from = pick_dir(m), fnr = (unsigned)rng_below(&m->r, NAMES);
	unsigned src = m->node[from].child[fnr];
	unsigned *slot = &m->node[d].child[nr];
	struct fs_inode *fdir, *ip;
	char fname[256];
	int err, want = *slot ? -EEXIST : 0;

	if (!src)
		return;
	name_of(fnr, fname);
	fdir = open_dir(m, from);
	ip = fx_lookup(&m->x, fdir, fname);
	err = fs_link(&m->x.ctx, ip, dir, name, strlen(name));
	if (m->node[src - 1].is_dir && want == 0)
		want = -EPERM;
	ck_assert_int_eq(err, want);
	if (!err) {
		*slot = src;
		m->node[src - 1].nlink++;
	}
	fs_iput(ip);
	fs_iput(fdir);
}

static int rename_want(struct model *m, unsigned od, unsigned src, unsigned nd, unsigned dst,
		       unsigned flags)
{
	struct node *s = src ? &m->node[src - 1] : NULL, *t = dst ? &m->node[dst - 1] : NULL;

	if (!s)
		return -ENOENT;
	if (od != nd && s->is_dir && below(m, nd, src - 1))
		return -EINVAL;
	if (od != nd && t && t->is_dir && below(m, od, dst - 1))
		return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (!t)
		return flags & RENAME_EXCHANGE ? -ENOENT : 0;
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE || src == dst)
		return 0;
	if (s->is_dir != t->is_dir)
		return s->is_dir ? -ENOTDIR : -EISDIR;
	return t->is_dir && !empty(t) ? -ENOTEMPTY : 0;
}

static void do_rename(struct model *m, unsigned d, struct fs_inode *dir, unsigned nr, const char *name)
{
	static const unsigned kinds[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	unsigned flags = kinds[rng_below(&m->r, ARRAY_SIZE(kinds))];
	unsigned to = rng_below(&m->r, 2) ? d : pick_dir(m), tnr = (unsigned)rng_below(&m->r, NAMES);
	unsigned *src = &m->node[d].child[nr], *dst = &m->node[to].child[tnr], s = *src;
	struct fs_inode *tdir = open_dir(m, to);
	char tname[256];
	int err;

	name_of(tnr, tname);
	err = fx_rename(&m->x, dir, name, tdir, tname, flags);
	fs_iput(tdir);
	ck_assert_int_eq(err, rename_want(m, d, s, to, *dst, flags));
	if (err || s == *dst)
		return;
	m->node[s - 1].parent = to;
	*src = 0;
	if (*dst && (flags & RENAME_EXCHANGE)) {
		*src = *dst;
		m->node[*dst - 1].parent = d;
	} else if (*dst) {
		drop(m, *dst - 1);
	}
	*dst = s;
}

static void step(struct model *m)
{
	unsigned d = pick_dir(m), nr = (unsigned)rng_below(&m->r, NAMES);
	struct fs_inode *dir = open_dir(m, d);
	char name[256];

	name_of(nr, name);
	switch (rng_below(&m->r, 6)) {
	case 0:
	case 1:
		do_create(m, d, dir, nr, name);
		break;
	case 2:
		do_remove(m, d, dir, nr, name);
		break;
	case 3:
		do_link(m, d, dir, nr, name);
		break;
	default:
		do_rename(m, d, dir, nr, name);
		break;
	}
	fs_iput(dir);
}

struct seen {
	const struct node *n;
	unsigned count;
};

static int seen_entry(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		      uint64_t cookie)
{
	struct seen *s = arg;

	s->count += cookie > 2;
	return 0;
}

static void compare(struct model *m, unsigned d, struct fs_inode *dir)
{
	unsigned names = 0, subdirs = 0;
	struct seen s = { .n = &m->node[d] };
	char name[256];

	for (unsigned i = 0; i < NAMES; i++) {
		unsigned c = m->node[d].child[i];
		struct fs_inode *ip;

		name_of(i, name);
		if (!c) {
			ck_assert_int_eq(fx_exists(&m->x, dir, name), -ENOENT);
			continue;
		}
		names++;
		ip = fx_lookup(&m->x, dir, name);
		if (m->node[c - 1].is_dir) {
			subdirs++;
			ck_assert_uint_eq(fs_parent_ino(ip), fs_ino(dir));
			compare(m, c - 1, ip);
		} else {
			ck_assert_uint_eq(fx_attr(&m->x, ip).nlink, m->node[c - 1].nlink);
		}
		fs_iput(ip);
	}
	ck_assert_uint_eq(fx_attr(&m->x, dir).nlink, 2 + subdirs);
	ck_assert_int_eq(fs_readdir(&m->x.ctx, dir, 0, seen_entry, &s), 0);
	ck_assert_uint_eq(s.count, names);
}

START_TEST(test_model)
{
	struct model *m = calloc(1, sizeof(*m));

	ck_assert_ptr_nonnull(m);
	rng_seed(&m->r, seed);
	fx_make(&m->x, 64u << 20);
	m->node[0] = (struct node){ .used = true, .is_dir = true };
	for (unsigned n = 1; n <= 12000; n++) {
		step(m);
		if (n % 2000 == 0) {
			compare(m, 0, m->x.root);
			fx_remount(&m->x);
			compare(m, 0, m->x.root);
		}
	}
	fx_end(&m->x);
	free(m);
}
END_TEST

/* ---- Power cuts ------------------------------------------------------------------------- */

/*
 * A file moves from name to name, over another file each time, while the device dies at a
 * random write. Afterwards it has exactly one of the two names of the step that was cut.
 */
static void cut_once(uint64_t n, uint64_t cut_seed)
{
	struct fs_inode *it;
	struct fx x;
	char from[16], to[16];
	unsigned found = 0;

	fx_make(&x, 32u << 20);
	ck_assert_int_eq(fx_creat(&x, x.root, "f0"), 0);
	it = fx_lookup(&x, x.root, "f0");
	ck_assert_int_eq(fs_setxattr(&x.ctx, it, "user.it", "1", 1, 0), 0);
	fs_iput(it);
	fx_umount(&x);
	ck_assert_int_eq(bd_crash_create(x.mem, &x.crash), 0);
	fx_mount(&x);
	bd_crash_arm(x.crash, bd_crash_nr_writes(x.crash) + n, cut_seed);
	for (unsigned i = 0; i < 30; i++) {
		snprintf(from, sizeof(from), "f%u", i);
		snprintf(to, sizeof(to), "f%u", i + 1);
		if (fx_creat(&x, x.root, to) || fx_rename(&x, x.root, from, x.root, to, 0))
			break;
		if (i % 3 == 0 && fs_sync(x.fs))
			break;
	}
	fs_iput(x.root);
	(void)fs_unmount(x.fs);
	x.mem = bd_crash_detach(x.crash);
	x.crash = NULL;
	fx_mount(&x);
	for (unsigned i = 0; i <= 30; i++) {
		struct fs_inode *ip;
		char v;

		snprintf(to, sizeof(to), "f%u", i);
		if (fs_lookup(&x.ctx, x.root, to, strlen(to), &ip))
			continue;
		if (fs_getxattr(&x.ctx, ip, "user.it", &v, 1) == 1)
			found++;
		fs_iput(ip);
	}
	ck_assert_uint_eq(found, 1);
	fx_end(&x);
}

START_TEST(test_power_cut)
{
	log_set_level(LOG_LVL_ERR - 1);
	for (uint64_t n = 1; n <= 40; n++)
		cut_once(n, seed + n);
	log_set_level(LOG_LVL_INFO);
}
END_TEST

/* ---- Threads ----------------------------------------------------------------------------- */

struct stress {
	struct fx *x;
	struct fs_inode *dir[3];
	unsigned id;
};

static void stress_step(struct stress *s, struct rng *r)
{
	struct fs_inode *a = s->dir[rng_below(r, 3)], *b = s->dir[rng_below(r, 3)];
	struct fs_ctx ctx = s->x->ctx;
	struct fs_inode *ip;
	char from[32], to[32];

	/* Now and then as a serving thread would. */
	if (rng_below(r, 2))
		ctx.flags = FS_NOWAIT;
	snprintf(from, sizeof(from), "n%u", (unsigned)rng_below(r, 50));
	snprintf(to, sizeof(to), "n%u", (unsigned)rng_below(r, 50));
	switch (rng_below(r, 7)) {
	case 0:
		if (!fs_mknod(&ctx, a, from, strlen(from), S_IFREG | 0600, 0, 0, &ip))
			fs_iput(ip);
		break;
	case 1:
		if (!fs_mkdir(&ctx, a, from, strlen(from), 0700, &ip))
			fs_iput(ip);
		break;
	case 2:
		fs_unlink(&ctx, a, from, strlen(from));
		break;
	case 3:
		fs_rmdir(&ctx, a, from, strlen(from));
		break;
	case 4:
		if (!fs_lookup(&ctx, a, from, strlen(from), &ip)) {
			fs_link(&ctx, ip, b, to, strlen(to));
			fs_setxattr(&ctx, ip, "user.s", to, strlen(to), 0);
			fs_iput(ip);
		}
		break;
	case 5:
		fs_rename(&ctx, a, from, strlen(from), b, to, strlen(to), RENAME_EXCHANGE);
		break;
	default:
		fs_rename(&ctx, a, from, strlen(from), b, to, strlen(to), 0);
		break;
	}
}

static void *stress_thread(void *arg)
{
	struct stress *s = arg;
	struct rng r;

	rng_seed(&r, seed + s->id);
	for (unsigned n = 0; n < 3000; n++)
		stress_step(s, &r);
	return NULL;
}

START_TEST(test_threads)
{
	struct stress s[4];
	pthread_t t[4];
	struct fx x;

	fx_make(&x, 64u << 20);
	s[0] = (struct stress){ .x = &x, .dir = { x.root } };
	s[0].dir[1] = fx_mkdir(&x, x.root, "one");
	s[0].dir[2] = fx_mkdir(&x, s[0].dir[1], "two");
	for (unsigned i = 0; i < 4; i++) {
		s[i] = s[0];
		s[i].id = i;
		ck_assert_int_eq(pthread_create(&t[i], NULL, stress_thread, &s[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert(!fs_is_shutdown(x.fs));
	fs_iput(s[0].dir[1]);
	fs_iput(s[0].dir[2]);
	fx_end(&x);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("names-model");
	TCase *tc = tcase_create("model");

	seed = unit_seed(0x5eed);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_model);
	tcase_add_test(tc, test_power_cut);
	tcase_add_test(tc, test_threads);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

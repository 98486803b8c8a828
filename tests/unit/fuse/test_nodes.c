// SPDX-License-Identifier: MIT
/*
 * The node table over a file system in memory: what the kernel knows keeps no inode in memory,
 * and yet every inode that it knows is there, with the same generation, until it forgets it.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../fs/filefs.h"
#include "fuse_private.h"

static struct filefs f;
static struct fz fz;
static uint64_t inodes_before;

static void setup(void)
{
	filefs_make(&f, 64 << 20, 12, 0);
	memset(&fz, 0, sizeof(fz));
	fz.fs = f.fs;
	ck_assert_int_eq(fz_nodes_create(&fz.nodes), 0);
	inodes_before = 0;
}

static uint64_t inodes_used(void)
{
	struct fs_stats st;

	ck_assert_int_eq(fs_quiesce(f.fs), 0);
	fs_get_stats(f.fs, &st);
	return st.inodes_used;
}

static uint64_t inodes_in_memory(void)
{
	struct fs_stats st;

	fs_get_stats(f.fs, &st);
	return st.icache_inodes;
}

/* Everything forgotten: nothing is left in the table, and what had no name is gone. */
static void teardown(void)
{
	ck_assert_uint_eq(fz_nodes_count(fz.nodes), 0);
	if (inodes_before)
		ck_assert_uint_eq(inodes_used(), inodes_before);
	fz_nodes_release_all(fz.nodes);
	fz_nodes_destroy(fz.nodes);
	filefs_end(&f);
}

static int unlink_as_daemon(const char *name)
{
	struct fs_inode *gone = NULL;
	struct fs_ctx ctx = f.ctx;
	int err;

	ctx.gone = &gone;
	err = fs_unlink(&ctx, f.root, name, strlen(name));
	if (gone)
		fz_node_nameless(&fz, gone);
	return err;
}

static void evict_all(void)
{
	fs_drop_caches(f.fs);
	/* What was being put in its place when that was asked goes the second time. */
	ck_assert_int_eq(fs_quiesce(f.fs), 0);
	fs_drop_caches(f.fs);
}

static int get(uint64_t nodeid, unsigned flags, struct fs_attr *a)
{
	struct fs_inode *ip;
	int err = fz_node_get(&fz, nodeid, flags, &ip);

	if (!err) {
		err = fs_getattr(&f.ctx, ip, a);
		fs_iput(ip);
	}
	return err;
}

START_TEST(test_no_inode_kept)
{
	enum { NR = 500 };
	uint64_t id[NR];
	struct fs_attr a;
	char name[16];

	for (unsigned i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		id[i] = fz_node_add(&fz, filefs_create(&f, name));
	}
	ck_assert_uint_eq(fz_nodes_count(fz.nodes), NR);
	evict_all();
	/* The root is the test's own. */
	ck_assert_uint_le(inodes_in_memory(), 1);
	/* Nor the block that it is in: who may not wait is told so, who may reads it. */
	filefs_remount(&f);
	fz.fs = f.fs;
	ck_assert_int_eq(get(id[NR - 1], FS_NOWAIT, &a), -EAGAIN);
	for (unsigned i = 0; i < NR; i++) {
		ck_assert_int_eq(get(id[i], 0, &a), 0);
		ck_assert_uint_eq(a.ino, id[i]);
		ck_assert_int_eq(get(id[i], FS_NOWAIT, &a), 0);
	}
	for (unsigned i = 0; i < NR; i++)
		fz_node_forget(&fz, id[i], 1);
}
END_TEST

/* Loop 0: evicted between lookup and unlink; 1: the lookup's answer comes after the unlink. */
START_TEST(test_nameless_lives)
{
	struct fs_inode *ip, *again;
	struct fs_attr a;
	uint64_t id, gen;

	inodes_before = inodes_used();
	ip = filefs_create(&f, "a");
	gen = fs_gen(ip);
	if (_i == 0) {
		id = fz_node_add(&fz, ip);
		evict_all();
		ck_assert_int_eq(unlink_as_daemon("a"), 0);
	} else {
		ck_assert_int_eq(unlink_as_daemon("a"), 0);
		id = fz_node_add(&fz, ip);
	}
	evict_all();
	ck_assert_int_eq(get(id, FS_NOWAIT, &a), 0);
	ck_assert_uint_eq(a.nlink, 0);
	ck_assert_uint_eq(a.gen, gen);
	/* A request under way when the last FORGET comes. */
	ck_assert_int_eq(fz_node_get(&fz, id, 0, &again), 0);
	fz_node_forget(&fz, id, 1);
	ck_assert_uint_eq(inodes_used(), inodes_before + 1);
	fs_iput(again);
	ck_assert_int_eq(fs_quiesce(f.fs), 0);
	ck_assert_int_eq(get(id, 0, &a), -ESTALE);
}
END_TEST

START_TEST(test_rename_over)
{
	struct fs_inode *gone = NULL;
	struct fs_ctx ctx = f.ctx;
	struct fs_attr a;
	uint64_t id;

	inodes_before = inodes_used() + 1;
	fs_iput(filefs_create(&f, "a"));
	id = fz_node_add(&fz, filefs_create(&f, "b"));
	evict_all();
	ctx.gone = &gone;
	ck_assert_int_eq(fs_rename(&ctx, f.root, "a", 1, f.root, "b", 1, 0), 0);
	ck_assert_ptr_nonnull(gone);
	fz_node_nameless(&fz, gone);
	evict_all();
	ck_assert_int_eq(get(id, 0, &a), 0);
	ck_assert_uint_eq(a.nlink, 0);
	/* A name that leaves another behind takes nothing away. */
	gone = NULL;
	ck_assert_int_eq(fs_rename(&ctx, f.root, "b", 1, f.root, "c", 1, 0), 0);
	ck_assert_ptr_null(gone);
	fz_node_forget(&fz, id, 1);
}
END_TEST

/* The number of an inode that went behind the table's back is somebody else's now. */
START_TEST(test_reuse_is_stale)
{
	struct fs_inode *ip = NULL;
	struct fs_attr a;
	uint64_t id;
	char name[16];

	id = fz_node_add(&fz, filefs_create(&f, "a"));
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "a", 1), 0);
	ck_assert_int_eq(fs_quiesce(f.fs), 0);
	ck_assert_int_eq(get(id, 0, &a), -ESTALE);
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		ip = filefs_create(&f, name);
		if (fs_ino(ip) == id)
			break;
		fs_iput(ip);
		ip = NULL;
	}
	ck_assert_msg(ip, "the number was not used again");
	ck_assert_int_eq(get(id, 0, &a), -ESTALE);
	/* A lookup tells the kernel the new generation, and from then on this inode is meant. */
	ck_assert_uint_eq(fz_node_add(&fz, ip), id);
	ck_assert_int_eq(get(id, 0, &a), 0);
	fz_node_forget(&fz, id, 2);
}
END_TEST

START_TEST(test_tmpfile_gets_a_name)
{
	struct fs_inode *ip, *again;
	struct fs_attr a;
	uint64_t id;

	inodes_before = inodes_used() + 1;
	ck_assert_int_eq(fs_tmpfile(&f.ctx, f.root, S_IFREG | 0600, &ip), 0);
	id = fz_node_add(&fz, ip);
	evict_all();
	ck_assert_int_eq(fz_node_get(&fz, id, 0, &again), 0);
	ck_assert_int_eq(fs_link(&f.ctx, again, f.root, "named", 5), 0);
	ck_assert_uint_eq(fz_node_add(&fz, again), id);
	evict_all();
	ck_assert_uint_le(inodes_in_memory(), 1);
	ck_assert_int_eq(get(id, 0, &a), 0);
	ck_assert_uint_eq(a.nlink, 1);
	fz_node_forget(&fz, id, 2);
}
END_TEST

/* ---- All at once --------------------------------------------------------------------- */

#define NR_THREADS 4u
#define NR_NAMES   24u
#define NR_OPS     4000u
#define NR_HELD    16u

/* What one thread, being a kernel, knows and did not forget; each counts as one lookup. */
struct held {
	uint64_t nodeid;
	uint32_t gen;
	struct fz_file *file;
};

struct kernel {
	pthread_t thread;
	struct rng rng;
	struct held held[NR_HELD];
	unsigned nr;
};

static void hold(struct kernel *k, struct fs_inode *ip)
{
	uint32_t gen = fs_gen(ip);

	k->held[k->nr++] = (struct held){.nodeid = fz_node_add(&fz, ip), .gen = gen};
}

static void look_at(struct kernel *k, struct held *h)
{
	struct fs_ctx ctx = f.ctx;
	struct fs_inode *ip;
	struct fs_attr a;
	int err = fz_node_get(&fz, h->nodeid, rng_below(&k->rng, 2) ? FS_NOWAIT : 0, &ip);

	if (err == -EAGAIN)
		err = fz_node_get(&fz, h->nodeid, 0, &ip);
	ck_assert_msg(err == 0, "inode %llu, known: %d", (unsigned long long)h->nodeid, err);
	ck_assert_int_eq(fs_getattr(&ctx, ip, &a), 0);
	ck_assert_uint_eq(a.ino, h->nodeid);
	ck_assert_uint_eq(a.gen, h->gen);
	fs_iput(ip);
}

static void open_or_close(struct held *h)
{
	if (h->file) {
		fz_node_del_file(&fz, h->file);
		fz_file_close(h->file);
		h->file = NULL;
		return;
	}
	h->file = calloc(1, sizeof(*h->file));
	h->file->ino = h->nodeid;
	ck_assert_int_eq(fz_node_get(&fz, h->nodeid, 0, &h->file->ip), 0);
	fz_node_add_file(&fz, h->file);
}

/* FORGET of the last lookup may come before RELEASE or after it. */
static void forget(struct kernel *k, unsigned at)
{
	struct held h = k->held[at];

	k->held[at] = k->held[--k->nr];
	fz_node_forget(&fz, h.nodeid, 1);
	if (h.file)
		open_or_close(&h);
}

static void change_names(struct kernel *k, const char *name, const char *name2)
{
	struct fs_inode *gone = NULL, *ip;
	struct fs_ctx ctx = f.ctx;
	int err;

	ctx.gone = &gone;
	switch (rng_below(&k->rng, 4)) {
	case 0:
		err = fs_rename(&ctx, f.root, name, strlen(name), f.root, name2, strlen(name2), 0);
		break;
	case 1:
		err = fs_unlink(&ctx, f.root, name, strlen(name));
		break;
	case 2:
		err = fs_mknod(&ctx, f.root, name, strlen(name), S_IFREG | 0644, 0, 0, &ip);
		if (!err)
			hold(k, ip);
		break;
	default:
		err = fs_lookup(&ctx, f.root, name, strlen(name), &ip);
		if (err)
			break;
		/* While others may remove ip from where it was found. */
		err = fs_link(&ctx, ip, f.root, name2, strlen(name2));
		hold(k, ip);
	}
	if (gone)
		fz_node_nameless(&fz, gone);
	ck_assert_msg(err == 0 || err == -ENOENT || err == -EEXIST, "%s: %d", name, err);
}

static void *kernel_main(void *arg)
{
	struct kernel *k = arg;
	struct fs_inode *ip;
	char name[2][16];

	for (unsigned i = 0; i < NR_OPS; i++) {
		for (unsigned n = 0; n < 2; n++)
			snprintf(name[n], sizeof(name[n]), "n%u", (unsigned)rng_below(&k->rng, NR_NAMES));
		if (k->nr == NR_HELD || (k->nr && rng_below(&k->rng, 5) == 0))
			forget(k, (unsigned)rng_below(&k->rng, k->nr));
		if (k->nr && rng_below(&k->rng, 2))
			look_at(k, &k->held[rng_below(&k->rng, k->nr)]);
		if (k->nr && rng_below(&k->rng, 4) == 0)
			open_or_close(&k->held[rng_below(&k->rng, k->nr)]);
		if (rng_below(&k->rng, 2)) {
			change_names(k, name[0], name[1]);
		} else if (k->nr < NR_HELD) {
			struct fs_ctx ctx = f.ctx;

			if (fs_lookup(&ctx, f.root, name[0], strlen(name[0]), &ip) == 0)
				hold(k, ip);
		}
	}
	while (k->nr)
		forget(k, k->nr - 1);
	return NULL;
}

static _Atomic bool stop;

static void *evict_main(void *arg)
{
	while (!atomic_load(&stop)) {
		fs_drop_caches(f.fs);
		usleep(200);
	}
	return NULL;
}

START_TEST(test_threads)
{
	struct kernel k[NR_THREADS] = {0};
	uint64_t seed = unit_seed(77), left = 0;
	pthread_t evictor;
	char name[16];

	inodes_before = inodes_used();
	atomic_store(&stop, false);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		rng_seed(&k[i].rng, seed + i);
		pthread_create(&k[i].thread, NULL, kernel_main, &k[i]);
	}
	pthread_create(&evictor, NULL, evict_main, NULL);
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(k[i].thread, NULL);
	atomic_store(&stop, true);
	pthread_join(evictor, NULL);
	for (unsigned i = 0; i < NR_NAMES; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		left += unlink_as_daemon(name) == 0;
	}
	ck_assert_uint_gt(left, 0);
}
END_TEST

/* ---- Tokens ------------------------------------------------------------------------------ */

static struct fz_file *open_file(struct fs_inode *ip, unsigned flags)
{
	struct fz_file *h = calloc(1, sizeof(*h));

	ck_assert_ptr_nonnull(h);
	ck_assert_int_eq(fs_open(&f.ctx, ip, flags, &h->file), 0);
	h->ip = ip;
	h->ino = fs_ino(ip);
	fz_node_add_file(&fz, h);
	return h;
}

static void close_file(struct fz_file *h)
{
	fz_node_del_file(&fz, h);
	fz_file_close(h);
}

/* A token stands for one handle, and for as long as that is open; also of a file without a name. */
START_TEST(test_tokens)
{
	struct fs_inode *ip = filefs_create(&f, "a"), *got;
	struct fz_file *one = open_file(ip, O_RDONLY), *two = open_file(ip, O_RDONLY);
	uint64_t ino = fs_ino(ip), id = fz_node_add(&fz, ip);
	uint8_t a[16], b[16], zero[16] = { 0 };

	/* Nobody asked yet: the empty one is none. */
	ck_assert_int_eq(fz_node_by_token(&fz, ino, zero, &got), -ESTALE);
	ck_assert_int_eq(fz_file_token(&fz, one, a), 0);
	ck_assert_int_eq(fz_file_token(&fz, two, b), 0);
	ck_assert_mem_ne(a, b, sizeof(a));
	ck_assert_mem_ne(a, zero, sizeof(a));
	ck_assert_int_eq(fz_file_token(&fz, one, b), 0);
	ck_assert_mem_eq(a, b, sizeof(a));
	ck_assert_int_eq(fz_node_by_token(&fz, ino, zero, &got), -ESTALE);
	ck_assert_int_eq(fz_node_by_token(&fz, ino + 1, a, &got), -ESTALE);
	ck_assert_int_eq(unlink_as_daemon("a"), 0);
	ck_assert_int_eq(fz_node_by_token(&fz, ino, a, &got), 0);
	ck_assert_ptr_eq(got, ip);
	/* The reference outlives the handle, the token does not. */
	close_file(one);
	ck_assert_uint_eq(fs_ino(got), ino);
	fs_iput(got);
	ck_assert_int_eq(fz_node_by_token(&fz, ino, a, &got), -ESTALE);
	close_file(two);
	fz_node_forget(&fz, id, 1);
}
END_TEST

/* swapon(2) and what others open and close meanwhile: the pin is on its own handle, and ends with it. */
START_TEST(test_swap_pins)
{
	struct fs_inode *ip = filefs_create(&f, "a");
	struct fz_file *old = open_file(ip, O_RDWR), *swap = open_file(ip, O_RDWR), *later;
	uint64_t id = fz_node_add(&fz, ip);

	later = open_file(ip, O_RDONLY);
	old->pid = 10, swap->pid = 20, later->pid = 30;
	fz_node_swap_pin(&fz, id, 20);
	fz_node_swap_pin(&fz, id, 20);
	ck_assert(!old->file->swap_pinned && swap->file->swap_pinned && !later->file->swap_pinned);
	close_file(later);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, 4096), -ETXTBSY);
	close_file(swap);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, 4096), 0);
	/* A descriptor that somebody else opened, or a thread that cannot be named: the newest. */
	later = open_file(ip, O_RDONLY);
	fz_node_swap_pin(&fz, id, 99);
	ck_assert(!old->file->swap_pinned && later->file->swap_pinned);
	close_file(later);
	fz_node_swap_pin(&fz, id, 0);
	ck_assert(old->file->swap_pinned);
	close_file(old);
	fz_node_forget(&fz, id, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fuse-nodes");
	TCase *t = tcase_create("nodes");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_no_inode_kept);
	tcase_add_loop_test(t, test_nameless_lives, 0, 2);
	tcase_add_test(t, test_rename_over);
	tcase_add_test(t, test_reuse_is_stale);
	tcase_add_test(t, test_tmpfile_gets_a_name);
	tcase_add_test(t, test_tokens);
	tcase_add_test(t, test_swap_pins);
	tcase_add_test(t, test_threads);
	suite_add_tcase(s, t);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* The table of in-core inodes: its share of the memory, and what an eviction may not lose. */
#include <string.h>

#include "ft.h"

static struct fs_ctx ctx0 = { .umask = 022 };

/* ---- Its share ------------------------------------------------------------------------- */

#define NR_THREADS 3u
#define NR_FILES   5000u
#define MEMORY     (16ull << 20)
/*
 * An eighth of the memory holds so many and no more, since none is smaller. Inodes come a little
 * faster than they are evicted, and unevenly: half as many again are allowed for that.
 */
#define INODES_MAX (MEMORY / 8 / sizeof(struct fs_inode) * 3 / 2)

struct walker {
	struct fs *fs;
	struct fs_inode *dir;
	pthread_t thread;
	uint64_t most;
};

static void watch(struct walker *w, unsigned i)
{
	struct fs_stats st;

	if (i % 16)
		return;
	fs_get_stats(w->fs, &st);
	w->most = MAX(w->most, st.icache_inodes);
}

/* As the daemon does: first without waiting, and then as told. */
static int make_or_look(struct walker *w, const char *name, bool make, unsigned flags,
			struct fs_inode **out)
{
	struct fs_ctx ctx = ctx0;

	ctx.flags = flags;
	if (make)
		return fs_mknod(&ctx, w->dir, name, strlen(name), S_IFREG | 0644, 0, 0, out);
	return fs_lookup(&ctx, w->dir, name, strlen(name), out);
}

static void *walk_main(void *arg)
{
	struct walker *w = arg;
	char name[16];

	for (unsigned turn = 0; turn < 2; turn++) {
		for (unsigned i = 0; i < NR_FILES; i++) {
			struct fs_inode *ip;
			int err;

			snprintf(name, sizeof(name), "f%u", i);
			err = make_or_look(w, name, turn == 0, FS_NOWAIT, &ip);
			if (err == -EAGAIN)
				err = make_or_look(w, name, turn == 0, 0, &ip);
			ck_assert_int_eq(err, 0);
			fs_iput(ip);
			watch(w, i);
		}
	}
	return NULL;
}

START_TEST(test_share)
{
	struct walker w[NR_THREADS];
	struct fs_inode *root;
	struct ft t;
	char name[8];

	ft_make(&t, 128 << 20, 12);
	t.opts.memory_bytes = MEMORY;
	ft_mount(&t);
	ck_assert_int_eq(fs_iget(t.fs, FS_ROOT_INO, 0, &root), 0);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		w[i] = (struct walker){ .fs = t.fs };
		snprintf(name, sizeof(name), "d%u", i);
		ck_assert_int_eq(fs_mkdir(&ctx0, root, name, strlen(name), 0755, &w[i].dir), 0);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_create(&w[i].thread, NULL, walk_main, &w[i]);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		ck_assert_uint_le(w[i].most, INODES_MAX);
		/* And no fewer than is useful. */
		ck_assert_uint_ge(w[i].most, INODES_MAX / 4);
		fs_iput(w[i].dir);
	}
	fs_iput(root);
	ft_unmount_keep(&t);
	ft_check(t.bd);
	ft_end(&t);
}
END_TEST

/* ---- What is lost with the copy in memory --------------------------------------------------- */

static void write_block(struct fs_inode *ip, uint64_t pos)
{
	static char data[4096] = "x";
	struct iovec iov = { data, sizeof(data) };
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos };
	struct iov_iter from;

	iov_iter_init(&from, &iov, 1, sizeof(data));
	ck_assert_int_eq(fs_write_iter(&ctx0, &iocb, &from, false), sizeof(data));
}

/*
 * A truncation that failed half way stays on the orphan list; that the inode is there is known
 * to its copy in memory alone. The next truncation, and the removal, find it listed.
 */
START_TEST(test_listed_before_eviction)
{
	struct fs_attr a = { .size = 5000 };
	struct fs_inode *root, *ip;
	struct jnl_handle *h;
	struct ft t;

	ft_make(&t, 64 << 20, 12);
	ft_mount(&t);
	ck_assert_int_eq(fs_iget(t.fs, FS_ROOT_INO, 0, &root), 0);
	ck_assert_int_eq(fs_mknod(&ctx0, root, "f", 1, S_IFREG | 0644, 0, 0, &ip), 0);
	for (unsigned i = 0; i < 8; i++)
		write_block(ip, i * 8192);
	ck_assert_int_eq(fs_sync(t.fs), 0);
	ck_assert_int_eq(orphan_prepare(ip, 0), 0);
	ck_assert_int_eq(jnl_start(t.fs->jnl, orphan_credits(t.fs), 0, &h), 0);
	ck_assert_int_eq(orphan_add(h, ip, OD_ORPHAN_TRUNCATE), 0);
	jnl_stop(h);
	fs_iput(ip);
	fs_iput(root);
	/* A folio that its last write still holds keeps an inode for a moment. */
	ck_assert_int_eq(fs_quiesce(t.fs), 0);
	fs_drop_caches(t.fs);
	ck_assert_int_eq(fs_iget(t.fs, FS_ROOT_INO, 0, &root), 0);
	ck_assert_int_eq(fs_lookup(&ctx0, root, "f", 1, &ip), 0);
	ck_assert_uint_eq(atomic_load(&ip->state) & FS_I_TRUNCATE, 0);
	if (_i == 0)
		ck_assert_int_eq(fs_setattr(&ctx0, ip, FS_SET_SIZE, &a, NULL), 0);
	else
		ck_assert_int_eq(fs_unlink(&ctx0, root, "f", 1), 0);
	fs_iput(ip);
	fs_iput(root);
	ft_unmount_keep(&t);
	ft_check(t.bd);
	ft_end(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-icache");
	TCase *t = tcase_create("icache");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_share);
	tcase_add_loop_test(t, test_listed_before_eviction, 0, 2);
	suite_add_tcase(s, t);
	return unit_run(s);
}

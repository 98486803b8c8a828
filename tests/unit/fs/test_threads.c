/* SPDX-License-Identifier: MIT */
/*
 * Many threads make, write and remove files while others sync, trim, evict and look. The
 * rank checks of debug builds watch the lock order; in the end the checker must be content
 * and all space back.
 */
#include <stdio.h>
#include <unistd.h>

#include "ft.h"

#define NR_WORKERS 4
#define NR_OPS 3000u
#define NR_NAMES 700u

static struct fs_ctx ctx0 = { .uid = 0, .gid = 0, .umask = 022 };

struct worker {
	struct fs *fs;
	struct fs_inode *dir;
	uint64_t seed;
	unsigned nr_enospc;
};

static int write_some(struct fs_inode *ip, uint64_t pos, size_t len)
{
	static const char data[40000] = "x";
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos,
			      .ki_flags = IOCB_WRITE };
	struct iov_iter from;
	int64_t n;

	iov_iter_init(&from, &iov, 1, len);
	n = fs_write_iter(&ctx0, &iocb, &from, false);
	return n < 0 ? (int)n : 0;
}

static int use_file(struct worker *w, struct fs_inode *ip, struct rng *rng)
{
	struct fs_attr a = { .size = rng_below(rng, 50000), .mode = 0600 };
	int err = write_some(ip, rng_below(rng, 300000), 20000 + rng_below(rng, 19999));

	if (!err && rng_below(rng, 6) == 0)
		err = fs_setattr(&ctx0, ip, FS_SET_SIZE | FS_SET_MTIME_NOW, &a, NULL);
	if (!err && rng_below(rng, 4) == 0)
		err = fs_setattr(&ctx0, ip, FS_SET_MODE, &a, &a);
	fs_touch_atime(ip);
	return err;
}

static void *work_main(void *arg)
{
	struct worker *w = arg;
	struct rng rng;
	char name[24];

	rng_seed(&rng, w->seed);
	for (unsigned op = 0; op < NR_OPS; op++) {
		struct fs_inode *ip = NULL;
		int err;

		snprintf(name, sizeof(name), "n%u", (unsigned)rng_below(&rng, NR_NAMES));
		err = fs_lookup(&ctx0, w->dir, name, strlen(name), &ip);
		if (err == -ENOENT)
			err = fs_mknod(&ctx0, w->dir, name, strlen(name), S_IFREG | 0644, 0, 0, &ip);
		else if (!err && rng_below(&rng, 3) == 0)
			err = fs_unlink(&ctx0, w->dir, name, strlen(name));
		if (!err && ip)
			err = use_file(w, ip, &rng);
		if (ip)
			fs_iput(ip);
		/* The other thread of the directory may have been faster. */
		if (err == -EEXIST || err == -ENOENT)
			continue;
		if (err == -ENOSPC)
			w->nr_enospc++;
		else
			ck_assert_msg(err == 0, "%s: %s", name, strerror(-err));
	}
	return NULL;
}

static _Atomic bool stop;

static void *noise_main(void *arg)
{
	struct fs *fs = arg;

	while (!atomic_load(&stop)) {
		struct statvfs st;
		struct fs_stats stats;
		uint64_t trimmed;
		int err;

		ck_assert_int_eq(fs_sync(fs), 0);
		ck_assert_int_eq(fs_statfs(fs, &st), 0);
		ck_assert_uint_le(st.f_bfree, st.f_blocks);
		fs_get_stats(fs, &stats);
		err = fs_trim(fs, 0, UINT64_MAX, 0, &trimmed);
		ck_assert(err == 0 || err == -EOPNOTSUPP);
		fs_drop_caches(fs);
		usleep(2000);
	}
	return NULL;
}

/* Loop 0: a roomy device; 1: one that is full most of the time; 2: with discard. */
START_TEST(test_threads)
{
	struct worker w[NR_WORKERS];
	pthread_t threads[NR_WORKERS], noise;
	struct statvfs before, after;
	struct fs_inode *root;
	uint64_t seed = unit_seed(21);
	struct ft t;
	char name[24];

	ft_make(&t, (_i == 1 ? 24 : 160) << 20, 12);
	t.opts.discard = _i == 2;
	t.opts.commit_interval_ms = 20;
	ft_mount(&t);
	ck_assert_int_eq(fs_statfs(t.fs, &before), 0);
	ck_assert_int_eq(fs_iget(t.fs, FS_ROOT_INO, 0, &root), 0);
	atomic_store(&stop, false);
	for (unsigned i = 0; i < NR_WORKERS; i++) {
		w[i] = (struct worker){ .fs = t.fs, .seed = seed + i };
		snprintf(name, sizeof(name), "d%u", i / 2);
		/* Two threads share a directory. */
		if (i % 2 == 0)
			ck_assert_int_eq(fs_mkdir(&ctx0, root, name, strlen(name), 0755, &w[i].dir), 0);
		else
			ck_assert_int_eq(fs_lookup(&ctx0, root, name, strlen(name), &w[i].dir), 0);
	}
	for (unsigned i = 0; i < NR_WORKERS; i++)
		pthread_create(&threads[i], NULL, work_main, &w[i]);
	pthread_create(&noise, NULL, noise_main, t.fs);
	for (unsigned i = 0; i < NR_WORKERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&stop, true);
	pthread_join(noise, NULL);
	ck_assert(!fs_is_shutdown(t.fs));
	if (_i == 1)
		ck_assert_uint_gt(w[0].nr_enospc + w[1].nr_enospc, 0);
	for (unsigned i = 0; i < NR_WORKERS; i++) {
		for (unsigned k = 0; k < NR_NAMES; k++) {
			int err;

			snprintf(name, sizeof(name), "n%u", k);
			err = fs_unlink(&ctx0, w[i].dir, name, strlen(name));
			ck_assert(err == 0 || err == -ENOENT);
		}
		fs_iput(w[i].dir);
	}
	for (unsigned i = 0; i < NR_WORKERS / 2; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		ck_assert_int_eq(fs_rmdir(&ctx0, root, name, strlen(name)), 0);
	}
	fs_iput(root);
	ck_assert_int_eq(fs_quiesce(t.fs), 0);
	ck_assert_int_eq(fs_statfs(t.fs, &after), 0);
	ck_assert_uint_eq(before.f_bfree, after.f_bfree);
	ft_unmount_keep(&t);
	ft_check(t.bd);
	ft_end(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-threads");
	TCase *tc = tcase_create("threads");

	tcase_set_timeout(tc, 100);
	tcase_add_loop_test(tc, test_threads, 0, 3);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* Mounts: messages, superblock copies, remounts, everything deleted, power cuts. */
#include <fcntl.h>
#include <sys/stat.h>

#include "ft.h"

static struct fs_ctx ctx0 = { .uid = 0, .gid = 0, .umask = 022 };

static int make_file(struct fs *fs, struct fs_inode *dir, const char *name, size_t bytes)
{
	struct fs_inode *ip;
	static char data[64 << 10];
	int err = fs_mknod(&ctx0, dir, name, strlen(name), S_IFREG | 0644, 0, 0, &ip);

	if (err)
		return err;
	for (size_t at = 0; at < bytes;) {
		struct iovec iov = { data, MIN(bytes - at, sizeof(data)) };
		struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = at,
				      .ki_flags = IOCB_WRITE };
		struct iov_iter from;
		int64_t n;

		memset(data, (int)(at >> 16) + name[0], iov.iov_len);
		iov_iter_init(&from, &iov, 1, iov.iov_len);
		n = fs_write_iter(&ctx0, &iocb, &from, false);
		if (n <= 0) {
			err = (int)n;
			break;
		}
		at += (size_t)n;
	}
	fs_iput(ip);
	return err;
}

static int remove_file(struct fs_inode *dir, const char *name)
{
	return fs_unlink(&ctx0, dir, name, strlen(name));
}

static struct fs_inode *root_of(struct fs *fs)
{
	struct fs_inode *root;

	ck_assert_int_eq(fs_iget(fs, FS_ROOT_INO, 0, &root), 0);
	return root;
}

/* Random creations, directories and removals; then everything goes and all space is back. */
START_TEST(test_space_comes_back)
{
	static const unsigned shifts[] = { 12, 10, 14, 16 };
	struct statvfs before, after;
	struct fs_inode *root;
	struct rng rng;
	struct ft t;
	char name[32];
	bool have[400] = { false };

	rng_seed(&rng, unit_seed(11));
	ft_make(&t, 128 << 20, shifts[_i]);
	ft_mount(&t);
	ck_assert_int_eq(fs_statfs(t.fs, &before), 0);
	root = root_of(t.fs);
	for (unsigned op = 0; op < 1500; op++) {
		unsigned i = (unsigned)rng_below(&rng, ARRAY_SIZE(have));

		snprintf(name, sizeof(name), "f%u", i);
		if (have[i])
			ck_assert_int_eq(remove_file(root, name), 0);
		else
			ck_assert_int_eq(make_file(t.fs, root, name, rng_below(&rng, 200000)), 0);
		have[i] = !have[i];
		if (op % 300 == 299)
			ck_assert_int_eq(fs_sync(t.fs), 0);
	}
	fs_iput(root);
	ft_unmount_keep(&t);
	ft_check(t.bd);
	ft_mount(&t);
	root = root_of(t.fs);
	for (unsigned i = 0; i < ARRAY_SIZE(have); i++) {
		snprintf(name, sizeof(name), "f%u", i);
		if (have[i])
			ck_assert_int_eq(remove_file(root, name), 0);
	}
	fs_iput(root);
	ck_assert_int_eq(fs_quiesce(t.fs), 0);
	ck_assert_int_eq(fs_statfs(t.fs, &after), 0);
	ck_assert_uint_eq(before.f_bfree, after.f_bfree);
	ck_assert_uint_eq(before.f_bavail, after.f_bavail);
	ck_assert_uint_eq(before.f_files - before.f_ffree, after.f_files - after.f_ffree);
	ft_unmount_keep(&t);
	ft_check(t.bd);
	ft_end(&t);
}
END_TEST

/* Fill to the last block: -ENOSPC from write, everything still deletable, all space back. */
START_TEST(test_full)
{
	struct statvfs before, after;
	struct fs_inode *root;
	struct ft t;
	char name[32];
	unsigned n = 0;
	int err;

	ft_make(&t, 24 << 20, 12);
	ft_mount(&t);
	ck_assert_int_eq(fs_statfs(t.fs, &before), 0);
	root = root_of(t.fs);
	do {
		snprintf(name, sizeof(name), "f%u", n++);
		err = make_file(t.fs, root, name, n % 3 ? 9000 : 300000);
	} while (!err);
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_int_eq(fs_sync(t.fs), 0);
	ck_assert(!fs_is_shutdown(t.fs));
	/* Every second one goes, then small ones fill the holes, then all go. */
	for (unsigned i = 0; i + 1 < n; i += 2) {
		snprintf(name, sizeof(name), "f%u", i);
		ck_assert_int_eq(remove_file(root, name), 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		ck_assert_int_eq(make_file(t.fs, root, name, 5000), 0);
	}
	ck_assert_int_eq(fs_sync(t.fs), 0);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		ck_assert_int_eq(remove_file(root, name), 0);
	}
	for (unsigned i = 1; i < n; i += 2) {
		snprintf(name, sizeof(name), "f%u", i);
		err = remove_file(root, name);
		ck_assert(err == 0 || (i + 1 == n && err == -ENOENT));
	}
	if (n % 2) {
		snprintf(name, sizeof(name), "f%u", n - 1);
		err = remove_file(root, name);
		ck_assert(err == 0 || err == -ENOENT);
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

/* A damaged superblock: the copy serves. Nothing at all: a message and nothing written. */
START_TEST(test_superblock)
{
	struct ft t;
	char *base;

	ft_make(&t, 1024ull << 20, 12);
	base = bd_mem_base(t.bd);
	base[200] ^= 1;
	log_set_level(LOG_LVL_ERR);
	ft_mount(&t);
	ck_assert_int_eq(fs_tune(t.fs, &(struct fs_tune_args){ .label = "renewed", .uuid = NULL }), 0);
	ck_assert_str_eq(fs_sb(t.fs)->label, "renewed");
	ft_unmount_keep(&t);
	base = bd_mem_base(t.bd);
	ft_mount(&t);
	ck_assert_str_eq(fs_sb(t.fs)->label, "renewed");
	ft_end(&t);

	ck_assert_int_eq(bd_mem_create(32 << 20, 512, &t.bd), 0);
	t.fs = NULL;
	ck_assert_int_eq(fs_mount(t.bd, &t.opts, &t.fs, &t.err), -EMEDIUMTYPE);
	ck_assert_ptr_nonnull(strstr(t.err.text, "no iomapfs"));
	ft_end(&t);
	log_set_level(LOG_LVL_INFO);
}
END_TEST

START_TEST(test_readonly)
{
	struct ft t;
	struct fs_inode *root;
	struct fs_mount_opts rw = { 0 };

	ft_make(&t, 64 << 20, 12);
	ft_mount(&t);
	root = root_of(t.fs);
	ck_assert_int_eq(make_file(t.fs, root, "a", 100000), 0);
	t.opts.readonly = true;
	ck_assert_int_eq(fs_remount(t.fs, &t.opts, &t.err), 0);
	ck_assert_int_eq(make_file(t.fs, root, "b", 1), -EROFS);
	ck_assert_int_eq(fs_remount(t.fs, &rw, &t.err), 0);
	ck_assert_int_eq(make_file(t.fs, root, "b", 1), 0);
	fs_iput(root);
	ft_unmount_keep(&t);
	ft_mount(&t); /* read-only from the start */
	root = root_of(t.fs);
	ck_assert_int_eq(remove_file(root, "a"), -EROFS);
	fs_iput(root);
	t.opts.norecovery = true;
	t.opts.readonly = false;
	ck_assert_int_eq(fs_unmount(t.fs), 0);
	ck_assert_int_eq(bd_mem_create(32 << 20, 512, &t.bd), 0);
	t.fs = NULL;
	ck_assert_int_eq(fs_mount(t.bd, &t.opts, &t.fs, &t.err), -EINVAL);
	ft_end(&t);
}
END_TEST

/* What can still be read is read: ro goes on where a mount for writing is refused with advice. */
START_TEST(test_damaged_mounts_readonly)
{
	static const char *const what[] = { "group", "journal", "both" };
	struct fs_inode *root, *ip;
	struct statvfs st;
	struct sb_info sb;
	struct ft t;
	uint8_t *base;

	ft_make(&t, 64 << 20, 12);
	ft_mount(&t);
	root = root_of(t.fs);
	ck_assert_int_eq(make_file(t.fs, root, "a", 100000), 0);
	fs_iput(root);
	sb = *fs_sb(t.fs);
	ft_unmount_keep(&t);
	ck_assert_uint_ge(sb.nr_ags, 2);
	base = bd_mem_base(t.bd);
	if (strcmp(what[_i], "journal") != 0) {
		uint64_t ag = sb.ag_blocks << sb.block_shift;

		base[ag + (OD_AG_HDR_MBLK << OD_MBLK_SHIFT) + 100] ^= 1;
	}
	if (strcmp(what[_i], "group") != 0)
		base[(sb.jnl_start << OD_MBLK_SHIFT) + 65] ^= 1;
	log_set_level(LOG_LVL_ERR - 1);
	ck_assert_int_eq(fs_mount(t.bd, &t.opts, &t.fs, &t.err), -EFSCORRUPTED);
	ck_assert_msg(strstr(t.err.text, "fsck.iomapfs") && strstr(t.err.text, "-o ro"), "%s",
		      t.err.text);
	t.opts.readonly = true;
	ft_mount(&t);
	log_set_level(LOG_LVL_INFO);
	root = root_of(t.fs);
	ck_assert_int_eq(fs_lookup(&(struct fs_ctx){ 0 }, root, "a", 1, &ip), 0);
	fs_iput(ip);
	ck_assert_int_eq(fs_statfs(t.fs, &st), 0);
	fs_iput(root);
	ft_end(&t);
}
END_TEST

/* Cut the power at random writes of a busy run; every survivor mounts and checks clean. */
START_TEST(test_power_cut)
{
	uint64_t seed = unit_seed(5) + (uint64_t)_i * 1000;
	struct rng rng;

	rng_seed(&rng, seed);
	for (unsigned round = 0; round < 6; round++) {
		struct bd *mem, *crash;
		struct fs_inode *root;
		struct ft t;
		char name[32];
		int err = 0;

		ft_make(&t, 32 << 20, 12);
		mem = t.bd;
		ck_assert_int_eq(bd_crash_create(mem, &crash), 0);
		t.bd = crash;
		log_set_level(LOG_LVL_ERR - 1);
		ft_mount(&t);
		bd_crash_arm(crash, bd_crash_nr_writes(crash) + 1 + rng_below(&rng, 1500), seed);
		root = root_of(t.fs);
		for (unsigned op = 0; op < 600 && !fs_is_shutdown(t.fs); op++) {
			snprintf(name, sizeof(name), "f%u", (unsigned)rng_below(&rng, 60));
			err = make_file(t.fs, root, name, rng_below(&rng, 60000));
			if (err == -EEXIST)
				err = remove_file(root, name);
			if (op % 40 == 0)
				err = fs_sync(t.fs);
		}
		fs_iput(root);
		/* Ends the cut device as well; what survived is in the lower one. */
		bd_crash_cut(crash, seed);
		{
			char *copy = malloc(32 << 20);

			memcpy(copy, bd_mem_base(mem), 32 << 20);
			(void)fs_unmount(t.fs);
			ck_assert_int_eq(bd_mem_create(32 << 20, 512, &t.bd), 0);
			memcpy(bd_mem_base(t.bd), copy, 32 << 20);
			free(copy);
		}
		t.fs = NULL;
		log_set_level(LOG_LVL_INFO);
		ft_mount(&t);
		root = root_of(t.fs);
		ck_assert_int_eq(fs_quiesce(t.fs), 0);
		fs_iput(root);
		ft_unmount_keep(&t);
		ft_check(t.bd);
		ft_end(&t);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-mount");
	TCase *tc = tcase_create("mount");

	tcase_set_timeout(tc, 100);
	tcase_add_loop_test(tc, test_space_comes_back, 0, 4);
	tcase_add_test(tc, test_full);
	tcase_add_test(tc, test_superblock);
	tcase_add_test(tc, test_readonly);
	tcase_add_loop_test(tc, test_damaged_mounts_readonly, 0, 3);
	tcase_add_loop_test(tc, test_power_cut, 0, 3);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* Operations on names: what each does, and every error it can give. */
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>

#include "names_fx.h"

static struct fx x;

static void setup(void)
{
	fx_make(&x, 64u << 20);
}

static void teardown(void)
{
	fx_end(&x);
}

static void flags_set(struct fs_inode *ip, uint32_t flags, uint32_t projid)
{
	ck_assert_int_eq(fs_set_flags(&x.ctx, ip, flags, projid), 0);
}

static int make(struct fs_inode *dir, const char *name, mode_t mode, struct fs_inode **ip)
{
	return fs_mknod(&x.ctx, dir, name, strlen(name), mode, 0, 0, ip);
}

START_TEST(test_create)
{
	static const mode_t types[] = { S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK };
	char name[260];
	struct fs_inode *ip, *d;
	struct fs_attr a, before = fx_attr(&x, x.root);

	x.ctx.uid = 7;
	x.ctx.gid = 8;
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		snprintf(name, sizeof(name), "t%u", i);
		ck_assert_int_eq(fs_mknod(&x.ctx, x.root, name, 2, types[i] | 0666, 11, 22, &ip), 0);
		a = fx_attr(&x, ip);
		ck_assert_uint_eq(a.mode, types[i] | 0644);
		ck_assert_uint_eq(a.nlink, 1);
		ck_assert_uint_eq(a.uid, 7);
		ck_assert_uint_eq(a.gid, 8);
		ck_assert_uint_eq(a.rdev_major, S_ISCHR(a.mode) || S_ISBLK(a.mode) ? 11 : 0);
		ck_assert_uint_eq(a.size, 0);
		fs_iput(ip);
	}
	a = fx_attr(&x, x.root);
	ck_assert_uint_gt(a.version, before.version);
	ck_assert_uint_eq(a.size, 4096);
	ck_assert_int_eq(make(x.root, "t0", S_IFREG, &ip), -EEXIST);
	ck_assert_int_eq(make(x.root, ".", S_IFREG, &ip), -EEXIST);
	ck_assert_int_eq(make(x.root, "", S_IFREG, &ip), -EINVAL);
	ck_assert_int_eq(make(x.root, "a/b", S_IFREG, &ip), -EINVAL);
	ck_assert_int_eq(make(x.root, "d", S_IFDIR, &ip), -EPERM);
	memset(name, 'n', sizeof(name));
	ck_assert_int_eq(fs_mknod(&x.ctx, x.root, name, 256, S_IFREG, 0, 0, &ip), -ENAMETOOLONG);
	ck_assert_int_eq(fs_mknod(&x.ctx, x.root, name, 255, S_IFREG, 0, 0, &ip), 0);
	ck_assert_int_eq(make(ip, "below", S_IFREG, &d), -ENOTDIR);
	ck_assert_int_eq(fs_lookup(&x.ctx, ip, "below", 5, &d), -ENOTDIR);
	fs_iput(ip);
	ck_assert_int_eq(fs_lookup(&x.ctx, x.root, name, 256, &d), -ENAMETOOLONG);
	ck_assert_int_eq(fs_lookup(&x.ctx, x.root, "none", 4, &d), -ENOENT);
	/* A directory that is gone takes no names. */
	d = fx_mkdir(&x, x.root, "gone");
	ck_assert_int_eq(fx_rmdir(&x, x.root, "gone"), 0);
	ck_assert_int_eq(make(d, "f", S_IFREG, &ip), -ENOENT);
	ck_assert_int_eq(fs_mkdir(&x.ctx, d, "f", 1, 0755, &ip), -ENOENT);
	ck_assert_int_eq(fs_tmpfile(&x.ctx, d, 0600, &ip), -ENOENT);
	fs_iput(d);
}
END_TEST

START_TEST(test_inheritance)
{
	struct fs_inode *d, *ip;
	struct fs_attr a = { .mode = S_ISGID | 0775 }, out;

	x.ctx.gid = 5;
	d = fx_mkdir(&x, x.root, "d");
	ck_assert_int_eq(fs_setattr(&x.ctx, d, FS_SET_MODE, &a, &out), 0);
	flags_set(d, OD_FL_PROJINHERIT | OD_FL_NODUMP | OD_FL_DIRSYNC, 77);
	x.ctx.gid = 6;
	ck_assert_int_eq(make(d, "f", S_IFREG | 0666, &ip), 0);
	a = fx_attr(&x, ip);
	ck_assert_uint_eq(a.gid, 5);
	ck_assert_uint_eq(a.mode, S_IFREG | 0644);
	ck_assert_uint_eq(a.projid, 77);
	ck_assert_uint_eq(a.flags, OD_FL_NODUMP);
	fs_iput(ip);
	ip = fx_mkdir(&x, d, "s");
	a = fx_attr(&x, ip);
	ck_assert_uint_eq(a.gid, 5);
	ck_assert_uint_eq(a.mode, S_IFDIR | S_ISGID | 0755);
	ck_assert_uint_eq(a.flags, OD_FL_PROJINHERIT | OD_FL_NODUMP | OD_FL_DIRSYNC);
	fs_iput(ip);
	/* Another project's file does not come in by another name. */
	ck_assert_int_eq(make(x.root, "other", S_IFREG | 0666, &ip), 0);
	ck_assert_int_eq(fs_link(&x.ctx, ip, d, "l", 1), -EXDEV);
	ck_assert_int_eq(fx_rename(&x, x.root, "other", d, "l", 0), -EXDEV);
	fs_iput(ip);
	fs_iput(d);
}
END_TEST

START_TEST(test_flags)
{
	struct fs_inode *d, *ip, *f;

	d = fx_mkdir(&x, x.root, "d");
	ck_assert_int_eq(make(d, "f", S_IFREG | 0600, &f), 0);
	flags_set(d, OD_FL_APPEND, 0);
	ck_assert_int_eq(fx_creat(&x, d, "g"), 0);
	ck_assert_int_eq(fx_unlink(&x, d, "g"), -EPERM);
	ck_assert_int_eq(fx_rename(&x, d, "g", x.root, "g", 0), -EPERM);
	ck_assert_int_eq(fx_rename(&x, x.root, "d", x.root, "e", 0), -EPERM);
	flags_set(d, OD_FL_IMMUTABLE, 0);
	ck_assert_int_eq(fx_creat(&x, d, "h"), -EPERM);
	ck_assert_int_eq(fx_creat(&x, d, "f"), -EEXIST);
	ck_assert_int_eq(fs_mkdir(&x.ctx, d, "h", 1, 0700, &ip), -EPERM);
	ck_assert_int_eq(fs_link(&x.ctx, f, d, "h", 1), -EPERM);
	ck_assert_int_eq(fs_tmpfile(&x.ctx, d, 0600, &ip), -EPERM);
	ck_assert_int_eq(fx_unlink(&x, d, "f"), -EPERM);
	ck_assert_int_eq(fx_rmdir(&x, x.root, "d"), -EPERM);
	ck_assert_int_eq(fs_setxattr(&x.ctx, d, "user.a", "b", 1, 0), -EPERM);
	flags_set(d, 0, 0);
	flags_set(f, OD_FL_IMMUTABLE, 0);
	ck_assert_int_eq(fx_unlink(&x, d, "f"), -EPERM);
	ck_assert_int_eq(fs_link(&x.ctx, f, d, "h", 1), -EPERM);
	ck_assert_int_eq(fx_rename(&x, d, "f", d, "h", 0), -EPERM);
	ck_assert_int_eq(fx_rename(&x, d, "g", d, "f", 0), -EPERM);
	flags_set(f, 0, 0);
	fs_iput(f);
	fs_iput(d);
}
END_TEST

START_TEST(test_link_unlink)
{
	struct fs_inode *f, *d, *ip;

	d = fx_mkdir(&x, x.root, "d");
	ck_assert_int_eq(make(x.root, "f", S_IFREG | 0600, &f), 0);
	ck_assert_int_eq(fs_link(&x.ctx, f, d, "g", 1), 0);
	ck_assert_int_eq(fs_link(&x.ctx, f, d, "g", 1), -EEXIST);
	ck_assert_int_eq(fs_link(&x.ctx, f, d, "..", 2), -EEXIST);
	ck_assert_int_eq(fs_link(&x.ctx, d, x.root, "h", 1), -EPERM);
	ck_assert_int_eq(fs_link(&x.ctx, f, f, "h", 1), -ENOTDIR);
	ck_assert_uint_eq(fx_attr(&x, f).nlink, 2);
	ip = fx_lookup(&x, d, "g");
	ck_assert_ptr_eq(ip, f);
	fs_iput(ip);
	ck_assert_int_eq(fx_unlink(&x, x.root, "f"), 0);
	ck_assert_int_eq(fx_unlink(&x, x.root, "f"), -ENOENT);
	ck_assert_int_eq(fx_unlink(&x, x.root, "d"), -EISDIR);
	ck_assert_int_eq(fx_unlink(&x, x.root, "."), -EISDIR);
	ck_assert_int_eq(fx_unlink(&x, f, "x"), -ENOTDIR);
	ck_assert_int_eq(fx_rmdir(&x, d, "g"), -ENOTDIR);
	ck_assert_int_eq(fx_rmdir(&x, x.root, "d"), -ENOTEMPTY);
	ck_assert_int_eq(fx_rmdir(&x, x.root, "."), -EINVAL);
	ck_assert_int_eq(fx_rmdir(&x, x.root, ".."), -ENOTEMPTY);
	ck_assert_int_eq(fx_unlink(&x, d, "g"), 0);
	/* Unlinked but open: it stays, and gets no name again. */
	ck_assert_uint_eq(fx_attr(&x, f).nlink, 0);
	ck_assert_int_eq(fs_link(&x.ctx, f, d, "g", 1), -ENOENT);
	fs_iput(f);
	ck_assert_uint_eq(fx_attr(&x, x.root).nlink, 3);
	ck_assert_int_eq(fx_rmdir(&x, x.root, "d"), 0);
	ck_assert_uint_eq(fx_attr(&x, x.root).nlink, 2);
	ck_assert_int_eq(fx_rmdir(&x, x.root, "d"), -ENOENT);
	fs_iput(d);
}
END_TEST

START_TEST(test_tmpfile)
{
	struct fs_inode *t, *ip;
	uint64_t free0 = fx_free(&x);

	ck_assert_int_eq(fs_tmpfile(&x.ctx, x.root, 0666, &t), 0);
	ck_assert_uint_eq(fx_attr(&x, t).nlink, 0);
	ck_assert_uint_eq(fx_attr(&x, t).mode, S_IFREG | 0644);
	ck_assert_int_eq(fs_link(&x.ctx, t, x.root, "t", 1), 0);
	ck_assert_uint_eq(fx_attr(&x, t).nlink, 1);
	fs_iput(t);
	ck_assert_int_eq(fx_exists(&x, x.root, "t"), 0);
	ck_assert_int_eq(fx_unlink(&x, x.root, "t"), 0);
	ck_assert_int_eq(fs_tmpfile(&x.ctx, x.root, 0666, &t), 0);
	ck_assert_int_eq(fs_tmpfile(&x.ctx, t, 0666, &ip), -ENOTDIR);
	fs_iput(t);
	ck_assert_uint_eq(fx_free(&x), free0);
}
END_TEST

START_TEST(test_symlink)
{
	static const size_t lens[] = { 1, 60, 376, 377, 4016, 4017, 4095 };
	uint64_t free0 = fx_free(&x);
	char target[PATH_MAX + 1], buf[PATH_MAX];
	struct fs_inode *ip;

	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		memset(target, 'a' + (int)i, sizeof(target));
		target[lens[i]] = '\0';
		ck_assert_int_eq(fs_symlink(&x.ctx, x.root, "s", 1, target, &ip), 0);
		ck_assert_uint_eq(fx_attr(&x, ip).size, lens[i]);
		ck_assert_uint_eq(fx_attr(&x, ip).mode, S_IFLNK | 0777);
		/* Attributes always find room, whatever the target takes. */
		ck_assert_int_eq(fs_setxattr(&x.ctx, ip, "trusted.t", "value", 5, 0), 0);
		fs_iput(ip);
		fx_remount(&x);
		ip = fx_lookup(&x, x.root, "s");
		ck_assert_int_eq(fs_readlink(&x.ctx, ip, buf, sizeof(buf)), (int64_t)lens[i]);
		ck_assert(memcmp(buf, target, lens[i]) == 0);
		memset(buf, 0, sizeof(buf));
		ck_assert_int_eq(fs_readlink(&x.ctx, ip, buf, 1), (int64_t)lens[i]);
		ck_assert_int_eq(buf[0], target[0]);
		ck_assert_int_eq(buf[1], 0);
		ck_assert_int_eq(fs_getxattr(&x.ctx, ip, "trusted.t", buf, 100), 5);
		fs_iput(ip);
		ck_assert_int_eq(fx_unlink(&x, x.root, "s"), 0);
	}
	memset(target, 'x', sizeof(target));
	target[PATH_MAX] = '\0';
	ck_assert_int_eq(fs_symlink(&x.ctx, x.root, "s", 1, target, &ip), -ENAMETOOLONG);
	ck_assert_int_eq(fs_symlink(&x.ctx, x.root, "s", 1, "", &ip), -ENOENT);
	ck_assert_int_eq(fs_readlink(&x.ctx, x.root, buf, sizeof(buf)), -EINVAL);
	ck_assert_uint_eq(fx_free(&x), free0);
}
END_TEST

START_TEST(test_rename_files)
{
	struct fs_inode *d, *a, *b, *ip;

	d = fx_mkdir(&x, x.root, "d");
	ck_assert_int_eq(make(x.root, "a", S_IFREG | 0600, &a), 0);
	ck_assert_int_eq(make(d, "b", S_IFREG | 0600, &b), 0);
	ck_assert_int_eq(fx_rename(&x, x.root, "a", x.root, "a2", 0), 0);
	ck_assert_int_eq(fx_exists(&x, x.root, "a"), -ENOENT);
	ck_assert_int_eq(fx_rename(&x, x.root, "a", d, "z", 0), -ENOENT);
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", d, "b", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", d, "z", RENAME_EXCHANGE), -ENOENT);
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", d, "b", RENAME_EXCHANGE | RENAME_NOREPLACE),
			 -EINVAL);
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", d, "b", 64), -EINVAL);
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", d, ".", 0), -EBUSY);
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", x.root, "d", 0), -EISDIR);
	ck_assert_int_eq(fx_rename(&x, x.root, "d", x.root, "a2", 0), -ENOTDIR);
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", d, "b", RENAME_EXCHANGE), 0);
	ip = fx_lookup(&x, x.root, "a2");
	ck_assert_ptr_eq(ip, b);
	fs_iput(ip);
	ip = fx_lookup(&x, d, "b");
	ck_assert_ptr_eq(ip, a);
	fs_iput(ip);
	/* Replaces: the last link of the target goes. */
	ck_assert_int_eq(fx_rename(&x, x.root, "a2", d, "b", 0), 0);
	ck_assert_uint_eq(fx_attr(&x, a).nlink, 0);
	ck_assert_uint_eq(fx_attr(&x, b).nlink, 1);
	/* Two names of one inode: nothing happens. */
	ck_assert_int_eq(fs_link(&x.ctx, b, x.root, "l", 1), 0);
	ck_assert_int_eq(fx_rename(&x, x.root, "l", d, "b", 0), 0);
	ck_assert_uint_eq(fx_attr(&x, b).nlink, 2);
	ck_assert_int_eq(fx_exists(&x, x.root, "l"), 0);
	fs_iput(a);
	/* A whiteout stays behind. */
	ck_assert_int_eq(fx_rename(&x, d, "b", x.root, "w", RENAME_WHITEOUT), 0);
	ip = fx_lookup(&x, d, "b");
	ck_assert_uint_eq(fx_attr(&x, ip).mode & S_IFMT, S_IFCHR);
	ck_assert_uint_eq(fx_attr(&x, ip).rdev_major + fx_attr(&x, ip).rdev_minor, 0);
	fs_iput(ip);
	/* Over a file, with whiteout. */
	ck_assert_int_eq(fx_creat(&x, x.root, "over"), 0);
	ck_assert_int_eq(fx_rename(&x, x.root, "w", x.root, "over", RENAME_WHITEOUT), 0);
	ip = fx_lookup(&x, x.root, "over");
	ck_assert_ptr_eq(ip, b);
	fs_iput(ip);
	fs_iput(b);
	fs_iput(d);
}
END_TEST

START_TEST(test_rename_dirs)
{
	struct fs_inode *a, *b, *c, *e;

	a = fx_mkdir(&x, x.root, "a");
	b = fx_mkdir(&x, a, "b");
	c = fx_mkdir(&x, b, "c");
	e = fx_mkdir(&x, x.root, "e");
	ck_assert_int_eq(fx_rename(&x, x.root, "a", c, "a", 0), -EINVAL);
	ck_assert_int_eq(fx_rename(&x, x.root, "a", b, "x", 0), -EINVAL);
	ck_assert_int_eq(fx_rename(&x, x.root, "a", a, "x", 0), -EINVAL);
	ck_assert_int_eq(fx_rename(&x, b, "c", x.root, "a", 0), -ENOTEMPTY);
	ck_assert_int_eq(fx_rename(&x, b, "c", x.root, "a", RENAME_EXCHANGE), -EINVAL);
	ck_assert_int_eq(fx_rename(&x, x.root, "e", x.root, "a", 0), -ENOTEMPTY);
	/* b moves to the root; its parent and the counts follow. */
	ck_assert_int_eq(fx_rename(&x, a, "b", x.root, "b", 0), 0);
	ck_assert_uint_eq(fs_parent_ino(b), fs_ino(x.root));
	ck_assert_uint_eq(fx_attr(&x, a).nlink, 2);
	ck_assert_uint_eq(fx_attr(&x, x.root).nlink, 5);
	/* Onto an empty directory, in the same and in another directory. */
	ck_assert_int_eq(fx_rename(&x, x.root, "b", x.root, "e", 0), 0);
	ck_assert_uint_eq(fx_attr(&x, e).nlink, 0);
	ck_assert_uint_eq(fx_attr(&x, x.root).nlink, 4);
	ck_assert_int_eq(fx_creat(&x, e, "dead"), -ENOENT);
	ck_assert_int_eq(fx_rename(&x, x.root, "a", e, "x", 0), -ENOENT);
	fs_iput(e);
	e = fx_mkdir(&x, a, "e");
	ck_assert_int_eq(fx_rename(&x, x.root, "e", a, "e", 0), 0);
	ck_assert_uint_eq(fx_attr(&x, x.root).nlink, 3);
	ck_assert_uint_eq(fx_attr(&x, a).nlink, 3);
	ck_assert_uint_eq(fs_parent_ino(b), fs_ino(a));
	/* Exchange of a directory and a file between directories. */
	ck_assert_int_eq(fx_creat(&x, x.root, "f"), 0);
	ck_assert_int_eq(fx_rename(&x, x.root, "f", a, "e", RENAME_EXCHANGE), 0);
	ck_assert_uint_eq(fs_parent_ino(b), fs_ino(x.root));
	ck_assert_uint_eq(fx_attr(&x, x.root).nlink, 4);
	ck_assert_uint_eq(fx_attr(&x, a).nlink, 2);
	fs_iput(a);
	fs_iput(b);
	fs_iput(c);
	fs_iput(e);
}
END_TEST

#if IOMAPFS_DEBUG
static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool reached, go_on;
} meet = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };

static void wait_half_freed(const char *name, void *site, void *arg)
{
	pthread_mutex_lock(&meet.lock);
	meet.reached = true;
	pthread_cond_broadcast(&meet.cond);
	while (!meet.go_on)
		pthread_cond_wait(&meet.cond, &meet.lock);
	pthread_mutex_unlock(&meet.lock);
}

/* A number must not be given out again while its last owner is still on the orphan list. */
START_TEST(test_number_reused_at_once)
{
	struct fs_inode *ip;

	ck_assert_int_eq(hook_install("fs:free_inode", wait_half_freed, NULL), 0);
	ck_assert_int_eq(fx_creat(&x, x.root, "victim"), 0);
	ck_assert_int_eq(fs_unlink(&x.ctx, x.root, "victim", 6), 0);
	pthread_mutex_lock(&meet.lock);
	while (!meet.reached)
		pthread_cond_wait(&meet.cond, &meet.lock);
	pthread_mutex_unlock(&meet.lock);
	hook_remove("fs:free_inode");
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(make(x.root, "next", S_IFREG | 0644, &ip), 0);
		ck_assert_int_eq(fs_unlink(&x.ctx, x.root, "next", 4), 0);
		fs_iput(ip);
	}
	pthread_mutex_lock(&meet.lock);
	meet.go_on = true;
	pthread_cond_broadcast(&meet.cond);
	pthread_mutex_unlock(&meet.lock);
	ck_assert_int_eq(fs_quiesce(x.fs), 0);
	ck_assert(!fs_is_shutdown(x.fs));
}
END_TEST
#endif

int main(void)
{
	Suite *s = suite_create("names");
	TCase *tc = tcase_create("names");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_create);
	tcase_add_test(tc, test_inheritance);
	tcase_add_test(tc, test_flags);
	tcase_add_test(tc, test_link_unlink);
	tcase_add_test(tc, test_tmpfile);
	tcase_add_test(tc, test_symlink);
	tcase_add_test(tc, test_rename_files);
	tcase_add_test(tc, test_rename_dirs);
#if IOMAPFS_DEBUG
	tcase_add_test(tc, test_number_reused_at_once);
#endif
	suite_add_tcase(s, tc);
	return unit_run(s);
}

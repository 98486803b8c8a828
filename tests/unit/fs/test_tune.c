/* SPDX-License-Identifier: MIT */
/* Switching reflink on for a file system made without: all of it or nothing, whenever the power goes. */
#include <string.h>

#include "ft.h"
#include "filefs.h"
#include "iomapfs/journal.h"

#define MIB (1ull << 20)

/* A file system that shares nothing, in f.mem, not mounted. */
static void make_plain(struct filefs *f, uint64_t bytes, const struct mk_geom *geom)
{
	struct mk_params p;
	struct mk_geom g;

	*f = (struct filefs){ .ctx = { .umask = 022 } };
	ck_assert_int_eq(bd_mem_create(bytes, 512, &f->mem), 0);
	ck_assert_ptr_null(mk_geom_compute(bytes, 12, jnl_min_mblks(), jnl_default_mblks(bytes), &g));
	mk_params_init(&p);
	p.no_reflink = true;
	ck_assert_int_eq(mk_write(f->mem, geom ? geom : &g, &p), 0);
}

static bool says_reflink(const struct filefs *f)
{
	return fs_sb(f->fs)->ro_compat & OD_RO_COMPAT_REFLINK;
}

static struct fs_inode *make_file(struct filefs *f, const char *name, size_t len)
{
	struct fs_inode *ip = filefs_create(f, name);
	uint8_t *buf = malloc(len);

	filefs_fill(buf, len, 9);
	ck_assert_int_eq(filefs_pwrite(f, ip, buf, len, 0, 0), (int64_t)len);
	ck_assert_int_eq(filefs_sync_file(f, ip, false), 0);
	free(buf);
	return ip;
}

/* Sharing works, or is refused, and what comes of it is sound. */
static void try_clone(struct filefs *f, int want)
{
	struct fs_inode *a = filefs_lookup(f, "a"), *b = filefs_create(f, "b");
	uint8_t buf[40000];

	ck_assert_int_eq(fs_clone_range(&f->ctx, a, 0, b, 0, 0), want);
	filefs_fill(buf, sizeof(buf), 9);
	if (!want) {
		filefs_expect(f, b, 0, buf, sizeof(buf), 0);
		ck_assert_int_eq(filefs_pwrite(f, b, buf, 5000, 3000, 0), 5000);
		filefs_expect(f, a, 0, buf, sizeof(buf), 0);
	}
	fs_iput(a);
	fs_iput(b);
	ck_assert_int_eq(fs_unlink(&f->ctx, f->root, "b", 1), 0);
}

START_TEST(from_the_next_mount_on)
{
	struct fs_error why;
	struct filefs f;

	make_plain(&f, 64 * MIB, NULL);
	filefs_mount(&f);
	fs_iput(make_file(&f, "a", 40000));
	try_clone(&f, -EOPNOTSUPP);
	filefs_remount(&f);
	ck_assert_int_eq(fs_add_reflink(f.fs, &why), 0);
	ck_assert(says_reflink(&f));
	filefs_remount(&f);
	ck_assert(says_reflink(&f));
	try_clone(&f, 0);
	/* Nothing is left to do. */
	ck_assert_int_eq(fs_add_reflink(f.fs, &why), 0);
	filefs_end(&f);
}
END_TEST

/* The same room is kept back as in a file system that was made with it. */
START_TEST(keeps_the_same_room)
{
	struct fs_error why;
	struct statvfs made, switched;
	struct filefs f;

	make_plain(&f, 64 * MIB, NULL);
	filefs_mount(&f);
	ck_assert_int_eq(fs_add_reflink(f.fs, &why), 0);
	filefs_remount(&f);
	ck_assert_int_eq(fs_statfs(f.fs, &switched), 0);
	filefs_end(&f);
	filefs_make(&f, 64 * MIB, 12, 0);
	ck_assert_int_eq(fs_statfs(f.fs, &made), 0);
	ck_assert_uint_eq(switched.f_bavail, made.f_bavail);
	filefs_end(&f);
}
END_TEST

static struct fs_inode *fill_up(struct filefs *f)
{
	struct fs_inode *ip = make_file(f, "a", 40000);
	static uint8_t buf[1 << 20];
	uint64_t pos = 1 << 20;
	int64_t n;

	do {
		n = filefs_pwrite(f, ip, buf, sizeof(buf), pos, 0);
		pos += n > 0 ? (uint64_t)n : 0;
	} while (n > 0);
	ck_assert_int_eq(n, -ENOSPC);
	ck_assert_int_eq(filefs_sync_file(f, ip, false), 0);
	return ip;
}

/* Where the counts might not find room one day it is refused, with what to do, and nothing changes. */
START_TEST(refused_without_room)
{
	struct fs_inode *ip;
	struct fs_error why;
	struct filefs f;

	make_plain(&f, 64 * MIB, NULL);
	filefs_mount(&f);
	ip = fill_up(&f);
	fs_iput(ip);
	filefs_remount(&f);
	ck_assert_int_eq(fs_add_reflink(f.fs, &why), -ENOSPC);
	ck_assert_msg(strstr(why.text, "delete or move files"), "%s", why.text);
	filefs_remount(&f);
	ck_assert(!says_reflink(&f));
	ip = filefs_lookup(&f, "a");
	ck_assert_int_eq(filefs_truncate(&f, ip, 40000), 0);
	fs_iput(ip);
	filefs_remount(&f);
	ck_assert_int_eq(fs_add_reflink(f.fs, &why), 0);
	filefs_remount(&f);
	try_clone(&f, 0);
	filefs_end(&f);
}
END_TEST

/* Problems that -p may repair are those of copies; all is well behind it. */
static void preen(struct bd *bd)
{
	const struct chk_opts o = { .preen = true, .out = stdout };
	struct chk_result res;

	ck_assert_int_eq(chk_run(bd, &o, &res), 0);
	ck_assert(!res.unsafe);
	ck_assert_uint_eq(res.left, 0);
}

/* Power goes after the n-th write since the switch began. False: it was through before. */
static bool cut_after(struct filefs *f, uint64_t n, uint64_t seed)
{
	struct fs_error why;
	struct bd *crash;
	bool was_cut;

	ck_assert_int_eq(bd_crash_create(filefs_passthrough(f->mem), &crash), 0);
	f->top = crash;
	filefs_mount(f);
	bd_crash_arm(crash, bd_crash_nr_writes(crash) + n, seed);
	was_cut = fs_add_reflink(f->fs, &why) != 0;
	fs_iput(f->root);
	was_cut |= fs_unmount(f->fs) != 0;
	f->fs = NULL;
	f->top = NULL;
	return was_cut;
}

/*
 * The first mount after the cut says what every one behind it says: also where the log alone has the new
 * superblocks. Before and after it the checker is content.
 */
static void judge(struct filefs *f, bool one_transaction, unsigned *on, unsigned *off)
{
	bool reflink;

	if (one_transaction)
		filefs_fsck(f);
	filefs_mount(f);
	reflink = says_reflink(f);
	fs_iput(make_file(f, "a", 40000));
	try_clone(f, reflink ? 0 : -EOPNOTSUPP);
	fs_iput(f->root);
	ck_assert_int_eq(fs_unmount(f->fs), 0);
	f->fs = NULL;
	f->top = NULL;
	if (one_transaction)
		filefs_fsck(f);
	else
		preen(f->mem);
	filefs_mount(f);
	ck_assert_int_eq(says_reflink(f), reflink);
	filefs_umount(f);
	*(reflink ? on : off) += 1;
}

START_TEST(cut_anywhere)
{
	unsigned on = 0, off = 0;
	bool was_cut = true;
	struct filefs f;

	log_set_level(LOG_LVL_ERR);
	for (uint64_t n = 1; was_cut; n++) {
		for (uint64_t seed = 1; seed <= 4; seed++) {
			make_plain(&f, 64 * MIB, NULL);
			was_cut = cut_after(&f, n, 100 * n + seed);
			judge(&f, true, &on, &off);
			filefs_end(&f);
		}
		ck_assert_uint_lt(n, 100);
	}
	/* Neither answer is the only one. */
	ck_assert_uint_gt(on, 0);
	ck_assert_uint_gt(off, 0);
	log_set_level(LOG_LVL_INFO);
}
END_TEST

/* More groups than one transaction of a short log takes: copies may be ahead of the first, not behind. */
START_TEST(cut_with_many_groups)
{
	const struct mk_geom g = { .block_shift = 12, .cluster_shift = 14, .nr_ags = 300, .ag_blocks = 2048,
				   .nr_blocks = 300 * 2048, .jnl_start = OD_AG_HEAD_MBLKS,
				   .jnl_len = ROUND_UP(jnl_min_mblks(), (uint64_t)OD_AG_HEAD_MBLKS) };
	unsigned on = 0, off = 0;
	bool was_cut = true;
	struct filefs f;

	log_set_level(LOG_LVL_ERR);
	for (uint64_t n = 1; was_cut; n += 7) {
		make_plain(&f, g.nr_blocks << 12, &g);
		was_cut = cut_after(&f, n, n);
		judge(&f, false, &on, &off);
		filefs_end(&f);
	}
	ck_assert_uint_gt(on, 0);
	ck_assert_uint_gt(off, 0);
	log_set_level(LOG_LVL_INFO);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tune");
	TCase *tc = tcase_create("tune");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, from_the_next_mount_on);
	tcase_add_test(tc, keeps_the_same_room);
	tcase_add_test(tc, refused_without_room);
	tcase_add_test(tc, cut_anywhere);
	tcase_add_test(tc, cut_with_many_groups);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

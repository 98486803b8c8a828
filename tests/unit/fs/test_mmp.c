/* SPDX-License-Identifier: MIT */
/* Multiple-mount protection: two mounts of one device in memory, which no lock keeps apart. */
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "filefs.h"
#include "iomapfs/journal.h"
#include "mk.h"

#define DEV_BYTES (64ull << 20)
#define INTERVAL_S 1

static struct bd *make(unsigned interval_s)
{
	struct mk_params p;
	struct mk_geom g;
	struct bd *mem;

	ck_assert_int_eq(bd_mem_create(DEV_BYTES, 512, &mem), 0);
	mk_params_init(&p);
	p.mmp_interval_s = interval_s;
	ck_assert_ptr_null(mk_geom_compute(DEV_BYTES, 12, jnl_min_mblks(), 0, &g));
	ck_assert_int_eq(mk_write(mem, &g, &p), 0);
	return mem;
}

static int mount(struct bd *mem, bool readonly, struct fs **fs, struct fs_error *err)
{
	const struct fs_mount_opts o = { .readonly = readonly };
	struct bd *top = filefs_passthrough(mem);
	int ret = fs_mount(top, &o, fs, err);

	if (ret)
		bd_close(top);
	return ret;
}

static uint64_t seq_on_disk(struct bd *mem)
{
	struct od_mmp *m = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	uint64_t seq;

	ck_assert_int_eq(bd_read(mem, OD_MBLK_SIZE, m, OD_MBLK_SIZE), 0);
	seq = le64_get(m->seq);
	free(m);
	return seq;
}

/* What another host would write there. */
static void write_foreign(struct bd *mem, uint64_t seq, bool damaged)
{
	uint8_t *sb = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	uint8_t *block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);

	ck_assert_int_eq(bd_read(mem, 0, sb, OD_MBLK_SIZE), 0);
	od_mmp_init(block, ((struct od_hdr *)sb)->uuid, seq, 1, "elsewhere", "/dev/theirs");
	if (damaged)
		block[100] ^= 1;
	ck_assert_int_eq(bd_write(mem, OD_MBLK_SIZE, block, OD_MBLK_SIZE, BD_FUA), 0);
	free(block);
	free(sb);
}

START_TEST(off_writes_nothing)
{
	struct bd *mem = make(0);
	struct fs_error err;
	struct fs *fs;

	ck_assert_int_eq(mount(mem, false, &fs, &err), 0);
	ck_assert_uint_eq(seq_on_disk(mem), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	bd_close(mem);
}
END_TEST

/* The second is refused and told who; readers may look; after the first is gone it may. */
START_TEST(second_mount_is_refused)
{
	struct bd *mem = make(INTERVAL_S);
	struct fs_error err;
	struct fs *a, *b;
	struct utsname un;
	uint64_t seq;

	ck_assert_int_eq(uname(&un), 0);
	ck_assert_int_eq(mount(mem, false, &a, &err), 0);
	seq = seq_on_disk(mem);
	ck_assert_uint_ne(seq, OD_MMP_CLEAN);
	ck_assert_int_eq(mount(mem, false, &b, &err), -EBUSY);
	ck_assert_msg(strstr(err.text, un.nodename) && strstr(err.text, "in use"), "%s", err.text);
	/* It lives, and the attempt did not disturb it. */
	ck_assert_uint_gt(seq_on_disk(mem), seq);
	ck_assert(!fs_is_shutdown(a));
	ck_assert_int_eq(mount(mem, true, &b, &err), 0);
	ck_assert_int_eq(fs_unmount(b), 0);
	ck_assert_int_eq(fs_unmount(a), 0);
	ck_assert_uint_eq(seq_on_disk(mem), OD_MMP_CLEAN);
	ck_assert_int_eq(mount(mem, false, &b, &err), 0);
	ck_assert_int_eq(fs_unmount(b), 0);
	bd_close(mem);
}
END_TEST

/* A number that stands still for two intervals: its owner is dead. */
START_TEST(dead_owner_is_followed)
{
	struct bd *mem = make(INTERVAL_S);
	uint64_t t0 = clock_mono_ns();
	struct fs_error err;
	struct fs *fs;

	write_foreign(mem, 4711, false);
	ck_assert_int_eq(mount(mem, false, &fs, &err), 0);
	ck_assert_uint_ge(clock_mono_ns() - t0, (2 * INTERVAL_S + 1) * 1000000000ull);
	ck_assert_int_eq(fs_unmount(fs), 0);
	bd_close(mem);
}
END_TEST

/* One that was only asleep stops when it finds another's number, and leaves that in place. */
START_TEST(loser_stops)
{
	struct bd *mem = make(INTERVAL_S);
	struct fs_error err;
	struct fs *fs;

	ck_assert_int_eq(mount(mem, false, &fs, &err), 0);
	write_foreign(mem, 4711, false);
	for (int i = 0; i < 200 && !fs_is_shutdown(fs); i++)
		usleep(100000);
	ck_assert(fs_is_shutdown(fs));
	(void)fs_unmount(fs);
	ck_assert_uint_eq(seq_on_disk(mem), 4711);
	bd_close(mem);
}
END_TEST

START_TEST(fsck_and_damage_are_respected)
{
	struct bd *mem = make(INTERVAL_S);
	struct fs_error err;
	struct fs *fs;

	write_foreign(mem, OD_MMP_FSCK, false);
	ck_assert_int_eq(mount(mem, false, &fs, &err), -EBUSY);
	ck_assert_msg(strstr(err.text, "fsck") != NULL, "%s", err.text);
	write_foreign(mem, 4711, true);
	ck_assert_int_eq(mount(mem, false, &fs, &err), -EFSCORRUPTED);
	ck_assert_int_eq(mount(mem, true, &fs, &err), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	bd_close(mem);
}
END_TEST

/* A device that takes no more signs of life for two intervals is given up. */
START_TEST(silence_stops)
{
	struct bd_fault_rule rule = { .op = BD_WRITE, .count = UINT64_MAX, .error = -EIO,
				      .start = OD_MBLK_SIZE, .end = 2 * OD_MBLK_SIZE };
	struct bd *mem = make(INTERVAL_S), *fault;
	const struct fs_mount_opts o = { 0 };
	struct fs_error err;
	struct fs *fs;

	ck_assert_int_eq(bd_fault_create(filefs_passthrough(mem), &fault), 0);
	ck_assert_int_eq(fs_mount(fault, &o, &fs, &err), 0);
	bd_fault_set(fault, &rule, 1);
	for (int i = 0; i < 200 && !fs_is_shutdown(fs); i++)
		usleep(100000);
	ck_assert(fs_is_shutdown(fs));
	(void)fs_unmount(fs);
	bd_close(mem);
}
END_TEST

/* Switched on and off while mounted: from the next mount on. */
START_TEST(tuned)
{
	const unsigned on = INTERVAL_S, off = 0, wrong = OD_MMP_INTERVAL_MAX + 1;
	struct bd *mem = make(0);
	struct fs_error err;
	struct fs *fs;

	ck_assert_int_eq(mount(mem, false, &fs, &err), 0);
	ck_assert_int_eq(fs_tune(fs, &(struct fs_tune_args){ .mmp_interval_s = &wrong }), -EINVAL);
	ck_assert_int_eq(fs_tune(fs, &(struct fs_tune_args){ .mmp_interval_s = &on }), 0);
	ck_assert_uint_eq(seq_on_disk(mem), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_int_eq(mount(mem, false, &fs, &err), 0);
	ck_assert_uint_ne(seq_on_disk(mem), 0);
	ck_assert_int_eq(fs_tune(fs, &(struct fs_tune_args){ .mmp_interval_s = &off }), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	ck_assert_int_eq(mount(mem, false, &fs, &err), 0);
	ck_assert_uint_eq(seq_on_disk(mem), 0);
	ck_assert_int_eq(fs_unmount(fs), 0);
	bd_close(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-mmp");
	TCase *tc = tcase_create("mmp");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, off_writes_nothing);
	tcase_add_test(tc, second_mount_is_refused);
	tcase_add_test(tc, dead_owner_is_followed);
	tcase_add_test(tc, loser_stops);
	tcase_add_test(tc, fsck_and_damage_are_respected);
	tcase_add_test(tc, silence_stops);
	tcase_add_test(tc, tuned);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

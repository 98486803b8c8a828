/* SPDX-License-Identifier: MIT */
/* What survives a power cut, and what is on its way to the device without being asked. */
#include <fcntl.h>
#include <string.h>

#include "filefs.h"

static const unsigned shifts[] = { 10, 12, 16 };
#define NR_SHIFTS ((int)ARRAY_SIZE(shifts))
#define DEV_BYTES (96ull << 20)

/* The file under this name after a power cut now has these bytes and no more. */
static void survives(struct filefs *f, const char *name, const uint8_t *want, size_t len)
{
	struct filefs after;
	struct fs_inode *ip;

	filefs_survivor(f, &after);
	ip = filefs_lookup(&after, name);
	ck_assert_msg(ip != NULL, "%s is gone", name);
	ck_assert_uint_eq(filefs_size(&after, ip), len);
	if (len)
		filefs_expect(&after, ip, 0, want, len, 0);
	fs_iput(ip);
	filefs_end(&after);
}

/* Whichever of the two is called, and also where the file has nothing in it yet. */
START_TEST(sync_makes_the_name_durable)
{
	struct fs_inode *ip;
	struct filefs f;

	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	for (int datasync = 0; datasync < 2; datasync++) {
		ip = filefs_create(&f, "new");
		ck_assert_int_eq(filefs_sync_file(&f, ip, datasync), 0);
		survives(&f, "new", NULL, 0);
		fs_iput(ip);
		ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "new", 3), 0);
		ck_assert_int_eq(fs_sync(f.fs), 0);
		/* It was there all along without one: the name is what is new. */
		ck_assert_int_eq(fs_tmpfile(&f.ctx, f.root, 0600, &ip), 0);
		ck_assert_int_eq(fs_sync(f.fs), 0);
		ck_assert_int_eq(fs_link(&f.ctx, ip, f.root, "tmp", 3), 0);
		ck_assert_int_eq(filefs_sync_file(&f, ip, datasync), 0);
		survives(&f, "tmp", NULL, 0);
		fs_iput(ip);
		ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "tmp", 3), 0);
	}
	filefs_end(&f);
}
END_TEST

/* The copy of the inode in memory went between the change and the call. */
START_TEST(sync_after_eviction)
{
	static _Alignas(65536) uint8_t data[131072];
	struct fs_inode *ip;
	struct filefs f;

	filefs_fill(data, sizeof(data), 5);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	for (int datasync = 0; datasync < 2; datasync++) {
		ip = filefs_create(&f, "e");
		ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, IOCB_DIRECT),
				 sizeof(data));
		fs_iput(ip);
		filefs_drop_caches(&f);
		ip = filefs_lookup(&f, "e");
		ck_assert_ptr_nonnull(ip);
		ck_assert_int_eq(filefs_sync_file(&f, ip, datasync), 0);
		survives(&f, "e", data, sizeof(data));
		fs_iput(ip);
		ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "e", 1), 0);
		ck_assert_int_eq(fs_sync(f.fs), 0);
	}
	filefs_end(&f);
}
END_TEST

/* Data went over blocks that were there: no change for the log, and still one for the device. */
START_TEST(sync_flushes_without_a_commit)
{
	static uint8_t data[65536];
	uint64_t flushes;
	struct fs_inode *ip;
	struct filefs f;
	struct bd *crash, *fault;

	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	filefs_umount(&f);
	/* The one below has a cache that a flush empties. */
	ck_assert_int_eq(bd_crash_create(filefs_passthrough(f.mem), &crash), 0);
	ck_assert_int_eq(bd_fault_create(crash, &fault), 0);
	f.top = fault;
	filefs_mount(&f);
	ip = filefs_create(&f, "o");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, 0), sizeof(data));
	ck_assert_int_eq(fs_sync(f.fs), 0);
	flushes = bd_fault_seen(fault, BD_FLUSH);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	ck_assert_uint_gt(bd_fault_seen(fault, BD_FLUSH), flushes);
	flushes = bd_fault_seen(fault, BD_FLUSH);
	ck_assert_int_eq(filefs_sync_file(&f, ip, true), 0);
	ck_assert_uint_gt(bd_fault_seen(fault, BD_FLUSH), flushes);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/*
 * O_DSYNC over blocks that are there: each write is durable by itself, and nothing else is. What changes
 * metadata needs the log, and so does O_SYNC.
 */
START_TEST(dsync_overwrite_is_fua)
{
	static _Alignas(65536) uint8_t data[131072], want[196608];
	const unsigned dsync = IOCB_DIRECT | IOCB_DSYNC;
	const struct bd_trace_rec *r;
	unsigned writes = 0, fua = 0, flushes = 0;
	struct fs_inode *ip;
	struct bd *trace;
	struct filefs f;
	size_t n;

	filefs_fill(data, sizeof(data), 7);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	filefs_umount(&f);
	ck_assert_int_eq(bd_trace_create(filefs_passthrough(f.mem), NULL, &trace), 0);
	f.top = trace;
	filefs_mount(&f);
	ip = filefs_create(&f, "d");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, 0), sizeof(data));
	ck_assert_int_eq(fs_sync(f.fs), 0);
	filefs_expect(&f, ip, 0, data, sizeof(data), IOCB_DIRECT);
	bd_trace_reset(trace);
	ck_assert_int_eq(filefs_pwrite(&f, ip, data + 65536, 65536, 0, dsync), 65536);
	n = bd_trace_get(trace, &r);
	for (size_t i = 0; i < n; i++) {
		writes += r[i].op == BD_WRITE;
		fua += r[i].op == BD_WRITE && (r[i].flags & BD_FUA);
		flushes += r[i].op == BD_FLUSH || (r[i].flags & BD_PREFLUSH);
	}
	ck_assert_uint_ge(writes, 1);
	ck_assert_uint_eq(fua, writes);
	ck_assert_uint_eq(flushes, 0);
	/* A longer file is a change of metadata: the log has it before the call returns. */
	bd_trace_reset(trace);
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, 65536, 131072, dsync), 65536);
	n = bd_trace_get(trace, &r);
	for (size_t i = 0; i < n; i++)
		flushes += r[i].op == BD_FLUSH || (r[i].flags & BD_PREFLUSH);
	ck_assert_uint_ge(flushes, 1);
	memcpy(want, data + 65536, 65536);
	memcpy(want + 65536, data + 65536, 65536);
	memcpy(want + 131072, data, 65536);
	survives(&f, "d", want, sizeof(want));
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/*
 * Written, not synced, renamed over an older file, power cut: the name leads to the old
 * contents or to the new ones, not to a file of no length.
 */
START_TEST(replaced_by_rename_is_whole)
{
	static uint8_t old[100000], new[150000];
	struct fs_inode *a, *b;
	struct filefs f;

	filefs_fill(old, sizeof(old), 1);
	filefs_fill(new, sizeof(new), 2);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	a = filefs_create(&f, "a");
	ck_assert_int_eq(filefs_pwrite(&f, a, old, sizeof(old), 0, 0), sizeof(old));
	ck_assert_int_eq(filefs_sync_file(&f, a, false), 0);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(filefs_pwrite(&f, b, new, sizeof(new), 0, 0), sizeof(new));
	ck_assert_int_eq(fs_rename(&f.ctx, f.root, "b", 1, f.root, "a", 1, 0), 0);
	ck_assert_int_eq(fs_fsync_dir(&f.ctx, f.root, false), 0);
	survives(&f, "a", new, sizeof(new));
	/* A request that may not wait does not. */
	fs_iput(b);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(filefs_pwrite(&f, b, old, sizeof(old), 0, 0), sizeof(old));
	f.ctx.flags = FS_NOWAIT;
	ck_assert_int_eq(fs_rename(&f.ctx, f.root, "b", 1, f.root, "a", 1, 0), -EAGAIN);
	f.ctx.flags = 0;
	ck_assert_int_eq(fs_rename(&f.ctx, f.root, "b", 1, f.root, "a", 1, 0), 0);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

/* What was there need not have been a file: a link that a new file takes the place of. */
START_TEST(replaced_link_is_whole)
{
	static uint8_t new[150000];
	struct fs_inode *link, *b;
	struct filefs f;

	filefs_fill(new, sizeof(new), 4);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ck_assert_int_eq(fs_symlink(&f.ctx, f.root, "l", 1, "to", &link), 0);
	fs_iput(link);
	b = filefs_create(&f, "b");
	ck_assert_int_eq(filefs_pwrite(&f, b, new, sizeof(new), 0, 0), sizeof(new));
	ck_assert_int_eq(fs_rename(&f.ctx, f.root, "b", 1, f.root, "l", 1, 0), 0);
	ck_assert_int_eq(fs_fsync_dir(&f.ctx, f.root, false), 0);
	survives(&f, "l", new, sizeof(new));
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

/* A device that takes no data: the rename fails, and the old contents stay. */
START_TEST(failed_replacement_changes_nothing)
{
	struct bd_fault_rule rule = { .op = BD_WRITE, .count = UINT64_MAX, .error = -EIO };
	static uint8_t old[50000], new[60000];
	struct fs_inode *a, *b;
	struct fiemap_extent fe;
	struct bd *fault;
	struct filefs f;

	filefs_fill(old, sizeof(old), 1);
	filefs_fill(new, sizeof(new), 2);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	filefs_umount(&f);
	ck_assert_int_eq(bd_fault_create(filefs_passthrough(f.mem), &fault), 0);
	f.top = fault;
	filefs_mount(&f);
	a = filefs_create(&f, "a");
	ck_assert_int_eq(filefs_pwrite(&f, a, old, sizeof(old), 0, 0), sizeof(old));
	b = filefs_create(&f, "b");
	ck_assert_int_eq(fs_fallocate(&f.ctx, b, 0, 0, sizeof(new)), 0);
	ck_assert_int_eq(fs_sync(f.fs), 0);
	ck_assert_uint_ge(filefs_fiemap(&f, b, 0, &fe, 1), 1);
	rule.start = fe.fe_physical;
	rule.end = fe.fe_physical + fe.fe_length;
	bd_fault_set(fault, &rule, 1);
	ck_assert_int_eq(filefs_pwrite(&f, b, new, sizeof(new), 0, 0), sizeof(new));
	ck_assert_int_eq(fs_rename(&f.ctx, f.root, "b", 1, f.root, "a", 1, 0), -EIO);
	bd_fault_set(fault, NULL, 0);
	fs_iput(a);
	a = filefs_lookup(&f, "a");
	filefs_expect(&f, a, 0, old, sizeof(old), 0);
	fs_iput(a);
	fs_iput(b);
	filefs_end(&f);
}
END_TEST

/* Emptied, written anew and closed: what is new is on its way without an fsync. */
START_TEST(rewritten_file_is_written_at_close)
{
	static uint8_t data[100000];
	struct fs_attr zero = { 0 };
	struct fs_file *file;
	struct fs_inode *ip;
	struct filefs f;

	filefs_fill(data, sizeof(data), 3);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "r");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, 0), sizeof(data));
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_int_eq(fs_open(&f.ctx, ip, O_RDWR, &file), 0);
	ck_assert_int_eq(fs_setattr(&f.ctx, ip, FS_SET_SIZE, &zero, NULL), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, 0), sizeof(data));
	ck_assert(mapping_tagged_dirty(&fs_vfs_inode(ip)->i_mapping));
	fs_release(file);
	/* Dirty data expires after 5 s: sooner is what the close has done. */
	for (int i = 0; i < 4000 && mapping_tagged_dirty(&fs_vfs_inode(ip)->i_mapping); i++)
		usleep(1000);
	ck_assert(!mapping_tagged_dirty(&fs_vfs_inode(ip)->i_mapping));
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-sync");
	TCase *t = tcase_create("durability");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, sync_makes_the_name_durable, 0, NR_SHIFTS);
	tcase_add_loop_test(t, sync_after_eviction, 0, NR_SHIFTS);
	tcase_add_loop_test(t, sync_flushes_without_a_commit, 0, NR_SHIFTS);
	tcase_add_loop_test(t, dsync_overwrite_is_fua, 0, NR_SHIFTS);
	tcase_add_loop_test(t, replaced_by_rename_is_whole, 0, NR_SHIFTS);
	tcase_add_loop_test(t, replaced_link_is_whole, 0, NR_SHIFTS);
	tcase_add_loop_test(t, failed_replacement_changes_nothing, 0, NR_SHIFTS);
	tcase_add_loop_test(t, rewritten_file_is_written_at_close, 0, NR_SHIFTS);
	suite_add_tcase(s, t);
	return unit_run(s);
}

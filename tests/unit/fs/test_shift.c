/* SPDX-License-Identifier: MIT */
/* Collapse and insert: what is refused, what the extents look like, and a power cut at every step. */
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "filefs.h"
#include "fs_private.h"

#define DEV_BYTES (32ull << 20)

static const unsigned shifts[] = { 10, 12, 16 };
#define NR_SHIFTS ((int)ARRAY_SIZE(shifts))

static int collapse(struct filefs *f, struct fs_inode *ip, uint64_t off, uint64_t len)
{
	return fs_fallocate(&f->ctx, ip, FALLOC_FL_COLLAPSE_RANGE, off, len);
}

static int insert(struct filefs *f, struct fs_inode *ip, uint64_t off, uint64_t len)
{
	return fs_fallocate(&f->ctx, ip, FALLOC_FL_INSERT_RANGE, off, len);
}

START_TEST(refusals)
{
	static uint8_t data[300000];
	const uint64_t bs = 1u << shifts[_i], size = sizeof(data);
	struct fs_attr a = { .flags = 0 };
	struct fs_file *file;
	struct fs_inode *ip;
	struct filefs f;

	filefs_fill(data, size, 5);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "a");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, size, 0, 0), (int64_t)size);
	ck_assert_int_eq(collapse(&f, ip, 0, 0), -EINVAL);
	ck_assert_int_eq(collapse(&f, ip, bs / 2, bs), -EINVAL);
	ck_assert_int_eq(collapse(&f, ip, 0, bs + 512), -EINVAL);
	ck_assert_int_eq(insert(&f, ip, 1, bs), -EINVAL);
	ck_assert_int_eq(insert(&f, ip, 0, bs - 1), -EINVAL);
	/* Up to the end of the file and beyond. */
	ck_assert_int_eq(collapse(&f, ip, 0, ROUND_UP(size, bs)), -EINVAL);
	ck_assert_int_eq(collapse(&f, ip, ROUND_DOWN(size, bs), bs), -EINVAL);
	ck_assert_int_eq(collapse(&f, ip, ROUND_UP(size, bs), bs), -EINVAL);
	ck_assert_int_eq(insert(&f, ip, ROUND_UP(size, bs), bs), -EINVAL);
	ck_assert_int_eq(insert(&f, ip, 0, ROUND_DOWN(UINT64_MAX >> 1, bs)), -EFBIG);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, bs),
			 -EOPNOTSUPP);
	/* Blocks past the end move as well, and must have room. */
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_KEEP_SIZE,
				      ROUND_DOWN((UINT64_MAX >> 1) - bs, bs), bs), 0);
	ck_assert_int_eq(insert(&f, ip, 0, 4 * bs), -EFBIG);
	f.ctx.flags = FS_NOWAIT;
	ck_assert_int_eq(insert(&f, ip, 0, bs), -EAGAIN);
	f.ctx.flags = 0;
	ck_assert_int_eq(fs_open(&f.ctx, ip, O_RDWR, &file), 0);
	fs_swap_pin(file);
	ck_assert_int_eq(insert(&f, ip, 0, bs), -ETXTBSY);
	ck_assert_int_eq(collapse(&f, ip, 0, bs), -ETXTBSY);
	fs_release(file);
	ck_assert_int_eq(fs_set_flags(&f.ctx, ip, OD_FL_IMMUTABLE, 0), 0);
	ck_assert_int_eq(insert(&f, ip, 0, bs), -EPERM);
	ck_assert_int_eq(fs_set_flags(&f.ctx, ip, OD_FL_APPEND, 0), 0);
	ck_assert_int_eq(collapse(&f, ip, 0, bs), -EPERM);
	ck_assert_int_eq(fs_set_flags(&f.ctx, ip, 0, 0), 0);
	ck_assert_int_eq(fs_getattr(&f.ctx, ip, &a), 0);
	ck_assert_uint_eq(a.size, size);
	filefs_expect(&f, ip, 0, data, size, 0);
	ck_assert_int_eq(collapse(&f, f.root, 0, bs), -EISDIR);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* In and out again gives back the file, its blocks and its one extent. */
START_TEST(there_and_back)
{
	static uint8_t data[400000];
	const uint64_t bs = 1u << shifts[_i], size = sizeof(data);
	struct fiemap_extent fe[8];
	struct fs_inode *ip;
	struct filefs f;
	uint64_t before;

	filefs_fill(data, size, 7);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "a");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, size, 0, 0), (int64_t)size);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	before = filefs_free_blocks(&f);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, fe, 8), 1);
	ck_assert_int_eq(insert(&f, ip, 2 * bs, 3 * bs), 0);
	ck_assert_uint_eq(filefs_size(&f, ip), size + 3 * bs);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, fe, 8), 2);
	ck_assert_uint_eq(fe[1].fe_logical, 5 * bs);
	ck_assert_uint_eq(fe[1].fe_physical, fe[0].fe_physical + 2 * bs);
	filefs_expect(&f, ip, 0, data, 2 * bs, 0);
	filefs_expect(&f, ip, 5 * bs, data + 2 * bs, size - 2 * bs, 0);
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, (int64_t)(2 * bs), SEEK_DATA), (int64_t)(5 * bs));
	ck_assert_int_eq(collapse(&f, ip, 2 * bs, 3 * bs), 0);
	ck_assert_uint_eq(filefs_size(&f, ip), size);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, fe, 8), 1);
	ck_assert_uint_eq(filefs_free_blocks(&f), before);
	fs_iput(ip);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "a");
	filefs_expect(&f, ip, 0, data, size, 0);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* Contents inside the inode leave it; a collapse of data that was never on the device. */
START_TEST(inline_and_delalloc)
{
	static uint8_t data[200000];
	const uint64_t bs = 1u << shifts[_i];
	struct fs_inode *ip;
	struct filefs f;

	filefs_fill(data, sizeof(data), 9);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	ip = filefs_create(&f, "small");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, 100, 0, 0), 100);
	ck_assert_int_eq(collapse(&f, ip, 0, bs), -EINVAL);
	ck_assert_int_eq(insert(&f, ip, 0, bs), 0);
	ck_assert_uint_eq(filefs_size(&f, ip), bs + 100);
	filefs_expect(&f, ip, bs, data, 100, 0);
	fs_iput(ip);
	ip = filefs_create(&f, "new");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, 0), sizeof(data));
	ck_assert_int_eq(collapse(&f, ip, 0, bs), 0);
	filefs_expect(&f, ip, 0, data + bs, sizeof(data) - bs, 0);
	fs_iput(ip);
	filefs_remount(&f);
	ip = filefs_lookup(&f, "small");
	filefs_expect(&f, ip, bs, data, 100, 0);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

/* Blocks that another file has too only change their position; what goes loses one owner. */
START_TEST(shared_blocks)
{
	static uint8_t data[400000];
	const uint64_t bs = 1u << shifts[_i], size = sizeof(data);
	struct fs_inode *a, *b;
	struct filefs f;
	uint64_t before, one;

	filefs_fill(data, size, 7);
	filefs_make(&f, DEV_BYTES, shifts[_i], 0xaa);
	before = filefs_free_blocks(&f);
	a = filefs_create(&f, "a");
	b = filefs_create(&f, "b");
	ck_assert_int_eq(filefs_pwrite(&f, a, data, size, 0, 0), (int64_t)size);
	ck_assert_int_eq(filefs_sync_file(&f, a, false), 0);
	one = filefs_free_blocks(&f);
	ck_assert_int_eq(fs_clone_range(&f.ctx, a, 0, b, 0, 0), 0);
	/* Copies on write that have no place yet move as well. */
	ck_assert_int_eq(filefs_pwrite(&f, b, "xyz", 3, 4 * bs, 0), 3);
	ck_assert_int_eq(collapse(&f, b, bs, 2 * bs), 0);
	ck_assert_int_eq(insert(&f, b, 0, bs), 0);
	filefs_expect(&f, a, 0, data, size, 0);
	filefs_expect(&f, b, bs, data, bs, 0);
	filefs_expect(&f, b, 2 * bs, data + 3 * bs, bs, 0);
	filefs_expect(&f, b, 3 * bs, (const uint8_t *)"xyz", 3, 0);
	filefs_expect(&f, b, 3 * bs + 3, data + 4 * bs + 3, size - 4 * bs - 3, 0);
	/* The first file alone, at last: its own blocks and nothing else. */
	fs_iput(b);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "b", 1), 0);
	filefs_expect(&f, a, 0, data, size, 0);
	fs_iput(a);
	filefs_remount(&f);
	/* A node of the tree that counted owners may be kept for the next ones. */
	ck_assert_uint_ge(filefs_free_blocks(&f) + (65536 >> shifts[_i]) + 1, one);
	ck_assert_int_eq(fs_unlink(&f.ctx, f.root, "a", 1), 0);
	ck_assert_uint_ge(filefs_free_blocks(&f) + (65536 >> shifts[_i]) + 1, before);
	filefs_end(&f);
}
END_TEST

/* ---- A power cut at every step -------------------------------------------------------------- */

#define MAX_CUTS 64
#define CUT_BS   1024u
#define CUT_BLKS 600u /* every second one a hole: 300 extents, a tree of several leaves */

static struct {
	struct filefs *f;
	uint8_t *image[MAX_CUTS];
	unsigned nr;
} cuts;

/* All that was done so far becomes durable; what follows is lost. */
static void cut_here(const char *name, void *ip, void *arg)
{
	struct fs *fs = cuts.f->fs;

	ck_assert_int_eq(jnl_commit_wait(fs->jnl, jnl_running_tid(fs->jnl), NULL), 0);
	ck_assert_uint_lt(cuts.nr, MAX_CUTS);
	cuts.image[cuts.nr] = malloc(DEV_BYTES);
	memcpy(cuts.image[cuts.nr++], bd_mem_base(cuts.f->mem), DEV_BYTES);
}

static bool same(struct filefs *f, struct fs_inode *ip, const uint8_t *want, uint64_t size)
{
	uint8_t *buf = malloc(size + 1);
	bool equal = filefs_pread(f, ip, buf, size + 1, 0, 0) == (int64_t)size &&
		     memcmp(buf, want, size) == 0;

	free(buf);
	return equal;
}

/* What comes back from one cut: all of it or nothing, and nothing is left to do. */
static bool survivor_is_new(struct filefs *f, const uint8_t *image, const uint8_t *old,
			    uint64_t old_size, const uint8_t *new, uint64_t new_size)
{
	struct filefs s = { .ctx = f->ctx };
	struct fs_inode *ip;
	bool is_new;

	ck_assert_int_eq(bd_mem_create(DEV_BYTES, 512, &s.mem), 0);
	memcpy(bd_mem_base(s.mem), image, DEV_BYTES);
	/* Who only looks finds no fault, and sees nothing of the file. */
	filefs_fsck(&s);
	s.opts.readonly = true;
	filefs_mount(&s);
	ip = filefs_lookup(&s, "a");
	ck_assert(same(&s, ip, old, old_size) || same(&s, ip, new, new_size) ||
		  filefs_pread(&s, ip, (uint8_t[1]){ 0 }, 1, 0, 0) == -EFSCORRUPTED);
	fs_iput(ip);
	fs_iput(s.root);
	ck_assert_int_eq(fs_unmount(s.fs), 0);
	s.opts.readonly = false;
	s.top = NULL;
	filefs_mount(&s);
	ip = filefs_lookup(&s, "a");
	is_new = same(&s, ip, new, new_size);
	ck_assert_msg(is_new || same(&s, ip, old, old_size), "neither the old file nor the new");
	/* And it is a file like any other. */
	ck_assert_int_eq(filefs_pwrite(&s, ip, "x", 1, 0, 0), 1);
	ck_assert_int_eq(filefs_truncate(&s, ip, 0), 0);
	fs_iput(ip);
	filefs_end(&s);
	return is_new;
}

static struct fs_inode *make_comb(struct filefs *f, uint8_t *data, uint64_t size)
{
	struct fs_inode *ip = filefs_create(f, "a");

	memset(data, 0, size);
	for (unsigned b = 0; b < CUT_BLKS; b += 2) {
		filefs_fill(data + b * CUT_BS, CUT_BS, (uint8_t)(1 + b));
		ck_assert_int_eq(filefs_pwrite(f, ip, data + b * CUT_BS, CUT_BS, b * CUT_BS, 0), CUT_BS);
	}
	ck_assert_int_eq(filefs_truncate(f, ip, size), 0);
	ck_assert_int_eq(filefs_sync_file(f, ip, false), 0);
	return ip;
}

START_TEST(power_cut_at_every_step)
{
	const bool ins = _i & 1;
	/* From the front, and so that only some extents move; the range longer than a gap. */
	const uint64_t off = (_i & 2 ? CUT_BLKS / 2 : 0) * CUT_BS, len = 11 * CUT_BS;
	const uint64_t size = CUT_BLKS * CUT_BS - 300, after = ins ? size + len : size - len;
	uint8_t *old = malloc(size), *new = calloc(1, size + len);
	unsigned nr_new = 0;
	struct fs_inode *ip;
	struct filefs f;

	filefs_make(&f, DEV_BYTES, 10, 0xaa);
	ip = make_comb(&f, old, size);
	memcpy(new, old, off);
	if (ins)
		memcpy(new + off + len, old + off, size - off);
	else
		memcpy(new + off, old + off + len, after - off);
	cuts.f = &f;
	cuts.nr = 0;
	ck_assert_int_eq(hook_install("fs:shift_step", cut_here, NULL), 0);
	ck_assert_int_eq(ins ? insert(&f, ip, off, len) : collapse(&f, ip, off, len), 0);
	hook_remove("fs:shift_step");
	ck_assert(same(&f, ip, new, after));
	/* Several transactions, or nothing was tried. */
	ck_assert_uint_ge(cuts.nr, 4);
	for (unsigned i = 0; i < cuts.nr; i++) {
		nr_new += survivor_is_new(&f, cuts.image[i], old, size, new, after);
		free(cuts.image[i]);
	}
	/* From the intent on there is no way back. */
	ck_assert_uint_eq(nr_new, cuts.nr);
	fs_iput(ip);
	filefs_end(&f);
	free(old);
	free(new);
}
END_TEST

/* The cost is the number of extents behind the offset, not of bytes. */
START_TEST(cost_is_by_extents)
{
	struct timespec a, b;
	struct fs_inode *ip;
	struct filefs f;

	filefs_make(&f, DEV_BYTES, 12, 0);
	ip = filefs_create(&f, "sparse");
	ck_assert_int_eq(filefs_truncate(&f, ip, 1ull << 50), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, "x", 1, 1ull << 49, 0), 1);
	clock_gettime(CLOCK_MONOTONIC, &a);
	ck_assert_int_eq(insert(&f, ip, 4096, 1ull << 40), 0);
	ck_assert_int_eq(collapse(&f, ip, 0, 1ull << 30), 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	ck_assert_int_lt(b.tv_sec - a.tv_sec, 10);
	ck_assert_uint_eq(filefs_size(&f, ip), (1ull << 50) + (1ull << 40) - (1ull << 30));
	filefs_expect(&f, ip, (1ull << 49) + (1ull << 40) - (1ull << 30), (const uint8_t *)"x", 1, 0);
	fs_iput(ip);
	filefs_end(&f);
}
END_TEST

static void quiet(enum log_level lvl, const char *line, void *arg)
{
}

int main(void)
{
	Suite *s = suite_create("fs-shift");
	TCase *t = tcase_create("shift");

	if (!getenv("IOMAPFS_VERBOSE"))
		log_set_sink(quiet, NULL);
	tcase_set_timeout(t, 100);
	tcase_add_loop_test(t, refusals, 0, NR_SHIFTS);
	tcase_add_loop_test(t, there_and_back, 0, NR_SHIFTS);
	tcase_add_loop_test(t, inline_and_delalloc, 0, NR_SHIFTS);
	tcase_add_loop_test(t, shared_blocks, 0, NR_SHIFTS);
	tcase_add_loop_test(t, power_cut_at_every_step, 0, 4);
	tcase_add_test(t, cost_is_by_extents);
	suite_add_tcase(s, t);
	return unit_run(s);
}

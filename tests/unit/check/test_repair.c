/* SPDX-License-Identifier: MIT */
/*
 * Repair: whatever a fault has done, one run of it leaves a file system in which the checker finds
 * nothing and that takes new work; what was not damaged is still there.
 */
#include <stdlib.h>
#include <string.h>

#include "faults.h"
#include "../fs/filefs.h"
#include "mk.h"

static char *check(struct bd *bd, bool repair, struct chk_result *res, int *err)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const struct chk_opts opts = { .readonly = !repair, .out = out };

	ck_assert_ptr_nonnull(out);
	*err = chk_run(bd, &opts, res);
	fclose(out);
	return text;
}

static void must_be_clean(struct bd *bd, const char *when)
{
	struct chk_result res;
	int err;
	char *text = check(bd, false, &res, &err);

	ck_assert_msg(!err && !res.found, "%s: %d, %s", when, err, text);
	free(text);
}

/* Mounted, written to, and looked at again. */
static void must_work(struct image *im)
{
	struct filefs f = { .mem = im->bd, .ctx = { .umask = 022 } };
	struct fs_inode *dir, *ip;
	char data[10000];

	memset(data, 'w', sizeof(data));
	filefs_mount(&f);
	ip = filefs_create(&f, "new");
	ck_assert_int_eq(filefs_pwrite(&f, ip, data, sizeof(data), 0, 0), sizeof(data));
	fs_iput(ip);
	ck_assert_int_eq(fs_mkdir(&f.ctx, f.root, "newdir", 6, 0755, &dir), 0);
	ck_assert_int_eq(fs_rename(&f.ctx, f.root, "new", 3, dir, "moved", 5, 0), 0);
	ck_assert_int_eq(fs_unlink(&f.ctx, dir, "moved", 5), 0);
	fs_iput(dir);
	filefs_umount(&f); /* checks too */
}

static bool beyond_repair(const char *code)
{
	return !strcmp(code, "SB-NONE") || !strcmp(code, "JNL-FEATURE") || !strcmp(code, "SB-FEATURE");
}

START_TEST(fault_is_repaired)
{
	const struct fault *f = &image_faults[_i];
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	f->make(&im);
	text = check(im.bd, true, &res, &err);
	if (beyond_repair(f->code)) {
		ck_assert_int_eq(err, 0);
		ck_assert_uint_gt(res.left, 0);
	} else {
		ck_assert_msg(!err && res.left == 0 && res.fixed == res.found && res.found > 0,
			      "%s: %d, %llu found, %llu left:\n%s", f->code, err,
			      (unsigned long long)res.found, (unsigned long long)res.left, text);
		must_be_clean(im.bd, f->code);
		must_work(&im);
	}
	free(text);
	image_free(&im);
}
END_TEST

/* ---- What was not damaged ------------------------------------------------------------------ */

/* Faults of groups, copies, counts and maps: not one byte of a file has to do with them. */
static const char *const files_untouched[] = {
	"SB-PRIMARY",       "SB-COPY",          "SB-COPY-DIFFERS", "MMP-BLOCK",       "JNL-SB",
	"AG-HEADER",        "AG-HEAD-SPARE",    "AG-FREE-BLOCKS",  "AG-FREE-SLOTS",   "AG-INODES",
	"AG-FREE-INODES",   "FREE-LEN-UNKNOWN", "SPACE-LOST",      "INOFREE-UNKNOWN", "EXTENT-COUNT",
	"INODE-FREE-IN-MAP", "INODE-BLOCKS",    "DIR-FREE-LIST",   "DIR-ENTRY-COUNT", "DIR-HASH-MISSING",
	"LINK-COUNT",       "ORPHAN-DEAD",      "ORPHAN-KIND",
};

static bool leaves_files_alone(const char *code)
{
	for (unsigned i = 0; i < ARRAY_SIZE(files_untouched); i++)
		if (!strcmp(code, files_untouched[i]))
			return true;
	return false;
}

static uint8_t pattern(uint64_t fsb, unsigned byte)
{
	return (uint8_t)(1 + (fsb * 31 + byte) % 255);
}

static void fill_data(struct image *im)
{
	const unsigned size = 1u << im->c.block_shift;

	for (unsigned i = 0; i < 16; i++)
		for (unsigned byte = 0; byte < size; byte++)
			im->base[((im->data + i) << im->c.block_shift) + byte] = pattern(im->data + i, byte);
}

/* Block `at` of a file holds what was written to block fsb of the device. */
static void expect_block(struct filefs *f, const char *name, const struct image *im, unsigned at,
			 uint64_t fsb, unsigned len)
{
	struct fs_inode *ip = filefs_lookup(f, name);
	uint8_t buf[OD_MBLK_SIZE];

	ck_assert_uint_le(len, sizeof(buf));
	ck_assert_int_eq(filefs_pread(f, ip, buf, len, (uint64_t)at << im->c.block_shift, 0), len);
	for (unsigned byte = 0; byte < len; byte++)
		ck_assert_msg(buf[byte] == pattern(fsb, byte), "%s, block %u, byte %u", name, at, byte);
	fs_iput(ip);
}

static void expect_files(struct image *im)
{
	struct filefs f = { .mem = im->bd, .ctx = { .umask = 022 } };
	struct fs_inode *ip;
	char buf[5];

	filefs_mount(&f);
	/* As image.c lays them out. */
	for (unsigned i = 0; i < 3; i++)
		expect_block(&f, "list", im, i, im->data + i, i < 2 ? 4096 : 4096 - 100);
	expect_block(&f, "tree", im, 0, im->data + 5, 4096);
	for (unsigned i = 0; i < 4; i++)
		expect_block(&f, "tree", im, 5 + i, im->data + 6 + i, 4096);
	ip = filefs_lookup(&f, "inline");
	ck_assert_int_eq(filefs_pread(&f, ip, buf, sizeof(buf), 0, 0), sizeof(buf));
	ck_assert_mem_eq(buf, "hello", sizeof(buf));
	fs_iput(ip);
	ip = filefs_lookup(&f, "tree");
	ck_assert_int_eq(fs_getxattr(&f.ctx, ip, "user.x", buf, sizeof(buf)), 4);
	ck_assert_mem_eq(buf, "abcd", 4);
	fs_iput(ip);
	filefs_umount(&f);
}

START_TEST(other_files_are_whole)
{
	const struct fault *f = &image_faults[_i];
	struct chk_result res;
	struct image im;
	int err;

	if (!leaves_files_alone(f->code))
		return;
	image_build(&im);
	fill_data(&im);
	f->make(&im);
	free(check(im.bd, true, &res, &err));
	ck_assert_msg(!err && res.left == 0, "%s: %d", f->code, err);
	expect_files(&im);
	image_free(&im);
}
END_TEST

static void write_byte(struct filefs *f, const char *name, uint64_t pos, uint8_t byte)
{
	struct fs_inode *ip = filefs_lookup(f, name);

	ck_assert_int_eq(filefs_pwrite(f, ip, &byte, 1, pos, 0), 1);
	fs_iput(ip);
}

/* Two files claim two blocks: both can read them afterwards, and a write to one leaves the other. */
START_TEST(shared_blocks_are_copied)
{
	struct filefs f = { .ctx = { .umask = 022 } };
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	fill_data(&im);
	/* The second extent of "tree": four blocks at its block 5, here on two of those of "list". */
	image_recs(&im, im.extent_node)[4] = le64_make(im.data + 1);
	image_fix(&im, im.extent_node);
	text = check(im.bd, true, &res, &err);
	ck_assert_msg(!err && res.found > 0 && res.left == 0, "%s", text);
	ck_assert_msg(strstr(text, "has a copy of 4 blocks"), "%s", text);
	free(text);
	must_be_clean(im.bd, "copied");
	f.mem = im.bd;
	filefs_mount(&f);
	expect_block(&f, "list", &im, 1, im.data + 1, 4096);
	for (unsigned i = 0; i < 4; i++)
		expect_block(&f, "tree", &im, 5 + i, im.data + 1 + i, 4096);
	write_byte(&f, "tree", 5 << im.c.block_shift, 0);
	expect_block(&f, "list", &im, 1, im.data + 1, 4096);
	filefs_umount(&f);
	image_free(&im);
}
END_TEST

/*
 * Two of four blocks are another file's: a copy of those, and the other two stay where they are. They are
 * nobody's to take meanwhile, for one of the blocks of the copy.
 */
START_TEST(own_blocks_stay)
{
	struct filefs f = { .ctx = { .umask = 022 } };
	struct fiemap_extent e[8];
	struct fs_inode *ip;
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	fill_data(&im);
	/* "list" comes first, and has the last two blocks of "tree". */
	((struct od_extent_rec *)(void *)image_inode(&im, im.file_list)->area)->val.start = le64_make(im.data + 8);
	image_fix(&im, od_ino_mblk(im.file_list));
	text = check(im.bd, true, &res, &err);
	ck_assert_msg(!err && res.found > 0 && res.left == 0, "%s", text);
	ck_assert_msg(strstr(text, "has a copy of 2 blocks"), "%s", text);
	free(text);
	f.mem = im.bd;
	filefs_mount(&f);
	for (unsigned i = 0; i < 4; i++)
		expect_block(&f, "tree", &im, 5 + i, im.data + 6 + i, 4096);
	ip = filefs_lookup(&f, "tree");
	ck_assert_uint_ge(filefs_fiemap(&f, ip, 0, e, 8), 3);
	ck_assert_uint_eq(e[1].fe_physical >> im.c.block_shift, im.data + 6);
	ck_assert_uint_eq(e[1].fe_length >> im.c.block_shift, 2);
	fs_iput(ip);
	filefs_umount(&f);
	image_free(&im);
}
END_TEST

/* ---- Damage by seed ------------------------------------------------------------------------- */

/* Any byte of a few metadata blocks, with sound checksums or without. */
static void damage(struct image *im, struct rng *rng)
{
	for (unsigned n = 1 + (unsigned)rng_below(rng, 6); n > 0; n--) {
		const uint64_t blocks[] = { im->root_block, im->dir_block[0], im->dir_block[1],
					    im->map_node, im->hash_node, im->extent_node,
					    im->link_blocks[0], im->attr_blob, im->orphan_node,
					    od_ino_mblk(im->sb.root_ino), OD_AG_HDR_MBLK,
					    le64_get(image_ag(im, 0)->ino.mblk),
					    le64_get(image_ag(im, 0)->free_pos.mblk),
					    im->sb.jnl_start, OD_AG_MMP_MBLK };
		const uint64_t mblk = blocks[rng_below(rng, ARRAY_SIZE(blocks))];
		uint8_t *at;

		if (mblk >= im->c.dev_mblks) /* an address that was damaged before */
			continue;
		at = image_block(im, mblk);
		if (rng_below(rng, 8) == 0)
			memset(at, (int)rng_u64(rng), OD_MBLK_SIZE);
		else
			at[48 + rng_below(rng, 4000)] = (uint8_t)rng_u64(rng);
		if (rng_below(rng, 4) && le32_get(((struct od_hdr *)(void *)at)->magic))
			image_fix(im, mblk);
	}
}

START_TEST(damage_is_repaired)
{
	const uint64_t seed = unit_seed(815) + (uint64_t)_i;
	struct rng rng;

	rng_seed(&rng, seed);
	for (unsigned round = 0; round < 25; round++) {
		struct chk_result res;
		struct image im;
		char *text;
		int err;

		image_build(&im);
		damage(&im, &rng);
		text = check(im.bd, true, &res, &err);
		if (!res.unknown) {
			ck_assert_msg(!err && res.left == 0, "seed %llu, round %u: %d, %llu left: %s",
				      (unsigned long long)seed, round, err,
				      (unsigned long long)res.left, text);
			must_be_clean(im.bd, "afterwards");
			must_work(&im);
		}
		free(text);
		image_free(&im);
	}
}
END_TEST

/* The power goes at any write of a repair: the next one ends it. */
START_TEST(repair_is_cut)
{
	const struct fault *f = &image_faults[_i];

	if (beyond_repair(f->code))
		return;
	for (uint64_t cut = 1;; cut++) {
		struct chk_result res;
		struct image im;
		struct bd *crash;
		char *text;
		int err;

		image_build(&im);
		f->make(&im);
		ck_assert_int_eq(bd_crash_create(filefs_passthrough(im.bd), &crash), 0);
		bd_crash_arm(crash, cut, cut);
		free(check(crash, true, &res, &err));
		if (!err)
			bd_crash_cut(crash, cut);
		bd_close(crash);
		if (!err) {
			image_free(&im);
			break;
		}
		text = check(im.bd, true, &res, &err);
		ck_assert_msg(!err && res.left == 0, "%s, cut %llu: %d, %llu left: %s", f->code,
			      (unsigned long long)cut, err, (unsigned long long)res.left, text);
		free(text);
		must_be_clean(im.bd, "afterwards");
		image_free(&im);
		ck_assert_uint_lt(cut, 200);
	}
}
END_TEST

/* Long, and one thread does it: nothing for ThreadSanitizer. */
#ifdef __SANITIZE_THREAD__
#define LONG(n) MIN(n, 3)
#else
#define LONG(n) (n)
#endif

int main(void)
{
	Suite *s = suite_create("repair");
	TCase *tc = tcase_create("repair");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, fault_is_repaired, 0, (int)image_nr_faults);
	tcase_add_test(tc, shared_blocks_are_copied);
	tcase_add_test(tc, own_blocks_stay);
	tcase_add_loop_test(tc, other_files_are_whole, 0, LONG((int)image_nr_faults));
	tcase_add_loop_test(tc, damage_is_repaired, 0, LONG(12));
	tcase_add_loop_test(tc, repair_is_cut, 0, LONG((int)image_nr_faults));
	suite_add_tcase(s, tc);
	return unit_run(s);
}

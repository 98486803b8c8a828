/* SPDX-License-Identifier: MIT */
/*
 * The checker: clean file systems are clean over all geometries, and each single fault of
 * a table is found under its own name. Faults are made with sound checksums unless the
 * checksum is the point: what must be found is the contradiction.
 */
#include <string.h>
#include <sys/stat.h>

#include "image.h"
#include "iomapfs/check.h"
#include "iomapfs/util.h"
#include "mk.h"
#include "unit.h"

/* Run the checker; its output, to be freed. */
static char *run(struct bd *bd, struct chk_result *res, int *err)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const struct chk_opts opts = { .readonly = true, .out = out };

	ck_assert_ptr_nonnull(out);
	*err = chk_run(bd, &opts, res);
	fclose(out);
	return text;
}

static bool has_code(const char *text, const char *code)
{
	char want[48];

	snprintf(want, sizeof(want), "[%s]", code);
	return strstr(text, want) != NULL;
}

START_TEST(fresh_is_clean)
{
	static const uint64_t sizes[] = { 16ull << 20, (17ull << 20) + 12345 * 512, 40ull << 20,
					  100ull << 20, 1ull << 30, 1ull << 40, 16ull << 40 };

	for (unsigned shift = OD_BLOCK_SHIFT_MIN; shift <= OD_BLOCK_SHIFT_MAX; shift++) {
		struct chk_result res;
		struct bd *bd;
		char *text;
		int err;

		ck_assert_int_eq(bd_mem_create(sizes[_i], 512, &bd), 0);
		ck_assert_int_eq(mk_default(bd, shift), 0);
		text = run(bd, &res, &err);
		ck_assert_msg(err == 0 && res.found == 0 && text[0] == '\0', "shift %u: %d, %s", shift,
			      err, text);
		ck_assert_uint_eq(res.inodes, 1);
		ck_assert_uint_eq(res.dirs, 1);
		free(text);
		bd_close(bd);
	}
}
END_TEST

START_TEST(not_ours)
{
	struct chk_result res;
	struct bd *bd;
	int err;

	ck_assert_int_eq(bd_mem_create(16u << 20, 512, &bd), 0);
	free(run(bd, &res, &err));
	ck_assert_int_eq(err, -EMEDIUMTYPE);
	bd_close(bd);
}
END_TEST

START_TEST(everything_is_clean)
{
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert_msg(res.found == 0, "%s", text);
	ck_assert(has_code(text, "ORPHAN-CLEAN"));
	ck_assert_uint_eq(res.inodes, 7);
	ck_assert_uint_eq(res.dirs, 2);
	ck_assert_uint_eq(res.blocks_used + res.blocks_free, im.sb.nr_blocks);
	free(text);
	image_free(&im);
}
END_TEST

/* ---- Faults -------------------------------------------------------------------------------- */

#define FAULT(name) static void name(struct image *im)
#define SET64(field, x) ((field) = le64_make(x))
#define ADD64(field, x) ((field) = le64_make(le64_get(field) + (uint64_t)(x)))

static void fix_inodes(struct image *im)
{
	image_fix(im, od_ino_mblk(im->sb.root_ino));
}

static void fix_ag(struct image *im)
{
	image_fix(im, OD_AG_HDR_MBLK);
}

FAULT(primary_crc) { im->base[4] ^= 1; }
FAULT(copy_crc) { ((uint8_t *)image_block(im, od_ag_start_mblk(&im->c, 1)))[200] ^= 1; }
FAULT(copy_label)
{
	struct sb_info sb = im->sb;

	snprintf(sb.label, sizeof(sb.label), "other");
	od_sb_encode(&sb, 1, image_block(im, od_ag_start_mblk(&im->c, 1)));
}
FAULT(all_copies)
{
	for (uint32_t agno = 0; agno < im->sb.nr_ags; agno++)
		((uint8_t *)image_block(im, od_ag_start_mblk(&im->c, agno)))[200] ^= 1;
}
FAULT(jsb_crc) { ((uint8_t *)image_block(im, im->sb.jnl_start))[64] ^= 1; }
FAULT(jsb_tail)
{
	SET64(((struct od_jsb *)image_block(im, im->sb.jnl_start))->tail_block, im->sb.jnl_len);
	image_fix(im, im->sb.jnl_start);
}
FAULT(jsb_feature)
{
	SET64(((struct od_jsb *)image_block(im, im->sb.jnl_start))->incompat, 8);
	image_fix(im, im->sb.jnl_start);
}
FAULT(ag_crc) { image_ag(im, 0)->reserve[0].b[0] ^= 1; }
FAULT(head_spare) { ((uint8_t *)image_block(im, OD_AG_HDR_MBLK + 1))[7] = 1; }
FAULT(ag_free) { ADD64(image_ag(im, 0)->free_blocks, -1); fix_ag(im); }
/* Group 0 has no cluster that is partly used, the others do. */
FAULT(ag_slots)
{
	ADD64(image_ag(im, 1)->free_slots, 1);
	image_fix(im, od_ag_start_mblk(&im->c, 1) + OD_AG_HDR_MBLK);
}
FAULT(ag_inodes) { ADD64(image_ag(im, 0)->nr_inodes, 1); fix_ag(im); }
FAULT(ag_free_inodes) { ADD64(image_ag(im, 0)->nr_free_inodes, 1); fix_ag(im); }
FAULT(reserve_twice)
{
	struct od_ag *ag = image_ag(im, 0);

	SET64(ag->reserve[0], im->root_block);
	fix_ag(im);
}
FAULT(free_len)
{
	const uint64_t mblk = le64_get(image_ag(im, 0)->free_len.mblk);

	ADD64(image_recs(im, mblk)[0], -1);
	image_fix(im, mblk);
}
FAULT(free_shrunk)
{
	struct od_ag *ag = image_ag(im, 0);
	const uint64_t pos = le64_get(ag->free_pos.mblk), len = le64_get(ag->free_len.mblk);

	ADD64(image_recs(im, pos)[1], -4);
	ADD64(image_recs(im, len)[0], -4);
	ADD64(ag->free_blocks, -4);
	image_fix(im, pos);
	image_fix(im, len);
	fix_ag(im);
}
FAULT(free_grown)
{
	struct od_ag *ag = image_ag(im, 0);
	const uint64_t pos = le64_get(ag->free_pos.mblk);

	ADD64(image_recs(im, pos)[0], -1);
	ADD64(image_recs(im, pos)[1], 1);
	image_fix(im, pos);
}
FAULT(slot_used)
{
	const uint64_t mblk = le64_get(image_ag(im, 1)->slot.mblk);

	ADD64(image_recs(im, mblk)[1], 1);
	image_fix(im, mblk);
}
FAULT(inofree_key)
{
	const uint64_t mblk = le64_get(image_ag(im, 0)->inofree.mblk);

	ADD64(image_recs(im, mblk)[0], 4);
	image_fix(im, mblk);
}
FAULT(node_crc) { ((uint8_t *)image_block(im, im->extent_node))[1000] ^= 1; }
FAULT(node_owner)
{
	((struct od_hdr *)image_block(im, im->extent_node))->owner = le64_make(im->file_list);
	image_fix(im, im->extent_node);
}
FAULT(node_level)
{
	struct od_root *root = (void *)image_inode(im, im->file_tree)->area;

	root->level = le16_make(1);
	fix_inodes(im);
}
FAULT(node_shared)
{
	struct od_dir_root *root = (void *)image_inode(im, im->dir)->area;

	SET64(root->map.mblk, im->extent_node);
	fix_inodes(im);
}
FAULT(inode_block_crc)
{
	((uint8_t *)image_block(im, od_ino_mblk(im->sb.root_ino)))[3000] ^= 1;
}
FAULT(inode_nsec)
{
	image_inode(im, im->file_list)->mtime.nsec = le32_make(1000000000);
	fix_inodes(im);
}
FAULT(inode_spare) { SET64(image_inode(im, im->file_list)->spare[3], 1); fix_inodes(im); }
FAULT(inode_unused)
{
	image_inode(im, im->file_list)->mode = le16_make(0);
	image_inode(im, im->file_list)->nlink = le32_make(0);
	fix_inodes(im);
}
FAULT(inode_marked_free)
{
	const uint64_t mblk = le64_get(image_ag(im, 0)->ino.mblk);

	ADD64(image_recs(im, mblk)[1], 1u << (od_ino_slot(im->file_inline) - 1));
	image_fix(im, mblk);
}
FAULT(extent_shared)
{
	le64_t *rec = image_recs(im, im->extent_node);

	ADD64(rec[1], -1);
	image_fix(im, im->extent_node);
}
FAULT(extent_past_eof) { SET64(image_inode(im, im->file_tree)->size, 4096); fix_inodes(im); }
FAULT(extent_count) { ADD64(image_inode(im, im->file_tree)->nr_extents, 1); fix_inodes(im); }
FAULT(inode_blocks) { ADD64(image_inode(im, im->file_list)->nr_blocks, 8); fix_inodes(im); }
FAULT(dir_inode_blocks) { ADD64(image_inode(im, im->dir)->nr_blocks, 8); fix_inodes(im); }
FAULT(blob_crc) { ((uint8_t *)image_block(im, im->attr_blob))[100] ^= 1; }
FAULT(blob_loop)
{
	struct od_blob *b = (void *)image_recs(im, im->link_blocks[1]);

	SET64(b->next, im->link_blocks[0]);
	image_fix(im, im->link_blocks[1]);
}
FAULT(blob_short)
{
	struct od_blob *b = (void *)image_recs(im, im->link_blocks[1]);

	b->len = le32_make(le32_get(b->len) - 1);
	image_fix(im, im->link_blocks[1]);
}
FAULT(link_size) { ADD64(image_inode(im, im->link_blob)->size, -1); fix_inodes(im); }
FAULT(xattr_ns)
{
	((uint8_t *)image_recs(im, im->attr_blob))[16] = 99;
	image_fix(im, im->attr_blob);
}
FAULT(root_gone)
{
	struct sb_info sb = im->sb;

	sb.root_ino = im->file_inline;
	for (uint32_t agno = 0; agno < sb.nr_ags; agno++)
		od_sb_encode(&sb, agno, image_block(im, od_ag_start_mblk(&im->c, agno)));
}
FAULT(dir_block_crc) { ((uint8_t *)image_block(im, im->dir_block[1]))[90] ^= 1; }
FAULT(dir_block_index)
{
	SET64(image_recs(im, im->dir_block[1])[0], 7);
	image_fix(im, im->dir_block[1]);
}
FAULT(dir_block_twice)
{
	SET64(image_recs(im, im->map_node)[1], im->dir_block[0]);
	image_fix(im, im->map_node);
}
FAULT(free_list_loop)
{
	SET64(image_recs(im, im->dir_block[1])[1], 1);
	image_fix(im, im->dir_block[1]);
}
FAULT(free_list_off)
{
	struct od_dir_root *root = (void *)image_inode(im, im->dir)->area;

	SET64(root->free_head, 2);
	fix_inodes(im);
}
FAULT(entry_dead)
{
	SET64(image_entry(im, im->root_block)->ino, od_ino_make(od_ino_mblk(im->sb.root_ino) + 1, 3));
	image_fix(im, im->root_block);
}
FAULT(entry_type)
{
	image_entry(im, im->dir_block[0])->type = 10;
	image_fix(im, im->dir_block[0]);
}
FAULT(name_twice)
{
	const uint64_t hash = od_name_hash(im->sb.hash_seed, "one", 3);
	struct od_dirent *de = image_entry(im, im->dir_block[1]);
	le64_t *rec = image_recs(im, im->hash_node);
	const uint64_t pos = OD_DIR_FIRST / 8;

	memcpy(de->name, "one", 3);
	de->hash = le32_make((uint32_t)hash);
	SET64(rec[0], hash);
	SET64(rec[1], pos);
	SET64(rec[2], hash);
	SET64(rec[3], pos + 512);
	image_fix(im, im->dir_block[1]);
	image_fix(im, im->hash_node);
}
FAULT(entry_count)
{
	struct od_dir_root *root = (void *)image_inode(im, im->dir)->area;

	SET64(root->nr_entries, 3);
	fix_inodes(im);
}
FAULT(hash_wrong)
{
	ADD64(image_recs(im, im->hash_node)[2], 1);
	image_fix(im, im->hash_node);
}
FAULT(dir_parent) { SET64(image_inode(im, im->dir)->parent, im->dir); fix_inodes(im); }
FAULT(dir_in_itself)
{
	struct od_dirent *de = image_entry(im, im->dir_block[0]);

	/* "dir" is found in itself as "one"; its name in the root leads to a file. */
	SET64(de->ino, im->dir);
	de->type = 4;
	image_fix(im, im->dir_block[0]);
	de = image_entry(im, im->root_block);
	for (unsigned i = 0; i < 4; i++)
		de = (void *)((uint8_t *)de + le16_get(de->rec_len));
	SET64(de->ino, im->file_list);
	de->type = 8;
	image_fix(im, im->root_block);
}
FAULT(dir_two_names)
{
	struct od_dirent *de = image_entry(im, im->dir_block[0]);

	SET64(de->ino, im->dir);
	de->type = 4;
	image_fix(im, im->dir_block[0]);
}
FAULT(link_count)
{
	image_inode(im, im->file_list)->nlink = le32_make(2);
	fix_inodes(im);
}
FAULT(dir_link_count)
{
	image_inode(im, im->sb.root_ino)->nlink = le32_make(2);
	fix_inodes(im);
}
FAULT(lost)
{
	SET64(image_recs(im, im->orphan_node)[0], im->file_inline);
	image_fix(im, im->orphan_node);
}
FAULT(orphan_dead)
{
	SET64(image_recs(im, im->orphan_node)[0], od_ino_make(od_ino_mblk(im->orphan) + 1, 1));
	image_fix(im, im->orphan_node);
}
FAULT(orphan_kind)
{
	SET64(image_recs(im, im->orphan_node)[0], im->dir);
	SET64(image_recs(im, im->orphan_node)[1], OD_ORPHAN_TRUNCATE);
	image_fix(im, im->orphan_node);
}

static const struct fault {
	void (*make)(struct image *im);
	const char *code;
} faults[] = {
	{ primary_crc, "SB-PRIMARY" },
	{ copy_crc, "SB-COPY" },
	{ copy_label, "SB-COPY-DIFFERS" },
	{ all_copies, "SB-NONE" },
	{ jsb_crc, "JNL-SB" },
	{ jsb_tail, "JNL-SB" },
	{ jsb_feature, "JNL-FEATURE" },
	{ ag_crc, "AG-HEADER" },
	{ head_spare, "AG-HEAD-SPARE" },
	{ ag_free, "AG-FREE-BLOCKS" },
	{ ag_slots, "AG-FREE-SLOTS" },
	{ ag_inodes, "AG-INODES" },
	{ ag_free_inodes, "AG-FREE-INODES" },
	{ reserve_twice, "DIR-BLOCK-SHARED" },
	{ free_len, "FREE-LEN-UNKNOWN" },
	{ free_len, "FREE-LEN-MISSING" },
	{ free_shrunk, "SPACE-LOST" },
	{ free_grown, "EXTENT-SHARED" },
	{ slot_used, "SPACE-CLAIMED-TWICE" },
	{ inofree_key, "INOFREE-UNKNOWN" },
	{ inofree_key, "INOFREE-MISSING" },
	{ node_crc, "TREE-NODE" },
	{ node_owner, "TREE-LINK" },
	{ node_level, "TREE-LINK" },
	{ node_shared, "TREE-NODE-SHARED" },
	{ inode_block_crc, "INODE-BLOCK" },
	{ inode_nsec, "INODE-BAD" },
	{ inode_spare, "INODE-BAD" },
	{ inode_unused, "INODE-USED-IN-MAP" },
	{ inode_unused, "DIR-ENTRY-DEAD" },
	{ inode_marked_free, "INODE-FREE-IN-MAP" },
	{ extent_shared, "EXTENT-SHARED" },
	{ extent_past_eof, "EXTENT-PAST-EOF" },
	{ extent_count, "EXTENT-COUNT" },
	{ inode_blocks, "INODE-BLOCKS" },
	{ dir_inode_blocks, "INODE-BLOCKS" },
	{ blob_crc, "BLOB-BLOCK" },
	{ blob_loop, "BLOB-SHARED" },
	{ blob_short, "BLOB-LENGTH" },
	{ link_size, "SYMLINK-TARGET" },
	{ xattr_ns, "XATTR-LIST" },
	{ root_gone, "ROOT-BAD" },
	{ dir_block_crc, "DIR-BLOCK" },
	{ dir_block_index, "DIR-BLOCK-INDEX" },
	{ dir_block_twice, "DIR-BLOCK-SHARED" },
	{ free_list_loop, "DIR-FREE-LIST" },
	{ free_list_off, "DIR-FREE-LIST" },
	{ entry_dead, "DIR-ENTRY-DEAD" },
	{ entry_type, "DIR-ENTRY-TYPE" },
	{ name_twice, "DIR-NAME-TWICE" },
	{ entry_count, "DIR-ENTRY-COUNT" },
	{ hash_wrong, "DIR-HASH-MISSING" },
	{ hash_wrong, "DIR-HASH-UNKNOWN" },
	{ dir_parent, "DIR-PARENT" },
	{ dir_in_itself, "DIR-LOOP" },
	{ dir_two_names, "DIR-TWO-PARENTS" },
	{ link_count, "LINK-COUNT" },
	{ dir_link_count, "LINK-COUNT" },
	{ lost, "INODE-LOST" },
	{ lost, "ORPHAN-LINKED" },
	{ orphan_dead, "ORPHAN-DEAD" },
	{ orphan_kind, "ORPHAN-KIND" },
};

START_TEST(fault_is_named)
{
	const struct fault *f = &faults[_i];
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	f->make(&im);
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert_msg(has_code(text, f->code) && res.found > 0, "wanted %s, got:\n%s", f->code, text);
	free(text);
	image_free(&im);
}
END_TEST

/*
 * Hostile images: any bytes may be anything, with sound checksums. The checker must come
 * to an end without touching what is not its own (the sanitizers watch).
 */
START_TEST(random_damage)
{
	const uint64_t seed = unit_seed(4711) + (uint64_t)_i;
	struct rng rng;

	rng_seed(&rng, seed);
	for (unsigned round = 0; round < 40; round++) {
		struct chk_result res;
		struct image im;
		int err;

		image_build(&im);
		for (unsigned n = 1 + (unsigned)rng_below(&rng, 6); n > 0; n--) {
			const uint64_t blocks[] = { im.root_block, im.dir_block[0], im.dir_block[1],
						    im.map_node, im.hash_node, im.extent_node,
						    im.link_blocks[0], im.attr_blob, im.orphan_node,
						    od_ino_mblk(im.sb.root_ino), OD_AG_HDR_MBLK,
						    le64_get(image_ag(&im, 0)->ino.mblk),
						    le64_get(image_ag(&im, 0)->free_pos.mblk),
						    im.sb.jnl_start, 0 };
			const uint64_t mblk = blocks[rng_below(&rng, ARRAY_SIZE(blocks))];
			uint8_t *at;

			if (mblk >= im.c.dev_mblks) /* an address that was damaged before */
				continue;
			at = image_block(&im, mblk);
			at[48 + rng_below(&rng, 300)] = (uint8_t)rng_u64(&rng);
			image_fix(&im, mblk);
		}
		free(run(im.bd, &res, &err));
		ck_assert_msg(err == 0 || err == -EOPNOTSUPP, "seed %llu: %d",
			      (unsigned long long)seed, err);
		image_free(&im);
	}
}
END_TEST

/* ---- Journal --------------------------------------------------------------------------------- */

/* One transaction in the ring: a new image of the root's inode block with another link count. */
static void log_root(struct image *im, uint64_t seq, uint64_t at, unsigned nlink, bool revoke)
{
	const uint64_t ring = im->sb.jnl_start + 1, home = od_ino_mblk(im->sb.root_ino);
	uint8_t *image = image_block(im, ring + at + 1);
	struct od_hdr *desc = image_block(im, ring + at);
	struct od_jdesc_entry *e = (void *)(desc + 1);
	struct od_jcommit *commit = image_block(im, ring + at + 2);
	struct od_jsb *jsb = image_block(im, im->sb.jnl_start);

	od_hdr_init(desc, revoke ? OD_MAGIC_JREV : OD_MAGIC_JDESC, im->c.meta_uuid, 0, ring + at);
	desc->nrecs = le16_make(1);
	if (revoke) {
		commit = (void *)image;
		*(le64_t *)(void *)e = le64_make(home);
	} else {
		memcpy(image, image_block(im, home), OD_MBLK_SIZE);
		((struct od_inode *)(void *)(image + OD_HDR_SIZE))->nlink = le32_make(nlink);
		od_seal(image, seq);
		e->mblk = le64_make(home);
		e->crc = le32_make(od_crc32c(0, image, OD_MBLK_SIZE));
	}
	od_seal(desc, seq);
	od_hdr_init(commit, OD_MAGIC_JCOMMIT, im->c.meta_uuid, 0, ring + at + (revoke ? 1 : 2));
	commit->nr_blocks = le64_make(revoke ? 2 : 3);
	commit->chain_crc = le32_make(od_crc32c(0, &desc->crc, sizeof(desc->crc)));
	od_seal(commit, seq);
	jsb->clean = le64_make(0);
	image_fix(im, im->sb.jnl_start);
}

START_TEST(log_is_followed)
{
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	log_root(&im, 1, 0, 9, false);
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert(has_code(text, "JNL-REPLAYED"));
	ck_assert_msg(has_code(text, "LINK-COUNT"), "%s", text);
	free(text);

	/* The next transaction takes the image back. */
	log_root(&im, 2, 3, 0, true);
	text = run(im.bd, &res, &err);
	ck_assert_msg(res.found == 0 && has_code(text, "JNL-REPLAYED"), "%s", text);
	free(text);

	/* And one more logs it again. */
	log_root(&im, 3, 5, 4, false);
	text = run(im.bd, &res, &err);
	ck_assert_msg(has_code(text, "LINK-COUNT"), "%s", text);
	free(text);
	image_free(&im);
}
END_TEST

START_TEST(torn_tail_is_ignored)
{
	static const unsigned torn[] = { 0, 1, 2 }; /* descriptor, image, commit */
	struct chk_result res;
	struct image im;
	char *text;
	int err;

	image_build(&im);
	log_root(&im, 1, 0, 9, false);
	((uint8_t *)image_block(&im, im.sb.jnl_start + 1 + torn[_i]))[600] ^= 1;
	text = run(im.bd, &res, &err);
	ck_assert_int_eq(err, 0);
	ck_assert_msg(res.found == 0 && !has_code(text, "JNL-REPLAYED"), "%s", text);
	free(text);
	image_free(&im);
}
END_TEST

START_TEST(problem_table)
{
	unsigned n = 0;

	for (const struct chk_problem_info *p; (p = chk_problem_get(n)); n++) {
		ck_assert_uint_le(p->pass, 5);
		ck_assert_uint_gt(strlen(p->text), 10);
		for (unsigned i = 0; i < n; i++)
			ck_assert_str_ne(p->code, chk_problem_get(i)->code);
	}
	ck_assert_uint_gt(n, 40);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("check");
	TCase *tc = tcase_create("check");

	tcase_set_timeout(tc, 60);
#ifdef __SANITIZE_THREAD__
	/* Its shadow leaves no room for a TiB of address space. */
	tcase_add_loop_test(tc, fresh_is_clean, 0, 5);
#else
	tcase_add_loop_test(tc, fresh_is_clean, 0, 7);
#endif
	tcase_add_test(tc, not_ours);
	tcase_add_test(tc, everything_is_clean);
	tcase_add_loop_test(tc, fault_is_named, 0, (int)ARRAY_SIZE(faults));
	tcase_add_loop_test(tc, random_damage, 0, 8);
	tcase_add_test(tc, log_is_followed);
	tcase_add_loop_test(tc, torn_tail_is_ignored, 0, 3);
	tcase_add_test(tc, problem_table);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

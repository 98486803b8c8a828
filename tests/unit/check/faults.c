/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/stat.h>

#include "faults.h"
#include "iomapfs/util.h"

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
FAULT(inode_spare) { SET64(image_inode(im, im->file_list)->spare[2], 1); fix_inodes(im); }
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
FAULT(dir_block_missing)
{
	struct od_inode *di = image_inode(im, im->dir);
	struct od_dir_root root;

	memcpy(&root, di->area, sizeof(root));
	SET64(root.nr_blocks, 3);
	memcpy(di->area, &root, sizeof(root));
	SET64(di->size, 3 * OD_MBLK_SIZE);
	image_fix(im, od_ino_mblk(im->dir));
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
FAULT(orphan_kind_shift)
{
	SET64(image_recs(im, im->orphan_node)[1], OD_ORPHAN_SHIFT);
	image_fix(im, im->orphan_node);
}
FAULT(shift_lost)
{
	struct od_inode *di = image_inode(im, im->file_list);

	di->shift_op = le32_make(OD_SHIFT_INSERT);
	SET64(di->shift_len, 1);
	fix_inodes(im);
}
FAULT(shift_bad)
{
	SET64(image_inode(im, im->file_list)->shift_next, 1);
	fix_inodes(im);
}

FAULT(mmp_crc)
{
	od_mmp_init(image_block(im, OD_AG_MMP_MBLK), im->c.meta_uuid, 7, 0, "host", "dev");
	((uint8_t *)image_block(im, OD_AG_MMP_MBLK))[90] ^= 1;
}
FAULT(nothing) { (void)im; }
FAULT(log_waits) { image_log(im, 1, 0, 3, false); }
FAULT(sb_feature)
{
	struct sb_info sb = im->sb;

	sb.ro_compat = 4;
	for (uint32_t agno = 0; agno < sb.nr_ags; agno++)
		od_sb_encode(&sb, agno, image_block(im, od_ag_start_mblk(&im->c, agno)));
}
FAULT(bad_image)
{
	image_log(im, 1, 0, 4, false);
	/* Nanoseconds beyond a second: the image is whole, what it says is not. */
	image_log_edit(im, 0, OD_HDR_SIZE + 6 * OD_INODE_SIZE + 79, 0xff);
}
/* A block that may be used: the last of a group's reserve. */
static uint64_t take_reserve(struct image *im, uint32_t agno)
{
	struct od_ag *ag = image_ag(im, agno);
	const uint32_t n = le32_get(ag->nr_reserve) - 1;
	const uint64_t mblk = le64_get(ag->reserve[n]);

	ag->nr_reserve = le32_make(n);
	ag->reserve[n] = le64_make(0);
	image_fix(im, od_ag_start_mblk(&im->c, agno) + OD_AG_HDR_MBLK);
	return mblk;
}
/* Group 1's only free extent as two that overlap, or touch; the index by length says the same. */
static void split_free(struct image *im, uint64_t overlap)
{
	struct od_ag *ag = image_ag(im, 1);
	const uint64_t pos = le64_get(ag->free_pos.mblk), len = le64_get(ag->free_len.mblk);
	le64_t *p = image_recs(im, pos), *l = image_recs(im, len);
	const uint64_t start = le64_get(p[0]), n = le64_get(p[1]);

	SET64(p[1], 8);
	SET64(p[2], start + 8 - overlap);
	SET64(p[3], n - 8 + overlap);
	SET64(l[0], 8);
	SET64(l[1], start);
	SET64(l[2], n - 8 + overlap);
	SET64(l[3], start + 8 - overlap);
	((struct od_hdr *)image_block(im, pos))->nrecs = le16_make(2);
	((struct od_hdr *)image_block(im, len))->nrecs = le16_make(2);
	image_fix(im, pos);
	image_fix(im, len);
}
FAULT(free_cross)
{
	/* In one leaf the verifier sees it: the second one goes to a leaf of its own. */
	struct od_ag *ag = image_ag(im, 1);
	const uint64_t leaf = le64_get(ag->free_pos.mblk);
	const uint64_t second = take_reserve(im, 1), top = take_reserve(im, 1);
	uint64_t start;

	split_free(im, 0);
	start = le64_get(image_recs(im, leaf)[2]);
	image_copy_node(im, leaf, second);
	image_copy_node(im, leaf, top);
	SET64(image_recs(im, second)[0], start);
	SET64(image_recs(im, second)[1], le64_get(image_recs(im, leaf)[3]));
	SET64(image_recs(im, leaf)[1], 9);
	((struct od_hdr *)image_block(im, leaf))->nrecs = le16_make(1);
	((struct od_hdr *)image_block(im, second))->nrecs = le16_make(1);
	((struct od_hdr *)image_block(im, top))->level = le16_make(1);
	SET64(image_recs(im, top)[0], le64_get(image_recs(im, leaf)[0]));
	SET64(image_recs(im, top)[1], leaf);
	SET64(image_recs(im, top)[2], start);
	SET64(image_recs(im, top)[3], second);
	image_fix(im, leaf);
	image_fix(im, second);
	image_fix(im, top);
	ag->free_pos.mblk = le64_make(top);
	ag->free_pos.level = le16_make(1);
	image_fix(im, od_ag_start_mblk(&im->c, 1) + OD_AG_HDR_MBLK);
}
FAULT(free_split) { split_free(im, 0); }
FAULT(slot_all)
{
	const uint64_t mblk = le64_get(image_ag(im, 1)->slot.mblk);

	SET64(image_recs(im, mblk)[1], (1u << (1u << (im->c.cluster_shift - OD_MBLK_SHIFT))) - 1);
	image_fix(im, mblk);
}
FAULT(inode_cluster)
{
	const uint64_t mblk = le64_get(image_ag(im, 0)->ino.mblk);
	le64_t *rec = image_recs(im, mblk);

	/* A second cluster, where the group's own nodes are. */
	SET64(rec[3], le64_get(rec[0]) + (1u << (im->c.cluster_shift - OD_MBLK_SHIFT)));
	SET64(rec[4], 0);
	SET64(rec[5], 0);
	((struct od_hdr *)image_block(im, mblk))->nrecs = le16_make(2);
	image_fix(im, mblk);
}
FAULT(tree_keys)
{
	struct od_root *root = (void *)image_inode(im, im->file_tree)->area;
	const uint64_t top = take_reserve(im, 0);

	/* A node above the leaf that says it starts later than it does, and one more before it. */
	image_copy_node(im, im->extent_node, top);
	((struct od_hdr *)image_block(im, top))->level = le16_make(1);
	((struct od_hdr *)image_block(im, top))->nrecs = le16_make(2);
	SET64(image_recs(im, top)[0], 0);
	SET64(image_recs(im, top)[1], im->extent_node);
	SET64(image_recs(im, top)[2], 3);
	SET64(image_recs(im, top)[3], im->attr_blob);
	image_fix(im, top);
	root->mblk = le64_make(top);
	root->level = le16_make(1);
	fix_inodes(im);
}
FAULT(extent_cross)
{
	/* Two leaves that overlap: one alone would not pass its own checks. */
	struct od_root *root = (void *)image_inode(im, im->file_tree)->area;
	const uint64_t top = take_reserve(im, 0);
	const uint64_t second = take_reserve(im, 0);

	image_copy_node(im, im->extent_node, top);
	image_copy_node(im, im->extent_node, second);
	memcpy(image_recs(im, second), image_recs(im, im->extent_node) + 3, 24);
	((struct od_hdr *)image_block(im, second))->nrecs = le16_make(1);
	((struct od_hdr *)image_block(im, im->extent_node))->nrecs = le16_make(1);
	*(le32_t *)(void *)((uint8_t *)image_recs(im, im->extent_node) + 16) = le32_make(6);
	((struct od_hdr *)image_block(im, top))->level = le16_make(1);
	SET64(image_recs(im, top)[0], 0);
	SET64(image_recs(im, top)[1], im->extent_node);
	SET64(image_recs(im, top)[2], 5);
	SET64(image_recs(im, top)[3], second);
	image_fix(im, top);
	image_fix(im, second);
	image_fix(im, im->extent_node);
	root->mblk = le64_make(top);
	root->level = le16_make(1);
	fix_inodes(im);
}
FAULT(acl_bad)
{
	/* The attribute "x" of four bytes as an access list without entries. */
	uint8_t *x = image_inode(im, im->file_list)->area + OD_INODE_AREA - 16;

	memset(x, 0, 16);
	x[0] = OD_XNS_ACL_ACCESS;
	x[4] = 8;
	x[8] = 2;
	fix_inodes(im);
}

/* Blocks and owners of the only shared extent. */
static void set_refc(struct image *im, uint32_t len, uint32_t refs)
{
	SET64(image_recs(im, im->refc_node)[1], len | (uint64_t)refs << 32);
	image_fix(im, im->refc_node);
}
FAULT(refc_high) { set_refc(im, 1, 3); }
FAULT(refc_long) { set_refc(im, 2, 2); }
FAULT(refc_elsewhere)
{
	SET64(image_recs(im, im->refc_node)[0], im->data + 6);
	image_fix(im, im->refc_node);
}
FAULT(refc_gone) { SET64(image_ag(im, 0)->refc.mblk, 0); fix_ag(im); }
FAULT(refc_crc) { ((uint8_t *)image_block(im, im->refc_node))[200] ^= 1; }
FAULT(shared_flag) { image_inode(im, im->file_tree)->data_flags = le16_make(0); fix_inodes(im); }
FAULT(shared_unwritten)
{
	le64_t *rec = (le64_t *)(void *)image_inode(im, im->orphan)->area + 3;

	SET64(rec[2], le64_get(rec[2]) | (uint64_t)OD_EXTENT_UNWRITTEN << 32);
	fix_inodes(im);
}

/* The counts are lost, and of two owners the first one says unwritten: it cannot be one of two. */
FAULT(unwritten_counts_lost)
{
	le64_t *rec = image_recs(im, im->extent_node);

	SET64(rec[2], le64_get(rec[2]) | (uint64_t)OD_EXTENT_UNWRITTEN << 32);
	image_fix(im, im->extent_node);
	refc_crc(im);
}

const struct fault image_faults[] = {
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
	{ dir_block_missing, "DIR-BLOCK-MISSING" },
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
	{ orphan_kind_shift, "ORPHAN-KIND" },
	{ shift_lost, "SHIFT-LOST" },
	{ shift_bad, "INODE-BAD" },
	{ mmp_crc, "MMP-BLOCK" },
	{ sb_feature, "SB-FEATURE" },
	{ bad_image, "JNL-IMAGE" },
	{ inode_cluster, "SPACE-CLAIMED-TWICE" },
	{ tree_keys, "TREE-KEYS" },
	{ free_cross, "TREE-RECORDS-CROSS" },
	{ extent_cross, "TREE-RECORDS-CROSS" },
	{ acl_bad, "XATTR-ACL" },
	{ refc_high, "REFC-COUNT" },
	{ refc_long, "REFC-COUNT" },
	{ refc_elsewhere, "EXTENT-SHARED" },
	{ refc_elsewhere, "REFC-COUNT" },
	{ refc_gone, "EXTENT-SHARED" },
	{ refc_crc, "TREE-NODE" },
	{ shared_flag, "INODE-SHARED-FLAG" },
	{ shared_unwritten, "EXTENT-UNWRITTEN-SHARED" },
	{ unwritten_counts_lost, "TREE-NODE" },
};
const unsigned image_nr_faults = ARRAY_SIZE(image_faults);

const struct fault image_notes[] = {
	{ nothing, "ORPHAN-CLEAN" },
	{ log_waits, "JNL-REPLAYED" },
	{ free_split, "FREE-NOT-MERGED" },
	{ slot_all, "SLOT-ALL-FREE" },
};
const unsigned image_nr_notes = ARRAY_SIZE(image_notes);

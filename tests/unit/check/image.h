/* SPDX-License-Identifier: MIT */
/*
 * A small file system in memory, built by hand from the format alone, that has one of
 * everything; and ways to reach each of its blocks, so that tests can damage them.
 */
#ifndef TEST_CHECK_IMAGE_H
#define TEST_CHECK_IMAGE_H

#include "iomapfs/block.h"
#include "iomapfs/format.h"

struct image {
	struct bd *bd;
	uint8_t *base;
	struct sb_info sb;
	struct od_ctx c;
	/* Inodes: the root and who has which name in it. */
	uint64_t file_list;   /* "list": extent list, attributes in the inode, three names */
	uint64_t file_tree;   /* "tree": extent tree, attributes in a blob */
	uint64_t file_inline; /* "inline" */
	uint64_t link_blob;   /* "link": target in a blob of two blocks */
	uint64_t dir;         /* "dir": two blocks, hash tree; names "one" and "two" of file_list */
	uint64_t orphan;      /* no name, on the orphan list; shares a block with file_tree */
	/* Metadata blocks. */
	uint64_t root_block, dir_block[2], map_node, hash_node, extent_node, link_blocks[2];
	uint64_t attr_blob, orphan_node, refc_node;
	uint64_t data;        /* fsb: 16 blocks of data from here */
	/* While it is built. */
	uint64_t next_meta;
	unsigned next_slot;
};

void image_build(struct image *im);
void image_free(struct image *im);
/* A transaction with (or a revoke of) an image of the root's inode block, its link count changed. */
void image_log(struct image *im, uint64_t seq, uint64_t at, unsigned nlink, bool revoke);
void image_log_edit(struct image *im, uint64_t at, unsigned byte, uint8_t value);
void image_copy_node(struct image *im, uint64_t from, uint64_t to);

static inline void *image_block(struct image *im, uint64_t mblk)
{
	return im->base + mblk * OD_MBLK_SIZE;
}
static inline struct od_inode *image_inode(struct image *im, uint64_t ino)
{
	return (void *)((uint8_t *)image_block(im, od_ino_mblk(ino)) + od_ino_offset(ino));
}
static inline struct od_ag *image_ag(struct image *im, uint32_t agno)
{
	return image_block(im, od_ag_start_mblk(&im->c, agno) + OD_AG_HDR_MBLK);
}
/* First record of a tree node. */
static inline le64_t *image_recs(struct image *im, uint64_t mblk)
{
	return (void *)((uint8_t *)image_block(im, mblk) + OD_HDR_SIZE);
}
static inline struct od_dirent *image_entry(struct image *im, uint64_t mblk)
{
	return (void *)((uint8_t *)image_block(im, mblk) + OD_DIR_FIRST);
}
/* Give a changed block its checksum. */
static inline void image_fix(struct image *im, uint64_t mblk)
{
	od_seal(image_block(im, mblk), 0);
}

#endif

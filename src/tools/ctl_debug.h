/* SPDX-License-Identifier: MIT */
/*
 * iomapctl debug: metadata by the names of its fields. ctl_debug.c has the commands,
 * ctl_debug_where.c finds blocks, ctl_debug_value.c turns fields to text and back.
 */
#ifndef TOOLS_CTL_DEBUG_H
#define TOOLS_CTL_DEBUG_H

#include "ctl_scan.h"
#include "iomapfs/format_field.h"

struct debug {
	struct bd *bd;
	struct od_ctx od;
	bool damaged;            /* the superblock is; od means nothing then */
	uint64_t mblk;           /* where we are: this block ... */
	unsigned slot;           /* ... or of its inodes this one; 0 = the whole block */
	union {
		uint8_t b[OD_MBLK_SIZE];
		struct od_hdr hdr;
	} *block;                /* what stands there; aligned to its size */
};

/* Functions below return 0, or CTL_FAIL after they complained. */

int debug_load(struct debug *d, uint64_t mblk);
/* Go to where the text says: sb, ag:1, inode:200, path:/a/b, each with ",FIELD" to follow. */
int debug_goto(struct debug *d, const char *where);
/* The field of this name in the block, or in the inode where we are at one. */
int debug_find_field(const struct debug *d, const char *name, struct od_place *place);
/* A field's path as the user sees it: without "inode[3]." at an inode. NULL: not part of it. */
const char *debug_path(const struct debug *d, const struct od_place *place);
/* The inode on the block where we are. */
const struct od_inode *debug_inode(const struct debug *d);
/* Where a path from the root leads; *ino. */
int debug_lookup(struct debug *d, const char *path, uint64_t *ino);

#define DEBUG_TEXT_MAX (2u * OD_MBLK_SIZE + 16)
/* A field as text; fields of many bytes are shortened with "..." when brief. */
void debug_format(const struct debug *d, const struct od_place *place, bool brief,
		  char text[DEBUG_TEXT_MAX]);
/* Text into a field of the block. */
int debug_parse(struct debug *d, const struct od_place *place, const char *text);

#endif

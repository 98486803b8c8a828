/* SPDX-License-Identifier: MIT */
/* What the files of src/format share. */
#ifndef FORMAT_PRIVATE_H
#define FORMAT_PRIVATE_H

#include "iomapfs/format.h"
#include "iomapfs/util.h"

/* od_verify_hdr, with the checksum left out for a block that is not sealed yet. */
const char *od_verify_hdr_part(const struct od_ctx *c, const void *block, uint32_t magic,
			       uint64_t mblk, uint64_t owner, bool check_crc);
/* A root outside its node: level in bounds, address possible, an empty one all zero. */
const char *od_verify_root(const struct od_ctx *c, const struct od_root *root);
/* Record i of an extent list or leaf after one that ended at file block *next; advances it. */
const char *od_verify_extent(const struct od_ctx *c, uint64_t file_block,
			     const struct od_extent_val *val, uint64_t *next);
/* Mblks in a metadata cluster. */
static inline unsigned od_cluster_mblks(const struct od_ctx *c)
{
	return 1u << (c->cluster_shift - OD_MBLK_SHIFT);
}
/* Fields of the header that only tree nodes (and, flags, directory blocks) use are zero. */
bool od_hdr_plain(const struct od_hdr *h);
bool od_all_zero(const void *p, size_t len_bytes);

#endif

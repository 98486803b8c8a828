/* SPDX-License-Identifier: MIT */
/*
 * mk - make a file system: geometry as a pure function, and the writing of it.
 * mkfs.iomapfs is a thin program over this; tests make their images with it.
 */
#ifndef TOOLS_MK_H
#define TOOLS_MK_H

#include "iomapfs/block.h"
#include "iomapfs/format.h"

struct mk_geom {
	unsigned block_shift, cluster_shift;
	uint64_t nr_blocks;     /* fsbs */
	uint64_t ag_blocks;     /* fsbs */
	uint32_t nr_ags;
	uint64_t jnl_start, jnl_len; /* mblks */
};

/*
 * Lay out a file system on `bytes`, with a journal of about jnl_want mblks, never less than
 * jnl_min. NULL on success, else why it is impossible, in words for the user.
 */
const char *mk_geom_compute(uint64_t bytes, unsigned block_shift, uint64_t jnl_min,
			    uint64_t jnl_want, struct mk_geom *out);

struct mk_params {
	uint8_t uuid[16];       /* the user's */
	uint8_t meta_uuid[16];  /* fresh: blocks of an earlier file system must not pass as ours */
	uint64_t hash_seed;
	int64_t now_sec;
	uint32_t now_nsec;
	uint32_t uid, gid;      /* of the root directory */
	char label[65];
	unsigned mmp_interval_s; /* multiple-mount protection; 0 = off */
	bool no_reflink;         /* files never share blocks */
	bool discard;           /* discard the whole device first */
};

/* Fresh identity and the present time; label empty, root directory of user and group 0. */
void mk_params_init(struct mk_params *p);
/*
 * Write the file system: the old superblock goes first, the new one comes last, each behind
 * a flush, so that an interrupted run leaves nothing that could be mounted. 0 or -errno.
 */
int mk_write(struct bd *bd, const struct mk_geom *g, const struct mk_params *p);
/* Both, with defaults for everything: what tests need. -EINVAL: impossible geometry. */
int mk_default(struct bd *bd, unsigned block_shift);

#endif

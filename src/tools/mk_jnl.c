/* SPDX-License-Identifier: MIT */
/* The journal's size and superblock until the journal layer brings its own. */
#include <string.h>

#include "iomapfs/journal.h"
#include "iomapfs/util.h"
#include "mk_jnl.h"

uint64_t mk_jnl_min_mblks(void)
{
	return 4 * JNL_MAX_CREDITS + 64;
}

uint64_t mk_jnl_default_mblks(uint64_t dev_bytes)
{
	return MIN(MAX(dev_bytes >> 6 >> OD_MBLK_SHIFT, mk_jnl_min_mblks()), 32768u);
}

void mk_jnl_format_sb(const struct od_ctx *ctx, void *block)
{
	struct od_jsb *jsb = block;

	memset(block, 0, OD_MBLK_SIZE);
	od_hdr_init(block, OD_MAGIC_JSB, ctx->meta_uuid, 0, ctx->jnl_start);
	jsb->tail_seq = le64_make(1);
	jsb->clean = le64_make(1);
	od_seal(block, 0);
}

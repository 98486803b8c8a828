/* SPDX-License-Identifier: MIT */
/* The journal's superblock. What is in the ring is for replay to judge, block after block. */
#include "format_private.h"

const char *od_verify_jsb(const struct od_ctx *c, const void *block, bool check_crc)
{
	const struct od_jsb *jsb = block;
	const char *bad = od_verify_hdr_part(c, block, OD_MAGIC_JSB, c->jnl_start, 0, check_crc);

	if (bad)
		return bad;
	if (!od_hdr_plain(&jsb->hdr))
		return "header-fields-not-zero";
	if (le64_get(jsb->tail_seq) == 0 || le64_get(jsb->tail_seq) > OD_JNL_SEQ_MAX)
		return "bad-tail-seq";
	if (le64_get(jsb->tail_block) >= c->jnl_len - 1)
		return "bad-tail-block";
	if (le64_get(jsb->clean) > 1)
		return "bad-clean";
	if (!od_all_zero(jsb->spare, sizeof(jsb->spare)) ||
	    !od_all_zero(jsb + 1, OD_MBLK_SIZE - sizeof(*jsb)))
		return "spare-not-zero";
	return NULL;
}

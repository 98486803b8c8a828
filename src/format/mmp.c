/* SPDX-License-Identifier: MIT */
/* The multiple-mount protection block. */
#include "format_private.h"

void od_mmp_init(void *block, const uint8_t meta_uuid[16], uint64_t seq, uint64_t time_sec,
		 const char *node, const char *device)
{
	struct od_mmp *m = block;

	memset(block, 0, OD_MBLK_SIZE);
	od_hdr_init(block, OD_MAGIC_MMP, meta_uuid, 0, OD_AG_MMP_MBLK);
	m->seq = le64_make(seq);
	m->time_sec = le64_make(time_sec);
	/* Truncated names are good enough to tell people where to look. */
	memcpy(m->node, node, strnlen(node, sizeof(m->node)));
	memcpy(m->device, device, strnlen(device, sizeof(m->device)));
	od_seal(block, 0);
}

const char *od_verify_mmp(const struct od_ctx *c, const void *block, bool check_crc)
{
	const struct od_mmp *m = block;
	const char *test = od_verify_hdr_part(c, block, OD_MAGIC_MMP, OD_AG_MMP_MBLK, 0, check_crc);
	size_t len;

	if (test)
		return test;
	if (!od_hdr_plain(&m->hdr))
		return "header-fields-not-zero";
	len = strnlen((const char *)m->node, sizeof(m->node));
	if (!od_all_zero(m->node + len, sizeof(m->node) - len))
		return "node-not-padded";
	len = strnlen((const char *)m->device, sizeof(m->device));
	if (!od_all_zero(m->device + len, sizeof(m->device) - len))
		return "device-not-padded";
	if (!od_all_zero(m->spare, sizeof(m->spare)) ||
	    !od_all_zero(m + 1, OD_MBLK_SIZE - sizeof(*m)))
		return "spare-not-zero";
	return NULL;
}

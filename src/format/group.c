/* SPDX-License-Identifier: MIT */
/* Allocation group headers. */
#include "format_private.h"

const char *od_verify_root(const struct od_ctx *c, const struct od_root *root)
{
	const uint64_t mblk = le64_get(root->mblk);

	if (le16_get(root->spare16) != 0 || le32_get(root->spare) != 0)
		return "root-spare-not-zero";
	if (mblk == 0)
		return le16_get(root->level) == 0 ? NULL : "empty-root-with-level";
	if (le16_get(root->level) >= OD_TREE_MAX_LEVEL)
		return "root-level-out-of-bounds";
	if (!od_mblk_ok(c, mblk))
		return "root-out-of-bounds";
	return NULL;
}

static const char *ag_check_roots(const struct od_ctx *c, const struct od_ag *ag, uint32_t agno)
{
	const struct od_root *roots = &ag->free_pos;
	const unsigned nr_roots =
		(offsetof(struct od_ag, nr_reserve) - offsetof(struct od_ag, free_pos)) /
		sizeof(*roots);

	for (unsigned i = 0; i < nr_roots; i++) {
		const uint64_t mblk = le64_get(roots[i].mblk);
		const char *bad = od_verify_root(c, &roots[i]);

		if (bad)
			return bad;
		if (mblk == 0)
			continue;
		if (od_mblk_agno(c, mblk) != agno)
			return "root-in-other-group";
		for (unsigned j = 0; j < i; j++)
			if (le64_get(roots[j].mblk) == mblk)
				return "root-shared";
	}
	if ((le64_get(ag->refc.mblk) != 0 && !c->reflink) || le64_get(ag->spare_root.mblk) != 0)
		return "unknown-tree-in-use";
	return NULL;
}

static const char *ag_check_reserve(const struct od_ctx *c, const struct od_ag *ag, uint32_t agno)
{
	const uint32_t n = le32_get(ag->nr_reserve);

	if (n > OD_AG_RESERVE_MAX)
		return "reserve-too-long";
	for (uint32_t i = 0; i < n; i++) {
		const uint64_t mblk = le64_get(ag->reserve[i]);

		if (!od_mblk_ok(c, mblk) || od_mblk_agno(c, mblk) != agno)
			return "reserve-out-of-bounds";
		for (uint32_t j = 0; j < i; j++)
			if (le64_get(ag->reserve[j]) == mblk)
				return "reserve-repeats";
	}
	return NULL;
}

/* Counters can not be more than what the group holds, nor contradict an empty tree. */
static const char *ag_check_counts(const struct od_ctx *c, const struct od_ag *ag)
{
	const uint64_t nr_blocks = le64_get(ag->nr_blocks);
	const uint64_t usable = nr_blocks - (OD_AG_HEAD_SIZE >> c->block_shift);
	const uint64_t mblks = nr_blocks << c->block_shift >> OD_MBLK_SHIFT;
	const uint64_t inodes = le64_get(ag->nr_inodes), free_inodes = le64_get(ag->nr_free_inodes);

	if (le64_get(ag->free_blocks) > usable)
		return "free-blocks-out-of-bounds";
	if (le64_get(ag->free_slots) > mblks)
		return "free-slots-out-of-bounds";
	if (inodes > mblks * OD_INODES_PER_MBLK ||
	    free_inodes > mblks * OD_INODES_PER_MBLK - inodes)
		return "inodes-out-of-bounds";
	if ((le64_get(ag->free_blocks) == 0) != (le64_get(ag->free_pos.mblk) == 0) ||
	    (le64_get(ag->free_blocks) == 0) != (le64_get(ag->free_len.mblk) == 0))
		return "free-blocks-contradict-tree";
	if ((le64_get(ag->free_slots) == 0) != (le64_get(ag->slot.mblk) == 0))
		return "free-slots-contradict-tree";
	if ((free_inodes == 0) != (le64_get(ag->inofree.mblk) == 0))
		return "free-inodes-contradict-tree";
	if ((inodes + free_inodes == 0) != (le64_get(ag->ino.mblk) == 0))
		return "inodes-contradict-tree";
	return NULL;
}

const char *od_verify_ag(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc)
{
	const struct od_ag *ag = block;
	const char *bad;
	uint64_t start;
	uint32_t agno;

	if (mblk >= c->dev_mblks)
		return "wrong-address";
	agno = od_mblk_agno(c, mblk);
	if (mblk != od_ag_start_mblk(c, agno) + OD_AG_HDR_MBLK)
		return "wrong-address";
	bad = od_verify_hdr_part(c, block, OD_MAGIC_AG, mblk, agno, check_crc);
	if (bad)
		return bad;
	if (!od_hdr_plain(&ag->hdr))
		return "header-fields-not-zero";
	start = agno * c->ag_blocks;
	if (le32_get(ag->agno) != agno)
		return "wrong-group-number";
	if (le64_get(ag->start) != start)
		return "wrong-start";
	if (le64_get(ag->nr_blocks) != MIN(c->ag_blocks, c->nr_blocks - start))
		return "wrong-length";
	if (le32_get(ag->spare32) != 0 || le32_get(ag->spare32b) != 0 ||
	    !od_all_zero(ag + 1, OD_MBLK_SIZE - sizeof(*ag)))
		return "spare-not-zero";
	bad = ag_check_roots(c, ag, agno);
	if (!bad)
		bad = ag_check_reserve(c, ag, agno);
	if (!bad)
		bad = ag_check_counts(c, ag);
	return bad;
}

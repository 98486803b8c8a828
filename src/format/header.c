/* SPDX-License-Identifier: MIT */
/* Block headers, checksums, and which addresses are possible. */
#include "format_private.h"

bool od_all_zero(const void *p, size_t len_bytes)
{
	const uint8_t *b = p;

	return len_bytes == 0 || (b[0] == 0 && memcmp(b, b + 1, len_bytes - 1) == 0);
}

uint32_t od_crc32c(uint32_t crc, const void *buf, size_t len_bytes)
{
	return ~crc32c_update(~crc, buf, len_bytes);
}

uint32_t od_crc(const void *block)
{
	static const uint8_t zero[sizeof(le32_t)];
	const uint8_t *b = block;
	const size_t at = offsetof(struct od_hdr, crc);
	uint32_t crc = od_crc32c(0, b, at);

	crc = od_crc32c(crc, zero, sizeof(zero));
	return od_crc32c(crc, b + at + sizeof(zero), OD_MBLK_SIZE - at - sizeof(zero));
}

void od_hdr_init(void *block, uint32_t magic, const uint8_t meta_uuid[16], uint64_t owner,
		 uint64_t mblk)
{
	struct od_hdr *h = block;

	memset(h, 0, sizeof(*h));
	h->magic = le32_make(magic);
	memcpy(h->uuid, meta_uuid, sizeof(h->uuid));
	h->owner = le64_make(owner);
	h->mblk = le64_make(mblk);
}

void od_seal(void *block, uint64_t seq)
{
	struct od_hdr *h = block;

	assert(le32_get(h->magic) != 0);
	h->seq = le64_make(seq);
	h->crc = le32_make(od_crc(block));
}

const char *od_verify_hdr_part(const struct od_ctx *c, const void *block, uint32_t magic,
			       uint64_t mblk, uint64_t owner, bool check_crc)
{
	const struct od_hdr *h = block;

	if (le32_get(h->magic) != magic)
		return "bad-magic";
	if (check_crc && le32_get(h->crc) != od_crc(block))
		return "bad-crc";
	if (memcmp(h->uuid, c->meta_uuid, sizeof(h->uuid)) != 0)
		return "wrong-uuid";
	if (le64_get(h->mblk) != mblk)
		return "wrong-address";
	if (owner != OD_ANY_OWNER && le64_get(h->owner) != owner)
		return "wrong-owner";
	if (le64_get(h->spare) != 0)
		return "header-spare-not-zero";
	return NULL;
}

bool od_hdr_plain(const struct od_hdr *h)
{
	return !le16_get(h->type) && !le16_get(h->level) && !le16_get(h->nrecs) && !le16_get(h->flags);
}

const char *od_verify_hdr(const struct od_ctx *c, const void *block, uint32_t magic, uint64_t mblk,
			  uint64_t owner)
{
	return od_verify_hdr_part(c, block, magic, mblk, owner, true);
}

const char *od_verify_any(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc)
{
	switch (le32_get(((const struct od_hdr *)block)->magic)) {
	case OD_MAGIC_SB:
		return od_verify_sb(c, block, mblk, check_crc);
	case OD_MAGIC_AG:
		return od_verify_ag(c, block, mblk, check_crc);
	case OD_MAGIC_BTREE:
		return od_verify_btree(c, block, mblk, check_crc);
	case OD_MAGIC_INODES:
		return od_verify_inodes(c, block, mblk, check_crc);
	case OD_MAGIC_DIR:
		return od_verify_dir(c, block, mblk, check_crc);
	case OD_MAGIC_BLOB:
		return od_verify_blob(c, block, mblk, check_crc);
	case OD_MAGIC_MMP:
		return mblk == OD_AG_MMP_MBLK ? od_verify_mmp(c, block, check_crc) : "wrong-address";
	default:
		return "unknown-magic";
	}
}

static bool in_journal(const struct od_ctx *c, uint64_t first, uint64_t end)
{
	return first < c->jnl_start + c->jnl_len && end > c->jnl_start;
}

bool od_mblk_ok(const struct od_ctx *c, uint64_t mblk)
{
	uint32_t agno;

	if (mblk >= c->dev_mblks || in_journal(c, mblk, mblk + 1))
		return false;
	agno = od_mblk_agno(c, mblk);
	return agno < c->nr_ags && mblk - od_ag_start_mblk(c, agno) >= OD_AG_HEAD_MBLKS;
}

bool od_ino_ok(const struct od_ctx *c, uint64_t ino)
{
	return od_ino_slot(ino) != 0 && od_mblk_ok(c, od_ino_mblk(ino));
}

bool od_fsb_range_ok(const struct od_ctx *c, uint64_t start, uint64_t len)
{
	const unsigned shift = c->block_shift;
	uint64_t head = OD_AG_HEAD_SIZE >> shift;
	uint64_t jnl = c->jnl_start << OD_MBLK_SHIFT >> shift;
	uint64_t jnl_end = (c->jnl_start + c->jnl_len) << OD_MBLK_SHIFT >> shift;
	uint64_t in_ag;

	if (len == 0 || start >= c->nr_blocks || len > c->nr_blocks - start)
		return false;
	in_ag = start % c->ag_blocks;
	if (in_ag < head || len > c->ag_blocks - in_ag)
		return false;
	return start >= jnl_end || start + len <= jnl;
}

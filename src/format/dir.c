/* SPDX-License-Identifier: MIT */
/* Directory blocks and the hash of names. */
#include <dirent.h>
#include <xxhash.h>

#include "format_private.h"

uint64_t od_name_hash(uint64_t seed, const char *name, size_t len)
{
	return XXH3_64bits_withSeed(name, len, seed);
}

static bool type_known(unsigned type)
{
	switch (type) {
	case DT_REG:
	case DT_DIR:
	case DT_LNK:
	case DT_CHR:
	case DT_BLK:
	case DT_FIFO:
	case DT_SOCK:
		return true;
	default:
		return false;
	}
}

static bool name_ok(const char *name, unsigned len)
{
	if (len == 0 || memchr(name, '/', len) || memchr(name, '\0', len))
		return false;
	return !(len <= 2 && name[0] == '.' && name[len - 1] == '.');
}

static const char *check_entry(const struct od_ctx *c, const uint8_t *block, unsigned at,
			       unsigned *rec_len)
{
	const struct od_dirent *de = (const void *)(block + at);

	*rec_len = le16_get(de->rec_len);
	if (*rec_len < OD_DIRENT_HDR || *rec_len % 8 != 0 || *rec_len > OD_MBLK_SIZE - at)
		return "entry-length";
	if (le64_get(de->ino) == 0)
		return NULL;
	if (od_dirent_len(de->name_len) > *rec_len)
		return "entry-name-length";
	if (!name_ok((const char *)de->name, de->name_len))
		return "entry-name";
	if (!od_ino_ok(c, le64_get(de->ino)))
		return "entry-inode-out-of-bounds";
	if (!type_known(de->type))
		return "entry-type";
	if (le32_get(de->hash) !=
	    (uint32_t)od_name_hash(c->hash_seed, (const char *)de->name, de->name_len))
		return "entry-hash";
	return NULL;
}

const char *od_verify_dir(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc)
{
	const struct od_hdr *h = block;
	const struct od_dir_block *db = (const void *)((const uint8_t *)block + OD_HDR_SIZE);
	const char *bad;
	unsigned rec_len;

	if (!od_mblk_ok(c, mblk))
		return "wrong-address";
	bad = od_verify_hdr_part(c, block, OD_MAGIC_DIR, mblk, OD_ANY_OWNER, check_crc);
	if (bad)
		return bad;
	if (!od_ino_ok(c, le64_get(h->owner)))
		return "wrong-owner";
	if (le16_get(h->type) || le16_get(h->level) || le16_get(h->nrecs))
		return "header-fields-not-zero";
	if (le16_get(h->flags) & ~OD_DIRF_ON_FREE_LIST)
		return "unknown-flags";
	if (le64_get(db->index) > OD_FILE_SIZE_MAX >> OD_MBLK_SHIFT)
		return "directory-index-out-of-bounds";
	for (unsigned at = OD_DIR_FIRST; at < OD_MBLK_SIZE; at += rec_len) {
		/* The last possible start of an entry: less room than a header is damage. */
		if (at > OD_MBLK_SIZE - OD_DIRENT_HDR)
			return "entry-length";
		bad = check_entry(c, block, at, &rec_len);
		if (bad)
			return bad;
	}
	return NULL;
}

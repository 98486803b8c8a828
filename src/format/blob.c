/* SPDX-License-Identifier: MIT */
/* Blob blocks and extended attribute lists. */
#include "format_private.h"

/* Lists up to this are searched for repeated names here; longer ones only by the checker. */
#define XATTR_PAIRWISE_MAX 4096u

const char *od_verify_blob(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc)
{
	const struct od_hdr *h = block;
	const struct od_blob *b = (const void *)((const uint8_t *)block + OD_HDR_SIZE);
	const char *bad;
	uint64_t next;
	uint32_t len, total;

	if (!od_mblk_ok(c, mblk))
		return "wrong-address";
	bad = od_verify_hdr_part(c, block, OD_MAGIC_BLOB, mblk, OD_ANY_OWNER, check_crc);
	if (bad)
		return bad;
	if (!od_ino_ok(c, le64_get(h->owner)))
		return "wrong-owner";
	if (!od_hdr_plain(h))
		return "header-fields-not-zero";
	next = le64_get(b->next);
	len = le32_get(b->len);
	total = le32_get(b->total);
	if (len == 0 || len > OD_BLOB_DATA)
		return "blob-length";
	if (next != 0 && (next == mblk || !od_mblk_ok(c, next)))
		return "blob-next-out-of-bounds";
	/* total is 0 in all blocks but the first. */
	if (total > OD_BLOB_MAX || (total != 0 && (next == 0 ? total != len : total <= len)))
		return "blob-total";
	return NULL;
}

size_t od_xattr_rec_len(const struct od_xattr *x)
{
	const size_t value = le16_get(x->flags) & OD_XATTR_BLOB ? sizeof(le64_t) :
								   le32_get(x->value_len);

	return ROUND_UP(sizeof(*x) + x->name_len + value, 4);
}

static const char *check_xattr(const struct od_xattr *x, const uint8_t *name, size_t room)
{
	if (le32_get(x->value_len) > OD_XATTR_VALUE_MAX)
		return "xattr-value-length";
	if (le16_get(x->flags) & ~OD_XATTR_BLOB)
		return "unknown-xattr-flag";
	if (od_xattr_rec_len(x) > room)
		return "xattr-past-list";
	switch (x->ns) {
	case OD_XNS_USER:
	case OD_XNS_TRUSTED:
	case OD_XNS_SECURITY:
		if (x->name_len == 0 || memchr(name, '\0', x->name_len))
			return "xattr-name";
		return NULL;
	case OD_XNS_ACL_ACCESS:
	case OD_XNS_ACL_DEFAULT:
		return x->name_len == 0 ? NULL : "xattr-name";
	default:
		return "unknown-xattr-namespace";
	}
}

/* Is the attribute at `at` also among the records of list before it? They are sound. */
static bool xattr_repeats(const uint8_t *list, size_t at)
{
	struct od_xattr x, y;

	memcpy(&x, list + at, sizeof(x));
	for (size_t i = 0; i < at; i += od_xattr_rec_len(&y)) {
		memcpy(&y, list + i, sizeof(y));
		if (x.ns == y.ns && x.name_len == y.name_len &&
		    memcmp(list + at + sizeof(x), list + i + sizeof(y), x.name_len) == 0)
			return true;
	}
	return false;
}

const char *od_verify_xattrs(const void *list, size_t len_bytes)
{
	const uint8_t *p = list;
	struct od_xattr x;

	for (size_t at = 0; at < len_bytes; at += od_xattr_rec_len(&x)) {
		const char *bad;

		if (len_bytes - at < sizeof(x))
			return "xattr-past-list";
		memcpy(&x, p + at, sizeof(x));
		bad = check_xattr(&x, p + at + sizeof(x), len_bytes - at - sizeof(x) < x.name_len ?
				  0 : len_bytes - at);
		if (bad)
			return bad;
		if (len_bytes <= XATTR_PAIRWISE_MAX && xattr_repeats(p, at))
			return "xattr-repeats";
	}
	return NULL;
}

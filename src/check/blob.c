/* SPDX-License-Identifier: MIT */
/* Blobs: long symbolic links, lists of extended attributes, long values. */
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdlib.h>
#include <string.h>

#include "chk.h"

uint8_t *chk_blob_read(struct chk *c, uint64_t ino, uint64_t mblk, size_t *len, uint64_t *nr_mblks)
{
	uint8_t *block = chk_block_alloc(c), *data = NULL;
	const struct od_hdr *h = (const void *)block;
	const struct od_blob *b = (const void *)(block + OD_HDR_SIZE);
	size_t total = 0, got = 0;
	enum chk_use other;

	while (block && mblk != 0) {
		const char *bad;

		if (!chk_claim_mblk(c, CHK_META, mblk, &other)) {
			chk_raise(c, CHK_P_BLOB_SHARED, "block %llu, used by %s",
				  (unsigned long long)mblk, chk_use_name(other));
			goto out_bad;
		}
		bad = chk_read(c, mblk, block) ? "cannot be read" :
						 od_verify_blob(&c->od, block, mblk, true);
		if (!bad && le64_get(h->owner) != ino)
			bad = "wrong-owner";
		if (bad) {
			chk_raise(c, CHK_P_BLOB_BLOCK, "block %llu: %s", (unsigned long long)mblk, bad);
			goto out_bad;
		}
		++*nr_mblks;
		if (!data) {
			total = le32_get(b->total);
			data = malloc(total + 1);
			if (!data) {
				c->error = -ENOMEM;
				goto out_bad;
			}
		} else if (le32_get(b->total) != 0) {
			got = SIZE_MAX; /* a chain within a chain: no length can be right */
			break;
		}
		if (le32_get(b->len) > total - got)
			break;
		memcpy(data + got, block + OD_HDR_SIZE + sizeof(*b), le32_get(b->len));
		got += le32_get(b->len);
		mblk = le64_get(b->next);
	}
	if (mblk != 0 || got != total || total == 0) {
		chk_raise(c, CHK_P_BLOB_LENGTH, "%zu bytes announced", total);
		goto out_bad;
	}
	free(block);
	*len = total;
	return data;
out_bad:
	free(block);
	free(data);
	return NULL;
}

void chk_symlink(struct chk *c, const struct od_inode *di, uint64_t *nr_mblks)
{
	const uint64_t size = le64_get(di->size);
	uint8_t *target;
	size_t len;
	le64_t mblk;

	if (di->data_fmt != OD_DATA_BLOB)
		return;
	memcpy(&mblk, di->area, sizeof(mblk));
	target = chk_blob_read(c, le64_get(di->ino), le64_get(mblk), &len, nr_mblks);
	if (!target)
		return;
	if (len != size || memchr(target, '\0', len))
		chk_raise(c, CHK_P_SYMLINK_TARGET, "%zu bytes, size %llu", len,
			  (unsigned long long)size);
	free(target);
}

/* Namespace and name of an attribute in a list: what must not repeat. */
struct name_ref {
	const uint8_t *rec;
};

static int name_cmp(const void *a, const void *b)
{
	const uint8_t *x = ((const struct name_ref *)a)->rec, *y = ((const struct name_ref *)b)->rec;
	struct od_xattr xa, xb;

	memcpy(&xa, x, sizeof(xa));
	memcpy(&xb, y, sizeof(xb));
	if (xa.ns != xb.ns)
		return xa.ns < xb.ns ? -1 : 1;
	if (xa.name_len != xb.name_len)
		return xa.name_len < xb.name_len ? -1 : 1;
	return memcmp(x + sizeof(xa), y + sizeof(xb), xa.name_len);
}

static void check_repeats(struct chk *c, struct chk_vec *names)
{
	const struct name_ref *n = names->data;

	if (names->n < 2)
		return;
	qsort(names->data, names->n, sizeof(*n), name_cmp);
	for (size_t i = 1; i < names->n; i++)
		if (name_cmp(&n[i - 1], &n[i]) == 0) {
			chk_raise(c, CHK_P_XATTR_LIST, "%s", "xattr-repeats");
			return;
		}
}

/* ---- Access control lists ------------------------------------------------------------------ */

struct acl_entry {
	le16_t tag, perm;
	le32_t id;
};

/* As setxattr(2) takes them: owner, named users, group, named groups, mask, other. */
static bool acl_ok(const uint8_t *acl, size_t len)
{
	static const unsigned order[] = { ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK,
					  ACL_OTHER };
	unsigned at = 0, count[ARRAY_SIZE(order)] = { 0 };
	struct acl_entry e;
	le32_t version;

	if (len < sizeof(version) + sizeof(e) || (len - sizeof(version)) % sizeof(e) != 0)
		return false;
	memcpy(&version, acl, sizeof(version));
	if (le32_get(version) != POSIX_ACL_XATTR_VERSION)
		return false;
	for (size_t i = sizeof(version); i < len; i += sizeof(e)) {
		memcpy(&e, acl + i, sizeof(e));
		while (at < ARRAY_SIZE(order) && order[at] != le16_get(e.tag))
			at++;
		if (at == ARRAY_SIZE(order) || (le16_get(e.perm) & ~7u))
			return false;
		count[at]++;
	}
	if (count[0] != 1 || count[2] != 1 || count[5] != 1 || count[4] > 1)
		return false;
	return count[4] == 1 || (count[1] == 0 && count[3] == 0);
}

static void check_acl(struct chk *c, const struct od_xattr *x, const uint8_t *value)
{
	if (x->ns != OD_XNS_ACL_ACCESS && x->ns != OD_XNS_ACL_DEFAULT)
		return;
	if (!acl_ok(value, le32_get(x->value_len)))
		chk_raise(c, CHK_P_XATTR_ACL, "%s", x->ns == OD_XNS_ACL_ACCESS ? "access" : "default");
}

/* ---- Attributes ---------------------------------------------------------------------------- */

static void check_value_blob(struct chk *c, uint64_t ino, const struct od_xattr *x,
			     const uint8_t *value, uint64_t *nr_mblks)
{
	uint8_t *data;
	le64_t mblk;
	size_t len;

	memcpy(&mblk, value, sizeof(mblk));
	if (!od_mblk_ok(&c->od, le64_get(mblk))) {
		chk_raise(c, CHK_P_XATTR_LIST, "%s", "xattr-blob-out-of-bounds");
		return;
	}
	data = chk_blob_read(c, ino, le64_get(mblk), &len, nr_mblks);
	if (data && len != le32_get(x->value_len))
		chk_raise(c, CHK_P_BLOB_LENGTH, "attribute value of %u bytes, blob of %zu",
			  le32_get(x->value_len), len);
	else if (data)
		check_acl(c, x, data);
	free(data);
}

void chk_attr_list(struct chk *c, uint64_t ino, const uint8_t *list, size_t len, uint64_t *nr_mblks)
{
	const char *bad = od_verify_xattrs(list, len);
	struct chk_vec names;
	struct od_xattr x;

	if (bad) {
		chk_raise(c, CHK_P_XATTR_LIST, "%s", bad);
		return;
	}
	chk_vec_init(&names, sizeof(struct name_ref));
	for (size_t at = 0; at < len && !c->error; at += od_xattr_rec_len(&x)) {
		const struct name_ref ref = { list + at };

		memcpy(&x, list + at, sizeof(x));
		chk_vec_push(c, &names, &ref);
		if (le16_get(x.flags) & OD_XATTR_BLOB)
			check_value_blob(c, ino, &x, list + at + sizeof(x) + x.name_len, nr_mblks);
		else
			check_acl(c, &x, list + at + sizeof(x) + x.name_len);
	}
	check_repeats(c, &names);
	chk_vec_free(&names);
}

void chk_attrs(struct chk *c, const struct od_inode *di, uint64_t ino, uint64_t *nr_mblks)
{
	const unsigned attr_len = le16_get(di->attr_len);
	const uint8_t *area_end = di->area + OD_INODE_AREA;
	uint8_t *list;
	le64_t mblk;
	size_t len;

	if (di->attr_fmt == OD_ATTR_INLINE)
		chk_attr_list(c, ino, area_end - attr_len, attr_len, nr_mblks);
	if (di->attr_fmt != OD_ATTR_BLOB)
		return;
	memcpy(&mblk, area_end - sizeof(mblk), sizeof(mblk));
	list = chk_blob_read(c, ino, le64_get(mblk), &len, nr_mblks);
	if (list)
		chk_attr_list(c, ino, list, len, nr_mblks);
	free(list);
}

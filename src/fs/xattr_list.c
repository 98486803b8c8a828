/* SPDX-License-Identifier: MIT */
/* Attribute lists: names, records, and the change from one list to the next. */
#include <sys/xattr.h>

#include "xattr.h"

static const struct {
	const char *prefix;
	unsigned ns;
	bool whole; /* the prefix is the name */
} spaces[] = {
	{ "user.", OD_XNS_USER, false },
	{ "trusted.", OD_XNS_TRUSTED, false },
	{ "security.", OD_XNS_SECURITY, false },
	{ "system.posix_acl_access", OD_XNS_ACL_ACCESS, true },
	{ "system.posix_acl_default", OD_XNS_ACL_DEFAULT, true },
};

const char *xattr_prefix(unsigned ns)
{
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		if (spaces[i].ns == ns)
			return spaces[i].prefix;
	}
	return "";
}

int xattr_name_parse(const char *full, struct xattr_name *out)
{
	size_t len = strlen(full);

	if (len == 0 || len > 255)
		return -ERANGE;
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		size_t plen = strlen(spaces[i].prefix);

		if (len < plen || memcmp(full, spaces[i].prefix, plen) != 0)
			continue;
		if (spaces[i].whole != (len == plen))
			return spaces[i].whole ? -EOPNOTSUPP : -EINVAL;
		*out = (struct xattr_name){ spaces[i].ns, full + plen, len - plen };
		return 0;
	}
	return -EOPNOTSUPP;
}

/* ---- Reading ------------------------------------------------------------------------------- */

bool xattr_next(const uint8_t *list, size_t len, size_t *off, struct xattr_rec *out)
{
	struct od_xattr x;

	if (*off >= len)
		return false;
	memcpy(&x, list + *off, sizeof(x));
	*out = (struct xattr_rec){
		.off = *off,
		.rec_len = od_xattr_rec_len(&x),
		.name = { x.ns, (const char *)list + *off + sizeof(x), x.name_len },
		.value = list + *off + sizeof(x) + x.name_len,
		.value_len = le32_get(x.value_len),
		.blob = le16_get(x.flags) & OD_XATTR_BLOB,
	};
	*off += out->rec_len;
	assert(*off <= len);
	return true;
}

bool xattr_find(const uint8_t *list, size_t len, const struct xattr_name *n, struct xattr_rec *out)
{
	size_t off = 0;

	while (xattr_next(list, len, &off, out)) {
		if (out->name.ns == n->ns && out->name.len == n->len &&
		    memcmp(out->name.name, n->name, n->len) == 0)
			return true;
	}
	return false;
}

int xattr_load(struct fs_inode *ip, unsigned flags, const uint8_t **list, size_t *len,
	       uint8_t **mem)
{
	const uint8_t *end = ip->area + OD_INODE_AREA;
	const char *bad;
	int err;

	lk_assert_held(&ip->extlock);
	*list = *mem = NULL;
	*len = 0;
	if (ip->attr_fmt == OD_ATTR_NONE)
		return 0;
	if (ip->attr_fmt == OD_ATTR_INLINE) {
		*list = end - ip->attr_len;
		*len = ip->attr_len;
		return 0;
	}
	err = xattr_blob_read(ip, le64_at(end - sizeof(le64_t)), XATTR_RECS_MAX, flags, mem, len);
	if (err)
		return err;
	bad = od_verify_xattrs(*mem, *len);
	if (bad) {
		free(*mem);
		*mem = NULL;
		return fs_corrupt(ip->fs, "attributes", ip->ino, bad);
	}
	*list = *mem;
	return 0;
}

int xattr_value(struct fs_inode *ip, const struct xattr_rec *r, unsigned flags,
		const uint8_t **value, uint8_t **mem)
{
	size_t len;
	int err;

	*mem = NULL;
	*value = r->value;
	if (!r->blob)
		return 0;
	err = xattr_blob_read(ip, le64_at(r->value), OD_XATTR_VALUE_MAX, flags, mem, &len);
	if (!err && len != r->value_len) {
		free(*mem);
		*mem = NULL;
		err = fs_corrupt(ip->fs, "attributes", ip->ino, "xattr-value-length");
	}
	*value = *mem;
	return err;
}

/* ---- Changing -------------------------------------------------------------------------------- */

static int plan_free_blob(struct xattr_plan *p, struct fs_inode *ip, unsigned flags, uint64_t mblk)
{
	int n = xattr_blob_blocks_of(ip, mblk, flags, p->old + p->nr_old,
				     MIN(XATTR_OLD_MAX - p->nr_old, XATTR_BLOB_BLOCKS));

	if (n > 0)
		p->nr_old += (unsigned)n;
	return n < 0 ? n : 0;
}

int xattr_plan_begin(struct xattr_plan *p, struct fs_inode *ip, unsigned flags)
{
	const uint8_t *list;
	uint8_t *mem;
	int err;

	*p = (struct xattr_plan){ .list = calloc(1, XATTR_RECS_MAX) };
	if (!p->list)
		return -ENOMEM;
	if (!ip)
		return 0;
	lk_lock(&ip->extlock);
	err = xattr_load(ip, flags, &list, &p->len, &mem);
	if (!err && list)
		memcpy(p->list, list, p->len);
	if (!err && mem)
		err = plan_free_blob(p, ip, flags,
				     le64_at(ip->area + OD_INODE_AREA - sizeof(le64_t)));
	free(mem);
	lk_unlock(&ip->extlock);
	return err;
}

static void plan_cut(struct xattr_plan *p, const struct xattr_rec *r)
{
	assert(r->off + r->rec_len <= p->len);
	memmove(p->list + r->off, p->list + r->off + r->rec_len, p->len - r->off - r->rec_len);
	p->len -= r->rec_len;
	memset(p->list + p->len, 0, r->rec_len);
	if (p->big && p->big_at > r->off)
		p->big_at -= r->rec_len;
}

static int plan_add(struct xattr_plan *p, const struct xattr_name *n, const void *value,
		    size_t size)
{
	/* ACLs stay in the list: a plan may carry two of them, made up on the way (acl_inherit). */
	bool acl = n->ns == OD_XNS_ACL_ACCESS || n->ns == OD_XNS_ACL_DEFAULT;
	bool big = size > XATTR_INLIST_MAX && !acl;
	struct od_xattr x = {
		.ns = (uint8_t)n->ns,
		.name_len = (uint8_t)n->len,
		.flags = le16_make(big ? OD_XATTR_BLOB : 0),
		.value_len = le32_make((uint32_t)size),
	};
	size_t rec_len = od_xattr_rec_len(&x), at = p->len;

	if (rec_len > XATTR_RECS_MAX - p->len)
		return -ENOSPC;
	memset(p->list + at, 0, rec_len);
	memcpy(p->list + at, &x, sizeof(x));
	memcpy(p->list + at + sizeof(x), n->name, n->len);
	at += sizeof(x) + n->len;
	if (big) {
		assert(!p->big);
		p->big = value;
		p->big_len = size;
		p->big_at = at;
	} else if (size) {
		memcpy(p->list + at, value, size);
	}
	p->len += rec_len;
	return 0;
}

int xattr_plan_set(struct xattr_plan *p, struct fs_inode *ip, unsigned flags,
		   const struct xattr_name *n, const void *value, size_t size, int xflags)
{
	struct xattr_rec r;
	bool found = xattr_find(p->list, p->len, n, &r);

	assert(size <= OD_XATTR_VALUE_MAX);
	if (found && (xflags & XATTR_CREATE))
		return -EEXIST;
	if (!found && (!value || (xflags & XATTR_REPLACE)))
		return -ENODATA;
	if (found) {
		if (r.blob) {
			int err;

			lk_lock(&ip->extlock);
			err = plan_free_blob(p, ip, flags, le64_at(r.value));
			lk_unlock(&ip->extlock);
			if (err)
				return err;
		}
		plan_cut(p, &r);
	}
	return value ? plan_add(p, n, value, size) : 0;
}

static unsigned area_room(unsigned data_len)
{
	unsigned data = MAX(data_len, FS_AREA_DATA_MIN);

	return data < OD_INODE_AREA ? OD_INODE_AREA - data : 0;
}

int xattr_plan_need(struct xattr_plan *p, unsigned data_len, struct fs_need *need)
{
	unsigned blocks = 0;

	p->in_area = p->len <= area_room(data_len);
	if (!p->in_area) {
		if (data_len > FS_AREA_DATA_MAX)
			return -ENOSPC;
		blocks = xattr_blob_blocks(p->len);
	}
	if (p->big)
		blocks += xattr_blob_blocks(p->big_len);
	need->allocs += blocks;
	need->credits += blocks;
	need->frees += p->nr_old;
	return 0;
}

bool xattr_plan_fits(const struct xattr_plan *p, const struct fs_inode *ip)
{
	lk_assert_held(&ip->extlock);
	if (p->in_area)
		return p->len <= area_room(ip->data_len);
	return ip->data_len <= FS_AREA_DATA_MAX;
}

int xattr_plan_apply(struct jnl_handle *h, struct fs_inode *ip, struct xattr_plan *p)
{
	uint8_t *end = ip->area + OD_INODE_AREA;
	uint64_t mblk;
	le64_t addr;
	int err = 0;

	assert(xattr_plan_fits(p, ip));
	if (p->big) {
		err = xattr_blob_write(h, ip, p->big, p->big_len, &mblk);
		if (err)
			return err;
		addr = le64_make(mblk);
		memcpy(p->list + p->big_at, &addr, sizeof(addr));
	}
	assert(!od_verify_xattrs(p->list, p->len));
	if (ip->attr_len)
		memset(end - ip->attr_len, 0, ip->attr_len);
	if (p->in_area) {
		ip->attr_fmt = p->len ? OD_ATTR_INLINE : OD_ATTR_NONE;
		ip->attr_len = (uint16_t)p->len;
		memcpy(end - p->len, p->list, p->len);
	} else {
		err = xattr_blob_write(h, ip, p->list, p->len, &mblk);
		addr = le64_make(mblk);
		ip->attr_fmt = OD_ATTR_BLOB;
		ip->attr_len = sizeof(addr);
		memcpy(end - sizeof(addr), &addr, sizeof(addr));
	}
	return err ? err : xattr_blob_free(h, ip, p->old, p->nr_old);
}

void xattr_plan_put(struct xattr_plan *p)
{
	free(p->list);
	p->list = NULL;
}

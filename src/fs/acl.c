/* SPDX-License-Identifier: MIT */
/*
 * POSIX ACLs. They are stored as they come through setxattr: version 2 of the kernel's
 * attribute format, a le32 version and entries of tag, permissions and id. The mode's
 * permission bits always say the same as the access ACL's owner, mask (or group) and other.
 */
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "xattr.h"

struct acl_entry {
	le16_t tag;
	le16_t perm;
	le32_t id;
};
#define ACL_HEAD sizeof(le32_t)
#define ACL_SIZE_MAX 8192u /* bytes: a thousand entries */
_Static_assert(sizeof(struct acl_entry) == 8, "entry of the attribute format");

static struct acl_entry *acl_entries(void *acl)
{
	return (struct acl_entry *)((char *)acl + ACL_HEAD);
}

static size_t acl_count(size_t size)
{
	return (size - ACL_HEAD) / sizeof(struct acl_entry);
}

/* The entry of a tag that occurs once; NULL if there is none. */
static struct acl_entry *acl_find(void *acl, size_t size, unsigned tag)
{
	struct acl_entry *e = acl_entries(acl);

	for (size_t i = 0; i < acl_count(size); i++) {
		if (le16_get(e[i].tag) == tag)
			return &e[i];
	}
	return NULL;
}

/*
 * Tags come in this order: owner, named users, group, named groups, mask, other. Owner, group
 * and other exactly once; a mask at most once, and always where someone is named.
 */
static bool acl_valid(const struct acl_entry *e, size_t n)
{
	static const unsigned order[] = { ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK,
					  ACL_OTHER };
	unsigned at = 0, count[ARRAY_SIZE(order)] = { 0 };

	for (size_t i = 0; i < n; i++) {
		unsigned tag = le16_get(e[i].tag);

		if (le16_get(e[i].perm) & ~7u)
			return false;
		while (at < ARRAY_SIZE(order) && order[at] != tag)
			at++;
		if (at == ARRAY_SIZE(order))
			return false;
		if ((tag == ACL_USER || tag == ACL_GROUP) && le32_get(e[i].id) == UINT32_MAX)
			return false;
		count[at]++;
	}
	if (count[0] != 1 || count[2] != 1 || count[5] != 1 || count[4] > 1)
		return false;
	return count[4] || (!count[1] && !count[3]);
}

/* The permission bits that the ACL stands for; *more: it says more than they can. */
static mode_t acl_mode(void *acl, size_t size, bool *more)
{
	struct acl_entry *mask = acl_find(acl, size, ACL_MASK);
	struct acl_entry *group = mask ? mask : acl_find(acl, size, ACL_GROUP_OBJ);

	*more = acl_count(size) > 3;
	return (mode_t)le16_get(acl_find(acl, size, ACL_USER_OBJ)->perm) << 6 |
	       (mode_t)le16_get(group->perm) << 3 | le16_get(acl_find(acl, size, ACL_OTHER)->perm);
}

void acl_set_mode(void *acl, size_t size, mode_t mode)
{
	struct acl_entry *owner = acl_find(acl, size, ACL_USER_OBJ);
	struct acl_entry *other = acl_find(acl, size, ACL_OTHER);
	struct acl_entry *group = acl_find(acl, size, ACL_MASK);

	if (!group)
		group = acl_find(acl, size, ACL_GROUP_OBJ);
	/* An ACL from a damaged image may lack them: nothing to keep in step then. */
	if (owner)
		owner->perm = le16_make(mode >> 6 & 7);
	if (group)
		group->perm = le16_make(mode >> 3 & 7);
	if (other)
		other->perm = le16_make(mode & 7);
}

/* 1: sound; 0: empty, which means none; else the error of setxattr. */
static int acl_check(const void *value, size_t size)
{
	le32_t version;

	if (!value || size == 0)
		return 0;
	if (size < ACL_HEAD)
		return -EINVAL;
	memcpy(&version, value, sizeof(version));
	if (le32_get(version) != POSIX_ACL_XATTR_VERSION)
		return -EOPNOTSUPP;
	if ((size - ACL_HEAD) % sizeof(struct acl_entry))
		return -EINVAL;
	if (size == ACL_HEAD)
		return 0;
	if (size > ACL_SIZE_MAX)
		return -ENOSPC;
	return acl_valid((const struct acl_entry *)((const char *)value + ACL_HEAD),
			 acl_count(size)) ?
		       1 :
		       -EINVAL;
}

int acl_check_set(const struct xattr_name *n, mode_t *mode, const void *value, size_t size,
		  bool *drop)
{
	int ret = acl_check(value, size);
	bool more;

	if (ret < 0)
		return ret;
	*drop = ret == 0;
	if (ret == 0 || n->ns != OD_XNS_ACL_ACCESS)
		return 0;
	*mode = (*mode & ~(mode_t)0777) | acl_mode((void *)value, size, &more);
	*drop = !more;
	return 0;
}

/* ---- Inheritance ------------------------------------------------------------------------------ */

static void restrict_perm(struct acl_entry *e, mode_t *mode, unsigned shift)
{
	unsigned perm = le16_get(e->perm) & (*mode >> shift & 7);

	e->perm = le16_make((uint16_t)perm);
	*mode = (*mode & ~((mode_t)7 << shift)) | (mode_t)perm << shift;
}

/* The new inode's access ACL and mode: neither gives more than the creator asked for. */
static void acl_restrict(void *acl, size_t size, mode_t *mode)
{
	struct acl_entry *mask = acl_find(acl, size, ACL_MASK);

	restrict_perm(acl_find(acl, size, ACL_USER_OBJ), mode, 6);
	restrict_perm(mask ? mask : acl_find(acl, size, ACL_GROUP_OBJ), mode, 3);
	restrict_perm(acl_find(acl, size, ACL_OTHER), mode, 0);
}

/* dir's default ACL, malloc'ed; *size 0 when it has none. */
static int acl_default_of(struct fs_inode *dir, unsigned flags, void **acl, size_t *size)
{
	const struct xattr_name n = { OD_XNS_ACL_DEFAULT, "", 0 };
	const uint8_t *list, *value;
	uint8_t *mem = NULL, *vmem = NULL;
	struct xattr_rec r;
	size_t len;
	int err;

	*size = 0;
	lk_lock(&dir->extlock);
	err = xattr_load(dir, flags, &list, &len, &mem);
	if (!err && xattr_find(list, len, &n, &r) && r.value_len) {
		err = xattr_value(dir, &r, flags, &value, &vmem);
		*acl = err ? NULL : malloc(r.value_len);
		if (*acl) {
			memcpy(*acl, value, r.value_len);
			*size = r.value_len;
		} else if (!err) {
			err = -ENOMEM;
		}
	}
	lk_unlock(&dir->extlock);
	free(vmem);
	free(mem);
	return err;
}

static int inherit_plan(struct fs_inode *dir, mode_t *mode, struct xattr_plan *p, void *access,
			const void *dflt, size_t size)
{
	const struct xattr_name access_name = { OD_XNS_ACL_ACCESS, "", 0 };
	const struct xattr_name dflt_name = { OD_XNS_ACL_DEFAULT, "", 0 };
	bool more;
	int err;

	if (acl_check(dflt, size) != 1)
		return fs_corrupt(dir->fs, "attributes", dir->ino, "default-acl");
	acl_restrict(access, size, mode);
	acl_mode(access, size, &more);
	err = xattr_plan_begin(p, NULL, 0);
	if (!err && more)
		err = xattr_plan_set(p, NULL, 0, &access_name, access, size, 0);
	if (!err && S_ISDIR(*mode))
		err = xattr_plan_set(p, NULL, 0, &dflt_name, dflt, size, 0);
	return err;
}

int acl_inherit(struct fs_ctx *ctx, struct fs_inode *dir, mode_t *mode, struct xattr_plan *p)
{
	void *dflt = NULL, *access;
	size_t size;
	int err;

	*p = (struct xattr_plan){ 0 };
	if (S_ISLNK(*mode))
		return 0;
	err = acl_default_of(dir, ctx->flags, &dflt, &size);
	if (err)
		return err;
	if (!size) {
		*mode &= ~(mode_t)(ctx->umask & 0777);
		return 0;
	}
	access = malloc(size);
	if (access) {
		memcpy(access, dflt, size);
		err = inherit_plan(dir, mode, p, access, dflt, size);
	} else {
		err = -ENOMEM;
	}
	if (err)
		xattr_plan_put(p);
	free(access);
	free(dflt);
	return err;
}

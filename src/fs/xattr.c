/* SPDX-License-Identifier: MIT */
/* Extended attributes: get, set, list, remove. */
#include <sys/xattr.h>

#include "xattr.h"

#define CAPABILITY "security.capability"

static bool is_capability(const struct xattr_name *n)
{
	return n->ns == OD_XNS_SECURITY && n->len == 10 && memcmp(n->name, "capability", 10) == 0;
}

static bool is_acl(const struct xattr_name *n)
{
	return n->ns == OD_XNS_ACL_ACCESS || n->ns == OD_XNS_ACL_DEFAULT;
}

/* What the type of the inode rules out, as the kernel does: 0, or the error of a change. */
static int type_allows(const struct xattr_name *n, mode_t mode)
{
	if (n->ns == OD_XNS_USER && !S_ISREG(mode) && !S_ISDIR(mode))
		return -EPERM;
	if (is_acl(n) && S_ISLNK(mode))
		return -EOPNOTSUPP;
	return 0;
}

static int lock_ext(struct fs_inode *ip, unsigned flags)
{
	if (!(flags & FS_NOWAIT))
		lk_lock(&ip->extlock);
	else if (!lk_trylock(&ip->extlock))
		return -EAGAIN;
	return 0;
}

/* ---- Looking --------------------------------------------------------------------------------- */

static int64_t get_locked(struct fs_inode *ip, unsigned flags, const struct xattr_name *n,
			  void *buf, size_t size)
{
	uint8_t *mem, *vmem = NULL;
	const uint8_t *list, *value;
	struct xattr_rec r;
	size_t len;
	int64_t ret;

	ret = xattr_load(ip, flags, &list, &len, &mem);
	if (ret)
		return ret;
	if (!xattr_find(list, len, n, &r)) {
		ret = -ENODATA;
		/* The kernel asks before each first write to a file: remember the answer. */
		if (is_capability(n))
			ip->xattr_none = true;
	} else if (size == 0) {
		ret = r.value_len;
	} else if (size < r.value_len) {
		ret = -ERANGE;
	} else {
		ret = xattr_value(ip, &r, flags, &value, &vmem);
		if (!ret && r.value_len)
			memcpy(buf, value, r.value_len);
		if (!ret)
			ret = r.value_len;
	}
	free(vmem);
	free(mem);
	return ret;
}

int64_t fs_getxattr(struct fs_ctx *ctx, struct fs_inode *ip, const char *name, void *buf, size_t size)
{
	struct xattr_name n;
	int64_t ret = xattr_name_parse(name, &n);

	if (ret)
		return ret;
	if (ip->xattr_none && is_capability(&n))
		return -ENODATA;
	ret = lock_ext(ip, ctx->flags);
	if (ret)
		return ret;
	ret = type_allows(&n, ip->mode);
	if (ret == -EPERM)
		ret = -ENODATA;
	if (!ret)
		ret = get_locked(ip, ctx->flags, &n, buf, size);
	lk_unlock(&ip->extlock);
	return ret;
}

/* trusted.* is for the administrator's eyes only. */
static bool listed(const struct fs_ctx *ctx, const struct xattr_rec *r)
{
	return r->name.ns != OD_XNS_TRUSTED || ctx->uid == 0;
}

int64_t fs_listxattr(struct fs_ctx *ctx, struct fs_inode *ip, char *buf, size_t size)
{
	size_t len, off = 0, total = 0;
	const uint8_t *list;
	struct xattr_rec r;
	uint8_t *mem;
	int err = lock_ext(ip, ctx->flags);

	if (err)
		return err;
	err = xattr_load(ip, ctx->flags, &list, &len, &mem);
	while (!err && xattr_next(list, len, &off, &r)) {
		const char *prefix = xattr_prefix(r.name.ns);
		size_t plen = strlen(prefix);

		if (!listed(ctx, &r))
			continue;
		if (size && total + plen + r.name.len + 1 > size) {
			err = -ERANGE;
			break;
		}
		if (size) {
			memcpy(buf + total, prefix, plen);
			memcpy(buf + total + plen, r.name.name, r.name.len);
			buf[total + plen + r.name.len] = '\0';
		}
		total += plen + r.name.len + 1;
	}
	lk_unlock(&ip->extlock);
	free(mem);
	return err ? err : (int64_t)total;
}

/* ---- Changing ---------------------------------------------------------------------------------- */

/* One attribute to set (value) or remove (NULL), and the mode that goes with it (ACLs). */
struct edit {
	struct xattr_name name;
	const void *value;
	size_t size;
	int xflags;
	bool set_mode;
	mode_t mode;
};

/* In the handle, extlock held. */
static int edit_apply(struct fs_change *c, struct fs_inode *ip, const struct edit *e,
		      struct xattr_plan *p, bool changed)
{
	if (changed) {
		int err = xattr_plan_apply(c->h, ip, p);

		if (err)
			return err;
		if (is_capability(&e->name))
			ip->xattr_none = !e->value;
	}
	if (e->set_mode)
		ip->mode = (ip->mode & S_IFMT) | (e->mode & 07777);
	fs_stamp(ip, false);
	fs_ilog(c->h, ip, false);
	return 0;
}

static int edit_try(struct fs_change *c, struct fs_inode *ip, const struct edit *e)
{
	struct xattr_plan p;
	bool changed = true;
	int err;

	err = xattr_plan_begin(&p, ip, c->flags);
	if (!err)
		err = xattr_plan_set(&p, ip, c->flags, &e->name, e->value, e->size, e->xflags);
	if (err == -ENODATA && e->set_mode && !e->value) {
		/* No ACL there, none to be: only the mode changes. */
		changed = false;
		err = 0;
	}
	if (!err && changed) {
		unsigned data_len;

		lk_lock(&ip->extlock);
		data_len = ip->data_len;
		lk_unlock(&ip->extlock);
		err = xattr_plan_need(&p, data_len, &c->need);
	}
	if (!err)
		err = fs_ilog_prepare(ip, c->flags);
	c->need.credits++;
	if (!err)
		err = fs_change_start(c);
	if (!err) {
		lk_lock(&ip->extlock);
		/*
		 * Writeback does not take i_rwsem: its extents may have taken the room since
		 * the plan was made. Nothing has changed yet, so plan once more.
		 */
		if (changed && !xattr_plan_fits(&p, ip))
			err = -ESTALE;
		else if (edit_apply(c, ip, e, &p, changed))
			err = fs_change_fail(c, -EIO, "changing attributes");
		lk_unlock(&ip->extlock);
	}
	fs_change_stop(c);
	xattr_plan_put(&p);
	return err;
}

/* i_rwsem held exclusively, fs_start_change done. */
static int edit_locked(struct fs_change *c, struct fs_inode *ip, const struct edit *e)
{
	int err;

	do {
		c->need = (struct fs_need){ 0 };
		err = edit_try(c, ip, e);
	} while (err == -ESTALE);
	return err;
}

static int edit_allowed(struct fs_inode *ip, const struct xattr_name *n)
{
	mode_t mode;
	uint32_t flags;

	lk_lock(&ip->extlock);
	mode = ip->mode;
	flags = ip->flags;
	lk_unlock(&ip->extlock);
	if (flags & (OD_FL_IMMUTABLE | OD_FL_APPEND))
		return -EPERM;
	return type_allows(n, mode);
}

/* An ACL given: check it, find what it does to the mode, and whether it is stored at all. */
static int edit_acl(struct fs_ctx *ctx, struct fs_inode *ip, struct edit *e)
{
	bool drop;
	int err;

	e->xflags = 0; /* meaningless for ACLs, as in the kernel */
	e->mode = fs_mode_of(ip);
	if (e->name.ns == OD_XNS_ACL_DEFAULT && !S_ISDIR(e->mode))
		return e->value && e->size > 4 ? -EACCES : 0;
	err = acl_check_set(&e->name, &e->mode, e->value, e->size, &drop);
	if (err)
		return err;
	if (drop)
		e->value = NULL;
	if (e->name.ns == OD_XNS_ACL_ACCESS) {
		if (ctx->flags & FS_KILL_SUIDGID)
			e->mode &= ~(mode_t)S_ISGID;
		e->set_mode = true;
	}
	return 1;
}

static int change_one(struct fs_ctx *ctx, struct fs_inode *ip, const struct edit *want)
{
	struct fs_change c;
	int err = fs_change_begin(&c, ip->fs, ctx);

	if (err)
		return err;
	do {
		struct edit e = *want;

		err = fs_lock_dir(&c, ip);
		if (err)
			break;
		err = edit_allowed(ip, &e.name);
		if (!err)
			err = is_acl(&e.name) ? edit_acl(ctx, ip, &e) : 1;
		if (err > 0)
			err = edit_locked(&c, ip, &e);
		lk_rw_unlock(&ip->vfs.i_rwsem);
	} while (fs_change_again(&c, &err));
	fs_change_end(&c);
	/* Taking away an ACL that is not there is no error. */
	return err == -ENODATA && is_acl(&want->name) ? 0 : err;
}

int fs_setxattr(struct fs_ctx *ctx, struct fs_inode *ip, const char *name, const void *value,
		size_t size, int flags)
{
	struct edit e = { .value = value ? value : "", .size = size, .xflags = flags };
	int err;

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	err = xattr_name_parse(name, &e.name);
	if (err)
		return err;
	if (size > OD_XATTR_VALUE_MAX)
		return -E2BIG;
	return change_one(ctx, ip, &e);
}

int fs_removexattr(struct fs_ctx *ctx, struct fs_inode *ip, const char *name)
{
	struct edit e = { .value = NULL };
	int err = xattr_name_parse(name, &e.name);

	return err ? err : change_one(ctx, ip, &e);
}

int xattr_remove_locked(struct fs_ctx *ctx, struct fs_inode *ip, const char *name)
{
	struct fs_change c = { .fs = ip->fs, .flags = ctx->flags & FS_NOWAIT, .hard = true };
	struct edit e = { .value = NULL };
	int err = xattr_name_parse(name, &e.name);

	assert(!err);
	if (ip->xattr_none && is_capability(&e.name))
		return 0;
	err = edit_locked(&c, ip, &e);
	if (c.reserved)
		space_unreserve(c.fs, c.reserved);
	return err == -ENODATA ? 0 : err;
}

/* The ACL as chmod leaves it, and the mode, in one handle. */
static int chmod_acl(struct fs_ctx *ctx, struct fs_inode *ip, mode_t mode, void *acl, size_t size)
{
	struct fs_change c = { .fs = ip->fs, .flags = ctx->flags & FS_NOWAIT, .hard = true };
	struct edit e = {
		.name = { OD_XNS_ACL_ACCESS, "", 0 },
		.value = acl,
		.size = size,
		.set_mode = true,
		.mode = mode,
	};
	int err;

	acl_set_mode(acl, size, mode);
	err = edit_locked(&c, ip, &e);
	if (c.reserved)
		space_unreserve(c.fs, c.reserved);
	return err;
}

int acl_chmod(struct fs_ctx *ctx, struct fs_inode *ip, mode_t mode)
{
	struct xattr_name n = { OD_XNS_ACL_ACCESS, "", 0 };
	uint8_t *acl = NULL;
	int64_t len;
	int err = lock_ext(ip, ctx->flags);

	if (err)
		return err;
	len = get_locked(ip, ctx->flags, &n, NULL, 0);
	if (len > 0) {
		acl = malloc((size_t)len);
		len = acl ? get_locked(ip, ctx->flags, &n, acl, (size_t)len) : -ENOMEM;
	}
	lk_unlock(&ip->extlock);
	if (len > 0)
		err = chmod_acl(ctx, ip, mode, acl, (size_t)len);
	else
		err = len == -ENODATA ? 0 : (int)len;
	free(acl);
	return err;
}

/* ---- Room, and the end --------------------------------------------------------------------------- */

int xattr_make_room(struct jnl_handle *h, struct fs_inode *ip)
{
	uint8_t *end = ip->area + OD_INODE_AREA;
	uint8_t list[OD_INODE_AREA];
	uint64_t mblk;
	le64_t addr;
	int err;

	lk_assert_held(&ip->extlock);
	if (ip->attr_fmt != OD_ATTR_INLINE)
		return 0;
	assert(ip->attr_len >= sizeof(addr));
	memcpy(list, end - ip->attr_len, ip->attr_len);
	err = xattr_blob_write(h, ip, list, ip->attr_len, &mblk);
	if (err)
		return err;
	memset(end - ip->attr_len, 0, ip->attr_len);
	addr = le64_make(mblk);
	memcpy(end - sizeof(addr), &addr, sizeof(addr));
	ip->attr_fmt = OD_ATTR_BLOB;
	ip->attr_len = sizeof(addr);
	return 0;
}

/* The blob of the first large value, found in *list, goes; the list is rewritten without it. */
static int free_values(struct fs_inode *ip)
{
	for (;;) {
		struct fs_change c = { .fs = ip->fs, .hard = true };
		struct edit e = { .value = NULL };
		const uint8_t *list;
		struct xattr_rec r;
		uint8_t *mem;
		size_t len, off = 0;
		bool found = false;
		int err;

		lk_lock(&ip->extlock);
		err = xattr_load(ip, 0, &list, &len, &mem);
		lk_unlock(&ip->extlock);
		while (!err && !found && xattr_next(list, len, &off, &r))
			found = r.blob;
		if (found) {
			e.name = r.name;
			err = edit_locked(&c, ip, &e);
			if (c.reserved)
				space_unreserve(c.fs, c.reserved);
		}
		free(mem);
		if (err || !found)
			return err;
	}
}

int xattr_free_all(struct fs_inode *ip)
{
	struct fs_change c = { .fs = ip->fs, .hard = true };
	struct xattr_plan p;
	int err;

	if (ip->attr_fmt == OD_ATTR_NONE)
		return 0;
	err = free_values(ip);
	if (err || ip->attr_fmt == OD_ATTR_NONE)
		return err;
	/* What is left has no blobs but the list's own. */
	err = xattr_plan_begin(&p, ip, 0);
	p.len = 0;
	if (!err)
		err = xattr_plan_need(&p, ip->data_len, &c.need);
	if (!err)
		err = fs_ilog_prepare(ip, 0);
	c.need.credits++;
	if (!err)
		err = fs_change_start(&c);
	if (!err) {
		lk_lock(&ip->extlock);
		if (xattr_plan_apply(c.h, ip, &p))
			err = fs_change_fail(&c, -EIO, "freeing attributes");
		else
			fs_ilog(c.h, ip, false);
		lk_unlock(&ip->extlock);
	}
	fs_change_stop(&c);
	xattr_plan_put(&p);
	return err;
}

/* SPDX-License-Identifier: MIT */
/* mknod, mkdir, symlink, tmpfile: a new inode and, but for the last, its name. */
#include <limits.h>

#include "names.h"

/* One creation: what is asked for, and the plan. */
struct creation {
	struct fs_ctx *ctx;
	struct fs_inode *dir;
	const char *name;         /* NULL: no name, on the orphan list (tmpfile) */
	size_t len;
	mode_t mode;              /* as asked; as it will be in `new_mode` */
	uint32_t rdev_major, rdev_minor;
	const char *target;       /* symlinks */
	size_t target_len;

	mode_t new_mode;
	struct dir_insert ins;
	struct xattr_plan attrs;  /* inherited ACLs; attrs.list NULL: none */
};

static int create_plan(struct fs_change *c, struct creation *n)
{
	struct fs_inode *dir = n->dir;
	int err;

	n->ins = (struct dir_insert){ 0 };
	n->attrs = (struct xattr_plan){ 0 };
	n->new_mode = n->mode;
	err = n->name ? dir_may_create(c, dir, n->name, n->len) : dir_may_change(c, dir, false);
	if (!err && S_ISDIR(n->mode)) {
		lk_lock(&dir->extlock);
		err = dir->nlink >= OD_LINK_MAX ? -EMLINK : 0;
		lk_unlock(&dir->extlock);
	}
	if (!err)
		err = acl_inherit(n->ctx, dir, &n->new_mode, &n->attrs);
	if (!err && n->attrs.list)
		err = xattr_plan_need(&n->attrs, 0, &c->need);
	if (!err)
		err = fs_ilog_prepare(dir, c->flags);
	if (!err)
		err = ialloc_prepare(c->fs, dir, n->new_mode, c->flags);
	if (!err && n->name)
		err = dir_insert_plan(dir, n->name, n->len, c->flags, &n->ins, &c->need);
	if (n->target)
		symlink_need(n->target_len, &c->need);
	/* Both inodes. */
	c->need.credits += 2 + ialloc_credits(c->fs) + (n->name ? 0 : orphan_credits(c->fs));
	c->need.fsbs += ialloc_space(c->fs);
	return err;
}

static void plan_put(struct creation *n)
{
	dir_insert_put(&n->ins);
	xattr_plan_put(&n->attrs);
}

/* Owner, mode, flags and project by the rules of inheritance; extlock of ip held. */
static void new_attributes(const struct creation *n, struct fs_inode *ip, uint32_t dir_flags,
			   mode_t dir_mode, uint32_t dir_gid, uint32_t dir_projid)
{
	uint32_t inherit = OD_FL_SYNC | OD_FL_NODUMP | OD_FL_NOATIME;

	ip->uid = n->ctx->uid;
	ip->gid = n->ctx->gid;
	ip->mode = n->new_mode;
	if (dir_mode & S_ISGID) {
		ip->gid = dir_gid;
		if (S_ISDIR(ip->mode))
			ip->mode |= S_ISGID;
	}
	if (S_ISDIR(ip->mode))
		inherit |= OD_FL_DIRSYNC | OD_FL_PROJINHERIT;
	ip->flags = S_ISREG(ip->mode) || S_ISDIR(ip->mode) ? dir_flags & inherit : 0;
	ip->projid = dir_flags & OD_FL_PROJINHERIT ? dir_projid : 0;
	if (S_ISCHR(ip->mode) || S_ISBLK(ip->mode)) {
		ip->rdev_major = n->rdev_major;
		ip->rdev_minor = n->rdev_minor;
	}
	ip->nlink = !n->name ? 0 : S_ISDIR(ip->mode) ? 2 : 1;
	ip->parent = S_ISDIR(ip->mode) ? n->dir->ino : 0;
	fs_stamp(ip, true);
	ip->atime = ip->btime = ip->ctime;
	ip->xattr_none = true;
}

static int new_inode_apply(struct fs_change *c, struct creation *n, struct fs_inode *ip)
{
	uint32_t flags, gid, projid;
	mode_t mode;
	int err = 0;

	lk_lock(&n->dir->extlock);
	flags = n->dir->flags;
	mode = n->dir->mode;
	gid = n->dir->gid;
	projid = n->dir->projid;
	lk_unlock(&n->dir->extlock);

	lk_lock(&ip->extlock);
	new_attributes(n, ip, flags, mode, gid, projid);
	if (S_ISDIR(ip->mode))
		dir_encode(ip);
	if (n->target)
		err = symlink_apply(c->h, ip, n->target, n->target_len);
	if (!err && n->attrs.list)
		err = xattr_plan_apply(c->h, ip, &n->attrs);
	if (!err && !n->name) {
		atomic_fetch_or(&ip->state, FS_I_LINKABLE);
		err = orphan_add(c->h, ip, OD_ORPHAN_UNLINKED);
	}
	/* fdatasync of an empty new file makes its name durable as well. */
	if (!err)
		fs_ilog(c->h, ip, true);
	lk_unlock(&ip->extlock);
	return err;
}

static int create_name(struct fs_change *c, struct creation *n, struct fs_inode *ip)
{
	struct fs_inode *dir = n->dir;
	int err;

	if (!n->name)
		return 0;
	lk_lock(&dir->extlock);
	err = dir_insert_apply(c->h, dir, &n->ins, n->name, n->len, ip->ino, dir_type(n->new_mode));
	if (S_ISDIR(n->new_mode))
		dir->nlink++;
	fs_stamp(dir, true);
	if (!err)
		fs_ilog(c->h, dir, false);
	lk_unlock(&dir->extlock);
	return err;
}

static int create_apply(struct fs_change *c, struct creation *n, struct fs_inode **out)
{
	struct fs_inode *ip;
	int err = ialloc_new(c->fs, c->h, n->dir, n->new_mode, &ip);

	if (err)
		return err;
	err = new_inode_apply(c, n, ip);
	if (!err)
		err = create_name(c, n, ip);
	if (err) {
		err = fs_change_fail(c, err, "create");
		fs_iput(ip);
		return err;
	}
	*out = ip;
	return 0;
}

static int create(struct creation *n, struct fs_inode **out)
{
	struct fs_change c;
	int err = fs_change_begin(&c, n->dir->fs, n->ctx);

	if (err)
		return err;
	do {
		err = fs_lock_dir(&c, n->dir);
		if (err)
			break;
		err = create_plan(&c, n);
		if (!err)
			err = fs_change_start(&c);
		if (!err)
			err = create_apply(&c, n, out);
		fs_change_stop(&c);
		plan_put(n);
		lk_rw_unlock(&n->dir->vfs.i_rwsem);
	} while (fs_change_again(&c, &err));
	fs_change_end(&c);
	return err;
}

/* "." and ".." are always there. */
static int create_named(struct creation *n, struct fs_inode **out)
{
	int err = dir_name_check(n->name, n->len);

	if (err == -EINVAL && n->len && n->len <= 2 && n->name[0] == '.')
		return -EEXIST;
	return err ? err : create(n, out);
}

int fs_mknod(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, mode_t mode,
	     uint32_t rdev_major, uint32_t rdev_minor, struct fs_inode **out)
{
	struct creation n = {
		.ctx = ctx,
		.dir = dir,
		.name = name,
		.len = len,
		.mode = mode & (S_IFMT | 07777),
		.rdev_major = rdev_major,
		.rdev_minor = rdev_minor,
	};

	switch (mode & S_IFMT) {
	case 0:
		n.mode |= S_IFREG;
		break;
	case S_IFREG:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	case S_IFDIR:
		return -EPERM;
	default:
		return -EINVAL;
	}
	return create_named(&n, out);
}

int fs_mkdir(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, mode_t mode,
	     struct fs_inode **out)
{
	struct creation n = {
		.ctx = ctx,
		.dir = dir,
		.name = name,
		.len = len,
		.mode = S_IFDIR | (mode & 07777),
	};

	return create_named(&n, out);
}

int fs_symlink(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len,
	       const char *target, struct fs_inode **out)
{
	struct creation n = {
		.ctx = ctx,
		.dir = dir,
		.name = name,
		.len = len,
		.mode = S_IFLNK | 0777,
		.target = target,
		.target_len = strlen(target),
	};

	if (n.target_len == 0)
		return -ENOENT;
	return n.target_len >= PATH_MAX ? -ENAMETOOLONG : create_named(&n, out);
}

int fs_tmpfile(struct fs_ctx *ctx, struct fs_inode *dir, mode_t mode, struct fs_inode **out)
{
	struct creation n = {
		.ctx = ctx,
		.dir = dir,
		.mode = S_IFREG | (mode & 07777),
	};

	/* Which group's orphan list it joins is known inside the handle only: may read there. */
	if (ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (!dir->dir)
		return -ENOTDIR;
	return create(&n, out);
}

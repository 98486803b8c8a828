/* SPDX-License-Identifier: MIT */
/* link, unlink, rmdir. */
#include "names.h"

int dir_drop_link(struct fs_change *c, struct fs_inode *ip, bool is_dir)
{
	int err = 0;

	lk_lock(&ip->extlock);
	if (ip->nlink == 0 || (is_dir && ip->nlink < 2)) {
		/* An entry that the count does not know of: it must not wrap. */
		lk_unlock(&ip->extlock);
		return fs_corrupt(c->fs, "inode", ip->ino, "link-count-too-low");
	}
	ip->nlink = is_dir ? 0 : ip->nlink - 1;
	fs_stamp(ip, false);
	if (ip->nlink == 0)
		err = orphan_add(c->h, ip, OD_ORPHAN_UNLINKED);
	if (!err)
		fs_ilog(c->h, ip, false);
	lk_unlock(&ip->extlock);
	return err;
}

/* ---- link ------------------------------------------------------------------------------------ */

/* May ip get one more name? extlock held; judged again inside the handle. */
static int link_allowed(const struct fs_inode *ip)
{
	if (S_ISDIR(ip->mode) || (ip->flags & (OD_FL_IMMUTABLE | OD_FL_APPEND)))
		return -EPERM;
	if (ip->nlink == 0 && !(ip->state & FS_I_LINKABLE))
		return -ENOENT;
	return ip->nlink >= OD_LINK_MAX ? -EMLINK : 0;
}

static int link_plan(struct fs_change *c, struct fs_inode *ip, struct fs_inode *dir,
		     const char *name, size_t len, struct dir_insert *ins)
{
	int err = dir_may_create(c, dir, name, len);

	if (err)
		return err;
	lk_lock(&ip->extlock);
	err = link_allowed(ip);
	lk_unlock(&ip->extlock);
	if (!err)
		err = dir_project_check(dir, ip);
	if (!err)
		err = fs_ilog_prepare(dir, c->flags);
	if (!err)
		err = fs_ilog_prepare(ip, c->flags);
	/* A file without a name leaves the orphan list. */
	if (!err)
		err = orphan_prepare(ip, c->flags);
	c->need.credits += 2 + orphan_credits(c->fs);
	return err ? err : dir_insert_plan(dir, name, len, c->flags, ins, &c->need);
}

static int link_apply(struct fs_change *c, struct fs_inode *ip, struct fs_inode *dir,
		      const char *name, size_t len, const struct dir_insert *ins)
{
	bool first = false;
	unsigned type;
	int err;

	lk_lock(&ip->extlock);
	/* Names of ip in other directories may have gone meanwhile; nothing has changed yet. */
	err = link_allowed(ip);
	if (err) {
		lk_unlock(&ip->extlock);
		return err;
	}
	type = dir_type(ip->mode);
	if (ip->nlink == 0) {
		first = true;
		err = orphan_del(c->h, ip);
		atomic_fetch_and(&ip->state, ~FS_I_LINKABLE);
	}
	ip->nlink++;
	fs_stamp(ip, false);
	/* As with a new file, fdatasync makes a first name durable. */
	if (!err)
		fs_ilog(c->h, ip, first);
	lk_unlock(&ip->extlock);
	if (!err) {
		lk_lock(&dir->extlock);
		err = dir_insert_apply(c->h, dir, ins, name, len, ip->ino, type);
		fs_stamp(dir, true);
		if (!err)
			fs_ilog(c->h, dir, false);
		lk_unlock(&dir->extlock);
	}
	return err ? fs_change_fail(c, err, "link") : 0;
}

int fs_link(struct fs_ctx *ctx, struct fs_inode *ip, struct fs_inode *dir, const char *name, size_t len)
{
	struct fs_change c;
	int err = dir_name_check(name, len);

	if (err)
		return err == -EINVAL && len ? -EEXIST : err;
	err = fs_change_begin(&c, dir->fs, ctx);
	if (err)
		return err;
	do {
		struct dir_insert ins;

		err = fs_lock_dir(&c, dir);
		if (err)
			break;
		err = link_plan(&c, ip, dir, name, len, &ins);
		if (!err) {
			err = fs_change_start(&c);
			if (!err)
				err = link_apply(&c, ip, dir, name, len, &ins);
			fs_change_stop(&c);
			dir_insert_put(&ins);
		}
		lk_rw_unlock(&dir->vfs.i_rwsem);
	} while (fs_change_again(&c, &err));
	fs_change_end(&c);
	return err;
}

/* ---- unlink, rmdir ----------------------------------------------------------------------------- */

static int remove_allowed(struct fs_inode *ip, bool is_dir)
{
	uint32_t flags = fs_flags_of(ip);

	if (is_dir && !ip->dir)
		return -ENOTDIR;
	if (!is_dir && ip->dir)
		return -EISDIR;
	if (flags & (OD_FL_IMMUTABLE | OD_FL_APPEND))
		return -EPERM;
	return is_dir && ip->dir->nr_entries ? -ENOTEMPTY : 0;
}

static int remove_apply(struct fs_change *c, struct fs_inode *dir, struct fs_inode *ip, bool is_dir,
			const struct dir_entry *e)
{
	int err;

	lk_lock(&dir->extlock);
	err = dir_remove_apply(c->h, dir, e);
	/* A count that was too low already stays for fsck: it must not reach 0 while dir lives. */
	if (is_dir && dir->nlink > 2)
		dir->nlink--;
	fs_stamp(dir, true);
	if (!err)
		fs_ilog(c->h, dir, false);
	lk_unlock(&dir->extlock);
	if (!err)
		err = dir_drop_link(c, ip, is_dir);
	return err ? fs_change_fail(c, err, "unlink") : 0;
}

/* dir and, for rmdir, ip are locked. */
static int remove_locked(struct fs_change *c, struct fs_inode *dir, struct fs_inode *ip, bool is_dir,
			 const struct dir_entry *e)
{
	int err = remove_allowed(ip, is_dir);

	if (!err)
		err = dir_remove_plan(dir, e, c->flags, &c->need);
	if (!err)
		err = fs_ilog_prepare(dir, c->flags);
	if (!err)
		err = fs_ilog_prepare(ip, c->flags);
	if (!err)
		err = orphan_prepare(ip, c->flags);
	c->need.credits += 2 + orphan_credits(c->fs);
	if (!err)
		err = fs_change_start(c);
	if (!err)
		err = remove_apply(c, dir, ip, is_dir, e);
	fs_change_stop(c);
	return err;
}

/* *gone: the inode, for its last put without locks. */
static int remove_name(struct fs_change *c, struct fs_inode *dir, const char *name, size_t len,
		       bool is_dir, struct fs_inode **gone)
{
	struct dir_entry e;
	int err = dir_may_change(c, dir, true);

	if (!err)
		err = dir_find_inode(dir, name, len, c->flags, &e, gone);
	if (err)
		return err;
	if (is_dir && (*gone)->dir)
		err = fs_lock_nested(c, *gone);
	if (!err) {
		err = remove_locked(c, dir, *gone, is_dir, &e);
		if (is_dir && (*gone)->dir)
			lk_rw_unlock(&(*gone)->vfs.i_rwsem);
	}
	dir_entry_put(&e);
	if (!err)
		dir_shrink(dir);
	return err;
}

static int remove_op(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len,
		     bool is_dir)
{
	struct fs_inode *gone = NULL;
	struct fs_change c;
	int err = fs_change_begin(&c, dir->fs, ctx);

	if (err)
		return err;
	/* No space is reserved: removing works on a full file system. */
	err = fs_lock_dir(&c, dir);
	if (!err) {
		err = remove_name(&c, dir, name, len, is_dir, &gone);
		lk_rw_unlock(&dir->vfs.i_rwsem);
	}
	fs_change_end(&c);
	if (gone && !err)
		fs_iput_gone(ctx, gone);
	else if (gone)
		fs_iput(gone);
	return err;
}

int fs_unlink(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len)
{
	int err = dir_name_check(name, len);

	if (err == -EINVAL && len && name[0] == '.')
		return -EISDIR;
	return err ? err : remove_op(ctx, dir, name, len, false);
}

int fs_rmdir(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len)
{
	int err = dir_name_check(name, len);

	if (err == -EINVAL && len == 2 && name[0] == '.' && name[1] == '.')
		return -ENOTEMPTY;
	return err ? err : remove_op(ctx, dir, name, len, true);
}

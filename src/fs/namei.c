/* SPDX-License-Identifier: MIT */
/* Lookup, and the checks that every operation on names makes. */
#include "names.h"

int dir_name_check(const char *name, size_t len)
{
	if (len > OD_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0 || memchr(name, '/', len) || memchr(name, '\0', len))
		return -EINVAL;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return -EINVAL;
	return 0;
}

static bool dir_is_dead(struct fs_inode *dir)
{
	bool dead;

	lk_lock(&dir->extlock);
	dead = dir->nlink == 0;
	lk_unlock(&dir->extlock);
	return dead;
}

int dir_may_change(const struct fs_change *c, struct fs_inode *dir, bool removes)
{
	uint32_t flags = fs_flags_of(dir);

	if (!dir->dir)
		return -ENOTDIR;
	if (dir_is_dead(dir))
		return -ENOENT;
	if ((flags & OD_FL_IMMUTABLE) || (removes && (flags & OD_FL_APPEND)))
		return -EPERM;
	if (!dir_must_shrink(dir))
		return 0;
	return c->flags & FS_NOWAIT ? -EAGAIN : dir_free_all(dir);
}

int dir_may_create(const struct fs_change *c, struct fs_inode *dir, const char *name, size_t len)
{
	struct dir_entry e;
	int err;

	if (!dir->dir)
		return -ENOTDIR;
	err = dir_find(dir, name, len, c->flags, &e);
	if (!err) {
		dir_entry_put(&e);
		return -EEXIST;
	}
	return err == -ENOENT ? dir_may_change(c, dir, false) : err;
}

void dir_shrink(struct fs_inode *dir)
{
	/* The name is gone whatever comes of this; what is left over is freed at the next try. */
	if (dir_must_shrink(dir) && !fs_is_shutdown(dir->fs))
		(void)dir_free_all(dir);
}

int dir_find_inode(struct fs_inode *dir, const char *name, size_t len, unsigned flags,
		   struct dir_entry *e, struct fs_inode **out)
{
	int err = dir_find(dir, name, len, flags, e);

	if (err)
		return err;
	err = fs_iget(dir->fs, e->ino, flags & FS_NOWAIT, out);
	if (err == -ESTALE)
		err = fs_corrupt(dir->fs, "directory", dir->ino, "entry-of-free-inode");
	if (!err && dir_type(fs_mode_of(*out)) != e->type) {
		fs_iput(*out);
		err = fs_corrupt(dir->fs, "directory", dir->ino, "entry-type");
	}
	if (err) {
		*out = NULL;
		dir_entry_put(e);
	}
	return err;
}

int dir_project_check(struct fs_inode *dir, struct fs_inode *ip)
{
	uint32_t projid;

	if (!(fs_flags_of(dir) & OD_FL_PROJINHERIT))
		return 0;
	lk_lock(&dir->extlock);
	projid = dir->projid;
	lk_unlock(&dir->extlock);
	lk_lock(&ip->extlock);
	projid ^= ip->projid;
	lk_unlock(&ip->extlock);
	return projid ? -EXDEV : 0;
}

/* "." and "..", which are not stored: exports and tools ask for them. */
static int lookup_dots(struct fs_ctx *ctx, struct fs_inode *dir, size_t len, struct fs_inode **out)
{
	if (len == 2)
		return fs_iget(dir->fs, fs_parent_ino(dir), ctx->flags & FS_NOWAIT, out);
	fs_iref(dir);
	*out = dir;
	return 0;
}

int fs_lookup(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len,
	      struct fs_inode **out)
{
	struct dir_entry e;
	int err;

	if (!dir->dir)
		return -ENOTDIR;
	err = dir_name_check(name, len);
	if (err == -EINVAL && len && len <= 2 && name[0] == '.' && name[len - 1] == '.')
		return lookup_dots(ctx, dir, len, out);
	if (err)
		return err;
	if (!(ctx->flags & FS_NOWAIT))
		lk_rdlock(&dir->vfs.i_rwsem);
	else if (!lk_tryrdlock(&dir->vfs.i_rwsem))
		return -EAGAIN;
	/* The inode is taken under the lock: without it, name and inode could go in between. */
	err = dir_find_inode(dir, name, len, ctx->flags, &e, out);
	if (!err)
		dir_entry_put(&e);
	lk_rw_unlock(&dir->vfs.i_rwsem);
	return err;
}

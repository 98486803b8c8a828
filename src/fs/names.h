/* SPDX-License-Identifier: MIT */
/* What the operations on names share: namei.c, create.c, link.c, rename.c. */
#ifndef FS_NAMES_H
#define FS_NAMES_H

#include "dir.h"
#include "xattr.h"

/* A name that may be given to something: 0, -ENAMETOOLONG, -EINVAL ("" . .. / NUL inside). */
int dir_name_check(const char *name, size_t len);
/*
 * May names come and go in dir, which is locked? -ENOTDIR, -ENOENT (it was removed), -EPERM
 * (immutable; append-only where a name goes). Finishes an interrupted give-back of its blocks.
 */
int dir_may_change(const struct fs_change *c, struct fs_inode *dir, bool removes);
/* The same before a name comes, and -EEXIST if it is there. */
int dir_may_create(const struct fs_change *c, struct fs_inode *dir, const char *name, size_t len);
/* Entry and referenced inode of a name in a locked directory; both put by the caller. */
int dir_find_inode(struct fs_inode *dir, const char *name, size_t len, unsigned flags,
		   struct dir_entry *e, struct fs_inode **out);
/* Would ip, moved or linked here, leave the directory's project? -EXDEV. */
int dir_project_check(struct fs_inode *dir, struct fs_inode *ip);
/* After the last name went and the handle is closed: all blocks back. */
void dir_shrink(struct fs_inode *dir);
/* One name less, in an open handle: nlink, ctime, the orphan list. fs_ilog_prepare and
 * orphan_prepare have been done; 1 + orphan_credits. dir: an empty directory goes. */
int dir_drop_link(struct fs_change *c, struct fs_inode *ip, bool is_dir);

/* symlink.c: a target of len bytes in a new inode. */
void symlink_need(size_t len, struct fs_need *need);
int symlink_apply(struct jnl_handle *h, struct fs_inode *ip, const char *target, size_t len);

#endif

/* SPDX-License-Identifier: MIT */
/* The in-core inode table: shared by icache.c, inode*.c, ialloc.c, orphan.c, mount.c, super.c. */
#ifndef FS_ICACHE_H
#define FS_ICACHE_H

#include "fs_private.h"

int icache_create(struct fs *fs, uint64_t limit_bytes);
/* Nothing referenced any more. */
void icache_destroy(struct fs *fs);

/* As fs_iget; `unlinked` also finds inodes without links (orphans). */
int icache_get(struct fs *fs, uint64_t ino, unsigned flags, bool unlinked, struct fs_inode **out);
/* Only what is in memory and alive, referenced; NULL otherwise. */
struct fs_inode *icache_find(struct fs *fs, uint64_t ino);
/* An inode that was just allocated on disk: NULL attributes, mode's type, referenced, hashed. */
int icache_new(struct fs *fs, uint64_t ino, mode_t mode, struct fs_inode **out);
/* The number may be used again from now on: take the (freeing) inode out of the table. */
void icache_unhash(struct fs_inode *ip);
/* End of a freeing inode. */
void icache_drop(struct fs_inode *ip);
/* Evict unreferenced clean inodes down to the limit (all: every one). Returns how many went. */
unsigned icache_shrink(struct fs *fs, bool all);
/*
 * Before an inode is made: evict some if there are far too many; -EAGAIN with FS_NOWAIT. No
 * handle open, no lock of rank LK_MAPLOCK or above.
 */
int icache_make_room(struct fs *fs, unsigned flags);
/* Call fn with a reference on every inode in memory, one shard at a time. */
void icache_for_each(struct fs *fs, void (*fn)(struct fs_inode *ip, void *arg), void *arg);
void icache_counts(struct fs *fs, uint64_t *inodes, uint64_t *dirty);
/* The inode's attributes are on their way into its block: no longer dirty. */
void icache_clean(struct fs_inode *ip);

/* inode.c: between disk and memory. */
void fs_inode_decode(struct fs_inode *ip, const struct od_inode *di);
void fs_inode_encode(const struct fs_inode *ip, struct od_inode *di);
static inline struct od_inode *fs_dinode(const struct buf *b, uint64_t ino)
{
	return (struct od_inode *)((uint8_t *)b->data + od_ino_offset(ino));
}

/* super.c: the periodic thread should look at the inode table soon. */
void fs_bg_kick(struct fs *fs);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One change of names or attributes = one journal handle, in the order that the journal asks
 * for: lock, plan (all that can fail), reserve space, open the handle, change, close.
 *
 *	struct fs_change c;
 *
 *	err = fs_change_begin(&c, fs, ctx);            freeze lock, read-only and shutdown checks
 *	do {
 *		... lock, look, plan into c.need ...
 *		err = fs_change_start(&c);             space and handle: nothing has changed yet
 *		if (!err)
 *			... change; an error here goes through fs_change_fail ...
 *		fs_change_stop(&c);                    handle and reservation back
 *		... unlock, put the plan ...
 *	} while (fs_change_again(&c, &err));           got the space without locks: once more
 *	fs_change_end(&c);
 *
 * Making room flushes data and takes locks of files, so it cannot run under those of an
 * operation: fs_change_start reports -ENOSPC, fs_change_again makes room with all locks
 * dropped and keeps what it got reserved for the second turn.
 */
#ifndef FS_CHANGE_H
#define FS_CHANGE_H

#include <stdlib.h>

#include "fs_private.h"

/* What a change needs at worst; plans add to it. */
struct fs_need {
	unsigned credits;  /* distinct buffers, those of the groups not included */
	unsigned allocs;   /* metadata blocks allocated */
	unsigned frees;    /* metadata blocks freed */
	uint64_t fsbs;     /* space besides that of `allocs` */
};

struct fs_change {
	struct fs *fs;
	unsigned flags;       /* FS_NOWAIT */
	struct fs_need need;
	uint64_t reserved;    /* fsbs held */
	uint64_t wanted;      /* fsbs that could not be had */
	struct jnl_handle *h; /* open between start and stop */
	bool made_room;       /* the once of space_reserve_or_flush */
	bool hard;            /* may use the pool: works on a full file system */
};

int fs_change_begin(struct fs_change *c, struct fs *fs, const struct fs_ctx *ctx);
int fs_change_start(struct fs_change *c);
void fs_change_stop(struct fs_change *c);
bool fs_change_again(struct fs_change *c, int *err);
void fs_change_end(struct fs_change *c);
/* Something failed after the first change: no way back. Returns -EIO. */
int fs_change_fail(struct fs_change *c, int err, const char *what);

/* Locks of inodes by the context: -EAGAIN where waiting is not allowed. */
int fs_lock_dir(const struct fs_change *c, struct fs_inode *ip);
int fs_lock_nested(const struct fs_change *c, struct fs_inode *ip);

/* Now, in ctime and, if `mtime`, in mtime; one more version. extlock held. */
void fs_stamp(struct fs_inode *ip, bool mtime);
/* The last put of an inode whose name the operation may have taken: see fs_ctx.gone. */
void fs_iput_gone(const struct fs_ctx *ctx, struct fs_inode *ip);
mode_t fs_mode_of(struct fs_inode *ip);
uint32_t fs_flags_of(struct fs_inode *ip);

#endif

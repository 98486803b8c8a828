/* SPDX-License-Identifier: MIT */
/* Mount, superblock and background work: shared by mount.c, super.c, background.c, iodev.c. */
#ifndef FS_SUPER_H
#define FS_SUPER_H

#include "ag.h"
#include "icache.h"

/* iodev.c */
int fs_iodev_create(struct fs *fs);
void fs_iodev_destroy(struct fs *fs);

/* background.c: one thread that flushes old attributes and keeps the inode table small. */
int fs_bg_start(struct fs *fs);
void fs_bg_stop(struct fs *fs);

/* mmp.c: multiple-mount protection; all do nothing where the superblock says it is off. */
/* Take the device before its journal is touched; may sleep for seconds. -EBUSY: in use. */
int fs_mmp_start(struct fs *fs, struct fs_error *err);
/* The journal is open: stop it when the device is lost. -EBUSY: it is already. */
int fs_mmp_arm(struct fs *fs, struct fs_error *err);
/* Give the device back, after the last write to it. */
void fs_mmp_stop(struct fs *fs);

/* superblock.c */
/* Read the superblock, or a copy (warned about). Fills err with why not. */
int fs_sb_read(struct bd *bd, struct sb_info *out, struct fs_error *err);
/* Replay may have brought a newer one: believe what it says of names and features. */
void fs_sb_reread(struct fs *fs);
void fs_error_set(struct fs_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* super.c */
/* The journal stopped: called once, from the thread that stopped it. */
void fs_journal_aborted(void *fs, int err, const char *why);
/* Data, attributes, journal: everything that is dirty now. */
int fs_write_everything(struct fs *fs);
/*
 * Transaction `tid` and the device. A commit flushes the device, and data was complete before
 * it started: one flush serves both. Only where nothing had to be committed it is one more.
 */
int fs_commit_and_flush(struct fs *fs, jnl_tid_t tid);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A file system that does next to nothing, behind the interface of fs.h: names and attributes in memory,
 * no contents. Linked in the place of fs/ it makes the daemon a measure of its transports and of what fuse/
 * costs: what the real one cannot be faster than.
 *
 * An inode lives until the unmount, so that references need no counting. One lock guards names: it is held
 * for well under a microsecond, where a request takes several.
 */
#ifndef BENCH_NULL_H
#define BENCH_NULL_H

#include "iomapfs/fs.h"
#include "iomapfs/util.h"

struct null_name {
	struct null_name *chain;  /* of its hash bucket */
	struct fs_inode *dir, *ip;
	size_t slot;              /* in dir->slots */
	size_t len;
	char text[];
};

struct fs_inode {
	struct inode vfs;         /* i_size and i_ino; the rest is not used */
	struct fs *fs;
	mode_t mode;
	uint32_t uid, gid, rdev_major, rdev_minor;
	_Atomic unsigned nlink;
	struct timespec atime, mtime, ctime, btime;
	struct fs_inode *parent;  /* of a directory */
	/* A directory's names by cookie, less 3; NULL: removed. Grows only. */
	struct null_name **slots;
	size_t nr_slots, max_slots;
};

#define NULL_BUCKETS (1u << 20)
#define NULL_INODES  (1u << 23)

struct fs {
	struct bd *bd;
	struct sb_info sb;
	struct fs_mount_opts opts;
	pthread_rwlock_t lock;    /* buckets, slots, links, times */
	struct null_name **buckets;
	struct fs_inode **inodes; /* by number */
	_Atomic uint64_t next_ino;
	_Atomic bool down;
};

struct fs_inode *null_new_inode(struct fs *fs, mode_t mode, const struct fs_ctx *ctx);
void null_free_inodes(struct fs *fs);

#endif

/* SPDX-License-Identifier: MIT */
/* A mounted file system on memory for tests of file contents. */
#ifndef TEST_FS_FILEFS_H
#define TEST_FS_FILEFS_H

#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <unistd.h>

#include "iomapfs/check.h"
#include "iomapfs/fs.h"
#include "iomapfs/util.h"
#include "unit.h"

struct filefs {
	struct bd *mem;     /* outlives mounts */
	struct bd *top;     /* what is mounted: a pass-through, or what the test stacked on it */
	struct fs *fs;
	struct fs_inode *root;
	struct fs_ctx ctx;
	struct fs_mount_opts opts;
};

/* A new file system of `bytes` with blocks of 1 << shift, mounted; the device filled with `fill` first. */
void filefs_make(struct filefs *f, uint64_t bytes, unsigned shift, int fill);
void filefs_mount(struct filefs *f);
/* Unmount and check the image. */
void filefs_umount(struct filefs *f);
void filefs_remount(struct filefs *f);
void filefs_end(struct filefs *f);
/* The checker finds nothing on the image. */
void filefs_fsck(struct filefs *f);
/* A device over lower that does not own it. */
struct bd *filefs_passthrough(struct bd *lower);

struct fs_inode *filefs_create(struct filefs *f, const char *name);
struct fs_inode *filefs_lookup(struct filefs *f, const char *name);
int64_t filefs_pwrite(struct filefs *f, struct fs_inode *ip, const void *buf, size_t len,
		      uint64_t pos, unsigned iocb_flags);
int64_t filefs_pread(struct filefs *f, struct fs_inode *ip, void *buf, size_t len, uint64_t pos,
		     unsigned iocb_flags);
int filefs_truncate(struct filefs *f, struct fs_inode *ip, uint64_t size);
uint64_t filefs_size(struct filefs *f, struct fs_inode *ip);
int filefs_sync_file(struct filefs *f, struct fs_inode *ip, bool datasync);
/*
 * Empty the folio cache, all of it. fs_drop_caches passes by a folio that the completion of
 * its last write still holds for a moment, so one call is no proof that the next read goes
 * to the device. Nothing may be dirty.
 */
void filefs_drop_caches(struct filefs *f);
/* Extents of the file; at most max are stored. */
unsigned filefs_fiemap(struct filefs *f, struct fs_inode *ip, unsigned flags,
		       struct fiemap_extent *out, unsigned max);
uint64_t filefs_free_blocks(struct filefs *f);
/* What a power cut would leave now: a second file system on a copy of the device. */
void filefs_survivor(struct filefs *f, struct filefs *out);

/* Bytes that tell their place, and the check that a file has such at pos. */
void filefs_fill(uint8_t *buf, size_t len, uint8_t seed);
void filefs_expect(struct filefs *f, struct fs_inode *ip, uint64_t pos, const uint8_t *want,
		   size_t len, unsigned iocb_flags);

#endif

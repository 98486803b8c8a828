/* SPDX-License-Identifier: MIT */
/*
 * A disk that remembers: one run of a workload is recorded, and then the power is cut in it
 * as often as one likes. Requests complete on a thread of their own and out of order, so a
 * flush covers only what had completed when it was sent, as on a real disk.
 */
#ifndef CRASH_DISK_H
#define CRASH_DISK_H

#include <stdio.h>

#include "iomapfs/block.h"

/* ---- Contents: a base that is shared, and private pages over it ------------------------------ */

#define IMAGE_PAGE 4096u

struct image {
	const uint8_t *base;
	uint64_t size;
	uint8_t **page;          /* by number; NULL: as in base */
	uint32_t *dirty;         /* numbers of the private ones */
	unsigned nr_dirty;
	uint8_t *pool;           /* pages given back, linked through their first word */
};

void image_init(struct image *im, const uint8_t *base, uint64_t size);
void image_reset(struct image *im);
void image_fini(struct image *im);
void image_read(const struct image *im, uint64_t at, void *buf, uint64_t len);
void image_write(struct image *im, uint64_t at, const void *buf, uint64_t len);
void image_fill(struct image *im, uint64_t at, uint8_t byte, uint64_t len);
/* A base of `size` bytes, all `byte`, that takes memory only where it is written. */
uint8_t *image_base_create(uint64_t size, uint8_t byte);
void image_base_destroy(uint8_t *base, uint64_t size);
/* What it holds becomes the base, whose bytes these are. */
void image_commit(struct image *im, uint8_t *base);
/* A device over it that completes inside submit; the image outlives it. */
struct bd *image_open(struct image *im);

/* ---- The recording disk ------------------------------------------------------------------------ */

struct disk;

struct disk *disk_create(const uint8_t *base, uint64_t size);
void disk_destroy(struct disk *d);
/* Forget contents and record; the next run starts from the base. seed: order of completions. */
void disk_reset(struct disk *d, uint64_t seed);
/* The record as bytes of a file, and back; false: the file cannot be written or read. */
bool disk_save(const struct disk *d, FILE *f);
bool disk_load(struct disk *d, FILE *f);
/* The device; the disk outlives it. */
struct bd *disk_open(struct disk *d);
/* Events so far: a point in the record. */
unsigned disk_now(struct disk *d);
unsigned disk_nr_writes(const struct disk *d);
/* It takes untorn writes of up to so many bytes; for devices opened from now on. 0, as at first: none. */
void disk_set_atomic_max(struct disk *d, uint32_t max);
/* How many there are in the record. */
unsigned disk_nr_atomic(const struct disk *d);

/*
 * Which of the writes that are not safe at the cut survive. LOSE_ALL: a disk that had cached
 * them. KEEP_ALL: one that had not. SEED: each whole, not at all, or, unless it is an untorn one, in
 * some of its 512-byte sectors. BITS: the first 64, oldest first, by the bits of `arg`; KEEP_BUT and
 * LOSE_BUT: all but number `arg`. TEAR: every other sector of each, from the first if `arg` is odd; an
 * untorn one if it is.
 */
enum cut_mode { CUT_LOSE_ALL, CUT_KEEP_ALL, CUT_SEED, CUT_BITS, CUT_KEEP_BUT, CUT_LOSE_BUT, CUT_TEAR };
/* What the disk holds after a power cut behind event number `at`; how many writes were unsafe. */
unsigned disk_cut(const struct disk *d, unsigned at, enum cut_mode mode, uint64_t arg,
		  struct image *out);

#endif

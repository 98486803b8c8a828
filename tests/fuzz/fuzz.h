/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share: a small file system with one of everything, a language for
 * damaging it, and operations over it once it is mounted.
 *
 * An input is a stream of bytes without structure of its own: every byte string means
 * something, so that a mutation of a mutation still does. It runs out as zeros.
 */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include "iomapfs/block.h"
#include "iomapfs/format.h"
#include "iomapfs/fs.h"
#include "iomapfs/util.h"

/* What a target implements; called by libFuzzer, or by replay.c for each file of a corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- The input ---------------------------------------------------------------------- */

struct fuzz_in {
	const uint8_t *p, *end;
};
static inline bool in_left(const struct fuzz_in *in)
{
	return in->p < in->end;
}
static inline uint8_t in_u8(struct fuzz_in *in)
{
	return in_left(in) ? *in->p++ : 0;
}
static inline uint16_t in_u16(struct fuzz_in *in)
{
	uint16_t lo = in_u8(in);

	return (uint16_t)(lo | in_u8(in) << 8);
}
static inline uint32_t in_u32(struct fuzz_in *in)
{
	uint32_t lo = in_u16(in);

	return lo | (uint32_t)in_u16(in) << 16;
}
/* Few bytes for the numbers that matter: 1.5 bytes of mantissa and a shift, plus or minus one. */
uint64_t in_number(struct fuzz_in *in);
/* Up to n bytes, zeros behind the end of the input. */
void in_bytes(struct fuzz_in *in, void *to, size_t n);

/* ---- The image (image.c) ---------------------------------------------------------------- */

enum fuzz_base {
	FUZZ_CLEAN, /* unmounted, with an orphan */
	FUZZ_DIRTY, /* the same, cut off with transactions and revokes in its journal */
};
/* A fresh copy in memory. */
struct bd *fuzz_image_new(enum fuzz_base which);
uint64_t fuzz_image_size(void);
/* A copy of another's contents. */
struct bd *fuzz_image_copy(struct bd *from);
/*
 * Damage it as the input says, up to its end or an end mark, and give every block touched its
 * checksum back, the journal's chain of them included, unless the input says otherwise.
 */
void fuzz_image_damage(struct bd *bd, enum fuzz_base which, struct fuzz_in *in);
/* The geometry of the image as it was made. */
const struct sb_info *fuzz_image_sb(void);
/* The nth block of a kind (FUZZ_KIND_*) of the image, as a metadata block number. */
uint64_t fuzz_image_block(enum fuzz_base which, unsigned kind, unsigned nth);
enum {
	FUZZ_KIND_SB, FUZZ_KIND_AG, FUZZ_KIND_BTREE, FUZZ_KIND_INODES, FUZZ_KIND_DIR,
	FUZZ_KIND_BLOB, FUZZ_KIND_JSB, FUZZ_KIND_LOG, /* a block of the ring, whatever it is */
	FUZZ_NR_KINDS,
};

/* ---- Operations (ops.c) -------------------------------------------------------------------- */

/* Look at everything that can be reached, within bounds; what is damaged may say so. */
void fuzz_ops_walk(struct fs *fs);
/* Carry out the rest of the input as operations that change things. */
void fuzz_ops_run(struct fs *fs, struct fuzz_in *in);

/* Before each input: no log lines, unless FUZZ_LOG=1. */
void fuzz_quiet(void);
/*
 * FUZZ_JUDGE=1: what one part calls sound another must not call damaged. Listen to the errors
 * that are logged from here on; fuzz_complained aborts if there were any.
 */
bool fuzz_judges(void);
void fuzz_listen(void);
void fuzz_complained(void);
bool fuzz_heard(void);

#endif

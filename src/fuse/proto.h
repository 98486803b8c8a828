/* SPDX-License-Identifier: MIT */
/*
 * The wire as this kernel speaks it: <linux/fuse.h> plus what is younger than the
 * header we build against. Values and layouts are the kernel's ABI.
 */
#ifndef FUSE_PROTO_H
#define FUSE_PROTO_H

#include <assert.h>
#include <linux/fuse.h>
#include <stdint.h>

/* Opcodes that libfuse 3.14 does not know; answered at the seam (seam.c). */
#define FZ_SYNCFS             50
#define FZ_TMPFILE            51
#define FZ_STATX              52
#define FZ_COPY_FILE_RANGE_64 53
#define FZ_NR_OPCODES         64

/* INIT flags of the second word (bit 32 and up), as bits of flags2. */
#define FZ_INIT2_DIRECT_IO_ALLOW_MMAP (1u << 4)
#define FZ_INIT2_OVER_IO_URING        (1u << 9)

struct fz_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct fz_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct fz_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct fz_sx_time atime;
	struct fz_sx_time btime;
	struct fz_sx_time ctime;
	struct fz_sx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t spare2[14];
};
static_assert(sizeof(struct fz_statx) == 256, "struct fuse_statx of the kernel");

struct fz_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct fz_statx stat;
};
static_assert(sizeof(struct fz_statx_out) == 288, "struct fuse_statx_out of the kernel");

struct fz_copy_file_range_out {
	uint64_t bytes_copied;
};

/* ---- FUSE over io_uring: commands on the ring, each about one slot ------------------------- */

#define FZ_URING_REGISTER         1 /* here is a slot: fill it */
#define FZ_URING_COMMIT_AND_FETCH 2 /* the answer is in it: take it, and fill the slot again */

#define FZ_URING_HEADER_BYTES 128u

/*
 * A slot's first part; the second is the payload. A request: its fuse_in_header in in_out, the argument
 * block in op, whatever follows it on the descriptor in the payload. A reply: its fuse_out_header in
 * in_out, all else in the payload.
 */
struct fz_uring_header {
	char in_out[FZ_URING_HEADER_BYTES];
	char op[FZ_URING_HEADER_BYTES];
	uint64_t flags;
	uint64_t commit_id;  /* of the request; goes back with the commit */
	uint32_t payload_bytes;
	uint32_t padding;
	uint64_t reserved;
};
static_assert(sizeof(struct fz_uring_header) == 288, "struct fuse_uring_req_header of the kernel");

/* In the second half of a 128-byte submission. */
struct fz_uring_cmd {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t qid;
	uint8_t padding[6];
};
static_assert(sizeof(struct fz_uring_cmd) == 24, "struct fuse_uring_cmd_req of the kernel");

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Private ioctls of a mounted iomapfs, on any file or directory of it. The kernel passes them
 * to the daemon untouched, up to 16383 bytes each way. All fields are native-endian; unused
 * input must be zero. Besides root only the user who runs the daemon may use those marked [R].
 */
#ifndef IOMAPFS_IOCTL_H
#define IOMAPFS_IOCTL_H

#include <linux/fiemap.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define IOMAPFS_IOC_TYPE 0xf5

/* FS_IOC_FIEMAP by another number, since the kernel does not pass that one on. */
#define IOMAPFS_FIEMAP_EXTENTS 290
struct iomapfs_ioc_fiemap {
	uint64_t start;          /* in: bytes */
	uint64_t length;         /* in: bytes; UINT64_MAX = to the end */
	uint32_t flags;          /* in: FIEMAP_FLAG_SYNC, FIEMAP_FLAG_XATTR; out: unknown ones with EBADR */
	uint32_t mapped_extents; /* out */
	uint32_t extent_count;   /* in: room used below; 0 = count only */
	uint32_t reserved;
	struct fiemap_extent extents[IOMAPFS_FIEMAP_EXTENTS]; /* out */
};
#define IOMAPFS_IOC_FIEMAP _IOWR(IOMAPFS_IOC_TYPE, 1, struct iomapfs_ioc_fiemap)

#define IOMAPFS_HIST_BUCKETS 20
#define IOMAPFS_NR_OPS       64
struct iomapfs_op_stats {
	uint64_t count, errors, sum_ns;
	uint32_t hist[IOMAPFS_HIST_BUCKETS]; /* [0]: under 1 us; [i]: 2^(i-1) to 2^i us */
};
struct iomapfs_ioc_stats {
	uint32_t version; /* out: IOMAPFS_STATS_VERSION */
	uint32_t reserved;
	/* Folio cache. */
	uint64_t cached_bytes, dirty_bytes, writeback_bytes, limit_bytes;
	uint64_t folio_hits, folio_misses, folio_reclaimed, writers_throttled, flushed_bytes;
	/* Metadata cache and journal. */
	uint64_t buf_cached, buf_pinned, buf_hits, buf_misses;
	uint64_t jnl_commits, jnl_handles, jnl_blocks, jnl_checkpointed, jnl_log_blocks, jnl_log_free;
	/* Space. */
	uint64_t blocks_total, blocks_free, blocks_reserved, blocks_delalloc, inodes_used;
	uint64_t alloc_calls, alloc_blocks, free_calls, extents_split;
	uint64_t icache_inodes, icache_dirty;
	/* Device. */
	uint64_t device_reads, device_writes, device_flushes, device_read_bytes, device_write_bytes;
	uint64_t device_persists, device_persist_bytes; /* stores made durable, -o dax */
	/* Requests by FUSE opcode. */
	uint64_t nodes_known;     /* inodes the kernel holds */
	uint64_t requests_parked; /* those that left their serving thread */
	struct iomapfs_op_stats op[IOMAPFS_NR_OPS];
};
#define IOMAPFS_STATS_VERSION 2
#define IOMAPFS_IOC_STATS _IOWR(IOMAPFS_IOC_TYPE, 2, struct iomapfs_ioc_stats)

struct iomapfs_ioc_info {
	uint32_t version, block_size;
	uint64_t compat, ro_compat, incompat, jnl_incompat;
	uint8_t uuid[16];
	uint64_t nr_blocks, ag_blocks, jnl_blocks, root_ino, ctime_sec;
	uint32_t nr_ags;
	uint32_t readonly, shut_down;
	uint32_t commit_interval_ms;
	uint64_t memory_bytes;
	uint32_t atime;         /* 0 relatime, 1 noatime */
	uint32_t discard;
	uint32_t kernel_cache;  /* 0 through, 1 writeback, 2 none */
	uint32_t logical_block, physical_block, direct;
	uint64_t discard_granularity;
	uint32_t pid;           /* the daemon's */
	uint32_t transport;     /* 0 loop, 1 uring */
	uint32_t dax;           /* files on the device's own memory */
	uint32_t reserved;
	char label[72], creator[40], device[256];
};
#define IOMAPFS_IOC_INFO _IOWR(IOMAPFS_IOC_TYPE, 3, struct iomapfs_ioc_info)

struct iomapfs_ioc_tune { /* [R] */
	uint32_t set; /* IOMAPFS_TUNE_* */
	uint32_t mmp_interval_s; /* multiple-mount protection from the next mount on; 0 = off */
	uint8_t uuid[16];
	char label[72];
};
#define IOMAPFS_TUNE_LABEL (1u << 0)
#define IOMAPFS_TUNE_UUID  (1u << 1)
#define IOMAPFS_TUNE_MMP   (1u << 2)
#define IOMAPFS_TUNE_ALL   (IOMAPFS_TUNE_LABEL | IOMAPFS_TUNE_UUID | IOMAPFS_TUNE_MMP)
#define IOMAPFS_IOC_TUNE _IOWR(IOMAPFS_IOC_TYPE, 4, struct iomapfs_ioc_tune)

struct iomapfs_ioc_trim { /* [R] */
	uint64_t start, len, minlen; /* bytes */
	uint64_t trimmed;            /* out: bytes */
};
#define IOMAPFS_IOC_TRIM _IOWR(IOMAPFS_IOC_TYPE, 5, struct iomapfs_ioc_trim)

struct iomapfs_ioc_remount { /* [R] */
	char options[1024];  /* as after -o, NUL-terminated */
	int32_t error;       /* out: 0 or -errno; the ioctl itself succeeded */
	uint32_t reserved;
	char message[512];   /* out: why not */
};
#define IOMAPFS_IOC_REMOUNT _IOWR(IOMAPFS_IOC_TYPE, 6, struct iomapfs_ioc_remount)

struct iomapfs_ioc_shutdown { /* [R], root only */
	uint32_t flags;      /* IOMAPFS_SHUTDOWN_* */
	int32_t error;       /* out: 0, or -errno: not everything was written, but it is down */
};
#define IOMAPFS_SHUTDOWN_SYNC (1u << 0) /* write everything first */
#define IOMAPFS_IOC_SHUTDOWN _IOWR(IOMAPFS_IOC_TYPE, 7, struct iomapfs_ioc_shutdown)

#define IOMAPFS_SWAPMAP_EXTENTS 256
struct iomapfs_ioc_swapmap {
	uint64_t start_page; /* in: swap page to begin with */
	uint64_t nr_pages;   /* out: whole pages in the file, the header's included */
	uint64_t pagespan;   /* out: 1 + highest - lowest page on the device */
	uint32_t count;      /* out: extents that follow here; those of start_page and later */
	int32_t error;       /* out: 0, or -EINVAL: see why */
	char why[64];        /* out: why swapon could not use it */
	struct {
		uint64_t start_page, nr_pages, phys_page;
	} extents[IOMAPFS_SWAPMAP_EXTENTS];
};
#define IOMAPFS_IOC_SWAPMAP _IOWR(IOMAPFS_IOC_TYPE, 9, struct iomapfs_ioc_swapmap)

/* ---- Through a handle: what the kernel refuses to pass on ---------------------------------- */

/*
 * fallocate(2) with any mode: EOPNOTSUPP is the kernel's answer to collapse, insert and unshare. On
 * a handle open for writing. Errors as fallocate(2).
 *
 * A kernel that caches writes (kernel_cache=writeback) believes its own size of a file: where
 * fstat differs from the size below, ftruncate to that size tells it. The same goes for a clone.
 */
struct iomapfs_ioc_falloc {
	uint64_t offset, length; /* in: bytes */
	uint32_t mode;           /* in: FALLOC_FL_* */
	uint32_t reserved;
	uint64_t size;           /* out: of the file, afterwards */
};
#define IOMAPFS_IOC_FALLOCATE _IOWR(IOMAPFS_IOC_TYPE, 10, struct iomapfs_ioc_falloc)

/*
 * A name for an open handle of a regular file, to be given to the ioctls below on another file of
 * the same mount, as FICLONE takes a descriptor: no descriptor travels to a FUSE daemon. It is
 * good while the handle is open, and nobody guesses it: who has it was given it. The handle
 * must be open for reading.
 */
struct iomapfs_token {
	uint64_t ino;
	uint8_t secret[16];
};
struct iomapfs_ioc_handle {
	struct iomapfs_token token; /* out */
	uint64_t reserved;
};
#define IOMAPFS_IOC_HANDLE _IOWR(IOMAPFS_IOC_TYPE, 11, struct iomapfs_ioc_handle)

/* FICLONERANGE on the target. ESTALE: no open handle has that token. Else errors as ioctl_ficlonerange(2). */
struct iomapfs_ioc_clone {
	struct iomapfs_token source; /* in */
	uint64_t source_offset;      /* in: bytes */
	uint64_t length;             /* in: bytes; 0: to the end of the source */
	uint64_t offset;             /* in: in the target */
	uint64_t size;               /* out: of the target, afterwards */
};
#define IOMAPFS_IOC_CLONE _IOWR(IOMAPFS_IOC_TYPE, 12, struct iomapfs_ioc_clone)

/*
 * FIDEDUPERANGE for one target, on the target: open for writing, or its owner or root asks. At most
 * IOMAPFS_DEDUPE_MAX bytes a call are compared and shared.
 */
struct iomapfs_ioc_dedupe {
	struct iomapfs_token source; /* in */
	uint64_t source_offset;      /* in: bytes */
	uint64_t length;             /* in: bytes */
	uint64_t offset;             /* in: in the target */
	uint64_t deduped;            /* out: bytes */
	uint32_t differs;            /* out: 1: the contents are not the same, nothing was shared */
	uint32_t reserved;
};
#define IOMAPFS_DEDUPE_MAX (16u << 20)
#define IOMAPFS_IOC_DEDUPE _IOWR(IOMAPFS_IOC_TYPE, 13, struct iomapfs_ioc_dedupe)

/*
 * How the reads and writes of a handle are done from now on, as RWF_* says it for one: the kernel
 * refuses those flags. EINVAL: what this handle cannot do, EOPNOTSUPP: what this file system cannot.
 */
struct iomapfs_ioc_ioflags {
	uint32_t flags;     /* in: IOMAPFS_IO_*; out: what they were before */
	uint32_t reserved;
};
#define IOMAPFS_IO_ATOMIC    (1u << 0) /* writes are untorn; handle with O_DIRECT, open for writing */
#define IOMAPFS_IO_DONTCACHE (1u << 1) /* what is written through the cache does not stay there */
#define IOMAPFS_IO_HIPRI     (1u << 2) /* poll for completion; handle with O_DIRECT */
#define IOMAPFS_IO_NOWAIT    (1u << 3) /* EAGAIN instead of waiting */
#define IOMAPFS_IO_ALL       0xfu
#define IOMAPFS_IOC_IOFLAGS _IOWR(IOMAPFS_IOC_TYPE, 14, struct iomapfs_ioc_ioflags)

/*
 * Limits of untorn writes: powers of two, bytes; a write has such a length and stands at a multiple
 * of it. All 0: none are possible. Over the mount a write is one request only if it is at most
 * `request_max` long and its memory begins on a page.
 */
struct iomapfs_ioc_atomic {
	uint32_t unit_min, unit_max; /* out */
	uint32_t unit_max_opt;       /* out: up to here it costs no more than any other write */
	uint32_t request_max;        /* out */
};
#define IOMAPFS_IOC_ATOMIC _IOWR(IOMAPFS_IOC_TYPE, 15, struct iomapfs_ioc_atomic)

#endif

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
	/* Requests by FUSE opcode. */
	uint64_t nodes_known;     /* inodes the kernel holds */
	uint64_t requests_parked; /* those that left their serving thread */
	struct iomapfs_op_stats op[IOMAPFS_NR_OPS];
};
#define IOMAPFS_STATS_VERSION 1
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

#endif

/* SPDX-License-Identifier: MIT */
/*
 * block - asynchronous block devices behind one ops table.
 *
 * A `struct bd` is a device; a `struct bd_io` is one request on it. Backends
 * (uring, memory) and decorators (trace, fault, crash) fill `struct bd_ops`,
 * so that nothing above knows which it talks to. Errors are negative errno.
 * All offsets and lengths are bytes.
 */
#ifndef IOMAPFS_BLOCK_H
#define IOMAPFS_BLOCK_H

#include <stdio.h>
#include <sys/uio.h>

#include "iomapfs/base.h"

/* Exported by libiomap: see base.h. */
#pragma GCC visibility push(default)

enum bd_op {
	BD_READ,
	BD_WRITE,
	BD_FLUSH,        /* all writes that completed before it was submitted are durable */
	BD_DISCARD,      /* contents become undefined; advisory, may do nothing */
	BD_WRITE_ZEROES, /* range reads as zero afterwards */
};

/* bd_io.flags */
#define BD_FUA      (1u << 0) /* write is durable when it completes (emulated where missing) */
#define BD_PREFLUSH (1u << 1) /* flush completes before this write starts */
#define BD_META     (1u << 2) /* metadata or journal: only for trace and stats */
/*
 * Untorn: after a power cut all of this write is there or none of it. Only WRITE, in one iov, of a power
 * of two bytes within info.atomic_min..atomic_max at a multiple of its length; -EINVAL otherwise.
 */
#define BD_ATOMIC   (1u << 3)
/*
 * A hint: look for the end of this read or write instead of waiting for an interrupt. Taken by a device
 * opened with BD_OPEN_POLL that can; the ordinary way everywhere else.
 */
#define BD_POLL     (1u << 4)

struct bd;
struct bd_dax;

/*
 * One request. The submitter fills the upper part, owns the memory (also that
 * of iov and what it points to) and leaves it alone until end_io was called,
 * exactly once. end_io runs on a completion thread of the device (or inside
 * bd_submit for a memory device): it must not sleep, submit-and-wait, or take
 * a lock of rank below LK_JNL. It may free the request and submit others.
 */
struct bd_io {
	enum bd_op op;
	unsigned flags;
	uint64_t offset;          /* multiple of info.logical_block */
	uint64_t len;             /* multiple of info.logical_block; sum of iov; 0 for FLUSH */
	const struct iovec *iov;  /* READ, WRITE: every base aligned to info.mem_align */
	unsigned nr_iov;          /* at most info.max_segments */
	void (*end_io)(struct bd_io *io);
	void *private;            /* the submitter's */

	int error;                /* result: 0 or -errno; no partial success */

	/* The device's, from submission to end_io. */
	struct cds_list_head list;
	uint64_t dev_private[4];
};

struct bd_info {
	uint64_t size;            /* bytes usable; constant while open */
	uint32_t logical_block;   /* bytes; smallest addressable unit, 512..4096 */
	uint32_t physical_block;  /* bytes; unit written without read-modify-write */
	uint32_t mem_align;       /* bytes; alignment of each iov base */
	uint32_t max_io;          /* bytes; longer requests are split inside the device */
	uint32_t max_segments;
	uint32_t discard_granularity; /* bytes; 0 = discard does nothing */
	uint32_t atomic_min, atomic_max; /* bytes of a BD_ATOMIC write, powers of two; max 0 = it has none */
	bool readonly;
	bool volatile_cache;      /* FLUSH means something */
	bool fua;                 /* FUA is native */
	bool direct;              /* bypasses the host's page cache */
	bool rotational;
	bool is_blockdev;         /* host block device (else a file or memory) */
};

struct bd_ops {
	const char *name;
	/* Takes the request; result by end_io only. Never sleeps for long: may wait for a ring slot. */
	void (*submit)(struct bd *bd, struct bd_io *io);
	/* Optional batching: between the two calls submissions may be held back. Per thread. */
	void (*plug)(struct bd *bd);
	void (*unplug)(struct bd *bd);
	int (*register_memory)(struct bd *bd, const struct iovec *ranges, unsigned nr); /* optional */
	/* Optional: carry the request out on the calling thread, which may sleep; end_io is not called. */
	int (*sync)(struct bd *bd, struct bd_io *io);
	/* Optional, both or none: bd_dax_map, bd_dax_persist. */
	int (*dax_map)(struct bd *bd, struct bd_dax *out);
	int (*dax_persist)(struct bd *bd, uint64_t offset, uint64_t len);
	/* Wait for in-flight requests, free everything but the struct's name. */
	void (*destroy)(struct bd *bd);
};

/* Requests accepted since the device was opened, whatever became of them. */
struct bd_stats {
	uint64_t reads, writes, flushes, discards; /* a PREFLUSH counts as a flush */
	uint64_t read_bytes, write_bytes;          /* write zeroes are no bytes written */
	uint64_t persists, persist_bytes;          /* bd_dax_persist */
};

/* Backends and decorators embed this first. */
struct bd {
	const struct bd_ops *ops;
	struct bd_info info;
	struct {
		_Atomic uint64_t reads, writes, flushes, discards, read_bytes, write_bytes, persists,
			persist_bytes;
	} counters;               /* bd_get_stats */
	char *name;               /* for messages; owned by the device */
};

/* ---- Backends ------------------------------------------------------------- */

#define BD_OPEN_RDONLY   (1u << 0)
#define BD_OPEN_EXCL     (1u << 1) /* block device: O_EXCL; kept until bd_close */
#define BD_OPEN_BUFFERED (1u << 2) /* do not try O_DIRECT */
#define BD_OPEN_POLL     (1u << 4) /* have a second ring for BD_POLL requests, where that is possible */
#define BD_OPEN_LOCK     (1u << 3) /* image file: OFD write lock (read lock if RDONLY), -EBUSY if held */

/*
 * Open a file or block device through io_uring. O_DIRECT is tried first and
 * left when the file refuses it (info.direct tells). -EBUSY: locked or in use;
 * -EMEDIUMTYPE: neither regular file nor block device.
 */
int bd_open(const char *path, unsigned flags, struct bd **out);
/* The host descriptor of a device from bd_open (for BLKID, locks); -1 for others. */
int bd_fd(const struct bd *bd);

/* A memory device of size bytes (sparse, zeroed). Completes inside bd_submit. */
int bd_mem_create(uint64_t size, uint32_t logical_block, struct bd **out);
/* Base address of a memory device's contents; size info.size. */
void *bd_mem_base(struct bd *bd);
/*
 * Let a memory device take BD_ATOMIC writes of one logical block to max bytes, a power of two; 0: none.
 * Before it is used or decorated. What untorn means shows under bd_crash.
 */
void bd_mem_set_atomic_max(struct bd *bd, uint32_t max);

/*
 * Pin memory for direct transfers (io_uring registered buffers): requests with one iov inside a
 * registered range skip the per-request page pinning. Only an optimisation: -EOPNOTSUPP or
 * -ENOMEM (RLIMIT_MEMLOCK) may be ignored. Once per device, before requests are under way.
 */
int bd_register_memory(struct bd *bd, const struct iovec *ranges, unsigned nr);

/*
 * A device that is memory: an image on tmpfs, ramfs or a file system mounted for DAX (bd_open), or
 * bd_mem_create's. What is stored to base + n is byte n of the device, for requests as well, and
 * durable after bd_dax_persist or whenever the memory pleases, in lines of 64 bytes.
 */
struct bd_dax {
	void *base;    /* info.size bytes, page aligned; read-only where info.readonly; until bd_close */
	int fd;        /* byte n of this file is byte n of the device: to map parts of it again; -1: none */
};
/* -EOPNOTSUPP: it is no memory. The same answer every time. Before requests are under way. */
int bd_dax_map(struct bd *bd, struct bd_dax *out);
/* After bd_dax_map. Durable are at least these bytes. May sleep. */
int bd_dax_persist(struct bd *bd, uint64_t offset, uint64_t len);

/* Waits for what is in flight; NULL is allowed. */
void bd_close(struct bd *bd);

/* ---- Requests --------------------------------------------------------------- */

/* Checks the request against info (a violation ends with -EINVAL by end_io), then submits. */
void bd_submit(struct bd *bd, struct bd_io *io);
void bd_plug(struct bd *bd);
void bd_unplug(struct bd *bd);

/* Synchronous forms; sleep. buf aligned to info.mem_align. */
int bd_read(struct bd *bd, uint64_t offset, void *buf, uint64_t len);
int bd_write(struct bd *bd, uint64_t offset, const void *buf, uint64_t len, unsigned flags);
int bd_flush(struct bd *bd);
/* -EOPNOTSUPP when the device cannot. */
int bd_discard(struct bd *bd, uint64_t offset, uint64_t len);
/* Falls back to writing zeros. */
int bd_write_zeroes(struct bd *bd, uint64_t offset, uint64_t len);

/* Counters of this device object; a decorator's are those of the requests it was given. */
void bd_get_stats(const struct bd *bd, struct bd_stats *st);

/* ---- Decorators ---------------------------------------------------------------
 * Each wraps `lower` and owns it (bd_close of the decorator closes both) unless
 * said otherwise.
 */

/* Trace: one line a request to `out` (not owned), or kept in memory for tests. */
struct bd_trace_rec {
	enum bd_op op;
	unsigned flags;
	uint64_t offset, len;
	int error;
};
int bd_trace_create(struct bd *lower, FILE *out, struct bd **res);
/* Records so far (kept when out was NULL); *recs valid until the next request or reset. */
size_t bd_trace_get(struct bd *trace, const struct bd_trace_rec **recs);
void bd_trace_reset(struct bd *trace);

/* Fault: make requests fail or stall. */
struct bd_fault_rule {
	int op;              /* enum bd_op, or -1 for any */
	uint64_t start, end; /* byte range that triggers; end 0 = whole device */
	uint64_t after;      /* let this many matching requests pass first */
	uint64_t count;      /* then affect this many; UINT64_MAX = for ever */
	int error;           /* -errno to return; 0 with delay_ns only delays */
	uint64_t delay_ns;
	_Atomic bool *hit;   /* set when a request was affected; outlives the device. NULL: not told */
};
int bd_fault_create(struct bd *lower, struct bd **res);
void bd_fault_set(struct bd *fault, const struct bd_fault_rule *rules, unsigned nr);
/* Requests of each op seen since creation. */
uint64_t bd_fault_seen(struct bd *fault, enum bd_op op);
/* Hold back every request from now on until told otherwise (a stalled device). */
void bd_fault_stall(struct bd *fault, bool on);

/*
 * Crash: writes stay apart from the lower device until a FLUSH or FUA makes
 * them durable. bd_crash_cut drops, keeps or tears (in 512-byte sectors) each
 * unflushed write by seed and writes the survivors to `lower`; from then on every
 * request fails with -EIO. A BD_ATOMIC write is dropped or kept, never torn. Reads
 * before the cut see all writes. Over memory, what was stored without a request and not
 * persisted since is lost or kept by the line of 64 bytes.
 */
int bd_crash_create(struct bd *lower, struct bd **res);
int bd_crash_cut(struct bd *crash, uint64_t seed);
/* Number of write requests and bd_dax_persist so far: cut points. */
uint64_t bd_crash_nr_writes(struct bd *crash);
/* Cut by itself right after write number n (seed as in bd_crash_cut); 0 = never. */
void bd_crash_arm(struct bd *crash, uint64_t n, uint64_t seed);
/* Take the lower device back out and free the decorator. */
struct bd *bd_crash_detach(struct bd *crash);

#pragma GCC visibility pop

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A file system of one file in memory, for tests of the engine: block maps as plain
 * arrays, delayed allocation, unwritten and shared blocks, a device with a log of its
 * writes, injected errors, and completions that may come late and out of order.
 */
#ifndef IOMAPFS_TEST_TOYMAP_H
#define IOMAPFS_TEST_TOYMAP_H

#include "iomapfs/iomap.h"
#include "iomapfs/util.h"

#define TOY_MAX_BYTES (4u << 20)
#define TOY_DEV_BYTES (16u << 20)
#define TOY_LOG_MAX   8192u

struct toy_io {
	enum iomap_bio_op op;
	uint64_t addr, len;
	unsigned flags;
};

struct toy_block {
	enum iomap_type type;
	uint32_t dev_block;
	bool shared;
	bool cow;              /* a reservation, or new blocks, for content that is shared */
	uint32_t cow_block;    /* 0 = reserved only */
};

struct toy_params {
	unsigned blkbits;
	unsigned max_order;
	unsigned logical_block; /* 0 = 512 */
	unsigned max_io;        /* 0 = 1 MiB */
	bool late;              /* completions by a thread, in shuffled order */
	uint64_t seed;
};

struct toy {
	struct inode inode;
	struct iomap_dev dev;
	struct folio_cache *fc;
	struct work_pool *pool;
	struct lk_mutex lock;   /* LK_EXTLOCK: blocks, counters, seq, disk_size */
	struct toy_block *blocks;
	unsigned nr_blocks;
	uint8_t *dev_mem;
	bool *dev_used;
	unsigned dev_blocks, dev_next;
	uint64_t nr_reserved;   /* delalloc and cow blocks without an address */
	uint64_t space_limit;   /* blocks that may be used or reserved */
	uint64_t nr_used;
	_Atomic uint64_t seq;
	uint64_t disk_size;
	void *inline_buf;       /* not NULL: the file is inline */
	size_t inline_cap;

	/* What the engine did. */
	_Atomic unsigned nr_begin, nr_end, nr_convert, nr_fsync, nr_stale_end;
	_Atomic unsigned flags_seen; /* all op flags begin ever saw */
	unsigned last_flags;
	uint64_t last_written, last_offered;
	pthread_mutex_t log_lock;
	struct toy_io log[TOY_LOG_MAX];
	unsigned nr_log;
	unsigned nr_reads, nr_writes;

	/* What shall go wrong. */
	_Atomic int fail_read, fail_write, fail_begin, fail_alloc; /* -errno */
	uint64_t fail_addr, fail_len;   /* device range; len 0 = everywhere */
	_Atomic int begin_countdown;    /* fail_begin hits the n-th begin; 0 = off */
	_Atomic int stale_times;        /* iomap_valid says no this often */
	bool cap_one_block;             /* begin answers one block at a time */
	uint32_t map_flags;             /* in every mapping of begin */
	bool fbatch;                    /* zeroing gets the list of dirty folios */

	/* Completions that wait. */
	bool late, stop, hold;
	pthread_mutex_t late_lock;
	pthread_cond_t late_wake;
	struct iomap_bio *late_bios[1024];
	unsigned nr_late;
	uint64_t late_rng;
	pthread_t late_thread;

	struct cds_list_head ioends;
	pthread_mutex_t ioend_lock;
	struct work ioend_work;
	bool ioend_queued;
};

extern const struct iomap_ops toy_ops;
extern const struct iomap_write_ops toy_write_ops;
extern const struct iomap_dio_ops toy_dio_ops;
extern const struct address_space_operations toy_aops;

struct toy *toy_create(const struct toy_params *p);
void toy_destroy(struct toy *t);
/* Let late completions go (hold false) or keep them back. */
void toy_hold(struct toy *t, bool hold);
void toy_log_reset(struct toy *t);
/* Set blocks [first, first+nr) without going through the engine. MAPPED content: fill. */
void toy_set_blocks(struct toy *t, unsigned first, unsigned nr, enum iomap_type type, uint8_t fill);

/* Operations with the locks a file system takes. */
int64_t toy_read(struct toy *t, uint64_t pos, void *buf, size_t len, unsigned flags);
int64_t toy_write(struct toy *t, uint64_t pos, const void *buf, size_t len, unsigned flags);
int64_t toy_dio_read(struct toy *t, uint64_t pos, void *buf, size_t len);
int64_t toy_dio_write(struct toy *t, uint64_t pos, const void *buf, size_t len, unsigned flags);
int toy_zero(struct toy *t, uint64_t pos, uint64_t len, bool *did_zero);
int toy_truncate(struct toy *t, uint64_t size);
int toy_punch(struct toy *t, uint64_t pos, uint64_t len);
int toy_unshare(struct toy *t, uint64_t pos, uint64_t len);
/* Mark mapped blocks as owned by somebody else too. */
void toy_share(struct toy *t, uint64_t pos, uint64_t len);
int toy_sync(struct toy *t);
/* Write back, then empty the cache. */
int toy_drop_cache(struct toy *t);

#endif

/* SPDX-License-Identifier: MIT */
/* What the files of src/iomap share. */
#ifndef IOMAP_PRIVATE_H
#define IOMAP_PRIVATE_H

#include <stdlib.h>
#include <string.h>

#include "iomapfs/iomap.h"
#include "iomapfs/util.h"

/* ---- Waiting for a set of bios (bio.c) -------------------------------------------- */

/* Lives on the stack of the thread that waits; counts requests in flight. */
struct iomap_waiter {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned pending;
	int error; /* first one */
};
void iomap_waiter_init(struct iomap_waiter *w);
void iomap_waiter_get(struct iomap_waiter *w);
void iomap_waiter_put(struct iomap_waiter *w, int error);
/* Sleeps until nothing is pending; returns the first error. The waiter is gone after it. */
int iomap_waiter_wait(struct iomap_waiter *w);

/*
 * Zeroed memory for work that must not fail while data is dirty: waits a while for
 * memory to come free, since requests in flight give theirs back. NULL only when
 * that did not help for seconds.
 */
void *iomap_alloc_patiently(size_t size);

/* Read [addr, addr+len) into mem and wait. */
int iomap_read_sync(struct iomap_dev *dev, uint64_t addr, void *mem, size_t len);

/* ---- Per-block state of a folio (folio_state.c) --------------------------------------- */

/*
 * Only for folios of more than one block; hangs on folio->private, which the folio
 * lock guards (or the writeback flag: such a folio is neither released nor
 * invalidated). `lock` guards the fields, since I/O completions set bits without
 * the folio lock.
 */
struct iomap_folio_state {
	struct lk_mutex lock;         /* LK_FOLIO_STATE */
	uint32_t read_bytes_pending;
	uint32_t write_bytes_pending;
	unsigned nr_blocks, blkbits;
	uint64_t bits[];              /* nr_blocks uptodate bits, then as many words of dirty bits */
};

static inline unsigned folio_nr_blocks(const struct inode *inode, const struct folio *f)
{
	return (unsigned)(folio_size(f) >> inode->i_blkbits);
}
/* *out NULL: one block, the folio's own flags suffice. Folio locked. -ENOMEM. */
int iomap_state_get(struct inode *inode, struct folio *f, bool patient,
		    struct iomap_folio_state **out);
void iomap_state_free(struct folio *f);
/* Blocks that [off, off+len) touches become uptodate; the folio too if these were the last. */
void iomap_set_range_uptodate(struct folio *f, size_t off, size_t len);
/* Bytes from off on, at most len, that are uptodate without a gap. Folio locked. */
size_t iomap_uptodate_prefix(struct folio *f, size_t off, size_t len);
/* As above for bytes that are not uptodate. */
size_t iomap_stale_prefix(struct folio *f, size_t off, size_t len);
void iomap_set_range_dirty(struct folio *f, size_t off, size_t len);
void iomap_clear_range_dirty(struct folio *f, size_t off, size_t len);
/* First run of dirty blocks in [*off, end): true and *off, *len. Folio is dirty or being written. */
bool iomap_next_dirty_run(struct folio *f, size_t *off, size_t end, size_t *len);

/* ---- Reading (buffered_read.c) ----------------------------------------------------------- */

/* Must this block be zero-filled instead of read from its source? */
bool iomap_block_needs_zeroing(const struct iomap_iter *iter, uint64_t pos);
int iomap_read_inline_data(const struct iomap_iter *iter, struct folio *f);
/* Fill part of a locked folio from the source mapping and wait; the default of write ops. */
int iomap_read_folio_range_sync(const struct iomap_iter *iter, struct folio *f, uint64_t pos,
				size_t len);

/* ---- Writing through the cache (buffered_write.c) -------------------------------------------- */

/*
 * One folio's worth of a write, zero or unshare: locked, revalidated and prepared so
 * that bytes [pos, pos+*len) may be stored. *folio NULL with 0: the mapping was stale,
 * leave the body.
 */
int iomap_write_begin(struct iomap_iter *iter, const struct iomap_write_ops *wops, uint64_t pos,
		      size_t *len, struct folio **folio);
/* The same for a folio that the caller has, locked and referenced; it is put where that fails. */
int iomap_write_begin_folio(struct iomap_iter *iter, const struct iomap_write_ops *wops, uint64_t pos,
			    size_t *len, struct folio *f, struct folio **folio);
/* Bytes that count (0: the short-copy rule threw them away). Folio stays locked. */
size_t iomap_write_end(struct iomap_iter *iter, uint64_t pos, size_t len, size_t copied,
		       struct folio *f);
void iomap_put_folio(struct iomap_iter *iter, const struct iomap_write_ops *wops, uint64_t pos,
		     size_t copied, struct folio *f);

/* ---- ioends (ioend.c) -------------------------------------------------------------------------- */

#define IOEND_MAX_FOLIOS 4096u
/* One folio's bytes that this ioend held are done; the last ones end its writeback. */
void iomap_finish_folio_write(struct folio *f, size_t len);
/* Hand the open ioend to the file system's writeback_submit or the default. */
int iomap_submit_ioend(struct iomap_writepage_ctx *wpc, int error);

/* ---- Direct I/O (direct.c, direct_complete.c) --------------------------------------------------- */

/* Caller memory at the cursor, contiguous for *len bytes; not consumed. count > 0. */
void *iomap_iov_peek(struct iov_iter *i, size_t *len);

/* Aligned memory that stands in for misaligned caller memory. */
struct dio_bounce {
	struct dio_bounce *next;
	void *mem;
	size_t len;
	struct iov_iter user; /* where a read's bytes go at completion */
};

/*
 * One request. Submission and completion share it by reference count: the submitter
 * holds one, each bio one; who drops the last one completes it. Fields but refs and
 * error are the submitter's until it dropped its reference.
 */
struct iomap_dio {
	struct kiocb *iocb;
	struct inode *inode;
	const struct iomap_dio_ops *dops;
	struct iov_iter *user;
	uint64_t i_size;          /* sampled at the start: bounds a read */
	uint64_t size;            /* bytes that bios or copies took */
	size_t done_before;
	unsigned flags;           /* IOMAP_DIO_*, and DIO_* below */
	_Atomic int refs;
	_Atomic int error;        /* first one */
	bool wait;                /* the submitter waits */
	bool done;                /* lock */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct dio_bounce *bounces, **bounce_tail;
	struct work_pool *workers; /* of the device of its bios */
	struct work work;
};
#define DIO_WRITE         (1u << 24)
#define DIO_NEED_SYNC     (1u << 25) /* O_DSYNC work at completion */
#define DIO_WRITE_THROUGH (1u << 26) /* so far every bio is durable when it ends */

/* Write back what the cache has of a read's range, end inclusive; NOWAIT: -EAGAIN where there is such. */
int iomap_dio_prepare_read(struct kiocb *iocb, uint64_t pos, uint64_t end);
/* The short way of a small synchronous read (direct_fast.c); -ENOTBLK, nothing done: not such a one. */
int64_t iomap_dio_read_fast(struct kiocb *iocb, struct iov_iter *user, const struct iomap_ops *ops,
			    void *private);
void iomap_dio_bio_end_io(struct iomap_bio *bio);
void iomap_dio_set_error(struct iomap_dio *dio, int error);
/* The submitter is done: result, or -EIOCBQUEUED with dio out of its hands. */
int64_t iomap_dio_submitted(struct iomap_dio *dio);
void iomap_dio_free(struct iomap_dio *dio);

#endif

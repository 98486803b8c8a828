/* SPDX-License-Identifier: MIT */
/*
 * iomap - the engine: file operations as iterations over extent mappings.
 *
 * A file system supplies begin/end callbacks that translate (position, length)
 * into the largest mapping it has there; the operations below do the rest.
 * Names, flags and meanings are those of the Linux iomap library. The engine
 * knows neither devices nor formats nor FUSE: storage is reached through
 * struct iomap_dev, which the file system fills.
 *
 * All positions and lengths are bytes; intervals are half-open. Errors are
 * negative errno. Unless said otherwise an operation may sleep.
 */
#ifndef IOMAPFS_IOMAP_H
#define IOMAPFS_IOMAP_H

#include <sys/uio.h>

#include "iomapfs/folio.h"

/* Exported by libiomap: see base.h. */
#pragma GCC visibility push(default)

struct iomap_iter;
struct iomap_dev;
struct iomap_bio;
struct iomap_dax_dev;
struct dax_mapping;

/* ---- What the engine needs of a file ------------------------------------------- */

/*
 * Embedded in the file system's inode.
 * i_rwsem: held over whole operations as each one states.
 * i_size: in-core size; raised by the engine under the folio lock (buffered
 *         write) and by dio completion callbacks; the on-disk size is the file system's.
 */
struct inode {
	struct address_space i_mapping; /* host = this inode */
	struct lk_rwlock i_rwsem;
	_Atomic uint64_t i_size;
	uint64_t i_ino;
	unsigned i_blkbits;             /* log2 of the block size in bytes, 9..16 */
	_Atomic unsigned i_dio_count;   /* direct requests in flight */
	const struct inode_operations_hooks *i_hooks;
	pthread_mutex_t i_dio_lock;
	pthread_cond_t i_dio_wait;
	_Atomic uint64_t i_ra_next;     /* internal: where a sequential reader would go on */
	_Atomic uint64_t i_ra_end;      /* internal: end of what was read ahead for it */
	_Atomic(struct dax_mapping *) i_dax; /* internal: areas that show the file (dax.h); or NULL */
};
struct inode_operations_hooks {
	/* In-core attributes changed (inline data, size): persist some time later. Must not sleep. */
	void (*mark_inode_dirty)(struct inode *inode);
	/*
	 * Durable data and metadata of the range (end inclusive), for O_DSYNC (datasync)
	 * and O_SYNC. Sleeps.
	 */
	int (*fsync)(struct inode *inode, uint64_t start, uint64_t end, bool datasync);
};
int iomap_inode_init(struct inode *inode, struct folio_cache *c,
		     const struct address_space_operations *aops, unsigned blkbits, uint64_t ino);
void iomap_inode_destroy(struct inode *inode);
static inline uint64_t i_size_read(struct inode *i)
{
	return atomic_load(&i->i_size);
}
static inline void i_size_write(struct inode *i, uint64_t size)
{
	atomic_store(&i->i_size, size);
}
static inline unsigned i_blocksize(const struct inode *i)
{
	return 1u << i->i_blkbits;
}
void inode_dio_begin(struct inode *inode);
void inode_dio_end(struct inode *inode);
/* i_rwsem exclusive, so that no new request starts. Sleeps. */
void inode_dio_wait(struct inode *inode);

/* ---- Storage as the engine sees it ---------------------------------------------- */

enum iomap_bio_op { IOMAP_BIO_READ, IOMAP_BIO_WRITE };
#define IOMAP_BIO_FUA    (1u << 0) /* durable on completion */
#define IOMAP_BIO_ATOMIC (1u << 1) /* untorn */
#define IOMAP_BIO_POLL   (1u << 2) /* a hint: look for its end instead of waiting for it */
#define IOMAP_BIO_INLINE_VECS 8

/*
 * One device request. Allocated by iomap_bio_alloc; freed by the engine in its
 * end_io. vec bases are aligned to dev->mem_align, lengths and addr to
 * dev->logical_block, provided that the file's block size is a multiple of both
 * and mem_align is at most the page size. max_io holds at least one block.
 */
struct iomap_bio {
	struct iomap_dev *dev;
	enum iomap_bio_op op;
	unsigned flags;
	uint64_t addr;              /* device byte address */
	uint64_t len;               /* bytes in vec */
	struct iovec *vec;
	unsigned nr_vecs, max_vecs;
	int status;                 /* 0 or -errno, set before end_io */
	void (*end_io)(struct iomap_bio *bio); /* completion thread: must not sleep */
	void *private;
	uint64_t dev_private[16];   /* the device glue's, from submit to end_io */
	size_t front_pad;           /* of iomap_bio_front */
	struct iovec inline_vecs[IOMAP_BIO_INLINE_VECS];
};
struct iomap_bio *iomap_bio_alloc(struct iomap_dev *dev, enum iomap_bio_op op, uint64_t addr,
				  unsigned max_vecs);
void iomap_bio_free(struct iomap_bio *bio);
/* As iomap_bio_alloc, with front_pad zeroed bytes of the file system's own that live as long as the bio. */
struct iomap_bio *iomap_bio_alloc_pad(struct iomap_dev *dev, enum iomap_bio_op op, uint64_t addr,
				      unsigned max_vecs, size_t front_pad);
/* Those bytes, aligned for any type; NULL without. */
void *iomap_bio_front(struct iomap_bio *bio);
/* Room for max_vecs, as far as the device takes them and there is memory; what it has stays. */
void iomap_bio_grow(struct iomap_bio *bio, unsigned max_vecs);
/* Append; merges with the last vec when memory is contiguous. False: full (vecs or dev->max_io). */
bool iomap_bio_add(struct iomap_bio *bio, void *mem, size_t len);

struct iomap_dev_ops {
	/* Takes the bio; ends it by status + end_io on any thread, also inside submit. */
	void (*submit)(struct iomap_dev *dev, struct iomap_bio *bio);
	void (*plug)(struct iomap_dev *dev);   /* optional, per thread */
	void (*unplug)(struct iomap_dev *dev);
};
struct iomap_dev {
	const struct iomap_dev_ops *ops;
	uint32_t logical_block;  /* bytes */
	uint32_t mem_align;      /* bytes */
	uint32_t max_io;         /* bytes a bio may hold */
	uint32_t max_vecs;
	uint32_t atomic_min, atomic_max; /* bytes of a hardware untorn write, powers of two; max 0 = none */
	bool fua, volatile_cache;
	/*
	 * Where asynchronous direct requests complete, since that may sleep; NULL: on the thread that
	 * ends their last bio. Completion waits for writeback of the range and calls hooks->fsync: never
	 * the pool whose threads finish ioends, or the two wait for each other.
	 */
	struct work_pool *dio_workers;
	void *private;
};
void iomap_submit_bio(struct iomap_bio *bio);

/* ---- Mapping ----------------------------------------------------------------------- */

enum iomap_type { IOMAP_HOLE, IOMAP_DELALLOC, IOMAP_MAPPED, IOMAP_UNWRITTEN, IOMAP_INLINE };

/* Set by the file system in begin. */
#define IOMAP_F_NEW         (1u << 0)
#define IOMAP_F_DIRTY       (1u << 1)
#define IOMAP_F_SHARED      (1u << 2)
#define IOMAP_F_MERGED      (1u << 3)
#define IOMAP_F_BUFFER_HEAD 0u
#define IOMAP_F_XATTR       (1u << 5)
#define IOMAP_F_BOUNDARY    (1u << 6)
#define IOMAP_F_ANON_WRITE  (1u << 7)
#define IOMAP_F_ATOMIC_BIO  (1u << 8)
#define IOMAP_F_INTEGRITY   (1u << 9)
#define IOMAP_F_ZERO_TAIL   (1u << 10)
#define IOMAP_F_FSVERITY    (1u << 11)
#define IOMAP_F_PRIVATE     (1u << 12)
/* Set by the engine, seen by end. */
#define IOMAP_F_FOLIO_BATCH  (1u << 13)
#define IOMAP_F_SIZE_CHANGED (1u << 14)
#define IOMAP_F_STALE        (1u << 15)

#define IOMAP_NULL_ADDR UINT64_MAX

struct iomap {
	uint64_t addr;            /* device byte address of offset; IOMAP_NULL_ADDR without one */
	uint64_t offset;          /* file position of the mapping's first byte; <= iter->pos */
	uint64_t length;          /* bytes, > 0; reaches past iter->pos */
	enum iomap_type type;
	uint32_t flags;
	struct iomap_dev *bdev;   /* for MAPPED, UNWRITTEN */
	struct iomap_dax_dev *dax_dev; /* only for DAX operations (dax.h) */
	void *inline_data;        /* INLINE: byte at pos is inline_data[pos - offset] */
	void *private;            /* handed unchanged to end */
	uint64_t validity_cookie; /* compared by write ops' iomap_valid */
};
static inline uint64_t iomap_end(const struct iomap *m)
{
	return m->offset + m->length;
}
static inline uint64_t iomap_sector_addr(const struct iomap *m, uint64_t pos)
{
	return m->addr + (pos - m->offset);
}

/* Operation flags given to begin and end (iter->flags); 0 = read. */
#define IOMAP_WRITE          (1u << 0)
#define IOMAP_ZERO           (1u << 1)
#define IOMAP_REPORT         (1u << 2)
#define IOMAP_FAULT          (1u << 3)
#define IOMAP_DIRECT         (1u << 4)
#define IOMAP_NOWAIT         (1u << 5)
#define IOMAP_OVERWRITE_ONLY (1u << 6)
#define IOMAP_UNSHARE        (1u << 7)
#define IOMAP_DAX            (1u << 8)
#define IOMAP_ATOMIC         (1u << 9)
#define IOMAP_DONTCACHE      (1u << 10)

struct iomap_iter;
typedef int (*iomap_begin_t)(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			     struct iomap *iomap, struct iomap *srcmap);
typedef int (*iomap_end_t)(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written,
			   unsigned flags, struct iomap *iomap);

struct iomap_ops {
	/*
	 * Fill *iomap (and *srcmap when content comes from elsewhere; both arrive
	 * zeroed) for at least the byte at pos, sampling everything under the file
	 * system's own extent lock, and return with that lock released. length is
	 * what the operation still wants. NOWAIT: -EAGAIN before any effect, also
	 * when one mapping cannot span the whole length. May sleep otherwise.
	 */
	iomap_begin_t iomap_begin;
	/*
	 * Optional. Called once for each successful begin, `length` as offered to
	 * the body, `written` what the body advanced (0 on failure). Commits what
	 * was used, releases what was not.
	 */
	iomap_end_t iomap_end;
	/*
	 * The newer form, instead of the two: end the mapping in *iomap if it has a length, then get the
	 * next one into it. 1: there is one; 0: done; -errno. iomap_iter_next does that with a begin and an
	 * end; what is won is that the file system sees the iter, and that the calls can be inlined.
	 */
	int (*iomap_next)(struct iomap_iter *iter, struct iomap *iomap, struct iomap *srcmap);
};

#define IOMAP_FBATCH_SIZE 15u

struct iomap_iter {
	struct inode *inode;
	uint64_t pos;
	uint64_t iter_start_pos;
	uint64_t len;        /* bytes remaining */
	int status;          /* set by the body: 0 or -errno */
	unsigned flags;
	struct iomap iomap;
	struct iomap srcmap;
	void *private;
	unsigned nr_stale;   /* internal: stale mappings in a row */
	/* With IOMAP_F_FOLIO_BATCH: the dirty folios of the mapping, referenced; iomap_fill_dirty_folios. */
	struct {
		struct folio *folios[IOMAP_FBATCH_SIZE];
		unsigned nr, next;
	} fbatch;
};
/* >0: run the body; 0: done; <0: error. Must be called until it returns <= 0. */
int iomap_iter(struct iomap_iter *iter, const struct iomap_ops *ops);
/* For ops->iomap_next: end may be NULL. iomap and srcmap are those of the iter. */
int iomap_iter_next(struct iomap_iter *iter, struct iomap *iomap, struct iomap *srcmap,
		    iomap_begin_t begin, iomap_end_t end);
/* Body made n bytes of progress; -EIO if beyond the mapping. */
int iomap_iter_advance(struct iomap_iter *iter, uint64_t n);
uint64_t iomap_length(const struct iomap_iter *iter);
static inline int iomap_iter_advance_full(struct iomap_iter *iter)
{
	return iomap_iter_advance(iter, iomap_length(iter));
}
static inline const struct iomap *iomap_iter_srcmap(const struct iomap_iter *i)
{
	return i->srcmap.type != IOMAP_HOLE ? &i->srcmap : &i->iomap;
}

/* ---- Requests and memory -------------------------------------------------------------- */

/* Caller memory of an operation; consumed as it is copied. */
struct iov_iter {
	const struct iovec *iov;
	unsigned nr_iov;
	size_t iov_offset; /* into iov[0] */
	size_t count;      /* bytes left */
};
void iov_iter_init(struct iov_iter *i, const struct iovec *iov, unsigned nr, size_t count);
size_t iov_iter_copy_from(struct iov_iter *i, void *dst, size_t n); /* caller memory -> dst */
size_t iov_iter_copy_to(struct iov_iter *i, const void *src, size_t n);
size_t iov_iter_zero(struct iov_iter *i, size_t n);
void iov_iter_advance(struct iov_iter *i, size_t n);
void iov_iter_revert(struct iov_iter *i, size_t n);

#define IOCB_NOWAIT    (1u << 0)
#define IOCB_DSYNC     (1u << 1)
#define IOCB_SYNC      (1u << 2) /* with DSYNC */
#define IOCB_DIRECT    (1u << 3)
#define IOCB_HIPRI     (1u << 4)
#define IOCB_ATOMIC    (1u << 5)
#define IOCB_DONTCACHE (1u << 6)
#define IOCB_WRITE     (1u << 7)
#define IOCB_FAULT     (1u << 8) /* a cache write of the kernel (mmap store) */

struct kiocb {
	struct inode *ki_inode;
	uint64_t ki_pos;
	unsigned ki_flags;
	/* NULL: synchronous. Else called once, from a worker, when -EIOCBQUEUED was returned. */
	void (*ki_complete)(struct kiocb *iocb, int64_t ret);
	void *private;
};
#ifndef EIOCBQUEUED
#define EIOCBQUEUED 529 /* kernel-internal there as well: queued, ki_complete will tell */
#endif
#ifndef ENOTBLK
#define ENOTBLK 15
#endif

/*
 * May this be an untorn write? -EOPNOTSUPP unless direct; -EINVAL unless its length is a power of two
 * and its position a multiple of that. Limits of the size are the file system's to check.
 */
int generic_atomic_write_valid(const struct kiocb *iocb, const struct iov_iter *from);

/* ---- Buffered I/O ------------------------------------------------------------------------ */

/* Hooks of buffered write, zero and unshare; all optional. */
struct iomap_write_ops {
	/* Locked, referenced folio at iter pos. [iomap_get_folio] */
	int (*get_folio)(struct iomap_iter *iter, uint64_t pos, size_t len, struct folio **out);
	/* Unlock and put; once for each successful get. */
	void (*put_folio)(struct inode *inode, uint64_t pos, size_t copied, struct folio *f);
	/* Folio locked: is the mapping sampled by begin still true? */
	bool (*iomap_valid)(struct inode *inode, const struct iomap *iomap);
	/* Fill bytes [pos, pos+len) of the folio from the source mapping, synchronously. */
	int (*read_folio_range)(const struct iomap_iter *iter, struct folio *f, uint64_t pos,
				size_t len);
};
int iomap_get_folio(struct iomap_iter *iter, uint64_t pos, size_t len, struct folio **out);

/*
 * Read through the cache from iocb->ki_pos, clamped at i_size; takes invalidate_lock
 * shared where it must fill. Kernel counterpart: filemap_read over iomap_readahead.
 * IOCB_NOWAIT: only what is cached, -EAGAIN if the first byte is not.
 * IOCB_DONTCACHE: folios that it made are dropped once their end or that of the file was copied, or the next
 * such read goes elsewhere, unless others used them meanwhile.
 * Caller holds i_rwsem shared or nothing. Returns bytes; moves ki_pos.
 */
int64_t iomap_file_buffered_read(struct kiocb *iocb, struct iov_iter *to, const struct iomap_ops *ops);
/* Fill one folio (locked on entry; unlocked on return). Sleeps until the I/O ended. */
int iomap_read_folio(struct inode *inode, struct folio *f, const struct iomap_ops *ops);
/* Start reading absent bytes of the range; takes invalidate_lock shared; reports no errors. */
void iomap_readahead(struct inode *inode, uint64_t pos, uint64_t len, const struct iomap_ops *ops);

/*
 * i_rwsem exclusive. Returns bytes written or the error if none; moves ki_pos; no O_SYNC work.
 * IOCB_ATOMIC: -EOPNOTSUPP, memory is written back in any pieces. IOCB_DONTCACHE: folios that it made are
 * dropped at the end of their writeback, unless others used them meanwhile; the caller starts that writeback.
 */
int64_t iomap_file_buffered_write(struct kiocb *iocb, struct iov_iter *from,
				  const struct iomap_ops *ops, const struct iomap_write_ops *wops,
				  void *private);
/* i_rwsem + invalidate_lock exclusive for the next three. *did_zero only ever becomes true; may be NULL. */
int iomap_zero_range(struct inode *inode, uint64_t pos, uint64_t len, bool *did_zero,
		     const struct iomap_ops *ops, const struct iomap_write_ops *wops, void *private);
/*
 * For begin of IOMAP_ZERO, where a mapping reads as zero and only dirty cache on top has to be
 * zeroed: note the folios of [*start, end) that are dirty or under writeback in the iter, whose
 * mapping *iomap is. *start moves to where the list ends: the mapping must be cut there. Sets
 * IOMAP_F_FOLIO_BATCH: the operation then zeroes what is in the list and skips the rest, without
 * the flush that it needs otherwise. Call it under the lock under which the mapping was sampled and
 * without which no extent is converted, so that nothing becomes clean in between. Takes no folio lock.
 */
void iomap_fill_dirty_folios(struct iomap *iomap, uint64_t *start, uint64_t end);
int iomap_truncate_page(struct inode *inode, uint64_t pos, bool *did_zero,
			const struct iomap_ops *ops, const struct iomap_write_ops *wops, void *private);
int iomap_file_unshare(struct inode *inode, uint64_t pos, uint64_t len, const struct iomap_ops *ops,
		       const struct iomap_write_ops *wops);
/*
 * Folio locked on entry and on return, also after an error; on success it is uptodate,
 * dirty and has space. -EFAULT: no longer in this file, or wholly beyond i_size.
 * invalidate_lock shared.
 */
int iomap_page_mkwrite(struct inode *inode, struct folio *f, const struct iomap_ops *ops, void *private);

typedef void (*iomap_punch_t)(struct inode *inode, uint64_t offset, uint64_t length,
			      struct iomap *iomap);
/*
 * Drop the delalloc of [start, end) that has no dirty cache; for iomap_end of a NEW
 * DELALLOC mapping (not FAULT) whose write fell short. The caller holds invalidate_lock
 * exclusive; iomap_end takes it itself unless flags hold ZERO or UNSHARE, whose callers
 * have it already. punch removes delalloc only and takes no folio lock (one may be held).
 */
void iomap_write_delalloc_release(struct inode *inode, uint64_t start, uint64_t end, unsigned flags,
				  struct iomap *iomap, iomap_punch_t punch);

/* For the address_space_operations of a file system. */
bool iomap_dirty_folio(struct address_space *m, struct folio *f);
bool iomap_release_folio(struct folio *f);
void iomap_invalidate_folio(struct folio *f, size_t off, size_t len);
bool iomap_is_partially_uptodate(struct folio *f, size_t from, size_t count);
/* pagecache_isize_extended + zeroing for truncate up: old-EOF folio, caller has set the new size. */
void pagecache_isize_extended(struct inode *inode, uint64_t from, uint64_t to);

/* ---- Writeback ----------------------------------------------------------------------------- */

#define IOMAP_IOEND_SHARED    (1u << 0)
#define IOMAP_IOEND_UNWRITTEN (1u << 1)
#define IOMAP_IOEND_BOUNDARY  (1u << 2)
#define IOMAP_IOEND_DIRECT    (1u << 3)
#define IOMAP_IOEND_DONTCACHE (1u << 4)
#define IOMAP_IOEND_NOMERGE_FLAGS \
	(IOMAP_IOEND_SHARED | IOMAP_IOEND_UNWRITTEN | IOMAP_IOEND_DIRECT | IOMAP_IOEND_DONTCACHE)

/* One device write of writeback: file-contiguous and device-contiguous. */
struct iomap_ioend {
	struct cds_list_head io_list;
	uint32_t io_flags;
	struct inode *io_inode;
	uint64_t io_offset;      /* file position */
	uint64_t io_size;        /* bytes; clamped to the size in memory at submission */
	uint64_t io_addr;        /* device byte address */
	int io_error;
	_Atomic int io_remaining; /* pieces of a split */
	struct iomap_ioend *io_parent;
	void *io_private;
	struct iomap_bio *io_bio;
	struct work io_work;     /* the file system's, between end_io and iomap_finish_ioends */
	/* internal */
	struct folio **io_folios;
	struct { uint32_t off, len; } *io_spans;
	unsigned io_nr_folios, io_max_folios;
	void (*io_end)(struct iomap_ioend *ioend);
};

struct iomap_writepage_ctx;
struct iomap_writeback_ops {
	/*
	 * Map [pos, pos+len) of a locked dirty folio for writing (DELALLOC becomes
	 * real here) and hand it to iomap_add_to_ioend. Returns bytes handled,
	 * 1..len, or -errno after dropping the delalloc of the rest of the folio.
	 */
	int64_t (*writeback_range)(struct iomap_writepage_ctx *wpc, struct folio *f, uint64_t pos,
				   unsigned len, uint64_t end_pos);
	/* [iomap_ioend_writeback_submit] */
	int (*writeback_submit)(struct iomap_writepage_ctx *wpc, int error);
};
struct iomap_writepage_ctx {
	struct iomap iomap;
	struct inode *inode;
	struct writeback_control *wbc;
	const struct iomap_writeback_ops *ops;
	unsigned nr_folios;
	void *wb_ctx;            /* the open ioend */
	/* Ends an ioend on a completion thread; must not sleep. [finish at once] */
	void (*end_ioend)(struct iomap_ioend *ioend);
	size_t submitted;        /* internal: bytes of the folio at hand that ioends took */
};
/* Caller zeroes the context but for inode, wbc, ops (and end_ioend). */
int iomap_writepages(struct iomap_writepage_ctx *wpc);
int64_t iomap_add_to_ioend(struct iomap_writepage_ctx *wpc, struct folio *f, uint64_t pos,
			   uint64_t end_pos, unsigned len);
int iomap_ioend_writeback_submit(struct iomap_writepage_ctx *wpc, int error);
void iomap_sort_ioends(struct cds_list_head *ioends);
/* Absorb followers from `more` that continue ioend; caller owns both. */
void iomap_ioend_try_merge(struct iomap_ioend *ioend, struct cds_list_head *more);
struct iomap_ioend *iomap_split_ioend(struct iomap_ioend *ioend, uint64_t max_len, bool is_append);
/*
 * End writeback of the chain with error (0 = none); frees the ioends. io_error is what
 * the device said; the file system passes it on, or its own error. A worker takes an ioend
 * off its list by cds_list_del_init, lets iomap_ioend_try_merge hang followers on its
 * io_list, converts, and calls this.
 */
void iomap_finish_ioends(struct iomap_ioend *ioend, int error);

/* ---- Direct I/O -------------------------------------------------------------------------------- */

#define IOMAP_DIO_FORCE_WAIT      (1u << 0) /* wait although the iocb has a ki_complete */
#define IOMAP_DIO_OVERWRITE_ONLY  (1u << 1) /* inside i_size and nothing but data changes, else -EAGAIN */
/*
 * Memory that ends in the middle of the request: return what came through instead of -EFAULT. The
 * caller makes more of it readable and calls again, with the sum so far as done_before.
 */
#define IOMAP_DIO_PARTIAL         (1u << 2)
#define IOMAP_DIO_FSBLOCK_ALIGNED (1u << 3) /* each bio is whole blocks; -EINVAL if the request is not */
#define IOMAP_DIO_BOUNCE          (1u << 4) /* by memory of ours, which nobody changes during the write */
/* flags given to end_io */
#define IOMAP_DIO_UNWRITTEN (1u << 28)
#define IOMAP_DIO_COW       (1u << 29)

struct iomap_dio_ops {
	/*
	 * All device I/O ended. Convert, then raise sizes. May sleep (worker or the
	 * submitter). Returns 0, or -errno that becomes the result.
	 */
	int (*end_io)(struct kiocb *iocb, int64_t size, int error, unsigned flags);
	/*
	 * Take over submission of a bio: to a place of its choice, to several, or later; default
	 * iomap_submit_bio. Whatever it does ends in bio->end_io with bio->status set, once.
	 */
	void (*submit_io)(const struct iomap_iter *iter, struct iomap_bio *bio, uint64_t file_offset);
	/* bio_set: bytes of its own in each bio, see iomap_bio_front; 0 = none. */
	size_t bio_front_pad;
};
/*
 * i_rwsem shared or exclusive by the caller's rules; may be released once this
 * returned, -EIOCBQUEUED included (i_dio_count counts the request till its end).
 * Memory and position alignment: a misaligned user buffer is copied through
 * aligned memory; pos and len must be multiples of dev->logical_block, else -EINVAL.
 * The caller's memory and its iovec array must stay valid until completion.
 * -ENOTBLK (nothing done), or a short count after it came up midway: do the rest
 * through the cache, then write back and drop that range. IOCB_HIPRI asks the device
 * to poll (IOMAP_BIO_POLL), where one bio is all there is and nothing but its end is waited for.
 *
 * IOCB_ATOMIC, a write that is untorn: what generic_atomic_write_valid says; begin
 * gets IOMAP_ATOMIC and decides how. With IOMAP_F_ATOMIC_BIO the device does it: the
 * mapping must span the request, its address be as aligned as the length, and one
 * bio within dev->atomic_min..atomic_max take it all, else -EINVAL. Without the flag
 * the file system does it, by a mapping of fresh blocks (IOMAP_F_SHARED, so that end_io
 * gets IOMAP_DIO_COW) that it swaps in one transaction; any number of bios. A begin
 * that cannot offer the device's way says -ENOPROTOOPT, which is returned with
 * nothing done, for the caller to come again with its other ops. -EAGAIN: cache that
 * could not be dropped; never does such a write fall back to the cache.
 */
int64_t iomap_dio_rw(struct kiocb *iocb, struct iov_iter *iter, const struct iomap_ops *ops,
		     const struct iomap_dio_ops *dops, unsigned dio_flags, void *private,
		     size_t done_before);
/* ---- Queries (i_rwsem shared) ----------------------------------------------------------------------- */

/* Position or -ENXIO. */
int64_t iomap_seek_data(struct inode *inode, int64_t pos, const struct iomap_ops *ops);
int64_t iomap_seek_hole(struct inode *inode, int64_t pos, const struct iomap_ops *ops);

/* Records and flags are those of <linux/fiemap.h>. */
struct fiemap_extent_info {
	unsigned fi_flags;              /* FIEMAP_FLAG_SYNC, FIEMAP_FLAG_XATTR */
	unsigned fi_extents_mapped;
	unsigned fi_extents_max;        /* 0 = count only */
	struct fiemap_extent *fi_extents_start;
};
/*
 * -EINVAL length 0, -EFBIG start past max_bytes, -EBADR unknown flags (left in fi_flags);
 * SYNC writes back.
 */
int fiemap_prep(struct inode *inode, struct fiemap_extent_info *fi, uint64_t start, uint64_t *len,
		uint64_t max_bytes, unsigned supported_flags);
int iomap_fiemap(struct inode *inode, struct fiemap_extent_info *fi, uint64_t start, uint64_t len,
		 const struct iomap_ops *ops);
/* Device block (in file system blocks) of file block; 0 if none or error. */
uint64_t iomap_bmap(struct inode *inode, uint64_t block, const struct iomap_ops *ops);

/* ---- Sharing blocks --------------------------------------------------------------------------- */

/*
 * May [pos_in, pos_in+*len) of `in` and the range of `out` at pos_out share blocks (kernel:
 * generic_remap_file_range_prep)? *len 0: to the end of `in`; 0 afterwards: nothing to do. dedupe: both
 * ranges lie inside their files, and *len is cut to whole blocks where only one ends with its file.
 * -EINVAL: an offset or the length is not block aligned, the source is beyond its end, the two overlap
 * in one file; -EFBIG. i_rwsem of both.
 */
int iomap_remap_checks(struct inode *in, uint64_t pos_in, struct inode *out, uint64_t pos_out,
		       uint64_t *len, bool dedupe);
/*
 * Are the contents equal? Through the cache, which is filled where it has to be. Both files' i_rwsem and
 * invalidate_lock exclusive (one file: once), inside both sizes rounded up to a block. Sleeps. Read errors.
 */
int iomap_remap_compare(struct inode *a, uint64_t pos_a, struct inode *b, uint64_t pos_b,
			uint64_t len, const struct iomap_ops *ops, bool *same);

/* ---- Swap files ----------------------------------------------------------------------------- */

struct swap_info {
	uint64_t max_pages;      /* as the swap header says, the header's page included; 0 = no limit */
	/*
	 * nr_pages of swap from start_page on lie at page phys_page of the device. Called in order of
	 * start_page, with the caller's locks. 0, or -errno, which ends the activation.
	 */
	int (*add_extent)(struct swap_info *sis, uint64_t start_page, uint64_t nr_pages, uint64_t phys_page);
	void *private;           /* the caller's */
	/* Out: */
	uint64_t nr_pages;       /* whole pages found */
	unsigned nr_extents;     /* calls of add_extent */
	const char *why;         /* a constant that says why not, where the result is -EINVAL */
};
/*
 * Map the whole pages of a file for swap, as mm calls ->swap_activate of the kernel's iomap. The caller
 * has written everything back and made it durable (fsync) and holds i_rwsem exclusive; nothing may
 * move or free the blocks until it lets go of the file. Written and unwritten extents of one device that
 * nobody shares are accepted; -EINVAL otherwise, with the reason in sis->why. Pages are of
 * FOLIO_PAGE_SIZE. *pagespan: 1 + highest - lowest page on the device, the header's not counted.
 */
int iomap_swapfile_activate(struct swap_info *sis, struct inode *inode, uint64_t *pagespan,
			    const struct iomap_ops *ops);

#pragma GCC visibility pop

#endif

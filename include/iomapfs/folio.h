/* SPDX-License-Identifier: MIT */
/*
 * folio - the cache of file contents: folios, dirty tags, reclaim, throttle,
 * error sequence. Stand-in for the kernel's page cache; a function that bears a
 * kernel name has that function's meaning unless its comment says otherwise.
 *
 * It knows nothing of devices, on-disk formats or FUSE: filling and writing back
 * is done by the ops that the owner of a mapping supplies (in iomapfs: iomap/).
 */
#ifndef IOMAPFS_FOLIO_H
#define IOMAPFS_FOLIO_H

#include <limits.h>

#include "iomapfs/base.h"

/* Exported by libiomap: see base.h. */
#pragma GCC visibility push(default)

#define FOLIO_PAGE_SHIFT 12
#define FOLIO_PAGE_SIZE  (1u << FOLIO_PAGE_SHIFT)
#define FOLIO_MAX_ORDER  9 /* 2 MiB */

struct address_space;
struct folio_cache;

/* ---- Folio ------------------------------------------------------------------- */

enum folio_flag {
	FOLIO_LOCKED,
	FOLIO_UPTODATE,   /* whole folio at least as new as disk */
	FOLIO_DIRTY,      /* some block is dirty */
	FOLIO_WRITEBACK,
	FOLIO_DROPBEHIND, /* drop when writeback ends and nobody used it since (DONTCACHE) */
	FOLIO_REFERENCED, /* used since reclaim looked last */
	FOLIO_ERROR,      /* last read failed; informational */
	FOLIO_LRU,        /* internal */
	FOLIO_WAITERS,    /* internal: somebody sleeps on this folio */
};

/*
 * A cache unit of 2^order pages, naturally aligned in the file. data is page
 * aligned and contiguous. mapping is NULL once the folio was removed; it is
 * stable while the folio is locked. The folio lock may be released by another
 * thread than took it (I/O completion).
 */
struct folio {
	_Atomic unsigned flags;   /* bits of enum folio_flag */
	_Atomic int refs;
	struct address_space *_Atomic mapping;
	uint64_t index;           /* first page in the file; constant */
	unsigned order;           /* constant */
	void *data;
	void *private;            /* the mapping ops' (iomap: struct iomap_folio_state); folio lock */
	struct cds_list_head lru; /* internal */
	struct folio_cache *cache;
};

static inline size_t folio_size(const struct folio *f)
{
	return (size_t)FOLIO_PAGE_SIZE << f->order;
}
static inline uint64_t folio_pos(const struct folio *f)
{
	return f->index << FOLIO_PAGE_SHIFT;
}
static inline size_t offset_in_folio(const struct folio *f, uint64_t pos)
{
	return (size_t)(pos - folio_pos(f));
}
static inline uint64_t folio_next_index(const struct folio *f)
{
	return f->index + (1ull << f->order);
}
static inline bool folio_test(const struct folio *f, enum folio_flag b)
{
	return atomic_load(&f->flags) & (1u << b);
}
/* Return the bit's previous value. Acquire/release as the kernel's test_and_*_bit. */
bool folio_test_set(struct folio *f, enum folio_flag b);
bool folio_test_clear(struct folio *f, enum folio_flag b);
#define folio_test_locked(f)    folio_test(f, FOLIO_LOCKED)
#define folio_test_uptodate(f)  folio_test(f, FOLIO_UPTODATE)
#define folio_test_dirty(f)     folio_test(f, FOLIO_DIRTY)
#define folio_test_writeback(f) folio_test(f, FOLIO_WRITEBACK)

void folio_get(struct folio *f);
/* Drops a reference; the last one frees the folio (never while in a mapping: the mapping holds one). */
void folio_put(struct folio *f);
/* Sleeps. */
void folio_lock(struct folio *f);
bool folio_trylock(struct folio *f);
void folio_unlock(struct folio *f);
/* Sleep until the lock bit is clear, without taking it. Caller holds a reference. */
void folio_wait_locked(struct folio *f);
void folio_mark_uptodate(struct folio *f);
void folio_clear_uptodate(struct folio *f);
/* End of a read: sets uptodate on success, unlocks. */
void folio_end_read(struct folio *f, bool success);

/*
 * Mark dirty and tag; true if it was clean before. Folio locked, or the caller
 * otherwise keeps it from being truncated. Counts towards the dirty limits.
 */
bool filemap_dirty_folio(struct address_space *m, struct folio *f);
/* Calls mapping ops dirty_folio. */
bool folio_mark_dirty(struct folio *f);
/* Locked. Clears the flag for writeback, keeps the tag until start_writeback; true if it was dirty. */
bool folio_clear_dirty_for_io(struct folio *f);
/* Locked. Clears dirty without writing (truncation). */
void folio_cancel_dirty(struct folio *f);
/* Locked, not under writeback. Sets WRITEBACK, moves the tag; clears the dirty tag if clean. */
void folio_start_writeback(struct folio *f);
/* Any thread; must not sleep. Wakes waiters; drops a DROPBEHIND folio if clean and unused. */
void folio_end_writeback(struct folio *f);
void folio_wait_writeback(struct folio *f);
/*
 * After a DONTCACHE read: drop a DROPBEHIND folio that is clean and not locked. Others that hold it by
 * reference go on with a folio of no mapping. The caller holds a reference and not the lock; does not sleep.
 */
void folio_end_dropbehind(struct folio *f);

/* ---- Mapping -------------------------------------------------------------------- */

/* Error sequence (kernel lib/errseq.c): an error is seen once by each sampler. */
typedef struct {
	_Atomic uint32_t v;
} errseq_t;
typedef uint32_t errseq_mark_t;
void errseq_set(errseq_t *e, int err);
/* Value to keep at open; an error that nobody saw yet is reported to the next check. */
errseq_mark_t errseq_sample(errseq_t *e);
int errseq_check(errseq_t *e, errseq_mark_t since);
/* As check, and moves *since up to now. Callers serialize on *since. */
int errseq_check_and_advance(errseq_t *e, errseq_mark_t *since);

enum writeback_sync_modes { WB_SYNC_NONE, WB_SYNC_ALL };

struct writeback_control {
	enum writeback_sync_modes sync_mode; /* NONE: skip busy folios; ALL: wait for them */
	int64_t nr_to_write;                 /* pages left to write; counted down; LONG_MAX = all */
	uint64_t range_start, range_end;     /* bytes, inclusive end; UINT64_MAX = to the end */
	bool for_background, for_reclaim;
	uint64_t index;                      /* internal cursor of writeback_iter */
	uint64_t end_index;                  /* internal: last page this pass looks at */
	int saved_err;                       /* internal */
};

/*
 * Per-mapping callbacks. Folio locked where one is given, unless said. A NULL
 * member means the plain behaviour in brackets.
 */
struct address_space_operations {
	/* Write dirty folios of the range; folios not locked. May sleep. Never called by reclaim itself. */
	int (*writepages)(struct address_space *m, struct writeback_control *wbc);
	/* [filemap_dirty_folio] */
	bool (*dirty_folio)(struct address_space *m, struct folio *f);
	/* Free f->private if that loses nothing; false refuses. [true if private is NULL] */
	bool (*release_folio)(struct folio *f);
	/* Bytes [off, off+len) of the folio are gone; whole folio: free private. */
	void (*invalidate_folio)(struct folio *f, size_t off, size_t len);
	/* All blocks of the byte range uptodate? [false] */
	bool (*is_partially_uptodate)(struct folio *f, size_t from, size_t count);
	/*
	 * Keep the owner alive while a flusher or sync works on its mapping; false: it
	 * is going away, and what it still wants on disk it writes itself. No lock held.
	 */
	bool (*grab_host)(struct address_space *m);
	void (*put_host)(struct address_space *m);
};

/*
 * The cached folios of one file. Embedded in the owner's inode. Fields below
 * `internal` belong to folio/.
 */
struct address_space {
	struct folio_cache *cache;
	const struct address_space_operations *a_ops;
	void *host;                      /* the owner's (iomap: struct inode) */
	/* Insert folios: shared. Remove or punch folios: exclusive. Never two removers. */
	struct lk_rwlock invalidate_lock;
	errseq_t wb_err;
	unsigned min_order, max_order;   /* folio sizes allowed; mapping_set_folio_order_range */
	unsigned block_bytes;            /* what is_partially_uptodate tells apart; a power of two [512] */
	/* internal */
	struct lk_mutex tree_lock;       /* LK_MAPPING: index, tags, counts */
	void *tree;
	_Atomic uint64_t nr_pages;
	_Atomic uint64_t nr_dirty;       /* pages in dirty folios */
	_Atomic uint64_t nr_writeback;   /* pages under writeback */
	_Atomic uint64_t dirtied_when_ns; /* clock_mono_ns of the first dirty folio; 0 = clean */
	struct cds_list_head dirty_list; /* cache's list of mappings with dirty folios */
	struct cds_list_head wb_list;    /* cache's list of mappings under writeback */
	_Atomic unsigned wb_nr_errors;   /* mapping_set_error calls: tells new errors from old */
	_Atomic int wb_last_err;
	uint64_t wb_cursor;              /* page where the next background slice starts */
	uint64_t sync_seq, wait_seq;     /* last folio_cache_sync that wrote / waited for it */
	unsigned wb_pins;                /* a sync waits for its writeback */
	bool wb_running;                 /* a flusher or sync writes it now */
};

int mapping_init(struct address_space *m, struct folio_cache *c,
		 const struct address_space_operations *ops, void *host);
/*
 * Empty by now (truncate_inode_pages_range). Sleeps until no flusher looks at it:
 * hold no lock that grab_host takes.
 */
void mapping_destroy(struct address_space *m);
void mapping_set_folio_order_range(struct address_space *m, unsigned min, unsigned max);
void mapping_set_error(struct address_space *m, int err);
static inline bool mapping_tagged_dirty(struct address_space *m)
{
	return atomic_load(&m->nr_dirty) != 0;
}

/* ---- Lookup ------------------------------------------------------------------------ */

#define FGP_LOCK      (1u << 0) /* return it locked and still in the mapping */
#define FGP_CREAT     (1u << 1) /* make one when absent */
#define FGP_NOWAIT    (1u << 2) /* never sleep: -EAGAIN */
#define FGP_DONTCACHE (1u << 3) /* a folio made here is DROPBEHIND; one found without it loses it */
#define FGP_ACCESSED  (1u << 4) /* mark REFERENCED */
#define FGP_WRITEBEGIN (FGP_LOCK | FGP_CREAT)

/*
 * Find or make the folio that holds byte pos; referenced. With FGP_CREAT len_hint
 * bytes from pos suggest an order (within the mapping's range, naturally aligned,
 * never overlapping a present folio; smaller under memory pressure). New folios
 * come neither uptodate nor dirty. Caller holds invalidate_lock (shared is enough)
 * or i_rwsem when creating. -ENOENT absent, -EAGAIN, -ENOMEM.
 */
int filemap_get_folio(struct address_space *m, uint64_t pos, size_t len_hint, unsigned fgp,
		      struct folio **out);
/* Up to max folios that overlap bytes [*start, end]; referenced; *start moves past the last. */
unsigned filemap_get_folios(struct address_space *m, uint64_t *start, uint64_t end,
			    struct folio **batch, unsigned max);
/* Only dirty ones. */
unsigned filemap_get_folios_dirty(struct address_space *m, uint64_t *start, uint64_t end,
				  struct folio **batch, unsigned max);
/* Any folio (dirty or under writeback) in bytes [start, end]? Inclusive end, as in the kernel. */
bool filemap_range_has_page(struct address_space *m, uint64_t start, uint64_t end);
bool filemap_range_needs_writeback(struct address_space *m, uint64_t start, uint64_t end);
/* writeback iteration: next dirty folio locked and with dirty flag already cleared; NULL ends. */
struct folio *writeback_iter(struct address_space *m, struct writeback_control *wbc,
			     struct folio *prev, int *error);

/*
 * First byte in [start, end) that is (SEEK_DATA) / is not (SEEK_HOLE) held uptodate;
 * -ENXIO none. A folio that is not uptodate as a whole is asked block by block (block_bytes),
 * locked, through is_partially_uptodate.
 */
int64_t mapping_seek_hole_data(struct address_space *m, uint64_t start, uint64_t end, int whence);

/* ---- Whole ranges (bytes; `end` inclusive, as in the kernel) --------------------------- */

int filemap_fdatawrite_range(struct address_space *m, uint64_t start, uint64_t end,
			     enum writeback_sync_modes mode);
/* Waits for writeback; does not consume errors. */
void filemap_fdatawait_range(struct address_space *m, uint64_t start, uint64_t end);
/* Both; returns an error of this writeback if one came up meanwhile. */
int filemap_write_and_wait_range(struct address_space *m, uint64_t start, uint64_t end);
/* Drop folios of the range; partial edge folios are zeroed by nobody: callers zero through iomap. */
void truncate_inode_pages_range(struct address_space *m, uint64_t start, uint64_t end);
/* Wait for writeback, remove every folio in the range, in use or not; any re-dirtied -> -EBUSY. */
int invalidate_inode_pages2_range(struct address_space *m, uint64_t start, uint64_t end);
/* Drop what is clean and idle; returns pages dropped. Never sleeps. */
uint64_t invalidate_mapping_pages(struct address_space *m, uint64_t start, uint64_t end);

/* ---- The cache of a mount ------------------------------------------------------------- */

struct folio_cache_params {
	uint64_t limit_bytes;            /* clean + dirty; at least 8 MiB */
	uint64_t dirty_background_bytes; /* flushers start */
	uint64_t dirty_limit_bytes;      /* writers are slowed, then stopped */
	uint64_t dirty_expire_ns;        /* a mapping dirty this long is written; 0: never */
	unsigned nr_flushers;
};

struct folio_cache_stats {
	uint64_t cached_bytes, dirty_bytes, writeback_bytes, limit_bytes;
	uint64_t hits, misses, reclaimed, throttled, flushed_bytes;
};

/* Starts the flusher threads. Writeback they start runs through a_ops->writepages. */
int folio_cache_create(const struct folio_cache_params *p, struct folio_cache **out);
/* All mappings destroyed before. */
void folio_cache_destroy(struct folio_cache *c);
void folio_cache_get_stats(struct folio_cache *c, struct folio_cache_stats *st);
/* Start writeback of everything (wait=false) or also wait for it. */
int folio_cache_sync(struct folio_cache *c, bool wait);
/* Drop clean, idle folios of all mappings. */
void folio_cache_drop_clean(struct folio_cache *c);
/*
 * Slow a writer down to what writeback achieves; called after dirtying, no folio
 * lock held. nowait: -EAGAIN instead of sleeping. 0 otherwise.
 */
int balance_dirty_pages_ratelimited(struct address_space *m, bool nowait);

#pragma GCC visibility pop

#endif

/* SPDX-License-Identifier: MIT */
/*
 * extent - where a file's contents are: the extent map of an inode (a short list in the
 * inode, a tree when that overflows), the ranges promised but not yet allocated, and
 * contents that are still kept inside the inode.
 *
 * Units: file blocks ("fblk") and device blocks ("fsb"), both of fs->block_size bytes.
 * Everything named ext_ or da_ runs under ip->extlock unless it says otherwise. What changes
 * the map runs inside an ext_tx, which logs the inode and bumps map_seq at its end.
 */
#ifndef FS_EXTENT_H
#define FS_EXTENT_H

#include <bsd/sys/tree.h>

#include "fs_private.h"

/* One past the last block a file can have: keeps every byte position below 2^63. */
static inline uint64_t ext_max_fblk(const struct fs *fs)
{
	return (OD_FILE_SIZE_MAX >> fs->block_shift) + 1;
}
static inline uint64_t fblk_of(const struct fs *fs, uint64_t pos)
{
	return pos >> fs->block_shift;
}
static inline uint64_t fblk_up(const struct fs *fs, uint64_t pos)
{
	return (pos >> fs->block_shift) + ((pos & (fs->block_size - 1)) != 0);
}
/* The on-disk size; completions look at it without extlock. */
static inline uint64_t disk_size_read(struct fs_inode *ip)
{
	return __atomic_load_n(&ip->disk_size, __ATOMIC_RELAXED);
}
static inline void disk_size_write(struct fs_inode *ip, uint64_t size)
{
	__atomic_store_n(&ip->disk_size, size, __ATOMIC_RELAXED);
}

/* ---- Extent map (extent_store.c, extent.c) ---------------------------------------------- */

struct extent {
	uint64_t fblk;  /* first file block */
	uint64_t start; /* fsb */
	uint64_t len;   /* blocks, 1..OD_EXTENT_LEN_MAX */
	bool unwritten; /* reads as zeros */
};
static inline uint64_t ext_end(const struct extent *e)
{
	return e->fblk + e->len;
}

/* Records as they are stored: no merging, no space. -EAGAIN (BUF_NOWAIT), -EFSCORRUPTED, -EIO. */
/* Records that fit in the inode beside its attributes. */
unsigned ext_list_cap(const struct fs_inode *ip);
/* Take ext_root from the area of an inode just read. */
void ext_load(struct fs_inode *ip);
/* First extent that ends after fblk: 1 found, 0 none. */
int ext_find(struct fs_inode *ip, uint64_t fblk, unsigned flags, struct extent *out);
/* The last extent that begins at or before fblk: 1 found, 0 none. */
int ext_find_le(struct fs_inode *ip, uint64_t fblk, unsigned flags, struct extent *out);
/* Bring what a change at fblk may touch into memory. */
int ext_prefetch(struct fs_inode *ip, uint64_t fblk, unsigned flags);
int ext_store_insert(struct jnl_handle *h, struct fs_inode *ip, const struct extent *e);
int ext_store_delete(struct jnl_handle *h, struct fs_inode *ip, uint64_t fblk);
/* Record old_fblk becomes e; its place among its neighbours does not change. */
int ext_store_replace(struct jnl_handle *h, struct fs_inode *ip, uint64_t old_fblk,
		      const struct extent *e);

/* What one map change of the worst kind may need on a map of this height. */
struct ext_budget {
	unsigned height;    /* 0: list; tree: level of the root + 1 */
	unsigned credits;   /* tree, nodes, inode and one ag_alloc/free_blocks */
	uint64_t meta_fsb;  /* to reserve for new nodes */
};
/* flags: EXT_TX_*. */
void ext_budget_get(struct fs_inode *ip, unsigned flags, struct ext_budget *b);

/*
 * A map change: handle open, extlock held, enough space and credits for one change of
 * the worst kind. begin takes neither lock nor handle before; may sleep.
 */
struct ext_tx {
	struct jnl_handle *h;
	struct ext_budget budget;
	unsigned flags;      /* EXT_TX_* */
	uint64_t reserved;   /* metadata fsbs to give back at the end */
	bool changed;        /* the map: map_seq moves, inode logged for fdatasync */
	bool dirty;          /* only attributes: inode logged */
};
#define EXT_TX_HARD     (1u << 0) /* space may come from the pool */
#define EXT_TX_PROMISED (1u << 1) /* the delalloc promise holds the space for nodes */
#define EXT_TX_INLINE   (1u << 2) /* fs_inline_finish itself */
#define EXT_TX_REMAP    (1u << 3) /* ext_remap_step */
/* extra: credits beyond the budget (orphan list). -ENOSPC, -EROFS, read errors. */
int ext_tx_begin(struct fs_inode *ip, unsigned flags, unsigned extra, struct ext_tx *tx);
/* Log what changed, drop extlock, close the handle, give the reservation back. */
void ext_tx_end(struct fs_inode *ip, struct ext_tx *tx);
/* Is there room in the handle for one more change? */
bool ext_tx_room(struct fs_inode *ip, const struct ext_tx *tx);

/*
 * Allocate at most want blocks for the hole at fblk as one UNWRITTEN extent; *got blocks.
 * Data blocks are reserved by the caller, consumed here. One per ext_tx.
 */
int ext_alloc(struct fs_inode *ip, struct ext_tx *tx, uint64_t fblk, uint64_t want, uint64_t *got);
/* Add a record for blocks that are allocated, merged with its neighbours. */
int ext_insert(struct fs_inode *ip, struct ext_tx *tx, const struct extent *e);
/*
 * Turn the unwritten part of the first extent at or after *fblk and before end into written;
 * *fblk moves past that extent (to end when nothing is left).
 */
int ext_convert_step(struct fs_inode *ip, struct ext_tx *tx, uint64_t *fblk, uint64_t end);
/*
 * Unmap and free the last extent, or part of it, in [from, end): *more tells whether
 * another may be there. From the end, so that a crash in a truncation leaves a prefix.
 */
int ext_free_step(struct fs_inode *ip, struct ext_tx *tx, uint64_t from, uint64_t end, bool *more);

/*
 * Map what begins at fblk to other blocks, written: at most e->len of them, and no more than one old extent
 * or hole holds; *done. e->start is held (ag_hold_blocks), or with `share` another extent's, which gets
 * one owner more. What was mapped there loses this one. In an ext_tx with EXT_TX_REMAP. -EAGAIN as by
 * refc_share.
 */
int ext_remap_step(struct fs_inode *ip, struct ext_tx *tx, const struct extent *e, bool share,
		   uint64_t *done);
/* Inside an ext_tx: the size reaches `size` in memory (grow) and on disk, no further than in memory. */
void ext_raise_size(struct fs_inode *ip, struct ext_tx *tx, uint64_t size, bool grow);

/* Whole operations over the above; take their own locks. */
/*
 * Data of [pos, pos+len) is on the device. grow: i_size follows (direct I/O); else the size
 * on disk follows i_size no further than pos + len.
 */
int ext_complete_write(struct fs_inode *ip, uint64_t pos, uint64_t len, bool convert, bool grow);
int ext_punch_range(struct fs_inode *ip, uint64_t from, uint64_t end);
/* Fill the holes of [from, end) with UNWRITTEN extents; delalloc becomes real as well. */
int ext_alloc_range(struct fs_inode *ip, uint64_t from, uint64_t end, unsigned ctx_flags);

/*
 * Take the blocks [at, at+len) out of the file, or put a hole of len blocks at `at`; the size
 * follows. All or nothing, also across a power cut (extent_shift.c). Both locks exclusive, the
 * file written back, nothing of it cached from `at` on, on disk as long as in memory; takes its
 * handles. An error behind the first step makes the file FS_I_BAD.
 */
int ext_shift(struct fs_inode *ip, enum od_shift op, uint64_t at, uint64_t len);
/* The rest of one that ip->shift tells of: at mount. */
int ext_shift_finish(struct fs_inode *ip);

/* ---- Promises (delalloc.c) --------------------------------------------------------------- */

struct da_range {
	RB_ENTRY(da_range) node;
	uint64_t fblk, len; /* never adjacent to another range like it: those are merged */
	uint64_t start;     /* copy-on-write: fsb held for it; 0: only promised */
};
RB_HEAD(da_tree, da_range);

/* In-core state of a regular file's contents; ip->delalloc. Guarded by extlock if unsaid. */
struct delalloc {
	struct da_tree ranges;     /* over holes: promised, without a place */
	struct da_tree cow;        /* over shared or to be replaced blocks (cow.c) */
	uint64_t cow_blocks;       /* of cow, promised or held */
	struct da_range *spare;    /* so that splitting a range cannot fail */
	uint64_t meta_fsb;         /* reserved for tree nodes that both may need */
	bool inline_out;           /* contents left the inode in memory; the area still has them */
	_Atomic bool speculated;   /* blocks past EOF were promised that nobody asked for */
	bool keep_eof;             /* blocks past EOF were asked for (fallocate) */
	pthread_cond_t ioend_idle; /* with ioend_lock: ioend_queued fell */
};

/* Regular file? Constant, unlike the mode that carries the same fact beside the permissions. */
static inline bool fs_is_reg(const struct fs_inode *ip)
{
	return ip->delalloc != NULL;
}
/*
 * One tree of ranges, without the accounts that its callers keep. find: the first range that ends after
 * fblk, or NULL. add: -ENOMEM. cut: take [fblk, end) out of r, which overlaps it; blocks cut, 0 when
 * there was no memory to split it.
 */
struct da_range *da_tree_find(struct da_tree *t, uint64_t fblk);
int da_tree_add(struct delalloc *da, struct da_tree *t, uint64_t fblk, uint64_t len, uint64_t start);
uint64_t da_tree_cut(struct delalloc *da, struct da_tree *t, struct da_range *r, uint64_t fblk,
		     uint64_t end);
/* Give back what the promises no longer need of their metadata reservation. */
void da_meta_settle(struct fs_inode *ip);
/* First range that ends after fblk, or NULL. */
struct da_range *da_find(struct fs_inode *ip, uint64_t fblk);
static inline uint64_t da_end(const struct da_range *r)
{
	return r->fblk + r->len;
}
/* fsbs of metadata to hold when `blocks` are promised on the map as it is. */
uint64_t da_meta_target(struct fs_inode *ip, uint64_t blocks);
/* fsbs to reserve before `blocks` more are promised. */
uint64_t da_need(struct fs_inode *ip, uint64_t blocks);
/*
 * Promise [fblk, fblk+len), a hole. reserved: what the caller reserved for it, len
 * and metadata; taken over on success. -ENOMEM, nothing taken.
 */
int da_add(struct fs_inode *ip, uint64_t fblk, uint64_t len, uint64_t reserved);
/* Withdraw what is promised of [fblk, end); blocks withdrawn. used: they were allocated. */
uint64_t da_remove(struct fs_inode *ip, uint64_t fblk, uint64_t end, bool used);
/*
 * Withdraw what was promised speculatively behind `size`, up to block `end`: the file is about
 * to grow over it by other means than writing it, and a promise inside the file that no
 * dirty folio lies on is never kept. invalidate_lock exclusive; takes extlock.
 */
void da_withdraw_behind(struct fs_inode *ip, uint64_t size, uint64_t end);
int da_init(struct fs_inode *ip);
void da_destroy(struct fs_inode *ip);
/* Make the promise around fblk real, one UNWRITTEN extent if it can be; no lock held. None: 0. */
int da_convert(struct fs_inode *ip, uint64_t fblk);

/* ---- Copy on write (cow.c) ---------------------------------------------------------------- */
/*
 * Blocks that are to be written somewhere else than where the map says. First promised (by a buffered
 * write, as a hole's blocks are), then staged: held blocks, to which writeback or a direct write sends
 * the data, and which ext_complete_cow puts into the map. The map shows the old blocks till then.
 */

/* May any block of the file be shared? extlock, or i_rwsem. */
static inline bool fs_may_share(const struct fs_inode *ip)
{
	return ip->data_flags & OD_DATAF_SHARED;
}
/* No block is mapped or on its way into the map: then none is shared. extlock and i_rwsem exclusive held. */
void cow_none_left(struct fs_inode *ip);
/*
 * Look at every extent: no block has another owner, nor had one before the last commit? Then the file says
 * so again. i_rwsem exclusive held, for sharing takes it too: what was found unshared stays so. No handle, no
 * extlock. Costs by extents, up to the first that is shared. Read errors, -EROFS.
 */
int cow_try_unflag(struct fs_inode *ip);
/*
 * m, MAPPED at fblk, as who asks for layout should see it: cut where sharing begins or ends, with
 * IOMAP_F_SHARED. nowait: -EAGAIN. extlock held.
 */
int cow_report(struct fs_inode *ip, uint64_t fblk, bool nowait, struct iomap *m);
/*
 * A buffered write to [pos, pos+length) meets m, MAPPED: unshared, m is cut to what is; shared, *srcmap
 * becomes m, and m a promise. -ENOSPC with *want: what could not be reserved; last_try: for less
 * than that. extlock held.
 */
int cow_map_write(struct fs_inode *ip, uint64_t pos, uint64_t length, unsigned flags, bool last_try,
		  struct iomap *m, struct iomap *srcmap, uint64_t *want);
/*
 * Writeback, or a direct write, of block fblk meets m: staged, m is where to write (SHARED);
 * unshared, m is cut to what is. Shared and not staged: writeback (nr_blocks > 0) stages it; for
 * direct writes (nr_blocks 0) it is -EREMCHG, and cow_stage is next. extlock held.
 */
int cow_map_out(struct fs_inode *ip, uint64_t fblk, uint64_t nr_blocks, bool nowait, struct iomap *m);
/*
 * Stage the front of [fblk, end), whatever is mapped there, at least one block. No lock of ours but
 * i_rwsem exclusive, with no cache over the range. -ENOSPC.
 */
int cow_stage(struct fs_inode *ip, uint64_t fblk, uint64_t end);
/* Is fblk staged? Then *m is where to write it. extlock held. */
bool cow_staged_at(struct fs_inode *ip, uint64_t fblk, struct iomap *m);
/* Take back what is only promised of [fblk, end) / all of it, which must not be in flight. extlock held. */
uint64_t cow_withdraw(struct fs_inode *ip, uint64_t fblk, uint64_t end);
uint64_t cow_cancel(struct fs_inode *ip, uint64_t fblk, uint64_t end);
/* The I/O to what was staged of the range failed: the old blocks stay. Takes extlock. */
void cow_failed(struct fs_inode *ip, uint64_t pos, uint64_t len);
/* As ext_complete_write, for what was staged of the range; at_once: in one transaction. */
int ext_complete_cow(struct fs_inode *ip, uint64_t pos, uint64_t len, bool grow, bool at_once);

/* ---- Contents inside the inode (inline.c) -------------------------------------------------- */

/* Largest file that may live in the inode. */
unsigned fs_inline_cap(const struct fs_inode *ip);
static inline bool fs_is_inline(const struct fs_inode *ip)
{
	return ip->data_fmt == OD_DATA_INLINE && !ip->delalloc->inline_out;
}
/*
 * Before a change up to byte `end`: empty files choose their format, contents that will
 * not fit any more move to the cache. i_rwsem exclusive. -EAGAIN (FS_NOWAIT), -ENOSPC.
 */
int fs_inline_prepare(struct fs_inode *ip, uint64_t end, unsigned ctx_flags);
/* Move the contents out of the inode whatever their size. i_rwsem exclusive. */
int fs_inline_expand(struct fs_inode *ip, unsigned ctx_flags);
/* The same where they are inside; nothing else. i_rwsem exclusive. */
int fs_inline_leave(struct fs_inode *ip);
/* The old contents to a block of their own, then the format changes; no lock held but a folio's. */
int fs_inline_finish(struct fs_inode *ip);
/* Set the length of inline contents, zero-filled; extlock held. */
void fs_inline_set_size(struct fs_inode *ip, unsigned len);

/* ---- iomap (iomap_ops.c, iomap_ops_direct.c, writeback.c) ------------------------------------ */

extern const struct iomap_ops fs_read_iomap_ops;    /* reads, buffered and direct */
extern const struct iomap_ops fs_report_iomap_ops;  /* seek, fiemap, bmap */
extern const struct iomap_ops fs_write_iomap_ops;   /* buffered writes */
extern const struct iomap_ops fs_zero_iomap_ops;    /* zero range, truncate page */
extern const struct iomap_ops fs_dwrite_iomap_ops;  /* direct writes */
extern const struct iomap_ops fs_untorn_iomap_ops;  /* untorn writes, by replacement */
extern const struct iomap_dio_ops fs_untorn_dio_ops;
extern const struct iomap_write_ops fs_iomap_write_ops;
extern const struct iomap_dio_ops fs_dio_write_ops;
extern const struct address_space_operations fs_file_aops;
extern const struct inode_operations_hooks fs_file_hooks;

/* untorn.c: credits to replace so many blocks more at once; can the device do it, where m has the range? */
unsigned fs_untorn_credits(struct fs *fs, uint64_t blocks);
bool fs_untorn_by_device(struct fs_inode *ip, const struct iomap *m, uint64_t pos, uint64_t length);

/* The mapping at fblk; extlock held. HOLE reaches to the next extent or promise. */
int fs_map_at(struct fs_inode *ip, uint64_t fblk, unsigned bufflags, struct iomap *m);
/* Wait until no completion of this file is queued or running. */
void fs_ioend_wait_idle(struct fs_inode *ip);
void fs_ioend_worker(struct work *w);

/* ---- Shared by the operations (file.c, truncate.c) --------------------------------------------- */

/* -EPERM immutable (append-only if append_ok is false), -ETXTBSY swap, -EISDIR/-EINVAL type. */
int fs_file_may_change(struct fs_inode *ip, bool append_ok);
/* mtime and ctime now, in memory. -EAGAIN with FS_NOWAIT when extlock is busy. */
int fs_file_touch(struct fs_inode *ip, unsigned ctx_flags);
/* Zero bytes [pos, end) through the cache and the engine; both locks exclusive. */
int fs_zero_bytes(struct fs_inode *ip, uint64_t pos, uint64_t end, bool *did_zero);
/* Make [pos, end) disappear from the cache without writing it; both locks exclusive. */
int fs_drop_cache(struct fs_inode *ip, uint64_t pos, uint64_t end);
/* i_size grows: zero the old tail, write what the new size exposes, log. Both locks exclusive. */
int fs_extend_size(struct fs_inode *ip, uint64_t size);
/* Make the file at least `size` long; takes its locks. */
int fs_grow_size(struct fs_ctx *ctx, struct fs_inode *ip, uint64_t size);
/* Is there anything for fs_kill_priv to clear? True also when nobody looked yet. */
bool fs_has_priv(struct fs_inode *ip);
/* FALLOC_FL_COLLAPSE_RANGE and _INSERT_RANGE (falloc_shift.c); takes its locks, inside fs_start_change. */
int fs_falloc_shift(struct fs_ctx *ctx, struct fs_inode *ip, int mode, uint64_t offset,
		    uint64_t len);
/* The locked twin of fs_trim_eofblocks: i_rwsem exclusive. */
int fs_trim_eofblocks_locked(struct fs_inode *ip);
/* Make all that was done to the inode durable; datasync: only what its data needs. */
int fs_sync_inode_log(struct fs_inode *ip, bool datasync);
int fs_sync_range(struct fs_inode *ip, uint64_t start, uint64_t end, bool datasync);
/* Data of [start, end] on the device, also what areas of the process stored; not the map. */
int fs_write_and_wait(struct fs_inode *ip, uint64_t start, uint64_t end);

#endif

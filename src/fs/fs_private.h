/* SPDX-License-Identifier: MIT */
/*
 * What the files of src/fs share: struct fs, struct fs_inode and the calls between
 * its rooms. Rooms: mount.c super.c (mount, superblock, background), btree.c, ag.c space.c
 * (allocation groups, counters), icache.c inode.c ialloc.c orphan.c (inodes), extent.c
 * delalloc.c iomap_ops.c writeback.c file.c falloc.c truncate.c (contents), dir*.c namei.c
 * rename.c xattr.c acl.c symlink.c (names).
 */
#ifndef FS_PRIVATE_H
#define FS_PRIVATE_H

#include "btree.h"
#include "iomapfs/fs.h"
#include "iomapfs/util.h"

/* ---- Inode ------------------------------------------------------------------------- */

/*
 * In-core inode. Guards: [I] i_rwsem of vfs, [X] extlock, [c] constant, [a] atomic.
 * On-disk copy: encoded into its inode block by fs_ilog.
 */
struct fs_inode {
	struct inode vfs;              /* i_size inside */
	struct fs *fs;                 /* [c] */
	uint64_t ino;                  /* [c] */
	_Atomic int refs;
	struct lk_mutex extlock;       /* [X] LK_EXTLOCK */

	/* Attributes, all [X] for change; read under [X] or torn-safe single fields. */
	uint32_t mode, nlink, uid, gid, gen, flags, projid, rdev_major, rdev_minor;
	struct timespec atime, mtime, ctime, btime;
	uint64_t version;
	uint64_t parent;
	uint64_t disk_size;            /* [X] size as logged; <= i_size while data is in flight */
	uint64_t nr_blocks;            /* [X] 512-byte units on disk */
	uint64_t nr_extents;           /* [X] */
	uint8_t data_fmt, attr_fmt;    /* [X] */
	uint16_t data_flags;           /* [X] OD_DATAF_*; changed only with i_rwsem exclusive too */
	uint16_t data_len, attr_len;   /* [X] */
	uint8_t area[OD_INODE_AREA];   /* [X] image of the on-disk area */

	struct fs_shift {              /* [X] a collapse or insertion under way, as on disk; op 0: none */
		uint32_t op;           /* enum od_shift */
		uint64_t at, len, next;
	} shift;
	_Atomic uint64_t map_seq;      /* [X] for change: bumped on EVERY extent change (validity cookie) */
	struct bt_root ext_root;       /* [X] mirrors area when data_fmt is TREE */
	struct delalloc *delalloc;     /* [X] ranges promised, not allocated; extent.h */
	uint64_t delalloc_blocks;      /* [X] fsbs promised (data only) */
	uint64_t alloc_hint;           /* [X] fsb near which to allocate; 0 = none */
	_Atomic int writers, swap_pins, opens;
	_Atomic bool emptied;          /* cut to nothing: what is written next is written at close */
	_Atomic bool xattr_none;       /* no security.capability: answers the kernel's question inline */

	/* Directory state; guarded by i_rwsem, changes by i_rwsem exclusive. */
	struct dir_state *dir;

	/* icache.c */
	_Atomic unsigned state;        /* FS_I_* */
	struct cds_list_head hash, lru, dirty_list;
	jnl_tid_t last_tid;            /* [X] transaction that logged this inode last */
	jnl_tid_t data_tid;            /* [X] last that fdatasync needs: size, extents */
	struct work inactive_work;
	struct cds_list_head ioend_list; /* writeback.c: completions waiting */
	struct work ioend_work;
	pthread_mutex_t ioend_lock;
	bool ioend_queued;
};
#define FS_I_NEW      (1u << 0) /* being read: not usable yet */
#define FS_I_DIRTY    (1u << 1) /* attributes newer than the inode block (lazy times, size) */
#define FS_I_FREEING  (1u << 2)
#define FS_I_ORPHAN   (1u << 3) /* on the orphan list */
#define FS_I_BAD      (1u << 4) /* contents half-way through a shift: every operation is -EFSCORRUPTED */
#define FS_I_TRUNCATE (1u << 5) /* on the orphan list as OD_ORPHAN_TRUNCATE or _SHIFT */
#define FS_I_LINKABLE (1u << 6) /* O_TMPFILE: nlink 0, but may still get a name */

#define FS_I(inode) container_of((inode), struct fs_inode, vfs)

struct fs_ag;
struct fs {
	struct bd *bd;
	struct sb_info sb;
	struct od_ctx od;
	struct fs_mount_opts opts;
	struct buf_cache *bc;
	struct jnl *jnl;
	struct folio_cache *fc;
	struct iomap_dev *idev;        /* the engine's view of bd (iodev.c) */
	struct iomap_dax_dev *dax;     /* [c] its memory (dax.c); NULL without -o dax */
	struct work_pool *ioend_pool;  /* conversions after writeback */
	struct work_pool *dio_pool;    /* completions of direct I/O, which wait for the former */
	struct work_pool *bg_pool;     /* inactivation, trims, other background work */
	unsigned block_shift;
	uint32_t block_size;
	struct fs_ag *ags;             /* nr_ags of them */
	struct lk_rwlock freeze_lock;  /* LK_FS_MOUNT: shared by every change */
	struct lk_mutex rename_lock;   /* LK_FS_RENAME */
	_Atomic bool shutdown;         /* nothing is changed any more */
	_Atomic bool forced_down;      /* nor read: it was asked for; shutdown follows */
	_Atomic bool readonly;
	bool mounted_readonly;         /* [c] the journal was opened so */
	struct space *space;           /* space.c: global counters */
	struct icache *icache;         /* icache.c */
	struct fs_mmp *mmp;            /* mmp.c: NULL while the protection is off */
	struct fs_bg *bg;              /* super.c: periodic thread */
	_Atomic unsigned stat_dirs_spread; /* ialloc.c: rotor of new top-level directories */
	_Atomic uint64_t stat_alloc_calls, stat_alloc_blocks, stat_free_calls, stat_splits;
};

/*
 * Every operation that changes something brackets itself with these two, outermost, once
 * (not nested; background work that fs_remount waits for does without). Shared freeze_lock;
 * -EROFS (also after a shutdown), -EIO (forced down), -EAGAIN (flags & FS_NOWAIT).
 */
int fs_start_change(struct fs *fs, unsigned flags);
void fs_end_change(struct fs *fs);

/* A structural fault: logs "corruption in <where>: <test>", applies errors=; returns -EFSCORRUPTED. */
int fs_corrupt(struct fs *fs, const char *where, uint64_t id, const char *test);

/* ---- Space (space.c, ag.c) ---------------------------------------------------------------- */
/*
 * Three global counters, in fsbs:
 *   free      blocks in the FREE_POS trees that may be handed out now: not busy (freed by a
 *             transaction that has not committed), not set aside for the groups' own trees;
 *   reserved  promised to callers that have not used or returned it yet;
 *   pool      constant: what only `hard` reservations may dip into (conversions, completions,
 *             unlink, truncate: things that must work on a full file system).
 * A reservation of n succeeds iff free - reserved - pool >= n (hard: without pool).
 *
 * Rules for callers:
 *  1. Reserve before the handle starts, everything that the operation may need at worst:
 *     data blocks one for one, metadata through space_meta_fsbs (nodes, blobs, directory
 *     blocks, an inode by ialloc_space: together, in one sum).
 *  2. Data: ag_alloc_blocks turns `len` reserved blocks into used ones (free and reserved both
 *     go down by len). The caller returns only what it did not get.
 *  3. Metadata: ag_alloc_mblk and ialloc_new leave `reserved` alone; they lower `free` when
 *     they take a new cluster. The caller returns its whole metadata reservation after
 *     jnl_stop. The sum can be short of the truth for that moment, never beyond it.
 *  4. Freeing needs no reservation (nodes of the group's trees come from the group's own
 *     set-aside); what it frees becomes `free` at the commit, so a loop that frees in
 *     order to allocate must go through space_reserve_or_flush.
 * With 1 to 3 ag_alloc_mblk cannot fail for want of space, ag_alloc_blocks with min 1
 * neither (only -EAGAIN, I/O errors), and -ENOSPC comes from space_reserve* alone.
 */
int space_reserve(struct fs *fs, uint64_t nr_fsb, bool hard); /* -ENOSPC; never sleeps */
void space_unreserve(struct fs *fs, uint64_t nr_fsb);
/*
 * space_reserve; when it fails: flush delalloc, trim preallocation, force a commit, once, and
 * try again. ctx_flags with FS_NOWAIT: -EAGAIN instead of the sleeping part. Call it with
 * no handle open, no extlock and no i_rwsem of a directory held shared; an i_rwsem held
 * exclusively is skipped by the flush (it only tries).
 */
int space_reserve_or_flush(struct fs *fs, uint64_t nr_fsb, unsigned ctx_flags);
/* fsbs to reserve for `nodes` metadata blocks in the worst case. */
uint64_t space_meta_fsbs(struct fs *fs, unsigned nodes);

struct fs_alloc_req {
	uint64_t hint;       /* fsb to be near; 0 = none */
	uint64_t min, want;  /* blocks */
	uint64_t align;      /* fsbs; 0 or 1 = none */
	uint64_t start, len; /* result */
};
/*
 * Allocate data blocks inside a handle with AG_CREDITS reserved; consumes `len` from the
 * caller's space reservation. Takes one group lock at a time. -ENOSPC only when nothing of
 * `min` exists anywhere. Prefetches before it changes: -EAGAIN with NOWAIT.
 */
int ag_alloc_blocks(struct fs *fs, struct jnl_handle *h, unsigned flags, struct fs_alloc_req *req);
/* Free data blocks; busy until the handle's transaction commits (then discarded if asked). */
int ag_free_blocks(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len);
/*
 * Shared blocks (refc.c). All take one group's lock. A run is the part at the start of [start,
 * start+len), which lies in one group, whose blocks have the same number of owners.
 */
/*
 * *refs owners (1: not shared) of the first *run_len blocks. flags: FS_NOWAIT: -EAGAIN. settled: may the
 * owner write in place? Not where the other one left in a transaction that has not committed.
 */
int refc_query(struct fs *fs, uint64_t start, uint64_t len, unsigned flags, bool settled,
	       uint32_t *refs, uint64_t *run_len);
/*
 * One owner more for the first run, *done blocks; refc_credits. Nothing was done when it fails: -EAGAIN:
 * call refc_top_up without a handle, then try again; -EMLINK; read errors.
 */
int refc_share(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len, uint64_t *done);
/* Sleeps for a handle of its own. -ENOSPC: the group is too full to share more of it. */
int refc_top_up(struct fs *fs, uint64_t fsb);
/*
 * One owner less for the first run, or with from_end for the last one, *done blocks, which are free (as by
 * ag_free_blocks) when it was the only one. ag_credits + refc_credits.
 */
int refc_put(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len, bool from_end,
	     uint64_t *done);
unsigned refc_credits(struct fs *fs);
/*
 * Blocks that are to be written before anything says they are in use (ag_hold.c). Free on disk, and in
 * the free space trees, but nobody else gets them: a power cut needs no repair.
 */
/* Chosen as by ag_alloc_blocks, and as many of the caller's reserved blocks are used up. No handle. */
int ag_hold_blocks(struct fs *fs, unsigned flags, struct fs_alloc_req *req);
/* Held blocks become used ones; ag_credits. */
int ag_take_held(struct fs *fs, struct jnl_handle *h, uint64_t start, uint64_t len);
/* Held blocks are as free as they were. */
void ag_unhold(struct fs *fs, uint64_t start, uint64_t len);
/* One metadata block near `hint_mblk`'s group. */
int ag_alloc_mblk(struct fs *fs, struct jnl_handle *h, uint64_t hint_mblk, uint64_t *mblk);
/* Also jnl_forget. */
int ag_free_mblk(struct fs *fs, struct jnl_handle *h, uint64_t mblk);
/* Journal credits that one ag_alloc_blocks or ag_free_blocks needs at worst. */
unsigned ag_credits(struct fs *fs);
/* For each further one in the same handle, whose refills of reserves are spread over them. */
unsigned ag_more_credits(struct fs *fs);
/* Credits for n ag_alloc_mblk/ag_free_mblk in one handle (the blocks themselves not included). */
unsigned ag_mblk_credits(struct fs *fs, unsigned n);
/* Node allocation for trees of inodes: bt_alloc_ops over ag_alloc_mblk; btree.private = fs_inode. */
extern const struct bt_alloc_ops inode_bt_ops;

/* ---- Inodes (icache.c, inode.c, ialloc.c, orphan.c) --------------------------------------------- */

/* Encode and log the inode into its block; extlock held; its inode block's buffer must be
 * cached already (fs_ilog_prepare), 1 credit. Sets last_tid, and data_tid if `datasync`. */
int fs_ilog_prepare(struct fs_inode *ip, unsigned flags); /* -EAGAIN, read errors */
void fs_ilog(struct jnl_handle *h, struct fs_inode *ip, bool datasync);
/* In-core attributes changed; logged by fsync, the periodic thread, writeback or eviction. */
void fs_mark_inode_dirty(struct fs_inode *ip);
/* Log it now if dirty, in a handle of its own. */
int fs_inode_flush(struct fs_inode *ip);
int fs_flush_dirty_inodes(struct fs *fs);
/*
 * Reference an in-core inode that may be unreferenced (a flusher found its mapping): false when
 * it is being evicted, whose own writeback then takes care of its data. Any lock may be held
 * but those of rank LK_ICACHE and above.
 */
bool fs_iref_live(struct fs_inode *ip);
/* Walk the in-core inodes that have delalloc or post-EOF blocks and get them written or trimmed. */
int fs_flush_delalloc(struct fs *fs);

/*
 * Allocate an inode near its parent (directories spread over groups), in-core, referenced,
 * not yet logged: caller fills it in and calls fs_ilog in the same handle.
 */
int ialloc_new(struct fs *fs, struct jnl_handle *h, struct fs_inode *parent, mode_t mode,
	       struct fs_inode **out);
/* What may fail of the above, before the first change: -EAGAIN, -ENOSPC, read errors. */
int ialloc_prepare(struct fs *fs, struct fs_inode *parent, mode_t mode, unsigned flags);
int ialloc_free(struct fs *fs, struct jnl_handle *h, struct fs_inode *ip);
unsigned ialloc_credits(struct fs *fs);
/* fsbs to reserve before ialloc_new: a new inode cluster and tree nodes. */
uint64_t ialloc_space(struct fs *fs);
int orphan_add(struct jnl_handle *h, struct fs_inode *ip, enum od_orphan kind);
int orphan_del(struct jnl_handle *h, struct fs_inode *ip);
int orphan_prepare(struct fs_inode *ip, unsigned flags);
unsigned orphan_credits(struct fs *fs);
/* At mount: finish every orphan. */
int orphan_recover(struct fs *fs);
/* Last reference of an unlinked inode: contents, attributes, inode. In bg_pool. */
void fs_inactivate(struct fs_inode *ip);

/* ---- Contents (extent.c, truncate.c, file.c) ------------------------------------------------------ */

/* Free all data from byte `from` on in bounded transactions; i_rwsem exclusive or inode unreachable. */
int extent_truncate(struct fs_inode *ip, uint64_t from);
/* Trim blocks past EOF that nobody asked for; never sleeps with `try`. */
int fs_trim_eofblocks(struct fs_inode *ip);
/* Set up vfs part and in-core data state of an inode just read or made; undo it. */
int fs_file_init(struct fs_inode *ip);
void fs_file_destroy(struct fs_inode *ip);
/* Write and wait all data of the inode, then log it. */
int fs_inode_writeback(struct fs_inode *ip, bool wait);
/* truncate(2) body; i_rwsem taken inside; the caller is inside fs_start_change. */
int fs_setsize(struct fs_ctx *ctx, struct fs_inode *ip, uint64_t size);
/*
 * Clear suid/sgid/security.capability as the flags and mode demand; in memory + logged.
 * i_rwsem exclusive, extlock not held, inside fs_start_change. FS_NOWAIT: -EAGAIN if there is
 * anything to clear.
 */
int fs_kill_priv(struct fs_ctx *ctx, struct fs_inode *ip, bool force);

/* ---- Names (dir.c, xattr.c) --------------------------------------------------------------------------- */

/*
 * The inode's area has two tenants. Data (extent list, inline data, directory root, symlink)
 * starts at 0 and may grow to FS_AREA_DATA_MAX, as far as the attributes at the end let it:
 * the rest is for the address of an attribute blob, so that attributes can always be set.
 * Attributes leave FS_AREA_DATA_MIN for data: an extent list that grows beyond what is left
 * becomes a tree, which always fits.
 */
#define FS_AREA_DATA_MIN 128u
#define FS_AREA_DATA_MAX (OD_INODE_AREA - 8u)

int dir_init_inode(struct fs_inode *ip);       /* read side state of a directory inode */
void dir_destroy_inode(struct fs_inode *ip);
/* Free all directory blocks and trees of an empty directory; i_rwsem exclusive or unreachable. */
int dir_free_all(struct fs_inode *ip);
/* Free symlink blob and attribute blobs at inactivation. */
int xattr_free_all(struct fs_inode *ip);
int symlink_free(struct fs_inode *ip);
/*
 * For fs_kill_priv and fs_setattr: i_rwsem held exclusively, inside fs_start_change, no handle
 * open, extlock not held. One handle of their own. Nothing to do is 0 (-ENODATA never).
 */
int xattr_remove_locked(struct fs_ctx *ctx, struct fs_inode *ip, const char *name);
/*
 * chmod: if there is an access ACL, it and ip->mode (permission bits of `mode`, type kept) change
 * together, logged, with ctime stamped; without one nothing is done and the caller sets the mode.
 */
int acl_chmod(struct fs_ctx *ctx, struct fs_inode *ip, mode_t mode);
/*
 * Spill attributes inside the area to a blob so that data may take up to FS_AREA_DATA_MAX.
 * extlock held; the handle has 1 + ag_mblk_credits(fs, 1) credits for it, the caller
 * space_meta_fsbs(fs, 1) reserved. Nothing inline: 0. An error: abort. The caller logs the inode.
 */
int xattr_make_room(struct jnl_handle *h, struct fs_inode *ip);

#endif

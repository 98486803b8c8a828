/* SPDX-License-Identifier: MIT */
/*
 * fs - the file system: space, inodes, extent trees, names, attributes, and the
 * iomap operations that join the engine to the device. Knows nothing of FUSE.
 *
 * Conventions of every operation here:
 *  - returns 0 (or a count) or a negative errno;
 *  - `ctx->flags & FS_NOWAIT`: never sleeps on a device, a lock or the journal; -EAGAIN
 *    before any effect, and the caller repeats it without the flag where it may sleep;
 *  - permission checks on mode bits and ACLs are the caller's (the kernel's, by
 *    default_permissions); what only the file system can know (immutable, append-only,
 *    links, quotas, name lengths, type mismatches) is checked here;
 *  - struct fs_inode pointers are referenced by the caller for the whole call;
 *  - takes its own locks, holds none on return.
 */
#ifndef IOMAPFS_FS_H
#define IOMAPFS_FS_H

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "iomapfs/block.h"
#include "iomapfs/format.h"
#include "iomapfs/iomap.h"

struct fs;
struct fs_inode;
struct dax_vma;
struct vm_fault;
struct fiemap_extent;

/* ---- Mount ------------------------------------------------------------------------ */

struct fs_mount_opts {
	bool readonly;
	bool norecovery;
	uint64_t memory_bytes;        /* all caches together (docs/DESIGN.md); 0 = default */
	unsigned commit_interval_ms;  /* 0 = 5000 */
	enum { FS_ATIME_RELATIME, FS_ATIME_NOATIME } atime;
	bool nodiratime;
	bool discard;                 /* discard freed space after its commit */
	bool dax;                     /* files on the device's own memory; constant while mounted */
	enum { FS_ERRORS_DEFAULT, FS_ERRORS_REMOUNT_RO, FS_ERRORS_CONTINUE } errors;
};

/* Why a mount was refused, as one sentence for the user: what, where, what to do. */
struct fs_error {
	char text[512];
};

/*
 * Read the superblock (a copy if the first is damaged: warned about by name), check
 * features, replay the journal, finish orphans, start background work. Owns bd on
 * success only. -EFSCORRUPTED, -EMEDIUMTYPE (no iomapfs), -EOPNOTSUPP (features),
 * -EROFS (needs replay on a device that cannot be written: readonly replays in memory),
 * -ENOSPC (device smaller than the file system), -EIO, -ENOMEM.
 */
int fs_mount(struct bd *bd, const struct fs_mount_opts *opts, struct fs **out, struct fs_error *err);
/* Everything to disk, checkpoint, superblocks; closes bd. All inodes put. Frees also on error. */
int fs_unmount(struct fs *fs);
/* -o remount: ro <-> rw, atime, commit interval, discard. */
int fs_remount(struct fs *fs, const struct fs_mount_opts *opts, struct fs_error *err);
/* Everything durable on return (sync(2)). */
int fs_sync(struct fs *fs);
/*
 * Stop all changes at once, as after a metadata error: they fail with -EROFS, reads go on. `why`
 * goes into the log, with the advice to run fsck.
 */
void fs_shutdown(struct fs *fs, const char *why);
bool fs_is_shutdown(const struct fs *fs);
/*
 * What an administrator asks for, as ext4's and xfs's GOINGDOWN: nothing is written any more, what
 * is not durable is lost, and changes fail with -EIO; callers refuse reads (fs_is_forced_down). sync:
 * write everything first; an error of that is returned, and it goes down all the same.
 */
int fs_force_down(struct fs *fs, bool sync);
bool fs_is_forced_down(const struct fs *fs);
bool fs_is_readonly(const struct fs *fs);
const struct sb_info *fs_sb(const struct fs *fs);
const struct fs_mount_opts *fs_options(const struct fs *fs);
struct bd *fs_bd(const struct fs *fs);
int fs_statfs(struct fs *fs, struct statvfs *st);
struct fs_tune_args {
	const char *label;             /* NULL = keep */
	const uint8_t *uuid;           /* 16 bytes, the user's; NULL = keep */
	const unsigned *mmp_interval_s; /* from the next mount on; 0 = off; NULL = keep */
};
/* Change what is named, in all superblocks, journalled. -ENAMETOOLONG, -EINVAL. */
int fs_tune(struct fs *fs, const struct fs_tune_args *args);
/*
 * Let files share blocks, from the next mount on: in all superblocks, journalled, all or none after a power
 * cut. Nothing else may be done through this mount, before or after: what the counts may come to need is
 * free in every group now, and only the next mount keeps it so. Nothing to do where it is so already. Sleeps.
 * -ENOSPC with the reason in *e: a group is too full; -EROFS, -EIO.
 */
int fs_add_reflink(struct fs *fs, struct fs_error *e);
/* Discard free space of at least minlen bytes in [start, start+len) bytes; *trimmed bytes. */
int fs_trim(struct fs *fs, uint64_t start, uint64_t len, uint64_t minlen, uint64_t *trimmed);

/* ---- Context ------------------------------------------------------------------------- */

#define FS_NOWAIT       (1u << 0)
#define FS_KILL_SUIDGID (1u << 1) /* this change clears setuid, setgid and security.capability */

struct fs_ctx {
	uint32_t uid, gid;  /* owner of what is created */
	uint32_t umask;     /* applied unless the parent has a default ACL */
	uint32_t pid;
	unsigned flags;
	bool cap_fsetid;    /* may keep setgid */
	/*
	 * Where an operation that takes an inode's last name away (unlink, rmdir, rename over it)
	 * leaves a reference on it, for who knows inodes by number and must keep this one: with
	 * the last reference an inode without names is freed. Untouched if no inode lost its last;
	 * NULL: the caller knows nobody by number.
	 */
	struct fs_inode **gone;
};

/* ---- Inodes ------------------------------------------------------------------------------ */

#define FS_ROOT_INO 1 /* the alias fs_iget takes for the root directory */

/*
 * A referenced in-core inode. The inode number is sb_info.root_ino for the root (also by the
 * alias 1). -ESTALE: no such inode; -EFSCORRUPTED; -EAGAIN with NOWAIT when not in memory.
 */
int fs_iget(struct fs *fs, uint64_t ino, unsigned flags, struct fs_inode **out);
void fs_iref(struct fs_inode *ip);
/* The last put of an unlinked inode frees it (may be queued to a background worker). Never sleeps. */
void fs_iput(struct fs_inode *ip);
uint64_t fs_ino(const struct fs_inode *ip);
uint32_t fs_gen(const struct fs_inode *ip);
/*
 * No name leads to it (now: a link may give an O_TMPFILE one). fs_iget finds it as long as
 * somebody holds a reference, and no longer.
 */
bool fs_is_nameless(struct fs_inode *ip);
struct fs *fs_of(const struct fs_inode *ip);
struct inode *fs_vfs_inode(struct fs_inode *ip);
mode_t fs_mode(const struct fs_inode *ip);
/* Drop unreferenced in-core inodes and clean caches (memory pressure, tests). */
void fs_drop_caches(struct fs *fs);

struct fs_attr {
	uint64_t ino;
	uint64_t size, blocks; /* blocks: 512-byte units, delalloc included */
	uint32_t mode, nlink, uid, gid, rdev_major, rdev_minor, blksize;
	uint32_t flags;        /* OD_FL_* */
	uint32_t projid, gen;
	uint64_t version;
	struct timespec atime, mtime, ctime, btime;
};
int fs_getattr(struct fs_ctx *ctx, struct fs_inode *ip, struct fs_attr *out);

#define FS_SET_MODE      (1u << 0)
#define FS_SET_UID       (1u << 1)
#define FS_SET_GID       (1u << 2)
#define FS_SET_SIZE      (1u << 3)
#define FS_SET_ATIME     (1u << 4)
#define FS_SET_MTIME     (1u << 5)
#define FS_SET_CTIME     (1u << 6)
#define FS_SET_ATIME_NOW (1u << 7)
#define FS_SET_MTIME_NOW (1u << 8)
#define FS_SET_KILL_SUIDGID (1u << 9) /* clear suid, sgid (if group-executable) and security.capability */
/* Change what `set` names (values in `in`); *out (may be NULL) is the state afterwards. */
int fs_setattr(struct fs_ctx *ctx, struct fs_inode *ip, unsigned set, const struct fs_attr *in,
	       struct fs_attr *out);
/* FS_IOC_SETFLAGS / FSSETXATTR: replace the OD_FL_* that users may set, and the project id. */
int fs_set_flags(struct fs_ctx *ctx, struct fs_inode *ip, uint32_t flags, uint32_t projid);
/* relatime/noatime decision for an access seen now; marks the inode dirty in memory only. */
void fs_touch_atime(struct fs_inode *ip);

/* ---- Names ------------------------------------------------------------------------------------ */
/* Names are len bytes without NUL or '/', 1..255 (-ENAMETOOLONG, -EINVAL). Results are referenced. */

int fs_lookup(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len,
	      struct fs_inode **out);
/* Regular files, devices, fifos, sockets by S_IFMT in mode. */
int fs_mknod(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, mode_t mode,
	     uint32_t rdev_major, uint32_t rdev_minor, struct fs_inode **out);
int fs_mkdir(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len, mode_t mode,
	     struct fs_inode **out);
int fs_symlink(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len,
	       const char *target, struct fs_inode **out);
/* No name; on the orphan list until linked (O_TMPFILE). */
int fs_tmpfile(struct fs_ctx *ctx, struct fs_inode *dir, mode_t mode, struct fs_inode **out);
int fs_link(struct fs_ctx *ctx, struct fs_inode *ip, struct fs_inode *dir, const char *name, size_t len);
int fs_unlink(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len);
int fs_rmdir(struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. */
int fs_rename(struct fs_ctx *ctx, struct fs_inode *odir, const char *oname, size_t olen,
	      struct fs_inode *ndir, const char *nname, size_t nlen, unsigned flags);
/* At most size bytes; returns the target's length. */
int64_t fs_readlink(struct fs_ctx *ctx, struct fs_inode *ip, char *buf, size_t size);

/*
 * Report entries with cookie > *cookie in position order until fn returns non-zero (the
 * entry then counts as not taken). "." and ".." come first (cookies 1 and 2). cookie given
 * to fn is the one to continue after that entry. Entries present during the whole walk are
 * reported exactly once. fn runs with the directory's i_rwsem held shared: it must not call fs_*.
 */
typedef int (*fs_filldir_fn)(void *arg, const char *name, size_t len, uint64_t ino, unsigned dt_type,
			     uint64_t cookie);
int fs_readdir(struct fs_ctx *ctx, struct fs_inode *dir, uint64_t cookie, fs_filldir_fn fn, void *arg);
/* ".." of a directory (exports, tools). */
uint64_t fs_parent_ino(struct fs_inode *dir);

/* Names carry their prefix ("user.x", "system.posix_acl_access"). size 0 asks for the length. */
int64_t fs_getxattr(struct fs_ctx *ctx, struct fs_inode *ip, const char *name, void *buf, size_t size);
int fs_setxattr(struct fs_ctx *ctx, struct fs_inode *ip, const char *name, const void *value,
		size_t size, int flags);
int64_t fs_listxattr(struct fs_ctx *ctx, struct fs_inode *ip, char *buf, size_t size);
int fs_removexattr(struct fs_ctx *ctx, struct fs_inode *ip, const char *name);

/* ---- File contents -------------------------------------------------------------------------------- */

/* Open handles: counted for end-of-file trim, swap pinning and error reporting. */
struct fs_file {
	struct fs_inode *ip;       /* referenced */
	errseq_mark_t wb_err;
	unsigned open_flags;       /* O_* */
	bool swap_pinned;          /* a BMAP was asked through this handle */
	pthread_mutex_t lock;
};
int fs_open(struct fs_ctx *ctx, struct fs_inode *ip, unsigned open_flags, struct fs_file **out);
/* Trims end-of-file preallocation at the last close of a writer. Frees. Never sleeps (queues). */
void fs_release(struct fs_file *f);

/*
 * Read and write at iocb->ki_pos (iocb->ki_inode = fs_vfs_inode). IOCB_DIRECT selects direct
 * I/O; O_APPEND is resolved here when `append`. Returns bytes, or -EIOCBQUEUED when
 * iocb->ki_complete will be called. IOCB_NOWAIT as FS_NOWAIT. DSYNC/SYNC are honoured here.
 */
int64_t fs_read_iter(struct fs_ctx *ctx, struct kiocb *iocb, struct iov_iter *to);
int64_t fs_write_iter(struct fs_ctx *ctx, struct kiocb *iocb, struct iov_iter *from, bool append);
/*
 * IOCB_ATOMIC | IOCB_DIRECT in fs_write_iter: the bytes are there after a power cut, all or none. Length
 * a power of two from *unit_min to *unit_max, position a multiple of it, else -EINVAL; up to *unit_max_opt
 * (0: never) the device may do it. Limits can fall, not below a block, as free space becomes very fragmented.
 */
void fs_atomic_limits(struct fs *fs, uint32_t *unit_min, uint32_t *unit_max, uint32_t *unit_max_opt);
int fs_fsync(struct fs_ctx *ctx, struct fs_file *f, bool datasync);
int fs_fsync_dir(struct fs_ctx *ctx, struct fs_inode *dir, bool datasync);
/*
 * FALLOC_FL_* of <linux/falloc.h>: 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE],
 * UNSHARE_RANGE[|KEEP_SIZE],
 * COLLAPSE_RANGE, INSERT_RANGE. Bytes; takes its locks, sleeps (-EAGAIN with FS_NOWAIT). -EINVAL:
 * len 0; collapse and insert: not whole blocks, a collapse up to EOF, an insertion at or behind it.
 * -EFBIG, -EPERM immutable, -ETXTBSY swap file, -ENOSPC, -EOPNOTSUPP another mode. Collapse and
 * insert are all or nothing, also across a power cut; they cost by extents behind offset.
 */
int fs_fallocate(struct fs_ctx *ctx, struct fs_inode *ip, int mode, uint64_t offset, uint64_t len);
/* SEEK_DATA and SEEK_HOLE only. */
int64_t fs_lseek(struct fs_ctx *ctx, struct fs_inode *ip, int64_t off, int whence);
/*
 * Make [off_out, off_out+len) of `out` share the blocks of [off_in, ...) of `in`, which may be the same
 * file; len 0: to the end of `in`. Both offsets are block aligned, and so is len unless the range ends with
 * `in` and at or beyond the end of `out`, else -EINVAL, as for a source range past its end and ranges of one
 * file that overlap. What was written to `in` before is written back first. In steps, each whole by itself
 * after a power cut. Takes both i_rwsem. -EAGAIN (FS_NOWAIT), -EOPNOTSUPP without the REFLINK
 * feature, -ETXTBSY, -EPERM, -EFBIG, -ENOSPC, -EMLINK.
 */
int fs_clone_range(struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in, struct fs_inode *out,
		   uint64_t off_out, uint64_t len);
/*
 * The same where the contents are equal already, else -EBADE and nothing is changed. Both ranges lie inside
 * their files; where only one of them ends at its end of file, len counts whole blocks. *deduped bytes.
 */
int fs_dedupe_range(struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in, struct fs_inode *out,
		    uint64_t off_out, uint64_t len, uint64_t *deduped);
/* Shares blocks where the ranges line up, else copies through the cache, sparsely; may be short. */
int64_t fs_copy_file_range(struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in,
			   struct fs_inode *out, uint64_t off_out, uint64_t len);
/* FIEMAP_* of <linux/fiemap.h>; fe_physical in device bytes. Count of extents mapped in fi. */
int fs_fiemap(struct fs_ctx *ctx, struct fs_inode *ip, struct fiemap_extent_info *fi, uint64_t start,
	      uint64_t len);
/* FIBMAP in units of blksize bytes (<= the block size); 0 = none. Writes the file back first. */
int fs_bmap(struct fs_ctx *ctx, struct fs_inode *ip, uint64_t blksize, uint64_t idx, uint64_t *out);
/*
 * Where the pages of a file would be if it were a swap file (iomap_swapfile_activate, whose add_extent
 * and reasons these are); made durable first. To use it so, fs_swap_pin its handle.
 */
int fs_swap_map(struct fs_ctx *ctx, struct fs_inode *ip, struct swap_info *sis, uint64_t *pagespan);
/* From the first BMAP of an open handle to its release: no relocation, no trim, no remap (-ETXTBSY). */
void fs_swap_pin(struct fs_file *f);

/*
 * With -o dax: an area of this process (dax.h) shows the file. fs_dax_mmap makes it known, as dax_vma_open,
 * and moves contents out of the inode; dax_vma_close ends it. -EOPNOTSUPP: not a regular file of such
 * a mount. fs_dax_fault is dax_iomap_fault (and dax_finish_sync_fault) with the locks that it needs; from
 * a signal handler only where the thread holds no lock of ours. A reference on ip all the while.
 */
int fs_dax_mmap(struct fs_ctx *ctx, struct fs_inode *ip, struct dax_vma *vma);
unsigned fs_dax_fault(struct fs_ctx *ctx, struct fs_inode *ip, struct vm_fault *vmf, unsigned order);

/* ---- Statistics -------------------------------------------------------------------------------------- */

struct fs_stats {
	struct folio_cache_stats folio;
	uint64_t buf_cached, buf_pinned, buf_hits, buf_misses;
	uint64_t jnl_commits, jnl_handles, jnl_blocks, jnl_checkpointed, jnl_log_blocks, jnl_log_free;
	uint64_t blocks_total, blocks_free, blocks_reserved, blocks_delalloc, inodes_used;
	uint64_t alloc_calls, alloc_blocks, free_calls, extents_split;
	uint64_t icache_inodes, icache_dirty;
	uint64_t device_reads, device_writes, device_flushes, device_read_bytes, device_write_bytes;
	uint64_t device_persists, device_persist_bytes; /* -o dax */
};
void fs_get_stats(struct fs *fs, struct fs_stats *st);

/* Nothing is open or cached dirty: free counters, for tests of "all space comes back". */
int fs_quiesce(struct fs *fs);

#endif

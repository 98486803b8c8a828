/* SPDX-License-Identifier: MIT */
/*
 * What the rooms of the daemon share.
 *
 * A request travels so: a serving thread (transport_*.c) receives it, the seam (seam.c)
 * answers what libfuse does not know and hands the rest to libfuse's decoder, whose
 * callback (ops_*.c) fills a struct fz_call and runs it. A call first runs on the serving
 * thread with FS_NOWAIT; on -EAGAIN it is moved to the heap with its payload and runs again
 * on a worker, where blocking is allowed. Whoever finishes a call replies to it, once.
 */
#ifndef FUSE_PRIVATE_H
#define FUSE_PRIVATE_H

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <urcu/hlist.h>

#include "iomapfs/fs.h"
#include "iomapfs/util.h"
#include "options.h"
#include "proto.h"

#define FZ_MAX_WRITE (1u << 20)
/* A request never exceeds its payload by more than this. */
#define FZ_HDR_ROOM  4096u
#define FZ_BUF_SIZE  (FZ_HDR_ROOM + FZ_MAX_WRITE + FZ_HDR_ROOM)
/* Seconds that stand for ever: the kernel clamps them to its longest timeout. */
#define FZ_FOREVER   UINT32_MAX

struct fz;
struct fz_call;
struct fz_nodes;
struct fz_notifier;
struct fz_loop;
struct fz_uring;
struct fz_slot;

/* ---- Statistics (stats.c) -------------------------------------------------------- */

#define FZ_HIST_BUCKETS 20 /* by power of two of microseconds, the last is open */

struct fz_op_counters {
	_Atomic uint64_t count, errors, sum_ns;
	_Atomic uint64_t hist[FZ_HIST_BUCKETS];
};

/* Written by one thread only, read by anyone; never freed before the daemon ends. */
struct fz_thread_stats {
	struct fz_op_counters op[FZ_NR_OPCODES];
	_Atomic uint64_t parked;
	struct fz_thread_stats *next;
};

void fz_stats_account(struct fz *fz, uint32_t opcode, uint64_t start_ns, bool failed);
void fz_stats_count_parked(struct fz *fz);
struct iomapfs_ioc_stats;
void fz_stats_collect(struct fz *fz, struct iomapfs_ioc_stats *out);
void fz_stats_free(struct fz *fz);

/* ---- The daemon ------------------------------------------------------------------ */

struct fz {
	struct fs *fs;
	struct fuse_session *se;
	int dev_fd;                     /* the session's /dev/fuse */
	const struct fz_options *opts;
	enum fz_kernel_cache cache;
	uid_t owner;                    /* may use the private ioctls besides root */
	struct fz_nodes *nodes;
	struct work_pool *workers;      /* whatever must wait */
	struct work_pool *reserved;     /* cache writes, FORGET, RELEASE, SETATTR: never behind the above */
	struct fz_notifier *notifier;
	struct fz_loop *loop;           /* all requests, or with uring those that come beside it */
	struct fz_uring *uring;         /* NULL: not offered, or not asked for */
	bool uring_agreed;              /* the kernel heard in INIT that requests go through it */
	const char *fallback;           /* why auto did not take it, or NULL */
	_Atomic unsigned inflight;      /* calls not yet answered, and threads that work on one */
	_Atomic bool unmounted;         /* fs_unmount runs or ran (DESTROY): nothing new may touch fs */
	int unmount_error;
	_Atomic(struct fz_thread_stats *) stats;
	pthread_mutex_t stats_lock;
};

/* Close the file system once: DESTROY, or the end of the loop where none was sent. */
void fz_close_fs(struct fz *fz);

/* ---- Requests (call.c) -------------------------------------------------------------- */

/* The request that this thread is decoding now. */
struct fz_rx {
	const struct fuse_in_header *hdr; /* start of the message, hdr->len bytes */
	int fd;                           /* replies must use the descriptor it was read from */
	struct fz_slot *slot;             /* or the slot of the ring that it came in; NULL: by fd */
};
extern __thread struct fz_rx fz_rx;

#define FZ_REPLIED 0
#define FZ_ASYNC   1 /* someone else owns the call now and will finish it */

struct fz_call {
	struct fz *fz;
	fuse_req_t req;          /* NULL: a seam request, answered by unique */
	int (*fn)(struct fz_call *c);
	/* For a parked call whose notify ended: continues it on a worker. NULL: fn. */
	int (*resume)(struct fz_call *c);
	struct work work;
	struct fs_ctx ctx;
	uint64_t unique, nodeid, start_ns;
	uint32_t opcode;
	int fd;
	struct fz_slot *slot;
	bool on_heap;
	bool flushed;            /* the kernel wrote its pages of this file back already */
	bool flushed2;           /* and those of nodeid2 */
	bool no_park;            /* -EAGAIN is the answer */
	bool urgent;             /* parks on the reserved workers */
	void *msg;               /* heap copy of the message, when on_heap; NULL: it stays in its slot */

	/* Arguments; pointers lead into the message. */
	const char *name, *name2;
	const void *data;
	size_t size;
	uint64_t off, off2, len, nodeid2, fh, fh2;
	uint32_t mode, rdev, set, cmd;
	uint32_t open_flags;     /* O_* */
	uint32_t xflags;         /* protocol flags that libfuse drops */
	int flags;
	struct fs_attr attr;

	/* Running state. */
	int64_t result;          /* free for what is said after a wait */
	size_t done;             /* bytes of a write that an earlier run finished */
	mode_t old_mode;
	struct fs_inode *ip;     /* referenced by asynchronous I/O */
	struct kiocb iocb;
	struct iovec iov;
	struct iov_iter iter;
	void *buf;               /* memory of an asynchronous read, of fz_pages_get; NULL: the slot's */
};

/* Fill in what every request has. */
void fz_call_begin(struct fz_call *c, fuse_req_t req, int (*fn)(struct fz_call *c));
/* Run with NOWAIT here; park on -EAGAIN; reply errors. c may be gone on return. */
void fz_call_run(struct fz_call *c);
/* A request that libfuse does not decode. */
void fz_call_begin_seam(struct fz *fz, struct fz_call *c, int (*fn)(struct fz_call *c));
/* Known to wait: go to a worker at once. */
void fz_call_defer(struct fz_call *c);
/* Move to the heap with its payload (or return it as it is there); NULL: no memory. */
struct fz_call *fz_call_keep(struct fz_call *c);
/* Queue a kept call on its pool. */
void fz_call_queue(struct fz_call *c);
/* Settle what a run of fn or resume returned, outside of fz_call_run. */
void fz_call_settle(struct fz_call *c, int ret);
static inline bool fz_nowait(const struct fz_call *c)
{
	return c->ctx.flags & FS_NOWAIT;
}

/*
 * Replies. Each ends the call: the reply helper is the only place where the sign of an
 * error flips for libfuse. They return FZ_REPLIED so that an operation can return them.
 */
int fz_reply_err(struct fz_call *c, int error);
int fz_reply_buf(struct fz_call *c, const void *buf, size_t size);
int fz_reply_iov(struct fz_call *c, struct iovec *iov, int nr);
/* FORGET has no reply. */
int fz_reply_none(struct fz_call *c);
/* An entry for ip, whose reference it consumes (into the node table, one lookup more). */
int fz_reply_entry(struct fz_call *c, struct fs_inode *ip);
int fz_reply_attr(struct fz_call *c, struct fs_inode *ip);
int fz_reply_attr_of(struct fz_call *c, const struct fs_attr *a);

/* ---- Encoding (encode.c): pure --------------------------------------------------------- */

void fz_encode_attr(const struct fs_attr *a, struct fuse_attr *out);
void fz_encode_statx(const struct fs_attr *a, struct fz_statx *out);
void fz_encode_entry(const struct fs_attr *a, uint64_t nodeid, struct fuse_entry_out *out);
/* Append one dirent (plus: with its entry); the bytes used, 0 if it does not fit. */
size_t fz_encode_dirent(void *buf, size_t room, const struct fuse_entry_out *plus, const char *name,
			size_t len, uint64_t ino, unsigned type, uint64_t cookie);
/* FATTR_* to FS_SET_*; the values go to *a. */
unsigned fz_decode_setattr(const struct fuse_setattr_in *in, struct fs_attr *a);
/*
 * Patch an INIT reply: what libfuse 3.14 cannot ask for. `offered` is the kernel's INIT. uring: ask for
 * requests through io_uring; true: it was offered, so they will come that way.
 */
bool fz_patch_init(const struct fuse_init_in *offered, struct fuse_init_out *out, bool uring);

/* ---- Shapes (proto.c): pure ---------------------------------------------------------------- */

/* Does the message hold all the arguments, names and data that its opcode says it has? */
bool fz_proto_ok(const struct fuse_in_header *h);
/* Does the kernel wait for an answer to this opcode? */
bool fz_proto_has_reply(uint32_t opcode);

/* What fi->fh points to: a regular file, or a directory (file == NULL). */
struct fz_file {
	struct cds_hlist_node list; /* of its node */
	struct fs_file *file;
	struct fs_inode *ip;       /* referenced; of a regular file: file's own */
	uint64_t ino;
	bool writer;
	pid_t pid;                 /* thread that opened it; 0: unknown */
	bool has_token;            /* constant once true; the stripe's lock */
	uint8_t token[16];
	_Atomic uint32_t io_flags; /* IOMAPFS_IO_* */
};
void fz_file_close(struct fz_file *f);

/* ---- Known nodes (nodes.c) ------------------------------------------------------------- */

int fz_nodes_create(struct fz_nodes **out);
void fz_nodes_destroy(struct fz_nodes *t);
/* Close every handle and put every reference. */
void fz_nodes_release_all(struct fz_nodes *t);
/*
 * The inode behind a nodeid, referenced; as fs_iget. -ESTALE also when its number has become
 * another's.
 */
int fz_node_get(struct fz *fz, uint64_t nodeid, unsigned flags, struct fs_inode **out);
/*
 * What fs left in fs_ctx.gone: if the kernel knows the inode it lives until the kernel forgets
 * it. Consumes the caller's reference.
 */
void fz_node_nameless(struct fz *fz, struct fs_inode *ip);
/* One lookup more; consumes the caller's reference. Returns the nodeid. */
uint64_t fz_node_add(struct fz *fz, struct fs_inode *ip);
void fz_node_forget(struct fz *fz, uint64_t nodeid, uint64_t nlookup);
/*
 * Open handles hang on their node: for "may someone store through a mapping", for pinning a
 * swap file, and to give everything back when the connection was cut. add never fails once f
 * is allocated; del leaves f to the caller.
 */
void fz_node_add_file(struct fz *fz, struct fz_file *f);
void fz_node_del_file(struct fz *fz, struct fz_file *f);
/*
 * Pin the file against relocation through the handles that thread `pid` opened: swapon(2) opens the file
 * and asks for its blocks in one go, and BMAP names no handle. Without one of its own, through the newest.
 */
void fz_node_swap_pin(struct fz *fz, uint64_t nodeid, pid_t pid);
/*
 * A secret name of an open handle, made when first asked for; -EIO without randomness. And the
 * inode of the handle of that name, referenced: -ESTALE when none is open.
 */
int fz_file_token(struct fz *fz, struct fz_file *f, uint8_t secret[16]);
int fz_node_by_token(struct fz *fz, uint64_t ino, const uint8_t secret[16], struct fs_inode **out);
/* Have the kernel drop its pages of every open file; behind fz_notify_inval's queue. */
void fz_nodes_drop_pages(struct fz *fz);
bool fz_node_has_writers(struct fz *fz, uint64_t nodeid);
uint64_t fz_nodes_count(const struct fz_nodes *t);
/* The kernel's name of an inode: 1 for the root. */
uint64_t fz_nodeid(const struct fz *fz, uint64_t ino);

/* ---- Notifications (notify.c) ------------------------------------------------------------- */

int fz_notifier_create(struct fz *fz, struct fz_notifier **out);
void fz_notifier_destroy(struct fz_notifier *n);
/*
 * Tell the kernel to drop what it has of an inode: off < 0: attributes and ACLs; else also the
 * pages of [off, off+len) (len 0: to the end), which it writes back first. Then c (kept; may
 * be NULL) goes to a worker, which runs c->resume or c->fn.
 */
void fz_notify_inval(struct fz *fz, uint64_t nodeid, int64_t off, int64_t len, struct fz_call *c);

/* ---- Operations (ops_*.c) ------------------------------------------------------------------ */

extern const struct fuse_lowlevel_ops fz_ll_ops;

/* The callbacks of each room, for the table in seam.c. */
void fz_ll_init(void *userdata, struct fuse_conn_info *conn);
void fz_ll_destroy(void *userdata);
void fz_ll_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fz_ll_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void fz_ll_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void fz_ll_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fz_ll_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fz_ll_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void fz_ll_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fz_ll_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fz_ll_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		  const char *newname, unsigned flags);
void fz_ll_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void fz_ll_readlink(fuse_req_t req, fuse_ino_t ino);
void fz_ll_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fz_ll_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi);
void fz_ll_statfs(fuse_req_t req, fuse_ino_t ino);
void fz_ll_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fz_ll_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi);
void fz_ll_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fz_ll_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fz_ll_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fz_ll_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		 struct fuse_file_info *fi);
void fz_ll_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		     struct fuse_file_info *fi);
void fz_ll_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			   struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			   struct fuse_file_info *fi_out, size_t len, int flags);
void fz_ll_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void fz_ll_bmap(fuse_req_t req, fuse_ino_t ino, size_t blocksize, uint64_t idx);
void fz_ll_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fz_ll_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fz_ll_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi);
void fz_ll_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fz_ll_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fz_ll_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fz_ll_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fz_ll_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void fz_ll_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		 struct fuse_file_info *fi, unsigned flags, const void *in_buf, size_t in_bufsz,
		 size_t out_bufsz);
/* Bodies of the operations that only the seam decodes. */
int fz_do_tmpfile(struct fz_call *c);
int fz_do_statx(struct fz_call *c);
int fz_do_setxattr(struct fz_call *c);
int fz_do_copy_file_range(struct fz_call *c);
int fz_do_syncfs(struct fz_call *c);

/*
 * May the kernel hold stores to this file that it has not sent us? 0: no. Else they are being
 * fetched and the call runs again then: FZ_ASYNC, or -errno.
 */
int fz_want_kernel_pages(struct fz_call *c);
/* The same of c->nodeid2. */
int fz_want_kernel_pages2(struct fz_call *c);

/* ioctls through a handle (ops_remap.c): rows of the table in ops_ioctl.c. */
int fz_ioc_fallocate(struct fz_call *c, struct fs_inode *ip);
int fz_ioc_handle(struct fz_call *c, struct fs_inode *ip);
int fz_ioc_clone(struct fz_call *c, struct fs_inode *ip);
int fz_ioc_dedupe(struct fz_call *c, struct fs_inode *ip);
int fz_ioc_ioflags(struct fz_call *c, struct fs_inode *ip);
int fz_ioc_atomic(struct fz_call *c, struct fs_inode *ip);
/* Result 0, then what the caller's buffer gets. */
int fz_reply_ioctl(struct fz_call *c, const void *buf, size_t size);

/* ---- Seam (seam.c) ---------------------------------------------------------------------------- */

/* Dispatch one message just read from fd, or received in slot (else NULL). */
void fz_seam_dispatch(struct fz *fz, int fd, struct fz_slot *slot, void *msg, size_t len);
/* Send a whole reply, its header first, to where the request came from. Bytes, or -1 and errno. */
ssize_t fz_send(int fd, struct fz_slot *slot, const struct iovec *iov, int nr);
/* fuse_session_custom_io hooks. */
extern const struct fuse_custom_io fz_seam_io;

/* ---- Memory of requests (buffers.c) ------------------------------------------------------ */

/*
 * An eighth of memory= is for requests under way and the threads that serve them: this many of
 * the largest. It bounds the kernel's background requests and our workers.
 */
static inline unsigned fz_transport_share(uint64_t memory_bytes)
{
	return (unsigned)MAX(4, MIN(memory_bytes / 8 / FZ_MAX_WRITE, 128));
}
/* Once, before the first request. */
void fz_buf_setup(uint64_t memory_bytes);
/* A receive buffer: FZ_BUF_SIZE bytes whose WRITE payload is page-aligned. NULL: out of memory. */
void *fz_buf_get(void);
/* A buffer of len bytes or more holding a copy. */
void *fz_buf_copy(const void *msg, size_t len);
void fz_buf_put(void *msg);
/* len bytes, at most FZ_MAX_WRITE, from a page on; NULL: out of memory. */
void *fz_pages_get(size_t len);
void fz_pages_put(void *mem);
/* At the end: those that were kept for the next request. */
void fz_buf_drop_spares(void);
/* 1 MiB, page-aligned, this thread's own; valid until the thread's next use. */
void *fz_scratch(void);

/* ---- Transport (transport.c) ------------------------------------------------------------- */

/*
 * What mount option transport= asks for, in the order of a mount's life. The *why is a constant.
 *
 * Before the mount: -EOPNOTSUPP when only uring would do and is not to be had, other errors likewise.
 */
int fz_transport_prepare(struct fz *fz, const char **why);
/* Serve INIT in the caller, then start serving. On errors nothing serves. */
int fz_transport_start(struct fz *fz, const char **why);
/* Wait until the mount is gone and nobody serves any more; replies may still be made. */
void fz_transport_join(struct fz *fz);
/* When no call is under way. */
void fz_transport_destroy(struct fz *fz);

/* ---- Read loops (transport_loop.c) --------------------------------------------------------- */

/* Serve INIT on the session's descriptor in the caller; 0 once the kernel has its answer. */
int fz_loop_serve_init(struct fz *fz);
/*
 * Start the serving threads; they end when the mount is gone. beside_uring: one thread, for the little
 * that does not come by the rings.
 */
int fz_loop_start(struct fz *fz, bool beside_uring, struct fz_loop **out);
/* Wait for them all. */
void fz_loop_join(struct fz_loop *l);

/* ---- FUSE over io_uring (transport_uring.c) ------------------------------------------------ */

/* May this kernel be asked for it? -EOPNOTSUPP: it has none, -EPERM: it is switched off. */
int fz_uring_probe(void);
/* Rings, memory and threads, which wait for fz_uring_start. Before INIT is answered. */
int fz_uring_create(struct fz *fz, struct fz_uring **out);
/*
 * The kernel agreed in INIT: give it the slots. On errors it has gone back to the descriptor for all
 * requests, and the threads have ended.
 */
int fz_uring_start(struct fz_uring *u);
/* End the threads. Replies made from now on go nowhere. */
void fz_uring_stop(struct fz_uring *u);
/* After fz_uring_stop, when no slot is in use any more. */
void fz_uring_destroy(struct fz_uring *u);
/* Answer the request in the slot, once, from any thread. iov[0] is the fuse_out_header. */
void fz_uring_reply(struct fz_slot *slot, const struct iovec *iov, int nr);
/*
 * FZ_MAX_WRITE bytes, page-aligned, until the reply: what is answered from here is not copied. NULL: the
 * request itself lies there, or came another way.
 */
void *fz_uring_room(struct fz_slot *slot);

#endif

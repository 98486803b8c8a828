/* SPDX-License-Identifier: MIT */
/*
 * journal - all metadata changes go through here.
 *
 * A caller opens a handle with enough credits (one per distinct block it may log),
 * announces each buffer before changing it, and closes the handle. Handles join
 * the running transaction; a commit writes full images of all its buffers to the
 * log, flushes, and writes a commit block; a checkpoint writes them to their places
 * later. No rollback exists: everything that can fail (reads, space, credits) must
 * happen before the first jnl_get_write; a failure afterwards is jnl_abort.
 *
 * Order with other locks: an open handle has rank LK_TRANS. jnl_start waits for log
 * space and for a commit that is closing the running transaction, so it must be
 * called with no lock of a higher rank held. The same goes for jnl_commit_wait and
 * jnl_checkpoint (a commit waits for all open handles); debug builds check it.
 */
#ifndef IOMAPFS_JOURNAL_H
#define IOMAPFS_JOURNAL_H

#include "iomapfs/buffer.h"

struct jnl;
struct jnl_handle;
typedef uint64_t jnl_tid_t;

struct jnl_params {
	unsigned commit_interval_ms; /* default 5000 */
	/*
	 * For images and the buffers that they pin; 0 = 64 MiB. Commits and checkpoints start early
	 * enough for it, and new handles wait where a checkpoint does not keep up.
	 */
	uint64_t memory_bytes;
	bool readonly;               /* replay into buf_cache memory only: nothing is written */
	bool norecovery;             /* do not look at the log at all (readonly implied) */
};

struct jnl_stats {
	uint64_t commits, handles, blocks_logged, checkpointed, revoked, log_blocks, log_free;
	uint64_t running_tid, committed_tid;
	uint64_t replayed_transactions, replayed_blocks;
};

/*
 * Read the journal superblock, replay complete transactions (docs/JOURNAL.md),
 * start the commit thread. With readonly the replayed images stay pinned in the
 * buffer cache. -EFSCORRUPTED when the journal superblock is damaged.
 */
int jnl_open(struct bd *bd, struct buf_cache *bc, const struct od_ctx *ctx,
	     const struct jnl_params *p, struct jnl **out);
/* Commit and checkpoint everything, mark the log clean, stop. Frees also on error. */
int jnl_close(struct jnl *j);

/* What one handle may ask for on every journal. mkfs makes the log at least 4 times this. */
#define JNL_MAX_CREDITS 256u
/* What it may ask for on this one: more where the log is long, up to JNL_CREDITS_LIMIT. */
#define JNL_CREDITS_LIMIT 4096u
unsigned jnl_max_credits(const struct jnl *j);

#define JNL_NOWAIT (1u << 0) /* -EAGAIN instead of sleeping */
/*
 * Open a handle with room for `credits` distinct buffers and as many revokes.
 * A thread has at most one handle open. -EROFS after an abort or on a readonly
 * journal; -EAGAIN with JNL_NOWAIT.
 */
int jnl_start(struct jnl *j, unsigned credits, unsigned flags, struct jnl_handle **out);
/* Ask for more without sleeping; -EAGAIN: stop this handle and start another. */
int jnl_extend(struct jnl_handle *h, unsigned credits);
unsigned jnl_credits_left(const struct jnl_handle *h);
/* Close; returns the transaction it joined. */
jnl_tid_t jnl_stop(struct jnl_handle *h);
jnl_tid_t jnl_handle_tid(const struct jnl_handle *h);
/* The journal of an open handle (to abort it). */
struct jnl *jnl_handle_journal(const struct jnl_handle *h);

/*
 * Announce that buffer contents will change within this handle. Never fails and
 * never sleeps on I/O (credits were reserved). The buffer stays pinned until it is
 * checkpointed. Calling again in the same transaction is free.
 */
void jnl_get_write(struct jnl_handle *h, struct buf *b);
/* The same for a buffer from buf_new. Cancels an earlier revoke of the block in this transaction. */
void jnl_get_create(struct jnl_handle *h, struct buf *b);
/*
 * The metadata block is freed: its pending images are dropped, and replay must not
 * bring it back (revoke). The caller still holds its reference to b, if any.
 */
void jnl_forget(struct jnl_handle *h, uint64_t mblk);

/* Called after the transaction is durable, on the commit thread; short, no handle, no waiting. */
struct jnl_commit_cb {
	struct cds_list_head list;
	void (*fn)(struct jnl_commit_cb *cb, int error);
};
void jnl_on_commit(struct jnl_handle *h, struct jnl_commit_cb *cb);

/* The transaction that is running now (what a commit has to reach). */
jnl_tid_t jnl_running_tid(struct jnl *j);
/*
 * Make sure transaction tid and all before are durable; joins a commit under way.
 * Sleeps; no handle open. Returns 0 or the abort error. A commit flushes the device,
 * so data writes that completed before it are durable as well; *flushed (may be
 * NULL) tells whether a flush happened within this call.
 */
int jnl_commit_wait(struct jnl *j, jnl_tid_t tid, bool *flushed);
/* Start it without waiting. */
void jnl_commit_async(struct jnl *j, jnl_tid_t tid);
bool jnl_tid_committed(struct jnl *j, jnl_tid_t tid);
/* Commit, then write every committed buffer to its place and empty the log. */
int jnl_checkpoint(struct jnl *j);

/*
 * Stop all changes for good; later calls return -EROFS, waiters get err. Any context
 * without a lock of rank LK_JNL or above.
 */
void jnl_abort(struct jnl *j, int err, const char *why);
bool jnl_aborted(const struct jnl *j);
/*
 * Called once, from the aborting thread with the locks it holds and before waiters
 * wake, so that the file system can turn read-only and say so in its log; without one the journal
 * logs the reason itself. Must not call back into the journal.
 */
void jnl_set_abort_fn(struct jnl *j, void (*fn)(void *arg, int err, const char *why), void *arg);

void jnl_get_stats(struct jnl *j, struct jnl_stats *st);

/* For mkfs: smallest and recommended ring sizes in mblks for a device of this many bytes. */
uint64_t jnl_min_mblks(void);
uint64_t jnl_default_mblks(uint64_t dev_bytes);
/* Encode an empty journal's superblock. */
void jnl_format_sb(const struct od_ctx *ctx, void *block);

#endif

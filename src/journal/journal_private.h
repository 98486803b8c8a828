/* SPDX-License-Identifier: MIT */
/* Shared by the files of journal/. The states and rules are drawn in journal.c. */
#ifndef IOMAPFS_JOURNAL_PRIVATE_H
#define IOMAPFS_JOURNAL_PRIVATE_H

#include <bsd/sys/tree.h>

#include "iomapfs/journal.h"

/* ---- Batched writes (io.c) ------------------------------------------------------------- */

struct jnl_ent {
	uint64_t mblk;
	void *data;           /* OD_MBLK_SIZE, left alone until the write ends */
	void *private;        /* the caller's */
};

#define JNL_IO_SEGS 1024u

/* Room for JNL_IO_SEGS blocks in flight; one user at a time, nothing allocated later. */
struct jnl_io {
	struct bd *bd;
	struct lk_mutex lock; /* LK_LEAF */
	pthread_cond_t cond;
	unsigned pending;
	int error;            /* first of the batch */
	struct bd_io ios[JNL_IO_SEGS];
	struct iovec iov[JNL_IO_SEGS];
};
int jnl_io_create(struct bd *bd, struct jnl_io **out);
void jnl_io_destroy(struct jnl_io *jio);
/* Write all and wait; runs of adjacent addresses become single requests. */
int jnl_io_write(struct jnl_io *jio, const struct jnl_ent *ents, size_t nr);
/* Ascending address, for qsort. */
int jnl_ent_cmp(const void *a, const void *b);

/* ---- Transactions ---------------------------------------------------------------------- */

enum jnl_tstate { JNL_T_RUNNING, JNL_T_LOCKED, JNL_T_LOGGING, JNL_T_COMMITTED };

/* One block as one transaction leaves it. */
struct jnl_img {
	struct cds_list_head list;
	struct jnl_trans *trans;
	struct buf *buf;      /* referenced: an image keeps its buffer in the cache */
	void *data;           /* page; filled when the transaction is locked, then constant */
	bool writing;         /* in the checkpoint batch in flight */
	bool dead;            /* given up meanwhile: the end of the batch frees it */
};

struct jnl_revoke {
	RB_ENTRY(jnl_revoke) link;
	uint64_t mblk;
	struct buf *buf;      /* referenced, or NULL: not cached, so no image exists */
};
RB_HEAD(jnl_revokes, jnl_revoke);
RB_PROTOTYPE(jnl_revokes, jnl_revoke, link, jnl_revoke_cmp)
int jnl_revoke_cmp(const struct jnl_revoke *a, const struct jnl_revoke *b);

struct jnl_trans {
	jnl_tid_t tid;
	enum jnl_tstate state;
	struct cds_list_head list;       /* on jnl.committed */
	struct cds_list_head imgs;       /* COMMITTED: those not yet in their places */
	uint64_t nr_imgs;
	struct jnl_revokes revokes;
	uint64_t nr_revokes;
	struct cds_list_head cbs;
	unsigned nr_handles;
	uint64_t credits_out, revokes_out; /* promised to open handles and not used yet */
	uint64_t first_ns;               /* of its first change; 0 = none yet */
	uint64_t log_start, log_blocks;  /* ring index; LOGGING and later */
};

struct jnl_handle {
	struct jnl *j;
	struct jnl_trans *trans;
	unsigned credits_left, revokes_left;
};

struct jnl {
	struct bd *bd;
	struct buf_cache *bc;
	struct od_ctx ctx;
	uint64_t interval_ns;
	bool readonly;

	struct lk_mutex lock;            /* LK_JNL; guards all below but where said */
	pthread_cond_t start_cond;       /* a handle may fit now */
	pthread_cond_t handles_cond;     /* the locked transaction lost its last handle */
	pthread_cond_t commit_cond;      /* work for the commit thread */
	pthread_cond_t done_cond;        /* a commit ended */
	pthread_cond_t ckpt_cond;        /* work for the checkpoint thread */
	pthread_cond_t ckpt_done_cond;   /* a batch is in its places, or the tail moved */
	bool stop;
	bool started;                    /* threads exist */
	pthread_t commit_thread, ckpt_thread;

	struct jnl_trans *running;       /* never NULL while writable */
	struct jnl_trans *committing;    /* LOGGING */
	struct cds_list_head committed;  /* oldest first */
	_Atomic jnl_tid_t committed_tid;
	jnl_tid_t commit_req;            /* commit up to here */
	jnl_tid_t ckpt_req;              /* checkpoint up to here */
	jnl_tid_t tail_tid;              /* the journal superblock's, durable */
	unsigned space_waiters, start_waiters;
	uint64_t last_commit_ns;
	uint64_t flush_started, flush_done; /* numbers of commits whose flush was sent, has ended */

	uint64_t ring_base, ring_len;    /* mblk of ring index 0; blocks */
	uint64_t max_trans;              /* log blocks of one transaction */
	uint64_t head, used;             /* ring index; blocks from tail to head */
	uint64_t nr_images;              /* of committed transactions */
	uint64_t images_max;             /* that start a checkpoint; handles wait at twice as many */

	_Atomic int abort_err;
	void (*abort_fn)(void *arg, int err, const char *why);
	void *abort_arg;

	/* The commit thread's. */
	struct jnl_io *log_io;
	struct jnl_ent *log_ents;        /* max_trans */
	/* The checkpoint thread's; jsb also opening's and closing's. */
	struct jnl_io *ckpt_io;
	struct jnl_ent *ckpt_ents;       /* JNL_BATCH_MAX */
	void *jsb;                       /* page */

	/* Readonly: what replay found, pinned. */
	struct buf **pinned;
	size_t nr_pinned;

	struct jnl_stats stats;
};

#define JNL_BATCH_MAX  2048u
#define JNL_TRANS_MAX  4096u  /* blocks: bounds the copying while no handle may start */
#define JNL_TRANS_MIN  1024u  /* blocks: several of the largest handles fit in at once */
#define JNL_MEMORY     (64ull << 20)

/* Ring blocks of a transaction with so many images and revokes. */
static inline uint64_t jnl_trans_blocks(uint64_t nr_imgs, uint64_t nr_revokes)
{
	return nr_imgs + DIV_ROUND_UP(nr_imgs, OD_JDESC_MAX) +
	       DIV_ROUND_UP(nr_revokes, OD_JREV_MAX) + 1;
}
/* What t may grow to, with `more` credits for another handle. */
static inline uint64_t jnl_trans_need(const struct jnl_trans *t, uint64_t more)
{
	return jnl_trans_blocks(t->nr_imgs + t->credits_out + more,
				t->nr_revokes + t->revokes_out + more);
}
static inline bool jnl_trans_empty(const struct jnl_trans *t)
{
	return t->first_ns == 0;
}

/* journal.c */
struct jnl_trans *jnl_trans_new(void);
/* Give back images, revokes and the transaction; callbacks must have run. No lock held. */
void jnl_trans_free(struct jnl *j, struct jnl_trans *t);
void jnl_img_free(struct jnl *j, struct jnl_img *img);
void jnl_free_images(struct jnl *j, struct cds_list_head *imgs);
void jnl_run_callbacks(struct jnl_trans *t, int err);
void jnl_assert_state(const struct jnl *j);
/* Every entry from outside that takes the lock takes it so. */
static inline void jnl_enter(struct jnl *j)
{
	lk_lock(&j->lock);
	jnl_assert_state(j);
}
int jnl_err(const struct jnl *j);
/* handle.c */
struct jnl_img *jnl_img_new(struct jnl *j, struct buf *b);
/* commit.c, checkpoint.c: thread bodies; arg is the jnl. */
void *jnl_commit_main(void *arg);
void *jnl_ckpt_main(void *arg);
/*
 * An image is not needed any more (its block was committed again, or freed): unlink it
 * and put it on `dead`, or leave it to the batch that is writing it. Lock held.
 */
void jnl_img_retire(struct jnl *j, struct jnl_img *img, struct cds_list_head *dead);
/* Everything written before, then the journal superblock, is durable on return. */
int jnl_write_jsb(struct jnl *j, jnl_tid_t tail_seq, uint64_t tail_block, bool clean);
/* replay.c: read the journal superblock and replay; fills head, tail_tid and running tid. */
int jnl_recover(struct jnl *j, bool norecovery, jnl_tid_t *next_tid);

#endif

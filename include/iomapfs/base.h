/* SPDX-License-Identifier: MIT */
/*
 * base - what the public headers of libiomap (block.h, folio.h, iomap.h) need of the
 * layer below them: locks with ranks, worker pools, and where log lines go.
 *
 * Everything here is thread-safe unless a comment says otherwise. Functions return 0 or
 * a negative errno. Compile with gnu11 or later.
 */
#ifndef IOMAPFS_BASE_H
#define IOMAPFS_BASE_H

#ifdef __cplusplus
#error "the headers of libiomap are C (_Atomic, members named private): call it from a C file"
#endif

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <urcu/list.h>

/* Functions declared from here to the pop are libiomap's interface; all others stay inside it. */
#pragma GCC visibility push(default)

/* A structure that failed its own checks (kernel: EFSCORRUPTED is EUCLEAN). */
#define EFSCORRUPTED EUCLEAN

/* ---- Log (log.c) ------------------------------------------------------------ */
/*
 * The library writes a line only where a caller would otherwise learn too little: a callback
 * that broke its contract, a device that cannot be used as asked. Without a sink lines are
 * dropped. Sink and level are the process's, not a device's or a file system's.
 */
enum log_level { LOG_LVL_ERR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* A sink gets one line without newline; it must not call back into log_*. */
typedef void (*log_sink_fn)(enum log_level lvl, const char *line, void *arg);

/* NULL: drop every line. */
void log_set_sink(log_sink_fn fn, void *arg);
/* A sink: stderr, after the program's name. */
void log_stderr(enum log_level lvl, const char *line, void *arg);
void log_set_level(enum log_level max);

/* ---- Ranked locks (lock.c) ----------------------------------------------- */
/*
 * Locks carry a rank; with debug_checks a thread that takes a lock whose rank
 * is not above every rank it holds (of its kind) aborts with both names.
 * docs/LOCKING.md holds the table. Equal ranks may nest only through
 * lk_*_nested, which the caller uses when it has ordered the two itself.
 * None of these may be released by another thread than took it.
 */
enum lk_rank {
	LK_NONE = 0, /* not checked */
	LK_FUSE = 10,
	LK_FS_MOUNT = 20,     /* freeze, remount, sync of the whole file system */
	LK_FS_RENAME = 24,    /* one cross-directory rename at a time */
	LK_IOLOCK = 30,       /* inode.i_rwsem: directories before files, then by ino */
	LK_MAPLOCK = 40,      /* address_space.invalidate_lock */
	LK_DAX = 46,          /* areas that show a file's memory, and what they show */
	LK_FOLIO = 50,        /* folio lock (a bit, checked by folio/) */
	LK_TRANS = 60,        /* an open journal handle counts as a lock of this rank */
	LK_EXTLOCK = 70,      /* fs_inode.extlock: extent tree, delalloc, in-core attributes */
	LK_ICACHE = 74,       /* in-core inode table */
	LK_AG = 80,           /* one allocation group at a time */
	LK_SPACE = 84,        /* global free space counters */
	LK_INOBUF = 88,       /* inode block contents */
	LK_BUF = 90,          /* one buffer's state */
	LK_BUFCACHE = 94,     /* hash and LRU of buffers */
	LK_JNL = 100,         /* journal internals: short, never slept on */
	LK_MAPPING = 110,     /* folio index of one mapping */
	LK_FOLIO_STATE = 114, /* per-block state */
	LK_FOLIO_CACHE = 118, /* LRU, counters */
	LK_BD = 130,          /* block device internals */
	LK_LEAF = 200,
};

struct lk_mutex {
	pthread_mutex_t m;
	enum lk_rank rank;
	const char *name;
};
void lk_mutex_init(struct lk_mutex *l, enum lk_rank rank, const char *name);
void lk_mutex_destroy(struct lk_mutex *l);
void lk_lock(struct lk_mutex *l);
void lk_lock_nested(struct lk_mutex *l);
/* True when taken; never sleeps. */
bool lk_trylock(struct lk_mutex *l);
void lk_unlock(struct lk_mutex *l);
/* Wait on c with l held; l is released meanwhile and held again on return. */
void lk_cond_wait(pthread_cond_t *c, struct lk_mutex *l);
/* As above with a deadline of CLOCK_MONOTONIC; 0 or -ETIMEDOUT. c: lk_cond_init. */
int lk_cond_timedwait(pthread_cond_t *c, struct lk_mutex *l, uint64_t deadline_mono_ns);
void lk_cond_init(pthread_cond_t *c);
void lk_assert_held(const struct lk_mutex *l);

/* Reader-writer lock; writers are preferred, so a reader must not take it twice. */
struct lk_rwlock {
	pthread_rwlock_t rw;
	enum lk_rank rank;
	const char *name;
};
void lk_rw_init(struct lk_rwlock *l, enum lk_rank rank, const char *name);
void lk_rw_destroy(struct lk_rwlock *l);
void lk_rdlock(struct lk_rwlock *l);
void lk_wrlock(struct lk_rwlock *l);
void lk_wrlock_nested(struct lk_rwlock *l);
void lk_rdlock_nested(struct lk_rwlock *l);
bool lk_tryrdlock(struct lk_rwlock *l);
bool lk_trywrlock(struct lk_rwlock *l);
void lk_rw_unlock(struct lk_rwlock *l);

/* ---- Worker pools (work.c) ------------------------------------------------ */
/*
 * A pool runs queued work items first-in first-out on up to nr_threads threads,
 * started at creation. An item is owned by the caller and may be queued again
 * from inside its own function.
 */
struct work {
	struct cds_list_head list;
	void (*fn)(struct work *w);
};
struct work_pool;
int work_pool_create(const char *name, unsigned nr_threads, struct work_pool **out);
/* Runs what is queued, then joins the threads. No queueing after it began. */
void work_pool_destroy(struct work_pool *p);
void work_queue(struct work_pool *p, struct work *w);
/* Wait until everything queued before the call has finished. Not from a worker. */
void work_pool_drain(struct work_pool *p);
/* Number of items queued and not yet started. */
unsigned work_pool_backlog(struct work_pool *p);

#pragma GCC visibility pop

#endif

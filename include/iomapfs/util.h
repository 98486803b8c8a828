/* SPDX-License-Identifier: MIT */
/*
 * util - the small parts that no well-kept library gives.
 *
 * Everything here is thread-safe unless a comment says otherwise, knows nothing
 * of file systems, and returns 0 or a negative errno.
 *
 * Lists come from liburcu (<urcu/list.h>), search trees from libbsd
 * (<bsd/sys/tree.h>), CRC32C from ISA-L; they are used directly.
 */
#ifndef IOMAPFS_UTIL_H
#define IOMAPFS_UTIL_H

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <urcu/list.h>

/* ---- Arithmetic -------------------------------------------------------- */

#ifndef container_of
#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))
#endif
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Powers of two only: `a` is the alignment. */
#define ROUND_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define ROUND_UP(x, a) ROUND_DOWN((x) + ((__typeof__(x))(a) - 1), (a))
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a) - 1)) == 0)
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))

static inline bool is_pow2(uint64_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

/* Floor of the base-2 logarithm; v must not be 0. */
static inline unsigned ilog2(uint64_t v)
{
	return 63u - (unsigned)__builtin_clzll(v);
}

/* A structure that failed its own checks (kernel: EFSCORRUPTED is EUCLEAN). */
#define EFSCORRUPTED EUCLEAN

/* ---- Logging (log.c) ---------------------------------------------------- */

enum log_level { LOG_LVL_ERR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* A sink gets one line without newline; it must not call back into log_*. */
typedef void (*log_sink_fn)(enum log_level lvl, const char *line, void *arg);

/* Replace the sink (default: stderr with the program's name). NULL restores it. */
void log_set_sink(log_sink_fn fn, void *arg);
void log_set_level(enum log_level max);
void log_msg(enum log_level lvl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_err(...)   log_msg(LOG_LVL_ERR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_LVL_DEBUG, __VA_ARGS__)

/* At most `burst` lines in 5 s for each place that uses it. */
struct log_ratelimit {
	_Atomic uint64_t window_start_ns;
	_Atomic unsigned count;
};
bool log_ratelimit_ok(struct log_ratelimit *rl, unsigned burst);

/* ---- Checksums, randomness, time ---------------------------------------- */

/* CRC32C of buf continued from crc (0 to start); the final value is not inverted again. */
uint32_t crc32c_update(uint32_t crc, const void *buf, size_t len_bytes);

/* Seeded generator (xoshiro256**): the same seed gives the same sequence everywhere. */
struct rng {
	uint64_t s[4];
};
void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
/* Uniform in [0, n); n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_mono_ns(void);
/* CLOCK_REALTIME_COARSE: what file times use (as the kernel's current_time). */
struct timespec clock_real_ts(void);

/* ---- File data (copy.c) --------------------------------------------------- */
/*
 * memcpy and memset for the bytes of files, in memory that several may touch at once: a
 * reader copies a page out while a writer fills it, and a device reads a page under
 * writeback that is being written (it is dirty again and written again). As in a kernel's
 * page cache nothing orders these, only whole operations are ordered by the inode's lock.
 * Everything else is memcpy: ThreadSanitizer watches that, and does not watch these.
 */
void data_copy(void *dst, const void *src, size_t n);
void data_zero(void *dst, size_t n);

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
/* As above with a deadline of clock_mono_ns(); 0 or -ETIMEDOUT. c: lk_cond_init. */
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

/* Things that order like a lock but are none (journal handle, folio lock bit). */
void lk_virtual_acquire(enum lk_rank rank, const char *name);
void lk_virtual_release(enum lk_rank rank, const char *name);

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

/* ---- Hook points (hook.c) --------------------------------------------------- */
/*
 * HOOK("layer:place", arg) calls whatever a test installed under that name.
 * Compiled to nothing without debug_checks. Used to force interleavings.
 */
typedef void (*hook_fn)(const char *name, void *site_arg, void *test_arg);
int hook_install(const char *name, hook_fn fn, void *test_arg);
void hook_remove(const char *name);
void hook_fire(const char *name, void *site_arg);
extern _Atomic unsigned hook_nr_installed;
#if IOMAPFS_DEBUG
#define HOOK(name, arg) \
	do { \
		if (atomic_load_explicit(&hook_nr_installed, memory_order_relaxed)) \
			hook_fire((name), (arg)); \
	} while (0)
#else
#define HOOK(name, arg) ((void)(arg))
#endif

/* ---- Broken on purpose (test_break.c) ------------------------------------------ */
/*
 * TEST_BREAK("name") is true in a build with -Dtest_switches=true that runs with
 * IOMAPFS_BREAK=name in its environment: the place then does the wrong thing, to show that the
 * tests see it. In every other build it is false and compiled to nothing.
 */
#ifdef IOMAPFS_TEST_SWITCHES
bool test_break(const char *name);
#define TEST_BREAK(name) test_break(name)
#else
#define TEST_BREAK(name) false
#endif

#endif

/* SPDX-License-Identifier: MIT */
/*
 * util - the small parts that no well-kept library gives.
 *
 * Everything here is thread-safe unless a comment says otherwise, knows nothing
 * of file systems, and returns 0 or a negative errno.
 *
 * Lists come from liburcu (<urcu/list.h>), search trees from libbsd
 * (<bsd/sys/tree.h>), CRC32C from ISA-L; they are used directly. What the users of
 * libiomap see of this layer stands in base.h.
 */
#ifndef IOMAPFS_UTIL_H
#define IOMAPFS_UTIL_H

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/types.h>

#include "iomapfs/base.h"

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

/* ---- Logging (log.c); sinks and levels are in base.h --------------------- */

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

/* ---- Ranked locks (lock.c); the locks themselves are in base.h ----------- */

/* Things that order like a lock but are none (journal handle, folio lock bit). */
void lk_virtual_acquire(enum lk_rank rank, const char *name);
void lk_virtual_release(enum lk_rank rank, const char *name);

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

/* ---- Trace points ---------------------------------------------------------------- */
/*
 * TRACE(name, a, b, c): a place that perf, bpftrace or gdb can stop at, with three numbers, as the probe
 * iomapfs:name (`perf list sdt_iomapfs:*` once perf knows the program; bench/README.md). One no-op
 * instruction until then: the arguments are named in a note of the file, so they should be at hand.
 */
#ifdef HAVE_SDT
#include <sys/sdt.h>
#define TRACE(name, a, b, c) STAP_PROBE3(iomapfs, name, a, b, c)
#else
#define TRACE(name, a, b, c) ((void)(a), (void)(b), (void)(c))
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

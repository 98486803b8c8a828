/* SPDX-License-Identifier: MIT */
/*
 * Mutexes and reader-writer locks with ranks. The rank check keeps a small
 * per-thread stack of what is held; it exists only with debug_checks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "iomapfs/util.h"

#if IOMAPFS_DEBUG
#define HELD_MAX 64

struct held {
	enum lk_rank rank;
	const char *name;
	const void *lock;
};
static _Thread_local struct held held[HELD_MAX];
static _Thread_local unsigned nr_held;

static void die_order(enum lk_rank rank, const char *name, const struct held *h)
{
	fprintf(stderr, "lock order: taking %s (rank %d) while holding %s (rank %d); held:", name,
		rank, h->name, h->rank);
	for (unsigned i = 0; i < nr_held; i++)
		fprintf(stderr, " %s(%d)", held[i].name, held[i].rank);
	fputc('\n', stderr);
	abort();
}

static void held_check(enum lk_rank rank, const char *name, bool nested)
{
	if (rank == LK_NONE)
		return;
	for (unsigned i = 0; i < nr_held; i++) {
		const struct held *h = &held[i];

		if (h->rank == LK_NONE)
			continue;
		if (h->rank > rank || (h->rank == rank && !nested))
			die_order(rank, name, h);
	}
}

static void held_push(const void *lock, enum lk_rank rank, const char *name)
{
	if (nr_held == HELD_MAX) {
		fprintf(stderr, "lock order: more than %d locks held at %s\n", HELD_MAX, name);
		abort();
	}
	held[nr_held++] = (struct held){ rank, name, lock };
}

static void held_pop(const void *lock, enum lk_rank rank, const char *name)
{
	for (unsigned i = nr_held; i-- > 0;) {
		if (held[i].lock != lock || held[i].rank != rank)
			continue;
		for (; i + 1 < nr_held; i++)
			held[i] = held[i + 1];
		nr_held--;
		return;
	}
	fprintf(stderr, "lock order: releasing %s, which this thread does not hold\n", name);
	abort();
}
#else
static inline void held_check(enum lk_rank r, const char *n, bool nested) {}
static inline void held_push(const void *l, enum lk_rank r, const char *n) {}
static inline void held_pop(const void *l, enum lk_rank r, const char *n) {}
#endif

void lk_mutex_init(struct lk_mutex *l, enum lk_rank rank, const char *name)
{
	pthread_mutex_init(&l->m, NULL);
	l->rank = rank;
	l->name = name;
}

void lk_mutex_destroy(struct lk_mutex *l)
{
	pthread_mutex_destroy(&l->m);
}

void lk_lock(struct lk_mutex *l)
{
	held_check(l->rank, l->name, false);
	pthread_mutex_lock(&l->m);
	held_push(l, l->rank, l->name);
}

void lk_lock_nested(struct lk_mutex *l)
{
	held_check(l->rank, l->name, true);
	pthread_mutex_lock(&l->m);
	held_push(l, l->rank, l->name);
}

bool lk_trylock(struct lk_mutex *l)
{
	/* A try cannot deadlock, so its order is not checked. */
	if (pthread_mutex_trylock(&l->m))
		return false;
	held_push(l, l->rank, l->name);
	return true;
}

void lk_unlock(struct lk_mutex *l)
{
	held_pop(l, l->rank, l->name);
	pthread_mutex_unlock(&l->m);
}

void lk_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

void lk_cond_wait(pthread_cond_t *c, struct lk_mutex *l)
{
	held_pop(l, l->rank, l->name);
	pthread_cond_wait(c, &l->m);
	held_push(l, l->rank, l->name);
}

int lk_cond_timedwait(pthread_cond_t *c, struct lk_mutex *l, uint64_t deadline_mono_ns)
{
	struct timespec ts = { (time_t)(deadline_mono_ns / 1000000000u),
			       (long)(deadline_mono_ns % 1000000000u) };
	int err;

	held_pop(l, l->rank, l->name);
	err = pthread_cond_timedwait(c, &l->m, &ts);
	held_push(l, l->rank, l->name);
	return -err;
}

void lk_assert_held(const struct lk_mutex *l)
{
#if IOMAPFS_DEBUG
	for (unsigned i = 0; i < nr_held; i++)
		if (held[i].lock == l)
			return;
	fprintf(stderr, "lock %s should be held here\n", l->name);
	abort();
#else
	(void)l;
#endif
}

void lk_rw_init(struct lk_rwlock *l, enum lk_rank rank, const char *name)
{
	pthread_rwlockattr_t a;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&l->rw, &a);
	pthread_rwlockattr_destroy(&a);
	l->rank = rank;
	l->name = name;
}

void lk_rw_destroy(struct lk_rwlock *l)
{
	pthread_rwlock_destroy(&l->rw);
}

static void rw_take(struct lk_rwlock *l, bool write, bool nested)
{
	held_check(l->rank, l->name, nested);
	if (write)
		pthread_rwlock_wrlock(&l->rw);
	else
		pthread_rwlock_rdlock(&l->rw);
	held_push(l, l->rank, l->name);
}

void lk_rdlock(struct lk_rwlock *l)
{
	rw_take(l, false, false);
}

void lk_wrlock(struct lk_rwlock *l)
{
	rw_take(l, true, false);
}

void lk_rdlock_nested(struct lk_rwlock *l)
{
	rw_take(l, false, true);
}

void lk_wrlock_nested(struct lk_rwlock *l)
{
	rw_take(l, true, true);
}

bool lk_tryrdlock(struct lk_rwlock *l)
{
	if (pthread_rwlock_tryrdlock(&l->rw))
		return false;
	held_push(l, l->rank, l->name);
	return true;
}

bool lk_trywrlock(struct lk_rwlock *l)
{
	if (pthread_rwlock_trywrlock(&l->rw))
		return false;
	held_push(l, l->rank, l->name);
	return true;
}

void lk_rw_unlock(struct lk_rwlock *l)
{
	held_pop(l, l->rank, l->name);
	pthread_rwlock_unlock(&l->rw);
}

void lk_virtual_acquire(enum lk_rank rank, const char *name)
{
	held_check(rank, name, false);
	held_push(name, rank, name);
}

void lk_virtual_release(enum lk_rank rank, const char *name)
{
	held_pop(name, rank, name);
}

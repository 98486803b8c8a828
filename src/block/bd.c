/* SPDX-License-Identifier: MIT */
/* Requests: checks against the device's limits, synchronous forms, fall-backs. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bd_private.h"
#include "iomapfs/util.h"

static bool atomic_ok(const struct bd *bd, const struct bd_io *io)
{
	return io->op == BD_WRITE && io->nr_iov == 1 && is_pow2(io->len) && IS_ALIGNED(io->offset, io->len) &&
	       io->len >= bd->info.atomic_min && io->len <= bd->info.atomic_max;
}

/* A request that breaks the contract is a bug above us: refused, never sent. */
static int bd_io_check(const struct bd *bd, const struct bd_io *io)
{
	uint64_t align = bd->info.logical_block;
	uint64_t sum = 0;

	if (io->op == BD_FLUSH)
		return io->len == 0 ? 0 : -EINVAL;
	if (!IS_ALIGNED(io->offset, align) || !IS_ALIGNED(io->len, align) || io->len == 0)
		return -EINVAL;
	if ((io->flags & BD_ATOMIC) && !atomic_ok(bd, io))
		return -EINVAL;
	if (io->offset > bd->info.size || io->len > bd->info.size - io->offset)
		return -EIO;
	if (io->op != BD_READ && bd->info.readonly)
		return -EROFS;
	if (io->op != BD_READ && io->op != BD_WRITE)
		return 0;
	if (io->nr_iov == 0 || io->nr_iov > bd->info.max_segments)
		return -EINVAL;
	for (unsigned i = 0; i < io->nr_iov; i++) {
		if (!IS_ALIGNED((uintptr_t)io->iov[i].iov_base, (uintptr_t)bd->info.mem_align))
			return -EINVAL;
		sum += io->iov[i].iov_len;
	}
	return sum == io->len ? 0 : -EINVAL;
}

void bd_io_end(struct bd_io *io, int error)
{
	assert(error <= 0);
	io->error = error;
	TRACE(bd_end, io->op, io->offset, error);
	io->end_io(io);
}

static void count(struct bd *bd, const struct bd_io *io)
{
#define BUMP(field, n) \
	atomic_fetch_add_explicit(&bd->counters.field, (n), memory_order_relaxed)
	switch (io->op) {
	case BD_READ:
		BUMP(reads, 1);
		BUMP(read_bytes, io->len);
		break;
	case BD_WRITE:
		BUMP(writes, 1);
		BUMP(write_bytes, io->len);
		if (io->flags & BD_PREFLUSH)
			BUMP(flushes, 1);
		break;
	case BD_FLUSH:
		BUMP(flushes, 1);
		break;
	case BD_DISCARD:
	case BD_WRITE_ZEROES:
		BUMP(discards, 1);
		break;
	}
#undef BUMP
}

void bd_get_stats(const struct bd *bd, struct bd_stats *st)
{
#define LOAD(field) .field = atomic_load_explicit(&bd->counters.field, memory_order_relaxed)
	*st = (struct bd_stats){ LOAD(reads), LOAD(writes), LOAD(flushes), LOAD(discards),
				 LOAD(read_bytes), LOAD(write_bytes), LOAD(persists),
				 LOAD(persist_bytes) };
#undef LOAD
}

void bd_submit(struct bd *bd, struct bd_io *io)
{
	int err = bd_io_check(bd, io);

	if (err) {
		if (err == -EINVAL)
			log_err("%s: malformed request: op %d offset %llu length %llu", bd->name,
				io->op, (unsigned long long)io->offset, (unsigned long long)io->len);
		bd_io_end(io, err);
		return;
	}
	count(bd, io);
	TRACE(bd_submit, io->op, io->offset, io->len);
	bd->ops->submit(bd, io);
}

void bd_plug(struct bd *bd)
{
	if (bd->ops->plug)
		bd->ops->plug(bd);
}

void bd_unplug(struct bd *bd)
{
	if (bd->ops->unplug)
		bd->ops->unplug(bd);
}

int bd_register_memory(struct bd *bd, const struct iovec *ranges, unsigned nr)
{
	return bd->ops->register_memory ? bd->ops->register_memory(bd, ranges, nr) : -EOPNOTSUPP;
}

int bd_dax_map(struct bd *bd, struct bd_dax *out)
{
	return bd->ops->dax_map ? bd->ops->dax_map(bd, out) : -EOPNOTSUPP;
}

int bd_dax_persist(struct bd *bd, uint64_t offset, uint64_t len)
{
	assert(offset <= bd->info.size && len <= bd->info.size - offset);
	atomic_fetch_add_explicit(&bd->counters.persists, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&bd->counters.persist_bytes, len, memory_order_relaxed);
	return bd->ops->dax_persist(bd, offset, len);
}

void bd_close(struct bd *bd)
{
	char *name;

	if (!bd)
		return;
	name = bd->name;
	bd->ops->destroy(bd);
	free(name);
}

struct sync_wait {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void sync_end_io(struct bd_io *io)
{
	struct sync_wait *w = io->private;

	/* Signal under the lock: the waiter's frame goes away once it sees done. */
	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

/* Carry out one request and wait for it. */
static int bd_do(struct bd *bd, struct bd_io *io)
{
	struct sync_wait w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false };

	if (bd->ops->sync) {
		int err = bd_io_check(bd, io);

		if (err)
			return err;
		count(bd, io);
		return bd->ops->sync(bd, io);
	}
	io->end_io = sync_end_io;
	io->private = &w;
	bd_submit(bd, io);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_mutex_destroy(&w.lock);
	pthread_cond_destroy(&w.cond);
	return io->error;
}

static int bd_rw(struct bd *bd, enum bd_op op, uint64_t offset, void *buf, uint64_t len, unsigned flags)
{
	while (len > 0) {
		uint64_t n = MIN(len, (uint64_t)bd->info.max_io);
		struct iovec iov = { buf, n };
		struct bd_io io = { .op = op, .flags = flags, .offset = offset, .len = n,
				    .iov = &iov, .nr_iov = 1 };
		int err = bd_do(bd, &io);

		if (err)
			return err;
		offset += n;
		buf = (char *)buf + n;
		len -= n;
	}
	return 0;
}

int bd_read(struct bd *bd, uint64_t offset, void *buf, uint64_t len)
{
	return bd_rw(bd, BD_READ, offset, buf, len, 0);
}

int bd_write(struct bd *bd, uint64_t offset, const void *buf, uint64_t len, unsigned flags)
{
	return bd_rw(bd, BD_WRITE, offset, (void *)(uintptr_t)buf, len, flags);
}

int bd_flush(struct bd *bd)
{
	struct bd_io io = { .op = BD_FLUSH };

	return bd_do(bd, &io);
}

int bd_discard(struct bd *bd, uint64_t offset, uint64_t len)
{
	struct bd_io io = { .op = BD_DISCARD, .offset = offset, .len = len };

	if (!bd->info.discard_granularity)
		return -EOPNOTSUPP;
	return bd_do(bd, &io);
}

int bd_write_zeroes(struct bd *bd, uint64_t offset, uint64_t len)
{
	struct bd_io io = { .op = BD_WRITE_ZEROES, .offset = offset, .len = len };
	const size_t chunk = 1u << 20;
	void *zeros;
	int err = bd_do(bd, &io);

	if (err != -EOPNOTSUPP)
		return err;
	if (posix_memalign(&zeros, 4096, chunk))
		return -ENOMEM;
	memset(zeros, 0, chunk);
	for (err = 0; !err && len > 0;) {
		uint64_t n = MIN(len, (uint64_t)chunk);

		err = bd_write(bd, offset, zeros, n, 0);
		offset += n;
		len -= n;
	}
	free(zeros);
	return err;
}

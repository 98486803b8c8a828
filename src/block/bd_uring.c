/* SPDX-License-Identifier: MIT */
/*
 * Host files and block devices through io_uring. One ring a device: submitters
 * share its submission queue under a mutex, one thread reaps completions. Where
 * io_uring is not to be had (seccomp, sysctl) the same requests run on a few
 * worker threads instead.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "bd_private.h"
#include "iomapfs/util.h"

#define RING_ENTRIES 512
#define SLOW_THREADS 2 /* discard, write zeroes: their system calls have no ring form everywhere */
#define NO_RING_THREADS 8

/* Low bits of user_data tell what ended; requests are at least 8-byte aligned. */
#define TAG_IO       0u
#define TAG_PREFLUSH 1u
#define TAG_MASK     7u
#define UD_STOP      UINT64_MAX

struct bd_uring {
	struct bd bd;
	struct bd_host host;
	bool have_ring;
	struct io_uring ring;
	struct lk_mutex sq_lock;
	pthread_t reaper;
	/*
	 * The kernel's hand-over from submission to completion is invisible to the C
	 * memory model: submitters release here before, the reaper acquires after.
	 */
	_Atomic uint64_t edge;
	struct work_pool *slow;
	struct lk_mutex flight_lock;
	pthread_cond_t flight_cond;
	uint64_t in_flight;
	struct bd_poll *poll; /* NULL: no polled ring */
	struct iovec *fixed; /* registered memory */
	unsigned nr_fixed;
	pthread_mutex_t dax_lock;
	struct bd_dax_file dax; /* dax_lock; mapped by the first bd_dax_map */
};

/* Per-request state in bd_io.dev_private. */
struct uring_io {
	struct iovec *rest;    /* copy of what is left after a short transfer */
	uint64_t done;         /* bytes transferred */
	int preflush_error;
	struct bd_io *io;
};
_Static_assert(sizeof(struct uring_io) <= sizeof(((struct bd_io *)0)->dev_private), "dev_private");

static _Thread_local struct {
	struct bd_uring *dev;
	unsigned depth;
	bool pending;
} plug;

static struct bd_uring *to_uring(struct bd *bd)
{
	return container_of(bd, struct bd_uring, bd);
}

static struct uring_io *uio_of(struct bd_io *io)
{
	return (struct uring_io *)io->dev_private;
}

static void flight_begin(struct bd_uring *u)
{
	lk_lock(&u->flight_lock);
	u->in_flight++;
	lk_unlock(&u->flight_lock);
}

static void flight_end(struct bd_uring *u)
{
	lk_lock(&u->flight_lock);
	assert(u->in_flight > 0);
	if (--u->in_flight == 0)
		pthread_cond_broadcast(&u->flight_cond);
	lk_unlock(&u->flight_lock);
}

static void finish(struct bd_uring *u, struct bd_io *io, int error)
{
	free(uio_of(io)->rest);
	bd_io_end(io, error); /* may free io */
	flight_end(u);
}

/* ---- Worker path: what the ring does not do ------------------------------------- */

struct slow_io {
	struct work work;
	struct bd_uring *dev;
	struct bd_io *io;
};

static void slow_run(struct work *w)
{
	struct slow_io *s = container_of(w, struct slow_io, work);
	struct bd_uring *u = s->dev;
	struct bd_io *io = s->io;

	free(s);
	finish(u, io, bd_host_sync(&u->host, io));
}

static void submit_slow(struct bd_uring *u, struct bd_io *io)
{
	struct slow_io *s = malloc(sizeof(*s));

	if (!s) {
		finish(u, io, -ENOMEM);
		return;
	}
	*s = (struct slow_io){ .work = { .fn = slow_run }, .dev = u, .io = io };
	work_queue(u->slow, &s->work);
}

/* ---- Ring ------------------------------------------------------------------------- */

static void ring_flush_sq(struct bd_uring *u)
{
	int r;

	lk_assert_held(&u->sq_lock);
	do {
		r = io_uring_submit(&u->ring);
	} while (r == -EINTR || r == -EAGAIN || r == -EBUSY);
	/* Anything else means that the ring itself is broken: no request could be trusted. */
	if (r < 0) {
		log_err("%s: io_uring_submit: %s", u->bd.name, strerror(-r));
		abort();
	}
}

static struct io_uring_sqe *get_sqe(struct bd_uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe) {
		ring_flush_sq(u);
		sqe = io_uring_get_sqe(&u->ring);
	}
	assert(sqe); /* submission consumes every entry */
	return sqe;
}

static int fixed_index(const struct bd_uring *u, const struct iovec *v)
{
	for (unsigned i = 0; i < u->nr_fixed; i++) {
		uintptr_t base = (uintptr_t)u->fixed[i].iov_base;
		uintptr_t p = (uintptr_t)v->iov_base;

		if (p >= base && p - base <= u->fixed[i].iov_len &&
		    v->iov_len <= u->fixed[i].iov_len - (p - base))
			return (int)i;
	}
	return -1;
}

static void prep_rw(struct bd_uring *u, struct io_uring_sqe *sqe, struct bd_io *io)
{
	struct uring_io *ui = uio_of(io);
	const struct iovec *iov = ui->rest ? ui->rest : io->iov;
	uint64_t offset = io->offset + ui->done;
	/* The kernel takes an untorn write only from memory given by address. */
	bool may_fix = io->nr_iov == 1 && u->nr_fixed && !(io->flags & BD_ATOMIC);
	int idx = may_fix ? fixed_index(u, iov) : -1;

	if (io->op == BD_READ && idx >= 0)
		io_uring_prep_read_fixed(sqe, 0, iov->iov_base, (unsigned)iov->iov_len, offset, idx);
	else if (io->op == BD_READ)
		io_uring_prep_readv(sqe, 0, iov, io->nr_iov, offset);
	else if (idx >= 0)
		io_uring_prep_write_fixed(sqe, 0, iov->iov_base, (unsigned)iov->iov_len, offset, idx);
	else
		io_uring_prep_writev(sqe, 0, iov, io->nr_iov, offset);
	if (io->op == BD_WRITE)
		sqe->rw_flags = bd_host_rw_flags(io);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)io | TAG_IO);
}

static void ring_queue(struct bd_uring *u, struct bd_io *io)
{
	struct io_uring_sqe *sqe;

	lk_lock(&u->sq_lock);
	/* A linked pair must not be torn between two submissions. */
	if ((io->flags & BD_PREFLUSH) && io_uring_sq_space_left(&u->ring) < 2)
		ring_flush_sq(u);
	sqe = get_sqe(u);
	if (io->op == BD_FLUSH) {
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
		io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)io | TAG_IO);
	} else {
		if (io->flags & BD_PREFLUSH) {
			io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
			io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | IOSQE_IO_LINK);
			io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)io | TAG_PREFLUSH);
			sqe = get_sqe(u);
		}
		prep_rw(u, sqe, io);
	}
	atomic_fetch_add_explicit(&u->edge, 1, memory_order_release);
	if (plug.dev == u)
		plug.pending = true;
	else
		ring_flush_sq(u);
	lk_unlock(&u->sq_lock);
}

/* A short transfer: go on with the rest. */
static int requeue_rest(struct bd_uring *u, struct bd_io *io, uint64_t n)
{
	struct uring_io *ui = uio_of(io);
	uint64_t skip = ui->done + n;
	unsigned i = 0;

	if (!ui->rest) {
		ui->rest = malloc(io->nr_iov * sizeof(*ui->rest));
		if (!ui->rest)
			return -ENOMEM;
	}
	ui->done = skip;
	memcpy(ui->rest, io->iov, io->nr_iov * sizeof(*ui->rest));
	/* Entries that are through become empty, so that nr_iov stays the caller's. */
	for (; skip >= ui->rest[i].iov_len; i++) {
		skip -= ui->rest[i].iov_len;
		ui->rest[i].iov_len = 0;
	}
	ui->rest[i].iov_base = (char *)ui->rest[i].iov_base + skip;
	ui->rest[i].iov_len -= skip;
	io->flags &= ~BD_PREFLUSH; /* done already */
	ring_queue(u, io);
	return 0;
}

static void complete(struct bd_uring *u, uint64_t ud, int res)
{
	struct bd_io *io = (struct bd_io *)(uintptr_t)(ud & ~(uint64_t)TAG_MASK);
	struct uring_io *ui = uio_of(io);

	if ((ud & TAG_MASK) == TAG_PREFLUSH) {
		ui->preflush_error = res < 0 ? res : 0;
		return; /* the linked write follows, cancelled if this failed */
	}
	if (ui->preflush_error)
		res = ui->preflush_error;
	HOOK("bd:uring-done", &res);
	if (io->op != BD_FLUSH && (res == -EINTR || res == -EAGAIN))
		res = requeue_rest(u, io, 0) ?: 1; /* 1: goes on */
	else if (io->op != BD_FLUSH && res == 0)
		res = -EIO; /* end of the image: it was cut short under us */
	else if ((io->flags & BD_ATOMIC) && res > 0 && (uint64_t)res < io->len)
		res = -EIO; /* torn: the rest as a write of its own would hide that */
	else if (io->op != BD_FLUSH && res > 0 && ui->done + (uint64_t)res < io->len)
		res = requeue_rest(u, io, (uint64_t)res) ?: 1;
	else if (res > 0)
		res = 0;
	if (res <= 0)
		finish(u, io, res);
}

/* From the polled ring. What it could not do, or not all of it, goes on in the ordinary one. */
static void poll_done(void *arg, struct bd_io *io, int res)
{
	struct bd_uring *u = arg;

	io->flags &= ~BD_POLL;
	if (res == -EOPNOTSUPP || res == -EINVAL)
		ring_queue(u, io);
	else
		complete(u, (uint64_t)(uintptr_t)io | TAG_IO, res);
}

static bool may_poll(const struct bd_uring *u, const struct bd_io *io)
{
	return u->poll && (io->flags & BD_POLL) && !(io->flags & (BD_FUA | BD_PREFLUSH)) &&
	       (io->op == BD_READ || io->op == BD_WRITE);
}

static void *reap(void *arg)
{
	struct bd_uring *u = arg;

	for (;;) {
		struct io_uring_cqe *cqe;
		uint64_t ud;
		int res, r = io_uring_wait_cqe(&u->ring, &cqe);

		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r < 0) {
			log_err("%s: io_uring_wait_cqe: %s", u->bd.name, strerror(-r));
			abort();
		}
		ud = io_uring_cqe_get_data64(cqe);
		res = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		(void)atomic_load_explicit(&u->edge, memory_order_acquire);
		if (ud == UD_STOP)
			return NULL;
		complete(u, ud, res);
	}
}

/* ---- Ops ------------------------------------------------------------------------------ */

static void uring_submit(struct bd *bd, struct bd_io *io)
{
	struct bd_uring *u = to_uring(bd);

	memset(io->dev_private, 0, sizeof(io->dev_private));
	flight_begin(u);
	if (!u->have_ring || io->op == BD_DISCARD || io->op == BD_WRITE_ZEROES)
		submit_slow(u, io);
	else if (!may_poll(u, io) || !bd_poll_submit(u->poll, io))
		ring_queue(u, io);
}

static int uring_sync(struct bd *bd, struct bd_io *io)
{
	return bd_host_sync(&to_uring(bd)->host, io);
}

static void uring_plug(struct bd *bd)
{
	struct bd_uring *u = to_uring(bd);

	if (!u->have_ring || (plug.dev && plug.dev != u))
		return; /* another device is plugged: this one goes unbatched */
	plug.dev = u;
	plug.depth++;
}

static void uring_unplug(struct bd *bd)
{
	struct bd_uring *u = to_uring(bd);

	if (plug.dev != u || --plug.depth > 0)
		return;
	plug.dev = NULL;
	if (!plug.pending)
		return;
	plug.pending = false;
	lk_lock(&u->sq_lock);
	ring_flush_sq(u);
	lk_unlock(&u->sq_lock);
}

static int uring_register_memory(struct bd *bd, const struct iovec *ranges, unsigned nr)
{
	struct bd_uring *u = to_uring(bd);
	int r;

	if (!u->have_ring)
		return -EOPNOTSUPP;
	if (u->nr_fixed)
		return -EBUSY;
	u->fixed = malloc(nr * sizeof(*u->fixed));
	if (!u->fixed)
		return -ENOMEM;
	memcpy(u->fixed, ranges, nr * sizeof(*u->fixed));
	r = io_uring_register_buffers(&u->ring, ranges, nr);
	if (r) {
		free(u->fixed);
		u->fixed = NULL;
		return r;
	}
	u->nr_fixed = nr;
	return 0;
}

static void stop_ring(struct bd_uring *u)
{
	struct io_uring_sqe *sqe;

	lk_lock(&u->sq_lock);
	sqe = get_sqe(u);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, UD_STOP);
	ring_flush_sq(u);
	lk_unlock(&u->sq_lock);
	pthread_join(u->reaper, NULL);
	/* The ring is torn down some time after its last close; it must not keep the file till then. */
	io_uring_unregister_files(&u->ring);
	io_uring_queue_exit(&u->ring);
}

static void uring_destroy(struct bd *bd)
{
	struct bd_uring *u = to_uring(bd);

	lk_lock(&u->flight_lock);
	while (u->in_flight)
		lk_cond_wait(&u->flight_cond, &u->flight_lock);
	lk_unlock(&u->flight_lock);
	work_pool_destroy(u->slow);
	bd_poll_destroy(u->poll);
	if (u->have_ring)
		stop_ring(u);
	bd_dax_file_unmap(&u->dax);
	bd_host_close(&u->host);
	pthread_mutex_destroy(&u->dax_lock);
	free(u->fixed);
	lk_mutex_destroy(&u->sq_lock);
	lk_mutex_destroy(&u->flight_lock);
	pthread_cond_destroy(&u->flight_cond);
	free(u);
}

static int uring_dax_map(struct bd *bd, struct bd_dax *out)
{
	struct bd_uring *u = to_uring(bd);
	int err = 0;

	if (u->host.is_blockdev || !bd_dax_file_ok(u->host.fd))
		return -EOPNOTSUPP;
	pthread_mutex_lock(&u->dax_lock);
	if (!u->dax.base)
		err = bd_dax_file_map(u->host.fd, bd->info.size, bd->info.readonly, &u->dax);
	*out = (struct bd_dax){ .base = u->dax.base, .fd = u->host.fd };
	pthread_mutex_unlock(&u->dax_lock);
	return err;
}

static int uring_dax_persist(struct bd *bd, uint64_t offset, uint64_t len)
{
	return bd_dax_file_persist(&to_uring(bd)->dax, offset, len);
}

static const struct bd_ops uring_ops = {
	.name = "uring",
	.submit = uring_submit,
	.sync = uring_sync,
	.plug = uring_plug,
	.unplug = uring_unplug,
	.register_memory = uring_register_memory,
	.dax_map = uring_dax_map,
	.dax_persist = uring_dax_persist,
	.destroy = uring_destroy,
};

/*
 * Requests of a ring are seen by no system call filter. Whoever may submit to this one, by
 * whatever mistake, can do with it what is done here: read and write what is open already.
 */
static int restrict_ring(struct bd_uring *u)
{
	static const uint8_t ops[] = { IORING_OP_NOP,	     IORING_OP_READV,	    IORING_OP_WRITEV,
				       IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, IORING_OP_FSYNC };
	static const uint8_t calls[] = { IORING_REGISTER_BUFFERS, IORING_UNREGISTER_FILES };
	struct io_uring_restriction res[ARRAY_SIZE(ops) + ARRAY_SIZE(calls) + 1] = {
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
		  .sqe_flags = IOSQE_FIXED_FILE | IOSQE_IO_LINK },
	};
	unsigned n = 1;
	int err;

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		res[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP,
							  .sqe_op = ops[i] };
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		res[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_REGISTER_OP,
							  .register_op = calls[i] };
	assert(n == ARRAY_SIZE(res));
	/* liburing 2.3 declares functions for these two, but does not export them. */
	err = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, res, n);
	if (!err)
		err = io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return err;
}

static int start_ring(struct bd_uring *u)
{
	int err = io_uring_queue_init(RING_ENTRIES, &u->ring,
				      IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED);

	if (err)
		return err;
	err = io_uring_register_files(&u->ring, &u->host.fd, 1);
	if (!err)
		err = restrict_ring(u);
	if (!err)
		err = -pthread_create(&u->reaper, NULL, reap, u);
	if (err) {
		io_uring_queue_exit(&u->ring);
		return err;
	}
	pthread_setname_np(u->reaper, "bd-reap");
	u->have_ring = true;
	return 0;
}

int bd_open(const char *path, unsigned flags, struct bd **out)
{
	struct bd_uring *u = calloc(1, sizeof(*u));
	int err;

	if (!u)
		return -ENOMEM;
	u->bd.ops = &uring_ops;
	err = bd_host_open(path, flags, &u->host, &u->bd.info);
	if (err)
		goto out_free;
	u->bd.name = strdup(path);
	if (!u->bd.name) {
		err = -ENOMEM;
		goto out_close;
	}
	pthread_mutex_init(&u->dax_lock, NULL);
	lk_mutex_init(&u->sq_lock, LK_BD, "bd_sq");
	lk_mutex_init(&u->flight_lock, LK_LEAF, "bd_flight");
	lk_cond_init(&u->flight_cond);
	err = start_ring(u);
	if (err)
		log_info("%s: io_uring is not available (%s): using threads", path, strerror(-err));
	/* Only for what goes past the page cache. Without, such requests are ordinary ones. */
	if ((flags & BD_OPEN_POLL) && u->have_ring && u->bd.info.direct &&
	    bd_poll_create(u->host.fd, poll_done, u, &u->poll))
		u->poll = NULL;
	err = work_pool_create("bd-slow", u->have_ring ? SLOW_THREADS : NO_RING_THREADS, &u->slow);
	if (err)
		goto out_ring;
	*out = &u->bd;
	return 0;

out_ring:
	bd_poll_destroy(u->poll);
	if (u->have_ring)
		stop_ring(u);
	free(u->bd.name);
out_close:
	bd_host_close(&u->host);
out_free:
	free(u);
	return err;
}

int bd_fd(const struct bd *bd)
{
	return bd->ops == &uring_ops ? to_uring((struct bd *)(uintptr_t)bd)->host.fd : -1;
}

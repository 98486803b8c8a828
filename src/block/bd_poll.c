/* SPDX-License-Identifier: MIT */
/*
 * A second ring, whose completions are looked for instead of waited for (IORING_SETUP_IOPOLL). One thread
 * looks, and sleeps while nothing is in flight. Not every file and device can: the first that says so
 * turns it off, and its request goes the ordinary way.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "bd_private.h"
#include "iomapfs/util.h"

#define POLL_ENTRIES 64

struct bd_poll {
	struct io_uring ring;
	struct lk_mutex lock;       /* submission, in_flight, stop */
	pthread_cond_t work;
	unsigned in_flight;
	bool stop;
	_Atomic bool off;           /* learned: the device cannot */
	_Atomic uint64_t edge;      /* as in bd_uring */
	pthread_t thread;
	bd_poll_done_t done;
	void *arg;
};

static bool wait_for_work(struct bd_poll *p)
{
	bool go;

	lk_lock(&p->lock);
	while (!p->in_flight && !p->stop)
		lk_cond_wait(&p->work, &p->lock);
	go = p->in_flight != 0;
	lk_unlock(&p->lock);
	return go;
}

static void *poll_main(void *arg)
{
	struct bd_poll *p = arg;

	while (wait_for_work(p)) {
		struct io_uring_cqe *cqe;
		struct bd_io *io;
		int res, r = io_uring_wait_cqe(&p->ring, &cqe);

		if (r == -EINTR || r == -EAGAIN || r == -EBUSY)
			continue;
		if (r < 0) {
			log_err("io_uring_wait_cqe on a polled ring: %s", strerror(-r));
			abort();
		}
		io = (struct bd_io *)(uintptr_t)io_uring_cqe_get_data64(cqe);
		res = cqe->res;
		io_uring_cqe_seen(&p->ring, cqe);
		(void)atomic_load_explicit(&p->edge, memory_order_acquire);
		lk_lock(&p->lock);
		p->in_flight--;
		lk_unlock(&p->lock);
		if ((res == -EOPNOTSUPP || res == -EINVAL) && !atomic_exchange(&p->off, true))
			log_info("the device cannot be polled: its requests are waited for");
		p->done(p->arg, io, res);
	}
	return NULL;
}

bool bd_poll_submit(struct bd_poll *p, struct bd_io *io)
{
	struct io_uring_sqe *sqe;
	int r;

	if (atomic_load_explicit(&p->off, memory_order_relaxed))
		return false;
	lk_lock(&p->lock);
	sqe = p->in_flight < POLL_ENTRIES ? io_uring_get_sqe(&p->ring) : NULL;
	if (!sqe) {
		lk_unlock(&p->lock);
		return false;
	}
	if (io->op == BD_READ)
		io_uring_prep_readv(sqe, 0, io->iov, io->nr_iov, io->offset);
	else
		io_uring_prep_writev(sqe, 0, io->iov, io->nr_iov, io->offset);
	if (io->op == BD_WRITE)
		sqe->rw_flags = bd_host_rw_flags(io);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)io);
	atomic_fetch_add_explicit(&p->edge, 1, memory_order_release);
	/* Before it is submitted: the thread may see it end at once. */
	p->in_flight++;
	do {
		r = io_uring_submit(&p->ring);
	} while (r == -EINTR || r == -EAGAIN || r == -EBUSY);
	if (r < 0) {
		log_err("io_uring_submit to a polled ring: %s", strerror(-r));
		abort();
	}
	pthread_cond_signal(&p->work);
	lk_unlock(&p->lock);
	return true;
}

/* As the other ring: only what is done here, on what is open already. */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction res[] = {
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
		{ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_FILES },
	};
	int err = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, res,
				    ARRAY_SIZE(res));

	return err ?: io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int bd_poll_create(int fd, bd_poll_done_t done, void *arg, struct bd_poll **out)
{
	struct bd_poll *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->done = done;
	p->arg = arg;
	err = io_uring_queue_init(POLL_ENTRIES, &p->ring, IORING_SETUP_IOPOLL | IORING_SETUP_R_DISABLED);
	if (err)
		goto out_free;
	lk_mutex_init(&p->lock, LK_BD, "bd_poll");
	lk_cond_init(&p->work);
	err = io_uring_register_files(&p->ring, &fd, 1);
	if (!err)
		err = restrict_ring(&p->ring);
	if (!err)
		err = -pthread_create(&p->thread, NULL, poll_main, p);
	if (err)
		goto out_ring;
	pthread_setname_np(p->thread, "bd-poll");
	*out = p;
	return 0;

out_ring:
	io_uring_queue_exit(&p->ring);
	lk_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->work);
out_free:
	free(p);
	return err;
}

void bd_poll_destroy(struct bd_poll *p)
{
	if (!p)
		return;
	lk_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->work);
	lk_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	io_uring_unregister_files(&p->ring);
	io_uring_queue_exit(&p->ring);
	lk_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->work);
	free(p);
}

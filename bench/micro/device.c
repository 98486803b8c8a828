// SPDX-License-Identifier: MIT
/* A round trip through the ring: one request on a file, submitted and waited for. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "micro.h"

#define SIZE    (4u << 20)
#define REQUEST 4096u

struct device {
	struct bd *bd;
	struct rng rng;
	void *buf;
};

static void *begin(void)
{
	struct device *d = calloc(1, sizeof(*d));
	char path[] = "/tmp/iomapfs-micro-XXXXXX", link[32];
	int fd;

	MUST(d);
	rng_seed(&d->rng, 42);
	d->buf = aligned_alloc(REQUEST, SIZE);
	MUST(d->buf);
	memset(d->buf, 'd', SIZE);
	fd = mkstemp(path);
	MUST(fd >= 0 && unlink(path) == 0 && write(fd, d->buf, SIZE) == SIZE);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	/* Through the page cache: what the host's disk does is none of it. */
	MUST(bd_open(link, BD_OPEN_BUFFERED, &d->bd) == 0);
	close(fd);
	return d;
}

static void end(void *arg)
{
	struct device *d = arg;

	bd_close(d->bd);
	free(d->buf);
	free(d);
}

struct wait {
	struct bd_io io;
	struct iovec iov;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void end_io(struct bd_io *io)
{
	struct wait *w = io->private;

	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static void ring_read(void *arg, unsigned ops)
{
	struct wait w = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	struct device *d = arg;

	for (unsigned i = 0; i < ops; i++) {
		w.iov = (struct iovec){d->buf, REQUEST};
		w.io = (struct bd_io){
			.op = BD_READ,
			.offset = rng_below(&d->rng, SIZE / REQUEST) * REQUEST,
			.len = REQUEST,
			.iov = &w.iov,
			.nr_iov = 1,
			.end_io = end_io,
			.private = &w,
		};
		w.done = false;
		bd_submit(d->bd, &w.io);
		pthread_mutex_lock(&w.lock);
		while (!w.done)
			pthread_cond_wait(&w.cond, &w.lock);
		pthread_mutex_unlock(&w.lock);
		MUST(w.io.error == 0);
	}
}

static void sync_read(void *arg, unsigned ops)
{
	struct device *d = arg;

	for (unsigned i = 0; i < ops; i++)
		MUST(bd_read(d->bd, rng_below(&d->rng, SIZE / REQUEST) * REQUEST, d->buf, REQUEST) == 0);
}

const struct micro_case micro_device[] = {
	{"ring-read-4k", "4 KiB of a file by the ring, and its end on the device's thread", 2000, begin,
	 ring_read, end, .not_under_valgrind = true},
	{"sync-read-4k", "bd_read of them", 2000, begin, sync_read, end, .not_under_valgrind = true},
	{0},
};

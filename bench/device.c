/* SPDX-License-Identifier: MIT */
/*
 * What block/ makes of a device by itself: random 4 KiB requests, DEPTH of them in flight, each new one
 * submitted where the last one ended.
 * The contents of the first MIB are lost.
 */
#include <errno.h>
#include <pthread.h>

#include "iomapfs/block.h"
#include "tools/common.h"

#define REQUEST   4096u
#define DEPTH_MAX 64u
#define CHUNK     (1u << 20)

struct run;

struct slot {
	struct bd_io io;
	struct iovec iov;
	struct run *run;
	uint64_t begin;
};

/* lock guards the rest: end_io may run on several threads. */
struct run {
	struct bd *bd;
	bool write;
	uint64_t size, deadline;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct picker rng;
	struct lat lat;
	unsigned inflight;
	int error;
	struct slot slots[DEPTH_MAX];
};

static void fail(const char *what, int err)
{
	errno = -err;
	die(what);
}

/* False: it is time to stop. */
static bool again(struct run *r, struct slot *s)
{
	pthread_mutex_lock(&r->lock);
	if (r->error || now_ns() >= r->deadline) {
		if (--r->inflight == 0)
			pthread_cond_signal(&r->idle);
		pthread_mutex_unlock(&r->lock);
		return false;
	}
	s->io.offset = pick_below(&r->rng, r->size / REQUEST) * REQUEST;
	pthread_mutex_unlock(&r->lock);
	s->begin = now_ns();
	bd_submit(r->bd, &s->io);
	return true;
}

static void end_io(struct bd_io *io)
{
	struct slot *s = io->private;
	struct run *r = s->run;

	pthread_mutex_lock(&r->lock);
	if (io->error)
		r->error = io->error;
	lat_add(&r->lat, now_ns() - s->begin);
	pthread_mutex_unlock(&r->lock);
	again(r, s);
}

static void measure(struct run *r, unsigned depth, uint64_t ms)
{
	const uint64_t begin = now_ns();

	r->deadline = begin + ms * 1000000;
	r->inflight = depth;
	for (unsigned i = 0; i < depth; i++) {
		struct slot *s = &r->slots[i];

		s->run = r;
		s->iov.iov_len = REQUEST;
		if (posix_memalign(&s->iov.iov_base, 4096, REQUEST))
			fail("memory", -ENOMEM);
		memset(s->iov.iov_base, 'd', REQUEST);
		s->io = (struct bd_io){
			.op = r->write ? BD_WRITE : BD_READ,
			.len = REQUEST,
			.iov = &s->iov,
			.nr_iov = 1,
			.end_io = end_io,
			.private = s,
		};
		again(r, s);
	}
	pthread_mutex_lock(&r->lock);
	while (r->inflight)
		pthread_cond_wait(&r->idle, &r->lock);
	pthread_mutex_unlock(&r->lock);
	if (r->error)
		fail(r->bd->name, r->error);
	report(r->write ? "device write" : "device read", r->lat.count, now_ns() - begin,
	       r->lat.count * REQUEST, &r->lat);
}

/* So that nothing reads holes, nor allocates while it is measured. */
static void fill(struct run *r)
{
	void *buf;

	if (posix_memalign(&buf, 4096, CHUNK))
		fail("memory", -ENOMEM);
	memset(buf, 'd', CHUNK);
	for (uint64_t at = 0; at < r->size; at += CHUNK) {
		const int err = bd_write(r->bd, at, buf, CHUNK, 0);

		if (err)
			fail(r->bd->name, err);
	}
	free(buf);
}

int main(int argc, char **argv)
{
	static struct run r = {.lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};
	unsigned depth;
	int err;

	if (argc != 6 || (strcmp(argv[1], "read") && strcmp(argv[1], "write")))
		usage("bench-device read|write DEVICE MIB DEPTH MS");
	r.write = !strcmp(argv[1], "write");
	r.size = (uint64_t)number(argv[3]) << 20;
	depth = (unsigned)number(argv[4]);
	err = bd_open(argv[2], 0, &r.bd);
	if (err)
		fail(argv[2], err);
	if (depth > DEPTH_MAX || r.size > r.bd->info.size)
		usage("DEPTH is at most 64, and MIB as large as the device");
	fill(&r);
	measure(&r, depth, (uint64_t)number(argv[5]));
	for (unsigned i = 0; i < depth; i++)
		free(r.slots[i].iov.iov_base);
	bd_close(r.bd);
	return 0;
}

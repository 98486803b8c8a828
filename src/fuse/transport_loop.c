// SPDX-License-Identifier: MIT
/*
 * Transport "loop": one thread for each CPU we may use, as many as memory= has room for, pinned to
 * it, with a descriptor of its own on the connection. Measured: a wake-up on the same CPU costs a
 * tenth of one across CPUs and more than any request served from memory, so the thread that reads
 * also serves.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fuse_private.h"

#define MAX_THREADS 64u

struct server {
	struct fz *fz;
	pthread_t thread;
	int fd;
	int cpu;      /* -1: not pinned */
	bool own_fd;  /* a clone, ours to close */
};

struct fz_loop {
	unsigned nr;
	struct server servers[MAX_THREADS];
};

/* One message; 0, or -errno when the connection is gone. */
static int serve_one(struct fz *fz, int fd, void *msg)
{
	ssize_t n = read(fd, msg, FZ_BUF_SIZE);

	if (n < 0) {
		/* ENOENT: the requester gave up while the message was on its way. */
		if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
			return 0;
		return -errno;
	}
	if (n == 0)
		return -ENODEV;
	fz_seam_dispatch(fz, fd, NULL, msg, (size_t)n);
	return 0;
}

static void pin(const struct server *s)
{
	cpu_set_t set;

	if (s->cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(s->cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
		log_debug("cannot pin to CPU %d; running unpinned", s->cpu);
}

static void *server_main(void *arg)
{
	struct server *s = arg;
	void *msg = fz_buf_get();
	int ret;

	pin(s);
	if (!msg) {
		log_err("out of memory for a request buffer");
		return NULL;
	}
	do
		ret = serve_one(s->fz, s->fd, msg);
	while (ret == 0);
	if (ret != -ENODEV)
		log_err("reading requests: %s", strerror(-ret));
	fz_buf_put(msg);
	return NULL;
}

static int clone_fd(int fd)
{
	uint32_t from = (uint32_t)fd;
	int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (clone < 0)
		return -1;
	if (ioctl(clone, FUSE_DEV_IOC_CLONE, &from) < 0) {
		close(clone);
		return -1;
	}
	return clone;
}

int fz_loop_serve_init(struct fz *fz)
{
	void *msg = fz_buf_get();
	bool got_init = false;
	int ret = 0;

	if (!msg)
		return -ENOMEM;
	while (ret == 0 && !got_init) {
		ssize_t n = read(fz->dev_fd, msg, FZ_BUF_SIZE);

		if (n < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT)
			ret = -errno;
		if (n < (ssize_t)sizeof(struct fuse_in_header))
			continue;
		got_init = ((const struct fuse_in_header *)msg)->opcode == FUSE_INIT;
		fz_seam_dispatch(fz, fz->dev_fd, NULL, msg, (size_t)n);
	}
	fz_buf_put(msg);
	if (ret == 0 && fuse_session_exited(fz->se))
		ret = -EPROTO;
	return ret;
}

int fz_loop_start(struct fz *fz, bool beside_uring, struct fz_loop **out)
{
	struct fz_loop *l = calloc(1, sizeof(*l));
	/* Each has a buffer for the largest request, and scratch for the largest answer. */
	unsigned max = 1;
	cpu_set_t set;
	int ret = 0;

	if (!l)
		return -ENOMEM;
	/* Where the rings serve already, an unmount may have taken fz->fs away. */
	if (!beside_uring)
		max = MIN(MAX_THREADS, MAX(2, fz_transport_share(fs_options(fz->fs)->memory_bytes) / 2));
	CPU_ZERO(&set);
	/* More CPUs than cpu_set_t holds: the call fails, and one thread serves them all. */
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		CPU_SET(0, &set);
	for (int cpu = 0; cpu < CPU_SETSIZE && l->nr < max; cpu++) {
		struct server *s = &l->servers[l->nr];

		if (!CPU_ISSET(cpu, &set))
			continue;
		*s = (struct server){.fz = fz, .fd = fz->dev_fd, .cpu = beside_uring ? -1 : cpu};
		if (l->nr > 0) {
			int fd = clone_fd(fz->dev_fd);

			/* Cloning is an optimisation: readers may share a descriptor. */
			s->own_fd = fd >= 0;
			if (fd >= 0)
				s->fd = fd;
		}
		ret = -pthread_create(&s->thread, NULL, server_main, s);
		if (ret < 0) {
			if (s->own_fd)
				close(s->fd);
			break;
		}
		l->nr++;
	}
	/* Fewer threads than CPUs still serve. */
	if (l->nr == 0) {
		free(l);
		return ret;
	}
	*out = l;
	return 0;
}

void fz_loop_join(struct fz_loop *l)
{
	for (unsigned i = 0; i < l->nr; i++) {
		pthread_join(l->servers[i].thread, NULL);
		if (l->servers[i].own_fd)
			close(l->servers[i].fd);
	}
	free(l);
}

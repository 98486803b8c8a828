// SPDX-License-Identifier: MIT
/* Which transport serves: what was asked for, what this machine has, and the way from one to the other. */
#include <errno.h>
#include <string.h>

#include "fuse_private.h"

#define SWITCH "/sys/module/fuse/parameters/enable_uring"

/* uring is not to be had: an error where only it would do. */
static int go_without(struct fz *fz, int error, const char *reason, const char **why)
{
	*why = reason;
	if (fz->opts->transport == FZ_TRANSPORT_URING)
		return error;
	fz->fallback = reason;
	return 0;
}

static bool wants_uring(const struct fz *fz)
{
	/* auto is loop until uring has proven itself. */
	return fz->opts->transport == FZ_TRANSPORT_URING;
}

int fz_transport_prepare(struct fz *fz, const char **why)
{
	int ret;

	if (!wants_uring(fz))
		return 0;
	ret = fz_uring_probe();
	if (ret == -EPERM)
		return go_without(fz, ret, "FUSE over io_uring is switched off; as root: echo Y >" SWITCH,
				  why);
	if (ret < 0)
		return go_without(fz, ret, "this kernel has no FUSE over io_uring (Linux 6.14 has)", why);
	return 0;
}

/* Both ends agreed, or neither has rings. */
static int start_uring(struct fz *fz, const char **why)
{
	const char *reason = "the kernel refused the queues of FUSE over io_uring";
	int ret;

	if (fz->uring_agreed) {
		ret = fz_uring_start(fz->uring);
		if (ret == 0)
			return 0;
	} else {
		reason = "the kernel does not offer FUSE over io_uring to this mount";
		ret = -EOPNOTSUPP;
		fz_uring_stop(fz->uring);
	}
	fz_uring_destroy(fz->uring);
	fz->uring = NULL;
	return go_without(fz, ret, reason, why);
}

int fz_transport_start(struct fz *fz, const char **why)
{
	int ret = 0;

	*why = "no thread to serve";
	/* All that can fail on our side comes before the kernel is told: then it waits for the rings. */
	if (wants_uring(fz) && !fz->fallback) {
		ret = fz_uring_create(fz, &fz->uring);
		if (ret < 0)
			ret = go_without(fz, ret, "no rings (kernel.io_uring_disabled, or no memory)", why);
	}
	if (ret == 0)
		ret = fz_loop_serve_init(fz);
	if (ret == 0 && fz->uring)
		ret = start_uring(fz, why);
	if (ret == 0)
		ret = fz_loop_start(fz, fz->uring, &fz->loop);
	if (ret < 0 && fz->uring)
		fz_uring_stop(fz->uring);
	return ret;
}

void fz_transport_join(struct fz *fz)
{
	/* The descriptor says when the mount is gone; the rings fall silent then. */
	fz_loop_join(fz->loop);
	if (fz->uring)
		fz_uring_stop(fz->uring);
}

void fz_transport_destroy(struct fz *fz)
{
	if (fz->uring)
		fz_uring_destroy(fz->uring);
	fz->uring = NULL;
}

// SPDX-License-Identifier: MIT
/*
 * The notifier: threads that serve no queue. A notification that drops pages makes the
 * kernel write them back first and wait for our answers to those writes; sent by a serving
 * thread it would wait for itself.
 */
#include <stdlib.h>

#include "fuse_private.h"

struct job {
	struct work work;
	struct fz *fz;
	uint64_t nodeid;
	int64_t off, len;
	struct fz_call *call;
};

/*
 * Pages and attributes apart: the pages' thread may be waiting for the answer to a cache
 * write that in turn has an attribute to announce.
 */
struct fz_notifier {
	struct work_pool *pages, *attrs;
};

int fz_notifier_create(struct fz *fz, struct fz_notifier **out)
{
	struct fz_notifier *n = calloc(1, sizeof(*n));
	int ret;

	if (!n)
		return -ENOMEM;
	ret = work_pool_create("fz-pages", 1, &n->pages);
	if (ret == 0)
		ret = work_pool_create("fz-attrs", 1, &n->attrs);
	if (ret < 0) {
		fz_notifier_destroy(n);
		return ret;
	}
	*out = n;
	return 0;
}

void fz_notifier_destroy(struct fz_notifier *n)
{
	if (!n)
		return;
	if (n->pages)
		work_pool_destroy(n->pages);
	if (n->attrs)
		work_pool_destroy(n->attrs);
	free(n);
}

static void notify_work(struct work *w)
{
	struct job *j = container_of(w, struct job, work);
	int ret;

	/* The kernel takes notifications by the descriptor only. */
	fz_rx.fd = j->fz->dev_fd;
	fz_rx.slot = NULL;
	ret = fuse_lowlevel_notify_inval_inode(j->fz->se, j->nodeid, j->off, j->len);
	/* ENOENT: the kernel holds nothing of it, which is what was wanted. */
	if (ret < 0 && ret != -ENOENT && ret != -ENODEV && ret != -EBADF)
		log_debug("inval of inode %llu: %d", (unsigned long long)j->nodeid, ret);
	if (j->call)
		fz_call_queue(j->call);
	free(j);
}

void fz_notify_inval(struct fz *fz, uint64_t nodeid, int64_t off, int64_t len, struct fz_call *c)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j) {
		/* Stale attributes beat a request that never ends. */
		log_err("out of memory for a notification of inode %llu",
			(unsigned long long)nodeid);
		if (c)
			fz_call_queue(c);
		return;
	}
	j->fz = fz;
	j->nodeid = nodeid;
	j->off = off;
	j->len = len;
	j->call = c;
	j->work.fn = notify_work;
	work_queue(off < 0 ? fz->notifier->attrs : fz->notifier->pages, &j->work);
}

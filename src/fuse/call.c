// SPDX-License-Identifier: MIT
/* The life of a request: begin, run, park, reply. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse_private.h"

__thread struct fz_rx fz_rx = {.fd = -1};

static void begin(struct fz *fz, struct fz_call *c, int (*fn)(struct fz_call *c))
{
	const struct fuse_in_header *h = fz_rx.hdr;

	memset(c, 0, sizeof(*c));
	c->fz = fz;
	c->fn = fn;
	c->start_ns = clock_mono_ns();
	c->opcode = h->opcode;
	c->unique = h->unique;
	c->nodeid = h->nodeid;
	c->fd = fz_rx.fd;
	c->slot = fz_rx.slot;
	c->ctx.uid = h->uid;
	c->ctx.gid = h->gid;
	c->ctx.pid = h->pid;
	/*
	 * Capabilities do not travel. Where they decide (chmod, writes) the kernel decides
	 * before it asks us; root is the approximation for what is left.
	 */
	c->ctx.cap_fsetid = h->uid == 0;
	atomic_fetch_add(&fz->inflight, 1);
}

void fz_call_begin(struct fz_call *c, fuse_req_t req, int (*fn)(struct fz_call *c))
{
	begin(fuse_req_userdata(req), c, fn);
	c->req = req;
	c->ctx.umask = fuse_req_ctx(req)->umask;
}

void fz_call_begin_seam(struct fz *fz, struct fz_call *c, int (*fn)(struct fz_call *c))
{
	begin(fz, c, fn);
}

/* The end of every call: counters, memory. */
static int call_end(struct fz_call *c, bool failed)
{
	struct fz *fz = c->fz;

	fz_stats_account(fz, c->opcode, c->start_ns, failed);
	TRACE(request_end, c->opcode, c->start_ns, failed);
	if (c->on_heap) {
		fz_pages_put(c->buf);
		fz_buf_put(c->msg);
		free(c);
	}
	atomic_fetch_sub(&fz->inflight, 1);
	return FZ_REPLIED;
}

static void reply_to(const struct fz_call *c)
{
	fz_rx.fd = c->fd;
	fz_rx.slot = c->slot;
}

int fz_reply_iov(struct fz_call *c, struct iovec *iov, int nr)
{
	struct iovec v[4];
	struct fuse_out_header out = {.unique = c->unique, .len = sizeof(out)};

	assert(nr < (int)ARRAY_SIZE(v));
	if (c->req) {
		/* libfuse knows one descriptor; the hook sends the reply to this place. */
		reply_to(c);
		if (nr)
			fuse_reply_iov(c->req, iov, nr);
		else
			fuse_reply_err(c->req, 0);
		return call_end(c, false);
	}
	v[0] = (struct iovec){&out, sizeof(out)};
	for (int i = 0; i < nr; i++) {
		v[i + 1] = iov[i];
		out.len += (uint32_t)iov[i].iov_len;
	}
	/* Fails only when the requester is gone (ENOENT) or the mount is (ENODEV). */
	if (fz_send(c->fd, c->slot, v, nr + 1) < 0)
		log_debug("reply to opcode %u: %s", c->opcode, strerror(errno));
	return call_end(c, false);
}

int fz_reply_err(struct fz_call *c, int error)
{
	struct fuse_out_header out = {.len = sizeof(out), .unique = c->unique};
	const struct iovec iov = {&out, sizeof(out)};

	assert(error <= 0);
	if (error == 0)
		return fz_reply_iov(c, NULL, 0);
	/* The protocol has no errors of 512 and above: those are the kernel's own. */
	if (error <= -512)
		error = -EIO;
	if (c->req) {
		reply_to(c);
		fuse_reply_err(c->req, -error);
	} else {
		out.error = error;
		if (fz_send(c->fd, c->slot, &iov, 1) < 0)
			log_debug("reply to opcode %u: %s", c->opcode, strerror(errno));
	}
	return call_end(c, true);
}

int fz_reply_buf(struct fz_call *c, const void *buf, size_t size)
{
	struct iovec iov = {(void *)(uintptr_t)buf, size};

	return fz_reply_iov(c, &iov, 1);
}

int fz_reply_none(struct fz_call *c)
{
	fuse_reply_none(c->req);
	return call_end(c, false);
}

int fz_reply_attr_of(struct fz_call *c, const struct fs_attr *a)
{
	struct fuse_attr_out out = {.attr_valid = FZ_FOREVER};

	fz_encode_attr(a, &out.attr);
	return fz_reply_buf(c, &out, sizeof(out));
}

int fz_reply_attr(struct fz_call *c, struct fs_inode *ip)
{
	struct fs_attr a;
	int ret;

	ret = fs_getattr(&c->ctx, ip, &a);
	if (ret < 0)
		return ret;
	return fz_reply_attr_of(c, &a);
}

int fz_reply_entry(struct fz_call *c, struct fs_inode *ip)
{
	struct fuse_entry_out out;
	struct fs_attr a;
	int ret;

	ret = fs_getattr(&c->ctx, ip, &a);
	if (ret < 0) {
		fs_iput(ip);
		return ret;
	}
	fz_encode_entry(&a, fz_node_add(c->fz, ip), &out);
	return fz_reply_buf(c, &out, sizeof(out));
}

static const void *moved(const void *p, const struct fuse_in_header *from, const void *to)
{
	ptrdiff_t off = (const char *)p - (const char *)from;

	if (!p || off < 0 || (size_t)off > from->len)
		return p;
	return (const char *)to + off;
}

struct fz_call *fz_call_keep(struct fz_call *c)
{
	const struct fuse_in_header *h = fz_rx.hdr;
	struct fz_call *k;
	void *msg;

	if (c->on_heap)
		return c;
	assert(h && h->unique == c->unique);
	/* A slot is ours until the reply, so what came in one stays there. */
	msg = c->slot ? NULL : fz_buf_copy(h, h->len);
	k = malloc(sizeof(*k));
	if ((!msg && !c->slot) || !k) {
		fz_buf_put(msg);
		free(k);
		return NULL;
	}
	*k = *c;
	k->on_heap = true;
	k->msg = msg;
	if (!msg)
		return k;
	k->name = moved(c->name, h, msg);
	k->name2 = moved(c->name2, h, msg);
	k->data = moved(c->data, h, msg);
	return k;
}

static void call_work(struct work *w)
{
	struct fz_call *c = container_of(w, struct fz_call, work);
	int (*resume)(struct fz_call *c) = c->resume;
	struct fz *fz = c->fz;

	/* fn may have an inode to put after its reply. */
	atomic_fetch_add(&fz->inflight, 1);
	c->ctx.flags &= ~FS_NOWAIT;
	c->resume = NULL;
	fz_call_settle(c, resume ? resume(c) : c->fn(c));
	atomic_fetch_sub(&fz->inflight, 1);
}

void fz_call_queue(struct fz_call *c)
{
	assert(c->on_heap);
	c->work.fn = call_work;
	work_queue(c->urgent ? c->fz->reserved : c->fz->workers, &c->work);
}

void fz_call_defer(struct fz_call *c)
{
	struct fz_call *k;

	c->ctx.flags &= ~FS_NOWAIT;
	k = fz_call_keep(c);
	if (!k) {
		fz_reply_err(c, -ENOMEM);
		return;
	}
	fz_stats_count_parked(k->fz);
	fz_call_queue(k);
}

void fz_call_settle(struct fz_call *c, int ret)
{
	if (ret == -EAGAIN && fz_nowait(c) && !c->no_park)
		fz_call_defer(c);
	else if (ret < 0)
		fz_reply_err(c, ret);
}

void fz_call_run(struct fz_call *c)
{
	if (atomic_load(&c->fz->unmounted)) {
		fz_reply_err(c, -ENODEV);
		return;
	}
	c->ctx.flags |= FS_NOWAIT;
	fz_call_settle(c, c->fn(c));
}

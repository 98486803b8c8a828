// SPDX-License-Identifier: MIT
/* Handles of regular files: open, create, O_TMPFILE, release, fsync. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fuse_private.h"

static struct fz_file *file_of(const struct fz_call *c)
{
	return (struct fz_file *)(uintptr_t)c->fh;
}

void fz_file_close(struct fz_file *f)
{
	if (f->file)
		fs_release(f->file);
	else
		fs_iput(f->ip);
	free(f);
}

/* Open ip (reference not consumed) and fill in the reply. */
static int open_handle(struct fz_call *c, struct fs_inode *ip, struct fuse_open_out *out)
{
	struct fz_file *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	ret = fs_open(&c->ctx, ip, c->open_flags, &f->file);
	if (ret < 0) {
		free(f);
		return ret;
	}
	f->ip = ip;
	f->ino = fs_ino(ip);
	f->pid = (pid_t)c->ctx.pid;
	f->writer = (c->open_flags & O_ACCMODE) != O_RDONLY;
	*out = (struct fuse_open_out){.fh = (uintptr_t)f};
	if (c->fz->cache == FZ_CACHE_NONE)
		out->open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	else
		out->open_flags = FOPEN_KEEP_CACHE;
	return 0;
}

static int open_truncate(struct fz_call *c, struct fs_inode *ip)
{
	struct fs_attr size0 = {0};
	unsigned set = FS_SET_SIZE;

	if (c->xflags & FUSE_OPEN_KILL_SUIDGID)
		set |= FS_SET_KILL_SUIDGID;
	return fs_setattr(&c->ctx, ip, set, &size0, NULL);
}

/* An open for reading may move atime; tell the kernel, which keeps attributes for ever. */
static void open_atime(struct fz_call *c, struct fs_inode *ip)
{
	struct fs_ctx ctx = c->ctx;
	struct fs_attr before, after;

	if ((c->open_flags & O_ACCMODE) == O_WRONLY || (c->open_flags & O_NOATIME) ||
	    fs_getattr(&ctx, ip, &before) < 0)
		return;
	fs_touch_atime(ip);
	if (fs_getattr(&ctx, ip, &after) < 0 || before.atime.tv_sec != after.atime.tv_sec ||
	    before.atime.tv_nsec != after.atime.tv_nsec)
		fz_notify_inval(c->fz, c->nodeid, -1, 0, NULL);
}

static int reply_open(struct fz_call *c)
{
	struct fuse_open_out out = {.fh = c->fh, .open_flags = c->mode};

	return fz_reply_buf(c, &out, sizeof(out));
}

static int do_open(struct fz_call *c)
{
	struct fuse_open_out out;
	mode_t old_mode, new_mode;
	struct fs_inode *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	old_mode = fs_mode(ip);
	ret = open_handle(c, ip, &out);
	if (ret == 0 && (c->open_flags & O_TRUNC)) {
		ret = open_truncate(c, ip);
		if (ret < 0)
			fz_file_close((struct fz_file *)(uintptr_t)out.fh);
	}
	if (ret < 0) {
		fs_iput(ip);
		return ret;
	}
	new_mode = fs_mode(ip);
	open_atime(c, ip);
	fz_node_add_file(c->fz, (struct fz_file *)(uintptr_t)out.fh);
	fs_iput(ip);
	c->fh = out.fh;
	c->mode = out.open_flags;
	if (old_mode != new_mode) {
		/* The reply has no room for a mode, and exec must not see the old one. */
		struct fz_call *k = fz_call_keep(c);

		if (k) {
			k->resume = reply_open;
			fz_notify_inval(k->fz, k->nodeid, -1, 0, k);
			return FZ_ASYNC;
		}
	}
	return reply_open(c);
}

void fz_ll_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fuse_open_in *in = (const void *)(fz_rx.hdr + 1);
	struct fz_call c;

	fz_call_begin(&c, req, do_open);
	c.open_flags = in->flags;
	c.xflags = in->open_flags;
	fz_call_run(&c);
}

/* Reply of CREATE and TMPFILE: the entry, then the handle. Consumes ip. */
static int reply_created(struct fz_call *c, struct fs_inode *ip)
{
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	struct iovec iov[2] = {{&entry, sizeof(entry)}, {&open, sizeof(open)}};
	struct fs_attr a;
	int ret;

	/* The file exists now: nothing below may ask to be repeated. */
	c->ctx.flags &= ~FS_NOWAIT;
	ret = fs_getattr(&c->ctx, ip, &a);
	if (ret == 0)
		ret = open_handle(c, ip, &open);
	if (ret < 0) {
		fs_iput(ip);
		return ret;
	}
	fz_node_add_file(c->fz, (struct fz_file *)(uintptr_t)open.fh);
	fz_encode_entry(&a, fz_node_add(c->fz, ip), &entry);
	return fz_reply_iov(c, iov, 2);
}

static int do_create(struct fz_call *c)
{
	struct fs_inode *dir, *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &dir);
	if (ret < 0)
		return ret;
	ret = fs_mknod(&c->ctx, dir, c->name, strlen(c->name), S_IFREG | (c->mode & 07777), 0, 0, &ip);
	fs_iput(dir);
	return ret < 0 ? ret : reply_created(c, ip);
}

void fz_ll_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_create);
	c.name = name;
	c.mode = mode;
	c.open_flags = (uint32_t)fi->flags;
	fz_call_run(&c);
}

int fz_do_tmpfile(struct fz_call *c)
{
	struct fs_inode *dir, *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &dir);
	if (ret < 0)
		return ret;
	ret = fs_tmpfile(&c->ctx, dir, S_IFREG | (c->mode & 07777), &ip);
	fs_iput(dir);
	return ret < 0 ? ret : reply_created(c, ip);
}

static int do_fsync(struct fz_call *c)
{
	return fz_reply_err(c, fs_fsync(&c->ctx, file_of(c)->file, c->flags));
}

void fz_ll_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_fsync);
	c.fh = fi->fh;
	c.flags = datasync;
	fz_call_defer(&c);
}

// SPDX-License-Identifier: MIT
/* Attributes, extended attributes, the state of the whole. */
#include <string.h>

#include "fuse_private.h"

static int do_getattr(struct fz_call *c)
{
	struct fs_inode *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	ret = fz_reply_attr(c, ip);
	fs_iput(ip);
	return ret;
}

void fz_ll_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_getattr);
	fz_call_run(&c);
}

int fz_do_statx(struct fz_call *c)
{
	struct fz_statx_out out = {.attr_valid = FZ_FOREVER};
	struct fs_inode *ip;
	struct fs_attr a;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	ret = fs_getattr(&c->ctx, ip, &a);
	fs_iput(ip);
	if (ret < 0)
		return ret;
	fz_encode_statx(&a, &out.stat);
	return fz_reply_buf(c, &out, sizeof(out));
}

static int do_setattr(struct fz_call *c)
{
	struct fs_inode *ip;
	struct fs_attr now;
	int ret;

	/*
	 * Who makes a program setuid vouches for what was stored until now: pages that the
	 * kernel still holds go first, or their writeback would clear the bits again.
	 */
	if ((c->set & FS_SET_MODE) && (c->attr.mode & (S_ISUID | S_ISGID))) {
		ret = fz_want_kernel_pages(c);
		if (ret)
			return ret;
	}
	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	ret = fs_setattr(&c->ctx, ip, c->set, &c->attr, &now);
	fs_iput(ip);
	return ret < 0 ? ret : fz_reply_attr_of(c, &now);
}

void fz_ll_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi)
{
	/* libfuse drops the kill flag and the time of a ctime: read the message itself. */
	const struct fuse_setattr_in *in = (const void *)(fz_rx.hdr + 1);
	struct fz_call c;

	fz_call_begin(&c, req, do_setattr);
	c.set = fz_decode_setattr(in, &c.attr);
	/* A truncate may be long; the kernel's writeback waits for the others. */
	c.urgent = !(c.set & FS_SET_SIZE);
	fz_call_run(&c);
}

static int do_statfs(struct fz_call *c)
{
	struct fuse_statfs_out out = {0};
	struct statvfs st;
	int ret;

	ret = fs_statfs(c->fz->fs, &st);
	if (ret < 0)
		return ret;
	out.st = (struct fuse_kstatfs){
		.blocks = st.f_blocks,
		.bfree = st.f_bfree,
		.bavail = st.f_bavail,
		.files = st.f_files,
		.ffree = st.f_ffree,
		.bsize = (uint32_t)st.f_bsize,
		.namelen = (uint32_t)st.f_namemax,
		.frsize = (uint32_t)st.f_frsize,
	};
	return fz_reply_buf(c, &out, sizeof(out));
}

void fz_ll_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_statfs);
	fz_call_run(&c);
}

int fz_do_syncfs(struct fz_call *c)
{
	return fz_reply_err(c, fs_sync(c->fz->fs));
}

/* ---- Extended attributes ------------------------------------------------------------ */

static int do_getxattr(struct fz_call *c)
{
	void *buf = fz_scratch();
	struct fs_inode *ip;
	int64_t n;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	if (c->opcode == FUSE_GETXATTR)
		n = fs_getxattr(&c->ctx, ip, c->name, c->size ? buf : NULL, c->size);
	else
		n = fs_listxattr(&c->ctx, ip, c->size ? buf : NULL, c->size);
	fs_iput(ip);
	if (n < 0)
		return (int)n;
	if (c->size == 0) {
		struct fuse_getxattr_out out = {.size = (uint32_t)n};

		return fz_reply_buf(c, &out, sizeof(out));
	}
	assert((size_t)n <= c->size);
	return fz_reply_buf(c, buf, (size_t)n);
}

void fz_ll_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_getxattr);
	c.name = name;
	c.size = MIN(size, (size_t)FZ_MAX_WRITE);
	fz_call_run(&c);
}

void fz_ll_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	fz_ll_getxattr(req, ino, NULL, size);
}

/* Decoded at the seam: libfuse 3.14 does not know the flag that goes with an ACL. */
int fz_do_setxattr(struct fz_call *c)
{
	struct fs_attr a = {0};
	struct fs_inode *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	ret = fs_setxattr(&c->ctx, ip, c->name, c->data, c->size, c->flags);
	if (ret == 0 && (c->xflags & FUSE_SETXATTR_ACL_KILL_SGID) && (fs_mode(ip) & S_ISGID)) {
		c->ctx.flags &= ~FS_NOWAIT;
		a.mode = fs_mode(ip) & 07777 & ~(mode_t)S_ISGID;
		ret = fs_setattr(&c->ctx, ip, FS_SET_MODE, &a, NULL);
	}
	fs_iput(ip);
	return ret < 0 ? ret : fz_reply_err(c, 0);
}

static int do_removexattr(struct fz_call *c)
{
	struct fs_inode *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	ret = fs_removexattr(&c->ctx, ip, c->name);
	fs_iput(ip);
	return ret < 0 ? ret : fz_reply_err(c, 0);
}

void fz_ll_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_removexattr);
	c.name = name;
	fz_call_run(&c);
}

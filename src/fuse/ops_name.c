// SPDX-License-Identifier: MIT
/* Names: lookup, create, remove, move, link. */
#include <string.h>
#include <sys/sysmacros.h>

#include "fuse_private.h"

/* What was done cannot be repeated: whatever follows must not answer "again". */
static void effect_done(struct fz_call *c)
{
	c->ctx.flags &= ~FS_NOWAIT;
}

static int reply_negative(struct fz_call *c)
{
	/* nodeid 0: the name does not exist, and that may be remembered for as long. */
	struct fuse_entry_out out = {.entry_valid = FZ_FOREVER};

	return fz_reply_buf(c, &out, sizeof(out));
}

static int do_lookup(struct fz_call *c)
{
	struct fs_inode *dir, *ip = NULL;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &dir);
	if (ret < 0)
		return ret;
	/* "." and ".." come only from exports that decode a file handle. */
	if (!strcmp(c->name, ".")) {
		ip = dir;
		fs_iref(ip);
	} else if (!strcmp(c->name, "..")) {
		ret = fs_iget(c->fz->fs, fs_parent_ino(dir), c->ctx.flags, &ip);
	} else {
		ret = fs_lookup(&c->ctx, dir, c->name, strlen(c->name), &ip);
	}
	fs_iput(dir);
	if (ret == -ENOENT)
		return reply_negative(c);
	if (ret < 0)
		return ret;
	return fz_reply_entry(c, ip);
}

void fz_ll_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_lookup);
	c.name = name;
	fz_call_run(&c);
}

void fz_ll_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct fz_call c;

	fz_call_begin(&c, req, NULL);
	fz_node_forget(c.fz, ino, nlookup);
	fz_reply_none(&c);
}

void fz_ll_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fz_call c;

	fz_call_begin(&c, req, NULL);
	for (size_t i = 0; i < count; i++)
		fz_node_forget(c.fz, forgets[i].ino, forgets[i].nlookup);
	fz_reply_none(&c);
}

static int do_mknod(struct fz_call *c)
{
	size_t len = strlen(c->name);
	struct fs_inode *dir, *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &dir);
	if (ret < 0)
		return ret;
	if (c->opcode == FUSE_MKDIR)
		ret = fs_mkdir(&c->ctx, dir, c->name, len, c->mode, &ip);
	else if (c->opcode == FUSE_SYMLINK)
		ret = fs_symlink(&c->ctx, dir, c->name, len, c->name2, &ip);
	else
		ret = fs_mknod(&c->ctx, dir, c->name, len, c->mode, major(c->rdev), minor(c->rdev),
			       &ip);
	fs_iput(dir);
	if (ret < 0)
		return ret;
	effect_done(c);
	return fz_reply_entry(c, ip);
}

void fz_ll_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_mknod);
	c.name = name;
	c.mode = mode;
	c.rdev = (uint32_t)rdev;
	fz_call_run(&c);
}

void fz_ll_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_mknod);
	c.name = name;
	c.mode = mode;
	fz_call_run(&c);
}

void fz_ll_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_mknod);
	c.name = name;
	c.name2 = link;
	fz_call_run(&c);
}

static int do_unlink(struct fz_call *c)
{
	struct fs_inode *dir, *gone = NULL;
	struct fs_ctx ctx = c->ctx;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, ctx.flags, &dir);
	if (ret < 0)
		return ret;
	ctx.gone = &gone;
	if (c->opcode == FUSE_RMDIR)
		ret = fs_rmdir(&ctx, dir, c->name, strlen(c->name));
	else
		ret = fs_unlink(&ctx, dir, c->name, strlen(c->name));
	fs_iput(dir);
	if (gone)
		fz_node_nameless(c->fz, gone);
	return ret < 0 ? ret : fz_reply_err(c, 0);
}

void fz_ll_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_unlink);
	c.name = name;
	fz_call_run(&c);
}

void fz_ll_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fz_ll_unlink(req, parent, name);
}

static int do_rename(struct fz_call *c)
{
	struct fs_inode *odir, *ndir, *gone = NULL;
	struct fs_ctx ctx = c->ctx;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, ctx.flags, &odir);
	if (ret < 0)
		return ret;
	ret = fz_node_get(c->fz, c->nodeid2, ctx.flags, &ndir);
	ctx.gone = &gone;
	if (ret == 0) {
		ret = fs_rename(&ctx, odir, c->name, strlen(c->name), ndir, c->name2,
				strlen(c->name2), (unsigned)c->flags);
		fs_iput(ndir);
	}
	fs_iput(odir);
	if (gone)
		fz_node_nameless(c->fz, gone);
	return ret < 0 ? ret : fz_reply_err(c, 0);
}

void fz_ll_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		  const char *newname, unsigned flags)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_rename);
	c.name = name;
	c.nodeid2 = newparent;
	c.name2 = newname;
	c.flags = (int)flags;
	fz_call_run(&c);
}

static int do_link(struct fz_call *c)
{
	struct fs_inode *ip, *dir;
	int ret;

	/* In a LINK the request's node is the directory; libfuse hands both over. */
	ret = fz_node_get(c->fz, c->nodeid2, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &dir);
	if (ret == 0) {
		ret = fs_link(&c->ctx, ip, dir, c->name, strlen(c->name));
		fs_iput(dir);
	}
	if (ret < 0) {
		fs_iput(ip);
		return ret;
	}
	effect_done(c);
	return fz_reply_entry(c, ip);
}

void fz_ll_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_link);
	c.nodeid = newparent;
	c.nodeid2 = ino;
	c.name = newname;
	fz_call_run(&c);
}

static int do_readlink(struct fz_call *c)
{
	char *target = fz_scratch();
	struct fs_inode *ip;
	int64_t n;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	n = fs_readlink(&c->ctx, ip, target, FZ_MAX_WRITE);
	if (n >= 0)
		fs_touch_atime(ip);
	fs_iput(ip);
	return n < 0 ? (int)n : fz_reply_buf(c, target, (size_t)n);
}

void fz_ll_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_readlink);
	fz_call_run(&c);
}

// SPDX-License-Identifier: MIT
/* Directories: handles and listings. */
#include <stdlib.h>
#include <string.h>

#include "fuse_private.h"

static struct fz_file *dir_of(const struct fz_call *c)
{
	return (struct fz_file *)(uintptr_t)c->fh;
}

static int do_opendir(struct fz_call *c)
{
	struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR};
	struct fs_inode *ip;
	struct fz_file *f;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	f = calloc(1, sizeof(*f));
	if (!f) {
		fs_iput(ip);
		return -ENOMEM;
	}
	f->ip = ip;
	f->ino = fs_ino(ip);
	fs_touch_atime(ip);
	fz_node_add_file(c->fz, f);
	if (c->fz->cache == FZ_CACHE_NONE)
		out.open_flags = 0;
	out.fh = (uintptr_t)f;
	return fz_reply_buf(c, &out, sizeof(out));
}

void fz_ll_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_opendir);
	fz_call_run(&c);
}

static int do_release(struct fz_call *c)
{
	struct fz_file *f = dir_of(c);

	fz_node_del_file(c->fz, f);
	fz_file_close(f);
	return fz_reply_err(c, 0);
}

void fz_ll_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fz_ll_release(req, ino, fi);
}

void fz_ll_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_release);
	c.urgent = true;
	c.fh = fi->fh;
	fz_call_run(&c);
}

struct listing {
	char *buf;
	size_t used, room;
};

static int fill_plain(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		      uint64_t cookie)
{
	struct listing *l = arg;
	size_t n = fz_encode_dirent(l->buf + l->used, l->room - l->used, NULL, name, len, ino, type,
				    cookie);

	l->used += n;
	return n == 0;
}

static int do_readdir(struct fz_call *c)
{
	struct listing l = {.buf = fz_scratch(), .room = c->size};
	int ret;

	ret = fs_readdir(&c->ctx, dir_of(c)->ip, c->off, fill_plain, &l);
	/* Entries already taken are an answer; the rest comes with the next request. */
	if (ret < 0 && l.used == 0)
		return ret;
	return fz_reply_buf(c, l.buf, l.used);
}

void fz_ll_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_readdir);
	c.fh = fi->fh;
	c.size = MIN(size, (size_t)FZ_MAX_WRITE);
	c.off = (uint64_t)off;
	fz_call_run(&c);
}

/*
 * With attributes: the names are collected first, because the walk holds the directory and
 * must not look inodes up; then all inodes, because a request that has to go to a worker must
 * not have counted lookups yet; then the answer, which counts them.
 */
struct plus_entry {
	uint64_t ino, cookie;
	struct fs_inode *ip; /* NULL: listed without attributes */
	unsigned type;
	uint32_t name_at;    /* in names */
	uint16_t name_len;
};

struct plus_list {
	struct plus_entry *e;
	unsigned nr, max;
	char *names;
	size_t names_used, room, used;
};

#define PLUS_MIN_SIZE FUSE_DIRENT_ALIGN(sizeof(struct fuse_entry_out) + FUSE_NAME_OFFSET + 1)

static int fill_plus(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		     uint64_t cookie)
{
	struct plus_list *l = arg;
	size_t n = FUSE_DIRENT_ALIGN(sizeof(struct fuse_entry_out) + FUSE_NAME_OFFSET + len);

	if (l->used + n > l->room || l->nr == l->max)
		return 1;
	memcpy(l->names + l->names_used, name, len);
	l->e[l->nr++] = (struct plus_entry){
		.ino = ino,
		.cookie = cookie,
		.type = type,
		.name_at = (uint32_t)l->names_used,
		.name_len = (uint16_t)len,
	};
	l->names_used += len;
	l->used += n;
	return 0;
}

static bool is_dots(const char *name, size_t len)
{
	return name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
}

static int plus_iget(struct fz_call *c, struct plus_list *l)
{
	for (unsigned i = 0; i < l->nr; i++) {
		struct plus_entry *e = &l->e[i];
		int ret;

		if (is_dots(l->names + e->name_at, e->name_len))
			continue;
		ret = fs_iget(c->fz->fs, e->ino, c->ctx.flags, &e->ip);
		if (ret == -EAGAIN)
			return ret;
		/* Removed meanwhile, or damaged: a later lookup says so. */
		if (ret < 0)
			e->ip = NULL;
	}
	return 0;
}

static int plus_reply(struct fz_call *c, struct plus_list *l)
{
	char *buf = fz_scratch();
	size_t used = 0;

	c->ctx.flags &= ~FS_NOWAIT;
	for (unsigned i = 0; i < l->nr; i++) {
		struct plus_entry *e = &l->e[i];
		struct fuse_entry_out entry = {0};
		struct fs_attr a;

		if (e->ip && fs_getattr(&c->ctx, e->ip, &a) == 0) {
			fz_encode_entry(&a, fz_node_add(c->fz, e->ip), &entry);
			e->ip = NULL;
		}
		used += fz_encode_dirent(buf + used, l->room - used, &entry, l->names + e->name_at,
					 e->name_len, e->ino, e->type, e->cookie);
	}
	return fz_reply_buf(c, buf, used);
}

static int do_readdirplus(struct fz_call *c)
{
	struct plus_list l = {.room = c->size, .max = (unsigned)(c->size / PLUS_MIN_SIZE)};
	int ret = -ENOMEM;

	l.e = calloc(l.max + 1, sizeof(*l.e));
	l.names = malloc(c->size + 1);
	if (!l.e || !l.names)
		goto out_free;
	ret = fs_readdir(&c->ctx, dir_of(c)->ip, c->off, fill_plus, &l);
	if (ret < 0 && l.nr == 0)
		goto out_free;
	ret = plus_iget(c, &l);
	if (ret == 0)
		ret = plus_reply(c, &l);
	for (unsigned i = 0; i < l.nr; i++)
		if (l.e[i].ip)
			fs_iput(l.e[i].ip);
out_free:
	free(l.e);
	free(l.names);
	return ret;
}

void fz_ll_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_readdirplus);
	c.fh = fi->fh;
	c.size = MIN(size, (size_t)FZ_MAX_WRITE);
	c.off = (uint64_t)off;
	fz_call_run(&c);
}

static int do_fsyncdir(struct fz_call *c)
{
	return fz_reply_err(c, fs_fsync_dir(&c->ctx, dir_of(c)->ip, c->flags));
}

void fz_ll_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fz_call c;

	fz_call_begin(&c, req, do_fsyncdir);
	c.fh = fi->fh;
	c.flags = datasync;
	fz_call_defer(&c);
}

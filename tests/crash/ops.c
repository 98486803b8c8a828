/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs_private.h"
#include "ops.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#define RENAME_WHITEOUT (1 << 2)
#endif

#define K 1024u
#define BLOCK 4096u /* of the file system that disk.c makes */

/*
 * foo has 20000 bytes and an attribute, A/foo 9000, small 200 (inside its inode), A/two names
 * foo again; B is empty.
 */
const struct op op_table[] = {
	{ "creat bar", OP_CREAT, "bar" },
	{ "creat A/bar", OP_CREAT, "A/bar" },
	{ "mkdir C", OP_MKDIR, "C" },
	{ "mkdir A/C", OP_MKDIR, "A/C" },
	{ "rmdir B", OP_RMDIR, "B" },
	{ "symlink bar", OP_SYMLINK, "bar" },
	{ "mkfifo A/bar", OP_MKFIFO, "A/bar" },
	{ "link foo bar", OP_LINK, "foo", "bar" },
	{ "link A/foo B/foo", OP_LINK, "A/foo", "B/foo" },
	{ "link small A/bar", OP_LINK, "small", "A/bar" },
	{ "unlink foo", OP_UNLINK, "foo" },
	{ "unlink A/foo", OP_UNLINK, "A/foo" },
	{ "unlink small", OP_UNLINK, "small" },
	{ "unlink A/two", OP_UNLINK, "A/two" },
	{ "unlink-open A/foo", OP_UNLINK_OPEN, "A/foo" },
	{ "unlink-open bar", OP_UNLINK_OPEN, "bar" },
	{ "rename foo bar", OP_RENAME, "foo", "bar" },
	{ "rename bar foo", OP_RENAME, "bar", "foo" },
	{ "rename foo A/foo", OP_RENAME, "foo", "A/foo" },
	{ "rename A/foo foo", OP_RENAME, "A/foo", "foo" },
	{ "rename A/foo B/foo", OP_RENAME, "A/foo", "B/foo" },
	{ "rename small A/foo", OP_RENAME, "small", "A/foo" },
	{ "rename A B", OP_RENAME, "A", "B" },
	{ "rename A B/A", OP_RENAME, "A", "B/A" },
	{ "rename B A/B", OP_RENAME, "B", "A/B" },
	{ "exchange foo A/foo", OP_EXCHANGE, "foo", "A/foo" },
	{ "exchange A B", OP_EXCHANGE, "A", "B" },
	{ "whiteout foo B/foo", OP_WHITEOUT, "foo", "B/foo" },
	{ "tmpfile bar", OP_TMPFILE, "bar", NULL, 0, 5000 },
	{ "write foo at its end", OP_WRITE, "foo", NULL, 20000, 5000 },
	{ "write foo 1000+3000", OP_WRITE, "foo", NULL, 1000, 3000 },
	{ "write foo 6000+9000", OP_WRITE, "foo", NULL, 6000, 9000 },
	{ "write foo behind its end", OP_WRITE, "foo", NULL, 30000, 2000 },
	{ "write A/foo 0+9000", OP_WRITE, "A/foo", NULL, 0, 9000 },
	{ "write small 50+100", OP_WRITE, "small", NULL, 50, 100 },
	{ "write small 150+400", OP_WRITE, "small", NULL, 150, 400 },
	{ "direct foo 4096+8192", OP_DIRECT, "foo", NULL, 4096, 8192 },
	{ "direct foo 16384+8192", OP_DIRECT, "foo", NULL, 16384, 8192 },
	{ "direct bar 0+8192", OP_DIRECT, "bar", NULL, 0, 8192 },
	{ "dsync foo 500+700", OP_DSYNC, "foo", NULL, 500, 700 },
	{ "dsync foo at its end", OP_DSYNC, "foo", NULL, 20000, 3000 },
	{ "new bar 6000", OP_NEW, "bar", NULL, 0, 6000 },
	{ "new A/bar 300", OP_NEW, "A/bar", NULL, 0, 300 },
	{ "truncate foo 0", OP_TRUNC, "foo", NULL, 0 },
	{ "truncate foo 5000", OP_TRUNC, "foo", NULL, 5000 },
	{ "truncate foo 33000", OP_TRUNC, "foo", NULL, 33000 },
	{ "truncate small 10", OP_TRUNC, "small", NULL, 10 },
	{ "allocate foo 16384+16384", OP_FALLOC, "foo", NULL, 16 * K, 16 * K },
	{ "keep foo 20480+12288", OP_KEEP, "foo", NULL, 20 * K, 12 * K },
	{ "punch foo 4096+8192", OP_PUNCH, "foo", NULL, 4 * K, 8 * K },
	{ "punch foo 5000+3000", OP_PUNCH, "foo", NULL, 5000, 3000 },
	{ "zero foo 4096+6000", OP_ZERO, "foo", NULL, 4 * K, 6000 },
	{ "zero foo 18000+9000", OP_ZERO, "foo", NULL, 18000, 9000 },
	{ "collapse foo 4096+8192", OP_COLLAPSE, "foo", NULL, 4 * K, 8 * K },
	{ "insert foo 8192+4096", OP_INSERT, "foo", NULL, 8 * K, 4 * K },
	{ "copy A/foo foo", OP_COPY, "A/foo", "foo", 0, 9000 },
	{ "clone foo A/foo", OP_CLONE, "foo", "A/foo" },
	{ "clone A/foo bar", OP_CLONE, "A/foo", "bar" },
	{ "dedupe foo A/foo", OP_DEDUPE, "foo", "A/foo", 0, 8192 },
	{ "unshare foo", OP_UNSHARE, "foo", NULL, 0, 20000 },
	{ "untorn foo 8192+8192", OP_UNTORN, "foo", NULL, 8192, 8192 },
	{ "untorn A/foo 16384+4096", OP_UNTORN, "A/foo", NULL, 16384, 4096 },
	{ "setxattr foo 30", OP_SETXATTR, "foo", NULL, 0, 30 },
	{ "setxattr foo 20000", OP_SETXATTR, "foo", NULL, 0, 20000 },
	{ "setxattr A 60000", OP_SETXATTR, "A", NULL, 0, 60000 },
	{ "removexattr foo", OP_RMXATTR, "foo" },
	{ "chmod foo", OP_CHMOD, "foo" },
	/* From here on only for sequences made by hand. */
	{ "hog bar", OP_HOG, "bar" },
	{ "new A/bar 30000", OP_NEW, "A/bar", NULL, 0, 30000 },
	{ "removexattr A", OP_RMXATTR, "A" },
};
#define BY_HAND 3u
const unsigned op_count = ARRAY_SIZE(op_table) - BY_HAND;
const unsigned op_count_all = ARRAY_SIZE(op_table);

const char *const persist_text[P_NR] = {
	[P_NONE] = "-", [P_FSYNC] = "fsync", [P_FDATASYNC] = "fdatasync", [P_FSYNC_DIR] = "fsync-dir",
	[P_SYNC] = "sync", [P_WRITEBACK] = "writeback", [P_COMMIT] = "commit",
};

/* ---- On the file system ---------------------------------------------------------------------------- */

static int walk_dir(struct run *r, const char *path, struct fs_inode **dir, const char **last)
{
	struct fs_inode *at = r->root, *next;
	const char *slash;
	int err = 0;

	fs_iref(at);
	while (!err && (slash = strchr(path, '/'))) {
		err = fs_lookup(&r->ctx, at, path, (size_t)(slash - path), &next);
		fs_iput(at);
		at = err ? NULL : next;
		path = slash + 1;
	}
	*dir = at;
	*last = path;
	return err;
}

static int walk(struct run *r, const char *path, struct fs_inode **out)
{
	struct fs_inode *dir;
	const char *last;
	int err = walk_dir(r, path, &dir, &last);

	if (err)
		return err;
	err = fs_lookup(&r->ctx, dir, last, strlen(last), out);
	fs_iput(dir);
	return err;
}

struct fs_inode *run_walk(struct run *r, const char *path)
{
	struct fs_inode *ip;

	return walk(r, path, &ip) ? NULL : ip;
}

static int write_file(struct run *r, struct fs_inode *ip, uint32_t off, uint32_t len, uint32_t seed,
		      unsigned flags)
{
	static __thread uint8_t buf[64u << 10] __attribute__((aligned(4096)));
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = off,
			      .ki_flags = IOCB_WRITE | flags };
	struct iovec iov = { buf, len };
	struct iov_iter it;
	int64_t n;

	for (uint32_t i = 0; i < len; i++)
		buf[i] = m_byte(seed, off + i);
	iov_iter_init(&it, &iov, 1, len);
	n = fs_write_iter(&r->ctx, &iocb, &it, false);
	return n < 0 ? (int)n : n == (int64_t)len ? 0 : -EIO;
}

static int exec_name(struct run *r, const struct op *op, struct fs_inode *dir, const char *last)
{
	const size_t len = strlen(last);
	struct fs_inode *ip = NULL;
	int err;

	switch (op->kind) {
	case OP_CREAT:
	case OP_NEW:
		err = fs_mknod(&r->ctx, dir, last, len, S_IFREG | 0644, 0, 0, &ip);
		break;
	case OP_MKDIR:
		err = fs_mkdir(&r->ctx, dir, last, len, 0755, &ip);
		break;
	case OP_SYMLINK:
		err = fs_symlink(&r->ctx, dir, last, len, "somewhere", &ip);
		break;
	case OP_MKFIFO:
		err = fs_mknod(&r->ctx, dir, last, len, S_IFIFO | 0644, 0, 0, &ip);
		break;
	case OP_RMDIR:
		err = fs_rmdir(&r->ctx, dir, last, len);
		break;
	default:
		err = fs_unlink(&r->ctx, dir, last, len);
		break;
	}
	if (ip)
		fs_iput(ip);
	return err;
}

static int exec_unlink_open(struct run *r, const struct op *op, struct fs_inode *dir,
			    const char *last)
{
	struct fs_inode *ip;
	int err = fs_lookup(&r->ctx, dir, last, strlen(last), &ip);

	if (err)
		return err;
	if (!S_ISREG(fs_mode(ip)) || r->nr_held == HELD_MAX)
		err = S_ISDIR(fs_mode(ip)) ? -EISDIR : -EINVAL;
	else
		err = fs_open(&r->ctx, ip, O_RDONLY, &r->held[r->nr_held]);
	fs_iput(ip);
	if (err)
		return err;
	r->nr_held++;
	return fs_unlink(&r->ctx, dir, last, strlen(last));
}

static int exec_tmpfile(struct run *r, const struct op *op, struct fs_inode *dir, const char *last,
			uint32_t seed)
{
	struct fs_inode *ip;
	int err;

	if (fs_lookup(&r->ctx, dir, last, strlen(last), &ip) == 0) {
		fs_iput(ip);
		return -EEXIST;
	}
	err = fs_tmpfile(&r->ctx, dir, S_IFREG | 0644, &ip);
	if (err)
		return err;
	err = write_file(r, ip, 0, op->len, seed, 0);
	if (!err)
		err = fs_link(&r->ctx, ip, dir, last, strlen(last));
	fs_iput(ip);
	return err;
}

static int exec_two(struct run *r, const struct op *op)
{
	static const unsigned flags[] = { [OP_RENAME] = 0, [OP_EXCHANGE] = RENAME_EXCHANGE,
					  [OP_WHITEOUT] = RENAME_WHITEOUT };
	struct fs_inode *dir, *to = NULL, *ip = NULL;
	const char *last, *tlast;
	int err = walk_dir(r, op->a, &dir, &last);

	if (err)
		return err;
	err = walk_dir(r, op->b, &to, &tlast);
	if (!err && op->kind == OP_LINK) {
		err = fs_lookup(&r->ctx, dir, last, strlen(last), &ip);
		if (!err)
			err = fs_link(&r->ctx, ip, to, tlast, strlen(tlast));
		if (ip)
			fs_iput(ip);
	} else if (!err) {
		err = fs_rename(&r->ctx, dir, last, strlen(last), to, tlast, strlen(tlast),
				flags[op->kind]);
	}
	fs_iput(dir);
	if (to)
		fs_iput(to);
	return err;
}

static int exec_copy(struct run *r, const struct op *op, struct fs_inode *in)
{
	struct fs_inode *out;
	int err = walk(r, op->b, &out);
	int64_t n;

	if (err)
		return err;
	n = fs_copy_file_range(&r->ctx, in, 0, out, 0, op->len);
	fs_iput(out);
	return n < 0 ? (int)n : 0;
}

/* dedupe: of the first len bytes, where both have as many. */
static int exec_share(struct run *r, const struct op *op, struct fs_inode *in)
{
	struct fs_inode *out;
	uint64_t deduped;
	int err = walk(r, op->b, &out);

	if (err)
		return err;
	if (op->kind == OP_CLONE)
		err = fs_clone_range(&r->ctx, in, 0, out, 0, 0);
	else
		err = fs_dedupe_range(&r->ctx, in, 0, out, 0, op->len, &deduped);
	fs_iput(out);
	return err;
}

static int set_attr(struct run *r, struct fs_inode *ip, unsigned set, struct fs_attr a)
{
	return fs_setattr(&r->ctx, ip, set, &a, NULL);
}

static int exec_setxattr(struct run *r, const struct op *op, struct fs_inode *ip, uint32_t seed)
{
	static __thread uint8_t buf[65536];

	for (uint32_t i = 0; i < op->len; i++)
		buf[i] = m_byte(seed, i);
	return fs_setxattr(&r->ctx, ip, "user.x", buf, op->len, 0);
}

/* All that is free, a piece at a time, behind the end of the file. */
static int exec_hog(struct run *r, struct fs_inode *ip)
{
	uint64_t at = 1u << 20, len = 8u << 20;

	while (len >= 4096) {
		int err = fs_fallocate(&r->ctx, ip, FALLOC_FL_KEEP_SIZE, at, len);

		if (err && err != -ENOSPC)
			return err;
		if (err)
			len /= 2;
		else
			at += len;
	}
	return 0;
}

/* As much as the model has room for. */
static int exec_insert(struct run *r, const struct op *op, struct fs_inode *ip)
{
	struct fs_attr a;
	int err = fs_getattr(&r->ctx, ip, &a);

	if (!err && a.size + op->len > M_DATA)
		err = -EFBIG;
	return err ? err : fs_fallocate(&r->ctx, ip, FALLOC_FL_INSERT_RANGE, op->off, op->len);
}

static int exec_file(struct run *r, const struct op *op, struct fs_inode *ip, uint32_t seed)
{
	switch (op->kind) {
	case OP_WRITE:
	case OP_NEW:
		return write_file(r, ip, op->off, op->len, seed, 0);
	case OP_DIRECT:
		return write_file(r, ip, op->off, op->len, seed, IOCB_DIRECT);
	case OP_DSYNC:
		return write_file(r, ip, op->off, op->len, seed, IOCB_DSYNC);
	case OP_TRUNC:
		return set_attr(r, ip, FS_SET_SIZE, (struct fs_attr){ .size = op->off });
	case OP_CHMOD:
		return set_attr(r, ip, FS_SET_MODE, (struct fs_attr){ .mode = 0600 });
	case OP_FALLOC:
		return fs_fallocate(&r->ctx, ip, 0, op->off, op->len);
	case OP_KEEP:
		return fs_fallocate(&r->ctx, ip, FALLOC_FL_KEEP_SIZE, op->off, op->len);
	case OP_HOG:
		return exec_hog(r, ip);
	case OP_PUNCH:
		return fs_fallocate(&r->ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, op->off,
				    op->len);
	case OP_ZERO:
		return fs_fallocate(&r->ctx, ip, FALLOC_FL_ZERO_RANGE, op->off, op->len);
	case OP_COLLAPSE:
		return fs_fallocate(&r->ctx, ip, FALLOC_FL_COLLAPSE_RANGE, op->off, op->len);
	case OP_INSERT:
		return exec_insert(r, op, ip);
	case OP_COPY:
		return exec_copy(r, op, ip);
	case OP_CLONE:
	case OP_DEDUPE:
		return exec_share(r, op, ip);
	case OP_UNSHARE:
		return fs_fallocate(&r->ctx, ip, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE, op->off,
				    op->len);
	case OP_UNTORN:
		return write_file(r, ip, op->off, op->len, seed, IOCB_DIRECT | IOCB_ATOMIC);
	case OP_SETXATTR:
		return exec_setxattr(r, op, ip, seed);
	default:
		return fs_removexattr(&r->ctx, ip, "user.x");
	}
}

static bool by_name(enum op_kind k)
{
	return k <= OP_UNLINK_OPEN || k == OP_TMPFILE || k == OP_NEW;
}

int op_exec(struct run *r, const struct op *op, uint32_t seed)
{
	struct fs_inode *dir, *ip;
	const char *last;
	int err;

	if (op->kind == OP_LINK || (op->kind >= OP_RENAME && op->kind <= OP_WHITEOUT))
		return exec_two(r, op);
	if (!by_name(op->kind)) {
		err = walk(r, op->a, &ip);
		if (err)
			return err;
		if (op->kind < OP_SETXATTR && !S_ISREG(fs_mode(ip)))
			err = -EINVAL;
		else if (op->kind <= OP_RMXATTR && S_ISLNK(fs_mode(ip)))
			err = -EPERM;
		else
			err = exec_file(r, op, ip, seed);
		fs_iput(ip);
		return err;
	}
	err = walk_dir(r, op->a, &dir, &last);
	if (err)
		return err;
	if (op->kind == OP_UNLINK_OPEN)
		err = exec_unlink_open(r, op, dir, last);
	else if (op->kind == OP_TMPFILE)
		err = exec_tmpfile(r, op, dir, last, seed);
	else
		err = exec_name(r, op, dir, last);
	fs_iput(dir);
	if (!err && op->kind == OP_NEW && !(err = walk(r, op->a, &ip))) {
		err = exec_file(r, op, ip, seed);
		fs_iput(ip);
	}
	return err;
}

/* ---- Persistence ---------------------------------------------------------------------------------- */

static int sync_file(struct run *r, struct fs_inode *ip, bool datasync)
{
	struct fs_file *f;
	int err;

	if (S_ISDIR(fs_mode(ip)))
		return fs_fsync_dir(&r->ctx, ip, datasync);
	if (!S_ISREG(fs_mode(ip)))
		return -EINVAL;
	err = fs_open(&r->ctx, ip, O_RDONLY, &f);
	if (err)
		return err;
	err = fs_fsync(&r->ctx, f, datasync);
	fs_release(f);
	return err;
}

static const char *subject_path(const struct op *op)
{
	return op->b ? op->b : op->a;
}

int op_subject(const struct model *m, const struct op *op)
{
	return m_walk(m, subject_path(op), NULL, NULL);
}

int op_persist(struct run *r, const struct op *op, enum persist p)
{
	struct fs_inode *ip;
	const char *last;
	int err;

	if (p == P_NONE)
		return 0;
	if (p == P_SYNC)
		return fs_sync(r->fs);
	if (p == P_COMMIT)
		return fs_fsync_dir(&r->ctx, r->root, false);
	err = p == P_FSYNC_DIR ? walk_dir(r, subject_path(op), &ip, &last) :
				 walk(r, subject_path(op), &ip);
	if (err)
		return err;
	if (p == P_WRITEBACK)
		err = S_ISREG(fs_mode(ip)) ? fs_inode_writeback(ip, true) : -EINVAL;
	else if (p == P_FSYNC_DIR)
		err = fs_fsync_dir(&r->ctx, ip, false);
	else
		err = sync_file(r, ip, p == P_FDATASYNC);
	fs_iput(ip);
	return err;
}

/* ---- On the model ----------------------------------------------------------------------------------- */

static void grow(struct m_inode *ip, uint32_t size)
{
	if (size > ip->size)
		ip->size = size;
}

static void put_bytes(struct m_inode *ip, uint32_t off, uint32_t len, uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++)
		ip->data[off + i] = m_byte(seed, off + i);
	grow(ip, off + len);
}

static int model_new(struct model *m, const struct op *op, int dir, const char *last, uint32_t seed)
{
	static const mode_t modes[] = { [OP_CREAT] = S_IFREG | 0644, [OP_MKDIR] = S_IFDIR | 0755,
					[OP_SYMLINK] = S_IFLNK | 0777, [OP_MKFIFO] = S_IFIFO | 0644,
					[OP_TMPFILE] = S_IFREG | 0644, [OP_NEW] = S_IFREG | 0644 };
	int ino = m_new(m, modes[op->kind]);

	m->ino[ino].nlink = 1;
	if (op->kind == OP_MKDIR) {
		m->ino[ino].nlink = 2;
		m->ino[dir].nlink++;
	}
	if (op->kind == OP_SYMLINK)
		snprintf(m->ino[ino].target, sizeof(m->ino[ino].target), "somewhere");
	if (op->kind == OP_TMPFILE || op->kind == OP_NEW)
		put_bytes(&m->ino[ino], 0, op->len, seed);
	m_add(m, dir, last, ino);
	return 0;
}

static bool is_below(const struct model *m, int dir, int anc)
{
	while (dir != M_ROOT && dir != anc) {
		unsigned i = 0;

		while (m->name[i].ino != dir)
			i++;
		dir = m->name[i].dir;
	}
	return dir == anc;
}

static void move(struct model *m, struct m_name *n, int dir, const char *last)
{
	const int ino = n->ino;

	m->touched |= 1u << n->dir | 1u << ino;
	if (m_is_dir(m, ino)) {
		m->ino[n->dir].nlink--;
		m->ino[dir].nlink++;
	}
	n->ino = -1;
	m_add(m, dir, last, ino);
}

static int model_exchange(struct model *m, struct m_name *o, struct m_name *n)
{
	const int ino = o->ino;

	if (!n)
		return -ENOENT;
	if (is_below(m, n->dir, ino) || is_below(m, o->dir, n->ino))
		return -EINVAL;
	m->touched |= 1u << o->dir | 1u << n->dir | 1u << ino | 1u << n->ino;
	if (m_is_dir(m, ino) != m_is_dir(m, n->ino)) {
		const int d = m_is_dir(m, ino) ? 1 : -1;

		m->ino[o->dir].nlink -= (unsigned)d;
		m->ino[n->dir].nlink += (unsigned)d;
	}
	o->ino = n->ino;
	n->ino = ino;
	return 0;
}

static int model_rename(struct model *m, const struct op *op)
{
	const char *last, *tlast;
	struct m_name *o, *n;
	int dir, to, odir, wh;

	m_walk(m, op->a, &dir, &last);
	m_walk(m, op->b, &to, &tlast);
	if (dir < 0 || to < 0)
		return -ENOENT;
	o = m_find(m, dir, last);
	n = m_find(m, to, tlast);
	if (!o)
		return -ENOENT;
	if (m_is_dir(m, o->ino) && is_below(m, to, o->ino))
		return -EINVAL;
	if (op->kind == OP_EXCHANGE)
		return model_exchange(m, o, n);
	if (n && n->ino == o->ino)
		return 0;
	if (n && is_below(m, dir, n->ino))
		return -ENOTEMPTY;
	if (n && m_is_dir(m, n->ino) != m_is_dir(m, o->ino))
		return m_is_dir(m, o->ino) ? -ENOTDIR : -EISDIR;
	if (n && m_is_dir(m, n->ino) && !m_empty(m, n->ino))
		return -ENOTEMPTY;
	if (n)
		m_drop(m, n);
	odir = o->dir;
	move(m, o, to, tlast);
	if (op->kind == OP_WHITEOUT) {
		wh = m_new(m, S_IFCHR);
		m->ino[wh].nlink = 1;
		m_add(m, odir, last, wh);
	}
	return 0;
}

static int model_link(struct model *m, const struct op *op)
{
	const char *tlast;
	int to, ino = m_walk(m, op->a, NULL, NULL);

	m_walk(m, op->b, &to, &tlast);
	if (ino < 0 || to < 0)
		return -ENOENT;
	if (m_is_dir(m, ino))
		return -EPERM;
	if (m_find(m, to, tlast))
		return -EEXIST;
	m->ino[ino].nlink++;
	m_add(m, to, tlast, ino);
	return 0;
}

static void zero_bytes(struct m_inode *ip, uint32_t off, uint32_t end)
{
	end = MIN(end, ip->size);
	if (off < end)
		memset(ip->data + off, 0, end - off);
}

static int model_truncate(struct m_inode *ip, uint32_t size)
{
	if (size < ip->size)
		memset(ip->data + size, 0, ip->size - size);
	ip->size = size;
	return 0;
}

static int model_collapse(struct m_inode *ip, uint32_t off, uint32_t len)
{
	if (off + len >= ip->size)
		return -EINVAL;
	memmove(ip->data + off, ip->data + off + len, ip->size - off - len);
	return model_truncate(ip, ip->size - len);
}

static int model_insert(struct m_inode *ip, uint32_t off, uint32_t len)
{
	if (ip->size + len > M_DATA)
		return -EFBIG;
	if (off >= ip->size)
		return -EINVAL;
	memmove(ip->data + off + len, ip->data + off, ip->size - off);
	memset(ip->data + off, 0, len);
	ip->size += len;
	return 0;
}

static int model_copy(struct model *m, const struct op *op, const struct m_inode *in)
{
	const int out = m_walk(m, op->b, NULL, NULL);
	const uint32_t n = MIN(op->len, in->size);

	if (out < 0)
		return -ENOENT;
	if (m_is_dir(m, out))
		return -EISDIR;
	if (!S_ISREG(m->ino[out].mode))
		return -EINVAL;
	if (in == &m->ino[out])
		return n ? -EINVAL : 0;
	memcpy(m->ino[out].data, in->data, n);
	grow(&m->ino[out], n);
	return 0;
}

static int model_share(struct model *m, const struct op *op, const struct m_inode *in)
{
	const int ino = m_walk(m, op->b, NULL, NULL);
	struct m_inode *out = &m->ino[ino < 0 ? 0 : ino];

	if (ino < 0)
		return -ENOENT;
	if (!S_ISREG(out->mode))
		return m_is_dir(m, ino) ? -EISDIR : -EINVAL;
	if (op->kind == OP_DEDUPE) {
		if (op->len > in->size || op->len > out->size || in == out)
			return -EINVAL;
		return memcmp(in->data, out->data, op->len) ? -EBADE : 0;
	}
	if (in->size == 0)
		return 0;
	if (in == out || (in->size % BLOCK && in->size < out->size))
		return -EINVAL;
	memcpy(out->data, in->data, in->size);
	grow(out, in->size);
	return 0;
}

static int model_file(struct model *m, const struct op *op, uint32_t seed)
{
	const int ino = m_walk(m, op->a, NULL, NULL);
	struct m_inode *ip = &m->ino[ino < 0 ? 0 : ino];

	if (ino < 0)
		return -ENOENT;
	if (op->kind < OP_SETXATTR && !S_ISREG(ip->mode))
		return -EINVAL;
	if (op->kind <= OP_RMXATTR && S_ISLNK(ip->mode))
		return -EPERM;
	switch (op->kind) {
	case OP_WRITE:
	case OP_DIRECT:
	case OP_DSYNC:
	case OP_UNTORN:
		put_bytes(ip, op->off, op->len, seed);
		return 0;
	case OP_TRUNC:
		return model_truncate(ip, op->off);
	case OP_FALLOC:
		grow(ip, op->off + op->len);
		return 0;
	case OP_KEEP:
	case OP_HOG:
	case OP_UNSHARE:
		return 0;
	case OP_CLONE:
	case OP_DEDUPE:
		return model_share(m, op, ip);
	case OP_PUNCH:
		zero_bytes(ip, op->off, op->off + op->len);
		return 0;
	case OP_ZERO:
		zero_bytes(ip, op->off, op->off + op->len);
		grow(ip, op->off + op->len);
		return 0;
	case OP_COLLAPSE:
		return model_collapse(ip, op->off, op->len);
	case OP_INSERT:
		return model_insert(ip, op->off, op->len);
	case OP_COPY:
		return model_copy(m, op, ip);
	default:
		break;
	}
	if (op->kind != OP_CHMOD && !S_ISREG(ip->mode) && !S_ISDIR(ip->mode))
		return -EPERM;
	if (op->kind == OP_RMXATTR && ip->xattr.len == 0)
		return -ENODATA;
	m->touched |= 1u << ino;
	if (op->kind == OP_CHMOD)
		ip->mode = (ip->mode & S_IFMT) | 0600;
	else
		ip->xattr = (struct m_xattr){ op->kind == OP_SETXATTR ? op->len : 0, seed };
	return 0;
}

static int model_remove(struct model *m, const struct op *op, struct m_name *n)
{
	const bool dir = n && m_is_dir(m, n->ino);

	if (!n)
		return -ENOENT;
	if (op->kind == OP_RMDIR) {
		if (!dir)
			return -ENOTDIR;
		if (!m_empty(m, n->ino))
			return -ENOTEMPTY;
	} else if (dir) {
		return -EISDIR;
	} else if (op->kind == OP_UNLINK_OPEN) {
		if (!S_ISREG(m->ino[n->ino].mode))
			return -EINVAL;
		m->ino[n->ino].is_open = true;
	}
	m_drop(m, n);
	return 0;
}

int op_model(struct model *m, const struct op *op, uint32_t seed)
{
	const char *last;
	int dir;

	m->touched = 0;
	if (op->kind == OP_LINK)
		return model_link(m, op);
	if (op->kind >= OP_RENAME && op->kind <= OP_WHITEOUT)
		return model_rename(m, op);
	if (!by_name(op->kind))
		return model_file(m, op, seed);
	m_walk(m, op->a, &dir, &last);
	if (dir < 0)
		return -ENOENT;
	if (op->kind == OP_RMDIR || op->kind == OP_UNLINK || op->kind == OP_UNLINK_OPEN)
		return model_remove(m, op, m_find(m, dir, last));
	if (m_find(m, dir, last))
		return -EEXIST;
	return model_new(m, op, dir, last, seed);
}

/* ---- The start ------------------------------------------------------------------------------------------- */

void ops_setup(struct run *r, struct model *m)
{
	static const struct op setup[] = {
		{ "", OP_MKDIR, "A" },
		{ "", OP_MKDIR, "B" },
		{ "", OP_NEW, "foo", NULL, 0, 20000 },
		{ "", OP_SETXATTR, "foo", NULL, 0, 40 },
		{ "", OP_NEW, "A/foo", NULL, 0, 9000 },
		{ "", OP_NEW, "small", NULL, 0, 200 },
		{ "", OP_LINK, "foo", "A/two" },
	};

	m_init(m);
	for (unsigned i = 0; i < ARRAY_SIZE(setup); i++)
		if (op_exec(r, &setup[i], 1000 + i) || op_model(m, &setup[i], 1000 + i))
			abort();
	if (fs_sync(r->fs))
		abort();
}

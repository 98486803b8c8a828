/* SPDX-License-Identifier: MIT */
/*
 * A mounted file system in memory for the tests of names: make, remount, power cut, check.
 * fs_mount owns its device, but the memory must outlive it: a thin device in between passes
 * everything through and leaves the lower one open when it is closed.
 */
#ifndef TESTS_FS_NAMES_FX_H
#define TESTS_FS_NAMES_FX_H

#include <dirent.h>
#include <string.h>
#include <sys/xattr.h>

#include "iomapfs/check.h"
#include "iomapfs/fs.h"
#include "iomapfs/util.h"
#include "mk.h"
#include "unit.h"

#ifdef __SANITIZE_THREAD__
/*
 * Two directories are locked ancestor first, and renames change who is whose ancestor: the
 * same two locks in both orders, each right at its time, which TSan's detector cannot know.
 * The ranks of util keep watch over all other orders.
 */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "detect_deadlocks=0";
}
#endif

struct fx {
	struct bd *mem;           /* the durable bytes */
	struct bd *crash;         /* around mem, between crash_begin and crash_end */
	struct fs *fs;
	struct fs_inode *root;
	struct fs_ctx ctx;
};

/* ---- A device that outlives its close ------------------------------------------------- */

struct fx_pass {
	struct bd bd;
	struct bd *lower;
};

static void fx_pass_end(struct bd_io *io)
{
	struct bd_io *up = io->private;

	up->error = io->error;
	free(io);
	up->end_io(up);
}

static void fx_pass_submit(struct bd *bd, struct bd_io *up)
{
	struct bd_io *io = malloc(sizeof(*io));

	ck_assert_ptr_nonnull(io);
	*io = *up;
	io->end_io = fx_pass_end;
	io->private = up;
	bd_submit(((struct fx_pass *)bd)->lower, io);
}

static void fx_pass_destroy(struct bd *bd)
{
	free(bd);
}

static struct bd *fx_pass(struct bd *lower)
{
	static const struct bd_ops ops = {
		.name = "pass",
		.submit = fx_pass_submit,
		.destroy = fx_pass_destroy,
	};
	struct fx_pass *p = calloc(1, sizeof(*p));

	ck_assert_ptr_nonnull(p);
	p->bd = (struct bd){ .ops = &ops, .info = lower->info, .name = strdup("pass") };
	p->lower = lower;
	return &p->bd;
}

/* ---- Mounts ------------------------------------------------------------------------------- */

static inline void fx_mount(struct fx *x)
{
	struct fs_mount_opts opts = { .memory_bytes = 64u << 20 };
	struct bd *bd = fx_pass(x->crash ? x->crash : x->mem);
	struct fs_error why = { "" };
	int err = fs_mount(bd, &opts, &x->fs, &why);

	ck_assert_msg(err == 0, "mount: %d %s", err, why.text);
	ck_assert_int_eq(fs_iget(x->fs, FS_ROOT_INO, 0, &x->root), 0);
}

static inline void fx_umount(struct fx *x)
{
	fs_iput(x->root);
	ck_assert_int_eq(fs_unmount(x->fs), 0);
	x->fs = NULL;
}

/* The independent checker finds nothing. */
static inline void fx_check(struct fx *x)
{
	struct chk_opts opts = { .readonly = true, .out = stdout };
	struct chk_result res = { 0 };

	ck_assert_int_eq(chk_run(x->mem, &opts, &res), 0);
	ck_assert_uint_eq(res.found, 0);
}

static inline void fx_make(struct fx *x, uint64_t bytes)
{
	*x = (struct fx){ .ctx = { .umask = 022 } };
	ck_assert_int_eq(bd_mem_create(bytes, 512, &x->mem), 0);
	ck_assert_int_eq(mk_default(x->mem, 12), 0);
	fx_mount(x);
}

static inline void fx_remount(struct fx *x)
{
	fx_umount(x);
	fx_check(x);
	fx_mount(x);
}

static inline void fx_end(struct fx *x)
{
	fx_umount(x);
	fx_check(x);
	bd_close(x->mem);
}

/* Free blocks with nothing in flight. */
static inline uint64_t fx_free(struct fx *x)
{
	struct fs_stats st;

	ck_assert_int_eq(fs_quiesce(x->fs), 0);
	fs_get_stats(x->fs, &st);
	ck_assert_uint_eq(st.blocks_reserved, 0);
	return st.blocks_free;
}

/* ---- Short forms ------------------------------------------------------------------------------ */

static inline struct fs_inode *fx_lookup(struct fx *x, struct fs_inode *dir, const char *name)
{
	struct fs_inode *ip = NULL;
	int err = fs_lookup(&x->ctx, dir, name, strlen(name), &ip);

	ck_assert_msg(err == 0, "lookup %s: %d", name, err);
	return ip;
}

static inline int fx_exists(struct fx *x, struct fs_inode *dir, const char *name)
{
	struct fs_inode *ip = NULL;
	int err = fs_lookup(&x->ctx, dir, name, strlen(name), &ip);

	if (!err)
		fs_iput(ip);
	return err;
}

/* Made and put at once; the error of mknod. */
static inline int fx_creat(struct fx *x, struct fs_inode *dir, const char *name)
{
	struct fs_inode *ip;
	int err = fs_mknod(&x->ctx, dir, name, strlen(name), S_IFREG | 0644, 0, 0, &ip);

	if (!err)
		fs_iput(ip);
	return err;
}

static inline struct fs_inode *fx_mkdir(struct fx *x, struct fs_inode *dir, const char *name)
{
	struct fs_inode *ip = NULL;
	int err = fs_mkdir(&x->ctx, dir, name, strlen(name), 0755, &ip);

	ck_assert_msg(err == 0, "mkdir %s: %d", name, err);
	return ip;
}

static inline int fx_unlink(struct fx *x, struct fs_inode *dir, const char *name)
{
	return fs_unlink(&x->ctx, dir, name, strlen(name));
}

static inline int fx_rmdir(struct fx *x, struct fs_inode *dir, const char *name)
{
	return fs_rmdir(&x->ctx, dir, name, strlen(name));
}

static inline int fx_rename(struct fx *x, struct fs_inode *od, const char *on, struct fs_inode *nd,
			    const char *nn, unsigned flags)
{
	return fs_rename(&x->ctx, od, on, strlen(on), nd, nn, strlen(nn), flags);
}

static inline struct fs_attr fx_attr(struct fx *x, struct fs_inode *ip)
{
	struct fs_attr a;

	ck_assert_int_eq(fs_getattr(&x->ctx, ip, &a), 0);
	return a;
}

static inline unsigned fx_nlink(struct fx *x, struct fs_inode *dir, const char *name)
{
	struct fs_inode *ip = fx_lookup(x, dir, name);
	unsigned n = fx_attr(x, ip).nlink;

	fs_iput(ip);
	return n;
}

#endif

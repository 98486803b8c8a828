/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "work.h"

#define OVER_LEN   20000u
#define NR_SMALL   60u
#define BUF_LEN    (256u << 10)

struct run {
	struct fs *fs;
	struct fs_ctx ctx;
	struct fs_inode *root, *dir;
	struct work_book *b;
};

static uint8_t byte_of(uint32_t seed, uint32_t at)
{
	uint32_t x = (seed * 2654435761u) ^ (at * 40503u);

	x = (x ^ x >> 15) * 0x2c1b3c6du;
	return (uint8_t)((x >> 13 & 0x7f) | 1);
}

/*
 * What an operation may say when the device, memory or space fails it; the last five when one before
 * it failed, and what it wants to work on is not there, is there already, or was lost.
 */
static bool expected(int err)
{
	return err == -EIO || err == -ENOSPC || err == -ENOMEM || err == -EROFS || err == -ENOENT ||
	       err == -EFSCORRUPTED || err == -ENODEV || err == -EEXIST || err == -ENODATA || err == -ESTALE;
}

static int note(struct run *r, int64_t ret)
{
	r->b->ops++;
	if (ret >= 0)
		return 0;
	r->b->failed++;
	r->b->nospace += ret == -ENOSPC;
	if (!expected((int)ret) && !r->b->odd)
		r->b->odd = (int)ret;
	return (int)ret;
}

static int write_at(struct run *r, struct fs_inode *ip, uint64_t pos, uint32_t len, uint32_t seed,
		    unsigned flags)
{
	static _Alignas(65536) uint8_t buf[BUF_LEN];
	struct iovec iov = { buf, len };
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos, .ki_flags = flags };
	struct iov_iter it;
	int64_t n;

	for (uint32_t i = 0; i < len; i++)
		buf[i] = byte_of(seed, (uint32_t)pos + i);
	iov_iter_init(&it, &iov, 1, len);
	n = fs_write_iter(&r->ctx, &iocb, &it, false);
	return note(r, n < 0 ? n : n == len ? 0 : -EIO);
}

static int sync_file(struct run *r, struct fs_inode *ip, bool datasync)
{
	struct fs_file *f;
	int err = note(r, fs_open(&r->ctx, ip, O_RDWR, &f));

	if (err)
		return err;
	err = note(r, fs_fsync(&r->ctx, f, datasync));
	fs_release(f);
	return err;
}

static struct fs_inode *make(struct run *r, struct fs_inode *dir, const char *name)
{
	struct fs_inode *ip;

	return note(r, fs_mknod(&r->ctx, dir, name, strlen(name), S_IFREG | 0644, 0, 0, &ip)) ? NULL :
												ip;
}

/* Written, synced, and not touched again: from then on it is there. */
static void keep(struct run *r, uint32_t len, unsigned flags, bool datasync)
{
	const unsigned i = r->b->nr++;
	struct fs_inode *ip;

	snprintf(r->b->kept[i].name, sizeof(r->b->kept[i].name), "keep%u", i);
	r->b->kept[i].len = len;
	r->b->kept[i].seed = 100 + i;
	ip = make(r, r->root, r->b->kept[i].name);
	if (!ip)
		return;
	if (!write_at(r, ip, 0, len, r->b->kept[i].seed, flags) && !sync_file(r, ip, datasync))
		r->b->kept[i].promised = true;
	fs_iput(ip);
}

static void write_over(struct run *r, struct fs_inode *ip)
{
	const uint32_t gen = ++r->b->begun;

	if (!write_at(r, ip, 0, OVER_LEN, gen, 0) && !sync_file(r, ip, gen % 2))
		r->b->over = gen;
}

static int unlink_name(struct run *r, struct fs_inode *dir, const char *name)
{
	return note(r, fs_unlink(&r->ctx, dir, name, strlen(name)));
}

/* Many names: more than a block of them, so that the index comes and goes. */
static void churn_names(struct run *r)
{
	struct fs_inode *ip;
	char name[64], to[64];

	for (unsigned i = 0; i < NR_SMALL; i++) {
		snprintf(name, sizeof(name), "a-name-that-takes-its-space-%u", i);
		ip = make(r, r->dir, name);
		if (ip) {
			write_at(r, ip, 0, 10 + i * 40, i, 0);
			fs_iput(ip);
		}
		if (i % 3 == 0) {
			snprintf(to, sizeof(to), "renamed-%u", i / 6);
			note(r, fs_rename(&r->ctx, r->dir, name, strlen(name), r->dir, to, strlen(to),
					  0));
		}
		if (i % 4 == 3)
			unlink_name(r, r->dir, name);
	}
	note(r, fs_fsync_dir(&r->ctx, r->dir, false));
}

static void churn_file(struct run *r)
{
	static uint8_t value[30000];
	struct fs_attr a = { .size = 5000 };
	struct fs_inode *ip = make(r, r->root, "churn");

	if (!ip)
		return;
	note(r, fs_fallocate(&r->ctx, ip, 0, 0, 1u << 20));
	for (unsigned i = 0; i < 40; i++)
		write_at(r, ip, i * 16384, 4096, 1, i % 5 ? 0 : IOCB_DIRECT);
	sync_file(r, ip, false);
	note(r, fs_fallocate(&r->ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 100000));
	note(r, fs_fallocate(&r->ctx, ip, FALLOC_FL_ZERO_RANGE, 200000, 100000));
	note(r, fs_setxattr(&r->ctx, ip, "user.big", value, sizeof(value), 0));
	note(r, fs_link(&r->ctx, ip, r->dir, "churn2", 6));
	fs_drop_caches(r->fs);
	note(r, fs_removexattr(&r->ctx, ip, "user.big"));
	note(r, fs_setattr(&r->ctx, ip, FS_SET_SIZE, &a, NULL));
	fs_iput(ip);
	unlink_name(r, r->root, "churn");
	unlink_name(r, r->dir, "churn2");
}

static void read_all(struct run *r)
{
	static uint8_t buf[BUF_LEN];

	fs_drop_caches(r->fs);
	for (unsigned i = 0; i < r->b->nr; i++) {
		struct iovec iov = { buf, sizeof(buf) };
		struct kiocb iocb = { 0 };
		struct fs_inode *ip;
		struct iov_iter it;

		if (note(r, fs_lookup(&r->ctx, r->root, r->b->kept[i].name,
				      strlen(r->b->kept[i].name), &ip)))
			continue;
		iocb.ki_inode = fs_vfs_inode(ip);
		iov_iter_init(&it, &iov, 1, sizeof(buf));
		note(r, fs_read_iter(&r->ctx, &iocb, &it));
		fs_iput(ip);
	}
}

void work_run(struct fs *fs, struct work_book *b)
{
	struct run r = { .fs = fs, .ctx = { .umask = 022 }, .b = b };
	struct fs_inode *over;

	if (note(&r, fs_iget(fs, FS_ROOT_INO, 0, &r.root)))
		return;
	keep(&r, 100, 0, false);
	keep(&r, 100000, 0, true);
	if (!note(&r, fs_mkdir(&r.ctx, r.root, "dir", 3, 0755, &r.dir))) {
		churn_names(&r);
		keep(&r, 65536, IOCB_DIRECT, true);
		over = make(&r, r.root, "over");
		for (unsigned i = 0; i < 3 && over; i++) {
			write_over(&r, over);
			churn_file(&r);
			read_all(&r);
			keep(&r, 3000 + i * 30000, 0, i % 2);
		}
		if (over)
			fs_iput(over);
		note(&r, fs_sync(fs));
		churn_names(&r);
		keep(&r, 200000, 0, false);
		fs_iput(r.dir);
	}
	fs_iput(r.root);
}

/* ---- The judgement ------------------------------------------------------------------------------ */

static bool content_is(struct run *r, const char *name, uint32_t len, uint32_t seed, uint32_t *size)
{
	static uint8_t buf[BUF_LEN];
	struct iovec iov = { buf, sizeof(buf) };
	struct kiocb iocb = { 0 };
	struct fs_inode *ip;
	struct iov_iter it;
	int64_t n;

	*size = UINT32_MAX;
	if (fs_lookup(&r->ctx, r->root, name, strlen(name), &ip))
		return false;
	iocb.ki_inode = fs_vfs_inode(ip);
	iov_iter_init(&it, &iov, 1, sizeof(buf));
	n = fs_read_iter(&r->ctx, &iocb, &it);
	fs_iput(ip);
	*size = n < 0 ? UINT32_MAX : (uint32_t)n;
	if (n != len)
		return false;
	for (uint32_t i = 0; i < len; i++)
		if (buf[i] != byte_of(seed, i))
			return false;
	return true;
}

/* Each byte of the file that is written over is of a generation since the promised one. */
static bool over_is_possible(struct run *r, const struct work_book *b)
{
	static uint8_t buf[BUF_LEN];
	struct iovec iov = { buf, sizeof(buf) };
	struct kiocb iocb = { 0 };
	struct fs_inode *ip;
	struct iov_iter it;
	int64_t n;

	if (fs_lookup(&r->ctx, r->root, "over", 4, &ip))
		return b->over == 0;
	iocb.ki_inode = fs_vfs_inode(ip);
	iov_iter_init(&it, &iov, 1, sizeof(buf));
	n = fs_read_iter(&r->ctx, &iocb, &it);
	fs_iput(ip);
	if (n < 0 || (b->over && n != OVER_LEN))
		return false;
	for (uint32_t i = 0; i < (uint32_t)n; i++) {
		bool known = b->over == 0 && buf[i] == 0;

		for (uint32_t gen = MAX(b->over, 1u); gen <= b->begun && !known; gen++)
			known = buf[i] == byte_of(gen, i);
		if (!known)
			return false;
	}
	return true;
}

bool work_judge(struct fs *fs, const struct work_book *b, char *why, size_t size)
{
	struct run r = { .fs = fs };
	bool good = true;
	uint32_t got;

	if (fs_iget(fs, FS_ROOT_INO, 0, &r.root)) {
		snprintf(why, size, "no root");
		return false;
	}
	for (unsigned i = 0; i < b->nr && good; i++) {
		good = !b->kept[i].promised ||
		       content_is(&r, b->kept[i].name, b->kept[i].len, b->kept[i].seed, &got);
		if (!good)
			snprintf(why, size, "%s was promised %u bytes and has %d, or others",
				 b->kept[i].name, b->kept[i].len, (int)got);
	}
	if (good && !over_is_possible(&r, b)) {
		good = false;
		snprintf(why, size, "'over' is older than generation %u", b->over);
	}
	fs_iput(r.root);
	return good;
}

/* ---- Away with it ------------------------------------------------------------------------------- */

struct names {
	char name[200][40];
	unsigned n;
};

static int collect(void *arg, const char *name, size_t len, uint64_t ino, unsigned type, uint64_t cookie)
{
	struct names *l = arg;

	if (name[0] == '.' || l->n == ARRAY_SIZE(l->name) || len >= sizeof(l->name[0]))
		return l->n == ARRAY_SIZE(l->name);
	memcpy(l->name[l->n], name, len);
	l->name[l->n++][len] = '\0';
	return 0;
}

static int empty_dir(struct fs *fs, struct fs_inode *dir)
{
	struct fs_ctx ctx = { 0 };
	struct names *l = calloc(1, sizeof(*l));
	int err = l ? fs_readdir(&ctx, dir, 0, collect, l) : -ENOMEM;

	for (unsigned i = 0; !err && i < l->n; i++) {
		struct fs_inode *ip;

		err = fs_lookup(&ctx, dir, l->name[i], strlen(l->name[i]), &ip);
		if (err)
			break;
		if (S_ISDIR(fs_mode(ip))) {
			/* One level deep: the workload makes no more. */
			err = empty_dir(fs, ip);
			fs_iput(ip);
			if (!err)
				err = fs_rmdir(&ctx, dir, l->name[i], strlen(l->name[i]));
		} else {
			fs_iput(ip);
			err = fs_unlink(&ctx, dir, l->name[i], strlen(l->name[i]));
		}
	}
	free(l);
	return err;
}

int work_empty(struct fs *fs)
{
	struct fs_inode *root;
	int err = fs_iget(fs, FS_ROOT_INO, 0, &root);

	if (err)
		return err;
	err = empty_dir(fs, root);
	fs_iput(root);
	return err;
}

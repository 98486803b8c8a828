// SPDX-License-Identifier: MIT
/* Contents of a file, by the engine over the file system: extents found, bytes copied to and from folios. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "extent.h"
#include "micro.h"

#define EXTENTS 10000u
#define BLOCK   4096u
#define CACHED  (16u << 20)
#define LARGE   (1u << 20)

struct file {
	struct micro_fs m;
	struct fs_inode *ip;
	struct rng rng;
	uint8_t *buf;
};

static int64_t rw(struct file *f, size_t len, uint64_t pos, unsigned flags)
{
	struct kiocb iocb = {.ki_inode = fs_vfs_inode(f->ip), .ki_pos = pos, .ki_flags = flags};
	struct iovec iov = {f->buf, len};
	struct iov_iter it;

	iov_iter_init(&it, &iov, 1, len);
	return flags & IOCB_WRITE ? fs_write_iter(&f->m.ctx, &iocb, &it, false)
				  : fs_read_iter(&f->m.ctx, &iocb, &it);
}

static struct file *make(void)
{
	struct file *f = calloc(1, sizeof(*f));

	MUST(f);
	micro_mount(&f->m, 512u << 20);
	rng_seed(&f->rng, 42);
	f->ip = micro_create(&f->m, "file");
	f->buf = aligned_alloc(BLOCK, LARGE);
	MUST(f->buf);
	memset(f->buf, 'x', LARGE);
	return f;
}

static void end(void *arg)
{
	struct file *f = arg;

	fs_iput(f->ip);
	micro_umount(&f->m);
	free(f->buf);
	free(f);
}

/* Every other block of the file is there. */
static void *begin_sparse(void)
{
	struct file *f = make();

	for (unsigned i = 0; i < EXTENTS; i++)
		MUST(fs_fallocate(&f->m.ctx, f->ip, 0, 2ull * i * BLOCK, BLOCK) == 0);
	MUST(fs_quiesce(f->m.fs) == 0);
	return f;
}

static void find_extent(void *arg, unsigned ops)
{
	struct file *f = arg;
	struct extent e;

	for (unsigned i = 0; i < ops; i++) {
		lk_lock(&f->ip->extlock);
		MUST(ext_find(f->ip, 2 * rng_below(&f->rng, EXTENTS), 0, &e) == 1);
		lk_unlock(&f->ip->extlock);
	}
}

static void seek_hole(void *arg, unsigned ops)
{
	struct file *f = arg;

	for (unsigned i = 0; i < ops; i++) {
		const int64_t pos = (int64_t)(2 * rng_below(&f->rng, EXTENTS) * BLOCK);

		MUST(fs_lseek(&f->m.ctx, f->ip, pos, SEEK_HOLE) >= 0);
	}
}

static void read_direct(void *arg, unsigned ops)
{
	struct file *f = arg;

	for (unsigned i = 0; i < ops; i++)
		MUST(rw(f, BLOCK, rng_below(&f->rng, CACHED / BLOCK) * BLOCK, IOCB_DIRECT) == BLOCK);
}

/* Written and on the device, and in the cache. */
static void *begin_cached(void)
{
	struct file *f = make();

	for (uint64_t pos = 0; pos < CACHED; pos += LARGE)
		MUST(rw(f, LARGE, pos, IOCB_WRITE) == LARGE);
	MUST(fs_quiesce(f->m.fs) == 0);
	return f;
}

static void read_cached(void *arg, unsigned ops)
{
	struct file *f = arg;

	for (unsigned i = 0; i < ops; i++)
		MUST(rw(f, BLOCK, rng_below(&f->rng, CACHED / BLOCK) * BLOCK, 0) == BLOCK);
}

static void read_large(void *arg, unsigned ops)
{
	struct file *f = arg;

	for (unsigned i = 0; i < ops; i++)
		MUST(rw(f, LARGE, rng_below(&f->rng, CACHED / LARGE) * LARGE, 0) == LARGE);
}

static void write_cached(void *arg, unsigned ops)
{
	struct file *f = arg;

	for (unsigned i = 0; i < ops; i++)
		MUST(rw(f, BLOCK, rng_below(&f->rng, CACHED / BLOCK) * BLOCK, IOCB_WRITE) == BLOCK);
}

static void append(void *arg, unsigned ops)
{
	struct file *f = arg;

	for (unsigned i = 0; i < ops; i++)
		MUST(rw(f, 1 + i % 100, i_size_read(fs_vfs_inode(f->ip)), IOCB_WRITE) == 1 + i % 100);
}

const struct micro_case micro_file[] = {
	{"extent-find", "ext_find among 10^4 extents, at random, with the lock", 20000, begin_sparse,
	 find_extent, end},
	{"seek-hole", "fs_lseek of SEEK_HOLE there", 10000, begin_sparse, seek_hole, end},
	{"read-direct-4k", "a direct read of 4 KiB from a device in memory", 4000, begin_cached, read_direct,
	 end},
	{"read-cached-4k", "a read of 4 KiB from the cache", 20000, begin_cached, read_cached, end},
	{"read-cached-1m", "a read of 1 MiB from the cache", 100, begin_cached, read_large, end},
	{"write-cached-4k", "a write of 4 KiB into the cache", 4000, begin_cached, write_cached, end},
	{"append", "an append of 1 to 100 bytes", 10000, begin_cached, append, end},
	{0},
};

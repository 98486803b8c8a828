// SPDX-License-Identifier: MIT
/* Mount, sizes, and a refusal of everything else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "null.h"

/* ---- Mount ------------------------------------------------------------------------------------ */

static void destroy(struct fs *fs)
{
	if (fs->inodes)
		null_free_inodes(fs);
	free(fs->inodes);
	free(fs->buckets);
	pthread_rwlock_destroy(&fs->lock);
	free(fs);
}

int fs_mount(struct bd *bd, const struct fs_mount_opts *opts, struct fs **out, struct fs_error *err)
{
	const struct fs_ctx root = {0};
	struct fs *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return -ENOMEM;
	fs->opts = *opts;
	if (!fs->opts.memory_bytes)
		fs->opts.memory_bytes = 256u << 20;
	fs->sb = (struct sb_info){
		.version = 1,
		.block_shift = 12,
		.cluster_shift = 14,
		.root_ino = FS_ROOT_INO,
		.nr_blocks = bd->info.size >> 12,
		.nr_ags = 1,
		.creator = "bench/null",
	};
	pthread_rwlock_init(&fs->lock, NULL);
	/* Untouched pages cost nothing. */
	fs->buckets = calloc(NULL_BUCKETS, sizeof(*fs->buckets));
	fs->inodes = calloc(NULL_INODES, sizeof(*fs->inodes));
	fs->next_ino = FS_ROOT_INO;
	if (!fs->buckets || !fs->inodes || !null_new_inode(fs, S_IFDIR | 0755, &root)) {
		destroy(fs);
		return -ENOMEM;
	}
	fs->bd = bd;
	*out = fs;
	return 0;
}

int fs_unmount(struct fs *fs)
{
	bd_close(fs->bd);
	destroy(fs);
	return 0;
}

int fs_remount(struct fs *fs, const struct fs_mount_opts *opts, struct fs_error *err)
{
	return 0;
}

int fs_sync(struct fs *fs)
{
	return 0;
}

bool fs_is_shutdown(const struct fs *fs)
{
	return fs->down;
}

int fs_force_down(struct fs *fs, bool sync)
{
	fs->down = true;
	return 0;
}

bool fs_is_forced_down(const struct fs *fs)
{
	return fs->down;
}

bool fs_is_readonly(const struct fs *fs)
{
	return false;
}

const struct sb_info *fs_sb(const struct fs *fs)
{
	return &fs->sb;
}

const struct fs_mount_opts *fs_options(const struct fs *fs)
{
	return &fs->opts;
}

struct bd *fs_bd(const struct fs *fs)
{
	return fs->bd;
}

int fs_statfs(struct fs *fs, struct statvfs *st)
{
	const uint64_t blocks = fs->sb.nr_blocks, inodes = NULL_INODES - fs->next_ino;

	*st = (struct statvfs){
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_blocks = blocks,
		.f_bfree = blocks,
		.f_bavail = blocks,
		.f_files = NULL_INODES,
		.f_ffree = inodes,
		.f_favail = inodes,
		.f_namemax = 255,
	};
	return 0;
}

void fs_get_stats(struct fs *fs, struct fs_stats *st)
{
	*st = (struct fs_stats){.inodes_used = fs->next_ino - 1, .blocks_total = fs->sb.nr_blocks,
				.blocks_free = fs->sb.nr_blocks};
}

/* ---- Contents: only how long they are ----------------------------------------------------------- */

int fs_open(struct fs_ctx *ctx, struct fs_inode *ip, unsigned open_flags, struct fs_file **out)
{
	struct fs_file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->ip = ip;
	f->open_flags = open_flags;
	*out = f;
	return 0;
}

void fs_release(struct fs_file *f)
{
	free(f);
}

/* The caller's buffer goes out as it is: bytes of nobody, since this keeps none. */
int64_t fs_read_iter(struct fs_ctx *ctx, struct kiocb *iocb, struct iov_iter *to)
{
	const uint64_t size = i_size_read(iocb->ki_inode);
	const uint64_t len = to->count;

	return iocb->ki_pos >= size ? 0 : (int64_t)MIN(len, size - iocb->ki_pos);
}

int64_t fs_write_iter(struct fs_ctx *ctx, struct kiocb *iocb, struct iov_iter *from, bool append)
{
	const uint64_t end = iocb->ki_pos + from->count;
	uint64_t size = i_size_read(iocb->ki_inode);

	while (size < end && !atomic_compare_exchange_weak(&iocb->ki_inode->i_size, &size, end))
		;
	return (int64_t)from->count;
}

int fs_fsync(struct fs_ctx *ctx, struct fs_file *f, bool datasync)
{
	return 0;
}

int fs_fsync_dir(struct fs_ctx *ctx, struct fs_inode *dir, bool datasync)
{
	return 0;
}

void fs_touch_atime(struct fs_inode *ip)
{
}

void fs_swap_pin(struct fs_file *f)
{
}

void fs_atomic_limits(struct fs *fs, uint32_t *unit_min, uint32_t *unit_max, uint32_t *unit_max_opt)
{
	*unit_min = *unit_max = *unit_max_opt = 0;
}

int64_t fs_getxattr(struct fs_ctx *ctx, struct fs_inode *ip, const char *name, void *buf, size_t size)
{
	return -ENODATA;
}

int64_t fs_listxattr(struct fs_ctx *ctx, struct fs_inode *ip, char *buf, size_t size)
{
	return 0;
}

/* ---- What no workload on it asks for -------------------------------------------------------------- */

#define REFUSE(type, name, ...)       \
	type name(__VA_ARGS__)        \
	{                             \
		return -EOPNOTSUPP;   \
	}

REFUSE(int, fs_bmap, struct fs_ctx *ctx, struct fs_inode *ip, uint64_t blksize, uint64_t idx, uint64_t *out)
REFUSE(int, fs_clone_range, struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in, struct fs_inode *out,
       uint64_t off_out, uint64_t len)
REFUSE(int64_t, fs_copy_file_range, struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in,
       struct fs_inode *out, uint64_t off_out, uint64_t len)
REFUSE(int, fs_dedupe_range, struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in, struct fs_inode *out,
       uint64_t off_out, uint64_t len, uint64_t *deduped)
REFUSE(int, fs_fallocate, struct fs_ctx *ctx, struct fs_inode *ip, int mode, uint64_t offset, uint64_t len)
REFUSE(int, fs_fiemap, struct fs_ctx *ctx, struct fs_inode *ip, struct fiemap_extent_info *fi, uint64_t start,
       uint64_t len)
REFUSE(int64_t, fs_lseek, struct fs_ctx *ctx, struct fs_inode *ip, int64_t off, int whence)
REFUSE(int64_t, fs_readlink, struct fs_ctx *ctx, struct fs_inode *ip, char *buf, size_t size)
REFUSE(int, fs_removexattr, struct fs_ctx *ctx, struct fs_inode *ip, const char *name)
REFUSE(int, fs_set_flags, struct fs_ctx *ctx, struct fs_inode *ip, uint32_t flags, uint32_t projid)
REFUSE(int, fs_setxattr, struct fs_ctx *ctx, struct fs_inode *ip, const char *name, const void *value,
       size_t size, int flags)
REFUSE(int, fs_swap_map, struct fs_ctx *ctx, struct fs_inode *ip, struct swap_info *sis, uint64_t *pagespan)
REFUSE(int, fs_symlink, struct fs_ctx *ctx, struct fs_inode *dir, const char *name, size_t len,
       const char *target, struct fs_inode **out)
REFUSE(int, fs_tmpfile, struct fs_ctx *ctx, struct fs_inode *dir, mode_t mode, struct fs_inode **out)
REFUSE(int, fs_trim, struct fs *fs, uint64_t start, uint64_t len, uint64_t minlen, uint64_t *trimmed)
REFUSE(int, fs_tune, struct fs *fs, const struct fs_tune_args *args)

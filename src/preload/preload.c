// SPDX-License-Identifier: MIT
/*
 * Loaded into stock programs by `iomapctl exec`: calls that the kernel does not pass on to a
 * FUSE daemon reach ours as private ioctls. The kernel is always asked first, and only what it
 * refuses on an iomapfs is asked again: every other call and file system sees no difference,
 * and nothing has to be remembered about descriptors, which close and fork would make stale.
 *
 * No state but pointers to what is next in line, no allocation, no locks: safe in threads, after
 * fork, in handlers.
 */
/* Both names of fallocate are defined here; the headers would make them one. */
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "iomapfs/ioctl.h"

#define EXPORT __attribute__((visibility("default")))

typedef int (*ioctl_fn)(int fd, unsigned long cmd, ...);

static int bare_ioctl(int fd, unsigned long cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return (int)syscall(SYS_ioctl, fd, cmd, arg);
}

/* The next one in line: libc's, or another preloaded library's. */
static int next_ioctl(int fd, unsigned long cmd, void *arg)
{
	static ioctl_fn next;
	ioctl_fn fn = __atomic_load_n(&next, __ATOMIC_RELAXED);

	if (!fn) {
		/* Threads that come here together find the same. */
		fn = (ioctl_fn)(uintptr_t)dlsym(RTLD_NEXT, "ioctl");
		if (!fn)
			fn = bare_ioctl;
		__atomic_store_n(&next, fn, __ATOMIC_RELAXED);
	}
	return fn(fd, cmd, arg);
}

static int fail(int error)
{
	errno = error;
	return -1;
}

/* Other FUSE daemons may give our number another meaning, so the answer is looked at as well. */
static int is_ours(int fd)
{
	struct iomapfs_ioc_info info;
	struct statfs sf;

	if (fstatfs(fd, &sf) < 0 || sf.f_type != FUSE_SUPER_MAGIC)
		return 0;
	memset(&info, 0, sizeof(info));
	return next_ioctl(fd, IOMAPFS_IOC_INFO, &info) == 0 && info.version != 0 &&
	       info.block_size >= 512 && info.nr_blocks != 0;
}

/* ---- FS_IOC_FIEMAP ---------------------------------------------------------------------- */

/* One page of extents; *map keeps what the daemon said also when it refused. */
static int fiemap_page(int fd, struct iomapfs_ioc_fiemap *map, uint64_t start, uint64_t length,
		       uint32_t flags, uint32_t room)
{
	memset(map, 0, sizeof(*map));
	map->start = start;
	map->length = length;
	map->flags = flags;
	map->extent_count = room;
	return next_ioctl(fd, IOMAPFS_IOC_FIEMAP, map);
}

/* As ioctl_fiemap(2) has it: all that fits into the caller's array, however many pages it takes. */
static int do_fiemap(int fd, void *arg)
{
	struct iomapfs_ioc_fiemap page;
	struct fiemap *f = arg;
	const uint64_t start = f->fm_start;
	const uint64_t end = f->fm_length > UINT64_MAX - start ? UINT64_MAX : start + f->fm_length;
	const uint32_t count = f->fm_extent_count;
	uint32_t flags = f->fm_flags, done = 0, room;
	uint64_t pos = start;
	int ret;

	if (count > (UINT32_MAX - sizeof(*f)) / sizeof(struct fiemap_extent)) {
		errno = EINVAL;
		return -1;
	}
	do {
		room = count - done < IOMAPFS_FIEMAP_EXTENTS ? count - done : IOMAPFS_FIEMAP_EXTENTS;
		ret = fiemap_page(fd, &page, pos, end - pos, flags, room);
		if (ret < 0) {
			/* Which flags were not understood. */
			if (errno == EBADR)
				f->fm_flags = page.flags;
			return ret;
		}
		if (count == 0) {
			f->fm_mapped_extents = page.mapped_extents;
			return ret;
		}
		if (page.mapped_extents > room) {
			errno = EIO;
			return -1;
		}
		if (page.mapped_extents == 0)
			break;
		memcpy(&f->fm_extents[done], page.extents,
		       page.mapped_extents * sizeof(page.extents[0]));
		done += page.mapped_extents;
		pos = f->fm_extents[done - 1].fe_logical + f->fm_extents[done - 1].fe_length;
		/* Once is enough: what is written meanwhile may show as it is. */
		flags &= ~FIEMAP_FLAG_SYNC;
	} while (done < count && page.mapped_extents == room && pos < end &&
		 !(f->fm_extents[done - 1].fe_flags & FIEMAP_EXTENT_LAST));
	f->fm_mapped_extents = done;
	return 0;
}

/* ---- fallocate ---------------------------------------------------------------------------- */

/* A kernel that caches writes keeps its own size of a file: tell it. */
static int settle_size(int fd, uint64_t size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	return (uint64_t)st.st_size == size ? 0 : ftruncate(fd, (off_t)size);
}

typedef int (*fallocate_fn)(int fd, int mode, off64_t offset, off64_t len);

static int next_fallocate(int fd, int mode, off64_t offset, off64_t len)
{
	static fallocate_fn next;
	fallocate_fn fn = __atomic_load_n(&next, __ATOMIC_RELAXED);

	if (!fn) {
		fn = (fallocate_fn)(uintptr_t)dlsym(RTLD_NEXT, "fallocate64");
		if (!fn)
			return fail(ENOSYS);
		__atomic_store_n(&next, fn, __ATOMIC_RELAXED);
	}
	return fn(fd, mode, offset, len);
}

/* The modes that the kernel keeps to itself on FUSE. */
static int do_fallocate(int fd, int mode, off64_t offset, off64_t len)
{
	const int before = errno;
	struct iomapfs_ioc_falloc a = {
		.offset = (uint64_t)offset, .length = (uint64_t)len, .mode = (uint32_t)mode,
	};
	int ret;

	if (next_fallocate(fd, mode, offset, len) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -1;
	if (!is_ours(fd))
		return fail(EOPNOTSUPP);
	if (offset < 0 || len <= 0)
		return fail(EINVAL);
	ret = next_ioctl(fd, IOMAPFS_IOC_FALLOCATE, &a);
	if (ret < 0 || settle_size(fd, a.size) < 0)
		return -1;
	errno = before;
	return 0;
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t len)
{
	return do_fallocate(fd, mode, offset, len);
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
	return do_fallocate(fd, mode, offset, len);
}

/* ---- FICLONE, FICLONERANGE, FIDEDUPERANGE --------------------------------------------------- */

/* Two files of one mount? Else the kernel's own words for it. */
static int same_mount(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev;
}

static int clone_range(int fd, int64_t source, uint64_t source_offset, uint64_t length, uint64_t offset)
{
	struct iomapfs_ioc_clone a = {
		.source_offset = source_offset, .length = length, .offset = offset,
	};
	struct iomapfs_ioc_handle h;

	if (fcntl((int)source, F_GETFD) < 0)
		return -1;
	if (!same_mount(fd, (int)source))
		return fail(EXDEV);
	memset(&h, 0, sizeof(h));
	if (next_ioctl((int)source, IOMAPFS_IOC_HANDLE, &h) < 0)
		return -1;
	a.source = h.token;
	if (next_ioctl(fd, IOMAPFS_IOC_CLONE, &a) < 0)
		return -1;
	return settle_size(fd, a.size);
}

/* The argument is the descriptor itself. */
static int do_clone(int fd, void *arg)
{
	return clone_range(fd, (int)(intptr_t)arg, 0, 0, 0);
}

static int do_clone_range(int fd, void *arg)
{
	const struct file_clone_range *r = arg;

	return clone_range(fd, r->src_fd, r->src_offset, r->src_length, r->dest_offset);
}

/* One target, which is answered for on its own. */
static void dedupe_one(const struct iomapfs_token *source, int fd,
		       const struct file_dedupe_range *r, struct file_dedupe_range_info *to)
{
	struct iomapfs_ioc_dedupe a = {
		.source = *source, .source_offset = r->src_offset, .length = r->src_length,
		.offset = to->dest_offset,
	};
	const int dest = (int)to->dest_fd;

	to->bytes_deduped = 0;
	if (to->reserved)
		to->status = -EINVAL;
	else if (fcntl(dest, F_GETFD) < 0)
		to->status = -EBADF;
	else if (!same_mount(fd, dest))
		to->status = -EXDEV;
	else if (next_ioctl(dest, IOMAPFS_IOC_DEDUPE, &a) < 0)
		to->status = -errno;
	else
		to->status = a.differs ? FILE_DEDUPE_RANGE_DIFFERS : FILE_DEDUPE_RANGE_SAME;
	if (to->status == FILE_DEDUPE_RANGE_SAME)
		to->bytes_deduped = a.deduped;
}

static int do_dedupe(int fd, void *arg)
{
	struct file_dedupe_range *r = arg;
	struct iomapfs_ioc_handle h;

	if (r->reserved1 || r->reserved2)
		return fail(EINVAL);
	memset(&h, 0, sizeof(h));
	if (next_ioctl(fd, IOMAPFS_IOC_HANDLE, &h) < 0)
		return -1;
	for (unsigned i = 0; i < r->dest_count; i++)
		dedupe_one(&h.token, fd, r, &r->info[i]);
	return 0;
}

/* ---- Dispatch ------------------------------------------------------------------------------ */

static const struct {
	unsigned long cmd;
	int (*fn)(int fd, void *arg);
} rows[] = {
	{FS_IOC_FIEMAP, do_fiemap},
	{FICLONE, do_clone},
	{FICLONERANGE, do_clone_range},
	{FIDEDUPERANGE, do_dedupe},
};

EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
	const int before = errno;
	va_list ap;
	void *arg;
	int ret;

	/* Whatever its type and whether there is one: a register's worth, as libc does. */
	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	ret = next_ioctl(fd, cmd, arg);
	if (ret != -1 || (errno != EOPNOTSUPP && errno != ENOTTY))
		return ret;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const int refused = errno;

		if (rows[i].cmd != cmd)
			continue;
		if (!is_ours(fd)) {
			errno = refused;
			return ret;
		}
		errno = before;
		return rows[i].fn(fd, arg);
	}
	return ret;
}

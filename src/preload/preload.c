// SPDX-License-Identifier: MIT
/*
 * Loaded into stock programs by `iomapctl exec`: ioctls that the kernel does not pass on to a
 * FUSE daemon reach ours by another number. The kernel is always asked first, and only what it
 * refuses on an iomapfs is asked again: every other call and file system sees no difference,
 * and nothing has to be remembered about descriptors, which close and fork would make stale.
 *
 * No state but one pointer, no allocation, no locks: safe in threads, after fork, in handlers.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
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

/* ---- Dispatch ------------------------------------------------------------------------------ */

static const struct {
	unsigned long cmd;
	int (*fn)(int fd, void *arg);
} rows[] = {
	{FS_IOC_FIEMAP, do_fiemap},
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

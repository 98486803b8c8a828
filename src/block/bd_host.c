/* SPDX-License-Identifier: MIT */
/* Host files and block devices: open, lock, probe their limits, synchronous requests. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "bd_private.h"
#include "iomapfs/util.h"

/* One number or word of /sys/dev/block/MAJ:MIN/queue (of the whole disk for a partition). */
static bool queue_attr(dev_t rdev, const char *attr, char *buf, size_t size)
{
	static const char *const where[] = { "queue", "../queue" };

	for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
		char path[128];
		FILE *f;
		bool ok;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(rdev), minor(rdev),
			 where[i], attr);
		f = fopen(path, "re");
		if (!f)
			continue;
		ok = fgets(buf, (int)size, f) != NULL;
		fclose(f);
		if (ok) {
			buf[strcspn(buf, "\n")] = '\0';
			return true;
		}
	}
	return false;
}

static uint64_t queue_number(dev_t rdev, const char *attr, uint64_t fallback)
{
	char buf[64];

	return queue_attr(rdev, attr, buf, sizeof(buf)) ? strtoull(buf, NULL, 10) : fallback;
}

/*
 * Sizes of an untorn write, as statx tells them from Linux 6.11 on. Headers may be older than the
 * kernel: the two numbers stand at fixed places of the 256 bytes.
 */
static void probe_atomic(int fd, struct bd_info *info)
{
	const unsigned mask = 0x10000; /* STATX_WRITE_ATOMIC */
	union {
		struct statx stx;
		uint8_t bytes[256];
	} u = { .bytes = { 0 } };
	uint32_t min, max;

	/* Untorn only past the page cache. */
	if (!info->direct || statx(fd, "", AT_EMPTY_PATH, mask, &u.stx) || !(u.stx.stx_mask & mask))
		return;
	memcpy(&min, u.bytes + 0xa8, sizeof(min)); /* stx_atomic_write_unit_min */
	memcpy(&max, u.bytes + 0xac, sizeof(max)); /* stx_atomic_write_unit_max */
	if (!is_pow2(min) || !is_pow2(max) || min > max || min > info->max_io)
		return;
	info->atomic_min = min;
	info->atomic_max = MIN(max, info->max_io);
}

static int probe_blockdev(int fd, dev_t rdev, struct bd_info *info)
{
	char buf[64];
	uint64_t size;
	unsigned physical = 0;
	int logical, ro = 0;

	if (ioctl(fd, BLKGETSIZE64, &size) || ioctl(fd, BLKSSZGET, &logical))
		return -errno;
	if (ioctl(fd, BLKPBSZGET, &physical) || physical < (unsigned)logical)
		physical = (unsigned)logical;
	if (!ioctl(fd, BLKROGET, &ro) && ro)
		info->readonly = true;
	info->is_blockdev = true;
	info->size = size;
	info->logical_block = (uint32_t)logical;
	info->physical_block = physical;
	info->discard_granularity = queue_number(rdev, "discard_max_bytes", 0)
		? (uint32_t)MAX(queue_number(rdev, "discard_granularity", 0), 512u) : 0;
	info->rotational = queue_number(rdev, "rotational", 0) != 0;
	info->fua = queue_number(rdev, "fua", 0) != 0;
	info->volatile_cache = !queue_attr(rdev, "write_cache", buf, sizeof(buf)) ||
			       !strcmp(buf, "write back");
	probe_atomic(fd, info);
	return 0;
}

static void probe_file(int fd, const struct stat *st, struct bd_info *info)
{
	struct statx stx;

	info->size = (uint64_t)st->st_size;
	info->logical_block = 512;
	info->physical_block = 4096;
	info->discard_granularity = 4096; /* punched holes; learned otherwise at the first refusal */
	info->fua = true;                 /* RWF_DSYNC */
	info->volatile_cache = true;
	if (info->direct && !statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align) {
		info->logical_block = MAX(stx.stx_dio_offset_align, 512u);
		info->mem_align = MAX(stx.stx_dio_mem_align, info->mem_align);
	}
	/* A tail shorter than a block cannot be addressed. */
	info->size = ROUND_DOWN(info->size, (uint64_t)info->logical_block);
}

static int lock_image(int fd, bool rdonly)
{
	struct flock fl = { .l_type = rdonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (!fcntl(fd, F_OFD_SETLK, &fl))
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* A file system that knows no O_DIRECT says EINVAL at open: use its page cache then. */
static int open_host(const char *path, int oflags, bool want_direct, bool *direct)
{
	int fd = -1;

	if (want_direct)
		fd = open(path, oflags | O_DIRECT);
	*direct = fd >= 0;
	if (fd < 0 && (!want_direct || errno == EINVAL))
		fd = open(path, oflags);
	return fd < 0 ? -errno : fd;
}

int bd_host_open(const char *path, unsigned flags, struct bd_host *host, struct bd_info *info)
{
	int oflags = O_CLOEXEC | (flags & BD_OPEN_RDONLY ? O_RDONLY : O_RDWR);
	struct stat st;
	int fd, err = 0;

	memset(info, 0, sizeof(*info));
	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -EMEDIUMTYPE;
	if (S_ISBLK(st.st_mode) && (flags & BD_OPEN_EXCL))
		oflags |= O_EXCL;
	fd = open_host(path, oflags, !(flags & BD_OPEN_BUFFERED), &info->direct);
	if (fd < 0)
		return fd;
	/* The path may have been swapped between stat and open: judge what was opened. */
	if (fstat(fd, &st))
		err = -errno;
	else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		err = -EMEDIUMTYPE;
	info->readonly = flags & BD_OPEN_RDONLY;
	info->mem_align = 512;
	info->max_io = 4u << 20;
	info->max_segments = 1024;
	if (!err && S_ISBLK(st.st_mode))
		err = probe_blockdev(fd, st.st_rdev, info);
	else if (!err)
		probe_file(fd, &st, info);
	if (!err && S_ISREG(st.st_mode) && (flags & BD_OPEN_LOCK))
		err = lock_image(fd, flags & BD_OPEN_RDONLY);
	if (!err && info->logical_block > 4096)
		err = -EINVAL;
	if (err) {
		close(fd);
		return err;
	}
	host->fd = fd;
	host->is_blockdev = info->is_blockdev;
	return 0;
}

void bd_host_close(struct bd_host *h)
{
	struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	if (!h->is_blockdev)
		(void)fcntl(h->fd, F_OFD_SETLK, &fl);
	close(h->fd);
}

static int host_discard(struct bd_host *h, const struct bd_io *io)
{
	if (h->is_blockdev) {
		uint64_t range[2] = { io->offset, io->len };

		return ioctl(h->fd, BLKDISCARD, range) ? -errno : 0;
	}
	if (atomic_load(&h->no_punch))
		return -EOPNOTSUPP;
	if (!fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset,
		       (off_t)io->len))
		return 0;
	if (errno == EOPNOTSUPP)
		atomic_store(&h->no_punch, true);
	return -errno;
}

static int host_write_zeroes(struct bd_host *h, const struct bd_io *io)
{
	if (h->is_blockdev) {
		uint64_t range[2] = { io->offset, io->len };

		return ioctl(h->fd, BLKZEROOUT, range) ? -errno : 0;
	}
	if (!atomic_load(&h->no_zero_range)) {
		if (!fallocate(h->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset,
			       (off_t)io->len))
			return 0;
		if (errno != EOPNOTSUPP)
			return -errno;
		atomic_store(&h->no_zero_range, true);
	}
	/* tmpfs has holes but no zero range; a hole reads as zero. */
	return host_discard(h, io);
}

int bd_host_rw_flags(const struct bd_io *io)
{
	return (io->flags & BD_FUA ? RWF_DSYNC : 0) | (io->flags & BD_ATOMIC ? BD_RWF_ATOMIC : 0);
}

/* Whole transfer of an io, going on after short ones. */
static int host_rw(struct bd_host *h, const struct bd_io *io)
{
	struct iovec iov[64];
	uint64_t offset = io->offset;
	unsigned i = 0;
	size_t skip = 0;

	while (i < io->nr_iov) {
		unsigned n = 0;
		ssize_t r;

		for (; n < ARRAY_SIZE(iov) && i + n < io->nr_iov; n++)
			iov[n] = io->iov[i + n];
		iov[0].iov_base = (char *)iov[0].iov_base + skip;
		iov[0].iov_len -= skip;
		if (io->op == BD_READ)
			r = preadv(h->fd, iov, (int)n, (off_t)offset);
		else
			r = pwritev2(h->fd, iov, (int)n, (off_t)offset, bd_host_rw_flags(io));
		HOOK("bd:host-done", &r);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO; /* 0: the image was cut short under us */
		/* What came short is torn: its rest as a write of its own would hide that. */
		if ((io->flags & BD_ATOMIC) && (uint64_t)r < io->len)
			return -EIO;
		offset += (uint64_t)r;
		r += (ssize_t)skip;
		while (i < io->nr_iov && (size_t)r >= io->iov[i].iov_len)
			r -= (ssize_t)io->iov[i++].iov_len;
		skip = (size_t)r;
	}
	return 0;
}

int bd_host_sync(struct bd_host *h, struct bd_io *io)
{
	switch (io->op) {
	case BD_WRITE:
		if ((io->flags & BD_PREFLUSH) && fdatasync(h->fd))
			return -errno;
		return host_rw(h, io);
	case BD_READ:
		return host_rw(h, io);
	case BD_FLUSH:
		return fdatasync(h->fd) ? -errno : 0;
	case BD_DISCARD:
		return host_discard(h, io);
	case BD_WRITE_ZEROES:
		return host_write_zeroes(h, io);
	}
	return -EINVAL;
}

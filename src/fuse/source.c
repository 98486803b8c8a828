// SPDX-License-Identifier: MIT
/*
 * Sources: a block device, or an image file. Root mounts both through the kernel's block
 * layer (fuseblk), which gives FIBMAP, SYNCFS and an unmount that waits; an image file gets a
 * loop device for that, while our own I/O goes to the image itself.
 */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mount_private.h"

/* A daemon whose mount is gone may have much to write back yet: five seconds. */
#define CLAIM_TRIES 100
#define CLAIM_PAUSE_MS 50u
#define LOOP_TRIES 16

static void pause_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

/*
 * Claim a block device. A mount that was just detached lets go a moment later; then wait
 * a little.
 */
static int claim_device(const char *path, int mode)
{
	int fd;

	for (int i = 0; i < CLAIM_TRIES; i++) {
		fd = open(path, mode | O_EXCL | O_CLOEXEC);
		if (fd >= 0 || errno != EBUSY)
			break;
		pause_ms(CLAIM_PAUSE_MS);
	}
	return fd >= 0 ? fd : -errno;
}

/* Two daemons must not both pass between the claim's end and the kernel's own. */
static int lock_device(struct bd *bd, bool readonly)
{
	struct flock lk = {.l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	if (bd_fd(bd) >= 0 && fcntl(bd_fd(bd), F_OFD_SETLK, &lk) < 0 &&
	    (errno == EAGAIN || errno == EACCES))
		return -EBUSY;
	return 0;
}

static int open_error(struct fz_failure *f, const char *path, int error)
{
	switch (-error) {
	case EBUSY:
		return fz_fail(f, FZ_EX_FAIL,
			       "%s: in use: already mounted, or held by another program", path);
	case EROFS:
	case EACCES:
	case EPERM:
		return fz_fail(f, FZ_EX_FAIL,
			       "%s: cannot be opened for writing (%s); mount it read-only with -o ro, "
			       "or get write permission",
			       path, strerror(-error));
	default:
		return fz_fail(f, FZ_EX_FAIL, "%s: %s", path, strerror(-error));
	}
}

static int open_bd(struct fz_source *s, const struct fz_options *o)
{
	unsigned flags = BD_OPEN_LOCK;
	int ret = -EBUSY;

	/* On plain FUSE nobody else holds the claim: keep ours. */
	if (s->is_blk && !s->fuseblk)
		flags = BD_OPEN_EXCL;
	else if (s->is_blk)
		flags = 0;
	/* The last daemon may be on its way out: unmounted (plain FUSE) or killed a moment ago. */
	for (int i = 0; i < CLAIM_TRIES; i++) {
		ret = bd_open(s->path, flags, &s->bd);
		if (ret != -EBUSY)
			break;
		pause_ms(CLAIM_PAUSE_MS);
	}
	if (ret < 0 && ret != -EBUSY && o->fs.readonly)
		ret = bd_open(s->path, flags | BD_OPEN_RDONLY, &s->bd);
	if (ret == 0 && s->is_blk) {
		ret = lock_device(s->bd, s->bd->info.readonly);
		if (ret < 0) {
			bd_close(s->bd);
			s->bd = NULL;
		}
	}
	return ret;
}

int fz_source_open(struct fz_source *s, const char *path, const struct fz_options *o,
		   struct fz_failure *f)
{
	struct stat st;
	int ret;

	*s = (struct fz_source){.excl_fd = -1, .loop_fd = -1};
	if (!realpath(path, s->path) || stat(s->path, &st) < 0)
		return fz_fail(f, FZ_EX_FAIL, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fz_fail(f, FZ_EX_FAIL, "%s: neither a block device nor an image file", path);
	s->is_blk = S_ISBLK(st.st_mode);
	s->fuseblk = geteuid() == 0;
	strlcpy(s->dev, s->path, sizeof(s->dev));
	if (s->is_blk && s->fuseblk) {
		ret = claim_device(s->path, o->fs.readonly ? O_RDONLY : O_RDWR);
		if (ret < 0)
			return open_error(f, s->path, ret);
		s->excl_fd = ret;
	}
	ret = open_bd(s, o);
	if (ret < 0) {
		fz_source_close(s);
		return open_error(f, path, ret);
	}
	return 0;
}

static int loop_configure(int loop, int image, const char *path, uint32_t flags)
{
	struct loop_config lc = {.fd = (uint32_t)image};

	lc.info.lo_flags = flags;
	snprintf((char *)lc.info.lo_file_name, sizeof(lc.info.lo_file_name), "%s", path);
	if (ioctl(loop, LOOP_CONFIGURE, &lc) == 0)
		return 0;
	return -errno;
}

static int loop_attach(struct fz_source *s, int control, int image, uint32_t flags)
{
	int ret = -EBUSY;

	/* Between asking for a free device and taking it another process may be faster. */
	for (int i = 0; i < LOOP_TRIES && ret == -EBUSY; i++) {
		int nr = ioctl(control, LOOP_CTL_GET_FREE), fd;

		if (nr < 0)
			return -errno;
		snprintf(s->dev, sizeof(s->dev), "/dev/loop%d", nr);
		fd = open(s->dev, (flags & LO_FLAGS_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC);
		if (fd < 0) {
			/* Taken exclusively, or being cleared: another one then. */
			if (errno != EBUSY && errno != ENXIO)
				return -errno;
			continue;
		}
		ret = loop_configure(fd, image, s->path, flags | LO_FLAGS_DIRECT_IO);
		if (ret == -EINVAL)
			ret = loop_configure(fd, image, s->path, flags);
		if (ret < 0)
			close(fd);
		else
			s->loop_fd = fd;
	}
	return ret;
}

void fz_source_attach_loop(struct fz_source *s, bool readonly)
{
	uint32_t flags = LO_FLAGS_AUTOCLEAR;
	int control, image, ret;

	if (s->is_blk || !s->fuseblk)
		return;
	if (readonly)
		flags |= LO_FLAGS_READ_ONLY;
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	ret = control < 0 ? -errno : 0;
	image = open(s->path, (flags & LO_FLAGS_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (image < 0)
		ret = -errno;
	if (ret == 0)
		ret = loop_attach(s, control, image, flags);
	if (control >= 0)
		close(control);
	if (image >= 0)
		close(image);
	if (ret < 0) {
		log_info("%s: no loop device (%s): no FIBMAP, no swap files, and unmount with "
			 "umount(8), which waits",
			 s->path, strerror(-ret));
		s->fuseblk = false;
		strlcpy(s->dev, s->path, sizeof(s->dev));
	}
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void fz_source_release_claim(struct fz_source *s)
{
	close_fd(&s->excl_fd);
}

void fz_source_close(struct fz_source *s)
{
	close_fd(&s->excl_fd);
	close_fd(&s->loop_fd);
	if (s->bd)
		bd_close(s->bd);
	s->bd = NULL;
}

int fz_source_wait(const char *path, unsigned timeout_ms)
{
	struct flock lk;
	struct stat st;
	int fd, ret;

	for (unsigned waited = 0;; waited += 10) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0) {
			ret = -errno;
			close_fd(&fd);
			return ret;
		}
		lk = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
		ret = fcntl(fd, F_OFD_GETLK, &lk) < 0 ? -errno : lk.l_type == F_UNLCK ? 0 : -EBUSY;
		close(fd);
		if (ret == 0 && S_ISBLK(st.st_mode)) {
			fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
			ret = fd < 0 ? -errno : 0;
			close_fd(&fd);
		}
		if (ret != -EBUSY)
			return ret;
		if (timeout_ms && waited >= timeout_ms)
			return -ETIMEDOUT;
		pause_ms(10);
	}
}

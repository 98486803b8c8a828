// SPDX-License-Identifier: MIT
/* mount -o remount: the kernel's flags and the daemon's state change together. */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "iomapfs/ioctl.h"
#include "mount_private.h"

static int tell_daemon(int fd, const char *list, struct fz_failure *f)
{
	struct iomapfs_ioc_remount r = {0};

	if (strlen(list) >= sizeof(r.options))
		return fz_fail(f, FZ_EX_USAGE, "the option list is too long");
	strlcpy(r.options, list, sizeof(r.options));
	if (ioctl(fd, IOMAPFS_IOC_REMOUNT, &r) < 0)
		return fz_fail(f, FZ_EX_FAIL, "remount: %s", strerror(errno));
	if (r.error)
		return fz_fail(f, FZ_EX_FAIL, "remount: %.500s",
			       r.message[0] ? r.message : strerror(-r.error));
	return 0;
}

static void apply(unsigned long *flags, unsigned long bit, enum fz_tristate t, enum fz_tristate sets)
{
	if (t == FZ_DEFAULT)
		return;
	if (t == sets)
		*flags |= bit;
	else
		*flags &= ~bit;
}

static int tell_kernel(const char *target, const struct fz_options *o, struct fz_failure *f)
{
	unsigned long flags = MS_REMOUNT;
	struct statvfs st;

	if (geteuid() != 0)
		return 0;
	if (statvfs(target, &st) < 0)
		return fz_fail(f, FZ_EX_FAIL, "%s: %s", target, strerror(errno));
	/* The ST_ flags of statvfs are the MS_ flags of mount, for those that matter here. */
	flags |= st.f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
			      MS_NODIRATIME | MS_SYNCHRONOUS);
	if (o->ro_given)
		apply(&flags, MS_RDONLY, o->fs.readonly ? FZ_ON : FZ_OFF, FZ_ON);
	if (o->atime_given)
		apply(&flags, MS_NOATIME, o->fs.atime == FS_ATIME_NOATIME ? FZ_ON : FZ_OFF, FZ_ON);
	apply(&flags, MS_NOSUID, o->suid, FZ_OFF);
	apply(&flags, MS_NODEV, o->dev, FZ_OFF);
	apply(&flags, MS_NOEXEC, o->exec, FZ_OFF);
	if (o->sync)
		flags |= MS_SYNCHRONOUS;
	if (mount("none", target, NULL, flags, NULL) < 0)
		return fz_fail(f, FZ_EX_FAIL, "%s: remount: %s", target, strerror(errno));
	return 0;
}

int fz_remount(const char *target, const char *option_list, const struct fz_options *o,
	       struct fz_failure *f)
{
	struct fz_mount_entry e;
	int fd, ret;

	if (!fz_mount_find(target, &e) || !fz_mount_is_ours(&e))
		return fz_fail(f, FZ_EX_FAIL, "%s: no iomapfs is mounted there", target);
	fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fz_fail(f, FZ_EX_FAIL, "%s: %s", target, strerror(errno));
	/*
	 * To read-only: the kernel first, which writes back its cache and refuses while files
	 * are open for writing. To read-write: the daemon first, which may refuse.
	 */
	if (o->ro_given && o->fs.readonly) {
		ret = tell_kernel(target, o, f);
		if (ret == 0)
			ret = tell_daemon(fd, option_list, f);
	} else {
		ret = tell_daemon(fd, option_list, f);
		if (ret == 0)
			ret = tell_kernel(target, o, f);
	}
	close(fd);
	return ret;
}

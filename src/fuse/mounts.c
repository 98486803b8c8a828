// SPDX-License-Identifier: MIT
/* The system's mounts: what stands at a path, and taking away what is dead. */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <mntent.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount_private.h"

extern char **environ;

int fz_fail(struct fz_failure *f, int code, const char *fmt, ...)
{
	va_list ap;

	f->code = code;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return -1;
}

bool fz_mount_find(const char *target, struct fz_mount_entry *out)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	char line[2 * PATH_MAX + 1024];
	struct mntent m;
	bool found = false;

	if (!mounts)
		return false;
	/* Later lines are mounted on top of earlier ones. */
	while (getmntent_r(mounts, &m, line, sizeof(line))) {
		if (strcmp(m.mnt_dir, target) != 0)
			continue;
		found = true;
		snprintf(out->source, sizeof(out->source), "%s", m.mnt_fsname);
		snprintf(out->type, sizeof(out->type), "%s", m.mnt_type);
	}
	endmntent(mounts);
	return found;
}

bool fz_mount_is_ours(const struct fz_mount_entry *e)
{
	return !strcmp(e->type, "fuse.iomapfs") || !strcmp(e->type, "fuseblk.iomapfs");
}

int fz_target_resolve(const char *target, char out[PATH_MAX], struct fz_failure *f)
{
	char copy1[PATH_MAX], copy2[PATH_MAX], parent[PATH_MAX];
	const char *base;
	int n;

	if (realpath(target, out))
		return 0;
	if (errno != ENOTCONN && errno != ECONNABORTED && errno != EIO && errno != EACCES)
		return fz_fail(f, FZ_EX_FAIL, "%s: %s", target, strerror(errno));
	if (strlen(target) >= PATH_MAX)
		return fz_fail(f, FZ_EX_FAIL, "%.64s...: %s", target, strerror(ENAMETOOLONG));
	strlcpy(copy1, target, sizeof(copy1));
	strlcpy(copy2, target, sizeof(copy2));
	base = basename(copy2);
	if (!realpath(dirname(copy1), parent))
		return fz_fail(f, FZ_EX_FAIL, "%s: %s", target, strerror(errno));
	n = snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", base);
	if (n >= PATH_MAX)
		return fz_fail(f, FZ_EX_FAIL, "%.64s...: %s", target, strerror(ENAMETOOLONG));
	return 0;
}

int fz_run(const char *const argv[])
{
	int status;
	pid_t pid;
	int ret;

	ret = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
	if (ret)
		return -ret;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int fz_target_detach(const char *target)
{
	const char *const argv[] = {"fusermount3", "-u", "-z", "-q", "--", target, NULL};

	if (umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	return fz_run(argv) == 0 ? 0 : -EPERM;
}

/*
 * Ask whoever serves the target, not the kernel's cache: attributes are cached for ever, so a
 * plain stat of a dead mount's root goes on succeeding.
 */
static int stat_served(const char *target, struct statx *st)
{
	return statx(AT_FDCWD, target, AT_STATX_FORCE_SYNC, STATX_TYPE | STATX_MODE, st);
}

int fz_target_clear_dead(const char *target, struct fz_failure *f)
{
	struct fz_mount_entry e;
	struct statx st;

	/* Several may lie on top of each other, if each start found the last one dead. */
	for (int tries = 0; tries < 16; tries++) {
		if (stat_served(target, &st) == 0)
			break;
		if (errno != ENOTCONN && errno != ECONNABORTED)
			return fz_fail(f, FZ_EX_FAIL, "%s: %s", target, strerror(errno));
		if (!fz_mount_find(target, &e) || !fz_mount_is_ours(&e))
			return fz_fail(f, FZ_EX_FAIL,
				       "%s: a mount whose daemon is gone, but not one of iomapfs; "
				       "unmount it first",
				       target);
		if (fz_target_detach(target) < 0)
			return fz_fail(f, FZ_EX_FAIL,
				       "%s: cannot detach the dead mount there; unmount it first",
				       target);
		log_info("%s: detached a mount of %s whose daemon was gone", target, e.source);
	}
	if (stat_served(target, &st) < 0)
		return fz_fail(f, FZ_EX_FAIL, "%s: %s", target, strerror(errno));
	if (!S_ISDIR(st.stx_mode))
		return fz_fail(f, FZ_EX_FAIL, "%s: not a directory", target);
	return 0;
}

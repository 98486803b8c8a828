// SPDX-License-Identifier: MIT
/*
 * umount.fuse.iomapfs: unmount, then wait for the daemon. Plain FUSE mounts tell their daemon
 * only after umount(2) returned; a caller may want to read the image, or unplug the disk.
 */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "mount_private.h"

int fz_umount_main(int argc, char **argv)
{
	bool lazy = false, force = false;
	struct fz_failure f = {0};
	struct fz_mount_entry e;
	char target[PATH_MAX];
	int c, ret;

	while ((c = getopt(argc, argv, "nlfrvN:t:")) != -1) {
		if (c == 'l')
			lazy = true;
		else if (c == 'f')
			force = true;
		else if (c == '?')
			return FZ_EX_USAGE;
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "usage: %s [-flnrv] MOUNTPOINT\n", argv[0]);
		return FZ_EX_USAGE;
	}
	if (fz_target_resolve(argv[optind], target, &f) < 0) {
		fprintf(stderr, "%s: %s\n", argv[0], f.text);
		return f.code;
	}
	if (!fz_mount_find(target, &e) || !fz_mount_is_ours(&e)) {
		fprintf(stderr, "%s: %s: no iomapfs is mounted there\n", argv[0], target);
		return FZ_EX_FAIL;
	}
	if (geteuid() == 0) {
		ret = umount2(target, (lazy ? MNT_DETACH : 0) | (force ? MNT_FORCE : 0));
		if (ret < 0) {
			fprintf(stderr, "%s: %s: %s\n", argv[0], target, strerror(errno));
			return FZ_EX_FAIL;
		}
	} else {
		const char *const run[] = {"fusermount3", "-u", lazy ? "-z" : "--", lazy ? "--" : target,
					   lazy ? target : NULL, NULL};

		ret = fz_run(run);
		if (ret != 0)
			return FZ_EX_FAIL;
	}
	/* A lazy unmount is over when its last user is: that may be never. */
	if (!lazy && fz_source_wait(e.source, 0) < 0)
		log_debug("%s: cannot be watched", e.source);
	return FZ_EX_OK;
}

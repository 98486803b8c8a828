/* SPDX-License-Identifier: MIT */
/* What mounting needs before and around the session: sources, targets, the daemon's start. */
#ifndef FUSE_MOUNT_PRIVATE_H
#define FUSE_MOUNT_PRIVATE_H

#include <limits.h>

#include "fuse_private.h"

/* Exit codes, those of mount(8). */
#define FZ_EX_OK     0
#define FZ_EX_USAGE  1  /* wrong options or arguments, not permitted */
#define FZ_EX_SYSTEM 2  /* no /dev/fuse, no memory, no threads */
#define FZ_EX_FAIL   32 /* the mount failed: source, target, file system */

/* Why it failed, for the user. */
struct fz_failure {
	int code;
	char text[640];
};
int fz_fail(struct fz_failure *f, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- Mounts of the system (mounts.c) ------------------------------------------------- */

struct fz_mount_entry {
	char source[PATH_MAX];
	char type[64];
};
/* The topmost mount at an absolute path; false: none there. */
bool fz_mount_find(const char *target, struct fz_mount_entry *out);
bool fz_mount_is_ours(const struct fz_mount_entry *e);
/* Absolute path of a mount point, dead mounts included: only its parent is resolved. */
int fz_target_resolve(const char *target, char out[PATH_MAX], struct fz_failure *f);
/* Detach a mount of ours at target whose daemon is gone. */
int fz_target_clear_dead(const char *target, struct fz_failure *f);
/* Detach now (lazily): the kernel lets go when the last user has. */
int fz_target_detach(const char *target);
/* Run a program without a shell; its exit code, or -errno. */
int fz_run(const char *const argv[]);

/* ---- Sources (source.c) ------------------------------------------------------------------ */

struct fz_source {
	char path[PATH_MAX];    /* the device or image, absolute */
	bool is_blk;
	bool fuseblk;           /* mount it through a block device */
	char dev[PATH_MAX];     /* what the kernel mounts: the device, or a loop device */
	int excl_fd;            /* claim on a block device until the kernel's own; -1 */
	int loop_fd;            /* keeps an autoclear loop device until it is mounted; -1 */
	struct bd *bd;          /* open device; whoever takes it sets this to NULL */
};
int fz_source_open(struct fz_source *s, const char *path, const struct fz_options *o,
		   struct fz_failure *f);
/* Find a free loop device for the image; on failure s->fuseblk is false and plain FUSE it is. */
void fz_source_attach_loop(struct fz_source *s, bool readonly);
/* Right before mount(2), which wants the claim for itself. */
void fz_source_release_claim(struct fz_source *s);
void fz_source_close(struct fz_source *s);
/* Wait until no daemon holds the source; -ETIMEDOUT. */
int fz_source_wait(const char *path, unsigned timeout_ms);

/* ---- Taking the mount down (detacher.c) ------------------------------------------------------ */

/* A process that keeps the rights to do so when the daemon has none any more. */
struct fz_detacher {
	int fd;      /* -1: none */
};
/* Before the first thread and the first file. background: it shares no terminal. */
int fz_detacher_start(struct fz_detacher *d, const char *target, bool background);
/* Detach the target now, as fz_target_detach. */
int fz_detacher_ask(struct fz_detacher *d);
void fz_detacher_end(struct fz_detacher *d);

/* ---- The daemon (daemon.c) ------------------------------------------------------------------ */

struct fz_mount_request {
	char source[PATH_MAX];
	char target[PATH_MAX];
	struct fz_options opts;
};
/* Mount and serve; with foreground until unmounted, else the parent returns once it serves. */
int fz_daemon_start(const struct fz_mount_request *r);

/* ---- Other commands ---------------------------------------------------------------------------- */

int fz_remount(const char *target, const char *option_list, const struct fz_options *o,
	       struct fz_failure *f);
int fz_umount_main(int argc, char **argv);

#endif

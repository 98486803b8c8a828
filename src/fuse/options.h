/* SPDX-License-Identifier: MIT */
/* Mount options: all parsing is ours, because mount(8), fstab and libfuse each know other words. */
#ifndef FUSE_OPTIONS_H
#define FUSE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iomapfs/fs.h"

enum fz_kernel_cache { FZ_CACHE_THROUGH, FZ_CACHE_WRITEBACK, FZ_CACHE_NONE };
/* DEFAULT: as far as this machine allows; ON: or no mount; LOG: refused calls fail instead of killing. */
enum fz_sandbox { FZ_SANDBOX_DEFAULT, FZ_SANDBOX_ON, FZ_SANDBOX_LOG, FZ_SANDBOX_OFF };
/* AUTO: uring where this machine has it. */
enum fz_transport { FZ_TRANSPORT_AUTO, FZ_TRANSPORT_LOOP, FZ_TRANSPORT_URING };
enum fz_tristate { FZ_DEFAULT, FZ_OFF, FZ_ON };

struct fz_options {
	struct fs_mount_opts fs;
	enum fz_kernel_cache cache;
	enum fz_tristate suid, dev;    /* FZ_DEFAULT: on for root, off for others */
	enum fz_tristate exec;         /* FZ_DEFAULT: on */
	enum fz_sandbox sandbox;
	enum fz_transport transport;
	unsigned queue_depth;          /* slots of each uring queue; 0: by memory= */
	bool sync, dirsync;
	bool allow_other;              /* implied for root */
	bool remount;
	bool foreground, debug;        /* command line, not -o */
	bool ro_given;                 /* ro or rw was said, which remount must know */
	bool atime_given, commit_given, discard_given, errors_given;
};

void fz_options_init(struct fz_options *o);
/*
 * Apply one comma-separated list on top of *o. 0, or -EINVAL with the reason in err:
 * it names the option. *o may be changed partly on error.
 */
int fz_options_parse(struct fz_options *o, const char *list, char *err, size_t err_size);
/* 64K, 512M, 2G ... in bytes; a bare number is bytes. -EINVAL, -ERANGE. */
int fz_parse_size(const char *text, uint64_t *out);

#endif

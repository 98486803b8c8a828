/* SPDX-License-Identifier: MIT */
/* What the daemon gives up once its mount serves (docs/SECURITY.md). */
#ifndef FUSE_SANDBOX_H
#define FUSE_SANDBOX_H

#include "options.h"

/*
 * All capabilities of all threads, the right to gain any, and every system call that serving
 * does not need. From here on the process can open nothing and run nothing.
 *
 * 0, or -errno with the step that failed in *what: by default (FZ_SANDBOX_DEFAULT) the caller
 * warns and goes on with what was reached, else the mount is refused.
 */
int fz_sandbox_enter(enum fz_sandbox mode, const char **what);
/* Was this build given a system call filter? */
bool fz_sandbox_has_filter(void);

#endif

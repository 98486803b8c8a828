/* SPDX-License-Identifier: MIT */
/* iomapctl: one function a subcommand. argv[0] is the subcommand's name; returns an exit code. */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CTL_OK     0
#define CTL_FAIL   1
#define CTL_USAGE  2

struct ctl_opts {
	bool json;
	bool udev;
	bool sync, xattr;
	bool mmp;               /* --mmp was given */
	bool reflink;
	uint64_t mmp_interval_s;
	unsigned timeout_s;
	const char *label, *uuid, *output;
	uint64_t offset, length, minimum;
	uint64_t src_offset, dst_offset;
	bool force, keep_crc, atomic, dontcache;
	char **args;            /* what follows the path */
	unsigned nr_args;
};

int ctl_fiemap(const struct ctl_opts *o, const char *path);
int ctl_swapmap(const struct ctl_opts *o, const char *path);
int ctl_info(const struct ctl_opts *o, const char *path);
int ctl_stats(const struct ctl_opts *o, const char *path);
int ctl_trim(const struct ctl_opts *o, const char *path);
int ctl_tune(const struct ctl_opts *o, const char *path);
/* tune --reflink: of a file system that is not mounted. */
int ctl_add_reflink(const struct ctl_opts *o, const char *source);
int ctl_shutdown(const struct ctl_opts *o, const char *path);
int ctl_probe(const struct ctl_opts *o, const char *path);
int ctl_metadump(const struct ctl_opts *o, const char *path);
int ctl_debug(const struct ctl_opts *o, const char *path);
/* The command and its arguments, NULL-terminated. Returns only when it could not be run. */
int ctl_exec(char **argv);
int ctl_clone(const struct ctl_opts *o, const char *path);
int ctl_dedupe(const struct ctl_opts *o, const char *path);
int ctl_collapse(const struct ctl_opts *o, const char *path);
int ctl_insert(const struct ctl_opts *o, const char *path);
int ctl_unshare(const struct ctl_opts *o, const char *path);
int ctl_write(const struct ctl_opts *o, const char *path);
int ctl_wait(const struct ctl_opts *o, const char *path);

/* Print `what: reason` and return CTL_FAIL. */
int ctl_fail(const char *what, int error);
/* Dump and free. */
int ctl_print_json(json_t *root);

#endif

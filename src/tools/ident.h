/* SPDX-License-Identifier: MIT */
/* ident - what is on a device: libblkid's knowledge and our own. */
#ifndef TOOLS_IDENT_H
#define TOOLS_IDENT_H

#include <stdbool.h>
#include <stddef.h>

#include "iomapfs/format.h"

enum ident_ours {
	IDENT_NONE,    /* no superblock of ours at the start */
	IDENT_DAMAGED, /* our magic, but it fails a check */
	IDENT_SOUND,
};
/*
 * Look for our superblock at the start of path. *sb is filled when SOUND; *why names the
 * failed test when DAMAGED. Negative errno when the device cannot be read.
 */
int ident_iomapfs(const char *path, struct sb_info *sb, const char **why);
/*
 * Say in words what is on path ("an ext4 file system with label 'x'"). 1 = something was
 * found, 0 = nothing known, negative errno: it could not be read.
 */
int ident_describe(const char *path, char *text, size_t size);

#endif

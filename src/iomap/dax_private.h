/* SPDX-License-Identifier: MIT */
/* What dax.c, dax_fault.c and dax_guard.c share. */
#ifndef DAX_PRIVATE_H
#define DAX_PRIVATE_H

#include "iomap_private.h"
#include "iomapfs/dax.h"

/*
 * Run fn, which touches len bytes of a device at a, and at b if that is not NULL: -EIO when either raised
 * SIGBUS, fn cut off midway.
 */
int dax_guarded(const void *a, const void *b, size_t len, void (*fn)(void *arg), void *arg);
/* Copy n bytes, or zero them with src NULL. -EIO: one of the two is gone. */
int dax_copy_mem(void *dst, const void *src, size_t n);
/* Whole pages from the source of a shared mapping to where they are going to be, durably. */
int dax_copy_whole(const struct iomap_iter *iter, uint64_t pos, uint64_t len);

/* The areas of an inode go with it. */
void dax_mapping_destroy(struct inode *inode);

#endif

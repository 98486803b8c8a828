/* SPDX-License-Identifier: MIT */
/* Shared by the files of buffer/. */
#ifndef IOMAPFS_BUFFER_PRIVATE_H
#define IOMAPFS_BUFFER_PRIVATE_H

#include "iomapfs/util.h"

/* Pages of OD_MBLK_SIZE cut from large anonymous mappings (pages.c). */
struct buf_pages {
	pthread_mutex_t lock;  /* a leaf: nothing is taken below it */
	void **free;           /* stack of free pages; cap entries allocated */
	size_t nr_free, cap;
	size_t nr_backed;      /* free pages whose memory may still be present */
	void **chunks;         /* every mapping, for the end */
	size_t nr_chunks;
};
void buf_pages_init(struct buf_pages *pp);
/* All pages must have come back. */
void buf_pages_destroy(struct buf_pages *pp);
void *buf_pages_get(struct buf_pages *pp);
void buf_pages_put(struct buf_pages *pp, void *page);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A window: an area of this process that shows a range of a file, as mmap of a DAX file does. Pages that are
 * touched raise SIGSEGV, and the handler asks the engine (struct dax_vma of dax.h).
 */
#ifndef IOMAPFS_TEST_DAX_WINDOW_H
#define IOMAPFS_TEST_DAX_WINDOW_H

#include "iomapfs/dax.h"

enum { WIN_NONE, WIN_READ, WIN_WRITE, WIN_OWN };

struct dax_window {
	struct dax_vma vma;
	char *mem;               /* vma.nr_pages pages, 2 MiB aligned */
	uint8_t *state;          /* WIN_*, one a page */
	uint64_t *addr;          /* where on the device, while READ or WRITE */
	int dev_fd;              /* the device's memory */
	/* dax_iomap_fault and what goes with it, by the file system. */
	unsigned (*fault)(void *arg, struct vm_fault *vmf, unsigned order);
	void *arg;
	bool try_huge;
	unsigned nr_faults, nr_huge, nr_zero;
	struct dax_window *next;
};

/* pgoff and nr_pages of the file; flags: DAX_VM_*. Aborts on failure. Not yet dax_vma_open. */
void dax_window_init(struct dax_window *w, struct inode *inode, uint64_t pgoff, uint64_t nr_pages,
		     unsigned flags, int dev_fd);
/* After dax_vma_close. */
void dax_window_destroy(struct dax_window *w);
/* Touch byte `at` of the window; false: SIGBUS. */
bool dax_window_load(struct dax_window *w, uint64_t at, uint8_t *byte);
bool dax_window_store(struct dax_window *w, uint64_t at, uint8_t byte);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * dax - files on a device that is memory: bytes are copied from and to the device itself, and a program
 * can have the device's own pages in its address space. No folio cache, no writeback, no ioends.
 *
 * A file system that uses these for a file uses none of the cached or direct operations of iomap.h for
 * it. Its begin gets IOMAP_DAX and fills iomap.dax_dev (of srcmap as well). For a write it hands out
 * IOMAP_MAPPED only, blocks that are zeroed, durably so, and written in its own map: there is no
 * completion that could convert them. Where content is shared: IOMAP_F_SHARED with a srcmap; its end
 * puts the new blocks into the map for what was written, and takes back the rest.
 *
 * Positions, lengths and device addresses are bytes. Errors are negative errno. A store is durable only
 * once it was flushed; all operations here flush what they store before they return.
 */
#ifndef IOMAPFS_DAX_H
#define IOMAPFS_DAX_H

#include "iomapfs/iomap.h"

/* Exported by libiomap: see base.h. */
#pragma GCC visibility push(default)

/* ---- The device ------------------------------------------------------------------ */

struct iomap_dax_ops {
	/* What was stored to [addr, addr + len) is durable on return. May sleep. 0 or -errno. */
	int (*persist)(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len);
};

/* Filled by the file system, then dax_dev_init. */
struct iomap_dax_dev {
	const struct iomap_dax_ops *ops;
	char *base;             /* byte 0 of the device; FOLIO_PAGE_SIZE aligned */
	uint64_t size;          /* bytes */
	int fd;                 /* byte n of this file is byte n of the device, to map it again; -1: none */
	void *private;          /* the file system's */
	/* internal */
	pthread_rwlock_t users; /* shared: the memory is being used */
	bool dead;              /* users */
};
int dax_dev_init(struct iomap_dax_dev *dev);
/* Waits for who is at it; from then on every access is -EIO. For a device that goes away. */
void kill_dax(struct iomap_dax_dev *dev);
void dax_dev_destroy(struct iomap_dax_dev *dev);

/* Around each use of the memory: false, nothing held: the device is gone. May sleep. */
bool dax_read_lock(struct iomap_dax_dev *dev);
void dax_read_unlock(struct iomap_dax_dev *dev);
/* Where [addr, addr + len) is: *mem, with the lock above. -EIO: not all of it is on the device. */
int dax_direct_access(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len, void **mem);
/* Make stores durable; the lock above. */
int dax_flush(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len);
/* Zero [addr, addr + len), durably; takes the lock. For blocks that no file shows yet. */
int dax_zero_page_range(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len);

/*
 * Pages of such memory can be lost: a bad module, a file cut short under the mapping, a tmpfs that is
 * full when a hole of it is touched. The kernel says so by SIGBUS. Once a program called this, that ends
 * the operation with -EIO instead of the program; signals from elsewhere go to the handler that
 * was there before. Once a process, before there are threads that could use a device.
 */
int dax_catch_sigbus(void);

/* ---- Files ------------------------------------------------------------------------ */

/*
 * Read (i_rwsem shared) or write (IOCB_WRITE; exclusive) at iocb->ki_pos, which moves. Bytes, or the
 * error if there are none: -EIO for IOCB_ATOMIC, for a mapping that is neither written nor shared, for
 * memory that is gone; -EFAULT when nothing could be copied; -EAGAIN with IOCB_NOWAIT. A read ends at
 * i_size. After a write that grew the file the caller raises i_size: durable are the bytes, not the size.
 */
int64_t dax_iomap_rw(struct kiocb *iocb, struct iov_iter *iter, const struct iomap_ops *ops);
/*
 * As iomap_zero_range, iomap_truncate_page and iomap_file_unshare (begin: DAX|ZERO and DAX|WRITE|UNSHARE);
 * i_rwsem and invalidate_lock exclusive. Unsharing copies whole pages.
 */
int dax_zero_range(struct inode *inode, uint64_t pos, uint64_t len, bool *did_zero,
		   const struct iomap_ops *ops);
int dax_truncate_page(struct inode *inode, uint64_t pos, bool *did_zero, const struct iomap_ops *ops);
int dax_file_unshare(struct inode *inode, uint64_t pos, uint64_t len, const struct iomap_ops *ops);
/*
 * As iomap_remap_compare, from memory: what both have no data for is equal, and where only one has
 * none the two differ, zeros or not. [dax_dedupe_file_range_compare]
 */
int dax_remap_compare(struct inode *a, uint64_t pos_a, struct inode *b, uint64_t pos_b, uint64_t len,
		      const struct iomap_ops *ops, bool *same);

/* ---- Areas that show a file's memory -------------------------------------------------- */
/*
 * What mmap is in the kernel. Who has an address space to offer makes a struct dax_vma of a part of it,
 * calls dax_iomap_fault when a page is touched that is not there, or stored to that is read-only, and carries
 * out what the engine asks by struct dax_vma_ops. Which page of a file is shown where, and which were
 * stored to, is kept with the inode.
 *
 *	fault                                       truncate, punch, clone
 *	invalidate_lock shared (fs)                 invalidate_lock exclusive
 *	LK_DAX of the file: begin, insert, end      dax_delete_mapping_range: no page of it is shown
 *	                                            blocks are freed or shared
 *
 * Pages are FOLIO_PAGE_SIZE; so must be the file's blocks, where stores are to be made durable.
 */

struct dax_vma;
struct dax_vma_ops {
	/*
	 * Show device bytes from addr on in the nr pages of the file from pgoff on (IOMAP_NULL_ADDR: zeros),
	 * instead of what they show, all of them inside the area. 0 or -errno. LK_DAX is held.
	 */
	int (*insert)(struct dax_vma *vma, uint64_t pgoff, uint64_t nr, uint64_t addr, bool writable);
	/* The next touch faults. LK_DAX. */
	void (*zap)(struct dax_vma *vma, uint64_t pgoff, uint64_t nr);
	/* The next store faults. LK_DAX. */
	void (*mkclean)(struct dax_vma *vma, uint64_t pgoff, uint64_t nr);
};
#define DAX_VM_SHARED (1u << 0) /* stores are the file's; else they are the area's own: cow_page */
#define DAX_VM_SYNC   (1u << 1) /* MAP_SYNC: what stores need to be found again is durable before them */
struct dax_vma {
	struct inode *inode;
	uint64_t pgoff, nr_pages; /* of the file */
	uint64_t start;           /* address of the first page: decides about huge pages; else unused */
	unsigned flags;
	const struct dax_vma_ops *ops;
	void *private;
	struct cds_list_head list; /* internal */
};
/*
 * Known to the inode from here until close, which zaps what is shown. -ENOMEM. Takes LK_DAX. The last close
 * of a file also makes durable what was stored; what fails of that is left to fsync, while the inode lives.
 */
int dax_vma_open(struct dax_vma *vma);
void dax_vma_close(struct dax_vma *vma);

#define FAULT_FLAG_WRITE (1u << 0)
struct vm_fault {
	struct dax_vma *vma;
	uint64_t pgoff;     /* of the file; inside the area */
	unsigned flags;
	void *cow_page;     /* private area, FAULT_FLAG_WRITE: gets the page's contents */
};
/* Results, of which one is set. */
#define VM_FAULT_OOM       0x0001u
#define VM_FAULT_SIGBUS    0x0002u /* beyond end of file, or *errp */
#define VM_FAULT_NOPAGE    0x0100u /* done: the area shows it */
#define VM_FAULT_FALLBACK  0x0800u /* not as one huge page: try order 0 */
#define VM_FAULT_DONE_COW  0x1000u /* cow_page is filled; nothing was inserted */
#define VM_FAULT_NEEDDSYNC 0x2000u /* *addrp; dax_finish_sync_fault is next, with the same locks held */

#define DAX_PMD_ORDER 9u /* 2 MiB */
/*
 * Show 2^order pages (order 0 or DAX_PMD_ORDER), those of the huge page around pgoff in the second case.
 * begin gets DAX|FAULT, and WRITE for a store to the file. A read of a hole or unwritten block shows zeros
 * and allocates nothing. invalidate_lock shared, or exclusive where begin needs that; takes LK_DAX and
 * holds it over begin and end. *errp: the error behind SIGBUS and OOM, may be NULL.
 */
unsigned dax_iomap_fault(struct vm_fault *vmf, unsigned order, uint64_t *addrp, int *errp,
			 const struct iomap_ops *ops);
/* After NEEDDSYNC: i_hooks->fsync of the range, then the page may be stored to. */
unsigned dax_finish_sync_fault(struct vm_fault *vmf, unsigned order, uint64_t addr);

/*
 * What was stored through areas to [start, end] is durable on return; the next store faults again.
 * -EIO where blocks are not pages. Takes LK_DAX.
 */
int dax_writeback_mapping_range(struct inode *inode, struct iomap_dax_dev *dev, uint64_t start,
				uint64_t end);
/*
 * No area shows anything of [start, end] any more, nor is it flushed; stores to what else is in its first and
 * last page are made durable, or stay to be. Takes LK_DAX.
 */
void dax_delete_mapping_range(struct inode *inode, uint64_t start, uint64_t end);

#pragma GCC visibility pop

#endif

/* SPDX-License-Identifier: MIT */
/* Shared by the backends and decorators of src/block. */
#ifndef BD_PRIVATE_H
#define BD_PRIVATE_H

#include "iomapfs/block.h"

/* Set the result and call end_io. */
void bd_io_end(struct bd_io *io, int error);

/* bd_host.c: what a host file or block device is and can do. */
struct bd_host {
	int fd;
	bool is_blockdev;
	_Atomic bool no_zero_range, no_punch; /* learned from -EOPNOTSUPP */
};
/* Open, lock, probe. host->fd is open on success. */
int bd_host_open(const char *path, unsigned flags, struct bd_host *host, struct bd_info *info);
/* Gives the image lock back at once, also where somebody else still refers to the open file. */
void bd_host_close(struct bd_host *host);
/* One request on the calling thread. */
int bd_host_sync(struct bd_host *host, struct bd_io *io);
/* RWF_* of a write. */
int bd_host_rw_flags(const struct bd_io *io);
#define BD_RWF_ATOMIC 0x40 /* RWF_ATOMIC, which older headers lack; only where info.atomic_max says so */

/* bd_poll.c: a polled ring on a host file. */
struct bd_poll;
/* One request ended with res, as a completion of io_uring says it; on the polling thread. */
typedef void (*bd_poll_done_t)(void *arg, struct bd_io *io, int res);
int bd_poll_create(int fd, bd_poll_done_t done, void *arg, struct bd_poll **out);
/* A READ or WRITE, to be looked for. False: not taken, full or known not to work here. */
bool bd_poll_submit(struct bd_poll *p, struct bd_io *io);
/* Nothing in flight any more. NULL is allowed. */
void bd_poll_destroy(struct bd_poll *p);

/* bd_dax.c: a host file that is memory, mapped. */
struct bd_dax_file {
	void *base;  /* NULL: not mapped */
	uint64_t size;
	void (*persist)(const void *mem, size_t len); /* by cache line; NULL: msync */
	void *pmem;  /* bd_pmem.c's, with persist */
};
/* Is the file's contents memory, without a page cache between? */
bool bd_dax_file_ok(int fd);
int bd_dax_file_map(int fd, uint64_t size, bool readonly, struct bd_dax_file *f);
int bd_dax_file_persist(struct bd_dax_file *f, uint64_t offset, uint64_t len);
void bd_dax_file_unmap(struct bd_dax_file *f);

/* bd_pmem.c, once it is enabled; NULL before, and in programs without it. */
struct bd_pmem_ops {
	/* Fills base, persist and pmem. -EOPNOTSUPP: no memory that is flushed by line. */
	int (*map)(int fd, uint64_t size, bool readonly, struct bd_dax_file *f);
	void (*unmap)(struct bd_dax_file *f);
};
extern const struct bd_pmem_ops *bd_pmem;

/* Copy [io->offset, +len) between an io's vectors and memory. */
void bd_iov_to_mem(const struct bd_io *io, void *mem);
void bd_mem_to_iov(const struct bd_io *io, const void *mem);

#endif

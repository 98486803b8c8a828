/* SPDX-License-Identifier: MIT */
/*
 * Host files whose contents are memory. msync makes stores durable whatever the memory is, by the page,
 * and for tmpfs has nothing to do; where bd_pmem.c is enabled, persistent memory is flushed by the line.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "bd_private.h"
#include "iomapfs/util.h"

#define HOST_PAGE 4096ull

const struct bd_pmem_ops *bd_pmem;

bool bd_dax_file_ok(int fd)
{
	struct statfs sfs;
	struct statx stx;

	if (!fstatfs(fd, &sfs) && (sfs.f_type == TMPFS_MAGIC || sfs.f_type == RAMFS_MAGIC))
		return true;
	return !statx(fd, "", AT_EMPTY_PATH, 0, &stx) && (stx.stx_attributes & STATX_ATTR_DAX);
}

int bd_dax_file_map(int fd, uint64_t size, bool readonly, struct bd_dax_file *f)
{
	void *base;

	*f = (struct bd_dax_file){ .size = size };
	if (bd_pmem && !bd_pmem->map(fd, size, readonly, f))
		return 0;
	base = mmap(NULL, size, PROT_READ | (readonly ? 0 : PROT_WRITE), MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	f->base = base;
	return 0;
}

int bd_dax_file_persist(struct bd_dax_file *f, uint64_t offset, uint64_t len)
{
	const uint64_t start = ROUND_DOWN(offset, HOST_PAGE);

	assert(f->base);
	if (!f->persist)
		return msync((char *)f->base + start, offset + len - start, MS_SYNC) ? -errno : 0;
	f->persist((char *)f->base + offset, len);
	return 0;
}

void bd_dax_file_unmap(struct bd_dax_file *f)
{
	if (f->pmem)
		bd_pmem->unmap(f);
	else if (f->base)
		munmap(f->base, f->size);
	*f = (struct bd_dax_file){ 0 };
}

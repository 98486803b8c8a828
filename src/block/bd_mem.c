/* SPDX-License-Identifier: MIT */
/* A device in memory: sparse, zeroed, complete inside submit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bd_private.h"
#include "iomapfs/util.h"

struct bd_mem {
	struct bd bd;
	char *base;
	int fd; /* -1 until it is mapped for others */
};

static struct bd_mem *to_mem(struct bd *bd)
{
	return container_of(bd, struct bd_mem, bd);
}

void bd_iov_to_mem(const struct bd_io *io, void *mem)
{
	char *p = mem;

	for (unsigned i = 0; i < io->nr_iov; i++) {
		data_copy(p, io->iov[i].iov_base, io->iov[i].iov_len);
		p += io->iov[i].iov_len;
	}
}

void bd_mem_to_iov(const struct bd_io *io, const void *mem)
{
	const char *p = mem;

	for (unsigned i = 0; i < io->nr_iov; i++) {
		data_copy(io->iov[i].iov_base, p, io->iov[i].iov_len);
		p += io->iov[i].iov_len;
	}
}

static int mem_sync(struct bd *bd, struct bd_io *io)
{
	char *p = to_mem(bd)->base + io->offset;

	switch (io->op) {
	case BD_READ:
		bd_mem_to_iov(io, p);
		break;
	case BD_WRITE:
		bd_iov_to_mem(io, p);
		break;
	case BD_FLUSH:
		break;
	case BD_DISCARD:
	case BD_WRITE_ZEROES:
		data_zero(p, io->len);
		break;
	}
	return 0;
}

static void mem_submit(struct bd *bd, struct bd_io *io)
{
	bd_io_end(io, mem_sync(bd, io));
}

static void mem_destroy(struct bd *bd)
{
	struct bd_mem *m = to_mem(bd);

	munmap(m->base, bd->info.size);
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

/* What is there, but for pages that are zero. */
static int copy_pages(struct bd_mem *m, int fd)
{
	static const char zeros[4096];
	const uint64_t size = m->bd.info.size;

	if (ftruncate(fd, (off_t)size))
		return -errno;
	for (uint64_t at = 0; at < size; at += sizeof(zeros)) {
		const size_t n = MIN(sizeof(zeros), size - at);

		if (memcmp(m->base + at, zeros, n) && pwrite(fd, m->base + at, n, (off_t)at) != (ssize_t)n)
			return -EIO;
	}
	return 0;
}

/* From here on it is a file, at the same address. Nothing may be in flight. */
static int mem_dax_map(struct bd *bd, struct bd_dax *out)
{
	struct bd_mem *m = to_mem(bd);
	int err = 0, fd;

	if (m->fd < 0) {
		fd = memfd_create("iomapfs-mem", MFD_CLOEXEC);
		err = fd < 0 ? -errno : copy_pages(m, fd);
		if (!err && mmap(m->base, bd->info.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
				 0) == MAP_FAILED)
			err = -errno;
		if (err && fd >= 0)
			close(fd);
		if (err)
			return err;
		m->fd = fd;
	}
	*out = (struct bd_dax){ .base = m->base, .fd = m->fd };
	return 0;
}

static int mem_dax_persist(struct bd *bd, uint64_t offset, uint64_t len)
{
	return 0;
}

static const struct bd_ops mem_ops = {
	.name = "mem",
	.submit = mem_submit,
	.sync = mem_sync,
	.dax_map = mem_dax_map,
	.dax_persist = mem_dax_persist,
	.destroy = mem_destroy,
};

int bd_mem_create(uint64_t size, uint32_t logical_block, struct bd **out)
{
	struct bd_mem *m;

	if (!is_pow2(logical_block) || logical_block < 512 || logical_block > 4096 || !size ||
	    !IS_ALIGNED(size, (uint64_t)logical_block))
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->base = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	m->fd = -1;
	m->bd.name = strdup("memory");
	if (m->base == MAP_FAILED || !m->bd.name) {
		if (m->base != MAP_FAILED)
			munmap(m->base, size);
		free(m->bd.name);
		free(m);
		return -ENOMEM;
	}
	m->bd.ops = &mem_ops;
	m->bd.info = (struct bd_info){
		.size = size,
		.logical_block = logical_block,
		.physical_block = 4096,
		.mem_align = 1,
		.max_io = 4u << 20,
		.max_segments = 1024,
		.discard_granularity = 4096,
		.volatile_cache = true,
		.fua = true,
		.direct = true,
	};
	*out = &m->bd;
	return 0;
}

void *bd_mem_base(struct bd *bd)
{
	return to_mem(bd)->base;
}

void bd_mem_set_atomic_max(struct bd *bd, uint32_t max)
{
	assert(bd->ops == &mem_ops);
	assert(max == 0 || (is_pow2(max) && max >= bd->info.logical_block && max <= bd->info.max_io));
	bd->info.atomic_min = max ? bd->info.logical_block : 0;
	bd->info.atomic_max = max;
}

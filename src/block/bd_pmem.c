/* SPDX-License-Identifier: MIT */
/*
 * libpmem2 behind bd_dax.c. Loaded when it is asked for, not linked: it brings a dozen libraries with it
 * (ndctl, kmod, udev, crypto), and one mount in thousands is on persistent memory.
 */
#include <dlfcn.h>
#include <errno.h>

#include "bd_private.h"
#include "iomapfs/pmem.h"

#ifdef HAVE_PMEM2
#include <libpmem2.h>

/* Each by its type in libpmem2.h, so that a change of that is a compiler's error. */
#define PMEM2_FUNCTIONS(X)                                                                     \
	X(pmem2_config_new) X(pmem2_config_delete) X(pmem2_config_set_length)                  \
	X(pmem2_config_set_protection) X(pmem2_config_set_required_store_granularity)          \
	X(pmem2_source_from_fd) X(pmem2_source_delete) X(pmem2_map_new) X(pmem2_map_delete)    \
	X(pmem2_map_get_address) X(pmem2_get_persist_fn)

static struct {
#define MEMBER(name) __typeof__(name) *name;
	PMEM2_FUNCTIONS(MEMBER)
#undef MEMBER
} lib;

static int map_file(int fd, uint64_t size, bool readonly, struct pmem2_map **map)
{
	struct pmem2_config *cfg = NULL;
	struct pmem2_source *src = NULL;
	int err;

	err = lib.pmem2_config_new(&cfg);
	if (!err)
		err = lib.pmem2_source_from_fd(&src, fd);
	if (!err)
		err = lib.pmem2_config_set_required_store_granularity(cfg, PMEM2_GRANULARITY_CACHE_LINE);
	if (!err)
		err = lib.pmem2_config_set_length(cfg, size);
	if (!err && readonly)
		err = lib.pmem2_config_set_protection(cfg, PMEM2_PROT_READ);
	/* Refused where lines are not what is durable: page caches, tmpfs. */
	if (!err)
		err = lib.pmem2_map_new(map, cfg, src);
	lib.pmem2_source_delete(&src);
	lib.pmem2_config_delete(&cfg);
	return err;
}

static int pmem_map(int fd, uint64_t size, bool readonly, struct bd_dax_file *f)
{
	struct pmem2_map *map = NULL;

	if (map_file(fd, size, readonly, &map))
		return -EOPNOTSUPP;
	f->base = lib.pmem2_map_get_address(map);
	f->persist = lib.pmem2_get_persist_fn(map);
	f->pmem = map;
	return 0;
}

static void pmem_unmap(struct bd_dax_file *f)
{
	struct pmem2_map *map = f->pmem;

	lib.pmem2_map_delete(&map);
}

static const struct bd_pmem_ops pmem_ops = {
	.map = pmem_map,
	.unmap = pmem_unmap,
};

int bd_pmem_enable(void)
{
	void *so = dlopen("libpmem2.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!so)
		return -EOPNOTSUPP;
#define LOAD(name)                            \
	lib.name = (__typeof__(lib.name))(uintptr_t)dlsym(so, #name); \
	if (!lib.name)                        \
		goto out_close;
	PMEM2_FUNCTIONS(LOAD)
#undef LOAD
	bd_pmem = &pmem_ops; /* loaded for good */
	return 0;

out_close:
	dlclose(so);
	return -EOPNOTSUPP;
}

#else

int bd_pmem_enable(void)
{
	return -EOPNOTSUPP;
}

#endif

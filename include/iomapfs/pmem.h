/* SPDX-License-Identifier: MIT */
/* Flushing persistent memory as this machine's caches want it. Not part of libiomap: it needs libpmem2. */
#ifndef IOMAPFS_PMEM_H
#define IOMAPFS_PMEM_H

/*
 * From here on bd_dax_map maps memory that can be flushed by cache line through libpmem2, which is loaded
 * now; all else goes by msync as before. For a program to call before there are threads or a sandbox.
 * -EOPNOTSUPP: built without, or the library is not installed; nothing is lost but speed.
 */
int bd_pmem_enable(void);

#endif

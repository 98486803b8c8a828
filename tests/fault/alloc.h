/* SPDX-License-Identifier: MIT */
/* Allocations that fail, by their number: the linker sends all of the program's own through here. */
#ifndef FAULT_ALLOC_H
#define FAULT_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

/* From now on `after` allocations go well and `count` fail; UINT64_MAX, 0: none. Counts anew. */
void alloc_fail(uint64_t after, uint64_t count);
/* Has one failed since? */
bool alloc_failed(void);

#endif

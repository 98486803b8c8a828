/* SPDX-License-Identifier: MIT */
/* Stand-ins for three calls of journal.h. */
#ifndef TOOLS_MK_JNL_H
#define TOOLS_MK_JNL_H

#include "iomapfs/format.h"

uint64_t mk_jnl_min_mblks(void);
uint64_t mk_jnl_default_mblks(uint64_t dev_bytes);
void mk_jnl_format_sb(const struct od_ctx *ctx, void *block);

#endif

/* SPDX-License-Identifier: MIT */
/* Cache of verified metadata blocks. */
#include "iomapfs/buffer.h"

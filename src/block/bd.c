/* SPDX-License-Identifier: MIT */
/* Requests: checks, synchronous forms. */
#include "iomapfs/block.h"

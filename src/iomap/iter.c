/* SPDX-License-Identifier: MIT */
/* The iterator that owns every loop. */
#include "iomapfs/iomap.h"

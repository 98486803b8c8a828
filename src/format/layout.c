/* SPDX-License-Identifier: MIT */
/* Sizes and offsets of the format, asserted at compile time. */
#include "iomapfs/format.h"

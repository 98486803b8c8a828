/* SPDX-License-Identifier: MIT */
/* The checker's passes. */
#include "iomapfs/check.h"

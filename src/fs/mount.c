/* SPDX-License-Identifier: MIT */
/* Mount and unmount. */
#include "iomapfs/fs.h"

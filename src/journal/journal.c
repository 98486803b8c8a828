/* SPDX-License-Identifier: MIT */
/* Transactions. */
#include "iomapfs/journal.h"

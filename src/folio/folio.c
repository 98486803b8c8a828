/* SPDX-License-Identifier: MIT */
/* Folios: flags, locks, references. */
#include "iomapfs/folio.h"

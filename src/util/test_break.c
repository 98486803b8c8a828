/* SPDX-License-Identifier: MIT */
/* Which part is broken on purpose; only in builds with -Dtest_switches=true. */
#include <stdlib.h>
#include <string.h>

#include "iomapfs/util.h"

#ifdef IOMAPFS_TEST_SWITCHES
bool test_break(const char *name)
{
	const char *broken = getenv("IOMAPFS_BREAK");

	return broken && strcmp(broken, name) == 0;
}
#endif

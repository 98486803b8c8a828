/* SPDX-License-Identifier: MIT */
/* What every Check program shares: the main function over one suite, and the seed. */
#ifndef IOMAPFS_TEST_UNIT_H
#define IOMAPFS_TEST_UNIT_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "iomapfs/util.h"

/* Who wants silence sets another sink. */
__attribute__((constructor)) static inline void unit_log(void)
{
	log_set_sink(log_stderr, NULL);
}

/* Run a suite; the exit code of the program. */
static inline int unit_run(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Printed, so that a failure can be run again; IOMAPFS_SEED replaces it. */
static inline uint64_t unit_seed(uint64_t dflt)
{
	const char *env = getenv("IOMAPFS_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : dflt;

	printf("seed %llu\n", (unsigned long long)seed);
	return seed;
}

#endif

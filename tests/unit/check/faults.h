/* SPDX-License-Identifier: MIT */
/*
 * Single faults of an image, one for each problem at least. Checksums are sound unless the
 * checksum is the point: what is wrong is the contradiction.
 */
#ifndef TEST_CHECK_FAULTS_H
#define TEST_CHECK_FAULTS_H

#include "image.h"

struct fault {
	void (*make)(struct image *im);
	const char *code;      /* the problem that the checker must name */
};
extern const struct fault image_faults[];
extern const unsigned image_nr_faults;
/* What is told and no error. */
extern const struct fault image_notes[];
extern const unsigned image_nr_notes;

#endif

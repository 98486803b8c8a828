/* SPDX-License-Identifier: MIT */
/* Files that share ranges at random, made through the file system, and what is in each of them. */
#ifndef TEST_CHECK_GRAPH_H
#define TEST_CHECK_GRAPH_H

#include "../fs/filefs.h"

#define GRAPH_FILES 5u
#define GRAPH_BLOCKS 40u /* of a file at most */

struct graph_file {
	bool there;
	char name[4];
	uint64_t ino;
	uint8_t *bytes;     /* GRAPH_BLOCKS of them, zeros behind size */
	uint64_t size;
};
struct graph {
	struct filefs f;
	struct rng rng;
	unsigned shift;
	uint64_t bs;
	struct graph_file files[GRAPH_FILES];
};

/* By this seed: made, worked on, unmounted, found clean. At least one block has two owners. */
void graph_make(struct graph *g, uint64_t seed);
/* Mount, read every file but those in `except` (a bit each), and some more work; unmount, check. */
void graph_expect(struct graph *g, unsigned except, const char *when);
void graph_free(struct graph *g);

#endif

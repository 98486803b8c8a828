/* SPDX-License-Identifier: MIT */
/* A sequence of operations: run once on a recording disk, cut many times, judged each time. */
#ifndef CRASH_SEQ_H
#define CRASH_SEQ_H

#include "disk.h"
#include "ops.h"

struct step {
	const struct op *op;
	enum persist persist;
	/* filled in by the run */
	int err, persist_err;
	unsigned begin, end_op, end; /* events */
	unsigned touched;
	int subject, dir;            /* inodes; -1: none */
};

#define SEQ_MAX (M_STATES - 1)
struct seq {
	struct step step[SEQ_MAX];
	unsigned nr;
	uint64_t seed;
	struct model *states;        /* nr + 1 */
	unsigned unmounting, unmounted; /* events */
};

struct lab {
	uint8_t *base;               /* the device that each run starts from */
	uint64_t size;
	struct model start;
	struct disk *disk;
	struct image survivor;
	uint64_t cuts, unsafe;
	char why[256];
};

void lab_init(struct lab *l, uint64_t size);
void lab_fini(struct lab *l);
/* Run it; false: the file system and the model gave different answers. */
bool seq_run(struct lab *l, struct seq *s);
/* One cut; false: why in l->why. thorough: check before recovery too, and go on working. */
bool seq_cut(struct lab *l, const struct seq *s, unsigned at, enum cut_mode mode, uint64_t arg,
	     bool thorough);
/* What step i does to the model, from states[i] to states[i + 1]; 0 or -errno. */
int seq_model_step(struct seq *s, unsigned i);
/* "rename foo bar; fsync; ..." */
void seq_print(const struct seq *s, char *buf, size_t size);

#endif

/* SPDX-License-Identifier: MIT */
/* A run and the cut that showed a fault, in a file: the threads of a run are not repeatable, this is. */
#ifndef CRASH_RECORD_H
#define CRASH_RECORD_H

#include "seq.h"

struct cut_at {
	unsigned at;
	enum cut_mode mode;
	uint64_t arg;
	bool thorough;
};

bool record_save(const char *path, const struct lab *l, const struct seq *s, const struct cut_at *c);
/* Into a lab that lab_init has made: its base, its disk and s become those of the record. */
bool record_load(const char *path, struct lab *l, struct seq *s, struct cut_at *c);

#endif

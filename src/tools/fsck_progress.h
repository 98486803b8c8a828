/* SPDX-License-Identifier: MIT */
/* How far fsck is: -C FD, as e2fsck(8) and fsck(8) have it. */
#ifndef TOOLS_FSCK_PROGRESS_H
#define TOOLS_FSCK_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct fsck_progress {
	const char *path;
	int fd;             /* lines "PASS DONE TOTAL DEVICE" go there; 0: a bar on the terminal */
	unsigned pass, percent; /* told last */
	bool drawn;         /* a bar stands at the end of the output */
};

/*
 * fd: 0 or positive. Where a bar is drawn, *out becomes a stream that takes it away before each
 * write: fclose it at the end. -EBADF: nobody can write there.
 */
int fsck_progress_begin(struct fsck_progress *p, const char *path, int fd, FILE **out);
/* For chk_opts.progress. */
void fsck_progress_tell(void *arg, unsigned pass, uint64_t done, uint64_t total);
void fsck_progress_end(struct fsck_progress *p, FILE *out);

#endif

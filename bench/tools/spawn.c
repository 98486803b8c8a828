/* SPDX-License-Identifier: MIT */
/*
 * Run a command; its time, CPU time and peak memory go to a file as one line of JSON. A program of its own
 * because the peak of a command started from a large process counts that one's memory, until exec.
 */
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common.h"

extern char **environ;

static double seconds(struct timeval tv)
{
	return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	struct rusage ru;
	uint64_t begin;
	int status;
	FILE *out;
	pid_t pid;

	if (argc < 3)
		usage("spawn OUT COMMAND...");
	begin = now_ns();
	if (posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ) != 0)
		die(argv[2]);
	if (wait4(pid, &status, 0, &ru) != pid)
		die("wait4");
	out = fopen(argv[1], "w");
	if (!out)
		die(argv[1]);
	fprintf(out, "{\"seconds\": %.9f, \"user\": %.6f, \"system\": %.6f, \"peak_kib\": %ld}\n",
		(double)(now_ns() - begin) / 1e9, seconds(ru.ru_utime), seconds(ru.ru_stime), ru.ru_maxrss);
	if (fclose(out))
		die(argv[1]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EX_WRONG;
}

/* SPDX-License-Identifier: MIT */
/* Run a target over files, or folders of them, without libFuzzer: "program PATH...". */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_MAX (1u << 20)

static unsigned nr_inputs, nr_bad;

static void run_file(const char *path)
{
	static uint8_t buf[INPUT_MAX];
	FILE *f = fopen(path, "re");
	uint8_t *exact;
	size_t n;

	if (!f) {
		perror(path);
		nr_bad++;
		return;
	}
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	/* Of its exact size, so that a read behind its end is seen. */
	exact = malloc(n ? n : 1);
	if (!exact)
		abort();
	memcpy(exact, buf, n);
	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "%s\n", path);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	nr_inputs++;
}

static void run_path(const char *path)
{
	struct dirent **names;
	struct stat st;
	int n;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
		run_file(path);
		return;
	}
	n = scandir(path, &names, NULL, alphasort);
	if (n < 0) {
		perror(path);
		nr_bad++;
	}
	for (int i = 0; i < n; i++) {
		char file[PATH_MAX];

		if (names[i]->d_name[0] != '.' &&
		    snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name) < PATH_MAX)
			run_file(file);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		run_path(argv[i]);
	printf("%u inputs\n", nr_inputs);
	return nr_inputs == 0 || nr_bad != 0;
}

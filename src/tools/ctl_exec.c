// SPDX-License-Identifier: MIT
/* iomapctl exec: run a command with the library that gives it our ioctls (src/preload). */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

#define LIBRARY "libiomapfs-preload.so"

/* As a shell has it. */
enum { EXEC_CANNOT = 126, EXEC_NOT_FOUND = 127 };

/* From beside the program, in a build or in an installed tree that was moved, then as installed. */
static char *find_library(void)
{
	static const char *const near[] = {"/../preload/" LIBRARY,
					   "/../" IOMAPFS_LIBDIR "/iomapfs/" LIBRARY};
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash, *path;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < sizeof(near) / sizeof(near[0]); i++) {
		if (asprintf(&path, "%.*s%s", (int)(slash - self), self, near[i]) < 0)
			return NULL;
		if (access(path, R_OK) == 0)
			return path;
		free(path);
	}
	path = strdup(IOMAPFS_PREFIX "/" IOMAPFS_LIBDIR "/iomapfs/" LIBRARY);
	if (path && access(path, R_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* After what is there: others that were asked for first keep their place. */
static bool add_preload(const char *path)
{
	const char *have = getenv("LD_PRELOAD");
	char *list;
	bool ok;

	if (asprintf(&list, "%s%s%s", have ? have : "", have && *have ? ":" : "", path) < 0)
		return false;
	ok = setenv("LD_PRELOAD", list, 1) == 0;
	free(list);
	return ok;
}

int ctl_exec(char **argv)
{
	char *path;
	int err;

	if (argv[0] && !strcmp(argv[0], "--"))
		argv++;
	if (!argv[0] || argv[0][0] == '-') {
		fprintf(stderr, "Usage: iomapctl exec COMMAND [ARGUMENT]...\n");
		return CTL_USAGE;
	}
	path = find_library();
	if (!path) {
		fprintf(stderr, "iomapctl: exec: %s is not installed\n", LIBRARY);
		return CTL_FAIL;
	}
	if (strpbrk(path, ": \t\n")) {
		fprintf(stderr, "iomapctl: exec: LD_PRELOAD takes no path with a colon or a space: %s\n",
			path);
		free(path);
		return CTL_FAIL;
	}
	if (!add_preload(path)) {
		free(path);
		return ctl_fail("exec", ENOMEM);
	}
	free(path);
	execvp(argv[0], argv);
	err = errno;
	ctl_fail(argv[0], err);
	return err == ENOENT || err == ENOTDIR ? EXEC_NOT_FOUND : EXEC_CANNOT;
}

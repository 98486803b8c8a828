/* SPDX-License-Identifier: MIT */
/*
 * The image that recipes break: one of everything, the same in every run.
 *
 * usage: base FILE clean       mounted and unmounted once
 *        base FILE orphan      with a file that was unlinked while open
 *        base FILE dirty       with transactions and revokes in its journal
 */
#include <stdio.h>
#include <string.h>

#include "../crash/disk.h"
#include "../fuzz/fuzz.h"

static bool write_file(const char *path, struct bd *bd)
{
	FILE *f = fopen(path, "wx");
	bool bad = !f || fwrite(bd_mem_base(bd), bd->info.size, 1, f) != 1;

	if ((f && fclose(f)) || bad)
		perror(path);
	return !bad;
}

/* A mount ends what the last one left: the journal is empty then, and no orphan waits. */
static bool settle(struct bd *bd)
{
	struct image im;
	struct fs_error err;
	struct fs *fs;
	bool good;

	image_init(&im, bd_mem_base(bd), bd->info.size);
	good = fs_mount(image_open(&im), &(struct fs_mount_opts){ .readonly = false }, &fs, &err) == 0 &&
	       fs_unmount(fs) == 0;
	for (uint64_t at = 0; at < bd->info.size; at += IMAGE_PAGE)
		image_read(&im, at, (uint8_t *)bd_mem_base(bd) + at, IMAGE_PAGE);
	image_fini(&im);
	return good;
}

int main(int argc, char **argv)
{
	const char *which = argc == 3 ? argv[2] : "";
	struct bd *bd;
	bool good;

	if (strcmp(which, "clean") != 0 && strcmp(which, "orphan") != 0 && strcmp(which, "dirty") != 0)
		return 2;
	bd = fuzz_image_new(strcmp(which, "dirty") ? FUZZ_CLEAN : FUZZ_DIRTY);
	good = (strcmp(which, "clean") || settle(bd)) && write_file(argv[1], bd);
	bd_close(bd);
	return !good;
}

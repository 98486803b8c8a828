/* SPDX-License-Identifier: MIT */
/*
 * fsck over a damaged image, with and without transactions in its journal. First byte: which
 * image, and whether fsck repairs it. What it repaired is sound to fsck and to the file system.
 */
#include <stdlib.h>

#include "fuzz.h"
#include "iomapfs/check.h"

static bool check(struct bd *bd, bool repair)
{
	struct chk_opts opts = { .readonly = !repair, .out = getenv("FUZZ_LOG") ? stderr : NULL };
	struct chk_result res;

	return chk_run(bd, &opts, &res) == 0 && res.left == 0;
}

/* Takes bd over. */
static void use(struct bd *bd, struct fuzz_in *in)
{
	struct fs_mount_opts opts = { .readonly = false };
	struct fs_error err;
	struct fs *fs;

	fuzz_listen();
	if (fs_mount(bd, &opts, &fs, &err) != 0)
		abort();
	fuzz_ops_walk(fs);
	fuzz_ops_run(fs, in);
	if (fs_unmount(fs) != 0)
		abort();
	fuzz_complained();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	const unsigned how = in_u8(&in);
	const enum fuzz_base which = how & 1 ? FUZZ_DIRTY : FUZZ_CLEAN;
	struct bd *bd = fuzz_image_new(which);

	fuzz_quiet();
	fuzz_image_damage(bd, which, &in);
	if (!check(bd, how & 2) || !(how & 2) || !fuzz_judges()) {
		bd_close(bd);
		return 0;
	}
	if (!check(bd, false))
		abort();
	use(bd, &in);
	return 0;
}

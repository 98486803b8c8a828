/* SPDX-License-Identifier: MIT */
/*
 * Mount a damaged image and work in it. First byte: how it is mounted. Then the damage, an
 * end mark, and the operations.
 */
#include "fuzz.h"
#include "iomapfs/check.h"

#ifndef FUZZ_BASE
#define FUZZ_BASE FUZZ_CLEAN
#endif

static void mount_and_work(struct bd *bd, const struct fs_mount_opts *opts, struct fuzz_in *in)
{
	struct fs_error err;
	struct fs *fs;

	if (fs_mount(bd, opts, &fs, &err) != 0) {
		bd_close(bd);
		return;
	}
	fuzz_ops_walk(fs);
	fuzz_ops_run(fs, in);
	fs_unmount(fs);
}

static bool is_clean(struct bd *bd)
{
	struct chk_opts opts = { .readonly = true };
	struct chk_result res;

	return chk_run(bd, &opts, &res) == 0 && res.found == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	const unsigned how = in_u8(&in);
	struct fs_mount_opts opts = {
		.readonly = how & 3,
		.norecovery = (how & 3) == 3,
		.errors = how & 4 ? FS_ERRORS_CONTINUE : FS_ERRORS_REMOUNT_RO,
		.discard = how & 8,
	};
	struct bd *bd = fuzz_image_new(FUZZ_BASE);
	bool judge;

	fuzz_quiet();
	fuzz_image_damage(bd, FUZZ_BASE, &in);
	/* What fsck calls sound is the image behind its log. */
	judge = fuzz_judges() && !opts.norecovery && is_clean(bd);
	if (judge)
		fuzz_listen();
	mount_and_work(bd, &opts, &in);
	if (judge)
		fuzz_complained();
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Mount a damaged image and work in it. First byte: how it is mounted. Then the damage, an
 * end mark, and the operations.
 */
#include <stdio.h>
#include <stdlib.h>

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

/* FUZZ_JUDGE=1: an image that fsck finds nothing wrong with must not be called damaged later. */
static _Atomic int complaints;

static void judge_sink(enum log_level lvl, const char *line, void *arg)
{
	if (lvl == LOG_LVL_ERR && !atomic_fetch_add(&complaints, 1))
		fprintf(stderr, "%s\n", line);
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
	bool judge = getenv("FUZZ_JUDGE");

	fuzz_quiet();
	fuzz_image_damage(bd, FUZZ_BASE, &in);
	judge = judge && is_clean(bd);
	atomic_store(&complaints, 0);
	if (judge)
		log_set_sink(judge_sink, NULL);
	mount_and_work(bd, &opts, &in);
	if (judge && atomic_load(&complaints))
		abort();
	return 0;
}

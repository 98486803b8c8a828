/* SPDX-License-Identifier: MIT */
/*
 * fsck over a damaged image, with and without transactions in its journal. First byte: which
 * image, and what fsck may do.
 */
#include <stdio.h>

#include "fuzz.h"
#include "iomapfs/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	const enum fuzz_base which = in_u8(&in) & 1 ? FUZZ_DIRTY : FUZZ_CLEAN;
	struct bd *bd = fuzz_image_new(which);
	struct chk_opts opts = { .readonly = true };
	struct chk_result res;

	fuzz_quiet();
	fuzz_image_damage(bd, which, &in);
	chk_run(bd, &opts, &res);
	bd_close(bd);
	return 0;
}

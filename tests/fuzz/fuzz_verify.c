/* SPDX-License-Identifier: MIT */
/*
 * The verifiers: a block of a sound image, damaged and sealed, judged alone. The first byte
 * says by which; the block's own magic decides in od_verify_any.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static void verify(const struct od_ctx *c, unsigned which, uint8_t *block, uint64_t mblk)
{
	struct sb_info sb;

	switch (which % 10) {
	case 0:
		od_verify_sb(c, block, mblk, true);
		break;
	case 1:
		od_verify_ag(c, block, mblk, true);
		break;
	case 2:
		od_verify_btree(c, block, mblk, true);
		break;
	case 3:
		od_verify_inodes(c, block, mblk, true);
		break;
	case 4:
		od_verify_dir(c, block, mblk, true);
		break;
	case 5:
		od_verify_blob(c, block, mblk, true);
		break;
	case 6:
		od_verify_mmp(c, block, true);
		break;
	case 7:
		if (!od_sb_decode(block, 0, 0, &sb)) {
			struct od_ctx own;

			/* What passed can be computed with. */
			od_ctx_init(&own, &sb);
			od_verify_any(&own, block, 0, true);
			od_mblk_ok(&own, mblk);
			od_fsb_range_ok(&own, mblk, 1);
			od_sb_encode(&sb, 0, block);
			assert(!od_sb_decode(block, 0, 0, &sb));
		}
		break;
	case 8:
		od_verify_inode(c, (void *)(block + od_ino_offset(od_ino_make(mblk, 1))),
				od_ino_make(mblk, 1));
		break;
	default:
		od_verify_any(c, block, mblk, true);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	uint8_t *block = malloc(OD_MBLK_SIZE), *list;
	const unsigned which = in_u8(&in), kind = in_u8(&in), nth = in_u8(&in);
	struct od_ctx c;
	static struct bd *bd;
	uint64_t mblk;

	if (!block)
		abort();
	od_ctx_init(&c, fuzz_image_sb());
	if (!bd)
		bd = fuzz_image_new(FUZZ_CLEAN);
	mblk = fuzz_image_block(FUZZ_CLEAN, kind, nth);
	memcpy(block, (uint8_t *)bd_mem_base(bd) + (mblk << OD_MBLK_SHIFT), OD_MBLK_SIZE);
	while (in_left(&in)) {
		const size_t at = in_u16(&in) % OD_MBLK_SIZE, n = in_u8(&in) % 16u + 1;

		in_bytes(&in, block + at, MIN(n, OD_MBLK_SIZE - at));
	}
	if (le32_get(((struct od_hdr *)block)->magic) != 0)
		od_seal(block, 0);
	verify(&c, which, block, mblk);
	free(block);
	/* Attribute lists have no block of their own: of their exact size, the input itself. */
	list = malloc(size ? size : 1);
	if (!list)
		abort();
	if (size)
		memcpy(list, data, size);
	od_verify_xattrs(list, size);
	free(list);
	return 0;
}

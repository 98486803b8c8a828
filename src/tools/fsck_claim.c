/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "fsck_claim.h"
#include "iomapfs/util.h"

static void *read_block(struct bd *bd, uint64_t mblk)
{
	void *block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);

	if (block && bd_read(bd, mblk << OD_MBLK_SHIFT, block, OD_MBLK_SIZE)) {
		free(block);
		block = NULL;
	}
	return block;
}

static bool read_sb(struct bd *bd, struct sb_info *sb)
{
	void *block = bd->info.size < OD_MBLK_SIZE ? NULL : read_block(bd, 0);
	const bool sound = block && !od_sb_decode(block, 0, bd->info.size, sb);

	free(block);
	return sound;
}

bool fsck_was_unmounted(struct bd *bd)
{
	struct od_jsb *jsb;
	struct od_ctx od;
	struct sb_info sb;
	bool clean;

	if (!read_sb(bd, &sb))
		return false;
	od_ctx_init(&od, &sb);
	jsb = read_block(bd, od.jnl_start);
	clean = jsb && !od_verify_hdr(&od, jsb, OD_MAGIC_JSB, od.jnl_start, 0) &&
		le64_get(jsb->clean) == 1;
	free(jsb);
	return clean;
}

/* The number in the block: nobody's also where it was never written, or is damaged. */
static uint64_t number(const struct od_ctx *od, const uint8_t *block)
{
	if (!block || od_verify_mmp(od, block, true))
		return OD_MMP_CLEAN;
	return le64_get(((const struct od_mmp *)block)->seq);
}

static int look(struct bd *bd, const struct od_ctx *od, unsigned interval_s, const char *path)
{
	const struct timespec wait = { .tv_sec = 2 * (time_t)interval_s + 1 };
	uint8_t *block = read_block(bd, OD_AG_MMP_MBLK);
	const uint64_t seen = number(od, block);
	const struct od_mmp *d = (const void *)block;
	int err = 0;

	if (seen != OD_MMP_CLEAN && seen != OD_MMP_FSCK) {
		fprintf(stderr, "fsck.iomapfs: %s: host %.64s did not unmount it, or still uses it: "
			"waiting %u s for a sign\n", path, (const char *)d->node, 2 * interval_s + 1);
		nanosleep(&wait, NULL);
		free(block);
		block = read_block(bd, OD_AG_MMP_MBLK);
		d = (const void *)block;
		/* An fsck that was interrupted left its mark: that alone is no sign of life. */
		if (number(od, block) != seen && number(od, block) != OD_MMP_CLEAN) {
			fprintf(stderr, "fsck.iomapfs: %s: is in use by host %.64s: unmount it there\n",
				path, (const char *)d->node);
			err = -EBUSY;
		}
	}
	free(block);
	return err;
}

static int mark(const struct fsck_claim *claim, uint64_t seq)
{
	void *block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	struct utsname host = { "" };
	int err;

	if (!block)
		return -ENOMEM;
	uname(&host);
	od_mmp_init(block, claim->meta_uuid, seq, (uint64_t)time(NULL), host.nodename,
		    claim->bd->name ? claim->bd->name : "");
	err = bd_write(claim->bd, OD_AG_MMP_MBLK << OD_MBLK_SHIFT, block, OD_MBLK_SIZE, BD_FUA);
	free(block);
	return err;
}

int fsck_claim(struct fsck_claim *claim, struct bd *bd, const char *path)
{
	struct sb_info sb;
	struct od_ctx od;
	int err;

	if (!read_sb(bd, &sb) || !sb.mmp_interval_s)
		return 0;
	od_ctx_init(&od, &sb);
	err = look(bd, &od, sb.mmp_interval_s, path);
	if (err)
		return err;
	claim->bd = bd;
	memcpy(claim->meta_uuid, sb.meta_uuid, sizeof(claim->meta_uuid));
	err = mark(claim, OD_MMP_FSCK);
	if (err)
		claim->bd = NULL;
	return err;
}

void fsck_unclaim(struct fsck_claim *claim)
{
	/* What stays if this fails is told by the next mount. */
	if (claim->bd)
		(void)mark(claim, OD_MMP_CLEAN);
	claim->bd = NULL;
}

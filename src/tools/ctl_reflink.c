// SPDX-License-Identifier: MIT
/*
 * iomapctl tune --reflink: switch reference counts on. The file system is mounted for it here, in this
 * process, so that the change goes through the journal and multiple-mount protection is asked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "iomapfs/block.h"
#include "iomapfs/fs.h"

static int refuse(const char *source, const char *why)
{
	fprintf(stderr, "iomapctl: %s: %s\n", source, why);
	return CTL_FAIL;
}

static int open_failed(const char *source, int err)
{
	switch (err) {
	case -EBUSY:
		return refuse(source, "is mounted or in use by another program; unmount it first");
	case -EMEDIUMTYPE:
		return refuse(source, "is neither a block device nor an image file; unmount the file "
			      "system and give the device that it is on");
	default:
		return ctl_fail(source, -err);
	}
}

/* NULL when nobody has to do anything first, else what is in the way; *on: there is nothing to do at all. */
static const char *in_the_way(struct bd *bd, uint8_t *block, bool *on)
{
	const char *word;
	struct sb_info sb;
	struct od_ctx od;
	uint64_t bits;

	if (bd->info.size < OD_MBLK_SIZE || bd_read(bd, 0, block, OD_MBLK_SIZE))
		return "cannot be read; is it the right device?";
	/* A copy would do for a mount; whoever changes what it says looks at the damage first. */
	if (od_sb_decode(block, 0, bd->info.size, &sb))
		return "holds no iomapfs, or its superblock is damaged; check the name, or run fsck.iomapfs";
	if (od_features_check(&sb, &bits, &word) != OD_MOUNT_RW)
		return "has features that this version does not know; use a newer iomapctl";
	od_ctx_init(&od, &sb);
	if (bd_read(bd, od.jnl_start << OD_MBLK_SHIFT, block, OD_MBLK_SIZE) ||
	    od_verify_jsb(&od, block, true))
		return "has a damaged journal; run fsck.iomapfs";
	if (le64_get(((const struct od_jsb *)block)->clean) != 1)
		return "was not unmounted; mount and unmount it, or run fsck.iomapfs -p, then try again";
	*on = od.reflink;
	return NULL;
}

static int switch_on(struct bd *bd, const char *source)
{
	const struct fs_mount_opts opts = { .errors = FS_ERRORS_REMOUNT_RO };
	struct fs_error why;
	struct fs *fs;
	int err = fs_mount(bd, &opts, &fs, &why), ret;

	if (err) {
		bd_close(bd);
		fprintf(stderr, "iomapctl: %s: %s\n", source, why.text);
		return CTL_FAIL;
	}
	err = fs_add_reflink(fs, &why);
	ret = fs_unmount(fs);
	if (err && why.text[0])
		fprintf(stderr, "iomapctl: %s: %s\n", source, why.text);
	else if (err || ret)
		return ctl_fail(source, err ? -err : -ret);
	return err ? CTL_FAIL : CTL_OK;
}

int ctl_add_reflink(const struct ctl_opts *o, const char *source)
{
	uint8_t *block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	int err = block ? 0 : -ENOMEM, ret;
	const char *why = NULL;
	struct bd *bd = NULL;
	bool on = false;

	if (!err)
		err = bd_open(source, BD_OPEN_EXCL | BD_OPEN_LOCK, &bd);
	if (!err)
		why = in_the_way(bd, block, &on);
	free(block);
	if (err)
		return open_failed(source, err);
	if (why || on || bd->info.readonly) {
		ret = why ? refuse(source, why) : on ? CTL_OK : ctl_fail(source, EROFS);
		bd_close(bd);
	} else {
		ret = switch_on(bd, source);
	}
	if (ret == CTL_OK && o->json)
		ret = ctl_print_json(json_pack("{s:s,s:b}", "source", source, "reflink", 1));
	return ret;
}

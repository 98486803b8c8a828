/* SPDX-License-Identifier: MIT */
/* Superblocks: finding a sound one at mount, and changing all of them (iomapctl tune). */
#include <stdio.h>
#include <stdlib.h>

#include "super.h"

void fs_error_set(struct fs_error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
}

/* The copy of group 1, wherever it may be. 0, or -ENOENT. */
static int probe_copies(struct bd *bd, void *block, struct sb_info *out, uint64_t *at)
{
	for (unsigned shift = OD_AG_SHIFT_MIN; shift <= OD_AG_SHIFT_MAX; shift++) {
		struct sb_info sb;
		uint64_t pos = 1ull << shift;

		if (pos + OD_MBLK_SIZE > bd->info.size)
			break;
		if (bd_read(bd, pos, block, OD_MBLK_SIZE))
			continue;
		if (od_sb_decode(block, 1, bd->info.size, &sb))
			continue;
		/* An old file system's copy, at another distance, is not ours. */
		if (sb.ag_blocks << sb.block_shift != pos)
			continue;
		*out = sb;
		*at = pos;
		return 0;
	}
	return -ENOENT;
}

static int explain(struct bd *bd, const char *test, struct fs_error *err)
{
	if (!strcmp(test, "bad-magic")) {
		fs_error_set(err, "%s holds no iomapfs: make one with mkfs.iomapfs, or check the name",
			     bd->name ? bd->name : "device");
		return -EMEDIUMTYPE;
	}
	if (!strcmp(test, "device-too-small")) {
		fs_error_set(err, "%s is smaller (%llu bytes) than the file system on it: "
			     "give it back its size before mounting",
			     bd->name ? bd->name : "device", (unsigned long long)bd->info.size);
		return -ENOSPC;
	}
	fs_error_set(err, "the superblock of %s is damaged (%s) and no copy was found: "
		     "restore the device from a backup",
		     bd->name ? bd->name : "device", test);
	return -EFSCORRUPTED;
}

int fs_sb_read(struct bd *bd, struct sb_info *out, struct fs_error *err)
{
	void *block;
	const char *test;
	uint64_t at;
	int ret;

	if (bd->info.size < OD_MBLK_SIZE) {
		fs_error_set(err, "%s is too small to hold an iomapfs",
			     bd->name ? bd->name : "device");
		return -EMEDIUMTYPE;
	}
	block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	if (!block)
		return -ENOMEM;
	ret = bd_read(bd, 0, block, OD_MBLK_SIZE);
	test = ret ? "unreadable" : od_sb_decode(block, 0, bd->info.size, out);
	if (test && strcmp(test, "device-too-small") != 0 &&
	    probe_copies(bd, block, out, &at) == 0) {
		log_warn("%s: the superblock at byte 0 is damaged (%s); using the copy of group 1 "
			 "at byte %llu: run fsck.iomapfs", bd->name ? bd->name : "device", test,
			 (unsigned long long)at);
		test = NULL;
		ret = 0;
	}
	if (ret)
		fs_error_set(err, "the superblock of %s can not be read: %s",
			     bd->name ? bd->name : "device", strerror(-ret));
	else if (test)
		ret = explain(bd, test, err);
	free(block);
	return ret;
}

/* ---- Changing it ----------------------------------------------------------------------------- */

static int sb_log_one(struct fs *fs, struct jnl_handle *h, uint32_t agno, const struct sb_info *sb)
{
	struct buf *b;
	/* All of it is written, so it need not be read: a damaged copy is whole again. */
	int err = buf_new(fs->bc, od_ag_start_mblk(&fs->od, agno) + OD_AG_SB_MBLK, agno,
			  &buf_ops_sb, &b);

	if (err)
		return err;
	jnl_get_create(h, b);
	od_sb_encode(sb, agno, b->data);
	buf_put(b);
	return 0;
}

/*
 * Into the log, and from there to their places: tools read the superblock from the device itself. One
 * transaction holds all of them, unless the log is too short for so many groups. Then the first one, which is
 * what counts, comes last: who finds it finds all the others.
 */
static int sb_write_all(struct fs *fs, const struct sb_info *sb)
{
	const unsigned batch = jnl_max_credits(fs->jnl);
	uint32_t left = sb->nr_ags;
	int err = 0;

	while (left && !err) {
		const uint32_t n = MIN(left, batch);
		struct jnl_handle *h;

		err = jnl_start(fs->jnl, n, 0, &h);
		if (err)
			break;
		for (uint32_t i = 0; i < n && !err; i++)
			err = sb_log_one(fs, h, --left, sb);
		jnl_stop(h);
	}
	return err ? err : jnl_checkpoint(fs->jnl);
}

int fs_tune(struct fs *fs, const struct fs_tune_args *args)
{
	struct sb_info sb;
	int err;

	if (args->label && strlen(args->label) > sizeof(sb.label) - 1)
		return -ENAMETOOLONG;
	if (args->mmp_interval_s && *args->mmp_interval_s > OD_MMP_INTERVAL_MAX)
		return -EINVAL;
	err = fs_start_change(fs, 0);
	if (err)
		return err;
	lk_lock(&fs->rename_lock);
	sb = fs->sb;
	if (args->label) {
		memset(sb.label, 0, sizeof(sb.label));
		memcpy(sb.label, args->label, strlen(args->label));
	}
	if (args->uuid)
		memcpy(sb.uuid, args->uuid, sizeof(sb.uuid));
	if (args->mmp_interval_s)
		sb.mmp_interval_s = *args->mmp_interval_s;
	err = sb_write_all(fs, &sb);
	if (!err) {
		memcpy(fs->sb.label, sb.label, sizeof(sb.label));
		memcpy(fs->sb.uuid, sb.uuid, sizeof(sb.uuid));
		fs->sb.mmp_interval_s = sb.mmp_interval_s;
	}
	lk_unlock(&fs->rename_lock);
	fs_end_change(fs);
	return err;
}

/* Every group must be able to keep back what it would keep back had it been made so. */
static int room_for_counts(struct fs *fs, struct fs_error *e)
{
	for (uint32_t i = 0; i < fs->sb.nr_ags; i++) {
		const uint64_t need = refc_room(&fs->ags[i]), have = ag_usable(&fs->ags[i]);

		if (have >= need)
			continue;
		fs_error_set(e, "group %u of %u has %llu KiB free, and the counts of shared blocks may "
			     "come to need %llu KiB of it: delete or move files away, then try again",
			     i, fs->sb.nr_ags, (unsigned long long)(have << fs->block_shift >> 10),
			     (unsigned long long)(need << fs->block_shift >> 10));
		return -ENOSPC;
	}
	return 0;
}

int fs_add_reflink(struct fs *fs, struct fs_error *e)
{
	struct sb_info sb;
	int err;

	memset(e, 0, sizeof(*e));
	err = fs_start_change(fs, 0);
	if (err)
		return err;
	lk_lock(&fs->rename_lock);
	sb = fs->sb;
	sb.ro_compat |= OD_RO_COMPAT_REFLINK;
	/* The roots of the counts are empty, as in a new file system: the bit is all that is missing. */
	if (sb.ro_compat != fs->sb.ro_compat) {
		err = room_for_counts(fs, e);
		if (!err)
			err = sb_write_all(fs, &sb);
		if (!err)
			fs->sb.ro_compat = sb.ro_compat;
	}
	lk_unlock(&fs->rename_lock);
	fs_end_change(fs);
	return err;
}

void fs_sb_reread(struct fs *fs)
{
	/* Where the first is damaged the mount went by the copy of group 1. */
	for (uint32_t agno = 0; agno < MIN(fs->sb.nr_ags, 2u); agno++) {
		struct sb_info sb;
		struct buf *b;
		bool sound;

		if (buf_read(fs->bc, od_ag_start_mblk(&fs->od, agno) + OD_AG_SB_MBLK, agno, &buf_ops_sb, 0,
			     &b))
			continue;
		sound = !od_sb_decode(b->data, agno, fs->bd->info.size, &sb);
		buf_put(b);
		if (!sound)
			continue;
		memcpy(fs->sb.label, sb.label, sizeof(sb.label));
		memcpy(fs->sb.uuid, sb.uuid, sizeof(sb.uuid));
		fs->sb.mmp_interval_s = sb.mmp_interval_s;
		fs->sb.compat = sb.compat;
		fs->sb.ro_compat = sb.ro_compat;
		fs->sb.incompat = sb.incompat;
		fs->sb.jnl_incompat = sb.jnl_incompat;
		fs->od.reflink = sb.ro_compat & OD_RO_COMPAT_REFLINK;
		buf_set_reflink(fs->bc, fs->od.reflink);
		return;
	}
}

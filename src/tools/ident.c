/* SPDX-License-Identifier: MIT */
/* What is on a device. Reads through the page cache: nothing here needs to be fast or direct. */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ident.h"

int ident_iomapfs(const char *path, struct sb_info *sb, const char **why)
{
	uint8_t block[OD_MBLK_SIZE];
	const struct od_sb *d = (const void *)block;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ours = IDENT_NONE;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, block, sizeof(block), 0);
	if (n < 0) {
		ours = -errno;
		goto out_close;
	}
	if (n != sizeof(block))
		goto out_close;
	if (memcmp(d->magic, OD_SB_MAGIC, sizeof(d->magic)) != 0)
		goto out_close;
	*why = od_sb_decode(block, 0, 0, sb);
	ours = *why ? IDENT_DAMAGED : IDENT_SOUND;
out_close:
	close(fd);
	return ours;
}

static void describe_ours(enum ident_ours ours, const struct sb_info *sb, const char *why,
			  char *text, size_t size)
{
	time_t made = (time_t)sb->ctime_sec;
	char when[32];
	struct tm tm;

	if (ours == IDENT_DAMAGED) {
		snprintf(text, size, "an iomapfs file system with a damaged superblock (%s)", why);
		return;
	}
	if (!localtime_r(&made, &tm) || !strftime(when, sizeof(when), "%F %R", &tm))
		snprintf(when, sizeof(when), "an unknown time");
	snprintf(text, size, "an iomapfs file system made at %s%s%s%s", when,
		 sb->label[0] ? " with label '" : "", sb->label, sb->label[0] ? "'" : "");
}

static const char *probe_value(blkid_probe pr, const char *name)
{
	const char *value;

	return blkid_probe_lookup_value(pr, name, &value, NULL) ? NULL : value;
}

/* 1 when libblkid knows something there, 0 when not, or -errno. */
static int describe_other(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *type, *label;
	blkid_probe pr;
	int found;

	if (fd < 0)
		return -errno;
	pr = blkid_new_probe();
	if (!pr) {
		found = -ENOMEM;
		goto out_close;
	}
	found = -EIO;
	if (blkid_probe_set_device(pr, fd, 0, 0))
		goto out_free;
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL);
	blkid_probe_enable_partitions(pr, 1);
	switch (blkid_do_fullprobe(pr)) {
	case 0:
		found = 1;
		break;
	case 1:
		found = 0;
		goto out_free;
	default:
		goto out_free;
	}
	type = probe_value(pr, "TYPE");
	label = probe_value(pr, "LABEL");
	if (type)
		snprintf(text, size, "a file system or volume of type %s%s%s%s", type,
			 label ? " with label '" : "", label ? label : "", label ? "'" : "");
	else
		snprintf(text, size, "a partition table (%s)",
			 probe_value(pr, "PTTYPE") ? probe_value(pr, "PTTYPE") : "unknown");
out_free:
	blkid_free_probe(pr);
out_close:
	close(fd);
	return found;
}

int ident_describe(const char *path, char *text, size_t size)
{
	struct sb_info sb = { 0 };
	const char *why = NULL;
	int ours = ident_iomapfs(path, &sb, &why);

	if (ours < 0)
		return ours;
	if (ours == IDENT_NONE)
		return describe_other(path, text, size);
	describe_ours((enum ident_ours)ours, &sb, why, text, size);
	return 1;
}

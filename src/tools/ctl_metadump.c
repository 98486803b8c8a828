/* SPDX-License-Identifier: MIT */
/*
 * iomapctl metadump: the metadata of an unmounted file system, for bug reports. A sparse image
 * in which every block that says it is metadata of this file system stands at its address, so
 * that fsck.iomapfs -n says of it what it says of the original. File contents stay
 * behind, also those inside inodes; names, symlink targets and attributes go along.
 *
 * Blocks are found by what their headers say, not by walking trees: a report is needed
 * most where the trees are broken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "ctl_scan.h"

struct dump {
	struct bd *bd;
	struct od_ctx od;
	int out;
	bool log_needed;     /* the journal holds what replay will want */
	uint64_t nr_copied;
};

static bool known_magic(uint32_t magic)
{
	static const uint32_t magics[] = { OD_MAGIC_SB, OD_MAGIC_AG, OD_MAGIC_BTREE,
					   OD_MAGIC_INODES, OD_MAGIC_DIR, OD_MAGIC_BLOB,
					   OD_MAGIC_JSB, OD_MAGIC_MMP };

	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		if (magic == magics[i])
			return true;
	return false;
}

static bool in_log(const struct dump *d, uint64_t mblk)
{
	return mblk > d->od.jnl_start && mblk < d->od.jnl_start + d->od.jnl_len;
}

/* Damaged ones as well, as long as the header still says what the block was. */
static bool wanted(const struct dump *d, const void *block, uint64_t mblk)
{
	const struct od_hdr *hdr = block;

	if (in_log(d, mblk))
		return d->log_needed;
	return known_magic(le32_get(hdr->magic)) && le64_get(hdr->mblk) == mblk &&
	       !memcmp(hdr->uuid, d->od.meta_uuid, sizeof(hdr->uuid));
}

/* Contents of small files live in their inodes: zeros instead, under a new checksum. */
static void drop_contents(void *block)
{
	struct od_hdr *hdr = block;
	bool sound = od_crc(block) == le32_get(hdr->crc);

	for (unsigned i = 0; i < OD_INODES_PER_MBLK; i++) {
		struct od_inode *di = (struct od_inode *)((char *)block + OD_HDR_SIZE +
							  i * OD_INODE_SIZE);

		if (S_ISREG(le16_get(di->mode)) && di->data_fmt == OD_DATA_INLINE &&
		    le16_get(di->data_len) <= OD_INODE_AREA)
			memset(di->area, 0, le16_get(di->data_len));
	}
	if (sound)
		od_seal(block, le64_get(hdr->seq));
}

static int copy_block(void *arg, void *block, uint64_t mblk)
{
	struct dump *d = arg;

	if (!wanted(d, block, mblk))
		return 0;
	if (le32_get(((struct od_hdr *)block)->magic) == OD_MAGIC_INODES && !in_log(d, mblk))
		drop_contents(block);
	if (pwrite(d->out, block, OD_MBLK_SIZE, (off_t)(mblk * OD_MBLK_SIZE)) != OD_MBLK_SIZE)
		return errno ? -errno : -EIO;
	d->nr_copied++;
	return 0;
}

static int copy_all(struct dump *d)
{
	int ret = ctl_log_is_needed(d->bd, &d->od);

	if (ret < 0)
		return ret;
	d->log_needed = ret;
	ret = ctl_scan(d->bd, &d->od, copy_block, d);
	if (ret)
		return ret;
	return ftruncate(d->out, (off_t)(d->od.dev_mblks * OD_MBLK_SIZE)) ? -errno : 0;
}

static int dump_to(struct dump *d, const struct ctl_opts *o, const char *path)
{
	int err;

	d->out = open(o->output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (d->out < 0)
		return ctl_fail(o->output, errno);
	err = copy_all(d);
	if (close(d->out) && !err)
		err = -errno;
	if (err) {
		unlink(o->output);
		return ctl_fail(path, -err);
	}
	if (o->json)
		return ctl_print_json(json_pack("{s:s,s:I,s:b}", "output", o->output, "blocks",
						(json_int_t)d->nr_copied, "journal", d->log_needed));
	printf("%s: %llu metadata blocks\n", o->output, (unsigned long long)d->nr_copied);
	if (d->log_needed)
		printf("The journal was not empty and went along: it may hold contents of small files.\n");
	return CTL_OK;
}

int ctl_metadump(const struct ctl_opts *o, const char *path)
{
	struct dump d = { .out = -1 };
	int ret;

	if (!o->output) {
		fprintf(stderr, "iomapctl: metadump: name the file to make with --output\n");
		return CTL_USAGE;
	}
	ret = ctl_open(path, BD_OPEN_RDONLY | BD_OPEN_LOCK | BD_OPEN_EXCL, &d.bd, &d.od, NULL);
	if (ret != CTL_OK)
		return ret;
	ret = dump_to(&d, o, path);
	bd_close(d.bd);
	return ret;
}

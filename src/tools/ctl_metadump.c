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
#include "ident.h"
#include "iomapfs/block.h"

#define CHUNK (1u << 20)

struct dump {
	struct bd *bd;
	struct od_ctx od;
	int out;
	bool log_needed;     /* the journal holds what replay will want */
	uint64_t nr_copied;
	char *chunk;
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

static int copy_chunk(struct dump *d, uint64_t offset, uint64_t len)
{
	int err = bd_read(d->bd, offset, d->chunk, len);

	if (err)
		return err;
	for (uint64_t at = 0; at + OD_MBLK_SIZE <= len; at += OD_MBLK_SIZE) {
		uint64_t mblk = (offset + at) / OD_MBLK_SIZE;
		char *block = d->chunk + at;

		if (!wanted(d, block, mblk))
			continue;
		if (le32_get(((struct od_hdr *)block)->magic) == OD_MAGIC_INODES && !in_log(d, mblk))
			drop_contents(block);
		if (pwrite(d->out, block, OD_MBLK_SIZE, (off_t)(offset + at)) != OD_MBLK_SIZE)
			return errno ? -errno : -EIO;
		d->nr_copied++;
	}
	return 0;
}

/* Holes of an image hold no metadata: a 16 TiB one is dumped in the time of what is in it. */
static uint64_t next_data(const struct dump *d, uint64_t offset)
{
	off_t at = d->bd->info.is_blockdev ? -1 : lseek(bd_fd(d->bd), (off_t)offset, SEEK_DATA);

	if (at >= 0)
		return (uint64_t)at & ~(uint64_t)(OD_MBLK_SIZE - 1);
	return !d->bd->info.is_blockdev && errno == ENXIO ? UINT64_MAX : offset;
}

static int copy_all(struct dump *d)
{
	uint64_t offset = 0, end = d->od.dev_mblks * OD_MBLK_SIZE;

	while ((offset = next_data(d, offset)) < end) {
		uint64_t len = end - offset < CHUNK ? end - offset : CHUNK;
		int err = copy_chunk(d, offset, len);

		if (err)
			return err;
		offset += len;
	}
	return ftruncate(d->out, (off_t)end) ? -errno : 0;
}

static int log_is_needed(struct dump *d)
{
	const struct od_jsb *jsb = (const struct od_jsb *)d->chunk;
	int err = bd_read(d->bd, d->od.jnl_start * OD_MBLK_SIZE, d->chunk, OD_MBLK_SIZE);

	d->log_needed = !err && le64_get(jsb->clean) != 1;
	return err;
}

static int dump_to(struct dump *d, const struct ctl_opts *o, const char *path)
{
	int err;

	d->out = open(o->output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (d->out < 0)
		return ctl_fail(o->output, errno);
	d->chunk = aligned_alloc(4096, CHUNK);
	err = d->chunk ? log_is_needed(d) : -ENOMEM;
	if (!err)
		err = copy_all(d);
	free(d->chunk);
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
	const char *why = NULL;
	struct sb_info sb;
	int ret;

	if (!o->output) {
		fprintf(stderr, "iomapctl: metadump: name the file to make with --output\n");
		return CTL_USAGE;
	}
	ret = ident_iomapfs(path, &sb, &why);
	if (ret < 0)
		return ctl_fail(path, -ret);
	if (ret != IDENT_SOUND) {
		fprintf(stderr, "iomapctl: %s: %s%s\n", path,
			ret == IDENT_DAMAGED ? "damaged superblock: " : "no iomapfs",
			ret == IDENT_DAMAGED ? why : "");
		return CTL_FAIL;
	}
	od_ctx_init(&d.od, &sb);
	ret = bd_open(path, BD_OPEN_RDONLY | BD_OPEN_LOCK | BD_OPEN_EXCL, &d.bd);
	if (ret == -EBUSY) {
		fprintf(stderr, "iomapctl: %s: is mounted or in use; unmount it first\n", path);
		return CTL_FAIL;
	}
	if (ret)
		return ctl_fail(path, -ret);
	ret = dump_to(&d, o, path);
	bd_close(d.bd);
	return ret;
}

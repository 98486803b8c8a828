/* SPDX-License-Identifier: MIT */
/* Symbolic links: short targets in the inode, long ones in a blob. */
#include <limits.h>

#include "names.h"

#define SYMLINK_LEN_MAX (PATH_MAX - 1u)

void symlink_need(size_t len, struct fs_need *need)
{
	if (len <= FS_AREA_DATA_MAX)
		return;
	need->allocs += xattr_blob_blocks(len);
	need->credits += xattr_blob_blocks(len);
}

int symlink_apply(struct jnl_handle *h, struct fs_inode *ip, const char *target, size_t len)
{
	uint64_t mblk;
	le64_t addr;
	int err;

	lk_assert_held(&ip->extlock);
	assert(len && len <= SYMLINK_LEN_MAX);
	assert(ip->attr_len == 0 || ip->attr_len + MIN(len, FS_AREA_DATA_MAX) <= OD_INODE_AREA);
	ip->disk_size = len;
	i_size_write(&ip->vfs, len);
	if (len <= FS_AREA_DATA_MAX) {
		ip->data_fmt = OD_DATA_INLINE;
		ip->data_len = (uint16_t)len;
		memcpy(ip->area, target, len);
		return 0;
	}
	err = xattr_blob_write(h, ip, target, len, &mblk);
	if (err)
		return err;
	addr = le64_make(mblk);
	ip->data_fmt = OD_DATA_BLOB;
	ip->data_len = sizeof(addr);
	memcpy(ip->area, &addr, sizeof(addr));
	return 0;
}

static uint64_t symlink_mblk(const struct fs_inode *ip)
{
	le64_t addr;

	memcpy(&addr, ip->area, sizeof(addr));
	return le64_get(addr);
}

int64_t fs_readlink(struct fs_ctx *ctx, struct fs_inode *ip, char *buf, size_t size)
{
	uint8_t *mem = NULL;
	const uint8_t *target = ip->area;
	size_t len = 0;
	int err = 0;

	if (!(ctx->flags & FS_NOWAIT))
		lk_lock(&ip->extlock);
	else if (!lk_trylock(&ip->extlock))
		return -EAGAIN;
	if (!S_ISLNK(ip->mode)) {
		err = -EINVAL;
	} else if (ip->data_fmt == OD_DATA_INLINE) {
		len = ip->data_len;
	} else {
		err = xattr_blob_read(ip, symlink_mblk(ip), SYMLINK_LEN_MAX, ctx->flags, &mem, &len);
		target = mem;
	}
	if (!err)
		memcpy(buf, target, MIN(len, size));
	lk_unlock(&ip->extlock);
	free(mem);
	return err ? err : (int64_t)len;
}

int symlink_free(struct fs_inode *ip)
{
	struct fs_change c = { .fs = ip->fs };
	uint64_t blocks[XATTR_BLOB_BLOCKS];
	int n, err;

	if (ip->data_fmt != OD_DATA_BLOB)
		return 0;
	n = xattr_blob_blocks_of(ip, symlink_mblk(ip), 0, blocks, ARRAY_SIZE(blocks));
	err = n < 0 ? n : fs_ilog_prepare(ip, 0);
	if (err)
		return err;
	c.need.frees = (unsigned)n;
	c.need.credits = 1;
	err = fs_change_start(&c);
	if (err)
		return err;
	lk_lock(&ip->extlock);
	if (xattr_blob_free(c.h, ip, blocks, (unsigned)n)) {
		err = fs_change_fail(&c, -EIO, "freeing a symlink");
	} else {
		/* A symlink is never without a target on disk: one byte stands in until it goes. */
		memset(ip->area, 0, sizeof(le64_t));
		ip->area[0] = '-';
		ip->data_fmt = OD_DATA_INLINE;
		ip->data_len = 1;
		ip->disk_size = 1;
		i_size_write(&ip->vfs, 1);
		fs_ilog(c.h, ip, false);
	}
	lk_unlock(&ip->extlock);
	fs_change_stop(&c);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * Blobs: chains of metadata blocks for long symlinks, attribute lists and large values. A
 * blob is never changed: a new one is written and the reference switched in one handle.
 */
#include "xattr.h"

static const struct od_blob *blob_of(const struct buf *b)
{
	return (const struct od_blob *)((const char *)b->data + OD_HDR_SIZE);
}

static void *blob_data(const struct buf *b)
{
	return (char *)b->data + OD_HDR_SIZE + sizeof(struct od_blob);
}

static int blob_block(struct fs_inode *ip, uint64_t mblk, unsigned flags, struct buf **out)
{
	if (!od_mblk_ok(&ip->fs->od, mblk))
		return fs_corrupt(ip->fs, "blob", ip->ino, "blob-out-of-bounds");
	return buf_read(ip->fs->bc, mblk, ip->ino, &buf_ops_blob,
			flags & FS_NOWAIT ? BUF_NOWAIT : 0, out);
}

/* Copies one block behind what is there: sizes are the disk's word, so checked at each step. */
static int blob_append(struct fs_inode *ip, const struct buf *b, uint8_t *data, size_t *at,
		       size_t total)
{
	size_t n = le32_get(blob_of(b)->len);

	if (n > total - *at)
		return fs_corrupt(ip->fs, "blob", ip->ino, "blob-longer-than-total");
	memcpy(data + *at, blob_data(b), n);
	*at += n;
	return 0;
}

int xattr_blob_read(struct fs_inode *ip, uint64_t mblk, size_t max, unsigned flags, uint8_t **out,
		    size_t *len)
{
	uint8_t *data = NULL;
	size_t total = 0, at = 0;
	int err = 0;

	while (!err && (!data || at < total)) {
		struct buf *b;

		err = blob_block(ip, mblk, flags, &b);
		if (err)
			break;
		if (!data) {
			total = le32_get(blob_of(b)->total);
			if (total == 0 || total > max)
				err = fs_corrupt(ip->fs, "blob", ip->ino, "blob-total");
			else if (!(data = malloc(total)))
				err = -ENOMEM;
		}
		if (!err)
			err = blob_append(ip, b, data, &at, total);
		/* Each block holds a byte at least (its verifier), so a loop of blocks ends too. */
		mblk = le64_get(blob_of(b)->next);
		buf_put(b);
		if (!err && (mblk != 0) != (at < total))
			err = fs_corrupt(ip->fs, "blob", ip->ino, "blob-chain-length");
	}
	if (err) {
		free(data);
		return err;
	}
	*out = data;
	*len = total;
	return 0;
}

int xattr_blob_blocks_of(struct fs_inode *ip, uint64_t mblk, unsigned flags, uint64_t *blocks,
			 unsigned max)
{
	unsigned n = 0;

	while (mblk) {
		struct buf *b;
		int err;

		if (n == max)
			return fs_corrupt(ip->fs, "blob", ip->ino, "blob-chain-length");
		err = blob_block(ip, mblk, flags, &b);
		if (err)
			return err;
		blocks[n++] = mblk;
		mblk = le64_get(blob_of(b)->next);
		buf_put(b);
	}
	return (int)n;
}

static int blob_write_block(struct jnl_handle *h, struct fs_inode *ip, uint64_t mblk, uint64_t next,
			    const void *data, size_t len, size_t total)
{
	struct od_blob head = { .next = le64_make(next), .len = le32_make((uint32_t)len) };
	struct buf *b;
	int err = buf_new(ip->fs->bc, mblk, ip->ino, &buf_ops_blob, &b);

	if (err)
		return err;
	head.total = le32_make((uint32_t)total);
	jnl_get_create(h, b);
	memcpy((char *)b->data + OD_HDR_SIZE, &head, sizeof(head));
	memcpy(blob_data(b), data, len);
	buf_put(b);
	return 0;
}

int xattr_blob_write(struct jnl_handle *h, struct fs_inode *ip, const void *data, size_t len,
		     uint64_t *mblk)
{
	uint64_t blocks[XATTR_BLOB_BLOCKS], hint = od_ino_mblk(ip->ino);
	unsigned n = xattr_blob_blocks(len);
	int err = 0;

	lk_assert_held(&ip->extlock);
	assert(n && n <= XATTR_BLOB_BLOCKS);
	for (unsigned i = 0; i < n && !err; i++) {
		err = ag_alloc_mblk(ip->fs, h, hint, &blocks[i]);
		hint = blocks[i];
	}
	for (unsigned i = 0; i < n && !err; i++) {
		size_t at = (size_t)i * OD_BLOB_DATA;

		err = blob_write_block(h, ip, blocks[i], i + 1 < n ? blocks[i + 1] : 0,
				       (const char *)data + at, MIN(len - at, OD_BLOB_DATA),
				       i ? 0 : len);
	}
	ip->nr_blocks += n * (OD_MBLK_SIZE / 512);
	*mblk = blocks[0];
	return err;
}

int xattr_blob_free(struct jnl_handle *h, struct fs_inode *ip, const uint64_t *blocks, unsigned n)
{
	int err = 0;

	lk_assert_held(&ip->extlock);
	for (unsigned i = 0; i < n && !err; i++)
		err = ag_free_mblk(ip->fs, h, blocks[i]);
	ip->nr_blocks -= MIN(ip->nr_blocks, (uint64_t)n * (OD_MBLK_SIZE / 512));
	return err;
}

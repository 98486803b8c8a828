/* SPDX-License-Identifier: MIT */
/*
 * Where the attributes of an inode lie, for FIEMAP_FLAG_XATTR: the list in the inode or in the blocks of a
 * blob, then the blobs of large values. Offsets count through them in whole blocks.
 */
#include <stdlib.h>

#include "xattr.h"

/* A place in the walk: the mapping that grows, and where the next part will begin. */
struct attr_walk {
	struct fs_inode *ip;
	struct iomap *m;
	uint64_t pos;  /* looked for */
	uint64_t next;
};

/* The next len bytes are at addr. 1: the mapping holds pos, and this is not a part of it. */
static int walk_part(struct attr_walk *w, enum iomap_type type, uint64_t addr, uint64_t len)
{
	struct iomap *m = w->m;
	bool found = m->length && w->pos < iomap_end(m);

	if (m->length && m->type == IOMAP_MAPPED && type == IOMAP_MAPPED && m->addr + m->length == addr) {
		m->length += len;
		m->flags |= IOMAP_F_MERGED;
	} else if (found) {
		return 1;
	} else {
		*m = (struct iomap){ .offset = w->next, .length = len, .type = type, .addr = addr,
				     .bdev = w->ip->fs->idev, .inline_data = w->ip->area,
				     .flags = IOMAP_F_XATTR };
	}
	w->next = ROUND_UP(w->next + len, (uint64_t)OD_MBLK_SIZE);
	return 0;
}

static int walk_blob(struct attr_walk *w, uint64_t mblk, unsigned max)
{
	uint64_t blocks[XATTR_BLOB_BLOCKS];
	int n = xattr_blob_blocks_of(w->ip, mblk, 0, blocks, MIN(max, XATTR_BLOB_BLOCKS));
	int ret = n < 0 ? n : 0;

	for (int i = 0; i < n && !ret; i++)
		ret = walk_part(w, IOMAP_MAPPED, blocks[i] << OD_MBLK_SHIFT, OD_MBLK_SIZE);
	return ret;
}

static int walk_values(struct attr_walk *w)
{
	struct xattr_rec rec;
	const uint8_t *list;
	size_t len, off = 0;
	uint8_t *mem;
	int ret = xattr_load(w->ip, 0, &list, &len, &mem);

	while (!ret && xattr_next(list, len, &off, &rec))
		if (rec.blob)
			ret = walk_blob(w, le64_at(rec.value), XATTR_BLOB_BLOCKS);
	free(mem);
	return ret;
}

static int attr_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags, struct iomap *m,
		      struct iomap *srcmap)
{
	struct fs_inode *ip = FS_I(inode);
	struct attr_walk w = { .ip = ip, .m = m, .pos = pos };
	int ret;

	lk_lock(&ip->extlock);
	if (ip->attr_fmt == OD_ATTR_NONE)
		ret = -ENOENT;
	else if (ip->attr_fmt == OD_ATTR_INLINE)
		ret = walk_part(&w, IOMAP_INLINE, IOMAP_NULL_ADDR, ip->attr_len);
	else
		ret = walk_blob(&w, le64_at(ip->area + OD_INODE_AREA - sizeof(le64_t)), XATTR_LIST_BLOCKS);
	if (!ret)
		ret = walk_values(&w);
	lk_unlock(&ip->extlock);
	if (ret < 0)
		return ret;
	if (pos < m->offset)
		/* Behind the list in the inode: the first blob begins at a block. */
		*m = (struct iomap){ .offset = pos, .length = m->offset - pos };
	else if (pos >= iomap_end(m))
		*m = (struct iomap){ .offset = pos, .length = length };
	else
		return 0;
	m->addr = IOMAP_NULL_ADDR;
	m->flags = IOMAP_F_XATTR;
	return 0;
}

const struct iomap_ops fs_xattr_iomap_ops = {
	.iomap_begin = attr_begin,
};

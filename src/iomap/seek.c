/* SPDX-License-Identifier: MIT */
/* SEEK_DATA and SEEK_HOLE: what the extents say, and for UNWRITTEN what the cache holds. */
#include <unistd.h>

#include "iomap_private.h"

/* Sets *found and stops (no progress) at the first byte that is `whence`; else advances. */
static int seek_iter(struct iomap_iter *iter, int whence, int64_t *found)
{
	uint64_t len = iomap_length(iter);
	int64_t at;

	switch (iter->iomap.type) {
	case IOMAP_HOLE:
		at = whence == SEEK_HOLE ? (int64_t)iter->pos : -ENXIO;
		break;
	case IOMAP_UNWRITTEN:
		/* Written through the cache but not yet converted: data all the same. */
		at = mapping_seek_hole_data(&iter->inode->i_mapping, iter->pos, iter->pos + len,
					    whence);
		break;
	default:
		at = whence == SEEK_DATA ? (int64_t)iter->pos : -ENXIO;
		break;
	}
	if (at == -ENXIO || at >= (int64_t)(iter->pos + len))
		return iomap_iter_advance_full(iter);
	if (at < 0)
		return (int)at;
	*found = at;
	return 0;
}

static int64_t seek(struct inode *inode, int64_t pos, int whence, const struct iomap_ops *ops)
{
	uint64_t isize = i_size_read(inode);
	struct iomap_iter iter = { .inode = inode, .flags = IOMAP_REPORT };
	int64_t found = -1;
	int err;

	if (pos < 0 || (uint64_t)pos >= isize)
		return -ENXIO;
	iter.pos = (uint64_t)pos;
	iter.len = isize - iter.pos;
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = seek_iter(&iter, whence, &found);
	if (err < 0)
		return err;
	if (found >= 0)
		return MIN(found, (int64_t)isize);
	/* Every file ends in a hole. */
	return whence == SEEK_HOLE ? (int64_t)isize : -ENXIO;
}

int64_t iomap_seek_data(struct inode *inode, int64_t pos, const struct iomap_ops *ops)
{
	return seek(inode, pos, SEEK_DATA, ops);
}

int64_t iomap_seek_hole(struct inode *inode, int64_t pos, const struct iomap_ops *ops)
{
	return seek(inode, pos, SEEK_HOLE, ops);
}

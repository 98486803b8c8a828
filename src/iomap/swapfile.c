/* SPDX-License-Identifier: MIT */
/*
 * Activation of a swap file: its map of whole pages on the device, which is then used without the
 * file system. The file may lie in any number of extents; swap pages are numbered in the order in
 * which they are found, and a run of blocks without a whole page in it is passed by.
 */
#include "iomap_private.h"

struct swap_iter {
	struct swap_info *sis;
	struct iomap_dev *bdev;     /* of the first mapping: of all */
	uint64_t addr, len;         /* the run so far: mappings that follow each other on the device */
	uint64_t lowest, highest;   /* pages, the header's not counted */
	bool header_seen;
};

static int add_run(struct swap_iter *si)
{
	struct swap_info *sis = si->sis;
	uint64_t first = DIV_ROUND_UP(si->addr, FOLIO_PAGE_SIZE);
	uint64_t end = (si->addr + si->len) / FOLIO_PAGE_SIZE;
	uint64_t first_used = first;
	int err;

	if (first >= end || (sis->max_pages && sis->nr_pages >= sis->max_pages))
		return 0;
	if (sis->max_pages)
		end = MIN(end, first + (sis->max_pages - sis->nr_pages));
	/* The first page is the header: swap never writes it, so it does not widen the span. */
	if (!si->header_seen) {
		si->header_seen = true;
		first_used++;
	}
	if (first_used < end) {
		si->lowest = MIN(si->lowest, first_used);
		si->highest = MAX(si->highest, end - 1);
	}
	err = sis->add_extent(sis, sis->nr_pages, end - first, first);
	if (err < 0)
		return err;
	sis->nr_pages += end - first;
	sis->nr_extents++;
	return 0;
}

static int refuse(struct swap_iter *si, const char *why)
{
	si->sis->why = why;
	return -EINVAL;
}

/* Why the pages of this mapping cannot be written behind the file system's back. */
static const char *unfit(const struct swap_iter *si, const struct iomap *map)
{
	switch (map->type) {
	case IOMAP_MAPPED:
	case IOMAP_UNWRITTEN:
		break;
	case IOMAP_INLINE:
		return "the file is inline";
	default:
		return "the file has holes";
	}
	if (map->flags & IOMAP_F_DIRTY)
		return "metadata of the file is not durable";
	if (map->flags & IOMAP_F_SHARED)
		return "the file shares blocks with another one";
	return si->bdev && map->bdev != si->bdev ? "the file is on several devices" : NULL;
}

static int swap_iter(struct iomap_iter *iter, struct swap_iter *si)
{
	const struct iomap *map = &iter->iomap;
	const char *why = unfit(si, map);
	const uint64_t addr = iomap_sector_addr(map, iter->pos), len = iomap_length(iter);
	int err;

	if (why)
		return refuse(si, why);
	si->bdev = map->bdev;
	if (si->len && si->addr + si->len == addr) {
		si->len += len;
	} else {
		err = si->len ? add_run(si) : 0;
		if (err)
			return err;
		si->addr = addr;
		si->len = len;
	}
	return iomap_iter_advance_full(iter);
}

int iomap_swapfile_activate(struct swap_info *sis, struct inode *inode, uint64_t *pagespan,
			    const struct iomap_ops *ops)
{
	struct swap_iter si = { .sis = sis, .lowest = UINT64_MAX };
	struct iomap_iter iter = {
		.inode = inode,
		.len = ROUND_DOWN(i_size_read(inode), (uint64_t)FOLIO_PAGE_SIZE),
		.flags = IOMAP_REPORT,
	};
	int err;

	sis->nr_pages = 0;
	sis->nr_extents = 0;
	sis->why = NULL;
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = swap_iter(&iter, &si);
	if (!err && si.len)
		err = add_run(&si);
	if (err < 0)
		return err;
	if (sis->nr_pages == 0)
		return refuse(&si, "the file has no whole page");
	*pagespan = si.lowest == UINT64_MAX ? 0 : 1 + si.highest - si.lowest;
	return 0;
}

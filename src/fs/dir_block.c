/* SPDX-License-Identifier: MIT */
/*
 * One directory block: records that tile the space from OD_DIR_FIRST to the end. A record
 * with ino 0 is a hole; a hole is never followed by a hole, since removal joins them.
 *
 * A live record is as long as its name needs, or 8 bytes longer where the rest of its hole
 * was too short to carry a header of its own.
 */
#include "dir.h"

static struct od_dirent *dirent_of(void *blk, unsigned off)
{
	return (struct od_dirent *)((char *)blk + off);
}

void dir_block_init(void *blk, uint64_t index)
{
	struct od_dir_block *db = dir_block_of(blk);
	struct od_dirent *e = dirent_of(blk, OD_DIR_FIRST);

	db->index = le64_make(index);
	db->next_free = le64_make(0);
	memset(e, 0, OD_DIRENT_HDR);
	e->rec_len = le16_make(OD_MBLK_SIZE - OD_DIR_FIRST);
}

unsigned dir_block_find(const void *blk, uint32_t hash32, const char *name, size_t len)
{
	for (unsigned off = OD_DIR_FIRST; off < OD_MBLK_SIZE;) {
		const struct od_dirent *e = dirent_at(blk, off);

		if (le32_get(e->hash) == hash32 && le64_get(e->ino) && e->name_len == len &&
		    memcmp(e->name, name, len) == 0)
			return off;
		off += le16_get(e->rec_len);
	}
	return 0;
}

bool dir_block_is_entry(const void *blk, unsigned off)
{
	unsigned at = OD_DIR_FIRST;

	/* From the start: an offset read from disk could point into the middle of a name. */
	while (at < off)
		at += le16_get(dirent_at(blk, at)->rec_len);
	return at == off && at < OD_MBLK_SIZE && le64_get(dirent_at(blk, at)->ino);
}

unsigned dir_block_room(const void *blk, unsigned need)
{
	for (unsigned off = OD_DIR_FIRST; off < OD_MBLK_SIZE;) {
		const struct od_dirent *e = dirent_at(blk, off);

		if (!le64_get(e->ino) && le16_get(e->rec_len) >= need)
			return off;
		off += le16_get(e->rec_len);
	}
	return 0;
}

void dir_block_insert(void *blk, unsigned off, uint32_t hash32, const char *name, size_t len,
		      uint64_t ino, unsigned type)
{
	struct od_dirent *e = dirent_of(blk, off);
	unsigned hole = le16_get(e->rec_len);
	unsigned need = od_dirent_len((unsigned)len);

	assert(!le64_get(e->ino) && hole >= need);
	assert(ino && len && len <= OD_NAME_MAX);
	if (hole - need >= OD_DIRENT_HDR) {
		struct od_dirent *rest = dirent_of(blk, off + need);

		memset(rest, 0, OD_DIRENT_HDR);
		rest->rec_len = le16_make((uint16_t)(hole - need));
		hole = need;
	}
	memset(e, 0, hole);
	e->ino = le64_make(ino);
	e->hash = le32_make(hash32);
	e->rec_len = le16_make((uint16_t)hole);
	e->name_len = (uint8_t)len;
	e->type = (uint8_t)type;
	memcpy(e->name, name, len);
}

void dir_block_remove(void *blk, unsigned off)
{
	unsigned prev = 0, at = OD_DIR_FIRST, next, len;

	while (at < off) {
		prev = at;
		at += le16_get(dirent_at(blk, at)->rec_len);
	}
	assert(at == off && le64_get(dirent_at(blk, off)->ino));
	len = le16_get(dirent_at(blk, off)->rec_len);
	next = off + len;
	if (next < OD_MBLK_SIZE && !le64_get(dirent_at(blk, next)->ino))
		len += le16_get(dirent_at(blk, next)->rec_len);
	if (prev && !le64_get(dirent_at(blk, prev)->ino)) {
		off = prev;
		len += le16_get(dirent_at(blk, prev)->rec_len);
	}
	assert(off + len <= OD_MBLK_SIZE);
	/* Old names do not stay behind in holes. */
	memset(dirent_of(blk, off), 0, len);
	dirent_of(blk, off)->rec_len = le16_make((uint16_t)len);
}

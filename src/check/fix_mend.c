/* SPDX-License-Identifier: MIT */
/*
 * Repair: an inode that fails its checks. Where a field that fails can be had from others, or stands
 * for nothing, it is set right; only an inode whose type, number or place of data is in doubt is lost.
 */
#include <string.h>
#include <sys/stat.h>

#include "fix.h"

static void mend_time(struct od_time *t)
{
	if (le32_get(t->nsec) >= 1000000000u)
		t->nsec = le32_make(0);
}

/* Fields that mean nothing, or are counted anew in any case. */
static void mend_plain(struct chk *c, struct od_inode *di)
{
	const mode_t mode = le16_get(di->mode);

	if (!S_ISREG(mode) || !c->od.reflink)
		di->data_flags = le16_make(0);
	di->data_flags = le16_make(le16_get(di->data_flags) & OD_DATAF_KNOWN);
	if (od_verify_shift(&c->od, di)) {
		di->shift_op = le32_make(OD_SHIFT_NONE);
		di->shift_at = di->shift_len = di->shift_next = le64_make(0);
	}
	memset(di->spare, 0, sizeof(di->spare));
	mend_time(&di->atime);
	mend_time(&di->mtime);
	mend_time(&di->ctime);
	mend_time(&di->btime);
	di->flags = le32_make(le32_get(di->flags) & OD_FL_KNOWN);
	if (le32_get(di->nlink) > OD_LINK_MAX)
		di->nlink = le32_make(1);
	if (le64_get(di->nr_blocks) > c->od.dev_mblks << (OD_MBLK_SHIFT - 9))
		di->nr_blocks = le64_make(0);
	if (!S_ISCHR(mode) && !S_ISBLK(mode))
		di->rdev_major = di->rdev_minor = le32_make(0);
	if (!S_ISREG(mode))
		di->nr_extents = le64_make(0);
}

/* The lengths that follow from the format, and what follows from the lengths. */
static void mend_lengths(struct od_inode *di)
{
	const mode_t mode = le16_get(di->mode);
	struct od_dir_root root;

	if (S_ISREG(mode) && le64_get(di->size) > OD_FILE_SIZE_MAX)
		di->size = le64_make(0);
	switch (di->data_fmt) {
	case OD_DATA_NONE:
		di->data_len = le16_make(0);
		if (!S_ISDIR(mode))
			di->size = le64_make(0);
		break;
	case OD_DATA_INLINE:
		if (le64_get(di->size) <= OD_INODE_AREA)
			di->data_len = le16_make((uint16_t)le64_get(di->size));
		else
			di->size = le64_make(le16_get(di->data_len));
		di->nr_extents = le64_make(0);
		break;
	case OD_DATA_EXTENTS:
		if (le16_get(di->data_len) % sizeof(struct od_extent_rec))
			di->data_len = le16_make((uint16_t)(le64_get(di->nr_extents) *
							    sizeof(struct od_extent_rec)));
		di->nr_extents = le64_make(le16_get(di->data_len) / sizeof(struct od_extent_rec));
		break;
	case OD_DATA_TREE:
		di->data_len = le16_make(sizeof(struct od_root));
		if (le64_get(di->nr_extents) == 0)
			di->nr_extents = le64_make(1);
		break;
	case OD_DATA_DIR:
		di->data_len = le16_make(sizeof(root));
		memcpy(&root, di->area, sizeof(root));
		di->size = le64_make(le64_get(root.nr_blocks) << OD_MBLK_SHIFT);
		break;
	case OD_DATA_BLOB:
		di->data_len = le16_make(sizeof(le64_t));
		break;
	default:
		break;
	}
}

/* A form that cannot be: no attributes. */
static void mend_attrs(struct chk *c, struct od_inode *di)
{
	const unsigned len = le16_get(di->attr_len), data = le16_get(di->data_len);
	bool good = false;
	le64_t mblk;

	if (di->attr_fmt == OD_ATTR_INLINE) {
		good = len > 0 && len + data <= OD_INODE_AREA;
	} else if (di->attr_fmt == OD_ATTR_BLOB && data + sizeof(mblk) <= OD_INODE_AREA) {
		memcpy(&mblk, di->area + OD_INODE_AREA - sizeof(mblk), sizeof(mblk));
		di->attr_len = le16_make(sizeof(mblk));
		good = od_mblk_ok(&c->od, le64_get(mblk));
	}
	if (good)
		return;
	di->attr_fmt = OD_ATTR_NONE;
	di->attr_len = le16_make(0);
}

static bool sound(struct fix *f, const struct od_inode *di, uint64_t ino)
{
	return !od_verify_inode(&f->c->od, di, ino);
}

bool chk_fix_mend(struct fix *f, uint64_t ino, struct od_inode *di, bool *attrs_only)
{
	struct od_inode bare;

	*attrs_only = false;
	if (le16_get(di->mode) == 0 || le64_get(di->ino) != ino)
		return false;
	di->magic = le16_make(OD_INODE_MAGIC);
	mend_plain(f->c, di);
	mend_lengths(di);
	mend_attrs(f->c, di);
	if (S_ISDIR(le16_get(di->mode)) && !od_ino_ok(&f->c->od, le64_get(di->parent)))
		di->parent = le64_make(f->c->sb.root_ino);
	if (sound(f, di, ino))
		return true;
	/* Without its attributes it may be; they are looked at one by one then. */
	bare = *di;
	bare.attr_fmt = OD_ATTR_NONE;
	bare.attr_len = le16_make(0);
	*attrs_only = true;
	return sound(f, &bare, ino);
}

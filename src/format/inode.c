/* SPDX-License-Identifier: MIT */
/* Inode blocks and inodes. */
#include <sys/stat.h>

#include "format_private.h"

/* Longest symlink target: PATH_MAX without its NUL. */
#define SYMLINK_MAX 4095u

void od_inodes_init(void *block, const uint8_t meta_uuid[16], uint64_t mblk)
{
	memset(block, 0, OD_MBLK_SIZE);
	od_hdr_init(block, OD_MAGIC_INODES, meta_uuid, 0, mblk);
	for (unsigned slot = 1; slot <= OD_INODES_PER_MBLK; slot++) {
		const uint64_t ino = od_ino_make(mblk, slot);
		struct od_inode *di = (void *)((uint8_t *)block + od_ino_offset(ino));

		di->magic = le16_make(OD_INODE_MAGIC);
		di->ino = le64_make(ino);
	}
}

static bool time_ok(const struct od_time *t)
{
	return le32_get(t->nsec) < 1000000000u;
}

static uint64_t area_word(const struct od_inode *di, unsigned offset)
{
	le64_t v;

	memcpy(&v, di->area + offset, sizeof(v));
	return le64_get(v);
}

static const char *check_extent_list(const struct od_ctx *c, const struct od_inode *di)
{
	const unsigned len = le16_get(di->data_len);
	uint64_t next = 0;

	if (len % sizeof(struct od_extent_rec) != 0)
		return "extent-list-length";
	if (le64_get(di->nr_extents) != len / sizeof(struct od_extent_rec))
		return "extent-count";
	for (unsigned at = 0; at < len; at += sizeof(struct od_extent_rec)) {
		struct od_extent_rec rec;
		const char *bad;

		memcpy(&rec, di->area + at, sizeof(rec));
		bad = od_verify_extent(c, le64_get(rec.file_block), &rec.val, &next);
		if (bad)
			return bad;
	}
	return NULL;
}

static const char *check_regular(const struct od_ctx *c, const struct od_inode *di)
{
	struct od_root root;
	const char *bad;

	switch (di->data_fmt) {
	case OD_DATA_INLINE:
		if (le64_get(di->nr_extents) != 0)
			return "extent-count";
		return le64_get(di->size) == le16_get(di->data_len) ? NULL : "inline-size";
	case OD_DATA_EXTENTS:
		return check_extent_list(c, di);
	case OD_DATA_TREE:
		if (le16_get(di->data_len) != sizeof(root))
			return "data-length";
		memcpy(&root, di->area, sizeof(root));
		bad = od_verify_root(c, &root);
		if (bad)
			return bad;
		if (le64_get(root.mblk) == 0)
			return "extent-tree-empty";
		return le64_get(di->nr_extents) != 0 ? NULL : "extent-count";
	default:
		return "data-format-of-file";
	}
}

static const char *check_directory(const struct od_ctx *c, const struct od_inode *di)
{
	struct od_dir_root root;
	uint64_t nr_blocks;
	const char *bad;

	if (di->data_fmt != OD_DATA_DIR)
		return "data-format-of-directory";
	if (le16_get(di->data_len) != sizeof(root))
		return "data-length";
	if (!od_ino_ok(c, le64_get(di->parent)))
		return "parent-out-of-bounds";
	memcpy(&root, di->area, sizeof(root));
	nr_blocks = le64_get(root.nr_blocks);
	if (nr_blocks > OD_FILE_SIZE_MAX >> OD_MBLK_SHIFT ||
	    le64_get(di->size) != nr_blocks << OD_MBLK_SHIFT)
		return "directory-size";
	if (le64_get(root.block0) != 0 && !od_mblk_ok(c, le64_get(root.block0)))
		return "directory-block-out-of-bounds";
	if (le64_get(root.free_head) > nr_blocks)
		return "directory-free-list-out-of-bounds";
	bad = od_verify_root(c, &root.map);
	if (!bad)
		bad = od_verify_root(c, &root.hash);
	if (bad)
		return bad;
	if (nr_blocks <= 1 && (le64_get(root.map.mblk) != 0 || le64_get(root.hash.mblk) != 0))
		return "directory-trees-not-empty";
	if (nr_blocks == 0 && (le64_get(root.block0) != 0 || le64_get(root.nr_entries) != 0))
		return "directory-not-empty";
	return NULL;
}

static const char *check_symlink(const struct od_ctx *c, const struct od_inode *di)
{
	const uint64_t size = le64_get(di->size);

	if (size == 0 || size > SYMLINK_MAX)
		return "symlink-length";
	switch (di->data_fmt) {
	case OD_DATA_INLINE:
		if (le16_get(di->data_len) != size)
			return "inline-size";
		return memchr(di->area, '\0', size) ? "symlink-holds-nul" : NULL;
	case OD_DATA_BLOB:
		if (le16_get(di->data_len) != sizeof(le64_t))
			return "data-length";
		return od_mblk_ok(c, area_word(di, 0)) ? NULL : "symlink-blob-out-of-bounds";
	default:
		return "data-format-of-symlink";
	}
}

static const char *check_data(const struct od_ctx *c, const struct od_inode *di)
{
	const mode_t mode = le16_get(di->mode);

	if (!S_ISREG(mode) && le64_get(di->nr_extents) != 0)
		return "extent-count";
	if (!S_ISCHR(mode) && !S_ISBLK(mode) &&
	    (le32_get(di->rdev_major) != 0 || le32_get(di->rdev_minor) != 0))
		return "device-number-of-other-type";
	switch (mode & S_IFMT) {
	case S_IFREG:
		return check_regular(c, di);
	case S_IFDIR:
		return check_directory(c, di);
	case S_IFLNK:
		return check_symlink(c, di);
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		if (di->data_fmt != OD_DATA_NONE || le16_get(di->data_len) != 0)
			return "data-format-of-special-file";
		return le64_get(di->size) == 0 ? NULL : "special-file-size";
	default:
		return "unknown-file-type";
	}
}

/* Addresses in an inline list that od_verify_xattrs, without a context, could not judge. */
static const char *check_xattr_blobs(const struct od_ctx *c, const uint8_t *list, size_t len)
{
	while (len > 0) {
		struct od_xattr x;

		memcpy(&x, list, sizeof(x));
		/* Only a record with a blob is sure to have eight bytes behind its name. */
		if (le16_get(x.flags) & OD_XATTR_BLOB) {
			le64_t mblk;

			memcpy(&mblk, list + sizeof(x) + x.name_len, sizeof(mblk));
			if (!od_mblk_ok(c, le64_get(mblk)))
				return "xattr-blob-out-of-bounds";
		}
		list += od_xattr_rec_len(&x);
		len -= od_xattr_rec_len(&x);
	}
	return NULL;
}

static const char *check_attrs(const struct od_ctx *c, const struct od_inode *di)
{
	const unsigned len = le16_get(di->attr_len);
	const uint8_t *list = di->area + OD_INODE_AREA - len;
	const char *bad;

	switch (di->attr_fmt) {
	case OD_ATTR_NONE:
		return len == 0 ? NULL : "attr-length";
	case OD_ATTR_INLINE:
		if (len == 0)
			return "attr-length";
		bad = od_verify_xattrs(list, len);
		return bad ? bad : check_xattr_blobs(c, list, len);
	case OD_ATTR_BLOB:
		if (len != sizeof(le64_t))
			return "attr-length";
		return od_mblk_ok(c, area_word(di, OD_INODE_AREA - len)) ?
			       NULL :
			       "attr-blob-out-of-bounds";
	default:
		return "unknown-attr-format";
	}
}

/* A collapse or an insertion that is under way. */
const char *od_verify_shift(const struct od_ctx *c, const struct od_inode *di)
{
	const uint64_t at = le64_get(di->shift_at), len = le64_get(di->shift_len);
	const uint64_t next = le64_get(di->shift_next), size = le64_get(di->size);
	const uint64_t max = (OD_FILE_SIZE_MAX >> c->block_shift) + 1;
	const uint32_t op = le32_get(di->shift_op);

	if (op == OD_SHIFT_NONE)
		return at == 0 && len == 0 && next == 0 ? NULL : "shift-without-operation";
	if (op != OD_SHIFT_COLLAPSE && op != OD_SHIFT_INSERT)
		return "unknown-shift";
	if (!S_ISREG(le16_get(di->mode)) ||
	    (di->data_fmt != OD_DATA_EXTENTS && di->data_fmt != OD_DATA_TREE))
		return "shift-without-extents";
	if (len == 0 || at >= max || len > max - at || next > max)
		return "shift-out-of-bounds";
	/* Its end must not take the size below nothing, or past the largest file. */
	if (op == OD_SHIFT_COLLAPSE && at + len > size >> c->block_shift)
		return "shift-past-end";
	if (op == OD_SHIFT_INSERT && len > (OD_FILE_SIZE_MAX - size) >> c->block_shift)
		return "shift-past-end";
	if (op == OD_SHIFT_INSERT)
		return next >= at ? NULL : "shift-position";
	return next == at || next >= at + len ? NULL : "shift-position";
}

const char *od_verify_inode(const struct od_ctx *c, const struct od_inode *di, uint64_t ino)
{
	const char *bad;

	if (!od_ino_ok(c, ino))
		return "inode-number-out-of-bounds";
	if (le16_get(di->magic) != OD_INODE_MAGIC)
		return "inode-magic";
	if (le64_get(di->ino) != ino)
		return "inode-number";
	if (le16_get(di->mode) == 0)
		return le32_get(di->nlink) == 0 ? NULL : "free-inode-with-links";
	if (le32_get(di->nlink) > OD_LINK_MAX)
		return "link-count-out-of-bounds";
	if (le32_get(di->flags) & ~OD_FL_KNOWN)
		return "unknown-inode-flag";
	if (le64_get(di->size) > OD_FILE_SIZE_MAX)
		return "size-out-of-bounds";
	if (le64_get(di->nr_blocks) > c->dev_mblks << (OD_MBLK_SHIFT - 9))
		return "block-count-out-of-bounds";
	if (!time_ok(&di->atime) || !time_ok(&di->mtime) || !time_ok(&di->ctime) ||
	    !time_ok(&di->btime))
		return "nanoseconds-out-of-bounds";
	if ((le16_get(di->data_flags) & ~OD_DATAF_KNOWN) ||
	    (le16_get(di->data_flags) && (!c->reflink || !S_ISREG(le16_get(di->mode)))))
		return "inode-data-flags";
	bad = od_verify_shift(c, di);
	if (bad)
		return bad;
	if (!od_all_zero(di->spare, sizeof(di->spare)))
		return "inode-spare-not-zero";
	if (le16_get(di->data_len) + le16_get(di->attr_len) > (int)OD_INODE_AREA)
		return "area-overflow";
	bad = check_data(c, di);
	return bad ? bad : check_attrs(c, di);
}

const char *od_verify_inodes_hdr(const struct od_ctx *c, const void *block, uint64_t mblk,
				 bool check_crc)
{
	const struct od_hdr *h = block;
	const char *bad;

	if (!od_mblk_ok(c, mblk))
		return "wrong-address";
	bad = od_verify_hdr_part(c, block, OD_MAGIC_INODES, mblk, 0, check_crc);
	if (bad)
		return bad;
	if (!od_hdr_plain(h))
		return "header-fields-not-zero";
	return NULL;
}

const char *od_verify_inodes(const struct od_ctx *c, const void *block, uint64_t mblk,
			     bool check_crc)
{
	const char *bad = od_verify_inodes_hdr(c, block, mblk, check_crc);

	for (unsigned slot = 1; slot <= OD_INODES_PER_MBLK && !bad; slot++) {
		const uint64_t ino = od_ino_make(mblk, slot);

		bad = od_verify_inode(c, (const void *)((const uint8_t *)block + od_ino_offset(ino)),
				      ino);
	}
	return bad;
}

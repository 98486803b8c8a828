/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes and blobs: what xattr.c, xattr_list.c, xattr_blob.c, acl.c and
 * symlink.c share (docs/FORMAT.md, "Blobs and extended attributes").
 *
 * An inode's attributes are one list of records, at the end of the inode's area or, when they
 * are too many for it, in a blob of its own. A value too large for the list has its own blob.
 *
 * Locks: the extlock guards area and list for readers; who changes attributes also holds
 * i_rwsem exclusively (or is alone with the inode), so that a plan stays true. Only data may
 * take room in the area meanwhile: xattr_plan_fits judges that again inside the handle.
 */
#ifndef FS_XATTR_H
#define FS_XATTR_H

#include "change.h"

/*
 * Bounds that keep the worst change, a large value in place of another with the list rewritten,
 * within one journal handle: 8 + 17 blocks written and as many freed.
 */
#define XATTR_LIST_BLOCKS 8u
#define XATTR_RECS_MAX    (XATTR_LIST_BLOCKS * OD_BLOB_DATA) /* bytes of all records of an inode */
#define XATTR_INLIST_MAX  1024u                               /* larger values get a blob */
#define XATTR_BLOB_BLOCKS DIV_ROUND_UP(OD_XATTR_VALUE_MAX, OD_BLOB_DATA)
#define XATTR_OLD_MAX     (XATTR_LIST_BLOCKS + XATTR_BLOB_BLOCKS)

/* An address in a list or an inode's area: at any byte. */
static inline uint64_t le64_at(const uint8_t *p)
{
	le64_t v;

	memcpy(&v, p, sizeof(v));
	return le64_get(v);
}

/* ---- Blobs (xattr_blob.c) ------------------------------------------------------------- */

static inline unsigned xattr_blob_blocks(size_t len)
{
	return (unsigned)DIV_ROUND_UP(len, OD_BLOB_DATA);
}
/* Read all of a blob of at most max bytes; *out is malloc'ed. extlock held. */
int xattr_blob_read(struct fs_inode *ip, uint64_t mblk, size_t max, unsigned flags, uint8_t **out,
		    size_t *len);
/* Addresses of its blocks; -EFSCORRUPTED for more than max. */
int xattr_blob_blocks_of(struct fs_inode *ip, uint64_t mblk, unsigned flags, uint64_t *blocks,
			 unsigned max);
/* xattr_blob_blocks(len) allocations and credits; counts them in ip->nr_blocks. extlock held. */
int xattr_blob_write(struct jnl_handle *h, struct fs_inode *ip, const void *data, size_t len,
		     uint64_t *mblk);
int xattr_blob_free(struct jnl_handle *h, struct fs_inode *ip, const uint64_t *blocks, unsigned n);

/* FIEMAP_FLAG_XATTR (xattr_iomap.c). */
extern const struct iomap_ops fs_xattr_iomap_ops;

/* ---- Lists (xattr_list.c) ---------------------------------------------------------------- */

struct xattr_name {
	unsigned ns;      /* enum od_xattr_ns */
	const char *name; /* without its prefix */
	size_t len;
};
/* -EOPNOTSUPP, -EINVAL, -ERANGE */
int xattr_name_parse(const char *full, struct xattr_name *out);
/* "user." and so on; the whole name for the ACLs. */
const char *xattr_prefix(unsigned ns);

/* A record inside a list. */
struct xattr_rec {
	size_t off, rec_len;
	struct xattr_name name;
	const uint8_t *value;  /* or the le64 blob address */
	uint32_t value_len;
	bool blob;
};
/* The record at *off (sound lists only); moves on. False at the end. */
bool xattr_next(const uint8_t *list, size_t len, size_t *off, struct xattr_rec *out);
bool xattr_find(const uint8_t *list, size_t len, const struct xattr_name *n, struct xattr_rec *out);
/*
 * The inode's list: *list points into the area, or to *mem, which the caller frees (both NULL
 * when there is none). extlock held, -EAGAIN with FS_NOWAIT.
 */
int xattr_load(struct fs_inode *ip, unsigned flags, const uint8_t **list, size_t *len,
	       uint8_t **mem);
/* Value of a record; *mem as above. */
int xattr_value(struct fs_inode *ip, const struct xattr_rec *r, unsigned flags,
		const uint8_t **value, uint8_t **mem);

/* A change: the list as it will be, and what goes away. */
struct xattr_plan {
	uint8_t *list;          /* XATTR_RECS_MAX bytes of room */
	size_t len;
	uint64_t old[XATTR_OLD_MAX]; /* blocks to free */
	unsigned nr_old;
	const void *big;        /* value that gets a blob, or NULL; the caller's memory */
	size_t big_len, big_at; /* where the address goes in the list */
	bool in_area;           /* planned: the list stays in the inode */
};
/* Begin with what ip has (NULL: a new inode). Release with xattr_plan_put, also on error. */
int xattr_plan_begin(struct xattr_plan *p, struct fs_inode *ip, unsigned flags);
/* value NULL removes. -ENODATA, -EEXIST (XATTR_*), -ENOSPC; at most one large value a plan. */
int xattr_plan_set(struct xattr_plan *p, struct fs_inode *ip, unsigned flags,
		   const struct xattr_name *n, const void *value, size_t size, int xflags);
/* What the handle must have, the inode itself not included. data_len: of the area. */
int xattr_plan_need(struct xattr_plan *p, unsigned data_len, struct fs_need *need);
/* Has data left the room that was planned with? extlock held. */
bool xattr_plan_fits(const struct xattr_plan *p, const struct fs_inode *ip);
/* Make it so; extlock held, fs_ilog follows. An error: abort. */
int xattr_plan_apply(struct jnl_handle *h, struct fs_inode *ip, struct xattr_plan *p);
void xattr_plan_put(struct xattr_plan *p);

/* ---- POSIX ACLs (acl.c) ------------------------------------------------------------------------ */

/* What a new inode gets from dir: *mode with default ACL or umask applied, and its attributes. */
int acl_inherit(struct fs_ctx *ctx, struct fs_inode *dir, mode_t *mode, struct xattr_plan *p);
/*
 * A value given to an ACL attribute: checked, and what it does to the mode (access ACLs).
 * *drop: equal to a mode, or empty: nothing to store.
 */
int acl_check_set(const struct xattr_name *n, mode_t *mode, const void *value, size_t size,
		  bool *drop);
/* chmod: put the permission bits of mode into a stored access ACL. */
void acl_set_mode(void *acl, size_t size, mode_t mode);

#endif

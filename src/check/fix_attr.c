/* SPDX-License-Identifier: MIT */
/*
 * Repair: extended attributes. A list that fails is gone through record by record: what is sound
 * stays, the rest is dropped. What stays goes back into the inode, or into a blob of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "fix.h"

/* Comparing each with all before it: a list of so many that fails is not worth more. */
#define RECORDS_MAX 2048u

struct salvage {
	struct fix *f;
	uint64_t ino;
	uint8_t *list;           /* what stays */
	size_t len;
	uint64_t mblks;          /* of values in blobs */
	unsigned kept, dropped;
};

static bool is_there(const struct salvage *s, const uint8_t *rec)
{
	struct od_xattr x, y;

	memcpy(&x, rec, sizeof(x));
	for (size_t at = 0; at < s->len; at += od_xattr_rec_len(&y)) {
		memcpy(&y, s->list + at, sizeof(y));
		if (x.ns == y.ns && x.name_len == y.name_len &&
		    !memcmp(rec + sizeof(x), s->list + at + sizeof(y), x.name_len))
			return true;
	}
	return false;
}

/* One record of `len` bytes, which alone is a list that passes: what it leads to must be its own. */
static bool record_ok(struct salvage *s, const uint8_t *rec, size_t len)
{
	uint64_t mblks = 0;
	struct fix_trial t;

	if (is_there(s, rec))
		return false;
	chk_fix_trial_begin(s->f, &t);
	chk_attr_list(&t.c, s->ino, rec, len, &mblks);
	if (!chk_fix_trial_end(s->f, &t))
		return false;
	s->mblks += mblks;
	return true;
}

/*
 * Where the records after a broken one begin: its length may be what is broken. The first place
 * from which the rest is a sound list; len: there is none.
 */
static size_t behind_broken(const uint8_t *list, size_t at, size_t len)
{
	for (at += 4; len - at >= sizeof(struct od_xattr); at += 4)
		if (!od_verify_xattrs(list + at, len - at))
			return at;
	return len;
}

static void go_through(struct salvage *s, const uint8_t *list, size_t len)
{
	size_t at = 0, rec_len;
	struct od_xattr x;

	/* Padded to four, as every list is; what is cut off could not be a record. */
	len = ROUND_DOWN(len, 4);
	while (len - at >= sizeof(x) && s->kept + s->dropped < RECORDS_MAX) {
		memcpy(&x, list + at, sizeof(x));
		rec_len = od_xattr_rec_len(&x);
		if (rec_len > len - at || od_verify_xattrs(list + at, rec_len)) {
			s->dropped++;
			at = behind_broken(list, at, len);
			continue;
		}
		if (record_ok(s, list + at, rec_len)) {
			memcpy(s->list + s->len, list + at, rec_len);
			s->len += rec_len;
			s->kept++;
		} else {
			s->dropped++;
		}
		at += rec_len;
	}
}

/* The old list, in memory of its own; NULL: there is none to be read. */
static uint8_t *old_list(struct fix *f, const struct od_inode *di, size_t *len)
{
	const unsigned attr_len = le16_get(di->attr_len);
	const uint8_t *area_end = di->area + OD_INODE_AREA;
	struct fix_trial t;
	uint8_t *list = NULL;
	uint64_t mblks = 0;
	le64_t mblk;

	if (di->attr_fmt == OD_ATTR_INLINE && attr_len <= OD_INODE_AREA) {
		*len = attr_len;
		list = malloc(attr_len + 1);
		if (list)
			memcpy(list, area_end - attr_len, attr_len);
	} else if (di->attr_fmt == OD_ATTR_BLOB) {
		memcpy(&mblk, area_end - sizeof(mblk), sizeof(mblk));
		if (!od_mblk_ok(&f->c->od, le64_get(mblk)))
			return NULL;
		/* Only read: its blocks are given up, the list is written anew. */
		chk_fix_trial_begin(f, &t);
		list = chk_blob_read(&t.c, le64_get(di->ino), le64_get(mblk), len, &mblks);
		chk_fix_trial_drop(f, &t);
	}
	return list;
}

static uint64_t blob_mblks(size_t len)
{
	return DIV_ROUND_UP(len, OD_BLOB_DATA);
}

/* Where the list fits in the inode it goes there now; else a blob is built when all is claimed. */
static int put_list(struct salvage *s, struct od_inode *edit, uint64_t *mblks)
{
	const struct fix_attrs later = { .ino = s->ino, .list = s->list, .len = s->len };

	*mblks = s->mblks;
	edit->attr_fmt = OD_ATTR_NONE;
	edit->attr_len = le16_make(0);
	if (s->len > 0 && le16_get(edit->data_len) + s->len <= OD_INODE_AREA) {
		memcpy(edit->area + OD_INODE_AREA - s->len, s->list, s->len);
		edit->attr_fmt = OD_ATTR_INLINE;
		edit->attr_len = le16_make((uint16_t)s->len);
	} else if (s->len > 0) {
		/* Its place is kept. */
		memset(edit->area + OD_INODE_AREA - sizeof(le64_t), 0, sizeof(le64_t));
		edit->attr_len = le16_make(sizeof(le64_t));
		*mblks += blob_mblks(s->len);
		if (chk_vec_push(s->f->c, &s->f->attrs, &later))
			return 0;
	}
	free(s->list);
	return s->f->c->error;
}

int chk_fix_attrs(struct fix *f, uint64_t ino, uint64_t *mblks)
{
	struct salvage s = { .f = f, .ino = ino };
	struct od_inode di, *edit;
	struct fix_trial t;
	uint8_t *list;
	size_t len = 0;

	*mblks = 0;
	if (!chk_fix_inode_now(f, ino, &di))
		return -EIO;
	if (di.attr_fmt == OD_ATTR_NONE)
		return 0;
	chk_fix_trial_begin(f, &t);
	chk_attrs(&t.c, &di, ino, mblks);
	if (chk_fix_trial_end(f, &t))
		return 0;
	edit = chk_fix_inode_edit(f, ino);
	list = old_list(f, &di, &len);
	s.list = malloc(len + 1);
	if (!edit || !s.list) {
		free(list);
		free(s.list);
		return -ENOMEM;
	}
	if (list)
		go_through(&s, list, len);
	free(list);
	if (f->out)
		fprintf(f->out, "inode %llu: %u attributes are kept%s\n", (unsigned long long)ino, s.kept,
			list ? "" : ", the list could not be read");
	return put_list(&s, edit, mblks);
}

/* ---- Lists in blobs of their own --------------------------------------------------------- */

static int write_blob(struct fix *f, const struct fix_attrs *a, const uint64_t *mblk, uint64_t n)
{
	uint8_t *block = chk_block_alloc(f->c);
	struct od_blob *b = (void *)(block + OD_HDR_SIZE);
	int err = block ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < n && !err; i++) {
		const size_t at = i * OD_BLOB_DATA, len = MIN(a->len - at, (size_t)OD_BLOB_DATA);

		memset(block, 0, OD_MBLK_SIZE);
		od_hdr_init(block, OD_MAGIC_BLOB, f->c->od.meta_uuid, a->ino, mblk[i]);
		b->next = le64_make(i + 1 < n ? mblk[i + 1] : 0);
		b->len = le32_make((uint32_t)len);
		b->total = le32_make(i == 0 ? (uint32_t)a->len : 0);
		memcpy(b + 1, a->list + at, len);
		err = chk_fix_write(f, mblk[i], block);
	}
	free(block);
	return err;
}

int chk_fix_attrs_build(struct fix *f, struct fix_attrs *a)
{
	uint64_t mblk[DIV_ROUND_UP(OD_BLOB_MAX, OD_BLOB_DATA)];
	struct od_inode *edit = chk_fix_inode_edit(f, a->ino);
	const uint64_t n = blob_mblks(a->len);
	const le64_t *first = (const void *)mblk;
	int err;

	assert(n <= ARRAY_SIZE(mblk));
	if (!edit)
		return -ENOMEM;
	for (uint64_t i = 0; i < n; i++) {
		mblk[i] = chk_fix_alloc(f, FIX_ANY_GROUP);
		if (!mblk[i])
			return f->c->error ? f->c->error : -ENOSPC;
	}
	err = write_blob(f, a, mblk, n);
	memcpy(edit->area + OD_INODE_AREA - sizeof(*first), first, sizeof(*first));
	edit->attr_fmt = OD_ATTR_BLOB;
	return err;
}

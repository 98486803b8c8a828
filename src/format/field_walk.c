/* SPDX-License-Identifier: MIT */
/*
 * Every byte of a metadata block by name. The block may be damaged: each count and length in it is
 * held against what is left of the block before it is believed.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "format_private.h"
#include "iomapfs/format_field.h"

/* Structures nest this deep at most: inode, dir, map. */
#define DEPTH_MAX 4

struct walk {
	const uint8_t *block;
	int (*fn)(void *arg, const struct od_place *place);
	void *arg;
	unsigned at;     /* bytes named so far */
	int stopped;     /* what fn returned */
	char path[OD_PATH_MAX];
	size_t path_len;
};

/* ---- Paths ----------------------------------------------------------------------- */

/* Append ".name" or ".name[i]"; returns what path_cut takes it off again by. */
static size_t path_add(struct walk *w, const char *name, int index)
{
	const size_t before = w->path_len;
	char *to = w->path + before;
	const size_t room = sizeof(w->path) - before;
	const char *dot = before ? "." : "";
	int n = index < 0 ? snprintf(to, room, "%s%s", dot, name) :
			    snprintf(to, room, "%s%s[%d]", dot, name, index);

	assert(n > 0 && (size_t)n < room);
	w->path_len += (size_t)n;
	return before;
}

static void path_cut(struct walk *w, size_t to)
{
	w->path_len = to;
	w->path[to] = '\0';
}

/* ---- Fields ---------------------------------------------------------------------- */

/* The next size bytes are the field that the path names. */
static void name_bytes(struct walk *w, unsigned size, enum od_field_kind kind,
		       const struct od_struct *in, const struct od_field *field)
{
	const struct od_place place = { .path = w->path, .in = in, .field = field, .offset = (uint16_t)w->at,
					.size = (uint16_t)size, .kind = kind };

	assert(size <= OD_MBLK_SIZE - w->at);
	w->at += size;
	if (size > 0 && !w->stopped)
		w->stopped = w->fn(w->arg, &place);
}

/* Bytes that are no member of a structure. */
static void loose(struct walk *w, const char *name, unsigned size, enum od_field_kind kind)
{
	const size_t before = path_add(w, name, -1);

	name_bytes(w, size, kind, NULL, NULL);
	path_cut(w, before);
}

static unsigned left(const struct walk *w)
{
	return OD_MBLK_SIZE - w->at;
}

static void members(struct walk *w, const struct od_struct *s, unsigned nr_fields, unsigned depth)
{
	assert(depth < DEPTH_MAX && nr_fields <= s->nr_fields);
	for (unsigned i = 0; i < nr_fields; i++) {
		const struct od_field *f = &s->fields[i];

		for (unsigned k = 0; k < f->count; k++) {
			const size_t before = path_add(w, f->name, f->count > 1 ? (int)k : -1);

			if (f->sub)
				members(w, f->sub, f->sub->nr_fields, depth + 1);
			else
				name_bytes(w, f->size, f->kind, s, f);
			path_cut(w, before);
		}
	}
}

static const struct od_struct *by_name(const char *name)
{
	const struct od_struct *s;

	for (unsigned i = 0; (s = od_struct_get(i)); i++)
		if (!strcmp(s->name, name))
			return s;
	assert(!"a structure that is not in the table");
	return NULL;
}

/* A structure under a name of its own; index < 0: not one of many. */
static void whole(struct walk *w, const char *name, int index, const struct od_struct *s)
{
	const size_t before = name ? path_add(w, name, index) : w->path_len;

	members(w, s, s->nr_fields, 0);
	path_cut(w, before);
}

static void header(struct walk *w)
{
	whole(w, "hdr", -1, by_name("od_hdr"));
}

static void rest(struct walk *w, enum od_field_kind kind)
{
	loose(w, "rest", left(w), kind);
}

/* ---- Blocks of one structure ------------------------------------------------------- */

static void walk_fixed(struct walk *w, const char *name)
{
	whole(w, NULL, -1, by_name(name));
	rest(w, OD_FK_SPARE);
}

static void walk_sb(struct walk *w)
{
	walk_fixed(w, "od_sb");
}

static void walk_ag(struct walk *w)
{
	walk_fixed(w, "od_ag");
}

static void walk_mmp(struct walk *w)
{
	walk_fixed(w, "od_mmp");
}

static void walk_jsb(struct walk *w)
{
	walk_fixed(w, "od_jsb");
}

static void walk_jcommit(struct walk *w)
{
	walk_fixed(w, "od_jcommit");
}

/* ---- Blocks of records ---------------------------------------------------------------- */

static unsigned nr_recs(const struct walk *w, unsigned size)
{
	const struct od_hdr *h = (const void *)w->block;

	return MIN(le16_get(h->nrecs), OD_PAYLOAD / size);
}

static void walk_btree(struct walk *w)
{
	const struct od_hdr *h = (const void *)w->block;
	const struct od_struct *rec = od_tree_rec(le16_get(h->type), le16_get(h->level) == 0);
	const unsigned n = rec ? nr_recs(w, rec->size) : 0;

	header(w);
	for (unsigned i = 0; i < n; i++)
		whole(w, "rec", (int)i, rec);
	rest(w, OD_FK_UNUSED);
}

static void walk_jdesc(struct walk *w)
{
	const struct od_struct *entry = by_name("od_jdesc_entry");
	const unsigned n = nr_recs(w, entry->size);

	header(w);
	for (unsigned i = 0; i < n; i++)
		whole(w, "entry", (int)i, entry);
	rest(w, OD_FK_UNUSED);
}

static void walk_jrev(struct walk *w)
{
	const unsigned n = nr_recs(w, sizeof(le64_t));

	header(w);
	for (unsigned i = 0; i < n; i++) {
		const size_t before = path_add(w, "revoked", (int)i);

		name_bytes(w, sizeof(le64_t), OD_FK_MBLK, NULL, NULL);
		path_cut(w, before);
	}
	rest(w, OD_FK_UNUSED);
}

static void walk_blob(struct walk *w)
{
	const struct od_blob *b = (const void *)(w->block + OD_HDR_SIZE);
	const unsigned len = MIN(le32_get(b->len), OD_BLOB_DATA);

	header(w);
	whole(w, NULL, -1, by_name("od_blob"));
	loose(w, "data", len, OD_FK_BYTES);
	rest(w, OD_FK_UNUSED);
}

static void walk_entry(struct walk *w, int i)
{
	const struct od_dirent *de = (const void *)(w->block + w->at);
	const unsigned rec_len = le16_get(de->rec_len);
	const unsigned name = le64_get(de->ino) ? MIN((unsigned)de->name_len, rec_len - OD_DIRENT_HDR) : 0;
	const size_t before = path_add(w, le64_get(de->ino) ? "entry" : "free", i);

	members(w, by_name("od_dirent"), by_name("od_dirent")->nr_fields, 0);
	loose(w, "name", name, OD_FK_TEXT);
	loose(w, "unused", rec_len - OD_DIRENT_HDR - name, OD_FK_UNUSED);
	path_cut(w, before);
}

static void walk_dir(struct walk *w)
{
	header(w);
	whole(w, NULL, -1, by_name("od_dir_block"));
	for (int i = 0; left(w) >= OD_DIRENT_HDR; i++) {
		const struct od_dirent *de = (const void *)(w->block + w->at);
		const unsigned rec_len = le16_get(de->rec_len);

		if (rec_len < OD_DIRENT_HDR || rec_len > left(w))
			break;
		walk_entry(w, i);
	}
	rest(w, OD_FK_BYTES);
}

/* ---- Inodes -------------------------------------------------------------------------------- */

/* The next `len` bytes: contents of the inode's area from its start. */
static void area_data(struct walk *w, const struct od_inode *di, unsigned len)
{
	const unsigned end = w->at + len;
	const struct od_struct *s = NULL;

	switch (di->data_fmt) {
	case OD_DATA_INLINE:
		loose(w, "data", len, S_ISLNK(le16_get(di->mode)) ? OD_FK_TEXT : OD_FK_BYTES);
		return;
	case OD_DATA_EXTENTS:
		s = by_name("od_extent_rec");
		for (int i = 0; end - w->at >= s->size; i++)
			whole(w, "extent", i, s);
		break;
	case OD_DATA_TREE:
		s = by_name("od_root");
		if (len >= s->size)
			whole(w, "tree", -1, s);
		break;
	case OD_DATA_DIR:
		s = by_name("od_dir_root");
		if (len >= s->size)
			whole(w, "dir", -1, s);
		break;
	case OD_DATA_BLOB:
		if (len >= sizeof(le64_t))
			loose(w, "blob", sizeof(le64_t), OD_FK_MBLK);
		break;
	default:
		break;
	}
	loose(w, "data", end - w->at, OD_FK_BYTES);
}

/* One attribute of a list that ends at `end`; false when what is there is none. */
static bool area_attr(struct walk *w, int i, unsigned end)
{
	struct od_xattr x;
	size_t len, before;
	bool blob;

	if (end - w->at < sizeof(x))
		return false;
	memcpy(&x, w->block + w->at, sizeof(x));
	len = od_xattr_rec_len(&x);
	blob = le16_get(x.flags) & OD_XATTR_BLOB;
	if (len > end - w->at)
		return false;
	before = path_add(w, "xattr", i);
	end = w->at + (unsigned)len;
	members(w, by_name("od_xattr"), by_name("od_xattr")->nr_fields, 0);
	loose(w, "name", x.name_len, OD_FK_TEXT);
	if (blob)
		loose(w, "blob", sizeof(le64_t), OD_FK_MBLK);
	else
		loose(w, "value", le32_get(x.value_len), OD_FK_BYTES);
	loose(w, "pad", end - w->at, OD_FK_UNUSED);
	path_cut(w, before);
	return true;
}

static void area_attrs(struct walk *w, const struct od_inode *di, unsigned len)
{
	const unsigned end = w->at + len;

	if (di->attr_fmt == OD_ATTR_BLOB && len == sizeof(le64_t))
		loose(w, "attr_blob", sizeof(le64_t), OD_FK_MBLK);
	if (di->attr_fmt == OD_ATTR_INLINE)
		for (int i = 0; w->at < end && area_attr(w, i, end); i++)
			;
	loose(w, "attrs", end - w->at, OD_FK_BYTES);
}

static void walk_inode(struct walk *w, int slot)
{
	const struct od_inode *di = (const void *)(w->block + w->at);
	const unsigned data = le16_get(di->data_len), attrs = le16_get(di->attr_len);
	const struct od_struct *s = by_name("od_inode");
	const size_t before = path_add(w, "inode", slot);

	/* All members but the last, the area. */
	members(w, s, s->nr_fields - 1, 0);
	if (le16_get(di->mode) == 0 || data + attrs > OD_INODE_AREA) {
		loose(w, "area", OD_INODE_AREA, le16_get(di->mode) ? OD_FK_BYTES : OD_FK_UNUSED);
	} else {
		area_data(w, di, data);
		loose(w, "unused", OD_INODE_AREA - data - attrs, OD_FK_UNUSED);
		area_attrs(w, di, attrs);
	}
	path_cut(w, before);
}

/* By slot, as inode numbers have it: 1 to 7. */
static void walk_inodes(struct walk *w)
{
	header(w);
	for (unsigned slot = 1; slot <= OD_INODES_PER_MBLK; slot++)
		walk_inode(w, (int)slot);
}

/* ---- Blocks ----------------------------------------------------------------------------------- */

static const struct {
	uint32_t magic;
	const char *name;
	void (*walk)(struct walk *w);
} blocks[] = {
	{ OD_MAGIC_SB, "superblock", walk_sb },
	{ OD_MAGIC_AG, "group header", walk_ag },
	{ OD_MAGIC_BTREE, "tree node", walk_btree },
	{ OD_MAGIC_INODES, "inodes", walk_inodes },
	{ OD_MAGIC_DIR, "directory block", walk_dir },
	{ OD_MAGIC_BLOB, "blob", walk_blob },
	{ OD_MAGIC_MMP, "multiple-mount protection", walk_mmp },
	{ OD_MAGIC_JSB, "journal superblock", walk_jsb },
	{ OD_MAGIC_JDESC, "journal descriptor", walk_jdesc },
	{ OD_MAGIC_JREV, "journal revocations", walk_jrev },
	{ OD_MAGIC_JCOMMIT, "journal commit", walk_jcommit },
};

static int find_block(const void *block)
{
	const uint32_t magic = le32_get(((const struct od_hdr *)block)->magic);

	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++)
		if (blocks[i].magic == magic)
			return (int)i;
	return -1;
}

const char *od_block_name(const void *block)
{
	const int i = find_block(block);

	return i < 0 ? NULL : blocks[i].name;
}

int od_block_walk(const void *block, int (*fn)(void *arg, const struct od_place *place), void *arg)
{
	struct walk w = { .block = block, .fn = fn, .arg = arg };
	const int i = find_block(block);

	if (i >= 0)
		blocks[i].walk(&w);
	else
		rest(&w, OD_FK_BYTES);
	assert(w.stopped || w.at == OD_MBLK_SIZE);
	return w.stopped;
}

bool od_kind_is_number(enum od_field_kind kind)
{
	return kind <= OD_FK_INO;
}

uint64_t od_place_get(const void *block, const struct od_place *place)
{
	le64_t v = { { 0 } };

	assert(od_kind_is_number(place->kind) && place->size <= sizeof(v));
	memcpy(&v, (const uint8_t *)block + place->offset, place->size);
	return le64_get(v);
}

void od_place_set(void *block, const struct od_place *place, uint64_t value)
{
	const le64_t v = le64_make(value);

	assert(od_kind_is_number(place->kind) && place->size <= sizeof(v));
	memcpy((uint8_t *)block + place->offset, &v, place->size);
}

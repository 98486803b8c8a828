/* SPDX-License-Identifier: MIT */
/*
 * Where extent records live. Up to (384 - attr_len) / 24 of them stand in the inode's area in
 * file order; one more moves all of them into an EXTENT tree, whose root takes the area.
 * The tree goes when its last record goes; an empty file is a list of length zero.
 */
#include "extent.h"

#define REC_SIZE sizeof(struct od_extent_rec)

unsigned ext_list_cap(const struct fs_inode *ip)
{
	return MIN(FS_AREA_DATA_MAX, OD_INODE_AREA - ip->attr_len) / REC_SIZE;
}

static unsigned list_len(const struct fs_inode *ip)
{
	return ip->data_len / REC_SIZE;
}

/* Contents that left the inode only in memory hide the area: no extent exists yet. */
static bool map_is_empty(const struct fs_inode *ip)
{
	return ip->data_fmt == OD_DATA_INLINE || ip->data_fmt == OD_DATA_NONE;
}

static struct btree ext_tree(struct fs_inode *ip)
{
	return (struct btree){
		.bc = ip->fs->bc,
		.type = OD_TREE_EXTENT,
		.owner = ip->ino,
		.root = &ip->ext_root,
		.ops = &inode_bt_ops,
		.private = ip,
	};
}

static struct bt_key ext_key(uint64_t fblk)
{
	return (struct bt_key){ .a = fblk };
}

static void val_encode(const struct extent *e, struct od_extent_val *v)
{
	assert(e->len > 0 && e->len <= OD_EXTENT_LEN_MAX);
	v->start = le64_make(e->start);
	v->len = le32_make((uint32_t)e->len);
	v->flags = le32_make(e->unwritten ? OD_EXTENT_UNWRITTEN : 0);
}

/* Records are checked again here: a block that is sound alone may still point at nonsense. */
static int val_decode(struct fs_inode *ip, uint64_t fblk, const struct od_extent_val *v,
		      struct extent *e)
{
	const uint32_t flags = le32_get(v->flags);

	e->fblk = fblk;
	e->start = le64_get(v->start);
	e->len = le32_get(v->len);
	e->unwritten = flags & OD_EXTENT_UNWRITTEN;
	if (e->len == 0 || e->len > OD_EXTENT_LEN_MAX || (flags & ~OD_EXTENT_KNOWN))
		return fs_corrupt(ip->fs, "extent", ip->ino, "extent-record");
	if (fblk >= ext_max_fblk(ip->fs) || ext_max_fblk(ip->fs) - fblk < e->len)
		return fs_corrupt(ip->fs, "extent", ip->ino, "extent-past-maximum");
	if (!od_fsb_range_ok(&ip->fs->od, e->start, e->len))
		return fs_corrupt(ip->fs, "extent", ip->ino, "extent-out-of-bounds");
	return 1;
}

static struct od_extent_rec list_get(const struct fs_inode *ip, unsigned i)
{
	struct od_extent_rec rec;

	assert(i < list_len(ip));
	memcpy(&rec, ip->area + i * REC_SIZE, REC_SIZE);
	return rec;
}

static void list_put(struct fs_inode *ip, unsigned i, const struct extent *e)
{
	struct od_extent_rec rec = { .file_block = le64_make(e->fblk) };

	assert(i < list_len(ip));
	val_encode(e, &rec.val);
	memcpy(ip->area + i * REC_SIZE, &rec, REC_SIZE);
}

/* Index of the first record whose key is above fblk. */
static unsigned list_upper(const struct fs_inode *ip, uint64_t fblk)
{
	unsigned i = 0;

	while (i < list_len(ip)) {
		struct od_extent_rec rec = list_get(ip, i);

		if (le64_get(rec.file_block) > fblk)
			break;
		i++;
	}
	return i;
}

static int list_at(struct fs_inode *ip, unsigned i, struct extent *out)
{
	struct od_extent_rec rec = list_get(ip, i);

	return val_decode(ip, le64_get(rec.file_block), &rec.val, out);
}

static int list_find(struct fs_inode *ip, uint64_t fblk, struct extent *out)
{
	unsigned i = list_upper(ip, fblk);
	int err;

	if (i > 0) {
		err = list_at(ip, i - 1, out);
		if (err < 0 || ext_end(out) > fblk)
			return err;
	}
	return i < list_len(ip) ? list_at(ip, i, out) : 0;
}

static int rec_decode(struct fs_inode *ip, const struct bt_rec *rec, struct extent *out)
{
	struct od_extent_val v;

	memcpy(&v, rec->val, sizeof(v));
	return val_decode(ip, rec->key.a, &v, out);
}

static int tree_find(struct fs_inode *ip, uint64_t fblk, unsigned flags, struct extent *out)
{
	struct btree t = ext_tree(ip);
	struct bt_rec rec;
	int err;

	err = bt_lookup_le(&t, ext_key(fblk), flags, &rec);
	if (err == 0) {
		err = rec_decode(ip, &rec, out);
		if (err < 0 || ext_end(out) > fblk)
			return err;
	} else if (err != -ENOENT) {
		return err;
	}
	err = bt_lookup_ge(&t, ext_key(fblk), flags, &rec);
	if (err)
		return err == -ENOENT ? 0 : err;
	return rec_decode(ip, &rec, out);
}

int ext_find(struct fs_inode *ip, uint64_t fblk, unsigned flags, struct extent *out)
{
	if (map_is_empty(ip))
		return 0;
	if (ip->data_fmt == OD_DATA_EXTENTS)
		return list_find(ip, fblk, out);
	return tree_find(ip, fblk, flags, out);
}

int ext_find_le(struct fs_inode *ip, uint64_t fblk, unsigned flags, struct extent *out)
{
	struct btree t = ext_tree(ip);
	struct bt_rec rec;
	unsigned i;
	int err;

	if (map_is_empty(ip))
		return 0;
	if (ip->data_fmt == OD_DATA_EXTENTS) {
		i = list_upper(ip, fblk);
		return i ? list_at(ip, i - 1, out) : 0;
	}
	err = bt_lookup_le(&t, ext_key(fblk), flags, &rec);
	if (err)
		return err == -ENOENT ? 0 : err;
	return rec_decode(ip, &rec, out);
}

int ext_prefetch(struct fs_inode *ip, uint64_t fblk, unsigned flags)
{
	struct btree t = ext_tree(ip);

	if (ip->data_fmt != OD_DATA_TREE)
		return 0;
	return bt_prefetch(&t, ext_key(fblk), flags);
}

/* The root moved: bring the area up to date; it is logged with the inode. */
static void root_store(struct fs_inode *ip)
{
	struct od_root root = {
		.mblk = le64_make(ip->ext_root.mblk),
		.level = le16_make((uint16_t)ip->ext_root.level),
	};

	memset(ip->area, 0, ip->data_len);
	if (ip->ext_root.mblk == 0) {
		assert(ip->nr_extents == 0);
		ip->data_fmt = OD_DATA_EXTENTS;
		ip->data_len = 0;
		return;
	}
	ip->data_fmt = OD_DATA_TREE;
	ip->data_len = sizeof(root);
	memcpy(ip->area, &root, sizeof(root));
}

void ext_load(struct fs_inode *ip)
{
	struct od_root root;

	ip->ext_root = (struct bt_root){ 0 };
	if (ip->data_fmt != OD_DATA_TREE)
		return;
	memcpy(&root, ip->area, sizeof(root));
	ip->ext_root.mblk = le64_get(root.mblk);
	ip->ext_root.level = le16_get(root.level);
}

static int list_to_tree(struct jnl_handle *h, struct fs_inode *ip)
{
	struct bt_rec recs[OD_INODE_AREA / REC_SIZE];
	struct btree t = ext_tree(ip);
	unsigned n = list_len(ip);
	int err;

	for (unsigned i = 0; i < n; i++) {
		struct od_extent_rec rec = list_get(ip, i);

		recs[i].key = ext_key(le64_get(rec.file_block));
		memcpy(recs[i].val, &rec.val, sizeof(rec.val));
	}
	ip->ext_root = (struct bt_root){ 0 };
	if (n == 0)
		return 0;
	err = bt_bulk_load(&t, h, recs, n);
	if (!err)
		root_store(ip);
	return err;
}

int ext_store_insert(struct jnl_handle *h, struct fs_inode *ip, const struct extent *e)
{
	struct btree t = ext_tree(ip);
	struct od_extent_val v;
	unsigned i;
	int err;

	assert(ip->data_fmt == OD_DATA_EXTENTS || ip->data_fmt == OD_DATA_TREE);
	assert(ext_end(e) <= ext_max_fblk(ip->fs));
	if (ip->data_fmt == OD_DATA_EXTENTS && list_len(ip) < ext_list_cap(ip)) {
		i = list_upper(ip, e->fblk);
		memmove(ip->area + (i + 1) * REC_SIZE, ip->area + i * REC_SIZE,
			ip->data_len - i * REC_SIZE);
		ip->data_len += REC_SIZE;
		list_put(ip, i, e);
		ip->nr_extents++;
		return 0;
	}
	if (ip->data_fmt == OD_DATA_EXTENTS) {
		err = list_to_tree(h, ip);
		if (err)
			return err;
	}
	val_encode(e, &v);
	err = bt_insert(&t, h, ext_key(e->fblk), &v);
	if (err)
		return err;
	ip->nr_extents++;
	root_store(ip);
	return 0;
}

int ext_store_delete(struct jnl_handle *h, struct fs_inode *ip, uint64_t fblk)
{
	struct btree t = ext_tree(ip);
	unsigned i;
	int err;

	assert(ip->nr_extents > 0);
	if (ip->data_fmt == OD_DATA_EXTENTS) {
		i = list_upper(ip, fblk);
		assert(i > 0);
		memmove(ip->area + (i - 1) * REC_SIZE, ip->area + i * REC_SIZE,
			ip->data_len - i * REC_SIZE);
		ip->data_len -= REC_SIZE;
		memset(ip->area + ip->data_len, 0, REC_SIZE);
		ip->nr_extents--;
		return 0;
	}
	err = bt_delete(&t, h, ext_key(fblk));
	if (err)
		return err;
	ip->nr_extents--;
	root_store(ip);
	return 0;
}

int ext_store_replace(struct jnl_handle *h, struct fs_inode *ip, uint64_t old_fblk,
		      const struct extent *e)
{
	struct btree t = ext_tree(ip);
	struct od_extent_val v;
	unsigned i;
	int err;

	assert(ip->nr_extents > 0);
	assert(ext_end(e) <= ext_max_fblk(ip->fs));
	if (ip->data_fmt == OD_DATA_EXTENTS) {
		i = list_upper(ip, old_fblk);
		assert(i > 0);
		list_put(ip, i - 1, e);
		return 0;
	}
	val_encode(e, &v);
	err = bt_replace(&t, h, ext_key(old_fblk), ext_key(e->fblk), &v);
	if (!err)
		root_store(ip);
	return err;
}

void ext_budget_get(struct fs_inode *ip, unsigned flags, struct ext_budget *b)
{
	const bool tree = ip->data_fmt == OD_DATA_TREE;
	/* A list that is about to become a tree is budgeted as a tree of one leaf. */
	struct bt_root leaf = { .mblk = tree ? ip->ext_root.mblk : 1,
				.level = tree ? ip->ext_root.level : 0 };
	struct btree t = ext_tree(ip);
	unsigned nodes, shared = 0;

	/* Whoever frees shared blocks counts; a remap takes blocks as well, and may take that back. */
	if (fs_may_share(ip) || (flags & EXT_TX_REMAP))
		shared = refc_credits(ip->fs);
	if (flags & EXT_TX_REMAP)
		shared += ag_credits(ip->fs) + 2 * refc_credits(ip->fs);
	t.root = &leaf;
	b->height = tree ? leaf.level + 1 : 0;
	/* At most two inserts and one other update; an insert may raise the root once. */
	nodes = 2 * bt_need_nodes(&t) + 1;
	if (!tree && list_len(ip) + 2 <= ext_list_cap(ip) && ip->data_fmt == OD_DATA_EXTENTS) {
		b->meta_fsb = 0;
		b->credits = MIN(ag_credits(ip->fs) + 1 + shared, jnl_max_credits(ip->fs->jnl));
		return;
	}
	b->meta_fsb = space_meta_fsbs(ip->fs, nodes);
	b->credits = 3 * (bt_need_credits(&t) + 1) + ag_mblk_credits(ip->fs, nodes) +
		     ag_credits(ip->fs) + 1 + shared;
	/* A sum of worst cases that never come together: where the log is small it is cut. */
	b->credits = MIN(b->credits, jnl_max_credits(ip->fs->jnl));
}

/* SPDX-License-Identifier: MIT */
/*
 * Directories, the looking side: a name to its entry, and the walk in position order.
 *
 * The walk needs no state between calls. Entries keep their position for life and positions
 * are visited in ascending order, so an entry that exists during the whole walk is met once,
 * whatever comes and goes around it.
 */
#include <dirent.h>

#include "dir.h"

#define DIR_READAHEAD 8u /* blocks asked for ahead of a walk */

static struct btree dir_tree(struct fs_inode *dir, unsigned type, struct bt_root *root)
{
	return (struct btree){
		.bc = dir->fs->bc,
		.type = type,
		.owner = dir->ino,
		.root = root,
		.ops = &inode_bt_ops,
		.private = dir,
	};
}

/* An empty directory's state; not published in dir yet. NULL: no memory. */
struct dir_state *dir_state_new(struct fs_inode *dir)
{
	struct dir_state *ds = calloc(1, sizeof(*ds));

	if (!ds)
		return NULL;
	ds->map = dir_tree(dir, OD_TREE_DIRMAP, &ds->map_root);
	ds->hash = dir_tree(dir, OD_TREE_DIRHASH, &ds->hash_root);
	return ds;
}

static void root_decode(struct bt_root *out, const struct od_root *in)
{
	out->mblk = le64_get(in->mblk);
	out->level = le16_get(in->level);
}

static struct od_root root_encode(const struct bt_root *in)
{
	struct od_root out = { .mblk = le64_make(in->mblk) };

	out.level = le16_make(in->mblk ? (uint16_t)in->level : 0);
	return out;
}

int dir_init_inode(struct fs_inode *dir)
{
	struct od_dir_root root;
	struct dir_state *ds;

	assert(!dir->dir);
	ds = dir_state_new(dir);
	if (!ds)
		return -ENOMEM;
	/* An inode that is being made has no root in its area yet: an empty directory. */
	if (dir->data_fmt == OD_DATA_DIR) {
		memcpy(&root, dir->area, sizeof(root));
		ds->block0 = le64_get(root.block0);
		ds->nr_blocks = le64_get(root.nr_blocks);
		ds->nr_entries = le64_get(root.nr_entries);
		ds->free_head = le64_get(root.free_head);
		root_decode(&ds->map_root, &root.map);
		root_decode(&ds->hash_root, &root.hash);
	}
	dir->dir = ds;
	return 0;
}

void dir_destroy_inode(struct fs_inode *dir)
{
	free(dir->dir);
	dir->dir = NULL;
}

void dir_encode(struct fs_inode *dir)
{
	const struct dir_state *ds = dir->dir;
	struct od_dir_root root = {
		.block0 = le64_make(ds->block0),
		.nr_blocks = le64_make(ds->nr_blocks),
		.nr_entries = le64_make(ds->nr_entries),
		.free_head = le64_make(ds->free_head),
		.map = root_encode(&ds->map_root),
		.hash = root_encode(&ds->hash_root),
	};

	lk_assert_held(&dir->extlock);
	assert(ds->free_head <= ds->nr_blocks);
	assert(ds->nr_blocks > 1 || (!ds->map_root.mblk && !ds->hash_root.mblk));
	dir->data_fmt = OD_DATA_DIR;
	dir->data_len = sizeof(root);
	memcpy(dir->area, &root, sizeof(root));
	dir->disk_size = ds->nr_blocks * OD_MBLK_SIZE;
	i_size_write(&dir->vfs, dir->disk_size);
}

unsigned dir_type(mode_t mode)
{
	return IFTODT(mode);
}

uint64_t dir_hash(struct fs_inode *dir, const char *name, size_t len, uint32_t *hash32)
{
	uint64_t hash = od_name_hash(dir->fs->sb.hash_seed, name, len);

	*hash32 = (uint32_t)hash;
	/* Tests shorten the tree's key to make names collide; 64 bits never do by themselves. */
	HOOK("dir:hash", &hash);
	return hash;
}

static int dir_map(struct fs_inode *dir, uint64_t index, unsigned flags, uint64_t *mblk)
{
	struct bt_rec rec;
	le64_t val;
	int err;

	if (index == 0) {
		*mblk = dir->dir->block0;
		return *mblk ? 0 : fs_corrupt(dir->fs, "directory", dir->ino, "no-first-block");
	}
	err = bt_lookup_eq(&dir->dir->map, (struct bt_key){ index, 0 },
			   flags & FS_NOWAIT ? BUF_NOWAIT : 0, &rec);
	if (err == -ENOENT)
		return fs_corrupt(dir->fs, "directory", dir->ino, "block-not-mapped");
	if (err)
		return err;
	memcpy(&val, rec.val, sizeof(val));
	*mblk = le64_get(val);
	return 0;
}

int dir_read_block(struct fs_inode *dir, uint64_t index, unsigned flags, struct buf **out)
{
	struct buf *b;
	uint64_t mblk;
	int err;

	assert(index < dir->dir->nr_blocks);
	err = dir_map(dir, index, flags, &mblk);
	if (err)
		return err;
	err = buf_read(dir->fs->bc, mblk, dir->ino, &buf_ops_dir,
		       flags & FS_NOWAIT ? BUF_NOWAIT : 0, &b);
	if (err)
		return err;
	if (le64_get(dir_block_of(b->data)->index) != index) {
		buf_put(b);
		return fs_corrupt(dir->fs, "directory", dir->ino, "wrong-block-index");
	}
	*out = b;
	return 0;
}

static void entry_fill(struct dir_entry *e, struct buf *b, uint64_t index, unsigned off)
{
	const struct od_dirent *de = dirent_at(b->data, off);

	e->buf = b;
	e->index = index;
	e->off = off;
	e->ino = le64_get(de->ino);
	e->type = de->type;
}

/* The only block of a small directory. */
static int dir_find_linear(struct fs_inode *dir, uint32_t hash32, const char *name, size_t len,
			   unsigned flags, struct dir_entry *e)
{
	struct buf *b;
	unsigned off;
	int err = dir_read_block(dir, 0, flags, &b);

	if (err)
		return err;
	off = dir_block_find(b->data, hash32, name, len);
	if (!off) {
		buf_put(b);
		return -ENOENT;
	}
	entry_fill(e, b, 0, off);
	return 0;
}

/* Does the entry at this position, found under the name's hash, carry the name? 1, 0, errors. */
static int dir_check_candidate(struct fs_inode *dir, uint64_t pos, const char *name, size_t len,
			       unsigned flags, struct dir_entry *e)
{
	uint64_t index = pos >> DIR_POS_SHIFT;
	unsigned off = (unsigned)(pos & ((1u << DIR_POS_SHIFT) - 1)) * 8;
	const struct od_dirent *de;
	struct buf *b;
	int err;

	if (index >= dir->dir->nr_blocks)
		return fs_corrupt(dir->fs, "directory", dir->ino, "hashed-position-past-end");
	err = dir_read_block(dir, index, flags, &b);
	if (err)
		return err;
	if (!dir_block_is_entry(b->data, off)) {
		buf_put(b);
		return fs_corrupt(dir->fs, "directory", dir->ino, "hashed-position-not-an-entry");
	}
	de = dirent_at(b->data, off);
	if (de->name_len != len || memcmp(de->name, name, len) != 0) {
		buf_put(b);
		return 0;
	}
	entry_fill(e, b, index, off);
	return 1;
}

static int dir_find_hashed(struct fs_inode *dir, const char *name, size_t len, unsigned flags,
			   struct dir_entry *e)
{
	struct bt_key key = { e->hash, 0 };

	/* One turn, but for names whose hashes collide. */
	for (;;) {
		struct bt_rec rec;
		int err = bt_lookup_ge(&dir->dir->hash, key, flags & FS_NOWAIT ? BUF_NOWAIT : 0,
				       &rec);

		if (err)
			return err;
		if (rec.key.a != e->hash)
			return -ENOENT;
		err = dir_check_candidate(dir, rec.key.b, name, len, flags, e);
		if (err)
			return err < 0 ? err : 0;
		key.b = rec.key.b + 1;
	}
}

int dir_find(struct fs_inode *dir, const char *name, size_t len, unsigned flags,
	     struct dir_entry *e)
{
	uint32_t hash32;

	*e = (struct dir_entry){ .hash = dir_hash(dir, name, len, &hash32) };
	if (!dir->dir->nr_entries)
		return -ENOENT;
	if (dir->dir->nr_blocks == 1)
		return dir_find_linear(dir, hash32, name, len, flags, e);
	return dir_find_hashed(dir, name, len, flags, e);
}

void dir_entry_put(struct dir_entry *e)
{
	if (e->buf)
		buf_put(e->buf);
	e->buf = NULL;
}

/* ---- The walk ---------------------------------------------------------------------------- */

struct walk {
	struct fs_inode *dir;
	unsigned flags;
	uint64_t cookie;    /* everything up to here was reported */
	fs_filldir_fn fn;
	void *arg;
	uint64_t nr;        /* reported in this call */
	bool full;
};

static void walk_emit(struct walk *w, const char *name, size_t len, uint64_t ino, unsigned type,
		      uint64_t cookie)
{
	assert(cookie > w->cookie);
	if (w->fn(w->arg, name, len, ino, type, cookie)) {
		w->full = true;
		return;
	}
	w->cookie = cookie;
	w->nr++;
}

static void walk_block(struct walk *w, const void *blk, uint64_t index)
{
	for (unsigned off = OD_DIR_FIRST; off < OD_MBLK_SIZE && !w->full;) {
		const struct od_dirent *de = dirent_at(blk, off);
		uint64_t pos = dir_pos(index, off);

		if (pos > w->cookie && le64_get(de->ino))
			walk_emit(w, (const char *)de->name, de->name_len, le64_get(de->ino),
				  de->type, pos);
		off += le16_get(de->rec_len);
	}
}

/* Ask for the next blocks of a cold directory at once; what fails here fails again later. */
static void walk_readahead(struct walk *w, uint64_t index)
{
	struct bt_rec recs[DIR_READAHEAD];
	int n = bt_range(&w->dir->dir->map, (struct bt_key){ index, 0 }, BUF_NOWAIT, recs,
			 DIR_READAHEAD);

	for (int i = 0; i < n; i++) {
		le64_t val;

		memcpy(&val, recs[i].val, sizeof(val));
		buf_readahead(w->dir->fs->bc, le64_get(val), &buf_ops_dir);
	}
}

static int walk_blocks(struct walk *w)
{
	const struct dir_state *ds = w->dir->dir;
	uint64_t index = w->cookie >> DIR_POS_SHIFT;

	if (!ds->nr_entries)
		return 0;
	for (uint64_t n = 0; index < ds->nr_blocks && !w->full; index++, n++) {
		struct buf *b;
		int err;

		if (!(w->flags & FS_NOWAIT) && n % DIR_READAHEAD == 1)
			walk_readahead(w, index);
		err = dir_read_block(w->dir, index, w->flags, &b);
		if (err)
			return err;
		walk_block(w, b->data, index);
		buf_put(b);
	}
	return 0;
}

int fs_readdir(struct fs_ctx *ctx, struct fs_inode *dir, uint64_t cookie, fs_filldir_fn fn,
	       void *arg)
{
	struct walk w = { .dir = dir, .flags = ctx->flags, .cookie = cookie, .fn = fn, .arg = arg };
	int err;

	if (!dir->dir)
		return -ENOTDIR;
	if (!(ctx->flags & FS_NOWAIT))
		lk_rdlock(&dir->vfs.i_rwsem);
	else if (!lk_tryrdlock(&dir->vfs.i_rwsem))
		return -EAGAIN;
	if (w.cookie < DIR_COOKIE_DOT)
		walk_emit(&w, ".", 1, dir->ino, DT_DIR, DIR_COOKIE_DOT);
	if (!w.full && w.cookie < DIR_COOKIE_DOTDOT)
		walk_emit(&w, "..", 2, fs_parent_ino(dir), DT_DIR, DIR_COOKIE_DOTDOT);
	err = w.full ? 0 : walk_blocks(&w);
	lk_rw_unlock(&dir->vfs.i_rwsem);
	/* What was reported stands: the error comes with the call that continues after it. */
	return w.nr ? 0 : err;
}

uint64_t fs_parent_ino(struct fs_inode *dir)
{
	uint64_t parent;

	lk_lock(&dir->extlock);
	parent = dir->parent;
	lk_unlock(&dir->extlock);
	return parent;
}

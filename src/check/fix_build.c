/* SPDX-License-Identifier: MIT */
/* Repair: files and directories that are written anew, in free space. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fix.h"

static uint64_t alloc_any(struct fix *f, void *arg)
{
	(void)arg;
	return chk_fix_alloc(f, FIX_ANY_GROUP);
}

static const struct fix_source anywhere = { .alloc = alloc_any };

/* ---- Files ------------------------------------------------------------------------- */

static int build_file(struct fix *f, struct fix_file *file)
{
	struct od_inode *di = chk_fix_inode_edit(f, file->ino);
	const struct od_extent_rec *x = file->recs.data;
	const size_t bytes = file->recs.n * sizeof(*x);
	uint64_t nodes = 0, blocks = 0;
	struct od_root root;
	int err = 0;

	if (!di)
		return -ENOMEM;
	for (size_t i = 0; i < file->recs.n; i++)
		blocks += le32_get(x[i].val.len);
	if (bytes + le16_get(di->attr_len) <= OD_INODE_AREA) {
		memset(di->area, 0, OD_INODE_AREA - le16_get(di->attr_len));
		if (bytes)
			memcpy(di->area, x, bytes);
		di->data_fmt = OD_DATA_EXTENTS;
		di->data_len = le16_make((uint16_t)bytes);
	} else {
		err = chk_fix_tree(f, OD_TREE_EXTENT, file->ino, (const le64_t *)x, file->recs.n,
			       &anywhere, &root, &nodes);
		memset(di->area, 0, OD_INODE_AREA - le16_get(di->attr_len));
		memcpy(di->area, &root, sizeof(root));
		di->data_fmt = OD_DATA_TREE;
		di->data_len = le16_make(sizeof(root));
	}
	di->nr_extents = le64_make(file->recs.n);
	di->nr_blocks = le64_make((blocks << f->c->od.block_shift >> 9) +
				  ((nodes + file->attr_mblks) << (OD_MBLK_SHIFT - 9)));
	return err;
}

/* ---- Directories ------------------------------------------------------------------------- */

/* One being written. */
struct build {
	struct fix *f;
	uint64_t ino;
	uint8_t *block;
	unsigned at;          /* where the next entry goes; 0 = no block is open */
	unsigned last;        /* where the last one is */
	uint64_t mblk;        /* of the open block */
	uint64_t nr_blocks, block0;
	struct chk_vec map;   /* le64 x 2: index, mblk */
	struct chk_vec hash;  /* le64 x 2: hash, position */
};

static int close_block(struct build *b)
{
	struct od_dirent *de = (void *)(b->block + b->last);

	if (!b->at)
		return 0;
	de->rec_len = le16_make((uint16_t)(OD_MBLK_SIZE - b->last));
	b->at = 0;
	return chk_fix_write(b->f, b->mblk, b->block);
}

static int open_block(struct build *b)
{
	const uint64_t index = b->nr_blocks++;
	struct od_dir_block *db = (void *)(b->block + OD_HDR_SIZE);

	b->mblk = chk_fix_alloc(b->f, FIX_ANY_GROUP);
	if (!b->mblk)
		return -ENOSPC;
	memset(b->block, 0, OD_MBLK_SIZE);
	od_hdr_init(b->block, OD_MAGIC_DIR, b->f->c->od.meta_uuid, b->ino, b->mblk);
	db->index = le64_make(index);
	b->at = OD_DIR_FIRST;
	if (index == 0) {
		b->block0 = b->mblk;
	} else {
		const le64_t rec[2] = { le64_make(index), le64_make(b->mblk) };

		chk_vec_push(b->f->c, &b->map, rec);
	}
	return b->f->c->error;
}

static unsigned dt_of(uint16_t mode)
{
	return (mode & S_IFMT) >> 12; /* IFTODT */
}

static int put_name(struct build *b, const struct fix_name *n)
{
	const unsigned len = od_dirent_len(n->len);
	const uint64_t hash = od_name_hash(b->f->c->od.hash_seed, n->name, n->len);
	struct od_dirent *de;
	le64_t rec[2];
	int err = 0;

	if (b->at && OD_MBLK_SIZE - b->at < len)
		err = close_block(b);
	if (!err && !b->at)
		err = open_block(b);
	if (err)
		return err;
	de = (void *)(b->block + b->at);
	de->ino = le64_make(n->ino);
	de->hash = le32_make((uint32_t)hash);
	de->rec_len = le16_make((uint16_t)len);
	de->name_len = n->len;
	de->type = (uint8_t)dt_of(chk_inode_get(b->f->c, n->ino)->mode);
	memcpy(de->name, n->name, n->len);
	rec[0] = le64_make(hash);
	rec[1] = le64_make((b->nr_blocks - 1) * 512 + b->at / 8);
	chk_vec_push(b->f->c, &b->hash, rec);
	b->last = b->at;
	b->at += len;
	return b->f->c->error;
}

static int hash_order(const void *a, const void *b)
{
	const le64_t *x = a, *y = b;

	if (le64_get(x[0]) != le64_get(y[0]))
		return le64_get(x[0]) < le64_get(y[0]) ? -1 : 1;
	return le64_get(x[1]) < le64_get(y[1]) ? -1 : le64_get(x[1]) > le64_get(y[1]);
}

static int fix_name_order(const void *a, const void *b)
{
	const struct fix_name *x = a, *y = b;
	const int order = memcmp(x->name, y->name, MIN(x->len, y->len));

	return order ? order : (int)x->len - (int)y->len;
}

/* Only what went to lost+found can have the name of something there: told apart by a tail. */
static void make_unique(struct fix_dir *d)
{
	struct fix_name *n = d->names.data;

	for (bool again = d->names.n > 1; again;) {
		again = false;
		qsort(n, d->names.n, sizeof(*n), fix_name_order);
		for (size_t i = 1; i < d->names.n; i++)
			if (n[i].len < OD_NAME_MAX && !fix_name_order(&n[i - 1], &n[i])) {
				n[i].name[n[i].len++] = '~';
				again = true;
			}
	}
}

static int build_trees(struct build *b, struct od_dir_root *root, uint64_t *nodes)
{
	int err = 0;

	/* A directory of one block has no index. */
	if (b->nr_blocks <= 1)
		return 0;
	qsort(b->hash.data, b->hash.n, 2 * sizeof(le64_t), hash_order);
	err = chk_fix_tree(b->f, OD_TREE_DIRMAP, b->ino, b->map.data, b->map.n, &anywhere, &root->map,
		       nodes);
	if (!err)
		err = chk_fix_tree(b->f, OD_TREE_DIRHASH, b->ino, b->hash.data, b->hash.n, &anywhere,
			       &root->hash, nodes);
	return err;
}

static int build_dir(struct fix *f, struct fix_dir *d)
{
	struct build b = { .f = f, .ino = d->ino, .block = chk_block_alloc(f->c) };
	const struct fix_name *n = d->names.data;
	struct od_dir_root root = { 0 };
	struct od_inode *di;
	uint64_t nodes = 0;
	int err = b.block ? 0 : -ENOMEM;

	chk_vec_init(&b.map, 2 * sizeof(le64_t));
	chk_vec_init(&b.hash, 2 * sizeof(le64_t));
	make_unique(d);
	for (size_t i = 0; i < d->names.n && !err; i++)
		err = put_name(&b, &n[i]);
	if (!err)
		err = close_block(&b);
	if (!err)
		err = build_trees(&b, &root, &nodes);
	di = chk_fix_inode_edit(f, d->ino);
	if (!err && di) {
		root.block0 = le64_make(b.block0);
		root.nr_blocks = le64_make(b.nr_blocks);
		root.nr_entries = le64_make(d->names.n);
		memset(di->area, 0, OD_INODE_AREA - le16_get(di->attr_len));
		memcpy(di->area, &root, sizeof(root));
		di->data_fmt = OD_DATA_DIR;
		di->data_len = le16_make(sizeof(root));
		di->size = le64_make(b.nr_blocks << OD_MBLK_SHIFT);
		di->nr_blocks = le64_make((b.nr_blocks + nodes + d->attr_mblks)
					  << (OD_MBLK_SHIFT - 9));
	}
	chk_vec_free(&b.map);
	chk_vec_free(&b.hash);
	free(b.block);
	return err ? err : f->c->error;
}

static int build_files(struct fix *f, bool clones)
{
	struct fix_file *files = f->files.data;
	int err = 0;

	for (size_t i = 0; i < f->files.n && !err; i++) {
		if (files[i].clones != clones)
			continue;
		err = chk_fix_clone(f, &files[i]);
		if (!err)
			err = build_file(f, &files[i]);
	}
	return err;
}

int chk_fix_build(struct fix *f)
{
	struct fix_attrs *attrs = f->attrs.data;
	struct fix_dir *dirs = f->dirs.data;
	int err = 0;

	/* Before what shares the inode's area with them. */
	for (size_t i = 0; i < f->attrs.n && !err; i++)
		err = chk_fix_attrs_build(f, &attrs[i]);
	if (!err)
		err = build_files(f, false);

	for (size_t i = 0; i < f->dirs.n && !err; i++)
		err = build_dir(f, &dirs[i]);
	/* Copies come last: they may want more room than there is. */
	return err ? err : build_files(f, true);
}

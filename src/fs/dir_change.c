/* SPDX-License-Identifier: MIT */
/*
 * Directories, the changing side: a name in, a name out.
 *
 * Blocks that may have room are on a list; an insertion looks at its head. A block where
 * the name does not fit leaves the list and comes back with the next removal in it, so that
 * no number of nearly full blocks can stand between an insertion and room behind them:
 * each stay on the list is paid for by the removal, or the append, that began it.
 */
#include "dir.h"

/* ---- Insertion -------------------------------------------------------------------------- */

void dir_insert_put(struct dir_insert *p)
{
	if (p->buf)
		buf_put(p->buf);
	if (p->block0)
		buf_put(p->block0);
	for (unsigned i = 0; i < p->nr_popped; i++)
		buf_put(p->popped[i]);
	p->buf = p->block0 = NULL;
	p->nr_popped = 0;
}

/* Room in a block of the list, or the index of a block to append. */
static int insert_find_room(struct fs_inode *dir, size_t len, unsigned flags, struct dir_insert *p)
{
	const struct dir_state *ds = dir->dir;

	p->free_head = ds->free_head;
	while (p->free_head && p->nr_popped < DIR_POP_MAX) {
		struct buf *b;
		uint64_t next;
		int err;

		err = dir_read_block(dir, p->free_head - 1, flags, &b);
		if (err)
			return err;
		next = le64_get(dir_block_of(b->data)->next_free);
		if (!(le16_get(buf_hdr(b)->flags) & OD_DIRF_ON_FREE_LIST) || next > ds->nr_blocks) {
			buf_put(b);
			return fs_corrupt(dir->fs, "directory", dir->ino, "free-list");
		}
		p->off = dir_block_room(b->data, od_dirent_len((unsigned)len));
		if (p->off) {
			p->buf = b;
			p->index = p->free_head - 1;
			return 0;
		}
		p->popped[p->nr_popped++] = b;
		p->free_head = next;
	}
	p->index = ds->nr_blocks;
	p->off = OD_DIR_FIRST;
	return 0;
}

/* What growing by a block and hashing the name takes. */
static int insert_plan_trees(struct fs_inode *dir, unsigned flags, struct dir_insert *p,
			     struct fs_need *need)
{
	struct dir_state *ds = dir->dir;
	unsigned bflags = flags & FS_NOWAIT ? BUF_NOWAIT : 0;
	int err = 0;

	if (!p->buf) {
		need->allocs++;
		if (p->index) {
			need->allocs += bt_need_nodes(&ds->map);
			need->credits += bt_need_credits(&ds->map);
			err = bt_prefetch(&ds->map, (struct bt_key){ p->index, 0 }, bflags);
		}
		if (!err && p->index == 1)
			err = dir_read_block(dir, 0, flags, &p->block0);
		if (err)
			return err;
	}
	/* Below two blocks there is no hash tree; with the second it is built. */
	if (ds->nr_blocks + !p->buf < 2)
		return 0;
	need->allocs += bt_need_nodes(&ds->hash);
	need->credits += bt_need_credits(&ds->hash);
	return bt_prefetch(&ds->hash, (struct bt_key){ p->hash, dir_pos(p->index, p->off) }, bflags);
}

int dir_insert_plan(struct fs_inode *dir, const char *name, size_t len, unsigned flags,
		    struct dir_insert *p, struct fs_need *need)
{
	int err;

	assert(len && len <= OD_NAME_MAX);
	assert(!dir_must_shrink(dir));
	*p = (struct dir_insert){ 0 };
	p->hash = dir_hash(dir, name, len, &p->hash32);
	err = insert_find_room(dir, len, flags, p);
	if (!err)
		err = insert_plan_trees(dir, flags, p, need);
	if (err) {
		dir_insert_put(p);
		return err;
	}
	/* The block, those that leave the list, the inode. */
	need->credits += 2 + p->nr_popped;
	return 0;
}

static void free_list_push(struct dir_state *ds, struct buf *b, uint64_t index)
{
	buf_hdr(b)->flags = le16_make(OD_DIRF_ON_FREE_LIST);
	dir_block_of(b->data)->next_free = le64_make(ds->free_head);
	ds->free_head = index + 1;
}

static void free_list_pop(struct jnl_handle *h, struct dir_state *ds, const struct dir_insert *p)
{
	for (unsigned i = 0; i < p->nr_popped; i++) {
		struct buf *b = p->popped[i];

		jnl_get_write(h, b);
		buf_hdr(b)->flags = le16_make(0);
		dir_block_of(b->data)->next_free = le64_make(0);
	}
	ds->free_head = p->free_head;
}

static int append_block(struct jnl_handle *h, struct fs_inode *dir, uint64_t index,
			struct buf **out)
{
	struct dir_state *ds = dir->dir;
	uint64_t mblk, hint = ds->block0 ? ds->block0 : od_ino_mblk(dir->ino);
	struct buf *b;
	le64_t val;
	int err;

	assert(index == ds->nr_blocks);
	err = ag_alloc_mblk(dir->fs, h, hint, &mblk);
	if (err)
		return err;
	err = buf_new(dir->fs->bc, mblk, dir->ino, &buf_ops_dir, &b);
	if (err)
		return err;
	jnl_get_create(h, b);
	dir_block_init(b->data, index);
	free_list_push(ds, b, index);
	val = le64_make(mblk);
	if (index == 0)
		ds->block0 = mblk;
	else
		err = bt_insert(&ds->map, h, (struct bt_key){ index, 0 }, &val);
	ds->nr_blocks++;
	dir->nr_blocks += OD_MBLK_SIZE / 512;
	*out = b;
	return err;
}

static int key_cmp(const void *a, const void *b)
{
	const struct bt_rec *x = a, *y = b;

	if (x->key.a != y->key.a)
		return x->key.a < y->key.a ? -1 : 1;
	return x->key.b < y->key.b ? -1 : x->key.b > y->key.b;
}

/* The second block comes: all names of the first go into the tree. */
static int hash_build(struct jnl_handle *h, struct fs_inode *dir, const struct buf *block0)
{
	struct bt_rec recs[(OD_MBLK_SIZE - OD_DIR_FIRST) / OD_DIRENT_HDR];
	unsigned n = 0;

	memset(recs, 0, sizeof(recs));
	for (unsigned off = OD_DIR_FIRST; off < OD_MBLK_SIZE;) {
		const struct od_dirent *de = dirent_at(block0->data, off);
		uint32_t hash32;

		if (le64_get(de->ino)) {
			recs[n].key.a = dir_hash(dir, (const char *)de->name, de->name_len, &hash32);
			recs[n++].key.b = dir_pos(0, off);
		}
		off += le16_get(de->rec_len);
	}
	assert(n <= ARRAY_SIZE(recs));
	if (!n)
		return 0;
	qsort(recs, n, sizeof(recs[0]), key_cmp);
	return bt_bulk_load(&dir->dir->hash, h, recs, n);
}

int dir_insert_apply(struct jnl_handle *h, struct fs_inode *dir, const struct dir_insert *p,
		     const char *name, size_t len, uint64_t ino, unsigned type)
{
	struct dir_state *ds = dir->dir;
	struct buf *b = p->buf;
	int err = 0;

	lk_assert_held(&dir->extlock);
	free_list_pop(h, ds, p);
	if (b) {
		buf_get(b);
		jnl_get_write(h, b);
	} else {
		err = append_block(h, dir, p->index, &b);
		if (err)
			return err;
	}
	dir_block_insert(b->data, p->off, p->hash32, name, len, ino, type);
	buf_put(b);
	ds->nr_entries++;
	if (p->block0)
		err = hash_build(h, dir, p->block0);
	if (!err && ds->nr_blocks > 1)
		err = bt_insert(&ds->hash, h, (struct bt_key){ p->hash, dir_pos(p->index, p->off) },
				NULL);
	dir_encode(dir);
	return err;
}

/* ---- Removal ------------------------------------------------------------------------------ */

int dir_remove_plan(struct fs_inode *dir, const struct dir_entry *e, unsigned flags,
		    struct fs_need *need)
{
	struct dir_state *ds = dir->dir;

	need->credits += 2;
	if (ds->nr_blocks == 1) {
		need->frees++;
		return 0;
	}
	/* Giving back what a large directory leaves behind takes handles of its own. */
	if (ds->nr_entries == 1 && (flags & FS_NOWAIT))
		return -EAGAIN;
	need->frees += bt_need_nodes(&ds->hash);
	need->credits += bt_need_credits(&ds->hash);
	return bt_prefetch(&ds->hash, (struct bt_key){ e->hash, dir_pos(e->index, e->off) },
			   flags & FS_NOWAIT ? BUF_NOWAIT : 0);
}

int dir_remove_apply(struct jnl_handle *h, struct fs_inode *dir, const struct dir_entry *e)
{
	struct dir_state *ds = dir->dir;
	int err = 0;

	lk_assert_held(&dir->extlock);
	assert(ds->nr_entries);
	ds->nr_entries--;
	if (ds->nr_blocks == 1 && ds->nr_entries == 0) {
		err = ag_free_mblk(dir->fs, h, ds->block0);
		dir->nr_blocks -= OD_MBLK_SIZE / 512;
		ds->block0 = ds->nr_blocks = ds->free_head = 0;
	} else {
		jnl_get_write(h, e->buf);
		dir_block_remove(e->buf->data, e->off);
		if (!(le16_get(buf_hdr(e->buf)->flags) & OD_DIRF_ON_FREE_LIST))
			free_list_push(ds, e->buf, e->index);
		if (ds->nr_blocks > 1)
			err = bt_delete(&ds->hash, h,
					(struct bt_key){ e->hash, dir_pos(e->index, e->off) });
	}
	dir_encode(dir);
	return err;
}

void dir_retarget(struct jnl_handle *h, struct dir_entry *e, uint64_t ino, unsigned type)
{
	struct od_dirent *de = (struct od_dirent *)((char *)e->buf->data + e->off);

	assert(le64_get(de->ino) == e->ino);
	assert(ino);
	jnl_get_write(h, e->buf);
	de->ino = le64_make(ino);
	de->type = (uint8_t)type;
	e->ino = ino;
	e->type = type;
}

/* SPDX-License-Identifier: MIT */
/* One directory: its blocks, its list of blocks with room, its names and their hash index. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chk.h"

struct dir_block {
	uint64_t index, mblk;
	uint64_t next_free;  /* valid when on_list */
	bool on_list, seen;
};
/* A name by its place in the hash index. */
struct name {
	uint64_t hash, pos;
};
struct dir {
	uint64_t ino;
	struct od_dir_root root;
	struct chk_vec blocks;  /* struct dir_block, by index */
	struct chk_vec names;   /* struct name */
	struct chk_vec hashes;  /* struct name, as the index has them */
	uint64_t nr_mblks;
	bool incomplete;        /* damage was found: what is missing is no news */
};

static void add_block(struct chk *c, struct dir *d, uint64_t index, uint64_t mblk)
{
	const struct dir_block b = { .index = index, .mblk = mblk };
	enum chk_use other;

	if (!chk_claim_mblk(c, CHK_META, mblk, &other)) {
		chk_raise(c, CHK_P_DIR_BLOCK_SHARED, "block %llu, used by %s",
			  (unsigned long long)mblk, chk_use_name(other));
		d->incomplete = true;
		return;
	}
	if (index >= le64_get(d->root.nr_blocks))
		chk_raise(c, CHK_P_DIR_BLOCK_INDEX, "index %llu of %llu", (unsigned long long)index,
			  (unsigned long long)le64_get(d->root.nr_blocks));
	d->nr_mblks++;
	chk_vec_push(c, &d->blocks, &b);
}

static void on_map(struct chk *c, const le64_t *rec, void *arg)
{
	add_block(c, arg, le64_get(rec[0]), le64_get(rec[1]));
}

static void on_hash(struct chk *c, const le64_t *rec, void *arg)
{
	struct dir *d = arg;
	const struct name n = { .hash = le64_get(rec[0]), .pos = le64_get(rec[1]) };

	chk_vec_push(c, &d->hashes, &n);
}

static const uint8_t dt_of_ifmt[] = {
	[S_IFREG >> 12] = DT_REG, [S_IFDIR >> 12] = DT_DIR,   [S_IFLNK >> 12] = DT_LNK,
	[S_IFCHR >> 12] = DT_CHR, [S_IFBLK >> 12] = DT_BLK,   [S_IFIFO >> 12] = DT_FIFO,
	[S_IFSOCK >> 12] = DT_SOCK,
};

/* What a name does to the inode it leads to, and to this directory. */
static void count_link(struct chk *c, struct dir *d, const struct od_dirent *de)
{
	const uint64_t ino = le64_get(de->ino);
	struct chk_inode *ci = chk_inode_get(c, ino), *self;
	struct chk_dirinfo *info;

	if (!ci || !(ci->flags & (CHK_I_USED | CHK_I_BAD))) {
		chk_raise(c, CHK_P_DIR_ENTRY_DEAD, "'%.*s', inode %llu", de->name_len,
			  (const char *)de->name, (unsigned long long)ino);
		return;
	}
	if (ci->refs < UINT32_MAX && !c->judging)
		ci->refs++;
	if (ci->flags & CHK_I_BAD)
		return;
	if (de->type != dt_of_ifmt[(ci->mode & S_IFMT) >> 12])
		chk_raise(c, CHK_P_DIR_ENTRY_TYPE, "'%.*s', inode %llu", de->name_len,
			  (const char *)de->name, (unsigned long long)ino);
	if (!S_ISDIR(ci->mode))
		return;
	info = chk_dirinfo_of(c, ci);
	if (info->found != 0 || ino == c->sb.root_ino) {
		chk_raise(c, CHK_P_DIR_TWO_PARENTS, "'%.*s', inode %llu, also in inode %llu",
			  de->name_len, (const char *)de->name, (unsigned long long)ino,
			  (unsigned long long)info->found);
		return;
	}
	info->found = d->ino;
	self = chk_inode_get(c, d->ino);
	if (self->refs < UINT32_MAX && !c->judging)
		self->refs++;
}

static void read_entries(struct chk *c, struct dir *d, const struct dir_block *b,
			 const uint8_t *block)
{
	const struct od_dirent *de;

	for (unsigned at = OD_DIR_FIRST; at < OD_MBLK_SIZE; at += le16_get(de->rec_len)) {
		struct name n;

		de = (const void *)(block + at);
		if (le64_get(de->ino) == 0)
			continue;
		n.hash = od_name_hash(c->od.hash_seed, (const char *)de->name, de->name_len);
		n.pos = b->index * 512 + at / 8;
		if (!chk_vec_push(c, &d->names, &n))
			return;
		count_link(c, d, de);
	}
}

static void read_blocks(struct chk *c, struct dir *d, uint8_t *block)
{
	struct dir_block *b = d->blocks.data;
	const struct od_hdr *h = (const void *)block;
	const struct od_dir_block *db = (const void *)(block + OD_HDR_SIZE);

	for (size_t i = 0; i < d->blocks.n && !c->error; i++) {
		const char *bad = chk_read(c, b[i].mblk, block) ?
					  "cannot be read" :
					  od_verify_dir(&c->od, block, b[i].mblk, true);

		if (bad) {
			chk_raise(c, CHK_P_DIR_BLOCK, "block %llu: %s",
				  (unsigned long long)b[i].mblk, bad);
			d->incomplete = true;
			continue;
		}
		if (le64_get(h->owner) != d->ino || le64_get(db->index) != b[i].index) {
			chk_raise(c, CHK_P_DIR_BLOCK_INDEX,
				  "block %llu: owner %llu, index %llu, wanted index %llu",
				  (unsigned long long)b[i].mblk,
				  (unsigned long long)le64_get(h->owner),
				  (unsigned long long)le64_get(db->index),
				  (unsigned long long)b[i].index);
			d->incomplete = true;
			continue;
		}
		b[i].on_list = le16_get(h->flags) & OD_DIRF_ON_FREE_LIST;
		b[i].next_free = le64_get(db->next_free);
		read_entries(c, d, &b[i], block);
	}
}

static int block_cmp(const void *key, const void *elem)
{
	const uint64_t index = *(const uint64_t *)key;
	const struct dir_block *b = elem;

	return index < b->index ? -1 : index > b->index;
}

/* Every block that says so is on the list, once; a second visit ends a list that loops. */
static void check_free_list(struct chk *c, struct dir *d)
{
	struct dir_block *b = d->blocks.data;
	uint64_t next = le64_get(d->root.free_head);

	/* Without entries the blocks are on their way back, and the list is dropped first. */
	if (le64_get(d->root.nr_entries) == 0)
		return;
	while (next != 0) {
		const uint64_t index = next - 1;
		struct dir_block *hit = NULL;

		if (d->blocks.n)
			hit = bsearch(&index, b, d->blocks.n, sizeof(*b), block_cmp);
		if (!hit || !hit->on_list || hit->seen) {
			chk_raise(c, CHK_P_DIR_FREE_LIST, "at index %llu", (unsigned long long)index);
			return;
		}
		hit->seen = true;
		next = hit->next_free;
	}
	for (size_t i = 0; i < d->blocks.n; i++)
		if (b[i].on_list && !b[i].seen) {
			chk_raise(c, CHK_P_DIR_FREE_LIST, "index %llu is not on it",
				  (unsigned long long)b[i].index);
			return;
		}
}

static int name_order(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

/* The entry at a position; false when it cannot be had. */
static bool entry_at(struct chk *c, struct dir *d, uint64_t pos, uint8_t *block,
		     const struct od_dirent **de)
{
	const uint64_t index = pos / 512;
	const struct dir_block *b =
		bsearch(&index, d->blocks.data, d->blocks.n, sizeof(*b), block_cmp);

	if (!b || chk_read(c, b->mblk, block))
		return false;
	*de = (const void *)(block + pos % 512 * 8);
	return true;
}

static void check_twice(struct chk *c, struct dir *d, uint8_t *block)
{
	const struct name *n = d->names.data;
	uint8_t *second = chk_block_alloc(c);

	/* Equal names have equal hashes: neighbours, with at most hash collisions between. */
	for (size_t i = 0; second && i < d->names.n; i++) {
		for (size_t j = i + 1; j < d->names.n && n[j].hash == n[i].hash && j < i + 64; j++) {
			const struct od_dirent *x, *y;

			if (!entry_at(c, d, n[i].pos, block, &x) || !entry_at(c, d, n[j].pos, second, &y))
				continue;
			if (x->name_len == y->name_len && memcmp(x->name, y->name, x->name_len) == 0)
				chk_raise(c, CHK_P_DIR_NAME_TWICE, "'%.*s'", x->name_len,
					  (const char *)x->name);
		}
	}
	free(second);
}

/* Names and index, both in order of (hash, position), side by side. */
static void compare_hashes(struct chk *c, struct dir *d)
{
	const struct name *n = d->names.data, *h = d->hashes.data;
	size_t i = 0, j = 0;

	if (d->hashes.n)
		qsort(d->hashes.data, d->hashes.n, sizeof(*h), name_order);
	while (i < d->names.n || j < d->hashes.n) {
		const int order = i == d->names.n ? 1 :
				  j == d->hashes.n ? -1 : name_order(&n[i], &h[j]);

		if (order < 0)
			chk_raise(c, CHK_P_DIR_HASH_MISSING, "position %llu",
				  (unsigned long long)n[i].pos);
		else if (order > 0 && !d->incomplete)
			chk_raise(c, CHK_P_DIR_HASH_UNKNOWN, "position %llu",
				  (unsigned long long)h[j].pos);
		i += order <= 0;
		j += order >= 0;
	}
}

static void check_names(struct chk *c, struct dir *d, uint8_t *block)
{
	if (d->names.n)
		qsort(d->names.data, d->names.n, sizeof(struct name), name_order);
	check_twice(c, d, block);
	if (le64_get(d->root.nr_blocks) > 1)
		compare_hashes(c, d);
	if (!d->incomplete && le64_get(d->root.nr_entries) != d->names.n)
		chk_raise(c, CHK_P_DIR_ENTRY_COUNT, "%llu in the inode, %zu found",
			  (unsigned long long)le64_get(d->root.nr_entries), d->names.n);
}

void chk_dir(struct chk *c, uint64_t ino, const struct od_inode *di)
{
	struct dir d = { .ino = ino };
	struct chk_tree map = { .type = OD_TREE_DIRMAP, .owner = ino, .fn = on_map, .arg = &d };
	struct chk_tree hash = { .type = OD_TREE_DIRHASH, .owner = ino, .fn = on_hash, .arg = &d };
	uint8_t *block = chk_block_alloc(c);

	if (!block)
		return;
	chk_vec_init(&d.blocks, sizeof(struct dir_block));
	chk_vec_init(&d.names, sizeof(struct name));
	chk_vec_init(&d.hashes, sizeof(struct name));
	memcpy(&d.root, di->area, sizeof(d.root));
	if (le64_get(d.root.block0) != 0)
		add_block(c, &d, 0, le64_get(d.root.block0));
	chk_tree_walk(c, &map, &d.root.map);
	chk_tree_walk(c, &hash, &d.root.hash);
	/* Blocks are appended and taken off at the end: none is missing before it. */
	if (!d.incomplete && d.blocks.n < le64_get(d.root.nr_blocks))
		chk_raise(c, CHK_P_DIR_BLOCK_MISSING, "%zu of %llu are there", d.blocks.n,
			  (unsigned long long)le64_get(d.root.nr_blocks));
	read_blocks(c, &d, block);
	/* A directory that lost its last name gives its blocks back without minding the list. */
	if (!d.incomplete && le64_get(d.root.nr_entries) > 0)
		check_free_list(c, &d);
	if (!c->error)
		check_names(c, &d, block);
	d.nr_mblks += map.nr_nodes + hash.nr_nodes;
	chk_attrs(c, di, ino, &d.nr_mblks);
	if (!d.incomplete)
		chk_inode_blocks(c, di, 0, d.nr_mblks);
	chk_vec_free(&d.blocks);
	chk_vec_free(&d.names);
	chk_vec_free(&d.hashes);
	free(block);
}

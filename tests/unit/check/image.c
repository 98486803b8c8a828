/* SPDX-License-Identifier: MIT */
/* Build a file system that has one of everything. */
#include <check.h>
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "image.h"
#include "iomapfs/util.h"
#include "mk.h"

#define CHUNK_MBLKS 32u /* taken from free space: first half metadata, second half data */
#define LINK_LEN 4090u

static void set64(le64_t *v, uint64_t x)
{
	*v = le64_make(x);
}

static uint64_t take(struct image *im, uint32_t magic, uint64_t owner)
{
	const uint64_t mblk = im->next_meta++;

	memset(image_block(im, mblk), 0, OD_MBLK_SIZE);
	od_hdr_init(image_block(im, mblk), magic, im->c.meta_uuid, owner, mblk);
	return mblk;
}

/* Take a chunk from the only free extent of group 0. */
static void carve(struct image *im)
{
	struct od_ag *ag = image_ag(im, 0);
	const uint64_t pos = le64_get(ag->free_pos.mblk), len = le64_get(ag->free_len.mblk);
	le64_t *by_pos = image_recs(im, pos), *by_len = image_recs(im, len);
	const uint64_t start = le64_get(by_pos[0]), blocks = le64_get(by_pos[1]);
	const uint64_t n = CHUNK_MBLKS << OD_MBLK_SHIFT >> im->c.block_shift;

	set64(&by_pos[0], start + n);
	set64(&by_pos[1], blocks - n);
	set64(&by_len[0], blocks - n);
	set64(&by_len[1], start + n);
	set64(&ag->free_blocks, blocks - n);
	im->next_meta = start << im->c.block_shift >> OD_MBLK_SHIFT;
	im->data = start + n / 2;
	image_fix(im, pos);
	image_fix(im, len);
}

static uint64_t new_inode(struct image *im, mode_t mode, unsigned nlink)
{
	struct od_ag *ag = image_ag(im, 0);
	le64_t *rec = image_recs(im, le64_get(ag->ino.mblk));
	const uint64_t ino = od_ino_make(od_ino_mblk(im->sb.root_ino), ++im->next_slot);
	struct od_inode *di = image_inode(im, ino);

	ck_assert_uint_le(im->next_slot, 7);
	set64(&rec[1], le64_get(rec[1]) & ~(1ull << (im->next_slot - 1)));
	set64(&ag->nr_inodes, le64_get(ag->nr_inodes) + 1);
	set64(&ag->nr_free_inodes, le64_get(ag->nr_free_inodes) - 1);
	image_fix(im, le64_get(ag->ino.mblk));
	di->mode = le16_make((uint16_t)mode);
	di->nlink = le32_make(nlink);
	return ino;
}

static void put_extent(le64_t *rec, uint64_t file_block, uint64_t start, uint32_t len, uint32_t flags)
{
	const struct od_extent_val val = { le64_make(start), le32_make(len), le32_make(flags) };

	set64(&rec[0], file_block);
	memcpy(&rec[1], &val, sizeof(val));
}

/* One user attribute "x" of four bytes: 8 + 1 + 4, padded to 16. */
static unsigned put_xattr(uint8_t *to)
{
	const struct od_xattr x = { .ns = OD_XNS_USER, .name_len = 1, .value_len = le32_make(4) };

	memset(to, 0, 16);
	memcpy(to, &x, sizeof(x));
	memcpy(to + sizeof(x), "xabcd", 5);
	return 16;
}

static void put_blob(struct image *im, uint64_t mblk, uint64_t next, unsigned len, unsigned total,
		     const void *data)
{
	const struct od_blob b = { le64_make(next), le32_make(len), le32_make(total) };
	uint8_t *block = image_block(im, mblk);

	memcpy(block + OD_HDR_SIZE, &b, sizeof(b));
	memcpy(block + OD_HDR_SIZE + sizeof(b), data, len);
	image_fix(im, mblk);
}

static void make_file_list(struct image *im)
{
	const uint64_t ino = new_inode(im, S_IFREG | 0644, 3);
	struct od_inode *di = image_inode(im, ino);
	le64_t recs[6];

	put_extent(recs, 0, im->data, 3, 0);
	put_extent(recs + 3, 8, im->data + 3, 2, OD_EXTENT_UNWRITTEN);
	memcpy(di->area, recs, sizeof(recs));
	di->data_fmt = OD_DATA_EXTENTS;
	di->data_len = le16_make(sizeof(recs));
	di->attr_fmt = OD_ATTR_INLINE;
	di->attr_len = le16_make((uint16_t)put_xattr(di->area + OD_INODE_AREA - 16));
	set64(&di->size, (3ull << im->c.block_shift) - 100);
	set64(&di->nr_extents, 2);
	set64(&di->nr_blocks, 5ull << im->c.block_shift >> 9);
	im->file_list = ino;
}

static void make_file_tree(struct image *im)
{
	const uint64_t ino = new_inode(im, S_IFREG | 0600, 1);
	struct od_inode *di = image_inode(im, ino);
	struct od_hdr *h;
	uint8_t list[16];
	struct od_root root = { 0 };
	le64_t blob;

	im->extent_node = take(im, OD_MAGIC_BTREE, ino);
	h = image_block(im, im->extent_node);
	h->type = le16_make(OD_TREE_EXTENT);
	h->nrecs = le16_make(2);
	put_extent(image_recs(im, im->extent_node), 0, im->data + 5, 1, 0);
	put_extent(image_recs(im, im->extent_node) + 3, 5, im->data + 6, 4, 0);
	image_fix(im, im->extent_node);
	set64(&root.mblk, im->extent_node);
	memcpy(di->area, &root, sizeof(root));
	di->data_fmt = OD_DATA_TREE;
	di->data_len = le16_make(sizeof(root));

	im->attr_blob = take(im, OD_MAGIC_BLOB, ino);
	put_xattr(list);
	put_blob(im, im->attr_blob, 0, sizeof(list), sizeof(list), list);
	blob = le64_make(im->attr_blob);
	memcpy(di->area + OD_INODE_AREA - sizeof(blob), &blob, sizeof(blob));
	di->attr_fmt = OD_ATTR_BLOB;
	di->attr_len = le16_make(sizeof(blob));
	set64(&di->size, 9ull << im->c.block_shift);
	set64(&di->nr_extents, 2);
	set64(&di->nr_blocks, (5ull << im->c.block_shift >> 9) + 2 * 8);
	im->file_tree = ino;
}

static void make_small(struct image *im)
{
	struct od_inode *di;
	uint8_t target[LINK_LEN];
	le64_t first;

	im->file_inline = new_inode(im, S_IFREG | 0644, 1);
	di = image_inode(im, im->file_inline);
	di->data_fmt = OD_DATA_INLINE;
	di->data_len = le16_make(5);
	set64(&di->size, 5);
	memcpy(di->area, "hello", 5);

	im->link_blob = new_inode(im, S_IFLNK | 0777, 1);
	di = image_inode(im, im->link_blob);
	memset(target, 't', sizeof(target));
	im->link_blocks[0] = take(im, OD_MAGIC_BLOB, im->link_blob);
	im->link_blocks[1] = take(im, OD_MAGIC_BLOB, im->link_blob);
	put_blob(im, im->link_blocks[0], im->link_blocks[1], OD_BLOB_DATA, LINK_LEN, target);
	put_blob(im, im->link_blocks[1], 0, LINK_LEN - OD_BLOB_DATA, 0, target);
	first = le64_make(im->link_blocks[0]);
	memcpy(di->area, &first, sizeof(first));
	di->data_fmt = OD_DATA_BLOB;
	di->data_len = le16_make(sizeof(first));
	set64(&di->size, LINK_LEN);
	set64(&di->nr_blocks, 2 * 8);

	im->orphan = new_inode(im, S_IFREG | 0600, 0);
	di = image_inode(im, im->orphan);
	di->data_fmt = OD_DATA_EXTENTS;
}

struct entry {
	const char *name;
	uint64_t ino;
	uint8_t type;
};

/* A directory block of these names; the last entry takes the rest. */
static uint64_t make_dir_block(struct image *im, uint64_t dir, uint64_t index, uint64_t next_free,
			       const struct entry *e, unsigned n)
{
	const uint64_t mblk = take(im, OD_MAGIC_DIR, dir);
	uint8_t *block = image_block(im, mblk);
	struct od_dir_block db = { le64_make(index), le64_make(next_free) };
	unsigned at = OD_DIR_FIRST;

	((struct od_hdr *)block)->flags = le16_make(OD_DIRF_ON_FREE_LIST);
	memcpy(block + OD_HDR_SIZE, &db, sizeof(db));
	for (unsigned i = 0; i < n; i++) {
		struct od_dirent *de = (void *)(block + at);
		const unsigned len = (unsigned)strlen(e[i].name);
		const unsigned rec_len = i + 1 < n ? od_dirent_len(len) : OD_MBLK_SIZE - at;

		set64(&de->ino, e[i].ino);
		de->hash = le32_make((uint32_t)od_name_hash(im->sb.hash_seed, e[i].name, len));
		de->rec_len = le16_make((uint16_t)rec_len);
		de->name_len = (uint8_t)len;
		de->type = e[i].type;
		memcpy(de->name, e[i].name, len);
		at += rec_len;
	}
	image_fix(im, mblk);
	return mblk;
}

static void make_subdir_trees(struct image *im, struct od_dir_root *root)
{
	const uint64_t seed = im->sb.hash_seed;
	uint64_t one = od_name_hash(seed, "one", 3), two = od_name_hash(seed, "two", 3);
	const uint64_t pos_one = OD_DIR_FIRST / 8, pos_two = 512 + OD_DIR_FIRST / 8;
	struct od_hdr *h;
	le64_t *rec;

	im->map_node = take(im, OD_MAGIC_BTREE, im->dir);
	h = image_block(im, im->map_node);
	h->type = le16_make(OD_TREE_DIRMAP);
	h->nrecs = le16_make(1);
	rec = image_recs(im, im->map_node);
	set64(&rec[0], 1);
	set64(&rec[1], im->dir_block[1]);
	image_fix(im, im->map_node);

	im->hash_node = take(im, OD_MAGIC_BTREE, im->dir);
	h = image_block(im, im->hash_node);
	h->type = le16_make(OD_TREE_DIRHASH);
	h->nrecs = le16_make(2);
	rec = image_recs(im, im->hash_node);
	set64(&rec[one < two ? 0 : 2], one);
	set64(&rec[one < two ? 1 : 3], pos_one);
	set64(&rec[one < two ? 2 : 0], two);
	set64(&rec[one < two ? 3 : 1], pos_two);
	image_fix(im, im->hash_node);
	set64(&root->map.mblk, im->map_node);
	set64(&root->hash.mblk, im->hash_node);
}

static void make_dirs(struct image *im)
{
	struct od_dir_root root = { 0 };
	struct od_inode *di;

	im->dir = new_inode(im, S_IFDIR | 0755, 2);
	di = image_inode(im, im->dir);
	im->dir_block[0] = make_dir_block(im, im->dir, 0, 2,
					  &(struct entry){ "one", im->file_list, DT_REG }, 1);
	im->dir_block[1] = make_dir_block(im, im->dir, 1, 0,
					  &(struct entry){ "two", im->file_list, DT_REG }, 1);
	make_subdir_trees(im, &root);
	set64(&root.block0, im->dir_block[0]);
	set64(&root.nr_blocks, 2);
	set64(&root.nr_entries, 2);
	set64(&root.free_head, 1);
	memcpy(di->area, &root, sizeof(root));
	di->data_fmt = OD_DATA_DIR;
	di->data_len = le16_make(sizeof(root));
	set64(&di->parent, im->sb.root_ino);
	set64(&di->size, 2 * OD_MBLK_SIZE);
	set64(&di->nr_blocks, 4 * 8);

	im->root_block = make_dir_block(im, im->sb.root_ino, 0, 0,
					(const struct entry[]){
						{ "list", im->file_list, DT_REG },
						{ "tree", im->file_tree, DT_REG },
						{ "inline", im->file_inline, DT_REG },
						{ "link", im->link_blob, DT_LNK },
						{ "dir", im->dir, DT_DIR },
					}, 5);
	memset(&root, 0, sizeof(root));
	set64(&root.block0, im->root_block);
	set64(&root.nr_blocks, 1);
	set64(&root.nr_entries, 5);
	set64(&root.free_head, 1);
	di = image_inode(im, im->sb.root_ino);
	memcpy(di->area, &root, sizeof(root));
	di->nlink = le32_make(3);
	set64(&di->size, OD_MBLK_SIZE);
	set64(&di->nr_blocks, 8);
}

/* The first block of file_tree has two owners. */
static void make_refc(struct image *im, struct od_ag *ag)
{
	struct od_hdr *h;

	im->refc_node = take(im, OD_MAGIC_BTREE, 0);
	h = image_block(im, im->refc_node);
	h->type = le16_make(OD_TREE_REFC);
	h->nrecs = le16_make(1);
	set64(&image_recs(im, im->refc_node)[0], im->data + 5);
	set64(&image_recs(im, im->refc_node)[1], 1 | 2ull << 32);
	image_fix(im, im->refc_node);
	set64(&ag->refc.mblk, im->refc_node);
}

/* What is left of the chunk: the orphan list's node, and free slots or reserve. */
static void finish(struct image *im)
{
	struct od_ag *ag = image_ag(im, 0);
	const uint64_t data_mblk = im->data << im->c.block_shift >> OD_MBLK_SHIFT;
	struct od_inode *di;
	struct od_hdr *h;
	uint32_t n = le32_get(ag->nr_reserve);

	im->orphan_node = take(im, OD_MAGIC_BTREE, 0);
	h = image_block(im, im->orphan_node);
	h->type = le16_make(OD_TREE_ORPHAN);
	h->nrecs = le16_make(1);
	set64(&image_recs(im, im->orphan_node)[0], im->orphan);
	set64(&image_recs(im, im->orphan_node)[1], OD_ORPHAN_UNLINKED);
	image_fix(im, im->orphan_node);
	set64(&ag->orphan.mblk, im->orphan_node);
	make_refc(im, ag);
	while (im->next_meta < data_mblk)
		set64(&ag->reserve[n++], im->next_meta++);
	ag->nr_reserve = le32_make(n);
	/* Data that no file took: one more extent of the orphan. And a block that is file_tree's as well. */
	di = image_inode(im, im->orphan);
	put_extent((le64_t *)(void *)di->area, 0, im->data + 10, 6, 0);
	put_extent((le64_t *)(void *)di->area + 3, 10, im->data + 5, 1, 0);
	di->data_len = le16_make(2 * sizeof(struct od_extent_rec));
	di->data_flags = le16_make(OD_DATAF_SHARED);
	set64(&di->nr_extents, 2);
	set64(&di->nr_blocks, 7ull << im->c.block_shift >> 9);
	image_inode(im, im->file_tree)->data_flags = le16_make(OD_DATAF_SHARED);
	image_fix(im, od_ino_mblk(im->sb.root_ino));
	image_fix(im, OD_AG_HDR_MBLK);
}

void image_build(struct image *im)
{
	memset(im, 0, sizeof(*im));
	ck_assert_int_eq(bd_mem_create(32u << 20, 512, &im->bd), 0);
	ck_assert_int_eq(mk_default(im->bd, OD_MBLK_SHIFT), 0);
	im->base = bd_mem_base(im->bd);
	ck_assert_ptr_null(od_sb_decode(im->base, 0, 0, &im->sb));
	od_ctx_init(&im->c, &im->sb);
	im->next_slot = 1;
	carve(im);
	make_file_list(im);
	make_file_tree(im);
	make_small(im);
	make_dirs(im);
	finish(im);
}

/* One transaction in the ring: a new image of the root's inode block with another link count. */
void image_log(struct image *im, uint64_t seq, uint64_t at, unsigned nlink, bool revoke)
{
	const uint64_t ring = im->sb.jnl_start + 1, home = od_ino_mblk(im->sb.root_ino);
	uint8_t *image = image_block(im, ring + at + 1);
	struct od_hdr *desc = image_block(im, ring + at);
	struct od_jdesc_entry *e = (void *)(desc + 1);
	struct od_jcommit *commit = image_block(im, ring + at + 2);
	struct od_jsb *jsb = image_block(im, im->sb.jnl_start);

	od_hdr_init(desc, revoke ? OD_MAGIC_JREV : OD_MAGIC_JDESC, im->c.meta_uuid, 0, ring + at);
	desc->nrecs = le16_make(1);
	if (revoke) {
		commit = (void *)image;
		*(le64_t *)(void *)e = le64_make(home);
	} else {
		memcpy(image, image_block(im, home), OD_MBLK_SIZE);
		((struct od_inode *)(void *)(image + OD_HDR_SIZE))->nlink = le32_make(nlink);
		od_seal(image, seq);
		e->mblk = le64_make(home);
		e->crc = le32_make(od_crc32c(0, image, OD_MBLK_SIZE));
	}
	od_seal(desc, seq);
	od_hdr_init(commit, OD_MAGIC_JCOMMIT, im->c.meta_uuid, 0, ring + at + (revoke ? 1 : 2));
	commit->nr_blocks = le64_make(revoke ? 2 : 3);
	commit->chain_crc = le32_make(od_crc32c(0, &desc->crc, sizeof(desc->crc)));
	od_seal(commit, seq);
	jsb->clean = le64_make(0);
	image_fix(im, im->sb.jnl_start);
}

/* Change a byte of the image in the transaction at ring index `at`, checksums included. */
void image_log_edit(struct image *im, uint64_t at, unsigned byte, uint8_t value)
{
	const uint64_t ring = im->sb.jnl_start + 1;
	struct od_hdr *desc = image_block(im, ring + at), *commit = image_block(im, ring + at + 2);
	uint8_t *image = image_block(im, ring + at + 1);

	image[byte] = value;
	od_seal(image, le64_get(desc->seq));
	((struct od_jdesc_entry *)(desc + 1))->crc = le32_make(od_crc32c(0, image, OD_MBLK_SIZE));
	od_seal(desc, le64_get(desc->seq));
	((struct od_jcommit *)commit)->chain_crc = le32_make(od_crc32c(0, &desc->crc, sizeof(desc->crc)));
	od_seal(commit, le64_get(desc->seq));
}

/* The contents of a tree node at another address. */
void image_copy_node(struct image *im, uint64_t from, uint64_t to)
{
	memcpy(image_block(im, to), image_block(im, from), OD_MBLK_SIZE);
	((struct od_hdr *)image_block(im, to))->mblk = le64_make(to);
}

void image_free(struct image *im)
{
	bd_close(im->bd);
}

/* SPDX-License-Identifier: MIT */
/*
 * Directories (docs/FORMAT.md, "Directories"): what dir_block.c, dir.c, dir_change.c and
 * dir_free.c share with namei.c, create.c, link.c and rename.c.
 *
 * An entry never moves from its position (block index * 512 + byte offset / 8), so a position
 * is a readdir cookie that stays good for the entry's whole life. Lookups go through block 0
 * while it is the only block, later through the DIRHASH tree.
 *
 * Locks: the directory's i_rwsem, shared to look, exclusive to plan and to change; changes
 * also hold its extlock, which guards the inode that carries the roots.
 */
#ifndef FS_DIR_H
#define FS_DIR_H

#include "change.h"

#define DIR_POS_SHIFT   9u          /* position = index << 9 | byte offset / 8 */
#define DIR_COOKIE_DOT    1u
#define DIR_COOKIE_DOTDOT 2u
/* Blocks of the free list that one insertion may find full and take off the list. */
#define DIR_POP_MAX     4u

/* In-core form of od_dir_root and the cursors of its trees. */
struct dir_state {
	uint64_t block0;       /* mblk; 0 = no block at all */
	uint64_t nr_blocks;    /* next index */
	uint64_t nr_entries;
	uint64_t free_head;    /* index + 1 */
	struct bt_root map_root, hash_root;
	struct btree map, hash;
};

/* ---- One block (dir_block.c): pure functions over a verified block --------------------- */

void dir_block_init(void *blk, uint64_t index);
/* Byte offset of the entry with this name, 0 if there is none. */
unsigned dir_block_find(const void *blk, uint32_t hash32, const char *name, size_t len);
/* Is there a live entry that starts at off? */
bool dir_block_is_entry(const void *blk, unsigned off);
/* Byte offset of a hole of at least `need` bytes, 0 if there is none. */
unsigned dir_block_room(const void *blk, unsigned need);
void dir_block_insert(void *blk, unsigned off, uint32_t hash32, const char *name, size_t len,
		      uint64_t ino, unsigned type);
/* Frees the entry at off and joins the hole with its neighbours. */
void dir_block_remove(void *blk, unsigned off);

static inline const struct od_dirent *dirent_at(const void *blk, unsigned off)
{
	return (const struct od_dirent *)((const char *)blk + off);
}
static inline struct od_dir_block *dir_block_of(void *blk)
{
	return (struct od_dir_block *)((char *)blk + OD_HDR_SIZE);
}
static inline uint64_t dir_pos(uint64_t index, unsigned off)
{
	return index << DIR_POS_SHIFT | off / 8;
}

/* ---- Looking (dir.c) ------------------------------------------------------------------- */

/* A name found: its entry. `buf` is referenced. */
struct dir_entry {
	struct buf *buf;
	uint64_t index;
	unsigned off;
	uint64_t hash;   /* key in the DIRHASH tree */
	uint64_t ino;
	unsigned type;   /* DT_* */
};

uint64_t dir_hash(struct fs_inode *dir, const char *name, size_t len, uint32_t *hash32);
/* The block at index: -EFSCORRUPTED when the map has none. */
int dir_read_block(struct fs_inode *dir, uint64_t index, unsigned flags, struct buf **out);
/* -ENOENT; -EAGAIN with FS_NOWAIT; read errors. Release with dir_entry_put. */
int dir_find(struct fs_inode *dir, const char *name, size_t len, unsigned flags,
	     struct dir_entry *out);
void dir_entry_put(struct dir_entry *e);
unsigned dir_type(mode_t mode);

/* ---- Changing (dir_change.c) ------------------------------------------------------------ */

/*
 * A change is planned while it can still fail, and made when it cannot: *_plan reads all the
 * blocks and tree nodes that *_apply touches and adds up what the handle must have.
 * The exclusive i_rwsem, held from plan to apply, keeps the plan true; *_apply runs with the
 * extlock held, and the caller logs the inode afterwards. An error of *_apply: abort.
 */
struct dir_insert {
	uint64_t hash;
	uint32_t hash32;
	uint64_t index;                  /* where the entry goes */
	unsigned off;
	struct buf *buf;                 /* NULL: a new block at `index` */
	struct buf *block0;              /* names to hash, when `index` is the second block */
	struct buf *popped[DIR_POP_MAX]; /* found full: leave the free list */
	unsigned nr_popped;
	uint64_t free_head;              /* of the list without the popped */
};
int dir_insert_plan(struct fs_inode *dir, const char *name, size_t len, unsigned flags,
		    struct dir_insert *p, struct fs_need *need);
int dir_insert_apply(struct jnl_handle *h, struct fs_inode *dir, const struct dir_insert *p,
		     const char *name, size_t len, uint64_t ino, unsigned type);
void dir_insert_put(struct dir_insert *p);

/* Removal of a found entry. */
int dir_remove_plan(struct fs_inode *dir, const struct dir_entry *e, unsigned flags,
		    struct fs_need *need);
int dir_remove_apply(struct jnl_handle *h, struct fs_inode *dir, const struct dir_entry *e);
/* The entry names another inode from now on: one credit. */
void dir_retarget(struct jnl_handle *h, struct dir_entry *e, uint64_t ino, unsigned type);

/* Encode the state into the inode's area and sizes; extlock held. */
void dir_encode(struct fs_inode *dir);
struct dir_state *dir_state_new(struct fs_inode *dir);

/* ---- Giving back (dir_free.c) ------------------------------------------------------------- */

/* An empty directory with blocks left: to be freed by dir_free_all before it is used again. */
static inline bool dir_must_shrink(const struct fs_inode *dir)
{
	return dir->dir->nr_entries == 0 && dir->dir->nr_blocks != 0;
}

#endif

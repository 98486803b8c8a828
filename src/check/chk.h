/* SPDX-License-Identifier: MIT */
/*
 * What the checker's files share. Passes raise problems from one table (problem.c) and
 * claim every unit of space for one use (space.c); a claim that fails is also what keeps
 * a walk from following a loop, since nothing is entered that is not claimed first.
 */
#ifndef CHK_H
#define CHK_H

#include <bsd/sys/tree.h>

#include "iomapfs/check.h"
#include "iomapfs/util.h"

/* ---- Problems ------------------------------------------------------------------- */

#define CHK_PROBLEMS(X) \
	/* Pass 0: superblocks, journal */ \
	X(SB_PRIMARY, 0, ERROR, "the primary superblock is damaged, a copy is used") \
	X(SB_NONE, 0, ERROR, "no superblock is sound: nothing else can be checked") \
	X(SB_COPY, 0, ERROR, "a copy of the superblock is damaged") \
	X(SB_COPY_DIFFERS, 0, ERROR, "a copy of the superblock says something else than the primary") \
	X(SB_FEATURE, 0, ERROR, "the superblock has feature bits that this version does not know") \
	X(MMP_BLOCK, 0, ERROR, "the block of the multiple-mount protection is damaged") \
	X(JNL_SB, 0, ERROR, "the journal's superblock is damaged") \
	X(JNL_FEATURE, 0, ERROR, "the journal has feature bits that this version does not know") \
	X(JNL_IMAGE, 0, ERROR, "a committed transaction holds a block that fails its checks") \
	X(JNL_REPLAYED, 0, NOTE, \
	  "the file system was not unmounted: it is judged as recovery will leave it") \
	/* Pass 1: groups */ \
	X(AG_HEADER, 1, ERROR, "the group's header is damaged, its space cannot be judged") \
	X(AG_HEAD_SPARE, 1, ERROR, "reserved blocks of the group's head are not zero") \
	X(AG_FREE_BLOCKS, 1, ERROR, "the count of free blocks is wrong") \
	X(AG_FREE_SLOTS, 1, ERROR, "the count of free metadata slots is wrong") \
	X(AG_INODES, 1, ERROR, "the count of inodes in use is wrong") \
	X(AG_FREE_INODES, 1, ERROR, "the count of free inodes is wrong") \
	X(FREE_LEN_UNKNOWN, 1, ERROR, \
	  "the index by length lists an extent that the index by place does not") \
	X(FREE_LEN_MISSING, 1, ERROR, "the index by length lacks a free extent") \
	X(FREE_NOT_MERGED, 1, NOTE, "two free extents touch") \
	X(SLOT_ALL_FREE, 1, NOTE, "a metadata cluster is all free but was not given back") \
	X(INOFREE_UNKNOWN, 1, ERROR, "the index of free inodes lists a cluster without any") \
	X(INOFREE_MISSING, 1, ERROR, "the index of free inodes lacks a cluster that has some") \
	X(TREE_NODE, 1, ERROR, "a tree's node is damaged") \
	X(TREE_NODE_READ, 1, ERROR, "a tree's node cannot be read") \
	X(TREE_NODE_SHARED, 1, ERROR, "a tree's node is in use by something else") \
	X(TREE_LINK, 1, ERROR, "a tree's node is of another tree, owner or level than its parent says") \
	X(TREE_KEYS, 1, ERROR, "a tree's node has keys outside the range that its parent gives it") \
	X(TREE_RECORDS_CROSS, 1, ERROR, "records of neighbouring nodes overlap") \
	/* Pass 2: inodes */ \
	X(INODE_BLOCK, 2, ERROR, "an inode block is damaged") \
	X(INODE_BAD, 2, ERROR, "the inode is damaged") \
	X(INODE_FREE_IN_MAP, 2, ERROR, "the inode is in use but marked free") \
	X(INODE_USED_IN_MAP, 2, ERROR, "the inode is free but marked in use") \
	X(EXTENT_SHARED, 2, ERROR, "an extent claims blocks that are in use by something else") \
	X(EXTENT_UNWRITTEN_SHARED, 2, ERROR, "an unwritten extent claims blocks that are counted as shared") \
	X(INODE_SHARED_FLAG, 2, ERROR, "the file shares blocks and does not say so") \
	X(REFC_COUNT, 2, ERROR, "the count of owners is wrong") \
	X(EXTENT_PAST_EOF, 2, ERROR, "written data lies beyond the end of the file") \
	X(EXTENT_COUNT, 2, ERROR, "the count of extents is wrong") \
	X(INODE_BLOCKS, 2, ERROR, "the count of blocks held is wrong") \
	X(BLOB_BLOCK, 2, ERROR, "a blob's block is damaged") \
	X(BLOB_SHARED, 2, ERROR, "a blob's block is in use by something else") \
	X(BLOB_LENGTH, 2, ERROR, "a blob's length is not what its first block or its user says") \
	X(XATTR_LIST, 2, ERROR, "the list of extended attributes is damaged") \
	X(XATTR_ACL, 2, ERROR, "an access control list is damaged") \
	X(SYMLINK_TARGET, 2, ERROR, "a symbolic link's target is damaged") \
	/* Pass 3: directories */ \
	X(ROOT_BAD, 3, ERROR, "the root directory is missing or no directory") \
	X(DIR_BLOCK, 3, ERROR, "a directory block is damaged") \
	X(DIR_BLOCK_SHARED, 3, ERROR, "a directory block is in use by something else") \
	X(DIR_BLOCK_INDEX, 3, ERROR, "a directory block has another index or owner than it was found by") \
	X(DIR_BLOCK_MISSING, 3, ERROR, "a directory has fewer blocks than it says") \
	X(DIR_FREE_LIST, 3, ERROR, "the list of directory blocks with room is broken") \
	X(DIR_ENTRY_DEAD, 3, ERROR, "a name leads to an inode that is not in use") \
	X(DIR_ENTRY_TYPE, 3, ERROR, "a name has another file type than its inode") \
	X(DIR_NAME_TWICE, 3, ERROR, "a name is there twice") \
	X(DIR_ENTRY_COUNT, 3, ERROR, "the count of entries is wrong") \
	X(DIR_HASH_MISSING, 3, ERROR, "a name is not in the hash index") \
	X(DIR_HASH_UNKNOWN, 3, ERROR, "the hash index has an entry for no name") \
	X(DIR_TWO_PARENTS, 3, ERROR, "a directory has two names") \
	X(DIR_PARENT, 3, ERROR, "a directory's parent is not the directory that has its name") \
	X(DIR_LOOP, 3, ERROR, "a directory is its own ancestor") \
	/* Pass 4: links and orphans */ \
	X(LINK_COUNT, 4, ERROR, "the link count is wrong") \
	X(INODE_LOST, 4, ERROR, "no name leads to the inode and it is not on the orphan list") \
	X(ORPHAN_DEAD, 4, ERROR, "the orphan list has an inode that is not in use") \
	X(ORPHAN_LINKED, 4, ERROR, "the orphan list has an inode that still has names") \
	X(ORPHAN_KIND, 4, ERROR, "the orphan list wants something that cannot be done to the inode") \
	X(SHIFT_LOST, 4, ERROR, "a shift of the file is not finished, and it is not on the orphan list") \
	X(ORPHAN_CLEAN, 4, NOTE, "orphans wait for the next mount though the journal is clean") \
	/* Pass 5: space */ \
	X(SPACE_CLAIMED_TWICE, 5, ERROR, "space is accounted for twice") \
	X(SPACE_LOST, 5, ERROR, "space is neither free nor in use")

#define CHK_ENUM(name, pass, severity, text) CHK_P_##name,
enum chk_code { CHK_PROBLEMS(CHK_ENUM) CHK_P_NR };
#undef CHK_ENUM

/* ---- Space ------------------------------------------------------------------------- */

/* Space is counted in units of the smallest block, whatever the block size. */
#define CHK_UNIT_SHIFT OD_BLOCK_SHIFT_MIN
#define CHK_MBLK_UNITS (1u << (OD_MBLK_SHIFT - CHK_UNIT_SHIFT))

enum chk_use {
	CHK_HEAD,
	CHK_JNL,
	CHK_FREE,
	CHK_DATA,
	CHK_META,
	CHK_SLOT_FREE,
	CHK_RESERVE,
	CHK_USE_NR,
};
struct chk_range {
	RB_ENTRY(chk_range) node;
	uint64_t start, end; /* units */
	enum chk_use use;
};
RB_HEAD(chk_space, chk_range);

/* ---- Inodes -------------------------------------------------------------------------- */

#define CHK_I_USED      (1u << 0) /* in use and sound: the other fields are valid */
#define CHK_I_BAD       (1u << 1) /* in use but damaged: named where found, not again */
#define CHK_I_UNLINKED  (1u << 2) /* on the orphan list as OD_ORPHAN_UNLINKED */
#define CHK_I_TRUNCATE  (1u << 3) /* on it as anything else */
#define CHK_I_REACHED   (1u << 4) /* directory: its chain of parents ends at the root */
#define CHK_I_SHIFT     (1u << 6) /* says of itself that its extents are being shifted */
#define CHK_I_ON_PATH   (1u << 5) /* directory: on the chain being followed */

struct chk_inode {
	uint32_t nlink;
	uint32_t refs;    /* names, and "." and ".." of directories */
	uint32_t dir;     /* directories: chk_dirinfo_of; 0 = nothing is known yet */
	uint16_t mode;
	uint16_t flags;   /* CHK_I_* */
};
static_assert(sizeof(struct chk_inode) == 16, "docs/FSCK.md says what a check of many inodes takes");
/* What only directories have: they are few, and every inode counts. */
struct chk_dirinfo {
	uint64_t parent;  /* as the inode says */
	uint64_t found;   /* that has its name; 0 = none yet */
};
struct chk_cluster {
	uint64_t first;            /* mblk */
	uint64_t free_lo, free_hi;
	bool in_inofree;
	struct chk_inode *inodes;  /* one a slot of the cluster, by map bit */
};

struct chk_orphan {
	uint64_t ino;
	uint64_t kind;
};

/* Blocks and their owners: as a group counts them, or as they were found. */
struct chk_refc {
	uint64_t start, len;       /* fsbs */
	uint32_t refs;
};
/* An extent begins (1) or ends (-1) to own blocks here. */
struct chk_edge {
	uint64_t at;               /* fsb */
	int32_t step;
};

/* A growing array; n elements used. */
struct chk_vec {
	void *data;
	size_t n, room, elem_bytes;
};

/* ---- The run ----------------------------------------------------------------------------- */

struct chk_overlay;
RB_HEAD(chk_overlays, chk_overlay);

struct chk {
	struct bd *bd;
	const struct chk_opts *opts;
	struct chk_result *res;
	struct sb_info sb;
	struct od_ctx od;
	bool clean;                   /* journal says so */
	unsigned pass;                /* for chk_progress */
	bool jnl_ok;                  /* its superblock is sound */
	uint64_t jnl_next;            /* number of the transaction behind the end of the log */
	bool judging;                 /* one directory is looked at alone: names are not counted */
	int error;                    /* -ENOMEM, -EIO: the run cannot go on */
	char where[96];               /* the structure that problems are raised about */
	uint64_t raised[CHK_P_NR];
	struct chk_overlays overlays; /* journal images that replace blocks */
	struct chk_space space;
	bool *bad_ag;                 /* group header unusable: do not count its space */
	struct chk_vec clusters;      /* struct chk_cluster, by first */
	struct chk_vec orphans;       /* struct chk_orphan */
	struct chk_vec refcs;         /* struct chk_refc, by place: what the groups count */
	struct chk_vec owners;        /* struct chk_edge: of the blocks in refcs */
	struct chk_vec dir_infos;     /* struct chk_dirinfo */
	struct chk_vec *dirs;         /* of the run, also in a copy that is a trial of it */
	uint64_t nr_files, nr_file_extents;
};

/* Name the structure that the next problems are about. */
void chk_at(struct chk *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Raise a problem; fmt gives the particulars, "" for none. */
void chk_raise(struct chk *c, enum chk_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool chk_is_error(enum chk_code code);
/* May it be repaired without a question: nothing that somebody stored is lost by it. */
bool chk_preen_ok(enum chk_code code);

/* A block as recovery will leave it, into 4096 bytes. -EIO is told to the caller only. */
int chk_read(struct chk *c, uint64_t mblk, void *block);
/* Four KiB, aligned for any device; freed with free. NULL sets c->error. */
void *chk_block_alloc(struct chk *c);
void chk_overlay_free(struct chk *c);
/* Write what the log holds to its places: may be begun again until the log is emptied. */
int chk_replay_home(struct chk *c);
/* So much of this pass is done. */
void chk_progress(const struct chk *c, uint64_t done, uint64_t total);
/* Find complete transactions; from then on chk_read sees them. */
void chk_replay(struct chk *c);

/*
 * Claim units for a use. False when any of them was claimed before: *other is then that use,
 * and only the rest is claimed.
 */
bool chk_claim(struct chk *c, enum chk_use use, uint64_t start, uint64_t end, enum chk_use *other);
/* The same, but another claim of this use is none that counts. */
bool chk_claim_again(struct chk *c, enum chk_use use, uint64_t start, uint64_t end,
		     enum chk_use *other);
bool chk_claim_mblk(struct chk *c, enum chk_use use, uint64_t mblk, enum chk_use *other);
bool chk_claim_fsbs(struct chk *c, enum chk_use use, uint64_t start, uint64_t len,
		    enum chk_use *other);
/* Is none of it claimed? */
bool chk_is_clear(struct chk *c, uint64_t start, uint64_t end);
/* The end of the first claim in a piece that is not clear. */
uint64_t chk_busy_until(struct chk *c, uint64_t start, uint64_t end);
/* No longer claimed. */
void chk_release(struct chk *c, uint64_t start, uint64_t end);
/* The first claim that ends behind start; NULL: none. */
struct chk_range *chk_range_at(struct chk *c, uint64_t start);
/* All claims in order of place. */
struct chk_range *chk_range_first(struct chk *c);
struct chk_range *chk_range_next(struct chk *c, struct chk_range *r);
const char *chk_use_name(enum chk_use use);
void chk_space_free(struct chk *c);

/* Put a REFC record at the end; in order once sorted. */
void chk_refc_add(struct chk *c, const le64_t *rec, struct chk_vec *to);
void chk_refc_sort(struct chk_vec *refcs);
/* The first that ends behind start; NULL: none. */
const struct chk_refc *chk_refc_after(const struct chk_vec *refcs, uint64_t start);
/* One more owner of [start, end). */
void chk_owner_add(struct chk *c, struct chk_vec *edges, uint64_t start, uint64_t end);
/* All owners as runs of blocks with equally many of them, by place; sorts the edges. */
void chk_owners_runs(struct chk *c, struct chk_vec *edges, struct chk_vec *runs);
/*
 * Claim the blocks of a file's extent, which may have other owners where they are counted: *counted, when
 * some are. False: used by something else, *other, or by another file without being counted.
 */
bool chk_refc_claim(struct chk *c, uint64_t start, uint64_t len, bool *counted, enum chk_use *other);
/* All owners are known: are the counts right? */
void chk_refc_judge(struct chk *c);

void chk_vec_init(struct chk_vec *v, size_t elem_bytes);
/* A copy of *elem at the end; false without memory (c->error set). */
bool chk_vec_push(struct chk *c, struct chk_vec *v, const void *elem);
void chk_vec_free(struct chk_vec *v);

/* NULL when no inode cluster holds this number. */
struct chk_inode *chk_inode_get(struct chk *c, uint64_t ino);
/* Of a directory; valid until the next call. */
struct chk_dirinfo *chk_dirinfo_of(struct chk *c, struct chk_inode *ci);
/* Bytes of di's block are copied to *di; false when they cannot be read. */
bool chk_inode_read(struct chk *c, uint64_t ino, struct od_inode *di);

/* One record of a leaf; key words and value as on disk. */
typedef void (*chk_rec_fn)(struct chk *c, const le64_t *rec, void *arg);
struct chk_tree {
	unsigned type;
	uint64_t owner;
	chk_rec_fn fn;
	void *arg;
	uint64_t nr_nodes, nr_recs; /* results: sound nodes, records seen */
};
/* Walk a tree from its root in key order, claiming its nodes. */
void chk_tree_walk(struct chk *c, struct chk_tree *t, const struct od_root *root);

/* Long symlinks and attributes: claim, check and count the blocks of blobs. */
void chk_symlink(struct chk *c, const struct od_inode *di, uint64_t *nr_mblks);
void chk_attrs(struct chk *c, const struct od_inode *di, uint64_t ino, uint64_t *nr_mblks);
/* A list of attributes, wherever it stands. */
void chk_attr_list(struct chk *c, uint64_t ino, const uint8_t *list, size_t len, uint64_t *nr_mblks);
/*
 * Read a blob into a new buffer of *len bytes. Each of its blocks is claimed before it is
 * entered, so a chain that comes back on itself ends there. NULL when it is damaged.
 */
uint8_t *chk_blob_read(struct chk *c, uint64_t ino, uint64_t mblk, size_t *len, uint64_t *nr_mblks);
/* Compare nr_blocks of the inode with data and metadata found. */
void chk_inode_blocks(struct chk *c, const struct od_inode *di, uint64_t data_fsbs,
		      uint64_t nr_mblks);

/* Blocks, entries and hash index of one directory. */
void chk_dir(struct chk *c, uint64_t ino, const struct od_inode *di);

/* False: there is nothing to go on with. */
bool chk_pass0(struct chk *c, int *err);
void chk_pass1(struct chk *c);
void chk_pass2(struct chk *c);
void chk_pass3(struct chk *c);
void chk_pass4(struct chk *c);
void chk_pass5(struct chk *c);

#endif

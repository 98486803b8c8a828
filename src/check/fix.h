/* SPDX-License-Identifier: MIT */
/*
 * Repair: everything that can be believed is gathered, and what depends on it is made anew.
 *
 * Inodes, the extents and names that they lead to, and nothing else are believed, each after the
 * checker's own judgement. A structure is judged in a trial: it claims blocks in a space of its
 * own, which joins the rest only if no problem was raised and none of it is taken. One that fails
 * is taken apart, and what of it is sound is put into a new one. Groups are always made anew from
 * what is in use then: free space, inode maps, orphans, counts.
 *
 *	chk_fix_log      committed transactions go home, the log is emptied
 *	chk_fix_clusters where inodes are: by the groups' trees, or block by block where those fail
 *	chk_fix_inodes   inodes, files, links, attributes
 *	chk_fix_dirs     names, from the root down; what no name leads to goes to lost+found
 *	chk_fix_build    new trees and directories, in free space
 *	chk_fix_groups   new group headers and trees
 *
 * Nothing that the old structures hold is written over while other space is free, and inodes are
 * switched to their new trees after those are durable: a repair that is cut short is begun again.
 */
#ifndef CHECK_FIX_H
#define CHECK_FIX_H

#include "chk.h"

/* What an inode's slot is to hold in the end. */
struct fix_edit {
	RB_ENTRY(fix_edit) node;
	uint64_t ino;
	struct od_inode di;
};
RB_HEAD(fix_edits, fix_edit);

/* A file whose extents are to be written anew. */
struct fix_file {
	uint64_t ino;
	struct chk_vec recs;     /* struct od_extent_rec, in order, disjoint */
	bool clones;             /* some of recs are to be copied: FIX_EXTENT_CLONE */
	uint64_t attr_mblks;     /* blocks of its attributes: they count as its own */
};
/* Never on disk: the blocks are another file's, this one gets a copy. */
#define FIX_EXTENT_CLONE (1u << 31)
struct fix_name {
	uint64_t ino;
	uint8_t len;
	char name[OD_NAME_MAX];
};
/* A directory that is to be written anew. */
struct fix_dir {
	uint64_t ino;
	struct chk_vec names;    /* struct fix_name, none twice */
	uint64_t attr_mblks;
};

/* Attributes that are to go into a blob of their own. */
struct fix_attrs {
	uint64_t ino;
	uint8_t *list;
	size_t len;
};

struct fix {
	struct chk *c;           /* its space: only what is in use and will stay */
	struct chk avoid;        /* its space: what old structures hold */
	struct fix_edits edits;
	struct chk_vec files;    /* struct fix_file */
	struct chk_vec dirs;     /* struct fix_dir */
	struct chk_vec attrs;    /* struct fix_attrs */
	FILE *out;               /* what is done is told there; may be NULL */
	uint64_t lost_found;     /* inode; 0 = not needed yet */
	size_t last_dir;         /* index in dirs, of the one asked for last */
	struct chk alone;        /* its space: unwritten extents where others might claim to share */
	bool log_begun;          /* the log is empty, as the number c->jnl_next says */
	bool cloning;            /* the budget is known */
	bool counted;            /* c->refcs are the counts to be, no longer those of old */
	uint64_t clone_budget;   /* fsbs that copies may take yet */
	uint64_t cursor;         /* unit where the next search for a free block starts */
};

/* Write what can be written of the file system that pass 0 has found; 0 or -errno. */
int chk_fix_all(struct chk *c);

/* fix_root.c: the root that can be believed, in the superblock from here on. */
int chk_fix_root(struct fix *f);

/* fix_space.c */
struct fix_trial {
	struct chk c;
	struct chk_opts opts;
	struct chk_result res;
};
void chk_fix_trial_begin(struct fix *f, struct fix_trial *t);
/* Sound, and all of it free? Then it is claimed; else its blocks are to be avoided. */
bool chk_fix_trial_end(struct fix *f, struct fix_trial *t);
void chk_fix_trial_drop(struct fix *f, struct fix_trial *t);
/* What a structure claimed is in use no more: its trial again, taken back. */
void chk_fix_trial_undo(struct fix *f, struct fix_trial *t);
/* A free metadata block, of this group if agno is one; claimed. 0: none left. */
#define FIX_ANY_GROUP UINT32_MAX
uint64_t chk_fix_alloc(struct fix *f, uint32_t agno);
/* A free data block; claimed. Its fsb, or 0: none. */
uint64_t chk_fix_alloc_data(struct fix *f);
/* A free inode cluster; claimed. 0: none. */
uint64_t chk_fix_alloc_cluster(struct fix *f);

/* fix_tree.c */
/* Seal a block and look at it once more; -EFSCORRUPTED. */
int chk_fix_seal(struct fix *f, uint64_t mblk, void *block, uint64_t seq);
/* Write one block, sealed. */
int chk_fix_write(struct fix *f, uint64_t mblk, void *block);
/*
 * A tree of n records in key order, packed as in a leaf; its nodes from alloc. 0 records: an
 * empty root. *nr_nodes (may be NULL) is added to.
 */
struct fix_source {
	uint64_t (*alloc)(struct fix *f, void *arg); /* 0: none */
	void *arg;
};
int chk_fix_tree(struct fix *f, unsigned type, uint64_t owner, const le64_t *recs, size_t n,
	     const struct fix_source *src, struct od_root *root, uint64_t *nr_nodes);
/* How many nodes such a tree has. */
uint64_t chk_fix_tree_nodes(unsigned type, size_t n);

/* fix_log.c */
int chk_fix_log(struct fix *f);
int chk_fix_superblocks(struct fix *f);
/*
 * Write n blocks over what is at their places, all or none after a power cut, for they go through the log.
 * `blocks` has one block for the log's own use and then theirs; n is at most what chk_fix_log_room says.
 */
unsigned chk_fix_log_room(const struct fix *f);
int chk_fix_log_write(struct fix *f, const uint64_t *mblks, uint8_t *blocks, unsigned n);

/* fix_inode.c */
int chk_fix_clusters(struct fix *f);
int chk_fix_inodes(struct fix *f);
/* The inode as it will be: its edit, or a copy of what is on the device. False: unreadable. */
bool chk_fix_inode_now(struct fix *f, uint64_t ino, struct od_inode *di);
/* The edit of an inode, begun from what it is now; NULL without memory. */
struct od_inode *chk_fix_inode_edit(struct fix *f, uint64_t ino);
/* An empty slot: free. */
void chk_fix_inode_clear(struct od_inode *di, uint64_t ino);
/* Write all edits to their blocks. */
int chk_fix_inodes_write(struct fix *f);
/* A slot that is free, marked as in use; 0: none to be had. */
uint64_t chk_fix_inode_new(struct fix *f);
void chk_fix_edits_free(struct fix *f);

/* fix_attr.c */
/* Attributes that fail their checks are dropped; *mblks: blocks of those that stay. */
int chk_fix_attrs(struct fix *f, uint64_t ino, uint64_t *mblks);
int chk_fix_attrs_build(struct fix *f, struct fix_attrs *a);

/* fix_mend.c */
/*
 * Set right what fails in an inode; false: it cannot be told what it was. *attrs_only: it is sound but
 * for its attributes, which chk_fix_attrs goes through.
 */
bool chk_fix_mend(struct fix *f, uint64_t ino, struct od_inode *di, bool *attrs_only);

/* fix_refc.c */
/* This group's counts cannot be read: any of its blocks may have several owners. */
void chk_fix_refc_lost(struct fix *f, uint32_t agno);
void chk_fix_refc_group(struct chk *c, const le64_t *rec, void *arg);
/* Claim an extent, as one of several owners where that may be (*shares). False: it is somebody else's. */
bool chk_fix_refc_claim(struct fix *f, uint64_t start, uint64_t len, bool unwritten, bool *shares);
/*
 * Of an extent that is somebody else's in part: the first blocks of which none or all is (*mine). The former
 * are claimed: from now on nobody else gets them. How many they are.
 */
uint64_t chk_fix_refc_piece(struct fix *f, uint64_t start, uint64_t len, bool unwritten, bool *shares,
			    bool *mine);
/* The inode is to say that it shares. */
void chk_fix_refc_flag(struct fix *f, uint64_t ino);
/* The group's records, le64 x 2 each, once every extent is claimed. */
void chk_fix_refc_records(struct fix *f, uint32_t agno, struct chk_vec *recs);

/* fix_clone.c */
/* Is what stands between these units, where it is claimed at all, data? */
bool chk_fix_clonable(struct fix *f, uint64_t start, uint64_t end);
/* Give a file its own copies, and records that say so. -ENOSPC is no error: the rest reads as zeros. */
int chk_fix_clone(struct fix *f, struct fix_file *file);

/* fix_dir.c */
int chk_fix_dirs(struct fix *f);

/* fix_build.c */
int chk_fix_build(struct fix *f);

/* fix_group.c */
int chk_fix_groups(struct fix *f);

#endif

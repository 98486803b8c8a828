/* SPDX-License-Identifier: MIT */
/* Pass 2: inodes, and what they hold apart from names. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chk.h"

/* One file's extents. */
struct extents {
	uint64_t eof_block;  /* first block wholly beyond the end of the file */
	bool past_eof_ok;
	bool shares;         /* some of its blocks are counted */
	uint64_t next;       /* first file block that the next extent may cover */
	uint64_t nr, blocks;
};

static void on_extent(struct chk *c, const le64_t *rec, void *arg)
{
	struct extents *x = arg;
	struct od_extent_val val;
	const uint64_t file_block = le64_get(rec[0]);
	const unsigned long long at = file_block;
	enum chk_use other;
	bool counted;

	memcpy(&val, rec + 1, sizeof(val));
	if (file_block < x->next)
		chk_raise(c, CHK_P_TREE_RECORDS_CROSS, "extent at file block %llu", at);
	if (!chk_refc_claim(c, le64_get(val.start), le32_get(val.len), &counted, &other))
		chk_raise(c, CHK_P_EXTENT_SHARED, "file block %llu, %u blocks at %llu, used by %s", at,
			  le32_get(val.len), (unsigned long long)le64_get(val.start),
			  chk_use_name(other));
	if (counted && (le32_get(val.flags) & OD_EXTENT_UNWRITTEN))
		chk_raise(c, CHK_P_EXTENT_UNWRITTEN_SHARED, "file block %llu, %u blocks at %llu", at,
			  le32_get(val.len), (unsigned long long)le64_get(val.start));
	x->shares |= counted;
	if (file_block >= x->eof_block && !x->past_eof_ok &&
	    !(le32_get(val.flags) & OD_EXTENT_UNWRITTEN))
		chk_raise(c, CHK_P_EXTENT_PAST_EOF, "file block %llu, the file has %llu", at,
			  (unsigned long long)x->eof_block);
	x->next = file_block + le32_get(val.len);
	x->blocks += le32_get(val.len);
	x->nr++;
}

void chk_inode_blocks(struct chk *c, const struct od_inode *di, uint64_t data_fsbs,
		      uint64_t nr_mblks)
{
	const uint64_t found = (data_fsbs << c->od.block_shift >> 9) +
			       (nr_mblks << (OD_MBLK_SHIFT - 9));

	if (le64_get(di->nr_blocks) != found)
		chk_raise(c, CHK_P_INODE_BLOCKS, "%llu sectors in the inode, %llu found",
			  (unsigned long long)le64_get(di->nr_blocks), (unsigned long long)found);
}

static void check_file(struct chk *c, uint64_t ino, const struct od_inode *di,
		       const struct chk_inode *ci, uint64_t *data_fsbs, uint64_t *nr_mblks)
{
	struct extents x = {
		.eof_block = DIV_ROUND_UP(le64_get(di->size), 1ull << c->od.block_shift),
		.past_eof_ok = ci->flags & (CHK_I_UNLINKED | CHK_I_TRUNCATE | CHK_I_SHIFT),
	};

	if (di->data_fmt == OD_DATA_EXTENTS) {
		for (unsigned at = 0; at < le16_get(di->data_len); at += sizeof(struct od_extent_rec)) {
			le64_t rec[3];

			memcpy(rec, di->area + at, sizeof(rec));
			on_extent(c, rec, &x);
		}
	} else if (di->data_fmt == OD_DATA_TREE) {
		struct chk_tree t = { .type = OD_TREE_EXTENT, .owner = ino, .fn = on_extent, .arg = &x };
		struct od_root root;

		memcpy(&root, di->area, sizeof(root));
		chk_tree_walk(c, &t, &root);
		*nr_mblks += t.nr_nodes;
	}
	if (le64_get(di->nr_extents) != x.nr)
		chk_raise(c, CHK_P_EXTENT_COUNT, "%llu in the inode, %llu found",
			  (unsigned long long)le64_get(di->nr_extents), (unsigned long long)x.nr);
	if (x.shares && !(le16_get(di->data_flags) & OD_DATAF_SHARED))
		chk_raise(c, CHK_P_INODE_SHARED_FLAG, "%s", "");
	*data_fsbs += x.blocks;
	if (x.nr) {
		c->nr_files++;
		c->nr_file_extents += x.nr;
	}
}

static void check_used(struct chk *c, uint64_t ino, const struct od_inode *di, struct chk_inode *ci)
{
	uint64_t data_fsbs = 0, nr_mblks = 0;
	const char *bad;

	c->res->inodes++;
	bad = od_verify_inode(&c->od, di, ino);
	if (bad) {
		chk_raise(c, CHK_P_INODE_BAD, "%s", bad);
		ci->flags |= CHK_I_BAD;
		return;
	}
	ci->flags |= CHK_I_USED;
	ci->mode = le16_get(di->mode);
	ci->nlink = le32_get(di->nlink);
	if (le32_get(di->shift_op) != OD_SHIFT_NONE)
		ci->flags |= CHK_I_SHIFT;
	if (S_ISDIR(ci->mode)) {
		/* Blocks and names of directories are pass 3's, with their counting. */
		chk_dirinfo_of(c, ci)->parent = le64_get(di->parent);
		return;
	}
	if (S_ISREG(ci->mode))
		check_file(c, ino, di, ci, &data_fsbs, &nr_mblks);
	else if (S_ISLNK(ci->mode))
		chk_symlink(c, di, &nr_mblks);
	chk_attrs(c, di, ino, &nr_mblks);
	chk_inode_blocks(c, di, data_fsbs, nr_mblks);
}

static void check_slot(struct chk *c, uint64_t ino, const struct od_inode *di,
		       struct chk_inode *ci, bool marked_free)
{
	chk_at(c, "inode %llu", (unsigned long long)ino);
	if (le16_get(di->mode) != 0) {
		if (marked_free)
			chk_raise(c, CHK_P_INODE_FREE_IN_MAP, "%s", "");
		else
			check_used(c, ino, di, ci);
		return;
	}
	if (!marked_free)
		chk_raise(c, CHK_P_INODE_USED_IN_MAP, "%s", "");
	else if (od_verify_inode(&c->od, di, ino))
		chk_raise(c, CHK_P_INODE_BAD, "free, %s", od_verify_inode(&c->od, di, ino));
}

/* The block may be damaged as a whole: then all inodes in use in it are. */
static bool check_block(struct chk *c, uint64_t mblk, const void *block, int read_err)
{
	const char *bad = read_err ? "cannot be read" :
				     od_verify_inodes_hdr(&c->od, block, mblk, true);

	if (!bad)
		return true;
	chk_at(c, "inode block %llu", (unsigned long long)mblk);
	chk_raise(c, CHK_P_INODE_BLOCK, "%s", bad);
	return false;
}

static void check_cluster(struct chk *c, struct chk_cluster *cl, uint8_t *block)
{
	const unsigned mblks = 1u << (c->od.cluster_shift - OD_MBLK_SHIFT);

	for (unsigned i = 0; i < mblks && !c->error; i++) {
		const uint64_t mblk = cl->first + i;
		const bool sound = check_block(c, mblk, block, chk_read(c, mblk, block));

		for (unsigned slot = 1; slot <= OD_INODES_PER_MBLK; slot++) {
			const unsigned bit = i * OD_INODES_PER_MBLK + slot - 1;
			const uint64_t ino = od_ino_make(mblk, slot);
			const bool marked_free = bit < 64 ? cl->free_lo >> bit & 1 :
							    cl->free_hi >> (bit - 64) & 1;

			if (sound)
				check_slot(c, ino, (const void *)(block + od_ino_offset(ino)),
					   &cl->inodes[bit], marked_free);
			else if (!marked_free)
				cl->inodes[bit].flags |= CHK_I_BAD;
		}
	}
}

/* Orphans first: what they may look like differs. */
static void mark_orphans(struct chk *c)
{
	const struct chk_orphan *o = c->orphans.data;

	for (size_t i = 0; i < c->orphans.n; i++) {
		struct chk_inode *ci = chk_inode_get(c, o[i].ino);

		if (ci)
			ci->flags |= o[i].kind == OD_ORPHAN_UNLINKED ? CHK_I_UNLINKED : CHK_I_TRUNCATE;
	}
}

void chk_pass2(struct chk *c)
{
	struct chk_cluster *cl = c->clusters.data;
	void *block = chk_block_alloc(c);

	mark_orphans(c);
	for (size_t i = 0; block && !c->error && i < c->clusters.n; i++) {
		check_cluster(c, &cl[i], block);
		chk_progress(c, i + 1, c->clusters.n);
	}
	free(block);
	if (!c->error)
		chk_refc_judge(c);
}

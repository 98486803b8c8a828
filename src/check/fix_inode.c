/* SPDX-License-Identifier: MIT */
/* Repair: inodes one by one, the extents of files, attributes, targets of links. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fix.h"

/* ---- What an inode will be ------------------------------------------------------------------------- */

static int edit_cmp(const struct fix_edit *a, const struct fix_edit *b)
{
	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

RB_GENERATE_INTERNAL(fix_edits, fix_edit, node, edit_cmp, static __attribute__((unused)))

static struct fix_edit *edit_find(struct fix *f, uint64_t ino)
{
	struct fix_edit key = { .ino = ino };

	return RB_FIND(fix_edits, &f->edits, &key);
}

bool chk_fix_inode_now(struct fix *f, uint64_t ino, struct od_inode *di)
{
	const struct fix_edit *e = edit_find(f, ino);

	if (!e)
		return chk_inode_read(f->c, ino, di);
	*di = e->di;
	return true;
}

/* An edit that begins as *di. */
static struct od_inode *edit_add(struct fix *f, uint64_t ino, const struct od_inode *di)
{
	struct fix_edit *e = edit_find(f, ino);

	if (e)
		return &e->di;
	e = malloc(sizeof(*e));
	if (!e) {
		f->c->error = -ENOMEM;
		return NULL;
	}
	e->ino = ino;
	e->di = *di;
	RB_INSERT(fix_edits, &f->edits, e);
	return &e->di;
}

struct od_inode *chk_fix_inode_edit(struct fix *f, uint64_t ino)
{
	struct od_inode di;

	if (!chk_fix_inode_now(f, ino, &di))
		chk_fix_inode_clear(&di, ino);
	return edit_add(f, ino, &di);
}

void chk_fix_inode_clear(struct od_inode *di, uint64_t ino)
{
	/* A generation that no file handle of before has. */
	const uint32_t gen = le32_get(di->gen) + 1;

	memset(di, 0, sizeof(*di));
	di->magic = le16_make(OD_INODE_MAGIC);
	di->ino = le64_make(ino);
	di->gen = le32_make(gen);
}

void chk_fix_edits_free(struct fix *f)
{
	struct fix_edit *e, *next;

	RB_FOREACH_SAFE(e, fix_edits, &f->edits, next) {
		RB_REMOVE(fix_edits, &f->edits, e);
		free(e);
	}
}

/* Edits of one block: their numbers follow each other. The first one of the next block. */
static struct fix_edit *edit_block(struct fix *f, struct fix_edit *e, uint8_t *block)
{
	const uint64_t mblk = od_ino_mblk(e->ino);

	/* A block that fails as a whole has an edit for each of its slots. */
	if (chk_read(f->c, mblk, block) || od_verify_inodes_hdr(&f->c->od, block, mblk, true))
		od_inodes_init(block, f->c->od.meta_uuid, mblk);
	for (; e && od_ino_mblk(e->ino) == mblk; e = RB_NEXT(fix_edits, &f->edits, e))
		memcpy(block + od_ino_offset(e->ino), &e->di, sizeof(e->di));
	return e;
}

/* As many at once as the log takes: an inode that is torn in two would be neither the old nor the new one. */
int chk_fix_inodes_write(struct fix *f)
{
	const unsigned max = chk_fix_log_room(f);
	uint8_t *blocks = aligned_alloc(OD_MBLK_SIZE, (1ull + max) * OD_MBLK_SIZE);
	uint64_t *mblks = calloc(max, sizeof(*mblks));
	struct fix_edit *e = RB_MIN(fix_edits, &f->edits);
	int err = blocks && mblks ? 0 : -ENOMEM;

	while (e && !err) {
		unsigned n = 0;

		for (; e && n < max; n++) {
			mblks[n] = od_ino_mblk(e->ino);
			e = edit_block(f, e, blocks + (1ull + n) * OD_MBLK_SIZE);
		}
		err = chk_fix_log_write(f, mblks, blocks, n);
	}
	free(blocks);
	free(mblks);
	return err;
}

/* ---- Files ------------------------------------------------------------------------- */

static void keep_extent(struct chk *c, const le64_t *rec, void *arg)
{
	struct od_extent_rec x;

	memcpy(&x, rec, sizeof(x));
	chk_vec_push(c, arg, &x);
}

static void collect_extents(struct fix_trial *t, uint64_t ino, const struct od_inode *di,
			    struct chk_vec *recs, uint64_t *nr_nodes)
{
	const unsigned len = le16_get(di->data_len);

	if (di->data_fmt == OD_DATA_EXTENTS) {
		for (unsigned at = 0; at < len; at += sizeof(struct od_extent_rec)) {
			le64_t rec[3];

			memcpy(rec, di->area + at, sizeof(rec));
			keep_extent(&t->c, rec, recs);
		}
	} else if (di->data_fmt == OD_DATA_TREE) {
		struct chk_tree tree = { .type = OD_TREE_EXTENT, .owner = ino, .fn = keep_extent,
					 .arg = recs };
		struct od_root root;

		memcpy(&root, di->area, sizeof(root));
		chk_tree_walk(&t->c, &tree, &root);
		*nr_nodes = tree.nr_nodes;
	}
}

static int extent_order(const void *a, const void *b)
{
	const uint64_t x = le64_get(((const struct od_extent_rec *)a)->file_block);
	const uint64_t y = le64_get(((const struct od_extent_rec *)b)->file_block);

	return x < y ? -1 : x > y;
}

/* Blocks that the file has to itself stay; of others' it gets a copy, or a hole where nothing was written. */
static void split_extent(struct fix *f, const struct od_extent_rec *x, struct fix_file *file,
			 struct chk_vec *to, bool *shares)
{
	const uint64_t start = le64_get(x->val.start), len = le32_get(x->val.len);
	const bool unwritten = le32_get(x->val.flags) & OD_EXTENT_UNWRITTEN;
	bool mine;

	for (uint64_t at = 0, n; at < len && !f->c->error; at += n) {
		struct od_extent_rec piece = *x;

		n = chk_fix_refc_piece(f, start + at, len - at, unwritten, shares, &mine);
		if (!mine && unwritten)
			continue;
		piece.file_block = le64_make(le64_get(x->file_block) + at);
		piece.val.start = le64_make(start + at);
		piece.val.len = le32_make((uint32_t)n);
		if (!mine) {
			piece.val.flags = le32_make(FIX_EXTENT_CLONE);
			file->clones = true;
		}
		chk_vec_push(f->c, to, &piece);
	}
}

/*
 * Claim what is free. Blocks that another file has are marked: they get a copy. An extent that claims what
 * is no data, or that overlaps its neighbour, goes. *changed: the records are not what they were.
 */
static uint64_t claim_extents(struct fix *f, const struct od_inode *di, bool truncating,
			      struct fix_file *file, bool *changed)
{
	const struct od_ctx *od = &f->c->od;
	const unsigned shift = od->block_shift - CHK_UNIT_SHIFT;
	const uint64_t eof = DIV_ROUND_UP(le64_get(di->size), 1ull << od->block_shift);
	struct od_extent_rec *x = file->recs.data;
	uint64_t next = 0, blocks = 0;
	bool shares = false;
	struct chk_vec kept;

	*changed = false;
	chk_vec_init(&kept, sizeof(*x));
	if (file->recs.n)
		qsort(x, file->recs.n, sizeof(*x), extent_order);
	for (size_t i = 0; i < file->recs.n; i++) {
		const uint64_t at = le64_get(x[i].file_block), start = le64_get(x[i].val.start);
		const uint64_t len = le32_get(x[i].val.len);
		const bool unwritten = le32_get(x[i].val.flags) & OD_EXTENT_UNWRITTEN;

		if (at < next || !od_fsb_range_ok(od, start, len) ||
		    (at >= eof && !truncating && !unwritten)) {
			*changed = true;
			continue;
		}
		if (chk_fix_refc_claim(f, start, len, unwritten, &shares)) {
			blocks += len;
			chk_vec_push(f->c, &kept, &x[i]);
			next = at + len;
			continue;
		}
		*changed = true;
		if (!chk_fix_clonable(f, start << shift, (start + len) << shift))
			continue;
		split_extent(f, &x[i], file, &kept, &shares);
		next = at + len;
	}
	chk_vec_free(&file->recs);
	file->recs = kept;
	if (shares && !(le16_get(di->data_flags) & OD_DATAF_SHARED))
		chk_fix_refc_flag(f, file->ino);
	return blocks;
}

static void fix_counts(struct fix *f, uint64_t ino, const struct od_inode *di, uint64_t nr_extents,
		       uint64_t sectors)
{
	struct od_inode *edit;

	if (le64_get(di->nr_extents) == nr_extents && le64_get(di->nr_blocks) == sectors)
		return;
	edit = chk_fix_inode_edit(f, ino);
	if (!edit)
		return;
	edit->nr_extents = le64_make(nr_extents);
	edit->nr_blocks = le64_make(sectors);
}

static void fix_file(struct fix *f, uint64_t ino, bool truncating)
{
	struct fix_file file = { .ino = ino };
	uint64_t nr_nodes = 0, blocks;
	struct fix_trial t;
	struct od_inode di;
	bool good, changed;

	chk_vec_init(&file.recs, sizeof(struct od_extent_rec));
	if (chk_fix_attrs(f, ino, &file.attr_mblks) || !chk_fix_inode_now(f, ino, &di))
		return;
	chk_fix_trial_begin(f, &t);
	collect_extents(&t, ino, &di, &file.recs, &nr_nodes);
	/* Its own nodes first: data that claims them is wrong. */
	good = chk_fix_trial_end(f, &t);
	blocks = claim_extents(f, &di, truncating, &file, &changed);
	if (good && !changed) {
		fix_counts(f, ino, &di, file.recs.n,
			   (blocks << f->c->od.block_shift >> 9) +
				   ((nr_nodes + file.attr_mblks) << (OD_MBLK_SHIFT - 9)));
		chk_vec_free(&file.recs);
		return;
	}
	if (good) {
		/* The nodes are sound, but not what they say. */
		chk_fix_trial_begin(f, &t);
		struct chk_vec again;

		chk_vec_init(&again, sizeof(struct od_extent_rec));
		collect_extents(&t, ino, &di, &again, &nr_nodes);
		chk_vec_free(&again);
		chk_fix_trial_undo(f, &t);
	}
	chk_vec_push(f->c, &f->files, &file);
}

/* ---- One inode ------------------------------------------------------------------------- */

static void lose(struct fix *f, uint64_t ino, struct chk_inode *ci, const struct od_inode *di)
{
	struct od_inode *edit = edit_add(f, ino, di);

	ci->flags &= (uint16_t)~(CHK_I_USED | CHK_I_BAD);
	if (edit)
		chk_fix_inode_clear(edit, ino);
}

static void fix_symlink(struct fix *f, uint64_t ino, struct chk_inode *ci, const struct od_inode *di)
{
	uint64_t mblks = 0, attrs = 0;
	struct fix_trial t;

	chk_fix_trial_begin(f, &t);
	chk_symlink(&t.c, di, &mblks);
	if (!chk_fix_trial_end(f, &t)) {
		lose(f, ino, ci, di);
		return;
	}
	if (!chk_fix_attrs(f, ino, &attrs))
		fix_counts(f, ino, di, 0, (mblks + attrs) << (OD_MBLK_SHIFT - 9));
}

static void fix_used(struct fix *f, uint64_t ino, struct chk_inode *ci, const struct od_inode *di)
{
	uint64_t attrs;

	ci->flags |= CHK_I_USED;
	ci->mode = le16_get(di->mode);
	ci->nlink = le32_get(di->nlink);
	if (le32_get(di->shift_op) != OD_SHIFT_NONE)
		ci->flags |= CHK_I_SHIFT;
	if (S_ISDIR(ci->mode))
		chk_dirinfo_of(f->c, ci)->parent = le64_get(di->parent);
	if (S_ISREG(ci->mode))
		fix_file(f, ino, ci->flags & (CHK_I_TRUNCATE | CHK_I_UNLINKED | CHK_I_SHIFT) || !ci->nlink);
	else if (S_ISLNK(ci->mode))
		fix_symlink(f, ino, ci, di);
	else if (!S_ISDIR(ci->mode) && !chk_fix_attrs(f, ino, &attrs))
		fix_counts(f, ino, di, 0, attrs << (OD_MBLK_SHIFT - 9));
}

/* False: it is lost. */
static bool mend(struct fix *f, uint64_t ino, struct od_inode *di)
{
	bool attrs_only;

	if (!chk_fix_mend(f, ino, di, &attrs_only))
		return false;
	if (f->out)
		fprintf(f->out, "inode %llu: %s\n", (unsigned long long)ino,
			attrs_only ? "is sound but for its attributes" : "is mended");
	return edit_add(f, ino, di);
}

static void fix_block(struct fix *f, struct chk_cluster *cl, unsigned i, uint8_t *block)
{
	struct chk *c = f->c;
	const uint64_t mblk = cl->first + i;
	const bool readable = !chk_read(c, mblk, block);
	const bool sound = readable && !od_verify_inodes_hdr(&c->od, block, mblk, true);

	for (unsigned slot = 1; slot <= OD_INODES_PER_MBLK && !c->error; slot++) {
		const uint64_t ino = od_ino_make(mblk, slot);
		struct chk_inode *ci = &cl->inodes[i * OD_INODES_PER_MBLK + slot - 1];
		struct od_inode di = { .gen = le32_make(0) };

		if (readable)
			memcpy(&di, block + od_ino_offset(ino), sizeof(di));
		/* A root that is something else is made anew: what it holds is not the root's. */
		if (!readable || (od_verify_inode(&c->od, &di, ino) && !mend(f, ino, &di)) ||
		    (ino == c->sb.root_ino && le16_get(di.mode) && !S_ISDIR(le16_get(di.mode)))) {
			lose(f, ino, ci, &di);
			continue;
		}
		/* A whole inode in a damaged block is an inode all the same. */
		if (!sound)
			edit_add(f, ino, &di);
		if (le16_get(di.mode))
			fix_used(f, ino, ci, &di);
	}
}

int chk_fix_inodes(struct fix *f)
{
	const unsigned mblks = 1u << (f->c->od.cluster_shift - OD_MBLK_SHIFT);
	struct chk_cluster *cl = f->c->clusters.data;
	uint8_t *block = chk_block_alloc(f->c);

	for (size_t i = 0; block && i < f->c->clusters.n && !f->c->error; i++)
		for (unsigned k = 0; k < mblks; k++)
			fix_block(f, &cl[i], k, block);
	free(block);
	return f->c->error;
}

uint64_t chk_fix_inode_new(struct fix *f)
{
	const unsigned slots = (1u << (f->c->od.cluster_shift - OD_MBLK_SHIFT)) * OD_INODES_PER_MBLK;
	struct chk_cluster *cl = f->c->clusters.data;

	for (size_t i = 0; i < f->c->clusters.n; i++) {
		for (unsigned bit = 0; bit < slots; bit++) {
			if (cl[i].inodes[bit].flags & CHK_I_USED)
				continue;
			cl[i].inodes[bit] = (struct chk_inode){ .flags = CHK_I_USED };
			return od_ino_make(cl[i].first + bit / OD_INODES_PER_MBLK,
					   bit % OD_INODES_PER_MBLK + 1);
		}
	}
	return 0;
}

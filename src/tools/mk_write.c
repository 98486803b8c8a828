/* SPDX-License-Identifier: MIT */
/* Write a new file system: see docs/FORMAT.md, "A new file system". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <uuid/uuid.h>

#include "iomapfs/journal.h"
#include "iomapfs/util.h"
#include "mk.h"

/* mblks that a new group sets aside for its own trees. */
#define RESERVE_MBLKS 16u
/* Old signatures live near both ends of a device. */
#define WIPE_END (128u << 10)

/* What making one group needs at hand. */
struct mk_group {
	struct bd *bd;
	struct od_ctx c;
	const struct mk_params *p;
	uint32_t agno;
	uint64_t first;      /* mblk where its metadata starts: after the head and the journal */
	unsigned nr_used;    /* mblks handed out from there */
	unsigned nr_mblks;   /* mblks of whole clusters from first on: all of the metadata */
	uint8_t *meta;       /* image of those */
	uint8_t *head;       /* image of the head area */
};

static void *mblk_image(struct mk_group *g, uint64_t mblk)
{
	assert(mblk >= g->first && mblk < g->first + g->nr_mblks);
	return g->meta + (mblk - g->first) * OD_MBLK_SIZE;
}

/* Next mblk of the group. */
static uint64_t take_mblk(struct mk_group *g)
{
	assert(g->nr_used < g->nr_mblks);
	return g->first + g->nr_used++;
}

/* A tree of one leaf with one record. */
static void make_tree(struct mk_group *g, unsigned type, struct od_root *root, const le64_t *rec)
{
	const struct od_tree_geom *geom = od_tree_geom(type);
	const uint64_t mblk = take_mblk(g);
	struct od_hdr *h = mblk_image(g, mblk);

	od_hdr_init(h, OD_MAGIC_BTREE, g->c.meta_uuid, g->agno, mblk);
	h->type = le16_make((uint16_t)type);
	h->nrecs = le16_make(1);
	memcpy(h + 1, rec, geom->key_words * 8u + geom->val_bytes);
	od_seal(h, 0);
	assert(!od_verify_btree(&g->c, h, mblk, true));
	root->mblk = le64_make(mblk);
}

static void make_free_trees(struct mk_group *g, struct od_ag *ag, uint64_t nr_ag_blocks)
{
	const uint64_t start = (g->first + g->nr_mblks) << OD_MBLK_SHIFT >> g->c.block_shift;
	const uint64_t len = g->agno * g->c.ag_blocks + nr_ag_blocks - start;
	const le64_t by_place[2] = { le64_make(start), le64_make(len) };
	const le64_t by_len[2] = { le64_make(len), le64_make(start) };

	make_tree(g, OD_TREE_FREE_POS, &ag->free_pos, by_place);
	make_tree(g, OD_TREE_FREE_LEN, &ag->free_len, by_len);
	ag->free_blocks = le64_make(len);
}

/* The root directory: empty, its own parent, in the first slot of the first cluster. */
static void make_root(struct mk_group *g, void *block, uint64_t ino)
{
	struct od_inode *di = (void *)((uint8_t *)block + od_ino_offset(ino));
	const struct od_time now = {
		.sec = le64_make((uint64_t)g->p->now_sec),
		.nsec = le32_make(g->p->now_nsec),
	};

	di->mode = le16_make(S_IFDIR | 0755);
	di->nlink = le32_make(2);
	di->uid = le32_make(g->p->uid);
	di->gid = le32_make(g->p->gid);
	di->atime = di->mtime = di->ctime = di->btime = now;
	di->version = le64_make(1);
	di->parent = le64_make(ino);
	di->data_fmt = OD_DATA_DIR;
	di->data_len = le16_make(sizeof(struct od_dir_root));
	assert(!od_verify_inode(&g->c, di, ino));
}

/* One inode cluster: the first clusters of the metadata area of group 0. */
static void make_inodes(struct mk_group *g, struct od_ag *ag)
{
	const unsigned mblks = 1u << (g->c.cluster_shift - OD_MBLK_SHIFT);
	const unsigned slots = mblks * OD_INODES_PER_MBLK;
	const unsigned __int128 free_map = (((unsigned __int128)1 << slots) - 1) & ~(unsigned __int128)1;
	const le64_t rec[3] = { le64_make(g->first), le64_make((uint64_t)free_map),
				le64_make((uint64_t)(free_map >> 64)) };

	assert(g->nr_used == 0);
	for (unsigned i = 0; i < mblks; i++) {
		const uint64_t mblk = take_mblk(g);
		void *block = mblk_image(g, mblk);

		od_inodes_init(block, g->c.meta_uuid, mblk);
		if (i == 0)
			make_root(g, block, g->c.root_ino);
		od_seal(block, 0);
		assert(!od_verify_inodes(&g->c, block, mblk, true));
	}
	make_tree(g, OD_TREE_INO, &ag->ino, rec);
	make_tree(g, OD_TREE_INOFREE, &ag->inofree, rec);
	ag->nr_inodes = le64_make(1);
	ag->nr_free_inodes = le64_make(slots - 1);
}

/* Mblks that are left in the last cluster: the SLOT tree, whose node is one of them. */
static void make_slots(struct mk_group *g, struct od_ag *ag)
{
	const unsigned mblks = 1u << (g->c.cluster_shift - OD_MBLK_SHIFT);
	const unsigned left = g->nr_mblks - g->nr_used - 1;
	const uint64_t cluster = g->first + g->nr_mblks - mblks;
	const le64_t rec[2] = { le64_make(cluster),
				le64_make(((1ull << left) - 1) << (mblks - left)) };

	assert(left > 0 && left < mblks);
	make_tree(g, OD_TREE_SLOT, &ag->slot, rec);
	ag->free_slots = le64_make(left);
}

static void make_reserve(struct mk_group *g, struct od_ag *ag, unsigned n)
{
	assert(n <= OD_AG_RESERVE_MAX);
	for (unsigned i = 0; i < n; i++)
		ag->reserve[i] = le64_make(take_mblk(g));
	ag->nr_reserve = le32_make(n);
}

/* Size the metadata of the group and get memory for its images. */
static int group_alloc(struct mk_group *g)
{
	const unsigned mblks = 1u << (g->c.cluster_shift - OD_MBLK_SHIFT);
	unsigned n = 2 + RESERVE_MBLKS;

	if (g->agno == 0)
		n += mblks + 2;
	g->first = g->agno == 0 ? g->c.jnl_start + g->c.jnl_len :
				  od_ag_start_mblk(&g->c, g->agno) + OD_AG_HEAD_MBLKS;
	g->nr_mblks = ROUND_UP(n, mblks);
	g->nr_used = 0;
	g->meta = aligned_alloc(OD_MBLK_SIZE, (size_t)g->nr_mblks * OD_MBLK_SIZE);
	g->head = aligned_alloc(OD_MBLK_SIZE, OD_AG_HEAD_SIZE);
	if (!g->meta || !g->head)
		return -ENOMEM;
	memset(g->meta, 0, (size_t)g->nr_mblks * OD_MBLK_SIZE);
	memset(g->head, 0, OD_AG_HEAD_SIZE);
	return 0;
}

/* Images of the group's head (without superblock) and metadata. */
static void group_build(struct mk_group *g)
{
	const uint64_t start = g->agno * g->c.ag_blocks;
	const uint64_t nr_blocks = MIN(g->c.ag_blocks, g->c.nr_blocks - start);
	const uint64_t hdr_mblk = od_ag_start_mblk(&g->c, g->agno) + OD_AG_HDR_MBLK;
	struct od_ag *ag = (void *)(g->head + OD_AG_HDR_MBLK * OD_MBLK_SIZE);
	unsigned left;

	od_hdr_init(ag, OD_MAGIC_AG, g->c.meta_uuid, g->agno, hdr_mblk);
	ag->agno = le32_make(g->agno);
	ag->start = le64_make(start);
	ag->nr_blocks = le64_make(nr_blocks);
	if (g->agno == 0)
		make_inodes(g, ag);
	make_free_trees(g, ag, nr_blocks);
	left = g->nr_mblks - g->nr_used - RESERVE_MBLKS;
	/* A single mblk left over would hold a tree with nothing to say: set it aside too. */
	make_reserve(g, ag, RESERVE_MBLKS + (left == 1));
	if (left > 1)
		make_slots(g, ag);
	od_seal(ag, 0);
	assert(!od_verify_ag(&g->c, ag, hdr_mblk, true));
}

static int group_write(struct mk_group *g, const struct sb_info *sb)
{
	const uint64_t head_at = od_ag_start_mblk(&g->c, g->agno) << OD_MBLK_SHIFT;
	int err = group_alloc(g);

	if (err)
		goto out_free;
	group_build(g);
	/* The primary superblock is the last block of all to be written. */
	if (g->agno > 0)
		od_sb_encode(sb, g->agno, g->head);
	err = bd_write(g->bd, head_at, g->head, OD_AG_HEAD_SIZE, BD_META);
	if (!err)
		err = bd_write(g->bd, g->first << OD_MBLK_SHIFT, g->meta,
			       (uint64_t)g->nr_mblks * OD_MBLK_SIZE, BD_META);
out_free:
	free(g->meta);
	free(g->head);
	return err;
}

/*
 * The superblock of an older file system's group 1, wherever that was: it is what a mount falls
 * back to when the first one is gone, and its group may lie where this run comes late.
 */
static int wipe_copies(struct bd *bd)
{
	struct od_hdr *hdr = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	int err = hdr ? 0 : -ENOMEM;

	for (unsigned shift = OD_AG_SHIFT_MIN; shift <= OD_AG_SHIFT_MAX && !err; shift++) {
		const uint64_t at = 1ull << shift;

		if (at + OD_MBLK_SIZE > bd->info.size)
			break;
		/* What cannot be read is no copy either. */
		if (!bd_read(bd, at, hdr, OD_MBLK_SIZE) && le32_get(hdr->magic) == OD_MAGIC_SB &&
		    le64_get(hdr->owner) == 1)
			err = bd_write_zeroes(bd, at, OD_MBLK_SIZE);
	}
	free(hdr);
	return err;
}

/*
 * Whatever was there must not be found any more, by us or by anybody. The old superblock goes
 * alone, behind its copies and before the rest: at any moment the old file system is there
 * with all its pieces, or not to be found.
 */
static int wipe_old(struct bd *bd, const struct mk_params *p)
{
	const uint64_t end = ROUND_DOWN(bd->info.size, (uint64_t)OD_MBLK_SIZE);
	int err = wipe_copies(bd);

	if (!err)
		err = bd_write_zeroes(bd, 0, OD_MBLK_SIZE);
	if (!err)
		err = bd_flush(bd);
	if (!err)
		err = bd_write_zeroes(bd, 0, OD_AG_HEAD_SIZE);
	if (!err)
		err = bd_write_zeroes(bd, end - WIPE_END, WIPE_END);
	if (!err)
		err = bd_flush(bd);
	if (!err && p->discard)
		(void)bd_discard(bd, 0, end); /* advisory */
	return err;
}

static void fill_sb(struct sb_info *sb, const struct mk_geom *g, const struct mk_params *p)
{
	memset(sb, 0, sizeof(*sb));
	sb->version = OD_VERSION;
	sb->block_shift = g->block_shift;
	sb->cluster_shift = g->cluster_shift;
	memcpy(sb->uuid, p->uuid, sizeof(sb->uuid));
	memcpy(sb->meta_uuid, p->meta_uuid, sizeof(sb->meta_uuid));
	sb->hash_seed = p->hash_seed;
	sb->nr_blocks = g->nr_blocks;
	sb->ag_blocks = g->ag_blocks;
	sb->nr_ags = g->nr_ags;
	sb->jnl_start = g->jnl_start;
	sb->jnl_len = g->jnl_len;
	sb->root_ino = od_ino_make(g->jnl_start + g->jnl_len, 1);
	sb->ctime_sec = (uint64_t)p->now_sec;
	sb->mmp_interval_s = p->mmp_interval_s;
	if (!p->no_reflink)
		sb->ro_compat |= OD_RO_COMPAT_REFLINK;
	memcpy(sb->label, p->label, sizeof(sb->label));
	snprintf(sb->creator, sizeof(sb->creator), "mkfs.iomapfs %s", IOMAPFS_VERSION);
}

int mk_write(struct bd *bd, const struct mk_geom *g, const struct mk_params *p)
{
	struct mk_group group = { .bd = bd, .p = p };
	struct sb_info sb, back;
	void *block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	int err;

	if (!block)
		return -ENOMEM;
	fill_sb(&sb, g, p);
	od_ctx_init(&group.c, &sb);
	err = wipe_old(bd, p);
	for (group.agno = 0; !err && group.agno < g->nr_ags; group.agno++)
		err = group_write(&group, &sb);
	if (!err) {
		jnl_format_sb(&group.c, block);
		err = bd_write(bd, g->jnl_start << OD_MBLK_SHIFT, block, OD_MBLK_SIZE, BD_META);
	}
	if (!err)
		err = bd_flush(bd);
	if (!err) {
		od_sb_encode(&sb, 0, block);
		/* The last look before it counts: what was made must be readable. */
		err = od_sb_decode(block, 0, bd->info.size, &back) ? -EFSCORRUPTED :
		      bd_write(bd, 0, block, OD_MBLK_SIZE, BD_META);
	}
	if (!err)
		err = bd_flush(bd);
	free(block);
	return err;
}

void mk_params_init(struct mk_params *p)
{
	struct timespec now = clock_real_ts();

	memset(p, 0, sizeof(*p));
	uuid_generate(p->uuid);
	uuid_generate(p->meta_uuid);
	/* The kernel's pool is ready long before anybody makes a file system: no short read. */
	if (getrandom(&p->hash_seed, sizeof(p->hash_seed), 0) != sizeof(p->hash_seed))
		memcpy(&p->hash_seed, p->meta_uuid + 8, sizeof(p->hash_seed));
	p->now_sec = now.tv_sec;
	p->now_nsec = (uint32_t)now.tv_nsec;
}

int mk_default(struct bd *bd, unsigned block_shift)
{
	struct mk_params p;
	struct mk_geom g;

	if (mk_geom_compute(bd->info.size, block_shift, jnl_min_mblks(),
			    jnl_default_mblks(bd->info.size), &g))
		return -EINVAL;
	mk_params_init(&p);
	return mk_write(bd, &g, &p);
}

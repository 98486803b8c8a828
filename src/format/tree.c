/* SPDX-License-Identifier: MIT */
/* B+tree nodes: shapes of the records of every tree, and the tests of one node. */
#include "format_private.h"

static const struct od_tree_geom geoms[OD_TREE_NR] = {
	[OD_TREE_FREE_POS] = { "free-by-place", 1, 8, true },
	[OD_TREE_FREE_LEN] = { "free-by-length", 2, 0, true },
	[OD_TREE_SLOT] = { "metadata-slots", 1, 8, true },
	[OD_TREE_INO] = { "inodes", 1, 16, true },
	[OD_TREE_INOFREE] = { "free-inodes", 1, 0, true },
	[OD_TREE_ORPHAN] = { "orphans", 1, 8, true },
	[OD_TREE_REFC] = { "reference-counts", 1, 8, true },
	[OD_TREE_EXTENT] = { "extents", 1, 16, false },
	[OD_TREE_DIRMAP] = { "directory-blocks", 1, 8, false },
	[OD_TREE_DIRHASH] = { "name-hashes", 2, 0, false },
};

const struct od_tree_geom *od_tree_geom(unsigned type)
{
	return type < OD_TREE_NR && geoms[type].name ? &geoms[type] : NULL;
}

static unsigned rec_bytes(const struct od_tree_geom *g, bool leaf)
{
	return g->key_words * 8u + (leaf ? g->val_bytes : 8u);
}

unsigned od_tree_max_recs(unsigned type, bool leaf)
{
	const struct od_tree_geom *g = od_tree_geom(type);

	assert(g);
	return OD_PAYLOAD / rec_bytes(g, leaf);
}

/* A node under test: what the tests of its records need at hand. */
struct node {
	const struct od_ctx *c;
	const struct od_tree_geom *geom;
	uint64_t mblk, owner;
	uint64_t next;      /* smallest first key word that does not overlap the record before */
};

static uint64_t word(const uint8_t *p, unsigned i)
{
	le64_t v;

	memcpy(&v, p + i * 8, 8);
	return le64_get(v);
}

static bool in_group(const struct node *n, uint64_t mblk)
{
	return od_mblk_ok(n->c, mblk) && od_mblk_agno(n->c, mblk) == n->owner;
}

/* The first mblk of a whole, possible metadata cluster of this group. */
static bool cluster_ok(const struct node *n, uint64_t mblk)
{
	const unsigned mblks = od_cluster_mblks(n->c);

	return IS_ALIGNED(mblk, (uint64_t)mblks) && in_group(n, mblk) &&
	       in_group(n, mblk + mblks - 1);
}

static const char *check_free(struct node *n, uint64_t start, uint64_t len)
{
	if (!od_fsb_range_ok(n->c, start, len) || start / n->c->ag_blocks != n->owner)
		return "free-extent-out-of-bounds";
	return NULL;
}

static const char *check_free_pos(struct node *n, const uint8_t *rec)
{
	const uint64_t start = word(rec, 0), len = word(rec, 1);
	const char *bad = check_free(n, start, len);

	if (bad)
		return bad;
	if (start < n->next)
		return "free-extents-overlap";
	n->next = start + len;
	return NULL;
}

static const char *check_free_len(struct node *n, const uint8_t *rec)
{
	return check_free(n, word(rec, 1), word(rec, 0));
}

static const char *check_slot(struct node *n, const uint8_t *rec)
{
	const uint64_t map = word(rec, 1);

	if (!cluster_ok(n, word(rec, 0)))
		return "slot-cluster-out-of-bounds";
	if (map == 0)
		return "slot-map-empty";
	if (map >> od_cluster_mblks(n->c) != 0)
		return "slot-map-past-cluster";
	return NULL;
}

static const char *check_ino(struct node *n, const uint8_t *rec)
{
	const unsigned bits = od_cluster_mblks(n->c) * OD_INODES_PER_MBLK;
	const uint64_t lo = word(rec, 1), hi = word(rec, 2);

	if (!cluster_ok(n, word(rec, 0)))
		return "inode-cluster-out-of-bounds";
	if (bits < 64 ? (lo >> bits != 0 || hi != 0) : hi >> (bits - 64) != 0)
		return "inode-map-past-cluster";
	return NULL;
}

static const char *check_inofree(struct node *n, const uint8_t *rec)
{
	return cluster_ok(n, word(rec, 0)) ? NULL : "inode-cluster-out-of-bounds";
}

static const char *check_orphan(struct node *n, const uint8_t *rec)
{
	const uint64_t ino = word(rec, 0), kind = word(rec, 1);

	if (!od_ino_ok(n->c, ino) || od_mblk_agno(n->c, od_ino_mblk(ino)) != n->owner)
		return "orphan-out-of-bounds";
	if (kind != OD_ORPHAN_UNLINKED && kind != OD_ORPHAN_TRUNCATE && kind != OD_ORPHAN_SHIFT)
		return "unknown-orphan-kind";
	return NULL;
}

static const char *check_refc(struct node *n, const uint8_t *rec)
{
	const uint64_t start = word(rec, 0);
	struct od_refc_val val;
	uint32_t len;

	if (!n->c->reflink)
		return "unknown-tree-in-use";
	memcpy(&val, rec + 8, sizeof(val));
	len = le32_get(val.len);
	if (len == 0 || len > OD_EXTENT_LEN_MAX)
		return "shared-extent-length";
	if (!od_fsb_range_ok(n->c, start, len) || start / n->c->ag_blocks != n->owner)
		return "shared-extent-out-of-bounds";
	if (start < n->next)
		return "shared-extents-overlap";
	if (le32_get(val.refs) < 2)
		return "shared-extent-of-one-owner";
	n->next = start + len;
	return NULL;
}

const char *od_verify_extent(const struct od_ctx *c, uint64_t file_block,
			     const struct od_extent_val *val, uint64_t *next)
{
	const uint32_t len = le32_get(val->len);

	if (file_block < *next)
		return "extents-overlap";
	if (len == 0 || len > OD_EXTENT_LEN_MAX)
		return "extent-length";
	if (file_block > OD_FILE_SIZE_MAX >> c->block_shift ||
	    len - 1 > (OD_FILE_SIZE_MAX >> c->block_shift) - file_block)
		return "extent-past-largest-file";
	if (le32_get(val->flags) & ~OD_EXTENT_KNOWN)
		return "unknown-extent-flag";
	if (!od_fsb_range_ok(c, le64_get(val->start), len))
		return "extent-out-of-bounds";
	*next = file_block + len;
	return NULL;
}

static const char *check_extent(struct node *n, const uint8_t *rec)
{
	struct od_extent_val val;

	memcpy(&val, rec + 8, sizeof(val));
	return od_verify_extent(n->c, word(rec, 0), &val, &n->next);
}

static const char *check_dirmap(struct node *n, const uint8_t *rec)
{
	if (word(rec, 0) == 0 || word(rec, 0) > OD_FILE_SIZE_MAX >> OD_MBLK_SHIFT)
		return "directory-index-out-of-bounds";
	return od_mblk_ok(n->c, word(rec, 1)) ? NULL : "directory-block-out-of-bounds";
}

static const char *check_dirhash(struct node *n, const uint8_t *rec)
{
	const unsigned byte = (unsigned)(word(rec, 1) % 512) * 8;

	return byte >= OD_DIR_FIRST && byte <= OD_MBLK_SIZE - OD_DIRENT_HDR ?
		       NULL :
		       "name-position-out-of-bounds";
}

static const char *(*const check_rec[OD_TREE_NR])(struct node *n, const uint8_t *rec) = {
	[OD_TREE_FREE_POS] = check_free_pos, [OD_TREE_FREE_LEN] = check_free_len,
	[OD_TREE_SLOT] = check_slot,	     [OD_TREE_INO] = check_ino,
	[OD_TREE_INOFREE] = check_inofree,   [OD_TREE_ORPHAN] = check_orphan,
	[OD_TREE_REFC] = check_refc,	     [OD_TREE_EXTENT] = check_extent,
	[OD_TREE_DIRMAP] = check_dirmap,     [OD_TREE_DIRHASH] = check_dirhash,
};

static const char *check_child(struct node *n, const uint8_t *rec)
{
	const uint64_t child = word(rec, n->geom->key_words);

	if (child == n->mblk || !od_mblk_ok(n->c, child))
		return "child-out-of-bounds";
	if (n->geom->group && od_mblk_agno(n->c, child) != n->owner)
		return "child-in-other-group";
	return NULL;
}

static bool keys_ascend(const struct od_tree_geom *g, const uint8_t *a, const uint8_t *b)
{
	if (word(a, 0) != word(b, 0))
		return word(a, 0) < word(b, 0);
	return g->key_words == 2 && word(a, 1) < word(b, 1);
}

static const char *check_records(struct node *n, unsigned type, const struct od_hdr *h)
{
	const bool leaf = le16_get(h->level) == 0;
	const unsigned bytes = rec_bytes(n->geom, leaf), nrecs = le16_get(h->nrecs);
	const uint8_t *rec = (const uint8_t *)h + OD_HDR_SIZE;

	if (nrecs == 0)
		return "empty-node";
	if (nrecs > od_tree_max_recs(type, leaf))
		return "too-many-records";
	for (unsigned i = 0; i < nrecs; i++, rec += bytes) {
		const char *bad;

		if (i > 0 && !keys_ascend(n->geom, rec - bytes, rec))
			return "keys-not-ascending";
		bad = leaf ? check_rec[type](n, rec) : check_child(n, rec);
		if (bad)
			return bad;
	}
	return NULL;
}

const char *od_verify_btree(const struct od_ctx *c, const void *block, uint64_t mblk,
			    bool check_crc)
{
	const struct od_hdr *h = block;
	const unsigned type = le16_get(h->type);
	struct node n = { .c = c, .geom = od_tree_geom(type), .mblk = mblk };
	const char *bad;

	if (!od_mblk_ok(c, mblk))
		return "wrong-address";
	bad = od_verify_hdr_part(c, block, OD_MAGIC_BTREE, mblk, OD_ANY_OWNER, check_crc);
	if (bad)
		return bad;
	if (!n.geom)
		return "unknown-tree-type";
	n.owner = le64_get(h->owner);
	if (n.geom->group ? n.owner != od_mblk_agno(c, mblk) : !od_ino_ok(c, n.owner))
		return "wrong-owner";
	if (le16_get(h->level) >= OD_TREE_MAX_LEVEL)
		return "level-out-of-bounds";
	if (le16_get(h->flags) != 0)
		return "unknown-flags";
	return check_records(&n, type, h);
}

/* SPDX-License-Identifier: MIT */
/* Encoding, addresses, and every verifier: sound blocks pass, each fault has its name. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "iomapfs/format.h"
#include "iomapfs/util.h"
#include "unit.h"

/* 64 MiB of 4 KiB blocks in 4 groups of 16 MiB, journal of 4 MiB behind the first head. */
static struct sb_info sample_sb(void)
{
	struct sb_info sb = {
		.version = OD_VERSION,
		.block_shift = 12,
		.cluster_shift = 14,
		.hash_seed = 0x1234567890abcdefull,
		.nr_blocks = 16384,
		.ag_blocks = 4096,
		.nr_ags = 4,
		.jnl_start = 16,
		.jnl_len = 1024,
		.root_ino = 1040 * 8 + 1,
		.ro_compat = OD_RO_COMPAT_REFLINK,
		.ctime_sec = 1,
		.label = "sample",
		.creator = "test",
	};

	memset(sb.uuid, 0x11, sizeof(sb.uuid));
	memset(sb.meta_uuid, 0x22, sizeof(sb.meta_uuid));
	return sb;
}

static struct od_ctx sample_ctx(void)
{
	const struct sb_info sb = sample_sb();
	struct od_ctx c;

	od_ctx_init(&c, &sb);
	return c;
}

static union {
	uint8_t b[OD_MBLK_SIZE];
	struct od_hdr hdr;
	struct od_sb sb;
	struct od_ag ag;
	le64_t words[OD_MBLK_SIZE / 8];
} blk;
#define REC(i) blk.words[OD_HDR_SIZE / 8 + (i)]
#define MBLK 2000u

static void start_block(uint32_t magic, uint64_t owner, uint64_t mblk)
{
	const struct od_ctx c = sample_ctx();

	memset(&blk, 0, sizeof(blk));
	od_hdr_init(&blk, magic, c.meta_uuid, owner, mblk);
}

static void expect(const char *got, const char *want)
{
	if (want)
		ck_assert_msg(got && strcmp(got, want) == 0, "wanted %s, got %s", want, got);
	else
		ck_assert_msg(!got, "wanted no fault, got %s", got);
}

/* ---- Sums, hashes, addresses ----------------------------------------------------------------- */

START_TEST(known_sums)
{
	/* The check value that every table of CRCs gives for CRC-32C, and pieces equal the whole. */
	ck_assert_uint_eq(od_crc32c(0, "123456789", 9), 0xe3069283u);
	ck_assert_uint_eq(od_crc32c(od_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
	ck_assert_uint_eq(od_name_hash(0, "", 0), 0x2d06800538d394c2ull);
	ck_assert_uint_ne(od_name_hash(1, "a", 1), od_name_hash(2, "a", 1));
}
END_TEST

START_TEST(tree_shapes)
{
	ck_assert_ptr_null(od_tree_geom(0));
	ck_assert_ptr_null(od_tree_geom(OD_TREE_NR));
	ck_assert_uint_eq(od_tree_max_recs(OD_TREE_FREE_POS, true), 252);
	ck_assert_uint_eq(od_tree_max_recs(OD_TREE_FREE_LEN, true), 252);
	ck_assert_uint_eq(od_tree_max_recs(OD_TREE_FREE_LEN, false), 168);
	ck_assert_uint_eq(od_tree_max_recs(OD_TREE_EXTENT, true), 168);
	ck_assert_uint_eq(od_tree_max_recs(OD_TREE_INOFREE, true), 504);
	for (unsigned type = 1; type < OD_TREE_NR; type++) {
		const struct od_tree_geom *g = od_tree_geom(type);

		ck_assert_uint_le(od_tree_max_recs(type, true) * (g->key_words * 8u + g->val_bytes),
				  OD_PAYLOAD);
	}
}
END_TEST

START_TEST(addresses)
{
	const struct od_ctx c = sample_ctx();

	ck_assert(!od_mblk_ok(&c, 0));
	ck_assert(!od_mblk_ok(&c, 15));
	ck_assert(!od_mblk_ok(&c, 16));
	ck_assert(!od_mblk_ok(&c, 1039));
	ck_assert(od_mblk_ok(&c, 1040));
	ck_assert(od_mblk_ok(&c, 4095));
	ck_assert(!od_mblk_ok(&c, 4096 + 15));
	ck_assert(od_mblk_ok(&c, 4096 + 16));
	ck_assert(od_mblk_ok(&c, 16383));
	ck_assert(!od_mblk_ok(&c, 16384));
	ck_assert(!od_mblk_ok(&c, UINT64_MAX));
	ck_assert(!od_ino_ok(&c, 1040 * 8));
	ck_assert(od_ino_ok(&c, 1040 * 8 + 7));
	ck_assert(!od_ino_ok(&c, UINT64_MAX));

	ck_assert(od_fsb_range_ok(&c, 1040, 4096 - 1040));
	ck_assert(!od_fsb_range_ok(&c, 1040, 4096 - 1040 + 1));
	ck_assert(!od_fsb_range_ok(&c, 1039, 2));
	ck_assert(!od_fsb_range_ok(&c, 1040, 0));
	ck_assert(!od_fsb_range_ok(&c, 4096, 1));
	ck_assert(od_fsb_range_ok(&c, 16383, 1));
	ck_assert(!od_fsb_range_ok(&c, 16383, UINT64_MAX));
	ck_assert(!od_fsb_range_ok(&c, UINT64_MAX, 1));
}
END_TEST

/* ---- Superblock -------------------------------------------------------------------------------- */

START_TEST(sb_round_trip)
{
	const struct sb_info sb = sample_sb();

	for (uint32_t agno = 0; agno < sb.nr_ags; agno++) {
		struct sb_info back;

		memset(&back, 0xff, sizeof(back));
		od_sb_encode(&sb, agno, &blk);
		expect(od_sb_decode(&blk, agno, 64u << 20, &back), NULL);
		ck_assert_mem_eq(&sb, &back, sizeof(sb));
		expect(od_sb_decode(&blk, (agno + 1) % 4, 0, &back), "wrong-address");
		expect(od_sb_decode(&blk, 4, 0, &back), "wrong-owner");
		expect(od_sb_decode(&blk, agno, (64u << 20) - 512, &back), "device-too-small");
	}
}
END_TEST

static const struct sb_fault {
	const char *name;
	size_t at;
	unsigned bytes;
	uint64_t value;
} sb_faults[] = {
	{ "bad-magic", offsetof(struct od_sb, magic), 1, 'x' },
	{ "bad-magic", 0, 4, 0 },
	{ "unknown-version", offsetof(struct od_sb, version), 4, 2 },
	{ "bad-block-size", offsetof(struct od_sb, block_shift), 2, 9 },
	{ "bad-block-size", offsetof(struct od_sb, block_shift), 2, 17 },
	{ "bad-block-size", offsetof(struct od_sb, block_shift), 2, 0xffff },
	{ "bad-cluster-size", offsetof(struct od_sb, cluster_shift), 2, 13 },
	{ "bad-cluster-size", offsetof(struct od_sb, cluster_shift), 2, 0xffff },
	{ "bad-inode-size", offsetof(struct od_sb, inode_size), 4, 512 },
	{ "size-out-of-bounds", offsetof(struct od_sb, nr_blocks), 8, 0 },
	{ "size-out-of-bounds", offsetof(struct od_sb, nr_blocks), 8, UINT64_MAX },
	{ "size-not-aligned", offsetof(struct od_sb, nr_blocks), 8, 16383 },
	{ "bad-group-size", offsetof(struct od_sb, ag_blocks), 8, 0 },
	{ "bad-group-size", offsetof(struct od_sb, ag_blocks), 8, 4097 },
	{ "bad-group-size", offsetof(struct od_sb, ag_blocks), 8, UINT64_MAX - 15 },
	{ "bad-group-count", offsetof(struct od_sb, nr_ags), 4, 5 },
	{ "bad-group-count", offsetof(struct od_sb, nr_ags), 4, 0 },
	{ "last-group-too-short", offsetof(struct od_sb, nr_blocks), 8, 3 * 4096 + 16 },
	{ "journal-out-of-bounds", offsetof(struct od_sb, jnl_len), 8, UINT64_MAX },
	{ "journal-out-of-bounds", offsetof(struct od_sb, jnl_start), 8, UINT64_MAX },
	{ "journal-not-aligned", offsetof(struct od_sb, jnl_start), 8, 18 },
	{ "journal-crosses-group", offsetof(struct od_sb, jnl_start), 8, 8 },
	{ "journal-crosses-group", offsetof(struct od_sb, jnl_len), 8, 4096 },
	{ "label-not-padded", offsetof(struct od_sb, label) + 63, 1, 1 },
	{ "spare-not-zero", offsetof(struct od_sb, spare), 8, 1 },
	{ "tail-not-zero", 4095, 1, 1 },
	{ "bad-root-inode", offsetof(struct od_sb, root_ino), 8, 1040 * 8 },
	{ "bad-root-inode", offsetof(struct od_sb, root_ino), 8, UINT64_MAX },
	{ "bad-errors-behaviour", offsetof(struct od_sb, errors_behaviour), 2, 2 },
	{ "bad-stripe-unit", offsetof(struct od_sb, stripe_unit), 8, UINT64_MAX },
	{ "wrong-uuid", offsetof(struct od_hdr, uuid), 1, 1 },
	{ "wrong-address", offsetof(struct od_hdr, mblk), 8, 1 },
	{ "wrong-owner", offsetof(struct od_hdr, owner), 8, 1 },
};

START_TEST(sb_fault)
{
	const struct sb_fault *f = &sb_faults[_i];
	const struct sb_info sb = sample_sb();
	struct sb_info back, before;

	memset(&back, 0x5a, sizeof(back));
	before = back;
	od_sb_encode(&sb, 0, &blk);
	blk.b[100] ^= 1;
	expect(od_sb_decode(&blk, 0, 0, &back), "bad-crc");
	blk.b[100] ^= 1;
	memcpy(blk.b + f->at, &f->value, f->bytes);
	blk.hdr.crc = le32_make(od_crc(&blk));
	expect(od_sb_decode(&blk, 0, 0, &back), f->name);
	ck_assert_mem_eq(&back, &before, sizeof(back));
}
END_TEST

START_TEST(features)
{
	static const struct {
		uint64_t compat, ro_compat, incompat, jnl_incompat;
		enum od_mountable want;
		const char *word;
	} t[] = {
		{ 0, 0, 0, 0, OD_MOUNT_RW, NULL },
		{ UINT64_MAX, 0, 0, 0, OD_MOUNT_RW, NULL },
		{ 0, 4, 0, 0, OD_MOUNT_RO_ONLY, "ro_compat" },
		{ 0, 4, 8, 0, OD_MOUNT_REFUSE, "incompat" },
		{ 0, 4, 0, 8, OD_MOUNT_REFUSE, "jnl_incompat" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct sb_info sb = sample_sb();
		const char *word;
		uint64_t bits;

		sb.compat = t[i].compat;
		sb.ro_compat = t[i].ro_compat;
		sb.incompat = t[i].incompat;
		sb.jnl_incompat = t[i].jnl_incompat;
		ck_assert_int_eq(od_features_check(&sb, &bits, &word), t[i].want);
		ck_assert((word == NULL) == (t[i].word == NULL));
		if (word)
			ck_assert_str_eq(word, t[i].word);
		ck_assert((bits == 0) == (t[i].want == OD_MOUNT_RW));
	}
}
END_TEST

/* Each bit that a mount accepts has a name of its own, and no other bit has one. */
START_TEST(feature_names)
{
	static const uint64_t known[] = { OD_COMPAT_KNOWN, OD_RO_COMPAT_KNOWN, OD_INCOMPAT_KNOWN,
					  OD_JNL_INCOMPAT_KNOWN };

	for (enum od_feature_word w = OD_WORD_COMPAT; w <= OD_WORD_JNL_INCOMPAT; w++) {
		ck_assert_ptr_null(od_feature_name(w, 0));
		for (unsigned i = 0; i < 64; i++)
			ck_assert_int_eq(od_feature_name(w, 1ull << i) != NULL, known[w] >> i & 1);
	}
	ck_assert_str_eq(od_feature_name(OD_WORD_RO_COMPAT, OD_RO_COMPAT_REFLINK), "reflink");
	/* Of several the lowest: who prints them takes them off one by one. */
	ck_assert_str_eq(od_feature_name(OD_WORD_RO_COMPAT, UINT64_MAX), "reflink");
	ck_assert_ptr_null(od_feature_name(OD_WORD_RO_COMPAT, UINT64_MAX << 1));
}
END_TEST

/* ---- Trees ---------------------------------------------------------------------------------------- */

static const struct node_fault {
	const char *name;
	unsigned type, level, nrecs;
	uint64_t owner;
	uint64_t words[8];
} node_faults[] = {
	{ NULL, OD_TREE_FREE_POS, 0, 2, 0, { 1100, 10, 1110, 10 } },
	{ "unknown-tree-type", 0, 0, 1, 0, { 1100, 10 } },
	{ "unknown-tree-type", OD_TREE_NR, 0, 1, 0, { 1100, 10 } },
	{ "wrong-owner", OD_TREE_FREE_POS, 0, 1, 1, { 1100, 10 } },
	{ "wrong-owner", OD_TREE_EXTENT, 0, 1, 0, { 0, 1100, 10 } },
	{ "level-out-of-bounds", OD_TREE_FREE_POS, 12, 1, 0, { 1100, 1200 } },
	{ "empty-node", OD_TREE_FREE_POS, 0, 0, 0, { 0 } },
	{ "too-many-records", OD_TREE_FREE_POS, 0, 253, 0, { 1100, 10 } },
	{ "keys-not-ascending", OD_TREE_FREE_POS, 0, 2, 0, { 1110, 10, 1110, 10 } },
	{ "free-extents-overlap", OD_TREE_FREE_POS, 0, 2, 0, { 1100, 11, 1110, 10 } },
	{ "free-extent-out-of-bounds", OD_TREE_FREE_POS, 0, 1, 0, { 4112, 10 } },
	{ "free-extent-out-of-bounds", OD_TREE_FREE_POS, 0, 1, 0, { 1100, 0 } },
	{ NULL, OD_TREE_FREE_LEN, 0, 2, 0, { 5, 1100, 5, 1110 } },
	{ "keys-not-ascending", OD_TREE_FREE_LEN, 0, 2, 0, { 5, 1110, 5, 1100 } },
	{ NULL, OD_TREE_SLOT, 0, 1, 0, { 1100, 0xf } },
	{ "slot-map-empty", OD_TREE_SLOT, 0, 1, 0, { 1100, 0 } },
	{ "slot-map-past-cluster", OD_TREE_SLOT, 0, 1, 0, { 1100, 0x10 } },
	{ "slot-cluster-out-of-bounds", OD_TREE_SLOT, 0, 1, 0, { 1101, 1 } },
	{ NULL, OD_TREE_INO, 0, 1, 0, { 1100, (1u << 28) - 1, 0 } },
	{ "inode-map-past-cluster", OD_TREE_INO, 0, 1, 0, { 1100, 1u << 28, 0 } },
	{ "inode-map-past-cluster", OD_TREE_INO, 0, 1, 0, { 1100, 0, 1 } },
	{ "inode-cluster-out-of-bounds", OD_TREE_INOFREE, 0, 1, 0, { 4112 } },
	{ NULL, OD_TREE_ORPHAN, 0, 1, 0, { 1100 * 8 + 1, 2 } },
	{ NULL, OD_TREE_ORPHAN, 0, 1, 0, { 1100 * 8 + 1, 3 } },
	{ "unknown-orphan-kind", OD_TREE_ORPHAN, 0, 1, 0, { 1100 * 8 + 1, 4 } },
	{ "orphan-out-of-bounds", OD_TREE_ORPHAN, 0, 1, 0, { 1100 * 8, 1 } },
	{ NULL, OD_TREE_REFC, 0, 2, 0, { 1100, 10 | 2ull << 32, 1110, 5 | 3ull << 32 } },
	{ "shared-extents-overlap", OD_TREE_REFC, 0, 2, 0,
	  { 1100, 11 | 2ull << 32, 1110, 5 | 3ull << 32 } },
	{ "shared-extent-of-one-owner", OD_TREE_REFC, 0, 1, 0, { 1100, 10 | 1ull << 32 } },
	{ "shared-extent-length", OD_TREE_REFC, 0, 1, 0, { 1100, 0 | 2ull << 32 } },
	{ "shared-extent-out-of-bounds", OD_TREE_REFC, 0, 1, 0, { 4112, 10 | 2ull << 32 } },
	{ NULL, OD_TREE_EXTENT, 0, 2, 8801, { 0, 1100, 10 | 1ull << 32, 10, 1110, 3 } },
	{ "extents-overlap", OD_TREE_EXTENT, 0, 2, 8801, { 0, 1100, 10, 9, 1110, 3 } },
	{ "extent-length", OD_TREE_EXTENT, 0, 1, 8801, { 0, 1100, 0 } },
	{ "extent-length", OD_TREE_EXTENT, 0, 1, 8801, { 0, 1100, (1u << 30) + 1 } },
	{ "unknown-extent-flag", OD_TREE_EXTENT, 0, 1, 8801, { 0, 1100, 1 | 2ull << 32 } },
	{ "extent-out-of-bounds", OD_TREE_EXTENT, 0, 1, 8801, { 0, 4090, 10 } },
	{ "extent-past-largest-file", OD_TREE_EXTENT, 0, 1, 8801, { UINT64_MAX, 1100, 10 } },
	{ "extent-past-largest-file", OD_TREE_EXTENT, 0, 1, 8801, { (1ull << 51) - 5, 1100, 10 } },
	{ NULL, OD_TREE_EXTENT, 0, 1, 8801, { (1ull << 51) - 10, 1100, 10 } },
	{ NULL, OD_TREE_DIRMAP, 0, 1, 8801, { 1, 1100 } },
	{ "directory-index-out-of-bounds", OD_TREE_DIRMAP, 0, 1, 8801, { 0, 1100 } },
	{ "directory-block-out-of-bounds", OD_TREE_DIRMAP, 0, 1, 8801, { 1, 3 } },
	{ NULL, OD_TREE_DIRHASH, 0, 2, 8801, { 7, 10, 7, 522 } },
	{ "name-position-out-of-bounds", OD_TREE_DIRHASH, 0, 1, 8801, { 7, 9 } },
	{ NULL, OD_TREE_EXTENT, 1, 2, 8801, { 0, 1100, 9, 5000 } },
	{ "child-out-of-bounds", OD_TREE_EXTENT, 1, 1, 8801, { 0, 3 } },
	{ "child-out-of-bounds", OD_TREE_EXTENT, 1, 1, 8801, { 0, MBLK } },
	{ "child-in-other-group", OD_TREE_FREE_POS, 1, 1, 0, { 0, 5000 } },
};

START_TEST(node_fault)
{
	const struct node_fault *f = &node_faults[_i];
	const struct od_ctx c = sample_ctx();

	start_block(OD_MAGIC_BTREE, f->owner, MBLK);
	blk.hdr.type = le16_make((uint16_t)f->type);
	blk.hdr.level = le16_make((uint16_t)f->level);
	blk.hdr.nrecs = le16_make((uint16_t)f->nrecs);
	for (unsigned i = 0; i < ARRAY_SIZE(f->words); i++)
		REC(i) = le64_make(f->words[i]);
	expect(od_verify_btree(&c, &blk, MBLK, false), f->name);
	od_seal(&blk, 5);
	expect(od_verify_btree(&c, &blk, MBLK, true), f->name);
	expect(od_verify_any(&c, &blk, MBLK, true), f->name);
	expect(od_verify_btree(&c, &blk, MBLK + 1, true), "wrong-address");
	blk.b[4000] ^= 1;
	expect(od_verify_btree(&c, &blk, MBLK, true), "bad-crc");
}
END_TEST

/* ---- Inodes ----------------------------------------------------------------------------------------- */

static struct od_inode make_inode(mode_t mode, unsigned fmt, unsigned data_len, uint64_t size)
{
	struct od_inode di = {
		.magic = le16_make(OD_INODE_MAGIC),
		.mode = le16_make((uint16_t)mode),
		.nlink = le32_make(1),
		.ino = le64_make(8801),
		.size = le64_make(size),
		.data_fmt = (uint8_t)fmt,
		.data_len = le16_make((uint16_t)data_len),
	};

	memset(di.area, 'x', sizeof(di.area));
	return di;
}

/* Without the feature nobody shares: then neither counts nor flags may be there. */
START_TEST(no_reflink)
{
	struct od_ctx c = sample_ctx();

	c.reflink = false;
	start_block(OD_MAGIC_BTREE, 0, MBLK - 900);
	blk.hdr.type = le16_make(OD_TREE_REFC);
	blk.hdr.nrecs = le16_make(1);
	REC(0) = le64_make(1200);
	REC(1) = le64_make(10 | 2ull << 32);
	expect(od_verify_btree(&c, &blk, MBLK - 900, false), "unknown-tree-in-use");
	c.reflink = true;
	expect(od_verify_btree(&c, &blk, MBLK - 900, false), NULL);
}
END_TEST

START_TEST(inode_faults)
{
	const struct od_ctx c = sample_ctx();
	struct od_inode good = make_inode(S_IFREG | 0644, OD_DATA_INLINE, 5, 5), di = good;

	expect(od_verify_inode(&c, &good, 8801), NULL);
	expect(od_verify_inode(&c, &good, 8802), "inode-number");
	expect(od_verify_inode(&c, &good, 8), "inode-number-out-of-bounds");
#define FAULT(change, name) \
	do { \
		di = good; \
		change; \
		expect(od_verify_inode(&c, &di, 8801), name); \
	} while (0)
	FAULT(di.magic = le16_make(1), "inode-magic");
	FAULT(di.mode = le16_make(0), "free-inode-with-links");
	FAULT(di.mode = le16_make(0644), "unknown-file-type");
	FAULT(di.mode = le16_make(S_IFDIR | 0755), "data-format-of-directory");
	FAULT(di.mode = le16_make(S_IFIFO), "data-format-of-special-file");
	FAULT(di.nlink = le32_make(0x80000000u), "link-count-out-of-bounds");
	FAULT(di.flags = le32_make(1), "unknown-inode-flag");
	FAULT(di.size = le64_make(1ull << 63), "size-out-of-bounds");
	FAULT(di.size = le64_make(6), "inline-size");
	FAULT(di.nr_blocks = le64_make(1ull << 40), "block-count-out-of-bounds");
	FAULT(di.btime.nsec = le32_make(1000000000), "nanoseconds-out-of-bounds");
	FAULT(di.spare[2] = le64_make(1), "inode-spare-not-zero");
	FAULT(di.shift_len = le64_make(1), "shift-without-operation");
	FAULT(di.shift_op = le32_make(3), "unknown-shift");
	FAULT(di.shift_op = le32_make(OD_SHIFT_INSERT), "shift-without-extents");
	FAULT(di.data_flags = le16_make(2), "inode-data-flags");
	FAULT(di.data_len = le16_make(385), "area-overflow");
	FAULT(di.attr_len = le16_make(380), "area-overflow");
	FAULT(di.nr_extents = le64_make(1), "extent-count");
	FAULT(di.data_fmt = OD_DATA_NONE, "data-format-of-file");
	FAULT(di.data_fmt = OD_DATA_EXTENTS, "extent-list-length");
	FAULT(di.data_fmt = OD_DATA_TREE, "data-length");
	FAULT(di.data_fmt = 77, "data-format-of-file");
	FAULT(di.attr_fmt = 3, "unknown-attr-format");
	FAULT(di.attr_fmt = OD_ATTR_INLINE, "attr-length");
	FAULT(di.attr_fmt = OD_ATTR_BLOB, "attr-length");
	FAULT(di.attr_len = le16_make(8), "attr-length");
	FAULT(di.rdev_minor = le32_make(1), "device-number-of-other-type");
	FAULT((di.attr_fmt = OD_ATTR_BLOB, di.attr_len = le16_make(8)), "attr-blob-out-of-bounds");

	good = make_inode(S_IFREG | 0644, OD_DATA_EXTENTS, 0, 100000);
	good.shift_op = le32_make(OD_SHIFT_COLLAPSE);
	good.shift_at = good.shift_next = le64_make(2);
	good.shift_len = le64_make(3);
	FAULT((void)0, NULL);
	FAULT(di.shift_next = le64_make(5), NULL);
	FAULT(di.shift_next = le64_make(4), "shift-position");
	FAULT(di.shift_len = le64_make(0), "shift-out-of-bounds");
	FAULT(di.shift_len = le64_make(UINT64_MAX), "shift-out-of-bounds");
	FAULT(di.shift_next = le64_make(UINT64_MAX), "shift-out-of-bounds");
	FAULT(di.size = le64_make(4096), "shift-past-end");
	FAULT(di.shift_op = le32_make(OD_SHIFT_INSERT), NULL);
	FAULT((di.shift_op = le32_make(OD_SHIFT_INSERT), di.shift_next = le64_make(1)),
	      "shift-position");
	FAULT((di.shift_op = le32_make(OD_SHIFT_INSERT), di.size = le64_make((1ull << 63) - 2)),
	      "shift-past-end");

	good = make_inode(S_IFLNK | 0777, OD_DATA_INLINE, 5, 5);
	FAULT((void)0, NULL);
	FAULT(di.area[2] = 0, "symlink-holds-nul");
	FAULT(di.size = le64_make(0), "symlink-length");
	FAULT(di.size = le64_make(4096), "symlink-length");

	good = make_inode(S_IFREG, OD_DATA_EXTENTS, 48, 1);
	good.nr_extents = le64_make(2);
	memset(good.area, 0, sizeof(good.area));
	((le64_t *)(void *)good.area)[1] = le64_make(1100);
	good.area[16] = 4;
	((le64_t *)(void *)good.area)[3] = le64_make(4);
	((le64_t *)(void *)good.area)[4] = le64_make(1104);
	good.area[40] = 4;
	FAULT((void)0, NULL);
	FAULT(di.nr_extents = le64_make(1), "extent-count");
	FAULT(di.area[24] = 3, "extents-overlap");
#undef FAULT
}
END_TEST

static size_t put_xattr(uint8_t *to, unsigned ns, const char *name, unsigned flags, uint32_t len)
{
	const struct od_xattr x = {
		.ns = (uint8_t)ns,
		.name_len = (uint8_t)strlen(name),
		.flags = le16_make((uint16_t)flags),
		.value_len = le32_make(len),
	};

	memcpy(to, &x, sizeof(x));
	memcpy(to + sizeof(x), name, strlen(name));
	return od_xattr_rec_len(&x);
}

/* The last inode of a block ends with a record too short to hold a blob's address. */
START_TEST(short_xattr_at_the_end_of_memory)
{
	const struct od_ctx c = sample_ctx();
	struct od_inode *di = malloc(sizeof(*di));
	size_t len;

	*di = make_inode(S_IFREG | 0644, OD_DATA_INLINE, 5, 5);
	len = put_xattr(blk.b, OD_XNS_TRUSTED, "a", 0, 1);
	ck_assert_uint_eq(len, 12);
	memcpy(di->area + OD_INODE_AREA - len, blk.b, len);
	di->attr_fmt = OD_ATTR_INLINE;
	di->attr_len = le16_make((uint16_t)len);
	expect(od_verify_inode(&c, di, 8801), NULL);
	free(di);
}
END_TEST

START_TEST(inode_block)
{
	const struct od_ctx c = sample_ctx();

	od_inodes_init(&blk, c.meta_uuid, MBLK);
	expect(od_verify_inodes(&c, &blk, MBLK, false), NULL);
	od_seal(&blk, 1);
	expect(od_verify_inodes(&c, &blk, MBLK, true), NULL);
	for (unsigned slot = 1; slot <= OD_INODES_PER_MBLK; slot++) {
		struct od_inode *di = (void *)(blk.b + od_ino_offset(od_ino_make(MBLK, slot)));

		ck_assert_uint_eq(le64_get(di->ino), od_ino_make(MBLK, slot));
		di->ino = le64_make(1);
		expect(od_verify_inodes(&c, &blk, MBLK, false), "inode-number");
		di->ino = le64_make(od_ino_make(MBLK, slot));
	}
	blk.hdr.owner = le64_make(1);
	expect(od_verify_inodes(&c, &blk, MBLK, false), "wrong-owner");
}
END_TEST

/* ---- Directories, blobs, attributes --------------------------------------------------------------------- */

static struct od_dirent *make_dir(void)
{
	const struct od_ctx c = sample_ctx();
	struct od_dirent *de = (void *)(blk.b + OD_DIR_FIRST);

	start_block(OD_MAGIC_DIR, 8801, MBLK);
	de->ino = le64_make(8802);
	de->hash = le32_make((uint32_t)od_name_hash(c.hash_seed, "name", 4));
	de->rec_len = le16_make(OD_MBLK_SIZE - OD_DIR_FIRST);
	de->name_len = 4;
	de->type = DT_REG;
	memcpy(de->name, "name", 4);
	return de;
}

START_TEST(dir_faults)
{
	const struct od_ctx c = sample_ctx();
	struct od_dirent *de = make_dir();

	expect(od_verify_dir(&c, &blk, MBLK, false), NULL);
#define FAULT(change, name) \
	do { \
		de = make_dir(); \
		change; \
		expect(od_verify_dir(&c, &blk, MBLK, false), name); \
	} while (0)
	FAULT(de->rec_len = le16_make(0), "entry-length");
	FAULT(de->rec_len = le16_make(20), "entry-length");
	FAULT(de->rec_len = le16_make(OD_MBLK_SIZE), "entry-length");
	FAULT(de->rec_len = le16_make(OD_MBLK_SIZE - OD_DIR_FIRST - 8), "entry-length");
	FAULT((de->rec_len = le16_make(16)), "entry-name-length");
	FAULT(de->name_len = 0, "entry-name");
	FAULT(de->name[1] = '/', "entry-name");
	FAULT((de->name[0] = '.', de->name_len = 1), "entry-name");
	FAULT((memcpy(de->name, "..", 2), de->name_len = 2), "entry-name");
	FAULT(de->name[0] = 'm', "entry-hash");
	FAULT(de->ino = le64_make(8800), "entry-inode-out-of-bounds");
	FAULT(de->type = DT_UNKNOWN, "entry-type");
	FAULT(de->ino = le64_make(0), NULL);
	FAULT(blk.hdr.flags = le16_make(2), "unknown-flags");
	FAULT(blk.hdr.owner = le64_make(0), "wrong-owner");
	FAULT(REC(0) = le64_make(UINT64_MAX), "directory-index-out-of-bounds");
#undef FAULT
}
END_TEST

START_TEST(blob_faults)
{
	static const struct {
		const char *name;
		uint64_t next;
		uint32_t len, total;
	} t[] = {
		{ NULL, 0, 1, 1 },
		{ NULL, 0, OD_BLOB_DATA, 0 },
		{ NULL, 1100, OD_BLOB_DATA, OD_BLOB_MAX },
		{ "blob-length", 0, 0, 0 },
		{ "blob-length", 0, OD_BLOB_DATA + 1, 0 },
		{ "blob-next-out-of-bounds", MBLK, 1, 2 },
		{ "blob-next-out-of-bounds", 3, 1, 2 },
		{ "blob-total", 0, 1, 2 },
		{ "blob-total", 1100, 5, 5 },
		{ "blob-total", 1100, 5, OD_BLOB_MAX + 1 },
	};
	const struct od_ctx c = sample_ctx();

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		start_block(OD_MAGIC_BLOB, 8801, MBLK);
		REC(0) = le64_make(t[i].next);
		REC(1) = le64_make(t[i].len | (uint64_t)t[i].total << 32);
		expect(od_verify_blob(&c, &blk, MBLK, false), t[i].name);
	}
}
END_TEST

START_TEST(xattr_faults)
{
	uint8_t list[256] = { 0 };
	size_t one = put_xattr(list, OD_XNS_USER, "abc", 0, 10);
	size_t two = put_xattr(list + one, OD_XNS_USER, "abd", OD_XATTR_BLOB, 60000);

	ck_assert_uint_eq(one, 24);
	ck_assert_uint_eq(two, 20);
	expect(od_verify_xattrs(list, 0), NULL);
	expect(od_verify_xattrs(list, one + two), NULL);
	for (size_t n = 1; n < one + two; n++)
		if (n != one)
			expect(od_verify_xattrs(list, n), "xattr-past-list");
	list[one + 10] = 'c';
	expect(od_verify_xattrs(list, one + two), "xattr-repeats");
	list[one] = OD_XNS_TRUSTED;
	expect(od_verify_xattrs(list, one + two), NULL);
	list[one] = OD_XNS_ACL_ACCESS;
	expect(od_verify_xattrs(list, one + two), "xattr-name");
	list[one] = 6;
	expect(od_verify_xattrs(list, one + two), "unknown-xattr-namespace");
	list[2] = 2;
	expect(od_verify_xattrs(list, one), "unknown-xattr-flag");
	put_xattr(list, OD_XNS_USER, "abc", 0, OD_XATTR_VALUE_MAX + 1);
	expect(od_verify_xattrs(list, one), "xattr-value-length");
	put_xattr(list, OD_XNS_USER, "", 0, 4);
	expect(od_verify_xattrs(list, 12), "xattr-name");
}
END_TEST

/* ---- Groups -------------------------------------------------------------------------------------------------- */

static void make_ag(void)
{
	start_block(OD_MAGIC_AG, 1, 4096 + OD_AG_HDR_MBLK);
	blk.ag.agno = le32_make(1);
	blk.ag.start = le64_make(4096);
	blk.ag.nr_blocks = le64_make(4096);
	blk.ag.free_blocks = le64_make(100);
	blk.ag.free_pos.mblk = le64_make(4112);
	blk.ag.free_len.mblk = le64_make(4113);
	blk.ag.nr_reserve = le32_make(2);
	blk.ag.reserve[0] = le64_make(4114);
	blk.ag.reserve[1] = le64_make(4115);
}

START_TEST(ag_faults)
{
	const struct od_ctx c = sample_ctx();

#define FAULT(change, name) \
	do { \
		make_ag(); \
		change; \
		expect(od_verify_ag(&c, &blk, 4096 + OD_AG_HDR_MBLK, false), name); \
	} while (0)
	FAULT((void)0, NULL);
	FAULT(blk.ag.agno = le32_make(2), "wrong-group-number");
	FAULT(blk.ag.start = le64_make(0), "wrong-start");
	FAULT(blk.ag.nr_blocks = le64_make(4095), "wrong-length");
	FAULT(blk.ag.free_blocks = le64_make(4096), "free-blocks-out-of-bounds");
	FAULT(blk.ag.free_blocks = le64_make(0), "free-blocks-contradict-tree");
	FAULT(blk.ag.free_slots = le64_make(4097), "free-slots-out-of-bounds");
	FAULT(blk.ag.free_slots = le64_make(1), "free-slots-contradict-tree");
	FAULT(blk.ag.nr_inodes = le64_make(UINT64_MAX), "inodes-out-of-bounds");
	FAULT(blk.ag.nr_inodes = le64_make(1), "inodes-contradict-tree");
	FAULT(blk.ag.nr_free_inodes = le64_make(1), "free-inodes-contradict-tree");
	FAULT(blk.ag.free_len.mblk = le64_make(4112), "root-shared");
	FAULT(blk.ag.free_pos.mblk = le64_make(1100), "root-in-other-group");
	FAULT(blk.ag.free_pos.mblk = le64_make(4100), "root-out-of-bounds");
	FAULT(blk.ag.free_pos.level = le16_make(12), "root-level-out-of-bounds");
	FAULT(blk.ag.slot.level = le16_make(1), "empty-root-with-level");
	FAULT(blk.ag.spare_root.mblk = le64_make(4120), "unknown-tree-in-use");
	FAULT(blk.ag.nr_reserve = le32_make(129), "reserve-too-long");
	FAULT(blk.ag.reserve[1] = le64_make(4114), "reserve-repeats");
	FAULT(blk.ag.reserve[1] = le64_make(1100), "reserve-out-of-bounds");
	FAULT(blk.b[4095] = 1, "spare-not-zero");
	FAULT(blk.hdr.owner = le64_make(0), "wrong-owner");
#undef FAULT
	make_ag();
	expect(od_verify_ag(&c, &blk, OD_AG_HDR_MBLK, false), "wrong-address");
	expect(od_verify_ag(&c, &blk, UINT64_MAX, false), "wrong-address");
}
END_TEST

/* ---- Any bytes -------------------------------------------------------------------------------------------------- */

START_TEST(random_bytes)
{
	static const uint32_t magics[] = { OD_MAGIC_SB, OD_MAGIC_AG, OD_MAGIC_BTREE,
					   OD_MAGIC_INODES, OD_MAGIC_DIR, OD_MAGIC_BLOB };
	const struct od_ctx c = sample_ctx();
	const uint64_t seed = unit_seed(99);
	struct rng rng;

	rng_seed(&rng, seed);
	for (unsigned round = 0; round < 20000; round++) {
		const unsigned zeros = (unsigned)rng_below(&rng, 64);

		for (unsigned i = 0; i < ARRAY_SIZE(blk.words); i++)
			blk.words[i] = le64_make(rng_below(&rng, 64) < zeros ? 0 : rng_u64(&rng) >> rng_below(&rng, 64));
		od_hdr_init(&blk, magics[rng_below(&rng, ARRAY_SIZE(magics))], c.meta_uuid,
			    rng_below(&rng, 4) * 4400, MBLK);
		blk.hdr.type = le16_make((uint16_t)rng_below(&rng, OD_TREE_NR));
		blk.hdr.level = le16_make((uint16_t)rng_below(&rng, 2));
		blk.hdr.nrecs = le16_make((uint16_t)rng_below(&rng, 600));
		od_seal(&blk, 0);
		/* Whatever it says; the sanitizers watch that it looks at its block only. */
		(void)od_verify_any(&c, &blk, MBLK, true);
		(void)od_verify_xattrs(&blk, rng_below(&rng, OD_MBLK_SIZE));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format");
	TCase *tc = tcase_create("format");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, known_sums);
	tcase_add_test(tc, tree_shapes);
	tcase_add_test(tc, addresses);
	tcase_add_test(tc, sb_round_trip);
	tcase_add_loop_test(tc, sb_fault, 0, (int)ARRAY_SIZE(sb_faults));
	tcase_add_test(tc, features);
	tcase_add_test(tc, feature_names);
	tcase_add_loop_test(tc, node_fault, 0, (int)ARRAY_SIZE(node_faults));
	tcase_add_test(tc, no_reflink);
	tcase_add_test(tc, inode_faults);
	tcase_add_test(tc, short_xattr_at_the_end_of_memory);
	tcase_add_test(tc, inode_block);
	tcase_add_test(tc, dir_faults);
	tcase_add_test(tc, blob_faults);
	tcase_add_test(tc, xattr_faults);
	tcase_add_test(tc, ag_faults);
	tcase_add_test(tc, random_bytes);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

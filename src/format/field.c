/* SPDX-License-Identifier: MIT */
/* The table of structures. tests/unit/format/test_field.c holds it against format.h. */
#include "iomapfs/format_field.h"
#include "iomapfs/util.h"

#define MEMBER_SIZE(type, member) sizeof(((struct type *)0)->member)
#define ONE(type, member, kind) \
	{ #member, offsetof(struct type, member), MEMBER_SIZE(type, member), 1, OD_FK_##kind, NULL }
#define MANY(type, member, kind)                                                      \
	{ #member, offsetof(struct type, member), MEMBER_SIZE(type, member[0]),       \
	  MEMBER_SIZE(type, member) / MEMBER_SIZE(type, member[0]), OD_FK_##kind, NULL }
#define SUB(type, member, sub) \
	{ #member, offsetof(struct type, member), sizeof(struct sub), 1, OD_FK_UNUSED, &desc_##sub }
#define STRUCT(type) \
	static const struct od_struct desc_##type = { #type, sizeof(struct type), \
						      ARRAY_SIZE(fields_##type), fields_##type }

static const struct od_field fields_od_hdr[] = {
	ONE(od_hdr, magic, HEX), ONE(od_hdr, crc, CRC),	   ONE(od_hdr, uuid, UUID),
	ONE(od_hdr, owner, UINT), ONE(od_hdr, mblk, MBLK),  ONE(od_hdr, seq, UINT),
	ONE(od_hdr, type, UINT), ONE(od_hdr, level, UINT), ONE(od_hdr, nrecs, UINT),
	ONE(od_hdr, flags, HEX), ONE(od_hdr, spare, SPARE),
};
STRUCT(od_hdr);

static const struct od_field fields_od_root[] = {
	ONE(od_root, mblk, MBLK),
	ONE(od_root, level, UINT),
	ONE(od_root, spare16, SPARE),
	ONE(od_root, spare, SPARE),
};
STRUCT(od_root);

static const struct od_field fields_od_extent_val[] = {
	ONE(od_extent_val, start, FSB),
	ONE(od_extent_val, len, UINT),
	ONE(od_extent_val, flags, HEX),
};
STRUCT(od_extent_val);

static const struct od_field fields_od_refc_val[] = {
	ONE(od_refc_val, len, UINT),
	ONE(od_refc_val, refs, UINT),
};
STRUCT(od_refc_val);

static const struct od_field fields_od_ino_rec[] = {
	ONE(od_ino_rec, free_lo, HEX),
	ONE(od_ino_rec, free_hi, HEX),
};
STRUCT(od_ino_rec);

static const struct od_field fields_od_sb[] = {
	SUB(od_sb, hdr, od_hdr),
	ONE(od_sb, magic, TEXT),
	ONE(od_sb, version, UINT),
	ONE(od_sb, block_shift, UINT),
	ONE(od_sb, cluster_shift, UINT),
	ONE(od_sb, compat, HEX),
	ONE(od_sb, ro_compat, HEX),
	ONE(od_sb, incompat, HEX),
	ONE(od_sb, jnl_incompat, HEX),
	ONE(od_sb, uuid, UUID),
	ONE(od_sb, meta_uuid, UUID),
	ONE(od_sb, hash_seed, HEX),
	ONE(od_sb, nr_blocks, UINT),
	ONE(od_sb, ag_blocks, UINT),
	ONE(od_sb, nr_ags, UINT),
	ONE(od_sb, inode_size, UINT),
	ONE(od_sb, jnl_start, MBLK),
	ONE(od_sb, jnl_len, UINT),
	ONE(od_sb, root_ino, INO),
	ONE(od_sb, ctime_sec, SINT),
	ONE(od_sb, label, TEXT),
	ONE(od_sb, creator, TEXT),
	ONE(od_sb, stripe_unit, UINT),
	ONE(od_sb, errors_behaviour, UINT),
	ONE(od_sb, mmp_interval_s, UINT),
	ONE(od_sb, spare32, SPARE),
	MANY(od_sb, spare, SPARE),
};
STRUCT(od_sb);

static const struct od_field fields_od_mmp[] = {
	SUB(od_mmp, hdr, od_hdr),   ONE(od_mmp, seq, HEX),     ONE(od_mmp, time_sec, SINT),
	ONE(od_mmp, node, TEXT), ONE(od_mmp, device, TEXT), MANY(od_mmp, spare, SPARE),
};
STRUCT(od_mmp);

static const struct od_field fields_od_ag[] = {
	SUB(od_ag, hdr, od_hdr),
	ONE(od_ag, agno, UINT),
	ONE(od_ag, spare32, SPARE),
	ONE(od_ag, start, FSB),
	ONE(od_ag, nr_blocks, UINT),
	ONE(od_ag, free_blocks, UINT),
	ONE(od_ag, free_slots, UINT),
	ONE(od_ag, nr_inodes, UINT),
	ONE(od_ag, nr_free_inodes, UINT),
	SUB(od_ag, free_pos, od_root),
	SUB(od_ag, free_len, od_root),
	SUB(od_ag, slot, od_root),
	SUB(od_ag, ino, od_root),
	SUB(od_ag, inofree, od_root),
	SUB(od_ag, orphan, od_root),
	SUB(od_ag, refc, od_root),
	SUB(od_ag, spare_root, od_root),
	ONE(od_ag, nr_reserve, UINT),
	ONE(od_ag, spare32b, SPARE),
	MANY(od_ag, reserve, MBLK),
};
STRUCT(od_ag);

static const struct od_field fields_od_extent_rec[] = {
	ONE(od_extent_rec, file_block, UINT),
	SUB(od_extent_rec, val, od_extent_val),
};
STRUCT(od_extent_rec);

static const struct od_field fields_od_time[] = {
	ONE(od_time, sec, SINT),
	ONE(od_time, nsec, UINT),
};
STRUCT(od_time);

static const struct od_field fields_od_inode[] = {
	ONE(od_inode, magic, HEX),
	ONE(od_inode, mode, OCTAL),
	ONE(od_inode, nlink, UINT),
	ONE(od_inode, uid, UINT),
	ONE(od_inode, gid, UINT),
	ONE(od_inode, gen, UINT),
	ONE(od_inode, flags, HEX),
	ONE(od_inode, ino, INO),
	ONE(od_inode, size, UINT),
	ONE(od_inode, nr_blocks, UINT),
	ONE(od_inode, nr_extents, UINT),
	SUB(od_inode, atime, od_time),
	SUB(od_inode, mtime, od_time),
	SUB(od_inode, ctime, od_time),
	SUB(od_inode, btime, od_time),
	ONE(od_inode, version, UINT),
	ONE(od_inode, parent, INO),
	ONE(od_inode, rdev_major, UINT),
	ONE(od_inode, rdev_minor, UINT),
	ONE(od_inode, projid, UINT),
	ONE(od_inode, data_fmt, UINT),
	ONE(od_inode, attr_fmt, UINT),
	ONE(od_inode, data_len, UINT),
	ONE(od_inode, attr_len, UINT),
	ONE(od_inode, data_flags, HEX),
	ONE(od_inode, shift_op, UINT),
	ONE(od_inode, shift_at, UINT),
	ONE(od_inode, shift_len, UINT),
	ONE(od_inode, shift_next, UINT),
	MANY(od_inode, spare, SPARE),
	ONE(od_inode, area, BYTES),
};
STRUCT(od_inode);

static const struct od_field fields_od_dir_root[] = {
	ONE(od_dir_root, block0, MBLK),	   ONE(od_dir_root, nr_blocks, UINT),
	ONE(od_dir_root, nr_entries, UINT), ONE(od_dir_root, free_head, UINT),
	SUB(od_dir_root, map, od_root),	   SUB(od_dir_root, hash, od_root),
};
STRUCT(od_dir_root);

static const struct od_field fields_od_dir_block[] = {
	ONE(od_dir_block, index, UINT),
	ONE(od_dir_block, next_free, UINT),
};
STRUCT(od_dir_block);

static const struct od_field fields_od_dirent[] = {
	ONE(od_dirent, ino, INO),	ONE(od_dirent, hash, HEX),  ONE(od_dirent, rec_len, UINT),
	ONE(od_dirent, name_len, UINT), ONE(od_dirent, type, UINT),
};
STRUCT(od_dirent);

static const struct od_field fields_od_blob[] = {
	ONE(od_blob, next, MBLK),
	ONE(od_blob, len, UINT),
	ONE(od_blob, total, UINT),
};
STRUCT(od_blob);

static const struct od_field fields_od_xattr[] = {
	ONE(od_xattr, ns, UINT),
	ONE(od_xattr, name_len, UINT),
	ONE(od_xattr, flags, HEX),
	ONE(od_xattr, value_len, UINT),
};
STRUCT(od_xattr);

static const struct od_field fields_od_jsb[] = {
	SUB(od_jsb, hdr, od_hdr),     ONE(od_jsb, tail_seq, UINT), ONE(od_jsb, tail_block, UINT),
	ONE(od_jsb, clean, UINT),     ONE(od_jsb, incompat, HEX),  MANY(od_jsb, spare, SPARE),
};
STRUCT(od_jsb);

static const struct od_field fields_od_jdesc_entry[] = {
	ONE(od_jdesc_entry, mblk, MBLK),
	ONE(od_jdesc_entry, crc, HEX),
	ONE(od_jdesc_entry, flags, HEX),
};
STRUCT(od_jdesc_entry);

static const struct od_field fields_od_jcommit[] = {
	SUB(od_jcommit, hdr, od_hdr),	ONE(od_jcommit, nr_blocks, UINT),
	ONE(od_jcommit, time_sec, SINT), ONE(od_jcommit, chain_crc, HEX),
	ONE(od_jcommit, spare32, SPARE),
};
STRUCT(od_jcommit);

/* Records of trees: a key of one or two words, then the value (enum od_tree in format.h). */
#define WORD(name, at, kind) { name, (at) * 8, 8, 1, OD_FK_##kind, NULL }
#define VALUE(at, sub) { "val", (at) * 8, sizeof(struct sub), 1, OD_FK_UNUSED, &desc_##sub }
#define REC(type, bytes, ...)                                                             \
	static const struct od_field fields_##type[] = { __VA_ARGS__ };                   \
	static const struct od_struct desc_##type = { #type, bytes, ARRAY_SIZE(fields_##type), \
						      fields_##type }

REC(free_pos, 16, WORD("start", 0, FSB), WORD("len", 1, UINT));
REC(free_len, 16, WORD("len", 0, UINT), WORD("start", 1, FSB));
REC(slot, 16, WORD("cluster", 0, MBLK), WORD("free", 1, HEX));
REC(ino, 24, WORD("cluster", 0, MBLK), VALUE(1, od_ino_rec));
REC(inofree, 8, WORD("cluster", 0, MBLK));
REC(orphan, 16, WORD("ino", 0, INO), WORD("kind", 1, UINT));
REC(refc, 16, WORD("start", 0, FSB), VALUE(1, od_refc_val));
REC(extent, 24, WORD("file_block", 0, UINT), VALUE(1, od_extent_val));
REC(dirmap, 16, WORD("index", 0, UINT), WORD("mblk", 1, MBLK));
REC(dirhash, 16, WORD("hash", 0, HEX), WORD("position", 1, UINT));

static const struct od_struct *const leaf_recs[OD_TREE_NR] = {
	[OD_TREE_FREE_POS] = &desc_free_pos, [OD_TREE_FREE_LEN] = &desc_free_len,
	[OD_TREE_SLOT] = &desc_slot,	     [OD_TREE_INO] = &desc_ino,
	[OD_TREE_INOFREE] = &desc_inofree,   [OD_TREE_ORPHAN] = &desc_orphan,
	[OD_TREE_REFC] = &desc_refc,	     [OD_TREE_EXTENT] = &desc_extent,
	[OD_TREE_DIRMAP] = &desc_dirmap,     [OD_TREE_DIRHASH] = &desc_dirhash,
};

REC(child1, 16, WORD("key", 0, HEX), WORD("child", 1, MBLK));
REC(child2, 24, WORD("key", 0, HEX), WORD("key2", 1, HEX), WORD("child", 2, MBLK));

const struct od_struct *od_tree_rec(unsigned type, bool leaf)
{
	const struct od_tree_geom *geom = od_tree_geom(type);

	if (!geom)
		return NULL;
	if (leaf)
		return leaf_recs[type];
	return geom->key_words == 1 ? &desc_child1 : &desc_child2;
}

static const struct od_struct *const structs[] = {
	&desc_od_hdr,	    &desc_od_root,    &desc_od_extent_val, &desc_od_ino_rec,
	&desc_od_sb,	    &desc_od_mmp,     &desc_od_ag,	   &desc_od_extent_rec,
	&desc_od_time,	    &desc_od_inode,   &desc_od_dir_root,   &desc_od_dir_block,
	&desc_od_dirent,    &desc_od_blob,    &desc_od_xattr,	   &desc_od_jsb,
	&desc_od_jdesc_entry, &desc_od_jcommit, &desc_od_refc_val,
};

const struct od_struct *od_struct_get(unsigned i)
{
	return i < ARRAY_SIZE(structs) ? structs[i] : NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * Every size and offset of the format, pinned at compile time: a change of compiler,
 * padding or field order must not build rather than write another format.
 */
#include <assert.h>

#include "iomapfs/format.h"

/* The le*_get and le*_make of format.h copy bytes. A big-endian port starts there. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian hosts only");

#define CHECK_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), "size of " #type)
#define CHECK_OFFSET(type, field, bytes) \
	static_assert(offsetof(type, field) == (bytes), "offset of " #type "." #field)

CHECK_SIZE(struct od_hdr, OD_HDR_SIZE);
CHECK_OFFSET(struct od_hdr, crc, 4);
CHECK_OFFSET(struct od_hdr, uuid, 8);
CHECK_OFFSET(struct od_hdr, owner, 24);
CHECK_OFFSET(struct od_hdr, mblk, 32);
CHECK_OFFSET(struct od_hdr, seq, 40);
CHECK_OFFSET(struct od_hdr, type, 48);
CHECK_OFFSET(struct od_hdr, level, 50);
CHECK_OFFSET(struct od_hdr, nrecs, 52);
CHECK_OFFSET(struct od_hdr, flags, 54);
CHECK_OFFSET(struct od_hdr, spare, 56);

CHECK_SIZE(struct od_root, 16);
CHECK_OFFSET(struct od_root, level, 8);
CHECK_OFFSET(struct od_root, spare16, 10);
CHECK_OFFSET(struct od_root, spare, 12);

CHECK_SIZE(struct od_extent_val, 16);
CHECK_OFFSET(struct od_extent_val, len, 8);
CHECK_OFFSET(struct od_extent_val, flags, 12);
CHECK_SIZE(struct od_extent_rec, 24);
CHECK_OFFSET(struct od_extent_rec, val, 8);
CHECK_SIZE(struct od_refc_val, 8);
CHECK_OFFSET(struct od_refc_val, refs, 4);
CHECK_SIZE(struct od_ino_rec, 16);
CHECK_OFFSET(struct od_ino_rec, free_hi, 8);

CHECK_SIZE(struct od_sb, 384);
CHECK_OFFSET(struct od_sb, magic, 64);
CHECK_OFFSET(struct od_sb, version, 72);
CHECK_OFFSET(struct od_sb, block_shift, 76);
CHECK_OFFSET(struct od_sb, cluster_shift, 78);
CHECK_OFFSET(struct od_sb, compat, 80);
CHECK_OFFSET(struct od_sb, ro_compat, 88);
CHECK_OFFSET(struct od_sb, incompat, 96);
CHECK_OFFSET(struct od_sb, jnl_incompat, 104);
CHECK_OFFSET(struct od_sb, uuid, 112);
CHECK_OFFSET(struct od_sb, meta_uuid, 128);
CHECK_OFFSET(struct od_sb, hash_seed, 144);
CHECK_OFFSET(struct od_sb, nr_blocks, 152);
CHECK_OFFSET(struct od_sb, ag_blocks, 160);
CHECK_OFFSET(struct od_sb, nr_ags, 168);
CHECK_OFFSET(struct od_sb, inode_size, 172);
CHECK_OFFSET(struct od_sb, jnl_start, 176);
CHECK_OFFSET(struct od_sb, jnl_len, 184);
CHECK_OFFSET(struct od_sb, root_ino, 192);
CHECK_OFFSET(struct od_sb, ctime_sec, 200);
CHECK_OFFSET(struct od_sb, label, 208);
CHECK_OFFSET(struct od_sb, creator, 272);
CHECK_OFFSET(struct od_sb, stripe_unit, 304);
CHECK_OFFSET(struct od_sb, errors_behaviour, 312);
CHECK_OFFSET(struct od_sb, mmp_interval_s, 314);
CHECK_OFFSET(struct od_sb, spare32, 316);
CHECK_OFFSET(struct od_sb, spare, 320);

CHECK_SIZE(struct od_ag, 1280);
CHECK_OFFSET(struct od_ag, agno, 64);
CHECK_OFFSET(struct od_ag, spare32, 68);
CHECK_OFFSET(struct od_ag, start, 72);
CHECK_OFFSET(struct od_ag, nr_blocks, 80);
CHECK_OFFSET(struct od_ag, free_blocks, 88);
CHECK_OFFSET(struct od_ag, free_slots, 96);
CHECK_OFFSET(struct od_ag, nr_inodes, 104);
CHECK_OFFSET(struct od_ag, nr_free_inodes, 112);
CHECK_OFFSET(struct od_ag, free_pos, 120);
CHECK_OFFSET(struct od_ag, free_len, 136);
CHECK_OFFSET(struct od_ag, slot, 152);
CHECK_OFFSET(struct od_ag, ino, 168);
CHECK_OFFSET(struct od_ag, inofree, 184);
CHECK_OFFSET(struct od_ag, orphan, 200);
CHECK_OFFSET(struct od_ag, refc, 216);
CHECK_OFFSET(struct od_ag, spare_root, 232);
CHECK_OFFSET(struct od_ag, nr_reserve, 248);
CHECK_OFFSET(struct od_ag, spare32b, 252);
CHECK_OFFSET(struct od_ag, reserve, 256);

CHECK_SIZE(struct od_time, 12);
CHECK_OFFSET(struct od_time, nsec, 8);
CHECK_SIZE(struct od_inode, OD_INODE_SIZE);
CHECK_OFFSET(struct od_inode, mode, 2);
CHECK_OFFSET(struct od_inode, nlink, 4);
CHECK_OFFSET(struct od_inode, uid, 8);
CHECK_OFFSET(struct od_inode, gid, 12);
CHECK_OFFSET(struct od_inode, gen, 16);
CHECK_OFFSET(struct od_inode, flags, 20);
CHECK_OFFSET(struct od_inode, ino, 24);
CHECK_OFFSET(struct od_inode, size, 32);
CHECK_OFFSET(struct od_inode, nr_blocks, 40);
CHECK_OFFSET(struct od_inode, nr_extents, 48);
CHECK_OFFSET(struct od_inode, atime, 56);
CHECK_OFFSET(struct od_inode, mtime, 68);
CHECK_OFFSET(struct od_inode, ctime, 80);
CHECK_OFFSET(struct od_inode, btime, 92);
CHECK_OFFSET(struct od_inode, version, 104);
CHECK_OFFSET(struct od_inode, parent, 112);
CHECK_OFFSET(struct od_inode, rdev_major, 120);
CHECK_OFFSET(struct od_inode, rdev_minor, 124);
CHECK_OFFSET(struct od_inode, projid, 128);
CHECK_OFFSET(struct od_inode, data_fmt, 132);
CHECK_OFFSET(struct od_inode, attr_fmt, 133);
CHECK_OFFSET(struct od_inode, data_len, 134);
CHECK_OFFSET(struct od_inode, attr_len, 136);
CHECK_OFFSET(struct od_inode, data_flags, 138);
CHECK_OFFSET(struct od_inode, shift_op, 140);
CHECK_OFFSET(struct od_inode, shift_at, 144);
CHECK_OFFSET(struct od_inode, shift_len, 152);
CHECK_OFFSET(struct od_inode, shift_next, 160);
CHECK_OFFSET(struct od_inode, spare, 168);
CHECK_OFFSET(struct od_inode, area, 192);
static_assert(OD_HDR_SIZE + OD_INODES_PER_MBLK * OD_INODE_SIZE == OD_MBLK_SIZE,
	      "seven inodes fill a block");

CHECK_SIZE(struct od_dir_root, 64);
CHECK_OFFSET(struct od_dir_root, nr_blocks, 8);
CHECK_OFFSET(struct od_dir_root, nr_entries, 16);
CHECK_OFFSET(struct od_dir_root, free_head, 24);
CHECK_OFFSET(struct od_dir_root, map, 32);
CHECK_OFFSET(struct od_dir_root, hash, 48);
CHECK_SIZE(struct od_mmp, 240);
CHECK_OFFSET(struct od_mmp, seq, 64);
CHECK_OFFSET(struct od_mmp, time_sec, 72);
CHECK_OFFSET(struct od_mmp, node, 80);
CHECK_OFFSET(struct od_mmp, device, 144);
CHECK_OFFSET(struct od_mmp, spare, 208);

CHECK_SIZE(struct od_dir_block, 16);
CHECK_OFFSET(struct od_dir_block, next_free, 8);
CHECK_SIZE(struct od_dirent, OD_DIRENT_HDR);
CHECK_OFFSET(struct od_dirent, hash, 8);
CHECK_OFFSET(struct od_dirent, rec_len, 12);
CHECK_OFFSET(struct od_dirent, name_len, 14);
CHECK_OFFSET(struct od_dirent, type, 15);
CHECK_OFFSET(struct od_dirent, name, 16);

CHECK_SIZE(struct od_blob, 16);
CHECK_OFFSET(struct od_blob, len, 8);
CHECK_OFFSET(struct od_blob, total, 12);
CHECK_SIZE(struct od_xattr, 8);
CHECK_OFFSET(struct od_xattr, name_len, 1);
CHECK_OFFSET(struct od_xattr, flags, 2);
CHECK_OFFSET(struct od_xattr, value_len, 4);

CHECK_SIZE(struct od_jsb, 128);
CHECK_OFFSET(struct od_jsb, tail_seq, 64);
CHECK_OFFSET(struct od_jsb, tail_block, 72);
CHECK_OFFSET(struct od_jsb, clean, 80);
CHECK_OFFSET(struct od_jsb, incompat, 88);
CHECK_OFFSET(struct od_jsb, spare, 96);
CHECK_SIZE(struct od_jdesc_entry, 16);
CHECK_OFFSET(struct od_jdesc_entry, crc, 8);
CHECK_OFFSET(struct od_jdesc_entry, flags, 12);
CHECK_SIZE(struct od_jcommit, 88);
CHECK_OFFSET(struct od_jcommit, nr_blocks, 64);
CHECK_OFFSET(struct od_jcommit, time_sec, 72);
CHECK_OFFSET(struct od_jcommit, chain_crc, 80);
CHECK_OFFSET(struct od_jcommit, spare32, 84);

/* The widest cluster's inodes fit the two words of an od_ino_rec, its mblks one word. */
static_assert((1u << (OD_BLOCK_SHIFT_MAX - OD_MBLK_SHIFT)) * OD_INODES_PER_MBLK <= 128,
	      "inodes of a cluster");

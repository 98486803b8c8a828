/* SPDX-License-Identifier: MIT */
/*
 * format - the structures on disk, their encoding and their checks.
 *
 * Pure functions over bytes: no I/O, no allocation, no state. All integers are
 * little-endian and wrapped in types that do not mix with host integers.
 * docs/FORMAT.md is the prose; this header and src/format/ are its truth.
 *
 * Units: "mblk" = metadata block number = byte offset / 4096, whatever the data
 * block size; "fsb" = file system (data) block number = byte offset / block size.
 */
#ifndef IOMAPFS_FORMAT_H
#define IOMAPFS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- Little-endian types ------------------------------------------------------- */

typedef struct { uint8_t b[2]; } le16_t;
typedef struct { uint8_t b[4]; } le32_t;
typedef struct { uint8_t b[8]; } le64_t;

static inline uint16_t le16_get(le16_t v)
{
	uint16_t x;

	memcpy(&x, v.b, 2);
	return x; /* little-endian hosts only: asserted in src/format/layout.c */
}
static inline uint32_t le32_get(le32_t v)
{
	uint32_t x;

	memcpy(&x, v.b, 4);
	return x;
}
static inline uint64_t le64_get(le64_t v)
{
	uint64_t x;

	memcpy(&x, v.b, 8);
	return x;
}
static inline le16_t le16_make(uint16_t x)
{
	le16_t v;

	memcpy(v.b, &x, 2);
	return v;
}
static inline le32_t le32_make(uint32_t x)
{
	le32_t v;

	memcpy(v.b, &x, 4);
	return v;
}
static inline le64_t le64_make(uint64_t x)
{
	le64_t v;

	memcpy(v.b, &x, 8);
	return v;
}

/* ---- Geometry ------------------------------------------------------------------- */

#define OD_MBLK_SHIFT 12
#define OD_MBLK_SIZE  4096u
#define OD_BLOCK_SHIFT_MIN 10 /* 1 KiB */
#define OD_BLOCK_SHIFT_MAX 16 /* 64 KiB */
/*
 * Metadata is handed out of aligned clusters of max(block size, 16 KiB).
 * Every allocation group starts with one head area of 64 KiB:
 *   mblk +0  superblock (group 0: the primary, others: copies)
 *   mblk +1  multiple-mount protection (group 0 only; zero elsewhere)
 *   mblk +2  group header
 *   mblk +3..15  zero, reserved
 */
#define OD_CLUSTER_MIN   (16u << 10)
#define OD_AG_HEAD_SIZE  (64u << 10)
#define OD_AG_HEAD_MBLKS 16
#define OD_AG_SB_MBLK    0
#define OD_AG_MMP_MBLK   1
#define OD_AG_HDR_MBLK   2
#define OD_AG_MAX        4096
/* Groups are powers of two in bytes; where group 1 may start is where its superblock is looked for. */
#define OD_AG_SHIFT_MIN  20
#define OD_AG_SHIFT_MAX  54
#define OD_DEV_SIZE_MIN  (16ull << 20)
#define OD_DEV_SIZE_MAX  (1ull << 60)

/* ---- Header of every metadata block ----------------------------------------------- */

#define OD_MAGIC_SB     0x53464d49u /* "IMFS" */
#define OD_MAGIC_AG     0x47414d49u /* "IMAG" */
#define OD_MAGIC_BTREE  0x54424d49u /* "IMBT" */
#define OD_MAGIC_INODES 0x4e494d49u /* "IMIN" */
#define OD_MAGIC_DIR    0x52444d49u /* "IMDR" */
#define OD_MAGIC_BLOB   0x4c424d49u /* "IMBL" */
#define OD_MAGIC_JSB    0x534a4d49u /* "IMJS" */
#define OD_MAGIC_JDESC  0x444a4d49u /* "IMJD" */
#define OD_MAGIC_JREV   0x564a4d49u /* "IMJV" */
#define OD_MAGIC_JCOMMIT 0x434a4d49u /* "IMJC" */
#define OD_MAGIC_MMP    0x504d4d49u /* "IMMP" */

struct od_hdr {
	le32_t magic;
	le32_t crc;        /* CRC-32C of the 4096 bytes with this field zero (od_crc) */
	uint8_t uuid[16];  /* sb.meta_uuid */
	le64_t owner;      /* inode number; group number for group structures; 0 for the superblock */
	le64_t mblk;       /* own address */
	le64_t seq;        /* journal transaction that wrote it last; 0 by mkfs */
	le16_t type;       /* BTREE: enum od_tree */
	le16_t level;      /* BTREE: 0 = leaf */
	le16_t nrecs;      /* BTREE: records; others: 0 */
	le16_t flags;
	le64_t spare;
};
#define OD_HDR_SIZE 64u
#define OD_PAYLOAD  (OD_MBLK_SIZE - OD_HDR_SIZE)

/* ---- B+tree --------------------------------------------------------------------------- */
/*
 * One kind of tree serves every index. A leaf holds nrecs records (key, value)
 * packed from byte 64; an interior node holds nrecs records (key, le64 child mblk),
 * the key being at most the smallest key below that child and greater than every key
 * below the child before it (deletes leave keys of interior nodes alone). Keys ascend
 * strictly. Keys are one or two le64, compared numerically, the first one first. Every
 * node has at least one record; only a root has no minimum beyond that, and the nodes at
 * the right edge. A root is an od_root; an empty tree has mblk 0.
 */
enum od_tree {
	OD_TREE_FREE_POS = 1, /* group: start fsb -> length in blocks */
	OD_TREE_FREE_LEN = 2, /* group: (length, start fsb) -> nothing */
	/* group: metadata cluster (first mblk), partly used -> le64 bitmap of its free mblks; never 0 */
	OD_TREE_SLOT     = 3,
	OD_TREE_INO      = 4, /* group: inode cluster (first mblk) -> od_ino_rec, bit set = slot free */
	OD_TREE_INOFREE  = 5, /* group: keys of those INO records that have a free slot -> nothing */
	OD_TREE_ORPHAN   = 6, /* group: inode number -> le64 enum od_orphan */
	OD_TREE_REFC     = 7, /* group: start fsb of blocks with several owners -> od_refc_val */
	OD_TREE_EXTENT   = 8, /* inode: file block -> od_extent_val */
	OD_TREE_DIRMAP   = 9, /* directory: block index -> mblk */
	OD_TREE_DIRHASH  = 10, /* directory: (name hash, position) -> nothing */
	OD_TREE_NR
};
struct od_tree_geom {
	const char *name;
	uint8_t key_words;  /* le64s in a key: 1 or 2 */
	uint8_t val_bytes;
	bool group;         /* owner is a group number, else an inode number */
};
/* NULL for an unknown type. */
const struct od_tree_geom *od_tree_geom(unsigned type);
unsigned od_tree_max_recs(unsigned type, bool leaf);
#define OD_TREE_MAX_LEVEL 12 /* levels are 0..11 */

struct od_root {
	le64_t mblk;   /* 0 = empty tree */
	le16_t level;  /* of the root node */
	le16_t spare16;
	le32_t spare;
};

struct od_extent_val {
	le64_t start;  /* fsb on the device */
	le32_t len;    /* blocks, 1..OD_EXTENT_LEN_MAX */
	le32_t flags;  /* OD_EXTENT_* */
};
#define OD_EXTENT_UNWRITTEN (1u << 0)
#define OD_EXTENT_KNOWN     OD_EXTENT_UNWRITTEN
#define OD_EXTENT_LEN_MAX   (1u << 30)

/*
 * Data blocks that several file blocks map to. Blocks in no record have one owner or none; the
 * record goes when the count falls back to 1.
 */
struct od_refc_val {
	le32_t len;    /* blocks, 1..OD_EXTENT_LEN_MAX */
	le32_t refs;   /* extents that map each of them, 2..OD_REFC_MAX */
};
#define OD_REFC_MAX UINT32_MAX

struct od_ino_rec {
	le64_t free_lo, free_hi; /* bit (mblk index in cluster * 7 + slot - 1) set = free */
};
enum od_orphan { OD_ORPHAN_UNLINKED = 1, OD_ORPHAN_TRUNCATE = 2, OD_ORPHAN_SHIFT = 3 };

/* ---- Superblock ---------------------------------------------------------------------------- */

#define OD_SB_MAGIC "IOMAPFS\1"
#define OD_VERSION  1
#define OD_COMPAT_KNOWN     0ull
/* Files may share blocks: who does not know the reference counts may read, but not free a block. */
#define OD_RO_COMPAT_REFLINK (1ull << 0)
#define OD_RO_COMPAT_KNOWN  OD_RO_COMPAT_REFLINK
#define OD_INCOMPAT_KNOWN   0ull
#define OD_JNL_INCOMPAT_KNOWN 0ull

struct od_sb {
	struct od_hdr hdr;         /* hdr.mblk: this copy's address; owner = group number */
	uint8_t magic[8];          /* OD_SB_MAGIC */
	le32_t version;
	le16_t block_shift;        /* log2 of the data block size */
	le16_t cluster_shift;      /* log2 of max(block size, 16 KiB) */
	le64_t compat, ro_compat, incompat, jnl_incompat;
	uint8_t uuid[16];          /* the user's; may change */
	uint8_t meta_uuid[16];     /* in every metadata block; never changes */
	uint8_t hash_seed[8];      /* le64: seed of the directory hash */
	le64_t nr_blocks;          /* fsbs in the file system */
	le64_t ag_blocks;          /* fsbs in a group, but the last; a multiple of 64 KiB */
	le32_t nr_ags;
	le32_t inode_size;         /* 576 */
	le64_t jnl_start;          /* mblk */
	le64_t jnl_len;            /* mblks */
	le64_t root_ino;
	le64_t ctime_sec;          /* made at */
	uint8_t label[64];         /* UTF-8, zero padded */
	uint8_t creator[32];       /* "mkfs.iomapfs 0.1.0" */
	le64_t stripe_unit;        /* fsbs, 0 = none: hint */
	le16_t errors_behaviour;   /* 0 = remount-ro, 1 = continue */
	le16_t mmp_interval_s;     /* 0 = off */
	le32_t spare32;
	le64_t spare[8];
	/* Rest of the block: zero. */
};

/*
 * Who has the file system mounted for writing, for devices that several hosts can see: group 0,
 * mblk OD_AG_MMP_MBLK. All zero means the same as OD_MMP_CLEAN: nobody. Written in place and
 * alone, never through the journal: the journal is what it guards.
 */
struct od_mmp {
	struct od_hdr hdr;         /* owner 0, seq 0 */
	le64_t seq;                /* OD_MMP_CLEAN, OD_MMP_FSCK, or a number that the owner keeps changing */
	le64_t time_sec;           /* of the last change, the owner's clock: for people */
	uint8_t node[64];          /* the owner's host name, zero padded */
	uint8_t device[64];        /* how the owner calls the device, zero padded */
	le64_t spare[4];
	/* Rest of the block: zero. */
};
#define OD_MMP_CLEAN 0ull
#define OD_MMP_FSCK  UINT64_MAX
#define OD_MMP_INTERVAL_MAX 300 /* seconds */

/* ---- Allocation group header ------------------------------------------------------------------ */

#define OD_AG_RESERVE_MAX 128
struct od_ag {
	struct od_hdr hdr;         /* owner = group number */
	le32_t agno;
	le32_t spare32;
	le64_t start;              /* first fsb */
	le64_t nr_blocks;          /* fsbs in this group */
	le64_t free_blocks;        /* sum of FREE_POS */
	le64_t free_slots;         /* free mblks in partly used metadata clusters (SLOT tree) */
	le64_t nr_inodes;          /* inodes allocated */
	le64_t nr_free_inodes;     /* free slots in inode clusters */
	struct od_root free_pos, free_len, slot, ino, inofree, orphan, refc, spare_root;
	/*
	 * mblks set aside for nodes of this group's own trees, so that changing them
	 * never has to search them; neither free nor in the SLOT tree.
	 */
	le32_t nr_reserve;
	le32_t spare32b;
	le64_t reserve[OD_AG_RESERVE_MAX];
};

/* ---- Inodes ------------------------------------------------------------------------------------ */
/*
 * An inode block holds 7 inodes of 576 bytes from byte 64. Inode number =
 * mblk * 8 + slot, slot 1..7: the number is the address. hdr.owner = 0.
 */
#define OD_INODE_SIZE       576u
#define OD_INODES_PER_MBLK  7u
#define OD_INODE_AREA       384u
#define OD_INODE_MAGIC      0x4e49u

static inline uint64_t od_ino_make(uint64_t mblk, unsigned slot)
{
	return mblk * 8 + slot;
}
static inline uint64_t od_ino_mblk(uint64_t ino)
{
	return ino / 8;
}
static inline unsigned od_ino_slot(uint64_t ino)
{
	return (unsigned)(ino % 8); /* 1..7 */
}
static inline size_t od_ino_offset(uint64_t ino)
{
	return OD_HDR_SIZE + (size_t)(od_ino_slot(ino) - 1) * OD_INODE_SIZE;
}

enum od_data_fmt {
	OD_DATA_NONE = 0,    /* devices, fifos, sockets */
	OD_DATA_INLINE = 1,  /* data_len bytes from area[0]: file contents, or symlink target */
	OD_DATA_EXTENTS = 2, /* data_len / 24 od_extent_rec from area[0] */
	OD_DATA_TREE = 3,    /* od_root of an EXTENT tree at area[0], data_len 16 */
	OD_DATA_DIR = 4,     /* od_dir_root at area[0] */
	OD_DATA_BLOB = 5,    /* long symlink: le64 first blob mblk at area[0], data_len 8 */
};
enum od_attr_fmt {
	OD_ATTR_NONE = 0,
	OD_ATTR_INLINE = 1,  /* attr_len bytes of od_xattr records that end at the end of area */
	OD_ATTR_BLOB = 2,    /* le64 first blob mblk in the last 8 bytes of area, attr_len 8 */
};
struct od_extent_rec {
	le64_t file_block;
	struct od_extent_val val;
};
struct od_time {
	le64_t sec;   /* two's complement */
	le32_t nsec;  /* 0..999999999 */
};
struct od_inode {
	le16_t magic;
	le16_t mode;         /* S_IFMT and permissions; 0 = free slot */
	le32_t nlink;
	le32_t uid, gid;
	le32_t gen;
	le32_t flags;        /* OD_FL_* */
	le64_t ino;          /* own number */
	le64_t size;         /* bytes; directories: nr_blocks * 4096 */
	le64_t nr_blocks;    /* 512-byte units of space held: data, tree nodes, blobs */
	le64_t nr_extents;   /* records in the extent list or tree */
	struct od_time atime, mtime, ctime, btime;
	le64_t version;      /* grows with every change */
	le64_t parent;       /* directories: inode number of ".." */
	le32_t rdev_major, rdev_minor;
	le32_t projid;
	uint8_t data_fmt;    /* enum od_data_fmt */
	uint8_t attr_fmt;    /* enum od_attr_fmt */
	le16_t data_len;     /* bytes of area used from its start */
	le16_t attr_len;     /* bytes of area used at its end; data_len + attr_len <= 384 */
	le16_t data_flags;   /* OD_DATAF_* */
	le32_t shift_op;     /* enum od_shift; not 0: on the orphan list until it is done */
	le64_t shift_at;     /* file block where the range that goes or comes begins */
	le64_t shift_len;    /* its blocks */
	le64_t shift_next;   /* how far it is, in file blocks (docs/FORMAT.md, "Orphans") */
	le64_t spare[3];
	uint8_t area[OD_INODE_AREA];
};
enum od_shift { OD_SHIFT_NONE = 0, OD_SHIFT_COLLAPSE = 1, OD_SHIFT_INSERT = 2 };

/* Regular files: blocks of this file may be shared, so ask REFC before one is overwritten. Never
 * absent where they are; may be there where they no longer are. */
#define OD_DATAF_SHARED (1u << 0)
#define OD_DATAF_KNOWN  OD_DATAF_SHARED

#define OD_FL_SECRM     0u
#define OD_FL_SYNC      0x00000008u /* FS_SYNC_FL and so on: values of <linux/fs.h> */
#define OD_FL_IMMUTABLE 0x00000010u
#define OD_FL_APPEND    0x00000020u
#define OD_FL_NODUMP    0x00000040u
#define OD_FL_NOATIME   0x00000080u
#define OD_FL_DIRSYNC   0x00010000u
#define OD_FL_DAX       0x02000000u
#define OD_FL_PROJINHERIT 0x20000000u
#define OD_FL_KNOWN (OD_FL_SYNC | OD_FL_IMMUTABLE | OD_FL_APPEND | OD_FL_NODUMP | OD_FL_NOATIME | \
		     OD_FL_DIRSYNC | OD_FL_DAX | OD_FL_PROJINHERIT)

#define OD_LINK_MAX 0x7fffffffu
#define OD_FILE_SIZE_MAX 0x7fffffffffffffffull

/* ---- Directories ------------------------------------------------------------------------------- */
/*
 * Names live in 4 KiB directory blocks, found by index: block 0 directly, others
 * by the DIRMAP tree. An entry never moves; its position (the readdir cookie) is
 * index * 512 + byte offset / 8. "." and ".." are not stored: their cookies are
 * below 8. With more than one block every name is also in the DIRHASH tree.
 */
#define OD_NAME_MAX 255u
struct od_dir_root {
	le64_t block0;      /* mblk of directory block 0; 0 = empty directory */
	le64_t nr_blocks;   /* directory blocks ever appended (next index) */
	le64_t nr_entries;
	le64_t free_head;   /* index + 1 of first block on the list of blocks with room; 0 = none */
	struct od_root map;   /* DIRMAP, indices >= 1 */
	struct od_root hash;  /* DIRHASH; empty while nr_blocks <= 1 */
};
/* Directory block: od_hdr (owner = directory's inode), od_dir_block at 64, entries to the end. */
struct od_dir_block {
	le64_t index;
	le64_t next_free;   /* index + 1 of the next block on the free list; 0 = end; valid if ON_FREE_LIST */
};
#define OD_DIRF_ON_FREE_LIST 1u /* hdr.flags */
#define OD_DIR_FIRST (OD_HDR_SIZE + 16u)
struct od_dirent {
	le64_t ino;         /* 0 = free space */
	le32_t hash;        /* low 32 bits of od_name_hash */
	le16_t rec_len;     /* bytes to the next entry; multiple of 8 */
	uint8_t name_len;
	uint8_t type;       /* DT_* */
	uint8_t name[];     /* no terminator */
};
#define OD_DIRENT_HDR 16u
static inline unsigned od_dirent_len(unsigned name_len)
{
	return (OD_DIRENT_HDR + name_len + 7) & ~7u;
}
/* XXH3-64 with the superblock's seed. */
uint64_t od_name_hash(uint64_t seed, const char *name, size_t len);

/* ---- Blobs and extended attributes --------------------------------------------------------------- */
/* A blob is a chain of BLOB blocks: od_hdr (owner = inode), od_blob, data. */
struct od_blob {
	le64_t next;        /* mblk; 0 = last */
	le32_t len;         /* data bytes in this block */
	le32_t total;       /* data bytes of the whole chain; first block only */
};
#define OD_BLOB_DATA (OD_PAYLOAD - 16u)
#define OD_BLOB_MAX  (256u << 10)

/* One attribute: record, name, then value (or le64 blob mblk), padded to 4. */
struct od_xattr {
	uint8_t ns;         /* enum od_xattr_ns */
	uint8_t name_len;   /* without the namespace prefix; 0 for the ACL namespaces */
	le16_t flags;       /* OD_XATTR_BLOB */
	le32_t value_len;   /* bytes, at most 65536 */
};
enum od_xattr_ns { OD_XNS_USER = 1, OD_XNS_TRUSTED, OD_XNS_SECURITY, OD_XNS_ACL_ACCESS, OD_XNS_ACL_DEFAULT };
#define OD_XATTR_BLOB 1u
#define OD_XATTR_VALUE_MAX 65536u

/* ---- Journal ------------------------------------------------------------------------------------- */
/*
 * jnl_start: journal superblock; the ring is the other jnl_len - 1 blocks.
 * A transaction in the ring: one or more DESC blocks, each followed by the full
 * images of the blocks it lists, REVOKE blocks, and one COMMIT block.
 * hdr.seq of each = transaction number (ascending by 1); hdr.mblk = own address.
 */
struct od_jsb {
	struct od_hdr hdr;
	le64_t tail_seq;    /* first transaction that replay must look for */
	le64_t tail_block;  /* its place: ring index 0.. jnl_len-2 */
	le64_t clean;       /* 1 = nothing to replay */
	le64_t incompat;    /* OD_JNL_INCOMPAT_* */
	le64_t spare[4];
	/* Rest of the block: zero. */
};
#define OD_JNL_SEQ_MAX INT64_MAX
struct od_jdesc_entry {
	le64_t mblk;
	le32_t crc;         /* CRC32C of the image that follows */
	le32_t flags;
};
#define OD_JDESC_MAX ((OD_PAYLOAD) / 16u) /* hdr.nrecs entries from byte 64 */
#define OD_JREV_MAX  ((OD_PAYLOAD) / 8u)  /* hdr.nrecs le64 mblks from byte 64 */
struct od_jcommit {
	struct od_hdr hdr;
	le64_t nr_blocks;   /* ring blocks of the transaction, this one included */
	le64_t time_sec;
	le32_t chain_crc;   /* CRC-32C over the hdr.crc fields of all its DESC and REVOKE blocks, in order */
	le32_t spare32;
};

/* ---- Checks ---------------------------------------------------------------------------------------- */
/*
 * A verifier returns NULL if the block is sound, else the name of the failed test
 * (a constant such as "bad-crc", "wrong-owner", "keys-not-ascending"), to be quoted
 * in logs, fsck and tests. Used after every read and before every write.
 */
struct od_ctx {
	uint8_t meta_uuid[16];
	uint64_t dev_mblks;    /* device size in mblks; addresses must be below */
	unsigned block_shift, cluster_shift;
	uint64_t nr_blocks, ag_blocks;
	uint32_t nr_ags;
	uint64_t jnl_start, jnl_len;
	uint64_t hash_seed;
	uint64_t root_ino;
	bool reflink;          /* OD_RO_COMPAT_REFLINK */
};
#define OD_ANY_OWNER UINT64_MAX

void od_hdr_init(void *block, uint32_t magic, const uint8_t meta_uuid[16], uint64_t owner, uint64_t mblk);
/* Set seq and crc: the last thing before the block goes to the log or the disk. */
void od_seal(void *block, uint64_t seq);
uint32_t od_crc(const void *block);
/* The usual CRC-32C (both ends inverted), 0 to start: also the journal's crc and chain_crc. */
uint32_t od_crc32c(uint32_t crc, const void *buf, size_t len_bytes);
/*
 * A block of seven free inodes, header included, not sealed. A free slot has its magic,
 * its number, a generation, and mode and nlink 0; the other fields mean nothing.
 */
void od_inodes_init(void *block, const uint8_t meta_uuid[16], uint64_t mblk);
/* magic, crc, uuid, address, owner (unless OD_ANY_OWNER). */
const char *od_verify_hdr(const struct od_ctx *c, const void *block, uint32_t magic, uint64_t mblk,
			  uint64_t owner);
/* All that one block can tell alone, header included. check_crc false: before a write. */
/* Superblock copy at mblk, judged against the file system that c describes. */
const char *od_verify_sb(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc);
const char *od_verify_ag(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc);
const char *od_verify_btree(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc);
const char *od_verify_inodes(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc);
/* Of such a block all but the inodes: each of those may be sound or not. */
const char *od_verify_inodes_hdr(const struct od_ctx *c, const void *block, uint64_t mblk,
				 bool check_crc);
const char *od_verify_dir(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc);
const char *od_verify_blob(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc);
/* The journal's superblock; its feature word is for the caller to judge. */
const char *od_verify_jsb(const struct od_ctx *c, const void *block, bool check_crc);
/* The multiple-mount protection block; one that is all zero is for the caller to accept. */
const char *od_verify_mmp(const struct od_ctx *c, const void *block, bool check_crc);
/* A sealed one; names longer than their fields are cut. */
void od_mmp_init(void *block, const uint8_t meta_uuid[16], uint64_t seq, uint64_t time_sec,
		 const char *node, const char *device);
/* By the magic in the block; "unknown-magic" otherwise. */
const char *od_verify_any(const struct od_ctx *c, const void *block, uint64_t mblk, bool check_crc);
/* The shift_ fields of a used inode alone. */
const char *od_verify_shift(const struct od_ctx *c, const struct od_inode *di);
/* One inode (of any state) at its number; no header involved. */
const char *od_verify_inode(const struct od_ctx *c, const struct od_inode *di, uint64_t ino);
/* The record list of an inline or blob attribute area. */
const char *od_verify_xattrs(const void *list, size_t len_bytes);
/* Bytes of one attribute record with name and value (or blob address), padding included. */
size_t od_xattr_rec_len(const struct od_xattr *x);
/* Could this be an inode's number: slot 1..7 of a possible metadata block? */
bool od_ino_ok(const struct od_ctx *c, uint64_t ino);

/* Superblock in host form; label and creator are NUL-terminated. */
struct sb_info {
	uint32_t version;
	unsigned block_shift, cluster_shift;
	uint64_t compat, ro_compat, incompat, jnl_incompat;
	uint8_t uuid[16], meta_uuid[16];
	uint64_t hash_seed;
	uint64_t nr_blocks, ag_blocks;
	uint32_t nr_ags;
	uint64_t jnl_start, jnl_len;
	uint64_t root_ino;
	uint64_t ctime_sec;
	char label[65], creator[33];
	uint64_t stripe_unit;
	unsigned errors_behaviour, mmp_interval_s;
};
/*
 * Decode and check all of it (but not the feature words against what we know);
 * *out is touched only on success. dev_size in bytes, 0 = unknown. agno: which copy.
 */
const char *od_sb_decode(const void *block, uint32_t agno, uint64_t dev_size, struct sb_info *out);
/* Into a 4096-byte block, sealed with seq 0. */
void od_sb_encode(const struct sb_info *sb, uint32_t agno, void *block);
void od_ctx_init(struct od_ctx *c, const struct sb_info *sb);

enum od_mountable { OD_MOUNT_RW, OD_MOUNT_RO_ONLY, OD_MOUNT_REFUSE };
/* What the feature words allow; *bits and *word name the offenders. */
enum od_mountable od_features_check(const struct sb_info *sb, uint64_t *bits, const char **word);
/* What people call the lowest bit of `bits` in a feature word; NULL: not known to us, or no bit is set. */
enum od_feature_word { OD_WORD_COMPAT, OD_WORD_RO_COMPAT, OD_WORD_INCOMPAT, OD_WORD_JNL_INCOMPAT };
const char *od_feature_name(enum od_feature_word word, uint64_t bits);

/* Derived places. */
static inline uint64_t od_ag_start_mblk(const struct od_ctx *c, uint32_t agno)
{
	return (agno * c->ag_blocks) << c->block_shift >> OD_MBLK_SHIFT;
}
static inline uint32_t od_mblk_agno(const struct od_ctx *c, uint64_t mblk)
{
	return (uint32_t)(((mblk << OD_MBLK_SHIFT) >> c->block_shift) / c->ag_blocks);
}
/* Is a metadata block at this address possible (inside, and not in a head area or the journal)? */
bool od_mblk_ok(const struct od_ctx *c, uint64_t mblk);
/* Is [start, start+len) in fsbs inside one group and clear of its head and the journal? */
bool od_fsb_range_ok(const struct od_ctx *c, uint64_t start, uint64_t len);

#endif

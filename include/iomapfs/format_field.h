/* SPDX-License-Identifier: MIT */
/*
 * format_field - the structures on disk as a table, and every byte of a metadata block by name.
 *
 * format.h is what code reads and writes structures with; this is for what has to name a field at
 * run time: iomapctl debug, recipes of broken images, the test that damages each of them. Pure
 * functions over bytes: no I/O, no allocation, no state; they may be given any bytes.
 */
#ifndef IOMAPFS_FORMAT_FIELD_H
#define IOMAPFS_FORMAT_FIELD_H

#include "iomapfs/format.h"

/* What the bytes of a field mean. Numbers are little-endian, of 1, 2, 4 or 8 bytes. */
enum od_field_kind {
	OD_FK_UINT,
	OD_FK_SINT,   /* two's complement */
	OD_FK_HEX,    /* a number whose bits matter: flags, magics, maps, hashes */
	OD_FK_OCTAL,  /* a file's mode */
	OD_FK_CRC,    /* checksum: follows from other bytes */
	OD_FK_MBLK,   /* address of a metadata block; 0 = none */
	OD_FK_FSB,    /* address of a data block */
	OD_FK_INO,    /* inode number */
	OD_FK_TEXT,   /* characters, zero padded where the field is of fixed size */
	OD_FK_UUID,   /* 16 bytes */
	OD_FK_BYTES,  /* contents that are not metadata, or whose structure the block alone cannot tell */
	OD_FK_SPARE,  /* reserved: zero */
	OD_FK_UNUSED, /* not in use now: any bytes */
};

struct od_struct;
/* One member. Offsets and sizes in bytes. */
struct od_field {
	const char *name;
	uint16_t offset;             /* in its structure */
	uint16_t size;               /* of one element */
	uint16_t count;              /* elements; 1: no array */
	enum od_field_kind kind;     /* when sub is NULL */
	const struct od_struct *sub; /* a structure inside, or NULL */
};
struct od_struct {
	const char *name;            /* as in format.h, without "struct" */
	uint16_t size;
	uint16_t nr_fields;
	const struct od_field *fields; /* by offset, without a gap: they cover the structure */
};
/* The table: every structure of format.h that is on disk. NULL past the end. */
const struct od_struct *od_struct_get(unsigned i);
/* A record of a tree's leaves or of its nodes above them. NULL for an unknown type. */
const struct od_struct *od_tree_rec(unsigned type, bool leaf);

/* A field where it stands in a block. */
struct od_place {
	const char *path;            /* "inode[2].mtime.sec", "rec[0].val.len"; valid during the call */
	const struct od_struct *in;  /* it is a member of; NULL: of none (names, contents) */
	const struct od_field *field; /* its entry there, NULL as well */
	uint16_t offset;             /* in the block */
	uint16_t size;
	enum od_field_kind kind;
};
#define OD_PATH_MAX 80u /* bytes of a path, NUL included */
/*
 * Call fn for each field of the block, in order of place; together they cover its 4096 bytes, each
 * once. What a block holds is told by its magic and its own fields; where these make no
 * sense, the bytes up to the end are one field "rest". A value other than 0 from fn ends the walk and is
 * returned.
 */
int od_block_walk(const void *block, int (*fn)(void *arg, const struct od_place *place), void *arg);
/* "superblock", "inodes": what a block with this magic is; NULL when it is none of ours. */
const char *od_block_name(const void *block);

/* A number's value; the field's kind must be one (OD_FK_UINT to OD_FK_INO) of at most 8 bytes. */
uint64_t od_place_get(const void *block, const struct od_place *place);
void od_place_set(void *block, const struct od_place *place, uint64_t value);
bool od_kind_is_number(enum od_field_kind kind);

#endif

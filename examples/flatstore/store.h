/* SPDX-License-Identifier: MIT */
/*
 * What store.c and files.c share: the table, on the device and in memory.
 *
 * The device holds two copies of the table, then data. The table has a slot for each file and tells of each
 * block who has it. In memory it is the same thing; to commit it is to write it over the older copy, with
 * the next number and a checksum. A store made on a machine of the other byte order has a foreign magic.
 */
#ifndef FLATSTORE_STORE_H
#define FLATSTORE_STORE_H

#include "flatstore.h"

#define BITS     12
#define BLOCK    (1ull << BITS)
#define UP(x)    (((x) + BLOCK - 1) & ~(BLOCK - 1))
#define MAGIC    0x313065726f747346ull
#define NR_FILES 255u
#define TABLES   UINT16_MAX       /* owner of the blocks that hold the tables */

struct record {
	char name[FLATSTORE_NAME]; /* "": free */
	uint64_t size;             /* bytes; up to here data has reached the device */
};
struct owner {                     /* of a block of the device */
	uint16_t slot;             /* of a file, counted from 1; 0: free */
	uint16_t unwritten;
	uint32_t pos;              /* block within the file */
};
struct table {
	uint64_t magic, check;     /* check: XXH3 of all that follows it */
	uint64_t seq, nr_blocks, reserved[4];
	struct record files[NR_FILES];
	struct owner owners[];
};
struct store {
	struct bd *bd;
	struct iomap_dev dev;
	struct folio_cache *cache;
	struct work_pool *pool;
	struct lk_mutex lock;      /* all below, and the addr of files; held shortly, never over I/O */
	struct table *now;         /* as it is */
	struct table *durable;     /* as the last commit left it on the device */
	struct table *next;        /* memory for the next commit */
	void *tables;              /* memory of all three */
	uint64_t hint;             /* block where the search for a free one starts */
	int error;                 /* a commit failed: which table the device holds is not known */
};

/* What the table on the device shows must not be overwritten, though its owner gave it up since. */
static inline bool is_free(const struct store *st, uint64_t b)
{
	return !st->now->owners[b].slot && !st->durable->owners[b].slot;
}

/* Counted from 1; 0: no such file. "" finds a free slot. */
uint16_t find_slot(const struct store *st, const char *name);
bool bad_name(const char *name);

#endif

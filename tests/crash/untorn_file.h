/* SPDX-License-Identifier: MIT */
/* The files that untorn writes go to: what their range holds before, and how they are made. */
#ifndef CRASH_UNTORN_FILE_H
#define CRASH_UNTORN_FILE_H

#include "iomapfs/fs.h"

#define LEN_MAX   (1u << 20)   /* of a write */
#define BLOCK_MAX (64u << 10)

/* What a block holds on the device. */
enum kind { DATA, HOLE, UNWRITTEN, SHARED };
/* Where the file ends: behind all, at the range, before it with a gap, inside it. */
enum file_end { END_BEHIND, END_AT, END_GAP, END_ACROSS };
/* What comes just before the write and is not on the device yet. */
enum late { LATE_NOTHING, LATE_WRITE, LATE_LEAVE, LATE_CLONE };

struct layout {
	const char *text;
	enum kind turns[4];    /* of the blocks of the range, by number */
	enum file_end end;
	enum late late;
	bool by_device;        /* a device that has untorn writes takes this one */
};
extern const struct layout layouts[];
extern const unsigned nr_layouts;

/*
 * A file of one layout, for writes of len bytes at len: contents of the window from the block before the
 * range to the block behind it. In each, what is behind the end of the file is zeros.
 */
struct window {
	const struct layout *layout;
	uint64_t bs, len;
	uint64_t from, bytes;  /* the window */
	uint64_t size_stored, size_cached, size_new;
	uint64_t other_stored, other_late; /* sizes of the other file */
	/* on the device, with what is in memory alone, with the write; of the other file */
	uint8_t stored[LEN_MAX + 2 * BLOCK_MAX], cached[LEN_MAX + 2 * BLOCK_MAX];
	uint8_t after[LEN_MAX + 2 * BLOCK_MAX];
	uint8_t other[LEN_MAX + 2 * BLOCK_MAX], left[LEN_MAX + 2 * BLOCK_MAX];
};

void window_init(struct window *w, const struct layout *layout, uint64_t bs, uint64_t len);
/* Offset of the range in the window. */
uint64_t window_range(const struct window *w);

/* ---- A mounted file system; what cannot fail ends the program --------------------------------- */

struct mounted {
	struct fs *fs;
	struct fs_inode *root;
	struct fs_ctx ctx;
	uint8_t *scratch;      /* of LEN_MAX + 2 * BLOCK_MAX */
};

/* ret is what it has to be, or the program ends with 1. */
void must_be(int64_t ret, int64_t expected, const char *what);
int untorn_mount(struct mounted *m, struct bd *bd, uint64_t memory_bytes);
int untorn_unmount(struct mounted *m);
int64_t file_io(struct mounted *m, struct fs_inode *ip, uint8_t *buf, uint64_t len, uint64_t pos,
		unsigned iocb_flags, bool write);
int file_sync(struct mounted *m, struct fs_inode *ip);
/* The file of the layout, or the one that shares its blocks; NULL: it is not there. */
struct fs_inode *file_open(struct mounted *m, const struct window *w, bool other);
/* Both, all of it on the device once that is unmounted. */
void file_make(struct mounted *m, const struct window *w);
/* What the layout has just before the write. */
void file_late(struct mounted *m, const struct window *w, struct fs_inode *ip);
/* In how many extents does the file have its range? */
unsigned file_pieces(struct mounted *m, const struct window *w, struct fs_inode *ip);
/* From now on no two free blocks are neighbours; there are a few hundred. */
void shatter_free_space(struct mounted *m, uint64_t bs);

#endif

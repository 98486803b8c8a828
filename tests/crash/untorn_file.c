/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "iomapfs/util.h"
#include "untorn_file.h"

#define NEVER_MS   3600000u
#define PLACES_MAX 64u
#define PIECES     512u  /* free blocks for files, each alone */
/* Bytes that the end of the file misses the end of a block by, less than the smallest block. */
#define UNEVEN     300u

#define ALL(k) { k, k, k, k }

const struct layout layouts[] = {
	{ "data", ALL(DATA), END_BEHIND, LATE_NOTHING, true },
	{ "a hole", ALL(HOLE), END_BEHIND, LATE_NOTHING, false },
	{ "unwritten blocks", ALL(UNWRITTEN), END_BEHIND, LATE_NOTHING, true },
	{ "shared blocks", ALL(SHARED), END_BEHIND, LATE_NOTHING, false },
	{ "blocks of all kinds", { DATA, HOLE, UNWRITTEN, SHARED }, END_BEHIND, LATE_NOTHING, false },
	{ "the end of the file", ALL(HOLE), END_AT, LATE_NOTHING, false },
	{ "what is behind a gap", ALL(HOLE), END_GAP, LATE_NOTHING, false },
	{ "unwritten blocks behind the end", ALL(UNWRITTEN), END_AT, LATE_NOTHING, true },
	{ "data across the end", ALL(DATA), END_ACROSS, LATE_NOTHING, false },
	{ "unwritten blocks across the end", ALL(UNWRITTEN), END_ACROSS, LATE_NOTHING, true },
	{ "data and holes, dirty in the cache", { DATA, HOLE, DATA, HOLE }, END_BEHIND, LATE_WRITE, false },
	{ "data and unwritten blocks, dirty in the cache", { DATA, UNWRITTEN, DATA, UNWRITTEN }, END_BEHIND,
	  LATE_WRITE, false },
	{ "data across the end, dirty in the cache", ALL(DATA), END_ACROSS, LATE_WRITE, false },
	{ "blocks whose other owner has just left", ALL(SHARED), END_BEHIND, LATE_LEAVE, false },
	{ "blocks that were just cloned", ALL(DATA), END_BEHIND, LATE_CLONE, false },
};
const unsigned nr_layouts = ARRAY_SIZE(layouts);

void must_be(int64_t ret, int64_t expected, const char *what)
{
	if (ret == expected)
		return;
	printf("untorn: %s: %lld, not %lld\n", what, (long long)ret, (long long)expected);
	fflush(stdout);
	_exit(1);
}

/* ---- Contents --------------------------------------------------------------------------------- */

enum content { STORED, CACHED, NEW };

/* Never a byte of other contents, zero, or what the device held before. */
static void fill(uint8_t *buf, enum content what, uint64_t at, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(1 + what * 50 + ((at + i) * 7 + (at + i) / 251) % 50);
}

static uint64_t first_size(const struct layout *l, uint64_t bs, uint64_t len)
{
	switch (l->end) {
	case END_AT:
		return len;
	case END_GAP:
		return len - UNEVEN;
	case END_ACROSS:
		return 2 * len - UNEVEN;
	default:
		return 2 * len + bs;
	}
}

static enum kind kind_of(const struct window *w, uint64_t pos)
{
	return w->layout->turns[pos / w->bs % ARRAY_SIZE(w->layout->turns)];
}

uint64_t window_range(const struct window *w)
{
	return w->len - w->from;
}

void window_init(struct window *w, const struct layout *layout, uint64_t bs, uint64_t len)
{
	const uint64_t end = 2 * len;

	w->layout = layout;
	w->bs = bs;
	w->len = len;
	w->from = len - bs;
	w->bytes = len + 2 * bs;
	w->size_stored = first_size(layout, bs, len);
	w->size_cached = layout->late == LATE_WRITE ? MAX(w->size_stored, end) : w->size_stored;
	w->size_new = MAX(w->size_stored, end);
	memset(w->stored, 0, w->bytes);
	memset(w->other, 0, w->bytes);
	memset(w->left, 0, w->bytes);
	fill(w->stored, STORED, w->from, w->size_stored - w->from);
	w->other_stored = w->other_late = 0;
	for (uint64_t pos = len; pos < end; pos += bs) {
		uint8_t *block = w->stored + (pos - w->from);

		if (kind_of(w, pos) == HOLE || kind_of(w, pos) == UNWRITTEN)
			memset(block, 0, bs);
		if (kind_of(w, pos) == SHARED) {
			memcpy(w->other + (pos - w->from), block, bs);
			w->other_stored = w->other_late = pos + bs;
		}
	}
	memcpy(w->left, w->other, w->bytes);
	if (layout->late == LATE_LEAVE)
		memset(w->left + window_range(w), 0, len);
	if (layout->late == LATE_CLONE) {
		memcpy(w->left + window_range(w), w->stored + window_range(w), len);
		w->other_late = end;
	}
	memcpy(w->cached, w->stored, w->bytes);
	if (layout->late == LATE_WRITE)
		fill(w->cached + window_range(w), CACHED, len, len);
	memcpy(w->after, w->cached, w->bytes);
	fill(w->after + window_range(w), NEW, len, len);
}

/* ---- The file system --------------------------------------------------------------------------- */

int untorn_mount(struct mounted *m, struct bd *bd, uint64_t memory_bytes)
{
	const struct fs_mount_opts opts = {
		.memory_bytes = memory_bytes,
		/* Commits come when something asks, so that runs repeat. */
		.commit_interval_ms = NEVER_MS,
	};
	struct fs_error e = { "" };
	int err = fs_mount(bd, &opts, &m->fs, &e);

	if (err) {
		printf("untorn: mount: %s\n", e.text);
		bd_close(bd);
		return err;
	}
	must_be(fs_iget(m->fs, FS_ROOT_INO, 0, &m->root), 0, "root");
	return 0;
}

int untorn_unmount(struct mounted *m)
{
	fs_iput(m->root);
	return fs_unmount(m->fs);
}

int64_t file_io(struct mounted *m, struct fs_inode *ip, uint8_t *buf, uint64_t len, uint64_t pos,
		unsigned iocb_flags, bool write)
{
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos, .ki_flags = iocb_flags };
	struct iovec iov = { buf, len };
	struct iov_iter it;

	iov_iter_init(&it, &iov, 1, len);
	return write ? fs_write_iter(&m->ctx, &iocb, &it, false) : fs_read_iter(&m->ctx, &iocb, &it);
}

int file_sync(struct mounted *m, struct fs_inode *ip)
{
	struct fs_file *f;
	int err = fs_open(&m->ctx, ip, O_RDONLY, &f);

	if (err)
		return err;
	err = fs_fsync(&m->ctx, f, false);
	fs_release(f);
	return err;
}

/* ---- Making them ------------------------------------------------------------------------------- */

static void file_name(char *name, size_t size, const struct window *w, bool other)
{
	snprintf(name, size, "%s%zu-%llu", other ? "other" : "file", (size_t)(w->layout - layouts),
		 (unsigned long long)w->len);
}

static struct fs_inode *create(struct mounted *m, const char *name)
{
	struct fs_inode *ip;

	must_be(fs_mknod(&m->ctx, m->root, name, strlen(name), S_IFREG | 0644, 0, 0, &ip), 0, "mknod");
	return ip;
}

struct fs_inode *file_open(struct mounted *m, const struct window *w, bool other)
{
	struct fs_inode *ip;
	char name[64];

	file_name(name, sizeof(name), w, other);
	return fs_lookup(&m->ctx, m->root, name, strlen(name), &ip) ? NULL : ip;
}

/* Bytes by which the range's place on the device misses a multiple of its length; UINT64_MAX: in pieces. */
static uint64_t misplaced(struct mounted *m, const struct window *w, struct fs_inode *ip)
{
	struct fiemap_extent e;
	struct fiemap_extent_info fi = { .fi_extents_max = 1, .fi_extents_start = &e };

	must_be(fs_fiemap(&m->ctx, ip, &fi, w->from, w->bytes), 0, "fiemap");
	must_be(fi.fi_extents_mapped, 1, "extents");
	if (e.fe_logical != w->from || e.fe_length < w->bytes)
		return UINT64_MAX;
	return (e.fe_physical + window_range(w)) % w->len;
}

/* A file that stays, so that the next one, right behind it, is not where the one of `name` was. */
static void move_on(struct mounted *m, const struct window *w, const char *name, uint64_t misplaced_by,
		    unsigned nr)
{
	const uint64_t over = misplaced_by == UINT64_MAX ? 0 : (misplaced_by + w->bytes) % w->len;
	struct fs_inode *pad;
	char text[80];

	snprintf(text, sizeof(text), "%s-try%u", name, nr);
	must_be(fs_rename(&m->ctx, m->root, name, strlen(name), m->root, text, strlen(text), 0), 0, "rename");
	if (!over)
		return;
	snprintf(text, sizeof(text), "%s-pad%u", name, nr);
	pad = create(m, text);
	must_be(fs_fallocate(&m->ctx, pad, 0, 0, w->len - over), 0, "fallocate");
	fs_iput(pad);
}

/* Blocks for the window, in one extent that has the range where an untorn device wants it. */
static struct fs_inode *make_aligned(struct mounted *m, const struct window *w, const char *name)
{
	for (unsigned i = 0; i < PLACES_MAX; i++) {
		struct fs_inode *ip = create(m, name);
		uint64_t by;

		must_be(fs_fallocate(&m->ctx, ip, FALLOC_FL_KEEP_SIZE, w->from, w->bytes), 0, "fallocate");
		by = misplaced(m, w, ip);
		if (!by)
			return ip;
		fs_iput(ip);
		move_on(m, w, name, by, i);
	}
	must_be(-1, 0, "a place for the file");
	return NULL;
}

static void write_at(struct mounted *m, const struct window *w, struct fs_inode *ip, const uint8_t *from,
		     uint64_t pos, uint64_t len)
{
	memcpy(m->scratch, from + (pos - w->from), len);
	must_be(file_io(m, ip, m->scratch, len, pos, 0, true), (int64_t)len, "write");
}

static void make_block(struct mounted *m, const struct window *w, struct fs_inode *ip,
		       struct fs_inode *other, uint64_t pos)
{
	const uint64_t in_file = pos < w->size_stored ? MIN(w->bs, w->size_stored - pos) : 0;

	switch (kind_of(w, pos)) {
	case HOLE:
		must_be(fs_fallocate(&m->ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, w->bs), 0,
			"punch");
		break;
	case UNWRITTEN:
		break;
	case DATA:
		write_at(m, w, ip, w->stored, pos, in_file);
		break;
	case SHARED:
		write_at(m, w, ip, w->stored, pos, in_file);
		must_be(fs_clone_range(&m->ctx, ip, pos, other, pos, w->bs), 0, "clone");
		break;
	}
}

void file_make(struct mounted *m, const struct window *w)
{
	struct fs_inode *ip, *other;
	char name[64];

	file_name(name, sizeof(name), w, true);
	other = create(m, name);
	file_name(name, sizeof(name), w, false);
	ip = make_aligned(m, w, name);
	/* Its size first: a write behind the end may make zeros in the cache of what is to stay unwritten. */
	must_be(fs_fallocate(&m->ctx, ip, 0, w->from, w->size_stored - w->from), 0, "fallocate");
	write_at(m, w, ip, w->stored, w->from, MIN(w->len, w->size_stored) - w->from);
	if (w->size_stored > 2 * w->len)
		write_at(m, w, ip, w->stored, 2 * w->len, w->size_stored - 2 * w->len);
	for (uint64_t pos = w->len; pos < 2 * w->len; pos += w->bs)
		make_block(m, w, ip, other, pos);
	must_be(file_sync(m, ip), 0, "fsync");
	fs_iput(other);
	fs_iput(ip);
}

void file_late(struct mounted *m, const struct window *w, struct fs_inode *ip)
{
	struct fs_inode *other = file_open(m, w, true);

	if (!other)
		abort();
	switch (w->layout->late) {
	case LATE_WRITE:
		write_at(m, w, ip, w->cached, w->len, w->len);
		break;
	case LATE_LEAVE:
		must_be(fs_fallocate(&m->ctx, other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, w->len,
				     w->len), 0, "punch");
		break;
	case LATE_CLONE:
		must_be(fs_clone_range(&m->ctx, ip, w->len, other, w->len, w->len), 0, "clone");
		break;
	case LATE_NOTHING:
		break;
	}
	fs_iput(other);
}

unsigned file_pieces(struct mounted *m, const struct window *w, struct fs_inode *ip)
{
	struct fiemap_extent_info fi = { .fi_extents_max = 0 }; /* only counts */

	must_be(fs_fiemap(&m->ctx, ip, &fi, w->len, w->len), 0, "fiemap");
	return fi.fi_extents_mapped;
}

/* All that is to be had; its size. */
static uint64_t take_all(struct mounted *m, struct fs_inode *ip, uint64_t bs)
{
	uint64_t size = 0, len = 1ull << 30;

	while (len >= bs) {
		const int err = fs_fallocate(&m->ctx, ip, 0, size, len);

		if (err != -ENOSPC)
			must_be(err, 0, "fallocate");
		if (err)
			len /= 2;
		else
			size += len;
	}
	return size;
}

/*
 * Some blocks are kept back from files, and lie together. So one file takes all others and gives back
 * every second one of a part, more than are kept back; and another takes the longest runs again.
 */
void shatter_free_space(struct mounted *m, uint64_t bs)
{
	struct fs_inode *hog = create(m, "hog"), *filler = create(m, "filler");
	const uint64_t size = take_all(m, hog, bs);
	struct statvfs kept;

	must_be(fs_statfs(m->fs, &kept), 0, "statfs");
	for (uint64_t pos = bs; pos < size && pos < 2 * bs * (kept.f_bfree + PIECES); pos += 2 * bs)
		must_be(fs_fallocate(&m->ctx, hog, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, bs), 0,
			"punch");
	/* What was given back is free with the next commit. */
	must_be(file_sync(m, hog), 0, "fsync");
	must_be(fs_fallocate(&m->ctx, filler, 0, 0, kept.f_bfree * bs), 0, "fallocate");
	must_be(file_sync(m, filler), 0, "fsync");
	fs_iput(filler);
	fs_iput(hog);
}

/* SPDX-License-Identifier: MIT */
/* A seeded graph of sharing, and a model of it. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

#define GRAPH_BYTES (48ull << 20)

static struct fs_inode *open_file(struct graph *g, struct graph_file *x)
{
	struct fs_inode *ip = filefs_lookup(&g->f, x->name);

	ck_assert_msg(ip != NULL, "%s is gone", x->name);
	return ip;
}

static void create(struct graph *g, struct graph_file *x)
{
	struct fs_inode *ip = filefs_create(&g->f, x->name);
	struct fs_attr a;

	ck_assert_int_eq(fs_getattr(&g->f.ctx, ip, &a), 0);
	x->there = true;
	x->ino = a.ino;
	x->size = 0;
	memset(x->bytes, 0, GRAPH_BLOCKS * g->bs);
	fs_iput(ip);
}

static struct graph_file *any_file(struct graph *g)
{
	struct graph_file *x = &g->files[rng_below(&g->rng, GRAPH_FILES)];

	if (!x->there)
		create(g, x);
	return x;
}

/* ---- Operations, each on the file system and on the model ------------------------------------------- */

static void do_write(struct graph *g, struct graph_file *x, uint64_t pos, uint64_t len)
{
	struct fs_inode *ip = open_file(g, x);
	const uint8_t seed = (uint8_t)rng_u64(&g->rng);

	for (uint64_t i = 0; i < len; i++)
		x->bytes[pos + i] = (uint8_t)(1 + (seed + i * 13) % 255);
	ck_assert_int_eq(filefs_pwrite(&g->f, ip, x->bytes + pos, len, pos, 0), (int64_t)len);
	x->size = MAX(x->size, pos + len);
	if (rng_below(&g->rng, 2))
		ck_assert_int_eq(filefs_sync_file(&g->f, ip, true), 0);
	fs_iput(ip);
}

static void op_write(struct graph *g)
{
	struct graph_file *x = any_file(g);
	const uint64_t max = GRAPH_BLOCKS * g->bs;
	uint64_t pos = rng_below(&g->rng, max - 1), len = 1 + rng_below(&g->rng, 8 * g->bs);

	if (rng_below(&g->rng, 2)) {
		pos = ROUND_DOWN(pos, g->bs);
		len = ROUND_UP(len, g->bs);
	}
	do_write(g, x, pos, MIN(len, max - pos));
}

/* A range of whole blocks of one file, and where in another (or in itself, apart from it) it is to go. */
struct pair {
	struct graph_file *in, *out;
	uint64_t from, to, len;
};

static bool draw_pair(struct graph *g, struct pair *p)
{
	uint64_t in_blocks;

	p->in = any_file(g);
	p->out = any_file(g);
	in_blocks = p->in->size / g->bs;
	if (!in_blocks)
		return false;
	p->from = rng_below(&g->rng, in_blocks);
	p->to = rng_below(&g->rng, GRAPH_BLOCKS);
	p->len = 1 + rng_below(&g->rng, MIN(in_blocks - p->from, GRAPH_BLOCKS - p->to));
	if (p->in == p->out && p->from < p->to + p->len && p->to < p->from + p->len)
		return false;
	p->from *= g->bs;
	p->to *= g->bs;
	p->len *= g->bs;
	return true;
}

static void op_clone(struct graph *g)
{
	struct fs_inode *in, *out;
	struct pair p;

	if (!draw_pair(g, &p))
		return;
	in = open_file(g, p.in);
	out = open_file(g, p.out);
	ck_assert_int_eq(fs_clone_range(&g->f.ctx, in, p.from, out, p.to, p.len), 0);
	memcpy(p.out->bytes + p.to, p.in->bytes + p.from, p.len);
	p.out->size = MAX(p.out->size, p.to + p.len);
	fs_iput(in);
	fs_iput(out);
}

/* The same bytes twice, then once. */
static void op_dedupe(struct graph *g)
{
	struct fs_inode *in, *out;
	uint64_t deduped = 0;
	struct pair p;

	if (!draw_pair(g, &p))
		return;
	in = open_file(g, p.in);
	out = open_file(g, p.out);
	ck_assert_int_eq(filefs_pwrite(&g->f, out, p.in->bytes + p.from, p.len, p.to, 0), (int64_t)p.len);
	memcpy(p.out->bytes + p.to, p.in->bytes + p.from, p.len);
	p.out->size = MAX(p.out->size, p.to + p.len);
	ck_assert_int_eq(fs_dedupe_range(&g->f.ctx, in, p.from, out, p.to, p.len, &deduped), 0);
	ck_assert_uint_eq(deduped, p.len);
	fs_iput(in);
	fs_iput(out);
}

static void op_clone_all(struct graph *g)
{
	struct graph_file *from = any_file(g), *to = &g->files[rng_below(&g->rng, GRAPH_FILES)];
	struct fs_inode *in, *out;

	if (to->there)
		return;
	create(g, to);
	in = open_file(g, from);
	out = open_file(g, to);
	ck_assert_int_eq(fs_clone_range(&g->f.ctx, in, 0, out, 0, 0), 0);
	memcpy(to->bytes, from->bytes, GRAPH_BLOCKS * g->bs);
	to->size = from->size;
	fs_iput(in);
	fs_iput(out);
}

static void op_falloc(struct graph *g)
{
	static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_UNSHARE_RANGE };
	const int mode = modes[rng_below(&g->rng, ARRAY_SIZE(modes))];
	struct graph_file *x = any_file(g);
	struct fs_inode *ip = open_file(g, x);
	const uint64_t max = GRAPH_BLOCKS * g->bs, pos = rng_below(&g->rng, max - 1);
	const uint64_t len = 1 + rng_below(&g->rng, MIN(max - pos, 6 * g->bs));

	ck_assert_int_eq(fs_fallocate(&g->f.ctx, ip, mode, pos, len), 0);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(x->bytes + pos, 0, len);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		x->size = MAX(x->size, pos + len);
	fs_iput(ip);
}

static void op_truncate(struct graph *g)
{
	struct graph_file *x = any_file(g);
	struct fs_inode *ip = open_file(g, x);
	const uint64_t size = rng_below(&g->rng, GRAPH_BLOCKS * g->bs);

	ck_assert_int_eq(filefs_truncate(&g->f, ip, size), 0);
	memset(x->bytes + size, 0, GRAPH_BLOCKS * g->bs - size);
	x->size = size;
	fs_iput(ip);
}

static void op_delete(struct graph *g)
{
	struct graph_file *x = &g->files[rng_below(&g->rng, GRAPH_FILES)];

	if (!x->there || rng_below(&g->rng, 2))
		return;
	ck_assert_int_eq(fs_unlink(&g->f.ctx, g->f.root, x->name, strlen(x->name)), 0);
	x->there = false;
}

static void work(struct graph *g, unsigned n)
{
	static void (*const ops[])(struct graph *g) = {
		op_write, op_write, op_write, op_clone, op_clone, op_clone, op_dedupe, op_clone_all, op_falloc,
		op_falloc, op_truncate, op_delete,
	};

	for (unsigned i = 0; i < n; i++)
		ops[rng_below(&g->rng, ARRAY_SIZE(ops))](g);
}

static void expect_all(struct graph *g, unsigned except, const char *when);
/* ---- The graph ----------------------------------------------------------------------------------------- */

void graph_make(struct graph *g, uint64_t seed)
{
	static const unsigned shifts[] = { 10, 12, 14 };
	struct pair p = { 0 };
	struct fs_inode *in, *out;

	memset(g, 0, sizeof(*g));
	rng_seed(&g->rng, seed);
	g->shift = shifts[rng_below(&g->rng, ARRAY_SIZE(shifts))];
	g->bs = 1ull << g->shift;
	for (unsigned i = 0; i < GRAPH_FILES; i++) {
		g->files[i].name[0] = (char)('a' + i);
		g->files[i].bytes = malloc(GRAPH_BLOCKS * g->bs);
		ck_assert_ptr_nonnull(g->files[i].bytes);
	}
	filefs_make(&g->f, GRAPH_BYTES, g->shift, 0);
	work(g, 15 + (unsigned)rng_below(&g->rng, 60));
	/* Whatever the rest did, these share. */
	p.in = any_file(g);
	do {
		p.out = any_file(g);
	} while (p.out == p.in);
	do_write(g, p.in, 0, 3 * g->bs);
	in = open_file(g, p.in);
	out = open_file(g, p.out);
	ck_assert_int_eq(fs_clone_range(&g->f.ctx, in, 0, out, g->bs, 3 * g->bs), 0);
	memcpy(p.out->bytes + g->bs, p.in->bytes, 3 * g->bs);
	p.out->size = MAX(p.out->size, 4 * g->bs);
	fs_iput(in);
	fs_iput(out);
	filefs_umount(&g->f);
	filefs_mount(&g->f);
	expect_all(g, 0, "made");
	filefs_umount(&g->f);
}

static void expect_file(struct graph *g, struct graph_file *x, const char *when)
{
	struct fs_inode *ip = open_file(g, x);
	uint8_t *buf = malloc(GRAPH_BLOCKS * g->bs);

	ck_assert_uint_eq(filefs_size(&g->f, ip), x->size);
	ck_assert_int_eq(filefs_pread(&g->f, ip, buf, x->size, 0, 0), (int64_t)x->size);
	for (uint64_t i = 0; i < x->size; i++)
		if (buf[i] != x->bytes[i])
			ck_abort_msg("%s: inode %llu, byte %llu: %02x, not %02x", when,
				     (unsigned long long)x->ino, (unsigned long long)i, buf[i],
				     x->bytes[i]);
	free(buf);
	fs_iput(ip);
}

static void expect_all(struct graph *g, unsigned except, const char *when)
{
	for (unsigned i = 0; i < GRAPH_FILES; i++)
		if (g->files[i].there && !(except & 1u << i))
			expect_file(g, &g->files[i], when);
}

void graph_expect(struct graph *g, unsigned except, const char *when)
{
	filefs_mount(&g->f);
	expect_all(g, except, when);
	for (unsigned i = 0; i < GRAPH_FILES; i++) {
		if (!(except & 1u << i))
			continue;
		/* Nothing is known of it any more; a new one takes its place. */
		ck_assert_int_eq(fs_unlink(&g->f.ctx, g->f.root, g->files[i].name, 1), 0);
		create(g, &g->files[i]);
	}
	work(g, 15);
	expect_all(g, 0, when);
	filefs_umount(&g->f);
}

void graph_free(struct graph *g)
{
	filefs_end(&g->f);
	for (unsigned i = 0; i < GRAPH_FILES; i++)
		free(g->files[i].bytes);
}

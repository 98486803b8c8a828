/* SPDX-License-Identifier: MIT */
/* The iterator's decisions, one row each, and the small parts: caller memory, bios. */
#include <string.h>

#include "iomapfs/iomap.h"
#include "unit.h"

#define MAP_LEN 100u

/* What begin, body and end do at each round; the last row repeats. */
struct round {
	int begin_err;
	uint64_t advance;
	int status;
	bool stale;
	int end_err;
	uint64_t src_len; /* not 0: a source mapping this long */
};

struct script {
	const char *name;
	struct round rounds[4];
	unsigned nr_rounds;
	uint64_t len;
	int result;          /* of the loop */
	uint64_t pos;        /* at its end */
	unsigned nr_begin, nr_end;
};

static const struct script scripts[] = {
	{ "all in one", { { 0, 50 } }, 1, 50, 0, 50, 1, 1 },
	{ "two mappings", { { 0, 100 }, { 0, 50 } }, 2, 150, 0, 150, 2, 2 },
	{ "progress and error", { { 0, 30, -EIO } }, 1, 150, -EIO, 30, 1, 1 },
	{ "error only", { { 0, 0, -ENOSPC } }, 1, 150, -ENOSPC, 0, 1, 1 },
	{ "stall stops", { { 0, 100 }, { 0, 0 } }, 2, 150, 0, 100, 2, 2 },
	{ "short body goes on", { { 0, 30 }, { 0, 70 }, { 0, 50 } }, 3, 150, 0, 150, 3, 3 },
	{ "stale asks again", { { 0, 0, 0, true }, { 0, 100 }, { 0, 50 } }, 3, 150, 0, 150, 3, 3 },
	{ "stale with error", { { 0, 0, -EIO, true } }, 1, 150, -EIO, 0, 1, 1 },
	{ "stale for ever", { { 0, 0, 0, true } }, 1, 150, -EIO, 0, 65537, 65537 },
	{ "end fails, no progress", { { 0, 0, 0, false, -EROFS } }, 1, 150, -EROFS, 0, 1, 1 },
	{ "end fails, progress", { { 0, 100, 0, false, -EROFS }, { 0, 50 } }, 2, 150, 0, 150, 2, 2 },
	{ "end error hides body's", { { 0, 0, -EIO, false, -EROFS } }, 1, 150, -EROFS, 0, 1, 1 },
	{ "first begin fails", { { -ENOMEM } }, 1, 150, -ENOMEM, 0, 0, 0 },
	{ "second begin fails", { { 0, 100 }, { -ENOMEM } }, 2, 150, -ENOMEM, 100, 1, 1 },
	{ "positive status", { { 0, 0, 7 } }, 1, 150, -EIO, 0, 1, 1 },
	{ "nothing to do", { { 0, 0 } }, 1, 0, 0, 0, 0, 0 },
	{ "short source", { { 0, 40, 0, false, 0, 40 }, { 0, 60 }, { 0, 50 } }, 3, 150, 0, 150, 3, 3 },
};

static const struct script *cur;
static unsigned round_nr, nr_begin, nr_end;
static uint64_t end_written, end_offered;

static const struct round *this_round(void)
{
	return &cur->rounds[MIN(round_nr, cur->nr_rounds - 1)];
}

static int script_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			struct iomap *m, struct iomap *src)
{
	const struct round *r = this_round();

	ck_assert_uint_eq(m->length, 0);
	ck_assert_int_eq(src->type, IOMAP_HOLE);
	if (r->begin_err)
		return r->begin_err;
	nr_begin++;
	m->offset = pos / MAP_LEN * MAP_LEN;
	m->length = MAP_LEN;
	m->type = IOMAP_DELALLOC;
	m->addr = IOMAP_NULL_ADDR;
	m->private = (void *)r;
	if (r->src_len) {
		src->type = IOMAP_MAPPED;
		src->offset = pos;
		src->length = r->src_len;
	}
	return 0;
}

static int script_end(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written,
		      unsigned flags, struct iomap *m)
{
	const struct round *r = m->private;

	nr_end++;
	end_written = written;
	end_offered = length;
	ck_assert_uint_eq(written, r->advance);
	ck_assert_int_eq(!!(m->flags & IOMAP_F_STALE), r->stale);
	return r->end_err;
}

static const struct iomap_ops script_ops = { script_begin, script_end };

/* The newer form of the same. */
static int script_next(struct iomap_iter *iter, struct iomap *m, struct iomap *src)
{
	return iomap_iter_next(iter, m, src, script_begin, script_end);
}

static const struct iomap_ops next_ops = { .iomap_next = script_next };

START_TEST(decisions)
{
	const struct iomap_ops *ops = _i % 2 ? &next_ops : &script_ops;
	struct inode inode = { .i_ino = 1 };
	struct iomap_iter iter = { .inode = &inode };
	int ret;

	cur = &scripts[_i / 2];
	round_nr = nr_begin = nr_end = 0;
	iter.len = cur->len;
	while ((ret = iomap_iter(&iter, ops)) > 0) {
		const struct round *r = this_round();

		ck_assert_int_eq(iomap_iter_advance(&iter, iomap_length(&iter) + 1), -EIO);
		ck_assert_int_eq(iomap_iter_advance(&iter, r->advance), 0);
		iter.status = r->status;
		if (r->stale)
			iter.iomap.flags |= IOMAP_F_STALE;
		round_nr++;
	}
	ck_assert_msg(ret == cur->result, "%s: result %d", cur->name, ret);
	ck_assert_msg(iter.pos == cur->pos, "%s: pos %llu", cur->name, (unsigned long long)iter.pos);
	ck_assert_msg(nr_begin == cur->nr_begin, "%s: %u begins", cur->name, nr_begin);
	ck_assert_msg(nr_end == cur->nr_end, "%s: %u ends", cur->name, nr_end);
}
END_TEST

START_TEST(end_sees_what_was_offered)
{
	struct inode inode = { .i_ino = 1 };
	struct iomap_iter iter = { .inode = &inode, .pos = 30, .len = 500 };
	static const struct script s = { "", { { 0, 20, -EIO } }, 1 };

	cur = &s;
	round_nr = 0;
	ck_assert_int_eq(iomap_iter(&iter, &script_ops), 1);
	ck_assert_uint_eq(iomap_length(&iter), 70);
	ck_assert_int_eq(iomap_iter_advance(&iter, 20), 0);
	ck_assert_uint_eq(iomap_length(&iter), 50);
	iter.status = -EIO;
	ck_assert_int_eq(iomap_iter(&iter, &script_ops), -EIO);
	ck_assert_uint_eq(end_offered, 70);
	ck_assert_uint_eq(end_written, 20);
}
END_TEST

/* ---- Bad answers of begin ------------------------------------------------------------- */

static const struct iomap bad_maps[] = {
	{ .offset = 0, .length = 0, .type = IOMAP_HOLE },
	{ .offset = 200, .length = 10, .type = IOMAP_HOLE },
	{ .offset = 0, .length = 100, .type = IOMAP_HOLE },
	{ .offset = 0, .length = 200, .type = IOMAP_HOLE, .flags = IOMAP_F_STALE },
	{ .offset = 0, .length = 200, .type = IOMAP_MAPPED, .addr = IOMAP_NULL_ADDR },
	{ .offset = 50, .length = UINT64_MAX - 10, .type = IOMAP_HOLE },
};
static const struct iomap *bad_map;

static int bad_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
		     struct iomap *m, struct iomap *src)
{
	*m = *bad_map;
	nr_begin++;
	return 0;
}

static int bad_end(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written,
		   unsigned flags, struct iomap *m)
{
	nr_end++;
	return 0;
}

static void no_log(enum log_level lvl, const char *line, void *arg)
{
}

static int bad_next(struct iomap_iter *iter, struct iomap *m, struct iomap *src)
{
	return iomap_iter_next(iter, m, src, bad_begin, bad_end);
}

START_TEST(bad_mappings)
{
	static const struct iomap_ops ops = { bad_begin, bad_end }, next = { .iomap_next = bad_next };
	struct inode inode = { .i_ino = 1 };
	struct iomap_iter iter = { .inode = &inode, .pos = 150, .len = 10 };

	log_set_sink(no_log, NULL);
	bad_map = &bad_maps[_i];
	nr_begin = nr_end = 0;
	ck_assert_int_eq(iomap_iter(&iter, &ops), -EIO);
	ck_assert_uint_eq(nr_begin, nr_end);
	/* One of no length is nothing that the newer form could end. */
	iter = (struct iomap_iter){ .inode = &inode, .pos = 150, .len = 10 };
	ck_assert_int_eq(iomap_iter(&iter, &next), -EIO);
	ck_assert_uint_eq(nr_begin, nr_end + !bad_map->length);
	log_set_sink(log_stderr, NULL);
}
END_TEST

/* ---- Caller memory and bios --------------------------------------------------------------- */

START_TEST(uio)
{
	char a[3], b[1], c[8], flat[12], out[12];
	struct iovec iov[] = { { a, 3 }, { b, 0 }, { b, 1 }, { c, 8 } };
	struct iov_iter it;

	memcpy(flat, "hello, world", 12);
	iov_iter_init(&it, iov, 4, 12);
	ck_assert_uint_eq(iov_iter_copy_to(&it, flat, 5), 5);
	ck_assert_uint_eq(it.count, 7);
	iov_iter_revert(&it, 4);
	ck_assert_uint_eq(it.count, 11);
	ck_assert_uint_eq(iov_iter_copy_to(&it, flat + 1, 100), 11);
	ck_assert_uint_eq(it.count, 0);
	iov_iter_revert(&it, 12);
	ck_assert_uint_eq(iov_iter_copy_from(&it, out, 12), 12);
	ck_assert_mem_eq(out, flat, 12);
	iov_iter_revert(&it, 8);
	ck_assert_uint_eq(iov_iter_zero(&it, 8), 8);
	ck_assert_mem_eq(c, "\0\0\0\0\0\0\0\0", 8);
	ck_assert_int_eq(b[0], 'l');
}
END_TEST

START_TEST(bio_limits)
{
	struct iomap_dev dev = { .logical_block = 512, .mem_align = 512, .max_io = 8192,
				 .max_vecs = 2 };
	struct iomap_bio *bio = iomap_bio_alloc(&dev, IOMAP_BIO_WRITE, 4096, 100);
	char mem[16384];

	ck_assert(iomap_bio_add(bio, mem, 1024));
	ck_assert(iomap_bio_add(bio, mem + 1024, 1024));
	ck_assert_uint_eq(bio->nr_vecs, 1);
	ck_assert(iomap_bio_add(bio, mem + 4096, 1024));
	ck_assert_uint_eq(bio->nr_vecs, 2);
	ck_assert(!iomap_bio_add(bio, mem, 1024));
	ck_assert(!iomap_bio_add(bio, mem + 5120, 8192));
	ck_assert_uint_eq(bio->len, 3072);
	iomap_bio_free(bio);
}
END_TEST

START_TEST(bio_grows)
{
	struct iomap_dev dev = { .logical_block = 512, .mem_align = 512, .max_io = 1 << 20,
				 .max_vecs = 100 };
	struct iomap_bio *bio = iomap_bio_alloc(&dev, IOMAP_BIO_WRITE, 4096, 1);
	static char mem[256 * 512];
	unsigned n = 0;

	for (unsigned max = 1; max <= 400; max *= 2) {
		iomap_bio_grow(bio, max);
		/* Every other sector: nothing merges. */
		while (iomap_bio_add(bio, mem + n * 1024, 512))
			n++;
		ck_assert_uint_ge(n, MIN(max, dev.max_vecs));
	}
	ck_assert_uint_eq(n, dev.max_vecs);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_ptr_eq(bio->vec[i].iov_base, mem + i * 1024);
		ck_assert_uint_eq(bio->vec[i].iov_len, 512);
	}
	iomap_bio_free(bio);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-iter");
	TCase *tc = tcase_create("iter");

	tcase_add_loop_test(tc, decisions, 0, 2 * ARRAY_SIZE(scripts));
	tcase_add_test(tc, end_sees_what_was_offered);
	tcase_add_loop_test(tc, bad_mappings, 0, ARRAY_SIZE(bad_maps));
	tcase_add_test(tc, uio);
	tcase_add_test(tc, bio_limits);
	tcase_add_test(tc, bio_grows);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * Seeded random operations on one file against a byte array, over block sizes, folio
 * sizes, and a device that answers at once or late and out of order.
 */
#include <string.h>

#include "toymap.h"
#include "unit.h"

#define NR_OPS    500
#define FILE_MAX  (1u << 20)

static uint64_t base_seed;

struct model {
	struct toy *t;
	struct rng rng;
	uint8_t *bytes;  /* FILE_MAX; zero behind size */
	uint64_t size;
	uint8_t *buf;
	unsigned bs;
	unsigned op_nr;
	const char *op;
};

static void pick_range(struct model *m, uint64_t limit, unsigned align, uint64_t *pos, size_t *len)
{
	static const unsigned scales[] = { 64, 3000, 20000, 200000 };
	uint64_t scale = scales[rng_below(&m->rng, ARRAY_SIZE(scales))];

	*pos = ROUND_DOWN(rng_below(&m->rng, limit), align);
	*len = ROUND_UP(1 + rng_below(&m->rng, scale), align);
	if (*pos + *len > FILE_MAX)
		*len = FILE_MAX - *pos;
}

static void bad(struct model *m, uint64_t pos, const char *what, int64_t ret)
{
	ck_abort_msg("op %u (%s): %s at %llu, ret %lld, size %llu", m->op_nr, m->op, what,
		     (unsigned long long)pos, (long long)ret, (unsigned long long)m->size);
}

static void check_bytes(struct model *m, uint64_t pos, size_t len, int64_t got)
{
	size_t expect = pos >= m->size ? 0 : MIN(len, m->size - pos);

	if (got != (int64_t)expect)
		bad(m, pos, "wrong read count", got);
	for (size_t i = 0; i < expect; i++)
		if (m->buf[i] != m->bytes[pos + i])
			bad(m, pos + i, "wrong byte", m->buf[i]);
}

static void op_write(struct model *m, bool direct)
{
	uint64_t pos;
	size_t len;
	int64_t ret;

	pick_range(m, FILE_MAX, direct ? 512 : 1, &pos, &len);
	for (size_t i = 0; i < len; i++)
		m->buf[i] = (uint8_t)rng_u64(&m->rng);
	ret = direct ? toy_dio_write(m->t, pos, m->buf, len, 0) :
		       toy_write(m->t, pos, m->buf, len,
				 rng_below(&m->rng, 8) ? 0 : IOCB_DONTCACHE);
	if (ret != (int64_t)len)
		bad(m, pos, "write failed", ret);
	memcpy(m->bytes + pos, m->buf, len);
	m->size = MAX(m->size, pos + len);
}

static void op_read(struct model *m, bool direct)
{
	uint64_t pos;
	size_t len;

	pick_range(m, FILE_MAX, direct ? 512 : 1, &pos, &len);
	memset(m->buf, 0x5a, len);
	check_bytes(m, pos, len,
		    direct ? toy_dio_read(m->t, pos, m->buf, len) :
			     toy_read(m->t, pos, m->buf, len, 0));
}

static void op_resize(struct model *m)
{
	uint64_t size = rng_below(&m->rng, FILE_MAX + 1);
	int err;

	if (rng_below(&m->rng, 3) == 0)
		size = ROUND_DOWN(size, m->bs);
	err = toy_truncate(m->t, size);
	if (err)
		bad(m, size, "truncate failed", err);
	if (size < m->size)
		memset(m->bytes + size, 0, m->size - size);
	m->size = size;
}

static void op_clear(struct model *m, bool punch)
{
	uint64_t pos;
	size_t len;
	int err;

	if (!m->size)
		return;
	pick_range(m, m->size, 1, &pos, &len);
	len = MIN(len, m->size - pos);
	err = punch ? toy_punch(m->t, pos, len) : toy_zero(m->t, pos, len, NULL);
	if (err)
		bad(m, pos, "zeroing failed", err);
	memset(m->bytes + pos, 0, len);
}

static void op_seek(struct model *m)
{
	uint64_t pos = rng_below(&m->rng, FILE_MAX);
	int64_t data = iomap_seek_data(&m->t->inode, (int64_t)pos, &toy_ops);
	uint64_t end = data < 0 ? m->size : (uint64_t)data;

	if (pos >= m->size) {
		ck_assert_int_eq(data, -ENXIO);
		return;
	}
	/* What is called a hole must read as zero; data may be zero too. */
	for (; pos < end; pos++)
		if (m->bytes[pos])
			bad(m, pos, "data within a hole", data);
}

static void op_share(struct model *m)
{
	uint64_t pos;
	size_t len;
	int err;

	if (!m->size)
		return;
	pick_range(m, m->size, m->bs, &pos, &len);
	if (rng_below(&m->rng, 2)) {
		toy_share(m->t, pos, len);
		return;
	}
	err = toy_unshare(m->t, pos, len);
	if (err)
		bad(m, pos, "unshare failed", err);
}

static void one_op(struct model *m)
{
	static const char *const names[] = {
		"write", "dio write", "read", "dio read", "truncate", "zero", "punch",
		"sync", "drop", "seek", "share",
	};
	static const unsigned char weight[] = { 28, 10, 18, 8, 6, 7, 6, 6, 4, 4, 3 };
	unsigned n = (unsigned)rng_below(&m->rng, 100), what = 0;

	while (n >= weight[what])
		n -= weight[what++];
	m->op = names[what];
	switch (what) {
	case 0: op_write(m, false); break;
	case 1: op_write(m, true); break;
	case 2: op_read(m, false); break;
	case 3: op_read(m, true); break;
	case 4: op_resize(m); break;
	case 5: op_clear(m, false); break;
	case 6: op_clear(m, true); break;
	case 7: ck_assert_int_eq(toy_sync(m->t), 0); break;
	case 8: toy_drop_cache(m->t); break;
	case 9: op_seek(m); break;
	default: op_share(m); break;
	}
}

static void check_all(struct model *m)
{
	ck_assert_uint_eq(i_size_read(&m->t->inode), m->size);
	memset(m->buf, 0x5a, FILE_MAX);
	check_bytes(m, 0, FILE_MAX, toy_read(m->t, 0, m->buf, FILE_MAX, 0));
}

static void run_one(unsigned blkbits, unsigned order, bool late)
{
	uint64_t seed = base_seed + blkbits * 1000 + order * 10 + late;
	struct toy_params p = {
		.blkbits = blkbits, .max_order = order, .late = late, .seed = seed,
		.max_io = seed & 1 ? 64u << 10 : 0,
	};
	struct model m = { .t = toy_create(&p), .bs = 1u << blkbits };

	m.t->fbatch = p.seed & 1;
	m.bytes = calloc(1, FILE_MAX);
	m.buf = aligned_alloc(4096, FILE_MAX + 4096);
	rng_seed(&m.rng, seed);
	printf("block %u, max order %u, %s\n", m.bs, order, late ? "late" : "at once");
	for (m.op_nr = 0; m.op_nr < NR_OPS; m.op_nr++) {
		one_op(&m);
		if (m.op_nr % 50 == 49)
			check_all(&m);
	}
	m.op = "final check";
	check_all(&m);
	ck_assert_int_eq(toy_drop_cache(m.t), 0);
	check_all(&m);
	ck_assert_uint_eq(m.t->nr_begin, m.t->nr_end);
	ck_assert_uint_eq(m.t->nr_reserved, 0);
	ck_assert_uint_eq(atomic_load(&m.t->inode.i_dio_count), 0);
	toy_destroy(m.t);
	free(m.bytes);
	free(m.buf);
}

START_TEST(model_matches)
{
	static const unsigned bits[] = { 10, 12, 14, 16 };
	static const unsigned orders[] = { 0, 2, 5, 9 };

	run_one(bits[_i / 8], orders[(_i / 2) % 4], _i % 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-model");
	TCase *tc = tcase_create("model");

	setvbuf(stdout, NULL, _IOLBF, 0);
	base_seed = unit_seed(1);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, model_matches, 0, 32);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

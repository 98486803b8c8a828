/* SPDX-License-Identifier: MIT */
/*
 * Seeded operations on a few files against plain memory, with syncs, dropped caches and
 * remounts in between; and the same under power cuts, where a file that was synced must
 * come back with nothing but bytes that were written to it, or zeros.
 */
#include <string.h>

#include "filefs.h"

#define MAX_SIZE (1u << 20)
#define NR_FILES 3
#define NR_OPS 1200
#define STALE 0xaa

struct model {
	uint8_t data[MAX_SIZE];
	uint64_t size;
	struct fs_inode *ip;
};
static struct model models[NR_FILES];
static uint8_t scratch[MAX_SIZE];

static const char *name_of(unsigned i)
{
	static const char *const names[] = { "one", "two", "three" };

	return names[i];
}

static void check_file(struct filefs *f, struct model *m, const char *what)
{
	int64_t n = filefs_pread(f, m->ip, scratch, MAX_SIZE, 0, 0);

	if (n != (int64_t)m->size || filefs_size(f, m->ip) != m->size)
		ck_abort_msg("%s: read %lld of %llu", what, (long long)n,
			     (unsigned long long)m->size);
	for (uint64_t i = 0; i < m->size; i++)
		if (scratch[i] != m->data[i])
			ck_abort_msg("%s: byte %llu is %02x, not %02x", what,
				     (unsigned long long)i, scratch[i], m->data[i]);
}

/* Positions near each other, block edges and EOF more often than chance would. */
static uint64_t pick_pos(struct rng *r, const struct model *m, unsigned shift)
{
	switch (rng_below(r, 4)) {
	case 0:
		return MIN(m->size, MAX_SIZE - 1u);
	case 1:
		return rng_below(r, MAX_SIZE >> shift) << shift;
	case 2:
		return rng_below(r, 2000);
	default:
		return rng_below(r, MAX_SIZE);
	}
}

static void op_write(struct filefs *f, struct model *m, struct rng *r, unsigned shift)
{
	uint64_t pos = pick_pos(r, m, shift);
	size_t len = 1 + rng_below(r, rng_below(r, 3) ? 5000 : 100000);
	unsigned flags = rng_below(r, 4) == 0 ? IOCB_DIRECT : 0;

	if (rng_below(r, 10) == 0)
		flags |= IOCB_DSYNC;
	if ((flags & IOCB_DIRECT) && rng_below(r, 2)) {
		pos = ROUND_DOWN(pos, 512);
		len = ROUND_UP(len, 512);
	}
	len = MIN(len, MAX_SIZE - pos);
	for (size_t i = 0; i < len; i++)
		scratch[i] = (uint8_t)(1 + rng_below(r, 100));
	ck_assert_int_eq(filefs_pwrite(f, m->ip, scratch, len, pos, flags), (int64_t)len);
	if (pos > m->size)
		memset(m->data + m->size, 0, pos - m->size);
	memcpy(m->data + pos, scratch, len);
	m->size = MAX(m->size, pos + len);
}

static void op_truncate(struct filefs *f, struct model *m, struct rng *r, unsigned shift)
{
	uint64_t size = rng_below(r, 5) ? pick_pos(r, m, shift) : 0;

	ck_assert_int_eq(filefs_truncate(f, m->ip, size), 0);
	if (size > m->size)
		memset(m->data + m->size, 0, size - m->size);
	m->size = size;
}

static void op_fallocate(struct filefs *f, struct model *m, struct rng *r, unsigned shift)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	const int mode = modes[rng_below(r, ARRAY_SIZE(modes))];
	uint64_t pos = pick_pos(r, m, shift);
	uint64_t len = 1 + rng_below(r, 150000), end;

	len = MIN(len, MAX_SIZE - pos);
	end = pos + len;
	ck_assert_int_eq(fs_fallocate(&f->ctx, m->ip, mode, pos, len), 0);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && pos < m->size)
		memset(m->data + pos, 0, MIN(end, m->size) - pos);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > m->size) {
		memset(m->data + m->size, 0, end - m->size);
		m->size = end;
	}
}

/* Whole blocks out of the middle or a hole in; now and then what must be refused. */
static void op_shift(struct filefs *f, struct model *m, struct rng *r, unsigned shift)
{
	const bool insert = rng_below(r, 2);
	const int mode = insert ? FALLOC_FL_INSERT_RANGE : FALLOC_FL_COLLAPSE_RANGE;
	const uint64_t pos = ROUND_DOWN(pick_pos(r, m, shift), 1u << shift);
	const uint64_t len = (1 + rng_below(r, MAX(200000u >> shift, 2u))) << shift;
	const bool refused = insert ? pos >= m->size : pos + len >= m->size;

	if (insert && m->size + len > MAX_SIZE)
		return;
	ck_assert_int_eq(fs_fallocate(&f->ctx, m->ip, mode, pos, len), refused ? -EINVAL : 0);
	if (refused)
		return;
	if (insert) {
		memmove(m->data + pos + len, m->data + pos, m->size - pos);
		memset(m->data + pos, 0, len);
		m->size += len;
	} else {
		memmove(m->data + pos, m->data + pos + len, m->size - pos - len);
		m->size -= len;
	}
}

static void op_copy(struct filefs *f, struct rng *r, unsigned shift)
{
	struct model *a = &models[rng_below(r, NR_FILES)], *b = &models[rng_below(r, NR_FILES)];
	uint64_t from = pick_pos(r, a, shift), to = pick_pos(r, b, shift), done = 0;
	uint64_t len = rng_below(r, 200000);
	int64_t n;

	if (a == b || from >= a->size)
		return;
	len = MIN(MIN(len, a->size - from), MAX_SIZE - to);
	while (done < len) {
		n = fs_copy_file_range(&f->ctx, a->ip, from + done, b->ip, to + done, len - done);
		ck_assert_int_gt(n, 0);
		done += (uint64_t)n;
	}
	if (len && to > b->size)
		memset(b->data + b->size, 0, to - b->size);
	memcpy(b->data + to, a->data + from, len);
	if (len)
		b->size = MAX(b->size, to + len);
}

static void op_seek(struct filefs *f, struct model *m, struct rng *r, unsigned shift)
{
	uint64_t pos = pick_pos(r, m, shift);
	int64_t data = fs_lseek(&f->ctx, m->ip, (int64_t)pos, SEEK_DATA);
	uint64_t end;

	if (pos >= m->size) {
		ck_assert_int_eq(data, -ENXIO);
		return;
	}
	/* All that is skipped must be zeros. */
	end = data < 0 ? m->size : (uint64_t)data;
	for (uint64_t i = pos; i < end; i++)
		if (m->data[i])
			ck_abort_msg("SEEK_DATA skipped data at %llu", (unsigned long long)i);
}

static void put_all(void)
{
	for (unsigned i = 0; i < NR_FILES; i++)
		fs_iput(models[i].ip);
}

static void step(struct filefs *f, struct rng *r, unsigned shift)
{
	struct model *m = &models[rng_below(r, NR_FILES)];

	switch (rng_below(r, 22)) {
	case 0 ... 7:
		op_write(f, m, r, shift);
		break;
	case 20 ... 21:
		op_shift(f, m, r, shift);
		break;
	case 8 ... 9:
		op_truncate(f, m, r, shift);
		break;
	case 10 ... 12:
		op_fallocate(f, m, r, shift);
		break;
	case 13:
		op_copy(f, r, shift);
		break;
	case 14:
		op_seek(f, m, r, shift);
		break;
	case 15:
		ck_assert_int_eq(filefs_sync_file(f, m->ip, rng_below(r, 2)), 0);
		break;
	case 16:
		ck_assert_int_eq(fs_sync(f->fs), 0);
		filefs_drop_caches(f);
		break;
	default:
		check_file(f, m, "after an operation");
		break;
	}
}

START_TEST(model)
{
	static const unsigned shifts[] = { 10, 12, 16 };
	const unsigned shift = shifts[_i];
	struct filefs f;
	struct rng r;
	uint64_t before;

	rng_seed(&r, unit_seed(20260101 + (unsigned)_i));
	memset(models, 0, sizeof(models));
	filefs_make(&f, 64u << 20, shift, STALE);
	before = filefs_free_blocks(&f);
	for (unsigned i = 0; i < NR_FILES; i++)
		models[i].ip = filefs_create(&f, name_of(i));
	for (unsigned op = 0; op < NR_OPS; op++) {
		step(&f, &r, shift);
		if (rng_below(&r, 100))
			continue;
		put_all();
		filefs_remount(&f);
		for (unsigned i = 0; i < NR_FILES; i++) {
			models[i].ip = filefs_lookup(&f, name_of(i));
			check_file(&f, &models[i], "after a remount");
		}
	}
	put_all();
	for (unsigned i = 0; i < NR_FILES; i++)
		ck_assert_int_eq(fs_unlink(&f.ctx, f.root, name_of(i), strlen(name_of(i))), 0);
	ck_assert_uint_eq(filefs_free_blocks(&f), before);
	filefs_end(&f);
}
END_TEST

/* ---- Power cuts ----------------------------------------------------------------------------- */

/* What survived: bytes 1..100 were written by us, 0 is a hole; anything else was the device's. */
static void check_survivor(struct filefs *f, struct fs_inode *ip, const struct model *synced)
{
	int64_t n = filefs_pread(f, ip, scratch, MAX_SIZE, 0, 0);

	ck_assert_int_ge(n, 0);
	ck_assert_uint_eq((uint64_t)n, filefs_size(f, ip));
	for (int64_t i = 0; i < n; i++)
		if (scratch[i] > 100)
			ck_abort_msg("byte %lld of %lld is stale: %02x", (long long)i,
				     (long long)n, scratch[i]);
	if (!synced)
		return;
	ck_assert_uint_eq((uint64_t)n, synced->size);
	ck_assert_int_eq(memcmp(scratch, synced->data, synced->size), 0);
}

/* Operations until the power goes; file 0 is not touched after its fsync. */
static void run_to_the_cut(struct filefs *f, struct rng *r, unsigned shift)
{
	for (unsigned i = 0; i < NR_FILES; i++)
		models[i].ip = filefs_create(f, name_of(i));
	for (unsigned op = 0; op < 10; op++)
		op_write(f, &models[0], r, shift);
	ck_assert_int_eq(filefs_sync_file(f, models[0].ip, true), 0);
	ck_assert_int_eq(filefs_sync_file(f, models[0].ip, false), 0);
}

static void work_blindly(struct filefs *f, struct rng *r, unsigned n)
{
	for (unsigned op = 0; op < n; op++) {
		struct fs_inode *ip = models[1 + rng_below(r, NR_FILES - 1)].ip;
		uint64_t pos = rng_below(r, MAX_SIZE / 2);
		size_t len = 1 + rng_below(r, 60000);

		for (size_t i = 0; i < len; i++)
			scratch[i] = (uint8_t)(1 + (i + op) % 100);
		switch (rng_below(r, 8)) {
		case 0:
			filefs_truncate(f, ip, pos);
			break;
		case 1:
			fs_fallocate(&f->ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos,
				     len);
			break;
		case 2:
			filefs_sync_file(f, ip, rng_below(r, 2));
			break;
		case 3:
			filefs_pwrite(f, ip, scratch, ROUND_UP(len, 512), ROUND_DOWN(pos, 512),
				      IOCB_DIRECT);
			break;
		default:
			filefs_pwrite(f, ip, scratch, len, pos, 0);
			break;
		}
	}
}

START_TEST(power_cut)
{
	static const unsigned shifts[] = { 10, 12, 16 };
	const unsigned shift = shifts[_i % 3];
	struct fs_inode *ip;
	struct filefs f;
	struct bd *crash;
	struct rng r;

	rng_seed(&r, unit_seed(77000 + (unsigned)_i));
	memset(models, 0, sizeof(models));
	filefs_make(&f, 48u << 20, shift, STALE);
	filefs_umount(&f);
	ck_assert_int_eq(bd_crash_create(filefs_passthrough(f.mem), &crash), 0);
	f.top = crash;
	filefs_mount(&f);
	run_to_the_cut(&f, &r, shift);
	bd_crash_arm(crash, bd_crash_nr_writes(crash) + 1 + rng_below(&r, 60), rng_u64(&r));
	work_blindly(&f, &r, 60);
	bd_crash_cut(crash, rng_u64(&r));
	put_all();
	fs_iput(f.root);
	fs_unmount(f.fs);
	f.top = NULL;
	filefs_mount(&f);
	for (unsigned i = 0; i < NR_FILES; i++) {
		ip = filefs_lookup(&f, name_of(i));
		if (i == 0)
			ck_assert_ptr_nonnull(ip);
		if (!ip)
			continue;
		check_survivor(&f, ip, i == 0 ? &models[0] : NULL);
		/* And what growing it shows. */
		ck_assert_int_eq(filefs_truncate(&f, ip, MAX_SIZE), 0);
		check_survivor(&f, ip, NULL);
		fs_iput(ip);
	}
	filefs_end(&f);
}
END_TEST

static void quiet(enum log_level lvl, const char *line, void *arg)
{
}

int main(void)
{
	Suite *s = suite_create("fs-file-model");
	TCase *t = tcase_create("model");

	if (!getenv("IOMAPFS_VERBOSE"))
		log_set_sink(quiet, NULL);
	tcase_set_timeout(t, 100);
	tcase_add_loop_test(t, model, 0, 3);
	tcase_add_loop_test(t, power_cut, 0, 24);
	suite_add_tcase(s, t);
	return unit_run(s);
}

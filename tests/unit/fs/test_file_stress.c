/* SPDX-License-Identifier: MIT */
/*
 * Readers, writers, fsync, truncate, punch and queries on a few files at once. Every byte a
 * file can hold is one value (its number) or zero: anything else is somebody else's data.
 */
#include <fcntl.h>
#include <string.h>

#include "filefs.h"

#define NR_FILES 3
#define NR_THREADS 6
#define RUN_NS 3000000000ull
#define SPAN (1u << 20)

struct worker {
	pthread_t thread;
	struct filefs *f;
	struct fs_inode **files;
	struct rng rng;
	uint64_t until, ops, bad;
	uint8_t *buf;
};

static void check(struct worker *w, unsigned file, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		if (w->buf[i] != 0 && w->buf[i] != file + 1)
			w->bad++;
}

/* Whole blocks of the largest size, out or in; where the file is too short for that, no matter. */
static void shift(struct worker *w, struct fs_inode *ip, uint64_t pos)
{
	const bool in = filefs_size(w->f, ip) < SPAN && rng_below(&w->rng, 2);
	const uint64_t len = (1 + rng_below(&w->rng, 3)) << 16;
	int err;

	err = fs_fallocate(&w->f->ctx, ip, in ? FALLOC_FL_INSERT_RANGE : FALLOC_FL_COLLAPSE_RANGE,
			   ROUND_DOWN(pos, 1u << 16), len);
	w->bad += err != 0 && err != -EINVAL;
}

static void one_op(struct worker *w)
{
	unsigned file = (unsigned)rng_below(&w->rng, NR_FILES);
	struct fs_inode *ip = w->files[file];
	uint64_t pos = rng_below(&w->rng, SPAN);
	size_t len = 1 + rng_below(&w->rng, 30000);
	unsigned dio = rng_below(&w->rng, 4) ? 0 : IOCB_DIRECT;

	switch (rng_below(&w->rng, 18)) {
	case 16 ... 17:
		shift(w, ip, pos);
		break;
	case 0:
		w->bad += filefs_truncate(w->f, ip, pos) != 0;
		break;
	case 1:
		w->bad += fs_fallocate(&w->f->ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       pos, len) != 0;
		break;
	case 2:
		w->bad += fs_fallocate(&w->f->ctx, ip, 0, pos, len) != 0;
		break;
	case 3:
		w->bad += filefs_sync_file(w->f, ip, false) != 0;
		break;
	case 4:
		filefs_fiemap(w->f, ip, 0, NULL, 0);
		fs_lseek(&w->f->ctx, ip, (int64_t)pos, SEEK_DATA);
		break;
	case 5 ... 9:
		memset(w->buf, (int)file + 1, len);
		if (dio) {
			pos = ROUND_DOWN(pos, 512);
			len = ROUND_UP(len, 512);
			memset(w->buf, (int)file + 1, len);
		}
		w->bad += filefs_pwrite(w->f, ip, w->buf, len, pos, dio) != (int64_t)len;
		break;
	default:
		if (dio) {
			pos = ROUND_DOWN(pos, 512);
			len = ROUND_UP(len, 512);
		}
		check(w, file, filefs_pread(w->f, ip, w->buf, len, pos, dio));
		break;
	}
	w->ops++;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (clock_mono_ns() < w->until)
		one_op(w);
	return NULL;
}

START_TEST(stress)
{
	static const unsigned shifts[] = { 10, 12, 16 };
	struct worker w[NR_THREADS] = { 0 };
	struct fs_inode *files[NR_FILES];
	uint64_t seed = unit_seed(4242), ops = 0;
	struct filefs f;
	char name[8];

	filefs_make(&f, 64u << 20, shifts[_i], 0xaa);
	for (unsigned i = 0; i < NR_FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		files[i] = filefs_create(&f, name);
	}
	for (unsigned i = 0; i < NR_THREADS; i++) {
		w[i].f = &f;
		w[i].files = files;
		w[i].buf = aligned_alloc(4096, 64 << 10);
		w[i].until = clock_mono_ns() + RUN_NS;
		rng_seed(&w[i].rng, seed + i);
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (unsigned i = 0; i < NR_THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		ck_assert_uint_eq(w[i].bad, 0);
		ops += w[i].ops;
		free(w[i].buf);
	}
	printf("%llu operations\n", (unsigned long long)ops);
	for (unsigned i = 0; i < NR_FILES; i++)
		fs_iput(files[i]);
	filefs_end(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-file-stress");
	TCase *t = tcase_create("stress");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, stress, 0, 3);
	suite_add_tcase(s, t);
	return unit_run(s);
}

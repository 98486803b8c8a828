/* SPDX-License-Identifier: MIT */
/* Backends and decorators: contents, limits, faults, and what a power cut leaves. */
#include <check.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iomapfs/block.h"
#include "iomapfs/util.h"
#include "unit.h"

#define DEV_SIZE (8u << 20)

static char image[] = "/tmp/iomapfs-bd-XXXXXX";

static void image_make(void)
{
	int fd;

	snprintf(image, sizeof(image), "/tmp/iomapfs-bd-XXXXXX");
	fd = mkstemp(image);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, DEV_SIZE), 0);
	close(fd);
}

static void image_remove(void)
{
	unlink(image);
}

static char *aligned(size_t n, int fill)
{
	void *p;

	ck_assert_int_eq(posix_memalign(&p, 4096, n), 0);
	memset(p, fill, n);
	return p;
}

static struct bd *open_backend(int which)
{
	struct bd *bd;

	if (which == 0)
		ck_assert_int_eq(bd_mem_create(DEV_SIZE, 512, &bd), 0);
	else
		ck_assert_int_eq(bd_open(image, which == 1 ? 0 : BD_OPEN_BUFFERED, &bd), 0);
	return bd;
}

/* Counts completions; the test waits for all. */
struct batch {
	struct lk_mutex lock;
	pthread_cond_t cond;
	unsigned left;
	int error;
};

static void batch_end(struct bd_io *io)
{
	struct batch *b = io->private;

	lk_lock(&b->lock);
	if (io->error)
		b->error = io->error;
	b->left--;
	pthread_cond_signal(&b->cond);
	lk_unlock(&b->lock);
}

static void batch_init(struct batch *b, unsigned n)
{
	lk_mutex_init(&b->lock, LK_LEAF, "batch");
	lk_cond_init(&b->cond);
	b->left = n;
	b->error = 0;
}

static void batch_wait(struct batch *b)
{
	lk_lock(&b->lock);
	while (b->left)
		lk_cond_wait(&b->cond, &b->lock);
	lk_unlock(&b->lock);
}

START_TEST(backend_round_trip)
{
	struct bd *bd = open_backend(_i);
	char *w = aligned(256 << 10, 0), *r = aligned(256 << 10, 0xee);

	for (unsigned i = 0; i < 256 << 10; i++)
		w[i] = (char)(i * 31 + (i >> 9));
	ck_assert_int_eq(bd_write(bd, 64 << 10, w, 256 << 10, BD_FUA | BD_PREFLUSH), 0);
	ck_assert_int_eq(bd_flush(bd), 0);
	ck_assert_int_eq(bd_read(bd, 64 << 10, r, 256 << 10), 0);
	ck_assert_int_eq(memcmp(w, r, 256 << 10), 0);
	ck_assert_int_eq(bd_write_zeroes(bd, 64 << 10, 8192), 0);
	ck_assert_int_eq(bd_read(bd, 64 << 10, r, 256 << 10), 0);
	for (unsigned i = 0; i < 8192; i++)
		ck_assert_int_eq(r[i], 0);
	ck_assert_int_eq(memcmp(w + 8192, r + 8192, (256 << 10) - 8192), 0);
	ck_assert_int_eq(bd_discard(bd, 64 << 10, 4096), 0);
	bd_close(bd);
	free(w);
	free(r);
}
END_TEST

/* Many requests in flight, several vectors each, plugged: all end, all land. */
START_TEST(backend_many_in_flight)
{
	enum { N = 700 };
	struct bd *bd = open_backend(_i);
	struct bd_io *ios = calloc(N, sizeof(*ios));
	struct iovec *iov = calloc(2 * N, sizeof(*iov));
	char *data = aligned(N * 8192, 0), *back = aligned(8192, 0);
	struct batch b;

	batch_init(&b, N);
	bd_plug(bd);
	for (unsigned i = 0; i < N; i++) {
		memset(data + i * 8192, (int)(i % 251), 8192);
		iov[2 * i] = (struct iovec){ data + i * 8192, 4096 };
		iov[2 * i + 1] = (struct iovec){ data + i * 8192 + 4096, 4096 };
		ios[i] = (struct bd_io){ .op = BD_WRITE, .offset = (uint64_t)i * 8192, .len = 8192,
					 .iov = &iov[2 * i], .nr_iov = 2, .end_io = batch_end,
					 .private = &b, .flags = i % 7 ? 0 : BD_PREFLUSH };
		bd_submit(bd, &ios[i]);
	}
	bd_unplug(bd);
	batch_wait(&b);
	ck_assert_int_eq(b.error, 0);
	for (unsigned i = 0; i < N; i++) {
		ck_assert_int_eq(bd_read(bd, (uint64_t)i * 8192, back, 8192), 0);
		ck_assert_int_eq(memcmp(back, data + i * 8192, 8192), 0);
	}
	bd_close(bd);
	free(ios);
	free(iov);
	free(data);
	free(back);
}
END_TEST

START_TEST(counters)
{
	struct bd *bd = open_backend(_i);
	char *buf = aligned(8192, 0);
	struct bd_stats st;

	ck_assert_int_eq(bd_write(bd, 0, buf, 8192, BD_PREFLUSH), 0);
	ck_assert_int_eq(bd_read(bd, 0, buf, 4096), 0);
	ck_assert_int_eq(bd_flush(bd), 0);
	ck_assert_int_eq(bd_read(bd, 1, buf, 4096), -EINVAL); /* refused: not counted */
	bd_get_stats(bd, &st);
	ck_assert_uint_eq(st.writes, 1);
	ck_assert_uint_eq(st.write_bytes, 8192);
	ck_assert_uint_eq(st.reads, 1);
	ck_assert_uint_eq(st.read_bytes, 4096);
	ck_assert_uint_eq(st.flushes, 2);
	bd_close(bd);
	free(buf);
}
END_TEST

START_TEST(request_limits)
{
	struct bd *bd = open_backend(_i);
	char *buf = aligned(8192, 0);

	ck_assert_int_eq(bd_read(bd, 100, buf, 4096), -EINVAL);
	ck_assert_int_eq(bd_read(bd, DEV_SIZE - 4096, buf, 8192), -EIO);
	ck_assert_int_eq(bd_read(bd, UINT64_MAX - 4095, buf, 4096), -EIO);
	bd->info.readonly = true;
	ck_assert_int_eq(bd_write(bd, 0, buf, 4096, 0), -EROFS);
	bd_close(bd);
	free(buf);
}
END_TEST

START_TEST(registered_memory)
{
	struct bd *bd = open_backend(1);
	char *buf = aligned(64 << 10, 0x5a), *back = aligned(64 << 10, 0);
	struct iovec range = { buf, 64 << 10 };
	struct iovec part = { buf + 4096, 8192 };
	struct batch b;
	struct bd_io io = { .op = BD_WRITE, .offset = 4096, .len = 8192, .iov = &part, .nr_iov = 1,
			    .end_io = batch_end, .private = &b };
	int err = bd_register_memory(bd, &range, 1);

	/* Without io_uring or with a small RLIMIT_MEMLOCK the plain path must do the same. */
	ck_assert(err == 0 || err == -EOPNOTSUPP || err == -ENOMEM || err == -EPERM);
	batch_init(&b, 1);
	bd_submit(bd, &io);
	batch_wait(&b);
	ck_assert_int_eq(b.error, 0);
	ck_assert_int_eq(bd_read(bd, 4096, back, 8192), 0);
	ck_assert_int_eq(memcmp(back, buf, 8192), 0);
	bd_close(bd);
	free(buf);
	free(back);
}
END_TEST

/* Polled where the file below can, and the ordinary way where not: the same bytes, and every end once. */
START_TEST(polled_requests)
{
	enum { N = 300 };
	struct bd_io *ios = calloc(N, sizeof(*ios));
	struct iovec *iov = calloc(N, sizeof(*iov));
	char *data = aligned(N * 4096, 0), *back = aligned(N * 4096, 0);
	struct bd *bd;
	struct batch b;

	ck_assert_int_eq(bd_open(image, BD_OPEN_POLL, &bd), 0);
	for (unsigned i = 0; i < N; i++)
		memset(data + i * 4096, (int)(i % 251) + 1, 4096);
	for (unsigned op = 0; op < 2; op++) {
		batch_init(&b, N);
		for (unsigned i = 0; i < N; i++) {
			iov[i] = (struct iovec){ (op ? back : data) + i * 4096, 4096 };
			ios[i] = (struct bd_io){ .op = op ? BD_READ : BD_WRITE, .offset = (uint64_t)i * 4096,
						 .len = 4096, .iov = &iov[i], .nr_iov = 1,
						 .end_io = batch_end, .private = &b,
						 .flags = BD_POLL | (i % 5 || op ? 0 : BD_FUA) };
			bd_submit(bd, &ios[i]);
		}
		batch_wait(&b);
		ck_assert_int_eq(b.error, 0);
	}
	ck_assert_mem_eq(data, back, N * 4096);
	ck_assert_int_eq(truncate(image, 4096), 0);
	batch_init(&b, 1);
	ios[0] = (struct bd_io){ .op = BD_READ, .offset = 8192, .len = 4096, .iov = iov, .nr_iov = 1,
				 .end_io = batch_end, .private = &b, .flags = BD_POLL };
	bd_submit(bd, &ios[0]);
	batch_wait(&b);
	ck_assert_int_eq(b.error, -EIO);
	bd_close(bd);
	free(ios);
	free(iov);
	free(data);
	free(back);
}
END_TEST

START_TEST(image_lock_excludes_second_writer)
{
	struct bd *a, *b;

	ck_assert_int_eq(bd_open(image, BD_OPEN_LOCK, &a), 0);
	ck_assert_int_eq(bd_open(image, BD_OPEN_LOCK, &b), -EBUSY);
	ck_assert_int_eq(bd_open(image, BD_OPEN_LOCK | BD_OPEN_RDONLY, &b), -EBUSY);
	bd_close(a);
	ck_assert_int_eq(bd_open(image, BD_OPEN_LOCK | BD_OPEN_RDONLY, &a), 0);
	ck_assert_int_eq(bd_open(image, BD_OPEN_LOCK | BD_OPEN_RDONLY, &b), 0);
	bd_close(a);
	bd_close(b);
	ck_assert_int_eq(bd_open("/tmp", 0, &a), -EMEDIUMTYPE);
	ck_assert_int_eq(bd_open("/nonexistent/x", 0, &a), -ENOENT);
}
END_TEST

START_TEST(image_cut_short_is_an_error)
{
	struct bd *bd;
	char *buf = aligned(8192, 0);

	ck_assert_int_eq(bd_open(image, 0, &bd), 0);
	ck_assert_int_eq(truncate(image, 4096), 0);
	ck_assert_int_eq(bd_read(bd, 0, buf, 8192), -EIO);
	bd_close(bd);
	free(buf);
}
END_TEST

/* ---- Short transfers ------------------------------------------------------------------------ */

/* A transfer that went well is said to have ended early, at a sector, or to have been interrupted. */
struct shortener {
	struct rng rng;
	_Atomic unsigned nr;
};

static int64_t shorter(struct shortener *s, int64_t res)
{
	if (res < 1024 || rng_below(&s->rng, 3) == 0)
		return res;
	atomic_fetch_add(&s->nr, 1);
	return (int64_t)(1 + rng_below(&s->rng, (uint64_t)res / 512 - 1)) * 512;
}

static void shorten_uring(const char *name, void *site_arg, void *test_arg)
{
	int *res = site_arg;

	*res = (int)shorter(test_arg, *res);
}

static void shorten_host(const char *name, void *site_arg, void *test_arg)
{
	ssize_t *res = site_arg;

	*res = shorter(test_arg, *res);
}

/* In pieces of several sizes, so that what is left begins within one of them. */
static void rw_pieces(struct bd *bd, enum bd_op op, char *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov[5];
	struct bd_io io = { .op = op, .offset = offset, .len = len, .iov = iov, .nr_iov = 5 };
	struct batch b;
	uint64_t at = 0;

	for (unsigned i = 0; i < 5; i++) {
		iov[i] = (struct iovec){ buf + at, i < 4 ? 4096u << (i % 3) : len - at };
		at += iov[i].iov_len;
	}
	batch_init(&b, 1);
	io.private = &b;
	io.end_io = batch_end;
	bd_submit(bd, &io);
	batch_wait(&b);
	ck_assert_int_eq(b.error, 0);
}

START_TEST(short_transfers_go_on)
{
	static struct shortener s;
	const uint64_t len = 96 << 10;
	struct bd *bd = open_backend(1 + _i);
	char *out = aligned(len, 0), *in = aligned(len, 0);

	rng_seed(&s.rng, unit_seed(4711));
	atomic_store(&s.nr, 0);
	ck_assert_int_eq(hook_install("bd:uring-done", shorten_uring, &s), 0);
	ck_assert_int_eq(hook_install("bd:host-done", shorten_host, &s), 0);
	for (unsigned round = 0; round < 40; round++) {
		for (uint64_t i = 0; i < len; i += 8)
			memcpy(out + i, &(uint64_t){ rng_u64(&s.rng) }, 8);
		memset(in, 0, len);
		rw_pieces(bd, BD_WRITE, out, len, round * 4096u);
		rw_pieces(bd, BD_READ, in, len, round * 4096u);
		ck_assert_mem_eq(in, out, len);
		/* The synchronous forms go another way. */
		ck_assert_int_eq(bd_write(bd, 1 << 20, in, len, BD_FUA), 0);
		ck_assert_int_eq(bd_read(bd, 1 << 20, out, len), 0);
		ck_assert_mem_eq(in, out, len);
	}
	hook_remove("bd:uring-done");
	hook_remove("bd:host-done");
	ck_assert_uint_gt(atomic_load(&s.nr), 40);
	bd_close(bd);
	free(out);
	free(in);
}
END_TEST

/* The ring's descriptor among ours, or -1: no io_uring here. */
static int ring_fd(void)
{
	char path[64], to[128];

	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		if (strstr(to, "[io_uring]"))
			return fd;
	}
	return -1;
}

/* What no request of ours needs is refused by the kernel, whoever asks. */
START_TEST(ring_is_restricted)
{
	struct bd *bd;
	int fd, no_fd = -1;

	ck_assert_int_eq(bd_open(image, 0, &bd), 0);
	fd = ring_fd();
	/* Without its restrictions this would say EBADF. */
	if (fd >= 0)
		ck_assert_int_eq(io_uring_register((unsigned)fd, IORING_REGISTER_EVENTFD, &no_fd, 1),
				 -EACCES);
	bd_close(bd);
}
END_TEST

START_TEST(trace_records)
{
	struct bd *mem = open_backend(0), *t;
	const struct bd_trace_rec *recs;
	char *buf = aligned(4096, 1);

	ck_assert_int_eq(bd_trace_create(mem, NULL, &t), 0);
	ck_assert_int_eq(bd_write(t, 8192, buf, 4096, BD_FUA), 0);
	ck_assert_int_eq(bd_flush(t), 0);
	ck_assert_uint_eq(bd_trace_get(t, &recs), 2);
	ck_assert_int_eq(recs[0].op, BD_WRITE);
	ck_assert_uint_eq(recs[0].offset, 8192);
	ck_assert_uint_eq(recs[0].flags, BD_FUA);
	ck_assert_int_eq(recs[1].op, BD_FLUSH);
	bd_trace_reset(t);
	ck_assert_uint_eq(bd_trace_get(t, &recs), 0);
	bd_close(t);
	free(buf);
}
END_TEST

START_TEST(fault_nth_and_range)
{
	struct bd *mem = open_backend(0), *f;
	char *buf = aligned(4096, 1);
	struct bd_fault_rule rules[] = {
		{ .op = BD_WRITE, .after = 2, .count = 1, .error = -EIO },
		{ .op = BD_READ, .start = 4096, .end = 8192, .count = UINT64_MAX, .error = -ENODEV },
	};

	ck_assert_int_eq(bd_fault_create(mem, &f), 0);
	bd_fault_set(f, rules, 2);
	ck_assert_int_eq(bd_write(f, 0, buf, 4096, 0), 0);
	ck_assert_int_eq(bd_write(f, 0, buf, 4096, 0), 0);
	ck_assert_int_eq(bd_write(f, 0, buf, 4096, 0), -EIO);
	ck_assert_int_eq(bd_write(f, 0, buf, 4096, 0), 0);
	ck_assert_int_eq(bd_read(f, 0, buf, 4096), 0);
	ck_assert_int_eq(bd_read(f, 4096, buf, 4096), -ENODEV);
	ck_assert_uint_eq(bd_fault_seen(f, BD_WRITE), 4);
	bd_close(f);
	free(buf);
}
END_TEST

START_TEST(fault_stall_holds_and_releases)
{
	struct bd *mem = open_backend(0), *f;
	char *buf = aligned(4096, 7);
	struct iovec iov = { buf, 4096 };
	struct batch b;
	struct bd_io io = { .op = BD_WRITE, .len = 4096, .iov = &iov, .nr_iov = 1,
			    .end_io = batch_end, .private = &b };

	ck_assert_int_eq(bd_fault_create(mem, &f), 0);
	batch_init(&b, 1);
	bd_fault_stall(f, true);
	bd_submit(f, &io);
	ck_assert_uint_eq(b.left, 1);
	ck_assert_int_eq(((char *)bd_mem_base(mem))[0], 0);
	bd_fault_stall(f, false);
	ck_assert_uint_eq(b.left, 0);
	ck_assert_int_eq(((char *)bd_mem_base(mem))[0], 7);
	bd_close(f);
	free(buf);
}
END_TEST

/* What was flushed or FUA survives every seed; what was not is sometimes lost, sometimes torn. */
START_TEST(crash_keeps_promises_only)
{
	unsigned lost = 0, kept = 0, torn = 0;
	char *buf = aligned(4096, 0);

	for (uint64_t seed = 0; seed < 60; seed++) {
		struct bd *mem = open_backend(0), *c;
		char *base = bd_mem_base(mem);
		unsigned ones = 0;

		ck_assert_int_eq(bd_crash_create(mem, &c), 0);
		memset(buf, 1, 4096);
		ck_assert_int_eq(bd_write(c, 0, buf, 4096, 0), 0);
		ck_assert_int_eq(bd_flush(c), 0);
		ck_assert_int_eq(bd_write(c, 4096, buf, 4096, BD_FUA), 0);
		ck_assert_int_eq(bd_write(c, 8192, buf, 4096, 0), 0);
		ck_assert_int_eq(base[8192], 0);
		ck_assert_int_eq(bd_read(c, 8192, buf, 4096), 0);
		ck_assert_int_eq(buf[0], 1);
		ck_assert_int_eq(bd_crash_cut(c, seed), 0);
		ck_assert_int_eq(bd_read(c, 0, buf, 4096), -EIO);
		ck_assert_int_eq(bd_write(c, 0, buf, 4096, 0), -EIO);
		ck_assert(base[0] == 1 && base[4095] == 1);
		ck_assert(base[4096] == 1 && base[8191] == 1);
		for (unsigned s = 0; s < 8; s++) {
			ck_assert_int_eq(base[8192 + s * 512], base[8192 + s * 512 + 511]);
			ones += base[8192 + s * 512] == 1;
		}
		lost += ones == 0;
		kept += ones == 8;
		torn += ones > 0 && ones < 8;
		bd_close(bd_crash_detach(c));
	}
	ck_assert(lost > 0 && kept > 0 && torn > 0);
	free(buf);
}
END_TEST

/* An untorn write of any size is there or not after every cut; its ordinary neighbours do get torn. */
START_TEST(crash_keeps_atomic_writes_whole)
{
	const uint32_t max = 64 << 10;
	unsigned lost = 0, kept = 0, torn = 0;
	char *buf = aligned(max, 1);

	for (uint64_t seed = 0; seed < 120; seed++) {
		const uint32_t len = 512u << (seed % 8);
		struct bd *mem = open_backend(0), *c;
		char *base = bd_mem_base(mem);
		unsigned ones[2] = { 0, 0 };

		bd_mem_set_atomic_max(mem, max);
		ck_assert_int_eq(bd_crash_create(mem, &c), 0);
		ck_assert_uint_eq(c->info.atomic_max, max);
		ck_assert_int_eq(bd_write(c, 1 << 20, buf, len, BD_ATOMIC), 0);
		ck_assert_int_eq(bd_write(c, 2 << 20, buf, len, 0), 0);
		ck_assert_int_eq(bd_crash_cut(c, seed), 0);
		for (unsigned i = 0; i < 2; i++)
			for (uint32_t at = 0; at < len; at += 512)
				ones[i] += (unsigned)base[((i + 1u) << 20) + at];
		ck_assert(ones[0] == 0 || ones[0] == len / 512);
		lost += ones[0] == 0;
		kept += ones[0] != 0;
		torn += ones[1] != 0 && ones[1] != len / 512;
		bd_close(bd_crash_detach(c));
	}
	ck_assert(lost > 0 && kept > 0 && torn > 0);
	free(buf);
}
END_TEST

/* Only what a device promised: everything else is malformed, and never sent. */
START_TEST(atomic_limits)
{
	struct bd *mem = open_backend(0);
	char *buf = aligned(64 << 10, 1);
	struct iovec iov[2] = { { buf, 4096 }, { buf + 8192, 4096 } };
	struct batch b;
	struct bd_io io = { .op = BD_WRITE, .flags = BD_ATOMIC, .len = 8192, .iov = iov, .nr_iov = 2,
			    .end_io = batch_end, .private = &b };

	ck_assert_int_eq(bd_write(mem, 0, buf, 4096, BD_ATOMIC), -EINVAL);
	bd_mem_set_atomic_max(mem, 16384);
	ck_assert_int_eq(bd_write(mem, 0, buf, 16384, BD_ATOMIC), 0);
	ck_assert_int_eq(bd_write(mem, 0, buf, 32768, BD_ATOMIC), -EINVAL);
	ck_assert_int_eq(bd_write(mem, 0, buf, 12288, BD_ATOMIC), -EINVAL);
	ck_assert_int_eq(bd_write(mem, 4096, buf, 8192, BD_ATOMIC), -EINVAL);
	batch_init(&b, 1);
	bd_submit(mem, &io);
	batch_wait(&b);
	ck_assert_int_eq(b.error, -EINVAL);
	bd_close(mem);
	/* An image file is no such device, whatever its host: the engine then has its software way. */
	ck_assert_int_eq(bd_open(image, 0, &mem), 0);
	ck_assert_uint_eq(mem->info.atomic_max, 0);
	bd_close(mem);
	free(buf);
}
END_TEST

START_TEST(crash_armed_cut)
{
	struct bd *mem = open_backend(0), *c;
	char *buf = aligned(4096, 3);

	ck_assert_int_eq(bd_crash_create(mem, &c), 0);
	bd_crash_arm(c, 2, 1);
	ck_assert_int_eq(bd_write(c, 0, buf, 4096, 0), 0);
	ck_assert_int_eq(bd_write(c, 4096, buf, 4096, 0), 0);
	ck_assert_int_eq(bd_flush(c), -EIO);
	ck_assert_uint_eq(bd_crash_nr_writes(c), 2);
	bd_close(c);
	free(buf);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("block");
	TCase *tc = tcase_create("backends");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, image_make, image_remove);
	tcase_add_loop_test(tc, backend_round_trip, 0, 3);
	tcase_add_loop_test(tc, backend_many_in_flight, 0, 3);
	tcase_add_loop_test(tc, counters, 0, 3);
	tcase_add_loop_test(tc, request_limits, 0, 3);
	tcase_add_test(tc, registered_memory);
	tcase_add_test(tc, polled_requests);
	tcase_add_test(tc, image_lock_excludes_second_writer);
	tcase_add_test(tc, image_cut_short_is_an_error);
	tcase_add_loop_test(tc, short_transfers_go_on, 0, 2);
	tcase_add_test(tc, ring_is_restricted);
	tcase_add_test(tc, atomic_limits);
	suite_add_tcase(s, tc);
	tc = tcase_create("decorators");
	tcase_add_test(tc, trace_records);
	tcase_add_test(tc, fault_nth_and_range);
	tcase_add_test(tc, fault_stall_holds_and_releases);
	tcase_add_test(tc, crash_keeps_promises_only);
	tcase_add_test(tc, crash_keeps_atomic_writes_whole);
	tcase_add_test(tc, crash_armed_cut);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}

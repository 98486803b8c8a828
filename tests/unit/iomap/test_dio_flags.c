/* SPDX-License-Identifier: MIT */
/* Direct I/O: each flag, the hooks of a file system, and where requests complete. */
#include <string.h>

#include "toymap.h"
#include "unit.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

static struct toy *t;
static uint8_t *buf, *ref;

static void start(bool late)
{
	struct toy_params p = { .blkbits = 12, .max_order = 5, .late = late };

	log_set_level((enum log_level)-1);
	t = toy_create(&p);
	toy_set_blocks(t, 0, 256, IOMAP_MAPPED, 9);
	i_size_write(&t->inode, MIB);
	buf = aligned_alloc(4096, MIB);
	ref = aligned_alloc(4096, MIB);
	for (unsigned i = 0; i < MIB; i++)
		ref[i] = (uint8_t)(i * 11 + i / 512);
}

static void setup(void)
{
	start(false);
}

static void teardown(void)
{
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
	ck_assert_uint_eq(atomic_load(&t->inode.i_dio_count), 0);
	toy_destroy(t);
	free(buf);
	free(ref);
}

/* One request, with everything that can be said of it. */
struct req {
	struct kiocb iocb;
	struct iovec iov[2];
	unsigned nr_iov;
	const struct iomap_dio_ops *dops;
	unsigned dio_flags;
	size_t done_before;
	struct iov_iter it;
	int64_t ret;
	_Atomic unsigned completed;
	char thread[16];
};

static void completed(struct kiocb *iocb, int64_t ret)
{
	struct req *r = container_of(iocb, struct req, iocb);

	ck_assert_uint_eq(atomic_load(&r->completed), 0);
	r->ret = ret;
	pthread_getname_np(pthread_self(), r->thread, sizeof(r->thread));
	atomic_fetch_add(&r->completed, 1);
}

static int64_t submit(struct toy *toy, struct req *r, uint64_t pos, unsigned iocb_flags)
{
	size_t len = r->iov[0].iov_len;

	if (!r->nr_iov)
		r->nr_iov = 1;
	if (r->nr_iov == 2)
		len += r->iov[1].iov_len;
	r->iocb.ki_inode = &toy->inode;
	r->iocb.ki_pos = pos;
	r->iocb.ki_flags = iocb_flags | IOCB_DIRECT;
	iov_iter_init(&r->it, r->iov, r->nr_iov, len);
	return iomap_dio_rw(&r->iocb, &r->it, &toy_ops, r->dops ? r->dops : &toy_dio_ops, r->dio_flags,
			    NULL, r->done_before);
}

/* Queued: the device is kept from being faster than the submitter. */
static void submit_async(struct toy *toy, struct req *r, uint64_t pos, unsigned iocb_flags)
{
	r->iocb.ki_complete = completed;
	toy_hold(toy, true);
	ck_assert_int_eq(submit(toy, r, pos, iocb_flags), -EIOCBQUEUED);
}

static const uint8_t *on_device(uint64_t pos)
{
	return t->dev_mem + ((uint64_t)t->blocks[pos >> 12].dev_block << 12) + (pos & 4095);
}

START_TEST(force_wait)
{
	struct req r = { .iocb = { .ki_complete = completed }, .iov = { { ref, 8192 } },
			 .dio_flags = IOMAP_DIO_FORCE_WAIT };

	teardown();
	start(true);
	ck_assert_int_eq(submit(t, &(struct req){ .iov = { { ref, 0 } } }, 0, IOCB_WRITE), 0);
	r.iov[0].iov_base = ref;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), 8192);
	work_pool_drain(t->pool);
	ck_assert_uint_eq(atomic_load(&r.completed), 0);
	ck_assert_mem_eq(on_device(0), ref, 8192);
}
END_TEST

static void fail_second(const char *name, void *n, void *arg)
{
	if ((*(unsigned *)arg)++ == 1)
		*(size_t *)n = 0;
}

/* The caller's memory ends midway: what came through counts, and the rest follows. */
START_TEST(partial)
{
	unsigned nr = 0;
	struct req r = { .iov = { { ref + 1, 128 * KIB } } };

	t->dev.max_io = 64 * KIB;
	ck_assert_int_eq(hook_install("iomap:copy_from", fail_second, &nr), 0);
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), -EFAULT);
	nr = 0;
	r.dio_flags = IOMAP_DIO_PARTIAL;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), 64 * KIB);
	ck_assert_uint_eq(r.iocb.ki_pos, 64 * KIB);
	ck_assert_uint_eq(r.it.count, 64 * KIB);
	/* Nothing at all came through: that is no progress to tell. */
	nr = 1;
	r.iov[0] = (struct iovec){ ref + 1 + 64 * KIB, 64 * KIB };
	r.done_before = 64 * KIB;
	ck_assert_int_eq(submit(t, &r, 64 * KIB, IOCB_WRITE), -EFAULT);
	hook_remove("iomap:copy_from");
	ck_assert_int_eq(submit(t, &r, 64 * KIB, IOCB_WRITE), 128 * KIB);
	ck_assert_mem_eq(on_device(0), ref + 1, 128 * KIB);
}
END_TEST

START_TEST(fsblock_aligned)
{
	struct req r = { .iov = { { ref, 1536 }, { ref + 8192, 24576 - 1536 } }, .nr_iov = 2 };

	t->dev.max_io = 6 * KIB;
	toy_log_reset(t);
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), 24576);
	ck_assert_uint_eq(t->log[0].len % 4096, 2048);
	toy_log_reset(t);
	r.dio_flags = IOMAP_DIO_FSBLOCK_ALIGNED;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), 24576);
	for (unsigned i = 0; i < t->nr_log; i++)
		ck_assert_uint_eq((t->log[i].addr | t->log[i].len) % 4096, 0);
	ck_assert_mem_eq(on_device(0), ref, 1536);
	ck_assert_mem_eq(on_device(4096), ref + 8192 + 4096 - 1536, 4096);
	r.iov[1].iov_len -= 512;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), -EINVAL);
	ck_assert_int_eq(submit(t, &r, 0, 0), -EINVAL);
}
END_TEST

/* What the device gets is what the memory held when it was asked, whoever changes it since. */
START_TEST(bounce)
{
	static struct req r;

	for (unsigned on = 0; on < 2; on++) {
		teardown();
		start(true);
		r = (struct req){ .iov = { { ref, 16384 } },
				  .dio_flags = on ? IOMAP_DIO_BOUNCE : 0 };
		submit_async(t, &r, 0, IOCB_WRITE);
		memset(ref, 0x77, 16384);
		toy_hold(t, false);
		inode_dio_wait(&t->inode);
		work_pool_drain(t->pool);
		ck_assert_int_eq(r.ret, 16384);
		ck_assert_int_eq(on_device(5000)[0] == 0x77, !on);
		/* A read's bytes come to the caller at the end, from a worker. */
		r = (struct req){ .iov = { { buf, 16384 } },
				  .dio_flags = on ? IOMAP_DIO_BOUNCE : 0 };
		memset(buf, 0, 16384);
		submit_async(t, &r, 0, 0);
		toy_hold(t, false);
		inode_dio_wait(&t->inode);
		work_pool_drain(t->pool);
		ck_assert_int_eq(r.ret, 16384);
		ck_assert_mem_eq(buf, on_device(0), 16384);
	}
}
END_TEST

/* Polled: what is one bio with nothing to do after it. */
START_TEST(hipri)
{
	struct req r = { .iov = { { ref, 16384 } } };

	toy_log_reset(t);
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE | IOCB_HIPRI), 16384);
	ck_assert_uint_eq(t->log[0].flags, IOMAP_BIO_POLL);
	ck_assert_int_eq(submit(t, &r, 0, IOCB_HIPRI), 16384);
	ck_assert_uint_eq(t->log[1].flags, IOMAP_BIO_POLL);
	r.iov[0].iov_len = 512;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_HIPRI), 512);
	ck_assert_uint_eq(t->log[2].flags, IOMAP_BIO_POLL);
	r.iov[0].iov_len = 16384;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), 16384);
	ck_assert_uint_eq(t->log[3].flags, 0);
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE | IOCB_HIPRI | IOCB_DSYNC), 16384);
	ck_assert_uint_eq(t->log[4].flags, IOMAP_BIO_FUA);
	toy_set_blocks(t, 0, 4, IOMAP_UNWRITTEN, 0xdd);
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE | IOCB_HIPRI), 16384);
	ck_assert_uint_eq(t->log[5].flags, 0);
	t->dev.max_io = 8192;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE | IOCB_HIPRI), 16384);
	ck_assert_uint_eq(t->log[6].flags | t->log[7].flags, 0);
}
END_TEST

/* ---- Hooks of the file system --------------------------------------------------------------- */

static unsigned nr_hooked, nr_failed_from;
static uint64_t hooked_bytes;

static void mirror(const struct iomap_iter *iter, struct iomap_bio *bio, uint64_t file_offset)
{
	uint64_t *room = iomap_bio_front(bio);

	ck_assert_ptr_nonnull(room);
	ck_assert_uint_eq((uintptr_t)room % 16, 0);
	ck_assert(room[0] == 0 && room[3] == 0);
	room[0] = file_offset;
	ck_assert_uint_eq(bio->addr, iomap_sector_addr(&iter->iomap, file_offset));
	hooked_bytes += bio->len;
	if (++nr_hooked > nr_failed_from) {
		/* Ended here, by itself. */
		bio->status = -EIO;
		bio->end_io(bio);
		return;
	}
	iomap_submit_bio(bio);
	/* The bio may be gone by now. */
}

START_TEST(submit_io_and_bio_set)
{
	const struct iomap_dio_ops dops = { .end_io = toy_dio_ops.end_io, .submit_io = mirror,
					    .bio_front_pad = 4 * sizeof(uint64_t) };
	struct req r = { .iov = { { ref, 64 * KIB } }, .dops = &dops };

	t->dev.max_io = 16 * KIB;
	nr_failed_from = UINT32_MAX;
	nr_hooked = 0;
	hooked_bytes = 0;
	ck_assert_int_eq(submit(t, &r, 0, IOCB_WRITE), 64 * KIB);
	ck_assert_uint_eq(nr_hooked, 4);
	ck_assert_uint_eq(hooked_bytes, 64 * KIB);
	ck_assert_mem_eq(on_device(0), ref, 64 * KIB);
	r.iov[0].iov_base = buf;
	ck_assert_int_eq(submit(t, &r, 0, 0), 64 * KIB);
	ck_assert_mem_eq(buf, ref, 64 * KIB);
	nr_failed_from = nr_hooked + 2;
	ck_assert_int_eq(submit(t, &r, 0, 0), -EIO);
}
END_TEST

/* ---- Where it completes ------------------------------------------------------------------------ */

START_TEST(workers_of_each_device)
{
	struct toy_params p = { .blkbits = 12, .max_order = 5, .late = true };
	static struct req r[2];
	struct work_pool *pools[2];
	struct toy *toys[2];

	teardown();
	start(true);
	toys[0] = t;
	toys[1] = toy_create(&p);
	toy_set_blocks(toys[1], 0, 4, IOMAP_MAPPED, 1);
	i_size_write(&toys[1]->inode, 16384);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(work_pool_create(i ? "dio-b" : "dio-a", 1, &pools[i]), 0);
		toys[i]->dev.dio_workers = pools[i];
		r[i] = (struct req){ .iov = { { buf, 8192 } } };
	}
	for (unsigned i = 0; i < 2; i++)
		submit_async(toys[i], &r[i], 0, 0);
	for (unsigned i = 0; i < 2; i++) {
		toy_hold(toys[i], false);
		inode_dio_wait(&toys[i]->inode);
		work_pool_drain(pools[i]);
		ck_assert_uint_eq(atomic_load(&r[i].completed), 1);
		ck_assert_int_eq(r[i].ret, 8192);
		ck_assert_str_eq(r[i].thread, i ? "dio-b" : "dio-a");
		toys[i]->dev.dio_workers = NULL;
		work_pool_destroy(pools[i]);
	}
	/* Without a pool: on the thread that ended the bio. */
	r[0] = (struct req){ .iov = { { buf, 8192 } } };
	submit_async(t, &r[0], 0, 0);
	toy_hold(t, false);
	inode_dio_wait(&t->inode);
	while (!atomic_load(&r[0].completed))
		sched_yield();
	ck_assert_int_eq(r[0].ret, 8192);
	toy_destroy(toys[1]);
}
END_TEST

/* Small and plain: one look at the extents, one read. Anything else takes the long way. */
START_TEST(fast_read)
{
	struct iovec iov = { buf, 4096 };
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = 8192, .ki_flags = IOCB_DIRECT };
	struct iov_iter it;
	bool did = false;

	toy_log_reset(t);
	memset(buf, 0, 4096);
	iov_iter_init(&it, &iov, 1, 4096);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, NULL, 0, NULL, 0), 4096);
	ck_assert_uint_eq(iocb.ki_pos, 12288);
	ck_assert_uint_eq(it.count, 0);
	ck_assert_uint_eq(t->nr_begin, 1);
	ck_assert_uint_eq(t->nr_reads, 1);
	ck_assert_uint_eq(buf[77], 9);
	/* What the cache has comes first. */
	ck_assert_int_eq(toy_write(t, 8192, ref, 100, 0), 100);
	iocb.ki_pos = 8192;
	iov_iter_init(&it, &iov, 1, 4096);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, NULL, 0, NULL, 0), 4096);
	ck_assert_mem_eq(buf, ref, 100);
	/* Over the end, unwritten, memory that does not line up, a failing device. */
	i_size_write(&t->inode, MIB - 100);
	iocb.ki_pos = MIB - 4096;
	iov_iter_init(&it, &iov, 1, 4096);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, NULL, 0, NULL, 0), 3996);
	toy_set_blocks(t, 2, 1, IOMAP_UNWRITTEN, 0xdd);
	ck_assert_int_eq(toy_zero(t, 8192, 4096, &did), 0);
	ck_assert_int_eq(toy_drop_cache(t), 0);
	iocb.ki_pos = 8192;
	iov_iter_init(&it, &iov, 1, 4096);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, NULL, 0, NULL, 0), 4096);
	ck_assert_uint_eq(buf[77], 0);
	iov.iov_base = buf + 3;
	iocb.ki_pos = 4096;
	iov_iter_init(&it, &iov, 1, 512);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, NULL, 0, NULL, 0), 512);
	ck_assert_uint_eq(buf[77], 9);
	iov.iov_base = buf;
	iocb.ki_pos = 100;
	iov_iter_init(&it, &iov, 1, 512);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, NULL, 0, NULL, 0), -EINVAL);
	atomic_store(&t->fail_read, -EIO);
	iocb.ki_pos = 4096;
	iov_iter_init(&it, &iov, 1, 512);
	ck_assert_int_eq(iomap_dio_rw(&iocb, &it, &toy_ops, NULL, 0, NULL, 0), -EIO);
	atomic_store(&t->fail_read, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-dio-flags");
	TCase *tc = tcase_create("flags");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, force_wait);
	tcase_add_test(tc, partial);
	tcase_add_test(tc, fsblock_aligned);
	tcase_add_test(tc, bounce);
	tcase_add_test(tc, hipri);
	tcase_add_test(tc, submit_io_and_bio_set);
	tcase_add_test(tc, workers_of_each_device);
	tcase_add_test(tc, fast_read);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

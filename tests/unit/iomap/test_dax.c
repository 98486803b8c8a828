/* SPDX-License-Identifier: MIT */
/* DAX without areas: reads, writes, zeros, truncation, sharing, against plain bytes; and what goes wrong. */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "toydax.h"
#include "unit.h"

#define PAGE ((size_t)FOLIO_PAGE_SIZE)
#define FILE_MAX (256 * PAGE)

static struct toydax *t;
static uint8_t *buf, *ref;
static uint64_t base_seed;

static void setup(void)
{
	log_set_level((enum log_level)-1);
	t = td_create();
	buf = malloc(FILE_MAX);
	ref = calloc(1, FILE_MAX);
}

static void teardown(void)
{
	td_destroy(t);
	free(buf);
	free(ref);
}

static void fill(uint8_t *p, size_t n, uint8_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(seed + i * 7 + i / 256);
}

static int64_t rw(uint64_t pos, void *mem, size_t mem_len, size_t count, unsigned flags)
{
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = pos, .ki_flags = flags };
	struct iovec iov = { mem, mem_len };
	struct iov_iter it;
	int64_t ret;

	iov_iter_init(&it, &iov, 1, count);
	lk_wrlock(&t->inode.i_rwsem);
	ret = dax_iomap_rw(&iocb, &it, &td_ops);
	lk_rw_unlock(&t->inode.i_rwsem);
	if (ret > 0)
		ck_assert_uint_eq(iocb.ki_pos, pos + (uint64_t)ret);
	return ret;
}

/* ---- Model --------------------------------------------------------------------------------------- */

struct model {
	struct rng rng;
	uint64_t size;
	uint64_t others[TD_PAGES]; /* sum of what the other owner of a shared page had, its page in the low bits */
};

static uint32_t sum(const uint8_t *p)
{
	uint32_t s = 1;

	for (size_t i = 0; i < PAGE; i++)
		s = s * 31 + p[i];
	return s;
}

static void range(struct model *m, uint64_t limit, uint64_t *pos, size_t *len)
{
	static const unsigned scales[] = { 70, 5000, 100000 };

	*pos = rng_below(&m->rng, limit);
	*len = 1 + rng_below(&m->rng, scales[rng_below(&m->rng, ARRAY_SIZE(scales))]);
	*len = MIN(*len, FILE_MAX - *pos);
	if (rng_below(&m->rng, 3) == 0) {
		*pos = ROUND_DOWN(*pos, PAGE);
		*len = MIN(ROUND_UP(*len, PAGE), FILE_MAX - *pos);
	}
}

static void check_file(struct model *m)
{
	ck_assert_uint_eq(i_size_read(&t->inode), m->size);
	memset(buf, 0x5a, FILE_MAX);
	ck_assert_int_eq(td_read(t, 0, buf, FILE_MAX), (int64_t)m->size);
	for (uint64_t i = 0; memcmp(buf, ref, m->size) && i < m->size; i++)
		ck_assert_msg(buf[i] == ref[i], "byte %llu", (unsigned long long)i);
	/* All of it is durable without anybody asking, and what others share is as it was. */
	ck_assert(td_all_durable(t));
	for (unsigned i = 0; i < TD_PAGES; i++)
		if (m->others[i])
			ck_assert_uint_eq(sum((uint8_t *)t->dev.base + (m->others[i] & UINT32_MAX) * PAGE),
					  (uint32_t)(m->others[i] >> 32));
}

static void share(struct model *m, uint64_t pos, size_t len)
{
	const unsigned first = (unsigned)(pos / PAGE), nr = (unsigned)DIV_ROUND_UP(len, PAGE);

	td_share(t, first, nr);
	for (unsigned i = first; i < first + nr; i++)
		if (t->blocks[i].shared)
			m->others[i] = (uint64_t)sum(td_page(t, i)) << 32 | t->blocks[i].page;
}

static void one_op(struct model *m)
{
	const unsigned op = (unsigned)rng_below(&m->rng, 10);
	uint64_t pos;
	size_t len;

	range(m, op < 4 ? FILE_MAX : MAX(m->size, 1), &pos, &len);
	if (op >= 4)
		len = MIN(len, m->size - MIN(pos, m->size));
	if (!len)
		return;
	switch (op) {
	case 0: case 1: case 2:
		fill(buf, len, (uint8_t)rng_u64(&m->rng));
		memcpy(ref + pos, buf, len);
		ck_assert_int_eq(td_write(t, pos, buf, len), (int64_t)len);
		m->size = MAX(m->size, pos + len);
		break;
	case 3:
		ck_assert_int_eq(td_truncate(t, pos), 0);
		if (pos < m->size)
			memset(ref + pos, 0, m->size - pos);
		m->size = pos;
		break;
	case 4: case 5:
		ck_assert_int_eq(td_zero(t, pos, len), 0);
		memset(ref + pos, 0, len);
		break;
	case 6:
		ck_assert_int_eq(td_punch(t, pos, len), 0);
		memset(ref + pos, 0, len);
		break;
	case 7: case 8:
		share(m, pos, len);
		break;
	default:
		ck_assert_int_eq(td_unshare(t, pos, len), 0);
		for (uint64_t i = pos / PAGE; i < DIV_ROUND_UP(pos + len, PAGE); i++)
			ck_assert(!t->blocks[i].shared);
	}
}

START_TEST(model)
{
	struct model m = { .size = 0 };

	rng_seed(&m.rng, base_seed + (uint64_t)_i);
	for (unsigned i = 0; i < 150; i++) {
		one_op(&m);
		if (t->next_page > TD_DEV_PAGES - 600)
			break;
		if (i % 8 == 0)
			check_file(&m);
	}
	check_file(&m);
	ck_assert_uint_eq(atomic_load(&t->inode.i_mapping.nr_pages), 0);
	ck_assert(atomic_load(&t->flags_seen) & IOMAP_DAX);
}
END_TEST

/* ---- Return values ---------------------------------------------------------------------------------- */

START_TEST(refused)
{
	fill(buf, 2 * PAGE, 1);
	ck_assert_int_eq(rw(0, buf, PAGE, PAGE, IOCB_WRITE | IOCB_ATOMIC), -EIO);
	ck_assert_int_eq(rw(0, buf, PAGE, PAGE, IOCB_ATOMIC), -EIO);
	ck_assert_uint_eq(t->nr_begin, 0);
	/* Blocks that are not written and a mapping without a device are no place for a store. */
	for (int type = IOMAP_HOLE; type <= IOMAP_INLINE; type++) {
		t->type_override = type;
		ck_assert_int_eq(rw(0, buf, PAGE, PAGE, IOCB_WRITE),
				 type == IOMAP_MAPPED ? (int64_t)PAGE : -EIO);
	}
	i_size_write(&t->inode, PAGE);
	t->type_override = IOMAP_DELALLOC;
	ck_assert_int_eq(rw(0, buf, PAGE, PAGE, 0), -EIO);
	t->type_override = IOMAP_UNWRITTEN;
	ck_assert_int_eq(rw(0, buf + PAGE, PAGE, PAGE, 0), (int64_t)PAGE);
	for (size_t i = 0; i < PAGE; i++)
		ck_assert_uint_eq(buf[PAGE + i], 0);
}
END_TEST

START_TEST(end_of_file)
{
	fill(buf, 3 * PAGE, 1);
	ck_assert_int_eq(td_write(t, 0, buf, PAGE + 10), (int64_t)PAGE + 10);
	ck_assert_int_eq(td_read(t, PAGE, buf, 2 * PAGE), 10);
	ck_assert_int_eq(td_read(t, PAGE + 10, buf, PAGE), 0);
	ck_assert_int_eq(td_read(t, 5 * PAGE, buf, PAGE), 0);
}
END_TEST

/* Caller memory that ends early: what was copied counts, and in a shared page only whole pages do. */
START_TEST(short_copies)
{
	const size_t len = 2 * PAGE + 100;

	fill(buf, 4 * PAGE, 1);
	ck_assert_int_eq(td_write(t, 0, buf, 4 * PAGE), (int64_t)(4 * PAGE));
	fill(ref, 4 * PAGE, 99);
	ck_assert_int_eq(rw(0, ref, 100, PAGE, IOCB_WRITE), 100);
	ck_assert_mem_eq(td_page(t, 0), ref, 100);
	ck_assert_mem_eq(td_page(t, 0) + 100, buf + 100, PAGE - 100);
	ck_assert_int_eq(rw(0, ref, 0, PAGE, IOCB_WRITE), -EFAULT);
	ck_assert_int_eq(rw(0, ref, 0, PAGE, 0), -EFAULT);

	td_share(t, 0, 4);
	ck_assert_int_eq(rw(0, ref, len, 3 * PAGE, IOCB_WRITE), (int64_t)(2 * PAGE));
	ck_assert(!t->blocks[1].shared && t->blocks[2].shared);
	ck_assert_mem_eq(td_page(t, 1), ref + PAGE, PAGE);
	ck_assert_mem_eq(td_page(t, 2), buf + 2 * PAGE, PAGE);
	ck_assert_int_eq(rw(2 * PAGE, ref, 100, PAGE, IOCB_WRITE), -EFAULT);
	ck_assert(t->blocks[2].shared);
}
END_TEST

START_TEST(copy_on_write_keeps_the_edges)
{
	uint8_t *old;

	fill(buf, 3 * PAGE, 1);
	ck_assert_int_eq(td_write(t, 0, buf, 3 * PAGE), (int64_t)(3 * PAGE));
	td_share(t, 0, 3);
	old = td_page(t, 0);
	fill(ref, 2 * PAGE, 77);
	ck_assert_int_eq(td_write(t, 1000, ref, 2 * PAGE), (int64_t)(2 * PAGE));
	ck_assert_mem_eq(old, buf, 3 * PAGE);
	ck_assert(td_page(t, 0) != old);
	ck_assert_mem_eq(td_page(t, 0), buf, 1000);
	ck_assert_mem_eq(td_page(t, 2) + 1000, buf + 2 * PAGE + 1000, PAGE - 1000);
	ck_assert_int_eq(td_read(t, 1000, buf, 2 * PAGE), (int64_t)(2 * PAGE));
	ck_assert_mem_eq(buf, ref, 2 * PAGE);
	ck_assert(td_all_durable(t));
}
END_TEST

/* What is flushed is what was stored, in its lines; a hole is not zeroed, nor is what is unwritten. */
START_TEST(flush_log)
{
	fill(buf, 2 * PAGE, 1);
	td_set(t, 0, 4, IOMAP_MAPPED, 0x11);
	td_set(t, 4, 2, IOMAP_UNWRITTEN, 0x22);
	i_size_write(&t->inode, 8 * PAGE);
	ck_assert_int_eq(td_write(t, 100, buf, 50), 50);
	ck_assert_uint_eq(t->nr_log, 1);
	ck_assert_uint_eq(t->log[0].addr, t->blocks[0].page * PAGE + 100);
	ck_assert_uint_eq(t->log[0].len, 50);
	ck_assert_int_eq(td_zero(t, 10, 3 * PAGE), 0);
	ck_assert_uint_eq(t->nr_log, 2);
	ck_assert_uint_eq(t->log[1].len, 3 * PAGE);
	ck_assert_int_eq(td_zero(t, 4 * PAGE, 4 * PAGE), 0);
	ck_assert_uint_eq(t->nr_log, 2);
	ck_assert_int_eq(t->blocks[4].type, IOMAP_UNWRITTEN);
	ck_assert_int_eq(td_truncate(t, PAGE + 5), 0);
	ck_assert_uint_eq(t->nr_log, 3);
	ck_assert_uint_eq(t->log[2].addr, t->blocks[1].page * PAGE + 5);
	ck_assert_uint_eq(t->log[2].len, PAGE - 5);
	ck_assert_int_eq(td_truncate(t, PAGE), 0);
	ck_assert_uint_eq(t->nr_log, 3);
	atomic_store(&t->fail_persist, -ENOLINK);
	ck_assert_int_eq(td_write(t, 0, buf, 10), -ENOLINK);
	ck_assert_int_eq(td_zero(t, 0, 10), -ENOLINK);
}
END_TEST

/* ---- A device that is gone --------------------------------------------------------------------------- */

START_TEST(device_gone)
{
	td_set(t, 0, 2, IOMAP_MAPPED, 0x11);
	i_size_write(&t->inode, 3 * PAGE);
	kill_dax(&t->dev);
	ck_assert_int_eq(td_read(t, 0, buf, PAGE), -EIO);
	ck_assert_int_eq(td_write(t, 0, buf, PAGE), -EIO);
	ck_assert_int_eq(td_zero(t, 0, PAGE), -EIO);
	/* A hole needs no device. */
	ck_assert_int_eq(td_read(t, 2 * PAGE, buf, PAGE), (int64_t)PAGE);
}
END_TEST

START_TEST(beyond_the_device)
{
	void *mem;

	td_set(t, 0, 2, IOMAP_MAPPED, 0x11);
	i_size_write(&t->inode, 2 * PAGE);
	t->dev.size = t->blocks[1].page * PAGE;
	ck_assert(dax_read_lock(&t->dev));
	ck_assert_int_eq(dax_direct_access(&t->dev, t->dev.size - 10, 11, &mem), -EIO);
	ck_assert_int_eq(dax_direct_access(&t->dev, UINT64_MAX, 1, &mem), -EIO);
	dax_read_unlock(&t->dev);
	ck_assert_int_eq(td_read(t, PAGE, buf, PAGE), -EIO);
	ck_assert_int_eq(td_read(t, 0, buf, 2 * PAGE), -EIO); /* one mapping: both or none */
	t->dev.size = TD_DEV_PAGES * PAGE;
}
END_TEST

static void on_bus(int sig)
{
	_exit(42);
}

/* The image was cut short under the mapping: memory that raises SIGBUS is an error of the request. */
START_TEST(lost_memory)
{
	uint64_t cut;

	ck_assert_int_eq(dax_catch_sigbus(), 0);
	td_set(t, 0, 4, IOMAP_MAPPED, 0x11);
	i_size_write(&t->inode, 4 * PAGE);
	cut = t->blocks[2].page * PAGE;
	ck_assert_int_eq(ftruncate(t->fd, (off_t)cut), 0);
	ck_assert_int_eq(td_read(t, 0, buf, 2 * PAGE), (int64_t)(2 * PAGE));
	ck_assert_int_eq(td_read(t, 2 * PAGE, buf, PAGE), -EIO);
	ck_assert_int_eq(td_read(t, PAGE, buf, 2 * PAGE), -EIO);
	ck_assert_int_eq(td_write(t, 3 * PAGE, buf, 10), -EIO);
	ck_assert_int_eq(td_zero(t, 2 * PAGE, PAGE), -EIO);
	ck_assert_int_eq(dax_zero_page_range(&t->dev, cut, PAGE), -EIO);
	ck_assert_int_eq(td_read(t, 0, buf, PAGE), (int64_t)PAGE);
	/* Copy on write from memory that is there to memory that is not: a tmpfs that is full. */
	td_share(t, 0, 1);
	t->blocks[0].cow_page = t->next_page++;
	ck_assert_int_eq(td_write(t, 5, buf, 10), -EIO);
	ck_assert(t->blocks[0].shared);
	t->blocks[0].cow_page = t->next_page++;
	ck_assert_int_eq(td_unshare(t, 0, PAGE), -EIO);
	ck_assert_int_eq(ftruncate(t->fd, TD_DEV_PAGES * PAGE), 0);
	ck_assert_int_eq(td_read(t, 2 * PAGE, buf, PAGE), (int64_t)PAGE);
}
END_TEST

/* Anybody else's SIGBUS is theirs. */
START_TEST(others_signals)
{
	char *mine;

	ck_assert(signal(SIGBUS, on_bus) != SIG_ERR);
	ck_assert_int_eq(dax_catch_sigbus(), 0);
	mine = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, t->fd, TD_DEV_PAGES * PAGE);
	ck_assert_ptr_ne(mine, MAP_FAILED);
	buf[0] = *(volatile char *)mine;
	ck_abort_msg("no signal");
}
END_TEST

/* Sent by a process: to who did not ask for it the end, and nothing to who ignores it. */
START_TEST(sent_signals)
{
	ck_assert(signal(SIGBUS, _i ? SIG_IGN : SIG_DFL) != SIG_ERR);
	ck_assert_int_eq(dax_catch_sigbus(), 0);
	raise(SIGBUS);
	ck_assert_int_eq(_i, 1);
	/* And the guard is still there. */
	td_set(t, 0, 1, IOMAP_MAPPED, 0x11);
	i_size_write(&t->inode, PAGE);
	ck_assert_int_eq(ftruncate(t->fd, 0), 0);
	ck_assert_int_eq(td_read(t, 0, buf, PAGE), -EIO);
	raise(SIGKILL);
}
END_TEST

/* ---- Comparing ------------------------------------------------------------------------------------------ */

static bool same(uint64_t a, uint64_t b, uint64_t len)
{
	bool res;

	ck_assert_int_eq(dax_remap_compare(&t->inode, a, &t->inode, b, len, &td_ops, &res), 0);
	return res;
}

START_TEST(compare)
{
	td_set(t, 0, 4, IOMAP_MAPPED, 0x11);
	td_set(t, 8, 4, IOMAP_MAPPED, 0x11);
	td_set(t, 16, 2, IOMAP_UNWRITTEN, 0x33);
	td_set(t, 24, 1, IOMAP_MAPPED, 0);
	i_size_write(&t->inode, 32 * PAGE);
	ck_assert(same(0, 8 * PAGE, 4 * PAGE));
	td_page(t, 11)[PAGE - 1] = 1;
	ck_assert(!same(0, 8 * PAGE, 4 * PAGE));
	ck_assert(same(0, 8 * PAGE, 4 * PAGE - 1));
	/* Nothing and nothing; nothing and zeros. */
	ck_assert(same(16 * PAGE, 20 * PAGE, 2 * PAGE));
	ck_assert(!same(16 * PAGE, 24 * PAGE, PAGE));
	ck_assert(!same(3 * PAGE, 7 * PAGE, 2 * PAGE));
	ck_assert_uint_eq(t->nr_begin, t->nr_end);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap-dax");
	TCase *c = tcase_create("dax");

	base_seed = unit_seed(4711);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_loop_test(c, model, 0, 24);
	tcase_add_test(c, refused);
	tcase_add_test(c, end_of_file);
	tcase_add_test(c, short_copies);
	tcase_add_test(c, copy_on_write_keeps_the_edges);
	tcase_add_test(c, flush_log);
	tcase_add_test(c, device_gone);
	tcase_add_test(c, beyond_the_device);
	tcase_add_test(c, lost_memory);
	tcase_add_exit_test(c, others_signals, 42);
	tcase_add_loop_test_raise_signal(c, sent_signals, SIGBUS, 0, 1);
	tcase_add_loop_test_raise_signal(c, sent_signals, SIGKILL, 1, 2);
	tcase_add_test(c, compare);
	suite_add_tcase(s, c);
	return unit_run(s);
}

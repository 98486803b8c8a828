/* SPDX-License-Identifier: MIT */
/* Devices that are memory: which are, that memory and requests are one, and what a power cut leaves. */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iomapfs/block.h"
#include "iomapfs/pmem.h"
#include "iomapfs/util.h"
#include "unit.h"

#define SIZE (1u << 20)
#define LINE 64u

static char path[64];
static int fd;
static struct bd *bd;
static struct bd_dax mem;

static void on_tmpfs(void)
{
	fd = memfd_create("image", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
}

static void one_memory(unsigned block)
{
	char *buf = aligned_alloc(4096, 4096);

	memset(buf, 0x11, 4096);
	ck_assert_int_eq(bd_write(bd, 8192, buf, 4096, 0), 0);
	ck_assert_int_eq(bd_dax_map(bd, &mem), 0);
	ck_assert(IS_ALIGNED((uintptr_t)mem.base, 4096));
	ck_assert_mem_eq((char *)mem.base + 8192, buf, 4096);
	memset((char *)mem.base + 8192, 0x22, block);
	ck_assert_int_eq(bd_dax_persist(bd, 8192 + 5, 3), 0);
	ck_assert_int_eq(bd_read(bd, 8192, buf, 4096), 0);
	ck_assert_int_eq(buf[0], 0x22);
	ck_assert_int_eq(buf[block], 0x11);
	memset(buf, 0x33, 4096);
	ck_assert_int_eq(bd_write(bd, 8192, buf, 4096, BD_FUA), 0);
	ck_assert_mem_eq((char *)mem.base + 8192, buf, 4096);
	free(buf);
}

/* The same memory a second time, by its descriptor. */
static void mapped_again(void)
{
	struct bd_dax again;
	char *p;

	ck_assert_int_eq(bd_dax_map(bd, &again), 0);
	ck_assert_ptr_eq(again.base, mem.base);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 8192);
	ck_assert_ptr_ne(p, MAP_FAILED);
	p[7] = 0x77;
	ck_assert_int_eq(((char *)mem.base)[8192 + 7], 0x77);
	munmap(p, 4096);
}

START_TEST(image_on_tmpfs)
{
	on_tmpfs();
	ck_assert_int_eq(bd_open(path, _i ? BD_OPEN_BUFFERED : 0, &bd), 0);
	one_memory(512);
	mapped_again();
	bd_close(bd);
	close(fd);
}
END_TEST

/* With the granularity of persistent memory claimed, libpmem2 is what flushes; without it, msync. */
START_TEST(as_persistent_memory)
{
	const int enabled = bd_pmem_enable();

	ck_assert(!enabled || enabled == -EOPNOTSUPP);
	setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
	on_tmpfs();
	ck_assert_int_eq(bd_open(path, 0, &bd), 0);
	one_memory(512);
	mapped_again();
	bd_close(bd);
	ck_assert_int_eq(bd_open(path, BD_OPEN_RDONLY, &bd), 0);
	ck_assert_int_eq(bd_dax_map(bd, &mem), 0);
	ck_assert_int_eq(((char *)mem.base)[8192], 0x33);
	bd_close(bd);
	close(fd);
}
END_TEST

START_TEST(read_only_image)
{
	on_tmpfs();
	ck_assert_int_eq(pwrite(fd, "x", 1, 100), 1);
	ck_assert_int_eq(bd_open(path, BD_OPEN_RDONLY, &bd), 0);
	ck_assert_int_eq(bd_dax_map(bd, &mem), 0);
	ck_assert_int_eq(((char *)mem.base)[100], 'x');
	bd_close(bd);
	close(fd);
}
END_TEST

START_TEST(image_on_disk_is_none)
{
	char name[] = "/var/tmp/iomapfs-dax-XXXXXX";

	fd = mkstemp(name);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	ck_assert_int_eq(bd_open(name, 0, &bd), 0);
	unlink(name);
	ck_assert_int_eq(bd_dax_map(bd, &mem), -EOPNOTSUPP);
	bd_close(bd);
	close(fd);
}
END_TEST

START_TEST(memory_device)
{
	struct bd_stats st;
	struct bd *lower;

	ck_assert_int_eq(bd_mem_create(SIZE, 512, &lower), 0);
	if (_i == 0)
		bd = lower;
	else if (_i == 1)
		ck_assert_int_eq(bd_trace_create(lower, NULL, &bd), 0);
	else if (_i == 2)
		ck_assert_int_eq(bd_fault_create(lower, &bd), 0);
	else
		ck_assert_int_eq(bd_crash_create(lower, &bd), 0);
	one_memory(512);
	mapped_again();
	bd_get_stats(bd, &st);
	ck_assert_uint_eq(st.persists, 1);
	ck_assert_uint_eq(st.persist_bytes, 3);
	bd_close(bd);
}
END_TEST

/* ---- Power cuts -------------------------------------------------------------------------------- */

static struct bd *lower;
static char *durable;

static void crash_make(void)
{
	ck_assert_int_eq(bd_mem_create(SIZE, 512, &lower), 0);
	memset(bd_mem_base(lower), 0x10, SIZE);
	ck_assert_int_eq(bd_crash_create(lower, &bd), 0);
	ck_assert_int_eq(bd_dax_map(bd, &mem), 0);
	durable = bd_mem_base(lower);
}

static unsigned count_lines(uint64_t from, uint64_t len, char fill)
{
	unsigned n = 0;

	for (uint64_t at = from; at < from + len; at += LINE) {
		if (memcmp(durable + at, durable + at + 1, LINE - 1))
			ck_abort_msg("the line at %llu is torn", (unsigned long long)at);
		n += durable[at] == fill;
	}
	return n;
}

START_TEST(lines_are_lost)
{
	unsigned kept;

	crash_make();
	memset((char *)mem.base + 4096, 0x21, 8192);
	ck_assert_int_eq(bd_dax_persist(bd, 4096 + 100, 1000), 0);
	ck_assert_uint_eq(count_lines(4096, 8192, 0x21), 17); /* 64 .. 1152 */
	ck_assert_int_eq(bd_flush(bd), 0);
	ck_assert_uint_eq(count_lines(4096, 8192, 0x21), 17);
	ck_assert_int_eq(bd_crash_cut(bd, 5), 0);
	kept = count_lines(4096, 8192, 0x21);
	ck_assert(kept > 30 && kept < 115);
	ck_assert_uint_eq(count_lines(4096 + 64, 17 * LINE, 0x21), 17);
	ck_assert_uint_eq(count_lines(0, 4096, 0x10), 64);
	ck_assert_int_eq(bd_dax_persist(bd, 4096, 100), -EIO);
	bd_close(bd_crash_detach(bd));
}
END_TEST

/* A request that was not flushed is lost in sectors, as ever, not in lines. */
START_TEST(requests_keep_their_rules)
{
	char *buf = aligned_alloc(4096, 65536);
	unsigned n;

	for (uint64_t seed = 0; seed < 30; seed++) {
		crash_make();
		memset(buf, 0x31, 65536);
		ck_assert_int_eq(bd_write(bd, 65536, buf, 65536, 0), 0);
		ck_assert_int_eq(bd_crash_cut(bd, seed), 0);
		for (unsigned s = 0; s < 128; s++) {
			n = count_lines(65536 + s * 512, 512, 0x31);
			ck_assert(n == 0 || n == 8);
		}
		bd_close(bd_crash_detach(bd));
	}
	free(buf);
}
END_TEST

/* A line that was made durable stays, whatever becomes of the older request below it. */
START_TEST(persist_after_a_request)
{
	char *buf = aligned_alloc(4096, 4096);

	for (uint64_t seed = 0; seed < 30; seed++) {
		crash_make();
		memset(buf, 0x31, 4096);
		ck_assert_int_eq(bd_write(bd, 4096, buf, 4096, 0), 0);
		memset((char *)mem.base + 4096, 0x41, LINE);
		ck_assert_int_eq(bd_dax_persist(bd, 4096, LINE), 0);
		ck_assert_int_eq(bd_crash_cut(bd, seed), 0);
		ck_assert_uint_eq(count_lines(4096, LINE, 0x41), 1);
		bd_close(bd_crash_detach(bd));
	}
	free(buf);
}
END_TEST

START_TEST(cut_at_a_persist)
{
	crash_make();
	bd_crash_arm(bd, 2, 1);
	memset(mem.base, 0x51, SIZE);
	ck_assert_int_eq(bd_dax_persist(bd, 0, LINE), 0);
	ck_assert_int_eq(bd_dax_persist(bd, LINE, LINE), 0);
	ck_assert_uint_eq(bd_crash_nr_writes(bd), 2);
	ck_assert_int_eq(bd_dax_persist(bd, 2 * LINE, LINE), -EIO);
	ck_assert_uint_eq(count_lines(0, 2 * LINE, 0x51), 2);
	bd_close(bd_crash_detach(bd));
}
END_TEST

START_TEST(no_cut_loses_nothing)
{
	char *copy = malloc(SIZE);

	crash_make();
	bd_close(bd_crash_detach(bd));
	crash_make();
	memset((char *)mem.base + 4096, 0x61, 4096);
	memcpy(copy, mem.base, SIZE);
	ck_assert_int_eq(bd_dax_map(lower, &mem), 0);
	/* Closing closes the lower one as well: its memory is looked at by another map of it. */
	durable = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, mem.fd, 0);
	ck_assert_ptr_ne(durable, MAP_FAILED);
	bd_close(bd);
	ck_assert_mem_eq(durable, copy, SIZE);
	munmap(durable, SIZE);
	free(copy);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("block-dax");
	TCase *tc = tcase_create("memory");

	tcase_add_loop_test(tc, image_on_tmpfs, 0, 2);
	tcase_add_test(tc, as_persistent_memory);
	tcase_add_test(tc, read_only_image);
	tcase_add_test(tc, image_on_disk_is_none);
	tcase_add_loop_test(tc, memory_device, 0, 4);
	tcase_add_test(tc, lines_are_lost);
	tcase_add_test(tc, requests_keep_their_rules);
	tcase_add_test(tc, persist_after_a_request);
	tcase_add_test(tc, cut_at_a_persist);
	tcase_add_test(tc, no_cut_loses_nothing);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

/* SPDX-License-Identifier: MIT */
/* Activation of swap files: what is accepted, what is refused and why, and which pages come of it. */
#include <string.h>

#include "iomapfs/iomap.h"
#include "unit.h"

#define PAGE 4096u
#define KIB  1024u

struct map {
	uint64_t len, addr;
	enum iomap_type type;
	unsigned flags;
	bool other_device;
};
struct page_run {
	uint64_t start, nr, phys;
};
struct script {
	const char *name;
	uint64_t size, max_pages;
	struct map maps[5];
	const char *why;         /* NULL: accepted */
	struct page_run runs[4];
	uint64_t span;
};

#define M IOMAP_MAPPED
static const struct script scripts[] = {
	{ "one extent", 64 * KIB, 0, { { 64 * KIB, 40 * KIB, M } }, NULL, { { 0, 16, 10 } }, 15 },
	{ "unwritten as well", 64 * KIB, 0,
	  { { 32 * KIB, 40 * KIB, IOMAP_UNWRITTEN }, { 32 * KIB, 72 * KIB, M } }, NULL,
	  { { 0, 16, 10 } }, 15 },
	{ "extents apart", 48 * KIB, 0, { { 16 * KIB, 400 * KIB, M }, { 32 * KIB, 40 * KIB, M } }, NULL,
	  { { 0, 4, 100 }, { 4, 8, 10 } }, 94 },
	{ "a size that is no page", 63 * KIB, 0, { { 64 * KIB, 40 * KIB, M } }, NULL, { { 0, 15, 10 } }, 14 },
	{ "runs are rounded inwards", 32 * KIB, 0, { { 10 * KIB, 41 * KIB, M }, { 22 * KIB, 200 * KIB, M } },
	  NULL, { { 0, 1, 11 }, { 1, 5, 50 } }, 5 },
	{ "a run without a page is passed by", 32 * KIB, 0,
	  { { 8 * KIB, 40 * KIB, M }, { 3 * KIB, 81 * KIB, M }, { 21 * KIB, 200 * KIB, M } }, NULL,
	  { { 0, 2, 10 }, { 2, 5, 50 } }, 44 },
	{ "small pieces that follow each other make a page", 8 * KIB, 0,
	  { { 1 * KIB, 40 * KIB, M }, { 3 * KIB, 41 * KIB, M }, { 4 * KIB, 44 * KIB, M } }, NULL,
	  { { 0, 2, 10 } }, 1 },
	{ "no more than the header says", 64 * KIB, 6,
	  { { 16 * KIB, 400 * KIB, M }, { 48 * KIB, 40 * KIB, M } }, NULL, { { 0, 4, 100 }, { 4, 2, 10 } }, 94 },
	{ "the header's page alone spans nothing", 4 * KIB, 0, { { 4 * KIB, 40 * KIB, M } }, NULL,
	  { { 0, 1, 10 } }, 0 },
	{ "a hole", 64 * KIB, 0, { { 32 * KIB, 40 * KIB, M }, { 32 * KIB, 0, IOMAP_HOLE } }, "holes" },
	{ "a delayed allocation", 64 * KIB, 0, { { 64 * KIB, 0, IOMAP_DELALLOC } }, "holes" },
	{ "inline", 4 * KIB, 0, { { 4 * KIB, 0, IOMAP_INLINE } }, "inline" },
	{ "dirty metadata", 64 * KIB, 0, { { 64 * KIB, 40 * KIB, M, IOMAP_F_DIRTY } }, "not durable" },
	{ "shared", 64 * KIB, 0, { { 64 * KIB, 40 * KIB, M, IOMAP_F_SHARED } }, "shares" },
	{ "two devices", 64 * KIB, 0,
	  { { 32 * KIB, 40 * KIB, M }, { 32 * KIB, 72 * KIB, M, 0, true } }, "several devices" },
	{ "less than a page", 4 * KIB - 1, 0, { { 4 * KIB, 40 * KIB, M } }, "no whole page" },
	{ "no page in any run", 8 * KIB, 0, { { 3 * KIB, 41 * KIB, M }, { 5 * KIB, 81 * KIB, M } },
	  "no whole page" },
};

static const struct script *cur;
static struct iomap_dev devices[2];

static int script_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags,
			struct iomap *m, struct iomap *src)
{
	uint64_t at = 0;

	ck_assert_uint_eq(flags, IOMAP_REPORT);
	for (const struct map *row = cur->maps;; row++) {
		ck_assert_uint_gt(row->len, 0);
		if (pos < at + row->len) {
			*m = (struct iomap){ .offset = at, .length = row->len, .type = row->type,
					     .flags = row->flags, .bdev = &devices[row->other_device],
					     .addr = row->addr ? row->addr : IOMAP_NULL_ADDR };
			return 0;
		}
		at += row->len;
	}
}

static const struct iomap_ops script_ops = { .iomap_begin = script_begin };

static unsigned nr_runs;
static int fail_at = -1;

static int take(struct swap_info *sis, uint64_t start_page, uint64_t nr_pages, uint64_t phys_page)
{
	const struct page_run *want = &cur->runs[nr_runs];

	ck_assert_ptr_eq(sis->private, &nr_runs);
	if ((int)nr_runs == fail_at)
		return -ENOMEM;
	ck_assert_msg(start_page == want->start && nr_pages == want->nr && phys_page == want->phys,
		      "%s: %llu pages from %llu at %llu", cur->name, (unsigned long long)nr_pages,
		      (unsigned long long)start_page, (unsigned long long)phys_page);
	nr_runs++;
	return 0;
}

static int activate(struct swap_info *sis, uint64_t *span)
{
	struct inode inode = { .i_ino = 1 };

	*sis = (struct swap_info){ .max_pages = cur->max_pages, .add_extent = take, .private = &nr_runs };
	atomic_store(&inode.i_size, cur->size);
	nr_runs = 0;
	return iomap_swapfile_activate(sis, &inode, span, &script_ops);
}

START_TEST(table)
{
	uint64_t span = 77, pages = 0;
	struct swap_info sis;
	int err;

	cur = &scripts[_i];
	err = activate(&sis, &span);
	if (cur->why) {
		ck_assert_msg(err == -EINVAL && sis.why && strstr(sis.why, cur->why), "%s: %d, %s", cur->name, err,
			      sis.why ? sis.why : "no reason");
		ck_assert_uint_eq(span, 77);
		return;
	}
	ck_assert_msg(err == 0, "%s: %d, %s", cur->name, err, sis.why ? sis.why : "");
	for (unsigned i = 0; i < nr_runs; i++)
		pages += cur->runs[i].nr;
	ck_assert_msg(nr_runs == 4 || cur->runs[nr_runs].nr == 0, "%s: runs are missing", cur->name);
	ck_assert_uint_eq(sis.nr_pages, pages);
	ck_assert_uint_eq(sis.nr_extents, nr_runs);
	ck_assert_msg(span == cur->span, "%s: a span of %llu", cur->name, (unsigned long long)span);
}
END_TEST

START_TEST(an_error_of_the_receiver_ends_it)
{
	struct swap_info sis;
	uint64_t span;

	cur = &scripts[2];
	for (fail_at = 0; fail_at < 2; fail_at++) {
		ck_assert_int_eq(activate(&sis, &span), -ENOMEM);
		ck_assert_int_eq((int)nr_runs, fail_at);
	}
	fail_at = -1;
}
END_TEST

int main(void)
{
	Suite *s = suite_create("swap");
	TCase *tc = tcase_create("swap");

	tcase_add_loop_test(tc, table, 0, (int)(sizeof(scripts) / sizeof(scripts[0])));
	tcase_add_test(tc, an_error_of_the_receiver_ends_it);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

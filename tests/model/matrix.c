/* SPDX-License-Identifier: MIT */
/*
 * matrix - seeded operations on a few files of a file system in memory, against plain bytes: every block
 * size with several ranges of folio sizes and every way of reading and writing, files that share blocks
 * included. Remounts and the checker come between.
 *
 * usage: matrix [--ops N] [--seed SEED] [--case NR]
 * Exit: 0 all agreed, 1 not (the line says how to repeat it), 2 usage.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dax_window.h"
#include "iomapfs/check.h"
#include "iomapfs/fs.h"
#include "iomapfs/util.h"
#include "mk.h"
#include "passthrough.h"

#define NR_FILES 3u
#define MAX_SIZE (640u << 10)
#define DEVICE   (48ull << 20)
#define STALE    0xa5
#define REMOUNT_EVERY 1500u

enum way { BUFFERED, DIRECT, MIXED, MMAP, DAX, NR_WAYS };
static const char *const way_text[NR_WAYS] = { "buffered", "direct", "mixed", "mmap", "dax" };
static const unsigned shifts[] = { 10, 12, 14, 16 };
/* Largest folio order on top of what a block needs. */
static const unsigned spreads[] = { 0, 2, 9 };

struct file {
	uint8_t data[MAX_SIZE];
	uint64_t size;
	struct fs_inode *ip;
	struct dax_window win; /* dax: all of the file */
};

struct run {
	unsigned nr, shift, max_order, min_order;
	enum way way;
	uint64_t seed, op, bs;
	struct rng rng;
	struct bd *mem;
	struct fs *fs;
	struct fs_inode *root;
	struct fs_ctx ctx;
	struct file file[NR_FILES];
	uint8_t buf[MAX_SIZE] __attribute__((aligned(4096)));
	const char *what;
};
static struct run the_run;
static struct run *const run = &the_run;

static const char *const names[NR_FILES] = { "one", "two", "three" };

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list ap;

	printf("matrix: case %u (%u-byte blocks, folios to order %u, %s), operation %llu (%s): ", run->nr,
	       1u << run->shift, run->max_order, way_text[run->way], (unsigned long long)run->op,
	       run->what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\nagain: matrix --seed %llu --case %u --ops %llu\n", (unsigned long long)run->seed,
	       run->nr, (unsigned long long)run->op + 1);
	fflush(stdout);
	_exit(1);
}

static void expect(int64_t got, int64_t want)
{
	if (got != want)
		fail("%lld instead of %lld", (long long)got, (long long)want);
}

static uint64_t below(uint64_t n)
{
	return rng_below(&run->rng, n);
}

/* ---- The file system ------------------------------------------------------------------------- */

/* Nothing of it is cached yet: its folios may be what this case wants them to be. */
static void set_orders(struct file *f)
{
	mapping_set_folio_order_range(&fs_vfs_inode(f->ip)->i_mapping, run->min_order, run->max_order);
}

static unsigned window_fault(void *arg, struct vm_fault *vmf, unsigned order)
{
	return fs_dax_fault(&run->ctx, arg, vmf, order);
}

/* Half of the windows are MAP_SYNC; huge pages where the device gives them. */
static void open_window(struct file *f)
{
	struct bd_dax mem;

	if (run->way != DAX)
		return;
	expect(bd_dax_map(run->mem, &mem), 0);
	dax_window_init(&f->win, fs_vfs_inode(f->ip), 0, MAX_SIZE / 4096,
			DAX_VM_SHARED | (below(2) ? DAX_VM_SYNC : 0), mem.fd);
	f->win.fault = window_fault;
	f->win.arg = f->ip;
	f->win.try_huge = below(2);
	expect(fs_dax_mmap(&run->ctx, f->ip, &f->win.vma), 0);
}

static void close_window(struct file *f)
{
	if (run->way != DAX)
		return;
	dax_vma_close(&f->win.vma);
	dax_window_destroy(&f->win);
}

static void mount_fs(void)
{
	struct fs_mount_opts opts = { .commit_interval_ms = 200, .dax = run->way == DAX };
	struct fs_error err;
	struct bd *top = passthrough_create(run->mem);

	if (!top || fs_mount(top, &opts, &run->fs, &err))
		fail("mount: %s", err.text);
	expect(fs_iget(run->fs, FS_ROOT_INO, 0, &run->root), 0);
}

static void check_image(void)
{
	struct chk_opts o = { .readonly = true, .out = stdout };
	struct chk_result res;

	if (chk_run(run->mem, &o, &res) || res.found)
		fail("the checker found %llu problems", (unsigned long long)res.found);
}

static void unmount_fs(void)
{
	struct fs_stats st;

	for (unsigned i = 0; i < NR_FILES; i++) {
		close_window(&run->file[i]);
		fs_iput(run->file[i].ip);
	}
	fs_iput(run->root);
	fs_get_stats(run->fs, &st);
	if (run->way == DAX && st.folio.hits + st.folio.misses + st.folio.cached_bytes)
		fail("the cache was used");
	expect(fs_unmount(run->fs), 0);
}

static int64_t io(struct file *f, uint64_t pos, size_t len, unsigned flags, bool write)
{
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(f->ip), .ki_pos = pos, .ki_flags = flags };
	struct iovec iov = { run->buf, len };
	struct iov_iter it;

	iov_iter_init(&it, &iov, 1, len);
	return write ? fs_write_iter(&run->ctx, &iocb, &it, false) :
		       fs_read_iter(&run->ctx, &iocb, &it);
}

/* O_DIRECT or not, as this case has it. */
static unsigned how(void)
{
	switch (run->way) {
	case DIRECT:
		return IOCB_DIRECT;
	case MIXED:
		return below(2) ? IOCB_DIRECT : 0;
	default:
		return 0;
	}
}

static void compare(struct file *f, uint64_t pos, size_t len, unsigned flags)
{
	const uint64_t end = MIN(pos + len, f->size);
	const size_t want = pos < end ? end - pos : 0;

	expect(io(f, pos, len, flags, false), (int64_t)want);
	for (size_t i = 0; i < want; i++)
		if (run->buf[i] != f->data[pos + i])
			fail("%s: byte %llu is %02x, not %02x", names[f - run->file],
			     (unsigned long long)(pos + i), run->buf[i], f->data[pos + i]);
}

static void compare_all(void)
{
	for (unsigned i = 0; i < NR_FILES; i++)
		compare(&run->file[i], 0, MAX_SIZE, 0);
}

static void remount(void)
{
	unmount_fs();
	check_image();
	mount_fs();
	for (unsigned i = 0; i < NR_FILES; i++) {
		expect(fs_lookup(&run->ctx, run->root, names[i], strlen(names[i]), &run->file[i].ip), 0);
		set_orders(&run->file[i]);
		open_window(&run->file[i]);
	}
	compare_all();
}

/* ---- Operations -------------------------------------------------------------------------------- */

/* Edges of blocks and of the file more often than chance would have them. */
static uint64_t some_pos(const struct file *f)
{
	switch (below(4)) {
	case 0:
		return MIN(f->size, MAX_SIZE - 1u);
	case 1:
		return below(MAX_SIZE >> run->shift) << run->shift;
	case 2:
		return below(2000);
	default:
		return below(MAX_SIZE);
	}
}

static uint64_t block_pos(void)
{
	return below(MAX_SIZE >> run->shift) << run->shift;
}

static size_t some_len(uint64_t pos)
{
	const size_t len = 1 + below(below(3) ? 6000 : 90000);

	return MIN(len, MAX_SIZE - pos);
}

static void grow(struct file *f, uint64_t pos, uint64_t end)
{
	if (pos > f->size)
		memset(f->data + f->size, 0, pos - f->size);
	f->size = MAX(f->size, end);
}

static void fill(size_t len)
{
	const uint8_t first = (uint8_t)(1 + below(100)), step = (uint8_t)(1 + below(7));

	for (size_t i = 0; i < len; i++)
		run->buf[i] = (uint8_t)(1 + (first + i * step) % 100);
}

static void op_write(struct file *f)
{
	uint64_t pos = some_pos(f);
	size_t len = some_len(pos);
	unsigned flags = how();

	run->what = "write";
	if ((flags & IOCB_DIRECT) && below(2)) {
		pos = ROUND_DOWN(pos, 512);
		len = MIN(ROUND_UP(len, 512), MAX_SIZE - pos);
	}
	if (below(20) == 0)
		flags |= IOCB_DSYNC;
	if (below(20) == 0)
		flags |= IOCB_DONTCACHE;
	fill(len);
	expect(io(f, pos, len, flags, true), (int64_t)len);
	grow(f, pos, pos + len);
	memcpy(f->data + pos, run->buf, len);
}

/* A page that the kernel's mapping dirtied: written as a whole, cut at the end of the file. */
static void op_page(struct file *f)
{
	const uint64_t pos = below(MAX_SIZE / 4096) * 4096;
	size_t len = 4096 * (1 + below(4));

	run->what = "page";
	len = MIN(len, MAX_SIZE - pos);
	fill(len);
	expect(io(f, pos, len, IOCB_FAULT, true), (int64_t)len);
	if (pos < f->size)
		memcpy(f->data + pos, run->buf, MIN(len, f->size - pos));
}

/* Stores through the window; behind the file's last page there is none. */
static void op_store(struct file *f)
{
	const uint64_t pos = some_pos(f), step = 1 + below(700), len = 1 + below(20000);
	const uint64_t end = MIN(pos + len, f->size);
	uint8_t byte = (uint8_t)(1 + below(100));

	run->what = "store";
	if (f->size <= MAX_SIZE - 4096 && dax_window_store(&f->win, ROUND_UP(f->size, 4096) + below(4096), byte))
		fail("a store behind the end");
	for (uint64_t at = pos; at < end; at += step) {
		if (!dax_window_store(&f->win, at, byte))
			fail("no store at %llu", (unsigned long long)at);
		f->data[at] = byte;
		byte = (uint8_t)(1 + (byte + 1) % 100);
	}
}

static void op_load(struct file *f)
{
	const uint64_t pos = some_pos(f), step = 1 + below(700), len = 1 + below(20000);
	const uint64_t end = MIN(pos + len, f->size);
	uint8_t byte;

	run->what = "load";
	for (uint64_t at = pos; at < end; at += step)
		if (!dax_window_load(&f->win, at, &byte) || byte != f->data[at])
			fail("%s: byte %llu is %02x, not %02x", names[f - run->file], (unsigned long long)at,
			     byte, f->data[at]);
}

static void op_read(struct file *f)
{
	const uint64_t pos = some_pos(f);

	run->what = "read";
	if (run->way == DAX && below(2)) {
		op_load(f);
		return;
	}
	compare(f, pos, some_len(pos), how());
}

static void op_truncate(struct file *f)
{
	const uint64_t size = below(6) ? some_pos(f) : 0;
	struct fs_attr a = { .size = size };

	run->what = "truncate";
	expect(fs_setattr(&run->ctx, f->ip, FS_SET_SIZE, &a, NULL), 0);
	if (size > f->size)
		memset(f->data + f->size, 0, size - f->size);
	f->size = size;
}

static void op_fallocate(struct file *f)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE };
	const int mode = modes[below(ARRAY_SIZE(modes))];
	const uint64_t pos = some_pos(f);
	const size_t len = some_len(pos);

	run->what = "fallocate";
	expect(fs_fallocate(&run->ctx, f->ip, mode, pos, len), 0);
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && pos < f->size)
		memset(f->data + pos, 0, MIN(pos + len, f->size) - pos);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && pos + len > f->size) {
		memset(f->data + f->size, 0, pos + len - f->size);
		f->size = pos + len;
	}
}

static void op_shift(struct file *f)
{
	const bool insert = below(2);
	const uint64_t pos = block_pos();
	const uint64_t len = (1 + below(4)) << run->shift;
	const bool refused = insert ? pos >= f->size : pos + len >= f->size;

	run->what = insert ? "insert" : "collapse";
	if (insert && f->size + len > MAX_SIZE)
		return;
	expect(fs_fallocate(&run->ctx, f->ip, insert ? FALLOC_FL_INSERT_RANGE : FALLOC_FL_COLLAPSE_RANGE,
			    pos, len), refused ? -EINVAL : 0);
	if (refused)
		return;
	if (insert) {
		memmove(f->data + pos + len, f->data + pos, f->size - pos);
		memset(f->data + pos, 0, len);
		f->size += len;
	} else {
		memmove(f->data + pos, f->data + pos + len, f->size - pos - len);
		f->size -= len;
	}
}

static bool overlap(const struct file *a, const struct file *b, uint64_t from, uint64_t to, uint64_t len)
{
	return a == b && from < to + len && to < from + len;
}

static void put(struct file *a, struct file *b, uint64_t from, uint64_t to, uint64_t len)
{
	grow(b, to, to + len);
	memmove(b->data + to, a->data + from, len);
}

static void op_copy(struct file *a, struct file *b)
{
	const uint64_t from = some_pos(a), to = below(2) ? some_pos(b) : from;
	uint64_t len = below(200000), done = 0;

	run->what = "copy";
	if (from >= a->size)
		return;
	len = MIN(MIN(len, a->size - from), MAX_SIZE - to);
	if (len == 0 || overlap(a, b, from, to, len))
		return;
	while (done < len) {
		int64_t n = fs_copy_file_range(&run->ctx, a->ip, from + done, b->ip, to + done, len - done);

		if (n <= 0 || (uint64_t)n > len - done)
			fail("%lld", (long long)n);
		done += (uint64_t)n;
	}
	put(a, b, from, to, len);
}

static void op_clone(struct file *a, struct file *b)
{
	const uint64_t from = block_pos(), to = block_pos();
	uint64_t len = (1 + below(12)) << run->shift;
	bool refused;

	run->what = "clone";
	if (below(3) == 0 && from < a->size)
		len = a->size - from; /* to the end */
	refused = from > a->size || len > a->size - from || overlap(a, b, from, to, len) ||
		  (len % run->bs && to + len < b->size);
	if (!refused && to + len > MAX_SIZE)
		return;
	expect(fs_clone_range(&run->ctx, a->ip, from, b->ip, to, len), refused ? -EINVAL : 0);
	if (!refused)
		put(a, b, from, to, len);
}

static bool has_zero_block(const struct file *f, uint64_t pos, uint64_t len)
{
	for (uint64_t at = pos; at < pos + len; at += run->bs)
		if (f->data[at] == 0 && memcmp(f->data + at, f->data + at + 1, run->bs - 1) == 0)
			return true;
	return false;
}

static void op_dedupe(struct file *a, struct file *b)
{
	const uint64_t pos = block_pos();
	const uint64_t len = (1 + below(8)) << run->shift;
	uint64_t done;
	int want = 0, ret;

	run->what = "dedupe";
	if (a == b)
		return;
	if (pos > a->size || len > a->size - pos || pos > b->size || len > b->size - pos)
		want = -EINVAL;
	else if (memcmp(a->data + pos, b->data + pos, len))
		want = -EBADE;
	ret = fs_dedupe_range(&run->ctx, a->ip, pos, b->ip, pos, len, &done);
	/* In memory a hole is no equal of zeros that somebody wrote. */
	if (run->way == DAX && ret == -EBADE && !want && has_zero_block(a, pos, len))
		return;
	expect(ret, want);
	if (!want)
		expect((int64_t)done, (int64_t)len);
}

static void op_untorn(struct file *f)
{
	uint32_t min, max, opt;
	uint64_t len, pos;

	run->what = "untorn write";
	fs_atomic_limits(run->fs, &min, &max, &opt);
	if (run->way == DAX) {
		expect(max, 0);
		expect(io(f, 0, run->bs, IOCB_DIRECT | IOCB_ATOMIC, true), -EOPNOTSUPP);
		return;
	}
	max = MIN(max, MAX_SIZE / 2);
	len = (uint64_t)min << below(ilog2(max / min) + 1);
	pos = below(MAX_SIZE / len) * len;
	fill(len);
	expect(io(f, pos, len, IOCB_DIRECT | IOCB_ATOMIC, true), (int64_t)len);
	grow(f, pos, pos + len);
	memcpy(f->data + pos, run->buf, len);
}

static void op_seek(struct file *f)
{
	const uint64_t pos = some_pos(f);
	const int64_t data = fs_lseek(&run->ctx, f->ip, (int64_t)pos, SEEK_DATA);
	uint64_t end;

	run->what = "seek";
	if (pos >= f->size) {
		expect(data, -ENXIO);
		return;
	}
	/* All that is skipped must be zeros. */
	end = data < 0 ? f->size : (uint64_t)data;
	for (uint64_t i = pos; i < end; i++)
		if (f->data[i])
			fail("SEEK_DATA from %llu skipped data at %llu", (unsigned long long)pos,
			     (unsigned long long)i);
}

static void op_sync(struct file *f)
{
	struct fs_file *h;

	run->what = "sync";
	if (below(3) == 0) {
		expect(fs_sync(run->fs), 0);
		fs_drop_caches(run->fs);
		return;
	}
	expect(fs_open(&run->ctx, f->ip, 2, &h), 0);
	expect(fs_fsync(&run->ctx, h, below(2)), 0);
	fs_release(h);
}

static void step(void)
{
	struct file *f = &run->file[below(NR_FILES)], *g = &run->file[below(NR_FILES)];

	switch (below(32)) {
	case 0 ... 9:
		if (run->way == MMAP && below(2))
			op_page(f);
		else if (run->way == DAX && below(2))
			op_store(f);
		else
			op_write(f);
		break;
	case 10 ... 16:
		op_read(f);
		break;
	case 17 ... 18:
		op_truncate(f);
		break;
	case 19 ... 21:
		op_fallocate(f);
		break;
	case 22:
		op_shift(f);
		break;
	case 23:
		op_copy(f, g);
		break;
	case 24 ... 25:
		op_clone(f, g);
		break;
	case 26:
		op_dedupe(f, g);
		break;
	case 27:
		op_untorn(f);
		break;
	case 28:
		op_seek(f);
		break;
	case 29:
		op_sync(f);
		break;
	default:
		run->what = "check";
		compare(f, 0, MAX_SIZE, how());
		break;
	}
}

/* ---- Cases --------------------------------------------------------------------------------------- */

#define NR_CASES (ARRAY_SIZE(shifts) * ARRAY_SIZE(spreads) * NR_WAYS)

static enum way case_way(unsigned nr)
{
	return (enum way)(nr % NR_WAYS);
}

static unsigned case_shift(unsigned nr)
{
	return shifts[nr / NR_WAYS % ARRAY_SIZE(shifts)];
}

/* dax has the blocks of a page only: such a case is that the mount is refused. */
static bool case_is_refused(unsigned nr)
{
	return case_way(nr) == DAX && case_shift(nr) != FOLIO_PAGE_SHIFT;
}

static void refused_case(void)
{
	const struct fs_mount_opts opts = { .dax = true };
	struct fs_error err;

	run->what = "refused mount";
	expect(fs_mount(run->mem, &opts, &run->fs, &err), -EINVAL);
	if (!strstr(err.text, "-b 4096"))
		fail("it says: %s", err.text);
	check_image();
	bd_close(run->mem);
}

static int one_case(unsigned nr, uint64_t seed, uint64_t ops)
{
	run->nr = nr;
	run->seed = seed;
	run->what = "mkfs";
	run->way = case_way(nr);
	run->shift = case_shift(nr);
	run->bs = 1ull << run->shift;
	run->min_order = run->shift > FOLIO_PAGE_SHIFT ? run->shift - FOLIO_PAGE_SHIFT : 0;
	run->max_order = MIN(run->min_order + spreads[nr / NR_WAYS / ARRAY_SIZE(shifts)], FOLIO_MAX_ORDER);
	rng_seed(&run->rng, seed * 1000 + nr);
	if (bd_mem_create(DEVICE, 512, &run->mem))
		return 1;
	memset(bd_mem_base(run->mem), STALE, DEVICE);
	expect(mk_default(run->mem, run->shift), 0);
	if (case_is_refused(nr)) {
		refused_case();
		return 0;
	}
	mount_fs();
	for (unsigned i = 0; i < NR_FILES; i++) {
		expect(fs_mknod(&run->ctx, run->root, names[i], strlen(names[i]), 0100644, 0, 0,
				&run->file[i].ip), 0);
		set_orders(&run->file[i]);
		open_window(&run->file[i]);
	}
	for (run->op = 0; run->op < ops; run->op++) {
		step();
		if (run->op % REMOUNT_EVERY == REMOUNT_EVERY - 1)
			remount();
	}
	run->what = "the end";
	remount();
	unmount_fs();
	bd_close(run->mem);
	return 0;
}

/* Two at a time, each in a process of its own: a crash is told like any other failure. */
static int all_cases(uint64_t seed, uint64_t ops)
{
	unsigned next = 0, running = 0, failed = 0, refused = 0;
	uint64_t each;

	for (unsigned i = 0; i < NR_CASES; i++)
		refused += case_is_refused(i);
	each = DIV_ROUND_UP(ops, NR_CASES - refused);

	while (next < NR_CASES || running) {
		int status;

		if (next < NR_CASES && running < 2) {
			const pid_t pid = fork();

			if (pid == 0)
				_exit(one_case(next, seed, each));
			if (pid < 0)
				return 1;
			next++;
			running++;
			continue;
		}
		if (wait(&status) < 0)
			return 1;
		running--;
		if (status == 0)
			continue;
		failed++;
		if (WIFSIGNALED(status))
			printf("matrix: a case ended by signal %d\n", WTERMSIG(status));
	}
	printf("matrix: %llu operations in %u cases and %u refused mounts, seed %llu, %u failed\n",
	       (unsigned long long)(each * (NR_CASES - refused)), (unsigned)NR_CASES - refused, refused,
	       (unsigned long long)seed, failed);
	return failed != 0;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, ops = 100000;
	long only = -1;

	for (int i = 1; i < argc; i += 2) {
		if (i + 1 == argc)
			return 2;
		if (strcmp(argv[i], "--ops") == 0)
			ops = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--case") == 0)
			only = strtol(argv[i + 1], NULL, 0);
		else
			return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (only >= (long)NR_CASES)
		return 2;
	return only >= 0 ? one_case((unsigned)only, seed, ops) : all_cases(seed, ops);
}

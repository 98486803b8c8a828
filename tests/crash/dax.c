/* SPDX-License-Identifier: MIT */
/*
 * crash-dax - power cuts on memory: seeded writes, stores through windows, fsync, MAP_SYNC, truncation, punching
 * and clones on a mount with -o dax, over a device that loses lines of 64 bytes which nobody flushed.
 * After each cut every byte of both files is one that it has had since it was last promised, the size as
 * well, and the checker finds nothing. What lies free on the device is 0xa5, which no file ever holds.
 *
 * usage: crash-dax [-s SEED] [-n SEQUENCES] [-c CUTS]
 * Exit: 0 all kept, 1 not (the line says how to repeat it), 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dax_window.h"
#include "iomapfs/check.h"
#include "iomapfs/fs.h"
#include "mk.h"
#include "passthrough.h"

#define DEVICE   (16ull << 20)
#define PAGE     ((uint64_t)FOLIO_PAGE_SIZE)
#define MAX_SIZE (24 * PAGE)
#define NR_FILES 2u
#define NR_OPS   12u
#define LINE     64u

/* Every value that a byte, and the size, may have after a cut. */
struct promise {
	uint64_t may[MAX_SIZE][4]; /* 256 bits */
	bool size_may[MAX_SIZE + 1];
	uint8_t now[MAX_SIZE];
	uint64_t size;
};

static struct {
	uint64_t seed, cut_at;
	struct rng rng;
	struct bd *mem, *crash;
	void *image;
	struct fs *fs;
	struct fs_inode *root, *ip[NR_FILES];
	struct dax_window win[NR_FILES];
	struct promise file[NR_FILES];
	struct fs_ctx ctx;
	bool dead;
	char history[2000]; /* of the sequence, for a failure */
	size_t history_len;
} run;
static const char *const names[NR_FILES] = { "one", "two" };

/* What is about to be done. */
static void note(const char *op, unsigned file, uint64_t at, uint64_t len)
{
	const size_t room = sizeof(run.history) - run.history_len;
	const int n = snprintf(run.history + run.history_len, room, "  %s %s %llu+%llu\n", op, names[file],
			       (unsigned long long)at, (unsigned long long)len);

	run.history_len += MIN((size_t)n, room - 1);
}

static void __attribute__((noreturn)) fail(const char *what, unsigned file, uint64_t at, int64_t got)
{
	printf("crash-dax: %s, file %s at %llu: %lld\n%sagain: crash-dax -s %llu -n 1, event %llu\n", what,
	       names[file], (unsigned long long)at, (long long)got, run.history,
	       (unsigned long long)run.seed, (unsigned long long)run.cut_at);
	fflush(stdout);
	_exit(1);
}

static void must(int err, const char *what)
{
	if (err)
		fail(what, 0, 0, err);
}

static uint64_t below(uint64_t n)
{
	return rng_below(&run.rng, n);
}

/* ---- Promises ------------------------------------------------------------------------------- */

static void allow(struct promise *p, uint64_t at, uint8_t value)
{
	p->may[at][value / 64] |= 1ull << (value % 64);
}

static bool allowed(const struct promise *p, uint64_t at, uint8_t value)
{
	return p->may[at][value / 64] >> (value % 64) & 1;
}

/* From here on the byte is what it is. */
static void pin(struct promise *p, uint64_t at)
{
	memset(p->may[at], 0, sizeof(p->may[at]));
	allow(p, at, p->now[at]);
}

static void pin_all(struct promise *p)
{
	for (uint64_t i = 0; i < MAX_SIZE; i++)
		pin(p, i);
	memset(p->size_may, 0, sizeof(p->size_may));
	p->size_may[p->size] = true;
}

static void set_byte(struct promise *p, uint64_t at, uint8_t value)
{
	p->now[at] = value;
	allow(p, at, value);
}

static void set_size(struct promise *p, uint64_t size)
{
	/* A shrink or a growth goes block by block on its way. */
	for (uint64_t i = MIN(size, p->size); i <= MAX(size, p->size); i++)
		p->size_may[i] = true;
	for (uint64_t i = size; i < p->size; i++)
		set_byte(p, i, 0);
	p->size = size;
}

/* ---- The file system --------------------------------------------------------------------------- */

static unsigned window_fault(void *arg, struct vm_fault *vmf, unsigned order)
{
	return fs_dax_fault(&run.ctx, arg, vmf, order);
}

static void open_windows(void)
{
	struct bd_dax mem;

	must(bd_dax_map(run.crash, &mem), "bd_dax_map");
	for (unsigned i = 0; i < NR_FILES; i++) {
		struct dax_window *w = &run.win[i];

		dax_window_init(w, fs_vfs_inode(run.ip[i]), 0, MAX_SIZE / PAGE,
				DAX_VM_SHARED | (i ? 0 : DAX_VM_SYNC), mem.fd);
		w->fault = window_fault;
		w->arg = run.ip[i];
		must(fs_dax_mmap(&run.ctx, run.ip[i], &w->vma), "fs_dax_mmap");
	}
}

static void mount_it(struct bd *bd, bool dax)
{
	const struct fs_mount_opts opts = { .dax = dax, .commit_interval_ms = 100000 };
	struct fs_error err;

	if (fs_mount(bd, &opts, &run.fs, &err)) {
		printf("crash-dax: mount: %s\n", err.text);
		fail("mount", 0, 0, -EIO);
	}
	must(fs_iget(run.fs, FS_ROOT_INO, 0, &run.root), "root");
}

static int unmount_it(void)
{
	for (unsigned i = 0; i < NR_FILES; i++)
		fs_iput(run.ip[i]);
	fs_iput(run.root);
	return fs_unmount(run.fs);
}

static int64_t io(unsigned file, uint64_t pos, void *buf, size_t len, bool write)
{
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(run.ip[file]), .ki_pos = pos };
	struct iovec iov = { buf, len };
	struct iov_iter it;

	iov_iter_init(&it, &iov, 1, len);
	return write ? fs_write_iter(&run.ctx, &iocb, &it, false) : fs_read_iter(&run.ctx, &iocb, &it);
}

/* ---- Operations ---------------------------------------------------------------------------------- */

/* Any error is the cut: nothing is promised from here on. */
static bool survived(int64_t ret)
{
	if (ret < 0)
		run.dead = true;
	return !run.dead;
}

static uint8_t value(void)
{
	return (uint8_t)(1 + below(100));
}

static void op_write(unsigned f)
{
	struct promise *p = &run.file[f];
	const uint64_t pos = below(MAX_SIZE - 1);
	const uint64_t len = 1 + below(MIN(3 * PAGE, MAX_SIZE - pos));
	uint8_t *buf = malloc(len);

	note("write", f, pos, len);
	if (pos + len > p->size)
		set_size(p, pos + len);
	for (uint64_t i = 0; i < len; i++)
		set_byte(p, pos + i, buf[i] = value());
	/* What lies between the old end and the write was zero, and is. */
	survived(io(f, pos, buf, len, true));
	free(buf);
}

static void op_store(unsigned f)
{
	struct promise *p = &run.file[f];
	const uint64_t at = p->size ? below(p->size) : 0;

	if (!p->size)
		return;
	note("store", f, at, 200);
	for (uint64_t i = at; i < MIN(p->size, at + 200); i += 1 + below(9)) {
		const uint8_t v = value();

		allow(p, i, v);
		if (!dax_window_store(&run.win[f], i, v)) {
			run.dead = true;
			return;
		}
		p->now[i] = v;
	}
}

/* A store with MAP_SYNC and its line flushed, by the program itself: that is all it takes. */
static void op_store_sync(unsigned f)
{
	struct promise *p = &run.file[0];
	const struct dax_window *w = &run.win[0];
	const uint64_t at = p->size ? below(p->size) : 0, line = ROUND_DOWN(at, LINE);
	const uint8_t v = value();

	if (!p->size)
		return;
	note("store, MAP_SYNC,", 0, at, 1);
	allow(p, at, v);
	if (!dax_window_store(&run.win[0], at, v)) {
		run.dead = true;
		return;
	}
	p->now[at] = v;
	if (!survived(bd_dax_persist(run.crash, w->addr[at / PAGE] + line % PAGE, LINE)))
		return;
	for (uint64_t i = line; i < MIN(line + LINE, p->size); i++)
		pin(p, i);
}

static void op_fsync(unsigned f)
{
	struct fs_file *file;
	int err;

	note("fsync", f, 0, 0);
	must(fs_open(&run.ctx, run.ip[f], O_RDONLY, &file), "open");
	err = fs_fsync(&run.ctx, file, below(2));
	fs_release(file);
	if (survived(err))
		pin_all(&run.file[f]);
}

static void op_truncate(unsigned f)
{
	const struct fs_attr a = { .size = below(MAX_SIZE) };

	note("truncate", f, a.size, 0);
	set_size(&run.file[f], a.size);
	survived(fs_setattr(&run.ctx, run.ip[f], FS_SET_SIZE, &a, NULL));
}

static void op_punch(unsigned f)
{
	const uint64_t pos = below(MAX_SIZE - 1), len = 1 + below(MAX_SIZE - pos);

	note("punch", f, pos, len);
	for (uint64_t i = pos; i < pos + len; i++)
		set_byte(&run.file[f], i, 0);
	survived(fs_fallocate(&run.ctx, run.ip[f], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, len));
}

static void op_clone(unsigned f)
{
	struct promise *p = &run.file[f], *q = &run.file[1 - f];
	const uint64_t pos = ROUND_DOWN(below(MAX_SIZE), PAGE);

	if (pos >= p->size)
		return;
	note("clone", f, pos, p->size - pos);
	if (p->size > q->size)
		set_size(q, p->size);
	for (uint64_t i = pos; i < p->size; i++)
		set_byte(q, i, p->now[i]);
	/* Blocks are shared whole: the target's last one ends with the source's. */
	if (p->size < q->size && p->size % PAGE) {
		set_size(q, p->size);
		if (!survived(fs_setattr(&run.ctx, run.ip[1 - f], FS_SET_SIZE,
					 &(struct fs_attr){ .size = p->size }, NULL)))
			return;
	}
	survived(fs_clone_range(&run.ctx, run.ip[f], pos, run.ip[1 - f], pos, 0));
}

static void operations(void)
{
	static void (*const ops[])(unsigned) = { op_write, op_write, op_store,	  op_store_sync, op_fsync,
						 op_fsync, op_clone, op_truncate, op_punch };

	for (unsigned i = 0; i < NR_OPS && !run.dead; i++)
		ops[below(ARRAY_SIZE(ops))]((unsigned)below(NR_FILES));
}

/* ---- One cut ------------------------------------------------------------------------------------------ */

static void check_file(unsigned f)
{
	const struct promise *p = &run.file[f];
	static uint8_t buf[MAX_SIZE];
	struct fs_attr a;

	must(fs_lookup(&run.ctx, run.root, names[f], strlen(names[f]), &run.ip[f]), "lookup");
	must(fs_getattr(&run.ctx, run.ip[f], &a), "getattr");
	if (a.size > MAX_SIZE || !p->size_may[a.size])
		fail("a size that it never had", f, a.size, (int64_t)p->size);
	if (io(f, 0, buf, MAX_SIZE, false) != (int64_t)a.size)
		fail("a short read", f, 0, (int64_t)a.size);
	for (uint64_t i = 0; i < a.size; i++)
		if (!allowed(p, i, buf[i]))
			fail("a byte that it never had", f, i, buf[i]);
	must(fs_setattr(&run.ctx, run.ip[f], FS_SET_SIZE, &(struct fs_attr){ .size = MAX_SIZE }, NULL),
	     "growth");
	if (io(f, 0, buf, MAX_SIZE, false) != (int64_t)MAX_SIZE)
		fail("a short read", f, 0, MAX_SIZE);
	for (uint64_t i = a.size; i < MAX_SIZE; i++)
		if (buf[i])
			fail("a byte behind the end, shown by a growth", f, i, buf[i]);
}

static void check_after(void)
{
	struct chk_opts o = { .readonly = true, .out = stdout };
	struct chk_result res;

	mount_it(passthrough_create(run.mem), run.seed & 1);
	for (unsigned f = 0; f < NR_FILES; f++)
		check_file(f);
	must(unmount_it(), "unmount");
	if (chk_run(run.mem, &o, &res) || res.found)
		fail("the checker found something", 0, 0, (int64_t)res.found);
}

/* The same operations each time, up to the event; events it took, if nothing was cut. */
static uint64_t one_run(uint64_t cut_at)
{
	uint64_t events;

	memcpy(bd_mem_base(run.mem), run.image, DEVICE);
	must(bd_crash_create(passthrough_create(run.mem), &run.crash), "bd_crash");
	mount_it(run.crash, true);
	for (unsigned f = 0; f < NR_FILES; f++) {
		must(fs_lookup(&run.ctx, run.root, names[f], strlen(names[f]), &run.ip[f]), "lookup");
		memset(&run.file[f], 0, sizeof(run.file[f]));
		pin_all(&run.file[f]);
	}
	open_windows();
	run.dead = false;
	run.history_len = 0;
	run.history[0] = '\0';
	run.cut_at = cut_at;
	rng_seed(&run.rng, run.seed);
	bd_crash_arm(run.crash, cut_at ? bd_crash_nr_writes(run.crash) + cut_at : 0, run.seed * 31 + cut_at);
	events = bd_crash_nr_writes(run.crash);
	operations();
	events = bd_crash_nr_writes(run.crash) - events;
	/* The power goes now, if it did not before. */
	must(bd_crash_cut(run.crash, run.seed * 31 + cut_at), "cut");
	for (unsigned f = 0; f < NR_FILES; f++) {
		dax_vma_close(&run.win[f].vma);
		dax_window_destroy(&run.win[f]);
	}
	(void)unmount_it();
	check_after();
	return events;
}

static void make_image(void)
{
	must(bd_mem_create(DEVICE, 512, &run.mem), "bd_mem");
	memset(bd_mem_base(run.mem), 0xa5, DEVICE);
	must(mk_default(run.mem, 12), "mkfs");
	mount_it(passthrough_create(run.mem), false);
	for (unsigned f = 0; f < NR_FILES; f++)
		must(fs_mknod(&run.ctx, run.root, names[f], strlen(names[f]), S_IFREG | 0644, 0, 0,
			      &run.ip[f]), "mknod");
	must(unmount_it(), "unmount");
	run.image = malloc(DEVICE);
	memcpy(run.image, bd_mem_base(run.mem), DEVICE);
}

int main(int argc, char **argv)
{
	uint64_t sequences = 20, cuts = 12, seed = 1, made = 0, events;
	int c;

	while ((c = getopt(argc, argv, "s:n:c:")) != -1) {
		uint64_t *v = c == 's' ? &seed : c == 'n' ? &sequences : c == 'c' ? &cuts : NULL;

		if (!v) {
			fprintf(stderr, "usage: crash-dax [-s SEED] [-n SEQUENCES] [-c CUTS]\n");
			return 2;
		}
		*v = strtoull(optarg, NULL, 0);
	}
	log_set_level((enum log_level)-1);
	run.ctx = (struct fs_ctx){ .umask = 022 };
	make_image();
	for (run.seed = seed; run.seed < seed + sequences; run.seed++) {
		events = one_run(0);
		made++;
		for (uint64_t i = 1; i <= events; i += MAX(events / cuts, 1), made++)
			one_run(i);
	}
	printf("crash-dax: seeds from %llu, %llu sequences, %llu cuts\n", (unsigned long long)seed,
	       (unsigned long long)sequences, (unsigned long long)made);
	bd_close(run.mem);
	free(run.image);
	return 0;
}

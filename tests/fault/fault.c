/* SPDX-License-Identifier: MIT */
/*
 * fault - mkfs, mount, work, unmount, while the n-th request of a kind, or the n-th allocation,
 * fails: n = 1, 2, ... until the run is not touched any more. Whatever fails, nothing crashes,
 * hangs or leaks, and with a sound device again everything promised is there, fsck finds
 * nothing, and what is emptied is as free as it was when new. The same for the recovery of a
 * file system whose log is full, and for fsck and its repair of that.
 *
 * The last line: "fault: R runs, T touched, F failures".
 */
#include <argp.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../crash/disk.h"
#include "alloc.h"
#include "iomapfs/check.h"
#include "mk.h"
#include "work.h"

#define DEVICE_SIZE (24ull << 20)
#define HANG_S      120

#define ALLOCATIONS (-2)
#define SPACE       (-3)     /* n is how much of it there is, in blocks */

enum stage { LIFE, RECOVERY, FSCK, REPAIR };

struct plan {
	const char *name;
	int op;              /* of the device; -1: any; or one of these */
	uint64_t count;
	int error;
	uint64_t delay_ns;
	unsigned errors;     /* FS_ERRORS_* */
	enum stage stage;
};
#define ALWAYS UINT64_MAX
static const struct plan plans[] = {
	{ "read", BD_READ, 1, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "read-always", BD_READ, ALWAYS, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "read-continue", BD_READ, 1, -EIO, 0, FS_ERRORS_CONTINUE },
	{ "write", BD_WRITE, 1, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "write-always", BD_WRITE, ALWAYS, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "write-continue", BD_WRITE, 1, -EIO, 0, FS_ERRORS_CONTINUE },
	{ "write-nospace", BD_WRITE, 1, -ENOSPC, 0, FS_ERRORS_REMOUNT_RO },
	{ "flush", BD_FLUSH, 1, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "flush-always", BD_FLUSH, ALWAYS, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "zeroes", BD_WRITE_ZEROES, 1, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "discard", BD_DISCARD, 1, -EIO, 0, FS_ERRORS_REMOUNT_RO },
	{ "gone", -1, ALWAYS, -ENODEV, 0, FS_ERRORS_REMOUNT_RO },
	{ "slow", -1, 1, 0, 20000000, FS_ERRORS_REMOUNT_RO },
	{ "alloc", ALLOCATIONS, 1, -ENOMEM, 0, FS_ERRORS_REMOUNT_RO },
	/* Not always: writeback waits for memory rather than lose what it was given. */
	{ "alloc-run", ALLOCATIONS, 30, -ENOMEM, 0, FS_ERRORS_REMOUNT_RO },
	{ "space", SPACE, 0, 0, 0, FS_ERRORS_REMOUNT_RO },
	{ "recovery-read", BD_READ, 1, -EIO, 0, 0, RECOVERY },
	{ "recovery-write", BD_WRITE, 1, -EIO, 0, 0, RECOVERY },
	{ "recovery-gone", -1, ALWAYS, -EIO, 0, 0, RECOVERY },
	{ "recovery-alloc", ALLOCATIONS, 1, -ENOMEM, 0, 0, RECOVERY },
	{ "fsck-read", BD_READ, 1, -EIO, 0, 0, FSCK },
	{ "fsck-gone", -1, ALWAYS, -EIO, 0, 0, FSCK },
	{ "fsck-alloc", ALLOCATIONS, 1, -ENOMEM, 0, 0, FSCK },
	{ "repair-write", BD_WRITE, 1, -EIO, 0, 0, REPAIR },
	{ "repair-gone", -1, ALWAYS, -EIO, 0, 0, REPAIR },
	{ "repair-alloc", ALLOCATIONS, 1, -ENOMEM, 0, 0, REPAIR },
};

struct options {
	const char *plan;
	uint64_t first, step;
	bool verbose;
};

static struct {
	uint8_t *base, *crashed; /* nothing, and a file system that was not unmounted */
	struct work_book book;   /* of the latter */
	struct image im;
	uint64_t free_new;      /* blocks of a new file system */
	char why[512];
} lab;

static bool wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(lab.why, sizeof(lab.why), fmt, ap);
	va_end(ap);
	return false;
}

static bool check_clean(const char *when)
{
	struct bd *bd = image_open(&lab.im);
	struct chk_result res = { 0 };
	char *text = NULL;
	size_t len = 0;
	struct chk_opts o = { .readonly = true, .out = open_memstream(&text, &len) };
	int err = chk_run(bd, &o, &res);
	bool good = !err && !res.found;

	fclose(o.out);
	bd_close(bd);
	if (!good)
		wrong("fsck %s: %d, %llu problems: %.200s", when, err, (unsigned long long)res.found,
		      text);
	free(text);
	return good;
}

static uint64_t free_blocks(struct fs *fs)
{
	struct statvfs st;

	return fs_statfs(fs, &st) ? 0 : st.f_bfree;
}

/* ---- One run -------------------------------------------------------------------------------------- */

struct outcome {
	bool touched, made;     /* the fault happened; mkfs said that it was done */
	struct work_book book;
};

/* A file takes all but n blocks of the free space. */
static void leave_blocks(struct fs *fs, uint64_t n)
{
	struct fs_ctx ctx = { 0 };
	struct fs_inode *root, *ip;
	uint64_t at = 0, piece;
	struct statvfs st;

	if (fs_iget(fs, FS_ROOT_INO, 0, &root) ||
	    fs_mknod(&ctx, root, "hog", 3, S_IFREG | 0600, 0, 0, &ip))
		abort();
	for (piece = 1024; piece > 0; piece /= 2)
		while (!fs_statfs(fs, &st) && st.f_bavail >= n + piece &&
		       !fs_fallocate(&ctx, ip, 0, at, piece << 12))
			at += piece << 12;
	fs_iput(ip);
	fs_iput(root);
	if (fs_sync(fs))
		abort();
}

/* The unlucky part. What it opened is closed again. */
static void run_faulty(const struct plan *p, uint64_t n, struct outcome *o)
{
	_Atomic bool hit = false;
	const struct bd_fault_rule rule = { .op = p->op, .after = n, .count = p->count,
					    .error = p->error, .delay_ns = p->delay_ns, .hit = &hit };
	const struct fs_mount_opts opts = { .memory_bytes = 16u << 20, .commit_interval_ms = 600000,
					    .errors = p->errors,
					    .discard = p->op == BD_DISCARD || n % 2 };
	struct fs_error e = { "" };
	struct bd *fault;
	struct fs *fs;

	if (bd_fault_create(image_open(&lab.im), &fault))
		abort();
	if (p->op == ALLOCATIONS)
		alloc_fail(n, p->count);
	else if (p->op != SPACE)
		bd_fault_set(fault, &rule, 1);
	o->made = p->stage != LIFE || !mk_default(fault, 12);
	if (p->stage == FSCK || p->stage == REPAIR) {
		const struct chk_opts chk = { .readonly = p->stage == FSCK };
		struct chk_result res;

		(void)chk_run(fault, &chk, &res);
		bd_close(fault);
	} else if (p->stage == RECOVERY) {
		if (fs_mount(fault, &opts, &fs, &e))
			bd_close(fault);
		else
			fs_unmount(fs);
	} else if (o->made && !fs_mount(fault, &opts, &fs, &e)) {
		if (p->op == SPACE)
			leave_blocks(fs, n);
		work_run(fs, &o->book);
		/* Whoever ran out of space was told; nothing is owed. */
		hit = hit || (p->op == SPACE && o->book.nospace > 0);
		if (fs_unmount(fs) && p->op == SPACE && !o->book.odd)
			o->book.odd = -EIO;
	} else {
		bd_close(fault);
	}
	o->touched = hit || alloc_failed();
	alloc_fail(UINT64_MAX, 0);
}

/* The device is sound again. */
static bool judge(struct outcome *o)
{
	const struct fs_mount_opts opts = { .memory_bytes = 16u << 20, .commit_interval_ms = 600000 };
	struct fs_error e = { "" };
	struct bd *bd = image_open(&lab.im);
	struct fs *fs;
	bool good;
	int err;

	if (o->book.odd)
		wrong("an operation ended with %d", o->book.odd);
	if (fs_mount(bd, &opts, &fs, &e)) {
		bd_close(bd);
		return wrong("mount: %s", e.text);
	}
	good = !o->book.odd && work_judge(fs, &o->book, lab.why, sizeof(lab.why));
	err = fs_unmount(fs);
	if (good && err)
		good = wrong("unmount: %d", err);
	if (!good || !check_clean("afterwards"))
		return false;
	bd = image_open(&lab.im);
	if (fs_mount(bd, &opts, &fs, &e)) {
		bd_close(bd);
		return wrong("second mount: %s", e.text);
	}
	err = work_empty(fs);
	if (!err)
		err = fs_quiesce(fs);
	/*
	 * check_clean has held every count against every block. Here: what was freed was given back, but
	 * for the root's own blocks and an inode cluster or two.
	 */
	if (err)
		good = wrong("emptying it: %d", err);
	else if (free_blocks(fs) + 64 < lab.free_new)
		good = wrong("%llu blocks free when empty, %llu when new",
			     (unsigned long long)free_blocks(fs), (unsigned long long)lab.free_new);
	err = fs_unmount(fs);
	if (good && err)
		good = wrong("last unmount: %d", err);
	return good && check_clean("when emptied");
}

static bool one_run(const struct plan *p, uint64_t n, struct outcome *o)
{
	*o = (struct outcome){ 0 };
	image_reset(&lab.im);
	lab.im.base = p->stage == LIFE ? lab.base : lab.crashed;
	if (p->stage != LIFE)
		o->book = lab.book;
	alarm(HANG_S);
	run_faulty(p, n, o);
	alarm(HANG_S);
	return !o->made || judge(o);
}

static void lab_init(void)
{
	const struct fs_mount_opts opts = { .memory_bytes = 16u << 20, .commit_interval_ms = 600000 };
	struct fs_error e;
	struct bd *bd;
	struct fs *fs;

	lab.base = calloc(1, DEVICE_SIZE);
	if (!lab.base)
		abort();
	image_init(&lab.im, lab.base, DEVICE_SIZE);
	/* All its pages now: the device itself never runs out of memory. */
	image_fill(&lab.im, 0, 0, DEVICE_SIZE);
	image_reset(&lab.im);
	bd = image_open(&lab.im);
	if (mk_default(bd, 12) || fs_mount(bd, &opts, &fs, &e))
		abort();
	lab.free_new = free_blocks(fs);
	work_run(fs, &lab.book);
	/* The power goes now. */
	lab.crashed = malloc(DEVICE_SIZE);
	if (!lab.crashed || lab.book.odd)
		abort();
	image_read(&lab.im, 0, lab.crashed, DEVICE_SIZE);
	fs_unmount(fs);
}

/* ---- Command line ---------------------------------------------------------------------------------- */

static const struct argp_option arg_options[] = {
	{ "plan", 'p', "NAME", 0, "Only this one", 0 },
	{ "first", 'f', "N", 0, "Start with this request", 0 },
	{ "step", 's', "N", 0, "Every N-th request", 0 },
	{ "verbose", 'v', NULL, 0, "Print each run", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'p':
		o->plan = arg;
		break;
	case 'f':
		o->first = strtoull(arg, NULL, 0);
		break;
	case 's':
		o->step = MAX(strtoull(arg, NULL, 0), 1ull);
		break;
	case 'v':
		o->verbose = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* Every run has something to complain of. */
int main(int argc, char **argv)
{
	static const struct argp argp = { arg_options, parse, NULL, "Faults, one after the other", NULL,
					  NULL, NULL };
	struct options opt = { .step = 1 };
	uint64_t runs = 0, touched = 0, failures = 0;

	argp_parse(&argp, argc, argv, 0, NULL, &opt);
	/* Every run has something to complain of. */
	if (opt.verbose)
		log_set_sink(log_stderr, NULL);
	lab_init();
	for (unsigned i = 0; i < ARRAY_SIZE(plans); i++) {
		const struct plan *p = &plans[i];
		uint64_t hit = 0;

		if (opt.plan && strcmp(opt.plan, p->name) != 0)
			continue;
		for (uint64_t n = opt.first;; n += opt.step) {
			struct outcome o;

			if (opt.verbose)
				printf("# %s %llu\n", p->name, (unsigned long long)n);
			runs++;
			if (!one_run(p, n, &o)) {
				printf("# FAILED %s %llu: %s\n#   again: fault -p %s -f %llu -v\n", p->name,
				       (unsigned long long)n, lab.why, p->name, (unsigned long long)n);
				fflush(stdout);
				failures++;
			}
			if (!o.touched)
				break;
			hit++;
		}
		printf("# %s: %llu runs were touched\n", p->name, (unsigned long long)hit);
		fflush(stdout);
		touched += hit;
	}
	printf("fault: %llu runs, %llu touched, %llu failures\n", (unsigned long long)runs,
	       (unsigned long long)touched, (unsigned long long)failures);
	image_fini(&lab.im);
	free(lab.base);
	free(lab.crashed);
	return failures ? 1 : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * fsck.iomapfs - check an iomapfs file system, and repair it.
 *
 * Exit codes, as fsck(8) has them: 0 clean; 1 errors were repaired; 4 errors are left; 8 operational
 * error (no such device, no iomapfs on it, unreadable); 16 wrong usage; 32 the user said no.
 */
#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsck_claim.h"
#include "fsck_progress.h"
#include "iomapfs/check.h"
#include "iomapfs/util.h"

#define FSCK_OK 0
#define FSCK_CORRECTED 1
#define FSCK_UNCORRECTED 4
#define FSCK_ERROR 8
#define FSCK_USAGE 16
#define FSCK_CANCELLED 32

const char *argp_program_version = "fsck.iomapfs " IOMAPFS_VERSION;

struct fsck {
	const char *path;
	struct chk_opts opts;
	bool no, yes, force;
	int progress_fd;     /* -1: nobody is told */
	bool cancelled;      /* the user said no */
};

static const struct argp_option options[] = {
	{ "no-repair", 'n', NULL, 0, "Only tell what is wrong: nothing is written", 0 },
	{ "preen", 'p', NULL, 0, "Repair what costs nobody anything, and ask nothing; a file system "
	  "that was unmounted is taken for clean", 0 },
	{ "auto", 'a', NULL, 0, "The same as -p", 0 },
	{ "yes", 'y', NULL, 0, "Repair everything, and ask nothing", 0 },
	{ "force", 'f', NULL, 0, "With -p: check also one that was unmounted", 0 },
	{ "verbose", 'v', NULL, 0, "Name the passes and print totals", 0 },
	{ "progress", 'C', "FD", 0,
	  "Tell how far it is: 0 draws a bar, if there is a terminal; to another descriptor go "
	  "lines PASS DONE TOTAL DEVICE", 0 },
	{ 0 },
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct fsck *f = state->input;
	char *end;

	switch (key) {
	case 'n':
		f->no = true;
		break;
	case 'f':
		f->force = true;
		break;
	case 'p':
	case 'a':
		f->opts.preen = true;
		break;
	case 'y':
		f->yes = true;
		break;
	case 'v':
		f->opts.verbose = true;
		break;
	case 'C':
		f->progress_fd = (int)strtol(arg, &end, 10);
		if (end == arg || *end || f->progress_fd < 0)
			argp_error(state, "-C: '%s' is no descriptor", arg);
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num > 0)
			argp_error(state, "one device at a time");
		f->path = arg;
		break;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which device or image file?");
		break;
	case ARGP_KEY_END:
		if (f->no + f->yes + f->opts.preen > 1)
			argp_error(state, "only one of -n, -p and -y");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.args_doc = "DEVICE",
	.doc = "Check the iomapfs file system on DEVICE, a block device or an image file, and repair "
	       "it. Without -n, -p and -y it asks once, if there is a terminal to ask.\v"
	       "Exit codes: 0 clean; 1 errors were repaired; 4 errors are left; 8 could not be checked; "
	       "16 wrong usage; 32 the answer was no.",
};

/* One question for all: what is repaired depends on each other. */
static bool ask_user(void *arg, const struct chk_result *res)
{
	struct fsck *f = arg;
	char answer[16];

	printf("%s: %llu problems. Repair all of them? [y/N] ", f->path,
	       (unsigned long long)res->found);
	fflush(stdout);
	f->cancelled = !fgets(answer, sizeof(answer), stdin) || (answer[0] != 'y' && answer[0] != 'Y');
	return !f->cancelled;
}

static int fail(const char *path, int err)
{
	const char *what = strerror(-err), *advice = "";

	if (err == -EMEDIUMTYPE) {
		what = "holds no iomapfs file system";
		advice = "; make one with mkfs.iomapfs, or check the name";
	} else if (err == -EBUSY) {
		what = "is mounted or in use";
		advice = "; unmount it first";
	} else if (err == -EBADF) {
		what = "-C names no descriptor that can be written to";
	} else if (err == -EOPNOTSUPP) {
		what = "uses features that this version does not know";
		advice = "; use a newer fsck.iomapfs";
	} else if (err == -ENOSPC) {
		what = "has no room for what is to be written anew";
		advice = "; save what can be read from a mount with -o ro";
	}
	fprintf(stderr, "fsck.iomapfs: %s: %s%s\n", path, what, advice);
	return FSCK_ERROR;
}

static void print_totals(const struct fsck *f, const struct chk_result *r)
{
	printf("%s: %llu inodes, %llu of them directories; %llu blocks used, %llu free; "
	       "%llu metadata blocks; %.2f extents a file\n",
	       f->path, (unsigned long long)r->inodes, (unsigned long long)r->dirs,
	       (unsigned long long)r->blocks_used, (unsigned long long)r->blocks_free,
	       (unsigned long long)r->meta_blocks, r->fragmentation);
}

/* What came of it, as text and exit code. */
static int conclude(const struct fsck *f, const struct chk_result *r)
{
	if (r->left == 0 && r->found == 0) {
		printf("%s: clean%s\n", f->path, r->repaired ? ", its journal was replayed" : "");
		return r->repaired ? FSCK_CORRECTED : FSCK_OK;
	}
	if (r->left == 0) {
		printf("%s: %llu problems, all repaired\n", f->path, (unsigned long long)r->found);
		return FSCK_CORRECTED;
	}
	if (r->repaired)
		printf("%s: %llu problems, %llu are left: run fsck.iomapfs -y again, or save what can be "
		       "read from a mount with -o ro\n",
		       f->path, (unsigned long long)r->found, (unsigned long long)r->left);
	else if (r->unknown)
		printf("%s: has features that this version does not know: use a newer fsck.iomapfs\n",
		       f->path);
	else if (r->unsafe)
		printf("%s: %llu problems, and repairing some would lose something: run fsck.iomapfs "
		       "without -p\n", f->path, (unsigned long long)r->found);
	else
		printf("%s: %llu problems found, nothing was changed\n", f->path,
		       (unsigned long long)r->found);
	return f->cancelled ? FSCK_CANCELLED : FSCK_UNCORRECTED;
}

/* chk_run, with what tells how far it is. */
static int run(struct fsck *f, struct bd *bd, struct chk_result *res)
{
	struct chk_opts opts = f->opts;
	struct fsck_progress p;
	int err;

	/* A bar is for eyes. */
	if (f->progress_fd < 0 || (f->progress_fd == 0 && !isatty(STDOUT_FILENO)))
		return chk_run(bd, &opts, res);
	err = fsck_progress_begin(&p, f->path, f->progress_fd, &opts.out);
	if (err)
		return err;
	opts.progress = fsck_progress_tell;
	opts.progress_arg = &p;
	err = chk_run(bd, &opts, res);
	fsck_progress_end(&p, opts.out);
	return err;
}

static int check(struct fsck *f)
{
	const unsigned rw = f->opts.readonly ? BD_OPEN_RDONLY : 0;
	struct fsck_claim claim = { .bd = NULL };
	struct chk_result res;
	struct bd *bd;
	int err;

	/* The image of a mounted file system changes below the check: refused by the lock. */
	err = bd_open(f->path, rw | BD_OPEN_EXCL | BD_OPEN_LOCK | BD_OPEN_BUFFERED, &bd);
	if (err)
		return fail(f->path, err);
	if (f->opts.preen && !f->force && fsck_was_unmounted(bd)) {
		printf("%s: clean (unmounted, not looked at)\n", f->path);
		bd_close(bd);
		return FSCK_OK;
	}
	if (!f->opts.readonly)
		err = fsck_claim(&claim, bd, f->path);
	if (!err) {
		err = run(f, bd, &res);
		fsck_unclaim(&claim);
	}
	bd_close(bd);
	if (err)
		return fail(f->path, err);
	if (f->opts.verbose)
		print_totals(f, &res);
	return conclude(f, &res);
}

int main(int argc, char **argv)
{
	struct fsck f = { .opts = { .out = stdout }, .progress_fd = -1 };

	log_set_sink(log_stderr, NULL);
	argp_err_exit_status = FSCK_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &f);
	if (!f.no && !f.yes && !f.opts.preen) {
		/* Nobody to ask is an answer too. */
		f.opts.readonly = !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO);
		f.opts.ask = ask_user;
		f.opts.ask_arg = &f;
	}
	f.opts.readonly |= f.no;
	return check(&f);
}

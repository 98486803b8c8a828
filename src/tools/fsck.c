/* SPDX-License-Identifier: MIT */
/*
 * fsck.iomapfs - check an iomapfs file system. This version finds and tells; it repairs
 * nothing, so -p and -y end with 4 when there is something to repair.
 *
 * Exit codes, as fsck(8) has them: 0 clean; 4 errors left; 8 operational error (no such
 * device, no iomapfs on it, unreadable); 16 wrong usage.
 */
#include <argp.h>
#include <string.h>
#include <unistd.h>

#include "iomapfs/check.h"
#include "iomapfs/util.h"

#define FSCK_OK 0
#define FSCK_UNCORRECTED 4
#define FSCK_ERROR 8
#define FSCK_USAGE 16

const char *argp_program_version = "fsck.iomapfs " IOMAPFS_VERSION;

struct fsck {
	const char *path;
	struct chk_opts opts;
};

static const struct argp_option options[] = {
	{ "no-repair", 'n', NULL, 0, "Only tell what is wrong (the default)", 0 },
	{ "preen", 'p', NULL, 0, "Repair what is safe (not in this version: tells only)", 0 },
	{ "auto", 'a', NULL, 0, "The same as -p", 0 },
	{ "yes", 'y', NULL, 0, "Repair everything (not in this version: tells only)", 0 },
	{ "force", 'f', NULL, 0, "Check a clean file system too (always done)", 0 },
	{ "verbose", 'v', NULL, 0, "Name the passes and print totals", 0 },
	{ "progress", 'C', "FD", OPTION_ARG_OPTIONAL, "Name the passes while they run", 0 },
	{ 0 },
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct fsck *f = state->input;

	switch (key) {
	case 'n':
	case 'f':
		break;
	case 'p':
	case 'a':
		f->opts.preen = true;
		break;
	case 'y':
		f->opts.yes = true;
		break;
	case 'v':
		f->opts.verbose = true;
		break;
	case 'C':
		f->opts.progress = true;
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num > 0)
			argp_error(state, "one device at a time");
		f->path = arg;
		break;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which device or image file?");
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
	.doc = "Check the iomapfs file system on DEVICE, a block device or an image file, without "
	       "writing to it.\vExit codes: 0 clean; 4 errors found; 8 could not be checked; 16 wrong "
	       "usage.",
};

static int fail(const char *path, int err)
{
	const char *what = strerror(-err), *advice = "";

	if (err == -EMEDIUMTYPE) {
		what = "holds no iomapfs file system";
		advice = "; make one with mkfs.iomapfs, or check the name";
	} else if (err == -EBUSY) {
		what = "is mounted or in use";
		advice = "; unmount it first";
	} else if (err == -EOPNOTSUPP) {
		what = "uses features that this version does not know";
		advice = "; use a newer fsck.iomapfs";
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

int main(int argc, char **argv)
{
	struct fsck f = { .opts = { .readonly = true, .out = stdout } };
	struct chk_result res;
	struct bd *bd;
	int err;

	argp_err_exit_status = FSCK_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &f);
	/* The image of a mounted file system changes below the check: refused by the lock. */
	err = bd_open(f.path, BD_OPEN_RDONLY | BD_OPEN_EXCL | BD_OPEN_LOCK | BD_OPEN_BUFFERED, &bd);
	if (err)
		return fail(f.path, err);
	err = chk_run(bd, &f.opts, &res);
	bd_close(bd);
	if (err)
		return fail(f.path, err);
	if (f.opts.verbose)
		print_totals(&f, &res);
	if (res.found == 0) {
		printf("%s: clean\n", f.path);
		return FSCK_OK;
	}
	printf("%s: %llu problems found%s\n", f.path, (unsigned long long)res.found,
	       f.opts.preen || f.opts.yes ? "; repair is not in this version, nothing was changed" :
					    "");
	return FSCK_UNCORRECTED;
}

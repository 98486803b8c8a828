// SPDX-License-Identifier: MIT
/* iomapctl - look at and steer iomapfs file systems: the command line. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "iomapfs/util.h"

const char *argp_program_version = "iomapctl " IOMAPFS_VERSION;

static const struct {
	const char *name;
	int (*fn)(const struct ctl_opts *o, const char *path);
	const char *help;
	bool more;  /* arguments behind the path */
} commands[] = {
	{"fiemap", ctl_fiemap, "FILE: where its data is"},
	{"swapmap", ctl_swapmap, "FILE: its pages as a swap file, or why it cannot be one"},
	{"info", ctl_info, "PATH: the mounted file system that holds it"},
	{"stats", ctl_stats, "PATH: cache, journal, allocator and request counters"},
	{"trim", ctl_trim, "PATH: discard free space [--offset --length --minimum]"},
	{"tune", ctl_tune, "PATH: change --label, --uuid or --mmp; unmounted SOURCE: --reflink"},
	{"shutdown", ctl_shutdown, "PATH: fail every request with EIO from now on [--sync]"},
	{"probe", ctl_probe, "DEVICE: is it iomapfs? [--udev]"},
	{"metadump", ctl_metadump, "SOURCE: its metadata, for bug reports, to --output"},
	{"debug", ctl_debug,
	 "SOURCE print|set|find: metadata by its fields, see below", true},
	{"clone", ctl_clone,
	 "SOURCE TARGET: share its blocks [--src-offset --dst-offset --length]", true},
	{"dedupe", ctl_dedupe,
	 "SOURCE TARGET: share what is equal [--src-offset --dst-offset --length]", true},
	{"collapse", ctl_collapse, "FILE OFFSET LENGTH: take a range out", true},
	{"insert", ctl_insert, "FILE OFFSET LENGTH: put a hole in", true},
	{"unshare", ctl_unshare, "FILE OFFSET LENGTH: blocks of its own, now", true},
	{"write", ctl_write, "FILE OFFSET <DATA: write it [--atomic|--dontcache]", true},
	{"wait", ctl_wait, "SOURCE: until no daemon holds it [--timeout SECONDS]"},
};

enum { OPT_OFFSET = 256, OPT_LENGTH, OPT_MINIMUM, OPT_SYNC, OPT_UDEV, OPT_TIMEOUT, OPT_MMP,
       OPT_FORCE, OPT_KEEP_CRC, OPT_SRC_OFFSET, OPT_DST_OFFSET, OPT_ATOMIC, OPT_DONTCACHE,
       OPT_REFLINK };

static const struct argp_option options[] = {
	{"json", 'j', NULL, 0, "Print JSON", 0},
	{"label", 'L', "TEXT", 0, "tune: the new label", 0},
	{"uuid", 'U', "UUID", 0, "tune: the new uuid, or 'random'", 0},
	{"mmp", OPT_MMP, "SECONDS", 0,
	 "tune: multiple-mount protection from the next mount on; 0 = off", 0},
	{"reflink", OPT_REFLINK, NULL, 0,
	 "tune: let files share blocks, as mkfs does unless told --no-reflink; for good", 0},
	{"offset", OPT_OFFSET, "BYTES", 0, "fiemap, trim: where to start", 0},
	{"length", OPT_LENGTH, "BYTES", 0, "fiemap, trim, clone, dedupe: how much", 0},
	{"src-offset", OPT_SRC_OFFSET, "BYTES", 0, "clone, dedupe: where to start in the source", 0},
	{"dst-offset", OPT_DST_OFFSET, "BYTES", 0, "clone, dedupe: where to start in the target", 0},
	{"atomic", OPT_ATOMIC, NULL, 0, "write: all of it or nothing after a power cut (see info)", 0},
	{"dontcache", OPT_DONTCACHE, NULL, 0, "write: keep nothing of it in the daemon's cache", 0},
	{"minimum", OPT_MINIMUM, "BYTES", 0, "trim: leave shorter runs alone", 0},
	{"sync", OPT_SYNC, NULL, 0, "fiemap, shutdown: write everything back first", 0},
	{"xattr", 'x', NULL, 0, "fiemap: where the attributes are, not the data", 0},
	{"udev", OPT_UDEV, NULL, 0, "probe: print udev properties", 0},
	{"output", 'o', "FILE", 0, "metadump: the image to make", 0},
	{"timeout", OPT_TIMEOUT, "SECONDS", 0, "wait: give up after so long", 0},
	{"force", OPT_FORCE, NULL, 0, "debug set: also when the journal has something to replay", 0},
	{"keep-crc", OPT_KEEP_CRC, NULL, 0, "debug set: leave the block's checksum as it is", 0},
	{0},
};

/* At the end of --help. */
static const char debug_help[] =
	"\n"
	"iomapctl exec COMMAND [ARGUMENT]...\n"
	"  run a stock program that then sees FS_IOC_FIEMAP, FICLONE and all of fallocate work:\n"
	"  filefrag -v, xfs_io -c fiemap, cp --reflink=always, fallocate -c\n"
	"\n"
	"iomapctl debug SOURCE print WHERE [FIELD]...\n"
	"iomapctl debug SOURCE set WHERE FIELD=VALUE...\n"
	"iomapctl debug SOURCE find FIELD=VALUE\n"
	"  WHERE: sb, sb:GROUP, ag:GROUP, mmp, journal, ring:INDEX, mblk:NUMBER,\n"
	"  inode:NUMBER or path:/NAME; it may go on with fields that lead elsewhere:\n"
	"  ag:0,free_pos.mblk or path:/file,tree.mblk\n"
	"  FIELD: as print names it, or @OFFSET:SIZE for bytes of the block\n"
	"  set gives the block a new checksum; find takes a field without [INDEX] as any";

struct command_line {
	struct ctl_opts opts;
	const char *command, *path;
};

static bool takes_more(const char *command)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, command))
			return commands[i].more;
	return false;
}

static uint64_t parse_bytes(const char *arg, struct argp_state *state)
{
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(arg, &end, 0);
	if (errno || end == arg || *end || arg[0] == '-')
		argp_error(state, "'%s' is no number", arg);
	return v;
}

/* The option that is just on or off; NULL for all others. */
static bool *switch_of(struct ctl_opts *o, int key)
{
	switch (key) {
	case 'j': return &o->json;
	case 'x': return &o->xattr;
	case OPT_SYNC: return &o->sync;
	case OPT_ATOMIC: return &o->atomic;
	case OPT_DONTCACHE: return &o->dontcache;
	case OPT_UDEV: return &o->udev;
	case OPT_REFLINK: return &o->reflink;
	case OPT_FORCE: return &o->force;
	case OPT_KEEP_CRC: return &o->keep_crc;
	default: return NULL;
	}
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct command_line *cl = state->input;
	bool *on = switch_of(&cl->opts, key);

	if (on) {
		*on = true;
		return 0;
	}
	switch (key) {
	case 'L':
		cl->opts.label = arg;
		break;
	case 'U':
		cl->opts.uuid = arg;
		break;
	case 'o':
		cl->opts.output = arg;
		break;
	case OPT_MMP:
		cl->opts.mmp = true;
		cl->opts.mmp_interval_s = parse_bytes(arg, state);
		break;
	case OPT_OFFSET:
		cl->opts.offset = parse_bytes(arg, state);
		break;
	case OPT_LENGTH:
		cl->opts.length = parse_bytes(arg, state);
		break;
	case OPT_MINIMUM:
		cl->opts.minimum = parse_bytes(arg, state);
		break;
	case OPT_SRC_OFFSET:
		cl->opts.src_offset = parse_bytes(arg, state);
		break;
	case OPT_DST_OFFSET:
		cl->opts.dst_offset = parse_bytes(arg, state);
		break;
	case OPT_TIMEOUT:
		cl->opts.timeout_s = (unsigned)parse_bytes(arg, state);
		break;
	case ARGP_KEY_ARG:
		if (!cl->command)
			cl->command = arg;
		else if (!cl->path)
			cl->path = arg;
		else if (takes_more(cl->command))
			return ARGP_ERR_UNKNOWN; /* the rest, as ARGP_KEY_ARGS */
		else
			argp_error(state, "too many arguments");
		break;
	case ARGP_KEY_ARGS:
		cl->opts.args = state->argv + state->next;
		cl->opts.nr_args = (unsigned)(state->argc - state->next);
		break;
	case ARGP_KEY_END:
		if (!cl->path)
			argp_error(state, "a command and a path are needed");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int ctl_fail(const char *what, int error)
{
	fprintf(stderr, "iomapctl: %s: %s\n", what,
		error == ENOTTY ? "not on an iomapfs" : strerror(error));
	return CTL_FAIL;
}

int ctl_print_json(json_t *root)
{
	int ret = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);

	putchar('\n');
	json_decref(root);
	return ret == 0 ? CTL_OK : CTL_FAIL;
}

int main(int argc, char **argv)
{
	struct command_line cl = {.opts = {.length = UINT64_MAX}};
	char doc[4096] = "Look at and steer iomapfs file systems.\v";
	const struct argp argp = {options, parse_opt, "COMMAND PATH", doc, NULL, NULL, NULL};

	log_set_sink(log_stderr, NULL);
	/* What follows is not ours to parse. */
	if (argc > 1 && !strcmp(argv[1], "exec"))
		return ctl_exec(argv + 2);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		size_t n = strlen(doc);

		snprintf(doc + n, sizeof(doc) - n, "  %-9s %s\n", commands[i].name, commands[i].help);
	}
	strncat(doc, debug_help, sizeof(doc) - strlen(doc) - 1);
	argp_err_exit_status = CTL_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &cl);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, cl.command))
			return commands[i].fn(&cl.opts, cl.path);
	fprintf(stderr, "iomapctl: unknown command '%s'; see --help\n", cl.command);
	return CTL_USAGE;
}

/* SPDX-License-Identifier: MIT */
/*
 * mkfs.iomapfs - make an iomapfs file system on a block device or in an image file.
 *
 * Exit codes: 0 made (or, with -n, could be made); 1 failed; 2 wrong usage; 3 refused,
 * because the device holds something and neither -f nor the user said to go on.
 */
#include <argp.h>
#include <bsd/stdlib.h>
#include <fcntl.h>
#include <iconv.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "ident.h"
#include "iomapfs/journal.h"
#include "iomapfs/util.h"
#include "mk.h"

#define EXIT_USAGE 2
#define EXIT_REFUSED 3

const char *argp_program_version = "mkfs.iomapfs " IOMAPFS_VERSION;

struct mkfs {
	const char *path;
	unsigned block_shift;
	uint64_t size;          /* bytes; 0 = all of the device */
	bool force, quiet, dry_run, created;
	struct mk_params params;
	struct mk_geom geom;
};

enum { OPT_ROOT_OWNER = 0x100, OPT_MMP, OPT_NO_REFLINK };

#define MMP_DEFAULT_S 5

static const struct argp_option options[] = {
	{ "label", 'L', "LABEL", 0, "Name of the file system, up to 64 bytes of UTF-8", 0 },
	{ "uuid", 'U', "UUID", 0, "Its UUID (default: random)", 0 },
	{ "block-size", 'b', "BYTES", 0, "Data block size, 1024 to 65536 (default: 4096)", 0 },
	{ "size", 's', "SIZE", 0,
	  "Size of the file system, with suffix k, m, g or t; an image file is created or extended "
	  "to it (default: all of the device)", 0 },
	{ "force", 'f', NULL, 0, "Go on though the device holds something", 0 },
	{ "quiet", 'q', NULL, 0, "Print errors only", 0 },
	{ "dry-run", 'n', NULL, 0, "Print what would be made, write nothing", 0 },
	{ "no-discard", 'K', NULL, 0, "Do not discard the device's old contents first", 0 },
	{ "root-owner", OPT_ROOT_OWNER, "UID:GID", 0,
	  "Owner of the root directory (default: who runs this program)", 0 },
	{ "mmp", OPT_MMP, "SECONDS", OPTION_ARG_OPTIONAL,
	  "Multiple-mount protection, for a device that several hosts can see: refuse to mount where "
	  "another host writes; a mount takes seconds then (default: off; interval 5)", 0 },
	{ "no-reflink", OPT_NO_REFLINK, NULL, 0,
	  "Files do not share blocks: copies are copies (default: they may)", 0 },
	{ 0 },
};

/* expand_number(3) takes one letter; people also write 1GiB and 512MB. All are powers of two. */
static bool parse_size(const char *arg, uint64_t *out)
{
	char buf[32];
	size_t len = strlen(arg);

	if (len == 0 || len >= sizeof(buf) || arg[0] == '-')
		return false;
	memcpy(buf, arg, len + 1);
	if (len > 3 && strcasecmp(buf + len - 2, "iB") == 0)
		buf[len - 2] = '\0';
	else if (len > 2 && (buf[len - 1] == 'B' || buf[len - 1] == 'b'))
		buf[len - 1] = '\0';
	return expand_number(buf, out) == 0 && *out > 0;
}

static bool utf8_ok(const char *s)
{
	iconv_t cd = iconv_open("UTF-32LE", "UTF-8");
	char out[4 * sizeof(((struct mk_params *)0)->label)];
	char *in = (char *)(uintptr_t)s, *to = out;
	size_t in_left = strlen(s), out_left = sizeof(out);
	bool ok;

	if (cd == (iconv_t)-1)
		return true; /* a libc without tables: nothing to judge with */
	ok = iconv(cd, &in, &in_left, &to, &out_left) != (size_t)-1;
	iconv_close(cd);
	return ok;
}

static void parse_label(struct argp_state *state, struct mk_params *p, const char *arg)
{
	const size_t max = sizeof(((struct od_sb *)0)->label);

	if (strlen(arg) > max)
		argp_error(state, "the label '%s' is longer than %zu bytes", arg, max);
	if (!utf8_ok(arg))
		argp_error(state, "the label is not valid UTF-8");
	memset(p->label, 0, sizeof(p->label));
	memcpy(p->label, arg, strlen(arg));
}

static void parse_owner(struct argp_state *state, struct mk_params *p, const char *arg)
{
	unsigned uid, gid;
	char tail;

	if (sscanf(arg, "%u:%u%c", &uid, &gid, &tail) != 2)
		argp_error(state, "root owner '%s' is not UID:GID", arg);
	p->uid = uid;
	p->gid = gid;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct mkfs *m = state->input;
	uint64_t n;
	char tail;

	switch (key) {
	case 'L':
		parse_label(state, &m->params, arg);
		break;
	case 'U':
		if (strcmp(arg, "random") != 0 && uuid_parse(arg, m->params.uuid))
			argp_error(state, "'%s' is not a UUID", arg);
		break;
	case 'b':
		if (!parse_size(arg, &n) || !is_pow2(n) || ilog2(n) < OD_BLOCK_SHIFT_MIN ||
		    ilog2(n) > OD_BLOCK_SHIFT_MAX)
			argp_error(state, "block size '%s' is not a power of two from 1024 to 65536",
				   arg);
		m->block_shift = ilog2(n);
		break;
	case 's':
		if (!parse_size(arg, &m->size))
			argp_error(state, "'%s' is not a size", arg);
		break;
	case 'f':
		m->force = true;
		break;
	case 'q':
		m->quiet = true;
		break;
	case 'n':
		m->dry_run = true;
		break;
	case 'K':
		m->params.discard = false;
		break;
	case OPT_MMP:
		m->params.mmp_interval_s = MMP_DEFAULT_S;
		if (arg && sscanf(arg, "%u%c", &m->params.mmp_interval_s, &tail) != 1)
			argp_error(state, "'%s' is no number of seconds", arg);
		if (m->params.mmp_interval_s > OD_MMP_INTERVAL_MAX)
			argp_error(state, "--mmp takes 0 (off) to %u seconds", OD_MMP_INTERVAL_MAX);
		break;
	case OPT_NO_REFLINK:
		m->params.no_reflink = true;
		break;
	case OPT_ROOT_OWNER:
		parse_owner(state, &m->params, arg);
		break;
	case ARGP_KEY_ARG:
		if (state->arg_num > 0)
			argp_error(state, "one device at a time");
		m->path = arg;
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
	.doc = "Make an iomapfs file system on DEVICE, a block device or an image file."
	       "\vExit codes: 0 made; 1 failed; 2 wrong usage; 3 refused, as DEVICE holds something "
	       "and -f was not given.",
};

static int fail(const struct mkfs *m, const char *what, int err, const char *advice)
{
	fprintf(stderr, "mkfs.iomapfs: %s: %s%s%s%s%s\n", m->path, what, err ? ": " : "",
		err ? strerror(-err) : "", advice ? "; " : "", advice ? advice : "");
	return EXIT_FAILURE;
}

static int fail_open(const struct mkfs *m, int err)
{
	switch (err) {
	case -ENOENT:
		return fail(m, "does not exist", 0,
			    m->size ? "its directory must exist" : "give -s SIZE to create an image");
	case -EBUSY:
		return fail(m, "is mounted or in use by another program", 0, "unmount it first");
	case -EMEDIUMTYPE:
		return fail(m, "is neither a block device nor a regular file", 0, NULL);
	case -EACCES:
	case -EPERM:
		return fail(m, "cannot be opened", err, "run as a user who may write to it");
	default:
		return fail(m, "cannot be opened", err, NULL);
	}
}

/* 0 to go on, else the exit code. */
static int ask(const struct mkfs *m)
{
	char text[256], answer[16];
	int found = ident_describe(m->path, text, sizeof(text));

	if (found < 0)
		return fail(m, "cannot be read", found, NULL);
	if (found == 0 || m->dry_run)
		return 0;
	if (m->force) {
		if (!m->quiet)
			printf("%s holds %s: overwriting it.\n", m->path, text);
		return 0;
	}
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		fprintf(stderr,
			"mkfs.iomapfs: %s holds %s; nothing was written, give -f to overwrite it\n",
			m->path, text);
		return EXIT_REFUSED;
	}
	printf("%s holds %s.\nOverwrite it? (y,N) ", m->path, text);
	fflush(stdout);
	if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
		return 0;
	printf("Nothing was written.\n");
	return EXIT_REFUSED;
}

static void print_geometry(const struct mkfs *m)
{
	const struct mk_geom *g = &m->geom;
	const uint64_t last = g->nr_blocks - (g->nr_ags - 1) * g->ag_blocks;
	char uuid[37];

	uuid_unparse_lower(m->params.uuid, uuid);
	printf("%s: iomapfs %s", m->path, uuid);
	if (m->params.label[0])
		printf(", label '%s'", m->params.label);
	printf("\n  %llu blocks of %u bytes (%llu MiB)\n", (unsigned long long)g->nr_blocks,
	       1u << g->block_shift, (unsigned long long)(g->nr_blocks << g->block_shift >> 20));
	printf("  %u groups of %llu blocks, the last of %llu\n", g->nr_ags,
	       (unsigned long long)g->ag_blocks, (unsigned long long)last);
	printf("  journal of %llu KiB\n", (unsigned long long)(g->jnl_len << OD_MBLK_SHIFT >> 10));
	printf("  features: %s\n", m->params.no_reflink ? "none" :
				   od_feature_name(OD_WORD_RO_COMPAT, OD_RO_COMPAT_REFLINK));
}

/* Geometry for a device of this many bytes; 0 or the exit code. */
static int plan(struct mkfs *m, uint64_t dev_bytes)
{
	const uint64_t bytes = m->size ? m->size : dev_bytes;
	const char *why = mk_geom_compute(bytes, m->block_shift, jnl_min_mblks(),
					  jnl_default_mblks(bytes), &m->geom);

	if (!why)
		return 0;
	fprintf(stderr, "mkfs.iomapfs: %s: %llu bytes will not do: %s; choose another -s or -b\n",
		m->path, (unsigned long long)bytes, why);
	return EXIT_FAILURE;
}

/* An image that does not exist yet. 0 or the exit code. */
static int create_image(struct mkfs *m)
{
	int fd = open(m->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return fail_open(m, -errno);
	m->created = true;
	m->params.discard = false;
	close(fd);
	return 0;
}

/* Make an image at least as long as the file system asked for. Reopens the device. */
static int extend_image(struct mkfs *m, struct bd **bd)
{
	int err = 0;

	if ((*bd)->info.is_blockdev)
		return fail(m, "is smaller than the size asked for", 0, "choose a smaller -s");
	if (ftruncate(bd_fd(*bd), (off_t)m->size))
		return fail(m, "cannot be extended", -errno, NULL);
	bd_close(*bd);
	*bd = NULL;
	err = bd_open(m->path, BD_OPEN_EXCL | BD_OPEN_LOCK, bd);
	return err ? fail_open(m, err) : 0;
}

static int make(struct mkfs *m)
{
	unsigned flags = BD_OPEN_EXCL | BD_OPEN_LOCK;
	struct bd *bd;
	int code, err;

	if (m->dry_run)
		flags = BD_OPEN_RDONLY;
	err = bd_open(m->path, flags, &bd);
	if (err)
		return fail_open(m, err);
	code = m->created ? 0 : ask(m);
	if (!code && !m->dry_run && bd->info.readonly)
		code = fail(m, "is read-only", 0, NULL);
	if (!code)
		code = plan(m, bd->info.size);
	if (!code && m->size > bd->info.size && !m->dry_run)
		code = extend_image(m, &bd);
	if (code)
		goto out_close;
	if (!m->quiet)
		print_geometry(m);
	if (!m->dry_run) {
		err = mk_write(bd, &m->geom, &m->params);
		if (err)
			code = fail(m, "could not be written", err,
				    "the file system is not complete and cannot be mounted");
	}
out_close:
	if (bd)
		bd_close(bd);
	return code;
}

int main(int argc, char **argv)
{
	struct mkfs m = { .block_shift = 12 };
	struct stat st;
	int code;

	log_set_sink(log_stderr, NULL);
	argp_err_exit_status = EXIT_USAGE;
	mk_params_init(&m.params);
	m.params.uid = geteuid();
	m.params.gid = getegid();
	m.params.discard = true;
	argp_parse(&argp, argc, argv, 0, NULL, &m);

	if (stat(m.path, &st) && errno == ENOENT && m.size) {
		/* Know that it can be done before anything is left behind. */
		code = plan(&m, m.size);
		if (code)
			return code;
		if (m.dry_run) {
			if (!m.quiet)
				print_geometry(&m);
			return EXIT_SUCCESS;
		}
		code = create_image(&m);
		if (code)
			return code;
	}
	code = make(&m);
	if (code && m.created)
		unlink(m.path);
	return code;
}

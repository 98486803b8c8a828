// SPDX-License-Identifier: MIT
/*
 * One program under several names: iomapfs (the daemon for people), mount.iomapfs,
 * mount.fuse.iomapfs and mount.fuseblk.iomapfs (helpers of mount(8)), umount.fuse.iomapfs.
 */
#include <bsd/string.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "mount_private.h"

static const char usage_text[] =
	"usage: %s [-o OPTION[,OPTION...]] [-f] [-d] SOURCE MOUNTPOINT\n"
	"\n"
	"Mount SOURCE, a block device or an image file, at MOUNTPOINT.\n"
	"  -o LIST           mount options; README.md lists them\n"
	"  -f, --foreground  stay in the foreground until unmounted\n"
	"  -d, --debug       as -f, with debug messages\n"
	"  -h, --help        show this\n"
	"  -V, --version     show the version\n"
	"\n"
	"Exit codes: 0 mounted (and serving); 1 wrong usage; 2 system error; 32 mount failed.\n";

static const struct option long_options[] = {
	{"foreground", no_argument, NULL, 'f'},
	{"debug", no_argument, NULL, 'd'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"options", required_argument, NULL, 'o'},
	{NULL, 0, NULL, 0},
};

struct command_line {
	struct fz_mount_request req;
	char list[4096]; /* all -o together */
	bool fake;       /* mount(8) -f: everything but the mount */
	bool helper;     /* called by mount(8) */
};

static int add_options(struct command_line *cl, const char *list)
{
	char err[512];

	if (strlen(cl->list) + strlen(list) + 2 > sizeof(cl->list)) {
		fprintf(stderr, "iomapfs: the option list is too long\n");
		return -1;
	}
	if (fz_options_parse(&cl->req.opts, list, err, sizeof(err)) < 0) {
		fprintf(stderr, "iomapfs: %s\n", err);
		return -1;
	}
	if (cl->list[0])
		strlcat(cl->list, ",", sizeof(cl->list));
	strlcat(cl->list, list, sizeof(cl->list));
	return 0;
}

/* FZ_EX_*, or -1 to go on. */
static int parse(struct command_line *cl, int argc, char **argv)
{
	struct fz_options *o = &cl->req.opts;
	int c;

	while ((c = getopt_long(argc, argv, "o:fdhVsnvrwN:t:", long_options, NULL)) != -1) {
		int bad = 0;

		switch (c) {
		case 'o':
			bad = add_options(cl, optarg);
			break;
		case 'r':
			bad = add_options(cl, "ro");
			break;
		case 'w':
			bad = add_options(cl, "rw");
			break;
		case 'f':
			if (cl->helper)
				cl->fake = true;
			else
				o->foreground = true;
			break;
		case 'd':
			o->debug = o->foreground = true;
			break;
		case 'h':
			printf(usage_text, argv[0]);
			return FZ_EX_OK;
		case 'V':
			printf("iomapfs %s\n", IOMAPFS_VERSION);
			return FZ_EX_OK;
		case 'N':
			fprintf(stderr, "iomapfs: other mount namespaces are not supported\n");
			return FZ_EX_USAGE;
		case '?':
			bad = -1;
			break;
		default: /* -s, -n, -v, -t: mount(8) says them to every helper */
			break;
		}
		if (bad)
			return FZ_EX_USAGE;
	}
	if (optind + 2 != argc) {
		fprintf(stderr, usage_text, argv[0]);
		return FZ_EX_USAGE;
	}
	return -1;
}

int main(int argc, char **argv)
{
	static struct command_line cl;
	const char *name = strrchr(argv[0], '/');
	struct fz_failure f = {0};
	int code;

	name = name ? name + 1 : argv[0];
	log_set_sink(log_stderr, NULL);
	log_set_level(LOG_LVL_WARN);
	if (!strncmp(name, "umount.", 7))
		return fz_umount_main(argc, argv);
	cl.helper = !strncmp(name, "mount.", 6);
	fz_options_init(&cl.req.opts);
	code = parse(&cl, argc, argv);
	if (code >= 0)
		return code;
	if (cl.req.opts.debug)
		log_set_level(LOG_LVL_DEBUG);
	else if (cl.req.opts.foreground)
		log_set_level(LOG_LVL_INFO);
	if (fz_target_resolve(argv[optind + 1], cl.req.target, &f) < 0)
		goto out_failed;
	if (cl.req.opts.remount) {
		if (!cl.fake && fz_remount(cl.req.target, cl.list, &cl.req.opts, &f) < 0)
			goto out_failed;
		return FZ_EX_OK;
	}
	/* Absolute, because the daemon leaves this directory. */
	if (!realpath(argv[optind], cl.req.source)) {
		fz_fail(&f, FZ_EX_FAIL, "%s: %s", argv[optind], strerror(errno));
		goto out_failed;
	}
	return cl.fake ? FZ_EX_OK : fz_daemon_start(&cl.req);

out_failed:
	fprintf(stderr, "iomapfs: %s\n", f.text);
	return f.code;
}

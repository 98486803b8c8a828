// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iomapfs/journal.h"
#include "micro.h"
#include "mk.h"

#ifdef HAVE_CALLGRIND
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION ((void)0)
#define CALLGRIND_STOP_INSTRUMENTATION  ((void)0)
#endif

static const struct micro_case *const tables[] = {micro_btree, micro_space, micro_file,
						  micro_names, micro_folio, micro_journal, micro_device};

void micro_failed(const char *cond, const char *file, int line)
{
	fprintf(stderr, "bench-micro: %s:%d: %s\n", file, line, cond);
	exit(1);
}

void micro_mount(struct micro_fs *m, uint64_t bytes)
{
	/* Commits come when they are asked for, not by the clock. */
	const struct fs_mount_opts opts = {.memory_bytes = 256u << 20, .commit_interval_ms = 3600000};
	struct mk_params p = {.hash_seed = 42, .now_sec = 1700000000};
	struct fs_error err;
	struct mk_geom g;
	struct bd *bd;

	*m = (struct micro_fs){.ctx = {.umask = 022}};
	memset(p.uuid, 0x17, sizeof(p.uuid));
	memset(p.meta_uuid, 0x18, sizeof(p.meta_uuid));
	MUST(bd_mem_create(bytes, 512, &bd) == 0);
	MUST(!mk_geom_compute(bytes, 12, jnl_min_mblks(), jnl_default_mblks(bytes), &g));
	MUST(mk_write(bd, &g, &p) == 0);
	MUST(fs_mount(bd, &opts, &m->fs, &err) == 0);
	MUST(fs_iget(m->fs, FS_ROOT_INO, 0, &m->root) == 0);
}

void micro_umount(struct micro_fs *m)
{
	fs_iput(m->root);
	MUST(fs_unmount(m->fs) == 0);
}

struct fs_inode *micro_create(struct micro_fs *m, const char *name)
{
	struct fs_inode *ip;

	MUST(fs_mknod(&m->ctx, m->root, name, strlen(name), S_IFREG | 0644, 0, 0, &ip) == 0);
	return ip;
}

static const struct micro_case *find(const char *name)
{
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct micro_case *c = tables[t]; c->name; c++)
			if (!name)
				printf("%s\t%u\t%s\t%s\n", c->name, c->ops, c->what,
				       c->not_under_valgrind ? "time" : "count");
			else if (!strcmp(c->name, name))
				return c;
	return NULL;
}

static void run(const struct micro_case *c, unsigned ops)
{
	void *arg = c->begin();
	uint64_t begin;

	/* What happens only the first time is no part of it. */
	c->run(arg, MAX(1, ops / 8));
	begin = clock_mono_ns();
	CALLGRIND_START_INSTRUMENTATION;
	c->run(arg, ops);
	CALLGRIND_STOP_INSTRUMENTATION;
	printf("{\"case\": \"%s\", \"ops\": %u, \"ns\": %llu}\n", c->name, ops,
	       (unsigned long long)(clock_mono_ns() - begin));
	c->end(arg);
}

int main(int argc, char **argv)
{
	const struct micro_case *c;
	char *rest;
	unsigned long ops;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		find(NULL);
		return 0;
	}
	c = argc == 3 ? find(argv[1]) : NULL;
	ops = c ? strtoul(argv[2], &rest, 10) : 0;
	if (!c || *rest || ops < 1 || ops > 100000000) {
		fprintf(stderr, "usage: bench-micro --list | bench-micro CASE OPS\n");
		return 16;
	}
	run(c, (unsigned)ops);
	return 0;
}

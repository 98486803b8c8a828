// SPDX-License-Identifier: MIT
/* Names in a directory of NAMES. */
#include <stdio.h>
#include <stdlib.h>

#include "micro.h"

#define NAMES 10000u

struct names {
	struct micro_fs m;
	struct rng rng;
};

static size_t put_name(char *buf, size_t size, const char *prefix, uint64_t i)
{
	return (size_t)snprintf(buf, size, "%s-%llu", prefix, (unsigned long long)i);
}

static void create(struct names *n, const char *prefix, uint64_t i)
{
	struct fs_inode *ip;
	char name[32];
	const size_t len = put_name(name, sizeof(name), prefix, i);

	MUST(fs_mknod(&n->m.ctx, n->m.root, name, len, S_IFREG | 0644, 0, 0, &ip) == 0);
	fs_iput(ip);
}

static void *begin(void)
{
	struct names *n = calloc(1, sizeof(*n));

	MUST(n);
	micro_mount(&n->m, 256u << 20);
	rng_seed(&n->rng, 42);
	for (unsigned i = 0; i < NAMES; i++)
		create(n, "name", i);
	MUST(fs_quiesce(n->m.fs) == 0);
	return n;
}

static void end(void *arg)
{
	struct names *n = arg;

	micro_umount(&n->m);
	free(n);
}

static void lookup(void *arg, unsigned ops)
{
	struct names *n = arg;
	struct fs_inode *ip;
	char name[32];

	for (unsigned i = 0; i < ops; i++) {
		const size_t len = put_name(name, sizeof(name), "name", rng_below(&n->rng, NAMES));

		MUST(fs_lookup(&n->m.ctx, n->m.root, name, len, &ip) == 0);
		fs_iput(ip);
	}
}

static void create_unlink(void *arg, unsigned ops)
{
	struct names *n = arg;
	char name[32];

	for (unsigned i = 0; i < ops; i++) {
		create(n, "new", i);
		MUST(fs_unlink(&n->m.ctx, n->m.root, name, put_name(name, sizeof(name), "new", i)) == 0);
	}
	/* The inodes are freed in the background, which is a part of it. */
	MUST(fs_quiesce(n->m.fs) == 0);
}

static void rename_back(void *arg, unsigned ops)
{
	struct names *n = arg;
	char from[32], to[32];

	for (unsigned i = 0; i < ops; i++) {
		const uint64_t nr = rng_below(&n->rng, NAMES);
		const size_t a = put_name(from, sizeof(from), "name", nr);
		const size_t b = put_name(to, sizeof(to), "other", nr);

		MUST(fs_rename(&n->m.ctx, n->m.root, from, a, n->m.root, to, b, 0) == 0);
		MUST(fs_rename(&n->m.ctx, n->m.root, to, b, n->m.root, from, a, 0) == 0);
	}
}

static int count(void *arg, const char *name, size_t len, uint64_t ino, unsigned type, uint64_t cookie)
{
	++*(unsigned *)arg;
	return 0;
}

static void readdir_all(void *arg, unsigned ops)
{
	struct names *n = arg;

	for (unsigned i = 0; i < ops; i++) {
		unsigned seen = 0;

		MUST(fs_readdir(&n->m.ctx, n->m.root, 0, count, &seen) == 0);
		MUST(seen == NAMES + 2);
	}
}

const struct micro_case micro_names[] = {
	{"lookup", "fs_lookup in a directory of 10^4 names", 10000, begin, lookup, end},
	{"create-unlink", "fs_mknod and fs_unlink of a file there", 2000, begin, create_unlink, end},
	{"rename-2", "fs_rename there, and back", 1000, begin, rename_back, end},
	{"readdir-10000", "fs_readdir of all 10^4", 20, begin, readdir_all, end},
	{0},
};

// SPDX-License-Identifier: MIT
/* Mount options: one table, one row a word. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iomapfs/util.h"

/* The page caches of a mount that is asked for less than this could not hold one transaction. */
#define MIN_MEMORY_BYTES (8ull << 20)
#define MAX_COMMIT_SECONDS 300u
#define MAX_QUEUE_DEPTH 256u

struct parse {
	struct fz_options *o;
	const char *word;  /* "name" or "name=value" as given */
	const char *value; /* behind '=', or NULL */
	char *err;
	size_t err_size;
};

static int fail(struct parse *p, const char *why)
{
	snprintf(p->err, p->err_size, "option '%s': %s", p->word, why);
	return -EINVAL;
}

int fz_parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "kmgt";
	unsigned long long v;
	unsigned shift = 0;
	const char *u;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	if (*end) {
		u = strchr(units, tolower((unsigned char)*end));
		if (!u)
			return -EINVAL;
		shift = 10 * (unsigned)(u - units + 1);
		end++;
		/* "MiB" and "M" are the same; "MB" is not a power of two, so it is refused. */
		if (strcasecmp(end, "iB") != 0 && *end)
			return -EINVAL;
	}
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*out = (uint64_t)v << shift;
	return 0;
}

static int opt_ro(struct parse *p)
{
	p->o->fs.readonly = p->o->ro_given = true;
	return 0;
}

static int opt_rw(struct parse *p)
{
	p->o->fs.readonly = false;
	p->o->ro_given = true;
	return 0;
}

static int opt_relatime(struct parse *p)
{
	p->o->fs.atime = FS_ATIME_RELATIME;
	p->o->atime_given = true;
	return 0;
}

static int opt_noatime(struct parse *p)
{
	p->o->fs.atime = FS_ATIME_NOATIME;
	p->o->atime_given = true;
	return 0;
}

static int opt_nodiratime(struct parse *p)
{
	p->o->fs.nodiratime = true;
	p->o->atime_given = true;
	return 0;
}

static int opt_diratime(struct parse *p)
{
	p->o->fs.nodiratime = false;
	p->o->atime_given = true;
	return 0;
}

static int opt_strictatime(struct parse *p)
{
	return fail(p, "not supported: the kernel serves cached reads without telling us; "
		       "use relatime (the default) or noatime");
}

static int opt_suid(struct parse *p)
{
	p->o->suid = p->word[0] == 'n' ? FZ_OFF : FZ_ON;
	return 0;
}

static int opt_dev(struct parse *p)
{
	p->o->dev = p->word[0] == 'n' ? FZ_OFF : FZ_ON;
	return 0;
}

static int opt_exec(struct parse *p)
{
	p->o->exec = p->word[0] == 'n' ? FZ_OFF : FZ_ON;
	return 0;
}

static int opt_sync(struct parse *p)
{
	p->o->sync = p->word[0] == 's';
	return 0;
}

static int opt_dirsync(struct parse *p)
{
	p->o->dirsync = true;
	return 0;
}

/* user, users, owner and group imply these for whoever comes through fstab. */
static int opt_user(struct parse *p)
{
	p->o->suid = FZ_OFF;
	p->o->dev = FZ_OFF;
	if (strcmp(p->word, "owner") != 0 && strcmp(p->word, "group") != 0)
		p->o->exec = FZ_OFF;
	return 0;
}

static int opt_ignore(struct parse *p)
{
	return 0;
}

static int opt_allow_other(struct parse *p)
{
	p->o->allow_other = true;
	return 0;
}

static int opt_remount(struct parse *p)
{
	p->o->remount = true;
	return 0;
}

static int opt_norecovery(struct parse *p)
{
	p->o->fs.norecovery = true;
	return 0;
}

static int opt_discard(struct parse *p)
{
	p->o->fs.discard = p->word[0] == 'd';
	p->o->discard_given = true;
	return 0;
}

static int opt_dax(struct parse *p)
{
	p->o->fs.dax = true;
	return 0;
}

static int opt_kernel_cache(struct parse *p)
{
	if (!strcmp(p->value, "through"))
		p->o->cache = FZ_CACHE_THROUGH;
	else if (!strcmp(p->value, "writeback"))
		p->o->cache = FZ_CACHE_WRITEBACK;
	else if (!strcmp(p->value, "none"))
		p->o->cache = FZ_CACHE_NONE;
	else
		return fail(p, "expected through, writeback or none");
	return 0;
}

static int opt_memory(struct parse *p)
{
	uint64_t bytes;

	if (fz_parse_size(p->value, &bytes) < 0)
		return fail(p, "expected a size such as 256M or 2G");
	if (bytes < MIN_MEMORY_BYTES)
		return fail(p, "at least 8M is needed");
	p->o->fs.memory_bytes = bytes;
	return 0;
}

static int opt_commit(struct parse *p)
{
	unsigned long s;
	char *end;

	errno = 0;
	s = strtoul(p->value, &end, 10);
	if (errno || !isdigit((unsigned char)p->value[0]) || *end || s == 0 || s > MAX_COMMIT_SECONDS)
		return fail(p, "expected seconds from 1 to 300");
	p->o->fs.commit_interval_ms = (unsigned)s * 1000;
	p->o->commit_given = true;
	return 0;
}

static int opt_errors(struct parse *p)
{
	if (!strcmp(p->value, "remount-ro"))
		p->o->fs.errors = FS_ERRORS_REMOUNT_RO;
	else if (!strcmp(p->value, "continue"))
		p->o->fs.errors = FS_ERRORS_CONTINUE;
	else
		return fail(p, "expected remount-ro or continue");
	p->o->errors_given = true;
	return 0;
}

static int opt_transport(struct parse *p)
{
	if (!strcmp(p->value, "auto"))
		p->o->transport = FZ_TRANSPORT_AUTO;
	else if (!strcmp(p->value, "loop"))
		p->o->transport = FZ_TRANSPORT_LOOP;
	else if (!strcmp(p->value, "uring"))
		p->o->transport = FZ_TRANSPORT_URING;
	else
		return fail(p, "expected auto, uring or loop");
	return 0;
}

static int opt_queue_depth(struct parse *p)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(p->value, &end, 10);
	if (errno || !isdigit((unsigned char)p->value[0]) || *end || n == 0 || n > MAX_QUEUE_DEPTH)
		return fail(p, "expected requests from 1 to 256");
	p->o->queue_depth = (unsigned)n;
	return 0;
}

static int opt_sandbox(struct parse *p)
{
	if (p->word[0] == 'n')
		p->o->sandbox = FZ_SANDBOX_OFF;
	else if (!p->value)
		p->o->sandbox = FZ_SANDBOX_ON;
	else if (!strcmp(p->value, "log"))
		p->o->sandbox = FZ_SANDBOX_LOG;
	else
		return fail(p, "expected sandbox or sandbox=log");
	return 0;
}

/* arg: no value allowed, one required, or either. */
enum arg { ARG_NONE, ARG_NEEDED, ARG_ANY };

static const struct opt_row {
	const char *name;
	enum arg arg;
	int (*apply)(struct parse *p);
} rows[] = {
	{"ro", ARG_NONE, opt_ro},
	{"rw", ARG_NONE, opt_rw},
	{"relatime", ARG_NONE, opt_relatime},
	{"atime", ARG_NONE, opt_relatime},
	{"norelatime", ARG_NONE, opt_relatime},
	{"nostrictatime", ARG_NONE, opt_ignore},
	{"noatime", ARG_NONE, opt_noatime},
	{"nodiratime", ARG_NONE, opt_nodiratime},
	{"diratime", ARG_NONE, opt_diratime},
	{"strictatime", ARG_NONE, opt_strictatime},
	/* Times are kept in memory until the inode is written for another reason anyway. */
	{"lazytime", ARG_NONE, opt_ignore},
	{"nolazytime", ARG_NONE, opt_ignore},
	{"suid", ARG_NONE, opt_suid},
	{"nosuid", ARG_NONE, opt_suid},
	{"dev", ARG_NONE, opt_dev},
	{"nodev", ARG_NONE, opt_dev},
	{"exec", ARG_NONE, opt_exec},
	{"noexec", ARG_NONE, opt_exec},
	{"sync", ARG_NONE, opt_sync},
	{"async", ARG_NONE, opt_sync},
	{"dirsync", ARG_NONE, opt_dirsync},
	{"defaults", ARG_NONE, opt_ignore},
	{"remount", ARG_NONE, opt_remount},
	{"allow_other", ARG_NONE, opt_allow_other},
	/* Always on; said by people who are used to other FUSE mounts. */
	{"default_permissions", ARG_NONE, opt_ignore},
	{"acl", ARG_NONE, opt_ignore},
	{"user_xattr", ARG_NONE, opt_ignore},
	/* Words of fstab and mount(8) for others' eyes. */
	{"nofail", ARG_NONE, opt_ignore},
	{"auto", ARG_NONE, opt_ignore},
	{"noauto", ARG_NONE, opt_ignore},
	{"_netdev", ARG_NONE, opt_ignore},
	{"user", ARG_ANY, opt_user},
	{"users", ARG_NONE, opt_user},
	{"owner", ARG_NONE, opt_user},
	{"group", ARG_NONE, opt_user},
	{"nouser", ARG_NONE, opt_ignore},
	{"nousers", ARG_NONE, opt_ignore},
	{"noowner", ARG_NONE, opt_ignore},
	{"nogroup", ARG_NONE, opt_ignore},
	{"loop", ARG_ANY, opt_ignore},
	{"comment", ARG_NEEDED, opt_ignore},
	/* What the kernel says of a FUSE mount: a remount hands its words back to us. */
	{"user_id", ARG_NEEDED, opt_ignore},
	{"group_id", ARG_NEEDED, opt_ignore},
	{"blksize", ARG_NEEDED, opt_ignore},
	{"max_read", ARG_NEEDED, opt_ignore},
	{"helper", ARG_NEEDED, opt_ignore},
	{"uhelper", ARG_NEEDED, opt_ignore},
	/* Our own. */
	{"kernel_cache", ARG_NEEDED, opt_kernel_cache},
	{"memory", ARG_NEEDED, opt_memory},
	{"commit", ARG_NEEDED, opt_commit},
	{"errors", ARG_NEEDED, opt_errors},
	{"norecovery", ARG_NONE, opt_norecovery},
	{"dax", ARG_NONE, opt_dax},
	{"discard", ARG_NONE, opt_discard},
	{"nodiscard", ARG_NONE, opt_discard},
	{"transport", ARG_NEEDED, opt_transport},
	{"queue_depth", ARG_NEEDED, opt_queue_depth},
	{"sandbox", ARG_ANY, opt_sandbox},
	{"nosandbox", ARG_NONE, opt_sandbox},
};

static int apply_word(struct fz_options *o, char *word, char *err, size_t err_size)
{
	struct parse p = {.o = o, .word = word, .err = err, .err_size = err_size};
	size_t name_len = strcspn(word, "=");

	if (word[name_len] == '=')
		p.value = word + name_len + 1;
	if (!strncmp(word, "x-", 2) || !strncmp(word, "X-", 2))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (strlen(rows[i].name) != name_len || strncmp(rows[i].name, word, name_len) != 0)
			continue;
		if (rows[i].arg == ARG_NONE && p.value)
			return fail(&p, "takes no value");
		if (rows[i].arg == ARG_NEEDED && !p.value)
			return fail(&p, "needs a value");
		return rows[i].apply(&p);
	}
	return fail(&p, "unknown");
}

void fz_options_init(struct fz_options *o)
{
	memset(o, 0, sizeof(*o));
}

int fz_options_parse(struct fz_options *o, const char *list, char *err, size_t err_size)
{
	const char *s = list;
	char word[512];
	size_t n;
	int ret;

	while (*s) {
		/* A quoted value (SELinux contexts, comments) may hold commas. */
		bool quoted = false;

		for (n = 0; s[n] && (quoted || s[n] != ','); n++)
			if (s[n] == '"')
				quoted = !quoted;
		if (n >= sizeof(word)) {
			snprintf(err, err_size, "an option is longer than %zu bytes", sizeof(word) - 1);
			return -EINVAL;
		}
		memcpy(word, s, n);
		word[n] = '\0';
		s += n;
		if (*s == ',')
			s++;
		if (n == 0)
			continue;
		ret = apply_word(o, word, err, err_size);
		if (ret < 0)
			return ret;
	}
	return 0;
}

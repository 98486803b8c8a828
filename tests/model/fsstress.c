// SPDX-License-Identifier: MIT
/*
 * Random operations on names and attributes by several processes. Each owns a directory and a model
 * of it, so that every result, errors too, is known beforehand; the whole tree is compared again
 * and again. Beside them lies one directory that all of them change at once: nobody can know the
 * results there, only that no operation fails in a way that a race can't explain, and that link
 * counts add up once all is quiet.
 *
 * The parent starts rounds by a byte to each child, and runs the reopen command between rounds,
 * when no child has anything open.
 */
#include "seeded.h"

#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NR_NAMES    40
#define NR_XATTRS   6
#define MAX_XATTR   400   /* bytes of a value; all of them fit one 4 KiB block elsewhere, too */
#define MAX_FILE    65536 /* bytes */
#define MAX_ENTRIES 600
#define MAX_DEPTH   10
#define LOG_KEPT    50

struct node {
	mode_t mode; /* with the type */
	uid_t uid;
	gid_t gid;
	unsigned int nlink;
	uint64_t size; /* of a regular file, bytes; data past it is zero */
	uint8_t *data; /* MAX_FILE bytes, or NULL */
	char *target;  /* of a symbolic link */
	uint8_t *xattr[NR_XATTRS]; /* NULL: not there */
	size_t xattr_len[NR_XATTRS];
	bool mtime_known;
	struct timespec mtime;
	struct node *parent; /* of a directory */
};

/* A name in a directory. All of a process's entries sit in one array, in no order. */
struct entry {
	struct node *dir, *node;
	unsigned int name;
};

static struct {
	uint64_t seed, nr_ops, seconds, procs, reopen_every;
	const char *dir, *reopen_cmd;
} opt = { .procs = 4, .reopen_every = 2000 };

static struct rng rng;
static char base[PATH_MAX / 4], shared[PATH_MAX / 2];
static char names[NR_NAMES][256];
static struct entry entries[MAX_ENTRIES];
static unsigned int nr_entries;
static struct node *root;
static char root_path[PATH_MAX / 2];
static char oplog[LOG_KEPT][512];
static uint64_t op_nr;
static unsigned int child_nr;
static bool is_root;

__attribute__((noreturn, format(printf, 1, 2)))
static void fail(const char *fmt, ...)
{
	va_list ap;
	static char text[65536];
	int len = 0;

	va_start(ap, fmt);
	len += snprintf(text, sizeof(text), "# FAILED in process %u, operation %" PRIu64 ": ", child_nr,
			op_nr);
	len += vsnprintf(text + len, 16384, fmt, ap);
	va_end(ap);
	len += snprintf(text + len, 256, "\n# last operations of that process:\n");
	for (uint64_t n = op_nr > LOG_KEPT ? op_nr - LOG_KEPT : 0; n < op_nr; n++)
		len += snprintf(text + len, 600, "#   %8" PRIu64 " %s\n", n + 1, oplog[n % LOG_KEPT]);
	len += snprintf(text + len, 256, "# --seed %" PRIu64 " --procs %" PRIu64 "\n", opt.seed, opt.procs);
	/* One write: several processes may be failing. */
	if (write(STDOUT_FILENO, text, (size_t)len) < 0)
		_exit(2);
	_exit(1);
}

__attribute__((format(printf, 1, 2)))
static void note(const char *fmt, ...)
{
	char *line = oplog[op_nr++ % LOG_KEPT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(oplog[0]), fmt, ap);
	va_end(ap);
	while ((line = strchr(line, '\n'))) /* some names have one */
		*line = '?';
}

/* The call's result against the model's: 0, or an errno. */
static void expect(long ret, int want)
{
	int got = ret < 0 ? errno : 0;
	char *line = oplog[(op_nr - 1) % LOG_KEPT];
	size_t len = strlen(line);

	snprintf(line + len, sizeof(oplog[0]) - len, " = %s", got ? strerrorname_np(got) : "0");
	if (got != want)
		fail("%s: expected %s", line, want ? strerrorname_np(want) : "success");
}

/* ---- The model ---- */

static void make_names(void)
{
	for (unsigned int i = 0; i < NR_NAMES; i++) {
		int len = snprintf(names[i], sizeof(names[i]), i % 5 == 4 ? "n\xc3\xa4 %u\n" : "n%u", i);

		/* Some as long as a name may be, differing only at the front or only at the end. */
		if (i % 8 == 7) {
			memset(names[i] + len, 'x', 255 - (size_t)len);
			if (i % 16 == 15)
				snprintf(names[i], sizeof(names[i]), "%0254d%c", 0, 'A' + (int)i / 16);
		}
	}
}

static struct entry *find(const struct node *dir, unsigned int name)
{
	for (unsigned int i = 0; i < nr_entries; i++) {
		if (entries[i].dir == dir && entries[i].name == name)
			return &entries[i];
	}
	return NULL;
}

static struct entry *entry_of_dir(const struct node *dir)
{
	for (unsigned int i = 0; i < nr_entries; i++) {
		if (entries[i].node == dir)
			return &entries[i];
	}
	return NULL;
}

static bool is_empty(const struct node *dir)
{
	for (unsigned int i = 0; i < nr_entries; i++) {
		if (entries[i].dir == dir)
			return false;
	}
	return true;
}

static unsigned int depth_of(const struct node *dir)
{
	unsigned int depth = 0;

	for (; dir; dir = dir->parent)
		depth++;
	return depth;
}

/* True when @dir is @ancestor or lies below it. */
static bool is_below(const struct node *dir, const struct node *ancestor)
{
	while (dir && dir != ancestor)
		dir = dir->parent;
	return dir;
}

static unsigned int deepest_below(const struct node *node)
{
	unsigned int most = depth_of(node);

	for (unsigned int i = 0; i < nr_entries; i++) {
		unsigned int d = S_ISDIR(entries[i].node->mode) ? depth_of(entries[i].node) : 0;

		if (d > most && is_below(entries[i].node, node))
			most = d;
	}
	return most;
}

/* Three path buffers in turn: no call here needs more at once. */
static char *path_of(const struct node *dir, unsigned int name)
{
	static char buf[3][PATH_MAX];
	static unsigned int turn;
	char *end = buf[turn % 3] + PATH_MAX - 1, *p = end, *start = buf[turn % 3];
	size_t len;

	turn++;
	*p = '\0';
	if (name < NR_NAMES) {
		len = strlen(names[name]);
		p = memcpy(p - len, names[name], len);
		*--p = '/';
	}
	while (dir != root) {
		const struct entry *e = entry_of_dir(dir);

		len = strlen(names[e->name]);
		p = memcpy(p - len, names[e->name], len);
		*--p = '/';
		dir = e->dir;
	}
	len = strlen(root_path);
	p = memcpy(p - len, root_path, len);
	return memmove(start, p, (size_t)(end - p) + 1);
}

static void touch_dir(struct node *dir)
{
	dir->mtime_known = false;
}

static void free_node(struct node *n)
{
	for (int i = 0; i < NR_XATTRS; i++)
		free(n->xattr[i]);
	free(n->data);
	free(n->target);
	free(n);
}

static void insert(struct node *dir, unsigned int name, struct node *node)
{
	entries[nr_entries++] = (struct entry){ dir, node, name };
	touch_dir(dir);
	if (S_ISDIR(node->mode)) {
		node->parent = dir;
		dir->nlink++;
	}
}

/* Takes the name away; the node goes with its last one. */
static void drop(struct entry *e)
{
	struct node *n = e->node, *dir = e->dir;

	*e = entries[--nr_entries];
	touch_dir(dir);
	if (S_ISDIR(n->mode)) {
		dir->nlink--;
		n->nlink = 0;
	} else {
		n->nlink--;
	}
	if (!n->nlink)
		free_node(n);
}

static struct node *new_node(const struct node *dir, mode_t mode)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		fail("out of memory");
	n->mode = mode;
	n->nlink = S_ISDIR(mode) ? 2 : 1;
	n->uid = geteuid();
	n->gid = getegid();
	if (dir && dir->mode & S_ISGID) {
		n->gid = dir->gid;
		if (S_ISDIR(mode))
			n->mode |= S_ISGID;
	}
	if (S_ISREG(mode))
		n->data = calloc(1, MAX_FILE);
	return n;
}

static struct node *pick_dir(void)
{
	unsigned int start = (unsigned int)rng_below(&rng, MAX_ENTRIES);

	for (unsigned int i = 0; nr_entries && !rng_one_in(&rng, 6) && i < nr_entries; i++) {
		struct node *n = entries[(start + i) % nr_entries].node;

		if (S_ISDIR(n->mode))
			return n;
	}
	return root;
}

/* An entry of type @type (0: any), or NULL. */
static struct entry *pick_entry(mode_t type)
{
	unsigned int start = (unsigned int)rng_below(&rng, MAX_ENTRIES);

	for (unsigned int i = 0; i < nr_entries; i++) {
		struct entry *e = &entries[(start + i) % nr_entries];

		if (!type || (e->node->mode & S_IFMT) == type)
			return e;
	}
	return NULL;
}

static unsigned int pick_name(void)
{
	return (unsigned int)rng_below(&rng, NR_NAMES);
}

static mode_t pick_mode(bool dir)
{
	if (!is_root)
		return dir ? 0755 : 0644;
	/* Without group execution, set-group-ID means something else on some systems. */
	return (mode_t)rng_below(&rng, dir ? 010000 : 02000);
}

/* ---- Operations: the model says what must happen, then the call is made ---- */

static void op_create(void)
{
	static const mode_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO };
	mode_t type = types[rng_below(&rng, 7)], mode = pick_mode(type == S_IFDIR) & 01777;
	struct node *dir = pick_dir(), *n;
	unsigned int name = pick_name();
	char *path = path_of(dir, name), target[200];
	int want = find(dir, name) ? EEXIST : 0, fd;

	if (nr_entries >= MAX_ENTRIES || depth_of(dir) >= MAX_DEPTH)
		return;
	note("create %o %s", (unsigned int)(type | mode), path);
	memset(target, 't', sizeof(target));
	target[rng_log(&rng, sizeof(target) - 1)] = '\0';
	switch (type) {
	case S_IFREG:
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);
		expect(fd, want);
		if (fd >= 0 && close(fd))
			fail("close: %s", strerror(errno));
		break;
	case S_IFDIR:
		expect(mkdir(path, mode), want);
		break;
	case S_IFLNK:
		mode = 0777;
		expect(symlink(target, path), want);
		break;
	default:
		expect(mkfifo(path, mode), want);
	}
	if (want)
		return;
	n = new_node(dir, type | mode);
	n->target = type == S_IFLNK ? strdup(target) : NULL;
	insert(dir, name, n);
}

static void op_unlink(void)
{
	struct node *dir = pick_dir();
	unsigned int name = pick_name();
	struct entry *e = rng_one_in(&rng, 4) ? find(dir, name) : pick_entry(0);
	bool as_dir = rng_one_in(&rng, 6) ^ (e && S_ISDIR(e->node->mode));
	int want = ENOENT;
	char *path;

	if (e) {
		dir = e->dir;
		name = e->name;
		want = 0;
		if (S_ISDIR(e->node->mode))
			want = !as_dir ? EISDIR : is_empty(e->node) ? 0 : ENOTEMPTY;
		else if (as_dir)
			want = ENOTDIR;
	}
	path = path_of(dir, name);
	note("%s %s", as_dir ? "rmdir" : "unlink", path);
	if (!e && find(dir, name))
		return;
	expect(as_dir ? rmdir(path) : unlink(path), want);
	if (!want)
		drop(e);
}

static void op_link(void)
{
	struct entry *e = pick_entry(0);
	struct node *dir = pick_dir();
	unsigned int name = pick_name();
	int want;

	if (!e || nr_entries >= MAX_ENTRIES)
		return;
	want = find(dir, name) ? EEXIST : S_ISDIR(e->node->mode) ? EPERM : 0;
	note("link %s", path_of(e->dir, e->name));
	note("  to %s", path_of(dir, name));
	expect(link(path_of(e->dir, e->name), path_of(dir, name)), want);
	if (want)
		return;
	e->node->nlink++;
	insert(dir, name, e->node);
}

/* What rename must answer, in the order in which Linux looks. */
static int rename_result(const struct entry *from, const struct entry *to, const struct node *to_dir,
			 unsigned int flags)
{
	bool from_is_dir = S_ISDIR(from->node->mode), to_is_dir = to && S_ISDIR(to->node->mode);

	if (flags & RENAME_NOREPLACE && to)
		return EEXIST;
	if (flags & RENAME_EXCHANGE && !to)
		return ENOENT;
	if (from_is_dir && is_below(to_dir, from->node))
		return EINVAL;
	if (to_is_dir && is_below(from->dir, to->node))
		return flags & RENAME_EXCHANGE ? EINVAL : ENOTEMPTY;
	if (!to || from->node == to->node || flags & RENAME_EXCHANGE)
		return 0;
	if (from_is_dir && !to_is_dir)
		return ENOTDIR;
	if (!from_is_dir && to_is_dir)
		return EISDIR;
	return to_is_dir && !is_empty(to->node) ? ENOTEMPTY : 0;
}

static void model_exchange(struct entry *from, struct entry *to)
{
	struct node *a = from->node, *b = to->node;

	touch_dir(from->dir);
	touch_dir(to->dir);
	from->dir->nlink += (unsigned int)S_ISDIR(b->mode) - (unsigned int)S_ISDIR(a->mode);
	to->dir->nlink += (unsigned int)S_ISDIR(a->mode) - (unsigned int)S_ISDIR(b->mode);
	from->node = b;
	to->node = a;
	if (S_ISDIR(b->mode))
		b->parent = from->dir;
	if (S_ISDIR(a->mode))
		a->parent = to->dir;
}

static void op_rename(void)
{
	static const unsigned int kinds[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	unsigned int flags = kinds[rng_below(&rng, 5)], name = pick_name();
	struct entry *from = pick_entry(rng_one_in(&rng, 2) ? S_IFDIR : 0);
	struct entry *to = rng_one_in(&rng, 2) ? pick_entry(0) : NULL;
	struct node *dir = to ? to->dir : pick_dir(), *moved, *old_dir;
	unsigned int old_name;
	int want;

	if (!from)
		return;
	if (to)
		name = to->name;
	to = find(dir, name);
	moved = from->node;
	want = rename_result(from, to, dir, flags);
	/* Trees must not grow deeper than paths are long. */
	if (!want && (deepest_below(moved) + depth_of(dir) > MAX_DEPTH + 3 ||
		      (to && deepest_below(to->node) + depth_of(from->dir) > MAX_DEPTH + 3)))
		return;
	note("rename %#x %s", flags, path_of(from->dir, from->name));
	note("  to %s", path_of(dir, name));
	expect(renameat2(AT_FDCWD, path_of(from->dir, from->name), AT_FDCWD, path_of(dir, name), flags),
	       want);
	if (want || (to && to->node == moved))
		return;
	if (flags & RENAME_EXCHANGE) {
		model_exchange(from, to);
		return;
	}
	old_dir = from->dir;
	old_name = from->name;
	if (to) {
		drop(to); /* moves entries about */
		from = find(old_dir, old_name);
	}
	touch_dir(old_dir);
	touch_dir(dir);
	if (S_ISDIR(moved->mode)) {
		old_dir->nlink--;
		dir->nlink++;
		moved->parent = dir;
	}
	from->dir = dir;
	from->name = name;
}

static void op_chmod(void)
{
	struct entry *e = pick_entry(0);
	mode_t mode;

	if (!e || S_ISLNK(e->node->mode))
		return;
	mode = pick_mode(S_ISDIR(e->node->mode));
	note("chmod %o %s", (unsigned int)mode, path_of(e->dir, e->name));
	expect(chmod(path_of(e->dir, e->name), mode), 0);
	e->node->mode = (e->node->mode & S_IFMT) | mode;
}

static void op_chown(void)
{
	struct entry *e = pick_entry(0);
	uid_t uid = (uid_t)rng_below(&rng, 3000);
	gid_t gid = (gid_t)rng_below(&rng, 70000);

	if (!e || !is_root)
		return;
	note("chown %u:%u %s", uid, gid, path_of(e->dir, e->name));
	expect(lchown(path_of(e->dir, e->name), uid, gid), 0);
	e->node->uid = uid;
	e->node->gid = gid;
	if (!S_ISDIR(e->node->mode))
		e->node->mode &= ~(mode_t)S_ISUID;
}

static void op_utimens(void)
{
	struct entry *e = pick_entry(0);
	struct timespec ts[2];

	if (!e)
		return;
	for (int i = 0; i < 2; i++) {
		ts[i].tv_sec = (time_t)rng_below(&rng, 1ULL << 33);
		ts[i].tv_nsec = (long)rng_below(&rng, 1000000000);
	}
	note("utimens %s", path_of(e->dir, e->name));
	expect(utimensat(AT_FDCWD, path_of(e->dir, e->name), ts, AT_SYMLINK_NOFOLLOW), 0);
	e->node->mtime = ts[1];
	e->node->mtime_known = true;
}

static void op_xattr(void)
{
	struct entry *e = pick_entry(rng_one_in(&rng, 3) ? S_IFDIR : S_IFREG);
	unsigned int i = (unsigned int)rng_below(&rng, NR_XATTRS);
	int flags = rng_one_in(&rng, 3) ? (int)(1 + rng_below(&rng, 2)) : 0;
	size_t len = rng_below(&rng, MAX_XATTR);
	struct node *n;
	char name[16];
	uint8_t *value;

	if (!e)
		return;
	n = e->node;
	snprintf(name, sizeof(name), "user.a%u", i);
	if (rng_one_in(&rng, 3)) {
		note("removexattr %s %s", name, path_of(e->dir, e->name));
		expect(removexattr(path_of(e->dir, e->name), name), n->xattr[i] ? 0 : ENODATA);
		free(n->xattr[i]);
		n->xattr[i] = NULL;
		return;
	}
	value = malloc(len + 1);
	if (!value)
		fail("out of memory");
	memset(value, (int)op_nr, len + 1);
	note("setxattr %s flags %d %zu bytes %s", name, flags, len, path_of(e->dir, e->name));
	if (flags && (flags == XATTR_CREATE) == (n->xattr[i] != NULL)) {
		expect(setxattr(path_of(e->dir, e->name), name, value, len, flags),
		       flags == XATTR_CREATE ? EEXIST : ENODATA);
		free(value);
		return;
	}
	expect(setxattr(path_of(e->dir, e->name), name, value, len, flags), 0);
	free(n->xattr[i]);
	n->xattr[i] = value;
	n->xattr_len[i] = len;
}

static void op_truncate(void)
{
	struct entry *e = pick_entry(S_IFREG);
	uint64_t size = rng_one_in(&rng, 3) ? 0 : rng_below(&rng, MAX_FILE + 1);

	if (!e)
		return;
	note("truncate %" PRIu64 " %s", size, path_of(e->dir, e->name));
	expect(truncate(path_of(e->dir, e->name), (off_t)size), 0);
	if (size < e->node->size)
		memset(e->node->data + size, 0, e->node->size - size);
	e->node->size = size;
	e->node->mtime_known = false;
}

static void op_write(void)
{
	struct entry *e = pick_entry(S_IFREG);
	uint64_t len = rng_log(&rng, MAX_FILE), off = rng_below(&rng, MAX_FILE - len + 1);
	struct node *n;
	int fd;

	if (!e)
		return;
	n = e->node;
	note("write %" PRIu64 " at %" PRIu64 " %s", len, off, path_of(e->dir, e->name));
	fd = open(path_of(e->dir, e->name), O_WRONLY);
	if (fd < 0)
		fail("open: %s", strerror(errno));
	memset(n->data + off, (int)(op_nr % 255 + 1), len);
	if (pwrite(fd, n->data + off, len, (off_t)off) != (ssize_t)len)
		fail("write: %s", strerror(errno));
	if (rng_one_in(&rng, 20) && fsync(fd))
		fail("fsync: %s", strerror(errno));
	expect(close(fd), 0);
	if (off + len > n->size)
		n->size = off + len;
	n->mtime_known = false;
}

/* A file without a name lives on until it is closed. */
static void op_orphan(void)
{
	struct node *dir = pick_dir();
	unsigned int name = pick_name();
	char *path = path_of(dir, name), back[5000];
	struct stat st;
	int fd;

	if (find(dir, name))
		return;
	note("orphan %s", path);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
	if (fd < 0 || unlink(path))
		fail("open, unlink: %s", strerror(errno));
	memset(back, (int)op_nr, sizeof(back));
	if (pwrite(fd, back, sizeof(back), 3000) != sizeof(back))
		fail("write to an unlinked file: %s", strerror(errno));
	if (pread(fd, back, sizeof(back), 0) != sizeof(back) || back[2999] || back[3000] != (char)op_nr)
		fail("an unlinked file reads wrong");
	if (fstat(fd, &st) || st.st_nlink || st.st_size != 8000)
		fail("an unlinked file has %u links, %" PRIu64 " bytes", (unsigned int)st.st_nlink,
		     (uint64_t)st.st_size);
	expect(close(fd), 0);
	touch_dir(dir);
}

/* ---- Comparison of everything ---- */

static void check_stat(const struct node *n, const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		fail("lstat %s: %s", path, strerror(errno));
	if (st.st_mode != n->mode || st.st_uid != n->uid || st.st_gid != n->gid)
		fail("%s: mode %o owner %u:%u, expected %o %u:%u", path, st.st_mode, st.st_uid, st.st_gid,
		     n->mode, n->uid, n->gid);
	if (st.st_nlink != n->nlink)
		fail("%s: %u links, expected %u", path, (unsigned int)st.st_nlink, n->nlink);
	if (S_ISREG(n->mode) && (uint64_t)st.st_size != n->size)
		fail("%s: size %" PRIu64 ", expected %" PRIu64, path, (uint64_t)st.st_size, n->size);
	if (n->mtime_known && (st.st_mtim.tv_sec != n->mtime.tv_sec ||
			       st.st_mtim.tv_nsec != n->mtime.tv_nsec))
		fail("%s: mtime %lld.%09ld, expected %lld.%09ld", path, (long long)st.st_mtim.tv_sec,
		     st.st_mtim.tv_nsec, (long long)n->mtime.tv_sec, n->mtime.tv_nsec);
}

static void check_content(const struct node *n, const char *path)
{
	static uint8_t got[MAX_FILE + 1];
	char target[PATH_MAX];
	ssize_t len;
	int fd;

	if (S_ISLNK(n->mode)) {
		len = readlink(path, target, sizeof(target));
		if (len != (ssize_t)strlen(n->target) || memcmp(target, n->target, (size_t)len))
			fail("%s: wrong symlink target", path);
	}
	if (!S_ISREG(n->mode))
		return;
	fd = open(path, O_RDONLY);
	if (fd < 0)
		fail("open %s: %s", path, strerror(errno));
	len = pread(fd, got, sizeof(got), 0);
	if (len != (ssize_t)n->size)
		fail("%s: read %zd bytes, expected %" PRIu64, path, len, n->size);
	for (uint64_t i = 0; i < n->size; i++) {
		if (got[i] != n->data[i])
			fail("%s: byte %" PRIu64 " is %#x, expected %#x", path, i, got[i], n->data[i]);
	}
	close(fd);
}

static void check_xattrs(const struct node *n, const char *path)
{
	uint8_t got[MAX_XATTR + 1];
	char list[4096], name[16];
	unsigned int want = 0, found = 0;
	ssize_t len;

	for (unsigned int i = 0; i < NR_XATTRS; i++) {
		if (!n->xattr[i])
			continue;
		snprintf(name, sizeof(name), "user.a%u", i);
		want++;
		len = lgetxattr(path, name, got, sizeof(got));
		if (len != (ssize_t)n->xattr_len[i] || memcmp(got, n->xattr[i], (size_t)len))
			fail("%s: %s is wrong (%zd bytes, expected %zu)", path, name, len, n->xattr_len[i]);
	}
	len = llistxattr(path, list, sizeof(list));
	for (char *p = list; len > 0 && p < list + len; p += strlen(p) + 1)
		found += !strncmp(p, "user.", 5);
	if (found != want)
		fail("%s: %u user attributes listed, expected %u", path, found, want);
}

/* Exactly the model's names, each once. */
static void check_readdir(const struct node *dir)
{
	bool seen[NR_NAMES] = { false };
	char *path = path_of(dir, NR_NAMES);
	DIR *d = opendir(path);
	struct dirent *de;

	if (!d)
		fail("opendir %s: %s", path, strerror(errno));
	while ((errno = 0, de = readdir(d))) {
		unsigned int name = 0;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		while (name < NR_NAMES && strcmp(names[name], de->d_name))
			name++;
		if (name == NR_NAMES || !find(dir, name))
			fail("%s: readdir gives '%s', which is not there", path, de->d_name);
		if (seen[name])
			fail("%s: readdir gives '%s' twice", path, de->d_name);
		seen[name] = true;
		if (de->d_type != DT_UNKNOWN && de->d_type != IFTODT(find(dir, name)->node->mode))
			fail("%s: readdir gives '%s' type %d", path, de->d_name, de->d_type);
	}
	if (errno)
		fail("readdir %s: %s", path, strerror(errno));
	closedir(d);
	for (unsigned int i = 0; i < NR_NAMES; i++) {
		if (!seen[i] && find(dir, i))
			fail("%s: readdir misses '%s'", path, names[i]);
	}
}

static void check_node(const struct node *n, const char *path)
{
	check_stat(n, path);
	check_content(n, path);
	if (!S_ISLNK(n->mode) && !S_ISFIFO(n->mode))
		check_xattrs(n, path);
	if (S_ISDIR(n->mode))
		check_readdir(n);
}

static void check_tree(void)
{
	check_node(root, root_path);
	for (unsigned int i = 0; i < nr_entries; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s", path_of(entries[i].dir, entries[i].name));
		check_node(entries[i].node, path);
	}
}

static void op_check(void)
{
	struct entry *e = pick_entry(0);
	struct node *dir = pick_dir();
	unsigned int name = pick_name();
	struct stat st;

	note("check");
	if (e)
		check_node(e->node, path_of(e->dir, e->name));
	if (!find(dir, name))
		expect(lstat(path_of(dir, name), &st), ENOENT);
	check_readdir(dir);
}

/* ---- The shared directory ---- */

/* A name there: at the top, or in one of a few directories that come and go. */
static void shared_path(char *path, size_t size)
{
	unsigned int dir = (unsigned int)rng_below(&rng, 6), name = (unsigned int)rng_below(&rng, 20);

	if (dir < 4)
		snprintf(path, size, "%s/d%u/s%u", shared, dir, name);
	else
		snprintf(path, size, "%s/%c%u", shared, dir == 4 ? 's' : 'd', name % 8);
}

static long shared_file(const char *path, int flags)
{
	char text[3000];
	int fd = open(path, flags | O_NONBLOCK, 0600);
	long ret = fd;

	if (fd < 0)
		return fd;
	memset(text, 's', sizeof(text));
	if (flags & O_RDWR)
		ret = pwrite(fd, text, rng_log(&rng, sizeof(text)), (off_t)rng_below(&rng, 9000));
	else
		ret = read(fd, text, sizeof(text));
	close(fd);
	return ret;
}

static long shared_readdir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;

	if (!d)
		return -1;
	while ((errno = 0, de = readdir(d)))
		;
	if (errno)
		fail("readdir in the shared directory: %s", strerror(errno));
	return closedir(d);
}

static void op_shared(void)
{
	static const int races[] = { 0, ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, EPERM,
				     ELOOP, ENODATA };
	static const char *const kinds[] = { "create", "mkdir", "unlink", "rmdir", "rename", "link",
					     "symlink", "chmod", "xattr", "truncate", "readdir",
					     "read", "exchange" };
	char a[PATH_MAX], b[PATH_MAX];
	unsigned int kind = (unsigned int)rng_below(&rng, 13);
	long ret = 0;
	int err;

	shared_path(a, sizeof(a));
	shared_path(b, sizeof(b));
	note("shared %s %s %s", kinds[kind], a, b);
	switch (kind) {
	case 0: ret = shared_file(a, O_CREAT | O_RDWR); break;
	case 1: ret = mkdir(a, 0700); break;
	case 2: ret = unlink(a); break;
	case 3: ret = rmdir(a); break;
	case 4: ret = rename(a, b); break;
	case 5: ret = link(a, b); break;
	case 6: ret = symlink("s1", a); break;
	case 7: ret = chmod(a, (mode_t)(0600 + rng_below(&rng, 64))); break;
	case 8: ret = setxattr(a, "user.s", a, 100, 0); break;
	case 9: ret = truncate(a, (off_t)rng_below(&rng, 20000)); break;
	case 10: ret = shared_readdir(rng_one_in(&rng, 3) ? shared : a); break;
	case 11: ret = shared_file(a, O_RDONLY); break;
	default: ret = renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
	}
	err = ret < 0 ? errno : 0;
	for (size_t i = 0; i < sizeof(races) / sizeof(races[0]); i++) {
		if (races[i] == err)
			return;
	}
	fail("shared %s %s %s: %s", kinds[kind], a, b, strerror(err));
}

struct link_count {
	ino_t ino;
	unsigned int nlink, found;
};

/* When all is quiet: every entry is there, every file has as many names as links. */
static void check_shared(const char *path, struct link_count *table, unsigned int *nr)
{
	DIR *d = opendir(path);
	unsigned int subdirs = 0;
	struct dirent *de;
	struct stat st, self;

	if (!d || lstat(path, &self))
		fail("%s: %s", path, strerror(errno));
	while ((errno = 0, de = readdir(d))) {
		char sub[PATH_MAX];
		unsigned int i = 0;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name);
		if (lstat(sub, &st))
			fail("%s is listed, but: %s", sub, strerror(errno));
		if (S_ISDIR(st.st_mode)) {
			subdirs++;
			check_shared(sub, table, nr);
			continue;
		}
		while (i < *nr && table[i].ino != st.st_ino)
			i++;
		if (i == *nr) {
			if (*nr == 4096)
				fail("more files than names in the shared directory");
			table[(*nr)++] = (struct link_count){ st.st_ino, (unsigned int)st.st_nlink, 0 };
		}
		table[i].found++;
	}
	if (errno)
		fail("readdir %s: %s", path, strerror(errno));
	closedir(d);
	if (self.st_nlink != 2 + subdirs)
		fail("%s: %u links, %u directories in it", path, (unsigned int)self.st_nlink, subdirs);
}

static void check_shared_links(void)
{
	static struct link_count table[4096];
	unsigned int nr = 0;

	check_shared(shared, table, &nr);
	for (unsigned int i = 0; i < nr; i++) {
		if (table[i].found != table[i].nlink)
			fail("shared inode %" PRIu64 ": %u links, %u names", (uint64_t)table[i].ino,
			     table[i].nlink, table[i].found);
	}
}

/* ---- The run ---- */

static const struct operation {
	void (*fn)(void);
	unsigned int weight;
} operations[] = {
	{ op_create, 20 }, { op_unlink, 12 }, { op_link, 6 },     { op_rename, 14 }, { op_chmod, 4 },
	{ op_chown, 3 },   { op_utimens, 4 }, { op_xattr, 8 },	  { op_truncate, 4 }, { op_write, 10 },
	{ op_orphan, 2 },  { op_check, 4 },   { op_shared, 20 },
};

static void one_operation(void)
{
	unsigned int total = 0, pick, i = 0;

	for (size_t k = 0; k < sizeof(operations) / sizeof(operations[0]); k++)
		total += operations[k].weight;
	pick = (unsigned int)rng_below(&rng, total);
	while (pick >= operations[i].weight)
		pick -= operations[i++].weight;
	operations[i].fn();
}

/* A child: a byte in is a round to run, a byte out says that it is done. */
static void child_main(int sock, double end)
{
	char go;
	uint64_t done = 0;

	rng.state = opt.seed + (uint64_t)child_nr * 1000003;
	if (snprintf(root_path, sizeof(root_path), "%s/p%u", base, child_nr) >= (int)sizeof(root_path))
		fail("path too long");
	root = new_node(NULL, S_IFDIR | 0755);
	if (mkdir(root_path, 0755))
		fail("mkdir %s: %s", root_path, strerror(errno));
	while (read(sock, &go, 1) == 1) {
		check_tree();
		for (uint64_t n = 0; go == 'r' && n < opt.reopen_every; n++) {
			if ((opt.nr_ops && done >= opt.nr_ops) || now_seconds() >= end)
				go = 'e';
			else
				one_operation();
			done += go == 'r';
		}
		check_tree();
		if (write(sock, &go, 1) != 1)
			fail("the parent is gone");
	}
	for (unsigned int i = 0; nr_entries; i++) { /* leaves first */
		struct entry *e = &entries[i % nr_entries];

		if (!S_ISDIR(e->node->mode) || is_empty(e->node))
			drop(e);
	}
	free_node(root);
	exit(0);
}

/* Start a round in all children and wait for them: true when all have come to their end. */
static bool round_of(const int *socks, char go)
{
	bool ended = true;

	for (unsigned int i = 0; i < opt.procs; i++) {
		if (write(socks[i], &go, 1) != 1)
			return false;
	}
	for (unsigned int i = 0; i < opt.procs; i++) {
		char answer = 'x';

		if (read(socks[i], &answer, 1) != 1)
			fail("process %u has ended early", i + 1);
		ended = ended && answer == 'e';
	}
	check_shared_links();
	return ended;
}

static void reopen(void)
{
	int rc;

	if (!opt.reopen_cmd)
		return;
	fflush(stdout);
	rc = system(opt.reopen_cmd);
	if (rc)
		fail("'%s' ended with status %#x", opt.reopen_cmd, rc);
}

static void run(void)
{
	int socks[64], pair[2], status;
	double end = opt.seconds ? now_seconds() + (double)opt.seconds : 1e18;
	uint64_t rounds = 0;

	for (unsigned int i = 0; i < opt.procs; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			fail("socketpair: %s", strerror(errno));
		fflush(stdout);
		child_nr = i + 1;
		switch (fork()) {
		case -1:
			fail("fork: %s", strerror(errno));
		case 0:
			for (unsigned int k = 0; k < i; k++)
				close(socks[k]);
			close(pair[0]);
			child_main(pair[1], end);
		}
		close(pair[1]);
		socks[i] = pair[0];
	}
	child_nr = 0;
	while (!round_of(socks, 'r')) {
		rounds++;
		reopen();
	}
	reopen();
	round_of(socks, 'v');
	for (unsigned int i = 0; i < opt.procs; i++)
		close(socks[i]);
	while (wait(&status) > 0) {
		if (status)
			fail("a process ended with status %#x", status);
	}
	printf("# fsstress passed: %" PRIu64 " processes, %" PRIu64 " rounds\n", opt.procs, rounds + 1);
}

enum { OPT_SEED = 256, OPT_OPS, OPT_SECONDS, OPT_DIR, OPT_PROCS, OPT_REOPEN_CMD, OPT_REOPEN_EVERY };

static const struct argp_option options[] = {
	{ "seed", OPT_SEED, "N", 0, "Random seed (default: the clock); printed first", 0 },
	{ "ops", OPT_OPS, "N", 0, "Stop after N operations of each process", 0 },
	{ "seconds", OPT_SECONDS, "N", 0, "Stop after N seconds (default: 10 without --ops)", 0 },
	{ "procs", OPT_PROCS, "N", 0, "Processes, 1 to 64 (default: 4)", 0 },
	{ "dir", OPT_DIR, "DIR", 0, "Existing directory to work in (default: .)", 0 },
	{ "reopen-cmd", OPT_REOPEN_CMD, "CMD", 0, "Shell command to run between rounds", 0 },
	{ "reopen-every", OPT_REOPEN_EVERY, "N", 0, "Operations of a round (default: 2000)", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	uint64_t *number = NULL;

	switch (key) {
	case OPT_SEED: number = &opt.seed; break;
	case OPT_OPS: number = &opt.nr_ops; break;
	case OPT_SECONDS: number = &opt.seconds; break;
	case OPT_PROCS: number = &opt.procs; break;
	case OPT_REOPEN_EVERY: number = &opt.reopen_every; break;
	case OPT_DIR: opt.dir = arg; break;
	case OPT_REOPEN_CMD: opt.reopen_cmd = arg; break;
	default: return ARGP_ERR_UNKNOWN;
	}
	if (number && !parse_number(arg, number))
		argp_error(state, "'%s' is not a number", arg);
	if (!opt.procs || opt.procs > 64 || !opt.reopen_every)
		argp_error(state, "'%s' is out of range", arg);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL,
					  "Compare random name operations with a model in memory." };
	char real[PATH_MAX];

	opt.seed = (uint64_t)time(NULL);
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (!opt.nr_ops && !opt.seconds)
		opt.seconds = 10;
	printf("# fsstress seed %" PRIu64 "\n", opt.seed);
	is_root = geteuid() == 0;
	umask(0);
	make_names();
	if (!realpath(opt.dir ? opt.dir : ".", real) || chdir("/"))
		fail("%s: %s", opt.dir, strerror(errno));
	if (snprintf(base, sizeof(base), "%s/fsstress-%" PRIu64, real, opt.seed) >= (int)sizeof(base))
		fail("path too long");
	snprintf(shared, sizeof(shared), "%s/shared", base);
	if (mkdir(base, 0755) || mkdir(shared, 0755))
		fail("mkdir %s: %s", base, strerror(errno));
	run();
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * One system call from the shell: "sys [-u UID] [-g GID[,GID]...] [-U UMASK] CALL ARG..." prints its
 * result ("0", a number, fields of a stat) or the name of its errno ("ENOENT"). Several calls
 * in one process, so that descriptors live on, are separated by ":" ; the last result is printed.
 *
 * Descriptors opened by "open" and "openat" are numbered from 0 in that order: "@0", "@1".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ARG(i) ((i) < argc ? argv[i] : (usage("missing argument"), ""))
static int fds[64];
static int nr_fds;
static char text[70000]; /* result that is no number */

static void usage(const char *why)
{
	fprintf(stderr, "sys: %s\n", why);
	exit(16);
}

static long long num(const char *s)
{
	return strtoll(s, NULL, 0);
}

static mode_t octal(const char *s)
{
	return (mode_t)strtoul(s, NULL, 8);
}

static int fd_of(const char *s)
{
	int i;

	if (s[0] != '@')
		usage("a descriptor is written @N");
	i = (int)num(s + 1);
	return i < nr_fds ? fds[i] : -1;
}

struct flag {
	const char *name;
	long long value;
};

static long long flags_of(const struct flag *table, const char *s)
{
	char copy[256];
	long long v = 0;

	snprintf(copy, sizeof(copy), "%s", s);
	for (char *save, *w = strtok_r(copy, ",|", &save); w; w = strtok_r(NULL, ",|", &save)) {
		const struct flag *f = table;

		while (f->name && strcmp(f->name, w))
			f++;
		if (f->name)
			v |= f->value;
		else
			v |= num(w);
	}
	return v;
}

#define F(x) { #x, x }
static const struct flag open_flags[] = {
	F(O_RDONLY), F(O_WRONLY), F(O_RDWR), F(O_CREAT), F(O_EXCL), F(O_TRUNC), F(O_APPEND), F(O_DIRECTORY),
	F(O_NOFOLLOW), F(O_DIRECT), F(O_SYNC), F(O_DSYNC), F(O_PATH), F(O_TMPFILE), F(O_NONBLOCK),
	F(O_NOATIME), { NULL, 0 } };
static const struct flag rename_flags[] = { F(RENAME_NOREPLACE), F(RENAME_EXCHANGE), F(RENAME_WHITEOUT), { NULL, 0 } };
static const struct flag fallocate_flags[] = { F(FALLOC_FL_KEEP_SIZE), F(FALLOC_FL_PUNCH_HOLE),
					       F(FALLOC_FL_ZERO_RANGE), F(FALLOC_FL_COLLAPSE_RANGE),
					       F(FALLOC_FL_INSERT_RANGE), { NULL, 0 } };
static const struct flag xattr_flags[] = { F(XATTR_CREATE), F(XATTR_REPLACE), { NULL, 0 } };
static const struct flag whences[] = { F(SEEK_SET), F(SEEK_CUR), F(SEEK_END), F(SEEK_DATA), F(SEEK_HOLE), { NULL, 0 } };
static const struct flag access_flags[] = { F(R_OK), F(W_OK), F(X_OK), F(F_OK), { NULL, 0 } };

static const char *errno_name(int e)
{
	const char *n = strerrorname_np(e);

	return n ? n : "E?";
}

static char type_of(mode_t m)
{
	switch (m & S_IFMT) {
	case S_IFREG: return 'f';
	case S_IFDIR: return 'd';
	case S_IFLNK: return 'l';
	case S_IFIFO: return 'p';
	case S_IFSOCK: return 's';
	case S_IFCHR: return 'c';
	case S_IFBLK: return 'b';
	}
	return '?';
}

/* Fields of a stat, comma separated, as named in `want`. */
static void stat_text(const struct statx *st, const char *want)
{
	char copy[256];
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", want);
	for (char *save, *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", n ? "," : "");
#define FIELD(name, fmt, val) \
		if (!strcmp(w, name)) { n += (size_t)snprintf(text + n, sizeof(text) - n, fmt, val); continue; }
#define TIME(name, f) \
		if (!strcmp(w, name)) { n += (size_t)snprintf(text + n, sizeof(text) - n, "%lld.%09u", (long long)st->f.tv_sec, st->f.tv_nsec); continue; }
		FIELD("type", "%c", type_of(st->stx_mode))
		FIELD("mode", "%04o", st->stx_mode & 07777u)
		FIELD("uid", "%u", st->stx_uid)
		FIELD("gid", "%u", st->stx_gid)
		FIELD("nlink", "%u", st->stx_nlink)
		FIELD("size", "%llu", (unsigned long long)st->stx_size)
		FIELD("blocks", "%llu", (unsigned long long)st->stx_blocks)
		FIELD("ino", "%llu", (unsigned long long)st->stx_ino)
		FIELD("major", "%u", st->stx_rdev_major)
		FIELD("minor", "%u", st->stx_rdev_minor)
		TIME("atime", stx_atime)
		TIME("mtime", stx_mtime)
		TIME("ctime", stx_ctime)
		TIME("btime", stx_btime)
#undef FIELD
#undef TIME
		usage("unknown stat field");
	}
}

static struct timespec time_of(const char *s)
{
	struct timespec ts = { 0, 0 };
	const char *dot = strchr(s, '.');

	if (!strcmp(s, "now"))
		ts.tv_nsec = UTIME_NOW;
	else if (!strcmp(s, "omit"))
		ts.tv_nsec = UTIME_OMIT;
	else
		ts = (struct timespec){ num(s), dot ? (long)strtol(dot + 1, NULL, 10) : 0 };
	return ts;
}

static long long keep_fd(int fd)
{
	if (fd < 0)
		return -1;
	if (nr_fds == 64)
		usage("too many descriptors");
	fds[nr_fds++] = fd;
	return 0;
}

static long long do_bind(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	return bind(s, (struct sockaddr *)&sa, sizeof(sa));
}

static long long do_readdir(const char *path)
{
	DIR *d = opendir(path);
	long long n = 0;

	if (!d)
		return -1;
	errno = 0;
	while (readdir(d))
		n++;
	if (errno)
		n = -1;
	closedir(d);
	return n;
}

/* File system objects by path. */
static bool call_path(const char *c, int argc, char **argv, long long *r)
{
	if (!strcmp(c, "open"))
		*r = keep_fd(open(ARG(1), (int)flags_of(open_flags, ARG(2)), argc > 3 ? octal(argv[3]) : 0));
	else if (!strcmp(c, "create")) {
		int fd = open(ARG(1), O_CREAT | O_EXCL | O_WRONLY, octal(ARG(2)));

		*r = fd < 0 ? -1 : close(fd);
	} else if (!strcmp(c, "unlink"))
		*r = unlink(ARG(1));
	else if (!strcmp(c, "mkdir"))
		*r = mkdir(ARG(1), octal(ARG(2)));
	else if (!strcmp(c, "rmdir"))
		*r = rmdir(ARG(1));
	else if (!strcmp(c, "link"))
		*r = link(ARG(1), ARG(2));
	else if (!strcmp(c, "symlink"))
		*r = symlink(ARG(1), ARG(2));
	else if (!strcmp(c, "readlink")) {
		*r = readlink(ARG(1), text, sizeof(text) - 1);
		if (*r >= 0)
			text[*r] = '\0';
	} else if (!strcmp(c, "rename"))
		*r = rename(ARG(1), ARG(2));
	else if (!strcmp(c, "renameat2"))
		*r = renameat2(AT_FDCWD, ARG(1), AT_FDCWD, ARG(2), (unsigned)flags_of(rename_flags, ARG(3)));
	else if (!strcmp(c, "mkfifo"))
		*r = mkfifo(ARG(1), octal(ARG(2)));
	else if (!strcmp(c, "mknod")) {
		mode_t t = ARG(2)[0] == 'c' ? S_IFCHR : argv[2][0] == 'b' ? S_IFBLK : S_IFREG;

		*r = mknod(argv[1], t | octal(ARG(3)),
			   makedev((unsigned)num(ARG(4)), (unsigned)num(ARG(5))));
	} else if (!strcmp(c, "bind"))
		*r = do_bind(ARG(1));
	else if (!strcmp(c, "chmod"))
		*r = chmod(ARG(1), octal(ARG(2)));
	else if (!strcmp(c, "chown"))
		*r = chown(ARG(1), (uid_t)num(ARG(2)), (gid_t)num(ARG(3)));
	else if (!strcmp(c, "lchown"))
		*r = lchown(ARG(1), (uid_t)num(ARG(2)), (gid_t)num(ARG(3)));
	else if (!strcmp(c, "truncate"))
		*r = truncate(ARG(1), num(ARG(2)));
	else if (!strcmp(c, "access"))
		*r = faccessat(AT_FDCWD, ARG(1), (int)flags_of(access_flags, ARG(2)), AT_EACCESS);
	else if (!strcmp(c, "utimens")) {
		struct timespec ts[2] = { time_of(ARG(2)), time_of(ARG(3)) };

		*r = utimensat(AT_FDCWD, argv[1], ts, argc > 4 ? AT_SYMLINK_NOFOLLOW : 0);
	} else if (!strcmp(c, "readdir"))
		*r = do_readdir(ARG(1));
	else
		return false;
	return true;
}

static bool call_attr(const char *c, int argc, char **argv, long long *r)
{
	if (!strcmp(c, "stat") || !strcmp(c, "lstat")) {
		struct statx st;

		*r = statx(AT_FDCWD, ARG(1), c[0] == 'l' ? AT_SYMLINK_NOFOLLOW : 0, STATX_ALL, &st);
		if (*r == 0)
			stat_text(&st, ARG(2));
	} else if (!strcmp(c, "fstat")) {
		struct statx st;

		*r = statx(fd_of(ARG(1)), "", AT_EMPTY_PATH, STATX_ALL, &st);
		if (*r == 0)
			stat_text(&st, ARG(2));
	} else if (!strcmp(c, "setxattr")) {
		*r = lsetxattr(ARG(1), ARG(2), ARG(3), strlen(argv[3]),
			       argc > 4 ? (int)flags_of(xattr_flags, argv[4]) : 0);
	} else if (!strcmp(c, "setxattr-big")) {
		size_t n = (size_t)num(ARG(3));
		char *v = calloc(1, n + 1);

		memset(v, 'v', n);
		*r = lsetxattr(ARG(1), ARG(2), v, n, 0);
		free(v);
	} else if (!strcmp(c, "getxattr")) {
		*r = lgetxattr(ARG(1), ARG(2), text, argc > 3 ? (size_t)num(argv[3]) : sizeof(text) - 1);
		if (*r >= 0 && argc <= 3)
			text[*r] = '\0';
	} else if (!strcmp(c, "getxattr-size"))
		*r = lgetxattr(ARG(1), ARG(2), NULL, 0);
	else if (!strcmp(c, "listxattr")) {
		*r = llistxattr(ARG(1), text, sizeof(text) - 1);
		for (long long i = 0; i < *r; i++)
			if (!text[i])
				text[i] = i + 1 < *r ? ',' : '\0';
	} else if (!strcmp(c, "removexattr"))
		*r = lremovexattr(ARG(1), ARG(2));
	else if (!strcmp(c, "getflags") || !strcmp(c, "setflags")) {
		int fd = open(ARG(1), O_RDONLY | O_NONBLOCK);
		int v = argc > 2 ? (int)num(argv[2]) : 0;

		*r = fd < 0 ? -1 : ioctl(fd, c[0] == 'g' ? FS_IOC_GETFLAGS : FS_IOC_SETFLAGS, &v);
		if (*r == 0 && c[0] == 'g')
			snprintf(text, sizeof(text), "0x%x", v);
		if (fd >= 0)
			close(fd);
	} else
		return false;
	return true;
}

static long long do_read(int fd, size_t n, off_t off, bool at)
{
	static char buf[1 << 20];
	ssize_t r = at ? pread(fd, buf, n, off) : read(fd, buf, n);

	/* Contents as text, NULs as dots; long ones are only counted. */
	if (r >= 0 && r < 200) {
		for (ssize_t i = 0; i < r; i++)
			text[i] = buf[i] ? buf[i] : '.';
		text[r] = '\0';
	}
	return r;
}

static bool call_fd(const char *c, int argc, char **argv, long long *r)
{
	if (!strcmp(c, "close"))
		*r = close(fd_of(ARG(1)));
	else if (!strcmp(c, "write"))
		*r = write(fd_of(ARG(1)), ARG(2), strlen(argv[2]));
	else if (!strcmp(c, "pwrite"))
		*r = pwrite(fd_of(ARG(1)), ARG(2), strlen(argv[2]), num(ARG(3)));
	else if (!strcmp(c, "read"))
		*r = do_read(fd_of(ARG(1)), (size_t)num(ARG(2)), 0, false);
	else if (!strcmp(c, "pread"))
		*r = do_read(fd_of(ARG(1)), (size_t)num(ARG(2)), num(ARG(3)), true);
	else if (!strcmp(c, "ftruncate"))
		*r = ftruncate(fd_of(ARG(1)), num(ARG(2)));
	else if (!strcmp(c, "fchmod"))
		*r = fchmod(fd_of(ARG(1)), octal(ARG(2)));
	else if (!strcmp(c, "fchown"))
		*r = fchown(fd_of(ARG(1)), (uid_t)num(ARG(2)), (gid_t)num(ARG(3)));
	else if (!strcmp(c, "fsync"))
		*r = fsync(fd_of(ARG(1)));
	else if (!strcmp(c, "fdatasync"))
		*r = fdatasync(fd_of(ARG(1)));
	else if (!strcmp(c, "lseek"))
		*r = lseek(fd_of(ARG(1)), num(ARG(2)), (int)flags_of(whences, ARG(3)));
	else if (!strcmp(c, "fallocate"))
		*r = fallocate(fd_of(ARG(1)), (int)flags_of(fallocate_flags, ARG(2)), num(ARG(3)), num(ARG(4)));
	else if (!strcmp(c, "copy_file_range")) {
		loff_t in = num(ARG(2)), out = num(ARG(4));

		*r = copy_file_range(fd_of(ARG(1)), &in, fd_of(ARG(3)), &out, (size_t)num(ARG(5)), 0);
	} else if (!strcmp(c, "linkat-fd")) { /* give an O_TMPFILE a name */
		char path[64];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd_of(ARG(1)));
		*r = linkat(AT_FDCWD, path, AT_FDCWD, ARG(2), AT_SYMLINK_FOLLOW);
	} else if (!strcmp(c, "mmap-store")) { /* FD OFFSET TEXT: through a shared mapping, no msync */
		size_t off = (size_t)num(ARG(2)), base = off & ~4095ul, len = strlen(ARG(3));
		char *p = mmap(NULL, off - base + len, PROT_READ | PROT_WRITE, MAP_SHARED, fd_of(ARG(1)),
			       (off_t)base);

		*r = p == MAP_FAILED ? -1 : 0;
		if (!*r)
			memcpy(p + (off - base), argv[3], len);
	} else if (!strcmp(c, "sleep")) {
		*r = usleep((useconds_t)(num(ARG(1)) * 1000));
	} else
		return false;
	return true;
}

static long long one_call(int argc, char **argv)
{
	long long r = -1;

	text[0] = '\0';
	errno = 0;
	if (!call_path(argv[0], argc, argv, &r) && !call_attr(argv[0], argc, argv, &r) &&
	    !call_fd(argv[0], argc, argv, &r))
		usage("unknown call");
	return r;
}

static void become(const char *uid, const char *gids)
{
	gid_t list[32];
	int n = 0;
	char copy[256];

	snprintf(copy, sizeof(copy), "%s", gids);
	for (char *save, *w = strtok_r(copy, ",", &save); w && n < 32; w = strtok_r(NULL, ",", &save))
		list[n++] = (gid_t)num(w);
	if (n && (setgroups((size_t)n, list) || setresgid(list[0], list[0], list[0])))
		usage("setgroups");
	if (uid && setresuid((uid_t)num(uid), (uid_t)num(uid), (uid_t)num(uid)))
		usage("setresuid");
}

int main(int argc, char **argv)
{
	const char *uid = NULL, *gids = "";
	long long r = 0;
	int opt, at;

	umask(022);
	while ((opt = getopt(argc, argv, "+u:g:U:")) != -1) {
		if (opt == 'u')
			uid = optarg;
		else if (opt == 'g')
			gids = optarg;
		else if (opt == 'U')
			umask(octal(optarg));
		else
			usage("options: -u UID -g GIDS -U UMASK");
	}
	if (uid || *gids)
		become(uid, *gids ? gids : uid);
	for (at = optind; at < argc;) {
		int end = at;

		while (end < argc && strcmp(argv[end], ":"))
			end++;
		r = one_call(end - at, argv + at);
		if (r < 0) /* the first failure is the answer */
			break;
		at = end + 1;
	}
	if (r < 0)
		puts(errno_name(errno));
	else if (text[0])
		puts(text);
	else
		printf("%lld\n", r);
	return 0;
}

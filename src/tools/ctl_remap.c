// SPDX-License-Identifier: MIT
/* iomapctl: clone, dedupe, collapse, insert, unshare, write: calls that the kernel keeps from a mount. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "iomapfs/ioctl.h"

/* A kernel that caches writes keeps its own size of a file: tell it. */
static int settle_size(int fd, uint64_t size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return errno;
	if ((uint64_t)st.st_size == size)
		return 0;
	return ftruncate(fd, (off_t)size) < 0 ? errno : 0;
}

/* EINVAL has many reasons; `rule` names those of this command. */
static int fail_with_rule(int fd, const char *path, int error, const char *rule)
{
	struct iomapfs_ioc_info i = {0};

	if (error == EOPNOTSUPP) {
		fprintf(stderr, "iomapctl: %s: this file system cannot do that (was it made "
				"without shared blocks? see tune --reflink)\n", path);
		return CTL_FAIL;
	}
	if (error != EINVAL || ioctl(fd, IOMAPFS_IOC_INFO, &i) < 0)
		return ctl_fail(path, error);
	fprintf(stderr, "iomapctl: %s: %s; a block has %u bytes\n", path, rule, i.block_size);
	return CTL_FAIL;
}

/* ---- collapse, insert, unshare ------------------------------------------------------------- */

static int number(const char *command, const char *arg, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(arg, &end, 0);
	if (!errno && end != arg && !*end && arg[0] != '-')
		return 0;
	fprintf(stderr, "iomapctl: %s: '%s' is no number\n", command, arg);
	return -1;
}

static int falloc(const struct ctl_opts *o, const char *path, const char *command, uint32_t mode,
		  const char *rule)
{
	struct iomapfs_ioc_falloc a = {.mode = mode};
	int fd, err = 0, ret = CTL_OK;

	if (o->nr_args != 2) {
		fprintf(stderr, "iomapctl: usage: iomapctl %s FILE OFFSET LENGTH\n", command);
		return CTL_USAGE;
	}
	if (number(command, o->args[0], &a.offset) || number(command, o->args[1], &a.length))
		return CTL_USAGE;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return ctl_fail(path, errno);
	if (ioctl(fd, IOMAPFS_IOC_FALLOCATE, &a) < 0)
		ret = fail_with_rule(fd, path, errno, rule);
	else
		err = settle_size(fd, a.size);
	close(fd);
	return err ? ctl_fail(path, err) : ret;
}

int ctl_collapse(const struct ctl_opts *o, const char *path)
{
	return falloc(o, path, "collapse", FALLOC_FL_COLLAPSE_RANGE,
		      "OFFSET and LENGTH must be whole blocks, and the range must end before the "
		      "end of the file");
}

int ctl_insert(const struct ctl_opts *o, const char *path)
{
	return falloc(o, path, "insert", FALLOC_FL_INSERT_RANGE,
		      "OFFSET and LENGTH must be whole blocks, and OFFSET must be inside the file");
}

int ctl_unshare(const struct ctl_opts *o, const char *path)
{
	return falloc(o, path, "unshare", FALLOC_FL_UNSHARE_RANGE, "OFFSET and LENGTH must be in range");
}

/* ---- clone, dedupe ---------------------------------------------------------------------------- */

struct pair {
	const char *from_path, *to_path;
	int from, to;
	struct iomapfs_token token;
};

static void pair_close(struct pair *p)
{
	if (p->from >= 0)
		close(p->from);
	if (p->to >= 0)
		close(p->to);
}

/* Both files, on one mount; 0 or an exit code. */
static int pair_open(struct pair *p, const struct ctl_opts *o, const char *command, const char *path,
		     int to_flags)
{
	struct iomapfs_ioc_handle h = {0};
	struct stat a, b;

	*p = (struct pair){.from_path = path, .from = -1, .to = -1};
	if (o->nr_args != 1) {
		fprintf(stderr, "iomapctl: usage: iomapctl %s SOURCE TARGET\n", command);
		return CTL_USAGE;
	}
	p->to_path = o->args[0];
	p->from = open(path, O_RDONLY | O_CLOEXEC);
	if (p->from < 0 || fstat(p->from, &a) < 0)
		return ctl_fail(path, errno);
	if (ioctl(p->from, IOMAPFS_IOC_HANDLE, &h) < 0)
		return ctl_fail(path, errno);
	p->token = h.token;
	p->to = open(p->to_path, to_flags | O_CLOEXEC, 0666);
	if (p->to < 0 || fstat(p->to, &b) < 0)
		return ctl_fail(p->to_path, errno);
	if (a.st_dev == b.st_dev)
		return 0;
	fprintf(stderr, "iomapctl: %s: not on the file system of %s\n", p->to_path, path);
	return CTL_FAIL;
}

static const char clone_rule[] =
	"offsets and length must be whole blocks (but for the end of the source, at or behind the "
	"target's end), and the ranges of one file must not overlap";

int ctl_clone(const struct ctl_opts *o, const char *path)
{
	struct iomapfs_ioc_clone a = {.source_offset = o->src_offset, .offset = o->dst_offset,
				      .length = o->length == UINT64_MAX ? 0 : o->length};
	struct pair p;
	int ret, err = 0;

	ret = pair_open(&p, o, "clone", path, O_WRONLY | O_CREAT);
	if (!ret && o->length == 0) {
		fprintf(stderr, "iomapctl: clone: --length 0 clones nothing; leave it out for all\n");
		ret = CTL_USAGE;
	}
	if (!ret) {
		a.source = p.token;
		if (ioctl(p.to, IOMAPFS_IOC_CLONE, &a) < 0)
			ret = fail_with_rule(p.to, p.to_path, errno, clone_rule);
		else
			err = settle_size(p.to, a.size);
	}
	pair_close(&p);
	return err ? ctl_fail(p.to_path, err) : ret;
}

/* Piece by piece; bytes shared in *done. 0, errno, or -1: the contents differ. */
static int dedupe(const struct pair *p, const struct ctl_opts *o, uint64_t length, uint64_t *done)
{
	while (*done < length) {
		struct iomapfs_ioc_dedupe a = {.source = p->token,
					       .source_offset = o->src_offset + *done,
					       .offset = o->dst_offset + *done,
					       .length = length - *done};

		if (ioctl(p->to, IOMAPFS_IOC_DEDUPE, &a) < 0)
			return errno;
		if (a.differs)
			return -1;
		if (a.deduped == 0)
			break;
		*done += a.deduped;
	}
	return 0;
}

int ctl_dedupe(const struct ctl_opts *o, const char *path)
{
	uint64_t length = o->length, done = 0;
	struct stat st;
	struct pair p;
	int ret, err = 0;

	/* Not for writing: who owns the target may. */
	ret = pair_open(&p, o, "dedupe", path, O_RDONLY);
	if (!ret && fstat(p.from, &st) < 0)
		err = errno;
	if (!ret && !err) {
		const uint64_t size = (uint64_t)st.st_size;

		if (length == UINT64_MAX)
			length = o->src_offset < size ? size - o->src_offset : 0;
		err = dedupe(&p, o, length, &done);
	}
	if (err < 0) {
		fprintf(stderr, "iomapctl: %s: its contents differ from those of %s within %u bytes from %"
				PRIu64 "\n", p.to_path, path, IOMAPFS_DEDUPE_MAX, o->dst_offset + done);
		ret = CTL_FAIL;
	} else if (err) {
		ret = fail_with_rule(p.to, p.to_path, err, clone_rule);
	}
	if (!ret && o->json)
		ret = ctl_print_json(json_pack("{s:I}", "deduped_bytes", (json_int_t)done));
	else if (!ret)
		printf("%" PRIu64 " bytes deduped\n", done);
	pair_close(&p);
	return ret;
}

/* ---- write ------------------------------------------------------------------------------------ */

/* All of standard input, in memory that begins on a page. */
static void *read_input(size_t max, size_t *len)
{
	uint8_t *buf = NULL;
	ssize_t n;

	*len = 0;
	if (posix_memalign((void **)&buf, 4096, max + 1))
		return NULL;
	do {
		n = read(STDIN_FILENO, buf + *len, max + 1 - *len);
		if (n > 0)
			*len += (size_t)n;
	} while (*len <= max && (n > 0 || (n < 0 && errno == EINTR)));
	if (n >= 0)
		return buf;
	free(buf);
	return NULL;
}

static int write_all(int fd, const uint8_t *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		done += (size_t)n;
	}
	return 0;
}

#define WRITE_MAX (64u << 20)

/* One request, or none: the kernel must not cut it. */
static int write_atomic(int fd, const char *path, const uint8_t *buf, size_t len, uint64_t offset)
{
	struct iomapfs_ioc_atomic l = {0};
	ssize_t n;

	if (ioctl(fd, IOMAPFS_IOC_ATOMIC, &l) < 0)
		return ctl_fail(path, errno);
	l.unit_max = l.unit_max < l.request_max ? l.unit_max : l.request_max;
	if (len < l.unit_min || len > l.unit_max || (len & (len - 1)) || offset % len) {
		fprintf(stderr, "iomapctl: %s: %zu bytes at %" PRIu64 ": an untorn write here has %u to "
				"%u bytes, a power of two, at a multiple of it\n",
			path, len, offset, l.unit_min, l.unit_max);
		return CTL_FAIL;
	}
	n = pwrite(fd, buf, len, (off_t)offset);
	if (n >= 0 && (size_t)n != len)
		errno = EIO;
	return (size_t)n == len ? CTL_OK : ctl_fail(path, errno);
}

int ctl_write(const struct ctl_opts *o, const char *path)
{
	struct iomapfs_ioc_ioflags f = {.flags = (o->atomic ? IOMAPFS_IO_ATOMIC : 0) |
						 (o->dontcache ? IOMAPFS_IO_DONTCACHE : 0)};
	uint64_t offset;
	int fd, err, ret;
	size_t len;
	void *buf;

	if (o->nr_args != 1) {
		fprintf(stderr, "iomapctl: usage: iomapctl write FILE OFFSET "
				"[--atomic|--dontcache] <DATA\n");
		return CTL_USAGE;
	}
	if (number("write", o->args[0], &offset))
		return CTL_USAGE;
	if (o->atomic && o->dontcache) {
		fprintf(stderr, "iomapctl: write: --atomic writes past every cache; leave out --dontcache\n");
		return CTL_USAGE;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (o->atomic ? O_DIRECT : 0), 0666);
	if (fd < 0)
		return ctl_fail(path, errno);
	ret = ioctl(fd, IOMAPFS_IOC_IOFLAGS, &f) < 0 ?
		      fail_with_rule(fd, path, errno, "not for this file") : CTL_OK;
	buf = ret ? NULL : read_input(WRITE_MAX, &len);
	if (!ret && !buf)
		ret = ctl_fail("standard input", errno);
	if (!ret && len > WRITE_MAX) {
		fprintf(stderr, "iomapctl: write: at most %u bytes at once\n", WRITE_MAX);
		ret = CTL_FAIL;
	} else if (!ret && o->atomic) {
		ret = write_atomic(fd, path, buf, len, offset);
	} else if (!ret) {
		err = write_all(fd, buf, len, offset);
		ret = err ? ctl_fail(path, err) : CTL_OK;
	}
	free(buf);
	if (close(fd) < 0 && !ret)
		ret = ctl_fail(path, errno);
	return ret;
}

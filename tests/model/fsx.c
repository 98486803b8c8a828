// SPDX-License-Identifier: MIT
/*
 * Random data operations on two files of a mounted file system, compared byte by byte with a
 * model in memory. One thread: the next operation starts when the last one has returned, so every
 * byte read has exactly one right value, whatever the way (read, mapping, direct) it was written.
 *
 * Model invariant: model bytes at and past the file's size are zero. Growing a file is then just
 * raising the size, and what it exposes must read as zero.
 */
#include "seeded.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum fd_kind { FD_RW, FD_APPEND, FD_DIRECT, FD_DSYNC, NR_FD_KINDS };

static const int fd_flags[NR_FD_KINDS] = {
	[FD_RW] = O_RDWR,
	[FD_APPEND] = O_RDWR | O_APPEND,
	[FD_DIRECT] = O_RDWR | O_DIRECT,
	[FD_DSYNC] = O_RDWR | O_DSYNC,
};

struct file {
	char path[PATH_MAX];
	uint8_t *data;        /* the model: opt.max_size bytes */
	uint64_t size;        /* the model's size, bytes */
	int fd[NR_FD_KINDS];  /* opened when first wanted, or -1 */
	uint8_t *map;         /* a mapping kept from an earlier operation, or NULL */
	uint64_t map_off, map_len;
};

struct log_entry {
	uint64_t nr;
	const char *name;
	int file;
	uint64_t off, len;
	int64_t ret;         /* what the call returned, or the negative errno */
	uint64_t size_after; /* model size after it, bytes */
};

#define LOG_KEPT  65536
#define LOG_SHOWN 50
#define MAX_IO	  (256 * 1024)

static struct {
	uint64_t seed, nr_ops, seconds, max_size, reopen_every;
	const char *dir, *reopen_cmd;
	bool no_mmap, no_direct, enospc;
} opt = { .max_size = 2 << 20, .reopen_every = 2000 };

static struct rng rng;
static struct file files[2];
static struct log_entry oplog[LOG_KEPT];
static struct log_entry *op; /* the running operation */
static uint64_t op_nr, nr_refused, nr_enospc, nr_reopened;
static uint8_t *scratch;     /* MAX_IO + slack, page-aligned: payloads */
static uint8_t *result;      /* max_size + a page: what reads return */
static uint64_t page_size;

/* ---- Reports ---- */

static void print_entry(const struct log_entry *e)
{
	printf("#   %8" PRIu64 " %-12s file %d off %#9" PRIx64 " len %#8" PRIx64 " = %-8" PRId64
	       " size %#" PRIx64 "\n",
	       e->nr, e->name, e->file, e->off, e->len, e->ret, e->size_after);
}

static void print_log(int file, int64_t at)
{
	uint64_t first = op_nr > LOG_KEPT ? op_nr - LOG_KEPT : 0;
	uint64_t shown = op_nr > LOG_SHOWN ? op_nr - LOG_SHOWN : 0;
	unsigned int hits = 0;

	if (at >= 0) {
		printf("# last operations over that offset, newest first:\n");
		for (uint64_t n = op_nr; n > first && hits < 10; n--) {
			const struct log_entry *e = &oplog[(n - 1) % LOG_KEPT];

			if (e->file == file && e->off <= (uint64_t)at && (uint64_t)at < e->off + e->len) {
				print_entry(e);
				hits++;
			}
		}
	}
	printf("# last %d operations:\n", LOG_SHOWN);
	for (uint64_t n = shown; n < op_nr; n++)
		print_entry(&oplog[n % LOG_KEPT]);
	printf("# files and seed: %s, --seed %" PRIu64 " --max-size %" PRIu64 "\n", files[0].path,
	       opt.seed, opt.max_size);
	fflush(stdout);
}

__attribute__((noreturn, format(printf, 3, 4)))
static void fail_at(int file, int64_t at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# FAILED in operation %" PRIu64 " (%s): ", op_nr, op ? op->name : "start");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	print_log(file, at);
	exit(1);
}
#define fail(...) fail_at(-1, -1, __VA_ARGS__)

static int nr_of(const struct file *f)
{
	return (int)(f - files);
}

static void print_bytes(const char *what, const uint8_t *p, uint64_t len)
{
	printf("#   %-8s", what);
	for (uint64_t i = 0; i < len && i < 32; i++)
		printf(" %02x", p[i]);
	printf("\n");
}

/* What was read of [@off, @off + @len) must be the model's bytes. */
static void compare(struct file *f, uint64_t off, uint64_t len, const uint8_t *got, const char *how)
{
	const uint8_t *want = f->data + off;
	uint64_t first = 0, last, differ = 0;

	if (!memcmp(want, got, len))
		return;
	while (want[first] == got[first])
		first++;
	last = first;
	for (uint64_t i = first; i < len; i++) {
		if (want[i] != got[i]) {
			last = i;
			differ++;
		}
	}
	printf("# %s of file %d: %" PRIu64 " bytes differ, offsets %#" PRIx64 " to %#" PRIx64 "\n",
	       how, nr_of(f), differ, off + first, off + last);
	print_bytes("expected", want + first, len - first);
	print_bytes("got", got + first, len - first);
	fail_at(nr_of(f), (int64_t)(off + first), "wrong data");
}

/* A store or load that the file system could not serve. */
static void on_sigbus(int sig)
{
	static const char text[] = "# SIGBUS within the file's size\n";

	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	print_log(op ? op->file : -1, -1);
	_exit(1);
}

/* ---- Descriptors and mappings ---- */

static int get_fd(struct file *f, enum fd_kind kind)
{
	if (f->fd[kind] < 0) {
		f->fd[kind] = open(f->path, fd_flags[kind]);
		if (f->fd[kind] < 0 && kind == FD_DIRECT && errno == EINVAL) {
			opt.no_direct = true;
			return -1;
		}
		if (f->fd[kind] < 0)
			fail("open %s: %s", f->path, strerror(errno));
	}
	return f->fd[kind];
}

static void unmap(struct file *f)
{
	if (f->map && munmap(f->map, f->map_len))
		fail("munmap: %s", strerror(errno));
	f->map = NULL;
}

static void close_all(struct file *f)
{
	/* Either order is legal: a mapping outlives its descriptor. */
	bool map_last = rng_one_in(&rng, 2);

	if (!map_last)
		unmap(f);
	for (int k = 0; k < NR_FD_KINDS; k++) {
		if (f->fd[k] >= 0 && close(f->fd[k]))
			fail("close: %s", strerror(errno));
		f->fd[k] = -1;
	}
	unmap(f);
}

/* ---- Choices ---- */

static uint64_t clip(uint64_t off, uint64_t len, uint64_t end)
{
	return off >= end ? 0 : off + len > end ? end - off : len;
}

/* Anywhere, near a block boundary, or near the end of the file: where the mistakes are. */
static uint64_t pick_offset(const struct file *f)
{
	static const uint32_t steps[] = { 512, 1024, 4096, 16384, 65536 };
	uint64_t off;

	switch (rng_below(&rng, 4)) {
	case 0:
		off = rng_below(&rng, opt.max_size);
		break;
	case 1:
		off = rng_below(&rng, opt.max_size);
		off -= off % steps[rng_below(&rng, 5)];
		if (rng_one_in(&rng, 2))
			off += rng_below(&rng, 7);
		else if (off >= 3)
			off -= rng_below(&rng, 4);
		break;
	case 2:
		off = f->size + rng_below(&rng, 8192);
		off -= off < 4096 ? off : 4096;
		break;
	default:
		off = f->size ? rng_below(&rng, f->size) : 0;
	}
	return off < opt.max_size ? off : opt.max_size - 1;
}

static uint64_t pick_length(void)
{
	uint64_t len = rng_log(&rng, MAX_IO);

	if (rng_one_in(&rng, 3))
		len = (len + 4095) & ~4095ULL;
	return len > MAX_IO ? MAX_IO : len;
}

/* Sets the running operation's range, all of it below max_size; the length is not 0. */
static void pick_range(struct file *f)
{
	op->off = pick_offset(f);
	op->len = clip(op->off, pick_length(), opt.max_size);
}

/* A payload that says which operation wrote it: even bytes its number, odd ones the place. */
static void fill(uint8_t *p, uint64_t off, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++)
		p[i] = (off + i) & 1 ? (uint8_t)((off + i) >> 1 ^ op_nr >> 8) : (uint8_t)(op_nr | 1);
}

/* ---- The model's side ---- */

static void model_write(struct file *f, uint64_t off, uint64_t len, const uint8_t *p)
{
	memmove(f->data + off, p, len);
	if (len && off + len > f->size)
		f->size = off + len;
}

static void model_zero(struct file *f, uint64_t off, uint64_t len)
{
	memset(f->data + off, 0, clip(off, len, f->size));
}

static void model_truncate(struct file *f, uint64_t size)
{
	if (size < f->size)
		memset(f->data + size, 0, f->size - size);
	f->size = size;
}

/*
 * After an operation that ran out of space halfway: take over what is there, as long as each byte
 * is the old one, zero, or (@payload not NULL) the new one, and the size between old and @max_end.
 */
static void model_resync(struct file *f, uint64_t off, uint64_t len, const uint8_t *payload,
			 uint64_t max_end)
{
	int fd = get_fd(f, FD_RW);
	struct stat st;

	nr_enospc++;
	if (fstat(fd, &st))
		fail("fstat: %s", strerror(errno));
	if ((uint64_t)st.st_size < f->size ||
	    ((uint64_t)st.st_size > f->size && (uint64_t)st.st_size > max_end))
		fail("size %" PRIu64 " after ENOSPC, it was %" PRIu64, (uint64_t)st.st_size, f->size);
	f->size = (uint64_t)st.st_size;
	len = clip(off, len, f->size);
	if (pread(fd, result, len, (off_t)off) != (ssize_t)len)
		fail("short read after ENOSPC");
	for (uint64_t i = 0; i < len; i++) {
		if (result[i] && result[i] != f->data[off + i] && !(payload && result[i] == payload[i]))
			fail_at(nr_of(f), (int64_t)(off + i), "after ENOSPC neither old, new nor zero");
		f->data[off + i] = result[i];
	}
}

/* ---- Operations: each sets op->ret; refusals are counted, anything else unexpected fails ---- */

/* True when the operation did happen; false when it may be passed over. */
static bool succeeded(int64_t ret, const char *what)
{
	op->ret = ret < 0 ? -errno : ret;
	if (ret >= 0)
		return true;
	if (errno == EOPNOTSUPP) {
		nr_refused++;
		return false;
	}
	if (errno == ENOSPC && opt.enospc)
		return false;
	fail("%s: %s", what, strerror(errno));
}

static void check_size(struct file *f)
{
	struct stat st;

	if (rng_one_in(&rng, 2) ? fstat(get_fd(f, FD_RW), &st) : stat(f->path, &st))
		fail("stat %s: %s", f->path, strerror(errno));
	if ((uint64_t)st.st_size != f->size)
		fail("size of file %d is %#" PRIx64 ", expected %#" PRIx64, nr_of(f),
		     (uint64_t)st.st_size, f->size);
}

/* Write op's range from @p by @fd; several vectors at times. */
static void write_range(struct file *f, int fd, const uint8_t *p, int rwf)
{
	uint64_t cut = op->len > 2 && rng_one_in(&rng, 4) ? rng_below(&rng, op->len) : op->len;
	struct iovec iov[2] = { { (void *)p, cut }, { (void *)(p + cut), op->len - cut } };
	ssize_t n = pwritev2(fd, iov, cut < op->len ? 2 : 1, (off_t)op->off, rwf);

	if (!succeeded(n, "write")) {
		if (op->ret == -ENOSPC)
			model_resync(f, op->off, op->len, p, op->off + op->len);
		return;
	}
	if ((uint64_t)n != op->len && !opt.enospc)
		fail("short write: %zd", n);
	model_write(f, op->off, (uint64_t)n, p);
}

static void op_write(struct file *f)
{
	uint8_t *p = scratch + rng_below(&rng, 64);

	pick_range(f);
	fill(p, op->off, op->len);
	write_range(f, get_fd(f, FD_RW), p, 0);
}

static void op_dsync_write(struct file *f)
{
	bool by_flag = rng_one_in(&rng, 2);

	pick_range(f);
	fill(scratch, op->off, op->len);
	write_range(f, get_fd(f, by_flag ? FD_RW : FD_DSYNC), scratch, by_flag ? RWF_DSYNC : 0);
}

static void op_append(struct file *f)
{
	ssize_t n;

	op->off = f->size;
	op->len = clip(f->size, pick_length(), opt.max_size);
	if (!op->len)
		return;
	fill(scratch, op->off, op->len);
	n = write(get_fd(f, FD_APPEND), scratch, op->len);
	if (!succeeded(n, "append")) {
		if (op->ret == -ENOSPC)
			model_resync(f, op->off, op->len, scratch, op->off + op->len);
		return;
	}
	if ((uint64_t)n != op->len && !opt.enospc)
		fail("short append: %zd", n);
	model_write(f, op->off, (uint64_t)n, scratch);
}

static void op_read(struct file *f)
{
	uint8_t *p = result + rng_below(&rng, 64);
	uint64_t want;
	ssize_t n;

	pick_range(f);
	want = clip(op->off, op->len, f->size);
	n = pread(get_fd(f, FD_RW), p, op->len, (off_t)op->off);
	if (succeeded(n, "read") && (uint64_t)n != want)
		fail("read returned %zd, expected %" PRIu64, n, want);
	compare(f, op->off, want, p, "read");
}

/* Direct ranges are multiples of 4096, at times of 512, which a device may refuse. */
static bool pick_direct_range(struct file *f, uint64_t *align)
{
	*align = rng_one_in(&rng, 4) ? 512 : 4096;
	pick_range(f);
	op->off -= op->off % *align;
	op->len += *align - 1;
	op->len -= op->len % *align;
	if (op->off + op->len > opt.max_size)
		op->len = opt.max_size - op->off;
	op->len -= op->len % *align;
	if (opt.no_direct || !op->len || get_fd(f, FD_DIRECT) < 0) {
		op->len = 0;
		return false;
	}
	return true;
}

static bool refused_alignment(ssize_t n, uint64_t align)
{
	if (n >= 0 || errno != EINVAL || align == 4096)
		return false;
	op->ret = -EINVAL;
	nr_refused++;
	return true;
}

static void op_direct_read(struct file *f)
{
	uint64_t align, want;
	ssize_t n;

	if (!pick_direct_range(f, &align))
		return;
	want = clip(op->off, op->len, f->size);
	n = pread(get_fd(f, FD_DIRECT), result, op->len, (off_t)op->off);
	if (refused_alignment(n, align))
		return;
	if (succeeded(n, "direct read") && (uint64_t)n != want)
		fail("direct read returned %zd, expected %" PRIu64, n, want);
	compare(f, op->off, want, result, "direct read");
}

static void op_direct_write(struct file *f)
{
	uint64_t align;
	ssize_t n;

	if (!pick_direct_range(f, &align))
		return;
	fill(scratch, op->off, op->len);
	n = pwrite(get_fd(f, FD_DIRECT), scratch, op->len, (off_t)op->off);
	if (refused_alignment(n, align))
		return;
	if (!succeeded(n, "direct write")) {
		if (op->ret == -ENOSPC)
			model_resync(f, op->off, op->len, scratch, op->off + op->len);
		return;
	}
	if ((uint64_t)n != op->len && !opt.enospc)
		fail("short direct write: %zd", n);
	model_write(f, op->off, (uint64_t)n, scratch);
}

/* A mapping that holds op's range, fresh or kept from before; NULL where mappings are refused. */
static uint8_t *map_range(struct file *f)
{
	if (f->map && f->map_off <= op->off && op->off + op->len <= f->map_off + f->map_len)
		return f->map + (op->off - f->map_off);
	unmap(f);
	f->map_off = op->off - op->off % page_size;
	f->map_len = op->off + op->len - f->map_off;
	f->map = mmap(NULL, f->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, get_fd(f, FD_RW),
		      (off_t)f->map_off);
	if (f->map == MAP_FAILED) {
		f->map = NULL;
		if (errno != ENODEV)
			fail("mmap: %s", strerror(errno));
		op->ret = -ENODEV;
		opt.no_mmap = true; /* this mount has none: count it once */
		nr_refused++;
		return NULL;
	}
	return f->map + (op->off - f->map_off);
}

/* A range within the file; false for an empty one. */
static bool pick_mapped_range(struct file *f)
{
	pick_range(f);
	if (op->off >= f->size && f->size)
		op->off = rng_below(&rng, f->size);
	op->len = clip(op->off, op->len, f->size);
	return op->len && !opt.no_mmap;
}

static void op_map_write(struct file *f)
{
	uint8_t *p;

	if (!pick_mapped_range(f)) {
		op->len = 0;
		return;
	}
	p = map_range(f);
	if (!p)
		return;
	fill(p, op->off, op->len);
	fill(scratch, op->off, op->len);
	model_write(f, op->off, op->len, scratch);
	if (rng_one_in(&rng, 3) && msync(f->map, f->map_len, rng_one_in(&rng, 4) ? MS_ASYNC : MS_SYNC))
		fail("msync: %s", strerror(errno));
	if (rng_one_in(&rng, 3))
		unmap(f);
}

static void op_map_read(struct file *f)
{
	uint64_t end;
	uint8_t *p;

	if (!pick_mapped_range(f)) {
		op->len = 0;
		return;
	}
	p = map_range(f);
	if (!p)
		return;
	compare(f, op->off, op->len, p, "mapped read");
	/* The rest of the last page is zero, however the file got its size. */
	end = op->off + op->len;
	if (end == f->size && end % page_size && end < opt.max_size &&
	    f->map_off + f->map_len == end) {
		uint64_t tail = clip(end, page_size - end % page_size, opt.max_size);

		compare(f, end, tail, p + op->len, "page tail");
	}
	if (rng_one_in(&rng, 3))
		unmap(f);
}

/* write() with a mapping of the same file as its source: faults in the middle of a write. */
static void op_self_write(struct file *f)
{
	uint64_t to, len;
	uint8_t *p;

	if (!pick_mapped_range(f)) {
		op->len = 0;
		return;
	}
	to = pick_offset(f);
	len = clip(to, op->len, opt.max_size);
	/* Where source and target overlap, what each byte becomes is not defined. */
	if (to < op->off + op->len && op->off < to + len)
		to = op->off + op->len;
	len = clip(to, len, opt.max_size);
	if (!len)
		return;
	op->len = len;
	p = map_range(f);
	if (!p)
		return;
	memcpy(scratch, f->data + op->off, len);
	op->off = to;
	op->ret = pwrite(get_fd(f, FD_RW), p, len, (off_t)to);
	if (op->ret != (int64_t)len)
		fail("write from a mapping returned %" PRId64 ": %s", op->ret, strerror(errno));
	model_write(f, to, len, scratch);
}

static void op_truncate(struct file *f)
{
	bool by_path = rng_one_in(&rng, 4);

	op->off = rng_one_in(&rng, 12) ? 0 : pick_offset(f);
	if (succeeded(by_path ? truncate(f->path, (off_t)op->off) :
				ftruncate(get_fd(f, FD_RW), (off_t)op->off),
		      "truncate")) {
		uint64_t low = op->off < f->size ? op->off : f->size;

		op->len = (op->off > f->size ? op->off : f->size) - low;
		model_truncate(f, op->off);
		op->off = low;
	}
}

static void do_fallocate(struct file *f, int mode)
{
	uint64_t end;

	pick_range(f);
	end = op->off + op->len;
	if (!succeeded(fallocate(get_fd(f, FD_RW), mode, (off_t)op->off, (off_t)op->len), "fallocate")) {
		if (op->ret == -ENOSPC)
			model_resync(f, op->off, op->len, NULL, mode & FALLOC_FL_KEEP_SIZE ? 0 : end);
		return;
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		model_zero(f, op->off, op->len);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > f->size)
		f->size = end;
}

static void op_allocate(struct file *f)
{
	do_fallocate(f, 0);
}

static void op_keep_size(struct file *f)
{
	do_fallocate(f, FALLOC_FL_KEEP_SIZE);
}

static void op_punch(struct file *f)
{
	do_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void op_zero_range(struct file *f)
{
	do_fallocate(f, FALLOC_FL_ZERO_RANGE | (rng_one_in(&rng, 2) ? FALLOC_FL_KEEP_SIZE : 0));
}

/* copy_file_range() from the other file or from elsewhere in this one. */
static void op_copy(struct file *f)
{
	struct file *src = rng_one_in(&rng, 2) ? f : &files[!nr_of(f)];
	uint64_t from = pick_offset(src), want, done = 0;

	pick_range(f);
	if (rng_one_in(&rng, 2)) { /* aligned ones may be shared instead of copied */
		from &= ~65535ULL;
		op->off &= ~65535ULL;
	}
	op->len = clip(from, op->len, opt.max_size);
	op->len = clip(op->off, op->len, opt.max_size);
	if (src == f && from < op->off + op->len && op->off < from + op->len) {
		op->len = 0;
		return;
	}
	want = clip(from, op->len, src->size);
	/* No call after the last byte: copying within a file may have moved its end, so that there
	 * is more to copy. But one call there, when all of the range is past the end. */
	do {
		loff_t in = (loff_t)(from + done), out = (loff_t)(op->off + done);
		ssize_t n = copy_file_range(get_fd(src, FD_RW), &in, get_fd(f, FD_RW), &out,
					    op->len - done, 0);

		if (!succeeded(n, "copy_file_range")) {
			if (op->ret == -ENOSPC)
				model_resync(f, op->off + done, op->len - done,
					     src->data + from + done, op->off + op->len);
			return;
		}
		if (n == 0)
			break;
		if (done + (uint64_t)n > want)
			fail("copied %" PRIu64 " bytes, only %" PRIu64 " there", done + n, want);
		model_write(f, op->off + done, (uint64_t)n, src->data + from + done);
		done += (uint64_t)n;
	} while (done < want);
	op->ret = (int64_t)done;
	if (done != want)
		fail("copied %" PRIu64 " of %" PRIu64 " bytes", done, want);
}

static void op_sync(struct file *f)
{
	int fd = get_fd(f, FD_RW);
	uint64_t how = rng_below(&rng, 8);

	op->ret = how < 3 ? fsync(fd) : how < 6 ? fdatasync(fd) : how < 7 ? syncfs(fd) :
		  sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
						    SYNC_FILE_RANGE_WAIT_AFTER);
	if (op->ret)
		fail("sync: %s", strerror(errno));
}

/* Clean pages go, so that the next read asks the file system and not the page cache. */
static void op_forget(struct file *f)
{
	if (rng_one_in(&rng, 2))
		op_sync(f);
	op->ret = posix_fadvise(get_fd(f, FD_RW), 0, 0, POSIX_FADV_DONTNEED);
}

/* Every byte outside the data that SEEK_DATA and SEEK_HOLE report is zero; the two alternate. */
static void check_seek(struct file *f)
{
	int fd = get_fd(f, FD_RW);
	uint64_t pos = 0;

	while (pos < f->size) {
		off_t data = lseek(fd, (off_t)pos, SEEK_DATA), hole;
		uint64_t zero_end = data < 0 ? f->size : (uint64_t)data;

		if (data < 0 && errno != ENXIO)
			fail("SEEK_DATA at %#" PRIx64 ": %s", pos, strerror(errno));
		if (data >= 0 && ((uint64_t)data < pos || (uint64_t)data >= f->size))
			fail("SEEK_DATA at %#" PRIx64 " found %#" PRIx64 ", size %#" PRIx64, pos,
			     (uint64_t)data, f->size);
		memset(result, 0, zero_end - pos);
		compare(f, pos, zero_end - pos, result, "hole by SEEK_DATA (got: what it claims)");
		if (data < 0)
			return;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole <= data || (uint64_t)hole > f->size)
			fail("SEEK_HOLE at %#" PRIx64 " found %#" PRIx64 " (%s), size %#" PRIx64,
			     (uint64_t)data, (uint64_t)hole, hole < 0 ? strerror(errno) : "", f->size);
		pos = (uint64_t)hole;
	}
}

static void op_seek(struct file *f)
{
	off_t at, size = (off_t)f->size;
	int fd = get_fd(f, FD_RW);

	check_seek(f);
	op->off = f->size + rng_below(&rng, 2) * rng_below(&rng, 100000);
	if (lseek(fd, (off_t)op->off, SEEK_DATA) >= 0 || errno != ENXIO)
		fail("SEEK_DATA at or past the end is not ENXIO");
	if (lseek(fd, (off_t)op->off, SEEK_HOLE) >= 0 || errno != ENXIO)
		fail("SEEK_HOLE at or past the end is not ENXIO");
	if (!f->size)
		return;
	op->off = rng_below(&rng, f->size);
	at = lseek(fd, (off_t)op->off, SEEK_HOLE);
	if (at < (off_t)op->off || at > size)
		fail("SEEK_HOLE at %#" PRIx64 " found %#" PRIx64, op->off, (uint64_t)at);
	if (at == (off_t)op->off && f->data[at])
		fail_at(nr_of(f), at, "SEEK_HOLE calls data a hole");
}

static void op_reopen(struct file *f)
{
	close_all(f);
}

/* ---- The run ---- */

static const struct operation {
	const char *name;
	void (*fn)(struct file *f);
	unsigned int weight;
} operations[] = {
	{ "write", op_write, 20 },
	{ "read", op_read, 20 },
	{ "append", op_append, 6 },
	{ "dsync-write", op_dsync_write, 2 },
	{ "direct-write", op_direct_write, 10 },
	{ "direct-read", op_direct_read, 8 },
	{ "map-write", op_map_write, 10 },
	{ "map-read", op_map_read, 8 },
	{ "self-write", op_self_write, 2 },
	{ "truncate", op_truncate, 6 },
	{ "allocate", op_allocate, 4 },
	{ "keep-size", op_keep_size, 3 },
	{ "punch", op_punch, 6 },
	{ "zero-range", op_zero_range, 5 },
	{ "copy", op_copy, 6 },
	{ "sync", op_sync, 3 },
	{ "forget", op_forget, 4 },
	{ "seek", op_seek, 5 },
	{ "reopen", op_reopen, 3 },
};
#define NR_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static void check_whole(struct file *f)
{
	uint64_t done = 0;

	check_size(f);
	while (done < f->size) {
		ssize_t n = pread(get_fd(f, FD_RW), result + done, f->size - done, (off_t)done);

		if (n <= 0)
			fail("reading all of file %d: %zd at %#" PRIx64 ": %s", nr_of(f), n, done,
			     n < 0 ? strerror(errno) : "early end");
		done += (uint64_t)n;
	}
	compare(f, 0, f->size, result, "whole file");
	check_seek(f);
}

static void begin(const char *name, int file)
{
	op = &oplog[op_nr++ % LOG_KEPT];
	*op = (struct log_entry){ .nr = op_nr, .name = name, .file = file };
}

static void run_reopen_cmd(void)
{
	int rc;

	begin("reopen-cmd", 0);
	close_all(&files[0]);
	close_all(&files[1]);
	fflush(stdout);
	rc = system(opt.reopen_cmd);
	if (rc)
		fail("'%s' ended with status %#x", opt.reopen_cmd, rc);
	nr_reopened++;
	check_whole(&files[0]);
	check_whole(&files[1]);
}

static void one_operation(void)
{
	unsigned int total = 0, pick;
	const struct operation *o = operations;
	struct file *f = &files[rng_one_in(&rng, 4)];

	for (size_t i = 0; i < NR_OPERATIONS; i++)
		total += operations[i].weight;
	pick = (unsigned int)rng_below(&rng, total);
	while (pick >= o->weight)
		pick -= (o++)->weight;
	begin(o->name, nr_of(f));
	o->fn(f);
	op->size_after = f->size;
	check_size(f);
}

static void run(void)
{
	double start = now_seconds();

	for (uint64_t n = 1; !opt.nr_ops || n <= opt.nr_ops; n++) {
		if (opt.seconds && now_seconds() - start >= (double)opt.seconds)
			break;
		one_operation();
		if (n % 500 == 0)
			check_whole(&files[rng_below(&rng, 2)]);
		if (opt.reopen_cmd && n % opt.reopen_every == 0)
			run_reopen_cmd();
	}
	for (int i = 0; i < 2; i++) {
		begin("end", i);
		check_whole(&files[i]);
		close_all(&files[i]);
		if (opt.reopen_cmd && i == 1)
			run_reopen_cmd();
		check_whole(&files[i]);
		close_all(&files[i]);
	}
	close_all(&files[0]);
}

static void make_files(char *workdir)
{
	page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	if (mkdir(workdir, 0755) && errno != EEXIST)
		fail("mkdir %s: %s", workdir, strerror(errno));
	scratch = aligned_alloc(65536, MAX_IO + 65536);
	result = aligned_alloc(65536, (opt.max_size + 2 * 65536) & ~65535ULL);
	for (int i = 0; i < 2; i++) {
		struct file *f = &files[i];
		int fd;

		if (snprintf(f->path, sizeof(f->path), "%s/%c", workdir, 'a' + i) >= PATH_MAX)
			fail("path too long");
		fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC, 0644);
		if (fd < 0 || close(fd))
			fail("create %s: %s", f->path, strerror(errno));
		f->data = calloc(1, opt.max_size);
		for (int k = 0; k < NR_FD_KINDS; k++)
			f->fd[k] = -1;
		if (!f->data || !scratch || !result)
			fail("out of memory");
	}
}

enum { OPT_SEED = 256, OPT_OPS, OPT_SECONDS, OPT_DIR, OPT_MAX_SIZE, OPT_NO_MMAP, OPT_NO_DIRECT,
       OPT_ENOSPC, OPT_REOPEN_CMD, OPT_REOPEN_EVERY };

static const struct argp_option options[] = {
	{ "seed", OPT_SEED, "N", 0, "Random seed (default: the clock); printed first", 0 },
	{ "ops", OPT_OPS, "N", 0, "Stop after N operations", 0 },
	{ "seconds", OPT_SECONDS, "N", 0, "Stop after N seconds (default: 10 without --ops)", 0 },
	{ "dir", OPT_DIR, "DIR", 0, "Existing directory to work in (default: .)", 0 },
	{ "max-size", OPT_MAX_SIZE, "BYTES", 0, "Largest file size (default: 2m)", 0 },
	{ "no-mmap", OPT_NO_MMAP, NULL, 0, "No mappings", 0 },
	{ "no-direct", OPT_NO_DIRECT, NULL, 0, "No O_DIRECT", 0 },
	{ "enospc", OPT_ENOSPC, NULL, 0, "Running out of space is no failure; no mappings", 0 },
	{ "reopen-cmd", OPT_REOPEN_CMD, "CMD", 0, "Shell command to run with all files closed", 0 },
	{ "reopen-every", OPT_REOPEN_EVERY, "N", 0, "Run it every N operations (default: 2000)", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	uint64_t *number = NULL;

	switch (key) {
	case OPT_SEED:
		number = &opt.seed;
		break;
	case OPT_OPS:
		number = &opt.nr_ops;
		break;
	case OPT_SECONDS:
		number = &opt.seconds;
		break;
	case OPT_MAX_SIZE:
		number = &opt.max_size;
		break;
	case OPT_REOPEN_EVERY:
		number = &opt.reopen_every;
		break;
	case OPT_DIR:
		opt.dir = arg;
		break;
	case OPT_REOPEN_CMD:
		opt.reopen_cmd = arg;
		break;
	case OPT_NO_MMAP:
		opt.no_mmap = true;
		break;
	case OPT_NO_DIRECT:
		opt.no_direct = true;
		break;
	case OPT_ENOSPC:
		/* A store through a mapping has no way to say that space ran out. */
		opt.enospc = opt.no_mmap = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	if (number && !parse_number(arg, number))
		argp_error(state, "'%s' is not a number", arg);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL,
					  "Compare random data operations with a model in memory." };
	char base[PATH_MAX], workdir[PATH_MAX];

	opt.seed = (uint64_t)time(NULL);
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (!opt.nr_ops && !opt.seconds)
		opt.seconds = 10;
	if (opt.max_size < 4096 || !opt.reopen_every)
		fail("--max-size below 4096 or --reopen-every 0");
	printf("# fsx seed %" PRIu64 "\n", opt.seed);
	fflush(stdout);
	rng.state = opt.seed;
	signal(SIGBUS, on_sigbus);
	/* Nothing of ours may keep the mount busy while the reopen command runs. */
	if (!realpath(opt.dir ? opt.dir : ".", base) || chdir("/"))
		fail("%s: %s", opt.dir, strerror(errno));
	if (snprintf(workdir, sizeof(workdir), "%s/fsx-%" PRIu64, base, opt.seed) >= PATH_MAX)
		fail("path too long");
	make_files(workdir);
	run();
	for (int i = 0; i < 2; i++) {
		if (unlink(files[i].path))
			fail("unlink %s: %s", files[i].path, strerror(errno));
		free(files[i].data);
	}
	if (rmdir(workdir))
		fail("rmdir %s: %s", workdir, strerror(errno));
	free(scratch);
	free(result);
	printf("# fsx passed: %" PRIu64 " operations, %" PRIu64 " refused, %" PRIu64
	       " out of space, %" PRIu64 " reopens\n", op_nr, nr_refused, nr_enospc, nr_reopened);
	return 0;
}

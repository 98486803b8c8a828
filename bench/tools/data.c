/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of one file, timed. fio would do, but for two things: each read is checked here, at a
 * cost far below that of the read (its verify= compares all of it), and what a random write left is known
 * block by block.
 *
 * Every 512 bytes carry a stamp of their place and generation, then fixed words. `new` leaves generation 1;
 * who writes over it says which one it leaves, higher than all before. The clock runs over checks of
 * stamps; whole contents are compared when it has stopped. Jobs share the file, each has a region of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common.h"

#define SECTOR    512u
#define WORDS     (SECTOR / 8)
#define DEPTH_MAX 64u
#define STAMP     0x9e3779b97f4a7c15ULL
#define UNSTAMP   0xf1de83e19937733dULL /* STAMP * UNSTAMP == 1 */
#define GEN_MAX   99u
#define CHUNK     (1u << 20)

static const char usage_text[] =
	"data new|rand-read|rand-write|seq-read|seq-write|verify|storm FILE MIB\n"
	"       [block=KIB] [depth=N] [jobs=N] [ms=N] [count=N] [direct] [fsync] [unchecked] [gen=N]";

static struct {
	const char *path;
	uint64_t size;
	unsigned block, depth, jobs, gen;
	unsigned ms, count; /* of each job; both 0: one pass */
	bool write, random, create, direct, fsync, unchecked;
} o = {.block = CHUNK, .depth = 1, .jobs = 1, .gen = 2};

/* Shared by the jobs. */
static struct lat *lats;
static uint8_t *written; /* by block: o.gen was sent there */

struct slot {
	struct iocb cb;
	uint8_t *buf;
	uint64_t pos, begin;
};

struct job {
	int fd;
	unsigned nr;
	uint64_t from, end, next, deadline; /* bytes; nanoseconds */
	uint64_t done;
	struct picker rng;
};

/* ---- Contents ---------------------------------------------------------------------------- */

static uint64_t stamp(uint64_t pos, unsigned gen)
{
	return (pos + gen) * STAMP;
}

static void fill_words(uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len / 8; i++)
		((uint64_t *)buf)[i] = STAMP + i % WORDS;
}

static void set_stamps(uint8_t *buf, size_t len, uint64_t pos, unsigned gen)
{
	for (size_t at = 0; at < len; at += SECTOR)
		*(uint64_t *)(buf + at) = stamp(pos + at, gen);
}

/* 0: no stamp of this place. */
static unsigned gen_of(uint64_t word, uint64_t pos)
{
	const uint64_t gen = word * UNSTAMP - pos;

	return gen <= GEN_MAX ? (unsigned)gen : 0;
}

/* The clock runs: any generation will do. */
static void check_stamps(const uint8_t *buf, size_t len, uint64_t pos)
{
	for (size_t at = 0; at < len && !o.unchecked; at += SECTOR)
		if (!gen_of(*(const uint64_t *)(buf + at), pos + at))
			wrong("%s: byte %llu: wrong contents were read", o.path,
			      (unsigned long long)(pos + at));
}

static void check_sector(const uint8_t *buf, uint64_t pos)
{
	const uint64_t *w = (const uint64_t *)buf;
	const unsigned gen = gen_of(w[0], pos);

	if (!gen)
		wrong("%s: byte %llu: wrong contents", o.path, (unsigned long long)pos);
	if ((gen == o.gen) != written[pos / o.block])
		wrong("%s: byte %llu: generation %u, and %u was %swritten there", o.path,
		      (unsigned long long)pos, gen, o.gen, written[pos / o.block] ? "" : "not ");
	for (size_t i = 1; i < WORDS; i++)
		if (w[i] != STAMP + i)
			wrong("%s: byte %llu: wrong contents", o.path, (unsigned long long)(pos + 8 * i));
}

/* The whole file, through the cache; generations by `written`. */
static void check_file(void)
{
	static uint8_t buf[CHUNK];
	const int fd = open(o.path, O_RDONLY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		die(o.path);
	if ((uint64_t)st.st_size != o.size)
		wrong("%s: %llu bytes, not %llu", o.path, (unsigned long long)st.st_size,
		      (unsigned long long)o.size);
	for (uint64_t pos = 0; pos < o.size && !o.unchecked; pos += CHUNK) {
		if (pread(fd, buf, CHUNK, (off_t)pos) != CHUNK)
			die(o.path);
		for (unsigned at = 0; at < CHUNK; at += SECTOR)
			check_sector(buf + at, pos + at);
	}
	close(fd);
}

/* ---- One operation ------------------------------------------------------------------------- */

/* Where the next one goes; false: that was all. */
static bool next_pos(struct job *j, uint64_t *pos)
{
	if (o.count && j->done++ == o.count)
		return false;
	if (o.random) {
		*pos = j->from + pick_below(&j->rng, (j->end - j->from) / o.block) * o.block;
	} else {
		if (j->next == j->end && !o.ms)
			return false;
		if (j->next == j->end)
			j->next = j->from;
		*pos = j->next;
		j->next += o.block;
	}
	return !o.ms || now_ns() < j->deadline;
}

static void prepare(struct slot *s)
{
	if (!o.write)
		return;
	set_stamps(s->buf, o.block, s->pos, o.gen);
	written[s->pos / o.block] = 1;
}

static void finish(struct job *j, struct slot *s, int64_t res)
{
	if (res != (int64_t)o.block) {
		errno = res < 0 ? (int)-res : EIO;
		/* Opened direct, and then it is not. */
		if (errno == EINVAL && o.direct)
			errno = EOPNOTSUPP;
		die(o.path);
	}
	lat_add(&lats[j->nr], now_ns() - s->begin);
	if (!o.write)
		check_stamps(s->buf, o.block, s->pos);
}

static void run_sync(struct job *j, struct slot *s)
{
	while (next_pos(j, &s->pos)) {
		ssize_t n;

		prepare(s);
		s->begin = now_ns();
		n = o.write ? pwrite(j->fd, s->buf, o.block, (off_t)s->pos)
			    : pread(j->fd, s->buf, o.block, (off_t)s->pos);
		finish(j, s, n < 0 ? -errno : n);
	}
}

static bool submit(struct job *j, aio_context_t ctx, struct slot *s)
{
	struct iocb *list[] = {&s->cb};

	if (!next_pos(j, &s->pos))
		return false;
	prepare(s);
	s->cb = (struct iocb){
		.aio_fildes = (uint32_t)j->fd,
		.aio_lio_opcode = o.write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_buf = (uintptr_t)s->buf,
		.aio_nbytes = o.block,
		.aio_offset = (int64_t)s->pos,
		.aio_data = (uintptr_t)s,
	};
	s->begin = now_ns();
	if (syscall(SYS_io_submit, ctx, 1, list) != 1)
		die("io_submit");
	return true;
}

/* Kernel aio, not io_uring: that one hands a FUSE file's requests to threads, which would be measured. */
static void run_async(struct job *j, struct slot *slots)
{
	struct io_event events[DEPTH_MAX];
	aio_context_t ctx = 0;
	unsigned inflight = 0;

	if (syscall(SYS_io_setup, o.depth, &ctx))
		die("io_setup");
	for (unsigned i = 0; i < o.depth; i++)
		inflight += submit(j, ctx, &slots[i]);
	while (inflight) {
		const long n = syscall(SYS_io_getevents, ctx, 1, (long)inflight, events, NULL);

		if (n < 1)
			die("io_getevents");
		for (long i = 0; i < n; i++) {
			struct slot *s = (struct slot *)(uintptr_t)events[i].data;

			finish(j, s, events[i].res);
			inflight -= !submit(j, ctx, s);
		}
	}
	syscall(SYS_io_destroy, ctx);
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static int open_file(void)
{
	int flags = o.write ? O_WRONLY : O_RDONLY;
	int fd;

	flags |= (o.direct ? O_DIRECT : 0) | (o.create ? O_CREAT | O_EXCL : 0);
	fd = open(o.path, flags, 0644);
	if (fd < 0 && o.direct && errno == EINVAL)
		errno = EOPNOTSUPP;
	if (fd < 0)
		die(o.path);
	return fd;
}

static void job_main(unsigned nr, void *arg)
{
	struct slot *slots = calloc(o.depth, sizeof(*slots));
	struct job j = {.nr = nr, .fd = open_file(), .rng = {.x = 88172645463325252ULL + nr}};

	for (unsigned i = 0; i < o.depth; i++) {
		if (posix_memalign((void **)&slots[i].buf, 4096, o.block))
			die("memory");
		fill_words(slots[i].buf, o.block);
	}
	j.from = j.next = o.size / o.jobs * nr;
	j.end = j.from + o.size / o.jobs;
	j.deadline = now_ns() + o.ms * 1000000ULL;
	if (o.depth > 1)
		run_async(&j, slots);
	else
		run_sync(&j, slots);
	if (o.fsync && fsync(j.fd))
		die("fsync");
	if (close(j.fd))
		die(o.path);
}

static void run(const char *figure)
{
	uint64_t ns;

	lats = shared_alloc(o.jobs * sizeof(*lats));
	ns = run_jobs(o.jobs, job_main, NULL);
	for (unsigned j = 1; j < o.jobs; j++) {
		lats[0].count += lats[j].count;
		for (unsigned b = 0; b < LAT_BUCKETS; b++)
			lats[0].hist[b] += lats[j].hist[b];
	}
	report(figure, lats[0].count, ns, lats[0].count * o.block, &lats[0]);
	if (o.write)
		check_file();
}

/* Until it is killed: buffered passes over a file, each made durable. */
static void storm(void)
{
	static uint8_t buf[CHUNK];
	const int fd = open(o.path, O_CREAT | O_WRONLY, 0644);

	if (fd < 0)
		die(o.path);
	fill_words(buf, CHUNK);
	for (;;) {
		for (uint64_t pos = 0; pos < o.size; pos += CHUNK)
			if (pwrite(fd, buf, CHUNK, (off_t)pos) != CHUNK)
				die(o.path);
		if (fsync(fd))
			die("fsync");
	}
}

static void parse(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned *to, scale;
	} numbers[] = {{"block=", &o.block, 1024}, {"depth=", &o.depth, 1}, {"jobs=", &o.jobs, 1},
		       {"ms=", &o.ms, 1}, {"gen=", &o.gen, 1},
		       {"count=", &o.count, 1}};
	static const struct {
		const char *name;
		bool *to;
	} flags[] = {{"direct", &o.direct}, {"fsync", &o.fsync}, {"unchecked", &o.unchecked}};

	for (int i = 4; i < argc; i++) {
		bool known = false;

		for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
			const size_t len = strlen(numbers[k].name);

			if (strncmp(argv[i], numbers[k].name, len) != 0)
				continue;
			*numbers[k].to = (unsigned)number(argv[i] + len) * numbers[k].scale;
			known = true;
		}
		for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++) {
			if (!strcmp(argv[i], flags[k].name))
				known = *flags[k].to = true;
		}
		if (!known)
			usage(usage_text);
	}
	if (o.depth > DEPTH_MAX || o.gen > GEN_MAX || o.size % ((uint64_t)o.jobs * CHUNK) ||
	    CHUNK % o.block)
		usage("depth at most 64, gen 99; MIB a multiple of the jobs; block a divisor of 1024");
}

int main(int argc, char **argv)
{
	const char *op = argc < 4 ? "" : argv[1];

	if (argc < 4)
		usage(usage_text);
	o.path = argv[2];
	o.size = (uint64_t)number(argv[3]) << 20;
	o.create = !strcmp(op, "new");
	o.random = !strncmp(op, "rand-", 5);
	o.write = o.create || !strcmp(op, "rand-write") || !strcmp(op, "seq-write");
	parse(argc, argv);
	if (o.create)
		o.gen = 1;
	written = shared_alloc(o.size / o.block);
	if (o.write || !strcmp(op, "rand-read") || !strcmp(op, "seq-read")) {
		if (o.random && !o.ms && !o.count)
			usage("random work needs ms= or count=");
		run(op);
	} else if (!strcmp(op, "verify")) {
		o.gen = 0;
		check_file();
	} else if (!strcmp(op, "storm")) {
		storm();
	} else {
		usage(usage_text);
	}
	return 0;
}

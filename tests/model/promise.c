// SPDX-License-Identifier: MIT
/*
 * Keeps and checks promises of a file system whose daemon is killed meanwhile.
 *
 *	promise run DIR STATE SEED    work in DIR until it answers no more (or STATE is removed)
 *	promise check DIR STATE       after recovery: is everything there that was promised?
 *
 * STATE is a file outside, mapped by the workers: for each thing the number that was begun last
 * and the one that was promised last. What is found must lie between them.
 */
#include "seeded.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKERS    4
#define SLOTS      64
#define SLOT       4096u
#define SECTOR     512u
#define WINDOW     10         /* names that exist at a time */
#define APPEND_MAX (16u << 20)
#define BODY_MAX   (128u << 10)

struct span {
	_Atomic uint64_t begun, promised;
};
struct worker_state {
	struct span append;       /* bytes */
	struct span replaced;     /* generation under the name */
	struct span names;        /* newest name */
	struct span slot[SLOTS];  /* generation of each */
};
struct state {
	_Atomic uint64_t running;
	struct worker_state worker[WORKERS];
};
struct worker {
	unsigned nr;
	struct worker_state *st;
	struct rng rng;
	int dir, append, slots, direct; /* descriptors */
	pthread_t thread;
	int err;                  /* what ended it */
};

static unsigned failures;

static void complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	failures++;
}

static uint8_t byte_of(uint64_t what, uint64_t at)
{
	uint64_t x = (what + 1) * 0x9e3779b97f4a7c15u ^ (at >> 3) * 0xc2b2ae3d27d4eb4fu;

	return (uint8_t)(1 + (x >> (8 * (at & 7))) % 255); /* never zero */
}

static void fill(uint8_t *buf, size_t len, uint64_t what, uint64_t at)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = byte_of(what, at + i);
}

/* ---- The work: each returns 0 or -errno ---------------------------------------------------- */

static int check_written(ssize_t n, size_t len)
{
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int do_append(struct worker *w)
{
	static __thread uint8_t buf[65536];
	const uint64_t at = w->st->append.begun;
	const size_t len = 1 + rng_below(&w->rng, sizeof(buf));
	int err;

	if (at + len > APPEND_MAX)
		return 0;
	fill(buf, len, w->nr, at);
	w->st->append.begun = at + len;
	err = check_written(pwrite(w->append, buf, len, (off_t)at), len);
	if (err || rng_below(&w->rng, 3))
		return err;
	if (rng_below(&w->rng, 2) ? fsync(w->append) : fdatasync(w->append))
		return -errno;
	w->st->append.promised = at + len;
	return 0;
}

static size_t body_len(uint64_t gen)
{
	return 1 + (gen * 7919) % BODY_MAX;
}

static int do_replace(struct worker *w)
{
	static __thread uint8_t buf[BODY_MAX];
	const uint64_t gen = w->st->replaced.begun + 1;
	const size_t len = body_len(gen);
	int err, fd = openat(w->dir, "tmp", O_CREAT | O_TRUNC | O_WRONLY, 0644);

	if (fd < 0)
		return -errno;
	fill(buf, len, gen, 0);
	err = check_written(write(fd, buf, len), len);
	/* Without it too the name must lead to one or the other, whole: from the second on. */
	if (!err && (gen == 1 || rng_below(&w->rng, 2)) && fsync(fd))
		err = -errno;
	close(fd);
	if (err)
		return err;
	w->st->replaced.begun = gen;
	if (renameat(w->dir, "tmp", w->dir, "current"))
		return -errno;
	if (rng_below(&w->rng, 2))
		return 0;
	if (fsync(w->dir))
		return -errno;
	w->st->replaced.promised = gen;
	return 0;
}

static int do_slot(struct worker *w)
{
	static __thread _Alignas(SLOT) uint8_t buf[SLOT];
	const unsigned i = (unsigned)rng_below(&w->rng, SLOTS);
	struct span *s = &w->st->slot[i];
	const uint64_t gen = s->begun + 1;
	const unsigned way = (unsigned)rng_below(&w->rng, 3);
	int err;

	for (unsigned at = 0; at < SLOT; at += SECTOR) {
		fill(buf + at, SECTOR, gen * SLOTS + i, at);
		memcpy(buf + at, &gen, sizeof(gen));
	}
	s->begun = gen;
	err = check_written(pwrite(way ? w->slots : w->direct, buf, SLOT, (off_t)i * SLOT), SLOT);
	if (err || way == 2)
		return err;
	if (fdatasync(w->slots))
		return -errno;
	s->promised = gen;
	return 0;
}

static void name_of(char *name, size_t size, uint64_t k)
{
	snprintf(name, size, "n%" PRIu64, k);
}

/* The newest name appears, and then the oldest goes. */
static int do_name(struct worker *w)
{
	const uint64_t k = w->st->names.begun + 1;
	char name[32], old[32];
	int fd, err = 0;

	name_of(name, sizeof(name), k);
	name_of(old, sizeof(old), k - WINDOW);
	w->st->names.begun = k;
	if (k % 4 == 0)
		err = mkdirat(w->dir, name, 0755);
	else if (k % 4 == 1)
		err = symlinkat(name, w->dir, name);
	else if (k % 4 == 2)
		err = linkat(w->dir, "append", w->dir, name, 0);
	else if ((fd = openat(w->dir, name, O_CREAT | O_EXCL | O_WRONLY, 0600)) < 0)
		err = -1;
	else
		close(fd);
	if (!err && k > WINDOW)
		err = unlinkat(w->dir, old, k % 4 == WINDOW % 4 ? AT_REMOVEDIR : 0);
	if (err)
		return -errno;
	if (rng_below(&w->rng, 4))
		return 0;
	if (fsync(w->dir))
		return -errno;
	w->st->names.promised = k;
	return 0;
}

/* A daemon that is gone. */
static bool is_end(int err)
{
	return err == -ENOTCONN || err == -ECONNABORTED || err == -EIO || err == -ENODEV;
}

static int open_files(struct worker *w, const char *dir)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/w%u", dir, w->nr);
	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	w->dir = open(path, O_RDONLY | O_DIRECTORY);
	if (w->dir < 0)
		return -errno;
	w->append = openat(w->dir, "append", O_CREAT | O_RDWR, 0644);
	w->slots = openat(w->dir, "slots", O_CREAT | O_RDWR, 0644);
	w->direct = openat(w->dir, "slots", O_CREAT | O_RDWR | O_DIRECT, 0644);
	if (w->append < 0 || w->slots < 0 || w->direct < 0)
		return -errno;
	if (ftruncate(w->slots, SLOTS * SLOT))
		return -errno;
	/* From here on what the state says holds: nothing was begun yet. */
	return fsync(w->slots) || fsync(w->append) || fsync(w->dir) ? -errno : 0;
}

static void *work(void *arg)
{
	static int (*const kinds[])(struct worker *) = { do_append, do_replace, do_slot, do_name };
	struct worker *w = arg;

	while (!w->err)
		w->err = kinds[rng_below(&w->rng, 4)](w);
	return NULL;
}

static int run(const char *dir, struct state *st, uint64_t seed)
{
	struct worker w[WORKERS];
	int err = 0;

	for (unsigned i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){ .nr = i, .st = &st->worker[i] };
		w[i].rng.state = seed * WORKERS + i;
		err = open_files(&w[i], dir);
		if (err) {
			fprintf(stderr, "promise: %s: %s\n", dir, strerror(-err));
			return 1;
		}
	}
	st->running = 1;
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(w[i].thread, NULL);
		if (!is_end(w[i].err)) {
			fprintf(stderr, "promise: worker %u: %s\n", i, strerror(-w[i].err));
			err = 1;
		}
	}
	return err;
}

/* ---- The check --------------------------------------------------------------------------------- */

static uint8_t *read_all(int dir, const char *name, size_t *len)
{
	static uint8_t buf[APPEND_MAX + 1];
	int fd = openat(dir, name, O_RDONLY);
	ssize_t n;

	*len = 0;
	if (fd < 0)
		return NULL;
	while (*len < sizeof(buf) && (n = read(fd, buf + *len, sizeof(buf) - *len)) > 0)
		*len += (size_t)n;
	close(fd);
	return buf;
}

static void check_append(unsigned nr, int dir, struct worker_state *st)
{
	size_t len;
	const uint8_t *b = read_all(dir, "append", &len);

	if (!b || len < st->append.promised || len > st->append.begun) {
		complain("w%u/append: %zu bytes, promised %" PRIu64 ", begun %" PRIu64, nr, len,
			 st->append.promised, st->append.begun);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		/* What was not promised may have come in any order: a hole reads as zeros. */
		if (b[i] == byte_of(nr, i) || (b[i] == 0 && i >= st->append.promised))
			continue;
		complain("w%u/append: byte %zu is %u, not %u", nr, i, b[i], byte_of(nr, i));
		return;
	}
}

static void check_replaced(unsigned nr, int dir, struct worker_state *st)
{
	size_t len;
	const uint8_t *b = read_all(dir, "current", &len);

	if (!b) {
		if (st->replaced.promised)
			complain("w%u/current is gone", nr);
		return;
	}
	for (uint64_t gen = st->replaced.begun; gen && gen >= st->replaced.promised; gen--) {
		size_t i = 0;

		if (len != body_len(gen))
			continue;
		while (i < len && b[i] == byte_of(gen, i))
			i++;
		if (i == len)
			return;
	}
	complain("w%u/current: %zu bytes are none of generations %" PRIu64 " to %" PRIu64, nr, len,
		 st->replaced.promised, st->replaced.begun);
}

static void check_slots(unsigned nr, int dir, struct worker_state *st)
{
	size_t len;
	const uint8_t *b = read_all(dir, "slots", &len);
	uint8_t want[SECTOR];
	uint64_t gen;

	if (!b || len != SLOTS * SLOT) {
		complain("w%u/slots: %zu bytes", nr, len);
		return;
	}
	for (size_t at = 0; at < len; at += SECTOR) {
		const unsigned i = (unsigned)(at / SLOT);

		memcpy(&gen, b + at, sizeof(gen));
		if (gen < st->slot[i].promised || gen > st->slot[i].begun) {
			complain("w%u/slots: slot %u is of generation %" PRIu64 ", promised %" PRIu64
				 ", begun %" PRIu64, nr, i, gen, st->slot[i].promised,
				 st->slot[i].begun);
			return;
		}
		fill(want, SECTOR, gen * SLOTS + i, at % SLOT);
		memcpy(want, &gen, sizeof(gen));
		if (!gen)
			memset(want, 0, SECTOR);
		if (memcmp(b + at, want, SECTOR)) {
			complain("w%u/slots: slot %u is torn within a sector", nr, i);
			return;
		}
	}
}

static bool exists(int dir, uint64_t k)
{
	char name[32];
	struct stat sb;

	name_of(name, sizeof(name), k);
	return fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The names are those of one moment: a window that ends between the promised and the begun one. */
static void check_names(unsigned nr, int dir, struct worker_state *st)
{
	const uint64_t from = st->names.promised > WINDOW ? st->names.promised - WINDOW : 1;
	uint64_t last = 0, first = 0, count = 0;

	for (uint64_t k = from; k <= st->names.begun + 1; k++) {
		if (!exists(dir, k))
			continue;
		if (!first)
			first = k;
		last = k;
		count++;
	}
	if (last < st->names.promised || last > st->names.begun)
		complain("w%u: the newest name is n%" PRIu64 ", promised %" PRIu64 ", begun %" PRIu64,
			 nr, last, st->names.promised, st->names.begun);
	else if (last && (count != last - first + 1 ||
			  (last > WINDOW && count != WINDOW && count != WINDOW + 1)))
		complain("w%u: %" PRIu64 " names from n%" PRIu64 " to n%" PRIu64, nr, count, first, last);
}

static int check(const char *dir, struct state *st)
{
	for (unsigned i = 0; i < WORKERS && st->running; i++) {
		char path[4096];
		int d;

		snprintf(path, sizeof(path), "%s/w%u", dir, i);
		d = open(path, O_RDONLY | O_DIRECTORY);
		if (d < 0) {
			complain("%s: %s", path, strerror(errno));
			continue;
		}
		check_append(i, d, &st->worker[i]);
		check_replaced(i, d, &st->worker[i]);
		check_slots(i, d, &st->worker[i]);
		check_names(i, d, &st->worker[i]);
		close(d);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		const struct worker_state *w = &st->worker[i];
		uint64_t slots = 0;

		for (unsigned k = 0; k < SLOTS; k++)
			slots += w->slot[k].promised;
		printf("# w%u was promised %" PRIu64 " bytes, %" PRIu64 " files replaced, %" PRIu64
		       " names, %" PRIu64 " slots\n", i, w->append.promised, w->replaced.promised,
		       w->names.promised, slots);
	}
	return failures ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct state *st;
	int fd;

	if (argc < 4 || (strcmp(argv[1], "run") == 0) != (argc == 5)) {
		fprintf(stderr, "usage: promise run DIR STATE SEED | promise check DIR STATE\n");
		return 16;
	}
	fd = open(argv[3], O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*st))) {
		fprintf(stderr, "promise: %s: %s\n", argv[3], strerror(errno));
		return 16;
	}
	st = mmap(NULL, sizeof(*st), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (st == MAP_FAILED)
		return 16;
	return argc == 5 ? run(argv[2], st, strtoull(argv[4], NULL, 0)) : check(argv[2], st);
}

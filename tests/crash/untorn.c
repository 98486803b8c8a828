/* SPDX-License-Identifier: MIT */
/*
 * untorn - power cuts in untorn writes of every size from one block to the limit, over everything that
 * their range can hold, on a disk that has such writes and on one that has not. Each write is recorded
 * once and cut at each of its events; what survives is mounted and judged: all of the bytes are there or
 * none, nothing else has changed, and the checker finds nothing.
 *
 * A line for each size: "untorn: BLOCK-byte blocks on M MiB, WAY: LEN bytes: W writes, D by the device,
 * C cuts, S survivors: good", or what is wrong in its first failure, which ends that size.
 * The last line: "untorn: seed N, sizes S, cuts C, failures F". Exit: 0 all good, 1 not.
 */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "disk.h"
#include "iomapfs/check.h"
#include "iomapfs/util.h"
#include "mk.h"
#include "untorn_file.h"

#define STALE         0xa5
#define SECTOR        512u
#define SURVIVORS_MAX 4096u
#define EARLY_EVERY   8u       /* checked before recovery too */

/* The largest write follows from the log, hence from the device, and from what memory lets a handle log. */
struct geometry {
	unsigned shift;
	uint64_t device, memory;
	uint32_t first, limit; /* sizes of writes: the smaller ones are another geometry's */
	bool shattered;        /* each new block lies alone */
};
static const struct geometry geometries[] = {
	{ 12, 256ull << 20, 16u << 20, 64u << 10, 64u << 10, true },
	{ 16, 256ull << 20, 16u << 20, 64u << 10, 1u << 20, false },
	{ 14, 256ull << 20, 16u << 20, 16u << 10, 256u << 10, false },
	{ 12, 256ull << 20, 16u << 20, 4u << 10, 64u << 10, false },
	{ 12, 2ull << 30, 256u << 20, 128u << 10, 128u << 10, false },
	{ 10, 256ull << 20, 16u << 20, 1u << 10, 16u << 10, false },
};
/* Each without and with a device that has untorn writes. */
#define NR_CASES (2 * (unsigned)ARRAY_SIZE(geometries))

struct options {
	uint64_t seed;
	unsigned jobs;
	long only, layout;     /* case, what the range holds; -1: all */
	bool device_only;
};
static const struct options *opt;

struct totals {
	uint64_t sizes, cuts, failures;
};

struct lab {
	const struct geometry *g;
	bool device;           /* has untorn writes */
	uint8_t *base;         /* the file system that each write starts from */
	struct disk *disk;
	struct image survivor;
	struct mounted m;
	struct window w;
	uint8_t got[LEN_MAX + 2 * BLOCK_MAX];
	/* the write in hand; events: from `safe` on it is promised */
	bool dsync;
	unsigned begin, safe, unmounted;
	unsigned pieces;       /* extents of its range afterwards */
	uint64_t seen[SURVIVORS_MAX];
	unsigned nr_seen;
	/* the size in hand */
	uint64_t writes, by_device, cuts, survivors;
	const char *why;
};

static bool fail(struct lab *l, const char *why)
{
	l->why = why;
	return false;
}

/* ---- The laboratory ------------------------------------------------------------------------------ */

static void lab_init(struct lab *l, unsigned nr)
{
	const struct geometry *g = &geometries[nr / 2];
	struct mounted *m = &l->m;
	uint32_t min, max, hw;
	struct image im;
	struct bd *bd;

	l->g = g;
	l->device = nr % 2;
	m->scratch = aligned_alloc(4096, LEN_MAX + 2 * BLOCK_MAX);
	if (!m->scratch)
		abort();
	l->base = image_base_create(g->device, STALE);
	image_init(&im, l->base, g->device);
	bd = image_open(&im);
	must_be(mk_default(bd, g->shift), 0, "mkfs");
	bd_close(bd);
	must_be(untorn_mount(m, image_open(&im), g->memory), 0, "mount");
	fs_atomic_limits(m->fs, &min, &max, &hw);
	must_be(min, 1 << g->shift, "smallest untorn write");
	must_be(max, g->limit, "largest untorn write");
	for (unsigned i = 0; i < nr_layouts; i++) {
		for (uint64_t len = g->first; len <= g->limit; len *= 2) {
			window_init(&l->w, &layouts[i], 1u << g->shift, len);
			file_make(m, &l->w);
		}
	}
	if (g->shattered)
		shatter_free_space(m, 1u << g->shift);
	must_be(untorn_unmount(m), 0, "unmount");
	image_commit(&im, l->base);
	image_fini(&im);
	image_init(&l->survivor, l->base, g->device);
	l->disk = disk_create(l->base, g->device);
	disk_set_atomic_max(l->disk, l->device ? LEN_MAX : 0);
}

static void lab_fini(struct lab *l)
{
	disk_destroy(l->disk);
	image_fini(&l->survivor);
	image_base_destroy(l->base, l->g->device);
	free(l->m.scratch);
}

/* ---- The record ---------------------------------------------------------------------------------- */

static void record(struct lab *l, uint64_t seed)
{
	const unsigned flags = IOCB_DIRECT | IOCB_ATOMIC | (l->dsync ? IOCB_DSYNC : 0);
	struct mounted *m = &l->m;
	struct window *w = &l->w;
	struct fs_inode *ip;

	disk_reset(l->disk, seed);
	must_be(untorn_mount(m, disk_open(l->disk), l->g->memory), 0, "mount");
	ip = file_open(m, w, false);
	if (!ip)
		abort();
	file_late(m, w, ip);
	memcpy(m->scratch, w->after + window_range(w), w->len);
	l->begin = disk_now(l->disk);
	must_be(file_io(m, ip, m->scratch, w->len, w->len, flags, true), (int64_t)w->len, "untorn write");
	if (!l->dsync)
		must_be(file_sync(m, ip), 0, "fsync");
	l->safe = disk_now(l->disk);
	l->pieces = file_pieces(m, w, ip);
	fs_iput(ip);
	must_be(untorn_unmount(m), 0, "unmount");
	l->unmounted = disk_now(l->disk);
	l->nr_seen = 0;
	l->writes++;
	l->by_device += disk_nr_atomic(l->disk) > 0;
}

/* ---- The judgement -------------------------------------------------------------------------------- */

/* The window of a file into l->got; its size, or -1. */
static int64_t read_window(struct lab *l, struct fs_inode *ip)
{
	const struct window *w = &l->w;
	struct fs_attr a;
	uint64_t n;

	must_be(fs_getattr(&l->m.ctx, ip, &a), 0, "getattr");
	memset(l->got, 0, w->bytes);
	if (a.size > w->from + w->bytes)
		return -1;
	n = a.size - MIN(a.size, w->from);
	if (n && file_io(&l->m, ip, l->got, n, w->from, 0, false) != (int64_t)n)
		return -1;
	return (int64_t)a.size;
}

/* What was only in the cache may be on the disk, any of its sectors: the untorn write sends it there first. */
static bool range_is_old(const struct lab *l, uint64_t size)
{
	const struct window *w = &l->w;

	for (uint64_t pos = w->len; pos < MIN(size, 2 * w->len); pos += SECTOR) {
		const uint64_t at = pos - w->from, n = MIN(SECTOR, size - pos);

		if (memcmp(l->got + at, w->stored + at, n) && memcmp(l->got + at, w->cached + at, n))
			return false;
	}
	return true;
}

static bool judge_file(struct lab *l, bool promised)
{
	const struct window *w = &l->w;
	const uint64_t range = window_range(w), behind = range + w->len;
	struct fs_inode *ip = file_open(&l->m, w, false);
	uint64_t size;
	bool is_new;

	if (!ip)
		return fail(l, "the file is gone");
	size = (uint64_t)read_window(l, ip);
	fs_iput(ip);
	if (size != w->size_stored && size != w->size_cached && size != w->size_new)
		return fail(l, "a size that it never had");
	if (memcmp(l->got, w->stored, range) ||
	    memcmp(l->got + behind, w->stored + behind, w->bytes - behind))
		return fail(l, "other bytes changed");
	is_new = size == w->size_new && memcmp(l->got + range, w->after + range, w->len) == 0;
	if (!is_new && size != w->size_stored && size != w->size_cached)
		return fail(l, "torn: its size without its bytes");
	if (!is_new && !range_is_old(l, size))
		return fail(l, "torn");
	return is_new || !promised || fail(l, "it was promised, and is not there");
}

/* Whoever has blocks of the range too keeps them, and what it did just before is there or not. */
static bool judge_other(struct lab *l)
{
	const struct window *w = &l->w;
	struct fs_inode *ip = file_open(&l->m, w, true);
	uint64_t size;

	if (!ip)
		return fail(l, "the other file is gone");
	size = (uint64_t)read_window(l, ip);
	fs_iput(ip);
	if ((size == w->other_stored && memcmp(l->got, w->other, w->bytes) == 0) ||
	    (size == w->other_late && memcmp(l->got, w->left, w->bytes) == 0))
		return true;
	return fail(l, "the other file changed");
}

static bool check_clean(struct lab *l, const char *why)
{
	struct bd *bd = image_open(&l->survivor);
	struct chk_result res = { 0 };
	struct chk_opts o = { .readonly = true };
	char *text = NULL;
	size_t size = 0;
	bool good;

	o.out = open_memstream(&text, &size);
	if (!o.out)
		abort();
	good = chk_run(bd, &o, &res) == 0 && res.found == 0;
	fclose(o.out);
	bd_close(bd);
	if (!good)
		printf("# %s", text);
	free(text);
	return good || fail(l, why);
}

/* Was it judged already? A sum over its pages, which come in any order. */
static bool seen_before(struct lab *l, bool promised)
{
	const struct image *im = &l->survivor;
	uint64_t sum = promised;

	for (unsigned i = 0; i < im->nr_dirty; i++)
		sum += XXH3_64bits_withSeed(im->page[im->dirty[i]], IMAGE_PAGE, im->dirty[i] + 1);
	for (unsigned i = 0; i < l->nr_seen; i++)
		if (l->seen[i] == sum)
			return true;
	must_be(l->nr_seen < SURVIVORS_MAX, true, "room for survivors");
	l->seen[l->nr_seen++] = sum;
	return false;
}

static bool judge(struct lab *l, bool promised)
{
	bool good;

	if (l->survivors++ % EARLY_EVERY == 0 && !check_clean(l, "the checker found problems before recovery"))
		return false;
	if (untorn_mount(&l->m, image_open(&l->survivor), l->g->memory))
		return fail(l, "it does not mount");
	good = judge_file(l, promised) && judge_other(l);
	if (untorn_unmount(&l->m) && good)
		return fail(l, "unmount after recovery");
	return good && check_clean(l, "the checker found problems");
}

/* ---- Cuts ------------------------------------------------------------------------------------------ */

static bool cut(struct lab *l, unsigned at, enum cut_mode mode, uint64_t arg)
{
	const bool promised = at >= l->safe;

	disk_cut(l->disk, at, mode, arg, &l->survivor);
	l->cuts++;
	if (seen_before(l, promised) || judge(l, promised))
		return true;
	printf("# %llu bytes over %s%s, cut at event %u of %u..%u..%u, mode %d, %llu: %s\n",
	       (unsigned long long)l->w.len, l->w.layout->text, l->dsync ? ", O_DSYNC" : "", at, l->begin,
	       l->safe, l->unmounted, mode, (unsigned long long)arg, l->why);
	return false;
}

/* From before its first request to behind the last one of the unmount that follows. */
static bool cut_everywhere(struct lab *l, uint64_t seed)
{
	bool good = true;

	for (unsigned at = l->begin; at <= l->unmounted && good; at++)
		good = cut(l, at, CUT_LOSE_ALL, 0) && cut(l, at, CUT_KEEP_ALL, 0) &&
		       cut(l, at, CUT_TEAR, at) && cut(l, at, CUT_SEED, seed + at);
	return good;
}

static bool one_write(struct lab *l, unsigned layout, uint64_t len)
{
	const uint64_t seed = opt->seed * 1000003 + layout * 1009 + len;
	const uint64_t before = l->by_device;

	window_init(&l->w, &layouts[layout], 1u << l->g->shift, len);
	/* By turns, so that over the sizes each layout has both. */
	l->dsync = (opt->seed + layout + ilog2(len)) % 2;
	record(l, seed);
	if (!cut_everywhere(l, seed))
		return false;
	if ((l->by_device > before) != (l->device && layouts[layout].by_device))
		l->why = l->by_device > before ? "the device did it" : "the device did not do it";
	else if (l->g->shattered && l->pieces != len / l->w.bs)
		l->why = "its new blocks lie together";
	else
		return true;
	printf("# %llu bytes over %s: %s\n", (unsigned long long)len, l->w.layout->text, l->why);
	return false;
}

static bool one_size(struct lab *l, unsigned nr, uint64_t len)
{
	bool good = true;

	l->writes = l->by_device = l->cuts = l->survivors = 0;
	for (unsigned i = 0; i < nr_layouts && good; i++) {
		if (opt->layout >= 0 && opt->layout != (long)i)
			continue;
		good = one_write(l, i, len);
		if (!good)
			printf("# again: untorn -s %llu -c %u -l %u\n", (unsigned long long)opt->seed, nr, i);
	}
	printf("untorn: %u-byte blocks on %llu MiB%s, %s: %llu bytes: %llu writes, %llu by the device, "
	       "%llu cuts, %llu survivors: %s\n", 1u << l->g->shift, (unsigned long long)(l->g->device >> 20),
	       l->g->shattered ? " in pieces" : "", l->device ? "untorn device" : "plain device", (unsigned long long)len,
	       (unsigned long long)l->writes, (unsigned long long)l->by_device,
	       (unsigned long long)l->cuts, (unsigned long long)l->survivors, good ? "good" : l->why);
	return good;
}

static void one_case(unsigned nr, struct totals *t)
{
	struct lab *l = calloc(1, sizeof(*l));

	if (!l)
		abort();
	lab_init(l, nr);
	for (uint64_t len = l->g->first; len <= l->g->limit; len *= 2) {
		t->failures += !one_size(l, nr, len);
		t->sizes++;
		t->cuts += l->cuts;
	}
	lab_fini(l);
	free(l);
}

/* New blocks in pieces are no matter of the device. */
static bool is_wanted(unsigned nr)
{
	return nr % 2 ? !geometries[nr / 2].shattered : !opt->device_only;
}

/* A process for each, so many at a time; each tells its sums through a pipe. */
static bool all_cases(struct totals *sum)
{
	unsigned next = opt->only < 0 ? 0 : (unsigned)opt->only, running = 0;
	const unsigned last = opt->only < 0 ? NR_CASES : next + 1;
	struct totals t = { 0 };
	bool good = true;
	int fds[2], status;

	if (pipe(fds))
		abort();
	while (next < last || running) {
		if (next < last && !is_wanted(next)) {
			next++;
			continue;
		}
		if (next < last && running < opt->jobs) {
			const pid_t pid = fork();

			if (pid < 0)
				abort();
			if (pid == 0) {
				t = (struct totals){ 0 };
				one_case(next, &t);
				_exit(write(fds[1], &t, sizeof(t)) != sizeof(t));
			}
			next++;
			running++;
			continue;
		}
		if (wait(&status) < 0)
			abort();
		running--;
		if (status) {
			printf("untorn: a case ended with status %#x\n", (unsigned)status);
			good = false;
		} else if (read(fds[0], &t, sizeof(t)) == sizeof(t)) {
			sum->sizes += t.sizes;
			sum->cuts += t.cuts;
			sum->failures += t.failures;
		}
	}
	return good;
}

/* ---- Command line ------------------------------------------------------------------------------------ */

static const struct argp_option arg_options[] = {
	{ "seed", 's', "SEED", 0, "Order of completions, cuts", 0 },
	{ "case", 'c', "NR", 0, "This geometry and device alone", 0 },
	{ "layout", 'l', "NR", 0, "This one alone", 0 },
	{ "jobs", 'j', "N", 0, "Processes", 0 },
	{ "device", 'd', NULL, 0, "Only devices that have untorn writes", 0 },
	{ 0 },
};

static uint64_t number(const char *arg, struct argp_state *state)
{
	char *end;
	uint64_t v = strtoull(arg, &end, 0);

	if (end == arg || *end)
		argp_error(state, "'%s' is no number", arg);
	return v;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 's':
		o->seed = number(arg, state);
		break;
	case 'c':
		o->only = (long)number(arg, state);
		if (o->only < 0 || o->only >= (long)NR_CASES)
			argp_error(state, "cases are 0 to %u", NR_CASES - 1);
		break;
	case 'l':
		o->layout = (long)number(arg, state);
		if (o->layout < 0 || o->layout >= (long)nr_layouts)
			argp_error(state, "layouts are 0 to %u", nr_layouts - 1);
		break;
	case 'j':
		o->jobs = (unsigned)MAX(number(arg, state), 1ul);
		break;
	case 'd':
		o->device_only = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = { arg_options, parse, NULL, "Power cuts in untorn writes", NULL,
					  NULL, NULL };
	struct options o = { .seed = 1, .jobs = 1, .only = -1, .layout = -1 };
	struct totals t = { 0 };
	bool good;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	opt = &o;
	setvbuf(stdout, NULL, _IOLBF, 0);
	log_set_sink(log_stderr, NULL);
	log_set_level(LOG_LVL_ERR);
	good = all_cases(&t);
	if (good && !t.sizes)
		printf("untorn: there is no such case\n");
	printf("untorn: seed %llu, sizes %llu, cuts %llu, failures %llu\n", (unsigned long long)o.seed,
	       (unsigned long long)t.sizes, (unsigned long long)t.cuts, (unsigned long long)t.failures);
	return !good || !t.sizes || t.failures;
}

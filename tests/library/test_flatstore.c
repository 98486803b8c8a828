/* SPDX-License-Identifier: MIT */
/*
 * The example file system: what its header promises, under power cuts after every write; and
 * several of them at work in one process, one on a device that fails.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "flatstore.h"
#include "iomapfs/util.h"
#include "unit.h"

#define DEV_BYTES (4u << 20)
#define CUT_BYTES (176u << 10) /* blocks are taken again soon */
#define NAMES     4u
#define MAX_BYTES (48u << 10)

static uint8_t byte_of(unsigned version, uint64_t pos)
{
	return (uint8_t)(version * 37u + pos * 11u + (pos >> 8) * 3u + 1u);
}

static uint64_t size_of(unsigned version)
{
	return version * 7919ull * 13u % MAX_BYTES + 1;
}

static void name_of(unsigned i, char *name)
{
	snprintf(name, 16, "file-%u", i);
}

/* A new file under another name, renamed and committed: as `flatstore IMAGE put`. */
static int put(struct store *st, unsigned i, unsigned version, bool direct)
{
	static _Thread_local uint8_t buf[MAX_BYTES] __attribute__((aligned(4096)));
	const uint64_t size = size_of(version);
	struct inode *f;
	int64_t ret;
	char name[16];
	int err;

	name_of(i, name);
	for (uint64_t pos = 0; pos < size; pos++)
		buf[pos] = byte_of(version, pos);
	store_remove(st, ".put");
	err = file_open(st, ".put", true, &f);
	if (err)
		return err;
	for (uint64_t pos = 0; !err && pos < size; pos += (uint64_t)ret) {
		/* In pieces that end within blocks, unless direct. */
		ret = file_write(f, pos, buf + pos, MIN(size - pos, direct ? 16384u : 9999u), direct);
		err = ret < 0 ? (int)ret : 0;
	}
	ret = file_close(f);
	err = err ?: (int)ret ?: store_rename(st, ".put", name);
	return err ?: store_commit(st);
}

static int drop(struct store *st, unsigned i)
{
	char name[16];

	name_of(i, name);
	return store_remove(st, name) ?: store_commit(st);
}

/* Is file i version (0: absent), whole? */
static bool holds(struct store *st, unsigned i, unsigned version)
{
	static _Thread_local uint8_t buf[MAX_BYTES];
	struct inode *f;
	char name[16];
	bool good;

	name_of(i, name);
	if (file_open(st, name, false, &f))
		return version == 0;
	good = version && i_size_read(f) == size_of(version) &&
	       file_read(f, 0, buf, sizeof(buf)) == (int64_t)size_of(version);
	for (uint64_t pos = 0; good && pos < size_of(version); pos++)
		good = buf[pos] == byte_of(version, pos);
	ck_assert_int_eq(file_close(f), 0);
	return good;
}

static struct bd *new_device(uint64_t bytes)
{
	struct bd *bd;

	ck_assert_int_eq(bd_mem_create(bytes, 512, &bd), 0);
	ck_assert_int_eq(store_format(bd), 0);
	return bd;
}

/* ---- Power cuts ---------------------------------------------------------------------------- */

struct state {
	unsigned version[NAMES];
};

/* Steps until the device fails; now: what was committed; then: what the step that failed would have made. */
static void work(struct store *st, uint64_t seed, struct state *now, struct state *then)
{
	struct state mem = *now; /* as the store sees it */
	struct rng r;

	rng_seed(&r, seed);
	for (unsigned v = 1; v <= 20; v++) {
		const unsigned i = (unsigned)rng_below(&r, NAMES), other = (i + 1) % NAMES;
		const bool remove = mem.version[i] && rng_below(&r, 4) == 0;
		char name[16];
		int err;

		/* Gone with the next commit; nobody may write over its blocks before. */
		if (!remove && mem.version[other] && rng_below(&r, 2)) {
			name_of(other, name);
			ck_assert_int_eq(store_remove(st, name), 0);
			mem.version[other] = 0;
		}
		*then = mem;
		then->version[i] = remove ? 0 : v;
		err = remove ? drop(st, i) : put(st, i, v, rng_below(&r, 3) == 0);
		if (err == -ENOSPC)
			store_remove(st, ".put");
		else if (err)
			return;
		else
			*now = mem = *then;
	}
}

static bool is_state(struct store *st, const struct state *s)
{
	for (unsigned i = 0; i < NAMES; i++)
		if (!holds(st, i, s->version[i]))
			return false;
	return true;
}

/* Cut after write n; true when the work ended before. */
static bool one_cut(uint64_t n, uint64_t seed)
{
	struct bd *mem = new_device(CUT_BYTES), *crash;
	struct state now = { 0 }, then = { 0 };
	struct store *st;
	bool done;

	ck_assert_int_eq(bd_crash_create(mem, &crash), 0);
	ck_assert_int_eq(store_open(crash, &st), 0);
	bd_crash_arm(crash, n, seed + n);
	work(st, seed, &now, &then);
	done = bd_crash_nr_writes(crash) < n;
	ck_assert_int_eq(bd_crash_cut(crash, seed), 0); /* nothing, where it was cut already */
	store_close(st);
	mem = bd_crash_detach(crash);
	ck_assert_int_eq(store_open(mem, &st), 0);
	ck_assert_msg(is_state(st, &now) || is_state(st, &then), "seed %llu, cut after write %llu",
		      (unsigned long long)seed, (unsigned long long)n);
	/* And it goes on: all room comes back. */
	for (unsigned i = 0; i < NAMES; i++)
		drop(st, i);
	ck_assert_int_eq(put(st, 0, 99, false), 0);
	ck_assert(holds(st, 0, 99));
	store_close(st);
	bd_close(mem);
	return done;
}

START_TEST(power_cuts)
{
	const uint64_t seed = unit_seed(1);
	uint64_t cuts = 0;

	for (uint64_t s = seed; s < seed + 8; s++)
		for (uint64_t n = 1; !one_cut(n, s); n++)
			cuts++;
	ck_assert_uint_gt(cuts, 40);
}
END_TEST

/* ---- Bad devices ------------------------------------------------------------------------------ */

START_TEST(device_that_fails)
{
	const struct bd_fault_rule rule = { .op = BD_WRITE, .count = UINT64_MAX, .error = -EIO };
	FILE *said = tmpfile();
	struct bd *fault;
	struct store *st;

	/* Without a sink the library keeps silent. */
	log_set_sink(NULL, NULL);
	fflush(stdout);
	ck_assert_int_ge(dup2(fileno(said), STDOUT_FILENO), 0);
	ck_assert_int_ge(dup2(fileno(said), STDERR_FILENO), 0);
	ck_assert_int_eq(bd_fault_create(new_device(DEV_BYTES), &fault), 0);
	ck_assert_int_eq(store_open(fault, &st), 0);
	ck_assert_int_eq(put(st, 0, 1, false), 0);
	bd_fault_set(fault, &rule, 1);
	ck_assert_int_eq(put(st, 0, 2, false), -EIO);
	ck_assert_int_eq(put(st, 1, 3, true), -EIO);
	ck_assert(holds(st, 0, 1));
	ck_assert_int_eq(drop(st, 0), -EIO);
	bd_fault_set(fault, NULL, 0);
	/* The table's write failed, so nobody knows which one is there. */
	ck_assert_int_eq(put(st, 0, 4, false), -EIO);
	store_close(st);
	ck_assert_int_eq(store_open(fault, &st), 0);
	ck_assert(holds(st, 0, 1));
	store_close(st);
	bd_close(fault);
	ck_assert_int_eq(lseek(fileno(said), 0, SEEK_END), 0);
}
END_TEST

START_TEST(full_device)
{
	struct bd *bd = new_device(DEV_BYTES);
	struct store *st;
	unsigned v = 1;
	int err;

	ck_assert_int_eq(store_open(bd, &st), 0);
	/* Each replaces itself: old and new need room at once, and the old one's comes back. */
	for (; v < 60; v++)
		ck_assert_int_eq(put(st, 0, v, false), 0);
	do
		err = put(st, v, v, false);
	while (!err && ++v < 1000);
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert(holds(st, 0, 59));
	ck_assert_int_eq(store_remove(st, ".put"), 0);
	ck_assert_int_eq(drop(st, 60), 0);
	ck_assert_int_eq(put(st, 60, 60, true), 0);
	store_close(st);
	bd_close(bd);
}
END_TEST

/* ---- Several in a process -------------------------------------------------------------------------- */

static void *store_main(void *arg)
{
	const uint64_t seed = (uintptr_t)arg;
	struct bd *bd = new_device(DEV_BYTES);
	struct store *st;
	struct state now = { 0 }, then;

	ck_assert_int_eq(store_open(bd, &st), 0);
	for (unsigned round = 0; round < 4; round++) {
		work(st, seed + round, &now, &then);
		ck_assert(is_state(st, &now));
	}
	store_close(st);
	ck_assert_int_eq(store_open(bd, &st), 0);
	ck_assert(is_state(st, &now));
	store_close(st);
	bd_close(bd);
	return NULL;
}

START_TEST(several_stores)
{
	const uint64_t seed = unit_seed(1000);
	pthread_t t[3];

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, store_main, (void *)(uintptr_t)(seed + i * 100)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
}
END_TEST

/* Threads on one file, each in its own part; a reader that must see bytes of the right kind. */
struct shared_file {
	struct inode *f;
	unsigned part;
};

static void *writer_main(void *arg)
{
	static _Thread_local uint8_t buf[5000];
	struct shared_file *s = arg;

	memset(buf, 'a' + (int)s->part, sizeof(buf));
	for (uint64_t n = 0; n < 40; n++)
		ck_assert_int_eq(file_write(s->f, s->part * 200000 + n * sizeof(buf), buf, sizeof(buf), n % 5 == 0),
				 sizeof(buf));
	return NULL;
}

START_TEST(threads_and_commits)
{
	static uint8_t buf[800000];
	struct bd *bd = new_device(DEV_BYTES);
	struct shared_file s[4];
	pthread_t t[4];
	struct store *st;
	struct inode *f;

	ck_assert_int_eq(store_open(bd, &st), 0);
	ck_assert_int_eq(file_open(st, "shared", true, &f), 0);
	for (unsigned i = 0; i < 4; i++) {
		s[i] = (struct shared_file){ f, i };
		ck_assert_int_eq(pthread_create(&t[i], NULL, writer_main, &s[i]), 0);
	}
	for (unsigned i = 0; i < 10; i++)
		ck_assert_int_eq(store_commit(st), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert_int_eq(store_commit(st), 0);
	ck_assert_int_eq(file_close(f), 0);
	store_close(st);
	ck_assert_int_eq(store_open(bd, &st), 0);
	ck_assert_int_eq(file_open(st, "shared", false, &f), 0);
	ck_assert_int_eq(file_read(f, 0, buf, sizeof(buf)), sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i++)
		ck_assert_int_eq(buf[i], 'a' + i / 200000);
	ck_assert_int_eq(file_close(f), 0);
	store_close(st);
	bd_close(bd);
}
END_TEST

START_TEST(bad_input)
{
	char long_name[FLATSTORE_NAME + 1] = { 0 };
	struct bd *bd;
	struct store *st;
	struct inode *f;

	ck_assert_int_eq(bd_mem_create(16384, 512, &bd), 0);
	ck_assert_int_eq(store_format(bd), -ENOSPC);
	bd_close(bd);
	ck_assert_int_eq(bd_mem_create(DEV_BYTES, 512, &bd), 0);
	ck_assert_int_eq(store_open(bd, &st), -EMEDIUMTYPE);
	ck_assert_int_eq(store_format(bd), 0);
	ck_assert_int_eq(store_open(bd, &st), 0);
	memset(long_name, 'x', FLATSTORE_NAME);
	ck_assert_int_eq(file_open(st, long_name, true, &f), -ENAMETOOLONG);
	ck_assert_int_eq(file_open(st, "", false, &f), -ENOENT);
	ck_assert_int_eq(file_open(st, "none", false, &f), -ENOENT);
	ck_assert_int_eq(store_remove(st, ""), -ENOENT);
	ck_assert_int_eq(store_rename(st, "none", "new"), -ENOENT);
	ck_assert_int_eq(file_open(st, "one", true, &f), 0);
	ck_assert_int_eq(file_write(f, DEV_BYTES, "x", 1, false), -EFBIG);
	ck_assert_int_eq(file_write(f, UINT64_MAX, "x", 1, false), -EFBIG);
	ck_assert_int_eq(file_write(f, DEV_BYTES - 1, "x", 1, false), 1);
	ck_assert_int_eq(file_read(f, DEV_BYTES, long_name, 1), 0);
	ck_assert_int_eq(file_close(f), 0);
	ck_assert_int_eq(store_rename(st, "one", long_name), -ENAMETOOLONG);
	store_close(st);
	bd_close(bd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("flatstore");
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, power_cuts);
	tcase_add_test(tc, device_that_fails);
	tcase_add_test(tc, full_device);
	tcase_add_test(tc, several_stores);
	tcase_add_test(tc, threads_and_commits);
	tcase_add_test(tc, bad_input);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

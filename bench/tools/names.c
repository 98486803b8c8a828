/* SPDX-License-Identifier: MIT */
/*
 * Operations on names, timed: 1000 files to a directory, as trees have them; the directories are
 * dealt out to the jobs. What each operation left is checked when the clock has stopped.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common.h"

#define PER_DIR 1000L

static const char usage_text[] = "names create|stat|list|rename|unlink DIR N JOBS";

static const char *top;
static long total;
static unsigned nr_jobs;
static struct lat *lats; /* one a job */

static void dir_name(char *buf, size_t size, long dir)
{
	snprintf(buf, size, "%s/%ld", top, dir);
}

static void file_name(char *buf, size_t size, char prefix, long i)
{
	snprintf(buf, size, "%s/%ld/%c%ld", top, i / PER_DIR, prefix, i);
}

static long nr_dirs(void)
{
	return (total + PER_DIR - 1) / PER_DIR;
}

static long files_in(long dir)
{
	const long left = total - dir * PER_DIR;

	return left < PER_DIR ? left : PER_DIR;
}

/* ---- One operation ----------------------------------------------------------------------- */

static void do_create(long i)
{
	char path[4096];
	int fd;

	file_name(path, sizeof(path), 'f', i);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
	if (fd < 0)
		die(path);
	if (close(fd))
		die(path);
}

static void do_stat(long i)
{
	char path[4096];
	struct stat st;

	file_name(path, sizeof(path), 'f', i);
	if (stat(path, &st))
		die(path);
	if (!S_ISREG(st.st_mode) || st.st_size != 0 || st.st_nlink != 1)
		wrong("%s: mode %o, %lld bytes, %lu links", path, st.st_mode, (long long)st.st_size,
		      (unsigned long)st.st_nlink);
}

static void do_rename(long i)
{
	char from[4096], to[4096];

	file_name(from, sizeof(from), 'f', i);
	file_name(to, sizeof(to), 'g', i);
	if (rename(from, to))
		die(from);
}

static void do_unlink(long i)
{
	char path[4096];

	file_name(path, sizeof(path), 'g', i);
	if (unlink(path))
		die(path);
}

/* ---- A directory ------------------------------------------------------------------------- */

/* Names of the directory that begin with prefix, each with a stat if asked for; any other name is wrong. */
static long count_names(long dir, char prefix, bool with_stat)
{
	char path[4096];
	struct dirent *e;
	struct stat st;
	long n = 0;
	DIR *d;

	dir_name(path, sizeof(path), dir);
	d = opendir(path);
	if (!d)
		die(path);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (e->d_name[0] != prefix)
			wrong("%s/%s: unexpected name", path, e->d_name);
		if (with_stat && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			die(e->d_name);
		n++;
	}
	closedir(d);
	return n;
}

static void expect_names(char prefix)
{
	for (long dir = 0; dir < nr_dirs(); dir++) {
		const long n = count_names(dir, prefix, false);

		if (n != files_in(dir))
			wrong("%s/%ld: %ld names, not %ld", top, dir, n, files_in(dir));
	}
}

static void expect_empty(void)
{
	char path[4096];

	for (long dir = 0; dir < nr_dirs(); dir++) {
		dir_name(path, sizeof(path), dir);
		if (rmdir(path))
			die(path);
	}
}

static void make_dirs(void)
{
	char path[4096];

	for (long dir = 0; dir < nr_dirs(); dir++) {
		dir_name(path, sizeof(path), dir);
		if (mkdir(path, 0755))
			die(path);
	}
}

/* ---- Jobs -------------------------------------------------------------------------------- */

static void each_file(unsigned job, void *arg)
{
	void (*op)(long i) = *(void (**)(long))arg;

	for (long dir = job; dir < nr_dirs(); dir += nr_jobs) {
		for (long i = dir * PER_DIR; i < dir * PER_DIR + files_in(dir); i++) {
			const uint64_t begin = now_ns();

			op(i);
			lat_add(&lats[job], now_ns() - begin);
		}
	}
}

static void each_dir(unsigned job, void *arg)
{
	for (long dir = job; dir < nr_dirs(); dir += nr_jobs) {
		const long n = count_names(dir, 'f', true);

		if (n != files_in(dir))
			wrong("%s/%ld: %ld names listed, not %ld", top, dir, n, files_in(dir));
	}
}

static const struct op {
	const char *name;
	void (*one)(long i); /* NULL: by directory */
	char leaves;         /* prefix of the names that are there afterwards; 0: none */
} ops[] = {
	{"create", do_create, 'f'}, {"stat", do_stat, 'f'}, {"list", NULL, 'f'},
	{"rename", do_rename, 'g'}, {"unlink", do_unlink, 0},
};

static void run(const struct op *op)
{
	void (*one)(long i) = op->one;
	uint64_t ns;

	if (op->one == do_create)
		make_dirs();
	ns = run_jobs(nr_jobs, one ? each_file : each_dir, &one);
	for (unsigned j = 1; j < nr_jobs; j++) {
		lats[0].count += lats[j].count;
		for (unsigned b = 0; b < LAT_BUCKETS; b++)
			lats[0].hist[b] += lats[j].hist[b];
	}
	report(op->name, (uint64_t)total, ns, 0, one ? &lats[0] : NULL);
	/* Looking would warm what the next one wants cold. */
	if (op->one == do_create || op->one == do_rename)
		expect_names(op->leaves);
	else if (op->one == do_unlink)
		expect_empty();
}

int main(int argc, char **argv)
{
	if (argc != 5)
		usage(usage_text);
	top = argv[2];
	total = number(argv[3]);
	nr_jobs = (unsigned)number(argv[4]);
	lats = shared_alloc(nr_jobs * sizeof(*lats));
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (!strcmp(argv[1], ops[i].name)) {
			run(&ops[i]);
			return 0;
		}
	}
	usage(usage_text);
}

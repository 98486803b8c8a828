/* SPDX-License-Identifier: MIT */
/*
 * crash - power cuts in bounded sequences of operations (the method of CrashMonkey and ACE): all
 * sequences of one, two or three operations with fsync-like calls between them, or random longer
 * ones, each recorded once and cut at many moments.
 *
 * The last line: "crash: S sequences, C cuts, U unsafe writes a cut, F failures".
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "record.h"

#define DEVICE_SIZE (16ull << 20)

enum plan { CUTS_NUMBER, CUTS_NONE, CUTS_EACH, CUTS_DOUBLING, CUTS_EXHAUSTIVE };

struct options {
	unsigned length;        /* of each sequence; 0: random ones */
	unsigned random_length;
	uint64_t first, count;  /* which sequences */
	uint64_t seed;
	unsigned jobs, seconds;
	enum plan plan;
	unsigned number;        /* cuts a sequence besides the promised ones */
	bool verbose, keep_going;
	bool every_call;        /* sequences number the persistence calls too */
	bool by_hand;           /* the directed sequences */
	const char *save, *replay;
};

struct totals {
	uint64_t sequences, cuts, unsafe, failures;
};

static const struct options *opt;

static void tell_failure(const struct lab *l, const struct seq *s, const struct cut_at *c)
{
	static const char *const modes[] = { "lose-all", "keep-all", "seed", "bits", "keep-but",
					     "lose-but", "tear" };
	char text[4096], path[512];

	seq_print(s, text, sizeof(text));
	printf("# FAILED seed %llu: %s\n#   cut at event %u of %u (%s %llu): %s\n",
	       (unsigned long long)s->seed, text, c->at, s->unmounted, modes[c->mode],
	       (unsigned long long)c->arg, l->why);
	if (opt->save) {
		snprintf(path, sizeof(path), "%s/crash-%llu", opt->save, (unsigned long long)s->seed);
		if (record_save(path, l, s, c))
			printf("#   again: crash --replay %s\n", path);
		else
			printf("#   cannot write %s: %s\n", path, strerror(errno));
	}
	fflush(stdout);
}

static bool cut(struct lab *l, const struct seq *s, unsigned at, enum cut_mode mode, uint64_t arg)
{
	const struct cut_at c = { at, mode, arg, l->cuts % 8 == 0 };

	if (seq_cut(l, s, at, mode, arg, c.thorough))
		return true;
	tell_failure(l, s, &c);
	return false;
}

/* Where promises were just made nothing that is needed for them may be unsafe. */
static bool cut_at_promises(struct lab *l, const struct seq *s)
{
	bool good = true;

	for (unsigned i = 0; i < s->nr && good; i++) {
		const struct step *st = &s->step[i];

		if (st->op->kind == OP_DSYNC)
			good = cut(l, s, st->end_op, CUT_LOSE_ALL, 0);
		if (good && st->persist != P_NONE)
			good = cut(l, s, st->end, CUT_LOSE_ALL, 0) &&
			       cut(l, s, st->end, CUT_SEED, s->seed + i);
	}
	return good && cut(l, s, s->unmounted, CUT_LOSE_ALL, 0);
}

static bool cut_all_ways(struct lab *l, const struct seq *s, unsigned at)
{
	unsigned n = disk_cut(l->disk, at, CUT_LOSE_ALL, 0, &l->survivor);
	bool good = true;

	if (n <= 6) {
		for (uint64_t bits = 0; bits < 1ull << n && good; bits++)
			good = cut(l, s, at, CUT_BITS, bits);
		return good;
	}
	for (unsigned i = 0; i < n && good; i++)
		good = cut(l, s, at, CUT_KEEP_BUT, i) && cut(l, s, at, CUT_LOSE_BUT, i);
	return good;
}

static bool cut_planned(struct lab *l, const struct seq *s)
{
	struct rng r;
	bool good = true;

	rng_seed(&r, s->seed * 77 + 5);
	switch (opt->plan) {
	case CUTS_NUMBER:
		for (unsigned i = 0; i < opt->number && good; i++) {
			const unsigned at = 1 + (unsigned)rng_below(&r, s->unmounted);
			const unsigned kind = (unsigned)rng_below(&r, 6);
			const enum cut_mode mode = kind == 0 ? CUT_LOSE_ALL :
						   kind == 1 ? CUT_KEEP_ALL :
						   kind == 2 ? CUT_BITS :
							       CUT_SEED;

			good = cut(l, s, at, mode, rng_u64(&r));
		}
		break;
	case CUTS_EACH:
		for (unsigned at = 1; at <= s->unmounted && good; at++)
			good = cut(l, s, at, CUT_LOSE_ALL, 0) && cut(l, s, at, CUT_KEEP_ALL, 0) &&
			       cut(l, s, at, CUT_SEED, at);
		break;
	case CUTS_DOUBLING:
		for (unsigned at = 1; at <= s->unmounted && good; at *= 2)
			good = cut(l, s, at, CUT_SEED, at);
		break;
	case CUTS_EXHAUSTIVE:
		for (unsigned at = 1; at <= s->unmounted && good; at++)
			good = cut_all_ways(l, s, at);
		break;
	case CUTS_NONE:
		break;
	}
	return good;
}

/*
 * Metadata that was logged and freed, and its blocks filled with data: on a full device they are
 * the only free ones. Replay must not bring the old image back over it.
 */
static const char *const reuse[][2] = {
	{ "setxattr A 60000", "sync" }, { "creat bar", "sync" },   { "hog bar", "sync" },
	{ "removexattr A", "sync" },    { "new A/bar 30000", "sync" },
};
/* Blocks that have moved are written in place: on the device they must not have their old position. */
static const char *const moved[][2] = {
	{ "insert foo 8192+4096", "-" },   { "write foo 6000+9000", "writeback" },
	{ "collapse foo 4096+8192", "-" }, { "direct foo 4096+8192", "-" },
};
static const struct {
	const char *const (*step)[2];
	unsigned nr;
} directed[] = {
	{ reuse, ARRAY_SIZE(reuse) },
	{ moved, ARRAY_SIZE(moved) },
};

static void choose_by_hand(struct seq *s, unsigned which)
{
	const char *const (*step)[2] = directed[which].step;

	s->seed = opt->seed * 2; /* even: without discards */
	s->nr = directed[which].nr;
	for (unsigned i = 0; i < s->nr; i++) {
		s->step[i] = (struct step){ 0 };
		for (unsigned k = 0; k < op_count_all; k++)
			if (strcmp(op_table[k].text, step[i][0]) == 0)
				s->step[i].op = &op_table[k];
		for (unsigned k = 0; k < P_NR; k++)
			if (strcmp(persist_text[k], step[i][1]) == 0)
				s->step[i].persist = (enum persist)k;
		if (!s->step[i].op)
			abort();
	}
}

/*
 * Sequence number `nr`: the operations are its digits, and with every_call the calls behind them
 * too; else those are drawn by seed.
 */
static void choose(struct seq *s, uint64_t nr)
{
	struct rng r;
	uint64_t digits = nr;

	if (opt->by_hand) {
		choose_by_hand(s, (unsigned)(nr % ARRAY_SIZE(directed)));
		return;
	}
	s->seed = opt->seed + nr;
	rng_seed(&r, s->seed);
	s->nr = opt->length ? opt->length : opt->random_length;
	for (unsigned i = 0; i < s->nr; i++) {
		const uint64_t d = opt->length ? digits % op_count : rng_below(&r, op_count);

		digits /= op_count;
		s->step[i] = (struct step){ .op = &op_table[d],
					    .persist = (enum persist)rng_below(&r, P_NR) };
		if (!opt->every_call)
			continue;
		s->step[i].persist = (enum persist)(digits % P_NR);
		digits /= P_NR;
	}
}

static void work_prepare(struct lab *l, struct seq *s)
{
	lab_init(l, DEVICE_SIZE);
	s->states = calloc(M_STATES, sizeof(*s->states));
	if (!s->states)
		abort();
}

/* One recorded cut again. 0: nothing wrong with it now, 1: it fails, 2: no such record. */
static int replay(void)
{
	struct seq s = { 0 };
	struct cut_at c;
	struct lab l;
	int rc = 0;

	work_prepare(&l, &s);
	if (!record_load(opt->replay, &l, &s, &c)) {
		fprintf(stderr, "crash: %s: not a record of this program\n", opt->replay);
		rc = 2;
	} else if (!seq_cut(&l, &s, c.at, c.mode, c.arg, c.thorough)) {
		tell_failure(&l, &s, &c);
		rc = 1;
	}
	lab_fini(&l);
	free(s.states);
	return rc;
}

static void work(unsigned job, struct totals *t)
{
	struct seq *s = calloc(1, sizeof(*s));
	struct lab l;
	time_t until = opt->seconds ? time(NULL) + opt->seconds : 0;

	if (!s)
		abort();
	work_prepare(&l, s);
	for (uint64_t nr = opt->first + job; nr < opt->first + opt->count; nr += opt->jobs) {
		char text[4096];

		if (until && time(NULL) >= until)
			break;
		choose(s, nr);
		if (opt->verbose) {
			seq_print(s, text, sizeof(text));
			printf("# %llu: %s\n", (unsigned long long)nr, text);
			fflush(stdout);
		}
		t->sequences++;
		if (!seq_run(&l, s)) {
			seq_print(s, text, sizeof(text));
			printf("# FAILED seed %llu: %s: %s\n", (unsigned long long)s->seed, text, l.why);
			t->failures++;
		} else if (!cut_at_promises(&l, s) || !cut_planned(&l, s)) {
			t->failures++;
		}
		if (t->failures && !opt->keep_going)
			break;
	}
	t->cuts = l.cuts;
	t->unsafe = l.unsafe;
	lab_fini(&l);
	free(s->states);
	free(s);
}

/* Each job is a process; it reports through a pipe. */
static bool run_jobs(struct totals *sum)
{
	bool good = true;
	int fds[2];

	if (pipe(fds))
		abort();
	fflush(stdout);
	for (unsigned j = 0; j < opt->jobs; j++) {
		struct totals t = { 0 };

		if (fork() != 0)
			continue;
		work(j, &t);
		fflush(stdout);
		_exit(write(fds[1], &t, sizeof(t)) == sizeof(t) ? 0 : 1);
	}
	close(fds[1]);
	for (unsigned j = 0; j < opt->jobs; j++) {
		struct totals t;

		if (read(fds[0], &t, sizeof(t)) != sizeof(t)) {
			good = false;
			break;
		}
		sum->sequences += t.sequences;
		sum->cuts += t.cuts;
		sum->unsafe += t.unsafe;
		sum->failures += t.failures;
	}
	for (int status; wait(&status) > 0;)
		good = good && status == 0;
	return good;
}

/* ---- Command line ------------------------------------------------------------------------------------ */

static const struct argp_option arg_options[] = {
	{ "length", 'l', "N", 0, "All sequences of N operations", 0 },
	{ "random", 'r', "N", 0, "Random sequences of N operations instead", 0 },
	{ "first", 'f', "NR", 0, "Start with this sequence", 0 },
	{ "count", 'n', "N", 0, "So many sequences", 0 },
	{ "seed", 's', "SEED", 0, "Persistence calls, contents, cuts", 0 },
	{ "jobs", 'j', "N", 0, "Processes", 0 },
	{ "seconds", 't', "N", 0, "Stop after so long", 0 },
	{ "cuts", 'c', "PLAN", 0, "none, each, doubling, exhaustive, or a number of random ones", 0 },
	{ "every-call", 'p', NULL, 0, "Every combination of persistence calls as well", 0 },
	{ "by-hand", 'd', NULL, 0, "The sequence that reuses freed metadata, instead", 0 },
	{ "save", 'o', "DIR", 0, "Write the record of each failure there", 0 },
	{ "replay", 'R', "FILE", 0, "Repeat the cut of such a record, and nothing else", 0 },
	{ "keep-going", 'k', NULL, 0, "After a failure", 0 },
	{ "verbose", 'v', NULL, 0, "Print each sequence", 0 },
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

static void parse_plan(struct options *o, const char *arg, struct argp_state *state)
{
	static const char *const names[] = { [CUTS_NONE] = "none", [CUTS_EACH] = "each",
					     [CUTS_DOUBLING] = "doubling",
					     [CUTS_EXHAUSTIVE] = "exhaustive" };

	for (unsigned i = CUTS_NONE; i <= CUTS_EXHAUSTIVE; i++) {
		if (strcmp(arg, names[i]) == 0) {
			o->plan = (enum plan)i;
			return;
		}
	}
	o->plan = CUTS_NUMBER;
	o->number = (unsigned)number(arg, state);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'l':
		o->length = (unsigned)number(arg, state);
		if (o->length < 1 || o->length > 3)
			argp_error(state, "a length is 1, 2 or 3");
		break;
	case 'r':
		o->length = 0;
		o->random_length = (unsigned)number(arg, state);
		/* Each may make an inode, or two. */
		if (o->random_length < 1 || o->random_length > 12)
			argp_error(state, "random sequences have 1 to 12 operations");
		break;
	case 'f':
		o->first = number(arg, state);
		break;
	case 'n':
		o->count = number(arg, state);
		break;
	case 's':
		o->seed = number(arg, state);
		break;
	case 'j':
		o->jobs = (unsigned)MAX(number(arg, state), 1ul);
		break;
	case 't':
		o->seconds = (unsigned)number(arg, state);
		break;
	case 'c':
		parse_plan(o, arg, state);
		break;
	case 'p':
		o->every_call = true;
		break;
	case 'd':
		o->by_hand = true;
		break;
	case 'o':
		o->save = arg;
		break;
	case 'R':
		o->replay = arg;
		break;
	case 'k':
		o->keep_going = true;
		break;
	case 'v':
		o->verbose = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = { arg_options, parse, NULL,
					  "Power cuts in sequences of operations", NULL, NULL, NULL };
	struct options o = { .length = 1, .seed = 1, .jobs = 1, .number = 6 };
	struct totals t = { 0 };
	uint64_t all = 1;
	bool good;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	opt = &o;
	log_set_sink(log_stderr, NULL);
	log_set_level(LOG_LVL_ERR);
	if (o.replay)
		return replay();
	for (unsigned i = 0; i < o.length; i++)
		all *= op_count * (o.every_call ? P_NR : 1u);
	if (o.by_hand)
		all = ARRAY_SIZE(directed);
	if (!o.count)
		o.count = o.length ? all - MIN(all, o.first) : 1000;
	if (o.length)
		o.count = MIN(o.count, all - MIN(all, o.first));
	good = run_jobs(&t);
	printf("crash: %llu sequences, %llu cuts, %.1f unsafe writes a cut, %llu failures\n",
	       (unsigned long long)t.sequences, (unsigned long long)t.cuts,
	       t.cuts ? (double)t.unsafe / (double)t.cuts : 0, (unsigned long long)t.failures);
	return good && t.failures == 0 ? 0 : 1;
}

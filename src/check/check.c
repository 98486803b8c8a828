/* SPDX-License-Identifier: MIT */
/* The run: passes in order. */
#include <stdlib.h>
#include <string.h>

#include "fix.h"

static void run_pass(struct chk *c, unsigned nr, const char *what, void (*fn)(struct chk *c))
{
	if (c->error)
		return;
	if (c->opts->verbose && c->opts->out) {
		fprintf(c->opts->out, "Pass %u: %s\n", nr, what);
		fflush(c->opts->out);
	}
	c->pass = nr;
	chk_progress(c, 0, 1);
	fn(c);
	chk_progress(c, 1, 1);
}

void chk_progress(const struct chk *c, uint64_t done, uint64_t total)
{
	if (c->opts->progress)
		c->opts->progress(c->opts->progress_arg, c->pass, done, total);
}

static void chk_free(struct chk *c)
{
	struct chk_cluster *cl = c->clusters.data;

	for (size_t i = 0; i < c->clusters.n; i++)
		free(cl[i].inodes);
	chk_vec_free(&c->clusters);
	chk_vec_free(&c->orphans);
	chk_vec_free(&c->refcs);
	chk_vec_free(&c->owners);
	chk_vec_free(&c->dir_infos);
	chk_space_free(c);
	chk_overlay_free(c);
	free(c->bad_ag);
}

/* A run of its own; what it finds and leaves behind is the caller's. */
static void chk_begin(struct chk *c, struct bd *bd, const struct chk_opts *opts,
		      struct chk_result *res)
{
	*c = (struct chk){ .bd = bd, .opts = opts, .res = res };
	memset(res, 0, sizeof(*res));
	RB_INIT(&c->overlays);
	RB_INIT(&c->space);
	chk_vec_init(&c->clusters, sizeof(struct chk_cluster));
	chk_vec_init(&c->orphans, sizeof(struct chk_orphan));
	chk_vec_init(&c->refcs, sizeof(struct chk_refc));
	chk_vec_init(&c->owners, sizeof(struct chk_edge));
	chk_vec_init(&c->dir_infos, sizeof(struct chk_dirinfo));
	c->dirs = &c->dir_infos;
}

/* Tell what is wrong. *safe: -p may repair all of it; *log: committed transactions wait. */
static int look(struct bd *bd, const struct chk_opts *opts, struct chk_result *res, bool *safe,
		bool *log)
{
	struct chk c;
	int err = 0;

	chk_begin(&c, bd, opts, res);
	if (!chk_pass0(&c, &err))
		goto out_free;
	run_pass(&c, 1, "groups", chk_pass1);
	run_pass(&c, 2, "inodes", chk_pass2);
	run_pass(&c, 3, "directories", chk_pass3);
	run_pass(&c, 4, "links and orphans", chk_pass4);
	run_pass(&c, 5, "space", chk_pass5);
	err = c.error;
	if (c.nr_files)
		res->fragmentation = (double)c.nr_file_extents / (double)c.nr_files;
out_free:
	*safe = true;
	for (unsigned i = 0; i < CHK_P_NR; i++)
		if (c.raised[i] && chk_is_error(i) && !chk_preen_ok(i))
			*safe = false;
	*log = c.jnl_ok && !c.clean;
	/* What we do not understand we do not write over. */
	res->unknown = c.raised[CHK_P_SB_FEATURE] || c.raised[CHK_P_JNL_FEATURE];
	/* Problems that stopped the run are a result, not a failure to get one. */
	if (err != -ENOMEM && res->found > 0)
		err = err == -EOPNOTSUPP ? err : 0;
	chk_free(&c);
	return err;
}

static int repair(struct bd *bd, const struct chk_opts *opts)
{
	struct chk_result res;
	struct chk_opts quiet = *opts;
	struct chk c;
	int err = 0;

	/* Told once is enough: pass 0 only finds the way. */
	quiet.out = NULL;
	chk_begin(&c, bd, &quiet, &res);
	if (!chk_pass0(&c, &err)) {
		err = err ? err : -EFSCORRUPTED;
	} else {
		c.opts = opts;
		err = chk_fix_all(&c);
	}
	chk_free(&c);
	return err;
}

int chk_run(struct bd *bd, const struct chk_opts *opts, struct chk_result *res)
{
	struct chk_opts quiet = *opts;
	struct chk_result again;
	bool safe, log;
	int err = look(bd, opts, res, &safe, &log);

	res->left = res->found;
	if (err || opts->readonly || res->unknown || (!res->found && !log))
		return err;
	if (opts->ask && !opts->ask(opts->ask_arg, res))
		return 0;
	if (opts->preen && !safe) {
		res->unsafe = true;
		return 0;
	}
	err = repair(bd, opts);
	if (err == -EFSCORRUPTED)
		return 0; /* there is nothing to begin with: all is left */
	if (err)
		return err;
	/* What was repaired is what is not found any more. */
	quiet.verbose = false;
	quiet.progress = NULL;
	err = look(bd, &quiet, &again, &safe, &log);
	res->left = again.found;
	res->fixed = res->found - MIN(res->found, again.found);
	res->repaired = true;
	return err;
}

/* SPDX-License-Identifier: MIT */
/* The run: passes in order. */
#include <stdlib.h>
#include <string.h>

#include "chk.h"

static void run_pass(struct chk *c, unsigned nr, const char *what, void (*fn)(struct chk *c))
{
	if (c->error)
		return;
	if ((c->opts->verbose || c->opts->progress) && c->opts->out) {
		fprintf(c->opts->out, "Pass %u: %s\n", nr, what);
		fflush(c->opts->out);
	}
	fn(c);
}

static void chk_free(struct chk *c)
{
	struct chk_cluster *cl = c->clusters.data;

	for (size_t i = 0; i < c->clusters.n; i++)
		free(cl[i].inodes);
	chk_vec_free(&c->clusters);
	chk_vec_free(&c->orphans);
	chk_space_free(c);
	chk_overlay_free(c);
	free(c->bad_ag);
}

int chk_run(struct bd *bd, const struct chk_opts *opts, struct chk_result *res)
{
	struct chk c = { .bd = bd, .opts = opts, .res = res };
	int err = 0;

	memset(res, 0, sizeof(*res));
	RB_INIT(&c.overlays);
	RB_INIT(&c.space);
	chk_vec_init(&c.clusters, sizeof(struct chk_cluster));
	chk_vec_init(&c.orphans, sizeof(struct chk_orphan));
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
	/* Problems that stopped the run are a result, not a failure to get one. */
	if (err != -ENOMEM && res->found > 0)
		err = err == -EOPNOTSUPP ? err : 0;
	chk_free(&c);
	return err;
}

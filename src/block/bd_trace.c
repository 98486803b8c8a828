/* SPDX-License-Identifier: MIT */
/* Trace decorator: a line or a record for each request that ended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bd_private.h"
#include "iomapfs/util.h"

struct bd_trace {
	struct bd bd;
	struct bd *lower;
	FILE *out;
	struct lk_mutex lock;
	struct bd_trace_rec *recs;
	size_t nr, room;
};

struct trace_io {
	struct bd_io io;
	struct bd_trace *trace;
	struct bd_io *upper;
};

static struct bd_trace *to_trace(struct bd *bd)
{
	return container_of(bd, struct bd_trace, bd);
}

static void keep_record(struct bd_trace *t, const struct bd_trace_rec *r)
{
	if (t->nr == t->room) {
		size_t room = t->room ? t->room * 2 : 256;
		struct bd_trace_rec *recs = realloc(t->recs, room * sizeof(*recs));

		if (!recs)
			abort(); /* a test tool: a record lost unseen is worse */
		t->recs = recs;
		t->room = room;
	}
	t->recs[t->nr++] = *r;
}

static void trace_end(struct bd_io *io)
{
	static const char *const names[] = { "read", "write", "flush", "discard", "zero" };
	struct trace_io *ti = container_of(io, struct trace_io, io);
	struct bd_trace *t = ti->trace;
	struct bd_io *upper = ti->upper;
	struct bd_trace_rec r = { io->op, io->flags, io->offset, io->len, io->error };

	lk_lock(&t->lock);
	if (t->out)
		fprintf(t->out, "%s%s%s%s%s %llu+%llu %d\n", names[r.op],
			r.flags & BD_FUA ? ",fua" : "", r.flags & BD_PREFLUSH ? ",preflush" : "",
			r.flags & BD_META ? ",meta" : "", r.flags & BD_ATOMIC ? ",atomic" : "",
			(unsigned long long)r.offset, (unsigned long long)r.len, r.error);
	else
		keep_record(t, &r);
	lk_unlock(&t->lock);
	free(ti);
	bd_io_end(upper, r.error);
}

static void trace_submit(struct bd *bd, struct bd_io *io)
{
	struct bd_trace *t = to_trace(bd);
	struct trace_io *ti = malloc(sizeof(*ti));

	if (!ti) {
		bd_io_end(io, -ENOMEM);
		return;
	}
	ti->io = *io;
	ti->io.end_io = trace_end;
	ti->trace = t;
	ti->upper = io;
	bd_submit(t->lower, &ti->io);
}

static void trace_plug(struct bd *bd)
{
	bd_plug(to_trace(bd)->lower);
}

static void trace_unplug(struct bd *bd)
{
	bd_unplug(to_trace(bd)->lower);
}

static int trace_dax_map(struct bd *bd, struct bd_dax *out)
{
	return bd_dax_map(to_trace(bd)->lower, out);
}

static int trace_dax_persist(struct bd *bd, uint64_t offset, uint64_t len)
{
	return bd_dax_persist(to_trace(bd)->lower, offset, len);
}

static void trace_destroy(struct bd *bd)
{
	struct bd_trace *t = to_trace(bd);

	bd_close(t->lower);
	lk_mutex_destroy(&t->lock);
	free(t->recs);
	free(t);
}

static const struct bd_ops trace_ops = {
	.name = "trace",
	.submit = trace_submit,
	.plug = trace_plug,
	.unplug = trace_unplug,
	.dax_map = trace_dax_map,
	.dax_persist = trace_dax_persist,
	.destroy = trace_destroy,
};

int bd_trace_create(struct bd *lower, FILE *out, struct bd **res)
{
	struct bd_trace *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->bd.ops = &trace_ops;
	t->bd.info = lower->info;
	t->bd.name = strdup(lower->name);
	if (!t->bd.name) {
		free(t);
		return -ENOMEM;
	}
	t->lower = lower;
	t->out = out;
	lk_mutex_init(&t->lock, LK_LEAF, "bd_trace");
	*res = &t->bd;
	return 0;
}

size_t bd_trace_get(struct bd *trace, const struct bd_trace_rec **recs)
{
	struct bd_trace *t = to_trace(trace);
	size_t n;

	lk_lock(&t->lock);
	n = t->nr;
	*recs = t->recs;
	lk_unlock(&t->lock);
	return n;
}

void bd_trace_reset(struct bd *trace)
{
	struct bd_trace *t = to_trace(trace);

	lk_lock(&t->lock);
	t->nr = 0;
	lk_unlock(&t->lock);
}

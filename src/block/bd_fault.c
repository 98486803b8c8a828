/* SPDX-License-Identifier: MIT */
/* Fault decorator: makes chosen requests fail, wait, or never end until released. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bd_private.h"
#include "iomapfs/util.h"

#define FAULT_RULES_MAX 16

struct bd_fault {
	struct bd bd;
	struct bd *lower;
	struct lk_mutex lock;
	struct bd_fault_rule rules[FAULT_RULES_MAX];
	uint64_t hits[FAULT_RULES_MAX];
	unsigned nr_rules;
	uint64_t seen[BD_WRITE_ZEROES + 1];
	bool stalled;
	struct cds_list_head held;
};

static struct bd_fault *to_fault(struct bd *bd)
{
	return container_of(bd, struct bd_fault, bd);
}

static bool rule_matches(const struct bd_fault_rule *r, const struct bd_io *io)
{
	if (r->op >= 0 && r->op != (int)io->op)
		return false;
	if (r->end == 0)
		return true;
	return io->op == BD_FLUSH || (io->offset < r->end && io->offset + io->len > r->start);
}

/* Error and delay of this request by the first rule that is due. */
static int judge(struct bd_fault *f, const struct bd_io *io, uint64_t *delay_ns)
{
	*delay_ns = 0;
	for (unsigned i = 0; i < f->nr_rules; i++) {
		const struct bd_fault_rule *r = &f->rules[i];
		uint64_t n;

		if (!rule_matches(r, io))
			continue;
		n = f->hits[i]++;
		if (n < r->after || n - r->after >= r->count)
			continue;
		*delay_ns = r->delay_ns;
		if (r->hit)
			atomic_store(r->hit, true);
		return r->error;
	}
	return 0;
}

static void fault_submit(struct bd *bd, struct bd_io *io)
{
	struct bd_fault *f = to_fault(bd);
	uint64_t delay_ns;
	int err;

	lk_lock(&f->lock);
	f->seen[io->op]++;
	if (f->stalled) {
		cds_list_add_tail(&io->list, &f->held);
		lk_unlock(&f->lock);
		return;
	}
	err = judge(f, io, &delay_ns);
	lk_unlock(&f->lock);
	if (delay_ns) {
		struct timespec ts = { (time_t)(delay_ns / 1000000000u),
				       (long)(delay_ns % 1000000000u) };

		nanosleep(&ts, NULL);
	}
	if (err)
		bd_io_end(io, err);
	else
		bd_submit(f->lower, io);
}

static void fault_plug(struct bd *bd)
{
	bd_plug(to_fault(bd)->lower);
}

static void fault_unplug(struct bd *bd)
{
	bd_unplug(to_fault(bd)->lower);
}

static int fault_dax_map(struct bd *bd, struct bd_dax *out)
{
	return bd_dax_map(to_fault(bd)->lower, out);
}

static int fault_dax_persist(struct bd *bd, uint64_t offset, uint64_t len)
{
	return bd_dax_persist(to_fault(bd)->lower, offset, len);
}

static void fault_destroy(struct bd *bd)
{
	struct bd_fault *f = to_fault(bd);

	bd_fault_stall(bd, false);
	bd_close(f->lower);
	lk_mutex_destroy(&f->lock);
	free(f);
}

static const struct bd_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.plug = fault_plug,
	.unplug = fault_unplug,
	.dax_map = fault_dax_map,
	.dax_persist = fault_dax_persist,
	.destroy = fault_destroy,
};

int bd_fault_create(struct bd *lower, struct bd **res)
{
	struct bd_fault *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->bd.ops = &fault_ops;
	f->bd.info = lower->info;
	f->bd.name = strdup(lower->name);
	if (!f->bd.name) {
		free(f);
		return -ENOMEM;
	}
	f->lower = lower;
	lk_mutex_init(&f->lock, LK_BD, "bd_fault");
	CDS_INIT_LIST_HEAD(&f->held);
	*res = &f->bd;
	return 0;
}

void bd_fault_set(struct bd *fault, const struct bd_fault_rule *rules, unsigned nr)
{
	struct bd_fault *f = to_fault(fault);

	assert(nr <= FAULT_RULES_MAX);
	lk_lock(&f->lock);
	if (nr)
		memcpy(f->rules, rules, nr * sizeof(*rules));
	memset(f->hits, 0, sizeof(f->hits));
	f->nr_rules = nr;
	lk_unlock(&f->lock);
}

uint64_t bd_fault_seen(struct bd *fault, enum bd_op op)
{
	struct bd_fault *f = to_fault(fault);
	uint64_t n;

	lk_lock(&f->lock);
	n = f->seen[op];
	lk_unlock(&f->lock);
	return n;
}

void bd_fault_stall(struct bd *fault, bool on)
{
	struct bd_fault *f = to_fault(fault);
	CDS_LIST_HEAD(go);
	struct bd_io *io, *next;

	lk_lock(&f->lock);
	f->stalled = on;
	if (!on)
		cds_list_splice(&f->held, &go);
	if (!on)
		CDS_INIT_LIST_HEAD(&f->held);
	lk_unlock(&f->lock);
	cds_list_for_each_entry_safe(io, next, &go, list)
		bd_submit(f->lower, io);
}

// SPDX-License-Identifier: MIT
/* Request counters: written by their own thread only, so that counting shares no cache line. */
#include <stdlib.h>
#include <string.h>

#include "fuse_private.h"
#include "iomapfs/ioctl.h"

static __thread struct fz_thread_stats *mine;

static_assert(FZ_HIST_BUCKETS == IOMAPFS_HIST_BUCKETS, "one histogram layout");

static struct fz_thread_stats *own_stats(struct fz *fz)
{
	if (mine)
		return mine;
	mine = calloc(1, sizeof(*mine));
	if (!mine)
		return NULL;
	mine->next = atomic_load(&fz->stats);
	while (!atomic_compare_exchange_weak(&fz->stats, &mine->next, mine))
		;
	return mine;
}

static void bump(_Atomic uint64_t *v, uint64_t by)
{
	atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

void fz_stats_account(struct fz *fz, uint32_t opcode, uint64_t start_ns, bool failed)
{
	struct fz_thread_stats *s = own_stats(fz);
	uint64_t ns = clock_mono_ns() - start_ns;
	unsigned bucket = ns < 1000 ? 0 : ilog2(ns / 1000) + 1;
	struct fz_op_counters *op;

	if (!s || opcode >= FZ_NR_OPCODES)
		return;
	op = &s->op[opcode];
	bump(&op->count, 1);
	bump(&op->sum_ns, ns);
	if (failed)
		bump(&op->errors, 1);
	bump(&op->hist[MIN(bucket, FZ_HIST_BUCKETS - 1u)], 1);
}

void fz_stats_count_parked(struct fz *fz)
{
	struct fz_thread_stats *s = own_stats(fz);

	if (s)
		bump(&s->parked, 1);
}

void fz_stats_collect(struct fz *fz, struct iomapfs_ioc_stats *out)
{
	struct fz_thread_stats *s;

	for (s = atomic_load(&fz->stats); s; s = s->next) {
		out->requests_parked += atomic_load(&s->parked);
		for (unsigned i = 0; i < FZ_NR_OPCODES; i++) {
			struct iomapfs_op_stats *o = &out->op[i];

			o->count += atomic_load(&s->op[i].count);
			o->errors += atomic_load(&s->op[i].errors);
			o->sum_ns += atomic_load(&s->op[i].sum_ns);
			for (unsigned b = 0; b < FZ_HIST_BUCKETS; b++)
				o->hist[b] += (uint32_t)atomic_load(&s->op[i].hist[b]);
		}
	}
}

void fz_stats_free(struct fz *fz)
{
	struct fz_thread_stats *s = atomic_exchange(&fz->stats, NULL), *next;

	for (; s; s = next) {
		next = s->next;
		free(s);
	}
	mine = NULL;
}

/* SPDX-License-Identifier: MIT */
/* A device over another that it does not own: what is below outlives the mount that closes this. */
#ifndef IOMAPFS_TEST_PASSTHROUGH_H
#define IOMAPFS_TEST_PASSTHROUGH_H

#include <stdlib.h>
#include <string.h>

#include "iomapfs/block.h"
#include "iomapfs/util.h"

struct passthrough {
	struct bd bd;
	struct bd *lower;
};

static inline void passthrough_submit(struct bd *bd, struct bd_io *io)
{
	bd_submit(container_of(bd, struct passthrough, bd)->lower, io);
}

static inline int passthrough_dax_map(struct bd *bd, struct bd_dax *out)
{
	return bd_dax_map(container_of(bd, struct passthrough, bd)->lower, out);
}

static inline int passthrough_dax_persist(struct bd *bd, uint64_t offset, uint64_t len)
{
	return bd_dax_persist(container_of(bd, struct passthrough, bd)->lower, offset, len);
}

static inline void passthrough_destroy(struct bd *bd)
{
	free(container_of(bd, struct passthrough, bd));
}

static const struct bd_ops passthrough_ops = {
	.name = "pass",
	.submit = passthrough_submit,
	.dax_map = passthrough_dax_map,
	.dax_persist = passthrough_dax_persist,
	.destroy = passthrough_destroy,
};

/* NULL without memory. */
static inline struct bd *passthrough_create(struct bd *lower)
{
	struct passthrough *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->bd.ops = &passthrough_ops;
	p->bd.info = lower->info;
	p->bd.name = strdup("pass");
	p->lower = lower;
	return &p->bd;
}

#endif

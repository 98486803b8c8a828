/* SPDX-License-Identifier: MIT */
/*
 * Crash decorator: a disk whose volatile cache can be lost. Writes since the last
 * flush stay in an ordered list; the lower device holds only what is durable. A
 * cut decides by seed, for each 512-byte sector of each listed write, whether it
 * survived, as real disks do: in any order, torn at sectors. An untorn write is
 * what such a disk promises to keep or lose as a whole.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bd_private.h"
#include "iomapfs/util.h"

#define SECTOR 512u

struct pending {
	struct cds_list_head list;
	uint64_t offset, len;
	bool durable; /* FUA: always survives, kept here for the order */
	bool atomic;  /* whole or not at all */
	char data[];
};

struct bd_crash {
	struct bd bd;
	struct bd *lower;
	struct lk_mutex lock;
	struct cds_list_head pending; /* oldest first */
	uint64_t nr_writes;
	uint64_t arm_at, arm_seed;
	bool cut;
};

static struct bd_crash *to_crash(struct bd *bd)
{
	return container_of(bd, struct bd_crash, bd);
}

static void drop_pending(struct bd_crash *c)
{
	struct pending *p, *next;

	cds_list_for_each_entry_safe(p, next, &c->pending, list)
		free(p);
	CDS_INIT_LIST_HEAD(&c->pending);
}

/* The lower device takes a bounce copy: it may want alignment that ours lacks. */
static int lower_write(struct bd_crash *c, uint64_t offset, const char *data, uint64_t len)
{
	void *buf;
	int err;

	if (posix_memalign(&buf, 4096, len))
		return -ENOMEM;
	memcpy(buf, data, len);
	err = bd_write(c->lower, offset, buf, len, 0);
	free(buf);
	return err;
}

static int make_durable(struct bd_crash *c)
{
	struct pending *p;
	int err = 0;

	cds_list_for_each_entry(p, &c->pending, list) {
		err = lower_write(c, p->offset, p->data, p->len);
		if (err)
			return err;
	}
	drop_pending(c);
	return bd_flush(c->lower);
}

static int cut_now(struct bd_crash *c, uint64_t seed)
{
	struct rng rng;
	struct pending *p;
	int err = 0;

	rng_seed(&rng, seed);
	c->cut = true;
	cds_list_for_each_entry(p, &c->pending, list) {
		/* Whole write kept, whole write lost, or torn. */
		unsigned fate = (unsigned)rng_below(&rng, 3);

		if (p->durable)
			fate = 0;
		else if (p->atomic && fate == 2)
			fate = (unsigned)rng_below(&rng, 2);
		if (fate == 1)
			continue;
		for (uint64_t at = 0; at < p->len && !err; at += SECTOR) {
			if (fate == 2 && rng_below(&rng, 2))
				continue;
			err = lower_write(c, p->offset + at, p->data + at, MIN(SECTOR, p->len - at));
		}
	}
	drop_pending(c);
	return err;
}

static int crash_write(struct bd_crash *c, const struct bd_io *io)
{
	struct pending *p = malloc(sizeof(*p) + io->len);
	int err = 0;

	if (!p)
		return -ENOMEM;
	p->offset = io->offset;
	p->len = io->len;
	p->durable = io->flags & BD_FUA;
	p->atomic = io->flags & BD_ATOMIC;
	if (io->op == BD_WRITE)
		bd_iov_to_mem(io, p->data);
	else
		memset(p->data, 0, io->len);
	if (io->flags & BD_PREFLUSH)
		err = make_durable(c);
	cds_list_add_tail(&p->list, &c->pending);
	c->nr_writes++;
	if (c->arm_at && c->nr_writes == c->arm_at)
		err = cut_now(c, c->arm_seed);
	return err;
}

static int crash_read(struct bd_crash *c, const struct bd_io *io)
{
	struct pending *p;
	void *buf;
	int err;

	if (posix_memalign(&buf, 4096, io->len))
		return -ENOMEM;
	err = bd_read(c->lower, io->offset, buf, io->len);
	if (err)
		goto out_free;
	cds_list_for_each_entry(p, &c->pending, list) {
		uint64_t from = MAX(p->offset, io->offset);
		uint64_t to = MIN(p->offset + p->len, io->offset + io->len);

		if (from < to)
			memcpy((char *)buf + (from - io->offset), p->data + (from - p->offset),
			       to - from);
	}
	bd_mem_to_iov(io, buf);
out_free:
	free(buf);
	return err;
}

static void crash_submit(struct bd *bd, struct bd_io *io)
{
	struct bd_crash *c = to_crash(bd);
	int err = 0;

	lk_lock(&c->lock);
	if (c->cut)
		err = -EIO;
	else if (io->op == BD_READ)
		err = crash_read(c, io);
	else if (io->op == BD_FLUSH)
		err = make_durable(c);
	else if (io->op == BD_DISCARD)
		err = 0; /* undefined contents: the old ones will do */
	else
		err = crash_write(c, io);
	lk_unlock(&c->lock);
	bd_io_end(io, err);
}

static void crash_destroy(struct bd *bd)
{
	struct bd_crash *c = to_crash(bd);

	if (!c->cut && c->lower)
		(void)make_durable(c);
	drop_pending(c);
	bd_close(c->lower);
	lk_mutex_destroy(&c->lock);
	free(c);
}

static const struct bd_ops crash_ops = {
	.name = "crash",
	.submit = crash_submit,
	.destroy = crash_destroy,
};

int bd_crash_create(struct bd *lower, struct bd **res)
{
	struct bd_crash *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->bd.ops = &crash_ops;
	c->bd.info = lower->info;
	c->bd.name = strdup(lower->name);
	if (!c->bd.name) {
		free(c);
		return -ENOMEM;
	}
	c->bd.info.volatile_cache = true;
	c->bd.info.fua = true;
	c->lower = lower;
	lk_mutex_init(&c->lock, LK_BD, "bd_crash");
	CDS_INIT_LIST_HEAD(&c->pending);
	*res = &c->bd;
	return 0;
}

int bd_crash_cut(struct bd *crash, uint64_t seed)
{
	struct bd_crash *c = to_crash(crash);
	int err = 0;

	lk_lock(&c->lock);
	if (!c->cut)
		err = cut_now(c, seed);
	lk_unlock(&c->lock);
	return err;
}

uint64_t bd_crash_nr_writes(struct bd *crash)
{
	struct bd_crash *c = to_crash(crash);
	uint64_t n;

	lk_lock(&c->lock);
	n = c->nr_writes;
	lk_unlock(&c->lock);
	return n;
}

void bd_crash_arm(struct bd *crash, uint64_t n, uint64_t seed)
{
	struct bd_crash *c = to_crash(crash);

	lk_lock(&c->lock);
	c->arm_at = n;
	c->arm_seed = seed;
	lk_unlock(&c->lock);
}

struct bd *bd_crash_detach(struct bd *crash)
{
	struct bd_crash *c = to_crash(crash);
	struct bd *lower = c->lower;
	char *name = c->bd.name;

	c->lower = NULL;
	c->cut = true;
	crash_destroy(crash);
	free(name);
	return lower;
}

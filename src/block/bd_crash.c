/* SPDX-License-Identifier: MIT */
/*
 * Crash decorator: a disk whose volatile cache can be lost. Writes since the last
 * flush stay in an ordered list; the lower device holds only what is durable. A
 * cut decides by seed, for each 512-byte sector of each listed write, whether it
 * survived, as real disks do: in any order, torn at sectors. An untorn write is
 * what such a disk promises to keep or lose as a whole.
 *
 * Over memory there are two images once it was mapped: what processors see, and below it what is durable.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bd_private.h"
#include "iomapfs/util.h"

#define SECTOR 512u
#define LINE   64u /* bytes that memory keeps or loses together */

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
	char *view;   /* once mapped: what processors see, of which the lower device has what is durable */
	int view_fd;
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

/*
 * Lines that were stored to and not persisted: any cache may have written them back, or none. Not those of
 * requests, whose fate was theirs (`judged`, one byte a line).
 */
static int cut_lines(struct bd_crash *c, struct rng *rng, const uint8_t *judged)
{
	struct bd_dax lower;
	int err;

	if (!c->view)
		return 0;
	err = bd_dax_map(c->lower, &lower);
	for (uint64_t at = 0; !err && at < c->bd.info.size; at += LINE) {
		char *durable = (char *)lower.base + at;

		if (!judged[at / LINE] && memcmp(durable, c->view + at, LINE) && rng_below(rng, 2))
			memcpy(durable, c->view + at, LINE);
	}
	return err;
}

/* The lines that requests in the list will decide about; NULL where nothing is mapped, or no memory. */
static uint8_t *judged_lines(struct bd_crash *c)
{
	uint8_t *judged = c->view ? calloc(1, c->bd.info.size / LINE) : NULL;
	struct pending *p;

	if (judged)
		cds_list_for_each_entry(p, &c->pending, list)
			memset(judged + p->offset / LINE, 1, p->len / LINE);
	return judged;
}

static int cut_now(struct bd_crash *c, uint64_t seed)
{
	uint8_t *judged = judged_lines(c);
	struct rng rng;
	struct pending *p;
	int err = c->view && !judged ? -ENOMEM : 0;

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
	if (!err)
		err = cut_lines(c, &rng, judged);
	free(judged);
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
	if (c->view)
		memcpy(c->view + p->offset, p->data, p->len);
	c->nr_writes++;
	if (c->arm_at && c->nr_writes == c->arm_at)
		err = cut_now(c, c->arm_seed);
	return err;
}

/* What the device has at offset, the listed writes on top. */
static int read_merged(struct bd_crash *c, uint64_t offset, char *buf, uint64_t len)
{
	struct pending *p;
	int err = bd_read(c->lower, offset, buf, len);

	if (err)
		return err;
	cds_list_for_each_entry(p, &c->pending, list) {
		uint64_t from = MAX(p->offset, offset);
		uint64_t to = MIN(p->offset + p->len, offset + len);

		if (from < to)
			memcpy(buf + (from - offset), p->data + (from - p->offset), to - from);
	}
	return 0;
}

static int crash_read(struct bd_crash *c, const struct bd_io *io)
{
	void *buf;
	int err;

	if (c->view) {
		bd_mem_to_iov(io, c->view + io->offset);
		return 0;
	}
	if (posix_memalign(&buf, 4096, io->len))
		return -ENOMEM;
	err = read_merged(c, io->offset, buf, io->len);
	if (!err)
		bd_mem_to_iov(io, buf);
	free(buf);
	return err;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* c->lock is held. */
static int make_view(struct bd_crash *c)
{
	const uint64_t size = c->bd.info.size;
	struct bd_dax lower;
	int err;

	err = bd_dax_map(c->lower, &lower);
	if (err)
		return err;
	c->view_fd = memfd_create("iomapfs-crash", MFD_CLOEXEC);
	if (c->view_fd < 0)
		return -errno;
	c->view = ftruncate(c->view_fd, (off_t)size) ? MAP_FAILED :
		  mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, c->view_fd, 0);
	err = c->view == MAP_FAILED ? -errno : read_merged(c, 0, c->view, size);
	if (!err)
		return 0;
	if (c->view != MAP_FAILED)
		munmap(c->view, size);
	close(c->view_fd);
	c->view = NULL;
	return err;
}

/* Without a power cut nothing is lost. */
static int keep_lines(struct bd_crash *c)
{
	struct bd_dax lower;
	int err = c->view ? bd_dax_map(c->lower, &lower) : -ENOENT;

	if (!err)
		memcpy(lower.base, c->view, c->bd.info.size);
	return err;
}

static void drop_view(struct bd_crash *c)
{
	if (!c->view)
		return;
	munmap(c->view, c->bd.info.size);
	close(c->view_fd);
	c->view = NULL;
}

static int crash_dax_map(struct bd *bd, struct bd_dax *out)
{
	struct bd_crash *c = to_crash(bd);
	int err = 0;

	lk_lock(&c->lock);
	if (!c->view)
		err = c->cut ? -EIO : make_view(c);
	*out = (struct bd_dax){ .base = c->view, .fd = c->view_fd };
	lk_unlock(&c->lock);
	return err;
}

/* Listed writes to these lines become durable with them, and so that the order stays, those before. */
static int settle_pending(struct bd_crash *c, uint64_t from, uint64_t to)
{
	struct pending *p, *next, *last = NULL;
	int err = 0;

	cds_list_for_each_entry(p, &c->pending, list)
		if (p->offset < to && from < p->offset + p->len)
			last = p;
	if (!last)
		return 0;
	cds_list_for_each_entry_safe(p, next, &c->pending, list) {
		err = lower_write(c, p->offset, p->data, p->len);
		if (err)
			return err;
		cds_list_del(&p->list);
		free(p);
		if (p == last)
			break;
	}
	return 0;
}

static int crash_dax_persist(struct bd *bd, uint64_t offset, uint64_t len)
{
	struct bd_crash *c = to_crash(bd);
	const uint64_t from = ROUND_DOWN(offset, (uint64_t)LINE);
	const uint64_t to = ROUND_UP(offset + len, (uint64_t)LINE);
	struct bd_dax lower;
	int err;

	lk_lock(&c->lock);
	err = c->cut ? -EIO : settle_pending(c, from, to);
	if (!err)
		err = bd_dax_map(c->lower, &lower);
	if (!err)
		data_copy((char *)lower.base + from, c->view + from, to - from);
	c->nr_writes++;
	if (!err && c->nr_writes == c->arm_at)
		err = cut_now(c, c->arm_seed);
	lk_unlock(&c->lock);
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

	if (!c->cut && c->lower) {
		(void)make_durable(c);
		(void)keep_lines(c);
	}
	drop_pending(c);
	drop_view(c);
	bd_close(c->lower);
	lk_mutex_destroy(&c->lock);
	free(c);
}

static const struct bd_ops crash_ops = {
	.name = "crash",
	.submit = crash_submit,
	.dax_map = crash_dax_map,
	.dax_persist = crash_dax_persist,
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

/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk.h"
#include "iomapfs/util.h"

#define SECTOR 512u

/* ---- Contents ------------------------------------------------------------------------------------ */

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

void image_init(struct image *im, const uint8_t *base, uint64_t size)
{
	*im = (struct image){ .base = base, .size = size };
	im->page = must(calloc(size / IMAGE_PAGE, sizeof(*im->page)));
	im->dirty = must(calloc(size / IMAGE_PAGE, sizeof(*im->dirty)));
}

void image_reset(struct image *im)
{
	while (im->nr_dirty > 0) {
		uint8_t **slot = &im->page[im->dirty[--im->nr_dirty]];

		memcpy(*slot, &im->pool, sizeof(im->pool));
		im->pool = *slot;
		*slot = NULL;
	}
}

void image_fini(struct image *im)
{
	image_reset(im);
	while (im->pool) {
		uint8_t *next;

		memcpy(&next, im->pool, sizeof(next));
		free(im->pool);
		im->pool = next;
	}
	free(im->page);
	free(im->dirty);
}

static uint8_t *page_for_write(struct image *im, uint64_t nr)
{
	uint8_t *p = im->page[nr];

	if (p)
		return p;
	p = im->pool;
	if (p)
		memcpy(&im->pool, p, sizeof(im->pool));
	else
		p = must(malloc(IMAGE_PAGE));
	memcpy(p, im->base + nr * IMAGE_PAGE, IMAGE_PAGE);
	im->page[nr] = p;
	im->dirty[im->nr_dirty++] = (uint32_t)nr;
	return p;
}

void image_read(const struct image *im, uint64_t at, void *buf, uint64_t len)
{
	uint8_t *to = buf;

	assert(at + len <= im->size);
	while (len > 0) {
		const uint64_t nr = at / IMAGE_PAGE, off = at % IMAGE_PAGE;
		const uint64_t n = MIN(len, IMAGE_PAGE - off);

		memcpy(to, (im->page[nr] ? im->page[nr] : im->base + nr * IMAGE_PAGE) + off, n);
		to += n;
		at += n;
		len -= n;
	}
}

void image_write(struct image *im, uint64_t at, const void *buf, uint64_t len)
{
	const uint8_t *from = buf;

	assert(at + len <= im->size);
	while (len > 0) {
		const uint64_t off = at % IMAGE_PAGE, n = MIN(len, IMAGE_PAGE - off);

		memcpy(page_for_write(im, at / IMAGE_PAGE) + off, from, n);
		from += n;
		at += n;
		len -= n;
	}
}

void image_fill(struct image *im, uint64_t at, uint8_t byte, uint64_t len)
{
	assert(at + len <= im->size);
	while (len > 0) {
		const uint64_t off = at % IMAGE_PAGE, n = MIN(len, IMAGE_PAGE - off);

		memset(page_for_write(im, at / IMAGE_PAGE) + off, byte, n);
		at += n;
		len -= n;
	}
}

void image_commit(struct image *im, uint8_t *base)
{
	for (unsigned i = 0; i < im->nr_dirty; i++)
		memcpy(base + (uint64_t)im->dirty[i] * IMAGE_PAGE, im->page[im->dirty[i]], IMAGE_PAGE);
	image_reset(im);
}

/* One chunk of the byte, mapped again and again: memory only for what is written. */
#define BASE_CHUNK (2u << 20)

uint8_t *image_base_create(uint64_t size, uint8_t byte)
{
	uint8_t *base, *chunk;
	int fd = memfd_create("stale", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, BASE_CHUNK))
		abort();
	chunk = mmap(NULL, BASE_CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (chunk == MAP_FAILED || base == MAP_FAILED)
		abort();
	memset(chunk, byte, BASE_CHUNK);
	munmap(chunk, BASE_CHUNK);
	for (uint64_t at = 0; at < size; at += BASE_CHUNK)
		if (mmap(base + at, MIN(BASE_CHUNK, size - at), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED)
			abort();
	close(fd);
	return base;
}

void image_base_destroy(uint8_t *base, uint64_t size)
{
	munmap(base, size);
}

/* ---- A plain device over an image -------------------------------------------------------------- */

struct image_bd {
	struct bd bd;
	struct image *im;
	pthread_mutex_t lock;
};

/* What a discarded range holds is the disk's to choose: not what was there, and not zeros. */
static uint8_t fill_of(enum bd_op op)
{
	return op == BD_DISCARD ? 0xd5 : 0;
}

static void io_to_image(struct image *im, const struct bd_io *io)
{
	uint64_t at = io->offset;

	if (io->op == BD_WRITE_ZEROES || io->op == BD_DISCARD)
		image_fill(im, at, fill_of(io->op), io->len);
	for (unsigned i = 0; io->op == BD_WRITE && i < io->nr_iov; i++) {
		image_write(im, at, io->iov[i].iov_base, io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
}

static void image_to_io(const struct image *im, const struct bd_io *io)
{
	uint64_t at = io->offset;

	for (unsigned i = 0; i < io->nr_iov; i++) {
		image_read(im, at, io->iov[i].iov_base, io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
}

static void image_submit(struct bd *bd, struct bd_io *io)
{
	struct image_bd *b = container_of(bd, struct image_bd, bd);

	pthread_mutex_lock(&b->lock);
	if (io->op == BD_READ)
		image_to_io(b->im, io);
	else
		io_to_image(b->im, io);
	pthread_mutex_unlock(&b->lock);
	io->error = 0;
	io->end_io(io);
}

static void image_bd_destroy(struct bd *bd)
{
	struct image_bd *b = container_of(bd, struct image_bd, bd);

	pthread_mutex_destroy(&b->lock);
	free(b);
}

static struct bd_info info_of(uint64_t size, uint32_t atomic_max)
{
	return (struct bd_info){
		.size = size,
		.logical_block = SECTOR,
		.physical_block = 4096,
		.mem_align = 1,
		.max_io = 1u << 20,
		.max_segments = 256,
		.discard_granularity = 4096,
		.volatile_cache = true,
		.fua = true,
		.atomic_min = atomic_max ? SECTOR : 0,
		.atomic_max = atomic_max,
	};
}

struct bd *image_open(struct image *im)
{
	static const struct bd_ops ops = {
		.name = "image",
		.submit = image_submit,
		.destroy = image_bd_destroy,
	};
	struct image_bd *b = must(calloc(1, sizeof(*b)));

	b->bd = (struct bd){ .ops = &ops, .info = info_of(im->size, 0), .name = strdup("survivor") };
	b->im = im;
	pthread_mutex_init(&b->lock, NULL);
	return &b->bd;
}

/* ---- The recording disk ------------------------------------------------------------------------- */

#define NEVER UINT32_MAX

struct rec_write {
	uint64_t offset, len;
	uint8_t *data;       /* NULL: bytes of `fill` */
	uint8_t fill;
	unsigned sent, done; /* events */
	bool fua;
	bool atomic;         /* whole or not at all */
};
struct rec_flush {
	unsigned sent, done;
};

struct disk {
	struct image live;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	pthread_t thread;
	bool stop;
	struct cds_list_head queue; /* requests to complete, in any order */
	unsigned queued;
	struct rng rng;
	unsigned now;
	struct rec_write *writes;
	struct rec_flush *flushes;
	unsigned nr_writes, nr_flushes, max_writes, max_flushes;
	uint32_t atomic_max;
};

struct disk_bd {
	struct bd bd;
	struct disk *d;
};

static unsigned add_write(struct disk *d, const struct bd_io *io)
{
	struct rec_write *w;
	uint64_t at = 0;

	if (d->nr_writes == d->max_writes) {
		d->max_writes = d->max_writes ? 2 * d->max_writes : 256;
		d->writes = must(realloc(d->writes, d->max_writes * sizeof(*d->writes)));
	}
	w = &d->writes[d->nr_writes];
	*w = (struct rec_write){ .offset = io->offset, .len = io->len, .sent = NEVER, .done = NEVER,
				 .fill = fill_of(io->op), .fua = io->flags & BD_FUA,
				 .atomic = io->flags & BD_ATOMIC };
	/* Behind a preflush it reaches the disk only when that is over. */
	if (!(io->flags & BD_PREFLUSH))
		w->sent = d->now++;
	if (io->op == BD_WRITE) {
		w->data = must(malloc(io->len));
		for (unsigned i = 0; i < io->nr_iov; i++) {
			memcpy(w->data + at, io->iov[i].iov_base, io->iov[i].iov_len);
			at += io->iov[i].iov_len;
		}
	}
	return d->nr_writes++;
}

static unsigned add_flush(struct disk *d)
{
	if (d->nr_flushes == d->max_flushes) {
		d->max_flushes = d->max_flushes ? 2 * d->max_flushes : 64;
		d->flushes = must(realloc(d->flushes, d->max_flushes * sizeof(*d->flushes)));
	}
	d->flushes[d->nr_flushes] = (struct rec_flush){ .sent = d->now++, .done = NEVER };
	return d->nr_flushes++;
}

/* dev_private: [0] number of the write + 1, [1] that of the flush + 1. */
static void disk_submit(struct bd *bd, struct bd_io *io)
{
	struct disk *d = container_of(bd, struct disk_bd, bd)->d;

	pthread_mutex_lock(&d->lock);
	io->dev_private[0] = io->dev_private[1] = 0;
	if (io->op == BD_FLUSH || io->flags & BD_PREFLUSH)
		io->dev_private[1] = add_flush(d) + 1;
	if (io->op != BD_READ && io->op != BD_FLUSH) {
		io->dev_private[0] = add_write(d, io) + 1;
		io_to_image(&d->live, io);
	} else if (io->op == BD_READ) {
		image_to_io(&d->live, io);
	}
	cds_list_add_tail(&io->list, &d->queue);
	d->queued++;
	pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->lock);
}

/* One step of a request, drawn by lot; NULL while it has another one before it. */
static struct bd_io *advance(struct disk *d)
{
	uint64_t skip = rng_below(&d->rng, d->queued);
	struct rec_write *w = NULL;
	struct bd_io *io;

	cds_list_for_each_entry(io, &d->queue, list)
		if (skip-- == 0)
			break;
	if (io->dev_private[0])
		w = &d->writes[io->dev_private[0] - 1];
	if (io->dev_private[1])
		d->flushes[io->dev_private[1] - 1].done = d->now++;
	io->dev_private[1] = 0;
	if (w && w->sent == NEVER) {
		w->sent = d->now++;
		return NULL;
	}
	if (w)
		w->done = d->now++;
	cds_list_del(&io->list);
	d->queued--;
	return io;
}

static void *disk_main(void *arg)
{
	struct disk *d = arg;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		struct bd_io *io;

		while (!d->queued && !d->stop)
			pthread_cond_wait(&d->cond, &d->lock);
		if (!d->queued)
			break;
		io = advance(d);
		if (!io)
			continue;
		pthread_mutex_unlock(&d->lock);
		io->error = 0;
		io->end_io(io);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

struct disk *disk_create(const uint8_t *base, uint64_t size)
{
	struct disk *d = must(calloc(1, sizeof(*d)));

	image_init(&d->live, base, size);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->cond, NULL);
	CDS_INIT_LIST_HEAD(&d->queue);
	if (pthread_create(&d->thread, NULL, disk_main, d))
		abort();
	return d;
}

void disk_reset(struct disk *d, uint64_t seed)
{
	assert(d->queued == 0);
	image_reset(&d->live);
	for (unsigned i = 0; i < d->nr_writes; i++)
		free(d->writes[i].data);
	d->nr_writes = d->nr_flushes = d->now = 0;
	rng_seed(&d->rng, seed);
}

void disk_destroy(struct disk *d)
{
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_signal(&d->cond);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	disk_reset(d, 0);
	image_fini(&d->live);
	pthread_cond_destroy(&d->cond);
	pthread_mutex_destroy(&d->lock);
	free(d->writes);
	free(d->flushes);
	free(d);
}

static void disk_bd_destroy(struct bd *bd)
{
	free(container_of(bd, struct disk_bd, bd));
}

struct bd *disk_open(struct disk *d)
{
	static const struct bd_ops ops = {
		.name = "disk",
		.submit = disk_submit,
		.destroy = disk_bd_destroy,
	};
	struct disk_bd *b = must(calloc(1, sizeof(*b)));

	b->bd = (struct bd){ .ops = &ops, .info = info_of(d->live.size, d->atomic_max), .name = strdup("disk") };
	b->d = d;
	return &b->bd;
}

unsigned disk_now(struct disk *d)
{
	unsigned now;

	pthread_mutex_lock(&d->lock);
	now = d->now;
	pthread_mutex_unlock(&d->lock);
	return now;
}

unsigned disk_nr_writes(const struct disk *d)
{
	return d->nr_writes;
}

void disk_set_atomic_max(struct disk *d, uint32_t max)
{
	d->atomic_max = max;
}

unsigned disk_nr_atomic(const struct disk *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->nr_writes; i++)
		n += d->writes[i].atomic;
	return n;
}

/* ---- The record in a file ----------------------------------------------------------------------- */

struct saved_write {
	uint64_t offset, len;
	uint32_t sent, done;
	uint8_t fua, has_data, fill, atomic, pad[4];
};

bool disk_save(const struct disk *d, FILE *f)
{
	const uint32_t head[2] = { d->nr_writes, d->nr_flushes };
	bool good = fwrite(head, sizeof(head), 1, f) == 1;

	for (unsigned i = 0; i < d->nr_writes && good; i++) {
		const struct rec_write *w = &d->writes[i];
		const struct saved_write sw = { w->offset, w->len, w->sent, w->done,
						w->fua, w->data != NULL, w->fill, w->atomic, { 0 } };

		good = fwrite(&sw, sizeof(sw), 1, f) == 1 &&
		       (!w->data || fwrite(w->data, w->len, 1, f) == 1);
	}
	return good && (!d->nr_flushes ||
			fwrite(d->flushes, sizeof(*d->flushes), d->nr_flushes, f) == d->nr_flushes);
}

bool disk_load(struct disk *d, FILE *f)
{
	uint32_t head[2];

	disk_reset(d, 0);
	if (fread(head, sizeof(head), 1, f) != 1 || head[0] > 1u << 20 || head[1] > 1u << 20)
		return false;
	d->max_writes = head[0];
	d->writes = must(realloc(d->writes, (head[0] + 1) * sizeof(*d->writes)));
	while (d->nr_writes < head[0]) {
		struct saved_write sw;
		struct rec_write *w = &d->writes[d->nr_writes];

		if (fread(&sw, sizeof(sw), 1, f) != 1 || sw.len > d->live.size ||
		    sw.offset > d->live.size - sw.len)
			return false;
		*w = (struct rec_write){ sw.offset, sw.len, NULL, sw.fill, sw.sent, sw.done, sw.fua, sw.atomic };
		d->nr_writes++;
		if (!sw.has_data)
			continue;
		w->data = must(malloc(sw.len));
		if (fread(w->data, sw.len, 1, f) != 1)
			return false;
	}
	d->nr_flushes = d->max_flushes = head[1];
	d->flushes = must(realloc(d->flushes, (head[1] + 1) * sizeof(*d->flushes)));
	return !head[1] || fread(d->flushes, sizeof(*d->flushes), head[1], f) == head[1];
}

/* ---- The cut ---------------------------------------------------------------------------------------- */

/* Safe when the power goes behind event `at`? */
static bool is_safe(const struct disk *d, const struct rec_write *w, unsigned at)
{
	if (w->done >= at)
		return false;
	if (w->fua)
		return true;
	for (unsigned i = 0; i < d->nr_flushes; i++)
		if (d->flushes[i].sent > w->done && d->flushes[i].done < at)
			return true;
	return false;
}

static void survive(struct image *out, const struct rec_write *w, uint64_t off, uint64_t len)
{
	if (w->data)
		image_write(out, w->offset + off, w->data + off, len);
	else
		image_fill(out, w->offset + off, w->fill, len);
}

static void survive_torn(struct image *out, const struct rec_write *w, struct rng *rng)
{
	for (uint64_t off = 0; off < w->len; off += SECTOR)
		if (rng_below(rng, 2))
			survive(out, w, off, MIN(SECTOR, w->len - off));
}

static void survive_half(struct image *out, const struct rec_write *w, bool odd)
{
	for (uint64_t off = odd ? 0 : SECTOR; off < w->len; off += 2 * SECTOR)
		survive(out, w, off, MIN(SECTOR, w->len - off));
}

/* An unsafe write, number `nr` of them: does it survive whole? What is torn goes to out here. */
static bool survives(const struct rec_write *w, unsigned nr, enum cut_mode mode, uint64_t arg,
		     struct rng *rng, struct image *out)
{
	const bool whole = w->atomic && !TEST_BREAK("device-tears");
	uint64_t fate;

	switch (mode) {
	case CUT_LOSE_ALL:
		return false;
	case CUT_KEEP_ALL:
		return true;
	case CUT_SEED:
		fate = rng_below(rng, 3);
		if (fate == 2 && whole)
			fate = rng_below(rng, 2);
		if (fate == 2)
			survive_torn(out, w, rng);
		return fate == 0;
	case CUT_BITS:
		return nr < 64 && (arg >> nr & 1);
	case CUT_KEEP_BUT:
		return nr != arg;
	case CUT_LOSE_BUT:
		return nr == arg;
	case CUT_TEAR:
		if (!whole)
			survive_half(out, w, arg & 1);
		return whole && (arg & 1);
	}
	return false;
}

unsigned disk_cut(const struct disk *d, unsigned at, enum cut_mode mode, uint64_t arg,
		  struct image *out)
{
	unsigned unsafe = 0;
	struct rng rng;

	rng_seed(&rng, arg);
	image_reset(out);
	for (unsigned i = 0; i < d->nr_writes; i++) {
		const struct rec_write *w = &d->writes[i];

		if (w->sent < at && (is_safe(d, w, at) || survives(w, unsafe++, mode, arg, &rng, out)))
			survive(out, w, 0, w->len);
	}
	return unsafe;
}

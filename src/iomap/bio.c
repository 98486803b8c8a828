/* SPDX-License-Identifier: MIT */
/* Device requests, and waiting for them. */
#include <stddef.h>
#include <time.h>

#include "iomap_private.h"

struct iomap_bio *iomap_bio_alloc_pad(struct iomap_dev *dev, enum iomap_bio_op op, uint64_t addr,
				      unsigned max_vecs, size_t front_pad)
{
	size_t pad = ROUND_UP(front_pad, _Alignof(max_align_t));
	char *mem = calloc(1, pad + sizeof(struct iomap_bio));
	struct iomap_bio *bio = (struct iomap_bio *)(mem + pad);

	if (!mem)
		return NULL;
	bio->front_pad = pad;
	bio->dev = dev;
	bio->op = op;
	bio->addr = addr;
	bio->vec = bio->inline_vecs;
	bio->max_vecs = MAX(1u, MIN(dev->max_vecs, (unsigned)IOMAP_BIO_INLINE_VECS));
	/* Without memory for a long list a short one still makes progress. */
	iomap_bio_grow(bio, max_vecs);
	return bio;
}

struct iomap_bio *iomap_bio_alloc(struct iomap_dev *dev, enum iomap_bio_op op, uint64_t addr,
				  unsigned max_vecs)
{
	return iomap_bio_alloc_pad(dev, op, addr, max_vecs, 0);
}

void *iomap_bio_front(struct iomap_bio *bio)
{
	return bio->front_pad ? (char *)bio - bio->front_pad : NULL;
}

void iomap_bio_grow(struct iomap_bio *bio, unsigned max_vecs)
{
	unsigned want = MIN(max_vecs, bio->dev->max_vecs);
	bool is_inline = bio->vec == bio->inline_vecs;
	struct iovec *vec;

	if (want <= bio->max_vecs)
		return;
	vec = realloc(is_inline ? NULL : bio->vec, want * sizeof(*vec));
	if (!vec)
		return;
	if (is_inline)
		memcpy(vec, bio->inline_vecs, bio->nr_vecs * sizeof(*vec));
	bio->vec = vec;
	bio->max_vecs = want;
}

void iomap_bio_free(struct iomap_bio *bio)
{
	if (!bio)
		return;
	if (bio->vec != bio->inline_vecs)
		free(bio->vec);
	free((char *)bio - bio->front_pad);
}

bool iomap_bio_add(struct iomap_bio *bio, void *mem, size_t len)
{
	struct iovec *last = bio->nr_vecs ? &bio->vec[bio->nr_vecs - 1] : NULL;

	if (bio->len + len > bio->dev->max_io)
		return false;
	if (last && (char *)last->iov_base + last->iov_len == (char *)mem) {
		last->iov_len += len;
	} else {
		if (bio->nr_vecs == bio->max_vecs)
			return false;
		bio->vec[bio->nr_vecs++] = (struct iovec){ mem, len };
	}
	bio->len += len;
	return true;
}

void iomap_submit_bio(struct iomap_bio *bio)
{
	assert(bio->end_io);
	assert(bio->len && IS_ALIGNED(bio->len, bio->dev->logical_block));
	assert(IS_ALIGNED(bio->addr, bio->dev->logical_block));
	bio->dev->ops->submit(bio->dev, bio);
}

void iomap_waiter_init(struct iomap_waiter *w)
{
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->idle, NULL);
	w->pending = 0;
	w->error = 0;
}

void iomap_waiter_get(struct iomap_waiter *w)
{
	pthread_mutex_lock(&w->lock);
	w->pending++;
	pthread_mutex_unlock(&w->lock);
}

void iomap_waiter_put(struct iomap_waiter *w, int error)
{
	pthread_mutex_lock(&w->lock);
	assert(w->pending);
	if (error && !w->error)
		w->error = error;
	/* Signalled under the lock: the waiter frees *w as soon as it can take it. */
	if (--w->pending == 0)
		pthread_cond_signal(&w->idle);
	pthread_mutex_unlock(&w->lock);
}

int iomap_waiter_wait(struct iomap_waiter *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->pending)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
	pthread_cond_destroy(&w->idle);
	pthread_mutex_destroy(&w->lock);
	return w->error;
}

void *iomap_alloc_patiently(size_t size)
{
	const struct timespec pause = { 0, 10 * 1000 * 1000 };

	for (unsigned tries = 0; tries < 500; tries++) {
		void *p = calloc(1, size);

		if (p)
			return p;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void read_sync_end_io(struct iomap_bio *bio)
{
	struct iomap_waiter *w = bio->private;
	int status = bio->status;

	iomap_bio_free(bio);
	iomap_waiter_put(w, status);
}

int iomap_read_sync(struct iomap_dev *dev, uint64_t addr, void *mem, size_t len)
{
	struct iomap_waiter w;
	int err = 0;

	iomap_waiter_init(&w);
	for (size_t done = 0; done < len;) {
		size_t n = MIN(len - done, (size_t)dev->max_io);
		struct iomap_bio *bio = iomap_bio_alloc(dev, IOMAP_BIO_READ, addr + done, 1);

		if (!bio || !iomap_bio_add(bio, (char *)mem + done, n)) {
			iomap_bio_free(bio);
			err = -ENOMEM;
			break;
		}
		bio->end_io = read_sync_end_io;
		bio->private = &w;
		iomap_waiter_get(&w);
		iomap_submit_bio(bio);
		done += n;
	}
	return iomap_waiter_wait(&w) ?: err;
}

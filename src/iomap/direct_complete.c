/* SPDX-License-Identifier: MIT */
/*
 * Direct I/O, completion. The order is what keeps readers from stale bytes:
 *
 *	1. data on the device (all bios ended)
 *	2. dops->end_io: convert extents, then raise the size
 *	3. drop the cache of the range again: a buffered read that ran between
 *	   submission and 2 cached zeroes from an extent not yet converted
 *	4. the request no longer counts: truncation may go on
 *	5. position, O_DSYNC work
 *	6. tell the caller
 */
#include "iomap_private.h"

void iomap_dio_free(struct iomap_dio *dio)
{
	struct dio_bounce *b, *next;

	for (b = dio->bounces; b; b = next) {
		next = b->next;
		free(b->mem);
		free(b);
	}
	pthread_cond_destroy(&dio->idle);
	pthread_mutex_destroy(&dio->lock);
	free(dio);
}

void iomap_dio_set_error(struct iomap_dio *dio, int error)
{
	int none = 0;

	assert(error < 0);
	atomic_compare_exchange_strong(&dio->error, &none, error);
}

static void copy_back(struct iomap_dio *dio)
{
	for (struct dio_bounce *b = dio->bounces; b; b = b->next)
		iov_iter_copy_to(&b->user, b->mem, b->len);
}

static void drop_cache_again(struct iomap_dio *dio, uint64_t pos)
{
	static struct log_ratelimit rl;
	struct address_space *m = &dio->inode->i_mapping;

	HOOK("iomap:dio_reinvalidate", dio->inode);
	if (!invalidate_inode_pages2_range(m, pos, pos + dio->size - 1))
		return;
	/* Somebody dirtied the range during the write: cache and disk differ, and fsync says so. */
	mapping_set_error(m, -EIO);
	if (log_ratelimit_ok(&rl, 10))
		log_warn("inode %llu: cached writes collide with a direct write at %llu",
			 (unsigned long long)dio->inode->i_ino, (unsigned long long)pos);
}

static int sync_after(struct iomap_dio *dio, uint64_t pos)
{
	const struct inode_operations_hooks *hooks = dio->inode->i_hooks;

	if (!(dio->flags & DIO_NEED_SYNC) || !hooks || !hooks->fsync)
		return 0;
	return hooks->fsync(dio->inode, pos, pos + dio->size - 1,
			    !(dio->iocb->ki_flags & IOCB_SYNC));
}

/* All device I/O ended and nobody else has the request; it is gone afterwards. */
static int64_t dio_complete(struct iomap_dio *dio)
{
	struct kiocb *iocb = dio->iocb;
	int error = atomic_load(&dio->error), err = error;
	uint64_t pos = iocb->ki_pos;
	int64_t ret;

	assert(atomic_load(&dio->refs) == 0);
	if (!(dio->flags & DIO_WRITE) && !error)
		copy_back(dio);
	HOOK("iomap:dio_end_io", dio->inode);
	if (dio->dops && dio->dops->end_io) {
		err = dio->dops->end_io(iocb, (int64_t)dio->size, error,
					dio->flags & (IOMAP_DIO_UNWRITTEN | IOMAP_DIO_COW));
		err = error ?: err;
	}
	ret = (int64_t)dio->size;
	if (!(dio->flags & DIO_WRITE) && pos + dio->size > dio->i_size)
		ret = (int64_t)(dio->i_size - pos);
	/* After an error too: the device may hold some of the bytes that cache does not know. */
	if ((dio->flags & DIO_WRITE) && dio->size)
		drop_cache_again(dio, pos);
	inode_dio_end(dio->inode);
	if (!err && ret > 0) {
		iocb->ki_pos += (uint64_t)ret;
		err = sync_after(dio, pos);
	}
	if (err)
		ret = err;
	else if (ret > 0)
		ret += (int64_t)dio->done_before;
	iomap_dio_free(dio);
	return ret;
}

static void dio_work(struct work *w)
{
	struct iomap_dio *dio = container_of(w, struct iomap_dio, work);
	struct kiocb *iocb = dio->iocb;
	int64_t ret = dio_complete(dio);

	iocb->ki_complete(iocb, ret);
}

/* The last bio ended after the submitter left, or while it waits. */
static void dio_last_put(struct iomap_dio *dio)
{
	if (dio->wait) {
		/* Under the lock: the waiter frees the request as soon as it can take it. */
		pthread_mutex_lock(&dio->lock);
		dio->done = true;
		pthread_cond_signal(&dio->idle);
		pthread_mutex_unlock(&dio->lock);
		return;
	}
	dio->work.fn = dio_work;
	if (dio->workers)
		work_queue(dio->workers, &dio->work);
	else
		dio_work(&dio->work);
}

void iomap_dio_bio_end_io(struct iomap_bio *bio)
{
	struct iomap_dio *dio = bio->private;

	if (bio->status)
		iomap_dio_set_error(dio, bio->status);
	iomap_bio_free(bio);
	if (atomic_fetch_sub(&dio->refs, 1) == 1)
		dio_last_put(dio);
}

int64_t iomap_dio_submitted(struct iomap_dio *dio)
{
	bool wait = dio->wait;

	/* With the reference gone and no wait, completion may have freed it already. */
	if (atomic_fetch_sub(&dio->refs, 1) != 1) {
		if (!wait)
			return -EIOCBQUEUED;
		pthread_mutex_lock(&dio->lock);
		while (!dio->done)
			pthread_cond_wait(&dio->idle, &dio->lock);
		pthread_mutex_unlock(&dio->lock);
	}
	return dio_complete(dio);
}

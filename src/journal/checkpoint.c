/* SPDX-License-Identifier: MIT */
/*
 * Checkpoint: committed images go to their places, and the log's tail moves up.
 *
 * What is written is the image as it was committed, never the buffer: the running
 * transaction may be changing that at the same moment (J4). One batch is in flight at
 * a time, so two images of one block reach the device in the order of their commits.
 *
 *   checkpoint thread                       device
 *   -----------------                       ------
 *   images of the oldest transactions ----> written, maybe cached
 *   wait for all; drop these images
 *   superblock with the new tail,
 *   preflush and FUA ---------------------> flush, then the block
 *   only now is the old space free          (power gone before: replay starts at the
 *                                            old tail and finds all of it still there)
 */
#include <stdlib.h>
#include <string.h>

#include "journal_private.h"

int jnl_write_jsb(struct jnl *j, jnl_tid_t tail_seq, uint64_t tail_block, bool clean)
{
	struct od_jsb *jsb = j->jsb;
	int err;

	assert(tail_block < j->ring_len && tail_seq > 0);
	memset(jsb, 0, OD_MBLK_SIZE);
	od_hdr_init(jsb, OD_MAGIC_JSB, j->ctx.meta_uuid, 0, j->ctx.jnl_start);
	jsb->tail_seq = le64_make(tail_seq);
	jsb->tail_block = le64_make(tail_block);
	jsb->clean = le64_make(clean);
	od_seal(jsb, tail_seq);
	/* All that is not zero lies in the first sector: the write cannot tear. */
	err = bd_write(j->bd, j->ctx.jnl_start << OD_MBLK_SHIFT, jsb, OD_MBLK_SIZE,
		       BD_PREFLUSH | BD_FUA | BD_META);
	if (err)
		log_err("%s: writing the journal superblock: %s", j->bd->name, strerror(-err));
	return err;
}

void jnl_img_retire(struct jnl *j, struct jnl_img *img, struct cds_list_head *dead)
{
	lk_assert_held(&j->lock);
	assert(img->buf->jnl_ckpt == img && !img->dead);
	assert(img->trans->state == JNL_T_COMMITTED && img->trans->nr_imgs > 0);
	img->buf->jnl_ckpt = NULL;
	img->trans->nr_imgs--;
	j->nr_images--;
	cds_list_del(&img->list);
	if (img->writing)
		img->dead = true;
	else
		cds_list_add_tail(&img->list, dead);
}

/* The oldest transactions' images, up to a batch. Lock held. */
static size_t collect(struct jnl *j)
{
	struct jnl_trans *t;
	struct jnl_img *img;
	size_t n = 0;

	cds_list_for_each_entry(t, &j->committed, list) {
		cds_list_for_each_entry(img, &t->imgs, list) {
			if (n == JNL_BATCH_MAX)
				return n;
			assert(!img->writing && img->buf->jnl_ckpt == img);
			img->writing = true;
			j->ckpt_ents[n++] = (struct jnl_ent){ img->buf->mblk, img->data, img };
		}
	}
	return n;
}

/* The batch's writes have ended; on success its images have done their work. Lock held. */
static void finish_batch(struct jnl *j, size_t n, int err, struct cds_list_head *dead)
{
	for (size_t i = 0; i < n; i++) {
		struct jnl_img *img = j->ckpt_ents[i].private;

		assert(img->writing);
		img->writing = false;
		if (img->dead)
			cds_list_add_tail(&img->list, dead);
		else if (!err)
			jnl_img_retire(j, img, dead);
	}
	if (!err)
		j->stats.checkpointed += n;
	pthread_cond_broadcast(&j->ckpt_done_cond);
}

/*
 * Take the leading transactions that have nothing left off the list, and say where
 * replay would have to begin then. Lock held; returns their log blocks.
 */
static uint64_t new_tail(struct jnl *j, struct cds_list_head *done, jnl_tid_t *seq, uint64_t *block)
{
	struct jnl_trans *t, *n;
	uint64_t blocks = 0;

	cds_list_for_each_entry_safe(t, n, &j->committed, list) {
		if (t->nr_imgs)
			break;
		cds_list_del(&t->list);
		cds_list_add_tail(&t->list, done);
		blocks += t->log_blocks;
	}
	if (!cds_list_empty(&j->committed))
		t = cds_list_entry(j->committed.next, struct jnl_trans, list);
	else
		t = j->committing;
	*seq = t ? t->tid : j->running->tid;
	*block = t ? t->log_start : j->head;
	assert(*seq >= j->tail_tid);
	return blocks;
}

/* Lock held on entry and return, not in between. */
static void run_batch(struct jnl *j)
{
	struct jnl_trans *t, *next;
	uint64_t block = 0, freed;
	jnl_tid_t seq = 0;
	CDS_LIST_HEAD(dead);
	CDS_LIST_HEAD(done);
	size_t n = collect(j);
	int err = 0;

	lk_unlock(&j->lock);
	HOOK("journal:checkpoint", j);
	if (n) {
		qsort(j->ckpt_ents, n, sizeof(*j->ckpt_ents), jnl_ent_cmp);
		err = jnl_io_write(j->ckpt_io, j->ckpt_ents, n);
	}
	lk_lock(&j->lock);
	finish_batch(j, n, err, &dead);
	freed = err ? 0 : new_tail(j, &done, &seq, &block);
	lk_unlock(&j->lock);

	jnl_free_images(j, &dead);
	if (freed)
		err = jnl_write_jsb(j, seq, block, false);
	cds_list_for_each_entry_safe(t, next, &done, list) {
		cds_list_del(&t->list);
		jnl_trans_free(j, t);
	}
	if (err)
		jnl_abort(j, err, "writing metadata to its place");
	lk_lock(&j->lock);
	/* Fewer images, or none any more for an error: either is news to who waits for that. */
	if (j->space_waiters)
		pthread_cond_broadcast(&j->start_cond);
	if (err || !freed)
		return;
	assert(j->used >= freed);
	j->used -= freed;
	j->tail_tid = seq;
	pthread_cond_broadcast(&j->start_cond);
	pthread_cond_broadcast(&j->ckpt_done_cond);
}

/* Is there reason to work now? *deadline: when to look again, 0 = when told. Lock held. */
static bool ckpt_due(struct jnl *j, uint64_t *deadline)
{
	const struct jnl_trans *first;

	*deadline = 0;
	if (cds_list_empty(&j->committed))
		return false;
	first = cds_list_entry(j->committed.next, struct jnl_trans, list);
	if (j->ckpt_req >= first->tid || j->space_waiters)
		return true;
	/* Early enough that nobody has to wait for space. */
	if (j->used > j->ring_len / 2 || j->nr_images > j->images_max)
		return true;
	/* An idle file system keeps no images in memory and nothing to replay. */
	*deadline = j->last_commit_ns + 2 * j->interval_ns;
	return clock_mono_ns() >= *deadline;
}

void *jnl_ckpt_main(void *arg)
{
	struct jnl *j = arg;
	uint64_t deadline;

	lk_lock(&j->lock);
	while (!j->stop && !jnl_aborted(j)) {
		if (ckpt_due(j, &deadline))
			run_batch(j);
		else if (deadline)
			lk_cond_timedwait(&j->ckpt_cond, &j->lock, deadline);
		else
			lk_cond_wait(&j->ckpt_cond, &j->lock);
	}
	lk_unlock(&j->lock);
	return NULL;
}

int jnl_checkpoint(struct jnl *j)
{
	jnl_tid_t tid;
	int err;

	if (j->readonly)
		return 0;
	err = jnl_commit_wait(j, jnl_running_tid(j), NULL);
	if (err)
		return err;
	jnl_enter(j);
	tid = atomic_load(&j->committed_tid);
	j->ckpt_req = MAX(j->ckpt_req, tid);
	while (j->tail_tid <= tid) {
		err = jnl_err(j);
		if (err)
			break;
		pthread_cond_signal(&j->ckpt_cond);
		lk_cond_wait(&j->ckpt_done_cond, &j->lock);
	}
	lk_unlock(&j->lock);
	return err;
}

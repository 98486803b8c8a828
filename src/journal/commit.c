/* SPDX-License-Identifier: MIT */
/*
 * Commit: the running transaction becomes a record in the log.
 *
 *   handles                    commit thread                   device
 *   -------                    -------------                   ------
 *   join T5 ... stop           T5 LOCKED: nobody joins
 *   (jnl_start waits)          last handle of T5 stops
 *                              copy T5's buffers               <- contents agree: no
 *   T6 runs; join T6 ...       T5 LOGGING                         handle is open
 *   change T5's buffers        verify, seal the copies
 *                              DESC, images, REVOKE ---------> written, maybe cached
 *                              wait for all of them
 *                              COMMIT, preflush and FUA -----> flush, then the block
 *                              T5 COMMITTED; callbacks;
 *                              waiters of T5 go on
 *
 * The power may go at any point: without the COMMIT block replay does not look at T5,
 * and the COMMIT block is not sent before all it vouches for is durable (J1, J2).
 */
#include <stdlib.h>
#include <string.h>

#include "journal_private.h"

/* ---- The record -------------------------------------------------------------------------- */

static uint64_t ring_mblk(const struct jnl *j, uint64_t index)
{
	return j->ring_base + index % j->ring_len;
}

/* A transaction on its way into log_ents. */
struct record {
	struct jnl *j;
	struct jnl_trans *t;
	uint64_t nr;         /* blocks placed so far */
	uint32_t chain_crc;
};

/* A zeroed block of the log's own at the record's end; freed by free_record. */
static void *add_block(struct record *rec, uint32_t magic)
{
	struct jnl *j = rec->j;
	uint64_t mblk = ring_mblk(j, rec->t->log_start + rec->nr);
	void *page = buf_page_alloc(j->bc);

	if (!page)
		return NULL;
	assert(rec->nr < rec->t->log_blocks);
	memset(page, 0, OD_MBLK_SIZE);
	od_hdr_init(page, magic, j->ctx.meta_uuid, 0, mblk);
	j->log_ents[rec->nr++] = (struct jnl_ent){ mblk, page, page };
	return page;
}

static void seal_block(struct record *rec, void *page, uint64_t nrecs)
{
	struct od_hdr *hdr = page;

	hdr->nrecs = le16_make((uint16_t)nrecs);
	od_seal(page, rec->t->tid);
	rec->chain_crc = od_crc32c(rec->chain_crc, &hdr->crc, sizeof(hdr->crc));
}

static void add_image(struct record *rec, struct jnl_img *img)
{
	struct jnl *j = rec->j;

	assert(rec->nr < rec->t->log_blocks);
	j->log_ents[rec->nr] = (struct jnl_ent){
		ring_mblk(j, rec->t->log_start + rec->nr), img->data, NULL
	};
	rec->nr++;
}

static int build_images(struct record *rec)
{
	struct od_jdesc_entry *ent = NULL;
	struct jnl_img *img;
	void *desc = NULL;
	uint64_t n = 0;

	cds_list_for_each_entry(img, &rec->t->imgs, list) {
		if (n == OD_JDESC_MAX) {
			seal_block(rec, desc, n);
			desc = NULL;
		}
		if (!desc) {
			desc = add_block(rec, OD_MAGIC_JDESC);
			if (!desc)
				return -ENOMEM;
			ent = (struct od_jdesc_entry *)((char *)desc + OD_HDR_SIZE);
			n = 0;
		}
		ent[n].mblk = le64_make(img->buf->mblk);
		ent[n].crc = le32_make(od_crc32c(0, img->data, OD_MBLK_SIZE));
		n++;
		add_image(rec, img);
	}
	if (desc)
		seal_block(rec, desc, n);
	return 0;
}

static int build_revokes(struct record *rec)
{
	struct jnl_revoke *r;
	le64_t *mblks = NULL;
	void *page = NULL;
	uint64_t n = 0;

	RB_FOREACH(r, jnl_revokes, &rec->t->revokes) {
		if (n == OD_JREV_MAX) {
			seal_block(rec, page, n);
			page = NULL;
		}
		if (!page) {
			page = add_block(rec, OD_MAGIC_JREV);
			if (!page)
				return -ENOMEM;
			mblks = (le64_t *)((char *)page + OD_HDR_SIZE);
			n = 0;
		}
		mblks[n++] = le64_make(r->mblk);
	}
	if (page)
		seal_block(rec, page, n);
	return 0;
}

static int build_commit(struct record *rec)
{
	struct od_jcommit *c = add_block(rec, OD_MAGIC_JCOMMIT);

	if (!c)
		return -ENOMEM;
	c->nr_blocks = le64_make(rec->nr);
	c->time_sec = le64_make((uint64_t)clock_real_ts().tv_sec);
	c->chain_crc = le32_make(rec->chain_crc);
	od_seal(c, rec->t->tid);
	return 0;
}

static void free_record(struct record *rec)
{
	for (uint64_t i = 0; i < rec->nr; i++)
		if (rec->j->log_ents[i].private)
			buf_page_free(rec->j->bc, rec->j->log_ents[i].private);
}

/*
 * The COMMIT block goes alone, with a flush before it and FUA: that flush makes the
 * rest of the record durable, and every data write that had ended by then.
 */
static int write_record(struct record *rec)
{
	struct jnl *j = rec->j;
	const struct jnl_ent *last = &j->log_ents[rec->nr - 1];
	int err = 0;

	assert(rec->nr == rec->t->log_blocks);
	if (rec->nr > 1)
		err = jnl_io_write(j->log_io, j->log_ents, rec->nr - 1);
	if (err)
		return err;
	lk_lock(&j->lock);
	j->flush_started++;
	lk_unlock(&j->lock);
	HOOK("journal:commit-block", j);
	return bd_write(j->bd, last->mblk << OD_MBLK_SHIFT, last->data, OD_MBLK_SIZE,
			TEST_BREAK("missing-barrier") ? BD_FUA | BD_META :
							BD_PREFLUSH | BD_FUA | BD_META);
}

static int log_trans(struct jnl *j, struct jnl_trans *t)
{
	struct record rec = { .j = j, .t = t };
	int err = build_images(&rec);

	if (!err)
		err = build_revokes(&rec);
	if (!err)
		err = build_commit(&rec);
	if (!err)
		err = write_record(&rec);
	free_record(&rec);
	return err;
}

/* ---- The steps of a commit ------------------------------------------------------------------ */

/* No handle is open, so the buffers agree with each other: this is the frozen copy. */
static void copy_images(struct jnl_trans *t)
{
	struct jnl_img *img;

	assert(t->state == JNL_T_LOCKED && t->nr_handles == 0);
	cds_list_for_each_entry(img, &t->imgs, list)
		memcpy(img->data, img->buf->data, OD_MBLK_SIZE);
}

/* On our copies, while the next transaction runs. A bad block must not become durable. */
static int verify_images(struct jnl *j, struct jnl_trans *t)
{
	struct jnl_img *img;

	cds_list_for_each_entry(img, &t->imgs, list) {
		const struct buf_ops *ops = buf_ops_of(le32_get(((struct od_hdr *)img->data)->magic));
		const char *test = ops ? ops->verify(buf_ctx(j->bc), img->data, img->buf->mblk, false)
				       : "unknown-magic";

		if (test) {
			log_err("%s: metadata block %llu (%s) would be damaged: %s", j->bd->name,
				(unsigned long long)img->buf->mblk, ops ? ops->name : "?", test);
			return -EFSCORRUPTED;
		}
		od_seal(img->data, t->tid);
	}
	return 0;
}

/* Lock held. LOCKED -> LOGGING: t gets its place in the ring, `next` runs. */
static void switch_running(struct jnl *j, struct jnl_trans *t, struct jnl_trans *next)
{
	t->log_start = j->head;
	t->log_blocks = jnl_trans_blocks(t->nr_imgs, t->nr_revokes);
	assert(t->log_blocks <= j->max_trans);
	assert(t->log_blocks <= j->ring_len - j->used);
	j->head = (j->head + t->log_blocks) % j->ring_len;
	j->used += t->log_blocks;
	t->state = JNL_T_LOGGING;
	j->committing = t;
	next->tid = t->tid + 1;
	j->running = next;
	pthread_cond_broadcast(&j->start_cond);
	jnl_assert_state(j);
}

/*
 * A freed block may hold someone's data as soon as callbacks have run, so no write of
 * its old image may still be on the way to the device (J6). Lock held, may drop it.
 */
static void wait_revoked_writes(struct jnl *j, struct jnl_trans *t)
{
	struct jnl_revoke *r;

	RB_FOREACH(r, jnl_revokes, &t->revokes) {
		for (;;) {
			struct jnl_img *img = r->buf ? r->buf->jnl_ckpt : NULL;

			if (!img || !img->writing || jnl_aborted(j))
				break;
			lk_cond_wait(&j->ckpt_done_cond, &j->lock);
		}
	}
}

/* LOGGING -> COMMITTED: older images of its blocks are not needed any more. Lock held. */
static void publish(struct jnl *j, struct jnl_trans *t, struct cds_list_head *dead)
{
	struct jnl_revoke *r;
	struct jnl_img *img;

	assert(t == j->committing && t->state == JNL_T_LOGGING);
	RB_FOREACH(r, jnl_revokes, &t->revokes)
		if (r->buf && r->buf->jnl_ckpt)
			jnl_img_retire(j, r->buf->jnl_ckpt, dead);
	cds_list_for_each_entry(img, &t->imgs, list) {
		if (img->buf->jnl_ckpt)
			jnl_img_retire(j, img->buf->jnl_ckpt, dead);
		assert(!img->buf->jnl_ckpt);
		img->buf->jnl_ckpt = img;
	}
	t->state = JNL_T_COMMITTED;
	cds_list_add_tail(&t->list, &j->committed);
	j->committing = NULL;
	j->nr_images += t->nr_imgs;
	j->flush_done = j->flush_started;
	j->last_commit_ns = clock_mono_ns();
	j->stats.commits++;
	j->stats.blocks_logged += t->nr_imgs;
	j->stats.revoked += t->nr_revokes;
}

/* The revokes have done their work; their references go before the transaction does. */
static void drop_revokes(struct jnl_trans *t)
{
	struct jnl_revoke *r, *n;

	RB_FOREACH_SAFE(r, jnl_revokes, &t->revokes, n) {
		RB_REMOVE(jnl_revokes, &t->revokes, r);
		if (r->buf)
			buf_put(r->buf);
		free(r);
	}
}

static void finish_commit(struct jnl *j, struct jnl_trans *t)
{
	jnl_tid_t tid = t->tid;
	struct jnl_revokes revokes;
	CDS_LIST_HEAD(dead);
	CDS_LIST_HEAD(cbs);
	struct jnl_trans done = { .nr_handles = 0 };

	lk_lock(&j->lock);
	wait_revoked_writes(j, t);
	publish(j, t, &dead);
	/* From here on the checkpoint thread may free t: take the rest of it along. */
	revokes = t->revokes;
	RB_INIT(&t->revokes);
	t->nr_revokes = 0;
	cds_list_splice(&t->cbs, &cbs);
	CDS_INIT_LIST_HEAD(&t->cbs);
	lk_unlock(&j->lock);

	done.revokes = revokes;
	CDS_INIT_LIST_HEAD(&done.cbs);
	cds_list_splice(&cbs, &done.cbs);
	jnl_free_images(j, &dead);
	jnl_run_callbacks(&done, 0);
	drop_revokes(&done);

	lk_lock(&j->lock);
	assert(atomic_load(&j->committed_tid) + 1 == tid);
	atomic_store(&j->committed_tid, tid);
	pthread_cond_broadcast(&j->done_cond);
	pthread_cond_signal(&j->ckpt_cond);
	lk_unlock(&j->lock);
}

/* The journal was aborted: t never reaches the log, or is not known to be in it. */
static void discard(struct jnl *j, struct jnl_trans *t)
{
	jnl_run_callbacks(t, jnl_err(j));
	jnl_trans_free(j, t);
}

static void run_commit(struct jnl *j)
{
	struct jnl_trans *next = jnl_trans_new();
	struct jnl_trans *t;
	int err;

	if (!next) {
		jnl_abort(j, -ENOMEM, "no memory for a transaction");
		return;
	}
	lk_lock(&j->lock);
	t = j->running;
	t->state = JNL_T_LOCKED;
	while (t->nr_handles)
		lk_cond_wait(&j->handles_cond, &j->lock);
	jnl_assert_state(j);
	lk_unlock(&j->lock);
	HOOK("journal:locked", j);
	TRACE(commit_begin, t->tid, t->nr_revokes, 0);
	if (jnl_aborted(j)) {
		free(next);
		return; /* the thread's loop sees to t */
	}
	copy_images(t);
	lk_lock(&j->lock);
	switch_running(j, t, next);
	lk_unlock(&j->lock);

	err = verify_images(j, t);
	if (!err)
		err = log_trans(j, t);
	TRACE(commit_end, t->tid, t->log_blocks, err);
	if (err)
		jnl_abort(j, err, "a transaction could not be written to the log");
	if (!jnl_aborted(j)) {
		finish_commit(j, t);
		return;
	}
	lk_lock(&j->lock);
	j->committing = NULL;
	lk_unlock(&j->lock);
	discard(j, t);
}

/* ---- The thread -------------------------------------------------------------------------------- */

/* Is there something to commit now? *deadline: when to look again, 0 = when told. */
static bool commit_due(struct jnl *j, uint64_t *deadline)
{
	const struct jnl_trans *t = j->running;

	*deadline = 0;
	if (jnl_trans_empty(t))
		return false;
	if (j->commit_req >= t->tid)
		return true;
	*deadline = t->first_ns + j->interval_ns;
	return clock_mono_ns() >= *deadline;
}

/* After an abort: what ran ends without a commit, and its callbacks hear of it. */
static void abandon_running(struct jnl *j)
{
	struct jnl_trans *t, dead = { 0 };

	lk_lock(&j->lock);
	t = j->running;
	t->state = JNL_T_LOCKED;
	while (t->nr_handles)
		lk_cond_wait(&j->handles_cond, &j->lock);
	CDS_INIT_LIST_HEAD(&dead.cbs);
	cds_list_splice(&t->cbs, &dead.cbs);
	CDS_INIT_LIST_HEAD(&t->cbs);
	lk_unlock(&j->lock);
	/* No handle can be opened any more: t stays, locked, for jnl_close to free. */
	jnl_run_callbacks(&dead, jnl_err(j));
}

void *jnl_commit_main(void *arg)
{
	struct jnl *j = arg;
	uint64_t deadline;

	lk_lock(&j->lock);
	while (!j->stop && !jnl_aborted(j)) {
		if (commit_due(j, &deadline)) {
			lk_unlock(&j->lock);
			run_commit(j);
			lk_lock(&j->lock);
		} else if (deadline) {
			lk_cond_timedwait(&j->commit_cond, &j->lock, deadline);
		} else {
			lk_cond_wait(&j->commit_cond, &j->lock);
		}
	}
	lk_unlock(&j->lock);
	if (jnl_aborted(j))
		abandon_running(j);
	return NULL;
}

/* ---- Asking for a commit -------------------------------------------------------------------------- */

int jnl_commit_wait(struct jnl *j, jnl_tid_t tid, bool *flushed)
{
	uint64_t flushes;
	int err = 0;

	if (flushed)
		*flushed = false;
	if (j->readonly)
		return 0;
	/*
	 * A commit waits for every open handle, so this waits for the locks their owners
	 * wait for: it has the place of a handle in the lock order, and checks it.
	 */
	lk_virtual_acquire(LK_TRANS, "jnl_commit_wait");
	lk_virtual_release(LK_TRANS, "jnl_commit_wait");
	jnl_enter(j);
	flushes = j->flush_started;
	assert(tid <= j->running->tid);
	while (atomic_load(&j->committed_tid) < tid) {
		err = jnl_err(j);
		if (err)
			break;
		/* Nothing changed in it: then what came before it is all there is. */
		if (tid == j->running->tid && jnl_trans_empty(j->running)) {
			tid--;
			continue;
		}
		if (j->commit_req < tid) {
			j->commit_req = tid;
			pthread_cond_signal(&j->commit_cond);
		}
		lk_cond_wait(&j->done_cond, &j->lock);
	}
	/*
	 * Only a flush that was sent after we came counts: one that was already on its
	 * way may have left data behind that completed just before the call.
	 */
	if (flushed)
		*flushed = j->flush_done > flushes;
	lk_unlock(&j->lock);
	return err;
}

void jnl_commit_async(struct jnl *j, jnl_tid_t tid)
{
	if (j->readonly)
		return;
	jnl_enter(j);
	/* Nothing to commit yet: do not make the next change a commit of its own. */
	if (j->commit_req < tid && !(tid == j->running->tid && jnl_trans_empty(j->running))) {
		j->commit_req = tid;
		pthread_cond_signal(&j->commit_cond);
	}
	lk_unlock(&j->lock);
}

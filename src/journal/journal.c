/* SPDX-License-Identifier: MIT */
/*
 * Transactions: the journal as a whole. docs/JOURNAL.md tells the story, draws the states of a
 * transaction and of a block with the functions between them, and numbers the invariants J1...
 */
#include <stdlib.h>
#include <string.h>

#include "journal_private.h"

RB_GENERATE(jnl_revokes, jnl_revoke, link, jnl_revoke_cmp)

int jnl_revoke_cmp(const struct jnl_revoke *a, const struct jnl_revoke *b)
{
	return a->mblk < b->mblk ? -1 : a->mblk > b->mblk;
}

/* ---- Sizes, for mkfs --------------------------------------------------------------------- */

/*
 * A transaction may fill a quarter of the ring, and a quarter must hold the largest
 * handle alone. Then one transaction being written and one running leave half of the
 * ring to those that wait for their checkpoint, and whoever waits for log space
 * always gets it: with all of them checkpointed the sums in may_join hold.
 */
#define LOG_MAX_BYTES (512ull << 20)

uint64_t jnl_min_mblks(void)
{
	return 1 + 4 * jnl_trans_blocks(JNL_MAX_CREDITS, JNL_MAX_CREDITS);
}

unsigned jnl_max_credits(const struct jnl *j)
{
	unsigned n = (unsigned)MIN(j->max_trans, JNL_CREDITS_LIMIT);

	while (n > JNL_MAX_CREDITS && jnl_trans_blocks(n, n) > j->max_trans)
		n--;
	return MAX(n, JNL_MAX_CREDITS);
}

uint64_t jnl_default_mblks(uint64_t dev_bytes)
{
	uint64_t n = MIN(dev_bytes / 16, LOG_MAX_BYTES) / OD_MBLK_SIZE;

	return MAX(n, jnl_min_mblks());
}

void jnl_format_sb(const struct od_ctx *ctx, void *block)
{
	struct od_jsb *jsb = block;

	memset(block, 0, OD_MBLK_SIZE);
	od_hdr_init(block, OD_MAGIC_JSB, ctx->meta_uuid, 0, ctx->jnl_start);
	jsb->tail_seq = le64_make(1);
	jsb->tail_block = le64_make(0);
	jsb->clean = le64_make(1);
	od_seal(block, 0);
}

/* ---- Transactions and images --------------------------------------------------------------- */

struct jnl_trans *jnl_trans_new(void)
{
	struct jnl_trans *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	CDS_INIT_LIST_HEAD(&t->imgs);
	CDS_INIT_LIST_HEAD(&t->cbs);
	CDS_INIT_LIST_HEAD(&t->list);
	RB_INIT(&t->revokes);
	return t;
}

void jnl_img_free(struct jnl *j, struct jnl_img *img)
{
	buf_page_free(j->bc, img->data);
	buf_put(img->buf);
	free(img);
}

void jnl_free_images(struct jnl *j, struct cds_list_head *imgs)
{
	struct jnl_img *img, *n;

	cds_list_for_each_entry_safe(img, n, imgs, list) {
		cds_list_del(&img->list);
		jnl_img_free(j, img);
	}
}

void jnl_run_callbacks(struct jnl_trans *t, int err)
{
	struct jnl_commit_cb *cb, *n;

	cds_list_for_each_entry_safe(cb, n, &t->cbs, list) {
		cds_list_del(&cb->list);
		cb->fn(cb, err);
	}
}

void jnl_trans_free(struct jnl *j, struct jnl_trans *t)
{
	struct jnl_revoke *r, *n;
	struct jnl_img *img;

	assert(t->nr_handles == 0 && cds_list_empty(&t->cbs));
	/*
	 * The buffers outlive this journal: no pointer of ours may stay in them. After an abort
	 * the checkpoint may still be at older images of the same buffers.
	 */
	lk_lock(&j->lock);
	cds_list_for_each_entry(img, &t->imgs, list) {
		if (atomic_load(&img->buf->jnl_tid) == t->tid)
			atomic_store(&img->buf->jnl_tid, 0);
		if (img->buf->jnl_ckpt == img)
			img->buf->jnl_ckpt = NULL;
	}
	lk_unlock(&j->lock);
	jnl_free_images(j, &t->imgs);
	RB_FOREACH_SAFE(r, jnl_revokes, &t->revokes, n) {
		RB_REMOVE(jnl_revokes, &t->revokes, r);
		if (r->buf)
			buf_put(r->buf);
		free(r);
	}
	free(t);
}

/* What holds whenever the lock is free. */
void jnl_assert_state(const struct jnl *j)
{
	lk_assert_held(&j->lock);
	assert(j->readonly || j->running);
	assert(j->used <= j->ring_len && j->head < j->ring_len);
	if (j->running) {
		const struct jnl_trans *t __attribute__((unused)) = j->running;

		assert(t->state == JNL_T_RUNNING || t->state == JNL_T_LOCKED);
		assert(t->tid > atomic_load(&j->committed_tid));
		assert(t->nr_handles || !(t->credits_out || t->revokes_out));
		assert(t->first_ns || (!t->nr_imgs && !t->nr_revokes));
	}
	if (j->committing) {
		assert(j->committing->state == JNL_T_LOGGING);
		assert(j->committing->tid + 1 == j->running->tid);
	}
}

/* ---- Opening and closing ------------------------------------------------------------------- */

static void init_locks(struct jnl *j)
{
	lk_mutex_init(&j->lock, LK_JNL, "jnl.lock");
	lk_cond_init(&j->start_cond);
	lk_cond_init(&j->handles_cond);
	lk_cond_init(&j->commit_cond);
	lk_cond_init(&j->done_cond);
	lk_cond_init(&j->ckpt_cond);
	lk_cond_init(&j->ckpt_done_cond);
}

/* Free everything; the threads are gone and nobody else looks. */
static void teardown(struct jnl *j)
{
	struct jnl_trans *t, *n;

	if (j->running) {
		jnl_run_callbacks(j->running, jnl_err(j));
		jnl_trans_free(j, j->running);
	}
	cds_list_for_each_entry_safe(t, n, &j->committed, list) {
		cds_list_del(&t->list);
		jnl_trans_free(j, t);
	}
	for (size_t i = 0; i < j->nr_pinned; i++)
		buf_put(j->pinned[i]);
	free(j->pinned);
	jnl_io_destroy(j->log_io);
	jnl_io_destroy(j->ckpt_io);
	free(j->log_ents);
	free(j->ckpt_ents);
	if (j->jsb)
		buf_page_free(j->bc, j->jsb);
	pthread_cond_destroy(&j->start_cond);
	pthread_cond_destroy(&j->handles_cond);
	pthread_cond_destroy(&j->commit_cond);
	pthread_cond_destroy(&j->done_cond);
	pthread_cond_destroy(&j->ckpt_cond);
	pthread_cond_destroy(&j->ckpt_done_cond);
	lk_mutex_destroy(&j->lock);
	free(j);
}

static void stop_threads(struct jnl *j)
{
	if (!j->started)
		return;
	lk_lock(&j->lock);
	j->stop = true;
	pthread_cond_broadcast(&j->commit_cond);
	pthread_cond_broadcast(&j->ckpt_cond);
	lk_unlock(&j->lock);
	pthread_join(j->commit_thread, NULL);
	pthread_join(j->ckpt_thread, NULL);
}

static int start_threads(struct jnl *j)
{
	int err = -pthread_create(&j->commit_thread, NULL, jnl_commit_main, j);

	if (err)
		return err;
	err = -pthread_create(&j->ckpt_thread, NULL, jnl_ckpt_main, j);
	if (err) {
		lk_lock(&j->lock);
		j->stop = true;
		pthread_cond_broadcast(&j->commit_cond);
		lk_unlock(&j->lock);
		pthread_join(j->commit_thread, NULL);
		return err;
	}
	j->started = true;
	return 0;
}

/* All that writing will ever need, before anyone can depend on it. */
static int alloc_writers(struct jnl *j)
{
	int err = jnl_io_create(j->bd, &j->log_io);

	if (err)
		return err;
	j->log_ents = calloc(j->max_trans, sizeof(*j->log_ents));
	j->running = jnl_trans_new();
	if (!j->log_ents || !j->running)
		return -ENOMEM;
	return 0;
}

static int open_writable(struct jnl *j, jnl_tid_t next_tid)
{
	int err = alloc_writers(j);

	if (err)
		return err;
	j->running->tid = next_tid;
	j->tail_tid = next_tid;
	atomic_store(&j->committed_tid, next_tid - 1);
	j->last_commit_ns = clock_mono_ns();
	/* From the first commit on the log counts: no "clean" may stand in its way. */
	err = jnl_write_jsb(j, next_tid, j->head, false);
	if (err)
		return err;
	return start_threads(j);
}

/*
 * Half of the memory for transactions that run and commit, which are half full then; half for
 * what is committed and not yet in its place. An image pins its buffer, and is as large.
 */
static void set_limits(struct jnl *j, uint64_t memory_bytes)
{
	uint64_t half = memory_bytes / (2 * OD_MBLK_SIZE) / 2;

	j->max_trans = MIN(j->ring_len / 4, MIN(MAX(half, JNL_TRANS_MIN), JNL_TRANS_MAX));
	j->images_max = MAX(half, JNL_TRANS_MIN / 2);
}

int jnl_open(struct bd *bd, struct buf_cache *bc, const struct od_ctx *ctx,
	     const struct jnl_params *p, struct jnl **out)
{
	struct jnl *j = calloc(1, sizeof(*j));
	jnl_tid_t next_tid = 0;
	int err = -ENOMEM;

	*out = NULL;
	if (!j)
		return -ENOMEM;
	init_locks(j);
	j->bd = bd;
	j->bc = bc;
	j->ctx = *ctx;
	j->readonly = p->readonly || p->norecovery;
	j->interval_ns = (p->commit_interval_ms ? p->commit_interval_ms : 5000) * 1000000ull;
	CDS_INIT_LIST_HEAD(&j->committed);
	if (ctx->jnl_len < jnl_min_mblks() || ctx->jnl_start >= ctx->dev_mblks ||
	    ctx->jnl_len > ctx->dev_mblks - ctx->jnl_start) {
		log_err("%s: the journal's place or size is wrong", bd->name);
		err = -EFSCORRUPTED;
		goto out_teardown;
	}
	j->ring_base = ctx->jnl_start + 1;
	j->ring_len = ctx->jnl_len - 1;
	set_limits(j, p->memory_bytes ? p->memory_bytes : JNL_MEMORY);
	assert(j->max_trans >= jnl_trans_blocks(JNL_MAX_CREDITS, JNL_MAX_CREDITS));
	j->jsb = buf_page_alloc(bc);
	j->ckpt_ents = calloc(JNL_BATCH_MAX, sizeof(*j->ckpt_ents));
	if (!j->jsb || !j->ckpt_ents)
		goto out_teardown;
	err = jnl_io_create(bd, &j->ckpt_io);
	if (err)
		goto out_teardown;
	err = jnl_recover(j, p->norecovery, &next_tid);
	if (err)
		goto out_teardown;
	if (!j->readonly) {
		err = open_writable(j, next_tid);
		if (err)
			goto out_teardown;
	}
	*out = j;
	return 0;

out_teardown:
	teardown(j);
	return err;
}

int jnl_close(struct jnl *j)
{
	int err = 0;

	if (!j->readonly) {
		/* A commit that its timer started may be switching transactions just now. */
		jnl_enter(j);
		assert(j->running->nr_handles == 0);
		lk_unlock(&j->lock);
		err = jnl_checkpoint(j);
		stop_threads(j);
		if (!err)
			err = jnl_err(j);
	}
	if (!j->readonly && !err) {
		/* The running transaction is empty: its number is the next one's. */
		assert(jnl_trans_empty(j->running) && cds_list_empty(&j->committed));
		assert(j->used == 0);
		err = jnl_write_jsb(j, j->running->tid, j->head, true);
	}
	teardown(j);
	return err;
}

/* ---- Abort --------------------------------------------------------------------------------- */

int jnl_err(const struct jnl *j)
{
	return atomic_load(&j->abort_err);
}

bool jnl_aborted(const struct jnl *j)
{
	return jnl_err(j) != 0;
}

void jnl_abort(struct jnl *j, int err, const char *why)
{
	void (*fn)(void *arg, int err, const char *why);
	void *arg;
	int none = 0;

	assert(err < 0);
	if (j->readonly || !atomic_compare_exchange_strong(&j->abort_err, &none, err))
		return;
	lk_lock(&j->lock);
	fn = j->abort_fn;
	arg = j->abort_arg;
	lk_unlock(&j->lock);
	/* First: who wakes with an error should find the file system read-only. */
	if (fn)
		fn(arg, err, why);
	else
		log_err("%s: journal stopped: %s: %s", j->bd->name, why, strerror(-err));
	lk_lock(&j->lock);
	pthread_cond_broadcast(&j->start_cond);
	pthread_cond_broadcast(&j->commit_cond);
	pthread_cond_broadcast(&j->done_cond);
	pthread_cond_broadcast(&j->ckpt_cond);
	pthread_cond_broadcast(&j->ckpt_done_cond);
	lk_unlock(&j->lock);
}

void jnl_set_abort_fn(struct jnl *j, void (*fn)(void *arg, int err, const char *why), void *arg)
{
	lk_lock(&j->lock);
	j->abort_fn = fn;
	j->abort_arg = arg;
	lk_unlock(&j->lock);
}

/* ---- Looking --------------------------------------------------------------------------------- */

jnl_tid_t jnl_running_tid(struct jnl *j)
{
	jnl_tid_t tid;

	if (j->readonly)
		return 0;
	jnl_enter(j);
	tid = j->running->tid;
	lk_unlock(&j->lock);
	return tid;
}

bool jnl_tid_committed(struct jnl *j, jnl_tid_t tid)
{
	return tid <= atomic_load(&j->committed_tid);
}

void jnl_get_stats(struct jnl *j, struct jnl_stats *st)
{
	jnl_enter(j);
	*st = j->stats;
	st->log_blocks = j->ring_len;
	st->log_free = j->ring_len - j->used;
	st->running_tid = j->running ? j->running->tid : 0;
	st->committed_tid = atomic_load(&j->committed_tid);
	lk_unlock(&j->lock);
}

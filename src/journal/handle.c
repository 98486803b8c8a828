/* SPDX-License-Identifier: MIT */
/* Handles: joining the running transaction, and announcing changes to it. */
#include <stdlib.h>

#include "journal_private.h"

/* ---- Opening and closing ------------------------------------------------------------------ */

/*
 * May a handle with so many credits join t now? Otherwise ask for what is missing:
 * a commit that makes room in a new transaction, or a checkpoint that makes room in
 * the log. The two sums are the whole proof that a commit never runs out of log:
 * used + what t may grow to <= ring_len holds from here until t is written. Too many images in
 * memory are mended by a checkpoint too.
 */
static bool may_join(struct jnl *j, struct jnl_trans *t, unsigned credits, bool *short_of_log)
{
	uint64_t need = jnl_trans_need(t, credits);

	*short_of_log = false;
	if (t->state != JNL_T_RUNNING)
		return false; /* the commit thread is at work and wakes us */
	if (need > j->max_trans) {
		j->commit_req = MAX(j->commit_req, t->tid);
		pthread_cond_signal(&j->commit_cond);
		return false;
	}
	if (j->used + need > j->ring_len || j->nr_images > 2 * j->images_max) {
		*short_of_log = true;
		pthread_cond_signal(&j->ckpt_cond);
		return false;
	}
	return true;
}

static int join(struct jnl *j, struct jnl_handle *h, unsigned credits, unsigned flags)
{
	struct jnl_trans *t;
	bool short_of_log;
	int err = 0;

	jnl_enter(j);
	for (;;) {
		if (jnl_aborted(j)) {
			err = -EROFS;
			goto out_unlock;
		}
		t = j->running;
		if (may_join(j, t, credits, &short_of_log))
			break;
		if (flags & JNL_NOWAIT) {
			err = -EAGAIN;
			goto out_unlock;
		}
		j->start_waiters++;
		j->space_waiters += short_of_log;
		lk_cond_wait(&j->start_cond, &j->lock);
		j->space_waiters -= short_of_log;
		j->start_waiters--;
	}
	t->nr_handles++;
	t->credits_out += credits;
	t->revokes_out += credits;
	h->trans = t;
	j->stats.handles++;
	assert(j->used + jnl_trans_need(t, 0) <= j->ring_len);
out_unlock:
	lk_unlock(&j->lock);
	return err;
}

int jnl_start(struct jnl *j, unsigned credits, unsigned flags, struct jnl_handle **out)
{
	struct jnl_handle *h;
	int err;

	*out = NULL;
	if (credits > jnl_max_credits(j))
		return -EINVAL;
	if (j->readonly)
		return -EROFS;
	h = malloc(sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = (struct jnl_handle){ .j = j, .credits_left = credits, .revokes_left = credits };
	/* Before the wait, so that a wrong order is found also when there is no wait. */
	lk_virtual_acquire(LK_TRANS, "jnl_handle");
	err = join(j, h, credits, flags);
	if (err) {
		lk_virtual_release(LK_TRANS, "jnl_handle");
		free(h);
		return err;
	}
	*out = h;
	return 0;
}

int jnl_extend(struct jnl_handle *h, unsigned credits)
{
	struct jnl *j = h->j;
	struct jnl_trans *t = h->trans;
	bool short_of_log;
	int err = -EAGAIN;

	jnl_enter(j);
	if (may_join(j, t, credits, &short_of_log)) {
		t->credits_out += credits;
		t->revokes_out += credits;
		h->credits_left += credits;
		h->revokes_left += credits;
		err = 0;
	}
	lk_unlock(&j->lock);
	return err;
}

unsigned jnl_credits_left(const struct jnl_handle *h)
{
	return h->credits_left;
}

jnl_tid_t jnl_handle_tid(const struct jnl_handle *h)
{
	return h->trans->tid;
}

struct jnl *jnl_handle_journal(const struct jnl_handle *h)
{
	return h->j;
}

jnl_tid_t jnl_stop(struct jnl_handle *h)
{
	struct jnl *j = h->j;
	struct jnl_trans *t = h->trans;
	jnl_tid_t tid = t->tid;

	jnl_enter(j);
	assert(t == j->running && t->nr_handles > 0);
	assert(t->credits_out >= h->credits_left && t->revokes_out >= h->revokes_left);
	t->credits_out -= h->credits_left;
	t->revokes_out -= h->revokes_left;
	if (--t->nr_handles == 0 && t->state == JNL_T_LOCKED)
		pthread_cond_signal(&j->handles_cond);
	if (t->state == JNL_T_RUNNING) {
		/* Half full: commit while there is still room to join meanwhile. */
		if (jnl_trans_blocks(t->nr_imgs, t->nr_revokes) > j->max_trans / 2 &&
		    j->commit_req < tid) {
			j->commit_req = tid;
			pthread_cond_signal(&j->commit_cond);
		}
		if (j->start_waiters)
			pthread_cond_broadcast(&j->start_cond);
	}
	lk_unlock(&j->lock);
	lk_virtual_release(LK_TRANS, "jnl_handle");
	free(h);
	return tid;
}

/* ---- Announcing changes --------------------------------------------------------------------- */

struct jnl_img *jnl_img_new(struct jnl *j, struct buf *b)
{
	struct jnl_img *img = malloc(sizeof(*img));

	if (!img)
		return NULL;
	*img = (struct jnl_img){ .buf = b, .data = buf_page_alloc(j->bc) };
	if (!img->data) {
		free(img);
		return NULL;
	}
	buf_get(b);
	return img;
}

/* The first change of a transaction starts its commit timer. */
static void mark_changed(struct jnl *j, struct jnl_trans *t)
{
	if (t->first_ns)
		return;
	t->first_ns = clock_mono_ns();
	pthread_cond_signal(&j->commit_cond);
}

static struct jnl_revoke *find_revoke(struct jnl_trans *t, uint64_t mblk)
{
	struct jnl_revoke key = { .mblk = mblk };

	return RB_FIND(jnl_revokes, &t->revokes, &key);
}

/* The block lives again within the transaction that freed it; returns the node to free. */
static struct jnl_revoke *cancel_revoke(struct jnl_trans *t, uint64_t mblk)
{
	struct jnl_revoke *r = t->nr_revokes ? find_revoke(t, mblk) : NULL;

	if (r) {
		RB_REMOVE(jnl_revokes, &t->revokes, r);
		t->nr_revokes--;
	}
	return r;
}

static void free_revoke(struct jnl_revoke *r)
{
	if (!r)
		return;
	if (r->buf)
		buf_put(r->buf);
	free(r);
}

static void log_buf(struct jnl_handle *h, struct buf *b)
{
	struct jnl *j = h->j;
	struct jnl_trans *t = h->trans;
	struct jnl_revoke *r = NULL;
	struct jnl_img *img;

	/* Our open handle keeps t from committing, so a match stays true. */
	if (atomic_load_explicit(&b->jnl_tid, memory_order_relaxed) == t->tid)
		return;
	if (h->credits_left == 0) {
		jnl_abort(j, -EFSCORRUPTED, "a handle logged more blocks than it asked for");
		return;
	}
	/* The page for the commit's copy is got here, where no one waits for us. */
	img = jnl_img_new(j, b);
	if (!img) {
		jnl_abort(j, -ENOMEM, "no memory for a block image");
		return;
	}
	jnl_enter(j);
	assert(t == j->running && t->state <= JNL_T_LOCKED);
	if (atomic_load(&b->jnl_tid) != t->tid) {
		img->trans = t;
		cds_list_add_tail(&img->list, &t->imgs);
		t->nr_imgs++;
		atomic_store(&b->jnl_tid, t->tid);
		b->jnl_run = img;
		assert(t->credits_out > 0);
		h->credits_left--;
		t->credits_out--;
		r = cancel_revoke(t, b->mblk);
		mark_changed(j, t);
		img = NULL;
	}
	lk_unlock(&j->lock);
	free_revoke(r);
	if (img)
		jnl_img_free(j, img);
}

void jnl_get_write(struct jnl_handle *h, struct buf *b)
{
	log_buf(h, b);
}

void jnl_get_create(struct jnl_handle *h, struct buf *b)
{
	log_buf(h, b);
}

/*
 * The image that an earlier transaction committed stays until this one is durable: if
 * the power goes first, the block is still its old owner's and its contents are only
 * in that image's log record, which must not leave the log before it is in place.
 */
void jnl_forget(struct jnl_handle *h, uint64_t mblk)
{
	struct jnl *j = h->j;
	struct jnl_trans *t = h->trans;
	struct jnl_revoke *r = calloc(1, sizeof(*r));
	struct jnl_img *img = NULL;

	if (!r) {
		jnl_abort(j, -ENOMEM, "no memory for a revoke");
		return;
	}
	if (h->revokes_left == 0) {
		jnl_abort(j, -EFSCORRUPTED, "a handle freed more blocks than it asked for");
		free(r);
		return;
	}
	r->mblk = mblk;
	r->buf = buf_find(j->bc, mblk);
	jnl_enter(j);
	assert(t == j->running && t->state <= JNL_T_LOCKED);
	if (r->buf && atomic_load(&r->buf->jnl_tid) == t->tid) {
		img = r->buf->jnl_run;
		assert(img->trans == t);
		cds_list_del(&img->list);
		t->nr_imgs--;
		atomic_store(&r->buf->jnl_tid, 0);
		r->buf->jnl_run = NULL;
	}
	if (!find_revoke(t, mblk)) {
		RB_INSERT(jnl_revokes, &t->revokes, r);
		t->nr_revokes++;
		h->revokes_left--;
		t->revokes_out--;
		r = NULL;
	}
	mark_changed(j, t);
	lk_unlock(&j->lock);
	free_revoke(r);
	if (img)
		jnl_img_free(j, img);
}

void jnl_on_commit(struct jnl_handle *h, struct jnl_commit_cb *cb)
{
	struct jnl *j = h->j;

	jnl_enter(j);
	cds_list_add_tail(&cb->list, &h->trans->cbs);
	mark_changed(j, h->trans);
	lk_unlock(&j->lock);
}

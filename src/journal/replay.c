/* SPDX-License-Identifier: MIT */
/*
 * Recovery.
 *
 * Pass 1 walks the ring from the tail and takes every transaction that is complete:
 * consecutive numbers, each block sealed for its place, every image's checksum, the
 * chain of checksums in the COMMIT block. The first thing that does not fit is the end
 * of the log: a commit that the power cut short, never an error.
 *
 * Pass 2 writes the newest image of each block that no transaction revoked at or after
 * it. (Within one transaction images and revokes of a block exclude each other:
 * jnl_forget drops the image, jnl_get_create the revoke.) All images pass their
 * verifier before the first one is written.
 *
 * The tail then skips more numbers than the ring has blocks. What lies in the ring
 * beyond the end, half a transaction or, behind a rotten block, whole ones, can never
 * again be taken for the successor of a new transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "journal_private.h"

#define WINDOW_MBLKS 64u

struct seen {
	uint64_t mblk;
	jnl_tid_t seq;
	uint64_t index;      /* ring index of the image; revokes: unused */
};
struct table {
	struct seen *recs;
	size_t nr, cap;
};

struct replay {
	struct jnl *j;
	struct table imgs, revokes;
	char *window;        /* WINDOW_MBLKS of the ring from window_start */
	uint64_t window_start, window_len;
	void *desc;          /* a copy: reading its images moves the window */
};

static int table_add(struct table *t, uint64_t mblk, jnl_tid_t seq, uint64_t index)
{
	if (t->nr == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 256;
		struct seen *recs = realloc(t->recs, cap * sizeof(*recs));

		if (!recs)
			return -ENOMEM;
		t->recs = recs;
		t->cap = cap;
	}
	t->recs[t->nr++] = (struct seen){ mblk, seq, index };
	return 0;
}

static int seen_cmp(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if (x->mblk != y->mblk)
		return x->mblk < y->mblk ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int index_cmp(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

/* The ring block at index; valid until the next call. */
static int ring_block(struct replay *r, uint64_t index, void **out)
{
	struct jnl *j = r->j;
	int err;

	assert(index < j->ring_len);
	if (index < r->window_start || index >= r->window_start + r->window_len) {
		uint64_t n = MIN(j->ring_len - index, WINDOW_MBLKS);

		r->window_len = 0;
		err = bd_read(j->bd, (j->ring_base + index) << OD_MBLK_SHIFT, r->window,
			      n << OD_MBLK_SHIFT);
		if (err)
			return err;
		r->window_start = index;
		r->window_len = n;
	}
	*out = r->window + ((index - r->window_start) << OD_MBLK_SHIFT);
	return 0;
}

/* ---- Pass 1 -------------------------------------------------------------------------------- */

/* One transaction under examination. */
struct walk {
	jnl_tid_t seq;
	uint64_t start, nr;  /* ring index; blocks seen */
	uint64_t max;        /* more cannot belong to it */
	uint32_t chain_crc;
	bool complete;
	const char *end;     /* why this is the end of the log */
};

static uint64_t walk_index(const struct replay *r, const struct walk *w)
{
	return (w->start + w->nr) % r->j->ring_len;
}

static int walk_images(struct replay *r, struct walk *w, unsigned nrecs)
{
	const struct od_jdesc_entry *ent = (void *)((char *)r->desc + OD_HDR_SIZE);

	for (unsigned i = 0; i < nrecs; i++) {
		uint64_t index = walk_index(r, w);
		void *image;
		int err;

		if (w->nr >= w->max) {
			w->end = "longer-than-the-ring";
			return 0;
		}
		err = ring_block(r, index, &image);
		if (err)
			return err;
		if (od_crc32c(0, image, OD_MBLK_SIZE) != le32_get(ent[i].crc)) {
			w->end = "image-crc";
			return 0;
		}
		err = table_add(&r->imgs, le64_get(ent[i].mblk), w->seq, index);
		if (err)
			return err;
		w->nr++;
	}
	return 0;
}

static int walk_revokes(struct replay *r, struct walk *w, const void *block, unsigned nrecs)
{
	const le64_t *mblks = (const void *)((const char *)block + OD_HDR_SIZE);

	for (unsigned i = 0; i < nrecs && !TEST_BREAK("no-revoke"); i++) {
		int err = table_add(&r->revokes, le64_get(mblks[i]), w->seq, 0);

		if (err)
			return err;
	}
	return 0;
}

static void walk_commit(struct walk *w, const struct od_jcommit *c)
{
	if (le64_get(c->nr_blocks) != w->nr)
		w->end = "commit-length";
	else if (le32_get(c->chain_crc) != w->chain_crc)
		w->end = "commit-chain";
	else
		w->complete = true;
}

/* One block of the log's own, and what belongs to it. Sets w->end where the log ends. */
static int walk_block(struct replay *r, struct walk *w)
{
	struct jnl *j = r->j;
	uint64_t index = walk_index(r, w);
	const struct od_hdr *hdr = r->desc;
	uint32_t magic;
	unsigned nrecs, max_recs;
	void *block;
	int err = ring_block(r, index, &block);

	if (err)
		return err;
	memcpy(r->desc, block, OD_MBLK_SIZE);
	magic = le32_get(hdr->magic);
	nrecs = le16_get(hdr->nrecs);
	if (magic != OD_MAGIC_JDESC && magic != OD_MAGIC_JREV && magic != OD_MAGIC_JCOMMIT) {
		w->end = "no-log-block";
		return 0;
	}
	w->end = od_verify_hdr(&j->ctx, r->desc, magic, j->ring_base + index, OD_ANY_OWNER);
	if (w->end)
		return 0;
	if (le64_get(hdr->seq) != w->seq) {
		w->end = "wrong-seq";
		return 0;
	}
	w->nr++;
	if (magic == OD_MAGIC_JCOMMIT) {
		walk_commit(w, r->desc);
		return 0;
	}
	max_recs = magic == OD_MAGIC_JDESC ? OD_JDESC_MAX : OD_JREV_MAX;
	if (nrecs == 0 || nrecs > max_recs) {
		w->end = "bad-nrecs";
		return 0;
	}
	w->chain_crc = od_crc32c(w->chain_crc, &hdr->crc, sizeof(hdr->crc));
	return magic == OD_MAGIC_JDESC ? walk_images(r, w, nrecs)
				       : walk_revokes(r, w, r->desc, nrecs);
}

/* Collect the complete transactions; *seq and *block: just behind the last of them. */
static int pass1(struct replay *r, jnl_tid_t *seq, uint64_t *block)
{
	struct jnl *j = r->j;
	uint64_t total = 0;

	for (;;) {
		struct walk w = { .seq = *seq, .start = *block, .max = j->ring_len - total };
		size_t nr_imgs = r->imgs.nr, nr_revokes = r->revokes.nr;

		while (!w.complete && !w.end && w.nr < w.max) {
			int err = walk_block(r, &w);

			if (err)
				return err;
		}
		if (!w.complete) {
			/* Half of it may be in the tables. */
			r->imgs.nr = nr_imgs;
			r->revokes.nr = nr_revokes;
			log_debug("%s: the log ends before transaction %llu, block %llu: %s",
				  j->bd->name, (unsigned long long)w.seq,
				  (unsigned long long)walk_index(r, &w),
				  w.end ? w.end : "ring-is-full");
			return 0;
		}
		total += w.nr;
		*block = (*block + w.nr) % j->ring_len;
		(*seq)++;
		j->stats.replayed_transactions++;
	}
}

/* ---- Pass 2 ---------------------------------------------------------------------------------- */

/* The newest revoke of the block in the sorted table; 0 = none. */
static jnl_tid_t revoked_at(const struct table *revokes, uint64_t mblk)
{
	size_t lo = 0, hi = revokes->nr;

	/* First record beyond mblk; its predecessor is the newest of mblk, if any. */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (revokes->recs[mid].mblk <= mblk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo && revokes->recs[lo - 1].mblk == mblk ? revokes->recs[lo - 1].seq : 0;
}

/* Keep in r->imgs only what must be written, in the order of the ring. */
static void choose(struct replay *r)
{
	struct table *t = &r->imgs;
	size_t kept = 0;

	if (r->revokes.nr)
		qsort(r->revokes.recs, r->revokes.nr, sizeof(*r->revokes.recs), seen_cmp);
	if (t->nr)
		qsort(t->recs, t->nr, sizeof(*t->recs), seen_cmp);
	for (size_t i = 0; i < t->nr; i++) {
		if (i + 1 < t->nr && t->recs[i + 1].mblk == t->recs[i].mblk)
			continue;
		if (revoked_at(&r->revokes, t->recs[i].mblk) >= t->recs[i].seq)
			continue;
		t->recs[kept++] = t->recs[i];
	}
	t->nr = kept;
	if (t->nr)
		qsort(t->recs, t->nr, sizeof(*t->recs), index_cmp);
}

static int check_images(struct replay *r)
{
	struct jnl *j = r->j;

	for (size_t i = 0; i < r->imgs.nr; i++) {
		const struct seen *s = &r->imgs.recs[i];
		const char *test;
		void *image;
		int err;

		err = ring_block(r, s->index, &image);
		if (err)
			return err;
		if (s->mblk >= j->ctx.dev_mblks)
			test = "address-beyond-device";
		else if (s->mblk >= j->ctx.jnl_start &&
			 s->mblk - j->ctx.jnl_start < j->ctx.jnl_len)
			test = "address-in-journal";
		else
			test = od_verify_any(&j->ctx, image, s->mblk, true);
		if (test) {
			log_err("%s: the journal's image of block %llu is damaged: %s", j->bd->name,
				(unsigned long long)s->mblk, test);
			return -EFSCORRUPTED;
		}
	}
	return 0;
}

/* Each window of the ring at once, so that the images need no copies. */
static int write_images(struct replay *r)
{
	struct jnl *j = r->j;
	size_t i = 0;

	while (i < r->imgs.nr) {
		size_t n = 0;
		void *image;
		int err = ring_block(r, r->imgs.recs[i].index, &image);

		if (err)
			return err;
		while (i < r->imgs.nr && n < JNL_BATCH_MAX &&
		       r->imgs.recs[i].index < r->window_start + r->window_len) {
			err = ring_block(r, r->imgs.recs[i].index, &image);
			assert(!err);
			buf_invalidate(j->bc, r->imgs.recs[i].mblk);
			j->ckpt_ents[n++] = (struct jnl_ent){ r->imgs.recs[i].mblk, image, NULL };
			i++;
		}
		qsort(j->ckpt_ents, n, sizeof(*j->ckpt_ents), jnl_ent_cmp);
		err = jnl_io_write(j->ckpt_io, j->ckpt_ents, n);
		if (err)
			return err;
		j->stats.replayed_blocks += n;
	}
	return 0;
}

/* Readonly: the cache takes the images, pinned, and hides what the device holds. */
static int pin_images(struct replay *r)
{
	struct jnl *j = r->j;

	j->pinned = calloc(r->imgs.nr ? r->imgs.nr : 1, sizeof(*j->pinned));
	if (!j->pinned)
		return -ENOMEM;
	for (size_t i = 0; i < r->imgs.nr; i++) {
		const struct seen *s = &r->imgs.recs[i];
		const struct buf_ops *ops;
		struct buf *b;
		void *image;
		int err = ring_block(r, s->index, &image);

		if (err)
			return err;
		ops = buf_ops_of(le32_get(((struct od_hdr *)image)->magic));
		if (!ops)
			return -EFSCORRUPTED;
		err = buf_new(j->bc, s->mblk, 0, ops, &b);
		if (err)
			return err;
		memcpy(b->data, image, OD_MBLK_SIZE);
		j->pinned[j->nr_pinned++] = b;
		j->stats.replayed_blocks++;
	}
	return 0;
}

/* ---- The whole ----------------------------------------------------------------------------------- */

static int replay(struct replay *r, jnl_tid_t *seq, uint64_t *block)
{
	struct jnl *j = r->j;
	int err = pass1(r, seq, block);

	if (err)
		return err;
	choose(r);
	err = check_images(r);
	if (err)
		return err;
	err = j->readonly ? pin_images(r) : write_images(r);
	if (err)
		return err;
	if (j->stats.replayed_transactions)
		log_info("%s: replayed %llu transactions, %llu blocks", j->bd->name,
			 (unsigned long long)j->stats.replayed_transactions,
			 (unsigned long long)j->stats.replayed_blocks);
	return 0;
}

/* Decode and check all of it, then publish. */
static int read_jsb(struct jnl *j, jnl_tid_t *tail_seq, uint64_t *tail_block)
{
	const struct od_jsb *jsb = j->jsb;
	const char *test;
	uint64_t unknown;
	int err = bd_read(j->bd, j->ctx.jnl_start << OD_MBLK_SHIFT, j->jsb, OD_MBLK_SIZE);

	if (err)
		return err;
	test = od_verify_jsb(&j->ctx, jsb, true);
	if (test) {
		log_err("%s: the journal superblock is damaged: %s", j->bd->name, test);
		return -EFSCORRUPTED;
	}
	unknown = le64_get(jsb->incompat) & ~OD_JNL_INCOMPAT_KNOWN;
	if (unknown) {
		log_err("%s: the journal has unknown features: %#llx", j->bd->name,
			(unsigned long long)unknown);
		return -EOPNOTSUPP;
	}
	*tail_seq = le64_get(jsb->tail_seq);
	*tail_block = le64_get(jsb->tail_block);
	return 0;
}

int jnl_recover(struct jnl *j, bool norecovery, jnl_tid_t *next_tid)
{
	struct replay r = { .j = j };
	uint64_t block;
	jnl_tid_t seq;
	int err;

	if (norecovery)
		return 0;
	err = read_jsb(j, &seq, &block);
	if (err)
		return err;
	r.window = aligned_alloc(OD_MBLK_SIZE, (size_t)WINDOW_MBLKS * OD_MBLK_SIZE);
	r.desc = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);
	err = r.window && r.desc ? replay(&r, &seq, &block) : -ENOMEM;
	free(r.window);
	free(r.desc);
	free(r.imgs.recs);
	free(r.revokes.recs);
	if (err)
		return err;
	/* open_writable flushes the images and writes this tail with one request. */
	j->head = block;
	*next_tid = seq + j->ring_len;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Read blocks as recovery will leave them. Complete transactions of the log are found by
 * the rules of docs/FORMAT.md, "Journal"; instead of writing their images anywhere, an
 * overlay remembers which block of the ring stands for which block of the device.
 */
#include <stdlib.h>
#include <string.h>

#include "chk.h"

struct chk_overlay {
	RB_ENTRY(chk_overlay) node;
	uint64_t mblk;
	uint64_t image;       /* mblk of its newest image in the ring; 0 = none */
	uint64_t revoked_seq; /* images of this transaction and older do not count; 0 = none */
};

static int overlay_cmp(const struct chk_overlay *a, const struct chk_overlay *b)
{
	return a->mblk < b->mblk ? -1 : a->mblk > b->mblk;
}

RB_GENERATE_INTERNAL(chk_overlays, chk_overlay, node, overlay_cmp, static __attribute__((unused)))

void *chk_block_alloc(struct chk *c)
{
	void *block = aligned_alloc(OD_MBLK_SIZE, OD_MBLK_SIZE);

	if (!block)
		c->error = -ENOMEM;
	return block;
}

int chk_read(struct chk *c, uint64_t mblk, void *block)
{
	struct chk_overlay key = { .mblk = mblk };
	const struct chk_overlay *o = RB_FIND(chk_overlays, &c->overlays, &key);

	if (o && o->image)
		mblk = o->image;
	return bd_read(c->bd, mblk << OD_MBLK_SHIFT, block, OD_MBLK_SIZE);
}

void chk_overlay_free(struct chk *c)
{
	struct chk_overlay *o, *next;

	RB_FOREACH_SAFE(o, chk_overlays, &c->overlays, next) {
		RB_REMOVE(chk_overlays, &c->overlays, o);
		free(o);
	}
}

static struct chk_overlay *overlay_get(struct chk *c, uint64_t mblk)
{
	struct chk_overlay key = { .mblk = mblk };
	struct chk_overlay *o = RB_FIND(chk_overlays, &c->overlays, &key);

	if (o)
		return o;
	o = calloc(1, sizeof(*o));
	if (!o) {
		c->error = -ENOMEM;
		return NULL;
	}
	o->mblk = mblk;
	RB_INSERT(chk_overlays, &c->overlays, o);
	return o;
}

/* One transaction being read from the ring. */
struct scan {
	struct chk *c;
	uint64_t ring;      /* mblk of ring index 0 */
	uint64_t ring_len;
	uint64_t pos;       /* ring index of the next block */
	uint64_t used;      /* blocks of this transaction read so far */
	uint64_t total;     /* blocks of complete transactions read before it */
	uint64_t seq;       /* of this transaction */
	uint32_t chain_crc;
	uint8_t *ctl, *image;
	struct chk_vec records; /* struct record, of this transaction */
};
struct record {
	uint64_t mblk;
	uint64_t image; /* mblk in the ring; 0 = a revoke */
};

/* The next block of the ring; false at its end (all of it seen) or when it cannot be read. */
static bool next_block(struct scan *s, void *block, uint64_t *mblk)
{
	if (s->total + s->used >= s->ring_len)
		return false;
	*mblk = s->ring + s->pos;
	if (bd_read(s->c->bd, *mblk << OD_MBLK_SHIFT, block, OD_MBLK_SIZE))
		return false;
	s->pos = (s->pos + 1) % s->ring_len;
	s->used++;
	return true;
}

static bool read_images(struct scan *s)
{
	const struct od_hdr *h = (const void *)s->ctl;
	const struct od_jdesc_entry *e = (const void *)(s->ctl + OD_HDR_SIZE);
	const unsigned n = le16_get(h->nrecs);

	if (n == 0 || n > OD_JDESC_MAX)
		return false;
	for (unsigned i = 0; i < n; i++) {
		struct record r = { .mblk = le64_get(e[i].mblk) };

		if (r.mblk >= s->c->od.dev_mblks || !next_block(s, s->image, &r.image) ||
		    od_crc32c(0, s->image, OD_MBLK_SIZE) != le32_get(e[i].crc) ||
		    !chk_vec_push(s->c, &s->records, &r))
			return false;
	}
	return true;
}

static bool read_revokes(struct scan *s)
{
	const struct od_hdr *h = (const void *)s->ctl;
	const le64_t *mblks = (const void *)(s->ctl + OD_HDR_SIZE);
	const unsigned n = le16_get(h->nrecs);

	if (n == 0 || n > OD_JREV_MAX)
		return false;
	for (unsigned i = 0; i < n; i++) {
		const struct record r = { .mblk = le64_get(mblks[i]) };

		if (!chk_vec_push(s->c, &s->records, &r))
			return false;
	}
	return true;
}

/* Read one transaction into s->records. False: the log ends before it. */
static bool read_transaction(struct scan *s)
{
	const struct od_hdr *h = (const void *)s->ctl;
	const struct od_jcommit *commit = (const void *)s->ctl;
	uint64_t mblk;

	s->used = 0;
	s->chain_crc = 0;
	s->records.n = 0;
	for (;;) {
		if (!next_block(s, s->ctl, &mblk) ||
		    od_verify_hdr(&s->c->od, s->ctl, le32_get(h->magic), mblk, OD_ANY_OWNER) ||
		    le64_get(h->seq) != s->seq)
			return false;
		switch (le32_get(h->magic)) {
		case OD_MAGIC_JDESC:
			s->chain_crc = od_crc32c(s->chain_crc, &h->crc, sizeof(h->crc));
			if (!read_images(s))
				return false;
			break;
		case OD_MAGIC_JREV:
			s->chain_crc = od_crc32c(s->chain_crc, &h->crc, sizeof(h->crc));
			if (!read_revokes(s))
				return false;
			break;
		case OD_MAGIC_JCOMMIT:
			return le64_get(commit->nr_blocks) == s->used &&
			       le32_get(commit->chain_crc) == s->chain_crc;
		default:
			return false;
		}
	}
}

/* Later transactions win; a revoke drops the images of its own and of older transactions. */
static void apply(struct scan *s)
{
	const struct record *r = s->records.data;

	for (size_t i = 0; i < s->records.n; i++) {
		struct chk_overlay *o = overlay_get(s->c, r[i].mblk);

		if (!o)
			return;
		if (r[i].image == 0)
			o->revoked_seq = s->seq;
	}
	for (size_t i = 0; i < s->records.n; i++) {
		struct chk_overlay *o = overlay_get(s->c, r[i].mblk);

		if (!o)
			return;
		if (r[i].image == 0)
			o->image = 0;
		else if (o->revoked_seq != s->seq)
			o->image = r[i].image;
	}
}

int chk_replay_home(struct chk *c)
{
	void *block = chk_block_alloc(c);
	struct chk_overlay *o;
	int err = block ? 0 : -ENOMEM;

	RB_FOREACH(o, chk_overlays, &c->overlays) {
		if (err || !o->image || chk_read(c, o->mblk, block))
			continue;
		/* One that fails its checks is worth less than what is at home. */
		if (!od_verify_any(&c->od, block, o->mblk, true))
			err = bd_write(c->bd, o->mblk << OD_MBLK_SHIFT, block, OD_MBLK_SIZE, BD_META);
	}
	free(block);
	return err;
}

static void check_images(struct chk *c)
{
	void *block = chk_block_alloc(c);
	struct chk_overlay *o;

	RB_FOREACH(o, chk_overlays, &c->overlays) {
		const char *bad;

		if (!block || !o->image || chk_read(c, o->mblk, block))
			continue;
		bad = od_verify_any(&c->od, block, o->mblk, true);
		if (bad)
			chk_raise(c, CHK_P_JNL_IMAGE, "metadata block %llu: %s",
				  (unsigned long long)o->mblk, bad);
	}
	free(block);
}

void chk_replay(struct chk *c)
{
	struct scan s = { .c = c, .ring = c->od.jnl_start + 1, .ring_len = c->od.jnl_len - 1 };
	struct od_jsb *jsb;
	uint64_t nr = 0;

	chk_vec_init(&s.records, sizeof(struct record));
	s.ctl = chk_block_alloc(c);
	s.image = chk_block_alloc(c);
	if (!s.ctl || !s.image || bd_read(c->bd, c->od.jnl_start << OD_MBLK_SHIFT, s.ctl, OD_MBLK_SIZE))
		goto out_free;
	jsb = (void *)s.ctl;
	s.seq = le64_get(jsb->tail_seq);
	s.pos = le64_get(jsb->tail_block);
	assert(s.pos < s.ring_len); /* pass 0 looked */
	while (!c->error && read_transaction(&s)) {
		apply(&s);
		s.total += s.used;
		s.seq++;
		nr++;
	}
	c->jnl_next = s.seq;
	if (nr) {
		c->clean = false;
		chk_raise(c, CHK_P_JNL_REPLAYED, "%llu transactions", (unsigned long long)nr);
		check_images(c);
	}
out_free:
	chk_vec_free(&s.records);
	free(s.ctl);
	free(s.image);
}

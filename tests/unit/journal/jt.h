/* SPDX-License-Identifier: MIT */
/*
 * What the journal's tests share: a small device with a journal of the smallest size,
 * and blocks (of kind blob) that carry a stamp.
 */
#ifndef JT_H
#define JT_H

#include <string.h>

#include "iomapfs/journal.h"
#include "unit.h"

#define JT_BYTES     (24ull << 20)
#define JT_JNL_START 64u
#define JT_OWNER     od_ino_make(4000, 1)

struct jt {
	struct bd *mem;     /* the lowest device */
	struct bd *dev;     /* what the journal writes to: mem or a decorator over it */
	struct od_ctx ctx;
	struct buf_cache *bc;
	struct jnl *j;
	struct jnl_params params;
};

/* Test block number -> address, behind the journal. */
static inline uint64_t jt_mblk(unsigned i)
{
	return 2000 + i;
}

static inline void jt_init(struct jt *t)
{
	void *page = aligned_alloc(4096, 4096);

	memset(t, 0, sizeof(*t));
	t->params.commit_interval_ms = 100000; /* only when told */
	ck_assert_int_eq(bd_mem_create(JT_BYTES, 512, &t->mem), 0);
	t->dev = t->mem;
	memset(t->ctx.meta_uuid, 0x5a, 16);
	t->ctx.dev_mblks = JT_BYTES / 4096;
	t->ctx.block_shift = 12;
	t->ctx.cluster_shift = 14;
	t->ctx.nr_blocks = t->ctx.ag_blocks = JT_BYTES / 4096;
	t->ctx.nr_ags = 1;
	t->ctx.jnl_start = JT_JNL_START;
	t->ctx.jnl_len = jnl_min_mblks();
	jnl_format_sb(&t->ctx, page);
	ck_assert_int_eq(bd_write(t->mem, JT_JNL_START * 4096ull, page, 4096, 0), 0);
	free(page);
}

static inline int jt_try_open(struct jt *t)
{
	int err;

	ck_assert_int_eq(buf_cache_create(t->dev, &t->ctx, 1 << 20, &t->bc), 0);
	err = jnl_open(t->dev, t->bc, &t->ctx, &t->params, &t->j);
	if (err) {
		buf_cache_destroy(t->bc);
		t->bc = NULL;
	}
	return err;
}

static inline void jt_open(struct jt *t)
{
	ck_assert_int_eq(jt_try_open(t), 0);
}

static inline int jt_close(struct jt *t)
{
	int err = jnl_close(t->j);

	buf_cache_destroy(t->bc);
	t->j = NULL;
	t->bc = NULL;
	return err;
}

/* The process dies: nothing is written any more, memory goes. */
static inline void jt_die(struct jt *t)
{
	jnl_abort(t->j, -EIO, "the test pulls the plug");
	jt_close(t);
}

static inline void jt_fini(struct jt *t)
{
	bd_close(t->dev);
}

/* The stamp of a block: a number at the blob's data. */
static inline struct od_blob *jt_blob(struct buf *b)
{
	return (struct od_blob *)((char *)b->data + OD_HDR_SIZE);
}

static inline void jt_set(struct buf *b, uint64_t stamp)
{
	struct od_blob *blob = jt_blob(b);

	blob->len = le32_make(8);
	memcpy(blob + 1, &stamp, 8);
	/* And at the end, so that a torn or mixed block shows. */
	memcpy((char *)b->data + 4088, &stamp, 8);
}

static inline uint64_t jt_get(struct buf *b)
{
	uint64_t first, last;

	memcpy(&first, jt_blob(b) + 1, 8);
	memcpy(&last, (char *)b->data + 4088, 8);
	ck_assert_uint_eq(first, last);
	return first;
}

static inline struct jnl_handle *jt_start(struct jt *t, unsigned credits)
{
	struct jnl_handle *h;

	ck_assert_int_eq(jnl_start(t->j, credits, 0, &h), 0);
	return h;
}

static inline void jt_create(struct jt *t, struct jnl_handle *h, unsigned i, uint64_t stamp)
{
	struct buf *b;

	ck_assert_int_eq(buf_new(t->bc, jt_mblk(i), JT_OWNER, &buf_ops_blob, &b), 0);
	jnl_get_create(h, b);
	jt_set(b, stamp);
	buf_put(b);
}

static inline void jt_change(struct jt *t, struct jnl_handle *h, unsigned i, uint64_t stamp)
{
	struct buf *b;

	ck_assert_int_eq(buf_read(t->bc, jt_mblk(i), JT_OWNER, &buf_ops_blob, 0, &b), 0);
	jnl_get_write(h, b);
	jt_set(b, stamp);
	buf_put(b);
}

/* Create or change one block in a transaction of its own (if nobody else runs). */
static inline jnl_tid_t jt_put(struct jt *t, unsigned i, uint64_t stamp, bool create)
{
	struct jnl_handle *h = jt_start(t, 1);

	(create ? jt_create : jt_change)(t, h, i, stamp);
	return jnl_stop(h);
}

static inline void jt_commit(struct jt *t)
{
	ck_assert_int_eq(jnl_commit_wait(t->j, jnl_running_tid(t->j), NULL), 0);
}

/* Through the cache. */
static inline uint64_t jt_read(struct jt *t, unsigned i)
{
	struct buf *b;
	uint64_t v;

	ck_assert_int_eq(buf_read(t->bc, jt_mblk(i), JT_OWNER, &buf_ops_blob, 0, &b), 0);
	v = jt_get(b);
	buf_put(b);
	return v;
}

/* On the device: the stamp in place, 0 if no block of ours is there. */
static inline uint64_t jt_on_disk(struct jt *t, unsigned i)
{
	char *p = (char *)bd_mem_base(t->mem) + jt_mblk(i) * 4096;
	uint64_t v;

	memcpy(&v, p + 4088, 8);
	return v;
}

#endif

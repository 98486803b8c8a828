/* SPDX-License-Identifier: MIT */
/*
 * Cache of verified metadata blocks.
 *
 * Buffers are spread over shards by address; a shard has a hash table, an LRU list of
 * its unreferenced buffers and one short lock, so that a hit costs one uncontended
 * lock and no list is shared by the whole machine. A buffer with references is on no
 * list: only the first and the last reference touch the LRU.
 *
 * State of a buffer; an arrow names the function that takes it:
 *
 *             insert            finish_read
 *   (absent) --------> READING -------------> VALID
 *      ^  |               |                    ^ |
 *      |  |   buf_new     | finish_read        | | evict, buf_invalidate
 *      |  '---------------+--------------------' v
 *      |                  '-----> FAILED       (absent)
 *      '-- lookup (-EIO: try again)  |  ^
 *                                    |  '-- stays for -EFSCORRUPTED: logged once
 *                     buf_new -------'----> VALID
 *
 * READING    its reader (or the device, for read-ahead) writes data; all others wait.
 * VALID      data passed the verifier, or was made by buf_new.
 * FAILED     error says why; data means nothing.
 * UNHASHED is a bit beside these: no lookup finds the buffer; the last put frees it.
 */
#include <stdlib.h>
#include <string.h>

#include "buffer_private.h"
#include "iomapfs/buffer.h"

#define BUF_ST_READING  1u
#define BUF_ST_VALID    2u
#define BUF_ST_FAILED   3u
#define BUF_ST_MASK     3u
#define BUF_ST_UNHASHED (1u << 2) /* under the shard's lock */
#define BUF_ST_LOGGED   (1u << 3) /* a wrong owner or kind was reported */

#define SHARDS_MAX   64u
#define SHARD_LRU_MIN 16u

struct shard {
	struct lk_mutex lock;        /* LK_BUFCACHE */
	struct buf **hash;
	struct cds_list_head lru;    /* unreferenced buffers, oldest first */
	uint64_t nr_cached, nr_idle; /* in the hash; on the LRU */
	uint64_t hits, misses, read_errors, corrupt;
	/*
	 * Reads end on threads that may hold no lock as low as `lock`, so the waiters
	 * have a leaf of their own; it guards nothing but the sleep.
	 */
	struct lk_mutex wait_lock;   /* LK_LEAF */
	pthread_cond_t read_done;
} __attribute__((aligned(64)));

struct buf_cache {
	struct bd *bd;
	struct od_ctx ctx;
	unsigned nr_shards, nr_buckets; /* powers of two; buckets of one shard */
	uint64_t shard_limit;           /* unreferenced buffers kept in a shard */
	_Atomic unsigned nr_readahead;  /* in flight */
	struct buf_pages pages;
	struct shard shards[];
};

const struct buf_ops buf_ops_sb = { "superblock", OD_MAGIC_SB, od_verify_sb };
const struct buf_ops buf_ops_ag = { "group header", OD_MAGIC_AG, od_verify_ag };
const struct buf_ops buf_ops_btree = { "btree", OD_MAGIC_BTREE, od_verify_btree };
const struct buf_ops buf_ops_inodes = { "inodes", OD_MAGIC_INODES, od_verify_inodes };
const struct buf_ops buf_ops_dir = { "dir", OD_MAGIC_DIR, od_verify_dir };
const struct buf_ops buf_ops_blob = { "blob", OD_MAGIC_BLOB, od_verify_blob };

const struct buf_ops *buf_ops_of(uint32_t magic)
{
	static const struct buf_ops *const all[] = {
		&buf_ops_sb,	 &buf_ops_ag,  &buf_ops_btree,
		&buf_ops_inodes, &buf_ops_dir, &buf_ops_blob,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i]->magic == magic)
			return all[i];
	return NULL;
}

const struct od_ctx *buf_ctx(const struct buf_cache *bc)
{
	return &bc->ctx;
}

void buf_set_reflink(struct buf_cache *bc, bool reflink)
{
	bc->ctx.reflink = reflink;
}

void *buf_page_alloc(struct buf_cache *bc)
{
	return buf_pages_get(&bc->pages);
}

void buf_page_free(struct buf_cache *bc, void *page)
{
	buf_pages_put(&bc->pages, page);
}

/* Neighbours go to different shards and buckets: the multiplier spreads all bits. */
static uint64_t mix(uint64_t mblk)
{
	mblk *= 0x9e3779b97f4a7c15ull;
	return mblk ^ (mblk >> 32);
}

static struct shard *shard_of(struct buf_cache *bc, uint64_t mblk)
{
	return &bc->shards[mix(mblk) & (bc->nr_shards - 1)];
}

static struct buf **bucket_of(struct buf_cache *bc, struct shard *s, uint64_t mblk)
{
	return &s->hash[(mix(mblk) >> 8) & (bc->nr_buckets - 1)];
}

static unsigned state_of(const struct buf *b)
{
	return atomic_load_explicit(&b->state, memory_order_acquire) & BUF_ST_MASK;
}

/* Keeps the other bits; release: data and error are visible to who sees the new state. */
static void set_state(struct buf *b, unsigned st)
{
	unsigned old = atomic_load_explicit(&b->state, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(&b->state, &old, (old & ~BUF_ST_MASK) | st,
						      memory_order_release, memory_order_relaxed))
		;
}

static bool is_unhashed(const struct buf *b)
{
	return atomic_load_explicit(&b->state, memory_order_relaxed) & BUF_ST_UNHASHED;
}

/* ---- Buffers and the shard's lists ------------------------------------------------------ */

static struct buf *buf_alloc(struct buf_cache *bc, uint64_t mblk, const struct buf_ops *ops,
			     unsigned st)
{
	struct buf *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->data = buf_pages_get(&bc->pages);
	if (!b->data) {
		free(b);
		return NULL;
	}
	b->mblk = mblk;
	b->ops = ops;
	b->cache = bc;
	atomic_init(&b->state, st);
	lk_mutex_init(&b->lock, LK_INOBUF, "buf.lock");
	CDS_INIT_LIST_HEAD(&b->lru);
	return b;
}

static void buf_free(struct buf *b)
{
	assert(atomic_load(&b->refs) == 0 && state_of(b) != BUF_ST_READING);
	assert(!b->jnl_ckpt);
	lk_mutex_destroy(&b->lock);
	buf_pages_put(&b->cache->pages, b->data);
	free(b);
}

static struct buf *hash_find(struct buf_cache *bc, struct shard *s, uint64_t mblk)
{
	struct buf *b = *bucket_of(bc, s, mblk);

	lk_assert_held(&s->lock);
	while (b && b->mblk != mblk)
		b = b->hash_next;
	return b;
}

static void hash_insert(struct buf_cache *bc, struct shard *s, struct buf *b)
{
	struct buf **head = bucket_of(bc, s, b->mblk);

	assert(!hash_find(bc, s, b->mblk));
	b->hash_next = *head;
	*head = b;
	s->nr_cached++;
}

static void hash_remove(struct buf_cache *bc, struct shard *s, struct buf *b)
{
	struct buf **p = bucket_of(bc, s, b->mblk);

	lk_assert_held(&s->lock);
	while (*p != b)
		p = &(*p)->hash_next;
	*p = b->hash_next;
	atomic_fetch_or(&b->state, BUF_ST_UNHASHED);
	s->nr_cached--;
}

static void lru_add(struct shard *s, struct buf *b)
{
	cds_list_add_tail(&b->lru, &s->lru);
	s->nr_idle++;
}

static void lru_del(struct shard *s, struct buf *b)
{
	cds_list_del_init(&b->lru);
	s->nr_idle--;
}

/* Under the shard's lock, on a buffer found there. */
static void ref_found(struct shard *s, struct buf *b)
{
	if (atomic_fetch_add(&b->refs, 1) == 0)
		lru_del(s, b);
}

static void drop_idle(struct buf_cache *bc, struct shard *s, struct buf *b)
{
	lru_del(s, b);
	hash_remove(bc, s, b);
	buf_free(b);
}

/*
 * Down to `keep` unreferenced buffers, oldest first. One that read-ahead is still
 * filling stays; there are few, so looking past them is cheap.
 */
static void shard_trim(struct buf_cache *bc, struct shard *s, uint64_t keep)
{
	struct buf *b, *n;

	lk_assert_held(&s->lock);
	cds_list_for_each_entry_safe(b, n, &s->lru, lru) {
		if (s->nr_idle <= keep)
			break;
		if (state_of(b) != BUF_ST_READING)
			drop_idle(bc, s, b);
	}
}

/* Make b unfindable; it goes with its last reference, at once if there is none. */
static void unhash(struct buf_cache *bc, struct shard *s, struct buf *b)
{
	if (atomic_load(&b->refs) == 0)
		drop_idle(bc, s, b);
	else
		hash_remove(bc, s, b);
}

void buf_get(struct buf *b)
{
	int old = atomic_fetch_add(&b->refs, 1);

	assert(old > 0);
	(void)old;
}

void buf_put(struct buf *b)
{
	struct buf_cache *bc = b->cache;
	int v = atomic_load(&b->refs);
	struct shard *s;

	assert(v > 0);
	while (v > 1)
		if (atomic_compare_exchange_weak(&b->refs, &v, v - 1))
			return;
	/*
	 * The last one goes under the lock: a lookup that finds the buffer must see
	 * either its reference or its place on the LRU.
	 */
	s = shard_of(bc, b->mblk);
	lk_lock(&s->lock);
	if (atomic_fetch_sub(&b->refs, 1) == 1) {
		if (is_unhashed(b)) {
			buf_free(b);
		} else {
			lru_add(s, b);
			shard_trim(bc, s, bc->shard_limit);
		}
	}
	lk_unlock(&s->lock);
}

void buf_lock(struct buf *b)
{
	lk_lock(&b->lock);
}

bool buf_trylock(struct buf *b)
{
	return lk_trylock(&b->lock);
}

void buf_unlock(struct buf *b)
{
	lk_unlock(&b->lock);
}

/* ---- Reading ------------------------------------------------------------------------------ */

static void report_bad(const struct buf_cache *bc, uint64_t mblk, const struct buf_ops *ops,
		       const char *test)
{
	log_err("%s: metadata block %llu (%s) is damaged: %s", bc->bd->name ? bc->bd->name : "device",
		(unsigned long long)mblk, ops->name, test);
}

/*
 * The device has answered. Runs on its completion thread for read-ahead, so it takes
 * leaves only; b may be gone as soon as the state is set and nobody holds it.
 */
static void finish_read(struct buf_cache *bc, struct buf *b, int error)
{
	struct shard *s = shard_of(bc, b->mblk);
	const char *test = NULL;

	assert(state_of(b) == BUF_ST_READING);
	if (!error) {
		test = b->ops->verify(&bc->ctx, b->data, b->mblk, true);
		if (test) {
			report_bad(bc, b->mblk, b->ops, test);
			error = -EFSCORRUPTED;
		}
	} else {
		log_err("%s: reading metadata block %llu: %s",
			bc->bd->name ? bc->bd->name : "device", (unsigned long long)b->mblk,
			strerror(-error));
	}
	b->error = error;
	lk_lock(&s->wait_lock);
	if (error == -EFSCORRUPTED)
		s->corrupt++;
	else if (error)
		s->read_errors++;
	set_state(b, error ? BUF_ST_FAILED : BUF_ST_VALID);
	pthread_cond_broadcast(&s->read_done);
	lk_unlock(&s->wait_lock);
}

static void wait_read(struct buf_cache *bc, struct buf *b)
{
	struct shard *s = shard_of(bc, b->mblk);

	if (state_of(b) != BUF_ST_READING)
		return;
	lk_lock(&s->wait_lock);
	while (state_of(b) == BUF_ST_READING)
		lk_cond_wait(&s->read_done, &s->wait_lock);
	lk_unlock(&s->wait_lock);
}

/*
 * The cached buffer, referenced, or NULL. One whose read failed for the device's sake
 * leaves the cache here, so that the next try reads again.
 */
static struct buf *lookup(struct buf_cache *bc, struct shard *s, uint64_t mblk)
{
	struct buf *b = hash_find(bc, s, mblk);

	if (!b)
		return NULL;
	if (state_of(b) == BUF_ST_FAILED && b->error != -EFSCORRUPTED) {
		unhash(bc, s, b);
		return NULL;
	}
	ref_found(s, b);
	return b;
}

/*
 * Find the buffer or put a new one in state `st` in its place; *fresh tells which.
 * Two threads may both miss: the second finds what the first inserted.
 */
static struct buf *lookup_or_insert(struct buf_cache *bc, uint64_t mblk, const struct buf_ops *ops,
				    unsigned st, bool *fresh)
{
	struct shard *s = shard_of(bc, mblk);
	struct buf *b, *new = NULL;

	*fresh = false;
	lk_lock(&s->lock);
	b = lookup(bc, s, mblk);
	if (!b) {
		lk_unlock(&s->lock);
		new = buf_alloc(bc, mblk, ops, st);
		lk_lock(&s->lock);
		b = lookup(bc, s, mblk);
		if (!b && new) {
			atomic_store(&new->refs, 1);
			hash_insert(bc, s, new);
			s->misses++;
			*fresh = true;
			lk_unlock(&s->lock);
			return new;
		}
	}
	if (b)
		s->hits++;
	lk_unlock(&s->lock);
	if (new) {
		set_state(new, BUF_ST_VALID);
		buf_free(new);
	}
	return b;
}

/* What can be wrong with a valid buffer for this caller; NULL if nothing. */
static const char *check_found(const struct buf *b, const struct buf_ops *ops, uint64_t owner)
{
	if (b->ops != ops)
		return "wrong-magic";
	if (owner != OD_ANY_OWNER && le64_get(buf_hdr(b)->owner) != owner)
		return "wrong-owner";
	return NULL;
}

int buf_read(struct buf_cache *bc, uint64_t mblk, uint64_t owner, const struct buf_ops *ops,
	     unsigned flags, struct buf **out)
{
	struct buf *b;
	const char *test;
	bool fresh = false;
	int err = 0;

	*out = NULL;
	if (mblk >= bc->ctx.dev_mblks) {
		report_bad(bc, mblk, ops, "address-beyond-device");
		return -EFSCORRUPTED;
	}
	if (flags & BUF_NOWAIT) {
		struct shard *s = shard_of(bc, mblk);

		lk_lock(&s->lock);
		b = lookup(bc, s, mblk);
		s->hits += b != NULL;
		lk_unlock(&s->lock);
		if (!b)
			return -EAGAIN;
	} else {
		b = lookup_or_insert(bc, mblk, ops, BUF_ST_READING, &fresh);
		if (!b)
			return -ENOMEM;
	}
	if (fresh) {
		HOOK("buffer:read", b);
		finish_read(bc, b, bd_read(bc->bd, mblk << OD_MBLK_SHIFT, b->data, OD_MBLK_SIZE));
	} else if ((flags & BUF_NOWAIT) && state_of(b) == BUF_ST_READING) {
		err = -EAGAIN;
		goto out_put;
	}
	wait_read(bc, b);
	if (state_of(b) == BUF_ST_FAILED) {
		err = b->error;
		goto out_put;
	}
	test = check_found(b, ops, owner);
	if (test) {
		if (!(atomic_fetch_or(&b->state, BUF_ST_LOGGED) & BUF_ST_LOGGED))
			report_bad(bc, mblk, ops, test);
		err = -EFSCORRUPTED;
		goto out_put;
	}
	*out = b;
	return 0;

out_put:
	buf_put(b);
	return err;
}

struct buf *buf_find(struct buf_cache *bc, uint64_t mblk)
{
	struct shard *s = shard_of(bc, mblk);
	struct buf *b;

	lk_lock(&s->lock);
	b = hash_find(bc, s, mblk);
	if (b && state_of(b) == BUF_ST_VALID)
		ref_found(s, b);
	else
		b = NULL;
	lk_unlock(&s->lock);
	return b;
}

int buf_new(struct buf_cache *bc, uint64_t mblk, uint64_t owner, const struct buf_ops *ops,
	    struct buf **out)
{
	bool fresh;
	struct buf *b;

	*out = NULL;
	if (mblk >= bc->ctx.dev_mblks) {
		report_bad(bc, mblk, ops, "address-beyond-device");
		return -EFSCORRUPTED;
	}
	/* Nobody may touch a fresh one before it is filled in: READING keeps them out. */
	b = lookup_or_insert(bc, mblk, ops, BUF_ST_READING, &fresh);
	if (!b)
		return -ENOMEM;
	if (!fresh)
		wait_read(bc, b); /* stale read-ahead must not land on the new contents */
	memset(b->data, 0, OD_MBLK_SIZE);
	od_hdr_init(b->data, ops->magic, bc->ctx.meta_uuid, owner, mblk);
	b->ops = ops;
	b->error = 0;
	atomic_fetch_and(&b->state, ~BUF_ST_LOGGED);
	set_state(b, BUF_ST_VALID);
	if (fresh) {
		struct shard *s = shard_of(bc, mblk);

		lk_lock(&s->wait_lock);
		pthread_cond_broadcast(&s->read_done);
		lk_unlock(&s->wait_lock);
	}
	*out = b;
	return 0;
}

/* ---- Read-ahead ----------------------------------------------------------------------------- */

struct readahead {
	struct bd_io io;
	struct iovec iov;
	struct buf *buf;
};

static void readahead_end(struct bd_io *io)
{
	struct readahead *ra = io->private;
	struct buf_cache *bc = ra->buf->cache;

	finish_read(bc, ra->buf, io->error);
	free(ra);
	/* The last touch: buf_cache_destroy may be waiting for it. */
	atomic_fetch_sub(&bc->nr_readahead, 1);
}

/*
 * The read holds no reference: its end could not give one back (LK_BUFCACHE is too low
 * a rank for a completion). READING keeps the buffer in the cache instead.
 */
void buf_readahead(struct buf_cache *bc, uint64_t mblk, const struct buf_ops *ops)
{
	struct readahead *ra;
	struct buf *b;
	bool fresh;

	if (mblk >= bc->ctx.dev_mblks)
		return;
	b = buf_find(bc, mblk);
	if (b) {
		buf_put(b);
		return;
	}
	ra = malloc(sizeof(*ra));
	if (!ra)
		return;
	b = lookup_or_insert(bc, mblk, ops, BUF_ST_READING, &fresh);
	if (!b || !fresh) {
		if (b)
			buf_put(b);
		free(ra);
		return;
	}
	ra->buf = b;
	ra->iov = (struct iovec){ b->data, OD_MBLK_SIZE };
	ra->io = (struct bd_io){
		.op = BD_READ, .flags = BD_META, .offset = mblk << OD_MBLK_SHIFT,
		.len = OD_MBLK_SIZE, .iov = &ra->iov, .nr_iov = 1,
		.end_io = readahead_end, .private = ra,
	};
	atomic_fetch_add(&bc->nr_readahead, 1);
	/*
	 * Submit first, then let go: the put may trim this buffer if it is done by then,
	 * and b is not looked at afterwards.
	 */
	bd_submit(bc->bd, &ra->io);
	buf_put(b);
}

/* ---- The cache as a whole ------------------------------------------------------------------- */

/* Few shards for a small cache, so that each still has an LRU worth the name. */
static unsigned pick_shards(uint64_t limit_blocks)
{
	uint64_t n = 1;

	while (n < SHARDS_MAX && limit_blocks / (n * 2) >= 128)
		n *= 2;
	return (unsigned)n;
}

static int shard_init(struct shard *s, unsigned nr_buckets)
{
	s->hash = calloc(nr_buckets, sizeof(*s->hash));
	if (!s->hash)
		return -ENOMEM;
	lk_mutex_init(&s->lock, LK_BUFCACHE, "buf_shard.lock");
	lk_mutex_init(&s->wait_lock, LK_LEAF, "buf_shard.wait_lock");
	lk_cond_init(&s->read_done);
	CDS_INIT_LIST_HEAD(&s->lru);
	return 0;
}

static void shard_destroy(struct shard *s)
{
	assert(s->nr_cached == 0 && s->nr_idle == 0);
	pthread_cond_destroy(&s->read_done);
	lk_mutex_destroy(&s->wait_lock);
	lk_mutex_destroy(&s->lock);
	free(s->hash);
}

int buf_cache_create(struct bd *bd, const struct od_ctx *ctx, uint64_t limit_bytes,
		     struct buf_cache **out)
{
	uint64_t limit = limit_bytes / OD_MBLK_SIZE;
	unsigned n = pick_shards(limit);
	struct buf_cache *bc;
	int err = -ENOMEM;

	bc = aligned_alloc(64, sizeof(*bc) + n * sizeof(struct shard));
	if (!bc)
		return -ENOMEM;
	memset(bc, 0, sizeof(*bc) + n * sizeof(struct shard));
	bc->bd = bd;
	bc->ctx = *ctx;
	bc->nr_shards = n;
	bc->shard_limit = MAX(limit / n, SHARD_LRU_MIN);
	/* Pinned buffers come on top of the limit: twice the buckets keep chains short. */
	bc->nr_buckets = 64;
	while (bc->nr_buckets < bc->shard_limit * 2 && bc->nr_buckets < (1u << 20))
		bc->nr_buckets *= 2;
	buf_pages_init(&bc->pages);
	for (unsigned i = 0; i < n; i++) {
		err = shard_init(&bc->shards[i], bc->nr_buckets);
		if (err) {
			bc->nr_shards = i;
			goto out_shards;
		}
	}
	*out = bc;
	return 0;

out_shards:
	for (unsigned i = 0; i < bc->nr_shards; i++)
		shard_destroy(&bc->shards[i]);
	buf_pages_destroy(&bc->pages);
	free(bc);
	return err;
}

/* No read-ahead in flight; afterwards every buffer can be judged by its references. */
static void drain_readahead(struct buf_cache *bc)
{
	while (atomic_load(&bc->nr_readahead))
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
}

void buf_cache_destroy(struct buf_cache *bc)
{
	drain_readahead(bc);
	buf_cache_shrink(bc);
	for (unsigned i = 0; i < bc->nr_shards; i++)
		shard_destroy(&bc->shards[i]);
	buf_pages_destroy(&bc->pages);
	free(bc);
}

void buf_cache_shrink(struct buf_cache *bc)
{
	for (unsigned i = 0; i < bc->nr_shards; i++) {
		struct shard *s = &bc->shards[i];

		lk_lock(&s->lock);
		shard_trim(bc, s, 0);
		lk_unlock(&s->lock);
	}
}

void buf_invalidate(struct buf_cache *bc, uint64_t mblk)
{
	struct shard *s = shard_of(bc, mblk);
	struct buf *b;

	lk_lock(&s->lock);
	b = hash_find(bc, s, mblk);
	if (b)
		ref_found(s, b);
	lk_unlock(&s->lock);
	if (!b)
		return;
	wait_read(bc, b);
	lk_lock(&s->lock);
	assert(!b->jnl_ckpt);
	if (!is_unhashed(b))
		hash_remove(bc, s, b);
	lk_unlock(&s->lock);
	buf_put(b);
}

void buf_cache_get_stats(struct buf_cache *bc, struct buf_cache_stats *st)
{
	*st = (struct buf_cache_stats){ 0 };
	for (unsigned i = 0; i < bc->nr_shards; i++) {
		struct shard *s = &bc->shards[i];

		lk_lock(&s->lock);
		st->cached += s->nr_cached;
		st->pinned += s->nr_cached - s->nr_idle;
		st->hits += s->hits;
		st->misses += s->misses;
		lk_unlock(&s->lock);
		lk_lock(&s->wait_lock);
		st->read_errors += s->read_errors;
		st->corrupt += s->corrupt;
		lk_unlock(&s->wait_lock);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * buffer - the cache of verified metadata blocks.
 *
 * A `struct buf` is one 4 KiB metadata block in memory, verified when it was read.
 * Its contents are changed only between jnl_get_write/jnl_get_create and the end
 * of that journal handle, under the lock of whatever the block belongs to (the
 * inode's extent lock, a directory's i_rwsem, a group's lock, an inode block's
 * buf_lock). This cache itself never writes: the journal does.
 */
#ifndef IOMAPFS_BUFFER_H
#define IOMAPFS_BUFFER_H

#include "iomapfs/block.h"
#include "iomapfs/format.h"
#include "iomapfs/util.h"

struct buf_cache;

/* Verifier of a kind of block; see format.h. */
typedef const char *(*buf_verify_fn)(const struct od_ctx *c, const void *block, uint64_t mblk,
				     bool check_crc);
struct buf_ops {
	const char *name;     /* "btree", "dir": for messages */
	uint32_t magic;
	buf_verify_fn verify;
};
extern const struct buf_ops buf_ops_sb, buf_ops_ag, buf_ops_btree, buf_ops_inodes, buf_ops_dir,
	buf_ops_blob;

struct buf {
	uint64_t mblk;
	void *data;                 /* OD_MBLK_SIZE, aligned to 4096 */
	const struct buf_ops *ops;
	struct lk_mutex lock;       /* LK_INOBUF: serializes users of shared blocks (inode blocks) */
	_Atomic int refs;
	/* The journal's, guarded by its lock. Each image holds a reference on the buffer. */
	_Atomic uint64_t jnl_tid;   /* the transaction that logged it last; 0 = none */
	void *jnl_run;              /* its image there; valid while jnl_tid is running */
	void *jnl_ckpt;             /* image committed last, until it is in its place */
	/* The cache's, guarded by the shard's lock; state is also read without it. */
	struct buf_cache *cache;
	struct buf *hash_next;
	struct cds_list_head lru;   /* on the shard's LRU while refs == 0 */
	_Atomic unsigned state;     /* BUF_ST_* in src/buffer/buffer.c */
	int error;                  /* why reading failed; written before state says so */
};

/*
 * limit_bytes bounds clean, unreferenced buffers; pinned ones may exceed it.
 * The cache keeps bd and a copy of ctx; both outlive it.
 */
int buf_cache_create(struct bd *bd, const struct od_ctx *ctx, uint64_t limit_bytes,
		     struct buf_cache **out);
/* No references left. */
void buf_cache_destroy(struct buf_cache *bc);
const struct od_ctx *buf_ctx(const struct buf_cache *bc);
/*
 * What blocks may say follows from the superblock, and replay of the journal may bring another one: what that
 * says of OD_RO_COMPAT_REFLINK. Between jnl_open and the first use of cache and journal by anybody else.
 */
void buf_set_reflink(struct buf_cache *bc, bool reflink);

#define BUF_NOWAIT (1u << 0) /* -EAGAIN instead of reading from the device */
/*
 * A referenced, verified buffer. owner: expected hdr.owner, or OD_ANY_OWNER.
 * -EFSCORRUPTED: failed a test (logged with its name, once per block);
 * -EIO; -EAGAIN with BUF_NOWAIT; -ENOMEM. Concurrent readers of one block read once.
 */
int buf_read(struct buf_cache *bc, uint64_t mblk, uint64_t owner, const struct buf_ops *ops,
	     unsigned flags, struct buf **out);
/*
 * A referenced buffer for a block that the caller has just allocated: zeroed, header
 * initialised, nothing read. Follow with jnl_get_create. A stale cached buffer of
 * that address is reused.
 */
int buf_new(struct buf_cache *bc, uint64_t mblk, uint64_t owner, const struct buf_ops *ops,
	    struct buf **out);
/* Start reading, for later; no result. */
void buf_readahead(struct buf_cache *bc, uint64_t mblk, const struct buf_ops *ops);
void buf_get(struct buf *b);
void buf_put(struct buf *b);
void buf_lock(struct buf *b);
bool buf_trylock(struct buf *b);
void buf_unlock(struct buf *b);
/* Forget the cached copy (block freed, or the device changed below): unpinned, any user gone. */
void buf_invalidate(struct buf_cache *bc, uint64_t mblk);
/* Drop all clean unreferenced buffers. */
void buf_cache_shrink(struct buf_cache *bc);

/*
 * For the journal. A referenced buffer if the block is cached and sound, else NULL;
 * never sleeps on I/O.
 */
struct buf *buf_find(struct buf_cache *bc, uint64_t mblk);
/* The ops of the kind of block with this magic; NULL if it is none. */
const struct buf_ops *buf_ops_of(uint32_t magic);
/* A page of OD_MBLK_SIZE, aligned to it, from the cache's pool; NULL: no memory. Any context. */
void *buf_page_alloc(struct buf_cache *bc);
void buf_page_free(struct buf_cache *bc, void *page);

struct buf_cache_stats {
	uint64_t cached, pinned, hits, misses, read_errors, corrupt;
};
void buf_cache_get_stats(struct buf_cache *bc, struct buf_cache_stats *st);

static inline struct od_hdr *buf_hdr(const struct buf *b)
{
	return b->data;
}

#endif

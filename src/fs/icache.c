/* SPDX-License-Identifier: MIT */
/*
 * In-core inodes. Life of one:
 *
 *	        icache_get                   last fs_iput           icache_shrink
 *	 (none) ----------> NEW -> in use --------------> unused --------------> (none)
 *	             read        ^    |  ^                   |
 *	                         |    |  +-------------------+ icache_get
 *	          icache_new ----+    | last fs_iput, nlink 0
 *	                              v
 *	                           FREEING --- fs_inactivate in bg_pool ---> (none)
 *
 * The table is cut into shards by inode number. A shard's lock guards its buckets, its
 * list of unused inodes, and every edge above; refs above zero moves without it.
 */
#include <stdlib.h>

#include "icache.h"

#define NR_SHARDS  32u
#define NR_BUCKETS 512u
#define EVICT_BATCH 64u
/* In memory: the inode, its promises or directory state, what malloc adds. */
#define INODE_COST (sizeof(struct fs_inode) + 384u)

struct shard {
	struct lk_mutex lock;            /* LK_ICACHE */
	pthread_cond_t cond;             /* a NEW inode is ready, or gone */
	struct cds_list_head bucket[NR_BUCKETS];
	struct cds_list_head lru;        /* unused, oldest first */
	_Atomic uint64_t nr_inodes;
};

struct icache {
	struct shard shard[NR_SHARDS];
	uint64_t shard_limit;            /* inodes of one shard; those in use are never evicted */
	_Atomic unsigned next_shard;     /* to make room in */
	struct lk_mutex dirty_lock;      /* LK_LEAF */
	struct cds_list_head dirty;      /* FS_I_DIRTY, in the order in which they became so */
	uint64_t nr_dirty;
};

static uint64_t mix(uint64_t ino)
{
	return ino * 0x9e3779b97f4a7c15ull;
}

static struct shard *shard_of(struct fs *fs, uint64_t ino)
{
	return &fs->icache->shard[mix(ino) >> 32 & (NR_SHARDS - 1)];
}

static struct cds_list_head *bucket_of(struct shard *s, uint64_t ino)
{
	return &s->bucket[mix(ino) >> 48 & (NR_BUCKETS - 1)];
}

int icache_create(struct fs *fs, uint64_t limit_bytes)
{
	struct icache *ic = calloc(1, sizeof(*ic));

	if (!ic)
		return -ENOMEM;
	for (unsigned i = 0; i < NR_SHARDS; i++) {
		struct shard *s = &ic->shard[i];

		lk_mutex_init(&s->lock, LK_ICACHE, "inode table");
		pthread_cond_init(&s->cond, NULL);
		CDS_INIT_LIST_HEAD(&s->lru);
		for (unsigned b = 0; b < NR_BUCKETS; b++)
			CDS_INIT_LIST_HEAD(&s->bucket[b]);
	}
	lk_mutex_init(&ic->dirty_lock, LK_LEAF, "dirty inodes");
	CDS_INIT_LIST_HEAD(&ic->dirty);
	ic->shard_limit = limit_bytes / INODE_COST / NR_SHARDS;
	fs->icache = ic;
	return 0;
}

void icache_destroy(struct fs *fs)
{
	struct icache *ic = fs->icache;

	if (!ic)
		return;
	for (unsigned i = 0; i < NR_SHARDS; i++) {
		assert(atomic_load(&ic->shard[i].nr_inodes) == 0);
		pthread_cond_destroy(&ic->shard[i].cond);
		lk_mutex_destroy(&ic->shard[i].lock);
	}
	lk_mutex_destroy(&ic->dirty_lock);
	free(ic);
	fs->icache = NULL;
}

/* ---- One inode in memory --------------------------------------------------------------- */

static void inactive_worker(struct work *w)
{
	fs_inactivate(container_of(w, struct fs_inode, inactive_work));
}

static struct fs_inode *inode_alloc(struct fs *fs, uint64_t ino)
{
	struct fs_inode *ip = calloc(1, sizeof(*ip));

	if (!ip)
		return NULL;
	ip->fs = fs;
	ip->ino = ino;
	atomic_store(&ip->refs, 1);
	lk_mutex_init(&ip->extlock, LK_EXTLOCK, "extlock");
	CDS_INIT_LIST_HEAD(&ip->hash);
	CDS_INIT_LIST_HEAD(&ip->lru);
	CDS_INIT_LIST_HEAD(&ip->dirty_list);
	ip->inactive_work.fn = inactive_worker;
	return ip;
}

/* In-core state that depends on what the inode is: mode, formats and area are set. */
static int inode_setup(struct fs_inode *ip)
{
	int err = fs_file_init(ip);

	if (err)
		return err;
	i_size_write(&ip->vfs, ip->disk_size);
	if (S_ISDIR(ip->mode))
		err = dir_init_inode(ip);
	if (err)
		fs_file_destroy(ip);
	return err;
}

static void inode_free(struct fs_inode *ip)
{
	icache_clean(ip);
	if (ip->dir)
		dir_destroy_inode(ip);
	fs_file_destroy(ip);
	lk_mutex_destroy(&ip->extlock);
	free(ip);
}

/* Free one that never got its inode_setup. */
static void inode_free_raw(struct fs_inode *ip)
{
	lk_mutex_destroy(&ip->extlock);
	free(ip);
}

/* ---- Table -------------------------------------------------------------------------------- */

/* Shard locked. */
static struct fs_inode *find_locked(struct shard *s, uint64_t ino)
{
	struct fs_inode *ip;

	cds_list_for_each_entry(ip, bucket_of(s, ino), hash)
		if (ip->ino == ino)
			return ip;
	return NULL;
}

static void hash_add(struct shard *s, struct fs_inode *ip)
{
	cds_list_add(&ip->hash, bucket_of(s, ip->ino));
	atomic_fetch_add(&s->nr_inodes, 1);
}

static void hash_del(struct shard *s, struct fs_inode *ip)
{
	cds_list_del_init(&ip->hash);
	atomic_fetch_sub(&s->nr_inodes, 1);
}

/* Shard locked; ip is neither NEW nor FREEING. */
static void ref_locked(struct fs_inode *ip)
{
	if (atomic_fetch_add(&ip->refs, 1) == 0)
		cds_list_del_init(&ip->lru);
}

/* ---- Eviction -------------------------------------------------------------------------------------- */

static bool evictable(struct fs *fs, struct fs_inode *ip)
{
	struct address_space *m = &ip->vfs.i_mapping;

	if (atomic_load(&ip->refs) > 0)
		return false;
	/* After a shutdown nothing will ever be clean. */
	if (fs_is_shutdown(fs))
		return atomic_load(&m->nr_writeback) == 0;
	return !(atomic_load(&ip->state) & FS_I_DIRTY) && atomic_load(&m->nr_dirty) == 0 &&
	       atomic_load(&m->nr_writeback) == 0 && ip->delalloc_blocks == 0;
}

/*
 * Well over its share, so that eviction in the background does not keep up: who reads or makes
 * an inode then evicts some first.
 */
static bool crowded(struct fs *fs, struct shard *s)
{
	uint64_t limit = fs->icache->shard_limit;

	return atomic_load(&s->nr_inodes) > limit + limit / 8;
}

/* Take up to EVICT_BATCH inodes out of the table; they are the caller's alone then. */
static unsigned evict_collect(struct fs *fs, struct shard *s, uint64_t keep,
			      struct cds_list_head *out)
{
	struct fs_inode *ip, *tmp;
	unsigned n = 0;

	lk_lock(&s->lock);
	cds_list_for_each_entry_safe(ip, tmp, &s->lru, lru) {
		if (n == EVICT_BATCH || atomic_load(&s->nr_inodes) <= keep)
			break;
		if (!evictable(fs, ip))
			continue;
		/*
		 * Out of the table at once: it is clean, so who asks for it from now on reads
		 * the same from its block, and has nothing to do with this copy's last pages.
		 */
		atomic_fetch_or(&ip->state, FS_I_FREEING);
		hash_del(s, ip);
		cds_list_move(&ip->lru, out);
		n++;
	}
	lk_unlock(&s->lock);
	return n;
}

static unsigned evict_batch(struct fs *fs, struct shard *s, uint64_t keep)
{
	struct cds_list_head batch = CDS_LIST_HEAD_INIT(batch);
	struct fs_inode *ip, *tmp;
	unsigned n = evict_collect(fs, s, keep, &batch);

	cds_list_for_each_entry_safe(ip, tmp, &batch, lru) {
		cds_list_del(&ip->lru);
		inode_free(ip);
	}
	return n;
}

/* ---- Finding and reading --------------------------------------------------------------------------- */

static int read_inode(struct fs_inode *ip, unsigned flags, bool unlinked)
{
	struct fs *fs = ip->fs;
	const char *test;
	struct buf *b;
	struct od_inode di;
	int err;

	err = buf_read(fs->bc, od_ino_mblk(ip->ino), 0, &buf_ops_inodes,
		       flags & FS_NOWAIT ? BUF_NOWAIT : 0, &b);
	if (err)
		return err;
	buf_lock(b); /* neighbours in the block may be being logged */
	memcpy(&di, fs_dinode(b, ip->ino), sizeof(di));
	/*
	 * Logged and evicted, and read again before that was committed: fsync has to wait for it
	 * all the same. The block tells, or of a neighbour's later change, which only waits more.
	 */
	ip->last_tid = ip->data_tid = atomic_load(&b->jnl_tid);
	buf_unlock(b);
	buf_put(b);
	test = od_verify_inode(&fs->od, &di, ip->ino);
	if (test) {
		log_err("corruption in inode %llu: %s", (unsigned long long)ip->ino, test);
		return -EFSCORRUPTED;
	}
	if (le16_get(di.mode) == 0 || (le32_get(di.nlink) == 0 && !unlinked))
		return -ESTALE;
	fs_inode_decode(ip, &di);
	return inode_setup(ip);
}

/* The inode that the caller hashed as NEW: read it, or take it out again. */
static int fill_new(struct shard *s, struct fs_inode *ip, unsigned flags, bool unlinked)
{
	int err = read_inode(ip, flags, unlinked);

	lk_lock(&s->lock);
	atomic_fetch_and(&ip->state, ~FS_I_NEW);
	if (err)
		hash_del(s, ip);
	pthread_cond_broadcast(&s->cond);
	lk_unlock(&s->lock);
	if (err)
		inode_free_raw(ip);
	return err;
}

int icache_get(struct fs *fs, uint64_t ino, unsigned flags, bool unlinked, struct fs_inode **out)
{
	struct fs_inode *ip, *fresh = NULL;
	struct shard *s;
	int err = 0;

	if (!od_ino_ok(&fs->od, ino))
		return -ESTALE;
	s = shard_of(fs, ino);
	lk_lock(&s->lock);
	while ((ip = find_locked(s, ino)) && atomic_load(&ip->state) & FS_I_NEW) {
		if (flags & FS_NOWAIT) {
			err = -EAGAIN;
			break;
		}
		lk_cond_wait(&s->cond, &s->lock);
	}
	if (ip && !err) {
		if (atomic_load(&ip->state) & FS_I_FREEING)
			err = -ESTALE;
		else
			ref_locked(ip);
	} else if (!ip && flags & FS_NOWAIT && crowded(fs, s)) {
		/* Who may wait makes the room, and takes it. */
		err = -EAGAIN;
	} else if (!ip) {
		fresh = inode_alloc(fs, ino);
		if (fresh) {
			atomic_store(&fresh->state, FS_I_NEW);
			hash_add(s, fresh);
		}
		ip = fresh;
		err = fresh ? 0 : -ENOMEM;
	}
	lk_unlock(&s->lock);
	if (fresh)
		err = fill_new(s, fresh, flags, unlinked);
	if (fresh && crowded(fs, s))
		evict_batch(fs, s, fs->icache->shard_limit);
	if (!err)
		*out = ip;
	return err;
}

struct fs_inode *icache_find(struct fs *fs, uint64_t ino)
{
	struct shard *s = shard_of(fs, ino);
	struct fs_inode *ip;

	lk_lock(&s->lock);
	ip = find_locked(s, ino);
	if (ip && atomic_load(&ip->state) & (FS_I_NEW | FS_I_FREEING))
		ip = NULL;
	if (ip)
		ref_locked(ip);
	lk_unlock(&s->lock);
	return ip;
}

int icache_new(struct fs *fs, uint64_t ino, mode_t mode, struct fs_inode **out)
{
	struct shard *s = shard_of(fs, ino);
	struct fs_inode *ip = inode_alloc(fs, ino);
	int err;

	if (!ip)
		return -ENOMEM;
	ip->mode = mode;
	err = inode_setup(ip);
	if (err) {
		inode_free_raw(ip);
		return err;
	}
	lk_lock(&s->lock);
	/* The number was free on disk, and who freed it took its inode out first. */
	assert(!find_locked(s, ino));
	hash_add(s, ip);
	lk_unlock(&s->lock);
	*out = ip;
	return 0;
}

void icache_unhash(struct fs_inode *ip)
{
	struct shard *s = shard_of(ip->fs, ip->ino);

	lk_lock(&s->lock);
	if (!cds_list_empty(&ip->hash))
		hash_del(s, ip);
	lk_unlock(&s->lock);
}

void icache_drop(struct fs_inode *ip)
{
	assert(atomic_load(&ip->refs) == 0 && atomic_load(&ip->state) & FS_I_FREEING);
	icache_unhash(ip);
	inode_free(ip);
}

/* ---- References -------------------------------------------------------------------------------- */

void fs_iref(struct fs_inode *ip)
{
	int old = atomic_fetch_add(&ip->refs, 1);

	assert(old > 0);
	(void)old;
}

bool fs_iref_live(struct fs_inode *ip)
{
	struct shard *s = shard_of(ip->fs, ip->ino);
	bool ok;

	lk_lock(&s->lock);
	ok = !(atomic_load(&ip->state) & (FS_I_NEW | FS_I_FREEING));
	if (ok)
		ref_locked(ip);
	lk_unlock(&s->lock);
	return ok;
}

void fs_iput(struct fs_inode *ip)
{
	struct fs *fs = ip->fs;
	struct shard *s = shard_of(fs, ip->ino);
	int refs = atomic_load(&ip->refs);
	bool inactivate = false;

	assert(refs > 0);
	while (refs > 1)
		if (atomic_compare_exchange_weak(&ip->refs, &refs, refs - 1))
			return;
	lk_lock(&s->lock);
	if (atomic_fetch_sub(&ip->refs, 1) == 1) {
		/* nlink can not rise any more: that takes a reference. */
		inactivate = ip->nlink == 0 && !fs_is_readonly(fs) && !fs_is_shutdown(fs);
		if (inactivate)
			atomic_fetch_or(&ip->state, FS_I_FREEING);
		else
			cds_list_add_tail(&ip->lru, &s->lru);
	}
	lk_unlock(&s->lock);
	if (inactivate)
		work_queue(fs->bg_pool, &ip->inactive_work);
	else if (atomic_load(&s->nr_inodes) > fs->icache->shard_limit)
		fs_bg_kick(fs);
}

/* ---- All of them ---------------------------------------------------------------------------------- */

unsigned icache_shrink(struct fs *fs, bool all)
{
	uint64_t keep = all ? 0 : fs->icache->shard_limit;
	unsigned total = 0, n;

	for (unsigned i = 0; i < NR_SHARDS; i++) {
		do {
			n = evict_batch(fs, &fs->icache->shard[i], keep);
			total += n;
		} while (n == EVICT_BATCH);
	}
	return total;
}

int icache_make_room(struct fs *fs, unsigned flags)
{
	struct icache *ic = fs->icache;
	/* A new inode goes where its number says, which is not known yet: one shard after the other. */
	struct shard *s = &ic->shard[atomic_fetch_add(&ic->next_shard, 1) % NR_SHARDS];

	if (!crowded(fs, s))
		return 0;
	if (flags & FS_NOWAIT)
		return -EAGAIN;
	evict_batch(fs, s, ic->shard_limit);
	return 0;
}

struct each {
	struct fs_inode *ip[EVICT_BATCH];
	unsigned n;
};

/* References on the inodes of one bucket; many enough are rare, and the rest is found next time. */
static void collect_bucket(struct shard *s, unsigned b, struct each *e)
{
	struct fs_inode *ip;

	e->n = 0;
	lk_lock(&s->lock);
	cds_list_for_each_entry(ip, &s->bucket[b], hash) {
		if (e->n == EVICT_BATCH)
			break;
		if (atomic_load(&ip->state) & (FS_I_NEW | FS_I_FREEING))
			continue;
		ref_locked(ip);
		e->ip[e->n++] = ip;
	}
	lk_unlock(&s->lock);
}

void icache_for_each(struct fs *fs, void (*fn)(struct fs_inode *ip, void *arg), void *arg)
{
	struct each e;

	for (unsigned i = 0; i < NR_SHARDS; i++) {
		for (unsigned b = 0; b < NR_BUCKETS; b++) {
			collect_bucket(&fs->icache->shard[i], b, &e);
			for (unsigned k = 0; k < e.n; k++) {
				fn(e.ip[k], arg);
				fs_iput(e.ip[k]);
			}
		}
	}
}

/* ---- Dirty attributes ------------------------------------------------------------------------------- */

void fs_mark_inode_dirty(struct fs_inode *ip)
{
	struct icache *ic = ip->fs->icache;

	if (atomic_load(&ip->state) & FS_I_DIRTY)
		return;
	/* Flag and list change together, or a clean inode could be freed while on the list. */
	lk_lock(&ic->dirty_lock);
	if (!(atomic_fetch_or(&ip->state, FS_I_DIRTY) & FS_I_DIRTY)) {
		cds_list_add_tail(&ip->dirty_list, &ic->dirty);
		ic->nr_dirty++;
	}
	lk_unlock(&ic->dirty_lock);
}

void icache_clean(struct fs_inode *ip)
{
	struct icache *ic = ip->fs->icache;

	if (!(atomic_load(&ip->state) & FS_I_DIRTY))
		return;
	lk_lock(&ic->dirty_lock);
	if (atomic_fetch_and(&ip->state, ~FS_I_DIRTY) & FS_I_DIRTY) {
		cds_list_del_init(&ip->dirty_list);
		ic->nr_dirty--;
	}
	lk_unlock(&ic->dirty_lock);
}

/* Number of the oldest dirty inode, which moves to the end; 0: none. */
static uint64_t dirty_next(struct icache *ic)
{
	struct fs_inode *ip;
	uint64_t ino = 0;

	lk_lock(&ic->dirty_lock);
	if (!cds_list_empty(&ic->dirty)) {
		ip = cds_list_first_entry(&ic->dirty, struct fs_inode, dirty_list);
		ino = ip->ino;
		cds_list_del(&ip->dirty_list);
		cds_list_add_tail(&ip->dirty_list, &ic->dirty);
	}
	lk_unlock(&ic->dirty_lock);
	return ino;
}

int fs_flush_dirty_inodes(struct fs *fs)
{
	uint64_t n, dirty, ino;
	int err = 0;

	icache_counts(fs, &n, &dirty);
	/* As many as were dirty at the start: new ones are for the next round. */
	while (dirty-- > 0 && (ino = dirty_next(fs->icache)) != 0) {
		struct fs_inode *ip = icache_find(fs, ino);
		int ret;

		if (!ip)
			continue;
		ret = fs_inode_flush(ip);
		fs_iput(ip);
		if (ret && !err)
			err = ret;
		if (ret == -EROFS)
			break;
	}
	return err;
}

void icache_counts(struct fs *fs, uint64_t *inodes, uint64_t *dirty)
{
	struct icache *ic = fs->icache;

	*inodes = 0;
	for (unsigned i = 0; i < NR_SHARDS; i++)
		*inodes += atomic_load(&ic->shard[i].nr_inodes);
	lk_lock(&ic->dirty_lock);
	*dirty = ic->nr_dirty;
	lk_unlock(&ic->dirty_lock);
}

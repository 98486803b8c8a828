/* SPDX-License-Identifier: MIT */
/*
 * The device holds two copies of a table, then data. The table has a slot for each file and tells of each
 * block who has it. In memory it is the same thing; to commit it is to write it over the older copy, with
 * the next number and a checksum.
 *
 *	file_write             writeback                     store_commit
 *	take free blocks       data to the device            write back, and wait
 *	(UNWRITTEN), copy      then: make them MAPPED,       copy the table, flush the device,
 *	into the cache         raise the size in the table   write the copy, durably
 *
 * A store made on a machine of the other byte order has a foreign magic.
 */
#include "flatstore.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define BITS     12
#define BLOCK    (1ull << BITS)
#define UP(x)    (((x) + BLOCK - 1) & ~(BLOCK - 1))
#define MAGIC    0x313065726f747346ull
#define NR_FILES 255u
#define TABLES   UINT16_MAX       /* owner of the blocks that hold the tables */

struct record {
	char name[FLATSTORE_NAME]; /* "": free */
	uint64_t size;             /* bytes; up to here data has reached the device */
};
struct owner {                     /* of a block of the device */
	uint16_t slot;             /* of a file, counted from 1; 0: free */
	uint16_t unwritten;
	uint32_t pos;              /* block within the file */
};
struct table {
	uint64_t magic, check;     /* check: XXH3 of all that follows it */
	uint64_t seq, nr_blocks, reserved[4];
	struct record files[NR_FILES];
	struct owner owners[];
};
struct store {
	struct bd *bd;
	struct iomap_dev dev;
	struct folio_cache *cache;
	struct work_pool *pool;
	struct lk_mutex lock;      /* all below, and the addr of files; held shortly, never over I/O */
	struct table *now;         /* as it is */
	struct table *durable;     /* as the last commit left it on the device */
	struct table *next;        /* memory for the next commit */
	void *tables;              /* memory of all three */
	uint64_t hint;             /* block where the search for a free one starts */
	int error;                 /* a commit failed: which table the device holds is not known */
};
struct file {
	struct inode inode;        /* first, so that the engine's inode is our file */
	struct store *st;
	uint16_t slot;
	_Atomic uint64_t seq;      /* counts changes of addr and states: what was sampled before is stale */
	uint32_t addr[];           /* block of the device for each block of the file; 0: hole */
};

/* ---- The engine's device is our block device ---------------------------------------------- */

_Static_assert(sizeof(struct bd_io) <= sizeof(((struct iomap_bio *)0)->dev_private), "a bd_io fits");

static void io_done(struct bd_io *io)
{
	struct iomap_bio *bio = io->private;

	bio->status = io->error;
	bio->end_io(bio);
}

static void dev_submit(struct iomap_dev *dev, struct iomap_bio *bio)
{
	struct bd_io *io = (struct bd_io *)bio->dev_private;

	*io = (struct bd_io){
		.op = bio->op == IOMAP_BIO_READ ? BD_READ : BD_WRITE,
		.flags = bio->flags & IOMAP_BIO_FUA ? BD_FUA : 0,
		.offset = bio->addr, .len = bio->len, .iov = bio->vec, .nr_iov = bio->nr_vecs,
		.end_io = io_done, .private = bio,
	};
	bd_submit(dev->private, io);
}

static const struct iomap_dev_ops dev_ops = { .submit = dev_submit };

/* ---- Blocks; the lock held ---------------------------------------------------------------- */

/* What the table on the device shows must not be overwritten, though its owner gave it up since. */
static bool is_free(const struct store *st, uint64_t b)
{
	return !st->now->owners[b].slot && !st->durable->owners[b].slot;
}

/* Give the hole [pos, end) of a file one run of free blocks. */
static int take_blocks(struct file *f, uint64_t pos, uint64_t end)
{
	struct store *st = f->st;
	const uint64_t nr = st->now->nr_blocks;
	uint64_t b = st->hint, left = nr;

	for (; left && !is_free(st, b); left--)
		b = (b + 1) % nr;
	if (!left)
		return -ENOSPC;
	for (; pos < end && b < nr && is_free(st, b); pos++, b++) {
		st->now->owners[b] = (struct owner){ f->slot, true, (uint32_t)pos };
		f->addr[pos] = (uint32_t)b;
	}
	st->hint = b % nr;
	atomic_fetch_add(&f->seq, 1);
	return 0;
}

/* What is at block pos of a file, looking no further than block end. */
static void map_at(struct file *f, uint64_t pos, uint64_t end, struct iomap *m)
{
	const struct owner *owners = f->st->now->owners;
	const uint32_t first = f->addr[pos];
	const bool unwritten = owners[first].unwritten;
	uint64_t n = 1;

	while (pos + n < end && f->addr[pos + n] == (first ? first + n : 0) &&
	       owners[f->addr[pos + n]].unwritten == unwritten)
		n++;
	*m = (struct iomap){
		.type = !first ? IOMAP_HOLE : unwritten ? IOMAP_UNWRITTEN : IOMAP_MAPPED,
		.addr = first ? (uint64_t)first << BITS : IOMAP_NULL_ADDR,
		.offset = pos << BITS, .length = n << BITS,
		.bdev = &f->st->dev, .validity_cookie = atomic_load(&f->seq),
	};
}

/* ---- What the engine asks of us: see iomap(3) --------------------------------------------- */

static int begin(struct inode *inode, uint64_t start, uint64_t length, unsigned flags, struct iomap *m,
		 struct iomap *srcmap)
{
	struct file *f = (struct file *)inode;
	const uint64_t pos = start >> BITS, nr = f->st->now->nr_blocks;
	const uint64_t end = length < (nr << BITS) - start ? UP(start + length) >> BITS : nr;
	int err = 0;

	assert(pos < nr);

	lk_lock(&f->st->lock);
	map_at(f, pos, end, m);
	/* With delayed allocation this would only count blocks, and writeback_range take them. */
	if (m->type == IOMAP_HOLE && (flags & IOMAP_WRITE)) {
		err = f->st->error ? f->st->error : take_blocks(f, pos, iomap_end(m) >> BITS);
		map_at(f, pos, end, m);
	}
	lk_unlock(&f->st->lock);
	return err;
}

static bool still_valid(struct inode *inode, const struct iomap *m)
{
	return m->validity_cookie == atomic_load(&((struct file *)inode)->seq);
}

static int64_t writeback_range(struct iomap_writepage_ctx *wpc, struct folio *folio, uint64_t pos,
			       unsigned len, uint64_t end_pos)
{
	struct file *f = (struct file *)wpc->inode;

	lk_lock(&f->st->lock);
	map_at(f, pos >> BITS, UP(pos + len) >> BITS, &wpc->iomap);
	lk_unlock(&f->st->lock);
	return iomap_add_to_ioend(wpc, folio, pos, end_pos, len);
}

/* Bytes [start, end) have reached the device: they may be seen, and the size may count them. */
static void written(struct inode *inode, uint64_t start, uint64_t end)
{
	struct file *f = (struct file *)inode;
	struct record *r = &f->st->now->files[f->slot - 1];

	lk_lock(&f->st->lock);
	for (uint64_t pos = start >> BITS; pos < UP(end) >> BITS; pos++)
		f->st->now->owners[f->addr[pos]].unwritten = false;
	if (r->size < end)
		r->size = end;
	atomic_fetch_add(&f->seq, 1);
	lk_unlock(&f->st->lock);
}

static void finish_ioend(struct work *w)
{
	struct iomap_ioend *ioend = cds_list_entry(w, struct iomap_ioend, io_work);

	if (!ioend->io_error)
		written(ioend->io_inode, ioend->io_offset, ioend->io_offset + ioend->io_size);
	iomap_finish_ioends(ioend, ioend->io_error);
}

/* On the device's thread, which must not wait for a lock. */
static void end_ioend(struct iomap_ioend *ioend)
{
	ioend->io_work.fn = finish_ioend;
	work_queue(((struct file *)ioend->io_inode)->st->pool, &ioend->io_work);
}

static int dio_end_io(struct kiocb *io, int64_t size, int error, unsigned flags)
{
	const uint64_t end = io->ki_pos + (uint64_t)size;

	if (error || size <= 0)
		return error;
	written(io->ki_inode, io->ki_pos, end);
	if (end > i_size_read(io->ki_inode))
		i_size_write(io->ki_inode, end);
	return 0;
}

const struct iomap_ops flatstore_iomap_ops = { .iomap_begin = begin };
static const struct iomap_write_ops write_ops = { .iomap_valid = still_valid };
static const struct iomap_dio_ops dio_ops = { .end_io = dio_end_io };
static const struct iomap_writeback_ops wb_ops = { .writeback_range = writeback_range };

static int writepages(struct address_space *m, struct writeback_control *wbc)
{
	return iomap_writepages(&(struct iomap_writepage_ctx){
		.inode = m->host, .wbc = wbc, .ops = &wb_ops, .end_ioend = end_ioend });
}

static const struct address_space_operations aops = {
	.writepages = writepages, .dirty_folio = iomap_dirty_folio, .release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio, .is_partially_uptodate = iomap_is_partially_uptodate,
};

/* ---- Files -------------------------------------------------------------------------------- */

static uint16_t find_slot(const struct store *st, const char *name)
{
	for (uint16_t i = 0; i < NR_FILES; i++)
		if (!strcmp(st->now->files[i].name, name))
			return i + 1;
	return 0;
}

static bool bad_name(const char *name)
{
	return !name[0] || strlen(name) >= FLATSTORE_NAME;
}

int file_open(struct store *st, const char *name, bool create, struct inode **out)
{
	const uint64_t nr = st->now->nr_blocks;
	uint16_t slot = bad_name(name) ? 0 : find_slot(st, name);
	struct file *f;

	if (!slot && (!create || bad_name(name)))
		return create ? -ENAMETOOLONG : -ENOENT;
	slot = slot ? slot : find_slot(st, "");
	if (!slot)
		return -ENOSPC;
	f = calloc(1, sizeof(*f) + nr * sizeof(f->addr[0]));
	if (!f || iomap_inode_init(&f->inode, st->cache, &aops, BITS, slot)) {
		free(f);
		return -ENOMEM;
	}
	memcpy(st->now->files[slot - 1].name, name, strlen(name) + 1);
	f->st = st;
	f->slot = slot;
	for (uint32_t b = 0; b < nr; b++)
		if (st->now->owners[b].slot == slot && st->now->owners[b].pos < nr)
			f->addr[st->now->owners[b].pos] = b;
	i_size_write(&f->inode, st->now->files[slot - 1].size);
	*out = &f->inode;
	return 0;
}

int file_close(struct inode *inode)
{
	int err = filemap_write_and_wait_range(&inode->i_mapping, 0, UINT64_MAX);

	truncate_inode_pages_range(&inode->i_mapping, 0, UINT64_MAX);
	iomap_inode_destroy(inode);
	free(inode);
	return err;
}

int64_t file_read(struct inode *inode, uint64_t pos, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct iov_iter to;
	struct kiocb io = { .ki_inode = inode, .ki_pos = pos };
	int64_t ret;

	iov_iter_init(&to, &iov, 1, len);
	lk_rdlock(&inode->i_rwsem);
	ret = iomap_file_buffered_read(&io, &to, &flatstore_iomap_ops);
	lk_rw_unlock(&inode->i_rwsem);
	return ret;
}

int64_t file_write(struct inode *inode, uint64_t pos, const void *buf, size_t len, bool direct)
{
	struct store *st = ((struct file *)inode)->st;
	const uint64_t limit = st->now->nr_blocks << BITS;
	const struct iomap_ops *ops = &flatstore_iomap_ops;
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct iov_iter from;
	struct kiocb io = { .ki_inode = inode, .ki_pos = pos, .ki_flags = IOCB_WRITE };
	uint64_t size;
	int64_t ret = 0;

	if (pos > limit || len > limit - pos)
		return -EFBIG;
	direct = direct && ((pos | len) & (st->dev.logical_block - 1)) == 0;
	iov_iter_init(&from, &iov, 1, len);
	lk_wrlock(&inode->i_rwsem);
	size = i_size_read(inode);
	if (pos > size) { /* what lies behind the old end becomes part of the file: zeros */
		lk_wrlock(&inode->i_mapping.invalidate_lock);
		ret = iomap_zero_range(inode, size, pos - size, NULL, ops, &write_ops, NULL);
		lk_rw_unlock(&inode->i_mapping.invalidate_lock);
	}
	if (!ret && direct)
		ret = iomap_dio_rw(&io, &from, ops, &dio_ops, IOMAP_DIO_FORCE_WAIT, NULL, 0);
	if ((!ret && !direct) || ret == -ENOTBLK)
		ret = iomap_file_buffered_write(&io, &from, ops, &write_ops, NULL);
	lk_rw_unlock(&inode->i_rwsem);
	return ret;
}

/* ---- The store ---------------------------------------------------------------------------- */

static uint64_t table_bytes(uint64_t nr_blocks)
{
	return UP(sizeof(struct table) + nr_blocks * sizeof(struct owner));
}

static uint64_t checksum(const struct table *t)
{
	return XXH3_64bits(&t->seq, table_bytes(t->nr_blocks) - offsetof(struct table, seq));
}

static int write_table(struct bd *bd, struct table *t)
{
	t->check = checksum(t);
	return bd_write(bd, (t->seq & 1) * table_bytes(t->nr_blocks), t, table_bytes(t->nr_blocks), BD_FUA);
}

int store_format(struct bd *bd)
{
	const uint64_t nr = bd->info.size >> BITS, bytes = table_bytes(nr), first = 2 * bytes >> BITS;
	struct table *t = aligned_alloc(BLOCK, bytes);
	int err;

	if (!t || first >= nr || nr > UINT32_MAX) {
		free(t);
		return !t ? -ENOMEM : first >= nr ? -ENOSPC : -EFBIG;
	}
	memset(t, 0, bytes);
	err = bd_write(bd, 0, t, BLOCK, 0); /* no copy 0; then copy 1 */
	t->magic = MAGIC;
	t->seq = 1;
	t->nr_blocks = nr;
	for (uint64_t b = 0; b < first; b++)
		t->owners[b].slot = TABLES;
	err = err ? err : write_table(bd, t);
	free(t);
	return err;
}

/* The newest sound table is the one of the last commit that came to its end. */
static int read_tables(struct store *st, uint64_t nr, uint64_t bytes)
{
	struct table *t = st->next;
	int err = 0;

	for (unsigned copy = 0; copy < 2 && !err; copy++) {
		err = bd_read(st->bd, copy * bytes, t, bytes);
		if (!err && t->magic == MAGIC && t->nr_blocks == nr && t->check == checksum(t) &&
		    t->seq > st->now->seq)
			memcpy(st->now, t, bytes);
	}
	memcpy(st->durable, st->now, bytes);
	return err ? err : st->now->seq ? 0 : -EMEDIUMTYPE;
}

int store_open(struct bd *bd, struct store **out)
{
	static const struct folio_cache_params cache = {
		.limit_bytes = 64 << 20, .dirty_background_bytes = 16 << 20, .dirty_limit_bytes = 32 << 20,
		.dirty_expire_ns = 30000000000, .nr_flushers = 1,
	};
	const uint64_t nr = bd->info.size >> BITS, bytes = table_bytes(nr);
	struct store *st = calloc(1, sizeof(*st));
	char *tables = aligned_alloc(BLOCK, 3 * bytes);
	int err;

	if (!st || !tables) {
		free(tables);
		free(st);
		return -ENOMEM;
	}
	memset(tables, 0, 3 * bytes);
	*st = (struct store){
		.bd = bd, .tables = tables, .now = (struct table *)tables,
		.durable = (struct table *)(tables + bytes), .next = (struct table *)(tables + 2 * bytes),
		.dev = { .ops = &dev_ops, .private = bd, .logical_block = bd->info.logical_block,
			 .mem_align = bd->info.mem_align, .max_io = bd->info.max_io,
			 .max_vecs = bd->info.max_segments, .fua = bd->info.fua,
			 .volatile_cache = bd->info.volatile_cache },
	};
	lk_mutex_init(&st->lock, LK_EXTLOCK, "flatstore");
	err = read_tables(st, nr, bytes);
	if (!err)
		err = work_pool_create("flatstore", 1, &st->pool);
	if (!err)
		err = folio_cache_create(&cache, &st->cache);
	if (err)
		store_close(st);
	else
		*out = st;
	return err;
}

void store_close(struct store *st)
{
	if (st->cache)
		folio_cache_destroy(st->cache);
	work_pool_destroy(st->pool);
	lk_mutex_destroy(&st->lock);
	free(st->tables);
	free(st);
}

int store_commit(struct store *st)
{
	struct table *t = st->next;
	int err = st->error ? st->error : folio_cache_sync(st->cache, true);

	if (err)
		return err;
	lk_lock(&st->lock);
	st->now->seq++;
	memcpy(t, st->now, table_bytes(st->now->nr_blocks));
	lk_unlock(&st->lock);
	/* The data first: what this table shows as written has left our cache, and now the device's. */
	err = bd_flush(st->bd);
	if (!err)
		err = write_table(st->bd, t);
	lk_lock(&st->lock);
	st->error = err;
	st->next = st->durable;
	st->durable = t;
	lk_unlock(&st->lock);
	return err;
}

int store_remove(struct store *st, const char *name)
{
	const uint16_t slot = bad_name(name) ? 0 : find_slot(st, name);

	if (!slot)
		return -ENOENT;
	lk_lock(&st->lock);
	for (uint64_t b = 0; b < st->now->nr_blocks; b++)
		if (st->now->owners[b].slot == slot)
			st->now->owners[b] = (struct owner){ 0 };
	st->now->files[slot - 1] = (struct record){ 0 };
	lk_unlock(&st->lock);
	return 0;
}

int store_rename(struct store *st, const char *from, const char *to)
{
	const uint16_t slot = bad_name(from) ? 0 : find_slot(st, from);

	if (!slot || bad_name(to))
		return slot ? -ENAMETOOLONG : -ENOENT;
	if (strcmp(from, to))
		store_remove(st, to);
	memcpy(st->now->files[slot - 1].name, to, strlen(to) + 1);
	return 0;
}

void store_list(struct store *st, void (*fn)(const char *name, uint64_t size))
{
	for (unsigned i = 0; i < NR_FILES; i++)
		if (st->now->files[i].name[0])
			fn(st->now->files[i].name, st->now->files[i].size);
}

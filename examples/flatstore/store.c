/* SPDX-License-Identifier: MIT */
/* The device's side: the table on it, commits, names, and the way of the engine's requests to it. */
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- The engine's device is our block device ------------------------------------------------- */

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

/* ---- The table on the device ----------------------------------------------------------------- */

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

/* ---- Names ----------------------------------------------------------------------------------- */

uint16_t find_slot(const struct store *st, const char *name)
{
	for (uint16_t i = 0; i < NR_FILES; i++)
		if (!strcmp(st->now->files[i].name, name))
			return i + 1;
	return 0;
}

bool bad_name(const char *name)
{
	return !name[0] || strlen(name) >= FLATSTORE_NAME;
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

/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "toydax.h"

#define PAGE ((uint64_t)FOLIO_PAGE_SIZE)
#define TD(i) container_of((i), struct toydax, inode)

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* ---- Device --------------------------------------------------------------------------- */

static int persist(struct iomap_dax_dev *dev, uint64_t addr, uint64_t len)
{
	struct toydax *t = dev->private;
	const uint64_t from = ROUND_DOWN(addr, 64), to = ROUND_UP(addr + len, 64);

	if (atomic_load(&t->fail_persist))
		return atomic_load(&t->fail_persist);
	must(len && addr + len <= dev->size);
	data_copy(t->durable + from, dev->base + from, to - from);
	lk_lock(&t->lock);
	if (t->nr_log < TD_LOG_MAX) {
		t->log[t->nr_log].addr = addr;
		t->log[t->nr_log++].len = len;
	}
	lk_unlock(&t->lock);
	return 0;
}

static const struct iomap_dax_ops dev_ops = { .persist = persist };

/* ---- Mappings: t->lock ------------------------------------------------------------------- */

/* Neighbours of the file are no neighbours on the device, but for huge pages. */
static uint32_t new_page(struct toydax *t)
{
	must(t->next_page < TD_DEV_PAGES);
	return t->next_page++;
}

static bool continues(const struct td_block *a, const struct td_block *b, unsigned dist, bool cow)
{
	const uint32_t pa = cow ? a->cow_page : a->page, pb = cow ? b->cow_page : b->page;

	if (a->type != b->type || a->shared != b->shared || !a->cow_page != !b->cow_page)
		return false;
	if (a->cow_page && a->page + dist != b->page)
		return false;
	return a->type == IOMAP_HOLE || pa + dist == pb;
}

static void fill_map(struct toydax *t, struct iomap *m, unsigned first, unsigned limit, bool cow)
{
	const struct td_block *b = &t->blocks[first];
	unsigned end = first + 1;

	while (end < limit && continues(b, &t->blocks[end], end - first, cow))
		end++;
	m->offset = first * PAGE;
	m->length = (end - first) * PAGE;
	m->type = cow ? IOMAP_MAPPED : b->type;
	if (t->type_override >= 0)
		m->type = (enum iomap_type)t->type_override;
	m->addr = b->type == IOMAP_HOLE ? IOMAP_NULL_ADDR : (cow ? b->cow_page : b->page) * PAGE;
	m->dax_dev = &t->dev;
	m->flags = t->map_flags | (cow ? IOMAP_F_SHARED : 0) | (t->map_dirty ? IOMAP_F_DIRTY : 0);
}

/* What a write wants of block b: real, zeroed, its own or staged. True: something was made. */
static bool prepare(struct toydax *t, struct td_block *b)
{
	if (b->type == IOMAP_HOLE || b->type == IOMAP_UNWRITTEN) {
		if (!b->page)
			b->page = new_page(t);
		memset(t->dev.base + b->page * PAGE, 0, PAGE);
		memset(t->durable + b->page * PAGE, 0, PAGE);
		b->type = IOMAP_MAPPED;
		return true;
	}
	if (b->shared && !b->cow_page) {
		b->cow_page = new_page(t);
		memset(t->dev.base + b->cow_page * PAGE, 0xc0, PAGE);
		return true;
	}
	return false;
}

static int td_begin(struct inode *inode, uint64_t pos, uint64_t length, unsigned flags, struct iomap *m,
		    struct iomap *src)
{
	struct toydax *t = TD(inode);
	const unsigned first = (unsigned)(pos / PAGE);
	const unsigned limit = (unsigned)MIN((uint64_t)TD_PAGES, DIV_ROUND_UP(pos + length, PAGE));
	const bool fill = (flags & IOMAP_WRITE) && !(flags & IOMAP_UNSHARE);
	bool made = false;

	atomic_fetch_or(&t->flags_seen, flags);
	must(first < TD_PAGES);
	lk_lock(&t->lock);
	for (unsigned i = first; i < limit; i++)
		if (fill || ((flags & (IOMAP_ZERO | IOMAP_UNSHARE)) && t->blocks[i].shared))
			made |= prepare(t, &t->blocks[i]);
	if ((flags & (IOMAP_WRITE | IOMAP_ZERO)) && t->blocks[first].cow_page) {
		fill_map(t, m, first, limit, true);
		fill_map(t, src, first, limit, false);
	} else {
		fill_map(t, m, first, limit, false);
	}
	if (made)
		m->flags |= IOMAP_F_NEW;
	lk_unlock(&t->lock);
	atomic_fetch_add(&t->nr_begin, 1);
	return 0;
}

static int td_end(struct inode *inode, uint64_t pos, uint64_t length, uint64_t written, unsigned flags,
		  struct iomap *m)
{
	struct toydax *t = TD(inode);
	const unsigned done = (unsigned)DIV_ROUND_UP(pos + written, PAGE);

	atomic_fetch_add(&t->nr_end, 1);
	if (!(m->flags & IOMAP_F_SHARED))
		return 0;
	lk_lock(&t->lock);
	for (unsigned i = (unsigned)(pos / PAGE); i < DIV_ROUND_UP(pos + length, PAGE); i++) {
		struct td_block *b = &t->blocks[i];

		if (b->cow_page && written && i < done) {
			b->page = b->cow_page;
			b->shared = false;
		}
		b->cow_page = 0;
	}
	lk_unlock(&t->lock);
	return 0;
}

const struct iomap_ops td_ops = { .iomap_begin = td_begin, .iomap_end = td_end };

/* ---- Operations ------------------------------------------------------------------------------- */

static int64_t rw(struct toydax *t, uint64_t pos, void *buf, size_t len, unsigned flags)
{
	struct kiocb iocb = { .ki_inode = &t->inode, .ki_pos = pos, .ki_flags = flags };
	struct iovec iov = { buf, len };
	struct iov_iter it;

	iov_iter_init(&it, &iov, 1, len);
	return dax_iomap_rw(&iocb, &it, &td_ops);
}

int64_t td_write(struct toydax *t, uint64_t pos, const void *buf, size_t len)
{
	int64_t n;

	lk_wrlock(&t->inode.i_rwsem);
	if (pos > i_size_read(&t->inode))
		must(!dax_zero_range(&t->inode, i_size_read(&t->inode), pos - i_size_read(&t->inode), NULL,
				     &td_ops));
	n = rw(t, pos, (void *)(uintptr_t)buf, len, IOCB_WRITE);
	if (n > 0 && pos + (uint64_t)n > i_size_read(&t->inode))
		i_size_write(&t->inode, pos + (uint64_t)n);
	lk_rw_unlock(&t->inode.i_rwsem);
	return n;
}

int64_t td_read(struct toydax *t, uint64_t pos, void *buf, size_t len)
{
	int64_t n;

	lk_rdlock(&t->inode.i_rwsem);
	n = rw(t, pos, buf, len, 0);
	lk_rw_unlock(&t->inode.i_rwsem);
	return n;
}

static void lock_all(struct toydax *t)
{
	lk_wrlock(&t->inode.i_rwsem);
	lk_wrlock(&t->inode.i_mapping.invalidate_lock);
}

static void unlock_all(struct toydax *t)
{
	lk_rw_unlock(&t->inode.i_mapping.invalidate_lock);
	lk_rw_unlock(&t->inode.i_rwsem);
}

int td_zero(struct toydax *t, uint64_t pos, uint64_t len)
{
	int err;

	lock_all(t);
	err = dax_zero_range(&t->inode, pos, len, NULL, &td_ops);
	unlock_all(t);
	return err;
}

static void drop_blocks(struct toydax *t, uint64_t from, uint64_t end)
{
	if (from >= end)
		return;
	dax_delete_mapping_range(&t->inode, from * PAGE, end * PAGE - 1);
	lk_lock(&t->lock);
	for (uint64_t i = from; i < end; i++)
		t->blocks[i] = (struct td_block){ .type = IOMAP_HOLE };
	lk_unlock(&t->lock);
}

int td_truncate(struct toydax *t, uint64_t size)
{
	const uint64_t old = i_size_read(&t->inode);
	int err;

	lock_all(t);
	err = dax_truncate_page(&t->inode, MIN(size, old), NULL, &td_ops);
	i_size_write(&t->inode, size);
	if (size < old)
		drop_blocks(t, DIV_ROUND_UP(size, PAGE), TD_PAGES);
	unlock_all(t);
	return err;
}

int td_punch(struct toydax *t, uint64_t pos, uint64_t len)
{
	int err;

	lock_all(t);
	err = dax_zero_range(&t->inode, pos, len, NULL, &td_ops);
	drop_blocks(t, DIV_ROUND_UP(pos, PAGE), (pos + len) / PAGE);
	unlock_all(t);
	return err;
}

int td_unshare(struct toydax *t, uint64_t pos, uint64_t len)
{
	int err;

	lock_all(t);
	err = dax_file_unshare(&t->inode, pos, len, &td_ops);
	unlock_all(t);
	return err;
}

unsigned td_fault(void *arg, struct vm_fault *vmf, unsigned order)
{
	struct toydax *t = arg;
	uint64_t addr;
	unsigned ret;

	lk_wrlock(&t->inode.i_mapping.invalidate_lock);
	ret = dax_iomap_fault(vmf, order, &addr, NULL, &td_ops);
	if (ret == VM_FAULT_NEEDDSYNC)
		ret = dax_finish_sync_fault(vmf, order, addr);
	lk_rw_unlock(&t->inode.i_mapping.invalidate_lock);
	return ret;
}

/* ---- Set up -------------------------------------------------------------------------------------- */

void td_set(struct toydax *t, unsigned first, unsigned nr, enum iomap_type type, uint8_t fill)
{
	lk_lock(&t->lock);
	for (unsigned i = first; i < first + nr; i++) {
		t->blocks[i] = (struct td_block){ .type = type };
		if (type == IOMAP_HOLE)
			continue;
		t->blocks[i].page = new_page(t);
		memset(t->dev.base + t->blocks[i].page * PAGE, fill, PAGE);
		memset(t->durable + t->blocks[i].page * PAGE, fill, PAGE);
	}
	lk_unlock(&t->lock);
}

void td_share(struct toydax *t, unsigned first, unsigned nr)
{
	lock_all(t);
	must(!dax_writeback_mapping_range(&t->inode, &t->dev, first * PAGE, (first + nr) * PAGE - 1));
	for (unsigned i = first; i < first + nr; i++)
		t->blocks[i].shared = t->blocks[i].type == IOMAP_MAPPED;
	unlock_all(t);
}

uint8_t *td_page(struct toydax *t, unsigned i)
{
	return t->blocks[i].page ? (uint8_t *)t->dev.base + t->blocks[i].page * PAGE : NULL;
}

bool td_all_durable(struct toydax *t)
{
	for (unsigned i = 0; i < TD_PAGES; i++)
		if (t->blocks[i].type == IOMAP_MAPPED &&
		    memcmp(t->dev.base + t->blocks[i].page * PAGE, t->durable + t->blocks[i].page * PAGE, PAGE))
			return false;
	return true;
}

static int hook_fsync(struct inode *inode, uint64_t start, uint64_t end, bool datasync)
{
	struct toydax *t = TD(inode);

	atomic_fetch_add(&t->nr_fsync, 1);
	t->map_dirty = false;
	return dax_writeback_mapping_range(inode, &t->dev, start, end);
}

static const struct inode_operations_hooks hooks = { .fsync = hook_fsync };
static const struct address_space_operations no_cache;

struct toydax *td_create(void)
{
	const struct folio_cache_params fcp = {
		.limit_bytes = 8u << 20, .dirty_background_bytes = 1u << 20, .dirty_limit_bytes = 2u << 20,
		.dirty_expire_ns = 3600ull * 1000000000, .nr_flushers = 1,
	};
	struct toydax *t = calloc(1, sizeof(*t));

	must(t && !folio_cache_create(&fcp, &t->fc));
	must(!iomap_inode_init(&t->inode, t->fc, &no_cache, FOLIO_PAGE_SHIFT, 7));
	t->inode.i_hooks = &hooks;
	lk_mutex_init(&t->lock, LK_EXTLOCK, "toydax");
	t->fd = memfd_create("toydax", MFD_CLOEXEC);
	must(t->fd >= 0 && !ftruncate(t->fd, TD_DEV_PAGES * PAGE));
	t->durable = calloc(TD_DEV_PAGES, PAGE);
	t->dev = (struct iomap_dax_dev){ .ops = &dev_ops, .size = TD_DEV_PAGES * PAGE, .fd = t->fd, .private = t };
	t->dev.base = mmap(NULL, t->dev.size, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	must(t->durable && t->dev.base != MAP_FAILED && !dax_dev_init(&t->dev));
	t->next_page = 512; /* huge pages begin there */
	t->type_override = -1;
	return t;
}

void td_destroy(struct toydax *t)
{
	must(t->nr_begin == t->nr_end);
	must(!atomic_load(&t->inode.i_mapping.nr_pages));
	dax_dev_destroy(&t->dev);
	iomap_inode_destroy(&t->inode);
	folio_cache_destroy(t->fc);
	munmap(t->dev.base, t->dev.size);
	close(t->fd);
	free(t->durable);
	lk_mutex_destroy(&t->lock);
	free(t);
}

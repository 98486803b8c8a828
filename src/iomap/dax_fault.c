/* SPDX-License-Identifier: MIT */
/*
 * Areas that show a file's memory. What each shows is noted per file, one entry a page or huge page: its
 * address on the device, and whether it was stored to since it was last made durable. The entry's lock is
 * the file's (LK_DAX): it is held from before begin until the page is shown, so that what a write
 * allocates and then deletes cannot be shown in between as the hole that it was:
 *
 *	load of a hole              write(2)
 *	--------------              --------
 *	LK_DAX
 *	begin: HOLE
 *	                            begin: allocates, MAPPED | NEW
 *	                            dax_delete_mapping_range: waits
 *	show zeros, note it
 *	unlock
 *	                            zaps the zeros; copies
 */
#include <bsd/sys/tree.h>

#include "dax_private.h"

struct dax_entry {
	RB_ENTRY(dax_entry) node;
	uint64_t pgoff, nr; /* nr: 1, or the pages of a huge one */
	uint64_t addr;      /* IOMAP_NULL_ADDR: zeros, of no block */
	struct iomap_dax_dev *dev;
	bool dirty;
};
RB_HEAD(dax_tree, dax_entry);

struct dax_mapping {
	struct lk_mutex lock; /* LK_DAX: everything here */
	struct cds_list_head vmas;
	struct dax_tree entries;
};

static int entry_cmp(const struct dax_entry *a, const struct dax_entry *b)
{
	return a->pgoff < b->pgoff ? -1 : a->pgoff > b->pgoff;
}
RB_GENERATE_INTERNAL(dax_tree, dax_entry, node, entry_cmp, static __attribute__((unused)))

/* The first entry that ends after pgoff. */
static struct dax_entry *entry_find(struct dax_mapping *dm, uint64_t pgoff)
{
	struct dax_entry *e = RB_ROOT(&dm->entries), *best = NULL;

	while (e) {
		if (e->pgoff + e->nr > pgoff) {
			best = e;
			e = RB_LEFT(e, node);
		} else {
			e = RB_RIGHT(e, node);
		}
	}
	return best;
}

static struct dax_entry *entry_at(struct dax_mapping *dm, uint64_t pgoff)
{
	struct dax_entry *e = entry_find(dm, pgoff);

	return e && e->pgoff <= pgoff ? e : NULL;
}

/* ---- Areas ------------------------------------------------------------------------------------ */

static struct dax_mapping *mapping_get(struct inode *inode)
{
	struct dax_mapping *dm = atomic_load(&inode->i_dax), *none = NULL;

	if (dm)
		return dm;
	dm = calloc(1, sizeof(*dm));
	if (!dm)
		return NULL;
	lk_mutex_init(&dm->lock, LK_DAX, "dax");
	CDS_INIT_LIST_HEAD(&dm->vmas);
	RB_INIT(&dm->entries);
	if (atomic_compare_exchange_strong(&inode->i_dax, &none, dm))
		return dm;
	lk_mutex_destroy(&dm->lock);
	free(dm);
	return none;
}

void dax_mapping_destroy(struct inode *inode)
{
	struct dax_mapping *dm = atomic_load(&inode->i_dax);
	struct dax_entry *e;

	if (!dm)
		return;
	assert(cds_list_empty(&dm->vmas));
	while ((e = RB_MIN(dax_tree, &dm->entries))) {
		RB_REMOVE(dax_tree, &dm->entries, e);
		free(e);
	}
	lk_mutex_destroy(&dm->lock);
	free(dm);
	atomic_store(&inode->i_dax, NULL);
}

int dax_vma_open(struct dax_vma *vma)
{
	struct dax_mapping *dm = mapping_get(vma->inode);

	if (!dm)
		return -ENOMEM;
	lk_lock(&dm->lock);
	cds_list_add_tail(&vma->list, &dm->vmas);
	lk_unlock(&dm->lock);
	return 0;
}

/* Call fn for the part of each area that faces [pgoff, end); LK_DAX. */
static void for_each_vma(struct dax_mapping *dm, uint64_t pgoff, uint64_t end, bool clean)
{
	struct dax_vma *vma;

	cds_list_for_each_entry(vma, &dm->vmas, list) {
		const uint64_t from = MAX(pgoff, vma->pgoff);
		const uint64_t to = MIN(end, vma->pgoff + vma->nr_pages);

		if (from >= to)
			continue;
		if (clean)
			vma->ops->mkclean(vma, from, to - from);
		else
			vma->ops->zap(vma, from, to - from);
	}
}

static void entry_drop(struct dax_mapping *dm, struct dax_entry *e)
{
	for_each_vma(dm, e->pgoff, e->pgoff + e->nr, false);
	RB_REMOVE(dax_tree, &dm->entries, e);
	free(e);
}

/* ---- Durability --------------------------------------------------------------------------------- */

static int entry_flush(struct dax_mapping *dm, struct dax_entry *e)
{
	int err;

	if (!dax_read_lock(e->dev))
		return -EIO;
	/* First, so that no store comes after the flush and before the fault that would note it. */
	for_each_vma(dm, e->pgoff, e->pgoff + e->nr, true);
	err = dax_flush(e->dev, e->addr, e->nr << FOLIO_PAGE_SHIFT);
	if (!err)
		e->dirty = false;
	dax_read_unlock(e->dev);
	return err;
}

/* From the entry that has pgoff up to last, all on dev if that is given; ends with the first error. */
static int flush_range(struct dax_mapping *dm, const struct iomap_dax_dev *dev, uint64_t pgoff, uint64_t last)
{
	struct dax_entry *e;
	int err = 0;

	for (e = entry_find(dm, pgoff); !err && e && e->pgoff <= last;
	     e = RB_NEXT(dax_tree, &dm->entries, e)) {
		assert(!e->dirty || !dev || e->dev == dev);
		if (e->dirty)
			err = entry_flush(dm, e);
	}
	return err;
}

/*
 * [start, end] loses its entries. One that reaches beyond, a page that is cut or a huge one, has bytes
 * outside that stay in the file: nobody else would remember that they are to be made durable.
 */
static void drop_range(struct dax_mapping *dm, uint64_t start, uint64_t end)
{
	const uint64_t last_page = end >> FOLIO_PAGE_SHIFT;
	struct dax_entry *e, *next;

	for (e = entry_find(dm, start >> FOLIO_PAGE_SHIFT); e && e->pgoff <= last_page; e = next) {
		const uint64_t first = e->pgoff << FOLIO_PAGE_SHIFT;
		const uint64_t last = first + (e->nr << FOLIO_PAGE_SHIFT) - 1;

		next = RB_NEXT(dax_tree, &dm->entries, e);
		if (e->dirty && (first < start || last > end) && entry_flush(dm, e))
			for_each_vma(dm, e->pgoff, e->pgoff + e->nr, false); /* fsync tries again */
		else
			entry_drop(dm, e);
	}
}

void dax_delete_mapping_range(struct inode *inode, uint64_t start, uint64_t end)
{
	struct dax_mapping *dm = atomic_load(&inode->i_dax);

	if (!dm)
		return;
	lk_lock(&dm->lock);
	drop_range(dm, start, end);
	lk_unlock(&dm->lock);
}

int dax_writeback_mapping_range(struct inode *inode, struct iomap_dax_dev *dev, uint64_t start,
				uint64_t end)
{
	struct dax_mapping *dm = atomic_load(&inode->i_dax);
	int err;

	if (inode->i_blkbits != FOLIO_PAGE_SHIFT)
		return -EIO;
	if (!dm)
		return 0;
	lk_lock(&dm->lock);
	err = flush_range(dm, dev, start >> FOLIO_PAGE_SHIFT, end >> FOLIO_PAGE_SHIFT);
	lk_unlock(&dm->lock);
	return err;
}

void dax_vma_close(struct dax_vma *vma)
{
	struct dax_mapping *dm = atomic_load(&vma->inode->i_dax);

	lk_lock(&dm->lock);
	vma->ops->zap(vma, vma->pgoff, vma->nr_pages);
	cds_list_del(&vma->list);
	/* An inode that no area holds can be evicted, and with it the note of what is to be flushed. */
	if (cds_list_empty(&dm->vmas))
		(void)flush_range(dm, NULL, 0, UINT64_MAX);
	lk_unlock(&dm->lock);
}

/* ---- Faults ----------------------------------------------------------------------------------------- */

/* One fault on its way; LK_DAX is held. */
struct dax_fault {
	struct vm_fault *vmf;
	struct dax_mapping *dm;
	uint64_t pgoff, nr; /* what is to be shown */
	bool write;         /* a store to the file */
	unsigned ret;       /* VM_FAULT_* */
	uint64_t *addrp;
};

static bool is_huge(const struct dax_fault *df)
{
	return df->nr > 1;
}

/* The note of what is shown, replacing one that says otherwise. */
static int entry_set(struct dax_fault *df, struct iomap_dax_dev *dev, uint64_t addr, struct dax_entry **res)
{
	struct dax_entry *e = entry_at(df->dm, df->pgoff);
	const bool zero = addr == IOMAP_NULL_ADDR;
	int err;

	if (e && (e->addr == IOMAP_NULL_ADDR ? !zero :
		  zero || e->dev != dev || e->addr + ((df->pgoff - e->pgoff) << FOLIO_PAGE_SHIFT) != addr)) {
		/* A huge one: the pages that stay where they are have been stored to. */
		err = e->dirty ? entry_flush(df->dm, e) : 0;
		if (err)
			return err;
		entry_drop(df->dm, e);
		e = NULL;
	}
	*res = e; /* maybe a huge one around it */
	if (e)
		return 0;
	*res = e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->pgoff = df->pgoff;
	e->nr = df->nr;
	e->addr = addr;
	e->dev = dev;
	RB_INSERT(dax_tree, &df->dm->entries, e);
	return 0;
}

static int show(struct dax_fault *df, uint64_t addr, bool writable)
{
	struct dax_vma *vma = df->vmf->vma;
	int err = vma->ops->insert(vma, df->pgoff, df->nr, addr, writable);

	if (!err)
		df->ret = VM_FAULT_NOPAGE;
	return err;
}

/* A store into a private area: the page's contents become the area's own. */
static int fault_cow_page(struct dax_fault *df, const struct iomap_iter *iter)
{
	const struct iomap *m = &iter->iomap;
	void *mem;
	int err;

	if (m->type == IOMAP_HOLE || m->type == IOMAP_UNWRITTEN) {
		memset(df->vmf->cow_page, 0, FOLIO_PAGE_SIZE);
		df->ret = VM_FAULT_DONE_COW;
		return 0;
	}
	if (m->type != IOMAP_MAPPED || !dax_read_lock(m->dax_dev))
		return -EIO;
	err = dax_direct_access(m->dax_dev, iomap_sector_addr(m, iter->pos), FOLIO_PAGE_SIZE, &mem);
	if (!err)
		err = dax_copy_mem(df->vmf->cow_page, mem, FOLIO_PAGE_SIZE);
	dax_read_unlock(m->dax_dev);
	if (!err)
		df->ret = VM_FAULT_DONE_COW;
	return err;
}

static int fault_zero(struct dax_fault *df)
{
	struct dax_entry *e;
	int err = entry_set(df, NULL, IOMAP_NULL_ADDR, &e);

	return err ? err : show(df, IOMAP_NULL_ADDR, false);
}

/* The device's lock is held. */
static int fault_device(struct dax_fault *df, const struct iomap_iter *iter)
{
	const struct iomap *m = &iter->iomap;
	const uint64_t addr = iomap_sector_addr(m, iter->pos), len = df->nr << FOLIO_PAGE_SHIFT;
	const bool sync = df->write && (df->vmf->vma->flags & DAX_VM_SYNC) && (m->flags & IOMAP_F_DIRTY);
	struct dax_entry *e;
	void *mem;
	int err;

	err = dax_direct_access(m->dax_dev, addr, len, &mem);
	if (err)
		return err;
	if (is_huge(df) && !IS_ALIGNED(addr, len)) {
		df->ret = VM_FAULT_FALLBACK;
		return 0;
	}
	if (df->write && (m->flags & IOMAP_F_SHARED))
		err = dax_copy_whole(iter, iter->pos, len);
	if (err)
		return err;
	err = entry_set(df, m->dax_dev, addr, &e);
	if (err)
		return err;
	if (sync) {
		*df->addrp = addr;
		df->ret = VM_FAULT_NEEDDSYNC;
		return 0;
	}
	e->dirty |= df->write;
	return show(df, addr, df->write);
}

static int fault_iter(struct dax_fault *df, struct iomap_iter *iter)
{
	const struct iomap *m = &iter->iomap;
	int err;

	/* One mapping must hold all of it. */
	if (iomap_length(iter) < df->nr << FOLIO_PAGE_SHIFT) {
		df->ret = VM_FAULT_FALLBACK;
		return is_huge(df) ? 0 : -EIO;
	}
	if (df->vmf->cow_page)
		err = fault_cow_page(df, iter);
	else if (!df->write && (m->type == IOMAP_HOLE || m->type == IOMAP_UNWRITTEN))
		err = fault_zero(df);
	else if (m->type != IOMAP_MAPPED && !(m->flags & IOMAP_F_SHARED))
		return -EIO;
	else if (!dax_read_lock(m->dax_dev))
		return -EIO;
	else {
		err = fault_device(df, iter);
		dax_read_unlock(m->dax_dev);
	}
	if (err || df->ret == VM_FAULT_FALLBACK)
		return err;
	return iomap_iter_advance(iter, df->nr << FOLIO_PAGE_SHIFT);
}

/* Can the huge page around pgoff be shown as one, as far as the area and the file go? */
static bool huge_possible(const struct dax_fault *df, uint64_t end_page)
{
	const struct dax_vma *vma = df->vmf->vma;
	const uint64_t first = df->pgoff, last = df->pgoff + df->nr;
	const struct dax_entry *e = entry_find(df->dm, first);

	if (df->vmf->cow_page || last > end_page)
		return false;
	if (first < vma->pgoff || last > vma->pgoff + vma->nr_pages)
		return false;
	if (!IS_ALIGNED(vma->start + ((first - vma->pgoff) << FOLIO_PAGE_SHIFT), df->nr << FOLIO_PAGE_SHIFT))
		return false;
	/* Single pages are noted there already. */
	return !e || e->pgoff >= last || e->nr == df->nr;
}

static unsigned fault_error(int err)
{
	return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

static unsigned fault_locked(struct dax_fault *df, int *errp, const struct iomap_ops *ops)
{
	struct inode *inode = df->vmf->vma->inode;
	struct iomap_iter iter = {
		.inode = inode,
		.pos = df->pgoff << FOLIO_PAGE_SHIFT,
		.len = df->nr << FOLIO_PAGE_SHIFT,
		.flags = IOMAP_DAX | IOMAP_FAULT | (df->write ? IOMAP_WRITE : 0),
	};
	const uint64_t end_page = DIV_ROUND_UP(i_size_read(inode), (uint64_t)FOLIO_PAGE_SIZE);
	int err;

	if (df->vmf->pgoff >= end_page)
		return VM_FAULT_SIGBUS;
	if (is_huge(df) && !huge_possible(df, end_page))
		return VM_FAULT_FALLBACK;
	df->ret = VM_FAULT_SIGBUS;
	while ((err = iomap_iter(&iter, ops)) > 0)
		iter.status = fault_iter(df, &iter);
	if (!err)
		return df->ret;
	*errp = err;
	if (is_huge(df))
		return VM_FAULT_FALLBACK;
	return fault_error(err);
}

unsigned dax_iomap_fault(struct vm_fault *vmf, unsigned order, uint64_t *addrp, int *errp,
			 const struct iomap_ops *ops)
{
	struct dax_fault df = {
		.vmf = vmf,
		.dm = atomic_load(&vmf->vma->inode->i_dax),
		.nr = 1ull << order,
		.write = (vmf->flags & FAULT_FLAG_WRITE) && !vmf->cow_page,
		.addrp = addrp,
	};
	unsigned ret;
	int none;

	if (order != 0 && order != DAX_PMD_ORDER)
		return VM_FAULT_FALLBACK;
	df.pgoff = ROUND_DOWN(vmf->pgoff, df.nr);
	lk_lock(&df.dm->lock);
	ret = fault_locked(&df, errp ? errp : &none, ops);
	lk_unlock(&df.dm->lock);
	return ret;
}

unsigned dax_finish_sync_fault(struct vm_fault *vmf, unsigned order, uint64_t addr)
{
	struct inode *inode = vmf->vma->inode;
	struct dax_fault df = { .vmf = vmf, .dm = atomic_load(&inode->i_dax), .nr = 1ull << order };
	struct dax_entry *e;
	uint64_t pos;
	int err;

	df.pgoff = ROUND_DOWN(vmf->pgoff, df.nr);
	pos = df.pgoff << FOLIO_PAGE_SHIFT;
	err = inode->i_hooks->fsync(inode, pos, pos + (df.nr << FOLIO_PAGE_SHIFT) - 1, true);
	if (err)
		return VM_FAULT_SIGBUS;
	lk_lock(&df.dm->lock);
	e = entry_at(df.dm, df.pgoff);
	/* Another place by now: the next touch asks again. */
	if (!e || e->addr == IOMAP_NULL_ADDR || e->nr < df.nr ||
	    e->addr + ((df.pgoff - e->pgoff) << FOLIO_PAGE_SHIFT) != addr) {
		df.ret = VM_FAULT_NOPAGE;
	} else {
		e->dirty = true;
		err = show(&df, addr, true);
	}
	lk_unlock(&df.dm->lock);
	return err ? fault_error(err) : df.ret;
}

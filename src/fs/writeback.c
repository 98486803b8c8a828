/* SPDX-License-Identifier: MIT */
/*
 * Writing dirty folios back, and what follows their I/O.
 *
 *	writepages                         ioend worker
 *	promise around the folio becomes
 *	one UNWRITTEN extent
 *	data goes to the device ->
 *	                                   convert, size on disk: one transaction
 *	                                   writeback flag cleared (fsync waits for it)
 *
 * The commit of that transaction flushes the device before it writes its commit record, so
 * the data is durable whenever the extent that shows it is.
 */
#include "extent.h"

/* Blocks of the folio from pos on that nobody will write any more: give their promise back. */
static void discard_promise(struct fs_inode *ip, struct folio *f, uint64_t pos)
{
	const uint64_t end = folio_pos(f) + folio_size(f);

	lk_lock(&ip->extlock);
	/* Block 0 of contents on their way out of the inode keeps its own. */
	if (ip->delalloc->inline_out)
		pos = MAX(pos, (uint64_t)ip->fs->block_size);
	if (pos < end)
		da_remove(ip, fblk_of(ip->fs, pos), fblk_up(ip->fs, end), false);
	/* The folio is locked, and its earlier writeback ended: nothing of it is in flight. */
	cow_cancel(ip, fblk_of(ip->fs, pos), fblk_up(ip->fs, end));
	atomic_fetch_add(&ip->map_seq, 1);
	lk_unlock(&ip->extlock);
}

static int wb_map(struct fs_inode *ip, uint64_t pos, unsigned len, struct iomap *m)
{
	int err;

	for (;;) {
		*m = (struct iomap){ 0 };
		lk_lock(&ip->extlock);
		err = fs_map_at(ip, fblk_of(ip->fs, pos), 0, m);
		if (!err && m->type == IOMAP_MAPPED && fs_may_share(ip))
			err = cow_map_out(ip, fblk_of(ip->fs, pos), fblk_up(ip->fs, len), false, m);
		lk_unlock(&ip->extlock);
		if (err || m->type != IOMAP_DELALLOC)
			return err;
		err = da_convert(ip, fblk_of(ip->fs, pos));
		if (err)
			return err;
	}
}

static bool wb_map_valid(struct fs_inode *ip, const struct iomap *m, uint64_t pos)
{
	return m->length != 0 && pos >= m->offset && pos < iomap_end(m) &&
	       m->validity_cookie == atomic_load(&ip->map_seq);
}

static int64_t wb_range(struct iomap_writepage_ctx *wpc, struct folio *f, uint64_t pos,
			unsigned len, uint64_t end_pos)
{
	struct fs_inode *ip = FS_I(wpc->inode);
	int err = 0;

	if (ip->fs->shutdown)
		err = -EIO;
	if (!err && !wb_map_valid(ip, &wpc->iomap, pos))
		err = wb_map(ip, pos, len, &wpc->iomap);
	if (err) {
		wpc->iomap = (struct iomap){ 0 };
		discard_promise(ip, f, pos);
		return err;
	}
	return iomap_add_to_ioend(wpc, f, pos, end_pos, len);
}

static const struct iomap_writeback_ops fs_writeback_ops = {
	.writeback_range = wb_range,
};

/* ---- Completion -------------------------------------------------------------------------- */

/* Device completion thread: nothing here may sleep. */
static void end_ioend(struct iomap_ioend *ioend)
{
	struct fs_inode *ip = FS_I(ioend->io_inode);
	const uint64_t end = ioend->io_offset + ioend->io_size;
	const bool cow = ioend->io_flags & IOMAP_IOEND_SHARED;
	bool queue;

	if (!cow && (ioend->io_error || (!(ioend->io_flags & IOMAP_IOEND_UNWRITTEN) &&
					 end <= disk_size_read(ip)))) {
		iomap_finish_ioends(ioend, ioend->io_error);
		return;
	}
	pthread_mutex_lock(&ip->ioend_lock);
	cds_list_add_tail(&ioend->io_list, &ip->ioend_list);
	queue = !ip->ioend_queued;
	ip->ioend_queued = true;
	pthread_mutex_unlock(&ip->ioend_lock);
	if (queue)
		work_queue(ip->fs->ioend_pool, &ip->ioend_work);
}

static void complete_ioend(struct fs_inode *ip, struct iomap_ioend *ioend)
{
	int err = ioend->io_error;

	/* Once the log is closed for good there is nothing left to convert into. */
	if (!err && ip->fs->shutdown)
		err = -EIO;
	if (!err && (ioend->io_flags & IOMAP_IOEND_SHARED))
		err = ext_complete_cow(ip, ioend->io_offset, ioend->io_size, false, false);
	else if (!err)
		err = ext_complete_write(ip, ioend->io_offset, ioend->io_size,
					 ioend->io_flags & IOMAP_IOEND_UNWRITTEN, false);
	if (err && (ioend->io_flags & IOMAP_IOEND_SHARED))
		cow_failed(ip, ioend->io_offset, ioend->io_size);
	iomap_finish_ioends(ioend, err);
}

void fs_ioend_worker(struct work *w)
{
	struct fs_inode *ip = container_of(w, struct fs_inode, ioend_work);
	struct iomap_ioend *ioend;
	CDS_LIST_HEAD(todo);

	for (;;) {
		pthread_mutex_lock(&ip->ioend_lock);
		assert(ip->ioend_queued);
		if (cds_list_empty(&ip->ioend_list)) {
			/* The inode may be freed as soon as the lock is dropped. */
			ip->ioend_queued = false;
			pthread_cond_broadcast(&ip->delalloc->ioend_idle);
			pthread_mutex_unlock(&ip->ioend_lock);
			return;
		}
		cds_list_splice(&ip->ioend_list, &todo);
		CDS_INIT_LIST_HEAD(&ip->ioend_list);
		pthread_mutex_unlock(&ip->ioend_lock);
		iomap_sort_ioends(&todo);
		while (!cds_list_empty(&todo)) {
			ioend = cds_list_first_entry(&todo, struct iomap_ioend, io_list);
			cds_list_del_init(&ioend->io_list);
			iomap_ioend_try_merge(ioend, &todo);
			complete_ioend(ip, ioend);
		}
	}
}

void fs_ioend_wait_idle(struct fs_inode *ip)
{
	pthread_mutex_lock(&ip->ioend_lock);
	while (ip->ioend_queued)
		pthread_cond_wait(&ip->delalloc->ioend_idle, &ip->ioend_lock);
	assert(cds_list_empty(&ip->ioend_list));
	pthread_mutex_unlock(&ip->ioend_lock);
}

/* ---- Address space ------------------------------------------------------------------------ */

static int fs_writepages(struct address_space *m, struct writeback_control *wbc)
{
	struct iomap_writepage_ctx wpc = {
		.inode = m->host,
		.wbc = wbc,
		.ops = &fs_writeback_ops,
		.end_ioend = end_ioend,
	};

	return iomap_writepages(&wpc);
}

static bool fs_grab_host(struct address_space *m)
{
	return fs_iref_live(FS_I((struct inode *)m->host));
}

static void fs_put_host(struct address_space *m)
{
	fs_iput(FS_I((struct inode *)m->host));
}

const struct address_space_operations fs_file_aops = {
	.writepages = fs_writepages,
	.dirty_folio = iomap_dirty_folio,
	.release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio,
	.is_partially_uptodate = iomap_is_partially_uptodate,
	.grab_host = fs_grab_host,
	.put_host = fs_put_host,
};

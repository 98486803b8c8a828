/* SPDX-License-Identifier: MIT */
/* The in-core side of a file: set up and torn down with its inode, opened and released. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "extent.h"

static void hook_mark_dirty(struct inode *inode)
{
	fs_mark_inode_dirty(FS_I(inode));
}

static int hook_fsync(struct inode *inode, uint64_t start, uint64_t end, bool datasync)
{
	return fs_sync_range(FS_I(inode), start, end, datasync);
}

const struct inode_operations_hooks fs_file_hooks = {
	.mark_inode_dirty = hook_mark_dirty,
	.fsync = hook_fsync,
};

int fs_file_init(struct fs_inode *ip)
{
	struct fs *fs = ip->fs;
	const unsigned min_order =
		fs->block_shift > FOLIO_PAGE_SHIFT ? fs->block_shift - FOLIO_PAGE_SHIFT : 0;
	int err;

	err = iomap_inode_init(&ip->vfs, fs->fc, &fs_file_aops, fs->block_shift, ip->ino);
	if (err)
		return err;
	ip->vfs.i_hooks = &fs_file_hooks;
	mapping_set_folio_order_range(&ip->vfs.i_mapping, min_order, FOLIO_MAX_ORDER);
	pthread_mutex_init(&ip->ioend_lock, NULL);
	CDS_INIT_LIST_HEAD(&ip->ioend_list);
	ip->ioend_work.fn = fs_ioend_worker;
	ip->ioend_queued = false;
	ip->delalloc = NULL;
	ip->delalloc_blocks = 0;
	if (!S_ISREG(ip->mode))
		return 0;
	if (ip->data_fmt == OD_DATA_NONE)
		ip->data_fmt = OD_DATA_EXTENTS;
	/* Read while a shift is under way: at mount, which finishes it, or without recovery. */
	if (ip->shift.op) {
		atomic_fetch_or(&ip->state, FS_I_BAD);
		if (ip->fs->opts.readonly)
			log_warn("inode %llu: a collapse or insertion was interrupted; mount read-write "
				 "to finish it and use the file", (unsigned long long)ip->ino);
	}
	i_size_write(&ip->vfs, ip->disk_size);
	ext_load(ip);
	err = da_init(ip);
	if (err) {
		pthread_mutex_destroy(&ip->ioend_lock);
		iomap_inode_destroy(&ip->vfs);
	}
	return err;
}

void fs_file_destroy(struct fs_inode *ip)
{
	if (ip->delalloc) {
		truncate_inode_pages_range(&ip->vfs.i_mapping, 0, UINT64_MAX);
		fs_ioend_wait_idle(ip);
		/* Only what lay past EOF, or what an error left, is still promised. */
		lk_lock(&ip->extlock);
		da_remove(ip, 0, UINT64_MAX, false);
		cow_cancel(ip, 0, UINT64_MAX);
		lk_unlock(&ip->extlock);
		da_destroy(ip);
	}
	assert(cds_list_empty(&ip->ioend_list));
	pthread_mutex_destroy(&ip->ioend_lock);
	iomap_inode_destroy(&ip->vfs);
}

int fs_file_may_change(struct fs_inode *ip, bool append_ok)
{
	if (!fs_is_reg(ip))
		return S_ISDIR(ip->mode) ? -EISDIR : -EINVAL;
	if (atomic_load(&ip->state) & FS_I_BAD)
		return -EFSCORRUPTED;
	if (ip->flags & OD_FL_IMMUTABLE)
		return -EPERM;
	if ((ip->flags & OD_FL_APPEND) && !append_ok)
		return -EPERM;
	return atomic_load(&ip->swap_pins) ? -ETXTBSY : 0;
}

int fs_file_touch(struct fs_inode *ip, unsigned ctx_flags)
{
	const struct timespec now = clock_real_ts();
	bool moved;

	if (!(ctx_flags & FS_NOWAIT))
		lk_lock(&ip->extlock);
	else if (!lk_trylock(&ip->extlock))
		return -EAGAIN;
	moved = ip->mtime.tv_sec != now.tv_sec || ip->mtime.tv_nsec != now.tv_nsec ||
		ip->ctime.tv_sec != now.tv_sec || ip->ctime.tv_nsec != now.tv_nsec;
	if (moved) {
		ip->mtime = now;
		ip->ctime = now;
	}
	ip->version++;
	lk_unlock(&ip->extlock);
	/* The clock ticks every few milliseconds: most small writes change nothing here. */
	if (moved)
		fs_mark_inode_dirty(ip);
	return 0;
}

/* ---- Open handles ----------------------------------------------------------------------- */

static bool writes(unsigned open_flags)
{
	return (open_flags & O_ACCMODE) != O_RDONLY;
}

int fs_open(struct fs_ctx *ctx, struct fs_inode *ip, unsigned open_flags, struct fs_file **out)
{
	struct fs_file *f;

	if (atomic_load(&ip->state) & FS_I_BAD)
		return -EFSCORRUPTED;
	if (writes(open_flags) && fs_is_reg(ip)) {
		if (ip->flags & OD_FL_IMMUTABLE)
			return -EPERM;
		if ((ip->flags & OD_FL_APPEND) &&
		    (!(open_flags & O_APPEND) || (open_flags & O_TRUNC)))
			return -EPERM;
		if (ip->fs->readonly)
			return -EROFS;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	fs_iref(ip);
	f->ip = ip;
	f->open_flags = open_flags;
	f->wb_err = errseq_sample(&ip->vfs.i_mapping.wb_err);
	pthread_mutex_init(&f->lock, NULL);
	atomic_fetch_add(&ip->opens, 1);
	if (writes(open_flags))
		atomic_fetch_add(&ip->writers, 1);
	*out = f;
	return 0;
}

/* What follows a close by a writer. */
struct close_work {
	struct work work;
	struct fs_inode *ip; /* referenced */
	unsigned tries;
	bool flush;          /* it was emptied and written anew */
};
#define TRIM_TRIES 100u

/*
 * Only tries the lock: a writer that holds it may be waiting for this pool to run dry
 * (space_reserve_or_flush). A file that stays busy is somebody else's to trim.
 */
static void close_fn(struct work *w)
{
	struct close_work *t = container_of(w, struct close_work, work);
	struct fs_inode *ip = t->ip;

	/*
	 * Programs that save a file by emptying it do not all call fsync. The name has lost
	 * its old contents for good; start the new ones on their way. Errors wait for fsync.
	 */
	if (t->flush)
		filemap_fdatawrite_range(&ip->vfs.i_mapping, 0, UINT64_MAX, WB_SYNC_NONE);
	t->flush = false;
	if (atomic_load(&ip->writers) == 0 && fs_trim_eofblocks(ip) == -EAGAIN &&
	    ++t->tries < TRIM_TRIES) {
		usleep(1000);
		work_queue(ip->fs->bg_pool, w);
		return;
	}
	free(t);
	fs_iput(ip);
}

/* Without memory for it the trim is left to the file's eviction, the data to its expiry. */
static void queue_close_work(struct fs_inode *ip, bool flush)
{
	struct close_work *t = malloc(sizeof(*t));

	if (!t)
		return;
	fs_iref(ip);
	*t = (struct close_work){ .work.fn = close_fn, .ip = ip, .flush = flush };
	work_queue(ip->fs->bg_pool, &t->work);
}

static void writer_gone(struct fs_inode *ip)
{
	const bool flush = atomic_load(&ip->emptied) && atomic_exchange(&ip->emptied, false) &&
			   mapping_tagged_dirty(&ip->vfs.i_mapping);

	if (atomic_fetch_sub(&ip->writers, 1) == 1 && atomic_load(&ip->delalloc->speculated))
		queue_close_work(ip, flush);
	else if (flush)
		queue_close_work(ip, true);
}

void fs_release(struct fs_file *f)
{
	struct fs_inode *ip = f->ip;

	if (f->swap_pinned) {
		assert(atomic_load(&ip->swap_pins) > 0);
		atomic_fetch_sub(&ip->swap_pins, 1);
	}
	if (writes(f->open_flags)) {
		if (fs_is_reg(ip))
			writer_gone(ip);
		else
			atomic_fetch_sub(&ip->writers, 1);
	}
	assert(atomic_load(&ip->opens) > 0);
	atomic_fetch_sub(&ip->opens, 1);
	pthread_mutex_destroy(&f->lock);
	free(f);
	fs_iput(ip);
}

void fs_swap_pin(struct fs_file *f)
{
	pthread_mutex_lock(&f->lock);
	if (!f->swap_pinned) {
		f->swap_pinned = true;
		atomic_fetch_add(&f->ip->swap_pins, 1);
	}
	pthread_mutex_unlock(&f->lock);
}

/* ---- End of file -------------------------------------------------------------------------- */

int fs_trim_eofblocks_locked(struct fs_inode *ip)
{
	uint64_t from;
	struct extent e;
	int found = 0;

	if (!fs_is_reg(ip) || !atomic_load(&ip->delalloc->speculated))
		return 0;
	if (atomic_load(&ip->swap_pins))
		return -ETXTBSY;
	lk_lock(&ip->extlock);
	from = fblk_up(ip->fs, i_size_read(&ip->vfs));
	/* Promises past EOF are never anything but speculation. */
	if (da_remove(ip, from, UINT64_MAX, false) + cow_cancel(ip, from, UINT64_MAX))
		atomic_fetch_add(&ip->map_seq, 1);
	if (!ip->delalloc->keep_eof)
		found = ext_find(ip, from, 0, &e);
	lk_unlock(&ip->extlock);
	if (found == 1)
		found = ext_punch_range(ip, from, ext_max_fblk(ip->fs));
	if (found == 0)
		atomic_store(&ip->delalloc->speculated, false);
	return found;
}

int fs_trim_eofblocks(struct fs_inode *ip)
{
	int err;

	if (!lk_trywrlock(&ip->vfs.i_rwsem))
		return -EAGAIN;
	err = fs_trim_eofblocks_locked(ip);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return err;
}

/* SPDX-License-Identifier: MIT */
/* The file system as a whole: sync, statfs, remount, shutdown, counters. */
#include <stdlib.h>

#include "dax.h"
#include "super.h"

/* ---- Changes and their end ----------------------------------------------------------------- */

int fs_start_change(struct fs *fs, unsigned flags)
{
	if (!(flags & FS_NOWAIT))
		lk_rdlock(&fs->freeze_lock);
	else if (!lk_tryrdlock(&fs->freeze_lock))
		return -EAGAIN;
	if (fs_is_readonly(fs) || fs_is_shutdown(fs)) {
		lk_rw_unlock(&fs->freeze_lock);
		return fs_is_forced_down(fs) ? -EIO : -EROFS;
	}
	return 0;
}

void fs_end_change(struct fs *fs)
{
	lk_rw_unlock(&fs->freeze_lock);
}

static const char *name_of(const struct fs *fs)
{
	return fs->bd->name ? fs->bd->name : "iomapfs";
}

void fs_journal_aborted(void *arg, int err, const char *why)
{
	struct fs *fs = arg;

	/* Any lock may be held here. */
	if (atomic_exchange(&fs->shutdown, true))
		return;
	if (!fs_is_forced_down(fs))
		log_err("%s: stopped after an error (%s: %s): the file system is read-only now, "
			"run fsck.iomapfs after unmounting",
			name_of(fs), why, strerror(-err));
}

void fs_shutdown(struct fs *fs, const char *why)
{
	if (fs_is_shutdown(fs))
		return;
	if (!fs_is_readonly(fs))
		jnl_abort(fs->jnl, -EIO, why);
	else
		atomic_store(&fs->shutdown, true);
}

int fs_force_down(struct fs *fs, bool sync)
{
	int err = sync ? fs_sync(fs) : 0;

	if (atomic_exchange(&fs->forced_down, true))
		return err;
	log_warn("%s: shut down as was asked for, %s writing everything back%s: until it is unmounted every "
		 "request fails with EIO; the next mount recovers what is on the device",
		 name_of(fs), sync ? "after" : "without", err ? " (which failed)" : "");
	fs_shutdown(fs, "forced down");
	return err;
}

bool fs_is_forced_down(const struct fs *fs)
{
	return atomic_load(&fs->forced_down);
}

int fs_corrupt(struct fs *fs, const char *where, uint64_t id, const char *test)
{
	log_err("corruption in %s %llu: %s", where, (unsigned long long)id, test);
	if (fs->opts.errors != FS_ERRORS_CONTINUE && !fs_is_readonly(fs))
		jnl_abort(fs->jnl, -EFSCORRUPTED, test);
	return -EFSCORRUPTED;
}

bool fs_is_shutdown(const struct fs *fs)
{
	return atomic_load(&fs->shutdown);
}

bool fs_is_readonly(const struct fs *fs)
{
	return atomic_load(&fs->readonly);
}

const struct sb_info *fs_sb(const struct fs *fs)
{
	return &fs->sb;
}

const struct fs_mount_opts *fs_options(const struct fs *fs)
{
	return &fs->opts;
}

struct bd *fs_bd(const struct fs *fs)
{
	return fs->bd;
}

/* ---- Flushing -------------------------------------------------------------------------------- */

int fs_commit_and_flush(struct fs *fs, jnl_tid_t tid)
{
	bool flushed = false;
	int err;

	err = jnl_commit_wait(fs->jnl, tid, &flushed);
	if (!err && !flushed && !TEST_BREAK("missing-flush"))
		err = bd_flush(fs->bd);
	return err;
}

int fs_write_everything(struct fs *fs)
{
	int err, ret;

	if (fs_is_readonly(fs))
		return 0;
	if (fs_is_shutdown(fs))
		return -EIO;
	err = folio_cache_sync(fs->fc, true);
	ret = fs_dax_flush_all(fs);
	if (!err)
		err = ret;
	/* Conversions of what was written are changes of their own. */
	work_pool_drain(fs->ioend_pool);
	ret = fs_flush_dirty_inodes(fs);
	if (!err)
		err = ret;
	ret = fs_commit_and_flush(fs, jnl_running_tid(fs->jnl));
	return err ? err : ret;
}

int fs_sync(struct fs *fs)
{
	return fs_write_everything(fs);
}

void fs_drop_caches(struct fs *fs)
{
	if (!fs_is_readonly(fs) && !fs_is_shutdown(fs))
		(void)fs_flush_dirty_inodes(fs);
	folio_cache_drop_clean(fs->fc);
	icache_shrink(fs, true);
	buf_cache_shrink(fs->bc);
}

int fs_quiesce(struct fs *fs)
{
	int err = fs_flush_delalloc(fs);

	if (!err)
		err = fs_write_everything(fs);
	/* Evicting the last users of unlinked files frees those. */
	icache_shrink(fs, true);
	work_pool_drain(fs->bg_pool);
	if (!err)
		err = fs_write_everything(fs);
	/* What that freed stays busy until a commit, and with discard until it was discarded. */
	work_pool_drain(fs->bg_pool);
	return err;
}

/* ---- Numbers ------------------------------------------------------------------------------------ */

int fs_statfs(struct fs *fs, struct statvfs *st)
{
	uint64_t free_bytes = 0, inodes = 0, kept = 0;
	struct space_counts c;
	int64_t avail;

	for (uint32_t i = 0; i < fs->sb.nr_ags; i++) {
		free_bytes += atomic_load(&fs->ags[i].stat_free_bytes);
		inodes += atomic_load(&fs->ags[i].stat_inodes);
		kept += ag_set_aside(&fs->ags[i]);
	}
	space_get(fs, &c);
	avail = c.free - c.reserved - c.pool;
	memset(st, 0, sizeof(*st));
	st->f_bsize = st->f_frsize = fs->block_size;
	st->f_blocks = fs->sb.nr_blocks -
		       (fs->sb.jnl_len << OD_MBLK_SHIFT >> fs->block_shift) -
		       fs->sb.nr_ags * ((uint64_t)OD_AG_HEAD_SIZE >> fs->block_shift);
	st->f_bfree = free_bytes >> fs->block_shift;
	st->f_bfree -= MIN(st->f_bfree, (uint64_t)MAX(c.reserved, 0));
	kept += (uint64_t)c.pool;
	st->f_bavail = avail > 0 && st->f_bfree > kept ? st->f_bfree - kept : 0;
	/* Inodes are made of free space as needed. */
	st->f_ffree = st->f_favail = st->f_bavail * (fs->block_size / OD_INODE_SIZE);
	st->f_files = inodes + st->f_ffree;
	st->f_namemax = OD_NAME_MAX;
	memcpy(&st->f_fsid, fs->sb.uuid, sizeof(st->f_fsid));
	st->f_flag = fs_is_readonly(fs) || fs_is_shutdown(fs) ? ST_RDONLY : 0;
	return 0;
}

void fs_get_stats(struct fs *fs, struct fs_stats *st)
{
	struct buf_cache_stats b;
	struct bd_stats d;
	struct jnl_stats j;
	struct space_counts c;
	uint64_t free_bytes = 0;

	memset(st, 0, sizeof(*st));
	folio_cache_get_stats(fs->fc, &st->folio);
	buf_cache_get_stats(fs->bc, &b);
	jnl_get_stats(fs->jnl, &j);
	space_get(fs, &c);
	for (uint32_t i = 0; i < fs->sb.nr_ags; i++) {
		free_bytes += atomic_load(&fs->ags[i].stat_free_bytes);
		st->inodes_used += atomic_load(&fs->ags[i].stat_inodes);
	}
	st->buf_cached = b.cached;
	st->buf_pinned = b.pinned;
	st->buf_hits = b.hits;
	st->buf_misses = b.misses;
	st->jnl_commits = j.commits;
	st->jnl_handles = j.handles;
	st->jnl_blocks = j.blocks_logged;
	st->jnl_checkpointed = j.checkpointed;
	st->jnl_log_blocks = j.log_blocks;
	st->jnl_log_free = j.log_free;
	st->blocks_total = fs->sb.nr_blocks;
	st->blocks_free = free_bytes >> fs->block_shift;
	st->blocks_reserved = (uint64_t)MAX(c.reserved, 0);
	st->blocks_delalloc = st->blocks_reserved;
	st->alloc_calls = atomic_load(&fs->stat_alloc_calls);
	st->alloc_blocks = atomic_load(&fs->stat_alloc_blocks);
	st->free_calls = atomic_load(&fs->stat_free_calls);
	st->extents_split = atomic_load(&fs->stat_splits);
	icache_counts(fs, &st->icache_inodes, &st->icache_dirty);
	bd_get_stats(fs->bd, &d);
	st->device_reads = d.reads;
	st->device_writes = d.writes;
	st->device_flushes = d.flushes;
	st->device_read_bytes = d.read_bytes;
	st->device_write_bytes = d.write_bytes;
	st->device_persists = d.persists;
	st->device_persist_bytes = d.persist_bytes;
}

/* ---- Remount ---------------------------------------------------------------------------------------- */

static int remount_ro(struct fs *fs)
{
	int err = fs_write_everything(fs);

	/* From here on nobody starts a change; those under way hold the lock shared. */
	lk_wrlock(&fs->freeze_lock);
	if (!err)
		err = fs_write_everything(fs);
	work_pool_drain(fs->bg_pool);
	if (!err)
		err = jnl_checkpoint(fs->jnl);
	if (!err)
		atomic_store(&fs->readonly, true);
	lk_rw_unlock(&fs->freeze_lock);
	return err;
}

static int remount_rw(struct fs *fs, struct fs_error *err)
{
	const char *name = name_of(fs);

	if (fs_is_shutdown(fs)) {
		fs_error_set(err, "%s stopped after an error: unmount it and run fsck.iomapfs", name);
		return -EROFS;
	}
	if (fs->mounted_readonly) {
		/* Its journal was replayed into memory only. */
		fs_error_set(err, "%s was mounted read-only from the start: unmount it and mount it "
			     "again to write", name);
		return -EBUSY;
	}
	atomic_store(&fs->readonly, false);
	return 0;
}

int fs_remount(struct fs *fs, const struct fs_mount_opts *opts, struct fs_error *err)
{
	int ret = 0;

	if (fs_is_forced_down(fs)) {
		fs_error_set(err, "%s was shut down: unmount it and mount it again", name_of(fs));
		return -EIO;
	}
	if (opts->readonly && !fs_is_readonly(fs))
		ret = remount_ro(fs);
	else if (!opts->readonly && fs_is_readonly(fs))
		ret = remount_rw(fs, err);
	if (ret) {
		if (!err->text[0])
			fs_error_set(err, "remount failed: %s", strerror(-ret));
		return ret;
	}
	lk_wrlock(&fs->freeze_lock);
	fs->opts.readonly = opts->readonly;
	fs->opts.atime = opts->atime;
	fs->opts.nodiratime = opts->nodiratime;
	fs->opts.discard = opts->discard;
	if (opts->commit_interval_ms)
		fs->opts.commit_interval_ms = opts->commit_interval_ms;
	lk_rw_unlock(&fs->freeze_lock);
	return 0;
}

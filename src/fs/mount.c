/* SPDX-License-Identifier: MIT */
/* Mount and unmount: every part is made in one order and ended in the other. */
#include <stdlib.h>
#include <unistd.h>

#include "dax.h"
#include "super.h"

#define MEMORY_DEFAULT (256ull << 20)
#define MEMORY_MIN     (16ull << 20)
#define FOLIO_MIN      (8ull << 20)
#define COMMIT_DEFAULT_MS 5000u
#define DIRTY_EXPIRE_NS (5ull * 1000000000)

static const char damaged_advice[] = "run fsck.iomapfs, or mount it with -o ro to save what "
				     "can be read";

static const char *dev_name(const struct bd *bd)
{
	return bd->name ? bd->name : "device";
}

/* ---- What is allowed ------------------------------------------------------------------------ */

static int check_options(struct bd *bd, const struct fs_mount_opts *o, struct fs_error *err)
{
	if (o->norecovery && !o->readonly) {
		fs_error_set(err, "norecovery works only together with ro");
		return -EINVAL;
	}
	if (bd->info.readonly && !o->readonly) {
		fs_error_set(err, "%s can not be written: mount it with -o ro", dev_name(bd));
		return -EROFS;
	}
	return 0;
}

static int check_features(struct fs *fs, struct fs_error *err)
{
	uint64_t bits;
	const char *word;

	switch (od_features_check(&fs->sb, &bits, &word)) {
	case OD_MOUNT_RW:
		return 0;
	case OD_MOUNT_RO_ONLY:
		if (fs->opts.readonly)
			return 0;
		fs_error_set(err, "%s uses features this version can only read (%s %#llx): mount it "
			     "with -o ro, or use a newer iomapfs",
			     dev_name(fs->bd), word, (unsigned long long)bits);
		return -EOPNOTSUPP;
	default:
		fs_error_set(err, "%s uses features this version does not know (%s %#llx): use a "
			     "newer iomapfs", dev_name(fs->bd), word, (unsigned long long)bits);
		return -EOPNOTSUPP;
	}
}

static void set_options(struct fs *fs, const struct fs_mount_opts *opts)
{
	fs->opts = *opts;
	if (!fs->opts.commit_interval_ms)
		fs->opts.commit_interval_ms = COMMIT_DEFAULT_MS;
	if (!fs->opts.memory_bytes)
		fs->opts.memory_bytes = MEMORY_DEFAULT;
	fs->opts.memory_bytes = MAX(fs->opts.memory_bytes, MEMORY_MIN);
	if (fs->opts.errors == FS_ERRORS_DEFAULT)
		fs->opts.errors = fs->sb.errors_behaviour == 1 ? FS_ERRORS_CONTINUE :
								  FS_ERRORS_REMOUNT_RO;
	atomic_store(&fs->readonly, fs->opts.readonly);
	fs->mounted_readonly = fs->opts.readonly;
}

/* ---- Parts -------------------------------------------------------------------------------------- */

/* Of the memory: an eighth each for metadata, the journal's images, and inodes; the rest for contents. */
static int make_caches(struct fs *fs)
{
	uint64_t mem = fs->opts.memory_bytes;
	uint64_t folios = MAX(mem - 3 * (mem / 8), FOLIO_MIN);
	struct folio_cache_params p = {
		.limit_bytes = folios,
		.dirty_background_bytes = folios / 8,
		.dirty_limit_bytes = folios / 2,
		.dirty_expire_ns = DIRTY_EXPIRE_NS,
		.nr_flushers = 2,
	};
	int err = buf_cache_create(fs->bd, &fs->od, mem / 8, &fs->bc);

	if (!err)
		err = folio_cache_create(&p, &fs->fc);
	if (!err)
		err = icache_create(fs, mem / 8);
	return err;
}

static unsigned nr_workers(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 2 ? 2 : n > 8 ? 8 : (unsigned)n;
}

static int make_workers(struct fs *fs)
{
	int err = work_pool_create("iomapfs-ioend", nr_workers(), &fs->ioend_pool);

	if (!err)
		err = work_pool_create("iomapfs-work", 2, &fs->bg_pool);
	if (!err)
		err = work_pool_create("iomapfs-dio", nr_workers(), &fs->dio_pool);
	return err;
}

static int open_journal(struct fs *fs, struct fs_error *err)
{
	struct jnl_params p = {
		.commit_interval_ms = fs->opts.commit_interval_ms,
		.memory_bytes = fs->opts.memory_bytes / 8,
		.readonly = fs->opts.readonly,
		.norecovery = fs->opts.norecovery,
	};
	struct jnl_stats st;
	int ret = jnl_open(fs->bd, fs->bc, &fs->od, &p, &fs->jnl);

	if (ret == -EFSCORRUPTED && p.readonly && !p.norecovery) {
		log_warn("%s: the journal is damaged: what it holds is not seen by this mount, and "
			 "files may look half changed: run fsck.iomapfs", dev_name(fs->bd));
		p.norecovery = true;
		ret = jnl_open(fs->bd, fs->bc, &fs->od, &p, &fs->jnl);
	}
	if (ret) {
		fs_error_set(err, "the journal of %s can not be opened (%s): %s", dev_name(fs->bd),
			     strerror(-ret), damaged_advice);
		return ret;
	}
	jnl_set_abort_fn(fs->jnl, fs_journal_aborted, fs);
	jnl_get_stats(fs->jnl, &st);
	if (!st.replayed_transactions)
		return 0;
	fs_sb_reread(fs);
	log_info("%s: replayed %llu transactions of the journal%s", dev_name(fs->bd),
		 (unsigned long long)st.replayed_transactions, fs->opts.readonly ? " in memory" : "");
	return 0;
}

/* The root must be there, and finishing orphans needs everything else in place. */
static int check_root(struct fs *fs, struct fs_error *err)
{
	struct fs_inode *root;
	int ret = fs_iget(fs, FS_ROOT_INO, 0, &root);

	if (!ret && !S_ISDIR(root->mode)) {
		fs_iput(root);
		ret = -EFSCORRUPTED;
	} else if (!ret) {
		fs_iput(root);
	}
	if (ret)
		fs_error_set(err, "the root directory of %s can not be read (%s): run fsck.iomapfs",
			     dev_name(fs->bd), strerror(-ret));
	return ret;
}

static int make_all(struct fs *fs, struct fs_error *err)
{
	int ret = make_caches(fs);

	if (!ret)
		ret = make_workers(fs);
	if (!ret)
		ret = fs_iodev_create(fs);
	if (!ret)
		ret = fs_dax_start(fs, err);
	if (!ret)
		ret = space_init(fs);
	if (ret)
		return ret;
	ret = fs_mmp_start(fs, err);
	if (!ret)
		ret = open_journal(fs, err);
	/* Of a newer version too, if one wrote the log. */
	if (!ret)
		ret = check_features(fs, err);
	if (ret)
		return ret;
	ret = ag_load_all(fs);
	if (ret) {
		fs_error_set(err, "an allocation group of %s can not be read (%s): %s",
			     dev_name(fs->bd), strerror(-ret), damaged_advice);
		return ret;
	}
	ret = check_root(fs, err);
	if (!ret && !fs->opts.readonly)
		ret = orphan_recover(fs);
	if (!ret)
		ret = fs_bg_start(fs);
	return ret ? ret : fs_mmp_arm(fs, err);
}

/* Ends whatever make_all has made. */
/*
 * Nothing is dirty, or what is will never be written. An inode whose last write has just ended
 * is held by its completion for a moment more.
 */
static void evict_all(struct fs *fs)
{
	const struct timespec moment = { .tv_nsec = 100000 };
	uint64_t left, dirty;

	for (unsigned tries = 0; tries < 100000; tries++) {
		icache_shrink(fs, true);
		icache_counts(fs, &left, &dirty);
		if (!left)
			break;
		nanosleep(&moment, NULL);
	}
}

static int end_all(struct fs *fs)
{
	int err = 0, ret;

	fs_bg_stop(fs);
	if (fs->icache) {
		evict_all(fs);
		if (fs->bg_pool)
			work_pool_drain(fs->bg_pool);
	}
	if (fs->jnl)
		err = jnl_close(fs->jnl);
	/* The last commit may have queued discards; their extents are busy until then. */
	if (fs->bg_pool)
		work_pool_destroy(fs->bg_pool);
	if (fs->dio_pool)
		work_pool_destroy(fs->dio_pool);
	if (fs->ioend_pool)
		work_pool_destroy(fs->ioend_pool);
	ag_unload_all(fs);
	icache_destroy(fs);
	space_destroy(fs);
	if (fs->fc)
		folio_cache_destroy(fs->fc);
	if (fs->bc)
		buf_cache_destroy(fs->bc);
	fs_dax_stop(fs);
	fs_iodev_destroy(fs);
	ret = fs->opts.readonly ? 0 : bd_flush(fs->bd);
	fs_mmp_stop(fs);
	lk_mutex_destroy(&fs->rename_lock);
	lk_rw_destroy(&fs->freeze_lock);
	free(fs);
	return err ? err : ret;
}

int fs_mount(struct bd *bd, const struct fs_mount_opts *opts, struct fs **out, struct fs_error *err)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int ret;

	memset(err, 0, sizeof(*err));
	if (!fs)
		return -ENOMEM;
	ret = check_options(bd, opts, err);
	if (!ret)
		ret = fs_sb_read(bd, &fs->sb, err);
	if (ret) {
		free(fs);
		return ret;
	}
	fs->bd = bd;
	fs->block_shift = fs->sb.block_shift;
	fs->block_size = 1u << fs->block_shift;
	od_ctx_init(&fs->od, &fs->sb);
	lk_rw_init(&fs->freeze_lock, LK_FS_MOUNT, "freeze");
	lk_mutex_init(&fs->rename_lock, LK_FS_RENAME, "rename");
	set_options(fs, opts);
	ret = check_features(fs, err);
	if (!ret)
		ret = make_all(fs, err);
	if (ret) {
		if (!err->text[0])
			fs_error_set(err, "%s can not be mounted: %s", dev_name(bd), strerror(-ret));
		end_all(fs);
		return ret;
	}
	*out = fs;
	return 0;
}

static void count_unwritten(struct fs_inode *ip, void *arg)
{
	lk_lock(&ip->extlock);
	if (ip->delalloc_blocks || atomic_load(&ip->vfs.i_mapping.nr_dirty))
		++*(uint64_t *)arg;
	lk_unlock(&ip->extlock);
}

int fs_unmount(struct fs *fs)
{
	const bool forced = fs_is_forced_down(fs);
	struct bd *bd = fs->bd;
	uint64_t unwritten = 0;
	int err = 0, ret;

	fs_bg_stop(fs);
	if (!fs_is_readonly(fs)) {
		err = fs_quiesce(fs);
		/* Pages that damage kept from getting a place: their files heard of it, we did not. */
		icache_for_each(fs, count_unwritten, &unwritten);
		if (!err && unwritten)
			err = -EIO;
		/* What can not be written now never will be: let the inodes go without. */
		if (err)
			fs_shutdown(fs, "unmount could not write everything");
	}
	ret = end_all(fs);
	bd_close(bd);
	/* What is lost now was given up when it was asked for. */
	if (forced)
		return 0;
	return err ? err : ret;
}

/* SPDX-License-Identifier: MIT */
/* fsync and its relatives: data written and waited for, then the log, then the device. */
#include "dax.h"
#include "super.h"

int fs_sync_inode_log(struct fs_inode *ip, bool datasync)
{
	jnl_tid_t tid;
	bool all;
	int err = 0;

	/* Contents inside the inode are logged with it, whenever that happens. */
	lk_lock(&ip->extlock);
	all = !datasync || ip->data_fmt == OD_DATA_INLINE;
	lk_unlock(&ip->extlock);
	if (all)
		err = fs_inode_flush(ip);
	if (err)
		return err;
	lk_lock(&ip->extlock);
	tid = all ? ip->last_tid : ip->data_tid;
	lk_unlock(&ip->extlock);
	return fs_commit_and_flush(ip->fs, tid);
}

int fs_write_and_wait(struct fs_inode *ip, uint64_t start, uint64_t end)
{
	int err = filemap_write_and_wait_range(&ip->vfs.i_mapping, start, end);

	if (!err && fs_is_dax(ip))
		err = dax_writeback_mapping_range(&ip->vfs, ip->fs->dax, start, end);
	return err;
}

int fs_sync_range(struct fs_inode *ip, uint64_t start, uint64_t end, bool datasync)
{
	int err;

	if (ip->fs->readonly)
		return 0;
	err = fs_write_and_wait(ip, start, end);
	return err ? err : fs_sync_inode_log(ip, datasync);
}

int fs_fsync(struct fs_ctx *ctx, struct fs_file *f, bool datasync)
{
	struct fs_inode *ip = f->ip;
	struct address_space *m = &ip->vfs.i_mapping;
	int err, wb_err, dax_err = 0;

	if (ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (fs_is_shutdown(ip->fs))
		return -EIO;
	/* What went wrong is told by the sequence, once for each handle. */
	filemap_write_and_wait_range(m, 0, UINT64_MAX);
	if (fs_is_dax(ip))
		dax_err = dax_writeback_mapping_range(&ip->vfs, ip->fs->dax, 0, UINT64_MAX);
	pthread_mutex_lock(&f->lock);
	wb_err = errseq_check_and_advance(&m->wb_err, &f->wb_err);
	pthread_mutex_unlock(&f->lock);
	err = ip->fs->readonly ? 0 : fs_sync_inode_log(ip, datasync);
	return wb_err ? wb_err : dax_err ? dax_err : err;
}

/* Every change of a directory logs its inode with the names: its last transaction holds them all. */
int fs_fsync_dir(struct fs_ctx *ctx, struct fs_inode *dir, bool datasync)
{
	if (ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (fs_is_shutdown(dir->fs))
		return -EIO;
	return dir->fs->readonly ? 0 : fs_sync_inode_log(dir, false);
}

int fs_inode_writeback(struct fs_inode *ip, bool wait)
{
	int err = 0, log_err;

	if (fs_is_reg(ip)) {
		if (!wait)
			return filemap_fdatawrite_range(&ip->vfs.i_mapping, 0, UINT64_MAX,
							WB_SYNC_NONE);
		err = fs_write_and_wait(ip, 0, UINT64_MAX);
	}
	if (!wait)
		return 0;
	log_err = fs_inode_flush(ip);
	return err ? err : log_err;
}

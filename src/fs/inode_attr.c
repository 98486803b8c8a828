/* SPDX-License-Identifier: MIT */
/* Attributes: stat, chmod, chown, utimes, inode flags, access times. */
#include "icache.h"

int fs_getattr(struct fs_ctx *ctx, struct fs_inode *ip, struct fs_attr *out)
{
	const struct fs *fs = ip->fs;

	if (atomic_load(&ip->state) & FS_I_BAD)
		return -EFSCORRUPTED;
	/* Held by others for short changes in memory, but also over allocations. */
	if (!(ctx->flags & FS_NOWAIT))
		lk_lock(&ip->extlock);
	else if (!lk_trylock(&ip->extlock))
		return -EAGAIN;
	*out = (struct fs_attr){
		.ino = ip->ino,
		.size = S_ISREG(ip->mode) ? i_size_read(&ip->vfs) : ip->disk_size,
		.blocks = ip->nr_blocks + (ip->delalloc_blocks << (fs->block_shift - 9)),
		.mode = ip->mode,
		.nlink = ip->nlink,
		.uid = ip->uid,
		.gid = ip->gid,
		.rdev_major = ip->rdev_major,
		.rdev_minor = ip->rdev_minor,
		.blksize = fs->block_size,
		.flags = ip->flags,
		.projid = ip->projid,
		.gen = ip->gen,
		.version = ip->version,
		.atime = ip->atime,
		.mtime = ip->mtime,
		.ctime = ip->ctime,
		.btime = ip->btime,
	};
	lk_unlock(&ip->extlock);
	return 0;
}

#define SET_OWNER (FS_SET_MODE | FS_SET_UID | FS_SET_GID)
#define SET_TIMES \
	(FS_SET_ATIME | FS_SET_MTIME | FS_SET_CTIME | FS_SET_ATIME_NOW | FS_SET_MTIME_NOW)

/* What immutable and append-only files refuse (chattr(1)). */
static int may_set(struct fs_inode *ip, unsigned set)
{
	uint32_t flags;

	lk_lock(&ip->extlock);
	flags = ip->flags;
	lk_unlock(&ip->extlock);
	if (flags & OD_FL_IMMUTABLE)
		return set & (SET_OWNER | SET_TIMES | FS_SET_SIZE) ? -EPERM : 0;
	/* Append-only: touch(1) to the current time is allowed. */
	if (flags & OD_FL_APPEND &&
	    set & (SET_OWNER | FS_SET_SIZE | FS_SET_ATIME | FS_SET_MTIME))
		return -EPERM;
	return 0;
}

static void set_owner(struct fs_inode *ip, unsigned set, const struct fs_attr *in)
{
	if (set & FS_SET_MODE)
		ip->mode = (ip->mode & S_IFMT) | (in->mode & 07777);
	if (set & FS_SET_UID)
		ip->uid = in->uid;
	if (set & FS_SET_GID)
		ip->gid = in->gid;
}

static void set_times(struct fs_inode *ip, unsigned set, const struct fs_attr *in)
{
	struct timespec now = clock_real_ts();

	if (set & FS_SET_ATIME_NOW)
		ip->atime = now;
	else if (set & FS_SET_ATIME)
		ip->atime = in->atime;
	if (set & FS_SET_MTIME_NOW)
		ip->mtime = now;
	else if (set & FS_SET_MTIME)
		ip->mtime = in->mtime;
	ip->ctime = set & FS_SET_CTIME ? in->ctime : now;
	ip->version++;
}

/* Owner and mode are logged at once; times alone reach the disk with the next flush or fsync. */
static int apply(struct fs_ctx *ctx, struct fs_inode *ip, unsigned set, const struct fs_attr *in)
{
	struct jnl_handle *h = NULL;
	int err;

	if (set & SET_OWNER) {
		err = fs_ilog_prepare(ip, ctx->flags);
		if (!err)
			err = jnl_start(ip->fs->jnl, 1, ctx->flags & FS_NOWAIT ? JNL_NOWAIT : 0,
					&h);
		if (err)
			return err;
	}
	if (!h && ctx->flags & FS_NOWAIT) {
		if (!lk_trylock(&ip->extlock))
			return -EAGAIN;
	} else {
		lk_lock(&ip->extlock);
	}
	set_owner(ip, set, in);
	set_times(ip, set, in);
	if (h)
		fs_ilog(h, ip, false);
	else
		fs_mark_inode_dirty(ip);
	lk_unlock(&ip->extlock);
	if (h)
		jnl_stop(h);
	return 0;
}

static int times_ok(unsigned set, const struct fs_attr *in)
{
	const struct timespec *t[] = { &in->atime, &in->mtime, &in->ctime };
	const unsigned bit[] = { FS_SET_ATIME, FS_SET_MTIME, FS_SET_CTIME };

	for (unsigned i = 0; i < ARRAY_SIZE(bit); i++)
		if (set & bit[i] && (t[i]->tv_nsec < 0 || t[i]->tv_nsec >= 1000000000))
			return -EINVAL;
	return 0;
}

/* All but the size, under an exclusive i_rwsem: an ACL and the mode change together. */
static int set_locked(struct fs_ctx *ctx, struct fs_inode *ip, unsigned set,
		      const struct fs_attr *in)
{
	int err = 0;

	if (ctx->flags & FS_NOWAIT) {
		if (!lk_trywrlock(&ip->vfs.i_rwsem))
			return -EAGAIN;
	} else {
		lk_wrlock(&ip->vfs.i_rwsem);
	}
	if (set & FS_SET_KILL_SUIDGID)
		err = fs_kill_priv(ctx, ip, true);
	if (!err && set & FS_SET_MODE)
		err = acl_chmod(ctx, ip, (ip->mode & S_IFMT) | (in->mode & 07777));
	if (!err && set & (SET_OWNER | SET_TIMES))
		err = apply(ctx, ip, set, in);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	return err;
}

int fs_setattr(struct fs_ctx *ctx, struct fs_inode *ip, unsigned set, const struct fs_attr *in,
	       struct fs_attr *out)
{
	struct fs_ctx wait = *ctx;
	int err = fs_start_change(ip->fs, ctx->flags);

	if (err)
		return err;
	err = atomic_load(&ip->state) & FS_I_BAD ? -EFSCORRUPTED : times_ok(set, in);
	if (!err)
		err = may_set(ip, set);
	if (!err && set & FS_SET_SIZE) {
		err = fs_setsize(ctx, ip, in->size);
		/* The size has changed: from here on there is no -EAGAIN. */
		wait.flags &= ~FS_NOWAIT;
	}
	if (!err && set & (SET_OWNER | SET_TIMES | FS_SET_KILL_SUIDGID))
		err = set_locked(&wait, ip, set, in);
	fs_end_change(ip->fs);
	wait.flags &= ~FS_NOWAIT;
	if (!err && out)
		err = fs_getattr(&wait, ip, out);
	return err;
}

/* What users may set on which type: as the kernel's local file systems. */
static uint32_t settable_flags(mode_t mode)
{
	uint32_t any = OD_FL_NODUMP | OD_FL_NOATIME;

	if (S_ISDIR(mode))
		return OD_FL_KNOWN & ~OD_FL_DAX;
	if (S_ISREG(mode))
		return any | OD_FL_SYNC | OD_FL_IMMUTABLE | OD_FL_APPEND;
	return any;
}

int fs_set_flags(struct fs_ctx *ctx, struct fs_inode *ip, uint32_t flags, uint32_t projid)
{
	struct jnl_handle *h;
	int err;

	if (flags & ~settable_flags(ip->mode))
		return -EOPNOTSUPP;
	err = fs_start_change(ip->fs, ctx->flags);
	if (err)
		return err;
	if (ctx->flags & FS_NOWAIT) {
		if (!lk_trywrlock(&ip->vfs.i_rwsem)) {
			err = -EAGAIN;
			goto out_end_change;
		}
	} else {
		lk_wrlock(&ip->vfs.i_rwsem);
	}
	err = fs_ilog_prepare(ip, ctx->flags);
	if (!err)
		err = jnl_start(ip->fs->jnl, 1, ctx->flags & FS_NOWAIT ? JNL_NOWAIT : 0, &h);
	if (err)
		goto out_unlock;
	lk_lock(&ip->extlock);
	ip->flags = flags;
	ip->projid = projid;
	ip->ctime = clock_real_ts();
	ip->version++;
	fs_ilog(h, ip, false);
	lk_unlock(&ip->extlock);
	jnl_stop(h);
out_unlock:
	lk_rw_unlock(&ip->vfs.i_rwsem);
out_end_change:
	fs_end_change(ip->fs);
	return err;
}

static bool before(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

void fs_touch_atime(struct fs_inode *ip)
{
	const struct fs *fs = ip->fs;
	struct timespec now = clock_real_ts();

	if (fs->opts.atime == FS_ATIME_NOATIME || fs_is_readonly(fs) || fs_is_shutdown(fs))
		return;
	/* Reads must not wait for an allocation; an access time more or less is no loss. */
	if (!lk_trylock(&ip->extlock))
		return;
	if (!(ip->flags & OD_FL_NOATIME) && !(fs->opts.nodiratime && S_ISDIR(ip->mode)) &&
	    (!before(ip->mtime, ip->atime) || !before(ip->ctime, ip->atime) ||
	     now.tv_sec - ip->atime.tv_sec >= 24 * 60 * 60)) {
		ip->atime = now;
		fs_mark_inode_dirty(ip);
	}
	lk_unlock(&ip->extlock);
}

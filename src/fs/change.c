/* SPDX-License-Identifier: MIT */
/* The frame of every change of names and attributes: see change.h. */
#include "change.h"

int fs_change_begin(struct fs_change *c, struct fs *fs, const struct fs_ctx *ctx)
{
	*c = (struct fs_change){ .fs = fs, .flags = ctx->flags & FS_NOWAIT };
	return fs_start_change(fs, c->flags);
}

static int change_reserve(struct fs_change *c)
{
	uint64_t want = c->need.fsbs;
	int err;

	if (c->need.allocs)
		want += space_meta_fsbs(c->fs, c->need.allocs);
	if (want <= c->reserved)
		return 0;
	err = space_reserve(c->fs, want - c->reserved, c->hard);
	if (err)
		c->wanted = want; /* for fs_change_again to get */
	else
		c->reserved = want;
	return err;
}

int fs_change_start(struct fs_change *c)
{
	/* A credit is also a revoke: of a block freed, which need not be one that is logged. */
	unsigned credits = MAX(c->need.credits, c->need.frees);
	int err;

	assert(!c->h);
	if (c->need.allocs + c->need.frees)
		credits += ag_mblk_credits(c->fs, c->need.allocs + c->need.frees);
	assert(credits);
	/* Only trees of a height that no real use gives them make a change as large as that. */
	if (credits > JNL_MAX_CREDITS)
		return -ENOSPC;
	err = change_reserve(c);
	if (err)
		return err;
	return jnl_start(c->fs->jnl, credits, c->flags & FS_NOWAIT ? JNL_NOWAIT : 0, &c->h);
}

static void change_unreserve(struct fs_change *c)
{
	if (c->reserved)
		space_unreserve(c->fs, c->reserved);
	c->reserved = 0;
}

void fs_change_stop(struct fs_change *c)
{
	if (c->h) {
		jnl_stop(c->h);
		c->h = NULL;
		change_unreserve(c);
	}
}

bool fs_change_again(struct fs_change *c, int *err)
{
	uint64_t want = c->wanted;
	int ret;

	assert(!c->h);
	c->need = (struct fs_need){ 0 };
	c->wanted = 0;
	if (*err != -ENOSPC || c->made_room || want <= c->reserved)
		return false;
	ret = space_reserve_or_flush(c->fs, want - c->reserved, c->flags);
	if (ret) {
		*err = ret;
		return false;
	}
	c->reserved = want;
	c->made_room = true;
	return true;
}

void fs_change_end(struct fs_change *c)
{
	assert(!c->h);
	change_unreserve(c);
	fs_end_change(c->fs);
}

int fs_change_fail(struct fs_change *c, int err, const char *what)
{
	assert(c->h && err < 0);
	jnl_abort(c->fs->jnl, err, what);
	return -EIO;
}

int fs_lock_dir(const struct fs_change *c, struct fs_inode *ip)
{
	if (!(c->flags & FS_NOWAIT))
		lk_wrlock(&ip->vfs.i_rwsem);
	else if (!lk_trywrlock(&ip->vfs.i_rwsem))
		return -EAGAIN;
	return 0;
}

int fs_lock_nested(const struct fs_change *c, struct fs_inode *ip)
{
	if (!(c->flags & FS_NOWAIT))
		lk_wrlock_nested(&ip->vfs.i_rwsem);
	else if (!lk_trywrlock(&ip->vfs.i_rwsem))
		return -EAGAIN;
	return 0;
}

void fs_stamp(struct fs_inode *ip, bool mtime)
{
	lk_assert_held(&ip->extlock);
	ip->ctime = clock_real_ts();
	if (mtime)
		ip->mtime = ip->ctime;
	ip->version++;
}

void fs_iput_gone(const struct fs_ctx *ctx, struct fs_inode *ip)
{
	if (ctx->gone && fs_is_nameless(ip))
		*ctx->gone = ip;
	else
		fs_iput(ip);
}

mode_t fs_mode_of(struct fs_inode *ip)
{
	mode_t mode;

	lk_lock(&ip->extlock);
	mode = ip->mode;
	lk_unlock(&ip->extlock);
	return mode;
}

uint32_t fs_flags_of(struct fs_inode *ip)
{
	uint32_t flags;

	lk_lock(&ip->extlock);
	flags = ip->flags;
	lk_unlock(&ip->extlock);
	return flags;
}

/* SPDX-License-Identifier: MIT */
/* A file that is changed by others loses what made it run as somebody else. */
#include "extent.h"

/* Set-group-id without group-execute is not a privilege (it used to mean locking). */
static uint32_t priv_bits(uint32_t mode)
{
	uint32_t kill = mode & S_ISUID;

	if ((mode & S_ISGID) && (mode & S_IXGRP))
		kill |= S_ISGID;
	return kill;
}

bool fs_has_priv(struct fs_inode *ip)
{
	bool res;

	lk_lock(&ip->extlock);
	res = priv_bits(ip->mode) != 0;
	lk_unlock(&ip->extlock);
	return res || !atomic_load(&ip->xattr_none);
}

int fs_kill_priv(struct fs_ctx *ctx, struct fs_inode *ip, bool force)
{
	const bool nowait = ctx->flags & FS_NOWAIT;
	const bool caps = !atomic_load(&ip->xattr_none);
	uint32_t kill;
	int err = 0;

	if (!fs_is_reg(ip) || (!force && !(ctx->flags & FS_KILL_SUIDGID)))
		return 0;
	if (!nowait)
		lk_lock(&ip->extlock);
	else if (!lk_trylock(&ip->extlock))
		return -EAGAIN;
	kill = priv_bits(ip->mode);
	if (nowait && (kill || caps)) {
		lk_unlock(&ip->extlock);
		return -EAGAIN;
	}
	if (kill) {
		ip->mode &= ~kill;
		ip->ctime = clock_real_ts();
		ip->version++;
	}
	lk_unlock(&ip->extlock);
	if (kill) {
		/* Logged before the data that follows can be: never new bytes under the old mode. */
		fs_mark_inode_dirty(ip);
		err = fs_inode_flush(ip);
	}
	if (!err && caps) {
		err = xattr_remove_locked(ctx, ip, "security.capability");
		if (!err)
			atomic_store(&ip->xattr_none, true);
	}
	return err;
}

// SPDX-License-Identifier: MIT
/* Between our structures and the wire's. Pure functions. */
#include <linux/stat.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fuse_private.h"

/* The kernel's 32-bit device number: 12 bits of major among 20 of minor (new_encode_dev). */
static uint32_t encode_rdev(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

void fz_encode_attr(const struct fs_attr *a, struct fuse_attr *out)
{
	*out = (struct fuse_attr){
		.ino = a->ino,
		.size = a->size,
		.blocks = a->blocks,
		.atime = (uint64_t)a->atime.tv_sec,
		.mtime = (uint64_t)a->mtime.tv_sec,
		.ctime = (uint64_t)a->ctime.tv_sec,
		.atimensec = (uint32_t)a->atime.tv_nsec,
		.mtimensec = (uint32_t)a->mtime.tv_nsec,
		.ctimensec = (uint32_t)a->ctime.tv_nsec,
		.mode = a->mode,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.rdev = encode_rdev(a->rdev_major, a->rdev_minor),
		.blksize = a->blksize,
	};
}

void fz_encode_entry(const struct fs_attr *a, uint64_t nodeid, struct fuse_entry_out *out)
{
	*out = (struct fuse_entry_out){
		.nodeid = nodeid,
		.generation = a->gen,
		.entry_valid = FZ_FOREVER,
		.attr_valid = FZ_FOREVER,
	};
	fz_encode_attr(a, &out->attr);
}

static struct fz_sx_time sx_time(struct timespec ts)
{
	return (struct fz_sx_time){.tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec};
}

void fz_encode_statx(const struct fs_attr *a, struct fz_statx *out)
{
	uint64_t attributes = 0;

	if (a->flags & OD_FL_IMMUTABLE)
		attributes |= STATX_ATTR_IMMUTABLE;
	if (a->flags & OD_FL_APPEND)
		attributes |= STATX_ATTR_APPEND;
	if (a->flags & OD_FL_NODUMP)
		attributes |= STATX_ATTR_NODUMP;
	*out = (struct fz_statx){
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.blksize = a->blksize,
		.attributes = attributes,
		.attributes_mask = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.mode = (uint16_t)a->mode,
		.ino = a->ino,
		.size = a->size,
		.blocks = a->blocks,
		.atime = sx_time(a->atime),
		.btime = sx_time(a->btime),
		.ctime = sx_time(a->ctime),
		.mtime = sx_time(a->mtime),
		.rdev_major = a->rdev_major,
		.rdev_minor = a->rdev_minor,
	};
}

size_t fz_encode_dirent(void *buf, size_t room, const struct fuse_entry_out *plus, const char *name,
			size_t len, uint64_t ino, unsigned type, uint64_t cookie)
{
	size_t head = plus ? sizeof(*plus) : 0;
	size_t used = FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + len);
	struct fuse_dirent d = {
		.ino = ino,
		.off = cookie,
		.namelen = (uint32_t)len,
		.type = type,
	};
	char *p = buf;

	if (used > room)
		return 0;
	if (plus)
		memcpy(p, plus, sizeof(*plus));
	memcpy(p + head, &d, FUSE_NAME_OFFSET);
	memcpy(p + head + FUSE_NAME_OFFSET, name, len);
	memset(p + head + FUSE_NAME_OFFSET + len, 0, used - head - FUSE_NAME_OFFSET - len);
	return used;
}

unsigned fz_decode_setattr(const struct fuse_setattr_in *in, struct fs_attr *a)
{
	static const struct {
		uint32_t fattr;
		unsigned set;
	} map[] = {
		{FATTR_MODE, FS_SET_MODE},
		{FATTR_UID, FS_SET_UID},
		{FATTR_GID, FS_SET_GID},
		{FATTR_SIZE, FS_SET_SIZE},
		{FATTR_ATIME, FS_SET_ATIME},
		{FATTR_MTIME, FS_SET_MTIME},
		{FATTR_CTIME, FS_SET_CTIME},
		{FATTR_ATIME_NOW, FS_SET_ATIME_NOW},
		{FATTR_MTIME_NOW, FS_SET_MTIME_NOW},
		{FATTR_KILL_SUIDGID, FS_SET_KILL_SUIDGID},
	};
	unsigned set = 0;

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (in->valid & map[i].fattr)
			set |= map[i].set;
	/*
	 * With HANDLE_KILLPRIV_V2 the kernel asks to drop setuid, setgid and capabilities (before
	 * a write of its own cache, fallocate, copy_file_range) by a SETATTR that sets nothing.
	 */
	if (!(in->valid & ~(uint32_t)(FATTR_FH | FATTR_LOCKOWNER)))
		set |= FS_SET_KILL_SUIDGID;
	a->mode = in->mode;
	a->uid = in->uid;
	a->gid = in->gid;
	a->size = in->size;
	a->atime = (struct timespec){(time_t)in->atime, in->atimensec};
	a->mtime = (struct timespec){(time_t)in->mtime, in->mtimensec};
	a->ctime = (struct timespec){(time_t)in->ctime, in->ctimensec};
	return set;
}

bool fz_patch_init(const struct fuse_init_in *offered, struct fuse_init_out *out, bool uring)
{
	uint32_t offered2 = offered->flags & FUSE_INIT_EXT ? offered->flags2 : 0;

	out->flags |= offered->flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT);
	/* Its older form would make the kernel leave suid alone on write. */
	if (out->flags & FUSE_HANDLE_KILLPRIV_V2)
		out->flags &= ~(uint32_t)FUSE_HANDLE_KILLPRIV;
	out->flags2 |= offered2 & (FZ_INIT2_DIRECT_IO_ALLOW_MMAP | (uring ? FZ_INIT2_OVER_IO_URING : 0));
	return out->flags2 & FZ_INIT2_OVER_IO_URING;
}

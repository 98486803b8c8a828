/* SPDX-License-Identifier: MIT */
/* Files of a mount with -o dax: see dax.c, dax_ops.c. */
#ifndef FS_DAX_H
#define FS_DAX_H

#include "extent.h"
#include "iomapfs/dax.h"

/* Constant while mounted. */
static inline bool fs_is_dax(const struct fs_inode *ip)
{
	return ip->fs->dax && fs_is_reg(ip);
}

/* At mount, before any file is looked at: 0 with fs->dax NULL where -o dax was not given. */
int fs_dax_start(struct fs *fs, struct fs_error *err);
void fs_dax_stop(struct fs *fs);

/* dax_ops.c: begin and end for reads; for writes, store faults, zeros and unsharing. */
extern const struct iomap_ops fs_dax_read_iomap_ops;
extern const struct iomap_ops fs_dax_write_iomap_ops;
/*
 * What end does. Its error is lost where bytes were done, so it is asked for again afterwards: what end left
 * undone. Blocks that were staged for [pos, pos + len), and filled, become the file's; invalidate_lock
 * exclusive.
 */
int fs_dax_complete(struct fs_inode *ip, uint64_t pos, uint64_t len);
/* Written to [pos, pos + len): blocks behind EOF are converted, and sizes follow. i_rwsem exclusive. */
int fs_dax_grow(struct fs_inode *ip, uint64_t pos, uint64_t len);

/* i_rwsem shared. */
int64_t fs_dax_read(struct fs_inode *ip, struct kiocb *iocb, struct iov_iter *to);
/* i_rwsem exclusive, contents not inside the inode. Sizes follow. */
int64_t fs_dax_write(struct fs_inode *ip, struct kiocb *iocb, struct iov_iter *from);
/* i_rwsem and invalidate_lock exclusive. */
int fs_dax_zero(struct fs_inode *ip, uint64_t pos, uint64_t len, bool *did_zero);
int fs_dax_truncate_page(struct fs_inode *ip, uint64_t pos, bool *did_zero);
int fs_dax_unshare(struct fs_inode *ip, uint64_t pos, uint64_t len);
/* Stores through areas of the process: durable, in every file. */
int fs_dax_flush_all(struct fs *fs);

#endif

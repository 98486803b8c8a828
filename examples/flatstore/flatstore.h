/* SPDX-License-Identifier: MIT */
/*
 * flatstore - one flat directory of files on a device, served by libiomap: a file system to start from.
 *
 * What it promises: after a crash or a power cut the store is as its last commit left it, except that
 * bytes overwritten in place since then may be old or new. A new file that is renamed over another and
 * then committed replaces it entirely or not at all. Blocks that were never written read as zeros.
 *
 * Any number of threads may read and write files; one at a time does the rest. Several stores may be
 * open in a process. Functions return 0 or bytes, or a negative errno; positions and lengths are bytes.
 */
#ifndef FLATSTORE_H
#define FLATSTORE_H

#include <iomapfs/block.h>
#include <iomapfs/iomap.h>

#define FLATSTORE_NAME 56 /* bytes of a name, with the final 0 */

struct store;

/* -ENOSPC: too small for its own tables; -EFBIG: more blocks than 32 bits count. */
int store_format(struct bd *bd);
/* -EMEDIUMTYPE: no store, of another size, or both tables are damaged. bd stays the caller's. */
int store_open(struct bd *bd, struct store **out);
/* All files are closed. What was not committed is lost. */
void store_close(struct store *st);
/*
 * All that was done before is durable, as a whole. After a failure the store takes no new blocks
 * until it is opened anew, since either table may be the one on the device.
 */
int store_commit(struct store *st);
void store_list(struct store *st, void (*fn)(const char *name, uint64_t size));
/* Of a file that is not open; its blocks are free after the next commit. */
int store_remove(struct store *st, const char *name);
/* `to` is removed if it exists; neither is open. */
int store_rename(struct store *st, const char *from, const char *to);

/* One handle a file. The inode is for iomap_seek_data, iomap_fiemap and their like, up to i_size. */
int file_open(struct store *st, const char *name, bool create, struct inode **out);
/* Writes back what is cached; the error is that of the writeback. The handle is gone in any case. */
int file_close(struct inode *inode);
int64_t file_read(struct inode *inode, uint64_t pos, void *buf, size_t len);
/* direct: around the cache where position and length allow. May write less than asked. */
int64_t file_write(struct inode *inode, uint64_t pos, const void *buf, size_t len, bool direct);

extern const struct iomap_ops flatstore_iomap_ops;

#endif

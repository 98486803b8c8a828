/* SPDX-License-Identifier: MIT */
/* Before a write is told that there is no space: what others hold without using it. */
#include "extent.h"
#include "icache.h"

/*
 * Speculation past EOF is withdrawn where nobody works on the file right now, then promises
 * become blocks, which also gives back what was reserved for the worst allocation. Errors
 * belong to the files concerned and are reported there.
 */
static void flush_one(struct fs_inode *ip, void *arg)
{
	bool promised;

	if (!fs_is_reg(ip))
		return;
	lk_lock(&ip->extlock);
	promised = ip->delalloc_blocks != 0;
	lk_unlock(&ip->extlock);
	if (!promised && !atomic_load(&ip->delalloc->speculated))
		return;
	fs_trim_eofblocks(ip);
	if (promised)
		filemap_write_and_wait_range(&ip->vfs.i_mapping, 0, UINT64_MAX);
}

int fs_flush_delalloc(struct fs *fs)
{
	if (fs_is_shutdown(fs))
		return -EIO;
	icache_for_each(fs, flush_one, NULL);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Repair: which inode is the root. The superblock says it, and no number of it is kept better than
 * another: where the one of the primary leads to no root directory, a copy's may.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fix.h"

/* A sound directory that is its own parent. */
static bool is_root(struct chk *c, uint64_t ino, uint8_t *block)
{
	struct od_inode di;

	if (!od_ino_ok(&c->od, ino) || chk_read(c, od_ino_mblk(ino), block))
		return false;
	memcpy(&di, block + od_ino_offset(ino), sizeof(di));
	return !od_verify_inode(&c->od, &di, ino) && S_ISDIR(le16_get(di.mode)) &&
	       le64_get(di.parent) == ino;
}

int chk_fix_root(struct fix *f)
{
	struct chk *c = f->c;
	uint8_t *block = chk_block_alloc(c);
	bool found = block && is_root(c, c->sb.root_ino, block);

	for (uint32_t agno = 1; block && !found && agno < c->sb.nr_ags; agno++) {
		struct sb_info copy;

		if (chk_read(c, od_ag_start_mblk(&c->od, agno) + OD_AG_SB_MBLK, block) ||
		    od_sb_decode(block, agno, c->bd->info.size, &copy) || !is_root(c, copy.root_ino, block))
			continue;
		found = true;
		c->sb.root_ino = copy.root_ino;
		c->od.root_ino = copy.root_ino;
		if (f->out)
			fprintf(f->out, "superblock: the root is inode %llu, as group %u says\n",
				(unsigned long long)copy.root_ino, agno);
	}
	free(block);
	return c->error;
}

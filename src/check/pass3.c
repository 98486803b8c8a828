/* SPDX-License-Identifier: MIT */
/* Passes 3 and 4: the tree of directories; link counts and orphans. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chk.h"

typedef void (*inode_fn)(struct chk *c, uint64_t ino, struct chk_inode *ci);

static void each_inode(struct chk *c, inode_fn fn)
{
	const unsigned slots = (1u << (c->od.cluster_shift - OD_MBLK_SHIFT)) * OD_INODES_PER_MBLK;
	const struct chk_cluster *cl = c->clusters.data;

	for (size_t i = 0; i < c->clusters.n; i++) {
		for (unsigned bit = 0; bit < slots && !c->error; bit++)
			fn(c, od_ino_make(cl[i].first + bit / OD_INODES_PER_MBLK,
					  bit % OD_INODES_PER_MBLK + 1),
			   &cl[i].inodes[bit]);
		chk_progress(c, i + 1, c->clusters.n);
	}
}

static bool is_dir(const struct chk_inode *ci)
{
	return (ci->flags & CHK_I_USED) && S_ISDIR(ci->mode);
}

static void check_dir(struct chk *c, uint64_t ino, struct chk_inode *ci)
{
	struct od_inode di;

	if (!is_dir(ci))
		return;
	c->res->dirs++;
	chk_at(c, "directory %llu", (unsigned long long)ino);
	if (ci->refs < UINT32_MAX)
		ci->refs++; /* its own "." */
	if (!chk_inode_read(c, ino, &di) || od_verify_inode(&c->od, &di, ino))
		chk_raise(c, CHK_P_INODE_BAD, "%s", "changed while it was checked");
	else
		chk_dir(c, ino, &di);
}

static void check_parent(struct chk *c, uint64_t ino, struct chk_inode *ci)
{
	struct chk_dirinfo info;

	if (!is_dir(ci) || ino == c->sb.root_ino)
		return;
	info = *chk_dirinfo_of(c, ci);
	if (info.found == 0 || info.found == info.parent)
		return;
	chk_at(c, "directory %llu", (unsigned long long)ino);
	chk_raise(c, CHK_P_DIR_PARENT, "it says %llu, its name is in %llu",
		  (unsigned long long)info.parent, (unsigned long long)info.found);
}

/*
 * Follow the directories that hold the names upwards. A chain ends well at the root or at a
 * directory known to end well, and badly at one that has no name (pass 4 tells that) or
 * at one that is on the chain already. Each directory is walked over twice at most.
 */
static struct chk_inode *up_from(struct chk *c, struct chk_inode *at)
{
	/* What is on the chain and no directory has no name of its own to follow. */
	const uint64_t found = is_dir(at) ? chk_dirinfo_of(c, at)->found : 0;

	return found ? chk_inode_get(c, found) : NULL;
}

static void check_reached(struct chk *c, uint64_t ino, struct chk_inode *ci)
{
	struct chk_inode *at;

	if (!is_dir(ci))
		return;
	for (at = ci; at && !(at->flags & (CHK_I_REACHED | CHK_I_ON_PATH)); at = up_from(c, at))
		at->flags |= CHK_I_ON_PATH;
	if (at && (at->flags & CHK_I_ON_PATH)) {
		chk_at(c, "directory %llu", (unsigned long long)ino);
		chk_raise(c, CHK_P_DIR_LOOP, "%s", "");
	}
	for (at = ci; at && (at->flags & CHK_I_ON_PATH); at = up_from(c, at)) {
		at->flags &= (uint16_t)~CHK_I_ON_PATH;
		at->flags |= CHK_I_REACHED; /* or told: once is enough */
	}
}

void chk_pass3(struct chk *c)
{
	struct chk_inode *root;

	each_inode(c, check_dir);
	chk_at(c, "root directory");
	root = chk_inode_get(c, c->sb.root_ino);
	if (!root || !is_dir(root)) {
		if (!root || !(root->flags & CHK_I_BAD))
			chk_raise(c, CHK_P_ROOT_BAD, "inode %llu", (unsigned long long)c->sb.root_ino);
		return;
	}
	root->flags |= CHK_I_REACHED;
	if (chk_dirinfo_of(c, root)->parent != c->sb.root_ino)
		chk_raise(c, CHK_P_DIR_PARENT, "it says %llu, not itself",
			  (unsigned long long)chk_dirinfo_of(c, root)->parent);
	if (root->refs < UINT32_MAX)
		root->refs++; /* "/..", which is the root itself */
	each_inode(c, check_parent);
	each_inode(c, check_reached);
}

static void check_links(struct chk *c, uint64_t ino, struct chk_inode *ci)
{
	const uint32_t dot = S_ISDIR(ci->mode) ? 1 : 0;

	bool lost;

	if (!(ci->flags & CHK_I_USED))
		return;
	chk_at(c, "inode %llu", (unsigned long long)ino);
	if (ci->flags & CHK_I_UNLINKED) {
		if (ci->nlink != 0 || ci->refs > dot)
			chk_raise(c, CHK_P_ORPHAN_LINKED, "link count %u, %u found", ci->nlink,
				  ci->refs);
		return;
	}
	/* Listed for something else is told of the list. */
	if ((ci->flags & (CHK_I_SHIFT | CHK_I_TRUNCATE)) == CHK_I_SHIFT)
		chk_raise(c, CHK_P_SHIFT_LOST, "%s", "");
	lost = S_ISDIR(ci->mode) ? chk_dirinfo_of(c, ci)->found == 0 : ci->refs == 0;
	if (ino != c->sb.root_ino && lost)
		chk_raise(c, CHK_P_INODE_LOST, "link count %u", ci->nlink);
	else if (ci->nlink != ci->refs)
		chk_raise(c, CHK_P_LINK_COUNT, "%u in the inode, %u found", ci->nlink, ci->refs);
}

/* Can what the list wants of it be done? */
static bool can_be(const struct chk_inode *ci, uint64_t kind)
{
	if (kind == OD_ORPHAN_TRUNCATE)
		return S_ISREG(ci->mode) && !(ci->flags & CHK_I_SHIFT);
	return kind != OD_ORPHAN_SHIFT || (ci->flags & CHK_I_SHIFT);
}

static void check_orphan(struct chk *c, const struct chk_orphan *o)
{
	const struct chk_inode *ci = chk_inode_get(c, o->ino);

	chk_at(c, "orphan %llu", (unsigned long long)o->ino);
	if (!ci || !(ci->flags & (CHK_I_USED | CHK_I_BAD)))
		chk_raise(c, CHK_P_ORPHAN_DEAD, "%s", "");
	else if ((ci->flags & CHK_I_USED) && !can_be(ci, o->kind))
		chk_raise(c, CHK_P_ORPHAN_KIND, "%s", "");
	else if (c->clean)
		chk_raise(c, CHK_P_ORPHAN_CLEAN, "%s", "");
}

void chk_pass4(struct chk *c)
{
	const struct chk_orphan *o = c->orphans.data;

	each_inode(c, check_links);
	for (size_t i = 0; i < c->orphans.n; i++)
		check_orphan(c, &o[i]);
}

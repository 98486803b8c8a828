/* SPDX-License-Identifier: MIT */
/*
 * rename, with NOREPLACE, EXCHANGE and WHITEOUT.
 *
 * Locks: a rename between two directories first takes rename_lock, which keeps the tree's
 * shape (only such renames change who is whose ancestor), then the two directories: an
 * ancestor before its descendant, strangers by number; then the target if it is a directory.
 */
#include <fcntl.h>
#include <stdio.h>

#include "names.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE  (1 << 1)
#define RENAME_WHITEOUT  (1 << 2)
#endif

/* One side: a directory, the name in it, and what the name leads to. */
struct side {
	struct fs_inode *dir;
	const char *name;
	size_t len;
	struct dir_entry e;
	struct fs_inode *ip;  /* referenced; NULL: no such name */
	bool is_dir;
};

struct renaming {
	struct fs_ctx *ctx;
	struct side o, n;     /* old and new */
	unsigned flags;       /* RENAME_* */
	bool cross;           /* two directories */
	bool target_locked;
	bool dirty;           /* contents to be written before it may replace others */
	bool settled;         /* which was done, once */
	/* plan */
	bool nothing;         /* both names lead to one inode: done already */
	struct dir_insert ins;
	bool inserts;
};

/* ---- The tree's shape ---------------------------------------------------- */

/*
 * Is `anc` at or above `ip`? 1, 0, errors; rename_lock held. Parents read from a damaged
 * image may run in a circle: a stake, set again at each power of two steps, meets itself there.
 */
static int is_ancestor(const struct fs_change *c, struct fs_inode *anc, struct fs_inode *ip)
{
	uint64_t ino = ip->ino, stake = 0, steps = 0;
	int ret = 0;

	while (ino != anc->ino && ino != c->fs->sb.root_ino) {
		struct fs_inode *p;

		if (ino == stake)
			return fs_corrupt(c->fs, "directory", ino, "own-ancestor");
		if (is_pow2(++steps))
			stake = ino;
		ret = fs_iget(c->fs, ino, c->flags & FS_NOWAIT, &p);
		if (ret)
			return ret == -ESTALE ?
				       fs_corrupt(c->fs, "directory", ino, "parent-missing") :
				       ret;
		ino = fs_parent_ino(p);
		if (!p->dir)
			ret = fs_corrupt(c->fs, "directory", p->ino, "parent-not-a-directory");
		fs_iput(p);
		if (ret)
			return ret;
	}
	return ino == anc->ino;
}

static int lock_two(struct fs_change *c, struct fs_inode *first, struct fs_inode *second)
{
	int err = fs_lock_dir(c, first);

	if (err)
		return err;
	err = fs_lock_nested(c, second);
	if (err)
		lk_rw_unlock(&first->vfs.i_rwsem);
	return err;
}

static int lock_dirs(struct fs_change *c, struct renaming *r)
{
	struct fs_inode *o = r->o.dir, *n = r->n.dir;
	int above, err;

	if (!r->cross)
		return fs_lock_dir(c, o);
	if (!(c->flags & FS_NOWAIT))
		lk_lock(&c->fs->rename_lock);
	else if (!lk_trylock(&c->fs->rename_lock))
		return -EAGAIN;
	above = is_ancestor(c, o, n);
	if (above == 0) {
		above = is_ancestor(c, n, o);
		if (above == 0)
			err = o->ino < n->ino ? lock_two(c, o, n) : lock_two(c, n, o);
		else
			err = above < 0 ? above : lock_two(c, n, o);
	} else {
		err = above < 0 ? above : lock_two(c, o, n);
	}
	if (err)
		lk_unlock(&c->fs->rename_lock);
	return err;
}

static void unlock_dirs(struct fs_change *c, struct renaming *r)
{
	if (r->cross)
		lk_rw_unlock(&r->n.dir->vfs.i_rwsem);
	lk_rw_unlock(&r->o.dir->vfs.i_rwsem);
	if (r->cross)
		lk_unlock(&c->fs->rename_lock);
}

/* ---- Looking and judging ---------------------------------------------------- */

static int find_side(struct fs_change *c, struct side *s)
{
	int err;

	s->ip = NULL;
	s->e.buf = NULL;
	if (!s->dir->dir)
		return -ENOTDIR;
	err = dir_find_inode(s->dir, s->name, s->len, c->flags, &s->e, &s->ip);
	s->is_dir = !err && s->ip->dir;
	return err;
}

static void put_side(struct side *s)
{
	dir_entry_put(&s->e);
	if (s->ip)
		fs_iput(s->ip);
	s->ip = NULL;
}

static int movable(const struct side *s)
{
	return fs_flags_of(s->ip) & (OD_FL_IMMUTABLE | OD_FL_APPEND) ? -EPERM : 0;
}

/* No directory below itself; the target no ancestor of the source. */
static int judge_loops(struct fs_change *c, const struct renaming *r)
{
	bool exchange = r->flags & RENAME_EXCHANGE;
	int ret = 0;

	if (!r->cross)
		return 0;
	if (r->o.is_dir)
		ret = is_ancestor(c, r->o.ip, r->n.dir);
	if (ret)
		return ret < 0 ? ret : -EINVAL;
	if (r->n.ip && r->n.is_dir)
		ret = is_ancestor(c, r->n.ip, r->o.dir);
	if (ret > 0)
		return exchange ? -EINVAL : -ENOTEMPTY;
	return ret;
}

static int judge_target(const struct renaming *r)
{
	const struct side *o = &r->o, *n = &r->n;
	int err;

	if (!n->ip)
		return r->flags & RENAME_EXCHANGE ? -ENOENT : 0;
	if (r->flags & RENAME_NOREPLACE)
		return -EEXIST;
	err = movable(n);
	if (err)
		return err;
	if (r->flags & RENAME_EXCHANGE)
		return dir_project_check(o->dir, n->ip);
	if (o->is_dir && !n->is_dir)
		return -ENOTDIR;
	return !o->is_dir && n->is_dir ? -EISDIR : 0;
}

/* One more ".." in the new parent, unless a directory leaves it as well. */
static int judge_links(const struct renaming *r)
{
	const struct side *s = NULL;
	int err = 0;

	if (!r->cross)
		return 0;
	if (r->o.is_dir && !(r->n.ip && r->n.is_dir))
		s = &r->n;
	else if (!r->o.is_dir && (r->flags & RENAME_EXCHANGE) && r->n.is_dir)
		s = &r->o;
	if (s) {
		lk_lock(&s->dir->extlock);
		err = s->dir->nlink >= OD_LINK_MAX ? -EMLINK : 0;
		lk_unlock(&s->dir->extlock);
	}
	return err;
}

static int judge(struct fs_change *c, struct renaming *r)
{
	int err = find_side(c, &r->o);

	if (!err) {
		err = find_side(c, &r->n);
		if (err == -ENOENT)
			err = 0;
	}
	if (!err)
		err = judge_loops(c, r);
	if (!err)
		err = judge_target(r);
	if (err)
		return err;
	/* POSIX: two names of one inode, nothing happens. */
	if (r->n.ip == r->o.ip) {
		r->nothing = true;
		return 0;
	}
	err = dir_may_change(c, r->o.dir, true);
	if (!err)
		err = dir_may_change(c, r->n.dir, r->n.ip != NULL);
	if (!err)
		err = movable(&r->o);
	if (!err)
		err = dir_project_check(r->n.dir, r->o.ip);
	return err ? err : judge_links(r);
}

/* ---- Planning ---------------------------------------------------- */

/* A directory that is replaced must be empty, and stay so: locked until it is gone. */
static int lock_target(struct fs_change *c, struct renaming *r)
{
	int err;

	if (!r->n.ip || !r->n.is_dir || (r->flags & RENAME_EXCHANGE))
		return 0;
	err = fs_lock_nested(c, r->n.ip);
	if (err)
		return err;
	r->target_locked = true;
	return r->n.ip->dir->nr_entries ? -ENOTEMPTY : 0;
}

static int plan_inodes(struct fs_change *c, const struct renaming *r)
{
	struct fs_inode *all[] = { r->o.dir, r->n.dir, r->o.ip, r->n.ip };
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all) && !err; i++) {
		if (all[i])
			err = fs_ilog_prepare(all[i], c->flags);
	}
	c->need.credits += 4;
	if (!err && r->n.ip && !(r->flags & RENAME_EXCHANGE)) {
		err = orphan_prepare(r->n.ip, c->flags);
		c->need.credits += orphan_credits(c->fs);
	}
	if (!err && (r->flags & RENAME_WHITEOUT)) {
		err = ialloc_prepare(c->fs, r->o.dir, S_IFCHR, c->flags);
		c->need.credits += 1 + ialloc_credits(c->fs);
		c->need.fsbs += ialloc_space(c->fs);
	}
	return err;
}

static int plan(struct fs_change *c, struct renaming *r)
{
	int err = lock_target(c, r);

	if (!err)
		err = plan_inodes(c, r);
	/* Entries that stay and lead elsewhere: the exchanged, the replaced, the whiteout's. */
	c->need.credits += 2;
	if (!err && !r->n.ip) {
		err = dir_insert_plan(r->n.dir, r->n.name, r->n.len, c->flags, &r->ins, &c->need);
		r->inserts = !err;
	}
	if (!err && !(r->flags & (RENAME_EXCHANGE | RENAME_WHITEOUT)))
		err = dir_remove_plan(r->o.dir, &r->o.e, c->flags, &c->need);
	/*
	 * Insertion and removal in one directory: the first may make the hash tree that the
	 * second was planned without, or make it higher.
	 */
	if (r->inserts && !r->cross) {
		c->need.credits += 4;
		c->need.frees += 2;
	}
	return err;
}

/* ---- Changing ---------------------------------------------------- */

/* The moved inode: ctime, and for a directory its new parent. */
static void move_inode(struct fs_change *c, struct side *s, struct fs_inode *to)
{
	lk_lock(&s->ip->extlock);
	if (s->is_dir)
		s->ip->parent = to->ino;
	fs_stamp(s->ip, false);
	fs_ilog(c->h, s->ip, false);
	lk_unlock(&s->ip->extlock);
}

/* A character device 0:0 takes the old name's place. */
static int whiteout(struct fs_change *c, struct renaming *r)
{
	struct fs_inode *ip;
	int err = ialloc_new(c->fs, c->h, r->o.dir, S_IFCHR, &ip);

	if (err)
		return err;
	lk_lock(&ip->extlock);
	ip->mode = S_IFCHR;
	ip->uid = r->ctx->uid;
	ip->gid = r->ctx->gid;
	ip->nlink = 1;
	ip->xattr_none = true;
	fs_stamp(ip, true);
	ip->atime = ip->btime = ip->ctime;
	fs_ilog(c->h, ip, false);
	lk_unlock(&ip->extlock);
	lk_lock(&r->o.dir->extlock);
	dir_retarget(c->h, &r->o.e, ip->ino, dir_type(S_IFCHR));
	lk_unlock(&r->o.dir->extlock);
	fs_iput(ip);
	return 0;
}

static int change_names(struct fs_change *c, struct renaming *r)
{
	struct side *o = &r->o, *n = &r->n;
	uint64_t oino = o->e.ino;
	unsigned otype = o->e.type;
	int err = 0;

	if (r->flags & RENAME_WHITEOUT)
		err = whiteout(c, r);
	if (err)
		return err;
	lk_lock(&n->dir->extlock);
	if (r->flags & RENAME_EXCHANGE) {
		uint64_t nino = n->e.ino;
		unsigned ntype = n->e.type;

		dir_retarget(c->h, &n->e, oino, otype);
		dir_retarget(c->h, &o->e, nino, ntype);
	} else if (n->ip) {
		dir_retarget(c->h, &n->e, oino, otype);
	} else {
		err = dir_insert_apply(c->h, n->dir, &r->ins, n->name, n->len, oino, otype);
	}
	lk_unlock(&n->dir->extlock);
	if (!err && !(r->flags & (RENAME_EXCHANGE | RENAME_WHITEOUT))) {
		lk_lock(&o->dir->extlock);
		err = dir_remove_apply(c->h, o->dir, &o->e);
		lk_unlock(&o->dir->extlock);
	}
	return err;
}

/* How many ".." each directory gained; a replaced directory's goes with it. */
static void links_gained(const struct renaming *r, int *old_dir, int *new_dir)
{
	*old_dir = *new_dir = 0;
	if (r->o.is_dir) {
		--*old_dir;
		++*new_dir;
	}
	if (r->n.ip && r->n.is_dir) {
		--*new_dir;
		if (r->flags & RENAME_EXCHANGE)
			++*old_dir;
	}
	if (!r->cross) {
		*old_dir += *new_dir;
		*new_dir = 0;
	}
}

static void update_dir(struct fs_change *c, struct fs_inode *dir, int links)
{
	lk_lock(&dir->extlock);
	assert(links >= 0 || dir->nlink >= 2);
	if (links >= 0 || dir->nlink > 2)
		dir->nlink += (uint32_t)links;
	fs_stamp(dir, true);
	fs_ilog(c->h, dir, false);
	lk_unlock(&dir->extlock);
}

static int apply(struct fs_change *c, struct renaming *r)
{
	int olinks, nlinks;
	int err = change_names(c, r);

	if (err)
		return fs_change_fail(c, err, "rename");
	links_gained(r, &olinks, &nlinks);
	update_dir(c, r->o.dir, olinks);
	if (r->cross)
		update_dir(c, r->n.dir, nlinks);
	move_inode(c, &r->o, r->n.dir);
	if (r->flags & RENAME_EXCHANGE)
		move_inode(c, &r->n, r->o.dir);
	else if (r->n.ip)
		err = dir_drop_link(c, r->n.ip, r->n.is_dir);
	return err ? fs_change_fail(c, err, "rename") : 0;
}

/*
 * A name that leads to something complete will lead to new contents: they go to the device first,
 * so that a power cut leaves the old or the new ones whole. No flush: the commit that holds
 * the rename sends one before its record. (ext4: auto_da_alloc.)
 */
static bool replaces_with_dirty(const struct renaming *r)
{
	return r->n.ip && !r->settled && S_ISREG(r->o.ip->mode) &&
	       filemap_range_needs_writeback(&r->o.ip->vfs.i_mapping, 0, UINT64_MAX);
}

/* Without locks: writeback may take long, and the directories serve others meanwhile. */
static int settle(const struct fs_change *c, struct renaming *r)
{
	if (c->flags & FS_NOWAIT)
		return -EAGAIN;
	r->settled = true;
	return filemap_write_and_wait_range(&r->o.ip->vfs.i_mapping, 0, UINT64_MAX);
}

static int rename_try(struct fs_change *c, struct renaming *r)
{
	int err;

	r->nothing = r->target_locked = r->inserts = r->dirty = false;
	err = judge(c, r);
	if (!err && !r->nothing)
		r->dirty = replaces_with_dirty(r);
	if (!err && !r->nothing && !r->dirty) {
		err = plan(c, r);
		if (!err)
			err = fs_change_start(c);
		if (!err)
			err = apply(c, r);
		fs_change_stop(c);
	}
	if (r->inserts)
		dir_insert_put(&r->ins);
	if (r->target_locked)
		lk_rw_unlock(&r->n.ip->vfs.i_rwsem);
	if (!err && !r->dirty)
		dir_shrink(r->o.dir);
	return err;
}

static int rename_check(const struct renaming *r)
{
	int err;

	if (r->flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if ((r->flags & RENAME_EXCHANGE) && (r->flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
		return -EINVAL;
	err = dir_name_check(r->o.name, r->o.len);
	if (!err)
		err = dir_name_check(r->n.name, r->n.len);
	if (err == -EINVAL && r->o.len && r->n.len && (r->o.name[0] == '.' || r->n.name[0] == '.'))
		return r->flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
	if (!err && (!r->o.dir->dir || !r->n.dir->dir))
		return -ENOTDIR;
	return err;
}

int fs_rename(struct fs_ctx *ctx, struct fs_inode *odir, const char *oname, size_t olen,
	      struct fs_inode *ndir, const char *nname, size_t nlen, unsigned flags)
{
	struct renaming r = {
		.ctx = ctx,
		.o = { .dir = odir, .name = oname, .len = olen },
		.n = { .dir = ndir, .name = nname, .len = nlen },
		.flags = flags,
		.cross = odir != ndir,
	};
	struct fs_change c;
	int err = rename_check(&r);

	if (!err)
		err = fs_change_begin(&c, odir->fs, ctx);
	if (err)
		return err;
	do {
		err = lock_dirs(&c, &r);
		if (err)
			break;
		err = rename_try(&c, &r);
		unlock_dirs(&c, &r);
		if (!err && r.dirty)
			err = settle(&c, &r);
		/* The last puts, which may free, come without locks. */
		put_side(&r.o);
		if (!err && r.n.ip) {
			fs_iput_gone(ctx, r.n.ip);
			r.n.ip = NULL;
		}
		put_side(&r.n);
	} while (fs_change_again(&c, &err) || (!err && r.dirty));
	fs_change_end(&c);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * The orphan list of each group: inodes whose removal or truncation takes more than one
 * transaction. What a crash leaves on it is finished by the next mount.
 */
#include "ag.h"
#include "extent.h"
#include "icache.h"

static struct fs_ag *group_of(struct fs_inode *ip)
{
	return ag_of_mblk(ip->fs, od_ino_mblk(ip->ino));
}

unsigned orphan_credits(struct fs *fs)
{
	/* Filling the reserve, the header, the tree. */
	return ag_credits(fs) + 5;
}

int orphan_prepare(struct fs_inode *ip, unsigned flags)
{
	struct fs_ag *ag = group_of(ip);
	struct btree t;
	int err = ag_lock(ag, flags);

	if (err)
		return err;
	t = ag_tree(ag, OD_TREE_ORPHAN);
	err = bt_prefetch(&t, (struct bt_key){ ip->ino, 0 },
			  flags & FS_NOWAIT ? BUF_NOWAIT : 0);
	lk_unlock(&ag->lock);
	return err;
}

int orphan_add(struct jnl_handle *h, struct fs_inode *ip, enum od_orphan kind)
{
	const unsigned on_list = FS_I_ORPHAN | FS_I_TRUNCATE;
	struct fs_ag *ag = group_of(ip);
	bool listed = atomic_load(&ip->state) & on_list;
	const struct bt_key key = { ip->ino, 0 };
	struct btree t;
	le64_t val = le64_make(kind);
	int err;

	/* Unlinked is the stronger of the two: it ends with everything truncated. */
	if (atomic_load(&ip->state) & FS_I_ORPHAN)
		return 0;
	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	t = ag_tree(ag, OD_TREE_ORPHAN);
	if (!err)
		err = listed ? -EEXIST : bt_insert(&t, h, key, &val);
	/* Or listed since before the inode was last read, by a truncation that failed. */
	if (err == -EEXIST)
		err = bt_update(&t, h, key, &val);
	ag_end(h, ag);
	if (err)
		return err;
	atomic_fetch_or(&ip->state, kind == OD_ORPHAN_UNLINKED ? FS_I_ORPHAN : FS_I_TRUNCATE);
	return 0;
}

int orphan_del(struct jnl_handle *h, struct fs_inode *ip)
{
	const unsigned on_list = FS_I_ORPHAN | FS_I_TRUNCATE;
	struct fs_ag *ag = group_of(ip);
	struct btree t;
	int err;

	if (!(atomic_load(&ip->state) & on_list))
		return 0;
	lk_lock(&ag->lock);
	err = ag_fix_reserve(h, ag);
	t = ag_tree(ag, OD_TREE_ORPHAN);
	if (!err)
		err = bt_delete(&t, h, (struct bt_key){ ip->ino, 0 });
	ag_end(h, ag);
	if (err == -ENOENT)
		err = fs_corrupt(ip->fs, "orphan list", ip->ino, "not-listed");
	if (!err)
		atomic_fetch_and(&ip->state, ~on_list);
	return err;
}

/* ---- At mount ------------------------------------------------------------------------- */

/* Listed, but with nothing left to do. */
static int forget_orphan(struct fs_inode *ip)
{
	struct jnl_handle *h;
	int err = orphan_prepare(ip, 0);

	if (!err)
		err = jnl_start(ip->fs->jnl, orphan_credits(ip->fs), 0, &h);
	if (err)
		return err;
	err = orphan_del(h, ip);
	jnl_stop(h);
	return err;
}

/* The file could not be used since it was read: its extents are half-way. */
static int finish_shift(struct fs_inode *ip)
{
	int err;

	if (ip->shift.op == OD_SHIFT_NONE)
		return forget_orphan(ip);
	atomic_fetch_and(&ip->state, ~FS_I_BAD);
	lk_wrlock(&ip->vfs.i_rwsem);
	lk_wrlock(&ip->vfs.i_mapping.invalidate_lock);
	err = ext_shift_finish(ip);
	lk_rw_unlock(&ip->vfs.i_mapping.invalidate_lock);
	lk_rw_unlock(&ip->vfs.i_rwsem);
	/* One file with a bad extent tree is no reason to refuse all others. */
	return fs_is_shutdown(ip->fs) || err == -ENOMEM ? err : 0;
}

static int recover_one(struct fs *fs, uint64_t ino, enum od_orphan kind)
{
	struct fs_inode *ip;
	int err = icache_get(fs, ino, 0, true, &ip);

	if (err) {
		log_warn("orphan inode %llu can not be read: %s", (unsigned long long)ino,
			 strerror(-err));
		return err == -ENOMEM ? err : 0;
	}
	atomic_fetch_or(&ip->state, kind == OD_ORPHAN_UNLINKED ? FS_I_ORPHAN : FS_I_TRUNCATE);
	/* Without links the put below frees it, in the background. */
	if (ip->nlink > 0) {
		if (kind == OD_ORPHAN_TRUNCATE)
			err = extent_truncate(ip, ip->disk_size);
		/* Either may have taken it off the list itself. */
		if (kind == OD_ORPHAN_SHIFT)
			err = finish_shift(ip);
		else if (!err)
			err = forget_orphan(ip);
	}
	fs_iput(ip);
	return err;
}

static int next_orphan(struct fs_ag *ag, uint64_t from, uint64_t *ino, enum od_orphan *kind)
{
	struct btree t;
	struct bt_rec rec;
	le64_t val;
	int err;

	lk_lock(&ag->lock);
	t = ag_tree(ag, OD_TREE_ORPHAN);
	err = bt_lookup_ge(&t, (struct bt_key){ from, 0 }, 0, &rec);
	lk_unlock(&ag->lock);
	if (err)
		return err;
	memcpy(&val, rec.val, sizeof(val));
	*ino = rec.key.a;
	*kind = (enum od_orphan)le64_get(val);
	return 0;
}

int orphan_recover(struct fs *fs)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < fs->sb.nr_ags; i++) {
		uint64_t ino = 0;
		enum od_orphan kind;
		int err;

		while (!(err = next_orphan(&fs->ags[i], ino, &ino, &kind))) {
			err = recover_one(fs, ino, kind);
			if (err)
				return err;
			ino++;
			n++;
		}
		if (err != -ENOENT)
			return err;
	}
	if (n)
		log_info("finished %u interrupted removals, truncations or shifts", n);
	return 0;
}

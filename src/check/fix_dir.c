/* SPDX-License-Identifier: MIT */
/*
 * Repair: names. Directories are taken from the root down, so that a chain of names cannot come
 * back on itself: who has a parent already gets no second one. What is left over has no name
 * that leads there from the root, and goes to lost+found.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fix.h"

/* The walk: directories whose names are to be read. */
struct walk {
	struct fix *f;
	struct chk_vec todo;    /* uint64_t */
};

/* ---- Reading what can be read ------------------------------------------------------------------------- */

struct map_entry {
	uint64_t index, mblk;
};

static void on_map(struct chk *c, const le64_t *rec, void *arg)
{
	const struct map_entry m = { le64_get(rec[0]), le64_get(rec[1]) };

	chk_vec_push(c, arg, &m);
}

static void names_of_block(struct chk *c, const uint8_t *block, struct chk_vec *names)
{
	const struct od_dirent *de;

	for (unsigned at = OD_DIR_FIRST; at < OD_MBLK_SIZE; at += le16_get(de->rec_len)) {
		struct fix_name n;

		de = (const void *)(block + at);
		n.ino = le64_get(de->ino);
		n.len = de->name_len;
		if (!n.ino)
			continue;
		memcpy(n.name, de->name, n.len);
		chk_vec_push(c, names, &n);
	}
}

/* Every name in a block that is sound and this directory's. */
static void read_names(struct fix *f, uint64_t ino, const struct od_inode *di, struct chk_vec *names)
{
	struct chk_tree tree = { .type = OD_TREE_DIRMAP, .owner = ino, .fn = on_map };
	uint8_t *block = chk_block_alloc(f->c);
	const struct od_hdr *h = (const void *)block;
	struct map_entry *m;
	struct od_dir_root root;
	struct chk_vec map;
	struct fix_trial t;

	if (!block)
		return;
	chk_vec_init(&map, sizeof(*m));
	memcpy(&root, di->area, sizeof(root));
	if (le64_get(root.block0)) {
		const struct map_entry first = { 0, le64_get(root.block0) };

		chk_vec_push(f->c, &map, &first);
	}
	chk_fix_trial_begin(f, &t);
	tree.arg = &map;
	chk_tree_walk(&t.c, &tree, &root.map);
	chk_space_free(&t.c);
	m = map.data;
	for (size_t i = 0; i < map.n; i++)
		if (!chk_read(f->c, m[i].mblk, block) &&
		    !od_verify_dir(&f->c->od, block, m[i].mblk, true) && le64_get(h->owner) == ino)
			names_of_block(f->c, block, names);
	chk_vec_free(&map);
	free(block);
}

static int name_order(const void *a, const void *b)
{
	const struct fix_name *x = a, *y = b;
	const int order = memcmp(x->name, y->name, MIN(x->len, y->len));

	return order ? order : (int)x->len - (int)y->len;
}

static bool is_dir(const struct chk_inode *ci)
{
	return (ci->flags & CHK_I_USED) && S_ISDIR(ci->mode);
}

/* Names that lead to something, once each; a directory has one, from the root's side. */
static void keep_names(struct fix *f, uint64_t ino, struct chk_vec *names)
{
	struct fix_name *n = names->data;
	size_t kept = 0;

	if (names->n)
		qsort(n, names->n, sizeof(*n), name_order);
	for (size_t i = 0; i < names->n; i++) {
		struct chk_inode *ci = chk_inode_get(f->c, n[i].ino);

		if (!ci || !(ci->flags & CHK_I_USED) || n[i].ino == ino ||
		    n[i].ino == f->c->sb.root_ino)
			continue;
		if (kept && !name_order(&n[kept - 1], &n[i]))
			continue;
		if (is_dir(ci)) {
			struct chk_dirinfo *info = chk_dirinfo_of(f->c, ci);

			/* `found` may be this directory's from its trial. */
			if (ci->flags & CHK_I_REACHED || (info->found && info->found != ino))
				continue;
			info->found = ino;
			ci->flags |= CHK_I_REACHED;
		}
		n[kept++] = n[i];
	}
	names->n = kept;
}

/* ---- One directory ------------------------------------------------------------------------- */

/* Its names count, and its directories are next. */
static void follow(struct walk *w, uint64_t ino, const struct chk_vec *names)
{
	const struct fix_name *n = names->data;
	struct chk_inode *self = chk_inode_get(w->f->c, ino), *ci;

	for (size_t i = 0; i < names->n; i++) {
		ci = chk_inode_get(w->f->c, n[i].ino);
		if (ci->refs < OD_LINK_MAX)
			ci->refs++;
		if (!is_dir(ci))
			continue;
		ci->flags |= CHK_I_REACHED;
		if (self->refs < OD_LINK_MAX)
			self->refs++; /* its ".." */
		chk_vec_push(w->f->c, &w->todo, &n[i].ino);
	}
}

static void take_dir(struct walk *w, uint64_t ino)
{
	struct fix *f = w->f;
	struct fix_dir d = { .ino = ino };
	struct chk_inode *self = chk_inode_get(f->c, ino);
	struct fix_trial t;
	struct od_inode di;
	bool good;

	self->flags |= CHK_I_REACHED;
	self->refs++; /* its "." */
	if (!chk_fix_inode_now(f, ino, &di))
		return;
	chk_vec_init(&d.names, sizeof(struct fix_name));
	chk_fix_trial_begin(f, &t);
	chk_dir(&t.c, ino, &di);
	good = chk_fix_trial_end(f, &t);
	read_names(f, ino, &di, &d.names);
	if (!good) {
		keep_names(f, ino, &d.names);
		chk_fix_attrs(f, ino, &d.attr_mblks);
	}
	follow(w, ino, &d.names);
	if (good)
		chk_vec_free(&d.names);
	else
		chk_vec_push(f->c, &f->dirs, &d);
}

static void take_all(struct walk *w, uint64_t ino)
{
	chk_vec_push(w->f->c, &w->todo, &ino);
	while (w->todo.n > 0 && !w->f->c->error)
		take_dir(w, ((const uint64_t *)w->todo.data)[--w->todo.n]);
}

/* The directory among those to be written anew; one that was good is taken apart for it. */
static struct fix_dir *dir_to_build(struct fix *f, uint64_t ino)
{
	struct fix_dir *all = f->dirs.data, d = { .ino = ino };
	struct fix_trial t;
	struct od_inode di;

	/* The last one asked for is asked for again: lost+found, name by name. */
	if (f->last_dir < f->dirs.n && all[f->last_dir].ino == ino)
		return &all[f->last_dir];
	for (f->last_dir = 0; f->last_dir < f->dirs.n; f->last_dir++)
		if (all[f->last_dir].ino == ino)
			return &all[f->last_dir];
	if (!chk_fix_inode_now(f, ino, &di))
		return NULL;
	chk_vec_init(&d.names, sizeof(struct fix_name));
	read_names(f, ino, &di, &d.names);
	chk_fix_trial_begin(f, &t);
	chk_dir(&t.c, ino, &di);
	chk_fix_trial_undo(f, &t);
	chk_fix_attrs(f, ino, &d.attr_mblks);
	if (!chk_vec_push(f->c, &f->dirs, &d))
		return NULL;
	return (struct fix_dir *)f->dirs.data + f->dirs.n - 1;
}

/* ---- A directory made from nothing ----------------------------------------------------- */

static void make_dir(struct fix *f, uint64_t ino, uint64_t parent, unsigned mode)
{
	struct chk_inode *ci = chk_inode_get(f->c, ino);
	struct od_inode *di = chk_fix_inode_edit(f, ino);

	if (!di)
		return;
	chk_fix_inode_clear(di, ino);
	di->mode = le16_make((uint16_t)(S_IFDIR | mode));
	di->nlink = le32_make(2);
	di->version = le64_make(1);
	di->parent = le64_make(parent);
	di->data_fmt = OD_DATA_DIR;
	di->data_len = le16_make(sizeof(struct od_dir_root));
	ci->flags |= CHK_I_USED;
	ci->flags &= (uint16_t)~CHK_I_BAD;
	ci->mode = S_IFDIR;
	ci->nlink = 2;
	chk_dirinfo_of(f->c, ci)->parent = parent;
}

/* ---- lost+found -------------------------------------------------------------------------- */

static bool name_is(const struct fix_name *n, const char *name)
{
	return n->len == strlen(name) && !memcmp(n->name, name, n->len);
}

/* The root's "lost+found": 0 if it has no directory of that name. *taken: something else has. */
static uint64_t find_lost_found(struct fix *f, const char *name, bool *taken)
{
	const uint64_t root = f->c->sb.root_ino;
	struct fix_dir *all = f->dirs.data;
	struct chk_vec names;
	const struct fix_name *n;
	struct od_inode di;
	uint64_t hit = 0;

	chk_vec_init(&names, sizeof(struct fix_name));
	if (chk_fix_inode_now(f, root, &di))
		read_names(f, root, &di, &names);
	for (size_t i = 0; i < f->dirs.n; i++)
		if (all[i].ino == root) {
			chk_vec_free(&names);
			names = all[i].names;
		}
	n = names.data;
	*taken = false;
	for (size_t i = 0; i < names.n; i++)
		if (name_is(&n[i], name)) {
			*taken = true;
			hit = is_dir(chk_inode_get(f->c, n[i].ino)) ? n[i].ino : 0;
		}
	for (size_t i = 0; i < f->dirs.n; i++)
		if (all[i].ino == root)
			return hit;
	chk_vec_free(&names);
	return hit;
}

static void add_name(struct fix *f, uint64_t dir, const char *name, uint64_t ino)
{
	struct fix_dir *d = dir_to_build(f, dir);
	struct chk_inode *ci = chk_inode_get(f->c, ino);
	struct fix_name n = { .ino = ino, .len = (uint8_t)strlen(name) };

	if (!d)
		return;
	memcpy(n.name, name, n.len);
	chk_vec_push(f->c, &d->names, &n);
	ci->refs++;
	if (!is_dir(ci))
		return;
	chk_dirinfo_of(f->c, ci)->found = dir;
	chk_inode_get(f->c, dir)->refs++;
}

static uint64_t lost_found(struct fix *f)
{
	char name[32] = "lost+found";
	uint64_t ino;
	bool taken;

	for (unsigned i = 1; i < 100; i++) {
		ino = find_lost_found(f, name, &taken);
		if (ino || !taken)
			break;
		snprintf(name, sizeof(name), "lost+found.%u", i);
	}
	if (ino)
		return ino;
	ino = chk_fix_inode_new(f);
	if (!ino)
		return 0;
	make_dir(f, ino, f->c->sb.root_ino, 0700);
	chk_inode_get(f->c, ino)->refs++; /* its "." */
	chk_inode_get(f->c, ino)->flags |= CHK_I_REACHED;
	add_name(f, f->c->sb.root_ino, name, ino);
	return ino;
}

/* "#" and the number of the inode; that it is there already is seen to when all is written. */
static void save_inode(struct fix *f, uint64_t ino)
{
	char name[32];

	if (!f->lost_found)
		f->lost_found = lost_found(f);
	if (!f->lost_found) {
		f->c->error = f->c->error ? f->c->error : -ENOSPC;
		return;
	}
	if (f->out)
		fprintf(f->out, "inode %llu: has no name, goes to lost+found\n",
			(unsigned long long)ino);
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)ino);
	add_name(f, f->lost_found, name, ino);
}

/* ---- All ------------------------------------------------------------------------- */

typedef void (*inode_fn)(struct walk *w, uint64_t ino, struct chk_inode *ci);

static void each_inode(struct walk *w, inode_fn fn)
{
	struct chk *c = w->f->c;
	const unsigned slots = (1u << (c->od.cluster_shift - OD_MBLK_SHIFT)) * OD_INODES_PER_MBLK;
	const struct chk_cluster *cl = c->clusters.data;

	for (size_t i = 0; i < c->clusters.n; i++)
		for (unsigned bit = 0; bit < slots && !c->error; bit++)
			fn(w, od_ino_make(cl[i].first + bit / OD_INODES_PER_MBLK,
					  bit % OD_INODES_PER_MBLK + 1), &cl[i].inodes[bit]);
}

/* Unlinked and on their way out when the power went: the next mount frees them. */
static bool is_orphan(const struct chk_inode *ci)
{
	return ci->nlink == 0 && ci->refs == (S_ISDIR(ci->mode) ? 1u : 0u);
}

static void save_tops(struct walk *w, uint64_t ino, struct chk_inode *ci)
{
	const struct chk_inode *up;

	if (!is_dir(ci) || ci->flags & CHK_I_REACHED || ci->nlink == 0)
		return;
	/* Its parent will bring it along, if that is lost with it. */
	up = chk_inode_get(w->f->c, chk_dirinfo_of(w->f->c, ci)->parent);
	if (up && up != ci && is_dir(up) && !(up->flags & CHK_I_REACHED))
		return;
	save_inode(w->f, ino);
	take_all(w, ino);
}

static void save_rest(struct walk *w, uint64_t ino, struct chk_inode *ci)
{
	if (!is_dir(ci) || ci->flags & CHK_I_REACHED)
		return;
	if (ci->nlink)
		save_inode(w->f, ino);
	take_all(w, ino);
}

static void save_files(struct walk *w, uint64_t ino, struct chk_inode *ci)
{
	if ((ci->flags & CHK_I_USED) && !S_ISDIR(ci->mode) && !ci->refs && ci->nlink)
		save_inode(w->f, ino);
}

static void set_links(struct walk *w, uint64_t ino, struct chk_inode *ci)
{
	struct chk_dirinfo info = { 0 };
	uint32_t links = ci->refs;
	struct od_inode *di;
	uint64_t parent;

	if (!(ci->flags & CHK_I_USED))
		return;
	if (S_ISDIR(ci->mode))
		info = *chk_dirinfo_of(w->f->c, ci);
	parent = ino == w->f->c->sb.root_ino ? ino : info.found;
	if (is_orphan(ci))
		links = 0;
	if (ci->nlink == links && (!S_ISDIR(ci->mode) || !links || info.parent == parent))
		return;
	di = chk_fix_inode_edit(w->f, ino);
	if (!di)
		return;
	di->nlink = le32_make(links);
	if (S_ISDIR(ci->mode) && links)
		di->parent = le64_make(parent);
	ci->nlink = links;
}

int chk_fix_dirs(struct fix *f)
{
	struct walk w = { .f = f };
	struct chk *c = f->c;
	struct chk_inode *root = chk_inode_get(c, c->sb.root_ino);

	chk_vec_init(&w.todo, sizeof(uint64_t));
	if (!root)
		return -EIO; /* its place is taken by the journal or outside: no superblock says so */
	if (!is_dir(root))
		make_dir(f, c->sb.root_ino, c->sb.root_ino, 0755);
	root->refs = 1; /* "/.." */
	take_all(&w, c->sb.root_ino);
	each_inode(&w, save_tops);
	each_inode(&w, save_rest);
	each_inode(&w, save_files);
	each_inode(&w, set_links);
	chk_vec_free(&w.todo);
	return c->error;
}

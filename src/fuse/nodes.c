// SPDX-License-Identifier: MIT
/*
 * What the kernel knows: one node for each nodeid it was told of and did not forget, with
 * its lookup count and one inode reference. Striped trees: a lock is held for a search;
 * only the counting calls of fs (iref, iput of a
 * reference that is not the last, pin) run under it.
 */
#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>

#include "fuse_private.h"

#define NR_STRIPES 64u

struct node {
	RB_ENTRY(node) link;
	uint64_t ino;
	uint64_t nlookup;
	unsigned writers;           /* handles that may store through a mapping */
	struct cds_list_head files; /* fz_file.list: every open handle */
	struct fs_inode *ip;
};

static int node_cmp(struct node *a, struct node *b)
{
	return (a->ino > b->ino) - (a->ino < b->ino);
}
RB_HEAD(node_tree, node);
RB_PROTOTYPE_INTERNAL(node_tree, node, link, node_cmp, __attribute__((unused)) static)
RB_GENERATE_INTERNAL(node_tree, node, link, node_cmp, __attribute__((unused)) static)

struct stripe {
	struct lk_mutex lock;
	struct node_tree tree;
} __attribute__((aligned(64)));

struct fz_nodes {
	struct stripe stripes[NR_STRIPES];
	_Atomic uint64_t count;
};

static struct stripe *stripe_of(struct fz_nodes *t, uint64_t ino)
{
	/* Neighbours (one directory's files) spread over the stripes. */
	return &t->stripes[(ino ^ ino >> 6 ^ ino >> 12) % NR_STRIPES];
}

static struct node *find(struct stripe *s, uint64_t ino)
{
	struct node key = {.ino = ino};

	return RB_FIND(node_tree, &s->tree, &key);
}

static uint64_t to_ino(const struct fz *fz, uint64_t nodeid)
{
	return nodeid == FS_ROOT_INO ? fs_sb(fz->fs)->root_ino : nodeid;
}

uint64_t fz_nodeid(const struct fz *fz, uint64_t ino)
{
	return ino == fs_sb(fz->fs)->root_ino ? FS_ROOT_INO : ino;
}

int fz_nodes_create(struct fz_nodes **out)
{
	struct fz_nodes *t = aligned_alloc(64, sizeof(*t));

	if (!t)
		return -ENOMEM;
	memset(t, 0, sizeof(*t));
	for (unsigned i = 0; i < NR_STRIPES; i++) {
		lk_mutex_init(&t->stripes[i].lock, LK_FUSE, "fuse-nodes");
		RB_INIT(&t->stripes[i].tree);
	}
	*out = t;
	return 0;
}

static void node_free(struct node *n)
{
	struct fz_file *f, *next;

	cds_list_for_each_entry_safe(f, next, &n->files, list)
		fz_file_close(f);
	fs_iput(n->ip);
	free(n);
}

void fz_nodes_release_all(struct fz_nodes *t)
{
	for (unsigned i = 0; i < NR_STRIPES; i++) {
		struct stripe *s = &t->stripes[i];
		struct node *n;

		for (;;) {
			lk_lock(&s->lock);
			n = RB_MIN(node_tree, &s->tree);
			if (n)
				RB_REMOVE(node_tree, &s->tree, n);
			lk_unlock(&s->lock);
			if (!n)
				break;
			node_free(n);
		}
	}
	atomic_store(&t->count, 0);
}

void fz_nodes_destroy(struct fz_nodes *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < NR_STRIPES; i++) {
		assert(RB_EMPTY(&t->stripes[i].tree));
		lk_mutex_destroy(&t->stripes[i].lock);
	}
	free(t);
}

int fz_node_get(struct fz *fz, uint64_t nodeid, unsigned flags, struct fs_inode **out)
{
	uint64_t ino = to_ino(fz, nodeid);
	struct stripe *s = stripe_of(fz->nodes, ino);
	struct node *n;

	lk_lock(&s->lock);
	n = find(s, ino);
	if (n) {
		*out = n->ip;
		fs_iref(n->ip);
	}
	lk_unlock(&s->lock);
	if (n)
		return 0;
	/* The root before its first lookup, or a file handle of an export. */
	return fs_iget(fz->fs, nodeid == FS_ROOT_INO ? FS_ROOT_INO : ino, flags, out);
}

/*
 * Find or make the node of ip, whose reference is consumed, and return it with its stripe
 * locked. Never fails: without a node the kernel's reference could not be given back.
 */
static struct node *node_lock(struct fz *fz, struct fs_inode *ip, struct stripe **out)
{
	uint64_t ino = fs_ino(ip);
	struct stripe *s = stripe_of(fz->nodes, ino);
	struct node *fresh = NULL, *n;

	for (;;) {
		lk_lock(&s->lock);
		n = find(s, ino);
		if (n || fresh)
			break;
		lk_unlock(&s->lock);
		while (!(fresh = calloc(1, sizeof(*fresh))))
			log_err("out of memory for a node; trying again");
	}
	if (!n) {
		n = fresh;
		n->ino = ino;
		n->ip = ip;
		CDS_INIT_LIST_HEAD(&n->files);
		RB_INSERT(node_tree, &s->tree, n);
		atomic_fetch_add(&fz->nodes->count, 1);
	} else {
		free(fresh);
		/* Not the last reference: the node holds one. */
		fs_iput(ip);
	}
	*out = s;
	return n;
}

/* Drop the node when nothing needs it; releases the stripe. */
static void node_unlock(struct fz *fz, struct stripe *s, struct node *n)
{
	bool unused = n->nlookup == 0 && cds_list_empty(&n->files);

	if (unused) {
		RB_REMOVE(node_tree, &s->tree, n);
		atomic_fetch_sub(&fz->nodes->count, 1);
	}
	lk_unlock(&s->lock);
	if (unused)
		node_free(n);
}

uint64_t fz_node_add(struct fz *fz, struct fs_inode *ip)
{
	uint64_t nodeid = fz_nodeid(fz, fs_ino(ip));
	struct stripe *s;
	struct node *n = node_lock(fz, ip, &s);

	n->nlookup++;
	node_unlock(fz, s, n);
	return nodeid;
}

void fz_node_forget(struct fz *fz, uint64_t nodeid, uint64_t nlookup)
{
	struct stripe *s;
	struct node *n;
	uint64_t ino;

	if (atomic_load(&fz->unmounted))
		return;
	ino = to_ino(fz, nodeid);
	s = stripe_of(fz->nodes, ino);
	lk_lock(&s->lock);
	n = find(s, ino);
	if (!n) {
		lk_unlock(&s->lock);
		return;
	}
	assert(n->nlookup >= nlookup);
	n->nlookup -= MIN(n->nlookup, nlookup);
	node_unlock(fz, s, n);
}

void fz_node_add_file(struct fz *fz, struct fz_file *f)
{
	struct stripe *s;
	struct node *n;

	fs_iref(f->ip);
	n = node_lock(fz, f->ip, &s);
	cds_list_add(&f->list, &n->files);
	if (f->writer)
		n->writers++;
	node_unlock(fz, s, n);
}

/* RELEASE may come after the FORGET of the last lookup: the handle kept the node. */
void fz_node_del_file(struct fz *fz, struct fz_file *f)
{
	struct stripe *s = stripe_of(fz->nodes, f->ino);
	struct node *n;

	lk_lock(&s->lock);
	n = find(s, f->ino);
	assert(n);
	cds_list_del(&f->list);
	if (f->writer) {
		assert(n->writers > 0);
		n->writers--;
	}
	node_unlock(fz, s, n);
}

void fz_node_swap_pin(struct fz *fz, uint64_t nodeid)
{
	uint64_t ino = to_ino(fz, nodeid);
	struct stripe *s = stripe_of(fz->nodes, ino);
	struct fz_file *f;
	struct node *n;

	lk_lock(&s->lock);
	n = find(s, ino);
	if (n && !cds_list_empty(&n->files)) {
		f = cds_list_entry(n->files.next, struct fz_file, list);
		if (f->file && !f->file->swap_pinned)
			fs_swap_pin(f->file);
	}
	lk_unlock(&s->lock);
}

bool fz_node_has_writers(struct fz *fz, uint64_t nodeid)
{
	uint64_t ino = to_ino(fz, nodeid);
	struct stripe *s = stripe_of(fz->nodes, ino);
	struct node *n;
	bool any;

	lk_lock(&s->lock);
	n = find(s, ino);
	any = n && n->writers;
	lk_unlock(&s->lock);
	return any;
}

uint64_t fz_nodes_count(const struct fz_nodes *t)
{
	return atomic_load(&t->count);
}

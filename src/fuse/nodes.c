// SPDX-License-Identifier: MIT
/*
 * What the kernel knows: one node for each nodeid it was told of and did not forget, with
 * its lookup count. The kernel may know millions, so a node is small and keeps no inode: the
 * table of fs does as long as it likes, and fs_iget finds or reads it again by its number.
 * The exception is an inode that has lost its last name: its last reference would free it,
 * while a working directory, an O_PATH descriptor or a request under way may still mean it.
 * Its node pins it. Who removes a name and who looks one up meet under the stripe's lock:
 *
 *	LOOKUP                             UNLINK
 *	fs_lookup: referenced              fs_unlink: nameless, referenced
 *	lock; count; nameless? pin         lock; a node? pin
 *	unlock; put                        unlock; else put
 *
 * Whichever comes second sees the other: the node, or that the name is gone. FORGET takes the
 * pin with the node, and putting it frees the inode.
 *
 * Striped trees: a lock is held for a search; of fs only fs_iref and fs_is_nameless run under it.
 */
#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "fuse_private.h"

#define NR_STRIPES 64u

struct node {
	RB_ENTRY(node) link;
	uint64_t ino;
	uint64_t nlookup;
	struct fs_inode *pin;        /* referenced; NULL while the inode has a name */
	struct cds_hlist_head files; /* fz_file.list: every open handle */
	uint32_t gen;                /* what the kernel knows may not become another inode */
	uint32_t writers;            /* handles that may store through a mapping */
};
/* With what malloc adds, 80 bytes for each inode that the kernel knows. */
static_assert(sizeof(struct node) <= 72, "a node is small");

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

	cds_hlist_for_each_entry_safe_2(f, next, &n->files, list)
		fz_file_close(f);
	if (n->pin)
		fs_iput(n->pin);
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

/* So many open files of a stripe at a time: the lock is not held for a notification. */
#define OPEN_BATCH 64u

static unsigned next_open(struct stripe *s, uint64_t after, uint64_t inos[OPEN_BATCH])
{
	struct node key = {.ino = after + 1}, *n;
	unsigned nr = 0;

	lk_lock(&s->lock);
	for (n = RB_NFIND(node_tree, &s->tree, &key); n && nr < OPEN_BATCH;
	     n = RB_NEXT(node_tree, &s->tree, n))
		if (n->files.next)
			inos[nr++] = n->ino;
	lk_unlock(&s->lock);
	return nr;
}

void fz_nodes_drop_pages(struct fz *fz)
{
	for (unsigned i = 0; i < NR_STRIPES; i++) {
		uint64_t inos[OPEN_BATCH], after = 0;
		unsigned nr;

		while ((nr = next_open(&fz->nodes->stripes[i], after, inos)) > 0) {
			for (unsigned k = 0; k < nr; k++)
				fz_notify_inval(fz, fz_nodeid(fz, inos[k]), 0, 0, NULL);
			after = inos[nr - 1];
		}
	}
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
	struct fs_inode *ip = NULL;
	uint32_t gen = 0;
	bool known;
	struct node *n;
	int ret;

	lk_lock(&s->lock);
	n = find(s, ino);
	known = n;
	if (known) {
		gen = n->gen;
		ip = n->pin;
		if (ip)
			fs_iref(ip);
	}
	lk_unlock(&s->lock);
	if (!ip) {
		/* No node: the root before its first lookup, or a file handle of an export. */
		ret = fs_iget(fz->fs, ino, flags, &ip);
		if (ret < 0)
			return ret;
		if (known && fs_gen(ip) != gen) {
			fs_iput(ip);
			return -ESTALE;
		}
	}
	*out = ip;
	return 0;
}

/*
 * Find or make the node of ip and return it with its stripe locked. Never fails: without a
 * node what the kernel counts could not be given back.
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
		CDS_INIT_HLIST_HEAD(&n->files);
		RB_INSERT(node_tree, &s->tree, n);
		atomic_fetch_add(&fz->nodes->count, 1);
	} else {
		free(fresh);
	}
	n->gen = fs_gen(ip);
	*out = s;
	return n;
}

/* Drop the node when nothing needs it; releases the stripe. */
static void node_unlock(struct fz *fz, struct stripe *s, struct node *n)
{
	bool unused = n->nlookup == 0 && n->files.next == NULL;

	if (unused) {
		RB_REMOVE(node_tree, &s->tree, n);
		atomic_fetch_sub(&fz->nodes->count, 1);
	}
	lk_unlock(&s->lock);
	if (unused)
		node_free(n);
}

/*
 * Pin ip, or no longer, as its names demand; the caller's reference is consumed. Stripe locked.
 * Returns the reference to put after unlocking, or NULL.
 */
static struct fs_inode *node_pin(struct node *n, struct fs_inode *ip)
{
	struct fs_inode *old = n->pin;

	assert(!old || old == ip);
	if (!fs_is_nameless(ip)) {
		/* One reference too many, if an O_TMPFILE was given its name: it is not the last. */
		n->pin = NULL;
		if (old)
			fs_iput(old);
		return ip;
	}
	n->pin = ip;
	return old;
}

uint64_t fz_node_add(struct fz *fz, struct fs_inode *ip)
{
	uint64_t nodeid = fz_nodeid(fz, fs_ino(ip));
	struct stripe *s;
	struct node *n = node_lock(fz, ip, &s);

	n->nlookup++;
	ip = node_pin(n, ip);
	node_unlock(fz, s, n);
	if (ip)
		fs_iput(ip);
	return nodeid;
}

void fz_node_nameless(struct fz *fz, struct fs_inode *ip)
{
	struct stripe *s = stripe_of(fz->nodes, fs_ino(ip));
	struct node *n;

	lk_lock(&s->lock);
	n = find(s, fs_ino(ip));
	if (n)
		ip = node_pin(n, ip);
	lk_unlock(&s->lock);
	if (ip)
		fs_iput(ip);
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

	/* The handle's own reference keeps the inode while it is open, with and without a name. */
	n = node_lock(fz, f->ip, &s);
	cds_hlist_add_head(&f->list, &n->files);
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
	cds_hlist_del(&f->list);
	if (f->writer) {
		assert(n->writers > 0);
		n->writers--;
	}
	node_unlock(fz, s, n);
}

static void pin(struct fz_file *f)
{
	if (f->file && !f->file->swap_pinned)
		fs_swap_pin(f->file);
}

void fz_node_swap_pin(struct fz *fz, uint64_t nodeid, pid_t pid)
{
	uint64_t ino = to_ino(fz, nodeid);
	struct stripe *s = stripe_of(fz->nodes, ino);
	bool found = false;
	struct fz_file *f;
	struct node *n;

	lk_lock(&s->lock);
	n = find(s, ino);
	if (n) {
		cds_hlist_for_each_entry_2(f, &n->files, list) {
			if (pid == 0 || f->pid != pid)
				continue;
			pin(f);
			found = true;
		}
	}
	if (n && !found && n->files.next)
		pin(cds_hlist_entry(n->files.next, struct fz_file, list));
	lk_unlock(&s->lock);
}

/* As good as a descriptor in the hands of whoever knows it. */
int fz_file_token(struct fz *fz, struct fz_file *f, uint8_t secret[16])
{
	struct stripe *s = stripe_of(fz->nodes, f->ino);
	uint8_t fresh[sizeof(f->token)];

	if (getrandom(fresh, sizeof(fresh), 0) != (ssize_t)sizeof(fresh))
		return -EIO;
	lk_lock(&s->lock);
	if (!f->has_token)
		memcpy(f->token, fresh, sizeof(fresh));
	f->has_token = true;
	memcpy(secret, f->token, sizeof(f->token));
	lk_unlock(&s->lock);
	return 0;
}

/* In the same time wherever they differ. */
static bool same_secret(const uint8_t a[16], const uint8_t b[16])
{
	unsigned diff = 0;

	for (unsigned i = 0; i < 16; i++)
		diff |= (unsigned)(a[i] ^ b[i]);
	return diff == 0;
}

int fz_node_by_token(struct fz *fz, uint64_t ino, const uint8_t secret[16], struct fs_inode **out)
{
	struct stripe *s = stripe_of(fz->nodes, ino);
	int ret = -ESTALE;
	struct fz_file *f;
	struct node *n;

	lk_lock(&s->lock);
	n = find(s, ino);
	if (n) {
		cds_hlist_for_each_entry_2(f, &n->files, list) {
			if (ret == 0 || !f->has_token || !same_secret(f->token, secret))
				continue;
			fs_iref(f->ip);
			*out = f->ip;
			ret = 0;
		}
	}
	lk_unlock(&s->lock);
	return ret;
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

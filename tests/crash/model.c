/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model.h"

uint8_t m_byte(uint32_t seed, uint32_t at)
{
	uint32_t x = (seed * 2654435761u) ^ (at * 40503u);

	x = (x ^ x >> 15) * 0x2c1b3c6du;
	x = (x ^ x >> 13) & 0x7f; /* M_STALE has the top bit set */
	return x ? (uint8_t)x : 1;
}

void m_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < M_NAMES; i++)
		m->name[i].ino = -1;
	m->ino[M_ROOT] = (struct m_inode){ .used = true, .mode = S_IFDIR | 0755, .nlink = 2 };
}

static struct m_name *find(const struct model *m, int dir, const char *name, size_t len)
{
	for (unsigned i = 0; i < M_NAMES; i++) {
		const struct m_name *n = &m->name[i];

		if (n->ino >= 0 && n->dir == dir && strlen(n->name) == len &&
		    memcmp(n->name, name, len) == 0)
			return (struct m_name *)(uintptr_t)n;
	}
	return NULL;
}

struct m_name *m_find(struct model *m, int dir, const char *name)
{
	return find(m, dir, name, strlen(name));
}

int m_walk(const struct model *m, const char *path, int *dir, const char **last)
{
	int at = M_ROOT;

	for (;;) {
		const char *slash = strchr(path, '/');
		const size_t len = slash ? (size_t)(slash - path) : strlen(path);
		const struct m_name *n = find(m, at, path, len);

		if (dir)
			*dir = at;
		if (last)
			*last = path;
		if (!slash)
			return n ? n->ino : -1;
		if (!n || !m_is_dir(m, n->ino)) {
			if (dir)
				*dir = -1;
			return -1;
		}
		at = n->ino;
		path = slash + 1;
	}
}

void m_add(struct model *m, int dir, const char *name, int ino)
{
	for (unsigned i = 0; i < M_NAMES; i++) {
		if (m->name[i].ino >= 0)
			continue;
		m->name[i].dir = dir;
		m->name[i].ino = ino;
		snprintf(m->name[i].name, sizeof(m->name[i].name), "%s", name);
		m->touched |= 1u << dir | 1u << ino;
		return;
	}
	abort();
}

int m_new(struct model *m, mode_t mode)
{
	const int i = ++m->next;

	if (i >= M_INODES)
		abort();
	m->ino[i] = (struct m_inode){ .used = true, .mode = mode };
	m->touched |= 1u << i;
	return i;
}

void m_drop(struct model *m, struct m_name *n)
{
	struct m_inode *ip = &m->ino[n->ino];

	m->touched |= 1u << n->dir | 1u << n->ino;
	if (S_ISDIR(ip->mode)) {
		ip->nlink = 0;
		m->ino[n->dir].nlink--;
	} else {
		ip->nlink--;
	}
	if (ip->nlink == 0 && !ip->is_open)
		ip->used = false;
	n->ino = -1;
}

bool m_is_dir(const struct model *m, int ino)
{
	return ino >= 0 && S_ISDIR(m->ino[ino].mode);
}

bool m_empty(const struct model *m, int dir)
{
	for (unsigned i = 0; i < M_NAMES; i++)
		if (m->name[i].ino >= 0 && m->name[i].dir == dir)
			return false;
	return true;
}

/* ---- The judgement -------------------------------------------------------------------------------- */

struct judge {
	const struct m_range *r;
	const struct model *m;  /* the state that is compared now */
	struct fs *fs;
	struct fs_ctx ctx;
	uint64_t ino[M_INODES]; /* the number that each inode was found with */
	char *why;
	size_t size;
};

static bool say(struct judge *j, const char *name, const char *what, long got, long want)
{
	snprintf(j->why, j->size, "%s: %s is %ld, not %ld", name, what, got, want);
	return false;
}

static bool judge_xattr(struct judge *j, const struct m_name *n, struct fs_inode *ip)
{
	const struct m_xattr *x = &j->m->ino[n->ino].xattr;
	static __thread uint8_t buf[65536];
	int64_t len = fs_getxattr(&j->ctx, ip, "user.x", buf, sizeof(buf));

	if (len != (x->len ? (int64_t)x->len : -ENODATA))
		return say(j, n->name, "user.x", len, x->len);
	for (uint32_t i = 0; i < x->len; i++)
		if (buf[i] != m_byte(x->seed, i))
			return say(j, n->name, "a byte of user.x", buf[i], m_byte(x->seed, i));
	return true;
}

static bool judge_target(struct judge *j, const struct m_name *n, struct fs_inode *ip)
{
	const char *want = j->m->ino[n->ino].target;
	char buf[64];
	int64_t len = fs_readlink(&j->ctx, ip, buf, sizeof(buf));

	if (len != (int64_t)strlen(want) || memcmp(buf, want, (size_t)len) != 0)
		return say(j, n->name, "the link's target", len, (long)strlen(want));
	return true;
}

/* One name of the state: what it leads to. */
static bool judge_name(struct judge *j, const struct m_name *n, struct fs_inode *dir)
{
	const struct m_inode *want = &j->m->ino[n->ino];
	struct fs_inode *ip;
	struct fs_attr a;
	bool good = true;
	int err = fs_lookup(&j->ctx, dir, n->name, strlen(n->name), &ip);

	if (err)
		return say(j, n->name, "lookup", err, 0);
	err = fs_getattr(&j->ctx, ip, &a);
	if (err)
		good = say(j, n->name, "getattr", err, 0);
	else if (a.mode != want->mode)
		good = say(j, n->name, "mode", (long)a.mode, (long)want->mode);
	else if (a.nlink != want->nlink)
		good = say(j, n->name, "nlink", a.nlink, want->nlink);
	else if (j->ino[n->ino] && j->ino[n->ino] != a.ino)
		good = say(j, n->name, "inode", (long)a.ino, (long)j->ino[n->ino]);
	else if (S_ISDIR(want->mode) && fs_parent_ino(ip) != fs_ino(dir))
		good = say(j, n->name, "parent", (long)fs_parent_ino(ip), (long)fs_ino(dir));
	j->ino[n->ino] = a.ino;
	if (good)
		good = judge_xattr(j, n, ip);
	if (good && S_ISLNK(want->mode))
		good = judge_target(j, n, ip);
	fs_iput(ip);
	return good;
}

static int count_entry(void *arg, const char *name, size_t len, uint64_t ino, unsigned type,
		       uint64_t cookie)
{
	++*(unsigned *)arg;
	return 0;
}

static bool judge_dir(struct judge *j, int dirno, unsigned depth)
{
	unsigned found = 0, names = 2;
	struct fs_inode *dir;
	bool good = true;
	int err;

	if (depth > 8)
		return say(j, "tree", "depth", depth, 0);
	err = fs_iget(j->fs, dirno == M_ROOT ? FS_ROOT_INO : j->ino[dirno], 0, &dir);
	if (err)
		return say(j, "directory", "iget", err, 0);
	for (unsigned i = 0; i < M_NAMES && good; i++) {
		if (j->m->name[i].ino < 0 || j->m->name[i].dir != dirno)
			continue;
		names++;
		good = judge_name(j, &j->m->name[i], dir);
	}
	if (good) {
		err = fs_readdir(&j->ctx, dir, 0, count_entry, &found);
		if (err || found != names)
			good = say(j, "directory", "entries", err ? err : (long)found, names);
	}
	fs_iput(dir);
	for (unsigned i = 0; i < M_NAMES && good; i++)
		if (j->m->name[i].ino >= 0 && j->m->name[i].dir == dirno &&
		    m_is_dir(j->m, j->m->name[i].ino))
			good = judge_dir(j, j->m->name[i].ino, depth + 1);
	return good;
}

/* ---- Contents --------------------------------------------------------------------------------------- */

/* The newest state whose write of this byte was promised, `lo` if none is newer. */
static int written_since(const struct m_range *r, int ino, int lo, uint32_t at)
{
	for (int k = r->hi; k > lo; k--) {
		const struct m_written *w = &r->written[k];

		if (w->to && w->ino == ino && w->from <= at && at < w->to)
			return k;
	}
	return lo;
}

/* A size that the file had, or passed on its way from one to the next while it grew. */
static bool size_possible(const struct m_range *r, int ino, int lo, uint64_t got)
{
	/* Not shorter than what was promised to be in it, unless it was cut since. */
	for (int k = r->hi; k > lo; k--) {
		const struct m_written *w = &r->written[k];
		uint64_t least = w->to;

		if (!w->to || w->ino != ino)
			continue;
		for (int i = k; i <= r->hi; i++)
			least = MIN(least, r->states[i].ino[ino].size);
		if (got < least)
			return false;
	}
	for (int k = lo; k <= r->hi; k++) {
		const struct m_inode *s = &r->states[k].ino[ino];

		if (!s->used)
			continue;
		if (got == s->size)
			return true;
		/* A new file grows from nothing. */
		if (k > lo && got < s->size && got >= r->states[k - 1].ino[ino].size)
			return true;
	}
	return false;
}

/*
 * Beyond a size that the file was cut to, zeros are on their way before the size is: the block
 * that holds the new end is zeroed first. Nothing else makes a zero out of what was written.
 */
static bool byte_possible(const struct m_range *r, int ino, int lo, uint32_t at, uint8_t got)
{
	for (int k = written_since(r, ino, lo, at); k <= r->hi; k++) {
		const struct m_inode *s = &r->states[k].ino[ino];

		if (!s->used)
			continue;
		if (at < s->size && s->data[at] == got)
			return true;
		if (k > lo && got == 0 && at >= s->size && r->states[k - 1].ino[ino].used &&
		    s->size < r->states[k - 1].ino[ino].size)
			return true;
	}
	return false;
}

/* Nothing after state k changed what it wrote to [from, to). */
static bool kept_since(const struct m_range *r, int k, const struct m_written *w)
{
	for (int i = k; i <= r->hi; i++) {
		const struct m_inode *s = &r->states[i].ino[w->ino];

		if (!s->used || s->size < w->to ||
		    memcmp(s->data + w->from, r->states[k].ino[w->ino].data + w->from, w->to - w->from))
			return false;
	}
	return true;
}

/*
 * Of what an untorn write wrote, some bytes are there that the file never had before it, and
 * others are not.
 */
static bool is_torn(const struct m_range *r, int lo, int k, const uint8_t *got, uint32_t n)
{
	const struct m_written *w = &r->untorn[k];
	const uint8_t *want = r->states[k].ino[w->ino].data;
	bool some = false, lacks = false;

	for (uint32_t at = w->from; at < w->to; at++) {
		bool fresh = true;

		if (at >= n || got[at] != want[at]) {
			lacks = true;
			continue;
		}
		for (int i = lo; i < k && fresh; i++)
			fresh = r->states[i].ino[w->ino].data[at] != want[at];
		some |= fresh;
	}
	return some && lacks;
}

static bool judge_contents(struct judge *j, int ino, const char *name)
{
	int lo = j->r->data[ino];
	static __thread uint8_t buf[M_DATA];
	struct iovec iov = { buf, sizeof(buf) };
	struct fs_inode *ip;
	struct kiocb iocb;
	struct iov_iter it;
	int64_t n;
	int err = fs_iget(j->fs, j->ino[ino], 0, &ip);

	if (err)
		return say(j, name, "iget", err, 0);
	for (int k = 1; k <= j->m - j->r->states; k++)
		if (j->r->replaced[k] == ino)
			lo = MAX(lo, k - 1);
	iocb = (struct kiocb){ .ki_inode = fs_vfs_inode(ip) };
	iov_iter_init(&it, &iov, 1, sizeof(buf));
	n = fs_read_iter(&j->ctx, &iocb, &it);
	fs_iput(ip);
	if (n < 0)
		return say(j, name, "read", n, 0);
	if (!size_possible(j->r, ino, lo, (uint64_t)n))
		return say(j, name, "size", n, j->m->ino[ino].size);
	for (uint32_t at = 0; at < (uint32_t)n; at++) {
		if (byte_possible(j->r, ino, lo, at, buf[at]))
			continue;
		snprintf(j->why, j->size, "%s: byte %u is %d, as it never was since it was promised",
			 name, at, buf[at]);
		return false;
	}
	for (int k = lo + 1; k <= j->r->hi; k++)
		if (j->r->untorn[k].to && j->r->untorn[k].ino == ino && kept_since(j->r, k, &j->r->untorn[k]) &&
		    is_torn(j->r, lo, k, buf, (uint32_t)n))
			return say(j, name, "untorn write of state", k, 0);
	return true;
}

static bool judge_state(struct judge *j)
{
	memset(j->ino, 0, sizeof(j->ino));
	if (!judge_dir(j, M_ROOT, 0))
		return false;
	for (unsigned i = 0; i < M_NAMES; i++) {
		const struct m_name *n = &j->m->name[i];

		if (n->ino >= 0 && S_ISREG(j->m->ino[n->ino].mode) &&
		    !judge_contents(j, n->ino, n->name))
			return false;
	}
	return true;
}

bool m_judge(const struct m_range *r, struct fs *fs, char *why, size_t size)
{
	struct judge j = { .r = r, .fs = fs, .why = why, .size = size };

	/* The newest first: then `why` tells of the oldest, which a lost promise looks like. */
	for (int k = r->hi; k >= r->lo; k--) {
		j.m = &r->states[k];
		if (judge_state(&j))
			return true;
	}
	return false;
}

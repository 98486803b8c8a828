/* SPDX-License-Identifier: MIT */
/* Getting to a block or an inode: by its role, its number, a name, or from one to the next. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl.h"
#include "ctl_debug.h"
#include "iomapfs/util.h"

static int fail(const char *where, const char *why)
{
	fprintf(stderr, "iomapctl: %s: %s\n", where, why);
	return CTL_FAIL;
}

int debug_load(struct debug *d, uint64_t mblk)
{
	int err;

	if (mblk >= d->bd->info.size >> OD_MBLK_SHIFT) {
		fprintf(stderr, "iomapctl: block %" PRIu64 " is past the end of the device\n", mblk);
		return CTL_FAIL;
	}
	err = bd_read(d->bd, mblk << OD_MBLK_SHIFT, d->block, OD_MBLK_SIZE);
	if (err)
		return ctl_fail("cannot read", -err);
	d->mblk = mblk;
	d->slot = 0;
	return CTL_OK;
}

static int load_inode(struct debug *d, uint64_t ino)
{
	int ret;

	if (od_ino_slot(ino) == 0) {
		fprintf(stderr, "iomapctl: %" PRIu64 " is no inode's number\n", ino);
		return CTL_FAIL;
	}
	ret = debug_load(d, od_ino_mblk(ino));
	if (ret == CTL_OK)
		d->slot = od_ino_slot(ino);
	return ret;
}

const struct od_inode *debug_inode(const struct debug *d)
{
	return (const void *)(d->block->b + od_ino_offset(od_ino_make(d->mblk, d->slot)));
}

/* ---- Fields -------------------------------------------------------------------------- */

const char *debug_path(const struct debug *d, const struct od_place *p)
{
	char prefix[16];
	int n;

	if (!d->slot)
		return p->path;
	n = snprintf(prefix, sizeof(prefix), "inode[%u].", d->slot);
	return strncmp(p->path, prefix, (size_t)n) ? NULL : p->path + n;
}

struct match {
	const struct debug *d;
	const char *name;
	struct od_place *place;
};

static int match_field(void *arg, const struct od_place *p)
{
	struct match *m = arg;
	const char *path = debug_path(m->d, p);

	if (!path || strcmp(path, m->name) != 0)
		return 0;
	*m->place = *p;
	m->place->path = m->name;
	return 1;
}

/* "@OFFSET:SIZE": bytes of the block that need no name. */
static bool raw_bytes(const char *name, struct od_place *place)
{
	unsigned offset, size;
	int end = 0;

	if (sscanf(name, "@%u:%u%n", &offset, &size, &end) != 2 || name[end])
		return false;
	*place = (struct od_place){ .path = name, .offset = (uint16_t)offset, .size = (uint16_t)size,
				    .kind = OD_FK_BYTES };
	return size > 0 && offset < OD_MBLK_SIZE && size <= OD_MBLK_SIZE - offset;
}

int debug_find_field(const struct debug *d, const char *name, struct od_place *place)
{
	struct match m = { d, name, place };
	const char *what = od_block_name(d->block);

	if (raw_bytes(name, place) || od_block_walk(d->block, match_field, &m))
		return CTL_OK;
	fprintf(stderr, "iomapctl: block %" PRIu64 " (%s) has no field '%s' now; print shows those it has\n",
		d->mblk, what ? what : "no metadata", name);
	return CTL_FAIL;
}

/* ---- Names ----------------------------------------------------------------------------- */

struct lookup {
	struct debug *d;
	const char *name;
	size_t len;
	uint64_t ino;            /* found */
	uint64_t budget;         /* blocks to read yet: a damaged tree may lead in circles */
};

static void look_in_block(struct lookup *l)
{
	const uint8_t *block = l->d->block->b;
	unsigned rec_len;

	for (unsigned at = OD_DIR_FIRST; at + OD_DIRENT_HDR <= OD_MBLK_SIZE; at += rec_len) {
		const struct od_dirent *de = (const void *)(block + at);

		rec_len = le16_get(de->rec_len);
		if (rec_len < OD_DIRENT_HDR || rec_len > OD_MBLK_SIZE - at ||
		    de->name_len > rec_len - OD_DIRENT_HDR)
			return;
		if (le64_get(de->ino) && de->name_len == l->len && !memcmp(de->name, l->name, l->len))
			l->ino = le64_get(de->ino);
	}
}

/* Below a node of the directory's map; leaves it in no particular block. */
static int look_below(struct lookup *l, uint64_t mblk, unsigned level)
{
	const struct od_hdr *h = &l->d->block->hdr;
	uint64_t child[OD_PAYLOAD / 16];
	unsigned n;

	if (l->budget-- == 0)
		return CTL_FAIL;
	if (debug_load(l->d, mblk) != CTL_OK)
		return CTL_FAIL;
	if (le32_get(h->magic) != OD_MAGIC_BTREE || le16_get(h->type) != OD_TREE_DIRMAP ||
	    le16_get(h->level) != level)
		return fail(l->name, "the directory's map is damaged");
	n = le16_get(h->nrecs) < OD_PAYLOAD / 16 ? le16_get(h->nrecs) : OD_PAYLOAD / 16;
	for (unsigned i = 0; i < n; i++) {
		le64_t v;

		memcpy(&v, l->d->block->b + OD_HDR_SIZE + i * 16 + 8, sizeof(v));
		child[i] = le64_get(v);
	}
	for (unsigned i = 0; i < n && !l->ino; i++) {
		if (level > 0 ? look_below(l, child[i], level - 1) != CTL_OK :
				debug_load(l->d, child[i]) != CTL_OK)
			return CTL_FAIL;
		if (level == 0)
			look_in_block(l);
	}
	return CTL_OK;
}

static int look_in_dir(struct lookup *l, uint64_t dir)
{
	const struct od_inode *di;
	struct od_dir_root root;
	int ret = load_inode(l->d, dir);

	if (ret != CTL_OK)
		return ret;
	di = debug_inode(l->d);
	if (!S_ISDIR(le16_get(di->mode)) || di->data_fmt != OD_DATA_DIR)
		return fail(l->name, "what holds this name is no directory");
	memcpy(&root, di->area, sizeof(root));
	if (le64_get(root.block0)) {
		ret = debug_load(l->d, le64_get(root.block0));
		if (ret == CTL_OK)
			look_in_block(l);
	}
	if (ret == CTL_OK && !l->ino && le64_get(root.map.mblk)) {
		if (le16_get(root.map.level) >= OD_TREE_MAX_LEVEL)
			return fail(l->name, "the directory's map is damaged");
		ret = look_below(l, le64_get(root.map.mblk), le16_get(root.map.level));
	}
	return ret;
}

int debug_lookup(struct debug *d, const char *path, uint64_t *ino)
{
	*ino = d->od.root_ino;
	while (*path) {
		struct lookup l = { .d = d, .name = path, .len = strcspn(path, "/"),
				    .budget = d->od.dev_mblks };

		if (l.len > 0) {
			if (look_in_dir(&l, *ino) != CTL_OK)
				return CTL_FAIL;
			if (!l.ino)
				return fail(path, "no such name");
			*ino = l.ino;
		}
		path += l.len + (path[l.len] == '/');
	}
	return CTL_OK;
}

/* ---- The way there ------------------------------------------------------------------------ */

static bool number(const char *text, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(text, &end, 0);
	return !errno && end != text && !*end && text[0] != '-';
}

/* The first step: "ag:1". */
static int start_at(struct debug *d, const char *step)
{
	const size_t kind_len = strcspn(step, ":");
	const char *arg = step[kind_len] ? step + kind_len + 1 : "";
	uint64_t n = 0, ino;
	char kind[16];
	bool is_sb;

	snprintf(kind, sizeof(kind), "%.*s", (int)MIN(kind_len, sizeof(kind)), step);
	is_sb = !strcmp(kind, "sb");
	if (!strcmp(kind, "path")) {
		if (d->damaged)
			return fail(step, "the superblock is damaged, the root unknown");
		return debug_lookup(d, arg, &ino) == CTL_OK ? load_inode(d, ino) : CTL_FAIL;
	}
	if (*arg && !number(arg, &n))
		return fail(step, "a number is wanted after the colon");
	if (!strcmp(kind, "mblk") && *arg)
		return debug_load(d, n);
	if (!strcmp(kind, "inode") && *arg)
		return load_inode(d, n);
	if (!strcmp(kind, "mmp") && !*arg)
		return debug_load(d, OD_AG_MMP_MBLK);
	if (is_sb && n == 0)
		return debug_load(d, OD_AG_SB_MBLK);
	if (d->damaged)
		return fail(step, "the superblock is damaged, only sb, mmp, mblk:N and inode:N can be found");
	if (!strcmp(kind, "journal") && !*arg)
		return debug_load(d, d->od.jnl_start);
	if (!strcmp(kind, "ring") && *arg)
		return n < d->od.jnl_len - 1 ? debug_load(d, d->od.jnl_start + 1 + n) :
					       fail(step, "the journal is shorter");
	if (is_sb || (!strcmp(kind, "ag") && *arg))
		return n < d->od.nr_ags ? debug_load(d, od_ag_start_mblk(&d->od, (uint32_t)n) +
								(is_sb ? OD_AG_SB_MBLK : OD_AG_HDR_MBLK)) :
					  fail(step, "there are fewer groups");
	return fail(step, "not understood; see iomapctl --help for the places there are");
}

/* A further step: where a field of this block leads. */
static int follow(struct debug *d, const char *name)
{
	struct od_place p;
	uint64_t v;

	if (debug_find_field(d, name, &p) != CTL_OK)
		return CTL_FAIL;
	if (p.kind != OD_FK_MBLK && p.kind != OD_FK_INO)
		return fail(name, "leads nowhere: it holds no address of metadata");
	v = od_place_get(d->block, &p);
	if (v == 0)
		return fail(name, "leads nowhere: it is 0");
	return p.kind == OD_FK_INO ? load_inode(d, v) : debug_load(d, v);
}

int debug_goto(struct debug *d, const char *where)
{
	char *steps = strdup(where), *step, *state = NULL;
	int ret;

	if (!steps)
		return ctl_fail(where, ENOMEM);
	step = strtok_r(steps, ",", &state);
	ret = step ? start_at(d, step) : fail("''", "say where: sb, ag:1, inode:NUMBER, path:/NAME");
	while (ret == CTL_OK && (step = strtok_r(NULL, ",", &state)))
		ret = follow(d, step);
	free(steps);
	return ret;
}

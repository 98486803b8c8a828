/* SPDX-License-Identifier: MIT */
/* Growing arrays, and the inodes found so far. */
#include <stdlib.h>
#include <string.h>

#include "chk.h"

void chk_vec_init(struct chk_vec *v, size_t elem_bytes)
{
	*v = (struct chk_vec){ .elem_bytes = elem_bytes };
}

bool chk_vec_push(struct chk *c, struct chk_vec *v, const void *elem)
{
	if (v->n == v->room) {
		const size_t room = v->room ? v->room * 2 : 64;
		void *data = reallocarray(v->data, room, v->elem_bytes);

		if (!data) {
			c->error = -ENOMEM;
			return false;
		}
		v->data = data;
		v->room = room;
	}
	memcpy((char *)v->data + v->n++ * v->elem_bytes, elem, v->elem_bytes);
	return true;
}

void chk_vec_free(struct chk_vec *v)
{
	free(v->data);
	v->data = NULL;
	v->n = v->room = 0;
}

static int cluster_cmp(const void *key, const void *elem)
{
	const uint64_t first = *(const uint64_t *)key;
	const struct chk_cluster *cl = elem;

	return first < cl->first ? -1 : first > cl->first;
}

struct chk_inode *chk_inode_get(struct chk *c, uint64_t ino)
{
	const uint64_t mblks = 1ull << (c->od.cluster_shift - OD_MBLK_SHIFT);
	const uint64_t first = ROUND_DOWN(od_ino_mblk(ino), mblks);
	struct chk_cluster *cl;

	if (od_ino_slot(ino) == 0 || c->clusters.n == 0)
		return NULL;
	/* Groups are walked in order, their trees too: the array is sorted. */
	cl = bsearch(&first, c->clusters.data, c->clusters.n, sizeof(*cl), cluster_cmp);
	if (!cl)
		return NULL;
	return &cl->inodes[(od_ino_mblk(ino) - first) * OD_INODES_PER_MBLK + od_ino_slot(ino) - 1];
}

struct chk_dirinfo *chk_dirinfo_of(struct chk *c, struct chk_inode *ci)
{
	static struct chk_dirinfo none;

	if (ci->dir == 0 && c->dirs->n < UINT32_MAX &&
	    chk_vec_push(c, c->dirs, &(struct chk_dirinfo){ .parent = 0 }))
		ci->dir = (uint32_t)c->dirs->n;
	if (ci->dir == 0) {
		/* Without memory the run is over; what is written here nobody reads. */
		none = (struct chk_dirinfo){ .parent = 0 };
		return &none;
	}
	return (struct chk_dirinfo *)c->dirs->data + (ci->dir - 1);
}

bool chk_inode_read(struct chk *c, uint64_t ino, struct od_inode *di)
{
	uint8_t *block = chk_block_alloc(c);
	bool ok = block && chk_read(c, od_ino_mblk(ino), block) == 0;

	if (ok)
		memcpy(di, block + od_ino_offset(ino), sizeof(*di));
	free(block);
	return ok;
}

/* SPDX-License-Identifier: MIT */
/*
 * The iterator that owns every loop over mappings: end the held mapping, decide
 * whether to go on, get the next one. No operation calls begin or end itself, so
 * the two are balanced by construction as long as the loop is left only when
 * iomap_iter returned <= 0.
 */
#include "iomapfs/iomap.h"
#include "iomap_private.h"

/*
 * A body that keeps finding its mapping stale makes no progress. Extent changes
 * come from finite work (writeback of a dirty range, a punch), so a count far
 * above any of that means a broken validity cookie; fail rather than spin.
 */
#define STALE_MAX 65536u

static uint64_t usable_length(const struct iomap_iter *iter, uint64_t pos, uint64_t len)
{
	uint64_t end = iomap_end(&iter->iomap);

	if (iter->srcmap.type != IOMAP_HOLE)
		end = MIN(end, iomap_end(&iter->srcmap));
	return pos >= end ? 0 : MIN(len, end - pos);
}

uint64_t iomap_length(const struct iomap_iter *iter)
{
	return usable_length(iter, iter->pos, iter->len);
}

int iomap_iter_advance(struct iomap_iter *iter, uint64_t n)
{
	if (n > iomap_length(iter))
		return -EIO;
	iter->pos += n;
	iter->len -= n;
	return 0;
}

/* Is what begin returned usable at all? A file system bug otherwise, named in the log. */
static const char *mapping_fault(const struct iomap_iter *iter)
{
	const struct iomap *m = &iter->iomap, *s = &iter->srcmap;

	if (m->length == 0)
		return "empty mapping";
	if (m->offset > iter->pos || iomap_end(m) <= iter->pos)
		return "mapping does not hold the position";
	if (iomap_end(m) < m->offset)
		return "mapping wraps around";
	if (m->flags & IOMAP_F_STALE)
		return "stale mapping from begin";
	if ((m->type == IOMAP_MAPPED || m->type == IOMAP_UNWRITTEN) && m->addr == IOMAP_NULL_ADDR &&
	    !(m->flags & IOMAP_F_ANON_WRITE))
		return "mapping without an address";
	if ((m->flags & IOMAP_F_XATTR) && !(iter->flags & IOMAP_REPORT))
		return "mapping of attributes for data";
	if (s->type != IOMAP_HOLE && (s->offset > iter->pos || iomap_end(s) <= iter->pos))
		return "source mapping does not hold the position";
	return NULL;
}

/* Folios that begin found and nobody came to. */
static void put_fbatch(struct iomap_iter *iter)
{
	while (iter->fbatch.next < iter->fbatch.nr)
		folio_put(iter->fbatch.folios[iter->fbatch.next++]);
	iter->fbatch.nr = iter->fbatch.next = 0;
}

/* Ends the held mapping and decides: 1 ask for the next one, 0 done, -errno. */
static int finish_mapping(struct iomap_iter *iter, struct iomap *m, iomap_end_t end)
{
	bool stale = iter->iomap.flags & IOMAP_F_STALE;
	uint64_t advanced = iter->pos - iter->iter_start_pos;
	uint64_t offered = usable_length(iter, iter->iter_start_pos, iter->len + advanced);
	int err = 0;

	assert(iter->pos >= iter->iter_start_pos);
	assert(advanced <= offered);
	if (end)
		err = end(iter->inode, iter->iter_start_pos, offered, advanced, iter->flags, m);
	/* With progress the bytes count and the error of end is dropped. */
	if (err < 0 && advanced == 0)
		return err;
	if (iter->status > 0)
		return -EIO;
	if (iter->status < 0)
		return iter->status;
	if (iter->len == 0)
		return 0;
	if (advanced == 0 && !stale)
		return 0;
	iter->nr_stale = advanced ? 0 : iter->nr_stale + 1;
	if (iter->nr_stale > STALE_MAX) {
		log_err("inode %llu: mapping at %llu never becomes valid",
			(unsigned long long)iter->inode->i_ino, (unsigned long long)iter->pos);
		return -EIO;
	}
	return 1;
}

int iomap_iter_next(struct iomap_iter *iter, struct iomap *m, struct iomap *srcmap,
		    iomap_begin_t begin, iomap_end_t end)
{
	int err;

	assert(m == &iter->iomap && srcmap == &iter->srcmap);
	if (m->length) {
		err = finish_mapping(iter, m, end);
		if (err <= 0)
			return err;
	} else if (iter->len == 0) {
		return 0;
	}
	put_fbatch(iter);
	memset(m, 0, sizeof(*m));
	memset(srcmap, 0, sizeof(*srcmap));
	iter->status = 0;
	iter->iter_start_pos = iter->pos;
	err = begin(iter->inode, iter->pos, iter->len, iter->flags, m, srcmap);
	if (err < 0) {
		m->length = 0;
		return err;
	}
	return 1;
}

static int next_mapping(struct iomap_iter *iter, const struct iomap_ops *ops)
{
	if (ops->iomap_next)
		return ops->iomap_next(iter, &iter->iomap, &iter->srcmap);
	return iomap_iter_next(iter, &iter->iomap, &iter->srcmap, ops->iomap_begin, ops->iomap_end);
}

/* A mapping that cannot be used still has its end. */
static void refuse_mapping(struct iomap_iter *iter, const struct iomap_ops *ops)
{
	iter->status = -EIO;
	if (ops->iomap_next && iter->iomap.length)
		(void)ops->iomap_next(iter, &iter->iomap, &iter->srcmap);
	else if (ops->iomap_end)
		ops->iomap_end(iter->inode, iter->pos, 0, 0, iter->flags, &iter->iomap);
	iter->iomap.length = 0;
}

int iomap_iter(struct iomap_iter *iter, const struct iomap_ops *ops)
{
	int ret = next_mapping(iter, ops);
	const char *fault;

	if (ret <= 0) {
		put_fbatch(iter);
		return ret;
	}
	HOOK("iomap:mapped", iter);
	TRACE(iomap_mapping, iter->inode->i_ino, iter->pos, iter->iomap.length);
	fault = mapping_fault(iter);
	if (fault) {
		log_err("inode %llu: %s at %llu", (unsigned long long)iter->inode->i_ino, fault,
			(unsigned long long)iter->pos);
		refuse_mapping(iter, ops);
		put_fbatch(iter);
		return -EIO;
	}
	return 1;
}

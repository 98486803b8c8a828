/* SPDX-License-Identifier: MIT */
/*
 * Page index of one mapping: a radix tree of 64-way nodes, the height of which
 * follows the largest page index. tree_lock is held by every caller.
 *
 * A slot of a node of shift s stands for 2^s pages. It is empty, or points to a
 * child node (low bit set), or to a folio. A folio of order o lives in the nodes
 * of the highest shift (a multiple of 6) not above o and fills 2^(o - s) slots, so
 * a 2 MiB folio costs 8 slots, and any page of it finds it directly.
 *
 * Each tag is a bit a slot, and a bit of a parent is set if any bit of the child
 * is: walking tagged folios costs the height for each, whatever lies between.
 * All slots of a folio carry its tags, hence a walk that starts in the middle of
 * one still meets it. PRESENT is such a tag; empty nodes do not exist, so a child
 * in the place of a folio-to-be means that some page of the range is taken.
 */
#include <stdlib.h>

#include "folio_private.h"

#define NODE_SHIFT 6u
#define NODE_SLOTS (1u << NODE_SHIFT)
#define NODE_MASK  (NODE_SLOTS - 1)
#define CHILD_BIT  1ul

struct index_node {
	struct index_node *parent;
	unsigned shift;
	unsigned slot; /* in parent */
	uint64_t tags[INDEX_NR_TAGS];
	void *slots[NODE_SLOTS];
};

static bool is_child(const void *entry)
{
	return (uintptr_t)entry & CHILD_BIT;
}

static struct index_node *to_child(void *entry)
{
	return (struct index_node *)((uintptr_t)entry & ~CHILD_BIT);
}

static void *child_entry(struct index_node *n)
{
	return (void *)((uintptr_t)n | CHILD_BIT);
}

/* Last page index below a root of this shift. */
static uint64_t root_last(const struct index_node *root)
{
	return root->shift + NODE_SHIFT >= 64 ? UINT64_MAX :
						(1ull << (root->shift + NODE_SHIFT)) - 1;
}

static unsigned slot_of(const struct index_node *n, uint64_t index)
{
	return (unsigned)(index >> n->shift) & NODE_MASK;
}

/* Shift of the nodes in which folios of this order live. */
static unsigned order_shift(unsigned order)
{
	return order / NODE_SHIFT * NODE_SHIFT;
}

/* Bits of the slots that the folio fills in its node. */
static uint64_t folio_slot_mask(const struct index_node *n, const struct folio *f)
{
	unsigned nr = 1u << (f->order - n->shift);

	return ((nr == 64 ? 0 : 1ull << nr) - 1) << slot_of(n, f->index);
}

struct folio *folio_index_lookup(struct address_space *m, uint64_t index)
{
	struct index_node *n = m->tree;
	void *e;

	if (!n || index > root_last(n))
		return NULL;
	while (is_child(e = n->slots[slot_of(n, index)]))
		n = to_child(e);
	return e;
}

struct folio *folio_index_next(struct address_space *m, uint64_t index, uint64_t last,
			 enum index_tag tag)
{
	struct index_node *n = m->tree;

	if (!n || index > root_last(n))
		return NULL;
	last = MIN(last, root_last(n));
	while (index <= last) {
		unsigned slot = slot_of(n, index), found;
		uint64_t bits = n->tags[tag] >> slot << slot;
		uint64_t end;

		if (!bits) {
			/* Nothing from here to the node's end: go on behind it, from the top. */
			end = index | ((1ull << n->shift << NODE_SHIFT) - 1);
			if (!n->parent || end >= last)
				return NULL;
			index = end + 1;
			n = m->tree;
			continue;
		}
		found = (unsigned)__builtin_ctzll(bits);
		if (found != slot)
			index = ((index >> n->shift & ~(uint64_t)NODE_MASK) + found) << n->shift;
		if (index > last)
			return NULL;
		if (!is_child(n->slots[found]))
			return n->slots[found];
		n = to_child(n->slots[found]);
	}
	return NULL;
}

struct folio *folio_index_last(struct address_space *m, enum index_tag tag)
{
	struct index_node *n = m->tree;
	void *e;

	if (!n || !n->tags[tag])
		return NULL;
	while (is_child(e = n->slots[ilog2(n->tags[tag])]))
		n = to_child(e);
	return e;
}

static struct index_node *node_new(unsigned shift)
{
	struct index_node *n = calloc(1, sizeof(*n));

	if (n)
		n->shift = shift;
	return n;
}

/* Free nodes without entries from n upwards. */
static void prune(struct address_space *m, struct index_node *n)
{
	while (n && !n->tags[TAG_PRESENT]) {
		struct index_node *parent = n->parent;

		if (parent) {
			parent->slots[n->slot] = NULL;
			for (unsigned t = 0; t < INDEX_NR_TAGS; t++)
				parent->tags[t] &= ~(1ull << n->slot);
		} else {
			m->tree = NULL;
		}
		free(n);
		n = parent;
	}
}

static void tag_set(struct index_node *n, uint64_t bits, enum index_tag tag)
{
	for (; n && (n->tags[tag] & bits) != bits; n = n->parent) {
		n->tags[tag] |= bits;
		bits = 1ull << n->slot;
	}
}

static void tag_clear(struct index_node *n, uint64_t bits, enum index_tag tag)
{
	for (; n; n = n->parent) {
		n->tags[tag] &= ~bits;
		if (n->tags[tag])
			return;
		bits = 1ull << n->slot;
	}
}

/* Make the root reach page last, with nodes of at least this shift. */
static int grow(struct address_space *m, uint64_t last, unsigned shift)
{
	struct index_node *root = m->tree, *n;

	if (!root) {
		root = node_new(shift);
		if (!root)
			return -ENOMEM;
		while (root_last(root) < last)
			root->shift += NODE_SHIFT;
		m->tree = root;
		return 0;
	}
	while (root_last(root) < last || root->shift < shift) {
		n = node_new(root->shift + NODE_SHIFT);
		if (!n)
			return -ENOMEM;
		n->slots[0] = child_entry(root);
		for (unsigned t = 0; t < INDEX_NR_TAGS; t++)
			n->tags[t] = root->tags[t] ? 1 : 0;
		root->parent = n;
		root->slot = 0;
		m->tree = root = n;
	}
	return 0;
}

int folio_index_insert(struct address_space *m, struct folio *f)
{
	unsigned shift = order_shift(f->order);
	struct index_node *n, *child;
	uint64_t bits;
	int err;

	assert(IS_ALIGNED(f->index, folio_nr_pages(f)));
	if (folio_index_next(m, f->index, folio_next_index(f) - 1, TAG_PRESENT))
		return -EEXIST;
	err = grow(m, folio_next_index(f) - 1, shift);
	if (err)
		return err;
	for (n = m->tree; n->shift > shift; n = child) {
		void **slot = &n->slots[slot_of(n, f->index)];

		child = *slot ? to_child(*slot) : node_new(n->shift - NODE_SHIFT);
		if (!child) {
			prune(m, n);
			return -ENOMEM;
		}
		child->parent = n;
		child->slot = slot_of(n, f->index);
		*slot = child_entry(child);
	}
	bits = folio_slot_mask(n, f);
	assert((n->tags[TAG_PRESENT] & bits) == 0);
	for (uint64_t b = bits; b; b &= b - 1)
		n->slots[__builtin_ctzll(b)] = f;
	tag_set(n, bits, TAG_PRESENT);
	return 0;
}

static struct index_node *folio_node(struct address_space *m, struct folio *f)
{
	struct index_node *n = m->tree;
	void *e;

	assert(n && f->index <= root_last(n));
	while (is_child(e = n->slots[slot_of(n, f->index)]))
		n = to_child(e);
	assert(e == f);
	return n;
}

void folio_index_remove(struct address_space *m, struct folio *f)
{
	struct index_node *n = folio_node(m, f);
	uint64_t bits = folio_slot_mask(n, f);

	for (uint64_t b = bits; b; b &= b - 1)
		n->slots[__builtin_ctzll(b)] = NULL;
	for (unsigned t = 0; t < INDEX_NR_TAGS; t++)
		if (n->tags[t] & bits)
			tag_clear(n, bits, t);
	prune(m, n);
}

void folio_index_set_tag(struct address_space *m, struct folio *f, enum index_tag tag)
{
	struct index_node *n = folio_node(m, f);

	tag_set(n, folio_slot_mask(n, f), tag);
}

void folio_index_clear_tag(struct address_space *m, struct folio *f, enum index_tag tag)
{
	struct index_node *n = folio_node(m, f);
	uint64_t bits = folio_slot_mask(n, f);

	if (n->tags[tag] & bits)
		tag_clear(n, bits, tag);
}

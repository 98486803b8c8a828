/* SPDX-License-Identifier: MIT */
/* The table of fields covers the structures of format.h, and a walk covers any block. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "iomapfs/format_field.h"
#include "iomapfs/util.h"
#include "unit.h"

static void covers(const struct od_struct *s)
{
	unsigned at = 0;

	for (unsigned i = 0; i < s->nr_fields; i++) {
		const struct od_field *f = &s->fields[i];

		ck_assert_msg(f->offset == at, "%s.%s at %u, not %u", s->name, f->name, f->offset, at);
		ck_assert_msg(!f->sub || f->sub->size == f->size, "%s.%s", s->name, f->name);
		ck_assert_msg(f->sub || !od_kind_is_number(f->kind) || f->size <= 8, "%s.%s", s->name,
			      f->name);
		at += f->size * f->count;
	}
	ck_assert_msg(at == s->size, "%s ends at %u of %u", s->name, at, s->size);
}

START_TEST(fields_cover_structures)
{
	const struct od_struct *s;
	unsigned i;

	for (i = 0; (s = od_struct_get(i)); i++)
		covers(s);
	ck_assert_uint_gt(i, 10);
	for (unsigned type = 0; type < OD_TREE_NR; type++) {
		for (int leaf = 0; leaf < 2; leaf++) {
			s = od_tree_rec(type, leaf);
			ck_assert_int_eq(!s, !od_tree_geom(type));
			if (!s)
				continue;
			covers(s);
			ck_assert_uint_eq(OD_PAYLOAD / s->size, od_tree_max_recs(type, leaf));
		}
	}
}
END_TEST

struct cover {
	unsigned at, fields;
	char last[OD_PATH_MAX];
};

static int count(void *arg, const struct od_place *p)
{
	struct cover *c = arg;

	ck_assert_uint_eq(p->offset, c->at);
	ck_assert_uint_gt(p->size, 0);
	ck_assert_uint_lt(strlen(p->path), OD_PATH_MAX);
	ck_assert_str_ne(p->path, c->last);
	ck_assert(!p->field == !p->in);
	snprintf(c->last, sizeof(c->last), "%s", p->path);
	c->at += p->size;
	c->fields++;
	return 0;
}

static const uint32_t magics[] = { OD_MAGIC_SB,	   OD_MAGIC_AG,	   OD_MAGIC_BTREE, OD_MAGIC_INODES,
				   OD_MAGIC_DIR,   OD_MAGIC_BLOB,  OD_MAGIC_JSB,   OD_MAGIC_JDESC,
				   OD_MAGIC_JREV, OD_MAGIC_JCOMMIT, OD_MAGIC_MMP,   0 };

/* Small numbers, mostly: lengths and types that lead somewhere. */
static void noise(uint8_t *block, size_t size, struct rng *rng)
{
	const unsigned top = (unsigned)rng_below(rng, 3) == 0 ? 256 : 24;

	for (size_t i = 0; i < size; i++)
		block[i] = rng_below(rng, 3) ? 0 : (uint8_t)rng_below(rng, top);
}

START_TEST(a_walk_names_every_byte_once)
{
	struct rng rng;

	rng_seed(&rng, unit_seed(20261123));
	for (unsigned i = 0; i < 1500; i++) {
		/* Of its own size, so that ASan sees a look past its end. */
		uint8_t *block = malloc(OD_MBLK_SIZE);
		struct cover c = { 0 };
		const le32_t magic = le32_make(magics[i % ARRAY_SIZE(magics)]);

		ck_assert_ptr_nonnull(block);
		noise(block, OD_MBLK_SIZE, &rng);
		memcpy(block, &magic, sizeof(magic));
		ck_assert_int_eq(od_block_walk(block, count, &c), 0);
		ck_assert_uint_eq(c.at, OD_MBLK_SIZE);
		ck_assert_int_eq(!od_block_name(block), !le32_get(magic));
		free(block);
	}
}
END_TEST

/* ---- Names, and the values behind them -------------------------------------------------- */

struct lookup {
	const char *path;
	struct od_place found;
};

static int match(void *arg, const struct od_place *p)
{
	struct lookup *l = arg;

	if (strcmp(p->path, l->path) != 0)
		return 0;
	l->found = *p;
	return 1;
}

static struct od_place place(const void *block, const char *path)
{
	struct lookup l = { .path = path };

	ck_assert_msg(od_block_walk(block, match, &l) == 1, "%s", path);
	return l.found;
}

START_TEST(fields_have_their_names)
{
	static union {
		uint8_t b[OD_MBLK_SIZE];
		struct od_hdr hdr;
	} blk;
	const uint8_t uuid[16] = { 1 };
	struct od_inode *di = (void *)(blk.b + od_ino_offset(8 * 5000 + 2));
	struct od_extent_rec ext = { .file_block = le64_make(7), .val = { .len = le32_make(3) } };
	struct od_place p;

	od_inodes_init(&blk, uuid, 5000);
	di->mode = le16_make(S_IFREG | 0640);
	di->data_fmt = OD_DATA_EXTENTS;
	di->data_len = le16_make(2 * sizeof(ext));
	memcpy(di->area + sizeof(ext), &ext, sizeof(ext));
	p = place(&blk, "inode[2].mode");
	ck_assert_uint_eq(od_place_get(&blk, &p), S_IFREG | 0640);
	ck_assert_int_eq(p.kind, OD_FK_OCTAL);
	p = place(&blk, "inode[2].extent[1].file_block");
	ck_assert_uint_eq(od_place_get(&blk, &p), 7);
	p = place(&blk, "inode[2].extent[1].val.len");
	ck_assert_str_eq(p.in->name, "od_extent_val");
	od_place_set(&blk, &p, 0x11223344);
	memcpy(&ext, di->area + sizeof(ext), sizeof(ext));
	ck_assert_uint_eq(le32_get(ext.val.len), 0x11223344);
	p = place(&blk, "inode[7].ino");
	ck_assert_uint_eq(od_place_get(&blk, &p), 8 * 5000 + 7);
	p = place(&blk, "hdr.mblk");
	ck_assert_uint_eq(od_place_get(&blk, &p), 5000);
	ck_assert_str_eq(od_block_name(&blk), "inodes");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("field");
	TCase *tc = tcase_create("field");

	tcase_set_timeout(tc, 60);

	tcase_add_test(tc, fields_cover_structures);
	tcase_add_test(tc, a_walk_names_every_byte_once);
	tcase_add_test(tc, fields_have_their_names);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

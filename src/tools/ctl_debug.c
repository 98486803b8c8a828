/* SPDX-License-Identifier: MIT */
/* iomapctl debug: print, set and find fields of metadata, of an image or an unmounted device. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl.h"
#include "ctl_debug.h"

static const char *verdict(const struct debug *d, const void *block, uint64_t mblk)
{
	const uint32_t magic = le32_get(((const struct od_hdr *)block)->magic);

	/* Blocks of the ring have no verifier of their own: replay judges them in their order. */
	if (d->damaged || magic == OD_MAGIC_JDESC || magic == OD_MAGIC_JREV || magic == OD_MAGIC_JCOMMIT)
		return le32_get(((const struct od_hdr *)block)->crc) == od_crc(block) ? NULL : "bad-crc";
	if (magic == OD_MAGIC_JSB)
		return mblk == d->od.jnl_start ? od_verify_jsb(&d->od, block, true) : "wrong-address";
	return od_verify_any(&d->od, block, mblk, true);
}

/* ---- print -------------------------------------------------------------------------- */

struct print {
	const struct debug *d;
	char *const *wanted;      /* names of fields, or beginnings of them up to a dot or bracket */
	unsigned nr_wanted;
	unsigned nr_shown;
	json_t *fields;           /* NULL: to stdout */
	char text[DEBUG_TEXT_MAX];
};

static bool is_wanted(const struct print *pr, const struct od_place *p, const char *path)
{
	if (pr->nr_wanted == 0)
		return p->kind != OD_FK_UNUSED && p->kind != OD_FK_SPARE;
	for (unsigned i = 0; i < pr->nr_wanted; i++) {
		const size_t len = strlen(pr->wanted[i]);

		if (!strncmp(path, pr->wanted[i], len) && strchr(".[", path[len]))
			return true;
	}
	return false;
}

static int print_field(void *arg, const struct od_place *p)
{
	struct print *pr = arg;
	const char *path = debug_path(pr->d, p);
	const bool brief = pr->nr_wanted == 0 && !pr->fields;
	json_t *value;

	if (!path || !is_wanted(pr, p, path))
		return 0;
	pr->nr_shown++;
	debug_format(pr->d, p, brief, pr->text);
	if (!pr->fields) {
		printf("%s = %s\n", path, pr->text);
		return 0;
	}
	/* Plain numbers that fit as such, the rest as text. */
	if (od_kind_is_number(p->kind) && p->kind != OD_FK_HEX && p->kind != OD_FK_CRC &&
	    p->kind != OD_FK_OCTAL && od_place_get(pr->d->block, p) <= INT64_MAX)
		value = json_integer((json_int_t)od_place_get(pr->d->block, p));
	else
		value = json_stringn_nocheck(pr->text, strlen(pr->text));
	json_object_set_new(pr->fields, path, value);
	return 0;
}

static int finish_json(struct print *pr, const char *bad)
{
	const char *kind = od_block_name(pr->d->block);

	return ctl_print_json(json_pack("{s:I,s:s,s:s,s:o}", "mblk", (json_int_t)pr->d->mblk, "kind",
					kind ? kind : "no metadata", "verdict", bad ? bad : "sound",
					"fields", pr->fields));
}

static int cmd_print(struct debug *d, const struct ctl_opts *o)
{
	struct print *pr = calloc(1, sizeof(*pr));
	const char *bad, *kind;
	int ret = CTL_OK;

	if (!pr)
		return ctl_fail("print", ENOMEM);
	*pr = (struct print){ .d = d, .wanted = o->args + 2, .nr_wanted = o->nr_args - 2,
			      .fields = o->json ? json_object() : NULL };
	bad = verdict(d, d->block, d->mblk);
	kind = od_block_name(d->block);
	if (!o->json)
		printf("block %" PRIu64 ", %s: %s\n", d->mblk, kind ? kind : "no metadata",
		       bad ? bad : "sound");
	od_block_walk(d->block, print_field, pr);
	if (o->json)
		ret = finish_json(pr, bad);
	if (pr->nr_shown == 0 && pr->nr_wanted > 0) {
		fprintf(stderr, "iomapctl: no such field in block %" PRIu64 "\n", d->mblk);
		ret = CTL_FAIL;
	}
	free(pr);
	return ret;
}

/* ---- set ------------------------------------------------------------------------------ */

static int set_one(struct debug *d, const char *arg, bool *own_crc)
{
	static char before[DEBUG_TEXT_MAX], after[DEBUG_TEXT_MAX];
	const size_t len = strcspn(arg, "=");
	struct od_place p;
	char *name;
	int ret;

	if (!arg[len]) {
		fprintf(stderr, "iomapctl: '%s' is not FIELD=VALUE\n", arg);
		return CTL_USAGE;
	}
	name = strndup(arg, len);
	if (!name)
		return ctl_fail(arg, ENOMEM);
	ret = debug_find_field(d, name, &p);
	if (ret == CTL_OK) {
		debug_format(d, &p, true, before);
		ret = debug_parse(d, &p, arg + len + 1);
	}
	if (ret == CTL_OK) {
		debug_format(d, &p, true, after);
		printf("block %" PRIu64 ", %s: %s -> %s\n", d->mblk, name, before, after);
		*own_crc |= p.kind == OD_FK_CRC;
	}
	free(name);
	return ret;
}

static int cmd_set(struct debug *d, const struct ctl_opts *o)
{
	/* A data block has no checksum; one that was metadata has, whatever its magic is now. */
	const bool sealed = od_block_name(d->block);
	bool own_crc = o->keep_crc;
	int ret = CTL_OK;

	if (o->nr_args < 3) {
		fprintf(stderr, "iomapctl: set: FIELD=VALUE is missing\n");
		return CTL_USAGE;
	}
	for (unsigned i = 2; i < o->nr_args && ret == CTL_OK; i++)
		ret = set_one(d, o->args[i], &own_crc);
	if (ret != CTL_OK)
		return ret;
	if (sealed && !own_crc)
		d->block->hdr.crc = le32_make(od_crc(d->block));
	ret = bd_write(d->bd, d->mblk << OD_MBLK_SHIFT, d->block, OD_MBLK_SIZE, BD_META);
	if (!ret)
		ret = bd_flush(d->bd);
	return ret ? ctl_fail("cannot write", -ret) : CTL_OK;
}

/* ---- find ------------------------------------------------------------------------------- */

struct find {
	struct debug *d;
	const char *name, *value;
	size_t name_len;
	bool any_index;           /* the name has none */
	json_t *list;
	uint64_t nr_found;
	char text[DEBUG_TEXT_MAX];
};

/* Does the path read as the name, once the indices are left out? */
static bool same_name(const struct find *f, const char *path)
{
	size_t n = 0;

	if (!f->any_index)
		return strlen(path) == f->name_len && !strncmp(path, f->name, f->name_len);
	while (*path) {
		if (*path == '[') {
			path += strcspn(path, "]") + 1;
			continue;
		}
		if (n == f->name_len || f->name[n] != *path)
			return false;
		n++;
		path++;
	}
	return n == f->name_len;
}

static bool same_value(struct find *f, const struct od_place *p)
{
	size_t len;
	char *end;

	debug_format(f->d, p, false, f->text);
	if (od_kind_is_number(p->kind)) {
		const uint64_t v = strtoull(f->value, &end, 0);

		return end != f->value && !*end && v == strtoull(f->text, NULL, 0);
	}
	len = strlen(f->text);
	if (p->kind == OD_FK_TEXT) /* without its quotes */
		return strlen(f->value) == len - 2 && !strncmp(f->text + 1, f->value, len - 2);
	return !strcmp(f->text, f->value);
}

static int find_field(void *arg, const struct od_place *p)
{
	struct find *f = arg;

	if (!same_name(f, p->path) || !same_value(f, p))
		return 0;
	f->nr_found++;
	if (f->list)
		json_array_append_new(f->list, json_pack("{s:I,s:s}", "mblk", (json_int_t)f->d->mblk, "field",
							 p->path));
	else
		printf("mblk:%" PRIu64 " %s\n", f->d->mblk, p->path);
	return 0;
}

static int find_block(void *arg, void *block, uint64_t mblk)
{
	struct find *f = arg;
	const struct od_hdr *h = block;

	/* Metadata where it belongs; the journal's ring holds copies. */
	if (!od_block_name(block) || le64_get(h->mblk) != mblk ||
	    memcmp(h->uuid, f->d->od.meta_uuid, sizeof(h->uuid)) != 0)
		return 0;
	memcpy(f->d->block, block, OD_MBLK_SIZE);
	f->d->mblk = mblk;
	od_block_walk(f->d->block, find_field, f);
	return 0;
}

static int cmd_find(struct debug *d, const struct ctl_opts *o)
{
	const char *arg = o->nr_args == 2 ? o->args[1] : "";
	struct find *f;
	int err;

	if (!strchr(arg, '=')) {
		fprintf(stderr, "iomapctl: find: one FIELD=VALUE is wanted\n");
		return CTL_USAGE;
	}
	if (d->damaged) {
		fprintf(stderr, "iomapctl: find: the superblock is damaged\n");
		return CTL_FAIL;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return ctl_fail("find", ENOMEM);
	f->d = d;
	f->name = arg;
	f->name_len = strcspn(arg, "=");
	f->value = arg + f->name_len + 1;
	f->any_index = !memchr(arg, '[', f->name_len);
	f->list = o->json ? json_array() : NULL;
	err = ctl_scan(d->bd, &d->od, find_block, f);
	if (f->list)
		ctl_print_json(f->list);
	if (err)
		ctl_fail("find", -err);
	err = err || f->nr_found == 0;
	free(f);
	return err ? CTL_FAIL : CTL_OK;
}

/* ---- Which ---------------------------------------------------------------------------------- */

/* What recovery writes home would undo a change made before it. */
static int refuse_dirty(const struct debug *d, const char *path)
{
	const int dirty = d->damaged ? 0 : ctl_log_is_needed(d->bd, &d->od);

	if (dirty < 0)
		return ctl_fail(path, -dirty);
	if (!dirty)
		return CTL_OK;
	fprintf(stderr,
		"iomapctl: %s: the journal has something to replay, which may undo the change; "
		"run fsck.iomapfs -p first, or give --force\n",
		path);
	return CTL_FAIL;
}

static int run(struct debug *d, const struct ctl_opts *o, const char *path, bool writes)
{
	int ret;

	if (!strcmp(o->args[0], "find"))
		return cmd_find(d, o);
	ret = writes && !o->force ? refuse_dirty(d, path) : CTL_OK;
	if (ret == CTL_OK)
		ret = debug_goto(d, o->args[1]);
	if (ret != CTL_OK)
		return ret;
	return writes ? cmd_set(d, o) : cmd_print(d, o);
}

int ctl_debug(const struct ctl_opts *o, const char *path)
{
	struct debug d = { 0 };
	bool print, set, find;
	int ret;

	print = o->nr_args > 0 && !strcmp(o->args[0], "print");
	set = o->nr_args > 0 && !strcmp(o->args[0], "set");
	find = o->nr_args > 0 && !strcmp(o->args[0], "find");
	if ((!print && !set && !find) || o->nr_args < 2) {
		fprintf(stderr, "iomapctl: debug: say what: SOURCE print|set WHERE ..., "
				"SOURCE find FIELD=VALUE; see --help\n");
		return CTL_USAGE;
	}
	/* Looking is allowed beside a mount, as far as the device has what the mount wrote. */
	ret = ctl_open(path, set ? BD_OPEN_LOCK | BD_OPEN_EXCL : BD_OPEN_RDONLY, &d.bd, &d.od, &d.damaged);
	if (ret != CTL_OK)
		return ret;
	d.block = aligned_alloc(OD_MBLK_SIZE, sizeof(*d.block));
	ret = d.block ? run(&d, o, path, set) : ctl_fail(path, ENOMEM);
	free(d.block);
	bd_close(d.bd);
	return ret;
}

/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "record.h"

#define RECORD_MAGIC 0x31746573636f6963ull

struct saved_head {
	uint64_t magic, size, seed, arg;
	uint32_t nr, unmounting, unmounted, at, mode, thorough;
};
struct saved_step {
	uint32_t op, persist, begin, end_op, end;
	int32_t err, persist_err;
};

/* Pages that are as the device was before mkfs are left out; the list ends with number -1. */
static bool save_base(const struct lab *l, FILE *f)
{
	const uint64_t end = UINT64_MAX;
	bool good = true;

	for (uint64_t at = 0; at < l->size && good; at += IMAGE_PAGE) {
		const uint8_t *p = l->base + at;

		if (p[0] == M_STALE && memcmp(p, p + 1, IMAGE_PAGE - 1) == 0)
			continue;
		good = fwrite(&at, sizeof(at), 1, f) == 1 && fwrite(p, IMAGE_PAGE, 1, f) == 1;
	}
	return good && fwrite(&end, sizeof(end), 1, f) == 1;
}

static bool load_base(struct lab *l, FILE *f)
{
	uint64_t at;

	memset(l->base, M_STALE, l->size);
	while (fread(&at, sizeof(at), 1, f) == 1) {
		if (at == UINT64_MAX)
			return true;
		if (at % IMAGE_PAGE || at >= l->size || fread(l->base + at, IMAGE_PAGE, 1, f) != 1)
			break;
	}
	return false;
}

static bool save_steps(const struct seq *s, FILE *f)
{
	bool good = true;

	for (unsigned i = 0; i < s->nr && good; i++) {
		const struct step *st = &s->step[i];
		const struct saved_step ss = {
			.op = (uint32_t)(st->op - op_table),
			.persist = st->persist,
			.begin = st->begin,
			.end_op = st->end_op,
			.end = st->end,
			.err = st->err,
			.persist_err = st->persist_err,
		};

		good = fwrite(&ss, sizeof(ss), 1, f) == 1;
	}
	return good;
}

static bool load_steps(struct seq *s, FILE *f)
{
	for (unsigned i = 0; i < s->nr; i++) {
		struct saved_step ss;

		if (fread(&ss, sizeof(ss), 1, f) != 1 || ss.op >= op_count_all || ss.persist >= P_NR)
			return false;
		s->step[i] = (struct step){
			.op = &op_table[ss.op],
			.persist = (enum persist)ss.persist,
			.begin = ss.begin,
			.end_op = ss.end_op,
			.end = ss.end,
			.err = ss.err,
			.persist_err = ss.persist_err,
		};
		/* The operations have changed since if they say something else. */
		if (seq_model_step(s, i) != ss.err)
			return false;
	}
	return true;
}

bool record_save(const char *path, const struct lab *l, const struct seq *s, const struct cut_at *c)
{
	const struct saved_head h = {
		.magic = RECORD_MAGIC,
		.size = l->size,
		.seed = s->seed,
		.arg = c->arg,
		.nr = s->nr,
		.unmounting = s->unmounting,
		.unmounted = s->unmounted,
		.at = c->at,
		.mode = c->mode,
		.thorough = c->thorough,
	};
	FILE *f = fopen(path, "wb");
	bool good;

	if (!f)
		return false;
	good = fwrite(&h, sizeof(h), 1, f) == 1 && save_base(l, f) && disk_save(l->disk, f) &&
	       save_steps(s, f);
	return fclose(f) == 0 && good;
}

bool record_load(const char *path, struct lab *l, struct seq *s, struct cut_at *c)
{
	FILE *f = fopen(path, "rb");
	struct saved_head h;
	bool good;

	if (!f)
		return false;
	good = fread(&h, sizeof(h), 1, f) == 1 && h.magic == RECORD_MAGIC && h.size == l->size &&
	       h.nr <= SEQ_MAX && h.mode <= CUT_LOSE_BUT;
	if (good) {
		s->seed = h.seed;
		s->nr = h.nr;
		s->unmounting = h.unmounting;
		s->unmounted = h.unmounted;
		s->states[0] = l->start;
		*c = (struct cut_at){ h.at, (enum cut_mode)h.mode, h.arg, h.thorough };
		good = load_base(l, f) && disk_load(l->disk, f) && load_steps(s, f);
	}
	fclose(f);
	return good;
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "iomapfs/check.h"
#include "mk.h"
#include "seq.h"

#define NEVER_MS 3600000u

static int start(struct run *r, struct bd *bd, bool discard, char *why, size_t size)
{
	const struct fs_mount_opts mount_opts = {
		.memory_bytes = 16u << 20,
		/* Commits come when something asks, so that runs repeat. */
		.commit_interval_ms = NEVER_MS,
		.discard = discard,
	};
	struct fs_error e = { "" };
	int err = fs_mount(bd, &mount_opts, &r->fs, &e);

	r->ctx = (struct fs_ctx){ .umask = 022 };
	r->nr_held = 0;
	if (err) {
		snprintf(why, size, "mount: %s", e.text);
		bd_close(bd);
		return err;
	}
	err = fs_iget(r->fs, FS_ROOT_INO, 0, &r->root);
	if (err)
		abort();
	return 0;
}

static int end(struct run *r)
{
	while (r->nr_held > 0)
		fs_release(r->held[--r->nr_held]);
	fs_iput(r->root);
	return fs_unmount(r->fs);
}

/* ---- The laboratory ------------------------------------------------------------------------------- */

void lab_init(struct lab *l, uint64_t size)
{
	struct image im;
	struct run r;
	struct bd *bd;

	*l = (struct lab){ .size = size, .base = malloc(size) };
	if (!l->base)
		abort();
	memset(l->base, M_STALE, size);
	image_init(&im, l->base, size);
	bd = image_open(&im);
	if (mk_default(bd, 12))
		abort();
	bd_close(bd);
	if (start(&r, image_open(&im), false, l->why, sizeof(l->why)))
		abort();
	ops_setup(&r, &l->start);
	if (end(&r))
		abort();
	/* In place: from now on the base is what everything starts from. */
	image_commit(&im, l->base);
	image_fini(&im);
	image_init(&l->survivor, l->base, size);
	l->disk = disk_create(l->base, size);
}

void lab_fini(struct lab *l)
{
	disk_destroy(l->disk);
	image_fini(&l->survivor);
	free(l->base);
}

/* ---- The run ------------------------------------------------------------------------------------------ */

static void step_subjects(struct step *st, const struct model *m)
{
	const char *path = st->op->b ? st->op->b : st->op->a;

	st->subject = op_subject(m, st->op);
	m_walk(m, path, &st->dir, NULL);
}

static uint32_t step_seed(const struct seq *s, unsigned i)
{
	return (uint32_t)(s->seed * 31 + i + 1);
}

int seq_model_step(struct seq *s, unsigned i)
{
	struct step *st = &s->step[i];
	struct model *m = &s->states[i + 1];
	int want;

	*m = s->states[i];
	want = op_model(m, st->op, step_seed(s, i));
	if (want)
		*m = s->states[i];
	st->touched = want ? 0 : m->touched;
	step_subjects(st, m);
	return want;
}

static bool run_step(struct lab *l, struct seq *s, unsigned i, struct run *r)
{
	struct step *st = &s->step[i];
	const int want = seq_model_step(s, i);

	st->begin = disk_now(l->disk);
	st->err = op_exec(r, st->op, step_seed(s, i));
	st->end_op = disk_now(l->disk);
	if (st->err != want) {
		snprintf(l->why, sizeof(l->why), "step %u: %s: %d, not %d", i + 1, st->op->text,
			 st->err, want);
		return false;
	}
	st->persist_err = op_persist(r, st->op, st->persist);
	st->end = disk_now(l->disk);
	return true;
}

bool seq_run(struct lab *l, struct seq *s)
{
	bool good = true;
	struct run r;
	int err;

	disk_reset(l->disk, s->seed);
	s->states[0] = l->start;
	if (start(&r, disk_open(l->disk), s->seed % 2, l->why, sizeof(l->why)))
		return false;
	for (unsigned i = 0; i < s->nr && good; i++)
		good = run_step(l, s, i, &r);
	s->unmounting = disk_now(l->disk);
	err = end(&r);
	s->unmounted = disk_now(l->disk);
	if (good && err) {
		snprintf(l->why, sizeof(l->why), "unmount: %d", err);
		good = false;
	}
	return good;
}

/* ---- The promises ---------------------------------------------------------------------------------------- */

/* The newest state up to `upto` in which an inode's names or attributes changed. */
static int last_touch(const struct seq *s, int upto, int ino)
{
	int k = upto;

	while (k > 0 && !(s->step[k - 1].touched >> ino & 1))
		k--;
	return k;
}

/* The state in which it got its first name. */
static int born(const struct seq *s, int upto, int ino)
{
	int k = 0;

	while (k < upto && !s->states[k].ino[ino].used)
		k++;
	return k;
}

/*
 * fsync: contents, attributes, and the names that lead there now. fdatasync: contents, and a
 * name: a file that was moved may still be under the old one.
 */
static void promise_file(struct m_range *r, const struct seq *s, int k, int ino, bool all)
{
	if (ino < 0)
		return;
	r->lo = MAX(r->lo, all ? last_touch(s, k, ino) : born(s, k, ino));
	r->data[ino] = MAX(r->data[ino], k);
}

/* O_DSYNC: what was written and what leads there; the rest of the file may wait. */
static void promise_write(struct m_range *r, const struct seq *s, int k)
{
	const struct step *st = &s->step[k - 1];

	r->lo = MAX(r->lo, born(s, k, st->subject));
	r->written[k] = (struct m_written){ .ino = st->subject,
					    .from = (uint32_t)st->op->off,
					    .to = (uint32_t)(st->op->off + st->op->len) };
}

static void promise_all(struct m_range *r, int k)
{
	r->lo = k;
	for (unsigned i = 0; i < M_INODES; i++)
		r->data[i] = k;
}

static void promise(struct m_range *r, const struct seq *s, int k)
{
	const struct step *st = &s->step[k - 1];

	switch (st->persist) {
	case P_SYNC:
		promise_all(r, k);
		break;
	case P_FSYNC:
		promise_file(r, s, k, st->subject, true);
		break;
	case P_FDATASYNC:
		promise_file(r, s, k, st->subject, false);
		break;
	case P_FSYNC_DIR:
		r->lo = MAX(r->lo, last_touch(s, k, st->dir));
		break;
	case P_COMMIT:
		r->lo = MAX(r->lo, last_touch(s, k, M_ROOT));
		break;
	default:
		break;
	}
}

/* A name that had a file leads to another one now: which? */
static int replacement(const struct seq *s, int k)
{
	const struct step *st = &s->step[k - 1];
	int before, after;

	if (st->op->kind != OP_RENAME || st->err)
		return 0;
	before = m_walk(&s->states[k - 1], st->op->b, NULL, NULL);
	after = m_walk(&s->states[k], st->op->b, NULL, NULL);
	return before > 0 && after != before && S_ISREG(s->states[k].ino[after].mode) ? after : 0;
}

static void range_at(const struct seq *s, unsigned at, struct m_range *r)
{
	*r = (struct m_range){ .states = s->states };
	for (int k = 1; k <= (int)s->nr; k++) {
		const struct step *st = &s->step[k - 1];

		if (st->begin >= at)
			break;
		r->hi = k;
		r->replaced[k] = replacement(s, k);
		if (st->op->kind == OP_UNTORN && !st->err)
			r->untorn[k] = (struct m_written){ .ino = st->subject, .from = st->op->off,
							   .to = st->op->off + st->op->len };
		if (st->op->kind == OP_DSYNC && !st->err && st->end_op <= at)
			promise_write(r, s, k);
		if (st->end <= at && !st->persist_err)
			promise(r, s, k);
	}
	if (s->unmounted <= at)
		promise_all(r, (int)s->nr);
}

/* ---- The cut ------------------------------------------------------------------------------------------------ */

static bool check_clean(struct lab *l, const char *when)
{
	struct chk_result res = { 0 };
	struct bd *bd = image_open(&l->survivor);
	char *text = NULL;
	size_t len = 0;
	struct chk_opts o = { .readonly = true, .out = open_memstream(&text, &len) };
	int err = chk_run(bd, &o, &res);

	fclose(o.out);
	bd_close(bd);
	if (err || res.found)
		snprintf(l->why, sizeof(l->why), "fsck %s: %d, %llu problems: %.160s", when, err,
			 (unsigned long long)res.found, text);
	free(text);
	return !err && !res.found;
}

/* Whatever came back must take new work. */
static bool goes_on(struct lab *l, struct run *r)
{
	static const struct op again[] = {
		{ "", OP_NEW, "again", NULL, 0, 3000 },
		{ "", OP_MKDIR, "againd" },
		{ "", OP_RENAME, "again", "againd/x" },
		{ "", OP_UNLINK, "againd/x" },
	};
	int err = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(again) && !err; i++) {
		err = op_exec(r, &again[i], 77);
		if (!err && i == 2)
			err = fs_sync(r->fs);
	}
	/* Or there was no room any more. */
	if (err == -ENOSPC)
		err = 0;
	if (err)
		snprintf(l->why, sizeof(l->why), "afterwards: %d", err);
	return !err;
}

bool seq_cut(struct lab *l, const struct seq *s, unsigned at, enum cut_mode mode, uint64_t arg,
	     bool thorough)
{
	struct m_range range;
	struct run r;
	bool good;
	int err;

	l->unsafe += disk_cut(l->disk, at, mode, arg, &l->survivor);
	l->cuts++;
	if (thorough && !check_clean(l, "before recovery"))
		return false;
	if (start(&r, image_open(&l->survivor), false, l->why, sizeof(l->why)))
		return false;
	range_at(s, at, &range);
	good = m_judge(&range, r.fs, l->why, sizeof(l->why));
	if (good && thorough)
		good = goes_on(l, &r);
	err = end(&r);
	if (good && err) {
		snprintf(l->why, sizeof(l->why), "unmount after recovery: %d", err);
		good = false;
	}
	return good && check_clean(l, "after recovery");
}

void seq_print(const struct seq *s, char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < s->nr && at < size; i++)
		at += (size_t)snprintf(buf + at, size - at, "%s%s [%s]", i ? "; " : "",
				       s->step[i].op->text, persist_text[s->step[i].persist]);
}

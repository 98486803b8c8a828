/* SPDX-License-Identifier: MIT */
/* Repair: the order of it all. */
#include <stdlib.h>

#include "fix.h"

static void fix_free(struct fix *f)
{
	struct fix_file *file = f->files.data;
	struct fix_dir *dir = f->dirs.data;
	struct fix_attrs *attrs = f->attrs.data;

	for (size_t i = 0; i < f->files.n; i++)
		chk_vec_free(&file[i].recs);
	for (size_t i = 0; i < f->dirs.n; i++)
		chk_vec_free(&dir[i].names);
	for (size_t i = 0; i < f->attrs.n; i++)
		free(attrs[i].list);
	chk_vec_free(&f->attrs);
	chk_vec_free(&f->files);
	chk_vec_free(&f->dirs);
	chk_fix_edits_free(f);
	chk_space_free(&f->avoid);
	chk_space_free(&f->alone);
}

static void say(struct fix *f, const char *what)
{
	if (!f->out || !f->c->opts->verbose)
		return;
	fprintf(f->out, "Repair: %s\n", what);
	fflush(f->out);
}

/*
 * Everything is judged before anything is written, but for the log: it goes home first, since all
 * that follows is judged, and written, behind it.
 */
int chk_fix_all(struct chk *c)
{
	struct fix f = { .c = c, .avoid = *c, .alone = *c, .out = c->opts->out };
	int err;

	RB_INIT(&f.avoid.space);
	RB_INIT(&f.alone.space);
	RB_INIT(&f.edits);
	chk_vec_init(&f.files, sizeof(struct fix_file));
	chk_vec_init(&f.dirs, sizeof(struct fix_dir));
	chk_vec_init(&f.attrs, sizeof(struct fix_attrs));
	say(&f, "journal");
	err = chk_fix_log(&f);
	if (!err)
		say(&f, "inodes");
	if (!err)
		err = chk_fix_root(&f);
	if (!err)
		err = chk_fix_clusters(&f);
	if (!err)
		err = chk_fix_inodes(&f);
	if (!err)
		say(&f, "directories");
	if (!err)
		err = chk_fix_dirs(&f);
	if (!err)
		say(&f, "writing");
	if (!err)
		err = chk_fix_build(&f);
	/* New trees and directories are there before an inode leads to them. */
	if (!err)
		err = bd_flush(c->bd);
	if (!err)
		err = chk_fix_inodes_write(&f);
	if (!err)
		err = bd_flush(c->bd);
	if (!err)
		err = chk_fix_groups(&f);
	if (!err)
		err = bd_flush(c->bd);
	if (!err)
		err = chk_fix_superblocks(&f);
	fix_free(&f);
	return err ? err : c->error;
}

/* SPDX-License-Identifier: MIT */
/* A fresh file system in memory, mounted, and the checker over it: what fs tests share. */
#ifndef TEST_FS_FT_H
#define TEST_FS_FT_H

#include "ag.h"
#include "icache.h"
#include "iomapfs/check.h"
#include "mk.h"
#include "unit.h"

struct ft {
	struct bd *bd;
	struct fs *fs;
	struct fs_error err;
	struct fs_mount_opts opts;
};

static inline void ft_make(struct ft *t, uint64_t size, unsigned block_shift)
{
	memset(t, 0, sizeof(*t));
	ck_assert_int_eq(bd_mem_create(size, 512, &t->bd), 0);
	ck_assert_int_eq(mk_default(t->bd, block_shift), 0);
}

static inline void ft_mount(struct ft *t)
{
	int err = fs_mount(t->bd, &t->opts, &t->fs, &t->err);

	ck_assert_msg(err == 0, "mount: %d %s", err, t->err.text);
}

/* A memory device goes with its file system: keep the image across an unmount. */
static inline void ft_unmount_keep(struct ft *t)
{
	struct bd *fresh;
	uint64_t size = t->bd->info.size;
	void *image = malloc(size);

	ck_assert_ptr_nonnull(image);
	/* Everything reaches its place before bd_close frees the memory. */
	ck_assert_int_eq(fs_quiesce(t->fs), 0);
	ck_assert_int_eq(jnl_checkpoint(t->fs->jnl), 0);
	memcpy(image, bd_mem_base(t->bd), size);
	ck_assert_int_eq(fs_unmount(t->fs), 0);
	ck_assert_int_eq(bd_mem_create(size, 512, &fresh), 0);
	memcpy(bd_mem_base(fresh), image, size);
	free(image);
	t->bd = fresh;
	t->fs = NULL;
}

static inline void ft_check(struct bd *bd)
{
	struct chk_opts o = { .readonly = true, .out = stdout };
	struct chk_result res;

	ck_assert_int_eq(chk_run(bd, &o, &res), 0);
	ck_assert_uint_eq(res.found, 0);
}

static inline void ft_end(struct ft *t)
{
	if (t->fs)
		ck_assert_int_eq(fs_unmount(t->fs), 0);
	else
		bd_close(t->bd);
}

#endif

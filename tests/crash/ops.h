/* SPDX-License-Identifier: MIT */
/* The operations: each is done to a file system and to a model, and both must say the same. */
#ifndef CRASH_OPS_H
#define CRASH_OPS_H

#include "model.h"

enum op_kind {
	OP_CREAT, OP_MKDIR, OP_RMDIR, OP_SYMLINK, OP_MKFIFO, OP_LINK, OP_UNLINK, OP_UNLINK_OPEN,
	OP_RENAME, OP_EXCHANGE, OP_WHITEOUT, OP_TMPFILE,
	OP_WRITE, OP_DIRECT, OP_DSYNC, OP_NEW, OP_TRUNC, OP_FALLOC, OP_KEEP, OP_HOG, OP_PUNCH, OP_ZERO,
	OP_COLLAPSE, OP_INSERT, OP_COPY, OP_CLONE, OP_DEDUPE, OP_UNSHARE, OP_UNTORN, OP_SETXATTR, OP_RMXATTR, OP_CHMOD,
};
struct op {
	const char *text;        /* for people and replay */
	enum op_kind kind;
	const char *a, *b;       /* paths */
	uint32_t off, len;
};

extern const struct op op_table[];
extern const unsigned op_count;     /* those that the enumeration uses, the first ones */
extern const unsigned op_count_all;

#define HELD_MAX 16
struct run {
	struct fs *fs;
	struct fs_ctx ctx;
	struct fs_inode *root;
	struct fs_file *held[HELD_MAX]; /* handles of unlinked files */
	unsigned nr_held;
};

/* The tree that every sequence starts from, synced. */
void ops_setup(struct run *r, struct model *m);
/* seed: of the bytes it writes. 0 or -errno; the model is changed when it is 0. */
int op_exec(struct run *r, const struct op *op, uint32_t seed);
int op_model(struct model *m, const struct op *op, uint32_t seed);

/* What makes things durable, and how much of them. */
enum persist {
	P_NONE, P_FSYNC, P_FDATASYNC, P_FSYNC_DIR, P_SYNC,
	P_WRITEBACK,  /* data without a commit: no promise */
	P_COMMIT,     /* a commit without data: fsync of the root directory */
	P_NR
};
extern const char *const persist_text[P_NR];
int op_persist(struct run *r, const struct op *op, enum persist p);
/* The file that fsync(2) is called for after an operation: -1 if there is none. */
int op_subject(const struct model *m, const struct op *op);

struct fs_inode *run_walk(struct run *r, const char *path);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a file system should look like: states of a small tree after each operation, and the
 * judgement of what came back after a power cut.
 *
 * Names and attributes are journalled in order: the tree that comes back must be that of one
 * state, not older than what was promised, not newer than what was begun. Contents are not
 * journalled: each byte must be one that the file had in a state since its last promise.
 */
#ifndef CRASH_MODEL_H
#define CRASH_MODEL_H

#include "iomapfs/fs.h"
#include "iomapfs/util.h"

#define M_INODES 24
#define M_NAMES  32
#define M_STATES 40
#define M_DATA   (40u << 10) /* largest file */
#define M_STALE  0xa7        /* what the device held before mkfs; no file contains it */
#define M_ROOT   0

struct m_xattr {
	uint32_t len;            /* 0: none */
	uint32_t seed;
};
struct m_inode {
	bool used, is_open;      /* is_open: a handle keeps it when its last name is gone */
	mode_t mode;
	unsigned nlink;
	uint32_t size;
	struct m_xattr xattr;
	char target[16];
	uint8_t data[M_DATA];
};
struct m_name {
	int dir, ino;            /* ino -1: free */
	char name[12];
};
struct model {
	struct m_inode ino[M_INODES];
	struct m_name name[M_NAMES];
	int next;                /* numbers are not used twice: contents have a history */
	unsigned touched;        /* inodes whose names or attributes the last operation changed */
};

/* Bytes of a file or attribute: never M_STALE, never zero. */
uint8_t m_byte(uint32_t seed, uint32_t at);
void m_init(struct model *m);
/* Inode of a path such as "A/foo", or -1; *dir and *last (may be NULL) as far as they exist. */
int m_walk(const struct model *m, const char *path, int *dir, const char **last);
struct m_name *m_find(struct model *m, int dir, const char *name);
void m_add(struct model *m, int dir, const char *name, int ino);
/* Aborts when there were too many. */
int m_new(struct model *m, mode_t mode);
/* One name less; the inode goes with the last one. */
void m_drop(struct model *m, struct m_name *n);
bool m_is_dir(const struct model *m, int ino);
bool m_empty(const struct model *m, int dir);

/* What a cut may leave: states[lo..hi] for the tree; for contents of inode i states[data[i]..hi]. */
struct m_range {
	const struct model *states;
	int lo, hi;
	int data[M_INODES];
	/*
	 * By state: the inode that replaced another by name there, 0 if none did. A tree that shows
	 * it shows it whole: with contents not older than the state before.
	 */
	int replaced[M_STATES];
	/* By state: the bytes that a write with O_DSYNC made durable there, if it was one. */
	struct m_written {
		int ino;
		uint32_t from, to; /* to 0: none */
	} written[M_STATES];
	/* By state: the bytes that an untorn write wrote there, if it was one: all of them or none. */
	struct m_written untorn[M_STATES];
};
/* Compare a mounted file system; false with a reason in why. */
bool m_judge(const struct m_range *r, struct fs *fs, char *why, size_t size);

#endif

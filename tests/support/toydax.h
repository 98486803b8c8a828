/* SPDX-License-Identifier: MIT */
/*
 * A file system of one file on memory, for tests of DAX: a map of pages, blocks that are shared, a log of
 * what was made durable, and the image that a power cut would leave.
 */
#ifndef IOMAPFS_TEST_TOYDAX_H
#define IOMAPFS_TEST_TOYDAX_H

#include "dax_window.h"
#include "iomapfs/util.h"

#define TD_PAGES     2048u /* of the file: 8 MiB */
#define TD_DEV_PAGES 8192u
#define TD_LOG_MAX   4096u

struct td_block {
	enum iomap_type type;
	uint32_t page;      /* of the device; 0: none */
	uint32_t cow_page;  /* staged */
	bool shared;
};

struct toydax {
	struct inode inode;
	struct folio_cache *fc;
	struct iomap_dax_dev dev;
	int fd;
	uint8_t *durable;       /* TD_DEV_PAGES pages */
	struct lk_mutex lock;   /* LK_EXTLOCK: blocks */
	struct td_block blocks[TD_PAGES];
	uint32_t next_page;
	bool map_dirty;         /* mappings are IOMAP_F_DIRTY until fsync */
	uint32_t map_flags;     /* in every mapping */
	int type_override;      /* enum iomap_type of every mapping, or -1 */
	_Atomic unsigned nr_begin, nr_end, nr_fsync, flags_seen;
	_Atomic int fail_persist; /* -errno */
	struct { uint64_t addr, len; } log[TD_LOG_MAX];
	unsigned nr_log;
};

extern const struct iomap_ops td_ops;

struct toydax *td_create(void);
void td_destroy(struct toydax *t);
void td_set(struct toydax *t, unsigned first, unsigned nr, enum iomap_type type, uint8_t fill);
void td_share(struct toydax *t, unsigned first, unsigned nr);
/* Memory of page i of the file; NULL without. */
uint8_t *td_page(struct toydax *t, unsigned i);
/* Is what the device has for the file's pages durable, byte by byte? */
bool td_all_durable(struct toydax *t);

/* Operations with the locks a file system takes. */
int64_t td_write(struct toydax *t, uint64_t pos, const void *buf, size_t len);
int64_t td_read(struct toydax *t, uint64_t pos, void *buf, size_t len);
int td_zero(struct toydax *t, uint64_t pos, uint64_t len);
int td_truncate(struct toydax *t, uint64_t size);
int td_punch(struct toydax *t, uint64_t pos, uint64_t len);
int td_unshare(struct toydax *t, uint64_t pos, uint64_t len);
/* dax_window.fault. arg: the toydax. */
unsigned td_fault(void *arg, struct vm_fault *vmf, unsigned order);

#endif

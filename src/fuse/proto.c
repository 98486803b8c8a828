// SPDX-License-Identifier: MIT
/*
 * The shape of messages. libfuse believes the lengths that follow from an opcode: it reads the
 * arguments and the names behind them wherever a short message ends. The kernel sends no such
 * messages; this is for the day when it does, or when what feeds us is not the kernel.
 */
#include <string.h>

#include "fuse_private.h"

/* Bytes of arguments, strings behind them; tail: bytes more that the arguments announce. */
struct shape {
	uint16_t args;
	uint8_t strings;
	uint32_t (*tail)(const void *args);
};

static uint32_t tail_write(const void *args)
{
	return ((const struct fuse_write_in *)args)->size;
}

static uint32_t tail_ioctl(const void *args)
{
	return ((const struct fuse_ioctl_in *)args)->in_size;
}

static uint32_t tail_forgets(const void *args)
{
	const uint32_t n = ((const struct fuse_batch_forget_in *)args)->count;

	/* More than any message holds, rather than a product that wraps. */
	return n > FZ_BUF_SIZE / sizeof(struct fuse_forget_one) ?
		       UINT32_MAX : n * (uint32_t)sizeof(struct fuse_forget_one);
}

/* INIT is older than its longer forms: major, minor, read-ahead and flags is what libfuse needs. */
#define INIT_MIN 16

static const struct shape shapes[FZ_NR_OPCODES] = {
	[FUSE_LOOKUP] = {0, 1},
	[FUSE_FORGET] = {sizeof(struct fuse_forget_in)},
	[FUSE_GETATTR] = {sizeof(struct fuse_getattr_in)},
	[FUSE_SETATTR] = {sizeof(struct fuse_setattr_in)},
	[FUSE_SYMLINK] = {0, 2},
	[FUSE_MKNOD] = {sizeof(struct fuse_mknod_in), 1},
	[FUSE_MKDIR] = {sizeof(struct fuse_mkdir_in), 1},
	[FUSE_UNLINK] = {0, 1},
	[FUSE_RMDIR] = {0, 1},
	[FUSE_RENAME] = {sizeof(struct fuse_rename_in), 2},
	[FUSE_LINK] = {sizeof(struct fuse_link_in), 1},
	[FUSE_OPEN] = {sizeof(struct fuse_open_in)},
	[FUSE_READ] = {sizeof(struct fuse_read_in)},
	[FUSE_WRITE] = {sizeof(struct fuse_write_in), 0, tail_write},
	[FUSE_RELEASE] = {sizeof(struct fuse_release_in)},
	[FUSE_FSYNC] = {sizeof(struct fuse_fsync_in)},
	[FUSE_GETXATTR] = {sizeof(struct fuse_getxattr_in), 1},
	[FUSE_LISTXATTR] = {sizeof(struct fuse_getxattr_in)},
	[FUSE_REMOVEXATTR] = {0, 1},
	[FUSE_FLUSH] = {sizeof(struct fuse_flush_in)},
	[FUSE_INIT] = {INIT_MIN},
	[FUSE_OPENDIR] = {sizeof(struct fuse_open_in)},
	[FUSE_READDIR] = {sizeof(struct fuse_read_in)},
	[FUSE_RELEASEDIR] = {sizeof(struct fuse_release_in)},
	[FUSE_FSYNCDIR] = {sizeof(struct fuse_fsync_in)},
	[FUSE_GETLK] = {sizeof(struct fuse_lk_in)},
	[FUSE_SETLK] = {sizeof(struct fuse_lk_in)},
	[FUSE_SETLKW] = {sizeof(struct fuse_lk_in)},
	[FUSE_ACCESS] = {sizeof(struct fuse_access_in)},
	[FUSE_CREATE] = {sizeof(struct fuse_create_in), 1},
	[FUSE_INTERRUPT] = {sizeof(struct fuse_interrupt_in)},
	[FUSE_BMAP] = {sizeof(struct fuse_bmap_in)},
	[FUSE_IOCTL] = {sizeof(struct fuse_ioctl_in), 0, tail_ioctl},
	[FUSE_POLL] = {sizeof(struct fuse_poll_in)},
	[FUSE_NOTIFY_REPLY] = {sizeof(struct fuse_notify_retrieve_in)},
	[FUSE_BATCH_FORGET] = {sizeof(struct fuse_batch_forget_in), 0, tail_forgets},
	[FUSE_FALLOCATE] = {sizeof(struct fuse_fallocate_in)},
	[FUSE_READDIRPLUS] = {sizeof(struct fuse_read_in)},
	[FUSE_RENAME2] = {sizeof(struct fuse_rename2_in), 2},
	[FUSE_LSEEK] = {sizeof(struct fuse_lseek_in)},
	[FUSE_COPY_FILE_RANGE] = {sizeof(struct fuse_copy_file_range_in)},
};

bool fz_proto_ok(const struct fuse_in_header *h)
{
	const struct shape *s = &shapes[h->opcode < FZ_NR_OPCODES ? h->opcode : 0];
	const char *p = (const char *)(h + 1), *end = (const char *)h + h->len;

	assert(h->len >= sizeof(*h));
	if ((size_t)(end - p) < s->args)
		return false;
	p += s->args;
	for (unsigned i = 0; i < s->strings; i++) {
		p = memchr(p, '\0', (size_t)(end - p));
		if (!p)
			return false;
		p++;
	}
	return !s->tail || s->tail(h + 1) <= (size_t)(end - p);
}

bool fz_proto_has_reply(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
	       opcode != FUSE_NOTIFY_REPLY;
}

/* SPDX-License-Identifier: MIT */
/*
 * copy_file_range: shared blocks where both ranges line up, the rest through the cache, piece by piece. There
 * only one file is locked at a time: as with read and write, whoever changes the source meanwhile
 * decides what arrives. Holes stay holes: where the target has something, it is punched out.
 */
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "extent.h"

#define COPY_PIECE (256u << 10)
#define COPY_MAX   (256ull << 20) /* bytes that a call copies; the caller asks again for the rest */

struct copy {
	struct fs_ctx *ctx;
	struct fs_inode *in, *out;
	uint64_t from, to;  /* positions */
	uint8_t *buf;
	uint64_t copied;    /* bytes that went through buf, or were holes */
	bool no_clone;      /* it was tried, and cannot be */
};

static int64_t copy_piece(struct copy *c, uint64_t len)
{
	struct kiocb rd = { .ki_inode = &c->in->vfs, .ki_pos = c->from };
	struct kiocb wr = { .ki_inode = &c->out->vfs, .ki_pos = c->to };
	struct iovec iov = { .iov_base = c->buf, .iov_len = MIN(len, COPY_PIECE) };
	struct iov_iter iter;
	int64_t n;

	iov_iter_init(&iter, &iov, 1, iov.iov_len);
	n = fs_read_iter(c->ctx, &rd, &iter);
	if (n <= 0)
		return n;
	iov.iov_len = (size_t)n;
	iov_iter_init(&iter, &iov, 1, (size_t)n);
	return fs_write_iter(c->ctx, &wr, &iter, false);
}

/* The target's range becomes zeros, and part of the file if it was not. */
static int copy_hole(struct copy *c, uint64_t len)
{
	const uint64_t size = i_size_read(&c->out->vfs), end = c->to + len;
	int err = 0;

	if (c->to < size)
		err = fs_fallocate(c->ctx, c->out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   c->to, MIN(len, size - c->to));
	if (err || end <= size)
		return err;
	err = fs_start_change(c->out->fs, c->ctx->flags);
	if (err)
		return err;
	err = fs_grow_size(c->ctx, c->out, end);
	fs_end_change(c->out->fs);
	return err;
}

/* One run of data or hole; bytes done, 0 at the end of the source. */
static int64_t copy_run(struct copy *c, uint64_t len)
{
	int64_t data, hole;
	int err;

	data = fs_lseek(c->ctx, c->in, (int64_t)c->from, SEEK_DATA);
	if (data == -ENXIO)
		data = (int64_t)MAX(c->from, i_size_read(&c->in->vfs));
	if (data < 0)
		return data;
	if ((uint64_t)data > c->from) {
		len = MIN(len, (uint64_t)data - c->from);
		err = copy_hole(c, len);
		return err ? err : (int64_t)len;
	}
	hole = fs_lseek(c->ctx, c->in, (int64_t)c->from, SEEK_HOLE);
	if (hole == -ENXIO)
		return 0;
	if (hole < 0)
		return hole;
	return copy_piece(c, MIN(len, (uint64_t)hole - c->from));
}

static int copy_checks(struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in,
		       struct fs_inode *out, uint64_t off_out, uint64_t *len)
{
	const uint64_t size = i_size_read(&in->vfs);

	if (ctx->flags & FS_NOWAIT)
		return -EAGAIN;
	if (!fs_is_reg(in) || !fs_is_reg(out))
		return S_ISDIR(in->mode) || S_ISDIR(out->mode) ? -EISDIR : -EINVAL;
	if (off_in > OD_FILE_SIZE_MAX || off_out > OD_FILE_SIZE_MAX ||
	    *len > OD_FILE_SIZE_MAX - off_in)
		return -EOVERFLOW;
	*len = MIN(*len, off_in < size ? size - off_in : 0);
	if (*len && off_out >= OD_FILE_SIZE_MAX)
		return -EFBIG;
	*len = MIN(*len, OD_FILE_SIZE_MAX - off_out);
	if (in == out && off_in < off_out + *len && off_out < off_in + *len)
		return -EINVAL;
	return fs_file_may_change(out, false);
}

/*
 * Share what can be of the next len bytes: whole blocks, and a last part of one where both files end.
 * Bytes done; 0: to be copied.
 */
static int64_t clone_part(struct copy *c, uint64_t len)
{
	const uint64_t mask = c->in->fs->block_size - 1;
	bool inside;
	int err;

	if (c->no_clone || !c->in->fs->od.reflink || ((c->from | c->to) & mask))
		return 0;
	lk_lock(&c->in->extlock);
	inside = fs_is_inline(c->in);
	lk_unlock(&c->in->extlock);
	if (inside)
		return 0; /* a few bytes, which take no block as they are */
	if (c->from + len < i_size_read(&c->in->vfs) || c->to + len < i_size_read(&c->out->vfs))
		len &= ~mask;
	if (len == 0)
		return 0;
	err = fs_clone_range(c->ctx, c->in, c->from, c->out, c->to, len);
	if (!err)
		return (int64_t)len;
	/* A full group, too many owners, a source that shrank: a copy may do. What is wrong with it tells. */
	c->no_clone = true;
	return 0;
}

static int64_t copy_step(struct copy *c, uint64_t len)
{
	const uint64_t bs = c->in->fs->block_size, head = bs - (c->from & (bs - 1));
	int64_t n = clone_part(c, len);

	if (n)
		return n;
	/* Up to where blocks line up, if they do. */
	if (!c->no_clone && head < bs && ((c->from ^ c->to) & (bs - 1)) == 0)
		len = MIN(len, head);
	if (!c->buf && posix_memalign((void **)&c->buf, OD_MBLK_SIZE, COPY_PIECE))
		return -ENOMEM;
	n = copy_run(c, MIN(len, COPY_MAX));
	if (n > 0)
		c->copied += (uint64_t)n;
	return n;
}

int64_t fs_copy_file_range(struct fs_ctx *ctx, struct fs_inode *in, uint64_t off_in,
			   struct fs_inode *out, uint64_t off_out, uint64_t len)
{
	struct copy c = { .ctx = ctx, .in = in, .out = out, .from = off_in, .to = off_out };
	uint64_t done = 0;
	int64_t n;
	int err;

	err = copy_checks(ctx, in, off_in, out, off_out, &len);
	if (err || len == 0)
		return err;
	do {
		n = copy_step(&c, len - done);
		if (n > 0) {
			done += (uint64_t)n;
			c.from += (uint64_t)n;
			c.to += (uint64_t)n;
		}
	} while (n > 0 && done < len && c.copied < COPY_MAX);
	free(c.buf);
	return done ? (int64_t)done : n;
}

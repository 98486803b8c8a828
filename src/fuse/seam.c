// SPDX-License-Identifier: MIT
/*
 * The seam between the wire and libfuse: messages enter here, and libfuse's replies leave
 * here. What libfuse 3.14 does not know is decoded and answered on our side of it.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fuse_private.h"

/* The argument block behind the header, if the message holds that much. */
static const void *body(size_t need)
{
	if (fz_rx.hdr->len < sizeof(*fz_rx.hdr) + need)
		return NULL;
	return fz_rx.hdr + 1;
}

/* A NUL-terminated string at p, within the message. */
static bool is_string(const char *p)
{
	const char *end = (const char *)fz_rx.hdr + fz_rx.hdr->len;

	return p < end && memchr(p, '\0', (size_t)(end - p));
}

static void seam_syncfs(struct fz *fz)
{
	struct fz_call c;

	fz_call_begin_seam(fz, &c, fz_do_syncfs);
	fz_call_defer(&c);
}

static void seam_tmpfile(struct fz *fz)
{
	const struct fuse_create_in *in = body(sizeof(*in));
	struct fz_call c;

	fz_call_begin_seam(fz, &c, fz_do_tmpfile);
	if (!in) {
		fz_reply_err(&c, -EINVAL);
		return;
	}
	c.mode = in->mode;
	c.ctx.umask = in->umask;
	c.open_flags = in->flags;
	fz_call_run(&c);
}

static void seam_statx(struct fz *fz)
{
	struct fz_call c;

	fz_call_begin_seam(fz, &c, fz_do_statx);
	fz_call_run(&c);
}

static void seam_copy_file_range(struct fz *fz)
{
	const struct fuse_copy_file_range_in *in = body(sizeof(*in));
	struct fz_call c;

	fz_call_begin_seam(fz, &c, fz_do_copy_file_range);
	if (!in) {
		fz_reply_err(&c, -EINVAL);
		return;
	}
	c.fh = in->fh_in;
	c.off = in->off_in;
	c.fh2 = in->fh_out;
	c.nodeid2 = in->nodeid_out;
	c.off2 = in->off_out;
	c.len = in->len;
	c.flags = (int)in->flags;
	fz_call_defer(&c);
}

static void seam_setxattr(struct fz *fz)
{
	const struct fuse_setxattr_in *in = body(sizeof(*in));
	const char *name = in ? (const char *)(in + 1) : NULL;
	struct fz_call c;

	fz_call_begin_seam(fz, &c, fz_do_setxattr);
	if (!name || !is_string(name) ||
	    (size_t)(name - (const char *)fz_rx.hdr) + strlen(name) + 1 + in->size > fz_rx.hdr->len) {
		fz_reply_err(&c, -EINVAL);
		return;
	}
	c.name = name;
	c.data = name + strlen(name) + 1;
	c.size = in->size;
	c.flags = (int)in->flags;
	c.xflags = in->setxattr_flags;
	fz_call_run(&c);
}

/* Said to whoever waits for an answer. */
static void refuse(const struct fuse_in_header *h, int error)
{
	const struct fuse_out_header out = {
		.len = sizeof(out),
		.error = error,
		.unique = h->unique,
	};
	const struct iovec iov = {(void *)(uintptr_t)&out, sizeof(out)};

	if (fz_proto_has_reply(h->opcode) && fz_send(fz_rx.fd, fz_rx.slot, &iov, 1) < 0)
		log_debug("reply to opcode %u: %s", h->opcode, strerror(errno));
}

/* After a forced shutdown: what letting go, umount(8) and iomapctl need. */
static bool served_when_down(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_INIT:
	case FUSE_DESTROY:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_GETATTR:
	case FZ_STATX:
	case FUSE_STATFS:
	case FUSE_OPENDIR:
	case FUSE_IOCTL:
		return true;
	default:
		return false;
	}
}

static void dispatch(struct fz *fz, const struct fuse_in_header *h)
{
	struct fuse_buf buf = {.size = h->len, .mem = (void *)(uintptr_t)h};

	if (fs_is_forced_down(fz->fs) && !served_when_down(h->opcode)) {
		refuse(h, -EIO);
		return;
	}
	switch (h->opcode) {
	case FUSE_INTERRUPT:
		/*
		 * Like any disk file system: a request that was read is carried out. EINTR
		 * from a regular file breaks programs that trust it never to happen.
		 */
		break;
	case FUSE_NOTIFY_REPLY:
		/* The answer to a question that we never ask; libfuse would leak the request. */
		break;
	case FUSE_SETXATTR:
		seam_setxattr(fz);
		break;
	case FZ_SYNCFS:
		seam_syncfs(fz);
		break;
	case FZ_TMPFILE:
		seam_tmpfile(fz);
		break;
	case FZ_STATX:
		seam_statx(fz);
		break;
	case FZ_COPY_FILE_RANGE_64:
		seam_copy_file_range(fz);
		break;
	default:
		fuse_session_process_buf(fz->se, &buf);
	}
}

void fz_seam_dispatch(struct fz *fz, int fd, struct fz_slot *slot, void *msg, size_t len)
{
	const struct fuse_in_header *h = msg;

	if (len < sizeof(*h) || h->len != len) {
		log_err("the kernel sent a message of %zu bytes that is none", len);
		return;
	}
	fz_rx.hdr = h;
	fz_rx.fd = fd;
	fz_rx.slot = slot;
	if (!fz_proto_ok(h)) {
		log_err("the kernel sent a message of opcode %u that is cut short", h->opcode);
		refuse(h, -EINVAL);
		fz_rx.hdr = NULL;
		return;
	}
	/*
	 * DESTROY, on another thread, may overtake what nobody waits for, and the end of what was answered:
	 * a FORGET that was only just read, the inode that a GETATTR still has to put.
	 */
	atomic_fetch_add(&fz->inflight, 1);
	if (atomic_load(&fz->unmounted))
		refuse(h, -ENODEV);
	else
		dispatch(fz, h);
	atomic_fetch_sub(&fz->inflight, 1);
	fz_rx.hdr = NULL;
}

/* ---- libfuse's way out ------------------------------------------------------------ */

ssize_t fz_send(int fd, struct fz_slot *slot, const struct iovec *iov, int nr)
{
	if (!slot)
		return writev(fd, iov, nr);
	fz_uring_reply(slot, iov, nr);
	return ((const struct fuse_out_header *)iov[0].iov_base)->len;
}

static ssize_t seam_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	const struct fuse_in_header *h = fz_rx.hdr;
	struct fuse_init_out init;
	struct fz *fz = userdata;

	if (h && h->opcode == FUSE_INIT && out->unique == h->unique && out->error == 0 &&
	    count == 2 && iov[1].iov_len == sizeof(init)) {
		memcpy(&init, iov[1].iov_base, sizeof(init));
		fz->uring_agreed = fz_patch_init((const struct fuse_init_in *)(h + 1), &init, fz->uring);
		iov[1].iov_base = &init;
	}
	return fz_send(fz_rx.fd >= 0 ? fz_rx.fd : fd, fz_rx.slot, iov, count);
}

/* Demanded by libfuse; the transport reads for itself. */
static ssize_t seam_read(int fd, void *buf, size_t len, void *userdata)
{
	return read(fd, buf, len);
}

const struct fuse_custom_io fz_seam_io = {
	.writev = seam_writev,
	.read = seam_read,
};

/* ---- The session's ends -------------------------------------------------------------- */

void fz_ll_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fz *fz = userdata;
	unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_EXPORT_SUPPORT |
			FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL | FUSE_CAP_READDIRPLUS |
			FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO | FUSE_CAP_IOCTL_DIR |
			FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_ATOMIC_O_TRUNC |
			FUSE_CAP_EXPLICIT_INVAL_DATA;

	/*
	 * Not wanted, though libfuse would: AUTO_INVAL_DATA (we are the only writer) and
	 * splicing (measured: half the speed of a copy for reads, no gain for writes).
	 */
	if (fz->cache == FZ_CACHE_WRITEBACK)
		want |= FUSE_CAP_WRITEBACK_CACHE;
	conn->want = want & conn->capable;
	conn->max_write = FZ_MAX_WRITE;
	/* Each may hold its payload here while it waits its turn. */
	conn->max_background = fz_transport_share(fs_options(fz->fs)->memory_bytes);
	conn->congestion_threshold = conn->max_background * 3 / 4;
	conn->time_gran = 1;
}

void fz_ll_destroy(void *userdata)
{
	/* On fuseblk umount(2) waits for the answer to this: everything is on disk then. */
	fz_close_fs(userdata);
}

/* No flush, access, or locks: their ENOSYS loses nothing and is asked for once. */
const struct fuse_lowlevel_ops fz_ll_ops = {
	.init = fz_ll_init,
	.destroy = fz_ll_destroy,
	.lookup = fz_ll_lookup,
	.forget = fz_ll_forget,
	.forget_multi = fz_ll_forget_multi,
	.getattr = fz_ll_getattr,
	.setattr = fz_ll_setattr,
	.readlink = fz_ll_readlink,
	.mknod = fz_ll_mknod,
	.mkdir = fz_ll_mkdir,
	.unlink = fz_ll_unlink,
	.rmdir = fz_ll_rmdir,
	.symlink = fz_ll_symlink,
	.rename = fz_ll_rename,
	.link = fz_ll_link,
	.open = fz_ll_open,
	.read = fz_ll_read,
	.write = fz_ll_write,
	.release = fz_ll_release,
	.fsync = fz_ll_fsync,
	.opendir = fz_ll_opendir,
	.readdir = fz_ll_readdir,
	.releasedir = fz_ll_releasedir,
	.fsyncdir = fz_ll_fsyncdir,
	.statfs = fz_ll_statfs,
	.getxattr = fz_ll_getxattr,
	.listxattr = fz_ll_listxattr,
	.removexattr = fz_ll_removexattr,
	.create = fz_ll_create,
	.bmap = fz_ll_bmap,
	.ioctl = fz_ll_ioctl,
	.fallocate = fz_ll_fallocate,
	.readdirplus = fz_ll_readdirplus,
	.copy_file_range = fz_ll_copy_file_range,
	.lseek = fz_ll_lseek,
};

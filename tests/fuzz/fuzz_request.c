/* SPDX-License-Identifier: MIT */
/*
 * Requests as they come from /dev/fuse, over a small file system in memory: any opcode, node,
 * length and argument bytes. One thing is the kernel's word and believed: a file handle is one
 * that we gave out and that was not released, and no more lookups are forgotten than made; the
 * target keeps the kernel's tables for that. Each request must get exactly the answer that the
 * protocol promises, and everything must end.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fuse_private.h"
#include "fuzz.h"

#define MAX_REQUESTS 48
#define MAX_TABLE    64u
#define MAX_ARGS     9000u
#define RX_SIZE      (4u << 20)

struct handle {
	uint64_t fh, nodeid;
	bool dir;
};
struct node {
	uint64_t nodeid, nlookup;
};
/* What the kernel would know. */
struct kernel {
	struct fz fz;
	struct fz_options opts;
	int fd;            /* replies are appended here */
	uint64_t unique;
	struct handle handles[MAX_TABLE];
	struct node nodes[MAX_TABLE];
	unsigned nr_handles, nr_nodes;
	char *msg;
	uint8_t *rx;
};

/* ---- The daemon's side ------------------------------------------------------------------ */

static void begin(struct kernel *k, unsigned how)
{
	char *argv[] = { (char *)"iomapfs", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fs_error err;
	struct fz *fz = &k->fz;

	fz_options_init(&k->opts);
	fz->dev_fd = k->fd;
	fz->opts = &k->opts;
	fz->owner = 1000;
	fz->cache = how % 3;
	k->opts.fs.readonly = how & 0x40;
	pthread_mutex_init(&fz->stats_lock, NULL);
	if (fs_mount(fuzz_image_new(FUZZ_CLEAN), &k->opts.fs, &fz->fs, &err) ||
	    fz_nodes_create(&fz->nodes) || work_pool_create("fz-work", 2, &fz->workers) ||
	    work_pool_create("fz-keep", 1, &fz->reserved) || fz_notifier_create(fz, &fz->notifier))
		abort();
	fz->se = fuse_session_new(&args, &fz_ll_ops, sizeof(fz_ll_ops), fz);
	fuse_opt_free_args(&args);
	if (!fz->se || fuse_session_custom_io(fz->se, &fz_seam_io, k->fd))
		abort();
	k->nodes[k->nr_nodes++] = (struct node){ .nodeid = FUSE_ROOT_ID };
}

static void end(struct kernel *k)
{
	struct fz *fz = &k->fz;

	fz_close_fs(fz);
	fz_notifier_destroy(fz->notifier);
	work_pool_destroy(fz->workers);
	work_pool_destroy(fz->reserved);
	fz_nodes_destroy(fz->nodes);
	fz_stats_free(fz);
	pthread_mutex_destroy(&fz->stats_lock);
	fuse_session_destroy(fz->se);
}

/* ---- The kernel's side -------------------------------------------------------------------- */

static void learn_node(struct kernel *k, uint64_t nodeid)
{
	for (unsigned i = 0; i < k->nr_nodes; i++)
		if (k->nodes[i].nodeid == nodeid) {
			k->nodes[i].nlookup++;
			return;
		}
	if (nodeid && k->nr_nodes < MAX_TABLE)
		k->nodes[k->nr_nodes++] = (struct node){ nodeid, 1 };
}

static void learn_handle(struct kernel *k, uint64_t fh, uint64_t nodeid, bool dir)
{
	if (k->nr_handles < MAX_TABLE)
		k->handles[k->nr_handles++] = (struct handle){ fh, nodeid, dir };
}

static void learn(struct kernel *k, const struct fuse_in_header *h, const uint8_t *body, size_t len)
{
	struct fuse_entry_out e;
	struct fuse_open_out o;

	switch (h->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FZ_TMPFILE:
		assert(len >= sizeof(e));
		memcpy(&e, body, sizeof(e));
		learn_node(k, e.nodeid);
		if (len == sizeof(e))
			break;
		assert(len == sizeof(e) + sizeof(o));
		memcpy(&o, body + sizeof(e), sizeof(o));
		learn_handle(k, o.fh, e.nodeid, false);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		assert(len == sizeof(o));
		memcpy(&o, body, sizeof(o));
		learn_handle(k, o.fh, h->nodeid, h->opcode == FUSE_OPENDIR);
		break;
	}
}

/* What the file of replies holds: at most one for this request, and notifications. */
static unsigned read_replies(struct kernel *k, const struct fuse_in_header *h)
{
	const ssize_t n = pread(k->fd, k->rx, RX_SIZE, 0);
	unsigned replies = 0;

	assert(n >= 0);
	for (ssize_t at = 0; at < n;) {
		struct fuse_out_header out;

		assert(n - at >= (ssize_t)sizeof(out));
		memcpy(&out, k->rx + at, sizeof(out));
		assert(out.len >= sizeof(out) && out.len <= n - at);
		if (out.unique != 0) {
			assert(out.unique == h->unique);
			assert(out.error <= 0 && out.error > -512);
			replies++;
			if (out.error == 0)
				learn(k, h, k->rx + at + sizeof(out), out.len - sizeof(out));
		}
		at += out.len;
	}
	if (ftruncate(k->fd, 0) < 0)
		abort();
	return replies;
}

static void send_request(struct kernel *k, uint32_t opcode, uint64_t nodeid, uint32_t uid, size_t args)
{
	struct fuse_in_header *h = (void *)k->msg;
	const struct timespec tick = { .tv_nsec = 20000 };
	struct fuse_in_header sent;

	*h = (struct fuse_in_header){
		.len = (uint32_t)(sizeof(*h) + args),
		.opcode = opcode,
		.unique = k->unique += 2,
		.nodeid = nodeid,
		.uid = uid,
		.gid = uid,
		.pid = 1,
	};
	sent = *h;
	fz_seam_dispatch(&k->fz, k->fd, NULL, k->msg, h->len);
	while (atomic_load(&k->fz.inflight))
		nanosleep(&tick, NULL);
	assert(read_replies(k, &sent) == (fz_proto_has_reply(opcode) ? 1u : 0u));
}

static void send_init(struct kernel *k)
{
	struct fuse_init_in *in = (void *)(k->msg + sizeof(struct fuse_in_header));

	memset(in, 0, sizeof(*in));
	in->major = 7;
	in->minor = 45;
	in->max_readahead = 131072;
	in->flags = in->flags2 = UINT32_MAX;
	send_request(k, FUSE_INIT, 0, 0, sizeof(*in));
}

/* ---- Requests ---------------------------------------------------------------------------------- */

/* Which kind of handle an opcode carries at the start of its arguments. */
static int handle_kind(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_RELEASE:
	case FUSE_FSYNC:
	case FUSE_FALLOCATE:
	case FUSE_LSEEK:
	case FUSE_COPY_FILE_RANGE:
	case FZ_COPY_FILE_RANGE_64:
		return 0;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNCDIR:
		return 1;
	default:
		return -1;
	}
}

static struct handle *pick_handle(struct kernel *k, unsigned nth, bool dir)
{
	for (unsigned i = 0; i < k->nr_handles; i++) {
		struct handle *hd = &k->handles[(nth + i) % k->nr_handles];

		if (hd->dir == dir)
			return hd;
	}
	return NULL;
}

/* Put the handles where the arguments have them; false: the kernel has none to give. */
static bool put_handles(struct kernel *k, uint32_t opcode, unsigned nth, char *args, uint64_t *nodeid)
{
	int kind = handle_kind(opcode);
	struct handle *hd;

	if (opcode == FUSE_IOCTL) {
		struct fuse_ioctl_in in;

		memcpy(&in, args, sizeof(in));
		kind = (in.flags & FUSE_IOCTL_DIR) != 0;
	}
	if (kind < 0)
		return true;
	hd = pick_handle(k, nth, kind);
	if (!hd)
		return false;
	memcpy(args, &hd->fh, sizeof(hd->fh));
	*nodeid = hd->nodeid;
	if (opcode == FUSE_COPY_FILE_RANGE || opcode == FZ_COPY_FILE_RANGE_64) {
		struct fuse_copy_file_range_in in;
		const struct handle *to = pick_handle(k, nth >> 4, false);

		memcpy(&in, args, sizeof(in));
		in.nodeid_out = to->nodeid;
		in.fh_out = to->fh;
		memcpy(args, &in, sizeof(in));
	}
	return true;
}

/* After a message that was long enough to be one. */
static void forget_handle(struct kernel *k, uint32_t opcode, size_t len, uint64_t fh)
{
	if ((opcode != FUSE_RELEASE && opcode != FUSE_RELEASEDIR) ||
	    len < sizeof(struct fuse_release_in))
		return;
	for (unsigned i = 0; i < k->nr_handles; i++)
		if (k->handles[i].fh == fh) {
			k->handles[i] = k->handles[--k->nr_handles];
			return;
		}
}

static void one_request(struct kernel *k, struct fuzz_in *in)
{
	const unsigned op = in_u8(in), nth = in_u8(in), how = in_u8(in);
	const uint32_t opcode = op < 0xf0 ? op % 56 : in_u32(in);
	size_t len = in_u16(in) % MAX_ARGS;
	char *args = k->msg + sizeof(struct fuse_in_header);
	struct node *n = &k->nodes[nth % k->nr_nodes];
	uint64_t nodeid = how & 0x80 ? in_number(in) : n->nodeid, fh;

	/* The daemon's buffer is larger than any message: the rest of it is not the message. */
	memset(args, 0, MAX_ARGS + 256);
	in_bytes(in, args, len);
	if (opcode == FUSE_INIT || opcode == FUSE_DESTROY || !put_handles(k, opcode, nth, args, &nodeid))
		return;
	if (opcode == FUSE_FORGET && len >= sizeof(struct fuse_forget_in)) {
		const uint64_t nlookup = n->nlookup;

		memcpy(args, &nlookup, sizeof(nlookup));
		nodeid = n->nodeid;
		n->nlookup = 0;
	} else if (opcode == FUSE_BATCH_FORGET && len >= 24) {
		const struct { uint32_t count, dummy; uint64_t nodeid, nlookup; } one = {
			1, 0, n->nodeid, n->nlookup };

		memcpy(args, &one, sizeof(one));
		n->nlookup = 0;
	}
	memcpy(&fh, args, sizeof(fh));
	send_request(k, opcode, nodeid, how & 1 ? 1000 : 0, len);
	forget_handle(k, opcode, len, fh);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, data + size };
	struct kernel *k = calloc(1, sizeof(*k));
	static uint8_t *rx;
	unsigned how;

	fuzz_quiet();
	if (!rx)
		rx = malloc(RX_SIZE);
	if (!k || !rx)
		abort();
	k->rx = rx;
	k->fd = memfd_create("replies", MFD_CLOEXEC);
	k->msg = fz_buf_get();
	if (k->fd < 0 || fcntl(k->fd, F_SETFL, O_APPEND) < 0 || !k->msg)
		abort();
	how = in_u8(&in);
	begin(k, how);
	send_init(k);
	for (int i = 0; i < MAX_REQUESTS && in_left(&in); i++)
		one_request(k, &in);
	if (how & 0x80)
		send_request(k, FUSE_DESTROY, 0, 0, 0);
	end(k);
	fz_buf_put(k->msg);
	close(k->fd);
	free(k);
	return 0;
}

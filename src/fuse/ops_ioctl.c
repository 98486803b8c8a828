// SPDX-License-Identifier: MIT
/* ioctls: the ones every file system has, and our own (iomapfs/ioctl.h). */
#include <linux/fs.h>
#include <string.h>
#include <unistd.h>

#include "fuse_private.h"
#include "iomapfs/ioctl.h"

/* Every reply starts with the result and is followed by what the caller's buffer gets. */
static int reply_result(struct fz_call *c, int result, const void *buf, size_t size)
{
	struct fuse_ioctl_out out = {.result = result};
	struct iovec iov[2] = {{&out, sizeof(out)}, {(void *)(uintptr_t)buf, MIN(size, c->len)}};

	return fz_reply_iov(c, iov, iov[1].iov_len ? 2 : 1);
}

int fz_reply_ioctl(struct fz_call *c, const void *buf, size_t size)
{
	return reply_result(c, 0, buf, size);
}

static struct fz_file *file_of(const struct fz_call *c)
{
	return (struct fz_file *)(uintptr_t)c->fh;
}

static bool is_owner(const struct fz_call *c)
{
	return c->ctx.uid == 0 || c->ctx.uid == c->fz->owner;
}

/* ---- Inode flags ---------------------------------------------------------------------- */

static const struct {
	uint32_t fl, xflag;
} flag_map[] = {
	{OD_FL_SYNC, FS_XFLAG_SYNC},
	{OD_FL_IMMUTABLE, FS_XFLAG_IMMUTABLE},
	{OD_FL_APPEND, FS_XFLAG_APPEND},
	{OD_FL_NODUMP, FS_XFLAG_NODUMP},
	{OD_FL_NOATIME, FS_XFLAG_NOATIME},
	{OD_FL_DAX, FS_XFLAG_DAX},
	{OD_FL_PROJINHERIT, FS_XFLAG_PROJINHERIT},
};

static int ioc_getflags(struct fz_call *c, struct fs_inode *ip)
{
	struct fsxattr fsx = {0};
	struct fs_attr a;
	uint32_t flags; /* an int, whatever the ioctl's number says */
	int ret;

	ret = fs_getattr(&c->ctx, ip, &a);
	if (ret < 0)
		return ret;
	if (c->cmd == FS_IOC_GETVERSION) {
		flags = a.gen;
		return fz_reply_ioctl(c, &flags, sizeof(flags));
	}
	if (c->cmd == FS_IOC_GETFLAGS) {
		flags = a.flags;
		return fz_reply_ioctl(c, &flags, sizeof(flags));
	}
	for (size_t i = 0; i < ARRAY_SIZE(flag_map); i++)
		if (a.flags & flag_map[i].fl)
			fsx.fsx_xflags |= flag_map[i].xflag;
	fsx.fsx_projid = a.projid;
	return fz_reply_ioctl(c, &fsx, sizeof(fsx));
}

/* The flags change what the kernel may cache of the inode's attributes (ctime). */
static int reply_flags_set(struct fz_call *c)
{
	return fz_reply_ioctl(c, NULL, 0);
}

static int ioc_setflags(struct fz_call *c, struct fs_inode *ip)
{
	struct fsxattr fsx;
	struct fz_call *k;
	struct fs_attr a;
	uint32_t flags = 0;
	int ret;

	ret = fs_getattr(&c->ctx, ip, &a);
	if (ret < 0)
		return ret;
	if (c->cmd == FS_IOC_SETFLAGS) {
		if (c->size < sizeof(flags))
			return -EINVAL;
		memcpy(&flags, c->data, sizeof(flags));
	} else {
		uint32_t known = 0;

		if (c->size < sizeof(fsx))
			return -EINVAL;
		memcpy(&fsx, c->data, sizeof(fsx));
		flags = a.flags;
		for (size_t i = 0; i < ARRAY_SIZE(flag_map); i++) {
			known |= flag_map[i].xflag;
			flags &= ~flag_map[i].fl;
			if (fsx.fsx_xflags & flag_map[i].xflag)
				flags |= flag_map[i].fl;
		}
		if (fsx.fsx_extsize || fsx.fsx_cowextsize || (fsx.fsx_xflags & ~known))
			return -EOPNOTSUPP;
		a.projid = fsx.fsx_projid;
	}
	if (flags & ~OD_FL_KNOWN)
		return -EOPNOTSUPP;
	ret = fs_set_flags(&c->ctx, ip, flags, a.projid);
	if (ret < 0)
		return ret;
	k = fz_call_keep(c);
	if (!k)
		return reply_flags_set(c);
	k->resume = reply_flags_set;
	fz_notify_inval(k->fz, k->nodeid, -1, 0, k);
	return FZ_ASYNC;
}

/* ---- Layout, space, labels -------------------------------------------------------------------- */

static int ioc_fiemap(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_fiemap *m = fz_scratch();
	struct fiemap_extent_info fi;
	uint32_t room;
	int ret;

	ret = fz_want_kernel_pages(c);
	if (ret)
		return ret;
	memset(m, 0, sizeof(*m));
	memcpy(m, c->data, offsetof(struct iomapfs_ioc_fiemap, extents));
	room = MIN(m->extent_count, (uint32_t)IOMAPFS_FIEMAP_EXTENTS);
	fi = (struct fiemap_extent_info){
		.fi_flags = m->flags,
		.fi_extents_max = room,
		.fi_extents_start = m->extents,
	};
	ret = fs_fiemap(&c->ctx, ip, &fi, m->start, m->length);
	m->flags = fi.fi_flags;
	/* The one error that comes with an answer: which flags were not understood. */
	if (ret == -EBADR)
		return reply_result(c, ret, m, sizeof(*m));
	if (ret < 0)
		return ret;
	m->mapped_extents = fi.fi_extents_mapped;
	m->extent_count = room;
	return fz_reply_ioctl(c, m, sizeof(*m));
}

static int swapmap_extent(struct swap_info *sis, uint64_t start_page, uint64_t nr_pages, uint64_t phys_page)
{
	struct iomapfs_ioc_swapmap *m = sis->private;

	if (start_page + nr_pages <= m->start_page || m->count == IOMAPFS_SWAPMAP_EXTENTS)
		return 0;
	m->extents[m->count].start_page = start_page;
	m->extents[m->count].nr_pages = nr_pages;
	m->extents[m->count].phys_page = phys_page;
	m->count++;
	return 0;
}

static int ioc_swapmap(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_swapmap *m = fz_scratch();
	struct swap_info sis = {.add_extent = swapmap_extent, .private = m};
	int ret;

	memset(m, 0, sizeof(*m));
	memcpy(&m->start_page, c->data, sizeof(m->start_page));
	ret = fs_swap_map(&c->ctx, ip, &sis, &m->pagespan);
	if (ret < 0 && !(ret == -EINVAL && sis.why))
		return ret;
	m->error = ret;
	m->nr_pages = sis.nr_pages;
	if (ret < 0)
		snprintf(m->why, sizeof(m->why), "%s", sis.why);
	return fz_reply_ioctl(c, m, sizeof(*m));
}

static int ioc_trim(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_trim t = {0};
	struct fstrim_range r;
	int ret;

	if (c->cmd == FITRIM) {
		memcpy(&r, c->data, sizeof(r));
		t = (struct iomapfs_ioc_trim){.start = r.start, .len = r.len, .minlen = r.minlen};
	} else {
		memcpy(&t, c->data, sizeof(t));
	}
	ret = fs_trim(c->fz->fs, t.start, t.len, t.minlen, &t.trimmed);
	if (ret < 0)
		return ret;
	if (c->cmd == FITRIM) {
		r.len = t.trimmed;
		return fz_reply_ioctl(c, &r, sizeof(r));
	}
	return fz_reply_ioctl(c, &t, sizeof(t));
}

static int ioc_getlabel(struct fz_call *c, struct fs_inode *ip)
{
	char label[FSLABEL_MAX] = "";

	strncpy(label, fs_sb(c->fz->fs)->label, sizeof(label) - 1);
	return fz_reply_ioctl(c, label, sizeof(label));
}

static int ioc_setlabel(struct fz_call *c, struct fs_inode *ip)
{
	char label[FSLABEL_MAX + 1] = "";
	int ret;

	memcpy(label, c->data, MIN(c->size, (size_t)FSLABEL_MAX));
	ret = fs_tune(c->fz->fs, &(struct fs_tune_args){ .label = label });
	return ret < 0 ? ret : fz_reply_ioctl(c, NULL, 0);
}

static int ioc_tune(struct fz_call *c, struct fs_inode *ip)
{
	struct fs_tune_args args = {0};
	struct iomapfs_ioc_tune t;
	unsigned mmp;
	int ret;

	memcpy(&t, c->data, sizeof(t));
	if (t.label[sizeof(t.label) - 1] || (t.set & ~IOMAPFS_TUNE_ALL))
		return -EINVAL;
	if (t.set & IOMAPFS_TUNE_LABEL)
		args.label = t.label;
	if (t.set & IOMAPFS_TUNE_UUID)
		args.uuid = t.uuid;
	if (t.set & IOMAPFS_TUNE_MMP)
		args.mmp_interval_s = &mmp;
	mmp = t.mmp_interval_s;
	ret = fs_tune(c->fz->fs, &args);
	return ret < 0 ? ret : fz_reply_ioctl(c, &t, sizeof(t));
}

/* ---- State ------------------------------------------------------------------------------------- */

static int ioc_stats(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_stats *o = fz_scratch();
	struct fs_stats s;

	fs_get_stats(c->fz->fs, &s);
	memset(o, 0, sizeof(*o));
	o->version = IOMAPFS_STATS_VERSION;
	o->cached_bytes = s.folio.cached_bytes;
	o->dirty_bytes = s.folio.dirty_bytes;
	o->writeback_bytes = s.folio.writeback_bytes;
	o->limit_bytes = s.folio.limit_bytes;
	o->folio_hits = s.folio.hits;
	o->folio_misses = s.folio.misses;
	o->folio_reclaimed = s.folio.reclaimed;
	o->writers_throttled = s.folio.throttled;
	o->flushed_bytes = s.folio.flushed_bytes;
#define COPY(field) (o->field = s.field)
	COPY(buf_cached), COPY(buf_pinned), COPY(buf_hits), COPY(buf_misses);
	COPY(jnl_commits), COPY(jnl_handles), COPY(jnl_blocks), COPY(jnl_checkpointed);
	COPY(jnl_log_blocks), COPY(jnl_log_free);
	COPY(blocks_total), COPY(blocks_free), COPY(blocks_reserved), COPY(blocks_delalloc);
	COPY(inodes_used), COPY(alloc_calls), COPY(alloc_blocks), COPY(free_calls);
	COPY(extents_split), COPY(icache_inodes), COPY(icache_dirty);
	COPY(device_reads), COPY(device_writes), COPY(device_flushes);
	COPY(device_read_bytes), COPY(device_write_bytes);
	COPY(device_persists), COPY(device_persist_bytes);
#undef COPY
	o->nodes_known = fz_nodes_count(c->fz->nodes);
	fz_stats_collect(c->fz, o);
	return fz_reply_ioctl(c, o, sizeof(*o));
}

static int ioc_info(struct fz_call *c, struct fs_inode *ip)
{
	const struct fs_mount_opts *opts = fs_options(c->fz->fs);
	const struct sb_info *sb = fs_sb(c->fz->fs);
	const struct bd *bd = fs_bd(c->fz->fs);
	struct iomapfs_ioc_info o = {
		.version = sb->version,
		.block_size = 1u << sb->block_shift,
		.compat = sb->compat,
		.ro_compat = sb->ro_compat,
		.incompat = sb->incompat,
		.jnl_incompat = sb->jnl_incompat,
		.nr_blocks = sb->nr_blocks,
		.ag_blocks = sb->ag_blocks,
		.nr_ags = sb->nr_ags,
		.jnl_blocks = sb->jnl_len,
		.root_ino = sb->root_ino,
		.ctime_sec = sb->ctime_sec,
		.readonly = fs_is_readonly(c->fz->fs),
		.shut_down = fs_is_shutdown(c->fz->fs),
		.commit_interval_ms = opts->commit_interval_ms,
		.memory_bytes = opts->memory_bytes,
		.atime = opts->atime,
		.discard = opts->discard,
		.kernel_cache = c->fz->cache,
		.logical_block = bd->info.logical_block,
		.physical_block = bd->info.physical_block,
		.direct = bd->info.direct,
		.discard_granularity = bd->info.discard_granularity,
		.pid = (uint32_t)getpid(),
		.transport = c->fz->uring ? 1 : 0,
		.dax = opts->dax,
	};

	memcpy(o.uuid, sb->uuid, sizeof(o.uuid));
	strncpy(o.label, sb->label, sizeof(o.label) - 1);
	strncpy(o.creator, sb->creator, sizeof(o.creator) - 1);
	strncpy(o.device, bd->name ? bd->name : "", sizeof(o.device) - 1);
	return fz_reply_ioctl(c, &o, sizeof(o));
}

/* Options that mean something to a living file system; the rest keeps what it was. */
static int remount(struct fz *fz, const char *list, struct fs_error *err)
{
	struct fs_mount_opts now = *fs_options(fz->fs);
	struct fz_options o;
	int ret;

	fz_options_init(&o);
	ret = fz_options_parse(&o, list, err->text, sizeof(err->text));
	if (ret < 0)
		return ret;
	if (o.fs.dax && !now.dax) {
		snprintf(err->text, sizeof(err->text),
			 "dax can not be switched on while mounted: unmount it and mount it again");
		return -EINVAL;
	}
	if (o.ro_given)
		now.readonly = o.fs.readonly;
	if (o.atime_given) {
		now.atime = o.fs.atime;
		now.nodiratime = o.fs.nodiratime;
	}
	if (o.commit_given)
		now.commit_interval_ms = o.fs.commit_interval_ms;
	if (o.discard_given)
		now.discard = o.fs.discard;
	if (o.errors_given)
		now.errors = o.fs.errors;
	return fs_remount(fz->fs, &now, err);
}

static int ioc_remount(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_remount r;
	struct fs_error err = {""};

	memcpy(&r, c->data, sizeof(r));
	if (!memchr(r.options, '\0', sizeof(r.options)))
		return -EINVAL;
	r.error = remount(c->fz, r.options, &err);
	memcpy(r.message, err.text, sizeof(r.message));
	return fz_reply_ioctl(c, &r, sizeof(r));
}

static int reply_shutdown(struct fz_call *c)
{
	struct iomapfs_ioc_shutdown s;

	memcpy(&s, c->data, sizeof(s));
	s.error = (int32_t)c->result;
	return fz_reply_ioctl(c, &s, sizeof(s));
}

static int ioc_shutdown(struct fz_call *c, struct fs_inode *ip)
{
	struct iomapfs_ioc_shutdown s;
	struct fz_call *k;

	memcpy(&s, c->data, sizeof(s));
	if (s.flags & ~IOMAPFS_SHUTDOWN_SYNC)
		return -EINVAL;
	c->result = fs_force_down(c->fz->fs, s.flags & IOMAPFS_SHUTDOWN_SYNC);
	/* Files that are open could be read from the kernel's pages; names and opening need us. */
	fz_nodes_drop_pages(c->fz);
	k = fz_call_keep(c);
	if (!k)
		return reply_shutdown(c);
	/* The answer comes behind them all. */
	k->resume = reply_shutdown;
	fz_notify_inval(k->fz, k->nodeid, 0, 0, k);
	return FZ_ASYNC;
}

/* ---- Dispatch -------------------------------------------------------------------------------------- */

enum who { ANYONE, OWNER, ROOT };

static const struct ioc_row {
	unsigned cmd;
	int (*fn)(struct fz_call *c, struct fs_inode *ip);
	enum who who;
	bool waits;   /* goes to a worker at once */
	bool handle;  /* of a regular file */
} rows[] = {
	{FS_IOC_GETFLAGS, ioc_getflags, ANYONE, false},
	{FS_IOC_FSGETXATTR, ioc_getflags, ANYONE, false},
	{FS_IOC_GETVERSION, ioc_getflags, ANYONE, false},
	/* Who may set them was checked by the kernel (owner; CAP_LINUX_IMMUTABLE). */
	{FS_IOC_SETFLAGS, ioc_setflags, ANYONE, false},
	{FS_IOC_FSSETXATTR, ioc_setflags, ANYONE, false},
	{FITRIM, ioc_trim, OWNER, true},
	{FS_IOC_GETFSLABEL, ioc_getlabel, ANYONE, false},
	{FS_IOC_SETFSLABEL, ioc_setlabel, OWNER, true},
	{IOMAPFS_IOC_FIEMAP, ioc_fiemap, ANYONE, false},
	{IOMAPFS_IOC_STATS, ioc_stats, ANYONE, false},
	{IOMAPFS_IOC_INFO, ioc_info, ANYONE, false},
	{IOMAPFS_IOC_TUNE, ioc_tune, OWNER, true},
	{IOMAPFS_IOC_TRIM, ioc_trim, OWNER, true},
	{IOMAPFS_IOC_REMOUNT, ioc_remount, OWNER, true},
	{IOMAPFS_IOC_SHUTDOWN, ioc_shutdown, ROOT, true},
	{IOMAPFS_IOC_SWAPMAP, ioc_swapmap, ANYONE, true},
	/* Who may: whoever has the handle. */
	{IOMAPFS_IOC_FALLOCATE, fz_ioc_fallocate, ANYONE, true, true},
	{IOMAPFS_IOC_HANDLE, fz_ioc_handle, ANYONE, false, true},
	{IOMAPFS_IOC_CLONE, fz_ioc_clone, ANYONE, true, true},
	{IOMAPFS_IOC_DEDUPE, fz_ioc_dedupe, ANYONE, true, true},
	{IOMAPFS_IOC_IOFLAGS, fz_ioc_ioflags, ANYONE, false, true},
	{IOMAPFS_IOC_ATOMIC, fz_ioc_atomic, ANYONE, false},
};

static const struct ioc_row *row_of(unsigned cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].cmd == cmd)
			return &rows[i];
	return NULL;
}

static int do_ioctl(struct fz_call *c)
{
	const struct ioc_row *row = row_of(c->cmd);
	struct fs_inode *ip;
	int ret;

	ret = fz_node_get(c->fz, c->nodeid, c->ctx.flags, &ip);
	if (ret < 0)
		return ret;
	ret = row->fn(c, ip);
	fs_iput(ip);
	return ret;
}

void fz_ll_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		 struct fuse_file_info *fi, unsigned flags, const void *in_buf, size_t in_bufsz,
		 size_t out_bufsz)
{
	const struct ioc_row *row = row_of(cmd);
	struct fz_call c;

	fz_call_begin(&c, req, do_ioctl);
	c.cmd = cmd;
	c.fh = fi->fh;
	c.data = in_buf;
	c.size = in_bufsz;
	c.len = out_bufsz;
	if (!row)
		fz_reply_err(&c, -ENOTTY);
	else if ((row->who == OWNER && !is_owner(&c)) || (row->who == ROOT && c.ctx.uid != 0))
		fz_reply_err(&c, -EPERM);
	else if (_IOC_DIR(cmd) == (_IOC_READ | _IOC_WRITE) && in_bufsz < _IOC_SIZE(cmd))
		fz_reply_err(&c, -EINVAL);
	else if (row->handle && ((flags & FUSE_IOCTL_DIR) || !file_of(&c)->file))
		fz_reply_err(&c, flags & FUSE_IOCTL_DIR ? -EISDIR : -EINVAL);
	else if (row->waits)
		fz_call_defer(&c);
	else
		fz_call_run(&c);
}

// SPDX-License-Identifier: MIT
/* iomapctl on mounted file systems: everything here is one ioctl on a file of it. */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "ctl.h"
#include "iomapfs/format.h"
#include "iomapfs/ioctl.h"

static int open_path(const char *path)
{
	/* Not for reading: atime stays, and a fifo does not wait for its writer. */
	return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/* 0, or a positive errno. */
static int path_ioctl(const char *path, unsigned long cmd, void *arg)
{
	int fd = open_path(path), err = 0;

	if (fd < 0)
		return errno;
	if (ioctl(fd, cmd, arg) < 0)
		err = errno;
	close(fd);
	return err;
}

/* ---- fiemap ------------------------------------------------------------------------------ */

static const struct {
	uint32_t flag;
	const char *name;
} extent_flags[] = {
	{FIEMAP_EXTENT_LAST, "last"},
	{FIEMAP_EXTENT_UNKNOWN, "unknown"},
	{FIEMAP_EXTENT_DELALLOC, "delalloc"},
	{FIEMAP_EXTENT_ENCODED, "encoded"},
	{FIEMAP_EXTENT_NOT_ALIGNED, "not_aligned"},
	{FIEMAP_EXTENT_DATA_INLINE, "inline"},
	{FIEMAP_EXTENT_DATA_TAIL, "tail"},
	{FIEMAP_EXTENT_UNWRITTEN, "unwritten"},
	{FIEMAP_EXTENT_MERGED, "merged"},
	{FIEMAP_EXTENT_SHARED, "shared"},
};

static void print_extent(const struct fiemap_extent *e)
{
	const char *sep = "";

	printf("%16" PRIu64 " %16" PRIu64 " ", (uint64_t)e->fe_logical, (uint64_t)e->fe_length);
	/* No address yet, or none at all. */
	if (e->fe_flags & (FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN))
		printf("%16s ", "-");
	else
		printf("%16" PRIu64 " ", (uint64_t)e->fe_physical);
	for (size_t i = 0; i < sizeof(extent_flags) / sizeof(extent_flags[0]); i++) {
		if (!(e->fe_flags & extent_flags[i].flag))
			continue;
		printf("%s%s", sep, extent_flags[i].name);
		sep = ",";
	}
	putchar('\n');
}

static json_t *json_extent(const struct fiemap_extent *e)
{
	json_t *flags = json_array();

	for (size_t i = 0; i < sizeof(extent_flags) / sizeof(extent_flags[0]); i++)
		if (e->fe_flags & extent_flags[i].flag)
			json_array_append_new(flags, json_string(extent_flags[i].name));
	return json_pack("{s:I,s:I,s:I,s:o}", "offset", (json_int_t)e->fe_logical, "length",
			 (json_int_t)e->fe_length, "address", (json_int_t)e->fe_physical, "flags",
			 flags);
}

int ctl_fiemap(const struct ctl_opts *o, const char *path)
{
	uint64_t end = o->length > UINT64_MAX - o->offset ? UINT64_MAX : o->offset + o->length;
	struct iomapfs_ioc_fiemap *m = calloc(1, sizeof(*m));
	json_t *list = o->json ? json_array() : NULL;
	uint64_t pos = o->offset;
	bool last = false;
	int fd, err = 0;

	fd = open_path(path);
	if (fd < 0 || !m) {
		free(m);
		json_decref(list);
		return ctl_fail(path, fd < 0 ? errno : ENOMEM);
	}
	if (!o->json)
		printf("%16s %16s %16s %s\n", "offset", "length", "address", "flags");
	while (!last && pos < end && !err) {
		memset(m, 0, sizeof(*m));
		m->start = pos;
		m->length = end - pos;
		m->flags = (o->sync ? FIEMAP_FLAG_SYNC : 0) | (o->xattr ? FIEMAP_FLAG_XATTR : 0);
		m->extent_count = IOMAPFS_FIEMAP_EXTENTS;
		if (ioctl(fd, IOMAPFS_IOC_FIEMAP, m) < 0)
			err = errno;
		else if (m->mapped_extents == 0)
			break;
		for (uint32_t i = 0; !err && i < m->mapped_extents; i++) {
			const struct fiemap_extent *e = &m->extents[i];

			if (o->json)
				json_array_append_new(list, json_extent(e));
			else
				print_extent(e);
			pos = e->fe_logical + e->fe_length;
			last = e->fe_flags & FIEMAP_EXTENT_LAST;
		}
	}
	close(fd);
	free(m);
	if (err) {
		json_decref(list);
		return ctl_fail(path, err);
	}
	return o->json ? ctl_print_json(json_pack("{s:s,s:o}", "file", path, "extents", list)) : CTL_OK;
}

/* ---- swapmap --------------------------------------------------------------------------------- */

static json_t *json_swap_extent(uint64_t start, uint64_t nr, uint64_t phys)
{
	return json_pack("{s:I,s:I,s:I}", "page", (json_int_t)start, "pages", (json_int_t)nr, "device_page",
			 (json_int_t)phys);
}

/* All of it, page after page of extents. *m is the last one; 0 or errno. */
static int read_swapmap(int fd, struct iomapfs_ioc_swapmap *m, json_t *list)
{
	uint64_t next = 0;

	do {
		memset(m, 0, sizeof(*m));
		m->start_page = next;
		if (ioctl(fd, IOMAPFS_IOC_SWAPMAP, m) < 0)
			return errno;
		for (uint32_t i = 0; i < m->count; i++) {
			const uint64_t start = m->extents[i].start_page, nr = m->extents[i].nr_pages;
			const uint64_t phys = m->extents[i].phys_page;

			next = start + nr;
			if (list)
				json_array_append_new(list, json_swap_extent(start, nr, phys));
			else
				printf("%16llu %16llu %16llu\n", (unsigned long long)start,
				       (unsigned long long)nr, (unsigned long long)phys);
		}
	} while (m->count == IOMAPFS_SWAPMAP_EXTENTS && next < m->nr_pages);
	return 0;
}

int ctl_swapmap(const struct ctl_opts *o, const char *path)
{
	struct iomapfs_ioc_swapmap *m = calloc(1, sizeof(*m));
	json_t *list = o->json ? json_array() : NULL;
	const int fd = open_path(path);
	int err = fd < 0 ? errno : m ? 0 : ENOMEM, ret = CTL_OK;

	if (!err && !o->json)
		printf("%16s %16s %16s\n", "page", "pages", "device page");
	if (!err)
		err = read_swapmap(fd, m, list);
	if (fd >= 0)
		close(fd);
	if (err) {
		ret = ctl_fail(path, err);
	} else if (m->error) {
		fprintf(stderr, "iomapctl: %s: swapon cannot use it: %s\n", path, m->why);
		ret = CTL_FAIL;
	}
	if (ret == CTL_OK && o->json)
		ret = ctl_print_json(json_pack("{s:s,s:I,s:I,s:O}", "file", path, "pages",
					       (json_int_t)m->nr_pages, "span", (json_int_t)m->pagespan,
					       "extents", list));
	json_decref(list);
	free(m);
	return ret;
}

/* ---- info, stats -------------------------------------------------------------------------------- */

static const char *const cache_names[] = {"through", "writeback", "none"};

/* Bits by their names; of those that this program does not know, the value. */
static json_t *json_features(enum od_feature_word word, uint64_t bits)
{
	json_t *list = json_array();

	for (; bits; bits &= bits - 1) {
		const char *name = od_feature_name(word, bits);

		json_array_append_new(list, name ? json_string(name) :
						   json_integer((json_int_t)(bits & -bits)));
	}
	return list;
}

static json_t *json_info(const struct iomapfs_ioc_info *i)
{
	char uuid[37];

	uuid_unparse_lower(i->uuid, uuid);
	return json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:I,s:I,s:I,s:i,s:I,s:I,s:o,s:o,s:o,s:o,s:b,s:b,s:i,"
			 "s:I,s:s,s:b,s:b,s:s,s:i,s:i,s:b,s:i,s:s}",
			 "device", i->device, "label", i->label, "uuid", uuid, "creator", i->creator,
			 "version", (int)i->version, "block_size", (int)i->block_size, "blocks",
			 (json_int_t)i->nr_blocks, "group_blocks", (json_int_t)i->ag_blocks,
			 "journal_blocks", (json_int_t)i->jnl_blocks, "groups", (int)i->nr_ags,
			 "created", (json_int_t)i->ctime_sec, "root_inode", (json_int_t)i->root_ino,
			 "features_compat", json_features(OD_WORD_COMPAT, i->compat),
			 "features_ro_compat", json_features(OD_WORD_RO_COMPAT, i->ro_compat),
			 "features_incompat", json_features(OD_WORD_INCOMPAT, i->incompat),
			 "features_journal", json_features(OD_WORD_JNL_INCOMPAT, i->jnl_incompat),
			 "readonly", i->readonly != 0, "shut_down", i->shut_down != 0, "commit_interval_ms",
			 (int)i->commit_interval_ms, "memory_bytes", (json_int_t)i->memory_bytes,
			 "atime", i->atime ? "noatime" : "relatime", "discard", i->discard != 0,
			 "dax", i->dax != 0,
			 "kernel_cache", cache_names[i->kernel_cache % 3], "logical_block",
			 (int)i->logical_block, "physical_block", (int)i->physical_block, "direct",
			 i->direct != 0, "pid", (int)i->pid, "transport", i->transport ? "uring" : "loop");
}

/* Words behind each other; numbers among them are bits. */
static void print_list(const json_t *list)
{
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, v) {
		if (json_is_string(v))
			printf("%s%s", i ? " " : "", json_string_value(v));
		else
			printf("%s%#" PRIx64, i ? " " : "", (uint64_t)json_integer_value(v));
	}
	puts(i ? "" : "-");
}

/* One line a member, nested objects under their name; histograms are for programs. */
static void print_members(const json_t *root, const char *prefix)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)root, key, v) {
		char name[96], *text;

		snprintf(name, sizeof(name), "%s%s", prefix, key);
		if (json_is_object(v)) {
			char deeper[98];

			snprintf(deeper, sizeof(deeper), "%s.", name);
			print_members(v, deeper);
			continue;
		}
		if (json_is_array(v)) {
			if (!strncmp(key, "features_", strlen("features_"))) {
				printf("%-28s ", name);
				print_list(v);
			}
			continue;
		}
		text = json_is_string(v) ? strdup(json_string_value(v)) :
					   json_dumps(v, JSON_ENCODE_ANY);
		printf("%-28s %s\n", name, text ? text : "");
		free(text);
	}
}

static int show(const struct ctl_opts *o, json_t *root)
{
	if (o->json)
		return ctl_print_json(root);
	print_members(root, "");
	json_decref(root);
	return CTL_OK;
}

int ctl_info(const struct ctl_opts *o, const char *path)
{
	struct iomapfs_ioc_info i = {0};
	struct iomapfs_ioc_atomic l = {0};
	int err = path_ioctl(path, IOMAPFS_IOC_INFO, &i);
	json_t *root;

	if (err)
		return ctl_fail(path, err);
	root = json_info(&i);
	/* A daemon of before untorn writes has no answer. */
	err = path_ioctl(path, IOMAPFS_IOC_ATOMIC, &l);
	if (!err)
		json_object_set_new(root, "untorn_writes",
				    json_pack("{s:I,s:I,s:I}", "unit_min", (json_int_t)l.unit_min,
					      "unit_max", (json_int_t)l.unit_max, "unit_max_opt",
					      (json_int_t)l.unit_max_opt));
	return show(o, root);
}

static const char *const op_names[IOMAPFS_NR_OPS] = {
	[1] = "LOOKUP", [2] = "FORGET", [3] = "GETATTR", [4] = "SETATTR", [5] = "READLINK",
	[6] = "SYMLINK", [8] = "MKNOD", [9] = "MKDIR", [10] = "UNLINK", [11] = "RMDIR",
	[12] = "RENAME", [13] = "LINK", [14] = "OPEN", [15] = "READ", [16] = "WRITE",
	[17] = "STATFS", [18] = "RELEASE", [20] = "FSYNC", [21] = "SETXATTR", [22] = "GETXATTR",
	[23] = "LISTXATTR", [24] = "REMOVEXATTR", [27] = "OPENDIR", [28] = "READDIR",
	[29] = "RELEASEDIR", [30] = "FSYNCDIR", [35] = "CREATE", [37] = "BMAP", [39] = "IOCTL",
	[42] = "BATCH_FORGET", [43] = "FALLOCATE", [44] = "READDIRPLUS", [45] = "RENAME2",
	[46] = "LSEEK", [47] = "COPY_FILE_RANGE", [50] = "SYNCFS", [51] = "TMPFILE", [52] = "STATX",
	[53] = "COPY_FILE_RANGE_64",
};

/* The time in microseconds under which `per_mille` of the requests stayed, from the histogram. */
static uint64_t quantile_us(const struct iomapfs_op_stats *op, unsigned per_mille)
{
	uint64_t seen = 0;

	for (unsigned b = 0; b < IOMAPFS_HIST_BUCKETS; b++) {
		seen += op->hist[b];
		if (seen * 1000 >= op->count * per_mille)
			return 1ull << b;
	}
	return 1ull << (IOMAPFS_HIST_BUCKETS - 1);
}

static json_t *json_ops(const struct iomapfs_ioc_stats *s)
{
	json_t *ops = json_object();

	for (unsigned i = 0; i < IOMAPFS_NR_OPS; i++) {
		const struct iomapfs_op_stats *op = &s->op[i];
		char number[16];
		json_t *hist;

		if (!op->count)
			continue;
		snprintf(number, sizeof(number), "op%u", i);
		hist = json_array();
		for (unsigned b = 0; b < IOMAPFS_HIST_BUCKETS; b++)
			json_array_append_new(hist, json_integer(op->hist[b]));
		json_object_set_new(ops, op_names[i] ? op_names[i] : number,
				    json_pack("{s:I,s:I,s:I,s:I,s:I,s:o}", "count",
					      (json_int_t)op->count, "errors", (json_int_t)op->errors,
					      "mean_ns", (json_int_t)(op->sum_ns / op->count),
					      "p50_us", (json_int_t)quantile_us(op, 500), "p99_us",
					      (json_int_t)quantile_us(op, 990), "histogram_us", hist));
	}
	return ops;
}

int ctl_stats(const struct ctl_opts *o, const char *path)
{
	struct iomapfs_ioc_stats *s = calloc(1, sizeof(*s));
	json_t *root;
	int err;

	if (!s)
		return ctl_fail(path, ENOMEM);
	err = path_ioctl(path, IOMAPFS_IOC_STATS, s);
	if (err) {
		free(s);
		return ctl_fail(path, err);
	}
	root = json_object();
#define PUT(field) json_object_set_new(root, #field, json_integer((json_int_t)s->field))
	PUT(cached_bytes), PUT(dirty_bytes), PUT(writeback_bytes), PUT(limit_bytes);
	PUT(folio_hits), PUT(folio_misses), PUT(folio_reclaimed), PUT(writers_throttled);
	PUT(flushed_bytes);
	PUT(buf_cached), PUT(buf_pinned), PUT(buf_hits), PUT(buf_misses);
	PUT(jnl_commits), PUT(jnl_handles), PUT(jnl_blocks), PUT(jnl_checkpointed);
	PUT(jnl_log_blocks), PUT(jnl_log_free);
	PUT(blocks_total), PUT(blocks_free), PUT(blocks_reserved), PUT(blocks_delalloc);
	PUT(inodes_used), PUT(alloc_calls), PUT(alloc_blocks), PUT(free_calls), PUT(extents_split);
	PUT(icache_inodes), PUT(icache_dirty);
	PUT(device_reads), PUT(device_writes), PUT(device_flushes), PUT(device_read_bytes);
	PUT(device_write_bytes), PUT(device_persists), PUT(device_persist_bytes);
	PUT(nodes_known), PUT(requests_parked);
#undef PUT
	json_object_set_new(root, "requests", json_ops(s));
	free(s);
	return show(o, root);
}

/* ---- Steering -------------------------------------------------------------------------------------- */

int ctl_trim(const struct ctl_opts *o, const char *path)
{
	struct iomapfs_ioc_trim t = {.start = o->offset, .len = o->length, .minlen = o->minimum};
	int err = path_ioctl(path, IOMAPFS_IOC_TRIM, &t);

	if (err)
		return ctl_fail(path, err);
	if (o->json)
		return ctl_print_json(json_pack("{s:I}", "trimmed_bytes", (json_int_t)t.trimmed));
	printf("%" PRIu64 " bytes trimmed\n", t.trimmed);
	return CTL_OK;
}

int ctl_tune(const struct ctl_opts *o, const char *path)
{
	const bool here = o->label || o->uuid || o->mmp;
	struct iomapfs_ioc_tune t = {0};
	int err;

	if (here == o->reflink) {
		fprintf(stderr, here ? "iomapctl: tune: --reflink takes a file system that is not mounted, "
				       "the others one that is: run it twice\n" :
				       "iomapctl: tune: say --label, --uuid, --mmp or --reflink\n");
		return CTL_USAGE;
	}
	if (o->reflink)
		return ctl_add_reflink(o, path);
	if (o->label) {
		if (strlen(o->label) > 64) {
			fprintf(stderr, "iomapctl: a label has at most 64 bytes\n");
			return CTL_USAGE;
		}
		strlcpy(t.label, o->label, sizeof(t.label));
		t.set |= IOMAPFS_TUNE_LABEL;
	}
	if (o->uuid) {
		if (!strcmp(o->uuid, "random")) {
			uuid_generate(t.uuid);
		} else if (uuid_parse(o->uuid, t.uuid) < 0) {
			fprintf(stderr, "iomapctl: '%s' is no uuid\n", o->uuid);
			return CTL_USAGE;
		}
		t.set |= IOMAPFS_TUNE_UUID;
	}
	if (o->mmp) {
		if (o->mmp_interval_s > OD_MMP_INTERVAL_MAX) {
			fprintf(stderr, "iomapctl: --mmp takes 0 (off) to %u seconds\n",
				OD_MMP_INTERVAL_MAX);
			return CTL_USAGE;
		}
		t.mmp_interval_s = (uint32_t)o->mmp_interval_s;
		t.set |= IOMAPFS_TUNE_MMP;
	}
	err = path_ioctl(path, IOMAPFS_IOC_TUNE, &t);
	if (err)
		return ctl_fail(path, err);
	/* What it is now. */
	return o->json ? ctl_info(o, path) : CTL_OK;
}

int ctl_shutdown(const struct ctl_opts *o, const char *path)
{
	struct iomapfs_ioc_shutdown s = {.flags = o->sync ? IOMAPFS_SHUTDOWN_SYNC : 0};
	int err = path_ioctl(path, IOMAPFS_IOC_SHUTDOWN, &s);

	if (err)
		return ctl_fail(path, err);
	if (s.error)
		fprintf(stderr, "iomapctl: %s: is shut down, but not everything could be written back "
				"first: %s\n", path, strerror(-s.error));
	if (o->json)
		ctl_print_json(json_pack("{s:b,s:b}", "shutdown", 1, "synced", o->sync && !s.error));
	return s.error ? CTL_FAIL : CTL_OK;
}

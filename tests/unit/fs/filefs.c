/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "filefs.h"
#include "mk.h"
#include "passthrough.h"

struct bd *filefs_passthrough(struct bd *lower)
{
	struct bd *bd = passthrough_create(lower);

	ck_assert_ptr_nonnull(bd);
	return bd;
}

void filefs_make(struct filefs *f, uint64_t bytes, unsigned shift, int fill)
{
	*f = (struct filefs){ .ctx = { .umask = 022 } };
	ck_assert_int_eq(bd_mem_create(bytes, 512, &f->mem), 0);
	if (fill)
		memset(bd_mem_base(f->mem), fill, bytes);
	ck_assert_int_eq(mk_default(f->mem, shift), 0);
	filefs_mount(f);
}

void filefs_mount(struct filefs *f)
{
	struct fs_error err;
	int rc;

	if (!f->top)
		f->top = filefs_passthrough(f->mem);
	rc = fs_mount(f->top, &f->opts, &f->fs, &err);
	ck_assert_msg(rc == 0, "mount: %d %s", rc, err.text);
	ck_assert_int_eq(fs_iget(f->fs, FS_ROOT_INO, 0, &f->root), 0);
}

void filefs_fsck(struct filefs *f)
{
	char *text = NULL;
	size_t len = 0;
	struct chk_opts o = { .readonly = true, .out = open_memstream(&text, &len) };
	struct chk_result res;
	int err;

	err = chk_run(f->mem, &o, &res);
	fclose(o.out);
	ck_assert_msg(err == 0 && res.found == 0, "fsck: %d, %llu problems: %s", err,
		      (unsigned long long)res.found, text);
	free(text);
}

void filefs_umount(struct filefs *f)
{
	fs_iput(f->root);
	ck_assert_int_eq(fs_unmount(f->fs), 0);
	f->fs = NULL;
	f->top = NULL;
	filefs_fsck(f);
}

void filefs_remount(struct filefs *f)
{
	filefs_umount(f);
	filefs_mount(f);
}

void filefs_end(struct filefs *f)
{
	if (f->fs)
		filefs_umount(f);
	bd_close(f->mem);
}

struct fs_inode *filefs_create(struct filefs *f, const char *name)
{
	struct fs_inode *ip;

	ck_assert_int_eq(fs_mknod(&f->ctx, f->root, name, strlen(name), S_IFREG | 0644, 0, 0, &ip),
			 0);
	return ip;
}

struct fs_inode *filefs_lookup(struct filefs *f, const char *name)
{
	struct fs_inode *ip;
	int err = fs_lookup(&f->ctx, f->root, name, strlen(name), &ip);

	ck_assert_msg(err == 0 || err == -ENOENT, "lookup %s: %d", name, err);
	return err ? NULL : ip;
}

static int64_t rw(struct filefs *f, struct fs_inode *ip, void *buf, size_t len, uint64_t pos,
		  unsigned iocb_flags, bool write)
{
	struct kiocb iocb = { .ki_inode = fs_vfs_inode(ip), .ki_pos = pos,
			      .ki_flags = iocb_flags };
	struct iovec iov = { buf, len };
	struct fs_ctx ctx = f->ctx;
	struct iov_iter it;

	iov_iter_init(&it, &iov, 1, len);
	return write ? fs_write_iter(&ctx, &iocb, &it, false) : fs_read_iter(&ctx, &iocb, &it);
}

int64_t filefs_pwrite(struct filefs *f, struct fs_inode *ip, const void *buf, size_t len,
		      uint64_t pos, unsigned iocb_flags)
{
	return rw(f, ip, (void *)(uintptr_t)buf, len, pos, iocb_flags, true);
}

int64_t filefs_pread(struct filefs *f, struct fs_inode *ip, void *buf, size_t len, uint64_t pos,
		     unsigned iocb_flags)
{
	return rw(f, ip, buf, len, pos, iocb_flags, false);
}

int filefs_truncate(struct filefs *f, struct fs_inode *ip, uint64_t size)
{
	struct fs_attr a = { .size = size };

	return fs_setattr(&f->ctx, ip, FS_SET_SIZE, &a, NULL);
}

uint64_t filefs_size(struct filefs *f, struct fs_inode *ip)
{
	struct fs_attr a;

	ck_assert_int_eq(fs_getattr(&f->ctx, ip, &a), 0);
	return a.size;
}

int filefs_sync_file(struct filefs *f, struct fs_inode *ip, bool datasync)
{
	struct fs_file *file;
	int err;

	ck_assert_int_eq(fs_open(&f->ctx, ip, O_RDONLY, &file), 0);
	err = fs_fsync(&f->ctx, file, datasync);
	fs_release(file);
	return err;
}

void filefs_drop_caches(struct filefs *f)
{
	struct fs_stats st;

	for (int i = 0; i < 10000; i++) {
		fs_drop_caches(f->fs);
		fs_get_stats(f->fs, &st);
		if (st.folio.cached_bytes == 0)
			return;
		usleep(1000);
	}
	ck_abort_msg("%llu bytes stay in the cache", (unsigned long long)st.folio.cached_bytes);
}

unsigned filefs_fiemap(struct filefs *f, struct fs_inode *ip, unsigned flags,
		       struct fiemap_extent *out, unsigned max)
{
	struct fiemap_extent_info fi = { .fi_flags = flags, .fi_extents_max = max,
					 .fi_extents_start = out };

	ck_assert_int_eq(fs_fiemap(&f->ctx, ip, &fi, 0, UINT64_MAX), 0);
	return fi.fi_extents_mapped;
}

uint64_t filefs_free_blocks(struct filefs *f)
{
	struct statvfs st;

	ck_assert_int_eq(fs_quiesce(f->fs), 0);
	ck_assert_int_eq(fs_statfs(f->fs, &st), 0);
	return st.f_bfree;
}

void filefs_survivor(struct filefs *f, struct filefs *out)
{
	*out = (struct filefs){ .ctx = f->ctx };
	ck_assert_int_eq(bd_mem_create(f->mem->info.size, 512, &out->mem), 0);
	memcpy(bd_mem_base(out->mem), bd_mem_base(f->mem), f->mem->info.size);
	filefs_mount(out);
}

void filefs_fill(uint8_t *buf, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

void filefs_expect(struct filefs *f, struct fs_inode *ip, uint64_t pos, const uint8_t *want,
		   size_t len, unsigned flags)
{
	uint8_t *buf = aligned_alloc(4096, ROUND_UP(len, 4096));

	ck_assert_int_eq(filefs_pread(f, ip, buf, len, pos, flags), (int64_t)len);
	for (size_t i = 0; i < len; i++)
		if (buf[i] != want[i])
			ck_abort_msg("byte %llu: %02x instead of %02x",
				     (unsigned long long)(pos + i), buf[i], want[i]);
	free(buf);
}

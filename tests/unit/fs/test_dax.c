/* SPDX-License-Identifier: MIT */
/* A mount with -o dax: what is refused, what never happens there, and what windows see. Power cuts: tests/crash. */
#include <stdlib.h>
#include <string.h>

#include "dax_window.h"
#include "filefs.h"
#include "mk.h"
#include "passthrough.h"

#define PAGE ((size_t)FOLIO_PAGE_SIZE)

static struct filefs f;
static struct dax_window w;
static uint8_t *buf, *old;

static void mount_dax(void)
{
	filefs_umount(&f);
	f.opts.dax = true;
	filefs_mount(&f);
}

static void setup(void)
{
	buf = aligned_alloc(4096, 64 * PAGE);
	old = aligned_alloc(4096, 64 * PAGE);
	filefs_make(&f, 64u << 20, 12, 0xa5);
	mount_dax();
}

static void teardown(void)
{
	struct fs_stats st;

	/* The one thing that all of these tests have in common. */
	fs_get_stats(f.fs, &st);
	if (f.opts.dax)
		ck_assert_uint_eq(st.folio.cached_bytes + st.folio.hits + st.folio.misses, 0);
	filefs_end(&f);
	free(buf);
	free(old);
}

static unsigned fault(void *arg, struct vm_fault *vmf, unsigned order)
{
	return fs_dax_fault(&f.ctx, arg, vmf, order);
}

static void open_window(struct fs_inode *ip, unsigned pgoff, unsigned nr, unsigned flags)
{
	struct bd_dax mem;

	ck_assert_int_eq(bd_dax_map(f.top, &mem), 0);
	dax_window_init(&w, fs_vfs_inode(ip), pgoff, nr, flags, mem.fd);
	w.fault = fault;
	w.arg = ip;
	ck_assert_int_eq(fs_dax_mmap(&f.ctx, ip, &w.vma), 0);
}

static void close_window(void)
{
	dax_vma_close(&w.vma);
	dax_window_destroy(&w);
}

static int load(uint64_t at)
{
	uint8_t b;

	return dax_window_load(&w, at, &b) ? b : -1;
}

static bool store(uint64_t at, uint8_t b)
{
	return dax_window_store(&w, at, b);
}

static void write_all(struct fs_inode *ip, uint64_t pos, size_t len, uint8_t seed)
{
	filefs_fill(buf, len, seed);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, len, pos, 0), (int64_t)len);
}

/* ---- Mount ---------------------------------------------------------------------------------- */

static const char *refusal(struct bd *bd, int want)
{
	static struct fs_error err;
	struct fs *fs;

	ck_assert_int_eq(fs_mount(bd, &f.opts, &fs, &err), want);
	return err.text;
}

START_TEST(refused_mounts)
{
	static const unsigned shifts[] = { 10, 14, 16 };
	struct passthrough *p;
	struct bd_ops no_memory = passthrough_ops;
	struct bd *bd;

	filefs_umount(&f);
	no_memory.dax_map = NULL;
	bd = filefs_passthrough(f.mem);
	p = container_of(bd, struct passthrough, bd);
	p->bd.ops = &no_memory;
	ck_assert_ptr_nonnull(strstr(refusal(bd, -EOPNOTSUPP), "is not memory: -o dax needs an image on tmpfs"));
	bd_close(bd);
	for (unsigned i = 0; i < ARRAY_SIZE(shifts); i++) {
		struct bd *mem;

		ck_assert_int_eq(bd_mem_create(64u << 20, 512, &mem), 0);
		ck_assert_int_eq(mk_default(mem, shifts[i]), 0);
		ck_assert_ptr_nonnull(strstr(refusal(mem, -EINVAL), "mkfs.iomapfs -b 4096"));
		bd_close(mem);
	}
	filefs_mount(&f);
}
END_TEST

START_TEST(read_only)
{
	struct fs_inode *ip = filefs_create(&f, "a");

	write_all(ip, 0, 3 * PAGE, 1);
	fs_iput(ip);
	f.opts.readonly = true;
	filefs_remount(&f);
	ip = filefs_lookup(&f, "a");
	filefs_expect(&f, ip, 0, buf, 3 * PAGE, 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, 1, 0, 0), -EROFS);
	open_window(ip, 0, 3, DAX_VM_SHARED);
	ck_assert_int_eq(load(10), buf[10]);
	ck_assert(!store(10, 1));
	close_window();
	fs_iput(ip);
}
END_TEST

/* ---- Files that a mount without dax left ------------------------------------------------------ */

/* Contents inside the inode are read from there, and leave it when they are written or mapped. */
START_TEST(small_files)
{
	static const char text[] = "nine bytes";
	struct fs_inode *ip;
	struct fiemap_extent e;

	f.opts.dax = false;
	filefs_remount(&f);
	for (int i = 0; i < 4; i++) {
		const char name[2] = { (char)('a' + i) };

		ip = filefs_create(&f, name);
		ck_assert_int_eq(filefs_pwrite(&f, ip, text, sizeof(text), 0, 0), (int64_t)sizeof(text));
		fs_iput(ip);
	}
	mount_dax();
	ip = filefs_lookup(&f, "a");
	filefs_expect(&f, ip, 0, (const uint8_t *)text, sizeof(text), 0);
	ck_assert_int_eq(filefs_pread(&f, ip, buf, 100, 5, 0), (int64_t)sizeof(text) - 5);
	ck_assert_int_eq(filefs_pread(&f, ip, buf, 100, 50, 0), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, "NINE", 4, 0, 0), 4);
	filefs_expect(&f, ip, 0, (const uint8_t *)"NINE bytes", sizeof(text), 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, &e, 1), 1);
	ck_assert(!(e.fe_flags & FIEMAP_EXTENT_DATA_INLINE));
	fs_iput(ip);
	ip = filefs_lookup(&f, "b");
	ck_assert_int_eq(filefs_truncate(&f, ip, 3 * PAGE), 0);
	filefs_expect(&f, ip, 0, (const uint8_t *)text, sizeof(text), 0);
	ck_assert_int_eq(filefs_pread(&f, ip, buf, 3 * PAGE, 0, 0), (int64_t)(3 * PAGE));
	ck_assert_int_eq(buf[sizeof(text)], 0);
	fs_iput(ip);
	ip = filefs_lookup(&f, "c");
	open_window(ip, 0, 2, DAX_VM_SHARED);
	ck_assert_int_eq(load(1), 'i');
	ck_assert_int_eq(load(sizeof(text)), 0);
	ck_assert(store(0, 'N'));
	filefs_expect(&f, ip, 0, (const uint8_t *)"Nine bytes", sizeof(text), 0);
	close_window();
	fs_iput(ip);
	/* New ones never go there. */
	ip = filefs_create(&f, "e");
	ck_assert_int_eq(filefs_pwrite(&f, ip, text, 1, 0, 0), 1);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, &e, 1), 1);
	ck_assert(!(e.fe_flags & FIEMAP_EXTENT_DATA_INLINE));
	fs_iput(ip);
}
END_TEST

START_TEST(unwritten_blocks)
{
	struct fs_inode *ip;
	struct fiemap_extent e[4];

	f.opts.dax = false;
	filefs_remount(&f);
	ip = filefs_create(&f, "a");
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, 0, 0, 8 * PAGE), 0);
	fs_iput(ip);
	mount_dax();
	ip = filefs_lookup(&f, "a");
	memset(old, 0, 8 * PAGE);
	filefs_expect(&f, ip, 0, old, 8 * PAGE, 0);
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, 0, SEEK_DATA), -ENXIO);
	ck_assert_int_eq(filefs_pwrite(&f, ip, "x", 1, 3 * PAGE + 7, 0), 1);
	old[3 * PAGE + 7] = 'x';
	filefs_expect(&f, ip, 0, old, 8 * PAGE, 0);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, e, 4), 3);
	ck_assert(!(e[1].fe_flags & FIEMAP_EXTENT_UNWRITTEN) && (e[2].fe_flags & FIEMAP_EXTENT_UNWRITTEN));
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, 0, SEEK_DATA), (int64_t)(3 * PAGE));
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, 3 * PAGE, SEEK_HOLE), (int64_t)(4 * PAGE));
	fs_iput(ip);
}
END_TEST

/* ---- Reads and writes --------------------------------------------------------------------------- */

/* O_DIRECT or not, aligned or not; the device's memory is the file. */
START_TEST(no_cache_between)
{
	struct fs_inode *ip = filefs_create(&f, "a");
	struct fiemap_extent e;
	struct fs_stats st;

	filefs_fill(old, 5 * PAGE, 3);
	ck_assert_int_eq(filefs_pwrite(&f, ip, old, 5 * PAGE, 0, IOCB_DIRECT), (int64_t)(5 * PAGE));
	filefs_fill(old + 77, 999, 50);
	ck_assert_int_eq(filefs_pwrite(&f, ip, old + 77, 999, 77, IOCB_DIRECT), 999);
	filefs_expect(&f, ip, 0, old, 5 * PAGE, 0);
	filefs_expect(&f, ip, 3, old + 3, 2 * PAGE, IOCB_DIRECT);
	ck_assert_uint_eq(filefs_fiemap(&f, ip, 0, &e, 1), 1);
	ck_assert_mem_eq((uint8_t *)bd_mem_base(f.mem) + e.fe_physical, old, 5 * PAGE);
	((uint8_t *)bd_mem_base(f.mem))[e.fe_physical + 9] ^= 0xff;
	old[9] ^= 0xff;
	filefs_expect(&f, ip, 0, old, 5 * PAGE, 0);
	fs_get_stats(f.fs, &st);
	ck_assert(st.device_persists >= 2 && st.device_persist_bytes >= 5 * PAGE + 999);
	fs_iput(ip);
}
END_TEST

START_TEST(untorn_is_refused)
{
	struct fs_inode *ip = filefs_create(&f, "a");
	uint32_t min, max, opt;

	fs_atomic_limits(f.fs, &min, &max, &opt);
	ck_assert_uint_eq(min | max | opt, 0);
	write_all(ip, 0, 4 * PAGE, 1);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, PAGE, 0, IOCB_ATOMIC | IOCB_DIRECT), -EOPNOTSUPP);
	fs_iput(ip);
}
END_TEST

START_TEST(never_sleeping)
{
	struct fs_inode *ip = filefs_create(&f, "a");
	struct fs_ctx ctx = f.ctx;

	ck_assert_int_eq(filefs_pwrite(&f, ip, "x", 1, 0, IOCB_NOWAIT), -EAGAIN);
	ck_assert_uint_eq(filefs_size(&f, ip), 0);
	write_all(ip, 0, 4 * PAGE, 1);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, PAGE, PAGE, IOCB_NOWAIT), (int64_t)PAGE);
	ck_assert_int_eq(filefs_pread(&f, ip, old, 8 * PAGE, PAGE, IOCB_NOWAIT), (int64_t)(3 * PAGE));
	ck_assert_int_eq(fs_fallocate(&ctx, ip, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE), 0);
	ck_assert_int_eq(filefs_pwrite(&f, ip, buf, PAGE, PAGE, IOCB_NOWAIT), -EAGAIN);
	fs_iput(ip);
}
END_TEST

/* A full device: what fits is written, and the file holds nothing else. */
START_TEST(full_device)
{
	struct fs_inode *ip = filefs_create(&f, "a");
	const size_t piece = 60 * PAGE;
	uint64_t size = 0;
	int64_t n;

	memset(buf, 0x42, piece);
	while ((n = filefs_pwrite(&f, ip, buf, piece, size, 0)) > 0) {
		size += (uint64_t)n;
		ck_assert_uint_lt(size, 64u << 20);
	}
	ck_assert_int_eq(n, -ENOSPC);
	ck_assert_uint_gt(size, 40u << 20);
	ck_assert_uint_eq(filefs_size(&f, ip), size);
	for (uint64_t at = 0; at < size; at += (uint64_t)n) {
		n = filefs_pread(&f, ip, old, piece, at, 0);
		ck_assert_int_gt(n, 0);
		for (int64_t i = 0; i < n; i++)
			if (old[i] != 0x42)
				ck_abort_msg("byte %llu: %02x", (unsigned long long)at + (unsigned)i, old[i]);
	}
	/* The window of a full file system says so as a store must. */
	ck_assert_int_eq(filefs_truncate(&f, ip, size + 8 * PAGE), 0);
	open_window(ip, (unsigned)(size / PAGE) + 1, 4, DAX_VM_SHARED);
	ck_assert_int_eq(load(0), 0);
	ck_assert(!store(0, 1));
	close_window();
	fs_iput(ip);
}
END_TEST

/* ---- Shared blocks ----------------------------------------------------------------------------------- */

static struct fs_inode *clone_of(struct fs_inode *ip, const char *name)
{
	struct fs_inode *copy = filefs_create(&f, name);

	ck_assert_int_eq(fs_clone_range(&f.ctx, ip, 0, copy, 0, 0), 0);
	return copy;
}

START_TEST(copy_on_write)
{
	struct fs_inode *a = filefs_create(&f, "a"), *b;
	struct fiemap_extent e[8];

	write_all(a, 0, 8 * PAGE, 1);
	memcpy(old, buf, 8 * PAGE);
	b = clone_of(a, "b");
	open_window(a, 0, 8, DAX_VM_SHARED);
	ck_assert_int_eq(load(5 * PAGE), old[5 * PAGE]);
	/* By write, across blocks and inside one; by a store; zeros; all leave the other file alone. */
	write_all(a, PAGE + 100, PAGE, 40);
	ck_assert_int_eq(load(PAGE + 100), buf[0]);
	ck_assert_int_eq(load(PAGE + 99), old[PAGE + 99]);
	ck_assert(store(5 * PAGE + 1, 0x77));
	ck_assert_int_eq(load(5 * PAGE), old[5 * PAGE]);
	ck_assert_int_eq(fs_fallocate(&f.ctx, a, FALLOC_FL_ZERO_RANGE, 6 * PAGE + 10, 20), 0);
	ck_assert_int_eq(load(6 * PAGE + 10), 0);
	ck_assert_int_eq(load(6 * PAGE + 9), old[6 * PAGE + 9]);
	ck_assert_int_eq(filefs_truncate(&f, a, 7 * PAGE + 5), 0);
	filefs_expect(&f, b, 0, old, 8 * PAGE, 0);
	memcpy(old + PAGE + 100, buf, PAGE);
	old[5 * PAGE + 1] = 0x77;
	memset(old + 6 * PAGE + 10, 0, 20);
	filefs_expect(&f, a, 0, old, 7 * PAGE + 5, 0);
	close_window();
	/* Blocks 0, 3 and 4 are what the two still have in common. */
	for (unsigned i = filefs_fiemap(&f, a, 0, e, 8); i-- > 0;)
		for (uint64_t blk = e[i].fe_logical / PAGE; blk < (e[i].fe_logical + e[i].fe_length) / PAGE; blk++)
			ck_assert_uint_eq(!!(e[i].fe_flags & FIEMAP_EXTENT_SHARED),
					  blk == 0 || blk == 3 || blk == 4);
	/* Its own again, with the same bytes. */
	ck_assert_int_eq(fs_fallocate(&f.ctx, a, FALLOC_FL_UNSHARE_RANGE, 0, 7 * PAGE + 5), 0);
	for (unsigned i = filefs_fiemap(&f, a, 0, e, 8); i-- > 0;)
		ck_assert(!(e[i].fe_flags & FIEMAP_EXTENT_SHARED));
	filefs_expect(&f, a, 0, old, 7 * PAGE + 5, 0);
	fs_iput(a);
	fs_iput(b);
}
END_TEST

/* A page that may be stored to is not shared behind the back of whoever stores. */
START_TEST(clone_under_a_window)
{
	struct fs_inode *a = filefs_create(&f, "a"), *b;

	write_all(a, 0, 4 * PAGE, 1);
	memcpy(old, buf, 4 * PAGE);
	open_window(a, 0, 4, DAX_VM_SHARED);
	ck_assert(store(PAGE, 0x31));
	old[PAGE] = 0x31;
	b = clone_of(a, "b");
	ck_assert(store(PAGE, 0x32));
	ck_assert_int_eq(load(PAGE), 0x32);
	filefs_expect(&f, b, 0, old, 4 * PAGE, 0);
	close_window();
	/* And the target's window follows. */
	open_window(b, 0, 4, DAX_VM_SHARED);
	ck_assert(store(2 * PAGE, 0x41));
	ck_assert_int_eq(fs_clone_range(&f.ctx, a, 0, b, 0, 0), 0);
	ck_assert_int_eq(load(2 * PAGE), old[2 * PAGE]);
	ck_assert_int_eq(load(PAGE), 0x32);
	close_window();
	fs_iput(a);
	fs_iput(b);
}
END_TEST

START_TEST(dedupe)
{
	struct fs_inode *a = filefs_create(&f, "a"), *b = filefs_create(&f, "b");
	uint64_t done;

	write_all(a, 0, 4 * PAGE, 1);
	write_all(b, 0, 4 * PAGE, 1);
	ck_assert_int_eq(filefs_pwrite(&f, b, "x", 1, 3 * PAGE, 0), 1);
	ck_assert_int_eq(fs_dedupe_range(&f.ctx, a, 0, b, 0, 4 * PAGE, &done), -EBADE);
	ck_assert_int_eq(fs_dedupe_range(&f.ctx, a, 0, b, 0, 3 * PAGE, &done), 0);
	ck_assert_uint_eq(done, 3 * PAGE);
	filefs_expect(&f, b, 0, buf, 3 * PAGE, 0);
	fs_iput(a);
	fs_iput(b);
}
END_TEST

/* Asks for each block while another file might have it, and no longer. */
START_TEST(unshared_for_good)
{
	struct fs_inode *a = filefs_create(&f, "a"), *b;

	write_all(a, 0, 4 * PAGE, 1);
	b = clone_of(a, "b");
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, PAGE, 0, IOCB_NOWAIT), -EAGAIN);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(fs_fallocate(&f.ctx, a, FALLOC_FL_UNSHARE_RANGE, 0, 4 * PAGE), 0);
		ck_assert_int_eq(fs_sync(f.fs), 0);
	}
	ck_assert_int_eq(filefs_pwrite(&f, a, buf, PAGE, 0, IOCB_NOWAIT), (int64_t)PAGE);
	filefs_expect(&f, b, 0, buf, 4 * PAGE, 0);
	fs_iput(a);
	fs_iput(b);
}
END_TEST

#ifdef IOMAPFS_DEBUG

static pthread_t storer;
static _Atomic bool store_begun, stored;

static void *store_main(void *arg)
{
	if (!store(2 * PAGE, 0x99))
		return &storer;
	atomic_store(&stored, true);
	return NULL;
}

/* All of it was compared but the last page; a store to what was goes on, or waits. */
static void on_compare(const char *name, void *site_arg, void *arg)
{
	const struct iomap_iter *iter = site_arg;

	if (iter->inode != arg || iter->pos != 3 * PAGE || atomic_exchange(&store_begun, true))
		return;
	ck_assert_int_eq(pthread_create(&storer, NULL, store_main, NULL), 0);
	for (int i = 0; i < 100 && !atomic_load(&stored); i++)
		usleep(1000);
}

/* Not a byte is lost that was stored to the target. */
START_TEST(store_during_dedupe)
{
	struct fs_inode *a = filefs_create(&f, "a"), *b = filefs_create(&f, "b");
	uint64_t done;
	void *failed;
	int err;

	for (unsigned i = 0; i < 4; i++) {
		write_all(a, i * PAGE, PAGE, 1);
		write_all(b, i * PAGE, PAGE, 1);
	}
	/* The source's last page is an extent of its own: asked for when the others are compared. */
	ck_assert_int_eq(fs_fallocate(&f.ctx, a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, PAGE), 0);
	write_all(b, 8 * PAGE, PAGE, 1);
	write_all(a, 3 * PAGE, PAGE, 1);
	open_window(b, 0, 4, DAX_VM_SHARED);
	ck_assert(store(2 * PAGE, buf[0]));
	ck_assert_int_eq(hook_install("iomap:mapped", on_compare, fs_vfs_inode(b)), 0);
	err = fs_dedupe_range(&f.ctx, a, 0, b, 0, 4 * PAGE, &done);
	hook_remove("iomap:mapped");
	ck_assert(atomic_load(&store_begun));
	ck_assert_int_eq(err, 0);
	ck_assert_int_eq(pthread_join(storer, &failed), 0);
	ck_assert_ptr_null(failed);
	ck_assert_int_eq(load(2 * PAGE), 0x99);
	filefs_expect(&f, a, 2 * PAGE, buf, PAGE, 0);
	close_window();
	fs_iput(a);
	fs_iput(b);
}
END_TEST

#endif

/* ---- Windows --------------------------------------------------------------------------------------------- */

START_TEST(window_and_file_are_one)
{
	struct fs_inode *ip = filefs_create(&f, "a");
	const uint64_t free_before = filefs_free_blocks(&f);

	ck_assert_int_eq(filefs_truncate(&f, ip, 16 * PAGE), 0);
	open_window(ip, 0, 16, DAX_VM_SHARED);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_int_eq(load(i * PAGE + i), 0);
	ck_assert_uint_eq(filefs_free_blocks(&f), free_before);
	ck_assert_int_eq(fs_lseek(&f.ctx, ip, 0, SEEK_DATA), -ENXIO);
	ck_assert(store(3 * PAGE + 1, 0x99));
	memset(old, 0, 16 * PAGE);
	old[3 * PAGE + 1] = 0x99;
	filefs_expect(&f, ip, 0, old, 16 * PAGE, 0);
	write_all(ip, 8 * PAGE, 2 * PAGE, 5);
	ck_assert_int_eq(load(9 * PAGE), buf[PAGE]);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_COLLAPSE_RANGE, 0, 3 * PAGE), 0);
	ck_assert_int_eq(load(1), 0x99);
	ck_assert_int_eq(load(6 * PAGE), buf[PAGE]);
	ck_assert_int_eq(load(13 * PAGE), -1);
	ck_assert_int_eq(fs_fallocate(&f.ctx, ip, FALLOC_FL_INSERT_RANGE, 0, 3 * PAGE), 0);
	ck_assert_int_eq(load(1), 0);
	ck_assert_int_eq(load(3 * PAGE + 1), 0x99);
	ck_assert_int_eq(filefs_truncate(&f, ip, 3 * PAGE), 0);
	ck_assert_int_eq(load(3 * PAGE + 1), -1);
	ck_assert_int_eq(filefs_truncate(&f, ip, 4 * PAGE), 0);
	ck_assert_int_eq(load(3 * PAGE + 1), 0);
	close_window();
	fs_iput(ip);
}
END_TEST

/* New blocks in several places: no zero page stays in a window, whichever extent it is in. */
START_TEST(write_over_several_extents)
{
	struct fs_inode *ip = filefs_create(&f, "a"), *other = filefs_create(&f, "b");
	const size_t piece = 12 * PAGE;
	struct fiemap_extent e[16];
	uint64_t size = 48u << 20, pos;

	ck_assert_int_eq(filefs_truncate(&f, ip, 400 * piece), 0);
	/* A full device, and then single blocks that are free; what is kept back goes first. */
	ck_assert_int_eq(fs_fallocate(&f.ctx, other, 0, 0, size), 0);
	while (fs_fallocate(&f.ctx, other, 0, size, PAGE) == 0)
		size += PAGE;
	for (unsigned i = 0; i < 800; i += 2)
		ck_assert_int_eq(fs_fallocate(&f.ctx, other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					      i * PAGE, PAGE), 0);
	ck_assert_int_eq(fs_quiesce(f.fs), 0);
	open_window(ip, 0, 400 * 12, DAX_VM_SHARED);
	memset(buf, 0x42, piece);
	for (pos = 0; pos < 400 * piece; pos += piece) {
		for (unsigned i = 0; i < 12; i++)
			ck_assert_int_eq(load(pos + i * PAGE), 0);
		if (filefs_pwrite(&f, ip, buf, piece, pos, 0) != (int64_t)piece)
			break;
		for (unsigned i = 0; i < 12; i++)
			ck_assert_int_eq(load(pos + i * PAGE), 0x42);
	}
	close_window();
	ck_assert_uint_ge(filefs_fiemap(&f, ip, 0, e, 16), 2);
	fs_iput(other);
	fs_iput(ip);
}
END_TEST

/* What a store with MAP_SYNC needs is on the device before the store, also where the block is a new copy. */
START_TEST(map_sync)
{
	struct fs_inode *ip = filefs_create(&f, "a"), *copy;
	struct filefs after;

	write_all(ip, 0, 4 * PAGE, 1);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	copy = clone_of(ip, "b");
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_int_eq(filefs_sync_file(&f, copy, false), 0);
	open_window(ip, 0, 4, DAX_VM_SHARED | DAX_VM_SYNC);
	ck_assert(store(PAGE + 5, 0x99));
	/* A power cut now; the memory keeps all it has. */
	filefs_survivor(&f, &after);
	fs_iput(copy);
	copy = filefs_lookup(&after, "a");
	buf[PAGE + 5] = 0x99;
	filefs_expect(&after, copy, 0, buf, 4 * PAGE, 0);
	fs_iput(copy);
	filefs_end(&after);
	close_window();
	fs_iput(ip);
}
END_TEST

START_TEST(only_files_of_such_a_mount)
{
	struct fs_inode *ip = filefs_create(&f, "a");
	struct dax_vma vma = { .inode = fs_vfs_inode(f.root) };

	ck_assert_int_eq(fs_dax_mmap(&f.ctx, f.root, &vma), -EOPNOTSUPP);
	vma.inode = fs_vfs_inode(ip);
	ck_assert_int_eq(fs_dax_mmap(&f.ctx, f.root, &vma), -EOPNOTSUPP);
	fs_iput(ip);
	f.opts.dax = false;
	filefs_remount(&f);
	ip = filefs_lookup(&f, "a");
	vma.inode = fs_vfs_inode(ip);
	ck_assert_int_eq(fs_dax_mmap(&f.ctx, ip, &vma), -EOPNOTSUPP);
	fs_iput(ip);
}
END_TEST

/* ---- What a power cut leaves ------------------------------------------------------------------------ */

#ifdef IOMAPFS_DEBUG

static void *sync_main(void *arg)
{
	return fs_sync(f.fs) ? arg : NULL;
}

/* The map that a write got is committed before anything is stored there. */
static void commit_map(const char *name, void *site_arg, void *arg)
{
	const struct iomap_iter *iter = site_arg;
	pthread_t thread;
	void *failed;

	if (!(iter->flags & IOMAP_WRITE))
		return;
	ck_assert_int_eq(pthread_create(&thread, NULL, sync_main, arg), 0);
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	++*(unsigned *)arg;
}

/* Data behind the end of file is not in the map: nothing would zero it when the file grows over it. */
START_TEST(nothing_behind_the_end)
{
	struct fs_inode *ip = filefs_create(&f, "a"), *found;
	const uint64_t len = 3 * PAGE + 100, end = 5 * PAGE + 10 + len;
	struct filefs after;
	unsigned called = 0;
	uint64_t size;

	write_all(ip, 0, PAGE + 10, 9);
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	ck_assert_int_eq(hook_install("iomap:mapped", commit_map, &called), 0);
	write_all(ip, 5 * PAGE + 10, len, 1);
	hook_remove("iomap:mapped");
	ck_assert_uint_ge(called, 1);
	filefs_survivor(&f, &after);
	found = filefs_lookup(&after, "a");
	size = filefs_size(&after, found);
	ck_assert(size == PAGE + 10 || size == end);
	ck_assert_int_eq(filefs_truncate(&after, found, end), 0);
	memset(old, 0, end);
	ck_assert_int_eq(filefs_pread(&after, found, old, end, 0, 0), (int64_t)end);
	for (uint64_t i = size; i < end; i++)
		ck_assert_msg(old[i] == 0, "byte %llu", (unsigned long long)i);
	fs_iput(found);
	filefs_end(&after);
	filefs_expect(&f, ip, 5 * PAGE + 10, buf, len, 0);
	fs_iput(ip);
}
END_TEST

#endif

/* Stores that collapse and insert move are made durable, before or after. */
START_TEST(moved_stores_are_durable)
{
	static const int modes[] = { FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE };
	struct fs_inode *ip = filefs_create(&f, "a");
	struct fs_stats before, after;

	write_all(ip, 0, 8 * PAGE, 1);
	open_window(ip, 0, 8, DAX_VM_SHARED);
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		ck_assert(store(5 * PAGE, 0x99));
		fs_get_stats(f.fs, &before);
		ck_assert_int_eq(fs_fallocate(&f.ctx, ip, modes[i], PAGE, PAGE), 0);
		ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
		fs_get_stats(f.fs, &after);
		ck_assert_uint_ge(after.device_persist_bytes - before.device_persist_bytes, PAGE);
	}
	close_window();
	fs_iput(ip);
}
END_TEST

#ifdef IOMAPFS_DEBUG

static _Atomic bool started, synced;
static struct filefs cut;
static pthread_t syncer;

static void *store_and_sync(void *arg)
{
	((volatile char *)w.mem)[PAGE + 1] = 0x77;
	if (filefs_sync_file(&f, arg, false))
		return arg;
	filefs_survivor(&f, &cut);
	atomic_store(&synced, true);
	return NULL;
}

/* The page is shown, and its block not yet the file's. Somebody else stores, and has it made durable. */
static void on_complete(const char *name, void *site_arg, void *arg)
{
	if (atomic_exchange(&started, true))
		return;
	ck_assert_int_eq(pthread_create(&syncer, NULL, store_and_sync, arg), 0);
	for (int i = 0; i < 500 && !atomic_load(&synced); i++)
		usleep(1000);
}

START_TEST(sync_during_copy_on_write)
{
	struct fs_inode *ip = filefs_create(&f, "a"), *copy;
	void *failed;

	write_all(ip, 0, 4 * PAGE, 1);
	copy = clone_of(ip, "b");
	ck_assert_int_eq(filefs_sync_file(&f, ip, false), 0);
	open_window(ip, 0, 4, DAX_VM_SHARED);
	ck_assert_int_eq(hook_install("fs:dax_complete", on_complete, ip), 0);
	ck_assert(store(PAGE, 0x78));
	hook_remove("fs:dax_complete");
	ck_assert(started);
	ck_assert_int_eq(pthread_join(syncer, &failed), 0);
	ck_assert_ptr_null(failed);
	fs_iput(copy);
	copy = filefs_lookup(&cut, "a");
	buf[PAGE + 1] = 0x77;
	filefs_expect(&cut, copy, PAGE + 1, buf + PAGE + 1, 3 * PAGE - 1, 0);
	fs_iput(copy);
	filefs_end(&cut);
	close_window();
	fs_iput(ip);
}
END_TEST

#endif

/* ---- A store fault against a write, on blocks that are shared ------------------------------------------ */

struct racer {
	struct fs_inode *ip;
	unsigned rounds;
};

static void *write_odd(void *arg)
{
	struct racer *r = arg;
	uint8_t v;

	for (unsigned i = 0; i < r->rounds; i++) {
		v = (uint8_t)i;
		for (unsigned page = 0; page < 16; page++)
			if (filefs_pwrite(&f, r->ip, &v, 1, page * PAGE + 1, 0) != 1)
				return arg;
		if (i % 4 == 0)
			clone_of(r->ip, (char[]){ (char)('c' + i / 4 % 20), (char)('a' + i / 80), 0 });
	}
	return NULL;
}

/* Each owns one byte of every page; copies on write by either must not lose the other's. */
START_TEST(stores_and_writes)
{
	struct racer r = { filefs_create(&f, "a"), 60 };
	pthread_t thread;
	void *failed;
	uint8_t v = 0;

	write_all(r.ip, 0, 16 * PAGE, 1);
	open_window(r.ip, 0, 16, DAX_VM_SHARED);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_odd, &r), 0);
	for (unsigned i = 0; i < 400; i++) {
		v = (uint8_t)i;
		for (unsigned page = 0; page < 16; page++)
			ck_assert(store(page * PAGE, v));
		for (unsigned page = 0; page < 16; page++)
			ck_assert_int_eq(load(page * PAGE), v);
	}
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	for (unsigned page = 0; page < 16; page++) {
		ck_assert_int_eq(load(page * PAGE), v);
		ck_assert_int_eq(load(page * PAGE + 1), 59);
		ck_assert_int_eq(load(page * PAGE + 2), buf[page * PAGE + 2]);
	}
	close_window();
	fs_iput(r.ip);
	for (unsigned i = 0; i < 60; i += 4) {
		struct fs_inode *c = filefs_lookup(&f, (char[]){ (char)('c' + i / 4 % 20), (char)('a' + i / 80), 0 });

		fs_iput(c); /* clone_of's */
		fs_iput(c);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs-dax");
	TCase *c = tcase_create("dax");

	log_set_level((enum log_level)-1);
	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, refused_mounts);
	tcase_add_test(c, read_only);
	tcase_add_test(c, small_files);
	tcase_add_test(c, unwritten_blocks);
	tcase_add_test(c, no_cache_between);
	tcase_add_test(c, untorn_is_refused);
	tcase_add_test(c, never_sleeping);
	tcase_add_test(c, full_device);
	tcase_add_test(c, copy_on_write);
	tcase_add_test(c, clone_under_a_window);
	tcase_add_test(c, dedupe);
	tcase_add_test(c, unshared_for_good);
#ifdef IOMAPFS_DEBUG
	tcase_add_test(c, store_during_dedupe);
#endif
	tcase_add_test(c, window_and_file_are_one);
	tcase_add_test(c, write_over_several_extents);
	tcase_add_test(c, map_sync);
	tcase_add_test(c, only_files_of_such_a_mount);
#ifdef IOMAPFS_DEBUG
	tcase_add_test(c, nothing_behind_the_end);
	tcase_add_test(c, sync_during_copy_on_write);
#endif
	tcase_add_test(c, moved_stores_are_durable);
	tcase_add_test(c, stores_and_writes);
	suite_add_tcase(s, c);
	return unit_run(s);
}

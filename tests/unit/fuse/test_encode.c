// SPDX-License-Identifier: MIT
/* The wire: what leaves for the kernel and what is read from it, against <linux/fuse.h> and ours. */
#include <dirent.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fuse_private.h"
#include "unit.h"

static struct fs_attr sample(void)
{
	return (struct fs_attr){
		.ino = 0x1122334455667788, .size = 1ull << 40, .blocks = 24, .mode = S_IFREG | 04755,
		.nlink = 3, .uid = 1000, .gid = 100, .rdev_major = 4095, .rdev_minor = 0xfffff,
		.blksize = 4096, .flags = OD_FL_IMMUTABLE | OD_FL_NODUMP, .gen = 77,
		.atime = {-5, 999999999}, .mtime = {1, 2}, .ctime = {3, 4}, .btime = {1ll << 33, 6},
	};
}

START_TEST(test_attr)
{
	struct fs_attr a = sample();
	struct fuse_attr w;

	fz_encode_attr(&a, &w);
	ck_assert_uint_eq(w.ino, a.ino);
	ck_assert_uint_eq(w.size, a.size);
	ck_assert_uint_eq(w.blocks, 24);
	ck_assert_uint_eq(w.mode, a.mode);
	ck_assert_uint_eq(w.nlink, 3);
	ck_assert_int_eq((int64_t)w.atime, -5);
	ck_assert_uint_eq(w.atimensec, 999999999);
	ck_assert_uint_eq(w.ctimensec, 4);
	/* As the C library takes device numbers apart. */
	ck_assert_uint_eq(major(w.rdev), 4095);
	ck_assert_uint_eq(minor(w.rdev), 0xfffff);
	a.rdev_major = 8;
	a.rdev_minor = 257;
	fz_encode_attr(&a, &w);
	ck_assert_uint_eq(major(w.rdev), 8);
	ck_assert_uint_eq(minor(w.rdev), 257);
}
END_TEST

START_TEST(test_entry)
{
	struct fs_attr a = sample();
	struct fuse_entry_out e;

	fz_encode_entry(&a, 1, &e);
	ck_assert_uint_eq(e.nodeid, 1);
	ck_assert_uint_eq(e.generation, 77);
	ck_assert_uint_ge(e.entry_valid, 1u << 30);
	ck_assert_uint_ge(e.attr_valid, 1u << 30);
	ck_assert_uint_eq(e.attr.ino, a.ino);
}
END_TEST

START_TEST(test_statx)
{
	struct fs_attr a = sample();
	struct fz_statx x;

	fz_encode_statx(&a, &x);
	ck_assert(x.mask & STATX_BTIME);
	ck_assert_int_eq(x.btime.tv_sec, 1ll << 33);
	ck_assert_uint_eq(x.btime.tv_nsec, 6);
	ck_assert_int_eq(x.atime.tv_sec, -5);
	ck_assert_uint_eq(x.attributes, STATX_ATTR_IMMUTABLE | STATX_ATTR_NODUMP);
	ck_assert_uint_eq(x.attributes & ~x.attributes_mask, 0);
	ck_assert_uint_eq(offsetof(struct fz_statx, atime), 64);
	ck_assert_uint_eq(offsetof(struct fz_statx, rdev_major), 128);
}
END_TEST

START_TEST(test_dirent)
{
	struct fuse_entry_out plus = {.nodeid = 9};
	char buf[1024], name[256];
	struct fuse_dirent d;
	size_t n;

	memset(name, 'n', sizeof(name));
	for (size_t len = 1; len <= 255; len++) {
		memset(buf, 0xee, sizeof(buf));
		n = fz_encode_dirent(buf, sizeof(buf), NULL, name, len, 5, DT_DIR, 1ull << 40);
		ck_assert_uint_eq(n, FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + len));
		memcpy(&d, buf, FUSE_NAME_OFFSET);
		ck_assert_uint_eq(d.ino, 5);
		ck_assert_uint_eq(d.off, 1ull << 40);
		ck_assert_uint_eq(d.namelen, len);
		ck_assert_uint_eq(d.type, DT_DIR);
		ck_assert(!memcmp(buf + FUSE_NAME_OFFSET, name, len));
		/* No memory of ours leaks in the padding, nothing behind is touched. */
		for (size_t i = FUSE_NAME_OFFSET + len; i < n; i++)
			ck_assert_int_eq(buf[i], 0);
		ck_assert_int_eq((unsigned char)buf[n], 0xee);
		ck_assert_uint_eq(fz_encode_dirent(buf, n - 1, NULL, name, len, 5, 0, 1), 0);
		ck_assert_uint_eq(fz_encode_dirent(buf, sizeof(buf), &plus, name, len, 5, 0, 1),
				  n + sizeof(plus));
		ck_assert(!memcmp(buf, &plus, sizeof(plus)));
	}
}
END_TEST

START_TEST(test_setattr)
{
	static const struct {
		uint32_t valid;
		unsigned set;
	} t[] = {
		{FATTR_MODE, FS_SET_MODE},
		{FATTR_UID | FATTR_GID, FS_SET_UID | FS_SET_GID},
		{FATTR_SIZE | FATTR_FH | FATTR_LOCKOWNER, FS_SET_SIZE},
		{FATTR_ATIME | FATTR_ATIME_NOW, FS_SET_ATIME | FS_SET_ATIME_NOW},
		{FATTR_MTIME | FATTR_CTIME, FS_SET_MTIME | FS_SET_CTIME},
		{FATTR_SIZE | FATTR_KILL_SUIDGID, FS_SET_SIZE | FS_SET_KILL_SUIDGID},
		/* Nothing to set is the kernel's request to drop privileges. */
		{0, FS_SET_KILL_SUIDGID},
		{FATTR_FH, FS_SET_KILL_SUIDGID},
	};
	struct fuse_setattr_in in = {.mode = 0640, .uid = 1, .gid = 2, .size = 3, .mtime = 5,
				     .mtimensec = 6, .ctime = 7, .ctimensec = 8};
	struct fs_attr a;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		in.valid = t[i].valid;
		ck_assert_uint_eq(fz_decode_setattr(&in, &a), t[i].set);
	}
	ck_assert_uint_eq(a.mode, 0640);
	ck_assert_uint_eq(a.size, 3);
	ck_assert_int_eq(a.mtime.tv_sec, 5);
	ck_assert_int_eq(a.ctime.tv_nsec, 8);
}
END_TEST

START_TEST(test_init)
{
	struct fuse_init_in in = {.flags = FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT,
				  .flags2 = 0x7fd};
	struct fuse_init_out out = {.flags = FUSE_ASYNC_READ | FUSE_HANDLE_KILLPRIV};

	ck_assert(!fz_patch_init(&in, &out, false));
	ck_assert(out.flags & FUSE_HANDLE_KILLPRIV_V2);
	ck_assert(out.flags & FUSE_SETXATTR_EXT);
	ck_assert(out.flags & FUSE_INIT_EXT);
	ck_assert(out.flags & FUSE_ASYNC_READ);
	ck_assert(!(out.flags & FUSE_HANDLE_KILLPRIV));
	ck_assert_uint_eq(out.flags2, FZ_INIT2_DIRECT_IO_ALLOW_MMAP);
	ck_assert(fz_patch_init(&in, &out, true));
	ck_assert_uint_eq(out.flags2, FZ_INIT2_DIRECT_IO_ALLOW_MMAP | FZ_INIT2_OVER_IO_URING);
	/* The kernel's parameter is off. */
	in.flags2 &= ~FZ_INIT2_OVER_IO_URING;
	out.flags2 = 0;
	ck_assert(!fz_patch_init(&in, &out, true));
	ck_assert_uint_eq(out.flags2, FZ_INIT2_DIRECT_IO_ALLOW_MMAP);
	/* An older kernel gets nothing it did not offer, and flags2 is none of its words. */
	in = (struct fuse_init_in){.flags = FUSE_ASYNC_READ, .flags2 = 0xffffffff};
	out = (struct fuse_init_out){.flags = FUSE_ASYNC_READ};
	ck_assert(!fz_patch_init(&in, &out, true));
	ck_assert_uint_eq(out.flags, FUSE_ASYNC_READ);
	ck_assert_uint_eq(out.flags2, 0);
}
END_TEST

START_TEST(test_buffers)
{
	char msg[80 + 512];
	char *copy, *whole;

	for (size_t i = 0; i < sizeof(msg); i++)
		msg[i] = (char)i;
	copy = fz_buf_copy(msg, sizeof(msg));
	whole = fz_buf_get();
	ck_assert(copy && whole);
	ck_assert(!memcmp(copy, msg, sizeof(msg)));
	/* Where a WRITE's payload starts, direct I/O wants a page. */
	ck_assert_uint_eq((uintptr_t)(copy + sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in)) %
				  4096, 0);
	ck_assert_uint_eq((uintptr_t)(whole + 80) % 4096, 0);
	memset(whole, 1, FZ_BUF_SIZE);
	fz_buf_put(copy);
	fz_buf_put(whole);
	fz_buf_put(NULL);
}
END_TEST

/* A message of an opcode with these bytes behind its header. */
static bool shape_ok(uint32_t opcode, const void *args, size_t len)
{
	struct fuse_in_header *h = malloc(sizeof(*h) + len);
	bool ok;

	ck_assert_ptr_nonnull(h);
	*h = (struct fuse_in_header){ .len = (uint32_t)(sizeof(*h) + len), .opcode = opcode };
	if (len)
		memcpy(h + 1, args, len);
	ok = fz_proto_ok(h);
	free(h);
	return ok;
}

/* What is cut short anywhere is refused; what is whole is not. */
START_TEST(test_shapes)
{
	const struct { struct fuse_rename2_in in; char names[4]; } rename2 = { .names = "a\0b" };
	struct { struct fuse_write_in in; char data[10]; } w = { .in = { .size = 10 } };
	struct { struct fuse_batch_forget_in in; struct fuse_forget_one one[2]; } f = {
		.in = { .count = 2 } };

	for (size_t n = 0; n < sizeof(rename2.in) + 4; n++)
		ck_assert(!shape_ok(FUSE_RENAME2, &rename2, n));
	ck_assert(shape_ok(FUSE_RENAME2, &rename2, sizeof(rename2.in) + 4));
	ck_assert(!shape_ok(FUSE_WRITE, &w, sizeof(w.in) + 9));
	ck_assert(shape_ok(FUSE_WRITE, &w, sizeof(w.in) + 10));
	w.in.size = UINT32_MAX;
	ck_assert(!shape_ok(FUSE_WRITE, &w, sizeof(w.in) + 10));
	ck_assert(shape_ok(FUSE_BATCH_FORGET, &f, sizeof(f)));
	f.in.count = 3;
	ck_assert(!shape_ok(FUSE_BATCH_FORGET, &f, sizeof(f)));
	f.in.count = 1u << 28; /* times 16 is 0 in 32 bits */
	ck_assert(!shape_ok(FUSE_BATCH_FORGET, &f, sizeof(f)));
	ck_assert(!shape_ok(FUSE_LOOKUP, "name", 4));
	ck_assert(shape_ok(FUSE_LOOKUP, "name", 5));
	/* No arguments, or an opcode we do not know: not ours to judge. */
	ck_assert(shape_ok(FUSE_READLINK, NULL, 0));
	ck_assert(shape_ok(0xdeadbeef, NULL, 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fuse-encode");
	TCase *t = tcase_create("wire");

	tcase_add_test(t, test_attr);
	tcase_add_test(t, test_entry);
	tcase_add_test(t, test_statx);
	tcase_add_test(t, test_dirent);
	tcase_add_test(t, test_setattr);
	tcase_add_test(t, test_init);
	tcase_add_test(t, test_buffers);
	tcase_add_test(t, test_shapes);
	suite_add_tcase(s, t);
	return unit_run(s);
}

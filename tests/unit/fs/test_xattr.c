/* SPDX-License-Identifier: MIT */
/* Extended attributes against a model, their errors, and room shared with data. */
#include <linux/fiemap.h>

#include "names_fx.h"

static struct fx x;
static uint64_t seed;

static void setup(void)
{
	fx_make(&x, 64u << 20);
}

static void teardown(void)
{
	fx_end(&x);
}

static struct fs_inode *file(const char *name)
{
	struct fs_inode *ip;

	ck_assert_int_eq(fs_mknod(&x.ctx, x.root, name, strlen(name), S_IFREG | 0644, 0, 0, &ip), 0);
	return ip;
}

static int64_t get(struct fs_inode *ip, const char *name, void *buf, size_t size)
{
	return fs_getxattr(&x.ctx, ip, name, buf, size);
}

static int set(struct fs_inode *ip, const char *name, const void *v, size_t size, int flags)
{
	return fs_setxattr(&x.ctx, ip, name, v, size, flags);
}

START_TEST(test_errors)
{
	static char big[65537];
	struct fs_inode *ip = file("f"), *fifo;
	char buf[300], name[300];

	ck_assert_int_eq(get(ip, "user.a", buf, sizeof(buf)), -ENODATA);
	ck_assert_int_eq(get(ip, "security.capability", buf, sizeof(buf)), -ENODATA);
	ck_assert_int_eq(set(ip, "security.capability", "cap", 3, 0), 0);
	ck_assert_int_eq(get(ip, "security.capability", buf, sizeof(buf)), 3);
	ck_assert_int_eq(fs_removexattr(&x.ctx, ip, "security.capability"), 0);
	ck_assert_int_eq(get(ip, "security.capability", buf, sizeof(buf)), -ENODATA);
	ck_assert_int_eq(fs_removexattr(&x.ctx, ip, "user.a"), -ENODATA);
	ck_assert_int_eq(set(ip, "user.a", "1", 1, XATTR_REPLACE), -ENODATA);
	ck_assert_int_eq(set(ip, "user.a", "12345", 5, XATTR_CREATE), 0);
	ck_assert_int_eq(set(ip, "user.a", "1", 1, XATTR_CREATE), -EEXIST);
	ck_assert_int_eq(set(ip, "user.a", "1", 1, 64), -EINVAL);
	ck_assert_int_eq(get(ip, "user.a", buf, 4), -ERANGE);
	ck_assert_int_eq(get(ip, "user.a", NULL, 0), 5);
	ck_assert_int_eq(set(ip, "user.a", "", 0, XATTR_REPLACE), 0);
	ck_assert_int_eq(get(ip, "user.a", buf, sizeof(buf)), 0);
	ck_assert_int_eq(set(ip, "user.", "1", 1, 0), -EINVAL);
	ck_assert_int_eq(set(ip, "other.a", "1", 1, 0), -EOPNOTSUPP);
	ck_assert_int_eq(set(ip, "system.other", "1", 1, 0), -EOPNOTSUPP);
	ck_assert_int_eq(get(ip, "", buf, 1), -ERANGE);
	snprintf(name, sizeof(name), "user.%0251d", 0);
	ck_assert_int_eq(set(ip, name, "1", 1, 0), -ERANGE);
	name[255] = '\0';
	ck_assert_int_eq(set(ip, name, "1", 1, 0), 0);
	ck_assert_int_eq(set(ip, "user.b", big, 65537, 0), -E2BIG);
	ck_assert_int_eq(set(ip, "user.b", big, 65536, 0), 0);
	ck_assert_int_eq(get(ip, "user.b", NULL, 0), 65536);
	ck_assert_int_eq(fs_listxattr(&x.ctx, ip, buf, 3), -ERANGE);
	fs_iput(ip);
	ck_assert_int_eq(fs_mknod(&x.ctx, x.root, "p", 1, S_IFIFO | 0644, 0, 0, &fifo), 0);
	ck_assert_int_eq(set(fifo, "user.a", "1", 1, 0), -EPERM);
	ck_assert_int_eq(get(fifo, "user.a", buf, 1), -ENODATA);
	ck_assert_int_eq(set(fifo, "trusted.a", "1", 1, 0), 0);
	/* Not for everybody's eyes. */
	ck_assert_int_eq(fs_listxattr(&x.ctx, fifo, buf, sizeof(buf)), 10);
	x.ctx.uid = 1000;
	ck_assert_int_eq(fs_listxattr(&x.ctx, fifo, buf, sizeof(buf)), 0);
	x.ctx.uid = 0;
	fs_iput(fifo);
}
END_TEST

/* Records beyond the list's limit: refused, and what was there stays. */
START_TEST(test_full_list)
{
	struct fs_inode *ip = file("f");
	char value[1000], name[32];
	unsigned n = 0;
	int err;

	memset(value, 'v', sizeof(value));
	do {
		snprintf(name, sizeof(name), "user.%u", n);
		err = set(ip, name, value, sizeof(value), 0);
		n += !err;
	} while (!err);
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_ge(n, 30);
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "user.%u", i);
		ck_assert_int_eq(get(ip, name, value, sizeof(value)), 1000);
		ck_assert_int_eq(fs_removexattr(&x.ctx, ip, name), 0);
	}
	ck_assert_uint_eq(fx_attr(&x, ip).blocks, 0);
	fs_iput(ip);
}
END_TEST

/* ---- Model ---------------------------------------------------------------------------- */

#define NAMES 12u

struct attr {
	bool there;
	size_t len;
	uint8_t *value;
};

static void name_of(unsigned i, char *buf, size_t size)
{
	static const char *const space[] = { "user.", "trusted.", "security." };

	snprintf(buf, size, "%sname-%0*u", space[i % 3], (int)i * 3, i);
}

static size_t random_size(struct rng *r)
{
	switch (rng_below(r, 6)) {
	case 0:
		return 0;
	case 1:
	case 2:
		return rng_below(r, 40);
	case 3:
		return rng_below(r, 1100);
	case 4:
		return rng_below(r, 9000);
	default:
		return rng_below(r, 65537);
	}
}

static void model_check(struct fs_inode *ip, const struct attr *m)
{
	static uint8_t buf[65536];
	static char list[65536];
	size_t want = 0;
	int64_t got;
	char name[80];

	for (unsigned i = 0; i < NAMES; i++) {
		name_of(i, name, sizeof(name));
		got = get(ip, name, buf, sizeof(buf));
		ck_assert_int_eq(got, m[i].there ? (int64_t)m[i].len : -ENODATA);
		if (!m[i].there)
			continue;
		ck_assert(m[i].len == 0 || memcmp(buf, m[i].value, m[i].len) == 0);
		want += strlen(name) + 1;
	}
	got = fs_listxattr(&x.ctx, ip, list, sizeof(list));
	ck_assert_int_eq(got, (int64_t)want);
	ck_assert_int_eq(fs_listxattr(&x.ctx, ip, NULL, 0), got);
	for (unsigned i = 0; i < NAMES; i++) {
		bool found = false;

		name_of(i, name, sizeof(name));
		for (int64_t at = 0; at < got; at += (int64_t)strlen(list + at) + 1)
			found |= strcmp(list + at, name) == 0;
		ck_assert_int_eq(found, m[i].there);
	}
}

static void model_step(struct fs_inode *ip, struct attr *m, struct rng *r)
{
	struct attr *a = m + rng_below(r, NAMES);
	char name[80];
	int err;

	name_of((unsigned)(a - m), name, sizeof(name));
	if (rng_below(r, 3) == 0) {
		err = fs_removexattr(&x.ctx, ip, name);
		ck_assert_int_eq(err, a->there ? 0 : -ENODATA);
		free(a->value);
		*a = (struct attr){ 0 };
		return;
	}
	free(a->value);
	a->there = true;
	a->len = random_size(r);
	a->value = malloc(a->len + 1);
	ck_assert_ptr_nonnull(a->value);
	for (size_t i = 0; i < a->len; i++)
		a->value[i] = (uint8_t)rng_u64(r);
	ck_assert_int_eq(set(ip, name, a->value, a->len, 0), 0);
}

START_TEST(test_model)
{
	struct attr m[NAMES] = { 0 };
	uint64_t free0 = fx_free(&x);
	struct fs_inode *ip;
	struct rng r;

	rng_seed(&r, seed);
	ip = file("f");
	for (unsigned n = 0; n < 600; n++) {
		model_step(ip, m, &r);
		if (n % 20 == 0)
			model_check(ip, m);
		if (n % 60 == 59) {
			fs_iput(ip);
			fx_remount(&x);
			ip = fx_lookup(&x, x.root, "f");
			model_check(ip, m);
		}
	}
	fs_iput(ip);
	ck_assert_int_eq(fx_unlink(&x, x.root, "f"), 0);
	ck_assert_uint_eq(fx_free(&x), free0);
	for (unsigned i = 0; i < NAMES; i++)
		free(m[i].value);
}
END_TEST

/* A directory's attributes live beside its root, and go with it. */
START_TEST(test_directory)
{
	uint64_t free0 = fx_free(&x);
	struct fs_inode *d = fx_mkdir(&x, x.root, "d");
	char value[300], buf[300];

	memset(value, 'd', sizeof(value));
	for (size_t len = 1; len <= sizeof(value); len += 13) {
		ck_assert_int_eq(set(d, "user.d", value, len, 0), 0);
		ck_assert_int_eq(fx_creat(&x, d, "f"), 0);
		ck_assert_int_eq(get(d, "user.d", buf, sizeof(buf)), (int64_t)len);
		ck_assert_int_eq(fx_unlink(&x, d, "f"), 0);
	}
	fs_iput(d);
	ck_assert_int_eq(fx_rmdir(&x, x.root, "d"), 0);
	ck_assert_uint_eq(fx_free(&x), free0);
}
END_TEST

/* FIEMAP of attributes: none, in the inode, in a blob of several blocks, with values of their own. */
static unsigned where(struct fs_inode *ip, struct fiemap_extent *e, unsigned max)
{
	struct fiemap_extent_info fi = { .fi_flags = FIEMAP_FLAG_XATTR, .fi_extents_max = max,
					 .fi_extents_start = e };

	ck_assert_int_eq(fs_fiemap(&x.ctx, ip, &fi, 0, UINT64_MAX), 0);
	return fi.fi_extents_mapped;
}

START_TEST(fiemap_of_attributes)
{
	static char big[20000], name[32];
	struct fs_inode *ip = file("f");
	struct fiemap_extent e[64];
	uint64_t bytes = 0;
	unsigned n;

	ck_assert_uint_eq(where(ip, e, 64), 0);
	ck_assert_int_eq(set(ip, "user.a", "1", 1, 0), 0);
	ck_assert_uint_eq(where(ip, e, 64), 1);
	ck_assert_uint_eq(e[0].fe_flags, FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED |
						 FIEMAP_EXTENT_LAST);
	ck_assert_uint_eq(e[0].fe_logical, 0);
	ck_assert_uint_gt(e[0].fe_length, 0);
	/* A value of its own lies behind the list, at a block. */
	memset(big, 'v', sizeof(big));
	ck_assert_int_eq(set(ip, "user.big", big, sizeof(big), 0), 0);
	n = where(ip, e, 64);
	ck_assert_uint_ge(n, 2);
	ck_assert_uint_eq(e[0].fe_flags & FIEMAP_EXTENT_DATA_INLINE, FIEMAP_EXTENT_DATA_INLINE);
	ck_assert_uint_eq(e[1].fe_logical, 4096);
	ck_assert_uint_ne(e[1].fe_physical, 0);
	for (unsigned i = 1; i < n; i++)
		bytes += e[i].fe_length;
	ck_assert_uint_eq(bytes, 5 * 4096); /* 20000 bytes in blocks with a header each */
	ck_assert_uint_eq(e[n - 1].fe_flags & FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_LAST);
	ck_assert_uint_eq(where(ip, NULL, 0), n);
	/* Many of them: the list leaves the inode. */
	for (unsigned i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "user.n%u", i);
		ck_assert_int_eq(set(ip, name, big, 1000, 0), 0);
	}
	n = where(ip, e, 64);
	bytes = 0;
	for (unsigned i = 0; i < n; i++) {
		ck_assert_uint_eq(e[i].fe_flags & FIEMAP_EXTENT_DATA_INLINE, 0);
		ck_assert_uint_eq(e[i].fe_logical, bytes);
		ck_assert_uint_eq(e[i].fe_physical % 4096, 0);
		bytes += e[i].fe_length;
	}
	ck_assert_uint_eq(bytes, (4 + 5) * 4096);
	/* What is there, seen on the device. */
	ck_assert_int_eq(fs_sync(x.fs), 0);
	ck_assert_int_eq(fs_removexattr(&x.ctx, ip, "user.big"), 0);
	n = where(ip, e, 64);
	for (bytes = 0; n; n--)
		bytes += e[n - 1].fe_length;
	ck_assert_uint_eq(bytes, 4 * 4096);
	fs_iput(ip);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("xattr");
	TCase *tc = tcase_create("xattr");

	seed = unit_seed(0xa77);
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_errors);
	tcase_add_test(tc, test_full_list);
	tcase_add_test(tc, test_model);
	tcase_add_test(tc, test_directory);
	tcase_add_test(tc, fiemap_of_attributes);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

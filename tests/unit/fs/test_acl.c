/* SPDX-License-Identifier: MIT */
/* POSIX ACLs: what is accepted, what it does to the mode, chmod, inheritance. */
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "names_fx.h"

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static struct fx x;

static void setup(void)
{
	fx_make(&x, 64u << 20);
}

static void teardown(void)
{
	fx_end(&x);
}

struct acl {
	uint8_t bytes[256];
	size_t size;
};

/* "u::7 u:5:6 g::5 g:9:4 m::7 o::0": u and g with an id are the named ones. */
static struct acl acl(const char *text)
{
	struct acl a = { .size = 4 };
	le32_t version = le32_make(POSIX_ACL_XATTR_VERSION);

	memcpy(a.bytes, &version, 4);
	for (const char *p = text; *p; p += strcspn(p, " "), p += *p == ' ') {
		bool named = p[2] != ':';
		uint32_t id = named ? (uint32_t)strtoul(p + 2, NULL, 10) : UINT32_MAX;
		unsigned tag = *p == 'u' ? (named ? ACL_USER : ACL_USER_OBJ) :
			       *p == 'g' ? (named ? ACL_GROUP : ACL_GROUP_OBJ) :
			       *p == 'm' ? ACL_MASK :
					   ACL_OTHER;
		le16_t t = le16_make((uint16_t)tag);
		le16_t perm = le16_make((uint16_t)strtoul(strchr(p + 2, ':') + 1, NULL, 10));
		le32_t i = le32_make(id);

		memcpy(a.bytes + a.size, &t, 2);
		memcpy(a.bytes + a.size + 2, &perm, 2);
		memcpy(a.bytes + a.size + 4, &i, 4);
		a.size += 8;
	}
	return a;
}

static int set(struct fs_inode *ip, const char *name, const char *text)
{
	struct acl a = acl(text);

	return fs_setxattr(&x.ctx, ip, name, a.bytes, a.size, 0);
}

/* The stored ACL is this one; NULL: there is none. */
static void expect(struct fs_inode *ip, const char *name, const char *text)
{
	struct acl want = acl(text ? text : "");
	uint8_t buf[256];
	int64_t n = fs_getxattr(&x.ctx, ip, name, buf, sizeof(buf));

	ck_assert_int_eq(n, text ? (int64_t)want.size : -ENODATA);
	if (text)
		ck_assert(memcmp(buf, want.bytes, want.size) == 0);
}

static unsigned mode(struct fs_inode *ip)
{
	return fx_attr(&x, ip).mode & 07777;
}

static struct fs_inode *file(struct fs_inode *dir, const char *name, mode_t m)
{
	struct fs_inode *ip;

	ck_assert_int_eq(fs_mknod(&x.ctx, dir, name, strlen(name), S_IFREG | m, 0, 0, &ip), 0);
	return ip;
}

static void chmod_to(struct fs_inode *ip, mode_t m)
{
	struct fs_attr a = { .mode = m };

	ck_assert_int_eq(fs_setattr(&x.ctx, ip, FS_SET_MODE, &a, NULL), 0);
}

START_TEST(test_table)
{
	static const struct {
		const char *acl;
		int err;
		unsigned mode;    /* afterwards, of 0640 */
		bool stored;
	} t[] = {
		{ "u::7 g::5 o::1", 0, 0751, false },
		{ "u::6 u:5:7 g::4 m::6 o::0", 0, 0660, true },
		{ "u::6 g::4 g:9:2 m::2 o::4", 0, 0624, true },
		{ "u::6 g::4 m::1 o::4", 0, 0614, true },
		{ "u::6 u:5:7 u:6:1 g::4 g:1:1 g:2:2 m::7 o::0", 0, 0670, true },
		{ "", 0, 0640, false },
		{ "u::6 g::4", -EINVAL, 0640, false },
		{ "u::6 o::4", -EINVAL, 0640, false },
		{ "g::6 o::4", -EINVAL, 0640, false },
		{ "u::6 u:5:7 g::4 o::0", -EINVAL, 0640, false },
		{ "u::6 g::4 g:5:4 o::0", -EINVAL, 0640, false },
		{ "g::4 u::6 o::0", -EINVAL, 0640, false },
		{ "u::6 u::6 g::4 o::0", -EINVAL, 0640, false },
		{ "u::6 g::4 m::1 m::1 o::0", -EINVAL, 0640, false },
		{ "u::8 g::4 o::0", -EINVAL, 0640, false },
		{ "u::6 g::4 o::0 o::0", -EINVAL, 0640, false },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct fs_inode *ip = file(x.root, "f", 0640);

		ck_assert_int_eq(set(ip, ACCESS, t[i].acl), t[i].err);
		ck_assert_uint_eq(mode(ip), t[i].mode);
		expect(ip, ACCESS, t[i].stored ? t[i].acl : NULL);
		fs_iput(ip);
		ck_assert_int_eq(fx_unlink(&x, x.root, "f"), 0);
	}
}
END_TEST

START_TEST(test_set)
{
	struct fs_inode *ip = file(x.root, "f", 02770), *link;
	struct acl a = acl("u::6 g::4 o::0");

	ck_assert_int_eq(set(ip, DEFAULT, "u::6 g::4 o::0"), -EACCES);
	ck_assert_int_eq(fs_removexattr(&x.ctx, ip, DEFAULT), 0);
	ck_assert_int_eq(fs_setxattr(&x.ctx, ip, ACCESS, a.bytes, a.size - 1, 0), -EINVAL);
	ck_assert_int_eq(fs_setxattr(&x.ctx, ip, ACCESS, a.bytes, 3, 0), -EINVAL);
	a.bytes[0] = 1;
	ck_assert_int_eq(fs_setxattr(&x.ctx, ip, ACCESS, a.bytes, a.size, 0), -EOPNOTSUPP);
	ck_assert_int_eq(set(ip, ACCESS, "u::7 u:5:7 g::7 m::5 o::0"), 0);
	ck_assert_uint_eq(mode(ip), 02750);
	/* An ACL that says no more than a mode takes the stored one away. */
	ck_assert_int_eq(set(ip, ACCESS, "u::7 g::1 o::0"), 0);
	ck_assert_uint_eq(mode(ip), 02710);
	expect(ip, ACCESS, NULL);
	x.ctx.flags |= FS_KILL_SUIDGID;
	ck_assert_int_eq(set(ip, ACCESS, "u::7 u:5:7 g::7 m::5 o::0"), 0);
	x.ctx.flags = 0;
	ck_assert_uint_eq(mode(ip), 0750);
	/* Taking it away leaves the mode alone. */
	ck_assert_int_eq(fs_removexattr(&x.ctx, ip, ACCESS), 0);
	ck_assert_int_eq(fs_removexattr(&x.ctx, ip, ACCESS), 0);
	ck_assert_uint_eq(mode(ip), 0750);
	fs_iput(ip);
	ck_assert_int_eq(fs_symlink(&x.ctx, x.root, "l", 1, "f", &link), 0);
	ck_assert_int_eq(set(link, ACCESS, "u::6 g::4 o::0"), -EOPNOTSUPP);
	fs_iput(link);
}
END_TEST

START_TEST(test_chmod)
{
	struct fs_inode *ip = file(x.root, "f", 0640);

	ck_assert_int_eq(set(ip, ACCESS, "u::6 u:5:7 g::4 m::7 o::0"), 0);
	chmod_to(ip, 0751);
	ck_assert_uint_eq(mode(ip), 0751);
	expect(ip, ACCESS, "u::7 u:5:7 g::4 m::5 o::1");
	chmod_to(ip, 04600);
	ck_assert_uint_eq(mode(ip), 04600);
	expect(ip, ACCESS, "u::6 u:5:7 g::4 m::0 o::0");
	fs_iput(ip);
	fx_remount(&x);
	ip = fx_lookup(&x, x.root, "f");
	expect(ip, ACCESS, "u::6 u:5:7 g::4 m::0 o::0");
	ck_assert_uint_eq(mode(ip), 04600);
	fs_iput(ip);
}
END_TEST

START_TEST(test_inherit)
{
	struct fs_inode *d = fx_mkdir(&x, x.root, "d"), *ip;
	struct acl big = acl("u::7");

	x.ctx.umask = 077;
	ck_assert_int_eq(set(d, DEFAULT, "u::7 u:5:6 g::5 m::7 o::4"), 0);
	ck_assert_uint_eq(mode(d), 0755);
	/* The umask has no say; the mode asked for restricts owner, mask and other. */
	ip = file(d, "f", 0640);
	ck_assert_uint_eq(mode(ip), 0640);
	expect(ip, ACCESS, "u::6 u:5:6 g::5 m::4 o::0");
	expect(ip, DEFAULT, NULL);
	fs_iput(ip);
	ip = fx_mkdir(&x, d, "s");
	ck_assert_uint_eq(mode(ip), 0754);
	expect(ip, ACCESS, "u::7 u:5:6 g::5 m::5 o::4");
	expect(ip, DEFAULT, "u::7 u:5:6 g::5 m::7 o::4");
	fs_iput(ip);
	ck_assert_int_eq(fs_symlink(&x.ctx, d, "l", 1, "f", &ip), 0);
	ck_assert_uint_eq(mode(ip), 0777);
	ck_assert_int_eq(fs_getxattr(&x.ctx, ip, ACCESS, NULL, 0), -EOPNOTSUPP);
	fs_iput(ip);
	/* A default ACL no larger than a mode: a mode comes of it. */
	ck_assert_int_eq(set(d, DEFAULT, "u::7 g::5 o::1"), 0);
	ip = file(d, "g", 0666);
	ck_assert_uint_eq(mode(ip), 0640);
	expect(ip, ACCESS, NULL);
	fs_iput(ip);
	/* Large ones go into a blob of the new inode. */
	for (unsigned i = 0; i < 22; i++) {
		struct acl one = acl("u:1:7");

		one.bytes[8] = (uint8_t)i;
		memcpy(big.bytes + big.size, one.bytes + 4, 8);
		big.size += 8;
	}
	memcpy(big.bytes + big.size, acl("g::5 m::7 o::0").bytes + 4, 24);
	big.size += 24;
	ck_assert_int_eq(fs_setxattr(&x.ctx, d, DEFAULT, big.bytes, big.size, 0), 0);
	ip = fx_mkdir(&x, d, "deep");
	ck_assert_int_eq(fs_getxattr(&x.ctx, ip, DEFAULT, NULL, 0), (int64_t)big.size);
	ck_assert_int_eq(fs_getxattr(&x.ctx, ip, ACCESS, NULL, 0), (int64_t)big.size);
	fs_iput(ip);
	ck_assert_int_eq(set(d, DEFAULT, ""), 0);
	expect(d, DEFAULT, NULL);
	ip = file(d, "h", 0666);
	ck_assert_uint_eq(mode(ip), 0600);
	fs_iput(ip);
	fs_iput(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("acl");
	TCase *tc = tcase_create("acl");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_table);
	tcase_add_test(tc, test_set);
	tcase_add_test(tc, test_chmod);
	tcase_add_test(tc, test_inherit);
	suite_add_tcase(s, tc);
	return unit_run(s);
}

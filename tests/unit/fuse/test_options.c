// SPDX-License-Identifier: MIT
/* Every option word: what it sets, what is refused, and that the message names it. */
#include <errno.h>
#include <string.h>

#include "options.h"
#include "unit.h"

static int parse(struct fz_options *o, const char *list, char err[512])
{
	fz_options_init(o);
	err[0] = '\0';
	return fz_options_parse(o, list, err, 512);
}

static const struct {
	const char *list;
	const char *named; /* NULL: accepted; else what the message must contain */
} table[] = {
	{"", NULL},
	{",,", NULL},
	{"defaults", NULL},
	{"ro", NULL},
	{"rw,relatime", NULL},
	{"noatime,nodiratime", NULL},
	{"nosuid,nodev,noexec", NULL},
	{"suid,dev,exec", NULL},
	{"nofail,noauto,_netdev,user,users,owner", NULL},
	{"rw,relatime,user_id=0,group_id=0,default_permissions,allow_other,blksize=4096", NULL},
	{"user_id", "user_id"},
	{"user=joe", NULL},
	{"x-systemd.device-timeout=5,x-gvfs-hide,X-mount.mkdir=0700", NULL},
	{"comment=anything at all", NULL},
	{"comment=\"with, comma\",ro", NULL},
	{"kernel_cache=through", NULL},
	{"kernel_cache=writeback", NULL},
	{"kernel_cache=none", NULL},
	{"memory=64M", NULL},
	{"memory=1GiB", NULL},
	{"commit=1", NULL},
	{"commit=300", NULL},
	{"errors=remount-ro", NULL},
	{"errors=continue", NULL},
	{"norecovery,ro,discard", NULL},
	{"transport=auto", NULL},
	{"transport=loop", NULL},
	{"remount,rw", NULL},
	{"strictatime", "strictatime"},
	{"transport=uring", NULL},
	{"queue_depth=1", NULL},
	{"queue_depth=256", NULL},
	{"queue_depth=0", "queue_depth=0"},
	{"queue_depth=257", "queue_depth=257"},
	{"queue_depth=-4", "queue_depth=-4"},
	{"queue_depth=4x", "queue_depth=4x"},
	{"transport=pigeon", "transport=pigeon"},
	{"kernel_cache", "kernel_cache"},
	{"kernel_cache=", "kernel_cache="},
	{"kernel_cache=maybe", "kernel_cache=maybe"},
	{"ro=1", "ro=1"},
	{"rox", "rox"},
	{"r", "'r'"},
	{"ro,nonsense,rw", "nonsense"},
	{"memory=1K", "memory=1K"},
	{"memory=-1", "memory=-1"},
	{"memory=64MB", "memory=64MB"},
	{"memory=99999999999999999999", "memory="},
	{"memory=18446744073709551615T", "memory="},
	{"commit=0", "commit=0"},
	{"commit=301", "commit=301"},
	{"commit=5s", "commit=5s"},
	{"commit= 5", "commit= 5"},
	{"errors=panic", "errors=panic"},
};

START_TEST(test_words)
{
	struct fz_options o;
	char err[512];
	int ret = parse(&o, table[_i].list, err);

	if (!table[_i].named) {
		ck_assert_msg(ret == 0, "%s: %s", table[_i].list, err);
		return;
	}
	ck_assert_msg(ret == -EINVAL, "%s was accepted", table[_i].list);
	ck_assert_msg(strstr(err, table[_i].named), "%s: said only '%s'", table[_i].list, err);
}
END_TEST

START_TEST(test_values)
{
	struct fz_options o;
	char err[512];

	ck_assert_int_eq(parse(&o, "ro,memory=256M,commit=7,kernel_cache=writeback,noatime,nodiratime,"
				   "discard,errors=continue,norecovery,noexec,sync",
			       err),
			 0);
	ck_assert(o.fs.readonly && o.ro_given && o.fs.discard && o.fs.norecovery && o.sync);
	ck_assert_uint_eq(o.fs.memory_bytes, 256u << 20);
	ck_assert_uint_eq(o.fs.commit_interval_ms, 7000);
	ck_assert_int_eq(o.cache, FZ_CACHE_WRITEBACK);
	ck_assert_int_eq(o.fs.atime, FS_ATIME_NOATIME);
	ck_assert(o.fs.nodiratime);
	ck_assert_int_eq(o.fs.errors, FS_ERRORS_CONTINUE);
	ck_assert_int_eq(o.exec, FZ_OFF);
}
END_TEST

START_TEST(test_defaults_and_last_word)
{
	struct fz_options o;
	char err[512];

	ck_assert_int_eq(parse(&o, "defaults", err), 0);
	ck_assert(!o.fs.readonly && !o.ro_given && !o.fs.discard);
	ck_assert_int_eq(o.cache, FZ_CACHE_THROUGH);
	ck_assert_int_eq(o.suid, FZ_DEFAULT);
	ck_assert_int_eq(o.dev, FZ_DEFAULT);
	/* The later word wins, also over what `user` implies. */
	ck_assert_int_eq(parse(&o, "ro,rw,nosuid,suid", err), 0);
	ck_assert(!o.fs.readonly && o.ro_given);
	ck_assert_int_eq(o.suid, FZ_ON);
	ck_assert_int_eq(parse(&o, "user", err), 0);
	ck_assert_int_eq(o.suid, FZ_OFF);
	ck_assert_int_eq(o.exec, FZ_OFF);
	ck_assert_int_eq(parse(&o, "user,exec,dev", err), 0);
	ck_assert_int_eq(o.exec, FZ_ON);
	ck_assert_int_eq(o.dev, FZ_ON);
	ck_assert_int_eq(o.suid, FZ_OFF);
	/* Lists add up. */
	ck_assert_int_eq(fz_options_parse(&o, "ro", err, sizeof(err)), 0);
	ck_assert(o.fs.readonly && o.dev == FZ_ON);
}
END_TEST

START_TEST(test_long_word)
{
	struct fz_options o;
	char list[2048], err[512];

	memset(list, 'a', sizeof(list) - 1);
	list[sizeof(list) - 1] = '\0';
	ck_assert_int_eq(parse(&o, list, err), -EINVAL);
	ck_assert(strlen(err) > 0);
}
END_TEST

START_TEST(test_sizes)
{
	uint64_t v;

	ck_assert_int_eq(fz_parse_size("4096", &v), 0);
	ck_assert_uint_eq(v, 4096);
	ck_assert_int_eq(fz_parse_size("3k", &v), 0);
	ck_assert_uint_eq(v, 3072);
	ck_assert_int_eq(fz_parse_size("2TiB", &v), 0);
	ck_assert_uint_eq(v, 2ull << 40);
	ck_assert_int_eq(fz_parse_size("16777216T", &v), -ERANGE);
	ck_assert_int_eq(fz_parse_size("", &v), -EINVAL);
	ck_assert_int_eq(fz_parse_size("M", &v), -EINVAL);
	ck_assert_int_eq(fz_parse_size("1Mi", &v), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fuse-options");
	TCase *t = tcase_create("options");

	tcase_add_loop_test(t, test_words, 0, (int)(sizeof(table) / sizeof(table[0])));
	tcase_add_test(t, test_values);
	tcase_add_test(t, test_defaults_and_last_word);
	tcase_add_test(t, test_long_word);
	tcase_add_test(t, test_sizes);
	suite_add_tcase(s, t);
	return unit_run(s);
}

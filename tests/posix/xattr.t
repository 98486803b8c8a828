#!/usr/bin/env bash
# setxattr(2) and its family, POSIX ACLs by their effect.
. "$(dirname "$0")/lib.sh"

for type in file dir; do
	make $type x
	expect ENODATA getxattr x user.a
	expect 0 setxattr x user.a one
	expect one getxattr x user.a
	expect 3 getxattr-size x user.a
	expect ERANGE getxattr x user.a 2
	expect 0 setxattr x user.a two XATTR_REPLACE
	expect two getxattr x user.a
	expect EEXIST setxattr x user.a three XATTR_CREATE
	expect ENODATA setxattr x user.b three XATTR_REPLACE
	expect 0 setxattr x user.b three XATTR_CREATE
	expect "user.a,user.b|user.b,user.a" listxattr x
	expect 0 removexattr x user.a
	expect ENODATA removexattr x user.a
	expect user.b listxattr x
	expect 0 setxattr x trusted.t secret
	expect secret getxattr x trusted.t
	expect "ENODATA|EPERM" -u 1001 getxattr x trusted.t
	expect EPERM -u 1001 setxattr x trusted.u x
	expect "EACCES|EPERM" -u 1001 setxattr x user.u x
	forget x
done
make file f
expect 0 setxattr f user.empty ""
expect 0 getxattr-size f user.empty
long=user.$(printf 'a%.0s' $(seq 250))
expect 0 setxattr f "$long" v
expect v getxattr f "$long"
expect "ERANGE|ENAMETOOLONG" setxattr f "${long}a" v
expect EOPNOTSUPP setxattr f nonsense.x v
expect 0 setxattr-big f user.big 3000
expect 3000 getxattr-size f user.big
# 64 KiB is the most that the kernel passes on; file systems may take less.
if [ -z "${POSIX_DIR:-}" ]; then
	expect 0 setxattr-big f user.huge 65536
	expect 65536 getxattr-size f user.huge
	expect 0 removexattr f user.huge
fi
expect E2BIG setxattr-big f user.toobig 65537
expect 3000 getxattr-size f user.big
expect 0 removexattr f user.big
for i in $(seq 60); do get setxattr f user.many$i value$i; done >/dev/null
expect value37 getxattr f user.many37
same "$(get listxattr f | tr , '\n' | grep -c many)" 60 "sixty attributes are listed"
for i in $(seq 60); do get removexattr f user.many$i; done >/dev/null
get symlink f l >/dev/null
expect EPERM setxattr l user.x v
expect 0 setxattr l trusted.x v
make fifo p
expect EPERM setxattr p user.x v
before=$(get stat f ctime)
tick
expect 0 setxattr f user.c v
older "$before" "$(get stat f ctime)" "setxattr moves ctime"

# ACLs, through setfacl and getfacl.
if command -v setfacl >/dev/null; then
	get create a 600 >/dev/null
	expect EACCES -u 1001 open a O_RDONLY
	setfacl -m u:1001:r a
	ok $? "setfacl gives user 1001 read"
	expect 0 -u 1001 open a O_RDONLY
	expect EACCES -u 1001 open a O_WRONLY
	expect EACCES -u 1002 open a O_RDONLY
	expect 0640 stat a mode
	expect 0 chmod a 600
	expect EACCES -u 1001 open a O_RDONLY
	expect 0 chmod a 640
	expect 0 -u 1001 open a O_RDONLY
	setfacl -b a
	expect EACCES -u 1001 open a O_RDONLY
	make dir d
	setfacl -d -m u:1001:rwx,g::r-x,o::--- d
	ok $? "setfacl -d on a directory"
	expect 0 -U 022 create d/f 666
	expect 0 -u 1001 access d/f R_OK,W_OK
	expect EACCES -u 1002 open d/f O_RDONLY
	expect 0660 stat d/f mode
	expect 0 mkdir d/sub 777
	getfacl -ncp d/sub 2>/dev/null | grep -q '^default:user:1001:rwx'
	ok $? "a directory inherits the default ACL"
	setfacl -d -m u:1001:r a 2>/dev/null
	ok $([ $? != 0 ]; echo $?) "a file takes no default ACL"
	setfacl -k d
	expect 0 -U 022 create d/g 666
	expect 0644 stat d/g mode
else
	skip "ACLs" "setfacl is not installed"
fi
done_testing

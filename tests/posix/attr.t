#!/usr/bin/env bash
# chmod(2), chown(2), utimensat(2), access(2), file flags.
. "$(dirname "$0")/lib.sh"

for type in file dir fifo chr sock; do
	make $type x
	for mode in 0000 0644 0777 0111; do
		expect 0 chmod x $mode
		expect $mode stat x mode
	done
	forget x
done
make file f
expect 0 chmod f 7777
expect 7777 stat f mode
expect 0 chmod f 644
expect ENOENT chmod nothing 644
expect ENOTDIR chmod f/x 644
expect ENAMETOOLONG chmod "$name256" 644
expect EPERM -u 1001 chmod f 600
before=$(get stat f ctime)
tick
expect 0 chmod f 600
older "$before" "$(get stat f ctime)" "chmod moves ctime"
get chown f 1001 1002 >/dev/null
expect 0 -u 1001 chmod f 640
expect 0 -u 1001 -g 1003 chmod f 2640
expect 0640 stat f mode
expect 0 -u 1001 -g 1002 chmod f 2640
expect 2640 stat f mode

# chown.
expect 0 chown f 5 6
expect 5,6 stat f uid,gid
expect 0 chown f -1 7
expect 5,7 stat f uid,gid
expect 0 chown f 8 -1
expect 8,7 stat f uid,gid
expect EPERM -u 8 chown f 9 -1
expect EPERM -u 8 -g 7 chown f -1 99
expect 0 -u 8 -g 7,99 chown f -1 99
expect 99 stat f gid

expect ENOENT chown nothing 0 0
get symlink f l >/dev/null
expect 0 lchown l 11 12
expect 11,12 lstat l uid,gid
expect 8,99 stat l uid,gid
# A change of owner takes the set-id bits of a program.
get chown f 1001 1002 : chmod f 6755 >/dev/null
expect 0 -u 1001 -g 1002 chown f -1 1002
expect 0755 stat f mode

# Times to the nanosecond, before 1970 and past 2038.
expect 0 utimens f 1000000000.123456789 2000000000.987654321
expect 1000000000.123456789,2000000000.987654321 stat f atime,mtime
expect 0 utimens f 4000000000.000000001 15000000000
expect 4000000000.000000001,15000000000.000000000 stat f atime,mtime
expect 0 utimens f -1000 omit
expect -1000.000000000,15000000000.000000000 stat f atime,mtime
before=$(get stat f ctime)
tick
expect 0 utimens f omit now
older "$before" "$(get stat f ctime)" "utimens moves ctime"
same "$(get stat f mtime)" "$(get stat f ctime)" "now is the time of the change"
expect 0 utimens l 5 6 nofollow
expect 5.000000000 lstat l atime
expect EPERM -u 1005 utimens f 1 2
expect EACCES -u 1005 utimens f now now
get chmod f 666 >/dev/null
expect 0 -u 1005 utimens f now now
expect EPERM -u 1005 utimens f 1 2

# access.
get create a 640 : chown a 1001 1002 >/dev/null
expect 0 -u 1001 access a R_OK,W_OK
expect EACCES -u 1001 access a X_OK
expect 0 -u 1003 -g 1002 access a R_OK
expect EACCES -u 1003 -g 1002 access a W_OK
expect EACCES -u 1003 access a R_OK
expect EACCES access a X_OK
expect ENOENT access nothing F_OK

# Writing, reading and truncating move the right times.
get open w O_CREAT,O_WRONLY 644 : write @0 x >/dev/null
before=$(get stat w mtime)
tick
expect 1 open w O_WRONLY : write @0 y
older "$before" "$(get stat w mtime)" "write moves mtime"
same "$(get stat w mtime)" "$(get stat w ctime)" "and ctime with it"
before=$(get stat w mtime)
tick
expect 0 truncate w 100
older "$before" "$(get stat w mtime)" "truncate moves mtime"

# Flags of chattr(1).
if [ "$(get getflags w)" != ENOTTY ]; then
	expect 0 setflags w 0x10
	expect EPERM open w O_WRONLY
	expect EPERM unlink w
	expect EPERM chmod w 600
	expect EPERM link w wl
	expect EPERM rename w w2
	expect EPERM truncate w 0
	expect 0 setflags w 0x20
	expect EPERM open w O_WRONLY
	expect EPERM open w O_WRONLY,O_TRUNC
	expect 1 open w O_WRONLY,O_APPEND : write @0 z
	expect EPERM unlink w
	expect 0 setflags w 0
	expect 0 unlink w
	make dir fd
	expect 0 setflags fd 0x10
	expect EPERM create fd/x 644
	expect 0 setflags fd 0x20
	expect 0 create fd/x 644
	expect EPERM unlink fd/x
	expect 0 setflags fd 0
	expect 0 unlink fd/x
	make file nf
	expect EPERM -u 1001 setflags nf 0x40
	expect 0 setflags nf 0xc0
	expect '0x*c0' getflags nf
else
	skip "file flags" "FS_IOC_GETFLAGS is not there"
fi
done_testing

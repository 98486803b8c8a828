#!/usr/bin/env bash
# open(2): flags and errors.
. "$(dirname "$0")/lib.sh"

expect 5 open f O_CREAT,O_RDWR 644 : write @0 hello
expect hello open f O_RDONLY : read @0 100
expect 0 open f O_WRONLY,O_TRUNC : fstat @0 size
expect 0 stat f size
expect 5 open f O_WRONLY : write @0 first
expect 3 open f O_WRONLY,O_APPEND : write @0 end
expect firstend open f O_RDONLY : read @0 100
expect ENOENT open nofile O_RDONLY
expect ENOENT open nodir/x O_CREAT,O_WRONLY 644
expect EEXIST open f O_CREAT,O_EXCL,O_WRONLY 644
expect ENOTDIR open f O_RDONLY,O_DIRECTORY
expect ENOTDIR open f/x O_RDONLY
expect 0 mkdir d 755
expect EISDIR open d O_WRONLY
expect EISDIR open d O_RDWR
expect EISDIR open d O_RDONLY,O_CREAT 644
expect 0 open d O_RDONLY
expect EISDIR open d O_RDONLY : read @0 10
expect 0 symlink f l
expect ELOOP open l O_RDONLY,O_NOFOLLOW
expect firstend open l O_RDONLY : read @0 100
expect EEXIST open l O_CREAT,O_EXCL,O_WRONLY 644
expect 0 symlink loop2 loop1
expect 0 symlink loop1 loop2
expect ELOOP open loop1 O_RDONLY
expect 0 symlink made dangling
expect 0 open dangling O_CREAT,O_WRONLY 644
expect f lstat made type
expect ENAMETOOLONG open "$name256" O_RDONLY
expect EBADF open f O_RDONLY : write @0 x
expect EBADF open f O_WRONLY : read @0 1

# Permissions by class.
get create p 640 : chown p 1001 2002 >/dev/null
expect 0 -u 1001 open p O_RDWR
expect 0 -u 1003 -g 2002 open p O_RDONLY
expect EACCES -u 1003 -g 2002 open p O_WRONLY
expect EACCES -u 1003 open p O_RDONLY
expect 0 -u 1003 -g 1003,2002 open p O_RDONLY
get chmod p 0 >/dev/null
expect EACCES -u 1001 open p O_RDONLY
expect 0 open p O_RDWR
get mkdir closed 700 : create closed/f 666 : chmod closed/f 666 >/dev/null
expect EACCES -u 1001 open closed/f O_RDONLY
get chmod closed 711 >/dev/null
expect 0 -u 1001 open closed/f O_RDONLY
expect EACCES -u 1001 open closed O_RDONLY
expect EPERM -u 1001 open closed/f O_RDONLY,O_NOATIME

# O_TMPFILE: no name, then one.
expect 0 open . O_TMPFILE,O_RDWR 640 : fstat @0 nlink
expect 3 open . O_TMPFILE,O_RDWR 640 : write @0 abc
expect 0 open . O_TMPFILE,O_RDWR 640 : write @0 abc : linkat-fd @0 named
expect f,0640,1,3 stat named type,mode,nlink,size
expect abc open named O_RDONLY : read @0 10
expect ENOENT open . O_TMPFILE,O_EXCL,O_RDWR 640 : linkat-fd @0 never
expect EINVAL open . O_TMPFILE,O_RDONLY 640

# A truncating open, then shorter contents, read back exactly.
get open t O_CREAT,O_WRONLY 644 : write @0 "old contents that are long" >/dev/null
expect "new" open t O_WRONLY,O_TRUNC : write @0 new : open t O_RDONLY : read @1 100
expect 3 stat t size
done_testing

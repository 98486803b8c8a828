#!/usr/bin/env bash
# unlink(2), rmdir(2), link(2), symlink(2), readlink(2).
. "$(dirname "$0")/lib.sh"

for type in file fifo chr blk sock link; do
	make $type x
	expect 0 unlink x
	expect ENOENT lstat x type
done
make dir d
expect "EISDIR|EPERM" unlink d
expect ENOENT unlink nothing
make file f
expect ENOTDIR unlink f/x
expect ENOTDIR rmdir f
expect ENAMETOOLONG unlink "$name256"
expect ENAMETOOLONG rmdir "$name256"
make file d/x
expect "ENOTEMPTY|EEXIST" rmdir d
expect 0 unlink d/x
expect EINVAL rmdir d/.
expect "ENOTEMPTY|EEXIST|EBUSY" rmdir d/..
expect 0 rmdir d
expect ENOENT rmdir d

# Hard links.
expect 0 link f g
expect 2 stat f nlink
same "$(get stat f ino)" "$(get stat g ino)" "both names are one inode"
expect 0 chmod g 600
expect 0600 stat f mode
expect EEXIST link f g
expect ENOENT link nothing h
expect ENOENT link f nodir/h
expect ENOTDIR link f g/h
expect ENAMETOOLONG link f "$name256"
make dir d
expect EPERM link d dl
before=$(get stat f ctime)
tick
expect 0 unlink g
expect 1 stat f nlink
older "$before" "$(get stat f ctime)" "unlinking a name moves the inode's ctime"
before=$(get stat f ctime)
dirbefore=$(get stat . mtime)
tick
expect 0 link f g
older "$before" "$(get stat f ctime)" "linking moves the inode's ctime"
older "$dirbefore" "$(get stat . mtime)" "linking moves the directory's mtime"
get symlink f sl >/dev/null
expect 0 link sl sl2
expect l lstat sl2 type

# An open file lives on without a name.
expect 5 open u O_CREAT,O_RDWR 644 : unlink u : write @0 alive
expect 0,5 open u O_CREAT,O_RDWR 644 : write @0 alive : unlink u : fstat @0 nlink,size
expect alive open u O_CREAT,O_RDWR 644 : write @0 alive : unlink u : pread @0 10 0

# Symlinks.
expect 0 symlink target s
expect target readlink s
expect l,6,0777 lstat s type,size,mode
expect EEXIST symlink target s
expect EINVAL readlink f
expect ENOENT readlink nothing
expect ENOENT symlink "" e
expect ENAMETOOLONG symlink x "$name256"
expect ENOTDIR symlink x f/l
long=$(printf 'x%.0s' $(seq 1000))
expect 0 symlink "$long" longlink
expect "$long" readlink longlink
expect 1000 lstat longlink size
long=$(printf 'y%.0s' $(seq 4095))
expect 0 symlink "$long" longest
expect "$long" readlink longest
expect ENAMETOOLONG symlink "${long}y" toolong
expect 0 unlink longest
expect 0 unlink longlink

# Sticky directories: only the owner of the name or of the directory.
get mkdir sticky 755 : chmod sticky 1777 >/dev/null
get -u 1001 create sticky/mine 644 >/dev/null
expect EPERM -u 1002 unlink sticky/mine
expect 0 -u 1001 unlink sticky/mine
get chown sticky 1002 1002 >/dev/null
get -u 1001 mkdir sticky/dir 755 >/dev/null
expect 0 -u 1002 rmdir sticky/dir
get -u 1001 mkdir sticky/dir 755 >/dev/null
expect EPERM -u 1003 rmdir sticky/dir
expect EPERM -u 1003 rename sticky/dir sticky/other
expect 0 -u 1001 rename sticky/dir sticky/other

# Permission of the parent.
get mkdir ro 755 : create ro/f 666 : chown ro/f 1001 1001 : mkdir ro/d 777 >/dev/null
expect EACCES -u 1001 unlink ro/f
expect EACCES -u 1001 rmdir ro/d
expect EACCES -u 1001 link ro/f ro/g
expect EACCES -u 1001 symlink x ro/s
done_testing

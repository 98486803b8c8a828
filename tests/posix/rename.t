#!/usr/bin/env bash
# rename(2) and renameat2(2).
. "$(dirname "$0")/lib.sh"

for type in file fifo chr blk sock link; do
	make $type a
	ino=$(get lstat a ino)
	expect 0 rename a b
	same "$ino" "$(get lstat b ino)" "$type: same inode under the new name"
	expect ENOENT lstat a type
	make $type a
	ino=$(get lstat a ino)
	expect 0 rename a b
	same "$ino" "$(get lstat b ino)" "$type: replaced"
	expect 0 unlink b
done

make dir d1
make dir d2
ino=$(get stat d1 ino)
expect 0 rename d1 d2
same "$ino" "$(get stat d2 ino)" "an empty directory is replaced"
make dir d1
make file d2/x
expect "ENOTEMPTY|EEXIST" rename d1 d2
make file f
expect ENOTDIR rename d1 f
expect EISDIR rename f d1
expect ENOENT rename nothing x
expect ENOENT rename f nodir/x
expect ENOENT rename f f2/x
expect EINVAL rename d1 d1/sub
make dir d1/sub
expect EINVAL rename d1 d1/sub/deeper
expect ENAMETOOLONG rename f "$name256"
expect "EBUSY|EINVAL" rename d1/. x
expect 0 rename f f
expect f stat f type

# Two names of one inode: nothing happens.
get link f g >/dev/null
expect 0 rename f g
expect 2 stat f nlink

# Parents: link counts and "..".
get mkdir p1 755 : mkdir p2 755 : mkdir p1/c 755 >/dev/null
expect 3 stat p1 nlink
expect 0 rename p1/c p2/c
expect 2 stat p1 nlink
expect 3 stat p2 nlink
same "$(get stat p2/c/.. ino)" "$(get stat p2 ino)" ".. names the new parent"
get create replaced 644 : link replaced other >/dev/null
make file new
expect 0 rename new replaced
expect 1 stat other nlink

# Times.
make file t
before=$(get stat t ctime)
dirbefore=$(get stat . mtime)
tick
expect 0 rename t t2
older "$before" "$(get stat t2 ctime)" "ctime of the file moved"
older "$dirbefore" "$(get stat . mtime)" "mtime of the directory moved"

# renameat2.
get create n1 644 : create n2 600 >/dev/null
expect EEXIST renameat2 n1 n2 RENAME_NOREPLACE
expect 0 renameat2 n1 n3 RENAME_NOREPLACE
i3=$(get stat n3 ino)
i2=$(get stat n2 ino)
expect 0 renameat2 n3 n2 RENAME_EXCHANGE
same "$i3,$i2" "$(get stat n2 ino),$(get stat n3 ino)" "the two names were exchanged"
expect ENOENT renameat2 n2 nothing RENAME_EXCHANGE
get mkdir e1 755 : mkdir e2 755 : mkdir e1/dir 755 : create e2/file 644 >/dev/null
expect 0 renameat2 e1/dir e2/file RENAME_EXCHANGE
expect f stat e1/dir type
expect d stat e2/file type
expect 2 stat e1 nlink
expect 3 stat e2 nlink
same "$(get stat e2/file/.. ino)" "$(get stat e2 ino)" ".. after the exchange"
expect EINVAL renameat2 e2 e2/file RENAME_EXCHANGE
expect EINVAL renameat2 n2 n3 RENAME_NOREPLACE,RENAME_EXCHANGE
make file w
expect 0 renameat2 w w2 RENAME_WHITEOUT
expect c,0,0 lstat w type,major,minor
expect f lstat w2 type

# Permissions.
get mkdir ro 755 : create ro/f 644 : mkdir rw 777 : chmod rw 777 : create rw/f 644 >/dev/null
expect EACCES -u 1001 rename ro/f ro/g
expect EACCES -u 1001 rename ro/f rw/g
expect EACCES -u 1001 rename rw/f ro/g
expect 0 -u 1001 rename rw/f rw/g
done_testing

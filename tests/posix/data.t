#!/usr/bin/env bash
# truncate(2), ftruncate(2), write(2) at odd places, lseek(2), fallocate(2), copy_file_range(2), mmap(2).
. "$(dirname "$0")/lib.sh"

make file f
expect 0 truncate f 1234567
expect 1234567 stat f size
expect 0 truncate f 567
expect 567 stat f size
expect 0 truncate f 0
expect EINVAL truncate f -1
expect ENOENT truncate nothing 0
make dir d
expect EISDIR truncate d 0
expect EACCES -u 1001 truncate f 0
expect EINVAL open f O_RDONLY : ftruncate @0 0
expect "0|EFBIG|EINVAL" truncate f 9223372036854775807
expect 0 truncate f 0

# Truncate down and up again shows zeros.
expect "ab........" open g O_CREAT,O_RDWR 644 : write @0 abcdefghij : ftruncate @0 2 : ftruncate @0 10 : pread @0 20 0
# A hole in front.
expect "....x" open h O_CREAT,O_RDWR 644 : pwrite @0 x 1000000 : pread @0 5 999996
expect 1000001 stat h size
# Far out.
expect 1 open far O_CREAT,O_RDWR 644 : pwrite @0 y 1099511627775
expect 1099511627776 stat far size
expect "y" open far O_RDONLY : pread @0 10 1099511627775
expect "..." open far O_RDONLY : pread @0 3 549755813888
expect 0 unlink far
# Reading at and past the end.
expect 0 open g O_RDONLY : pread @0 10 10
expect 0 open g O_RDONLY : pread @0 10 100000

# SEEK_DATA and SEEK_HOLE right after writing, without a sync.
get open s O_CREAT,O_RDWR 644 : pwrite @0 data 1048576 : ftruncate @0 4194304 >/dev/null
expect 1048576 open s O_RDONLY : lseek @0 0 SEEK_DATA
expect 0 open s O_RDONLY : lseek @0 0 SEEK_HOLE
hole=$(get open s O_RDONLY : lseek @0 1048576 SEEK_HOLE)
ok $([ "$hole" -gt 1048576 ] && [ "$hole" -le 1114112 ]; echo $?) "a hole follows the data ($hole)"
expect ENXIO open s O_RDONLY : lseek @0 2097152 SEEK_DATA
expect ENXIO open s O_RDONLY : lseek @0 4194304 SEEK_HOLE
expect ENXIO open s O_RDONLY : lseek @0 -1 SEEK_DATA
expect EINVAL open s O_RDONLY : lseek @0 -1 SEEK_SET
expect 4194304 open s O_RDONLY : lseek @0 0 SEEK_END

# fallocate.
expect 0 open fa O_CREAT,O_RDWR 644 : fallocate @0 0 0 1000000
expect 1000000 stat fa size
ok $([ "$(get stat fa blocks)" -ge 1952 ]; echo $?) "space was given"
expect 0 open fk O_CREAT,O_RDWR 644 : fallocate @0 FALLOC_FL_KEEP_SIZE 0 1000000
expect 0 stat fk size
expect 0 open fp O_CREAT,O_RDWR 644 : write @0 0123456789 : fallocate @0 FALLOC_FL_PUNCH_HOLE,FALLOC_FL_KEEP_SIZE 2 3
expect "01...56789" open fp O_RDONLY : pread @0 20 0
expect 0 open fz O_CREAT,O_RDWR 644 : write @0 0123456789 : fallocate @0 FALLOC_FL_ZERO_RANGE 5 10
expect "01234.........." open fz O_RDONLY : pread @0 20 0
expect 15 stat fz size
expect 0 open fz O_RDWR : fallocate @0 FALLOC_FL_ZERO_RANGE,FALLOC_FL_KEEP_SIZE 0 100
expect 15 stat fz size
expect EINVAL open fa O_RDWR : fallocate @0 0 0 0
expect EINVAL open fa O_RDWR : fallocate @0 0 -1 10
expect EBADF open fa O_RDONLY : fallocate @0 0 0 10
expect EOPNOTSUPP open fa O_RDWR : fallocate @0 FALLOC_FL_PUNCH_HOLE 0 10
expect EFBIG open fa O_RDWR : fallocate @0 0 9223372036854775000 1000
expect "ENODEV|ESPIPE|EBADF|EISDIR" open d O_RDONLY : fallocate @0 0 0 10

# copy_file_range.
get open c1 O_CREAT,O_RDWR 644 : write @0 abcdefghijklmnop >/dev/null
expect 5 open c1 O_RDONLY : open c2 O_CREAT,O_RDWR 644 : copy_file_range @0 3 @1 2 5
expect "..defgh" open c2 O_RDONLY : pread @0 20 0
expect 0 open c1 O_RDONLY : open c2 O_RDWR : copy_file_range @0 100 @1 0 5
expect 8 open c1 O_RDWR : copy_file_range @0 0 @0 8 8
expect abcdefghabcdefgh open c1 O_RDONLY : pread @0 20 0
expect EINVAL open c1 O_RDWR : copy_file_range @0 0 @0 4 8
expect EBADF open c1 O_RDONLY : open c2 O_RDONLY : copy_file_range @0 0 @1 0 5

# A store through a shared mapping is seen by read, lseek and a sparse copy.
get open m O_CREAT,O_RDWR 644 : ftruncate @0 1048576 : mmap-store @0 524288 MAPPED >/dev/null
expect MAPPED open m O_RDONLY : pread @0 6 524288
expect 524288 open m O_RDONLY : lseek @0 0 SEEK_DATA
expect 524288 open m2 O_CREAT,O_RDWR 644 : ftruncate @0 1048576 : mmap-store @0 524288 LIVE : lseek @0 0 SEEK_DATA
cp --sparse=auto m m3
cmp -s m m3
ok $? "cp --sparse=auto keeps the store"

# Unaligned direct I/O is refused or right, aligned is right.
dd if=/dev/urandom of=rnd bs=64k count=4 status=none
dd if=rnd of=direct bs=64k oflag=direct status=none
cmp -s rnd direct
ok $? "aligned O_DIRECT writes"
dd if=direct bs=64k iflag=direct status=none | cmp -s - rnd
ok $? "aligned O_DIRECT reads"
expect 0 open direct O_RDWR,O_SYNC : fsync @0
expect 3 open direct O_RDWR,O_DSYNC : pwrite @0 abc 7 : pread @0 3 7 : fdatasync @0 : pwrite @0 abc 7
done_testing

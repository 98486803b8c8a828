#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fsck.iomapfs on an image that people could have made: damage, repair, mount, use.
. "$(dirname "$0")/lib.sh"
seed=${IOMAPFS_SEED:-1}
damage=$here/../support/damage.py
repaired() { fsck.iomapfs -y "$img" >"$tmp/out" 2>&1; local rc=$?; [ $rc = 1 ] || { sed 's/^/# /' "$tmp/out" | head -n 40; return 1; }; }
sums() { (cd "$mnt" && find . -path ./lost+found -prune -o -type f -print0 | sort -z | xargs -0 sha256sum); }

mkfs_it
mount_it
fresh=$(stat -f -c '%f %d' "$mnt")
cp -r /usr/include/linux "$mnt/tree"
mkdir "$mnt/many" && (cd "$mnt/many" && seq -f 'a-rather-long-name-to-fill-the-blocks-%g' 4000 | xargs touch)
mkdir -p "$mnt/deep/er/est" && echo deep >"$mnt/deep/er/est/file"
python3 - "$mnt" <<'P'
import os, sys
with open(sys.argv[1] + "/holes", "wb") as f:
    for i in range(400):
        f.seek(i * 131072)
        f.write(b"%08d" % i * 512)
os.setxattr(sys.argv[1] + "/holes", "user.long", b"x" * 30000)
os.symlink("t" * 3000, sys.argv[1] + "/longlink")
os.link(sys.argv[1] + "/holes", sys.argv[1] + "/deep/holes")
P
sync -f "$mnt"
sums >"$tmp/before"
umount_it
fsck_it

# All that groups say about space and inodes: every file is there afterwards.
cp --sparse=always "$img" "$tmp/whole"
"$damage" "$img" "$seed" 0 IMBG IMAG >"$tmp/damage"
ok $? "every group header and every node of groups' trees is damaged: $(tail -n 1 "$tmp/damage")"
! fsck.iomapfs -n "$img" >/dev/null
ok $? "fsck -n tells"
repaired
ok $? "fsck -y repairs it"
fsck.iomapfs -n "$img" >/dev/null
ok $? "a second run finds nothing"
mount_it
sums | cmp -s - "$tmp/before"
ok $? "every file is there, byte for byte"
same "$(cat "$mnt/deep/er/est/file") $(stat -c %h "$mnt/holes")" "deep 2" "names and links too"
umount_it
fsck_it

# Some of everything, by seed: what is left is sound, can be used, and can be removed.
bad=0
for round in 1 2 3 4 5 6; do
	cp --sparse=always "$tmp/whole" "$img"
	"$damage" "$img" $((seed * 10 + round)) 6 IMBG IMAG IMBT IMIN IMDR IMBL >"$tmp/damage"
	repaired || { bad=1; sed 's/^/# /' "$tmp/damage"; continue; }
	fsck.iomapfs -n "$img" >/dev/null || { bad=1; echo "# round $round: not clean"; }
	mount_it || { bad=1; continue; }
	echo "# round $round: $(sums | sort | comm -12 - <(sort "$tmp/before") | wc -l) of $(wc -l <"$tmp/before") files as before, $(find "$mnt/lost+found" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l) in lost+found"
	echo works >"$mnt/new" && grep -q works "$mnt/new" || bad=1
	rm -rf "${mnt:?}"/* || bad=1
	umount_it
	fsck_it
	mount_it
	[ "$(stat -f -c '%f' "$mnt")" -ge $((${fresh% *} - 64)) ] || { bad=1; echo "# $(stat -f -c '%f' "$mnt") blocks free, $fresh when new"; }
	umount_it
done
ok $bad "six damaged images are repaired, used and emptied"

# A directory block lost: its files are in lost+found, with their contents.
cp --sparse=always "$tmp/whole" "$img"
mount_it
before=$(find "$mnt/tree" -type f -exec sha256sum {} + | cut -c1-64 | sort)
ino=$(stat -c %i "$mnt/tree")
umount_it
python3 - "$img" "$ino" <<'P'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    n = 0
    while b := f.read(4096):
        if b[:4] == b"IMDR" and struct.unpack_from("<Q", b, 24)[0] == int(sys.argv[2]) and struct.unpack_from("<Q", b, 32)[0] == n:
            f.seek(n * 4096 + 100)
            f.write(b"damage")
            f.seek((n + 1) * 4096)
        n += 1
P
repaired
ok $? "all names of a directory are lost: fsck -y repairs it"
grep -q 'goes to lost+found' "$tmp/out"
ok $? "and says where files go"
mount_it
find "$mnt/lost+found" "$mnt/tree" -type f -exec sha256sum {} + | cut -c1-64 | sort >"$tmp/after"
[ "$(wc -l <"$tmp/after")" -gt 100 ] && echo "$before" | cmp -s - "$tmp/after"
ok $? "the files are in lost+found, byte for byte: $(wc -l <"$tmp/after")"
umount_it
fsck_it

# A daemon that was killed: -p replays its journal and is content.
cp --sparse=always "$tmp/whole" "$img"
mount_it
echo kept >"$mnt/kept" && sync -f "$mnt"
kill -9 "$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')"
cp --sparse=always "$img" "$tmp/crashed"
umount -l "$mnt"
fsck.iomapfs -p "$tmp/crashed" >"$tmp/out"
same "$? $(grep -c 'its journal was replayed' "$tmp/out")" "1 1" "after a kill fsck -p replays the journal"
fsck.iomapfs -p "$tmp/crashed" | grep -q 'not looked at'
ok $? "a second fsck -p takes it for clean"
iomapctl wait --timeout 20 "$img"
cp --sparse=always "$tmp/crashed" "$img"
mount_it
same "$(cat "$mnt/kept" 2>&1)" kept "and what was synced is there"

# Mounted: refused, and nothing written.
fsck.iomapfs -y "$img" >"$tmp/out" 2>&1
same "$? $(grep -c 'is mounted or in use' "$tmp/out")" "8 1" "a mounted image is refused"
umount_it

# Multiple-mount protection: the mark of a repair, and of one that was interrupted.
mkfs.iomapfs -q -f --mmp=1 "$img"
printf '\252' | dd of="$img" bs=1 seek=8300 conv=notrunc status=none
repaired
ok $? "with multiple-mount protection fsck claims the device and gives it back"
mount_it
ok $? "the next mount finds nobody there"
umount_it
fsck_it
done_testing

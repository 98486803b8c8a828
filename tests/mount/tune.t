#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# iomapctl tune --reflink on a file system made without: refused where it must be, and what it switches on.
. "$(dirname "$0")/lib.sh"

truncate -s 64M "$img" && mkfs.iomapfs -q --no-reflink "$img"
mount_it
head -c 3000000 /dev/urandom >"$mnt/a" && sum=$(sha256sum <"$mnt/a")
fails 1 "made without shared blocks" "without reflink no clone" iomapctl clone "$mnt/a" "$mnt/b"
fails 1 "in use.*unmount it first" "mounted" iomapctl tune --reflink "$img"
fails 1 "give the device" "the mount point" iomapctl tune --reflink "$mnt"
fails 2 "run it twice" "with what takes a mounted one" iomapctl tune --reflink --label x "$mnt"
fails 2 "say --label.*--reflink" "nothing to change" iomapctl tune "$mnt"
fails 1 "No such file" "no such file" iomapctl tune --reflink "$tmp/none"
sync -f "$mnt"
echo more >"$mnt/more" && sync "$mnt/more"
pid=$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')
kill -KILL "$pid"
iomapctl wait --timeout 20 "$img"
umount -l "$mnt"
before=$(sha256sum <"$img")
fails 1 "was not unmounted; mount and unmount it" "after a crash" iomapctl tune --reflink "$img"
same "$(sha256sum <"$img")" "$before" "nothing was written"
truncate -s 1M "$tmp/other"
fails 1 "holds no iomapfs" "something else" iomapctl tune --reflink "$tmp/other"

mount_it
same "$(iomapctl info "$mnt" | sed -n 's/^features_ro_compat *//p')" - "still no such feature"
umount_it
iomapctl tune --reflink "$img"
ok $? "clean and unmounted: done"
fsck_it
before=$(sha256sum <"$img")
same "$(iomapctl tune --json --reflink "$img" | python3 -c 'import json,sys; print(json.load(sys.stdin)["reflink"])')" \
	True "again: nothing to do"
same "$(sha256sum <"$img")" "$before" "nothing was written"
mount_it
same "$(iomapctl info "$mnt" | sed -n 's/^features_ro_compat *//p')" reflink "the feature is there"
: >"$mnt/b"
iomapctl clone "$mnt/a" "$mnt/b"
ok $? "clone"
same "$(sha256sum <"$mnt/b")" "$sum" "has the bytes"
iomapctl --json fiemap "$mnt/b" | grep -q shared
ok $? "and shares them"
echo new | dd of="$mnt/b" bs=4096 seek=3 conv=notrunc status=none
same "$(sha256sum <"$mnt/a")" "$sum" "a write to the clone leaves the source"
umount_it
fsck_it

# No room for the counts.
truncate -s 64M "$img" && mkfs.iomapfs -q -f --no-reflink "$img"
mount_it
dd if=/dev/zero of="$mnt/full" bs=1M status=none 2>/dev/null
rm "$mnt/full" && dd if=/dev/zero of="$mnt/full" bs=1M status=none 2>/dev/null
umount_it
fails 1 "group [0-9] of [0-9] has [0-9]+ KiB free.*delete or move files" "full" iomapctl tune --reflink "$img"
fsck_it
done_testing

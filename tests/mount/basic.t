#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The mount command itself: silent when it works, what it leaves, remounts, layout by stock tools.
. "$(dirname "$0")/lib.sh"
mkfs_it

same "$(mount_it 2>&1; echo rc $?)" "rc 0" "a mount that works prints nothing"
grep -q " $mnt fuseblk.iomapfs rw,.*blksize=4096" /proc/mounts
ok $? "an image is mounted through fuseblk"
! grep " $mnt " /proc/mounts | grep -Eq "nosuid|nodev"
ok $? "root's mounts have suid and dev"
fails 32 "in use" "a second mount of the same image" mount.iomapfs "$img" "$mnt"
same "$(grep -c " $mnt " /proc/mounts)" 1 "which leaves nothing mounted"

dd if=/dev/urandom of="$mnt/data" bs=1M count=64 status=none
sum=$(sha256sum <"$mnt/data")
sync -f "$mnt"
frag=$(filefrag -e -v "$mnt/data" | awk '$1 ~ /^[0-9]+:$/ { gsub(/[:.]/, " "); printf "%d+%d@%d ", $2, $3 - $2 + 1, $4 }')
own=$(iomapctl fiemap --json "$mnt/data" | python3 -c '
import json, sys
runs = []
for e in json.load(sys.stdin)["extents"]:
    o, l, a = (e[k] // 4096 for k in ("offset", "length", "address"))
    if runs and runs[-1][0] + runs[-1][1] == o and runs[-1][2] + runs[-1][1] == a:
        runs[-1][1] += l
    else:
        runs.append([o, l, a])
print("".join("%d+%d@%d " % tuple(r) for r in runs), end="")')
same "$frag" "$own" "filefrag and iomapctl fiemap agree on physical numbers"

mount.iomapfs -o remount,ro "$img" "$mnt"
ok $? "remount read-only"
! touch "$mnt/x" 2>/dev/null
ok $? "and no writing then"
same "$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["readonly"])')" True "the daemon knows it"
mount.iomapfs -o remount,rw,noatime "$img" "$mnt" && touch "$mnt/x"
ok $? "remount read-write"
grep " $mnt " /proc/mounts | grep -q noatime
ok $? "with noatime"
fails 1 "commit=0" "a remount with a bad option" mount.iomapfs -o remount,commit=0 "$img" "$mnt"
started=$(date +%s)
umount_it
ok $? "unmount"
iomapctl wait --timeout 5 "$img"
ok $? "iomapctl wait returns"
ok $(($(date +%s) - started > 5)) "without delay"
fsck_it
mount_it ro
ok $? "mount read-only"
same "$(sha256sum <"$mnt/data")" "$sum" "contents are those written"
before=$(sha256sum <"$img")
ls -lR "$mnt" >/dev/null
umount_it
same "$(sha256sum <"$img")" "$before" "a read-only mount wrote nothing"

# Words of fstab that are for others.
mount_it "nofail,noauto,_netdev,x-systemd.automount,x-gvfs-hide,comment=hello,user,exec,suid,dev"
ok $? "fstab words are accepted"
umount_it
mount_it
mkdir "$mnt/d"
iomapctl stats --json "$mnt" | python3 -c 'import json,sys; s=json.load(sys.stdin); sys.exit(s["requests"]["MKDIR"]["count"] != 1)'
ok $? "iomapctl stats counts requests"
iomapctl tune --label newlabel "$mnt" && iomapctl info "$mnt" | grep -q newlabel
ok $? "iomapctl tune changes the label"
iomapctl trim "$mnt" >/dev/null
ok $? "iomapctl trim"
feature_list() { # of the mounted file system: NAME, words or "-"
	iomapctl info "$mnt" | sed -n "s/^features_$1 *//p"
}
same "$(feature_list ro_compat)" reflink "iomapctl info names a feature"
same "$(feature_list incompat)" - "and says where there is none"
same "$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["features_ro_compat"])')" \
	"['reflink']" "as a list in JSON"
echo json >"$mnt/j"
bad=0
json() { iomapctl --json "$@" | python3 -c 'import json,sys; sys.exit(not json.load(sys.stdin))' || { echo "# $*"; bad=1; }; }
json fiemap "$mnt/j"; json info "$mnt"; json stats "$mnt"; json trim "$mnt"; json tune --label newlabel "$mnt"

# SIGTERM unmounts.
pid=$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')
echo last >"$mnt/last"
kill -TERM "$pid"
iomapctl wait --timeout 20 "$img"
ok $? "SIGTERM ends the daemon"
! mountpoint -q "$mnt"
ok $? "and the mount"
fsck_it
iomapctl probe "$img" | grep -q 'LABEL="newlabel" TYPE="iomapfs"'
ok $? "iomapctl probe finds type and label"
json wait "$img"; json probe "$img"; json metadump -o "$tmp/dump" "$img"
mount_it && json shutdown "$mnt" && umount_it
ok $bad "every command of iomapctl speaks JSON"
iomapctl probe --udev "$img" | grep -q '^ID_FS_TYPE=iomapfs$'
ok $? "iomapctl probe --udev speaks udev"

# A dead mount at the target.
mount_it
echo safe >"$mnt/safe" && sync -f "$mnt"
pid=$(iomapctl info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')
kill -KILL "$pid"
while kill -0 "$pid" 2>/dev/null && ! grep -q zombie "/proc/$pid/status" 2>/dev/null; do sleep 0.05; done
! stat "$mnt" >/dev/null 2>&1
ok $? "after kill -9 the mount is dead"
mount_it
ok $? "mounting again detaches it and goes on"
same "$(cat "$mnt/safe" "$mnt/last")" "$(printf 'safe\nlast')" "what was synced is there"
umount_it
fsck_it

# Bits of a newer version that need not be understood.
for group in 0 1 2 3; do
	iomapctl debug "$img" set "sb:$group" compat=0x90 >/dev/null || ok 1 "debug set"
done
mount_it
same "$(feature_list compat)" "0x10 0x80" "features that have no name are numbers"
umount_it
fsck_it
done_testing

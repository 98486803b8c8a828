#!/usr/bin/env bash
# With the device stalled, cached stat, read and write on all CPUs still answer. The device is an image on
# an ext4 that is frozen: every write to it waits, as on a dead path.
. "$(dirname "$0")/../posix/lib.sh"
cd /
umount "$mnt"

mkdir "$tmp/host"
truncate -s 600M "$tmp/host.img"
mkfs.ext4 -q -F "$tmp/host.img" && mount -o loop "$tmp/host.img" "$tmp/host" || { echo "Bail out! no ext4"; exit 1; }
thaw() {
	fsfreeze -u "$tmp/host" 2>/dev/null
	umount "$mnt" 2>/dev/null
	umount "$tmp/host" || umount -l "$tmp/host"
}
trap 'thaw; cleanup' EXIT
dd if=/dev/zero of="$tmp/host/img" bs=1M count=256 status=none
"$IOMAPFS_BIN/mkfs.iomapfs" -q -K "$tmp/host/img" && "$IOMAPFS_BIN/mount.iomapfs" -o "$IOMAPFS_MOUNT_OPTIONS" "$tmp/host/img" "$mnt"
ok $? "mount from an image on ext4"
mkdir "$mnt/d" && dd if=/dev/urandom of="$mnt/d/cached" bs=1M count=8 status=none && sync -f "$mnt"
sum=$(sha256sum <"$mnt/d/cached")
stat "$mnt/d/cached" >/dev/null
dd if=/dev/zero of="$mnt/d/dirty" bs=64k count=16 status=none
fsfreeze -f "$tmp/host"
ok $? "the device is stalled"
sync -f "$mnt" & # waits for the device, and must not stop the others
syncer=$!
sleep 0.3
for cpu in $(seq 0 $(($(nproc) - 1))); do
	timeout 10 taskset -c "$cpu" stat "$mnt/d/cached" >/dev/null
	ok $? "stat on CPU $cpu"
	same "$(timeout 10 taskset -c "$cpu" sha256sum <"$mnt/d/cached")" "$sum" "read of cached data on CPU $cpu"
	timeout 10 taskset -c "$cpu" dd if=/dev/zero of="$mnt/d/dirty" bs=64k count=16 conv=notrunc status=none
	ok $? "write on CPU $cpu"
done
kill -0 $syncer 2>/dev/null
ok $? "sync is still waiting"
fsfreeze -u "$tmp/host"
wait $syncer
ok $? "and ends once the device is back"
umount "$mnt" && "$IOMAPFS_BIN/fsck.iomapfs" -n "$tmp/host/img" >"$tmp/fsck.log" 2>&1
ok $? "unmount, and fsck.iomapfs is clean"
done_testing

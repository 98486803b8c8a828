#!/usr/bin/env bash
# What `meson install` puts in place, used as users do: mount -t iomapfs, mount -t fuse.iomapfs, fstab,
# -o remount, umount. All in a mount namespace of its own: the installed tree lies over the real one there.
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" = 0 ] && [ -z "${INSTALL_T_INSIDE:-}" ]; then
	INSTALL_T_INSIDE=1 exec unshare -m --propagation private bash "$here/install.t"
fi
. "$here/lib.sh"

build=$(cd "$IOMAPFS_BIN/.." && pwd)
DESTDIR=$tmp/root meson install -C "$build" --no-rebuild >"$tmp/install.log" 2>&1
ok $? "meson install into a DESTDIR"
over() { # lay DIR of the installed tree over the real one
	mkdir -p "$tmp/root$1" "$tmp/upper$1" "$tmp/work$1"
	cp -a "$tmp/root$2/." "$tmp/upper$1/"
	mount -t overlay overlay -o "lowerdir=$1,upperdir=$tmp/upper$1,workdir=$tmp/work$1" "$1"
}
sbin=$(readlink -f /sbin)
over "$sbin" /sbin && over /usr/local/bin /usr/local/bin && over /usr/local/sbin /usr/local/sbin
ok $? "the installed tree lies over the real one"
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
truncate -s 128M "$img" && mkfs.iomapfs -q "$img"
ok $? "mkfs.iomapfs is found"
say=$(mount -t iomapfs "$img" "$mnt" 2>&1)
ok $? "mount -t iomapfs"
same "$say" "" "a mount that worked prints nothing"
echo hello >"$mnt/f"
mount -o remount,ro "$mnt" 2>"$tmp/err"
ok $? "mount -o remount,ro"
sed 's/^/# /' "$tmp/err"
! : 2>/dev/null >"$mnt/g"
ok $? "writing is refused then"
mount -o remount,rw "$mnt"
ok $? "mount -o remount,rw"
: >"$mnt/g"
ok $? "writing is possible again"
umount "$mnt"
ok $? "umount"
mount -t fuse.iomapfs "$img" "$mnt" && [ "$(cat "$mnt/f")" = hello ]
ok $? "mount -t fuse.iomapfs"
umount "$mnt"
printf '%s %s iomapfs defaults,noatime,nofail,_netdev,x-systemd.automount,comment=words 0 0\n' "$img" "$mnt" >"$tmp/fstab"
touch /etc/fstab 2>/dev/null
mount --bind "$tmp/fstab" /etc/fstab && mount "$mnt" && [ "$(cat "$mnt/f")" = hello ]
ok $? "an fstab line with the words of fstab"
grep " $mnt " /proc/mounts | grep -q noatime
ok $? "noatime reached the kernel"
umount "$mnt"
mount -t iomapfs -o nonsense "$img" "$mnt" 2>"$tmp/err"
ok $([ $? != 0 ]; echo $?) "an unknown option is refused"
grep -q nonsense "$tmp/err"
ok $? "by name"
! mountpoint -q "$mnt"
ok $? "and nothing is left mounted"
mount -t iomapfs -o ro "$img" "$mnt" && [ "$(cat "$mnt/f")" = hello ] && ! : 2>/dev/null >"$mnt/h"
ok $? "mount -o ro"
umount "$mnt"
fsck -t iomapfs "$img" -n >"$tmp/out" 2>&1 || fsck.iomapfs -n "$img" >"$tmp/out" 2>&1
ok $? "fsck finds it clean"
umount /etc/fstab
done_testing

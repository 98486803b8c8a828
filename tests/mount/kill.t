#!/usr/bin/env bash
# The daemon killed at any moment: what was synced is there, the dead mount is replaced by the next one,
# and fsck finds nothing. Also the daemon of a mount that is idle.
. "$(dirname "$0")/../posix/lib.sh"

pid_of() { "$IOMAPFS_BIN/iomapctl" info --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])'; }
revive() { # after a kill: mount over the dead mount, which must need no umount
	"$IOMAPFS_BIN/mount.iomapfs" -o "$IOMAPFS_MOUNT_OPTIONS" "$tmp/img" "$mnt" && cd "$dir"
}

# Every kind of promise, then a kill at once.
echo fsynced >a && "$sys" open a O_RDWR : fsync @0 >/dev/null
printf 'dsync' | dd of=b oflag=dsync status=none
dd if=/dev/urandom of=c bs=1M count=3 status=none
mkdir -p d/e && ln a d/e/link && ln -s a d/soft
sum=$(sha256sum <c)
sync -f .
echo lost-perhaps >after
pid=$(pid_of)
kill -9 "$pid"
cd /
revive
ok $? "the next mount replaces the dead one"
same "$(grep -c " $mnt " /proc/mounts)" 1 "and took it away"
same "$(cat a)" fsynced "fsync kept its promise"
same "$(cat b)" dsync "O_DSYNC kept its promise"
same "$(sha256sum <c)" "$sum" "syncfs kept its promise for data"
same "$(stat -c %h a) $(readlink d/soft)" "2 a" "and for names"

# Random moments under load.
seed=${IOMAPFS_SEED:-$(date +%s)}
echo "# seed $seed"
RANDOM=$seed
rounds=${KILL_ROUNDS:-12}
bad=0
for round in $(seq "$rounds"); do
	(
		i=0
		while :; do
			i=$((i + 1))
			dd if=/dev/zero of="load$((i % 7))" bs=$((RANDOM % 60000 + 1)) count=5 status=none 2>/dev/null || exit 0
			mv "load$((i % 7))" "moved$((i % 5))" 2>/dev/null || exit 0
			[ $((i % 3)) != 0 ] || rm -f "moved$((RANDOM % 5))" 2>/dev/null
		done
	) &
	loader=$!
	echo "round $round" >"stamp$round" && "$sys" open "stamp$round" O_RDWR : fsync @0 >/dev/null
	sleep "0.$((RANDOM % 900 + 100))"
	kill -9 "$(pid_of)"
	wait $loader 2>/dev/null
	cd /
	# The dead mount still holds the image's loop device: judge a copy.
	cp --sparse=always "$tmp/img" "$tmp/copy"
	"$IOMAPFS_BIN/fsck.iomapfs" -n "$tmp/copy" >"$tmp/fsck.log" 2>&1 || { bad=1; sed 's/^/# before recovery: /' "$tmp/fsck.log"; }
	revive || { bad=1; break; }
	for r in $(seq "$round"); do
		[ "$(cat "stamp$r" 2>/dev/null)" = "round $r" ] || { bad=1; echo "# stamp$r is lost"; }
	done
	cd / && umount "$mnt"
	"$IOMAPFS_BIN/fsck.iomapfs" -n "$tmp/img" >"$tmp/fsck.log" 2>&1 || { bad=1; sed 's/^/# after recovery: /' "$tmp/fsck.log"; }
	revive || { bad=1; break; }
done
ok $bad "$rounds kills under load: every fsynced file is there, fsck is clean before and after recovery"
done_testing

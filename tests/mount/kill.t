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

# Random moments under a load of four threads that notes what it was promised (tests/model/promise.c).
seed=${IOMAPFS_SEED:-$(date +%s)}
echo "# seed $seed"
RANDOM=$seed
rounds=${KILL_ROUNDS:-12}
bad=0 worked=0
complain() { bad=1; sed "s/^/# round $round, $1: /" "$tmp/out"; }
promises() { "$IOMAPFS_BIN/promise" check "$mnt/r$round" "$tmp/state" >"$tmp/out" 2>&1; }
fsck_copy() { cp --sparse=always "$tmp/img" "$tmp/copy" && "$IOMAPFS_BIN/fsck.iomapfs" -n "$tmp/copy" >"$tmp/out" 2>&1; }
for round in $(seq "$rounds"); do
	rm -f "$tmp/state" && mkdir "r$round" && sync -f . || bad=1
	"$IOMAPFS_BIN/promise" run "$dir/r$round" "$tmp/state" $((seed + round)) >"$tmp/load" 2>&1 &
	loader=$!
	# The first words of the state say that it has begun: half the rounds are killed soon after.
	for _ in $(seq 100); do [ -s "$tmp/state" ] && [ "$(od -An -N1 -tu1 "$tmp/state")" -gt 0 ] && break; sleep 0.05; done
	sleep "$((RANDOM % 2)).$((RANDOM % 900 + 100))"
	kill -9 "$(pid_of)"
	wait $loader || { bad=1; sed 's/^/# load: /' "$tmp/load"; }
	cd /
	# The dead mount still holds the image's loop device: judge a copy.
	fsck_copy || complain "before recovery"
	revive || { bad=1; break; }
	mnt=$dir promises || complain "after recovery"
	tail -n 1 "$tmp/out"
	[ "$(od -An -N1 -tu1 "$tmp/state")" = 0 ] || worked=$((worked + 1))
	cd / && umount "$mnt"
	"$IOMAPFS_BIN/fsck.iomapfs" -n "$tmp/img" >"$tmp/out" 2>&1 || complain "after unmount"
	revive || { bad=1; break; }
	rm -rf "r$round"
done
ok $bad "$rounds kills under load: nothing promised is lost, fsck is clean before and after recovery"
ok $((worked * 2 < rounds)) "the load was at work in $worked of them"
done_testing

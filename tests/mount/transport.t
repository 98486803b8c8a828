#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The transports, one like the other: every kind of request, more at once than there are slots, a device that
# does not answer, and all the ways in which a mount ends. And which of them is taken.
. "$(dirname "$0")/lib.sh"

switch=/sys/module/fuse/parameters/enable_uring
was=
load=$here/transport_load.py
# The switch is the machine's: one script at a time, and as it was afterwards.
exec 9>/run/lock/iomapfs-enable-uring.lock
flock -w 300 9 || { echo "Bail out! another test holds the switch of FUSE over io_uring"; exit 1; }
[ ! -e $switch ] || was=$(cat $switch)
give_back() {
	umount "$tmp/ctl" "$tmp/host" 2>/dev/null
	[ -z "$was" ] || echo "$was" >$switch
	cleanup
}
trap give_back EXIT
set_switch() { [ -z "$was" ] || echo "$1" >$switch; }

pid_of() { iomapctl --json info "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])'; }
transport_of() { iomapctl --json info "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["transport"])'; }
mkdir "$tmp/ctl" && mount -t fusectl none "$tmp/ctl" || { echo "Bail out! no control file system of FUSE"; exit 1; }
gone() { # PID [SECONDS]
	local i
	for i in $(seq $((${2:-10} * 20))); do
		[ -e "/proc/$1" ] && ! grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null || return 0
		sleep 0.05
	done
	return 1
}
mount_by() { # OPTIONS
	local tries
	# Somebody else may have switched it off since.
	for tries in 1 2 3; do
		case $1 in transport=uring*) set_switch Y ;; esac
		mount_it "$1" && return 0
	done
	return 1
}
load_begins() { # PID: it has done something
	local i
	for i in $(seq 100); do
		[ -e "$mnt/load/mapped3" ] && return 0
		kill -0 "$1" 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}

# ---- The work, and the ends --------------------------------------------------------------------

work() { # OPTIONS
	mkfs_it 256M
	mount_by "$1"
	ok $? "$1: mount"
	same "$(transport_of)" "$want" "$1: it serves"
	timeout 120 "$load" "$mnt/once" once >"$tmp/out" 2>&1
	rc=$?
	ok $rc "$1: every kind of request"
	[ $rc = 0 ] || sed 's/^/# /' "$tmp/out"
	pid=$(pid_of)
	timeout 30 umount "$mnt"
	ok $? "$1: unmount"
	gone "$pid"
	ok $? "$1: and the daemon ends"
	fsck_it
}

ends() { # OPTIONS
	local how dev loader
	# Kills are in kill.t, without mappings: see docs/ROADMAP.md.
	for how in abort term; do
		mount_by "$1" || { ok 1 "$1: mount"; return; }
		pid=$(pid_of)
		rm -rf "$mnt/load"
		"$load" "$mnt/load" forever >/dev/null 2>&1 &
		loader=$!
		load_begins $loader
		ok $? "$1, $how: a load begins"
		timeout 5 umount "$mnt" 2>/dev/null
		same $? 32 "$1, $how: a mount in use is not unmounted"
		dev=$(mountpoint -d "$mnt")
		case $how in
		abort) echo 1 >"$tmp/ctl/$(((${dev%:*} << 20) + ${dev#*:}))/abort" ;;
		term) kill -TERM "$pid" && sleep 0.3 && kill $loader ;;
		esac
		gone $loader 20 2>/dev/null
		ok $? "$1, $how: whoever waited for an answer got one"
		kill -9 $loader 2>/dev/null
		wait $loader 2>/dev/null
		gone "$pid" 20
		ok $? "$1, $how: the daemon has ended"
		if [ $how = term ]; then
			! grep -q " $mnt fuse" /proc/mounts
			ok $? "$1, $how: and the mount with it"
		else
			timeout 10 umount "$mnt"
			ok $? "$1, $how: the dead mount is unmounted"
		fi
		mount_by "$1" && umount_it
		ok $? "$1, $how: mounted again, and recovered"
		fsck_it
	done
}

# The image lies on an ext4 that is frozen: every write to it waits.
blocked() { # OPTIONS
	local writer i
	mkdir -p "$tmp/host"
	truncate -s 400M "$tmp/host.img"
	mkfs.ext4 -q -F "$tmp/host.img" && mount -o loop "$tmp/host.img" "$tmp/host" || { ok 1 "an ext4 to freeze"; return; }
	dd if=/dev/zero of="$tmp/host/img" bs=1M count=128 status=none
	img=$tmp/host/img
	mkfs.iomapfs -q -K "$img" && mount_by "$1"
	ok $? "$1: mount on a device to be stalled"
	echo quiet >"$mnt/quiet"
	sync -f "$mnt"
	fsfreeze -f "$tmp/host"
	for i in $(seq 12); do dd if=/dev/zero of="$mnt/w$i" bs=64k count=2 conv=fsync status=none 2>/dev/null & done
	writer=$!
	sleep 0.5
	kill $(jobs -p) 2>/dev/null
	kill -9 $writer
	sleep 0.2
	same "$(for i in $(seq 0 $(($(nproc) - 1))); do timeout 10 taskset -c "$i" stat -c %s "$mnt/quiet"; done | sort -u)" 6 \
		"$1: interrupted requests in every slot, and others are still answered"
	timeout 10 sh -c "echo more >'$mnt/more' && ls '$mnt' >/dev/null"
	ok $? "$1: also those that change something"
	fsfreeze -u "$tmp/host"
	timeout 20 sh -c "while [ -n \"\$(pgrep -f '^dd if=/dev/zero of=$mnt/w')\" ]; do sleep 0.05; done"
	ok $? "$1: who was interrupted has ended once the device is back"
	wait 2>/dev/null
	timeout 20 sync -f "$mnt" && timeout 20 umount "$mnt"
	ok $? "$1: nothing is stuck"
	fsck_it
	umount "$tmp/host"
	img=$tmp/img
}

many_mounts() { # OPTIONS COUNT
	local i bad=0
	mkfs_it 32M
	for i in $(seq "$2"); do
		mount_by "$1" && echo "$i" >"$mnt/x" && [ "$(cat "$mnt/x")" = "$i" ] && timeout 20 umount "$mnt" || { bad=1; break; }
	done
	ok $bad "$1: $2 mounts and unmounts"
	daemons_gone
	same "$(pgrep -f "mount\.iomapfs.*$tmp/" | wc -l)" 0 "$1: no daemon is left"
	fsck_it
}

all_of_it() { # TRANSPORT MOUNTS
	want=$1
	work "transport=$1"
	ends "transport=$1"
	blocked "transport=$1"
	many_mounts "transport=$1" "$2"
}

all_of_it loop 20
if [ -z "${TEST_URING:-}" ]; then
	skip "FUSE over io_uring" "TEST_URING=1 for it, on a machine that may be rebooted: docs/ROADMAP.md"
	done_testing
	exit 0
fi
if [ -z "$was" ]; then
	mkfs_it 32M
	skip "FUSE over io_uring" "this kernel has none"
	fails 2 "has no FUSE over io_uring" "uring where the kernel has none" mount_it transport=uring
	done_testing
	exit 0
fi
all_of_it uring "${TRANSPORT_MOUNTS:-100}"
# Every parked request is the last of its queue.
work transport=uring,queue_depth=1,memory=8M
blocked transport=uring,queue_depth=1
work transport=uring,queue_depth=64,kernel_cache=writeback

# ---- Which of them --------------------------------------------------------------------------------

serves_by() { # OPTIONS TRANSPORT PATTERN-OF-THE-LOG DESCRIPTION: in the foreground, where the log is the terminal
	iomapfs -f -o "$1" "$img" "$mnt" >"$tmp/log" 2>&1 &
	local i
	for i in $(seq 100); do mountpoint -q "$mnt" && break; sleep 0.05; done
	same "$(transport_of)" "$2" "$4: serves by $2"
	umount_it
	wait $!
	grep -Eq "$3" "$tmp/log"
	ok $? "$4: what the log says"
}

mkfs_it 32M
set_switch N
fails 2 "switched off; as root: echo Y" "uring while it is switched off" mount_it transport=uring
! mountpoint -q "$mnt"
ok $? "and is no mount"
same "$(cat $switch)" N "the daemon leaves the switch alone"

# More CPUs than the kernel knows: it refuses the queues that it has not, after it agreed to have rings.
set_switch Y
echo "0-$(($(nproc --all) + 3))" >"$tmp/possible"
pretend() { unshare -m --propagation private sh -c 'mount --bind "$1" /sys/devices/system/cpu/possible && shift && exec "$@"' sh "$tmp/possible" "$@"; }
fails 2 "refused the queues" "uring where the kernel refuses its queues" \
	pretend mount.iomapfs -o transport=uring "$img" "$mnt"
! mountpoint -q "$mnt"
ok $? "and is no mount either"
fsck_it
done_testing

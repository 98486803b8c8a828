#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench/run, small: what it prints and keeps, what it refuses, that a wrong result fails it, and that nothing
# is left when it is interrupted or killed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
: "${IOMAPFS_BIN:=$top/build/asan/bin}"
if [ "$(id -u)" != 0 ]; then
	echo "1..0 # skip needs root: loop devices and mounts"
	exit 0
fi
n=0 failed=0 pid=""
tmp=$(mktemp -d /tmp/iomapfs-bench-t-XXXXXX)
export TMPDIR=$tmp PYTHONDONTWRITEBYTECODE=1
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

ok() { # CONDITION-STATUS DESCRIPTION
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else
		failed=1
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/out" "$tmp/err" 2>/dev/null | tail -n 30
	fi
}
bench() { # ARGS...: exit code in rc
	"$top/bench/run" --bin "$IOMAPFS_BIN" --scale smoke --device tmpfs "$@" >"$tmp/out" 2>"$tmp/err"
	rc=$?
}
has() { # PATTERN DESCRIPTION: what was printed has it
	cat "$tmp/out" "$tmp/err" | grep -Eq -- "$1"
	ok $? "$2"
}
loops() { losetup --noheadings --output BACK-FILE | grep -c "^$tmp/"; }
nothing_left() { # WHERE
	local try
	# Loop devices and mounts go with the last user, which the kernel may still be ending.
	for try in $(seq 100); do
		if [ "$(loops)" = 0 ] && ! pgrep -f "^[^ ]*iomapfs .*$tmp/" >/dev/null; then break; fi
		sleep 0.1
	done
	[ "$(loops)" = 0 ]
	ok $? "$1: no loop device is left"
	! pgrep -f "^[^ ]*iomapfs .*$tmp/" >/dev/null
	ok $? "$1: no daemon is left"
	! grep -q "$tmp" /proc/mounts
	ok $? "$1: no mount is left"
}

# ---- A run -------------------------------------------------------------------------------------
bench --only names,direct-4k,appends,fsck,idle --fs iomapfs,ext4,iomapfs:transport=carrier-pigeon \
	--json "$tmp/r.json" --chart "$tmp/r.svg"
[ $rc = 0 ]
ok $? "a run of five workloads ends with 0"
cp "$tmp/out" "$tmp/first"
has '^\| names: create \(1/s\) +\| +[0-9]+ \| +[0-9]+ \| +not here \|' "the table has a row with both file systems"
has 'iomapfs:carrier-pigeon: not here: .*carrier-pigeon' "who cannot take part is told, and why"
python3 - "$tmp/r.json" "$tmp/r.svg" <<'PY' >>"$tmp/out" 2>&1
import json, sys, xml.dom.minidom
data = json.load(open(sys.argv[1]))
rows = {(r["workload"], r["figure"]): r for r in data["rows"]}
for key in [("names", f) for f in ("create", "stat, cold", "list + stat, cold", "stat, warm", "rename", "unlink")] + \
        [("direct-4k", "random read"), ("direct-4k", "random write"), ("appends", "append"),
         ("appends", "append + fsync"), ("fsck", "check, files")]:
    for subject in ("iomapfs", "ext4"):
        (value,) = rows[key]["rounds"][subject]
        assert value > 0, (key, subject, value)
assert rows["idle", "resident memory"]["rounds"].keys() == {"iomapfs"}
device = ["device path alone, read", "device path alone, write"]
assert all(rows["direct-4k", f]["rounds"]["iomapfs"][0] > 0 for f in device) or any("bench-device" in n for n in data["notes"])
assert rows["direct-4k", "random read"]["p99_us"]["iomapfs"][0] > 0
assert rows["direct-4k", "random read"]["daemon_us"]["iomapfs"][0] > 0
assert [s["key"] for s in data["subjects"] if s["missing"]] == ["iomapfs:transport=carrier-pigeon"]
assert data["failures"] == [] and data["format"] == 1
assert "direct-4k" in xml.dom.minidom.parse(sys.argv[2]).toxml()
PY
ok $? "the JSON has every figure of every subject, the chart is well-formed"
"$top/bench/compare" "$tmp/r.json" "$tmp/r.json" >"$tmp/out" 2>&1
ok $? "bench/compare finds no difference of a result from itself"
"$top/bench/show" "$tmp/r.json" --chart "$tmp/again.svg" 2>&1 | cmp - "$tmp/first" && cmp "$tmp/r.svg" "$tmp/again.svg"
ok $? "bench/show prints and draws it again"
nothing_left "after a run"
[ -z "$(ls -d "$tmp"/iomapfs-bench-*/ 2>/dev/null)" ]
ok $? "after a run: no folder is left"

# ---- The floor: the same daemon over nothing ---------------------------------------------------
if [ -e "$IOMAPFS_BIN/iomapfs-null" ]; then
	bench --only names,direct-4k,tree --fs null
	[ $rc = 0 ]
	ok $? "the null daemon does what it has to"
	has '^\| names: unlink \(1/s\) +\| +[0-9]+ \|' "and has its figures"
	has 'tmpfs: tree: null: keeps no contents' "but no tree, which the table says"
else
	n=$((n + 1))
	echo "ok $n - the null daemon # skip ninja -C build/asan bench/iomapfs-null; scripts/bindir build/asan"
fi

# ---- Single layers -----------------------------------------------------------------------------
if [ -e "$IOMAPFS_BIN/bench-micro" ]; then
	"$top/bench/micro/run" --bin "$IOMAPFS_BIN" --ops 100 --rounds 1 --time-only --json "$tmp/m.json" >"$tmp/out" 2>"$tmp/err"
	ok $? "bench/micro/run: every case does what it is about"
	has '^\| btree-lookup: .*\| +- \| +[0-9.]+ \|' "and has its time"
	python3 -c 'import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert len(rows) == int(sys.argv[2]) > 20, len(rows)
assert all(r["rounds"]["micro"][0] > 0 for r in rows)' \
		"$tmp/m.json" "$("$IOMAPFS_BIN/bench-micro" --list | wc -l)" >"$tmp/out" 2>&1
	ok $? "its JSON has them all"
	"$top/bench/micro/run" --bin "$IOMAPFS_BIN" --only nosuch >"$tmp/out" 2>"$tmp/err"
	[ $? = 16 ] && grep -q 'no case nosuch; there are btree-lookup' "$tmp/err"
	ok $? "an unknown case: exit code 16, and what there is"
else
	n=$((n + 1))
	echo "ok $n - single layers # skip ninja -C build/asan bench/bench-micro; scripts/bindir build/asan"
fi
"$top/bench/micro/run" --bin /nonexistent >"$tmp/out" 2>"$tmp/err"
[ $? = 2 ] && grep -q 'bench/build' "$tmp/err"
ok $? "bench/micro/run without a build: exit code 2, and what to do"

# ---- A wrong result fails it --------------------------------------------------------------------
mkdir "$tmp/bin"
for p in "$IOMAPFS_BIN"/*; do ln -s "$(readlink -f "$p")" "$tmp/bin/$(basename "$p")"; done
rm "$tmp/bin/fsck.iomapfs"
printf '#!/bin/sh\necho "it is broken"; exit 4\n' >"$tmp/bin/fsck.iomapfs"
chmod +x "$tmp/bin/fsck.iomapfs"
bench --bin "$tmp/bin" --only fsck --fs iomapfs,ext4
[ $rc = 1 ]
ok $? "a checker that finds something fails the run"
has 'FAILED: tmpfs: fsck: iomapfs, round 1: .*exit code 4: it is broken' "and the table says what failed"
has '^\| fsck: check, files \(1/s\) +\| +FAILED \| +[0-9]+ \|' "while the others were measured"

cc -D_GNU_SOURCE -O2 -o "$tmp/data" "$top/bench/tools/data.c" "$top/bench/tools/common.c"
cc -D_GNU_SOURCE -O2 -o "$tmp/names" "$top/bench/tools/names.c" "$top/bench/tools/common.c"
mkdir "$tmp/d"
"$tmp/data" new "$tmp/d/file" 2 >"$tmp/out" 2>"$tmp/err" && "$tmp/data" verify "$tmp/d/file" 2 &&
	"$tmp/data" rand-write "$tmp/d/file" 2 block=4 count=100 jobs=2 >>"$tmp/out" 2>>"$tmp/err" &&
	"$tmp/data" seq-read "$tmp/d/file" 2 >>"$tmp/out" 2>>"$tmp/err"
ok $? "data: what was written is read"
printf X | dd of="$tmp/d/file" bs=1 seek=1048576 conv=notrunc status=none
"$tmp/data" seq-read "$tmp/d/file" 2 >"$tmp/out" 2>"$tmp/err"
[ $? = 1 ] && grep -q "byte 1048576: wrong contents" "$tmp/err"
ok $? "data: a changed byte in a stamp fails the read"
"$tmp/data" new "$tmp/d/other" 2 >"$tmp/out" 2>"$tmp/err"
printf X | dd of="$tmp/d/other" bs=1 seek=1000000 conv=notrunc status=none
"$tmp/data" verify "$tmp/d/other" 2 >"$tmp/out" 2>"$tmp/err"
[ $? = 1 ] && grep -q "byte 1000000: wrong contents" "$tmp/err"
ok $? "data: any other changed byte fails the comparison of all of it"
"$tmp/names" create "$tmp/d" 10 1 >"$tmp/out" 2>"$tmp/err" && rm "$tmp/d/0/f3" &&
	! "$tmp/names" stat "$tmp/d" 10 1 >"$tmp/out" 2>"$tmp/err"
ok $? "names: a missing file fails stat"
! "$tmp/names" list "$tmp/d" 10 2 >"$tmp/out" 2>"$tmp/err"
ok $? "names: and list, in a job of several"

# ---- Refusals --------------------------------------------------------------------------------------
bench --only nosuch
[ $rc = 16 ] && grep -q 'no workload nosuch; there are names' "$tmp/err"
ok $? "an unknown workload: exit code 16, and what there is"
bench --fs btrfs
[ $rc = 16 ] && grep -q 'btrfs: no such file system; there are iomapfs' "$tmp/err"
ok $? "an unknown file system: exit code 16, and what there is"
bench --rounds x
[ $rc = 16 ]
ok $? "wrong usage: exit code 16"
bench --bin /nonexistent --fs iomapfs --only idle
[ $rc = 2 ] && grep -q 'bench/build' "$tmp/err"
ok $? "nothing was built: exit code 2, and what to do"
chmod 755 "$tmp"
cp -r "$top/bench" "$tmp/copy"
(cd / && PATH=/usr/bin:/bin setpriv --reuid 65534 --clear-groups "$tmp/copy/run" --only idle) >"$tmp/out" 2>"$tmp/err"
[ $? = 2 ] && grep -q 'needs root' "$tmp/err"
ok $? "without root: exit code 2, and why"
bench --list
has '^ +growth-extents ' "--list names the workloads"

# ---- Interrupted ---------------------------------------------------------------------------------------
interrupted() { # SIGNAL
	"$top/bench/run" --bin "$IOMAPFS_BIN" --scale smoke --device tmpfs --only direct-4k --rounds 9 --fs iomapfs \
		>"$tmp/out" 2>"$tmp/err" &
	pid=$!
	for _ in $(seq 200); do
		! grep -q 'direct-4k on iomapfs' "$tmp/err" || [ "$(loops)" = 0 ] || break
		sleep 0.05
	done
	sleep 1
	[ "$(loops)" = 1 ]
	ok $? "$1: it was at work"
	kill "-$1" "$pid"
	wait "$pid"
	rc=$?
	pid=""
	[ $rc != 0 ]
	ok $? "$1: exit code $rc"
	nothing_left "$1"
}
interrupted TERM
has 'ended by SIGTERM' "it says what ended it"
[ -z "$(ls -d "$tmp"/iomapfs-bench-*/ 2>/dev/null)" ]
ok $? "TERM: no folder is left"
interrupted KILL

echo "1..$n"
exit $failed

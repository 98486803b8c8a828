#!/usr/bin/env bash
# Delayed allocation at work: files written by turns end up in a handful of extents each.
IMG_SIZE=1G
. "$(dirname "$0")/../posix/lib.sh"
ctl=$IOMAPFS_BIN/iomapctl

extents() { "$ctl" fiemap --json "$1" | python3 -c 'import json,sys; print(len(json.load(sys.stdin)["extents"]))'; }

# 100 files of 512 KiB, 4 KiB of each in turn.
python3 - <<'PY'
fs = [open(f"f{i}", "wb", buffering=0) for i in range(100)]
for turn in range(128):
    for i, f in enumerate(fs):
        f.write(bytes([turn ^ i & 255]) * 4096)
PY
ok $? "100 files written by turns in 4 KiB pieces"
"$ctl" fiemap f0 | grep -q delalloc
ok $? "before a sync a file shows delalloc"
sync -f .
"$ctl" fiemap f0 | grep -q delalloc
ok $([ $? != 0 ]; echo $?) "after it a real extent"
most=0
for i in $(seq 0 99); do
	e=$(extents f$i)
	[ "$e" -gt "$most" ] && most=$e
done
ok $([ "$most" -le 4 ]; echo $?) "no file has more than a handful of extents (most: $most)"
python3 - <<'PY'
import sys
for i in range(100):
    want = b"".join(bytes([t ^ i & 255]) * 4096 for t in range(128))
    if open(f"f{i}", "rb").read() != want:
        sys.exit(1)
PY
ok $? "contents are right"

dd if=/dev/zero of=big bs=64M count=1 status=none
sync -f .
same "$(extents big)" 1 "64 MiB written in one go are one extent"

touch a
"$ctl" fiemap -x a | grep -q inline
ok $([ $? != 0 ]; echo $?) "a file without attributes has none to show"
setfattr -n user.x -v y a && "$ctl" fiemap -x a | grep -q inline
ok $? "fiemap -x shows attributes in the inode"
setfattr -n user.big -v "$(head -c 9000 /dev/zero | tr '\0' x)" a
same "$("$ctl" fiemap -x --json a | python3 -c 'import json,sys; print(sum(e["length"] for e in json.load(sys.stdin)["extents"][1:]))')" \
	12288 "and the blocks of a large value"
done_testing

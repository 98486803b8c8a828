#!/usr/bin/env bash
# iomapctl metadump: an image that fsck judges like the original, with names and without contents.
. "$(dirname "$0")/lib.sh"

mkfs_it 256M
mount_it
mkdir "$mnt/a-directory-name"
echo "small secret" >"$mnt/a-directory-name/small"
yes "large secret" | head -c 3000000 >"$mnt/large"
for i in $(seq 300); do echo $i >"$mnt/a-directory-name/f$i"; done
iomapctl metadump "$img" --output "$tmp/dump" >"$tmp/out" 2>&1
same $? 1 "a mounted image is refused"
grep -q "unmount it first" "$tmp/out"
ok $? "and the message says what to do"
umount_it
iomapctl metadump "$img" >/dev/null 2>&1
same $? 2 "no output named: usage"
iomapctl metadump "$img" --output "$tmp/dump"
ok $? "metadump"
fsck.iomapfs -n "$tmp/dump" >"$tmp/out"
ok $? "fsck.iomapfs -n of the dump is clean"
grep -aq "a-directory-name" "$tmp/dump"
ok $? "names are in it"
! grep -aqE "small secret|large secret" "$tmp/dump"
ok $? "contents are not, neither of large files nor of small ones"
ok $([ "$(du -k "$tmp/dump" | cut -f1)" -lt 20000 ]; echo $?) "it is sparse"
iomapctl metadump "$img" --output "$tmp/dump" >/dev/null 2>&1
same $? 1 "an existing file is not overwritten"
iomapctl --json metadump "$img" --output "$tmp/dump2" | python3 -c 'import json,sys; sys.exit(not json.load(sys.stdin)["blocks"] > 0)'
ok $? "--json"
# Damage shows in the dump as it does in the original.
python3 - "$img" <<'PY'
import sys
f = open(sys.argv[1], "r+b")
f.seek(2 * 4096 + 100)
f.write(b"\xff" * 4)
PY
fsck.iomapfs -n "$img" >"$tmp/one" 2>&1
iomapctl metadump "$img" --output "$tmp/dump3" >/dev/null
fsck.iomapfs -n "$tmp/dump3" >"$tmp/two" 2>&1
same "$(sed "s|$img|X|" "$tmp/one")" "$(sed "s|$tmp/dump3|X|" "$tmp/two")" "fsck says the same of a damaged original and its dump"
ok $([ -s "$tmp/one" ] && grep -q AG "$tmp/one"; echo $?) "which is something"
done_testing

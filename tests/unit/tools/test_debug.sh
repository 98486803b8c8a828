#!/bin/sh
# SPDX-License-Identifier: MIT
# iomapctl debug: fields by name, printed, set under a new checksum, found again.
# usage: test_debug.sh MKFS FSCK IOMAPCTL
mkfs=$1 fsck=$2 ctl=$3
. "$(dirname "$0")/want.sh"
debug() {
	"$ctl" debug "$img" "$@"
}

"$mkfs" -q -s 32m -L here "$img" || exit 1

# Places, and the way from one to the next.
want 0 '^label = "here"$' debug print sb
want 0 '^block 0, superblock: sound$' debug print sb:0
want 0 '^block 2, group header: sound$' debug print ag:0
want 0 '^block 1, ' debug print mmp
want 0 '^clean = 1$' debug print journal
want 0 '^rec\[0\].len = [1-9]' debug print ag:0,free_pos.mblk
want 0 '^mode = 040755$' debug print path:/
want 0 '^ino = ' debug print path:/,parent
want 0 'tree node' debug print ag:0,ino.mblk hdr
want 0 '^rec\[0\].val.free_lo = 0x' debug print ag:0,ino.mblk rec
"$ctl" --json debug "$img" print sb >"$dir/json"
python3 -c 'import json,sys
d = json.load(open(sys.argv[1]))
assert d["verdict"] == "sound" and d["fields"]["label"] == "\"here\"" and d["fields"]["version"] == 1' "$dir/json" ||
	{ echo "FAILED: --json"; failed=1; }

# What cannot be, and says why.
want 1 'no such name' debug print path:/none
want 1 'fewer groups' debug print ag:77
want 1 'past the end' debug print mblk:999999999
want 1 "no inode's number" debug print inode:16
want 1 'leads nowhere' debug print ag:0,nr_blocks
want 1 'leads nowhere: it is 0' debug print ag:0,orphan.mblk
want 1 "has no field 'nlink'" debug set sb nlink=1
want 1 'does not fit' debug set path:/ mode=0200000
want 1 'is no number' debug set path:/ nlink=many
want 1 'longer than the field' debug set sb magic=123456789
want 1 'pairs of hexadecimal' debug set sb @100:2=abc
want 1 'not understood' debug print nowhere
want 2 'see --help' debug
want 2 'is missing' debug set sb
want 2 'is not FIELD=VALUE' debug set sb label
want 2 'one FIELD=VALUE' debug find label
want 1 'No such file' "$ctl" debug "$dir/none" print sb
want 0 'clean' "$fsck" -n "$img"

# Set: one field changes, the checksum goes along unless it is not to.
want 0 'nlink: 2 -> 9$' debug set path:/ nlink=9
want 0 'inodes: sound$' debug print path:/
want 4 'LINK-COUNT' "$fsck" -n "$img"
want 0 'nlink: 9 -> 2$' debug set path:/ nlink=2
want 0 'clean' "$fsck" -n "$img"
want 0 'uid: 0 -> 4294967295$' debug set path:/ uid=-1
want 0 '"a\\x22b"' debug set sb 'label=a\x22b'
want 0 '@209:1: 22 -> 78' debug set sb @209:1=78
want 0 '^label = "axb"$' debug print sb label
want 0 'size: 0 -> 1' debug set path:/ size=1 --keep-crc
want 0 'inodes: bad-crc$' debug print path:/
want 0 'size: 1 -> 0' debug set path:/,ino size=0
want 0 'inodes: sound$' debug print path:/

# Found again, by value, whatever the index.
want 0 '^mblk:[0-9]* inode\[1\].mode$' debug find inode.mode=040755
want 0 '^mblk:0 label$' debug find label=axb
want 1 '^$' sh -c "'$ctl' debug '$img' find label=other; rc=\$?; echo; exit \$rc"

# A log that waits would undo a change: refused, unless it is meant.
want 0 'clean: 1 -> 0' debug set journal clean=0
want 1 'run fsck.iomapfs -p first' debug set path:/ nlink=3
want 0 'nlink: 2 -> 3' debug set --force path:/ nlink=3
want 0 'clean: 0 -> 1' debug set --force journal clean=1

# With a damaged superblock, what does not need it.
want 0 'version: 1 -> 9' debug set sb version=9
want 1 'superblock is damaged' debug print path:/
want 0 '^version = 9$' debug print sb
want 0 'version: 9 -> 1' debug set sb version=1
want 0 '^block 2, group header: sound$' debug print mblk:2
exit $failed

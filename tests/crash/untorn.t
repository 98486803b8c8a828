#!/bin/bash
# SPDX-License-Identifier: MIT
# Power cuts in untorn writes of every size: all of the bytes or none, and what breaks that is seen at each
# size. UNTORN_BIN: the program, from a build with -Dtest_switches=true.
set -u
: "${UNTORN_BIN:?the untorn program of a build with -Dtest_switches=true}"
: "${IOMAPFS_SEED:=1}"
jobs=$(nproc)
n=0 failed=0
unset IOMAPFS_BREAK

ok() { # STATUS TEXT
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}

# broken RULE SIZES ARGS...: with the rule broken writes of each of so many sizes are torn, and seen to be.
broken() {
	local rule=$1 sizes=$2 out rc torn
	shift 2
	out=$(IOMAPFS_BREAK=$rule "$UNTORN_BIN" -s "$IOMAPFS_SEED" -j "$jobs" "$@" 2>&1)
	rc=$?
	torn=$(echo "$out" | grep -c '^untorn: .* bytes: .* survivors: torn')
	[ $rc = 1 ] && [ "$torn" = "$sizes" ] || echo "$out" | grep '^untorn:' | sed 's/^/# /'
	ok $((rc != 1 || torn != sizes)) "$rule is seen at $torn of $sizes sizes"
}

out=$("$UNTORN_BIN" -s "$IOMAPFS_SEED" -j "$jobs" 2>&1)
ok $? "untorn writes of every size"
echo "$out" | sed 's/^#*/#/'
sizes=$(echo "$out" | grep -c '^untorn: .* bytes: .* survivors: good')
devices=$(echo "$out" | grep -c '^untorn: .* untorn device: .* survivors: good')
ok $((sizes < 43 || devices < 21)) "$sizes sizes, $devices of them on a device that has untorn writes"
broken untorn-in-place "$sizes"
broken device-tears "$devices" -d
echo "1..$n"
exit $failed

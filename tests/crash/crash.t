#!/bin/bash
# SPDX-License-Identifier: MIT
# Power cuts in sequences of operations: nothing promised is lost, fsck finds nothing, and each
# rule that is broken on purpose is seen. CRASH_BIN: the program, from a build with
# -Dtest_switches=true. CRASH_SOAK=MINUTES: sequences of three and long random ones as well.
set -u
: "${CRASH_BIN:?the crash program of a build with -Dtest_switches=true}"
: "${IOMAPFS_SEED:=1}"
jobs=$(nproc)
tmp=$(mktemp -d /tmp/iomapfs-crash-XXXXXX)
trap 'rm -rf "$tmp"' EXIT
keep=${CRASH_KEEP:-$tmp}
n=0 failed=0 cuts=0
unset IOMAPFS_BREAK

ok() { # STATUS TEXT
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}

# crash TEXT ARGS...: passes when the program does and says that it made cuts.
crash() {
	local text=$1 out rc
	shift
	out=$("$CRASH_BIN" -s "$IOMAPFS_SEED" -j "$jobs" -o "$keep" "$@" 2>&1)
	rc=$?
	echo "$out" | sed 's/^#*/#/'
	ok $rc "$text"
	out=$(echo "$out" | sed -n 's/^crash: .* \([0-9]*\) cuts.*/\1/p')
	cuts=$((cuts + ${out:-0}))
}

# broken RULE ARGS...: the same program with the rule broken must fail, and so must its record.
broken() {
	local rule=$1 out record
	shift
	export IOMAPFS_BREAK=$rule
	out=$("$CRASH_BIN" -s "$IOMAPFS_SEED" -j "$jobs" -o "$tmp" "$@" 2>&1)
	ok $(($? != 1)) "$rule is seen"
	record=$(echo "$out" | sed -n 's/.*crash --replay //p' | head -n 1)
	[ -s "$record" ] && "$CRASH_BIN" --replay "$record" >"$tmp/out" 2>&1
	ok $(($? != 1)) "... and again in its record"
	unset IOMAPFS_BREAK
	# Recovery is at fault there, and the record holds what a sound run wrote.
	if [ "$rule" = no-revoke ]; then
		"$CRASH_BIN" --replay "$record"
		ok $? "... which holds no fault with the rule kept"
	fi
	rm -f "$tmp"/crash-*
}

if [ -n "${CRASH_SOAK:-}" ]; then
	s=$((CRASH_SOAK * 60 / 3))
	crash "sequences of three operations" -l 3 -f $((IOMAPFS_SEED % 1000 * 205)) -t $s
	crash "random sequences of ten" -r 10 -n 1000000000 -t $s
	crash "two operations, every call between them" -l 2 -p \
		-f $((IOMAPFS_SEED % 100 * 1700)) -t $s
else
	crash "one operation, every call, cuts after every event" -l 1 -p -c each
	crash "two operations" -l 2 -c 5
	crash "random sequences of ten" -r 10 -n 300
	crash "one operation, every subset of what is unsafe" -l 1 -c exhaustive
	crash "blocks of freed metadata filled with data, moved ones overwritten" -d -c each
	ok $((cuts < 20000)) "20000 cuts at least: $cuts"
	broken missing-flush -l 1 -p -c doubling
	broken missing-barrier -l 1 -p -c doubling
	broken size-before-data -l 1 -p -c doubling
	broken no-revoke -d -c each
	broken shift-not-durable -d -c each
	broken untorn-in-place -l 1 -p -c doubling
fi
echo "1..$n"
exit $failed

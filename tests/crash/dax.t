#!/bin/bash
# SPDX-License-Identifier: MIT
# Power cuts on memory that loses what was not flushed: crash-dax keeps what was promised, and each rule that is
# broken on purpose is seen. CRASH_DAX_BIN: the program, from a build with -Dtest_switches=true.
# CRASH_SOAK=MINUTES: for so long instead.
set -u
: "${CRASH_DAX_BIN:?the crash-dax program of a build with -Dtest_switches=true}"
: "${IOMAPFS_SEED:=1}"
n=0 failed=0
unset IOMAPFS_BREAK

ok() { # STATUS TEXT
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}

# run TEXT ARGS...: passes when the program does.
run() {
	local text=$1 out rc
	shift
	out=$("$CRASH_DAX_BIN" "$@" 2>&1)
	rc=$?
	echo "$out" | sed 's/^#*/# /'
	ok $rc "$text"
}

if [ -n "${CRASH_SOAK:-}" ]; then
	end=$((SECONDS + CRASH_SOAK * 60 / 3))
	for ((seed = IOMAPFS_SEED * 1000; SECONDS < end; seed += 50)); do
		run "50 sequences from seed $seed" -s $seed -n 50 -c 40
	done
else
	run "60 sequences of twelve operations" -s "$IOMAPFS_SEED" -n 60
	for rule in dax-no-persist dax-unzeroed dax-sync-not-durable; do
		IOMAPFS_BREAK=$rule "$CRASH_DAX_BIN" -s "$IOMAPFS_SEED" -n 60 >/dev/null 2>&1
		ok $(($? != 1)) "$rule is seen"
	done
fi
echo "1..$n"
exit $failed

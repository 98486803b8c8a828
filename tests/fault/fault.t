#!/bin/bash
# SPDX-License-Identifier: MIT
# Faults over a whole life of a file system. FAULT_BIN: the program, from a build with sanitizers.
# FAULT_STEP: every so many-th request only (1 = the whole loop; allocations ten times as many).
set -u
: "${FAULT_BIN:?the fault program}"
: "${FAULT_STEP:=1}"
n=0 failed=0
for plan in read read-always read-continue write write-always write-continue write-nospace flush \
	flush-always zeroes discard gone slow alloc alloc-run space recovery-read recovery-write \
	recovery-gone recovery-alloc fsck-read fsck-gone fsck-alloc repair-write repair-gone repair-alloc; do
	step=$FAULT_STEP
	case $plan in
	flush* | zeroes | read* | recovery-read | *-write | *-gone) step=1 ;;
	*alloc | alloc-run | space) step=$((FAULT_STEP * 10)) ;;
	esac
	[ "$FAULT_STEP" != 1 ] || [ "$plan" = space ] || step=1
	out=$("$FAULT_BIN" -p "$plan" -s "$step" -f "$((${IOMAPFS_SEED:-0} % step))" 2>&1)
	rc=$?
	# None touched would be a loop that tests nothing.
	[ $rc != 0 ] || ! echo "$out" | grep -q ' 0 touched' || rc=1
	n=$((n + 1))
	if [ $rc = 0 ]; then
		echo "ok $n - $plan: $(echo "$out" | tail -n 1)"
	else
		echo "not ok $n - $plan"
		echo "$out" | sed 's/^#*/#/' | head -n 40
		failed=1
	fi
done
echo "1..$n"
exit $failed

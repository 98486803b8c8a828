#!/bin/bash
# SPDX-License-Identifier: MIT
# Each field of each structure with wrong values: found, repaired, and the file system works afterwards.
# FIELDS_BIN: the program, from a build with sanitizers. FIELDS_MINUTES: again with other seeds, so long.
set -u
: "${FIELDS_BIN:?the fields program}"
: "${IOMAPFS_SEED:=1}"
end=$((SECONDS + ${FIELDS_MINUTES:-0} * 60))
n=0 failed=0
while :; do
	out=$("$FIELDS_BIN" -s $((IOMAPFS_SEED + n)) 2>&1)
	rc=$?
	n=$((n + 1))
	# One field that was not tried would be a hole in the table.
	[ $rc != 0 ] || echo "$out" | grep -Eq '^seed [0-9]+: ([0-9]{4,}) of \1 cases, [0-9]{3,} fields: 0 failed$' || rc=1
	if [ $rc = 0 ]; then
		echo "ok $n - $out"
	else
		echo "not ok $n - seed $((IOMAPFS_SEED + n - 1))"
		echo "$out" | sed 's/^#*/#/' | head -n 60
		failed=1
	fi
	[ $SECONDS -lt $end ] || break
done
echo "1..$n"
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A million operations in process: block sizes x folio sizes x ways to read and write, with shared blocks,
# remounts and the checker in between. MATRIX_BIN: the program, from a build without a sanitizer;
# MATRIX_ASAN_BIN: from one with. IOMAPFS_SOAK_MINUTES: for so long instead, seed after seed.
set -u
: "${MATRIX_BIN:?the matrix program}"
: "${MATRIX_ASAN_BIN:?the matrix program of a sanitizer build}"
: "${IOMAPFS_SEED:=1}"
n=0 failed=0

matrix() { # TEXT PROGRAM ARGS...
	local out rc text=$1
	shift
	out=$(timeout 500 "$@" 2>&1)
	rc=$?
	n=$((n + 1))
	[ $rc = 0 ] || failed=1
	echo "$out" | sed 's/^/# /'
	[ $rc = 0 ] && echo "ok $n - $text" || echo "not ok $n - $text"
}

if [ -n "${IOMAPFS_SOAK_MINUTES:-}" ]; then
	end=$((SECONDS + IOMAPFS_SOAK_MINUTES * 20))
	for ((seed = IOMAPFS_SEED; SECONDS < end; seed++)); do
		matrix "10^6 operations, seed $seed" "$MATRIX_BIN" --ops 1000000 --seed "$seed"
	done
else
	matrix "10^6 operations" "$MATRIX_BIN" --ops 1000000 --seed "$IOMAPFS_SEED"
	matrix "10^5 operations under the sanitizers" "$MATRIX_ASAN_BIN" --ops 100000 --seed $((IOMAPFS_SEED + 1))
fi
echo "1..$n"
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Data and names at once on one mount: four files' writers beside processes that change names.
IMG_SIZE=512M
. "$(dirname "$0")/common.sh"

seconds=$(seconds_for 3)
for mode in $modes; do
	fresh "" "kernel_cache=$mode"
	rc=$?
	[ $rc = 0 ] || { ok $rc "kernel_cache=$mode: mkfs and mount"; continue; }
	pids=() names=()
	for i in 0 1 2; do
		timeout -k 10 $((seconds + 180)) "$IOMAPFS_BIN/fsx" --dir "$dir" --seconds "$seconds" \
			--seed $((IOMAPFS_SEED + i)) >"$tmp/log.$i" 2>&1 &
		pids+=($!) names+=("fsx $i")
	done
	timeout -k 10 $((seconds + 180)) "$IOMAPFS_BIN/fsstress" --dir "$dir" --seconds "$seconds" \
		--seed "$IOMAPFS_SEED" --procs 3 --reopen-every 500 >"$tmp/log.3" 2>&1 &
	pids+=($!) names+=("fsstress")
	for i in 0 1 2 3; do
		wait "${pids[$i]}"
		rc=$?
		ok $rc "${names[$i]} beside the others, kernel_cache=$mode"
		[ $rc = 0 ] || sed 's/^#* */# /' "$tmp/log.$i" | head -n 150
	done
done
done_testing

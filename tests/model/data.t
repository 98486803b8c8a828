#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Data against a model: each cache mode on each block size, with remounts between.
. "$(dirname "$0")/common.sh"

seconds=$(seconds_for 9)
for mode in $modes; do
	for block in 1024 4096 65536; do
		what="fsx, kernel_cache=$mode, $block-byte blocks"
		fresh "-b $block" "kernel_cache=$mode"
		rc=$?
		[ $rc = 0 ] || { ok $rc "$what: mkfs and mount"; continue; }
		run_case "$what" "$seconds" fsx --seed "$IOMAPFS_SEED" --reopen-cmd "$(remount_cmd)" --reopen-every 700
	done
done
done_testing

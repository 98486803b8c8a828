#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Names and attributes against a model: each cache mode, with remounts between.
. "$(dirname "$0")/common.sh"

seconds=$(seconds_for 3)
for mode in $modes; do
	what="fsstress, kernel_cache=$mode"
	fresh "" "kernel_cache=$mode"
	rc=$?
	[ $rc = 0 ] || { ok $rc "$what: mkfs and mount"; continue; }
	run_case "$what" "$seconds" fsstress --seed "$IOMAPFS_SEED" --reopen-cmd "$(remount_cmd)" --reopen-every 1000
	rm -rf "${dir:?}"/*
	ok $? "rm -rf of what it left"
	same "$(ls -A "$dir" 2>&1)" "" "nothing is left"
done
done_testing

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Let libFuzzer look for inputs that crash, hang or leak, for a bounded time over all targets.
# What it learns is kept in FUZZ_WORK, so that the next run goes on where this one stopped.
#
# FUZZ_BIN: where the fuzz-* programs are; FUZZ_SECONDS: in all (default 48); IOMAPFS_SEED.
set -u
cd "$(dirname "$0")" || exit 3
# Each with its share of 48: the small ones know quickly what there is to know.
targets="verify:2 options:2 check:10 mount:12 journal:12 request:10"
bin=${FUZZ_BIN:?where are the programs built with -Dfuzz=enabled?}
work=${FUZZ_WORK:-$bin/work}
seconds=${FUZZ_SECONDS:-48}
n=0 bad=0
# Where fsck sees nothing, nobody else may see damage later.
export FUZZ_JUDGE=1

stat_of() { sed -n "s/^stat::$1: *//p" "$2" | tail -1; }

echo 1..6
for t in $targets; do
	each=$((seconds * ${t#*:} / 48 + 1))
	t=${t%:*}
	n=$((n + 1))
	mkdir -p "$work/$t" "$work/finds/$t"
	log=$work/$t.log
	# A slow machine is no hang: an input takes milliseconds.
	"$bin/fuzz-$t" -seed="${IOMAPFS_SEED:-1}" -max_total_time="$each" -timeout=60 -max_len=1024 \
		-len_control=0 -rss_limit_mb=4096 -print_final_stats=1 \
		-artifact_prefix="$work/finds/$t/" "$work/$t" "corpus/$t" >"$log" 2>&1
	rc=$?
	runs=$(stat_of number_of_executed_units "$log")
	edges=$(sed -n 's/^#[0-9].* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
	if [ $rc = 0 ]; then
		echo "ok $n - $t: ${runs:-0} executions, ${edges:-0} edges, no find"
	else
		echo "not ok $n - $t: a find after ${edges:-?} edges, kept in $work/finds/$t"
		grep -vE '^#[0-9]+' "$log" | tail -n 60 | sed 's/^/# /'
		bad=1
	fi
done
exit $bad

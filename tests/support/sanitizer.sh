# SPDX-License-Identifier: MIT
# A daemon has no terminal: what the sanitizers and failed asserts say about it goes to files
# under $tmp, and a script whose daemon said anything has failed.
# shellcheck shell=bash disable=SC2154 # tmp is set by who sources this

export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$tmp/report:handle_abort=1"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$tmp/report:print_stacktrace=1"
export TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$tmp/report"

# Leaks are counted when a daemon exits, which is a little after its mount has gone.
daemons_gone() {
	local i
	for i in $(seq 100); do
		pgrep -f "mount\.iomapfs.*$tmp/" >/dev/null || return 0
		sleep 0.1
	done
	echo "# a daemon of $tmp is still there after $((i / 10)) s"
}

# Print what there is; fails if there is anything.
no_reports() {
	local f bad=0
	for f in "$tmp"/report.*; do
		[ -e "$f" ] || continue
		bad=1
		head -n 200 "$f" | sed 's/^/# /'
	done
	return $bad
}

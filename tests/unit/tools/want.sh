# SPDX-License-Identifier: MIT
# For the scripts here: a folder that goes away, and want.
# shellcheck shell=sh disable=SC2034
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
img=$dir/img failed=0

# want CODE PATTERN COMMAND...: the exit code, and a line of output that matches ('': none at all).
want() {
	code=$1 pattern=$2
	shift 2
	"$@" >"$dir/out" 2>&1 </dev/null
	rc=$?
	if [ -n "$pattern" ]; then
		grep -q -e "$pattern" "$dir/out"
	else
		[ ! -s "$dir/out" ]
	fi
	if [ $? -ne 0 ] || [ $rc -ne "$code" ]; then
		echo "FAILED: $* gave $rc, wanted $code and '$pattern':"
		cat "$dir/out"
		failed=1
	fi
}

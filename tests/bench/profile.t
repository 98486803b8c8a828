#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# scripts/profile: a function that computes and one that sleeps are found, each by its way of looking. And what a
# tracer finds in the daemon.
set -u
here=$(cd "$(dirname "$0")" && pwd)
profile=$here/../../scripts/profile
if [ "$(id -u)" != 0 ] || ! command -v perf >/dev/null; then
	echo "1..0 # skip needs root and perf"
	exit 0
fi
tmp=$(mktemp -d /tmp/iomapfs-profile-t-XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
n=0 failed=0
ok() { # CONDITION-STATUS DESCRIPTION
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else
		failed=1
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/log" 2>/dev/null | tail -n 20
	fi
}
share() { # FOLDER FUNCTION: whole percent of the time with it on the stack
	awk -v f="$2" '{ all += $NF; if (index($0, f)) part += $NF } END { printf "%d\n", all ? 100 * part / all : 0 }' "$tmp/$1/folded.txt"
}

cat >"$tmp/both.c" <<'END'
#include <unistd.h>
__attribute__((noinline)) void burn_here(void)
{
	for (volatile unsigned long i = 0; i < 400000000; i++)
		;
}
/* libc has no frame pointers: whoever calls it directly is not seen. */
__attribute__((noinline)) void call_libc(void)
{
	usleep(300000);
	__asm__ volatile(""); /* no tail call */
}
__attribute__((noinline)) void wait_here(void)
{
	call_libc();
	__asm__ volatile("");
}
int main(int argc, char **argv)
{
	burn_here();
	wait_here();
	return argc - 1;
}
END
cc -O1 -fno-omit-frame-pointer -o "$tmp/both" "$tmp/both.c" || exit 1
perf record -q -a -e cpu-clock -o "$tmp/try" -- true 2>"$tmp/log" || { echo "1..0 # skip perf may not look here"; exit 0; }

"$profile" --comm both --out "$tmp/on" -- "$tmp/both" >"$tmp/log" 2>&1
ok $? "where it runs"
ok $(($(share on burn_here) < 80)) "most of it in the function that computes: $(share on burn_here) %"
"$profile" --off-cpu --comm both --out "$tmp/off" -- "$tmp/both" >"$tmp/log" 2>&1
ok $? "where it waits"
ok $(($(share off wait_here) < 60)) "most of it in the function that sleeps: $(share off wait_here) %"
ok $(($(share off burn_here) > 40)) "not in the one that computes: $(share off burn_here) %"
for d in on off; do
	python3 - "$tmp/$d" <<'PY' >"$tmp/log" 2>&1
import sys, xml.dom.minidom
svg = xml.dom.minidom.parse(f"{sys.argv[1]}/flame.svg")
titles = [t.firstChild.data for t in svg.getElementsByTagName("title")]
assert len(titles) > 3 and titles[0].startswith("all: "), titles
assert any(t.startswith(("burn_here: ", "wait_here: ")) for t in titles), titles
assert "%" in open(f"{sys.argv[1]}/top.txt").read()
PY
	ok $? "$d: a picture and a list"
done
"$profile" --comm both --out "$tmp/on" -- "$tmp/both" fails >"$tmp/log" 2>&1
ok $(($? != 1)) "a command that fails"
"$profile" --comm no-such-thread --out "$tmp/none" -- true >"$tmp/log" 2>&1
rc=$?
ok $((rc != 3)) "nothing seen is told by the exit code"
grep -q 'no sample of such threads' "$tmp/log"
ok $? "and in words"
"$profile" --hz >"$tmp/log" 2>&1
ok $(($? != 2)) "usage"

# ---- Trace points: there, and one instruction that does nothing -------------------------------------------
: "${IOMAPFS_BIN:=$here/../../build/asan/bin}"
bin=$(readlink -f "$IOMAPFS_BIN/iomapfs")
readelf -n "$bin" 2>/dev/null | grep -A2 'Provider: iomapfs' >"$tmp/log"
names=$(sed -n 's/^ *Name: //p' "$tmp/log" | sort -u | tr '\n' ' ')
[ "$names" = "bd_end bd_submit commit_begin commit_end ioend_submit iomap_mapping request_end throttle " ]
ok $? "the daemon has its trace points: $names"
idle=0 places=0
for at in $(sed -n 's/^ *Location: \(0x[0-9a-f]*\),.*/\1/p' "$tmp/log"); do
	places=$((places + 1))
	objdump -d --start-address="$at" --stop-address=$((at + 1)) "$bin" | grep -Eq ':[[:space:]]+90[[:space:]]+nop' && idle=$((idle + 1))
done
ok $((places < 8 || idle != places)) "each of $places places is a nop"
echo "1..$n"
exit $failed

#!/bin/bash
# SPDX-License-Identifier: MIT
# Broken images, each made by a recipe in tests/fsck/corpus: what fsck.iomapfs -n says of it
# (expect.1), what -y makes of it and what -n says then (expect.2).
#
# A recipe: "base orphan" or "base dirty" for an image with an orphan or with a journal to replay, then "put WHERE FIELD=VALUE...",
# which is iomapctl debug set. IOMAPFS_UPDATE=1 writes the expectations anew: look at them with git diff.
# FSCK_BASE: the program that makes the images (tests/fsck/base.c).
set -u
: "${IOMAPFS_BIN:?the programs}"
: "${FSCK_BASE:?the program that makes the image}"
corpus=$(cd "$(dirname "$0")" && pwd)/corpus
PATH=$IOMAPFS_BIN:$PATH
tmp=$(mktemp -d /tmp/iomapfs-corpus-XXXXXX)
trap 'rm -rf "$tmp"' EXIT
n=0 failed=0

ok() { # STATUS TEXT
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}

base() {
	cp --sparse=always "$tmp/$1" "$tmp/img"
}
put() {
	iomapctl debug "$tmp/img" set --force "$@" >>"$tmp/put" 2>&1 || echo "put $* failed" >>"$tmp/put.bad"
}
# fsck ARGS...: its output and exit code. Into how many transactions the work went is a matter of timing.
fsck() {
	(cd "$tmp" && fsck.iomapfs "$@" img 2>&1; exit $?) | sed 's/([0-9]* transactions)/(N transactions)/'
	echo "exit ${PIPESTATUS[0]}"
}
# compare NAME FILE WHAT: what was said against what is expected, or takes its place.
compare() {
	[ -z "${IOMAPFS_UPDATE:-}" ] || cp "$2" "$corpus/$1/$3"
	diff -u "$corpus/$1/$3" "$2" >"$tmp/diff" 2>&1
	ok $? "$1: $3"
	[ -s "$tmp/diff" ] && sed 's/^/# /' "$tmp/diff"
}

for kind in clean orphan dirty; do
	"$FSCK_BASE" "$tmp/$kind" $kind && base $kind && fsck -n >"$tmp/out"
	grep -q '^exit 0$' "$tmp/out"
	ok $? "$kind: made, and nothing is wrong"
done

for dir in "$corpus"/*/; do
	name=$(basename "$dir")
	rm -f "$tmp/put" "$tmp/put.bad"
	base clean
	# shellcheck source=/dev/null
	. "$dir/recipe"
	[ ! -e "$tmp/put.bad" ] || { ok 1 "$name: recipe"; sed 's/^/# /' "$tmp/put"; }
	fsck -n >"$tmp/out.1"
	cp "$tmp/img" "$tmp/before"
	fsck -n >/dev/null
	cmp -s "$tmp/img" "$tmp/before" || ok 1 "$name: -n wrote"
	{ fsck -y; fsck -n; } >"$tmp/out.2"
	compare "$name" "$tmp/out.1" expect.1
	compare "$name" "$tmp/out.2" expect.2
done

# Each problem of the table has a recipe, but for those that no field can make.
for code in $(sed -n 's/^\tX(\([A-Z_]*\),.*/\1/p' "$corpus/../../../src/check/chk.h" | tr _ -); do
	case $code in
	AG-FREE-SLOTS) continue ;;   # the image has no partly used cluster: tests/unit/check
	JNL-IMAGE) continue ;;       # needs the sums of a whole transaction: tests/unit/check
	TREE-NODE-READ) continue ;;  # a device that cannot be read: tests/fault
	FREE-NOT-MERGED | SLOT-ALL-FREE) continue ;; # notes: nothing is wrong
	esac
	grep -q "\[$code\]" "$corpus"/*/expect.1 || { ok 1 "no recipe makes $code"; }
done
ok 0 "the table of problems was gone through"
echo "1..$n"
exit $failed

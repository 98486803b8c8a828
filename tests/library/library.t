#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# libiomap as someone else has it: installed into a folder, found by pkg-config, and the example built against
# that alone, shared and static. Then the example at work: files in and out, its map, killed in the
# middle, opened again. IOMAPFS_BIN names the build, as for tests/mount; root is not needed.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${IOMAPFS_BIN:=$here/../../build/asan/bin}"
build=$(cd "$IOMAPFS_BIN/.." 2>/dev/null && pwd)
if [ ! -f "${build:-.}/build.ninja" ]; then
	echo "Bail out! no build at $IOMAPFS_BIN/..: IOMAPFS_BIN=BUILD_DIR/bin"
	exit 1
fi
tmp=$(mktemp -d /tmp/iomapfs-library-XXXXXX)
writer="" n=0 failed=0
trap '[ -z "$writer" ] || kill -9 "$writer" 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

ok() { # CONDITION-STATUS DESCRIPTION
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n - $2"; else
		failed=1
		echo "not ok $n - $2"
		[ ! -s "$tmp/out" ] || sed 's/^/#   /' "$tmp/out" | tail -n 20
	fi
}
option() { meson introspect "$build" --buildoptions | python3 -c \
	"import json, sys; print(*[o['value'] for o in json.load(sys.stdin) if o['name'] == '$1'])"; }

sanitize=$(option b_sanitize)
flags="-O1 -g -Wall -Wextra -Werror -Wno-unused-parameter"
if [ "$sanitize" != none ]; then flags="$flags -fsanitize=$sanitize"; fi
prefix=$(option prefix)

# ---- What is installed ------------------------------------------------------------------------
DESTDIR=$tmp/root meson install -C "$build" --no-rebuild --tags libiomap,devel,man >"$tmp/out" 2>&1
ok $? "meson install --tags libiomap,devel,man"
root=$tmp/root$prefix
libdir=$(dirname "$(find "$root" -name libiomap.so)")
(cd "$tmp/root" && find . ! -type d | sed "s|^\.$prefix/||; s|^lib/[^/]*linux[^/]*/|lib/|" | sort) >"$tmp/files"
version=$(sed -n "s/^ *version: '\(.*\)',/\1/p" "$here/../../meson.build" | head -1)
cat >"$tmp/wanted" <<-END
	include/iomapfs/base.h
	include/iomapfs/block.h
	include/iomapfs/dax.h
	include/iomapfs/folio.h
	include/iomapfs/iomap.h
	lib/libiomap.a
	lib/libiomap.so
	lib/libiomap.so.0
	lib/libiomap.so.$version
	lib/pkgconfig/libiomap.pc
	share/man/man3/iomap.3
END
diff "$tmp/wanted" "$tmp/files" >"$tmp/out" 2>&1
ok $? "the library, its headers, its page, and nothing else"
: >"$tmp/out"
[ "$(readelf -d "$libdir/libiomap.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" = libiomap.so.0 ]
ok $? "soname libiomap.so.0"
readelf -d "$libdir/libiomap.so" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -vE '^(lib(uring|c|asan|ubsan|tsan)|ld-linux.*)\.so' >"$tmp/out"
ok $([ ! -s "$tmp/out" ]; echo $?) "it needs liburing and libc, no more: no libfuse3"

# ---- Headers ------------------------------------------------------------------------------------
pc() { # PKG-CONFIG-ARGS: as installed, moved to our folder; others' files come from the system
	PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --define-variable=prefix="$root" "$@"
}
for h in base block dax folio iomap; do
	echo "#include <iomapfs/$h.h>" >"$tmp/one.c"
	# shellcheck disable=SC2046 # words
	cc -std=gnu11 -Wall -Wextra -Wundef -Wstrict-prototypes -Werror -fsyntax-only $(pc --cflags libiomap) \
		"$tmp/one.c" >"$tmp/out" 2>&1
	ok $? "<iomapfs/$h.h> compiles alone"
done
if command -v c++ >/dev/null; then
	c++ -x c++ -fsyntax-only -I"$root/include" "$tmp/one.c" >"$tmp/out" 2>&1
	ok $([ $? != 0 ] && grep -q 'call it from a C file' "$tmp/out"; echo $?) "C++ is told what to do"
fi

# ---- The example, from a copy of its folder ---------------------------------------------------------
cp -r "$here/../../examples/flatstore" "$tmp/src"
cc_example() { # OUTPUT LINK-WORDS...
	local out=$1
	shift
	# shellcheck disable=SC2046,SC2086 # words
	cc -std=gnu11 $flags $(pc --cflags libiomap libxxhash) -o "$out" "$tmp"/src/{main,files,store}.c \
		"$@" >"$tmp/out" 2>&1
}
PKG_CONFIG_PATH=$libdir/pkgconfig make -s -C "$tmp/src" CFLAGS="$flags" PKG_CONFIG="pkg-config --define-variable=prefix=$root" \
	>"$tmp/out" 2>&1
ok $? "its Makefile builds it against the shared library"
export LD_LIBRARY_PATH=$libdir
ldd "$tmp/src/flatstore" | sed 's/ .*//; s/^[[:space:]]*//' | sort >"$tmp/ldd"
grep -q '^libiomap\.so\.0' "$tmp/ldd" && ! grep -vE '^(libiomap|liburing|libxxhash|libc|libasan|libubsan|libtsan|libgcc_s|libm|libdl|librt|libpthread|libstdc\+\+|linux-vdso)\.|ld-linux' "$tmp/ldd" >"$tmp/out"
ok $? "ldd shows libiomap and its few dependencies"
# shellcheck disable=SC2046 # words
static_libs=$(pc --static --libs libiomap libxxhash)
if [ "$sanitize" = none ]; then
	# shellcheck disable=SC2086 # words
	cc_example "$tmp/static" -static $static_libs
	ok $? "a static program, by pkg-config --static"
else
	# A sanitizer's runtime is shared: the library alone is taken from its archive.
	# shellcheck disable=SC2086 # words
	cc_example "$tmp/static" ${static_libs//-liomap/-l:libiomap.a}
	ok $? "the library from its archive"
fi
! ldd "$tmp/static" 2>/dev/null | grep libiomap >"$tmp/out"
ok $? "which needs no libiomap.so"

# ---- At work ---------------------------------------------------------------------------------------------
img=$tmp/img
at_work() { # PROGRAM WHAT
	local fs=$1 what=$2 at
	rm -f "$img"
	truncate -s 64M "$img"
	timeout 20 "$fs" "$img" ls >"$tmp/out" 2>&1
	ok $([ $? = 1 ] && grep -q 'not a flatstore' "$tmp/out"; echo $?) "$what: an empty image is refused, and why"
	timeout 20 "$fs" "$img" frmat >"$tmp/out" 2>&1
	ok $([ $? = 2 ] && grep -q usage: "$tmp/out"; echo $?) "$what: an unknown command gets the usage, exit code 2"
	timeout 20 "$fs" "$img" format >"$tmp/out" 2>&1
	ok $? "$what: format"
	head -c 5000001 /dev/urandom >"$tmp/a"
	head -c 3000000 /dev/urandom >"$tmp/b"
	timeout 60 "$fs" "$img" put a <"$tmp/a" 2>"$tmp/out" && timeout 60 "$fs" "$img" dput b <"$tmp/b" 2>"$tmp/out"
	ok $? "$what: put, through the cache and around it"
	timeout 60 "$fs" "$img" get a | cmp - "$tmp/a" >"$tmp/out" 2>&1 && timeout 60 "$fs" "$img" get b | cmp - "$tmp/b" >"$tmp/out" 2>&1
	ok $? "$what: get gives the same bytes"
	timeout 20 "$fs" "$img" ls >"$tmp/out" 2>&1
	ok $([ "$(tr -s ' ' <"$tmp/out" | sed 's/^ //')" = "$(printf '5000001 a\n3000000 b')" ]; echo $?) "$what: ls"
	printf hello | timeout 20 "$fs" "$img" patch holes 1000000 && timeout 20 "$fs" "$img" map holes >"$tmp/out" 2>&1
	ok $([ $? = 0 ] && grep -qx 'data 999424 to 1000005' "$tmp/out" && [ "$(grep -c ^extent "$tmp/out")" = 1 ]; echo $?) \
		"$what: a write behind the end leaves a hole"
	timeout 20 "$fs" "$img" map a >"$tmp/out" 2>&1
	ok $([ $? = 0 ] && [ "$(grep -c ^extent "$tmp/out")" -le 2 ] && grep -q 'data 0 to 5000001' "$tmp/out" && ! grep -q unwritten "$tmp/out"; echo $?) \
		"$what: five megabytes written in one go are an extent or two"
	at=$(sed -n 's/^extent 0 at \([0-9]*\) .*/\1/p' "$tmp/out")
	head -c 4096 "$tmp/a" >"$tmp/first"
	tail -c +$((at + 1)) "$img" | head -c 4096 | cmp - "$tmp/first" >"$tmp/out" 2>&1
	ok $? "$what: and lie where the map says"
	printf XYZ | timeout 20 "$fs" "$img" patch a 4999 && printf XYZ | dd of="$tmp/a" bs=1 seek=4999 conv=notrunc status=none
	timeout 20 "$fs" "$img" get a | cmp - "$tmp/a" >"$tmp/out" 2>&1
	ok $? "$what: a patch in place"
	killed "$fs" "$what"
	timeout 20 "$fs" "$img" rm b >"$tmp/out" 2>&1 && ! timeout 20 "$fs" "$img" get b >/dev/null 2>"$tmp/out" && grep -q 'No such file' "$tmp/out"
	ok $? "$what: rm"
	head -c 70000000 /dev/zero | timeout 120 "$fs" "$img" put big >"$tmp/out" 2>&1
	ok $([ $? = 1 ] && grep -q 'No space left' "$tmp/out"; echo $?) "$what: a full image says so"
	timeout 20 "$fs" "$img" get a | cmp - "$tmp/a" >"$tmp/out" 2>&1
	ok $? "$what: and lost nothing"
}
killed() { # PROGRAM WHAT: kill a put over a, at several moments; its input never ends
	local fs=$1 good=0 i
	for i in 0.01 0.05 0.2 0.5; do
		rm -f "$tmp/pipe"
		mkfifo "$tmp/pipe"
		exec 8<>"$tmp/pipe"
		"$fs" "$img" put a <"$tmp/pipe" 8>&- 2>/dev/null &
		writer=$!
		timeout 10 head -c 10000000 /dev/zero >"$tmp/pipe" 2>/dev/null 8>&- &
		sleep $i
		kill -9 "$writer"
		wait "$writer" 2>/dev/null
		writer=""
		exec 8>&-
		wait
		timeout 20 "$fs" "$img" get a 2>"$tmp/out" | cmp - "$tmp/a" >>"$tmp/out" 2>&1 || good=1
	done
	ok $good "$2: killed in the middle of a put, the old file is there, whole"
	timeout 20 "$fs" "$img" ls >"$tmp/out" 2>&1
	ok $([ "$(grep -c . "$tmp/out")" = 3 ] && ! grep -q '\.put' "$tmp/out"; echo $?) "$2: and no other"
}
at_work "$tmp/src/flatstore" shared
at_work "$tmp/static" static
echo "1..$n"
exit $failed

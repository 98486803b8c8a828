#!/bin/sh
# SPDX-License-Identifier: MIT
# The static libiomap: one object of all layers, in which only what the headers declare stays
# global, so that a file system may have a rng_seed of its own.
#
# usage: archive.sh OUT AR OBJCOPY UTIL.a LAYERS.a -- CC...
set -eu
out=$1 ar=$2 objcopy=$3 util=$4
shift 4
layers=""
while [ "$1" != -- ]; do
	layers="$layers $1"
	shift
done
shift
# Of util only what the layers call; of them everything.
# shellcheck disable=SC2086 # a list of paths without blanks, as meson makes them
"$@" -r -nostdlib -o "$out.o" -Wl,--whole-archive $layers -Wl,--no-whole-archive "$util"
"$objcopy" --localize-hidden "$out.o"
rm -f "$out"
"$ar" rcsD "$out" "$out.o"
rm -f "$out.o"

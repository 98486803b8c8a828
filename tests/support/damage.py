#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Damage metadata blocks of an iomapfs image.

usage: damage.py IMAGE SEED COUNT MAGIC...     MAGIC: IMAG IMBT IMIN IMDR IMBL

Finds blocks by their magic and own address and overwrites some bytes of COUNT of them (0: of all).
Prints what it did. Tree nodes of groups are IMBG here, those of inodes IMBT.
"""
import random
import struct
import sys

GROUP_TREES = range(1, 8)


def kind(block, number):
    magic = block[:4].decode("latin1")
    if struct.unpack_from("<Q", block, 32)[0] != number:
        return None
    if magic == "IMBT" and struct.unpack_from("<H", block, 48)[0] in GROUP_TREES:
        return "IMBG"
    return magic


def main():
    path, seed, count, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    rng = random.Random(seed)
    with open(path, "r+b") as f:
        f.seek(0)
        # The ring holds copies of blocks, at other places than their own.
        found, number = [], 0
        while block := f.read(4096):
            if block[:2] == b"IM" and kind(block, number) in wanted:
                found.append(number)
            number += 1
        for n in sorted(rng.sample(found, min(count, len(found))) if count else found):
            at = n * 4096 + rng.randrange(64, 4000)
            f.seek(at)
            f.write(rng.randbytes(rng.choice((1, 8, 90))))
            print(f"block {n}, byte {at % 4096}")
    print(f"{len(found)} such blocks")
    return 0 if found else 1


sys.exit(main())

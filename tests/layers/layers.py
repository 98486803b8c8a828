#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The arrows of docs/DESIGN.md: who may include whom, and which names a layer may export.

usage: layers.py SOURCE_ROOT LIB.a...    (libraries named libiomapfs-LAYER.a)
Prints TAP; exits 1 when an arrow points up or a symbol lacks its layer's prefix.
"""
import os
import re
import subprocess
import sys

# layer: (public headers it may include, prefixes of exported symbols)
LAYERS = {
    "util": ({"util"}, ["log_", "crc32c_", "rng_", "clock_", "lk_", "work_", "hook_", "data_"]),
    "block": ({"util", "block"}, ["bd_"]),
    "folio": ({"util", "folio"},
              ["folio_", "filemap_", "mapping_", "errseq_", "writeback_", "truncate_inode_pages",
               "invalidate_", "balance_dirty_pages"]),
    "iomap": ({"util", "folio", "iomap"},
              ["iomap_", "iov_iter_", "inode_dio_", "fiemap_prep", "pagecache_",
               "generic_atomic_write_valid", "dax_", "kill_dax"]),
    "format": ({"util", "format"}, ["od_"]),
    "buffer": ({"util", "block", "format", "buffer"}, ["buf_"]),
    "journal": ({"util", "block", "format", "buffer", "journal"}, ["jnl_"]),
    "fs": ({"util", "block", "folio", "iomap", "format", "buffer", "journal", "fs"},
           ["fs_", "bt_", "ag_", "space_", "ialloc_", "orphan_", "icache_", "extent_", "ext_", "da_", "cow_", "refc_",
            "dir_", "xattr_", "acl_", "symlink_", "inode_", "busy_"]),
    "check": ({"util", "block", "format", "check"}, ["chk_"]),
    "fuse": ({"util", "block", "folio", "iomap", "fs", "ioctl", "format"}, ["fz_"]),
    "preload": ({"ioctl"}, ["ioctl"]),
    "tools": ({"util", "block", "format", "journal", "check", "ioctl", "buffer", "fs"}, None),
}
# Besides block/.
URING = {"fuse/transport_uring.c"}
# Second headers of a layer.
SECOND_HEADERS = {"format_field": "format", "base": "util", "dax": "iomap", "pmem": "block"}
failed = 0
number = 0


def report(ok, what, why=()):
    global failed, number
    number += 1
    print(f"{'ok' if ok else 'not ok'} {number} - {what}")
    for line in why:
        print(f"# {line}")
    failed += not ok


def check_includes(root, layer, allowed):
    bad = []
    folder = os.path.join(root, "src", layer)
    for name in sorted(os.listdir(folder)):
        if not name.endswith((".c", ".h")):
            continue
        for lineno, line in enumerate(open(os.path.join(folder, name)), 1):
            m = re.match(r'\s*#\s*include\s+["<]iomapfs/(\w+)\.h[">]', line)
            if m and SECOND_HEADERS.get(m.group(1), m.group(1)) not in allowed:
                bad.append(f"src/{layer}/{name}:{lineno}: includes iomapfs/{m.group(1)}.h")
            m = re.match(r'\s*#\s*include\s+"(\.\./.*)"', line)
            if m:
                bad.append(f"src/{layer}/{name}:{lineno}: reaches into {m.group(1)}")
            if layer != "fuse" and re.match(r'\s*#\s*include\s+<fuse', line):
                bad.append(f"src/{layer}/{name}:{lineno}: only fuse/ knows libfuse")
            if f"{layer}/{name}" not in URING and layer != "block" and re.match(r'\s*#\s*include\s+<liburing', line):
                bad.append(f"src/{layer}/{name}:{lineno}: only block/ and {', '.join(URING)} know io_uring")
    report(not bad, f"{layer}: includes point down", bad)


def check_public_headers(root):
    order = list(LAYERS)
    bad = []
    for layer in order:
        path = os.path.join(root, "include", "iomapfs", layer + ".h")
        if not os.path.exists(path):
            continue
        for lineno, line in enumerate(open(path), 1):
            m = re.match(r'\s*#\s*include\s+"iomapfs/(\w+)\.h"', line)
            if m and SECOND_HEADERS.get(m.group(1), m.group(1)) not in LAYERS[layer][0]:
                bad.append(f"include/iomapfs/{layer}.h:{lineno}: includes {m.group(1)}.h")
    report(not bad, "public headers point down", bad)


def check_symbols(lib):
    layer = re.search(r"libiomapfs-(\w+)\.a$", lib).group(1)
    prefixes = LAYERS[layer][1]
    if prefixes is None:
        return
    out = subprocess.run(["nm", "-g", "--defined-only", lib], capture_output=True, text=True,
                         check=True).stdout
    names = {f[2] for f in (l.split() for l in out.splitlines()) if len(f) == 3}
    # Of the sanitizers, and of trace points (sys/sdt.h).
    names = {n for n in names
             if not n.startswith(("__asan", "__odr_asan", "__ubsan", "__tsan", "_.stapsdt"))}
    bad = sorted(n for n in names if not n.startswith(tuple(prefixes)))
    report(bool(names) and not bad, f"{layer}: {len(names)} exported symbols carry its prefix", bad)


def main():
    root, libs = sys.argv[1], sys.argv[2:]
    for layer, (allowed, _) in LAYERS.items():
        check_includes(root, layer, allowed)
    check_public_headers(root)
    for lib in libs:
        check_symbols(lib)
    print(f"1..{number}")
    return failed != 0


sys.exit(main())

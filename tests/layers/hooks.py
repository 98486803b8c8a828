#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hook points are in no release build: each file that has some is compiled without debug_checks and looked into.

usage: hooks.py SOURCE_ROOT CC...
"""
import os
import re
import subprocess
import sys
import tempfile

root, cc = sys.argv[1], sys.argv[2:]
number = failed = 0


def hook_symbols(path, debug, out):
    flags = ["-std=gnu11", "-O1", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", f"-DIOMAPFS_DEBUG={debug}",
             "-I" + os.path.join(root, "include"), "-I" + os.path.dirname(path)]
    subprocess.run(cc + flags + ["-c", path, "-o", out], check=True)
    table = subprocess.run(["nm", "-u", out], check=True, capture_output=True, text=True).stdout
    names = re.findall(r'\bHOOK\("([\w:-]+)"', open(path).read())
    blob = open(out, "rb").read()
    return re.findall(r"\bhook_\w+", table) + [n for n in names if n.encode() in blob]


with tempfile.TemporaryDirectory() as tmp:
    obj = os.path.join(tmp, "x.o")
    for base, _, files in sorted(os.walk(os.path.join(root, "src"))):
        for name in sorted(files):
            path = os.path.join(base, name)
            if not name.endswith(".c") or not re.search(r'\bHOOK\("', open(path).read()):
                continue
            number += 1
            # That the look finds them where they are is part of the proof.
            bad = hook_symbols(path, 0, obj) or ([] if hook_symbols(path, 1, obj) else ["not seen in a debug build"])
            print(f"{'not ok' if bad else 'ok'} {number} - {os.path.relpath(path, root)}")
            for b in bad:
                print(f"# {b}")
            failed += bool(bad)
print(f"1..{number}")
sys.exit(failed != 0 or number < 5)

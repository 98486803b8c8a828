#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""libiomap: what it exports is what its headers declare, and its page tells all of it.

usage: surface.py SOURCE_ROOT libiomap.so libiomap.a
Prints TAP; exits 1 when a function is declared and not exported, exported and not declared, or when
docs/man/iomap.3 lacks a function of iomap.h or dax.h, a callback, or is not well-formed.
"""
import os
import re
import shutil
import subprocess
import sys

HEADERS = ["base", "block", "dax", "folio", "iomap"]
PAGE = "docs/man/iomap.3"
# What a contract says, in this order.
CONTRACT = ["Locks", "Sleeps", "Memory", "Units", "Errors", "After failure"]
# Function pointers that the engine fills itself.
INTERNAL = [("iomap_bio", "end_io"), ("iomap_ioend", "io_end")]
# Symbols that a sanitizer adds.
FOREIGN = ("__asan", "__odr_asan", "__ubsan", "__tsan", "LIBIOMAP_")
failed = 0
number = 0


def report(what, bad):
    global failed, number
    number += 1
    print(f"{'not ok' if bad else 'ok'} {number} - {what}")
    for line in bad[:40]:
        print(f"# {line}")
    failed += bool(bad)


def plain(root, header):
    """The header without comments, directives and attributes."""
    text = open(os.path.join(root, "include", "iomapfs", header + ".h")).read()
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^\s*#(?:.*\\\n)*.*$", " ", text, flags=re.M)
    return re.sub(r"__attribute__\s*\(\(.*?\)\)", " ", text)


def functions(text):
    """Names of the functions that are declared and not inline."""
    while True:  # bodies of structures and inline functions, innermost first
        text, n = re.subn(r"\{[^{}]*\}", ";", text)
        if not n:
            break
    names = set()
    for statement in text.split(";"):
        statement = statement.strip()
        if re.match(r"(typedef|static|_Static_assert)\b", statement):
            continue
        m = re.match(r"[\w\s*]*?\b(\w+)\s*\(", statement)
        if m:
            names.add(m[1])
    return names


def callbacks(text):
    """(structure, member) of each function pointer that a file system or a caller fills."""
    types = re.findall(r"typedef [\w\s*]+?\(\*(\w+)\)\s*\(", text)
    pointer = r"\(\*(\w+)\)\s*\(" + "".join(rf"|\b{t}\s+(\w+);" for t in types)
    found = []
    for m in re.finditer(r"struct (\w+) \{(.*?)\n\};", text, re.S):
        found += [(m[1], next(filter(None, n.groups()))) for n in re.finditer(pointer, m[2])]
    return [c for c in found if c not in INTERNAL]


def exported(args, library):
    out = subprocess.run(["nm", *args, library], capture_output=True, text=True, check=True).stdout
    names = {f[2].split("@")[0] for f in (line.split() for line in out.splitlines()) if len(f) == 3}
    return {n for n in names if not n.startswith(FOREIGN)}


def compare(declared, names):
    return [f"{n}: declared, not exported: its prefix belongs into src/libiomap/libiomap.map, or it is not defined"
            for n in sorted(declared - names)] + \
        [f"{n}: exported, in no public header" for n in sorted(names - declared)]


def check_page(root, declared, calls):
    source = open(os.path.join(root, PAGE)).read()
    text = source.replace("\\-", "-").replace("\\&", "")
    words = set(re.findall(r"\w+", text))
    report(f"{PAGE} names each function of iomap.h and dax.h", [f"{n}: say in {PAGE} what it does" for n in sorted(declared - words)])
    entries = {}
    for m in re.finditer(r"^\.SS (\w+)\.(\w+)\n(.*?)(?=^\.S[SH])", text, re.M | re.S):
        entries[m[1], m[2]] = m[3]
    bad = []
    for struct, name in calls:
        if (struct, name) not in entries:
            bad.append(f"struct {struct} {name}: no contract, wants .SS {struct}.{name}")
            continue
        labels = re.findall(r"^\.IP \"?([\w ]+?)\"? 14\n[^.\n]", entries[struct, name], re.M)
        if labels != CONTRACT:
            bad.append(f"struct {struct} {name}: {labels}, wants {CONTRACT}")
    bad += [f".SS {s}.{n}: no such callback" for s, n in entries if (s, n) not in calls]
    report(f"{PAGE} holds a contract for each of {len(calls)} callbacks, in one shape", bad)
    groff = shutil.which("groff")
    if not groff:
        global number
        number += 1
        print(f"ok {number} - {PAGE} is well-formed # skip groff is not installed")
        return
    out = subprocess.run([groff, "-man", "-t", "-ww", "-Tutf8", "-z", "-P-c", os.path.join(root, PAGE)],
                         capture_output=True, text=True)
    report(f"{PAGE} is well-formed", (out.stderr + out.stdout).splitlines())


def main():
    root, shared, archive = sys.argv[1:]
    text = {h: plain(root, h) for h in HEADERS}
    declared = {h: functions(text[h]) for h in HEADERS}
    every = set().union(*declared.values())
    if len(every) < 100 or "iomap_iter" not in every:
        report("the headers can be read", [f"only {sorted(every)}"])
    report(f"libiomap.so exports the {len(every)} functions of its headers and nothing else",
           compare(every, exported(["-D", "--defined-only"], shared)))
    report("libiomap.a has the same global names", compare(every, exported(["-g", "--defined-only"], archive)))
    for h in HEADERS:
        report(f"{h}.h includes only what is installed with it",
               [f"{h}.h: includes {n}.h" for n in
                re.findall(r'#\s*include\s+["<]iomapfs/(\w+)\.h[">]',
                           open(os.path.join(root, "include", "iomapfs", h + ".h")).read()) if n not in HEADERS])
    calls = [c for h in ("folio", "iomap", "dax") for c in callbacks(text[h])]
    check_page(root, declared["iomap"] | declared["dax"], calls)
    print(f"1..{number}")
    return failed != 0


sys.exit(main())

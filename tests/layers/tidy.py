#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""House rules that a machine can judge: sizes, banned calls, licences, dead references in docs.

usage: tidy.py SOURCE_ROOT
"""
import os
import re
import subprocess
import sys

FUNCTION_LINES = 80
C_FILE_LINES = 800
BANNED = {
    r"\b(strcpy|strcat|sprintf|gets|strtok|atoi|alloca)\s*\(": "unbounded or unchecked call",
    r"\b(TODO|FIXME|XXX|HACK)\b": "unfinished work",
    r"\.\./shared": "the project stands alone",
}
failed = 0
number = 0


def report(what, bad):
    global failed, number
    number += 1
    print(f"{'not ok' if bad else 'ok'} {number} - {what}")
    for line in bad[:40]:
        print(f"# {line}")
    failed += bool(bad)


def tracked(root):
    out = subprocess.run(["git", "-C", root, "ls-files"], capture_output=True, text=True)
    if out.returncode == 0 and out.stdout:
        return out.stdout.split("\n")[:-1]
    found = []
    for base, _, names in os.walk(root):
        found += [os.path.relpath(os.path.join(base, n), root) for n in names]
    return found


def read(root, path):
    try:
        return open(os.path.join(root, path), encoding="utf-8").read().split("\n")
    except (UnicodeDecodeError, FileNotFoundError):
        return []


def invariants(root, files):
    """docs/JOURNAL.md: each numbered invariant names tests that exist, and tests that name it."""
    tests = "\n".join("\n".join(read(root, f)) for f in files if f.startswith("tests/unit/journal/"))
    known = re.findall(r"^START_TEST\((\w+)\)", tests, re.M)
    bad, seen = [], 0
    for line in read(root, "docs/JOURNAL.md"):
        row = re.match(r"\| (J\d+) \|.*\|(.*)\|$", line)
        if not row:
            continue
        seen += 1
        for name in re.findall(r"`(test_\w+\*?)`", row[2]):
            if not any(re.fullmatch(name.replace("*", ".*"), k) for k in known):
                bad.append(f"{row[1]}: no {name}")
        if not re.search(rf"\b{row[1]}\b", tests):
            bad.append(f"{row[1]}: no test in tests/unit/journal carries its number")
    return bad or ([] if seen else ["no invariants found"])


def capabilities(root, files, text):
    """docs/IOMAP.md: each row names functions and tests that exist; rows ascend."""
    code = "\n".join("\n".join(text[f]) for f in text if f.startswith(("src/", "include/")))
    words = set(re.findall(r"\w+", code))
    tests = set(re.findall(r"^START_TEST\((\w+)\)", "\n".join(
        "\n".join(read(root, f)) for f in files if f.startswith("tests/unit/")), re.M))
    bad, seen, last = [], 0, 0
    for line in read(root, "docs/IOMAP.md"):
        cells = [c.strip() for c in line.strip("|").split("|")]
        if not re.match(r"\| \d", line):
            continue
        if len(cells) != 7:
            bad.append(f"row {cells[0]}: {len(cells)} cells")
            continue
        seen += 1
        if int(cells[0]) <= last:
            bad.append(f"row {cells[0]}: after {last}")
        last = int(cells[0])
        ours, proof = (re.findall(r"`([^`]+)`", cells[i]) for i in (3, 5))
        if not ours or not proof:
            bad.append(f"row {cells[0]}: names nothing of ours, or no proof")
        bad += [f"row {cells[0]}: no {name}" for name in ours if name not in words]
        bad += [f"row {cells[0]}: no test {name}" for name in proof if name not in tests and name not in files]
    return bad or ([] if seen == 42 else [f"{seen} rows, not 42"])


def races(root, files):
    """Each of the 18 races has its test, in the two files where a reader looks for them."""
    found = {}
    for f in files:
        if re.match(r"tests/unit/\w+/test_races\.c$", f):
            body = "\n".join(read(root, f))
            for name, nr in re.findall(r"^START_TEST\((race_(\d\d)_\w+)\)", body, re.M):
                if f"test(tc, {name}" in body:
                    found[int(nr)] = name
    return [f"no test of race {n}" for n in range(1, 19) if n not in found]


def field_table(root):
    """Every structure of format.h that a block holds is described in src/format/field.c."""
    in_memory = {"od_ctx", "od_tree_geom"}
    declared = [m[1] for line in read(root, "include/iomapfs/format.h")
                if (m := re.match(r"struct (od_\w+) \{", line)) and m[1] not in in_memory]
    described = set(re.findall(r"^STRUCT\((\w+)\);", "\n".join(read(root, "src/format/field.c")), re.M))
    return [f"struct {name}" for name in declared if name not in described] or \
        ([] if declared else ["no structures found"])


def function_sizes(path, lines):
    start, bad = None, []
    for i, line in enumerate(lines, 1):
        if line == "{":
            start = i
        elif line.startswith("}") and start:
            if i - start > FUNCTION_LINES:
                bad.append(f"{path}:{start}: function of {i - start} lines")
            start = None
    return bad


def main():
    root = sys.argv[1]
    files = tracked(root)
    code = [f for f in files if re.match(r"(src|include|tests|bench|examples)/.*\.[ch]$", f)]
    src = [f for f in code if f.startswith(("src/", "include/", "examples/"))]
    text = {f: read(root, f) for f in code}

    report(f"{len(src)} files: functions of at most {FUNCTION_LINES} lines",
           [b for f in src for b in function_sizes(f, text[f])])
    report(f"source files of at most {C_FILE_LINES} lines",
           [f"{f}: {len(text[f])} lines" for f in src if len(text[f]) > C_FILE_LINES])
    report("every source file names its licence",
           [f for f in code if text[f] and "SPDX-License-Identifier: MIT" not in "\n".join(text[f][:2])])
    report("lines of at most 110 columns",
           [f"{f}:{i}" for f in src for i, l in enumerate(text[f], 1) if len(l.expandtabs(8)) > 110])
    bad = []
    for f in code + [f for f in files if f.startswith(("docs/", "scripts/", "README"))]:
        if f.endswith("tidy.py"):
            continue
        for i, line in enumerate(text.get(f) or read(root, f), 1):
            for pattern, why in BANNED.items():
                if re.search(pattern, line) and not (f.endswith(".md") and "shared" not in pattern):
                    bad.append(f"{f}:{i}: {why}: {line.strip()[:60]}")
    report("nothing banned", bad)
    bad = []
    known = set(files) | {os.path.dirname(f) for f in files}
    for f in files:
        if not (f.startswith("docs/") or f == "README.md"):
            continue
        for i, line in enumerate(read(root, f), 1):
            for ref in re.findall(r"`((?:src|include|tests|docs|scripts|bench)/[\w./-]+\w)/?`", line):
                if ref not in known and not any(k.startswith(ref + "/") for k in known):
                    bad.append(f"{f}:{i}: names {ref}, which does not exist")
    report("documents name only what exists", bad)
    report("invariants of the journal have tests, and tests their numbers", invariants(root, files))
    report("each capability of iomap names functions and tests that exist", capabilities(root, files, text))
    report("each race has its test", races(root, files))
    report("every structure on disk is in the table of fields", field_table(root))
    print(f"1..{number}")
    return failed != 0


sys.exit(main())

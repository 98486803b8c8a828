#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench/compare: a regression is told, noise is not; bench's statistics and tables.

usage: compare.py SOURCE_ROOT
Prints TAP; exits 1 when a check fails. Noise is drawn from a fixed seed.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import xml.dom.minidom

ROOT = sys.argv[1]
sys.path.insert(0, os.path.join(ROOT, "bench"))
sys.dont_write_bytecode = True
import chart  # noqa: E402
import stats  # noqa: E402
import table  # noqa: E402
import targets  # noqa: E402

failed = 0
number = 0


def check(ok, what, *more):
    global failed, number
    number += 1
    print(f"{'ok' if ok else 'not ok'} {number} - {what}")
    if not ok:
        failed += 1
        for m in more:
            print("# " + str(m).replace("\n", "\n# "))


def row(figure, rounds, unit="1/s", better="more", **more):
    return {"device": "tmpfs", "workload": "names", "figure": figure, "unit": unit, "better": better, "at": None,
            "rounds": rounds, **more}


def result(*rows, subjects=("iomapfs", "ext4"), **more):
    return {"format": 1, "commit": "abc", "started": "2024-05-01T00:00:00Z", "args": {"rounds": 5},
            "host": {"kernel": "6.1", "cpus": 2, "model": "x", "memory_mib": 1},
            "subjects": [{"key": k, "missing": None} for k in subjects],
            "rows": list(rows), "absent": [], "failures": [], "notes": [], **more}


def compare(old, new, *args):
    """(exit code, what it printed)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, data in (("old", old), ("new", new)):
            paths.append(os.path.join(folder, name + ".json"))
            with open(paths[-1], "w", encoding="utf-8") as f:
                f.write(data if isinstance(data, str) else json.dumps(data))
        got = subprocess.run([os.path.join(ROOT, "bench", "compare"), *paths, *args], capture_output=True, text=True)
        return got.returncode, got.stdout + got.stderr


def noisy(rng, value, share, rounds=5):
    return [value * (1 + rng.uniform(-share, share)) for _ in range(rounds)]


def regressions():
    base = {"iomapfs": [100, 101, 99, 100, 102], "ext4": [200, 201, 199, 200, 202]}
    slow = {"iomapfs": [80, 81, 79, 80, 82], "ext4": base["ext4"]}
    old = result(row("create", base))
    code, out = compare(old, result(row("create", slow)))
    check(code == 1 and "REGRESSION" in out and "-20" in out, "a fifth slower is a regression", code, out)
    code, out = compare(result(row("create", slow)), old)
    check(code == 0 and "1 better" in out, "a fifth faster is none", code, out)
    code, out = compare(old, result(row("create", base)))
    check(code == 0 and "1 same" in out, "nothing changed", code, out)
    less = dict(unit="us", better="less")
    code, out = compare(result(row("latency", base, **less)), result(row("latency", slow, **less)))
    check(code == 0 and "1 better" in out, "fewer microseconds are better", code, out)
    code, out = compare(result(row("latency", slow, **less)), result(row("latency", base, **less)))
    check(code == 1 and "REGRESSION" in out, "more microseconds are worse", code, out)
    half = {k: [v / 2 for v in s] for k, s in base.items()}
    code, out = compare(old, result(row("create", half)))
    check(code == 0 and "1 same" in out, "a machine of half the speed is no regression: the ratio is the same", code, out)
    code, out = compare(old, result(row("create", half)), "--reference", "none")
    check(code == 1 and "REGRESSION" in out, "by itself it is", code, out)


def noise():
    rng = random.Random(7)
    told = 0
    for _ in range(200):
        def one():
            return result(row("create", {"iomapfs": noisy(rng, 100, 0.2), "ext4": noisy(rng, 200, 0.2)}))
        code, _ = compare_in_process(one(), one())
        told += code
    check(told <= 4, f"of 200 pairs of equal runs with 20 % of noise {told} are told as different", told)
    seen = 0
    for _ in range(50):
        def run(value):
            return result(row("create", {"iomapfs": noisy(rng, value, 0.05), "ext4": noisy(rng, 200, 0.05)}))
        code, _ = compare_in_process(run(100), run(70))
        seen += code
    check(seen >= 48, f"a loss of 30 % under 5 % of noise is seen {seen} times of 50", seen)
    few = {"iomapfs": [100], "ext4": [200]}
    code, out = compare(result(row("create", few)), result(row("create", {"iomapfs": [85], "ext4": [200]})))
    check(code == 0 and "1 same" in out, "15 % in one round say nothing", code, out)
    code, out = compare(result(row("create", few)), result(row("create", {"iomapfs": [60], "ext4": [200]})))
    check(code == 1 and "REGRESSION" in out, "40 % in one round do", code, out)


def compare_in_process(old, new):
    """Many pairs: without a process for each. (regressions or improvements found, rows)."""
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader
    loader = SourceFileLoader("bench_compare", os.path.join(ROOT, "bench", "compare"))
    module = module_from_spec(spec_from_loader("bench_compare", loader))
    loader.exec_module(module)
    found = module.compare(old, new, ["iomapfs"], "ext4")
    return sum(r[0] != "same" for r in found), found


def missing_and_exact():
    base = {"iomapfs": [100, 101, 99], "ext4": [200, 200, 200]}
    code, out = compare(result(row("create", base)), result(row("rename", base)))
    check(code == 1 and "1 GONE" in out and "1 new" in out, "a figure that is gone is told", code, out)
    code, out = compare(result(row("create", base)), result(row("create", base), failures=[
        {"device": "tmpfs", "workload": "names", "subject": "iomapfs", "round": 1, "why": "wrong contents"}]))
    check(code == 1 and "wrong contents" in out, "a failure of the new run is told", code, out)

    def micro(value):
        return result(row("bt_insert", {"micro": [value]}, unit="instructions", better="less"), subjects=("micro",))
    code, out = compare(micro(1000), micro(1040))
    check(code == 1 and "REGRESSION" in out, "4 % more instructions in one round are a regression", code, out)
    code, out = compare(micro(1000), micro(1020))
    check(code == 0 and "1 same" in out, "2 % are not", code, out)
    code, out = compare("{}", result(row("create", base)))
    check(code == 16 and "not a result" in out, "a file that is none of ours", code, out)
    code, out = compare("nonsense", result(row("create", base)))
    check(code == 16, "a file that is no JSON", code, out)
    code, out = compare(result(row("create", base)), result(row("create", base)), "--subject", "btrfs")
    check(code == 16 and "btrfs" in out, "a subject that neither has", code, out)


def pictures():
    check(stats.median([None, 3, 1, 2]) == 2 and stats.median([None]) is None, "median of the rounds that have a figure")
    check(abs(stats.spread([90, 100, 110]) - 0.1) < 1e-9, "spread")
    check(stats.ratios([2, None, 8], [1, 5, 4], "more") == [2, 2], "ratios are taken round by round")
    check(stats.ratios([2], [4], "less") == [2], "a ratio above 1 is better")
    data = result(row("create", {"iomapfs": [100, 110, 90], "ext4": [200, 200, 200]}, cpu_us={"iomapfs": [3.0, 3.5, 4.0]}),
                  row("stat @ 10^3", {"iomapfs": [10]}, "us", "less"), row("stat @ 10^4", {"iomapfs": [25]}, "us", "less"),
                  subjects=("iomapfs", "ext4", "xfs", "ntfs-3g"))
    data["rows"][1]["at"], data["rows"][2]["at"] = 1000, 10000
    data["subjects"][3]["missing"] = "ntfs-3g is not installed"
    data["failures"].append({"device": "tmpfs", "workload": "names", "subject": "xfs", "round": 1, "why": "wrong <&> bytes"})
    text = table.render(data)
    for want in ("100.0 ±10%", "0.50", "not here", "ntfs-3g is not installed", "FAILED", "wrong <&> bytes", "2.50", "3.50"):
        check(want in text, f"the table has: {want}", text)
    svg = chart.draw(data)
    tree = xml.dom.minidom.parseString(svg)
    check(len(tree.getElementsByTagName("polyline")) == 1 and "iomapfs: 0.50 of ext4" in svg,
          "the chart is well-formed, with a bar and a curve", svg)


def goals():
    fuse, kernel, null = "fuse2fs", "ext4", "null:transport=loop"
    ours = "iomapfs:transport=loop"
    direct = dict(row("random read", {ours: [62], kernel: [100], fuse: [5], null: [200]}), workload="direct-4k")
    path = dict(row("device path alone, read", {ours: [100]}), workload="direct-4k")
    idle = dict(row("resident memory", {ours: [40]}, "MiB", "less"), workload="idle")
    points = [dict(row(f"unlink @ 10^{e}", {ours: [v]}, "us", "less"), workload="growth-names", at=10 ** e)
              for e, v in ((3, 10), (4, 90), (5, 15))]
    data = result(row("create", {ours: [100], kernel: [150], fuse: [9], null: [105]}), direct, path, idle, *points,
                  subjects=(ours, kernel, fuse, null))
    got = {(what, wanted): by[ours] for what, wanted, by in targets.judge(data, "tmpfs")}
    want = {("names: create", "10 x fuse2fs"): ("11.11", True), ("names: create", "0.5 x ext4"): ("0.67", True),
            ("names: create", "0.9 x null"): ("0.95", True), ("direct-4k: random read", "6 x fuse2fs"): ("12.40", True),
            ("direct-4k: random read", "0.7 x ext4"): ("0.62", False),
            ("direct-4k: random read", "0.9 of null + device"): ("0.93", True),
            ("idle: resident memory", "at most 32 MiB"): ("40.0 MiB", False),
            ("growth-names: unlink", "grows at most 2 x"): ("1.50", True)}
    check(got == want, "targets are judged by what was measured, and only that", got)
    check("missed: 0.62" in table.render(data), "a target that was missed is marked")


regressions()
noise()
goals()
missing_and_exact()
pictures()
print(f"1..{number}")
sys.exit(failed != 0)

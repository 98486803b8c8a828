# SPDX-License-Identifier: MIT
"""What a run found, as it is kept: one JSON file.

{"format": 1, "commit", "host", "started", "args",
 "subjects": [{"key", "missing": null or a sentence}],
 "rows": [{"device", "workload", "figure", "unit", "better", "at": null or a size,
           "rounds": {subject: [value or null, ..]},  "cpu_us": {..}, "daemon_us": {..}, "p99_us": {..}}],
 "absent": [{"device", "workload", "subject", "why"}],     what had no part
 "failures": [{"device", "workload", "subject", "round", "why"}],
 "notes": [..]}
"""
import json
import os
import platform
import subprocess
import time

FORMAT = 1
EXTRAS = ("cpu_us", "daemon_us", "p50_us", "p99_us", "p999_us", "cpu_s")


def host():
    with open("/proc/meminfo", encoding="ascii") as f:
        mem = int(f.readline().split()[1]) // 1024
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "")
    return {"kernel": platform.release(), "cpus": os.cpu_count(), "model": model, "memory_mib": mem}


def commit(top):
    got = subprocess.run(["git", "-C", top, "describe", "--always", "--dirty"], capture_output=True, text=True,
                         check=False)
    return got.stdout.strip() or "unknown"


class Results:
    def __init__(self, top, args, subjects, rounds):
        self.rounds = rounds
        self.rows = {}
        self.data = {"format": FORMAT, "commit": commit(top), "host": host(),
                     "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "args": args,
                     "subjects": [{"key": s.key, "missing": why} for s, why in subjects],
                     "rows": [], "absent": [], "failures": [], "notes": []}

    def add(self, device, workload, subject, rnd, figures):
        for name, got in figures.items():
            row = self.rows.get((device, workload, name))
            if row is None:
                row = {"device": device, "workload": workload, "figure": name, "unit": got["unit"],
                       "better": got["better"], "at": got.get("at"), "rounds": {}}
                self.rows[device, workload, name] = row
                self.data["rows"].append(row)
            for key, value in [("rounds", got["value"])] + [(k, got[k]) for k in EXTRAS if k in got]:
                series = row.setdefault(key, {}).setdefault(subject, [None] * self.rounds)
                series[rnd] = value

    def absent(self, device, workload, subject, why):
        entry = {"device": device, "workload": workload, "subject": subject, "why": why}
        if entry not in self.data["absent"]:
            self.data["absent"].append(entry)

    def failed(self, device, workload, subject, rnd, why):
        self.data["failures"].append({"device": device, "workload": workload, "subject": subject, "round": rnd + 1,
                                      "why": why})


def save(data, path):
    """Whole or not at all: a run is long."""
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1)
        f.write("\n")
    os.rename(path + ".tmp", path)


def load(path):
    """ValueError: it is not one of ours."""
    with open(path, encoding="utf-8") as f:
        data = json.load(f)
    if not isinstance(data, dict) or data.get("format") != FORMAT or "rows" not in data:
        raise ValueError(f"{path}: not a result of bench/run or bench/micro in format {FORMAT}")
    return data

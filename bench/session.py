# SPDX-License-Identifier: MIT
"""One workload on one fresh file system: what a workload may do, and what becomes of what it measured."""
import json
import os
import time

import measure
from system import Unsupported, drop_caches, sh

TOOLS = ("names", "data", "append", "growth", "treesum", "spawn")


def build_tools(top, work):
    for name in TOOLS:
        sh("cc", "-std=gnu11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-O2", "-Wall", "-Wextra", "-Werror",
           "-Wno-unused-parameter", "-o", os.path.join(work, name),
           os.path.join(top, "bench", "tools", name + ".c"), os.path.join(top, "bench", "tools", "common.c"))


class Session:
    """A mounted fresh file system. A workload calls tool(), timed(), value(), cold(); figures() is the yield."""

    def __init__(self, env, subject, kind, size):
        self.env, self.subject, self.kind = env, subject, kind
        self.device = env.places.device(env.undo, kind, size)
        self.mnt = env.mount_point("mnt")
        self.scale = env.scale
        self.found = {}
        self.peak_mib = 0.0
        self.mounted = False

    # ---- The file system ------------------------------------------------------------------

    def make(self, inodes=0):
        self.subject.make(self.device.path, inodes)

    def mount(self):
        # Before, not after: what is half mounted has to be cleaned up too.
        self.mounted = True
        self.subject.mount(self.device.path, self.mnt)

    def umount(self):
        self._note_peak()
        self.subject.umount(self.mnt)
        self.mounted = False

    def cold(self):
        """Neither the kernel nor the daemon remembers anything."""
        self.umount()
        drop_caches()
        self.mount()

    def forget(self):
        """cold(); where everything is gone with the mount, the kernel forgets and the daemon does not."""
        if self.subject.whole:
            self.cold()
        else:
            drop_caches()

    def replace_device(self, size):
        """A fresh one of another size; nothing is mounted."""
        self.device.close()
        self.device = self.env.places.device(self.env.undo, self.kind, size)

    def path(self, name=""):
        return os.path.join(self.mnt, "d", name) if name else os.path.join(self.mnt, "d")

    def daemon_pid(self):
        return self.subject.daemon.pid if self.subject.daemon else None

    def _note_peak(self):
        if self.daemon_pid():
            try:
                self.peak_mib = max(self.peak_mib, measure.memory_mib(self.daemon_pid(), "VmHWM"))
            except (FileNotFoundError, ProcessLookupError):
                pass

    # ---- Measuring -------------------------------------------------------------------------

    def value(self, label, value, unit, better, **more):
        """A figure. better: "more" or "less". more: cpu_us, daemon_us (an operation), at (a size), p99_us.."""
        assert label not in self.found, label
        self.found[label] = {"value": value, "unit": unit, "better": better, **more}

    def tool(self, label, name, *args, unit="1/s", **more):
        """A program of bench/tools, or one like them by its path; its first line is the figure.

        unit: 1/s, MiB/s, us (an operation), or p99 for three percentiles. What the subject cannot do is noted and has no figure.
        """
        try:
            with measure.Span(self.daemon_pid()) as span:
                text = sh(os.path.join(self.env.work, name), *map(str, args), limit=self.env.limit)
        except Unsupported as e:
            self.env.note(f"{self.kind}: {self.subject.key} cannot do \"{label}\": {e}")
            return
        got = json.loads(text.split("\n")[0])
        ops, seconds = got["ops"], max(got["seconds"], 1e-9)
        more.update({k: v for k, v in got.items() if k.endswith("_us")})
        # Told where the clock's ticks are fine enough for it.
        if seconds > 0.2 and ops:
            more["cpu_us"] = span.busy_s * 1e6 / ops
            if self.daemon_pid():
                more["daemon_us"] = span.daemon_s * 1e6 / ops
        if unit == "1/s":
            self.value(label, ops / seconds, unit, "more", **more)
        elif unit == "MiB/s":
            self.value(label, got["bytes"] / seconds / 2**20, unit, "more", **more)
        elif unit == "us":
            self.value(label, seconds * 1e6 / ops, unit, "less", **more)
        else:  # of a latency the CPU time says nothing
            for q in ("p50", "p99", "p999"):
                self.value(f"{label} {q}", got[q + "_us"], "us", "less")

    def timed(self, label, *cmd, ops=None, unit="1/s", **kw):
        """Seconds of a command; as ops a second if ops are told. Returns what it printed."""
        with measure.Span(self.daemon_pid()) as span:
            out = sh(*cmd, limit=self.env.limit, **kw)
        more = {}
        if span.seconds > 0.2 and ops:
            more["cpu_us"] = span.busy_s * 1e6 / ops
            if self.daemon_pid():
                more["daemon_us"] = span.daemon_s * 1e6 / ops
        if ops:
            self.value(label, ops / span.seconds, unit, "more", **more)
        else:
            self.value(label, span.seconds, "s", "less", cpu_s=span.busy_s)
        return out

    def unchecked(self):
        """Words for a tool that compares contents."""
        return [] if self.subject.keeps_data else ["unchecked"]

    def figures(self):
        self._note_peak()
        if self.peak_mib:
            self.value("daemon's peak", self.peak_mib, "MiB", "less")
        return self.found


def run(env, subject, workload, kind):
    """Figures of one workload on a fresh file system of this subject; raises Failure and Unsupported."""
    s = Session(env, subject, kind, workload.image_bytes(env.scale))
    guard = env.undo.add(f"leave {s.mnt}", subject.abandon, s.mnt)
    begin = time.monotonic()
    try:
        s.make(workload.inodes(env.scale))
        s.mount()
        os.mkdir(s.path())
        workload.run(s)
        found = s.figures()
        if s.mounted:
            s.umount()
        return found, time.monotonic() - begin
    finally:
        env.undo.now(guard)
        s.device.close()

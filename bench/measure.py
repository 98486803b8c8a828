# SPDX-License-Identifier: MIT
"""CPU time and memory around a piece of work: of the whole machine, and of the daemon."""
import os
import time

TICK = os.sysconf("SC_CLK_TCK")


def machine_busy_s():
    """CPU seconds that the machine was not idle: the work, the daemon, and kernel threads all count."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, _idle, _iowait, irq, softirq = (int(v) for v in f.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICK


def process_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mib(pid, key):
    """VmHWM (the peak) or VmRSS of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        return next((int(line.split()[1]) / 1024 for line in f if line.startswith(key + ":")), 0.0)


class Span:
    """with Span(pid) as s: s.seconds, s.busy_s, s.daemon_s afterwards. pid None: no daemon."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        self.busy, self.daemon, self.begin = machine_busy_s(), self._daemon(), time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.begin
        self.busy_s = machine_busy_s() - self.busy
        self.daemon_s = self._daemon() - self.daemon

    def _daemon(self):
        try:
            return process_s(self.pid) if self.pid else 0.0
        except (FileNotFoundError, ProcessLookupError):
            return 0.0

# SPDX-License-Identifier: MIT
"""Mount and unmount of a full file system, the check of many files, and a mount that nobody uses."""
import errno
import json
import os
import time

import measure
from system import Failure, drop_caches, sh
from workloads import Workload


def fill(folder):
    """Files until there is no space: many small ones, some large. How many there are."""
    number = 0
    try:
        while True:
            with open(os.path.join(folder, f"f{number}"), "wb", buffering=0) as f:
                f.write(b"x" * (1 << 20 if number % 50 == 0 else 20000))
            number += 1
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise Failure(f"filling: {e}") from None
    return number


class Mount(Workload):
    """mount and unmount of a full file system"""

    name = "mount"

    def image_bytes(self, scale):
        return scale["full_mib"] << 20

    def run(self, s):
        files = fill(s.path())
        s.env.sync()
        s.umount()
        drop_caches()
        begin = time.monotonic()
        s.mount()
        s.value("mount, full", (time.monotonic() - begin) * 1e3, "ms", "less")
        # ENOSPC may have come at the data of a name that was made.
        found = len(os.listdir(s.path()))
        if found not in (files, files + 1):
            raise Failure(f"{found} files after the mount, {files} were written")
        begin = time.monotonic()
        s.umount()
        s.value("unmount, clean", (time.monotonic() - begin) * 1e3, "ms", "less")
        s.mount()
        for n in range(0, files, 3):
            os.unlink(s.path(f"f{n}"))
        begin = time.monotonic()
        s.umount()
        s.value("unmount after deletes", (time.monotonic() - begin) * 1e3, "ms", "less")


class Fsck(Workload):
    """check of a sound file system with many small files: time and memory"""

    name = "fsck"

    def takes(self, subject):
        return None if subject.check_command("") and subject.whole else "has no checker of its own"

    def inodes(self, scale):
        return scale["fsck_files"] + scale["fsck_files"] // 4 + 10000

    def run(self, s):
        files = s.scale["fsck_files"]
        for n in range(files):
            folder = s.path(f"d{n // 1000}")
            if n % 1000 == 0:
                os.mkdir(folder)
            fd = os.open(os.path.join(folder, f"file-{n}"), os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, b"x" * 1000)
            os.close(fd)
        s.umount()
        drop_caches()
        out = os.path.join(s.env.work, "spawn.json")
        sh(os.path.join(s.env.work, "spawn"), out, *s.subject.check_command(s.device.path), limit=s.env.limit)
        with open(out, encoding="ascii") as f:
            got = json.load(f)
        s.value("check, files", files / got["seconds"], "1/s", "more", cpu_us=(got["user"] + got["system"]) * 1e6 / files)
        s.value("check, peak memory", got["peak_kib"] / 1024, "MiB", "less")


class Idle(Workload):
    """a mount that nobody uses: the daemon's memory and CPU time"""

    name = "idle"
    on_null = True

    def takes(self, subject):
        return None

    def run(self, s):
        if not s.daemon_pid():
            return
        os.rmdir(s.path())
        with measure.Span(s.daemon_pid()) as span:
            time.sleep(s.scale["idle_s"])
        s.value("resident memory", measure.memory_mib(s.daemon_pid(), "VmRSS"), "MiB", "less")
        s.value("CPU time", span.daemon_s * 1e3 / span.seconds, "ms/s", "less")


WORKLOADS = [Mount, Fsck, Idle]

# SPDX-License-Identifier: MIT
"""Does one operation cost the same when directories, files and devices grow? Microseconds an operation."""
import time

from system import Failure, drop_caches, sh
from workloads import Workload

# A size that took longer than this ends the curve: the next is ten times as large, and a peer may be quadratic.
PATIENCE_S = 60


def counts(scale):
    return [10 ** e for e in range(3, 10) if 10 ** e <= scale["growth"]]


def short(n):
    """1000 -> 10^3; a power of two of bytes -> 1 GiB."""
    if n % 1000 == 0:
        return f"10^{len(str(n)) - 1}"
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if n >= 1 << shift:
            return f"{n >> shift} {unit}"
    return str(n)


class Curve(Workload):
    """Sizes in turn, each on a fresh file system of the session's device."""

    quick = False

    def sizes(self, s):
        return counts(s.scale)

    def run(self, s):
        fresh = True
        for n in self.sizes(s):
            begin = time.monotonic()
            if not fresh:
                self.again(s, n)
            self.point(s, n)
            fresh = False
            if time.monotonic() - begin > PATIENCE_S and n != self.sizes(s)[-1]:
                s.env.note(f"{s.subject.key}: {self.name} ends at {short(n)}: that took longer than {PATIENCE_S} s")
                break

    def again(self, s, n):
        s.umount()
        s.make(self.inodes(s.scale))
        s.mount()
        s.env.mkdir(s.path())

    def point(self, s, n):
        raise NotImplementedError

    def tool(self, s, n, label, op, path):
        s.tool(f"{label} @ {short(n)}", "growth", op, path, n, unit="us", at=n)


class GrowthNames(Curve):
    """cost of one name operation in a directory of 10^3 to 10^6 names"""

    name = "growth-names"

    def inodes(self, scale):
        return scale["growth"] + 10000

    def point(self, s, n):
        self.tool(s, n, "create", "create", s.path())
        for label, op in (("stat, cold", "stat"), ("readdir, cold", "list"), ("unlink", "unlink")):
            s.cold()
            self.tool(s, n, label, op, s.path())


class GrowthExtents(Curve):
    """cost of one operation in a file of 10^3 to 10^6 extents"""

    name = "growth-extents"

    def image_bytes(self, scale):
        return max(scale["growth"] * 3 * 4096, 320 << 20)

    def point(self, s, n):
        path = s.path("file")
        self.tool(s, n, "write + fsync", "write", path)
        s.cold()
        self.tool(s, n, "read, cold", "read", path)
        self.tool(s, n, "SEEK_HOLE", "seek", path)
        self.fiemap(s, n, path)
        self.tool(s, n, "punch", "punch", path)
        begin = time.monotonic()
        sh("rm", path)
        s.value(f"delete @ {short(n)}", (time.monotonic() - begin) * 1e6 / n, "us", "less", at=n)


    def fiemap(self, s, n, path):
        command = s.subject.fiemap_command(path)
        if not command:
            return
        begin = time.monotonic()
        listed = sh(*command, limit=s.env.limit).count("\n")
        s.value(f"fiemap, an extent @ {short(n)}", (time.monotonic() - begin) * 1e6 / n, "us", "less", at=n)
        # Who preallocates may have fewer; each has a line.
        if listed < n // 100:
            raise Failure(f"{' '.join(command)}: {listed} lines for {n} extents")


class GrowthDevice(Curve):
    """cost of mkfs, mount and of a small file on devices of 1 GiB to 16 TiB, sparse"""

    name = "growth-device"

    def takes(self, subject):
        return super().takes(subject) or (None if subject.whole else "has no device of its own")

    def sizes(self, s):
        return s.scale["growth_devices"]

    def image_bytes(self, scale):
        return scale["growth_devices"][0]

    def point(self, s, n):
        s.umount()
        if n != s.device.size:
            s.replace_device(n)
        drop_caches()
        for label, step in (("mkfs", s.make), ("mount", s.mount)):
            begin = time.monotonic()
            step()
            s.value(f"{label} @ {short(n)}", (time.monotonic() - begin) * 1e3, "ms", "less", at=n)
        s.env.mkdir(s.path())
        # Both lines: files and their deletion.
        files = s.scale["growth_files"]
        s.tool(f"create + write 16 KiB @ {short(n)}", "growth", "files", s.path(), files, unit="us", at=n)
        begin = time.monotonic()
        s.umount()
        s.value(f"unmount @ {short(n)}", (time.monotonic() - begin) * 1e3, "ms", "less", at=n)
        s.mount()

    def again(self, s, n):
        pass


WORKLOADS = [GrowthNames, GrowthExtents, GrowthDevice]

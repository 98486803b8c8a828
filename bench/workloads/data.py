# SPDX-License-Identifier: MIT
"""Contents of one large file: direct and buffered, random and in order, by one and by several jobs."""
from system import limit_dirty
from workloads import Workload


class Direct4k(Workload):
    """4 KiB random reads and writes, direct, 16 in flight; and of the device by itself, as iomapfs drives it"""

    name = "direct-4k"
    on_null = True

    def run(self, s):
        mib, path, more = s.scale["random_mib"], s.path("data"), s.unchecked()
        how = ["block=4", "depth=16", f"ms={s.scale['ms']}", "direct", *more]
        s.env.tool("data", "new", path, mib, "fsync", *more)
        s.tool("random read", "data", "rand-read", path, mib, *how)
        s.tool("random write", "data", "rand-write", path, mib, *how)
        program = s.subject.device_program()
        if program:
            s.umount()
            for op in ("read", "write"):
                s.tool(f"device path alone, {op}", program, op, s.device.path, mib, 16, s.scale["ms"])


class Sequential(Workload):
    """1 MiB in order: a new file of 4 times the dirty limit with fsync, cold, warm and direct reads, overwrites"""

    name = "sequential"
    on_null = True

    def run(self, s):
        mib, path, more = s.scale["file_mib"], s.path("data"), s.unchecked()
        limit = limit_dirty(s.env.undo, s.device.path, (mib << 20) // 4)
        if not limit:
            s.env.note("this kernel has no dirty limit by device: \"new file + fsync\" is within the machine's")
        try:
            s.tool("new file + fsync", "data", "new", path, mib, "fsync", *more, unit="MiB/s")
        finally:
            if limit:
                s.env.undo.now(limit)
        s.forget()
        s.tool("read, cold", "data", "seq-read", path, mib, *more, unit="MiB/s")
        s.tool("read, warm", "data", "seq-read", path, mib, *more, unit="MiB/s")
        s.tool("overwrite, cached", "data", "seq-write", path, mib, *more, unit="MiB/s")
        s.env.sync()
        s.tool("read, direct", "data", "seq-read", path, mib, "depth=4", "direct", *more, unit="MiB/s")
        s.tool("write, direct", "data", "seq-write", path, mib, "depth=4", "direct", "gen=3", *more, unit="MiB/s")


class Buffered4k(Workload):
    """4 KiB random reads and writes through the cache"""

    name = "buffered-4k"
    on_null = True

    def run(self, s):
        mib, path, more = s.scale["random_mib"], s.path("data"), s.unchecked()
        s.env.tool("data", "new", path, mib, "fsync", *more)
        s.tool("random write", "data", "rand-write", path, mib, "block=4", f"ms={s.scale['ms']}", *more)
        s.forget()
        # No more than a quarter of the blocks, or the last reads would be warm.
        s.tool("random read, cold", "data", "rand-read", path, mib, "block=4", f"count={mib * 64}", *more)


class ParallelData(Workload):
    """4 KiB direct and 64 KiB buffered reads and writes of one file by 2 and by 8 jobs"""

    name = "parallel-data"
    on_null = True

    def run(self, s):
        mib, path, more = s.scale["random_mib"], s.path("data"), s.unchecked()
        s.env.tool("data", "new", path, mib, "fsync", *more)
        for gen, jobs in ((2, 2), (4, 8)):
            how = [f"jobs={jobs}", f"ms={s.scale['ms']}", *more]
            direct, cached = ["block=4", "direct", f"gen={gen}", *how], ["block=64", f"gen={gen + 1}", *how]
            s.tool(f"direct read, {jobs} jobs", "data", "rand-read", path, mib, *direct)
            s.tool(f"direct write, {jobs} jobs", "data", "rand-write", path, mib, *direct)
            s.tool(f"buffered write, {jobs} jobs", "data", "rand-write", path, mib, *cached, unit="MiB/s")
            s.env.sync()


class Appends(Workload):
    """appends of 1 to 100 bytes; the same with an fsync after each"""

    name = "appends"

    def run(self, s):
        s.tool("append", "append", "append", s.path("log"), s.scale["appends"])
        s.tool("append + fsync", "append", "append-fsync", s.path("synced"), s.scale["syncs"])


WORKLOADS = [Direct4k, Sequential, Buffered4k, ParallelData, Appends]

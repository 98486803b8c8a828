# SPDX-License-Identifier: MIT
"""What iomapfs wants to reach, and whether a result does.

A figure's ratio to a peer is 1 where both are equally good, above it better. Both sides come from one run, so that the
machine's mood is in both.
"""
import stats

NAMES = [("names", f) for f in ("create", "stat, cold", "list + stat, cold", "rename", "unlink")] + \
    [("tree", f) for f in ("untar", "cp -r", "rm -rf")]
SEQUENTIAL = [("sequential", f) for f in ("new file + fsync", "read, cold", "read, direct", "write, direct")]
SMALL_WRITES = [("buffered-4k", "random write"), ("appends", "append"), ("sqlite", "bulk load, rows")]
DURABLE = [("appends", "append + fsync"), ("sqlite", "commits")]

# (figures, peer, at least this ratio; by device where it differs)
RATIOS = [
    (NAMES, "fuse2fs", 10), (NAMES, "ext4", 0.5),
    ([("direct-4k", "random read")], "fuse2fs", 6), ([("direct-4k", "random write")], "fuse2fs", 15),
    ([("direct-4k", "random read"), ("direct-4k", "random write")], "ext4", {"tmpfs": 0.7, "disk": 0.8}),
    (SEQUENTIAL, "fuse2fs", 3), (SEQUENTIAL, "ext4", 0.8),
    (SMALL_WRITES, "fuse2fs", 5), (SMALL_WRITES, "ext4", 0.4),
    (DURABLE, "fuse2fs", 2), (DURABLE, "ext4", 0.7),
    # Where no device is waited for, only the engine is between the two.
    ([("sequential", "overwrite, cached"), ("buffered-4k", "random write"), ("names", "create"), ("names", "rename"),
      ("names", "unlink")], "null", 0.9),
]
# (figure, at most)
BOUNDS = [(("idle", "resident memory"), 32), (("idle", "CPU time"), 1), (("growth-extents", "daemon's peak"), 64)]
GROWTH = 2          # an operation at the largest size by one at 10^3
SERIAL = 0.9        # of the null daemon and the device path one after the other


class Rows:
    """A result, asked by device and figure."""

    def __init__(self, data, device):
        self.rows = {(r["workload"], r["figure"]): r for r in data["rows"] if r["device"] == device}

    def series(self, figure, subject):
        return self.rows[figure]["rounds"].get(subject, []) if figure in self.rows else []

    def ratio(self, figure, ours, peer):
        found = stats.ratios(self.series(figure, ours), self.series(figure, peer), self.rows[figure]["better"]) \
            if figure in self.rows else []
        return stats.median(found)

    def median(self, figure, subject):
        return stats.median(self.series(figure, subject))


def peer_key(peer, ours):
    """The null daemon with the options that ours has."""
    return "null:" + ours.partition(":")[2] if peer == "null" and ":" in ours else peer


def of_ratios(rows, device, ours):
    for figures, peer, least in RATIOS:
        wanted = least[device] if isinstance(least, dict) else least
        for figure in figures:
            got = rows.ratio(figure, ours, peer_key(peer, ours))
            if got is not None:
                yield f"{figure[0]}: {figure[1]}", f"{wanted:g} x {peer}", got, f"{got:.2f}", got >= wanted


def of_bounds(rows, ours):
    for figure, most in BOUNDS:
        got = rows.median(figure, ours)
        if got is not None:
            unit = rows.rows[figure]["unit"]
            yield f"{figure[0]}: {figure[1]}", f"at most {most} {unit}", got, f"{got:.1f} {unit}", got <= most


def of_growth(rows, ours):
    curves = {}
    for figure, r in rows.rows.items():
        v = stats.median(r["rounds"].get(ours, []))
        if r.get("at") and v:
            curves.setdefault((figure[0], figure[1].split(" @ ")[0]), []).append((r["at"], v))
    for (workload, figure), points in curves.items():
        if len(points) > 1:
            got = max(points)[1] / min(points)[1]
            yield f"{workload}: {figure}", f"grows at most {GROWTH} x", got, f"{got:.2f}", got <= GROWTH


def of_device_path(rows, ours):
    """Request by request through the null daemon, then through the device: no overlap is asked for."""
    for op in ("read", "write"):
        got = rows.median(("direct-4k", f"random {op}"), ours)
        null = rows.median(("direct-4k", f"random {op}"), peer_key("null", ours))
        path = rows.median(("direct-4k", f"device path alone, {op}"), ours)
        if got and null and path:
            share = got * (1 / null + 1 / path)
            yield f"direct-4k: random {op}", f"{SERIAL} of null + device", share, f"{share:.2f}", share >= SERIAL


def judge(data, device):
    """[(what, wanted, {subject of ours: (told, met)})], in a fixed order; only what was measured."""
    found = {}
    rows = Rows(data, device)
    for ours in (s["key"] for s in data["subjects"] if s["key"].split(":")[0] == "iomapfs"):
        for source in (of_ratios(rows, device, ours), of_device_path(rows, ours), of_bounds(rows, ours),
                       of_growth(rows, ours)):
            for what, wanted, _, told, met in source:
                found.setdefault((what, wanted), {})[ours] = (told, met)
    return [(what, wanted, by_subject) for (what, wanted), by_subject in found.items()]

# SPDX-License-Identifier: MIT
"""A result as one SVG: each figure as bars relative to a reference, growth as curves. Axes are logarithmic."""
import math
from xml.sax.saxutils import escape

import stats
import subjects
import table

# Shades by file system; several columns of one get one each.
COLOURS = {"iomapfs": ("#1f5fa8", "#4f97de", "#93c4f2", "#0b2d54"), "null": ("#8e6bb0", "#c3abd8"), "ext4": ("#333333",),
           "xfs": ("#9a9a9a",), "fuse2fs": ("#c0392b",), "ntfs-3g": ("#e08e45",), "passthrough_ll": ("#6b8e23",)}
OTHER = ("#3aa99f",)
LABELS, WIDTH, BAR, GAP = 330, 1100, 6, 8
CURVE_W, CURVE_H = 340, 200


class Drawing:
    def __init__(self):
        self.parts, self.y = [], 0

    def text(self, x, y, text, size=11, anchor="start", weight="normal"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
                          f'font-weight="{weight}">{escape(text)}</text>')

    def rect(self, x, y, w, h, colour, tip):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 1):.1f}" height="{h}" fill="{colour}">'
                          f'<title>{escape(tip)}</title></rect>')

    def line(self, x1, y1, x2, y2, colour="#cccccc"):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>')

    def polyline(self, points, colour, tip):
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2">'
                          f'<title>{escape(tip)}</title></polyline>')

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.y:.0f}" '
                f'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n' +
                "\n".join(self.parts) + "\n</svg>\n")


def measured(data):
    """Subjects with a figure, in their order, each with its colour."""
    found, seen = {}, {}
    for k in table.keys(data):
        if any(r["rounds"].get(k) for r in data["rows"]):
            name = k.split(":")[0]
            shades = COLOURS.get(name, OTHER)
            found[k] = shades[seen.get(name, 0) % len(shades)]
            seen[name] = seen.get(name, 0) + 1
    return found


def reference(data):
    there = list(measured(data))
    return subjects.REFERENCE if subjects.REFERENCE in there else (there or [None])[0]


def relative(row, keys, ref):
    """{subject: how many times as good as ref}, where both have the figure."""
    found = {}
    for k in keys:
        r = stats.ratios(row["rounds"].get(k, []), row["rounds"].get(ref, []), row["better"])
        if r:
            found[k] = stats.median(r)
    return found


def legend(d, keys):
    x, y = 10, d.y + 12
    for k, colour in keys.items():
        width = 24 + 7 * len(table.short(k))
        if x + width > WIDTH:
            x, y = 10, y + 18
        d.rect(x, y - 9, 10, 10, colour, k)
        d.text(x + 14, y, table.short(k))
        x += width
    d.y = y + 14


def decades(low, high):
    return range(math.floor(low + 1e-9), math.ceil(high - 1e-9) + 1)


def bars(d, title, rows, keys, ref):
    """rows: (label, {subject: ratio})."""
    logs = [math.log10(v) for _, found in rows for v in found.values()]
    low, high = min([-1.0, *logs]), max([1.0, *logs])
    left, right = LABELS, WIDTH - 20

    def x(v):
        return left + (math.log10(v) - low) / (high - low) * (right - left)
    d.text(10, d.y + 18, title, 15, weight="bold")
    d.y += 26
    legend(d, keys)
    top = d.y + 14
    d.y = top
    for label, found in rows:
        height = BAR * max(len(found), 2)
        d.text(left - 8, d.y + height / 2 + 4, label, anchor="end")
        for i, (k, v) in enumerate(found.items()):
            d.rect(min(x(v), x(1)), d.y + BAR * i, abs(x(v) - x(1)), BAR - 1, keys[k], f"{k}: {v:.2f} of {ref}")
        d.y += height + GAP
    for e in decades(low, high):
        if low <= e <= high:
            d.line(x(10 ** e), top - 4, x(10 ** e), d.y, "#333333" if e == 0 else "#dddddd")
            d.text(x(10 ** e), top - 6, f"{10.0 ** e:g}", 10, "middle")
    d.y += 14


def curve(d, x0, y0, title, points, keys):
    """points: {subject: [(size, value)]}."""
    sizes = [math.log10(s) for p in points.values() for s, _ in p]
    values = [math.log10(v) for p in points.values() for _, v in p]
    low, high = math.floor(min(values)), max(math.ceil(max(values)), math.floor(min(values)) + 1)
    left, right, top, bottom = x0 + 40, x0 + CURVE_W - 10, y0 + 20, y0 + CURVE_H - 20
    span = max(max(sizes) - min(sizes), 1e-9)

    def place(s, v):
        return (left + (math.log10(s) - min(sizes)) / span * (right - left),
                bottom - (math.log10(v) - low) / (high - low) * (bottom - top))
    d.text(x0 + 40, y0 + 12, title, 11, weight="bold")
    for e in range(low, high + 1):
        y = place(10 ** min(sizes), 10.0 ** e)[1]
        d.line(left, y, right, y)
        d.text(left - 4, y + 4, f"{10.0 ** e:g}", 9, "end")
    for s in sorted({s for p in points.values() for s, _ in p}):
        d.text(place(s, 10.0 ** low)[0], bottom + 13, f"{s:.0e}".replace("e+0", "e").replace("e+", "e"), 9, "middle")
    for k, p in points.items():
        d.polyline([place(s, v) for s, v in p], keys[k], k)


def curves(d, rows, keys):
    """Rows with a size, one small picture a figure."""
    by_figure = {}
    for r in rows:
        points = by_figure.setdefault((r["workload"], r["figure"].split(" @ ")[0], r["unit"]), {})
        for k in keys:
            v = stats.median(r["rounds"].get(k, []))
            if v:
                points.setdefault(k, []).append((r["at"], v))
    for i, ((workload, figure, unit), points) in enumerate(by_figure.items()):
        if points:
            curve(d, 10 + i % 3 * (CURVE_W + 10), d.y + i // 3 * CURVE_H, f"{workload}: {figure} ({unit})", points, keys)
    d.y += math.ceil(len(by_figure) / 3) * CURVE_H + 10


def draw(data):
    d, keys, ref = Drawing(), measured(data), reference(data)
    d.text(10, 22, f"iomapfs {data['commit']}, {data['started'][:10]}, Linux {data['host']['kernel']}, "
                   f"{data['host']['cpus']} CPUs", 12)
    d.y = 30
    for device in table.devices(data):
        rows = [r for r in data["rows"] if r["device"] == device]
        plain = [(table.figure_name(r), relative(r, keys, ref)) for r in rows if not r.get("at")]
        plain = [(label, found) for label, found in plain if found]
        if plain:
            bars(d, f"{device}: times as good as {ref} (to the right: faster, or smaller)", plain, keys, ref)
        if any(r.get("at") for r in rows):
            d.text(10, d.y + 16, f"{device}: growth", 15, weight="bold")
            d.y += 24
            legend(d, keys)
            curves(d, [r for r in rows if r.get("at")], keys)
    return d.svg()


def save(data, path):
    with open(path, "w", encoding="utf-8") as f:
        f.write(draw(data))

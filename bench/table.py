# SPDX-License-Identifier: MIT
"""A result as text: Markdown tables that also read well in a terminal."""
import stats
import targets


def short(key):
    """A column's head."""
    return key.replace("transport=", "")


def number(v):
    if v is None:
        return ""
    if v >= 1000:
        return f"{v:.0f}"
    return f"{v:.1f}" if v >= 10 else f"{v:.2f}"


def lay_out(head, rows):
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]

    def line(cells):
        return "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w)
                                 for i, (c, w) in enumerate(zip(cells, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule] + [line(r) for r in rows])


def devices(data):
    return list(dict.fromkeys(r["device"] for r in data["rows"]))


def keys(data):
    return [s["key"] for s in data["subjects"]]


def cell(data, row, key):
    """A median with its spread, or in a word why there is none."""
    series = row["rounds"].get(key)
    if series and stats.median(series) is not None:
        off = stats.spread(series)
        return number(stats.median(series)) + (f" ±{off * 100:.0f}%" if len(stats.present(series)) > 1 else "")
    where = {"device": row["device"], "workload": row["workload"], "subject": key}
    if any(where.items() <= f.items() for f in data["failures"]):
        return "FAILED"
    if any(s["key"] == key and s["missing"] for s in data["subjects"]):
        return "not here"
    return "-"


def figure_name(row):
    return f"{row['workload']}: {row['figure']} ({row['unit']})"


def figures(data, device):
    rows = [r for r in data["rows"] if r["device"] == device]
    return lay_out(["figure"] + [short(k) for k in keys(data)],
                   [[figure_name(r)] + [cell(data, r, k) for k in keys(data)] for r in rows])


def ratio_table(data, device):
    """Each column of ours by each peer; "" when there is none of ours, or no peer."""
    there = [s["key"] for s in data["subjects"] if not s["missing"]]
    ours = [k for k in there if k.split(":")[0] == "iomapfs"]
    pairs = [(a, b) for a in ours for b in there if b not in ours]
    rows = []
    for r in data["rows"]:
        found = [stats.ratios(r["rounds"].get(a, []), r["rounds"].get(b, []), r["better"]) for a, b in pairs]
        if r["device"] == device and any(found):
            rows.append([figure_name(r)] + [f"{stats.median(f):.2f}" if f else "-" for f in found])
    heads = [f"{short(a).partition(':')[2] or 'iomapfs'} / {short(b)}" for a, b in pairs]
    return lay_out(["times as good as"] + heads, rows) if rows else ""


def cost_table(data, device, key):
    rows = [r for r in data["rows"] if r["device"] == device and r.get(key)]
    there = [k for k in keys(data) if any(r[key].get(k) for r in rows)]
    return lay_out(["microseconds an operation"] + [short(k) for k in there],
                   [[f"{r['workload']}: {r['figure']}"] + [number(stats.median(r[key].get(k, [])))
                                                            for k in there] for r in rows]) if rows else ""


def growth_table(data, device):
    """The last size's cost by the first's."""
    curves = {}
    for r in data["rows"]:
        if r["device"] == device and r.get("at"):
            curves.setdefault((r["workload"], r["figure"].split(" @ ")[0]), []).append(r)
    rows = []
    for (workload, figure), points in curves.items():
        if len(points) < 2:
            continue
        cells = []
        for k in keys(data):
            got = [v for v in (stats.median(p["rounds"].get(k, [])) for p in points) if v]
            cells.append(f"{got[-1] / got[0]:.2f}" if len(got) > 1 else "-")
        rows.append([f"{workload}: {figure}"] + cells)
    return lay_out(["cost at the largest by cost at the smallest"] + [short(k) for k in keys(data)], rows) \
        if rows else ""


def target_table(data, device):
    """Goals that this result can judge; met ones in plain, missed ones marked."""
    judged = targets.judge(data, device)
    ours = list(dict.fromkeys(k for _, _, by in judged for k in by))
    rows = [[what, wanted] + [("" if by[k][1] else "missed: ") + by[k][0] if k in by else "-" for k in ours]
            for what, wanted, by in judged]
    return lay_out(["target", "wanted"] + [short(k) for k in ours], rows) if rows else ""


def render(data):
    h = data["host"]
    out = [f"iomapfs {data['commit']}, {data['started']}, Linux {h['kernel']}, {h['cpus']} CPUs ({h['model']}), "
           f"{h['memory_mib']} MiB; {data['args']['rounds']} rounds, medians ± median absolute deviation."]
    for device in devices(data):
        for title, text in ((f"## {device}", figures(data, device)),
                            (f"### Ratios on {device} (above 1: faster, or smaller)", ratio_table(data, device)),
                            (f"### Targets on {device}", target_table(data, device)),
                            (f"### Growth on {device}", growth_table(data, device)),
                            (f"### CPU time of the whole machine on {device}", cost_table(data, device, "cpu_us")),
                            (f"### CPU time of the daemon on {device}", cost_table(data, device, "daemon_us"))):
            if text:
                out += ["", title, "", text]
    out += remarks(data)
    return "\n".join(out)


def remarks(data):
    lines = [f"- {short(s['key'])}: not here: {s['missing']}" for s in data["subjects"] if s["missing"]]
    lines += [f"- {a['device']}: {a['workload']}: {short(a['subject'])}: {a['why']}" for a in data["absent"]]
    lines += [f"- {n}" for n in data["notes"]]
    lines += [f"- FAILED: {f['device']}: {f['workload']}: {f['subject']}, round {f['round']}: {f['why']}"
              for f in data["failures"]]
    return ["", *lines] if lines else []

# SPDX-License-Identifier: MIT
"""SQLite: a bulk load in one transaction, and many small ones."""
from system import Failure
from workloads import Workload


def check(s, path, table, rows):
    got = s.env.sh("sqlite3", path, f"select count(*) from {table}; pragma integrity_check;").split()
    if got != [str(rows), "ok"]:
        raise Failure(f"{path}: {got}, not {rows} rows and ok")


class Sqlite(Workload):
    """SQLite: bulk load with an index in one transaction; commits of one row"""

    name = "sqlite"

    def run(self, s):
        rows, commits = s.scale["rows"], s.scale["commits"]
        bulk, small = s.path("bulk.db"), s.path("commits.db")
        s.timed("bulk load, rows", "sqlite3", "-bail", bulk, ops=rows, stdin=(
            "create table t(a integer primary key, b text, c text); begin;"
            f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})"
            " insert into t select i, hex(i * 7919), printf('%040d', i) from n;"
            "create index x on t(b); commit;"))
        s.timed("commits", "sqlite3", "-bail", small, ops=commits, stdin=(
            "create table u(a);" + "".join(f"insert into u values({i});\n" for i in range(commits))))
        s.cold()
        check(s, bulk, "t", rows)
        check(s, small, "u", commits)


WORKLOADS = [Sqlite]

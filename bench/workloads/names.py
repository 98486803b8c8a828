# SPDX-License-Identifier: MIT
"""Names: create, stat, list, rename, unlink; alone and by several jobs at once."""
from workloads import Workload


class Names(Workload):
    """create, stat, list, rename and unlink of empty files, 1000 to a directory; cold and warm"""

    name = "names"
    on_null = True

    def run(self, s):
        n, d = s.scale["names"], s.path()
        s.tool("create", "names", "create", d, n, 1)
        s.forget()
        s.tool("stat, cold", "names", "stat", d, n, 1)
        s.forget()
        s.tool("list + stat, cold", "names", "list", d, n, 1)
        s.tool("stat, warm", "names", "stat", d, n, 1)
        s.tool("rename", "names", "rename", d, n, 1)
        s.tool("unlink", "names", "unlink", d, n, 1)


class ParallelNames(Workload):
    """create, stat, rename and unlink by 2 and by 8 jobs, each with directories of its own"""

    name = "parallel-names"
    on_null = True

    def run(self, s):
        n = s.scale["parallel_names"]
        for jobs in (2, 8):
            d = s.path(str(jobs))
            s.env.mkdir(d)
            s.tool(f"create, {jobs} jobs", "names", "create", d, n, jobs)
            s.env.drop_caches()
            s.tool(f"stat, {jobs} jobs", "names", "stat", d, n, jobs)
            s.tool(f"rename, {jobs} jobs", "names", "rename", d, n, jobs)
            s.tool(f"unlink, {jobs} jobs", "names", "unlink", d, n, jobs)


WORKLOADS = [Names, ParallelNames]

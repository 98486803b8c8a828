# SPDX-License-Identifier: MIT
"""How long one operation takes while something else writes as fast as it can."""
import os
import time

from system import Failure, kill, start
from workloads import Workload


class Latency(Workload):
    """p50, p99 and p99.9 of reads, creates and synced appends, beside a storm of buffered writes with fsync"""

    name = "latency"

    def storm(self, s):
        return start([os.path.join(s.env.work, "data"), "storm", s.path("storm"), str(s.scale["random_mib"])],
                     stdout=-3, stderr=-3)

    def run(self, s):
        mib = s.scale["random_mib"]
        how = ["block=4", "direct", f"ms={s.scale['ms']}"]
        s.env.tool("data", "new", s.path("data"), mib, "fsync")
        s.tool("read, quiet", "data", "rand-read", s.path("data"), mib, *how, unit="p99")
        storm = self.storm(s)
        try:
            time.sleep(0.3)  # until it has something to write back
            s.tool("read", "data", "rand-read", s.path("data"), mib, *how, unit="p99")
            s.env.mkdir(s.path("names"))
            s.tool("create", "names", "create", s.path("names"), max(s.scale["names"] // 5, 100), 1, unit="p99")
            s.tool("append + fsync", "append", "append-fsync", s.path("log"), max(s.scale["syncs"] // 10, 20),
                   unit="p99")
            if storm.poll() is not None:
                raise Failure(f"the storm ended by itself with code {storm.returncode}")
        finally:
            kill(storm)


WORKLOADS = [Latency]

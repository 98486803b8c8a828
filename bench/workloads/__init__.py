# SPDX-License-Identifier: MIT
"""The workloads, in the order in which they run. Each module has one or more classes like Workload."""


class Workload:
    """What run() needs, and how it reads: --list shows the class's first line of documentation."""

    name = ""
    quick = True        # part of --quick
    on_null = False     # means something where contents are not kept

    def image_bytes(self, scale):
        return scale["image_mib"] << 20

    def inodes(self, scale):
        """How many the file system must have room for; 0: what its mkfs thinks right."""
        return 0

    def takes(self, subject):
        """Why this subject has no part in it, or None."""
        if not subject.keeps_data and not self.on_null:
            return "keeps no contents"
        return None

    def prepare(self, env):
        """Once, before the first subject: inputs that do not lie on a subject."""

    def run(self, s):
        """Work and measure on the session s; raises Failure when a result is wrong."""
        raise NotImplementedError


def every():
    # Here: each of them imports this module.
    from workloads import data, database, git, growth, latency, lifecycle, names, tree
    modules = (names, data, database, tree, git, latency, lifecycle, growth)
    return [cls() for m in modules for cls in m.WORKLOADS]

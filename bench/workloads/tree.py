# SPDX-License-Identifier: MIT
"""A tree of many small files, handled by the tools that people use."""
import io
import os
import random
import tarfile

from system import Failure, drop_caches, sh
from workloads import Workload

NEEDLE = b"needle-in-a-haystack"
PER_DIR = 50


def contents(rng, number):
    """Sizes as source trees have them: half below 2 KiB, a few of 100 KiB; every hundredth has the needle."""
    size = min(int(rng.lognormvariate(7.6, 1.3)), 200000) + 1
    words = rng.randbytes(256).hex().encode()
    data = (words * (size // len(words) + 1))[:size]
    if number % 100 == 0:
        data += b"\n" + NEEDLE + b"\n"
    return data


def write_tar(path, files):
    """The same tree every time; returns (files with the needle, files above 64 KiB, bytes)."""
    rng = random.Random(20240501)
    needles = large = total = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for n in range(files):
            data = contents(rng, n)
            folder = f"tree/{n // PER_DIR // 20}/{n // PER_DIR % 20}"
            info = tarfile.TarInfo(f"{folder}/file-{n}.txt")
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
            needles += n % 100 == 0
            large += len(data) > 65536
            total += len(data)
    return needles, large, total


class Tree(Workload):
    """untar, find, grep, cp -r and rm -rf of a tree of 50,000 files; find and grep cold and warm"""

    name = "tree"

    def inodes(self, scale):
        return scale["tree_files"] * 3 + 20000

    def prepare(self, env):
        self.files = env.scale["tree_files"]
        self.tar = os.path.join(env.work, "tree.tar")
        self.needles, self.large, self.bytes = write_tar(self.tar, self.files)
        sh("tar", "-C", env.work, "-xf", self.tar)
        self.sum = sh(os.path.join(env.work, "treesum"), os.path.join(env.work, "tree"))
        sh("rm", "-rf", os.path.join(env.work, "tree"))

    def find(self, s, label, tree):
        out = s.timed(label, "find", tree, "-type", "f", "-size", "+64k", ops=self.files)
        if out.count("\n") != self.large:
            raise Failure(f"find: {out.count(chr(10))} files above 64 KiB, not {self.large}")

    def grep(self, s, label, tree):
        out = s.timed(label, "grep", "-rl", NEEDLE.decode(), tree, ops=self.files)
        if out.count("\n") != self.needles:
            raise Failure(f"grep: {out.count(chr(10))} files have the needle, not {self.needles}")

    def same(self, s, tree):
        got = sh(os.path.join(s.env.work, "treesum"), tree)
        if got != self.sum:
            raise Failure(f"{tree}: {got.strip()}, not {self.sum.strip()}")

    def run(self, s):
        d, files = s.path(), self.files
        s.timed("untar", "tar", "-C", d, "--no-same-owner", "-xf", self.tar, ops=files)
        s.cold()
        tree, copy = os.path.join(d, "tree"), os.path.join(d, "copy")
        self.find(s, "find, cold", tree)
        self.find(s, "find, warm", tree)
        s.cold()
        self.grep(s, "grep, cold", tree)
        self.grep(s, "grep, warm", tree)
        s.timed("cp -r", "cp", "-r", tree, copy, ops=files)
        self.same(s, tree)
        drop_caches()
        self.same(s, copy)
        s.timed("rm -rf", "rm", "-rf", copy, ops=files)
        if os.path.exists(copy):
            raise Failure("rm -rf left something")


WORKLOADS = [Tree]

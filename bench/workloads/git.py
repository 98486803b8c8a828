# SPDX-License-Identifier: MIT
"""A programmer's day: clone, status, build."""
import os

from system import Failure, sh
from workloads import Workload

ENV = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent", "GIT_AUTHOR_DATE": "2024-05-01T00:00:00Z",
       "GIT_COMMITTER_DATE": "2024-05-01T00:00:00Z", "GIT_AUTHOR_NAME": "bench", "GIT_COMMITTER_NAME": "bench",
       "GIT_AUTHOR_EMAIL": "bench@localhost", "GIT_COMMITTER_EMAIL": "bench@localhost"}


class Git(Workload):
    """git clone, git status cold and warm, make -j2 of a made-up project"""

    name = "git"

    def source(self, n):
        lines = "".join(f"static int f{k}(int x) {{ return x * {k + n} + {k}; }}\n" for k in range(40))
        calls = " + ".join(f"f{k}({k})" for k in range(40))
        return f"#include <stdio.h>\n{lines}int part{n}(void) {{ return ({calls}) % 7; }}\n"

    def prepare(self, env):
        self.files, self.built = env.scale["git_files"], env.scale["git_built"]
        self.repo = os.path.join(env.work, "project")
        os.mkdir(self.repo)
        for n in range(self.files):
            folder = os.path.join(self.repo, f"part{n // 100}")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"p{n}.c"), "w", encoding="ascii") as f:
                f.write(self.source(n))
        parts = [f"part{n // 100}/p{n}" for n in range(self.built)]
        with open(os.path.join(self.repo, "main.c"), "w", encoding="ascii") as f:
            f.write("#include <stdio.h>\n" + "".join(f"int part{n}(void);\n" for n in range(self.built)) +
                    "int main(void) { printf(\"%d parts\\n\", 0" +
                    "".join(f" + (part{n}() < 7)" for n in range(self.built)) + "); return 0; }\n")
        with open(os.path.join(self.repo, "Makefile"), "w", encoding="ascii") as f:
            objects = " ".join(p + ".o" for p in parts)
            f.write(f"program: main.o {objects}\n\tcc -o $@ $^\n%.o: %.c\n\tcc -c -o $@ $<\n")
        sh("git", "init", "-q", "-b", "main", self.repo, env=ENV)
        sh("git", "-C", self.repo, "add", ".", env=ENV)
        sh("git", "-C", self.repo, "-c", "gc.auto=0", "commit", "-q", "-m", "all of it", env=ENV)

    def status(self, s, label, clone):
        out = s.timed(label, "git", "-C", clone, "-c", "safe.directory=*", "status", "--porcelain",
                      ops=self.files, env=ENV)
        if out:
            raise Failure(f"git status of a fresh clone: {out[:200]}")

    def run(self, s):
        clone = s.path("clone")
        s.timed("clone", "git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", self.repo, clone,
                ops=self.files, env=ENV)
        s.cold()
        self.status(s, "status, cold", clone)
        self.status(s, "status, warm", clone)
        s.timed("make -j2, files", "make", "-s", "-j2", "-C", clone, ops=self.built)
        out = sh(os.path.join(clone, "program"))
        if out != f"{self.built} parts\n":
            raise Failure(f"the program that was built says {out!r}")


WORKLOADS = [Git]

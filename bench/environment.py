# SPDX-License-Identifier: MIT
"""What every part of a run shares: folders, scale, limits, and short forms that are not measured."""
import os
import sys

import system


class Environment:
    def __init__(self, top, bindir, scale, limit, undo):
        self.top, self.bin, self.scale, self.limit, self.undo = top, bindir, scale, limit, undo
        self.places = None   # devices.Places
        self.work = None     # its folder
        self.notes = []      # sentences for the reader of the table
        self.drop_caches = system.drop_caches
        self.sh = system.sh
        self.mkdir = os.mkdir

    def set_places(self, places):
        self.places, self.work = places, places.work

    def mount_point(self, name):
        path = os.path.join(self.work, name)
        os.makedirs(path, exist_ok=True)
        return path

    def sync(self):
        """What is mounted now, and nothing else."""
        system.sh("sync", "--file-system", self.mount_point("mnt"))

    def tool(self, name, *args):
        """A program of bench/tools, unmeasured."""
        return system.sh(os.path.join(self.work, name), *map(str, args), limit=self.limit)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)

    @staticmethod
    def say(text):
        print(text, file=sys.stderr, flush=True)

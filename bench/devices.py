# SPDX-License-Identifier: MIT
"""The devices that file systems are put on: loop devices over fresh sparse images, on a tmpfs and on a disk.

Nothing of them outlives this program, also when it is killed: the mounts are in a mount namespace of its
own, an image is unlinked once its loop device is there, and the loop device is told to go with its last user,
which is a descriptor held here.
"""
import os
import shutil
import tempfile

from system import Failure, sh


class Places:
    """Where images lie: {"tmpfs": folder, "disk": folder}."""

    def __init__(self, undo, kinds, disk_dir, tmpfs_gib):
        self.folders = {}
        # Mount points and programs: not in the tmpfs, which is for images.
        self.work = tempfile.mkdtemp(prefix="iomapfs-bench-")
        undo.add(f"remove {self.work}", shutil.rmtree, self.work)
        for kind in kinds:
            if kind == "tmpfs":
                folder = os.path.join(self.work, "tmpfs")
                os.mkdir(folder)
                sh("mount", "-t", "tmpfs", "-o", f"size={tmpfs_gib}g,huge=never", "iomapfs-bench", folder)
                undo.add(f"unmount {folder}", sh, "umount", "-l", folder)
            elif disk_dir:
                folder = disk_dir
            else:
                folder = "/var/tmp"
            self.folders[kind] = folder

    def device(self, undo, kind, size):
        return Device(undo, self.folders[kind], size)


class Device:
    """A loop device over a fresh image of `size` bytes; .path and .size until close()."""

    def __init__(self, undo, folder, size):
        image = os.path.join(folder, f"iomapfs-bench-{os.getpid()}.img")
        try:
            with open(image, "wb") as f:
                f.truncate(size)
            self.path = sh("losetup", "--find", "--show", "--direct-io=on", image).strip()
        except OSError as e:
            raise Failure(f"{image}: an image of {size} bytes: {e.strerror}") from None
        finally:
            if os.path.exists(image):
                os.unlink(image)
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        # With a descriptor open this only says that the last close is the end.
        sh("losetup", "--detach", self.path)
        self.size = size
        self.undo, self.entry = undo, undo.add(f"detach {self.path}", self._close)

    def _close(self):
        os.close(self.fd)

    def close(self):
        self.undo.now(self.entry)

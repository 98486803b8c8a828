# SPDX-License-Identifier: MIT
"""What is compared: each file system knows how to be made, mounted, left and checked.

A subject is named NAME[:OPTION+OPTION..] on the command line. missing() says in a sentence why one cannot take
part here; a table shows that sentence.
"""
import json
import os
import shutil
import subprocess
import time

from system import Failure, bound_to_us, kill, sh

MOUNT_LIMIT_S = 300


def is_mounted(mnt):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return any(line.split()[4] == mnt for line in f)


def kernel_knows(fstype):
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", fstype], check=False, stderr=subprocess.DEVNULL)
    with open("/proc/filesystems", encoding="ascii") as f:
        return any(line.split()[-1] == fstype for line in f)


class Subject:
    """One column. daemon: the process that serves it while it is mounted; None: the kernel."""

    name = ""
    keeps_data = True      # False: contents are not kept, and not checked
    whole = True           # a file system of its own, with an mkfs, a device to itself and names for ever
    programs = ()

    def __init__(self, env, options=""):
        self.env, self.options = env, options
        self.key = f"{self.name}:{options.replace(',', '+')}" if options else self.name
        self.daemon = None
        self.log = os.path.join(env.work, f"{self.name}.log")

    def missing(self):
        for p in self.programs:
            if not shutil.which(p):
                return f"{p} is not installed (scripts/packages bench)"
        return None

    def make(self, dev, inodes=0):
        raise NotImplementedError

    def mount(self, dev, mnt):
        raise NotImplementedError

    def check_command(self, dev):
        """Says by exit code 0 that the unmounted file system is sound; None: there is no such program."""
        return None

    def fiemap_command(self, path):
        """Prints a line for each extent; None: there is no way to ask."""
        return None

    def device_program(self):
        """Drives a device as this subject does, without a file system; None: there is none."""
        return None

    def umount(self, mnt):
        """Returns when nobody works on the device any more."""
        for attempt in range(50):
            try:
                sh("umount", mnt)
                break
            except Failure:
                if attempt == 49 or not is_mounted(mnt):
                    raise
                time.sleep(0.1)
        self._reap()

    def _reap(self):
        if not self.daemon:
            return
        daemon, self.daemon = self.daemon, None
        try:
            daemon.wait(MOUNT_LIMIT_S)
        except subprocess.TimeoutExpired:
            kill(daemon)
            raise Failure(f"{self.key}: the daemon did not end after the unmount") from None

    def abandon(self, mnt):
        """Get rid of it, whatever its state."""
        if self.daemon:
            kill(self.daemon)
            self.daemon = None
        while is_mounted(mnt):
            sh("umount", "-l", mnt)

    def start_daemon(self, cmd, mnt):
        """In the foreground, until it serves."""
        with open(self.log, "wb") as log:
            self.daemon = subprocess.Popen(bound_to_us(cmd), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           start_new_session=True)
        end = time.monotonic() + MOUNT_LIMIT_S
        while not is_mounted(mnt):
            if self.daemon.poll() is not None or time.monotonic() > end:
                kill(self.daemon)
                self.daemon = None
                with open(self.log, encoding="utf-8", errors="replace") as f:
                    said = f.read().strip().replace("\n", "; ")[-300:]
                raise Failure(f"{self.key}: does not mount: {said or 'no message'}")
            time.sleep(0.0005)
        os.statvfs(mnt)  # answered once the first request is

    def version(self):
        return ""


class Iomapfs(Subject):
    name = "iomapfs"
    program = "iomapfs"

    def missing(self):
        for p in (self.program, "mkfs.iomapfs", "fsck.iomapfs", "iomapctl"):
            if not os.path.exists(f"{self.env.bin}/{p}"):
                return f"{self.env.bin}/{p} does not exist: run bench/build, or name a folder with --bin"
        return self._try()

    def _try(self):
        """Options that this build or this kernel does not have are told at the mount."""
        mnt = self.env.mount_point("try")
        image = os.path.join(self.env.work, "try.img")
        with open(image, "wb") as f:
            f.truncate(64 << 20)
        try:
            self.make(image)
            self.start_daemon(self._command(image, mnt, "nosandbox" if "sandbox" not in self.options else ""), mnt)
            wanted = dict(o.partition("=")[::2] for o in self.options.split(",")).get("transport", "")
            got = json.loads(sh(f"{self.env.bin}/iomapctl", "--json", "info", mnt)).get("transport")
            self.umount(mnt)
            if wanted not in ("", "auto") and got and got != wanted:
                return f"transport={wanted} is not to be had here: it fell back to {got}"
            return None
        except Failure as e:
            return str(e)
        finally:
            self.abandon(mnt)
            os.unlink(image)

    def _command(self, dev, mnt, more=""):
        options = ",".join(o for o in (self.options, more) if o)
        return [f"{self.env.bin}/{self.program}", "-f", *(["-o", options] if options else []), dev, mnt]

    def make(self, dev, inodes=0):
        sh(f"{self.env.bin}/mkfs.iomapfs", "-q", "-f", dev)

    def mount(self, dev, mnt):
        self.start_daemon(self._command(dev, mnt), mnt)

    def check_command(self, dev):
        return [f"{self.env.bin}/fsck.iomapfs", "-n", "-f", dev]

    def fiemap_command(self, path):
        return [f"{self.env.bin}/iomapctl", "fiemap", path]

    def device_program(self):
        program = f"{self.env.bin}/bench-device"
        if os.path.exists(program):
            return program
        self.env.note(f"{program} does not exist (bench/build): the device path alone was not measured")
        return None

    def version(self):
        return sh("git", "-C", self.env.top, "describe", "--always", "--dirty", ok=(0, 128)).strip()


class Null(Iomapfs):
    """The same daemon and transport over a file system that keeps names and sizes in memory, and no contents."""

    name = "null"
    program = "iomapfs-null"
    keeps_data = False
    whole = False

    def device_program(self):
        return None


class Ext4(Subject):
    name = "ext4"
    programs = ("mkfs.ext4", "e2fsck", "filefrag")

    def missing(self):
        return super().missing() or (None if kernel_knows("ext4") else "the kernel has no ext4")

    def make(self, dev, inodes=0):
        sh("mkfs.ext4", "-q", "-F", *(["-N", str(inodes)] if inodes else []), dev)

    def mount(self, dev, mnt):
        sh("mount", "-t", "ext4", *(["-o", self.options] if self.options else []), dev, mnt)

    def check_command(self, dev):
        return ["e2fsck", "-n", "-f", dev]

    def fiemap_command(self, path):
        return ["filefrag", "-v", path]


class Xfs(Subject):
    name = "xfs"
    programs = ("mkfs.xfs", "xfs_repair", "filefrag")

    def missing(self):
        return super().missing() or (None if kernel_knows("xfs") else "the kernel has no xfs")

    def make(self, dev, inodes=0):
        sh("mkfs.xfs", "-q", "-f", dev)

    def mount(self, dev, mnt):
        sh("mount", "-t", "xfs", *(["-o", self.options] if self.options else []), dev, mnt)

    def check_command(self, dev):
        return ["xfs_repair", "-n", dev]

    def fiemap_command(self, path):
        return ["filefrag", "-v", path]


class Fuse2fs(Ext4):
    name = "fuse2fs"
    programs = ("mkfs.ext4", "fuse2fs")

    def missing(self):
        return Subject.missing(self)

    def mount(self, dev, mnt):
        options = ",".join(o for o in ("fakeroot,rw,allow_other", self.options) if o)
        self.start_daemon(["fuse2fs", "-f", "-o", options, dev, mnt], mnt)

    def check_command(self, dev):
        return None  # ext4's own, which has its column

    def fiemap_command(self, path):
        return None


class Ntfs3g(Subject):
    name = "ntfs-3g"
    programs = ("mkntfs", "ntfs-3g")

    def make(self, dev, inodes=0):
        sh("mkntfs", "-q", "-Q", "-F", dev)

    def mount(self, dev, mnt):
        options = ",".join(o for o in ("no_detach,rw", self.options) if o)
        self.start_daemon(["ntfs-3g", "-o", options, dev, mnt], mnt)


class Passthrough(Ext4):
    """libfuse's example over a kernel ext4: what FUSE costs without a file system behind it."""

    name = "passthrough_ll"
    source = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"

    def missing(self):
        if not os.path.exists(self.source):
            return f"no {self.source}: this libfuse3-dev came without its examples"
        return super().missing() or self._build()

    def _build(self):
        try:
            flags = sh("pkg-config", "--cflags", "--libs", "fuse3").split()
            sh("cc", "-O2", "-w", "-o", os.path.join(self.env.work, "passthrough_ll"), self.source, *flags)
        except (Failure, FileNotFoundError) as e:
            return f"passthrough_ll does not build: {e}"
        return None

    def mount(self, dev, mnt):
        lower = self.env.mount_point("lower")
        sh("mount", "-t", "ext4", dev, lower)
        options = ",".join(o for o in (f"source={lower},allow_other", self.options or "cache=always") if o)
        self.start_daemon([os.path.join(self.env.work, "passthrough_ll"), "-f", "-o", options, mnt], mnt)

    def umount(self, mnt):
        super().umount(mnt)
        sh("umount", self.env.mount_point("lower"))

    def abandon(self, mnt):
        super().abandon(mnt)
        Subject.abandon(self, self.env.mount_point("lower"))

    def check_command(self, dev):
        return None

    def fiemap_command(self, path):
        return None


KINDS = {c.name: c for c in (Iomapfs, Ext4, Xfs, Fuse2fs, Ntfs3g, Passthrough, Null)}
DEFAULT = ["iomapfs:transport=loop", "iomapfs:transport=uring", "ext4", "xfs", "fuse2fs", "ntfs-3g",
           "passthrough_ll", "null:transport=loop", "null:transport=uring"]
REFERENCE = "ext4"


def parse(env, words):
    """Subjects of a list of NAME[:OPTION+OPTION..]; ValueError says what is wrong with it."""
    found = []
    for word in words:
        name, _, options = word.partition(":")
        if name not in KINDS:
            raise ValueError(f"{word}: no such file system; there are {', '.join(KINDS)}")
        subject = KINDS[name](env, options.replace("+", ","))
        if subject.key in (s.key for s in found):
            raise ValueError(f"{word}: named twice")
        found.append(subject)
    return found

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a transport must carry, for transport.t.

usage: transport_load.py DIR once      every kind of request, small and large, compared; ends
       transport_load.py DIR forever   a load from all sides, until the first error or a signal
"""
import ctypes
import mmap
import os
import random
import sys
import threading

THREADS = 24


def data(size, seed):
    return random.Random(seed).randbytes(size)


def sizes(d):
    """Through the kernel's cache and past it, around the largest request of 1 MiB."""
    for i, size in enumerate((1, 4095, 4096, 131072, (1 << 20) - 1, 1 << 20, (3 << 20) + 7)):
        want, path = data(size, i), f"{d}/size{i}"
        with open(path, "wb", buffering=0) as f:
            assert f.write(want) == size
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        room = mmap.mmap(-1, 4 << 20)
        assert os.preadv(fd, [room], 0) == size and room[:size] == want, f"direct read of {size}"
        with open(path, "rb") as f:
            assert f.read() == want, f"read of {size}"
        whole = size // 4096 * 4096
        if whole:
            other = data(whole, 100 + i)
            room[:whole] = other
            assert os.pwritev(fd, [memoryview(room)[:whole]], 0) == whole
            with open(path, "rb") as f:
                assert f.read() == other + want[whole:], f"direct write of {whole}"
        os.close(fd)


def names(d):
    os.mkdir(f"{d}/names")
    want = {f"{i:04}" + "n" * (i % 252) for i in range(1500)}
    for name in want:
        os.close(os.open(f"{d}/names/{name}", os.O_CREAT | os.O_WRONLY))
    assert set(os.listdir(f"{d}/names")) == want
    value, target = data(60000, 1), "t" * 4000
    os.setxattr(f"{d}/names", "user.big", value)
    assert os.getxattr(f"{d}/names", "user.big") == value and os.listxattr(f"{d}/names") == ["user.big"]
    os.symlink(target, f"{d}/link")
    assert os.readlink(f"{d}/link") == target
    os.rename(f"{d}/link", f"{d}/names/" + "l" * 255)


def life_of_files(d, me, rounds):
    path, other = f"{d}/life{me}", f"{d}/lived{me}"
    for i in range(rounds):
        want = data(1 << random.Random(me * 1000 + i).randrange(8, 19), i)
        with open(path, "wb") as f:
            f.write(want)
            f.flush()
            os.fsync(f.fileno())
        os.rename(path, other)
        with open(other, "rb") as f:
            assert f.read() == want, f"contents of {other}"
        os.statvfs(d)
        os.unlink(other)


def stores_and_seeks(d, me, rounds):
    """
    A seek waits for the kernel to send the page stored to, by a request to the queue that it may itself have
    come by: more of them at once than the queue has slots must not lock it.
    """
    path, size = f"{d}/mapped{me}", 64 << 10
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    libc = ctypes.CDLL(None, use_errno=True)
    for i in range(rounds):
        os.ftruncate(fd, 0)
        os.ftruncate(fd, size)
        at = (me * 7 + i) % 16 * 4096
        with mmap.mmap(fd, size) as m:
            m[at:at + 5] = b"store"
            assert os.lseek(fd, 0, os.SEEK_DATA) == at, f"the store at {at} is not to be seen"
        assert os.copy_file_range(fd, fd, 4096, at, (at + 4096) % size) == 4096
        assert os.pread(fd, 5, (at + 4096) % size) == b"store"
        assert libc.posix_fadvise(fd, ctypes.c_long(0), ctypes.c_long(0), os.POSIX_FADV_DONTNEED) == 0
        assert os.pread(fd, 5, at) == b"store"
    os.close(fd)


def in_threads(bodies):
    errors = []

    def guarded(body, args):
        try:
            body(*args)
        except BaseException as e:  # pylint: disable=broad-except
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(b, a)) for b, a in bodies]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def main():
    d, how = sys.argv[1:]
    os.mkdir(d)
    if how == "once":
        sizes(d)
        names(d)
        in_threads([(life_of_files, (d, i, 4)) for i in range(THREADS)])
        in_threads([(stores_and_seeks, (d, i, 6)) for i in range(THREADS)])
    else:
        in_threads([(life_of_files, (d, i, 1 << 30)) for i in range(8)] +
                   [(stores_and_seeks, (d, i, 1 << 30)) for i in range(4)])


main()

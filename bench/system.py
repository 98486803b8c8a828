# SPDX-License-Identifier: MIT
"""Commands, bounded and killed with whoever started them, and what has to be undone at the end."""
import os
import signal
import subprocess

UNSUPPORTED = 77


class Interrupted(BaseException):
    """A signal asked the run to end; nothing but the end of the run may catch it."""


class Failure(Exception):
    """A command failed, or a file system gave a wrong answer."""


class Unsupported(Exception):
    """The subject cannot do what the workload is about."""


def on_signals_raise():
    def handler(number, _frame):
        # Once: the cleanup that this starts must not be cut short by an impatient second one.
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, handler)


def bound_to_us(cmd):
    """The command as one that the kernel kills when this program dies, however it dies."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *cmd]


def start(cmd, **kw):
    return subprocess.Popen(bound_to_us(cmd), start_new_session=True, **kw)


def kill(proc):
    """The process and its children; returns when it is reaped."""
    try:
        os.killpg(proc.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    proc.wait()


def sh(*cmd, limit=1800, stdin=None, cwd=None, ok=(0,), env=None):
    """Output of a command. Failure with its last words, Unsupported, or Failure after `limit` seconds."""
    proc = start(cmd, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
                 env={**os.environ, "LC_ALL": "C", **(env or {})})
    try:
        out, err = proc.communicate(stdin, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(cmd)[:200]}: not done after {limit} s") from None
    finally:
        if proc.poll() is None:
            kill(proc)
    if proc.returncode == UNSUPPORTED and UNSUPPORTED not in ok:
        raise Unsupported(err.strip().split("\n")[-1])
    if proc.returncode not in ok:
        said = "; ".join((err.strip() or out.strip()).split("\n")[:4])[:400]
        raise Failure(f"{' '.join(cmd)[:200]}: exit code {proc.returncode}: {said or 'no message'}")
    return out


class Undo:
    """What was done and must be undone, last first, each whatever became of the others."""

    def __init__(self):
        self.actions = []

    def add(self, what, fn, *args):
        entry = (what, fn, args)
        self.actions.append(entry)
        return entry

    def now(self, entry):
        if entry in self.actions:
            self.actions.remove(entry)
            entry[1](*entry[2])

    def all(self):
        problems = []
        while self.actions:
            what, fn, args = self.actions.pop()
            try:
                fn(*args)
            except (OSError, Failure, subprocess.SubprocessError) as e:
                problems.append(f"{what}: {e}")
        return problems


def _read(path):
    with open(path, encoding="ascii") as f:
        return f.read().strip()


def _write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def set_parameter(undo, path, value):
    """Set a kernel parameter until undo.now() of what this returns, or the end."""
    old = _read(path)
    entry = undo.add(f"set {path} back to {old}", _write, path, old)
    _write(path, value)
    return entry


def limit_dirty(undo, device, size):
    """The kernel throttles who writes to this loop device at `size` dirty bytes; returns what to undo, or None.

    Of this device alone: vm.dirty_bytes would stop every writer of the machine.
    """
    bdi = f"/sys/block/{os.path.basename(device)}/bdi"
    if not os.path.exists(f"{bdi}/max_bytes"):
        return None
    old = [(name, _read(f"{bdi}/{name}")) for name in ("strict_limit", "max_ratio")]

    def put_back():
        for name, value in old:
            _write(f"{bdi}/{name}", value)
    entry = undo.add(f"set {bdi} back", put_back)
    _write(f"{bdi}/max_bytes", str(size))
    _write(f"{bdi}/strict_limit", "1")
    return entry


def drop_caches():
    # No sync(2): it waits for every file system of the machine, and one of them may be stuck.
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")

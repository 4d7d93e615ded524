"""The processes that a front starts: fresh interpreters, and copies of one that has all it needs open."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from .channel import Channel
from .watchdog import Watchdog

_ROOT: Final = Path(__file__).resolve().parents[3]
# A copy takes milliseconds; that a busy machine takes longer is no reason to start interpreters on it.
_SILENCE_NS_MAX: Final = 1_000_000_000


class ChildProcess(Protocol):
    """A process that does one task for a front."""

    @property
    def pid(self) -> int | None:
        """Its id, None while that is not known."""

    @property
    def alive(self) -> bool:
        """Whether it runs, or is still to."""

    @property
    def said(self) -> dict[str, Any]:
        """What it told the front of its task; of a fresh interpreter only once that has ended."""

    def came_to_nothing(self, now_ns: int) -> bool:
        """Take a glance at one that is to start; return whether it failed by no fault of its task's."""

    def kill(self) -> None:
        """End it, without waiting until it is gone; again is harmless."""

    def wait(self, timeout_s: float) -> bool:
        """Return whether it has ended within that time."""

    def close(self) -> None:
        """Give back what it takes to watch it; one that was killed goes by itself."""


class SpawnedProcess:
    """A fresh interpreter that runs a module; told its task by a line, it tells how that went by another."""

    def __init__(self, module: str, task: str, *descriptors: int) -> None:
        self._said: dict[str, Any] = {}
        self._process = subprocess.Popen(
            interpreter(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            env=environment(),
            # An interrupt from the terminal is the front's alone, which then ends its processes.
            process_group=0,
        )
        try:
            assert self._process.stdin is not None, "asked for a pipe"
            # One that is gone already is noticed as one that is not alive.
            with suppress(BrokenPipeError), self._process.stdin as pipe:
                pipe.write(task.encode() + b"\n")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """Its id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def said(self) -> dict[str, Any]:
        """What it told, once it has ended."""
        if not self.alive:
            self._listen()
        return self._said

    def came_to_nothing(self, now_ns: int) -> bool:
        """Return False: an interpreter may take long to start, and says so when it ends."""
        return False

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Return whether it has ended within that time."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return not self.alive

    def close(self) -> None:
        """End it and wait until it is gone: it is a child of this process."""
        self._process.kill()
        self._process.wait()
        self._listen()

    def _listen(self) -> None:
        assert self._process.stdout is not None, "asked for a pipe"
        if self._process.stdout.closed:
            return
        with self._process.stdout as pipe:
            text = pipe.read()
        try:
            self._said = dict(json.loads(text))
        except (ValueError, TypeError):
            self._said = {"error": f"exit code {self._process.returncode}"}


class Copyable(Protocol):
    """A process that can be asked for a copy of itself (`copying.py`)."""

    channel: Channel


class CopiedProcess:
    """A copy of another process, made for one task. Asking for it never waits.

    It tells who it is as soon as it exists. It is no child of the front, so it brings a descriptor of itself,
    by which it is watched and ended: ids are given to others again, descriptors are not.
    """

    def __init__(self, original: Copyable, task: dict[str, Any], *descriptors: int) -> None:
        self.channel, far = Channel.pair()
        self._pid: int | None = None
        self._descriptor = -1
        self._said: dict[str, Any] = {}
        self._hears, self._is_condemned = True, False
        self._watchdog = Watchdog(silence_ns_max=_SILENCE_NS_MAX)
        try:
            original.channel.send({"do": "copy", "task": task}, far.fileno(), *descriptors)
        except BaseException:
            self.channel.close()
            raise
        finally:
            far.close()

    @property
    def pid(self) -> int | None:
        """Its id, None until it told."""
        self._hear()
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether it runs, or may still come to be."""
        self._hear()
        return self._hears if self._descriptor < 0 else not is_readable(self._descriptor, 0.0)

    @property
    def said(self) -> dict[str, Any]:
        """What it told so far."""
        self._hear()
        return self._said

    def came_to_nothing(self, now_ns: int) -> bool:
        """Return whether it was never made, should have been long ago, or ended without a word."""
        if self.pid is None:
            return not self._hears or self._watchdog.hangs(now_ns, beat=0)
        return not self.alive and "error" not in self._said

    def kill(self) -> None:
        """End it; one that is still to come, as soon as it does."""
        self._is_condemned = True
        self._hear()
        self._end()

    def wait(self, timeout_s: float) -> bool:
        """Return whether it has ended within that time."""
        stop_s = time.monotonic() + timeout_s
        while self.alive:
            descriptor = self.channel.fileno() if self._descriptor < 0 else self._descriptor
            if not is_readable(descriptor, max(stop_s - time.monotonic(), 0.0)):
                return False
        return True

    def dismiss(self) -> None:
        """Tell it no more, on which it ends by itself and its copies with it; one at work goes on."""
        self.channel.finish()

    def close(self) -> None:
        """Hear no more of it either."""
        self._hears = False
        self.channel.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _end(self) -> None:
        if self._descriptor >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def _hear(self) -> None:
        """Take in what was told."""
        while self._hears:
            try:
                message = self.channel.receive()
            except BlockingIOError:
                break
            except OSError:
                message = None
            if message is None:
                self._hears = False
                break
            table, descriptors = message
            if descriptors:
                self._descriptor, self._pid = descriptors[0], table["pid"]
                if self._is_condemned:
                    self._end()
            else:
                self._said |= table


def interpreter(module: str, *arguments: str) -> tuple[str, ...]:
    """Return a command that runs a module of ours as this interpreter would, whatever lies in the folder."""
    return (sys.executable, "-P", "-m", module, *arguments)


def environment() -> dict[str, str]:
    """Return an environment under which a fresh interpreter finds the packages that this one runs."""
    inherited = os.environ.get("PYTHONPATH")
    path = str(_ROOT) if not inherited else f"{_ROOT}{os.pathsep}{inherited}"
    # A worker is one thread; a pool for numpy's products costs more to start than the rest of numpy.
    return os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


def is_readable(descriptor: int, timeout_s: float | None) -> bool:
    """Return whether there is something to read, or of a process's descriptor whether it has ended."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else timeout_s * 1e3))

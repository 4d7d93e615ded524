"""A worker as its front sees it, and the rings' names, which are removed whoever is killed."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from data.errors import AnytickError
from ext.ring_buffer import SpscRing
from ext.ring_memory import unlink_ring

from .processes import ChildProcess
from .request import REQUEST_DTYPE
from .spec import WorkerSpec
from .watchdog import Watchdog

RING_PREFIX: Final = "anytick-serve-"
SHARED: Final = Path("/dev/shm")
# struct flock of Linux: type, whence, start, length, process.
_LOCK: Final = struct.Struct("hhqqi4x")


def remove_abandoned_rings(folder: Path = SHARED) -> int:
    """Remove rings whose front was killed together with its workers; return how many.

    A front and its processes remove their rings themselves, in every other case. Containers may share a
    folder but not their ids: a ring that somebody holds is left alone though its front seems gone, and one
    that nobody holds is an earlier process's though the front seems to be this one.
    """
    removed = 0
    for path in _rings(RING_PREFIX, folder):
        front = path.name.removeprefix(RING_PREFIX).partition("-")[0]
        if front.isdecimal() and (int(front) == os.getpid() or not exists(int(front))) and not _is_held(path):
            removed += _remove(path)
    return removed


def remove_rings_of(front: str, folder: Path = SHARED) -> int:
    """Remove the rings whose names begin with that of a front that was killed; return how many."""
    return sum(map(_remove, _rings(f"{front}-", folder)))


def _rings(prefix: str, folder: Path) -> list[Path]:
    return list(folder.glob(f"{prefix}*")) if folder.is_dir() else []


def _remove(path: Path) -> bool:
    with suppress(OSError):
        path.unlink()
        return True
    return False


def _is_held(path: Path) -> bool:
    """Return whether anybody has a role in a ring, which is a lock on its file (`ext.ring_memory`)."""
    try:
        with path.open("rb") as file:
            asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked)
    except OSError:
        # Gone meanwhile, or somebody else's.
        return True
    return int(_LOCK.unpack(found)[0]) != fcntl.F_UNLCK


def exists(process: int) -> bool:
    """Return whether there is a process of this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class WorkerLost(AnytickError):
    """A worker process ended before it was ready."""


class WorkerProcess:
    """One worker: its process, its ring, its watchdog.

    Parameters
    ----------
    start : callable
        Starts the process.
    ring_capacity : int
        Requests it can be sent before it takes any.
    """

    def __init__(
        self, spec: WorkerSpec, start: Callable[[WorkerSpec], ChildProcess], *, ring_capacity: int
    ) -> None:
        self.place = spec.place
        self.is_condemned = False
        self.watchdog = Watchdog()
        self._ring_name: str | None = spec.requests
        self.requests = SpscRing(
            ring_capacity, dtype=REQUEST_DTYPE, name=spec.requests, wait="block", role="producer"
        )
        self.started_ns = time.monotonic_ns()
        try:
            self.process = start(spec)
        except BaseException:
            self.forget_name()
            raise

    def forget_name(self) -> None:
        """Remove the ring's name, once the worker is attached or will never be; again is harmless."""
        if self._ring_name is not None:
            name, self._ring_name = self._ring_name, None
            with suppress(FileNotFoundError):
                unlink_ring(name)

    def last_words(self) -> str:
        """Return why the process ended before it was ready; only once it is gone."""
        return str(self.process.said.get("error", "nothing said"))

    def kill(self) -> None:
        """End the process; again is harmless."""
        self.is_condemned = True
        # Should it be on its way, it finds that it is not needed.
        self.requests.close()
        self.process.kill()
        self.forget_name()

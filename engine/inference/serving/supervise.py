"""A worker as its front sees it, and the rings' names, which are removed whoever is killed."""

from __future__ import annotations

import os
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


def remove_abandoned_rings(folder: Path = SHARED) -> int:
    """Remove rings whose front was killed together with its workers; return how many.

    A front and its processes remove their rings themselves, in every other case.
    """
    fronts = {_front_of(path) for path in _rings(folder)}
    return sum(remove_rings_of(front, folder) for front in fronts if not exists(front))


def remove_rings_of(front: int, folder: Path = SHARED) -> int:
    """Remove the rings of a front that was killed; return how many."""
    removed = 0
    for path in _rings(folder):
        if _front_of(path) == front:
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _rings(folder: Path) -> list[Path]:
    found = folder.glob(f"{RING_PREFIX}*") if folder.is_dir() else ()
    return [path for path in found if path.name.removeprefix(RING_PREFIX).partition("-")[0].isdecimal()]


def _front_of(path: Path) -> int:
    return int(path.name.removeprefix(RING_PREFIX).partition("-")[0])


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

"""Starting worker processes and noticing when they die or hang."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from data.errors import AnytickError
from ext.ring_buffer import SpscRing
from ext.ring_memory import unlink_ring

from .request import REQUEST_DTYPE
from .spec import WorkerSpec

RING_PREFIX: Final = "anytick-serve-"
SILENCE_NS_MAX: Final = 300_000_000
_GLANCE_NS_MAX: Final = 50_000_000
_ROOT: Final = Path(__file__).resolve().parents[3]


def remove_abandoned_rings(folder: Path = Path("/dev/shm")) -> int:
    """Remove rings whose front was killed together with its workers; return how many.

    A front and its workers remove their rings themselves, in every other case.
    """
    removed = 0
    for path in folder.glob(f"{RING_PREFIX}*") if folder.is_dir() else ():
        process = path.name.removeprefix(RING_PREFIX).partition("-")[0]
        if process.isdecimal() and not _exists(int(process)):
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class WorkerLost(AnytickError):
    """A worker process ended before it was ready."""


class Watchdog:
    """Tells a hung worker from a watcher that was itself away. Holds no clock.

    The silence that counts is the time between glances, at most 50 ms of it each: when the whole machine
    stood still, or this process did, one glance cannot condemn a worker.
    """

    def __init__(self, *, silence_ns_max: int = SILENCE_NS_MAX) -> None:
        self._silence_ns_max = silence_ns_max
        self._beat, self._last_ns, self._silence_ns = -1, 0, 0

    def hangs(self, now_ns: int, *, beat: int, busy_until_ns: int) -> bool:
        """Take one glance; return whether the worker has been silent for too long.

        Parameters
        ----------
        beat : int
            Its counter of turns.
        busy_until_ns : int
            Until then it said it would be busy with one run.
        """
        if beat != self._beat or now_ns < busy_until_ns:
            self._beat, self._silence_ns = beat, 0
        else:
            self._silence_ns += min(now_ns - self._last_ns, _GLANCE_NS_MAX)
        self._last_ns = now_ns
        return self._silence_ns > self._silence_ns_max


class WorkerProcess:
    """One worker as the front sees it: its process, its ring, its status line.

    Parameters
    ----------
    ring_capacity : int
        Requests it can be sent before it takes any.
    """

    def __init__(self, spec: WorkerSpec, *, ring_capacity: int) -> None:
        self.place = spec.place
        self.watchdog = Watchdog()
        self._ring_name: str | None = spec.requests
        self.requests = SpscRing(
            ring_capacity, dtype=REQUEST_DTYPE, name=spec.requests, wait="block", role="producer"
        )
        self.started_ns = time.monotonic_ns()
        try:
            self.process = subprocess.Popen(
                (sys.executable, "-P", "-m", "engine.inference.serving.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(spec.arena_descriptor,),
                env=os.environ | {"PYTHONPATH": search_path()},
                # An interrupt from the terminal is the front's alone, which then ends the workers.
                process_group=0,
            )
        except BaseException:
            self.forget_name()
            raise
        try:
            assert self.process.stdin is not None, "asked for a pipe"
            # A worker that is gone already is noticed as one that is not alive.
            with suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(spec.to_json().encode() + b"\n")
        except BaseException:
            self.kill()
            raise

    def forget_name(self) -> None:
        """Remove the ring's name, once the worker is attached or will never be; again is harmless."""
        if self._ring_name is not None:
            name, self._ring_name = self._ring_name, None
            with suppress(FileNotFoundError):
                unlink_ring(name)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """Return why the process ended before it was ready, where it could say so; only once it is gone."""
        if self.alive or self.process.stdout is None or self.process.stdout.closed:
            return ""
        said = self.process.stdout.read().decode(errors="replace").strip()
        return said or f"exit code {self.process.returncode}"

    def kill(self) -> None:
        """End the process at once and wait until it is gone."""
        self.process.kill()
        self._bury()

    def _bury(self) -> None:
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.forget_name()

    def retire(self, *, timeout_s: float) -> None:
        """Let it finish and end; kill it when it does not."""
        if self.alive:
            self.requests.close()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._bury()


def search_path() -> str:
    """Return a PYTHONPATH under which a fresh interpreter finds the packages this one runs."""
    inherited = os.environ.get("PYTHONPATH")
    return str(_ROOT) if not inherited else f"{_ROOT}{os.pathsep}{inherited}"

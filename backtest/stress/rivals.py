"""What stands beside the router in a stress run: the naive way to serve, and a hog on every core."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.inference.arrays import Floats32
from engine.inference.session import InferenceSession

# Ends by itself when whoever started it is gone.
_SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(20_000))\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class NaiveRun:
    """What closed-loop users got from one shared session."""

    latencies_ns: NDArray[np.int64]
    deadline_ns: int
    seconds: float

    @property
    def hit_rate(self) -> float:
        """Share answered by the deadline."""
        return float(np.mean(self.latencies_ns <= self.deadline_ns))


def run_naive(
    session: InferenceSession, payloads: Floats32, *, users: int, seconds: float, deadline_ns: int
) -> NaiveRun:
    """Let one thread per user ask one shared session, one request a run.

    Parameters
    ----------
    payloads : array of float32, shape (k, window, features)
        Cut to what the session takes.
    """
    taken: list[list[int]] = [[] for _ in range(users)]
    stop_ns = time.monotonic_ns() + int(seconds * 1e9)

    def user(number: int) -> None:
        rows = payloads[number % len(payloads)][None]
        own = taken[number]
        while (start_ns := time.monotonic_ns()) < stop_ns:
            session.probabilities(rows)
            own.append(time.monotonic_ns() - start_ns)

    threads = [threading.Thread(target=user, args=(number,), daemon=True) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies = np.concatenate([np.array(own, np.int64) for own in taken])
    return NaiveRun(latencies_ns=latencies, deadline_ns=deadline_ns, seconds=seconds)


class Hogs:
    """Processes that spin, as many as there are cores, while the block runs."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._processes = [
            subprocess.Popen((sys.executable, "-I", "-S", "-c", _SPIN)) for _ in range(self._count)
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes = []


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

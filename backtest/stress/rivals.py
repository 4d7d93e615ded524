"""What stands beside the router in a stress run: the naive way to serve, and a hog on every core."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.inference.arrays import Floats32
from engine.inference.errors import ModelError
from engine.inference.session import plain_session

# Ends by itself when whoever started it is gone, even before it comes to run.
_SPIN = "import os, sys\nparent = int(sys.argv[1])\nwhile os.getppid() == parent:\n    sum(range(20_000))\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class NaiveRun:
    """What closed-loop users got from one shared session."""

    users: int
    latencies_ns: NDArray[np.int64]
    deadline_ns: int
    seconds: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies_ns) / self.seconds

    @property
    def p99_ms(self) -> float:
        """99th percentile of all latencies."""
        return float(np.percentile(self.latencies_ns, 99)) / 1e6

    @property
    def hit_rate(self) -> float:
        """Share answered by the deadline."""
        return float(np.mean(self.latencies_ns <= self.deadline_ns))


class NaiveService:
    """The way to serve that one writes first: one session for all, asked by a thread per user.

    The session has ONNX Runtime's default options, hence a thread per core of its own. It runs one request at
    a time for each thread, and nothing orders the threads but the machine's scheduler.

    Parameters
    ----------
    payloads : array of float32, shape (k, window, features)
        Cut to what the model takes.

    Raises
    ------
    ModelError
        The model is refused, or takes other rows.
    """

    def __init__(self, model: bytes, payloads: Floats32, *, source: Path, name: str) -> None:
        self.name = name
        summary, self._ask = plain_session(model, source=source)
        window, offered = summary.window or 1, payloads.shape[1:]
        if window > offered[0] or summary.feature_count != offered[1]:
            rule = f"the naive model must take rows of {offered} or a part of them, was {summary.row_shape}"
            raise ModelError(rule, source=source)
        self._payloads = payloads[:, -1] if summary.window is None else payloads[:, -window:]

    def run(self, users: int, *, seconds: float, deadline_ns: int) -> NaiveRun:
        """Let that many users ask again and again for some time."""
        return run_naive(self._ask, self._payloads, users=users, seconds=seconds, deadline_ns=deadline_ns)


def run_naive(
    ask: Callable[[Floats32], object], payloads: Floats32, *, users: int, seconds: float, deadline_ns: int
) -> NaiveRun:
    """Let one thread per user ask one shared session, one request a run.

    Every user asks at least once, so that those whom the scheduler does not let begin in time count as well.
    """
    taken: list[list[int]] = [[] for _ in range(users)]
    is_over = threading.Event()
    stop_ns = time.monotonic_ns() + int(seconds * 1e9)

    def user(number: int) -> None:
        rows = payloads[number % len(payloads)][None]
        own = taken[number]
        now_ns = 0
        while not is_over.is_set() and now_ns < stop_ns:
            start_ns = time.monotonic_ns()
            ask(rows)
            now_ns = time.monotonic_ns()
            own.append(now_ns - start_ns)

    threads: list[threading.Thread] = []
    try:
        for number in range(users):
            thread = threading.Thread(target=user, args=(number,), daemon=True)
            threads.append(thread)
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        # A thread that is in a model when the interpreter ends has it aborted.
        is_over.set()
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join()
    latencies = np.concatenate([np.array(own, np.int64) for own in taken])
    return NaiveRun(users=users, latencies_ns=latencies, deadline_ns=deadline_ns, seconds=seconds)


class Hogs:
    """Processes that spin, as many as there are cores, while the block runs."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        command = (sys.executable, "-I", "-S", "-c", _SPIN, str(os.getpid()))
        try:
            for _ in range(self._count):
                # An interrupt from the terminal is ours alone.
                self._processes.append(subprocess.Popen(command, process_group=0))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def rest(self) -> None:
        """Stop them where they are."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them spin again, which takes no start."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)

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

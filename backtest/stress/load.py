"""Virtual users and schedules that ask a front, in one light loop.

One thread drives all users: on a machine whose cores the workers need, a thread per user would measure its
own switching. A closed-loop user asks again as soon as it has its answer; its latency counts from that
moment, whenever the loop comes to send. An open-loop request counts from the time its schedule says,
however late the loop is (no coordinated omission). A user that is refused comes back at its deadline:
refusals are no way to faster answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.inference.arrays import Floats32
from engine.inference.ladder import Variant
from engine.inference.serving.front import Front
from engine.inference.serving.request import ENDED_DTYPE, Outcome
from engine.inference.standardisation import training_of

_WAIT_S = 0.05
_DRAIN_NS = 2_000_000_000
_BATCH_MAX = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadRun:
    """What a load got.

    Parameters
    ----------
    arrivals_ns, latencies_ns : array of int64, shape (n,)
    outcomes, variants : array of int64, shape (n,)
    on_time : array of bool, shape (n,)
    asked, lost : int
        Requests sent, and those of them that never ended.
    cores : float
        Cores' worth of time that the workers ran or could have run.
    seconds : float
    halfway_s : float or None
        Seconds after `start_ns` at which something was done to the system.
    """

    arrivals_ns: NDArray[np.int64]
    latencies_ns: NDArray[np.int64]
    outcomes: NDArray[np.int64]
    variants: NDArray[np.int64]
    on_time: NDArray[np.bool_]
    asked: int
    lost: int
    cores: float
    seconds: float
    halfway_s: float | None
    start_ns: int
    slowdowns: tuple[tuple[float, float], ...]
    """(seconds since the start, mean of the workers' gauges), some hundred times."""


def like_training(noise: Floats32, variants: Sequence[Variant]) -> Floats32:
    """Return payloads whose columns lie and vary as those that the models were trained on.

    Parameters
    ----------
    noise : array of float32, shape (k, window, features)
        Of mean 0 and variance 1.
    """
    training = training_of(variants)
    if training is None:
        return noise
    scale = np.where(training.inverse_scale > 0.0, 1.0 / np.maximum(training.inverse_scale, 1e-30), 0.0)
    return (training.center + noise * scale).astype(np.float32)


class LoadLoop:
    """Asks on behalf of users or a schedule, and writes down every answer.

    Parameters
    ----------
    payloads : array of float32, shape (k, window, features)
        Sent in turn.
    """

    def __init__(self, front: Front, payloads: Floats32, *, deadline_ns: int) -> None:
        self._front, self._payloads, self._deadline_ns = front, payloads, deadline_ns
        self._ended: list[NDArray[Any]] = []
        self._asked = 0
        self._back: list[tuple[int, int]] = []
        self._samples: list[tuple[float, float]] = []

    def closed(
        self,
        users: int,
        seconds: float,
        *,
        halfway: Callable[[], object] | None = None,
        tick: Callable[[float], None] = lambda done: None,
    ) -> LoadRun:
        """Let `users` ask again and again for some time; do something to the system half-way."""
        start_ns = time.monotonic_ns()
        end_ns = start_ns + int(seconds * 1e9)
        clock = _WorkerClock(self._front)
        halfway_ns = None
        self._ask(np.arange(users), time.monotonic_ns())
        now_ns = start_ns
        while now_ns < end_ns:
            wake_ns = min(end_ns, self._back[0][0]) if self._back else end_ns
            ended = self._front.poll_many(timeout_s=max(0.0, min(_WAIT_S, (wake_ns - now_ns) / 1e9)))
            if len(ended):
                self._ended.append(ended)
                self._ask(ended["stream"], time.monotonic_ns())
            now_ns = time.monotonic_ns()
            if self._back and self._back[0][0] <= now_ns:
                self._ask(np.array(self._due(now_ns)), now_ns)
            self._sample(now_ns - start_ns, clock)
            tick(min((now_ns - start_ns) / 1e9, seconds))
            if halfway is not None and halfway_ns is None and now_ns - start_ns > seconds * 5e8:
                halfway_ns = now_ns
                clock.note()
                halfway()
        return self._result(clock, start_ns, halfway_ns)

    def open(
        self, rate: float, seconds: float, *, seed: int, tick: Callable[[float], None] = lambda done: None
    ) -> LoadRun:
        """Ask on a Poisson schedule of `rate` requests per second."""
        random = np.random.default_rng((seed, 3))
        gaps = random.exponential(1e9 / rate, max(int(rate * seconds), 1))
        start_ns = time.monotonic_ns()
        schedule = (start_ns + np.cumsum(gaps)).astype(np.int64)
        clock = _WorkerClock(self._front)
        place, now_ns = 0, start_ns
        while place < len(schedule):
            due = int(np.searchsorted(schedule, now_ns, side="right"))
            # As a front of its own would, look at answers between two batches.
            due = min(due, place + _BATCH_MAX)
            if due > place:
                self._send(np.arange(place, due), schedule[place:due])
                place = due
            wake_ns = int(schedule[place]) if place < len(schedule) else now_ns
            ended = self._front.poll_many(timeout_s=max(0.0, min(_WAIT_S, (wake_ns - now_ns) / 1e9)))
            if len(ended):
                self._ended.append(ended)
            now_ns = time.monotonic_ns()
            self._sample(now_ns - start_ns, clock)
            tick(min((now_ns - start_ns) / 1e9, seconds))
        return self._result(clock, start_ns, None)

    def _send(self, turns: NDArray[Any], arrivals_ns: NDArray[np.int64]) -> NDArray[Any]:
        """Ask once per turn, which is the stream as well; return what ended at once."""
        self._asked += len(turns)
        _, ended = self._front.submit_many(
            self._payloads[np.arange(self._asked - len(turns), self._asked) % len(self._payloads)],
            deadlines_ns=arrivals_ns + self._deadline_ns,
            arrivals_ns=arrivals_ns,
            streams=turns,
        )
        if len(ended):
            self._ended.append(ended)
        return ended

    def _ask(self, users: NDArray[Any], arrival_ns: int) -> None:
        for first in range(0, len(users), _BATCH_MAX):
            part = users[first : first + _BATCH_MAX]
            ended = self._send(part, np.full(len(part), arrival_ns))
            for user, deadline_ns in zip(
                ended["stream"].tolist(), ended["deadline_ns"].tolist(), strict=True
            ):
                heappush(self._back, (deadline_ns, user))

    def _due(self, now_ns: int) -> list[int]:
        """Return the users that were refused and whose deadline has come."""
        users = []
        while self._back and self._back[0][0] <= now_ns:
            users.append(heappop(self._back)[1])
        return users

    def _sample(self, since_ns: int, clock: _WorkerClock) -> None:
        seconds = since_ns / 1e9
        if not self._samples or seconds - self._samples[-1][0] >= 0.01:
            clock.note()
            self._samples.append((seconds, float(np.mean(self._front.slowdowns))))

    def _result(self, clock: _WorkerClock, start_ns: int, halfway_ns: int | None) -> LoadRun:
        seconds = (time.monotonic_ns() - start_ns) / 1e9
        cores = clock.cores(seconds)
        stop_ns = time.monotonic_ns() + _DRAIN_NS
        while self._front.open_requests and time.monotonic_ns() < stop_ns:
            self._ended.append(self._front.poll_many(timeout_s=_WAIT_S))
        ended = np.concatenate(self._ended) if self._ended else np.zeros(0, ENDED_DTYPE)
        ended = ended[np.argsort(ended["arrival_ns"], kind="stable")]
        self._back.clear()
        outcomes = ended["outcome"].astype(np.int64)
        return LoadRun(
            arrivals_ns=ended["arrival_ns"],
            latencies_ns=ended["done_ns"] - ended["arrival_ns"],
            outcomes=outcomes,
            variants=ended["variant"].astype(np.int64),
            on_time=(outcomes == Outcome.MODEL) & (ended["done_ns"] <= ended["deadline_ns"]),
            asked=self._asked,
            lost=self._asked - len(ended),
            cores=cores,
            seconds=seconds,
            halfway_s=None if halfway_ns is None else (halfway_ns - start_ns) / 1e9,
            start_ns=start_ns,
            slowdowns=tuple(self._samples),
        )


class _WorkerClock:
    """How much time the workers ran or could have run: all of it, less what they waited for a core.

    A process counts from its first reading to its last. Those at work are read every few milliseconds, since
    a worker's death or another ladder brings others to work. The spare is read at the start, because what it
    waited while it was starting is no core lost to the load it takes over later.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._workers = len(front.worker_ids)
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._read(front.process_ids)

    def note(self) -> None:
        """Read those at work; also just before one of them is killed, which ends its account."""
        self._read(self._front.worker_ids)

    def cores(self, seconds: float) -> float:
        self.note()
        waited_ns = sum(last - self._first[process] for process, last in self._last.items())
        return max(self._workers - waited_ns / (seconds * 1e9), 0.0)

    def _read(self, processes: tuple[int, ...]) -> None:
        for process in processes:
            delay_ns = _run_delay_ns(process)
            first_ns = self._first.setdefault(process, delay_ns)
            # Of a process that is gone nothing can be read any more.
            self._last[process] = max(delay_ns, self._last.get(process, first_ns))


def _run_delay_ns(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/schedstat").read_bytes().split()[1])
    except (OSError, IndexError):
        return 0


def answered(run: LoadRun) -> NDArray[np.bool_]:
    """Return which requests a model answered, in time or not."""
    found: NDArray[np.bool_] = run.outcomes == Outcome.MODEL
    return found

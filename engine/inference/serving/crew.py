"""The workers of a front: who is at work in which lane, who waits as the spare, who is starting or lost.

A spare waits with its models loaded, so that a lost worker is replaced at once. What the lost one held is
the front's affair.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from .arena import Arena
from .spec import WorkerSpec
from .supervise import WorkerLost, WorkerProcess

_START_S_MAX: Final = 120.0
_RESPAWN_NS: Final = 1_000_000_000


class Crew:
    """Worker processes, one per lane, and a spare.

    Parameters
    ----------
    template : WorkerSpec
        What every worker is told; its `place` and `requests` (a name's beginning) are filled in for each.
    count : int
        Lanes.
    places : int
        Status lines of the arena that workers may use, more than `count`.
    """

    def __init__(self, template: WorkerSpec, arena: Arena, *, count: int, places: int) -> None:
        self.lanes: list[WorkerProcess] = []
        self.spare: WorkerProcess | None = None
        self._template, self._count = template, count
        self._status = arena.status
        self._places = list(range(places - 1, -1, -1))
        self._spawned = self._spawn_after_ns = 0

    def start(self) -> None:
        """Start everybody and wait until all are ready.

        Raises
        ------
        WorkerLost
            One ended before it was ready, or took too long. `close` ends those that were started.
        """
        for _ in range(self._count):
            self.lanes.append(self._spawn())
        self.spare = self._spawn()
        stop_ns = time.monotonic_ns() + int(_START_S_MAX * 1e9)
        waiting = [*self.lanes, self.spare]
        while waiting:
            waiting = [worker for worker in waiting if not self.is_ready(worker)]
            lost = [worker for worker in waiting if not worker.alive]
            if lost or time.monotonic_ns() > stop_ns:
                code = lost[0].process.returncode if lost else None
                raise WorkerLost(
                    f"a worker must be ready within {_START_S_MAX:g} s, was not: exit code {code}"
                )
            # The ring has no producers yet, so waiting on it would not wait.
            time.sleep(0.005)

    def close(self) -> None:
        """Let everybody finish and end; again is harmless."""
        workers = [*self.lanes, *((self.spare,) if self.spare else ())]
        self.lanes, self.spare = [], None
        for worker in workers:
            worker.requests.close()
        for worker in workers:
            worker.retire(timeout_s=2.0)

    def is_ready(self, worker: WorkerProcess) -> bool:
        """Return whether a worker takes requests."""
        if not self._status["ready"][worker.place]:
            return False
        worker.forget_name()
        return True

    def is_lost(self, worker: WorkerProcess, now_ns: int) -> bool:
        """Return whether a worker at work is gone or hangs."""
        hangs = worker.watchdog.hangs(
            now_ns,
            beat=int(self._status["beat"][worker.place]),
            busy_until_ns=int(self._status["busy_until_ns"][worker.place]),
        )
        return hangs or not worker.alive

    def has_failed(self, worker: WorkerProcess, now_ns: int) -> bool:
        """Return whether a worker that is to start is gone, or has been starting for too long."""
        late = now_ns - worker.started_ns > _START_S_MAX * 1e9
        return not worker.alive or (late and not self.is_ready(worker))

    def keep_spare(self, now_ns: int) -> None:
        """Let a spare that is ready drop its ring's name; replace one that failed."""
        if self.spare is not None:
            self.is_ready(self.spare)
            if self.has_failed(self.spare, now_ns):
                spare, self.spare = self.spare, None
                self._discard(spare)
        if self.spare is None and now_ns >= self._spawn_after_ns:
            try:
                self.spare = self._spawn()
            except OSError:
                # No memory or no descriptor just now; the workers at work go on.
                self._spawn_after_ns = now_ns + _RESPAWN_NS

    def relieve(self, lane: int) -> bool:
        """End a lane's worker and put the spare in its place; False while there is none."""
        lost = self.lanes[lane]
        lost.kill()
        if self.spare is None:
            return False
        self.lanes[lane], self.spare = self.spare, None
        self._discard(lost)
        return True

    def _spawn(self) -> WorkerProcess:
        self._spawned += 1
        place = self._places.pop()
        self._status[place : place + 1] = 0
        self._status["slowdown"][place] = 1.0
        spec = replace(self._template, place=place, requests=f"{self._template.requests}-{self._spawned}")
        try:
            return WorkerProcess(spec, ring_capacity=spec.slots)
        except BaseException:
            self._places.append(place)
            raise

    def _discard(self, worker: WorkerProcess) -> None:
        worker.kill()
        self._places.append(worker.place)
        if not self._status["ready"][worker.place]:
            # Its models may not open any more: the next would fail as soon, and starting takes a core.
            self._spawn_after_ns = time.monotonic_ns() + _RESPAWN_NS

"""The workers of a shift: who is at work in which lane, who waits as the spare, who is starting or lost.

A spare waits with its models loaded, so that a lost worker is replaced at once. What the lost one held is
the front's affair. A first crew starts all at once; one that is to take over starts one by one, so that the
crew at work loses no more than one core's time to it.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Final

from .arena import Arena
from .places import Places
from .spec import WorkerSpec
from .starter import Original
from .supervise import WorkerLost, WorkerProcess

_START_S_MAX: Final = 120.0
_RESPAWN_NS: Final = 1_000_000_000
_PAUSE_S: Final = 0.005


class Crew:
    """Worker processes, one per lane, and a spare.

    Parameters
    ----------
    template : WorkerSpec
        What every worker is told; its `place` and `requests` (a name's beginning) are filled in for each.
    count : int
        Lanes.
    places : Places
        Of the arena, shared with the front's other crews.
    original : Original
        Starts the processes.
    """

    def __init__(
        self,
        template: WorkerSpec,
        arena: Arena,
        *,
        count: int,
        places: Places,
        original: Original,
    ) -> None:
        self.lanes: list[WorkerProcess] = []
        self.spare: WorkerProcess | None = None
        self.count = count
        self.original = original
        self._template = template
        self._status = arena.status
        self._places = places
        self._spawned = self._spawn_after_ns = 0

    def start(self) -> None:
        """Start everybody and wait until all are ready.

        Raises
        ------
        WorkerLost
            One ended before it was ready, or took too long. `close` ends those that were started.
        OSError
            There is no memory, no descriptor or no process for one.
        """
        self.original.glance(time.monotonic_ns())
        while self.original.is_pending:
            time.sleep(_PAUSE_S)
            self.original.glance(time.monotonic_ns())
        if self.original.refusal:
            raise WorkerLost(_lost(self.original.refusal))
        for _ in range(self.count):
            self.lanes.append(self._spawn())
        self.spare = self._spawn()
        while not all(map(self.is_ready, self._everybody())):
            # The ring has no producers yet, so waiting on it would not wait.
            time.sleep(_PAUSE_S)
            now_ns = time.monotonic_ns()
            for lane, worker in enumerate(self.lanes):
                self.lanes[lane] = self._judged(worker, now_ns)
            self.spare = self._judged(self.spare, now_ns)

    def start_next(self, now_ns: int) -> bool:
        """Take a step of starting one by one; return whether all lanes are ready. The spare comes later.

        Raises
        ------
        WorkerLost, OSError
            As for `start`.
        """
        if self.lanes:
            self.lanes[-1] = self._judged(self.lanes[-1], now_ns)
            if not self.is_ready(self.lanes[-1]):
                return False
        if len(self.lanes) < self.count:
            self.lanes.append(self._spawn())
            return False
        return True

    def leave(self) -> None:
        """Let the workers end when they have answered what they hold, and the spare."""
        for worker in self._everybody():
            worker.requests.close()

    def end(self, lane: int) -> None:
        """End a lane's worker that leaves, if it has not ended by itself."""
        self._discard(self.lanes[lane])

    def spare_has_left(self, now_ns: int) -> bool:
        """Return whether the spare of a crew that leaves has ended."""
        if self.spare is not None and (not self.is_ready(self.spare) or self.is_lost(self.spare, now_ns)):
            spare, self.spare = self.spare, None
            self._discard(spare)
        return self.spare is None

    def _everybody(self) -> list[WorkerProcess]:
        return [*self.lanes, *((self.spare,) if self.spare else ())]

    def abandon(self) -> None:
        """End everybody at once, as those who hold nothing can be."""
        for worker in self._everybody():
            self._discard(worker)
        self.lanes, self.spare = [], None
        self.original.close()

    def close(self, stop_s: float) -> None:
        """End everybody, and until `stop_s` on `time.monotonic` let them do so themselves."""
        for worker in self._everybody():
            if self.is_ready(worker):
                worker.process.wait(max(stop_s - time.monotonic(), 0.0))
        self.abandon()

    def is_ready(self, worker: WorkerProcess) -> bool:
        """Return whether a worker takes requests."""
        if worker.is_condemned or not self._status["ready"][worker.place]:
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
        return hangs or not worker.process.alive

    def has_failed(self, worker: WorkerProcess, now_ns: int) -> bool:
        """Return whether a worker that is to start is gone, or has been starting for too long."""
        late = now_ns - worker.started_ns > _START_S_MAX * 1e9
        gone = worker.is_condemned or not worker.process.alive or worker.process.came_to_nothing(now_ns)
        return gone or (late and not self.is_ready(worker))

    def needs_spare(self, now_ns: int) -> bool:
        """Look after the spare and drop one that failed; return whether one is to be started."""
        if self.spare is not None:
            self.is_ready(self.spare)
            if self.has_failed(self.spare, now_ns):
                spare, self.spare = self.spare, None
                self._discard(spare)
        return self.spare is None and now_ns >= self._spawn_after_ns

    def start_spare(self, now_ns: int) -> None:
        """Start a spare, where that can be done just now."""
        try:
            self.spare = self._spawn()
        except OSError:
            # No memory or no descriptor; the workers at work go on.
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
        place = self._places.take()
        self._status[place : place + 1] = 0
        self._status["ladder"][place] = self._template.ladder
        self._status["slowdown"][place] = 1.0
        name = f"{self._template.requests}-{self._template.ladder}-{self._spawned}"
        spec = replace(self._template, place=place, requests=name)
        try:
            return WorkerProcess(spec, self.original.start_worker, ring_capacity=spec.slots)
        except BaseException:
            self._places.give_back(place)
            raise

    def _judged(self, worker: WorkerProcess, now_ns: int) -> WorkerProcess:
        """Return a worker that is to start, or an interpreter in its place where it was no good copy."""
        if not self.has_failed(worker, now_ns):
            return worker
        if not worker.process.came_to_nothing(now_ns):
            raise WorkerLost(_lost(worker.last_words()))
        self._discard(worker)
        lack = _lack_of(worker)
        if lack is not None:
            raise OSError(lack, os.strerror(lack))
        return self._spawn()

    def _discard(self, worker: WorkerProcess) -> None:
        now_ns = time.monotonic_ns()
        copied_in_vain = worker.process.came_to_nothing(now_ns)
        self._places.see_off(worker)
        if self._status["ready"][worker.place]:
            return
        if copied_in_vain and _lack_of(worker) is None:
            self.original.kill()
        else:
            # Its models may not open any more, or the system has no room for another process: the next would
            # fail as soon, and starting takes a core.
            self._spawn_after_ns = now_ns + _RESPAWN_NS


def _lack_of(worker: WorkerProcess) -> int | None:
    """Return the system's reason where it refused to make a worker's process, None where it did not."""
    return worker.process.said.get("errno")


def _lost(said: str) -> str:
    return f"a worker must be ready within {_START_S_MAX:g} s, was not: {said}"

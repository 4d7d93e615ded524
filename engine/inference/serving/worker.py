"""The worker process: takes requests from its ring, runs models, gives answers to the front's ring.

One thread, one session per variant, open before it says that it is ready. Whatever it decides, its
`WorkerScheduler` decides; this file reads clocks, runs sessions and moves records. It beats in its status
line on every turn; a worker that stops beating is killed and replaced.

It is a copy of a process that has its models open (`copying.py`), or an interpreter of its own.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import AnytickError
from ext.ring_buffer import MpscRing, SpscRing
from ext.ring_memory import unlink_ring

from ..capi import CapiSession
from ..session import InferenceSession
from .arena import Arena, Doorbell
from .forecast import CostTable
from .measure import open_variant, value_table
from .queueing import Run, WorkerScheduler
from .readers import CrowdReader, RunDelayReader, StallReader
from .request import ANSWER_DTYPE, NO_VARIANT, REQUEST_DTYPE, Outcome, Request
from .spec import WorkerSpec, read_spec

BEAT_NS: Final = 20_000_000
# How often a worker without work looks at the crowd.
_IDLE_NS: Final = 10_000_000
_POP_MAX: Final = 256
_STALL_EVERY_NS: Final = 50_000_000
_BUSY_ALLOWANCE: Final = 8.0
# Stopping a run costs a watcher that looks every millisecond; shorter ones are not worth it.
_STOP_NS_MIN: Final = 2_000_000


class Worker:
    """One worker's turn-by-turn work. `turn` may be called by any loop; `work` has the only one in use.

    Parameters
    ----------
    front_lives : callable
        Asked whenever nothing else is to do.
    sessions : mapping of str to InferenceSession
        By SHA-256, those that are open already.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        front_lives: Callable[[], bool],
        sessions: Mapping[str, InferenceSession],
    ) -> None:
        self._spec, self._front_lives = spec, front_lives
        self._arena = Arena(slots=spec.slots, row_shape=spec.row_shape, descriptor=spec.arena_descriptor)
        self._bell = Doorbell(self._arena, descriptor=spec.bell_descriptor)
        self._status = self._arena.status[spec.place : spec.place + 1]
        opened = dict(sessions)
        for variant in (*spec.variants, *spec.previous):
            if variant is not None and variant.sha256 not in opened:
                opened[variant.sha256] = open_variant(variant)
        self._sessions = [opened[variant.sha256] for variant in spec.variants]
        self._previous = [None if variant is None else opened[variant.sha256] for variant in spec.previous]
        self._scheduler = WorkerScheduler(
            CostTable(spec.times_ns), value_table(spec.variants), plan_limits=spec.limits
        )
        self._requests = SpscRing.attach(spec.requests, "consumer", dtype=REQUEST_DTYPE)
        self._ring = MpscRing.attach(spec.answers, "producer", dtype=ANSWER_DTYPE)
        self._answers = self._ring.producer()
        self._delay, self._crowd, self._stall = RunDelayReader(), CrowdReader(), StallReader()
        self._delay_ns, self._wake_delay_ns = self._delay.read_ns(), 0
        self._stall_ns, self._stall_at_ns, self._stall_share = self._stall.read_ns(), 0, 0.0
        self._beats = 0

    def ready(self) -> None:
        """Say that requests may come."""
        self._beat()
        self._status["ready"] = 1

    def turn(self) -> bool:
        """Do one run, or wait for requests a beat long; return False when the front has closed the ring."""
        self._beat()
        scheduler, ring = self._scheduler, self._requests
        if not scheduler.queue and not ring.wait(timeout_s=_IDLE_NS / 1e9):
            scheduler.gauge.idle(time.monotonic_ns(), runnable=self._crowd.read())
            scheduler.gauge.warn(float(self._arena.front["load_rise"][0]))
            self._delay_ns = self._delay.read_ns()
            self._publish()
            return not ring.drained and self._front_lives()
        # A run's time is a whole turn's, so that forecasts contain taking requests and giving answers.
        delay_ns, start_ns = self._delay.read_ns(), time.monotonic_ns()
        self._wake_delay_ns, self._delay_ns = delay_ns - self._delay_ns, delay_ns
        if len(ring):
            for record in ring.pop(_POP_MAX).tolist():
                scheduler.offer(_request_of(record))
        guard_ns, load_rise, _ = self._arena.front[0].item()
        scheduler.planner.guard_ns = guard_ns
        scheduler.gauge.warn(load_rise)
        run, hopeless = scheduler.next_run(time.monotonic_ns())
        if hopeless:
            self._push(hopeless, Outcome.ABSTAIN, NO_VARIANT, None)
        if run is not None:
            self._run(run, start_ns)
        self._publish()
        return True

    def _run(self, run: Run, start_ns: int) -> None:
        self._status["busy_until_ns"] = time.monotonic_ns() + int(_BUSY_ALLOWANCE * run.plan.tail_ns)
        rows = self._rows(run)
        try:
            found = self._ask(run, rows)
            if found is None:
                self._stopped(run, start_ns)
                return
            good: list[bool] = np.asarray(np.isfinite(found).all(axis=1)).tolist()
        # Whatever a model raises is the model's failure; its breaker deals with it.
        except Exception:
            found, good = None, [False] * len(run.requests)
        if all(good):
            self._push(run.requests, Outcome.MODEL, run.plan.variant, found)
        elif found is not None and any(good):
            kept = [request for request, ok in zip(run.requests, good, strict=True) if ok]
            self._push(kept, Outcome.MODEL, run.plan.variant, found[np.asarray(good)])
        if self._learn(run, start_ns, good):
            self._roll_back(run.plan.variant)
        # A failed answer is asked again: of the same variant until it trips, then of the next.
        for request, ok in zip(run.requests, good, strict=True):
            if not ok:
                self._scheduler.offer(request)

    def _ask(self, run: Run, rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the answers; None where a long run had to be stopped, too late for any of its deadlines."""
        session = self._sessions[run.plan.variant]
        if run.plan.tail_ns > _STOP_NS_MIN and isinstance(session, CapiSession):
            # From then on the front answers with what is at hand.
            useful_ns = run.requests[-1].deadline_ns - self._scheduler.planner.guard_ns
            return session.probabilities_until(rows, deadline_ns=useful_ns)
        return session.probabilities(rows)

    def _stopped(self, run: Run, start_ns: int) -> None:
        self._push(run.requests, Outcome.ABSTAIN, NO_VARIANT, None)
        # Late is not wrong: the forecast learns from it, the breaker does not.
        self._learn(run, start_ns, [])

    def _learn(self, run: Run, start_ns: int, good: Sequence[bool]) -> bool:
        """Tell the scheduler how the turn went; return whether it tripped the variant's breaker."""
        before_ns, self._delay_ns = self._delay_ns, self._delay.read_ns()
        now_ns = time.monotonic_ns()
        return self._scheduler.finished(
            run,
            now_ns,
            took_ns=now_ns - start_ns,
            run_delay_ns=self._delay_ns - before_ns,
            good=good,
            wake_delay_ns=self._wake_delay_ns,
            runnable=self._crowd.read(),
            psi_share=self._psi_share(now_ns),
        )

    def _rows(self, run: Run) -> NDArray[np.float32]:
        window, _ = self._spec.variants[run.plan.variant].input_shape
        rows = self._arena.rows
        if len(run.requests) == 1:
            # In place: the model reads the slot itself.
            slot = run.requests[0].slot
            return rows[slot : slot + 1, -1] if window == 1 else rows[slot : slot + 1, -window:]
        slots = [request.slot for request in run.requests]
        return rows[slots, -1] if window == 1 else rows[slots, -window:]

    def _push(
        self,
        requests: Sequence[Request],
        outcome: Outcome,
        variant: int,
        probabilities: NDArray[np.float32] | None,
    ) -> None:
        records: NDArray[Any] = np.zeros(len(requests), ANSWER_DTYPE)
        records["request_id"] = [request.request_id for request in requests]
        records["attempt"] = [request.attempt for request in requests]
        records["slot"] = [request.slot for request in requests]
        records["done_ns"] = time.monotonic_ns()
        records["worker"] = self._spec.place
        records["variant"], records["outcome"] = variant, outcome
        if probabilities is not None:
            records["probabilities"] = probabilities
        # The ring holds more than requests can be open, so this waits only for a front that is stopped.
        pushed = self._answers.push(records, timeout_s=BEAT_NS / 1e9)
        while pushed < len(records) and self._front_lives():
            self._beat()
            pushed += self._answers.push(records[pushed:], timeout_s=BEAT_NS / 1e9)
        self._bell.ring()

    def _roll_back(self, variant: int) -> None:
        self._status["trips"] += 1
        self._status["tripped"][0, variant // 8] |= 1 << variant % 8
        previous = self._previous[variant]
        if previous is not None:
            self._status["rolled_back"][0, variant // 8] |= 1 << variant % 8
            self._sessions[variant], self._previous[variant] = previous, None
            self._scheduler.breakers[variant].reset()

    def _psi_share(self, now_ns: int) -> float:
        if now_ns - self._stall_at_ns >= _STALL_EVERY_NS:
            stall_ns = self._stall.read_ns()
            self._stall_share = (stall_ns - self._stall_ns) / (now_ns - self._stall_at_ns)
            self._stall_ns, self._stall_at_ns = stall_ns, now_ns
        return self._stall_share

    def _beat(self) -> None:
        self._beats += 1
        self._status["beat"] = self._beats

    def _publish(self) -> None:
        self._status["slowdown"] = self._scheduler.gauge.slowdown
        self._status["queued"] = len(self._scheduler.queue)
        self._status["runs"] += 1


def _request_of(record: tuple[Any, ...]) -> Request:
    request_id, arrival_ns, deadline_ns, value, margin, slot, stream, attempt, _ = record
    return Request(
        request_id=request_id,
        arrival_ns=arrival_ns,
        deadline_ns=deadline_ns,
        value=value,
        margin=margin,
        slot=slot,
        stream=stream,
        attempt=attempt,
    )


def work(
    spec: WorkerSpec,
    *,
    front_lives: Callable[[], bool],
    sessions: Mapping[str, InferenceSession],
    tell: Callable[[dict[str, Any]], object],
) -> int:
    """Be a worker until the front closes the ring or is gone; return an exit code.

    Parameters
    ----------
    tell : callable
        Told why there will be no worker.
    """
    try:
        worker = Worker(spec, front_lives=front_lives, sessions=sessions)
    except AnytickError as error:
        tell({"error": str(error)})
        return 1
    except FileNotFoundError:
        if front_lives():
            raise
        _tidy_up(spec)
        return 0
    worker.ready()
    gc.collect()
    gc.freeze()
    gc.disable()
    while worker.turn():
        pass
    if not front_lives():
        _tidy_up(spec)
    return 0


def _tidy_up(spec: WorkerSpec) -> None:
    """Remove the rings' names for a front that was killed."""
    for name in (spec.requests, spec.answers):
        with suppress(FileNotFoundError):
            unlink_ring(name)


def main() -> int:
    """Run one worker in an interpreter that the front started for it."""
    # Ctrl-C reaches the whole group; the front decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec = read_spec(sys.stdin.readline())
    return work(
        spec,
        front_lives=lambda: os.getppid() == spec.parent,
        sessions={},
        tell=lambda table: print(json.dumps(table), flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())

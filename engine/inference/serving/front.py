"""The front: takes requests, hands them to workers, gives every one of them exactly one answer.

One thread calls it. `submit` answers refusals itself, `poll` returns the others as they end. A request ends
by the first of: a worker's answer; shortly before its deadline, what is at hand (the first answer, the
stream's last good one, or an explicit abstention). Workers that die or hang are replaced by a spare that
waits with its models loaded; what they held goes to the others while there is time.

The first answer is the fastest model's, run here on submission in some microseconds. It makes every request
answerable at any moment, which is what "anytime" means, and tells the cascade how sure a small model is.

Over 400 lines because a request's whole life, from its slot to its one answer, is to be read in one place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from itertools import count
from math import isfinite, nan
from operator import index
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from ext.ring_buffer import MpscRing
from ext.ring_memory import unlink_ring

from ..arrays import Floats32
from ..errors import ModelError
from ..ladder import Variant
from ..session import InferenceSession
from .arena import PLACES, Arena
from .crew import Crew
from .forecast import CostTable, LatencyForecast, QuantileTracker
from .ledger import LastGood, Ledger
from .measure import first_variant, measure_costs, open_variant, value_table
from .planning import PlanLimits, Planner
from .queueing import Admission
from .request import ANSWER_DTYPE, NO_VARIANT, REQUEST_DTYPE, Answer, Outcome, Request
from .spec import WorkerSpec
from .supervise import RING_PREFIX, remove_abandoned_rings

_GLANCE_NS: Final = 5_000_000
_POP_MAX: Final = 1_024
# What a worker's turn takes beside its model: taking requests, planning, giving answers.
_TURN_NS: Final = 80_000.0
_HANDOVER_NS: Final = 1_000_000
_GUARD_NS_MAX: Final = 15_000_000
_LATENESS_SHARE: Final = 0.98
_LATENESS_START_NS: Final = 500_000.0
_LATENESS_GAIN: Final = 0.1
_STREAM_MAX: Final = 2**32 - 1
_TIME_MAX: Final = 2**63 - 1
_VALUE_MAX: Final = float(np.finfo(np.float32).max)
_SERIALS: Final = count(1)


class Front:
    """Serves a ladder from worker processes.

    Parameters
    ----------
    variants : sequence of Variant
        The ladder.
    workers : int, optional
        1 to 63. Default: one per usable core.
    costs : CostTable, optional
        Quiet-machine times; measured when None, which takes a few seconds.
    limits : PlanLimits, optional
        How close to the deadline workers go. The guard is the least time kept free before a deadline; it
        grows with how late this process gets to run.
    first_answers : bool
        Whether the fastest model with skill runs here on submission, if it takes at most 0.2 ms.
    previous : mapping of str to Variant, optional
        By name, the version that a variant is rolled back to when its breaker trips.
    open_max : int
        Requests open at once; a power of two.
    stale_ns_max : int
        Age up to which a stream's last good answer may stand in.

    Raises
    ------
    ConfigError
        The number of workers is out of range.
    WorkerLost
        A worker ended before it was ready; what it said stands on standard error.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        *,
        workers: int | None = None,
        costs: CostTable | None = None,
        limits: PlanLimits | None = None,
        first_answers: bool = True,
        previous: Mapping[str, Variant] | None = None,
        open_max: int = 1_024,
        stale_ns_max: int = 1_000_000_000,
    ) -> None:
        # A status line is left for the spare.
        self._worker_count = min(_usable_cores(), PLACES - 1) if workers is None else workers
        if not 1 <= self._worker_count < PLACES:
            raise ConfigError(f"a front must have 1 to {PLACES - 1} workers, was {self._worker_count}")
        self._closed = False
        self.variants = tuple(variants)
        self.limits = limits or PlanLimits()
        self.values = value_table(self.variants)
        shapes = [variant.input_shape for variant in self.variants]
        if costs is None:
            costs = measure_costs([open_variant(variant) for variant in self.variants], shapes)
        self.costs = costs
        # How late timed wake-ups come: the last moment for an answer is that much before the deadline.
        self._lateness = QuantileTracker(_LATENESS_SHARE, start=_LATENESS_START_NS, gain=_LATENESS_GAIN)
        self._planned_ns = 0
        first = first_variant(costs, self.values) if first_answers else None
        self._first_index = NO_VARIANT if first is None else first
        self._first: InferenceSession | None = None
        if first is not None:
            self._first, self._first_window = open_variant(self.variants[first]), shapes[first][0]
        row_shape = (max(window for window, _ in shapes), max(features for _, features in shapes))
        self.arena = Arena(slots=open_max, row_shape=row_shape)
        self.arena.front["guard_ns"] = self.limits.guard_ns + _HANDOVER_NS
        remove_abandoned_rings()
        self._name = f"{RING_PREFIX}{os.getpid()}-{next(_SERIALS)}"
        self._answers = MpscRing(
            open_max,
            producers_max=self._worker_count + 1,
            dtype=ANSWER_DTYPE,
            name=f"{self._name}-answers",
            wait="block",
        )
        costs = costs.plus(_TURN_NS)
        cheapest = Planner(LatencyForecast(costs), self.values).frontier[0]
        self._admission = Admission(
            self._worker_count,
            item_ns=costs.item_ns(cheapest),
            single_ns=costs.batch_ns(cheapest, 1),
            guard_ns=self.limits.guard_ns,
            outstanding_max=open_max,
        )
        self._ledger = Ledger()
        self._last_good = LastGood(age_ns_max=stale_ns_max)
        self._first_answers: dict[int, tuple[float, ...]] = {}
        self._done: list[Answer] = []
        self._next_id = self._glance_ns = 0
        self._record: NDArray[Any] = np.zeros(1, REQUEST_DTYPE)
        self.restarts: list[int] = []
        template = WorkerSpec(
            place=0,
            parent=os.getpid(),
            requests=f"{self._name}-requests",
            answers=f"{self._name}-answers",
            arena_descriptor=self.arena.descriptor,
            slots=open_max,
            row_shape=row_shape,
            variants=self.variants,
            previous=tuple((previous or {}).get(variant.name) for variant in self.variants),
            times_ns=costs.times_ns,
            values=self.values.values,
            limits=self.limits,
        )
        self._crew = Crew(template, self.arena, count=self._worker_count, places=PLACES)
        try:
            self._crew.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # What a caller does.

    def submit(
        self,
        rows: Floats32,
        *,
        deadline_ns: int,
        value: float = 1.0,
        stream: int = 0,
        arrival_ns: int | None = None,
    ) -> tuple[int, Answer | None]:
        """Ask for an answer; return the request's id, and its answer where that is known at once.

        Parameters
        ----------
        rows : array of float32, shape (window, features)
            Copied into a slot, which the workers read in place.
        deadline_ns, arrival_ns : int
            CLOCK_MONOTONIC; arrival is now unless a schedule says otherwise.
        value : float
            Within float32.
        stream : int
            0 to 2**32 - 1.

        Raises
        ------
        ConfigError
            The rows are of another shape, a number is out of its range, or the front is closed. Rows of the
            right shape that are not finite are no error but refused.
        """
        self._require_open()
        now_ns = time.monotonic_ns()
        rows, value = self._checked(rows, value, stream, deadline_ns, arrival_ns or now_ns)
        self._next_id += 1
        request_id = self._next_id
        # A bad payload must not count against a model, so it never enters a slot: a worker may still read
        # there for a request that ended without it.
        slot = self.arena.take() if np.isfinite(rows).all() else None
        if slot is None:
            return request_id, self._refusal(request_id, arrival_ns or now_ns, deadline_ns, now_ns)
        target = self.arena.rows[slot]
        target[:] = rows
        margin = nan
        if self._first is not None:
            margin = self._answer_first(request_id, target)
        request = Request(
            request_id=request_id,
            arrival_ns=arrival_ns or now_ns,
            deadline_ns=deadline_ns,
            value=value,
            stream=stream,
            slot=slot,
            margin=margin,
        )
        worker = self._admission.place(deadline_ns, now_ns)
        if worker is None:
            return request_id, self._at_hand(request, time.monotonic_ns(), refused=True)
        self._ledger.open(request, worker)
        self._admission.outstanding[worker] += 1
        self._send(request, worker)
        return request_id, None

    def poll(self, *, timeout_s: float = 0.0) -> list[Answer]:
        """Return the answers that have come, waiting up to `timeout_s` for the first.

        Raises
        ------
        ConfigError
            The front is closed.
        """
        self._require_open()
        stop_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while True:
            self._collect()
            now_ns = time.monotonic_ns()
            self._note_lateness(now_ns)
            self._expire(now_ns)
            if now_ns - self._glance_ns >= _GLANCE_NS:
                self._supervise(now_ns)
            if self._done or now_ns >= stop_ns:
                done, self._done = self._done, []
                return done
            wake_ns = min(stop_ns, now_ns + _GLANCE_NS)
            due_ns = self._ledger.next_deadline_ns()
            if due_ns is not None:
                wake_ns = min(wake_ns, due_ns - self._guard_ns())
            self._planned_ns = wake_ns
            self._answers.wait(timeout_s=max(wake_ns - now_ns, 0) / 1e9)

    @property
    def open_requests(self) -> int:
        """How many requests wait for their answer."""
        return len(self._ledger)

    @property
    def worker_ids(self) -> tuple[int, ...]:
        """Process ids of the workers at work."""
        return tuple(worker.process.pid for worker in self._crew.lanes)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids of the workers at work and of the spare."""
        spare = () if self._crew.spare is None else (self._crew.spare.process.pid,)
        return (*self.worker_ids, *spare)

    @property
    def slowdowns(self) -> tuple[float, ...]:
        """What the workers' pressure gauges say."""
        return tuple(self._admission.slowdowns)

    @property
    def trips(self) -> int:
        """How many breakers have tripped in the workers at work."""
        return sum(int(self.arena.status["trips"][worker.place]) for worker in self._crew.lanes)

    def close(self) -> None:
        """Stop the workers and free everything; again is harmless. Open requests end unanswered."""
        self._closed = True
        self._crew.close()
        self.arena.close()
        try:
            unlink_ring(f"{self._name}-answers")
        except FileNotFoundError:
            return

    def _require_open(self) -> None:
        if self._closed:
            raise ConfigError("a front must be open to be asked, was closed")

    def _checked(
        self, rows: Floats32, value: float, stream: int, deadline_ns: int, arrival_ns: int
    ) -> tuple[Floats32, float]:
        """Return rows and value as they are sent, or raise while nothing is held yet for the request."""
        try:
            rows, value = np.asarray(rows, np.float32), float(value)
            stream, times = index(stream), (index(arrival_ns), index(deadline_ns))
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"a request must be rows and numbers, was not: {error}") from error
        if rows.shape != self.arena.rows.shape[1:]:
            raise ConfigError(f"rows must be of shape {self.arena.rows.shape[1:]}, was {rows.shape}")
        if not abs(value) <= _VALUE_MAX:
            raise ConfigError(f"value must be finite in float32, was {value}")
        if not 0 <= stream <= _STREAM_MAX:
            raise ConfigError(f"stream must be 0 to {_STREAM_MAX}, was {stream}")
        if not all(0 <= moment <= _TIME_MAX for moment in times):
            raise ConfigError(f"arrival_ns and deadline_ns must be 0 to {_TIME_MAX}, was {times}")
        return rows, value

    # Answers.

    def _answer_first(self, request_id: int, rows: Floats32) -> float:
        assert self._first is not None, "asked only with a first model"
        newest = rows[-1:] if self._first_window == 1 else rows[None, -self._first_window :]
        try:
            found = tuple(self._first.probabilities(newest)[0].tolist())
        except ModelError:
            # No first answer is no answer's loss: the workers still have the request.
            return nan
        if not isfinite(sum(found)):
            return nan
        self._first_answers[request_id] = found
        ranked = sorted(found)
        return float(ranked[-1] - ranked[-2])

    def _collect(self) -> None:
        records = self._answers.pop(_POP_MAX)
        if not len(records):
            return
        now_ns = time.monotonic_ns()
        for request_id, _, found, attempt, _, _, variant, outcome, _ in records.tolist():
            request = self._ledger.get(request_id, attempt)
            if request is None:
                continue
            if outcome == Outcome.MODEL:
                self._end(request, Outcome.MODEL, variant, tuple(found), now_ns)
            else:
                self._done.append(self._at_hand(request, now_ns, refused=False))

    def _expire(self, now_ns: int) -> None:
        for request in self._ledger.due(now_ns + self._guard_ns()):
            self._done.append(self._at_hand(request, now_ns, refused=False))

    def _guard_ns(self) -> int:
        """Return how long before its deadline a request is answered with what is at hand."""
        return min(self.limits.guard_ns + int(self._lateness.value), _GUARD_NS_MAX)

    def _note_lateness(self, now_ns: int) -> None:
        if self._planned_ns and now_ns >= self._planned_ns:
            self._lateness.update(max(now_ns - self._planned_ns, 1.0))
            self._planned_ns = 0
            # Workers end a little sooner than the front gives up on them.
            self.arena.front["guard_ns"] = self._guard_ns() + _HANDOVER_NS

    def _end(
        self, request: Request, outcome: Outcome, variant: int, found: tuple[float, ...], now_ns: int
    ) -> None:
        answer = self._close_book(request, outcome, variant, found, now_ns)
        self._last_good.remember(request.stream, answer)
        self._done.append(answer)

    def _at_hand(self, request: Request, now_ns: int, *, refused: bool) -> Answer:
        """Answer with the first answer, the stream's last good one, or nothing, in this order."""
        first = self._first_answers.get(request.request_id)
        if first is not None:
            return self._close_book(request, Outcome.MODEL, self._first_index, first, now_ns)
        last = self._last_good.find(request.stream, now_ns)
        if last is not None:
            return self._close_book(request, Outcome.LAST_GOOD, last.variant, last.probabilities, now_ns)
        return self._close_book(
            request, Outcome.REFUSED if refused else Outcome.ABSTAIN, NO_VARIANT, (), now_ns
        )

    def _close_book(
        self, request: Request, outcome: Outcome, variant: int, found: tuple[float, ...], now_ns: int
    ) -> Answer:
        entry = self._ledger.end(request.request_id)
        if entry is not None:
            self._admission.outstanding[entry[1]] -= 1
        self._first_answers.pop(request.request_id, None)
        # A worker may still read the slot of a request that ended without it; what it makes of it is
        # ignored, so the next payload may be written over it.
        self.arena.give_back(request.slot)
        return Answer(
            request_id=request.request_id,
            outcome=outcome,
            variant=variant,
            probabilities=found,
            arrival_ns=request.arrival_ns,
            deadline_ns=request.deadline_ns,
            done_ns=now_ns,
        )

    @staticmethod
    def _refusal(request_id: int, arrival_ns: int, deadline_ns: int, now_ns: int) -> Answer:
        return Answer(
            request_id=request_id,
            outcome=Outcome.REFUSED,
            variant=NO_VARIANT,
            probabilities=(),
            arrival_ns=arrival_ns,
            deadline_ns=deadline_ns,
            done_ns=now_ns,
        )

    # Workers.

    def _send(self, request: Request, worker: int) -> None:
        self._record[0] = (
            request.request_id,
            request.arrival_ns,
            request.deadline_ns,
            request.value,
            request.margin,
            request.slot,
            request.stream,
            request.attempt,
            0,
        )
        # A ring as long as requests can be open never refuses; if it did, the deadline would answer.
        self._crew.lanes[worker].requests.try_push(self._record)

    def _supervise(self, now_ns: int) -> None:
        self._glance_ns = now_ns
        self._crew.keep_spare(now_ns)
        for lane, worker in enumerate(self._crew.lanes):
            self._admission.slowdowns[lane] = float(self.arena.status["slowdown"][worker.place])
            if self._admission.open[lane]:
                lost = self._crew.is_lost(worker, now_ns)
            else:
                # It is still starting, or was lost while there was no spare.
                self._admission.open[lane] = worker.alive and self._crew.is_ready(worker)
                lost = self._crew.has_failed(worker, now_ns)
            if lost:
                self._replace(lane)

    def _replace(self, lane: int) -> None:
        """Put the spare in a lost worker's place, and send on what that one held.

        Without a spare the lane stays closed, and is looked at again at the next glance.
        """
        self._admission.open[lane] = False
        if self._crew.relieve(lane):
            self.restarts.append(time.monotonic_ns())
            self._admission.open[lane] = self._crew.is_ready(self._crew.lanes[lane])
        # What it answered before it died counts.
        self._collect()
        for request in self._ledger.held_by(lane):
            self._admission.outstanding[lane] -= 1
            now_ns = time.monotonic_ns()
            worker = self._admission.place(request.deadline_ns, now_ns)
            if worker is None:
                self._admission.outstanding[lane] += 1
                self._done.append(self._at_hand(request, now_ns, refused=True))
                continue
            self._admission.outstanding[worker] += 1
            self._send(self._ledger.move(request.request_id, worker), worker)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

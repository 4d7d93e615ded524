"""The front: takes requests, hands them to workers, gives every one of them exactly one answer.

One thread calls it. `submit` answers refusals itself, `poll` returns the others as they end. A request ends
by the first of: a worker's answer; shortly before its deadline, what is at hand (the first answer, the
stream's last good one, or an explicit abstention). Workers that die or hang are replaced by a spare that
waits with its models loaded; what they held goes to the others while there is time.

The first answer is the fastest model's, run here on submission in some microseconds. It makes every request
answerable at any moment, which is what "anytime" means, and tells the cascade how sure a small model is.

Requests are taken and ended in batches, column by column (`submit_many`, `poll_many`); `submit` and `poll`
are batches of one and lists of objects. `replace` goes over to another ladder while this one serves.

A request's way to its one answer stands in `request_path.py`; who is at work in `roster.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.errors import ConfigError

from ..arrays import Floats32
from ..ladder import Variant
from ..machine_profile import core_count
from .arena import WORKERS_MAX, SharedState
from .desk import refusals
from .forecast import CostTable
from .guard import DeadlineGuard
from .measure import ladder_costs
from .planning import PlanLimits, ValueTable
from .request import Answer, answers_of, checked_requests
from .request_path import RequestPath
from .roster import Roster, versions_before
from .shortage import says_what_is_short
from .status import FrontStatus
from .supervise import WorkerProcess
from .switch import LadderSource, Switch

_GLANCE_NS: Final = 4_000_000


class Front:
    """Serves a ladder from worker processes.

    Parameters
    ----------
    variants : sequence of Variant
        The ladder.
    workers : int, optional
        1 to 31. Default: one per usable core.
    costs : CostTable, optional
        Quiet-machine times; from the profiles kept for this machine when None, and timed where none holds.
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
    source : LadderSource, optional
        Where the ladder comes from, such as a registry. Its switches are followed, and a variant that is
        rolled back is reported to it.
    clock : callable
        CLOCK_MONOTONIC in ns, the clock of all deadlines.

    Raises
    ------
    ConfigError
        The number of workers is out of range.
    SystemShortage
        The system has no shared memory, descriptor or process for it; says how much is needed.
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
        source: LadderSource | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        workers = min(core_count(), WORKERS_MAX) if workers is None else workers
        if not 1 <= workers <= WORKERS_MAX:
            raise ConfigError(f"a front must have 1 to {WORKERS_MAX} workers, was {workers}")
        self._closed, self._owner = False, os.getpid()
        self._clock = clock
        self.limits = limits or PlanLimits()
        variants = tuple(variants)
        costs = costs or ladder_costs(variants)
        shapes = [variant.input_shape for variant in variants]
        row_shape = (max(window for window, _ in shapes), max(features for _, features in shapes))
        with says_what_is_short(workers=workers, slots=open_max, row_shape=row_shape), ExitStack() as made:
            shared = SharedState(slots=open_max, row_shape=row_shape, workers=workers)
            made.callback(shared.close)
            self._shared, self.arena = shared, shared.arena
            self._roster = Roster(
                shared.spec(variants, versions_before(variants, previous or {}), costs, self.limits),
                shared.arena,
                name=shared.name,
                workers=workers,
                first_answers=first_answers,
                source=source,
                clock=clock,
            )
            made.callback(self._roster.close)
            self._guard = DeadlineGuard(self.limits.guard_ns, shared.arena)
            self._path = RequestPath(
                self._roster,
                shared.arena,
                shared.answers,
                self._guard,
                stale_ns_max=stale_ns_max,
                clock=clock,
            )
            self._next_id = self._glance_ns = 0
            self._roster.shift.crew.start()
            made.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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
        ids, ended = self.submit_many(
            np.asarray(rows)[None],
            deadlines_ns=deadline_ns,
            values=value,
            streams=stream,
            arrivals_ns=arrival_ns,
        )
        return int(ids[0]), answers_of(ended)[0] if len(ended) else None

    def submit_many(
        self,
        rows: ArrayLike,
        *,
        deadlines_ns: ArrayLike,
        values: ArrayLike = 1.0,
        streams: ArrayLike = 0,
        arrivals_ns: ArrayLike | None = None,
    ) -> tuple[NDArray[np.uint64], NDArray[Any]]:
        """Ask for many answers at once; numbers are one for all or one each.

        Parameters
        ----------
        rows : array of float32, shape (k, window, features)
        deadlines_ns, values, streams, arrivals_ns
            As for `submit`.

        Returns
        -------
        ids : array of uint64, shape (k,)
        ended : array of ENDED_DTYPE
            Of those that are answered or refused at once.

        Raises
        ------
        ConfigError
            As for `submit`; then none of them was taken.
        """
        self._require_open()
        now_ns = self._clock()
        rows, requests = checked_requests(
            rows,
            self.arena.rows.shape[1:],
            deadlines_ns=deadlines_ns,
            values=values,
            streams=streams,
            arrivals_ns=now_ns if arrivals_ns is None else arrivals_ns,
        )
        requests["request_id"] = np.arange(self._next_id + 1, self._next_id + 1 + len(requests))
        self._next_id += len(requests)
        # A bad payload must not count against a model, so it never enters a slot: a worker may still read
        # there for a request that ended without it.
        taken = np.isfinite(rows).all(axis=(1, 2))
        if taken.all() and len(rows) <= self.arena.free_slots:
            return requests["request_id"].copy(), self._path.hand_out(requests, rows)
        taken &= np.cumsum(taken) <= self.arena.free_slots
        ended = [refusals(requests[~taken], self._clock())]
        if taken.any():
            ended.append(self._path.hand_out(requests[taken], rows[taken]))
        return requests["request_id"].copy(), np.concatenate(ended)

    def poll(self, *, timeout_s: float = 0.0) -> list[Answer]:
        """Return the answers that have come, waiting up to `timeout_s` for the first.

        Raises
        ------
        ConfigError
            The front is closed.
        """
        return answers_of(self.poll_many(timeout_s=timeout_s))

    def poll_many(self, *, timeout_s: float = 0.0) -> NDArray[Any]:
        """Return what `poll` does as an array of ENDED_DTYPE."""
        self._require_open()
        path = self._path
        stop_ns = self._clock() + int(timeout_s * 1e9)
        self._shared.bell.wake()
        while True:
            # Whatever a glance takes is over before an answer is said to be there.
            self._glance(self._clock())
            path.collect()
            now_ns = self._clock()
            self._guard.note(now_ns)
            path.expire(now_ns)
            if path.has_ended or now_ns >= stop_ns:
                return path.take_ended()
            self._shared.answers.wait(timeout_s=self._plan_wake(now_ns, min(stop_ns, now_ns + _GLANCE_NS)))

    def fileno(self) -> int:
        """Return a descriptor to wait at, between polls and beside sockets: readable when an answer comes.

        Raises
        ------
        ConfigError
            The front is closed.
        """
        self._require_open()
        return self._shared.bell.waits

    def rest(self) -> float:
        """Say that nobody polls until the descriptor is readable; return for how many seconds that may be.

        Some milliseconds at most, since workers are to be looked after. The next poll ends it.
        Refused as `fileno` is.
        """
        self._require_open()
        self._shared.bell.sleep()
        if self._path.has_ended or self._shared.answers.look():
            return 0.0
        now_ns = self._clock()
        return self._plan_wake(now_ns, now_ns + _GLANCE_NS)

    def replace(
        self,
        variants: Sequence[Variant],
        *,
        costs: CostTable | None = None,
        previous: Mapping[str, Variant] | None = None,
    ) -> Switch:
        """Go over to another ladder while this one serves; return at once how that stands.

        `poll` carries it out. New workers open the new files one by one. When all are ready, requests go to
        them from one moment on; the old workers answer what they hold, end, and close their models. Where a
        file is refused or a worker fails to start, this ladder goes on. A switch under way is given up.

        Parameters
        ----------
        costs : CostTable, optional
            Taken from kept profiles or timed in another process when None.
        previous : mapping of str to Variant, optional
            As at the start; by default this ladder's variants of the same names.

        Raises
        ------
        ConfigError
            The new ladder takes other rows or has no skill, or the front is closed.
        """
        self._require_open()
        return self._roster.replace(variants, costs=costs, previous=previous)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The ladder that serves."""
        return self._roster.shift.variants

    @property
    def costs(self) -> CostTable:
        """What its variants take on a quiet machine."""
        return self._roster.shift.costs

    @property
    def values(self) -> ValueTable:
        """What their answers are worth."""
        return self._roster.shift.values

    @property
    def ladder(self) -> int:
        """The number of the ladder that serves, 1 for the first."""
        return self._roster.shift.number

    @property
    def open_requests(self) -> int:
        """How many requests wait for their answer."""
        return len(self._path.ledger)

    @property
    def worker_ids(self) -> tuple[int, ...]:
        """Process ids of the workers at work."""
        return _ids(self._roster.shift.crew.lanes)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids of the workers at work and of the spare."""
        spare = self._roster.shift.crew.spare
        return self.worker_ids + ((*_ids([spare]),) if spare is not None else ())

    @property
    def slowdowns(self) -> tuple[float, ...]:
        """How much slower than on a quiet machine the workers are held to be, by their gauges and silence."""
        return tuple(self._roster.shift.admission.slowdowns)

    def status(self) -> FrontStatus:
        """Return what there is to say of it now."""
        return FrontStatus(
            ladder=self.ladder,
            variants=tuple(variant.name for variant in self.variants),
            open_requests=self.open_requests,
            restarts=len(self._roster.restarts),
            trips=sum(self.arena.status["trips"][worker.place] for worker in self._roster.shift.crew.lanes),
            slowdowns=self.slowdowns,
            switch=self._roster.switch,
            drift_verdicts=self._path.drift.verdicts,
            drift=self._path.drift.present,
        )

    def close(self) -> None:
        """Stop the workers and free everything; again is harmless. Open requests end unanswered.

        It takes two seconds at most, milliseconds where no process is stopped. In a copy of this process that
        somebody forked it does nothing: the workers serve the one that made them.
        """
        self._closed = True
        if os.getpid() == self._owner:
            self._roster.close()
            self._shared.close()

    def _glance(self, now_ns: int) -> None:
        if now_ns - self._glance_ns >= _GLANCE_NS or self._path.pause_is_near:
            self._glance_ns = now_ns
            self._path.glance(now_ns)

    def _plan_wake(self, now_ns: int, wake_ns: int) -> float:
        """Plan to wake up then, or before where a deadline is due; return how many seconds are left."""
        due_ns = self._path.ledger.next_deadline_ns()
        if due_ns is not None:
            wake_ns = min(wake_ns, due_ns - self._guard.ns)
        self._guard.plan(wake_ns)
        return max(wake_ns - now_ns, 0) / 1e9

    def _require_open(self) -> None:
        if self._closed:
            raise ConfigError("a front must be open to be asked, was closed")
        if os.getpid() != self._owner:
            raise ConfigError(f"a front must be asked by its own process, {self._owner}, was {os.getpid()}")


def _ids(workers: Sequence[WorkerProcess]) -> tuple[int, ...]:
    """Return the ids of processes, without those that are only to come."""
    return tuple(worker.process.pid for worker in workers if worker.process.pid is not None)

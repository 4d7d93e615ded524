"""A request's way through the front, and back as the one end that it has.

=============  =====================================  ==============================================
submitted      `Front.submit_many`                    rows and numbers checked, an id given
placed         `RequestPath.hand_out`                 admission chooses a worker, or refuses
– answered     `Desk.first_answers`                   by the fastest model, in case nothing better comes
– entered      `Desk.enter`                           rows into a slot, the request into the ledger
– sent         `RequestPath._send`                    48 bytes into the worker's ring
planned        `WorkerScheduler.next_run`             in the worker: which variant, which batch
run            `Worker.turn`                          rows are read in their slots
answered       `Worker._push`                         40 bytes into the ring of answers
collected      `RequestPath.collect`                  matched against the ledger, its slot given back
or expired     `RequestPath.expire`                   shortly before the deadline, with what is at hand
or sent on     `RequestPath._send_on`                 to another worker, when its own is gone
given out      `RequestPath.take_ended`               by `Front.poll_many`
=============  =====================================  ==============================================

Whatever comes first ends a request; the ledger passes over anything later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ext.ring_buffer import MpscRing

from ..arrays import Floats32
from .arena import Arena
from .desk import NONE_ENDED, Desk
from .drift_watch import DriftFeed
from .guard import DeadlineGuard
from .request import Outcome
from .roster import Roster
from .shift import Shift

_POP_MAX: Final = 1_024
# What starting or killing a process takes of this one, at most, on a busy machine.
_PAUSE_NS: Final = 15_000_000


class RequestPath:
    """Takes requests to workers and their answers back.

    Parameters
    ----------
    answers : MpscRing
        Where workers lay their answers.
    stale_ns_max : int
        Age up to which a stream's last good answer may stand in.
    clock : callable
        CLOCK_MONOTONIC in ns.
    """

    def __init__(
        self,
        roster: Roster,
        arena: Arena,
        answers: MpscRing,
        guard: DeadlineGuard,
        *,
        stale_ns_max: int,
        clock: Callable[[], int],
    ) -> None:
        self._roster, self._arena, self._answers = roster, arena, answers
        self._guard, self._clock = guard, clock
        self._desk = Desk(arena, stale_ns_max=stale_ns_max)
        self.ledger = self._desk.ledger
        self.drift = DriftFeed(arena.rows.shape[2])
        self._ended: list[NDArray[Any]] = []
        self.pause_is_near = False
        """Whether the next glance at the roster may start an interpreter."""

    def hand_out(self, requests: NDArray[Any], rows: Floats32) -> NDArray[Any]:
        """Send requests to workers; return those that are refused, answered with what is at hand."""
        shift, ended, now_ns = self._roster.shift, NONE_ENDED, self._clock()
        places = shift.admission.place_many(requests["deadline_ns"].tolist(), now_ns)
        workers: NDArray[np.int64] = np.array(places)
        firsts = self._desk.first_answers(requests, rows, shift.first, shift.number, now_ns)
        placed = workers >= 0
        if not placed.all():
            # No slot is written for these, so that refusing costs less than serving.
            refused, firsts_refused = requests[~placed], firsts[~placed]
            ended = self._desk.at_hand(refused, self._clock(), Outcome.REFUSED, firsts=firsts_refused)
            requests, rows, firsts, workers = requests[placed], rows[placed], firsts[placed], workers[placed]
        self._desk.enter(requests, rows, firsts, shift.lanes(workers))
        self._send(requests, workers)
        return ended

    def collect(self) -> None:
        """End requests with the answers that have come."""
        while len(records := self._answers.pop(_POP_MAX)):
            records = records[self.ledger.matching(records)]
            self._end(self._desk.answered(records, self._clock()), records["slot"])

    def expire(self, until_ns: int) -> None:
        """Answer with what is at hand whatever falls due by then."""
        slots = self.ledger.due(until_ns + self._guard.ns)
        if len(slots):
            ended = self._desk.at_hand(self.ledger.requests[slots], self._clock(), Outcome.ABSTAIN)
            self._end(ended, slots)

    def take_ended(self) -> NDArray[Any]:
        """Return what has ended since the last call, records of ENDED_DTYPE."""
        ended, self._ended = self._ended, []
        if len(ended) == 1:
            return ended[0]
        return np.concatenate(ended) if ended else NONE_ENDED

    @property
    def has_ended(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ended)

    def glance(self, now_ns: int) -> None:
        """Look after the workers once."""
        for shift, worker in self._roster.glance(now_ns, may_pause=self._may_pause):
            self._send_on(shift, worker)
        # Whatever that took is over before an answer is said to be there.
        for ended in self._ended:
            ended["done_ns"] = self._clock()

    def _send_on(self, shift: Shift, worker: int) -> None:
        """Send what a worker that is gone held to those at work, while there is time."""
        # What it answered before it was gone counts.
        self.collect()
        present = self._roster.shift
        for slot in self.ledger.held_by(shift.lane(worker)).tolist():
            now_ns = self._clock()
            shift.admission.outstanding[worker] -= 1
            request = self.ledger.requests[slot : slot + 1]
            placed = present.admission.place_many(request["deadline_ns"].tolist(), now_ns)
            if placed[0] >= 0:
                self._send(self.ledger.move(slot, present.lane(placed[0])), np.array(placed))
            else:
                # It was queued, so this is no refusal any more.
                shift.admission.outstanding[worker] += 1
                self._end(self._desk.at_hand(request, now_ns, Outcome.ABSTAIN), request["slot"].copy())

    def _may_pause(self) -> bool:
        """Return whether what falls due in a pause was answered and given out, at most one poll later."""
        if self.pause_is_near:
            self.pause_is_near = False
            return True
        self.expire(self._clock() + _PAUSE_NS)
        self.pause_is_near = bool(self._ended)
        return not self.pause_is_near

    def _send(self, requests: NDArray[Any], workers: NDArray[np.int64]) -> None:
        # A ring as long as requests can be open never refuses; if it did, the deadline would answer.
        for worker, process in enumerate(self._roster.shift.crew.lanes):
            own = requests[workers == worker]
            if len(own):
                process.requests.try_push(own)

    def _end(self, ended: NDArray[Any], slots: NDArray[np.integer[Any]]) -> None:
        if not len(slots):
            return
        lanes = self.ledger.end(slots)
        for shift in self._roster.shifts:
            shift.release(lanes)
        self.drift.offer(ended, slots, rows=self._arena.rows, shift=self._roster.shift)
        # A worker may still read the slot of a request that ended without it; what it makes of it is
        # ignored, so the next payload may be written over it.
        self._arena.give_back(slots)
        self._ended.append(ended)

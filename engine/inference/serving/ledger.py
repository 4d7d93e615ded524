"""Who waits for what: every request is open once and ends once, whatever arrives in whatever order.

Columns by slot, not objects by id: a batch of thousands is entered, matched and ended in a few array
operations. A slot holds one request at a time, so a request is found by its slot and proven by its id.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .request import ENDED_DTYPE, REQUEST_DTYPE, Outcome

_NEVER: Final = 2**63 - 1
_STREAMS_MAX: Final = 65_536
_NOBODY: Final = -1


class Ledger:
    """The front's book of open requests. The first end of a request counts; any later one is ignored.

    Parameters
    ----------
    slots : int
        Requests that can be open at once.
    """

    def __init__(self, slots: int) -> None:
        self.requests: NDArray[Any] = np.zeros(slots, REQUEST_DTYPE)
        """By slot; of a slot that is not open, what it held last."""
        self.lanes: NDArray[np.int64] = np.full(slots, _NOBODY, np.int64)
        """By slot: the lane whose worker has it."""
        # One column of its own, close together: it is searched on every turn.
        self._due_ns: NDArray[np.int64] = np.full(slots, _NEVER, np.int64)
        self._last: NDArray[np.int64] = np.zeros(slots, np.int64)
        self._open = 0
        self.ignored = 0

    def __len__(self) -> int:
        return self._open

    def open(self, requests: NDArray[Any], lanes: NDArray[np.int64]) -> None:
        """Enter requests that go to workers.

        Raises
        ------
        ValueError
            One of their slots is open already.
        """
        slots = requests["slot"]
        if (self.lanes[slots] != _NOBODY).any():
            raise ValueError(f"a slot must be open once, was open: {slots[self.lanes[slots] != _NOBODY]}")
        self.requests[slots] = requests
        self.lanes[slots] = lanes
        self._due_ns[slots] = requests["deadline_ns"]
        self._open += len(slots)

    def matching(self, answers: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of a batch of ANSWER_DTYPE end a request that is open, at its present attempt."""
        slots = answers["slot"]
        held = self.requests[slots]
        found: NDArray[np.bool_] = (self.lanes[slots] != _NOBODY) & (
            (held["request_id"] == answers["request_id"]) & (held["attempt"] == answers["attempt"])
        )
        # Of two answers to one request in one batch the last is kept.
        order = np.arange(len(slots))
        self._last[slots[found]] = order[found]
        found &= self._last[slots] == order
        self.ignored += len(slots) - int(np.count_nonzero(found))
        return found

    def end(self, slots: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Close open requests; return the lanes that had them."""
        lanes: NDArray[np.int64] = self.lanes[slots]
        self.lanes[slots] = _NOBODY
        self._due_ns[slots] = _NEVER
        self._open -= len(slots)
        return lanes

    def move(self, slot: int, lane: int) -> NDArray[Any]:
        """Send an open request to another lane, as a new attempt; return its record."""
        self.requests["attempt"][slot] += 1
        self.lanes[slot] = lane
        return self.requests[slot : slot + 1]

    def held_by(self, lane: int) -> NDArray[np.int64]:
        """Return the slots of a lane's open requests, most urgent first."""
        slots = np.flatnonzero(self.lanes == lane)
        return slots[np.lexsort((self.requests["request_id"][slots], self._due_ns[slots]))]

    def next_deadline_ns(self) -> int | None:
        """Return the tightest deadline of an open request."""
        return int(self._due_ns.min()) if self._open else None

    def due(self, now_ns: int) -> NDArray[np.int64]:
        """Return the slots of open requests whose deadline is at most `now_ns`; the caller ends them."""
        if not self._open:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self._due_ns <= now_ns)


class LastGood:
    """The last good answer of every stream, for as long as it may stand in.

    Bounded: streams that are equal modulo `streams_max` share a place, and the later one has it.
    """

    def __init__(self, *, age_ns_max: int, streams_max: int = _STREAMS_MAX) -> None:
        self._age_ns_max = age_ns_max
        self._answers: NDArray[Any] = np.zeros(streams_max, ENDED_DTYPE)

    def remember(self, answers: NDArray[Any]) -> None:
        """Keep models' answers, records of ENDED_DTYPE."""
        self._answers[answers["stream"] % len(self._answers)] = answers

    def find(self, streams: NDArray[np.integer[Any]], now_ns: int) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return of which streams there is an answer fresh enough, and the answers."""
        answers = self._answers[streams % len(self._answers)]
        fresh: NDArray[np.bool_] = (
            (answers["outcome"] == Outcome.MODEL)
            & (answers["stream"] == streams)
            & (now_ns - answers["done_ns"] <= self._age_ns_max)
        )
        return fresh, answers

"""What is asked, what comes back, and the records that carry both through a ring.

Times are CLOCK_MONOTONIC nanoseconds, which all processes of a machine share. A request's payload is a slot
number of the arena, so the same record serves a caller in this process and, later, a network front that
receives rows into a slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

NO_VARIANT: Final = 255


class Outcome(IntEnum):
    """How a request ended. Only MODEL counts as answered."""

    MODEL = 1
    """A model ran on this payload."""
    LAST_GOOD = 2
    """The stream's last answer, not older than the front allows."""
    ABSTAIN = 3
    """Nothing could be said in time."""
    REFUSED = 4
    """Said at once, before the request was queued."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One question with its deadline.

    Parameters
    ----------
    value : float
        Worth of a perfect answer relative to other requests.
    stream : int
        Whose last good answer may stand in, such as an instrument id.
    slot : int
        Of the arena, where the rows stand.
    margin : float
        P(best) − P(second) of the first answer, NaN without one. The cascade decides by it.
    attempt : int
        Grows when the request moves to another worker; answers to older attempts are ignored.
    """

    request_id: int
    arrival_ns: int
    deadline_ns: int
    value: float = 1.0
    stream: int = 0
    slot: int = 0
    margin: float = float("nan")
    attempt: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How one request ended; every accepted or refused request gets exactly one.

    Parameters
    ----------
    variant : int
        Index in the ladder, NO_VARIANT where no model ran.
    probabilities : tuple of float
        P(down), P(flat), P(up); empty where there is no answer.
    done_ns : int
        When the front had it.
    """

    request_id: int
    outcome: Outcome
    variant: int
    probabilities: tuple[float, ...]
    arrival_ns: int
    deadline_ns: int
    done_ns: int

    @property
    def on_time(self) -> bool:
        """Whether a model's answer came by the deadline."""
        return self.outcome is Outcome.MODEL and self.done_ns <= self.deadline_ns


REQUEST_DTYPE: Final = np.dtype(
    [
        ("request_id", "<u8"),
        ("arrival_ns", "<i8"),
        ("deadline_ns", "<i8"),
        ("value", "<f4"),
        ("margin", "<f4"),
        ("slot", "<u4"),
        ("stream", "<u4"),
        ("attempt", "<u4"),
        ("_reserved", "<u4"),
    ]
)
ANSWER_DTYPE: Final = np.dtype(
    [
        ("request_id", "<u8"),
        ("done_ns", "<i8"),
        ("probabilities", "<f4", (3,)),
        ("attempt", "<u4"),
        ("slot", "<u4"),
        ("worker", "u1"),
        ("variant", "u1"),
        ("outcome", "u1"),
        ("_reserved", "u1"),
    ]
)
assert REQUEST_DTYPE.itemsize == 48
assert ANSWER_DTYPE.itemsize == 40

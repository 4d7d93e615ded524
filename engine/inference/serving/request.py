"""What is asked, what comes back, and the records that carry both through a ring.

Times are CLOCK_MONOTONIC nanoseconds, which all processes of a machine share. A request's payload is a slot
number of the arena, so the same record serves a caller in this process and, later, a network front that
receives rows into a slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.errors import ConfigError

from ..arrays import Floats32

NO_VARIANT: Final = 255
_STREAM_MAX: Final = 2**32 - 1
_TIME_MAX: Final = 2**63 - 1
_VALUE_MAX: Final = float(np.finfo(np.float32).max)


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


# Not frozen, though nobody changes one: workers make one per request, at a quarter of the time.
@dataclass(kw_only=True, slots=True)
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
    ladder : int
        Number of the ladder that this index is in: 1 is the first that the front served.
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
    ladder: int = 1

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
ENDED_DTYPE: Final = np.dtype(
    [
        ("request_id", "<u8"),
        ("arrival_ns", "<i8"),
        ("deadline_ns", "<i8"),
        ("done_ns", "<i8"),
        ("probabilities", "<f4", (3,)),
        ("stream", "<u4"),
        ("ladder", "<u4"),
        ("outcome", "u1"),
        ("variant", "u1"),
        ("_reserved", "u1", (2,)),
    ]
)
"""How requests ended, many at a time: the columns of `Answer`. Probabilities are NaN where there are none."""
_NUMBERS: Final = ("request_id", "arrival_ns", "deadline_ns", "done_ns", "ladder", "outcome", "variant")
assert REQUEST_DTYPE.itemsize == 48
assert ANSWER_DTYPE.itemsize == 40
assert ENDED_DTYPE.itemsize == 56


def checked_requests(
    rows: ArrayLike,
    row_shape: tuple[int, ...],
    *,
    deadlines_ns: ArrayLike,
    values: ArrayLike,
    streams: ArrayLike,
    arrivals_ns: ArrayLike,
) -> tuple[Floats32, NDArray[Any]]:
    """Return rows of shape (k, *row_shape) and their records, all but ids, slots and margins filled in.

    Raises
    ------
    ConfigError
        The rows are of another shape, or a number is out of its range.
    """
    try:
        rows = np.asarray(rows, np.float32)
        worths = np.asarray(values, np.float64)
        numbers = [np.asarray(numbers) for numbers in (deadlines_ns, arrivals_ns, streams)]
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"a request must be rows and numbers, was not: {error}") from error
    if rows.ndim != 1 + len(row_shape) or rows.shape[1:] != row_shape:
        raise ConfigError(f"rows must be of shape {row_shape}, was {rows.shape[1:]}")
    if not (np.abs(worths) <= _VALUE_MAX).all():
        raise ConfigError(f"value must be finite in float32, was {worths}")
    ranges = (("deadline_ns", _TIME_MAX), ("arrival_ns", _TIME_MAX), ("stream", _STREAM_MAX))
    for (name, highest), column in zip(ranges, numbers, strict=True):
        if column.dtype.kind not in "iu":
            raise ConfigError(f"a request must be rows and numbers, was {name} {column}")
        if column.size and not (column.min() >= 0 and column.max() <= highest):
            raise ConfigError(f"{name} must be 0 to {highest}, was {column}")
    requests = np.zeros(len(rows), REQUEST_DTYPE)
    try:
        requests["value"] = worths
        requests["deadline_ns"], requests["arrival_ns"], requests["stream"] = numbers
    except ValueError as error:
        raise ConfigError(f"numbers must be one, or one for each of {len(rows)} rows: {error}") from error
    return rows, requests


def answers_of(ended: NDArray[Any]) -> list[Answer]:
    """Return records of ENDED_DTYPE as objects."""
    found = ended["probabilities"].tolist()
    return [
        Answer(
            request_id=request_id,
            outcome=Outcome(outcome),
            variant=variant,
            probabilities=() if variant == NO_VARIANT else tuple(numbers),
            arrival_ns=arrival_ns,
            deadline_ns=deadline_ns,
            done_ns=done_ns,
            ladder=ladder,
        )
        for numbers, request_id, arrival_ns, deadline_ns, done_ns, ladder, outcome, variant in zip(
            found, *(ended[name].tolist() for name in _NUMBERS), strict=True
        )
    ]

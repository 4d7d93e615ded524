"""Numbers by which a feed of JSON lines tells that messages are missing: followed, and proposed.

A message is the one behind the one before where, as far as the mapping names them,

- ``previous`` is the ``last`` of the message before; else
- ``first`` is one more than that; else
- ``last`` is one more than that.

The first message behind a snapshot may reach back over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from .json_mapping import SequenceMapping
from .json_shapes import at_path, scalars, text_of

_CLOCKS_APART: Final = 100_000
_EVIDENCE: Final = 8
"""Messages that must follow each other by a rule before it is proposed."""


class SequenceFollower:
    """The numbers of the streams that share a book, a tape or a touch."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._behind_snapshot: set[str] = set()

    def follow(
        self, mapping: SequenceMapping, shared: str, message: Any, *, opening: bool
    ) -> tuple[bool, str | None]:
        """Return whether a message is newer than the one before, and what is missing between them.

        Parameters
        ----------
        mapping : SequenceMapping
        shared : str
            What the streams of one sequence share.
        message : Any
        opening : bool
            It is a snapshot, which begins anew.
        """
        last = number_at(message, mapping.last)
        seen, reaches_back = self._last.get(shared), shared in self._behind_snapshot
        if opening:
            self._last.pop(shared, None)
            self._behind_snapshot.add(shared)
            if last is not None:
                self._last[shared] = last
            return True, None
        if last is None:
            return True, None
        if seen is not None and last <= seen:
            return False, None
        self._behind_snapshot.discard(shared)
        self._last[shared] = last
        if seen is None:
            return True, None
        found, expected = last, seen + 1
        if mapping.previous:
            previous = number_at(message, mapping.previous)
            found, expected = previous if previous is not None else seen, seen
        elif mapping.first:
            first = number_at(message, mapping.first)
            found = first if first is not None else expected
        follows = found <= expected if reaches_back else found == expected
        return True, None if follows else f"expected {expected}, was {found}"


def number_at(message: Any, path: str) -> int | None:
    """Return the whole number at a path, None where there is none."""
    text = text_of(at_path(message, path)) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def propose_sequence(messages: Sequence[Any], time: str) -> SequenceMapping | None:
    """Return numbers by which each message follows the one before, None where no rule holds for all.

    Parameters
    ----------
    messages : sequence
        Of one kind, in order of arrival.
    time : str
        Path of their time: clocks of the same unit are no numbers of messages.
    """
    if len(messages) < _EVIDENCE:
        return None
    clock = [number_at(message, time) for message in messages]
    columns = {path: [number_at(message, path) for message in messages] for path, _ in scalars(messages[0])}
    numbers = {
        path: [value for value in values if value is not None]
        for path, values in columns.items()
        if None not in values and not _is_clock(values, clock)
    }
    growing = {path: values for path, values in numbers.items() if all(a < b for a, b in pairwise(values))}
    for last, values in growing.items():
        for path, others in numbers.items():
            if path != last and others[1:] == values[:-1]:
                return SequenceMapping(last=last, previous=path)
    for last, values in growing.items():
        for path, others in numbers.items():
            if path != last and others[1:] == [value + 1 for value in values[:-1]]:
                return SequenceMapping(last=last, first=path)
    for last, values in growing.items():
        if all(b == a + 1 for a, b in pairwise(values)):
            return SequenceMapping(last=last)
    return None


def _is_clock(values: Sequence[int | None], clock: Sequence[int | None]) -> bool:
    """Tell whether numbers stay near a clock's."""
    pairs = zip(values, clock, strict=True)
    return all(a is not None and b is not None and abs(a - b) < _CLOCKS_APART for a, b in pairs)

"""Damaged lines of a recording: each is rejected by itself, and too many refuse the recording.

A line that cannot be read costs itself and what depended on it, which its feed's decoder knows. From a
share of the lines on it is no longer a recording with a blemish, and nothing of it can be trusted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..errors import DataError

SHARE_MAX: Final = 0.01
"""Most of the lines that may be damaged, unless the gate's settings say otherwise."""

FREE: Final = 3
"""Damaged lines that are let through in however short a recording: a killed recorder leaves one a file."""

_SURE: Final = 64
"""Damaged lines beyond what is let through so far after which nobody waits for the end of the files."""

DAMAGED_RULE: Final = "a line must be a message of the feed"
TWIN_MESSAGES: Final = 2
"""Messages of a name a letter away from a known one that are taken for damage; more are another name's."""

NEWER_BY_NS: Final = 10 * 10**9
_CONTRADICTIONS: Final = 8


class WrongRecording(DataError):
    """What the whole recording gets wrong, which leaving out one line would not mend."""


class Damage:
    """Counts the lines of one reading, and those among them that could not be read.

    Parameters
    ----------
    share_max : float
        Most of the lines that may be damaged, beside the first `FREE`.

    Attributes
    ----------
    lines, damaged : int
    first : DataError or None
        What is wrong with the first damaged line.
    """

    def __init__(self, share_max: float = SHARE_MAX) -> None:
        self.lines = self.damaged = 0
        self.first: DataError | None = None
        self._share_max = share_max

    def take(self, error: DataError) -> None:
        """Count a damaged line.

        Raises
        ------
        DataError
            There are far too many already.
        """
        self.damaged += 1
        self.first = self.first or error
        self._require(at_most=self._let_through() + _SURE)

    def settle(self) -> None:
        """Judge the whole reading.

        Raises
        ------
        DataError
            More lines are damaged than are let through.
        """
        self._require(at_most=self._let_through())

    def _let_through(self) -> int:
        return max(FREE, int(self._share_max * self.lines))

    def _require(self, *, at_most: int) -> None:
        if self.first is not None and self.damaged > at_most:
            raise DataError(
                f"at most {self._share_max:.4g} of the lines may be damaged, "
                f"was {self.damaged:,} of {self.lines:,} "
                "(damaged_share in a gate's settings lets more through); this is the first: "
                f"{self.first.rule}",
                path=self.first.path,
                row=self.first.row,
            )


class Twins:
    """Tells a word that damage made of a known one from another word: such a one is seldom seen again.

    Parameters
    ----------
    known : iterable of str
        What this reader takes.
    others : iterable of str
        Words that are known to be others.
    """

    def __init__(self, known: Iterable[str], others: Iterable[str] = ()) -> None:
        self._known, self._others = frozenset(known), frozenset(others)
        self._seen: Counter[str] = Counter()

    def require_other(self, word: str, *, path: Path, row: int) -> None:
        """Refuse a damaged word.

        Raises
        ------
        DataError
            It is a letter away from a known one, and new.
        """
        if word in self._known or word in self._others:
            return
        known = next((known for known in self._known if is_twin(word, known)), None)
        if known is None:
            return
        self._seen[word] += 1
        if self._seen[word] <= TWIN_MESSAGES:
            raise DataError(f"expected {known} or another word, was {word!r}", path=path, row=row)


def is_twin(word: str, other: str) -> bool:
    """Tell whether one letter was replaced."""
    return len(word) == len(other) and sum(a != b for a, b in zip(word, other, strict=True)) == 1


class WildNumber:
    """Notices that the feed's own number was taken from a damaged line and was far too large.

    All that comes behind is then old by its number, and yet newer by the venue's clock.
    """

    def __init__(self) -> None:
        self._taken_ns = 0
        self._contradictions = 0

    def taken(self, ts_ns: int) -> None:
        """Note that a message followed."""
        self._taken_ns, self._contradictions = ts_ns, 0

    def refused(self, ts_ns: int) -> bool:
        """Note a message that is old by its number; tell whether to believe its clock instead."""
        self._contradictions += ts_ns > self._taken_ns + NEWER_BY_NS
        return self._contradictions >= _CONTRADICTIONS

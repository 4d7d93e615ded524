"""The venue's clocks of one feed's streams: they never run backwards, and one damaged stamp moves none.

A stamp that lies far ahead would raise all that come behind it. So one that jumps is compared with those of
the lines behind: where they go on before it, its own line is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..errors import DataError
from ..quarantine import LeftOut

JUMP_NS: Final = 60 * 10**9
"""A step ahead that is looked into; silences are longer."""
_WITNESSES: Final = 2


class StreamClocks:
    """The latest time of each stream.

    Parameters
    ----------
    left : LeftOut

    Attributes
    ----------
    ahead : callable
        Returns the next times of a stream; the loop over the lines sets it.
    """

    def __init__(self, left: LeftOut) -> None:
        self._left = left
        self._reached_ns: dict[str, int] = {}
        self.ahead: Callable[[str], Sequence[int]] = lambda stream: ()

    def reached(self, stream: str) -> int:
        """Return the latest time of a stream, 0 before its first."""
        return self._reached_ns.get(stream, 0)

    def latest(self) -> int:
        """Return the latest time of all streams, 0 before the first."""
        return max(self._reached_ns.values(), default=0)

    def reach(self, stream: str, ts_ns: int, *, path: Path, row: int, expected_late: bool = False) -> int:
        """Return a time that is not before those of its stream.

        Raises
        ------
        DataError
            The lines behind go on before it.
        """
        reached_ns = self._reached_ns.get(stream, 0)
        if ts_ns > reached_ns + JUMP_NS:
            behind = self.ahead(stream)
            before = sum(other < ts_ns - JUMP_NS for other in behind)
            if before >= _WITNESSES and before * 2 > len(behind):
                raise DataError(
                    f"time must not run {JUMP_NS // 10**9} s ahead of the lines behind, was {ts_ns} ns",
                    path=path,
                    row=row,
                )
        elif ts_ns < reached_ns and not expected_late:
            self._left.pass_over(f"{stream} times that ran backwards, raised to the time before")
        self._reached_ns[stream] = max(reached_ns, ts_ns)
        return self._reached_ns[stream]

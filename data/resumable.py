"""Event sources that can be entered at a place where they have been before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Place = dict[str, Any]
"""What a source needs to find a place in itself again, and what stands there: JSON."""

Marked = tuple[NDArray[np.void], Place | None]
"""Events, and the place behind them; None where the source cannot be entered."""


@runtime_checkable
class Resumable(Protocol):
    """An event source that can be entered at a place it has been before."""

    def marked_blocks(self, place: Place | None = None) -> Iterator[Marked]:
        """Yield blocks from a place on, each with the place behind it.

        What comes must be what would come without stopping there, and so must the source's notes be.
        """


class PiecewiseSource(ABC):
    """A resumable source that tells its events in pieces of any size."""

    @abstractmethod
    def _pieces(self, place: Place | None, block_events: int) -> Iterator[Marked]:
        """Yield the events from a place on; none has to be as long as a block."""

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield events in order."""
        return (block for block, _ in self.marked_blocks(block_events=block_events))

    def marked_blocks(self, place: Place | None = None, *, block_events: int = 65_536) -> Iterator[Marked]:
        """Yield events from a place on, each block with the place behind it."""
        return in_marked_blocks(self._pieces(place, block_events), block_events)


def in_marked_blocks(pieces: Iterable[Marked], block_events: int) -> Iterator[Marked]:
    """Join small arrays until they reach about `block_events`.

    A block ends early at a place that the next array has none behind.
    """
    held: list[NDArray[np.void]] = []
    count = 0
    place: Place | None = None
    for piece, behind in pieces:
        # Only here: an empty piece may still tell the place behind what is held.
        if len(piece) and held and (count >= block_events or (place is not None and behind is None)):
            yield _joined(held), place
            held, count = [], 0
        if len(piece):
            held.append(piece)
            count += len(piece)
        place = behind
    if held:
        yield _joined(held), place


def _joined(held: list[NDArray[np.void]]) -> NDArray[np.void]:
    return held[0] if len(held) == 1 else np.concatenate(held)

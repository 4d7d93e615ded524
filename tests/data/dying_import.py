"""An import that is killed half-way: ``python dying_import.py STORE RECORDING BLOCKS FEED``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dying_writer import ACME, DAY_NS, steady_events

from data.errors import DataError
from data.import_job import ImportOptions, import_events
from data.store import TickStore


class Feed:
    """A made-up recording: blocks of one endless feed over three days, which may break off."""

    notes: tuple[str, ...] = ()
    source = "made up"
    data_hash = "0" * 64
    instrument = ACME

    def __init__(self, *, dies_after: int | None = None, breaks_after: int | None = None) -> None:
        self.dies_after, self.breaks_after = dies_after, breaks_after
        self.events = steady_events(3_000, first=0, step_ns=DAY_NS // 1_000)

    def blocks(self, block_events: int = 100) -> Iterator[np.ndarray]:
        return self._from(0)

    def _from(self, block: int) -> Iterator[np.ndarray]:
        for number, first in enumerate(range(0, len(self.events), 100)):
            if number < block:
                continue
            if number == self.dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self.breaks_after:
                raise DataError("expected more, was the end", path="made up", row=first)
            yield self.events[first : first + 100].copy()


class MarkedFeed(Feed):
    """A feed that can be entered at any block; it notes where it was."""

    entered: int | None = None

    def marked_blocks(
        self, place: dict[str, Any] | None = None
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        self.entered = 0 if place is None else place["block"]
        for number, block in enumerate(self._from(self.entered), self.entered + 1):
            yield block, {"block": number}


FEEDS = {feed.__name__: feed for feed in (Feed, MarkedFeed)}

if __name__ == "__main__":
    import_events(
        TickStore(sys.argv[1]),
        FEEDS[sys.argv[4]](dies_after=int(sys.argv[3])),
        paths=[Path(sys.argv[2])],
        options=ImportOptions(venue="V", part_events=400),
    )

"""Merging the feeds of several venues into one stream by time, without reordering any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ext.merge import EventMerge

from .schema import EVENT_DTYPE

_STREAMS_MAX: Final = 64


def merge_feeds(
    feeds: Sequence[Iterator[NDArray[np.void]]], block_events: int = 65_536
) -> Iterator[NDArray[np.void]]:
    """Yield blocks in order of ts_ns, then venue_id, then feed, then each feed's own order.

    Parameters
    ----------
    feeds : sequence of iterators of arrays of EVENT_DTYPE
        Each in order of ts_ns. Sequence numbers of different feeds are not compared: recordings number
        their files apart.
    block_events : int
        Length of the blocks but the last, where there is more than one feed.

    Raises
    ------
    ValueError
        Time runs back within a feed.
    """
    if len(feeds) == 1:
        yield from feeds[0]
        return
    if len(feeds) > _STREAMS_MAX:
        groups = [feeds[first : first + _STREAMS_MAX] for first in range(0, len(feeds), _STREAMS_MAX)]
        yield from merge_feeds([merge_feeds(group, block_events) for group in groups], block_events)
        return
    merge = EventMerge(max(1, len(feeds)), by_seq=False)
    block, filled = np.empty(block_events, EVENT_DTYPE), 0
    while True:
        for stream in merge.dry:
            _supply(merge, stream, feeds)
        filled += merge.take(block, filled)
        if filled == block_events:
            yield block
            block, filled = np.empty(block_events, EVENT_DTYPE), 0
        elif not merge.dry:
            break
    if filled:
        yield block[:filled]


def _supply(merge: EventMerge, stream: int, feeds: Sequence[Iterator[NDArray[np.void]]]) -> None:
    """Give a dry stream its feed's next events, or close it."""
    for events in feeds[stream] if stream < len(feeds) else ():
        if len(events):
            merge.refill(stream, np.ascontiguousarray(events))
            return
    merge.close(stream)

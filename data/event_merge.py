"""Merging the feeds of several venues into one stream by time, without reordering any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def merge_feeds(feeds: Sequence[Iterator[NDArray[np.void]]]) -> Iterator[NDArray[np.void]]:
    """Yield blocks in order of ts_ns, then venue_id, then each feed's own order.

    Parameters
    ----------
    feeds : sequence of iterators of arrays of EVENT_DTYPE
        Each in order of ts_ns.
    """
    if len(feeds) == 1:
        yield from feeds[0]
        return
    open_feeds: list[Iterator[NDArray[np.void]] | None] = list(feeds)
    held: list[NDArray[np.void]] = []
    for first in feeds:
        held.append(next(first, np.empty(0, np.void)))
    for place, block in enumerate(held):
        if len(block) == 0:
            open_feeds[place] = None
    while any(feed is not None for feed in open_feeds):
        # Nothing before the earliest end of a block can still arrive; an event at that very instant can.
        ends = [int(held[place]["ts_ns"][-1]) for place, feed in enumerate(open_feeds) if feed is not None]
        horizon_ns = min(ends)
        ready = []
        for place, block in enumerate(held):
            if len(block) == 0:
                continue
            cut = int(np.searchsorted(block["ts_ns"], horizon_ns))
            ready.append(block[:cut])
            held[place] = block[cut:]
        if any(map(len, ready)):
            yield _sorted(ready)
        for place, feed in enumerate(open_feeds):
            if feed is None or int(held[place]["ts_ns"][-1]) > horizon_ns:
                continue
            more = next(feed, None)
            if more is None:
                open_feeds[place] = None
            elif len(more):
                held[place] = np.concatenate((held[place], more)) if len(held[place]) else more
    rest = [block for block in held if len(block)]
    if rest:
        yield _sorted(rest)


def _sorted(blocks: list[NDArray[np.void]]) -> NDArray[np.void]:
    joined = np.concatenate([block for block in blocks if len(block)])
    # lexsort is stable: events of one feed at one instant keep their order.
    merged: NDArray[np.void] = joined[np.lexsort((joined["venue_id"], joined["ts_ns"]))]
    return merged

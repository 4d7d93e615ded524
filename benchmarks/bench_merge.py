"""Streams of several venues into one by time, against numpy's stable sort of everything at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.schema import EVENT_DTYPE
from ext.merge import EventMerge

from .harness import Bench, scenario

OUT_EVENTS = 65_536


def split_streams(count: int, streams: int, *, seed: int) -> list[NDArray[np.void]]:
    """Return events dealt to venues at random, one stream each."""
    random = np.random.default_rng([seed, streams])
    events = np.zeros(count, EVENT_DTYPE)
    events["ts_ns"] = np.cumsum(random.integers(0, 100, count))
    events["venue_id"], events["seq"] = random.integers(0, streams, count), np.arange(count)
    return [np.ascontiguousarray(events[events["venue_id"] == venue]) for venue in range(streams)]


@scenario(
    "merge",
    "merge of 2, 8 and 16 streams by time, venue and sequence",
    conditions="events dealt to streams at random, copied into one reused block, one thread; "
    "floor: the copy alone; peer: numpy, concatenate and lexsort.",
)
def merge(bench: Bench) -> None:
    count = bench.parameter("events", smoke=3_000, full=2_000_000)
    out = np.zeros(OUT_EVENTS, EVENT_DTYPE)
    for streams in (2, 8, 16):
        parts = split_streams(count, streams, seed=bench.seed)
        joined = np.concatenate(parts)
        wanted = joined[np.lexsort((joined["venue_id"], joined["ts_ns"]))]
        found: list[int] = []

        def work(parts: list[NDArray[np.void]] = parts, found: list[int] = found) -> None:
            merging = EventMerge(len(parts))
            for stream, part in enumerate(parts):
                merging.refill(stream, part)
            found.clear()
            while merging.dry or len(found) == 0 or found[-1] > 0:
                for stream in merging.dry:
                    merging.close(stream)
                found.append(merging.take(out))

        def copy(joined: NDArray[np.void] = joined) -> None:
            for first in range(0, count, OUT_EVENTS):
                piece = joined[first : first + OUT_EVENTS].view(np.uint8)
                out.view(np.uint8)[: len(piece)] = piece

        def sort(parts: list[NDArray[np.void]] = parts) -> None:
            every = np.concatenate(parts)
            every[np.lexsort((every["venue_id"], every["ts_ns"]))]

        bench.throughput(
            f"{streams} streams, event", work, count=count, floor=copy, peer=sort, peer_name="numpy"
        )
        bench.verify(sum(found) == count, "every event came out")
        bench.verify(
            merged_whole(parts, count).tobytes() == wanted.tobytes(), "the order is numpy's stable one"
        )


def merged_whole(parts: list[NDArray[np.void]], count: int) -> NDArray[np.void]:
    """Return all events of the streams in one array."""
    merging, whole, filled = EventMerge(len(parts)), np.zeros(count, EVENT_DTYPE), 0
    for stream, part in enumerate(parts):
        merging.refill(stream, part)
    while filled < count:
        filled += merging.take(whole, filled)
        for stream in merging.dry:
            merging.close(stream)
    return whole

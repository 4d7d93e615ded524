"""The merge against numpy's stable sort of everything at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.event_merge import merge_feeds
from data.schema import EVENT_DTYPE
from ext.merge import EventMerge

FAR = (0, 1, 2, 3, 1 << 40, (1 << 58) - 64, 1 << 58, 1 << 61)
EDGES = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)

# Few distinct times, so that most instants hold events of several streams.
rows = st.lists(st.tuples(st.sampled_from(FAR), st.integers(0, 3), st.integers(0, 4)), max_size=12)
streams = st.lists(rows, min_size=1, max_size=9)


def stream_of(found: list[tuple[int, int, int]]) -> NDArray[np.void]:
    events = np.zeros(len(found), EVENT_DTYPE)
    for place, (gap, venue, seq) in enumerate(found):
        events[place]["ts_ns"] = gap
        events[place]["venue_id"], events[place]["seq"] = venue, seq
    events["ts_ns"] = np.sort(events["ts_ns"])
    return events


def merged(parts: list[NDArray[np.void]], *, cut: int, by_seq: bool = True) -> NDArray[np.void]:
    """Feed the merge `cut` events at a time."""
    merge, found = EventMerge(len(parts), by_seq=by_seq), []
    given_of = [0] * len(parts)
    while True:
        for stream in merge.dry:
            piece = parts[stream][given_of[stream] : given_of[stream] + cut]
            given_of[stream] += len(piece)
            merge.refill(stream, piece) if len(piece) else merge.close(stream)
        out = np.zeros(5, EVENT_DTYPE)
        taken = merge.take(out)
        found.append(out[:taken])
        if taken == 0 and not merge.dry:
            return np.concatenate(found)


def expected(parts: list[NDArray[np.void]], *, by_seq: bool = True) -> list[tuple[int, ...]]:
    """Pick the smallest head again and again: streams keep their own order, whatever their numbers."""
    heads, found = [0] * len(parts), []
    while True:
        waiting = [
            (
                int(parts[stream][head]["ts_ns"]),
                int(parts[stream][head]["venue_id"]),
                int(parts[stream][head]["seq"]) if by_seq else 0,
                stream,
            )
            for stream, head in enumerate(heads)
            if head < len(parts[stream])
        ]
        if not waiting:
            return found
        stream = min(waiting)[3]
        found.append(parts[stream][heads[stream]].item())
        heads[stream] += 1


@settings(max_examples=200)
@given(found=streams, cut=st.integers(1, 13), by_seq=st.booleans())
def test_any_streams_merge_like_picking_the_smallest_head(
    found: list[list[tuple[int, int, int]]], cut: int, by_seq: bool
) -> None:
    parts = [stream_of(entry) for entry in found]
    assert merged(parts, cut=cut, by_seq=by_seq).tolist() == expected(parts, by_seq=by_seq)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16, 17, 64])
def test_venues_merge_like_a_stable_sort(count: int) -> None:
    random = np.random.default_rng(count)
    events = np.zeros(20_000, EVENT_DTYPE)
    events["ts_ns"] = np.sort(random.integers(0, 9_000, 20_000))
    events["venue_id"], events["seq"] = random.integers(0, count, 20_000), np.arange(20_000)
    parts = [np.ascontiguousarray(events[events["venue_id"] == venue]) for venue in range(count)]
    order = np.lexsort((events["seq"], events["venue_id"], events["ts_ns"]))
    assert merged(parts, cut=1_000).tobytes() == events[order].tobytes()
    feeds = [iter(np.array_split(part, 3)) for part in parts]
    assert np.concatenate(list(merge_feeds(feeds, 777))).tobytes() == events[order].tobytes()


def test_times_at_both_ends_of_their_range_merge() -> None:
    parts = [np.zeros(2, EVENT_DTYPE), np.zeros(2, EVENT_DTYPE), np.zeros(1, EVENT_DTYPE)]
    parts[0]["ts_ns"], parts[1]["ts_ns"], parts[2]["ts_ns"] = EDGES, (EDGES[0], 0), EDGES[1]
    found = merged(parts, cut=1)
    assert found["ts_ns"].tolist() == [EDGES[0], EDGES[0], 0, EDGES[1], EDGES[1]]


def test_a_dry_stream_stops_the_merge_until_it_is_refilled_or_closed() -> None:
    merge, out = EventMerge(2), np.zeros(10, EVENT_DTYPE)
    early, late = stream_of([(1, 0, 0), (2, 0, 0)]), stream_of([(3, 1, 0)])
    assert merge.take(out) == 0
    merge.refill(0, early)
    assert merge.take(out) == 0
    assert merge.dry == (1,)
    merge.refill(1, late)
    assert merge.take(out) == 2
    assert merge.dry == (0,)
    merge.close(0)
    assert merge.take(out) == 1
    merge.close(1)
    assert merge.take(out) == 0
    assert merge.dry == ()


def test_more_feeds_than_streams_merge_in_groups() -> None:
    parts = [stream_of([(1, venue % 4, 0), (3, venue % 4, 0)]) for venue in range(130)]
    found = np.concatenate(list(merge_feeds([iter([part]) for part in parts])))
    assert found["ts_ns"].tolist() == [1] * 130 + [3] * 130
    assert list(merge_feeds([])) == []


def test_misuse_is_refused() -> None:
    merge = EventMerge(1)
    with pytest.raises(ValueError, match="1 to 64"):
        EventMerge(65)
    with pytest.raises(ValueError, match="must not run back, did 1 times"):
        merge.refill(0, stream_of([(1, 0, 0), (2, 0, 0)])[::-1].copy())
    merge.refill(0, stream_of([(2, 0, 0)]))
    with pytest.raises(ValueError, match="must be dry"):
        merge.refill(0, stream_of([(2, 0, 0)]))
    with pytest.raises(ValueError, match="below 1"):
        merge.close(1)
    assert merge.take(np.zeros(3, EVENT_DTYPE)) == 1
    with pytest.raises(ValueError, match="must not run back"):
        merge.refill(0, stream_of([(1, 0, 0)]))
    with pytest.raises(ValueError, match="writable"):
        merge.take(np.zeros(3, EVENT_DTYPE), 4)

"""The ring against a deque, at its edges, and between two threads."""

from __future__ import annotations

from collections import deque
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.schema import EVENT_DTYPE, ORDER_DTYPE
from ext.ring_buffer import BroadcastRing, MpscRing, SpscRing
from ext.ring_ends import RingConsumer, RingProducer
from ext.ring_handle import RingHandle, SoleProducerRing
from ext.ring_memory import RingMemory


def numbered(first: int, count: int) -> np.ndarray[Any, Any]:
    """Return events whose every byte follows from their number, so that a torn copy shows."""
    array = np.zeros(count, EVENT_DTYPE)
    array["order_id"] = np.arange(first, first + count, dtype=np.uint64)
    array["ts_ns"] = array["order_id"] * 3
    array["seq"] = array["order_id"] & 0xFFFFFFFF
    array["_reserved"] = array["order_id"] & 0xFFFF
    return array


@pytest.mark.parametrize("capacity", [0, -1, 3, 1_000])
def test_capacity_must_be_a_power_of_two(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"power of two, was {capacity}"):
        SpscRing(capacity)


def test_a_full_ring_refuses_then_drains_in_order() -> None:
    ring = SpscRing(8)
    assert ring.try_push(numbered(0, 5)) == 5
    assert ring.try_push(numbered(5, 5)) == 3
    assert ring.try_push(numbered(8, 1)) == 0
    assert len(ring) == 8
    assert ring.pop(100).tolist() == numbered(0, 8).tolist()
    assert (len(ring), ring.pop(1).size, ring.pop(0).size) == (0, 0, 0)


def test_drained_needs_both_closed_and_empty() -> None:
    ring = SpscRing(4)
    ring.try_push(numbered(0, 1))
    assert (ring.closed, ring.drained) == (False, False)
    ring.close()
    ring.close()
    assert (ring.closed, ring.drained) == (True, False)
    ring.pop(1)
    assert ring.drained
    with pytest.raises(ValueError, match="closed"):
        ring.try_push(numbered(1, 1))


@settings(deadline=None)
@given(
    capacity=st.sampled_from([1, 2, 8, 64]),
    first_cursor=st.sampled_from([0, 1, 2**63 - 3, 2**64 - 3, 2**64 - 1]),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 70)), max_size=60),
    mode=st.sampled_from(["index", "stamped"]),
)
def test_the_ring_is_a_bounded_deque(
    capacity: int, first_cursor: int, steps: list[tuple[bool, int]], mode: Any
) -> None:
    ring = SpscRing(capacity, first_cursor=first_cursor, mode=mode)
    model: deque[int] = deque()
    pushed = 0
    for is_push, count in steps:
        if is_push:
            taken = ring.try_push(numbered(pushed, count))
            assert taken == min(count, capacity - len(model))
            model.extend(range(pushed, pushed + taken))
            pushed += taken
        else:
            expected = [model.popleft() for _ in range(min(count, len(model)))]
            popped = ring.pop(count)
            assert popped["order_id"].tolist() == expected
            if expected:
                assert popped.tolist() == numbered(expected[0], len(expected)).tolist()
        assert len(ring) == len(model)


@pytest.mark.parametrize(("capacity", "batch", "count"), [(1, 1, 400), (8, 3, 3_000), (1_024, 700, 400_000)])
@pytest.mark.parametrize("mode", ["index", "stamped"])
def test_two_threads_see_every_event_once_and_in_order(
    mode: Any, capacity: int, batch: int, count: int
) -> None:
    source = numbered(0, count)
    # Sleeping, so that two spinning threads do not fight for one interpreter lock.
    ring = SpscRing(capacity, mode=mode, when_full="block", wait="block", first_cursor=2**64 - count // 2)

    def produce() -> None:
        for first in range(0, count, batch):
            ring.push(source[first : first + batch])
        ring.close()

    producer = Thread(target=produce)
    producer.start()
    runs = []
    while ring.wait():
        runs.append(ring.pop(capacity))
    producer.join()
    assert ring.drained
    assert np.array_equal(np.concatenate(runs), source)


@settings(deadline=None)
@given(
    capacity=st.sampled_from([1, 2, 4, 16]),
    first_cursor=st.sampled_from([0, 2**63 - 3, 2**64 - 3]),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=40),
)
def test_a_dropping_ring_keeps_the_latest_and_counts_the_rest(
    capacity: int, first_cursor: int, steps: list[tuple[bool, int]]
) -> None:
    ring = SpscRing(capacity, when_full="drop-oldest", first_cursor=first_cursor)
    model: deque[int] = deque(maxlen=capacity)
    pushed = taken = 0
    for is_push, count in steps:
        if is_push:
            assert ring.try_push(numbered(pushed, count)) == count
            model.extend(range(pushed, pushed + count))
            pushed += count
        else:
            expected = [model.popleft() for _ in range(min(count, len(model)))]
            popped = ring.pop(count)
            assert popped["order_id"].tolist() == expected
            taken += len(expected)
            if expected:
                assert ring.lost == expected[-1] + 1 - taken
    rest = ring.pop(capacity)
    assert ring.lost + taken + len(rest) == pushed


def test_a_refusing_ring_counts_and_a_blocking_one_gives_up_in_time() -> None:
    ring = SpscRing(4)
    assert ring.push(numbered(0, 6)) == 4
    assert (ring.refused, ring.held, ring.lost) == (2, 1, 0)
    for wait in ("spin", "yield", "block"):
        ring = SpscRing(4, when_full="block", wait=wait)  # type: ignore[arg-type]
        assert ring.push(numbered(0, 6), timeout_s=0) == 4
        assert ring.push(numbered(4, 6), timeout_s=1e-3) == 0
        assert (ring.refused, ring.held) == (2 + 6, 2)
        assert ring.wait(timeout_s=0)
        assert ring.pop(9)["order_id"].tolist() == [0, 1, 2, 3]
        assert not ring.wait(timeout_s=1e-3)
        with pytest.raises(ValueError, match="timeout_s must not be negative"):
            ring.push(numbered(0, 6), timeout_s=-1)
        assert len(ring) == 0


def test_every_consumer_of_a_broadcast_ring_sees_everything_since_it_joined() -> None:
    ring = BroadcastRing(8, consumers_max=2)
    assert ring.try_push(numbered(0, 20)) == 20, "nobody is there to wait for"
    first = ring.subscribe()
    assert ring.try_push(numbered(20, 4)) == 4
    second = ring.subscribe()
    with pytest.raises(OSError, match="all 2 places"):
        ring.subscribe()
    assert ring.try_push(numbered(24, 8)) == 4, "the slowest has four waiting"
    assert ring.consumers == ((True, 8, 1, 0), (True, 4, 0, 0))
    assert first.pop(99)["order_id"].tolist() == list(range(20, 28))
    assert second.pop(2)["order_id"].tolist() == [24, 25]
    ring.close()
    assert (first.drained, second.drained) == (True, False)
    second.close()
    with pytest.raises(ValueError, match="has left"):
        second.pop(1)
    assert [entry[0] for entry in ring.consumers] == [True, False]


def test_a_dropping_broadcast_ring_waits_for_nobody() -> None:
    ring = BroadcastRing(8, when_full="drop-oldest")
    quick, slow = ring.subscribe(), ring.subscribe()
    seen = []
    for first in range(0, 40, 8):
        assert ring.push(numbered(first, 8)) == 8
        seen += quick.pop(8)["order_id"].tolist()
    assert (seen, quick.lost) == (list(range(40)), 0)
    assert slow.pop(99)["order_id"].tolist() == list(range(32, 40))
    assert slow.lost == 32


def test_many_producers_keep_their_own_order() -> None:
    count, producer_count = 3_000, 3
    ring = MpscRing(64, producers_max=producer_count, when_full="block", wait="block")
    ends = [ring.producer() for _ in range(producer_count)]
    with pytest.raises(OSError, match="all 3 producers"):
        ring.producer()

    def produce(end: RingProducer, venue_id: int) -> None:
        events = numbered(0, count)
        events["venue_id"] = venue_id
        for first in range(0, count, 50):
            end.push(events[first : first + 50])
        end.close()

    threads = [Thread(target=produce, args=pair) for pair in zip(ends, range(producer_count), strict=True)]
    for thread in threads:
        thread.start()
    runs = []
    while not ring.drained:
        ring.wait(timeout_s=1)
        runs.append(ring.pop(100))
    for thread in threads:
        thread.join()
    events = np.concatenate(runs)
    for venue_id in range(producer_count):
        own = events[events["venue_id"] == venue_id]["order_id"]
        assert own.tolist() == list(range(count))
    with pytest.raises(ValueError, match="closed producer"):
        ends[0].push(numbered(0, 1))
    assert ring.producer().try_push(numbered(0, 1)) == 1


def test_parameters_are_checked_by_name() -> None:
    for bad in ({"mode": "x"}, {"when_full": "drop"}, {"wait": "sleep"}, {"role": "both"}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be one of|role must be"):
            SpscRing(8, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stamped ring cannot drop"):
        SpscRing(8, mode="stamped", when_full="drop-oldest")
    with pytest.raises(ValueError, match="consumers must be 1 to 64"):
        BroadcastRing(8, consumers_max=65)
    with pytest.raises(ValueError, match="whole words"):
        SpscRing(8, dtype=np.dtype("<i4"))
    with pytest.raises(ValueError, match="not be negative"):
        SpscRing(8).wait(timeout_s=-1)
    with pytest.raises(ValueError, match="comes from"):
        SpscRing(RingMemory.__new__(RingMemory))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="comes from"):
        RingProducer.__new__(RingProducer).push(numbered(0, 1))
    with pytest.raises(ValueError, match="comes from"):
        len(RingConsumer.__new__(RingConsumer))


def test_other_records_than_events_travel_too() -> None:
    orders = np.zeros(5, ORDER_DTYPE)
    orders["client_order_id"] = np.arange(5)
    for mode in ("index", "stamped"):
        ring = SpscRing(4, dtype=ORDER_DTYPE, mode=mode)  # type: ignore[arg-type]
        assert ring.try_push(orders) == 4
        assert ring.pop(9).tolist() == orders[:4].tolist()
        with pytest.raises(TypeError, match="records must have dtype"):
            ring.try_push(numbered(0, 1))


def test_bad_arrays_are_refused_by_rule() -> None:
    ring = SpscRing(8)
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        ring.try_push(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="contiguous"):
        ring.try_push(numbered(0, 4)[::2])
    with pytest.raises(ValueError, match="not be negative, was -1"):
        ring.pop(-1)
    assert len(ring) == 0


@pytest.mark.parametrize("base", [RingHandle, SoleProducerRing])
def test_what_rings_have_in_common_is_no_ring(base: type) -> None:
    with pytest.raises(TypeError, match="make an SpscRing"):
        base()

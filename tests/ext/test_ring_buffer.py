"""The ring against a deque, at its edges, and between two threads."""

from __future__ import annotations

from collections import deque
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.schema import EVENT_DTYPE
from ext.ring_buffer import SpscRing


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
)
def test_the_ring_is_a_bounded_deque(capacity: int, first_cursor: int, steps: list[tuple[bool, int]]) -> None:
    ring = SpscRing(capacity, first_cursor=first_cursor)
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


@pytest.mark.parametrize(
    ("capacity", "batch", "count"), [(1, 1, 400), (8, 3, 6_000), (1_024, 700, 1_000_000)]
)
def test_two_threads_see_every_event_once_and_in_order(capacity: int, batch: int, count: int) -> None:
    source = numbered(0, count)
    ring = SpscRing(capacity, first_cursor=2**64 - count // 2)

    def produce() -> None:
        sent = 0
        while sent < count:
            sent += ring.try_push(source[sent : sent + batch])
        ring.close()

    producer = Thread(target=produce)
    producer.start()
    runs = []
    while not ring.drained:
        runs.append(ring.pop(capacity))
    producer.join()
    assert np.array_equal(np.concatenate(runs), source)


def test_bad_arrays_are_refused_by_rule() -> None:
    ring = SpscRing(8)
    with pytest.raises(TypeError, match="EVENT_DTYPE"):
        ring.try_push(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="contiguous"):
        ring.try_push(numbered(0, 4)[::2])
    with pytest.raises(ValueError, match="not be negative, was -1"):
        ring.pop(-1)
    assert len(ring) == 0

"""A receive clock behind the venue's is moved as a whole, and order is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from data.errors import ConfigError
from data.receive_clock import ReceiveClock, correct_receive_clock, measure_receive_clock
from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED


def events_of(ts_ns: NDArray[np.int64], latency_ns: NDArray[np.int64]) -> NDArray[np.void]:
    events = np.zeros(len(ts_ns), EVENT_DTYPE)
    events["ts_ns"], events["recv_ns"] = ts_ns, ts_ns + latency_ns
    return events


latencies = arrays(np.int64, st.integers(1, 40), elements=st.integers(-(2 * 10**9), 2 * 10**9))


@given(latencies, st.integers(0, 10**9), st.integers(1, 7))
def test_no_latency_is_below_the_floor_and_gaps_between_receipts_stay(
    latency_ns: NDArray[np.int64], floor_ns: int, block: int
) -> None:
    events = events_of(np.arange(len(latency_ns)) * 1_000_000, latency_ns)
    blocks = [events[start : start + block] for start in range(0, len(events), block)]
    clock = measure_receive_clock(blocks)
    corrected = np.concatenate(
        list(correct_receive_clock(blocks, shift_ns=clock.shift_ns, floor_ns=floor_ns))
    )
    found = corrected["recv_ns"] - corrected["ts_ns"]
    assert (found >= floor_ns).all()
    assert (np.diff(corrected["recv_ns"]) == np.diff(events["recv_ns"])).all()
    for name in EVENT_DTYPE.names or ():
        assert name == "recv_ns" or (corrected[name] == events[name]).all()
    assert clock.negative == (latency_ns < 0).sum()


def test_a_shift_that_is_too_small_raises_what_is_left() -> None:
    events = events_of(np.array([0, 10, 20]), np.array([-5, -50, 3]))
    (corrected,) = correct_receive_clock([events], shift_ns=5)
    assert corrected["recv_ns"].tolist() == [0, 10, 28]


def test_receipts_that_were_not_recorded_stay_so() -> None:
    events = events_of(np.array([5, 10]), np.array([-1, 0]))
    events["recv_ns"][1] = RECV_NOT_RECORDED
    clock = measure_receive_clock([events])
    assert (clock.events, clock.recorded, clock.negative, clock.shift_ns) == (2, 1, 1, 1)
    (corrected,) = correct_receive_clock([events], shift_ns=1)
    assert corrected["recv_ns"].tolist() == [5, RECV_NOT_RECORDED]
    assert str(measure_receive_clock([events[1:]])) == "receipt is not recorded"


def test_a_clock_in_front_is_left_alone() -> None:
    clock = measure_receive_clock([events_of(np.array([0, 5]), np.array([7, 9]))])
    assert clock == ReceiveClock(events=2, recorded=2, latency_ns_min=7, latency_ns_max=9)
    assert clock.shift_ns == 0


def test_receipts_out_of_order_are_counted_across_blocks() -> None:
    events = events_of(np.array([0, 10, 20]), np.array([15, 0, 0]))
    assert measure_receive_clock([events[:1], events[1:]]).backwards == 1


def test_a_negative_floor_is_refused() -> None:
    with pytest.raises(ConfigError, match="must not be negative, was -1"):
        list(correct_receive_clock([], shift_ns=0, floor_ns=-1))

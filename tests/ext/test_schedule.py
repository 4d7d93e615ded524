"""The agenda against `sorted`, which is stable: equal times leave in the order they came."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ext.schedule import Schedule

INT64 = 2**63

items = st.lists(st.tuples(st.integers(-3, 3) | st.integers(-INT64, INT64 - 1), st.integers(0, 2**64 - 1)))


@given(items=items)
def test_items_leave_by_time_and_ties_by_entry(items: list[tuple[int, int]]) -> None:
    assert Schedule().drain_order(items) == sorted(items, key=lambda item: item[0])


@given(rounds=st.lists(items, max_size=4))
def test_an_emptied_agenda_starts_again(rounds: list[list[tuple[int, int]]]) -> None:
    schedule = Schedule()
    for items in rounds:
        assert schedule.drain_order(items) == sorted(items, key=lambda item: item[0])
        assert (schedule.count, schedule.next_ns) == (0, INT64 - 1)


def test_it_grows_beyond_its_first_thousand_and_keeps_the_order() -> None:
    times = np.random.default_rng(3).integers(0, 500, 10_000).tolist()
    items = list(zip(times, range(len(times)), strict=True))
    assert Schedule().drain_order(items) == sorted(items)

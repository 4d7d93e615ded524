"""However much falls due between two events, it is journaled, and the same as with room to spare."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_engine import FIRST_DAY, INSTRUMENT, LIMITS, PROMPT, Quote, execute, parents, quote_events

from engine.risk import make_gate
from ext.event_loop import EventLoop
from ext.executor import ParentExecutor
from ext.journal import JournalBuffer
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing
from ext.routing import ProRataRouter, SweepRouter
from ext.sim_venue import SimulatedVenue

SMALLEST = 1 << 14
HUGE = 1 << 19
SPARSE_SECONDS = 540.0


def sparse(count: int, *, gap: float = SPARSE_SECONDS) -> list[Quote]:
    """Two venues that quote minutes apart, within what counts as an open market."""
    return [(index * gap, index % 2, 1_000, 10**6, 1_010, 10**6) for index in range(count)]


def many(count: int, *, from_second: float, length: float, slices: int) -> NDArray[np.void]:
    """Parents that arrive a tenth of a second apart."""
    rows = [
        (from_second + 0.1 * index, from_second + 0.1 * index + length, 1 - 2 * (index % 2), 1_000, slices)
        for index in range(count)
    ]
    return parents(*rows)


@settings(max_examples=8)
@given(
    count=st.integers(600, 1_000),
    slices=st.integers(4, 9),
    gap=st.sampled_from([60.0, SPARSE_SECONDS]),
    batch=st.sampled_from([1, 3, 512]),
    last_look=st.sampled_from([0.0, 0.5]),
)
def test_the_smallest_buffer_writes_the_journal_of_a_huge_one(
    count: int, slices: int, gap: float, batch: int, last_look: float
) -> None:
    plan = many(count, from_second=gap + 5.0, length=400.0, slices=slices)
    venues: list[dict[str, Any]] = [PROMPT | {"last_look": last_look, "order_latency_ns": 1_000_000}] * 2
    hashes = []
    with tempfile.TemporaryDirectory() as folder:
        for records, size in ((SMALLEST, batch), (HUGE, 64)):
            out = execute(
                Path(folder), ProRataRouter(), plan, sparse(round(1_600 / gap) + 3, gap=gap), venues=venues,
                journal_records=records, batch=size, use_signal=False,
            )  # fmt: skip
            hashes.append(out.sha256)
            assert len(out.journal.records) > SMALLEST
            assert out.loop.events == round(1_600 / gap) + 3
            assert out.agent.skipped == 0
    assert hashes[0] == hashes[1]


def crowded() -> tuple[EventLoop, JournalBuffer]:
    """A loop with 25,000 fills and more records due before its third event."""
    agent = ParentExecutor(
        SweepRouter(), many(1_000, from_second=SPARSE_SECONDS + 1, length=300.0, slices=25),
        first_day=FIRST_DAY, day_count=1, tick_value=INSTRUMENT.tick_value, run_id=1, use_signal=False,
    )  # fmt: skip
    buffer = JournalBuffer(SMALLEST, run_id=1)
    venues = [
        SimulatedVenue(PROMPT, venue_id=index, tick_value=0.01, seed=1, book=OrderBook(64, 64))
        for index in range(2)
    ]
    loop = EventLoop(
        ring=SpscRing(64), venues=venues, agent=agent, gate=make_gate(LIMITS, INSTRUMENT), journal=buffer
    )
    loop.configure(record_fills=True, equity_interval_ns=1_000_000_000)
    loop.ring.try_push(quote_events(sparse(3)))
    return loop, buffer


def test_every_fill_and_every_equity_sample_of_a_crowded_gap_is_kept() -> None:
    loop, buffer = crowded()
    fills = equity = 0
    turns = []
    while handled := loop.run():
        turns.append(handled)
        buffer.drain()
        fills += len(loop.take_fills())
        equity += len(loop.take_equity())
    assert len(turns) > 4
    assert loop.events == 3
    assert fills == loop.totals["fills"] == 25_000
    assert equity > 0


def test_run_says_that_it_waits_for_a_drain_and_refuses_to_be_called_without_one() -> None:
    loop, buffer = crowded()
    loop.run()
    assert loop.events == 2
    with pytest.raises(RuntimeError, match="drain"):
        loop.run()
    assert loop.events == 2
    assert not buffer.overflowed

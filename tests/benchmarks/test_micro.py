"""Single calls from Python under pytest-benchmark; without ``--benchmark-enable`` each runs once, as a test.

python -m pytest tests/benchmarks/test_micro.py --benchmark-enable
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from benchmarks.bench_matching import mixed_flow
from benchmarks.bench_model import trained_model
from benchmarks.flow import order_flow
from data.schema import EVENT_DTYPE, REPORT_DTYPE
from ext.histogram import Histogram
from ext.journal import JournalBuffer, crc32c
from ext.linucb import LinUcb
from ext.matching_engine import MatchingEngine
from ext.order_book import OrderBook
from ext.ring_buffer import SpscRing

Timed = Callable[..., Any]


def test_ring_push_and_pop(benchmark: Timed) -> None:
    ring, event = SpscRing(64), np.zeros(1, EVENT_DTYPE)

    def hop() -> int:
        ring.try_push(event)
        return len(ring.pop(1))

    assert benchmark(hop) == 1


@pytest.mark.parametrize("batch", [1, 16, 256])
def test_book_apply(benchmark: Timed, batch: int) -> None:
    book = OrderBook(4_096, 4_096)
    flow = order_flow(8_192, live=500, seed=1)
    parts = cycle([flow[first : first + batch] for first in range(0, len(flow), batch)])
    benchmark(lambda: book.apply(next(parts)))
    assert book.applied + book.unknown_orders + book.duplicate_orders > 0


def test_matching_submit_one(benchmark: Timed) -> None:
    filling, flow, _ = mixed_flow(1_000, 20_000, seed=1)
    engine, out = MatchingEngine(4_096, 65_536), np.empty(4_096, REPORT_DTYPE)
    engine.submit(filling)
    orders = cycle([flow[row : row + 1] for row in range(len(flow))])
    benchmark(lambda: engine.submit(next(orders), out))
    engine.verify()


def test_matching_limit_and_cancel(benchmark: Timed) -> None:
    engine = MatchingEngine(4_096, 65_536)
    engine.limit(1, 1, 1_000, 5)

    def rest_and_leave() -> None:
        engine.limit(2, 1, 999, 5)
        engine.cancel(2)

    benchmark(rest_and_leave)
    assert engine.live_orders == 1


@pytest.mark.parametrize(("arms", "size"), [(4, 8), (8, 16), (16, 64)])
def test_linucb_pull_and_update(benchmark: Timed, arms: int, size: int) -> None:
    bandit, context = LinUcb(arms, size), np.full(size, 0.1)

    def decide() -> None:
        bandit.update(bandit.pull(context), context, 0.5)

    benchmark(decide)
    assert bandit.updates > 0


def test_model_signal(benchmark: Timed) -> None:
    features, trained = trained_model(800, seed=1)
    row = np.ascontiguousarray(features[-1])
    assert -1.0 <= benchmark(lambda: trained.fp32.signal(row)) <= 1.0


def test_journal_append(benchmark: Timed) -> None:
    journal, payload = JournalBuffer(1 << 14, run_id=1), bytes(64)

    def append() -> None:
        journal.append(4, 1, payload)
        if journal.pending > 16_000:
            journal.drain()

    benchmark(append)
    assert journal.pending > 0 or crc32c(payload)


def test_histogram_add(benchmark: Timed) -> None:
    histogram = Histogram()
    benchmark(lambda: histogram.add(1_234))
    assert histogram.total > 0

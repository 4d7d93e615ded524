"""What works without the interpreter lock refuses a second thread instead of being wrong."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.replay_markets import level_market
from data.schema import EVENT_DTYPE
from ext.book_table import BookTable
from ext.event_loop import EventLoop
from ext.feature_set import FeatureSet
from ext.features import FEATURE_NAMES
from ext.journal import JournalBuffer
from ext.merge import EventMerge
from ext.order_book import OrderBook
from ext.replay import Replay
from ext.ring_buffer import SpscRing
from ext.risk_gate import RiskGate
from ext.sim_venue import SimulatedVenue
from ext.tick_path import Agent

ROUNDS_MAX = 2_000
NOTHING = np.zeros(0, EVENT_DTYPE)


def refusals(work: Callable[[], object], look: Callable[[], object]) -> int:
    """Let a thread work again and again until a look from this one was refused."""
    over = threading.Event()

    def labour() -> None:
        for _ in range(ROUNDS_MAX):
            if over.is_set():
                return
            # A look may be what is at work.
            with contextlib.suppress(RuntimeError):
                work()

    worker, refused = threading.Thread(target=labour), 0
    worker.start()
    while worker.is_alive() and not refused:
        try:
            look()
        except RuntimeError as error:
            refused += "is at work in another thread" in str(error)
        except ValueError:
            pass
    over.set()
    worker.join()
    return refused


@pytest.mark.parametrize("look", ["state_hash", "values", "fill", "apply", "apply_merged"])
def test_a_replay_refuses_a_second_thread(look: str) -> None:
    replay, merge = Replay(features=FeatureSet()), EventMerge(1)
    events, out = level_market(100_000, seed=1), np.zeros(len(FEATURE_NAMES), np.float32)
    looks: dict[str, Callable[[], object]] = {
        "state_hash": replay.state_hash,
        "values": replay.values,
        "fill": lambda: replay.fill(out),
        "apply": lambda: replay.apply(NOTHING),
        "apply_merged": lambda: replay.apply_merged(merge, 0),
    }
    assert refusals(lambda: replay.apply(events), looks[look])
    assert replay.apply(events) == len(events), "refused only while the other was at work"


@pytest.mark.parametrize("look", ["dry", "refill", "close", "take", "apply_merged"])
@pytest.mark.parametrize("into_replay", [False, True])
def test_a_merge_refuses_a_second_thread(look: str, into_replay: bool) -> None:
    merge, replay, other = EventMerge(1), Replay(), Replay()
    events, out = level_market(100_000, seed=1), np.zeros(100_000, EVENT_DTYPE)
    events["ts_ns"] = 0  # so that the same ones may follow themselves

    def work() -> None:
        if merge.dry:
            merge.refill(0, events)
        replay.apply_merged(merge, len(events)) if into_replay else merge.take(out)

    # A stream that does not exist: allowed to ask, and refused otherwise, it changes nothing.
    looks: dict[str, Callable[[], object]] = {
        "dry": lambda: merge.dry,
        "refill": lambda: merge.refill(1, NOTHING),
        "close": lambda: merge.close(1),
        "take": lambda: merge.take(NOTHING),
        "apply_merged": lambda: other.apply_merged(merge, 0),
    }
    assert refusals(work, looks[look])


@pytest.mark.parametrize(
    "look",
    [
        "state_hash",
        "snapshot",
        "restore",
        "apply",
        "time_events",
        "size_at",
        "depth_array",
        "depth_view",
        "queue_array",
        "order",
    ],
)
@pytest.mark.parametrize("owner", ["itself", "table", "replay"])
def test_a_book_refuses_a_second_thread(look: str, owner: str) -> None:
    table, replay = BookTable(), Replay()
    book = {"itself": OrderBook(), "table": table.book(0), "replay": replay.books[0]}[owner]
    events = level_market(100_000, seed=1)
    work: dict[str, Callable[[], object]] = {
        "itself": lambda: book.apply(events),
        "table": lambda: table.complete(events),
        "replay": lambda: replay.apply(events),
    }
    looks: dict[str, Callable[[], object]] = {
        "state_hash": book.state_hash,
        "snapshot": book.snapshot,
        "restore": lambda: book.restore(NOTHING),
        "apply": lambda: book.apply(NOTHING),
        "time_events": lambda: book.time_events(NOTHING),
        "size_at": lambda: book.size_at(1, 1),
        "depth_array": lambda: book.depth_array(1, 3),
        "depth_view": lambda: book.depth_view(1, 3),
        "queue_array": lambda: book.queue_array(1, 1),
        "order": lambda: book.order(1),
    }
    assert refusals(work[owner], looks[look])
    work[owner]()
    looks[look]()


def test_a_loop_refuses_a_second_thread() -> None:
    rules = {"order_latency_ns": 0, "ack_latency_ns": 0, "feed_latency_ns": 0}
    loop = EventLoop(
        ring=SpscRing(8),
        venues=[SimulatedVenue(rules, venue_id=0, tick_value=1.0, seed=1, book=OrderBook(8, 8))],
        agent=Agent(),
        gate=RiskGate(
            order_size_lots_max=1, price_band_ticks=1, position_lots_max=1, messages_per_second_max=1
        ),
        journal=JournalBuffer(1 << 14),
    )
    worker = threading.Thread(target=loop.run_live)
    loop.ring.try_push(np.zeros(1, EVENT_DTYPE))
    worker.start()
    while loop.events == 0:  # once it has taken one, it looks for more until the ring is closed
        pass
    try:
        for look in (loop.run, loop.run_live, loop.finish):
            with pytest.raises(RuntimeError, match="at work already"):
                look()
    finally:
        loop.ring.close()
        worker.join()
    assert loop.run() == 0
    assert loop.finish()

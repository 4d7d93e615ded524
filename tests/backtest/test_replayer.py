"""The replay's pipeline: nothing lost, nothing held, failures told, threads gone."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backtest.cli import main as entry
from backtest.replayer import BLOCKS_AHEAD, replay
from backtest.sources import ArraySource
from backtest.turns import short_turns
from benchmarks.replay_markets import level_market
from data.errors import ConfigError, DataError
from data.instrument import Instrument
from data.store import TickStore
from ext.order_book import OrderBook

EVENTS = level_market(10_000, seed=3)


class Watched(ArraySource):
    """Counts the blocks asked for, and may fail at one."""

    def __init__(self, events: NDArray[np.void], *, fail_at: int = -1) -> None:
        super().__init__(events)
        self.asked, self.closed, self._fail_at = 0, False, fail_at

    def blocks(self, block_events: int = 65_536) -> Iterator[NDArray[np.void]]:
        try:
            for block in super().blocks(block_events):
                if self.asked == self._fail_at:
                    raise DataError("a rule is broken", path="watched", row=self.asked)
                self.asked += 1
                yield block
        finally:
            self.closed = True


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name in ("reader", "memory")]


def book_hash(events: NDArray[np.void]) -> tuple[int, int, int]:
    book = OrderBook()
    book.apply(events)
    return book.state_hash(), book.bid_price_ticks, book.ask_price_ticks


@pytest.mark.parametrize("block_events", [1, 999, 100_000])
def test_the_books_end_as_if_the_events_had_come_at_once(block_events: int) -> None:
    events = EVENTS[:2_000]
    told: list[int] = []
    result = replay(events, features=("microprice",), block_events=block_events, progress=told.append)
    book = result.books[0]
    assert (book.state_hash(), book.bid_price_ticks, book.ask_price_ticks) == book_hash(events)
    assert result.events == len(events)
    assert list(result.features) == ["microprice"]
    assert told == sorted(told)


def test_a_limit_stops_the_reader_too() -> None:
    source = Watched(EVENTS)
    result = replay(source, limit=250, block_events=100)
    assert result.events == 250
    assert result.books[0].state_hash() == book_hash(EVENTS[:250])[0]
    assert source.closed
    assert source.asked <= 3 + BLOCKS_AHEAD + 1


def test_what_the_source_raises_reaches_the_caller() -> None:
    source = Watched(EVENTS, fail_at=7)
    with pytest.raises(DataError, match="watched:row 7: a rule is broken"):
        replay(source, block_events=100)
    assert source.closed


def test_a_failing_caller_stops_the_reader() -> None:
    source = Watched(np.concatenate((EVENTS, EVENTS[::-1])))
    with pytest.raises(DataError, match="must not run back"):
        replay(source, block_events=64)
    assert source.closed
    foreign = EVENTS.copy()
    foreign["venue_id"][5_000:] = 16
    with pytest.raises(DataError, match="below 16, was otherwise"):
        replay(foreign, block_events=100)


@pytest.mark.parametrize("block_events", [100, 6_000, 100_000])
def test_venues_may_speak_late_however_the_events_are_cut_into_blocks(block_events: int) -> None:
    late = EVENTS.copy()
    late["venue_id"][5_000::3] = 2
    result = replay(late, features=("microprice",), block_events=block_events)
    whole = replay(late, features=("microprice",))
    assert (result.state_hash, result.features) == (whole.state_hash, whole.features)
    assert len(result.books) == 3
    assert result.books[1].applied == 0
    assert result.state_hash != replay(EVENTS).state_hash


def test_a_limit_or_block_below_one_is_refused() -> None:
    for options in ({"limit": 0}, {"limit": -5}, {"block_events": 0}):
        with pytest.raises(ConfigError, match="must be at least 1"):
            replay(EVENTS, **options)


def test_overlapping_uses_put_the_switch_interval_back() -> None:
    usual = sys.getswitchinterval()
    first, second = short_turns(), short_turns()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() < usual
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == usual


def test_a_store_replays_like_its_events_with_and_without_the_packed_cache(tmp_path: Path) -> None:
    store, parts = TickStore(tmp_path / "store"), []
    for venue_id, venue in enumerate(("A", "B", "C")):
        part = level_market(3_000, seed=6, venue=venue_id)
        store.write([part], instrument=Instrument(symbol="TEST"), venue=venue)
        parts.append(part)
    joined = np.concatenate(parts)
    expected = replay(joined[np.lexsort((joined["venue_id"], joined["ts_ns"]))])
    parquet = replay(tmp_path / "store", block_events=500)
    store.build_cache()
    packed = replay(tmp_path / "store")
    assert expected.state_hash == parquet.state_hash == packed.state_hash
    assert expected.events == parquet.events == packed.events == 9_000


def test_the_command_prints_chosen_features_and_refuses_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "ticks.npy", EVENTS[:3_000])
    path = str(tmp_path / "ticks.npy")
    assert entry.main(["replay", path, "--json", "--features", "spread_ratio,imbalance_5"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = replay(EVENTS[:3_000], features=("spread_ratio", "imbalance_5"))
    assert found["features"] == wanted.features
    assert found["state_hash"] == wanted.state_hash
    assert found["peak_bytes"] > 0
    assert entry.main(["replay", path, "--features", "all", "--quiet"]) == 0
    assert "realised_volatility" in capsys.readouterr().out
    for names in ("nonsense", "microprice,microprice", "queue_ahead_bid", ""):
        assert entry.main(["replay", path, "--features", names]) == 2
    assert sorted(left.name for left in tmp_path.iterdir()) == ["ticks.npy"]

"""The replay against each venue's own book, and the chosen features against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.replay_markets import level_market, order_market
from data.schema import EVENT_DTYPE, EventKind
from ext.feature_set import ALL_FEATURE_NAMES, BOOK_FEATURE_NAMES, FeatureSet
from ext.features import FEATURE_NAMES
from ext.merge import EventMerge
from ext.order_book import OrderBook
from ext.replay import Replay
from tests.reference.features import ReferenceFeatures, Touch, level_imbalance

OF_THE_MARKET = ALL_FEATURE_NAMES[: -len(("queue_ahead_bid", "queue_ahead_ask"))]


def venues(count: int, events: int = 6_000) -> list[NDArray[np.void]]:
    """By level and by order in turn, with some prints."""
    found = []
    for venue in range(count):
        make = order_market if venue % 2 else level_market
        part = make(events, seed=5, venue=venue)
        prints = np.random.default_rng(venue).random(events) < 0.05
        part["kind"][prints & (part["kind"] == EventKind.LEVEL)] = EventKind.TRADE
        found.append(part)
    return found


def in_order(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    joined = np.concatenate(parts)
    return joined[np.lexsort((joined["venue_id"], joined["ts_ns"]))]


def through_merge(replay: Replay, parts: list[NDArray[np.void]], *, turn: int) -> None:
    merge = EventMerge(len(parts))
    for stream, part in enumerate(parts):
        merge.refill(stream, part)
    while replay.apply_merged(merge, turn) or merge.dry:
        for stream in merge.dry:
            merge.close(stream)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_merged_streams_leave_the_books_of_each_venue_alone(count: int) -> None:
    parts = venues(count)
    once, cut, merged = (Replay(count, features=FeatureSet(OF_THE_MARKET)) for _ in range(3))
    events = in_order(parts)
    assert once.apply(events) == len(events)
    for piece in np.array_split(events, 37):
        cut.apply(piece)
    through_merge(merged, parts, turn=1_001)
    for replay in (once, cut, merged):
        assert (replay.events, replay.foreign, replay.backwards) == (len(events), 0, 0)
        assert replay.stream_ns == events["ts_ns"][-1]
        assert replay.state_hash() == once.state_hash()
        assert replay.values().tobytes() == once.values().tobytes()
    for venue, part in enumerate(parts):
        alone = OrderBook()
        alone.apply(part)
        assert once.books[venue].state_hash() == alone.state_hash()


def test_features_change_no_book_and_are_not_kept_unasked() -> None:
    events = level_market(4_000, seed=2)
    plain, featured = Replay(), Replay(features=FeatureSet())
    plain.apply(events)
    featured.apply(events)
    assert plain.state_hash() == featured.state_hash()
    with pytest.raises(ValueError, match="made with features"):
        plain.values()


@pytest.mark.parametrize("count", [1, 3])
def test_every_chosen_feature_is_its_definition(count: int) -> None:
    parts = venues(count, 700)
    replay, reference = Replay(count, features=FeatureSet(OF_THE_MARKET)), ReferenceFeatures(count)
    books = [OrderBook() for _ in range(count)]
    for row, event in enumerate(in_order(parts)):
        one = np.array([event])
        replay.apply(one)
        book = books[event["venue_id"]]
        book.apply(one)
        if event["kind"] == EventKind.TRADE:
            reference.trade(int(event["side"]))
        else:
            touch = Touch(book.bid_price_ticks, book.bid_size_lots, book.ask_price_ticks, book.ask_size_lots)
            reference.update(int(event["venue_id"]), touch, int(event["ts_ns"]))
        if row % 97 == 0:
            wanted = reference.values() | reference.book_values()
            if reference.values():
                wanted |= {f"imbalance_{levels}": level_imbalance(books, levels) for levels in (5, 10)}
            found = dict(zip(OF_THE_MARKET, replay.values().tolist(), strict=True))
            for name, value in found.items():
                assert value == pytest.approx(wanted.get(name, 0.0), rel=3e-6, abs=3e-6), (row, name)


def test_features_are_written_in_the_order_chosen_into_the_array_given() -> None:
    names = ("imbalance_10", "microprice", "depletion_ask", "spread_ratio")
    some, every = Replay(features=FeatureSet(names)), Replay(features=FeatureSet(OF_THE_MARKET))
    for replay in (some, every):
        replay.apply(level_market(3_000, seed=4))
    tensor = np.zeros((2, 4), np.float32)
    some.fill(tensor[1])
    whole = dict(zip(OF_THE_MARKET, every.values().tolist(), strict=True))
    assert tensor[1].tolist() == [whole[name] for name in names]
    assert not tensor[0].any()
    for wrong in (np.zeros(3, np.float32), np.zeros(4), np.zeros(8, np.float32)[::2]):
        with pytest.raises(ValueError, match="float32 array of 4"):
            some.fill(wrong)


def test_a_market_that_stands_still_keeps_its_averages_off_subnormal_numbers() -> None:
    events = level_market(2, seed=1)
    events["size_lots"], events["price_ticks"] = 5, (99, 101)
    events["side"], events["kind"] = (1, -1), EventKind.LEVEL
    replay = Replay(features=FeatureSet(OF_THE_MARKET))
    replay.apply(events)
    still = np.repeat(events[1:], 1_000_000)
    replay.apply(still)
    found = dict(zip(OF_THE_MARKET, replay.values().tolist(), strict=True))
    assert found["realised_volatility"] == pytest.approx(0.0, abs=1e-30)
    assert found["flow_fast"] == pytest.approx(0.0, abs=1e-30)
    assert np.isfinite(list(found.values())).all()


def test_strangers_are_counted_and_left_out() -> None:
    events = np.concatenate((level_market(100, seed=1), level_market(100, seed=1, venue=3)))
    replay = Replay(2)
    replay.apply(events)
    assert (replay.events, replay.foreign, replay.backwards) == (200, 100, 1)
    assert replay.books[1].applied == 0


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        Replay(17)
    with pytest.raises(ValueError, match="nobody trades"):
        Replay(features=FeatureSet(BOOK_FEATURE_NAMES))
    with pytest.raises(ValueError, match="was nonsense"):
        FeatureSet(["nonsense"])
    with pytest.raises(ValueError, match="chosen once"):
        FeatureSet(["microprice", "microprice"])
    with pytest.raises(TypeError):
        Replay().apply(np.zeros(3))
    assert FeatureSet().names == FEATURE_NAMES
    assert Replay().apply(np.zeros(0, EVENT_DTYPE)) == 0
    assert Replay().apply_merged(EventMerge(1), 0) == 0

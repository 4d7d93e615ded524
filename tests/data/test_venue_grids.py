"""Venues that count in different units: each keeps its own, a stream has one for all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dying_writer import ACME, DAY_NS, START_NS, steady_events
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from signed_manifest import resign

from data.columns import PRICE_TICKS_MAX
from data.errors import ConfigError, DataError
from data.grid_factor import SAME_UNITS, Factor
from data.manifest import SYMBOL_VERSION
from data.reference import FeeSchedule
from data.schema import EVENT_DTYPE, QUOTE_DTYPE, EventFlag, EventKind
from data.store import TickStore
from data.venue_grids import common_unit, steps

COARSE = replace(ACME, price_increment=0.5, lot_size=0.1, tick_size_ticks=1, currency="EUR")
FINE = replace(ACME, price_increment=0.2, lot_size=0.01, tick_size_ticks=5)
INCREMENTS = st.integers(1, 400).flatmap(
    lambda digits: st.integers(0, 8).map(lambda decimals: float(f"{digits}e-{decimals}"))
)


def events_at(start_ns: int, *rows: tuple[int, int, int]) -> NDArray[np.void]:
    """Kind, price in ticks, size in lots of each event, one a packet."""
    events = np.zeros(len(rows), EVENT_DTYPE)
    events["ts_ns"] = start_ns + np.arange(len(rows))
    events["seq"] = np.arange(len(rows))
    events["flags"] = EventFlag.LAST_IN_PACKET
    for name, values in zip(("kind", "price_ticks", "size_lots"), zip(*rows, strict=True), strict=True):
        events[name] = values
    return events


def two_venues(root: Path) -> TickStore:
    store = TickStore(root)
    coarse = events_at(
        START_NS, (EventKind.LEVEL, 7, 3), (EventKind.STATUS, 0, -1), (EventKind.QUOTE, -9, 2),
        (EventKind.LEVEL, PRICE_TICKS_MAX - 1, 4), (EventKind.TRADE, 8, 5),
    )  # fmt: skip
    quotes = coarse.view(QUOTE_DTYPE)
    quotes["ask_price_ticks"][2], quotes["ask_size_lots"][2] = -8, 6
    store.write([coarse], instrument=COARSE, venue="EURO")
    store.write([events_at(START_NS + 9, (EventKind.TRADE, 20, 50))], instrument=FINE, venue="USA")
    store.set_fees(FeeSchedule(symbol="ACME", venue="EURO", taker_bps=3.0))
    return store


@pytest.mark.parametrize("cached", [False, True])
def test_a_stream_counts_all_venues_in_one_unit(tmp_path: Path, cached: bool) -> None:
    store = two_venues(tmp_path)
    if cached:
        store.build_cache()
    found = np.concatenate(list(store.stream()))
    common = store.instrument("ACME")
    # 0.5 and 0.2 are whole tenths, and an order at half a thousand million is beyond 30 bits of those.
    assert (common.price_increment, common.lot_size, common.tick_size_ticks) == (0.1, 0.01, 5)
    assert found["price_ticks"].tolist() == [35, 0, -45, 40, 40]
    assert found["size_lots"].tolist() == [30, -1, 20, 50, 50]
    quote = found.view(QUOTE_DTYPE)[2]
    assert (quote["ask_price_ticks"], quote["ask_size_lots"]) == (-40, 60)
    assert np.concatenate(list(store.stream(venues=["USA"])))["price_ticks"].tolist() == [40]


LOTS_MAX = ((1 << 63) - 1) // 10
ASK_LOTS_MAX = ((1 << 32) - 1) // 10
ASK_TICKS_MAX = ((1 << 31) - 1) // 5


@pytest.mark.parametrize(
    ("kind", "price", "size", "ask_price", "ask_size"),
    [
        (EventKind.TRADE, 1, LOTS_MAX, 0, 0),
        (EventKind.TRADE, 1, -LOTS_MAX, 0, 0),
        (EventKind.TRADE, PRICE_TICKS_MAX // 5, 1, 0, 0),
        (EventKind.QUOTE, 9, LOTS_MAX, 10, 1),
        (EventKind.QUOTE, 9, 1, ASK_TICKS_MAX, 1),
        (EventKind.QUOTE, 9, 1, -ASK_TICKS_MAX, 1),
        (EventKind.QUOTE, 9, 1, 10, ASK_LOTS_MAX),
    ],
)
def test_a_scan_and_a_stream_are_exact_up_to_the_limit_and_refuse_beyond(
    tmp_path: Path, kind: EventKind, price: int, size: int, ask_price: int, ask_size: int
) -> None:
    """EURO's ticks are five and its lots ten of the common ones."""
    told = [price, size, ask_price, ask_size]
    largest = int(np.argmax(np.abs([price * 2**32, size, ask_price * 2**31, ask_size * 2**30])))
    for beyond in (False, True):
        store = TickStore(tmp_path / str(beyond))
        told[largest] += beyond * (1 if told[largest] > 0 else -1)
        events = events_at(START_NS, (kind, told[0], told[1]))
        if kind == EventKind.QUOTE:
            quotes = events.view(QUOTE_DTYPE)
            quotes["ask_price_ticks"], quotes["ask_size_lots"] = told[2:]
        store.write([events], instrument=COARSE, venue="EURO")
        store.write([events_at(START_NS + 9, (EventKind.TRADE, 20, 50))], instrument=FINE, venue="USA")
        if not beyond:
            found = np.concatenate(list(store.stream()))[:1]
            ask = found.view(QUOTE_DTYPE)
            assert [found["price_ticks"][0], found["size_lots"][0]] == [5 * told[0], 10 * told[1]]
            if kind == EventKind.QUOTE:
                assert [ask["ask_price_ticks"][0], ask["ask_size_lots"][0]] == [5 * told[2], 10 * told[3]]
            frame = store.scan(venues=["EURO"]).collect()
            for name in ("price_ticks", "size_lots", "order_id"):
                assert frame[name].to_list() == found[name].tolist()
            continue
        rule = (
            r"^ACME at EURO, read on one grid with EURO \(ticks of 0.5, lots of 0.1\), USA \(ticks of 0.2, "
            r"lots of 0.01\): events must fit .* 5 ticks and 10 lots"
        )
        for read in (lambda store: list(store.stream()), lambda store: store.scan().collect()):
            with pytest.raises(ConfigError, match=rule):
                read(store)


EDGES = (
    0,
    1,
    -1,
    7,
    1 << 29,
    PRICE_TICKS_MAX,
    PRICE_TICKS_MAX + 1,
    -PRICE_TICKS_MAX - 1,
    1 - (1 << 31),
    -(1 << 31),
)
ROWS = st.tuples(
    st.sampled_from(EventKind), st.sampled_from(EDGES), st.sampled_from([*EDGES, LOTS_MAX, -(1 << 63)]),
    st.sampled_from([7, 1 << 63, (1 << 64) - 1, (9 << 32) + 3, (1 << 32) - 4]),
)  # fmt: skip


@given(
    st.lists(ROWS, min_size=1, max_size=5),
    st.sampled_from([1, 2, 10, 3 * 10**9]),
    st.sampled_from([1, 5, 1 << 33, 1 << 62]),
)
def test_arrays_and_queries_leave_out_and_refuse_the_same(
    rows: list[tuple[int, int, int, int]], price: int, size: int
) -> None:
    events = events_at(START_NS, *(row[:3] for row in rows))
    events["order_id"] = [row[3] for row in rows]
    names = ["kind", "price_ticks", "size_lots", "order_id"]
    factor = Factor(price, size, at="here")
    query = factor.scan(pl.LazyFrame({name: events[name] for name in names}))
    try:
        found = factor.apply(events)
    except ConfigError:
        with pytest.raises(ConfigError, match="here: events must fit"):
            query.collect()
        return
    told = query.collect()
    for name in names:
        assert told[name].to_list() == found[name].tolist()


@pytest.mark.parametrize("size", [1 << 62, 10**30])
def test_a_factor_that_no_type_holds_lets_only_nothing_through(size: int) -> None:
    events = events_at(START_NS, (EventKind.TRADE, 0, 0), (EventKind.STATUS, 0, -1))
    factor = Factor(size, size, at="here")
    assert factor.apply(events).tobytes() == events.tobytes()
    events["size_lots"][0] = 2
    with pytest.raises(ConfigError, match="here: events must fit"):
        factor.apply(events)


def test_a_scan_says_what_a_stream_says_and_files_keep_their_own(tmp_path: Path) -> None:
    store = two_venues(tmp_path)
    found = np.concatenate(list(store.stream()))
    frame = store.scan().sort("ts_ns").collect()
    for name in ("price_ticks", "size_lots", "order_id", "kind"):
        assert frame[name].to_list() == found[name].tolist()
    parts = {part.venue: part for part in store.partitions()}
    with store.snapshot() as snapshot:
        own = np.concatenate(list(snapshot.read(parts["EURO"])))
    assert own["price_ticks"].tolist() == [7, 0, -9, PRICE_TICKS_MAX - 1, 8]


def test_each_venue_keeps_its_tick_currency_and_fees(tmp_path: Path) -> None:
    store = two_venues(tmp_path)
    euro, usa = (store.instrument("ACME", venue=venue) for venue in ("EURO", "USA"))
    assert (euro.currency, euro.tick_size_ticks, euro.price_increment) == ("EUR", 5, 0.1)
    assert (usa.currency, usa.tick_size_ticks, usa.price_increment) == ("USD", 10, 0.1)
    assert store.manifest().listings["ACME", "EURO"] == (COARSE,)
    assert store.fees("ACME", "USA", day=date(2011, 1, 26)) is None
    assert store.fees("ACME", "EURO", day=date(2011, 1, 26)) is not None
    with pytest.raises(DataError, match="expected one of the venues"):
        store.instrument("ACME", venue="MOON")


def test_a_description_may_hold_at_one_venue(tmp_path: Path) -> None:
    store = two_venues(tmp_path)
    later = replace(COARSE, tick_size_ticks=3, currency="CHF", valid_from=date(2012, 1, 1))
    store.describe(later, venue="EURO")
    assert store.instrument("ACME", venue="EURO", day=date(2011, 6, 1)).tick_size_ticks == 5
    assert store.instrument("ACME", venue="EURO", day=date(2012, 6, 1)).tick_size_ticks == 15
    assert store.instrument("ACME", venue="USA", day=date(2012, 6, 1)).tick_size_ticks == 10
    with pytest.raises(ConfigError, match=r"price_increment must be 0\.5"):
        store.describe(FINE, venue="EURO")
    with pytest.raises(ConfigError, match="price_increment must be 0"):
        store.describe(FINE)


def test_venues_that_are_not_worth_the_same_are_read_apart(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    store.write([steady_events(5, first=0)], instrument=ACME, venue="SPOT")
    store.write([steady_events(5, first=0)], instrument=replace(ACME, multiplier=100.0), venue="PERP")
    with pytest.raises(ConfigError, match=r"multiplier must be the same .* 1\.0 at SPOT and 100\.0 at PERP"):
        list(store.stream())
    with pytest.raises(ConfigError, match="read them apart"):
        store.instrument("ACME")
    assert sum(map(len, store.stream(venues=["PERP"]))) == 5
    assert store.instrument("ACME", venue="PERP").multiplier == 100.0


def test_a_store_described_by_symbol_is_read_and_the_next_commit_describes_venues(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    for venue in ("V", "W"):
        store.write([steady_events(20, first=0)], instrument=ACME, venue=venue)
    before = [block.tobytes() for block in store.stream()]
    path = tmp_path / "manifest.json"
    stored = json.loads(path.read_text())
    del stored["listings"]
    resign(path, stored | {"schema_version": SYMBOL_VERSION})
    store = TickStore(tmp_path)
    assert store.manifest().listings == {("ACME", "V"): (ACME,), ("ACME", "W"): (ACME,)}
    assert [block.tobytes() for block in store.stream()] == before
    finer = replace(ACME, price_increment=ACME.price_increment / 10)
    store.write([steady_events(3, first=0)], instrument=finer, venue="X")
    stored = json.loads(path.read_text())
    assert [(entry["symbol"], entry["venue"]) for entry in stored["listings"]] == [
        ("ACME", "V"), ("ACME", "W"), ("ACME", "X"),
    ]  # fmt: skip
    stored["listings"].pop()
    resign(path, stored)
    with pytest.raises(DataError, match=r"expected ACME/X to be described"):
        store.manifest()


def test_a_change_of_the_common_grid_is_not_streamed_across(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    finer = replace(FINE, price_increment=0.1, valid_from=date(2011, 1, 27))
    for day, instrument in ((0, FINE), (2, finer)):
        events = events_at(START_NS + day * DAY_NS, (EventKind.TRADE, 20, 50))
        store.write([events], instrument=COARSE, venue="EURO")
        if day:
            store.describe(finer, venue="USA")
        store.write([events], instrument=instrument, venue="USA")
    # 0.5 and 0.2 were tenths all along.
    assert np.concatenate(list(store.stream()))["price_ticks"].tolist() == [100, 40, 100, 20]
    store.describe(replace(COARSE, price_increment=0.25, valid_from=date(2012, 1, 1)), venue="EURO")
    later = events_at(START_NS + 400 * DAY_NS, (EventKind.TRADE, 20, 50))
    store.write([later], instrument=finer, venue="USA")
    with pytest.raises(ConfigError, match="price_increment must not change within one stream"):
        list(store.stream())
    assert sum(map(len, store.stream(stop_ns=START_NS + 3 * DAY_NS))) == 4


def test_what_does_not_fit_the_common_grid_is_refused_by_venue(tmp_path: Path) -> None:
    for row in ((EventKind.TRADE, PRICE_TICKS_MAX, 1), (EventKind.TRADE, 1, 1 << 62)):
        with pytest.raises(
            ConfigError, match=r"^EURO: events must fit the grid common to all venues, 10 ticks"
        ):
            Factor(10, 10, at="EURO").apply(events_at(START_NS, row))


def test_a_packet_that_loses_its_end_ends_before(tmp_path: Path) -> None:
    events = events_at(START_NS, *[(EventKind.LEVEL, price, 1) for price in (1, PRICE_TICKS_MAX, 2)])
    events["flags"] = [0, EventFlag.LAST_IN_PACKET, EventFlag.LAST_IN_PACKET]
    found = Factor(2, 1).apply(events)
    assert found["flags"].tolist() == [1, 1]
    assert events["price_ticks"].tolist() == [1, PRICE_TICKS_MAX, 2]
    assert SAME_UNITS.apply(events) is events


@given(st.lists(INCREMENTS, min_size=1, max_size=4))
def test_the_common_unit_is_the_largest_of_which_all_are_multiples(increments: list[float]) -> None:
    unit = common_unit(increments)
    found = [steps(increment, unit) for increment in increments]
    assert [Fraction(repr(unit)) * count for count in found] == [Fraction(repr(one)) for one in increments]
    assert np.gcd.reduce(found) == 1

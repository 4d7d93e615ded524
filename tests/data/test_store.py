"""The tick store: what is written comes back, in order, whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_manifest import resign

from data.errors import AnytickError, ConfigError, DataError
from data.event_merge import merge_feeds
from data.instrument import Instrument
from data.schema import EVENT_DTYPE
from data.store import TickStore

DAY_NS = 86_400 * 10**9
START_NS = 15_000 * DAY_NS
ACME = Instrument(symbol="ACME", instrument_id=7, price_increment=0.0001)


def random_events(count: int, *, seed: int, days: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    for name in EVENT_DTYPE.names or ():
        kind = np.iinfo(EVENT_DTYPE[name])
        events[name] = draw.integers(kind.min, kind.max, count, EVENT_DTYPE[name], endpoint=True)
    events["ts_ns"] = np.sort(draw.integers(START_NS, START_NS + days * DAY_NS, count))
    events["_reserved"] = 0
    return events


def stamped(events: np.ndarray, venue_id: int) -> np.ndarray:
    out = events.copy()
    out["instrument_id"], out["venue_id"] = ACME.instrument_id, venue_id
    return out


def test_events_come_back_bit_for_bit_by_day(tmp_path: Path) -> None:
    events = random_events(5_000, seed=1)
    store = TickStore(tmp_path / "store")
    written = store.write(iter(np.array_split(events, 17)), instrument=ACME, venue="XNAS")
    assert [partition.day for partition in written] == ["2011-01-26", "2011-01-27", "2011-01-28"]
    assert np.concatenate(list(store.stream())).tobytes() == stamped(events, 0).tobytes()
    assert store.instrument() == ACME
    assert store.verify() == ()


@settings(max_examples=25, deadline=None)
@given(low=st.integers(-1, 4 * 24), span=st.integers(0, 80))
def test_a_window_selects_exactly_its_events(
    tmp_path_factory: pytest.TempPathFactory, low: int, span: int
) -> None:
    events = random_events(600, seed=2)
    store = TickStore(tmp_path_factory.mktemp("window"))
    store.write([events], instrument=ACME, venue="XNAS")
    start_ns, stop_ns = (START_NS + hour * DAY_NS // 24 for hour in (low, low + span))
    blocks = list(store.stream(start_ns=start_ns, stop_ns=stop_ns, block_events=50))
    found = np.concatenate(blocks) if blocks else np.empty(0, EVENT_DTYPE)
    inside = (events["ts_ns"] >= start_ns) & (events["ts_ns"] < stop_ns)
    assert found.tobytes() == stamped(events[inside], 0).tobytes()


def test_venues_merge_by_time_then_venue_without_reordering_a_feed(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    feeds = []
    for venue_id, venue in enumerate(("A", "B", "C")):
        events = random_events(700, seed=venue_id, days=1)
        # Coarse times: most instants hold events of every venue.
        events["ts_ns"] -= events["ts_ns"] % (DAY_NS // 50)
        events["seq"] = np.arange(700)
        store.write([events], instrument=ACME, venue=venue)
        feeds.append(stamped(events, venue_id))
    merged = np.concatenate(list(store.stream(block_events=64)))
    joined = np.concatenate(feeds)
    expected = joined[np.lexsort((joined["seq"], joined["venue_id"], joined["ts_ns"]))]
    assert merged.tobytes() == expected.tobytes()
    assert np.concatenate(list(store.stream(venues=["B"]))).tobytes() == feeds[1].tobytes()


def test_merging_survives_empty_and_one_instant_feeds() -> None:
    still = np.zeros(10, EVENT_DTYPE)
    feeds = [iter([still[:4], still[4:]]), iter([]), iter([still[:3]])]
    assert sum(map(len, merge_feeds(feeds))) == 13


def test_any_polars_user_can_read_it(tmp_path: Path) -> None:
    events = random_events(1_000, seed=3)
    store = TickStore(tmp_path)
    store.write([events], instrument=ACME, venue="XNAS")
    frame = store.scan(instrument="ACME").collect()
    assert frame["price_ticks"].to_list() == events["price_ticks"].tolist()
    assert frame["venue"].unique().to_list() == ["XNAS"]
    without_us = pl.scan_parquet(tmp_path / "**/*.parquet", hive_partitioning=True).collect()
    assert without_us.sort("ts_ns")["order_id"].to_list() == events["order_id"].tolist()


def test_a_day_is_written_once_unless_overwritten(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    store.write([random_events(100, seed=1, days=1)], instrument=ACME, venue="XNAS")
    other = random_events(50, seed=2, days=2)
    with pytest.raises(ConfigError, match="ACME/XNAS/2011-01-26 is in the store"):
        store.write([other], instrument=ACME, venue="XNAS")
    assert sum(map(len, store.stream())) == 100
    store.write([other], instrument=ACME, venue="XNAS", overwrite=True)
    assert sum(map(len, store.stream())) == 50
    assert store.verify() == ()


def test_a_damaged_day_can_be_deleted(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    store.write([random_events(900, seed=3)], instrument=ACME, venue="A")
    first, *others = store.partitions()
    first.path(tmp_path).write_bytes(b"nothing that Parquet knows")
    assert store.delete(instrument="ACME", stop_ns=others[0].first_ts_ns) == first.rows
    assert store.partitions() == tuple(others)
    assert store.verify() == ()


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    store, events = TickStore(tmp_path), random_events(300, seed=1)

    def breaks_off():  # type: ignore[no-untyped-def]
        yield events[:200]
        raise DataError("torn", path="somewhere", row=200)

    with pytest.raises(DataError, match="torn"):
        store.write(breaks_off(), instrument=ACME, venue="XNAS")
    backwards = events[::-1].copy()
    with pytest.raises(DataError, match="events must be in order of time"):
        store.write([backwards], instrument=ACME, venue="XNAS")
    assert not list(tmp_path.glob("**/*date=*"))
    assert store.partitions() == ()


def test_what_the_manifest_does_not_list_does_not_exist(tmp_path: Path) -> None:
    """A process killed between the renames and the manifest leaves files that nobody reads."""
    store, events = TickStore(tmp_path), random_events(300, seed=1)
    store.write([events], instrument=ACME, venue="XNAS")
    before = (tmp_path / "manifest.json").read_bytes()
    later = events.copy()
    later["ts_ns"] += 5 * DAY_NS
    store.write([later], instrument=ACME, venue="XNAS")
    (tmp_path / "manifest.json").write_bytes(before)
    assert np.concatenate(list(store.stream())).tobytes() == stamped(events, 0).tobytes()
    store.write([later], instrument=ACME, venue="XNAS")
    assert sum(map(len, store.stream())) == 600


@pytest.mark.parametrize("seed", range(3))
def test_any_damaged_byte_is_named_by_verify_and_never_half_read(tmp_path: Path, seed: int) -> None:
    events, draw = random_events(2_000, seed=1, days=1), np.random.default_rng(seed)
    store = TickStore(tmp_path)
    (partition,) = store.write([events], instrument=ACME, venue="XNAS")
    path = partition.path(tmp_path)
    whole = path.read_bytes()
    for place in draw.integers(0, len(whole), 40).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        (found,) = store.verify()
        assert str(path) in found
        try:
            for block in store.stream():
                assert len(block)
        except DataError:
            pass
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"date=2011-01-26\.parquet: expected .* bytes"):
        list(store.stream())
    path.unlink()
    assert "no file" in store.verify()[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: stored.update(schema_version=99),
        lambda stored: stored.pop("venues"),
        lambda stored: stored["partitions"].update(instruments=["../../etc"]),
        lambda stored: stored["partitions"].update(instruments=["OTHER"]),
        lambda stored: stored["partitions"].update(instruments=[]),
        lambda stored: stored["partitions"].update(files=stored["partitions"]["files"][4:]),
        lambda stored: stored["partitions"].update(files="not base 64"),
        lambda stored: stored["partitions"].update(groups=""),
        lambda stored: stored.update(partitions=[]),
        lambda stored: stored["instruments"]["ACME"][0].update(lot_size=-1),
        lambda stored: stored["instruments"].update(ACME=[]),
        lambda stored: stored["instruments"]["ACME"][0].update(symbol={}),
        lambda stored: stored.update(renames=[{"old": [], "new": "ACME", "first_day": "2020-01-01"}]),
    ],
)
def test_a_hostile_manifest_is_refused(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    store = TickStore(tmp_path)
    store.write([random_events(10, seed=1, days=1)], instrument=ACME, venue="XNAS")
    path = tmp_path / "manifest.json"
    stored = json.loads(path.read_text())
    change(stored)
    resign(path, stored)
    with pytest.raises(DataError, match=r"manifest\.json"):
        store.verify()


def test_names_and_grids_are_guarded(tmp_path: Path) -> None:
    store, events = TickStore(tmp_path), random_events(10, seed=1, days=1)
    for symbol, venue in (("../x", "V"), ("X", "a/b"), ("", "V"), (".hidden", "V")):
        with pytest.raises(AnytickError):
            store.write([events], instrument=Instrument(symbol=symbol), venue=venue)
    store.write([events], instrument=ACME, venue="XNAS")
    with pytest.raises(ConfigError, match=r"price_increment must be 0\.0001"):
        store.write(
            [events], instrument=Instrument(symbol="ACME", instrument_id=7), venue="XNAS", append=True
        )
    with pytest.raises(ConfigError, match="instrument_id must be 7"):
        store.write([events], instrument=Instrument(symbol="ACME", instrument_id=8), venue="ARCX")
    with pytest.raises(DataError, match=r"expected one of the instruments \['ACME'\]"):
        store.instrument("NOPE")

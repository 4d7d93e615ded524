"""What a store knows of instruments by date, and who else can read it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from dying_writer import ACME, DAY_NS, START_NS, steady_events

from data import partition_file
from data.errors import ConfigError, DataError
from data.reference import FeeSchedule, Rename, names_of, with_version
from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED
from data.store import TickStore

FIRST_DAY = date(2011, 1, 26)


def test_a_later_version_cuts_the_earlier_one() -> None:
    later = replace(ACME, tick_size_ticks=5, valid_from=date(2012, 1, 1))
    versions = with_version((ACME,), later)
    assert [(entry.tick_size_ticks, entry.valid_until) for entry in versions] == [
        (1, date(2011, 12, 31)),
        (5, date(9999, 12, 31)),
    ]
    between = replace(ACME, tick_size_ticks=9, valid_from=date(2011, 6, 1), valid_until=date(2012, 6, 1))
    spans = [(entry.tick_size_ticks, str(entry.valid_from)) for entry in with_version(versions, between)]
    assert spans == [(1, "1970-01-01"), (9, "2011-06-01"), (5, "2012-06-02")]


def test_descriptions_fees_and_names_are_kept_by_date(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    store.write([steady_events(10, first=0)], instrument=ACME, venue="V")
    store.describe(replace(ACME, tick_size_ticks=5, valid_from=date(2012, 1, 1)))
    assert store.instrument("ACME", day=FIRST_DAY).tick_size_ticks == 1
    assert store.instrument("ACME", day=date(2013, 1, 1)).tick_size_ticks == 5
    store.set_fees(FeeSchedule(symbol="ACME", venue="V", taker_bps=3.0))
    store.set_fees(FeeSchedule(symbol="ACME", venue="V", taker_bps=2.0, valid_from=date(2012, 1, 1)))
    for day, taker_bps in ((FIRST_DAY, 3.0), (date(2012, 5, 5), 2.0)):
        fees = store.fees("ACME", "V", day=day)
        assert fees is not None
        assert fees.taker_bps == taker_bps
    assert store.fees("ACME", "W", day=FIRST_DAY) is None


def test_a_grid_under_stored_events_cannot_change_and_no_stream_mixes_two(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    store.write([steady_events(10, first=0)], instrument=ACME, venue="V")
    finer = replace(ACME, price_increment=0.001, valid_from=date(2011, 1, 27))
    with pytest.raises(ConfigError, match="price_increment must be"):
        store.describe(replace(finer, valid_from=FIRST_DAY))
    store.describe(finer)
    late = steady_events(10, first=0)
    late["ts_ns"] += 3 * DAY_NS
    with pytest.raises(ConfigError, match="price_increment must be"):
        store.write([late], instrument=ACME, venue="V")
    store.write([late], instrument=finer, venue="V")
    with pytest.raises(ConfigError, match="must not change within one stream"):
        list(store.stream())
    assert sum(map(len, store.stream(stop_ns=START_NS + DAY_NS))) == 10
    assert sum(map(len, store.stream(start_ns=START_NS + DAY_NS))) == 10


def test_a_new_symbol_reads_the_old_one_before_the_change(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    for symbol, days in (("FB", (0, 1)), ("META", (1, 2))):
        for day in days:
            events = steady_events(5, first=100 * day)
            events["ts_ns"] += day * DAY_NS
            store.write([events], instrument=replace(ACME, symbol=symbol), venue="V")
    with pytest.raises(ConfigError, match="NONE must be in the store"):
        store.rename("NONE", "META", first_day=FIRST_DAY)
    store.rename("FB", "META", first_day=date(2011, 1, 27))
    found = np.concatenate(list(store.stream(instrument="META")))
    assert found["seq"].tolist() == [*range(5), *range(100, 105), *range(200, 205)]
    assert np.concatenate(list(store.stream(instrument="FB"))).size == 10
    assert names_of("A", [Rename(old="B", new="A", first_day=FIRST_DAY)])[0] == (
        "B", date(1970, 1, 1), date(2011, 1, 25),
    )  # fmt: skip


@pytest.fixture(params=["recorded", "not recorded"])
def two_part_store(tmp_path: Path, request: pytest.FixtureRequest) -> TickStore:
    """Any value in any column, in a day that was appended to."""
    draw = np.random.default_rng(1)
    events = np.zeros(350, EVENT_DTYPE)
    for name in EVENT_DTYPE.names or ():
        kind = np.iinfo(EVENT_DTYPE[name])
        events[name] = draw.integers(kind.min, kind.max, len(events), EVENT_DTYPE[name], endpoint=True)
    events["ts_ns"], events["seq"] = steady_events(350, first=0)["ts_ns"], np.arange(350)
    if request.param == "not recorded":
        events["recv_ns"] = RECV_NOT_RECORDED
    store = TickStore(tmp_path / "store")
    store.write([events[:300]], instrument=ACME, venue="V")
    store.write([events[300:]], instrument=ACME, venue="V", append=True)
    store.build_cache()
    return store


@pytest.mark.parametrize("reader", ["polars", "pandas", "duckdb"])
def test_others_read_every_value_of_a_store_without_us(two_part_store: TickStore, reader: str) -> None:
    library, root = pytest.importorskip(reader), two_part_store.root
    glob = str(root / "**" / "*.parquet")
    if reader == "polars":
        frame = library.scan_parquet(glob, hive_partitioning=True).sort("seq").collect()
        columns = {name: frame[name].to_numpy() for name in frame.columns}
    elif reader == "pandas":
        frame = library.read_parquet(root / "instrument=ACME").sort_values("seq")
        columns = {name: frame[name].to_numpy() for name in frame.columns}
    else:
        columns = library.sql(f"select * from read_parquet('{glob}') order by seq").fetchnumpy()
    assert set(map(str, columns["venue"])) == {"V"}
    events = np.concatenate(list(two_part_store.stream()))
    for name in partition_file.EVENT_COLUMNS:
        assert columns[name].dtype == EVENT_DTYPE[name]
        assert columns[name].tolist() == events[name].tolist(), name


def test_a_time_range_reads_the_row_groups_that_hold_it_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours by the manifest, others by the statistics in the file's footer."""
    monkeypatch.setattr(partition_file, "ROW_GROUP_EVENTS", 100)
    store = TickStore(tmp_path)
    events = steady_events(1_000, first=0)
    (part,) = store.write([events], instrument=ACME, venue="V")
    start_ns, stop_ns = int(events["ts_ns"][250]), int(events["ts_ns"][420])
    read: list[int] = []
    checked = partition_file._checked

    def counted(descriptor: int, partition: Any, place: int, path: Path) -> None:
        read.append(place)
        checked(descriptor, partition, place, path)

    monkeypatch.setattr(partition_file, "_checked", counted)
    assert sum(map(len, store.stream(start_ns=start_ns, stop_ns=stop_ns))) == 170
    assert read == [10, 2, 3, 4]  # the footer, then three of ten groups
    footer = pq.ParquetFile(part.path(tmp_path)).metadata
    column = footer.schema.names.index("ts_ns")
    spans = [footer.row_group(place).column(column).statistics for place in range(10)]
    wanted = [at for at, span in enumerate(spans) if span.max >= start_ns and span.min < stop_ns]
    assert wanted == [2, 3, 4]
    frame = store.scan(start_ns=start_ns, stop_ns=stop_ns).collect()
    assert frame.height == 170


def test_a_store_of_years_is_opened_and_entered_by_day(tmp_path: Path) -> None:
    """Only the file of the day that is asked for is touched: all others could be missing."""
    store = TickStore(tmp_path)
    blocks = []
    for day in range(60):
        events = steady_events(3, first=3 * day)
        events["ts_ns"] = START_NS + day * DAY_NS + np.arange(3)
        blocks.append(events)
    store.write(blocks, instrument=ACME, venue="V")
    for partition in store.partitions():
        if partition.day != "2011-03-01":
            partition.path(tmp_path).unlink()
    start_ns = int(np.datetime64("2011-03-01", "ns").astype(np.int64))
    found = np.concatenate(list(store.stream(start_ns=start_ns, stop_ns=start_ns + DAY_NS)))
    assert len(found) == 3
    with pytest.raises(DataError, match="no file"):
        list(store.stream())

"""The table of partitions against a dictionary of them, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from dying_writer import ACME, steady_events
from hypothesis import given
from hypothesis import strategies as st
from signed_manifest import resign

from data.errors import ConfigError, DataError
from data.manifest import LISTING_VERSION, SCHEMA_VERSION
from data.partition import Partition, RowGroup
from data.partition_table import FILE_DTYPE, GROUP_DTYPE, PartitionTable
from data.store import TickStore

NAMES = ("A", "B", "C.D")
checksums = st.integers(0, 2**32 - 1)


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    groups = [
        RowGroup(draw(st.integers(1, 9)), draw(st.integers(1, 99)), first, first + 5, draw(checksums))
        for first in sorted(draw(st.lists(st.integers(-50, 50), min_size=1, max_size=3)))
    ]  # fmt: skip
    return Partition(
        instrument=draw(st.sampled_from(NAMES)), venue=draw(st.sampled_from(("V", "W"))),
        day=date(2012, 1, draw(st.integers(1, 4))).isoformat(), generation=draw(st.integers(0, 2)),
        index=draw(st.integers(0, 1)), rows=sum(group.rows for group in groups),
        bytes=sum(group.bytes for group in groups) + 1, first_ts_ns=groups[0].first_ts_ns,
        last_ts_ns=groups[-1].last_ts_ns, sha256=draw(st.binary(min_size=32, max_size=32)).hex(),
        groups=tuple(groups), footer_crc32c=draw(checksums),
    )  # fmt: skip


listings = st.lists(partitions(), max_size=12, unique_by=lambda part: part.key)


@given(parts=listings)
def test_a_table_is_a_dictionary_in_order_and_survives_json(parts: list[Partition]) -> None:
    table = PartitionTable.of(parts)
    assert dict(table) == {part.key: part for part in parts}
    assert list(table) == sorted(part.key for part in parts)
    assert table.names() == [part.name for part in table.values()]
    again = PartitionTable.parsed(json.loads(json.dumps(table.stored())))
    assert list(again.values()) == list(table.values())
    assert ("A", "V", "2012-01-01", 9, 9) not in table
    assert ("NOPE", "V", "2012-01-01", 0, 0) not in table


@given(parts=listings, more=listings, data=st.data())
def test_a_change_is_that_of_a_dictionary(
    parts: list[Partition], more: list[Partition], data: st.DataObject
) -> None:
    removed = data.draw(st.sets(st.sampled_from([part.key for part in parts]))) if parts else set()
    expected = {part.key: part for part in parts if part.key not in removed}
    added = [part for part in more if part.key not in expected]
    changed = PartitionTable.of(parts).changed(removed=removed, added=added)
    assert dict(changed) == expected | {part.key: part for part in added}


@given(
    parts=listings, symbol=st.sampled_from((None, *NAMES, "NOPE")),
    venues=st.sampled_from((None, (), ("W",), ("V", "W"))),
    times=st.tuples(st.none() | st.integers(-60, 60), st.none() | st.integers(-60, 60)),
    days=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)  # fmt: skip
def test_a_range_holds_what_a_filter_keeps(
    parts: list[Partition],
    symbol: str | None,
    venues: tuple[str, ...] | None,
    times: tuple[int | None, int | None],
    days: tuple[int, int],
) -> None:
    table, (start_ns, stop_ns) = PartitionTable.of(parts), times
    first, last = (date(2012, 1, day) for day in days)
    chosen = None if symbol is None else {symbol: [(first, last), (date(2012, 1, 2), date(2012, 1, 2))]}
    rows = table.rows(days=chosen, venues=venues, start_ns=start_ns, stop_ns=stop_ns)
    expected = [
        part
        for part in parts
        if (start_ns is None or part.last_ts_ns >= start_ns)
        and (stop_ns is None or part.first_ts_ns < stop_ns)
        and (venues is None or part.venue in venues)
        and (
            symbol is None
            or (
                part.instrument == symbol
                and (first.isoformat() <= part.day <= last.isoformat() or part.day == "2012-01-02")
            )
        )
    ]
    expected.sort(key=lambda part: (*part.day_key, part.first_ts_ns, part.last_ts_ns, *part.key[3:]))
    assert [table.at(row) for row in rows.tolist()] == expected
    ends = {
        name: (min(its), max(its))
        for name in NAMES
        if (its := [date.fromisoformat(part.day) for part in expected if part.instrument == name])
    }
    assert table.days_of(rows) == ends
    for part in parts:
        same_day = [other for other in parts if other.day_key == part.day_key]
        assert sorted(table.parts_of(part.day_key), key=lambda other: other.key) == sorted(
            same_day, key=lambda other: other.key
        )


def two_files() -> PartitionTable:
    groups = (RowGroup(5, 50, 0, 5, 1), RowGroup(6, 60, 5, 9, 2))
    first = Partition(
        instrument="A", venue="V", day="2012-01-01", rows=11, bytes=120, first_ts_ns=0, last_ts_ns=9,
        sha256="0" * 64, groups=groups, footer_crc32c=3,
    )  # fmt: skip
    return PartitionTable.of([first, replace(first, day="2012-01-02")])


def setting(name: str, value: int) -> Callable[[np.ndarray, np.ndarray], None]:
    def change(files: np.ndarray, groups: np.ndarray) -> None:
        files[name][1] = value

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (setting("instrument", 1), "instrument must be a place"),
        (setting("venue", 2**32 - 1), "venue must be a place"),
        (setting("day", 2**31 - 1), "day must be"),
        (setting("day", -(2**31)), "day must be"),
        (setting("day", 0), "sorted by key"),
        (setting("day", 15_340), "listed once"),
        (setting("group_count", 0), "group_count must be"),
        (setting("group_count", 3), "groups must be as many"),
        (setting("generation", -1), "generation must be"),
        (setting("rows", 12), "rows together"),
        (setting("rows", -(2**63)), "rows must be"),
        (setting("bytes", 110), "footer behind them"),
        (lambda files, groups: groups["rows"].__setitem__(0, 0), "counts from 1 up"),
        (lambda files, groups: groups["bytes"].__setitem__(0, 2**63 - 1), "counts from 1 up"),
    ],
)
def test_arrays_that_describe_no_files_are_refused(
    change: Callable[[np.ndarray, np.ndarray], None], rule: str
) -> None:
    table = two_files()
    files, groups = table.files.copy(), table.groups.copy()
    change(files, groups)
    with pytest.raises(ConfigError, match=rule):
        PartitionTable(table.instruments, table.venues, files, groups)


def test_sizes_whose_sum_passes_int64_are_refused() -> None:
    table = two_files()
    count = 1 << 16
    files, groups = table.files[:1].copy(), np.zeros(count, GROUP_DTYPE)
    files["group_count"], files["rows"], groups["rows"] = count, count, 1
    # Modulo 2**64 these add up to nothing.
    groups["bytes"] = 1 << 48
    with pytest.raises(ConfigError, match="counts from 1 up"):
        PartitionTable(table.instruments, table.venues, files, groups)


def test_names_are_guarded() -> None:
    table = two_files()
    for names in (["../x"], ["B", "A"], ["A", "A"]):
        with pytest.raises(ConfigError, match="instrument"):
            PartitionTable(names, table.venues, table.files, table.groups)


def test_the_layout_of_the_records_is_that_of_the_schema_version() -> None:
    assert SCHEMA_VERSION == 4
    assert (FILE_DTYPE.itemsize, GROUP_DTYPE.itemsize) == (100, 36)


def test_a_listing_manifest_is_read_and_the_next_commit_writes_a_table(tmp_path: Path) -> None:
    store = TickStore(tmp_path)
    store.write([steady_events(200, first=0)], instrument=ACME, venue="V")
    store.write([steady_events(40, first=200)], instrument=ACME, venue="V", append=True)
    path = tmp_path / "manifest.json"
    stored = json.loads(path.read_text())
    stored["schema_version"] = LISTING_VERSION
    del stored["listings"]
    stored["partitions"] = [asdict(part) | {"groups": [list(group) for group in part.groups]}
                            for part in store.partitions()]  # fmt: skip
    before = store.partitions()
    resign(path, stored)
    assert TickStore(tmp_path).partitions() == before
    assert store.verify() == ()
    store.write([steady_events(9, first=300)], instrument=ACME, venue="V", append=True)
    assert json.loads(path.read_text())["schema_version"] == SCHEMA_VERSION
    assert store.partitions()[:2] == before
    assert sum(len(block) for block in store.stream()) == 249
    stored["partitions"][0]["instrument"] = "../../etc"
    resign(path, {**stored, "sha256": ""})
    with pytest.raises(DataError, match=r"manifest\.json"):
        store.manifest()

"""Imports: all or nothing, resumed after a kill without a duplicate, with every rejected row written down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import dying_import
import numpy as np
import polars as pl
import pytest
from dying_import import FEEDS, Feed, MarkedFeed
from dying_writer import ACME, steady_events

from data.errors import CheckFailed, ConfigError, DataError
from data.import_job import ImportOptions, ImportResult, Watch, import_events
from data.quality import QualityReport
from data.quality_gate import Gate
from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED
from data.screen import Screen
from data.store import TickStore

OPTIONS = ImportOptions(venue="V")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording.bin"
    path.write_bytes(b"what the feed was made from")
    return path


def findings_of(result: ImportResult) -> QualityReport:
    """The report but for the median latency, which is a sample of each block."""
    assert result.report is not None
    return replace(result.report, latency_ns={})


def contents(store: TickStore) -> bytes:
    return np.concatenate(list(store.stream())).tobytes()


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("dies_after", [0, 1, 9, 11, 25, 29])
def test_a_killed_import_goes_on_and_never_duplicates(
    tmp_path: Path, recording: Path, dies_after: int, feed: str
) -> None:
    store = TickStore(tmp_path / "store")
    small_parts = replace(OPTIONS, part_events=400)
    killed = subprocess.run(
        [sys.executable, dying_import.__file__, store.root, recording, str(dies_after), feed],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert store.partitions() == ()
    source = FEEDS[feed]()
    result = import_events(store, source, paths=[recording], options=small_parts)
    # Parts end after 400 events and with the day; their encoding may be behind the blocks by a few.
    ends = [0, 400, 800, 1_000, 1_400, 1_800, 2_000, 2_400, 2_800]
    assert result.resumed_events in [end for end in ends if end <= 100 * dies_after]
    assert result.events == 3_000
    if isinstance(source, MarkedFeed):
        # Parts and days end where blocks do, so nothing staged is read again.
        assert source.entered == result.resumed_events // 100
    whole = import_events(TickStore(tmp_path / "whole"), Feed(), paths=[recording], options=small_parts)
    assert findings_of(result) == findings_of(whole)
    assert contents(store) == Feed().events.tobytes()
    assert store.verify() == ()
    again = import_events(store, FEEDS[feed](), paths=[recording], options=small_parts)
    assert again.done_before
    assert contents(store) == Feed().events.tobytes()
    assert not list((store.root / ".staging").iterdir())


def stopped_after(blocks_left: int) -> Watch:
    def stopped(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for number, block in enumerate(blocks):
            if number == blocks_left:
                raise KeyboardInterrupt
            yield block

    return stopped


@pytest.mark.parametrize("feed", FEEDS)
def test_a_staged_part_that_was_damaged_is_made_again(tmp_path: Path, recording: Path, feed: str) -> None:
    store = TickStore(tmp_path / "store")
    small_parts = replace(OPTIONS, part_events=400)
    with pytest.raises(KeyboardInterrupt):
        import_events(store, FEEDS[feed](), paths=[recording], options=small_parts, watch=stopped_after(20))
    parts = sorted((store.root / ".staging").glob("*/*.parquet.tmp"))
    whole = parts[2].read_bytes()
    parts[2].write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    source = FEEDS[feed]()
    result = import_events(store, source, paths=[recording], options=small_parts)
    assert result.resumed_events == 800
    assert getattr(source, "entered", 8) == 8
    assert contents(store) == Feed().events.tobytes()


@pytest.mark.parametrize("torn", [b"", b"\n", b"[", b'["000001.parquet.tmp", {}, null]\n', b"\xff\n"])
def test_a_list_of_parts_that_ends_in_a_torn_line_counts_up_to_it(
    tmp_path: Path, recording: Path, torn: bytes
) -> None:
    store = TickStore(tmp_path / "store")
    small_parts = replace(OPTIONS, part_events=400)
    with pytest.raises(KeyboardInterrupt):
        import_events(store, MarkedFeed(), paths=[recording], options=small_parts, watch=stopped_after(20))
    (listed,) = store.root.glob(".staging/*/progress.jsonl")
    lines = listed.read_bytes().splitlines(keepends=True)
    listed.write_bytes(b"".join(lines[:2]) + torn)
    source = MarkedFeed()
    result = import_events(store, source, paths=[recording], options=small_parts)
    # What is no text at all makes nothing of the list believed.
    assert result.resumed_events == (0 if b"\xff" in torn else 800)
    assert source.entered == result.resumed_events // 100
    assert contents(store) == Feed().events.tobytes()


def test_a_changed_digit_in_the_list_of_parts_is_not_believed(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    small_parts = replace(OPTIONS, part_events=400)
    with pytest.raises(KeyboardInterrupt):
        import_events(store, MarkedFeed(), paths=[recording], options=small_parts, watch=stopped_after(20))
    (listed,) = store.root.glob(".staging/*/progress.jsonl")
    text = listed.read_text()
    assert text.count('{"block": 8}') == 1
    listed.write_text(text.replace('{"block": 8}', '{"block": 9}'))
    source = MarkedFeed()
    result = import_events(store, source, paths=[recording], options=small_parts)
    assert (result.resumed_events, source.entered) == (400, 4)
    assert contents(store) == Feed().events.tobytes()


def test_parts_that_carry_a_number_which_another_venue_took_are_made_again(
    tmp_path: Path, recording: Path
) -> None:
    store = TickStore(tmp_path / "store")
    small_parts = replace(OPTIONS, part_events=400)
    with pytest.raises(KeyboardInterrupt):
        import_events(store, MarkedFeed(), paths=[recording], options=small_parts, watch=stopped_after(20))
    store.write([steady_events(10, first=0)], instrument=ACME, venue="W")
    result = import_events(store, MarkedFeed(), paths=[recording], options=small_parts)
    assert (result.resumed_events, result.events) == (0, 3_000)
    for venue, venue_id in store.manifest().venues.items():
        (found,) = {*np.concatenate([block["venue_id"] for block in store.stream(venues=[venue])]).tolist()}
        assert found == venue_id


class MarkedBroken(MarkedFeed):
    """As `Broken`, but it can be entered at any block."""

    def __init__(self) -> None:
        super().__init__()
        self.events = Broken().events


def test_behind_a_rejected_row_an_import_starts_anew_and_reports_the_same(
    tmp_path: Path, recording: Path
) -> None:
    """The staged parts do not tell of rejected rows, so no mark is taken behind the first."""
    store = TickStore(tmp_path / "store")
    options = replace(OPTIONS, out_of_order="quarantine", part_events=100)
    with pytest.raises(KeyboardInterrupt):
        import_events(store, MarkedBroken(), paths=[recording], options=options, watch=stopped_after(20))
    source = MarkedBroken()
    result = import_events(store, source, paths=[recording], options=options)
    assert result.resumed_events > 500
    assert source.entered == 1
    other = TickStore(tmp_path / "whole")
    whole = import_events(other, MarkedBroken(), paths=[recording], options=options)
    assert findings_of(result) == findings_of(whole)
    assert contents(store) == contents(other)
    assert result.quarantine is not None
    assert whole.quarantine is not None
    assert pl.read_parquet(result.quarantine).equals(pl.read_parquet(whole.quarantine))


def test_an_error_leaves_no_partial_store(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    with pytest.raises(DataError, match="expected more"):
        import_events(store, Feed(breaks_after=25), paths=[recording], options=OPTIONS)
    assert store.partitions() == ()
    assert not list(store.root.glob("**/*.parquet*"))
    assert import_events(store, Feed(), paths=[recording], options=OPTIONS).resumed_events == 0


@pytest.mark.parametrize("change", ["grows", "goes", "is rewritten"])
def test_files_that_change_while_they_are_read_are_refused(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_bytes(b"a recording")

    def watch(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for number, block in enumerate(blocks):
            if number == 3:
                if change == "goes":
                    (folder / "a").unlink()
                else:
                    (folder / "a").write_bytes(b"a recording, more" if change == "grows" else b"A RECORDING")
                    os.utime(folder / "a", ns=(1, 1))
            yield block

    store = TickStore(tmp_path / "store")
    with pytest.raises(DataError, match=r"/in/a: a file must not change while it is imported"):
        import_events(store, Feed(), paths=[folder], options=ImportOptions(venue="V"), watch=watch)
    assert not list(store.root.rglob("*.parquet*"))
    assert import_events(store, Feed(), paths=[folder], options=ImportOptions(venue="V")).events == 3_000


def test_what_leaves_the_files_as_they_were_refuses_nothing(tmp_path: Path) -> None:
    """A new time of writing, a file that nobody opened, and the store itself, kept among the recordings."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a").write_bytes(b"a recording")

    def watch(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        os.utime(folder / "a", ns=(1, 1))
        (folder / "b").write_bytes(b"the next hour")
        yield from blocks

    store, options = TickStore(folder / "store"), ImportOptions(venue="V")
    made = import_events(store, Feed(), paths=[folder], options=options, watch=watch)
    assert made.events == 3_000
    (folder / "b").unlink()
    assert import_events(store, Feed(), paths=[folder], options=options).done_before


def test_a_gate_that_stays_shut_leaves_the_store_as_it_was(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    with pytest.raises(CheckFailed, match="events must be at least 5000, was 3000"):
        import_events(store, Feed(), paths=[recording], options=replace(OPTIONS, gate=Gate(events_min=5_000)))
    assert store.partitions() == ()
    open_gate = Gate(limits={"crossed": 0}, events_min=3_000)
    assert import_events(
        store, Feed(), paths=[recording], options=replace(OPTIONS, gate=open_gate)
    ).partitions


def test_an_import_whose_days_were_all_deleted_is_made_again(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    import_events(store, Feed(), paths=[recording], options=OPTIONS)
    days = sorted({part.day for part in store.partitions()})
    whole = contents(store)
    last = max(part.first_ts_ns for part in store.partitions())
    assert store.delete(instrument="ACME", start_ns=last)
    again = import_events(store, Feed(), paths=[recording], options=OPTIONS)
    assert again.done_before
    assert again.deleted_days == tuple(days[-1:])
    store.delete(instrument="ACME")
    again = import_events(store, Feed(), paths=[recording], options=OPTIONS)
    assert not again.done_before
    assert contents(store) == whole


def test_days_that_are_there_are_refused_replaced_or_appended_to(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    store.write([steady_events(10, first=0)], instrument=ACME, venue="V")
    with pytest.raises(ConfigError, match=r"--overwrite .* replaces it, --append"):
        import_events(store, Feed(), paths=[recording], options=OPTIONS)
    with pytest.raises(ConfigError, match="must not overlap"):
        import_events(store, Feed(), paths=[recording], options=replace(OPTIONS, append=True))
    import_events(store, Feed(), paths=[recording], options=replace(OPTIONS, overwrite=True))
    assert contents(store) == Feed().events.tobytes()


class Broken(Feed):
    """A feed with events that break rules."""

    def __init__(self) -> None:
        super().__init__()
        self.events["kind"][150], self.events["side"][151] = 77, 5
        self.events["ts_ns"][1_200] -= 5 * 10**9 * 60


def test_rejected_events_are_written_down_and_counted(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    options = replace(OPTIONS, out_of_order="quarantine")
    result = import_events(store, Broken(), paths=[recording], options=options)
    assert result.events == 2_997
    assert result.report is not None
    assert result.report.count("quarantined") == 3
    assert result.quarantine is not None
    side_file = pl.read_parquet(result.quarantine)
    assert side_file["row"].to_list() == [150, 151, 1_200]
    assert side_file["file"].unique().to_list() == ["made up"]
    assert json.loads(side_file["raw"][0])["kind"] == 77
    assert side_file["rule"].to_list() == list(result.report.quarantined)
    # Nothing of it lies where a user's glob finds the events.
    frame = pl.scan_parquet(store.root / "**/*.parquet").collect()
    assert frame.height == 2_997


def test_strict_and_refusing_imports_name_the_row(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    with pytest.raises(DataError, match=r"made up:row 150: kind must be 1 to 9"):
        import_events(store, Broken(), paths=[recording], options=replace(OPTIONS, strict=True))
    with pytest.raises(DataError, match=r"made up:row 1200: time must not run backwards"):
        import_events(store, Broken(), paths=[recording], options=OPTIONS)


def test_carrying_late_events_keeps_their_order() -> None:
    events = np.zeros(6, EVENT_DTYPE)
    events["kind"], events["seq"] = 5, np.arange(6)
    events["ts_ns"] = (10, 30, 20, 25, 40, 35)
    screen = Screen(source="x", quarantine=None, out_of_order="carry")
    first, second = screen.kept(events[:3]), screen.kept(events[3:])
    kept = np.concatenate((first, second))
    assert kept["ts_ns"].tolist() == [10, 30, 30, 30, 40, 40]
    assert kept["seq"].tolist() == list(range(6))


def test_corrected_receipts_keep_order_and_cause() -> None:
    draw = np.random.default_rng(1)
    events = np.zeros(500, EVENT_DTYPE)
    events["kind"] = 5
    events["ts_ns"] = np.sort(draw.integers(0, 10**9, 500))
    events["recv_ns"] = events["ts_ns"] - 10**8 + draw.integers(0, 10**7, 500)
    events["recv_ns"][::7] = RECV_NOT_RECORDED
    screen = Screen(source="x", quarantine=None, receive_offset_ns=10**8 - 10**6)
    kept = np.concatenate([screen.kept(block) for block in np.array_split(events, 9)])
    recorded = kept["recv_ns"] != RECV_NOT_RECORDED
    assert (recorded == (events["recv_ns"] != RECV_NOT_RECORDED)).all()
    received = kept["recv_ns"][recorded]
    assert (np.diff(received) >= 0).all()
    assert (received >= kept["ts_ns"][recorded]).all()
    # The slow reference: one event at a time.
    newest, expected = -(2**62), []
    for ts_ns, recv_ns in zip(events["ts_ns"].tolist(), events["recv_ns"].tolist(), strict=True):
        if recv_ns != RECV_NOT_RECORDED:
            newest = max(newest, ts_ns, recv_ns + 10**8 - 10**6)
            expected.append(newest)
    assert received.tolist() == expected


def test_an_import_read_in_another_way_is_another_import(tmp_path: Path, recording: Path) -> None:
    store = TickStore(tmp_path / "store")
    import_events(store, Feed(), paths=[recording], options=replace(OPTIONS, read_as="side: b is a buy"))
    other = replace(OPTIONS, read_as="side: b is a sell")
    with pytest.raises(ConfigError, match="--overwrite"):
        import_events(store, Feed(), paths=[recording], options=other)
    renamed = recording.rename(recording.with_name("renamed.bin"))
    with pytest.raises(ConfigError, match="--overwrite"):
        import_events(store, Feed(), paths=[renamed], options=replace(OPTIONS, read_as="side: b is a buy"))


def test_no_staged_file_looks_like_events(tmp_path: Path, recording: Path) -> None:
    """Rejected rows are on disk, and the import is stopped: a glob of Parquet files finds none of it."""
    store = TickStore(tmp_path / "store")
    feed = Broken()
    feed.events["kind"][:] = 77

    def stopped(blocks):  # type: ignore[no-untyped-def]
        yield from blocks
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_events(store, feed, paths=[recording], options=OPTIONS, watch=stopped)
    assert list(store.root.glob(".staging/*/quarantine.parquet.tmp"))
    assert not list(store.root.glob("**/*.parquet"))

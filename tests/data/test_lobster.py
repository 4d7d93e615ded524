"""The LOBSTER importer against a simulated full book, the compiled book, and hostile archives."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lobster_day import STUB_PRICE, Day

from benchmarks.lobster_days import lobster_day, write_lobster_days
from data import lobster_rows
from data.errors import DataError
from data.import_job import ImportOptions, import_events
from data.lobster import LobsterEvents, exchange_midnight_ns, open_lobster
from data.lobster_files import part_told_by
from data.lobster_verify import verify_lobster
from data.schema import RECV_NOT_RECORDED, EventFlag, EventKind
from data.store import TickStore


class PlainBook:
    """The semantics the importer relies on, in the fewest words: totals by price, LEVEL is final."""

    def __init__(self) -> None:
        self.totals: dict[tuple[int, int], int] = {}

    def apply(self, events: np.ndarray) -> None:
        for event in events:
            place, size = (int(event["side"]), int(event["price_ticks"])), int(event["size_lots"])
            match EventKind(int(event["kind"])):
                case EventKind.CLEAR:
                    self.totals.clear()
                case EventKind.LEVEL:
                    self.totals[place] = size
                case EventKind.ADD:
                    self.totals[place] = self.totals.get(place, 0) + size
                case EventKind.REDUCE | EventKind.CANCEL | EventKind.EXECUTE:
                    self.totals[place] = max(self.totals.get(place, 0) - size, 0)

    def depth_array(self, side: int, count: int) -> np.ndarray:
        levels = [(price, size) for (its, price), size in self.totals.items() if its == side and size]
        return np.array(sorted(levels, key=lambda level: -side * level[0])[:count], np.int64).reshape(-1, 2)


@pytest.mark.parametrize("levels", [1, 2, 5, 10])
@pytest.mark.parametrize("seed", range(4))
def test_every_row_of_a_simulated_day_is_rebuilt(tmp_path: Path, levels: int, seed: int) -> None:
    path = Day(seed=seed, levels=levels, rows=600).write_zip(tmp_path / "day.zip")
    for book in (PlainBook(), None):
        check = verify_lobster(path, book=book)
        assert (check.matched, check.total, check.first_mismatch) == (600, 600, None)


def test_a_stub_quote_near_200_000_dollars_is_a_level(tmp_path: Path) -> None:
    day = Day(seed=4, levels=30, rows=400, stub=True)
    assert any(str(STUB_PRICE) in book for book in day.books)
    recording = open_lobster(day.write(tmp_path))
    assert STUB_PRICE in np.concatenate(list(recording.blocks()))["price_ticks"]
    check = verify_lobster(day.write(tmp_path))
    assert (check.matched, check.total) == (400, 400)


def test_a_book_that_ignores_corrections_is_caught(tmp_path: Path) -> None:
    class Naive(PlainBook):
        def apply(self, events: np.ndarray) -> None:
            super().apply(events[events["kind"] != EventKind.LEVEL])

    check = verify_lobster(Day(seed=1, levels=2, rows=200).write(tmp_path), book=Naive())
    assert check.matched < check.total == 200
    assert check.first_mismatch is not None
    assert "orderbook_2.csv:row 0" in check.first_mismatch


def test_messages_become_the_documented_events(tmp_path: Path) -> None:
    day = Day(seed=3, levels=3, rows=900)
    events = np.concatenate(list(open_lobster(day.write(tmp_path)).blocks(1_000)))
    fields = [line.split(",") for line in day.messages]
    own = events[(events["kind"] != EventKind.LEVEL) & (events["kind"] != EventKind.CLEAR)]
    assert own["seq"].tolist() == list(range(900))
    names = {1: "ADD", 2: "REDUCE", 3: "CANCEL", 4: "EXECUTE", 5: "TRADE", 6: "TRADE", 7: "STATUS"}
    assert {int(row[1]) for row in fields} == set(names)
    midnight_ns = exchange_midnight_ns(date(2012, 6, 21))
    for event, (stamp, kind, order_id, size, price, side) in zip(own, fields, strict=True):
        assert EventKind(int(event["kind"])).name == names[int(kind)]
        assert event["ts_ns"] == midnight_ns + int(stamp.replace(".", ""))
        assert event["order_id"] == max(int(order_id), 0)
        expected_side = {"5": -int(side), "6": 0, "7": 0}.get(kind, int(side))
        assert event["side"] == expected_side
        assert event["size_lots"] == int(price if kind == "7" else size)
        assert event["price_ticks"] == (0 if kind == "7" else int(price))
        assert bool(event["flags"] & EventFlag.HIDDEN) == (kind == "5")
        assert bool(event["flags"] & EventFlag.AUCTION) == (kind == "6")
    assert (events["recv_ns"] == RECV_NOT_RECORDED).all()
    ends = events["flags"] & EventFlag.LAST_IN_PACKET != 0
    assert np.array_equal(np.flatnonzero(ends), np.flatnonzero(np.diff(events["seq"], append=-1) != 0))


def test_blocks_of_any_size_hold_the_same_events(tmp_path: Path) -> None:
    recording = open_lobster(Day(seed=5, levels=2, rows=1_500).write(tmp_path))
    small, large = (np.concatenate(list(recording.blocks(size))) for size in (1, 65_536))
    assert small.tobytes() == large.tobytes()


def test_times_printed_from_doubles_round_to_their_nanosecond(tmp_path: Path) -> None:
    day = Day(seed=1, levels=1, rows=2)
    day.messages = [line.split(",", 1)[1] for line in day.messages]
    day.messages = [f"43002.632812672004,{day.messages[0]}", f"43002.6328126719997,{day.messages[1]}"]
    events = np.concatenate(list(open_lobster(day.write(tmp_path)).blocks()))
    clock = events["ts_ns"] - exchange_midnight_ns(date(2012, 6, 21))
    assert set(clock.tolist()) == {43_002_632_812_672}


def test_midnight_follows_new_york_through_the_seasons() -> None:
    hours = {date(2012, 6, 21): 4, date(2012, 1, 4): 5}
    for day, hour in hours.items():
        expected = (day - date(1970, 1, 1)).days * 86_400 + hour * 3_600
        assert exchange_midnight_ns(day) == expected * 10**9


def test_several_days_follow_each_other_and_each_starts_clean(tmp_path: Path) -> None:
    Day(seed=1, levels=2, rows=50).write(tmp_path, day="2012-06-22")
    Day(seed=2, levels=2, rows=50).write(tmp_path, day="2012-06-21")
    recording = open_lobster(tmp_path)
    events = np.concatenate(list(recording.blocks()))
    assert (np.diff(events["ts_ns"]) >= 0).all()
    assert np.count_nonzero(events["kind"] == EventKind.CLEAR) == 2
    assert verify_lobster(tmp_path).matched == 100


def edited(day: Day, part: str, row: int, column: int, value: str) -> None:
    lines = day.messages if part == "message" else day.books
    cells = lines[row].split(",")
    cells[column] = value
    lines[row] = ",".join(cells)


@pytest.mark.parametrize(
    ("part", "column", "value", "rule"),
    [
        ("message", 0, "1.0", "time must not run backwards"),
        ("message", 0, "86400.0", "time must be within the day"),
        ("message", 0, "99999.9", "time must be within the day"),
        ("message", 0, "99999999999999999999.9", "column 1 must be a number"),
        ("message", 0, "noon", "noon"),
        ("message", 1, "9", "type must be 1 to 7"),
        ("message", 3, "", "column 4 must be a number, was ''"),
        ("message", 4, "-5", "price must be between"),
        ("message", 4, "99999999999", "price must be between"),
        ("orderbook", 0, "-100", "ask levels must be best first"),
        ("orderbook", 1, "0", "ask levels must be best first"),
        ("orderbook", 6, "99999999", "bid levels must be best first"),
        ("orderbook", 2, "1e3x", "column 3 must be a number, was '1e3x'"),
        ("orderbook", 7, "10,10", "expected 8 columns, was 9"),
        ("message", 5, "1,X,Y", "expected 6 columns, was 8"),
    ],
)
def test_bad_rows_are_refused_by_file_and_rule(
    tmp_path: Path, part: str, column: int, value: str, rule: str
) -> None:
    day = Day(seed=6, levels=2, rows=80)
    row = next(row for row in range(40, 80) if day.messages[row].split(",")[1] == "1")
    edited(day, part, row, column, value)
    with pytest.raises(DataError, match=rf"TEST_.*_{part}_2\.csv.*{rule}") as caught:
        list(open_lobster(day.write(tmp_path)).blocks())
    assert caught.value.row == row


def test_files_of_unequal_length_are_refused(tmp_path: Path) -> None:
    day = Day(seed=6, levels=2, rows=80)
    day.books.pop()
    with pytest.raises(DataError, match=r"orderbook_2\.csv: expected as many rows .* was 79"):
        list(open_lobster(day.write(tmp_path)).blocks())


def test_half_a_pair_and_foreign_names_are_refused(tmp_path: Path) -> None:
    message = Day(seed=6, levels=2, rows=5).write(tmp_path)
    message.with_name(message.name.replace("message", "orderbook")).unlink()
    with pytest.raises(DataError, match="expected its partner"):
        open_lobster(message)
    other = tmp_path / "book.csv"
    other.write_text("1,2\n")
    with pytest.raises(DataError, match="expected a name like"):
        open_lobster(other)
    with pytest.raises(DataError, match="existing file"):
        open_lobster(tmp_path / "gone.zip")


def test_two_tickers_in_one_archive_are_refused(tmp_path: Path) -> None:
    day, path = Day(seed=1, levels=1, rows=5), tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for ticker in ("AAA", "BBB"):
            for name, lines in zip(day.names(ticker), (day.messages, day.books), strict=True):
                archive.writestr(name, "\n".join(lines))
    with pytest.raises(DataError, match="expected one ticker and depth"):
        open_lobster(path)


@pytest.mark.parametrize("name", ["../../etc/{}", "/tmp/{}", "C:\\x\\{}", "a/../../{}"])
def test_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    day, path = Day(seed=1, levels=1, rows=5), tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name.format(day.names()[0]), "\n".join(day.messages))
        archive.writestr(day.names()[1], "\n".join(day.books))
    with pytest.raises(DataError, match="members must stay inside the archive"):
        open_lobster(path)


@pytest.mark.parametrize("name", [".", "./"])
def test_a_member_without_a_name_is_no_part_of_a_pair(tmp_path: Path, name: str) -> None:
    path = tmp_path / "nameless.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "")
    with pytest.raises(DataError, match="expected a pair"):
        open_lobster(path)


def test_a_compression_bomb_is_refused_unread(tmp_path: Path) -> None:
    day, path = Day(seed=1, levels=1, rows=5), tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(day.names()[0], b"0" * 20_000_000)
        archive.writestr(day.names()[1], "\n".join(day.books))
    with pytest.raises(DataError, match="compressed at most 200 times"):
        open_lobster(path)


def test_the_same_member_twice_is_refused(tmp_path: Path) -> None:
    day, path = Day(seed=1, levels=1, rows=5), tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for folder in ("", "copy/"):
            archive.writestr(folder + day.names()[0], "\n".join(day.messages))
        archive.writestr(day.names()[1], "\n".join(day.books))
    with pytest.raises(DataError, match="expected one message file of each pair"):
        open_lobster(path)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_raise_only_data_errors(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    path = Day(seed=seed, levels=2, rows=200).write_zip(tmp_path / "day.zip")
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            for _ in open_lobster(path).blocks():
                pass
        except DataError:
            pass


@pytest.mark.recording("lobster_aapl_amzn_2012-06-21")
def test_every_recorded_row_is_rebuilt_by_the_compiled_book(market_data: Path) -> None:
    archives = sorted(market_data.glob("*.zip"))
    assert archives
    for path in archives:
        check = verify_lobster(path)
        assert check.first_mismatch is None
        assert check.matched == check.total > 0


@pytest.mark.parametrize("packed", [False, True], ids=["csv", "zip"])
def test_a_recording_can_be_entered_behind_any_block(tmp_path: Path, packed: bool) -> None:
    day = Day(seed=4, levels=2, rows=300)
    # Later versions append a participant; some files end lines as Windows does, and leave lines empty.
    day.messages = [f"{line},null" + "\r\n" * (row % 97 == 0) for row, line in enumerate(day.messages)]
    if packed:
        path = day.write_zip(tmp_path / "days.zip")
    else:
        for date in ("2012-06-21", "2012-06-22"):
            day.write(tmp_path, day=date)
        path = tmp_path
    source = open_lobster(path)
    told = list(source.marked_blocks(block_events=512))
    assert len(told) >= 2
    for number, (_, place) in enumerate(told, 1):
        rest = [block for block, _ in source.marked_blocks(json.loads(json.dumps(place)), block_events=512)]
        expected = [block for block, _ in told[number:]]
        assert b"".join(block.tobytes() for block in rest) == b"".join(block.tobytes() for block in expected)


def test_a_stopped_import_parses_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 3_000
    path = tmp_path / "files"
    path.mkdir()
    write_lobster_days(path, lobster_day(rows, seed=5), days=1)
    parsed = 0
    parse = lobster_rows.parse_messages

    def counted(*args: Any) -> tuple[int, int, str, int]:
        nonlocal parsed
        found = parse(*args)
        parsed += found[0]
        return found

    def stopped(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for number, block in enumerate(blocks):
            if number == 4:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(lobster_rows, "parse_messages", counted)
    # Blocks as short as they get.
    marked = LobsterEvents.marked_blocks
    monkeypatch.setattr(
        LobsterEvents, "marked_blocks", lambda self, place=None, **_: marked(self, place, block_events=600)
    )
    store, options = TickStore(tmp_path / "store"), ImportOptions(venue="V", part_events=300)
    with pytest.raises(KeyboardInterrupt):
        import_events(store, open_lobster(path), paths=[path], options=options, watch=stopped)
    parsed = 0
    result = import_events(store, open_lobster(path), paths=[path], options=options)
    assert 0 < result.resumed_events < result.events
    found = np.concatenate(list(store.stream()))
    assert found.tobytes() == np.concatenate(list(open_lobster(path).blocks())).tobytes()
    first_new = int(found["seq"][result.resumed_events])
    assert parsed - rows == rows - first_new
    whole = import_events(TickStore(tmp_path / "whole"), open_lobster(path), paths=[path], options=options)
    assert result.report == whole.report


@pytest.mark.parametrize("part", ["message", "orderbook"])
def test_a_file_of_another_name_is_told_by_its_rows(
    tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from backtest.cli.main import main

    rows = {
        "message": ["34200.004241176,1,16113575,18,5853300,1", "34200.25,5,0,100,-100,-1"],
        "orderbook": ["5859400,200,5853300,18", "5859400,200,5853300,18"],
    }
    path = tmp_path / "renamed.csv"
    path.write_text("\n".join([*rows[part], rows[part][0][:9]]))
    assert main(["data", "sniff", str(path)]) == 0
    assert f"LOBSTER's {part} file" in capsys.readouterr().out
    assert main(["data", "sniff", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"format": "lobster", "part": part}
    assert main(["data", "info", str(path)]) == 2
    assert "expected a name like TICKER_2012-06-21_34200000" in capsys.readouterr().err
    path.write_text("\n".join([*rows[part], "1,2,3", ""]))
    assert part_told_by(path) is None

"""Quote recordings: what is read, in which order, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.instrument import Instrument
from data.quotes import QuoteBlock, QuoteRecording, open_quotes

START_MS = 1_400_000_000_000


def spread_table(rows: int, *, start_ms: int = START_MS, bid: int = 20_000, spread: int = 30) -> pa.Table:
    steps = np.arange(rows, dtype=np.int64)
    return pa.table(
        {
            "ts_ms": start_ms + 10 * steps,
            "bid": (bid + steps % 7).astype(np.int32),
            "spread": np.full(rows, spread, np.int32),
        }
    )


def joined(blocks: Iterable[QuoteBlock]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = list(blocks)
    return tuple(np.concatenate([part[place] for part in parts]) for place in range(3))  # type: ignore[return-value]


def with_value(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quotes") / "xagusd_ticks_2014H1.parquet"
    pq.write_table(spread_table(1_000), path, row_group_size=130)
    return path


def test_integer_spread_becomes_ticks_and_nanoseconds(small_file: Path) -> None:
    quotes = open_quotes(small_file)
    assert isinstance(quotes, QuoteRecording)
    assert (quotes.instrument.symbol, quotes.instrument.price_increment) == ("XAGUSD", 0.001)
    ts_ns, bid, ask = joined(quotes.blocks())
    assert ts_ns[0] == START_MS * 10**6 == quotes.first_ns
    assert ts_ns[-1] == quotes.last_ns
    assert ts_ns.dtype == np.int64
    assert bid.dtype == ask.dtype == np.int32
    assert (ask - bid == 30).all()
    assert quotes.recorded
    assert quotes.rows() == len(ts_ns) == 1_000


@settings(max_examples=60, deadline=None)
@given(low=st.integers(-20, 1_020), high=st.integers(-20, 1_020), block_rows=st.integers(1, 400))
def test_windows_select_exactly_the_rows_in_them(
    small_file: Path, low: int, high: int, block_rows: int
) -> None:
    quotes = open_quotes(small_file)
    start_ns, stop_ns = ((START_MS + 10 * edge) * 10**6 for edge in (low, high))
    blocks = list(quotes.blocks(start_ns=start_ns, stop_ns=stop_ns, block_rows=block_rows))
    found = np.concatenate([block.ts_ns for block in blocks]) if blocks else np.empty(0, np.int64)
    every = joined(quotes.blocks())[0]
    assert found.tolist() == every[(every >= start_ns) & (every < stop_ns)].tolist()
    assert all(0 < len(block.ts_ns) <= block_rows for block in blocks)
    assert quotes.rows(stop_ns) == np.count_nonzero(every < stop_ns)


def test_files_are_ordered_by_their_times_not_their_names(tmp_path: Path) -> None:
    pq.write_table(spread_table(50, start_ms=START_MS + 10**6), tmp_path / "a.parquet")
    pq.write_table(spread_table(50, start_ms=START_MS), tmp_path / "b.parquet")
    quotes = open_quotes(tmp_path)
    assert [file.path.name for file in quotes.files] == ["b.parquet", "a.parquet"]
    assert (np.diff(joined(quotes.blocks())[0]) > 0).all()


def test_a_tree_yields_its_largest_set_of_quotes_and_names_the_rest(tmp_path: Path) -> None:
    for folder, rows in (("silver", 300), ("gold", 200), ("bars", 0)):
        (tmp_path / folder).mkdir()
        if rows:
            pq.write_table(spread_table(rows), tmp_path / folder / "part.parquet")
    bars = {name: [1] for name in ("ts_s", "open", "high", "low", "close")}
    pq.write_table(pa.table(bars), tmp_path / "bars" / "eurusd_m1.parquet")
    quotes = open_quotes(tmp_path)
    assert quotes.rows() == 300
    assert quotes.notes == (
        "also found, not used: 200  quotes in gold",
        "1 files without quotes were ignored",
    )


def test_two_pairs_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    pq.write_table(spread_table(100), tmp_path / "xagusd_1.parquet")
    pq.write_table(spread_table(40), tmp_path / "eurusd_1.parquet")
    quotes = open_quotes(tmp_path)
    assert quotes.instrument.symbol == "XAGUSD"
    assert quotes.rows() == 100
    assert "40 EURUSD quotes" in quotes.notes[0]


def test_overlapping_files_are_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(spread_table(100), tmp_path / "a.parquet")
    pq.write_table(spread_table(100, start_ms=START_MS + 500), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet:row 0: files must not overlap.*a\.parquet"):
        open_quotes(tmp_path)


@pytest.mark.parametrize(
    ("name", "row", "value", "rule"),
    [
        ("ts_ms", 700, START_MS, "time must not run backwards"),
        ("ts_ms", 390, START_MS, "time must not run backwards"),
        ("ts_ms", 5, None, "ts_ms must be a number, was null"),
        ("ts_ms", 5, 2**61, "between 1970 and 2200"),
        ("ts_ms", 5, -4, "between 1970 and 2200"),
        ("bid", 611, 0, "bid must be between 1 and"),
        ("bid", 611, -5, "bid must be between 1 and"),
        ("bid", 611, 2**31 - 1, "must be between 1 and"),
        ("spread", 999, None, "spread must be a number, was null"),
        ("spread", 999, -(2**31), "ask must be between 1 and"),
    ],
)
def test_bad_values_are_refused_by_row(tmp_path: Path, name: str, row: int, value: object, rule: str) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(with_value(spread_table(1_000), name, row, value), path, row_group_size=130)
    with pytest.raises(DataError, match=f"bad.parquet:row {row}: .*{rule}"):
        joined(open_quotes(path).blocks(block_rows=100))


def test_time_may_stand_still_but_not_run_backwards_between_files(tmp_path: Path) -> None:
    pq.write_table(spread_table(10), tmp_path / "a.parquet")
    pq.write_table(spread_table(10, start_ms=START_MS + 90), tmp_path / "b.parquet")
    assert (np.diff(joined(open_quotes(tmp_path).blocks())[0]) == 0).sum() == 1


def test_crossed_quotes_are_left_out_and_counted_once(tmp_path: Path) -> None:
    table = with_value(spread_table(1_000), "spread", 17, -1)
    table = with_value(with_value(table, "spread", 18, 0), "spread", 640, -3)
    path = tmp_path / "crossed.parquet"
    pq.write_table(table, path, row_group_size=130)
    quotes = open_quotes(path)
    for _ in range(2):
        bid, ask = joined(quotes.blocks(block_rows=64))[1:]
        assert len(bid) == 998
        assert (bid <= ask).all()
        assert (quotes.quarantined, quotes.locked) == (2, 1)
    assert quotes.rows() == 1_000
    assert quotes.notes == ("2 crossed quotes were left out", "1 locked quotes (bid = ask) were kept")
    with pytest.raises(DataError, match=r"crossed\.parquet:row 17: bid must not exceed ask"):
        joined(open_quotes(path, strict=True).blocks())


def test_a_missing_truncated_or_foreign_file_is_named(tmp_path: Path, small_file: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        open_quotes(tmp_path / "nowhere.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(small_file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut\.parquet: expected a whole Parquet file"):
        open_quotes(cut)
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"open": [1.0], "close": [1.0]}), foreign)
    with pytest.raises(DataError, match=r"foreign\.parquet: expected columns of a time"):
        open_quotes(foreign)
    with pytest.raises(DataError, match=r"cut\.parquet"):
        open_quotes(tmp_path)
    empty = tmp_path / "empty.parquet"
    pq.write_table(spread_table(0), empty)
    with pytest.raises(DataError, match=r"empty\.parquet: expected at least one row"):
        open_quotes(empty)


def test_a_damaged_file_beside_good_ones_is_not_passed_over(tmp_path: Path, small_file: Path) -> None:
    pq.write_table(spread_table(100), tmp_path / "good.parquet")
    (tmp_path / "later.parquet").write_bytes(small_file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"later\.parquet"):
        open_quotes(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_raise_only_data_errors(tmp_path: Path, small_file: Path, seed: int) -> None:
    draw = random.Random(seed)
    whole, path = small_file.read_bytes(), tmp_path / "flipped.parquet"
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            for block in open_quotes(path).blocks():
                assert (block.bid_ticks <= block.ask_ticks).all()
        except DataError:
            pass


def test_decimal_prices_find_their_grid_in_csv_and_parquet(tmp_path: Path) -> None:
    text = "timestamp,bid,ask\n2024-03-01T09:00:00,10.1,10.125\n2024-03-01T09:00:00.250000001,10.2,10.3\n"
    (tmp_path / "q.csv").write_text(text)
    quotes = open_quotes(tmp_path / "q.csv")
    assert quotes.instrument.price_increment == 0.001
    ts_ns, bid, ask = joined(quotes.blocks())
    assert ts_ns.tolist() == [1_709_283_600_000_000_000, 1_709_283_600_250_000_001]
    assert (bid.tolist(), ask.tolist()) == ([10_100, 10_200], [10_125, 10_300])
    pq.write_table(pa.table({"ts_ns": ts_ns, "bid": bid / 1_000, "ask": ask / 1_000}), tmp_path / "q.parquet")
    again = joined(open_quotes(tmp_path / "q.parquet").blocks())
    assert [part.tolist() for part in again] == [ts_ns.tolist(), bid.tolist(), ask.tolist()]


@pytest.mark.parametrize(
    ("header", "stamp", "expected_ns"),
    [
        ("ts", "1709283600.123456789", 1_709_283_600_123_456_789),
        ("ts_ms", "1709283600123.25", 1_709_283_600_123_250_000),
        ("time", "1709283600123", 1_709_283_600_123_000_000),
        ("TIMESTAMP", "1709283600123456", 1_709_283_600_123_456_000),
        ("ts_ns", "1709283600123456789", 1_709_283_600_123_456_789),
        ("time", "2024-03-01 09:00:00.123Z", 1_709_283_600_123_000_000),
    ],
)
def test_csv_times_are_read_exactly_whatever_their_unit(
    tmp_path: Path, header: str, stamp: str, expected_ns: int
) -> None:
    (tmp_path / "q.csv").write_text(f"{header};Bid;Offer\n{stamp};100;101\n")
    ts_ns, bid, _ = joined(open_quotes(tmp_path / "q.csv").blocks())
    assert ts_ns.tolist() == [expected_ns]
    assert bid.tolist() == [100]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2,10.1,", r"q\.csv:row 1: ask must be a number, was null"),
        ("2,NaN,10.2", r"q\.csv:row 1: bid must be finite, was nan"),
        ("2,N/A,10.2", r"q\.csv:row 1: .*invalid value 'N/A'"),
        ("2,null,10.2", r"q\.csv:row 1: .*invalid value 'null'"),
        ("2,inf,10.2", r"q\.csv:row 1: bid must be finite, was inf"),
        ("2,10.1", r"q\.csv:row 1: .*Expected 3 columns, got 2"),
        ("2,abc,10.2", r"q\.csv:row 1: .*invalid value 'abc'"),
    ],
)
def test_csv_damage_is_named_by_row(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "q.csv").write_text(f"ts_ns,bid,ask\n1,10.1,10.2\n{line}\n3,10.1,10.2\n")
    with pytest.raises(DataError, match=message):
        joined(open_quotes(tmp_path / "q.csv").blocks())


def test_a_word_among_the_sizes_is_refused_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("ts_ns,bid,ask,bid_size,ask_size\n1,10.1,10.2,5,5\n2,10.1,10.2,5,NA\n")
    with pytest.raises(DataError, match=r"q\.csv:row 1: .*invalid value 'NA'"):
        open_quotes(tmp_path / "q.csv")


def test_a_note_beside_good_files_is_ignored_and_a_table_called_txt_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ts_ns,bid,ask\n1,10.1,10.2\n")
    (tmp_path / "b.txt").write_text("ts_ns,bid,ask\n2,10.1,10.2\n")
    for name, text in (
        ("readme.txt", "Ticks of 2024.\n"),
        ("a.txt", "hello, reader\nof\nthis\n"),
        ("e.txt", ""),
    ):
        (tmp_path / name).write_text(text)
    quotes = open_quotes(tmp_path)
    assert [file.path.name for file in quotes.files] == ["a.csv", "b.txt"]
    assert quotes.notes == ("3 files without quotes were ignored",)
    (tmp_path / "b.txt").write_text("ts_ns,bid,ask\n2,10.1\n")
    with pytest.raises(DataError, match=r"b\.txt:row 0"):
        open_quotes(tmp_path)


EPOCH_COLUMNS = {
    "ts_ns": [1_709_283_600_000_000_000 + step for step in range(9)],
    "ts_us": [1_709_283_600_000_000 + step for step in range(9)],
    "ts_ms": [1_709_283_600_000 + step for step in range(9)],
    "ts_s": [1_709_283_600 + step for step in range(9)],
    "time": [1_709_283_600.5 + step for step in range(9)],
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", EPOCH_COLUMNS)
def test_every_array_of_a_block_is_contiguous(tmp_path: Path, name: str, kind: str) -> None:
    table = pa.table({name: EPOCH_COLUMNS[name], "bid": [10.125] * 9, "ask": [10.25] * 8 + [10.0]})
    path = tmp_path / f"q.{kind}"
    (pq.write_table if kind == "parquet" else csv.write_csv)(table, path)
    for start_ns in (None, int(joined(open_quotes(path).blocks())[0][3])):
        for block in open_quotes(path).blocks(start_ns=start_ns, block_rows=4):
            for array in block[:3]:
                assert array is not None
                assert array.flags.c_contiguous


def test_a_time_of_day_is_not_taken_for_an_instant(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("time,bid,ask\n34200000,10.1,10.2\n")
    with pytest.raises(DataError, match="time must count from the Unix epoch"):
        open_quotes(tmp_path / "q.csv")


def test_a_price_off_the_given_grid_is_refused_not_rounded(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("ts_ns,bid,ask\n1,10.25,10.50\n2,10.25,10.30\n")
    coarse = Instrument(symbol="Q", price_increment=0.25)
    with pytest.raises(
        DataError, match=r"row 1: ask must be a multiple of the price increment 0.25, was 10.3"
    ):
        joined(open_quotes(tmp_path / "q.csv", instrument=coarse).blocks())


def test_the_hash_is_of_the_bytes(tmp_path: Path, small_file: Path) -> None:
    import hashlib

    assert open_quotes(small_file).data_hash == hashlib.sha256(small_file.read_bytes()).hexdigest()
    copy = tmp_path / "other_name.parquet"
    copy.write_bytes(small_file.read_bytes())
    assert open_quotes(copy).data_hash == open_quotes(small_file).data_hash


@pytest.mark.recording("xagusd_ticks_2012-2016")
def test_five_recorded_years_are_whole_and_ascending(market_data: Path) -> None:
    quotes = open_quotes(market_data.parent)
    assert quotes.instrument.symbol == "XAGUSD"
    rows, previous_ns = 0, 0
    for block in quotes.blocks():
        assert block.ts_ns[0] > previous_ns
        assert (np.diff(block.ts_ns) > 0).all()
        rows, previous_ns = rows + len(block.ts_ns), int(block.ts_ns[-1])
    assert rows == quotes.rows()
    assert quotes.quarantined == quotes.locked == 0


@pytest.mark.parametrize("word", ["hello", "2024-13-01T00:00:00Z", ""])
def test_a_word_among_the_times_of_a_csv_is_named_by_its_row(tmp_path: Path, word: str) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text(
        f"time,bid,ask\n2024-01-02T00:00:00Z,1.1,1.2\n2024-01-02T00:00:01Z,1.1,1.2\n{word},1.1,1.2\n"
    )
    with pytest.raises(DataError, match=r"quotes\.csv:row 2: time must be"):
        list(open_quotes(path).blocks())

"""Damaged lines of feeds: each costs itself and what depended on it, too many refuse the recording."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("msgspec")

from feed_files import BASE_MS, depth, stamped, write_lines
from test_kraken import crc

from backtest.cli.main import main
from data.errors import DataError
from data.importers import binance, importer
from data.importers.damage import DAMAGED_RULE
from data.quarantine import Quarantine
from data.schema import EventKind
from data.store import TickStore
from ext.order_book import OrderBook

LINES = 400
STEP_MS = 100


class Sample(NamedTuple):
    """A recording line by line: its symbol, and whether the line at a place changes the book."""

    rows: list[str]
    symbol: str
    is_book: Callable[[str], bool]


def binance_day(seed: int = 1) -> Sample:
    draw = np.random.default_rng(seed)
    bids, asks = {900 - at: 5 for at in range(20)}, {901 + at: 5 for at in range(20)}
    rows, number = [], 10
    for at in range(LINES):
        ms = at * STEP_MS
        if at % 100 == 0:
            sides = ([(f"{p / 10}", f"{q}.0") for p, q in side.items()] for side in (bids, asks))
            message = {"lastUpdateId": number, "symbol": "BTCUSDT"} | dict(
                zip(("bids", "asks"), sides, strict=True)
            )
            rows.append(stamped(message, ms))
        elif at % 7 == 0:
            trade = {"e": "trade", "E": BASE_MS + ms, "T": BASE_MS + ms, "s": "BTCUSDT", "t": 100 + at // 7}
            rows.append(stamped(trade | {"p": "90.1", "q": "0.5", "m": bool(at % 2)}, ms))
        else:
            side, base, sign = (bids, 900, -1) if draw.integers(2) else (asks, 901, 1)
            price, size = base + sign * int(draw.integers(20)), int(draw.integers(10))
            side.pop(price, None)
            if size:
                side[price] = size
            level = [(f"{price / 10}", f"{size}.0")]
            rows.append(
                depth(
                    number + 1,
                    number + 3,
                    level if side is bids else [],
                    level if side is asks else [],
                    ms=ms,
                )
            )
            number += 3
    return Sample(rows, "BTCUSDT", lambda row: "depthUpdate" in row)


def kraken_day(seed: int = 1) -> Sample:
    draw = np.random.default_rng(seed)
    book: dict[int, dict[int, int]] = {
        1: {900 - at: 5 for at in range(10)},
        -1: {901 + at: 5 for at in range(10)},
    }

    def clock(at: int) -> str:
        return f"{1_700_000_000 + at / 10:.6f}"

    def level(price: int, size: int, at: int) -> list[str]:
        return [f"{price / 10:.5f}", f"{size}.00000000", clock(at)]

    def check() -> str:
        best = [
            [(f"{p / 10:.5f}", f"{q}.00000000") for p, q in sorted(book[side].items(), reverse=side > 0)]
            for side in (-1, 1)
        ]
        return crc(best[0], best[1])

    sides = ((key, [level(p, q, 0) for p, q in book[side].items()]) for key, side in (("as", -1), ("bs", 1)))
    rows = [f"{clock(1)}: {json.dumps([7, dict(sides), 'book-10', 'XBT/USD'])}"]
    for at in range(2, LINES):
        if at % 7 == 0:
            message: list[Any] = [
                8,
                [["90.00000", "0.50000000", clock(at), "b", "l", ""]],
                "trade",
                "XBT/USD",
            ]
        else:
            side = 1 if draw.integers(2) else -1
            price = (900, 901)[side < 0] - side * int(draw.integers(10))
            size = 0 if len(book[side]) > 5 and draw.integers(2) else int(draw.integers(1, 10))
            book[side].pop(price, None)
            if size:
                book[side][price] = size
            update = {"b" if side > 0 else "a": [level(price, size, at)], "c": check()}
            message = [7, update, "book-10", "XBT/USD"]
        rows.append(f"{clock(at)}: {json.dumps(message)}")
    return Sample(rows, "XBT/USD", lambda row: '"book-10"' in row)


def coinbase_day(seed: int = 1) -> Sample:
    draw = np.random.default_rng(seed)

    def line(at: int, kind: str, **fields: Any) -> str:
        return f"{1_700_000_000 + at / 10:.3f}: " + json.dumps(
            {"type": kind, "product_id": "SKL-USD"} | fields
        )

    def time(at: int) -> str:
        return f"2023-11-14T22:{13 + (20 + at // 10) // 60:02}:{(20 + at // 10) % 60:02}.{at % 10}00000Z"

    levels = [[[f"{(900 - sign * at) / 10}", "5.0"] for at in range(20)] for sign in (1, -1)]
    rows = [line(0, "snapshot", bids=levels[0], asks=levels[1][1:])]
    for at in range(1, LINES):
        if at % 7 == 0:
            fields = {"trade_id": at // 7, "side": "buy", "size": "1.5", "price": "90.0", "time": time(at)}
            rows.append(line(at, "match", **fields))
        else:
            side = ("buy", "sell")[int(draw.integers(2))]
            price = 900 + (1 + int(draw.integers(19))) * (-1 if side == "buy" else 1)
            rows.append(
                line(
                    at, "l2update", changes=[[side, f"{price / 10}", f"{draw.integers(9)}.0"]], time=time(at)
                )
            )
    return Sample(rows, "SKL-USD", lambda row: "l2update" in row)


def bitstamp_day(seed: int = 1) -> Sample:
    draw = np.random.default_rng(seed)
    rows, live = [], list[tuple[int, int, int]]()
    for at in range(LINES):
        stamp = BASE_MS + at * STEP_MS
        if at % 7 == 0:
            rows.append(f'{stamp} trade {{"price": 90.1, "amount": 0.5, "id": {at}}}')
            continue
        number, side = 1_000 + at, int(draw.integers(2))
        if live and draw.integers(2):
            number, side, price = live.pop(int(draw.integers(len(live))))
            what = "deleted"
        else:
            price, what = 901 + int(draw.integers(20)) * (1 if side else -1), "created"
            live.append((number, side, price))
        record = {
            "price": f"{price / 10}",
            "amount": "2.0",
            "datetime": "1",
            "id": number,
            "order_type": side,
        }
        rows.append(f"{stamp} order_{what} {json.dumps(record)}")
    return Sample(rows, "BTCUSD", lambda row: "order_" in row)


def jsonl_day(seed: int = 1) -> Sample:
    return binance_day(seed)


SAMPLES: dict[str, Callable[[], Sample]] = {
    "binance": binance_day, "kraken": kraken_day, "coinbase": coinbase_day, "bitstamp": bitstamp_day,
    "jsonl": jsonl_day,
}  # fmt: skip


def read(name: str, path: Path, sample: Sample) -> tuple[np.ndarray, Quarantine]:
    source = importer(name).open_source([path], symbol=sample.symbol)
    quarantine = Quarantine()
    source.quarantine = quarantine  # type: ignore[attr-defined]
    return np.concatenate(list(source.blocks())), quarantine


@pytest.mark.parametrize("name", SAMPLES)
def test_a_line_that_cannot_be_read_costs_itself(name: str, tmp_path: Path) -> None:
    """What comes before is as it was, and behind no level stands that the undamaged book does not have."""
    sample = SAMPLES[name]()
    whole, _ = read(name, write_lines(tmp_path / "whole.txt", sample.rows), sample)
    place = next(at for at in range(150, LINES) if sample.is_book(sample.rows[at]))
    rows = list(sample.rows)
    rows[place] = "\0" * 40
    path = write_lines(tmp_path / "damaged.txt", rows)
    events, quarantine = read(name, path, sample)
    assert quarantine.counts[DAMAGED_RULE] == 1
    before = int(np.searchsorted(whole["seq"], place))
    assert (events[:before] == whole[:before]).all()
    behind = events[before:]
    clears = [(some["kind"] == EventKind.CLEAR).sum() for some in (behind, whole[before:])]
    assert clears[0] > clears[1]
    cleared = int(np.argmax(behind["kind"] == EventKind.CLEAR))
    assert (behind["kind"][:cleared] == EventKind.TRADE).all()
    assert final_book(events).items() <= final_book(whole).items()
    with pytest.raises(DataError, match=rf"damaged\.txt:row {place}: expected"):
        list(importer(name).open_source([path], symbol=sample.symbol, strict=True).blocks())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_killed_recorder_costs_the_line_it_was_writing(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]()
    whole, _ = read(name, write_lines(tmp_path / "whole.txt", sample.rows[:-1]), sample)
    path = tmp_path / "killed.txt"
    path.write_text("\n".join(sample.rows)[:-30])
    events, quarantine = read(name, path, sample)
    assert quarantine.counts[DAMAGED_RULE] == 1
    assert (events == whole).all()


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("damage", ["flip", "digit"])
def test_one_damaged_byte_never_refuses_a_recording(name: str, damage: str, tmp_path: Path) -> None:
    """Nor does it take more than a few seconds of the market out, whatever number it changed."""
    sample = SAMPLES[name]()
    whole, _ = read(name, write_lines(tmp_path / "whole.txt", sample.rows), sample)
    draw = np.random.default_rng(3)
    path = tmp_path / "damaged.txt"
    for _ in range(25):
        data = bytearray("".join(f"{row}\n" for row in sample.rows).encode())
        digits = np.flatnonzero(np.isin(np.frombuffer(bytes(data), np.uint8), list(b"0123456789")))
        at = int(draw.choice(digits)) if damage == "digit" else int(draw.integers(len(data)))
        data[at] = (
            int(draw.integers(48, 58)) if damage == "digit" else data[at] ^ (1 << int(draw.integers(8)))
        )
        path.write_bytes(data)
        events, _ = read(name, path, sample)
        row = bytes(data[:at]).count(b"\n")
        times = events["ts_ns"][events["seq"] > row + 1]
        if len(times) and name != "jsonl":
            expected = whole["ts_ns"][np.isin(whole["seq"], events["seq"][events["seq"] > row + 1])]
            assert np.median(times) - np.median(expected) < 65 * 10**9


def final_book(events: np.ndarray) -> dict[tuple[int, int], int]:
    book = OrderBook()
    book.apply(events)
    return {(side, p): lots for side in (1, -1) for p, lots in book.depth_array(side, 100).tolist() if lots}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_letter_that_changed_leaves_no_level_that_is_not_there(name: str, tmp_path: Path) -> None:
    """Names of messages, fields and symbols: the line is none of another kind, so the book is doubted."""
    sample = SAMPLES[name]()
    whole, _ = read(name, write_lines(tmp_path / "whole.txt", sample.rows), sample)
    place = next(at for at in range(LINES - 12, LINES) if sample.is_book(sample.rows[at]))
    row = sample.rows[place]
    for at in [at for at in range(len(row)) if row[at].isalpha()][::2]:
        if name == "jsonl" and row[at - 1 : at + 2] == '"b"':
            continue  # one side may be left out
        rows = [*sample.rows]
        rows[place] = row[:at] + chr(ord(row[at]) ^ 1) + row[at + 1 :]
        events, _ = read(name, write_lines(tmp_path / "damaged.txt", rows), sample)
        is_cleared = (events["kind"][events["seq"] >= place] == EventKind.CLEAR).any()
        assert is_cleared or final_book(events).items() <= final_book(whole).items(), rows[place]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_percent_of_bytes_refuses_it_and_stores_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = np.frombuffer("\n".join(SAMPLES[name]().rows).encode(), np.uint8).copy()
    draw = np.random.default_rng(5)
    places = draw.integers(len(data), size=len(data) // 100)
    data[places] = draw.integers(256, size=len(places))
    path = tmp_path / "flipped.txt"
    path.write_bytes(data.tobytes())
    store = tmp_path / "store"
    given = ["data", "import", name, str(path), "--store", str(store), "--symbol", SAMPLES[name]().symbol]
    assert main(given) == 2
    assert "flipped.txt" in capsys.readouterr().err
    assert not store.exists()


def test_the_side_file_has_the_line_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    sample = binance_day()
    rows = [*sample.rows[:150], "no message", *sample.rows[150:]]
    path = write_lines(tmp_path / "b.jsonl", rows)
    assert main(["data", "import", "binance", str(path), "--store", str(tmp_path / "store")]) == 0
    (side_file,) = (tmp_path / "store.quarantine").glob("*.parquet")
    (found,) = pl.read_parquet(side_file).filter(pl.col("rule") == DAMAGED_RULE).to_dicts()
    assert (found["file"], found["row"]) == (str(path), 150)
    assert json.loads(found["raw"]) == {
        "line": "no message",
        "why": "expected a receive time and a JSON object, was b'no message'",
    }
    assert sum(part.rows for part in TickStore(tmp_path / "store").partitions()) > 300


@pytest.mark.parametrize(("share", "code"), [(0.01, 2), (0.05, 0)])
def test_the_gate_says_how_many_lines_may_be_damaged(tmp_path: Path, share: float, code: int) -> None:
    rows = list(binance_day().rows)
    rows[20:40:2] = ["{"] * 10
    path = write_lines(tmp_path / "b.jsonl", rows)
    gate = tmp_path / "gate.toml"
    gate.write_text(f"[settings]\ndamaged_share = {share}\n")
    given = ["data", "import", "binance", str(path), "--store", str(tmp_path / "s"), "--gate", str(gate)]
    assert main(given) == code
    with pytest.raises(
        DataError, match=r"b\.jsonl:row 20: at most 0.01 of the lines may be .* was 10 of 400"
    ):
        list(binance.open_source([path]).blocks())


@pytest.mark.parametrize("name", ["binance", "kraken", "coinbase", "bitstamp"])
def test_verify_counts_a_damaged_line_as_a_mismatch(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]()
    whole = importer(name).verify([write_lines(tmp_path / "whole.txt", sample.rows)])
    rows = [*sample.rows, "x"]
    check = importer(name).verify([write_lines(tmp_path / "damaged.txt", rows)])
    assert (check.matched, check.total) == (whole.matched, whole.total + 1)
    assert f"damaged.txt:row {len(rows) - 1}: " in str(check.first_mismatch)
    assert main(["data", "verify", name, str(tmp_path / "damaged.txt")]) == 1


@pytest.mark.parametrize("damaged", ["x", "quote"])
def test_a_damaged_line_behind_a_quote_is_not_compared(damaged: str, tmp_path: Path) -> None:
    rows = binance_day().rows
    ticker = {"u": 13, "s": "BTCUSDT", "b": "90.0", "B": "5.0", "a": "90.1", "A": "5.0"}
    line = "x" if damaged == "x" else stamped(ticker | {"A": "5.0?"}, STEP_MS)
    path = tmp_path / "day.jsonl"
    write_lines(path, [*rows[:2], stamped(ticker, STEP_MS), line, *rows[2:]])
    found = importer("binance").verify([path])
    assert found.total - found.matched >= 1
    assert any("touches equal the last bookTicker" in note for note in found.notes)


def test_a_damaged_letter_makes_no_second_symbol(tmp_path: Path) -> None:
    rows = list(binance_day().rows)
    rows[210] = rows[210].replace("BTCUSDT", "BTCUSDU")
    source = binance.open_source([write_lines(tmp_path / "b.jsonl", rows)])
    assert source.instrument.symbol == "BTCUSDT"
    rows[10:110] = [row.replace("BTCUSDT", "BTCUSDU") for row in rows[10:110]]
    with pytest.raises(DataError, match="one of its symbols, given as --symbol, was BTCUSDT, BTCUSDU"):
        binance.open_source([write_lines(tmp_path / "b.jsonl", rows)])


def test_a_stamp_far_ahead_moves_nothing_but_its_own_line(tmp_path: Path) -> None:
    rows = list(binance_day().rows)
    rows[160] = rows[160].replace(f'"E": {BASE_MS + 16_000}', f'"E": {BASE_MS + 10**9}')
    whole, _ = read("binance", write_lines(tmp_path / "whole.txt", binance_day().rows), binance_day())
    events, quarantine = read("binance", write_lines(tmp_path / "b.jsonl", rows), binance_day())
    assert quarantine.counts[DAMAGED_RULE] == 1
    assert events["ts_ns"].max() == whole["ts_ns"].max()


def test_an_id_far_too_large_is_not_believed_for_long(tmp_path: Path) -> None:
    """All that follows is old by its number; after ten seconds of that the venue's clock is believed."""
    rows = list(binance_day().rows)
    place = next(at for at in range(110, 200) if "depthUpdate" in rows[at])
    message = json.loads(rows[place].partition(" ")[2])
    message["data"]["u"] += 9 * 10**6
    rows[place] = f"{rows[place].partition(' ')[0]} {json.dumps(message)}"
    whole, _ = read("binance", write_lines(tmp_path / "whole.txt", binance_day().rows), binance_day())
    events, _ = read("binance", write_lines(tmp_path / "b.jsonl", rows), binance_day())
    last = whole["seq"] >= 300
    assert (events[-int(last.sum()) :] == whole[last]).all()


@given(st.integers(1, 1_000), st.integers(60, LINES - 60), st.integers(0, 9))
@settings(max_examples=12, deadline=None)
def test_kraken_s_checksum_hides_a_wrong_book_and_brings_it_back(seed: int, place: int, digit: int) -> None:
    """Whatever volume an update was damaged to: every book that is shown has the venue's checksum."""
    sample = kraken_day(seed)
    rows = list(sample.rows)
    place = next(at for at in range(place, LINES) if ".00000000" in rows[at] and "book-10" in rows[at])
    head, mark, tail = rows[place].partition('.00000000"')
    rows[place] = head[:-1] + str(digit) + mark + tail
    with TemporaryDirectory() as folder:
        path = write_lines(Path(folder) / "k.ws", rows)
        whole = write_lines(Path(folder) / "w.ws", sample.rows)
        source = importer("kraken").open_source([path])
        found, truth = OrderBook(), OrderBook()
        undamaged = importer("kraken").open_source([whole])
        shown = 0
        for (_, row, events, _), (_, _, true_events, _) in zip(
            source.packets(),
            undamaged.packets(),
            strict=True,  # type: ignore[attr-defined]
        ):
            found.apply(events)
            truth.apply(true_events)
            if found.bid_size_lots or row < place:
                shown += 1
                assert found.state_hash() == truth.state_hash() or (row >= place and _same_ten(found, truth))
        assert shown > place


def _same_ten(book: OrderBook, other: OrderBook) -> bool:
    return all((book.depth_array(side, 10) == other.depth_array(side, 10)).all() for side in (1, -1))


def test_a_book_whose_snapshot_was_damaged_grows_from_updates(tmp_path: Path) -> None:
    rows = list(coinbase_day().rows)
    rows[0] = rows[0][:200]
    events, quarantine = read("coinbase", write_lines(tmp_path / "c.ws", rows), coinbase_day())
    assert dict(quarantine.counts) == {DAMAGED_RULE: 1}
    assert events["kind"][:2].tolist() == [EventKind.CLEAR, EventKind.LEVEL]
    assert (events["kind"] == EventKind.CLEAR).sum() == 1


def test_a_numbered_line_with_a_stamp_far_ahead_leaves_no_level_standing(tmp_path: Path) -> None:
    """Its number had come, so nothing else would tell that what it said did not happen."""
    rows = [
        json.dumps(
            {"e": "update", "E": BASE_MS + at, "b": [["10.00", str(at)]], "a": [["11.00", "1"]], "u": at}
        )
        for at in range(1, 40)
    ]
    rows[19] = rows[19].replace(f'"E": {BASE_MS + 20}', f'"E": {BASE_MS + 10**9}')
    path = write_lines(tmp_path / "u.jsonl", rows)
    source = importer("jsonl").open_source([path])
    source.quarantine = quarantine = Quarantine()  # type: ignore[attr-defined]
    events = np.concatenate(list(source.blocks()))
    assert dict(quarantine.counts) == {DAMAGED_RULE: 1}
    assert np.flatnonzero(events["kind"] == EventKind.CLEAR).tolist() == [38]
    assert events["ts_ns"].max() == (BASE_MS + 39) * 10**6

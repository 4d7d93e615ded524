"""DBN: record by record against the official decoder, and what each record becomes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

pytest.importorskip("databento_dbn")

import databento_dbn as dbn
from feed_files import joined, mutants, survives, told

from data.errors import DataError
from data.importers import databento
from data.importers.dbn_records import (
    BBO_DTYPE,
    DTYPES,
    MBO_DTYPE,
    MBP1_DTYPE,
    MBP10_DTYPE,
    PRICE_UNDEFINED,
    TRADE_DTYPE,
)  # fmt: skip
from data.schema import EventKind
from ext.order_book import OrderBook

ADD, CANCEL, REDUCE, CLEAR, TRADE, LEVEL, QUOTE = (
    EventKind.ADD, EventKind.CANCEL, EventKind.REDUCE, EventKind.CLEAR, EventKind.TRADE, EventKind.LEVEL,
    EventKind.QUOTE,
)  # fmt: skip
ONE_DAY = timedelta(days=1)
START = 1_700_000_000_000_000_000
LAST, SNAPSHOT = 128, 32
TICK = 250_000_000


def metadata(schema: Any, version: int = 3) -> bytes:
    made = dbn.Metadata(
        dataset="GLBX.MDP3", start=START, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=schema, symbols=["ESH4"], version=version,
    )  # fmt: skip
    return bytes(made.encode())


def databento_day(ts_ns: int) -> date:
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).date()


def mbo(*rows: tuple[str, str, int, int, int, int]) -> NDArray[np.void]:
    """Records of (action, side, order id, price in ticks, size, flags), a microsecond apart."""
    records = np.zeros(len(rows), MBO_DTYPE)
    records["length"], records["rtype"], records["instrument_id"] = MBO_DTYPE.itemsize // 4, 0xA0, 7
    records["ts_event"] = START + 1_000 * np.arange(len(rows))
    records["ts_recv"] = records["ts_event"] + 500
    for place, (action, side, order_id, ticks, size, flags) in enumerate(rows):
        record = records[place]
        record["action"], record["side"], record["order_id"] = action, side, order_id
        record["price"] = ticks * TICK if ticks else PRICE_UNDEFINED
        record["size"], record["flags"] = size, flags
    return records


def priced(dtype: np.dtype[np.void], rtype: int, *rows: tuple[str, str, int, int]) -> NDArray[np.void]:
    """Records of (action, side, price in ticks, size) without levels."""
    records = np.zeros(len(rows), dtype)
    records["length"], records["rtype"], records["instrument_id"] = dtype.itemsize // 4, rtype, 7
    records["ts_event"] = START + 1_000 * np.arange(len(rows))
    records["ts_recv"], records["flags"] = records["ts_event"] + 500, LAST
    for place, (action, side, ticks, size) in enumerate(rows):
        record = records[place]
        record["action"], record["side"], record["price"], record["size"] = action, side, ticks * TICK, size
    if "levels" in (dtype.names or ()):
        records["levels"]["bid_px"] = records["levels"]["ask_px"] = PRICE_UNDEFINED
    return records


def write(
    path: Path, schema: Any, records: NDArray[np.void], *, version: int = 3, zstd: bool = False
) -> Path:
    data = metadata(schema, version) + records.tobytes()
    path.write_bytes(pa.compress(data, "zstd", asbytes=True) if zstd else data)
    return path


ORDERS = mbo(
    ("R", "N", 0, 0, 0, SNAPSHOT),
    ("A", "B", 1, 400, 5, SNAPSHOT),
    ("A", "A", 2, 401, 9, SNAPSHOT | LAST),
    ("A", "B", 3, 400, 2, LAST),
    ("T", "A", 0, 400, 4, 0),
    ("F", "B", 1, 400, 4, 0),
    ("C", "B", 1, 400, 4, LAST),
    ("M", "B", 3, 399, 2, LAST),
    ("M", "A", 2, 401, 6, LAST),
    ("C", "B", 1, 400, 1, 0),
    ("F", "A", 2, 401, 1, LAST),
)


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("zstd", [False, True])
def test_orders_are_followed_one_by_one(tmp_path: Path, version: int, zstd: bool) -> None:
    path = write(tmp_path / "x.dbn", dbn.Schema.MBO, ORDERS, version=version, zstd=zstd)
    source = databento.open_source([path])
    assert (source.instrument.price_increment, source.instrument.tick_size_ticks) == (0.01, 1)
    events = joined(source)
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4),
        (ADD, 1, 10_000, 5, 4),
        (ADD, -1, 10_025, 9, 5),
        (ADD, 1, 10_000, 2, 1),
        (TRADE, -1, 10_000, 4, 0),
        (REDUCE, 1, 10_000, 4, 1),
        (CANCEL, 1, 10_000, 2, 0),
        (ADD, 1, 9_975, 2, 1),
        (REDUCE, -1, 10_025, 3, 1),
        (REDUCE, 1, 10_000, 1, 1),
    ]
    assert events["order_id"].tolist() == [0, 1, 2, 3, 0, 1, 3, 3, 2, 1]
    # A snapshot is told when it is received, not when its orders were placed.
    assert (events["ts_ns"] - START).tolist() == [500, 1500, 2500, 3000, 4000, 6000, 7000, 7000, 8000, 9000]
    assert source.notes == ("2 fills: the cancellation or modification behind each changes the book",)
    book = OrderBook()
    book.apply(events)
    assert (book.bid_price_ticks, book.bid_size_lots, book.ask_size_lots) == (9_975, 2, 6)
    assert (book.unknown_orders, book.refused) == (0, 0)
    check = databento.verify([path])
    assert (check.matched, check.total) == (11, 11)


def test_blocks_may_be_of_any_size(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dbn", dbn.Schema.MBO, ORDERS)
    whole = joined(databento.open_source([path]))
    assert (joined(databento.open_source([path]), 1) == whole).all()


def test_quotes_and_trades_of_mbp1(tmp_path: Path) -> None:
    records = priced(MBP1_DTYPE, 0x01, ("A", "B", 400, 1), ("T", "B", 401, 2), ("C", "A", 401, 2))
    records["levels"]["bid_px"][:, 0], records["levels"]["bid_sz"][:, 0] = 400 * TICK, 3
    records["levels"]["ask_px"][:2, 0], records["levels"]["ask_sz"][:2, 0] = 401 * TICK, 2
    path = write(tmp_path / "x.dbn", dbn.Schema.MBP_1, records)
    events = joined(databento.open_source([path]))
    assert told(events) == [(QUOTE, 0, 10_000, 3, 1), (TRADE, 1, 10_025, 2, 1), (QUOTE, 0, 10_000, 3, 1)]
    assert events["order_id"].tolist() == [10_025 | 2 << 32, 0, 0]
    tbbo = joined(databento.open_source([write(tmp_path / "y.dbn", dbn.Schema.TBBO, records[1:2])]))
    assert told(tbbo) == [(QUOTE, 0, 10_000, 3, 0), (TRADE, 1, 10_025, 2, 1)]
    assert databento.verify([path]).matched == 3


def test_ten_levels_equal_the_book(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    records = priced(MBP10_DTYPE, 0x0A, *(("A", "B", 400, 1) for _ in range(50)))
    levels = records["levels"]
    for place in range(50):
        count = int(random.integers(0, 11))
        middle = int(random.integers(390, 410))
        for name, step in (("bid", -1), ("ask", 1)):
            levels[f"{name}_px"][place, :count] = (middle + step * np.arange(1, count + 1)) * TICK
            levels[f"{name}_sz"][place, :count] = random.integers(1, 4, count)
    path = write(tmp_path / "x.dbn", dbn.Schema.MBP_10, records)
    source = databento.open_source([path])
    book, events = OrderBook(), joined(source)
    for place in range(50):
        book.apply(events[events["seq"] == place])
        for name, side in (("bid", 1), ("ask", -1)):
            shown = levels[f"{name}_sz"][place] > 0
            expected = np.stack((levels[f"{name}_px"][place] // 10**7, levels[f"{name}_sz"][place]), axis=1)[
                shown
            ]
            found = book.depth_array(side, 11)
            assert found[found[:, 1] > 0].tolist() == expected.tolist()


def test_sampled_quotes_have_the_time_of_the_sample(tmp_path: Path) -> None:
    records = priced(BBO_DTYPE, 0xC3, ("\0", "B", 400, 1))
    records["levels"]["bid_px"], records["levels"]["bid_sz"] = 400 * TICK, 3
    events = joined(databento.open_source([write(tmp_path / "x.dbn", dbn.Schema.BBO_1S, records)]))
    assert told(events) == [(QUOTE, 0, 100, 3, 1)]
    assert events["ts_ns"].tolist() == [START + 500]


def test_layouts_have_the_official_sizes() -> None:
    for kind, dtype in (
        (dbn.MBOMsg, MBO_DTYPE), (dbn.TradeMsg, TRADE_DTYPE), (dbn.MBP1Msg, MBP1_DTYPE),
        (dbn.MBP10Msg, MBP10_DTYPE), (dbn.BBOMsg, BBO_DTYPE), (dbn.CMBP1Msg, MBP1_DTYPE),
        (dbn.CBBOMsg, BBO_DTYPE),
    ):  # fmt: skip
        assert kind.size_hint == dtype.itemsize
    assert {
        int(code.value) if hasattr(code, "value") else int(code) for code in (dbn.RType.MBO,)
    } <= DTYPES.keys()


def test_a_definition_gives_the_tick_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = priced(TRADE_DTYPE, 0x00, ("T", "B", 400, 1))
    trades = write(tmp_path / "trades.dbn", dbn.Schema.TRADES, records)
    plain = databento.open_source([trades]).instrument
    assert (plain.price_increment, plain.tick_size_ticks) == (1.0, 1)
    definitions = write(tmp_path / "definitions.dbn", dbn.Schema.DEFINITION, records[:0])
    told_by_venue = SimpleNamespace(instrument_id=7, min_price_increment=TICK)
    monkeypatch.setattr(databento, "_official_records", lambda file: iter([told_by_venue]))
    known = databento.open_source([trades, definitions]).instrument
    assert (known.price_increment, known.tick_size_ticks) == (0.01, 25)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("price", 400 * TICK + 1, "price must be a multiple"),
        ("action", b"X", "action must be one of"),
        ("side", b"X", "side must be B, A or N"),
        ("ts_event", 1 << 63, "between 1970 and 2200"),
        ("order_id", 1 << 63, "must fit 63 bits"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, field: str, value: Any, rule: str) -> None:
    good = databento.open_source([write(tmp_path / "good.dbn", dbn.Schema.MBO, ORDERS)]).instrument
    records = ORDERS.copy()
    records[field][3] = value
    path = write(tmp_path / "bad.dbn", dbn.Schema.MBO, records)
    with pytest.raises(DataError, match=rule) as caught:
        joined(databento.open_source([path], instrument=good))
    assert caught.value.row == 3


def test_a_file_cut_off_is_refused_by_offset(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.dbn", dbn.Schema.MBO, ORDERS)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="expected a whole record, was cut off") as caught:
        joined(databento.open_source([path]))
    assert (caught.value.row, caught.value.offset) == (10, len(metadata(dbn.Schema.MBO)) + 560)


def test_other_schemas_and_fragments_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dbn", dbn.Schema.OHLCV_1S, ORDERS[:0])
    with pytest.raises(DataError, match="expected one of the schemas mbo"):
        databento.open_source([path])
    path.write_bytes(ORDERS.tobytes())
    with pytest.raises(DataError, match="expected DBN version 1 to 3 with metadata"):
        databento.open_source([path])


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mutant.dbn", dbn.Schema.MBO, ORDERS)
    outcomes = set()
    for mutant in mutants(path.read_bytes(), count=400, seed=6):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: databento.open_source([path]), path))
    assert outcomes == {True, False}


def test_damage_is_a_difference_or_an_error_of_ours(tmp_path: Path) -> None:
    path = write(tmp_path / "mutant.dbn", dbn.Schema.MBO, ORDERS)
    differences = 0
    for mutant in mutants(path.read_bytes(), count=300, seed=10):
        path.write_bytes(mutant)
        try:
            check = databento.verify([path])
        except DataError:
            continue
        differences += check.matched < check.total
    assert differences == 0, "both decoders read the same bytes"


@pytest.mark.recording("dbn_samples")
def test_every_sample_equals_the_official_decoder(market_data: Path) -> None:
    whole = [path for path in sorted(market_data.rglob("*")) if path.name.endswith((".dbn", ".dbn.zst"))]
    counts = [(check := databento.verify([path])).matched - check.total for path in whole]
    assert len(counts) >= 67
    assert not any(counts)


@pytest.mark.recording("dbn_samples")
def test_the_recorded_book_never_crosses_and_trades_at_the_touch(market_data: Path) -> None:
    path = market_data / "orderbooks_mbo_2024-05-08T00-00-00_2024-05-08T00-00-02.dbn.zst"
    source = databento.open_source([path])
    book, trades = OrderBook(), 0
    assert source.instrument.tick_size_ticks == 25
    for event in np.split(events := joined(source), len(events)):
        if event["kind"][0] == TRADE:
            trades += 1
            touch = book.ask_price_ticks if event["side"][0] > 0 else book.bid_price_ticks
            assert event["price_ticks"][0] == touch
        book.apply(event)
    assert (trades, book.crossed, book.unknown_orders) == (5, 0, 0)
    assert book.ask_price_ticks - book.bid_price_ticks == 25


def slowly(records: NDArray[np.void]) -> list[tuple[int, ...]]:
    """(kind, order id, price in hundredths, size, side) of MBO records, one by one."""
    orders: dict[int, tuple[int, int, int]] = {}
    found: list[tuple[int, ...]] = []
    for action, side_code, order_id, nano, size in records[
        ["action", "side", "order_id", "price", "size"]
    ].tolist():
        price = 0 if nano == PRICE_UNDEFINED else nano // 10_000_000
        side = {b"B": 1, b"A": -1}.get(side_code, 0)
        known = orders.get(order_id)
        if action == b"A":
            orders.setdefault(order_id, (price, size, side))
            found.append((ADD, order_id, price, size, side))
        elif action == b"C":
            if known is not None:
                orders[order_id] = (known[0], known[1] - size, known[2])
                if known[1] <= size:
                    del orders[order_id]
            found.append((REDUCE, order_id, price, size, side))
        elif action == b"M":
            orders[order_id] = (price, size, side)
            if known is not None and known[::2] == (price, side) and size <= known[1]:
                if size < known[1]:
                    found.append((REDUCE, order_id, price, known[1] - size, side))
                continue
            if known is not None:
                found.append((CANCEL, order_id, *known))
            found.append((ADD, order_id, price, size, side))
        elif action == b"T":
            found.append((TRADE, 0, price, size, side))
        elif action == b"R":
            orders.clear()
            found.append((CLEAR, 0, 0, 0, 0))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_orders_agree_with_a_record_by_record_reading(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    live: dict[int, tuple[str, int, int]] = {}
    rows = []
    for number in range(1, 3_000):
        at = random.random()
        if at < 0.45 or not live:
            live[number] = ("BA"[random.integers(2)], int(random.integers(1, 60)), int(random.integers(1, 9)))
            rows.append(("A", live[number][0], number, *live[number][1:], LAST))
            continue
        order_id = int(random.choice(list(live)))
        side, price, size = live[order_id]
        if at < 0.65:
            cut = int(random.integers(1, size + 1))
            rows.append(("C", side, order_id, price, cut, LAST))
            live[order_id] = (side, price, size - cut)
            if cut == size:
                del live[order_id]
        elif at < 0.95:
            price, size = (
                price + int(random.integers(-1, 2)) * int(random.integers(2)),
                int(random.integers(1, 9)),
            )
            live[order_id] = (side, max(price, 1), size)
            rows.append(("M", *((side, order_id, *live[order_id][1:])), int(LAST * random.integers(2))))
        elif at < 0.98:
            rows.append(("T", side, 0, price, 1, 0))
        elif at < 0.995:
            rows.append(("M", "B", number, 30, 2, LAST))
            live[number] = ("B", 30, 2)
        else:
            rows.append(("R", "N", 0, 0, 0, LAST))
            live.clear()
    path = write(tmp_path / "x.dbn", dbn.Schema.MBO, mbo(*rows))
    events = joined(databento.open_source([path]))
    names = ["kind", "order_id", "price_ticks", "size_lots", "side"]
    assert events[names].tolist() == slowly(mbo(*rows))


@pytest.mark.parametrize("seed", range(5))
def test_changed_levels_rebuild_every_book(tmp_path: Path, seed: int) -> None:
    """After each record the book of LEVEL events has the record's ten levels and nothing else."""
    random = np.random.default_rng(seed)
    records = priced(MBP10_DTYPE, 0x0A, *[("A", "B", 400, 1)] * 400)
    for record in records:
        record["action"] = random.choice([b"A", b"C", b"M", b"T", b"R"], p=[0.4, 0.3, 0.2, 0.08, 0.02])
        for side, start, step in (("bid", 400, -1), ("ask", 401, 1)):
            count = int(random.integers(0, 11))
            prices = start + step * np.sort(random.choice(14, count, replace=False))
            record["levels"][f"{side}_px"][:count] = prices * TICK
            record["levels"][f"{side}_sz"][:count] = random.integers(1, 4, count)
    path = write(tmp_path / "x.dbn", dbn.Schema.MBP_10, records)
    book, shown = OrderBook(), records[0]
    events = joined(databento.open_source([path]))
    for at, record in enumerate(records):
        book.apply(np.ascontiguousarray(events[events["seq"] == at]))
        shown = shown if record["action"] == b"T" else record
        for side, name in ((1, "bid"), (-1, "ask")):
            stands = [(price, lots) for price, lots in book.depth_array(side, 20).tolist() if lots]
            wanted = shown["levels"][[f"{name}_px", f"{name}_sz"]].tolist()
            if at or record["action"] != b"T":
                assert stands == [(px // 10_000_000, lots) for px, lots in wanted if lots]


def test_an_id_counts_on_its_days_alone(tmp_path: Path) -> None:
    """A continuous symbol rolls from id 7 to id 8 at midnight; each id is another symbol's that other day."""
    midnight = START // (86_400 * 10**9) * 86_400 * 10**9 + 86_400 * 10**9
    records = mbo(*[("A", "B", number, 400 + number, 1, LAST) for number in range(1, 9)])
    records["instrument_id"] = [7, 8, 7, 8, 7, 8, 7, 8]
    records["ts_event"][4:] += np.uint64(midnight - START)
    records["ts_recv"] = records["ts_event"] + 500
    path = write(tmp_path / "roll.dbn", dbn.Schema.MBO, records)
    day = databento_day(midnight)
    spans = {"ES.c.0": [(day - ONE_DAY, day, "7"), (day, day + ONE_DAY, "8")],
             "ES.c.1": [(day - ONE_DAY, day, "8"), (day, day + ONE_DAY, "7")]}  # fmt: skip
    made = dbn.Metadata(
        dataset="GLBX.MDP3", start=START, stype_in=dbn.SType.CONTINUOUS, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.MBO, symbols=list(spans), version=3,
        mappings=[
            SimpleNamespace(
                raw_symbol=name,
                intervals=[SimpleNamespace(start_date=a, end_date=b, symbol=c) for a, b, c in found],
            )
            for name, found in spans.items()
        ],
    )  # fmt: skip
    path.write_bytes(bytes(made.encode()) + records.tobytes())
    for symbol, ids in (("ES.c.0", [1, 3, 0, 6, 8]), ("ES.c.1", [2, 4, 0, 5, 7])):
        source = databento.open_source([path], symbol=symbol)
        events = joined(source)
        assert events["order_id"].tolist() == ids
        assert events["kind"].tolist() == [ADD, ADD, CLEAR, ADD, ADD]
        assert "1 changes of the instrument id, the book cleared at each" in source.notes

"""hftbacktest files: read, written, and back again without a difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feed_files import joined, mutants, survives, told
from numpy.typing import NDArray

from data.errors import DataError
from data.importers import hftbacktest
from data.importers.hftbacktest_rows import (
    ADD_ORDER,
    BUY,
    CANCEL_ORDER,
    DEPTH,
    DEPTH_BBO,
    DEPTH_CLEAR,
    DEPTH_SNAPSHOT,
    EXCHANGE,
    FILL,
    KIND_MASK,
    LOCAL,
    MODIFY_ORDER,
    ROW_DTYPE,
    SELL,
    TRADE,
)  # fmt: skip
from data.instrument import Instrument
from data.schema import EVENT_DTYPE, RECV_NOT_RECORDED, EventFlag, EventKind
from ext.order_book import OrderBook

BOTH = EXCHANGE | LOCAL
INSTRUMENT = Instrument(symbol="BTC", price_increment=0.1, lot_size=0.001)


def rows_of(*rows: tuple[int, int, int, float, float]) -> NDArray[np.void]:
    """Rows of (flags and kind, exchange time, local time, price, quantity)."""
    table = np.zeros(len(rows), ROW_DTYPE)
    for place, (ev, exch_ts, local_ts, px, qty) in enumerate(rows):
        table[place] = (ev, exch_ts, local_ts, px, qty, 0, 0, 0.0)
    return table


def save(path: Path, rows: NDArray[np.void]) -> Path:
    np.savez_compressed(path, data=rows)
    return path


ROWS = rows_of(
    (BOTH | BUY | DEPTH_SNAPSHOT, 10, 15, 100.1, 1.5),
    (BOTH | SELL | DEPTH_SNAPSHOT, 10, 15, 100.2, 2.0),
    (BOTH | BUY | DEPTH, 20, 26, 100.0, 0.003),
    (EXCHANGE | BUY | TRADE, 21, 40, 100.2, 0.5),
    (BOTH | SELL | DEPTH, 22, 27, 100.2, 1.5),
    (LOCAL | BUY | TRADE, 21, 40, 100.2, 0.5),
    (BOTH | BUY | DEPTH_CLEAR, 50, 55, 100.1, 0.0),
    (BOTH | DEPTH_CLEAR, 60, 65, np.nan, 0.0),
)


def test_rows_become_events_in_the_exchange_order(tmp_path: Path) -> None:
    source = hftbacktest.open_source([save(tmp_path / "btc.npz", ROWS)])
    assert (source.instrument.price_increment, source.instrument.lot_size) == (0.1, 0.001)
    events = joined(source)
    assert told(events) == [
        (EventKind.LEVEL, 1, 1001, 1500, 4),
        (EventKind.LEVEL, -1, 1002, 2000, 5),
        (EventKind.LEVEL, 1, 1000, 3, 1),
        (EventKind.TRADE, 1, 1002, 500, 1),
        (EventKind.LEVEL, -1, 1002, 1500, 1),
        (EventKind.LEVEL, 1, 1001, 0, 1),
        (EventKind.CLEAR, 0, 0, 0, 1),
    ]
    assert events["recv_ns"].tolist() == [15, 15, 26, 40, 27, 55, 65]
    assert source.notes == ("1 rows for the local order alone",)
    check = hftbacktest.verify([tmp_path / "btc.npz"])
    assert (check.matched, check.total) == (5, 5)


def test_one_sided_quotes_are_joined(tmp_path: Path) -> None:
    rows = rows_of((BOTH | BUY | DEPTH_BBO, 1, 2, 100.1, 1.0), (BOTH | SELL | DEPTH_BBO, 2, 3, 100.3, 2.0))
    events = joined(hftbacktest.open_source([save(tmp_path / "q.npz", rows)], instrument=INSTRUMENT))
    assert told(events) == [(EventKind.QUOTE, 0, 1001, 1000, 1), (EventKind.QUOTE, 0, 1001, 1000, 1)]
    assert events["order_id"].tolist() == [0, 1003 | 2000 << 32]


def random_events(count: int, seed: int) -> NDArray[np.void]:
    random = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    events["ts_ns"] = 10**15 + np.cumsum(random.integers(1, 4, count))
    events["recv_ns"] = events["ts_ns"] + random.integers(0, 9, count)
    events["kind"] = random.choice([EventKind.LEVEL, EventKind.TRADE], count)
    events["side"] = random.choice([1, -1], count)
    events["price_ticks"] = random.integers(900, 1100, count)
    events["size_lots"] = random.integers(1, 10_000, count)
    events["seq"] = np.arange(count)
    events["flags"] = EventFlag.LAST_IN_PACKET
    events["flags"][events["kind"] == EventKind.LEVEL] |= random.choice(
        [0, EventFlag.SNAPSHOT], int((events["kind"] == EventKind.LEVEL).sum())
    ).astype(np.uint8)
    return events


def test_there_and_back_without_a_difference(tmp_path: Path) -> None:
    events, path = random_events(3_000, 7), tmp_path / "back.npz"
    count = hftbacktest.write_npz([events[:1_000], events[1_000:]], path, instrument=INSTRUMENT)
    found = joined(hftbacktest.open_source([path], instrument=INSTRUMENT))
    for name in set(EVENT_DTYPE.names or ()) - {"seq"}:
        assert (found[name] == events[name]).all(), name
    with np.load(path) as archive:
        rows = archive["data"]
    assert len(rows) == count > len(events)
    exchange, local = rows[rows["ev"] & EXCHANGE != 0], rows[rows["ev"] & LOCAL != 0]
    assert (np.diff(exchange["exch_ts"]) >= 0).all()
    assert (np.diff(local["local_ts"]) >= 0).all()
    order = ["exch_ts", "local_ts", "px", "qty"]
    assert (np.sort(exchange[order], order=order) == np.sort(local[order], order=order)).all()
    # Prices are the doubles nearest to the decimals, as a parser of text would have them.
    assert set(rows["px"].tolist()) <= {float(f"{tick / 10:.1f}") for tick in range(900, 1100)}


def test_orders_are_written_with_what_is_left(tmp_path: Path) -> None:
    events = np.zeros(4, EVENT_DTYPE)
    events["ts_ns"], events["recv_ns"], events["order_id"] = [1, 2, 3, 4], RECV_NOT_RECORDED, 9
    events["kind"] = [EventKind.ADD, EventKind.REDUCE, EventKind.EXECUTE, EventKind.CANCEL]
    events["side"], events["price_ticks"], events["size_lots"] = 1, 1000, [10, 3, 2, 5]
    path = tmp_path / "orders.npz"
    hftbacktest.write_npz([events], path, instrument=INSTRUMENT, latency_ns=100)
    with np.load(path) as archive:
        rows = archive["data"]
    kinds = [ADD_ORDER, MODIFY_ORDER, TRADE, FILL, MODIFY_ORDER, CANCEL_ORDER]
    assert (rows["ev"] & KIND_MASK).tolist() == kinds
    # The resting bid was sold to.
    assert [bool(side & SELL) for side in rows["ev"].tolist()] == [kind == TRADE for kind in kinds]
    assert rows["qty"].tolist() == [0.01, 0.007, 0.002, 0.002, 0.005, 0.0]
    assert (rows["local_ts"] - rows["exch_ts"]).tolist() == [100] * 6
    book = OrderBook()
    source = hftbacktest.open_source([path], instrument=INSTRUMENT)
    events = joined(source)
    assert told(events)[2] == (EventKind.TRADE, -1, 1000, 2, 0)
    book.apply(events[:4])
    assert book.size_at(1, 1000) == 5
    assert source.notes == ("1 fills: the cancellation or modification behind each changes the book",)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ((BOTH | BUY | DEPTH, 70, 70, 100.15, 1.0), "px must be a multiple of 0.1"),
        ((BOTH | BUY | DEPTH, 70, 70, 100.1, -1.0), "qty must be a multiple"),
        ((BOTH | BUY | DEPTH, 70, 70, np.inf, 1.0), "px must be a multiple"),
        ((BOTH | BUY | 77, 70, 70, 100.1, 1.0), "expected a known kind of row"),
        ((BOTH | BUY | DEPTH, -70, 70, 100.1, 1.0), "between 1970 and 2200"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: tuple[int, int, int, float, float], rule: str) -> None:
    path = save(tmp_path / "bad.npz", np.concatenate((ROWS, rows_of(row))))
    with pytest.raises(DataError, match=rule) as caught:
        joined(hftbacktest.open_source([path], instrument=INSTRUMENT))
    assert caught.value.row == len(ROWS)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, other=np.zeros(3))
    with pytest.raises(DataError, match="expected an array named data, was other"):
        hftbacktest.open_source([path])
    np.savez(path, data=np.zeros(3))
    with pytest.raises(DataError, match="expected one dimension of"):
        hftbacktest.open_source([path])
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="expected a whole npz archive"):
        hftbacktest.open_source([path])


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mutant.npz", ROWS)
    outcomes = set()
    for mutant in mutants(path.read_bytes(), count=400, seed=8):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: hftbacktest.open_source([path], instrument=INSTRUMENT), path))
    assert False in outcomes

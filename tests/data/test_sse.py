"""Shanghai order logs: an exchange's log gives the exchange's book back, and the recording's does too."""

from __future__ import annotations

import lzma
import random
from pathlib import Path

import numpy as np
import pytest
from sse_day import SseDay

from data.errors import ConfigError, DataError
from data.importers import sse
from data.schema import EVENT_DTYPE, EventFlag, EventKind
from ext.order_book import OrderBook

NAME = "order_600000_2023-02-07.log"


def written(tmp_path: Path, lines: list[str], name: str = NAME) -> Path:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def events_in(path: Path, block_events: int = 65_536) -> np.ndarray:
    return np.concatenate(list(sse.open_source([path]).blocks(block_events)))


@pytest.mark.parametrize("seed", range(4))
def test_every_snapshot_of_a_simulated_exchange_is_matched(tmp_path: Path, seed: int) -> None:
    day = SseDay(seed=seed, orders=700)
    path = written(tmp_path, day.lines())
    check = sse.verify([path])
    assert check.total == len(day.feeds["snapshot"]) > 40
    assert (check.matched, check.first_mismatch) == (check.total, None)
    book = OrderBook()
    events = events_in(path)
    book.apply(events)
    assert (book.unknown_orders, book.refused, book.duplicate_orders) == (0, 0, 0)
    assert book.live_orders == len(day.live)
    for order_id, (side, price, left) in day.live.items():
        order = book.order(order_id)
        assert order is not None
        assert (order["side"], order["price_ticks"], order["size_lots"]) == (side, price, left)
    assert (np.diff(events["ts_ns"]) >= 0).all()
    # 09:15 in Shanghai is 01:15 UTC.
    assert 1_675_732_500 <= events["ts_ns"][0] / 1e9 < 1_675_732_600


def test_the_rules_are_needed(tmp_path: Path) -> None:
    """A log in which trades lower both sides, or come in order of arrival, does not match."""
    day = SseDay(seed=1, orders=700)
    lines = [line.replace("ExecType=66", "ExecType=83") for line in day.lines()]
    check = sse.verify([written(tmp_path, lines)])
    assert check.matched < check.total
    assert check.first_mismatch is not None
    assert NAME in check.first_mismatch


def test_a_snapshot_with_one_wrong_level_or_volume_is_found(tmp_path: Path) -> None:
    day = SseDay(seed=2, orders=600)
    lines = day.lines()
    rows = [row for row, line in enumerate(lines) if "MsgType=111" in line]
    price = lines[rows[5]].split("BidLevel[9].Price=")[1].split()[0]
    lines[rows[5]] = lines[rows[5]].replace(f"BidLevel[9].Price={price}", "BidLevel[9].Price=7")
    volume = lines[rows[9]].split("TotalVolumeTrade=")[1].split()[0]
    lines[rows[9]] = lines[rows[9]].replace(f"TotalVolumeTrade={volume}", "TotalVolumeTrade=1000")
    check = sse.verify([written(tmp_path, lines)])
    assert check.total - check.matched == 2
    assert f"row {rows[5]}" in (check.first_mismatch or "")


def test_messages_become_the_documented_events(tmp_path: Path) -> None:
    day = SseDay(seed=3, orders=400)
    events = events_in(written(tmp_path, day.lines()))
    assert EventKind(int(events["kind"][0])) is EventKind.CLEAR
    kinds = {kind.name: int(np.count_nonzero(events["kind"] == kind)) for kind in EventKind}
    orders = [line for _, line in day.feeds["order"]]
    trades = [line for _, line in day.feeds["trade"]]
    auction = sum("ExecType=78" in line for line in trades)
    assert auction > 0
    assert kinds["ADD"] == sum("OrdType=65" in line for line in orders)
    assert kinds["CANCEL"] == sum("OrdType=68" in line for line in orders)
    assert kinds["EXECUTE"] == len(trades) + auction
    crossing = (events["flags"] & EventFlag.AUCTION != 0) & (events["kind"] == EventKind.EXECUTE)
    assert np.count_nonzero(crossing) == 2 * auction
    assert np.count_nonzero(events["flags"] & EventFlag.LAST_IN_PACKET) == len(events) - auction
    bought = sum("ExecType=66" in line for line in trades)
    assert (
        np.count_nonzero((events["kind"] == EventKind.EXECUTE) & (events["side"] == -1) & ~crossing) == bought
    )


def test_blocks_of_any_size_hold_the_same_events(tmp_path: Path) -> None:
    path = written(tmp_path, SseDay(seed=4, orders=300).lines())
    assert events_in(path, 7).tobytes() == events_in(path).tobytes()


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("OrdType=65", "OrdType=67", "OrdType must be 65 or 68"),
        ("Side=66", "Side=1", "Side 66 or 83"),
        ("ExecType=66", "ExecType=1", "ExecType must be"),
        ("SecurityIDSource=101", "SecurityIDSource=102", "101 \\(Shanghai\\)"),
        ("MsgType=192", "MsgType=193", "expected MsgType"),
        ("OrderQty=", "Order=", "OrderQty must be a number"),
        ("000   OrdType", "500   OrdType", "whole shares"),
        ("Price=1", "Price=99999999991", "Price must be a number"),
        ("Price=", "Price=x", "Price must be a number"),
        (" OrderQty=", "p OrderQty=", "Price must be a number"),
        ("TransactTime=9", "TransactTime=9999", "TransactTime must be"),
        ("BizIndex=", "BizIndex=0", "BizIndex must grow"),
        ("SecurityID=600000", "SecurityID=600001", "expected one stock"),
    ],
)
def test_bad_lines_are_refused_by_row_and_rule(tmp_path: Path, old: str, new: str, rule: str) -> None:
    lines = SseDay(seed=5, orders=300).lines()
    rows = [row for row, line in enumerate(lines) if old in line and "MsgType=111" not in line]
    row = rows[len(rows) // 2]
    lines[row] = lines[row].replace(old, new if "BizIndex" not in old else "BizIndex=1 X=")
    with pytest.raises(DataError, match=rf"{NAME}:row {row}: .*{rule}") as caught:
        events_in(written(tmp_path, lines))
    assert caught.value.row == row


@pytest.mark.parametrize("tail", ["//SecurityIDSource=101 MsgT", "\0" * 40])
def test_a_last_line_that_is_cut_off_is_refused(tmp_path: Path, tail: str) -> None:
    lines = SseDay(seed=5, orders=50).lines()
    path = written(tmp_path, lines)
    path.write_text("\n".join([*lines, tail]))
    with pytest.raises(DataError, match=f":row {len(lines)}: expected MsgType"):
        events_in(path)


def test_a_log_without_a_date_or_with_two_stocks_asks(tmp_path: Path) -> None:
    first, second = (SseDay(seed=6, orders=50, symbol=name) for name in ("600000", "600001"))
    with pytest.raises(DataError, match="expected a date"):
        sse.open_source([written(tmp_path, first.lines(), "order.log")])
    path = written(tmp_path, first.lines() + second.lines())
    own = sse.open_source([path], symbol="600001")
    alone = sse.open_source([written(tmp_path, second.lines(), "b_2023-02-07.log")])
    assert np.concatenate(list(own.blocks())).tobytes() == np.concatenate(list(alone.blocks())).tobytes()
    with pytest.raises(DataError, match="expected orders or trades of 600002"):
        list(sse.open_source([path], symbol="600002").blocks())
    with pytest.raises(ConfigError, match="days of one stock"):
        sse.open_source([path, path])


def test_flipped_and_cut_bytes_raise_only_data_errors(tmp_path: Path) -> None:
    draw = random.Random(3)
    path = written(tmp_path, [], NAME + ".xz")
    whole = "\n".join(SseDay(seed=7, orders=80).lines()).encode()
    packed = lzma.compress(whole)
    named = refused = 0
    for number in range(120):
        damaged = bytearray(packed if number % 2 else whole)
        del damaged[draw.choice((len(damaged), draw.randrange(len(damaged)))) :]
        for _ in range(draw.choice((1, 3, 30))):
            if damaged:
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            sse.verify([path])
            events_in(path)
        except DataError as error:
            named += str(path) in str(error)
            refused += 1
    assert named == refused > 30


def test_a_day_of_events_has_the_layout(tmp_path: Path) -> None:
    source = sse.open_source([written(tmp_path, SseDay(seed=8, orders=30).lines())])
    block = next(source.blocks())
    assert block.dtype == EVENT_DTYPE
    assert source.instrument.currency == "CNY"
    assert "600000" in source.source
    assert len(source.data_hash) == 64


@pytest.mark.recording("sse_l3_600519_2023-02-07_am")
def test_every_recorded_snapshot_in_continuous_trading_is_matched(market_data: Path) -> None:
    path = market_data / "AX_sbe_sse_600519_am.log.xz"
    check = sse.verify([path])
    assert check.first_mismatch is None
    assert check.matched == check.total == 2_444
    book = OrderBook()
    book.apply(events_in(path))
    assert (book.unknown_orders, book.duplicate_orders, book.refused) == (0, 0, 0)


def test_every_stock_of_a_log_is_verified(tmp_path: Path) -> None:
    one = SseDay(seed=1, orders=200, symbol="600000").lines()
    two = SseDay(seed=2, orders=200, symbol="510050").lines()
    both = [line for pair in zip(one, two, strict=False) for line in pair]
    path = written(tmp_path, both, "both_20240115.log")
    check = sse.verify([path])
    alone = sse.verify([written(tmp_path, one[: len(two)], "one_20240115.log")])
    assert check.matched == check.total > alone.total > 0
    assert sse.open_source([path], symbol="510050").instrument.tick_size_ticks == 1
    written(tmp_path, [*both, one[0].replace("600000", "600001")], path.name)
    with pytest.raises(DataError, match="expected one of the stocks with snapshots, was 600001"):
        sse.verify([path])

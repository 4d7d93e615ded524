"""Kraken dumps: windows of a subscribed depth, checksums, trades."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("msgspec")

from feed_files import joined, mutants, survives, told, write_lines

from data.errors import DataError
from data.importers import kraken
from data.importers.depth_window import DepthWindow
from data.schema import EventKind

CLEAR, LEVEL, TRADE = EventKind.CLEAR, EventKind.LEVEL, EventKind.TRADE
SECONDS = 1_700_000_000


def at(tick: int) -> str:
    return f"{SECONDS + tick / 1000:.6f}"


def line(tick: int, message: object) -> str:
    return f"{at(tick)}: {json.dumps(message)}"


def level(price: str, volume: str, tick: int) -> list[str]:
    return [price, volume, at(tick)]


def crc(asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> str:
    numbers = [number for side in (asks[:10], bids[:10]) for pair in side for number in pair]
    return str(zlib.crc32("".join(number.replace(".", "").lstrip("0") for number in numbers).encode()))


def recording() -> Iterator[str]:
    yield "wss://ws.kraken.com <-> 1700000000.1"
    yield 'wss://ws.kraken.com <- 1700000000.2: {"event":"subscribe"}'
    yield line(250, {"event": "heartbeat"})
    asks = [level("100.20000", "1.00000000", 300), level("100.30000", "2.00000000", 300)]
    bids = [level("100.10000", "0.50000000", 301), level("100.00000", "3.00000000", 300)]
    yield line(310, [7, {"as": asks, "bs": bids}, "book-2", "XBT/USD"])
    # A better ask pushes 100.3 out of the two levels subscribed to; the venue says nothing of it.
    better = crc([("100.15000", "4.00000000"), ("100.20000", "1.00000000")],
                 [("100.10000", "0.50000000"), ("100.00000", "3.00000000")])  # fmt: skip
    yield line(320, [7, {"a": [level("100.15000", "4.00000000", 315)], "c": better}, "book-2", "XBT/USD"])
    yield line(321, [8, [["100.15000", "0.10000000", at(316), "b", "l", ""]], "trade", "XBT/USD"])
    last = crc([("100.20000", "1.00000000"), ("100.30000", "2.50000000")],
               [("100.00000", "3.00000000")])  # fmt: skip
    yield line(
        330,
        [
            7,
            {"a": [level("100.15000", "0.00000000", 325), [*level("100.30000", "2.50000000", 300), "r"]]},
            {"b": [level("100.10000", "0.00000000", 326)], "c": last},
            "book-2",
            "XBT/USD",
        ],
    )


def test_a_level_out_of_reach_is_forgotten(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "kraken.ws", recording())
    source = kraken.open_source([path], symbol="XBT-USD")
    assert source.instrument.symbol == "XBT-USD"
    assert source.instrument.currency == "USD"
    events = joined(source)
    unit = round(1 / source.instrument.lot_size)
    ticks = round(1 / source.instrument.price_increment)
    assert [
        (kind, side, price / ticks, size / unit, flags) for kind, side, price, size, flags in told(events)
    ] == [
        (CLEAR, 0, 0, 0, 4),
        (LEVEL, -1, 100.2, 1, 4),
        (LEVEL, -1, 100.3, 2, 4),
        (LEVEL, 1, 100.1, 0.5, 4),
        (LEVEL, 1, 100, 3, 5),
        (LEVEL, -1, 100.15, 4, 0),
        (LEVEL, -1, 100.3, 0, 5),
        (TRADE, 1, 100.15, 0.1, 1),
        (LEVEL, -1, 100.15, 0, 0),
        (LEVEL, -1, 100.3, 2.5, 0),
        (LEVEL, 1, 100.1, 0, 1),
    ]
    assert events["ts_ns"][0] == SECONDS * 10**9 + 301_000_000
    assert events["recv_ns"][0] == SECONDS * 10**9 + 310_000_000


def test_checksums_come_out_of_the_compiled_book(tmp_path: Path) -> None:
    rows = list(recording())
    check = kraken.verify([write_lines(tmp_path / "good.ws", rows)])
    assert (check.matched, check.total, check.first_mismatch) == (2, 2, None)
    rows[4] = rows[4].replace('"4.00000000"', '"4.00000001"')
    check = kraken.verify([write_lines(tmp_path / "bad.ws", rows)])
    assert (check.matched, check.total) == (1, 2)
    assert "bad.ws:row 4: XBT/USD: expected CRC-32" in str(check.first_mismatch)


def test_an_order_far_away_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = list(recording())
    rows.append(line(340, [7, {"a": [level("9999999997.00000", "1.00000000", 335)]}, "book-2", "XBT/USD"]))
    source = kraken.open_source([write_lines(tmp_path / "far.ws", rows)])
    joined(source)
    assert source.notes[-1].startswith("1 rows rejected: price must be at most")


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ([7, {"a": [["1", "2"]]}, "book-2", "XBT/USD"], "price, volume, time"),
        ([7, {"x": []}, "book-2", "XBT/USD"], "expected a, b, as or bs"),
        ([7, 5, "book-2", "XBT/USD"], "expected levels by side"),
        ([7, {"c": "1x"}, "book-2", "XBT/USD"], "expected a checksum"),
        ([7, "XBT/USD"], "channel id, payload, channel, pair"),
        ([8, [["1", "2", "3", "q"]], "trade", "XBT/USD"], "b or s"),
    ],
)
def test_a_bad_message_is_named(tmp_path: Path, message: object, rule: str) -> None:
    rows = [*recording(), line(400, message)]
    with pytest.raises(DataError, match=rule) as caught:
        joined(kraken.open_source([write_lines(tmp_path / "bad.ws", rows)], symbol="XBT/USD", strict=True))
    assert caught.value.row == len(rows) - 1


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    data = "".join(f"{row}\n" for row in recording()).encode()
    path = tmp_path / "mutant.ws"
    outcomes = set()
    for mutant in mutants(data, count=400, seed=2):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: kraken.open_source([path]), path))
    assert outcomes == {True, False}


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), max_size=60),
    st.sampled_from([1, -1]),
    st.integers(1, 5),
)
def test_a_window_holds_the_best_levels(updates: list[tuple[int, int]], side: int, depth: int) -> None:
    window, held = DepthWindow(side=side, depth=depth, decimals=2), dict[int, int]()
    for price, size in updates:
        gone = window.update([(f"{price}.00", f"{size}.0")])
        held.pop(price, None)
        if size:
            held[price] = size
        expected = sorted(held, key=lambda one: one * side)[: max(len(held) - depth, 0)]
        assert [float(price) for price, _ in gone] == expected
        for price in expected:
            del held[price]


def crc_2(asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> int:
    return int(crc(asks, bids))


def version_2(
    kind: str, bids: list[tuple[str, str]], asks: list[tuple[str, str]], check: int, tick: int
) -> str:
    """A book message whose numbers stand as they are given, zeros at the end included."""

    def side(levels: list[tuple[str, str]]) -> str:
        return ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in levels)

    stamp = f',"timestamp":"2023-11-14T22:13:20.{tick:03}000Z"' if kind == "update" else ""
    data = f'{{"symbol":"BTC/USD","bids":[{side(bids)}],"asks":[{side(asks)}],"checksum":{check}{stamp}}}'
    return f'{{"channel":"book","type":"{kind}","data":[{data}]}}'


@pytest.mark.parametrize("prefix", ["", f"{SECONDS}.500000: ", f"{SECONDS}500000000 "])
def test_version_2_keeps_its_digits_and_its_depth(tmp_path: Path, prefix: str) -> None:
    asks = [("45285.2", "0.00100000"), ("45286.0", "1.00000000")]
    bids = [("45283.5", "0.10000000"), ("45283.0", "2.50000000")]
    better = [("45284.0", "3.00000000"), bids[0]]
    rows = [
        '{"method":"subscribe","result":{"channel":"book","depth":2,"symbol":"BTC/USD"},"success":true}',
        '{"channel":"heartbeat"}',
        version_2("update", bids, [], 1, 90),
        version_2("snapshot", bids, asks, crc_2(asks, bids), 100),
        # The third bid falls out of the depth and is never removed by the venue.
        version_2("update", [("45284.0", "3.00000000")], [], crc_2(asks, better), 110),
        version_2("update", [], [("45285.2", "0")], crc_2(asks[1:], better), 120),
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":45284.0,'
        '"qty":0.5,"trade_id":1,"timestamp":"2023-11-14T22:13:20.115Z"}]}',
    ]
    path = write_lines(tmp_path / "v2.txt", [prefix + row for row in rows])
    events = joined(kraken.open_source([path]))
    wanted = [
        (CLEAR, 0, 0, 0, 4), (LEVEL, -1, 452_852, 1, 4), (LEVEL, -1, 452_860, 1_000, 4),
        (LEVEL, 1, 452_835, 100, 4), (LEVEL, 1, 452_830, 2_500, 5), (LEVEL, 1, 452_840, 3_000, 0),
        (LEVEL, 1, 452_830, 0, 5), (TRADE, -1, 452_840, 500, 1), (LEVEL, -1, 452_852, 0, 1),
    ]  # fmt: skip
    assert sorted(told(events)) == sorted(wanted)
    check = kraken.verify([path])
    assert (check.matched, check.total) == (3, 3)


@pytest.mark.recording("crypto_ws_raw_checksums")
def test_every_checksum_of_the_recording_matches(market_data: Path) -> None:
    check = kraken.verify([market_data / "KRAKEN.ws.50.0.xz"])
    assert (check.matched, check.total) == (4_269, 4_269)

"""JSON lines of anybody's streams: proposed mappings, exact numbers, levels, rejected messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgspec")

from feed_files import BASE_MS, depth, joined, mutants, stamped, survives, told, write_lines

from data.errors import ConfigError, DataError
from data.importers import json_streams
from data.importers.json_mapping import load_json_mapping
from data.importers.json_sniff import sniff_json
from data.importers.json_streams import at_path, instant_ns
from data.mapping import TimeMapping
from data.quarantine import Quarantine
from data.schema import RECV_NOT_RECORDED, EventKind

CLEAR, LEVEL, TRADE, QUOTE = EventKind.CLEAR, EventKind.LEVEL, EventKind.TRADE, EventKind.QUOTE
TRADED = {"e": "trade", "T": BASE_MS + 9, "s": "BTCUSDT", "p": "10.02", "q": "0.5", "m": False, "t": 7}
FEED = [
    stamped({"lastUpdateId": 5, "bids": [["10.00", "1.0"]], "asks": [["10.03", "2.0"]]}, 1),
    depth(6, 7, [("10.01", "2.5")], [("10.03", "0.0")], ms=3),
    stamped({"stream": "btcusdt@trade", "data": TRADED}, 9),
    stamped({"result": None, "id": 1}, 10),
]


def lines_of(path: Path, *messages: Any) -> Path:
    return write_lines(path, [json.dumps(message) for message in messages])


def round_trip(path: Path, tmp_path: Path, symbol: str | None = None) -> Any:
    """The proposed mapping, written and read back, opens the recording."""
    proposed = sniff_json(path, symbol=symbol)
    (tmp_path / "mapping.toml").write_text(proposed.to_toml())
    loaded = load_json_mapping(tmp_path / "mapping.toml")
    assert loaded == proposed
    return json_streams.open_source([path], mapping=loaded)


def test_arrays_of_levels_and_trades_of_a_wrapped_stream(tmp_path: Path) -> None:
    source = round_trip(write_lines(tmp_path / "feed.jsonl", FEED), tmp_path)
    assert (source.instrument.symbol, source.instrument.price_increment) == ("BTCUSDT", 0.01)
    events = joined(source)
    # The snapshot has no time of its own and arrived 5 ms late by our clock, so the update is raised to it.
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4), (LEVEL, 1, 1000, 10, 4), (LEVEL, -1, 1003, 20, 5), (LEVEL, 1, 1001, 25, 0),
        (LEVEL, -1, 1003, 0, 1), (TRADE, 1, 1002, 5, 1),
    ]  # fmt: skip
    assert (events["recv_ns"] // 10**6 - BASE_MS).tolist() == [6, 6, 6, 8, 8, 14]
    assert "1 messages that no stream of the mapping takes" in source.notes


def test_changes_with_sides_and_a_snapshot_by_type(tmp_path: Path) -> None:
    one = {"time": "2023-11-14T22:13:20.000001Z", "product_id": "A-B"}
    changes = [["buy", "1.6", "3"], ["sell", "1.7", "0"]]
    path = lines_of(
        tmp_path / "l2.jsonl",
        {"type": "snapshot", **one, "bids": [["1.5", "2"]], "asks": [["1.7", "1"]]},
        {"type": "l2update", **one, "changes": changes},
        {"type": "l2update", **one, "product_id": "C-D", "changes": [["buy", "9.6", "3"]]},
    )
    with pytest.raises(DataError, match="one of its symbols, given as --symbol, was A-B, C-D"):
        sniff_json(path)
    events = joined(round_trip(path, tmp_path, "A-B"))
    assert told(events) == [
        (CLEAR, 0, 0, 0, 4), (LEVEL, 1, 15, 2, 4), (LEVEL, -1, 17, 1, 5), (LEVEL, 1, 16, 3, 0),
        (LEVEL, -1, 17, 0, 1),
    ]  # fmt: skip
    assert (events["ts_ns"] == BASE_MS * 10**6 + 1_000).all()
    assert (events["recv_ns"] == RECV_NOT_RECORDED).all()


def test_levels_as_objects_and_records_in_an_array(tmp_path: Path) -> None:
    """Numbers are taken as they are written: 0.1 as a JSON number is a tenth."""
    path = lines_of(
        tmp_path / "nested.jsonl",
        {"channel": "book", "ts": BASE_MS, "data": {"bids": [{"price": 0.1, "qty": 3}], "asks": []}},
        {"channel": "book", "ts": BASE_MS + 1, "data": {"bids": [], "asks": [{"price": 0.3, "qty": 4}]}},
        {"channel": "trades", "trades": [
            {"ts": BASE_MS + 2, "px": 0.3, "sz": 1, "side": "buy"},
            {"ts": BASE_MS + 3, "px": 0.1, "sz": 2, "side": "sell"},
        ]},
    )  # fmt: skip
    source = round_trip(path, tmp_path)
    assert source.instrument.price_increment == 0.1
    assert told(joined(source)) == [
        (LEVEL, 1, 1, 3, 1), (LEVEL, -1, 3, 4, 1), (TRADE, 1, 3, 1, 1), (TRADE, -1, 1, 2, 1),
    ]  # fmt: skip


def test_quotes_where_there_is_no_depth(tmp_path: Path) -> None:
    row = {
        "timestamp": "2023-11-14T22:13:20Z",
        "symbol": "X",
        "bid": 1.25,
        "ask": 1.5,
        "bid_size": 4,
        "ask_size": 7,
    }
    events = joined(round_trip(lines_of(tmp_path / "q.jsonl", row), tmp_path))
    assert told(events) == [(QUOTE, 0, 125, 4, 1)]
    assert int(events["order_id"][0]) == 150 | 7 << 32


MAPPING = """
symbol = "X"
price_increment = 0.5
lot_size = 1.0
[[stream]]
kind = "trades"
time = { column = "t", unit = "ms" }
columns = { price = "p", size = "q", side = "s" }
"""


def test_a_bad_message_costs_itself(tmp_path: Path) -> None:
    good = {"t": BASE_MS, "p": "1.5", "q": "2", "s": "buy"}
    bad = [
        good | {"p": "1.25"}, good | {"p": "x"}, good | {"q": "-1"}, good | {"s": "up"}, good | {"t": "x"},
        {"t": BASE_MS}, good | {"t": -1}, good | {"p": [1]},
    ]  # fmt: skip
    path = lines_of(tmp_path / "bad.jsonl", good, *bad, good)
    path.write_bytes(path.read_bytes() + b'{"t": 1\nnot json\n')
    (tmp_path / "m.toml").write_text(MAPPING)
    mapping = load_json_mapping(tmp_path / "m.toml")
    source = json_streams.open_source([path], mapping=mapping)
    source.quarantine = Quarantine()
    assert len(joined(source)) == 2
    assert source.quarantine.total == len(bad) + 2
    with pytest.raises(DataError, match="row 1: prices must be multiples"):
        joined(json_streams.open_source([path], mapping=mapping, strict=True))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        (MAPPING.replace("trades", "bars"), "kind must be one of"),
        (MAPPING.replace('price = "p", ', ""), "columns of trades must be"),
        (MAPPING + "colour = 1", "keys must be known, was colour"),
        (MAPPING.replace("[[stream]]", "[stream]"), "stream must be of type list"),
        (MAPPING.partition("[[")[0], "at least one"),
        (MAPPING + 'where = { e = "x" }', "where.e must be of type list"),
        (MAPPING.replace("0.5", "0.0"), "price_increment must be a positive number"),
        (MAPPING.replace('unit = "ms"', 'unit = "h"'), "time.unit must be"),
        ("nonsense", "expected TOML"),
    ],
)
def test_a_bad_mapping_is_refused_by_name(tmp_path: Path, changed: str, rule: str) -> None:
    (tmp_path / "m.toml").write_text(changed)
    with pytest.raises(ConfigError, match=f"m.toml: .*{rule}"):
        load_json_mapping(tmp_path / "m.toml")


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_700_000_000, "s", 1_700_000_000 * 10**9),
        ("1700000000.1234567891", "s", 1_700_000_000_123_456_789),
        ("1700000000123", "ms", 1_700_000_000_123 * 10**6),
        ("2023-11-14T22:13:20.123456789Z", "iso", 1_700_000_000_123_456_789),
        ("2023-11-15 00:13:20+02:00", "iso", 1_700_000_000 * 10**9),
        ("20231114 221320", "%Y%m%d %H%M%S", 1_700_000_000 * 10**9),
        ("2023-13-14T22:13:20Z", "iso", None),
        ("9" * 30, "ns", None),
        (None, "s", None),
        (True, "s", None),
        ("", "s", None),
    ],
)
def test_instants_are_exact(value: Any, unit: str, expected: int | None) -> None:
    assert instant_ns(value, TimeMapping(column="t", unit=unit)) == expected


def test_a_path_leads_nowhere_without_an_error() -> None:
    message = {"a": [{"b": 1}, 2]}
    assert at_path(message, "a.0.b") == 1
    assert at_path(message, "a.-1") == 2
    assert at_path(message, "") is message
    for path in ("a.2", "a.x", "b", "a.0.b.c", "a.-3"):
        assert at_path(message, path) is None


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    rows = [depth(6, 7, [("10.01", "2.5")], [("10.03", "0.0")], ms=3), depth(8, 8, [("10.01", "2")], ms=4)]
    data = "".join(f"{row}\n" for row in rows).encode()
    path = tmp_path / "mutant.jsonl"
    outcomes = set()
    for mutant in mutants(data, count=300, seed=5):
        path.write_bytes(mutant)
        outcomes.add(survives(lambda: json_streams.open_source([path]), path))
    assert outcomes == {True, False}


def test_events_are_whole_packets(tmp_path: Path) -> None:
    rows = [depth(at, at, [("10.01", str(at))], [("10.03", "1")], ms=at) for at in range(1, 40)]
    events = joined(json_streams.open_source([write_lines(tmp_path / "f.jsonl", rows)]), 7)
    assert len(events) == 78
    assert np.count_nonzero(events["flags"] & 1) == 39


def numbered(form: str, number: int, before: int) -> str:
    at = {
        "last": {"u": number},
        "first": {"U": before + 1, "u": number},
        "previous": {"pu": before, "u": number},
    }
    book = {"e": "update", "E": BASE_MS + number, "b": [["10.00", str(number)]], "a": [["10.03", "2"]]}
    return json.dumps(book | at[form])


@pytest.mark.parametrize("form", ["last", "first", "previous"])
def test_numbers_that_hold_for_the_sample_are_followed(tmp_path: Path, form: str) -> None:
    """One message is missing, one comes twice; both are told, and a mapping read back tells them too."""
    step = 1 if form == "last" else 3
    numbers = list(range(step, 30 * step, step))
    rows = [numbered(form, number, number - step) for number in numbers]
    sample = write_lines(tmp_path / "whole.jsonl", rows)
    source = round_trip(sample, tmp_path)
    assert len(joined(source)) == 2 * len(rows)
    assert source.notes == ()
    mapping = load_json_mapping(tmp_path / "mapping.toml")
    damaged = write_lines(tmp_path / "damaged.jsonl", [*rows[:9], *rows[10:20], rows[19], *rows[20:]])
    source = json_streams.open_source([damaged], mapping=mapping)
    source.quarantine = quarantine = Quarantine()
    events = joined(source)
    assert len(events) == 2 * (len(rows) - 1) + 1
    # The book is cleared where the message is missing.
    assert np.flatnonzero(events["kind"] == CLEAR).tolist() == [18]
    assert quarantine.sequence_gaps == 1
    assert dict(quarantine.counts) == {json_streams.OLD_RULE: 1}
    assert source.notes[0].startswith("1 gaps in the numbers at u; damaged.jsonl:row 9: expected ")
    with pytest.raises(DataError, match=r"damaged\.jsonl:row 9: u: expected"):
        joined(json_streams.open_source([damaged], mapping=mapping, strict=True))

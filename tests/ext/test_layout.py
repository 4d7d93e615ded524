"""ext/layout.h, as compiled, and data/schema.py describe the same bytes and the same codes."""

from __future__ import annotations

import re
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ext
from data import schema
from ext import event_array, layout_info

RECORDS = {
    "MarketEvent": schema.EVENT_DTYPE,
    "QuoteView": schema.QUOTE_DTYPE,
    "OrderCommand": schema.ORDER_DTYPE,
    "ExecutionReport": schema.REPORT_DTYPE,
    "JournalRecord": schema.JOURNAL_DTYPE,
    "DecisionPayload": schema.DECISION_DTYPE,
    "RewardPayload": schema.REWARD_DTYPE,
    "ParentPayload": schema.PARENT_DTYPE,
}
ENUMS: dict[str, tuple[str, type[IntEnum] | type[IntFlag]]] = {
    "EventKind": ("EVENT_", schema.EventKind),
    "EventFlag": ("FLAG_", schema.EventFlag),
    "OrderAction": ("ACTION_", schema.OrderAction),
    "OrderType": ("ORDER_", schema.OrderType),
    "TimeInForce": ("TIF_", schema.TimeInForce),
    "OrderFlag": ("ORDER_", schema.OrderFlag),
    "ReportKind": ("REPORT_", schema.ReportKind),
    "Liquidity": ("LIQUIDITY_", schema.Liquidity),
    "Reason": ("REASON_", schema.Reason),
    "JournalKind": ("JOURNAL_", schema.JournalKind),
    "ParentState": ("PARENT_", schema.ParentState),
}
HEADER = Path(ext.__file__).with_name("layout.h")


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def test_every_record_is_compared() -> None:
    assert RECORDS.keys() == layout_info.STRUCT_BYTES.keys()


@pytest.mark.parametrize("struct", RECORDS)
def test_c_and_numpy_read_the_same_fields_from_the_same_bytes(struct: str) -> None:
    dtype = RECORDS[struct]
    assert layout_info.STRUCT_BYTES[struct] == dtype.itemsize
    # One byte at a time finds every field's offset and width; 0xC0 shows the sign of the top byte.
    for position in range(dtype.itemsize):
        for byte in (0x01, 0xC0):
            raw = bytearray(dtype.itemsize)
            raw[position] = byte
            record = np.frombuffer(raw, dtype)[0]
            expected = {name: plain(record[name]) for name in dtype.names or ()}
            assert layout_info.decode(struct, bytes(raw)) == expected


@pytest.mark.parametrize("enum", ENUMS)
def test_c_and_python_give_the_same_codes(enum: str) -> None:
    prefix, names = ENUMS[enum]
    body = re.search(rf"enum {enum} {{(.*?)}};", HEADER.read_text(), re.DOTALL)
    assert body is not None
    in_c = {name: int(code) for name, code in re.findall(r"(\w+) = (\d+)", body[1])}
    assert in_c == {f"{prefix}{member.name}": member.value for member in names}


def test_every_enum_of_the_header_is_compared() -> None:
    assert set(re.findall(r"^enum (\w+)", HEADER.read_text(), re.MULTILINE)) == ENUMS.keys()


def test_the_dtype_that_compiled_code_accepts_is_the_schema() -> None:
    assert event_array.EVENT_DTYPE == schema.EVENT_DTYPE
    assert layout_info.RECV_NOT_RECORDED == schema.RECV_NOT_RECORDED

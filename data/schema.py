"""numpy dtypes of the records in ``ext/layout.h`` and the names of their codes.

A test compares every offset with the C declaration.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

RECV_NOT_RECORDED: Final = np.iinfo(np.int64).min

EVENT_DTYPE: Final = np.dtype(
    [
        ("ts_ns", "<i8"),
        ("recv_ns", "<i8"),
        ("order_id", "<u8"),
        ("size_lots", "<i8"),
        ("price_ticks", "<i4"),
        ("seq", "<u4"),
        ("instrument_id", "<u2"),
        ("venue_id", "u1"),
        ("kind", "u1"),
        ("side", "i1"),
        ("flags", "u1"),
        ("_reserved", "<u2"),
    ]
)
"""A market event, 48 bytes."""

QUOTE_DTYPE: Final = np.dtype(
    [
        ("ts_ns", "<i8"),
        ("recv_ns", "<i8"),
        ("ask_price_ticks", "<i4"),
        ("ask_size_lots", "<u4"),
        ("bid_size_lots", "<i8"),
        ("bid_price_ticks", "<i4"),
        ("seq", "<u4"),
        ("instrument_id", "<u2"),
        ("venue_id", "u1"),
        ("kind", "u1"),
        ("side", "i1"),
        ("flags", "u1"),
        ("_reserved", "<u2"),
    ]
)
"""The same 48 bytes when ``kind`` is QUOTE: ``events.view(QUOTE_DTYPE)``."""

ORDER_DTYPE: Final = np.dtype(
    [
        ("client_order_id", "<u8"),
        ("ts_ns", "<i8"),
        ("expire_ns", "<i8"),
        ("size_lots", "<i8"),
        ("price_ticks", "<i4"),
        ("stop_price_ticks", "<i4"),
        ("peg_offset_ticks", "<i4"),
        ("display_size_lots", "<u4"),
        ("minimum_size_lots", "<u4"),
        ("owner", "<u4"),
        ("instrument_id", "<u2"),
        ("venue_id", "u1"),
        ("action", "u1"),
        ("side", "i1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("flags", "u1"),
    ]
)
"""An order command, 64 bytes."""

REPORT_DTYPE: Final = np.dtype(
    [
        ("client_order_id", "<u8"),
        ("ts_ns", "<i8"),
        ("recv_ns", "<i8"),
        ("size_lots", "<i8"),
        ("leaves_lots", "<i8"),
        ("fee_nano", "<i8"),
        ("price_ticks", "<i4"),
        ("instrument_id", "<u2"),
        ("venue_id", "u1"),
        ("kind", "u1"),
        ("side", "i1"),
        ("reason", "u1"),
        ("liquidity", "u1"),
        ("flags", "u1"),
        ("_reserved", "<u4"),
    ]
)
"""A venue's execution report, 64 bytes."""

JOURNAL_DTYPE: Final = np.dtype(
    [
        ("sequence", "<u8"),
        ("ts_ns", "<i8"),
        ("chain", "<u8"),
        ("crc32c", "<u4"),
        ("version", "<u2"),
        ("kind", "u1"),
        ("_reserved", "u1"),
        ("payload", "u1", (64,)),
    ]
)
"""A journal record, 96 bytes."""

DECISION_DTYPE: Final = np.dtype(
    [
        ("decision_id", "<u8"),
        ("parent_id", "<u4"),
        ("model_version", "<u2"),
        ("arm", "u1"),
        ("arm_count", "u1"),
        ("score", "<f4"),
        ("propensity", "<f4"),
        ("signal", "<f4"),
        ("context", "<f4", (8,)),
        ("_reserved", "<u4"),
    ]
)
"""Payload of a DECISION record, 64 bytes."""

REWARD_DTYPE: Final = np.dtype(
    [
        ("decision_id", "<u8"),
        ("reward", "<f8"),
        ("cost_ticks", "<f8"),
        ("filled_lots", "<i8"),
        ("size_lots", "<i8"),
        ("arm", "u1"),
        ("censored", "u1"),
        ("_reserved", "u1", (22,)),
    ]
)
"""Payload of a REWARD record, 64 bytes."""

PARENT_DTYPE: Final = np.dtype(
    [
        ("parent_id", "<u4"),
        ("state", "u1"),
        ("side", "i1"),
        ("version", "<u2"),
        ("size_lots", "<i8"),
        ("filled_lots", "<i8"),
        ("open_lots", "<i8"),
        ("cancelled_lots", "<i8"),
        ("arrival_mid_x2", "<i8"),
        ("deadline_ns", "<i8"),
        ("_reserved", "<u8"),
    ]
)
"""Payload of a PARENT record, 64 bytes."""


class EventKind(IntEnum):
    ADD = 1
    CANCEL = 2
    REDUCE = 3
    EXECUTE = 4
    TRADE = 5
    LEVEL = 6
    QUOTE = 7
    CLEAR = 8
    STATUS = 9


class EventFlag(IntFlag):
    LAST_IN_PACKET = 1
    HIDDEN = 2
    SNAPSHOT = 4
    AUCTION = 8
    CROSSED = 16


class OrderAction(IntEnum):
    NEW = 1
    CANCEL = 2
    REPLACE = 3
    MASS_CANCEL = 4


class OrderType(IntEnum):
    LIMIT = 1
    MARKET = 2
    STOP = 3
    STOP_LIMIT = 4
    PEG_MID = 5
    PEG_PRIMARY = 6


class TimeInForce(IntEnum):
    GTC = 1
    IOC = 2
    FOK = 3
    GTD = 4
    DAY = 5


class OrderFlag(IntFlag):
    POST_ONLY = 1
    HIDDEN = 2
    REDUCE_ONLY = 4


class ReportKind(IntEnum):
    ACCEPTED = 1
    FILL = 2
    CANCELLED = 3
    REJECTED = 4
    EXPIRED = 5
    TRIGGERED = 6


class Liquidity(IntEnum):
    NONE = 0
    MAKER = 1
    TAKER = 2


class Reason(IntEnum):
    """Why an order was refused or ended."""

    NONE = 0
    RISK_ORDER_SIZE = 1
    RISK_NOTIONAL = 2
    RISK_PRICE_COLLAR = 3
    RISK_POSITION = 4
    RISK_MESSAGE_RATE = 5
    RISK_KILLED = 6
    NO_LIQUIDITY = 16
    LAST_LOOK = 17
    WOULD_CROSS = 18
    UNKNOWN_ORDER = 19
    DUPLICATE_ID = 20
    BAD_PRICE = 21
    BAD_SIZE = 22
    CAPACITY = 23
    USER = 24
    TIME = 25
    END_OF_DATA = 26
    SELF_TRADE = 27
    PRICE_BAND = 28
    PHASE = 29
    BAD_ORDER = 30


class JournalKind(IntEnum):
    RUN = 1
    PARENT = 2
    DECISION = 3
    ORDER = 4
    REFUSAL = 5
    REPORT = 6
    REWARD = 7
    MODEL = 8
    WINDOW = 9
    END = 10


class ParentState(IntEnum):
    WORKING = 1
    DONE = 2
    CANCELLED = 3

"""The commands and orders of the slow matching engine, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data.schema import OrderAction, OrderFlag, OrderType, TimeInForce

INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX = -(2**31), 2**31 - 1, -(2**63), 2**63 - 1
SIZE_LOTS_MAX, LEVEL_LOTS_MAX, SLICES_MAX = 2**48, 2**62, 65_536
NO_PRICE = -(2**40)
STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)
UNPRICED = (OrderType.MARKET, OrderType.STOP)
PEGS = (OrderType.PEG_MID, OrderType.PEG_PRIMARY)
IMMEDIATE = (TimeInForce.IOC, TimeInForce.FOK)
HIDDEN, POST_ONLY = int(OrderFlag.HIDDEN), int(OrderFlag.POST_ONLY)  # plain, since flags' own & is slow
PHASES = ("continuous", "halted", "auction")
MODES = ("cancel_newest", "cancel_oldest", "cancel_both", "decrement")

# id, kind, reason, side, size, leaves, price, liquidity
Report = tuple[int, int, int, int, int, int, int, int]


@dataclass
class Command:
    """One ORDER_DTYPE row; the fields have its names, shortened."""

    order_id: int = 0
    ts_ns: int = 0
    expire_ns: int = 0
    size: int = 0
    price: int = 0
    stop: int = 0
    offset: int = 0
    display: int = 0
    minimum: int = 0
    owner: int = 0
    action: int = OrderAction.NEW
    side: int = 0
    order_type: int = OrderType.LIMIT
    tif: int = TimeInForce.GTC
    flags: int = 0

    def row(self) -> tuple[Any, ...]:
        return (
            self.order_id, self.ts_ns, self.expire_ns, self.size, self.price, self.stop, self.offset,
            self.display, self.minimum, self.owner, 0, 0, self.action, self.side, self.order_type, self.tif,
            self.flags,
        )  # fmt: skip


@dataclass(eq=False)  # an order is itself, not its fields
class Order:
    order_id: int
    side: int
    price: int
    shown: int  # in the queue; the reserve is behind it
    time: int  # place in time: the smaller trades first at one price
    reserve: int = 0
    stop: int | None = None  # its trigger, while it waits
    owner: int = 0
    display: int = 0
    minimum: int = 0
    expire_ns: int = INT64_MAX
    order_type: int = OrderType.LIMIT
    tif: int = TimeInForce.GTC
    flags: int = 0
    offset: int = 0
    cap: int = 0

    @property
    def leaves(self) -> int:
        return self.shown + self.reserve

    @property
    def hidden(self) -> bool:
        return self.flags & HIDDEN != 0 or self.order_type in PEGS

    @property
    def demands(self) -> int:
        """Lots that a counterparty must bring: a hidden order's minimum, or all it has where that is less."""
        return min(self.minimum, self.shown) if self.hidden and self.stop is None else 0

    @property
    def book(self) -> int:
        """0 displayed, 1 hidden, 2 waiting for a trigger."""
        return 2 if self.stop is not None else 1 if self.hidden else 0


def valid_size(size: int, display: int) -> bool:
    return 0 < size <= SIZE_LOTS_MAX and (display == 0 or size <= display * SLICES_MAX)

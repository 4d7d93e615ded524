"""The orders of the slow matching engine as they stand, and that state as a number."""

from __future__ import annotations

from data.schema import OrderType, Reason, TimeInForce

from .matching_orders import (
    HIDDEN,
    IMMEDIATE,
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    MODES,
    NO_PRICE,
    PEGS,
    PHASES,
    POST_ONLY,
    STOPS,
    UNPRICED,
    Command,
    Order,
    Report,
    valid_size,
)
from .order_book import splitmix


class ReferenceBook:
    """What a slow matching engine holds: every order in one list by time. Who asks looks at all of them."""

    def __init__(self, self_trade: str = "cancel_newest", tick_size: int = 1) -> None:
        self.self_trade, self.tick_size = self_trade, tick_size
        self.orders: list[Order] = []
        self.reports: list[Report] = []
        self.now_ns = INT64_MIN
        self.phase = "continuous"
        self.low, self.high = INT32_MIN, INT32_MAX
        self.last_price: int | None = None
        self.time = 0
        self.fill_hash = self.fill_count = self.traded = 0
        self.pegs: list[Order] = []  # in time order
        self.pegged: tuple[int, int] | None = None  # the touch they were priced by

    def find(self, order_id: int) -> Order | None:
        return next((order for order in self.orders if order.order_id == order_id), None)

    def queue(self, side: int, book: int = 0) -> list[Order]:
        """One side of one book, best price first, oldest first; of stops the next to trigger first."""
        found = [order for order in self.orders if order.side == side and order.book == book]
        if book == 2:
            return sorted(found, key=lambda order: (side * int(order.stop or 0), order.time))
        return sorted(found, key=lambda order: (-side * order.price, order.time))

    def makers(self, side: int, price: int) -> list[Order]:
        """Whom an order of `side` at `price` would meet, first to trade first."""
        resting = [order for order in self.orders if order.side == -side and order.book < 2]
        meets = [order for order in resting if side * (price - order.price) >= 0]
        return sorted(meets, key=lambda order: (side * order.price, order.hidden, order.time))

    def willing(self, side: int, price: int, lots: int) -> list[Order]:
        """The makers that do not demand more than so many lots."""
        return [maker for maker in self.makers(side, price) if maker.demands <= lots]

    def fixed_order(self) -> list[Order]:
        return [order for book in range(3) for side in (+1, -1) for order in self.queue(side, book)]

    def depth(self, side: int) -> list[tuple[int, int]]:
        totals: dict[int, int] = {}
        for order in self.queue(side):
            totals[order.price] = totals.get(order.price, 0) + order.shown
        return list(totals.items())

    def touch(self, side: int) -> int:
        return next((order.price for order in self.queue(side)), NO_PRICE)

    def crossed(self) -> bool:
        live = [order for order in self.orders if order.book < 2 and not order.demands]
        return any(b.side > 0 > s.side and b.price >= s.price for b in live for s in live)

    # What speaks against an order.

    def refusal(self, command: Command) -> int:
        kind, tif, flags = command.order_type, command.tif, command.flags
        post_only = flags & POST_ONLY != 0
        if command.order_id == 0 or command.side not in (+1, -1):
            return Reason.BAD_ORDER
        if not OrderType.LIMIT <= kind <= OrderType.PEG_PRIMARY:
            return Reason.BAD_ORDER
        if not TimeInForce.GTC <= tif <= TimeInForce.DAY:
            return Reason.BAD_ORDER
        if flags & ~(POST_ONLY | HIDDEN):
            return Reason.BAD_ORDER
        if post_only and (tif in IMMEDIATE or kind in UNPRICED or kind in STOPS or command.minimum):
            return Reason.BAD_ORDER
        if flags & HIDDEN and command.display:
            return Reason.BAD_ORDER
        if kind in PEGS and (tif in IMMEDIATE or post_only or command.display):
            return Reason.BAD_ORDER
        if not valid_size(command.size, command.display) or command.minimum > command.size:
            return Reason.BAD_SIZE
        if kind in PEGS and command.side * command.offset > 0:
            return Reason.BAD_PRICE
        if kind not in PEGS and kind not in UNPRICED:
            fault = self.price_fault(command.price, rests=tif not in IMMEDIATE)
            if fault:
                return fault
        if kind in STOPS and command.stop % self.tick_size:
            return Reason.BAD_PRICE
        if self.phase == "halted":
            return Reason.PHASE
        late = tif in IMMEDIATE or kind == OrderType.MARKET or kind in PEGS or command.minimum
        if self.phase == "auction" and late:
            return Reason.PHASE
        if tif == TimeInForce.GTD and command.expire_ns <= self.now_ns:
            return Reason.TIME
        if kind in PEGS and self.peg_price(kind, command.side, command.price, command.offset) is None:
            return Reason.NO_LIQUIDITY
        crosses = post_only and bool(self.willing(command.side, command.price, command.size))
        if crosses and self.phase == "continuous":
            return Reason.WOULD_CROSS
        return Reason.NONE

    def price_fault(self, price: int, *, rests: bool) -> int:
        if rests and price % self.tick_size:
            return Reason.BAD_PRICE
        return Reason.NONE if self.low <= price <= self.high else Reason.PRICE_BAND

    def peg_price(self, kind: int, side: int, cap: int, offset: int) -> int | None:
        bid, ask = self.touch(+1), self.touch(-1)
        if kind == OrderType.PEG_PRIMARY:
            price = bid if side > 0 else ask
            missing = price == NO_PRICE
        else:
            missing = NO_PRICE in (bid, ask)
            price = (bid + ask) // 2 if side > 0 else -(-(bid + ask) // 2)
        price = min(price + offset, cap) if side > 0 else max(price + offset, cap)
        return None if missing or not self.low <= price <= self.high else price

    # The state as a number.

    def words(self, book: int) -> list[int]:
        words = []
        for side in (+1, -1):
            queue = self.queue(side if book < 2 else -side, book)
            prices = list(dict.fromkeys(order.price if book < 2 else order.stop for order in queue))
            words.append(len(prices))
            for price in prices:
                level = [order for order in queue if (order.price if book < 2 else order.stop) == price]
                words += [int(price or 0), sum(order.shown for order in level), len(level)]
                words += [word for order in level for word in (order.order_id, order.shown)]
        return words

    def state_hash(self) -> int:
        state = 0
        for book in range(3):
            state = mix(state, fold(0, self.words(book)))
            for side in (+1, -1) if book < 2 else (-1, +1):
                for order in self.queue(side, book):
                    is_peg = order.order_type in PEGS
                    ends = order.expire_ns < INT64_MAX or order.tif == TimeInForce.DAY
                    if order.book == 2 or is_peg or order.owner or order.display or ends or order.demands:
                        state = fold(state, [
                            order.order_id, order.reserve, order.expire_ns,
                            order.owner | order.display << 32,
                            *([order.offset, order.cap] if is_peg else [order.price] if book == 2 else []),
                            order.order_type | order.tif << 8 | order.flags << 16
                            | (order.minimum << 32 if book else 0),
                        ])  # fmt: skip
        live = [peg.order_id for peg in self.pegs if peg in self.orders]
        state = fold(state, [*live, *(self.pegged or ())] if live else [])
        band = (self.low % 2**32) | (self.high % 2**32 << 32)
        last = 1 << 63 if self.last_price is None else self.last_price
        modes = PHASES.index(self.phase) | MODES.index(self.self_trade) << 8
        return fold(state, [self.now_ns, band, last, modes])


def mix(state: int, word: int) -> int:
    return splitmix((state + 0x9E3779B97F4A7C15) % 2**64 ^ word % 2**64)


def fold(state: int, words: list[int]) -> int:
    for word in words:
        state = mix(state, word)
    return state

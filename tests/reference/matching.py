"""The slow, obvious matching engine that the compiled one is compared with: lists and sorting only.

It keeps every order in one list by time and finds whatever it needs by looking at all of them.
docs/MATCHING.md has the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data.schema import Liquidity, OrderAction, OrderFlag, OrderType, Reason, ReportKind, TimeInForce

from .order_book import splitmix

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


class ReferenceEngine:
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

    # What a caller does.

    def submit(self, command: Command) -> list[Report]:
        self.reports = []
        self.set_clock(command.ts_ns)
        if command.action == OrderAction.NEW:
            self.new(command)
        elif command.action == OrderAction.REPLACE:
            self.replace(command)
        elif command.action == OrderAction.CANCEL:
            order = self.find(command.order_id)
            if order is None:
                self.reject(command, Reason.UNKNOWN_ORDER)
            else:
                self.end(order, ReportKind.CANCELLED, Reason.USER)
        elif command.action == OrderAction.MASS_CANCEL:
            for order in self.fixed_order():
                if command.owner in (0, order.owner) and command.side * order.side >= 0:
                    self.end(order, ReportKind.CANCELLED, Reason.USER)
        else:
            self.reject(command, Reason.BAD_ORDER)
        self.settle()
        return self.reports

    def advance(self, ts_ns: int) -> list[Report]:
        self.reports = []
        self.set_clock(ts_ns)
        self.settle()
        return self.reports

    def end_day(self) -> list[Report]:
        self.reports = []
        for order in self.fixed_order():
            if order.tif == TimeInForce.DAY:
                self.end(order, ReportKind.EXPIRED, Reason.TIME)
        self.settle()
        return self.reports

    def halt(self) -> None:
        self.phase = "halted"

    def resume(self) -> list[Report]:
        self.reports = []
        self.phase = "continuous"
        self.settle()
        return self.reports

    def open_auction(self) -> None:
        self.phase = "auction"

    def indicative(self, reference: int) -> tuple[int, int, int] | None:
        """Try every price: most lots, least left over, market pressure, nearest the reference."""
        live = [order for order in self.orders if order.book < 2 and not order.demands]
        merits = []
        for price in {reference, *(order.price for order in live)}:
            demand = sum(order.leaves for order in live if order.side > 0 and order.price >= price)
            supply = sum(order.leaves for order in live if order.side < 0 and order.price <= price)
            lots = min(demand, supply)
            merits.append((lots, -abs(demand - supply), price, demand - supply))
        lots, over, _, _ = max(merits)
        if not lots:
            return None
        left = {price: left for found, surplus, price, left in merits if (found, surplus) == (lots, over)}
        if all(lots_left > 0 for lots_left in left.values()):
            price = max(left)
        elif all(lots_left < 0 for lots_left in left.values()):
            price = min(left)
        else:
            low = max((price for price in left if left[price] > 0), default=INT32_MIN)
            high = min((price for price in left if left[price] < 0), default=INT32_MAX)
            between = [price for price in left if low <= price <= high]
            price = min(between, key=lambda price: abs(price - reference))
        return price, lots, left[price]

    def uncross(self, reference: int, *, then_halt: bool = False) -> list[Report]:
        self.reports = []
        found = self.indicative(reference)
        while found:
            buys = [order for order in self.makers(-1, found[0]) if not order.demands]
            sells = [order for order in self.makers(+1, found[0]) if not order.demands]
            if not buys or not sells:
                break
            lots = min(buys[0].shown, sells[0].shown)
            for order in (buys[0], sells[0]):
                leaves = order.leaves - lots
                self.report(order.order_id, ReportKind.FILL, Reason.NONE, order.side, lots, leaves, found[0])
            self.record_trade(buys[0], sells[0].order_id, lots, found[0])
            self.lower(buys[0], lots)
            self.lower(sells[0], lots)
        self.phase = "halted" if then_halt else "continuous"
        self.settle()
        return self.reports

    def crossed(self) -> bool:
        live = [order for order in self.orders if order.book < 2 and not order.demands]
        return any(b.side > 0 > s.side and b.price >= s.price for b in live for s in live)

    def set_price_band(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    # Looking.

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

    # Reports.

    def report(
        self, order_id: int, kind: int, reason: int, side: int, size: int, leaves: int, price: int,
        liquidity: int = 0,
    ) -> None:  # fmt: skip
        self.reports.append((order_id, kind, reason, side, size, leaves, price, liquidity))

    def reject(self, command: Command, reason: int, side: int | None = None) -> None:
        side = side or (+1 if command.side > 0 else -1)
        self.report(command.order_id, ReportKind.REJECTED, reason, side, command.size, 0, command.price)

    def end(self, order: Order, kind: int, reason: int) -> None:
        self.report(order.order_id, kind, reason, order.side, order.leaves, 0, order.price)
        self.orders.remove(order)

    # New orders and replaces.

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

    def new(self, command: Command) -> None:
        live = self.find(command.order_id)
        if live:
            self.report(
                live.order_id, ReportKind.ACCEPTED, Reason.DUPLICATE_ID, live.side, 0, live.leaves, live.price
            )
            return
        reason = self.refusal(command)
        if reason:
            self.reject(command, reason)
            return
        order = Order(
            command.order_id, command.side, command.price, command.size, 0,
            owner=command.owner, display=command.display, minimum=command.minimum,
            expire_ns=command.expire_ns if command.tif == TimeInForce.GTD else INT64_MAX,
            order_type=command.order_type, tif=command.tif, flags=int(command.flags),
            offset=command.offset, cap=command.price,
        )  # fmt: skip
        self.report(
            order.order_id, ReportKind.ACCEPTED, Reason.NONE, order.side, 0, command.size, command.price
        )
        if order.order_type in STOPS:
            order.stop = command.stop
            self.rest(order)
        else:
            if order.order_type in PEGS:
                self.pegs.append(order)
                self.pegged = None
                order.price = self.peg_price(order.order_type, order.side, order.cap, order.offset) or 0
            self.match(order)

    def replace(self, command: Command) -> None:
        order = self.find(command.order_id)
        if order is None:
            self.reject(command, Reason.UNKNOWN_ORDER)
            return
        reason: int = Reason.BAD_ORDER if order.order_type in PEGS else Reason.NONE
        if not reason and not valid_size(command.size, order.display):
            reason = Reason.BAD_SIZE
        if not reason and order.order_type != OrderType.STOP:
            reason = self.price_fault(command.price, rests=True)
        if not reason and order.stop is not None and command.stop % self.tick_size:
            reason = Reason.BAD_PRICE
        if not reason and self.phase == "halted":
            reason = Reason.PHASE
        post_only = command.flags & POST_ONLY and self.phase == "continuous" and order.stop is None
        if not reason and post_only and self.willing(order.side, command.price, command.size):
            reason = Reason.WOULD_CROSS
        if reason:
            self.reject(command, reason, order.side)
            return
        self.report(
            order.order_id, ReportKind.ACCEPTED, Reason.NONE, order.side, 0, command.size, command.price
        )
        if order.stop is None and command.price == order.price and command.size <= order.leaves:
            gone = order.leaves - command.size
            from_reserve = min(gone, order.reserve)
            order.reserve -= from_reserve
            order.shown -= gone - from_reserve
            return
        self.orders.remove(order)
        order.price, order.shown, order.reserve = command.price, command.size, 0
        if order.stop is not None:
            order.stop = command.stop
            self.rest(order)
        else:
            if not order.hidden:
                order.minimum = 0
            self.match(order)

    # Trading.

    def tradable(self, order: Order, limit: int) -> int:
        """Lots it could trade at once; nothing counts from where self-trade prevention would stop it."""
        counted: list[Order] = []
        for maker in self.makers(order.side, limit):
            lots = sum(other.leaves for other in counted)
            if maker.demands > max(order.shown - lots, 0):
                continue
            if not order.owner or maker.owner != order.owner:
                counted.append(maker)
            elif self.self_trade != "cancel_oldest":
                level = [m for m in counted if (m.price, m.hidden) == (maker.price, maker.hidden)]
                return lots - sum(m.reserve for m in level)
        return sum(maker.leaves for maker in counted)

    def match(self, order: Order) -> None:
        limit = order.price
        if order.order_type in UNPRICED:
            limit = self.high if order.side > 0 else self.low
        makers = self.willing(order.side, limit, order.shown) if self.phase == "continuous" else []
        minimum = order.shown if order.tif == TimeInForce.FOK else min(order.minimum, order.shown)
        rests = order.order_type not in UNPRICED and order.tif not in IMMEDIATE
        if minimum and (not makers or self.tradable(order, limit) < minimum):
            if not order.hidden or not rests:
                self.close(order, limit, Reason.NO_LIQUIDITY)
                return
            makers = []
        while order.shown and makers:
            maker = makers[0]
            if order.owner and maker.owner == order.owner:
                self.prevent(order, maker, limit)
            else:
                self.trade(order, maker)
            makers = self.willing(order.side, limit, order.shown)
        if order.shown == 0:
            return
        against = [other for other in self.orders if other.side == -order.side and other.book < 2]
        beyond = len(against) > len(self.makers(order.side, limit))
        if rests:
            self.rest(order)
        elif order.order_type in UNPRICED and beyond:
            self.close(order, limit, Reason.PRICE_BAND)
        else:
            self.close(order, limit, Reason.NO_LIQUIDITY)

    def close(self, order: Order, price: int, reason: int) -> None:
        self.report(order.order_id, ReportKind.CANCELLED, reason, order.side, order.shown, 0, price)
        order.shown = 0

    def trade(self, taker: Order, maker: Order) -> None:
        lots = min(taker.shown, maker.shown)
        taker.shown -= lots
        for order, liquidity in ((maker, Liquidity.MAKER), (taker, Liquidity.TAKER)):
            leaves = order.leaves - lots if order is maker else order.leaves
            self.report(
                order.order_id, ReportKind.FILL, Reason.NONE, order.side, lots, leaves, maker.price, liquidity
            )
        self.record_trade(maker, taker.order_id, lots, maker.price)
        self.lower(maker, lots)

    def record_trade(self, maker: Order, taker_id: int, lots: int, price: int) -> None:
        word = maker.order_id * 0xD6E8FEB86659FD93 % 2**64 ^ taker_id * 0xA0761D6478BD642F % 2**64
        word = (word + (lots * 0xE7037ED1A0B428DB % 2**64 ^ price % 2**64)) % 2**64
        self.fill_hash = splitmix((self.fill_hash + 0x9E3779B97F4A7C15) % 2**64 ^ word)
        self.fill_count += 1
        self.traded += lots
        self.last_price = price

    def lower(self, maker: Order, lots: int) -> None:
        """Take lots off a resting order; an iceberg shows its next slice at the end of the queue."""
        maker.shown -= lots
        if maker.shown == 0 and maker.reserve:
            maker.shown = min(maker.display, maker.reserve)
            maker.reserve -= maker.shown
            self.time += 1
            maker.time = self.time
        elif maker.shown == 0:
            self.orders.remove(maker)

    def prevent(self, taker: Order, maker: Order, limit: int) -> None:
        def cancelled(order: Order, lots: int, leaves: int, price: int) -> None:
            self.report(
                order.order_id, ReportKind.CANCELLED, Reason.SELF_TRADE, order.side, lots, leaves, price
            )

        if self.self_trade in ("cancel_oldest", "cancel_both"):
            cancelled(maker, maker.leaves, 0, maker.price)
            self.orders.remove(maker)
        if self.self_trade in ("cancel_newest", "cancel_both"):
            cancelled(taker, taker.shown, 0, limit)
            taker.shown = 0
        if self.self_trade == "decrement":
            lots = min(maker.shown, taker.shown)
            cancelled(maker, lots, maker.leaves - lots, maker.price)
            taker.shown -= lots
            cancelled(taker, lots, taker.shown, limit)
            self.lower(maker, lots)

    def rest(self, order: Order) -> None:
        queue = self.queue(order.side, order.book)
        price = order.price if order.stop is None else order.stop
        at_price = [other for other in queue if (other.price if other.stop is None else other.stop) == price]
        whole = order.shown
        if order.display and order.book == 0:
            order.shown = min(order.shown, order.display)
            order.reserve = whole - order.shown
        if sum(other.shown for other in at_price) > LEVEL_LOTS_MAX - order.shown:
            order.shown = whole
            self.close(order, order.price, Reason.CAPACITY)
            return
        self.time += 1
        order.time = self.time
        self.orders.append(order)

    # Time and triggers.

    def set_clock(self, ts_ns: int) -> None:
        self.now_ns = max(self.now_ns, ts_ns)
        due = [order for order in self.orders if order.expire_ns <= min(self.now_ns, INT64_MAX - 1)]
        for order in sorted(due, key=lambda order: (order.expire_ns, order.order_id)):
            self.end(order, ReportKind.EXPIRED, Reason.TIME)

    def settle(self) -> None:
        while self.phase == "continuous":
            self.trigger_stops()
            self.pegs = [peg for peg in self.pegs if peg in self.orders]
            if not self.pegs:
                return
            touch = (self.touch(+1), self.touch(-1))
            if touch == self.pegged:
                return
            self.pegged = touch
            for peg in self.pegs:
                if peg not in self.orders:
                    continue
                price = self.peg_price(peg.order_type, peg.side, peg.cap, peg.offset)
                if price is None:
                    self.end(peg, ReportKind.CANCELLED, Reason.NO_LIQUIDITY)
                elif price != peg.price:
                    self.orders.remove(peg)
                    peg.price = price
                    self.match(peg)

    def touch(self, side: int) -> int:
        return next((order.price for order in self.queue(side)), NO_PRICE)

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

    def trigger_stops(self) -> None:
        while self.phase == "continuous" and self.last_price is not None:
            buys = [order for order in self.queue(+1, 2) if int(order.stop or 0) <= self.last_price]
            sells = [order for order in self.queue(-1, 2) if int(order.stop or 0) >= self.last_price]
            if not buys and not sells:
                return
            order = (buys or sells)[0]
            self.orders.remove(order)
            order.stop = None
            is_market = order.order_type == OrderType.STOP
            order.order_type = OrderType.MARKET if is_market else OrderType.LIMIT
            self.report(
                order.order_id, ReportKind.TRIGGERED, Reason.NONE, order.side, 0, order.shown, order.price
            )
            if not is_market and self.price_fault(order.price, rests=False):
                self.close(order, order.price, Reason.PRICE_BAND)
            else:
                self.match(order)

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


def valid_size(size: int, display: int) -> bool:
    return 0 < size <= SIZE_LOTS_MAX and (display == 0 or size <= display * SLICES_MAX)


def mix(state: int, word: int) -> int:
    return splitmix((state + 0x9E3779B97F4A7C15) % 2**64 ^ word % 2**64)


def fold(state: int, words: list[int]) -> int:
    for word in words:
        state = mix(state, word)
    return state

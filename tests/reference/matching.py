"""The slow, obvious matching engine that the compiled one is compared with: lists and sorting only.

It finds whatever it needs by looking at all orders. docs/MATCHING.md has the rules.
"""

from __future__ import annotations

from data.schema import Liquidity, OrderAction, OrderType, Reason, ReportKind, TimeInForce

from .matching_book import ReferenceBook, mix
from .matching_orders import (
    IMMEDIATE,
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    LEVEL_LOTS_MAX,
    PEGS,
    POST_ONLY,
    STOPS,
    UNPRICED,
    Command,
    Order,
    Report,
    valid_size,
)


class ReferenceEngine(ReferenceBook):
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

    def set_price_band(self, low: int, high: int) -> None:
        self.low, self.high = low, high

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
        self.fill_hash = mix(self.fill_hash, word)
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

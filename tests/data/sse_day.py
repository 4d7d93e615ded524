"""A made-up Shanghai day: an exchange that matches orders, and the log it would write.

The exchange here matches by price and time on plain dictionaries. Its log follows the rules of the real
one: opening auction with all orders first; then trades of an arriving order before its own add, which
carries the remainder; two feeds interleaved by arrival; snapshots that come late.
"""

from __future__ import annotations

import random

HEAD = "//SecurityIDSource=101 MsgType={} MsgLen={} SecurityID={}           "


class SseDay:
    """Random orders around 100 CNY."""

    def __init__(self, *, seed: int, orders: int, symbol: str = "600000") -> None:
        self.draw, self.symbol = random.Random(seed), symbol
        self.clock = 9 * 3_600 * 100 + 15 * 60 * 100  # hundredths of a second
        self.biz = self.order_no = 0
        self.live: dict[int, list[int]] = {}  # id -> [side, price, left]
        self.trades = self.volume = 0
        self.feeds: dict[str, list[tuple[int, str]]] = {"order": [], "trade": [], "snapshot": []}
        for _ in range(orders // 10):
            self._tick(300)
            self._add(*self._drawn())
        self._auction()
        self.clock = 9 * 3_600 * 100 + 30 * 60 * 100
        for _ in range(orders):
            self._tick(40)
            if self.draw.random() < 0.4 and self.live:
                self._delete(self.draw.choice(list(self.live)))
            else:
                self._arrive(*self._drawn())
            if self.draw.random() < 0.1:
                self._snapshot()

    def _tick(self, most: int) -> None:
        self.clock += self.draw.randint(0, most)

    def _drawn(self) -> tuple[int, int, int]:
        side = self.draw.choice((1, -1))
        return side, 100_000 - side * 10 * self.draw.randint(-3, 20), 100 * self.draw.randint(1, 9)

    def _stamp(self) -> str:
        seconds, rest = divmod(self.clock, 100)
        return f"{seconds // 3_600}{seconds // 60 % 60:02}{seconds % 60:02}{rest:02}"

    def _write(self, feed: str, kind: int, text: str, late: int = 0) -> None:
        head = HEAD.format(kind, 64, self.symbol)
        self.feeds[feed].append((self.biz + late, head + text))

    def _order_line(self, order_id: int, side: int, price: int, size: int, kind: int) -> None:
        self.biz += self.draw.randint(1, 5)
        self._write("order", 192, (
            f"ChannelNo=6 ApplSeqNum={self.biz} TradingPhase=0 OrderNo={order_id}     Price={price} "
            f"OrderQty={size * 1_000}   OrdType={kind} Side={66 if side > 0 else 83} "
            f"TransactTime={self._stamp()} resv=    BizIndex={self.biz}   "))  # fmt: skip

    def _trade(self, bid_id: int, ask_id: int, price: int, size: int, kind: int) -> None:
        self.biz += self.draw.randint(1, 5)
        self.trades += 1
        self.volume += size
        self._write("trade", 191, (
            f"ChannelNo=6 ApplSeqNum={self.biz} TradingPhase=0 BidApplSeqNum={bid_id} "
            f"OfferApplSeqNum={ask_id}   LastPx={price} LastQty={size * 1_000}  ExecType={kind} "
            f"TransactTime={self._stamp()} resv=    BizIndex={self.biz}   "), late=60)  # fmt: skip

    def _add(self, side: int, price: int, size: int) -> None:
        self.order_no += 1
        self.live[self.order_no] = [side, price, size]
        self._order_line(self.order_no, side, price, size, 65)

    def _delete(self, order_id: int) -> None:
        side, price, left = self.live.pop(order_id)
        self._order_line(order_id, side, price, left, 68)

    def _best(self, side: int) -> tuple[int, list[int]] | None:
        found = [(-side * order[1], order_id) for order_id, order in self.live.items() if order[0] == side]
        return (min(found)[1], self.live[min(found)[1]]) if found else None

    def _lower(self, order_id: int, size: int) -> None:
        self.live[order_id][2] -= size
        if self.live[order_id][2] == 0:
            del self.live[order_id]

    def _auction(self) -> None:
        self.clock = 9 * 3_600 * 100 + 25 * 60 * 100
        while True:
            bid, ask = self._best(1), self._best(-1)
            if bid is None or ask is None or bid[1][1] < ask[1][1]:
                return
            size = min(bid[1][2], ask[1][2])
            self._trade(bid[0], ask[0], 100_000, size, 78)
            self._lower(bid[0], size)
            self._lower(ask[0], size)

    def _arrive(self, side: int, price: int, size: int) -> None:
        self.order_no += 1
        own = self.order_no
        while size:
            best = self._best(-side)
            if best is None or side * best[1][1] > side * price:
                break
            traded = min(size, best[1][2])
            ids = (own, best[0]) if side > 0 else (best[0], own)
            self._trade(*ids, best[1][1], traded, 66 if side > 0 else 83)
            self._lower(best[0], traded)
            size -= traded
        if size:
            self.live[own] = [side, price, size]
            self._order_line(own, side, price, size, 65)

    def _levels(self, side: int) -> list[tuple[int, int]]:
        totals: dict[int, int] = {}
        for its_side, price, left in self.live.values():
            if its_side == side:
                totals[price] = totals.get(price, 0) + left
        return sorted(totals.items(), key=lambda level: -side * level[0])[:10]

    def _snapshot(self) -> None:
        seconds = self.clock // 100
        stamp = f"{seconds // 3_600}{seconds // 60 % 60:02}{seconds % 60:02}"
        cells = []
        for side, name in ((1, "Bid"), (-1, "Ask")):
            levels = self._levels(side)
            for place in range(10):
                price, size = levels[place] if place < len(levels) else (0, 0)
                cells.append(f"{name}Level[{place}].Price={price} {name}Level[{place}].Qty={size * 1_000}   ")
        self._write("snapshot", 111, (
            f"ChannelNo=0 ApplSeqNum=0             TradingPhase=2 NumTrades={self.trades} "
            f"TotalVolumeTrade={self.volume * 1_000} DataTimeStamp={stamp} {''.join(cells)}"
            "TradingPhaseCodePack=69 resv=     "), late=200)  # fmt: skip

    def lines(self) -> list[str]:
        """The log in order of arrival: the trade feed behind the orders', snapshots behind both."""
        merged = [entry for feed in self.feeds.values() for entry in feed]
        return [text for _, text in sorted(merged, key=lambda entry: entry[0])]

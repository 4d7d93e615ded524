"""The slow, obvious order book that the compiled one is compared with: dicts and lists only."""

from __future__ import annotations

from dataclasses import dataclass, field

from data.schema import EventFlag, EventKind

SIZE_LOTS_MAX, LEVEL_LOTS_MAX = 1 << 48, 1 << 62
LOWERING = (EventKind.CANCEL, EventKind.REDUCE, EventKind.EXECUTE)


@dataclass
class Level:
    total: int = 0
    orders: dict[int, int] = field(default_factory=dict)  # id: lots left; insertion order is time order


class ReferenceBook:
    def __init__(self) -> None:
        self.levels: dict[int, dict[int, Level]] = {+1: {}, -1: {}}
        self.places: dict[int, tuple[int, int, int]] = {}  # id: side, price, entry
        self.touch: dict[int, tuple[int, int]] = {+1: (0, 0), -1: (0, 0)}  # price, size
        self.applied = self.crossed = self.unknown = self.duplicates = self.refused = self.entries = 0

    def apply(
        self, kind: int, *, side: int = 0, price: int = 0, size: int = 0, order_id: int = 0, flags: int = 0
    ) -> None:
        self.applied += 1
        if kind in (EventKind.ADD, *LOWERING) and flags & EventFlag.HIDDEN:
            pass
        elif kind == EventKind.ADD:
            self.add(side, price, size, order_id)
        elif kind in LOWERING:
            self.lower(kind, side, price, size, order_id)
        elif kind == EventKind.LEVEL:
            self.set_level(side, price, size)
        elif kind == EventKind.CLEAR:
            self.levels = {+1: {}, -1: {}}
            self.places = {}
            self.touch = {+1: (0, 0), -1: (0, 0)}
        elif kind not in (EventKind.TRADE, EventKind.STATUS):
            self.refused += 1
        self.count_crossed(flags)

    def quote(self, bid: tuple[int, int], ask: tuple[int, int], flags: int = 0) -> None:
        self.applied += 1
        self.touch[+1] = bid if bid[1] > 0 else (0, 0)
        self.touch[-1] = ask if ask[1] > 0 else (0, 0)
        self.count_crossed(flags)

    def count_crossed(self, flags: int) -> None:
        (bid, bid_size), (ask, ask_size) = self.touch[+1], self.touch[-1]
        if flags & EventFlag.LAST_IN_PACKET and bid_size and ask_size and bid >= ask:
            self.crossed += 1

    def add(self, side: int, price: int, size: int, order_id: int) -> None:
        if side not in (+1, -1) or not 0 < size <= SIZE_LOTS_MAX:
            self.refused += 1
            return
        if order_id in self.places:
            self.duplicates += 1
            return
        level = self.levels[side].setdefault(price, Level())
        if level.total > LEVEL_LOTS_MAX - size:
            self.refused += 1
            return
        level.total += size
        if order_id:
            level.orders[order_id] = size
            self.places[order_id] = (side, price, self.entries)
            self.entries += 1
        self.refresh_touch(side)

    def lower(self, kind: int, side: int, price: int, size: int, order_id: int) -> None:
        known = order_id in self.places
        if not (known and kind == EventKind.CANCEL) and not 0 < size <= SIZE_LOTS_MAX:
            self.refused += 1
            return
        if known:
            side, price, _ = self.places[order_id]
            level = self.levels[side][price]
            left = level.orders[order_id]
            size = left if kind == EventKind.CANCEL else min(size, left)
            level.orders[order_id] -= size
            if level.orders[order_id] == 0:
                del level.orders[order_id], self.places[order_id]
        elif side not in (+1, -1):
            self.refused += 1
            return
        else:
            self.unknown += order_id != 0
        if price in self.levels[side]:
            self.levels[side][price].total -= size
            if self.levels[side][price].total <= 0:
                self.remove_level(side, price)
            self.refresh_touch(side)

    def set_level(self, side: int, price: int, size: int) -> None:
        if side not in (+1, -1) or not 0 <= size <= SIZE_LOTS_MAX:
            self.refused += 1
            return
        if size:
            self.levels[side].setdefault(price, Level()).total = size
        elif price in self.levels[side]:
            self.remove_level(side, price)
        self.refresh_touch(side)

    def remove_level(self, side: int, price: int) -> None:
        for order_id in self.levels[side].pop(price).orders:
            del self.places[order_id]

    def refresh_touch(self, side: int) -> None:
        best = self.depth(side, 1, from_levels=True)
        self.touch[side] = best[0] if best else (0, 0)

    def depth(self, side: int, count: int, *, from_levels: bool = False) -> list[tuple[int, int]]:
        if not self.levels[side] and self.touch[side][1] and not from_levels:
            return [self.touch[side]][:count]
        prices = sorted(self.levels[side], reverse=side > 0)[:count]
        return [(price, self.levels[side][price].total) for price in prices]

    def size_at(self, side: int, price: int) -> int:
        if not self.levels[side]:
            return self.touch[side][1] if price == self.touch[side][0] else 0
        return self.levels[side][price].total if price in self.levels[side] else 0

    def queue(self, side: int, price: int) -> list[tuple[int, int]]:
        return list(self.levels[side][price].orders.items()) if price in self.levels[side] else []

    def order(self, order_id: int) -> dict[str, int] | None:
        if order_id not in self.places:
            return None
        side, price, entry = self.places[order_id]
        left = self.levels[side][price].orders[order_id]
        return {"entry": entry, "size_lots": left, "price_ticks": price, "side": side}

    def state_hash(self) -> int:
        words: list[int] = []
        for side in (+1, -1):
            words.append(len(self.levels[side]))
            for price, total in self.depth(side, len(self.levels[side]), from_levels=True):
                words += [price, total, len(self.levels[side][price].orders)]
                for order in self.queue(side, price):
                    words += order
        words += [*self.touch[+1], *self.touch[-1]]
        state = 0
        for word in words:
            state = splitmix((state + 0x9E3779B97F4A7C15) % 2**64 ^ word % 2**64)
        return state


def splitmix(word: int) -> int:
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31

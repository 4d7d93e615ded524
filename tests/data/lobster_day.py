"""A made-up LOBSTER day: a full book is simulated, a window of it is written as LOBSTER writes it."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

EMPTY = 9_999_999_999
TICK = 100
STUB_ID, STUB_PRICE = 10**9, 1_999_999_900


class Day:
    """Random orders on a full book; only what touches the window becomes a row."""

    def __init__(self, *, seed: int, levels: int, rows: int, stub: bool = False) -> None:
        self.draw, self.levels = random.Random(seed), levels
        self.orders: dict[int, list[int]] = {}  # id -> [side, price, size]
        self.next_id, self.clock_ns = 1, 34_200 * 10**9
        for _ in range(40):
            self._rest()  # before the recording starts, so never announced
        if stub:
            self.orders[STUB_ID] = [-1, STUB_PRICE, 100]
        self.messages: list[str] = []
        self.books: list[str] = []
        while len(self.messages) < rows:
            self._step()

    def _rest(self) -> tuple[int, int, int, int]:
        side = self.draw.choice((1, -1))
        price = 1_000_000 - side * TICK * self.draw.randint(1, 12)
        size, order_id = self.draw.randint(1, 9) * 10, self.next_id
        self.next_id += 1
        self.orders[order_id] = [side, price, size]
        return order_id, size, price, side

    def _side(self, side: int) -> list[tuple[int, int]]:
        totals: dict[int, int] = {}
        for its_side, price, size in self.orders.values():
            if its_side == side:
                totals[price] = totals.get(price, 0) + size
        return sorted(totals.items(), key=lambda level: -side * level[0])[: self.levels]

    def _window(self) -> str:
        cells = []
        asks, bids = self._side(-1), self._side(1)
        for place in range(self.levels):
            ask = asks[place] if place < len(asks) else (EMPTY, 0)
            bid = bids[place] if place < len(bids) else (-EMPTY, 0)
            cells += [*ask, *bid]
        return ",".join(map(str, cells))

    def _step(self) -> None:
        before = self._window()
        action = self.draw.random()
        kind, order_id, size, price, side = 0, 0, 0, 0, 0
        if action < 0.45 or len(self.orders) < 8:
            kind, (order_id, size, price, side) = 1, self._rest()
        elif action < 0.90:
            order_id = self.draw.choice(list(self.orders))
            side, price, held = self.orders[order_id]
            best = self._side(side)[0][0]
            if action >= 0.75 and price == best:
                kind, size = 4, self.draw.randint(1, held)
            elif action >= 0.65 and held > 1:
                kind, size = 2, self.draw.randint(1, held - 1)
            else:
                kind, size = 3, held
            self.orders[order_id][2] -= size
            if self.orders[order_id][2] == 0:
                del self.orders[order_id]
        elif action < 0.96:
            kind, size, price, side = 5, 10, 1_000_050, self.draw.choice((1, -1))
        elif action < 0.98:
            kind, order_id, size, price, side = 6, -1, 500, 1_000_000, 1
        else:
            kind, price, side = 7, -1, -1
        after = self._window()
        if kind <= 4 and after == before:
            return
        self.clock_ns += self.draw.choice((0, 1, 999_999_999, 12_345))
        stamp = f"{self.clock_ns // 10**9}.{self.clock_ns % 10**9:09d}"
        self.messages.append(f"{stamp},{kind},{order_id},{size},{price},{side}")
        self.books.append(after)

    def names(self, ticker: str = "TEST", day: str = "2012-06-21") -> tuple[str, str]:
        stem = f"{ticker}_{day}_34200000_57600000"
        return f"{stem}_message_{self.levels}.csv", f"{stem}_orderbook_{self.levels}.csv"

    def write(self, folder: Path, **names: str) -> Path:
        """Write the pair as CSV files and return the message file."""
        message, book = (folder / name for name in self.names(**names))
        message.write_text("\n".join(self.messages) + "\n")
        book.write_text("\n".join(self.books) + "\n")
        return message

    def write_zip(self, path: Path, **names: str) -> Path:
        message, book = self.names(**names)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(book, "\n".join(self.books))
            archive.writestr(message, "\n".join(self.messages))
        return path

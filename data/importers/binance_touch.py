"""Binance's own truth: the touch of the book and the bookTicker of the same update id."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from ext.order_book import OrderBook

from ..schema import EventKind
from .feed_source import FeedEvents

if TYPE_CHECKING:
    from .binance import BinanceDecoder


class TouchCheck:
    """Touches of the book and of bookTickers, by update id; either may come first."""

    _PENDING_MAX: Final = 200_000
    _RECENT_MAX: Final = 8_192

    def __init__(self) -> None:
        self._books: dict[int, tuple[int, ...]] = {}
        self._quotes: dict[int, tuple[int, ...]] = {}
        self._waiting: deque[tuple[int, tuple[int, ...], int]] = deque(maxlen=self._PENDING_MAX)
        self._recent: list[tuple[int, tuple[int, ...]]] = []
        self._quotes_seen = 0
        self.matched = self.total = self.implied = self.implied_total = 0
        self.first_mismatch: str | None = None

    @classmethod
    def of(cls, source: FeedEvents) -> TouchCheck:
        """Return what a whole source showed."""
        check = cls()
        check.run(source)
        return check

    def run(self, source: FeedEvents) -> None:
        book = OrderBook()
        for path, row, events, told in source.packets():
            decoder = cast("BinanceDecoder", told)
            if decoder.quote is not None and decoder.quote.last_id is not None:
                event = events[0]
                ask = int(event["order_id"])
                touch = (int(event["price_ticks"]), int(event["size_lots"]), ask & 0xFFFFFFFF, ask >> 32)
                # The two streams overtake each other, and bookTickers even themselves.
                insort(self._recent, (decoder.quote.last_id, touch))
                self._quotes_seen += 1
                self._settle(quotes_behind=self._RECENT_MAX // 4)
                self._meet(decoder.quote.last_id, touch, self._quotes, self._books, path, row)
                continue
            book.apply(events[events["kind"] != EventKind.TRADE])
            if decoder.depth.applied_id is not None and decoder.depth.complete:
                touch = (book.bid_price_ticks, book.bid_size_lots, book.ask_price_ticks, book.ask_size_lots)
                self._waiting.append((decoder.depth.applied_id, touch, self._quotes_seen))
                self._meet(decoder.depth.applied_id, touch, self._books, self._quotes, path, row)
        self._settle(quotes_behind=0)

    def _settle(self, *, quotes_behind: int) -> None:
        """Compare touches, once bookTickers this far behind have arrived, with the last up to their id."""
        while self._waiting and self._quotes_seen - self._waiting[0][2] >= quotes_behind:
            update_id, touch, _ = self._waiting.popleft()
            place = bisect_right(self._recent, update_id, key=lambda quote: quote[0])
            if place:
                self.implied_total += 1
                self.implied += touch == self._recent[place - 1][1]
        if len(self._recent) > 2 * self._RECENT_MAX:
            del self._recent[: self._RECENT_MAX]

    def _meet(
        self,
        update_id: int,
        touch: tuple[int, ...],
        mine: dict[int, tuple[int, ...]],
        other: dict[int, tuple[int, ...]],
        path: Path,
        row: int,
    ) -> None:
        found = other.pop(update_id, None)
        if found is None:
            mine[update_id] = touch
            if len(mine) > self._PENDING_MAX:
                mine.pop(next(iter(mine)))
            return
        self.total += 1
        self.matched += found == touch
        if found != touch and self.first_mismatch is None:
            self.first_mismatch = (
                f"{path}:row {row}: update {update_id}: touch {touch}, the other stream has {found}"
            )

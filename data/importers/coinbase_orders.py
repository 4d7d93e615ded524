"""Coinbase Exchange's channel ``full``: every order of a product, in one sequence.

======================  ========================================================
message                 becomes
======================  ========================================================
``open``                ADD of what remains of an order that did not trade at once
``match``               EXECUTE of the maker's order; TRADE where it was never announced
``change``              REDUCE at the same price, else CANCEL and ADD
``done``                CANCEL, if anything is left
book with order ids     CLEAR and ADD each, flagged SNAPSHOT: the REST book of level 3
``received``            nothing: not in the book yet
======================  ========================================================

After a gap in the sequence the book is cleared and grows from what comes: an order that ended unseen would
stand for ever. Ids are UUIDs; the first 63 of their bits are the order's id here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import DataError
from ..quarantine import LeftOut
from ..schema import EventFlag, EventKind
from .damage import WildNumber
from .event_columns import EventColumns
from .grid import Grid

if TYPE_CHECKING:
    from .coinbase_messages import Message

KINDS: Final = frozenset(("received", "open", "done", "change", "activate"))
"""Messages that only this channel has; it shares `match` with others."""

SIDE: Final = {"buy": 1, "sell": -1}
OVERTAKEN_RULE: Final = "a message must be newer than the book before it"
KNOWN_RULE: Final = "an order must be opened once and with a size"
LEFT_RULE: Final = "a match must not take more than an order has left"


class OrderFeed:
    """The orders of one product.

    Parameters
    ----------
    columns : EventColumns
    left : LeftOut
    grid : Grid
    strict : bool
        Make a gap in the sequence an error.
    """

    def __init__(self, columns: EventColumns, left: LeftOut, *, grid: Grid, strict: bool) -> None:
        self._columns, self._left, self._grid, self._strict = columns, left, grid, strict
        self._open: dict[int, tuple[int, str, int]] = {}
        self._last: int | None = None
        self._wild = WildNumber()
        self._to_clear = False

    def require(self, message: Message, path: Path, row: int) -> None:
        """Refuse a message that cannot be read, before its number counts as one that came."""
        if message.type == "match":
            order = order_id(message.maker_order_id, path, row)
            told = message.price and message.size and message.side in SIDE
        elif message.type in ("open", "change", "done"):
            order = order_id(message.order_id, path, row)
            told = message.type != "open" or (
                message.price and message.remaining_size and message.side in SIDE
            )
        else:
            return
        if not told:
            raise DataError(f"expected a whole message of kind {message.type}", path=path, row=row)
        if message.type == "change" and message.new_size is None and order in self._open:
            raise DataError("expected a change with new_size", path=path, row=row)
        sizes = (message.size, message.remaining_size, message.new_size)
        prices = (message.price, message.new_price)
        pairs = [("0", size) for size in sizes if size is not None]
        pairs += [(price, "0") for price in prices if price is not None]
        self._columns.require(pairs, row=row)

    def is_new(self, message: Message, told_ns: int, path: Path, row: int) -> bool:
        """Follow the sequence; False for what came before."""
        number = message.sequence
        if number is None:
            return True
        if self._last is not None and number <= self._last and not self._wild.refused(told_ns):
            self._left.reject(OVERTAKEN_RULE)
            return False
        if self._last is not None and number != self._last + 1:
            rule = f"expected {self._last + 1}, was {number}"
            if self._strict:
                raise DataError(f"sequence: {rule}", path=path, row=row)
            self._left.miss("the sequence of orders, the book cleared at each", rule)
            self._open.clear()
            self._to_clear = True
        self._last = number
        self._wild.taken(told_ns)
        return True

    def _packet(self, *, ts_ns: int, recv_ns: int, row: int) -> None:
        self._columns.packet()
        if self._to_clear:
            self._to_clear = False
            self._columns.mark(ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR)

    def book(self, message: Message, *, ts_ns: int, recv_ns: int, path: Path, row: int) -> None:
        """Begin anew with the orders of a book of level 3."""
        self._open.clear()
        self._last, self._to_clear = message.sequence, False
        self._wild.taken(ts_ns)
        self._columns.packet()
        self._columns.mark(
            ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.CLEAR, flags=EventFlag.SNAPSHOT
        )
        for side, levels in ((1, message.bids), (-1, message.asks)):
            for level in levels:
                price, size, order = level[:3]
                self._put(
                    EventKind.ADD, order_id(order, path, row), side, price, size,
                    ts_ns=ts_ns, recv_ns=recv_ns, row=row, path=path, flags=EventFlag.SNAPSHOT,
                )  # fmt: skip

    def take(self, message: Message, *, ts_ns: int, recv_ns: int, path: Path, row: int) -> None:
        """Take an open, change or done."""
        if message.type in ("received", "activate"):
            self._left.pass_over(f"{message.type} messages")
            return
        order = order_id(message.order_id, path, row)
        known = self._open.get(order)
        stamps = {"ts_ns": ts_ns, "recv_ns": recv_ns, "row": row}
        self._packet(**stamps)
        if message.type == "open":
            price, size = message.price, message.remaining_size
            assert price is not None
            assert size is not None
            assert message.side is not None
            if known is not None or self._lots(size, path, row) == 0:
                self._left.reject(KNOWN_RULE)
                return
            self._put(EventKind.ADD, order, SIDE[message.side], price, size, path=path, **stamps)
        elif known is None:
            # Most orders trade or are cancelled before they rest, and then were never in the book.
            self._left.pass_over(f"{message.type} messages of orders that did not rest")
        elif message.type == "done":
            self._end(order, **stamps)
        else:
            self._change(order, message, path, **stamps)

    def execute(self, message: Message, *, ts_ns: int, recv_ns: int, path: Path, row: int) -> bool:
        """Take a match from the maker's order; False where that is not in the book."""
        maker = order_id(message.maker_order_id, path, row)
        known = self._open.get(maker)
        if known is None:
            return False
        assert message.size is not None
        side, price, left = known
        lots = self._lots(message.size, path, row)
        if lots > left:
            self._left.reject(LEFT_RULE)
            return True
        self._packet(ts_ns=ts_ns, recv_ns=recv_ns, row=row)
        self._columns.add(
            ((price, message.size),), ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.EXECUTE,
            side=side, order_id=maker,
        )  # fmt: skip
        if lots == left:
            del self._open[maker]
        else:
            self._open[maker] = (side, price, left - lots)
        return True

    def _change(
        self, order: int, message: Message, path: Path, *, ts_ns: int, recv_ns: int, row: int
    ) -> None:
        side, price, left = self._open[order]
        size, to_price = message.new_size, message.new_price or price
        assert size is not None
        lots = self._lots(size, path, row)
        if to_price == price and 0 < lots <= left:
            self._open[order] = (side, price, lots)
            if lots < left:
                gone = self._grid.size.text(left - lots)
                self._columns.add(
                    ((price, gone),), ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=EventKind.REDUCE,
                    side=side, order_id=order,
                )  # fmt: skip
            return
        self._end(order, ts_ns=ts_ns, recv_ns=recv_ns, row=row)
        if lots:
            self._put(
                EventKind.ADD, order, side, to_price, size, ts_ns=ts_ns, recv_ns=recv_ns, row=row, path=path
            )

    def _end(self, order: int, *, ts_ns: int, recv_ns: int, row: int) -> None:
        side, price, left = self._open.pop(order)
        self._columns.add(
            ((price, self._grid.size.text(left)),), ts_ns=ts_ns, recv_ns=recv_ns, row=row,
            kind=EventKind.CANCEL, side=side, order_id=order,
        )  # fmt: skip

    def _put(
        self, kind: EventKind, order: int, side: int, price: str, size: str, *,
        ts_ns: int, recv_ns: int, row: int, path: Path, flags: int = 0,
    ) -> None:  # fmt: skip
        self._open[order] = (side, price, self._lots(size, path, row))
        self._columns.add(
            ((price, size),), ts_ns=ts_ns, recv_ns=recv_ns, row=row, kind=kind, side=side, flags=flags,
            order_id=order,
        )  # fmt: skip

    def _lots(self, size: str, path: Path, row: int) -> int:
        return self._grid.lot_count(size, path=path, row=row)


def order_id(text: str | None, path: Path, row: int) -> int:
    """Return the first 63 bits of a UUID."""
    digits = (text or "").replace("-", "")
    if len(digits) == 32 and digits.isascii() and digits.isalnum():
        try:
            return int(digits[:16], 16) >> 1
        except ValueError:
            pass
    raise DataError(f"expected an order's UUID, was {str(text)[:40]!r}", path=path, row=row)

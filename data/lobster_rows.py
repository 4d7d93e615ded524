"""The rows of a LOBSTER pair: message i and the book after it, read in lockstep and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ext.lobster_text import parse_books, parse_messages

from .errors import DataError
from .read_ahead import read_ahead
from .table_file import library_errors

PRICE_INCREMENT: Final = 0.0001
CLOCK_NS, TYPE, ORDER_ID, SIZE, PRICE, SIDE = range(6)
"""Columns of `LobsterRows.messages`."""

_READ_BYTES: Final = 1 << 18
# A row of 200 levels takes 16 kB.
_LINE_BYTES_MAX: Final = 1 << 16

_RULES: Final = {
    "day": "time must be within the day, in seconds after midnight",
    "backwards": "time must not run backwards",
    "type": "type must be 1 to 7",
    "size": "size must be positive",
    "direction": "direction must be 1 or -1",
    "price": f"price must be between 1 and {2**31 - 1} units of 0.0001",
    "asks": "ask levels must be best first with positive prices and sizes",
    "bids": "bid levels must be best first with positive prices and sizes",
}

Opener = Callable[[], IO[bytes]]


class RowMark(NamedTuple):
    """A place between two rows of a pair.

    Parameters
    ----------
    row : int
        Zero-based, of the row behind.
    message_byte, orderbook_byte : int
        Where in the unpacked files the row in front ends.
    clock_ns : int
        Time of the row in front.
    book : list of int
        The book after it.
    """

    row: int
    message_byte: int
    orderbook_byte: int
    clock_ns: int
    book: list[int]


class LobsterRows(NamedTuple):
    """Consecutive messages and the book after each.

    Parameters
    ----------
    row : int
        Zero-based row of the first.
    messages : array of int64, shape (n, 6)
        Time in ns after midnight at the exchange, LOBSTER's type 1 to 7, order id, size, price, and direction
        of the resting order, +1 bid.
    books : array of int64, shape (n, 4 * levels)
        As in the file: ask price, ask size, bid price, bid size of each level, best first; size 0 and
        the price 9,999,999,999 with its sign where there is no level.
    ends : tuple of int
        Bytes of the message and of the orderbook file up to the end of the last row.
    """

    row: int
    messages: NDArray[np.int64]
    books: NDArray[np.int64]
    ends: tuple[int, int]

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def mark(self) -> RowMark:
        """The place behind the last row."""
        clock_ns = int(self.messages[-1, CLOCK_NS])
        return RowMark(self.row + len(self), *self.ends, clock_ns, self.books[-1].tolist())


@dataclass(frozen=True, kw_only=True, slots=True)
class LobsterPair:
    """One ticker, day and depth."""

    ticker: str
    day: date
    levels: int
    message_path: Path
    orderbook_path: Path
    open_message: Opener
    open_orderbook: Opener

    def rows(self, *, block_rows: int = 16_384, mark: RowMark | None = None) -> Iterator[LobsterRows]:
        """Yield the pair in blocks, all of it or from a mark on; both files must end together.

        Each file is unpacked and read by a thread of its own.
        """
        mark = mark or RowMark(0, 0, 0, 0, [])
        with (
            closing(read_ahead(self._messages(block_rows, mark))) as left,
            closing(read_ahead(self._books(block_rows, mark))) as right,
        ):
            row = mark.row
            while True:
                messages, message_byte = next(left, _ENDED)
                books, orderbook_byte = next(right, _ENDED)
                found = 0 if messages is None else len(messages), 0 if books is None else len(books)
                if found[0] != found[1]:
                    short, long = self.message_path, self.orderbook_path
                    if found[0] > found[1]:
                        short, long = long, short
                    raise DataError(
                        f"expected as many rows as {long.name} has, was {row + min(found)}", path=short
                    )
                if messages is None or books is None:
                    if row == 0:
                        raise DataError("expected at least one message, was 0", path=self.message_path)
                    return
                yield LobsterRows(row, messages, books, (message_byte, orderbook_byte))
                row += len(messages)

    def _messages(self, block_rows: int, mark: RowMark) -> Iterator[_Part]:
        previous_ns, extra = mark.clock_ns, False

        def parse(text: bytes, out: NDArray[np.int64], row: int) -> tuple[int, int, str, int]:
            nonlocal previous_ns, extra
            if row == mark.row:
                # Later LOBSTER versions append a market participant.
                extra = text.partition(b"\n")[0].count(b",") == 6
            found = parse_messages(text, out, previous_ns, extra)
            if found[0]:
                previous_ns = int(out[found[0] - 1, CLOCK_NS])
            return found

        return _parsed(
            self.open_message, self.message_path, parse,
            columns=6, block_rows=block_rows, row=mark.row, byte=mark.message_byte,
        )  # fmt: skip

    def _books(self, block_rows: int, mark: RowMark) -> Iterator[_Part]:
        def parse(text: bytes, out: NDArray[np.int64], row: int) -> tuple[int, int, str, int]:
            return parse_books(text, out)

        return _parsed(
            self.open_orderbook, self.orderbook_path, parse,
            columns=4 * self.levels, block_rows=block_rows, row=mark.row, byte=mark.orderbook_byte,
        )  # fmt: skip


_Part = tuple[NDArray[np.int64] | None, int]
_ENDED: Final[_Part] = (None, 0)
_Parse = Callable[[bytes, NDArray[np.int64], int], tuple[int, int, str, int]]


def _parsed(
    opener: Opener, path: Path, parse: _Parse, *, columns: int, block_rows: int, row: int, byte: int
) -> Iterator[_Part]:
    """Yield a file's rows from a byte on, `block_rows` at a time and fewer at the end, and where they end."""
    out, filled = np.empty((block_rows, columns), np.int64), 0
    for text in _texts(opener, path, byte):
        at = 0
        while True:
            rows, taken, rule, column = parse(text[at:] if at else text, out[filled:], row)
            at, byte, filled, row = at + taken, byte + taken, filled + rows, row + rows
            if rule:
                raise _refusal(text[at:], rule, column, columns=columns, path=path, row=row)
            if filled < block_rows:
                break
            yield out, byte
            out, filled = np.empty((block_rows, columns), np.int64), 0
    if filled:
        yield out[:filled], byte


def _texts(opener: Opener, path: Path, byte: int) -> Iterator[bytes]:
    """Yield a file's bytes from a line's start on, in pieces that end with a line."""
    rest = b""
    with library_errors(path, "a readable LOBSTER file"), opener() as stream:
        # A zip unpacks what lies before; nothing of it is parsed.
        stream.seek(byte)
        while piece := stream.read(_READ_BYTES):
            cut = piece.rfind(b"\n") + 1
            if cut:
                yield rest + piece[:cut]
                rest = piece[cut:]
            else:
                rest += piece
            if len(rest) > _LINE_BYTES_MAX:
                raise DataError(f"lines must be at most {_LINE_BYTES_MAX:,} bytes, was more", path=path)
    if rest:
        yield rest + b"\n"


def _refusal(text: bytes, rule: str, column: int, *, columns: int, path: Path, row: int) -> DataError:
    """Return the error for the line that `text` starts with."""
    cells = text.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r").decode(errors="replace").split(",")
    if rule == "columns" or column >= len(cells):
        return DataError(f"expected {columns} columns, was {len(cells)}", path=path, row=row)
    if rule in ("asks", "bids"):
        first = 0 if rule == "asks" else 2
        was = ", ".join(" x ".join(pair) for pair in zip(cells[first::4], cells[first + 1 :: 4], strict=True))
        return DataError(f"{_RULES[rule]}, was {was[:200]}", path=path, row=row)
    expected = f"column {column + 1} must be a number" if rule == "number" else _RULES[rule]
    return DataError(f"{expected}, was {cells[column][:40]!r}", path=path, row=row)
